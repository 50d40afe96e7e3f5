package apply_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/apply"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/state"
	"github.com/ocisync/ocisync/schema"
)

// remembering is a registry that remembers renames until they are acknowledged.
type remembering struct {
	providers.Provider
	renamed []schema.Renaming
}

func (r *remembering) Read(ctx context.Context, scope schema.Scope) (schema.State, error) {
	s, err := r.Provider.Read(ctx, scope)
	s.Renamed = slices.Clone(r.renamed)
	return s, err
}

func (r *remembering) Write(ctx context.Context, changes []plan.Change, report func(schema.Key, error)) error {
	return r.Provider.Write(ctx, changes, func(k schema.Key, err error) {
		for _, c := range changes {
			if c.Key == k && c.Action == plan.Rename && err == nil {
				r.renamed = append(r.renamed, schema.Renaming{From: c.Before.Key, To: k})
			}
		}
		report(k, err)
	})
}

func (r *remembering) Acknowledge(_ context.Context, keys []schema.Key) error {
	for i := len(r.renamed) - 1; i >= 0; i-- {
		if m := r.renamed[i]; slices.Contains(keys, m.To) {
			keys = append(keys, m.From)
			r.renamed = slices.Delete(r.renamed, i, i+1)
		}
	}
	return nil
}

// called gives namespace a of the mode, and what hangs on it, another name.
func (w *world) called(name, previously string) {
	rs := slices.Clone(w.cfg.Desired.Resources)
	for i, r := range rs {
		if ns, child := r.Key.Namespace(); r.Key.Name != "b" && (r.Key.Kind == schema.KindNamespace || child && ns.Name != "b") {
			rs[i].Key.Name = name
			if r.Key.Kind == schema.KindWebhook {
				rs[i].Key.Name = name + "/ci"
			}
		}
	}
	w.cfg = modeOf(w.t, rs...)
	if previously != "" {
		w.cfg.Directives = []schema.Directive{{Key: key("namespace/" + name), Previously: previously}}
	}
}

func (w *world) owned() []string {
	var out []string
	for _, o := range w.inv.Objects {
		if o.Owned && o.Key.Kind != schema.KindUser && o.Key.Kind != schema.KindGroup && o.Key.Name != "b" && o.Key.Name != "b/ci" {
			out = append(out, o.Key.String())
		}
	}
	return out
}

func TestARenameIsAcknowledgedOnceItIsRecorded(t *testing.T) {
	w := newWorld(t, mode(t))
	registry := &remembering{Provider: w.provider}
	w.provider = registry
	w.mustApply("")
	rename := func(save error) error {
		c := w.cycle()
		found, err := c.Plan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Apply(t.Context(), found, apply.Run{Who: state.Run{ID: "run"}, Journal: &w.journal, Save: func(_ context.Context, inv state.Inventory) error {
			if save == nil {
				w.inv = inv
			}
			return save
		}})
		return err
	}
	w.called("c", "a")
	full := errors.New("disk full")
	if err := rename(full); !errors.Is(err, full) || len(registry.renamed) != 1 {
		t.Fatalf("not recorded, and the registry remembers %v: %v", registry.renamed, err)
	}
	// whatever the file says by then, the rename is known
	w.called("a", "")
	if p := w.plan().Plan; len(p.Changes) != 1 || p.Changes[0].Action != plan.Rename || p.Changes[0].Key != key("namespace/a") {
		t.Errorf("the file went back, and the plan is %v", p.Changes)
	}
	w.called("d", "c") // which was never recorded
	if err := rename(nil); err != nil || len(registry.renamed) != 0 {
		t.Errorf("of a chain the registry remembers %v: %v", registry.renamed, err)
	}
	if d := cmp.Diff([]string{"access/d", "namespace/d", "webhook/d/ci"}, w.owned()); d != "" {
		t.Error(d)
	}
}

func TestARecordOfWhatIsGoneIsNoObstacleToARename(t *testing.T) {
	w := newWorld(t, mode(t))
	w.mustApply("")
	for _, o := range w.inv.Objects {
		if o.Key == key("namespace/a") || o.Key == key("webhook/a/ci") {
			o.Key.Name = "c" + o.Key.Name[1:]
			w.inv.Put(o)
		}
	}
	w.called("c", "a")
	w.mustApply("")
	if d := cmp.Diff([]string{"access/c", "namespace/c", "webhook/c/ci"}, w.owned()); d != "" {
		t.Error(d)
	}
	if p := w.plan().Plan; p.Pending() {
		t.Errorf("the next plan: %v", p.Changes)
	}
}
