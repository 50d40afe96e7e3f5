package content

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocisync/ocisync/pkg/content/files"
)

// FileLayer is a file as a layer, under a name. It is read two times, and must not
// change between.
func FileLayer(path, name, mediaType string) (Layer, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no file")
	}
	if err != nil {
		return Layer{}, fmt.Errorf("%s: %w", path, cause(err))
	}
	f, err := os.Open(path)
	if err != nil {
		return Layer{}, fmt.Errorf("%s: %w", path, cause(err))
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err != nil {
		return Layer{}, fmt.Errorf("%s: %w", path, cause(err))
	}
	d := v1.Descriptor{MediaType: types.MediaType(mediaType), Digest: v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", sum.Sum(nil))}, Size: n, Annotations: map[string]string{TitleAnnotation: name}}
	return Layer{d, func() (io.ReadCloser, error) { return os.Open(path) }}, nil
}

// DirectoryLayer is a directory as a layer, under a name: a tar of [files.Pack], made
// smaller. It is kept in a temporary file until remove is called.
func DirectoryLayer(ctx context.Context, dir, name, mediaType string, how files.Compression) (_ Layer, remove func() error, err error) {
	f, err := os.CreateTemp("", "ocisync-*")
	if err != nil {
		return Layer{}, nil, err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	packed, whole := sha256.New(), sha256.New()
	z, err := files.Compress(io.MultiWriter(f, packed), how)
	if err != nil {
		return Layer{}, nil, err
	}
	if err := errors.Join(files.Pack(ctx, io.MultiWriter(z, whole), dir, name), z.Close()); err != nil {
		return Layer{}, nil, err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return Layer{}, nil, err
	}
	d := v1.Descriptor{MediaType: types.MediaType(mediaType), Digest: v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", packed.Sum(nil))}, Size: size, Annotations: map[string]string{
		TitleAnnotation: name, UnpackAnnotation: "true", DigestAnnotation: fmt.Sprintf("sha256:%x", whole.Sum(nil)),
	}}
	return Layer{d, func() (io.ReadCloser, error) { return os.Open(f.Name()) }}, func() error { return os.Remove(f.Name()) }, nil
}
