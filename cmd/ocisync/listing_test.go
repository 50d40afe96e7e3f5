package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	store "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
)

// zotStandIn answers as a Zot with the search extension does: what it holds, by /v2/,
// and of that the images by one query. As Zot's, the answer has no tags that hold a
// signature, nor those of indexes of referrers.
type zotStandIn struct {
	url     string
	inner   http.Handler
	mu      sync.Mutex
	asked   []string
	images  map[string]map[string]string // by repository and tag the digest
	signed  map[string]bool              // by repository@digest
	refer   map[string][]string
	without bool // the extension is off
	partial bool // its answer breaks off
}

func newZotStandIn(t *testing.T) *zotStandIn {
	t.Helper()
	z := &zotStandIn{
		inner:  store.New(store.WithReferrersSupport(true), store.Logger(log.New(io.Discard, "", 0))),
		images: map[string]map[string]string{}, signed: map[string]bool{}, refer: map[string][]string{},
	}
	s := httptest.NewServer(z)
	t.Cleanup(s.Close)
	z.url = s.URL
	return z
}

func (z *zotStandIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asked = append(z.asked, r.Method+" "+r.URL.Path)
	if r.URL.Path == "/v2/_zot/ext/search" {
		z.search(w, r)
		return
	}
	repository, name, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/manifests/")
	if ok && r.Method == http.MethodPut {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		z.pushed(repository, name, body)
	}
	z.inner.ServeHTTP(w, r)
}

// pushed is what Zot notes of a manifest.
func (z *zotStandIn) pushed(repository, name string, body []byte) {
	var m struct {
		ArtifactType string         `json:"artifactType"`
		Subject      *v1.Descriptor `json:"subject"`
	}
	_ = json.Unmarshal(body, &m) // what is none is refused
	if of := regexp.MustCompile(`^sha256-([0-9a-f]{64})(\.sig)?$`).FindStringSubmatch(name); of != nil {
		if of[2] != "" {
			z.signed[repository+"@sha256:"+of[1]] = true
		}
		return
	}
	if m.Subject != nil {
		at := repository + "@" + m.Subject.Digest.String()
		if strings.Contains(m.ArtifactType, "notary") {
			z.signed[at] = true
			return
		}
		z.refer[at] = append(z.refer[at], digestOf(body))
	}
	if strings.Contains(name, ":") {
		return
	}
	if z.images[repository] == nil {
		z.images[repository] = map[string]string{}
	}
	z.images[repository][name] = digestOf(body)
}

func digestOf(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

// search answers a query of fields that Zot 2.1.6 has.
func (z *zotStandIn) search(w http.ResponseWriter, r *http.Request) {
	if z.without {
		http.NotFound(w, r)
		return
	}
	known := []string{"ImageList", "repo", "Page", "TotalCount", "Results", "RepoName", "Tag", "Digest", "IsSigned", "Referrers", "Manifests"}
	for _, word := range regexp.MustCompile(`[A-Za-z]+`).FindAllString(r.URL.Query().Get("query"), -1) {
		if !slices.Contains(known, word) {
			_, _ = fmt.Fprintf(w, `{"errors":[{"message":"Cannot query field \"%s\""}],"data":null}`, word)
			return
		}
	}
	var list []map[string]any
	for _, repository := range slices.Sorted(maps.Keys(z.images)) {
		for _, tag := range slices.Sorted(maps.Keys(z.images[repository])) {
			at := repository + "@" + z.images[repository][tag]
			refer := []map[string]string{}
			for _, d := range z.refer[at] {
				refer = append(refer, map[string]string{"Digest": d})
			}
			list = append(list, map[string]any{
				"RepoName": repository, "Tag": tag, "Digest": z.images[repository][tag], "IsSigned": z.signed[at], "Referrers": refer,
				"Manifests": []map[string]any{{"IsSigned": z.signed[at], "Referrers": refer}},
			})
		}
	}
	text, _ := json.Marshal(map[string]any{"data": map[string]any{"ImageList": map[string]any{"Page": map[string]int{"TotalCount": len(list)}, "Results": list}}})
	if z.partial {
		text = text[:len(text)/2]
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text)
}

// forget begins to count anew.
func (z *zotStandIn) forget() {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asked = nil
}

// counted is how much was asked, and how much of that wrote.
func (z *zotStandIn) counted() (all, writes int) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, a := range z.asked {
		if !strings.HasPrefix(a, "GET ") && !strings.HasPrefix(a, "HEAD ") {
			writes++
		}
	}
	return len(z.asked), writes
}

// both are a Zot and a Harbor, and the modes zot and m of them.
type both struct {
	*harborWorld
	zot *zotStandIn
}

func newBoth(t *testing.T) both {
	t.Helper()
	w := newHarborWorld(t, harbortest.Options{Fail: func(s string) { t.Error(s) }})
	z := newZotStandIn(t)
	write(t, filepath.Join(w.dir, "modes", "zot", "m.toml"), fmt.Sprintf("version = 1\n\n[registry]\ntype = \"zot\"\nurl  = %q\n\n[state]\nstore = \"dir\"\ndir   = \"../../state-zot\"\n", z.url))
	return both{w, z}
}

// put stores something in a registry as whoever pushes there does, and says where it
// is said to be.
func (b both) put(t *testing.T, to http.Handler, method, path, kind string, body []byte) (location string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, bytes.NewReader(body))
	r.Header.Set("Content-Type", kind)
	r.SetBasicAuth("admin", "Harbor12345")
	w := httptest.NewRecorder()
	if to.ServeHTTP(w, r); w.Code/100 != 2 {
		t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	return w.Header().Get("Location")
}

// blob pushes one in two steps, for Harbor takes none in one.
func (b both) blob(t *testing.T, to http.Handler, repository, digest string, raw []byte) {
	t.Helper()
	at, err := url.Parse(b.put(t, to, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", "", nil))
	if err != nil {
		t.Fatal(err)
	}
	query := at.Query()
	query.Set("digest", digest)
	b.put(t, to, http.MethodPut, at.Path+"?"+query.Encode(), "application/octet-stream", raw)
}

// image pushes one of a text, by its digest where there is no tag.
func (b both) image(t *testing.T, to http.Handler, repository, tag, text, artifact string, subject *v1.Descriptor) v1.Descriptor {
	t.Helper()
	config := []byte(fmt.Sprintf(`{"os":"linux","of":%q}`, text))
	sum, err := v1.NewHash(digestOf(config))
	if err != nil {
		t.Fatal(err)
	}
	b.blob(t, to, repository, sum.String(), config)
	m := map[string]any{
		"schemaVersion": 2, "mediaType": types.OCIManifestSchema1, "layers": []v1.Descriptor{},
		"config": v1.Descriptor{MediaType: types.OCIConfigJSON, Digest: sum, Size: int64(len(config))},
	}
	if subject != nil {
		m["subject"], m["artifactType"] = subject, artifact
	}
	if strings.HasSuffix(tag, ".sig") {
		m["layers"] = []v1.Descriptor{{MediaType: "application/vnd.dev.cosign.simplesigning.v1+json", Digest: sum, Size: int64(len(config))}}
	}
	body, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if tag == "" {
		tag = digestOf(body)
	}
	b.put(t, to, http.MethodPut, "/v2/"+repository+"/manifests/"+tag, string(types.OCIManifestSchema1), body)
	digest, err := v1.NewHash(digestOf(body))
	if err != nil {
		t.Fatal(err)
	}
	return v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: digest, Size: int64(len(body))}
}

const (
	manyProjects, manyRepositories, manyTags = 10, 20, 5 // of a project, and of a repository
	many                                     = manyProjects * manyRepositories * manyTags
)

// inStep fills both alike, and begins to count.
func (b both) inStep(t *testing.T) {
	t.Helper()
	for p := range manyProjects {
		b.api(t, http.MethodPost, "/projects", fmt.Sprintf(`{"project_name":"p%d"}`, p))
		for r := range manyRepositories {
			for tag := range manyTags {
				name := fmt.Sprintf("p%d/app%02d", p, r)
				for _, to := range []http.Handler{b.zot, b.Server} {
					b.image(t, to, name, fmt.Sprintf("v%d", tag), fmt.Sprintf("%s v%d", name, tag), "", nil)
				}
			}
		}
	}
	b.forget()
}

func (b both) forget() {
	b.zot.forget()
	b.Forget()
}

// counted is how much both were asked, and how much of that wrote.
func (b both) counted() (all, writes int) {
	all, writes = b.zot.counted()
	for _, r := range b.Requests() {
		all++
		if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Path != "/c/login" {
			writes++
		}
	}
	return all, writes
}

// sync copies all projects, and returns what it says.
func (b both) sync(t *testing.T, from, to string, more ...string) string {
	t.Helper()
	args := []string{"sync", "--from", from, "--to", to, "--yes"}
	for p := range manyProjects {
		args = append(args, "--namespace", fmt.Sprintf("p%d", p))
	}
	out, _ := b.ocisync(t, 0, append(args, more...)...)
	return out
}

func summed(copied int) string {
	return fmt.Sprintf("%d copied, %d there already, 0 failed", copied, many-copied)
}

// What is in step costs a few requests for all of it, either way round: to say what is
// there a Zot needs one query, and its catalogue; a Harbor a page for a hundred images
// or repositories, the list of its projects, and those by which it is known who asks.
func TestACopyInStepGoesByWhatRegistriesTell(t *testing.T) {
	b := newBoth(t)
	b.inStep(t)
	for way, want := range map[[2]string]int{{"zot", "m"}: 3 + 16, {"m", "zot"}: 2 + 18} {
		b.forget()
		if out := b.sync(t, way[0], way[1]); !strings.Contains(out, summed(0)) {
			t.Errorf("%s to %s: %s", way[0], way[1], out)
		}
		if all, writes := b.counted(); all != want || writes > 0 {
			t.Errorf("%s to %s: %d requests and not %d, of which %d write", way[0], way[1], all, want, writes)
		}
	}
}

// What differs is copied, that alone, and what refers to images with it, in whatever form:
// what a registry's list of images leaves out is asked for.
func TestACopyBringsWhatDiffersFromWhatRegistriesTell(t *testing.T) {
	b := newBoth(t)
	b.inStep(t)
	for _, way := range [][2]string{{"zot", "m"}, {"m", "zot"}} {
		from, to := http.Handler(b.zot), http.Handler(b.Server)
		if way[0] == "m" {
			from, to = to, from
		}
		const few = 55 // two pages of repositories, and what has a signature is asked for it
		again := func(what string, copied, most int) {
			t.Helper()
			b.forget()
			out := b.sync(t, way[0], way[1])
			all, writes := b.counted()
			if !strings.Contains(out, fmt.Sprintf("%d copied, ", copied)) || !strings.Contains(out, " 0 failed") || all > few || writes > most {
				t.Errorf("%s to %s, %s: %d requests, of which %d write: %s", way[0], way[1], what, all, writes, out)
			}
		}
		has := func(what, repository string, d v1.Descriptor) {
			t.Helper()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodHead, "/v2/"+repository+"/manifests/"+d.Digest.String(), http.NoBody)
			r.Header.Set("Accept", string(types.OCIManifestSchema1))
			r.SetBasicAuth("admin", "Harbor12345")
			w := httptest.NewRecorder()
			if to.ServeHTTP(w, r); w.Code != http.StatusOK {
				t.Errorf("%s to %s: %s is not there", way[0], way[1], what)
			}
		}
		b.image(t, from, "p3/app07", "v2", "moved "+way[0], "", nil)
		again("one that moved", 1, 3)
		b.image(t, to, "p3/app07", "v1", "moved by somebody else "+way[0], "", nil)
		again("one that moved at the target", 1, 3)
		subject := b.image(t, from, "p4/app01", "v3", "signed "+way[0], "", nil)
		again("one that is new", 1, 3)
		for _, artifact := range []string{"application/vnd.example.sbom", "application/vnd.cncf.notary.signature"} {
			refers := b.image(t, from, "p4/app01", "", artifact+way[0], artifact, &subject)
			again(artifact, 0, 3)
			has(artifact, "p4/app01", refers)
		}
		refers := b.image(t, from, "p4/app01", strings.Replace(subject.Digest.String(), ":", "-", 1)+".sig", "cosign "+way[0], "", nil)
		again("a signature of cosign", 1, 3)
		has("a signature of cosign", "p4/app01", refers)
		orphan := "sha256-" + strings.Repeat("a", 64)
		b.image(t, from, "p4/app01", orphan, "index "+way[0], "", nil)
		again("an index of nothing", 1, 3)
		b.image(t, from, "p5/app01", orphan, "index "+way[0], "", nil)
		b.image(t, to, "p5/app01", orphan, "index "+way[0], "", nil)
		again("in step again", 0, 0)
	}
}

// A registry that tells nothing, or not all, is asked as if it could not tell.
func TestACopyFromARegistryThatTellsNothingAsksForEach(t *testing.T) {
	for name, off := range map[string]func(b both){
		"without it": func(b both) { b.zot.without = true },
		"half of it": func(b both) { b.zot.partial = true },
		"of Harbor": func(b both) {
			b.Inject(harbortest.Fault{Path: "/api/v2.0/projects/p7/artifacts", Status: http.StatusBadRequest})
		},
	} {
		b := newBoth(t)
		b.inStep(t)
		b.image(t, b.zot, "p3/app07", "v2", "moved", "", nil)
		off(b)
		if out := b.sync(t, "zot", "m"); !strings.Contains(out, summed(1)) {
			t.Errorf("%s: %s", name, out)
		}
		if all, _ := b.counted(); all < many {
			t.Errorf("%s: %d requests", name, all)
		}
	}
}

// What registries tell is not what both sides are compared by, nor what was copied
// before that: a tag that is not told as it is comes along there.
func TestVerifyGoesByNothingThatRegistriesTell(t *testing.T) {
	b := newBoth(t)
	b.inStep(t)
	b.image(t, b.zot, "p3/app07", "v2", "moved", "", nil)
	b.image(t, b.zot, "p3/app07", "v9", "added", "", nil)
	b.zot.images["p3/app07"]["v2"] = digestOf(nil)
	delete(b.zot.images["p3/app07"], "v9")
	if out := b.sync(t, "zot", "m", "--verify"); !strings.Contains(out, "2 copied, ") || !strings.Contains(out, ", 0 differ") {
		t.Error(out)
	}
}

// A migration is to leave nothing behind, whatever a registry leaves out of what it tells.
func TestAMigrationBringsWhatRegistriesDoNotTell(t *testing.T) {
	b := newBoth(t)
	b.inStep(t)
	b.image(t, b.zot, "p3/app07", "v9", "added", "", nil)
	delete(b.zot.images["p3/app07"], "v9")
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"migrate", "--from", "zot", "--to", "m", "--yes"}, streams{
		in: strings.NewReader(""), out: &out, err: &errs, getenv: func(name string) (string, bool) { v, ok := b.env[name]; return v, ok },
	})
	if code != 0 || !strings.Contains(out.String(), "1 copied, 1000 there already, 0 failed") {
		t.Errorf("exit code %d: %s%s", code, out.String(), errs.String())
	}
}

// A push that was cut off can leave a blob that the registry behind Harbor has and Harbor
// does not know, nor finds to mount: it is sent again.
func TestWhatWasCutOffAtHarborComesWithTheNextCopy(t *testing.T) {
	b := newBoth(t)
	b.api(t, http.MethodPost, "/projects", `{"project_name":"p"}`)
	b.image(t, b.zot, "p/app", "v1", "cut off", "", nil)
	const uploads = "/v2/p/app/blobs/uploads/"
	copied := func(code int) string {
		out, errs := b.ocisync(t, code, "sync", "--from", "zot", "--to", "m", "--yes", "--namespace", "p")
		return out + errs
	}
	b.Inject(harbortest.Fault{Method: http.MethodPut, Path: uploads, Cut: true})
	if out := copied(1); !strings.Contains(out, "1 failed") {
		t.Error(out)
	}
	b.Heal()
	b.forget()
	if out := copied(0); !strings.Contains(out, "1 copied, 0 there already, 0 failed") {
		t.Error(out)
	}
	var sent, missed int
	for _, r := range b.Requests() {
		switch {
		case r.Method == http.MethodPost && strings.HasPrefix(r.Path, uploads) && r.Status == http.StatusNotFound:
			missed++
		case r.Method == http.MethodPut && strings.HasPrefix(r.Path, uploads) && r.Status == http.StatusCreated:
			sent++
		}
	}
	if missed == 0 || sent == 0 {
		t.Errorf("it was not found to mount %d times, and sent %d times", missed, sent)
	}
	if out := copied(0); !strings.Contains(out, "0 copied, 1 there already") {
		t.Error(out)
	}
}

// A copy that follows is told anew each time that it looks.
func TestACopyThatFollowsIsToldAnew(t *testing.T) {
	b := newBoth(t)
	b.inStep(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan string)
	go func() {
		var out, errs bytes.Buffer
		code := run(ctx, []string{"migrate", "--from", "zot", "--to", "m", "--yes", "--follow", "--every", "20ms"}, streams{
			in: strings.NewReader(""), out: &out, err: &errs, getenv: func(name string) (string, bool) { v, ok := b.env[name]; return v, ok },
		})
		ended <- fmt.Sprintf("exit code %d: %s%s", code, out.String(), errs.String())
	}()
	for n := range 3 {
		text := fmt.Sprintf("moved %d", n)
		want := b.image(t, b.zot, "p3/app07", "v2", text, "", nil)
		for try := 0; !strings.Contains(b.api(t, http.MethodGet, "/projects/p3/repositories/app07/artifacts?with_tag=true", ""), want.Digest.String()); try++ {
			if try == 500 {
				t.Fatalf("%s does not come", text)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	stop()
	if text := <-ended; !strings.HasPrefix(text, "exit code 0:") {
		t.Error(text)
	}
}

// Harbor tells how much its repositories hold, for a few lists, and parts are made alike by
// that. A registry that does not tell is asked for nothing more.
func TestPartsAreAlikeInTheBytesThatARegistryTells(t *testing.T) {
	b := newBoth(t)
	b.api(t, http.MethodPost, "/projects", `{"project_name":"p"}`)
	large := strings.Repeat("large", 4000)
	for _, to := range []http.Handler{b.zot, b.Server} {
		b.image(t, to, "p/large1", "v1", large+"1", "", nil)
		b.image(t, to, "p/large2", "v1", large+"2", "", nil)
		for tag := range 10 {
			b.image(t, to, "p/small", fmt.Sprintf("v%d", tag), fmt.Sprintf("small %d", tag), "", nil)
		}
	}
	look := func(from, to string, more ...string) (out migration, text string) {
		text, _ = b.ocisync(t, 0, append([]string{"migrate", "--from", from, "--to", to, "--dry-run", "--output", "json"}, more...)...)
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			t.Fatal(err)
		}
		return out, text
	}
	b.forget()
	all, text := look("m", "zot")
	for _, r := range all.Repositories {
		if large := r.Name != "p/small"; large != (r.Bytes > 20_000) || r.Bytes == 0 {
			t.Errorf("%s holds %d bytes", r.Name, r.Bytes)
		}
	}
	asked := 0
	for _, r := range b.Requests() {
		if strings.Contains(r.Path, "/artifacts") {
			asked++
		}
	}
	if asked != 1 {
		t.Errorf("%d lists of artifacts were asked for: %v", asked, b.Requests())
	}
	sizes := filepath.Join(b.dir, "sizes.json")
	write(t, sizes, text)
	part := map[string]int{}
	for i := range 2 {
		mine, _ := look("m", "zot", "--shard", fmt.Sprintf("%d/2", i), "--sizes", sizes)
		for _, r := range mine.Repositories {
			part[r.Name] = i
		}
	}
	if len(part) != 3 || part["p/large1"] == part["p/large2"] {
		t.Errorf("the parts are %v", part)
	}
	b.forget()
	untold, _ := look("zot", "m")
	for _, r := range untold.Repositories {
		if r.Bytes != 0 {
			t.Errorf("of %s %d bytes are told", r.Name, r.Bytes)
		}
	}
	lists := 0
	for _, a := range b.zot.asked {
		if strings.HasSuffix(a, "/tags/list") {
			lists++
		}
	}
	if lists != 3 {
		t.Errorf("%d lists of tags were asked for, of 3 repositories", lists)
	}
}
