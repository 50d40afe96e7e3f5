package schema

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Rights is a set of the four rights: what a subject may do in a namespace.
type Rights uint8

// The four rights. Push is to create and overwrite; Admin holds the others.
const (
	Pull Rights = 1 << iota
	Push
	Delete
	Admin
)

func rightNames() []string { return []string{"pull", "push", "delete", "admin"} }

// ParseRights reads a list of right names in any order; a name twice counts once.
func ParseRights(names []string) (Rights, error) {
	var r Rights
	for _, n := range names {
		i := slices.Index(rightNames(), n)
		if i < 0 {
			return 0, fmt.Errorf("%q is not a right; rights are pull, push, delete and admin", n)
		}
		r |= 1 << i
	}
	return r, nil
}

// Names lists the rights in their fixed order: pull, push, delete, admin.
func (r Rights) Names() []string {
	names := []string{}
	for i, n := range rightNames() {
		if r&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return names
}

// Effective adds what Admin implies.
func (r Rights) Effective() Rights {
	if r&Admin != 0 {
		return Pull | Push | Delete | Admin
	}
	return r
}

// Has reports whether r, with what Admin implies, holds all of want.
func (r Rights) Has(want Rights) bool { return r.Effective()&want == want }

// String prints the names with commas.
func (r Rights) String() string { return strings.Join(r.Names(), ",") }

// MarshalJSON writes the list of names.
func (r Rights) MarshalJSON() ([]byte, error) { return json.Marshal(r.Names()) }

// UnmarshalJSON reads a list of names.
func (r *Rights) UnmarshalJSON(b []byte) error {
	var names []string
	if err := json.Unmarshal(b, &names); err != nil {
		return err
	}
	var err error
	*r, err = ParseRights(names)
	return err
}

// Grant gives one named subject (or, in a robot's access, one namespace) rights.
type Grant struct {
	Name   string
	Rights Rights
	// AtLeast says that more rights are no difference: they follow from another
	// rule, of a provider's normal form, and no file lists them. JSON does not
	// keep it.
	AtLeast bool
}

// Grants is a table of rights, sorted by name, each name once. Nil means not
// managed; empty and not nil means that nobody has any. It is a JSON object.
type Grants []Grant

// Complete reports whether the table says who has rights: one with an AtLeast
// entry does not, and takes nothing from others.
func (g Grants) Complete() bool {
	return !slices.ContainsFunc(g, func(x Grant) bool { return x.AtLeast })
}

// Over returns live with the table laid over it: the table itself if it is
// complete, else what live has and at least these rights.
func (g Grants) Over(live Grants) Grants {
	if g.Complete() {
		return g
	}
	out := slices.Clone(live)
	for _, x := range g {
		if has, _ := live.Get(x.Name); !has.Has(x.Rights) {
			out = append(out, Grant{Name: x.Name, Rights: x.Rights})
		}
	}
	return NewGrants(out...)
}

// Get returns the rights of one name.
func (g Grants) Get(name string) (Rights, bool) {
	i, ok := slices.BinarySearchFunc(g, name, func(a Grant, n string) int { return strings.Compare(a.Name, n) })
	if !ok {
		return 0, false
	}
	return g[i].Rights, true
}

// NewGrants sorts the list; of a name given twice the rights are united.
func NewGrants(list ...Grant) Grants {
	g := slices.Clone(list)
	slices.SortStableFunc(g, func(a, b Grant) int { return strings.Compare(a.Name, b.Name) })
	out := Grants{}
	for _, x := range g {
		if n := len(out); n > 0 && out[n-1].Name == x.Name {
			out[n-1].Rights |= x.Rights
			out[n-1].AtLeast = out[n-1].AtLeast && x.AtLeast
			continue
		}
		out = append(out, x)
	}
	return out
}

// MarshalJSON writes an object in name order.
func (g Grants) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, x := range g {
		if i > 0 {
			b = append(b, ',')
		}
		k, err := json.Marshal(x.Name)
		if err != nil {
			return nil, err
		}
		v, err := x.Rights.MarshalJSON()
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, k...), ':'), v...)
	}
	return append(b, '}'), nil
}

// UnmarshalJSON reads an object.
func (g *Grants) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*g = nil // not managed, which is not the same as empty
		return nil
	}
	var m map[string]Rights
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	list := make([]Grant, 0, len(m))
	for k, v := range m {
		list = append(list, Grant{Name: k, Rights: v})
	}
	*g = NewGrants(list...)
	return nil
}
