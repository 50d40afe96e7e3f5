package content

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// indexOf is an index that clients keep, in another form than ours.
func indexOf(list ...v1.Descriptor) map[string]any {
	of := []map[string]any{}
	for _, d := range list {
		of = append(of, map[string]any{"size": d.Size, "digest": d.Digest, "mediaType": d.MediaType, "artifactType": "application/spdx+json"})
	}
	return map[string]any{"annotations": map[string]string{"of": "another client"}, "manifests": of, "mediaType": types.OCIImageIndex, "schemaVersion": 2}
}

// refers pushes what refers to a manifest, and says nothing of it in an index.
func (f fill) refers(repository string, to v1.Descriptor, n uint64) v1.Descriptor {
	return f.manifest(repository, "", v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: f.blob(repository, []byte("{}")), Layers: []v1.Descriptor{f.blob(repository, layer(n, 50))}, Subject: &to})
}

// lists answers for a registry that lists what refers to manifests by itself.
func lists(known map[string][]v1.Descriptor) func(w http.ResponseWriter, r *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		_, of, hit := strings.Cut(r.URL.Path, "/referrers/")
		if hit {
			w.Header().Set("Content-Type", string(types.OCIImageIndex))
			_ = json.NewEncoder(w).Encode(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: append([]v1.Descriptor{}, known[of]...)})
		}
		return hit
	}
}

// Cosign keeps signatures under tags that are images as all others: one that is another
// at the target, or not there, is a difference.
func TestASignatureTagIsComparedByItsDigest(t *testing.T) {
	for _, suffix := range []string{".sig", ".att", ".sbom"} {
		from, to := serve(t), serve(t)
		f, g := fill{t, from}, fill{t, to}
		image := f.image("a", "v1", layer(1, 100))
		g.image("a", "v1", layer(1, 100))
		tag := fallback(image.Digest) + suffix
		f.image("a", tag, layer(2, 100))
		items := []Item{{Source: "a", Target: "a"}}
		found, err := Compare(t.Context(), from.open(t), to.open(t), items, 1)
		if err != nil || found.Tags != 1 || len(found.Differences) != 1 || found.Differences[0].Source.Tag != tag || found.Differences[0].Why != "it is not there" {
			t.Errorf("%s is not there: %+v, %v", suffix, found, err)
		}
		g.image("a", tag, layer(3, 100))
		found, err = Compare(t.Context(), from.open(t), to.open(t), items, 1)
		if err != nil || found.Tags != 1 || len(found.Differences) != 1 || found.Differences[0].Source.Tag != tag {
			t.Errorf("%s is another: %+v, %v", suffix, found, err)
		}
		g.image("a", tag, layer(2, 100))
		to.between(func(w http.ResponseWriter, r *http.Request) bool { // a registry that does not list such tags
			hit := strings.HasSuffix(r.URL.Path, "/tags/list")
			if hit {
				_, _ = w.Write([]byte(`{"name":"a","tags":["v1"]}`))
			}
			return hit
		})
		if found, err := Compare(t.Context(), from.open(t), to.open(t), items, 1); err != nil || found.Tags != 2 || len(found.Differences) != 0 {
			t.Errorf("%s is alike and not listed: %+v, %v", suffix, found, err)
		}
	}
}

// What clients list under a tag is compared by what it lists, wherever the target does so.
func TestAnIndexOfReferrersIsComparedByWhatItLists(t *testing.T) {
	items := []Item{{Source: "a", Target: "a"}}
	for name, native := range map[string]bool{"by its own list": true, "by a tag": false} {
		t.Run(name, func(t *testing.T) {
			from, to := serve(t), serve(t)
			f, g := fill{t, from}, fill{t, to}
			image := f.image("a", "", layer(1, 100)) // which has no tag: nothing else tells of it
			g.image("a", "", layer(1, 100))
			f.image("a", "v1", layer(9, 100))
			g.image("a", "v1", layer(9, 100))
			one, two := f.refers("a", image, 10), f.refers("a", image, 11)
			g.refers("a", image, 10)
			g.refers("a", image, 11)
			tag := fallback(image.Digest)
			f.manifest("a", tag, indexOf(one, two))
			keep := func(list ...v1.Descriptor) {
				if native {
					to.between(lists(map[string][]v1.Descriptor{image.Digest.String(): list}))
				} else {
					g.manifest("a", tag, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: list})
				}
			}
			if keep(one); true {
				found, err := Compare(t.Context(), from.open(t), to.open(t), items, 1)
				if err != nil || found.Tags != 1 || len(found.Differences) != 1 || !strings.Contains(found.Differences[0].Why, two.Digest.String()) {
					t.Errorf("one is missing: %+v, %v", found, err)
				}
			}
			more := g.refers("a", image, 12)
			keep(more, two, one)
			if found, err := Compare(t.Context(), from.open(t), to.open(t), items, 1); err != nil || found.Tags != 2 || len(found.Differences) != 0 {
				t.Errorf("it has all, and more: %+v, %v", found, err)
			}
		})
	}
}

// Where both leave it to their clients to list what refers to an image, the index comes
// as it is, by whichever way it comes first, and a second run does nothing.
func TestAnIndexOfReferrersComesAsItIs(t *testing.T) {
	from, to := serve(t), serve(t)
	f := fill{t, from}
	var items []Item
	for n := range 12 {
		name := fmt.Sprintf("a%d", n)
		image := f.image(name, "v1", layer(1, 100))
		f.manifest(name, fallback(image.Digest), indexOf(f.refers(name, image, uint64(20+n))))
		items = append(items, Item{Source: name, Target: name})
	}
	c := &Copier{From: from.open(t), To: to.open(t), Referrers: true}
	if got := c.tally(t.Context(), items); got.err != nil || got.copied+got.same != 24 {
		t.Fatalf("%+v", got)
	}
	same(t, c.From, c.To, items)
	to.forget()
	c = &Copier{From: from.open(t), To: to.open(t), Referrers: true}
	if got := c.tally(t.Context(), items); got.err != nil || got.same != 24 || to.asked["PUT manifests"] != 0 {
		t.Errorf("again: %+v, %v", got, to.asked)
	}
}

// A target's index that lists more keeps that, and gets what it lacks.
func TestAnIndexOfReferrersThatHasMoreKeepsIt(t *testing.T) {
	from, to := serve(t), serve(t)
	f, g := fill{t, from}, fill{t, to}
	image := f.image("a", "v1", layer(1, 100))
	one := f.refers("a", image, 10)
	tag := fallback(image.Digest)
	f.manifest("a", tag, indexOf(one))
	g.image("a", "v1", layer(1, 100))
	own := g.refers("a", image, 11)
	g.manifest("a", tag, indexOf(own))
	items := []Item{{Source: "a", Target: "a"}}
	for n := range 2 {
		to.forget()
		c := &Copier{From: from.open(t), To: to.open(t), Referrers: true}
		if got := c.tally(t.Context(), items); got.err != nil || n == 1 && (got.same != 2 || to.asked["PUT manifests"] != 0) {
			t.Fatalf("%d: %+v, %v", n, got, to.asked)
		}
		m, err := c.To.manifest(t.Context(), Reference{Repository: "a", Tag: tag})
		if p, _ := m.parts(); err != nil || !hasAll(p.Manifests, []v1.Descriptor{one, own}) {
			t.Errorf("%d: it lists %s, %v", n, m.bytes, err)
		}
	}
	// what the target had is all that the source has by now: its index comes as it is
	f.refers("a", image, 11)
	f.manifest("a", tag, indexOf(one, own))
	c := &Copier{From: from.open(t), To: to.open(t), Referrers: true}
	if got := c.tally(t.Context(), items); got.err != nil {
		t.Fatalf("%+v", got)
	}
	same(t, c.From, c.To, items)
}
