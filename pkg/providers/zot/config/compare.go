package config

import (
	"slices"
	"strconv"
	"strings"
)

// Change is one difference of two configurations and what it takes to be in
// force.
type Change struct {
	Path   []string
	Reload Reload
	Why    string // for people; "" where nothing needs to be said
}

// Compare lists what a Zot that runs with one configuration makes of another
// that is written in its place, sorted by path: the largest Reload of all is
// what the whole takes. What is equal to Zot is no change.
//
// A key inside a section that both have goes by its row of [Keys]. A section
// that appears or disappears is wired, or torn out, only at a start; what a
// running Zot makes of some of these is dangerous, and said.
func Compare(before, after *Document) []Change {
	c := &comparison{sections: sections()}
	c.walk(newTree(), before.root.value, after.root.value, nil)
	c.retention(before.root.value, after.root.value)
	slices.SortStableFunc(c.changes, func(a, b Change) int { return slices.Compare(a.Path, b.Path) })
	return c.changes
}

// section is a part of the configuration that is wired at start.
type section struct {
	path             string // "*" stands for any name
	appears, goes    Reload
	whyThere, whyNot string
}

func sections() []section {
	const (
		wired = "Zot sets this up only when it starts"
		torn  = "Zot takes this down only when it stops"
	)
	out := []section{
		{"http.auth.htpasswd", Stopped, Stopped,
			"a running Zot that began without logins answers right passwords with an error",
			"a running Zot lets everybody in at once"},
		{"http.auth.ldap", Stopped, Stopped,
			"a running Zot that began without LDAP does not ask it",
			"a running Zot crashes when its LDAP section goes"},
		{"http.auth.openid", Stopped, Stopped, wired, "a running Zot may let everybody in"},
		{"http.auth.bearer", Stopped, Stopped, wired, "a running Zot may let everybody in"},
		{"http.auth.mtls", Stopped, Stopped, wired, "a running Zot may let everybody in"},
		{"http.auth.openid.providers.*", Restart, Restart, wired, torn},
		{"http.accessControl", Stopped, Stopped,
			"a running Zot that began without access control says that it loaded it, and enforces nothing",
			"a running Zot shuts everybody out, administrators too, and is open to all after its next start"},
		{"http.accessControl.metrics", Live, Live, "", ""},
		{"http.tls", Restart, Restart, wired, torn},
		{"storage.subPaths.*", Restart, Restart, wired, torn},
		{"storage.cacheDriver", Restart, Restart, wired, torn},
	}
	for _, name := range []string{"search", "sync", "metrics", "scrub", "lint", "ui", "mgmt", "apikey", "trust", "events"} {
		out = append(out, section{"extensions." + name, Restart, Restart, wired, torn})
	}
	return append(out, section{"extensions.search.cve", Restart, Restart, wired, torn})
}

type comparison struct {
	sections []section
	changes  []Change
}

func (c *comparison) add(path []string, r Reload, why string) {
	c.changes = append(c.changes, Change{slices.Clone(path), r, why})
}

// none reports whether a value means nothing to Zot, which drops nulls and
// empty tables before it looks.
func (n *node) none() bool {
	if n == nil || n.text == "null" {
		return n == nil || !n.bare
	}
	return !n.bare && n.kind == '{' && !n.folded() && !slices.ContainsFunc(n.items, func(it *item) bool { return !it.value.none() })
}

// walk compares two values, of which one may be nil. The tree is nil below
// what the rows know.
func (c *comparison) walk(t *tree, a, b *node, path []string) {
	if a.none() && b.none() {
		return
	}
	if a.none() != b.none() {
		for _, s := range c.sections {
			if !matches(s.path, path) {
				continue
			}
			if a.none() {
				c.add(path, s.appears, s.whyThere)
			} else {
				c.add(path, s.goes, s.whyNot)
			}
			return
		}
	}
	if !a.none() && !b.none() && equal(a, b) {
		return
	}
	inner := t != nil && (t.typ == Table || t.typ == Named)
	if inner && (a.none() || a.kind == '{') && (b.none() || b.kind == '{') {
		a, b := a.opened(), b.opened()
		for _, it := range entries(a, b) {
			var next *tree
			if next = t.child(it.fold); next != nil && next.part == "*" {
				next = &tree{typ: next.typ, key: next.key, below: next.below, part: unquote(it.key), worst: next.worst}
			}
			name := unquote(it.key)
			if next != nil {
				name = next.part
			}
			c.walk(next, entryOf(a, it.fold), entryOf(b, it.fold), append(slices.Clip(path), name))
		}
		return
	}
	r, why := Restart, "" // what no row knows
	if t != nil {
		r = t.worst
	}
	switch r {
	case Restart:
		why = "Zot reads this only when it starts"
	case Stopped:
		why = "a running Zot crashes if it cannot open this file"
	}
	c.add(path, r, why)
}

// entries lists the entries of either table, each key once.
func entries(a, b *node) []*item {
	var out []*item
	if a != nil {
		out = append(out, a.items...)
	}
	if b != nil {
		for _, it := range b.items {
			if a == nil || a.lookup(it.fold) == nil {
				out = append(out, it)
			}
		}
	}
	return out
}

// opened is a node, or none, with its entries.
func (n *node) opened() *node {
	if n == nil {
		return nil
	}
	return n.open()
}

func entryOf(n *node, folded string) *node {
	if n == nil || n.kind != '{' {
		return nil
	}
	if it := n.lookup(folded); it != nil {
		return it.value
	}
	return nil
}

func matches(pattern string, path []string) bool {
	want := strings.Split(pattern, ".")
	if len(want) != len(path) {
		return false
	}
	for i, w := range want {
		if w != "*" && fold(w) != fold(path[i]) {
			return false
		}
	}
	return true
}

// retention corrects what the rows say of it: a running Zot looks at retention
// only if some rule counted tags or looked at their age already.
func (c *comparison) retention(before, after *node) {
	if active(before) {
		return
	}
	for i := range c.changes {
		change := &c.changes[i]
		if !slices.ContainsFunc(change.Path, func(p string) bool { return p == "retention" }) || fold(change.Path[0]) != "storage" {
			continue
		}
		change.Reload = max(change.Reload, Restart)
		change.Why = "a running Zot that began without a rule that counts tags or looks at their age leaves retention as it was"
		if active(after) {
			change.Reload = Stopped
		}
	}
}

// active reports whether a retention rule anywhere counts tags or looks at
// their age.
func active(root *node) bool {
	storage := entryOf(root, "storage")
	if counts(entryOf(entryOf(storage, "retention"), "policies")) {
		return true
	}
	subPaths := entryOf(storage, "subpaths")
	return subPaths != nil && slices.ContainsFunc(subPaths.open().items, func(it *item) bool {
		return counts(entryOf(entryOf(it.value, "retention"), "policies"))
	})
}

func counts(policies *node) bool {
	if policies == nil {
		return false
	}
	return slices.ContainsFunc(policies.open().items, func(policy *item) bool {
		keep := entryOf(policy.value, "keeptags")
		return keep != nil && slices.ContainsFunc(keep.open().items, func(rule *item) bool {
			for _, name := range []string{"mostrecentlypushedcount", "mostrecentlypulledcount"} {
				if n := entryOf(rule.value, name); !n.none() && n.text != strconv.Itoa(0) {
					return true
				}
			}
			for _, name := range []string{"pushedwithin", "pulledwithin"} {
				if !entryOf(rule.value, name).none() {
					return true
				}
			}
			return false
		})
	})
}
