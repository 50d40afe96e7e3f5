package load

import (
	"path/filepath"

	"github.com/ocisync/ocisync/schema"
)

// robots are the checks between robots: two secrets in one place would leave one
// of them nowhere; and between the keys of one, which may come from defaults.
func (c *checker) robots(root *Node) {
	taken := map[string]*Node{} // by path
	for _, r := range robotNodes(root) {
		c.overlap(r.node, r.path)
		secret := r.node.Get("secret")
		deliver := secret.Get("deliver")
		for _, word := range []string{"file", "docker_config"} {
			n := deliver.Get(word)
			if n.text() == "" || n.tree == nil || c.muted {
				continue
			}
			name := filepath.Clean(n.text())
			first := taken[name]
			if first == nil {
				taken[name] = n
				continue
			}
			p := n.tree.problem(n.Range.Start, r.path+".secret.deliver."+word, "another robot's secret goes to "+quote(clip(name))+" too, and only one of them would be there", "give each robot a file of its own")
			p.Also = first.Position()
			c.problems = append(c.problems, p)
		}
	}
}

// overlap demands that the old account of a robot ends before the new one does.
func (c *checker) overlap(r *Node, path string) {
	n := r.Get("overlap")
	overlap, err := schema.ParseDuration(n.text())
	expires, err2 := schema.ParseDuration(r.Get("expires").text())
	if n == nil || n.tree == nil || err != nil || err2 != nil || expires <= 0 || overlap >= 0 && overlap < expires {
		return
	}
	c.problems = append(c.problems, n.tree.problem(n.Range.Start, path+".overlap", "the old account would work as long as the new one or longer", "write less than expires, which is "+quote(r.Get("expires").text())))
}

type robotNode struct {
	node *Node
	path string
}

// robotNodes are the tables of robots, those of namespaces included.
func robotNodes(root *Node) (out []robotNode) {
	in := func(n *Node, path string) {
		if list := n.Get("robot"); list != nil && list.Kind == Table {
			for _, r := range list.Fields {
				if r.Kind == Table {
					out = append(out, robotNode{r, join(join(path, "robot"), r.Key)})
				}
			}
		}
	}
	in(root, "")
	if list := root.Get("namespace"); list != nil && list.Kind == Table {
		for _, ns := range list.Fields {
			if ns.Kind == Table {
				in(ns, join("namespace", ns.Key))
			}
		}
	}
	return out
}
