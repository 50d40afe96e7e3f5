package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// checker walks one mode's tree, or the host file's, and collects problems.
type checker struct {
	defs     *definitions
	judge    *judge
	problems Errors
	more     int                  // problems that are only counted
	names    map[string]*names    // what the mode declares, by kind
	formers  []formerName         // what its objects were called
	dir      string               // that paths stay inside
	inMode   bool                 // paths are from the file; otherwise the host file's
	defaults bool                 // [defaults] is being checked in its own right
	partial  bool                 // keys may be missing
	bad      int                  // problems of the object at hand, told or not
	checked  map[string]bool      // remembered answers of expensive rules
	near     schema.Nearest       // what did-you-mean may still cost
	forms    map[*Node][][]member // of the object at hand: what each of CUE's labels stands for
	spent    struct{ zones, regexes int }
	outside  map[string]bool // paths looked up so far, and whether links lead them out
	muted    bool            // nothing is told: a node is looked at again
	exceeded bool            // a bound: what follows would not be bounded
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
	if !c.tells(n) {
		return
	}
	if len(c.problems) > maxProblems { // nobody will read it
		c.more++
		return
	}
	if n.tree == nil {
		c.problems = append(c.problems, Problem{Key: path, What: what, Want: want})
		return
	}
	c.problems = append(c.problems, n.tree.problem(offset, path, what, want))
}

// tells reports whether a problem of a node is one to tell of.
func (c *checker) tells(n *Node) bool { return !c.muted && (!n.isDefault || c.defaults) }

// err is nil without problems; otherwise the problems, sorted.
func (c *checker) err() error { return c.problems.err(c.more) }

// object checks one object and returns its canonical JSON, "" if anything is
// wrong with it.
func (c *checker) object(n *Node, d *def, path string) string {
	if c.exceeded {
		return ""
	}
	c.bad, c.forms = 0, nil
	var out strings.Builder
	var ask bytes.Buffer
	c.shape(n, d, path, &out, &ask)
	rejected, ok := c.judge.ask(d.name, ask.Bytes())
	if !ok {
		c.exceeded = true
		c.reportKey(n, path, fmt.Sprintf("up to here the objects have more than %d different sets of keys", maxForms),
			"write objects that are alike with the same keys, or split the mode")
	}
	for _, p := range rejected {
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
// and as CUE is asked about it: without unknown keys, and with every value
// that CUE judges alike written alike, so that equal forms are asked once.
func (c *checker) shape(n *Node, d *def, path string, out *strings.Builder, ask *bytes.Buffer) {
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
		if most := d.most(); len(n.Items) > most {
			c.report(n, path, fmt.Sprintf("the list has %d elements", len(n.Items)), fmt.Sprintf("at most %d are read here", most))
			out.WriteString("[]")
			ask.WriteString("[]")
			return
		}
		elem := d.elem
		if elem == nil {
			elem = anything()
		}
		out.WriteByte('[')
		ask.WriteByte('[')
		var f forms
		for i, item := range n.Items {
			if i > 0 {
				out.WriteByte(',')
			}
			f.begin(ask)
			c.shape(item, elem, path+"["+strconv.Itoa(i)+"]", out, ask)
			f.end(ask)
		}
		out.WriteByte(']')
		ask.WriteByte(']')
	case Integer:
		v, _ := integer(n.Text)
		out.WriteString(strconv.FormatInt(v, 10))
		ask.WriteString(strconv.FormatInt(d.likeInt(v), 10))
	case Bool:
		out.WriteString(n.Text)
		ask.WriteString("true")
	case Float:
		v, err := strconv.ParseFloat(strings.ReplaceAll(n.Text, "_", ""), 64)
		if err != nil || v != v || v > 1e300 || v < -1e300 {
			if d.open { // elsewhere no such number belongs at all
				c.report(n, path, n.Text+" has no meaning here", "write a number")
			}
			v = 0
		}
		out.WriteString(strconv.FormatFloat(v, 'g', -1, 64))
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
		ask.WriteString(jsonText(d.likeText(text)))
	}
}

// most is how many elements a list may have.
func (d *def) most() int {
	if d.elem != nil && (d.elem.checked("pattern") || d.elem.checked("ignore")) {
		return maxPatterns
	}
	return maxItems
}

// likeInt is the number that stands for all that a definition judges as it
// does v: CUE knows of numbers only whether they are within bounds.
func (d *def) likeInt(v int64) int64 {
	switch {
	case d.number != "":
		return v
	case d.min != nil && v < *d.min:
		return *d.min - 1
	case d.max != nil && v > *d.max:
		return *d.max + 1
	case d.min != nil:
		return *d.min
	case d.max != nil:
		return *d.max
	}
	return 0
}

// likeText is likeInt for texts: CUE knows of them only those that are listed.
func (d *def) likeText(s string) string {
	switch {
	case d.enum == nil:
		return ""
	case slices.Contains(d.enum, s):
		return d.enum[0]
	}
	return "?" // no listed text
}

func (c *checker) table(n *Node, d *def, path string, out *strings.Builder, ask *bytes.Buffer) {
	fields := byKey(n.Fields)
	out.WriteByte('{')
	ask.WriteByte('{')
	if !d.is("table") { // CUE tells that no table belongs here; its keys do not matter
		out.WriteByte('}')
		ask.WriteByte('}')
		return
	}
	if d.free() && len(fields) > maxItems {
		c.report(n, path, fmt.Sprintf("the table has %d keys", len(fields)), fmt.Sprintf("at most %d are read here", maxItems))
		fields = nil
	}
	first := true
	alike := forms{keyed: true}
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
			fd = anything()
		default:
			c.unknown(f, d, p)
			continue
		}
		if !first {
			out.WriteByte(',')
		}
		out.WriteString(jsonText(f.Key) + ":")
		if d.free() {
			alike.begin(ask)
			c.shape(f, fd, p, out, ask)
			alike.end(ask)
		} else {
			if !first {
				ask.WriteByte(',')
			}
			ask.WriteString(jsonText(f.Key) + ":")
			c.shape(f, fd, p, out, ask)
		}
		first = false
	}
	out.WriteByte('}')
	ask.WriteByte('}')
	if !c.partial || n.form == inline {
		c.missing(n, d, path)
		c.tableRules(n, d, path)
	}
}

func byKey(fields []*Node) []*Node {
	s := slices.Clone(fields)
	slices.SortFunc(s, func(a, b *Node) int { return strings.Compare(a.Key, b.Key) })
	return s
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
	c.unknownAmong(f, path, func() []string { return fieldList(d) })
}

func (c *checker) unknownAmong(f *Node, path string, names func() []string) {
	if !c.tells(f) {
		c.bad++
		return
	}
	c.hide(f)
	want := "mend the problems before it first"
	if len(c.problems) < maxProblems { // later ones are only counted
		want = nearestOf(&c.near, f.Key, sorted(names()))
	}
	c.reportKey(f, path, `"`+f.Key+`" is not a key here`, want)
}

// explain says in our words what CUE rejects at a path below a node.
func (c *checker) explain(n *Node, d *def, path string, parts []string) {
	d = d.alt(n)
	if len(parts) == 0 {
		c.wrong(n, d, path)
		return
	}
	switch part := parts[0]; {
	case n.Kind == Array && d.elem != nil || n.Kind == Table && d.free():
		groups := c.alike(n, d)
		i, err := strconv.Atoi(part)
		if err != nil || i >= len(groups) {
			c.wrong(n, d, path)
			return
		}
		for _, x := range groups[i] {
			if n.Kind == Table {
				c.explain(x.node, d.rest, join(path, x.node.Key), parts[1:])
			} else {
				c.explain(x.node, d.elem, path+"["+strconv.Itoa(x.at)+"]", parts[1:])
			}
		}
	case n.Kind == Table:
		next, fd := n.Get(part), d.field(part)
		if n.form != lifted {
			path = join(path, part)
		}
		switch {
		case next == nil:
			c.wrong(n, d, path)
		case fd != nil:
			c.explain(next, fd.def, path, parts[1:])
		default:
			c.explain(next, d, path, parts[1:])
		}
	default:
		c.wrong(n, d, path)
	}
}

// wrong says that a value is not what its definition allows, and what is.
func (c *checker) wrong(n *Node, d *def, path string) {
	if n.told || d.checked("secret") {
		return // told already; a secret without its value
	}
	if n.Kind == String && d.is("string") && d.enum != nil {
		c.report(n, path, `"`+clip(n.Text)+`" is not a value of this key`, nearestOf(&c.near, n.Text, d.enum))
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
	return strings.ReplaceAll(strings.ReplaceAll(Safe(s), "\n", `\n`), "\t", `\t`)
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
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)              // as schema.CanonicalJSON writes it
	if err := enc.Encode(s); err != nil { // it never fails for a string
		return `""`
	}
	return strings.TrimSuffix(b.String(), "\n")
}
