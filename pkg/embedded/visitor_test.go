package embedded_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/schema"
)

// engine is a client that sends what a Docker engine sends: it asks /v2/ how to log
// in, and then for a token, with its credentials if it has any.
type engine struct {
	*served
	user, password string
}

var asksForToken = regexp.MustCompile(`^Bearer realm="([^"]*)",service="([^"]*)"(?:,scope="([^"]*)")?(?:,error="([^"]*)")?$`)

// asked is what the registry asks a client for by a challenge.
func asked(t *testing.T, resp *http.Response) (realm, service, scope, wrong string) {
	t.Helper()
	c := asksForToken.FindStringSubmatch(resp.Header.Get("WWW-Authenticate"))
	if resp.StatusCode != http.StatusUnauthorized || c == nil {
		t.Fatalf("%d asks for %q", resp.StatusCode, resp.Header.Get("WWW-Authenticate"))
	}
	return c[1], c[2], c[3], c[4]
}

// token asks for one where the registry says; "" with the status of a refusal.
func (e engine) token(t *testing.T, scope string) (text string, status int) {
	t.Helper()
	realm, service, none, _ := asked(t, e.do(t, http.MethodGet, "", "/v2/"))
	if none != "" {
		t.Errorf("/v2/ asks for %q", none)
	}
	query := url.Values{"service": {service}}
	if scope != "" {
		query.Set("scope", scope)
	} else {
		query.Set("offline_token", "true")
		query.Set("client_id", "docker")
	}
	if e.user != "" {
		query.Set("account", e.user)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, realm+"?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if e.user != "" {
		req.SetBasicAuth(e.user, e.password)
	}
	resp, err := e.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var a struct {
		Token        string `json:"token"`
		RefreshToken string `json:"refresh_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		t.Fatal(err)
	}
	if (a.Token != "") != (resp.StatusCode == http.StatusOK) || a.RefreshToken != "" {
		t.Errorf("%d with token %q and refresh token %q", resp.StatusCode, a.Token, a.RefreshToken)
	}
	return a.Token, resp.StatusCode
}

// with sends a request with a token.
func (s *served) with(t *testing.T, text, method, path string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+text)
	resp, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

func (s *served) wantWith(t *testing.T, text, method, path string, status int) {
	t.Helper()
	if got := s.with(t, text, method, path).StatusCode; got != status {
		t.Errorf("%s %s: status %d, want %d", method, path, got, status)
	}
}

func people(t *testing.T) []embedded.Change {
	t.Helper()
	all := schema.Pull | schema.Push
	return []embedded.Change{
		putUser(t, "root", true), putUser(t, "dev", false), putNamespace("open"), putNamespace("team"),
		putAccess("open", schema.Access{Anonymous: rights(schema.Pull), Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: all})}),
		putAccess("team", schema.Access{Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: all})}),
	}
}

const uploads = "/blobs/uploads/"

func TestAnEngineWithoutALoginPullsWhatEverybodyMay(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	s.change(t, people(t)...)
	for _, name := range []string{"open", "team"} {
		if err := remote.Write(s.ref(t, name+"/app:1"), image(t), s.as("dev")...); err != nil {
			t.Fatal(err)
		}
	}
	e := engine{served: s}
	text, _ := e.token(t, "repository:open/app:pull")
	s.wantWith(t, text, http.MethodGet, "/v2/", 200)
	s.wantWith(t, text, http.MethodGet, "/v2/open/app/manifests/1", 200)
	s.wantWith(t, text, http.MethodGet, "/v2/_catalog", 200)
	for request, want := range map[string]string{
		"GET /v2/team/app/manifests/1":                   "repository:team/app:pull",
		"POST /v2/open/app" + uploads:                    "repository:open/app:pull,push",
		"POST /v2/open/app" + uploads + "?from=team/app": "repository:open/app:pull,push repository:team/app:pull",
		"DELETE /v2/open/app/manifests/1":                "repository:open/app:delete",
	} {
		method, path, _ := strings.Cut(request, " ")
		if _, _, scope, wrong := asked(t, s.with(t, text, method, path)); scope != want || wrong != "insufficient_scope" {
			t.Errorf("%s asks for %q after %q", request, scope, wrong)
		}
		if _, _, scope, wrong := asked(t, s.do(t, method, "", path)); scope != want || wrong != "" {
			t.Errorf("%s without a token asks for %q after %q", request, scope, wrong)
		}
	}
	s.change(t, putAccess("open", schema.Access{}))
	asked(t, s.with(t, text, http.MethodGet, "/v2/open/app/manifests/1"))
	if _, _, scope, _ := asked(t, s.with(t, text, http.MethodGet, "/v2/_catalog")); scope != "registry:catalog:*" {
		t.Errorf("the catalogue asks for %q", scope)
	}
	s.wantWith(t, text, http.MethodGet, "/v2/", 200)
}

func TestATokenIsGoodForItsAccountAsItIsNow(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := serve(t, data)
	s.change(t, people(t)...)
	if _, status := (engine{s, "dev", "no"}).token(t, ""); status != http.StatusUnauthorized {
		t.Errorf("a wrong password: %d", status)
	}
	login := func() string {
		t.Helper()
		text, _ := engine{s, "dev", "pw-dev"}.token(t, "")
		s.wantWith(t, text, http.MethodGet, "/v2/", 200)
		return text
	}
	text := login()
	s.wantWith(t, text, http.MethodPost, "/v2/team/app"+uploads, 202) // it was asked for without a scope
	s.wantWith(t, text, http.MethodPost, "/v2/other/app"+uploads, 403)
	s.change(t, putAccess("team", schema.Access{Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: schema.Pull})}))
	s.wantWith(t, text, http.MethodPost, "/v2/team/app"+uploads, 403)

	s.stop(t)
	s = serve(t, data)
	s.wantWith(t, text, http.MethodGet, "/v2/", 200) // as a push goes on that was under way
	root, _ := engine{s, "root", "pw-root"}.token(t, "")
	s.wantWith(t, root, http.MethodPost, "/v2/team/app"+uploads, 202)
	for _, path := range []string{"/ocisync/v1/state", "/metrics", "/token"} {
		resp := s.with(t, root, http.MethodGet, path)
		if resp.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), `Basic realm="ocisync"`) {
			t.Errorf("%s takes a token: %d, %q", path, resp.StatusCode, resp.Header.Get("WWW-Authenticate"))
		}
	}

	refused := func(why string) {
		t.Helper()
		for _, path := range []string{"/v2/", "/v2/open/app/tags/list", "/v2/_catalog"} {
			if _, _, _, wrong := asked(t, s.with(t, text, http.MethodGet, path)); wrong != "invalid_token" {
				t.Errorf("%s: %s says %q", why, path, wrong)
			}
		}
		s.wantWith(t, root, http.MethodGet, "/v2/", 200)
	}
	s.change(t, putUser(t, "dev", false)) // the same password, with another hash
	refused("a new password")
	text = login()
	s.change(t, embedded.Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindUser, Name: "dev"}}, Delete: true})
	refused("no account")
	s.change(t, putUser(t, "dev", false))
	refused("another account")
	text = ""
	refused("none")
}

func TestAskingForTokensIsLimitedAndRecordedAsLoginsAre(t *testing.T) {
	dir := t.TempDir()
	limits := embedded.DefaultLimits()
	limits.Failures = embedded.Limit{PerSecond: 0.001, Burst: 3}
	limits.Logins = embedded.Limit{PerSecond: 1e6, Burst: 1e6}
	limits.Tokens = embedded.Limit{PerSecond: 0.001, Burst: 12}
	s := serveWith(t, embedded.Options{Data: filepath.Join(dir, "data"), Limits: &limits})
	log := filepath.Join(dir, "audit.log")
	s.change(t, append(people(t), embedded.Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindAudit}, Spec: &schema.Audit{Log: &log}}})...)
	for i, want := range []int{401, 401, 401, 429} {
		for _, name := range []string{"dev", "nobody"} { // no answer tells which is an account
			if _, got := (engine{s, name, fmt.Sprint("guess ", i)}).token(t, ""); got != want {
				t.Errorf("guess %d of %s: %d, want %d", i+1, name, got, want)
			}
		}
	}
	for i, want := range []int{200, 200, 200, 200, 429} {
		if _, got := (engine{s, "", ""}).token(t, ""); got != want {
			t.Errorf("token %d: %d, want %d", i+1, got, want)
		}
	}
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, account := range []string{"dev", "unknown"} {
		if words := `"account":"` + account + `"`; !strings.Contains(string(b), words) || !strings.Contains(string(b), `"action":"login","method":"GET","status":401,"result":"refused"`) {
			t.Errorf("the audit log has no %s:\n%s", words, b)
		}
	}
}
