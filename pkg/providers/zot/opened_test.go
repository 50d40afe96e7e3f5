package zot_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/providers/zot"
	"github.com/ocisync/ocisync/schema"
)

// opened is a Zot that is configured by files, and a mode that declares a rule.
type opened struct {
	*testing.T
	p       *zot.Provider
	name    string
	desired schema.State
}

func (w opened) changes() []plan.Change {
	w.Helper()
	want, _, err := w.p.Normalize(w.desired)
	if err != nil {
		w.Fatal(err)
	}
	kinds := []schema.Kind{schema.KindNamespace, schema.KindAccess, schema.KindImmutable}
	live, err := w.p.Read(w.Context(), schema.ScopeOf(kinds...))
	if err != nil {
		w.Fatal(err)
	}
	want.Resources = slices.DeleteFunc(slices.Clone(want.Resources), func(r schema.Resource) bool { return !slices.Contains(kinds, r.Key.Kind) })
	return slices.DeleteFunc(plan.Diff(plan.Input{Desired: want, Live: live, Table: w.p.Capabilities()}).Changes, func(c plan.Change) bool { return c.Recorded() })
}

func (w opened) apply() {
	w.Helper()
	for key, err := range written(w.T, w.p, w.changes()...) {
		if err != nil {
			w.Fatalf("%s: %v", key, err)
		}
	}
	if left := w.changes(); len(left) > 0 {
		w.Fatalf("after an apply there is left %+v", left)
	}
}

// edit changes the pattern of team as somebody does by hand.
func (w opened) edit(change func(group map[string]any)) {
	w.Helper()
	w.rewrite(func(doc map[string]any) {
		change(doc["http"].(map[string]any)["accessControl"].(map[string]any)["repositories"].(map[string]any)["team/**"].(map[string]any))
	})
}

// rewrite changes the configuration as somebody does by hand.
func (w opened) rewrite(change func(doc map[string]any)) {
	w.Helper()
	text, err := os.ReadFile(w.name)
	if err != nil {
		w.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil {
		w.Fatal(err)
	}
	change(doc)
	if text, err = json.MarshalIndent(doc, "", "  "); err == nil {
		err = os.WriteFile(w.name, text, 0o600)
	}
	if err != nil {
		w.Fatal(err)
	}
}

// newOpened has a mode in which ops may pull from team and nobody else may anything.
func newOpened(t *testing.T, repositories string, immutable bool) opened {
	t.Helper()
	p, name := placed(t, `{"storage":{"rootDirectory":"/nonexistent"},"http":{"address":"127.0.0.1","port":"9","auth":{"htpasswd":{"path":"HTPASSWD"}},"accessControl":{"repositories":{`+repositories+`}}}}`, "ops:$2y$05$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n")
	text, err := os.ReadFile(name)
	if err == nil {
		err = os.WriteFile(name, []byte(strings.Replace(string(text), "HTPASSWD", strings.Replace(name, "zot.json", "htpasswd", 1), 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	none, pull := schema.Rights(0), schema.Pull
	w := opened{t, p, name, schema.State{Scope: schema.ScopeOf(schema.KindNamespace, schema.KindAccess, schema.KindImmutable), Resources: []schema.Resource{
		{Key: schema.Key{Kind: schema.KindNamespace, Name: "team"}, Spec: &schema.Namespace{}},
		{Key: schema.Key{Kind: schema.KindAccess, Name: "team"}, Spec: &schema.Access{Anonymous: &none, Authenticated: &none, Users: schema.NewGrants(schema.Grant{Name: "ops", Rights: pull}), Groups: schema.Grants{}}},
	}}}
	if immutable {
		w.desired.Resources = append(w.desired.Resources, schema.Resource{Key: schema.Key{Kind: schema.KindImmutable, Name: "team"}, Spec: &schema.Immutable{Rules: []schema.ImmutableRule{{Tags: "*"}}}})
	}
	return w
}

// TestARuleThatIsChangedByHandIsInEveryPlan: also where Zot then gives what no rule of
// ocisync's can say. What it gives too much, the plan says and an apply takes back.
func TestARuleThatIsChangedByHandIsInEveryPlan(t *testing.T) {
	list := func(words ...string) []any {
		out := []any{}
		for _, w := range words {
			out = append(out, w)
		}
		return out
	}
	rule := func(users []any, actions ...string) map[string]any {
		return map[string]any{"users": users, "actions": list(actions...)}
	}
	for name, change := range map[string]func(map[string]any){
		"anonymous reads":            func(g map[string]any) { g["anonymousPolicy"] = list("read") },
		"anonymous does all":         func(g map[string]any) { g["anonymousPolicy"] = list("read", "create", "update", "delete") },
		"everybody overwrites":       func(g map[string]any) { g["defaultPolicy"] = list("read", "update") },
		"somebody overwrites":        func(g map[string]any) { g["policies"] = []any{rule(list("evil"), "update")} },
		"ops overwrites":             func(g map[string]any) { g["policies"] = []any{rule(list("ops"), "read", "update")} },
		"ops loses":                  func(g map[string]any) { g["policies"] = []any{} },
		"accounts named in one text": func(g map[string]any) { g["policies"] = []any{rule(list("ops"), "read"), rule(list("a,b"), "read")} },
		"a group in capitals": func(g map[string]any) {
			g["policies"] = []any{rule(list("ops"), "read"), map[string]any{"groups": list("Dev"), "actions": list("read")}}
		},
		"a condition on some": func(g map[string]any) {
			one := rule(list("ops"), "read")
			one["conditions"] = []any{map[string]any{"expression": "true"}}
			g["policies"] = []any{one, rule(list("ops"), "read")}
		},
	} {
		for _, immutable := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, immutable %t", name, immutable), func(t *testing.T) {
				w := newOpened(t, "", immutable)
				w.T = t
				w.apply()
				w.edit(change)
				if !slices.ContainsFunc(w.changes(), func(c plan.Change) bool { return c.Key.Kind == schema.KindAccess }) {
					t.Errorf("the rule is as declared")
				}
				w.apply()
				text, err := os.ReadFile(w.name)
				if err != nil || strings.Contains(string(text), "evil") || strings.Contains(string(text), "Dev") || strings.Contains(string(text), "a,b") {
					t.Errorf("after an apply: %s, %v", text, err)
				}
			})
		}
	}
}

// TestWhoHasLoggedInKeepsWhatAnybodyHas: also where the mode speaks of anybody alone,
// and somebody gave accounts another right in its place.
func TestWhoHasLoggedInKeepsWhatAnybodyHas(t *testing.T) {
	for _, words := range [][]any{{"update"}, {}} {
		w := newOpened(t, "", false)
		pull := schema.Pull
		w.desired.Resources[1].Spec = &schema.Access{Anonymous: &pull}
		w.apply()
		w.edit(func(g map[string]any) { g["defaultPolicy"] = words })
		if len(w.changes()) == 0 {
			t.Errorf("%v: as declared", words)
		}
		w.apply()
		text, err := os.ReadFile(w.name)
		if err != nil || !strings.Contains(string(text), `"defaultPolicy":["read"]`) && !strings.Contains(strings.Join(strings.Fields(string(text)), ""), `"defaultPolicy":["read"]`) {
			t.Errorf("%v: after an apply: %s, %v", words, text, err)
		}
	}
}

// TestARuleTakesThePlaceOfWhatNoneSays: what stands at a declared namespace's pattern
// is never called as declared for want of a word for it, and goes with an approval.
func TestARuleTakesThePlaceOfWhatNoneSays(t *testing.T) {
	w := newOpened(t, `"team/**":{"anonymousPolicy":["read"],"policies":[{"users":["ops"],"actions":["read","create"]}]}`, false)
	list := w.changes()
	i := slices.IndexFunc(list, func(c plan.Change) bool { return c.Key.Kind == schema.KindAccess })
	if i < 0 {
		t.Fatalf("the plan has %+v", list)
	}
	v, err := w.p.Prepare(t.Context(), list[i:i+1])
	if err != nil || !strings.Contains(v[0].Held, `takes the place of what stands at "team/**"`) {
		t.Errorf("%+v, %v", v, err)
	}
	w.apply()
	if text, err := os.ReadFile(w.name); err != nil || strings.Contains(string(text), "create") {
		t.Errorf("after an apply: %s, %v", text, err)
	}
}

// TestARobotThatAPatternShadowsIsRefused: it would be written, and then be refused by
// every plan.
func TestARobotThatAPatternShadowsIsRefused(t *testing.T) {
	p, _ := placed(t, `{"storage":{"rootDirectory":"/nonexistent"},"http":{"address":"127.0.0.1","port":"9","auth":{"htpasswd":{"path":"/x"}},"accessControl":{"repositories":{
		"infra/secret/*":{"defaultPolicy":["read"]},"infra/**":{"defaultPolicy":["read"]},"apps/**":{"defaultPolicy":["read"]}}}}}`, "")
	for ns, refused := range map[string]bool{"infra": true, "*": true, "apps": false, "fresh": false} {
		c := made(schema.KindRobot, "dep", &schema.Robot{Access: schema.NewGrants(schema.Grant{Name: ns, Rights: schema.Pull})})
		v, err := p.Prepare(t.Context(), []plan.Change{c})
		if err != nil || strings.Contains(v[0].Refused, `"infra/secret/*"`) != refused || (v[0].Refused != "") != refused {
			t.Errorf("%s: %+v, %v", ns, v, err)
		}
	}
}

// TestCopyingThatIsSwitchedOffIsNotDone: nor is retention that only logs what it would
// remove.
func TestCopyingThatIsSwitchedOffIsNotDone(t *testing.T) {
	p, name := placed(t, `{"storage":{"rootDirectory":"/nonexistent","retention":{"dryRun":true},"subPaths":{"/a":{"rootDirectory":"/nonexistent/a","retention":{"dryRun":true}},"/b":{"rootDirectory":"/nonexistent/b"}}},"http":{"address":"127.0.0.1","port":"9"}}`, "")
	remote := made(schema.KindRemote, "hub", &schema.Remote{Type: new("oci"), URL: new("https://hub.example.com")})
	copies := made(schema.KindReplication, "all", &schema.Replication{From: new("hub"), Trigger: &schema.Trigger{Schedule: "@every 6h"}})
	for key, err := range written(t, p, remote, copies) {
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
	}
	has := func() bool {
		_, ok := readEverything(t, p).Get(copies.Key)
		return ok
	}
	if !has() {
		t.Fatal("it was not written")
	}
	opened{T: t, name: name}.rewrite(func(doc map[string]any) {
		doc["extensions"].(map[string]any)["sync"].(map[string]any)["enable"] = false
	})
	if has() {
		t.Error("it is there though copying is switched off")
	}
	v, err := p.Prepare(t.Context(), []plan.Change{copies})
	if err != nil || !strings.Contains(v[0].Refused, "extensions.sync of "+name+" is switched off") {
		t.Errorf("%+v, %v", v, err)
	}
	notes, err := p.Remarks(t.Context(), schema.State{Resources: []schema.Resource{{Key: schema.Key{Kind: schema.KindRetention, Name: "a"}, Spec: &schema.Retention{}}}}, time.Now())
	var said []string
	for _, n := range notes {
		if strings.Contains(n.Text, "only logs") {
			said = append(said, strings.Fields(n.Text)[0])
		}
	}
	if err != nil || !slices.Equal(said, []string{"storage.retention.dryRun", `storage.subPaths."/a".retention.dryRun`}) {
		t.Errorf("%q, %v", said, err)
	}
	for on, want := range map[bool]string{true: "", false: "storage.gc is off in " + name} {
		opened{T: t, name: name}.rewrite(func(doc map[string]any) { doc["storage"].(map[string]any)["gc"] = on })
		notes, err := p.Remarks(t.Context(), schema.State{Resources: []schema.Resource{{Key: schema.Key{Kind: schema.KindRetention, Name: "team"}, Spec: &schema.Retention{}}}}, time.Now())
		if has := slices.ContainsFunc(notes, func(n plan.Note) bool { return strings.HasPrefix(n.Text, "storage.gc is off in "+name) }); err != nil || has == (want == "") {
			t.Errorf("collection on %t: %v, %v", on, notes, err)
		}
	}
}

// TestRetentionThatComesLateIsSaid: the delay is Zot's alone, and no mode says it.
func TestRetentionThatComesLateIsSaid(t *testing.T) {
	for delay, want := range map[string]bool{"1h": false, "24h": false, "8760h": true} {
		p, name := placed(t, `{"storage":{"rootDirectory":"/nonexistent","retention":{"delay":"`+delay+`"}},"http":{"address":"127.0.0.1","port":"9"}}`, "")
		notes, err := p.Remarks(t.Context(), schema.State{Resources: []schema.Resource{{Key: schema.Key{Kind: schema.KindRetention, Name: "team"}, Spec: &schema.Retention{}}}}, time.Now())
		if has := slices.ContainsFunc(notes, func(n plan.Note) bool {
			return strings.HasPrefix(n.Text, "storage.retention.delay is "+delay+" in "+name)
		}); err != nil || has != want {
			t.Errorf("%s: %v, %v", delay, notes, err)
		}
	}
}

// TestACopyThatVerifiesNobodyIsNotAsDeclared: it may be another's whoever that claims
// to be.
func TestACopyThatVerifiesNobodyIsNotAsDeclared(t *testing.T) {
	for _, unsafe := range []bool{false, true} {
		p, name := placed(t, `{"storage":{"rootDirectory":"/nonexistent"},"http":{"address":"127.0.0.1","port":"9"}}`, "")
		remote := made(schema.KindRemote, "hub", &schema.Remote{Type: new("oci"), URL: new("https://hub.example.com"), TLS: &schema.TLS{Insecure: &unsafe}})
		copies := made(schema.KindReplication, "all", &schema.Replication{From: new("hub"), Trigger: &schema.Trigger{Schedule: "@every 6h"}})
		for key, err := range written(t, p, remote, copies) {
			if err != nil {
				t.Fatalf("%s: %v", key, err)
			}
		}
		entry := func(doc map[string]any) map[string]any {
			return doc["extensions"].(map[string]any)["sync"].(map[string]any)["registries"].([]any)[0].(map[string]any)
		}
		opened{T: t, name: name}.rewrite(func(doc map[string]any) { entry(doc)["tlsVerify"] = unsafe })
		if _, is := readEverything(t, p).Get(copies.Key); is {
			t.Errorf("insecure %t in the mode: it is as declared", unsafe)
		}
		if err := written(t, p, copies)[copies.Key.String()]; err != nil {
			t.Fatal(err)
		}
		opened{T: t, name: name}.rewrite(func(doc map[string]any) {
			if entry(doc)["tlsVerify"] == unsafe {
				t.Errorf("insecure %t in the mode: it is not put right", unsafe)
			}
			if n := len(doc["extensions"].(map[string]any)["sync"].(map[string]any)["registries"].([]any)); n != 1 {
				t.Errorf("%d entries", n)
			}
		})
	}
}

// TestLoginsThatWereTakenOutComeBack: a Zot with rules for accounts and without those
// does not start.
func TestLoginsThatWereTakenOutComeBack(t *testing.T) {
	_, name := placed(t, `{"storage":{"rootDirectory":"/nonexistent"},"http":{"address":"127.0.0.1","port":"9","accessControl":{"repositories":{"team/**":{"policies":[{"users":["ops"],"actions":["read"]}]}}}}}`, "")
	accounts := filepath.Join(filepath.Dir(name), "htpasswd")
	p, err := zot.New(schema.Registry{Type: schema.TypeZot, URL: "http://127.0.0.1:9", Files: &schema.FilePaths{Config: name, Htpasswd: accounts}}, nil, providertest.Secrets{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	changes := func() []plan.Change {
		t.Helper()
		want, _, err := p.Normalize(schema.State{})
		if err != nil {
			t.Fatal(err)
		}
		live, err := p.Read(t.Context(), schema.ScopeOf(schema.KindSettings))
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(plan.Diff(plan.Input{Desired: want, Live: live, Table: p.Capabilities()}).Changes, func(c plan.Change) bool { return c.Recorded() })
	}
	list := changes()
	if len(list) != 1 || !slices.ContainsFunc(list[0].Fields, func(f plan.Field) bool { return f.Path == "values.process.logins" }) {
		t.Fatalf("the plan has %+v", list)
	}
	for key, err := range written(t, p, list...) {
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
	}
	if text, err := os.ReadFile(name); err != nil || !strings.Contains(string(text), accounts) {
		t.Errorf("it holds %s, %v", text, err)
	}
	if left := changes(); len(left) > 0 {
		t.Errorf("there is left %+v", left)
	}
}
