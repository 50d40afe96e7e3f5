package load

import (
	"fmt"
	"strconv"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/literal"
	cueparser "cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"

	"github.com/ocisync/ocisync/schema"
)

// def is one CUE definition as far as messages, formats and documentation
// need it: what CUE allows, in a form that can be told to users.
type def struct {
	name   string   // of the definition; "" where it is written in place
	doc    string   // without the name at its head
	types  []string // CUE's: string, int, bool; "table", "list"; several in a union
	enum   []string // the allowed texts, where only those are
	number string   // the only allowed number
	checks []string // of @check(…)
	min    *int64
	max    *int64
	fields []*field // a table's, in the order of the definition
	rest   *def     // of a table with free keys
	keys   []string // checks of the free keys
	open   bool     // a table of anything
	elem   *def     // a list's
	alts   []*def   // a union's
}

type field struct {
	name     string
	required bool
	doc      string
	*def
}

// anything is what may stand at a key of an open table, or in a list there.
func anything() *def { return &def{open: true, types: []string{"table", "string"}} }

// field finds a table's field.
func (d *def) field(name string) *field {
	for _, f := range d.fields {
		if f.name == name {
			return f
		}
	}
	return nil
}

// at finds the definition at a path of names, nil if there is none.
func (d *def) at(path string) *def {
	for name := range strings.SplitSeq(path, ".") {
		f := d.field(name)
		if f == nil {
			return nil
		}
		d = f.def
	}
	return d
}

// is reports whether values of a type are allowed.
func (d *def) is(t string) bool {
	for _, x := range d.types {
		if x == t {
			return true
		}
	}
	return false
}

// checked reports whether a rule of this name applies.
func (d *def) checked(rule string) bool {
	for _, c := range d.checks {
		if c == rule {
			return true
		}
	}
	return false
}

// alt chooses the branch of a union that a node means.
func (d *def) alt(n *Node) *def {
	if len(d.alts) == 0 {
		return d
	}
	want := "scalar"
	switch n.Kind {
	case Table:
		want = "table"
	case Array:
		want = "list"
	}
	for _, a := range d.alts {
		if a.is(want) {
			return a
		}
	}
	for _, a := range d.alts {
		if want == "scalar" && !a.is("table") && !a.is("list") {
			return a
		}
	}
	return d
}

// definitions are all of the CUE files.
type definitions struct {
	files []*ast.File
	raw   map[string]*ast.Field
	byRef map[string]*def
}

// define reads the embedded CUE files. They are part of the program: an error
// is one of its own.
func define() (*definitions, error) {
	d := &definitions{raw: map[string]*ast.Field{}, byRef: map[string]*def{}}
	for _, name := range []string{"config.cue", "kinds.cue", "host.cue"} {
		text, err := schema.Files.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("definitions: %w", err)
		}
		f, err := cueparser.ParseFile(name, text, cueparser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("definitions: %w", err)
		}
		d.files = append(d.files, f)
		for _, decl := range f.Decls {
			if fd, ok := decl.(*ast.Field); ok {
				d.raw[label(fd.Label)] = fd
			}
		}
	}
	for name := range d.raw {
		if _, err := d.ref(name); err != nil {
			return nil, fmt.Errorf("definition %s: %w", name, err)
		}
	}
	return d, nil
}

// get returns a definition by its name without the #; it must exist.
func (d *definitions) get(name string) *def { return d.byRef["#"+name] }

// kind returns the definition of a kind.
func (d *definitions) kind(k schema.Kind) *def { return d.byRef["#"+kindName(k)] }

// kindName is the name of a kind's definition: that of its Go type.
func kindName(k schema.Kind) string {
	switch k {
	case schema.KindGC:
		return "GC"
	case schema.KindPreheatPolicy:
		return "PreheatPolicy"
	}
	return strings.ToUpper(string(k[:1])) + string(k[1:])
}

func label(l ast.Label) string {
	switch l := l.(type) {
	case *ast.Ident:
		return l.Name
	case *ast.BasicLit:
		if s, err := literal.Unquote(l.Value); err == nil {
			return s
		}
	}
	return ""
}

func (d *definitions) ref(name string) (*def, error) {
	if have := d.byRef[name]; have != nil {
		return have, nil
	}
	f := d.raw[name]
	if f == nil {
		return nil, fmt.Errorf("%s is not defined", name)
	}
	x := &def{}
	d.byRef[name] = x // before its parts, which may refer to it
	y, err := d.expr(f.Value)
	if err != nil {
		return nil, err
	}
	*x = *y
	x.name = strings.TrimPrefix(name, "#")
	x.doc = doc(f)
	_, rest, _ := strings.Cut(x.doc, " ")
	if w, _, _ := strings.Cut(x.doc, " "); w == x.name {
		x.doc = rest
	}
	if rules := checks(f); x.rest != nil {
		x.keys = append(x.keys, rules...)
	} else {
		x.checks = append(x.checks, rules...)
	}
	return x, nil
}

func doc(f *ast.Field) string {
	var b strings.Builder
	for _, g := range ast.Comments(f) {
		if g.Doc {
			b.WriteString(g.Text())
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func checks(f *ast.Field) []string {
	var out []string
	for _, a := range f.Attrs {
		if key, body := a.Split(); key == "check" {
			out = append(out, strings.TrimSpace(body))
		}
	}
	return out
}

// expr reads the part of CUE that the definitions use.
func (d *definitions) expr(e ast.Expr) (*def, error) {
	switch e := e.(type) {
	case *ast.Ident:
		if strings.HasPrefix(e.Name, "#") {
			return d.ref(e.Name)
		}
		return &def{types: []string{e.Name}}, nil
	case *ast.ParenExpr:
		return d.expr(e.X)
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			s, err := literal.Unquote(e.Value)
			return &def{types: []string{"string"}, enum: []string{s}}, err
		}
		return &def{types: []string{"int"}, number: e.Value}, nil
	case *ast.ListLit:
		for _, x := range e.Elts {
			if el, ok := x.(*ast.Ellipsis); ok {
				elem, err := d.expr(el.Type)
				return &def{types: []string{"list"}, elem: elem}, err
			}
		}
	case *ast.StructLit:
		return d.table(e)
	case *ast.UnaryExpr:
		n, err := bound(e.X)
		switch e.Op {
		case token.GEQ:
			return &def{types: []string{"int"}, min: &n}, err
		case token.LEQ:
			return &def{types: []string{"int"}, max: &n}, err
		}
	case *ast.BinaryExpr:
		x, err := d.expr(e.X)
		if err != nil {
			return nil, err
		}
		y, err := d.expr(e.Y)
		if err != nil {
			return nil, err
		}
		if e.Op == token.OR {
			return union(x, y), nil
		}
		both := *x
		if y.min != nil {
			both.min = y.min
		}
		if y.max != nil {
			both.max = y.max
		}
		return &both, nil
	}
	return nil, fmt.Errorf("%T: the definitions do not use this part of CUE", e)
}

func bound(e ast.Expr) (int64, error) {
	if neg, ok := e.(*ast.UnaryExpr); ok && neg.Op == token.SUB {
		n, err := bound(neg.X)
		return -n, err
	}
	lit, ok := e.(*ast.BasicLit)
	if !ok {
		return 0, fmt.Errorf("%T is no bound", e)
	}
	return strconv.ParseInt(lit.Value, 10, 64)
}

// union joins two branches; two sets of texts become one.
func union(x, y *def) *def {
	u := &def{types: append(append([]string{}, x.types...), y.types...)}
	if len(x.alts) == 0 && len(y.alts) == 0 && x.enum != nil && y.enum != nil {
		u.types = []string{"string"}
		u.enum = append(append([]string{}, x.enum...), y.enum...)
		return u
	}
	for _, b := range []*def{x, y} {
		if len(b.alts) > 0 {
			u.alts = append(u.alts, b.alts...)
		} else {
			u.alts = append(u.alts, b)
		}
	}
	return u
}

func (d *definitions) table(e *ast.StructLit) (*def, error) {
	t := &def{types: []string{"table"}}
	for _, decl := range e.Elts {
		switch decl := decl.(type) {
		case *ast.Ellipsis:
			t.open = true
		case *ast.EmbedDecl:
			x, err := d.expr(decl.Expr)
			if err != nil {
				return nil, err
			}
			t.fields = append(t.fields, x.fields...)
			t.checks = append(t.checks, x.checks...)
			if t.name == "" {
				t.name, t.doc = x.name, x.doc
			}
		case *ast.Field:
			v, err := d.expr(decl.Value)
			if err != nil {
				return nil, err
			}
			if _, ok := decl.Label.(*ast.ListLit); ok {
				t.rest, t.keys = v, checks(decl)
				continue
			}
			if rules := checks(decl); len(rules) > 0 {
				c := *v
				if c.rest != nil {
					c.keys = rules
				} else {
					c.checks = append(append([]string{}, c.checks...), rules...)
				}
				v = &c
			}
			t.fields = append(t.fields, &field{name: label(decl.Label), required: decl.Constraint == token.NOT, doc: doc(decl), def: v})
		}
	}
	return t, nil
}
