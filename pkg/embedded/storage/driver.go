package storage

import (
	"context"
	"fmt"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
)

// maxThreads is how many files are worked on at once, by all that goes on in
// one process.
const maxThreads = 100

// Open opens the storage in a directory, which need not exist, and touches
// nothing.
func Open(ctx context.Context, data string) (*Storage, error) {
	s, err := New(ctx, driverIn(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", data, err)
	}
	return s, nil
}

func driverIn(data string) storagedriver.StorageDriver {
	return filesystem.New(filesystem.DriverParameters{RootDirectory: data, MaxThreads: maxThreads})
}
