package load

import (
	"fmt"
	"slices"

	"github.com/ocisync/ocisync/schema"
)

// unmanaged reports whether a value is the word that undoes a default.
func unmanaged(n *Node) bool { return n.Kind == String && n.Text == "unmanaged" && n.tree != nil }

// overlay lays a block over its defaults, leaf by leaf: what the block does not
// say, the defaults say. An inline table or a list is one value. Keys that are
// "unmanaged" are left out.
func overlay(own, defaults *Node) *Node {
	out := *own
	out.Fields, out.index = nil, nil
	for _, f := range own.Fields {
		d := defaults.Get(f.Key)
		switch {
		case unmanaged(f):
		case f.open() && d != nil && d.open():
			out.add(overlay(f, d))
		case f.open():
			out.add(overlay(f, nil))
		default:
			out.add(f)
		}
	}
	if defaults != nil && defaults.open() {
		for _, d := range defaults.Fields {
			if own.Get(d.Key) == nil && !unmanaged(d) {
				out.add(d)
			}
		}
	}
	return &out
}

// expanded reports whether the mode is within its bounds when every block has
// its defaults, and tells where it is not.
func (c *checker) expanded(root *Node) bool {
	defaults := root.Get("defaults")
	if defaults == nil || defaults.Kind != Table {
		return true
	}
	total, cost := 0, map[string]int{}
	for _, f := range defaults.Fields {
		cost[f.Key] = size(f)
	}
	children := func(block *Node) (sum int) {
		for _, k := range below() {
			if f := block.Get(string(k)); f != nil {
				sum += len(f.Fields) * cost[string(k)]
			}
		}
		return sum
	}
	for _, k := range named() {
		if t := root.Get(string(k)); t != nil {
			total += len(t.Fields) * cost[string(k)]
		}
	}
	if t := root.Get("namespace"); t != nil {
		total += len(t.Fields) * (cost["namespace"] + children(defaults.Get("namespace")))
		for _, f := range t.Fields {
			total += children(f)
		}
	}
	if total <= maxNodes {
		return true
	}
	c.exceeded = true
	at := defaults.Fields[0]
	for _, f := range defaults.Fields {
		if cost[f.Key] > cost[at.Key] {
			at = f
		}
	}
	c.problems = append(c.problems, at.tree.problem(at.KeyRange.Start, join("defaults", at.Key), fmt.Sprintf("the defaults make %d values, one set for each block", total),
		fmt.Sprintf("at most %d are read; give fewer defaults, or split the mode", maxNodes)))
	return false
}

// size counts the nodes of a value.
func size(n *Node) int {
	sum := 1
	for _, f := range n.Fields {
		sum += size(f)
	}
	for _, i := range n.Items {
		sum += size(i)
	}
	return sum
}

// withDefaults is overlay for a namespace's block. A default for an object that
// hangs on the namespace and that the block does not declare counts only if it
// is a whole object by itself.
func (c *checker) withDefaults(own, defaults *Node) *Node {
	if defaults == nil || !defaults.open() {
		return overlay(own, nil)
	}
	usable := *defaults
	usable.Fields, usable.index = nil, nil
	lifted := *own
	lifted.Fields, lifted.index = nil, nil
	for _, f := range own.Fields {
		lifted.add(liftChild(f))
	}
	for _, d := range defaults.Fields {
		k := schema.Kind(d.Key)
		mine := lifted.Get(d.Key)
		switch {
		case slices.Contains(onNamespace(), k):
			d = liftChild(d)
			if mine != nil || c.whole(d, c.defs.kind(k)) {
				usable.add(d)
			}
		case slices.Contains(below(), k) && d.open():
			many := *d
			many.Fields, many.index = nil, nil
			for _, child := range d.Fields {
				if mine.Get(child.Key) != nil || c.whole(child, c.defs.kind(k)) {
					many.add(child)
				}
			}
			if len(many.Fields) > 0 {
				usable.add(&many)
			}
		default:
			usable.add(d)
		}
	}
	return overlay(&lifted, &usable)
}

// whole reports whether a table has every key that its definition requires.
func (c *checker) whole(n *Node, d *def) bool {
	if n.Kind != Table {
		return true // of the wrong type, and told so when the defaults are checked
	}
	for _, f := range d.fields {
		if f.required && n.Get(f.name) == nil {
			return false
		}
	}
	return true
}

func liftChild(f *Node) *Node {
	if slices.Contains(onNamespace(), schema.Kind(f.Key)) && !unmanaged(f) {
		return lift(f, schema.Kind(f.Key))
	}
	return f
}

// lift makes a table of a kind that is written as a bare value.
func lift(f *Node, k schema.Kind) *Node {
	field := k.FieldOfScalar()
	if f.Kind == Table || field == "" {
		return f
	}
	value := *f
	value.Key = field
	out := &Node{Kind: Table, Key: f.Key, KeyRange: f.KeyRange, Range: f.KeyRange, tree: f.tree, form: lifted, isDefault: f.isDefault}
	out.add(&value)
	return out
}

// checkDefaults checks [defaults] in its own right: every value must be right,
// and no key is required.
func (c *checker) checkDefaults(n *Node) {
	if n == nil {
		return
	}
	markDefault(n)
	c.defaults, c.partial = true, true
	defer func() { c.defaults, c.partial = false, false }()
	d := c.defs.get("Defaults")
	if n.Kind != Table {
		c.report(n, "defaults", c.value(n)+" stands here", "write [defaults.namespace] and the like")
		return
	}
	for _, f := range n.Fields {
		p := join("defaults", f.Key)
		switch {
		case d.field(f.Key) == nil:
			if slices.Contains(onNamespace(), schema.Kind(f.Key)) {
				c.reportKey(f, p, `"`+f.Key+`" has no defaults of its own`, "write it below [defaults.namespace]")
				continue
			}
			c.unknown(f, d, p)
		case f.Kind != Table:
			c.report(f, p, c.value(f)+" stands here", "write a table ["+p+"]")
		default:
			c.defaultBlock(f, d.field(f.Key).def, p)
		}
	}
}

func (c *checker) defaultBlock(n *Node, d *def, path string) {
	n = overlay(n, nil)
	if prev := n.Get("previously"); prev != nil {
		c.reportKey(prev, join(path, "previously"), "a former name is no default", "write it in the block of the object")
		n = without(n, "previously")
	}
	if d.name != "NamespaceBlock" {
		c.object(n, d, path)
		return
	}
	var rest schema.Config
	var children []string
	for _, k := range onNamespace() {
		children = append(children, string(k))
		if f := n.Get(string(k)); f != nil {
			c.one(&rest, schema.Key{Kind: k, Name: "default"}, lift(f, k), join(path, string(k)))
		}
	}
	for _, k := range below() {
		children = append(children, string(k))
		c.table1(n.Get(string(k)), join(path, string(k)), func(f *Node, p string) {
			c.childName(f, k, p)
			c.one(&rest, schema.NewKey(k, "default", f.Key), f, p)
		})
	}
	c.one(&rest, schema.Key{Kind: schema.KindNamespace, Name: "default"}, without(n, children...), path)
}

func markDefault(n *Node) {
	n.isDefault = true
	for _, f := range n.Fields {
		markDefault(f)
	}
	for _, i := range n.Items {
		markDefault(i)
	}
}
