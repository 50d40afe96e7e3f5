package regular_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/ocisync/ocisync/pkg/regular"
)

// TestALockFollowsNoLink: whoever owns the directory has nothing made elsewhere.
func TestALockFollowsNoLink(t *testing.T) {
	dir, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "made")
	name := filepath.Join(dir, "x.lock")
	if err := os.Symlink(elsewhere, name); err != nil {
		t.Fatal(err)
	}
	if ok, err := regular.Lock(name).TryLock(); ok || !errors.Is(err, syscall.ELOOP) {
		t.Errorf("%t, %v", ok, err)
	}
	if _, err := os.Lstat(elsewhere); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is made elsewhere: %v", err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	l := regular.Lock(name)
	if ok, err := l.TryLock(); !ok || err != nil {
		t.Errorf("without a link: %t, %v", ok, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
