package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/secret"
	"github.com/ocisync/ocisync/pkg/state"
	"github.com/ocisync/ocisync/schema"
)

const password = "c4nary-Zq81-do-not-print"

// The resolver is what providers take their secrets from.
var _ providers.Secrets = (*secret.Resolver)(nil)

func TestMain(m *testing.M) {
	logrus.SetOutput(io.Discard) // Distribution's log
	// Each Distribution leaves its event broadcaster behind, Shutdown or not.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/docker/go-events.(*Broadcaster).run"))
}

// registry is Distribution in process; with a user if wanted.
func registry(t testing.TB, user string) http.Handler {
	t.Helper()
	c := &configuration.Configuration{Version: configuration.CurrentVersion}
	c.Log.AccessLog.Disabled = true
	c.Storage = configuration.Storage{
		"inmemory":    configuration.Parameters{},
		"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
	}
	c.HTTP.Secret = "test"
	if user != "" {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "htpasswd")
		if err := os.WriteFile(file, fmt.Appendf(nil, "%s:%s\n", user, hash), 0o600); err != nil {
			t.Fatal(err)
		}
		c.Auth = configuration.Auth{"htpasswd": configuration.Parameters{"realm": "r", "path": file}}
	}
	app := handlers.NewApp(context.Background(), c)
	t.Cleanup(func() {
		if err := app.Shutdown(); err != nil {
			t.Error(err)
		}
	})
	return app
}

func plainTransport(t testing.TB) *http.Transport {
	t.Helper()
	tr, err := Transport(schema.TLS{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func newStore(t testing.TB, url string, auth authn.Authenticator) state.Store {
	t.Helper()
	s, err := NewStore(Options{URL: url, Transport: plainTransport(t), Auth: auth}, "prod")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStoreKeepsASealedInventoryInTheRegistry(t *testing.T) {
	url := serve(t, registry(t, "ann"))
	s := newStore(t, url, &authn.Basic{Username: "ann", Password: password})
	ctx := t.Context()
	if _, err := s.Load(ctx); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Load of nothing: %v", err)
	}
	key, err := state.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	inv := state.Inventory{Mode: "prod", Registry: plan.Registry{Type: "distribution", URL: url}}
	var prev []byte
	for serial := range int64(3) {
		inv.Serial = serial + 1
		inv.Put(state.Object{Key: schema.Key{Kind: schema.KindUser, Name: fmt.Sprint("u", serial)}, Spec: &schema.User{}, Owned: true})
		data, err := state.Seal(inv, key)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Save(ctx, data, prev); err != nil {
			t.Fatal(err)
		}
		have, err := s.Load(ctx)
		if err != nil || !bytes.Equal(have, data) {
			t.Fatalf("serial %d: %v", serial, err)
		}
		prev = have
	}
	have, trust := state.Open(prev, inv.Identity(), key.Public(), 3)
	if trust.Level != state.Signed || len(have.Objects) != 3 {
		t.Errorf("%v, %d objects", trust, len(have.Objects))
	}
}

func TestStoreWritesAnOCIArtifactManifest(t *testing.T) {
	h := registry(t, "")
	url := serve(t, h)
	if err := newStore(t, url, nil).Save(t.Context(), []byte("data"), nil); err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequest(http.MethodGet, "/v2/ocisync/state/manifests/prod", nil)
	req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json")
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	const want = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",` +
		`"config":{"mediaType":"application/vnd.oci.empty.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},` +
		`"layers":[{"mediaType":"application/vnd.ocisync.state.v1+json","size":4,"digest":"sha256:3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7"}],` +
		`"artifactType":"application/vnd.ocisync.state.v1+json"}`
	if have := rec.Body.String(); have != want {
		t.Errorf("have %s\nwant %s", have, want)
	}
}

func TestStoreRefusesToOverwriteWhatItDidNotLoad(t *testing.T) {
	ctx := t.Context()
	s := newStore(t, serve(t, registry(t, "")), nil)
	if err := s.Save(ctx, []byte("one"), []byte("zero")); !errors.Is(err, state.ErrConflict) {
		t.Errorf("over nothing: %v", err)
	}
	if err := s.Save(ctx, []byte("one"), nil); err != nil {
		t.Fatal(err)
	}
	for _, prev := range [][]byte{nil, []byte("two")} {
		if err := s.Save(ctx, []byte("x"), prev); !errors.Is(err, state.ErrConflict) {
			t.Errorf("with prev %q: %v", prev, err)
		}
	}
	if b, err := s.Load(ctx); string(b) != "one" || err != nil {
		t.Errorf("a refused Save wrote %q, %v", b, err)
	}
}

// Somebody may have pushed anything to the tag: it is judged unreadable, and
// can be replaced.
func TestStoreReturnsWhatIsNoInventoryAndReplacesIt(t *testing.T) {
	h := registry(t, "")
	s := newStore(t, serve(t, h), nil)
	if err := s.Save(t.Context(), []byte("one"), nil); err != nil {
		t.Fatal(err)
	}
	foreign := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},"layers":[]}`
	req := httptest.NewRequest(http.MethodPut, "/v2/ocisync/state/manifests/prod", strings.NewReader(foreign))
	req.Header.Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
	rec := httptest.NewRecorder()
	if h.ServeHTTP(rec, req); rec.Code != http.StatusCreated {
		t.Fatal(rec.Code, rec.Body)
	}
	data, err := s.Load(t.Context())
	if err != nil || string(data) != foreign {
		t.Fatalf("%q, %v", data, err)
	}
	if _, trust := state.Open(data, state.Identity{Mode: "prod"}, "", 0); trust.Level != state.Unreadable {
		t.Error(trust)
	}
	if err := s.Save(t.Context(), []byte("two"), data); err != nil {
		t.Fatal(err)
	}
	if b, err := s.Load(t.Context()); string(b) != "two" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

// tamper changes what a registry answers to some requests.
func tamper(h http.Handler, match string, change func(w http.ResponseWriter, rec *httptest.ResponseRecorder)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, match) {
			h.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		change(w, rec)
	})
}

func TestStoreBelievesNoDamagedOrOversizedContent(t *testing.T) {
	h := registry(t, "")
	if err := newStore(t, serve(t, h), nil).Save(t.Context(), []byte("the inventory"), nil); err != nil {
		t.Fatal(err)
	}
	body := func(text string) func(http.ResponseWriter, *httptest.ResponseRecorder) {
		return func(w http.ResponseWriter, _ *httptest.ResponseRecorder) { _, _ = io.WriteString(w, text) }
	}
	for name, c := range map[string]struct {
		match  string
		change func(http.ResponseWriter, *httptest.ResponseRecorder)
		err    string
	}{
		"changed":  {"/blobs/", body("The inventory"), "whole"},
		"cut off":  {"/blobs/", body("the inv"), "whole"},
		"too long": {"/blobs/", body("the inventory and more"), "whole"},
		"huge": {"/manifests/", func(w http.ResponseWriter, rec *httptest.ResponseRecorder) {
			w.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
			_, _ = io.WriteString(w, strings.Replace(rec.Body.String(), `"size":13`, `"size":1000000000`, 1))
		}, "MiB"},
	} {
		data, err := newStore(t, serve(t, tamper(h, c.match, c.change)), nil).Load(t.Context())
		if err == nil || errors.Is(err, fs.ErrNotExist) || data != nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	gone := tamper(h, "/blobs/", func(w http.ResponseWriter, _ *httptest.ResponseRecorder) { http.Error(w, "{}", http.StatusNotFound) })
	if data, err := newStore(t, serve(t, gone), nil).Load(t.Context()); err != nil || !json.Valid(data) || bytes.Contains(data, []byte("the inventory")) {
		t.Errorf("collected: %q, %v", data, err)
	}
}

func TestStoreErrorsSayWhatIsWrongAndNoSecret(t *testing.T) {
	status := func(code int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v2/" {
				return
			}
			http.Error(w, "<html>\x1b[31m"+r.Header.Get("Authorization"), code)
		})
	}
	basic := &authn.Basic{Username: "ann", Password: password}
	for name, c := range map[string]struct {
		url  string
		auth authn.Authenticator
		want error
	}{
		"no login":       {serve(t, registry(t, "ann")), nil, providers.ErrUnauthorized},
		"wrong login":    {serve(t, registry(t, "bob")), basic, providers.ErrUnauthorized},
		"forbidden":      {serve(t, status(403)), basic, providers.ErrForbidden},
		"unwell":         {serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })), basic, providers.ErrUnreachable},
		"down":           {serve(t, status(503)), basic, providers.ErrUnreachable},
		"not a registry": {serve(t, http.NotFoundHandler()), basic, providers.ErrNotRegistry},
		"nobody there":   {"http://127.0.0.1:1", basic, providers.ErrUnreachable},
	} {
		s := newStore(t, c.url, c.auth)
		_, err := s.Load(t.Context())
		saved := s.Save(t.Context(), []byte("x"), nil)
		for _, err := range []error{err, saved} {
			if !errors.Is(err, c.want) || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
			var e *providers.Error
			if !errors.As(err, &e) || e.Remedy == "" {
				t.Errorf("%s: no remedy: %v", name, err)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\x1b\n") {
				t.Errorf("%s: %q", name, err)
			}
			if err != nil && strings.Contains(err.Error(), password) {
				t.Errorf("%s: holds the password", name)
			}
		}
	}
}

func TestStoreRefusesAModeThatIsNoTag(t *testing.T) {
	for _, mode := range []string{"", "a/b", "..", "a b"} {
		if _, err := NewStore(Options{URL: "http://localhost:1", Transport: http.DefaultTransport}, mode); err == nil {
			t.Errorf("%q was accepted", mode)
		}
	}
}
