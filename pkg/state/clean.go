package state

import (
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"regexp"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// checkSpec refuses a spec that holds what looks like a secret: a password in
// a URL, a native setting of a secret's name with a literal value, a reference
// that names no source. It is the last of several guards, and the error names
// the place, never the value.
func checkSpec(k schema.Key, spec schema.Spec) error {
	if spec == nil {
		return nil
	}
	refuse := func(path, why string) error {
		return fmt.Errorf("%s: %s %s, and is not recorded; refer to the secret instead, such as { env = \"OCISYNC_…\" }", k, path, why)
	}
	if s, ok := spec.(*schema.Settings); ok {
		for _, v := range s.Values {
			if secretName(v.Path) && strings.HasPrefix(v.JSON, `"`) && v.JSON != `""` {
				return refuse(v.Path, "holds a literal secret")
			}
		}
	}
	if path, bad := badRef(reflect.ValueOf(spec), ""); bad {
		return refuse(path, "is not a reference to a secret")
	}
	b, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("%s: %w", k, err)
	}
	if !strings.Contains(string(b), "://") {
		return nil
	}
	dec := json.NewDecoder(strings.NewReader(string(b)))
	for tok, err := dec.Token(); err == nil; tok, err = dec.Token() { // to the end: what Marshal wrote is well-formed
		if s, ok := tok.(string); ok && hasPassword(s) {
			return refuse("a URL", "holds a password")
		}
	}
	return nil
}

var userInfo = regexp.MustCompile(`://[^/?#\s]*:[^/?#\s]*@`)

func hasPassword(s string) bool {
	if !strings.Contains(s, "://") {
		return false
	}
	if u, err := url.Parse(s); err == nil && u.User != nil {
		_, has := u.User.Password()
		return has
	}
	return userInfo.MatchString(s)
}

// secretName reports whether the last part of a native setting's path is what
// registries call their secrets; names of files that hold one are fine.
func secretName(path string) bool {
	last := path[strings.LastIndexByte(path, '.')+1:]
	last = strings.NewReplacer("_", "", "-", "", `"`, "").Replace(strings.ToLower(last))
	for _, end := range []string{"file", "path", "dir"} {
		if strings.HasSuffix(last, end) {
			return false
		}
	}
	for _, part := range []string{"password", "passwd", "secret", "credential", "privatekey", "accountkey"} {
		if strings.Contains(last, part) {
			return true
		}
	}
	return last == "token"
}

// badRef finds a reference to a secret that names no source, or a variable by
// what cannot be a variable's name.
func badRef(v reflect.Value, path string) (string, bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return "", false
		}
		return badRef(v.Elem(), path)
	case reflect.Slice:
		for i := range v.Len() {
			if p, bad := badRef(v.Index(i), path); bad {
				return p, true
			}
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[schema.SecretRef]() {
			name := v.FieldByName("Env").String()
			n := 0
			for _, f := range []string{"Env", "File", "Age", "Command"} {
				if v.FieldByName(f).String() != "" {
					n++
				}
			}
			return path, n != 1 || name != "" && !envName.MatchString(name)
		}
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			if path != "" {
				name = path + "." + name
			}
			if p, bad := badRef(v.Field(i), name); bad {
				return p, true
			}
		}
	}
	return "", false
}
