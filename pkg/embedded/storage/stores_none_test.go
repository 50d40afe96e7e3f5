//go:build !objectstorage

package storage

import (
	"context"
	"errors"
	"testing"

	"github.com/ocisync/ocisync/schema"
)

func TestProgramWithoutObjectStoresSaysWhatToInstall(t *testing.T) {
	asked := false
	b := Bucket{
		Storage: &schema.Storage{S3: &schema.S3Storage{Bucket: "images"}, Source: schema.Position{File: "modes/m/m.toml", Line: 7}},
		Secret:  func(context.Context, schema.SecretRef) (string, error) { asked = true; return "", nil },
	}
	_, err := Open(t.Context(), t.TempDir(), b)
	const want = "modes/m/m.toml:7: registry.run.storage.s3 (bucket images): this ocisync was built without object stores; install one that has them: go install -tags objectstorage github.com/ocisync/ocisync/cmd/ocisync@latest"
	if !errors.Is(err, ErrNotBuilt) || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	if asked {
		t.Error("it looked for a secret")
	}
}
