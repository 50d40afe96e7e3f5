//go:build integration

package ocisync_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/runtime/enginetest"
)

const askedMode = `
[state]
store = "dir"
dir = "../../state"
[user.root]
admin = true
password = { env = "OCISYNC_ROOT" }
[user.dev]
password = { env = "OCISYNC_DEV" }
[user.guest]
[group.writers]
users = ["dev"]
[robot.ci]
secret = { value = { env = "OCISYNC_CI" } }
access = { team = ["pull", "push"] }
[namespace.team]
access = { anonymous = ["pull"], authenticated = [], groups = { writers = ["pull", "push"] } }
[namespace."team/inner"]
access = { anonymous = [], authenticated = ["pull"], users = { dev = ["pull", "push", "delete"] } }
`

// TestIntegrationAccessIsAsked asks real registries about every rule, and sees
// that nothing comes of it. A token service stands where ocisync puts it.
func TestIntegrationAccessIsAsked(t *testing.T) {
	zot, distribution := enginetest.Servers(t, ".")
	for typ, program := range map[string]string{"zot": zot, "distribution": distribution} {
		t.Run(typ, func(t *testing.T) {
			s := newSite(t, "http://"+porttest.Address(t), "")
			write := func(mode string) {
				t.Helper()
				s.mode("")
				text := fmt.Sprintf("version = 1\n[registry]\ntype = %q\nurl = %q\n[registry.run]\ndriver = \"process\"\nbinary = %q\ndata = %q\n%s", typ, s.url, program, s.data, mode)
				if err := os.WriteFile(filepath.Join(s.dir, "modes", "m", "m.toml"), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write(askedMode)
			s.env = append(s.env, "OCISYNC_ROOT=the root's long password", "OCISYNC_DEV=the dev's long password", "OCISYNC_CI=the robot's long password")
			s.must(0, "up", "--detach")
			t.Cleanup(func() {
				if out, err := s.command(context.Background(), "down").CombinedOutput(); err != nil {
					t.Errorf("down: %v: %s", err, out)
				}
			})
			t.Log(s.must(0, "apply"))
			before := content(t, s.data)
			if out := s.must(0, "test", "access", "-v"); !strings.Contains(out, "24 answers as declared, 6 not asked: no password at hand") {
				t.Errorf("it says:\n%s", out)
			}
			if after := content(t, s.data); after != before {
				t.Errorf("what the registry holds is another:\n%s\nbefore:\n%s", after, before)
			}
			write(strings.Replace(askedMode, `dev = ["pull", "push", "delete"]`, `dev = ["pull", "push"]`, 1))
			if out := s.must(1, "test", "access"); !strings.Contains(out, "team/inner  user/dev  delete  refused   allowed (40") || !strings.Contains(out, "1 of 24 answers not as declared") {
				t.Errorf("it says:\n%s", out)
			}
		})
	}
}

// content lists the repositories, blobs and uploads of a registry's data.
func content(t *testing.T, data string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(filepath.Join(data, "storage"), func(path string, _ fs.DirEntry, err error) error {
		if !strings.HasSuffix(path, ".db") {
			fmt.Fprintln(&b, strings.TrimPrefix(path, data))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
