package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/providers"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRunCollectsServedAndStopped runs the job on a registry that nobody
// serves and on one that is served.
func TestRunCollectsServedAndStopped(t *testing.T) {
	dir := t.TempDir()
	data, address := filepath.Join(dir, "data"), porttest.Address(t)
	write(t, filepath.Join(dir, "modes", "test", "test.toml"), fmt.Sprintf(`version = 1
[registry]
type  = "distribution"
url   = "http://%[1]s"
login = { user = "root", password = { env = "OCISYNC_ROOT" } }
run   = { driver = "embedded", data = "../../data", listen = "%[1]s" }
[state]
store = "dir"
dir   = "../../state"
[gc]
delay = "1h"
[user.root]
admin    = true
password = { env = "OCISYNC_ROOT" }
`, address))
	env := map[string]string{"OCISYNC_ROOT": "root password", "OCISYNC_MODE": "test", "OCISYNC_MODES": filepath.Join(dir, "modes"), "HOME": dir, "XDG_STATE_HOME": filepath.Join(dir, "machine")}
	ocisync := func(ctx context.Context, args ...string) (int, string) {
		var out bytes.Buffer
		code := run(ctx, args, streams{
			in: strings.NewReader(""), out: &out, err: &out,
			getenv: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		})
		return code, out.String()
	}
	expect := func(code int, text string, args ...string) {
		t.Helper()
		if got, out := ocisync(t.Context(), args...); got != code || !strings.Contains(out, text) {
			t.Errorf("ocisync %s: exit code %d, want %d and %q:\n%s", strings.Join(args, " "), got, code, text, out)
		}
	}
	// a blob that nothing names, a day old, as a registry stores it
	garbage := func(text string) {
		t.Helper()
		hex := fmt.Sprintf("%x", sha256.Sum256([]byte(text)))
		root := filepath.Join(data, "docker", "registry", "v2")
		write(t, filepath.Join(root, "blobs", "sha256", hex[:2], hex, "data"), text)
		write(t, filepath.Join(root, "repositories", "a", "_layers", "sha256", hex, "link"), "sha256:"+hex)
		yesterday := time.Now().Add(-24 * time.Hour)
		if err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Chtimes(path, yesterday, yesterday))
		}); err != nil {
			t.Fatal(err)
		}
	}
	expect(exitDone, "", "apply")
	expect(exitDone, "gc: nothing to remove", "run", "gc")
	garbage("garbage")
	expect(exitDone, "gc: would remove 1 blob (7 B), 0 manifests", "run", "gc", "--dry-run")
	expect(exitDone, "gc: would remove 1 blob (7 B), 0 manifests", "gc", "run", "--dry-run")
	expect(exitDone, "gc: removed 1 blob (7 B), 0 manifests", "run", "gc")
	expect(exitRefused, "there is no job polish; there is gc, retention", "run", "polish")
	expect(exitFailed, "name one job", "run")

	ctx, stop := context.WithCancel(t.Context())
	up := make(chan string, 1)
	go func() {
		code, out := ocisync(ctx, "up")
		up <- fmt.Sprint(code, out)
	}()
	defer func() {
		stop()
		if out := <-up; !strings.HasPrefix(out, "0") {
			t.Error(out)
		}
	}()
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		resp, err := http.Get("http://" + address + "/healthz")
		if err == nil {
			resp.Body.Close()
			break
		}
		if time.Since(start) > 10*time.Second {
			t.Fatal(err)
		}
	}
	garbage("more garbage")
	expect(exitDone, `"blobs": 1`, "run", "gc", "--output", "json")
	expect(exitDone, "gc: nothing to remove", "run", "gc")
	if _, err := os.Stat(filepath.Join(data, "ocisync", "jobs.json")); err != nil {
		t.Error(err)
	}
}

func TestACollectionNamesWhatItLeftAlone(t *testing.T) {
	const left = "  left its repository alone: a/x@sha256:1 cannot be read"
	for _, c := range []providers.Collected{{Unread: []string{"a/x@sha256:1"}}, {Blobs: 1, Unread: []string{"a/x@sha256:1"}}} {
		if text := jobText(providers.JobReport{Job: "gc", Collected: &c}); !strings.Contains(text, "\n"+left) {
			t.Errorf("%+v: %s", c, text)
		}
	}
}
