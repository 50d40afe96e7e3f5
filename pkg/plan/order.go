package plan

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// sort puts the plan into its one order: changes as they are executed, all
// else by key.
func (p *Plan) sort() {
	if p.Changes == nil {
		p.Changes = []Change{} // a list in JSON, never null
	}
	slices.SortStableFunc(p.Changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(turn(a), turn(b)), inTurn(a, b))
	})
	slices.SortStableFunc(p.Held, func(a, b Held) int {
		return cmp.Or(a.Change.Key.Compare(b.Change.Key), cmp.Compare(a.Change.Action, b.Change.Action))
	})
	slices.SortStableFunc(p.Refusals, func(a, b Refusal) int {
		return cmp.Or(a.Key.Compare(b.Key), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Why, b.Why))
	})
	p.Refusals = slices.Compact(p.Refusals)
	slices.SortStableFunc(p.Notes, func(a, b Note) int {
		return cmp.Or(a.Key.Compare(b.Key), strings.Compare(a.Text, b.Text))
	})
	p.Notes = slices.Compact(p.Notes)
}

// The turns of a plan: what only takes rights away goes first, so that a
// revoked right is gone even if the rest fails; deletes go after all else, and
// what is archived is locked before them.
const (
	turnRevoke = iota
	turnWrite
	turnArchive
	turnDelete
	turnRecord
)

func turn(c Change) int {
	switch {
	case c.Recorded():
		return turnRecord
	case c.Action == Delete && c.Key.Kind == schema.KindRobot:
		return turnRevoke
	case c.Action == Update && c.Key.Kind == schema.KindAccess && onlyRemoves(c.Fields):
		return turnRevoke
	case c.Archive:
		return turnArchive
	case c.Action == Delete:
		return turnDelete
	}
	return turnWrite
}

// inTurn orders changes of one turn: by rank, deletes in reverse, then by key.
func inTurn(a, b Change) int {
	r := cmp.Compare(a.Key.Kind.Rank(), b.Key.Kind.Rank())
	if turn(a) == turnDelete {
		r = -r
	}
	return cmp.Or(r, a.Key.Compare(b.Key), cmp.Compare(a.Action, b.Action))
}

func onlyRemoves(fields []Field) bool {
	for _, f := range fields {
		if f.Path == "authenticated_group" || f.Path == "conditions" {
			return false
		}
		if f.New == "" {
			continue
		}
		var before, after schema.Rights
		if f.Old != "" && before.UnmarshalJSON([]byte(f.Old)) != nil || after.UnmarshalJSON([]byte(f.New)) != nil {
			return false
		}
		if !before.Has(after) {
			return false
		}
	}
	return len(fields) > 0
}

// Recorded reports whether the change touches only what ocisync remembers,
// never the registry.
func (c Change) Recorded() bool {
	return c.Action == Adopt || c.Action == Forget || c.Action == Unprotect
}

// Deletes counts what the change takes away: the object itself, or the
// elements of its lists.
func (c Change) Deletes() int {
	if c.Action == Delete || c.Action == Replace {
		if c.Before == nil {
			return 1
		}
		return elements(c.Before.Spec)
	}
	n := 0
	for _, f := range c.Fields {
		n += f.Removes
	}
	return n
}

// Stages cuts the changes that reach a registry into runs that may be written
// together: changes of one turn and one rank, or, when all is true, of one
// turn whatever their rank.
func (p Plan) Stages(all bool) [][]Change {
	var out [][]Change
	for _, c := range p.Changes {
		if c.Recorded() {
			continue
		}
		if n := len(out); n > 0 {
			last := out[n-1][0]
			if turn(last) == turn(c) && (all || last.Key.Kind.Rank() == c.Key.Kind.Rank()) {
				out[n-1] = append(out[n-1], c)
				continue
			}
		}
		out = append(out, []Change{c})
	}
	return out
}

// Needs lists the keys that a change cannot do without: the namespace it hangs
// on, and the people, groups, remotes and namespaces that it names.
func (c Change) Needs() []schema.Key {
	var out []schema.Key
	if ns, ok := c.Key.Namespace(); ok {
		out = append(out, ns)
	}
	r := c.After
	if r == nil {
		r = c.Before
	}
	if r == nil {
		return out
	}
	ref := func(k schema.Kind, name *string) {
		if name != nil && *name != "" {
			out = append(out, schema.Key{Kind: k, Name: *name})
		}
	}
	switch s := r.Spec.(type) {
	case *schema.Group:
		for _, u := range s.Users {
			ref(schema.KindUser, &u)
		}
	case *schema.Namespace:
		ref(schema.KindRemote, s.ProxyOf)
	case *schema.Access:
		for _, g := range s.Users {
			ref(schema.KindUser, &g.Name)
		}
		for _, g := range s.Groups {
			ref(schema.KindGroup, &g.Name)
		}
		ref(schema.KindGroup, s.AuthenticatedGroup)
	case *schema.Robot:
		for _, g := range s.Access {
			if g.Name != "*" {
				ref(schema.KindNamespace, &g.Name)
			}
		}
		for _, perm := range s.Permissions {
			ref(schema.KindNamespace, &perm.Namespace)
		}
	case *schema.PreheatPolicy:
		ref(schema.KindPreheat, s.Instance)
	case *schema.Replication:
		ref(schema.KindRemote, s.To)
		ref(schema.KindRemote, s.From)
		ref(schema.KindNamespace, s.Namespace)
	case *schema.Mirror:
		out = append(out, namespacesOf(s.To)...)
	case *schema.Artifact:
		out = append(out, namespacesOf(s.To)...)
	case *schema.Scan:
		ref(schema.KindScanner, s.Default)
		ref(schema.KindScanner, s.Scanner)
	}
	return out
}

// namespacesOf lists the namespaces that a repository may lie in: which of
// them exist only the states know.
func namespacesOf(repository *string) []schema.Key {
	if repository == nil {
		return nil
	}
	var out []schema.Key
	for i, r := range *repository {
		if r == '/' && i > 0 {
			out = append(out, schema.Key{Kind: schema.KindNamespace, Name: (*repository)[:i]})
		}
	}
	return out
}
