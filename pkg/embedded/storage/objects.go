package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
)

// Objects are files in a bucket, by names with slashes. It is safe for use by several
// goroutines.
type Objects struct {
	driver storagedriver.StorageDriver
	url    string
}

// OpenObjects opens the files of a bucket below its RootDirectory; url is how people name
// that. It reaches for no bucket yet.
func OpenObjects(ctx context.Context, url string, b Bucket) (*Objects, error) {
	driver, err := b.driver(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	return &Objects{driver, url}, nil
}

// String is how people name it.
func (o *Objects) String() string { return o.url }

// missing has what is not there be [fs.ErrNotExist].
func (o *Objects) missing(err error) error {
	var none storagedriver.PathNotFoundError
	if errors.As(err, &none) {
		return fs.ErrNotExist
	}
	return failed(o.url, err)
}

// Stat tells the length of a file; [fs.ErrNotExist] is of one that is not there.
func (o *Objects) Stat(ctx context.Context, name string) (int64, error) {
	info, err := o.driver.Stat(ctx, "/"+name)
	if err != nil {
		return 0, o.missing(err)
	}
	if info.IsDir() {
		return 0, errors.New("it is no file")
	}
	return info.Size(), nil
}

// Open reads a file from a place on.
func (o *Objects) Open(ctx context.Context, name string, from int64) (io.ReadCloser, error) {
	r, err := o.driver.Reader(ctx, "/"+name, from)
	return r, o.missing(err)
}

// atOnce is how long a file is, in bytes, that is sent by one request.
const atOnce = 4 << 20

// Put stores a file of a length whole, in place of one of that name, or fails and leaves
// that as it was.
func (o *Objects) Put(ctx context.Context, name string, size int64, body io.Reader) error {
	if size <= atOnce {
		b, err := io.ReadAll(body)
		if err == nil && int64(len(b)) != size {
			err = fmt.Errorf("%d bytes came, and it should have %d", len(b), size)
		}
		if err != nil {
			return err
		}
		return failed(o.url, o.driver.PutContent(ctx, "/"+name, b))
	}
	w, err := o.driver.Writer(ctx, "/"+name, false)
	if err != nil {
		return failed(o.url, err)
	}
	n, err := io.Copy(w, body)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes came, and it should have %d", n, size)
	}
	if err == nil {
		err = w.Commit(ctx)
	}
	if err != nil {
		return errors.Join(failed(o.url, err), w.Cancel(context.WithoutCancel(ctx)))
	}
	return failed(o.url, w.Close())
}

// List lists the names of the files below a directory, however deep; one that is not
// there has none.
func (o *Objects) List(ctx context.Context, dir string) (names []string, err error) {
	err = o.driver.Walk(ctx, "/"+dir, func(info storagedriver.FileInfo) error {
		if !info.IsDir() {
			names = append(names, info.Path()[1:])
		}
		return nil
	})
	if err = o.missing(err); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return names, err
}

// Remove removes a file.
func (o *Objects) Remove(ctx context.Context, name string) error {
	return o.missing(o.driver.Delete(ctx, "/"+name))
}
