//go:build integration

package ocisync_test

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestIntegrationDistributionDay is the day of a user whose registry is a real
// Distribution that ocisync runs, with crane: it logs what it ran.
func TestIntegrationDistributionDay(t *testing.T) {
	binary, err := filepath.Abs("bin/servers/distribution")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("%v; make servers builds it", err)
	}
	s := newSite(t, unusedURL(t), "")
	tokens, err := url.Parse(unusedURL(t))
	if err != nil {
		t.Fatal(err)
	}
	mode := func(level, schedule string) {
		s.write("modes/m/m.toml", fmt.Sprintf(`version = 1
[registry]
type  = "distribution"
url   = %q
token = { url = "http://localhost:%s", listen = %q }
[registry.run]
driver = "process"
binary = %q
data   = "../../data"
[registry.distribution]
log.level = %q
[namespace.open]
access    = { anonymous = ["pull"], users = { dev = ["pull", "push"] } }
retention = { keep = [{ newest = 2 }] }
[gc]
untagged = true
%s
`, s.url, tokens.Port(), tokens.Host, binary, level, schedule)+signedState+people)
	}
	mode("info", "")
	crane := filepath.Join(scratch, "crane")
	if out, err := exec.Command("go", "build", "-modfile=tools/crane.mod", "-trimpath", "-o", crane, "github.com/google/go-containerregistry/cmd/crane").CombinedOutput(); err != nil {
		t.Fatalf("go build crane: %v: %s", err, out)
	}
	host := strings.TrimPrefix(s.url, "http://")
	client := func(user string, works bool, words string, args ...string) {
		t.Helper()
		env := append([]string{"DOCKER_CONFIG=" + filepath.Join(s.dir, "docker-"+user)}, s.env...)
		if user != "" {
			login := exec.CommandContext(t.Context(), crane, "auth", "login", host, "-u", user, "-p", user+"'s long password")
			login.Env = env
			if out, err := login.CombinedOutput(); err != nil {
				t.Fatalf("crane auth login as %s: %v: %s", user, err, out)
			}
		}
		cmd := exec.CommandContext(t.Context(), crane, append([]string{"--insecure"}, args...)...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		t.Logf("as %q: crane %s: %v", user, strings.Join(args, " "), err)
		if (err == nil) != works || !strings.Contains(string(out), words) {
			t.Errorf("as %q: crane %s: error %v, want success %v and %q: %s", user, strings.Join(args, " "), err, works, words, out)
		}
	}
	ocisync := func(code int, words string, args ...string) {
		t.Helper()
		out, errs, got := s.run(args...)
		t.Logf("ocisync %s: exit code %d", strings.Join(args, " "), got)
		if got != code || !strings.Contains(out+errs, words) {
			t.Errorf("ocisync %s: exit code %d, want %d and %q:\n%s%s", strings.Join(args, " "), got, code, words, out, errs)
		}
	}
	layer := filepath.Join(s.dir, "layer.tar")
	writeLayer(t, layer)
	up, log := s.start()
	ocisync(2, "needs restart", "plan", "--detailed-exitcode")
	ocisync(0, "read them back", "apply")
	ocisync(0, "no changes", "plan", "--detailed-exitcode")
	client("", false, "UNAUTHORIZED", "append", "-f", layer, "-t", host+"/open/app:0")
	for tag := range 3 {
		client("dev", true, "sha256:", "append", "-f", layer, "-t", fmt.Sprintf("%s/open/app:%d", host, tag))
	}
	client("dev", false, "401", "append", "-f", layer, "-t", host+"/elsewhere/app:1")
	client("", true, "schemaVersion", "manifest", host+"/open/app:2")
	ocisync(0, "removed 1, kept 2", "run", "retention")
	ocisync(0, "gc: nothing to remove", "run", "gc") // the same image has two tags more
	client("", true, "schemaVersion", "manifest", host+"/open/app:2")
	ocisync(0, "another key signs", "auth", "rotate")
	ocisync(1, "restart it", "auth", "rotate")
	client("dev", true, "sha256:", "append", "-f", layer, "-t", host+"/open/app:3")
	mode("debug", "")
	ocisync(0, "read it back", "apply")
	ocisync(0, "another key signs", "auth", "rotate")
	ocisync(0, "no changes", "plan", "--detailed-exitcode")
	mode("debug", `schedule = "@every 2s"`) // of which each is two restarts
	ocisync(0, "read it back", "apply")
	for deadline := time.Now().Add(time.Minute); !strings.Contains(log.String(), "job done\" job=gc"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no collection by time: %s", log)
		}
	}
	mode("debug", `schedule = "none"`)
	ocisync(0, "read it back", "apply")
	ocisync(0, "gc: nothing to remove", "run", "gc") // once one that runs has ended
	ocisync(0, "no changes", "plan", "--detailed-exitcode")
	client("dev", true, "sha256:", "append", "-f", layer, "-t", host+"/open/app:4")
	mode("loud", "")
	ocisync(4, "one of error, warn, info, debug", "apply")
	client("dev", true, "schemaVersion", "manifest", host+"/open/app:3")
	if err := up.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := up.Wait(); err != nil {
		t.Errorf("ocisync up after SIGTERM: %v: %s", err, log)
	}
	if strings.Contains(log.String(), "long password") {
		t.Error("the log holds a password")
	}
}
