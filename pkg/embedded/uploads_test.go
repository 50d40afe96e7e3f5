package embedded_test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
)

// sendPart sends a part of an upload as dev and returns status and location.
func (s *served) sendPart(t *testing.T, method, path string, body []byte, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr()+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("dev", "pw-dev")
	req.Header.Set("Content-Type", "application/octet-stream")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// begin starts an upload with a first part, and returns where it goes on.
func (s *served) begin(t *testing.T, repository string, part []byte) string {
	t.Helper()
	resp, text := s.sendPart(t, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", nil)
	if resp.StatusCode != http.StatusAccepted {
		t.Fatal(resp.Status, text)
	}
	if resp, text = s.sendPart(t, http.MethodPatch, resp.Header.Get("Location"), part); resp.StatusCode != http.StatusAccepted {
		t.Fatal(resp.Status, text)
	}
	return resp.Header.Get("Location")
}

func TestAnUploadGoesOnAfterARestart(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	blob := bytes.Repeat([]byte("part "), 1000)
	var at string
	t.Run("before", func(t *testing.T) {
		at = quota(t, data, 1<<20).begin(t, "free/app", blob[:2000])
	})
	t.Run("between", func(t *testing.T) {
		s := serve(t, data)
		resp, text := s.sendPart(t, http.MethodPatch, at, blob[2000:3000], "Content-Range", "2000-2999")
		if resp.StatusCode != http.StatusAccepted {
			t.Fatal(resp.Status, text)
		}
		at = resp.Header.Get("Location")
	})
	s := serve(t, data)
	d := digest.FromBytes(blob).String()
	if resp, text := s.sendPart(t, http.MethodPut, at+"&digest="+d, blob[3000:]); resp.StatusCode != http.StatusCreated {
		t.Fatal(resp.Status, text)
	}
	if got := s.asDev(t, "GET", "/v2/free/app/blobs/"+d); got != http.StatusOK {
		t.Errorf("status %d", got)
	}
	info, err := os.Stat(filepath.Join(data, "ocisync", "uploads.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v, %v", info, err)
	}
}
