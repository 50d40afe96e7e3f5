package load

import "strings"

// hide keeps a node's text out of every source line that is printed.
func (c *checker) hide(n *Node) {
	if n.tree == nil {
		return
	}
	if n.Kind == Table || n.Kind == Array {
		for _, f := range n.Fields {
			if n.form == inline {
				c.hide(f)
			}
		}
		return
	}
	n.tree.secret = append(n.tree.secret, Range{n.Range.Start + 1, n.Range.End - 1})
}

// hideURL hides a URL that carries a password.
func (c *checker) hideURL(n *Node) {
	if strings.Contains(n.Text, "@") {
		c.hide(n)
	}
}

// secret checks a place where a reference to a secret belongs. What stands
// there instead is never repeated.
func (c *checker) secret(n *Node, d *def, path string) {
	const want = `write where it is found: { env = "OCISYNC_…" }, { file = "/run/secrets/…" }, { age = "…" } or { command = "…" }`
	if n.Kind != Table {
		c.hideAll(n)
		c.report(n, path, "a secret does not stand in the file", want)
		return
	}
	found := 0
	for _, key := range []string{"env", "file", "age", "command"} {
		if f := n.Get(key); f != nil {
			found++
			if f.Kind != String || f.Text == "" {
				c.hideAll(f)
				c.report(f, join(path, key), "this names no place", want)
			}
		}
	}
	if found != 1 {
		c.report(n, path, "a reference names exactly one of env, file, age and command", want)
	}
	if args := n.Get("args"); args != nil && n.Get("command") == nil {
		c.reportKey(args, join(path, "args"), "args goes with command", `add command = "…", or remove it`)
	}
	for _, f := range n.Fields {
		if d.field(f.Key) == nil {
			c.hideAll(f)
		}
	}
}

func (c *checker) hideAll(n *Node) {
	c.hide(n)
	for _, f := range n.Fields {
		c.hideAll(f)
	}
	for _, i := range n.Items {
		c.hideAll(i)
	}
}
