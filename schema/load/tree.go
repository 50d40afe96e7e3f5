package load

import (
	"fmt"
	"sort"
	"strings"
	"unicode"

	"github.com/ocisync/ocisync/schema"
)

// NodeKind is the sort of a [Node].
type NodeKind uint8

// The sorts of values. DateTime is every value with a time of day.
const (
	Table NodeKind = iota
	Array
	String
	Integer
	Float
	Bool
	Date
	DateTime
)

// String names the sort as messages do.
func (k NodeKind) String() string {
	return [...]string{"a table", "a list", "a text", "a whole number", "a number with a point", "true or false", "a date", "a time"}[k]
}

// form says how a table or list came to be; TOML's rules on reopening hang on it.
type form uint8

const (
	plain    form = iota // a value
	implicit             // named on the way to another header
	header               // [name]
	dotted               // by a dotted key
	inline               // { … }
	lifted               // made of a bare value
	repeated             // a list made by [[name]]
	merged               // of several files, or with defaults
)

// Range is a stretch of bytes of a file.
type Range struct{ Start, End int }

// Node is a value in a file, or a table merged from several.
type Node struct {
	Kind NodeKind
	// Key is the node's name in its table; "" for list elements and roots.
	Key string
	// KeyRange is where the key stands; for a table where it is named first.
	KeyRange Range
	// Range is where the value stands; for a table with a header, the header.
	Range Range
	// Text is a text as meant, any other scalar as written.
	Text string
	// Fields are a table's, in the order of the file.
	Fields []*Node
	// Items are a list's.
	Items []*Node

	tree      *Tree
	form      form
	isDefault bool // stands below [defaults]
	told      bool // its value is wrong, and a problem says so
	index     map[string]int
}

// Tree is one parsed file.
type Tree struct {
	File string // as it is called in messages
	Data []byte
	Root *Node

	dir    string  // of the file, from the directory that holds the modes; slashes
	lines  []int32 // offset of each line
	broken bool    // a syntax error: what follows it is not known
	secret []Range
}

// Position is the line and column of an offset.
func (t *Tree) Position(offset int) schema.Position {
	i := sort.Search(len(t.lines), func(i int) bool { return int(t.lines[i]) > offset }) - 1
	return schema.Position{File: t.File, Line: i + 1, Col: offset - int(t.lines[i]) + 1}
}

// span is where a line begins and ends, its line end included.
func (t *Tree) span(line int) (start, end int) {
	start, end = int(t.lines[line-1]), len(t.Data)
	if line < len(t.lines) {
		end = int(t.lines[line])
	}
	return start, end
}

// problem makes a problem at an offset.
func (t *Tree) problem(offset int, key, what, want string) Problem {
	return Problem{Position: t.Position(offset), Key: key, What: what, Want: want, tree: t}
}

// Position is where messages about the node point: its value, or for a table
// its header.
func (n *Node) Position() schema.Position {
	if n.tree == nil {
		return schema.Position{}
	}
	return n.tree.Position(n.Range.Start)
}

// KeyPosition is where the node's key stands.
func (n *Node) KeyPosition() schema.Position {
	if n.tree == nil {
		return schema.Position{}
	}
	return n.tree.Position(n.KeyRange.Start)
}

// Get returns a table's field, or nil.
func (n *Node) Get(key string) *Node {
	if n == nil {
		return nil
	}
	if n.index != nil {
		if i, ok := n.index[key]; ok {
			return n.Fields[i]
		}
		return nil
	}
	for _, f := range n.Fields {
		if f.Key == key {
			return f
		}
	}
	return nil
}

func (n *Node) add(f *Node) {
	n.Fields = append(n.Fields, f)
	switch {
	case n.index != nil:
		n.index[f.Key] = len(n.Fields) - 1
	case len(n.Fields) == 12:
		n.index = make(map[string]int, 24)
		for i, f := range n.Fields {
			n.index[f.Key] = i
		}
	}
}

// open reports whether other tables may be merged into the table leaf by leaf.
func (n *Node) open() bool { return n.Kind == Table && n.form != inline }

// Path joins key parts as TOML would write them.
func Path(parts ...string) string {
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(keyText(p))
	}
	return b.String()
}

// join appends a part to a path.
func join(path, part string) string {
	if path == "" {
		return keyText(part)
	}
	return path + "." + keyText(part)
}

// keyText is a key as TOML writes it: bare where it can be.
func keyText(k string) string {
	for i := 0; i < len(k); i++ {
		c := k[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return quote(k)
		}
	}
	if k == "" {
		return `""`
	}
	return k
}

// quote writes a text as a basic string. What does not show, or turns around
// what does, is escaped.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case !unicode.IsPrint(r) && r > 0xffff:
			fmt.Fprintf(&b, `\U%08X`, r)
		case !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
