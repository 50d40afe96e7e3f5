package distribution_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/distribution"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// theirs is a registry of somebody else's that answers, with debug written and
// pending.
func theirs(t *testing.T) (p *distribution.Provider, config, log string) {
	t.Helper()
	answers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		_, _ = w.Write([]byte("{}")) // the test would see
	}))
	t.Cleanup(answers.Close)
	config, log = filepath.Join(t.TempDir(), "config.yml"), filepath.Join(t.TempDir(), "registry.log")
	if err := os.WriteFile(config, []byte("version: 0.1\nstorage:\n  inmemory: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := distribution.New(schema.Registry{Type: schema.TypeDistribution, URL: answers.URL, Files: &schema.FilePaths{Config: config, Log: log}}, nil, providertest.Secrets{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p, config, log
}

// pending writes debug, and sees that it stays a change.
func pending(t *testing.T, p *distribution.Provider) {
	t.Helper()
	for range 2 { // the second apply finds the file as it shall be
		changes, _ := settings(t, p, level("debug"))
		if len(changes) != 1 {
			t.Fatalf("planned: %+v", changes)
		}
		if err := write(t, p, changes); !errors.Is(err, providers.ErrPending) || !strings.Contains(err.Error(), "config.former.yml") {
			t.Fatalf("error %v", err)
		}
	}
}

func TestWhatARegistryOfSomebodyElsesHasNotReadIsPlannedUntilItIsRestarted(t *testing.T) {
	for name, restart := range map[string]func(t *testing.T, config, log string){
		"seen by its process": func(t *testing.T, config, _ string) {
			t.Helper()
			providertest.Serving(t, config, nil)
		},
		"seen by its log": func(t *testing.T, _, log string) {
			t.Helper()
			text := fmt.Sprintf("time=%q level=info msg=\"listening on 127.0.0.1:5000\"\n", time.Now().UTC().Format(time.RFC3339Nano))
			if err := os.WriteFile(log, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"said by the operator": func(t *testing.T, config, _ string) {
			t.Helper()
			if err := os.Remove(filepath.Join(filepath.Dir(config), "ocisync", "config.former.yml")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, config, log := theirs(t)
			pending(t, p)
			time.Sleep(30 * time.Millisecond) // the kernel counts in hundredths
			restart(t, config, log)
			if changes, _ := settings(t, p, level("debug")); len(changes) != 0 {
				t.Errorf("still planned: %+v", changes)
			}
		})
	}
	t.Run("by a process and a log from before", func(t *testing.T) {
		p, config, log := theirs(t)
		if runtime.GOOS == "linux" {
			providertest.Serving(t, config, nil)
		}
		text := fmt.Sprintf("{\"level\":\"info\",\"msg\":\"listening on 127.0.0.1:5000\",\"time\":%q}\n", time.Now().Add(-time.Second).UTC().Format(time.RFC3339Nano))
		if err := os.WriteFile(log, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Millisecond)
		pending(t, p)
	})
	t.Run("by a stranger's process", func(t *testing.T) {
		if runtime.GOOS != "linux" || os.Geteuid() != 0 {
			t.Skip("needs /proc, and root to start another user's process")
		}
		p, config, _ := theirs(t)
		pending(t, p)
		time.Sleep(30 * time.Millisecond)
		providertest.Serving(t, config, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}})
		pending(t, p)
	})
	t.Run("taken back", func(t *testing.T) {
		p, config, _ := theirs(t)
		before, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		pending(t, p)
		if err := os.WriteFile(config, before, 0o600); err != nil { // by hand, and as it runs
			t.Fatal(err)
		}
		pending(t, p)
	})
}
