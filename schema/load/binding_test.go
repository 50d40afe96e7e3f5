package load

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/schema"
)

// fieldsOf lists the JSON names of a struct, tables within with dots. Values
// that read themselves are leaves.
func fieldsOf(typ reflect.Type, prefix string) []string {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		if typ.Implements(reflect.TypeFor[json.Marshaler]()) {
			return nil
		}
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[schema.Date]() || reflect.PointerTo(typ).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return nil
	}
	var out []string
	for f := range typ.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || f.Tag.Get("sync") == "seen" {
			continue
		}
		if name == "" {
			out = append(out, fieldsOf(f.Type, prefix)...)
			continue
		}
		out = append(out, prefix+name)
		out = append(out, fieldsOf(f.Type, prefix+name+".")...)
	}
	return out
}

// fieldsIn lists the fields of a definition alike.
func fieldsIn(d *def, prefix string) []string {
	if d.elem != nil {
		return fieldsIn(d.elem, prefix)
	}
	var out []string
	for _, f := range d.fields {
		out = append(out, prefix+f.name)
		if len(f.alts) == 0 {
			out = append(out, fieldsIn(f.def, prefix+f.name+".")...)
		}
	}
	return out
}

func TestCUEAndGoDescribeTheSameFields(t *testing.T) {
	defs, err := define()
	if err != nil {
		t.Fatal(err)
	}
	compare := func(name string, d *def, typ reflect.Type, only ...string) {
		t.Helper()
		if d == nil {
			t.Errorf("%s has no definition", name)
			return
		}
		have := append(fieldsIn(d, ""), only...)
		want := fieldsOf(typ, "")
		slices.Sort(have)
		slices.Sort(want)
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%s: (-Go +CUE)\n%s", name, diff)
		}
	}
	for _, k := range schema.Kinds() {
		spec, err := schema.NewSpec(k)
		if err != nil {
			t.Fatal(err)
		}
		compare(string(k), defs.kind(k), reflect.TypeOf(spec))
	}
	registry := *defs.get("Registry")
	registry.fields = slices.DeleteFunc(slices.Clone(registry.fields), func(f *field) bool {
		return slices.Contains([]string{"zot", "harbor", "distribution"}, f.name) // the kind settings
	})
	compare("registry", &registry, reflect.TypeFor[schema.Registry]())
	compare("state", defs.get("State"), reflect.TypeFor[schema.StateConfig]())
	compare("policy", defs.get("Policy"), reflect.TypeFor[schema.Policy]())
	compare("backup", defs.get("Backup"), reflect.TypeFor[schema.Backup]())
	compare("pause", defs.get("Pause"), reflect.TypeFor[schema.Pause]())
	compare("watch", defs.get("Watch"), reflect.TypeFor[schema.Watch](), "drift.kind", "drift.do")
	compare("host secrets", defs.get("HostSecrets"), reflect.TypeFor[schema.HostSecrets]())
	compare("host command", defs.get("HostCommand"), reflect.TypeFor[schema.HostCommand](), "name")
}

func TestEveryFieldAndEveryChoiceIsInTheSample(t *testing.T) {
	defs, err := define()
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := sample(t)
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, r := range cfg.Desired.Resources {
		text, err := json.Marshal(r.Spec)
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]json.RawMessage
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatal(err)
		}
		for name := range m {
			used[string(r.Key.Kind)+"."+name] = true
		}
	}
	for _, k := range schema.Kinds() {
		for _, f := range defs.kind(k).fields {
			if !used[string(k)+"."+f.name] {
				t.Errorf("all.toml does not use %s.%s", k, f.name)
			}
		}
	}
}

func TestGoValuesPassCUEAndComeBackTheSame(t *testing.T) {
	c, err := newChecker()
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := sample(t)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range cfg.Desired.Resources {
		text, err := json.Marshal(r.Spec)
		if err != nil {
			t.Fatal(err)
		}
		if paths, ok := c.judge.ask(c.defs.kind(r.Key.Kind).name, text); !ok || len(paths) > 0 {
			t.Errorf("%s: CUE rejects %q of %s", r.Key, paths, text)
		}
		back, err := schema.NewSpec(r.Key.Kind)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r.Spec, back); diff != "" {
			t.Errorf("%s: %s", r.Key, diff)
		}
	}
}

// sample loads the file that uses every key.
func sample(t *testing.T) (*schema.Config, error) {
	t.Helper()
	data, err := os.ReadFile("../../testdata/compat/v1/all.toml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/modes/m", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/modes/m/m.toml", data, 0o644); err != nil {
		t.Fatal(err)
	}
	return Mode(dir+"/modes", "m")
}

func TestDefinitionsFillNothingIn(t *testing.T) {
	text, err := CUE()
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(text), "\n") {
		code, _, _ := strings.Cut(line, "//")
		if strings.Contains(code, "*") {
			t.Errorf("line %d marks a default: %s", i+1, line)
		}
	}
	c, err := newChecker()
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range c.defs.byRef {
		if !d.is("table") || len(d.fields) == 0 {
			continue
		}
		out, err := json.Marshal(c.judge.definition(d.name))
		if err == nil && string(out) != "{}" {
			t.Errorf("%s adds %s to an empty object", name, out)
		}
	}
}

func TestEveryRuleIsKnown(t *testing.T) {
	defs, err := define()
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := []string{"secret", "path", "env", "keep", "some", "one", "trust", "state", "login", "keypair", "source", "proxy", "replication", "ignore", "command"}
	var walk func(d *def)
	seen := map[*def]bool{}
	walk = func(d *def) {
		if d == nil || seen[d] {
			return
		}
		seen[d] = true
		for _, r := range append(slices.Clone(d.checks), d.keys...) {
			if kind, ok := strings.CutPrefix(r, "ref_"); ok {
				if k := strings.TrimSuffix(kind, "_or_all"); !schema.Kind(k).Valid() {
					t.Errorf("reference to unknown kind %s", kind)
				}
				continue
			}
			if !slices.Contains(elsewhere, r) && rule(r, "\x00 no [ rule ( accepts this") == "" {
				t.Errorf("rule %s accepts anything", r)
			}
		}
		for _, f := range d.fields {
			walk(f.def)
		}
		for _, a := range d.alts {
			walk(a)
		}
		walk(d.rest)
		walk(d.elem)
	}
	for _, d := range defs.byRef {
		walk(d)
	}
}
