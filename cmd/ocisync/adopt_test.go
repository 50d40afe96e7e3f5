package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWhatAZotWasToldByHandIsAdoptedWhole: of configurations as people write
// them adopt makes a file that is a mode's, the plan after it is empty, and an
// apply of that leaves every byte where it stands.
func TestWhatAZotWasToldByHandIsAdoptedWhole(t *testing.T) {
	names, err := filepath.Glob("../../pkg/providers/zot/config/testdata/*.json")
	if err != nil || len(names) < 20 {
		t.Fatalf("%d configurations, %v", len(names), err)
	}
	names = append(names, "../../pkg/providers/zot/testdata/copies-and-many-rules.json")
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			text = bytes.ReplaceAll(text, []byte("/etc/zot"), []byte(dir)) // accounts that are on this host
			config := filepath.Join(dir, "zot.json")
			write(t, config, string(text))
			write(t, filepath.Join(dir, "htpasswd"), "ilse:$2y$05$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\nodd:x\n")
			write(t, filepath.Join(dir, "modes", "m", "m.toml"), fmt.Sprintf("version = 1\n[registry]\ntype = \"zot\"\nurl = \"http://127.0.0.1:9\"\n[registry.files]\nconfig = %q\n[state]\nstore = \"dir\"\ndir = \"../../state\"\n", config))
			env := map[string]string{"OCISYNC_MODE": "m", "OCISYNC_MODES": filepath.Join(dir, "modes"), "HOME": dir, "XDG_STATE_HOME": filepath.Join(dir, "machine")}
			for _, args := range [][]string{{"fmt"}, {"adopt"}, {"validate"}, {"fmt", "--check"}, {"plan", "--detailed-exitcode"}, {"apply"}, {"plan", "--detailed-exitcode"}} {
				var out bytes.Buffer
				code := run(t.Context(), args, streams{
					in: strings.NewReader(""), out: &out, err: &out,
					getenv: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
				})
				if code != 0 {
					adopted, _ := os.ReadFile(filepath.Join(dir, "modes", "m", "adopted.toml"))
					t.Fatalf("ocisync %s: exit code %d:\n%s\nof\n%s", strings.Join(args, " "), code, out.String(), adopted)
				}
			}
			if after, err := os.ReadFile(config); err != nil || !bytes.Equal(text, after) {
				t.Errorf("the configuration is another, %v:\n%s", err, after)
			}
		})
	}
}
