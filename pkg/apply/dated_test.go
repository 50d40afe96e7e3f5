package apply_test

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/state"
	"github.com/ocisync/ocisync/schema"
)

// dating is a registry that tells when an object was changed last, and counts what it is
// asked to compare. What was written since it was opened it knows the second of.
type dating struct {
	providers.Provider
	values providertest.Secrets
	now    *time.Time

	mu      *sync.Mutex
	wrote   map[schema.Key]string // the value
	at      map[schema.Key]time.Time
	changed map[schema.Key]time.Time // by anybody
	asked   map[schema.Key]int
}

func newDating(p providers.Provider, now *time.Time) dating {
	return dating{
		Provider: p, now: now, mu: new(sync.Mutex), wrote: map[schema.Key]string{}, at: map[schema.Key]time.Time{},
		changed: map[schema.Key]time.Time{}, asked: map[schema.Key]int{},
	}
}

// again is another process's.
func (d dating) again() dating {
	out := newDating(d.Provider, d.now)
	out.changed = d.changed
	return out
}

func (d dating) Write(ctx context.Context, changes []plan.Change, report func(schema.Key, error)) error {
	d.mu.Lock()
	for _, c := range changes {
		d.changed[c.Key] = *d.now
		if c.After == nil {
			continue
		}
		for _, f := range schema.Secrets(c.After.Spec) {
			value, err := d.values.Resolve(ctx, f.Ref)
			listed := slices.ContainsFunc(c.Fields, func(x plan.Field) bool { return x.Path == f.Path })
			if err == nil && (listed || c.Action == plan.Create) {
				d.wrote[c.Key], d.at[c.Key] = value, *d.now
			}
		}
	}
	d.mu.Unlock()
	return d.Provider.Write(ctx, changes, report)
}

func (d dating) Check(ctx context.Context, k schema.Key, field string, ref schema.SecretRef) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked[k]++
	equal, err := d.Provider.(providers.Checker).Check(ctx, k, field, ref)
	if value, bad := d.values.Resolve(ctx, ref); equal && bad == nil {
		d.wrote[k], d.at[k] = value, d.changed[k]
	}
	return equal, err
}

func (d dating) AsOf(k schema.Key, _, value string) time.Time {
	if d.wrote[k] != value {
		return time.Time{}
	}
	return d.at[k]
}

func (d dating) Untouched(k schema.Key, asOf time.Time) bool { return !d.changed[k].After(asOf) }

// tried are the objects of which a secret was compared since it was asked last.
func (d dating) tried() []string {
	out := []string{}
	for _, k := range slices.SortedFunc(maps.Keys(d.asked), schema.Key.Compare) {
		out = append(out, k.String())
	}
	clear(d.asked)
	return out
}

func (w *world) dated(t *testing.T, now *time.Time) dating {
	t.Helper()
	d := newDating(w.provider, now)
	w.provider = d
	return d
}

// declares has the mode say something else of an object.
func (w *world) declares(name string, spec schema.Spec) {
	w.cfg.Desired.Resources = slices.Clone(w.cfg.Desired.Resources)
	i := slices.IndexFunc(w.cfg.Desired.Resources, func(r schema.Resource) bool { return r.Key == key(name) })
	w.cfg.Desired.Resources[i].Spec = spec
}

func user(env string) *schema.User { return &schema.User{Password: &schema.SecretRef{Env: env}} }

// somebody gives a user another password.
func (w *world) somebody(d dating, name, env string) {
	w.t.Helper()
	r := schema.Resource{Key: key(name), Spec: user(env)}
	c := plan.Change{Action: plan.Update, Key: r.Key, After: &r, Fields: []plan.Field{{Path: "password"}}}
	d.changed[r.Key] = *d.now
	if err := d.Provider.Write(w.t.Context(), []plan.Change{c}, func(_ schema.Key, err error) {
		if err != nil {
			w.t.Error(err)
		}
	}); err != nil {
		w.t.Fatal(err)
	}
}

func TestASecretIsComparedWhereItMayHaveChanged(t *testing.T) {
	const bob = "user/bob"
	for name, c := range map[string]struct {
		since  func(w *world, d dating, now *time.Time)
		tried  []string
		update int
	}{
		"nothing": {func(*world, dating, *time.Time) {}, nil, 0},
		"somebody changed it": {func(w *world, d dating, now *time.Time) {
			*now = now.Add(time.Second)
			w.somebody(d, bob, providertest.SecretA)
		}, []string{bob}, 1},
		"somebody changed the object": {func(_ *world, d dating, now *time.Time) {
			d.changed[key(bob)] = now.Add(time.Second)
		}, []string{bob}, 0},
		"the mode has another": {func(w *world, _ dating, _ *time.Time) {
			w.declares(bob, user(providertest.SecretA))
		}, []string{bob}, 1},
		"the key is not at hand": {func(w *world, _ dating, _ *time.Time) { w.key = state.Key{} }, []string{"user/alice", bob}, 0},
		"the inventory is from before": {func(w *world, _ dating, _ *time.Time) {
			o, _ := w.inv.Get(key(bob))
			o.Hashes = []state.Hash{w.key.Hash(o.Key, "password", w.valueOf(providertest.SecretB), time.Time{})}
			w.inv.Put(o)
		}, []string{bob}, 0},
		"the inventory knows no hash": {func(w *world, _ dating, _ *time.Time) {
			o, _ := w.inv.Get(key(bob))
			o.Hashes = nil
			w.inv.Put(o)
		}, []string{bob}, 0},
		"there is no inventory": {func(w *world, _ dating, _ *time.Time) { w.inv.Objects = nil }, []string{"user/alice", bob}, 0},
	} {
		now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
		w := newWorld(t, mode(t))
		d := w.dated(t, &now)
		w.mustApply("")
		d = d.again()
		w.provider = d
		d.tried()
		c.since(w, d, &now)
		found := w.plan()
		if got := d.tried(); !slices.Equal(got, c.tried) || found.Plan.Count().Update != c.update {
			t.Errorf("%s: compared were %v, and the plan is %v", name, got, found.Plan.Changes)
		}
	}
}

func (w *world) valueOf(env string) string {
	value, err := providertest.Secrets{}.Resolve(w.t.Context(), schema.SecretRef{Env: env})
	if err != nil {
		w.t.Fatal(err)
	}
	return value
}

// What a run wrote it proves by comparing, although it noted when; what it left alone it
// does not compare again.
func TestWhatARunWroteItCompares(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	w := newWorld(t, mode(t))
	d := w.dated(t, &now)
	w.mustApply("")
	w.declares("user/bob", user(providertest.SecretA))
	_, report := w.mustApply("")
	d.tried()
	if _, err := w.cycle().Verify(t.Context(), report); err != nil {
		t.Fatal(err)
	}
	if got := d.tried(); !slices.Equal(got, []string{"user/bob"}) {
		t.Errorf("compared were %v", got)
	}
}

// An object that is changed in all but its secret is compared until a run that writes
// anything at all takes note of what it saw; for that alone none is written.
func TestWhatWasSeenOfASecretIsRecordedWithSomethingElse(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	w := newWorld(t, mode(t))
	d := w.dated(t, &now)
	w.mustApply("")
	next := func(want ...string) {
		t.Helper()
		now = now.Add(time.Minute)
		d = d.again()
		w.provider = d
		if _, report := w.mustApply(""); len(report.Lines) > 1 {
			t.Fatalf("%+v", report.Lines)
		}
		if got := d.tried(); !slices.Equal(got, want) {
			t.Errorf("compared were %v, want %v", got, want)
		}
	}
	next()
	bob := user(providertest.SecretB)
	bob.Email = ptr("bob@example.com")
	w.declares("user/bob", bob)
	next() // this writes it
	saves := w.saves
	next("user/bob")
	if w.saves != saves {
		t.Error("a run with nothing to do wrote an inventory")
	}
	w.declares("namespace/a", &schema.Namespace{Description: ptr("another")})
	next("user/bob")
	if w.saves != saves+1 {
		t.Error("a run that changed something wrote no inventory")
	}
	next()
	w.somebody(d, "user/bob", providertest.SecretA)
	if found := w.plan(); found.Plan.Count().Update != 1 {
		t.Errorf("what somebody changed since is not seen: %v", found.Plan.Changes)
	}
}

// A run that is killed before its inventory is stored leaves no second, and what it wrote
// is compared.
func TestAKillBeforeTheInventoryIsSavedLeavesNoSecond(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	w := newWorld(t, mode(t))
	d := w.dated(t, &now)
	w.mustApply("")
	before := w.inv
	now = now.Add(time.Minute)
	w.declares("user/bob", user(providertest.SecretA))
	w.mustApply("")
	w.inv = before
	for _, c := range []struct {
		env    string
		update int
	}{{providertest.SecretA, 0}, {providertest.SecretB, 1}} {
		d = d.again()
		w.provider = d
		w.declares("user/bob", user(c.env))
		found := w.plan()
		if got := d.tried(); !slices.Equal(got, []string{"user/bob"}) || found.Plan.Count().Update != c.update {
			t.Errorf("%s: compared were %v, and the plan is %v", c.env, got, found.Plan.Changes)
		}
	}
}
