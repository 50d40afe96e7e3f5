package embedded_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// pushManifest puts a manifest whose blobs are there and returns the status.
func pushManifest(t *testing.T, s *served, user, path string, im v1.Image) int {
	t.Helper()
	raw, err := im.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	media, err := im.MediaType()
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+s.Addr()+path, bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", string(media))
	if user != "" {
		req.SetBasicAuth(user, "pw-"+user)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// ociCode is the code of the first error of an answer.
func ociCode(t *testing.T, resp *http.Response) string {
	t.Helper()
	var body struct {
		Errors []struct {
			Code string `json:"code"`
		} `json:"errors"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil || len(body.Errors) == 0 {
		t.Fatalf("no OCI error: %v", err)
	}
	return body.Errors[0].Code
}
