package storage

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
)

// uncommitted is a file that a full disk does not take.
type uncommitted struct {
	storagedriver.FileWriter
	name string
}

func (uncommitted) Commit(context.Context) error { return syscall.ENOSPC }

func (f uncommitted) Cancel(context.Context) error { return os.Remove(f.name) }

func TestWhatAFullDiskDoesNotTakeLeavesNoFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.tmp")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&diskFile{uncommitted{name: name}}).Commit(t.Context()); !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
	if _, err := os.Stat(name); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
}
