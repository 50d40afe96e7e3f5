// Package storage is what the embedded registry stores, in the layout of a
// stock Distribution: repositories with tags and links, and the blobs these
// lead to. It looks at them without HTTP and removes them, and keeps which
// manifests are about which, for which that layout has no place.
//
// Start with [Open]. What is asked about and is not there is no error.
package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"
)

// ErrDamaged means that what is stored is not what Distribution writes.
var ErrDamaged = errors.New("what is stored is damaged")

// Storage is safe for concurrent use. What it removes, and what is pushed
// meanwhile, the caller keeps apart.
type Storage struct {
	driver storagedriver.StorageDriver
	bucket string // in messages; "" on a disk
	words  *words
}

// New looks at what a driver stores: in a bucket, as messages call it, or with
// "" on a disk.
func New(driver storagedriver.StorageDriver, bucket string) *Storage {
	return &Storage{driver, bucket, newWords()}
}

// Driver is what Distribution is to store with.
func (s *Storage) Driver() storagedriver.StorageDriver { return s.driver }

// InBucket reports whether content is kept in a bucket.
func (s *Storage) InBucket() bool { return s.bucket != "" }

// With is the same storage by another driver.
func (s *Storage) With(driver storagedriver.StorageDriver) *Storage {
	return &Storage{driver, s.bucket, s.words}
}

// Ping reports whether the storage can be reached: a bucket, or the disk that is
// to hold the data directory.
func (s *Storage) Ping(ctx context.Context) error {
	_, _, err := s.stat(ctx, root)
	return err
}

// Link is a digest that a repository holds: its name there, the content it
// stands for, and when it was last put there.
type Link struct {
	Name, Target digest.Digest
	Made         time.Time
}

// Blob is what is known of content without reading it.
type Blob struct {
	Size int64 // bytes
	Made time.Time
}

// Catalogue calls visit for each repository with manifests after the one named
// last, in the order of their names' parts, until visit returns false.
func (s *Storage) Catalogue(ctx context.Context, last string, visit func(string) (bool, error)) error {
	_, err := s.walk(ctx, "", last, func(repo string, listed bool) (bool, error) {
		if !listed {
			return true, nil
		}
		return visit(repo)
	})
	if err != nil {
		return fmt.Errorf("listing repositories: %w", err)
	}
	return nil
}

// Listed reports whether the catalogue has a repository.
func (s *Storage) Listed(ctx context.Context, repo string) (bool, error) {
	_, ok, err := s.stat(ctx, manifestsDir(repo))
	return ok, err
}

// Repositories lists, sorted, those that are the name or lie below it, all for
// "", those without a manifest too.
func (s *Storage) Repositories(ctx context.Context, under string) ([]string, error) {
	var out []string
	_, err := s.walk(ctx, under, "", func(repo string, _ bool) (bool, error) {
		out = append(out, repo)
		return true, nil
	})
	slices.Sort(out)
	return out, err
}

// walk calls visit for the repository and those below it that come after the
// one named last, until visit returns false. The walk that drivers have reads
// the name of every object in a bucket, and in another order than on a disk.
func (s *Storage) walk(ctx context.Context, repo, last string, visit func(repo string, listed bool) (bool, error)) (more bool, err error) {
	names, err := s.list(ctx, inRepository(repo))
	if err != nil {
		return false, err
	}
	if repo != "" && after(repo, last) && slices.ContainsFunc(names, special) {
		if more, err := visit(repo, slices.Contains(names, "_manifests")); err != nil || !more {
			return false, err
		}
	}
	for _, n := range names {
		child := n
		if repo != "" {
			child = repo + "/" + n
		}
		if special(n) || !after(child, last) && !strings.HasPrefix(last+"/", child+"/") {
			continue
		}
		if more, err := s.walk(ctx, child, last, visit); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// after reports whether a repository comes after another.
func after(repo, other string) bool {
	for i := range min(len(repo), len(other)) {
		switch a, b := repo[i], other[i]; {
		case a == b:
		case a == '/': // its part has ended
			return false
		case b == '/':
			return true
		default:
			return a > b
		}
	}
	return len(repo) > len(other)
}

// Tags lists a repository's tags, sorted.
func (s *Storage) Tags(ctx context.Context, repo string) ([]string, error) {
	return s.list(ctx, tagsDir(repo))
}

// Tag returns what a tag names, "" where there is none. ErrDamaged: it names
// nothing.
func (s *Storage) Tag(ctx context.Context, repo, tag string) (digest.Digest, error) {
	d, err := s.follow(ctx, tagLink(repo, tag))
	if errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("tag %s of %s: %w; push it again, or delete it", tag, repo, err)
	}
	return d, err
}

// TagMade returns when a tag was made to name what it does.
func (s *Storage) TagMade(ctx context.Context, repo, tag string) (at time.Time, ok bool, err error) {
	f, ok, err := s.stat(ctx, tagLink(repo, tag))
	return f.Made, ok, err
}

// TagHistory lists what a tag is and was.
func (s *Storage) TagHistory(ctx context.Context, repo, tag string) ([]digest.Digest, error) {
	return s.digests(ctx, historyDir(repo, tag))
}

// Manifests lists the manifests of a repository, sorted by name.
func (s *Storage) Manifests(ctx context.Context, repo string) ([]Link, error) {
	return s.links(ctx, revisionsDir(repo))
}

// Manifest reports whether a repository has a manifest, and since when.
func (s *Storage) Manifest(ctx context.Context, repo string, d digest.Digest) (at time.Time, ok bool, err error) {
	f, ok, err := s.stat(ctx, linkIn(revisionsDir(repo), d))
	return f.Made, ok, err
}

// Unlinked reports whether a repository had a manifest that a stock Distribution
// removed from it, and when: on a disk that removes the link and leaves its directory.
// What is removed here leaves none, and a bucket has none.
func (s *Storage) Unlinked(ctx context.Context, repo string, d digest.Digest) (at time.Time, ok bool, err error) {
	if s.InBucket() {
		return at, false, nil
	}
	dir := under(revisionsDir(repo), d)
	f, ok, err := s.stat(ctx, dir)
	if err != nil || !ok {
		return at, false, err
	}
	inside, err := s.list(ctx, dir)
	return f.Made, err == nil && len(inside) == 0, err
}

// Layers lists the blobs of a repository, sorted by name.
func (s *Storage) Layers(ctx context.Context, repo string) ([]Link, error) {
	return s.links(ctx, layersDir(repo))
}

// Layer reports whether a repository has a blob, and since when.
func (s *Storage) Layer(ctx context.Context, repo string, d digest.Digest) (at time.Time, ok bool, err error) {
	f, ok, err := s.stat(ctx, linkIn(layersDir(repo), d))
	return f.Made, ok, err
}

// Content is the digest by which a repository's blob is stored: Distribution keeps all
// by sha256, and links to it by the digest that a client named. It is d of what is not
// there.
func (s *Storage) Content(ctx context.Context, repo string, d digest.Digest) (digest.Digest, error) {
	if d.Algorithm() == digest.Canonical {
		return d, nil
	}
	target, err := s.follow(ctx, linkIn(layersDir(repo), d))
	if err != nil || target == "" {
		return d, err
	}
	return target, nil
}

// OpenLayer opens the content of a repository's blob, and tells by what digest
// it is stored; nil where it is not there, or cannot be sought in.
func (s *Storage) OpenLayer(ctx context.Context, repo string, d digest.Digest) (io.ReadSeekCloser, digest.Digest, error) {
	if s.InBucket() {
		return nil, "", nil
	}
	target, err := s.follow(ctx, linkIn(layersDir(repo), d))
	if err != nil || target == "" {
		return nil, "", err
	}
	r, err := s.driver.Reader(ctx, blobData(target), 0)
	if err != nil {
		return nil, "", err
	}
	content, ok := r.(io.ReadSeekCloser)
	if !ok {
		return nil, "", r.Close()
	}
	return content, target, nil
}

// OpenBlob opens content, whoever links to it.
func (s *Storage) OpenBlob(ctx context.Context, d digest.Digest) (io.ReadCloser, error) {
	r, err := s.driver.Reader(ctx, blobData(d), 0)
	return r, s.fail(err)
}

// Targets are the contents that links lead to, sorted, each once.
func Targets(links []Link) []digest.Digest {
	out := make([]digest.Digest, len(links))
	for i, l := range links {
		out[i] = l.Target
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Blobs calls visit for every blob there is, whoever links to it.
func (s *Storage) Blobs(ctx context.Context, visit func(digest.Digest) error) error {
	algorithms, err := s.list(ctx, blobsDir)
	if err != nil {
		return err
	}
	for _, a := range algorithms {
		prefixes, err := s.list(ctx, path.Join(blobsDir, a))
		if err != nil {
			return err
		}
		for _, p := range prefixes {
			names, err := s.list(ctx, path.Join(blobsDir, a, p))
			if err != nil {
				return err
			}
			for _, n := range names {
				d := digest.NewDigestFromEncoded(digest.Algorithm(a), n)
				if d.Validate() != nil {
					continue
				}
				if err := visit(d); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Blob returns the size of a blob and when it was put; ok is false where it is
// not there.
func (s *Storage) Blob(ctx context.Context, d digest.Digest) (b Blob, ok bool, err error) {
	return s.stat(ctx, blobData(d))
}

// BlobBytes measures all blobs.
func (s *Storage) BlobBytes(ctx context.Context) (total int64, err error) {
	err = s.driver.Walk(ctx, blobsDir, func(fi storagedriver.FileInfo) error {
		if !fi.IsDir() {
			total += fi.Size()
		}
		return ctx.Err()
	})
	if !absent(err) {
		return total, s.fail(err)
	}
	if _, there, gone := s.stat(ctx, blobsDir); there || gone != nil {
		return 0, err // blobs were removed meanwhile
	}
	return 0, nil // nothing pushed yet
}

// ReadManifest reads a stored manifest; false if it is absent. What is no
// manifest, or larger than one, is one of an unknown format.
func (s *Storage) ReadManifest(ctx context.Context, d digest.Digest) (Manifest, bool, error) {
	b, ok, err := s.stat(ctx, blobData(d))
	if err != nil || !ok || b.Size > MaxManifest {
		return Manifest{}, ok, err
	}
	text, ok, err := s.get(ctx, blobData(d))
	return ParseManifest(text), ok, err
}

// Mend writes a manifest anew whose stored copy was cut: Distribution takes what is
// there for whole.
func (s *Storage) Mend(ctx context.Context, d digest.Digest, manifest []byte) error {
	b, ok, err := s.Blob(ctx, d)
	if err != nil || !ok || b.Size == int64(len(manifest)) {
		return err
	}
	return s.put(ctx, blobData(d), manifest)
}

// Uploaded returns how many bytes of an unfinished upload have arrived.
func (s *Storage) Uploaded(ctx context.Context, repo, id string) (int64, error) {
	name := path.Join(uploadsDir(repo), id, "data")
	if s.bucket == "" {
		f, _, err := s.stat(ctx, name)
		return f.Size, err
	}
	// in a bucket it is no object before it is whole
	w, err := s.driver.Writer(ctx, name, true)
	if absent(err) {
		return 0, nil
	}
	if err != nil {
		return 0, s.fail(err)
	}
	return w.Size(), s.fail(w.Close())
}

// Upload is one that was begun and not ended.
type Upload struct {
	ID      string
	Size    int64     // bytes; of a bucket 0, whatever it has
	Touched time.Time // when it began or, on a disk, was last sent a part of
}

// Uploads lists the unfinished uploads to a repository, sorted.
func (s *Storage) Uploads(ctx context.Context, repo string) ([]Upload, error) {
	ids, err := s.list(ctx, uploadsDir(repo))
	if err != nil {
		return nil, err
	}
	var out []Upload
	for _, id := range ids {
		u := Upload{ID: id}
		for _, part := range []string{"", "startedat", "data"} {
			if part == "data" && s.InBucket() {
				continue // no object before it is whole
			}
			f, ok, err := s.stat(ctx, path.Join(uploadsDir(repo), id, part))
			if err != nil {
				return nil, err
			}
			if ok && part == "data" {
				u.Size = f.Size
			}
			if f.Made.After(u.Touched) {
				u.Touched = f.Made
			}
		}
		out = append(out, u)
	}
	return out, nil
}

// UploadBytes measures all unfinished uploads; in a bucket it cannot.
func (s *Storage) UploadBytes(ctx context.Context) (total int64, err error) {
	if s.InBucket() {
		return 0, nil
	}
	_, err = s.walk(ctx, "", "", func(repo string, _ bool) (bool, error) {
		list, err := s.Uploads(ctx, repo)
		for _, u := range list {
			total += u.Size
		}
		return true, errors.Join(err, ctx.Err())
	})
	return total, err
}

// RemoveUpload forgets an unfinished upload, and the parts that a bucket has of
// it.
func (s *Storage) RemoveUpload(ctx context.Context, repo, id string) error {
	if s.InBucket() {
		w, err := s.driver.Writer(ctx, path.Join(uploadsDir(repo), id, "data"), true)
		if err == nil {
			err = w.Cancel(ctx)
		}
		if err != nil && !absent(err) {
			return s.fail(err)
		}
	}
	return s.remove(ctx, path.Join(uploadsDir(repo), id))
}

// RemoveTag removes a tag, and notes that what it names was deleted, which stays.
func (s *Storage) RemoveTag(ctx context.Context, repo, tag string) error {
	return s.removeTag(ctx, repo, tag, s.NoteDeletion)
}

// DropTag removes a tag as collection does: where what it names is needed
// elsewhere, nothing is noted. See [Storage.RemoveManifest] for because.
func (s *Storage) DropTag(ctx context.Context, repo, tag string, needed bool, because time.Time) error {
	if needed {
		return s.remove(ctx, path.Join(tagsDir(repo), tag))
	}
	return s.removeTag(ctx, repo, tag, func(ctx context.Context, repo string, d digest.Digest, remove func() error) error {
		return s.noteGone(ctx, repo, d, because, remove)
	})
}

func (s *Storage) removeTag(ctx context.Context, repo, tag string, noting func(context.Context, string, digest.Digest, func() error) error) error {
	remove := func() error { return s.remove(ctx, path.Join(tagsDir(repo), tag)) }
	switch d, err := s.Tag(ctx, repo, tag); {
	case err != nil && !errors.Is(err, ErrDamaged):
		return err
	case d != "":
		return noting(ctx, repo, d, remove)
	}
	return remove()
}

// RemoveFromTagHistory forgets that a tag once was a manifest.
func (s *Storage) RemoveFromTagHistory(ctx context.Context, repo, tag string, d digest.Digest) error {
	return s.remove(ctx, under(historyDir(repo, tag), d))
}

// RemoveManifest removes a manifest from a repository as collection does, and
// notes it; its content stays. It goes because of what was deleted at a time, and
// what was said to be there since then stays; the zero time stands for no
// deletion.
func (s *Storage) RemoveManifest(ctx context.Context, repo string, d digest.Digest, because time.Time) error {
	return s.noteGone(ctx, repo, d, because, func() error { return s.remove(ctx, under(revisionsDir(repo), d)) })
}

// RemoveLayer removes a blob from a repository; its content stays.
func (s *Storage) RemoveLayer(ctx context.Context, repo string, d digest.Digest) error {
	return s.remove(ctx, under(layersDir(repo), d))
}

// RemoveBlob removes content.
func (s *Storage) RemoveBlob(ctx context.Context, d digest.Digest) error {
	return s.remove(ctx, blobDir(d))
}

// Tidy takes a repository without manifests and tags out of the catalogue, and
// removes what then is left of its directories. Blobs and an upload under way
// stay.
func (s *Storage) Tidy(ctx context.Context, repo string) error {
	gone := []string{manifestsDir(repo), referrersDir(repo), deletedDir(repo)}
	layers, err := s.Layers(ctx, repo)
	if err != nil {
		return err
	}
	if len(layers) == 0 {
		gone = append(gone, layersDir(repo))
	}
	for _, dir := range gone {
		if err := s.remove(ctx, dir); err != nil {
			return err
		}
	}
	return s.removeVacant(ctx, uploadsDir(repo))
}

// removeVacant removes a directory, and those above it, as far as they hold
// nothing.
func (s *Storage) removeVacant(ctx context.Context, dir string) error {
	for ; dir != repositoriesDir; dir = path.Dir(dir) {
		vacant, err := s.vacant(ctx, dir)
		if err != nil || !vacant {
			return err
		}
		if err := s.remove(ctx, dir); err != nil {
			return err
		}
	}
	return nil
}

// Holds reports whether there is more of a repository than uploads.
func (s *Storage) Holds(ctx context.Context, repo string) (bool, error) {
	names, err := s.list(ctx, inRepository(repo))
	return slices.ContainsFunc(names, func(n string) bool { return special(n) && n != path.Base(uploadsDir(repo)) }), err
}

// Move gives a repository another name, not those below it. Cut short and
// called again, it moves what is left.
func (s *Storage) Move(ctx context.Context, from, to string) error {
	names, err := s.list(ctx, inRepository(from))
	if err != nil {
		return err
	}
	if s.driver.Name() == "filesystem" && slices.Contains(names, path.Base(uploadsDir(from))) {
		// of an upload that an earlier move of that name overtook
		if err := s.remove(ctx, uploadsDir(to)); err != nil {
			return err
		}
	}
	for _, n := range names {
		if special(n) {
			if err := s.move(ctx, inRepository(from, n), inRepository(to, n)); err != nil {
				return err
			}
		}
	}
	s.words.moved(from, to)
	return s.removeVacant(ctx, inRepository(from))
}

// move gives a directory another path: a filesystem whole, which keeps when
// its files were made, an object store file by file.
func (s *Storage) move(ctx context.Context, from, to string) error {
	if s.driver.Name() == "filesystem" {
		if err := s.driver.Move(ctx, from, to); err != nil && !absent(err) {
			return err
		}
		return nil
	}
	var files []string
	err := s.driver.Walk(ctx, from, func(fi storagedriver.FileInfo) error {
		if !fi.IsDir() {
			files = append(files, fi.Path())
		}
		return nil
	})
	if err != nil && !absent(err) {
		return err
	}
	for _, f := range files {
		if err := s.driver.Move(ctx, f, to+strings.TrimPrefix(f, from)); err != nil && !absent(err) {
			return err
		}
	}
	return nil
}

// absent reports whether an error says that there is no such file, or none
// any more: a directory may be removed while it is listed.
func absent(err error) bool {
	missing := storagedriver.PathNotFoundError{}
	other := storagedriver.Error{}
	return errors.As(err, &missing) || errors.Is(err, fs.ErrNotExist) ||
		errors.As(err, &other) && errors.Is(other.Detail, fs.ErrNotExist)
}

// list returns the names in a directory, sorted; none where it is absent or a
// file. It passes over names that no registry makes.
func (s *Storage) list(ctx context.Context, dir string) ([]string, error) {
	paths, err := s.driver.List(ctx, dir)
	if other := (storagedriver.Error{}); absent(err) || errors.As(err, &other) && errors.Is(other.Detail, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, s.fail(err)
	}
	var names []string
	for _, p := range paths {
		if name := path.Base(p); plain(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// plain reports whether a name is one that drivers take, as [storagedriver.PathRegexp]
// has it, which for each of thousands of names would take most of a listing's time.
func plain(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return name != ""
}

// digests returns the digests that are directories below dir, sorted.
func (s *Storage) digests(ctx context.Context, dir string) ([]digest.Digest, error) {
	algorithms, err := s.list(ctx, dir)
	if err != nil {
		return nil, err
	}
	var out []digest.Digest
	for _, a := range algorithms {
		names, err := s.list(ctx, path.Join(dir, a))
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

// stat reports false for what is absent.
func (s *Storage) stat(ctx context.Context, name string) (Blob, bool, error) {
	fi, err := s.driver.Stat(ctx, name)
	if absent(err) {
		return Blob{}, false, nil
	}
	if err != nil {
		return Blob{}, false, s.fail(err)
	}
	return Blob{fi.Size(), fi.ModTime()}, true, nil
}

// get reads a file; false if it is absent.
func (s *Storage) get(ctx context.Context, name string) (b []byte, ok bool, err error) {
	b, err = s.driver.GetContent(ctx, name)
	if absent(err) {
		return nil, false, nil
	}
	return b, err == nil, s.fail(err)
}

func (s *Storage) put(ctx context.Context, name string, b []byte) error {
	return s.fail(s.driver.PutContent(ctx, name, b))
}

// links returns the links below a directory, sorted.
func (s *Storage) links(ctx context.Context, dir string) ([]Link, error) {
	names, err := s.digests(ctx, dir)
	if err != nil {
		return nil, err
	}
	var out []Link
	for _, d := range names {
		f, ok, err := s.stat(ctx, linkIn(dir, d))
		if err != nil {
			return nil, err
		}
		if !ok { // Distribution leaves the directory of a link it removes
			continue
		}
		l := Link{d, d, f.Made}
		if d.Algorithm() != digest.Canonical { // the content is stored by its canonical digest
			switch target, err := s.follow(ctx, linkIn(dir, d)); {
			case err != nil && !errors.Is(err, ErrDamaged):
				return nil, err
			case target != "":
				l.Target = target
			}
		}
		out = append(out, l)
	}
	return out, nil
}

// follow reads a link; "" if there is none. ErrDamaged: it leads nowhere.
func (s *Storage) follow(ctx context.Context, name string) (digest.Digest, error) {
	b, ok, err := s.get(ctx, name)
	if err != nil || !ok {
		return "", err
	}
	d, err := digest.Parse(string(b))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return d, nil
}

// vacant reports whether a directory is absent or holds nothing at all.
func (s *Storage) vacant(ctx context.Context, dir string) (bool, error) {
	paths, err := s.driver.List(ctx, dir)
	if absent(err) {
		return true, nil
	}
	return len(paths) == 0, s.fail(err)
}

// remove deletes what is there.
func (s *Storage) remove(ctx context.Context, name string) error {
	if err := s.driver.Delete(ctx, name); err != nil && !absent(err) {
		return s.fail(err)
	}
	return nil
}
