package embedded

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"
)

// treeRoot is where Distribution keeps all it stores, in every driver. Its
// package storage describes the layout below it.
const treeRoot = "/docker/registry/v2"

// tree is the storage by the layout of Distribution, for what its interfaces
// do not offer: ages, removal, and the links of referrers.
type tree struct{ driver storagedriver.StorageDriver }

func (tree) repositories() string            { return treeRoot + "/repositories" }
func (tree) blobs() string                   { return treeRoot + "/blobs" }
func (t tree) repository(name string) string { return path.Join(t.repositories(), name) }
func (t tree) manifests(repo string) string  { return path.Join(t.repository(repo), "_manifests") }
func (t tree) layers(repo string) string     { return path.Join(t.repository(repo), "_layers") }
func (t tree) uploads(repo string) string    { return path.Join(t.repository(repo), "_uploads") }
func (t tree) revisions(repo string) string  { return path.Join(t.manifests(repo), "revisions") }
func (t tree) tags(repo string) string       { return path.Join(t.manifests(repo), "tags") }
func (t tree) tag(repo, tag string) string   { return path.Join(t.tags(repo), tag) }

// referrers is a directory of our own: below it lies, by subject and digest,
// the descriptor of each manifest with that subject. A stock Distribution
// passes over it, as over all whose name begins with an underscore.
func (t tree) referrers(repo string) string { return path.Join(t.repository(repo), "_referrers") }

// under is the directory of a digest below another.
func under(dir string, d digest.Digest) string {
	return path.Join(dir, d.Algorithm().String(), d.Encoded())
}

func (t tree) blob(d digest.Digest) string {
	return path.Join(t.blobs(), d.Algorithm().String(), d.Encoded()[:2], d.Encoded())
}

// absent reports whether an error says that there is no such file, or none
// any more: a directory may be removed while it is listed.
func absent(err error) bool {
	missing := storagedriver.PathNotFoundError{}
	other := storagedriver.Error{}
	return errors.As(err, &missing) || errors.Is(err, fs.ErrNotExist) ||
		errors.As(err, &other) && errors.Is(other.Detail, fs.ErrNotExist)
}

// list returns the names in a directory, sorted; none where it is absent. It
// passes over names that no registry makes.
func (t tree) list(ctx context.Context, dir string) ([]string, error) {
	paths, err := t.driver.List(ctx, dir)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range paths {
		if storagedriver.PathRegexp.MatchString(p) {
			names = append(names, path.Base(p))
		}
	}
	slices.Sort(names)
	return names, nil
}

// digests returns the digests that are directories below dir, sorted.
func (t tree) digests(ctx context.Context, dir string) ([]digest.Digest, error) {
	algorithms, err := t.list(ctx, dir)
	if err != nil {
		return nil, err
	}
	var out []digest.Digest
	for _, a := range algorithms {
		names, err := t.list(ctx, path.Join(dir, a))
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			if d := digest.NewDigestFromEncoded(digest.Algorithm(a), n); d.Validate() == nil {
				out = append(out, d)
			}
		}
	}
	return out, nil
}

// file is what is known of a file without reading it.
type file struct {
	size     int64
	modified time.Time
}

// stat reports false for what is absent.
func (t tree) stat(ctx context.Context, name string) (file, bool, error) {
	fi, err := t.driver.Stat(ctx, name)
	if absent(err) {
		return file{}, false, nil
	}
	if err != nil {
		return file{}, false, err
	}
	return file{fi.Size(), fi.ModTime()}, true, nil
}

// link is a digest that a repository holds: its name there, what it stands
// for, and when it was last put there.
type link struct {
	name, target digest.Digest
	made         time.Time
}

// links returns the links below a directory, sorted.
func (t tree) links(ctx context.Context, dir string) ([]link, error) {
	names, err := t.digests(ctx, dir)
	if err != nil {
		return nil, err
	}
	var out []link
	for _, d := range names {
		name := path.Join(under(dir, d), "link")
		f, ok, err := t.stat(ctx, name)
		if err != nil {
			return nil, err
		}
		if !ok { // Distribution leaves the directory of a link it removes
			continue
		}
		l := link{d, d, f.modified}
		if d.Algorithm() != digest.Canonical { // the content is stored by its canonical digest
			target, ok, err := t.follow(ctx, name)
			if err != nil {
				return nil, err
			}
			if ok {
				l.target = target
			}
		}
		out = append(out, l)
	}
	return out, nil
}

// follow reads a link; false if there is none.
func (t tree) follow(ctx context.Context, name string) (digest.Digest, bool, error) {
	b, err := t.driver.GetContent(ctx, name)
	if absent(err) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	d, err := digest.Parse(string(b))
	if err != nil {
		return "", false, nil //nolint:nilerr // a link that leads nowhere
	}
	return d, true, nil
}

// content reads a blob; false if it is absent. Of one larger than limit it
// returns nothing.
func (t tree) content(ctx context.Context, d digest.Digest, limit int64) ([]byte, bool, error) {
	name := path.Join(t.blob(d), "data")
	f, ok, err := t.stat(ctx, name)
	if err != nil || !ok || f.size > limit {
		return nil, ok, err
	}
	b, err := t.driver.GetContent(ctx, name)
	if absent(err) {
		return nil, false, nil
	}
	return b, err == nil, err
}

// vacant reports whether a directory is absent or holds nothing at all.
func (t tree) vacant(ctx context.Context, dir string) (bool, error) {
	paths, err := t.driver.List(ctx, dir)
	if absent(err) {
		return true, nil
	}
	return len(paths) == 0, err
}

// remove deletes what is there.
func (t tree) remove(ctx context.Context, name string) error {
	if err := t.driver.Delete(ctx, name); err != nil && !absent(err) {
		return err
	}
	return nil
}
