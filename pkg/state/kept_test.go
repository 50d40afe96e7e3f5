package state

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/schema"
)

// TestAKeptInventoryTakesThePlaceOfWhatItWasMadeFromAlone: what somebody else stored
// meanwhile counts.
func TestAKeptInventoryTakesThePlaceOfWhatItWasMadeFromAlone(t *testing.T) {
	dir := t.TempDir()
	m, err := NewMachine(schema.Host{State: dir}, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	id := Identity{Mode: "m", Registry: plan.Registry{Type: "harbor", URL: "https://r.example.com"}}
	kept := func(stored, want string) {
		t.Helper()
		if data, err := m.Kept(id, []byte(stored)); err != nil || string(data) != want {
			t.Errorf("over %q it is %q, %v, want %q", stored, data, err, want)
		}
	}
	kept("old", "")
	if err := m.Keep(id, []byte("new"), []byte("old")); err != nil {
		t.Fatal(err)
	}
	kept("old", "new")
	kept("another's", "")
	kept("", "")
	if m.Lends(filepath.Join(dir, "kept")) {
		t.Error("a mode may keep its inventory among them")
	}
	if err := m.Release(id); err != nil {
		t.Fatal(err)
	}
	kept("old", "")
	if err := m.Release(id); err != nil {
		t.Error(err)
	}
	_, name := m.keptFile(id)
	if err := os.WriteFile(filepath.Join(dir, "kept", name), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Kept(id, nil); err == nil || !strings.Contains(err.Error(), "remove the file") {
		t.Errorf("of a damaged one it says %v", err)
	}
}

// TestACopyIsWhatTheStoreHadLast, and no mode keeps its inventory among them.
func TestACopyIsWhatTheStoreHadLast(t *testing.T) {
	dir := t.TempDir()
	m, err := NewMachine(schema.Host{State: dir}, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	id := Identity{Mode: "m", Registry: plan.Registry{Type: "zot", URL: "https://r.example.com"}}
	other := Identity{Mode: "other", Registry: id.Registry}
	for _, data := range []string{"", "one", "two"} {
		if data != "" {
			if err := m.Copy(id, []byte(data)); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := m.Copied(id); err != nil || string(got) != data {
			t.Errorf("it is %q, %v, want %q", got, err, data)
		}
		if got, err := m.Copied(other); err != nil || got != nil {
			t.Errorf("of another mode it is %q, %v", got, err)
		}
	}
	if m.Lends(filepath.Join(dir, "copy")) {
		t.Error("a mode may keep its inventory among them")
	}
	if err := os.Chmod(filepath.Join(dir, "copy"), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := NewMachine(schema.Host{State: dir}, func(string) (string, bool) { return "", false }); err == nil {
		t.Error("everybody may change it, and nothing is said")
	}
}
