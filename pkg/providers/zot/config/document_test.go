package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const usual = `{
  "distSpecVersion": "1.1.1",
  "storage": {
    "rootDirectory": "/var/lib/zot",
    "gcDelay": "1h", "maxRepos":   1e2
  },

  "HTTP": {
    "address": "0.0.0.0",
    "port": "5000",
    "auth": { "htpasswd": { "path": "/etc/zot/htpasswd" } },
    "accessControl": {
      "repositories": {
        "a.b/**": {
          "policies": [
            {
              "users": ["alice"],
              "actions": ["read", "create"]
            }
          ],
          "defaultPolicy": []
        }
      }
    }
  },
  "log": {}
}
`

type edit struct {
	path  string // parts joined by "|"
	value string // "": delete
}

func mustParse(t testing.TB, src string) *Document {
	t.Helper()
	d, err := Parse("config.json", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func parts(path string) []string {
	if path == "" {
		return nil
	}
	return strings.Split(path, "|")
}

func apply(t testing.TB, d *Document, edits ...edit) {
	t.Helper()
	for _, e := range edits {
		if e.value == "" {
			if !d.Delete(parts(e.path)...) {
				t.Fatalf("%s was not there", e.path)
			}
		} else if err := d.Set([]byte(e.value), parts(e.path)...); err != nil {
			t.Fatalf("%s: %v", e.path, err)
		}
	}
}

func TestAnEditTouchesNothingElse(t *testing.T) {
	tests := []struct {
		name     string
		src      string
		edits    []edit
		old, new string // the only text that changes
	}{
		{"a number's spelling when it is equal", usual, []edit{{"storage|maxRepos", "100"}}, "", ""},
		{"a text when it is equal", usual, []edit{{"storage|gcDelay", `"\u0031h"`}}, "", ""},
		{"keys in another case", usual, []edit{{"http|PORT", `"5000"`}}, "", ""},
		{"a table with its keys in another order", usual, []edit{{"http|auth", `{"htpasswd":{"path":"/etc/zot/htpasswd"}}`}}, "", ""},
		{"a text", usual, []edit{{"http|port", `"5001"`}}, `"5000"`, `"5001"`},
		{"a text becomes a number", usual, []edit{{"http|port", `5000`}}, `"5000"`, `5000`},
		{"a key after another", usual, []edit{{"storage|gcInterval", `"24h"`}}, `"1h", "max`, `"1h",` + "\n    " + `"gcInterval": "24h", "max`},
		{"a key in its place", usual, []edit{{"storage|dedupe", `false`}}, `"/var/lib/zot",`, `"/var/lib/zot",` + "\n    " + `"dedupe": false,`},
		{"a section in its place", usual, []edit{{"scheduler", `{"numWorkers":3}`}}, `"log": {}`,
			`"log": {},` + "\n  " + `"scheduler": {` + "\n    " + `"numWorkers": 3` + "\n  }"},
		{"into an empty table", usual, []edit{{"log|level", `"info"`}}, `{}`, "{\n    \"level\": \"info\"\n  }"},
		{"into an empty list", usual, []edit{{"http|accesscontrol|repositories|a.b/**|defaultPolicy", `["read"]`}}, `[]`, `["read"]`},
		{"into a list in one line", usual, []edit{{"http|accesscontrol|repositories|a.b/**|policies|0|users", `["alice","bob"]`}},
			`["alice"]`, `["alice", "bob"]`},
		{"before others in a list in one line", usual, []edit{{"http|accesscontrol|repositories|a.b/**|policies|0|actions", `["delete","read","create"]`}},
			`["read",`, `["delete", "read",`},
		{"a table into a table in one line", usual, []edit{{"http|auth|failDelay", `5`}}, `htpasswd" } }`, `htpasswd" }, "failDelay": 5 }`},
		{"a policy before another", usual, []edit{{"http|accesscontrol|repositories|a.b/**|policies",
			`[{"groups":["ops"],"actions":["read"]},{"users":["alice"],"actions":["read","create"]}]`}},
			`"policies": [` + "\n", `"policies": [
            {
              "groups": ["ops"],
              "actions": ["read"]
            },
`},
		{"a pattern with its sections", `{
	"http": {}
}`, []edit{{"http|accessControl|repositories|x/**|policies", `[{"users":["a"],"actions":["read"]}]`}}, `{}`, `{
		"accessControl": {
			"repositories": {
				"x/**": {
					"policies": [
						{
							"users": ["a"],
							"actions": ["read"]
						}
					]
				}
			}
		}
	}`},
		{"delete the first key", usual, []edit{{"storage|rootdirectory", ""}}, `"rootDirectory": "/var/lib/zot",` + "\n    ", ""},
		{"delete the last key", usual, []edit{{"log", ""}}, `,` + "\n  " + `"log": {}`, ""},
		{"delete the only key", usual, []edit{{"http|auth|htpasswd", ""}}, `{ "htpasswd": { "path": "/etc/zot/htpasswd" } }`, `{}`},
		{"delete an entry", usual, []edit{{"http|accesscontrol|repositories|a.b/**|policies|0|actions|0", ""}}, `["read", "create"]`, `["create"]`},
		{"empty a list", usual, []edit{{"http|accesscontrol|repositories|a.b/**|policies|0|actions", "[]"}}, `["read", "create"]`, `[]`},
		{"a minified file", `{"a":1,"http":{"port":"1"}}`, []edit{{"http|auth", `{"failDelay": 5, "x": [1, 2]}`}},
			`"1"}`, `"1","auth":{"failDelay":5,"x":[1,2]}}`},
		{"lines of another system", "{\r\n\t\"http\": {\r\n\t\t\"port\": \"1\"\r\n\t}\r\n}\r\n", []edit{{"http|compat", `["docker2s2"]`}, {"log|level", `"info"`}},
			"\"1\"\r\n\t}", "\"1\",\r\n\t\t\"compat\": [\"docker2s2\"]\r\n\t},\r\n\t\"log\": {\r\n\t\t\"level\": \"info\"\r\n\t}"},
		{"lists over lines stay so", "{\n \"a\": [\n  1,\n  2\n ]\n}", []edit{{"b", `[1,2]`}, {"a|-", "3"}},
			"  2\n ]", "  2,\n  3\n ],\n \"b\": [\n  1,\n  2\n ]"},
		{"add and take away", usual, []edit{{"log|level", `"info"`}, {"cluster", `{"members":["a","b"]}`}, {"cluster", ""}, {"log", `{}`}}, "", ""},
		{"a list on the way that is missing", `{ "extensions": {} }`, []edit{{"extensions|sync|registries|0|content|-|prefix", `"a"`}, {"extensions|sync|registries|0|content|1", `{"prefix":"b"}`}}, `{}`,
			`{"sync": {"registries": [{"content": [{"prefix": "a"}, {"prefix": "b"}]}]}}`},
		{"a name that looks like an index", `{ "http": {} }`, []edit{{"http|accesscontrol|groups|0|users|0", `"a"`}}, `{}`, `{"accesscontrol": {"groups": {"0": {"users": ["a"]}}}}`},
		{"null is nothing", `{ "http": null }`, []edit{{"http|port", `"1"`}}, `null`, `{"port": "1"}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := mustParse(t, test.src)
			apply(t, d, test.edits...)
			if strings.Count(test.src, test.old) != 1 && test.old != "" {
				t.Fatalf("%q stands %d times", test.old, strings.Count(test.src, test.old))
			}
			want := strings.Replace(test.src, test.old, test.new, 1)
			if diff := cmp.Diff(want, string(d.Bytes())); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if !json.Valid(d.Bytes()) {
				t.Error("no valid JSON")
			}
		})
	}
}

func TestReading(t *testing.T) {
	d := mustParse(t, usual)
	if v, ok := d.Get("http", "accesscontrol", "repositories", "A.B/**", "policies", "0", "users"); !ok || v != `["alice"]` {
		t.Errorf("Get: %s, %v", v, ok)
	}
	for _, path := range []string{"x", "http|x", "http|port|x", "http|accesscontrol|repositories|a.b/**|policies|1", "http|accesscontrol|repositories|a.b/**|policies|-1"} {
		if v, ok := d.Get(parts(path)...); ok {
			t.Errorf("%s: %s", path, v)
		}
	}
	if diff := cmp.Diff([]string{"distSpecVersion", "storage", "HTTP", "log"}, d.Keys()); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if d.Keys("http", "port") != nil || d.Len("http") != 4 || d.Len("x") != 0 {
		t.Error("Keys or Len")
	}
	if got := d.Position("http", "accesscontrol", "repositories", "a.b/**").String(); got != "config.json:14:9" {
		t.Errorf("position %s", got)
	}
	apply(t, d, edit{"http|accesscontrol|groups", `{"ops":{"users":["a"]}}`})
	if got := d.Position("http", "accesscontrol", "groups", "ops").String(); got != "config.json:12:5" {
		t.Errorf("position of what is new %s", got)
	}
	if err := d.Set([]byte("1"), "http", "port", "x"); err == nil || !strings.Contains(err.Error(), "config.json:10:5: http.port is no table") {
		t.Errorf("below a text: %v", err)
	}
	if err := d.Set([]byte("1"), "http", "accesscontrol", "repositories", "a.b/**", "policies", "7"); err == nil {
		t.Error("beyond a list")
	}
	if err := d.Set([]byte("1"), "extensions", "sync", "registries", "1", "urls"); err == nil || !strings.Contains(err.Error(), `extensions.sync.registries is missing, and a list does not begin with entry "1"`) {
		t.Errorf("within a list that is missing: %v", err)
	}
	for _, bad := range []string{"", "{", `{"a":1,"A":2}`, "1 2", "'x'", strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth)} {
		if err := d.Set([]byte(bad), "x"); err == nil {
			t.Errorf("%.20q was set", bad)
		}
	}
	if err := d.Set([]byte("1")); err == nil {
		t.Error("a configuration became a number")
	}
}

func TestWhatZotWouldMisreadIsRefusedWithItsPlace(t *testing.T) {
	tests := []struct{ name, src, want string }{
		{"c.json", "{\n  \"http\": 1,\n  \"HTTP\": 2\n}", `c.json:3:3: the key "HTTP" stands here again, after "http" at c.json:2:3`},
		{"c.json", `{"a":1,"\u0061":2}`, `c.json:1:8: the key "\u0061" stands here again, after "a" at c.json:1:2`},
		{"c.json", `{"a":[{"b":1,"b":2}]}`, "c.json:1:14"},
		{"c.json", "{\"a\":1,}", "c.json:1:8: a comma stands before }; remove it"},
		{"c.json", "{\n// no\n\"a\":1}", "c.json:2:1: a key in quotes is expected here; Zot's JSON has no comments"},
		{"c.json", "{\"a\":1", "c.json:1:1: this { is not closed before the file ends"},
		{"c.json", "{\"a\":[1,2", "c.json:1:6: this [ is not closed"},
		{"c.json", "{\"a\"", "c.json:1:5: the file ends where a colon is expected"},
		{"c.json", "{\"a", "c.json:1:2: this text is not closed"},
		{"c.json", "{", "c.json:1:1: this { is not closed"},
		{"c.json", "{\"a\":01}", "c.json:1:6: a number begins with 0"},
		{"c.json", "{\"a\":1.}", "c.json:1:6: the number is not complete"},
		{"c.json", "{\"a\":-}", "c.json:1:6: the number is not complete"},
		{"c.json", "{\"a\":+1}", "c.json:1:6: a value is expected here, not '+'"},
		{"c.json", "{\"a\":tru}", "c.json:1:6: a value is expected here, not 't'"},
		{"c.json", "{\"a\":\"\n\"}", "c.json:1:7: a text goes over the end of its line"},
		{"c.json", `{"a":"\x"}`, "c.json:1:7: no character is written like this"},
		{"c.json", `{"a":"\u12g4"}`, "c.json:1:7: no character"},
		{"c.json", `{"a":1}}`, "c.json:1:8: something follows the end"},
		{"c.json", `[1]`, "c.json:1:1: the configuration is no table"},
		{"c.json", "\ufeff{}", "c.json:1:1: the file begins with a byte order mark"},
		{"c.json", " \n", "the file is empty"},
		{"c.json", "{\"a\":" + strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth) + "}", "more than 100 deep"},
		{"c.json", "{\"a\":[" + strings.Repeat("0,", MaxValues) + "0]}", "more than 1000000 values"},
		{"c.json", strings.Repeat(" ", MaxSize) + "{}", "the file has 16777218 bytes"},
		{"/etc/zot/config.yaml", "http:\n  port: 1\n", "/etc/zot/config.yaml:1:1: this configuration is YAML, and only JSON is edited without touching what nobody asked to change; convert it once, with Python and PyYAML: `python3 -c 'import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin), indent=2))' <config.yaml >config.json`, see that"},
		{"config.YML", "{}", "YAML"},
		{"config.toml", "[http]\n", "this configuration is TOML"},
		{"config.env", "A=1", "of the format .env"},
		{"config", "http:\n  port: 1\n", "YAML"},
		{"config.conf", "# what\nhttp: {}\n", "YAML"},
		{"config", "---\n", "YAML"},
		{"config", "[http]\nport = 1\n", "TOML"},
		{"config", "http.port = 1\n", "TOML"},
		{"config", "what\n", "this is no JSON"},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%.30s", test.src), func(t *testing.T) {
			_, err := Parse(test.name, []byte(test.src))
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v\nwant %s", err, test.want)
			}
		})
	}
	for _, name := range []string{"config.json", "config.JSON", "config", "zot.conf"} {
		if _, err := Parse(name, []byte(" {}\n")); err != nil {
			t.Error(err)
		}
	}
}

func TestNullsAndEmptyTablesAreForgotten(t *testing.T) {
	for src, want := range map[string]string{
		`{ "a" : {}, "b": null, "c": {"d": {"e": null}} }`:           `{}`,
		`{"a": {"b": {}, "C": [ {}, null, {"d": null} ]}, "e": ""}`:  `{"a":{"C":[ {}, null, {"d": null} ]},"e":""}`,
		`{"extensions": {"search": {}, "ui": null, "sync": {}}}`:     `{"extensions":{"search":{},"ui":{}}}`,
		`{"extensions": {"search": {"cve": {}}}}`:                    `{"extensions":{"search":{}}}`,
		`{"extensions": {"search": {}, "scrub": {"enable": false}}}`: `{"extensions":{"scrub":{"enable":false}}}`,
		`{"extensions": null, "x": {"search": {}}}`:                  `{}`,
	} {
		d := mustParse(t, src)
		if got := string(d.Taken()); strings.ReplaceAll(got, `{"enable": false}`, `{"enable":false}`) != want {
			t.Errorf("%s: %s, want %s", src, got, want)
		}
		if _, ok := d.Get(); ok != (want != "{}") {
			t.Errorf("%s: it counts as something: %v", src, ok)
		}
		if string(d.Bytes()) != src {
			t.Errorf("%s was changed", src)
		}
	}
	d := mustParse(t, `{"extensions": {"search": {}}}`)
	if err := d.Set([]byte("true"), "extensions", "ui", "enable"); err != nil {
		t.Fatal(err)
	}
	if v, ok := d.Get("extensions", "search"); ok {
		t.Errorf("search is %s", v)
	}
	if d.Delete("extensions", "ui"); len(Compare(d, mustParse(t, `{"storage":{}}`))) != 1 {
		t.Error("search that goes is no change")
	}
}

// TestEditingIsLinear holds ten thousand namespaces against one thousand.
func TestEditingIsLinear(t *testing.T) {
	took := func(n int) time.Duration {
		start := time.Now()
		d := mustParse(t, usual)
		for i := range n {
			apply(t, d, edit{"http|accesscontrol|repositories|team-" + strconv.Itoa(i) + "/**", `{"policies":[{"users":["u"],"actions":["read"]}]}`})
		}
		again := mustParse(t, string(d.Bytes()))
		if again.Len("http", "accesscontrol", "repositories") != n+1 {
			t.Fatal("not all are there")
		}
		all, _ := again.Get("http", "accesscontrol", "repositories")
		apply(t, again, edit{"http|accesscontrol|repositories", all}, edit{"http|accesscontrol|repositories", "{}"})
		if !bytes.Contains(again.Bytes(), []byte(`"repositories": {}`)) {
			t.Fatal("not empty")
		}
		return time.Since(start)
	}
	few := took(1000)
	many := took(10_000)
	t.Logf("1,000 in %v, 10,000 in %v", few, many)
	if many > 50*few+3*time.Second { // a second parse at each edit takes minutes
		t.Errorf("1,000 patterns took %v, 10,000 %v", few, many)
	}
}

// leaves lists every value that is no table and no list with its path and
// spelling, and every empty table and list.
func leaves(into map[string]string, at string, n *node) {
	n = n.open()
	if n.kind != '{' && n.kind != '[' || len(n.items) == 0 {
		into[at] = string(n.kind) + n.text
	}
	for i, it := range n.items {
		part := strconv.Itoa(i)
		if n.kind == '{' {
			part = it.key
		}
		leaves(into, at+"|"+part, it.value)
	}
}

func FuzzAnEditKeepsAllElse(f *testing.F) {
	for _, v := range []string{`"x"`, `{"a":[1,{"b":null}],"c":{}}`, `[]`, `[[1],[2,3]]`, ``} {
		f.Add([]byte(usual), "http|port", v)
		f.Add([]byte(usual), "http|accesscontrol|repositories|a.b/**|policies|0", v)
		f.Add([]byte(`{"a":[1, 2,{"b":{ }}],`+"\n"+`"c":"\u00e9"}`), "a|1", v)
		f.Add([]byte(" { \"K\" :\t-0.0e+1 ,\r\n\"l\":[ ] } "), "k|-", v)
		f.Add([]byte(`{}`), "x|-|y", v)
	}
	f.Fuzz(func(t *testing.T, src []byte, path, value string) {
		d, err := Parse("c.json", src)
		if err != nil {
			if !errors.As(err, new(*Error)) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		if !json.Valid(src) {
			t.Fatal("what is no JSON was taken")
		}
		if !bytes.Equal(d.Bytes(), src) {
			t.Fatal("parsed and written is not the same")
		}
		at := parts(path)
		before := map[string]string{}
		leaves(before, "", d.root.value)
		// What is edited, in the document's own spelling as far as it is there.
		spelled := ""
		list := false
		it := &d.root
		for _, p := range at {
			list = list || it != nil && it.value.kind == '['
			if it != nil && it.value.kind == '[' && p == "-" {
				p = strconv.Itoa(len(it.value.open().items))
			}
			if it != nil {
				if it = it.value.entry(p); it != nil && it.key != "" {
					p = it.key
				} else if it == nil {
					p = quote(p)
				}
			}
			spelled += "|" + p
		}
		if value == "" {
			if !d.Delete(at...) || list {
				return // in a list what follows moves up
			}
		} else if d.Set([]byte(value), at...) != nil {
			return
		}
		again, err := Parse("c.json", d.Bytes())
		if err != nil {
			t.Fatalf("does not parse after the edit: %v\n%s", err, d.Bytes())
		}
		after := map[string]string{}
		leaves(after, "", again.root.value)
		for p, v := range before {
			if p == spelled || strings.HasPrefix(p, spelled+"|") || strings.HasPrefix(spelled, p+"|") {
				continue
			}
			if after[p] != v {
				t.Fatalf("%s was %s and is %s\n%s", p, v, after[p], d.Bytes())
			}
		}
		if value == "" {
			if d.find(at) != nil {
				t.Fatal("deleted and still there")
			}
			return
		}
		want, err := parseValue(value, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(at) > 0 && at[len(at)-1] == "-" {
			return
		}
		if got := again.find(at); got == nil || !equal(got.value, want) {
			if !strings.Contains("|"+path+"|", "|-|") {
				t.Fatalf("set and not there\n%s", d.Bytes())
			}
		}
	})
}

// nodes counts what a document holds besides its text.
func (n *node) nodes() int {
	all := 1
	for _, it := range n.items {
		all += it.value.nodes()
	}
	return all
}

// TestNamespacesStayTextUntilSomebodyAsks: a document of many namespaces is little more
// than its text, as it is read and as it is edited, by key and as a whole.
func TestNamespacesStayTextUntilSomebodyAsks(t *testing.T) {
	const many = 1000
	d := mustParse(t, usual)
	before := d.root.value.nodes()
	var policies []string
	for i := range many {
		name := "team-" + strconv.Itoa(i) + "/**"
		apply(t, d, edit{"http|accesscontrol|repositories|" + name, `{"policies":[{"users":["u"],"actions":["read"]}],"anonymousPolicy":null}`})
		policies = append(policies, `{"repositories":["`+name+`"],"keepTags":[{"patterns":["v.*"]},{"pushedWithin":"24h"}]}`)
	}
	apply(t, d, edit{"storage|retention|policies", "[" + strings.Join(policies, ",") + "]"})
	for name, d := range map[string]*Document{"edited": d, "read": mustParse(t, string(d.Bytes()))} {
		if n := d.root.value.nodes() - before; n > 2*many+10 {
			t.Errorf("%s: %d namespaces are %d values more", name, many, n)
		}
		if v, ok := d.Get("storage", "retention", "policies", "7", "keepTags", "1", "pushedWithin"); v != `"24h"` || !ok {
			t.Errorf("%s: in a policy stands %s", name, v)
		}
		if strings.Contains(string(d.Taken()), "null") {
			t.Errorf("%s: Zot forgets nulls", name)
		}
		apply(t, d, edit{"http|accesscontrol|repositories|team-7/**|policies|0|users|-", `"v"`})
		if !d.Delete("http", "accesscontrol", "repositories", "team-8/**", "policies") {
			t.Errorf("%s: nothing is deleted in a pattern", name)
		}
		if v, _ := d.Get("http", "accesscontrol", "repositories", "team-7/**", "policies", "0", "users"); !strings.Contains(v, `"v"`) {
			t.Errorf("%s: the edited pattern has %s", name, v)
		}
		if at := d.Position("http", "accesscontrol", "repositories", "team-9/**", "policies"); name == "read" && !strings.Contains(line(d.src, at.Line), "policies") {
			t.Errorf("line %d holds no policies", at.Line)
		}
	}
}

func line(text string, n int) string { return strings.Split(text, "\n")[n-1] }
