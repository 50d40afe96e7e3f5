package embedded_test

import (
	"net/http"
	"strings"
	"testing"

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
	want := map[string]bool{}
	for name := range digests {
		want[name] = strings.HasPrefix(name, "kept")
	}
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
	want := map[string]bool{}
	for name := range digests {
		want[name] = strings.HasPrefix(name, "kept")
	}
	if diff := cmp.Diff(want, has(t, data, "a", digests)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
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
