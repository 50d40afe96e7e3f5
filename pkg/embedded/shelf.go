package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/registry/storage"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// storageRoot is where Distribution keeps everything, below the root of its
// storage driver; the layout is that of its registry/storage/paths.go.
const storageRoot = "/docker/registry/v2"

// shelf looks at the stored content without HTTP and removes from it. What it
// is asked about and is not there is no error.
type shelf struct {
	driver storagedriver.StorageDriver
	ns     distribution.Namespace
}

func openShelf(ctx context.Context, data string) (*shelf, error) {
	driver := filesystem.New(filesystem.DriverParameters{RootDirectory: data, MaxThreads: 100})
	ns, err := storage.NewRegistry(ctx, driver, storage.EnableDelete)
	if err != nil {
		return nil, fmt.Errorf("opening the storage in %s: %w", data, err)
	}
	return &shelf{driver, ns}, nil
}

func inRepository(name string, parts ...string) string {
	return path.Join(append([]string{storageRoot, "repositories", name}, parts...)...)
}

func blobData(d digest.Digest) string {
	return path.Join(storageRoot, "blobs", d.Algorithm().String(), d.Encoded()[:2], d.Encoded(), "data")
}

func linkPath(repository, where string, d digest.Digest) string {
	return inRepository(repository, where, d.Algorithm().String(), d.Encoded(), "link")
}

// The two places where a repository links to what it holds.
const (
	layerLinks    = "_layers"
	manifestLinks = "_manifests/revisions"
)

func isAbsent(err error) bool {
	missing := storagedriver.PathNotFoundError{}
	return errors.As(err, &missing)
}

// list returns the last parts of the paths directly below a path.
func (s *shelf) list(ctx context.Context, dir string) ([]string, error) {
	paths, err := s.driver.List(ctx, dir)
	if isAbsent(err) {
		return nil, nil
	}
	for i, p := range paths {
		paths[i] = path.Base(p)
	}
	slices.Sort(paths)
	return paths, err
}

// repositories lists the repositories that are the name or lie below it, all
// for "", those that hold nothing but blobs too.
func (s *shelf) repositories(ctx context.Context, under string) ([]string, error) {
	var out []string
	entries, err := s.list(ctx, inRepository(under))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasPrefix(e, "_") {
			if len(out) == 0 || out[len(out)-1] != under {
				out = append(out, under)
			}
			continue
		}
		more, err := s.repositories(ctx, path.Join(under, e))
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	slices.Sort(out)
	return out, nil
}

func (s *shelf) tags(ctx context.Context, repository string) ([]string, error) {
	return s.list(ctx, inRepository(repository, "_manifests/tags"))
}

// tag returns what a tag names and when it was made so; "" where there is none.
func (s *shelf) tag(ctx context.Context, repository, tag string) (d digest.Digest, at time.Time, err error) {
	link := inRepository(repository, "_manifests/tags", tag, "current/link")
	b, err := s.driver.GetContent(ctx, link)
	if isAbsent(err) {
		return "", at, nil
	}
	if err != nil {
		return "", at, err
	}
	if d, err = digest.Parse(string(b)); err != nil {
		return "", at, fmt.Errorf("tag %s of %s: %w; delete the tag and push it again", tag, repository, err)
	}
	info, err := s.driver.Stat(ctx, link)
	if isAbsent(err) {
		return "", at, nil
	}
	if err != nil {
		return "", at, err
	}
	return d, info.ModTime(), nil
}

// links lists what a repository links to in one of the two places.
func (s *shelf) links(ctx context.Context, repository, where string) ([]digest.Digest, error) {
	var out []digest.Digest
	algorithms, err := s.list(ctx, inRepository(repository, where))
	if err != nil {
		return nil, err
	}
	for _, a := range algorithms {
		names, err := s.list(ctx, inRepository(repository, where, a))
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			d := digest.NewDigestFromEncoded(digest.Algorithm(a), n)
			if d.Validate() != nil {
				continue
			}
			b, err := s.driver.GetContent(ctx, linkPath(repository, where, d))
			if isAbsent(err) { // unlinked, the directory stays
				continue
			}
			if err != nil {
				return nil, err
			}
			// a digest of another algorithm links to the canonical one
			if target, err := digest.Parse(string(b)); err == nil {
				out = append(out, target)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// linked reports whether a repository links to a digest, and since when.
func (s *shelf) linked(ctx context.Context, repository, where string, d digest.Digest) (at time.Time, ok bool, err error) {
	info, err := s.driver.Stat(ctx, linkPath(repository, where, d))
	if isAbsent(err) {
		return at, false, nil
	}
	if err != nil {
		return at, false, err
	}
	return info.ModTime(), true, nil
}

// size returns the size of a blob; ok is false where it is not there.
func (s *shelf) size(ctx context.Context, d digest.Digest) (n int64, ok bool, err error) {
	info, err := s.driver.Stat(ctx, blobData(d))
	if isAbsent(err) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	return info.Size(), true, nil
}

// uploaded returns how much of an unfinished upload has arrived.
func (s *shelf) uploaded(ctx context.Context, repository, id string) (int64, error) {
	info, err := s.driver.Stat(ctx, inRepository(repository, "_uploads", id, "data"))
	if isAbsent(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (s *shelf) dropUpload(ctx context.Context, repository, id string) error {
	return s.driver.Delete(ctx, inRepository(repository, "_uploads", id))
}

// manifest reads what a stored manifest refers to.
func (s *shelf) manifest(ctx context.Context, d digest.Digest) (references, error) {
	b, err := s.driver.GetContent(ctx, blobData(d))
	if isAbsent(err) {
		return references{}, nil
	}
	return referencesOf(b), err
}

// untag removes a tag.
func (s *shelf) untag(ctx context.Context, repository, tag string) error {
	repo, err := s.open(ctx, repository)
	if err != nil {
		return err
	}
	if err := repo.Tags(ctx).Untag(ctx, tag); err != nil && !isAbsent(err) {
		return err
	}
	return nil
}

// unlinkManifest removes a manifest from a repository; its bytes go with the
// next collection.
func (s *shelf) unlinkManifest(ctx context.Context, repository string, d digest.Digest) error {
	repo, err := s.open(ctx, repository)
	if err != nil {
		return err
	}
	manifests, err := repo.Manifests(ctx)
	if err != nil {
		return err
	}
	if err := manifests.Delete(ctx, d); err != nil && !errors.Is(err, distribution.ErrBlobUnknown) {
		return err
	}
	return nil
}

func (s *shelf) open(ctx context.Context, repository string) (distribution.Repository, error) {
	named, err := reference.WithName(repository)
	if err != nil {
		return nil, err
	}
	return s.ns.Repository(ctx, named)
}

// references are the digests that a manifest names.
type references struct {
	blobs    []digest.Digest // configuration and layers
	children []digest.Digest // manifests of an index
	subject  digest.Digest   // "" without one
}

// referencesOf reads any kind of manifest; what is none refers to nothing.
func referencesOf(b []byte) references {
	type descriptor struct {
		Digest digest.Digest `json:"digest"`
	}
	var m struct {
		Config    descriptor   `json:"config"`
		Layers    []descriptor `json:"layers"`
		Manifests []descriptor `json:"manifests"`
		Subject   descriptor   `json:"subject"`
	}
	if json.Unmarshal(b, &m) != nil {
		return references{}
	}
	valid := func(list []descriptor) (out []digest.Digest) {
		for _, d := range list {
			if d.Digest.Validate() == nil {
				out = append(out, d.Digest)
			}
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	r := references{blobs: valid(append(m.Layers, m.Config)), children: valid(m.Manifests)}
	if m.Subject.Digest.Validate() == nil {
		r.subject = m.Subject.Digest
	}
	return r
}
