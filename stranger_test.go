package ocisync_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/porttest"
)

// stranger is a server that is not the mode's registry. It answers who sends
// no login with the headers and status, and keeps what logins it is sent.
func stranger(t *testing.T, status int, challenge string, logins *[]string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if login := q.Header.Get("Authorization"); login != "" {
			*logins = append(*logins, login)
		} else if challenge != "" {
			w.Header().Set("WWW-Authenticate", challenge)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"name":"ocisync","errors":[{"code":"DENIED","message":"no"}]}`)) // who asked reports what does not arrive
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// ours is how the embedded registry challenges.
const ours = `Basic realm="ocisync", charset="UTF-8"`

// Promise 10: what is not the embedded registry of ocisync is sent no login.
func TestAChangedURLIsSentNoLoginUnlessItChallengesAsOursDoes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status    int
		challenge string
	}{
		"takes everything":       {http.StatusOK, ""},
		"wants a login":          {http.StatusUnauthorized, ""},
		"wants it for elsewhere": {http.StatusUnauthorized, `Basic realm="registry"`},
		"wants a token":          {http.StatusUnauthorized, `Bearer realm="https://auth.example.com",service="ocisync"`},
		"challenges and takes":   {http.StatusOK, ours},
	} {
		t.Run(name, func(t *testing.T) {
			var logins []string
			s := newSite(t, stranger(t, tt.status, tt.challenge, &logins), signedState+people+team)
			for _, verb := range []string{"plan", "apply"} {
				if _, bad, code := s.run(verb); code != 1 || !strings.Contains(bad, "is not an embedded registry of ocisync; check registry.url") {
					t.Errorf("%s: exit code %d: %s", verb, code, bad)
				}
			}
			if len(logins) > 0 {
				t.Errorf("it was sent %q", logins)
			}
		})
	}
}

// Promise 10: where the host file names the registries, a login goes to these.
func TestALoginGoesToTheRegistriesOfTheHostFileAlone(t *testing.T) {
	t.Parallel()
	var logins []string
	url := stranger(t, http.StatusUnauthorized, ours, &logins)
	s := newSite(t, url, signedState+people+team)
	s.write("config/ocisync/ocisync.toml", "registries = [\"https://registry.example.com\"]\n")
	for _, verb := range []string{"plan", "apply", "adopt"} {
		_, bad, code := s.run(verb)
		if code != 4 {
			t.Errorf("%s: exit code %d", verb, code)
		}
		for _, want := range []string{url, "registries in " + s.dir + "/config/ocisync/ocisync.toml"} {
			if !strings.Contains(bad, want) {
				t.Errorf("%s does not say %q: %s", verb, want, bad)
			}
		}
	}
	if len(logins) > 0 {
		t.Fatalf("it was sent %q", logins)
	}
	s.write("config/ocisync/ocisync.toml", "registries = [\"https://registry.example.com\", \""+url+"/\"]\n")
	s.run("plan")
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("root:root's long password"))
	if len(logins) == 0 || logins[0] != want {
		t.Errorf("a registry of the host file was sent %q, want %q", logins, want)
	}
}

// Promise 10: the state key is sent nowhere, by whatever name it is called.
func TestTheStateKeyIsNoLogin(t *testing.T) {
	t.Parallel()
	var logins []string
	s := newSite(t, stranger(t, http.StatusUnauthorized, ours, &logins), signedState+people+team)
	s.env = append(s.env, "OCISYNC_COPY=ocisync-state-key:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	for name, tt := range map[string]struct {
		variable, says string
		code           int
	}{
		"its reference": {"OCISYNC_STATE_KEY", "registry.login.password: this is the state key", 3},
		"a copy of it":  {"OCISYNC_COPY", "secret (env OCISYNC_COPY) is a state key", 1},
	} {
		t.Run(name, func(t *testing.T) {
			s.mode(signedState + people + team)
			s.write("modes/m/m.toml", strings.Replace(s.text(), `{ env = "OCISYNC_PASSWORD" } }`, `{ env = "`+tt.variable+`" } }`, 1))
			for _, verb := range []string{"plan", "apply"} {
				if _, bad, code := s.run(verb); code != tt.code || !strings.Contains(bad, tt.says) {
					t.Errorf("%s: exit code %d: %s", verb, code, bad)
				}
			}
		})
	}
	if len(logins) > 0 {
		t.Errorf("sent %q", logins)
	}
}

// Nothing resolves a secret that it does not need: nobody answers, so nobody
// wants the login.
func TestANewRegistryNeedsNoLogin(t *testing.T) {
	t.Parallel()
	s := newSite(t, "http://"+porttest.Address(t), team)
	s.write("modes/m/m.toml", strings.Replace(s.text(), "OCISYNC_PASSWORD", "OCISYNC_UNSET", 1))
	s.must(0, "plan")
	s.must(0, "apply")
}
