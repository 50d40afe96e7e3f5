package distribution_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/distribution"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

const face = `{"http.addr":"localhost:9"}`

// byRuntime is a process that is started as a runtime does it.
type byRuntime struct {
	*fake
	provider *distribution.Provider
}

func (l *byRuntime) Start(ctx context.Context) error {
	return errors.Join(l.provider.BeforeStart(ctx, face), l.fake.Start(ctx))
}

// heard is a provider of a running registry whose log is read.
func heard(t *testing.T, f *fake, log *bytes.Buffer) *distribution.Provider {
	t.Helper()
	l := &byRuntime{fake: f}
	var err error
	l.provider, err = distribution.New(schema.Registry{
		Type: schema.TypeDistribution, URL: "http://localhost:9", Run: &schema.Run{Driver: schema.DriverProcess, Data: filepath.Dir(f.config)},
	}, l, providertest.Secrets{}, slog.New(slog.NewTextHandler(log, nil)), distribution.HashCost(bcrypt.MinCost), distribution.Outside(access.Deny))
	if err != nil {
		t.Fatal(err)
	}
	return l.provider
}

// TestAConfigurationThatIsGoneIsAsItWasLast and not a bare one, which has another place
// for what the registry holds: as it was started last, with what is written by hand, or as
// it was written since.
func TestAConfigurationThatIsGoneIsAsItWasLast(t *testing.T) {
	store := schema.Value{Path: "storage.filesystem.rootdirectory", JSON: `"/srv/elsewhere"`}
	for name, write := range map[string]func(t *testing.T, p *distribution.Provider, f *fake){
		"applied while it ran": func(t *testing.T, p *distribution.Provider, _ *fake) {
			t.Helper()
			changes, _ := settings(t, p, store)
			if err := write(t, p, changes); err != nil {
				t.Fatal(err)
			}
		},
		"applied while it was down": func(t *testing.T, p *distribution.Provider, f *fake) {
			t.Helper()
			f.running = false
			changes, _ := settings(t, p, store)
			if err := write(t, p, changes); err != nil {
				t.Fatal(err)
			}
		},
		"by hand, and started": func(t *testing.T, p *distribution.Provider, f *fake) {
			t.Helper()
			edited(t, f, strings.Replace(f.took, filepath.Dir(f.config)+"/storage", "/srv/elsewhere", 1))
			if err := errors.Join(f.Stop(t.Context()), p.BeforeStart(t.Context(), face), f.Start(t.Context())); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, f := running(t)
			var log bytes.Buffer
			p := heard(t, f, &log)
			write(t, p, f)
			was, err := os.ReadFile(f.config)
			if err != nil || !strings.Contains(string(was), "/srv/elsewhere") {
				t.Fatalf("%v: it is\n%s", err, was)
			}
			if err := os.Remove(f.config); err != nil {
				t.Fatal(err)
			}
			what, remedy, err := p.Bereft(t.Context())
			if err != nil || what != f.config+" is gone" || !strings.Contains(remedy, "ocisync restart") {
				t.Errorf("a plan says %q, %q: %v", what, remedy, err)
			}
			if err := p.Precheck(t.Context(), face); err != nil || !strings.Contains(log.String(), "its config.yml is gone") {
				t.Errorf("%v; it says %s", err, &log)
			}
			if err := p.BeforeStart(t.Context(), face); err != nil {
				t.Fatal(err)
			}
			if now, err := os.ReadFile(f.config); err != nil || !bytes.Equal(now, was) {
				t.Errorf("%v: it is\n%s\nand was\n%s", err, now, was)
			}
			if what, _, err := p.Bereft(t.Context()); what != "" || err != nil {
				t.Errorf("after it: %q: %v", what, err)
			}
		})
	}
}

// TestWhatNothingIsKnownOfIsNotStartedBare where the registry was applied to; a new one is
// started.
func TestWhatNothingIsKnownOfIsNotStartedBare(t *testing.T) {
	p, f := running(t)
	lose := func() {
		t.Helper()
		if err := errors.Join(os.Remove(f.config), os.Remove(filepath.Join(filepath.Dir(f.config), "ocisync", "config.started.yml"))); err != nil {
			t.Fatal(err)
		}
	}
	lose()
	if err := errors.Join(p.Precheck(t.Context(), face), p.BeforeStart(t.Context(), face)); err != nil {
		t.Fatalf("a new one: %v", err)
	}
	changes, _ := settings(t, p, schema.Value{Path: schema.OutsidePath, JSON: `"deny"`})
	if err := write(t, p, changes); err != nil {
		t.Fatal(err)
	}
	lose()
	for name, err := range map[string]error{"check": p.Precheck(t.Context(), face), "start": p.BeforeStart(t.Context(), face)} {
		var e *providers.Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), "its config.yml is gone") || !strings.Contains(e.Remedy, "restore "+f.config+" from a backup, or write one there") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(f.config); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a bare one was written: %v", err)
	}
	if _, remedy, err := p.Bereft(t.Context()); err != nil || strings.Contains(remedy, "restart") {
		t.Errorf("a plan advises %q: %v", remedy, err)
	}
	// what the error advises is enough
	if err := os.WriteFile(f.config, []byte("version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: /srv/elsewhere\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Precheck(t.Context(), face), p.BeforeStart(t.Context(), face)); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(f.config); err != nil || !strings.Contains(string(b), "jwks.json") || !strings.Contains(string(b), "/srv/elsewhere") {
		t.Errorf("%v: it is started with\n%s", err, b)
	}
}

// A new registry may have accounts that somebody had before: they say nothing of a
// config.yml.
func TestANewOneStartsBesideAccountsThatAreThere(t *testing.T) {
	p, f, file := byFile(t, providertest.Secrets{})
	if err := errors.Join(os.Remove(f.config), os.RemoveAll(filepath.Join(filepath.Dir(f.config), "ocisync"))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("ann:$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Precheck(t.Context(), face), p.BeforeStart(t.Context(), face)); err != nil {
		t.Error(err)
	}
}
