package load

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Parse reads one TOML 1.0 file into a tree. The error is an [Errors]; the
// tree then holds what stands before the first syntax error, and is never nil.
func Parse(file string, data []byte) (*Tree, error) {
	t := newTree(file, data)
	p := parser{tree: t}
	p.run()
	return t, p.problems.err(0)
}

func newTree(file string, data []byte) *Tree {
	t := &Tree{File: file, Data: data, lines: make([]int32, 1, bytes.Count(data, []byte("\n"))+1)}
	for at := 0; ; {
		i := bytes.IndexByte(data[at:], '\n')
		if i < 0 {
			break
		}
		at += i + 1
		t.lines = append(t.lines, int32(at)) // a file has no more than maxFile bytes
	}
	t.Root = &Node{Kind: Table, tree: t, form: header}
	return t
}

type parser struct {
	tree     *Tree
	problems Errors
	current  *Node  // the table that keys go to
	prefix   string // its path
	tables   int    // of this mode's files so far
	nodes    int    // the same
	exceeded bool   // a bound: there is more than is worth to be looked at
}

func (p *parser) fail(offset int, key, what, want string) {
	p.problems = append(p.problems, p.tree.problem(offset, key, what, want))
}

func (p *parser) clash(offset int, key, what, want string, other *Node) {
	problem := p.tree.problem(offset, key, what, want)
	problem.Also = other.KeyPosition()
	p.problems = append(p.problems, problem)
}

func (p *parser) run() {
	if !p.bounds() {
		return
	}
	p.current = p.tree.Root
	var u unstable.Parser
	u.Reset(p.tree.Data)
	for u.NextExpression() {
		e := u.Expression()
		switch e.Kind {
		case unstable.Table:
			p.table(e, false)
		case unstable.ArrayTable:
			p.table(e, true)
		case unstable.KeyValue:
			if p.current != nil {
				p.keyValue(p.current, e, p.prefix, 0)
			}
		}
		if len(p.problems) >= maxTold {
			p.tree.broken = true
			p.fail(len(p.tree.Data), "", fmt.Sprintf("%d problems were found before the end of the file", maxTold), "mend these first")
			return
		}
		if p.nodes > maxNodes || p.tables > maxTables {
			p.tree.broken, p.exceeded = true, true
			p.fail(0, "", "there are too many tables or values", fmt.Sprintf("at most %d tables and %d values are read of a mode; split it", maxTables, maxNodes))
			return
		}
	}
	if err := u.Error(); err != nil {
		p.syntax(&u, err)
	}
}

// part is one part of a dotted key.
type part struct {
	text string
	at   Range
}

func (p *parser) key(e *unstable.Node) []part {
	var parts []part
	for it := e.Key(); it.Next(); {
		n := it.Node()
		parts = append(parts, part{string(n.Data), Range{int(n.Raw.Offset), int(n.Raw.Offset + n.Raw.Length)}})
	}
	return parts
}

// checkKey bounds a key; prefix and depth are those of the table it stands in.
func (p *parser) checkKey(parts []part, prefix string, depth int) bool {
	total := len(prefix)
	for _, k := range parts {
		if total += len(k.text); len(k.text) > maxKey || total > maxKey {
			what := fmt.Sprintf("a key has %d bytes", len(k.text))
			if len(k.text) <= maxKey {
				what = fmt.Sprintf("a key and the names of its tables have %d bytes", total)
			}
			p.fail(k.at.Start, "", what, fmt.Sprintf("at most %d are read", maxKey))
			return false
		}
		if raw := p.tree.Data[k.at.Start:k.at.End]; raw[0] == '"' {
			p.escapes(k.at.Start, raw)
		}
	}
	if depth+len(parts) > maxDepth {
		p.fail(parts[0].at.Start, "", "tables are nested too deeply", fmt.Sprintf("at most %d levels are read", maxDepth))
		return false
	}
	return true
}

// table handles [name] and [[name]].
func (p *parser) table(e *unstable.Node, list bool) {
	p.tables++
	parts := p.key(e)
	p.current = nil // until the header proves good, its keys go nowhere
	if !p.checkKey(parts, "", 0) {
		return
	}
	start := bytes.LastIndexByte(p.tree.Data[:parts[0].at.Start], '[')
	if list {
		start--
	}
	end := parts[len(parts)-1].at.End + bytes.IndexByte(p.tree.Data[parts[len(parts)-1].at.End:], ']') + 1
	at, path := p.tree.Root, ""
	for _, k := range parts[:len(parts)-1] {
		path = join(path, k.text)
		next := at.Get(k.text)
		switch {
		case next == nil:
			next = p.node(Table, k, k.at, implicit)
			at.add(next)
		case next.Kind == Array && next.form == repeated:
			next = next.Items[len(next.Items)-1]
		case next.Kind != Table || next.form == inline:
			p.clash(k.at.Start, path, "has a value already and cannot be a table", "remove one of the two", next)
			return
		}
		at = next
	}
	last := parts[len(parts)-1]
	path = join(path, last.text)
	old := at.Get(last.text)
	switch {
	case list && old == nil:
		old = p.node(Array, last, Range{start, end}, repeated)
		at.add(old)
		fallthrough
	case list && old.form == repeated:
		item := p.node(Table, part{"", last.at}, Range{start, end}, header)
		old.Items = append(old.Items, item)
		p.current, p.prefix = item, fmt.Sprintf("%s[%d]", path, len(old.Items)-1)
	case list:
		p.clash(last.at.Start, path, "is not a list of tables", "name it once, as one or the other", old)
	case old == nil:
		p.current, p.prefix = p.node(Table, last, Range{start, end}, header), path
		at.add(p.current)
	case old.Kind == Table && old.form == implicit:
		old.form, old.Range, old.KeyRange = header, Range{start, end}, last.at
		p.current, p.prefix = old, path
	case old.Kind == Table && old.form != inline:
		p.clash(last.at.Start, path, "the table stands twice", "put all its keys below one of the headers", old)
		p.current, p.prefix = old, path // its keys are still checked
	default:
		p.clash(last.at.Start, path, "has a value already and cannot be a table", "remove one of the two", old)
	}
}

func (p *parser) node(kind NodeKind, k part, at Range, f form) *Node {
	p.nodes++
	return &Node{Kind: kind, Key: k.text, KeyRange: k.at, Range: at, tree: p.tree, form: f}
}

// keyValue adds key = value to a table and returns where the value ends.
func (p *parser) keyValue(into *Node, e *unstable.Node, prefix string, depth int) int {
	parts := p.key(e)
	last := parts[len(parts)-1]
	eq := last.at.End + bytes.IndexByte(p.tree.Data[last.at.End:], '=') + 1
	start := eq + len(p.tree.Data[eq:]) - len(bytes.TrimLeft(p.tree.Data[eq:], " \t"))
	if !p.checkKey(parts, prefix, depth) {
		return p.value(&Node{tree: p.tree}, e.Value(), start, prefix, depth)
	}
	path := prefix
	for _, k := range parts[:len(parts)-1] {
		path = join(path, k.text)
		next := into.Get(k.text)
		switch {
		case next == nil:
			next = p.node(Table, k, k.at, dotted)
			into.add(next)
		case next.Kind != Table || next.form == inline:
			p.clash(k.at.Start, path, "has a value already and cannot be a table", "remove one of the two", next)
			next = &Node{Kind: Table, tree: p.tree, form: dotted}
		case next.form != dotted:
			p.clash(k.at.Start, path, "the table has a header of its own", "put the key below that header", next)
		}
		into = next
	}
	path = join(path, last.text)
	n := p.node(String, last, Range{}, plain)
	end := p.value(n, e.Value(), start, path, depth+len(parts))
	switch old := into.Get(last.text); {
	case old == nil:
		into.add(n)
	case old.Kind == Table && old.form != inline:
		p.clash(last.at.Start, path, "is a table already and cannot have a value", "remove one of the two", old)
	default:
		p.clash(last.at.Start, path, "stands twice", "remove one of the two", old)
	}
	return end
}

// value fills in a node whose text begins at an offset, and returns its end.
func (p *parser) value(n *Node, v *unstable.Node, start int, path string, depth int) int {
	if depth > maxDepth {
		p.fail(start, path, "values are nested too deeply", fmt.Sprintf("at most %d levels are read", maxDepth))
		return p.skip(start)
	}
	n.Range.Start = start
	data := p.tree.Data
	switch v.Kind {
	case unstable.Array:
		n.Kind = Array
		at := start + 1
		for it := v.Children(); it.Next(); {
			at = p.gap(at, true)
			item := p.node(String, part{}, Range{}, plain)
			at = p.value(item, it.Node(), at, path+"["+strconv.Itoa(len(n.Items))+"]", depth+1)
			n.Items = append(n.Items, item)
		}
		n.Range.End = p.gap(at, true) + 1
	case unstable.InlineTable:
		n.Kind, n.form = Table, inline
		at := start + 1
		for it := v.Children(); it.Next(); {
			p.gap(at, false) // refuses line ends
			at = p.keyValue(n, it.Node(), path, depth)
		}
		end := p.gap(at, false)
		if bytes.IndexByte(data[at:end], ',') >= 0 {
			p.fail(at+bytes.IndexByte(data[at:end], ','), path, "a comma ends the inline table", "TOML 1.0 allows none there; remove it")
		}
		n.Range.End = end + 1
		sealInline(n)
	case unstable.String:
		n.Kind, n.Text = String, string(v.Data)
		n.Range.End = start + int(v.Raw.Length)
		if data[start] == '"' {
			p.escapes(start, data[start:n.Range.End])
		}
	default:
		end := start + int(v.Raw.Length)
		if v.Kind == unstable.Bool {
			end = start + len(v.Data)
		}
		n.Range.End = end
		p.scalar(n, v, path)
	}
	return n.Range.End
}

// sealInline closes the tables that dotted keys made inside an inline table.
func sealInline(n *Node) {
	for _, f := range n.Fields {
		if f.Kind == Table && f.form == dotted {
			f.form = inline
			f.Range = f.KeyRange
			sealInline(f)
		}
	}
}

// gap skips blanks, commas and, in lists, line ends and comments. Those are
// refused in inline tables, where TOML 1.0 has none.
func (p *parser) gap(at int, list bool) int {
	data, told := p.tree.Data, list
	for at < len(data) {
		switch c := data[at]; c {
		case ' ', '\t', ',', '\r', '\n', '#':
			if !told && (c == '\n' || c == '#') {
				told = true
				p.fail(at, "", "the inline table does not end on its line", "write it on one line, or as a [table]")
			}
			if c == '#' {
				at += max(bytes.IndexByte(data[at:], '\n'), 0)
			}
			at++
		default:
			return at
		}
	}
	return at
}

// skip finds the end of a value too deep to be read.
func (p *parser) skip(at int) int {
	depth := 0
	for ; at < len(p.tree.Data); at++ {
		switch p.tree.Data[at] {
		case '[', '{':
			depth++
		case ']', '}':
			if depth--; depth <= 0 {
				return at + 1
			}
		}
	}
	return at
}

// escapes refuses the escapes that TOML 1.0 has not.
func (p *parser) escapes(at int, raw []byte) {
	for i := 0; i < len(raw)-1; i++ {
		if raw[i] != '\\' {
			continue
		}
		i++
		if slices.Contains([]byte{'e', 'x'}, raw[i]) {
			p.fail(at+i-1, "", `\`+string(raw[i])+" is no escape of TOML 1.0", `write \u00XX`)
		}
	}
}
