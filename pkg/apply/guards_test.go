package apply_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/apply"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

func TestProtectionOutlivesItsLineInTheFile(t *testing.T) {
	w := newWorld(t, mode(t))
	w.cfg.Policy.Protect = []string{"webhook/a/*"}
	w.cfg.Policy.Prune = []schema.Kind{schema.KindWebhook}
	w.mustApply("")
	w.cfg.Policy.Protect = nil
	w.without("webhook/a/ci")
	found := w.plan()
	if len(found.Plan.Refusals) != 1 {
		t.Fatalf("one commit took off the protection and the object, and is not refused: %v", found.Plan)
	}
	if _, _, err := w.apply(t.Context(), found.Digest); err == nil {
		t.Error("a refused plan was applied")
	}
	if _, ok := w.live().Get(key("webhook/a/ci")); !ok {
		t.Error("a protected object is gone")
	}
}

func TestHashesOfAnObjectAreSorted(t *testing.T) {
	var values schema.Values
	for i := range 9 {
		values = append(values, schema.Value{Path: fmt.Sprintf("s%d.password", i), JSON: `{"env":"` + providertest.SecretA + `"}`})
	}
	w := newWorld(t, modeOf(t, schema.Resource{Key: key("settings"), Spec: &schema.Settings{Values: values}}))
	if _, report := w.mustApply(""); report.Count(apply.Done) != 1 {
		t.Fatalf("%+v", report)
	}
	o, ok := w.inv.Get(key("settings"))
	paths := make([]string, len(o.Hashes))
	for i, h := range o.Hashes {
		paths[i] = h.Path
	}
	if !ok || len(paths) != 9 || !slices.IsSorted(paths) {
		t.Errorf("hashes of %q", paths)
	}
}

func TestEveryPlanSaysWhichCertificatesGoUnchecked(t *testing.T) {
	w := newWorld(t, mode(t))
	says := func(words string) bool {
		return slices.ContainsFunc(w.plan().Plan.Notes, func(n plan.Note) bool { return strings.Contains(n.Text, words) })
	}
	w.cfg.Registry.TLS = &schema.TLS{Insecure: ptr(false)}
	w.cfg.Registry.Run = &schema.Run{Storage: &schema.Storage{S3: &schema.S3Storage{SkipVerify: ptr(false)}}}
	if says("certificate is not checked") {
		t.Error("it says so where all are checked")
	}
	w.cfg.Registry.TLS.Insecure = ptr(true)
	w.cfg.Registry.Run.Storage.S3.SkipVerify = ptr(true)
	for _, want := range []string{"the registry's certificate is not checked", "the store's certificate is not checked"} {
		if !says(want) {
			t.Errorf("it does not say %q", want)
		}
	}
}

// partly does not show some of what the registry has.
type partly struct {
	providers.Provider
	except []schema.Key
}

func (p partly) Read(ctx context.Context, scope schema.Scope) (schema.State, error) {
	st, err := p.Provider.Read(ctx, scope)
	st.Scope.Except = p.except
	return st, err
}

// What could not be read and nobody here asked for is one line, however much it is.
func TestWhatNobodyDeclaresAndCannotBeReadIsOneLine(t *testing.T) {
	w := newWorld(t, mode(t))
	notes := func(except ...string) (out []string) {
		t.Helper()
		c := w.cycle()
		p := partly{Provider: c.Provider}
		for _, name := range except {
			p.except = append(p.except, key(name))
		}
		c.Provider = p
		found, err := c.Plan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range found.Plan.Notes {
			if strings.Contains(n.Text, "could not be read, so left alone") {
				out = append(out, strings.TrimPrefix(n.Key.String()+" "+n.Text, " "))
			}
		}
		return out
	}
	const left = "could not be read, so left alone"
	for _, x := range []struct{ except, want []string }{
		{[]string{"access/x"}, []string{"access/x " + left}},
		{[]string{"webhook/x/", "access/y", "access/x"}, []string{left + ": access/x and 2 more that nothing here declares"}},
		{[]string{"access/x", "access/y", "webhook/a/ci"}, []string{"webhook/a/ci " + left, left + ": access/x and 1 more that nothing here declares"}},
		{[]string{"webhook/a/"}, []string{"webhook/a/ " + left}},
	} {
		have := notes(x.except...)
		slices.Sort(have)
		slices.Sort(x.want)
		if !slices.Equal(have, x.want) {
			t.Errorf("of %q a plan says %q, want %q", x.except, have, x.want)
		}
	}
	w.mustApply("")
	w.without("webhook/a/ci")
	if have := notes("webhook/a/", "access/x", "access/y"); !slices.Contains(have, "webhook/a/ "+left) {
		t.Errorf("what ocisync owns is told with what nobody asked for: %q", have)
	}
}
