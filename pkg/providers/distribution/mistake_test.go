package distribution_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/distribution"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// edited writes config.yml by hand, a minute after the registry was started.
func edited(t *testing.T, f *fake, content string) {
	t.Helper()
	later := time.Now().Add(time.Minute)
	if err := errors.Join(os.WriteFile(f.config, []byte(content), 0o600), os.Chtimes(f.config, later, later)); err != nil {
		t.Fatal(err)
	}
}

// TestAMistakeInTheFileStopsNoRegistryThatRuns: neither who asks before a restart,
// nor an apply of something else.
func TestAMistakeInTheFileStopsNoRegistryThatRuns(t *testing.T) {
	for name, tt := range map[string]struct{ old, by, want string }{
		"version":      {"version: 0.1", "version: 0.2", "config.yml:1: version: write 0.1"},
		"no version":   {"version: 0.1\n", "", "config.yml: version: write 0.1"},
		"two logins":   {"auth:\n", "auth:\n  none: {}\n", "auth: there is one way to log in; keep one of none, token"},
		"two places":   {"storage:\n", "storage:\n  s3: {region: eu}\n", "storage: content has one place; keep one of filesystem, s3"},
		"no place":     {"  filesystem:\n", "  filesystems:\n", "storage.filesystems: Distribution has no such place"},
		"loglevel":     {"version: 0.1\n", "version: 0.1\nloglevel: bogus\n", "config.yml:2: loglevel: write one of"},
		"a duration":   {"version: 0.1\n", "version: 0.1\nnotifications:\n  endpoints:\n    - timeout: ten\n", "config.yml:4: notifications.endpoints[].timeout: write a text with"},
		"a number":     {"version: 0.1\n", "version: 0.1\nnotifications:\n  endpoints:\n    - threshold: x\n", "notifications.endpoints[].threshold: write a whole number"},
		"an interval":  {"version: 0.1\n", "version: 0.1\nhealth: {storagedriver: {interval: abc}}\n", "health.storagedriver.interval: write a text with"},
		"a list":       {"version: 0.1\n", "version: 0.1\nredis: {addrs: 5}\n", "redis.addrs: write a list of texts"},
		"what is none": {"version: 0.1\n", "version: 0.1\nproxie: {}\n", "proxie: Distribution has no such setting"},
	} {
		t.Run(name, func(t *testing.T) {
			p, f := running(t)
			before := f.took
			wrong := strings.Replace(before, tt.old, tt.by, 1)
			if wrong == before {
				t.Fatalf("no %q in\n%s", tt.old, before)
			}
			edited(t, f, wrong)
			if err := p.Precheck(t.Context(), `{"http.addr":"localhost:9"}`); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "correct the file") {
				t.Errorf("a restart: %v", err)
			}
			notes, err := p.Remarks(t.Context(), schema.State{}, time.Now())
			text := ""
			for _, n := range notes {
				text += n.Text + "\n"
			}
			if err != nil || !strings.Contains(text, tt.want) || !strings.Contains(text, "correct the lines that this plan names, then run `ocisync restart`") {
				t.Errorf("%v; the plan says %s", err, text)
			}
			changes, verdicts := settings(t, p, level("debug"))
			if name != "no version" && name != "two logins" && !strings.Contains(verdicts[0].Refused, tt.want) {
				t.Errorf("the plan of a change: %+v", verdicts)
			}
			failed := write(t, p, changes) // the file is another since the plan
			if b, err := os.ReadFile(f.config); err != nil || failed != nil && string(b) != wrong {
				t.Errorf("%v; %v; it wrote\n%s", err, failed, b)
			}
			if starts := name == "no version" || name == "what is none" || name == "two logins"; starts != (failed == nil) || failed != nil && len(f.did) > 0 {
				t.Errorf("an apply: %v; it did %v", failed, f.did)
			}
		})
	}
}

func TestWhatIsIgnoredKeepsNoRegistryDown(t *testing.T) {
	p, f := running(t)
	if err := errors.Join(f.Stop(t.Context()), os.WriteFile(f.config, []byte(f.took+"proxie: {}\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Precheck(t.Context(), ""), p.BeforeStart(t.Context(), ""), f.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := p.Precheck(t.Context(), ""); err != nil { // and ignores it already
		t.Error(err)
	}
}

// TestATakingBackGoesToWhatTheRegistryWasStartedWith and not to what somebody wrote
// into the file since, of which nobody knows whether it starts; that is not lost.
func TestATakingBackGoesToWhatTheRegistryWasStartedWith(t *testing.T) {
	p, f := running(t)
	before := f.took
	edited(t, f, before+"redis: {addrs: [nowhere]}\n")
	f.refuses = "nowhere" // and ocisync does not know it
	changes, _ := settings(t, p, level("debug"))
	if err := write(t, p, changes); err == nil || !strings.Contains(err.Error(), "the registry runs with them, and ") || !strings.Contains(err.Error(), "config.refused.yml") {
		t.Errorf("error %v", err)
	}
	if b, err := os.ReadFile(f.config); err != nil || string(b) != before || !f.running || f.took != before {
		t.Errorf("%v; it runs %t with\n%s\nand the file says\n%s", err, f.running, f.took, b)
	}
	kept := strings.Replace(f.config, "config.yml", "ocisync/config.refused.yml", 1)
	if b, err := os.ReadFile(kept); err != nil || !strings.Contains(string(b), "nowhere") || !strings.Contains(string(b), "debug") {
		t.Errorf("what was written by hand: %v\n%s", err, b)
	}
	f.refuses = ""
	changes, _ = settings(t, p, level("debug"))
	if err := write(t, p, changes); err != nil || !strings.Contains(f.took, "debug") {
		t.Errorf("%v; it runs with\n%s", err, f.took)
	}
	if _, err := os.Stat(kept); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it lies there still: %v", err)
	}
}

// TestWhatTheEngineStartedAgainWithIsWhatIsPutBack: of a start of its own ocisync is
// not told.
func TestWhatTheEngineStartedAgainWithIsWhatIsPutBack(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	f := &fake{config: filepath.Join(data, "config.yml")}
	p, err := distribution.New(schema.Registry{
		Type: schema.TypeDistribution, URL: "http://localhost:9", Run: &schema.Run{Driver: schema.DriverDocker, Image: "registry", Data: data},
	}, f, providertest.Secrets{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.BeforeStart(t.Context(), ""), f.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	by := f.took + "# by hand\n"
	edited(t, f, by)
	f.running = false
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.started = f.started.Add(2 * time.Minute) // after the edit
	f.refuses = "debug"
	changes, _ := settings(t, p, level("debug"))
	if err := write(t, p, changes); err == nil || f.took != by {
		t.Errorf("%v; it runs with\n%s", err, f.took)
	}
}

// TestARestartThatFailsGoesBackToWhatTheRegistryWasStartedWith where somebody wrote
// what it does not start with, and nothing sees that beforehand.
func TestARestartThatFailsGoesBackToWhatTheRegistryWasStartedWith(t *testing.T) {
	_, f := running(t)
	m := &maker{fake: f, made: &providers.Made{}}
	p := open(t, filepath.Dir(f.config), m)
	if goBack, err := p.Revert(t.Context()); goBack != nil || err != nil {
		t.Errorf("nothing to go back to: %v", err)
	}
	before := f.took
	edited(t, f, before+"redis: {addrs: [nowhere]}\n")
	goBack, err := p.Revert(t.Context())
	if goBack == nil || err != nil {
		t.Fatal(err)
	}
	f.refuses = "nowhere"
	why := errors.Join(f.Stop(t.Context()), p.BeforeStart(t.Context(), ""), f.Start(t.Context()))
	if why == nil {
		t.Fatal("it starts")
	}
	if err := goBack(why); !errors.Is(err, why) || !strings.Contains(err.Error(), "it runs again, with config.yml put back, and ") || !strings.Contains(err.Error(), "config.refused.yml holds") {
		t.Errorf("error %v", err)
	}
	if b, err := os.ReadFile(f.config); err != nil || string(b) != before || !f.running || f.took != before {
		t.Errorf("%v; it runs %t with\n%s\nand the file says\n%s", err, f.running, f.took, b)
	}
	if b, err := os.ReadFile(filepath.Join(filepath.Dir(f.config), "ocisync", "config.refused.yml")); err != nil || !strings.Contains(string(b), "nowhere") {
		t.Errorf("what was written by hand: %v\n%s", err, b)
	}
	if err := p.BeforeStart(t.Context(), ""); err != nil { // as who starts it again does
		t.Fatal(err)
	}
	if goBack, err := p.Revert(t.Context()); goBack != nil || err != nil {
		t.Errorf("afterwards: %v", err)
	}
	f.running = false
	edited(t, f, before+"# by hand\n")
	if goBack, err := p.Revert(t.Context()); goBack != nil || err != nil {
		t.Errorf("of one that does not run: %v", err)
	}
}
