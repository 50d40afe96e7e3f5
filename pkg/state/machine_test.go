package state

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/schema"
)

// Whoever could write there could let an old inventory pass for the newest, or
// take lines out of the journal. A sticky directory above is no harm.
func TestAStateThatEverybodyMayWriteIsRefused(t *testing.T) {
	for _, bad := range []string{".", "journal", "seen"} {
		above := t.TempDir()
		if err := os.Chmod(above, 0o777|os.ModeSticky); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(above, "ocisync")
		for _, d := range []string{".", "journal", "seen"} {
			if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		lookup := func(string) (string, bool) { return above, true }
		if _, err := NewMachine(schema.Host{}, lookup); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, bad)
		if err := os.Chmod(path, 0o703); err != nil {
			t.Fatal(err)
		}
		for name, host := range map[string]schema.Host{"by the environment": {}, "by the host file": {State: dir}} {
			if _, err := NewMachine(host, lookup); err == nil || !strings.Contains(err.Error(), "run chmod o-w "+path) {
				t.Errorf("%s, %s: %v", bad, name, err)
			}
		}
	}
}
