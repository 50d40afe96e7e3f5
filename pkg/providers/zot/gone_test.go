package zot

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/files"
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
