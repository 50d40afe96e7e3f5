package zot_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/providers/zot"
	"github.com/ocisync/ocisync/schema"
)

// tellsImages is a Zot whose search extension answers a list of images, and whose
// catalogue goes on over two pages.
func tellsImages(t *testing.T, code int, answer string) (p *zot.Provider, asked *[]string) {
	t.Helper()
	asked = &[]string{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.Method+" "+r.URL.Path)
		switch {
		case r.URL.Path == "/v2/_zot/ext/search":
			w.WriteHeader(code)
			_, _ = fmt.Fprint(w, answer)
		case r.URL.Path == "/v2/_catalog" && r.URL.Query().Get("last") == "":
			w.Header().Set("Link", `</v2/_catalog?n=1000&last=team/app>; rel="next"`)
			_, _ = fmt.Fprint(w, `{"repositories":["team/app"]}`)
		case r.URL.Path == "/v2/_catalog":
			_, _ = fmt.Fprint(w, `{"repositories":["team/index","up/one"]}`)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	p, err := zot.New(schema.Registry{Type: schema.TypeZot, URL: s.URL}, nil, providertest.Secrets{}, nil, zot.HashCost(bcrypt.MinCost))
	if err != nil {
		t.Fatal(err)
	}
	return p, asked
}

// imageList is what the search extension answers of so many images.
func imageList(total int, images ...string) string {
	return fmt.Sprintf(`{"data":{"ImageList":{"Page":{"TotalCount":%d},"Results":[%s]}}}`, total, strings.Join(images, ","))
}

const (
	plainImage  = `{"RepoName":"team/app","Tag":"1.0","Digest":"sha256:aa","IsSigned":false,"Referrers":[],"Manifests":[{"IsSigned":false,"Referrers":[]}]}`
	signedImage = `{"RepoName":"team/app","Tag":"1.1","Digest":"sha256:bb","IsSigned":true,"Referrers":[],"Manifests":[{"IsSigned":true,"Referrers":[]}]}`
	referred    = `{"RepoName":"team/app","Tag":"1.2","Digest":"sha256:cc","IsSigned":false,"Referrers":[{"Digest":"sha256:ff"}],"Manifests":[]}`
	unsaid      = `{"RepoName":"team/app","Tag":"1.3","Digest":"sha256:dd","IsSigned":null,"Referrers":null,"Manifests":null}`
	signedPart  = `{"RepoName":"team/index","Tag":"1","Digest":"sha256:ee","IsSigned":false,"Referrers":[],"Manifests":[{"IsSigned":false,"Referrers":[]},{"IsSigned":true,"Referrers":[]}]}`
	notWanted   = `{"RepoName":"up/one","Tag":"1","Digest":"sha256:aa","IsSigned":false,"Referrers":[],"Manifests":[]}`
	goneImage   = `{"RepoName":"gone/app","Tag":"1","Digest":"sha256:aa","IsSigned":false,"Referrers":[],"Manifests":[]}`
)

func TestASearchTellsTheImagesOfRepositories(t *testing.T) {
	p, asked := tellsImages(t, http.StatusOK, imageList(7, plainImage, signedImage, referred, unsaid, signedPart, notWanted, goneImage))
	got, err := p.List(t.Context(), []string{"team/app", "team/index", "gone/app", "team/none"})
	want := map[string]providers.Listed{
		"team/app": {
			Tags:     map[string]string{"1.0": "sha256:aa", "1.1": "sha256:bb", "1.2": "sha256:cc", "1.3": "sha256:dd"},
			Referred: map[string]bool{"sha256:bb": true, "sha256:cc": true, "sha256:dd": true},
		},
		"team/index": {Tags: map[string]string{"1": "sha256:ee"}, Referred: map[string]bool{"sha256:ee": true}},
	}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	if want := []string{"GET /v2/_zot/ext/search", "GET /v2/_catalog", "GET /v2/_catalog"}; !slices.Equal(*asked, want) {
		t.Errorf("it asks %q", *asked)
	}
}

func TestASearchThatIsNotWholeTellsNothing(t *testing.T) {
	whole := imageList(1, plainImage)
	for name, answer := range map[string]struct {
		text string
		code int
	}{
		"none":               {"", http.StatusNotFound},
		"refused":            {whole, http.StatusForbidden},
		"broken off":         {whole[:len(whole)-4], http.StatusOK},
		"an error besides":   {strings.Replace(whole, `{"data"`, `{"errors":[{"message":"x"}],"data"`, 1), http.StatusOK},
		"null":               {`{"data":{"ImageList":null}}`, http.StatusOK},
		"a page of more":     {imageList(2, plainImage), http.StatusOK},
		"an image of no tag": {imageList(1, strings.Replace(plainImage, "1.0", "", 1)), http.StatusOK},
		"a page of the web":  {"<html></html>", http.StatusOK},
	} {
		p, _ := tellsImages(t, answer.code, answer.text)
		if got, err := p.List(t.Context(), []string{"team/app"}); !errors.Is(err, providers.ErrUnsupported) || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
