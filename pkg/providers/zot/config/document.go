// Package config knows Zot's configuration file: a document that is edited
// by key and keeps everything else byte for byte. Begin with [Parse].
package config

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// Limits of a document. A larger one is refused with what is too large.
const (
	MaxSize   = 16 << 20  // bytes
	MaxDepth  = 100       // tables and lists within each other
	MaxValues = 1_000_000 // of all kinds, counted through
)

// Document is a configuration in JSON that is edited by key. Whatever is not
// edited stays byte for byte: order, spaces, and how numbers and keys are
// spelled. Not safe for concurrent use.
//
// A path leads to a value from the outermost table: keys of tables, matched as
// Zot does without regard to case, and indices of lists, counted from 0.
type Document struct {
	file  string
	src   string // as it was parsed, for positions
	root  item   // without a key
	style style
	keys  *tree // nil until it is needed
}

// node is a JSON value with the spaces within it.
type node struct {
	kind  byte             // '{', '[', '"', '0' for numbers, 't' for true, false and null
	text  string           // as it is written; of a table or list only where that is folded
	at    int              // where a folded one begins in the source; -1 where it is new
	space string           // within an empty table or list
	items []*item          // of a table or list
	index map[string]*item // of a large table, by folded key
	// bare is an extension that Zot sets up although nothing is said of it.
	bare bool
	// forgets is that a folded one holds something that Zot leaves out.
	forgets bool
}

// folds is how deep the tables and lists lie that are kept folded: as text, which is
// read again when somebody asks for what is in it. A configuration of many namespaces
// consists of them.
const folds = 5

func (n *node) fold(text string, at int) {
	if len(n.items) > 0 && !n.none() {
		*n = node{kind: n.kind, text: text, at: at, forgets: n.leaves()}
	}
}

// leaves reports whether there is anything in a table that Zot leaves out.
func (n *node) leaves() bool {
	return n.kind == '{' && slices.ContainsFunc(n.items, func(it *item) bool { return it.value.none() || it.value.leaves() })
}

// folded reports whether the entries are still to be read.
func (n *node) folded() bool { return (n.kind == '{' || n.kind == '[') && n.text != "" }

// open returns the node with its entries. Those of a folded one are the caller's
// alone: a document may be read by many at once.
func (n *node) open() *node {
	if !n.folded() {
		return n
	}
	p := &parser{src: n.text, from: n.at}
	opened, err := p.value(folds)
	if err != nil { // it was read before
		return &node{kind: n.kind}
	}
	if n.at < 0 {
		opened.forget()
	}
	return opened
}

// foldBelow folds what a node at a depth holds, where that is new.
func (n *node) foldBelow(depth int) {
	switch {
	case n.folded():
	case depth < folds:
		for _, it := range n.items {
			it.value.foldBelow(depth + 1)
		}
	case depth == folds && (n.kind == '{' || n.kind == '['):
		var b bytes.Buffer
		n.write(&b)
		n.fold(b.String(), -1)
	}
}

// unfold makes the node one whose entries can be changed.
func (n *node) unfold() { *n = *n.open() }

// item is an entry of a table or list with the spaces around it.
type item struct {
	before string // the key, or the value in a list
	key    string // as it is written; "" in a list
	fold   string // the key as Zot compares it
	mid    string // from the key to the value, with the colon
	value  *node
	after  string // the value
	at     int    // where key or value begin in the source; -1 where it is new
}

// Error is a mistake in a configuration file.
type Error struct {
	At     schema.Position
	Text   string
	Remedy string
	// Runs is that Zot itself may well start with the file.
	Runs bool
}

// Error prints file:line:col, cause and remedy on one line.
func (e *Error) Error() string {
	s := e.Text
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	if p := e.At.String(); p != "" {
		s = p + ": " + s
	}
	return s
}

// Parse reads a configuration; the name says its format and stands in errors.
// Zot reads other formats too: they are refused with the way to convert them.
// Errors: *Error.
func Parse(name string, src []byte) (*Document, error) {
	text := string(src)
	if err := formatOf(name, text); err != nil {
		return nil, err
	}
	return parse(name, text)
}

func parse(name, src string) (*Document, error) {
	p := &parser{file: name, src: src, folds: true}
	if len(src) > MaxSize {
		return nil, p.errorAt(0, fmt.Sprintf("the file has %d bytes, more than the %d that are read", len(src), MaxSize), "is it the right file?")
	}
	d := &Document{file: name, src: src}
	d.root.before = p.space()
	d.root.at = p.at
	var err error
	if d.root.value, err = p.value(1); err != nil {
		return nil, err
	}
	d.root.after = p.space()
	if p.at < len(src) {
		return nil, p.errorAt(p.at, "something follows the end of the configuration", "remove it, or the brace too many before it")
	}
	if d.root.value.kind != '{' {
		return nil, p.errorAt(d.root.at, "the configuration is no table", "it begins with { and ends with }")
	}
	d.style = styleOf(d)
	d.markBare()
	return d, nil
}

// Says reports whether the document was parsed from a text; nil was from none.
func (d *Document) Says(text []byte) bool { return d != nil && d.src == string(text) }

// Bytes is the document as it is written.
func (d *Document) Bytes() []byte {
	var b bytes.Buffer
	b.Grow(len(d.src) + len(d.src)/8)
	d.root.write(&b)
	return b.Bytes()
}

func (it *item) write(b *bytes.Buffer) {
	b.WriteString(it.before)
	b.WriteString(it.key)
	b.WriteString(it.mid)
	it.value.write(b)
	b.WriteString(it.after)
}

func (n *node) write(b *bytes.Buffer) {
	if n.kind != '{' && n.kind != '[' || n.folded() {
		b.WriteString(n.text)
		return
	}
	b.WriteByte(n.kind)
	for i, it := range n.items {
		if i > 0 {
			b.WriteByte(',')
		}
		it.write(b)
	}
	if len(n.items) == 0 {
		b.WriteString(n.space)
	}
	b.WriteByte(n.kind + 2) // '{' and '[' are two before their ends
}

// Taken is the document as Zot takes it, whose reader forgets nulls and tables
// that hold nothing else. What stands in lists it leaves alone.
func (d *Document) Taken() []byte {
	var b bytes.Buffer
	b.Grow(len(d.src))
	d.root.value.writeTaken(&b)
	return b.Bytes()
}

func (n *node) writeTaken(b *bytes.Buffer) {
	if n.kind != '{' && !n.bare || n.folded() && !n.forgets {
		n.write(b)
		return
	}
	sep := ""
	b.WriteByte('{')
	for _, it := range n.open().items {
		if it.value.none() {
			continue
		}
		b.WriteString(sep)
		b.WriteString(it.key)
		b.WriteByte(':')
		it.value.writeTaken(b)
		sep = ","
	}
	b.WriteByte('}')
}

// markBare marks the extensions that Zot sets up by their names alone, which it does
// where the whole section says nothing else.
func (d *Document) markBare() {
	section := entryOf(d.root.value, "extensions")
	if section == nil || section.kind != '{' {
		return
	}
	for _, it := range section.items {
		it.value.bare = false
	}
	if !section.none() {
		return
	}
	for _, name := range []string{"metrics", "search", "scrub", "trust", "ui"} {
		if it := section.lookup(name); it != nil {
			it.value.bare = true
		}
	}
}

// Get returns a value as it is written, in JSON. What Zot forgets counts as
// absent; see [Document.Taken].
func (d *Document) Get(path ...string) (value string, ok bool) {
	it := d.find(path)
	if it == nil || it.value.none() {
		return "", false
	}
	if it.value.text == "null" {
		return "{}", true // of an extension
	}
	var b bytes.Buffer
	it.value.write(&b)
	return b.String(), true
}

// Has reports whether a value is there that [Document.Get] would return.
func (d *Document) Has(path ...string) bool {
	it := d.find(path)
	return it != nil && !it.value.none()
}

// Keys lists the keys of a table in the document's order and spelling; nil
// where there is no table.
func (d *Document) Keys(path ...string) []string {
	it := d.find(path)
	if it == nil || it.value.kind != '{' {
		return nil
	}
	items := it.value.open().items
	out := make([]string, 0, len(items))
	for _, m := range items {
		out = append(out, unquote(m.key))
	}
	return out
}

// Len is the number of entries of a table or list, 0 where there is neither.
func (d *Document) Len(path ...string) int {
	it := d.find(path)
	if it == nil {
		return 0
	}
	return len(it.value.open().items)
}

// Position is where a value's key stood in the file that was parsed, or, where
// it is new, the table or list around it.
func (d *Document) Position(path ...string) schema.Position {
	at := d.root.at
	for i := range path {
		it := d.find(path[:i+1])
		if it == nil || it.at < 0 {
			break
		}
		at = it.at
	}
	return position(d.file, d.src, at)
}

func (d *Document) find(path []string) *item {
	it := &d.root
	for _, part := range path {
		if it = it.value.entry(part); it == nil {
			return nil
		}
	}
	return it
}

// entry returns what a part of a path means, or nil.
func (n *node) entry(part string) *item {
	n = n.open()
	switch n.kind {
	case '{':
		return n.lookup(fold(part))
	case '[':
		if i, err := strconv.Atoi(part); err == nil && i >= 0 && i < len(n.items) {
			return n.items[i]
		}
	}
	return nil
}

// large is from how many keys on a table has an index.
const large = 16

func (n *node) lookup(folded string) *item {
	if n.index != nil {
		return n.index[folded]
	}
	for _, it := range n.open().items {
		if it.fold == folded {
			return it
		}
	}
	return nil
}

func (n *node) insert(i int, it *item) {
	n.items = slices.Insert(n.items, i, it)
	if n.kind == '{' && len(n.items) > large {
		if n.index == nil {
			n.index = make(map[string]*item, 2*len(n.items))
			for _, other := range n.items {
				n.index[other.fold] = other
			}
		}
		n.index[it.fold] = it
	}
}

// remove removes entries; what stays keeps the spaces at both ends.
func (n *node) remove(gone func(*item) bool) {
	if len(n.items) == 0 {
		return
	}
	before, after := n.items[0].before, n.items[len(n.items)-1].after
	n.items = slices.DeleteFunc(n.items, func(it *item) bool {
		if !gone(it) {
			return false
		}
		delete(n.index, it.fold)
		return true
	})
	n.space = ""
	if len(n.items) > 0 {
		n.items[0].before, n.items[len(n.items)-1].after = before, after
	}
}

// Set makes a value what the JSON text says. What is equal already stays as it
// is written, down to single entries of tables and lists, so that little changes
// where little is different. Tables on the way that are missing are made; new
// keys stand where a human would put them. "-" as the last part of a path adds
// to a list.
func (d *Document) Set(value []byte, path ...string) error {
	defer d.markBare()
	n, err := parseValue(string(value), 1+len(path))
	if err != nil {
		return err
	}
	if len(path) == 0 && n.kind != '{' {
		return &Error{Text: "a configuration is a table"}
	}
	n.forget()
	it, indent := &d.root, lastLine(d.root.before)
	for i, part := range path {
		if it.value.text == "null" {
			it.value = &node{kind: '{'}
		}
		it.value.unfold()
		next := it.value.entry(part)
		if next == nil {
			if n, err = d.way(path, i, n); err != nil {
				return err
			}
			err := d.add(it, path[:i], part, n, indent)
			n.foldBelow(i + 2)
			return err
		}
		it, indent = next, next.indent(indent)
	}
	d.merge(it, n, path, indent)
	it.value.foldBelow(len(path) + 1)
	return nil
}

// way makes what is missing between an entry of a path that is new, and the
// value at the path's end. The keys' table says what is a list.
func (d *Document) way(path []string, first int, n *node) (*node, error) {
	for i := len(path) - 1; i > first; i-- {
		if d.keys == nil {
			d.keys = newTree()
		}
		part := path[i]
		switch t := d.keys.find(path[:i]); {
		case part == "-", part == "0" && t != nil && (t.typ == Tables || t.typ == Texts):
			n = &node{kind: '[', items: []*item{{value: n, at: -1}}}
		case t != nil && (t.typ == Tables || t.typ == Texts):
			return nil, &Error{At: d.Position(path[:first]...), Text: fmt.Sprintf("%s is missing, and a list does not begin with entry %q", join(path[:i]), part)}
		default:
			n = &node{kind: '{', items: []*item{newMember(part, n)}}
		}
	}
	return n, nil
}

// forget takes away where values stood that come from elsewhere.
func (n *node) forget() {
	for _, it := range n.items {
		it.at = -1
		it.value.forget()
	}
}

func newMember(key string, value *node) *item {
	return &item{key: quote(key), fold: fold(key), value: value, at: -1}
}

// add puts a new entry into a table or list.
func (d *Document) add(it *item, path []string, part string, value *node, indent string) error {
	n := it.value
	switch n.kind {
	case '{':
		fresh := newMember(part, value)
		d.insert(n, d.place(n, path, fresh.fold), fresh, indent)
		return nil
	case '[':
		i, err := strconv.Atoi(part)
		if part == "-" || err == nil && i == len(n.items) {
			d.insert(n, len(n.items), &item{value: value, at: -1}, indent)
			return nil
		}
		return &Error{At: d.Position(path...), Text: fmt.Sprintf("the list has %d entries, and %q is none of them", len(n.items), part)}
	}
	return &Error{At: d.Position(path...), Text: fmt.Sprintf("%s is no table, so that nothing can stand below it", strings.Join(path, ".")), Remedy: "make it a table"}
}

// merge makes what is there equal to another value, and touches what differs.
func (d *Document) merge(it *item, to *node, path []string, indent string) {
	if equal(it.value, to) {
		return
	}
	it.value.unfold()
	from := it.value
	switch {
	case from.kind == '{' && to.kind == '{':
		from.remove(func(old *item) bool { return to.lookup(old.fold) == nil })
		for _, fresh := range to.items {
			if old := from.lookup(fresh.fold); old != nil {
				d.merge(old, fresh.value, append(slices.Clip(path), unquote(old.key)), old.indent(indent))
			} else {
				d.insert(from, d.place(from, path, fresh.fold), fresh, indent)
			}
		}
	case from.kind == '[' && to.kind == '[':
		d.mergeLists(from, to, path, indent)
	default:
		d.format(to, indent, !d.style.lines)
		it.value = to
	}
}

// mergeLists keeps what is equal at both ends and goes by place between them.
func (d *Document) mergeLists(from, to *node, path []string, indent string) {
	a, b := from.items, to.items
	start := 0
	for start < min(len(a), len(b)) && equal(a[start].value, b[start].value) {
		start++
	}
	end := 0
	for end < min(len(a), len(b))-start && equal(a[len(a)-1-end].value, b[len(b)-1-end].value) {
		end++
	}
	both := min(len(a), len(b)) - end // entries that stay, or change, in their place
	for i := start; i < both; i++ {
		d.merge(a[i], b[i].value, append(slices.Clip(path), strconv.Itoa(i)), a[i].indent(indent))
	}
	gone := map[*item]bool{}
	for _, old := range a[both : len(a)-end] {
		gone[old] = true
	}
	from.remove(func(it *item) bool { return gone[it] })
	for i := both; i < len(b)-end; i++ {
		d.insert(from, i, b[i], indent)
	}
}

// equal tells whether two values mean the same to Zot.
func equal(a, b *node) bool {
	if a.folded() && b.folded() && a.text == b.text {
		return true
	}
	a, b = a.open(), b.open()
	if a.kind != b.kind || len(a.items) != len(b.items) {
		return false
	}
	switch a.kind {
	case '{':
		for _, it := range a.items {
			other := b.lookup(it.fold)
			if other == nil || !equal(it.value, other.value) {
				return false
			}
		}
		return true
	case '[':
		for i, it := range a.items {
			if !equal(it.value, b.items[i].value) {
				return false
			}
		}
		return true
	case '"':
		return a.text == b.text || unquote(a.text) == unquote(b.text)
	case '0':
		return a.text == b.text || sameNumber(a.text, b.text)
	}
	return a.text == b.text
}

// sameNumber compares numbers that a float64 holds exactly; others are equal
// only in the same spelling.
func sameNumber(a, b string) bool {
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	const exact = 1 << 53
	return errX == nil && errY == nil && x == y && x == float64(int64(x)) && x < exact && x > -exact
}

// Delete removes a value with its key, or an entry of a list, and reports
// whether it was there.
func (d *Document) Delete(path ...string) bool {
	if len(path) == 0 {
		return false
	}
	around := &d.root
	for _, part := range path[:len(path)-1] {
		around.value.unfold()
		if around = around.value.entry(part); around == nil {
			return false
		}
	}
	around.value.unfold()
	it := around.value.entry(path[len(path)-1])
	if it == nil {
		return false
	}
	around.value.remove(func(other *item) bool { return other == it })
	d.markBare()
	return true
}
