package zot_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/providers/zot"
	"github.com/ocisync/ocisync/schema"
)

// searchable is a registry that holds two repositories, and answers the search
// extension with a text; "" is one without it.
func searchable(t *testing.T, answer string, code int) (url string, asked *[]string) {
	t.Helper()
	asked = &[]string{}
	say := func(w io.Writer, text string) {
		if _, err := io.WriteString(w, text); err != nil {
			t.Error(err)
		}
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.Method+" "+r.URL.Path)
		switch {
		case r.URL.Path == "/v2/_zot/ext/search" && answer != "":
			if !strings.Contains(r.URL.Query().Get("query"), "ImageList") {
				t.Errorf("it asks %s", r.URL)
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			say(w, answer)
		case r.URL.Path == "/v2/_catalog":
			say(w, `{"repositories":["team/app","up/one"]}`)
		case strings.HasSuffix(r.URL.Path, "/tags/list"):
			say(w, `{"tags":["1.0"]}`)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

func contentOf(t *testing.T, r schema.Registry) []schema.RepositoryInfo {
	t.Helper()
	p, err := zot.New(r, nil, providertest.Secrets{}, nil, zot.HashCost(bcrypt.MinCost))
	if err != nil {
		t.Fatal(err)
	}
	st, err := p.Read(t.Context(), schema.Scope{Repositories: []string{"team"}})
	if err != nil {
		t.Fatal(err)
	}
	return st.Repositories
}

// recorded is what a Zot 2.1.6 with the search extension answered.
func recorded(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "search.json"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestOneQueryTellsWhatAZotWithSearchHolds(t *testing.T) {
	url, asked := searchable(t, recorded(t), http.StatusOK)
	got := contentOf(t, schema.Registry{Type: schema.TypeZot, URL: url})
	want := []schema.RepositoryInfo{{Name: "team/app", Tags: 2, Bytes: 2072, Pushed: schema.Date{Year: 2026, Month: 11, Day: 26}, Pulled: schema.Date{Year: 2026, Month: 11, Day: 26}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"GET /v2/_zot/ext/search"}, *asked); d != "" {
		t.Error(d)
	}
}

func TestSearchThatAnswersOtherwiseIsDoneWithout(t *testing.T) {
	want := []schema.RepositoryInfo{{Name: "team/app", Tags: 1}}
	for name, answer := range map[string]struct {
		text string
		code int
	}{
		"there is none":         {"", 0},
		"refused":               {`{}`, http.StatusUnauthorized},
		"broken":                {recorded(t), http.StatusInternalServerError},
		"a page":                {"<html></html>", http.StatusOK},
		"nothing":               {"{}", http.StatusOK},
		"cut":                   {recorded(t)[:100], http.StatusOK},
		"an unknown field":      {`{"errors":[{"message":"Cannot query field"}],"data":null}`, http.StatusOK},
		"half of it":            {`{"errors":[{"message":"x"}],"data":{"GlobalSearch":{"Repos":[]},"ImageList":{"Results":[]}}}`, http.StatusOK},
		"no tags":               {`{"data":{"GlobalSearch":{"Repos":[{"Name":"team/app","Size":"1"}]},"ImageList":null}}`, http.StatusOK},
		"no size":               {`{"data":{"GlobalSearch":{"Repos":[{"Name":"team/app","Size":""}]},"ImageList":{"Results":[]}}}`, http.StatusOK},
		"tags of none":          {`{"data":{"GlobalSearch":{"Repos":[]},"ImageList":{"Results":[{"RepoName":"team/app"}]}}}`, http.StatusOK},
		"another type of value": {`{"data":{"GlobalSearch":{"Repos":[{"Name":"team/app","Size":6764}]},"ImageList":{"Results":[]}}}`, http.StatusOK},
	} {
		url, _ := searchable(t, answer.text, answer.code)
		if d := cmp.Diff(want, contentOf(t, schema.Registry{Type: schema.TypeZot, URL: url})); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// TestSearchAddsToWhatLiesOnTheDisk: the disk says which repositories and tags
// there are, whatever the extension still remembers.
func TestSearchAddsToWhatLiesOnTheDisk(t *testing.T) {
	dir := t.TempDir()
	for name, index := range map[string]string{
		"team/app": `{"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"1.0"}},{"annotations":{"org.opencontainers.image.ref.name":"1.1"}},{"annotations":{"org.opencontainers.image.ref.name":"1.2"}}]}`,
		"team/new": `{"manifests":[]}`,
	} {
		if err := os.MkdirAll(filepath.Join(dir, "storage", name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "storage", name, "index.json"), []byte(index), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bare := []schema.RepositoryInfo{{Name: "team/app", Tags: 3}, {Name: "team/new"}}
	day := schema.Date{Year: 2026, Month: 11, Day: 26}
	more := []schema.RepositoryInfo{{Name: "team/app", Tags: 3, Bytes: 2072, Pushed: day, Pulled: day}, {Name: "team/new"}}
	for extensions, want := range map[string][]schema.RepositoryInfo{
		"": bare, `, "extensions": {"search": {"enable": false}}`: bare,
		`, "extensions": {"search": {"enable": true}}`: more, `, "extensions": {"search": {}}`: more,
	} {
		url, asked := searchable(t, recorded(t), http.StatusOK)
		file := filepath.Join(dir, "zot.json")
		if err := os.WriteFile(file, []byte(`{"storage": {"rootDirectory": "`+dir+`/storage"}, "http": {"address": "127.0.0.1", "port": "9"}`+extensions+`}`), 0o600); err != nil {
			t.Fatal(err)
		}
		r := schema.Registry{Type: schema.TypeZot, URL: url, Files: &schema.FilePaths{Config: file}}
		if d := cmp.Diff(want, contentOf(t, r)); d != "" {
			t.Errorf("%q: %s", extensions, d)
		}
		searches := slices.DeleteFunc(slices.Clone(*asked), func(r string) bool { return r == "GET /v2/" }) // whether it runs
		if (len(searches) > 0) != (want[0].Bytes > 0) {
			t.Errorf("%q: it asked %q", extensions, *asked)
		}
		r.URL = "http://127.0.0.1:9" // nobody there
		if d := cmp.Diff(bare, contentOf(t, r)); d != "" {
			t.Errorf("%q, nobody there: %s", extensions, d)
		}
	}
}
