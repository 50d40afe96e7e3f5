package embedded_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocisync/ocisync/schema"
)

// A deletion takes along what is there, and nothing that somebody pushes
// after it, or is told to be there and so need not push.
func TestADeletionTakesNothingThatIsPushedAfterIt(t *testing.T) {
	digests := map[string]digest.Digest{}
	data := filled(t, func(t *testing.T, s *served) {
		t.Helper()
		s.upload(t, "root", "a", []byte("{}"))
		image := func(name, tag string, subject digest.Digest) digest.Digest {
			digests[name], _ = s.put(t, "root", "a", tag, imagespec.MediaTypeImageManifest, artifact("", name, subject))
			return digests[name]
		}
		index := func(name, tag string, child digest.Digest) digest.Digest {
			digests[name], _ = s.put(t, "root", "a", tag, imagespec.MediaTypeImageIndex, list(described(name, child)))
			return digests[name]
		}
		ask := func(method, ref string, want int) {
			t.Helper()
			if resp, _ := s.request(t, method, "root", "/v2/a/manifests/"+ref, "", nil); resp.StatusCode != want {
				t.Fatal(method, ref, resp.Status)
			}
		}
		drop := func(ref string) { t.Helper(); ask("DELETE", ref, http.StatusAccepted) }

		index("gone: its tag", "x", image("kept: child pushed by digest", "", ""))
		drop("x")
		image("kept: child pushed by digest", "", "")

		drop(index("gone", "", image("kept: child of what went by digest", "", "")).String())
		image("kept: child of what went by digest", "", "")

		index("gone: its tag too", "y", image("kept: child pushed by tag", "", ""))
		drop("y")
		image("kept: child pushed by tag", "moves", "")
		image("kept: the tag now", "moves", "")

		index("gone: asked for its child", "z", image("kept: child asked for", "", ""))
		image("gone: signed before", "", digests["gone: asked for its child"])
		drop("z")
		ask("HEAD", digests["kept: child asked for"].String(), http.StatusOK)

		image("kept: asked for", "asked", "")
		image("kept: got", "got", "")
		for _, tag := range []string{"asked", "got"} {
			drop(tag)
		}
		ask("HEAD", digests["kept: asked for"].String(), http.StatusOK)
		ask("GET", digests["kept: got"].String(), http.StatusOK)

		inner := index("gone: listed by what went", "", image("kept: child of a child pushed by digest", "", ""))
		index("gone: lists what lists", "outer", inner)
		drop("outer")
		image("kept: child of a child pushed by digest", "", "")

		index("gone: lists the signed", "signs", image("gone: signed by a tag", "", ""))
		sig := strings.Replace(digests["gone: signed by a tag"].String(), ":", "-", 1) + ".sig"
		image("kept: signature pushed by its tag", sig, "")
		drop("signs")
		image("kept: signature pushed by its tag", sig, "")

		image("kept: signed after", "signed", "")
		drop("signed")
		image("kept: its signature", "", digests["kept: signed after"])

		index("gone: deleted after all", "again", image("gone: pushed between two deletions", "", ""))
		drop("again")
		image("gone: pushed between two deletions", "", "")
		index("gone: deleted after all", "again", digests["gone: pushed between two deletions"])
		drop("again")
	})
	for range 3 { // nor does a later collection
		collected(t, data, schema.GC{})
	}
	stays(t, data, digests)
}

// What is too young to go when a deletion goes through would have nothing left
// that says it was deleted.
func TestADeletionGoesThroughAsAWhole(t *testing.T) {
	for name, byDigest := range map[string]bool{"by tag": false, "by digest": true} {
		t.Run(name, func(t *testing.T) {
			digests := map[string]digest.Digest{}
			var signed, dropped digest.Digest
			data := filled(t, func(t *testing.T, s *served) {
				t.Helper()
				s.upload(t, "root", "a", []byte("{}"))
				put := func(name, tag, media string, body any) digest.Digest {
					digests[name], _ = s.put(t, "root", "a", tag, media, body)
					return digests[name]
				}
				signed = put("signed", "", imagespec.MediaTypeImageManifest, artifact("", "signed", ""))
				inner := put("inner", "", imagespec.MediaTypeImageIndex, list(described("", signed)))
				beside := put("beside", "", imagespec.MediaTypeImageManifest, artifact("", "beside", ""))
				dropped = put("index", "1", imagespec.MediaTypeImageIndex, list(described("", inner), described("", beside)))
			})
			t.Run("delete", func(t *testing.T) {
				s := serve(t, data)
				digests["signature"], _ = s.put(t, "root", "a", "", imagespec.MediaTypeImageManifest, artifact("", "signature", signed))
				ref := "1"
				if byDigest {
					ref = dropped.String()
				}
				if resp, _ := s.request(t, "DELETE", "root", "/v2/a/manifests/"+ref, "", nil); resp.StatusCode != http.StatusAccepted {
					t.Fatal(resp.Status)
				}
			})
			if got := collected(t, data, schema.GC{}); got.Manifests != 0 {
				t.Errorf("collected %+v while the signature is young", got)
			}
			aged(t, data)
			left := 5
			if byDigest {
				left = 4
			}
			got := collected(t, data, schema.GC{})
			if got.Manifests != left || len(got.Repositories) != 1 {
				t.Errorf("collected %+v, want %d manifests and the repository", got, left)
			}
			for path := range tree(t, filepath.Join(data, "docker")) {
				if filepath.Base(path) == "data" {
					t.Errorf("content is left: %s", path)
				}
			}
		})
	}
}

// Builds that share manifests come faster than the delay.
func TestADeletionWaitsForNoOther(t *testing.T) {
	image := func(t *testing.T, s *served, name string) digest.Digest {
		t.Helper()
		d, _ := s.put(t, "root", "a", "", imagespec.MediaTypeImageManifest, artifact("", name, ""))
		return d
	}
	drop := func(t *testing.T, s *served, name string, children ...digest.Digest) {
		t.Helper()
		var all []imagespec.Descriptor
		for _, d := range children {
			all = append(all, described(name, d))
		}
		s.put(t, "root", "a", "build", imagespec.MediaTypeImageIndex, list(all...))
		if resp, _ := s.request(t, "DELETE", "root", "/v2/a/manifests/build", "", nil); resp.StatusCode != http.StatusAccepted {
			t.Fatal(resp.Status)
		}
	}
	var shared digest.Digest
	data := filled(t, func(t *testing.T, s *served) {
		t.Helper()
		s.upload(t, "root", "a", []byte("{}"))
		shared = image(t, s, "shared")
		drop(t, s, "old build", image(t, s, "old"), shared)
	})
	t.Run("another", func(t *testing.T) {
		s := serve(t, data)
		drop(t, s, "young build", shared, image(t, s, "young"))
	})
	for i, goes := range []int{2, 3} {
		if got := collected(t, data, schema.GC{}); got.Manifests != goes {
			t.Errorf("collection %d: %+v, want %d manifests", i, got, goes)
		}
		aged(t, data)
	}
}

// A restart puts the time of notes ahead, a clock set back by more.
func TestADeletionHoldsWhateverTheClock(t *testing.T) {
	digests := map[string]digest.Digest{}
	data := filled(t, func(t *testing.T, s *served) {
		t.Helper()
		s.upload(t, "root", "a", []byte("{}"))
		for _, name := range []string{"before", "child"} { // which is pushed after something was deleted
			digests[name], _ = s.put(t, "root", "a", "1", imagespec.MediaTypeImageManifest, artifact("", name, ""))
			if resp, _ := s.request(t, "DELETE", "root", "/v2/a/manifests/1", "", nil); resp.StatusCode != http.StatusAccepted {
				t.Fatal(resp.Status)
			}
		}
		digests["child"], _ = s.put(t, "root", "a", "", imagespec.MediaTypeImageManifest, artifact("", "child", ""))
		digests["index"], _ = s.put(t, "root", "a", "2", imagespec.MediaTypeImageIndex, list(described("", digests["child"])))
	})
	ahead := time.Now().Add(time.Hour).UTC().Format(time.RFC3339Nano)
	if err := os.WriteFile(filepath.Join(data, "ocisync", "latest"), []byte(ahead+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("delete", func(t *testing.T) {
		s := serve(t, data)
		if resp, _ := s.request(t, "DELETE", "root", "/v2/a/manifests/2", "", nil); resp.StatusCode != http.StatusAccepted {
			t.Fatal(resp.Status)
		}
	})
	collected(t, data, schema.GC{})
	want := map[string]bool{"before": false, "child": false, "index": false}
	if diff := cmp.Diff(want, has(t, data, "a", digests)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Two subjects can have the same list, or the same SBOM.
func TestATagForReferrersGoesWithItsSubjectWhateverElseNamesItsManifest(t *testing.T) {
	digests := map[string]digest.Digest{}
	var tags []string
	data := filled(t, func(t *testing.T, s *served) {
		t.Helper()
		s.upload(t, "root", "a", []byte("{}"))
		for _, name := range []string{"gone", "kept"} {
			digests[name], _ = s.put(t, "root", "a", name, imagespec.MediaTypeImageManifest, artifact("", name, ""))
			tag := strings.Replace(digests[name].String(), ":", "-", 1)
			digests["kept: list"], _ = s.put(t, "root", "a", tag, imagespec.MediaTypeImageIndex, list([]imagespec.Descriptor{}...))
			digests["kept: sbom"], _ = s.put(t, "root", "a", tag+".sbom", imagespec.MediaTypeImageManifest, artifact("", "sbom", ""))
			tags = append(tags, tag, tag+".sbom")
		}
		tag := strings.Replace(digests["gone"].String(), ":", "-", 1) + ".att"
		tags = append(tags, tag)
		for _, tag := range []string{tag, "prod"} {
			digests["kept: tagged"], _ = s.put(t, "root", "a", tag, imagespec.MediaTypeImageManifest, artifact("", "tagged", ""))
		}
		s.request(t, "DELETE", "root", "/v2/a/manifests/gone", "", nil)
	})
	if got := collected(t, data, schema.GC{}); got.Tags != 3 || got.Manifests != 1 {
		t.Errorf("%+v", got)
	}
	collected(t, data, schema.GC{})
	stays(t, data, digests)
	t.Run("tags", func(t *testing.T) {
		s := serve(t, data)
		for i, tag := range tags {
			want := http.StatusOK
			if i < 2 || i == 4 {
				want = http.StatusNotFound
			}
			if resp, _ := s.request(t, "GET", "root", "/v2/a/manifests/"+tag, "", nil); resp.StatusCode != want {
				t.Errorf("%s: %s, want %d", tag, resp.Status, want)
			}
		}
	})
}
