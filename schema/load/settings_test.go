package load_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ocisync/ocisync/schema"
	"github.com/ocisync/ocisync/schema/load"
)

// What stands in a list of a registry's own settings arrives, whichever form of
// TOML it has and however deep it lies.
func TestListsOfTablesInSettingsAreWhole(t *testing.T) {
	const (
		inline = `
a.tables = [{ addr = "127.0.0.1:1", threshold = 1, up = true, ratio = 1.5, day = 2027-01-31 }, { none = {}, empty = [] }]
a.deep = [[{ b = [{ c = [{ d = "x" }] }] }], ["y"]]
"a b".names = [{ "c.d" = { e = ["f"] } }]
`
		repeated = `
"a b".names = [{ "c.d" = { e = ["f"] } }]
[[registry.TYPE.a.tables]]
addr = "127.0.0.1:1"
threshold = 1
up = true
ratio = 1.5
day = 2027-01-31
[[registry.TYPE.a.tables]]
none = {}
[registry.TYPE.a]
deep = [[{ b = [{ c = [{ d = "x" }] }] }], ["y"]]
`
	)
	want := schema.Values{
		{Path: `"a b".names`, JSON: `[{"c.d":{"e":["f"]}}]`},
		{Path: "a.deep", JSON: `[[{"b":[{"c":[{"d":"x"}]}]}],["y"]]`},
		{Path: "a.tables", JSON: `[{"addr":"127.0.0.1:1","day":"2027-01-31","ratio":1.5,"threshold":1,"up":true},{"empty":[],"none":{}}]`},
	}
	for _, registry := range []string{schema.TypeZot, schema.TypeDistribution, schema.TypeHarbor} {
		for form, body := range map[string]string{"inline": inline, "repeated": strings.Replace(repeated, "none = {}\n", "none = {}\nempty = []\n", 1)} {
			t.Run(registry+" "+form, func(t *testing.T) {
				text := "version = 1\n[registry]\ntype = \"" + registry + "\"\nurl = \"https://registry.example.com\"\n[registry." + registry + "]" +
					strings.ReplaceAll(body, "TYPE", registry)
				root := writeMode(t, "m", map[string][]byte{"m.toml": []byte(text)})
				first, err := load.Mode(root, "m")
				if err != nil {
					t.Fatal(err)
				}
				same(t, want, first)
				formatted, err := load.Format("m.toml", []byte(text))
				if err != nil {
					t.Fatal(err)
				}
				encoded, err := load.Encode(first, filepath.Join(root, "m"))
				if err != nil {
					t.Fatal(err)
				}
				for _, again := range [][]byte{formatted, encoded} {
					if err := os.WriteFile(filepath.Join(root, "m", "m.toml"), again, 0o600); err != nil {
						t.Fatal(err)
					}
					next, err := load.Mode(root, "m")
					if err != nil {
						t.Fatalf("%v\n%s", err, again)
					}
					same(t, want, next)
				}
			})
		}
	}
}

// What a registry has is compared with what a mode says as text, which therefore has
// one form.
func TestTextsOfSettingsAreCanonical(t *testing.T) {
	for _, text := range []string{`say "no" & <b>`, `é & ü`, `a\b > c`, "tab\t& line\n", "\u2028 & \u2029", `plain & simple`} {
		quoted, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		canonical, err := schema.CanonicalJSON(quoted)
		if err != nil {
			t.Fatal(err)
		}
		const head = "version = 1\n[registry]\ntype = \"harbor\"\nurl = \"https://registry.example.com\"\n[registry.harbor]\n"
		cfg, err := load.Mode(writeMode(t, "m", map[string][]byte{"m.toml": fmt.Appendf([]byte(head), "alone = %[1]s\nparts = { message = %[1]s }\n", quoted)}), "m")
		if err != nil {
			t.Fatal(err)
		}
		same(t, schema.Values{{Path: "alone", JSON: canonical}, {Path: "parts.message", JSON: canonical}}, cfg)
	}
}

func same(t *testing.T, want schema.Values, cfg *schema.Config) {
	t.Helper()
	for _, r := range cfg.Desired.Resources {
		if s, ok := r.Spec.(*schema.Settings); ok {
			if diff := cmp.Diff(want, s.Values, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +have)\n%s", diff)
			}
			return
		}
	}
	t.Error("there are no settings")
}

// What cannot be written, or would not be what was meant, is an error.
func TestWhatAListCannotHoldIsRefused(t *testing.T) {
	for name, body := range map[string]string{
		"a number with no meaning":      "a = [{ b = nan }]\n",
		"a secret":                      "a = [{ password = \"hunter2\" }]\n",
		"a reference, which would stay": "[[registry.zot.a]]\npassword = { env = \"OCISYNC_P\" }\n",
	} {
		root := writeMode(t, "m", map[string][]byte{"m.toml": []byte("version = 1\n[registry]\ntype = \"zot\"\nurl = \"https://h.example\"\n[registry.zot]\n" + body)})
		_, err := load.Mode(root, "m")
		if list := (load.Errors)(nil); !errors.As(err, &list) || len(list) != 1 || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg := &schema.Config{Mode: "m", Registry: schema.Registry{Type: schema.TypeZot, URL: "https://h.example"}}
	cfg.Desired.Resources = []schema.Resource{{Key: schema.Key{Kind: schema.KindSettings}, Spec: &schema.Settings{Values: schema.Values{{Path: "a", JSON: `[{"b":null}]`}}}}}
	if text, err := load.Encode(cfg, ""); err == nil || !strings.Contains(err.Error(), "registry.zot.a") {
		t.Errorf("null: %v\n%s", err, text)
	}
}

func TestARegistryIsPublishedWhereItListensAlone(t *testing.T) {
	for network, wrong := range map[string]bool{"host": true, "none": true, "container:other": true, "bridge": false, "own": false} {
		text := "version = 1\n[registry]\ntype = \"distribution\"\nurl = \"http://localhost:5000\"\n[registry.run]\ndriver = \"docker\"\nimage = \"registry:3\"\ndata = \"/srv/registry\"\nnetwork = \"" + network + "\"\n"
		_, err := load.Mode(writeMode(t, "m", map[string][]byte{"m.toml": []byte(text)}), "m")
		if list := (load.Errors)(nil); wrong != (errors.As(err, &list) && len(list) == 1 && list[0].Key == "registry.run.network") || !wrong && err != nil {
			t.Errorf("%s: %v", network, err)
		}
	}
}

// Distribution knows no administrators in an htpasswd file.
func TestALoginIsAnAdministratorWhereThereAreSuch(t *testing.T) {
	const login = "login = { user = \"ops\", password = { env = \"OCISYNC_OPS\" } }\n"
	const users = "[user.ops]\npassword = { env = \"OCISYNC_OPS\" }\n"
	for name, row := range map[string]struct {
		registry, tables, users string
		problems                int
	}{
		"an htpasswd file":               {"distribution", "[registry.run]\ndriver = \"process\"\nbinary = \"/bin/registry\"\ndata = \"/srv/r\"\n[registry.files]\nhtpasswd = \"/srv/r/htpasswd\"\n", users, 0},
		"one that config.yml names":      {"distribution", "[registry.files]\nconfig = \"/srv/r/config.yml\"\n", users, 0},
		"one without the account":        {"distribution", "[registry.files]\nhtpasswd = \"/srv/r/htpasswd\"\n", strings.ReplaceAll(users, "user.ops", "user.dev"), 1},
		"a token service":                {"distribution", "[registry.run]\ndriver = \"process\"\nbinary = \"/bin/registry\"\ndata = \"/srv/r\"\n", users, 1},
		"Zot, which has administrators ": {"zot", "[registry.files]\nconfig = \"/srv/z/config.json\"\nhtpasswd = \"/srv/z/htpasswd\"\n", users, 1},
	} {
		text := "version = 1\n[registry]\ntype = \"" + row.registry + "\"\nurl = \"http://localhost:5000\"\n" + login + row.tables + row.users
		_, err := load.Mode(writeMode(t, "m", map[string][]byte{"m.toml": []byte(text)}), "m")
		var list load.Errors
		if errors.As(err, &list); len(list) != row.problems || err != nil && row.problems == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
