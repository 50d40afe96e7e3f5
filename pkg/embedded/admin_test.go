package embedded_test

import (
	"errors"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/schema"
)

func (s *served) dialURL(t *testing.T, user, password string) *embedded.Client {
	t.Helper()
	c := embedded.DialURL(&url.URL{Scheme: "http", Host: s.Addr()}, nil, user, password)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestAdminAPIIsForAdminUsers(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	s.change(t, putUser(t, "root", true), putUser(t, "dev", false))
	for _, tt := range []struct {
		user, password string
		want           error
	}{
		{"", "", embedded.ErrUnauthorized},
		{"root", "wrong", embedded.ErrUnauthorized},
		{"stranger", "x", embedded.ErrUnauthorized},
		{"dev", "pw-dev", embedded.ErrForbidden},
		{"root", "pw-root", nil},
	} {
		c := s.dialURL(t, tt.user, tt.password)
		_, errs := c.State(t.Context(), nil)
		_, errc := c.Change(t.Context(), []embedded.Change{putNamespace("x")})
		_, errk := c.Check(t.Context(), "dev", "pw-dev")
		_, errr := c.Repositories(t.Context(), []string{"*"})
		_, erri := c.Info(t.Context())
		for what, err := range map[string]error{"state": errs, "changes": errc, "check": errk, "repositories": errr, "info": erri} {
			if !errors.Is(err, tt.want) {
				t.Errorf("%s as %q: error %v, want %v", what, tt.user, err, tt.want)
			}
		}
	}
}

func TestAdminAPIRefusesWhatIsTooLargeOrNotJSON(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	s.change(t, putUser(t, "root", true))
	post := func(contentType, body string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.Addr()+"/ocisync/v1/check", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("root", "pw-root")
		req.Header.Set("Content-Type", contentType)
		resp, err := s.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for _, tt := range []struct {
		contentType, body string
		want              int
	}{
		{"application/json", `{"user":"root","password":"pw-root"}`, 200},
		{"text/plain", `{"user":"root","password":"pw-root"}`, 415},
		{"application/json", `{"user":"root","more":1}`, 400},
		{"application/json", `{"user":"` + strings.Repeat("x", 20<<10) + `"}`, 413},
	} {
		if got := post(tt.contentType, tt.body); got != tt.want {
			t.Errorf("%s %.40s: status %d, want %d", tt.contentType, tt.body, got, tt.want)
		}
	}
	for _, path := range []string{"nothing", "state?kind=unknown"} {
		if got := s.do(t, "GET", "root", "/ocisync/v1/"+path).StatusCode; got != 404 && got != 400 {
			t.Errorf("%s: status %d", path, got)
		}
	}
}

func TestStateNeverTellsAHash(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	s.change(t, putUser(t, "root", true))
	resp := s.do(t, "GET", "root", "/ocisync/v1/state")
	b := make([]byte, 4<<10)
	n, _ := resp.Body.Read(b)
	if strings.Contains(string(b[:n]), "$2a$") || !strings.Contains(string(b[:n]), `"unread":["password"]`) {
		t.Errorf("state is %s", b[:n])
	}
}

func TestKindsSelectTheState(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	s.change(t, putUser(t, "root", true), putGroup("g", "root"), putNamespace("n"), putAccess("n", schema.Access{}))
	live, err := s.State(t.Context(), []schema.Kind{schema.KindGroup, schema.KindAccess})
	if err != nil {
		t.Fatal(err)
	}
	st := schema.State{Resources: live.Objects}
	if d := cmp.Diff([]schema.Kind{schema.KindAccess, schema.KindGroup}, st.Kinds()); d != "" {
		t.Error(d)
	}
}

func TestRevisionGrowsWithEveryChangeAndNoOther(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	revision := func() uint64 {
		live, err := s.State(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return live.Revision
	}
	s.change(t, putNamespace("a"), putNamespace("b"))
	one := revision()
	s.change(t, putNamespace("a"))
	if got := revision(); got != one {
		t.Errorf("writing what holds made revision %d of %d", got, one)
	}
	s.change(t, putAccess("a", schema.Access{}))
	if got := revision(); got <= one {
		t.Errorf("revision %d after %d", got, one)
	}
	gone := embedded.Change{Delete: true, Object: schema.Resource{Key: schema.Key{Kind: schema.KindNamespace, Name: "a"}}}
	s.change(t, gone)
	live, err := s.State(t.Context(), nil)
	if err != nil || len(live.Objects) != 1 {
		t.Errorf("after the namespace went: %v, %v; want namespace/b alone", live.Objects, err)
	}
	two := revision()
	s.change(t, gone)
	if got := revision(); got != two {
		t.Errorf("deleting what is absent made revision %d of %d", got, two)
	}
}

func TestRepositoriesAreSelectedBySegments(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	s.change(t, putUser(t, "root", true))
	for _, ref := range []string{"a/x:1", "a/x:2", "a/y/z:1", "ab/x:1", "b:1"} {
		if err := remote.Write(s.ref(t, ref), image(t), s.as("root")...); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		names []string
		want  []schema.RepositoryInfo
	}{
		{[]string{"a"}, []schema.RepositoryInfo{{Name: "a/x", Tags: 2}, {Name: "a/y/z", Tags: 1}}},
		{[]string{"a/x", "b"}, []schema.RepositoryInfo{{Name: "a/x", Tags: 2}, {Name: "b", Tags: 1}}},
		{[]string{"*"}, []schema.RepositoryInfo{{Name: "a/x", Tags: 2}, {Name: "a/y/z", Tags: 1}, {Name: "ab/x", Tags: 1}, {Name: "b", Tags: 1}}},
		{nil, []schema.RepositoryInfo{}},
	} {
		got, err := s.Repositories(t.Context(), tt.names)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%v: %s", tt.names, d)
		}
	}
}

// Sizes are of what a repository links to, each once, served or not.
func TestSizesAreOfWhatLiesThere(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := serve(t, data)
	s.change(t, putUser(t, "root", true))
	img := image(t)
	for _, ref := range []string{"a/x:1", "a/x:2", "b:1"} {
		if err := remote.Write(s.ref(t, ref), img, s.as("root")...); err != nil {
			t.Fatal(err)
		}
	}
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	one, err := img.Size()
	if err != nil {
		t.Fatal(err)
	}
	one += m.Config.Size
	for _, l := range m.Layers {
		one += l.Size
	}
	for _, tt := range []struct {
		names []string
		want  map[string]int64
	}{
		{[]string{"a"}, map[string]int64{"a/x": one}},
		{[]string{"*"}, map[string]int64{"a/x": one, "b": one}},
	} {
		got, err := s.Sizes(t.Context(), tt.names)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%v: %s", tt.names, d)
		}
	}
}
