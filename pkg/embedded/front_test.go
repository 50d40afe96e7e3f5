package embedded_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/schema"
)

func putAudit(log string) embedded.Change {
	return embedded.Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindAudit}, Spec: &schema.Audit{Log: &log}}}
}

// status is that of the answer to one request.
func (s *served) status(t *testing.T, method, user, path string) int {
	t.Helper()
	return s.do(t, method, user, path).StatusCode
}

// audited reads the log as "account action repository reference result".
func audited(t *testing.T, log string) (lines []string) {
	t.Helper()
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		var l embedded.AuditLine
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatal(err)
		}
		if l.Time.IsZero() || l.Address == "" {
			t.Errorf("without time or address: %s", line)
		}
		lines = append(lines, fmt.Sprintf("%s %s %s %s %d %s", l.Account, l.Action, l.Repository, l.Reference, l.Status, l.Result))
	}
	return lines
}

func TestTheAuditLogHoldsWritesAndRefusalsAndNoSecret(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	log := filepath.Join(t.TempDir(), "audit.log")
	s := serve(t, data)
	s.change(t, putAudit(log))
	s.change(t, putUser(t, "root", true), putUser(t, "dev", false), putNamespace("team"),
		putAccess("team", schema.Access{Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: schema.Pull})}))
	im := image(t)
	if err := remote.Write(s.ref(t, "team/app:1"), im, s.as("root")...); err != nil {
		t.Fatal(err)
	}
	before := len(audited(t, log))
	digest, err := im.Digest()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := im.Layers()
	if err != nil {
		t.Fatal(err)
	}
	layer, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	s.status(t, "GET", "", "/v2/")                               // how a client learns to log in
	s.status(t, "GET", "dev", "/v2/team/app/tags/list")          // allowed to read
	s.status(t, "DELETE", "dev", "/v2/team/app/manifests/1")     // not allowed
	s.status(t, "GET", "", "/v2/team/app/manifests/1")           // nor is this
	s.status(t, "GET", "my-secret-typed-as-a-name", "/v2/")      // no such account
	s.status(t, "GET", "dev", "/ocisync/v1/state")               // no admin
	s.status(t, "DELETE", "root", "/v2/team/app/manifests/none") // fails
	s.status(t, "DELETE", "root", "/v2/team/app/manifests/"+digest.String())
	s.change(t, embedded.Change{Delete: true, Object: schema.Resource{Key: schema.Key{Kind: schema.KindUser, Name: "dev"}}})
	lines := audited(t, log)
	want := []string{
		"dev delete team/app 1 403 refused",
		"anonymous pull team/app 1 401 refused",
		"unknown login   401 refused",
		"dev admin   403 refused",
		"root delete team/app none 404 failed",
		"root delete team/app " + digest.String() + " 202 ok",
		"ocisync remove  user/dev 200 ok",
	}
	if d := cmp.Diff(want, lines[before:]); d != "" {
		t.Error(d)
	}
	for _, want := range []string{"ocisync put  audit 200 ok", "ocisync put  user/dev 200 ok", "root push team/app 1 201 ok", "root push team/app " + layer.String() + " 201 ok"} {
		if !slices.Contains(lines, want) {
			t.Errorf("no line %q in\n%s", want, strings.Join(lines, "\n"))
		}
	}
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"pw-", "$2a$", "my-secret", "Basic "} {
		if bytes.Contains(b, []byte(secret)) {
			t.Errorf("the log holds %q", secret)
		}
	}
	s.change(t, embedded.Change{Delete: true, Object: schema.Resource{Key: schema.Key{Kind: schema.KindAudit}}})
	s.status(t, "DELETE", "root", "/v2/team/app/manifests/1")
	if end := audited(t, log); end[len(end)-1] != "ocisync remove  audit 200 ok" {
		t.Errorf("the log ends with %q", end[len(end)-1])
	}
}

// Whether somebody serves the registry or not.
func TestTheAuditLogHoldsWhatWasChangedWhileNobodyServed(t *testing.T) {
	log := filepath.Join(t.TempDir(), "audit.log")
	user, other := putUser(t, "dev", false), putUser(t, "dev", false)
	end := embedded.Change{Delete: true, Object: schema.Resource{Key: schema.Key{Kind: schema.KindAudit}}}
	changes := [][]embedded.Change{{putAudit(log)}, {user}, {other, {Object: schema.Resource{Key: schema.Key{Kind: schema.KindUser, Name: "a/b"}, Spec: &schema.User{}}}}, {end}, {user}}
	d, err := embedded.OpenDirectory(filepath.Join(t.TempDir(), "data"), "test", embedded.Bucket{})
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range changes {
		if _, err := d.Change(t.Context(), list); err != nil {
			t.Fatal(err)
		}
	}
	stopped, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(log); err != nil {
		t.Fatal(err)
	}
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	for _, list := range changes {
		if _, err := s.Change(t.Context(), list); err != nil {
			t.Fatal(err)
		}
	}
	served, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	when := regexp.MustCompile(`"time":"[^"]+"`)
	if diff := cmp.Diff(when.ReplaceAllString(string(served), ""), when.ReplaceAllString(string(stopped), "")); diff != "" || bytes.Count(served, []byte("\n")) != 5 {
		t.Errorf("(-served +stopped):\n%s", diff)
	}
}

func TestStrangersCannotPushDeedsOutOfTheAuditLog(t *testing.T) {
	log := filepath.Join(t.TempDir(), "audit.log")
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	s.change(t, putAudit(log), putUser(t, "root", true), putUser(t, "dev", false), putNamespace("team"))
	before := len(audited(t, log))
	for range 50 {
		s.status(t, "PUT", "", "/v2/team/"+strings.Repeat("%3C", 500)+"/manifests/"+strings.Repeat("%3C", 500))
		s.status(t, "PUT", "", "/v2/team/app/manifests/1")
		s.status(t, "PUT", "dev", "/v2/team/app/manifests/1")
	}
	s.status(t, "DELETE", "root", "/v2/team/app/manifests/1")
	lines := audited(t, log)[before:]
	if len(lines) != 53 || !strings.HasPrefix(lines[52], "root delete team/app 1") {
		t.Errorf("%d lines, want one for each kind of the strangers' refusals, all 50 of dev, and root's: the last is %q", len(lines), lines[len(lines)-1])
	}
}

// metrics reads /metrics as a map from name and labels to value.
func metrics(t *testing.T, resp *http.Response) map[string]string {
	t.Helper()
	out := map[string]string{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok && name != "#" {
			out[name] = value
		}
	}
	return out
}

func TestMetricsCountWhatHappensAndAreForAdminsAlone(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	s.change(t, putUser(t, "root", true), putUser(t, "dev", false), putNamespace("team"), putAudit("/nonexistent/audit.log"))
	if err := remote.Write(s.ref(t, "team/app:1"), image(t), s.as("root")...); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := remote.Image(s.ref(t, "team/app:1"), s.as("root")...); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.status(t, "GET", "", "/metrics"); got != 401 {
		t.Errorf("anonymous: status %d, want 401", got)
	}
	if got := s.status(t, "GET", "dev", "/metrics"); got != 403 {
		t.Errorf("no admin: status %d, want 403", got)
	}
	got := metrics(t, s.do(t, "GET", "root", "/metrics"))
	for name, want := range map[string]string{
		`ocisync_pushes_total{namespace="team"}`:              "1",
		`ocisync_pulls_total{namespace="team"}`:               "2",
		`ocisync_requests_total{class="4xx",method="DELETE"}`: "",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	for _, name := range []string{
		"ocisync_storage_bytes", "ocisync_received_bytes_total", "ocisync_sent_bytes_total", "ocisync_audit_errors_total",
		`ocisync_requests_total{class="2xx",method="PUT"}`, "go_goroutines",
	} {
		if got[name] == "" || got[name] == "0" {
			t.Errorf("%s is %q", name, got[name])
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Transport().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if by := metrics(t, resp); by["ocisync_storage_bytes"] == "" {
		t.Error("the admin socket gives no metrics")
	}
}

func TestWhoAsksTooMuchIsToldToWait(t *testing.T) {
	open := embedded.Limit{PerSecond: 1e6, Burst: 1e6}
	log := filepath.Join(t.TempDir(), "audit.log")
	few := embedded.Limit{PerSecond: 0.001, Burst: 3}
	tests := map[string]struct {
		limits embedded.Limits
		user   string
		counts string
	}{
		"account":  {embedded.Limits{Account: few, Address: open, Failures: open}, "dev", "account"},
		"address":  {embedded.Limits{Account: open, Address: few, Failures: open}, "", "address"},
		"failures": {embedded.Limits{Account: open, Address: open, Failures: few}, "stranger", "login"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := serveWith(t, embedded.Options{Data: filepath.Join(t.TempDir(), "data"), Limits: &tt.limits})
			s.change(t, putUser(t, "dev", false), putAudit(log))
			ask := func(i int) *http.Response {
				if tt.user != "stranger" {
					return s.do(t, "GET", tt.user, "/v2/")
				}
				return s.try(t, tt.user, fmt.Sprint("guess ", i)) // another one each time
			}
			for i := range 3 {
				if got := ask(i).StatusCode; got == 429 {
					t.Fatalf("request %d is refused", i)
				}
			}
			for i := range 4 {
				resp := ask(3 + i)
				if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" || ociCode(t, resp) != "TOOMANYREQUESTS" {
					t.Errorf("status %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
				}
			}
			if got := s.status(t, "GET", "", "/healthz"); got != 200 {
				t.Errorf("/healthz: status %d", got)
			}
			n := 0
			for _, l := range audited(t, log) {
				if strings.HasSuffix(l, "429 refused") {
					n++
				}
			}
			if n != 1 {
				t.Errorf("a row of refusals stands in the audit log %d times, want once", n)
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x/metrics", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := s.Transport().RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if got := metrics(t, resp)[`ocisync_limited_total{by="`+tt.counts+`"}`]; got != "4" {
				t.Errorf("limited by %s: %q, want 4", tt.counts, got)
			}
			s.stop(t)
			b, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(b), `"status":429,"result":"refused","count":3}`) {
				t.Errorf("no line says that three more followed:\n%s", b)
			}
			if err := os.Remove(log); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func (s *served) login(t *testing.T, user, password string) int {
	t.Helper()
	return s.try(t, user, password).StatusCode
}

// try asks for /v2/ with a name and a password.
func (s *served) try(t *testing.T, user, password string) *http.Response {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr()+"/v2/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	q.SetBasicAuth(user, password)
	resp, err := s.http.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// Everybody behind a proxy has one address.
func TestWrongPasswordsSlowDownTheirOwnAccountAlone(t *testing.T) {
	limits := embedded.DefaultLimits()
	limits.Failures = embedded.Limit{PerSecond: 0.001, Burst: 5}
	s := serveWith(t, embedded.Options{Data: filepath.Join(t.TempDir(), "data"), Limits: &limits})
	s.change(t, putUser(t, "dev", false), putUser(t, "seen", false), putUser(t, "late", false))
	if got := s.login(t, "seen", "pw-seen"); got != 200 {
		t.Fatalf("a right password: %d", got)
	}
	guess := func(account func(int) string) (refused int) {
		for i := range 20 {
			switch got := s.login(t, account(i), fmt.Sprint("guess ", i)); got {
			case 429:
				refused++
			case 401:
			default:
				t.Errorf("a guess: %d", got)
			}
		}
		return refused
	}
	for _, account := range []string{"dev", "seen"} {
		if n := guess(func(int) string { return account }); n != 15 {
			t.Errorf("%d of 20 guesses of the password of %s are refused, want 15", n, account)
		}
	}
	// what is no account is counted in the same way, and for itself
	if n := guess(func(int) string { return "stranger" }); n != 15 {
		t.Errorf("%d of 20 guesses of a name that is none are refused, want 15", n)
	}
	if n := guess(func(i int) string { return fmt.Sprint("stranger", i) }); n != 0 {
		t.Errorf("%d of 20 guesses of names are refused, want none", n)
	}
	for _, tt := range []struct {
		user string
		want int
	}{{"late", 200}, {"seen", 200}, {"dev", 429}, {"stranger", 429}, {"another", 401}} {
		if got := s.login(t, tt.user, "pw-"+tt.user); got != tt.want {
			t.Errorf("%s, after all the guesses: %d, want %d", tt.user, got, tt.want)
		}
	}
}

// A job that goes on with an old secret is no guess, and the new one works
// beside it.
func TestOneWrongPasswordAgainAndAgainIsOneGuess(t *testing.T) {
	limits := embedded.DefaultLimits()
	limits.Failures = embedded.Limit{PerSecond: 0.001, Burst: 2}
	s := serveWith(t, embedded.Options{Data: filepath.Join(t.TempDir(), "data"), Limits: &limits})
	s.change(t, putUser(t, "dev", false))
	for range 20 {
		if got := s.login(t, "dev", "old"); got != 401 {
			t.Fatalf("a password that was right once: %d, want 401", got)
		}
		if got := s.login(t, "gone", "old"); got != 401 {
			t.Fatalf("an account that is gone: %d, want 401", got)
		}
	}
	if got := s.login(t, "dev", "pw-dev"); got != 200 {
		t.Errorf("the right password beside it: %d", got)
	}
	// what was wrong is right once the account has it
	s.change(t, embedded.Change{Object: putUser(t, "dev", false).Object, PasswordHash: quickHash(t, "old")})
	if got := s.login(t, "dev", "old"); got != 200 {
		t.Errorf("a password that the account was given after it was tried: %d", got)
	}
}

func TestLoginsOfOneAddressWaitForEachOther(t *testing.T) {
	limits := embedded.DefaultLimits()
	limits.Logins = embedded.Limit{PerSecond: 20, Burst: 2}
	s := serveWith(t, embedded.Options{Data: filepath.Join(t.TempDir(), "data"), Limits: &limits})
	var all []embedded.Change
	for i := range 8 {
		all = append(all, putUser(t, fmt.Sprint("u", i), false))
	}
	s.change(t, all...)
	began := time.Now()
	var users sync.WaitGroup
	for i := range all {
		users.Go(func() {
			if got := s.login(t, fmt.Sprint("u", i), fmt.Sprint("pw-u", i)); got != 200 {
				t.Errorf("user %d: %d", i, got)
			}
		})
	}
	users.Wait()
	if took := time.Since(began); took < 250*time.Millisecond {
		t.Errorf("8 logins took %s, want 2 at once and 20 a second then", took)
	}
	began = time.Now()
	for i := range all {
		s.login(t, fmt.Sprint("u", i), fmt.Sprint("pw-u", i))
	}
	if took := time.Since(began); took > 350*time.Millisecond {
		t.Errorf("8 logins that are remembered took %s", took)
	}
}

func TestAnUploadInFlightIsFinishedBeforeTheRegistryStops(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	r, err := embedded.Open(t.Context(), embedded.Options{Data: data, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx) }()
	c, err := embedded.Dial(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := &served{Registry: r, Client: c, http: &http.Client{Transport: &http.Transport{}}}
	defer s.http.CloseIdleConnections()
	s.change(t, putUser(t, "root", true))
	location := s.do(t, "POST", "root", "/v2/team/app/blobs/uploads/").Header.Get("Location")
	in, out := io.Pipe()
	defer in.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, "http://"+r.Addr()+location, in)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("root", "pw-root")
	req.Header.Set("Content-Type", "application/octet-stream")
	answer := make(chan string, 1)
	go func() {
		resp, err := s.http.Do(req)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		answer <- resp.Status
	}()
	if _, err := out.Write(make([]byte, 16<<20)); err != nil { // more than lies in buffers: the server reads
		t.Fatal(err)
	}
	stop()
	time.Sleep(100 * time.Millisecond)
	select {
	case err := <-done:
		t.Fatalf("stopped with an upload in flight: %v", err)
	case got := <-answer:
		t.Fatalf("answered in the middle: %s", got)
	default:
	}
	if _, err := out.Write([]byte("the end")); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if got := <-answer; got != "202 Accepted" {
		t.Errorf("the upload was answered %s", got)
	}
	if err := errors.Join(<-done, r.Close()); err != nil {
		t.Error(err)
	}
}

// One wrong login for each name, after many of names that are none: the answers
// do not tell which are accounts.
func TestAnswersDoNotTellAccountsFromNames(t *testing.T) {
	limits := embedded.DefaultLimits()
	limits.Failures = embedded.Limit{PerSecond: 0.001, Burst: 4}
	limits.Logins = embedded.Limit{PerSecond: 1e6, Burst: 1e6}
	s, _ := serveTokens(t, embedded.Options{Limits: &limits})
	s.change(t, putUser(t, "ops", false), putUser(t, "dev", false))
	for i := range 8 {
		s.granted(t, fmt.Sprint("nobody", i), fmt.Sprint("x", i), "")
	}
	for i, want := range []int{401, 401, 401, 401, 429, 429} {
		for _, name := range []string{"ops", "alice", "dev", "root"} {
			if got, _ := s.granted(t, name, fmt.Sprint("guess ", i), ""); got != want {
				t.Errorf("guess %d of %s: %d, want %d", i+1, name, got, want)
			}
		}
	}
}
