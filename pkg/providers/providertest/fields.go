package providertest

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// leaf is one managed field of an object.
type leaf struct {
	path string
	json string // canonical; of a list without order, sorted
	tag  string // of the struct field: secret, replace, local, set or ""
}

// leaves lists the fields of a spec that are not nil, sorted by path. Tables
// of rights and open tables are one field each: they are complete by
// themselves; each setting is a field of its own.
func leaves(s schema.Spec) ([]leaf, error) {
	if set, ok := s.(*schema.Settings); ok {
		var out []leaf
		for _, v := range set.Values {
			out = append(out, leaf{path: "values." + v.Path, json: v.JSON})
		}
		return out, nil
	}
	var out []leaf
	err := walk(reflect.ValueOf(s).Elem(), "", func(path, tag string, v reflect.Value) error {
		if v.IsZero() {
			return nil
		}
		text, err := canonical(v, tag)
		out = append(out, leaf{path, text, tag})
		return err
	})
	slices.SortFunc(out, func(a, b leaf) int { return strings.Compare(a.path, b.path) })
	return out, err
}

// paths lists every field path a kind can have, sorted, with its tag.
func paths(k schema.Kind) (map[string]string, error) {
	spec, err := schema.NewSpec(k)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	v := reflect.ValueOf(spec).Elem()
	fillTables(v)
	return out, walk(v, "", func(path, tag string, _ reflect.Value) error {
		out[path] = tag
		return nil
	})
}

// walk visits the fields of a struct, and of tables below it that are there.
func walk(v reflect.Value, prefix string, visit func(path, tag string, v reflect.Value) error) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		path, tag := prefix+name, f.Tag.Get("sync")
		if isTable(f.Type) {
			if v.Field(i).IsNil() {
				continue
			}
			if err := walk(v.Field(i).Elem(), path+".", visit); err != nil {
				return err
			}
			continue
		}
		if err := visit(path, tag, v.Field(i)); err != nil {
			return err
		}
	}
	return nil
}

// isTable reports whether a type is a pointer to a struct whose fields are
// managed one by one.
func isTable(t reflect.Type) bool {
	if t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
		return false
	}
	switch {
	case t.Implements(reflect.TypeFor[json.Marshaler]()), t.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return false
	case t == reflect.TypeFor[*schema.SecretRef](), t == reflect.TypeFor[*schema.Delivery]():
		return false
	}
	return true
}

func fillTables(v reflect.Value) {
	for i := range v.NumField() {
		if isTable(v.Type().Field(i).Type) {
			v.Field(i).Set(reflect.New(v.Type().Field(i).Type.Elem()))
			fillTables(v.Field(i).Elem())
		}
	}
}

func canonical(v reflect.Value, tag string) (string, error) {
	b, err := json.Marshal(v.Interface())
	if err != nil {
		return "", err
	}
	if tag == "set" {
		var list []json.RawMessage
		if err := json.Unmarshal(b, &list); err != nil {
			return "", err
		}
		slices.SortFunc(list, func(a, b json.RawMessage) int { return strings.Compare(string(a), string(b)) })
		if b, err = json.Marshal(list); err != nil {
			return "", err
		}
	}
	return schema.CanonicalJSON(b)
}

// tree is a JSON object while a spec is put together or laid over another.
type tree = map[string]json.RawMessage

// set puts a value at a dotted path.
func set(t tree, path, value string) error {
	head, rest, nested := strings.Cut(path, ".")
	if !nested {
		t[head] = json.RawMessage(value)
		return nil
	}
	sub := tree{}
	if old, ok := t[head]; ok {
		if err := json.Unmarshal(old, &sub); err != nil {
			return err
		}
	}
	if err := set(sub, rest, value); err != nil {
		return err
	}
	b, err := json.Marshal(sub)
	t[head] = b
	return err
}

// spec builds an object of a kind from fields given as JSON. Settings take
// any path below values.
func spec(k schema.Kind, fields []field) (schema.Spec, error) {
	t, values := tree{}, tree{}
	for _, f := range fields {
		if path, ok := strings.CutPrefix(f.path, "values."); ok && k == schema.KindSettings {
			values[path] = json.RawMessage(f.value)
			continue
		}
		if err := set(t, f.path, f.value); err != nil {
			return nil, err
		}
	}
	if len(values) > 0 {
		b, err := json.Marshal(values)
		if err != nil {
			return nil, err
		}
		t["values"] = b
	}
	return decode(k, t)
}

func decode(k schema.Kind, t tree) (schema.Spec, error) {
	out, err := schema.NewSpec(k)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.DisallowUnknownFields()
	return out, dec.Decode(out)
}

// field is a path and the JSON of its value.
type field struct{ path, value string }

// overlay lays the managed fields of want over live.
func overlay(live, want schema.Spec) (schema.Spec, error) {
	b, err := json.Marshal(live)
	if err != nil {
		return nil, err
	}
	t := tree{}
	if err := json.Unmarshal(b, &t); err != nil {
		return nil, err
	}
	if liveSet, ok := live.(*schema.Settings); ok {
		wantSet, ok := want.(*schema.Settings)
		if !ok {
			return live, nil
		}
		var fields []field
		for _, v := range append(slices.Clone(liveSet.Values), wantSet.Values...) {
			fields = append(fields, field{"values." + v.Path, v.JSON})
		}
		return spec(schema.KindSettings, fields)
	}
	over, err := leaves(want)
	if err != nil {
		return nil, err
	}
	for _, l := range over {
		if err := set(t, l.path, l.json); err != nil {
			return nil, err
		}
	}
	return decode(live.Kind(), t)
}
