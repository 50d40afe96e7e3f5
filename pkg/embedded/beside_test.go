package embedded

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/embedded/storage"
	"github.com/ocisync/ocisync/schema"
)

// slowDriver takes its time to delete, as a busy disk does, so that there is
// room for a push between the decision and the deed.
type slowDriver struct{ storagedriver.StorageDriver }

func (d slowDriver) Delete(ctx context.Context, path string) error {
	time.Sleep(2 * time.Millisecond)
	return d.StorageDriver.Delete(ctx, path)
}

// pusher pushes to repositories that are its own, from contents that all
// share, and remembers what must be there.
type pusher struct {
	t      *testing.T
	r      *Registry
	random *rand.Rand
	delay  time.Duration
	repos  []string
	there  map[string]map[digest.Digest][]byte // repository to manifests
	tags   map[string]digest.Digest            // REPOSITORY/manifests/TAG to what it must name
	did    struct{ pushed, mounted, moved, deleted int }
}

func (p *pusher) do(method, path, media string, body []byte) *http.Response {
	q := httptest.NewRequest(method, path, bytes.NewReader(body))
	q.Header.Set("Content-Type", media)
	q.Header.Set("Accept", imagespec.MediaTypeImageManifest)
	w := httptest.NewRecorder()
	v := &visit{target: targetOf(q.URL.Path), who: identity{subject: access.User("root")}, rules: p.r.store.now().rules}
	p.r.serveVisit(w, q, v)
	return w.Result()
}

const shared = 24 // contents

func contentNumber(i int) []byte { return fmt.Appendf(nil, "content %d", i%shared) }

func descriptorOf(media string, b []byte) imagespec.Descriptor {
	return imagespec.Descriptor{MediaType: media, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

// blob makes sure that a content is in a repository, as clients do: it asks,
// tries to mount, and uploads.
func (p *pusher) blob(repo string, b []byte) bool {
	d := digest.FromBytes(b).String()
	if p.do(http.MethodHead, "/v2/"+repo+"/blobs/"+d, "", nil).StatusCode == http.StatusOK {
		return true
	}
	from := fmt.Sprintf("w%d/r%d", p.random.IntN(3), p.random.IntN(2))
	start := p.do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?mount="+d+"&from="+from, "", nil)
	if start.StatusCode == http.StatusCreated {
		p.did.mounted++
		return true
	}
	if start.StatusCode != http.StatusAccepted {
		p.t.Errorf("starting an upload: %d", start.StatusCode)
		return false
	}
	end := p.do(http.MethodPut, start.Header.Get("Location")+"&digest="+d, "application/octet-stream", b)
	if end.StatusCode != http.StatusCreated {
		p.t.Errorf("uploading: %d", end.StatusCode)
		return false
	}
	return true
}

// push pushes one image by a tag that may move, and now and then deletes one.
func (p *pusher) push(n int) {
	repo := p.repos[p.random.IntN(len(p.repos))]
	start := time.Now()
	first := p.random.IntN(shared)
	m := imagespec.Manifest{MediaType: imagespec.MediaTypeImageManifest, Annotations: map[string]string{"n": strconv.Itoa(n % 7)}}
	m.SchemaVersion = 2
	m.Config = descriptorOf(imagespec.MediaTypeImageConfig, contentNumber(first))
	m.Layers = append(m.Layers, descriptorOf(imagespec.MediaTypeImageLayer, contentNumber(first+1)))
	for i := range 2 {
		if !p.blob(repo, contentNumber(first+i)) {
			return
		}
	}
	body, err := json.Marshal(m)
	if err != nil {
		p.t.Error(err)
		return
	}
	tag := "t" + strconv.Itoa(p.random.IntN(3))
	resp := p.do(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, imagespec.MediaTypeImageManifest, body)
	took := time.Since(start)
	switch {
	case resp.StatusCode == http.StatusCreated:
		d, at := digest.FromBytes(body), repo+"/manifests/"+tag
		p.there[repo][d] = body
		p.did.pushed++
		if was, ok := p.tags[at]; ok && was != d {
			p.did.moved++
		}
		p.tags[at] = d
	case took < p.delay: // slower than the grace period: the client must begin again
		text, _ := io.ReadAll(resp.Body)
		p.t.Errorf("push to %s after %s: %d %s", repo, took, resp.StatusCode, text)
	}
	if p.random.IntN(4) > 0 {
		for d := range p.there[repo] {
			if resp := p.do(http.MethodDelete, "/v2/"+repo+"/manifests/"+d.String(), "", nil); resp.StatusCode != http.StatusAccepted {
				p.t.Errorf("deleting %s from %s: %d", d, repo, resp.StatusCode)
			}
			delete(p.there[repo], d)
			maps.DeleteFunc(p.tags, func(at string, names digest.Digest) bool {
				return names == d && strings.HasPrefix(at, repo+"/manifests/")
			})
			p.did.deleted++
			break
		}
	}
}

// pull gets and hashes all that must be there.
func (p *pusher) pull() (n int) {
	get := func(path string, d digest.Digest) {
		resp := p.do(http.MethodGet, path, "", nil)
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || digest.FromBytes(b) != d {
			p.t.Errorf("GET %s: %d, %d bytes, %v: not what was pushed", path, resp.StatusCode, len(b), err)
		}
		n++
	}
	for at, d := range p.tags {
		get("/v2/"+at, d)
	}
	for repo, all := range p.there {
		for d, body := range all {
			get("/v2/"+repo+"/manifests/"+d.String(), d)
			for _, b := range storage.ParseManifest(body).Contents() {
				get("/v2/"+repo+"/blobs/"+b.String(), b)
			}
		}
	}
	return n
}

// TestPushesBesideCollectionLoseNothing has three writers push, mount, move
// tags and delete while collections run one after the other. What they pushed
// and did not delete must be there in the end. On a fast disk they go on until
// collections had something to remove. OCISYNC_LONG=1 makes ten times as many
// pushes.
func TestPushesBesideCollectionLoseNothing(t *testing.T) {
	pushes := 300
	if os.Getenv("OCISYNC_LONG") != "" {
		pushes *= 10
	}
	pushBesideCollection(t, Options{Data: filepath.Join(t.TempDir(), "data")}, pushes, 400*time.Millisecond, 0)
}

func pushBesideCollection(t *testing.T, o Options, pushes int, delay, pause time.Duration) {
	t.Helper()
	r, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	admin := true
	root := schema.Resource{Key: schema.Key{Kind: schema.KindUser, Name: "root"}, Spec: &schema.User{Admin: &admin}}
	if _, err := r.store.change(t.Context(), []Change{{Object: root}}); err != nil {
		t.Fatal(err)
	}
	slow := r.storage.With(slowDriver{r.storage.Driver()})

	var writers, collector sync.WaitGroup
	done := make(chan struct{})
	var removed atomic.Int64
	runs := 0
	collector.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(25 * time.Millisecond):
			}
			result, err := collect(t.Context(), slow, r.gate, collecting{delay: delay}, time.Now())
			if err != nil {
				t.Error(err)
				return
			}
			removed.Add(int64(result.Blobs))
			runs++
		}
	})
	var pushers []*pusher
	for w := range 3 {
		p := &pusher{t: t, r: r, random: rand.New(rand.NewPCG(uint64(w), 7)), delay: delay, there: map[string]map[digest.Digest][]byte{}, tags: map[string]digest.Digest{}}
		for i := range 2 {
			repo := fmt.Sprintf("w%d/r%d", w, i)
			p.repos, p.there[repo] = append(p.repos, repo), map[digest.Digest][]byte{}
		}
		pushers = append(pushers, p)
		writers.Go(func() {
			for n := 0; n < pushes/3 || removed.Load() < 20 && n < 10*pushes; n++ {
				p.push(n)
				time.Sleep(pause)
			}
		})
	}
	writers.Wait()
	close(done)
	collector.Wait()
	// and once more when all that is garbage is old
	last, err := collect(t.Context(), slow, r.gate, collecting{delay: delay}, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	pulled, did := 0, pushers[0].did
	for i, p := range pushers {
		pulled += p.pull()
		if i > 0 {
			did.pushed, did.mounted, did.moved, did.deleted = did.pushed+p.did.pushed, did.mounted+p.did.mounted, did.moved+p.did.moved, did.deleted+p.did.deleted
		}
	}
	t.Logf("%+v of %d pushes, %d collections that removed %d blobs beside them and %d at the end, %d digests pulled", did, pushes, runs, removed.Load(), last.Blobs, pulled)
	if removed.Load() < 20 || pulled < 20 || did.pushed < pushes*3/4 || did.mounted < 20 || did.moved < 30 || did.deleted < 50 {
		t.Error("too little of all that to show anything")
	}
}
