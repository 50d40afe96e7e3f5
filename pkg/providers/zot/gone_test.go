package zot

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/files"
	"github.com/ocisync/ocisync/pkg/providers/zot/config"
	"github.com/ocisync/ocisync/schema"
)

// realm sets http.realm.
func realm(value string) plan.Change {
	r := schema.Resource{Key: schema.Key{Kind: schema.KindSettings}, Spec: &schema.Settings{Values: schema.Values{{Path: "http.realm", JSON: `"` + value + `"`}, {Path: loadedPath, JSON: loadedYes}}}}
	return plan.Change{Action: plan.Update, Key: r.Key, After: &r, Fields: []plan.Field{{Path: "values.http.realm"}, {Path: "values." + loadedPath}}}
}

// TestWhatZotDidNotTakeOverNeedsNoRestartToGo: somebody wrote it into the file of a Zot
// that runs on without it.
func TestWhatZotDidNotTakeOverNeedsNoRestartToGo(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	if err := wrote(t, p, realm("hello")); err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(a.text(), `"hello"`, `"other"`, 1)
	if err := os.WriteFile(a.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	began := a.began
	for value, want := range map[string]plan.Effect{"third": plan.Restart, "hello": plan.Reload} {
		v, err := p.Prepare(t.Context(), []plan.Change{realm(value)})
		if err != nil || v[0].Effect != want {
			t.Errorf("%s: %+v, %v", value, v, err)
		}
	}
	if err := wrote(t, p, realm("hello")); err != nil || a.began != began || !strings.Contains(a.text(), `"hello"`) {
		t.Errorf("%v; %d starts; it says %s", err, a.began-began, a.text())
	}
}

// TestAConfigurationThatIsGoneIsAsItWasWrittenLast after a restart, and by the word that
// the registry is a new one it is that of one.
func TestAConfigurationThatIsGoneIsAsItWasWrittenLast(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	var log bytes.Buffer
	p.logger = slog.New(slog.NewTextHandler(&log, nil))
	if err := wrote(t, p, realm("hello")); err != nil {
		t.Fatal(err)
	}
	was := a.text()
	face := string(encoded(schema.Values(p.front())))
	if err := os.Remove(a.config); err != nil {
		t.Fatal(err)
	}
	if err := p.Precheck(t.Context(), face); err != nil || !strings.Contains(log.String(), "its configuration is gone") {
		t.Errorf("%v; it says %s", err, &log)
	}
	if err := p.BeforeStart(t.Context(), face); err != nil {
		t.Fatal(err)
	}
	if now := a.text(); !files.Equal([]byte(now), []byte(was)) {
		t.Errorf("it is\n%s\nand was\n%s", now, was)
	}
	if err := os.Remove(a.config); err != nil {
		t.Fatal(err)
	}
	if err := wrote(t, p, makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")})); err != nil || strings.Contains(a.text(), "hello") {
		t.Errorf("%v; it is\n%s", err, a.text())
	}
}

// TestWhatGoesWithAFileIsSaidByItsKeys: what somebody wrote into it by hand, and Zot was
// started with, or took over while it ran.
func TestWhatGoesWithAFileIsSaidByItsKeys(t *testing.T) {
	var log bytes.Buffer
	for name, row := range map[string]struct {
		more string // by hand
		says string // what Zot logs of it
		lost string
	}{
		"started with":  {`"http": {"ratelimit": {"rate": 500},`, "", "lost=http.ratelimit"},
		"as it logs it": {`"http": {`, `{"message":"configuration settings","params":{"HTTP":{"Realm":"other","Address":"127.0.0.1","Port":"9"}}}` + "\n", "lost=http.realm"},
		"nothing":       {`"http": {`, "", ""},
	} {
		p, a := played(t, nowhere, func(string) string { return recordLoaded })
		log.Reset()
		p.logger = slog.New(slog.NewTextHandler(&log, nil))
		if err := wrote(t, p, realm("hello")); err != nil {
			t.Fatal(err)
		}
		face := string(encoded(schema.Values(p.front())))
		if err := os.WriteFile(a.config, []byte(strings.Replace(a.text(), `"http": {`, row.more, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := p.BeforeStart(t.Context(), face); err != nil {
			t.Fatal(err)
		}
		a.says = func(string) string { return "" }
		a.log.WriteString(row.says)
		if err := os.Remove(a.config); err != nil {
			t.Fatal(err)
		}
		if err := p.Precheck(t.Context(), face); err != nil {
			t.Fatal(err)
		}
		if said := log.String(); !strings.Contains(said, "is gone") || !strings.Contains(said, row.lost) || strings.Contains(said, "lost=") != (row.lost != "") {
			t.Errorf("%s: it says %s", name, said)
		}
	}
}

// TestWhatAStartPutsRightIsSaid to who starts it.
func TestWhatAStartPutsRightIsSaid(t *testing.T) {
	without := func(text string, paths ...string) string {
		doc, err := config.Parse("", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			doc.Delete(schema.SplitPath(path)...)
		}
		return string(doc.Bytes())
	}
	for name, row := range map[string]struct {
		out  []string
		says string
	}{
		"logins":          {[]string{"http.auth"}, "http.auth.htpasswd is put back"},
		"rules":           {[]string{"http.accessControl"}, "took its rules out"},
		"both":            {[]string{"http.auth", "http.accessControl"}, "took its rules and its logins out"},
		"its own":         {[]string{`http.accessControl.repositories."ocisync/**"`}, "changed ocisync's own"},
		"nothing of that": {nil, ""},
	} {
		p, a := played(t, nowhere, func(string) string { return recordLoaded })
		if err := wrote(t, p, makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")})); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		p.logger = slog.New(slog.NewTextHandler(&log, nil))
		if err := os.WriteFile(a.config, []byte(without(a.text(), row.out...)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := p.Precheck(t.Context(), string(encoded(schema.Values(p.front())))); err != nil {
			t.Fatal(err)
		}
		if said := log.String(); !strings.Contains(said, row.says) || row.says == "" && said != "" {
			t.Errorf("%s: it says %s", name, said)
		}
	}
}

// TestAConfigurationIsCheckedBeforeTheFirstStart, when nothing of the registry is there.
func TestAConfigurationIsCheckedBeforeTheFirstStart(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p, err := New(schema.Registry{Type: schema.TypeZot, URL: nowhere, Run: &schema.Run{Driver: schema.DriverProcess, Data: data, Binary: "/bin/true"}}, nil, nil, nil, HashCost(4))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Precheck(t.Context(), ""); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(data); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its directory: %v", err)
	}
}
