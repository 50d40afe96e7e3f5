package plan

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// view is what one comparison needs to know of a kind, worked out once.
type view struct {
	shape   shape
	secrets []part  // the fields that hold references to secrets
	limits  []limit // what the registry does not do by itself
}

// limit is a row of the capability table that is not native. Its part is the
// field it speaks of; whole and deep rows speak of no one field of the struct.
type limit struct {
	row  schema.Capability
	part *part
}

func (d *differ) view(spec schema.Spec) *view {
	v, ok := d.views[spec.Kind()]
	if ok {
		return v
	}
	v = &view{shape: shapeOf(reflect.TypeOf(spec).Elem(), "", nil)}
	all := v.shape.all()
	for _, p := range all {
		if p.typ == reflect.TypeFor[*schema.SecretRef]() {
			v.secrets = append(v.secrets, p)
		}
	}
	for _, row := range d.in.Table {
		if row.Kind != spec.Kind() || row.Support == schema.Native {
			continue
		}
		l := limit{row: row}
		for i := range all {
			if all[i].path == row.Field {
				l.part = &all[i]
			}
		}
		v.limits = append(v.limits, l)
	}
	d.views[spec.Kind()] = v
	return v
}

// capabilities drops, refuses or remarks on what the registry cannot do.
func (d *differ) capabilities() {
	rows := map[schema.Kind]schema.Table{}
	for _, c := range d.in.Table {
		rows[c.Kind] = append(rows[c.Kind], c)
	}
	said := map[schema.Key]bool{}
	for _, r := range d.in.Desired.Resources {
		of := rows[r.Key.Kind]
		whole := of.Find(r.Key.Kind, "")
		if whole.Support == schema.Unsupported && !slices.ContainsFunc(of, func(c schema.Capability) bool { return c.Support != schema.Unsupported }) {
			d.unsupported(r, "", whole.Reason)
			d.skip[r.Key] = true
			continue
		}
		for _, l := range d.view(r.Spec).limits {
			// Remarks on how a registry does a thing concern all objects of a
			// kind alike: the first that needs the row stands for them.
			row := schema.Key{Kind: r.Key.Kind, Name: l.row.Field}
			if said[row] || !d.limited(r, of, l) {
				continue
			}
			if l.row.Support == schema.Unsupported {
				d.unsupported(r, l.row.Field, l.row.Reason)
				d.left[r.Key] = leave(d.spec(r), nil, func(p string) bool { return lacks(of, r.Key.Kind, p) })
				continue
			}
			said[row] = true
			text := "emulated: " + l.row.Reason
			if l.row.Field != "" {
				text = l.row.Field + " " + text
			}
			d.note(schema.Key{Kind: r.Key.Kind}, text)
		}
	}
}

// limited reports whether the object manages anything that the row decides.
func (d *differ) limited(r schema.Resource, of schema.Table, l limit) bool {
	if l.row.Field == "" && l.row.Support != schema.Unsupported {
		return true
	}
	if l.part != nil {
		_, managed := l.part.in(r.Spec)
		if !managed || l.part.sync == "local" && l.row.Support == schema.Emulated {
			return false
		}
		if l.part.below == nil {
			return of.Find(r.Key.Kind, l.row.Field) == l.row
		}
	}
	return slices.ContainsFunc(flatten(r.Spec).leaves, func(x leaf) bool {
		return of.Find(r.Key.Kind, x.path) == l.row && (x.sync != "local" || l.row.Support == schema.Unsupported)
	})
}

// lacks reports whether all of a field is unsupported.
func lacks(of schema.Table, k schema.Kind, path string) bool {
	if of.Find(k, path).Support != schema.Unsupported {
		return false
	}
	return !slices.ContainsFunc(of, func(c schema.Capability) bool {
		return c.Support != schema.Unsupported && strings.HasPrefix(c.Field, path+".")
	})
}

func (d *differ) unsupported(r schema.Resource, field, reason string) {
	if d.in.Policy.Unsupported == "note" {
		if field == "" {
			d.note(r.Key, "left out: "+reason)
		} else {
			d.note(r.Key, field+" left out: "+reason)
		}
		return
	}
	d.refuse(r, field, fmt.Sprintf("%s cannot do this: %s; take it out, or set policy.unsupported = \"note\" to do the rest", d.in.Registry.Type, reason))
}

// ignore lets the policy's ignored fields of a live object be as they are. A
// new object is made as declared; from then on they are left alone.
func (d *differ) ignore(k schema.Key, want, have schema.Spec) schema.Spec {
	for _, ig := range d.in.Policy.Ignore {
		if !MatchKey(ig.Resource, k) || ig.Until != nil && ig.Until.Before(d.in.Today) {
			continue
		}
		drop := func(p string) bool { return p == ig.Field || strings.HasPrefix(p, ig.Field+".") }
		next := leave(want, have, drop)
		if len(compare(want, have, nil)) != len(compare(next, have, nil)) {
			d.note(k, ig.Field+" differs and is ignored: "+ig.Reason)
		}
		want = next
	}
	return want
}
