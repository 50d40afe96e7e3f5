package distribution_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/providers/distribution"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// TestALineThatTheRegistryDoesNotReadIsAnsweredOnce: it goes on with the accounts that it
// had, and a plan is to tell of the line, not of an answer.
func TestALineThatTheRegistryDoesNotReadIsAnsweredOnce(t *testing.T) {
	for name, c := range map[string]struct {
		line      string
		bad       int // answers
		status    int
		mentioned bool
	}{
		"once":            {"garbage line\n", 1, http.StatusOK, false},
		"started so":      {"garbage line\n", 9, 0, true},
		"of another kind": {"", 9, http.StatusBadRequest, false},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if asked++; asked <= c.bad {
					w.WriteHeader(http.StatusBadRequest)
				}
			}))
			defer server.Close()
			dir := t.TempDir()
			file := filepath.Join(dir, "htpasswd")
			if err := os.WriteFile(file, []byte("# accounts\n"+c.line), 0o600); err != nil {
				t.Fatal(err)
			}
			p, err := distribution.New(schema.Registry{Type: schema.TypeDistribution, URL: server.URL, Files: &schema.FilePaths{Htpasswd: file}}, nil, providertest.Secrets{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			rt, release, err := p.Transport(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer release()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/v2/ocisync/state/manifests/m", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := rt.RoundTrip(req)
			if resp != nil {
				resp.Body.Close()
			}
			switch {
			case c.mentioned && (err == nil || !strings.Contains(err.Error(), file+":2: ") || !strings.Contains(err.Error(), "remove the line")):
				t.Errorf("error %v", err)
			case !c.mentioned && (err != nil || resp.StatusCode != c.status):
				t.Errorf("%+v, %v", resp, err)
			}
		})
	}
}

// TestWhatSomebodyElseRunsIsNotStartedByOcisync: ocisync up is refused there.
func TestWhatSomebodyElseRunsIsNotStartedByOcisync(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config.yml") // which is on another host
	p, err := distribution.New(schema.Registry{Type: schema.TypeDistribution, URL: "http://127.0.0.1:9", Files: &schema.FilePaths{Config: config}}, nil, providertest.Secrets{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if says := p.StartIt(); strings.Contains(says, "ocisync up") {
		t.Errorf("it says %s", says)
	}
}
