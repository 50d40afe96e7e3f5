package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// isOwned reports whether the object, under its name or one it had, is
// ocisync's.
func (d *differ) isOwned(k schema.Key) bool {
	k = d.moves.former(k)
	return d.recorded(k) || len(d.cut) > 0 && slices.ContainsFunc(d.cut.names(k), d.recorded)
}

// recorded reports whether the inventory owns an object of that name.
func (d *differ) recorded(k schema.Key) bool {
	_, ok := slices.BinarySearchFunc(d.owned, k, schema.Key.Compare)
	return ok
}

func (d *differ) prunable(k schema.Kind) bool {
	return !k.Single() && slices.Contains(d.in.Policy.Prune, k)
}

// remake finds the namespaces that must be deleted and made anew: what hangs on
// them goes with them, and what is declared of it is made again.
func (d *differ) remake() {
	for _, want := range d.in.Desired.Resources {
		if want.Key.Kind != schema.KindNamespace || d.skip[want.Key] || !d.covers(want.Key) || d.archives(want.Key) {
			continue
		}
		have, live := d.in.Live.Get(want.Key)
		if _, paused := d.paused(want.Key); !live || paused || d.view(want.Spec).shape.surelyMatches(want.Spec, have.Spec) {
			continue
		}
		spec := d.ignore(want.Key, d.spec(want), have.Spec)
		if replaces(spec, d.differences(want.Key, spec, &have)) {
			d.remade[want.Key] = []string{}
		}
	}
	if len(d.remade) == 0 {
		return
	}
	for _, r := range d.in.Live.Resources {
		if d.goesWithNamespace(r.Key) {
			ns, _ := r.Key.Namespace()
			d.remade[ns] = append(d.remade[ns], r.Key.String())
		}
	}
}

// goesWithNamespace reports whether the object's namespace is made anew.
func (d *differ) goesWithNamespace(k schema.Key) bool {
	if len(d.remade) == 0 {
		return false
	}
	ns, ok := k.Namespace()
	return ok && d.remade[ns] != nil
}

// gone handles live and owned objects that the file no longer has.
func (d *differ) gone() {
	falls := map[schema.Key][]string{}
	for _, r := range d.orphans {
		if r.Key.Kind == schema.KindNamespace && d.isOwned(r.Key) && d.prunable(r.Key.Kind) && d.in.Ownership.MayPrune {
			falls[r.Key] = []string{}
		}
	}
	used := d.usedNamespaces(falls)
	for _, r := range d.orphans {
		ns, child := r.Key.Namespace()
		switch {
		case child && falls[ns] != nil && !d.prunedAlone(r.Key, ns):
			falls[ns] = append(falls[ns], d.fate(r.Key, ns)...)
		case d.goesWithNamespace(r.Key):
		case !d.isOwned(r.Key): // somebody else's
			d.plan.Unmanaged = append(d.plan.Unmanaged, r.Key)
		case !d.prunable(r.Key.Kind): // forgotten below
		case used[r.Key] != "":
			d.note(r.Key, "not in the file any more, and not deleted: "+used[r.Key])
		case !d.in.Ownership.MayPrune:
			d.note(r.Key, "not in the file any more, and not deleted: "+d.in.Ownership.WhyNot)
		default:
			d.add(Change{Action: Delete, Key: r.Key, Before: &r, Purge: d.purges(r.Key), Archive: d.archives(r.Key), Reason: Pruned})
		}
	}
	for i, c := range d.plan.Changes {
		if c.Action == Delete && c.Key.Kind == schema.KindNamespace {
			d.plan.Changes[i].Impact = append(c.Impact, falls[c.Key]...)
		}
	}
	d.forget(falls)
}

// usedNamespaces takes from falls the namespaces in which something is still
// declared, and says of each what. One that is archived is there afterwards, and
// what is declared to need it would open it again.
func (d *differ) usedNamespaces(falls map[schema.Key][]string) map[schema.Key]string {
	used := map[schema.Key]string{}
	if len(falls) == 0 {
		return used
	}
	for _, r := range d.in.Desired.Resources {
		if ns, ok := r.Key.Namespace(); ok && falls[ns] != nil {
			used[ns] = r.Key.String() + " is declared in it"
			delete(falls, ns)
		}
		for _, need := range (Change{Key: r.Key, After: &r}).Needs() {
			if falls[need] != nil && d.archives(need) {
				used[need] = r.Key.String() + " is declared, and needs it"
				delete(falls, need)
			}
		}
	}
	return used
}

// forget lets go of what is owned and no longer declared, and was not pruned.
func (d *differ) forget(falls map[schema.Key][]string) {
	for _, k := range d.owned {
		if _, declared := d.in.Desired.Get(k); declared || !d.in.Live.Scope.Covers(k) {
			continue
		}
		ns, child := k.Namespace()
		_, renamed := d.taken[k]
		_, moved := d.taken[ns]
		if renamed || child && (moved || falls[ns] != nil) {
			continue // what becomes of it is part of another change
		}
		_, live := d.in.Live.Get(k)
		if live && d.prunable(k.Kind) && !d.goesWithNamespace(k) {
			continue // deleted, or said to stay
		}
		if live && !k.Kind.Single() && !d.goesWithNamespace(k) {
			d.note(k, fmt.Sprintf("not in the file any more; it stays in the registry and ocisync lets go of it; to delete such objects, add %q to policy.prune before taking them out", k.Kind))
		}
		if _, stays := d.in.Desired.Get(ns); live && child && stays && k.Kind.Single() {
			d.note(k, "not in the file any more; it stays in force as it is, and ocisync lets go of it; to end it, declare it as one that does nothing before taking it out")
		}
		d.add(Change{Action: Forget, Key: k, Reason: Declared})
	}
}

// unprotect makes taking a pattern off policy.protect a change of its own.
func (d *differ) unprotect() {
	patterns := slices.Compact(sorted(d.in.Ownership.Protected, strings.Compare))
	for _, p := range patterns {
		if slices.Contains(d.in.Policy.Protect, p) {
			continue
		}
		k, err := schema.ParseKey(p)
		if err != nil {
			d.note(schema.Key{}, fmt.Sprintf("the inventory protects %q, which names no kind: it stays protected; write the inventory anew to be rid of it", p))
			continue
		}
		d.add(Change{Action: Unprotect, Key: k, Reason: Declared})
	}
}
