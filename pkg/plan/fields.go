package plan

import (
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// This file is the one place that knows how specs compare and combine. It
// walks the structs of schema by reflection, so that a new kind needs no code
// here. A field is one of
//
//   - a pointer to a plain value (text, number, size, rights, reference),
//   - a table: a pointer to a struct whose own fields may be unmanaged, which
//     is managed leaf by leaf,
//   - a list, compared as a set,
//   - schema.Grants or schema.Pairs: a table by name, complete when present;
//     Grants that say of somebody what they have at least are not complete,
//   - schema.Values: an open table, managed leaf by leaf.

// shape is what a kind's struct looks like: its fields in order. Walking a spec
// by it allocates nothing.
type shape []part

type part struct {
	path  string // from the top of the spec
	index []int  // of the fields that lead here, through pointers
	sync  string // the sync tag
	typ   reflect.Type
	below shape // of a table
}

func shapeOf(t reflect.Type, prefix string, index []int) shape {
	s := make(shape, 0, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		p := part{path: prefix + name, index: append(slices.Clone(index), i), sync: f.Tag.Get("sync"), typ: f.Type}
		if f.Type.Kind() == reflect.Pointer && isTable(f.Type.Elem()) {
			p.below = shapeOf(f.Type.Elem(), p.path+".", p.index)
		}
		s = append(s, p)
	}
	return s
}

// all lists the parts of a shape with those below.
func (s shape) all() []part {
	var out []part
	for _, p := range s {
		out = append(append(out, p), p.below.all()...)
	}
	return out
}

// in returns the part's field of a spec, a nil pointer or list if it, or a
// table above it, is not managed.
func (p part) in(spec schema.Spec) (field reflect.Value, managed bool) {
	v := reflect.ValueOf(spec).Elem()
	for n, i := range p.index {
		if n > 0 {
			v = v.Elem()
		}
		v = v.Field(i)
		if v.IsNil() {
			return v, false
		}
	}
	return v, true
}

// surelyMatches reports, without allocating, that every declared field of want
// is so in have; secrets and fields with sync:"local" are not looked at. False
// means: look closer, with compare.
func (s shape) surelyMatches(want, have schema.Spec) bool {
	if have == nil || reflect.TypeOf(want) != reflect.TypeOf(have) {
		return false
	}
	return s.matches(reflect.ValueOf(want).Elem(), reflect.ValueOf(have).Elem())
}

func (s shape) matches(want, have reflect.Value) bool {
	for i := range s {
		w, h := want.Field(i), have.Field(i)
		if w.IsNil() && s[i].sync == "seen" && !h.IsNil() {
			return false
		}
		if w.IsNil() || s[i].sync == "local" || s[i].typ == reflect.TypeFor[*schema.SecretRef]() {
			continue
		}
		if h.IsNil() {
			return false
		}
		switch {
		case w.Kind() == reflect.Slice:
			if w.Len() != h.Len() {
				return false
			}
			for j := range w.Len() {
				if !w.Index(j).Equal(h.Index(j)) {
					return false
				}
			}
		case s[i].below != nil:
			if !s[i].below.matches(w.Elem(), h.Elem()) {
				return false
			}
		case !w.Elem().Equal(h.Elem()):
			return false
		}
	}
	return true
}

// isTable tells tables from plain values: the fields of a table are pointers
// or lists, so that each can be unmanaged.
func isTable(t reflect.Type) bool {
	if t.Kind() != reflect.Struct || t.NumField() == 0 {
		return false
	}
	k := t.Field(0).Type.Kind()
	return k == reflect.Pointer || k == reflect.Slice
}

// leaf is one managed field of a spec.
type leaf struct {
	path   string
	text   string   // canonical JSON
	items  []string // of a list: its elements as canonical JSON, sorted
	rights schema.Rights
	least  bool // more rights than these are no difference
	secret *schema.SecretRef
	sync   string // the sync tag
	empty  bool   // an absent field means the same
}

// flat is a spec as its leaves, sorted by path, and the paths of the tables
// that are complete.
type flat struct {
	leaves   []leaf
	complete []string
}

func flatten(spec schema.Spec) flat {
	var f flat
	if spec == nil {
		return f
	}
	f.table("", reflect.ValueOf(spec).Elem())
	slices.SortFunc(f.leaves, func(a, b leaf) int { return strings.Compare(a.path, b.path) })
	return f
}

func (f *flat) table(prefix string, v reflect.Value) {
	for i := range v.NumField() {
		field, sf := v.Field(i), v.Type().Field(i)
		sync := sf.Tag.Get("sync")
		if field.IsNil() && sync != "seen" {
			continue
		}
		name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		path := prefix + name
		if sync == "seen" {
			f.complete = append(f.complete, path)
		}
		if field.IsNil() {
			continue
		}
		switch x := field.Interface().(type) {
		case schema.Grants:
			if x.Complete() {
				f.complete = append(f.complete, path+".")
			}
			for _, g := range x {
				if g.Rights == 0 {
					continue // an entry without rights is no entry
				}
				f.leaves = append(f.leaves, leaf{path: path + "." + quoteKey(g.Name), text: rightsText(g.Rights), rights: g.Rights, least: g.AtLeast})
			}
			continue
		case schema.Pairs:
			f.complete = append(f.complete, path+".")
			for _, p := range x {
				f.leaves = append(f.leaves, leaf{path: path + "." + quoteKey(p.Name), text: quote(p.Value)})
			}
			continue
		case schema.Values:
			for _, p := range x {
				l := leaf{path: path + "." + p.Path, text: p.JSON}
				if ref, ok := p.Secret(); ok {
					l.secret = &ref
				}
				f.leaves = append(f.leaves, l)
			}
			continue
		case *schema.SecretRef:
			f.leaves = append(f.leaves, leaf{path: path, text: text(x), secret: x, sync: sync})
			continue
		case *string:
			f.leaves = append(f.leaves, leaf{path: path, text: quote(*x), sync: sync, empty: meansAbsent(name, quote(*x))})
			continue
		case *bool:
			f.leaves = append(f.leaves, leaf{path: path, text: strconv.FormatBool(*x), sync: sync, empty: meansAbsent(name, strconv.FormatBool(*x))})
			continue
		case *schema.Rights:
			f.leaves = append(f.leaves, leaf{path: path, text: rightsText(*x), rights: *x, sync: sync, empty: *x == 0})
			continue
		}
		switch {
		case field.Kind() == reflect.Slice:
			items := make([]string, field.Len())
			for j := range items {
				if el := field.Index(j); el.Kind() == reflect.String {
					items[j] = quote(el.String())
				} else {
					items[j] = text(el.Interface())
				}
			}
			slices.Sort(items)
			items = slices.Compact(items)
			f.leaves = append(f.leaves, leaf{path: path, text: "[" + strings.Join(items, ",") + "]", items: items, sync: sync, empty: len(items) == 0})
		case isTable(field.Type().Elem()):
			f.table(path+".", field.Elem())
		default:
			t := text(field.Interface())
			f.leaves = append(f.leaves, leaf{path: path, text: t, sync: sync, empty: meansAbsent(name, t)})
		}
	}
}

// meansAbsent reports whether a plain field with this canonical text is the
// same as a field that is not there: nothing, or the word the field has for it.
// Open tables and entries of tables have no such value: there, what is absent
// has a default that nobody here knows.
func meansAbsent(field, text string) bool {
	switch field {
	case "limit", "rate":
		return text == `"unlimited"`
	case "expires", "keep":
		return text == `"never"`
	case "schedule", "block", "auth":
		return text == `"none"` || text == `""`
	case "enabled":
		return false // what does not say so is enabled
	}
	return text == `""` || text == "0" || text == "false"
}

// rightsText is the canonical JSON of a set of rights; admin stands for what it
// implies.
func rightsText(r schema.Rights) string {
	if r&schema.Admin != 0 {
		r = schema.Admin
	}
	names := r.Names()
	if len(names) == 0 {
		return "[]"
	}
	return `["` + strings.Join(names, `","`) + `"]`
}

// quoteKey writes a name as a TOML key part, so that paths can be split again.
func quoteKey(s string) string {
	bare := s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
	if bare {
		return s
	}
	return quote(s)
}

// quote is text for a string, short for those that need no escape.
func quote(s string) string {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return text(s)
		}
	}
	return `"` + s + `"`
}

// text is the canonical JSON of a value of a spec; all of those encode.
func text[T any](v T) string {
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	s, err := schema.CanonicalJSON(b)
	if err != nil {
		return ""
	}
	return s
}

func (f flat) get(path string) (leaf, bool) {
	i, ok := slices.BinarySearchFunc(f.leaves, path, func(l leaf, p string) int { return strings.Compare(l.path, p) })
	if !ok {
		return leaf{}, false
	}
	return f.leaves[i], true
}

// compare lists the declared fields of want that differ in have, sorted by
// path. Secrets and fields with sync:"local" are left to the caller. skip
// names paths that are not compared, because the registry does not give them
// back.
func compare(want, have schema.Spec, skip []string) []Field {
	w, h := flatten(want), flatten(have)
	var out []Field
	for _, l := range w.leaves {
		if l.secret != nil || l.sync == "local" || slices.Contains(skip, l.path) {
			continue
		}
		old, ok := h.get(l.path)
		if ok && l.least {
			l.rights |= old.rights
			l.text = rightsText(l.rights)
		}
		if ok && old.text == l.text || !ok && l.empty {
			continue
		}
		out = append(out, Field{Path: l.path, Old: old.text, New: l.text, Removes: removed(old, l)})
	}
	for _, prefix := range w.complete {
		for _, old := range h.leaves {
			if !strings.HasPrefix(old.path, prefix) {
				continue
			}
			if _, ok := w.get(old.path); ok {
				continue
			}
			removes := 1
			if old.sync == "seen" {
				removes = 0
			}
			out = append(out, Field{Path: old.path, Old: old.text, Removes: removes})
		}
	}
	slices.SortFunc(out, func(a, b Field) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// has reports whether there are leaves below a prefix.
func (f flat) has(prefix string) bool {
	return slices.ContainsFunc(f.leaves, func(l leaf) bool { return strings.HasPrefix(l.path, prefix) })
}

func (f flat) isComplete(path string) bool {
	return slices.ContainsFunc(f.complete, func(p string) bool { return strings.HasPrefix(path, p) })
}

// removed counts the elements of a list, or the rights, that old has and new
// has not.
func removed(old, new leaf) int {
	n := 0
	for _, it := range old.items {
		if _, ok := slices.BinarySearch(new.items, it); !ok {
			n++
		}
	}
	return n + len((old.rights.Effective() &^ new.rights.Effective()).Names())
}

// declared lists every declared field as it stands in a create.
func declared(spec schema.Spec) []Field {
	var out []Field
	for _, l := range flatten(spec).leaves {
		if l.sync == "local" {
			continue
		}
		f := Field{Path: l.path, New: l.text}
		if l.secret != nil {
			f.New, f.Sensitive = secretText(l.secret), true
		}
		out = append(out, f)
	}
	return out
}

// secretText shows a secret by its reference.
func secretText(ref *schema.SecretRef) string { return text("(" + ref.String() + ")") }

// elements counts what a delete guard counts: the object, its list elements
// and its table entries. It allocates nothing.
func elements(spec schema.Spec) int {
	if spec == nil {
		return 1
	}
	return 1 + elementsOf(reflect.ValueOf(spec).Elem())
}

func elementsOf(table reflect.Value) int {
	n := 0
	for i := range table.NumField() {
		switch v := table.Field(i); {
		case v.IsNil() || v.Type() == reflect.TypeFor[schema.Values]():
		case v.Kind() == reflect.Slice:
			n += v.Len()
		case v.Kind() == reflect.Pointer && isTable(v.Type().Elem()):
			n += elementsOf(v.Elem())
		}
	}
	return n
}

// Managed lists the paths of a spec's managed fields, sorted; secret tells
// which of them hold references. It is what an inventory needs to hash.
func Managed(spec schema.Spec) (paths []string, secret map[string]schema.SecretRef) {
	secret = map[string]schema.SecretRef{}
	for _, l := range flatten(spec).leaves {
		paths = append(paths, l.path)
		if l.secret != nil {
			secret[l.path] = *l.secret
		}
	}
	return paths, secret
}

// FieldText returns the canonical JSON of one managed field.
func FieldText(spec schema.Spec, path string) (string, bool) {
	l, ok := flatten(spec).get(path)
	return l.text, ok
}
