package schema

import (
	"cmp"
	"fmt"
	"strings"
)

// Key identifies one object of a registry: its kind and its name, never a
// numeric id. Keys are comparable and ordered by kind, then name, both as text.
type Key struct {
	Kind Kind
	// Name is the object's path below its kind: "team-a" for a namespace and
	// for the single kinds that hang on it, "team-a/ci" for its children of
	// kinds it may have many of, "" for the registry's own single objects. A
	// repository's may go on, "team-a/backend/api": its namespace is one segment.
	Name string
}

// String prints the key as a path: "webhook/team-a/ci", or "gc".
func (k Key) String() string {
	if k.Name == "" {
		return string(k.Kind)
	}
	return string(k.Kind) + "/" + k.Name
}

// ParseKey is the inverse of [Key.String]. It fails for an unknown kind.
func ParseKey(s string) (Key, error) {
	kind, name, _ := strings.Cut(s, "/")
	k := Key{Kind(kind), name}
	if !k.Kind.Valid() {
		return Key{}, fmt.Errorf("%q is not a kind", kind)
	}
	return k, nil
}

// Compare orders keys by kind, then name.
func (k Key) Compare(o Key) int {
	if c := cmp.Compare(k.Kind, o.Kind); c != 0 {
		return c
	}
	return cmp.Compare(k.Name, o.Name)
}

// Namespace returns the key of the namespace the object hangs on. ok is false
// for objects of the registry itself and for namespaces.
func (k Key) Namespace() (ns Key, ok bool) {
	if k.Name == "" || !k.Kind.OfNamespace() {
		return Key{}, false
	}
	if k.Kind.Single() {
		return Key{KindNamespace, k.Name}, true
	}
	i := strings.LastIndexByte(k.Name, '/') // child names hold no slash, namespaces may
	if k.Kind == KindRepository {           // and here it is the other way round
		i = strings.IndexByte(k.Name, '/')
	}
	if i < 0 {
		return Key{}, false
	}
	return Key{KindNamespace, k.Name[:i]}, true
}

// Child is the object's name below its namespace, and its whole name where it hangs
// on none.
func (k Key) Child() string {
	ns, ok := k.Namespace()
	if !ok {
		return k.Name
	}
	return strings.TrimPrefix(k.Name, ns.Name+"/")
}

// MarshalText implements [encoding.TextMarshaler].
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (k *Key) UnmarshalText(b []byte) (err error) {
	*k, err = ParseKey(string(b))
	return err
}
