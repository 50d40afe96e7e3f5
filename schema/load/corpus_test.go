package load_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/ocisync/ocisync/schema/load"
)

var update = flag.Bool("update", false, "rewrite the expected texts below testdata/load")

// TestBrokenFilesAreExplained loads each archive of testdata/load: the files
// of mode "m" below modes/, or the host file ocisync.toml. What the archive
// calls "want" is all that is printed about it.
func TestBrokenFilesAreExplained(t *testing.T) {
	files, err := filepath.Glob("../../testdata/load/*.txtar")
	if err != nil || len(files) < 60 {
		t.Fatalf("found %d archives, %v", len(files), err)
	}
	for _, file := range files {
		abs, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(abs)
			if err != nil {
				t.Fatal(err)
			}
			t.Chdir(t.TempDir())
			want, host := -1, false
			for i, f := range archive.Files {
				switch f.Name {
				case "want":
					want = i
					continue
				case "ocisync.toml":
					host = true
				}
				if err := os.MkdirAll(filepath.Dir(f.Name), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(f.Name, f.Data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if host {
				_, err = load.Host("ocisync.toml")
			} else {
				_, err = load.Mode("modes", "m")
			}
			if err == nil {
				t.Fatal("the files pass")
			}
			have := err.Error() + "\n"
			var list load.Errors
			if errors.As(err, &list) {
				have = list.Render()
			}
			for _, secret := range []string{"hunter2", "correct-horse"} {
				if strings.Contains(have, secret) || strings.Contains(err.Error(), secret) {
					t.Errorf("the secret %q is repeated:\n%s", secret, have)
				}
			}
			if strings.Contains(have, ".cue") || strings.Contains(have, "disjunction") {
				t.Errorf("CUE shows through:\n%s", have)
			}
			if *update {
				if want < 0 {
					archive.Files = append(archive.Files, txtar.File{Name: "want"})
					want = len(archive.Files) - 1
				}
				archive.Files[want].Data = []byte(have)
				if err := os.WriteFile(abs, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want < 0 {
				t.Fatal("the archive has no file want; run with -update")
			}
			if diff := cmp.Diff(string(archive.Files[want].Data), have); diff != "" {
				t.Errorf("(-want +have)\n%s", diff)
			}
		})
	}
}
