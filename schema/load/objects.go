package load

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/ocisync/ocisync/schema"
)

// named are the kinds that stand at the top as tables of tables.
func named() []schema.Kind {
	return []schema.Kind{schema.KindUser, schema.KindGroup, schema.KindRobot, schema.KindLabel, schema.KindRemote, schema.KindScanner,
		schema.KindReplication, schema.KindPreheat, schema.KindMirror, schema.KindArtifact}
}

// once are the kinds that a registry has one object of, written at the top.
func once() []schema.Kind { return []schema.Kind{schema.KindGC, schema.KindAudit, schema.KindScan} }

// onNamespace are the kinds that a namespace has one object of.
func onNamespace() []schema.Kind {
	return []schema.Kind{schema.KindAccess, schema.KindQuota, schema.KindRetention, schema.KindImmutable, schema.KindScan, schema.KindTrust}
}

// below are the kinds that a namespace has many objects of.
func below() []schema.Kind {
	return []schema.Kind{schema.KindWebhook, schema.KindPreheatPolicy, schema.KindLabel, schema.KindRepository, schema.KindRobot}
}

// declare notes the names that references may use.
func (c *checker) declare(root *Node) {
	for _, k := range append(named(), schema.KindNamespace) {
		t := root.Get(string(k))
		if t == nil || len(t.Fields) == 0 {
			continue
		}
		n := &names{set: make(map[string]bool, len(t.Fields))}
		for _, f := range t.Fields {
			n.list = append(n.list, f.Key)
			n.set[f.Key] = true
		}
		c.names[string(k)] = n
	}
}

// objects decodes every object of the mode; one whose name is wrong is checked
// all the same, so that everything wrong with it is said in one run.
func (c *checker) objects(cfg *schema.Config, root *Node) {
	for _, k := range once() {
		if n := root.Get(string(k)); n != nil {
			c.one(cfg, schema.Key{Kind: k}, n, string(k))
		}
	}
	for _, k := range named() {
		c.twins(root.Get(string(k)), k, string(k))
		c.table1(root.Get(string(k)), string(k), func(f *Node, path string) {
			c.childName(f, k, path)
			c.one(cfg, schema.NewKey(k, "", f.Key), overlay(f, root.Get("defaults").Get(string(k))), path)
		})
	}
	c.table1(root.Get("namespace"), "namespace", func(f *Node, path string) {
		c.key(f, []string{"namespace"}, path)
		c.namespace(cfg, f, root.Get("defaults"), path)
	})
	c.checkFormers(root)
}

// table1 walks a table of objects.
func (c *checker) table1(n *Node, path string, each func(*Node, string)) {
	if n == nil || unmanaged(n) {
		return
	}
	if n.Kind != Table {
		c.report(n, path, c.value(n)+" stands here", "write ["+path+".NAME] for each")
		return
	}
	for _, f := range n.Fields {
		p := join(path, f.Key)
		switch {
		case unmanaged(f):
		case f.Kind != Table:
			c.report(f, p, c.value(f)+" stands here", "write a table ["+p+"]")
		default:
			each(f, p)
		}
	}
}

// one checks and decodes one object with its directives.
func (c *checker) one(cfg *schema.Config, key schema.Key, n *Node, path string) {
	d := c.defs.kind(key.Kind)
	if n.Kind != Table {
		c.report(n, path, c.value(n)+" stands here", "write a table ["+path+"]")
		return
	}
	directives := []string{"previously", "paused"}
	if key.Kind.Single() {
		directives = directives[1:]
	}
	if key.Kind == schema.KindNamespace {
		directives = append(directives, "on_delete")
	}
	fields, extra := without(n, directives...), schema.Directive{Key: key}
	known := *fields
	known.Fields, known.index = nil, nil
	for _, f := range fields.Fields {
		if d.field(f.Key) == nil {
			c.unknownAmong(f, join(path, f.Key), func() []string { return objectKeys(key.Kind, d, directives) })
			continue
		}
		known.add(f)
	}
	c.directives(cfg, &extra, n, directives, path)
	text := c.object(&known, d, path)
	if text == "" {
		return
	}
	spec, err := schema.NewSpec(key.Kind)
	if err == nil {
		dec := json.NewDecoder(strings.NewReader(text))
		dec.DisallowUnknownFields()
		err = dec.Decode(spec)
	}
	if err != nil {
		c.report(n, path, "cannot be read", "check its values")
		return
	}
	cfg.Desired.Resources = append(cfg.Desired.Resources, schema.Resource{Key: key, Spec: spec, Source: n.Position()})
}

// objectKeys are the keys of an object's block.
func objectKeys(k schema.Kind, d *def, directives []string) []string {
	names := append(slices.Clone(directives), fieldList(d)...)
	if k == schema.KindNamespace {
		for _, k := range append(onNamespace(), below()...) {
			names = append(names, string(k))
		}
	}
	return names
}

// directives reads what a block says of its object beyond the fields.
func (c *checker) directives(cfg *schema.Config, into *schema.Directive, n *Node, which []string, path string) {
	block := c.defs.get("NamespaceBlock")
	said := false
	for _, key := range which {
		f := n.Get(key)
		if f == nil || unmanaged(f) {
			continue
		}
		p := join(path, key)
		switch key {
		case "paused":
			pause := &schema.Pause{}
			if decode(c, f, c.defs.get("Pause"), p, pause) {
				into.Paused, said = pause, true
			}
		case "on_delete":
			d := block.field(key).def
			if f.Kind != String || !slices.Contains(d.enum, f.Text) {
				c.wrong(f, d, p)
				continue
			}
			into.OnDelete, said = f.Text, true
		case "previously":
			into.Previously = f.Text
			former, _ := into.Former()
			into.Previously = ""
			if f.Kind != String || f.Text == "" || former == into.Key {
				c.report(f, p, c.value(f)+" is not a former name", "write the name that the object had before")
				continue
			}
			if into.Key.Kind == schema.KindNamespace && (len(f.Text) > 255 || !repository.MatchString(f.Text)) {
				c.report(f, p, c.value(f)+" is not the name of a namespace", "write the name that the namespace had before")
				continue
			}
			c.formers = append(c.formers, formerName{former, f, p})
			into.Previously, said = f.Text, true
		}
	}
	if said {
		cfg.Directives = append(cfg.Directives, *into)
	}
}

// baseName is the name as the file writes it.
// formerName is a name that a block claims, and where it does.
type formerName struct {
	key  schema.Key
	node *Node
	path string
}

// checkFormers tells of former names that are declared, and of those that two
// objects claim: one object becomes one.
func (c *checker) checkFormers(root *Node) {
	claimed := map[schema.Key]*Node{}
	for _, f := range c.formers {
		if declared(root, f.key) {
			c.report(f.node, f.path, c.value(f.node)+" is declared too", "an object takes the name of one that is gone; remove the other, or this key")
			continue
		}
		other := claimed[f.key]
		if other == nil {
			claimed[f.key] = f.node
			continue
		}
		problem := f.node.tree.problem(f.node.Range.Start, f.path, c.value(f.node)+" is the former name of another "+string(f.key.Kind)+" too",
			"one object becomes one; let one of the two name it")
		problem.Also = other.Position()
		c.problems = append(c.problems, problem)
	}
}

// declared reports whether the files have a block for the object.
func declared(root *Node, k schema.Key) bool {
	at := root
	if ns, child := k.Namespace(); child {
		at = root.Get("namespace").Get(ns.Name)
	}
	n := at.Get(string(k.Kind)).Get(k.Child())
	return n != nil && !unmanaged(n)
}

// namespace splits a namespace's block into its objects.
func (c *checker) namespace(cfg *schema.Config, own *Node, defaults *Node, path string) {
	name := own.Key
	n := c.withDefaults(own, defaults.Get("namespace"))
	var children []string
	for _, k := range append(onNamespace(), below()...) {
		children = append(children, string(k))
	}
	c.one(cfg, schema.Key{Kind: schema.KindNamespace, Name: name}, without(n, children...), path)
	for _, k := range onNamespace() {
		if f := n.Get(string(k)); f != nil && !unmanaged(f) {
			c.one(cfg, schema.Key{Kind: k, Name: name}, lift(f, k), join(path, string(k)))
		}
	}
	for _, k := range below() {
		c.twins(n.Get(string(k)), k, join(path, string(k)))
		c.table1(n.Get(string(k)), join(path, string(k)), func(f *Node, p string) {
			c.childName(f, k, p)
			if first, rest, nested := strings.Cut(name, "/"); nested && k == schema.KindRepository {
				c.reportKey(f, p, quote(clip(name))+" has no repositories to be described: a registry that has, such as Harbor, has namespaces of one segment",
					"write it as ["+Path("namespace", first, string(k), rest+"/"+f.Key)+"]")
			}
			c.one(cfg, schema.NewKey(k, name, f.Key), overlay(f, defaults.Get(string(k))), p)
		})
	}
}

// key applies the rules for the free keys of a table.
func (c *checker) key(f *Node, rules []string, path string) bool {
	for _, r := range rules {
		if kind, ok := strings.CutPrefix(r, "ref_"); ok {
			c.reference(f, kind, path, true)
			continue
		}
		if r == "namespace" {
			switch {
			case len(f.Key) > 255 || !repository.MatchString(f.Key):
				c.reportKey(f, path, quote(clip(f.Key))+" is not the name of a namespace", `write lower-case letters, digits, and . _ - between them; / parts segments, and a name with / stands in quotes`)
				return false
			case f.Key == "ocisync" || strings.HasPrefix(f.Key, "ocisync/"):
				c.reportKey(f, path, quote(f.Key)+" is ocisync's own namespace", "choose another name")
				return false
			}
			continue
		}
		if want := rule(r, f.Key); want != "" {
			c.reportKey(f, path, quote(clip(f.Key))+" is not "+ruleName(r), want)
			return false
		}
	}
	return true
}

// childName checks the name of an object that is no namespace.
func (c *checker) childName(f *Node, k schema.Kind, path string) {
	if err := nameError(k, f.Key); err != nil {
		c.reportKey(f, path, quote(clip(f.Key))+" is not the name of a "+string(k), err.Error())
	}
}

// mixed reports whether letters of alphabets that look alike stand in one name.
func mixed(name string) bool {
	count := 0
	for _, script := range []*unicode.RangeTable{unicode.Latin, unicode.Greek, unicode.Cyrillic} {
		if strings.ContainsFunc(name, func(r rune) bool { return unicode.Is(script, r) }) {
			count++
		}
	}
	return count > 1
}

// twins tells of names of one kind that look the same: those that Unicode
// counts as one, such as a letter with its accent or before it.
func (c *checker) twins(n *Node, k schema.Kind, path string) {
	if n == nil || n.Kind != Table {
		return
	}
	seen := map[string]*Node{}
	for _, f := range n.Fields {
		form := norm.NFKC.String(f.Key)
		other := seen[form]
		if other == nil {
			seen[form] = f
			continue
		}
		p := f.tree.problem(f.KeyRange.Start, join(path, f.Key), "another "+string(k)+" has a name that looks the same", "remove one of the two, or rename it")
		p.Also = other.KeyPosition()
		c.problems = append(c.problems, p)
	}
}

func nameError(k schema.Kind, name string) error {
	switch {
	case name == "" || len(name) > 255:
		return errors.New("write 1 to 255 bytes")
	case strings.Contains(name, "/") && !k.Slashes():
		return errors.New(`write a name without "/"`)
	case !k.Keeps(name):
		return errors.New(`write a name without "%2F", which is how plans write "/" in one`)
	case strings.TrimSpace(name) != name || strings.ContainsFunc(name, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) }):
		return errors.New("write a name of letters that show, without control characters, and without blanks around it")
	case mixed(name):
		return errors.New("write it in one alphabet; letters of Latin, Greek and Cyrillic that look alike make two names look like one")
	}
	switch k {
	case schema.KindUser:
		if strings.Contains(name, ":") || strings.Contains(name, ",") || strings.ContainsFunc(name, unicode.IsSpace) {
			return errors.New("write a name without colons, commas and blanks")
		}
	case schema.KindRobot:
		if !robotName.MatchString(name) {
			return errors.New("write lower-case letters, digits, and . _ - between them")
		}
		if base, ok := strings.CutSuffix(name, ".2"); ok {
			return errors.New(`this is the second account of robot "` + base + `"; choose another name`)
		}
	case schema.KindRepository:
		if !repository.MatchString(name) {
			return errors.New("write lower-case letters, digits, and . _ - between them; / parts segments, and a name with / stands in quotes")
		}
	}
	return nil
}
