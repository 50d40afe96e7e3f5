package embedded

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/token"
	"github.com/ocisync/ocisync/schema"
)

func TestTokensAreGivenWhereTheClientReachesTheRegistry(t *testing.T) {
	for name, tt := range map[string]struct {
		url, host string
		tls       bool
		want      string
	}{
		"by its URL":                     {"http://localhost:5000", "localhost:5000", false, "http://localhost:5000"},
		"by another name":                {"http://localhost:5000", "registry:5000", false, "http://registry:5000"},
		"by TLS":                         {"https://registry.example.com", "registry.example.com", true, "https://registry.example.com"},
		"by TLS and another name":        {"https://registry.example.com", "10.0.0.1:5000", true, "https://10.0.0.1:5000"},
		"by a proxy that keeps names":    {"https://registry.example.com", "registry.example.com", false, "https://registry.example.com"},
		"by a proxy that does not":       {"https://registry.example.com/", "127.0.0.1:5000", false, "https://registry.example.com"},
		"by TLS, and the URL has it not": {"http://registry.example.com", "registry.example.com", true, "https://registry.example.com"},
		"by a proxy that says so":        {"http://localhost:5000", "registry.example.com", false, "https://registry.example.com"},
		"without a name":                 {"http://localhost:5000", "", false, "http://localhost:5000"},
	} {
		r, err := Open(t.Context(), Options{Data: filepath.Join(t.TempDir(), "data"), URL: tt.url})
		if err != nil {
			t.Fatal(err)
		}
		q := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/", nil)
		q.Host = tt.host
		if strings.Contains(name, "says so") {
			q.Header.Set("X-Forwarded-Proto", "https")
		}
		if tt.tls {
			q.TLS = &tls.ConnectionState{}
		}
		w := httptest.NewRecorder()
		r.Handler().ServeHTTP(w, q)
		_, host, _ := strings.Cut(tt.want, "://")
		if got, want := w.Header().Get("WWW-Authenticate"), `Bearer realm="`+tt.want+`/token",service="`+host+`"`; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A token is good as long as the secret is that it was given for.
func TestARobotsTokenEndsWithItsSecret(t *testing.T) {
	ci := schema.Key{Kind: schema.KindRobot, Name: "ci"}
	account := func(secret string, delivered bool, overlap schema.Duration) *AccountChange {
		return &AccountChange{Login: "robot$ci", Hash: secret, Digest: SecretDigest(secret), Delivered: delivered, Overlap: overlap}
	}
	r, _ := hooked(t, filepath.Join(t.TempDir(), "data"), robotChange(t, ci, schema.Robot{}, account("first", true, 0)))
	change := func(c *AccountChange) {
		t.Helper()
		res, err := r.store.change(t.Context(), []Change{robotChange(t, ci, schema.Robot{}, c)})
		if err != nil || res[0].Err != nil {
			t.Fatal(err, res)
		}
	}
	given := func(secret string) string {
		t.Helper()
		_, proof, err := issuer{r}.Login(httptest.NewRequestWithContext(t.Context(), http.MethodGet, token.Path, nil), "robot$ci", secret)
		if err != nil {
			t.Fatal(err)
		}
		return string(proof)
	}
	good := func(when, proof string, want bool) {
		t.Helper()
		_, proofs := issuer{r}.Find("robot$ci")
		got := false
		for _, p := range proofs {
			got = got || string(p) == proof
		}
		if got != want {
			t.Errorf("%s: good is %v, want %v", when, got, want)
		}
	}
	first := given("first")
	change(account("second", false, 0)) // the first may still be in use
	good("another is made", first, true)
	again, second := given("first"), given("second")
	good("another is made", again, true)
	good("another is made", second, true)
	change(&AccountChange{Login: "robot$ci", Delivered: true})
	good("the other has arrived", first, false)
	good("the other has arrived", again, false)
	good("the other has arrived", second, true)
	change(account("third", true, 0))
	good("a third has arrived", second, false)
}
