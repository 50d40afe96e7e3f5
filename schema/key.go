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
	// [NewKey] joins one, and [Key.Namespace] and [Key.Child] part it.
	Name string
}

// NewKey is the key of an object by the name that is its own, in a namespace or, with
// "", in none. Of what may hang on a namespace, repositories aside, a slash in that name
// is written %2F, so that the last slash of a key ends the namespace. With a namespace
// and no own name it is the namespace's one object of a single kind, and of others what
// [Scope] means by all below the namespace.
func NewKey(kind Kind, namespace, own string) Key {
	if kind.escapes() {
		own = strings.ReplaceAll(own, "/", slash)
	}
	switch {
	case namespace == "":
		return Key{kind, own}
	case kind.Single():
		return Key{kind, namespace}
	}
	return Key{kind, namespace + "/" + own}
}

// slash stands in a key for one of an object's own name.
const slash = "%2F"

// escapes reports whether keys of the kind have slash for a slash.
func (k Kind) escapes() bool { return k.OfNamespace() && !k.Single() && k != KindRepository }

// Slashes reports whether an object of this kind may have a name with a slash, apart
// from that of the namespace it hangs on.
func (k Kind) Slashes() bool {
	switch k {
	case KindGroup, KindRemote, KindScanner, KindReplication, KindLabel, KindWebhook, KindRepository:
		return true
	}
	return false
}

// Keeps reports whether a key gives an object's own name back: not where the name has
// what stands for a slash.
func (k Kind) Keeps(own string) bool {
	return !k.escapes() || !strings.Contains(strings.ToUpper(own), slash)
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
	i := strings.LastIndexByte(k.Name, '/') // of child names it is written otherwise, namespaces may have it
	if k.Kind == KindRepository {           // and here it is the other way round
		i = strings.IndexByte(k.Name, '/')
	}
	if i < 0 {
		return Key{}, false
	}
	return Key{KindNamespace, k.Name[:i]}, true
}

// Child is the object's own name, as the file and the registry have it: that below its
// namespace, and its whole name where it hangs on none.
func (k Key) Child() string {
	name := k.Name
	if ns, ok := k.Namespace(); ok {
		name = strings.TrimPrefix(name, ns.Name+"/")
	}
	if k.Kind.escapes() {
		name = strings.ReplaceAll(name, slash, "/")
	}
	return name
}

// In is the key of what hangs on a namespace in another one, and the key itself of what
// hangs on none.
func (k Key) In(namespace string) Key {
	if _, ok := k.Namespace(); !ok {
		return k
	}
	return NewKey(k.Kind, namespace, k.Child())
}

// MarshalText implements [encoding.TextMarshaler].
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (k *Key) UnmarshalText(b []byte) (err error) {
	*k, err = ParseKey(string(b))
	return err
}
