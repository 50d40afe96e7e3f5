package token_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/pkg/token"
	"github.com/ocisync/ocisync/schema"
)

const service = "registry.example.com"

// clock is a time that tests set.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// accounts are fixed ones; the password of each is its name and "-pw".
type accounts struct {
	rules  *access.Rules
	proofs map[string]string
}

func (a *accounts) Login(_ *http.Request, account, password string) (access.Subject, []byte, error) {
	switch {
	case account == "slow":
		return access.Subject{}, nil, &token.RefusedError{Status: http.StatusTooManyRequests, Reason: "too many requests", Wait: 3 * time.Second}
	case account == "broken":
		return access.Subject{}, nil, errors.New("the disk is gone")
	case a.proofs[account] == "" || password != account+"-pw":
		return access.Subject{}, nil, &token.RefusedError{Status: http.StatusUnauthorized, Reason: "wrong"}
	}
	return access.User(account), []byte(a.proofs[account]), nil
}

func (a *accounts) Find(account string) (access.Subject, [][]byte) {
	if proof, ok := a.proofs[account]; ok {
		return access.User(account), [][]byte{[]byte(proof)}
	}
	return access.Subject{}, nil
}

func (a *accounts) Rules() *access.Rules { return a.rules }

func rules(t testing.TB) *access.Rules {
	t.Helper()
	rights := func(r schema.Rights) *schema.Rights { return &r }
	st := schema.State{Resources: []schema.Resource{
		{Key: schema.Key{Kind: schema.KindUser, Name: "root"}, Spec: &schema.User{Admin: new(true)}},
		{Key: schema.Key{Kind: schema.KindUser, Name: "dev"}, Spec: &schema.User{}},
		{Key: schema.Key{Kind: schema.KindNamespace, Name: "open"}, Spec: &schema.Namespace{}},
		{Key: schema.Key{Kind: schema.KindNamespace, Name: "team"}, Spec: &schema.Namespace{}},
		{Key: schema.Key{Kind: schema.KindAccess, Name: "open"}, Spec: &schema.Access{Anonymous: rights(schema.Pull)}},
		{Key: schema.Key{Kind: schema.KindAccess, Name: "team"}, Spec: &schema.Access{
			Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: schema.Pull | schema.Push}),
		}},
	}}
	return access.Compile(st, access.Deny)
}

// site is a service with keys in a directory of its own.
type site struct {
	*token.Service
	keys     *token.Keys
	clock    *clock
	accounts *accounts
	dir      string
	log      *strings.Builder
}

func newSite(t testing.TB, more ...func(*token.Options)) *site {
	t.Helper()
	s := &site{dir: t.TempDir(), clock: &clock{t: time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)}, log: &strings.Builder{}}
	s.keys = s.open(t)
	s.accounts = &accounts{rules: rules(t), proofs: map[string]string{"root": "1", "dev": "1"}}
	o := token.Options{Service: service, Keys: s.keys, Accounts: s.accounts, Logger: slog.New(slog.NewTextHandler(s.log, nil))}
	o.Granted = func(g token.Grant) {
		o.Logger.Info("token granted", "account", g.Account, "address", g.Address, "asked", g.Asked, "granted", g.Granted)
	}
	for _, f := range more {
		f(&o)
	}
	s.Service = token.New(o)
	return s
}

func (s *site) file() string   { return filepath.Join(s.dir, "keys.json") }
func (s *site) public() string { return filepath.Join(s.dir, "jwks.json") }

func (s *site) open(t testing.TB) *token.Keys {
	t.Helper()
	k, err := token.OpenKeys(s.file(), s.public(), s.clock.now)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// registry is a registry that started now: it has read the public keys, and
// takes what they verify as Distribution does.
func (s *site) registry(t testing.TB) func(text string) (claims, bool) {
	t.Helper()
	b, err := os.ReadFile(s.public())
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(b, &set); err != nil {
		t.Fatal(err)
	}
	for _, k := range set.Keys {
		if !k.IsPublic() {
			t.Fatal("a private key is published")
		}
	}
	return func(text string) (c claims, ok bool) {
		parsed, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		keys := set.Key(parsed.Headers[0].KeyID)
		if len(keys) == 0 || parsed.Claims(keys[0], &c) != nil {
			return c, false
		}
		want := jwt.Expected{Issuer: token.Issuer, AnyAudience: jwt.Audience{service}, Time: s.clock.now()}
		return c, c.ValidateWithLeeway(want, token.Leeway) == nil
	}
}

type claims struct {
	jwt.Claims
	Access []token.Scope `json:"access"`
}

type answer struct {
	Token        string `json:"token"`
	AccessToken  string `json:"access_token"`
	Scope        string `json:"scope"`
	ExpiresIn    int    `json:"expires_in"`
	IssuedAt     string `json:"issued_at"`
	RefreshToken string `json:"refresh_token"`
	Error        string `json:"error"`
}

func (s *site) ask(t testing.TB, r *http.Request) (int, answer, http.Header) {
	t.Helper()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	var a answer
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	return w.Code, a, w.Header()
}

func (s *site) get(t testing.TB, account, query string) (int, answer, http.Header) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, token.Path+"?service="+service+"&"+query, nil)
	if account != "" {
		r.SetBasicAuth(account, account+"-pw")
	}
	return s.ask(t, r)
}

func (s *site) post(t testing.TB, form url.Values) (int, answer, http.Header) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, token.Path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return s.ask(t, r)
}

func TestAScopeIsWhatWasAskedAndIsAllowed(t *testing.T) {
	s := newSite(t)
	takes := s.registry(t)
	for _, tt := range []struct{ account, asked, want string }{
		{"dev", "scope=repository:team/app:pull,push", "repository:team/app:pull,push"},
		{"dev", "scope=repository:team/app:push,pull,delete", "repository:team/app:pull,push"},
		{"dev", "scope=repository:team/app:pull", "repository:team/app:pull"},
		{"dev", "scope=repository:team/app:*", "repository:team/app:pull,push"},
		{"dev", "scope=repository:team/app:pull&scope=repository:open/x:pull,push", "repository:team/app:pull repository:open/x:pull"},
		{"dev", "scope=repository:team/app:pull%20repository:team/app:push", "repository:team/app:pull,push"},
		{"dev", "scope=repository:teammate/app:pull", ""},
		{"dev", "scope=repository:TEAM/app:pull", ""},
		{"dev", "scope=repository:team/../open:pull", ""},
		{"dev", "scope=repository:team:80/app:pull", ""},
		{"dev", "scope=repository:team/app:PULL", ""},
		{"dev", "scope=repository:team/app:admin", ""},
		{"dev", "scope=repository(plugin):team/app:pull", ""},
		{"dev", "scope=registry:catalog:*", ""},
		{"dev", "", ""},
		{"root", "scope=registry:catalog:*", "registry:catalog:*"},
		{"root", "scope=registry:other:*", ""},
		{"root", "scope=repository:anything:*", "repository:anything:delete,pull,push"},
		{"root", "scope=repository:ocisync/state:pull", "repository:ocisync/state:pull"},
		{"", "scope=repository:open/app:pull,push", "repository:open/app:pull"},
		{"", "scope=repository:team/app:pull", ""},
		{"", "scope=registry:catalog:*", ""},
	} {
		code, a, h := s.get(t, tt.account, tt.asked)
		if code != http.StatusOK || a.Token == "" || a.Token != a.AccessToken || a.ExpiresIn != 300 || a.RefreshToken != "" {
			t.Errorf("%q asks %s: %d %+v", tt.account, tt.asked, code, a)
			continue
		}
		if h.Get("Cache-Control") != "no-store" {
			t.Error("a token may be kept by a cache")
		}
		c, ok := takes(a.Token)
		var got []string
		for _, g := range c.Access {
			got = append(got, g.String())
		}
		if !ok || strings.Join(got, " ") != tt.want || c.Subject != tt.account {
			t.Errorf("%q asks %s: taken %v, %q gets %q, want %q", tt.account, tt.asked, ok, c.Subject, got, tt.want)
		}
	}
	if log := s.log.String(); strings.Count(log, "token granted") != 22 || !strings.Contains(log, `account=dev address=192.0.2.1:1234 asked=repository:team/app:delete,pull,push granted=repository:team/app:pull,push`) {
		t.Errorf("there is no line for each grant:\n%s", log)
	}
}

// TestNoGrantBeyondQuestionAndRules tries scopes that nobody thought of.
func TestNoGrantBeyondQuestionAndRules(t *testing.T) {
	s := newSite(t)
	takes := s.registry(t)
	right := map[string]schema.Rights{"pull": schema.Pull, "push": schema.Push, "delete": schema.Delete}
	rapid.Check(t, func(rt *rapid.T) {
		account := rapid.SampledFrom([]string{"", "dev", "root"}).Draw(rt, "account")
		part := rapid.SampledFrom([]string{"team", "open", "app", "..", "registry", "catalog", "*", "", "Team", "ocisync", "%2e%2e", "a:b"})
		asked := rapid.SampledFrom([]string{"repository", "registry", "Repository", ""}).Draw(rt, "type") + ":" +
			strings.Join(rapid.SliceOfN(part, 1, 3).Draw(rt, "name"), "/") + ":" +
			strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"pull", "push", "delete", "*", "admin", ""}), 0, 4).Draw(rt, "actions"), ",")
		code, a, _ := s.get(t, account, "scope="+url.QueryEscape(asked))
		if code == http.StatusBadRequest {
			return
		}
		c, ok := takes(a.Token)
		if code != http.StatusOK || !ok {
			rt.Fatalf("%d %+v", code, a)
		}
		who := access.Subject{User: account}
		for _, g := range c.Access {
			for _, action := range g.Actions {
				switch {
				case !strings.HasPrefix(asked, g.Type+":"+g.Name+":"):
					rt.Fatalf("%s was not asked for: %s", g, asked)
				case !strings.Contains(asked, "*") && !slices.Contains(strings.Split(asked[strings.LastIndex(asked, ":")+1:], ","), action):
					rt.Fatalf("%s was not asked for: %s", action, asked)
				case g.Type == "registry" && !s.accounts.rules.Admin(who):
					rt.Fatalf("%q gets the catalogue", account)
				case g.Type == "repository" && !s.accounts.rules.May(who, right[action], g.Name):
					rt.Fatalf("%q gets %s of %s", account, action, g.Name)
				}
			}
		}
	})
}

func TestALoginThatFailsGetsNoToken(t *testing.T) {
	s := newSite(t)
	basic := func(account, password string) *http.Request {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, token.Path+"?scope=repository:open/app:pull", nil)
		r.SetBasicAuth(account, password)
		return r
	}
	bearer := httptest.NewRequestWithContext(t.Context(), http.MethodGet, token.Path, nil)
	bearer.Header.Set("Authorization", "Bearer x")
	for _, tt := range []struct {
		name   string
		r      *http.Request
		status int
		header [2]string
	}{
		{"wrong password", basic("dev", "no"), 401, [2]string{"WWW-Authenticate", `Basic realm="ocisync", charset="UTF-8"`}},
		{"nobody", basic("nobody", "nobody-pw"), 401, [2]string{}},
		{"no account", basic("", "no"), 401, [2]string{}},
		{"too often", basic("slow", ""), 429, [2]string{"Retry-After", "3"}},
		{"not to be checked", basic("broken", ""), 503, [2]string{}},
		{"a token", bearer, 401, [2]string{}},
		{"another service", httptest.NewRequestWithContext(t.Context(), http.MethodGet, token.Path+"?service=other", nil), 400, [2]string{}},
		{"no scope", httptest.NewRequestWithContext(t.Context(), http.MethodGet, token.Path+"?scope=repository", nil), 400, [2]string{}},
		{"a hundred and one", httptest.NewRequestWithContext(t.Context(), http.MethodGet, token.Path+"?scope="+many(101), nil), 400, [2]string{}},
		{"PUT", httptest.NewRequestWithContext(t.Context(), http.MethodPut, token.Path, nil), 405, [2]string{"Allow", "GET, POST"}},
	} {
		code, a, h := s.ask(t, tt.r)
		if code != tt.status || a.AccessToken != "" || tt.header[0] != "" && h.Get(tt.header[0]) != tt.header[1] {
			t.Errorf("%s: %d %+v %v", tt.name, code, a, h)
		}
	}
	if strings.Contains(s.log.String(), "token granted") {
		t.Error("a grant was logged")
	}
}

func many(n int) string {
	var all []string
	for i := range n {
		all = append(all, "repository:r"+strings.Repeat("x", i)+":pull")
	}
	return url.QueryEscape(strings.Join(all, " "))
}

func TestAFormGetsATokenByPasswordAndByRefreshToken(t *testing.T) {
	s := newSite(t)
	takes := s.registry(t)
	form := url.Values{"grant_type": {"password"}, "service": {service}, "client_id": {"test"}, "access_type": {"offline"},
		"username": {"dev"}, "password": {"dev-pw"}, "scope": {"repository:team/app:pull,delete"}}
	code, a, _ := s.post(t, form)
	if code != http.StatusOK || a.Scope != "repository:team/app:pull" || a.Token != "" || a.RefreshToken == "" {
		t.Fatalf("%d %+v", code, a)
	}
	if _, ok := takes(a.AccessToken); !ok {
		t.Error("the registry does not take the token")
	}
	if strings.Count(a.RefreshToken, ".") == 2 {
		t.Error("a refresh token looks like one for the registry")
	}
	again := url.Values{"grant_type": {"refresh_token"}, "service": {service}, "refresh_token": {a.RefreshToken}, "scope": {"repository:team/app:push"}}
	works := func(want bool, why string) {
		t.Helper()
		code, a, _ := s.post(t, again)
		if want != (code == http.StatusOK) || !want && (code != http.StatusUnauthorized || a.Error != "invalid_grant") {
			t.Errorf("%s: %d %+v", why, code, a)
		}
	}
	works(true, "at once")
	s.clock.pass(token.RefreshLife - time.Hour)
	works(true, "after weeks")
	s.accounts.proofs["dev"] = "2"
	works(false, "with another password")
	delete(s.accounts.proofs, "dev")
	works(false, "with no account")
	s.accounts.proofs["dev"] = "1"
	works(true, "with the same password")
	s.clock.pass(2 * time.Hour)
	works(false, "after its life")
	for _, bad := range []string{"", "x", a.AccessToken, a.RefreshToken[:len(a.RefreshToken)-3] + "AAA",
		"ocisync1." + base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("\x00", 48)))} {
		again.Set("refresh_token", bad)
		works(false, bad)
	}
	for name, change := range map[string]url.Values{
		"wrong password": {"password": {"no"}}, "no grant type": {"grant_type": {""}}, "too much": {"scope": {strings.Repeat("x", 20<<10)}},
	} {
		bad := url.Values{}
		for k, v := range form {
			bad[k] = v
		}
		for k, v := range change {
			bad[k] = v
		}
		if code, a, _ := s.post(t, bad); code < 400 || code > 401 || a.Error == "" || a.AccessToken != "" {
			t.Errorf("%s: %d %+v", name, code, a)
		}
	}
	if code, a, _ := s.get(t, "dev", "offline_token=true"); code != http.StatusOK || a.RefreshToken == "" {
		t.Errorf("a GET gets no refresh token: %d %+v", code, a)
	}
	if _, a, _ := s.get(t, "", "offline_token=true"); a.RefreshToken != "" {
		t.Error("nobody gets a refresh token")
	}
}

func TestEmptyCredentialsAreNone(t *testing.T) {
	s := newSite(t)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, token.Path+"?scope=repository:open/app:pull,push", nil)
	r.SetBasicAuth("", "")
	code, a, _ := s.ask(t, r)
	c, ok := s.registry(t)(a.Token)
	if code != http.StatusOK || !ok || c.Subject != "" || len(c.Access) != 1 || c.Access[0].String() != "repository:open/app:pull" {
		t.Errorf("%d %+v", code, c)
	}
}

// TestKeysRotateWithoutARestart follows one registry that never starts anew,
// and one that does.
func TestKeysRotateWithoutARestart(t *testing.T) {
	s := newSite(t)
	old := s.registry(t)
	granted := func() string {
		t.Helper()
		code, a, _ := s.get(t, "dev", "scope=repository:team/app:pull")
		if code != http.StatusOK {
			t.Fatalf("%d %+v", code, a)
		}
		return a.Token
	}
	takes := func(registry func(string) (claims, bool), text string, want bool, why string) {
		t.Helper()
		if _, ok := registry(text); ok != want {
			t.Errorf("%s: the registry takes it: %v", why, ok)
		}
	}
	first, before := granted(), s.keys.Current()
	if err := s.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.keys.Current() == before {
		t.Fatal("the same key signs")
	}
	if err := s.keys.Tidy(); err != nil { // too early for what lives
		t.Fatal(err)
	}
	second := granted()
	takes(old, first, true, "a token of the former key, at once")
	takes(old, second, true, "a token of the new key, with no restart")
	restarted := s.registry(t)
	takes(restarted, first, true, "a token of the former key after a restart")
	takes(restarted, second, true, "a token of the new key after a restart")
	s.clock.pass(token.Life + token.Leeway + time.Second)
	if err := s.keys.Tidy(); err != nil {
		t.Fatal(err)
	}
	s.clock.pass(4 * time.Minute)
	forged := first // by who has the former key: the claims are as good as new
	takes(old, first, false, "a token of the former key, ten minutes later")
	late := s.registry(t)
	if _, ok := late(forged); ok {
		t.Error("the former key is still published")
	}
	if b, err := os.ReadFile(s.public()); err != nil || strings.Contains(string(b), before) {
		t.Errorf("the former key is still published: %v", err)
	}
	if b, err := os.ReadFile(s.file()); err != nil || strings.Contains(string(b), before) {
		t.Errorf("the former key is still kept: %v", err)
	}
	takes(late, granted(), true, "a token after a restart")
	if err := s.Rotate(t.Context()); err != nil { // the third key: known since that restart
		t.Fatal(err)
	}
	takes(late, granted(), true, "a token of the third key")
	takes(old, granted(), false, "a token of the third key, which was made after the registry's start")
}

func TestNoKeySignsThatTheRegistryDoesNotKnow(t *testing.T) {
	var s *site
	var registry func(string) (claims, bool)
	s = newSite(t, func(o *token.Options) {
		o.Known = func(_ context.Context, text string) (bool, error) {
			c, ok := registry(text)
			if len(c.Access) > 0 {
				t.Errorf("the question allows %v", c.Access)
			}
			return ok, nil
		}
	})
	registry = s.registry(t)
	if err := s.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	current := s.keys.Current()
	if err := s.Rotate(t.Context()); !errors.Is(err, token.ErrUnknownKey) || !strings.Contains(err.Error(), s.public()) || s.keys.Current() != current {
		t.Errorf("error %v", err)
	}
	registry = s.registry(t)
	if err := s.Rotate(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestKeysRotateByTimeAndOnlyToOneTheRegistryKnows tends keys for months.
func TestKeysRotateByTimeAndOnlyToOneTheRegistryKnows(t *testing.T) {
	var registry func(string) (claims, bool)
	asked := 0
	s := newSite(t, func(o *token.Options) {
		o.Every = token.RotateEvery
		o.Known = func(_ context.Context, text string) (bool, error) {
			asked++
			_, ok := registry(text)
			return ok, nil
		}
	})
	registry = s.registry(t)
	tend := func(want error) {
		t.Helper()
		if err := s.Tend(t.Context()); !errors.Is(err, want) {
			t.Fatalf("error %v, want %v", err, want)
		}
	}
	first := s.keys.Current()
	s.clock.pass(token.RotateEvery - time.Minute)
	if tend(nil); s.keys.Current() != first || asked > 0 {
		t.Error("the keys changed before their time")
	}
	s.clock.pass(2 * time.Minute)
	tend(nil)
	second := s.keys.Current()
	if second == first {
		t.Fatal("the keys did not change in their time")
	}
	later := s.open(t) // a process that goes on where this one ended
	if later.Current() != second || !later.Since().Equal(s.clock.now().Truncate(time.Second)) {
		t.Errorf("key %s signs since %v", later.Current(), later.Since())
	}
	if tend(nil); s.keys.Current() != second {
		t.Error("the keys changed again at once")
	}
	s.clock.pass(2 * token.RotateEvery)
	if tend(token.ErrUnknownKey); s.keys.Current() != second {
		t.Error("a key signs that the registry does not know")
	}
	registry = s.registry(t)
	tend(nil)
	if _, a, _ := s.get(t, "dev", "scope=repository:team/app:pull"); !takes(registry, a.Token) {
		t.Error("the registry does not take a token of the third key")
	}
}

func takes(registry func(string) (claims, bool), text string) bool {
	_, ok := registry(text)
	return ok
}

// TestAKilledRotationLosesNothing opens keys again as a process finds them that
// died between any two writes.
func TestAKilledRotationLosesNothing(t *testing.T) {
	s := newSite(t)
	old := s.registry(t)
	public, err := os.ReadFile(s.public())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.keys.Rotate(); err != nil {
		t.Fatal(err)
	}
	current := s.keys.Current()
	for name, b := range map[string][]byte{"before it was published": public, "while it was": public[:len(public)/2], "with nothing there": nil} {
		if err := os.WriteFile(s.public(), b, 0o600); err != nil {
			t.Fatal(err)
		}
		k := s.open(t)
		if k.Current() != current {
			t.Errorf("%s: another key signs", name)
		}
		text, _, err := k.Token(service, "dev", nil)
		if err != nil {
			t.Fatal(err)
		}
		for registry, takes := range map[string]func(string) (claims, bool){"that runs": old, "that starts": s.registry(t)} {
			if _, ok := takes(text); !ok {
				t.Errorf("%s: a registry %s does not take the token", name, registry)
			}
		}
	}
}

func TestProcessesThatOpenKeysAtOnceShareThem(t *testing.T) {
	dir := t.TempDir()
	current := make([]string, 8)
	var all sync.WaitGroup
	for i := range current {
		all.Go(func() {
			k, err := token.OpenKeys(filepath.Join(dir, "sub", "keys.json"), filepath.Join(dir, "jwks.json"), nil)
			if err != nil {
				t.Error(err)
				return
			}
			current[i] = k.Current()
		})
	}
	all.Wait()
	if one := slices.Compact(slices.Clone(current)); len(one) != 1 {
		t.Errorf("there are %d current keys", len(one))
	}
	for _, d := range []string{dir, filepath.Join(dir, "sub")} {
		entries, err := os.ReadDir(d)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(e.Name(), ".") || !e.IsDir() && info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %s", e.Name(), info.Mode())
			}
		}
	}
}

func TestKeysThatCannotBeTrustedAreRefused(t *testing.T) {
	s := newSite(t)
	good, err := os.ReadFile(s.file())
	if err != nil {
		t.Fatal(err)
	}
	secret := good[strings.Index(string(good), `"d": "`)+6:][:43]
	refused := func(name, words string) {
		t.Helper()
		_, err := token.OpenKeys(s.file(), s.public(), nil)
		if err == nil || !strings.Contains(err.Error(), words) || !strings.Contains(err.Error(), s.file()) || strings.Contains(err.Error(), string(secret)) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	for name, b := range map[string]string{
		"cut": string(good[:len(good)/2]), "empty": "", "format": strings.Replace(string(good), `"format": 1`, `"format": 2`, 1),
		"no next": strings.Replace(string(good), `"next": "`, `"next": "x`, 1), "public": `{"format":1,"keys":[]}`,
	} {
		if err := os.WriteFile(s.file(), []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
		refused(name, "")
	}
	if err := errors.Join(os.WriteFile(s.file(), good, 0o600), os.Chmod(s.file(), 0o640)); err != nil {
		t.Fatal(err)
	}
	refused("readable by others", "chmod 600")
	if err := errors.Join(os.Rename(s.file(), s.file()+".real"), os.Symlink(s.file()+".real", s.file())); err != nil {
		t.Fatal(err)
	}
	refused("a link", "must be a file")
}

func TestATokenNamesItsKeyAndItsTime(t *testing.T) {
	s := newSite(t)
	text, made, err := s.keys.Token(service, "dev", nil)
	if err != nil {
		t.Fatal(err)
	}
	var parts []map[string]json.RawMessage
	for part := range strings.SplitSeq(text, ".") {
		b, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]json.RawMessage
		if json.Unmarshal(b, &m) == nil {
			delete(m, "jti")
			parts = append(parts, m)
		}
	}
	want := []map[string]json.RawMessage{
		{"alg": []byte(`"ES256"`), "kid": []byte(`"` + s.keys.Current() + `"`), "typ": []byte(`"JWT"`)},
		{
			"iss": []byte(`"ocisync"`), "sub": []byte(`"dev"`), "aud": []byte(`"registry.example.com"`), "access": []byte(`[]`),
			"iat": []byte("1801396800"), "nbf": []byte("1801396790"), "exp": []byte("1801397100"),
		},
	}
	if diff := cmp.Diff(want, parts); diff != "" || !made.Equal(s.clock.now()) {
		t.Errorf("token (-want +got):\n%s", diff)
	}
}

// What a registry reads lies in a directory of its own.
func TestPublicKeysAreReadFromNoOtherFile(t *testing.T) {
	dir := t.TempDir()
	other, public := filepath.Join(t.TempDir(), "other"), filepath.Join(dir, "jwks.json")
	if err := errors.Join(os.WriteFile(other, []byte(`{"keys":[]}`), 0o600), os.Symlink(other, public)); err != nil {
		t.Fatal(err)
	}
	if n, err := token.Published(public); !errors.Is(err, regular.ErrLink) {
		t.Errorf("%d keys, %v", n, err)
	}
	if _, err := token.OpenKeys(filepath.Join(dir, "ocisync", "keys.json"), public, nil); err != nil {
		t.Fatal(err)
	}
	if n, err := token.Published(public); n != 2 || err != nil {
		t.Errorf("once they are written: %d keys, %v", n, err)
	}
	if b, err := os.ReadFile(other); err != nil || string(b) != `{"keys":[]}` {
		t.Errorf("the other file is now %s, %v", b, err)
	}
}

// TestCopiesOfThePrivateKeysAreSwept that a change left which was killed, and nothing
// else; who makes the keys at the same moment gets over it.
func TestCopiesOfThePrivateKeysAreSwept(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "keys.json")
	k, err := token.OpenKeys(file, filepath.Join(dir, "jwks.json"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".keys.json-4711", ".keys.json-0815", ".keys.json-mine", ".keys.json", "keys.json-1", ".jwks.json-1"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, ".keys.json-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := k.Sweep(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, e := range entries {
		have = append(have, e.Name())
	}
	want := []string{".jwks.json-1", ".keys.json", ".keys.json-1", ".keys.json-mine", "jwks.json", "keys.json", "keys.json-1"}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if _, err := token.OpenKeys(file, filepath.Join(dir, "jwks.json"), nil); err != nil {
		t.Error(err)
	}
}
