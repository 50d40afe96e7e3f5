package content

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/ocisync/ocisync/pkg/content/files"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/regular"
)

// Bounds of a tar that is read. Blobs are small already, so that one which is many times
// as large as its file is made to fill disks.
const (
	maxFiles    = 1_000_000
	longestName = 4096    // in bytes
	mostTimes   = 200     // as large as its file,
	mostAtLeast = 1 << 30 // or this, in bytes
)

// suffixes say how an archive is made smaller.
func suffixes() []struct {
	suffix string
	how    files.Compression
} {
	return []struct {
		suffix string
		how    files.Compression
	}{{".tar", files.None}, {".tar.gz", files.Gzip}, {".tgz", files.Gzip}, {".tar.zst", files.Zstd}}
}

// Archive opens a layout in a tar, to read it, or to write one that is not there yet.
// A tar that is read may be gzip or zstd, as it says itself: it is unpacked once into a
// temporary directory. One that is written is so by its suffix: .tar, .tar.gz, .tgz or
// .tar.zst. What it will hold is collected in a directory beside it, and Commit, which
// may be called once, writes the same bytes for the same content. Close ends its use,
// and removes what is temporary.
func Archive(ctx context.Context, name string, write bool) (*Layout, error) {
	var from Files
	var err error
	if write {
		from, err = newPacked(name)
	} else {
		from, err = readArchive(ctx, name)
	}
	if err != nil {
		var own *providers.Error
		if errors.As(err, &own) || ctx.Err() != nil {
			return nil, err
		}
		return nil, &providers.Error{Registry: name, Doing: "opening the archive", Err: cause(err)}
	}
	l, err := OpenLayout(ctx, from, write)
	if err != nil {
		return nil, errors.Join(err, (&Layout{files: from}).Close())
	}
	return l, nil
}

// packed is an archive that is being written.
type packed struct {
	*Dir
	name string
	how  files.Compression
	busy *flock.Flock // held as long as what is collected is of use
}

// busyFile is in the directory in which an archive is collected, and locked by who does.
const busyFile = unfinished + "busy"

func newPacked(name string) (*packed, error) {
	p := &packed{name: name}
	for _, s := range suffixes() {
		if strings.HasSuffix(name, s.suffix) {
			p.how = s.how
		}
	}
	if p.how == "" {
		return nil, errors.New("its name says not what it is; let it end with .tar, .tar.gz, .tgz or .tar.zst")
	}
	switch _, err := os.Lstat(name); {
	case err == nil:
		return nil, errors.New("it is there already, and an archive is written whole; remove it, or name another one")
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if err := sweep(name, time.Now()); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(name), unfinished+filepath.Base(name)+"-*")
	if err != nil {
		return nil, err
	}
	p.busy = regular.Lock(filepath.Join(dir, busyFile))
	if _, err = p.busy.TryLock(); err == nil {
		p.Dir, err = OpenDir(dir)
	}
	if err != nil {
		return nil, errors.Join(err, p.busy.Unlock(), os.RemoveAll(dir))
	}
	p.brief = true
	return p, nil
}

// sweep removes what runs that were killed collected for an archive. One that has no lock
// may be about to take it, so that it must be old.
func sweep(name string, now time.Time) error {
	list, err := os.ReadDir(filepath.Dir(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range list {
		n, ok := strings.CutPrefix(e.Name(), unfinished+filepath.Base(name)+"-")
		if !ok || !e.IsDir() || strings.Trim(n, "0123456789") != "" {
			continue
		}
		dir := filepath.Join(filepath.Dir(name), e.Name())
		if _, err := os.Lstat(filepath.Join(dir, busyFile)); err != nil {
			if info, err := e.Info(); err != nil || now.Sub(info.ModTime()) < old {
				continue
			}
		}
		busy := regular.Lock(filepath.Join(dir, busyFile))
		if mine, err := busy.TryLock(); err != nil || !mine {
			continue // somebody writes it, or it is another user's
		}
		if err := errors.Join(os.RemoveAll(dir), busy.Unlock()); err != nil {
			return err
		}
	}
	return nil
}

// String is the archive's name.
func (p *packed) String() string { return p.name }

// Close removes what was collected.
func (p *packed) Close() error {
	return errors.Join(p.Dir.Close(), os.RemoveAll(p.path), p.busy.Unlock())
}

// Put implements [Files]. The index is the last file, and ends the archive.
func (p *packed) Put(ctx context.Context, name string, size int64, body io.Reader) error {
	err := p.Dir.Put(ctx, name, size, body)
	if err == nil && name == indexFile {
		err = cause(p.end(ctx))
	}
	return err
}

// end writes the archive and gives it its name.
func (p *packed) end(ctx context.Context) error {
	temp := filepath.Join(p.path, unfinished+"archive")
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // content that is public to who may read the directory
	if err != nil {
		return err
	}
	z, err := files.Compress(f, p.how)
	if err == nil {
		err = errors.Join(p.fill(ctx, z), z.Close(), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, p.name); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(p.name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// fill writes the files in an order that is always the same, and removes each blob once
// it is written, so that not all are there twice.
func (p *packed) fill(ctx context.Context, w io.Writer) error {
	var list []string
	err := fs.WalkDir(p.at().FS(), "blobs", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			list = append(list, name)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	slices.Sort(list)
	t := tar.NewWriter(w)
	for _, name := range slices.Concat([]string{layoutFile}, list, []string{indexFile}) {
		if err := p.append(ctx, t, name); err != nil {
			return err
		}
		if strings.HasPrefix(name, "blobs/") {
			if err := p.at().Remove(name); err != nil {
				return err
			}
		}
	}
	return t.Close()
}

func (p *packed) append(ctx context.Context, t *tar.Writer, name string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	size, err := p.Stat(ctx, name)
	if err != nil {
		return err
	}
	f, err := p.Open(ctx, name, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	_, err = io.CopyN(t, f, size)
	return err
}

// readArchive opens one to read.
func readArchive(ctx context.Context, name string) (_ Files, err error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	z, how, err := files.Decompress(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	defer z.Close()
	if how == files.None {
		a := &offsets{f: f, name: name, at: map[string]section{}}
		if err := a.index(ctx); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return a, nil
	}
	u, err := unpack(ctx, name, z, max(mostAtLeast, mostTimes*info.Size()))
	return u, errors.Join(err, f.Close())
}

// offsets is a plain tar, with where each of its files begins.
type offsets struct {
	f    *os.File
	name string
	at   map[string]section
}

type section struct{ from, size int64 }

func (a *offsets) index(ctx context.Context) error {
	if _, err := a.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return walk(ctx, a.f, func(name string, h *tar.Header, _ io.Reader) error {
		from, err := a.f.Seek(0, io.SeekCurrent) // a tar is read by its blocks, and no further
		a.at[name] = section{from, h.Size}
		return err
	})
}

func (a *offsets) String() string { return a.name }

// Close ends its use.
func (a *offsets) Close() error { return a.f.Close() }

// Stat implements [Files].
func (a *offsets) Stat(_ context.Context, name string) (int64, error) {
	s, ok := a.at[name]
	if !ok {
		return 0, fs.ErrNotExist
	}
	return s.size, nil
}

// Open implements [Files].
func (a *offsets) Open(_ context.Context, name string, from int64) (io.ReadCloser, error) {
	s, ok := a.at[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	from = min(from, s.size)
	return io.NopCloser(io.NewSectionReader(a.f, s.from+from, s.size-from)), nil
}

// Put implements [Files].
func (a *offsets) Put(context.Context, string, int64, io.Reader) error {
	return errors.New("an archive that is there is only read")
}

// unpacked is a tar that was packed, in a temporary directory.
type unpacked struct {
	*Dir
	name string
}

// String is the archive's name.
func (u *unpacked) String() string { return u.name }

// Close removes the directory.
func (u *unpacked) Close() error { return errors.Join(u.Dir.Close(), os.RemoveAll(u.path)) }

func unpack(ctx context.Context, name string, r io.Reader, most int64) (_ Files, err error) {
	dir, err := os.MkdirTemp("", "ocisync-*")
	if err != nil {
		return nil, err
	}
	u := &unpacked{name: name}
	if u.Dir, err = OpenDir(dir); err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	u.brief = true
	defer func() {
		if err != nil {
			err = errors.Join(err, u.Close())
		}
	}()
	left := &io.LimitedReader{R: r, N: most}
	err = walk(ctx, left, func(name string, h *tar.Header, r io.Reader) error {
		return u.Put(ctx, name, h.Size, r)
	})
	if err != nil && left.N <= 0 {
		err = fmt.Errorf("%w: unpacked it has more than %d bytes, which is %d times as much as its file or more; unpack it yourself if you trust it", ErrLayout, most, mostTimes)
	}
	return u, err
}

// inLayout are the names of what lies in a layout.
var inLayout = regexp.MustCompile(`^(oci-layout|index\.json|blobs/[a-z0-9]+/[0-9a-f]+)$`)

// walk calls a function for each file of a layout in a tar. One that has what no layout
// has is refused: names that lead out, links, devices, a name twice. Files besides those
// of a layout are passed over.
func walk(ctx context.Context, r io.Reader, f func(name string, h *tar.Header, r io.Reader) error) error {
	t := tar.NewReader(r)
	seen := map[string]bool{}
	var refused error
	for n := 0; ; n++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("%w: its tar: %w", ErrLayout, err)
		case n == maxFiles:
			return fmt.Errorf("%w: it has more than %d files", ErrLayout, maxFiles)
		case len(h.Name) > longestName:
			return fmt.Errorf("%w: a name in it has %d bytes", ErrLayout, len(h.Name))
		}
		name := path.Clean(h.Name)
		if h.Typeflag == tar.TypeDir && filepath.IsLocal(name) || h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		why := ""
		switch {
		case !filepath.IsLocal(name) || slices.Contains(strings.Split(h.Name, "/"), ".."):
			why = "its name leads out of the archive"
		case h.Typeflag != tar.TypeReg:
			why = "it is a link or a device, which no layout has"
		case seen[name]:
			why = "it is there twice"
		}
		seen[name] = true
		if why != "" && refused == nil {
			refused = fmt.Errorf("%w: %q: %s", ErrLayout, h.Name, why)
		}
		if refused != nil || !inLayout.MatchString(name) {
			continue
		}
		err = f(name, h, t)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%w: its tar: %w", ErrLayout, err)
		}
		if err != nil {
			return err
		}
	}
	if !seen[layoutFile] && seen["manifest.json"] {
		return fmt.Errorf("%w: it is what docker save wrote before Docker 25; load it into a newer Docker and save it again, or push it from there", ErrLayout)
	}
	return refused
}
