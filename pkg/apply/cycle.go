// Package apply is the loop of ocisync: read, compare, prepare, guard, and,
// when asked, write and prove.
//
// [Cycle.Plan] is the one function that plan, apply, drift and the watcher
// share; [Cycle.Apply] runs a plan. The package knows registries only through
// providers.Provider and never which one it has.
package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/state"
	"github.com/ocisync/ocisync/schema"
)

// Cycle is what one run works with. Its methods do not change it.
type Cycle struct {
	Config   *schema.Config
	Provider providers.Provider
	// Content writes the kinds of content into that registry; nil where the provider
	// takes them itself, or nobody does.
	Content providers.Provider
	// Inventory and Trust are what state.Open returned; Key is zero where the
	// run has no state key.
	Inventory state.Inventory
	Trust     state.Trust
	Key       state.Key
	// AtHand returns the value a reference stands for, or false where it
	// cannot be had now. A plan passes secret.Resolver.AtHand, so that no
	// command runs; an apply passes a resolver of everything.
	AtHand func(context.Context, schema.SecretRef) (string, bool, error)
	Today  schema.Date
	// Approved is the digest given with --approve, or "".
	Approved string
	// Anew lets a run replace an inventory that cannot be trusted by a new
	// one; without it such an inventory is left for somebody to look at.
	Anew bool
	// New lets a run begin with a registry that was never told anything, where
	// one was known before.
	New bool
	// Whole reads every kind the registry has, to list all that is neither
	// declared nor owned.
	Whole bool
	// Remarks are what the caller has to say of the plan as a whole.
	Remarks []string

	// proof is of a run that was just made, and lists what that did; nil for a plan.
	proof map[schema.Key]bool
}

// Found is what a cycle saw and concluded.
type Found struct {
	Plan    plan.Plan
	Desired schema.State // in the provider's normal form
	Live    schema.State
	// Digest is the plan's approval before anything was released by one.
	Digest string
	// Where is where the registry is, seen from here; AsOf lists the kinds
	// of which Live is what the inventory recorded.
	Where providers.Place
	AsOf  []schema.Kind
	// Sampled is how many objects of Live were not read, since others that the run
	// made alike were: see [providers.Prover].
	Sampled int
}

// Plan reads the registry and returns what would be done. It writes nothing,
// whatever the provider: it uses it read-only.
func (c Cycle) Plan(ctx context.Context) (Found, error) {
	p := providers.ReadOnly(c.whole())
	desired, notes, err := p.Normalize(c.Config.Desired)
	if err != nil {
		return Found{}, fmt.Errorf("mode %s: %w", c.Config.Mode, err)
	}
	where, err := c.where(ctx)
	if err != nil {
		return Found{}, err
	}
	live, sampled, err := c.read(ctx, p, c.scope(desired))
	if err != nil {
		return Found{}, err
	}
	live, recorded := c.asRecorded(live, where, c.scope(desired))
	if err := errors.Join(desired.Sort(), live.Sort()); err != nil {
		return Found{}, err
	}
	matches, unresolved, err := c.secrets(ctx, p, desired, live)
	if err != nil {
		return Found{}, err
	}
	owner, policy := c.ownership(matches), c.policy(desired)
	draft := plan.Diff(plan.Input{
		Mode:       c.Config.Mode,
		Registry:   plan.Registry{Type: c.Config.Registry.Type, URL: c.Config.Registry.URL},
		Desired:    desired,
		Live:       live,
		Directives: c.Config.Directives,
		Policy:     policy,
		Table:      p.Capabilities(),
		Ownership:  owner,
		Today:      c.Today,
	})
	draft.Notes = slices.Concat(draft.Notes, notes, unresolved, c.remoteness(where, recorded))
	for i, ch := range draft.Changes {
		if slices.Contains(recorded, ch.Key.Kind) {
			draft.Changes[i].AsOf = c.recordedAt()
		}
	}
	lost, err := c.lost(ctx, live)
	if err != nil {
		return Found{}, err
	}
	if lost != "" && c.Trust.Level == state.Lost {
		c.Trust.Remedy = "restore both, or make the registry anew with --new"
	}
	draft.Notes = append(draft.Notes, c.remarks(draft, live)...)
	for _, p := range []providers.Provider{c.Provider, c.Content} {
		r, ok := p.(providers.Remarker)
		if !ok {
			continue
		}
		more, err := r.Remarks(ctx, desired, c.now())
		if err != nil {
			return Found{}, err
		}
		draft.Notes = append(draft.Notes, more...)
	}
	if lost != "" {
		draft.Refusals = append(draft.Refusals, plan.Refusal{Field: "registry", Why: lost})
	}
	draft, held, err := prepare(ctx, p, draft)
	if err != nil {
		return Found{}, err
	}
	for c.Inventory.Approved(draft.Approval()) {
		draft.Again++
	}
	guarded := plan.Guard(draft, plan.GuardInput{
		Policy: policy, Ownership: owner, Desired: desired, Live: live, Held: held, Approved: c.Approved,
	})
	if needs := plan.Needs(guarded); len(needs.Repositories) > 0 {
		content, err := p.Read(ctx, needs)
		if err != nil {
			return Found{}, err
		}
		known := live
		known.Repositories, known.Scope.Repositories = content.Repositories, content.Scope.Repositories
		guarded = plan.WithImpact(guarded, known)
	}
	return Found{Plan: guarded, Desired: desired, Live: live, Digest: guarded.Approval(), Where: where, AsOf: recorded, Sampled: sampled}, nil
}

// read reads the registry, or what proves a run of it.
func (c Cycle) read(ctx context.Context, p providers.Provider, scope schema.Scope) (live schema.State, sampled int, err error) {
	if prover, ok := c.Provider.(providers.Prover); ok && c.proof != nil {
		return prover.Prove(ctx, scope)
	}
	live, err = p.Read(ctx, scope)
	return live, 0, err
}

// whole is the provider of all kinds.
func (c Cycle) whole() providers.Provider { return providers.Join(c.Provider, c.Content) }

// lost says that a registry which was applied to before knows nothing now, as
// after a lost state or on a disk that is not mounted, or has lost what it runs with, or "".
func (c Cycle) lost(ctx context.Context, live schema.State) (string, error) {
	if c.New || c.Trust.Known == "" {
		return "", nil
	}
	if r, ok := c.Provider.(providers.Blank); ok && len(live.Resources) == 0 {
		missing, err := r.Blank(ctx)
		if err != nil {
			return "", err
		}
		if missing != "" {
			return fmt.Sprintf("it is blank, although %s; restore %s from a backup, or make the registry anew with --new", c.Trust.Known, missing), nil
		}
	}
	r, ok := c.Provider.(providers.Bereft)
	if !ok {
		return "", nil
	}
	what, remedy, err := r.Bereft(ctx)
	if err != nil || what == "" {
		return "", err
	}
	return fmt.Sprintf("%s, although %s; %s, or make the registry anew with --new", what, c.Trust.Known, remedy), nil
}

// now is the beginning of the run's day, in UTC.
func (c Cycle) now() time.Time {
	return time.Date(c.Today.Year, time.Month(c.Today.Month), c.Today.Day, 0, 0, 0, 0, time.UTC)
}

// scope is what must be read: the kinds the file declares, those of what
// ocisync owns, and those it may prune.
func (c Cycle) scope(desired schema.State) schema.Scope {
	kinds := desired.Kinds()
	var owned []schema.Key
	for _, o := range c.Inventory.Objects {
		if o.Owned {
			owned = append(owned, o.Key)
		}
		if !slices.Contains(kinds, o.Key.Kind) {
			kinds = append(kinds, o.Key.Kind)
		}
	}
	if c.Whole {
		kinds = append(kinds, c.whole().Capabilities().Kinds()...)
	}
	scope := schema.ScopeOf(slices.Concat(kinds, c.Config.Policy.Prune)...)
	scope.Owned = owned
	return scope
}

// remarks are what every plan says about the run itself.
func (c Cycle) remarks(draft plan.Plan, live schema.State) []plan.Note {
	var out []plan.Note
	say := func(text string) { out = append(out, plan.Note{Text: text}) }
	if t := c.Config.Registry.TLS; t != nil && t.Insecure != nil && *t.Insecure {
		say("registry.tls.insecure is set: the registry's certificate is not checked")
	}
	if r := c.Config.Registry.Run; r != nil && r.Storage.Unchecked() {
		say("registry.run.storage has skipverify: the store's certificate is not checked")
	}
	if c.Config.Backup != nil {
		say("backup is declared: ocisync backup makes it, and this version makes none by its schedule, and removes none by its keep")
	}
	if w := c.Config.Watch; len(w.Freeze)+len(w.Open) > 0 {
		say("watch.freeze and watch.open are declared, and this version of ocisync goes by neither: no apply waits for them yet")
	}
	for _, text := range c.Remarks {
		say(text)
	}
	deletes := slices.ContainsFunc(draft.Changes, func(ch plan.Change) bool { return ch.Deletes() > 0 })
	switch {
	case c.Trust.First && deletes:
		say(c.Trust.String())
	case c.Trust.Level == state.Absent && c.Config.State.Key == nil && c.Config.State.Verify == "" && c.AtHand != nil:
		say("the inventory that apply begins is not signed, so nothing is ever pruned by it; " + state.MakeAKey)
	case c.Trust.Level == state.Signed, c.Trust.Level == state.Absent && len(c.Inventory.Objects) == 0:
	default:
		say(c.Trust.String())
	}
	return append(out, c.unread(live.Scope.Except)...)
}

// unread says what could not be read: one by one what the file declares or ocisync owns,
// the rest in one line.
func (c Cycle) unread(except []schema.Key) []plan.Note {
	const left = "could not be read, so left alone"
	var out []plan.Note
	var others []schema.Key
	for _, k := range except {
		one := schema.Scope{Kinds: []schema.Kind{k.Kind}, Except: []schema.Key{k}}
		within := func(key schema.Key) bool { return key.Kind == k.Kind && !one.Covers(key) }
		switch {
		case k.Name == "/": // all in no namespace: the provider has said why
		case slices.ContainsFunc(c.Config.Desired.Resources, func(r schema.Resource) bool { return within(r.Key) }),
			slices.ContainsFunc(c.Inventory.Objects, func(o state.Object) bool { return within(o.Key) }):
			out = append(out, plan.Note{Key: k, Text: left})
		default:
			others = append(others, k)
		}
	}
	slices.SortFunc(others, schema.Key.Compare)
	switch n := len(others); {
	case n == 1:
		out = append(out, plan.Note{Key: others[0], Text: left})
	case n > 1:
		out = append(out, plan.Note{Text: fmt.Sprintf("%s: %s and %d more that nothing here declares", left, others[0], n-1)})
	}
	return out
}

// prepare asks the provider how each change would take effect, and which must be
// approved.
func prepare(ctx context.Context, p providers.Provider, draft plan.Plan) (_ plan.Plan, held map[schema.Key]string, err error) {
	var ask []plan.Change
	var at []int
	for i, c := range draft.Changes {
		if !c.Recorded() {
			ask, at = append(ask, c), append(at, i)
		}
	}
	if len(ask) == 0 {
		return draft, nil, nil
	}
	verdicts, err := p.Prepare(ctx, ask)
	if err != nil {
		return plan.Plan{}, nil, err
	}
	if len(verdicts) != len(ask) {
		return plan.Plan{}, nil, fmt.Errorf("provider prepared %d of %d changes", len(verdicts), len(ask))
	}
	held = map[schema.Key]string{}
	for j, v := range verdicts {
		c := &draft.Changes[at[j]]
		if v.Effect != "" {
			c.Effect = v.Effect
		}
		if v.Refused != "" {
			draft.Refusals = append(draft.Refusals, plan.Refusal{Key: c.Key, Why: v.Refused, Source: c.Source})
		}
		if v.Held != "" {
			held[c.Key] = v.Held
		}
		c.Impact = append(c.Impact, v.Impact...)
		for _, n := range v.Notes {
			draft.Notes = append(draft.Notes, plan.Note{Key: c.Key, Text: n})
		}
	}
	return draft, held, nil
}
