package storage

import (
	"context"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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
	if err := s.Keep(t.Context(), "a", one); err != nil {
		t.Fatal(err)
	}
	disk.full = true
	if err := s.RemoveManifest(t.Context(), "a", one, time.Time{}); err != nil {
		t.Error(err)
	}
	if _, ok, err := s.Manifest(t.Context(), "a", one); ok || err != nil {
		t.Errorf("the manifest is still there: %v", err)
	}
}

// Who asks what is there is answered, and what he was told holds.
func TestAFullDiskHindersNobodyFromAsking(t *testing.T) {
	disk := &fullDisk{StorageDriver: filesystem.New(filesystem.DriverParameters{RootDirectory: t.TempDir(), MaxThreads: maxThreads})}
	s, one, two := New(disk, ""), digest.FromString("one"), digest.FromString("two")
	for _, d := range []digest.Digest{one, two} {
		if err := disk.PutContent(t.Context(), linkIn(revisionsDir("a"), d), []byte(d)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.NoteDeletion(t.Context(), "a", one, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	kept := func() (list []digest.Digest) {
		t.Helper()
		notes, err := s.Notes(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range notes {
			if n.Kept {
				list = append(list, n.Digest)
			}
		}
		slices.Sort(list)
		return list
	}
	disk.full = true
	for _, d := range []digest.Digest{one, two} {
		if err := s.Keep(t.Context(), "a", d); err != nil {
			t.Error(err)
		}
	}
	both := []digest.Digest{one, two}
	slices.Sort(both)
	if diff := cmp.Diff(both, kept()); diff != "" {
		t.Errorf("while the disk is full (-want +got):\n%s", diff)
	}
	if err := s.Move(t.Context(), "a", "b"); err != nil {
		t.Fatal(err)
	}
	if err := s.Move(t.Context(), "b", "a"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(both, kept()); diff != "" {
		t.Errorf("after renames (-want +got):\n%s", diff)
	}
	disk.full = false
	if err := s.NoteDeletion(t.Context(), "a", two, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.Keep(t.Context(), "a", digest.FromString("three")); err != nil {
		t.Fatal(err)
	}
	s = New(disk, "")
	if diff := cmp.Diff([]digest.Digest{one, digest.FromString("three")}, kept(), cmpopts.SortSlices(func(a, b digest.Digest) bool { return a < b })); diff != "" {
		t.Errorf("written down once there is space (-want +got):\n%s", diff)
	}
}

// The later word counts, by whatever clock it was said.
func TestAClockSetBackTurnsNoWordsAround(t *testing.T) {
	disk := filesystem.New(filesystem.DriverParameters{RootDirectory: t.TempDir(), MaxThreads: maxThreads})
	s, one := New(disk, ""), digest.FromString("one")
	if err := disk.PutContent(t.Context(), linkIn(revisionsDir("a"), one), []byte(one)); err != nil {
		t.Fatal(err)
	}
	s.words.ahead = time.Hour
	if err := s.NoteDeletion(t.Context(), "a", one, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	before, err := s.Notes(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	s = New(disk, "") // of a process that began when the clock was right again
	if err := s.Keep(t.Context(), "a", one); err != nil {
		t.Fatal(err)
	}
	if err := s.put(t.Context(), latestFile, []byte("9999-12-31T23:59:59Z\n")); err != nil { // damaged
		t.Fatal(err)
	}
	if now, err := New(disk, "").Now(t.Context()); err != nil || now.Before(time.Now().Add(-time.Minute)) || now.After(time.Now().Add(time.Minute)) {
		t.Errorf("by a damaged time it is %v, %v", now, err)
	}
	after, err := s.Notes(t.Context(), "a")
	if err != nil || len(before) != 1 || len(after) != 1 || !after[0].Kept || !after[0].At.After(before[0].At) {
		t.Errorf("deleted %v, then kept %v, %v", before, after, err)
	}
}
