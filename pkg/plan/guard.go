package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/ocisync/ocisync/schema"
)

// GuardInput is what the guards look at beside the plan.
type GuardInput struct {
	Policy    schema.Policy
	Ownership Ownership
	Desired   schema.State
	Live      schema.State
	// Held are the changes that the provider wants approved, and why.
	Held map[schema.Key]string
	// Approved is the digest somebody approved, or "". It lets pass what is
	// held, and a delete guard that is exceeded, if it is this plan's digest.
	Approved string
}

// Guard returns the plan with its dangerous changes held or refused. What is
// held stays held with everything that depends on it. An approval of another
// plan refuses this one. It is pure, like Diff.
func Guard(p Plan, in GuardInput) Plan {
	p.Changes, p.Held = slices.Clone(p.Changes), slices.Clone(p.Held)
	p.Refusals, p.Notes = slices.Clone(p.Refusals), slices.Clone(p.Notes)
	in.Live.Resources = sorted(in.Live.Resources, compareResources)
	in.Desired.Resources = sorted(in.Desired.Resources, compareResources)
	was := p.origins(in.Live)
	p.protect(in, was)
	over := p.overLimit(in)
	p.hold(in, was)
	digest := ""
	if in.Approved != "" {
		digest = p.Approval()
	}
	switch {
	case in.Approved != "" && in.Approved == digest:
		for _, h := range p.Held {
			p.Changes = append(p.Changes, h.Change)
		}
		p.Held = nil
	case over != "":
		p.Refusals = append(p.Refusals, Refusal{Why: over})
	}
	if in.Approved != "" && in.Approved != digest && p.Pending() {
		p.Refusals = append(p.Refusals, Refusal{Why: fmt.Sprintf("what was approved, %s, is another plan than this one, %s; look at this plan and approve it if it is meant", in.Approved, digest)})
	}
	p.sort()
	return p
}

// origins is what live objects are called that get another name in a plan.
type origins struct {
	moves moves
	cut   cuts
}

func (p *Plan) origins(live schema.State) origins {
	o := origins{moves: moves{}, cut: cutShort(live)}
	for _, namespaces := range []bool{true, false} {
		for _, c := range p.Changes {
			if c.Action != Rename || c.Before == nil || (c.Key.Kind == schema.KindNamespace) != namespaces {
				continue
			}
			o.moves[c.Key] = c.Before.Key
			if _, ok := live.Get(o.moves.former(c.Key)); !ok {
				o.moves[c.Key] = c.Key // it was done, and cut short
			}
		}
	}
	return o
}

// live is the name in the registry of an object that a plan knows by k.
func (o origins) live(k schema.Key) schema.Key { return o.moves.former(k) }

// names lists what the inventory may call it.
func (o origins) names(k schema.Key) []schema.Key { return o.cut.names(o.live(k)) }

// protect refuses deletes and replaces of protected objects, and of namespaces
// that would take protected objects along, and renames by which an object would
// lose its protection. A pattern that this plan takes off still protects in it.
func (p *Plan) protect(in GuardInput, was origins) {
	patterns := slices.Concat(in.Policy.Protect, in.Ownership.Protected)
	slices.Sort(patterns)
	patterns = slices.Compact(patterns)
	for _, pat := range patterns {
		if !doublestar.ValidatePattern(pat) {
			p.Refusals = append(p.Refusals, Refusal{Why: fmt.Sprintf("policy.protect %q is not a pattern, so it protects nothing; write it as kind/name, with * for any text", pat)})
		}
	}
	protects := func(k schema.Key) (string, bool) {
		i := slices.IndexFunc(patterns, func(pat string) bool { return MatchKey(pat, k) })
		if i < 0 {
			return "", false
		}
		return patterns[i], true
	}
	if len(patterns) == 0 {
		return
	}
	for _, c := range p.Changes {
		if c.Action == Rename {
			p.protectRename(c, in, was, protects)
		}
		if c.Action != Delete && c.Action != Replace {
			continue
		}
		if pat, yes := protects(c.Key); yes {
			why := fmt.Sprintf("%s of a protected object (%s); put the object back, or apply a change that only takes the protection off first", c.verb(), protectedBy(pat))
			p.Refusals = append(p.Refusals, Refusal{c.Key, "", why, c.Source})
		}
		if c.Key.Kind != schema.KindNamespace {
			continue
		}
		for _, r := range in.Live.Resources {
			if ns, child := r.Key.Namespace(); !child || ns != c.Key {
				continue
			}
			if pat, yes := protects(r.Key); yes {
				why := fmt.Sprintf("%s would take along %s, which is protected (%s); put the namespace back, or apply a change that only takes the protection off first", c.verb(), r.Key, protectedBy(pat))
				p.Refusals = append(p.Refusals, Refusal{c.Key, "", why, c.Source})
			}
		}
	}
}

// protectRename refuses the rename of a protected object, or of one on which
// such hang, to a name that policy.protect does not have.
func (p *Plan) protectRename(c Change, in GuardInput, was origins, protects func(schema.Key) (string, bool)) {
	live := was.live(c.Key)
	becomes := map[schema.Key]schema.Key{live: c.Key}
	if c.Key.Kind == schema.KindNamespace {
		for _, r := range in.Live.Resources {
			if ns, child := r.Key.Namespace(); child && ns == live {
				becomes[r.Key] = below(schema.Renaming{From: live, To: c.Key}, r.Key)
			}
		}
	}
	for now, to := range becomes {
		was := was.cut.names(now)
		i := slices.IndexFunc(was, func(k schema.Key) bool { _, yes := protects(k); return yes })
		switch {
		case i < 0:
		case slices.ContainsFunc(in.Policy.Protect, func(pat string) bool { return MatchKey(pat, to) }):
		case slices.ContainsFunc(p.Changes, func(o Change) bool { return o.Action == Rename && o.Before.Key == to }): // looked at by itself
		default:
			pat, _ := protects(was[i])
			p.Refusals = append(p.Refusals, Refusal{c.Key, "previously", fmt.Sprintf(
				"%s is protected (policy.protect %q), and %s would not be; add %q to policy.protect, or apply a change that only takes the protection off first", was[i], pat, to, to), c.Source})
		}
	}
}

// overLimit says that policy.max_deletes is exceeded, or "". Kinds that hold
// content do not count: they ask always.
func (p *Plan) overLimit(in GuardInput) string {
	if in.Policy.MaxDeletes == nil {
		return ""
	}
	deletes := 0
	for _, c := range p.Changes {
		if !c.Key.Kind.HoldsContent() {
			deletes += c.Deletes()
		}
	}
	m := in.Policy.MaxDeletes
	if deletes == 0 || deletes <= m.AtLeast {
		return ""
	}
	owned := sorted(in.Ownership.Owned, schema.Key.Compare)
	total := 0
	for _, r := range in.Live.Resources {
		if r.Key.Kind.HoldsContent() {
			continue
		}
		_, mine := slices.BinarySearchFunc(owned, r.Key, schema.Key.Compare)
		if _, declared := in.Desired.Get(r.Key); declared || mine {
			total += elements(r.Spec)
		}
	}
	if deletes*100 <= m.Percent*total {
		return ""
	}
	return fmt.Sprintf("%d of %d managed objects, members and rules would be deleted, more than policy.max_deletes allows (%d %% and %d); if that is meant, approve this plan",
		deletes, total, m.Percent, m.AtLeast)
}

// hold moves changes that need an approval, and all that depends on them, out
// of the list.
func (p *Plan) hold(in GuardInput, was origins) {
	held := map[schema.Key]string{}
	var queue []schema.Key
	mark := func(c Change, why string) {
		if why != "" && held[c.Key] == "" && !c.Recorded() {
			held[c.Key] = why
			queue = append(queue, c.Key)
		}
	}
	for _, c := range p.Changes {
		mark(c, cmp.Or(holdWhy(c, in.Ownership, was), in.Held[c.Key]))
	}
	waits := p.waiting()
	for {
		for len(queue) > 0 {
			on := queue[0]
			queue = queue[1:]
			for _, c := range waits[on] {
				mark(c, fmt.Sprintf("depends on %s, which is held", on))
			}
		}
		// What is held makes nothing that could stand in for the last one.
		last := p.lastOfKind(in.Live, held)
		for _, c := range p.Changes {
			if c.Action == Delete && last[c.Key.Kind] {
				mark(c, fmt.Sprintf("deletes the last %s", c.Key.Kind))
			}
		}
		if len(queue) == 0 {
			break
		}
	}
	var rest []Change
	for _, c := range p.Changes {
		if why := held[c.Key]; why != "" && !c.Recorded() {
			p.Held = append(p.Held, Held{c, why})
			continue
		}
		if ns, child := c.Key.Namespace(); child && c.Action == Adopt && held[ns] != "" && was.live(ns) != ns {
			continue // it has not that name yet
		}
		rest = append(rest, c)
	}
	p.Changes = rest
}

func holdWhy(c Change, o Ownership, was origins) string {
	switch c.Action {
	case Delete:
		if c.Archive {
			return "a namespace is archived only with an approval"
		}
		if c.Key.Kind == schema.KindNamespace {
			return "a namespace is deleted only with an approval"
		}
		if o.FirstSight {
			return "this machine sees for the first time the inventory that says it is ocisync's"
		}
		if o.Pruned == nil || !o.Pruned(c.Key.Kind) {
			return fmt.Sprintf("the first time that objects of kind %s are pruned", c.Key.Kind)
		}
	case Replace:
		if c.Key.Kind == schema.KindNamespace {
			return "a namespace is replaced only with an approval"
		}
		return removalWhy(c, o, was)
	case Rename:
		names := was.names(c.Key)
		if !slices.ContainsFunc(o.Owned, func(k schema.Key) bool { return slices.Contains(names, k) }) {
			return fmt.Sprintf("%s is not ocisync's, and whoever declares it would miss it; to make it yours first, declare it by that name and apply", names[0])
		}
		return removalWhy(c, o, was)
	case Update:
		return removalWhy(c, o, was)
	case Create, Adopt, Forget, Unprotect:
	}
	return ""
}

// removalWhy holds what takes away the entries of a list that ocisync did not
// manage until now, or all of a table of rights.
func removalWhy(c Change, o Ownership, was origins) string {
	if c.Deletes() == 0 {
		return ""
	}
	var before flat
	if spec, ok := o.appliedAs(was.names(c.Key)); ok {
		before = flatten(spec)
	}
	for _, f := range c.Fields {
		_, listed := before.get(f.Path)
		if f.Removes > 0 && !listed && !before.isComplete(f.Path) {
			return fmt.Sprintf("%s is managed for the first time, and this takes away what it holds", listOf(f.Path, c))
		}
	}
	if table := emptied(c); table != "" {
		return fmt.Sprintf("takes away every entry of %s", table)
	}
	return ""
}

// emptied names a table of rights that held entries and ends with none.
func emptied(c Change) string {
	if c.Before == nil || c.After == nil {
		return ""
	}
	before, after := flatten(c.Before.Spec), flatten(c.After.Spec)
	entries := func(f flat, prefix string) int {
		n := 0
		for _, l := range f.leaves {
			if strings.HasPrefix(l.path, prefix) && l.sync != "seen" { // those nobody declares
				n++
			}
		}
		return n
	}
	for _, prefix := range after.complete {
		if entries(before, prefix) > 0 && entries(after, prefix) == 0 {
			return strings.TrimSuffix(prefix, ".")
		}
	}
	return ""
}

// listOf names the list or table that a path belongs to.
func listOf(path string, c Change) string {
	if c.After != nil {
		for _, prefix := range flatten(c.After.Spec).complete {
			if len(path) > len(prefix) && path[:len(prefix)] == prefix {
				return prefix[:len(prefix)-1]
			}
		}
	}
	return path
}

// lastOfKind tells of which kinds the plan deletes objects and leaves none.
func (p *Plan) lastOfKind(live schema.State, held map[schema.Key]string) map[schema.Kind]bool {
	left := map[schema.Kind]int{}
	for _, r := range live.Resources {
		left[r.Key.Kind]++
	}
	deleted := map[schema.Kind]bool{}
	for _, c := range p.Changes {
		switch c.Action {
		case Delete:
			left[c.Key.Kind]--
			deleted[c.Key.Kind] = true
		case Create:
			if held[c.Key] == "" {
				left[c.Key.Kind]++
			}
		}
	}
	out := map[schema.Kind]bool{}
	for k := range deleted {
		out[k] = left[k] <= 0
	}
	return out
}

// waiting maps each key to the changes that cannot go before its change: those
// that need it, and deletes of what its live object still uses. A delete needs
// nothing but the namespace it is in.
func (p *Plan) waiting() map[schema.Key][]Change {
	out := map[schema.Key][]Change{}
	deletes := map[schema.Key]Change{}
	for _, c := range p.Changes {
		if c.Action == Delete {
			deletes[c.Key] = c
			if ns, ok := c.Key.Namespace(); ok {
				out[ns] = append(out[ns], c)
			}
			continue
		}
		for _, need := range c.Needs() {
			out[need] = append(out[need], c)
		}
	}
	for _, c := range p.Changes {
		if c.Before == nil || len(deletes) == 0 {
			continue
		}
		for _, used := range (Change{Key: c.Key, Before: c.Before}).Needs() {
			if d, ok := deletes[used]; ok {
				out[c.Key] = append(out[c.Key], d)
			}
		}
	}
	return out
}
