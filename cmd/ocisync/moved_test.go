package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/state"
)

// TestAnInventoryGoesWithARegistryThatIsMoved: its operator starts a Distribution with
// another place for its content, as an apply wrote it, and with the former one again. The
// inventory is not gone, nor rolled back, for that.
func TestAnInventoryGoesWithARegistryThatIsMoved(t *testing.T) {
	w := newTheirs(t)
	dir := filepath.Dir(w.config)
	w.config = filepath.Join(dir, "config.yml")
	started := filepath.Join(dir, "registry.log")
	write(t, w.config, fmt.Sprintf("version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: %s/a\n", dir))
	stores := map[string]http.Handler{"a": w.content, "b": registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	restart := func(store string) {
		t.Helper()
		w.stop(t)
		w.content = stores[store]
		time.Sleep(10 * time.Millisecond)
		write(t, started, fmt.Sprintf("time=%q level=info msg=\"listening on 127.0.0.1:5000\"\n", time.Now().UTC().Format(time.RFC3339Nano)))
		w.start(t)
	}
	declare := func(store string) {
		t.Helper()
		write(t, w.mode, fmt.Sprintf("version = 1\n[registry]\ntype = \"distribution\"\nurl = \"http://%s\"\n[registry.files]\nconfig = %q\nlog = %q\n[registry.distribution]\nstorage.filesystem.rootdirectory = %q\n",
			w.address, w.config, started, filepath.Join(dir, store)))
	}
	restart("a")
	declare("a")
	w.ocisync(t, exitDone, "apply")
	approve := regexp.MustCompile(`sha256:[0-9a-f]{64}`)
	for _, to := range []string{"b", "a"} {
		declare(to)
		w.ocisync(t, exitPartly, "apply", "--approve", approve.FindString(w.ocisync(t, exitDone, "plan")))
		if said := w.ocisync(t, exitDone, "plan"); !strings.Contains(said, "1 held") || strings.Contains(said, "kept on this host") {
			t.Errorf("while it waits the plan says %s", said)
		}
		restart(to)
		why := fmt.Sprintf("an apply had the registry look for its content in filesystem %s, and no more in filesystem %s", filepath.Join(dir, to), filepath.Join(dir, map[string]string{"a": "b", "b": "a"}[to]))
		said := w.ocisync(t, exitDone, "plan")
		if !strings.Contains(said, why) || !strings.Contains(said, "no changes") || strings.Contains(said, "the inventory is gone") || strings.Contains(said, "rolled back") {
			t.Errorf("moved to %s the plan says %s", to, said)
		}
		if said := w.ocisync(t, exitDone, "apply"); !strings.Contains(said, "is stored there now") {
			t.Errorf("the apply says %s", said)
		}
		if said := w.ocisync(t, exitDone, "plan"); !strings.Contains(said, "no changes") || strings.Contains(said, "kept on this host") {
			t.Errorf("after that the plan says %s", said)
		}
		if _, err := os.Stat(filepath.Join(dir, "ocisync", "moved.json")); err == nil {
			t.Error("that it was moved is not forgotten")
		}
	}
	// of a machine that has no copy the reason is said at least
	declare("b")
	w.ocisync(t, exitPartly, "apply", "--approve", approve.FindString(w.ocisync(t, exitDone, "plan")))
	if err := os.RemoveAll(filepath.Join(dir, "machine", "ocisync", "copy")); err != nil {
		t.Fatal(err)
	}
	stores["b"] = registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	restart("b")
	if said := w.ocisync(t, exitDone, "plan"); !strings.Contains(said, "the inventory is gone") || !strings.Contains(said, "an apply had the registry look for its content in") {
		t.Errorf("without a copy the plan says %s", said)
	}
}

// TestAnotherInventoryInTheNewPlaceIsLeft, unless it is an earlier one of the same.
func TestAnotherInventoryInTheNewPlaceIsLeft(t *testing.T) {
	id := state.Identity{Mode: "m", Registry: plan.Registry{Type: "distribution", URL: "http://localhost:9"}}
	sealed := func(id state.Identity, serial int64) []byte {
		t.Helper()
		b, err := state.Seal(state.Inventory{Mode: id.Mode, Registry: id.Registry, Serial: serial}, state.Key{})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	other := id
	other.Mode = "other"
	for name, tt := range map[string]struct {
		there []byte
		left  bool
	}{
		"nothing":         {nil, false},
		"an earlier one":  {sealed(id, 2), false},
		"one as late":     {sealed(id, 3), true},
		"of another mode": {sealed(other, 1), true},
		"something else":  {[]byte("{}"), true},
	} {
		t.Run(name, func(t *testing.T) {
			store, err := state.DirStore(t.TempDir(), "m")
			if err != nil {
				t.Fatal(err)
			}
			if tt.there != nil {
				if err := store.Save(t.Context(), tt.there, nil); err != nil {
					t.Fatal(err)
				}
			}
			s := &session{o: &options{}, identity: id, store: store}
			data := sealed(id, 3)
			err = s.carry(t.Context(), data, 3, providers.Move{From: "filesystem /a", To: "filesystem /b"})
			now, unread := store.Load(t.Context())
			if unread != nil {
				t.Fatal(unread)
			}
			if tt.left && (!errors.Is(err, errAnother) || !strings.Contains(err.Error(), "filesystem /b now, and no more in filesystem /a") || !bytes.Equal(now, tt.there)) {
				t.Errorf("%v; it holds %s", err, now)
			}
			if !tt.left && (err != nil || !bytes.Equal(now, data)) {
				t.Errorf("%v; it holds %s", err, now)
			}
		})
	}
}
