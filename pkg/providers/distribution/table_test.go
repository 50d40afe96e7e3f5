package distribution

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
)

// TestTheKeysAreThoseOfDistributionsOwnConfiguration: each field of it is a key of
// its type, and no key but those that it keeps as they come is without a field.
func TestTheKeysAreThoseOfDistributionsOwnConfiguration(t *testing.T) {
	known := fileKeys()
	seen := map[string]bool{}
	passed := []string{"auth", "middleware", "storage"}
	var walk func(of reflect.Type, at string)
	walk = func(of reflect.Type, at string) {
		var is valueType
		for of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		switch {
		case of == reflect.TypeFor[time.Duration]():
			is = durationValue
		case of == reflect.TypeFor[configuration.Version]():
			is = anyValue
		case of.Kind() == reflect.Struct:
			for i := range of.NumField() {
				f := of.Field(i)
				name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
				switch {
				case !f.IsExported() || name == "-":
				case strings.Contains(options, "inline"):
					walk(f.Type, at)
				case name == "":
					walk(f.Type, strings.TrimPrefix(at+"."+strings.ToLower(f.Name), "."))
				default:
					walk(f.Type, strings.TrimPrefix(at+"."+name, "."))
				}
			}
			return
		case of.Kind() == reflect.Slice && of.Elem().Kind() == reflect.Struct:
			walk(of.Elem(), at+"[]")
			return
		case of.Kind() == reflect.Slice:
			is = textsValue
		case of.Kind() == reflect.Map:
			if slices.Contains(passed, at) {
				return
			}
			at, is = at+".*", anyValue
			if of.Elem().Kind() == reflect.Slice {
				is = textsValue
			}
		case of.Kind() == reflect.Bool:
			is = boolValue
		case of.Kind() == reflect.Int:
			is = numberValue
		case of.Kind() == reflect.String:
			is = textValue
		default:
			t.Errorf("%s: %s", at, of)
		}
		seen[at] = true
		if k, ok := find(known, at); !ok || k.path != at || k.is != is {
			t.Errorf("%s is %q in the table, want %q", at, k.is, is)
		}
	}
	walk(reflect.TypeFor[configuration.Configuration](), "")
	if len(seen) < 100 {
		t.Errorf("only %d fields", len(seen))
	}
	for _, k := range known {
		if part, _, _ := strings.Cut(k.path, "."); !seen[k.path] && !slices.Contains(passed, part) {
			t.Errorf("%s is no field", k.path)
		}
	}
}
