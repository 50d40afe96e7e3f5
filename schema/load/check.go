package load

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// checker walks one mode's tree, or the host file's, and collects problems.
type checker struct {
	defs     *definitions
	judge    *judge
	problems Errors
	names    map[string][]string // what the mode declares, by kind
	dir      string              // that paths stay inside
	inMode   bool                // paths are from the file; otherwise the host file's
	defaults bool                // [defaults] is being checked in its own right
	partial  bool                // keys may be missing
	bad      int                 // problems of the object at hand, told or not
	checked  map[string]bool     // remembered answers of expensive rules
}

// report tells of a problem with a node's value. What stands in [defaults] is
// told once, when that is checked.
func (c *checker) report(n *Node, path, what, want string) { c.at(n, n.Range.Start, path, what, want) }

// reportKey tells of a problem with a node's key.
func (c *checker) reportKey(n *Node, path, what, want string) {
	c.at(n, n.KeyRange.Start, path, what, want)
}

func (c *checker) at(n *Node, offset int, path, what, want string) {
	c.bad++
	if n.isDefault && !c.defaults {
		return
	}
	if n.tree == nil {
		c.problems = append(c.problems, Problem{Key: path, What: what, Want: want})
		return
	}
	c.problems = append(c.problems, n.tree.problem(offset, path, what, want))
}

// object checks one object and returns its canonical JSON, "" if anything is
// wrong with it.
func (c *checker) object(n *Node, d *def, path string) string {
	c.bad = 0
	var out, ask strings.Builder
	c.shape(n, d, path, &out, &ask)
	for _, p := range c.judge.ask(d.name, ask.String()) {
		parts := strings.Split(p, "\x00")
		if p == "" {
			parts = nil
		}
		c.explain(n, d, path, parts)
	}
	if c.bad > 0 {
		return ""
	}
	return out.String()
}

// shape checks keys and rules, and writes the value as JSON twice: as it is,
// and as CUE is asked about it: without unknown keys, and with "" for each
// text that CUE puts no condition on, so that equal shapes are asked once.
func (c *checker) shape(n *Node, d *def, path string, out, ask *strings.Builder) {
	d = d.alt(n)
	if d.checked("secret") {
		c.secret(n, d, path)
	}
	switch n.Kind {
	case Table:
		c.table(n, d, path, out, ask)
	case Array:
		if d.checked("command") {
			c.command(n, path)
		}
		out.WriteByte('[')
		ask.WriteByte('[')
		for i, item := range n.Items {
			if i > 0 {
				out.WriteByte(',')
				ask.WriteByte(',')
			}
			elem := d.elem
			if elem == nil {
				elem = &def{open: true}
			}
			c.shape(item, elem, path+"["+strconv.Itoa(i)+"]", out, ask)
		}
		out.WriteByte(']')
		ask.WriteByte(']')
	case Integer:
		v, _ := integer(n.Text)
		out.WriteString(strconv.FormatInt(v, 10))
		ask.WriteString(strconv.FormatInt(v, 10))
	case Bool:
		out.WriteString(n.Text)
		ask.WriteString(n.Text)
	case Float:
		v, err := strconv.ParseFloat(strings.ReplaceAll(n.Text, "_", ""), 64)
		if err != nil || v != v || v > 1e300 || v < -1e300 {
			c.report(n, path, n.Text+" has no meaning here", "write a number")
			v = 0
		}
		text := strconv.FormatFloat(v, 'g', -1, 64)
		out.WriteString(text)
		ask.WriteString("0.5")
	default:
		text := n.Text
		if n.told {
			c.bad++
		} else if n.Kind == String && d.is("string") || n.Kind == Date && d.checked("date") {
			text = c.rules(n, d, path)
		} else if n.Kind != String && d.is("string") {
			ask.WriteString("0.5") // a date or time where CUE wants a text
			out.WriteString(jsonText(text))
			return
		}
		out.WriteString(jsonText(text))
		if d.enum == nil && d.is("string") {
			text = ""
		}
		ask.WriteString(jsonText(text))
	}
}

func (c *checker) table(n *Node, d *def, path string, out, ask *strings.Builder) {
	fields := slices.Clone(n.Fields)
	slices.SortFunc(fields, func(a, b *Node) int { return strings.Compare(a.Key, b.Key) })
	out.WriteByte('{')
	ask.WriteByte('{')
	if !d.is("table") { // CUE tells that no table belongs here; its keys do not matter
		out.WriteByte('}')
		ask.WriteByte('}')
		return
	}
	first, known := true, 0
	for _, f := range fields {
		p := join(path, f.Key)
		if n.form == lifted {
			p = path
		}
		var fd *def
		switch have := d.field(f.Key); {
		case have != nil:
			fd = have.def
		case d.rest != nil:
			fd = d.rest
			if !c.key(f, d.keys, p) {
				continue
			}
		case d.open:
			fd = &def{open: true, types: []string{"table", "string"}}
		default:
			c.unknown(f, d, p)
			continue
		}
		known++
		if !first {
			out.WriteByte(',')
			ask.WriteByte(',')
		}
		first = false
		out.WriteString(jsonText(f.Key) + ":")
		ask.WriteString(jsonText(f.Key) + ":")
		c.shape(f, fd, p, out, ask)
	}
	out.WriteByte('}')
	ask.WriteByte('}')
	if !c.partial || n.form == inline {
		c.missing(n, d, path)
		c.tableRules(n, d, path)
	}
}

// missing tells of the required keys that a table lacks.
func (c *checker) missing(n *Node, d *def, path string) {
	for _, f := range d.fields {
		if f.required && n.Get(f.name) == nil {
			want := "add " + f.name + " = " + f.sample()
			if f.is("table") {
				want = "add the table [" + join(path, f.name) + "]"
			}
			c.report(n, path, `the key "`+f.name+`" is missing`, want)
		}
	}
}

// unknown tells of a key that no definition has.
func (c *checker) unknown(f *Node, d *def, path string) {
	names := make([]string, len(d.fields))
	for i, x := range d.fields {
		names[i] = x.name
	}
	c.unknownAmong(f, names, path)
}

func (c *checker) unknownAmong(f *Node, names []string, path string) {
	c.hide(f)
	want := "mend the problems before it first"
	if len(c.problems) < maxProblems { // later ones are only counted
		want = oneOf(f.Key, sorted(names))
	}
	c.reportKey(f, path, `"`+f.Key+`" is not a key here`, want)
}

// explain says in our words what CUE rejects at a path below a node.
func (c *checker) explain(n *Node, d *def, path string, parts []string) {
	d = d.alt(n)
	for _, part := range parts {
		var next *Node
		switch n.Kind {
		case Table:
			next = n.Get(part)
			fd := d.field(part)
			switch {
			case next == nil:
			case fd != nil:
				d = fd.def
			case d.rest != nil:
				d = d.rest
			}
			if n.form != lifted {
				path = join(path, part)
			}
		case Array:
			if i, err := strconv.Atoi(part); err == nil && i < len(n.Items) && d.elem != nil {
				next, d = n.Items[i], d.elem
			}
			path += "[" + part + "]"
		}
		if next == nil {
			break
		}
		n = next
		d = d.alt(n)
	}
	c.wrong(n, d, path)
}

// wrong says that a value is not what its definition allows, and what is.
func (c *checker) wrong(n *Node, d *def, path string) {
	if n.told || d.checked("secret") {
		return // told already; a secret without its value
	}
	if n.Kind == String && d.is("string") && d.enum != nil {
		c.report(n, path, `"`+clip(n.Text)+`" is not a value of this key`, oneOf(n.Text, d.enum))
		return
	}
	c.report(n, path, c.value(n)+" stands here", "it is "+d.wanted())
}

// value describes a value in a message.
func (c *checker) value(n *Node) string {
	switch n.Kind {
	case String:
		return `the text "` + clip(n.Text) + `"`
	case Table, Array:
		return n.Kind.String()
	}
	return clip(n.Text)
}

func clip(s string) string {
	if len(s) > 60 {
		s = strings.ToValidUTF8(s[:57], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// wanted describes what a definition allows.
func (d *def) wanted() string {
	if len(d.alts) > 0 {
		var words []string
		for _, a := range d.alts {
			if w := a.wanted(); !slices.Contains(words, w) {
				words = append(words, w)
			}
		}
		return strings.Join(words, ", or ")
	}
	switch {
	case d.number != "":
		return d.number
	case d.enum != nil:
		return enumerate(d.enum)
	case d.elem != nil && d.elem.enum != nil:
		return "a list of " + enumerate(d.elem.enum)
	case d.elem != nil && d.elem.is("table"):
		return "a list of tables, such as [" + d.elem.sample() + "]"
	case d.elem != nil:
		return "a list of texts, such as " + d.sample()
	case d.is("table") && len(d.fields) > 0:
		return "a table, such as " + d.sample()
	case d.is("table"):
		return "a table"
	case d.is("int") && d.min != nil && d.max != nil:
		return fmt.Sprintf("a whole number from %d to %d", *d.min, *d.max)
	case d.is("int"):
		return "a whole number"
	case d.is("bool"):
		return "true or false"
	}
	switch s := d.sample(); {
	case d.checked("date"):
		return "a day, such as " + s
	case s != `"…"`:
		return "a text in quotes, such as " + s
	}
	return "a text in quotes"
}

// sample is a value that a definition allows.
func (d *def) sample() string {
	switch {
	case len(d.alts) > 0:
		return d.alts[0].sample()
	case d.number != "":
		return d.number
	case d.enum != nil:
		return quote(d.enum[0])
	case d.checked("secret"):
		return `{ env = "OCISYNC_…" }`
	case d.elem != nil:
		return "[" + d.elem.sample() + "]"
	case d.is("table"):
		var list []string
		for _, f := range d.fields {
			if f.required {
				list = append(list, f.name+" = "+f.sample())
			}
		}
		if len(list) == 0 && len(d.fields) > 0 {
			list = append(list, d.fields[0].name+" = "+d.fields[0].sample())
		}
		return "{ " + strings.Join(list, ", ") + " }"
	case d.is("int"):
		if d.min != nil {
			return strconv.FormatInt(max(*d.min, 1), 10)
		}
		return "1"
	case d.is("bool"):
		return "true"
	}
	for _, r := range d.checks {
		if s := ruleSample(r); s != "" {
			return s
		}
	}
	return `"…"`
}

// jsonText quotes a text for JSON.
func jsonText(s string) string {
	plain := true
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] == '"' || s[i] == '\\' || s[i] >= 0x7f {
			plain = false
			break
		}
	}
	if plain {
		return `"` + s + `"`
	}
	b, err := json.Marshal(s)
	if err != nil { // it never fails for a string
		return `""`
	}
	return string(b)
}
