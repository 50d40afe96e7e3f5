package zot

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/files"
	"github.com/ocisync/ocisync/pkg/providers/zot/config"
	"github.com/ocisync/ocisync/schema"
)

// builtZot is a program that tells of itself what Zot's would.
func builtZot(t *testing.T, tags string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.invalid/zot\n", "cmd/zot/main.go": "package main\n\nfunc main() {}\n"} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-tags", tags, "-o", dir+"/zot", "./cmd/zot")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir + "/zot"
}

func copying() []plan.Change {
	return []plan.Change{
		makes(schema.KindRemote, "hub", &schema.Remote{Type: new("oci"), URL: new("https://hub.example")}),
		makes(schema.KindReplication, "pull", &schema.Replication{From: new("hub"), Trigger: &schema.Trigger{Schedule: "@every 1h"}}),
	}
}

// A Zot takes the section of an extension that it was built without, and does
// nothing with it.
func TestWhatAProgramWasBuiltWithoutIsRefused(t *testing.T) {
	p, _ := played(t, nowhere, func(string) string { return recordLoaded })
	p.registry.Run.Binary = builtZot(t, "events,metrics")
	setting := func(path string) plan.Change {
		return makes(schema.KindSettings, "", &schema.Settings{Values: schema.Values{{Path: path, JSON: "true"}}})
	}
	for lacking, c := range map[string]plan.Change{
		"sync":   copying()[1],
		"search": makes(schema.KindScan, "", &schema.Scan{Update: new(schema.Duration(86400))}),
		"ui":     setting("extensions.ui.enable"),
		"":       setting("extensions.metrics.enable"),
		"extensions lint, ui, and does nothing with them": makes(schema.KindSettings, "", &schema.Settings{Values: schema.Values{
			{Path: "extensions.lint.enable", JSON: "true"}, {Path: "extensions.metrics.enable", JSON: "true"}, {Path: "extensions.ui.enable", JSON: "true"},
		}}),
	} {
		v, err := p.Prepare(t.Context(), []plan.Change{c})
		if err != nil || (lacking == "") != (v[0].Refused == "") || !strings.Contains(v[0].Refused, lacking) {
			t.Errorf("%q: %+v, %v", lacking, v, err)
		}
	}
}

// TestAnExtensionThatIsOnAndNotBuiltInIsDrift where the mode needs it: the file alone
// is as declared. What somebody else has on is his.
func TestAnExtensionThatIsOnAndNotBuiltInIsDrift(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	p.registry.Run.Binary = builtZot(t, "events")
	with := strings.Replace(a.text(), `"log": {`, `"extensions": {"sync": {"registries": []}, "ui": {"enable": true}, "scrub": {"enable": false}}, "log": {`, 1)
	if err := files.Write(a.config, []byte(a.text()), []byte(with)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.Stop(t.Context()), a.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	ask := func(st schema.State) []plan.Change {
		t.Helper()
		want, _, err := p.Normalize(st)
		if err != nil {
			t.Fatal(err)
		}
		live, err := p.Read(t.Context(), want.Scope)
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(plan.Diff(plan.Input{Desired: want, Live: live, Table: p.Capabilities()}).Changes, func(c plan.Change) bool {
			return c.Key.Kind != schema.KindSettings || c.Recorded()
		})
	}
	c := ask(schema.State{Resources: []schema.Resource{*copying()[1].After}})
	if len(c) != 1 || !slices.Equal(changed(c[0]), []string{"values.process.extension.sync"}) {
		t.Fatalf("changes %+v", c)
	}
	v, err := p.Prepare(t.Context(), c)
	if err != nil || !strings.Contains(v[0].Refused, "built without Zot's extension sync") {
		t.Errorf("%+v, %v", v, err)
	}
	if c := ask(schema.State{}); len(c) != 0 {
		t.Errorf("of what the mode does not need: %+v", c)
	}
}

// TestAnExtensionThatIsOnByItsNameStaysOn when another is written beside it: Zot
// goes by names where the section says nothing else.
func TestAnExtensionThatIsOnByItsNameStaysOn(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	with := strings.Replace(a.text(), `"log": {`, `"extensions": {"search": {}, "Metrics": null, "lint": {}}, "log": {`, 1)
	if err := files.Write(a.config, []byte(a.text()), []byte(with)); err != nil {
		t.Fatal(err)
	}
	if err := wrote(t, p, copying()...); err != nil {
		t.Fatal(err)
	}
	doc, err := config.Parse("", []byte(a.text()))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"search": `{"enable":true}`, "metrics": `{"enable":true}`, "lint": ""} {
		if got, _ := doc.Get("extensions", name); strings.Join(strings.Fields(got), "") != want {
			t.Errorf("%s is %s\n%s", name, got, a.text())
		}
	}
}

// A Zot whose program and log are out of reach says itself what it searches.
func TestAZotThatDoesNotListSearchLacksIt(t *testing.T) {
	answer := `{"extensions":[]}`
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == discoverPath {
			_, _ = io.WriteString(w, answer)
		}
	}))
	defer s.Close()
	p, a := played(t, s.URL, func(string) string { return "" })
	p.paths.log = filepath.Join(p.paths.data, "none.log")
	with := strings.Replace(a.text(), `"log": {`, `"extensions": {"search": {"cve": {"updateInterval": "24h"}}}, "log": {`, 1)
	if err := files.Write(a.config, []byte(a.text()), []byte(with)); err != nil {
		t.Fatal(err)
	}
	lacking := func(running bool) string {
		t.Helper()
		a.running = running
		site, err := p.load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		st, err := p.status(t.Context(), site)
		if err != nil {
			t.Fatal(err)
		}
		_, why := p.lacks(t.Context(), site, st, []string{"search"})
		return why
	}
	if why := lacking(true); !strings.Contains(why, discoverPath) || !strings.Contains(why, "extension search") {
		t.Errorf("it says %q", why)
	}
	if why := lacking(false); why != "" {
		t.Errorf("of one that does not run: %q", why)
	}
	for _, answer = range []string{`{"extensions":[{"name":"_zot","endpoints":["/v2/_zot/ext/search","/v2/_zot/ext/mgmt"]}]}`, `not found`, `{}`} {
		if why := lacking(true); why != "" {
			t.Errorf("of %s: %q", answer, why)
		}
	}
}

// Where no program is at hand the log of its start tells.
func TestWhatZotSaysItWasBuiltWithoutIsNotDone(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	log := filepath.Join(p.paths.data, "zot.log")
	a.starts = func(text string) error {
		said := `{"message":"configuration settings"}` + "\n"
		if strings.Contains(text, `"sync"`) {
			said += `{"level":"warn","message":"skipping enabling sync extension because given zot binary doesn't include this feature,please build a binary that does so"}` + "\n"
		}
		return os.WriteFile(log, []byte(said), 0o600)
	}
	p.paths.log = log
	if err := a.starts(""); err != nil {
		t.Fatal(err)
	}
	if err := wrote(t, p, copying()...); err == nil || !strings.Contains(err.Error(), "replication/pull") || !strings.Contains(err.Error(), "without Zot's extension sync") || strings.Contains(err.Error(), "remote/hub") {
		t.Errorf("error %v after %d starts", err, a.began)
	}
	v, err := p.Prepare(t.Context(), copying()[1:])
	if err != nil || !strings.Contains(v[0].Refused, "extension sync") {
		t.Errorf("%+v, %v", v, err)
	}
}
