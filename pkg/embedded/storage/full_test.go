package storage

import (
	"context"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/opencontainers/go-digest"
)

// fullDisk takes no file until something was deleted, once it is full.
type fullDisk struct {
	storagedriver.StorageDriver
	full bool
}

func (d *fullDisk) PutContent(ctx context.Context, name string, b []byte) error {
	if d.full {
		return storagedriver.Error{DriverName: "filesystem", Detail: &fs.PathError{Op: "write", Path: name, Err: syscall.ENOSPC}}
	}
	return d.StorageDriver.PutContent(ctx, name, b)
}

func (d *fullDisk) Delete(ctx context.Context, name string) error {
	if strings.Contains(name, "/tags/1") {
		d.full = false
	}
	return d.StorageDriver.Delete(ctx, name)
}

// A deletion is what makes space.
func TestAFullDiskHindersNoDeletion(t *testing.T) {
	disk := &fullDisk{StorageDriver: filesystem.New(filesystem.DriverParameters{RootDirectory: t.TempDir(), MaxThreads: maxThreads})}
	s, one := New(disk, ""), digest.FromString("one")
	for _, name := range []string{tagLink("a", "1"), tagLink("a", "2"), linkIn(revisionsDir("a"), one)} {
		if err := disk.PutContent(t.Context(), name, []byte(one)); err != nil {
			t.Fatal(err)
		}
	}
	disk.full = true
	for tag, want := range map[string]int{"2": 0, "1": 1} {
		disk.full = true
		if err := s.RemoveTag(t.Context(), "a", tag); err != nil {
			t.Fatalf("tag %s: %v", tag, err)
		}
		if d, err := s.Tag(t.Context(), "a", tag); d != "" || err != nil {
			t.Errorf("tag %s is still there: %v", tag, err)
		}
		notes, err := s.Notes(t.Context(), "a")
		if err != nil || len(notes) < want {
			t.Errorf("tag %s: %v, %v: want it noted once there is space", tag, notes, err)
		}
	}
	disk.full = true
	if err := s.RemoveManifest(t.Context(), "a", one); err != nil {
		t.Error(err)
	}
	if _, ok, err := s.Manifest(t.Context(), "a", one); ok || err != nil {
		t.Errorf("the manifest is still there: %v", err)
	}
}
