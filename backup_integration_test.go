//go:build integration && objectstorage

package ocisync_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	layout "github.com/ocisync/ocisync/pkg/content"
	"github.com/ocisync/ocisync/pkg/embedded/storage"
	"github.com/ocisync/ocisync/pkg/embedded/storage/s3test"
	"github.com/ocisync/ocisync/schema"
)

// TestIntegrationABackupInABucket keeps content in a real S3 server and gives it back.
func TestIntegrationABackupInABucket(t *testing.T) {
	server := s3test.Start(t, ".")
	where := server.Bucket(t, "backups")
	prefix := "team/prod"
	where.S3.RootDirectory = &prefix
	bucket := func() *storage.Objects {
		t.Helper()
		o, err := storage.OpenObjects(t.Context(), "s3://backups/team/prod", storage.Bucket{Storage: where, Secret: func(context.Context, schema.SecretRef) (string, error) { return s3test.Secret, nil }})
		if err != nil {
			t.Fatal(err)
		}
		return o
	}

	// the files themselves
	o := bucket()
	if _, err := o.Stat(t.Context(), "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of no file: %v", err)
	}
	if list, err := o.List(t.Context(), "none"); err != nil || len(list) > 0 {
		t.Errorf("of no directory: %q, %v", list, err)
	}
	for _, size := range []int{0, 10, 12 << 20} {
		text := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
		if err := o.Put(t.Context(), "dir/file", int64(size), bytes.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		for _, broken := range []io.Reader{bytes.NewReader(text[:size/2]), io.MultiReader(bytes.NewReader(text[:size/2]), broken{})} {
			if err := o.Put(t.Context(), "dir/file", int64(size)+1, broken); err == nil {
				t.Error("it took what is not whole")
			}
		}
		if n, err := o.Stat(t.Context(), "dir/file"); err != nil || n != int64(size) {
			t.Errorf("%d bytes, %v; %d were written", n, err, size)
		}
		from := int64(size / 3)
		f, err := o.Open(t.Context(), "dir/file", from)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		if err = errors.Join(err, f.Close()); err != nil || !bytes.Equal(got, text[from:]) {
			t.Errorf("%d bytes of %d, %v", len(got), int64(size)-from, err)
		}
	}
	if list, err := o.List(t.Context(), "dir"); err != nil || !slices.Equal(list, []string{"dir/file"}) {
		t.Errorf("%q, %v", list, err)
	}
	if err := o.Remove(t.Context(), "dir/file"); err != nil {
		t.Error(err)
	}

	// a backup in them
	from, err := layout.LayoutDir(t.Context(), filepath.Join(t.TempDir(), "from"), true)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	blob := func(n int, text string) layout.Artifact {
		text = strings.Repeat(text, n)
		d, size, err := v1.SHA256(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return layout.Artifact{Type: "text/plain", Layers: []layout.Layer{{
			Descriptor: v1.Descriptor{MediaType: "text/plain", Digest: d, Size: size, Annotations: map[string]string{layout.TitleAnnotation: "a.txt"}},
			Open:       func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil },
		}}}
	}
	push := func(repository, tag string, a layout.Artifact) {
		t.Helper()
		if _, err := layout.Push(t.Context(), from, layout.Reference{Repository: repository, Tag: tag}, a, nil); err != nil {
			t.Fatal(err)
		}
	}
	push("team/large", "v1", blob(9<<20, "x"))
	push("team/small", "v1", blob(10, "y"))
	everything := func(string) bool { return true }
	failed := func(e layout.Event) {
		if e.Err != nil {
			t.Errorf("%s: %v", e.Target, e.Err)
		}
	}
	backup := func() (layout.Backed, *layout.Layout) {
		t.Helper()
		to, err := layout.OpenLayout(t.Context(), bucket(), true)
		if err != nil {
			t.Fatal(err)
		}
		b := layout.Backup{From: from, To: to, In: func(r string) bool { return strings.HasPrefix(r, "team/") }, Mode: blob(1, "version = 1\n"), Name: "m", Report: failed}
		got, err := b.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return got, to
	}
	if got, _ := backup(); got.Blobs != 3 { // and what an artifact without a configuration names
		t.Errorf("%+v", got)
	}
	if got, _ := backup(); got.Blobs != 0 {
		t.Errorf("again: %+v", got)
	}
	push("team/small", "v1", blob(10, "z"))
	got, to := backup()
	if got.Blobs != 1 {
		t.Errorf("one more: %+v", got)
	}
	if _, broken, err := to.Verify(t.Context()); err != nil || len(broken) > 0 {
		t.Errorf("%v, %v", broken, err)
	}
	if pruned, err := to.Prune(t.Context()); err != nil || pruned.Blobs != 2 {
		t.Errorf("%+v, %v", pruned, err)
	}
	source, err := layout.OpenLayout(t.Context(), bucket(), false)
	if err != nil {
		t.Fatal(err)
	}
	back, err := layout.LayoutDir(t.Context(), filepath.Join(t.TempDir(), "back"), true)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	r := layout.Restore{From: source, To: back, In: everything, Report: failed}
	due, err := r.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.Run(t.Context(), due)
	for _, name := range []string{"team/large", "team/small"} {
		ref := layout.Reference{Repository: name, Tag: "v1"}
		want, _, err1 := layout.Head(t.Context(), from, ref)
		is, ok, err2 := layout.Head(t.Context(), back, ref)
		if is != want || !ok || err1 != nil || err2 != nil {
			t.Errorf("%s is %s, and not %s: %v, %v", ref, is, want, err1, err2)
		}
	}
	if _, err := storage.OpenObjects(t.Context(), "s3://none", storage.Bucket{Storage: where, Secret: func(context.Context, schema.SecretRef) (string, error) { return "", fmt.Errorf("not set") }}); err == nil || !strings.HasPrefix(err.Error(), "s3://none: ") {
		t.Errorf("without a secret: %v", err)
	}
}

// broken is a body that breaks off.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("broken off") }
