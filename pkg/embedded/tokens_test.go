package embedded_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/token"
	"github.com/ocisync/ocisync/schema"
)

// accountsOf is a data directory with a registry of others in it.
func accountsOf(t testing.TB) string {
	t.Helper()
	data := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(data, "storage"), 0o700), os.WriteFile(filepath.Join(data, "config.yml"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	return data
}

func keysIn(t testing.TB, data string) *token.Keys {
	t.Helper()
	k, err := token.OpenKeys(filepath.Join(data, "ocisync", "keys.json"), filepath.Join(data, "jwks.json"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// lockedLog is a log that a server writes while a test reads.
type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func serveTokens(t *testing.T, o embedded.Options) (*served, *lockedLog) {
	t.Helper()
	log := &lockedLog{}
	o.Data = accountsOf(t)
	o.Tokens = &embedded.Tokens{Keys: keysIn(t, o.Data), Service: "registry.example.com"}
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	return serveWith(t, o), log
}

// granted asks for a token and returns the status and what the token allows.
func (s *served) granted(t *testing.T, user, password, scope string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr()+token.Path+"?scope="+url.QueryEscape(scope), nil)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var a struct{ Token string }
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		t.Fatal(err)
	}
	if a.Token == "" {
		return resp.StatusCode, ""
	}
	parsed, err := jwt.ParseSigned(a.Token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Access []token.Scope `json:"access"`
	}
	if err := parsed.UnsafeClaimsWithoutVerification(&c); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, g := range c.Access {
		all = append(all, g.String())
	}
	return resp.StatusCode, strings.Join(all, " ")
}

func TestATokenServiceGivesWhatTheAdminAPISays(t *testing.T) {
	s, log := serveTokens(t, embedded.Options{})
	s.change(t, putUser(t, "root", true), putUser(t, "dev", false), putNamespace("team"),
		putAccess("team", schema.Access{Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: schema.Pull})}))
	grants := func(user, password, want string) {
		t.Helper()
		if _, got := s.granted(t, user, password, "repository:team/app:pull,push"); got != want {
			t.Errorf("%q gets %q, want %q", user, got, want)
		}
	}
	grants("dev", "pw-dev", "repository:team/app:pull")
	grants("dev", "pw-root", "")
	grants("", "", "")
	s.change(t, putAccess("team", schema.Access{Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: schema.Pull | schema.Push})}))
	grants("dev", "pw-dev", "repository:team/app:pull,push")
	changed := putUser(t, "dev", false)
	changed.PasswordHash = quickHash(t, "another")
	s.change(t, changed)
	grants("dev", "pw-dev", "") // which was right a moment ago
	grants("dev", "another", "repository:team/app:pull,push")
	s.change(t, embedded.Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindUser, Name: "dev"}}, Delete: true})
	grants("dev", "another", "")

	// as an admin user over HTTP, too
	base, err := url.Parse("http://" + s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	away := embedded.DialURL(base, nil, "root", "pw-root")
	defer away.Close()
	live, err := away.State(t.Context(), []schema.Kind{schema.KindNamespace})
	if err != nil || len(live.Objects) != 1 || embedded.Greet(t.Context(), base, nil) != nil {
		t.Errorf("%v, %v", live.Objects, err)
	}
	for _, what := range []func() error{
		func() error { _, err := away.Usage(t.Context(), nil); return err },
		func() error { _, err := away.Run(t.Context(), embedded.JobGC, true); return err },
		func() error { _, err := away.Repositories(t.Context(), []string{"*"}); return err },
	} {
		if what() == nil {
			t.Error("a token service answers for content")
		}
	}
	for path, status := range map[string]int{"/v2/": 404, "/v2/_catalog": 404, "/v2/team/app/tags/list": 404, "/healthz": 200, "/": 404, "/metrics": 401} {
		request(t, s, path, status)
	}
	rename := embedded.Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindNamespace, Name: "crew"}}, From: &schema.Key{Kind: schema.KindNamespace, Name: "team"}}
	rename.Object.Spec = &schema.Namespace{}
	if results, err := s.Change(t.Context(), []embedded.Change{rename}); err != nil || !errors.Is(results[0].Err, embedded.ErrInvalid) {
		t.Errorf("a namespace took another name, its content did not: %v", err)
	}
	for _, words := range []string{`msg="token granted" account=dev address=127.0.0.1:`, "granted=repository:team/app:pull\n", `msg="login refused"`} {
		if !strings.Contains(log.String(), words) {
			t.Errorf("the log does not say %q:\n%s", words, log)
		}
	}
	if strings.Contains(log.String(), "pw-") || strings.Contains(log.String(), "another") {
		t.Error("the log holds a password")
	}
}

func request(t *testing.T, s *served, path string, status int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != status {
		t.Errorf("GET %s: %d, want %d", path, resp.StatusCode, status)
	}
}

func TestATokenServiceTiresOfWrongPasswords(t *testing.T) {
	limits := embedded.DefaultLimits()
	limits.Failures = embedded.Limit{PerSecond: 0.001, Burst: 3}
	s, _ := serveTokens(t, embedded.Options{Limits: &limits})
	s.change(t, putUser(t, "dev", false))
	for i, want := range []int{401, 401, 401, 429, 429} {
		if code, _ := s.granted(t, "dev", fmt.Sprint("guess ", i), ""); code != want {
			t.Errorf("try %d: %d, want %d", i+1, code, want)
		}
	}
	if code, _ := s.granted(t, "", "", ""); code != http.StatusOK {
		t.Errorf("without a password: %d", code)
	}
}

func TestStrangersWhoAskForTokensFillNoLog(t *testing.T) {
	s, log := serveTokens(t, embedded.Options{})
	s.change(t, putUser(t, "dev", false))
	long := "repository:" + strings.Repeat("a", 200) + ":pull"
	for range 300 {
		if code, _ := s.granted(t, "", "", long); code != http.StatusOK {
			t.Fatalf("a stranger gets %d", code)
		}
	}
	for range 20 {
		s.granted(t, "dev", "pw-dev", long)
	}
	s.stop(t)
	text := log.String()
	for words, want := range map[string]int{
		`"token granted" account=anonymous address=127.0.0.1:`:          1,
		`"tokens granted" account=anonymous address=127.0.0.1 more=299`: 1,
		`"token granted" account=dev address=127.0.0.1:`:                20,
	} {
		if got := strings.Count(text, "msg="+words); got != want {
			t.Errorf("%d times %s, want %d", got, words, want)
		}
	}
	if len(text) > 20<<10 {
		t.Errorf("the log has %d bytes", len(text))
	}
}

// TestAFloodOfTokensIsRefusedAndCIIsNot has one address ask as fast as 60 jobs of
// CI do, and then without a pause.
func TestAFloodOfTokensIsRefusedAndCIIsNot(t *testing.T) {
	data := accountsOf(t)
	limits := embedded.DefaultLimits()
	limits.Tokens.PerSecond /= 10 // a machine that is busy asks no faster
	r, err := embedded.Open(t.Context(), embedded.Options{
		Data: data, Limits: &limits, Tokens: &embedded.Tokens{Keys: keysIn(t, data), Service: "registry.example.com"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	q := httptest.NewRequestWithContext(t.Context(), http.MethodGet, token.Path+"?scope=repository:team/app:pull", nil)
	got := map[int]int{}
	ask := func(n int) {
		for range n {
			w := httptest.NewRecorder()
			r.ServeHTTP(w, q)
			got[w.Code]++
		}
	}
	ask(60 * 40) // each job's pulls and pushes of forty repositories at once
	if got[http.StatusOK] != 60*40 {
		t.Errorf("CI gets %v", got)
	}
	clear(got)
	ask(8000)
	if got[http.StatusTooManyRequests] < 2000 || got[http.StatusTooManyRequests]+got[http.StatusOK] != 8000 {
		t.Errorf("a flood gets %v", got)
	}
}

func TestATokenServiceWritesRefusedLoginsIntoTheAuditLog(t *testing.T) {
	s, _ := serveTokens(t, embedded.Options{})
	path := filepath.Join(s.data, "audit.log")
	s.change(t, putUser(t, "dev", false), embedded.Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindAudit}, Spec: &schema.Audit{Log: &path}}})
	form := url.Values{"grant_type": {"password"}, "username": {"dev"}, "password": {"no"}}
	resp, err := s.http.PostForm("http://"+s.Addr()+token.Path, form)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	s.granted(t, "my password", "no", "")
	b, err := os.ReadFile(path)
	if text := string(b); err != nil || strings.Count(text, `"action":"login"`) != 2 || !strings.Contains(text, `"account":"dev"`) || strings.Contains(text, "my password") {
		t.Errorf("%v: %s", err, b)
	}
}

func TestKeysRotateThroughTheSocket(t *testing.T) {
	data, known := accountsOf(t), false
	keys := keysIn(t, data)
	s := serveWith(t, embedded.Options{Data: data, Tokens: &embedded.Tokens{
		Keys: keys, Service: "registry", Known: func(context.Context, string) (bool, error) { return known, nil },
	}})
	before := keys.Current()
	if err := s.Rotate(t.Context()); err == nil || !strings.Contains(err.Error(), "restart it") || keys.Current() != before {
		t.Errorf("error %v", err)
	}
	known = true
	if err := s.Rotate(t.Context()); err != nil || keys.Current() == before {
		t.Errorf("error %v", err)
	}
	content := serve(t, filepath.Join(t.TempDir(), "data"))
	if err := content.Rotate(t.Context()); err == nil {
		t.Error("a registry without tokens rotated keys")
	}
}

func TestAServedTokenServiceRotatesWhatIsDue(t *testing.T) {
	data, known := accountsOf(t), make(chan bool, 1)
	keys := keysIn(t, data)
	before := keys.Current()
	log := &lockedLog{}
	serveWith(t, embedded.Options{Data: data, Logger: slog.New(slog.NewTextHandler(log, nil)), Tokens: &embedded.Tokens{
		Keys: keys, Service: "registry", Every: time.Nanosecond,
		Known: func(context.Context, string) (bool, error) { return <-known, nil },
	}})
	known <- true
	for deadline := time.Now().Add(time.Minute); keys.Current() == before || !strings.Contains(log.String(), "keys rotated"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nothing rotated what was due:\n%s", log)
		}
	}
}

func TestATokenServiceHasJobsDoneByTheSchedulesOfItsRules(t *testing.T) {
	data := accountsOf(t)
	did := make(chan string, 100)
	s := serveWith(t, embedded.Options{Data: data, Tokens: &embedded.Tokens{
		Keys: keysIn(t, data), Service: "registry",
		Job: func(ctx context.Context, name string, namespaces []string) error {
			did <- name + " " + strings.Join(namespaces, " ")
			<-ctx.Done() // until it is told to end
			return ctx.Err()
		},
	}})
	team := schema.Key{Kind: schema.KindRetention, Name: "team"}
	results, err := s.Change(t.Context(), []embedded.Change{
		putNamespace("team"), putNamespace("other"),
		{Object: schema.Resource{Key: team, Spec: &schema.Retention{Keep: []schema.KeepRule{{Newest: 1}}, Schedule: new("@every 1s")}}},
		{Object: schema.Resource{Key: schema.Key{Kind: schema.KindRetention, Name: "other"}, Spec: &schema.Retention{Keep: []schema.KeepRule{{Newest: 1}}}}},
		putGC(schema.GC{Schedule: new("@daily")}),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	if got := <-did; got != "retention team" {
		t.Errorf("did %q", got)
	}
	rested := make(chan struct{})
	go func() {
		s.Rest()
		close(rested)
	}()
	select {
	case <-rested:
	case <-time.After(30 * time.Second):
		t.Fatal("a job goes on that was told to end")
	}
	if status, _ := s.granted(t, "", "", ""); status != http.StatusOK {
		t.Errorf("no token while jobs rest: %d", status)
	}
	select {
	case more := <-did:
		t.Errorf("did %q", more)
	default:
	}
}

func TestADirectoryOfAccountsLeavesContentAlone(t *testing.T) {
	data := accountsOf(t)
	if d, err := embedded.OpenDirectory(data, "test", embedded.Bucket{}); err != nil {
		t.Fatal(err)
	} else if _, err := d.IsNew(); !errors.Is(err, embedded.ErrOccupied) {
		t.Errorf("a registry would start in another's directory: %v", err)
	}
	d, err := embedded.OpenAccounts(data, "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.IsNew(); err != nil {
		t.Error(err)
	}
	user := putUser(t, "dev", false)
	renamed := embedded.Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindUser, Name: "developer"}, Spec: &schema.User{}}, From: &user.Object.Key}
	for _, c := range []embedded.Change{user, renamed, putNamespace("team")} {
		results, err := d.Change(t.Context(), []embedded.Change{c})
		if err != nil || results[0].Err != nil {
			t.Fatal(err, results)
		}
	}
	if ok, err := d.Check(t.Context(), "developer", "pw-dev"); err != nil || !ok {
		t.Errorf("%v, %v", ok, err)
	}
	from, to := schema.Key{Kind: schema.KindNamespace, Name: "team"}, schema.Key{Kind: schema.KindNamespace, Name: "crew"}
	if err := d.Renamable(t.Context(), from, to); !errors.Is(err, embedded.ErrInvalid) {
		t.Errorf("error %v", err)
	}
	entries, err := os.ReadDir(data)
	if err != nil || len(entries) != 3 { // ocisync, storage, config.yml
		t.Errorf("%v, %v", entries, err)
	}
}

// nowhere takes an answer and costs nothing.
type nowhere struct {
	header http.Header
	status int
}

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) WriteHeader(status int)      { n.status = status }
func (n *nowhere) Write(b []byte) (int, error) { return len(b), nil }

// BenchmarkGrant is a token for a user whose password is remembered, with as
// many rules and users as the limits speak of; "first" is the first login.
func BenchmarkGrant(b *testing.B) {
	data := accountsOf(b)
	d, err := embedded.OpenAccounts(data, "bench")
	if err != nil {
		b.Fatal(err)
	}
	hash, err := embedded.HashPassword("a password of some length", embedded.HashCost)
	if err != nil {
		b.Fatal(err)
	}
	var changes []embedded.Change
	for i := range 200 {
		name := fmt.Sprintf("user-%d", i)
		changes = append(changes, embedded.Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindUser, Name: name}, Spec: &schema.User{}}, PasswordHash: hash})
	}
	for i := range 1000 {
		name := fmt.Sprintf("team-%d", i)
		changes = append(changes, putNamespace(name), putAccess(name, schema.Access{
			Users: schema.NewGrants(schema.Grant{Name: fmt.Sprintf("user-%d", i%200), Rights: schema.Pull | schema.Push}),
		}))
	}
	if _, err := d.Change(b.Context(), changes); err != nil {
		b.Fatal(err)
	}
	limits := embedded.DefaultLimits()
	limits.Account, limits.Address = embedded.Limit{PerSecond: 1e9, Burst: 1e9}, embedded.Limit{PerSecond: 1e9, Burst: 1e9}
	limits.Tokens = limits.Address
	open := func() *embedded.Registry {
		r, err := embedded.Open(b.Context(), embedded.Options{
			Data: data, Limits: &limits, Logger: slog.New(slog.NewTextHandler(&nowhere{}, nil)),
			Tokens: &embedded.Tokens{Keys: keysIn(b, data), Service: "registry.example.com"},
		})
		if err != nil {
			b.Fatal(err)
		}
		return r
	}
	shut := func(r *embedded.Registry) {
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
	asked := make([]*http.Request, 200)
	for i := range asked {
		asked[i] = httptest.NewRequestWithContext(b.Context(), http.MethodGet, token.Path+"?service=registry.example.com&scope=repository:team-7/app:pull,push", nil)
		asked[i].SetBasicAuth(fmt.Sprintf("user-%d", i), "a password of some length")
	}
	ask := func(r *embedded.Registry, i int) {
		w := nowhere{header: http.Header{}}
		r.ServeHTTP(&w, asked[i])
		if w.status != http.StatusOK {
			b.Fatal(w.status)
		}
	}
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			r := open()
			b.StartTimer()
			ask(r, 7)
			b.StopTimer()
			shut(r)
			b.StartTimer()
		}
	})
	b.Run("remembered", func(b *testing.B) {
		r := open()
		defer shut(r)
		ask(r, 7)
		b.ReportAllocs()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for b.Loop() {
			ask(r, 7)
		}
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc)), "kept-B")
	})
}
