// Package s3test runs a real S3 server for tests: versitygw, built from its
// module as tools/s3.mod pins it, which keeps objects as files.
//
// Begin with [Start].
package s3test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocisync/ocisync/schema"
)

// Access and Secret are the server's one account.
const (
	Access = "ocisync-test"
	Secret = "the long secret of the S3 test"
)

// Server is a running server, until its test ends.
type Server struct {
	// URL is where it answers.
	URL     string
	program string
	address string
	dir     string
	stop    func()
}

// Start builds the server, for which root is the way to the module's root, and
// starts it on a free port of this host.
func Start(t testing.TB, root string) *Server {
	t.Helper()
	program := filepath.Join(t.TempDir(), "versitygw")
	build := exec.CommandContext(t.Context(), "go", "build", "-modfile=tools/s3.mod", "-ldflags=-s -w", "-o", program, "github.com/versity/versitygw/cmd/versitygw")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building versitygw: %v: %s", err, out)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{program: program, address: l.Addr().String(), URL: "http://" + l.Addr().String(), dir: t.TempDir()}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s.Run(t)
	t.Cleanup(func() { s.Stop() })
	return s
}

// Run starts the server again after Stop, at the same address, with what it
// keeps.
func (s *Server) Run(t testing.TB) {
	t.Helper()
	var out strings.Builder
	cmd := exec.Command(s.program, "--quiet", "--port", s.address, "posix", s.dir) //nolint:noctx // it is stopped by Stop
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+Access, "ROOT_SECRET_KEY="+Secret)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var ended error
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended = cmd.Wait()
	}()
	s.stop = func() {
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			cmd.Process.Kill() //nolint:errcheck // as above
			<-done
		}
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		select {
		case <-done:
			t.Fatalf("versitygw ended: %v: %s", ended, out.String())
		default:
		}
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.address)
		if err == nil {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("versitygw does not answer: %v", err)
		}
	}
}

// Stop ends the server.
func (s *Server) Stop() {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

// Bucket makes a bucket and says how to reach it. The secret is found by the
// reference { env = "OCISYNC_S3_SECRET" }.
func (s *Server) Bucket(t testing.TB, name string) *schema.Storage {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(s.dir, name), 0o700); err != nil {
		t.Fatal(err)
	}
	access, path := Access, true
	return &schema.Storage{S3: &schema.S3Storage{
		Region: "us-east-1", Bucket: name, RegionEndpoint: &s.URL, ForcePathStyle: &path,
		AccessKey: &access, SecretKey: &schema.SecretRef{Env: "OCISYNC_S3_SECRET"},
	}}
}
