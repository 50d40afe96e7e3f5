package regular

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestWhoseFilesDecide(t *testing.T) {
	const root, registry, me, other = 0, 998, 1000, 1001
	for name, tt := range map[string]struct {
		runs, owns, uid int
		want            bool
	}{
		"mine":                         {me, me, me, true},
		"root's in mine":               {me, me, root, true},
		"mine in root's":               {me, root, me, true},
		"another's in mine":            {me, me, other, false},
		"another's in root's":          {me, root, other, false},
		"another's in his own":         {me, other, other, false},
		"root works for the owner":     {root, registry, registry, true},
		"root, and what root made":     {root, registry, root, true},
		"root, and a third one":        {root, registry, other, false},
		"root's own, and another's in": {root, root, other, false},
	} {
		if got := trusted(tt.runs, tt.owns, tt.uid); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAnOwnDirectoryThatALinkLeadsElsewhereIsNotOpened(t *testing.T) {
	data, elsewhere := t.TempDir(), t.TempDir()
	own := filepath.Join(data, "own")
	if err := os.Symlink(elsewhere, own); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenPrivate(data, "own"); !errors.Is(err, ErrUnsafe) {
		t.Errorf("a link: %v", err)
	}
	if err := errors.Join(os.Remove(own), os.Mkdir(own, 0o700), os.Symlink("/etc/passwd", filepath.Join(own, "lock"))); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenPrivate(data, "own"); !errors.Is(err, ErrUnsafe) {
		t.Errorf("a link in it: %v", err)
	}
}
