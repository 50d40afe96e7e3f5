package load

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// settings flattens a registry's own settings. Tables, inline ones too, are
// parted into their leaves; a list, and a reference to a secret, is one value.
func (c *checker) settings(cfg *schema.Config, n *Node, registry string) {
	path := "registry." + registry
	if n.Kind != Table {
		c.report(n, path, c.value(n)+" stands here", "write a table ["+path+"]")
		return
	}
	values := schema.Values{}
	c.flatten(&values, n, registry, "")
	slices.SortFunc(values, func(a, b schema.Value) int { return strings.Compare(a.Path, b.Path) })
	cfg.Desired.Resources = append(cfg.Desired.Resources, schema.Resource{
		Key: schema.Key{Kind: schema.KindSettings}, Spec: &schema.Settings{Values: values}, Source: n.Position()})
}

func (c *checker) flatten(into *schema.Values, n *Node, registry, at string) {
	for _, f := range n.Fields {
		p := join(at, f.Key)
		full := "registry." + registry + "." + p
		if unmanaged(f) {
			continue
		}
		if kind, owned := schema.OwnedSetting(registry, p); owned {
			c.reportKey(f, full, "this belongs to the kind "+string(kind), "write it as "+ownedAs(kind))
			continue
		}
		switch {
		case schema.SecretSetting(registry, p):
			c.bad = 0
			var out strings.Builder
			var ask bytes.Buffer
			c.shape(f, c.defs.get("SecretRef"), full, &out, &ask)
			if c.bad == 0 {
				*into = append(*into, schema.Value{Path: p, JSON: out.String()})
			}
		case f.Kind == Table && len(f.Fields) > 0:
			c.flatten(into, f, registry, p)
		default:
			var out strings.Builder
			var ask bytes.Buffer
			c.shape(f, anything(), full, &out, &ask)
			c.secretsWithin(f, registry, p, full)
			*into = append(*into, schema.Value{Path: p, JSON: out.String()})
		}
	}
}

// secretsWithin refuses secrets in the tables of a list, which is one value:
// references are resolved in values of their own alone.
func (c *checker) secretsWithin(n *Node, registry, at, path string) {
	for i, item := range n.Items {
		c.secretsWithin(item, registry, at, fmt.Sprintf("%s[%d]", path, i))
	}
	for _, f := range n.Fields {
		if p := join(at, f.Key); schema.SecretSetting(registry, p) {
			bad := c.bad
			if c.secret(f, c.defs.get("SecretRef"), join(path, f.Key)); c.bad == bad {
				c.report(f, join(path, f.Key), "a reference to a secret stands in a list, where none is resolved",
					"leave the list out, and keep it in the registry's own configuration")
			}
		} else {
			c.secretsWithin(f, registry, p, join(path, f.Key))
		}
	}
}

// ownedAs is how a kind is written.
func ownedAs(k schema.Kind) string {
	switch {
	case slices.Contains(once(), k):
		return "[" + string(k) + "]"
	case slices.Contains(onNamespace(), k):
		return "[namespace.NAME." + string(k) + "]"
	}
	if slices.Contains(below(), k) && !slices.Contains(named(), k) {
		return "[namespace.NAME." + string(k) + ".NAME]"
	}
	return "[" + string(k) + ".NAME]"
}

// kindOf is the kind of a key pattern.
func kindOf(pattern string) schema.Kind {
	k, _, _ := strings.Cut(pattern, "/")
	return schema.Kind(k)
}
