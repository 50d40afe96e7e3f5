package schema

import (
	"reflect"
	"strings"
	"testing"
)

// fill makes every pointer and every slice of a spec point at something.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	}
}

// tagged lists the paths of fields tagged sync:"secret".
func tagged(t reflect.Type, prefix string) []string {
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Tag.Get("sync") == "secret" {
			out = append(out, prefix+name)
			continue
		}
		ft := f.Type
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Struct {
			out = append(out, tagged(ft, prefix+name+".")...)
		}
	}
	return out
}

func TestSecretsFindsEveryTaggedField(t *testing.T) {
	total := 0
	for _, k := range Kinds() {
		spec, err := NewSpec(k)
		if err != nil {
			t.Fatal(err)
		}
		fill(reflect.ValueOf(spec).Elem())
		want := tagged(reflect.TypeOf(spec).Elem(), "")
		total += len(want)
		var have []string
		for _, f := range Secrets(spec) {
			have = append(have, f.Path)
		}
		if strings.Join(have, " ") != strings.Join(want, " ") {
			t.Errorf("%s: have %q, want %q", k, have, want)
		}
		DropSecrets(spec)
		if left := Secrets(spec); len(left) > 0 {
			t.Errorf("%s: DropSecrets left %v", k, left)
		}
	}
	if total == 0 {
		t.Error("no field is tagged as a secret")
	}
}

func TestSecretsFindsReferencesInSettings(t *testing.T) {
	values := Values{
		{"ldap.bind", `{"env":"OCISYNC_LDAP"}`},
		{"ldap.empty", `{}`},
		{"ldap.two", `{"env":"A","file":"b"}`},
		{"ldap.url", `"ldap://example.com"`},
	}
	s := &Settings{Values: values}
	have := Secrets(s)
	if len(have) != 1 || have[0].Path != "values.ldap.bind" || have[0].Ref.Env != "OCISYNC_LDAP" {
		t.Errorf("have %v", have)
	}
	DropSecrets(s)
	if len(s.Values) != 3 || len(values) != 4 || values[0].Path != "ldap.bind" {
		t.Errorf("DropSecrets left %v and made the shared list %v", s.Values, values)
	}
}
