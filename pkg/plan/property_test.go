package plan

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ocisync/ocisync/schema"
)

type fataler interface {
	Helper()
	Fatal(...any)
}

func asJSON[T any](t fataler, v T) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func equalSecrets(schema.Key, string, string, *schema.SecretRef) Match { return Equal }

func TestDiffOfAStateWithItselfIsEmpty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live := genState(t, "live", true)
		want := schema.State{Resources: slices.Clone(live.Resources), Scope: live.Scope}
		for i := range want.Resources {
			want.Resources[i].Unread = nil
		}
		p := Diff(Input{Desired: want, Live: live, Table: nativeTable(), Ownership: Ownership{Secret: equalSecrets}})
		if p.Pending() || p.Unchanged != len(want.Resources) || len(p.Refusals) > 0 {
			t.Fatalf("plan of a state against itself: %s", asJSON(t, p))
		}
	})
}

func TestOverlayLaysWhatIsDeclaredAndNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.SampledFrom(schema.Kinds()).Draw(t, "kind")
		want, _ := genSpec(t, k, false)
		have, _ := genSpec(t, k, true)
		wantWas, haveWas := asJSON(t, want), asJSON(t, have)
		got := Overlay(want, have)
		if asJSON(t, want) != wantWas || asJSON(t, have) != haveWas {
			t.Fatal("Overlay wrote into what it was given")
		}
		checkLaid(t, want, have, got)
	})
}

// checkLaid fails unless got is have with the declared fields of want.
func checkLaid(t *rapid.T, want, have, got schema.Spec) {
	t.Helper()
	if f := compare(want, got, nil); len(f) > 0 {
		t.Fatalf("declared, and not so: %v", f)
	}
	for _, p := range shapeOf(reflect.TypeOf(got).Elem(), "", nil).all() {
		if p.below != nil {
			continue
		}
		_, declared := p.in(want)
		h, isThere := p.in(have)
		g, stays := p.in(got)
		switch {
		case p.path == "values":
			for _, v := range valuesOf(have) {
				if !slices.ContainsFunc(valuesOf(want), func(w schema.Value) bool { return w.Path == v.Path }) && !slices.Contains(valuesOf(got), v) {
					t.Fatalf("undeclared %s is lost", v.Path)
				}
			}
		case declared:
		case p.sync == "seen":
			if stays {
				t.Fatalf("%s is seen, was not declared, and stays", p.path)
			}
		case isThere != stays:
			t.Fatalf("undeclared %s: there before %v, after %v", p.path, isThere, stays)
		case isThere && asJSON(t, h.Interface()) != asJSON(t, g.Interface()):
			t.Fatalf("undeclared %s changed", p.path)
		}
	}
}

func valuesOf(s schema.Spec) schema.Values {
	if x, ok := s.(*schema.Settings); ok {
		return x.Values
	}
	return nil
}

// write does to a state what a perfect provider would.
func write(live schema.State, changes []Change) schema.State {
	objects := map[schema.Key]schema.Resource{}
	for _, r := range live.Resources {
		objects[r.Key] = r
	}
	dropChildren := func(ns schema.Key, becomes string) {
		for k, r := range objects {
			if of, ok := k.Namespace(); ok && of == ns {
				delete(objects, k)
				if becomes != "" {
					r.Key.Name = becomes + strings.TrimPrefix(k.Name, ns.Name)
					objects[r.Key] = r
				}
			}
		}
	}
	for _, c := range changes {
		switch c.Action {
		case Rename:
			if c.Key.Kind == schema.KindNamespace {
				dropChildren(c.Before.Key, c.Key.Name)
			}
			delete(objects, c.Before.Key)
		case Replace, Delete:
			if c.Key.Kind == schema.KindNamespace {
				dropChildren(c.Key, "")
			}
			delete(objects, c.Key)
		}
		if c.After != nil {
			objects[c.Key] = asLive(*c.After)
		}
	}
	out := schema.State{Scope: live.Scope}
	for _, r := range objects {
		out.Resources = append(out.Resources, r)
	}
	slices.SortFunc(out.Resources, compareResources)
	return out
}

// asLive turns what is written into what is read: secrets are unread.
func asLive(r schema.Resource) schema.Resource {
	unread := slices.Clone(r.Unread)
	_, secrets := Managed(r.Spec)
	for p := range secrets {
		unread = append(unread, p)
	}
	slices.Sort(unread)
	r.Unread = slices.Compact(unread)
	r.Spec = leave(r.Spec, nil, func(p string) bool {
		_, is := secrets[p]
		return is || p == "renew" || p == "overlap" || p == "secret.deliver"
	})
	return r
}

func TestWritingAPlanGivesWhatIsDeclaredAndLeavesTheRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := genInput(t)
		in.Live.Scope = schema.ScopeOf(schema.Kinds()...)
		in.Ownership.Secret = equalSecrets
		p := Diff(in)
		if len(p.Refusals) > 0 {
			t.Skip("refused: nothing is written")
		}
		after := write(in.Live, p.Changes)
		touched := map[schema.Key]bool{}
		for _, c := range p.Changes {
			touched[c.Key] = true
			if c.Before != nil {
				touched[c.Before.Key] = true
			}
			if c.Action == Update && c.After != nil && len(in.Policy.Ignore) == 0 {
				want, _ := in.Desired.Get(c.Key)
				checkLaid(t, want.Spec, c.Before.Spec, c.After.Spec)
			}
		}
		for _, r := range in.Live.Resources {
			ns, _ := r.Key.Namespace()
			if touched[r.Key] || touched[ns] {
				continue
			}
			if got, ok := after.Get(r.Key); !ok || asJSON(t, got) != asJSON(t, r) {
				t.Fatalf("%s is not in the plan, and changed", r.Key)
			}
		}
		// Every object that was to be written is now as declared.
		in.Live, in.Directives = after, slices.DeleteFunc(in.Directives, func(d schema.Directive) bool { return d.Paused == nil })
		in.Ownership = Ownership{Secret: equalSecrets}
		if again := Diff(in); again.Pending() || len(again.Refusals) > 0 {
			t.Fatalf("the second plan is not empty: %s\nthe first: %s", asJSON(t, again.Changes), asJSON(t, p.Changes))
		}
	})
}

func TestNothingOutsideTheScopeIsInAPlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := genInput(t)
		checkScope(t, in, Diff(in))
	})
}

func checkScope(t fataler, in Input, p Plan) {
	t.Helper()
	for _, c := range p.all() {
		if c.Action == Unprotect {
			continue
		}
		if !in.Live.Scope.Covers(c.Key) || c.Before != nil && !in.Live.Scope.Covers(c.Before.Key) {
			t.Fatal("outside the scope, and in the plan:", asJSON(t, c))
		}
	}
}

func TestEqualInputsGiveIdenticalPlans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := genInput(t)
		one := Diff(in)
		two := in
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		for _, s := range []*schema.State{&two.Desired, &two.Live} {
			s.Resources = slices.Clone(s.Resources)
			r.Shuffle(len(s.Resources), func(i, j int) { s.Resources[i], s.Resources[j] = s.Resources[j], s.Resources[i] })
			if rapid.Bool().Draw(t, "sort") {
				if err := s.Sort(); err != nil {
					t.Fatal(err)
				}
			}
		}
		two.Ownership.Owned = slices.Clone(in.Ownership.Owned)
		r.Shuffle(len(two.Ownership.Owned), func(i, j int) {
			o := two.Ownership.Owned
			o[i], o[j] = o[j], o[i]
		})
		guard := func(p Plan) Plan {
			return Guard(p, GuardInput{Policy: in.Policy, Ownership: in.Ownership, Desired: in.Desired, Live: in.Live})
		}
		a, b := asJSON(t, guard(one)), asJSON(t, guard(Diff(two)))
		if a != b {
			t.Fatalf("two plans of the same inputs:\n%s\n%s", a, b)
		}
	})
}

func TestAPlanSurvivesJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := genInput(t)
		in.Policy.MaxDeletes = &schema.MaxDeletes{}
		p := Guard(Diff(in), GuardInput{Policy: in.Policy, Ownership: in.Ownership, Desired: in.Desired, Live: in.Live})
		text := asJSON(t, p)
		var got Plan
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if asJSON(t, got) != text || got.Approval() != p.Approval() {
			t.Fatal("a plan read back is another plan")
		}
		p.Same = nil // is no part of the JSON
		if d := cmp.Diff(p, got); d != "" {
			t.Fatalf("written and read (-written +read):\n%s", d)
		}
	})
}

func TestAnApprovalNamesWhatHappensAndNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Diff(genInput(t))
		if len(p.Changes) == 0 {
			t.Skip("nothing to approve")
		}
		digest := p.Approval()
		i := rapid.IntRange(0, len(p.Changes)-1).Draw(t, "change")
		edit := func(f func(*Change)) string {
			q := p
			q.Changes = slices.Clone(p.Changes)
			f(&q.Changes[i])
			return q.Approval()
		}
		for what, got := range map[string]string{
			"source": edit(func(c *Change) { c.Source.Line += 7 }),
			"reason": edit(func(c *Change) { c.Reason += "x" }),
			"effect": edit(func(c *Change) { c.Effect += "x" }),
			"impact": edit(func(c *Change) { c.Impact = []string{"x"} }),
			"version": edit(func(c *Change) {
				c.Before, c.After = &schema.Resource{Version: "7"}, &schema.Resource{Version: "8"}
			}),
		} {
			if got != digest {
				t.Fatalf("another %s, another approval", what)
			}
		}
		other := p
		other.Notes, other.Refusals, other.Unchanged = []Note{{Text: "x"}}, []Refusal{{Why: "x"}}, p.Unchanged+1
		if other.Approval() != digest {
			t.Fatal("another note, refusal or count, another approval")
		}
		held := p
		held.Held = []Held{{Change: p.Changes[i], Why: "x"}}
		held.Changes = slices.Delete(slices.Clone(p.Changes), i, i+1)
		if held.Approval() != digest {
			t.Fatal("held, another approval")
		}
		c := p.Changes[i]
		if c.Action == Update && !slices.ContainsFunc(c.Fields, func(f Field) bool { return !f.Sensitive }) {
			return // secrets alone are left out
		}
		for what, got := range map[string]string{
			"mode":    func() string { q := p; q.Mode += "x"; return q.Approval() }(),
			"url":     func() string { q := p; q.Registry.URL += "x"; return q.Approval() }(),
			"type":    func() string { q := p; q.Registry.Type += "x"; return q.Approval() }(),
			"format":  func() string { q := p; q.Format++; return q.Approval() }(),
			"key":     edit(func(c *Change) { c.Key.Name += "x" }),
			"action":  edit(func(c *Change) { c.Action += "x" }),
			"a field": edit(func(c *Change) { c.Fields = append(slices.Clone(c.Fields), Field{Path: "x"}) }),
			"absence": func() string { q := p; q.Changes = slices.Delete(slices.Clone(p.Changes), i, i+1); return q.Approval() }(),
		} {
			if got == digest {
				t.Fatalf("another %s, the same approval", what)
			}
		}
		for n, f := range c.Fields {
			if f.Sensitive && c.Action != Create {
				continue
			}
			field := func(g func(*Field)) string {
				return edit(func(c *Change) { c.Fields = slices.Clone(c.Fields); g(&c.Fields[n]) })
			}
			if field(func(f *Field) { f.Path += "x" }) == digest || field(func(f *Field) { f.Old += "x" }) == digest || field(func(f *Field) { f.New += "x" }) == digest {
				t.Fatalf("another value of %s, the same approval", f.Path)
			}
		}
	})
}
