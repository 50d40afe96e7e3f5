package load

import (
	"bytes"
	"strconv"
	"strings"
)

// maxForms is how many different forms of objects CUE is asked about: sets of
// keys, and which of the values are right. A large mode has some dozens.
const maxForms = 1000

// forms writes the elements of a list, or the values of a table with free
// keys, for CUE: each distinct one once, in the order of their first, which are
// the labels that CUE's errors speak of.
type forms struct {
	keyed bool     // the question is a table
	kept  [][2]int // where each distinct one stands in the question
	index map[string]int
	start int // of what is being written
	from  int // the same, without what parts it from the one before
}

// begin opens the next element.
func (f *forms) begin(ask *bytes.Buffer) {
	f.start = ask.Len()
	if len(f.kept) > 0 {
		ask.WriteByte(',')
	}
	if f.keyed {
		ask.WriteString(`"` + strconv.Itoa(len(f.kept)) + `":`)
	}
	f.from = ask.Len()
}

// end closes an element, takes it back if one of its form stands there, and
// returns its label.
func (f *forms) end(ask *bytes.Buffer) int {
	text := ask.Bytes()[f.from:]
	if f.index != nil {
		if i, ok := f.index[string(text)]; ok {
			ask.Truncate(f.start)
			return i
		}
	} else {
		for i, k := range f.kept {
			if bytes.Equal(text, ask.Bytes()[k[0]:k[1]]) {
				ask.Truncate(f.start)
				return i
			}
		}
	}
	f.kept = append(f.kept, [2]int{f.from, ask.Len()})
	if f.index == nil && len(f.kept) > 8 {
		f.index = map[string]int{}
		for i, k := range f.kept {
			f.index[string(ask.Bytes()[k[0]:k[1]])] = i
		}
	} else if f.index != nil {
		f.index[string(text)] = len(f.kept) - 1
	}
	return len(f.kept) - 1
}

// member is an element of a list, or a field of a table with free keys.
type member struct {
	node *Node
	at   int // in its list
}

// alike says which members of a node each label stands for.
func (c *checker) alike(n *Node, d *def) [][]member {
	if groups, ok := c.forms[n]; ok {
		return groups
	}
	bad := c.bad
	c.muted = true
	defer func() { c.bad, c.muted = bad, false }()
	f := forms{keyed: n.Kind == Table}
	var ask bytes.Buffer
	var groups [][]member
	add := func(x *Node, d *def, i int) {
		f.begin(&ask)
		c.shape(x, d, "", &strings.Builder{}, &ask)
		label := f.end(&ask)
		if label == len(groups) {
			groups = append(groups, nil)
		}
		groups[label] = append(groups[label], member{x, i})
	}
	if n.Kind == Array {
		for i, x := range n.Items {
			add(x, d.elem, i)
		}
	} else {
		for _, x := range byKey(n.Fields) {
			if c.key(x, d.keys, "") {
				add(x, d.rest, 0)
			}
		}
	}
	if c.forms == nil {
		c.forms = map[*Node][][]member{}
	}
	c.forms[n] = groups
	return groups
}

// free reports whether a table's keys are all names that its user chose.
func (d *def) free() bool { return d.rest != nil && len(d.fields) == 0 }
