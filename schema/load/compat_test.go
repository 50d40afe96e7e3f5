package load_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ocisync/ocisync/schema/load"
)

// writeMode makes a directory with one mode of the given files and returns the
// directory that holds it.
func writeMode(t testing.TB, mode string, files map[string][]byte) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "modes")
	for name, data := range files {
		path := filepath.Join(root, mode, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestFilesOfEarlierVersionsLoadForEver(t *testing.T) {
	files, err := filepath.Glob("../../testdata/compat/v1/*.toml")
	if err != nil || len(files) < 2 {
		t.Fatalf("found %d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := load.Mode(writeMode(t, "m", map[string][]byte{"m.toml": data}), "m")
			if err != nil {
				t.Fatal(err)
			}
			if len(cfg.Desired.Resources) < 20 {
				t.Errorf("only %d resources were read", len(cfg.Desired.Resources))
			}
		})
	}
}
