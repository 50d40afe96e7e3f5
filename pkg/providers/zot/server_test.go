//go:build integration

package zot_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/zot"
	"github.com/ocisync/ocisync/pkg/runtime/enginetest"
)

const root = "../../.." // of the module

// binary is the real Zot.
func binary(t testing.TB) string {
	t.Helper()
	name, _ := enginetest.Zot(t, root)
	return name
}

// later reports whether the real Zot is later than 2.1.6.
func later(t testing.TB) bool {
	t.Helper()
	_, is := enginetest.Zot(t, root)
	return is
}

// before does what whoever starts a Zot does before.
func before(t testing.TB, p *zot.Provider) {
	t.Helper()
	l, err := p.Launch(t.Context())
	if err == nil {
		err = p.BeforeStart(t.Context(), l.Face)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// server is the smallest providers.Process there is: a child of the test.
type server struct {
	binary, address string
	args            func() []string // of the next start
	logName         string

	mu      sync.Mutex
	cmd     *exec.Cmd
	gone    chan struct{}
	exit    error
	started time.Time
	starts  int
}

var _ providers.Process = (*server)(nil)

func newServer(t testing.TB, address string, args func() []string) *server {
	t.Helper()
	s := &server{binary: binary(t), address: address, args: args, logName: filepath.Join(t.TempDir(), "zot.log")}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *server) Status(context.Context) (providers.ProcessStatus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.alive() {
		return providers.ProcessStatus{Detail: fmt.Sprintf("%v", s.exit)}, nil
	}
	return providers.ProcessStatus{Running: true, ID: strconv.Itoa(s.cmd.Process.Pid), Started: s.started}, nil
}

func (s *server) alive() bool {
	if s.cmd == nil {
		return false
	}
	select {
	case <-s.gone:
		return false
	default:
		return true
	}
}

func (s *server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.alive() {
		return nil
	}
	log, err := os.Create(s.logName)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(s.binary, s.args()...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	gone := make(chan struct{})
	s.cmd, s.gone, s.started = cmd, gone, time.Now()
	s.starts++
	go func() {
		s.exit = cmd.Wait() // read once gone is closed; whoever starts it holds the lock
		close(gone)
	}()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		select {
		case <-gone:
			return errors.New("it ended at once: " + s.tail())
		case <-ctx.Done():
			return errors.New("it does not get ready: " + s.tail())
		case <-time.After(5 * time.Millisecond):
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+"/v2/", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			return resp.Body.Close()
		}
	}
}

func (s *server) Stop(context.Context) error {
	s.mu.Lock()
	cmd, gone, alive := s.cmd, s.gone, s.alive()
	s.mu.Unlock()
	if !alive {
		return nil
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-gone:
		return nil
	case <-time.After(10 * time.Second):
		return errors.Join(errors.New("it did not stop"), cmd.Process.Kill())
	}
}

func (s *server) Log(context.Context) (io.ReadCloser, error) { return os.Open(s.logName) }

func (s *server) tail() string {
	b, err := os.ReadFile(s.logName)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	if i := slices.IndexFunc(lines, func(l []byte) bool { return bytes.HasPrefix(l, []byte("Error:")) }); i >= 0 {
		return string(lines[i]) // what follows is how it is called
	}
	return string(bytes.Join(lines[max(0, len(lines)-3):], []byte("\n")))
}

// collected counts the collections of each repository that a log tells of.
func collected(t testing.TB, log io.Reader) map[string]int {
	t.Helper()
	b, err := io.ReadAll(log)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for line := range bytes.Lines(b) {
		var record struct {
			Message string `json:"message"`
		}
		if json.Unmarshal(line, &record) != nil {
			continue
		}
		if path, ok := strings.CutPrefix(record.Message, "gc successfully completed for "); ok {
			_, repository, _ := strings.Cut(path, "/data/storage/")
			out[repository]++
		}
	}
	return out
}
