package harbor_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/schema"
)

// asker sends requests below /v2/ by a provider's transport.
type asker struct {
	http.RoundTripper
	h standIn
}

func (h standIn) asker(t *testing.T) asker {
	t.Helper()
	rt, release, err := h.open(t).Transport(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return asker{rt, h}
}

func (a asker) want(t *testing.T, method, path string, status int) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, a.h.registry.URL+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := a.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != status || resp.Header.Get("Www-Authenticate") != "" {
		t.Errorf("%s %s: %s, asking for %q; want %d", method, path, resp.Status, resp.Header.Get("Www-Authenticate"), status)
	}
}

// To check a user's password costs Harbor half a second: below /v2/ it is never sent,
// but a token for each repository is, which a session gets.
func TestAUsersPasswordIsNotSentWithContent(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	apply(t, h.open(t), "namespace/a", "namespace/blobs", `robot/ci {"access":{"a":["pull","push"],"blobs":["pull","push"]},"secret":{"value":`+secretA+`}}`)
	ask := func(t *testing.T) (tokens []string) {
		t.Helper()
		a := h.asker(t)
		h.Forget()
		for range 3 {
			a.want(t, "GET", "/v2/a/x/tags/list", http.StatusNotFound)
			a.want(t, "HEAD", "/v2/a/x/manifests/v1", http.StatusNotFound)
			a.want(t, "POST", "/v2/a/x/blobs/uploads/", http.StatusAccepted)
			a.want(t, "POST", "/v2/blobs/blobs/uploads/blobs/uploads/", http.StatusAccepted)
		}
		for _, r := range h.Requests() {
			switch {
			case r.Login == "password":
				t.Errorf("%s %s has the password", r.Method, r.Path)
			case strings.HasPrefix(r.Path, "/service/token"):
				tokens = append(tokens, r.Path)
			}
		}
		return tokens
	}
	t.Run("user", func(t *testing.T) {
		tokens := ask(t)
		if len(tokens) != 2 || !strings.Contains(tokens[0], "repository%3Aa%2Fx%3Apull%2Cpush%2Cdelete") || !strings.Contains(tokens[1], "repository%3Ablobs%2Fblobs%2Fuploads%3A") {
			t.Errorf("it asked for %q", tokens)
		}
	})
	t.Run("robot", func(t *testing.T) { // whose secret costs nothing to check
		name := "ci"
		h.registry.Login = &schema.Login{Robot: &name, Password: h.registry.Login.Password}
		if tokens := ask(t); len(tokens) != 0 {
			t.Errorf("it asked for %q", tokens)
		}
	})
}

// What a token allows is of the moment when it was given.
func TestRightsThatComeLaterAreTaken(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	a := h.asker(t)
	a.want(t, "GET", "/v2/later/x/tags/list", http.StatusUnauthorized)
	apply(t, h.open(t), "namespace/later")
	a.want(t, "GET", "/v2/later/x/tags/list", http.StatusNotFound)
	h.Forget()
	for range 3 {
		a.want(t, "GET", "/v2/away/x/tags/list", http.StatusUnauthorized)
	}
	asked := slices.DeleteFunc(h.Requests(), func(r harbortest.Request) bool { return !strings.HasPrefix(r.Path, "/service/token") })
	if len(asked) != 3 {
		t.Errorf("of what stays refused it asked %d times for a token", len(asked))
	}
}

// Harbor's own catalogue is for administrators, and takes no token.
func TestTheCatalogueIsOfWhatTheLoginSees(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	apply(t, h.open(t), "namespace/a", "namespace/b", `robot/ci {"access":{"a":["pull"]},"secret":{"value":`+secretA+`}}`)
	for _, name := range []string{"b/y", "a/x", "a/w"} {
		if err := h.Push(harbortest.Image{Repository: name, Tags: []string{"v1"}, Size: 1}); err != nil {
			t.Fatal(err)
		}
	}
	list := func(want string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.registry.URL+"/v2/_catalog?n=1000", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := h.asker(t).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || string(body) != want {
			t.Errorf("%s: %s, %v; want %s", resp.Status, body, err, want)
		}
	}
	list(`{"repositories":["a/w","a/x","b/y"]}`)
	name := "ci"
	h.registry.Login = &schema.Login{Robot: &name, Password: h.registry.Login.Password}
	list(`{"repositories":["a/w","a/x"]}`)
}
