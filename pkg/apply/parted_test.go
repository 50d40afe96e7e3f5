package apply_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/apply"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// gated is a registry that takes nothing but settings while it is read-only. It
// writes down what is written.
type gated struct {
	providers.Provider
	wrote *[]string
	fail  *string // the object that cannot be written
}

const lock = "values.read_only"

func (g gated) Write(ctx context.Context, changes []plan.Change, report func(schema.Key, error)) error {
	for _, c := range changes {
		what := c.Key.String()
		c.Before = nil // the parts follow each other
		for _, f := range c.Fields {
			if c.Key.Kind == schema.KindSettings {
				what += " " + strings.TrimPrefix(f.Path, "values.") + "=" + f.New
			}
		}
		*g.wrote = append(*g.wrote, what)
		if *g.fail == c.Key.String() || strings.HasPrefix(what, *g.fail) && strings.Contains(*g.fail, "=") {
			report(c.Key, errors.New("refused"))
			continue
		}
		if err := g.Provider.Write(ctx, []plan.Change{c}, report); err != nil {
			return err
		}
	}
	return nil
}

func (g gated) Part(c plan.Change) (first, then, last *plan.Change) {
	i := slices.IndexFunc(c.Fields, func(f plan.Field) bool { return f.Path == lock })
	if c.Key.Kind != schema.KindSettings || i < 0 {
		return nil, &c, nil
	}
	own, other := c, c
	if spec, ok := c.After.Spec.(*schema.Settings); ok && c.Fields[i].New == "true" {
		open := *c.After
		open.Spec = &schema.Settings{Values: append(slices.DeleteFunc(slices.Clone(spec.Values), func(v schema.Value) bool { return v.Path == "read_only" }),
			schema.Value{Path: "read_only", JSON: "false"})}
		other.After = &open
	}
	own.Fields, other.Fields = c.Fields[i:i+1], slices.Delete(slices.Clone(c.Fields), i, i+1)
	if len(other.Fields) > 0 {
		then = &other
	}
	if c.Fields[i].New == "true" {
		return nil, then, &own
	}
	return &own, then, nil
}

func settings(readOnly, banner string) schema.Resource {
	return schema.Resource{Key: schema.Key{Kind: schema.KindSettings}, Spec: &schema.Settings{Values: schema.Values{
		{Path: "banner", JSON: `"` + banner + `"`}, {Path: "read_only", JSON: readOnly},
	}}}
}

// newGated is a registry that is open, and has what is declared next before it.
func newGated(t *testing.T, fail *string, wrote *[]string, rs ...schema.Resource) *world {
	t.Helper()
	w := newWorld(t, modeOf(t, settings("false", "none")))
	w.mustApply("")
	w.cfg = modeOf(t, rs...)
	w.provider = gated{w.provider, wrote, fail}
	return w
}

func TestARegistryIsClosedLastAndOpenedFirst(t *testing.T) {
	user := schema.Resource{Key: key("user/alice"), Spec: &schema.User{Email: ptr("a@example.com")}}
	wrote, fail := []string{}, ""
	w := newGated(t, &fail, &wrote, settings("true", "one"), user)
	_, report := w.mustApply("")
	want := []string{`settings banner="one"`, "user/alice", "settings read_only=true"}
	if !slices.Equal(wrote, want) {
		t.Errorf("closing wrote %q, want %q", wrote, want)
	}
	if n := report.Count(apply.Done); n != 2 || len(report.Lines) != 2 {
		t.Errorf("two changes are reported as %+v", report.Lines)
	}
	if o, ok := w.inv.Get(key("settings")); !ok || !o.Owned {
		t.Error("the inventory does not know of the settings")
	}

	wrote = nil
	user.Spec = &schema.User{Email: ptr("b@example.com")}
	w.cfg = modeOf(t, settings("false", "two"), user)
	w.mustApply("")
	want = []string{"settings read_only=false", `settings banner="two"`, "user/alice"}
	if !slices.Equal(wrote, want) {
		t.Errorf("opening wrote %q, want %q", wrote, want)
	}
}

func TestARegistryIsNotClosedAfterAFailure(t *testing.T) {
	user := schema.Resource{Key: key("user/alice"), Spec: &schema.User{Email: ptr("a@example.com")}}
	wrote, fail := []string{}, "user/alice"
	w := newGated(t, &fail, &wrote, settings("true", "one"), user)
	_, report, err := w.apply(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(wrote, "settings read_only=true") {
		t.Errorf("closed all the same: %q", wrote)
	}
	if report.Count(apply.Failed) != 1 || report.Count(apply.Skipped) != 1 {
		t.Errorf("reported as %+v", report.Lines)
	}
	fail = ""
	w.mustApply("")
	if wrote[len(wrote)-1] != "settings read_only=true" {
		t.Errorf("the next run wrote %q", wrote)
	}
}

func TestWhatCannotBeOpenedIsNotWritten(t *testing.T) {
	user := schema.Resource{Key: key("user/alice"), Spec: &schema.User{Email: ptr("a@example.com")}}
	wrote, fail := []string{}, ""
	w := newGated(t, &fail, &wrote, settings("true", "one"))
	w.mustApply("")
	wrote, fail = nil, "settings read_only=false"
	w.cfg = modeOf(t, settings("false", "two"), user)
	_, report, err := w.apply(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(wrote, []string{fail}) {
		t.Errorf("wrote %q", wrote)
	}
	if report.Count(apply.Failed) != 1 || report.Count(apply.Skipped) != 1 || len(report.Lines) != 2 {
		t.Errorf("reported as %+v", report.Lines)
	}
}
