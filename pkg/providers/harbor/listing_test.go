package harbor_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
)

func listed(pairs ...string) providers.Listed {
	out := providers.Listed{Tags: map[string]string{}, Referred: map[string]bool{}}
	for _, p := range pairs {
		tag, digest, _ := strings.Cut(p, "=")
		out.Tags[tag] = digest
	}
	return out
}

func digestOf(n int) string { return fmt.Sprintf("sha256:%064x", n) }

// A page tells a hundred images of a project. Of a cache nothing is told, nor of what
// nobody wants to know, and of few of many repositories each is listed by itself.
func TestArtifactsTellTheTagsOfRepositories(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a", "namespace/b", "namespace/c", hub, `namespace/cache {"proxy_of":"hub"}`)
	want := map[string]providers.Listed{"a/many": listed(), "a/sub/app": listed("v1=" + digestOf(1))}
	push := func(repository string, n int, cached bool, tags ...string) {
		t.Helper()
		if err := h.Push(harbortest.Image{Repository: repository, Tags: tags, Digest: digestOf(n), Cached: cached}); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 250 {
		tag := fmt.Sprintf("v%d", n)
		push("a/many", n, false, tag)
		want["a/many"].Tags[tag] = digestOf(n)
	}
	push("a/many", 999, false)
	push("a/sub/app", 1, false, "v1")
	push("cache/app", 1, true, "v1")
	for n := range 10 {
		push(fmt.Sprintf("b/app%d", n), n, false, "v1")
	}
	want["b/app3"] = listed("v1=" + digestOf(3))
	h.Forget()
	got, err := p.List(t.Context(), []string{"a/many", "a/sub/app", "b/app3", "cache/app", "c/none", "none/app", "app"})
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	asked := map[string]int{}
	for _, r := range h.Requests() {
		if strings.Contains(r.Path, "/artifacts") {
			path, _, _ := strings.Cut(r.Path, "?")
			asked[r.Method+" "+path]++
		}
	}
	pages := map[string]int{"GET /api/v2.0/projects/a/artifacts": 3, "GET /api/v2.0/projects/b/repositories/app3/artifacts": 1}
	if d := cmp.Diff(pages, asked); d != "" {
		t.Errorf("it asks (-want +got):\n%s", d)
	}
}

// stored puts a blob or a manifest, and says its digest.
func (h standIn) stored(t *testing.T, path, kind, body string) (digest string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPut, path, strings.NewReader(body))
	r.Header.Set("Content-Type", kind)
	r.SetBasicAuth("admin", h.password(t))
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != http.StatusCreated {
		t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(body)))
}

func TestAccessoriesTellThatSomethingRefersToAnImage(t *testing.T) {
	for _, version := range []string{"", "v2.11.2-b1"} {
		h := newStandIn(t, harbortest.Options{Version: version})
		p := h.open(t)
		apply(t, p, "namespace/a")
		put := func(name, manifest string) string {
			t.Helper()
			return h.stored(t, "/v2/a/app/manifests/"+name, "application/vnd.oci.image.manifest.v1+json", manifest)
		}
		h.stored(t, "/v2/a/app/blobs/uploads/1?digest=sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "application/octet-stream", "{}")
		const config = `"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]`
		image := put("v1", `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",`+config+`}`)
		other := put("v2", `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","annotations":{"a":"b"},`+config+`}`)
		put("signature", `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",`+config+`,"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"`+image+`","size":300}}`)
		want := listed("v1="+image, "v2="+other)
		want.Referred[image] = true
		got, err := p.List(t.Context(), []string{"a/app"})
		if d := cmp.Diff(map[string]providers.Listed{"a/app": want}, got); err != nil || d != "" {
			t.Errorf("%q: %v (-want +got):\n%s", version, err, d)
		}
	}
}

// A project whose list the account may not see is left out; where a list breaks off,
// nothing is told at all.
func TestAListOfArtifactsThatBreaksOffTellsNothing(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a", "namespace/b")
	for n := range 150 {
		if err := h.Push(harbortest.Image{Repository: "a/app", Tags: []string{fmt.Sprintf("v%d", n)}, Digest: digestOf(n)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Push(harbortest.Image{Repository: "b/app", Tags: []string{"v1"}, Digest: digestOf(1)}); err != nil {
		t.Fatal(err)
	}
	all := []string{"a/app", "b/app"}
	h.Inject(harbortest.Fault{Path: "/api/v2.0/projects/a/artifacts", Status: http.StatusForbidden})
	if got, err := p.List(t.Context(), all); err != nil || !cmp.Equal(got, map[string]providers.Listed{"b/app": listed("v1=" + digestOf(1))}) {
		t.Errorf("forbidden: %v, %v", got, err)
	}
	h.Heal()
	h.Inject(harbortest.Fault{Path: "/api/v2.0/projects/a/artifacts", From: 2, Status: http.StatusBadRequest})
	if got, err := p.List(t.Context(), all); !errors.Is(err, providers.ErrInvalid) || got != nil {
		t.Errorf("broken off: %v, %v", got, err)
	}
}
