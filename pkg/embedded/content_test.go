package embedded_test

import (
	"net/http"
	"path/filepath"
	"testing"

	"github.com/ocisync/ocisync/pkg/embedded"
)

// TestMovingContentIsOcisyncsAlone: by the socket it reaches every namespace, and of
// nobody else the header says anything.
func TestMovingContentIsOcisyncsAlone(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	s.change(t, putUser(t, "dev", false), putNamespace("team"))
	ask := func(rt http.RoundTripper, url string, header, login bool) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v2/team/app/blobs/uploads/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if header {
			req.Header.Set(embedded.ContentHeader, "1")
		}
		if login {
			req.SetBasicAuth("dev", "pw-dev")
		}
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for _, tc := range []struct {
		name          string
		rt            http.RoundTripper
		header, login bool
		want          int
	}{
		{"nobody", s.http.Transport, true, false, http.StatusUnauthorized},
		{"an account without rights", s.http.Transport, true, true, http.StatusForbidden},
		{"ocisync itself", s.Transport(), false, false, http.StatusForbidden},
		{"ocisync that moves content", s.Transport(), true, false, http.StatusAccepted},
	} {
		url := "http://" + s.Addr()
		if tc.rt != s.http.Transport {
			url = "http://x"
		}
		if got := ask(tc.rt, url, tc.header, tc.login); got != tc.want {
			t.Errorf("%s: status %d, want %d", tc.name, got, tc.want)
		}
	}
}
