package schema

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Position is a place in a mode's file, 1-based; columns count bytes. The zero
// value means that the object comes from no file.
type Position struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	Col  int    `json:"col,omitempty"`
}

// String prints file:line:col.
func (p Position) String() string {
	if p.File == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

// Resource is one managed object, desired or live: the same type for both, so
// that a plan is a comparison of like with like.
type Resource struct {
	Key  Key
	Spec Spec
	// Unread lists the paths of fields that the live object has but the
	// registry does not give back, such as passwords. Sorted. Empty in
	// desired objects.
	Unread []string
	// Version is an opaque token of the live object that changes when it
	// does. Empty in desired objects and where a registry has none.
	Version string
	// Source is where the file speaks of the object first.
	Source Position
}

type resourceJSON struct {
	Key     Key             `json:"key"`
	Spec    json.RawMessage `json:"spec"`
	Unread  []string        `json:"unread,omitempty"`
	Version string          `json:"version,omitempty"`
	Source  Position        `json:"source,omitzero"`
}

// MarshalJSON writes {"key","spec",…}; the spec's type follows from the key.
func (r Resource) MarshalJSON() ([]byte, error) {
	spec, err := json.Marshal(r.Spec)
	if err != nil {
		return nil, err
	}
	return json.Marshal(resourceJSON{r.Key, spec, r.Unread, r.Version, r.Source})
}

// UnmarshalJSON refuses unknown fields of a spec.
func (r *Resource) UnmarshalJSON(b []byte) error {
	var j resourceJSON
	if err := strictJSON(b, &j); err != nil {
		return err
	}
	spec, err := NewSpec(j.Key.Kind)
	if err != nil {
		return err
	}
	if len(j.Spec) > 0 && string(j.Spec) != "null" {
		if err := strictJSON(j.Spec, &spec); err != nil {
			return fmt.Errorf("%s: %w", j.Key, err)
		}
	}
	*r = Resource{j.Key, spec, j.Unread, j.Version, j.Source}
	return nil
}

func strictJSON[T any](b []byte, into *T) error {
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}

// Scope says what a state speaks for. What lies outside is unknown, never
// absent.
type Scope struct {
	// Kinds lists the kinds that were read, sorted.
	Kinds []Kind `json:"kinds"`
	// Except lists objects, or with a name ending in "/" all objects below
	// it, of those kinds that could not be read; "/" are those in no namespace. Sorted.
	Except []Key `json:"except,omitempty"`
	// Owned lists, of what is wanted, what ocisync owns: a provider whose login does
	// not see all must know it from what is gone, and not look for the rest.
	Owned []Key `json:"-"`
	// Repositories lists the repositories whose tags are wanted or known, for
	// a plan's impact. Sorted; nil means none.
	Repositories []string `json:"repositories,omitempty"`
}

// ScopeOf covers whole kinds.
func ScopeOf(kinds ...Kind) Scope {
	k := slices.Clone(kinds)
	slices.Sort(k)
	return Scope{Kinds: slices.Compact(k)}
}

// Covers reports whether the state speaks for the object, so that not finding
// it means that it does not exist.
func (s Scope) Covers(k Key) bool {
	if !slices.Contains(s.Kinds, k.Kind) {
		return false
	}
	for _, e := range s.Except {
		below := strings.HasSuffix(e.Name, "/") && strings.HasPrefix(k.Name, e.Name) || e.Name == "/" && !strings.Contains(k.Name, "/")
		if e == k || e.Kind == k.Kind && below {
			return false
		}
	}
	return true
}

// State is a set of objects, desired or live, and what it speaks for.
type State struct {
	// Resources is sorted by key, each key once.
	Resources []Resource `json:"resources"`
	Scope     Scope      `json:"scope"`
	// Repositories is what is known of content, for a plan's impact; sorted by name.
	Repositories []RepositoryInfo `json:"repositories,omitempty"`
	// Renamed lists, oldest first, what the registry renamed in runs that ended
	// before they had written it down.
	Renamed []Renaming `json:"renamed,omitempty"`
}

// Renaming says what an object was called, and what it became.
type Renaming struct {
	From Key `json:"from"`
	To   Key `json:"to"`
}

// RepositoryInfo is what a registry holds of one repository.
type RepositoryInfo struct {
	Name  string `json:"name"`
	Tags  int    `json:"tags"`
	Bytes Size   `json:"bytes,omitempty"` // 0 where not known
	// Pushed and Pulled are the days of the last push and pull; zero where not
	// known, or never.
	Pushed Date `json:"pushed,omitzero"`
	Pulled Date `json:"pulled,omitzero"`
}

// Sort puts the resources in key order; what was renamed keeps its order. It
// fails if a key stands twice.
func (s *State) Sort() error {
	slices.SortFunc(s.Resources, func(a, b Resource) int { return a.Key.Compare(b.Key) })
	for i := 1; i < len(s.Resources); i++ {
		if s.Resources[i].Key == s.Resources[i-1].Key {
			return fmt.Errorf("%s stands twice in one state", s.Resources[i].Key)
		}
	}
	slices.SortFunc(s.Repositories, func(a, b RepositoryInfo) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// Get finds a resource by key. The state must be sorted.
func (s State) Get(k Key) (Resource, bool) {
	i, ok := slices.BinarySearchFunc(s.Resources, k, func(r Resource, k Key) int { return r.Key.Compare(k) })
	if !ok {
		return Resource{}, false
	}
	return s.Resources[i], true
}

// Kinds lists the kinds that occur, sorted.
func (s State) Kinds() []Kind {
	var out []Kind
	for _, r := range s.Resources {
		if n := len(out); n == 0 || out[n-1] != r.Key.Kind {
			out = append(out, r.Key.Kind)
		}
	}
	return out
}
