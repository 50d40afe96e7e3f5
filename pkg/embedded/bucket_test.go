//go:build integration && objectstorage

package embedded

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/embedded/storage"
	"github.com/ocisync/ocisync/pkg/embedded/storage/s3test"
	"github.com/ocisync/ocisync/schema"
)

// inS3 is a bucket of its own on a server, with the right secret.
func inS3(t *testing.T, s *s3test.Server) Bucket {
	t.Helper()
	t.Cleanup(http.DefaultClient.CloseIdleConnections) // the driver's
	return Bucket{Storage: s.Bucket(t, "images"), Secret: func(context.Context, schema.SecretRef) (string, error) { return s3test.Secret, nil }}
}

// TestIntegrationPushesBesideCollectionLoseNothingInABucket is the test of the
// same name without a bucket, with fewer pushes, slower, and a longer grace
// period: the store counts whole seconds.
func TestIntegrationPushesBesideCollectionLoseNothingInABucket(t *testing.T) {
	s := s3test.Start(t, "../..")
	pushBesideCollection(t, Options{Data: filepath.Join(t.TempDir(), "data"), Bucket: inS3(t, s)}, 240, 1500*time.Millisecond, 150*time.Millisecond)
}

func TestIntegrationABucketHasOneOwner(t *testing.T) {
	s := s3test.Start(t, "../..")
	b := inS3(t, s)
	data := filepath.Join(t.TempDir(), "data")
	open := func(data string) error {
		r, err := Open(t.Context(), Options{Data: data, Bucket: b})
		if err == nil {
			err = r.Close()
		}
		return err
	}
	for range 2 {
		if err := open(data); err != nil {
			t.Fatal(err)
		}
	}
	other := filepath.Join(t.TempDir(), "other")
	if err := open(other); !errors.Is(err, ErrOwned) || !strings.Contains(err.Error(), data) {
		t.Errorf("another data directory serves it: %v", err)
	}
	d, err := OpenDirectory(other, "test", b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Run(t.Context(), JobGC, false); !errors.Is(err, ErrOwned) {
		t.Errorf("another data directory collects it: %v", err)
	}
	if _, err := d.Run(t.Context(), JobGC, true); err != nil {
		t.Errorf("nobody else may look: %v", err)
	}
	// another part of the bucket is another registry's
	part := *b.S3
	part.RootDirectory = new("/part")
	b.Storage = &schema.Storage{S3: &part}
	if err := open(other); err != nil {
		t.Error(err)
	}
}

func TestIntegrationClockOfABucketIsTheStores(t *testing.T) {
	s := s3test.Start(t, "../..")
	st, err := storage.Open(t.Context(), "", inS3(t, s))
	if err != nil {
		t.Fatal(err)
	}
	skew, err := st.Skew(t.Context())
	if err != nil || skew > 0 || skew < -3*time.Second {
		t.Errorf("the same host is %s ahead: %v", skew, err)
	}
}

func TestIntegrationCollectionRemovesUploadsAndTheirPartsFromABucket(t *testing.T) {
	s := s3test.Start(t, "../..")
	st, err := storage.Open(t.Context(), "", inS3(t, s))
	if err != nil {
		t.Fatal(err)
	}
	const upload = "/docker/registry/v2/repositories/a/_uploads/one/"
	if err := st.Driver().PutContent(t.Context(), upload+"startedat", []byte("then")); err != nil {
		t.Fatal(err)
	}
	w, err := st.Driver().Writer(t.Context(), upload+"data", false)
	if err == nil {
		_, err = w.Write(make([]byte, 100))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	parts := func() int64 {
		t.Helper()
		n, err := st.Uploaded(t.Context(), "a", "one")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := parts(); n != 100 {
		t.Fatalf("%d bytes are stored", n)
	}
	for want, after := range []time.Duration{23 * time.Hour, 25 * time.Hour} {
		c, err := collect(t.Context(), st, newGate(), collecting{delay: time.Minute}, time.Now().Add(after))
		if err != nil || c.Uploads != want {
			t.Errorf("after %s: %+v, %v; want %d uploads", after, c, err, want)
		}
	}
	if n := parts(); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}
