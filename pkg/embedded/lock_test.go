package embedded

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

// A disk may fill while nobody holds the directory.
func TestTheLockKeepsItsPlaceOnTheDisk(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	file := filepath.Join(data, ownDir, lockFile)
	var before os.FileInfo
	for range 2 {
		l, err := takeLock(data, "ocisync test", false, false)
		if err != nil {
			t.Fatal(err)
		}
		if h, err := readHolder(data); err != nil || h.PID != os.Getpid() {
			t.Errorf("held by %v: %v", h, err)
		}
		if err := l.release(); err != nil {
			t.Fatal(err)
		}
		if h, err := readHolder(data); err == nil {
			t.Errorf("held by %v when nobody does", h)
		}
		after, err := os.Stat(file)
		if err != nil || after.Size() == 0 || before != nil && !os.SameFile(before, after) {
			t.Errorf("what the lock had of the disk is gone: %v, %v", after, err)
		}
		before = after
	}
}

func TestAHolderThatCouldNotSaySoIsFound(t *testing.T) {
	data := t.TempDir()
	own := filepath.Join(data, ownDir)
	if err := os.MkdirAll(own, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(own, lockFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(own, socketFile)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got, err := dialSocket(t.Context(), data); got != path || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}
