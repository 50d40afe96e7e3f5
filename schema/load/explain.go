package load

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// Origin tells where one value of an object comes from.
type Origin struct {
	Path  string `json:"path"`  // dotted, from the top of the mode
	Value string `json:"value"` // as the file writes it
	From  string `json:"from"`  // "own block", or the defaults' table, such as "defaults.namespace"
	schema.Position
}

// Explain tells of an object or a value of a mode what it is and where it
// comes from: its own block, its defaults, which file. The key is a path as
// TOML writes it (namespace.team-a.retention) or as plans do
// (retention/team-a). The mode must be valid; else the error is an [Errors].
func Explain(root, mode, key string) ([]Origin, error) {
	c, tree, err := openMode(root, mode, "", nil)
	if err != nil {
		return nil, err
	}
	if !c.exceeded {
		c.mode(tree)
	}
	if err := c.err(); err != nil {
		return nil, err
	}
	parts := tomlPath(key)
	n, path := tree, ""
	written := tree // without defaults: it has what is "unmanaged"
	for i, part := range parts {
		next := n.Get(part)
		written = written.Get(part)
		if next == nil && written != nil && unmanaged(written) && i == len(parts)-1 {
			next = written
		}
		if next == nil {
			var names []string
			for _, f := range n.Fields {
				names = append(names, f.Key)
			}
			slices.Sort(names)
			where := "the mode"
			if path != "" {
				where = path
			}
			return nil, fmt.Errorf("%s says nothing of %q; %s", where, part, oneOf(part, names))
		}
		path = join(path, part)
		if i == 1 {
			next = c.effective(tree, parts[0], next)
		}
		n = next
	}
	if len(parts) == 1 && n.Kind == Table && (parts[0] == "namespace" || slices.Contains(named(), schema.Kind(parts[0]))) {
		all := *n
		all.Fields, all.index = nil, nil
		for _, f := range n.Fields {
			all.add(c.effective(tree, parts[0], f))
		}
		n = &all
	}
	var out []Origin
	origins(&out, n, path)
	return out, nil
}

// tomlPath parts a path; a key of a plan becomes the path of its block.
func tomlPath(key string) []string {
	k, err := schema.ParseKey(key)
	if err != nil || k.Name == "" {
		return schema.SplitPath(key)
	}
	ns, ofNamespace := k.Namespace()
	switch {
	case !ofNamespace:
		return []string{string(k.Kind), k.Child()}
	case k.Kind.Single():
		return []string{"namespace", ns.Name, string(k.Kind)}
	}
	return []string{"namespace", ns.Name, string(k.Kind), k.Child()}
}

// effective is a block with its defaults.
func (c *checker) effective(root *Node, kind string, n *Node) *Node {
	defaults := root.Get("defaults")
	switch {
	case n.Kind != Table:
		return n
	case kind == "namespace":
		n = c.withDefaults(n, defaults.Get(kind))
		out := *n
		out.Fields, out.index = nil, nil
		for _, f := range n.Fields {
			if slices.Contains(below(), schema.Kind(f.Key)) && f.Kind == Table {
				many := *f
				many.Fields, many.index = nil, nil
				for _, child := range f.Fields {
					many.add(overlay(child, defaults.Get(f.Key)))
				}
				f = &many
			}
			out.add(f)
		}
		return &out
	case slices.Contains(named(), schema.Kind(kind)):
		return overlay(n, defaults.Get(kind))
	}
	return n
}

func origins(out *[]Origin, n *Node, path string) {
	if n.open() {
		for _, f := range n.Fields {
			p := join(path, f.Key)
			if n.form == lifted {
				p = path
			}
			origins(out, f, p)
		}
		return
	}
	o := Origin{Path: path, Position: n.KeyPosition(), From: "own block",
		Value: strings.TrimSpace(string(n.tree.Data[n.Range.Start:n.Range.End]))}
	if n.isDefault {
		o.From = "defaults." + strings.SplitN(path, ".", 2)[0]
	}
	*out = append(*out, o)
}
