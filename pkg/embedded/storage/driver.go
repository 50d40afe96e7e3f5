package storage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"

	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/schema"
)

// maxThreads is how many files are worked on at once, by all that goes on in
// one process.
const maxThreads = 100

// ErrNotBuilt means that this program was built without the drivers of object
// stores.
var ErrNotBuilt = errors.New("this ocisync was built without object stores")

// Bucket is the object store that keeps content, if any: the zero value is
// none.
type Bucket struct {
	*schema.Storage
	// Secret finds the secrets that Storage refers to.
	Secret func(context.Context, schema.SecretRef) (string, error)
}

// Open opens the storage in a bucket or, without one, in a directory, which
// need not exist. It touches nothing, and reaches for no bucket.
func Open(ctx context.Context, data string, b Bucket) (*Storage, error) {
	if b.Storage == nil {
		return New(disk{filesystem.New(filesystem.DriverParameters{RootDirectory: data, MaxThreads: maxThreads}), data}, ""), nil
	}
	kind, name := b.name()
	where := "registry.run.storage." + kind + " (" + name + ")"
	if b.Source.Line > 0 {
		where = fmt.Sprintf("%s:%d: %s", b.Source.File, b.Source.Line, where)
	}
	driver, err := b.driver(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	return New(driver, where), nil
}

// driver makes the driver of Distribution for it.
func (b Bucket) driver(ctx context.Context) (storagedriver.StorageDriver, error) {
	kind, _ := b.name()
	create, ok := objectStores()[kind]
	if !ok {
		return nil, fmt.Errorf("%w; install one that has them: go install -tags objectstorage github.com/ocisync/ocisync/cmd/ocisync@latest", ErrNotBuilt)
	}
	parameters, err := b.parameters(ctx, kind)
	if err != nil {
		return nil, err
	}
	driver, err := create(ctx, parameters)
	if err != nil {
		return nil, fmt.Errorf("%w; mend the table", err)
	}
	return driver, nil
}

// disk closes and removes a file that takes no more, so that a full disk has
// its space back: Distribution first writes down how far it came, and leaves the
// file open where that fails too. What root makes is the directory's owner's, who
// is to go on with it.
type disk struct {
	storagedriver.StorageDriver
	data string // the directory
}

// PutContent implements [storagedriver.StorageDriver].
func (d disk) PutContent(ctx context.Context, path string, content []byte) error {
	if err := d.StorageDriver.PutContent(ctx, path, content); err != nil {
		return err
	}
	return d.give(path)
}

// Move implements [storagedriver.StorageDriver].
func (d disk) Move(ctx context.Context, from, to string) error {
	if err := d.StorageDriver.Move(ctx, from, to); err != nil {
		return err
	}
	return d.give(to)
}

func (d disk) give(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	in, err := os.OpenRoot(d.data)
	if err != nil {
		return err
	}
	return errors.Join(regular.GiveAll(in, path), in.Close())
}

// Writer implements [storagedriver.StorageDriver].
func (d disk) Writer(ctx context.Context, path string, appending bool) (storagedriver.FileWriter, error) {
	w, err := d.StorageDriver.Writer(ctx, path, appending)
	if err != nil {
		return nil, err
	}
	return &diskFile{w}, nil
}

type diskFile struct{ storagedriver.FileWriter }

// Write implements [io.Writer].
func (f *diskFile) Write(p []byte) (int, error) {
	n, err := f.FileWriter.Write(p)
	if err != nil {
		f.Cancel(context.Background()) //nolint:errcheck // the failure to write is what matters
	}
	return n, err
}

// Commit implements [storagedriver.FileWriter]. A little content is written only now.
func (f *diskFile) Commit(ctx context.Context) error {
	err := f.FileWriter.Commit(ctx)
	if err != nil {
		f.Cancel(ctx) //nolint:errcheck // the failure to write is what matters
	}
	return err
}

// factory makes a driver of Distribution.
type factory func(context.Context, map[string]any) (storagedriver.StorageDriver, error)

// name returns the store's kind, and what it is called in messages.
func (b Bucket) name() (kind, name string) {
	switch {
	case b.S3 != nil:
		return "s3", "bucket " + b.S3.Bucket
	case b.GCS != nil:
		return "gcs", "bucket " + b.GCS.Bucket
	case b.Azure != nil:
		return "azure", "container " + b.Azure.Container
	}
	return "", "none is named"
}

// String names the bucket for messages.
func (b Bucket) String() string {
	kind, name := b.name()
	return kind + " " + name
}

// parameters are those of Distribution's driver, with the secrets.
func (b Bucket) parameters(ctx context.Context, kind string) (map[string]any, error) {
	text, err := json.Marshal(b.Storage)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var all map[string]map[string]any
	if err := dec.Decode(&all); err != nil {
		return nil, err
	}
	out := all[kind]
	for key, v := range out {
		if n, ok := v.(json.Number); ok {
			if out[key], err = n.Int64(); err != nil {
				return nil, err
			}
		}
	}
	var problems []error
	secret := func(into map[string]any, key string, ref *schema.SecretRef) {
		if ref == nil {
			return
		}
		value, err := b.Secret(ctx, *ref)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", key, err))
		}
		into[key] = value
	}
	switch {
	case b.S3 != nil:
		secret(out, "secretkey", b.S3.SecretKey)
	case b.GCS != nil:
		secret(out, "credentials", b.GCS.Credentials)
		if text, ok := out["credentials"].(string); ok && len(problems) == 0 {
			var account map[string]any
			if json.Unmarshal([]byte(text), &account) != nil { // the text is a secret
				return nil, errors.New("credentials: this is not the JSON of a service account's key; put the whole file there")
			}
			keys := map[any]any{} // Distribution wants this very type
			for k, v := range account {
				keys[k] = v
			}
			out["credentials"] = keys
		}
	case b.Azure != nil:
		secret(out, "accountkey", b.Azure.AccountKey)
		secret(out, "connectionstring", b.Azure.ConnectionString)
		if b.Azure.Credentials != nil {
			if into, ok := out["credentials"].(map[string]any); ok {
				secret(into, "secret", b.Azure.Credentials.Secret)
			}
		}
	}
	return out, errors.Join(problems...)
}

// fail adds to an error of a bucket which one it is, and what to do.
func (s *Storage) fail(err error) error {
	if s.bucket == "" {
		return err
	}
	return failed(s.bucket, err)
}

func failed(bucket string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	const account = "check the account, and that it may list, read, write and delete there"
	remedy := "check that the store can be reached from here, and its settings"
	cause := err
	if other := (storagedriver.Error{}); errors.As(err, &other) && other.Detail != nil {
		cause = other.Detail
	}
	if coded := (interface{ Code() string })(nil); errors.As(cause, &coded) {
		switch coded.Code() {
		case "NoSuchBucket", "NotFound":
			remedy = "make it, or name another"
		case "InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "Forbidden", "InvalidToken", "ExpiredToken", "NoCredentialProviders":
			remedy = account
		}
	}
	return fmt.Errorf("%s: %w; %s", bucket, lineError{err}, remedy)
}

// lineError is an error of a driver on one line, which theirs often are not.
type lineError struct{ err error }

func (e lineError) Error() string { return strings.Join(strings.Fields(e.err.Error()), " ") }
func (e lineError) Unwrap() error { return e.err }
