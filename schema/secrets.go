package schema

import (
	"slices"
	"strings"
)

// SecretField is one place of an object that refers to a secret.
type SecretField struct {
	Path string // field path, such as "login.password"
	Ref  SecretRef
}

// Secrets lists the references to secrets that a spec holds, sorted by path.
// In settings every leaf that is a reference counts: the table is open, and a
// leaf of a flattened table is an object only where it is one.
func Secrets(s Spec) []SecretField {
	var out []SecretField
	for _, p := range secretPlaces(s) {
		if *p.ref != nil {
			out = append(out, SecretField{p.path, **p.ref})
		}
	}
	if set, ok := s.(*Settings); ok {
		for _, v := range set.Values {
			if ref, ok := v.Secret(); ok {
				out = append(out, SecretField{"values." + v.Path, ref})
			}
		}
	}
	slices.SortFunc(out, func(a, b SecretField) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// DropSecrets removes from a spec every reference that [Secrets] lists, in
// place: the form in which a registry gives an object back.
func DropSecrets(s Spec) {
	for _, p := range secretPlaces(s) {
		*p.ref = nil
	}
	if set, ok := s.(*Settings); ok && set.Values != nil {
		set.Values = slices.DeleteFunc(slices.Clone(set.Values), func(v Value) bool {
			_, secret := v.Secret()
			return secret
		})
	}
}

type secretPlace struct {
	path string
	ref  **SecretRef
}

// secretPlaces finds the fields tagged sync:"secret".
func secretPlaces(s Spec) []secretPlace {
	switch s := s.(type) {
	case *User:
		return []secretPlace{{"password", &s.Password}}
	case *Remote:
		if s.Login != nil {
			return []secretPlace{{"login.password", &s.Login.Password}}
		}
	case *Scanner:
		return []secretPlace{{"credential", &s.Credential}}
	case *Preheat:
		return []secretPlace{{"credential", &s.Credential}}
	case *Webhook:
		return []secretPlace{{"auth", &s.Auth}}
	case *Robot:
		if s.Secret != nil {
			return []secretPlace{{"secret.value", &s.Secret.Value}}
		}
	case *Artifact:
		if s.Sign != nil {
			return []secretPlace{{"sign.key", &s.Sign.Key}}
		}
	}
	return nil
}

// Secret returns the reference that the leaf is, if it is one.
func (v Value) Secret() (SecretRef, bool) {
	var ref SecretRef
	if !strings.HasPrefix(v.JSON, "{") || strictJSON([]byte(v.JSON), &ref) != nil {
		return SecretRef{}, false
	}
	return ref, ref.Check() == nil
}
