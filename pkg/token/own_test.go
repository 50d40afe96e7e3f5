package token_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/token"
)

// newOwn is a service of a registry's own tokens.
func newOwn(t *testing.T) (*site, *token.Own) {
	t.Helper()
	s := newSite(t)
	own := token.NewOwn([]byte("a key of this registry"), s.clock.now)
	s.Service = token.New(token.Options{Own: own, Accounts: s.accounts})
	return s, own
}

func TestOwnTokensSayWhoAsksWhileTheyAreGood(t *testing.T) {
	s, own := newOwn(t)
	find := func(account string) [][]byte {
		_, proofs := s.accounts.Find(account)
		return proofs
	}
	_, a, _ := s.get(t, "dev", "offline_token=true&scope=repository:team/app:pull,delete")
	_, nobody, _ := s.get(t, "", "offline_token=true")
	code, posted, _ := s.post(t, url.Values{"grant_type": {"password"}, "service": {"any"}, "access_type": {"offline"},
		"username": {"dev"}, "password": {"dev-pw"}, "scope": {"repository:team/app:pull,delete"}})
	if code != http.StatusOK || posted.Scope != "repository:team/app:pull" || a.ExpiresIn != 300 || a.RefreshToken+nobody.RefreshToken+posted.RefreshToken != "" {
		t.Fatalf("%d %+v %+v", code, posted, a)
	}
	good := func(when, text, want string, good bool) {
		t.Helper()
		if account, ok := own.Whose(text, find); ok != good || account != want {
			t.Errorf("%s: %q of %q is taken: %v", when, text, account, ok)
		}
	}
	good("at once", a.Token, "dev", true)
	good("at once", posted.AccessToken, "dev", true)
	good("at once", nobody.Token, "", true)
	s.clock.pass(time.Microsecond)
	if _, other, _ := s.get(t, "dev", "offline_token=true"); other.Token == a.Token {
		t.Error("two clients have one token")
	}
	s.clock.pass(-time.Microsecond)
	if code, _, _ := s.post(t, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {a.Token}}); code != http.StatusUnauthorized {
		t.Errorf("a token gives another: %d", code)
	}

	s.accounts.proofs["dev"] = "2"
	good("with another password", a.Token, "", false)
	delete(s.accounts.proofs, "dev")
	good("with no account", a.Token, "", false)
	s.accounts.proofs["dev"] = "1"
	s.clock.pass(token.Life + token.Leeway)
	good("at its end", a.Token, "dev", true)
	s.clock.pass(time.Second)
	good("after its end", a.Token, "", false)
	good("after its end", nobody.Token, "", false)
	s.clock.pass(-2 * token.Life)
	good("before it was made", a.Token, "", false)
}

func TestOwnTokensOfOthersAreNone(t *testing.T) {
	s, own := newOwn(t)
	_, a, _ := s.get(t, "dev", "")
	_, nobody, _ := s.get(t, "", "")
	_, signed, _ := newSite(t).get(t, "dev", "offline_token=true")
	prefix, body, _ := strings.Cut(a.Token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{"", prefix, prefix + ".", a.Token + "A", a.Token[:len(a.Token)-1], body, signed.Token, signed.RefreshToken,
		strings.Replace(signed.RefreshToken, "ocisync1.", prefix+".", 1), "eyJhbGciOiJub25lIn0." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"dev"}`)) + "."}
	for i := range raw { // another time, account or signature
		b := []byte(string(raw))
		b[i] ^= 1
		texts = append(texts, prefix+"."+base64.RawURLEncoding.EncodeToString(b))
	}
	// a token of nobody in which an account is written
	raw, err = base64.RawURLEncoding.DecodeString(strings.TrimPrefix(nobody.Token, prefix+"."))
	if err != nil {
		t.Fatal(err)
	}
	texts = append(texts, prefix+"."+base64.RawURLEncoding.EncodeToString([]byte(string(raw[:8])+"dev"+string(raw[8:]))))
	other := token.New(token.Options{Own: token.NewOwn([]byte("a key of another"), s.clock.now), Accounts: s.accounts})
	s.Service = other
	_, b, _ := s.get(t, "dev", "")
	for _, text := range append(texts, b.Token) {
		account, ok := own.Whose(text, func(string) [][]byte { return [][]byte{[]byte("1")} })
		if ok {
			t.Errorf("%q is taken as one of %q", text, account)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, token.Path, nil)
	r.SetBasicAuth("dev", "no")
	if code, a, _ := s.ask(t, r); code != http.StatusUnauthorized || a.Token != "" {
		t.Errorf("a wrong password: %d", code)
	}
}
