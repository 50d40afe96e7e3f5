package embedded

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ocisync/ocisync/pkg/embedded/storage"
	"github.com/ocisync/ocisync/pkg/regular"
)

const ownerFile = "owner" // below ownDir

// claim makes the bucket, if there is one, the data directory's. The caller has
// the lock.
func claim(ctx context.Context, data string, s *storage.Storage) error {
	if !s.InBucket() {
		return nil
	}
	o, err := ownerOf(data)
	if err != nil {
		return fmt.Errorf("what the bucket knows this registry by: %w; %s", err, remedy(err, data))
	}
	return s.Claim(ctx, o)
}

// ownerOf reads who the data directory is, or makes it somebody.
func ownerOf(data string) (o storage.Owner, err error) {
	dir := filepath.Join(data, ownDir)
	b, err := regular.Read(filepath.Join(dir, ownerFile), 64<<10)
	if err == nil {
		if json.Unmarshal(b, &o) != nil || o.ID == "" {
			err = fmt.Errorf("%s is damaged; restore it from a backup", filepath.Join(dir, ownerFile))
		}
		return o, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return o, err
	}
	o = storage.Owner{ID: rand.Text(), Data: data, Since: time.Now().UTC().Truncate(time.Second)}
	if o.Host, err = os.Hostname(); err != nil {
		o.Host = "an unnamed host"
	}
	if b, err = json.Marshal(o); err != nil {
		return o, err
	}
	return o, regular.Replace(dir, ownerFile, append(b, '\n'))
}
