package embedded_test

import (
	"context"
	"net/http"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/schema"
)

// Distribution never ends the goroutine that broadcasts its events, one per
// registry opened.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/docker/go-events.(*Broadcaster).run"))
}

// served is a registry with a client of its admin socket.
type served struct {
	*embedded.Registry
	*embedded.Client
	data string
	http *http.Client
	end  func() []error // once
}

// stop ends the registry before its test does.
func (s *served) stop(t *testing.T) {
	t.Helper()
	for _, err := range s.end() {
		t.Error(err)
	}
}

// bucketFor is the bucket in which a registry keeps its content; a test that
// runs others in one sets it.
var bucketFor = func(*testing.T, string) embedded.Bucket { return embedded.Bucket{} }

// serve runs a registry on a free port until the test ends.
func serve(t *testing.T, data string) *served {
	t.Helper()
	return serveWith(t, embedded.Options{Data: data})
}

func serveWith(t *testing.T, o embedded.Options) *served {
	t.Helper()
	o.Listen, o.Command = "127.0.0.1:0", "ocisync test"
	data := o.Data
	o.Bucket = bucketFor(t, data)
	r, err := embedded.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx) }()
	c, err := embedded.Dial(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}}
	end := sync.OnceValue(func() (errs []error) {
		client.CloseIdleConnections()
		for _, step := range []func() error{c.Close, func() error { stop(); return <-done }, r.Close} {
			if err := step(); err != nil {
				errs = append(errs, err)
			}
		}
		return errs
	})
	s := &served{r, c, data, client, end}
	t.Cleanup(func() { s.stop(t) })
	return s
}

// quickHash is a bcrypt hash that costs little to check.
func quickHash(t *testing.T, password string) string {
	t.Helper()
	b, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func putUser(t *testing.T, name string, admin bool) embedded.Change {
	t.Helper()
	return embedded.Change{
		Object:       schema.Resource{Key: schema.Key{Kind: schema.KindUser, Name: name}, Spec: &schema.User{Admin: &admin}},
		PasswordHash: quickHash(t, "pw-"+name),
	}
}

func putNamespace(name string) embedded.Change {
	return embedded.Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindNamespace, Name: name}, Spec: &schema.Namespace{}}}
}

func putAccess(name string, spec schema.Access) embedded.Change {
	return embedded.Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindAccess, Name: name}, Spec: &spec}}
}

func putGroup(name string, users ...string) embedded.Change {
	return embedded.Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindGroup, Name: name}, Spec: &schema.Group{Users: schema.NewSet(users...)}}}
}

func rights(r schema.Rights) *schema.Rights { return &r }

// change applies the changes and fails the test for one that failed.
func (s *served) change(t *testing.T, changes ...embedded.Change) {
	t.Helper()
	results, err := s.Change(t.Context(), changes)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
}

// as is the option for a user's requests; "" is anonymous.
func (s *served) as(user string) []remote.Option {
	auth := authn.Anonymous
	if user != "" {
		auth = &authn.Basic{Username: user, Password: "pw-" + user}
	}
	return []remote.Option{remote.WithAuth(auth), remote.WithTransport(s.http.Transport)}
}

func (s *served) ref(t *testing.T, ref string) name.Reference {
	t.Helper()
	n, err := name.ParseReference(s.Addr()+"/"+ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func image(t *testing.T) v1.Image {
	t.Helper()
	im, err := random.Image(256, 1)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// do sends one request and returns status and headers; the body is dropped.
func (s *served) do(t *testing.T, method, user, path string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, "pw-"+user)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func TestEachSubjectHasItsRightsAndNoOther(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	s.change(t,
		putUser(t, "root", true), putUser(t, "own", false), putUser(t, "member", false), putUser(t, "plain", false), putUser(t, "boss", false),
		putGroup("ops", "member"),
		putNamespace("team"), putAccess("team", schema.Access{
			Authenticated: rights(schema.Pull),
			Users:         schema.NewGrants(schema.Grant{Name: "own", Rights: schema.Push}, schema.Grant{Name: "boss", Rights: schema.Admin}),
			Groups:        schema.NewGrants(schema.Grant{Name: "ops", Rights: schema.Delete}),
		}),
		putNamespace("public"), putAccess("public", schema.Access{Anonymous: rights(schema.Pull)}),
		putNamespace("drop"), putAccess("drop", schema.Access{Anonymous: rights(schema.Pull | schema.Push | schema.Delete)}),
	)
	im := image(t)
	digest, err := im.Digest()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		user, repository   string
		pull, push, delete int // HTTP status
	}{
		{"", "team/app", 401, 401, 401},
		{"plain", "team/app", 200, 403, 403},
		{"own", "team/app", 200, 201, 403},
		{"member", "team/app", 200, 403, 202},
		{"boss", "team/app", 200, 201, 202},
		{"root", "team/app", 200, 201, 202},
		{"", "public/app", 200, 401, 401},
		{"plain", "public/app", 200, 403, 403},
		{"", "drop/app", 200, 201, 202},
		{"plain", "elsewhere/app", 403, 403, 403},
		{"root", "elsewhere/app", 200, 201, 202},
		{"boss", "ocisync/state", 403, 403, 403},
		{"", "ocisync/state", 401, 401, 401},
		{"root", "ocisync/state", 200, 201, 202},
	}
	for _, tt := range tests {
		t.Run(tt.user+" in "+tt.repository, func(t *testing.T) {
			if err := remote.Write(s.ref(t, tt.repository+":there"), im, s.as("root")...); err != nil {
				t.Fatal(err)
			}
			manifests := "/v2/" + tt.repository + "/manifests/"
			if got := s.do(t, "GET", tt.user, "/v2/"+tt.repository+"/tags/list").StatusCode; got != tt.pull {
				t.Errorf("pull: status %d, want %d", got, tt.pull)
			}
			if got := pushManifest(t, s, tt.user, manifests+"new", im); got != tt.push {
				t.Errorf("push: status %d, want %d", got, tt.push)
			}
			resp := s.do(t, "DELETE", tt.user, manifests+digest.String())
			if resp.StatusCode != tt.delete {
				t.Errorf("delete: status %d, want %d", resp.StatusCode, tt.delete)
			}
			if resp.StatusCode == http.StatusForbidden {
				if got := ociCode(t, resp); got != "DENIED" {
					t.Errorf("a denial has code %q, want DENIED", got)
				}
			}
			if resp.StatusCode == http.StatusUnauthorized && resp.Header.Get("WWW-Authenticate") == "" {
				t.Error("a 401 carries no challenge")
			}
		})
	}
}

// Some clients that have no credentials send empty ones.
func TestEmptyCredentialsAreNone(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	s.change(t, putNamespace("public"), putAccess("public", schema.Access{Anonymous: rights(schema.Pull)}))
	for path, want := range map[string]int{"/v2/public/app/tags/list": 404, "/v2/closed/app/tags/list": 401, "/v2/": 401, "/metrics": 401} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("", "")
		resp, err := s.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: status %d, want %d", path, resp.StatusCode, want)
		}
	}
}

func TestPushAndPullThroughTheFrontDoor(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	s.change(t, putUser(t, "dev", false), putNamespace("team"),
		putAccess("team", schema.Access{Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: schema.Pull | schema.Push})}))
	im := image(t)
	if err := remote.Write(s.ref(t, "team/app:1"), im, s.as("dev")...); err != nil {
		t.Fatal(err)
	}
	got, err := remote.Image(s.ref(t, "team/app:1"), s.as("dev")...)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := im.Digest()
	if d, err := got.Digest(); err != nil || d != want {
		t.Errorf("pulled %v (%v), want %v", d, err, want)
	}
	if _, err := remote.Image(s.ref(t, "team/app:1"), s.as("")...); err == nil {
		t.Error("an anonymous client pulled a private image")
	}
}

func TestRulesChangeLive(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	s.change(t, putUser(t, "dev", false), putUser(t, "root", true), putNamespace("team"))
	list := func() int { return s.do(t, "GET", "dev", "/v2/team/app/tags/list").StatusCode }
	if err := remote.Write(s.ref(t, "team/app:1"), image(t), s.as("root")...); err != nil {
		t.Fatal(err)
	}
	if got := list(); got != 403 {
		t.Errorf("without a rule: status %d, want 403", got)
	}
	s.change(t, putAccess("team", schema.Access{Authenticated: rights(schema.Pull)}))
	if got := list(); got != 200 {
		t.Errorf("with the rule: status %d, want 200", got)
	}
	s.change(t, putAccess("team", schema.Access{}))
	if got := list(); got != 403 {
		t.Errorf("after the rule went: status %d, want 403", got)
	}
	leave := schema.Resource{Key: schema.Key{Kind: schema.KindSettings}, Spec: &schema.Settings{Values: schema.Values{{Path: embedded.OutsidePath, JSON: `"leave"`}}}}
	s.change(t, embedded.Change{Delete: true, Object: schema.Resource{Key: schema.Key{Kind: schema.KindNamespace, Name: "team"}}}, embedded.Change{Object: leave})
	if got := list(); got != 200 {
		t.Errorf("outside every namespace with leave: status %d, want 200", got)
	}
}

func TestChangedAccountForgetsItsPassword(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	s.change(t, putUser(t, "dev", false))
	login := func() int { return s.do(t, "GET", "dev", "/v2/").StatusCode }
	if got := login(); got != 200 {
		t.Fatalf("status %d, want 200", got)
	}
	c := putUser(t, "dev", false)
	c.PasswordHash = quickHash(t, "another")
	s.change(t, c)
	if got := login(); got != 401 {
		t.Errorf("the old password still works: status %d", got)
	}
	s.change(t, putUser(t, "dev", false))
	if got := login(); got != 200 {
		t.Fatalf("status %d, want 200", got)
	}
	s.change(t, embedded.Change{Delete: true, Object: schema.Resource{Key: schema.Key{Kind: schema.KindUser, Name: "dev"}}})
	if got := login(); got != 401 {
		t.Errorf("a deleted account still logs in: status %d", got)
	}
}

func TestBareV2AsksForTheLogin(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	s.change(t, putUser(t, "dev", false))
	if resp := s.do(t, "GET", "", "/v2/"); resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("anonymous /v2/: status %d, challenge %q", resp.StatusCode, resp.Header.Get("WWW-Authenticate"))
	}
	for user, want := range map[string]int{"dev": 200, "stranger": 401} {
		if got := s.do(t, "GET", user, "/v2/").StatusCode; got != want {
			t.Errorf("%s: status %d, want %d", user, got, want)
		}
	}
	if got := s.do(t, "GET", "", "/healthz").StatusCode; got != 200 {
		t.Errorf("/healthz: status %d, want 200", got)
	}
	if got := s.do(t, "GET", "", "/elsewhere").StatusCode; got != 404 {
		t.Errorf("/elsewhere: status %d, want 404", got)
	}
}
