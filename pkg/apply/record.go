package apply

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/state"
	"github.com/ocisync/ocisync/schema"
)

// record brings the inventory in step with what was done and saves it, unless
// nothing in it changed. It returns how many records a plan's adopt, forget
// and unprotect changes touched.
func (c Cycle) record(ctx context.Context, found Found, report Report, run Run) (recorded int, saved bool, err error) {
	if c.suspect() && !c.Anew {
		return 0, false, nil
	}
	away := found.Where == providers.Away
	if away && report.Count(Done) == 0 { // what its own host did is that one's to record
		return 0, false, nil
	}
	if c.Trust.Level == state.Lost && len(found.Plan.Held) > 0 && report.Count(Done) == 0 {
		return 0, false, nil // a new one is not begun where what is held may hide the one there was
	}
	inv := c.Inventory
	inv.Objects = slices.Clone(inv.Objects)
	dirty := c.Trust.Level != state.Signed && c.Trust.Level != state.Unsigned && len(found.Desired.Resources) > 0
	var put, besides []state.Object // besides is worth no inventory of its own
	var drop []schema.Key
	done := map[schema.Key]bool{}
	for _, l := range report.Lines {
		done[l.Key] = l.Outcome == Done || c.brought(l)
	}
	// What the file says is recorded once it holds: unchanged objects now,
	// changed ones when their change was done.
	left := map[schema.Key]bool{}
	for _, h := range found.Plan.Held {
		left[h.Change.Key] = true
	}
	names := plan.Names(found.Live)
	for _, ch := range found.Plan.Changes {
		ok := (ch.Recorded() || done[ch.Key]) && (!away || !slices.Contains(found.AsOf, ch.Key.Kind))
		if !ok {
			left[ch.Key] = true
			continue
		}
		switch ch.Action {
		case plan.Delete:
			drop = append(drop, ch.Key)
			inv.MarkPruned(ch.Key.Kind)
			for _, child := range childrenOf(inv, ch.Key) {
				// an archived namespace's may have a change of its own, that was not done
				if ok, own := done[child]; ok || !own {
					drop = append(drop, child)
				}
			}
		case plan.Forget:
			drop = append(drop, ch.Key)
		case plan.Rename:
			if err := renameRecord(&inv, append([]schema.Key{ch.Before.Key}, names(ch.Before.Key)...), ch.Key); err != nil {
				return 0, false, err
			}
		case plan.Adopt, plan.Unprotect, plan.Create, plan.Update, plan.Replace:
		}
		if ch.Recorded() {
			recorded++
		}
		dirty = true
	}
	for _, want := range found.Desired.Resources {
		if left[want.Key] || c.paused(want.Key) || away && slices.Contains(found.AsOf, want.Key.Kind) {
			continue
		}
		if _, live := found.Live.Get(want.Key); !live && !done[want.Key] {
			continue // unsupported or out of scope
		}
		want.Spec = c.given(ctx, want)
		old, had := inv.Get(want.Key)
		if had && old.Owned && !done[want.Key] && reflect.DeepEqual(old.Spec, want.Spec) && slices.Equal(old.Content, c.contentOf(want.Key)) {
			if o, ok := c.seen(ctx, old); ok {
				besides = append(besides, o)
			}
			continue
		}
		o, err := c.recordOf(ctx, want, c.Config.State.Instance)
		if err != nil {
			return 0, false, fmt.Errorf("%s: %w", want.Key, err)
		}
		put, dirty = append(put, o), true
	}
	for _, k := range drop {
		inv.Drop(k)
	}
	inv.Put(append(put, besides...)...)
	protected := c.protects()
	if !slices.Equal(protected, inv.Protected) {
		inv.Protected, dirty = protected, true
	}
	if purging := said(plan.Purging(c.Config.Directives), inv.Purging, inv, found.Desired); !slices.Equal(purging, inv.Purging) {
		inv.Purging, dirty = purging, true
	}
	if archiving := said(plan.Archiving(c.Config.Directives), inv.Archiving, inv, found.Desired); !slices.Equal(archiving, inv.Archiving) {
		inv.Archiving, dirty = archiving, true
	}
	if c.Approved != "" && c.Approved == found.Digest && !inv.Approved(c.Approved) {
		inv.Approvals = append(slices.Clone(inv.Approvals), state.Approval{Digest: c.Approved, Time: now(run), Run: run.Who.ID})
		dirty = true
	}
	if !dirty {
		return recorded, false, nil
	}
	inv.Run, inv.Actor = run.Who.ID, run.Who.Actor
	if !away { // of what only its own host knows, this says since when
		inv.Time = now(run)
	}
	// one that was applied in part only, or from where not all can be, is not recorded
	if !away && !slices.ContainsFunc(report.Lines, func(l Line) bool { return l.Outcome != Done }) {
		inv.Revision = run.Who.Revision
	}
	if err := run.Save(ctx, inv); err != nil {
		return recorded, false, fmt.Errorf("inventory: %w", err)
	}
	return recorded, true, nil
}

// paused reports whether the file has an object left alone today: what it says of that is
// not so yet.
func (c Cycle) paused(k schema.Key) bool {
	return slices.ContainsFunc(c.Config.Directives, func(d schema.Directive) bool { return d.Key == k && d.Paused.Holds(c.Today) })
}

// brought reports whether a change of content that failed brought some of it: that is
// recorded with what it brought, and what it lacks the next plan shows.
func (c Cycle) brought(l Line) bool {
	keeper, ok := c.Content.(providers.ContentOwner)
	if !ok || l.Outcome != Failed || !errors.Is(l.Err, providers.ErrPartly) {
		return false
	}
	_, wrote := keeper.Content(l.Key)
	return wrote
}

// renameRecord gives what is recorded by one of the names the new one, in the
// place of what is recorded by that of an object that is no more.
func renameRecord(inv *state.Inventory, names []schema.Key, to schema.Key) error {
	i := slices.IndexFunc(names, func(k schema.Key) bool {
		return k != to && (inv.Managed(k) || len(childrenOf(*inv, k)) > 0)
	})
	if i < 0 {
		return nil
	}
	for _, k := range append(childrenOf(*inv, to), to) {
		inv.Drop(k)
	}
	return inv.Rename(names[i], to)
}

// suspect reports whether there is an inventory that must not be written over
// without somebody's word.
func (c Cycle) suspect() bool {
	switch c.Trust.Level {
	case state.Bad, state.Older, state.Foreign, state.Unreadable, state.Strange:
		return true
	case state.Signed, state.Unsigned, state.Absent, state.Lost:
	}
	return false
}

func now(run Run) time.Time {
	if run.Who.Now != nil {
		return run.Who.Now().UTC()
	}
	return time.Now().UTC()
}

// childrenOf lists what the inventory knows to hang on a namespace.
func childrenOf(inv state.Inventory, ns schema.Key) []schema.Key {
	var out []schema.Key
	if ns.Kind != schema.KindNamespace {
		return nil
	}
	for _, o := range inv.Objects {
		if parent, ok := o.Key.Namespace(); ok && parent == ns {
			out = append(out, o.Key)
		}
	}
	return out
}
