package load_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/schema"
	"github.com/ocisync/ocisync/schema/load"
)

const head = "version = 1\n[registry]\ntype = \"harbor\"\nurl = \"https://registry.example.com\"\n"

// specs loads one file and returns each object as key and JSON.
func specs(t *testing.T, body string) map[string]string {
	t.Helper()
	cfg, err := load.Mode(writeMode(t, "m", map[string][]byte{"m.toml": []byte(head + body)}), "m")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, r := range cfg.Desired.Resources {
		text, err := json.Marshal(r.Spec)
		if err != nil {
			t.Fatal(err)
		}
		out[r.Key.String()] = string(text)
	}
	return out
}

func TestDefaultsStandForWhatABlockLeavesOut(t *testing.T) {
	for name, row := range map[string]struct {
		body string
		want map[string]string
	}{
		"leaf by leaf": {
			"[defaults.namespace]\naccess.anonymous = []\naccess.users.a = [\"pull\"]\n[namespace.n]\naccess.users.b = [\"push\"]\n",
			map[string]string{"namespace/n": `{}`, "access/n": `{"anonymous":[],"users":{"a":["pull"],"b":["push"]}}`},
		},
		"an inline table is one value": {
			"[defaults.namespace]\nscan = { sbom = true, block = \"low\" }\n[namespace.n]\nscan = { block = \"high\" }\n",
			map[string]string{"namespace/n": `{}`, "scan/n": `{"block":"high"}`},
		},
		"a whole child counts everywhere, part of one where it is declared": {
			"[defaults.namespace]\nquota = \"1GiB\"\nretention.schedule = \"@daily\"\n[namespace.a]\n[namespace.b]\nretention.keep = []\n",
			map[string]string{"namespace/a": `{}`, "quota/a": `{"limit":"1GiB"}`, "namespace/b": `{}`, "quota/b": `{"limit":"1GiB"}`,
				"retention/b": `{"keep":[],"schedule":"@daily"}`},
		},
		"part of a named child counts where that child is declared": {
			"[defaults.namespace.webhook.ci]\nformat = \"slack\"\n[defaults.webhook]\nenabled = false\n[namespace.a]\n[namespace.b.webhook.ci]\nurl = \"https://a.example\"\nevents = []\n",
			map[string]string{"namespace/a": `{}`, "namespace/b": `{}`, "webhook/b/ci": `{"url":"https://a.example","events":[],"format":"slack","enabled":false}`},
		},
		"unmanaged undoes": {
			"[defaults.namespace]\nquota = \"1GiB\"\naccess.anonymous = []\ndescription = \"x\"\n[namespace.n]\nquota = \"unmanaged\"\ndescription = \"unmanaged\"\naccess.anonymous = \"unmanaged\"\naccess.authenticated = []\n",
			map[string]string{"namespace/n": `{}`, "access/n": `{"authenticated":[]}`},
		},
		"a scalar and a table of the same kind": {
			"[defaults.namespace]\nquota = \"1GiB\"\nimmutable = []\n[namespace.n.quota]\nlimit = \"2GiB\"\n[namespace.n]\nimmutable = [{ tags = \"v*\" }]\n",
			map[string]string{"namespace/n": `{}`, "quota/n": `{"limit":"2GiB"}`, "immutable/n": `{"rules":[{"tags":"v*"}]}`},
		},
		"of other kinds": {
			"[defaults.robot]\nexpires = \"90d\"\nrenew = \"14d\"\n[robot.a]\nrenew = \"7d\"\n[namespace.n.robot.b]\n",
			map[string]string{"namespace/n": `{}`, "robot/a": `{"expires":"90d","renew":"7d"}`, "robot/n/b": `{"expires":"90d","renew":"14d"}`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, specs(t, row.body)); diff != "" {
				t.Errorf("(-want +have)\n%s", diff)
			}
		})
	}
}

func TestOmittedIsNotManagedAndEmptyIs(t *testing.T) {
	have := specs(t, "[group.a]\n[group.b]\nusers = []\n[namespace.n]\ndescription = \"\"\n[namespace.n.access]\n[namespace.n.access.users]\n")
	want := map[string]string{"group/a": `{}`, "group/b": `{"users":[]}`, "namespace/n": `{"description":""}`, "access/n": `{"users":{}}`}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
}

func TestDirectivesAreReadBesideTheFields(t *testing.T) {
	cfg, err := load.Mode(writeMode(t, "m", map[string][]byte{"m.toml": []byte(head +
		"[defaults.namespace]\non_delete = \"archive\"\n[namespace.n]\npreviously = \"o\"\n[namespace.n.access]\npaused = { until = 2027-01-31, reason = \"x\" }\n")}), "m")
	if err != nil {
		t.Fatal(err)
	}
	want := []schema.Directive{
		{Key: schema.Key{Kind: schema.KindAccess, Name: "n"}, Paused: &schema.Pause{Until: &schema.Date{Year: 2027, Month: 1, Day: 31}, Reason: "x"}},
		{Key: schema.Key{Kind: schema.KindNamespace, Name: "n"}, Previously: "o", OnDelete: "archive"},
	}
	if diff := cmp.Diff(want, cfg.Directives); diff != "" {
		t.Error(diff)
	}
}

func TestSeveralFilesAndCommonAreOneMode(t *testing.T) {
	root := writeMode(t, "m", map[string][]byte{
		"a.toml":              []byte(head + "[namespace.n]\ndescription = \"N\"\n"),
		"b.toml":              []byte("version = 1\n[namespace.n.access]\nanonymous = []\n"),
		"../common/c.toml":    []byte("[namespace.n.access]\nauthenticated = []\n[defaults.namespace]\nquota = \"1GiB\"\n"),
		"../common/.x.toml":   []byte("not read"),
		"../common/readme.md": []byte("not read"),
	})
	cfg, err := load.Mode(root, "m")
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, r := range cfg.Desired.Resources {
		keys = append(keys, r.Key.String()+" "+filepath.Base(r.Source.File))
	}
	want := []string{"access/n b.toml", "namespace/n a.toml", "quota/n c.toml"}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Error(diff)
	}
	origins, err := load.Explain(root, "m", "access/n")
	if err != nil || len(origins) != 2 || origins[0].Path != "namespace.n.access.anonymous" || filepath.Base(origins[1].File) != "c.toml" {
		t.Errorf("%v, %v", origins, err)
	}
	origins, err = load.Explain(root, "m", "namespace.n.quota")
	if err != nil || len(origins) != 1 || origins[0].From != "defaults.namespace" || origins[0].Value != `"1GiB"` {
		t.Errorf("%v, %v", origins, err)
	}
	if _, err := load.Explain(root, "m", "namespace.m"); err == nil || !strings.Contains(err.Error(), `did you mean "n"?`) {
		t.Errorf("%v", err)
	}
}

func TestOnlyRegularFilesOfTheTreeAreRead(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret.toml")
	if err := os.WriteFile(outside, []byte(head), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"outside": outside, "dangling": "nowhere.toml", "device": "/dev/zero"} {
		root := writeMode(t, "m", map[string][]byte{"m.toml": []byte(head)})
		if err := os.Symlink(target, filepath.Join(root, "m", "x.toml")); err != nil {
			t.Fatal(err)
		}
		_, err := load.Mode(root, "m")
		var list load.Errors
		if err == nil || errors.As(err, &list) || !strings.Contains(err.Error(), "x.toml") {
			t.Errorf("%s: %v", name, err)
		}
	}
	root := writeMode(t, "m", map[string][]byte{"m.toml": []byte(head + "[namespace.n]\ntrust = { keys = [\"key.pub\"] }\n")})
	if err := os.Symlink(outside, filepath.Join(root, "m", "key.pub")); err != nil {
		t.Fatal(err)
	}
	if _, err := load.Mode(root, "m"); err == nil || !strings.Contains(err.Error(), "link that leaves") {
		t.Errorf("a linked key: %v", err)
	}
}

func TestHostFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocisync.toml")
	text := "modes = \"git/modes\"\nregistries = [\"https://registry.example.com\"]\nlock = \"/run/lock\"\n[secrets]\nenv = [\"CI_TOKEN\"]\n[command.b]\nrun = [\"/bin/b\", \"x\"]\ntimeout = \"5s\"\n[command.a]\nrun = [\"/bin/a\"]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	have, err := load.Host(path)
	if err != nil {
		t.Fatal(err)
	}
	want := &schema.Host{File: path, Registries: []string{"https://registry.example.com"}, Modes: filepath.Join(filepath.Dir(path), "git/modes"), Lock: "/run/lock", Secrets: schema.HostSecrets{Env: []string{"CI_TOKEN"}},
		Command: []schema.HostCommand{{Name: "a", Run: []string{"/bin/a"}}, {Name: "b", Run: []string{"/bin/b", "x"}, Timeout: 5}}}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
}

func FuzzMode(f *testing.F) {
	files, err := filepath.Glob("../../testdata/compat/v1/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("a = [1, { b.c = 2 }, '''x''', 2027-01-31 08:00:00Z] # c\n[[d.\"e f\"]]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		root := writeMode(t, "m", map[string][]byte{"m.toml": data})
		cfg, err := load.Mode(root, "m")
		if err == nil {
			text, err := load.Encode(cfg, filepath.Join(root, "m"))
			if err != nil {
				t.Fatalf("what loads cannot be written: %v", err)
			}
			if err := os.WriteFile(filepath.Join(root, "m", "m.toml"), text, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := load.Mode(root, "m"); err != nil {
				t.Fatalf("what is written does not load: %v\n%s", err, text)
			}
		}
		once, err := load.Format("m.toml", data)
		if err != nil {
			return
		}
		twice, err := load.Format("m.toml", once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("formatting twice differs: %v\n%q\n%q", err, once, twice)
		}
	})
}
