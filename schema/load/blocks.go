package load

import (
	"cmp"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// mode checks a whole mode and decodes what is good of it.
func (c *checker) mode(root *Node) *schema.Config {
	cfg := &schema.Config{Dir: c.dir}
	d := c.defs.get("Mode")
	// A syntax error hides what follows it; what stands twice hides nothing.
	broken := slices.ContainsFunc(c.problems, func(p Problem) bool { return p.Also == schema.Position{} })
	for _, f := range root.Fields {
		if d.field(f.Key) == nil {
			c.unknown(f, d, keyText(f.Key))
		}
	}
	if v := root.Get("version"); v != nil {
		c.version(v)
	} else if !broken {
		c.problems = append(c.problems, Problem{Position: root.tree.Position(0), Key: "version",
			What: "the format's version is missing", Want: "add version = 1 at the top, or run ocisync fmt --upgrade"})
	}
	c.declare(root)
	c.checkDefaults(root.Get("defaults"))
	if d := root.Get("defaults").Get("namespace").Get("on_delete"); d != nil && !unmanaged(d) {
		cfg.OnDelete = d.text()
	}
	if r := root.Get("registry"); r != nil {
		c.registry(cfg, r)
	} else if !broken {
		c.problems = append(c.problems, Problem{Position: root.tree.Position(0), Key: "registry",
			What: "the table is missing", Want: `add [registry] with type and url`})
	}
	decodeBlock(c, root, "state", "State", &cfg.State)
	decodeBlock(c, root, "policy", "Policy", &cfg.Policy)
	if root.Get("backup") != nil {
		cfg.Backup = &schema.Backup{}
		decodeBlock(c, root, "backup", "Backup", cfg.Backup)
	}
	c.watch(cfg, root.Get("watch"))
	c.owners(cfg, root.Get("owners"))
	if c.expanded(root) {
		c.objects(cfg, root)
	}
	c.crossChecks(root)
	if broken {
		c.problems = slices.DeleteFunc(c.problems, func(p Problem) bool { return follows(p.What) })
	}
	if cfg.State.Dir != "" {
		cfg.State.Dir = c.absolute(cfg.State.Dir)
	}
	slices.SortFunc(cfg.Directives, func(a, b schema.Directive) int { return a.Key.Compare(b.Key) })
	if err := cfg.Desired.Sort(); err != nil {
		c.problems = append(c.problems, Problem{Position: root.tree.Position(0), What: err.Error(), Want: "rename one of the two"})
	}
	cfg.Desired.Scope = schema.ScopeOf(cfg.Desired.Kinds()...)
	return cfg
}

// follows reports whether a problem may come only of what a syntax error hid.
func follows(what string) bool {
	return strings.HasSuffix(what, "is missing") || strings.Contains(what, "is not declared")
}

func (c *checker) version(n *Node) {
	if n.Kind != Integer || n.Text != "1" {
		c.report(n, "version", c.value(n)+" is not a version of the format that this ocisync reads", "write version = 1, or use a newer ocisync")
	}
}

// absolute is a path of this tree on this machine.
func (c *checker) absolute(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.dir, filepath.FromSlash(p))
}

// decodeBlock checks a block and reads it into a struct.
func decodeBlock[T any](c *checker, root *Node, key, definition string, into *T) {
	if n := root.Get(key); n != nil {
		decode(c, n, c.defs.get(definition), key, into)
	}
}

// decode checks a node and reads it. A value that passes every check and still
// cannot be read is a mistake of this program; it is told as a problem.
func decode[T any](c *checker, n *Node, d *def, path string, into *T) bool {
	text := c.object(n, d, path)
	if text == "" {
		return false
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		c.report(n, path, "cannot be read", "check its values")
		return false
	}
	return true
}

// without copies a table but for some keys.
func without(n *Node, drop ...string) *Node {
	out := *n
	out.Fields, out.index = nil, nil
	for _, f := range n.Fields {
		if !slices.Contains(drop, f.Key) && !unmanaged(f) {
			out.add(f)
		}
	}
	return &out
}

func (c *checker) registry(cfg *schema.Config, n *Node) {
	natives := []string{schema.TypeZot, schema.TypeHarbor, schema.TypeDistribution}
	if n.Kind != Table {
		c.report(n, "registry", c.value(n)+" stands here", "write [registry] with type and url")
		return
	}
	plain := without(n, natives...)
	if !decode(c, plain, c.defs.get("Registry"), "registry", &cfg.Registry) {
		if t := n.Get("type"); t != nil {
			cfg.Registry.Type = t.Text // so that what hangs on it is checked
		}
	}
	r := &cfg.Registry
	if r.TLS != nil {
		for _, p := range []**string{&r.TLS.CA, &r.TLS.Cert, &r.TLS.Key} {
			if *p != nil {
				abs := c.absolute(**p)
				*p = &abs
			}
		}
	}
	if r.Run != nil {
		r.Run.Data = c.absolute(r.Run.Data)
		if r.Run.Storage != nil {
			r.Run.Storage.Source = n.Get("run").Get("storage").Position()
		}
	}
	for _, native := range natives {
		s := n.Get(native)
		if s == nil || unmanaged(s) {
			continue
		}
		if native != r.Type && slices.Contains(natives, r.Type) {
			c.reportKey(s, "registry."+native, `these are settings of another type than "`+r.Type+`"`, `write them as [registry.`+r.Type+`], or change registry.type`)
			continue
		}
		c.settings(cfg, s, native)
	}
}

func (c *checker) watch(cfg *schema.Config, n *Node) {
	if n == nil {
		return
	}
	var w struct {
		schema.Watch
		Drift json.RawMessage `json:"drift"`
	}
	if !decode(c, n, c.defs.get("Watch"), "watch", &w) {
		return
	}
	cfg.Watch = w.Watch
	if len(w.Drift) == 0 {
		return
	}
	var all string
	if json.Unmarshal(w.Drift, &all) == nil {
		cfg.Watch.Drift = []schema.DriftRule{{Do: all}}
		return
	}
	var by map[string]string
	if json.Unmarshal(w.Drift, &by) != nil {
		return
	}
	for kind, do := range by {
		if kind == "default" {
			kind = ""
		}
		cfg.Watch.Drift = append(cfg.Watch.Drift, schema.DriftRule{Kind: schema.Kind(kind), Do: do})
	}
	slices.SortFunc(cfg.Watch.Drift, func(a, b schema.DriftRule) int { return cmp.Compare(a.Kind, b.Kind) })
}

func (c *checker) owners(cfg *schema.Config, n *Node) {
	if n == nil {
		return
	}
	var by map[string][]string
	if !decode(c, n, c.defs.get("Owners"), "owners", &by) {
		return
	}
	for pattern, list := range by {
		cfg.Owners = append(cfg.Owners, schema.Owner{Resource: pattern, Owners: list})
	}
	slices.SortFunc(cfg.Owners, func(a, b schema.Owner) int { return cmp.Compare(a.Resource, b.Resource) })
}
