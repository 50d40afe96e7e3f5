package state

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/schema"
)

func TestDirStoreKeepsWhatWasSavedPrivately(t *testing.T) {
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "state")
	s, err := DirStore(dir, "prod")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(ctx); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Load of nothing: %v", err)
	}
	if err := s.Save(ctx, []byte("one"), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(ctx, []byte("two"), []byte("one")); err != nil {
		t.Fatal(err)
	}
	b, err := s.Load(ctx)
	if err != nil || string(b) != "two" {
		t.Fatalf("Load = %q, %v", b, err)
	}
	for path, want := range map[string]fs.FileMode{dir: 0o700, filepath.Join(dir, "prod.json"): 0o600} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, want %v, %v", path, info.Mode(), want, err)
		}
	}
}

func TestDirStoreRefusesToOverwriteWhatItDidNotLoad(t *testing.T) {
	ctx := t.Context()
	s, err := DirStore(t.TempDir(), "prod")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Save(ctx, []byte("one"), []byte("zero")); !errors.Is(err, ErrConflict) {
		t.Errorf("Save over nothing: %v", err)
	}
	if err := s.Save(ctx, []byte("one"), nil); err != nil {
		t.Fatal(err)
	}
	for _, prev := range []string{"", "two"} {
		if err := s.Save(ctx, []byte("x"), []byte(prev)); !errors.Is(err, ErrConflict) {
			t.Errorf("Save with prev %q: %v", prev, err)
		}
	}
	if b, _ := s.Load(ctx); string(b) != "one" {
		t.Errorf("a refused Save wrote %q", b)
	}
}

func TestDirStoreReadsNoLinkOutNoPipeAndNothingHuge(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	s, err := DirStore(dir, "prod")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "prod.json")
	if err := os.WriteFile(filepath.Join(out, "x"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	remedies := map[string]string{"link": "put the file itself there", "pipe": "not a regular file", "huge": "move it away and restore the right one"}
	for name, plant := range map[string]func() error{
		"link": func() error { return os.Symlink(filepath.Join(out, "x"), file) },
		"pipe": func() error { return syscall.Mkfifo(file, 0o600) },
		"huge": func() error {
			f, err := os.Create(file)
			if err != nil {
				return err
			}
			return errors.Join(f.Truncate(MaxSize+1), f.Close())
		},
	} {
		if err := plant(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Load(context.Background()); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), remedies[name]) {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDirStoreRefusesAModeThatIsAPath(t *testing.T) {
	for _, mode := range []string{"", "..", "a/b", "../x", ".hidden", "a\x00b"} {
		if _, err := DirStore(t.TempDir(), mode); err == nil {
			t.Errorf("mode %q was accepted", mode)
		}
	}
}

func machine(t testing.TB) Machine {
	t.Helper()
	m, err := NewMachine(schema.Host{State: t.TempDir()}, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMachineRemembersTheHighestSerial(t *testing.T) {
	m, id := machine(t), sample(t).Identity()
	other := id
	other.Mode = "dev"
	for _, n := range []int64{3, 5, 4} {
		if err := m.Remember(id, n, Source{}); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := m.Seen(id); n != 5 || err != nil {
		t.Errorf("seen = %d, %v", n, err)
	}
	if n, err := m.Seen(other); n != 0 || err != nil {
		t.Errorf("another mode: seen = %d, %v", n, err)
	}
	dir, name := m.seenFile(id)
	if err := os.WriteFile(filepath.Join(dir, name), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Seen(id); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("a broken file: %v", err)
	}
}

func TestSeenWritesNothing(t *testing.T) {
	m := machine(t)
	if _, err := m.Seen(sample(t).Identity()); err != nil {
		t.Fatal(err)
	}
	if list, err := os.ReadDir(m.state); err != nil || len(list) > 0 {
		t.Errorf("directory holds %v, %v", list, err)
	}
}

func TestMachineDirectoriesFollowTheHostFileThenTheEnvironment(t *testing.T) {
	env := func(m map[string]string) func(string) (string, bool) {
		return func(k string) (string, bool) { v, ok := m[k]; return v, ok }
	}
	home := "/home/a/.local/state/ocisync"
	if os.Geteuid() == 0 {
		home = "/var/lib/ocisync"
	}
	for _, c := range []struct {
		host         schema.Host
		env          map[string]string
		state, locks string
	}{
		{schema.Host{State: "/s", Lock: "/l"}, map[string]string{"XDG_STATE_HOME": "/x"}, "/s", "/l"},
		{schema.Host{}, map[string]string{"XDG_STATE_HOME": "/x"}, "/x/ocisync", "/x/ocisync/locks"},
		{schema.Host{}, map[string]string{"XDG_STATE_HOME": "rel", "HOME": "/home/a"}, home, home + "/locks"},
	} {
		m, err := NewMachine(c.host, env(c.env))
		if err != nil || m.state != c.state || m.Locks() != c.locks {
			t.Errorf("%+v: %+v, %v", c, m, err)
		}
	}
}

func TestFilesOfModesAndRegistriesNeverCollide(t *testing.T) {
	m := machine(t)
	seen := map[string]bool{}
	for _, mode := range []string{"prod", "dev", "a/b", "a_b", "../x"} {
		for _, url := range []string{"https://a", "https://b"} {
			p := m.Journal(Identity{mode, plan.Registry{Type: "zot", URL: url}})
			if seen[p] || filepath.Dir(p) != filepath.Join(m.state, "journal") {
				t.Errorf("%s of %s: %s", mode, url, p)
			}
			seen[p] = true
		}
	}
}

// What root saves in another user's directory, that user's ocisync can read and
// replace.
func TestRootSavesForTheOwnerOfTheDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	const owner = 65533
	dir := t.TempDir()
	if err := os.Chown(dir, owner, owner); err != nil {
		t.Fatal(err)
	}
	s, err := DirStore(dir, "prod")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Save(t.Context(), []byte("one"), nil), s.Save(t.Context(), []byte("two"), []byte("one"))); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%d files, %v", len(entries), err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != owner || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v of %d", e.Name(), info.Mode(), st.Uid)
		}
	}
}
