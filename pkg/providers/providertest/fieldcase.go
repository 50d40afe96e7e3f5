package providertest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// aCase tries one field of one subject.
type aCase struct {
	subject subject
	field   aField
}

func (c aCase) name() string { return c.subject.key.String() + "/" + c.field.path }

func (h Harness) cases() []aCase {
	var out []aCase
	for _, s := range h.subjects() {
		for _, f := range s.fields {
			out = append(out, aCase{s, f})
		}
	}
	return out
}

// run skips a case only where the capability table says unsupported, and only
// if the registry really does not do it.
func (c aCase) run(t testing.TB, h Harness) {
	t.Helper()
	if c.field.Valid == "" || c.field.Other == "" {
		t.Fatalf("%s: no values to try; give two in the harness", c.name())
	}
	p := h.New(t)
	row := p.Capabilities().Find(c.subject.key.Kind, c.field.path)
	if row.Support == schema.Unsupported {
		if why := c.works(t, p); why == "" {
			t.Fatalf("%s works, but row %s says unsupported (%s); correct the row", c.name(), rowName(row), row.Reason)
		}
		t.Skipf("row %s: unsupported: %s", rowName(row), row.Reason)
	}
	c.lifecycle(t, h, p)
}

func rowName(r schema.Capability) string {
	if r.Field == "" {
		return string(r.Kind)
	}
	return string(r.Kind) + "." + r.Field
}

// works writes the field past all checks and tells why it was not kept, or "".
func (c aCase) works(t testing.TB, p providers.Provider) string {
	t.Helper()
	r, err := c.subject.object(p.Capabilities(), c.field.path, c.field.Valid)
	if err != nil {
		t.Fatal(err)
	}
	state, err := desired(p.Capabilities(), r)
	if err != nil {
		t.Fatal(err)
	}
	norm, _, err := p.Normalize(state)
	if err != nil {
		return err.Error()
	}
	var changes []plan.Change
	for _, k := range schema.Kinds() {
		for _, r := range norm.Resources {
			if r.Key.Kind == k {
				changes = append(changes, plan.Change{Action: plan.Create, Key: r.Key, After: &r})
			}
		}
	}
	verdicts, err := p.Prepare(t.Context(), changes)
	if err != nil {
		return err.Error()
	}
	for i, v := range verdicts {
		if v.Refused != "" {
			return fmt.Sprintf("%s: %s", changes[i].Key, v.Refused)
		}
	}
	for _, change := range changes {
		if err := write(t.Context(), p, []plan.Change{change}); err != nil {
			return err.Error()
		}
	}
	live, err := p.Read(t.Context(), schema.ScopeOf(c.subject.key.Kind))
	if err != nil {
		return err.Error()
	}
	return differs(p, state, live, c.subject.key, c.field.path)
}

// lifecycle creates the object, changes the field to each of its values, and
// after each step looks that it is so, that nothing else changed, and that the
// same again changes nothing.
func (c aCase) lifecycle(t testing.TB, h Harness, p providers.Provider) {
	t.Helper()
	table := p.Capabilities()
	whole, err := c.subject.object(table, c.field.path, c.field.Valid)
	if err != nil {
		t.Fatal(err)
	}
	state, err := desired(table, whole)
	if err != nil {
		t.Fatal(err)
	}
	before := c.step(t, h, p, "creating", state, 1, -1)
	for _, l := range mustLeaves(t, whole.Spec) {
		if fileAlone(t, p, state, c.subject.key, l.path) || unseen(before, c.subject.key, whole.Spec, l.path) {
			continue
		}
		if why := differs(p, state, before, c.subject.key, l.path); why != "" {
			t.Errorf("after creating: %s", why)
		}
	}
	secret := slices.ContainsFunc(schema.Secrets(whole.Spec), func(f schema.SecretField) bool { return f.Path == c.field.path })
	for _, step := range []struct {
		doing, value string
		min, max     int
	}{
		{"writing another spelling", c.field.Alike, 0, 0},
		{"updating", c.field.Other, 1, 1},
		{"emptying", c.field.Empty, 1, 1},
	} {
		if step.value == "" {
			continue
		}
		if secret && !canCheck(t, p, whole, c.field.path) {
			step.min = 0 // nobody can see that it differs
		}
		r, err := c.subject.only(c.field.path, step.value)
		if err != nil {
			t.Fatal(err)
		}
		state := schema.State{Resources: []schema.Resource{r}, Scope: schema.ScopeOf(r.Key.Kind)}
		if fileAlone(t, p, state, r.Key, c.field.path) || unseen(before, r.Key, r.Spec, c.field.path) {
			c.untouched(t, step.doing, before, c.step(t, h, p, step.doing, state, 0, 0))
			continue
		}
		after := c.step(t, h, p, step.doing, state, step.min, step.max)
		if why := differs(p, state, after, r.Key, c.field.path); why != "" {
			t.Errorf("after %s: %s", step.doing, why)
		}
		if secret && step.min > 0 {
			wantSecret(t, p, r, c.field.path)
		}
		c.untouched(t, step.doing, before, after)
	}
}

// fileAlone reports whether a declared field is emulated in such a way that the
// registry has nothing of it: the normal form leaves it out, or says it in other
// fields.
func fileAlone(t testing.TB, p providers.Provider, state schema.State, key schema.Key, path string) bool {
	t.Helper()
	if p.Capabilities().Find(key.Kind, path).Support != schema.Emulated {
		return false
	}
	norm, _, err := p.Normalize(state)
	if err != nil {
		t.Fatal(err)
	}
	r, ok := norm.Get(key)
	if !ok {
		return false
	}
	return !slices.ContainsFunc(mustLeaves(t, r.Spec), func(l leaf) bool { return l.path == path })
}

// unseen reports whether a field is no secret, and yet not given back.
func unseen(live schema.State, key schema.Key, spec schema.Spec, path string) bool {
	have, ok := live.Get(key)
	return ok && slices.Contains(have.Unread, path) && !isReference(spec, path)
}

// step runs the cycle twice and returns what is live then. The first run makes
// least to most changes (most -1: any number), the second none.
func (c aCase) step(t testing.TB, h Harness, p providers.Provider, doing string, state schema.State, least, most int) schema.State {
	t.Helper()
	for again, bounds := range [][2]int{{least, most}, {0, 0}} {
		n, err := h.Cycle(t.Context(), p, state)
		if err != nil {
			t.Fatalf("%s %s: %v", doing, c.name(), err)
		}
		if n < bounds[0] || bounds[1] >= 0 && n > bounds[1] {
			t.Fatalf("%s %s, run %d: %d changes, want %d to %d", doing, c.name(), again+1, n, bounds[0], bounds[1])
		}
	}
	live, err := p.Read(t.Context(), schema.ScopeOf(c.subject.key.Kind))
	if err != nil {
		t.Fatalf("reading after %s: %v", doing, err)
	}
	return live
}

// untouched compares all fields but the one under test.
func (c aCase) untouched(t testing.TB, doing string, before, after schema.State) {
	t.Helper()
	was, _ := before.Get(c.subject.key)
	is, ok := after.Get(c.subject.key)
	if !ok {
		t.Fatalf("after %s, %s is gone", doing, c.subject.key)
	}
	others := func(s schema.Spec) map[string]string {
		out := map[string]string{}
		for _, l := range mustLeaves(t, s) {
			if l.path != c.field.path {
				out[l.path] = l.json
			}
		}
		return out
	}
	old, now := others(was.Spec), others(is.Spec)
	for path, text := range old {
		if now[path] != text {
			t.Errorf("%s %s changed %s, which was not declared, from %s to %q", doing, c.name(), path, text, now[path])
		}
	}
	for path, text := range now {
		if _, there := old[path]; !there {
			t.Errorf("%s %s added %s = %s, which was not declared", doing, c.name(), path, text)
		}
	}
	if !slices.Equal(was.Unread, is.Unread) {
		t.Errorf("%s %s changed what cannot be read from %q to %q", doing, c.name(), was.Unread, is.Unread)
	}
}

// differs tells why a live field is not as desired, or "".
func differs(p providers.Provider, want, live schema.State, key schema.Key, path string) string {
	norm, _, err := p.Normalize(want)
	if err != nil {
		return err.Error()
	}
	r, ok := norm.Get(key)
	if !ok {
		return fmt.Sprintf("%s: Normalize left it out", key)
	}
	have, ok := live.Get(key)
	if !ok {
		return fmt.Sprintf("%s: it is not there", key)
	}
	if slices.ContainsFunc(schema.Secrets(r.Spec), func(f schema.SecretField) bool { return f.Path == path }) {
		if !slices.Contains(have.Unread, path) {
			return fmt.Sprintf("%s: %s is not among what exists and cannot be read: %q", key, path, have.Unread)
		}
		return ""
	}
	w, err := valueAt(r.Spec, path)
	if err != nil {
		return err.Error()
	}
	h, err := valueAt(have.Spec, path)
	if err != nil {
		return err.Error()
	}
	if w == h && w != "" || h == "" && isEmpty(w) {
		return ""
	}
	return fmt.Sprintf("%s: %s is %q, want %q", key, path, h, w)
}

func valueAt(s schema.Spec, path string) (string, error) {
	all, err := leaves(s)
	for _, l := range all {
		if l.path == path {
			return l.json, nil
		}
	}
	return "", err
}

func mustLeaves(t testing.TB, s schema.Spec) []leaf {
	t.Helper()
	out, err := leaves(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
