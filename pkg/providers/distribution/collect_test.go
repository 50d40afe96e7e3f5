package distribution_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
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
	binary  string
	url     string
	stuck   bool // what it is asked to delete stays

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
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://localhost:9/token",service="registry"`)
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
		case r.Method == http.MethodDelete && strings.Contains(c.process.took, "readonly:\n      enabled: true"):
			w.WriteHeader(http.StatusMethodNotAllowed)
		case r.Method == http.MethodDelete:
			c.mu.Lock()
			c.deleted = append(c.deleted, path)
			repository, reference, _ := strings.Cut(path, "/manifests/")
			manifests := filepath.Join(data, "storage/docker/registry/v2/repositories", repository, "_manifests")
			gone := filepath.Join(manifests, "tags", reference)
			if hex, ok := strings.CutPrefix(reference, "sha256:"); ok {
				gone = filepath.Join(manifests, "revisions/sha256", hex, "link")
			}
			if !c.stuck {
				if err := os.RemoveAll(gone); err != nil {
					t.Error(err)
				}
			}
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
	c.binary, c.url = program, server.URL
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
	if err := os.MkdirAll(filepath.Join(c.data, "storage/docker/registry/v2/blobs"), 0o700); err != nil {
		t.Fatal(err)
	}
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

// unlinked leaves of a manifest what a deletion so long ago leaves.
func (c *collected) unlinked(t *testing.T, repository, digit string, ago time.Duration) string {
	t.Helper()
	dir := filepath.Join(c.data, "storage/docker/registry/v2/repositories", repository, "_manifests/revisions/sha256", strings.Repeat(digit, 64))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-ago)
	if err := os.Chtimes(dir, at, at); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestOnlyFallbackTagsWhoseSubjectIsGoneAreCollected, and not those whose subject
// was never there, as far as is known: they may be kept apart from it.
func TestOnlyFallbackTagsWhoseSubjectIsGoneAreCollected(t *testing.T) {
	c := collecting(t, schema.DriverProcess)
	of := func(digit string) string { return "sha256-" + strings.Repeat(digit, 64) }
	const old = 48 * time.Hour
	c.tag(t, "team/app:1", old)
	c.tag(t, "team/app:"+of("a"), old)            // its subject is there
	c.tag(t, "team/app:"+of("b"), old)            // gone
	c.tag(t, "team/app:"+of("b")+".sig", old)     // cosign's
	c.tag(t, "team/app:"+of("c"), old)            // never was there
	c.tag(t, "team/app:"+of("c")+".sig", old)     // likewise
	c.tag(t, "team/app:"+of("d"), time.Hour)      // may yet come
	c.tag(t, "team/app:"+of("e"), old)            // pushed since its subject was deleted
	c.tag(t, "team/app:"+of("f"), old)            // whose subject is just being put there
	c.tag(t, "ocisync/m:"+of("b"), old)           // ocisync's own
	c.tag(t, "team/app:sha256-"+of("B")[7:], old) // no digest
	for _, digit := range []string{"a", "b", "d"} {
		c.unlinked(t, "team/app", digit, 0)
	}
	c.unlinked(t, "ocisync/m", "b", 0)
	c.unlinked(t, "team/app", "e", 2*old)
	if err := os.WriteFile(filepath.Join(c.unlinked(t, "team/app", "f", 0), "link.1.tmp"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dry := range []bool{true, false} {
		report, err := c.Run(t.Context(), "gc", dry)
		if err != nil {
			t.Fatal(err)
		}
		if report.Collected.Tags != 2 || report.Collected.Blobs != 1 {
			t.Errorf("dry %v: %+v", dry, report.Collected)
		}
		var want []string
		if !dry {
			want = []string{"team/app/manifests/" + of("b"), "team/app/manifests/" + of("b") + ".sig"}
		}
		if diff := cmp.Diff(want, c.deleted); diff != "" {
			t.Errorf("dry %v: deleted (-want +got):\n%s", dry, diff)
		}
	}
}

// TestReferrersGoWithWhatTheProgramIsAboutToTake, which else leaves nothing that
// tells that their subject was there; and none of a subject that stays.
func TestReferrersGoWithWhatTheProgramIsAboutToTake(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		c := collecting(t, schema.DriverProcess)
		c.stuck = stuck
		if err := write(t, c.Provider, []plan.Change{create(schema.KindGC, "", &schema.GC{Untagged: new(true)})}); err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, digit := range []string{"b", "c"} {
			hex := strings.Repeat(digit, 64)
			c.tag(t, "team/app:sha256-"+hex, 48*time.Hour)
			if err := os.WriteFile(filepath.Join(c.unlinked(t, "team/app", digit, 0), "link"), []byte("sha256:"+hex), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		b := strings.Repeat("b", 64)
		script := "#!/bin/sh\necho 'manifest eligible for deletion: {team/app sha256:" + b + " [sha256-" + b + "]}'\necho 'manifest eligible for deletion: {team/other sha256:" + strings.Repeat("c", 64) + " []}'\n"
		if err := os.WriteFile(c.binary, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, dry := range []bool{true, false} {
			report, err := c.Run(t.Context(), "gc", dry)
			if err != nil || report.Collected.Tags != 1 && !stuck {
				t.Errorf("stuck %v, dry %v: %+v, %v", stuck, dry, report.Collected, err)
			}
			if !dry {
				want = []string{"team/app/manifests/sha256:" + b, "team/app/manifests/sha256-" + b}
			}
			if stuck {
				want = want[:min(len(want), 1)]
			}
			if diff := cmp.Diff(want, c.deleted); diff != "" {
				t.Errorf("stuck %v, dry %v: deleted (-want +got):\n%s", stuck, dry, diff)
			}
		}
	}
}

// TestReferrersGoAfterACollectionThatWasKilled: it left the registry read-only,
// which deletes nothing then.
func TestReferrersGoAfterACollectionThatWasKilled(t *testing.T) {
	c := collecting(t, schema.DriverProcess)
	tag := "sha256-" + strings.Repeat("b", 64)
	c.tag(t, "team/app:"+tag, 48*time.Hour)
	c.unlinked(t, "team/app", "b", 0)
	c.process.took = strings.Replace(c.process.took, "readonly:\n      enabled: false", "readonly:\n      enabled: true", 1)
	if err := os.WriteFile(c.process.config, []byte(c.process.took), 0o600); err != nil {
		t.Fatal(err)
	}
	report, err := c.Run(t.Context(), "gc", false)
	if err != nil || report.Collected.Tags != 1 || len(c.deleted) != 1 {
		t.Errorf("%+v, %v: deleted %q", report.Collected, err, c.deleted)
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
	if why := asks(container, gc, &schema.GC{Schedule: daily}); why != "" {
		t.Errorf("gc of a container: %q", why)
	}
	if why := asks(container, retained, &schema.Retention{Schedule: daily}); why != "" {
		t.Errorf("retention of a container: %s", why)
	}
}

// inContainer has the program of a fake container do what a function says of the
// arguments, or list one blob.
func (c *collected) inContainer(act func(args string) error) {
	c.process.command = func(args []string, stdout io.Writer) error {
		if err := act(strings.Join(args, " ")); err != nil {
			return err
		}
		_, err := fmt.Fprintln(stdout, "blob eligible for deletion: sha256:"+strings.Repeat("c", 64))
		return err
	}
}

// TestACollectionInAContainerIsItsOwnProgramWhileItTakesNoPushes, and pushes are
// taken again after it, whatever became of it.
func TestACollectionInAContainerIsItsOwnProgramWhileItTakesNoPushes(t *testing.T) {
	c := collecting(t, schema.DriverDocker)
	c.tag(t, "team/app:1", time.Hour)
	var asked []string
	var fails error
	c.inContainer(func(args string) error {
		asked = append(asked, args)
		if !strings.Contains(c.process.took, "readonly:\n      enabled: true") && !strings.Contains(args, "--dry-run") {
			t.Errorf("%s while it takes pushes:\n%s", args, c.process.took)
		}
		return fails
	})
	c.process.did = nil
	report, err := c.Run(t.Context(), "gc", false)
	if err != nil || report.Collected.Blobs != 1 {
		t.Errorf("%+v, %v", report.Collected, err)
	}
	config := filepath.Join(c.data, "config.yml")
	if diff := cmp.Diff([]string{"garbage-collect " + config + " --dry-run", "garbage-collect " + config}, asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"stop", "start", "garbage-collect", "garbage-collect", "stop", "start"}, c.process.did); diff != "" {
		t.Errorf("done (-want +got):\n%s", diff)
	}
	fails = errors.New("exit status 1")
	if _, err := c.Run(t.Context(), "gc", false); !errors.Is(err, fails) {
		t.Errorf("error %v", err)
	}
	if !c.process.running || !strings.Contains(c.process.took, "readonly:\n      enabled: false") {
		t.Errorf("it runs %v with:\n%s", c.process.running, c.process.took)
	}
	c.process.running = false
	if _, err := c.Run(t.Context(), "gc", true); err == nil || !strings.Contains(err.Error(), "ocisync up") {
		t.Errorf("without a container: %v", err)
	}
}

// TestWhoTakesARegistryDownInTheMiddleOfACollectionIsObeyed: it is not started
// again, and when it is, it takes pushes.
func TestWhoTakesARegistryDownInTheMiddleOfACollectionIsObeyed(t *testing.T) {
	for _, moment := range []string{"while the program runs", "while it is being restarted"} {
		t.Run(moment, func(t *testing.T) {
			c := collecting(t, schema.DriverDocker)
			c.tag(t, "team/app:1", time.Hour)
			down := func() { c.process.running, c.process.down = false, true }
			killed := errors.New("it was stopped meanwhile")
			c.inContainer(func(args string) error {
				if strings.Contains(args, "--dry-run") {
					return nil
				}
				down()
				return killed
			})
			if moment == "while it is being restarted" {
				c.process.stopping = down
				killed = nil
			}
			c.process.did = nil
			_, err := c.Run(t.Context(), "gc", false)
			if err == nil || killed != nil && !errors.Is(err, killed) {
				t.Errorf("error %v", err)
			}
			if c.process.running || c.process.did[len(c.process.did)-1] == "start" {
				t.Errorf("it was started again: %q", c.process.did)
			}
			if b, err := os.ReadFile(c.process.config); err != nil || !strings.Contains(string(b), "readonly:\n      enabled: false") {
				t.Errorf("%v: the next start takes no pushes:\n%s", err, b)
			}
		})
	}
}

// TestWhatAKilledCollectionLeftInAContainerEndsBeforeTheNext: the program goes on
// in there after who started it is gone.
func TestWhatAKilledCollectionLeftInAContainerEndsBeforeTheNext(t *testing.T) {
	c := collecting(t, schema.DriverDocker)
	c.tag(t, "team/app:1", time.Hour)
	c.inContainer(func(string) error { return nil })
	killed := strings.Replace(c.process.took, "readonly:\n      enabled: false", "readonly:\n      enabled: true", 1)
	if err := os.WriteFile(c.process.config, []byte(killed), 0o600); err != nil {
		t.Fatal(err)
	}
	changes, _ := settings(t, c.Provider)
	if len(changes) != 1 || changes[0].Fields[0].Path != "values.storage.maintenance.readonly.enabled" {
		t.Errorf("the plan says %+v", changes)
	}
	c.process.did = nil
	if _, err := c.Run(t.Context(), "gc", false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"stop", "start", "garbage-collect", "garbage-collect", "stop", "start"}, c.process.did); diff != "" {
		t.Errorf("done (-want +got):\n%s", diff)
	}
	if !strings.Contains(c.process.took, "readonly:\n      enabled: false") {
		t.Errorf("it runs with:\n%s", c.process.took)
	}
}

// TestAStartAfterACollectionThatWasKilledTakesPushes, but not one while it goes on.
func TestAStartAfterACollectionThatWasKilledTakesPushes(t *testing.T) {
	c := collecting(t, schema.DriverProcess)
	killed := strings.Replace(c.process.took, "readonly:\n      enabled: false", "readonly:\n      enabled: true", 1)
	if killed == c.process.took {
		t.Fatal(killed)
	}
	c.process.running = false
	if err := os.WriteFile(c.process.config, []byte(killed), 0o600); err != nil {
		t.Fatal(err)
	}
	release, err := c.Alone(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	starts := func() string {
		t.Helper()
		if err := errors.Join(c.BeforeStart(t.Context(), ""), c.process.Stop(t.Context()), c.process.Start(t.Context())); err != nil {
			t.Fatal(err)
		}
		return c.process.took
	}
	if took := starts(); took != killed {
		t.Errorf("it takes pushes in the middle of a collection:\n%s", took)
	}
	release()
	if took := starts(); !strings.Contains(took, "readonly:\n      enabled: false") {
		t.Errorf("it takes no pushes:\n%s", took)
	}
}

// TestACollectorThatOutlivesItsStarterKeepsPushesAway: it goes on removing.
func TestACollectorThatOutlivesItsStarterKeepsPushesAway(t *testing.T) {
	c := collecting(t, schema.DriverProcess)
	c.tag(t, "team/app:1", 0)
	ended := filepath.Join(c.data, "ended")
	script := "#!/bin/sh\ncase \"$*\" in *--dry-run) ;; *) (sleep 0.5; touch " + ended + ") <&- >&- 2>&- & ;; esac\n"
	if err := os.WriteFile(c.binary, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Run(t.Context(), "gc", false); err != nil {
		t.Fatal(err)
	}
	shut := strings.Replace(c.process.took, "readonly:\n      enabled: false", "readonly:\n      enabled: true", 1)
	if err := errors.Join(os.WriteFile(c.process.config, []byte(shut), 0o600), c.process.Stop(t.Context()), c.process.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); c.process.took == shut; time.Sleep(10 * time.Millisecond) {
		if err := c.Tend(t.Context(), time.Hour); err != nil || time.Now().After(deadline) {
			t.Fatalf("it is not mended: %v", err)
		}
	}
	if _, err := os.Stat(ended); err != nil {
		t.Error("the registry takes pushes while its content is collected")
	}
}

// TestARegistryThatAKilledCollectionLeftReadOnlyIsMended while it runs, and who
// asks is told until then.
func TestARegistryThatAKilledCollectionLeftReadOnlyIsMended(t *testing.T) {
	c := collecting(t, schema.DriverProcess)
	killed := strings.Replace(c.process.took, "readonly:\n      enabled: false", "readonly:\n      enabled: true", 1)
	if err := errors.Join(os.WriteFile(c.process.config, []byte(killed), 0o600), c.process.Stop(t.Context()), c.process.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	told := func() string {
		t.Helper()
		troubles, err := c.Troubles(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(troubles)
	}
	release, err := c.Alone(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.process.did = nil
	if err := c.Tend(t.Context(), 0); err != nil || len(c.process.did) > 0 {
		t.Errorf("in the middle of a collection: %v, %q", err, c.process.did)
	}
	if text := told(); !strings.Contains(text, "while it is collected true") {
		t.Errorf("in the middle of a collection: %s", text)
	}
	if changes, _ := settings(t, c.Provider); len(changes) != 0 {
		t.Errorf("in the middle of a collection the plan has %+v", changes)
	}
	planned, _ := settings(t, c.Provider, level("debug"))
	release()
	if text := told(); !strings.Contains(text, "{pushes it is read-only: a collection was killed") {
		t.Errorf("it says %s", text)
	}
	if err := c.Tend(t.Context(), 0); err != nil || !strings.Contains(c.process.took, "readonly:\n      enabled: false") {
		t.Errorf("error %v, it runs with:\n%s", err, c.process.took)
	}
	if text := told(); text != "[]" {
		t.Errorf("it says %s", text)
	}
	c.process.did = nil
	if err := c.Tend(t.Context(), time.Hour); err != nil || len(c.process.did) > 0 {
		t.Errorf("one that is well: %v, %q", err, c.process.did)
	}
	if err := write(t, c.Provider, planned); err != nil || !strings.Contains(c.process.took, "debug") {
		t.Errorf("what was planned in the middle of a collection: %v", err)
	}
}

// TestAContainerThatAKilledCollectionLeftStoppedIsStarted by who looks after it, and
// by the next job; one that somebody took down is not.
func TestAContainerThatAKilledCollectionLeftStoppedIsStarted(t *testing.T) {
	for name, mend := range map[string]func(*collected) error{
		"looked after": func(c *collected) error { return c.Tend(t.Context(), 0) },
		"a job":        func(c *collected) error { _, err := c.Run(t.Context(), "gc", false); return err },
	} {
		t.Run(name, func(t *testing.T) {
			c := collecting(t, schema.DriverDocker)
			c.tag(t, "team/app:1", time.Hour)
			c.inContainer(func(string) error { return nil })
			killed := func() {
				t.Helper()
				c.process.die = true
				defer func() {
					if c.process.die, c.process.running = false, false; recover() == nil {
						t.Error("nobody was killed")
					}
				}()
				c.Run(t.Context(), "gc", false) //nolint:errcheck // it does not return
			}
			killed()
			c.process.down = true
			if err := c.Tend(t.Context(), 0); err != nil || c.process.running {
				t.Errorf("one that was taken down: %v", err)
			}
			c.process.down = false
			former := filepath.Join(c.data, "ocisync", "config.former.yml")
			if err := errors.Join(os.Rename(former, former+".away"), os.Symlink(former, former)); err != nil {
				t.Fatal(err)
			}
			if err := c.Tend(t.Context(), 0); err == nil || c.process.running {
				t.Errorf("what it ran with cannot be read: %v", err)
			}
			if err := os.Rename(former+".away", former); err != nil {
				t.Fatal(err)
			}
			if err := mend(c); err != nil || !c.process.running || !strings.Contains(c.process.took, "readonly:\n      enabled: false") {
				t.Errorf("%v; running %t with\n%s", err, c.process.running, c.process.took)
			}
			if c.process.running = false; c.Tend(t.Context(), 0) != nil || c.process.running {
				t.Error("one that somebody stopped was started")
			}
		})
	}
}

// TestARegistryToWhichNothingWasPushedIsNotRestartedForACollection, which its
// program would fail at.
func TestARegistryToWhichNothingWasPushedIsNotRestartedForACollection(t *testing.T) {
	for _, driver := range []string{schema.DriverProcess, schema.DriverDocker} {
		c := collecting(t, driver)
		c.process.did = nil
		for _, dry := range []bool{true, false} {
			report, err := c.Run(t.Context(), "gc", dry)
			if err != nil || report.Collected == nil || report.Collected.Blobs != 0 || len(c.process.did) > 0 {
				t.Errorf("%s, dry %v: %+v, %v, it did %q", driver, dry, report.Collected, err, c.process.did)
			}
		}
		if _, err := os.Stat(filepath.Join(c.data, "asked")); err == nil {
			t.Errorf("%s: its program was asked", driver)
		}
		shut := strings.Replace(c.process.took, "readonly:\n      enabled: false", "readonly:\n      enabled: true", 1)
		if err := errors.Join(os.WriteFile(c.process.config, []byte(shut), 0o600), c.process.Stop(t.Context()), c.process.Start(t.Context())); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Run(t.Context(), "gc", false); err != nil || !strings.Contains(c.process.took, "readonly:\n      enabled: false") {
			t.Errorf("%s: one that takes no pushes: %v, it runs with\n%s", driver, err, c.process.took)
		}
	}
}

// TestABucketToWhichNothingWasPushedIsNoFailure: the program alone can tell, and says
// it as a failure.
func TestABucketToWhichNothingWasPushedIsNoFailure(t *testing.T) {
	c := collecting(t, schema.DriverProcess)
	moved := strings.Replace(c.process.took, "filesystem:", "inmemory:", 1)
	if err := os.WriteFile(c.process.config, []byte(moved), 0o600); err != nil {
		t.Fatal(err)
	}
	says := func(text string) error {
		t.Helper()
		if err := os.WriteFile(c.binary, []byte("#!/bin/sh\necho '"+text+"' >&2\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		_, err := c.Run(t.Context(), "gc", false)
		return err
	}
	for text, fails := range map[string]bool{
		"failed to garbage collect: failed to mark: s3aws: Path not found: /docker/registry/v2/repositories":                false,
		"failed to garbage collect: error enumerating blobs: s3aws: Path not found: /docker/registry/v2/blobs":              false,
		"failed to garbage collect: failed to mark: s3aws: Path not found: /docker/registry/v2/repositories/app/_manifests": true,
	} {
		if err := says(text); (err != nil) != fails {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestACollectionWaitsForNoPipe that lies among the content: its program would, for
// ever, while the registry takes no pushes.
func TestACollectionWaitsForNoPipe(t *testing.T) {
	c := collecting(t, schema.DriverProcess)
	c.tag(t, "team/app:1", time.Hour)
	pipe := filepath.Join(c.data, "storage/docker/registry/v2/repositories/team/app/_manifests/tags/1/current/more")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	c.process.did = nil
	for what, remove := range map[string]string{"a pipe": "", "a link to one": pipe + ".link"} {
		if remove != "" {
			away := filepath.Join(t.TempDir(), "pipe")
			if err := errors.Join(os.Rename(pipe, away), os.Symlink(away, remove)); err != nil {
				t.Fatal(err)
			}
		}
		for _, dry := range []bool{true, false} {
			if _, err := c.Run(t.Context(), "gc", dry); err == nil || !strings.Contains(err.Error(), "current/more") || !strings.Contains(err.Error(), "remove it") {
				t.Errorf("%s, dry %v: %v", what, dry, err)
			}
		}
		if remove != "" {
			if err := errors.Join(os.Remove(remove), syscall.Mkfifo(pipe, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(c.process.did) > 0 {
		t.Errorf("it did %q", c.process.did)
	}
}
