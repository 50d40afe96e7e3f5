package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// Needs says which content must be known to tell what the plan's changes
// touch: the scope's repositories are namespaces, each meaning all below it,
// and "*" for all there are.
func Needs(p Plan) schema.Scope {
	var names []string
	for _, c := range p.all() {
		switch {
		case c.closesOutside():
			names = append(names, "*")
		case c.Key.Kind == schema.KindNamespace && (c.Action == Delete || c.Action == Replace || c.Action == Create):
			names = append(names, c.Key.Name)
		}
	}
	slices.Sort(names)
	return schema.Scope{Repositories: slices.Compact(names)}
}

// closesOutside reports whether the change shuts the repositories that lie in
// no namespace.
func (c Change) closesOutside() bool {
	return c.Key.Kind == schema.KindSettings && slices.ContainsFunc(c.Fields, func(f Field) bool {
		return f.Path == "values."+schema.OutsidePath && f.New == `"deny"` && f.Old != f.New
	})
}

func (p Plan) all() []Change {
	all := slices.Clone(p.Changes)
	for _, h := range p.Held {
		all = append(all, h.Change)
	}
	return all
}

// WithImpact adds to each change what it touches, from what is known of
// content in live.
func WithImpact(p Plan, live schema.State) Plan {
	p.Changes = slices.Clone(p.Changes)
	for i := range p.Changes {
		p.Changes[i] = impact(p.Changes[i], live)
	}
	p.Held = slices.Clone(p.Held)
	for i := range p.Held {
		p.Held[i].Change = impact(p.Held[i].Change, live)
	}
	return p
}

func impact(c Change, live schema.State) Change {
	if !slices.Contains(live.Scope.Repositories, c.Key.Name) && !slices.Contains(live.Scope.Repositories, "*") {
		return c
	}
	line := ""
	switch {
	case c.closesOutside():
		line = closing(live)
	case c.Key.Kind != schema.KindNamespace:
	case c.Action == Create:
		if n := count(live, func(name string) bool { return within(c.Key.Name, name) && owner(name, live) == schema.Key{} }); n.repositories > 0 {
			line = n.String() + " there already come under it"
		}
	case c.Action == Delete || c.Action == Replace:
		n := count(live, func(name string) bool { return owner(name, live) == c.Key })
		line = n.String() + n.lastUsed()
	}
	if line != "" {
		c.Impact = append([]string{line}, c.Impact...)
	}
	return c
}

// within reports whether a repository is the namespace's own or lies below it.
func within(namespace, repository string) bool {
	return repository == namespace || strings.HasPrefix(repository, namespace+"/")
}

type amount struct {
	repositories, tags int
	bytes              schema.Size
	pushed, pulled     schema.Date
}

func (a amount) String() string {
	s := plural(a.repositories, "repository", "repositories") + ", " + plural(a.tags, "tag", "tags")
	if a.bytes > 0 {
		s += ", " + a.bytes.Human()
	}
	return s
}

// lastUsed says when somebody pushed and pulled last, as far as that is known.
func (a amount) lastUsed() (s string) {
	if a.pushed != (schema.Date{}) {
		s += ", last push " + a.pushed.String()
	}
	if a.pulled != (schema.Date{}) {
		s += ", last pull " + a.pulled.String()
	}
	return s
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

func count(live schema.State, in func(repository string) bool) amount {
	var a amount
	for _, r := range live.Repositories {
		if in(r.Name) {
			a.repositories, a.tags, a.bytes = a.repositories+1, a.tags+r.Tags, a.bytes+r.Bytes
			a.pushed, a.pulled = later(a.pushed, r.Pushed), later(a.pulled, r.Pulled)
		}
	}
	return a
}

func later(a, b schema.Date) schema.Date {
	if a.Before(b) {
		return b
	}
	return a
}

// closing lists the repositories that lie in no namespace, the first few by
// name.
func closing(live schema.State) string {
	const few = 10
	var names []string
	for _, r := range live.Repositories {
		if owner(r.Name, live) == (schema.Key{}) && !within(schema.Reserved, r.Name) {
			names = append(names, r.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	more := ""
	if len(names) > few {
		more = fmt.Sprintf(" and %d more", len(names)-few)
	}
	return fmt.Sprintf("closes to all but admins what lies in no namespace: %s%s", strings.Join(names[:min(few, len(names))], ", "), more)
}

// owner is the namespace that a repository belongs to: the longest.
func owner(repository string, live schema.State) schema.Key {
	for name := repository; name != ""; name = name[:max(0, strings.LastIndexByte(name, '/'))] {
		k := schema.Key{Kind: schema.KindNamespace, Name: name}
		if _, ok := live.Get(k); ok {
			return k
		}
	}
	return schema.Key{}
}
