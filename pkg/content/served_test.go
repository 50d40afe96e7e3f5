package content

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/ocisync/ocisync/pkg/providers/oci"
	"github.com/ocisync/ocisync/schema"
)

// served is a Distribution in process, with something in its way where a test wants it.
type served struct {
	*httptest.Server
	mu    sync.Mutex
	asked map[string]int // by method and kind of address
	// before sees each request, and answers itself where it returns true.
	before func(w http.ResponseWriter, r *http.Request) bool
}

func serve(t testing.TB) *served {
	t.Helper()
	config := &configuration.Configuration{}
	config.Storage = configuration.Storage{
		"inmemory": {}, "delete": {"enabled": true},
		"maintenance": {"uploadpurging": map[any]any{"enabled": false}},
	}
	config.Catalog.MaxEntries = 1000
	app := handlers.NewApp(context.Background(), config)
	s := &served{asked: map[string]int{}}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked[r.Method+" "+sort(r.URL.Path)]++
		before := s.before
		s.mu.Unlock()
		if before == nil || !before(w, r) {
			app.ServeHTTP(w, r)
		}
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of what the tests break off
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// sort is what kind of thing an address names.
func sort(path string) string {
	for _, kind := range []string{"uploads", "blobs", "manifests", "tags", "referrers", "_catalog"} {
		if strings.Contains(path, "/"+kind) {
			return kind
		}
	}
	return path
}

// between has the tests' own hand in the way.
func (s *served) between(f func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

// forget begins to count anew.
func (s *served) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = map[string]int{}
}

func (s *served) open(t testing.TB) *Registry {
	t.Helper()
	rt, err := oci.Transport(schema.TLS{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rt.CloseIdleConnections)
	r, err := Open(Endpoint{URL: s.URL, Transport: rt, Push: true})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fill puts content into a registry by the plainest requests there are.
type fill struct {
	t testing.TB
	s *served
}

func (f fill) do(method, path, kind string, body []byte) *http.Response {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), method, path, bytes.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		f.t.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, text)
	}
	return resp
}

func digestOf(b []byte) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", sha256.Sum256(b))}
}

func (f fill) blob(repository string, b []byte) v1.Descriptor {
	f.t.Helper()
	at := f.do(http.MethodPost, f.s.URL+"/v2/"+repository+"/blobs/uploads/", "", nil).Header.Get("Location")
	if !strings.Contains(at, "://") {
		at = f.s.URL + at
	}
	f.do(http.MethodPut, at+"&digest="+digestOf(b).String(), "application/octet-stream", b)
	return v1.Descriptor{MediaType: types.OCILayer, Digest: digestOf(b), Size: int64(len(b))}
}

func (f fill) manifest(repository, name string, v any) v1.Descriptor {
	f.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		f.t.Fatal(err)
	}
	var said struct {
		MediaType types.MediaType `json:"mediaType"`
	}
	if err := json.Unmarshal(b, &said); err != nil {
		f.t.Fatal(err)
	}
	d := v1.Descriptor{MediaType: said.MediaType, Digest: digestOf(b), Size: int64(len(b))}
	if name == "" {
		name = d.Digest.String()
	}
	f.do(http.MethodPut, f.s.URL+"/v2/"+repository+"/manifests/"+name, string(said.MediaType), b)
	return d
}

// image makes one of layers that are given.
func (f fill) image(repository, tag string, layers ...[]byte) v1.Descriptor {
	f.t.Helper()
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: f.blob(repository, []byte(`{"of":"`+repository+tag+`"}`))}
	m.Config.MediaType = types.OCIConfigJSON
	for _, l := range layers {
		m.Layers = append(m.Layers, f.blob(repository, l))
	}
	return f.manifest(repository, tag, m)
}

// layer is a text of a length that nobody else has.
func layer(seed uint64, size int) []byte {
	b := make([]byte, size)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// tally is how a copy went.
type tally struct {
	copied, same int
	failed       []Event
	moved        Moved
	err          error // all that failed
}

// note is a Report that counts.
func (out *tally) note() func(Event) {
	var mu sync.Mutex
	return func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		switch e.Outcome {
		case Copied:
			out.copied++
		case Same:
			out.same++
		case Failed:
			out.failed, out.err = append(out.failed, e), errors.Join(out.err, e.Err)
		}
	}
}

func (c *Copier) tally(ctx context.Context, items []Item) tally {
	var out tally
	c.Report = out.note()
	out.moved = c.Copy(ctx, items)
	return out
}

func TestMain(m *testing.M) {
	logrus.SetLevel(logrus.PanicLevel)                                                                   // Distribution writes a line for each request
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/docker/go-events.(*Broadcaster).run")) // which Distribution never ends
}
