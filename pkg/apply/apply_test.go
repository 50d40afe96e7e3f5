package apply_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/apply"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/memory"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/state"
	"github.com/ocisync/ocisync/schema"
)

// world is a registry, a mode and an inventory that lasts between runs.
type world struct {
	mayNot   error // what a secret is refused with that has no value
	t        *testing.T
	provider providers.Provider
	cfg      *schema.Config
	inv      state.Inventory
	trust    state.Trust
	key      state.Key
	saves    int
	journal  journal
}

type journal struct {
	begun, ended []schema.Key
	failAt       int // the n-th Begin fails
}

func (j *journal) Begin(changes ...plan.Change) error {
	if j.failAt > 0 {
		if j.failAt--; j.failAt == 0 {
			return errors.New("disk full")
		}
	}
	for _, c := range changes {
		j.begun = append(j.begun, c.Key)
	}
	return nil
}

func (j *journal) End(results ...state.Result) error {
	for _, r := range results {
		j.ended = append(j.ended, r.Change.Key)
	}
	return nil
}

func ptr[T any](v T) *T { return &v }

func key(s string) schema.Key {
	k, err := schema.ParseKey(s)
	if err != nil {
		panic(err)
	}
	return k
}

// mode declares two users, a group, two namespaces with access, and a robot.
func mode(t *testing.T) *schema.Config {
	t.Helper()
	return modeOf(t,
		schema.Resource{Key: key("user/alice"), Spec: &schema.User{Admin: ptr(true), Password: &schema.SecretRef{Env: providertest.SecretA}}},
		schema.Resource{Key: key("user/bob"), Spec: &schema.User{Password: &schema.SecretRef{Env: providertest.SecretB}}},
		schema.Resource{Key: key("group/devs"), Spec: &schema.Group{Users: schema.NewSet("alice", "bob")}},
		schema.Resource{Key: key("namespace/a"), Spec: &schema.Namespace{Description: ptr("one")}},
		schema.Resource{Key: key("namespace/b"), Spec: &schema.Namespace{Description: ptr("two")}},
		schema.Resource{Key: key("access/a"), Spec: &schema.Access{Users: schema.NewGrants(
			schema.Grant{Name: "alice", Rights: schema.Admin}, schema.Grant{Name: "bob", Rights: schema.Pull})}},
		schema.Resource{Key: key("access/b"), Spec: &schema.Access{Anonymous: ptr(schema.Pull), Groups: schema.NewGrants(
			schema.Grant{Name: "devs", Rights: schema.Pull | schema.Push})}},
		schema.Resource{Key: key("webhook/a/ci"), Spec: &schema.Webhook{URL: ptr("https://ci.example.com"), Events: schema.NewSet("push")}},
		schema.Resource{Key: key("webhook/b/ci"), Spec: &schema.Webhook{URL: ptr("https://ci.example.com"), Events: schema.NewSet("push")}},
	)
}

func modeOf(t *testing.T, rs ...schema.Resource) *schema.Config {
	t.Helper()
	s := schema.State{Resources: rs}
	if err := s.Sort(); err != nil {
		t.Fatal(err)
	}
	s.Scope = schema.ScopeOf(s.Kinds()...)
	return &schema.Config{Mode: "test", Registry: schema.Registry{Type: schema.TypeMemory, URL: "memory://test"}, Desired: s}
}

func newWorld(t *testing.T, cfg *schema.Config) *world {
	t.Helper()
	p, err := memory.New(providertest.Secrets{}, schema.State{})
	if err != nil {
		t.Fatal(err)
	}
	k, err := state.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, provider: p, cfg: cfg, key: k, trust: state.Trust{Level: state.Absent}}
}

func (w *world) cycle() apply.Cycle {
	return apply.Cycle{
		Config: w.cfg, Provider: w.provider, Inventory: w.inv, Trust: w.trust, Key: w.key,
		AtHand: func(ctx context.Context, ref schema.SecretRef) (string, bool, error) {
			v, err := providertest.Secrets{}.Resolve(ctx, ref)
			if err != nil {
				return "", false, w.mayNot
			}
			return v, true, nil
		},
		Today: schema.Date{Year: 2026, Month: 11, Day: 23},
	}
}

func (w *world) plan() apply.Found {
	w.t.Helper()
	f, err := w.cycle().Plan(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return f
}

func (w *world) apply(ctx context.Context, approved string) (apply.Found, apply.Report, error) {
	w.t.Helper()
	c := w.cycle()
	c.Approved = approved
	found, err := c.Plan(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	report, err := c.Apply(ctx, found, apply.Run{
		Who: state.Run{ID: "run"}, Journal: &w.journal,
		Save: func(_ context.Context, inv state.Inventory) error {
			w.saves++
			inv.Mode, inv.Registry = w.cfg.Mode, plan.Registry{Type: w.cfg.Registry.Type, URL: w.cfg.Registry.URL}
			data, err := state.Seal(inv, w.key)
			if err != nil {
				return err
			}
			w.inv, w.trust = state.Open(data, inv.Identity(), w.key.Public(), 0)
			return nil
		},
	})
	return found, report, err
}

func (w *world) mustApply(approved string) (apply.Found, apply.Report) {
	w.t.Helper()
	found, report, err := w.apply(w.t.Context(), approved)
	if err != nil {
		w.t.Fatal(err)
	}
	return found, report
}

func (w *world) live() schema.State {
	w.t.Helper()
	s, err := w.provider.Read(w.t.Context(), schema.ScopeOf(schema.Kinds()...))
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) without(drop ...string) {
	w.cfg.Desired.Resources = slices.DeleteFunc(slices.Clone(w.cfg.Desired.Resources), func(r schema.Resource) bool {
		return slices.Contains(drop, r.Key.String())
	})
}

func TestASecondApplyWritesNothing(t *testing.T) {
	w := newWorld(t, mode(t))
	_, report := w.mustApply("")
	if got, want := report.Count(apply.Done), len(w.cfg.Desired.Resources); got != want {
		t.Fatalf("%d done, want %d: %+v", got, want, report.Lines)
	}
	if _, err := w.cycle().Verify(t.Context(), report); err != nil {
		t.Fatal(err)
	}
	before, saves := w.live(), w.saves
	f := providertest.FailNth(w.provider, 0, providertest.Before)
	w.provider = f
	found, _ := w.mustApply("")
	if found.Plan.Pending() || len(found.Plan.Changes) > 0 {
		t.Errorf("the second plan has changes: %v", found.Plan.Changes)
	}
	if len(f.Sent()) > 0 || w.saves != saves {
		t.Errorf("the second apply wrote %v, saved the inventory %d times more", f.Sent(), w.saves-saves)
	}
	if d := cmp.Diff(before, w.live()); d != "" {
		t.Error(d)
	}
}

// Whatever call fails, what names the failed object is not sent, and the next
// run does exactly the rest.
func TestAnyFailureIsMadeGoodByTheNextRun(t *testing.T) {
	for _, when := range []providertest.When{providertest.Before, providertest.After} {
		for n := 1; ; n++ {
			w := newWorld(t, mode(t))
			inner := w.provider
			faulty := providertest.FailNth(inner, n, when)
			w.provider = faulty
			_, report := w.mustApply("")
			if report.Count(apply.Failed) == 0 {
				if n <= len(w.cfg.Desired.Resources) {
					t.Fatalf("call %d did not fail", n)
				}
				break
			}
			var failed schema.Key
			done := map[schema.Key]bool{}
			for _, l := range report.Lines {
				if l.Outcome == apply.Failed {
					failed = l.Key
				}
				done[l.Key] = l.Outcome == apply.Done
			}
			for _, sent := range faulty.Sent() {
				r, _ := w.cfg.Desired.Get(sent)
				if slices.Contains(plan.Change{Key: sent, After: &r}.Needs(), failed) {
					t.Errorf("n=%d: %s was sent although %s failed", n, sent, failed)
				}
			}
			again := providertest.FailNth(inner, 0, providertest.Before)
			w.provider = again
			w.mustApply("")
			var rest []schema.Key
			for _, r := range w.cfg.Desired.Resources {
				tookEffect := done[r.Key] || when == providertest.After && r.Key == failed
				if !tookEffect {
					rest = append(rest, r.Key)
				}
			}
			got := again.Sent()
			slices.SortFunc(got, schema.Key.Compare)
			if d := cmp.Diff(rest, got); d != "" {
				t.Errorf("n=%d, %v: the second run did not do exactly the rest (-want +got):\n%s", n, when, d)
			}
			if w.plan().Plan.Pending() {
				t.Errorf("n=%d: did not converge", n)
			}
		}
	}
}

func TestNothingIsDeletedAfterAFailure(t *testing.T) {
	w := newWorld(t, mode(t))
	w.cfg.Policy.Prune = []schema.Kind{schema.KindWebhook}
	w.mustApply("")
	w.inv.MarkPruned(schema.KindWebhook)
	w.without("webhook/a/ci")
	w.cfg.Desired.Resources[slices.IndexFunc(w.cfg.Desired.Resources, func(r schema.Resource) bool { return r.Key == key("namespace/b") })].Spec = &schema.Namespace{Description: ptr("new")}
	w.provider = providertest.FailNth(w.provider, 1, providertest.Before)
	_, report := w.mustApply("")
	if report.Count(apply.Failed) != 1 || report.Count(apply.Skipped) != 1 {
		t.Errorf("%+v", report.Lines)
	}
	if _, ok := w.live().Get(key("webhook/a/ci")); !ok {
		t.Error("the webhook was deleted although an earlier change failed")
	}
}

func TestAnInterruptedRunSaysWhatWasDoneAndTheNextDoesTheRest(t *testing.T) {
	w := newWorld(t, mode(t))
	ctx, cancel := context.WithCancel(t.Context())
	c := w.cycle()
	found := w.plan()
	stages := 0
	report, err := c.Apply(ctx, found, apply.Run{Journal: &w.journal, Save: func(ctx context.Context, _ state.Inventory) error { return ctx.Err() },
		Report: func(l apply.Line) {
			if l.Outcome == apply.Done && l.Key.Kind == schema.KindNamespace {
				if stages++; stages == 1 {
					cancel()
				}
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	if report.Count(apply.Interrupted) == 0 || report.Count(apply.Done) == 0 || !report.Saved {
		t.Fatalf("%+v", report)
	}
	w.mustApply("")
	if w.plan().Plan.Pending() {
		t.Error("did not converge")
	}
}

// A run that was killed after the registry took a change, and before the
// inventory was saved, loses nothing: what was made is adopted.
func TestAKillBeforeTheInventoryIsSavedConverges(t *testing.T) {
	for after := 0; after <= 9; after++ {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			w := newWorld(t, mode(t))
			found := w.plan()
			stages := found.Plan.Stages(false)
			written := 0
			for _, st := range stages {
				if written >= after {
					break
				}
				written += len(st)
				if err := w.provider.Write(t.Context(), st, func(_ schema.Key, err error) {
					if err != nil {
						t.Error(err)
					}
				}); err != nil {
					t.Fatal(err)
				}
			}
			w.mustApply("")
			if f := w.plan(); len(f.Plan.Changes) > 0 {
				t.Errorf("did not converge: %v", f.Plan.Changes)
			}
			for _, r := range w.cfg.Desired.Resources {
				if !w.inv.Owns(r.Key) {
					t.Errorf("%s is not owned", r.Key)
				}
			}
		})
	}
}

func TestAJournalThatCannotBeWrittenStopsTheRunBeforeTheChange(t *testing.T) {
	w := newWorld(t, mode(t))
	w.journal.failAt = 2
	f := providertest.FailNth(w.provider, 0, providertest.Before)
	w.provider = f
	_, report, err := w.apply(t.Context(), "")
	if err == nil {
		t.Fatal("no error")
	}
	if got, want := f.Sent(), w.journal.begun; !slices.Equal(sorted(got), sorted(want)) {
		t.Errorf("sent %v, journalled %v", got, want)
	}
	if len(report.Lines) != len(w.cfg.Desired.Resources) {
		t.Errorf("%d lines", len(report.Lines))
	}
}

func sorted(keys []schema.Key) []schema.Key {
	return slices.SortedFunc(slices.Values(keys), schema.Key.Compare)
}

// Promise 4, on the loop as a whole: whatever happens to file or inventory,
// apply deletes nothing, and says what to type.
func TestNothingIsDeletedUnlessSomebodyMeantIt(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(*world)
		held bool // else forgotten, or left alone
	}{
		{"the file loses every namespace", func(w *world) {
			w.without("namespace/a", "namespace/b", "access/a", "access/b", "webhook/a/ci", "webhook/b/ci")
		}, false},
		{"the file loses every namespace and may prune them", func(w *world) {
			w.without("namespace/a", "namespace/b", "access/a", "access/b", "webhook/a/ci", "webhook/b/ci")
			w.cfg.Policy.Prune = []schema.Kind{schema.KindNamespace}
		}, true},
		{"every user of one access table", func(w *world) {
			i := slices.IndexFunc(w.cfg.Desired.Resources, func(r schema.Resource) bool { return r.Key == key("access/a") })
			w.cfg.Desired.Resources = slices.Clone(w.cfg.Desired.Resources)
			w.cfg.Desired.Resources[i].Spec = &schema.Access{Users: schema.Grants{}}
		}, true},
		{"the prune list grows by a kind", func(w *world) {
			w.without("webhook/a/ci")
			w.cfg.Policy.Prune = []schema.Kind{schema.KindWebhook}
		}, true},
		{"the inventory is deleted", func(w *world) {
			w.lose(nil, 5)
		}, false},
		{"the inventory is forged", func(w *world) {
			other, err := state.NewKey()
			if err != nil {
				w.t.Fatal(err)
			}
			data, err := state.Seal(w.inv, other)
			if err != nil {
				w.t.Fatal(err)
			}
			w.lose(data, 0)
		}, false},
		{"the inventory is rolled back", func(w *world) {
			data, err := state.Seal(w.inv, w.key)
			if err != nil {
				w.t.Fatal(err)
			}
			w.lose(data, 99)
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, mode(t))
			w.mustApply("")
			tc.do(w)
			before := w.live()
			found, _ := w.mustApply("")
			if d := cmp.Diff(before, w.live()); d != "" {
				t.Errorf("apply changed the registry:\n%s", d)
			}
			if tc.held != (len(found.Plan.Held) > 0) {
				t.Errorf("held: %v", found.Plan.Held)
			}
			if !tc.held && len(found.Plan.Notes) == 0 {
				t.Error("the plan says nothing about it")
			}
			if tc.held {
				w.mustApply(found.Digest)
				if cmp.Equal(before, w.live()) {
					t.Error("approved by its digest, and not done")
				}
			}
		})
	}
}

// TestNoInventoryIsBegunInThePlaceOfOneThatIsHidden: a registry that keeps it may show
// other content until what is held was approved.
func TestNoInventoryIsBegunInThePlaceOfOneThatIsHidden(t *testing.T) {
	w := newWorld(t, mode(t))
	w.mustApply("")
	for i, r := range w.cfg.Desired.Resources {
		if r.Key == key("access/a") {
			w.cfg.Desired.Resources[i].Spec = &schema.Access{Users: schema.NewGrants(schema.Grant{Name: "alice", Rights: schema.Admin})}
		}
	}
	w.inv, w.trust = state.Open(nil, w.inv.Identity(), w.key.Public(), 5)
	saves := w.saves
	found, _ := w.mustApply("")
	if w.trust.Level != state.Lost || len(found.Plan.Held) != 1 || w.saves != saves {
		t.Fatalf("%s, held is %+v, %d saves", w.trust.Level, found.Plan.Held, w.saves-saves)
	}
	if w.mustApply(found.Digest); w.saves != saves+1 {
		t.Errorf("once it is done: %d saves", w.saves-saves)
	}
}

// lose replaces the inventory by what a store would hold, and prunes.
func (w *world) lose(data []byte, seen state.Seen) {
	w.without("webhook/a/ci", "webhook/b/ci")
	w.cfg.Policy.Prune = []schema.Kind{schema.KindWebhook}
	w.inv, w.trust = state.Open(data, w.inv.Identity(), w.key.Public(), seen)
}

func TestASuspectInventoryIsNotWrittenOver(t *testing.T) {
	w := newWorld(t, mode(t))
	w.mustApply("")
	saves := w.saves
	w.trust = state.Trust{Level: state.Bad, Text: "forged"}
	w.inv = state.Inventory{}
	w.mustApply("")
	if w.saves != saves {
		t.Error("written over")
	}
}

func TestAPlanNeverWrites(t *testing.T) {
	w := newWorld(t, mode(t))
	f := providertest.FailNth(w.provider, 0, providertest.Before)
	w.provider = f
	w.plan()
	if len(f.Sent()) > 0 {
		t.Errorf("plan wrote %v", f.Sent())
	}
}

// proving proves its runs itself.
type proving struct {
	providers.Provider
	reads  *int
	proofs *int
}

func (p proving) Read(ctx context.Context, scope schema.Scope) (schema.State, error) {
	*p.reads++
	return p.Provider.Read(ctx, scope)
}

func (p proving) Prove(ctx context.Context, scope schema.Scope) (schema.State, int, error) {
	*p.proofs++
	st, err := p.Provider.Read(ctx, scope)
	return st, 3, err
}

func TestAProviderThatProvesARunIsAskedToAndNeverForAPlan(t *testing.T) {
	w := newWorld(t, mode(t))
	p := proving{w.provider, new(int), new(int)}
	w.provider = p
	found, report := w.mustApply("")
	if *p.proofs != 0 || *p.reads == 0 || found.Sampled != 0 {
		t.Errorf("a plan reads %d times, and takes %d proofs, of %d objects", *p.reads, *p.proofs, found.Sampled)
	}
	*p.reads = 0
	found, err := w.cycle().Verify(t.Context(), report)
	if err != nil || *p.proofs != 1 || *p.reads != 0 || found.Sampled != 3 {
		t.Errorf("a proof reads %d times, and asks for %d, of %d objects: %v", *p.reads, *p.proofs, found.Sampled, err)
	}
}

func TestWhatTheRegistryIgnoresIsFoundByReadingAgain(t *testing.T) {
	w := newWorld(t, mode(t))
	inner := w.provider
	w.provider = deaf{inner}
	_, report := w.mustApply("")
	if _, err := w.cycle().Verify(t.Context(), report); err == nil {
		t.Error("an apply that took no hold was believed")
	}
}

// deaf takes every change and makes none.
type deaf struct{ providers.Provider }

func (deaf) Write(_ context.Context, changes []plan.Change, report func(schema.Key, error)) error {
	for _, c := range changes {
		report(c.Key, nil)
	}
	return nil
}

func TestASecretThatChangedIsWritten(t *testing.T) {
	w := newWorld(t, mode(t))
	w.mustApply("")
	i := slices.IndexFunc(w.cfg.Desired.Resources, func(r schema.Resource) bool { return r.Key == key("user/bob") })
	w.cfg.Desired.Resources = slices.Clone(w.cfg.Desired.Resources)
	w.cfg.Desired.Resources[i].Spec = &schema.User{Password: &schema.SecretRef{Env: providertest.SecretA}}
	found := w.plan()
	if n := found.Plan.Count(); n.Update != 1 {
		t.Fatalf("%+v", found.Plan)
	}
	w.mustApply("")
	if w.plan().Plan.Pending() {
		t.Error("still pending")
	}
}

func TestASecretThatCannotBeResolvedIsNotCheckedAndStopsNothing(t *testing.T) {
	w := newWorld(t, mode(t))
	w.mustApply("")
	c := w.cycle()
	c.AtHand = func(_ context.Context, ref schema.SecretRef) (string, bool, error) {
		return "", false, fmt.Errorf("secret (%s): not allowed here", ref)
	}
	found, err := c.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if found.Plan.Pending() {
		t.Errorf("pending: %v", found.Plan.Changes)
	}
	want := plan.Note{Key: key("user/bob"), Text: "password: secret (env " + providertest.SecretB + "): not allowed here"}
	if !slices.Contains(found.Plan.Notes, want) {
		t.Errorf("notes: %v", found.Plan.Notes)
	}
}

// meeting is a registry that answers no comparison before all have been asked for, and
// refuses them if it may not.
type meeting struct {
	providers.Provider
	all *sync.WaitGroup
	err error
}

func (m meeting) Check(ctx context.Context, k schema.Key, field string, ref schema.SecretRef) (bool, error) {
	m.all.Done()
	m.all.Wait()
	if m.err != nil {
		return false, m.err
	}
	return m.Provider.(providers.Checker).Check(ctx, k, field, ref)
}

func TestSecretsAreComparedSideBySide(t *testing.T) {
	var all []schema.Resource
	for i := range 8 {
		all = append(all, schema.Resource{Key: key(fmt.Sprintf("user/u%d", i)), Spec: &schema.User{Password: &schema.SecretRef{Env: providertest.SecretA}}})
	}
	w := newWorld(t, modeOf(t, all...))
	w.mustApply("")
	inner := w.provider
	for _, refused := range []error{nil, providers.ErrUnreachable} {
		m := meeting{inner, new(sync.WaitGroup), refused}
		m.all.Add(len(all))
		w.provider = m
		if found, err := w.cycle().Plan(t.Context()); !errors.Is(err, refused) || err == nil && found.Plan.Pending() {
			t.Errorf("refused with %v: %v", refused, err)
		}
	}
}

// unchecked is a registry that compares no secrets, and counts the writes of each path.
type unchecked struct {
	providers.Provider
	written map[string]int
}

func (u unchecked) Write(ctx context.Context, changes []plan.Change, report func(schema.Key, error)) error {
	for _, c := range changes {
		for _, f := range c.Fields {
			u.written[f.Path]++
		}
	}
	return u.Provider.Write(ctx, changes, report)
}

// A registry has settings from the start. A secret among them that it never shows is
// given to it once, with or without a key that its hash is kept by.
func TestASecretSettingThatIsNeverShownIsGivenOnce(t *testing.T) {
	const path = "values.ldap.password"
	settings := func(env string) schema.Resource {
		return schema.Resource{Key: schema.Key{Kind: schema.KindSettings}, Spec: &schema.Settings{Values: schema.Values{{Path: "ldap.password", JSON: `{"env":"` + env + `"}`}}}}
	}
	for name, keyless := range map[string]bool{"with a key": false, "without one": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, modeOf(t, settings(providertest.SecretA)))
			live := schema.Resource{Key: schema.Key{Kind: schema.KindSettings}, Spec: &schema.Settings{Values: schema.Values{}}, Unread: []string{path}}
			p, err := memory.New(providertest.Secrets{}, schema.State{Resources: []schema.Resource{live}})
			if err != nil {
				t.Fatal(err)
			}
			u := unchecked{p, map[string]int{}}
			w.provider = u
			if keyless {
				w.key = state.Key{}
			}
			for range 2 {
				_, report := w.mustApply("")
				if _, err := w.cycle().Verify(t.Context(), report); err != nil {
					t.Fatal(err)
				}
			}
			if u.written[path] != 1 {
				t.Errorf("it is written %d times", u.written[path])
			}
			w.cfg = modeOf(t, settings(providertest.SecretB))
			want := 2
			if keyless { // nobody knows that it is another one
				want = 1
			}
			if w.mustApply(""); u.written[path] != want {
				t.Errorf("once it is another, it was written %d times", u.written[path])
			}
		})
	}
}

// A run without a secret of the settings, or that may not look it up, ends well and
// gives the registry the rest; the run that has it gives it, and records it no sooner.
func TestASecretSettingIsGivenOnceItIsAtHand(t *testing.T) {
	const path = "values.ldap.password"
	mode := func(env string) *schema.Config {
		return modeOf(t, schema.Resource{Key: schema.Key{Kind: schema.KindSettings}, Spec: &schema.Settings{Values: schema.Values{
			{Path: "ldap.password", JSON: `{"env":"` + env + `"}`}, {Path: "ldap.uid", JSON: `"uid"`},
		}}})
	}
	for name, mayNot := range map[string]error{"not at hand": nil, "not allowed": errors.New("its name does not begin with OCISYNC_")} {
		for keyless, key := range map[string]func(*world){"": func(*world) {}, ", without a key": func(w *world) { w.key = state.Key{} }} {
			t.Run(name+keyless, func(t *testing.T) {
				w := newWorld(t, mode(providertest.SecretMissing))
				live := schema.Resource{Key: schema.Key{Kind: schema.KindSettings}, Spec: &schema.Settings{Values: schema.Values{}}, Unread: []string{path}}
				p, err := memory.New(providertest.Secrets{}, schema.State{Resources: []schema.Resource{live}})
				if err != nil {
					t.Fatal(err)
				}
				u := unchecked{p, map[string]int{}}
				w.provider, w.mayNot = u, mayNot
				key(w)
				for range 2 {
					w.mustApply("")
				}
				if u.written["values.ldap.uid"] != 1 || u.written[path] != 0 {
					t.Errorf("without it it writes %v", u.written)
				}
				w.cfg = mode(providertest.SecretA)
				for range 2 {
					w.mustApply("")
				}
				if u.written[path] != 1 {
					t.Errorf("with it it is written %d times", u.written[path])
				}
			})
		}
	}
}

// An account that is there is recorded also by a run that may not look up its password.
func TestAPasswordThatARunMayNotLookUpStopsNoRecord(t *testing.T) {
	user := func(env string) *schema.Config {
		return modeOf(t, schema.Resource{Key: key("user/bob"), Spec: &schema.User{Password: &schema.SecretRef{Env: env}}})
	}
	w := newWorld(t, user(providertest.SecretA))
	w.mustApply("")
	w.cfg, w.mayNot = user(providertest.SecretMissing), errors.New("its name does not begin with OCISYNC_")
	w.mustApply("")
	if o, ok := w.inv.Get(key("user/bob")); !ok || o.Spec.(*schema.User).Password.Env != providertest.SecretMissing {
		t.Errorf("recorded is %+v", o)
	}
}
