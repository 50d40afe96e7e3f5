package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/schema"
)

// objects makes a state from lines of key and spec: `access/a {"users":{}}`.
// A line may end with the paths of unread fields: `user/bob {} unread password`.
func objects(t *testing.T, lines ...string) schema.State {
	t.Helper()
	s := schema.State{Scope: schema.ScopeOf(schema.Kinds()...)}
	for _, l := range lines {
		l, unread, _ := strings.Cut(l, " unread ")
		key, spec, ok := strings.Cut(l, " ")
		if !ok {
			spec = "{}"
		}
		var r schema.Resource
		if err := json.Unmarshal(fmt.Appendf(nil, `{"key":%q,"spec":%s}`, key, spec), &r); err != nil {
			t.Fatalf("%s: %v", l, err)
		}
		r.Unread = strings.Fields(unread)
		s.Resources = append(s.Resources, r)
	}
	if err := s.Sort(); err != nil {
		t.Fatal(err)
	}
	return s
}

// world is a plan's inputs, short to write. What is live and owned was applied
// as it is, unless applied says otherwise.
type world struct {
	desired, live []string
	owned         []string // keys; "*" for all that is live
	applied       []string // objects as applied; the rest of owned as live
	policy        schema.Policy
	directives    []schema.Directive
	protected     []string
	purging       []string
	archiving     []string
	pruned        []schema.Kind // pruned before
	mayNot        string        // why the inventory cannot be trusted with deletes
	secret        Match
	table         schema.Table
	approved      string
	except        []schema.Key
	cut           []schema.Renaming
}

var today = schema.Date{Year: 2026, Month: 5, Day: 1}

func (w world) input(t *testing.T) Input {
	t.Helper()
	in := Input{
		Mode: "prod", Registry: Registry{Type: "memory", URL: "https://registry.example.com"},
		Desired: objects(t, w.desired...), Live: objects(t, w.live...), Directives: w.directives, Policy: w.policy, Table: w.table, Today: today,
	}
	in.Live.Scope.Except, in.Live.Renamed = w.except, w.cut
	if in.Table == nil {
		in.Table = nativeTable()
	}
	specs := map[schema.Key]schema.Spec{}
	for _, o := range w.owned {
		for _, r := range in.Live.Resources {
			if o == "*" || o == r.Key.String() {
				specs[r.Key] = r.Spec
			}
		}
		if k, err := schema.ParseKey(o); err == nil && specs[k] == nil {
			specs[k] = nil
		}
	}
	for _, r := range objects(t, w.applied...).Resources {
		specs[r.Key] = r.Spec
	}
	in.Ownership = Ownership{
		Owned:     slices.Collect(maps.Keys(specs)),
		Applied:   func(k schema.Key) (schema.Spec, bool) { s, ok := specs[k]; return s, ok },
		Pruned:    func(k schema.Kind) bool { return slices.Contains(w.pruned, k) },
		Secret:    func(schema.Key, string, string, *schema.SecretRef) Match { return w.secret },
		Protected: w.protected, Purging: w.purging, Archiving: w.archiving, MayPrune: w.mayNot == "", WhyNot: w.mayNot,
	}
	return in
}

func (w world) plan(t *testing.T) Plan {
	t.Helper()
	in := w.input(t)
	p := Diff(in)
	before := asJSON(t, p)
	g := Guard(p, GuardInput{Policy: in.Policy, Ownership: in.Ownership, Desired: in.Desired, Live: in.Live, Approved: w.approved})
	if asJSON(t, p) != before {
		t.Error("Guard wrote into the plan it was given")
	}
	return g
}

// lines tells a plan in short: changes in order, then what is held and refused.
func (p Plan) lines() []string {
	out := []string{}
	for _, c := range p.Changes {
		out = append(out, string(c.Action)+" "+c.Key.String())
	}
	for _, h := range p.Held {
		out = append(out, "held: "+string(h.Change.Action)+" "+h.Change.Key.String()+": "+h.Why)
	}
	for _, r := range p.Refusals {
		why, _, _ := strings.Cut(r.Why, ";")
		out = append(out, strings.TrimSpace("refused: "+r.Key.String())+": "+why)
	}
	return out
}

func check(t *testing.T, p Plan, want ...string) {
	t.Helper()
	if d := cmp.Diff(append([]string{}, want...), p.lines()); d != "" {
		t.Errorf("plan (-want +got):\n%s", d)
	}
}

func notes(p Plan) string {
	var all []string
	for _, n := range p.Notes {
		all = append(all, n.String())
	}
	return strings.Join(all, "\n")
}

func checkNote(t *testing.T, p Plan, parts ...string) {
	t.Helper()
	for _, s := range parts {
		if !strings.Contains(notes(p), s) {
			t.Errorf("no note says %q; the notes are:\n%s", s, notes(p))
		}
	}
}
