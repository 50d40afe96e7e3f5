package config

import (
	"bytes"
	"slices"
	"strings"
)

// style is how a document is written, so that what is added looks alike.
type style struct {
	lines  bool   // entries stand on lines of their own
	eol    string // what ends a line
	unit   string // the indentation of one level
	colon  string // between key and value
	comma  string // the space after a comma within a line
	spread bool   // lists of texts and numbers go over several lines too
}

// short is up to which length a table or list is put into a line with others.
const short = 80

func styleOf(d *Document) style {
	s := style{eol: "\n", colon: ": ", comma: " ", unit: "  "}
	if i := strings.IndexByte(d.src, '\n'); i > 0 && d.src[i-1] == '\r' {
		s.eol = "\r\n"
	}
	root := d.root.value
	if len(root.items) == 0 {
		s.lines = true
		return s
	}
	first := root.items[0]
	s.lines = strings.Contains(first.before, "\n")
	s.colon = first.mid
	if s.lines {
		if unit := lastLine(first.before); unit != "" {
			s.unit = unit
		}
	} else if s.colon == ":" {
		s.comma = ""
	}
	if list := root.plainList(); list != nil {
		s.spread = strings.Contains(list.items[0].before, "\n")
	}
	return s
}

// plainList finds the first list of two or more texts, numbers or truths.
func (n *node) plainList() *node {
	n = n.open()
	if n.kind == '[' && len(n.items) > 1 && n.plain() {
		return n
	}
	for _, it := range n.items {
		if found := it.value.plainList(); found != nil {
			return found
		}
	}
	return nil
}

// plain reports whether no table and no list is among the entries.
func (n *node) plain() bool {
	return !slices.ContainsFunc(n.items, func(it *item) bool { return it.value.kind == '{' || it.value.kind == '[' })
}

// lastLine is the indentation that spaces end with.
func lastLine(space string) string { return space[strings.LastIndexByte(space, '\n')+1:] }

// indent is the indentation of the line on which the entry stands, given that
// of what is around it.
func (it *item) indent(around string) string {
	if strings.Contains(it.before, "\n") {
		return lastLine(it.before)
	}
	return around
}

// insert puts a new entry among others and gives it spaces as they have them.
// The indentation is that of the line on which the table or list begins.
func (d *Document) insert(n *node, i int, fresh *item, indent string) {
	s := d.style
	fresh.mid = ""
	if n.kind == '{' {
		fresh.mid = s.colon
	}
	if len(n.items) == 0 {
		lines := s.lines && (n.kind == '{' || s.spread || fresh.value.kind == '{' || fresh.value.kind == '[')
		fresh.before, fresh.after = "", ""
		if lines {
			fresh.before, fresh.after = s.eol+indent+s.unit, s.eol+indent
		}
		d.format(fresh.value, fresh.indent(indent), !lines)
		n.space = ""
		n.insert(0, fresh)
		return
	}
	beside := n.items[max(i-1, 0)]
	if n.kind == '{' && len(beside.mid) <= len(" : ") {
		fresh.mid = beside.mid
	}
	fresh.after = ""
	last := n.items[len(n.items)-1]
	if i == len(n.items) {
		fresh.after, last.after = last.after, ""
		if len(n.items) > 1 {
			last.after = n.items[0].after
		}
	}
	if strings.Contains(beside.before, "\n") {
		fresh.before = s.eol + lastLine(beside.before)
		d.format(fresh.value, lastLine(beside.before), false)
	} else {
		fresh.before = s.comma
		if len(n.items) > 1 && !strings.Contains(n.items[1].before, "\n") {
			fresh.before = n.items[1].before
		}
		if i == 0 {
			fresh.before, beside.before = beside.before, fresh.before
		}
		d.format(fresh.value, indent, true)
		if s.lines && length(fresh.value) > short {
			d.format(fresh.value, indent, false)
		}
	}
	n.insert(i, fresh)
}

func length(n *node) int {
	var b bytes.Buffer
	n.write(&b)
	return b.Len()
}

// format gives a new value the document's spaces. The indentation is that of
// the line on which it begins.
func (d *Document) format(n *node, indent string, inline bool) {
	s := d.style
	n.space = ""
	inline = inline || n.kind == '[' && n.plain() && !s.spread
	for i, it := range n.items {
		it.before, it.after, it.mid = "", "", ""
		if n.kind == '{' {
			it.mid = s.colon
		}
		switch {
		case !inline:
			it.before = s.eol + indent + s.unit
			if i == len(n.items)-1 {
				it.after = s.eol + indent
			}
		case i > 0:
			it.before = s.comma
		}
		d.format(it.value, it.indent(indent), inline)
	}
}

// place tells where a new key belongs in a table: after the last one that comes
// before it in the order of Zot's documentation, at the end where that says
// nothing.
func (d *Document) place(n *node, path []string, folded string) int {
	order := orderOf(path)
	mine := slices.Index(order, folded)
	if mine < 0 {
		return len(n.items)
	}
	at, known := len(n.items), false
	for i, it := range n.items {
		switch theirs := slices.Index(order, it.fold); {
		case theirs < 0:
		case theirs < mine:
			at, known = i+1, true
		case !known: // the first one that comes after it
			return i
		}
	}
	return at
}

// orderOf lists the keys of a table in the order in which people write them.
func orderOf(path []string) []string {
	switch strings.ToLower(strings.Join(path, ".")) {
	case "":
		return []string{"distspecversion", "storage", "http", "log", "scheduler", "cluster", "extensions"}
	case "storage":
		return []string{"rootdirectory", "commit", "dedupe", "gc", "gcdelay", "gcinterval", "gctimewindow", "retention", "maxrepos",
			"remotecache", "storagedriver", "cachedriver", "subpaths"}
	case "http":
		return []string{"address", "port", "externalurl", "alloworigin", "realm", "readtimeout", "writetimeout", "tls", "ratelimit", "compat", "auth", "accesscontrol"}
	case "http.accesscontrol":
		return []string{"groups", "repositories", "adminpolicy", "metrics"}
	case "log":
		return []string{"level", "output", "audit"}
	}
	return nil
}
