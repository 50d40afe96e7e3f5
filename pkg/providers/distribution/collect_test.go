package distribution_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/distribution"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// collected is a registry of a fake process, with content, whose program says
// what it would remove, and fails unless the registry takes no pushes.
type collected struct {
	*distribution.Provider
	process *fake
	data    string

	mu      sync.Mutex
	deleted []string
}

func collecting(t *testing.T, driver string) *collected {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	c := &collected{data: data, process: &fake{config: filepath.Join(data, "config.yml")}}
	there := "sha256:" + strings.Repeat("a", 64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		switch path := strings.TrimPrefix(r.URL.Path, "/v2/"); {
		case path == "_catalog":
			fmt.Fprint(w, `{"repositories":["ocisync/m","team/app"]}`) //nolint:errcheck // a test's
		case strings.HasSuffix(path, "/tags/list"):
			tags, err := filepath.Glob(filepath.Join(data, "storage/docker/registry/v2/repositories", strings.TrimSuffix(path, "/tags/list"), "_manifests/tags/*"))
			if err != nil {
				t.Error(err)
			}
			for i := range tags {
				tags[i] = `"` + filepath.Base(tags[i]) + `"`
			}
			fmt.Fprintf(w, `{"tags":[%s]}`, strings.Join(tags, ",")) //nolint:errcheck // a test's
		case r.Method == http.MethodHead && strings.HasSuffix(path, "/manifests/"+there):
			if len(r.Header.Values("Accept")) != 4 { // as Distribution does
				w.WriteHeader(http.StatusNotFound)
			}
		case r.Method == http.MethodDelete:
			c.mu.Lock()
			c.deleted = append(c.deleted, path)
			c.mu.Unlock()
			w.WriteHeader(http.StatusAccepted)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(server.Close)
	program := filepath.Join(t.TempDir(), "registry")
	script := "#!/bin/sh\necho \"$@\" >>" + data + "/asked\n" +
		`case "$*" in *--dry-run) ;; *) grep -A1 readonly: "$2" | grep -q 'enabled: true' || { echo it takes pushes >&2; exit 3; } ;; esac` + "\n" +
		"echo blob eligible for deletion: sha256:" + strings.Repeat("c", 64) + "\n"
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	var err error
	c.Provider, err = distribution.New(schema.Registry{
		Type: schema.TypeDistribution, URL: server.URL, Run: &schema.Run{Driver: driver, Data: data, Binary: program},
		Token: &schema.TokenService{URL: "http://localhost:9"},
	}, c.process, providertest.Secrets{}, nil, distribution.HashCost(bcrypt.MinCost))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.BeforeStart(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if err := c.process.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// tag puts a tag into the store that is as old as that.
func (c *collected) tag(t *testing.T, name string, age time.Duration) {
	t.Helper()
	repository, tag, _ := strings.Cut(name, ":")
	link := filepath.Join(c.data, "storage/docker/registry/v2/repositories", repository, "_manifests/tags", tag, "current/link")
	if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(link, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	made := time.Now().Add(-age)
	if err := os.Chtimes(link, made, made); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyFallbackTagsWhoseSubjectIsGoneAreCollected(t *testing.T) {
	c := collecting(t, schema.DriverProcess)
	of := func(digit string) string { return "sha256-" + strings.Repeat(digit, 64) }
	const old = 48 * time.Hour
	c.tag(t, "team/app:1", old)
	c.tag(t, "team/app:"+of("a"), old)            // its subject is there
	c.tag(t, "team/app:"+of("b"), old)            // gone
	c.tag(t, "team/app:"+of("d"), time.Hour)      // may yet come
	c.tag(t, "team/app:"+of("e")+".sig", old)     // no fallback tag of the specification
	c.tag(t, "ocisync/m:"+of("b"), old)           // ocisync's own
	c.tag(t, "team/app:sha256-"+of("B")[7:], old) // no digest
	for _, dry := range []bool{true, false} {
		report, err := c.Run(t.Context(), "gc", dry)
		if err != nil {
			t.Fatal(err)
		}
		if report.Collected.Tags != 1 || report.Collected.Blobs != 1 {
			t.Errorf("dry %v: %+v", dry, report.Collected)
		}
		var want []string
		if !dry {
			want = []string{"team/app/manifests/" + of("b")}
		}
		if diff := cmp.Diff(want, c.deleted); diff != "" {
			t.Errorf("dry %v: deleted (-want +got):\n%s", dry, diff)
		}
	}
}

func TestNothingElseIsAtTheRegistryWhileItCollects(t *testing.T) {
	c := collecting(t, schema.DriverProcess)
	c.tag(t, "team/app:1", time.Hour)
	release, err := c.Alone(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	soon, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Run(soon, "gc", false); err == nil || !strings.Contains(err.Error(), "another job") {
		t.Errorf("a second collection: %v", err)
	}
	changes, _ := settings(t, c.Provider, level("debug"))
	c.process.did = nil
	soon, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err = c.Write(soon, changes, func(_ schema.Key, failed error) {
		if failed == nil || !strings.Contains(failed.Error(), "another job") {
			t.Errorf("settings: %v", failed)
		}
	})
	if len(c.process.did) != 0 {
		t.Errorf("the registry was restarted in the middle: %v, %v", c.process.did, err)
	}
	release()
	if _, err := c.Run(t.Context(), "gc", false); err != nil {
		t.Error(err)
	}
}

func TestSchedulesHoldWhereSomebodyKeepsThem(t *testing.T) {
	daily := new("@daily")
	gc, retained := schema.Key{Kind: schema.KindGC}, schema.Key{Kind: schema.KindRetention, Name: "team"}
	asks := func(p providers.Provider, key schema.Key, spec schema.Spec) string {
		t.Helper()
		verdicts, err := p.Prepare(t.Context(), []plan.Change{{Action: plan.Create, Key: key, After: &schema.Resource{Key: key, Spec: spec}}})
		if err != nil {
			t.Fatal(err)
		}
		return verdicts[0].Refused
	}
	process, container := collecting(t, schema.DriverProcess), collecting(t, schema.DriverDocker)
	if why := asks(process, gc, &schema.GC{Schedule: daily, Zone: new("Europe/Madrid")}); why != "" {
		t.Errorf("gc of a process: %s", why)
	}
	if why := asks(process, retained, &schema.Retention{Schedule: daily}); why != "" {
		t.Errorf("retention: %s", why)
	}
	if why := asks(container, gc, &schema.GC{Schedule: daily}); !strings.Contains(why, "garbage-collect") {
		t.Errorf("gc of a container: %q", why)
	}
	if why := asks(container, retained, &schema.Retention{Schedule: daily}); why != "" {
		t.Errorf("retention of a container: %s", why)
	}
}
