package load

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// Encode writes a configuration as one TOML file: blocks in a fixed order,
// objects sorted, secrets as the references they are. Loading it again gives
// the same configuration but for positions. dir is the directory in which the
// file will stand, below cfg.Dir; paths are written from there.
func Encode(cfg *schema.Config, dir string) ([]byte, error) {
	defs, err := define()
	if err != nil {
		return nil, err
	}
	if cfg.Dir != "" && dir != "" {
		if dir, err = filepath.Rel(cfg.Dir, dir); err != nil {
			return nil, err
		}
		if !filepath.IsLocal(dir) {
			return nil, fmt.Errorf("encode: %s is not below %s; write the file there", dir, cfg.Dir)
		}
	}
	e := encoder{defs: defs, base: cfg.Dir, dir: dir, directives: map[schema.Key]schema.Directive{}}
	for _, d := range cfg.Directives {
		e.directives[d.Key] = d
	}
	e.line("# Mode " + clip(cfg.Mode) + ", written by ocisync. Left out = not managed; secrets are references.")
	e.line("version = 1")
	encodeBlock(&e, "registry", "Registry", cfg.Registry)
	e.settings(cfg.Registry.Type, cfg.Desired.Resources)
	if e.err != nil {
		return nil, e.err
	}
	if cfg.State != (schema.StateConfig{}) {
		encodeBlock(&e, "state", "State", cfg.State)
	}
	encodeBlock(&e, "policy", "Policy", cfg.Policy)
	e.watch(cfg.Watch)
	if cfg.Backup != nil {
		encodeBlock(&e, "backup", "Backup", *cfg.Backup)
	}
	if len(cfg.Owners) > 0 {
		e.header("owners")
		for _, o := range cfg.Owners {
			text, err := json.Marshal(append([]string{}, o.Owners...))
			if err != nil {
				return nil, err
			}
			e.line(keyText(o.Resource) + " = " + e.toml(text, nil))
		}
	}
	if e.onDelete = cfg.OnDelete; e.onDelete != "" {
		e.header("defaults", "namespace")
		e.line("on_delete = " + quote(e.onDelete))
	}
	e.objects(cfg.Desired.Resources)
	if e.err != nil {
		return nil, e.err
	}
	return Format("", e.out.Bytes())
}

// EncodeObjects writes live objects as one more file of a mode, in the order of
// their kinds, and settings before them as those of the registry's type. Texts that
// are empty are left out; where a registry does not give a field back, a reference to
// fill in stands as a comment. An object whose namespace is not among them is written
// below its name all the same: another file declares it.
func EncodeObjects(registry string, objects []schema.Resource) ([]byte, error) {
	defs, err := define()
	if err != nil {
		return nil, err
	}
	e := encoder{defs: defs, partial: true, directives: map[schema.Key]schema.Directive{}}
	e.line("# Found in the registry by ocisync adopt. Left out = not managed.")
	e.settings(registry, objects)
	e.objects(objects)
	if e.err != nil {
		return nil, e.err
	}
	return Format("", e.out.Bytes())
}

type encoder struct {
	partial    bool // found ones: their namespaces may be missing, and their empty texts say nothing
	defs       *definitions
	base, dir  string
	out        bytes.Buffer
	directives map[schema.Key]schema.Directive
	err        error
	onDelete   string // of [defaults.namespace]
}

func (e *encoder) line(s string) { e.out.WriteString(s + "\n") }

func (e *encoder) header(parts ...string) { e.out.WriteString("\n[" + Path(parts...) + "]\n") }

// fields writes the fields of a JSON object as lines, in the order of the
// definition. Tables of rights get a line for each name, and so do those to which
// something is still to be added.
func (e *encoder) fields(text []byte, d *def, open ...string) {
	m := e.object(text)
	for _, f := range d.fields {
		raw, ok := m[f.name]
		if !ok || e.partial && string(raw) == `""` {
			continue
		}
		if f.rest != nil && len(f.rest.fields) == 0 {
			if table := e.object(raw); len(table) > 0 {
				for _, k := range keys(table) {
					e.line(f.name + "." + keyText(k) + " = " + e.toml(table[k], f.rest))
				}
				continue
			}
		}
		if !slices.Contains(open, f.name) {
			e.line(f.name + " = " + e.toml(raw, f.def))
			continue
		}
		table := e.object(raw)
		for _, part := range f.fields {
			if raw, ok := table[part.name]; ok && string(raw) != `""` {
				e.line(f.name + "." + part.name + " = " + e.toml(raw, part.def))
			}
		}
	}
}

func (e *encoder) object(text []byte) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(text, &m); err != nil && e.err == nil {
		e.err = fmt.Errorf("encode: %w", err)
	}
	return m
}

func keys(m map[string]json.RawMessage) []string {
	list := make([]string, 0, len(m))
	for k := range m {
		list = append(list, k)
	}
	return sorted(list)
}

// toml writes a JSON value as a TOML value on one line; d may be nil.
func (e *encoder) toml(raw []byte, d *def) string {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return `""`
	}
	switch raw[0] {
	case '{':
		m := e.object(raw)
		names := keys(m)
		if d != nil {
			d = d.keyed()
			at := func(k string) int {
				return slices.IndexFunc(d.fields, func(f *field) bool { return f.name == k })
			}
			slices.SortStableFunc(names, func(a, b string) int { return at(a) - at(b) })
		}
		var parts []string
		for _, k := range names {
			if e.partial && string(m[k]) == `""` {
				continue
			}
			var inner *def
			if d != nil && d.field(k) != nil {
				inner = d.field(k).def
			}
			parts = append(parts, keyText(k)+" = "+e.toml(m[k], inner))
		}
		if len(parts) == 0 {
			return "{}"
		}
		return "{ " + strings.Join(parts, ", ") + " }"
	case '[':
		var items []json.RawMessage
		if err := json.Unmarshal(raw, &items); err != nil && e.err == nil {
			e.err = fmt.Errorf("encode: %w", err)
		}
		parts := make([]string, len(items))
		for i, item := range items {
			var inner *def
			if d != nil {
				inner = d.elem
			}
			parts[i] = e.toml(item, inner)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil && e.err == nil {
			e.err = fmt.Errorf("encode: %w", err)
		}
		if d != nil && d.checked("date") {
			return s
		}
		if d != nil && (d.checked("path") || d.checked("pathglob")) {
			s = e.path(s)
		}
		return quote(s)
	case 'n':
		if e.err == nil {
			e.err = errors.New("encode: a value is null, which TOML has no word for; take it out of the registry's configuration")
		}
	}
	return string(raw)
}

// path is a path from the directory in which the file will stand.
func (e *encoder) path(p string) string {
	if filepath.IsAbs(p) && e.base != "" {
		if rel, err := filepath.Rel(e.base, p); err == nil && filepath.IsLocal(rel) {
			p = filepath.ToSlash(rel)
		}
	}
	if filepath.IsAbs(p) || e.dir == "" {
		return p
	}
	rel, err := filepath.Rel(e.dir, filepath.FromSlash(p))
	if err != nil {
		return p
	}
	return filepath.ToSlash(rel)
}

func encodeBlock[T any](e *encoder, name, definition string, v T) {
	text, err := json.Marshal(v)
	if err != nil {
		e.err = fmt.Errorf("encode: %w", err)
		return
	}
	if string(text) == "{}" {
		return
	}
	e.header(name)
	e.fields(text, e.defs.get(definition))
}

func (e *encoder) watch(w schema.Watch) {
	rules := w.Drift
	w.Drift = nil
	if len(rules) == 0 {
		encodeBlock(e, "watch", "Watch", w)
		return
	}
	e.header("watch")
	if len(rules) == 1 && rules[0].Kind == "" {
		e.line("drift = " + quote(rules[0].Do))
	} else {
		for _, r := range rules {
			k := string(r.Kind)
			if k == "" {
				k = "default"
			}
			e.line("drift." + k + " = " + quote(r.Do))
		}
	}
	text, err := json.Marshal(w)
	if err != nil {
		e.err = err
		return
	}
	e.fields(text, e.defs.get("Watch"))
}

// settings writes a registry's own, if any.
func (e *encoder) settings(registry string, list []schema.Resource) {
	for _, r := range list {
		s, ok := r.Spec.(*schema.Settings)
		if !ok || len(s.Values) == 0 || e.err != nil {
			continue
		}
		e.header("registry", registry)
		for _, v := range s.Values {
			e.line(v.Path + " = " + e.toml([]byte(v.JSON), nil))
			if e.err != nil {
				e.err = fmt.Errorf("registry.%s.%s: %w", registry, v.Path, e.err)
				return
			}
		}
		for _, path := range r.Unread {
			path = strings.TrimPrefix(path, "values.")
			e.unread(path, e.defs.get("SecretRef"), registry, path)
		}
	}
}

// unread writes what is to be filled in where a registry shows something to nobody: a
// text, or a reference to a secret, by a variable that is called as what it is of.
func (e *encoder) unread(path string, d *def, of ...string) {
	const why = " # cannot be read, and is not managed until it is written here"
	if d != nil && d.is("string") {
		e.line("# " + path + ` = ""` + why)
		return
	}
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(strings.Join(of, "_")))
	e.line("# " + path + " = { env = " + quote("OCISYNC_"+strings.ToUpper(name)) + " }" + why)
}

// objects writes all objects; what hangs on a namespace stands behind it.
func (e *encoder) objects(list []schema.Resource) {
	children := map[string][]schema.Resource{}
	declared := map[string]bool{}
	for _, r := range list {
		if ns, ok := r.Key.Namespace(); ok {
			children[ns.Name] = append(children[ns.Name], r)
		}
		if r.Key.Kind == schema.KindNamespace {
			declared[r.Key.Name] = true
		}
	}
	for name := range children {
		if !declared[name] && !e.partial && e.err == nil {
			e.err = fmt.Errorf("encode: objects of namespace %q without the namespace; add it to the state", name)
		}
	}
	for _, k := range schema.Kinds() {
		for _, r := range list {
			_, hangs := r.Key.Namespace()
			if r.Key.Kind != k || hangs || k == schema.KindSettings {
				continue
			}
			if r.Key.Name == "" {
				e.one(r, string(k))
				continue
			}
			e.one(r, string(k), r.Key.Child())
			if k == schema.KindNamespace {
				e.children(r.Key.Name, children[r.Key.Name])
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(children)) {
		if !declared[name] {
			e.children(name, children[name])
		}
	}
}

// PathOf is the table of an object in a file, as problems name it.
func PathOf(k schema.Key) string {
	ns, hangs := k.Namespace()
	switch {
	case !hangs && k.Name == "":
		return Path(string(k.Kind))
	case !hangs:
		return Path(string(k.Kind), k.Child())
	case k.Kind.Single():
		return Path("namespace", ns.Name, string(k.Kind))
	}
	return Path("namespace", ns.Name, string(k.Kind), k.Child())
}

func (e *encoder) children(namespace string, list []schema.Resource) {
	for _, child := range list {
		if child.Key.Kind.Single() {
			e.one(child, "namespace", namespace, string(child.Key.Kind))
		} else {
			e.one(child, "namespace", namespace, string(child.Key.Kind), child.Key.Child())
		}
	}
}

func (e *encoder) one(r schema.Resource, path ...string) {
	text, err := json.Marshal(r.Spec)
	if err != nil {
		e.err = fmt.Errorf("encode %s: %w", r.Key, err)
		return
	}
	e.header(path...)
	var open []string
	for _, path := range r.Unread {
		name, _, _ := strings.Cut(path, ".")
		open = append(open, name)
	}
	e.fields(text, e.defs.kind(r.Key.Kind), open...)
	of := []string{string(r.Key.Kind)}
	if ns, hangs := r.Key.Namespace(); hangs {
		of = append(of, ns.Name)
	}
	for _, path := range r.Unread {
		e.unread(path, e.defs.kind(r.Key.Kind).at(path), append(of, r.Key.Child(), path)...)
	}
	d := e.directives[r.Key]
	if d.Previously != "" {
		e.line("previously = " + quote(d.Previously))
	}
	if d.OnDelete != "" {
		e.line("on_delete = " + quote(d.OnDelete))
	} else if r.Key.Kind == schema.KindNamespace && e.onDelete != "" {
		e.line(`on_delete = "unmanaged"`)
	}
	if d.Paused != nil {
		text, err := json.Marshal(d.Paused)
		if err != nil {
			e.err = fmt.Errorf("encode %s: %w", r.Key, err)
			return
		}
		e.line("paused = " + e.toml(text, e.defs.get("Pause")))
	}
}
