package load

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// CUE returns the definitions as one CUE file.
func CUE() ([]byte, error) {
	var b strings.Builder
	for i, name := range []string{"config.cue", "kinds.cue", "host.cue"} {
		text, err := schema.Files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		s := string(text)
		if i > 0 {
			s = strings.TrimPrefix(s, "package schema\n")
		}
		b.WriteString(s)
	}
	return []byte(b.String()), nil
}

// Reference describes a part of the format: its keys, what may stand there and
// what it means. The path is one of blocks, kinds and keys, without names:
// "namespace.retention", "registry.run", "user.password"; a kind that stands
// in namespaces only may be named alone. "" describes the whole.
func Reference(path string) (string, error) {
	defs, err := define()
	if err != nil {
		return "", err
	}
	d := defs.get("Mode")
	at := &field{doc: d.doc, def: d}
	var parts []string
	if path != "" {
		parts = schema.SplitPath(path)
	}
	for i, part := range parts {
		d := at.keyed()
		next := d.field(part)
		if next == nil && i == 0 {
			next = defs.get("NamespaceBlock").field(part)
		}
		if next == nil {
			var names []string
			for _, f := range d.fields {
				names = append(names, f.name)
			}
			slices.Sort(names)
			want := "it is one of " + enumerate(names)
			if s := suggest(part, names); s != "" {
				want = "did you mean " + quote(Path(append(slices.Clone(parts[:i]), s)...)) + "?"
			}
			return "", fmt.Errorf("the format has no %q; %s", strings.Join(parts[:i+1], "."), want)
		}
		at = next
	}
	return describe(path, at), nil
}

// keyed is the table in which a path goes on: a table of tables by name, a
// list of tables and a union lead to their element.
func (d *def) keyed() *def {
	switch {
	case d.rest != nil && len(d.rest.fields) > 0:
		return d.rest
	case d.elem != nil && len(d.elem.fields) > 0:
		return d.elem
	}
	for _, a := range d.alts {
		if a.is("table") {
			return a
		}
	}
	return d
}

func describe(path string, f *field) string {
	var b strings.Builder
	d := f.def
	if path != "" {
		fmt.Fprintf(&b, "%s: %s\n", path, kindOfValue(d))
	}
	if f.doc != "" {
		b.WriteString(f.doc + "\n")
	}
	if inner := d.keyed(); inner.doc != "" && inner.doc != f.doc {
		b.WriteString(strings.ToUpper(inner.doc[:1]) + inner.doc[1:] + "\n")
	}
	fields := d.keyed().fields
	if len(fields) == 0 {
		return b.String()
	}
	width := 0
	for _, x := range fields {
		width = max(width, len(x.name))
	}
	b.WriteByte('\n')
	for _, x := range fields {
		required := ""
		if x.required {
			required = "; required"
		}
		fmt.Fprintf(&b, "  %-*s  %s%s\n  %-*s  %s\n", width, x.name, kindOfValue(x.def), required, width, "", x.doc)
	}
	return b.String()
}

// kindOfValue says in one line what may stand somewhere.
func kindOfValue(d *def) string {
	switch {
	case len(d.alts) > 0:
		return d.wanted()
	case d.checked("secret"):
		return `a reference to a secret, such as { env = "OCISYNC_…" }`
	case d.rest != nil && len(d.rest.fields) > 0:
		return "tables by name"
	case d.rest != nil:
		return "a table of names with " + kindOfValue(d.rest)
	case d.is("table"):
		return "a table"
	}
	return d.wanted()
}
