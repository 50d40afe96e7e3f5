package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/embedded"
)

// stoppedRegistry is a mode whose registry nobody serves, with one tag of each
// of two repositories, and a function that runs the program on it.
func stoppedRegistry(t *testing.T) func(args ...string) (code int, out, errs string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("modes/dev/dev.toml", `version = 1
[registry]
type = "distribution"
url = "http://127.0.0.1:1"
[registry.run]
driver = "embedded"
data = "../../data"
[state]
store = "dir"
dir = "../../state"
[namespace.team.retention]
keep = [{ pushed_within = "30d" }]
`)
	for tag, age := range map[string]time.Duration{"old": 40 * 24 * time.Hour, "new": time.Hour} {
		link := filepath.Join("data/docker/registry/v2/repositories/team/app/_manifests/tags", tag, "current/link")
		write(link, "sha256:"+strings.Repeat("a", 64))
		at := time.Now().Add(-age)
		if err := os.Chtimes(filepath.Join(dir, link), at, at); err != nil {
			t.Fatal(err)
		}
	}
	return func(args ...string) (int, string, string) {
		var out, errs bytes.Buffer
		env := map[string]string{"HOME": dir, "XDG_STATE_HOME": filepath.Join(dir, "machine")}
		code := run(t.Context(), append(args, "--mode", "dev", "--modes", filepath.Join(dir, "modes")), streams{
			in: strings.NewReader(""), out: &out, err: &errs,
			getenv: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		})
		return code, out.String(), errs.String()
	}
}

func TestRetentionPreviewSaysWhatGoesAndWhy(t *testing.T) {
	ocisync := stoppedRegistry(t)
	if code, _, errs := ocisync("apply", "--yes"); code != 0 {
		t.Fatalf("apply: exit %d: %s", code, errs)
	}
	code, out, errs := ocisync("retention", "preview")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	for _, want := range []string{
		"keep    team/app:new", "pushed within 30d",
		"remove  team/app:old", "pushed 40 days ago, never pulled; not kept by pushed within 30d",
		"1 kept, 1 to remove",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
	_, again, _ := ocisync("retention", "preview", "--output", "json")
	var report embedded.RetentionReport
	if err := json.Unmarshal([]byte(again), &report); err != nil {
		t.Fatal(err)
	}
	if !report.DryRun || report.Gone != 1 || len(report.Tags) != 2 || report.Tags[1].Tag != "old" || report.Tags[1].Kept {
		t.Errorf("the preview in JSON, or after one that removed: %+v", report)
	}
	if code, _, errs := ocisync("retention", "preview", "--namespace", "nowhere"); code != 1 || !strings.Contains(errs, "namespace nowhere") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

func TestRunRetentionRemovesWhatThePreviewSaid(t *testing.T) {
	ocisync := stoppedRegistry(t)
	if code, _, errs := ocisync("apply", "--yes"); code != 0 {
		t.Fatalf("apply: exit %d: %s", code, errs)
	}
	for _, tt := range []struct {
		want string
		args []string
	}{
		{"retention: would remove 1, kept 1 tag\n  would remove team/app:old: pushed 40 days ago", []string{"run", "retention", "--dry-run"}},
		{"retention: removed 1, kept 1 tag\n  removed team/app:old: pushed 40 days ago", []string{"run", "retention"}},
		{"retention: nothing to remove; 1 tag kept\n", []string{"run", "retention"}},
		{"1 kept, 0 to remove", []string{"retention", "preview"}},
	} {
		if code, out, errs := ocisync(tt.args...); code != 0 || !strings.Contains(out, tt.want) {
			t.Errorf("%v: exit %d, want %q:\n%s%s", tt.args, code, tt.want, out, errs)
		}
	}
}
