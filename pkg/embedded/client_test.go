package embedded_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/embedded"
)

func TestTheLoginGoesToTheRegistryAlone(t *testing.T) {
	var seen, leaked []string
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		leaked = append(leaked, q.URL.Path+" "+q.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		seen = append(seen, q.Header.Get("Authorization"))
		if len(seen) < 4 {
			http.Redirect(w, q, elsewhere.URL+q.URL.Path, http.StatusTemporaryRedirect)
		}
	}))
	defer front.Close()
	base, err := url.Parse(front.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HTTP_PROXY", elsewhere.URL)
	c := embedded.DialURL(base, nil, "root", "password")
	defer c.Close()
	if _, err := c.Info(t.Context()); err == nil {
		t.Error("a redirect passes for a registry")
	}
	client := http.Client{Transport: c.Transport()}
	resp, err := client.Get("http://any.example.com/v2/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if len(leaked) > 0 {
		t.Errorf("another host saw %q", leaked)
	}
	if len(seen) < 2 || strings.Contains(strings.Join(seen, ""), "Bearer") || seen[0] == "" {
		t.Errorf("the registry saw the logins %q", seen)
	}
}

func TestStateIsReplacedAtOnceOrNotAtAll(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	s.change(t, putNamespace("a"))
	path := filepath.Join(s.data, "ocisync", "state.json")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Whoever has the old file open, or is killed half-way, has all of it.
	old := filepath.Join(t.TempDir(), "old")
	if err := os.Link(path, old); err != nil {
		t.Fatal(err)
	}
	s.change(t, putNamespace("b"))
	if b, err := os.ReadFile(old); err != nil || string(b) != string(before) {
		t.Errorf("the old file was written into: %s, %v", b, err)
	}
}
