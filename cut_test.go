package ocisync_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	registry "github.com/ocisync/ocisync/pkg/embedded"

	"github.com/ocisync/ocisync/pkg/porttest"
)

// Whoever reads the result may die first, as tee does of Ctrl-C: the run goes
// to its end and says on standard error how it went.
func TestAReaderThatGoesAwayEndsNoRunInTheMiddle(t *testing.T) {
	t.Parallel()
	s := newSite(t, "http://"+porttest.Address(t), strings.Replace(people, `{ env = "OCISYNC_DEV_PASSWORD" }`, `{ command = "slow" }`, 1)+team)
	s.write("config/ocisync/ocisync.toml", fmt.Sprintf("[command.slow]\nrun = [\"/bin/sh\", \"-c\", \"touch %[1]s/asked; while [ ! -e %[1]s/go ]; do sleep 0.02; done; echo secret\"]\n", s.dir))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var bad bytes.Buffer
	cmd := s.command(t.Context(), "apply", "--yes")
	cmd.Stdout, cmd.Stderr = w, &bad
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	if line, err := bufio.NewReader(r).ReadString('\n'); err != nil { // it began
		t.Error(line, err)
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(s.dir, "asked")); err == nil {
			break
		}
	}
	_ = r.Close()
	s.write("go", "")
	_ = cmd.Wait() // the exit code tells
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d (%s)", code, cmd.ProcessState)
	}
	if want := "changes and read them back, but the result could not be written"; !strings.Contains(bad.String(), want) {
		t.Errorf("standard error does not say %q: %s", want, &bad)
	}
	s.must(0, "plan", "--detailed-exitcode")
}

// Ctrl-C while the registry is read again says what was done by then.
func TestAnInterruptOfTheFinalReadSaysWhatWasDone(t *testing.T) {
	t.Parallel()
	s := newSite(t, "http://"+porttest.Address(t), people+team)
	s.must(0, "apply")
	served(t, registry.Options{Data: s.data})
	rec := recordSocket(t, s)
	next, changed, reading := rec.next, false, make(chan struct{})
	rec.next = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch {
		case strings.HasSuffix(q.URL.Path, "/changes"):
			changed = true
		case changed && strings.HasSuffix(q.URL.Path, "/state"):
			changed = false
			close(reading)
			<-q.Context().Done()
			return
		}
		next.ServeHTTP(w, q)
	})
	s.mode(people + strings.Replace(team, "first", "second", 1))
	var bad bytes.Buffer
	cmd := s.command(t.Context(), "apply", "--yes")
	cmd.Stderr = &bad
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-reading
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // the exit code tells
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit code %d", code)
	}
	if want := "interrupted: 1 change made, and not read back"; !strings.Contains(bad.String(), want) {
		t.Errorf("standard error does not say %q: %s", want, &bad)
	}
}
