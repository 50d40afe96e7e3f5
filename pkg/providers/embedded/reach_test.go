package embedded_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/embedded"
	"github.com/ocisync/ocisync/schema"
)

func TestAnotherHostGoesByTheURL(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	url := up(t, data)
	mustWrite(t, newProvider(t, data, url), firstChanges()...)
	// as seen from another host: the process serves the directory, and it is not here
	if err := os.Rename(data, data+".away"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Rename(data+".away", data); err != nil {
			t.Error(err)
		}
	})
	p := newProvider(t, data, url)
	if st := read(t, p, allKinds()); len(st.Resources) != 5 {
		t.Fatalf("%d objects read by URL, want 5", len(st.Resources))
	}
	if ok, err := p.Check(t.Context(), schema.Key{Kind: schema.KindUser, Name: "dev"}, "password", schema.SecretRef{Env: "DEV"}); err != nil || !ok {
		t.Errorf("check by URL: %v, %v", ok, err)
	}
	rt, release, err := p.Transport(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://any.example.com/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("/v2/ with the login: %v, %v", resp, err)
	}
	resp.Body.Close()
	if _, err := os.Stat(data); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory was made here: %v", err)
	}
}

// A login that cannot be used is not one that is not accepted.
func TestALoginThatCannotBeUsedIsToldFromAWrongOne(t *testing.T) {
	url := up(t, filepath.Join(t.TempDir(), "data"))
	text := func(s string) *string { return &s }
	secret := &schema.SecretRef{Env: "ADMIN"}
	for name, tt := range map[string]struct {
		registry schema.Registry
		says     string
	}{
		"none":        {schema.Registry{}, "the mode has no registry.login, and a registry that is reached by its URL asks for one; name an admin user"},
		"admin alone": {schema.Registry{Admin: &schema.Login{User: text("root"), Password: secret}}, "registry.admin is not used at this registry; name an admin user"},
		"a robot":     {schema.Registry{Login: &schema.Login{Robot: text("ci"), Password: secret}}, `registry.login is the robot "ci", and no robot administers this registry; name an admin user`},
		"no password": {schema.Registry{Login: &schema.Login{User: text("root")}}, `registry.login names user "root" and no password; add password`},
		"wrong":       {schema.Registry{Login: &schema.Login{User: text("nobody"), Password: secret}}, "the login is not accepted"},
	} {
		tt.registry.Type, tt.registry.URL = schema.TypeDistribution, url
		tt.registry.Run = &schema.Run{Driver: schema.DriverEmbedded, Data: filepath.Join(t.TempDir(), "absent")}
		p, err := embedded.New(tt.registry, secrets{"ADMIN": "a wrong password"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Read(t.Context(), schema.ScopeOf(schema.KindUser))
		if !errors.Is(err, providers.ErrUnauthorized) || !strings.Contains(err.Error(), tt.says) || strings.Count(err.Error(), url) != 1 {
			t.Errorf("%s: %v; want %q", name, err, tt.says)
		}
	}
}

func TestDownIsNeverEmpty(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	html := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "<html>hello</html>") }))
	defer html.Close()
	tests := map[string]struct {
		data, url string
		kind      error
		says      []string
	}{
		"directory that is none":     {file, "http://" + porttest.Address(t), providers.ErrUnreachable, []string{"data directory", "does not answer", "ocisync up"}},
		"host elsewhere, no answer":  {filepath.Join(dir, "absent"), "http://registry.invalid:5000", providers.ErrUnreachable, []string{"not on this host", "does not answer", "ocisync up", "make the empty directory"}},
		"something else answers":     {filepath.Join(dir, "absent"), html.URL, providers.ErrNotRegistry, []string{"registry.url"}},
		"another directory's answer": {filepath.Join(dir, "absent"), up(t, filepath.Join(t.TempDir(), "other")), providers.ErrUnauthorized, []string{"registry.login"}},
	}
	for what, tt := range tests {
		t.Run(what, func(t *testing.T) {
			_, err := newProvider(t, tt.data, tt.url).Read(t.Context(), allKinds())
			if !errors.Is(err, tt.kind) {
				t.Fatalf("error %v, want %v", err, tt.kind)
			}
			for _, s := range append(tt.says, tt.url) {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("error %q does not say %q", err, s)
				}
			}
		})
	}
	mustWrite(t, newProvider(t, filepath.Join(dir, "first"), "http://"+porttest.Address(t)), firstChanges()...)
	t.Run("directory that is there counts, whatever answers at the URL", func(t *testing.T) {
		if st := read(t, newProvider(t, filepath.Join(dir, "first"), html.URL), allKinds()); len(st.Resources) != 5 {
			t.Errorf("%d objects, want 5", len(st.Resources))
		}
	})
}

// tree is every path below a directory with its content, mode and times.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var content []byte
		if info.Mode().IsRegular() {
			if content, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		out[path] = fmt.Sprintf("%v %v %x", info.Mode(), info.ModTime().UnixNano(), content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPlanLeavesTheDataDirectoryByteIdentical(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	p := newProvider(t, data, "http://"+porttest.Address(t))
	lookAt := func() {
		scope := allKinds()
		scope.Repositories = []string{"apps", "ocisync"}
		read(t, p, scope)
		if _, err := p.Prepare(t.Context(), firstChanges()); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Check(t.Context(), schema.Key{Kind: schema.KindUser, Name: "root"}, "password", schema.SecretRef{Env: "ROOT"}); err != nil {
			t.Fatal(err)
		}
		rt, release, err := p.Transport(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		_, _ = remote.Get(stateRef(t), remote.WithTransport(rt)) // there or not
	}
	before := tree(t, dir)
	lookAt()
	if d := cmp.Diff(before, tree(t, dir)); d != "" {
		t.Fatalf("looking at a directory that is absent changed: %s", d)
	}
	mustWrite(t, p, firstChanges()...)
	pushState(t, p)
	before = tree(t, dir)
	lookAt()
	if d := cmp.Diff(before, tree(t, dir)); d != "" {
		t.Errorf("looking changed: %s", d)
	}
}

func stateRef(t *testing.T) name.Reference {
	t.Helper()
	ref, err := name.ParseReference("registry.example.com/ocisync/state:dev", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// pushState pushes an artifact as ocisync itself and pulls it again.
func pushState(t *testing.T, p *embedded.Provider) {
	t.Helper()
	im, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	rt, release, err := p.Transport(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := remote.Write(stateRef(t), im, remote.WithTransport(rt)); err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Image(stateRef(t), remote.WithTransport(rt)); err != nil {
		t.Fatal(err)
	}
	foreign, err := name.ParseReference("registry.example.com/apps/app:1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(foreign, im, remote.WithTransport(rt)); err == nil {
		t.Error("ocisync itself pushed outside its own namespace")
	}
}

func TestTransportReachesOcisyncsOwnNamespace(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	stopped := newProvider(t, data, "http://"+porttest.Address(t))
	t.Run("stopped", func(t *testing.T) { pushState(t, stopped) })
	t.Run("served", func(t *testing.T) {
		p := newProvider(t, data, up(t, data))
		pushState(t, p)
		scope := schema.ScopeOf()
		scope.Repositories = []string{"ocisync"}
		want := []schema.RepositoryInfo{{Name: "ocisync/state", Tags: 1}}
		if d := cmp.Diff(want, read(t, p, scope).Repositories); d != "" {
			t.Error(d)
		}
	})
}
