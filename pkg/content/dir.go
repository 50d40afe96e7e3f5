package content

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Files is where the files of a layout lie, by names with slashes. It is safe for use
// by several goroutines.
type Files interface {
	// String is how people name it.
	String() string
	// Stat tells the length of a file; [fs.ErrNotExist] is of one that is not there.
	Stat(ctx context.Context, name string) (int64, error)
	// Open reads a file from a place on.
	Open(ctx context.Context, name string, from int64) (io.ReadCloser, error)
	// Put stores a file of a length whole, in place of one of that name, or fails and
	// leaves that as it was: at no moment is there a part of it under its name.
	Put(ctx context.Context, name string, size int64, body io.Reader) error
}

// Dir is a directory as [Files]. Nothing outside it is reached, and no link in it is
// followed.
type Dir struct {
	path  string
	brief bool // it need not outlive the machine's next stop
	mu    sync.Mutex
	root  *os.Root // nil: not made yet; by at alone
}

func (d *Dir) at() *os.Root {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.root
}

// OpenDir opens a directory. One that is not there is made with the first file in it.
// Close ends its use.
func OpenDir(name string) (*Dir, error) {
	root, err := os.OpenRoot(name)
	if errors.Is(err, fs.ErrNotExist) {
		return &Dir{path: name}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening the directory %s: %w", name, cause(err))
	}
	return &Dir{path: name, root: root}, nil
}

// cause is an error without the name of the file, which is told already.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// Close ends the use of it.
func (d *Dir) Close() error {
	if d.at() == nil {
		return nil
	}
	return d.at().Close()
}

// String is its path.
func (d *Dir) String() string { return d.path }

// Empty reports whether there is nothing in it.
func (d *Dir) Empty() (bool, error) {
	if d.at() == nil {
		return true, nil
	}
	f, err := d.at().Open(".")
	if err != nil {
		return false, fmt.Errorf("reading the directory %s: %w", d.path, cause(err))
	}
	defer f.Close()
	if _, err = f.Readdirnames(1); errors.Is(err, io.EOF) {
		return true, nil
	}
	return false, err
}

var errLink = errors.New("it is a link, and no link in a layout is followed")

// plain refuses a name that leads through a link.
func (d *Dir) plain(name string) error {
	if d.at() == nil {
		return fs.ErrNotExist
	}
	for i, r := range name + "/" {
		if r != '/' {
			continue
		}
		info, err := d.at().Lstat(name[:i])
		if err != nil {
			return cause(err)
		}
		if info.Mode().Type() == fs.ModeSymlink {
			return errLink
		}
	}
	return nil
}

// Stat implements [Files].
func (d *Dir) Stat(_ context.Context, name string) (int64, error) {
	if err := d.plain(name); err != nil {
		return 0, err
	}
	info, err := d.at().Lstat(name)
	if err != nil {
		return 0, cause(err)
	}
	if !info.Mode().IsRegular() {
		return 0, errors.New("it is no file")
	}
	return info.Size(), nil
}

// Open implements [Files].
func (d *Dir) Open(ctx context.Context, name string, from int64) (io.ReadCloser, error) {
	if _, err := d.Stat(ctx, name); err != nil {
		return nil, err
	}
	f, err := d.at().OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, cause(err)
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return nil, errors.Join(cause(err), f.Close())
	}
	return f, nil
}

// unfinished begins the names of files that are being written.
const unfinished = ".ocisync-"

// Put implements [Files].
func (d *Dir) Put(_ context.Context, name string, size int64, body io.Reader) (err error) {
	if err := d.made(); err != nil {
		return err
	}
	in := path.Dir(name)
	if err := d.at().MkdirAll(in, 0o755); err != nil {
		return cause(err)
	}
	if err := d.plain(in); err != nil {
		return err
	}
	temp := unfinished + strings.ReplaceAll(name, "/", "-")
	f, err := d.exclusive(temp)
	if err != nil {
		return cause(err)
	}
	temp = f.Name()
	temp = temp[strings.LastIndexByte(temp, '/')+1:]
	defer func() {
		if err != nil {
			err = errors.Join(err, d.at().Remove(temp))
		}
	}()
	if err := write(f, size, body, !d.brief); err != nil {
		return err
	}
	if err := d.at().Rename(temp, name); err != nil {
		return cause(err)
	}
	if d.brief {
		return nil
	}
	return d.sync(in)
}

// List implements [Sweeper].
func (d *Dir) List(ctx context.Context, dir string) (names []string, err error) {
	if d.at() == nil {
		return nil, nil
	}
	err = fs.WalkDir(d.at().FS(), dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			names = append(names, name)
		}
		return cmp.Or(err, ctx.Err())
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return names, cause(err)
}

// Remove implements [Sweeper].
func (d *Dir) Remove(_ context.Context, name string) error {
	if err := d.plain(name); err != nil {
		return err
	}
	return cause(d.at().Remove(name))
}

// write fills a file and closes it.
func write(f *os.File, size int64, body io.Reader, sync bool) error {
	n, err := io.Copy(f, body)
	if err == nil && n != size {
		err = fmt.Errorf("%w: %d bytes came, and it should have %d", ErrDigest, n, size)
	}
	if err == nil && sync {
		err = f.Sync()
	}
	return cmp.Or(cause(err), cause(f.Close()))
}

// exclusive makes a file that nobody else writes.
func (d *Dir) exclusive(name string) (f *os.File, err error) {
	for n := range 10_000 {
		f, err = d.at().OpenFile(fmt.Sprintf("%s.%d", name, n), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
	return nil, err
}

// sync has the names in a directory on the disk.
func (d *Dir) sync(name string) error {
	f, err := d.at().Open(name)
	if err != nil {
		return cause(err)
	}
	return errors.Join(f.Sync(), f.Close())
}

// made makes the directory itself, once.
func (d *Dir) made() (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.root != nil {
		return nil
	}
	if err := os.MkdirAll(d.path, 0o755); err != nil { //nolint:gosec // as mkdir makes one; who may read it the umask says
		return cause(err)
	}
	d.root, err = os.OpenRoot(d.path)
	return err
}

// old is after how long nobody writes a file any more that is not finished.
const old = 24 * time.Hour

// Tidy removes what runs that were killed left half-written a day ago or more.
func (d *Dir) Tidy(now time.Time) error {
	if d.at() == nil {
		return nil
	}
	f, err := d.at().Open(".")
	if err != nil {
		return cause(err)
	}
	defer f.Close()
	list, err := f.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range list {
		info, err := e.Info()
		if err != nil || !strings.HasPrefix(e.Name(), unfinished) || !info.Mode().IsRegular() || now.Sub(info.ModTime()) < old {
			continue
		}
		if err := d.at().Remove(e.Name()); err != nil {
			return cause(err)
		}
	}
	return nil
}
