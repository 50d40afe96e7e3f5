package distribution_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/distribution"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// TestThePlanThatSwitchesLoginsOnListsWhatItCloses, as far as it sees that.
func TestThePlanThatSwitchesLoginsOnListsWhatItCloses(t *testing.T) {
	const bare = "version: 0.1\nstorage:\n  inmemory: {}\n"
	rule := plan.Change{Action: plan.Create, Key: schema.Key{Kind: schema.KindAccess, Name: "team"}, After: &schema.Resource{
		Key: schema.Key{Kind: schema.KindAccess, Name: "team"}, Spec: &schema.Access{},
	}}
	pages := 0
	few := func(w http.ResponseWriter, _ *http.Request) {
		if _, err := fmt.Fprint(w, `{"repositories":["x/y","team/z","ocisync/state"]}`); err != nil {
			t.Error(err)
		}
	}
	const on = "switches logins on, where anybody could do everything: whoever has no account may do nothing any more but what a rule gives anonymous clients"
	for name, tt := range map[string]struct {
		config    string
		catalogue http.HandlerFunc
		code      int // of /v2/
		htpasswd  bool
		rules     []plan.Change
		want      []string // of the settings, and of the rule
	}{
		"all":           {bare, few, 200, false, nil, []string{on + "; this closes to them: team/z, x/y"}},
		"some ruled":    {bare, few, 200, false, []plan.Change{rule}, []string{on + "; of what no rule of this plan is about, this closes to them: x/y", "closes to all that it does not name: team/z"}},
		"nobody is it":  {bare + "auth:\n  none: {}\n", few, 200, false, nil, []string{on + "; this closes to them: team/z, x/y"}},
		"an htpasswd":   {bare, few, 200, true, nil, []string{"whoever has no account may do nothing any more, and whoever has one everything; this closes to them: team/z, x/y"}},
		"cannot be had": {bare, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, 200, false, []plan.Change{rule}, []string{on + "; which repositories that closes to them cannot be listed here", ""}},
		"any header":    {bare + "auth:\n  silly:\n    realm: x\n    service: x\n", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, 401, false, nil, []string{on + "; which repositories that closes to them cannot be listed here"}},
		"very many": {bare, func(w http.ResponseWriter, r *http.Request) {
			if pages++; pages > 10 {
				t.Errorf("page %d is asked for", pages)
				return
			}
			w.Header().Set("Link", `</v2/_catalog?n=1000&last=z>; rel="next"`)
			names := make([]string, 1000)
			for i := range names {
				names[i] = fmt.Sprintf(`"r/%d-%d"`, pages, i)
			}
			if _, err := fmt.Fprintf(w, `{"repositories":[%s]}`, strings.Join(names, ",")); err != nil {
				t.Error(err)
			}
		}, 200, false, nil, []string{" and 9000 more; there are more repositories, which were not looked at"}},
		"it asks already":    {bare, few, 401, false, nil, []string{""}},
		"it is in the file":  {bare + "auth:\n  token:\n    realm: http://localhost:7/token\n    service: x\n    issuer: ocisync\n", few, 200, false, nil, []string{""}},
		"accounts are there": {bare + "auth:\n  htpasswd:\n    realm: x\n    path: /srv/htpasswd\n", few, 200, false, nil, []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			answers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
				switch {
				case strings.HasPrefix(r.URL.Path, "/v2/_catalog"):
					tt.catalogue(w, r)
				case tt.code == http.StatusUnauthorized:
					w.Header().Set("WWW-Authenticate", `Bearer realm="http://localhost:7/token",service="x"`)
					w.WriteHeader(tt.code)
				default:
					if _, err := fmt.Fprint(w, "{}"); err != nil {
						t.Error(err)
					}
				}
			}))
			t.Cleanup(answers.Close)
			config := filepath.Join(t.TempDir(), "config.yml")
			if err := os.WriteFile(config, []byte(tt.config), 0o600); err != nil {
				t.Fatal(err)
			}
			r := schema.Registry{Type: schema.TypeDistribution, URL: answers.URL, Files: &schema.FilePaths{Config: config}, Token: &schema.TokenService{URL: "http://localhost:10"}}
			var declared []schema.Value
			if tt.htpasswd {
				r.Token, r.Files.Htpasswd = nil, filepath.Join(filepath.Dir(config), "htpasswd")
				declared = []schema.Value{{Path: "auth.htpasswd.path", JSON: `"/srv/htpasswd"`}, {Path: "auth.htpasswd.realm", JSON: `"x"`}}
			}
			p, err := distribution.New(r, nil, providertest.Secrets{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			changes, _ := settings(t, p, declared...)
			if len(changes) != 1 {
				t.Fatalf("planned: %+v", changes)
			}
			pages = 0
			verdicts, err := p.Prepare(t.Context(), append(changes, tt.rules...))
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range tt.want {
				if got := closes(verdicts[i]); !strings.HasSuffix(got, want) || want == "" && got != "" {
					t.Errorf("of %d it says %.300q, want %q", i, got, want)
				}
			}
		})
	}
}

// closes is what a verdict says of what closes.
func closes(v providers.Verdict) string {
	for _, n := range v.Notes {
		if strings.Contains(n, "closes") || strings.Contains(n, "logins on") {
			return n
		}
	}
	return ""
}
