//go:build objectstorage

package storage

import (
	"context"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/azure"
	"github.com/distribution/distribution/v3/registry/storage/driver/gcs"
	s3 "github.com/distribution/distribution/v3/registry/storage/driver/s3-aws"
)

// objectStores makes the drivers, by their keys in registry.run.storage.
func objectStores() map[string]factory {
	return map[string]factory{
		"s3": func(ctx context.Context, p map[string]any) (storagedriver.StorageDriver, error) {
			return s3.FromParameters(ctx, p)
		},
		"gcs": gcs.FromParameters,
		"azure": func(ctx context.Context, p map[string]any) (storagedriver.StorageDriver, error) {
			params, err := azure.NewParameters(p)
			if err != nil {
				return nil, err
			}
			return azure.New(ctx, params)
		},
	}
}
