package distribution

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	yaml "go.yaml.in/yaml/v3"

	"github.com/ocisync/ocisync/schema"
)

const written = `# of the operations team
version: 0.1
log:
  level: info # quiet
  fields: {service: registry, environment: "on"}
storage:
    filesystem:
        rootdirectory: /var/lib/registry
    cache:
        blobdescriptor: inmemory
http:
  addr: :5000
  secret: asecretforlocaldevelopment
  headers:
    X-Content-Type-Options: [nosniff]
  draintimeout: 60s
# keep this one
proxy:
  remoteurl: https://registry-1.docker.io
  ttl: 168h
`

func parsed(t testing.TB, text string) *document {
	t.Helper()
	d, err := parseDocument([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func text(t testing.TB, d *document) string {
	t.Helper()
	b, err := d.bytes()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAnEditKeepsEveryOtherKeyAndComment(t *testing.T) {
	d := parsed(t, written)
	for path, value := range map[string]string{
		"log.level": `"debug"`, "storage.delete.enabled": "true", "http.headers.X-Frame-Options": `["deny","on"]`, "health.storagedriver.threshold": "3",
	} {
		if err := d.set(path, value); err != nil {
			t.Fatal(err)
		}
	}
	d.drop("proxy.ttl")
	d.drop("redis.addrs")
	got := text(t, d)
	for _, words := range []string{
		"# of the operations team", "# quiet", "# keep this one", `level: "debug" # quiet`, `environment: "on"`, "asecretforlocaldevelopment",
		"blobdescriptor: inmemory", `- "on"`, "remoteurl: https://registry-1.docker.io", "enabled: true",
	} {
		if !strings.Contains(got, words) {
			t.Errorf("%q is gone:\n%s", words, got)
		}
	}
	if strings.Contains(got, "ttl") {
		t.Errorf("what was dropped stays:\n%s", got)
	}
	before, _, err := parsed(t, written).leaves()
	if err != nil {
		t.Fatal(err)
	}
	after, _, err := parsed(t, got).leaves()
	if err != nil {
		t.Fatal(err)
	}
	var added []string
	have := map[string]string{}
	for _, v := range before {
		have[v.Path] = v.JSON
	}
	for _, v := range after {
		if have[v.Path] != v.JSON {
			added = append(added, v.Path)
		}
		delete(have, v.Path)
	}
	if diff := cmp.Diff([]string{"health.storagedriver.threshold", `http.headers.X-Frame-Options`, "log.level", "storage.delete.enabled"}, added); diff != "" || len(have) != 1 {
		t.Errorf("changed (-want +got):\n%s; gone: %v", diff, have)
	}
	if again := text(t, parsed(t, got)); again != got {
		t.Errorf("written twice it differs:\n%s", cmp.Diff(got, again))
	}
}

func TestLeavesAreReadAsTheyAreWritten(t *testing.T) {
	values, secrets, err := parsed(t, written+"storage2: ~\nmiddleware:\n  storage:\n    - name: redirect\n      options: {baseurl: https://x}\nnumbers: [1, 0x10, 1.5, true, null, \"1\"]\n\"a.b\": {}\n").leaves()
	if err != nil {
		t.Fatal(err)
	}
	want := schema.Values{
		{Path: `"a.b"`, JSON: "{}"},
		{Path: "http.addr", JSON: `":5000"`},
		{Path: "http.draintimeout", JSON: `"60s"`},
		{Path: "http.headers.X-Content-Type-Options", JSON: `["nosniff"]`},
		{Path: "log.fields.environment", JSON: `"on"`},
		{Path: "log.fields.service", JSON: `"registry"`},
		{Path: "log.level", JSON: `"info"`},
		{Path: "middleware.storage", JSON: `[{"name":"redirect","options":{"baseurl":"https://x"}}]`},
		{Path: "numbers", JSON: `[1,16,1.5,true,null,"1"]`},
		{Path: "proxy.remoteurl", JSON: `"https://registry-1.docker.io"`},
		{Path: "proxy.ttl", JSON: `"168h"`},
		{Path: "storage.cache.blobdescriptor", JSON: `"inmemory"`},
		{Path: "storage.filesystem.rootdirectory", JSON: `"/var/lib/registry"`},
		{Path: "storage2", JSON: "null"},
	}
	if diff := cmp.Diff(want, values); diff != "" || len(secrets) != 1 || secrets[0] != "http.secret" {
		t.Errorf("leaves (-want +got):\n%s; secrets %v", diff, secrets)
	}
	const guarded = "notifications:\n  endpoints:\n    - name: x\n      headers: {Authorization: [Bearer canary]}\nlog:\n  hooks:\n    - options: {smtp: {password: canary}}\n  level: info\nmiddleware:\n  storage: [{options: {privatekey: canary}}]\n"
	values, secrets, err = parsed(t, guarded).leaves()
	if err != nil || strings.Contains(fmt.Sprint(values), "canary") || len(values) != 1 ||
		!slices.Equal(secrets, []string{"log.hooks", "middleware.storage", "notifications.endpoints"}) {
		t.Errorf("%v: secrets in lists are shown: %v; hidden: %v", err, values, secrets)
	}
	short, _, err := parsed(t, "storage: inmemory\nauth: none\n").leaves()
	if diff := cmp.Diff(schema.Values{{Path: "auth.none", JSON: "{}"}, {Path: "storage.inmemory", JSON: "{}"}}, short); diff != "" || err != nil {
		t.Errorf("%v: the short form (-want +got):\n%s", err, diff)
	}
}

func TestADocumentThatCannotBeEditedIsRefused(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"not YAML":   {"a: [", "line 1"},
		"a list":     {"- a\n", "no table"},
		"twice":      {"log: {}\nhttp: {}\nlog: {}\n", `lines 1 and 3: the key "log"`},
		"alias":      {"a: &x {b: c}\nd: *x\n", "line 1"},
		"merge":      {"a: {}\nb:\n  <<: {c: d}\n", "line 3"},
		"two":        {"a: 1\n---\nb: 2\n", "more than one document"},
		"deep":       {strings.Repeat("a: {", 100) + strings.Repeat("}", 100), "deeper"},
		"a key list": {"? [a]\n: b\n", "no plain one"},
		"large":      {strings.Repeat("#", maxConfig+1), "larger"},
	} {
		if _, err := parseDocument([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", name, err, tt.want)
		}
	}
	d := parsed(t, "http: none\n")
	if err := d.set("http.addr", `":5000"`); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("error %v", err)
	}
}

// FuzzDocument: what is read and written again says the same, and an edit
// changes one leaf.
func FuzzDocument(f *testing.F) {
	f.Add(written, "http.addr", `":1"`)
	f.Add("a: 1\n", `"a.b".c`, "[]")
	f.Add("a: {b: , c, d: [{e}, f]}\n", "a.b", "1")
	f.Add("", "a", "1e999")
	f.Fuzz(func(t *testing.T, content, path, value string) {
		d, err := parseDocument([]byte(content))
		if err != nil {
			return
		}
		before, _, err := d.leaves()
		if err != nil {
			return
		}
		b, err := d.bytes()
		if err != nil {
			return
		}
		again, err := parseDocument(b)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, b)
		}
		after, _, err := again.leaves()
		if err != nil || !cmp.Equal(before, after) {
			t.Fatalf("%v: read again (-before +after):\n%s\n%s", err, cmp.Diff(before, after), b)
		}
		if canonical, err := schema.CanonicalJSON([]byte(value)); err != nil || canonical != value {
			return
		}
		if again.set(path, value) != nil {
			return
		}
		if n := again.get(path); n == nil {
			t.Fatalf("%s was set and is not there", path)
		} else if got, err := nodeJSON(n); err != nil || got != value && n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
			t.Fatalf("%s is %s, %v", path, got, err)
		}
	})
}

func TestAConfigurationKeepsItsModeAndIsWholeOrNotThere(t *testing.T) {
	name := filepath.Join(t.TempDir(), "config.yml")
	if err := replaceConfig(name, []byte("a: 1\n")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := os.Chmod(name, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := replaceConfig(name, []byte("a: 2\n")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if entries, err := os.ReadDir(filepath.Dir(name)); err != nil || len(entries) != 1 {
		t.Errorf("something else lies there: %v", entries)
	}
}

func TestSettingsThatDistributionWouldNotTakeAreRefused(t *testing.T) {
	for _, tt := range []struct{ path, json, want string }{
		{"log.level", `"debug"`, ""},
		{"log.level", `"trace"`, "one of error, warn, info, debug"},
		{"log.levels", `"debug"`, "log has accesslog, fields, formatter, hooks, level, reportcaller"},
		{"logs.level", `"debug"`, "there is catalog, health, http, log"},
		{"log.fields.service", `"registry"`, ""},
		{"http.draintimeout", `"60s"`, ""},
		{"http.draintimeout", `60`, "nanoseconds"},
		{"http.draintimeout", `"60"`, "60s"},
		{"http.headers.X-Frame-Options", `["deny"]`, ""},
		{"http.headers.X-Frame-Options", `"deny"`, "a list of texts"},
		{"http.relativeurls", `"true"`, "true or false"},
		{"catalog.maxentries", `-1`, "whole number"},
		{"catalog.maxentries", `1.5`, "whole number"},
		{"http.secret", `{"env":"X"}`, ""},
		{"http.addr", `{"env":"X"}`, "has none"},
		{"http.addr", `{}`, "a text"},
		{"storage.inmemory", `{}`, ""},
		{"storage.filesystem", `{}`, ""},
		{"storage.gcs.credentials", `{"env":"X"}`, "has none"},
		{"storage.s3.region", `"eu"`, ""},
		{"redis.options.addrs", `["a"]`, "redis has addrs"},
		{"redis.password", `{"env":"X"}`, ""},
		{"middleware.storage", `[{"name":"redirect","options":{"baseurl":"https://x"}}]`, ""},
		{"middleware.storage", `[{"nam":"redirect"}]`, "middleware.storage[0].nam"},
		{"middleware.storage", `["redirect"]`, "a table belongs there"},
		{"middleware.storage", `[{"options":{"privatekey":{"env":"X"}}}]`, "in no list"},
		{"health.http", `[{"uri":"http://x","timeout":"3s","threshold":3}]`, ""},
		{"health.http", `[{"timeout":3}]`, "health.http[0].timeout"},
		{"policy.outside", `"deny"`, ""},
	} {
		err := CheckSettings(schema.Values{{Path: tt.path, JSON: tt.json}})
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s = %s: error %v, want %q", tt.path, tt.json, err, tt.want)
		}
	}
	both := CheckSettings(schema.Values{{Path: "storage.filesystem.maxthreads", JSON: "30"}, {Path: "storage.s3.bucket", JSON: `"b"`}, {Path: "x", JSON: "1"}})
	if both == nil || !strings.Contains(both.Error(), "keep one of filesystem, s3") || !strings.Contains(both.Error(), "x: Distribution has no such setting") {
		t.Errorf("error %v", both)
	}
}

func TestThePlaceOfATokenServiceIsBesideTheRegistryOrWritten(t *testing.T) {
	run := &schema.Run{Driver: schema.DriverProcess, Data: "/data"}
	docker := &schema.Run{Driver: schema.DriverDocker, Data: "/data", Listen: "0.0.0.0:5000"}
	for _, tt := range []struct {
		r                     schema.Registry
		realm, listen, refuse string
	}{
		{schema.Registry{URL: "http://localhost:5000", Run: run}, "http://localhost:5001/token", "localhost:5001", ""},
		{schema.Registry{URL: "http://127.0.0.1:5000", Run: docker}, "http://localhost:5001/token", "0.0.0.0:5001", ""},
		{schema.Registry{URL: "https://registry.example.com:5000", Run: run}, "https://registry.example.com:5001/token", "registry.example.com:5001", ""},
		{schema.Registry{URL: "https://registry.example.com", Run: run}, "", "", "registry.token.url"},
		{schema.Registry{URL: "http://10.0.0.1:5000", Run: run}, "", "", "registry.token.url"},
		{schema.Registry{URL: "http://localhost:65535", Run: run}, "", "", "registry.token.url"},
		{schema.Registry{URL: "https://registry.example.com", Run: run, Token: &schema.TokenService{URL: "https://auth.example.com/", Listen: "127.0.0.1:5001"}}, "https://auth.example.com/token", "127.0.0.1:5001", ""},
		{schema.Registry{URL: "https://registry.example.com", Run: run, Token: &schema.TokenService{URL: "https://auth.example.com"}}, "https://auth.example.com/token", "auth.example.com:443", ""},
		{schema.Registry{URL: "https://registry.example.com", Run: run, Token: &schema.TokenService{URL: "https://auth.example.com/token"}}, "", "", "without a path"},
		{schema.Registry{URL: "http://localhost:5000", Run: &schema.Run{Driver: schema.DriverProcess}}, "", "", "registry.run.data"},
		{schema.Registry{URL: "localhost:5000", Run: run}, "", "", "registry.url"},
	} {
		p, err := PlaceOf(tt.r)
		switch {
		case tt.refuse != "":
			if err == nil || !strings.Contains(err.Error(), tt.refuse) {
				t.Errorf("%+v: error %v, want %q", tt.r, err, tt.refuse)
			}
		case err != nil || p.Realm() != tt.realm || p.Listen != tt.listen || p.Config != "/data/config.yml":
			t.Errorf("%+v: %+v, %v", tt.r, p, err)
		}
	}
	p, err := PlaceOf(schema.Registry{URL: "http://localhost:5000", Files: &schema.FilePaths{Config: "/etc/registry/config.yml"}})
	if err != nil || p.Service != nil || p.Config != "/etc/registry/config.yml" {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestKeysRotateEveryThirtyDaysOrAsTheModeSays(t *testing.T) {
	every := func(text string) (time.Duration, error) {
		r := schema.Registry{URL: "http://localhost:5000", Run: &schema.Run{Driver: schema.DriverProcess, Data: "/data"}, Token: &schema.TokenService{}}
		if text != "" {
			d, err := schema.ParseDuration(text)
			if err != nil {
				t.Fatal(err)
			}
			r.Token.Rotate = &d
		}
		p, err := PlaceOf(r)
		return p.Rotate, err
	}
	for text, want := range map[string]time.Duration{"": 30 * 24 * time.Hour, "1w": 7 * 24 * time.Hour, "1h": time.Hour, "never": 0} {
		if d, err := every(text); d != want || err != nil {
			t.Errorf("%q: %v, %v; want %v", text, d, err, want)
		}
	}
	for _, text := range []string{"0", "59m"} {
		if _, err := every(text); err == nil || !strings.Contains(err.Error(), "registry.token.rotate") {
			t.Errorf("%q: error %v", text, err)
		}
	}
}

func TestTheNameOfARepositoryIsFoundInEveryPath(t *testing.T) {
	for path, want := range map[string]string{
		"a/b/manifests/latest": "a/b", "a/blobs/sha256:x": "a", "a/tags/list": "a", "a/blobs/uploads/": "a", "a/blobs/uploads/uuid": "a",
		"blobs/uploads/manifests/x": "blobs/uploads", "": "", "_catalog": "", "manifests/x": "",
	} {
		if got := repositoryOf(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
