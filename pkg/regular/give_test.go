package regular_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ocisync/ocisync/pkg/regular"
)

// What somebody linked into his directory stays whose it is.
func TestRootGivesAwayWhatItMadeAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	const other = 65533
	dir, elsewhere := t.TempDir(), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	secret := filepath.Join(elsewhere, "secret")
	if err := errors.Join(os.Mkdir(at("own"), 0o700), os.WriteFile(at("own/file"), nil, 0o600), os.WriteFile(secret, nil, 0o600),
		os.Mkdir(at("linked"), 0o700), os.Link(secret, at("linked/hard")), os.Symlink(secret, at("linked/soft")), os.Chown(dir, other, other)); err != nil {
		t.Fatal(err)
	}
	in, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for _, name := range []string{"/own/file", "linked/hard", "linked/soft", "linked/soft/below", "own/gone"} {
		if err := regular.GiveAll(in, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, want := range map[string]int{at("own"): other, at("own/file"): other, secret: 0} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := regular.Owner(info); got != want {
			t.Errorf("%s belongs to %d, want %d", name, got, want)
		}
	}
}
