//go:build integration

package ocisync_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// day is what a user does at a site in a day: with the program as it is shipped,
// and with crane, a client that shares no code path with it. It logs what it ran.
type day struct {
	*site
	t           *testing.T
	crane, host string
	layer       string // a file to push
}

func newDay(t *testing.T, s *site) *day {
	t.Helper()
	d := &day{site: s, t: t, crane: filepath.Join(scratch, "crane"), host: strings.TrimPrefix(s.url, "http://"), layer: filepath.Join(s.dir, "layer.tar")}
	if out, err := exec.Command("go", "build", "-modfile=tools/crane.mod", "-o", d.crane, "github.com/google/go-containerregistry/cmd/crane").CombinedOutput(); err != nil {
		t.Fatalf("go build crane: %v: %s", err, out)
	}
	writeLayer(t, d.layer)
	return d
}

// client runs crane as a user, "" for nobody.
func (d *day) client(user string, works bool, words string, args ...string) {
	d.t.Helper()
	env := append([]string{"DOCKER_CONFIG=" + filepath.Join(d.dir, "docker-"+user)}, d.env...)
	if user != "" {
		login := exec.CommandContext(d.t.Context(), d.crane, "auth", "login", d.host, "-u", user, "-p", user+"'s long password")
		login.Env = env
		if out, err := login.CombinedOutput(); err != nil {
			d.t.Fatalf("crane auth login as %s: %v: %s", user, err, out)
		}
	}
	cmd := exec.CommandContext(d.t.Context(), d.crane, append([]string{"--insecure"}, args...)...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	d.t.Logf("as %q: crane %s: %v", user, strings.Join(args, " "), err)
	if (err == nil) != works || !strings.Contains(string(out), words) {
		d.t.Errorf("as %q: crane %s: error %v, want success %v and %q: %s", user, strings.Join(args, " "), err, works, words, out)
	}
}

// ocisync runs the program, which exits with a code and says the words.
func (d *day) ocisync(code int, words string, args ...string) {
	d.t.Helper()
	out, errs, got := d.run(args...)
	d.t.Logf("ocisync %s: exit code %d", strings.Join(args, " "), got)
	if got != code || !strings.Contains(out+errs, words) {
		d.t.Errorf("ocisync %s: exit code %d, want %d and %q:\n%s%s", strings.Join(args, " "), got, code, words, out, errs)
	}
}

// ends stops what runs the registry, whose log then holds no password.
func (d *day) ends(up *exec.Cmd, log *bytes.Buffer) {
	d.t.Helper()
	if err := up.Process.Signal(syscall.SIGTERM); err != nil {
		d.t.Fatal(err)
	}
	if err := up.Wait(); err != nil {
		d.t.Errorf("ocisync up after SIGTERM: %v: %s", err, log)
	}
	if strings.Contains(log.String(), "long password") {
		d.t.Error("the log holds a password")
	}
}
