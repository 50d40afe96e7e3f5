package plan

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/ocisync/ocisync/schema"
)

var update = flag.Bool("update", false, "write the expected files anew")

// scenario is what a txtar file of testdata says of a comparison.
type scenario struct {
	Owned     []schema.Key      `json:"owned"`
	Applied   []schema.Resource `json:"applied"`
	Pruned    []schema.Kind     `json:"pruned"`
	Protected []string          `json:"protected"`
	Policy    schema.Policy     `json:"policy"`
	Table     []schema.Capability
	Renames   map[string]string `json:"renames"`
	Secret    Match             `json:"secret"`
	Effects   map[string]Effect `json:"effects"`
}

func readScenario(t *testing.T, a *txtar.Archive) Plan {
	t.Helper()
	var sc scenario
	in := Input{Mode: "prod", Registry: Registry{Type: "harbor", URL: "https://registry.example.com"}, Table: nativeTable(), Today: today}
	for _, f := range a.Files {
		var err error
		switch f.Name {
		case "desired.json":
			err = json.Unmarshal(f.Data, &in.Desired)
		case "live.json":
			err = json.Unmarshal(f.Data, &in.Live)
		case "more.json":
			err = json.Unmarshal(f.Data, &sc)
		}
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
	}
	in.Table = append(in.Table, sc.Table...)
	in.Policy = sc.Policy
	for to, from := range sc.Renames {
		k, err := schema.ParseKey(to)
		if err != nil {
			t.Fatal(err)
		}
		in.Directives = append(in.Directives, schema.Directive{Key: k, Previously: from})
	}
	in.Ownership = Ownership{
		Owned: sc.Owned, MayPrune: true, Protected: sc.Protected,
		Pruned: func(k schema.Kind) bool { return strings.Contains(fmt.Sprint(sc.Pruned), string(k)) },
		Secret: func(schema.Key, string, string, *schema.SecretRef) Match { return sc.Secret },
		Applied: func(k schema.Key) (schema.Spec, bool) {
			for _, r := range sc.Applied {
				if r.Key == k {
					return r.Spec, true
				}
			}
			for _, o := range sc.Owned {
				if o == k {
					r, _ := in.Live.Get(k)
					return r.Spec, true
				}
			}
			return nil, false
		},
	}
	p := Diff(in)
	for i, c := range p.Changes {
		if e, ok := sc.Effects[c.Key.String()]; ok {
			p.Changes[i].Effect = e
		}
	}
	p = WithImpact(p, in.Live)
	return Guard(p, GuardInput{Policy: in.Policy, Ownership: in.Ownership, Desired: in.Desired, Live: in.Live})
}

func TestPlansReadAsTheyAlwaysDid(t *testing.T) {
	for _, file := range []string{"testdata/rich.txtar", "testdata/hostile.txtar"} {
		t.Run(file, func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p := readScenario(t, a)
			show := func(f func(*bytes.Buffer) error) []byte {
				var b bytes.Buffer
				if err := f(&b); err != nil {
					t.Fatal(err)
				}
				return b.Bytes()
			}
			text := func(o TextOptions) []byte { return show(func(b *bytes.Buffer) error { return p.Text(b, o) }) }
			got := map[string][]byte{
				"plan.txt":    text(TextOptions{Apply: "ocisync apply --mode prod"}),
				"verbose.txt": text(TextOptions{Verbose: true}),
				// Escapes are written as ␛, so that the file is text.
				"color.txt": bytes.ReplaceAll(text(TextOptions{Color: true}), []byte("\x1b"), []byte("␛")),
				"plan.md":   show(func(b *bytes.Buffer) error { return p.Markdown(b) }),
				"plan.json": show(func(b *bytes.Buffer) error {
					enc := json.NewEncoder(b)
					enc.SetIndent("", " ")
					return enc.Encode(p)
				}),
			}
			for i, f := range a.Files {
				out, expected := got[f.Name]
				if !expected {
					continue
				}
				delete(got, f.Name)
				if *update {
					a.Files[i].Data = out
				} else if d := cmp.Diff(string(f.Data), string(out)); d != "" {
					t.Errorf("%s (-want +got):\n%s", f.Name, d)
				}
			}
			if *update {
				for _, name := range []string{"plan.txt", "verbose.txt", "color.txt", "plan.md", "plan.json"} {
					if out, missing := got[name]; missing {
						a.Files = append(a.Files, txtar.File{Name: name, Data: out})
					}
				}
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if len(got) > 0 {
				t.Errorf("%s lacks %d of the renderings; run the test with -update", file, len(got))
			}
		})
	}
}

func TestNothingHostileReachesAReader(t *testing.T) {
	a, err := txtar.ParseFile("testdata/hostile.txtar")
	if err != nil {
		t.Fatal(err)
	}
	p := readScenario(t, a)
	var text, color, md strings.Builder
	if err := p.Text(&text, TextOptions{Verbose: true}); err != nil {
		t.Fatal(err)
	}
	if err := p.Text(&color, TextOptions{Color: true}); err != nil {
		t.Fatal(err)
	}
	if err := p.Markdown(&md); err != nil {
		t.Fatal(err)
	}
	for name, out := range map[string]string{"text": text.String(), "markdown": md.String()} {
		for _, bad := range []string{"\x1b", "\u202e", "\r", "\x00", "\u200b", "\u0085"} {
			if strings.Contains(out, bad) {
				t.Errorf("%s holds %q", name, bad)
			}
		}
	}
	if strings.Contains(color.String(), "\x1b[5m") || strings.Contains(color.String(), "\x1b]") {
		t.Error("a value colours the terminal")
	}
	// Outside code, nothing of Markdown or HTML is left.
	prose := outsideCode(md.String())
	for _, bad := range []string{"@team", "<img", "#12", "x](", "&lt;b"} {
		if strings.Contains(prose, bad) {
			t.Errorf("markdown says %q outside code:\n%s", bad, prose)
		}
	}
	if strings.Count(prose, "<details>") != 3 || strings.Count(prose, "</details>") != 3 {
		t.Error("a value closes a fold")
	}
}

// outsideCode drops the code spans and fenced blocks of a Markdown text, as
// CommonMark delimits them: a run of backticks, up to the next as long.
func outsideCode(md string) string {
	var sb strings.Builder
	for md != "" {
		i := strings.IndexByte(md, '`')
		if i < 0 {
			break
		}
		if i > 0 && md[i-1] == '\\' {
			sb.WriteString(md[:i+1])
			md = md[i+1:]
			continue
		}
		sb.WriteString(md[:i])
		n := len(md[i:]) - len(strings.TrimLeft(md[i:], "`"))
		fence := md[i : i+n]
		md = md[i+n:]
		for {
			end := strings.Index(md, fence)
			if end < 0 {
				return sb.String() + fence + md
			}
			run := len(md[end:]) - len(strings.TrimLeft(md[end:], "`"))
			md = md[end+run:]
			if run == n {
				break
			}
		}
	}
	return sb.String() + md
}

func TestAValueIsShownAsItIs(t *testing.T) {
	for text, want := range map[string]string{
		`"a,b"`:               `"a,b"`,
		`["a,b","c"]`:         `["a,b", "c"]`,
		`"say \",\" twice,"`:  `"say \",\" twice,"`,
		`"(secret changed)"`:  `"(secret changed)"`,
		`["pull","push"]`:     `["pull", "push"]`,
		`{"a":"\\","b":"x,"}`: `{"a":"\\", "b":"x,"}`,
	} {
		if got := show(text, false); got != want {
			t.Errorf("show(%s) = %s, want %s", text, got, want)
		}
	}
}

func TestLongTextsShowAsALineDiff(t *testing.T) {
	old := "one\ntwo\nthree\nfour\nfive\nsix\nseven\n"
	got := lineDiff(old, strings.Replace(old, "four", "4\x1b", 1))
	want := []string{"  …", "  two", "  three", "- four", `+ 4\x1b`, "  five", "  six", "  …"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	huge := strings.Repeat("x\n", 5000)
	if n := len(lineDiff(huge, huge+"y\n")); n != 10001 {
		t.Errorf("a text too long to compare shows %d lines", n)
	}
}

func TestAWriterThatFailsIsReported(t *testing.T) {
	p := Plan{Changes: []Change{{Action: Create}}}
	if p.Text(failing{}, TextOptions{}) == nil || p.Markdown(failing{}) == nil {
		t.Error("the writer failed and nobody said so")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestCountsSayWhatWillHappen(t *testing.T) {
	if got := (Plan{Unchanged: 3}).Count().String(); got != "no changes, 3 unchanged" {
		t.Error(got)
	}
	p := Plan{
		Changes: []Change{{Action: Create}, {Action: Update}, {Action: Rename}, {Action: Replace}, {Action: Delete}, {Action: Adopt}},
		Held:    []Held{{}}, Refusals: []Refusal{{}},
	}
	if got := p.Count().String(); got != "1 to create, 1 to update, 1 to rename, 1 to replace, 1 to delete, 1 held, 1 refused" {
		t.Error(got)
	}
}

func TestEveryTextOfAPlanIsMadeSafe(t *testing.T) {
	bad := "\x1b[5m\u202e"
	c := Change{
		Action: Update, Key: schema.Key{Kind: schema.KindUser, Name: bad}, Reason: Declared, Impact: []string{bad},
		Fields: []Field{{Path: bad, Old: bad, New: bad}, {Path: bad, New: bad, Sensitive: true}, {Path: bad, Old: bad}},
	}
	p := Plan{
		Mode: bad, Registry: Registry{Type: bad, URL: bad}, Changes: []Change{c}, Held: []Held{{Change: c, Why: bad}},
		Refusals: []Refusal{{Key: c.Key, Field: bad, Why: bad, Source: schema.Position{File: bad}}, {Why: bad}}, Notes: []Note{{Key: c.Key, Text: bad}, {Text: bad}},
	}
	for range 5 { // enough to be folded
		p.Notes = append(p.Notes, p.Notes[0])
	}
	var text, md strings.Builder
	if err := p.Text(&text, TextOptions{Verbose: true}); err != nil {
		t.Fatal(err)
	}
	if err := p.Text(&text, TextOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := p.Markdown(&md); err != nil {
		t.Fatal(err)
	}
	if out := text.String() + md.String(); strings.ContainsAny(out, "\x1b\u202e") {
		t.Errorf("unsafe: %q", out)
	}
}

func TestTheHintToApproveIsGivenOnlyWhereItHelps(t *testing.T) {
	hint := func(p Plan) bool {
		var b strings.Builder
		if err := p.Text(&b, TextOptions{Apply: "ocisync apply"}); err != nil {
			t.Fatal(err)
		}
		return strings.Contains(b.String(), "ocisync apply --approve sha256:")
	}
	over, object := Refusal{Why: "too many"}, Refusal{Key: schema.Key{Kind: schema.KindGC}, Why: "unsupported"}
	if !hint(Plan{Held: []Held{{}}}) || !hint(Plan{Refusals: []Refusal{over}}) {
		t.Error("an approval would help, and nobody says how")
	}
	if hint(Plan{}) || hint(Plan{Held: []Held{{}}, Refusals: []Refusal{over, object}}) {
		t.Error("an approval does not help")
	}
}
