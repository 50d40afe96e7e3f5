package content

import (
	"context"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Source is what content is copied from. It is safe for use by several goroutines.
type Source interface {
	fmt.Stringer // how people name it
	// Repositories lists those that can be seen, sorted.
	Repositories(ctx context.Context) ([]string, error)
	// Tags lists those of a repository, sorted; ok is false where there is none of
	// that name.
	Tags(ctx context.Context, repository string) (tags []string, ok bool, err error)
	reader
}

type reader interface {
	head(ctx context.Context, ref Reference) (digest v1.Hash, ok bool, err error)
	// describe is head with what is to be told of it; [ErrAbsent] where it is not there.
	describe(ctx context.Context, ref Reference) (v1.Descriptor, error)
	manifest(ctx context.Context, ref Reference) (manifest, error)
	blob(ctx context.Context, repository string, d v1.Descriptor, from int64) (io.ReadCloser, error)
	referrers(ctx context.Context, repository string, digest v1.Hash, tags map[string]bool) ([]v1.Descriptor, error)
	// referable reports whether something may refer to the parts of a manifest, as far as
	// is known without asking; tags are as those of referrers.
	referable(repository string, digest v1.Hash, tags map[string]bool) bool
	fail(ref Reference, doing string, err error) error
}

// Target is what content is copied to. It is safe for use by several goroutines.
type Target interface {
	Source
	writer
	// Commit ends what is written there: until then nothing may be seen of it.
	Commit(ctx context.Context) error
}

type writer interface {
	has(ctx context.Context, repository string, digest v1.Hash) (bool, error)
	// begin opens an upload, or takes the blob from what lies there already.
	begin(ctx context.Context, repository string, d v1.Descriptor, from string) (at upload, mounted bool, err error)
	// upload reads a blob to its end; one that ends with an error is not stored.
	upload(ctx context.Context, repository string, at upload, d v1.Descriptor, body io.Reader) error
	put(ctx context.Context, ref Reference, m manifest) error
	// leaves reports whether it leaves to its clients to keep what refers to a manifest.
	leaves(ctx context.Context, of Reference) (bool, error)
	// keepReferrers has those clients' index name all of a list. It tells what the index
	// is by then, and whether it wrote it; nothing where it is not left to them.
	keepReferrers(ctx context.Context, repository string, digest v1.Hash, list []v1.Descriptor, source sourceIndex) (is v1.Hash, wrote bool, err error)
	// untag deletes a tag alone, or a manifest by its digest; [ErrAbsent] where it is
	// not there.
	untag(ctx context.Context, ref Reference) error
}

var (
	_ Target = (*Registry)(nil)
	_ Target = (*Layout)(nil)
	_ Source = made{}
)
