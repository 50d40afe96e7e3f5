package secret

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocisync/ocisync/schema"
)

// TestACommandEndsWithWhoStartedIt: one that closes what it has open, as ssh does, keeps
// no turn, and would put an older secret in the place of a newer one.
func TestACommandEndsWithWhoStartedIt(t *testing.T) {
	const dirVariable = "OCISYNC_TEST_COMMAND_DIR"
	if dir := os.Getenv(dirVariable); dir != "" {
		r := deliverer(dir, schema.HostCommand{Name: "put", Run: []string{"/bin/sh", "-c", `exec 3>&-; echo $$ > "$0.new"; mv "$0.new" "$0"; sleep 60`, filepath.Join(dir, "pid")}})
		t.Fatal(r.Deliver(t.Context(), schema.Delivery{Command: "put"}, "robot$ci", "x", "registry.example.com"))
	}
	dir := t.TempDir()
	started := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	started.Env = append(os.Environ(), dirVariable+"="+dir)
	if err := started.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	await := func(what string, is func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	await("the command does not start", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "pid"))
		if err == nil {
			pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		}
		return err == nil
	})
	if err := started.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = started.Wait() // it was killed
	await("the command goes on", func() bool {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		return syscall.Kill(pid, 0) != nil || err == nil && strings.Contains(string(text), ") Z ")
	})
}
