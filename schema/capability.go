package schema

import (
	"slices"
	"strings"
)

// Support says how a registry does a thing.
type Support string

// The three ways.
const (
	Native      Support = "native"      // the registry itself
	Emulated    Support = "emulated"    // ocisync makes it so
	Unsupported Support = "unsupported" // it cannot be had
)

// Capability is one row of a provider's table.
type Capability struct {
	Kind Kind
	// Field is a field path, or "" for the whole kind. The longest row that
	// is a prefix of whole path parts decides.
	Field    string
	Support  Support
	Reason   string // why it is not native; required unless it is
	Versions string // a semver range, "" for all
}

// Table is what a provider can do. A kind without a row is unsupported.
type Table []Capability

// Find returns the row that decides for a field ("" for the object as such).
func (t Table) Find(k Kind, field string) Capability {
	best := Capability{Kind: k, Support: Unsupported, Reason: "not part of this registry"}
	found := -1
	for _, c := range t {
		if c.Kind != k || len(c.Field) <= found {
			continue
		}
		if c.Field == "" || c.Field == field || strings.HasPrefix(field, c.Field+".") {
			best, found = c, len(c.Field)
		}
	}
	return best
}

// Kinds lists the kinds of which something is supported, sorted.
func (t Table) Kinds() []Kind {
	var out []Kind
	for _, c := range t {
		if c.Support != Unsupported {
			out = append(out, c.Kind)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
