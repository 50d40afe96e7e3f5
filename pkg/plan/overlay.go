package plan

import (
	"reflect"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// Overlay returns a new spec: have, with every declared field of want laid
// over it. Either may be nil. What want does not manage is have's, unchanged.
func Overlay(want, have schema.Spec) schema.Spec {
	switch {
	case want == nil:
		return have
	case have == nil || reflect.TypeOf(want) != reflect.TypeOf(have):
		return want
	}
	out := reflect.New(reflect.TypeOf(have).Elem())
	out.Elem().Set(reflect.ValueOf(have).Elem())
	overlay(out.Elem(), reflect.ValueOf(want).Elem())
	spec, ok := out.Interface().(schema.Spec)
	if !ok {
		return want
	}
	return spec
}

func overlay(into, want reflect.Value) {
	for i := range want.NumField() {
		w, dst := want.Field(i), into.Field(i)
		if w.IsNil() && want.Type().Field(i).Tag.Get("sync") == "seen" {
			dst.SetZero()
		}
		if w.IsNil() {
			continue
		}
		if v, ok := w.Interface().(schema.Values); ok {
			if old, ok := dst.Interface().(schema.Values); ok {
				dst.Set(reflect.ValueOf(mergeValues(old, v)))
				continue
			}
		}
		if g, ok := w.Interface().(schema.Grants); ok {
			if old, ok := dst.Interface().(schema.Grants); ok {
				dst.Set(reflect.ValueOf(g.Over(old)))
				continue
			}
		}
		if w.Kind() == reflect.Pointer && isTable(w.Type().Elem()) && !dst.IsNil() {
			merged := reflect.New(w.Type().Elem())
			merged.Elem().Set(dst.Elem())
			overlay(merged.Elem(), w.Elem())
			dst.Set(merged)
			continue
		}
		dst.Set(w)
	}
}

func mergeValues(old, want schema.Values) schema.Values {
	out := slices.Clone(want)
	for _, o := range old {
		if !slices.ContainsFunc(want, func(v schema.Value) bool { return v.Path == o.Path }) {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b schema.Value) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// leave returns a copy of want in which the fields that drop names are not
// managed; an entry of a complete table takes what have says of it.
func leave(want, have schema.Spec, drop func(path string) bool) schema.Spec {
	out := reflect.New(reflect.TypeOf(want).Elem())
	out.Elem().Set(reflect.ValueOf(want).Elem())
	var h reflect.Value
	if have != nil {
		h = reflect.ValueOf(have).Elem()
	} else {
		h = reflect.Zero(out.Elem().Type())
	}
	leaveFields(out.Elem(), h, "", drop)
	s, ok := out.Interface().(schema.Spec)
	if !ok {
		return want
	}
	return s
}

func leaveFields(v, have reflect.Value, prefix string, drop func(string) bool) {
	for i := range v.NumField() {
		field := v.Field(i)
		if field.IsNil() {
			continue
		}
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		path := prefix + name
		if vals, ok := field.Interface().(schema.Values); ok {
			kept := slices.DeleteFunc(slices.Clone(vals), func(x schema.Value) bool { return drop(path + "." + x.Path) })
			field.Set(reflect.ValueOf(kept))
			continue
		}
		if drop(path) {
			field.SetZero()
			continue
		}
		if g, ok := field.Interface().(schema.Grants); ok {
			live, _ := have.Field(i).Interface().(schema.Grants)
			mine := func(x schema.Grant) bool { return drop(path + "." + quoteKey(x.Name)) }
			kept := slices.DeleteFunc(slices.Clone(g), mine)
			for _, x := range live {
				if mine(x) {
					kept = append(kept, x)
				}
			}
			field.Set(reflect.ValueOf(schema.NewGrants(kept...)))
			continue
		}
		if p, ok := field.Interface().(schema.Pairs); ok {
			live, _ := have.Field(i).Interface().(schema.Pairs)
			mine := func(x schema.Pair) bool { return drop(path + "." + quoteKey(x.Name)) }
			kept := slices.DeleteFunc(slices.Clone(p), mine)
			for _, x := range live {
				if mine(x) {
					kept = append(kept, x)
				}
			}
			slices.SortFunc(kept, func(a, b schema.Pair) int { return strings.Compare(a.Name, b.Name) })
			field.Set(reflect.ValueOf(kept))
			continue
		}
		if field.Kind() == reflect.Pointer && isTable(field.Type().Elem()) {
			copied := reflect.New(field.Type().Elem())
			copied.Elem().Set(field.Elem())
			below := reflect.Zero(field.Type().Elem())
			if hf := have.Field(i); !hf.IsNil() {
				below = hf.Elem()
			}
			leaveFields(copied.Elem(), below, path+".", drop)
			field.Set(copied)
		}
	}
}
