package load

import "strconv"

// stateKeyAlone demands that the reference of state.key is used for nothing
// else: whoever gets the key can sign what ocisync believes, and every other
// secret goes to some server.
func (c *checker) stateKeyAlone(root *Node) {
	state := root.Get("state")
	if state == nil || state.Kind != Table {
		return
	}
	key := state.Get("key")
	if key == nil || key.Kind != Table {
		return
	}
	var walk func(n *Node, path string)
	walk = func(n *Node, path string) {
		if n != key && n.sameSource(key) {
			p := n.tree.problem(n.Range.Start, path, "this is the state key, which signs and is sent nowhere", "name another secret here, or another in state.key")
			p.Also = key.Position()
			c.problems = append(c.problems, p)
			return
		}
		for _, f := range n.Fields {
			walk(f, join(path, f.Key))
		}
		for i, item := range n.Items {
			walk(item, path+"["+strconv.Itoa(i)+"]")
		}
	}
	walk(root, "")
}

// sameSource reports whether two tables are references to the same secret.
func (n *Node) sameSource(o *Node) bool {
	if n.Kind != Table || n.tree == nil {
		return false
	}
	found := 0
	for _, word := range []string{"env", "file", "age", "command"} {
		a, b := n.Get(word), o.Get(word)
		if a.text() != b.text() {
			return false
		}
		if a.text() != "" {
			found++
		}
	}
	return found == 1 && len(n.Fields) == len(o.Fields) && sameArgs(n.Get("args"), o.Get("args"))
}

func sameArgs(a, b *Node) bool {
	if a == nil || b == nil {
		return a == b
	}
	if len(a.Items) != len(b.Items) {
		return false
	}
	for i := range a.Items {
		if a.Items[i].Text != b.Items[i].Text {
			return false
		}
	}
	return true
}
