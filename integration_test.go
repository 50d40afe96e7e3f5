//go:build integration

package ocisync_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/porttest"
)

const registryMode = signedState + people + `
[namespace.open]
access = { anonymous = ["pull"], users = { dev = ["pull", "push"] } }
[namespace.closed]
access = { users = { dev = ["pull"] } }
`

// TestIntegrationServedRegistry is the day of a user with the program as it is
// shipped and with crane, a client that shares no code path with ocisync. It
// logs what it ran.
func TestIntegrationServedRegistry(t *testing.T) {
	s := newSite(t, "http://"+porttest.Address(t), registryMode)
	d := newDay(t, s)
	client, ocisync, host, layer := d.client, d.ocisync, d.host, d.layer
	up, log := s.start()
	ocisync(2, "6 to create", "plan", "--detailed-exitcode")
	ocisync(0, "read them back", "apply")
	ocisync(0, "no changes", "plan", "--detailed-exitcode")
	ocisync(1, "held by another process", "up")

	open, closed := host+"/open/app", host+"/closed/app"
	client("dev", true, "sha256:", "append", "-f", layer, "-t", open+":1")
	client("", true, "schemaVersion", "manifest", open+":1")
	client("", false, "UNAUTHORIZED", "append", "-f", layer, "-t", open+":2")
	client("dev", false, "DENIED", "append", "-f", layer, "-t", closed+":1")
	client("root", true, "sha256:", "append", "-f", layer, "-t", closed+":1")
	client("dev", true, "schemaVersion", "manifest", closed+":1")
	client("", false, "UNAUTHORIZED", "manifest", closed+":1")
	client("dev", true, "closed/app\nopen/app\n", "catalog", host)
	client("dev", false, "DENIED", "delete", open+":1")

	// somebody opens what is closed and closes what is open, through the registry's own door
	body := `{"changes":[{"object":{"key":"access/closed","spec":{"anonymous":["pull"],"users":{"dev":["pull"]}}}},` +
		`{"object":{"key":"access/open","spec":{"anonymous":["pull"],"users":{"dev":["pull"]}}}}]}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/ocisync/v1/changes", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.SetBasicAuth("root", "root's long password")
	rt := &http.Transport{DisableKeepAlives: true}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("changing a rule: %s", resp.Status)
	}
	client("", true, "schemaVersion", "manifest", closed+":1")
	client("dev", false, "DENIED", "append", "-f", layer, "-t", open+":2")
	ocisync(2, "drifted", "plan", "--detailed-exitcode")
	ocisync(0, "read it back", "apply")
	client("dev", true, "sha256:", "append", "-f", layer, "-t", open+":2")
	// A right that the file does not speak of is nobody's drift; one that it
	// takes away is.
	s.mode(strings.Replace(registryMode, "access = { users = { dev = [\"pull\"] } }", "access = { anonymous = [], users = { dev = [\"pull\"] } }", 1))
	ocisync(4, "held", "apply")
	_, digest := s.plan()
	ocisync(0, "read it back", "apply", "--approve", digest)
	client("", false, "UNAUTHORIZED", "manifest", closed+":1")

	finish := halfAPush(t, host, "/v2/open/app/blobs/uploads/")
	if err := up.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // it must wait for the push all the while
	finish()
	if err := up.Wait(); err != nil {
		t.Errorf("ocisync up after SIGTERM: %v: %s", err, log)
	}
	t.Log("SIGTERM: the push in flight was finished, then up ended")
	ocisync(0, "no changes", "plan", "--detailed-exitcode")
}

func writeLayer(t *testing.T, path string) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	text := []byte("hello\n")
	err := w.WriteHeader(&tar.Header{Name: "hello.txt", Mode: 0o644, Size: int64(len(text))})
	if err == nil {
		_, err = w.Write(text)
	}
	if err := errors.Join(err, w.Close(), os.WriteFile(path, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// halfAPush begins an upload as dev and sends half of it; finish sends the
// rest and wants it accepted.
func halfAPush(t *testing.T, host, path string) (finish func()) {
	t.Helper()
	start, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+host+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	start.SetBasicAuth("dev", "dev's long password")
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(start)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		t.Fatalf("beginning a push: %s", resp.Status)
	}
	to, err := resp.Location()
	if err != nil {
		t.Fatal(err)
	}
	body, half := io.Pipe()
	patch, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, to.String(), body)
	if err != nil {
		t.Fatal(err)
	}
	patch.ContentLength = 8
	patch.SetBasicAuth("dev", "dev's long password")
	status := make(chan string, 1)
	go func() {
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(patch)
		if err != nil {
			status <- err.Error()
			return
		}
		resp.Body.Close()
		status <- resp.Status
	}()
	if _, err := half.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // until the registry has read it
	return func() {
		t.Helper()
		if c, err := net.DialTimeout("tcp", host, time.Second); err == nil {
			t.Error("after SIGTERM new connections are taken")
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		if _, err := half.Write([]byte("half")); err != nil {
			t.Fatal(err)
		}
		if err := half.Close(); err != nil {
			t.Error(err)
		}
		if got := <-status; !strings.HasPrefix(got, "202") {
			t.Errorf("the push in flight got %s", got)
		}
	}
}
