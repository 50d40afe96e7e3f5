package content

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// corpus is repositories that share layers: of each image one with ten repositories, one
// with its own, one with nobody.
func corpus(t *testing.T, s *served, repositories, tags int) (items []Item, pairs, blobs int) {
	t.Helper()
	f := fill{t, s}
	all := map[string]bool{}
	for r := range repositories {
		name := fmt.Sprintf("team%d/app%03d", r%7, r)
		in := map[string]bool{}
		for n := range tags {
			layers := [][]byte{layer(uint64(1_000_000+r%max(1, repositories/10)), 3000), layer(uint64(2_000_000+r), 2000), layer(uint64(r*1000+n), 1000)}
			f.image(name, fmt.Sprintf("v%d", n), layers...)
			for _, l := range layers {
				in[digestOf(l).Hex] = true
			}
			in[digestOf([]byte(`{"of":"`+name+fmt.Sprintf("v%d", n)+`"}`)).Hex] = true
		}
		maps.Copy(all, in)
		pairs += len(in)
		items = append(items, Item{Source: name, Target: "copy/" + name})
	}
	return items, pairs, len(all)
}

// same holds that both sides have the same tags with the same digests.
func same(t *testing.T, from Source, to Target, items []Item) {
	t.Helper()
	for _, i := range items {
		a, _, err := from.Tags(t.Context(), i.Source)
		if err != nil {
			t.Fatal(err)
		}
		b, _, err := to.Tags(t.Context(), i.Target)
		if err != nil || !slices.Equal(a, b) {
			t.Fatalf("%s has %q, %s %q, %v", i.Source, a, i.Target, b, err)
		}
		for _, tag := range a {
			x, _, err := from.head(t.Context(), Reference{Repository: i.Source, Tag: tag})
			if err != nil {
				t.Fatal(err)
			}
			y, _, err := to.head(t.Context(), Reference{Repository: i.Target, Tag: tag})
			if err != nil || x != y {
				t.Errorf("%s:%s is %s, and at the target %s, %v", i.Source, tag, x, y, err)
			}
		}
	}
}

// TestACopyAsksNoMoreThanItMust: of R repositories with T tags, P blobs in repositories
// and G blobs at all, lists and manifests and blobs are read once, and nothing is asked
// of a target that is new but its list.
func TestACopyAsksNoMoreThanItMust(t *testing.T) {
	from, to := serve(t), serve(t)
	const repositories, tags = 20, 5
	items, pairs, blobs := corpus(t, from, repositories, tags)
	from.forget()
	c := &Copier{From: from.open(t), To: to.open(t), AtOnce: 4}
	got := c.tally(t.Context(), items)
	if want := (Moved{Blobs: blobs, Mounted: pairs - blobs, Bytes: got.moved.Bytes}); got.err != nil || got.copied != repositories*tags || got.moved != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if want := map[string]int{"GET tags": repositories, "GET manifests": repositories * tags, "GET blobs": blobs}; !maps.Equal(from.asked, want) {
		t.Errorf("the source was asked %v, want %v", from.asked, want)
	}
	first := to.asked["HEAD manifests"] // until the first answer tells that the target is new
	delete(to.asked, "HEAD manifests")
	if want := map[string]int{"GET tags": repositories, "POST uploads": pairs, "PUT uploads": blobs, "PUT manifests": repositories * tags}; first > 4 || !maps.Equal(to.asked, want) {
		t.Errorf("the target was asked %v and %d HEADs, want %v", to.asked, first, want)
	}
	same(t, c.From, c.To, items)

	from.forget()
	to.forget()
	c = &Copier{From: from.open(t), To: to.open(t), AtOnce: 4}
	if got := c.tally(t.Context(), items); got.err != nil || got.same != repositories*tags || got.moved != (Moved{}) {
		t.Errorf("again: %+v", got)
	}
	if want := map[string]int{"GET tags": repositories, "HEAD manifests": repositories * tags}; !maps.Equal(from.asked, want) {
		t.Errorf("again the source was asked %v, want %v", from.asked, want)
	}
	if want := map[string]int{"HEAD manifests": repositories * tags}; !maps.Equal(to.asked, want) {
		t.Errorf("again the target was asked %v, want %v", to.asked, want)
	}
}

// TestWhatRefersToAnImageComesAlong, whichever side lists it by itself: where the target
// does not, its index names it.
func TestWhatRefersToAnImageComesAlong(t *testing.T) {
	for name, lists := range map[string]struct{ from, to bool }{"neither": {}, "the source": {from: true}, "the target": {to: true}, "both": {true, true}} {
		t.Run(name, func(t *testing.T) {
			from, to := serve(t), serve(t)
			f := fill{t, from}
			image := f.image("a", "v1", layer(1, 100))
			f.image("a", "v2", layer(2, 100))
			signs := func(of v1.Descriptor, n uint64) v1.Descriptor {
				m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: f.blob("a", []byte("{}")), Layers: []v1.Descriptor{f.blob("a", layer(n, 50))}, Subject: &of}
				return f.manifest("a", "", m)
			}
			signature := signs(image, 10)
			counter := signs(signature, 11)
			known := map[string][]v1.Descriptor{image.Digest.String(): {signature}, signature.Digest.String(): {counter}}
			index := func(list []v1.Descriptor) v1.IndexManifest {
				return v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: append([]v1.Descriptor{}, list...)}
			}
			answers := func(known map[string][]v1.Descriptor) func(w http.ResponseWriter, r *http.Request) bool {
				return func(w http.ResponseWriter, r *http.Request) bool {
					_, of, hit := strings.Cut(r.URL.Path, "/referrers/")
					if hit {
						w.Header().Set("Content-Type", string(types.OCIImageIndex))
						_ = json.NewEncoder(w).Encode(index(known[of]))
					}
					return hit
				}
			}
			if lists.from {
				from.between(answers(known))
			} else {
				f.manifest("a", fallback(image.Digest), index(known[image.Digest.String()]))
				f.manifest("a", fallback(signature.Digest), index(known[signature.Digest.String()]))
			}
			if lists.to {
				to.between(answers(nil))
			}
			c := &Copier{From: from.open(t), To: to.open(t), Referrers: true}
			items := []Item{{Source: "a", Target: "b", One: "v1"}}
			if got := c.tally(t.Context(), items); got.err != nil || got.copied != 1 {
				t.Fatalf("%+v", got)
			}
			for _, d := range []v1.Descriptor{image, signature, counter} {
				if _, ok, err := c.To.head(t.Context(), Reference{Repository: "b", Digest: d.Digest}); err != nil || !ok {
					t.Errorf("%s is not there: %v", d.Digest, err)
				}
			}
			tags, _, err := c.To.Tags(t.Context(), "b")
			want := []string{fallback(image.Digest), fallback(signature.Digest), "v1"}
			if slices.Sort(want); lists.to {
				want = []string{"v1"}
			}
			if err != nil || !slices.Equal(tags, want) {
				t.Errorf("the target has %q, want %q, %v", tags, want, err)
			}
			if !lists.to {
				m, err := c.To.manifest(t.Context(), Reference{Repository: "b", Tag: fallback(image.Digest)})
				if p, _ := m.parts(); err != nil || len(p.Manifests) != 1 || p.Manifests[0].Digest != signature.Digest {
					t.Errorf("its index is %s, %v", m.bytes, err)
				}
			}
			wrote := to.asked["PUT manifests"]
			if got := c.tally(t.Context(), items); got.err != nil || got.same != 1 || to.asked["PUT manifests"] != wrote {
				t.Errorf("again: %+v, %d written", got, to.asked["PUT manifests"]-wrote)
			}
		})
	}
}

// What refers to a part of an index comes along, with the index and after it, and is
// missed where it is not there.
func TestWhatRefersToAPartComesAlong(t *testing.T) {
	for name, lists := range map[string]bool{"listed by the source": true, "by its tags": false} {
		t.Run(name, func(t *testing.T) {
			from, to := serve(t), serve(t)
			f := fill{t, from}
			part := f.image("a", "", layer(1, 100))
			f.manifest("a", "v1", v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{part}})
			known := map[string][]v1.Descriptor{}
			signs := func(n uint64) v1.Descriptor {
				d := f.manifest("a", "", v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: f.blob("a", []byte("{}")), Layers: []v1.Descriptor{f.blob("a", layer(n, 50))}, Subject: &part})
				known[part.Digest.String()] = append(known[part.Digest.String()], d)
				if !lists {
					f.manifest("a", fallback(part.Digest), v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: known[part.Digest.String()]})
				}
				return d
			}
			if lists {
				from.between(func(w http.ResponseWriter, r *http.Request) bool {
					_, of, hit := strings.Cut(r.URL.Path, "/referrers/")
					if hit {
						w.Header().Set("Content-Type", string(types.OCIImageIndex))
						_ = json.NewEncoder(w).Encode(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: append([]v1.Descriptor{}, known[of]...)})
					}
					return hit
				})
			}
			c := &Copier{From: from.open(t), To: to.open(t), Referrers: true}
			items := []Item{{Source: "a", Target: "a", One: "v1"}}
			for n := range 2 {
				d := signs(uint64(10 + n))
				if n == 1 && lists {
					found, err := Compare(t.Context(), c.From, c.To, []Item{{Source: "a", Target: "a"}}, 1)
					if err != nil || len(found.Differences) != 1 || found.Differences[0].Source.Digest != d.Digest {
						t.Errorf("one is missing: %+v, %v", found, err)
					}
				}
				if got := c.tally(t.Context(), items); got.err != nil || got.copied+got.same != 1 {
					t.Fatalf("%+v", got)
				}
				if _, ok, err := c.To.head(t.Context(), Reference{Repository: "a", Digest: d.Digest}); err != nil || !ok {
					t.Errorf("%d is not there: %v", n, err)
				}
			}
			found, err := Compare(t.Context(), c.From, c.To, []Item{{Source: "a", Target: "a"}}, 1)
			if err != nil || len(found.Differences) != 0 || lists && found.Referrers != 2 {
				t.Errorf("%+v, %v", found, err)
			}
		})
	}
}

// Harbor lists a signature that belongs to an image by its tag alone, as others do not.
func TestWhatBelongsByATagIsNotMissed(t *testing.T) {
	from, to := serve(t), serve(t)
	f := fill{t, from}
	image := f.image("a", "v1", layer(1, 100))
	signature := f.image("a", image.Digest.Algorithm+"-"+image.Digest.Hex+".sig", layer(2, 100))
	from.between(func(w http.ResponseWriter, r *http.Request) bool {
		_, of, hit := strings.Cut(r.URL.Path, "/referrers/")
		if hit {
			list := []v1.Descriptor{}
			if of == image.Digest.String() {
				list = append(list, signature)
			}
			w.Header().Set("Content-Type", string(types.OCIImageIndex))
			_ = json.NewEncoder(w).Encode(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: list})
		}
		return hit
	})
	to.between(func(w http.ResponseWriter, r *http.Request) bool {
		hit := strings.Contains(r.URL.Path, "/referrers/")
		if hit {
			w.Header().Set("Content-Type", string(types.OCIImageIndex))
			_ = json.NewEncoder(w).Encode(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}})
		}
		return hit
	})
	c := &Copier{From: from.open(t), To: to.open(t), Referrers: true}
	items := []Item{{Source: "a", Target: "a"}}
	if got := c.tally(t.Context(), items); got.err != nil {
		t.Fatalf("%+v", got)
	}
	if found, err := Compare(t.Context(), c.From, c.To, items, 1); err != nil || len(found.Differences) != 0 {
		t.Errorf("%+v, %v", found, err)
	}
}

// Harbor says of a project that it lacks that nobody may see it, and of a name without one
// that it is none: each is told of its repository, and the others come.
func TestWhatATargetCannotHaveIsToldAndTheOthersCome(t *testing.T) {
	from, to := serve(t), serve(t)
	for _, name := range []string{"gone/x", "single", "there/x"} {
		fill{t, from}.image(name, "v1", layer(1, 100))
	}
	to.between(func(w http.ResponseWriter, r *http.Request) bool {
		gone, single := strings.HasPrefix(r.URL.Path, "/v2/gone/"), strings.HasPrefix(r.URL.Path, "/v2/single/")
		w.Header().Set("Content-Type", "application/json")
		switch {
		case gone:
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"project gone not found: project gone not found"}]}`))
		case single:
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"errors":[{"code":"BAD_REQUEST","message":"bad request: invalid repository name: single"}]}`))
		}
		return gone || single
	})
	c := &Copier{From: from.open(t), To: to.open(t)}
	items := []Item{{Source: "gone/x", Target: "gone/x"}, {Source: "single", Target: "single"}, {Source: "there/x", Target: "there/x"}}
	if tags, ok, err := c.To.Tags(t.Context(), "gone/x"); len(tags) != 0 || ok || err != nil {
		t.Errorf("a project that is not there has %q, %t, %v", tags, ok, err)
	}
	got := c.tally(t.Context(), items)
	if got.copied != 1 || len(got.failed) != 2 || !strings.Contains(got.err.Error(), "make that project first") || !strings.Contains(got.err.Error(), "invalid repository name") {
		t.Errorf("%+v", got)
	}
	found, err := Compare(t.Context(), c.From, c.To, items, 2)
	if err != nil || len(found.Differences) != 2 || found.Tags != 1 {
		t.Errorf("%+v, %v", found, err)
	}
}

// Harbor says why it takes no more, and it is no right that lacks.
func TestARefusalForWantOfRoomAsksForNoRights(t *testing.T) {
	from, to := serve(t), serve(t)
	fill{t, from}.image("a", "v1", layer(1, 100))
	to.between(func(w http.ResponseWriter, r *http.Request) bool {
		refused := r.Method == http.MethodPut
		if refused {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"errors":[{"code":"DENIED","message":"adding 28.6 MiB of storage resource, which when updated to current usage of 0 will exceed the configured upper limit of 976.6 KiB."}]}`))
		}
		return refused
	})
	c := &Copier{From: from.open(t), To: to.open(t)}
	if got := c.tally(t.Context(), []Item{{Source: "a", Target: "a"}}); got.err == nil || !strings.Contains(got.err.Error(), "upper limit") || strings.Contains(got.err.Error(), "give the account") {
		t.Errorf("%v", got.err)
	}
}

// Harbor does not find a blob to mount that came, and no manifest after it.
func TestABlobThatARegistryDoesNotFindToMountIsSent(t *testing.T) {
	from, to := serve(t), serve(t)
	fill{t, from}.image("a", "v1", layer(1, 100))
	to.between(func(w http.ResponseWriter, r *http.Request) bool {
		mounts := r.URL.Query().Get("mount") != ""
		if mounts {
			w.WriteHeader(http.StatusNotFound)
		}
		return mounts
	})
	c := &Copier{From: from.open(t), To: to.open(t)}
	items := []Item{{Source: "a", Target: "a"}}
	if got := c.tally(t.Context(), items); got.err != nil || got.copied != 1 || got.moved.Blobs != 2 {
		t.Errorf("%+v", got)
	}
	same(t, c.From, c.To, items)
}

// TestARegistryIsAskedOnceWhetherItListsReferrers.
func TestARegistryIsAskedOnceWhetherItListsReferrers(t *testing.T) {
	from, to := serve(t), serve(t)
	items, _, _ := corpus(t, from, 3, 4)
	c := &Copier{From: from.open(t), To: to.open(t), Referrers: true}
	if got := c.tally(t.Context(), items); got.err != nil || got.copied != 12 {
		t.Fatalf("%+v", got)
	}
	if n := from.asked["GET referrers"]; n != 1 || to.asked["GET referrers"] > 0 {
		t.Errorf("the source was asked %d times, the target %d", n, to.asked["GET referrers"])
	}
}

// TestWhatMayNotBeMountedIsSent: the account may push and not see the other repository.
func TestWhatMayNotBeMountedIsSent(t *testing.T) {
	from, to := serve(t), serve(t)
	for _, name := range []string{"a", "b"} {
		fill{t, from}.image(name, "v1", layer(1, 100))
	}
	to.between(func(w http.ResponseWriter, r *http.Request) bool {
		mounts := r.URL.Query().Get("mount") != ""
		if mounts {
			w.WriteHeader(http.StatusForbidden)
		}
		return mounts
	})
	c := &Copier{From: from.open(t), To: to.open(t)}
	items := []Item{{Source: "a", Target: "a"}, {Source: "b", Target: "b"}}
	if got := c.tally(t.Context(), items); got.err != nil || got.copied != 2 || got.moved.Blobs != 4 || got.moved.Mounted != 0 {
		t.Errorf("%+v", got)
	}
	same(t, c.From, c.To, items)
}

// An index of what refers to an image, which that image's own copy has made meanwhile, came
// by this copy and was not there before.
func TestAnIndexThatTheCopyMadeWasNotThereAlready(t *testing.T) {
	from, to := serve(t), serve(t)
	f := fill{t, from}
	image := f.image("a", "v1", layer(1, 100))
	refers := f.refers("a", image, 7)
	f.manifest("a", fallback(image.Digest), v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{refers}})
	made, asked := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var times atomic.Int32
	to.between(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/"+fallback(image.Digest)) {
			once.Do(func() { close(made) })
		}
		return false
	})
	answers := lists(map[string][]v1.Descriptor{image.Digest.String(): {refers}})
	from.between(func(w http.ResponseWriter, r *http.Request) bool {
		wait := func(until chan struct{}) {
			select {
			case <-until:
			case <-time.After(5 * time.Second):
				t.Error("it did not come to that")
			}
		}
		switch {
		case r.Method != http.MethodGet:
		case strings.HasSuffix(r.URL.Path, "/"+fallback(image.Digest)): // first for itself, then by the copy of the image
			if times.Add(1) == 1 {
				close(asked)
				wait(made)
			}
		case strings.HasSuffix(r.URL.Path, "/manifests/v1"):
			wait(asked)
		}
		return answers(w, r)
	})
	c := &Copier{From: from.open(t), To: to.open(t), Referrers: true}
	if got := c.tally(t.Context(), []Item{{Source: "a", Target: "a"}}); got.err != nil || got.copied != 2 || got.same != 0 {
		t.Errorf("%+v", got)
	}
}
