package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// moves maps the new keys of renamed objects to their former ones, of what
// hangs on a renamed namespace below its new name.
type moves map[schema.Key]schema.Key

// former is the key that an object, or the namespace it hangs on, has in the
// registry before the plan's renames.
func (m moves) former(k schema.Key) schema.Key {
	if len(m) == 0 {
		return k
	}
	ns, child := k.Namespace()
	if old, ok := m[k]; ok {
		k = old
	}
	if old, ok := m[ns]; child && ok {
		k = below(schema.Renaming{From: ns, To: old}, k)
	}
	return k
}

// below is the key of an object after a namespace, on which it may hang, was
// renamed.
func below(r schema.Renaming, k schema.Key) schema.Key {
	if ns, child := k.Namespace(); child && ns == r.From {
		return k.In(r.To.Name)
	}
	return k
}

// cuts are renames of runs that ended before they had written them down: by
// the name of each live object those it had before, latest first. What hangs on
// a namespace is named below the namespace's live name.
type cuts map[schema.Key][]schema.Key

func cutShort(live schema.State) cuts {
	c := cuts{}
	for i, r := range live.Renamed {
		from, to := r.From, r.To
		if from.Kind != to.Kind || from.Kind.Single() {
			continue
		}
		for _, later := range live.Renamed[i+1:] {
			if later.From == to {
				to = later.To
			}
			from, to = below(later, from), below(later, to)
		}
		if from != to {
			c[to] = append([]schema.Key{from}, slices.DeleteFunc(c[to], func(k schema.Key) bool { return k == from })...)
		}
	}
	return c
}

// sorted lists the live names.
func (c cuts) sorted() []schema.Key {
	return slices.SortedFunc(maps.Keys(c), schema.Key.Compare)
}

// present is what the object is called that has the name, or had it.
func (c cuts) present(k schema.Key) schema.Key {
	for _, now := range c.sorted() {
		if slices.Contains(c[now], k) {
			return now
		}
	}
	return k
}

// names lists what a live object is called, and was, by itself or by its
// namespace: the inventory may know it by any of them.
func (c cuts) names(k schema.Key) []schema.Key {
	out := append([]schema.Key{k}, c[k]...)
	ns, child := k.Namespace()
	if !child || len(c[ns]) == 0 {
		return out
	}
	for _, name := range c[ns] {
		for _, o := range append([]schema.Key{k}, c[k]...) {
			out = append(out, below(schema.Renaming{From: ns, To: name}, o))
		}
	}
	return out
}

// Names returns all that a live object is called and was, in runs that ended
// before they had written it down; the present name is the first.
func Names(live schema.State) func(schema.Key) []schema.Key { return cutShort(live).names }

// claim is a live object and the desired ones that shall be it.
type claim struct {
	live schema.Key
	by   []schema.Key
	had  []schema.Key // what a rename that was cut short made another name
}

// claims finds the live objects that are declared by a former name, and those
// whose rename was cut short, by whatever name. Taken are the desired keys that
// are live beside what they claim to have been. It looks at namespaces, or at
// all other kinds.
func claims(desired, live schema.State, directives []schema.Directive, namespaces bool) (found []claim, taken []schema.Renaming) {
	is := func(s schema.State, k schema.Key) bool {
		_, ok := s.Get(k)
		return ok
	}
	cut := cutShort(live)
	for now, had := range cut {
		cut[now] = slices.DeleteFunc(had, func(k schema.Key) bool { return is(live, k) || !live.Scope.Covers(k) })
	}
	at, has := map[schema.Key]int{}, map[schema.Key]bool{}
	of := func(live schema.Key, by ...schema.Key) {
		i, ok := at[live]
		if !ok {
			i, at[live] = len(found), len(found)
			found = append(found, claim{live: live, had: cut[live]})
		}
		for _, k := range by {
			if !has[k] {
				has[k], found[i].by = true, append(found[i].by, k)
			}
		}
	}
	for _, dir := range directives {
		now, ok := dir.Former()
		if !ok || (dir.Key.Kind == schema.KindNamespace) != namespaces || !is(desired, dir.Key) {
			continue
		}
		if !is(live, now) {
			now = cut.present(now)
		}
		switch {
		case now == dir.Key || !is(live, now) || !live.Scope.Covers(dir.Key) || !live.Scope.Covers(now):
		case is(live, dir.Key):
			taken = append(taken, schema.Renaming{From: now, To: dir.Key})
		default:
			of(now, dir.Key)
		}
	}
	for _, now := range cut.sorted() {
		if (now.Kind == schema.KindNamespace) != namespaces || len(cut[now]) == 0 || !is(live, now) || !live.Scope.Covers(now) {
			continue
		}
		var by []schema.Key
		for _, name := range append([]schema.Key{now}, cut[now]...) {
			if is(desired, name) {
				by = append(by, name)
			}
		}
		of(now, by...)
	}
	return found, taken
}

// carried is a live state in which a namespace was renamed, with what hangs on
// it and not the namespace itself.
func carried(live schema.State, from, to schema.Key) schema.State {
	r := schema.Renaming{From: from, To: to}
	live.Resources = slices.Clone(live.Resources)
	for i := range live.Resources {
		live.Resources[i].Key = below(r, live.Resources[i].Key)
	}
	live.Resources = sorted(live.Resources, compareResources)
	live.Renamed = append(slices.Clone(live.Renamed), r)
	return live
}

// Former returns what the live object of a desired key is called: its own
// name, or another one where the plan renames it.
func Former(desired, live schema.State, directives []schema.Directive) func(schema.Key) schema.Key {
	m := moves{}
	for _, namespaces := range []bool{true, false} {
		found, _ := claims(desired, live, directives, namespaces)
		for _, c := range found {
			if len(c.by) == 0 {
				continue
			}
			m[c.by[0]] = c.live
			if namespaces && c.by[0] != c.live {
				live = carried(live, c.live, c.by[0])
			}
		}
	}
	return m.former
}

// renames makes the changes, and moves what hangs on the objects in the live
// state, so that it is compared under the new name.
func (d *differ) renames() {
	for _, namespaces := range []bool{true, false} {
		found, taken := claims(d.in.Desired, d.in.Live, d.in.Directives, namespaces)
		for _, r := range taken {
			d.collides(r)
		}
		// what others name before those
		slices.SortStableFunc(found, func(a, b claim) int { return cmp.Compare(a.live.Kind.Rank(), b.live.Kind.Rank()) })
		for _, c := range found {
			d.claimed(c)
			for _, to := range c.by {
				if from, ok := d.moves[to]; ok && namespaces && from == c.live && to != from {
					d.in.Live = carried(d.in.Live, from, to)
				} else if ok && from == c.live && to != from {
					d.in.Live = followed(d.in.Live, from, to)
				}
			}
		}
	}
}

// followed is a live state in which a remote, a scanner or a group was renamed: a
// registry that renames one keeps what uses it, which names it as it is called now.
func followed(live schema.State, from, to schema.Key) schema.State {
	live.Resources = slices.Clone(live.Resources)
	follow := func(k schema.Kind, name **string) {
		if from.Kind == k && *name != nil && **name == from.Name {
			*name = &to.Name
		}
	}
	for i := range live.Resources {
		r := &live.Resources[i]
		switch s := r.Spec.(type) {
		case *schema.Namespace:
			c := *s
			follow(schema.KindRemote, &c.ProxyOf)
			r.Spec = &c
		case *schema.Replication:
			c := *s
			follow(schema.KindRemote, &c.To)
			follow(schema.KindRemote, &c.From)
			r.Spec = &c
		case *schema.Scan:
			c := *s
			follow(schema.KindScanner, &c.Default)
			follow(schema.KindScanner, &c.Scanner)
			r.Spec = &c
		case *schema.Access:
			i := slices.IndexFunc(s.Groups, func(g schema.Grant) bool { return g.Name == from.Name })
			if i < 0 || from.Kind != schema.KindGroup {
				continue
			}
			c, groups := *s, slices.Clone(s.Groups)
			groups[i].Name = to.Name
			c.Groups = schema.NewGrants(groups...)
			r.Spec = &c
		}
	}
	return live
}

// collides refuses a name that is taken, unless it is known that the one who
// has it is the one who was renamed.
func (d *differ) collides(r schema.Renaming) {
	want, _ := d.in.Desired.Get(r.To)
	if _, paused := d.paused(r.To); paused || d.isOwned(r.To) && !d.isOwned(r.From) {
		return
	}
	d.refuse(want, "previously", fmt.Sprintf("%s cannot become it: both are there, and nothing is known of a rename; choose a name that is free, or, where that was done before and %s is another, take previously out", r.From, r.From))
}

// claimed renames a live object, or says why that cannot be.
func (d *differ) claimed(c claim) {
	for _, name := range append([]schema.Key{c.live}, c.had...) {
		if !slices.Contains(c.by, name) {
			d.taken[name] = c.live
		}
	}
	switch {
	case len(c.by) == 0 && d.isOwned(c.live):
		d.refuse(schema.Resource{Key: c.live}, "", fmt.Sprintf("%s became it in a rename that was cut short, and the file has neither; declare it by one of the two names, apply, and take it out after that", c.had[0]))
		return
	case len(c.by) == 0: // somebody else's
		for _, name := range append([]schema.Key{c.live}, c.had...) {
			delete(d.taken, name)
		}
		d.note(c.live, fmt.Sprintf("%s became it in a rename that was cut short; whoever declares it has still to apply that", c.had[0]))
		return
	case len(c.by) > 1 && len(c.had) > 0:
		for _, k := range c.by {
			want, _ := d.in.Desired.Get(k)
			d.skip[k] = true
			d.refuse(want, "", fmt.Sprintf("%s became %s in a rename that was cut short, and the file has %s; leave the one that it shall be, apply, and declare the rest after that", c.had[0], c.live, list(c.by)))
		}
		return
	}
	for i, k := range c.by {
		want, _ := d.in.Desired.Get(k)
		switch {
		case i > 0:
			d.skip[k] = true
			d.refuse(want, "previously", fmt.Sprintf("%s becomes %s already; let one of the two name it", c.live, c.by[0]))
		case !d.skip[k]:
			d.rename(want, c)
		}
	}
}

func list(keys []schema.Key) string {
	var names []string
	for _, k := range keys {
		names = append(names, k.String())
	}
	return strings.Join(names, " and ")
}

func (d *differ) rename(want schema.Resource, c claim) {
	before, _ := d.in.Live.Get(c.live)
	if c.live == want.Key {
		before.Key = c.had[max(0, slices.IndexFunc(c.had, d.recorded))]
	}
	spec := d.ignore(want.Key, d.spec(want), before.Spec)
	_, still := d.in.Desired.Get(before.Key)
	_, paused := d.paused(want.Key)
	why := ""
	switch {
	case still:
		why = fmt.Sprintf("%s is still declared; take one of the two out", before.Key)
	case paused:
		why = "a paused object cannot be renamed; take pause or previously out"
	case replaces(spec, compare(spec, before.Spec, before.Unread)):
		why = "an object cannot be renamed and made anew at once; rename it first, and change the rest after that"
	}
	if !still {
		d.taken[before.Key], d.skip[want.Key] = want.Key, true
	}
	if why != "" {
		d.refuse(want, "previously", why)
		return
	}
	switch {
	case len(c.had) == 0:
	case c.live == want.Key:
		d.note(want.Key, "its rename was cut short; this ends it")
	case slices.Contains(c.had, want.Key):
		d.note(want.Key, fmt.Sprintf("its rename to %s was cut short; this takes it back", c.live))
	default:
		d.note(want.Key, fmt.Sprintf("a rename of %s to %s was cut short; this goes on from there", c.had[0], c.live))
	}
	d.moves[want.Key] = c.live
	fields := append(d.differences(want.Key, spec, &before), Field{Path: "name", Old: text(before.Key.Name), New: text(want.Key.Name)})
	slices.SortFunc(fields, func(a, b Field) int { return strings.Compare(a.Path, b.Path) })
	after := schema.Resource{Key: want.Key, Spec: Overlay(spec, before.Spec), Unread: before.Unread, Version: before.Version, Source: want.Source}
	d.add(Change{Action: Rename, Key: want.Key, Before: &before, After: &after, Fields: fields, Source: want.Source})
}
