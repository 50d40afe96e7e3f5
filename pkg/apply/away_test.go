package apply_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/apply"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/state"
	"github.com/ocisync/ocisync/schema"
)

// hosted is a registry of which users and namespaces are known on its host alone.
type hosted struct {
	providers.Provider
	where providers.Place
}

func (h *hosted) Where(context.Context) (providers.Place, error) { return h.where, nil }
func (h *hosted) Filed() []schema.Kind                           { return []schema.Kind{schema.KindNamespace, schema.KindUser} }

func (h *hosted) filed(k schema.Kind) bool {
	return h.where != providers.Here && slices.Contains(h.Filed(), k)
}

func (h *hosted) Read(ctx context.Context, scope schema.Scope) (schema.State, error) {
	scope.Kinds = slices.DeleteFunc(slices.Clone(scope.Kinds), h.filed)
	return h.Provider.Read(ctx, scope)
}

func (h *hosted) Write(ctx context.Context, changes []plan.Change, report func(schema.Key, error)) error {
	for _, c := range changes {
		if h.filed(c.Key.Kind) {
			report(c.Key, fmt.Errorf("%w: on another host", providers.ErrPending))
		}
	}
	return h.Provider.Write(ctx, slices.DeleteFunc(slices.Clone(changes), func(c plan.Change) bool { return h.filed(c.Key.Kind) }), report)
}

func TestOfAnotherHostThePlanIsMadeByWhatWasRecordedThere(t *testing.T) {
	w := newWorld(t, mode(t))
	h := &hosted{w.provider, providers.Here}
	w.provider = h
	if _, _, err := w.apply(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	change := func(r schema.Resource) {
		i := slices.IndexFunc(w.cfg.Desired.Resources, func(x schema.Resource) bool { return x.Key == r.Key })
		w.cfg.Desired.Resources[i] = r
	}
	h.where = providers.Away
	if f := w.plan(); f.Plan.Pending() || len(f.AsOf) != 2 || len(f.Untold()) > 0 {
		t.Errorf("as applied: %+v, nothing is known of %v", f.Plan.Changes, f.Untold())
	}
	change(schema.Resource{Key: key("namespace/a"), Spec: &schema.Namespace{Description: ptr("another")}})
	change(schema.Resource{Key: key("group/devs"), Spec: &schema.Group{Users: schema.NewSet("alice")}})
	far := w.plan()
	h.where = providers.Here
	if near := w.plan(); near.Digest != far.Digest {
		t.Errorf("on its host the digest is %s, from another %s", near.Digest, far.Digest)
	}
	if n := len(far.Plan.Changes); n != 2 {
		t.Fatalf("%d changes: %+v", n, far.Plan.Changes)
	}
	for _, c := range far.Plan.Changes {
		if recorded := c.Key.Kind == schema.KindNamespace; (c.AsOf != "") != recorded {
			t.Errorf("%s: as of %q", c.Key, c.AsOf)
		}
	}
	// what can be done from here is, and what cannot is not taken for done
	h.where = providers.Away
	before := w.inv
	_, report, err := w.apply(t.Context(), "")
	if err != nil || report.Count(apply.Done) != 1 || report.Count(apply.Failed) != 1 {
		t.Errorf("%+v, %v", report.Lines, err)
	}
	if o, _ := w.inv.Get(key("namespace/a")); *o.Spec.(*schema.Namespace).Description != "one" {
		t.Errorf("recorded: %+v", o.Spec)
	}
	if w.inv.Revision != before.Revision || !w.inv.Time.Equal(before.Time) {
		t.Errorf("the inventory is of %s, %s by now; it was of %s, %s", w.inv.Revision, w.inv.Time, before.Revision, before.Time)
	}
	if f := w.plan(); len(f.Plan.Changes) != 1 || f.Plan.Changes[0].Key != key("namespace/a") {
		t.Errorf("after it: %+v", f.Plan.Changes)
	}
}

func TestOfAnotherHostNothingIsKnownThatIsNotRecorded(t *testing.T) {
	w := newWorld(t, mode(t))
	w.provider = &hosted{w.provider, providers.Away}
	f := w.plan()
	if slices.ContainsFunc(f.Plan.Changes, func(c plan.Change) bool { return c.Key.Kind == schema.KindUser }) {
		t.Errorf("%+v", f.Plan.Changes)
	}
	if untold := f.Untold(); !slices.Contains(untold, key("namespace/a")) || slices.Contains(untold, key("group/devs")) {
		t.Errorf("nothing is known of %v", untold)
	}
	if !slices.ContainsFunc(f.Plan.Notes, func(n plan.Note) bool { return strings.Contains(n.Text, "files of another host, and nothing") }) {
		t.Errorf("notes %+v", f.Plan.Notes)
	}
}

func TestARegistryThatIsNowhereIsNewOnlyWhereSomebodySaysSo(t *testing.T) {
	w := newWorld(t, mode(t))
	w.provider = &hosted{w.provider, providers.Nowhere}
	if _, err := w.cycle().Plan(t.Context()); !errors.Is(err, apply.ErrNowhere) || !strings.Contains(err.Error(), "--new") || !strings.Contains(err.Error(), "another host") {
		t.Errorf("error %v", err)
	}
	c := w.cycle()
	c.New = true
	if _, err := c.Plan(t.Context()); err != nil {
		t.Error(err)
	}
	c.New, c.Trust = false, state.Trust{Level: state.Signed, Known: "the inventory has 3 objects"}
	if _, err := c.Plan(t.Context()); err != nil { // which is refused where it is blank
		t.Error(err)
	}
}

// bereft is a registry that has its objects and not what it runs with.
type bereft struct{ providers.Provider }

func (bereft) Bereft(context.Context) (what, remedy string, err error) {
	return "config.yml is gone", "restore it", nil
}

func TestARegistryThatLostWhatItRunsWithIsNotMadeAnewUnasked(t *testing.T) {
	w := newWorld(t, mode(t))
	w.mustApply("")
	w.provider = bereft{w.provider}
	c := w.cycle()
	c.Trust.Known = ""
	if f, err := c.Plan(t.Context()); err != nil || len(f.Plan.Refusals) != 0 {
		t.Errorf("of one that was not applied to: %v, %+v", err, f.Plan.Refusals)
	}
	c.Trust.Known = "the inventory records 3 of its objects"
	f, err := c.Plan(t.Context())
	if err != nil || len(f.Plan.Refusals) != 1 || f.Plan.Refusals[0].Why != "config.yml is gone, although the inventory records 3 of its objects; restore it, or make the registry anew with --new" {
		t.Errorf("%v, %+v", err, f.Plan.Refusals)
	}
	c.New = true
	if f, err := c.Plan(t.Context()); err != nil || len(f.Plan.Refusals) != 0 {
		t.Errorf("where that is meant: %v, %+v", err, f.Plan.Refusals)
	}
}
