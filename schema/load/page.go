package load

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"cuelang.org/go/cue/ast"
)

//go:generate go test -run UpToDate -update

// pageIntro stands above the tables of [Page].
const pageIntro = `<!-- Generated from schema/*.cue by: go generate ./schema/load -->
# The format of a mode

A mode is the directory ` + "`modes/NAME/`" + `: its ` + "`*.toml`" + ` files together, and those of
` + "`modes/common/`" + ` if there is one. ` + "`ocisync explain KEY`" + ` says of one key what this
page says of all; ` + "`ocisync validate`" + ` checks the files.

- **Left out means not managed.** It never means empty, and never delete. Managed
  and empty is ` + "`[]`, `\"\"`, `0`" + ` or the word the key has for it, such as
  ` + "`\"unlimited\"`, `\"never\"` or `\"none\"`" + `.
- **A list that is present is complete.** In a table of rights, each of ` + "`users`" + ` and
  ` + "`groups`" + ` and each list of rights is complete by itself where it is present.
- **Objects are tables by name.** Several files may speak of one object. The same
  value in two places is an error; a list belongs to one file.
- **Defaults** (` + "`[defaults.namespace]`" + ` and so on) stand for the keys that a block
  leaves out, one by one. ` + "`\"unmanaged\"`" + ` undoes a default.
- **Secrets are references**, as [secrets.md](secrets.md) says.
- **Paths** count from the file that names them and stay inside the directory that
  holds ` + "`modes/`" + `. Paths from the root of the file system name what lies on the
  registry's host: ` + "`registry.run.data`, `registry.files`, `audit.log`" + `; and secrets,
  below directories that the operator allows. ` + "`state.dir`" + ` may be one too, below the
  directory where ocisync keeps its state on this host (` + "`state`" + ` in the host file),
  so that no mode has it written elsewhere.
- **Messages** say file, line and column; columns count bytes, from 1.

`

// Page returns the reference of the whole format as one Markdown page.
func Page() ([]byte, error) {
	defs, err := define()
	if err != nil {
		return nil, err
	}
	w := pageWriter{anchors: map[string]string{}}
	w.b.WriteString(pageIntro)
	w.section("", "Top level", &field{def: defs.get("Mode")})
	w.b.WriteString("## Values\n\nText with a form of its own, in quotes:\n\n")
	for _, d := range defs.scalars() {
		fmt.Fprintf(&w.b, "- **%s** %s\n", d.name, cell(d.doc))
	}
	w.b.WriteByte('\n')
	w.section("", "The host file", &field{def: defs.get("Host")})
	return []byte(strings.TrimRight(w.b.String(), "\n") + "\n"), nil
}

// scalars lists the named definitions of texts, in the order of the files.
func (d *definitions) scalars() []*def {
	var out []*def
	for _, f := range d.files {
		for _, decl := range f.Decls {
			fd, ok := decl.(*ast.Field)
			if !ok {
				continue
			}
			x := d.byRef[label(fd.Label)]
			if len(x.checks) > 0 && slices.Equal(x.types, []string{"string"}) && len(x.enum) == 0 {
				out = append(out, x)
			}
		}
	}
	return out
}

type pageWriter struct {
	b       strings.Builder
	anchors map[string]string // of a table that has its section, by identity
}

// section writes a table's keys, then the tables among them that have none yet.
func (w *pageWriter) section(path, title string, f *field) {
	d := f.keyed()
	level := "##"
	if strings.Count(title, ".") > 0 {
		level = "###"
	}
	fmt.Fprintf(&w.b, "%s %s\n\n", level, title)
	about := f.doc
	if d.name != "" && d.doc != "" {
		about = d.name + " " + d.doc
	}
	w.b.WriteString(cell(about) + "\n\n")
	w.b.WriteString("| key | value | meaning |\n|---|---|---|\n")
	type part struct {
		path, title string
		f           *field
	}
	var parts []part
	for _, x := range d.fields {
		name := "`" + x.name + "`"
		if inner := x.keyed(); len(inner.fields) > 0 && d.name != "Defaults" { // whose blocks have their sections
			id := identity(inner)
			if w.anchors[id] == "" {
				p := strings.TrimPrefix(path+"."+x.name, ".")
				if x.rest != nil {
					p += ".NAME"
				}
				w.anchors[id] = anchor(p)
				parts = append(parts, part{p, p, x})
			}
			name = fmt.Sprintf("[%s](#%s)", name, w.anchors[id])
		}
		value := cell(kindOfValue(x.def))
		if x.required {
			value += "; **required**"
		}
		fmt.Fprintf(&w.b, "| %s | %s | %s |\n", name, value, cell(x.doc))
	}
	w.b.WriteByte('\n')
	for _, p := range parts {
		w.section(p.path, p.title, p.f)
	}
}

// identity tells tables apart that have one section each: a definition may
// stand with and without directives.
func identity(d *def) string {
	var names []string
	for _, f := range d.fields {
		names = append(names, f.name)
	}
	return d.name + " " + strings.Join(names, " ")
}

var notInAnchors = regexp.MustCompile(`[^a-z0-9 _-]`)

// anchor is what Markdown makes of a heading.
func anchor(title string) string {
	return strings.ReplaceAll(notInAnchors.ReplaceAllString(strings.ToLower(title), ""), " ", "-")
}

// cell escapes text for a table.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "*", `\*`, "<", "&lt;").Replace(s)
}
