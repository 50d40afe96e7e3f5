package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// moves maps the new keys of renamed objects to their former ones.
type moves map[schema.Key]schema.Key

// former is the key that an object, or the namespace it hangs on, had before
// the plan's renames.
func (m moves) former(k schema.Key) schema.Key {
	if len(m) == 0 {
		return k
	}
	if old, ok := m[k]; ok {
		return old
	}
	if ns, ok := k.Namespace(); ok {
		if old, ok := m[ns]; ok {
			return schema.Key{Kind: k.Kind, Name: old.Name + strings.TrimPrefix(k.Name, ns.Name)}
		}
	}
	return k
}

// Former returns what the live object of a desired key is called: its own
// name, or the former one of an object that the directives rename.
func Former(desired, live schema.State, directives []schema.Directive) func(schema.Key) schema.Key {
	return renamed(desired, live, directives).former
}

// renamed finds the desired objects whose former name is live and whose name
// is not.
func renamed(desired, live schema.State, directives []schema.Directive) moves {
	m := moves{}
	for _, dir := range directives {
		old := schema.Key{Kind: dir.Key.Kind, Name: dir.Previously}
		if ns, ok := dir.Key.Namespace(); ok && !strings.Contains(dir.Previously, "/") && !dir.Key.Kind.Single() {
			old.Name = ns.Name + "/" + dir.Previously
		}
		_, wanted := desired.Get(dir.Key)
		_, there := live.Get(dir.Key)
		_, was := live.Get(old)
		if dir.Previously != "" && wanted && was && !there && live.Scope.Covers(dir.Key) && live.Scope.Covers(old) {
			m[dir.Key] = old
		}
	}
	return m
}

// renames makes the changes, and moves what hangs on the objects in the live
// state, so that it is compared under the new name.
func (d *differ) renames() {
	found := renamed(d.in.Desired, d.in.Live, d.in.Directives)
	for _, dir := range d.in.Directives {
		if old, ok := found[dir.Key]; ok && !d.skip[dir.Key] {
			want, _ := d.in.Desired.Get(dir.Key)
			before, _ := d.in.Live.Get(old)
			d.rename(want, before)
		}
	}
	for _, c := range d.plan.Changes {
		if c.Key.Kind == schema.KindNamespace {
			d.moveChildren(c.Before.Key.Name, c.Key.Name)
		}
	}
	d.in.Live.Resources = sorted(d.in.Live.Resources, compareResources)
}

func (d *differ) rename(want, before schema.Resource) {
	spec := d.ignore(want.Key, d.spec(want), before.Spec)
	_, still := d.in.Desired.Get(before.Key)
	other, taken := d.taken[before.Key]
	_, paused := d.paused(want.Key)
	why := ""
	switch {
	case still:
		why = fmt.Sprintf("%s is still declared; take one of the two out", before.Key)
	case taken:
		why = fmt.Sprintf("%s becomes %s already; let one of the two name it", before.Key, other)
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
	d.moves[want.Key] = before.Key
	fields := append(d.differences(want.Key, spec, &before), Field{Path: "name", Old: text(before.Key.Name), New: text(want.Key.Name)})
	slices.SortFunc(fields, func(a, b Field) int { return strings.Compare(a.Path, b.Path) })
	after := schema.Resource{Key: want.Key, Spec: Overlay(spec, before.Spec), Unread: before.Unread, Version: before.Version, Source: want.Source}
	d.add(Change{Action: Rename, Key: want.Key, Before: &before, After: &after, Fields: fields, Source: want.Source})
}

func (d *differ) moveChildren(from, to string) {
	d.in.Live.Resources = slices.Clone(d.in.Live.Resources)
	for i, r := range d.in.Live.Resources {
		if ns, ok := r.Key.Namespace(); ok && ns.Name == from {
			d.in.Live.Resources[i].Key.Name = to + strings.TrimPrefix(r.Key.Name, from)
		}
	}
}
