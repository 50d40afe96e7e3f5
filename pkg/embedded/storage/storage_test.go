package storage

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRepositoriesComeInTheOrderOfTheirPartsAndAfterTheLast(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"a/_manifests", "a/b/_manifests", "a-b/_manifests", "a/b/c/_layers", "a/x", "b/_uploads"} {
		if err := os.MkdirAll(filepath.Join(dir, repositoriesDir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, repositoriesDir, "stray"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), dir, Bucket{})
	if err != nil {
		t.Fatal(err)
	}
	for last, want := range map[string][]string{
		"": {"a", "a/b", "a-b"}, "a": {"a/b", "a-b"}, "a/b": {"a-b"}, "a/a": {"a/b", "a-b"}, "a/b/z": {"a-b"}, "a-b": nil, "A": {"a", "a/b", "a-b"},
	} {
		var got []string
		if err := s.Catalogue(t.Context(), last, func(repo string) (bool, error) {
			got = append(got, repo)
			return true, nil
		}); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("after %q (-want +got):\n%s", last, d)
		}
	}
	for under, want := range map[string][]string{"": {"a", "a-b", "a/b", "a/b/c", "b"}, "a": {"a", "a/b", "a/b/c"}, "a/x": nil, "none": nil} {
		got, err := s.Repositories(t.Context(), under)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("under %q (-want +got):\n%s", under, d)
		}
	}
}

// TestABucketHasOneOwner takes a directory for the bucket: whose it is does not
// depend on the driver.
func TestABucketHasOneOwner(t *testing.T) {
	disk, err := Open(t.Context(), t.TempDir(), Bucket{})
	if err != nil {
		t.Fatal(err)
	}
	s := New(disk.Driver(), "the bucket")
	one, other := Owner{ID: "1", Data: "/one", Host: "a"}, Owner{ID: "2", Data: "/other", Host: "b"}
	for range 2 {
		if err := s.Claim(t.Context(), one); err != nil {
			t.Fatal(err)
		}
	}
	err = s.Claim(t.Context(), other)
	if !errors.Is(err, ErrOwned) || !strings.Contains(err.Error(), "the bucket: ") || !strings.Contains(err.Error(), "/one on a") {
		t.Errorf("another claims it: %v", err)
	}
	if err := disk.Claim(t.Context(), other); err != nil {
		t.Errorf("a disk needs no claim: %v", err)
	}
	if err := s.put(t.Context(), ownerObject, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if err := s.Claim(t.Context(), one); err == nil || errors.Is(err, ErrOwned) {
		t.Errorf("a damaged object is taken for an owner: %v", err)
	}
}
