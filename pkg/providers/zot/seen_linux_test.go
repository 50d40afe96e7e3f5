package zot

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/schema"
)

// TestAccountsThatNoConfigurationNamesAreNotMissed: a Zot watches those alone that it
// knows, and a file of others may be newer than it.
func TestAccountsThatNoConfigurationNamesAreNotMissed(t *testing.T) {
	for auth, misses := range map[string]bool{``: false, `,"auth":{"htpasswd":{"path":"DIR/htpasswd"}}`: true} {
		p, file := handPlaced(t, `{"storage":{"rootDirectory":"DIR/root"},"http":{"address":"127.0.0.1","port":"9"`+auth+`}}`)
		time.Sleep(50 * time.Millisecond)
		cmd := exec.Command("sh", "-c", "read line", "serve", file) // as Zot's command line is
		in, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		if err := os.WriteFile(p.paths.htpasswd, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := p.load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		st, err := p.status(t.Context(), s)
		if err != nil || !st.running || st.misses.accounts != misses {
			t.Errorf("http%s: %+v, %v", auth, st.misses, err)
		}
		in.Close()
		cmd.Wait() //nolint:errcheck // that is all
	}
}

// handPlaced is a registry of somebody else's with a configuration, in which DIR is where
// that lies.
func handPlaced(t *testing.T, text string) (*Provider, string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "config.json")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := New(schema.Registry{Type: schema.TypeZot, URL: nowhere, Files: &schema.FilePaths{Config: file, Htpasswd: filepath.Join(dir, "htpasswd")}}, nil, nil, nil, HashCost(4))
	if err != nil {
		t.Fatal(err)
	}
	return p, file
}
