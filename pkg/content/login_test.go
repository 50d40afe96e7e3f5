package content

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/ocisync/ocisync/pkg/providers/oci"
	"github.com/ocisync/ocisync/schema"
)

// TestTokensAreAskedForBeforeAPasswordIsSent where a registry would take a password with
// each request too, which may cost it much, as long as the account may go where tokens
// are given.
func TestTokensAreAskedForBeforeAPasswordIsSent(t *testing.T) {
	rt, err := oci.Transport(schema.TLS{})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		realm      string // "" is the registry's own host
		open, user bool
		want       string
	}{
		"with tokens":         {user: true, want: "GET /v2/ nobody, GET /token Basic, GET /v2/a/b/tags/list Bearer, GET /v2/a/b/tags/list Bearer"},
		"with tokens abroad":  {user: true, realm: "http://192.0.2.1/token", want: "GET /v2/ nobody, GET /v2/a/b/tags/list Basic, GET /v2/a/b/tags/list Basic"},
		"open to anybody":     {user: true, open: true, want: "GET /v2/ nobody, GET /v2/a/b/tags/list Basic, GET /v2/a/b/tags/list Basic"},
		"without a login":     {want: "GET /v2/a/b/tags/list nobody, GET /token nobody, GET /v2/a/b/tags/list Bearer, GET /v2/a/b/tags/list Bearer"},
		"without, and opened": {open: true, want: "GET /v2/a/b/tags/list nobody, GET /v2/a/b/tags/list nobody"},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var seen []string
			var server *httptest.Server
			server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				how, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
				if how == "" {
					how = "nobody"
				}
				mu.Lock()
				seen = append(seen, r.Method+" "+r.URL.Path+" "+how)
				mu.Unlock()
				realm := c.realm
				if realm == "" {
					realm = server.URL + "/token"
				}
				switch {
				case r.URL.Path == "/v2/_catalog" && how != "Basic":
					w.Header().Set("Www-Authenticate", `Basic realm="harbor"`)
					w.WriteHeader(http.StatusUnauthorized)
				case r.URL.Path == "/v2/_catalog":
					_, _ = fmt.Fprint(w, `{"repositories":["a/b"]}`)
				case r.URL.Path == "/token":
					_, _ = fmt.Fprint(w, `{"token":"t","expires_in":300}`)
				case how == "nobody" && !c.open:
					w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="s"`, realm))
					w.WriteHeader(http.StatusUnauthorized)
				case r.URL.Path == "/v2/":
					_, _ = fmt.Fprint(w, `{}`)
				default:
					_, _ = fmt.Fprint(w, `{"name":"a/b","tags":["v1"]}`)
				}
			}))
			defer server.Close()
			e := Endpoint{URL: server.URL, Transport: rt}
			if c.user {
				e.Auth = &authn.Basic{Username: "u", Password: "p"}
			}
			r, err := Open(e)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if tags, _, err := r.Tags(t.Context(), "a/b"); err != nil || len(tags) != 1 {
					t.Errorf("%q, %v", tags, err)
				}
			}
			if got := strings.Join(seen, ", "); got != c.want {
				t.Errorf("it asked\n%s\nwant\n%s", got, c.want)
			}
			// what Harbor shows no token it shows who sends the password
			if list, err := r.Repositories(t.Context()); c.user && (err != nil || len(list) != 1) {
				t.Errorf("the catalogue: %q, %v", list, err)
			}
		})
	}
}

// A token service of another host is asked where the operator named it, whatever address
// it has, and else told how he names it; nothing is sent to it.
func TestATokenServiceOfAnotherHostIsAskedWhereItIsNamed(t *testing.T) {
	rt, err := oci.Transport(schema.TLS{})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.CloseIdleConnections()
	var logins []string
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, _ := r.BasicAuth()
		logins = append(logins, user)
		_, _ = fmt.Fprint(w, `{"token":"t","expires_in":300}`)
	}))
	defer service.Close()
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t" {
			w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="%s/token?secret=x",service="s"`, service.URL))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = fmt.Fprint(w, `{"name":"a/b","tags":["v1"]}`)
	}))
	defer registry.Close()
	ask := func(auth authn.Authenticator, realms ...string) error {
		r, err := Open(Endpoint{URL: registry.URL, Transport: rt, Auth: auth, Realms: realms, RealmHint: "name it: --realm {realm}"})
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = r.Tags(t.Context(), "a/b")
		return err
	}
	if err := ask(&authn.Basic{Username: "u", Password: "p"}, service.URL); err != nil || len(logins) != 1 || logins[0] != "u" {
		t.Errorf("named: %q, %v", logins, err)
	}
	if err := ask(nil, service.URL+"/token"); err != nil || len(logins) != 2 || logins[1] != "" {
		t.Errorf("named, without a login: %q, %v", logins, err)
	}
	for _, realms := range [][]string{nil, {"http://127.0.0.1:1"}, {"https://" + strings.TrimPrefix(service.URL, "http://") + "0"}} {
		err := ask(nil, realms...)
		if err == nil || !strings.HasSuffix(err.Error(), "name it: --realm "+service.URL+"/token") || len(logins) != 2 {
			t.Errorf("not named, with %q: %q, %v", realms, logins, err)
		}
	}
}
