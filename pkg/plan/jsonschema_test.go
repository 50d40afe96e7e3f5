package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"github.com/ocisync/ocisync/schema"
)

// node is a JSON Schema, or a part of one; encoding/json sorts its keys.
type node map[string]any

const draft = "https://json-schema.org/draft/2020-12/schema"

// schemaMaker writes JSON Schemas from the types whose JSON they describe.
type schemaMaker struct{ defs node }

func schemaFor(id, title string, t reflect.Type) node {
	m := schemaMaker{defs: node{}}
	root := m.object(t)
	root["$schema"], root["$id"], root["title"], root["$defs"] = draft, "urn:ocisync:schema:"+id, title, m.defs
	return root
}

func kindNames() []string {
	var out []string
	for _, k := range schema.Kinds() {
		out = append(out, string(k))
	}
	return out
}

// named returns the schema of the types that write their JSON themselves, or
// have a closed list of values.
func (m schemaMaker) named(t reflect.Type) (node, bool) {
	text := func(pattern string) node { return node{"type": "string", "pattern": pattern} }
	enum := func(values ...string) node { return node{"enum": values} }
	switch t {
	case reflect.TypeFor[schema.Key]():
		return text("^(" + strings.Join(kindNames(), "|") + ")(/|$)"), true
	case reflect.TypeFor[schema.Kind]():
		return enum(kindNames()...), true
	case reflect.TypeFor[schema.Size]():
		return text("^(0|unlimited|[0-9]+([KMGT]i)?B)$"), true
	case reflect.TypeFor[schema.Duration]():
		return text("^(0|never|([0-9]+[wdhms])+)$"), true
	case reflect.TypeFor[schema.Date]():
		return text("^[0-9]{4}-[0-9]{2}-[0-9]{2}$"), true
	case reflect.TypeFor[schema.Rights]():
		return node{"type": "array", "items": enum("pull", "push", "delete", "admin")}, true
	case reflect.TypeFor[schema.Grants]():
		return node{"type": "object", "additionalProperties": m.ref(reflect.TypeFor[schema.Rights]())}, true
	case reflect.TypeFor[schema.Pairs]():
		return node{"type": "object", "additionalProperties": node{"type": "string"}}, true
	case reflect.TypeFor[schema.Values]():
		return node{"type": "object"}, true
	case reflect.TypeFor[schema.Trigger]():
		table := node{"type": "object", "properties": node{"schedule": node{"type": "string"}, "zone": node{"type": "string"}}, "required": []string{"schedule"}, "additionalProperties": false}
		return node{"anyOf": []node{enum("push", "manual"), table}}, true
	case reflect.TypeFor[Action]():
		return enum(string(Create), string(Update), string(Replace), string(Delete), string(Adopt), string(Forget), string(Rename), string(Unprotect)), true
	case reflect.TypeFor[Effect]():
		return enum(string(Live), string(Reload), string(Restart), string(ByHand)), true
	case reflect.TypeFor[Reason]():
		return enum(string(Declared), string(Drifted), string(Pruned)), true
	case reflect.TypeFor[schema.Resource]():
		return m.resource(), true
	}
	return nil, false
}

// resource ties the spec to the kind that the key names.
func (m schemaMaker) resource() node {
	var kinds []node
	for _, k := range schema.Kinds() {
		spec, err := schema.NewSpec(k)
		if err != nil {
			panic(err)
		}
		kinds = append(kinds, node{
			"if":   node{"properties": node{"key": node{"pattern": "^" + string(k) + "(/|$)"}}},
			"then": node{"properties": node{"spec": m.ref(reflect.TypeOf(spec).Elem())}},
		})
	}
	text := node{"type": "string"}
	return node{
		"type": "object",
		"properties": node{
			"key": m.ref(reflect.TypeFor[schema.Key]()), "spec": node{"type": "object"}, "version": text,
			"unread": node{"type": "array", "items": text}, "source": m.ref(reflect.TypeFor[schema.Position]()),
		},
		"required": []string{"key", "spec"}, "additionalProperties": false, "allOf": kinds,
	}
}

// ref is a reference to a named type's definition, or the type itself.
func (m schemaMaker) ref(t reflect.Type) node {
	switch t.Kind() {
	case reflect.Pointer:
		return m.ref(t.Elem())
	case reflect.Struct:
	default:
		if _, ok := m.named(t); ok {
			break
		}
		switch t.Kind() {
		case reflect.Slice:
			return node{"type": "array", "items": m.ref(t.Elem())}
		case reflect.String:
			return node{"type": "string"}
		case reflect.Bool:
			return node{"type": "boolean"}
		case reflect.Int, reflect.Int64:
			return node{"type": "integer"}
		}
		panic(fmt.Sprintf("no JSON Schema for %s", t))
	}
	name := strings.ToLower(t.Name()[:1]) + t.Name()[1:]
	if _, ok := m.defs[name]; !ok {
		m.defs[name] = node{} // a type that holds itself ends here
		if n, ok := m.named(t); ok {
			m.defs[name] = n
		} else {
			m.defs[name] = m.object(t)
		}
	}
	return node{"$ref": "#/$defs/" + name}
}

func (m schemaMaker) object(t reflect.Type) node {
	properties, required := node{}, []string{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		if f.Anonymous {
			inner := m.object(f.Type)
			maps.Copy(properties, inner["properties"].(node))
			required = append(required, inner["required"].([]string)...)
			continue
		}
		properties[name] = m.ref(f.Type)
		if strings.Contains(options, "omit") {
			continue
		}
		required = append(required, name)
		if f.Type.Kind() == reflect.Slice && t != reflect.TypeFor[Plan]() { // a plan has a list always
			properties[name] = node{"type": []string{"array", "null"}, "items": m.ref(f.Type.Elem())}
		}
	}
	n := node{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		n["required"] = required
	}
	return n
}

func schemas() map[string]node {
	return map[string]node{
		"plan.schema.json":               schemaFor("plan", "A plan of ocisync", reflect.TypeFor[Printed]()),
		"../../schema/state.schema.json": schemaFor("state", "A state of ocisync: the objects of a registry", reflect.TypeFor[schema.State]()),
	}
}

func TestTheJSONSchemasAreThoseOfTheTypes(t *testing.T) {
	for file, n := range schemas() {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(n); err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		have, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(have), b.String()); d != "" {
			t.Errorf("%s is not what the types say; run the test with -update:\n%s", file, d)
		}
	}
}

func compiled(t *testing.T, file string) func(text string) error {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("file:///"+file, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("file:///" + file)
	if err != nil {
		t.Fatal(err)
	}
	return func(text string) error {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			return err
		}
		return s.Validate(v)
	}
}

func TestWhatIsWrittenSatisfiesItsJSONSchema(t *testing.T) {
	plan, state := compiled(t, "plan.schema.json"), compiled(t, "../../schema/state.schema.json")
	for _, file := range []string{"testdata/rich.txtar", "testdata/hostile.txtar"} {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range a.Files {
			valid := plan
			switch f.Name {
			case "desired.json", "live.json":
				valid = state
			case "plan.json":
			default:
				continue
			}
			if err := valid(string(f.Data)); err != nil {
				t.Errorf("%s %s: %v", file, f.Name, err)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		in := genInput(t)
		in.Policy.MaxDeletes = &schema.MaxDeletes{}
		p := Guard(Diff(in), GuardInput{Policy: in.Policy, Ownership: in.Ownership, Desired: in.Desired, Live: in.Live})
		for what, err := range map[string]error{"plan": plan(asJSON(t, p)), "desired": state(asJSON(t, in.Desired)), "live": state(asJSON(t, in.Live)), "nothing": plan(asJSON(t, Diff(Input{})))} {
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
	})
}

func TestTheJSONSchemasRefuseWhatIsNotSo(t *testing.T) {
	plan, state := compiled(t, "plan.schema.json"), compiled(t, "../../schema/state.schema.json")
	object := func(key, spec string) string {
		return fmt.Sprintf(`{"resources":[{"key":%q,"spec":%s}],"scope":{"kinds":[]}}`, key, spec)
	}
	for text, good := range map[string]bool{
		object("user/a", `{"email":"x"}`):                        true,
		object("gc", `{}`):                                       true,
		object("user/a", `{"emial":"x"}`):                        false,
		object("user/a", `{"limit":"1GiB"}`):                     false,
		object("users/a", `{}`):                                  false,
		object("username", `{}`):                                 false,
		object("quota/a", `{"limit":"1GB"}`):                     false,
		object("quota/a", `{"limit":1}`):                         false,
		object("robot/a", `{"expires":"90days"}`):                false,
		object("access/a", `{"users":{"bob":["pull"]}}`):         true,
		object("access/a", `{"users":{"bob":["own"]}}`):          false,
		object("scan/a", `{"allow":[{"cve":"C"}]}`):              true,
		object("scan/a", `{"allow":[{}]}`):                       false,
		object("replication/a", `{"trigger":"push"}`):            true,
		object("replication/a", `{"trigger":"later"}`):           false,
		object("replication/a", `{"trigger":{"schedule":"x"}}`):  true,
		object("user/a", `{"password":"hunter2"}`):               false,
		object("user/a", `{"password":{"env":"X"}}`):             true,
		`{"resources":[]}`:                                       false,
		`{"resources":[{"key":"user/a"}],"scope":{"kinds":[]}}`:  false,
		`{"resources":[],"scope":{"kinds":["user","nonesuch"]}}`: false,
	} {
		if err := state(text); (err == nil) != good {
			t.Errorf("%s: %v, want good %v", text, err, good)
		}
	}
	start := `{"format":1,"mode":"m","registry":{"type":"t","url":"u"},"unchanged":0,`
	for text, good := range map[string]bool{
		start + `"changes":[]}`:   true,
		start + `"changes":null}`: false,
		start + `"changes":[{"action":"create","effect":"live","key":"user/a","reason":"declared"}]}`:                                              true,
		start + `"changes":[{"action":"destroy","effect":"live","key":"user/a","reason":"declared"}]}`:                                             false,
		start + `"changes":[{"action":"create","effect":"soon","key":"user/a","reason":"declared"}]}`:                                              false,
		start + `"changes":[{"action":"create","effect":"live","key":"user/a","reason":"declared","after":{"key":"user/a","spec":{"limit":""}}}]}`: false,
		start + `"changes":[],"refusals":[{"why":"x"}]}`:                                                                                           true,
		start + `"changes":[],"more":1}`: false,
	} {
		if err := plan(text); (err == nil) != good {
			t.Errorf("%s: %v, want good %v", text, err, good)
		}
	}
}
