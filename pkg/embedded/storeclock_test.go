package embedded

import (
	"context"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/embedded/storage"
	"github.com/ocisync/ocisync/schema"
)

// behind is a driver of a store whose clock is so much behind.
type behind struct {
	storagedriver.StorageDriver
	by time.Duration
}

func (d behind) Stat(ctx context.Context, path string) (storagedriver.FileInfo, error) {
	fi, err := d.StorageDriver.Stat(ctx, path)
	if err != nil {
		return nil, err
	}
	return storagedriver.FileInfoInternal{FileInfoFields: storagedriver.FileInfoFields{
		Path: fi.Path(), Size: fi.Size(), ModTime: fi.ModTime().Add(-d.by), IsDir: fi.IsDir(),
	}}, nil
}

func TestAStoreWhoseClockIsWrongKeepsAndLosesNoLonger(t *testing.T) {
	for name, by := range map[string]time.Duration{"behind": 3 * time.Hour, "ahead": -3 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			r, err := Open(t.Context(), Options{Data: filepath.Join(t.TempDir(), "data")})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}()
			admin := schema.Resource{Key: schema.Key{Kind: schema.KindUser, Name: "root"}, Spec: &schema.User{Admin: new(true)}}
			if _, err := r.store.change(t.Context(), []Change{{Object: admin}}); err != nil {
				t.Fatal(err)
			}
			p := &pusher{t: t, r: r}
			b := []byte("a blob whose manifest is still to come")
			start := p.do(http.MethodPost, "/v2/a/blobs/uploads/", "", nil)
			end := p.do(http.MethodPut, start.Header.Get("Location")+"&digest="+digest.FromBytes(b).String(), "application/octet-stream", b)
			if end.StatusCode != http.StatusCreated {
				t.Fatal(end.Status)
			}
			s := storage.New(behind{r.storage.Driver(), by}, "the bucket")
			for _, c := range []struct {
				later time.Duration
				want  int
			}{{0, 0}, {2 * time.Hour, 1}} {
				got, err := collect(t.Context(), s, newGate(), collecting{delay: time.Hour}, time.Now().Add(c.later))
				if err != nil || got.Blobs != c.want {
					t.Errorf("%s after the push, with a grace period of 1h: %d blobs removed, want %d: %v", c.later, got.Blobs, c.want, err)
				}
			}
		})
	}
}
