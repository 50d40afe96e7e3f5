package embedded_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/ocisync/ocisync/schema"
)

// catalogue follows the pages of the catalogue and returns them.
func (s *served) catalogue(t *testing.T, user string, n int) (pages [][]string) {
	t.Helper()
	for path := fmt.Sprintf("/v2/_catalog?n=%d", n); path != ""; {
		resp := s.do(t, "GET", user, path)
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: status %d", path, resp.StatusCode)
		}
		var page struct {
			Repositories []string `json:"repositories"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
			t.Fatal(err)
		}
		pages = append(pages, page.Repositories)
		path = ""
		if link := resp.Header.Get("Link"); link != "" {
			path, _, _ = strings.Cut(strings.TrimPrefix(link, "<"), ">")
		}
	}
	return pages
}

func TestCatalogueShowsWhatOneMayPull(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	s.change(t, putUser(t, "root", true), putUser(t, "dev", false), putNamespace("a"), putNamespace("b"), putNamespace("c"),
		putAccess("a", schema.Access{Authenticated: rights(schema.Pull)}),
		putAccess("b", schema.Access{Users: schema.NewGrants(schema.Grant{Name: "someone", Rights: schema.Pull})}),
		putAccess("c", schema.Access{Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: schema.Pull})}))
	im := image(t)
	for _, repository := range []string{"a/1", "a/2", "b/1", "b/2", "c", "c-d/x", "c/1", "ocisync/state", "out"} {
		if err := remote.Write(s.ref(t, repository+":1"), im, s.as("root")...); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		user string
		n    int
		want [][]string
	}{
		{"root", 100, [][]string{{"a/1", "a/2", "b/1", "b/2", "c", "c/1", "c-d/x", "ocisync/state", "out"}}},
		{"root", 4, [][]string{{"a/1", "a/2", "b/1", "b/2"}, {"c", "c/1", "c-d/x", "ocisync/state"}, {"out"}}},
		{"dev", 100, [][]string{{"a/1", "a/2", "c", "c/1"}}},
		{"dev", 3, [][]string{{"a/1", "a/2", "c"}, {"c/1"}}},
		{"dev", 2, [][]string{{"a/1", "a/2"}, {"c", "c/1"}}},
		{"dev", 0, [][]string{{}}},
	} {
		if d := cmp.Diff(tt.want, s.catalogue(t, tt.user, tt.n)); d != "" {
			t.Errorf("%s in pages of %d: %s", tt.user, tt.n, d)
		}
	}
	if resp := s.do(t, "GET", "", "/v2/_catalog"); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("anonymous where nothing is public: status %d, want 401", resp.StatusCode)
	}
	if resp := s.do(t, "GET", "dev", "/v2/_catalog?n=1001"); resp.StatusCode != http.StatusBadRequest || ociCode(t, resp) != "PAGINATION_NUMBER_INVALID" {
		t.Errorf("a page too large: status %d, want 400", resp.StatusCode)
	}
	// Distribution's own route is for admins only, however it is spelled
	if resp := s.do(t, "GET", "dev", "/v2//_catalog"); resp.StatusCode == http.StatusOK {
		var page struct {
			Repositories []string `json:"repositories"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&page); err != nil || len(page.Repositories) > 4 {
			t.Errorf("another spelling shows %v (%v)", page.Repositories, err)
		}
	}
	s.change(t, putAccess("b", schema.Access{Anonymous: rights(schema.Pull)}))
	if d := cmp.Diff([][]string{{"b/1", "b/2"}}, s.catalogue(t, "", 10)); d != "" {
		t.Errorf("anonymous: %s", d)
	}
}

func TestMountNeedsPullOnTheSource(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	s.change(t, putUser(t, "root", true), putUser(t, "dev", false), putNamespace("mine"), putNamespace("secret"),
		putAccess("mine", schema.Access{Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: schema.Pull | schema.Push})}))
	im := image(t)
	if err := remote.Write(s.ref(t, "secret/app:1"), im, s.as("root")...); err != nil {
		t.Fatal(err)
	}
	layers, err := im.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	mount := func() int {
		return s.do(t, "POST", "dev", "/v2/mine/app/blobs/uploads/?from=secret/app&mount="+digest.String()).StatusCode
	}
	if got := mount(); got != 403 {
		t.Errorf("mounting what one may not pull: status %d, want 403", got)
	}
	s.change(t, putAccess("secret", schema.Access{Authenticated: rights(schema.Pull)}))
	if got := mount(); got != 201 {
		t.Errorf("mounting what one may pull: status %d, want 201", got)
	}
}
