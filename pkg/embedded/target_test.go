package embedded

import (
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	v2 "github.com/distribution/distribution/v3/registry/api/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/mux"
)

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestTheLastWordsOfAPathSayWhatARequestIsAbout(t *testing.T) {
	for _, c := range []struct {
		path string
		want target
	}{
		{"/healthz", target{of: "health"}},
		{"/metrics", target{of: "metrics"}},
		{"/ocisync/v1/state", target{of: "admin"}},
		{"/v2", target{of: "base"}},
		{"/v2/", target{of: "base"}},
		{"/v2/_catalog", target{of: "catalog"}},
		{"/v2/a/manifests/latest", target{of: "manifest", repository: "a", reference: "latest"}},
		{"/v2/a/b/manifests/" + someDigest, target{of: "manifest", repository: "a/b", reference: someDigest}},
		{"/v2/a/blobs/" + someDigest, target{of: "blob", repository: "a", reference: someDigest}},
		{"/v2/a/blobs/uploads/", target{of: "upload", repository: "a"}},
		{"/v2/a/blobs/uploads/id", target{of: "upload", repository: "a", upload: "id"}},
		{"/v2/a/referrers/" + someDigest, target{of: "referrers", repository: "a", reference: someDigest}},
		{"/v2/a/tags/list", target{of: "tags", repository: "a"}},
		// names that hold the words
		{"/v2/manifests/manifests/manifests", target{of: "manifest", repository: "manifests", reference: "manifests"}},
		{"/v2/a/manifests/b/manifests/c", target{of: "manifest", repository: "a/manifests/b", reference: "c"}},
		{"/v2/a/blobs/uploads/manifests/c", target{of: "manifest", repository: "a/blobs/uploads", reference: "c"}},
		{"/v2/a/blobs/uploads/manifests", target{of: "upload", repository: "a", upload: "manifests"}},
		{"/v2/a/manifests/blobs/uploads/", target{of: "upload", repository: "a/manifests"}},
		{"/v2/blobs/uploads/blobs/uploads/x", target{of: "upload", repository: "blobs/uploads", upload: "x"}},
		{"/v2/a/tags/tags/list", target{of: "tags", repository: "a/tags"}},
		{"/v2/a/manifests/tags/list", target{of: "tags", repository: "a/manifests"}},
		// about nothing
		{"", target{}},
		{"/", target{}},
		{"/v1/a/manifests/b", target{}},
		{"/v2/manifests/b", target{}},
		{"/v2/blobs/uploads/", target{}},
		{"/v2/a/manifests/", target{}},
		{"/v2/a/manifests/b/", target{}},
		{"/v2/a/manifests/b/c", target{}},
		{"/v2/a/blobs/uploads", target{of: "blob", repository: "a", reference: "uploads"}}, // Distribution takes it for no digest
		{"/v2//manifests/b", target{}},
		{"/v2/a//manifests/b", target{}},
		{"/v2/a/./manifests/b", target{}},
		{"/v2/a/../b/manifests/c", target{}},
		{"/v2/a/manifests/..", target{}},
		{"/v2/a/blobs/uploads/..", target{}},
		{"/v2/a/tags/lists", target{}},
	} {
		if d := cmp.Diff(c.want, targetOf(c.path), cmp.AllowUnexported(target{})); d != "" {
			t.Errorf("%q (-want +got):\n%s", c.path, d)
		}
	}
}

// FuzzTargetsAreThoseOfDistribution asks Distribution's own router: what that
// serves must be found to be the same, or a request would pass by quotas and
// immutable tags.
func FuzzTargetsAreThoseOfDistribution(f *testing.F) {
	for _, p := range []string{
		"a/manifests/latest", "a/blobs/" + someDigest, "a/blobs/uploads/", "a/blobs/uploads/id", "a/tags/list",
		"a/blobs/uploads/manifests/c", "a/manifests/blobs/uploads/", "localhost:5000/a/tags/list", "_catalog", "",
		"a/manifests/" + someDigest, "a/./manifests/b", "a//manifests/b", "a/manifests/b/", "a/blobs/uploads", "a/manifests/tags/list",
		"blobs/blobs/uploads/x=", "a/blobs/uploads/..", "a/blobs/uploads/.",
	} {
		f.Add(p)
	}
	router := v2.Router()
	kinds := map[string]string{
		v2.RouteNameBase: "base", v2.RouteNameCatalog: "catalog", v2.RouteNameTags: "tags", v2.RouteNameManifest: "manifest",
		v2.RouteNameBlob: "blob", v2.RouteNameBlobUpload: "upload", v2.RouteNameBlobUploadChunk: "upload",
	}
	f.Fuzz(func(t *testing.T, p string) {
		p = "/v2/" + p
		got := targetOf(p)
		parts := strings.Split(got.repository+"/"+got.reference+"/"+got.upload, "/")
		if slices.Contains(parts, ".") || slices.Contains(parts, "..") || strings.Contains(got.repository, "//") || strings.Contains(got.reference+got.upload, "/") {
			t.Fatalf("%q: %+v may lead elsewhere", p, got)
		}
		var m mux.RouteMatch
		clean := path.Clean(p)
		if strings.HasSuffix(p, "/") && clean != "/" {
			clean += "/"
		}
		if clean != p || !router.Match(&http.Request{Method: http.MethodGet, URL: &url.URL{Path: p}}, &m) || m.Handler != nil {
			return // Distribution redirects it, or has no such page
		}
		want := target{of: kinds[m.Route.GetName()], repository: m.Vars["name"], reference: m.Vars["reference"] + m.Vars["digest"], upload: m.Vars["uuid"]}
		if got != want {
			t.Fatalf("%q: %+v, and Distribution serves %+v", p, got, want)
		}
	})
}
