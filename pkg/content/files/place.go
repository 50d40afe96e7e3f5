package files

import (
	"archive/tar"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// maxEntries bounds the files, directories and links of one place.
const maxEntries = 1_000_000

// ErrUnsafe is what does not stay where it is put, or is no file at all.
var ErrUnsafe = errors.New("it is refused")

// Place is a directory that files are put into. They are collected beside each other in
// it first, and take their names when all of them are there. Nothing gets outside it.
type Place struct {
	root   *os.Root
	name   string // of where they are collected
	staged *os.Root
	left   int64
	most   int64
	count  int
}

// Into opens a directory, and makes it where it is not there. All that is put into it
// has at most so many bytes. Close removes what did not take its name.
func Into(dir string, most int64) (*Place, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // as mkdir makes one; who may read it the umask says
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	p := &Place{root: root, name: ".ocisync-" + rand.Text(), left: most, most: most}
	err = root.Mkdir(p.name, 0o700)
	if err == nil {
		p.staged, err = root.OpenRoot(p.name)
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return p, nil
}

// Close ends its use.
func (p *Place) Close() error {
	return errors.Join(p.staged.Close(), p.root.RemoveAll(p.name), p.root.Close())
}

// File collects a file under a name with slashes.
func (p *Place) File(name string, r io.Reader) error {
	if err := local(name); err != nil {
		return err
	}
	return p.file(p.staged, name, 0o644, r, -1)
}

// local refuses a name that leads elsewhere.
func local(name string) error {
	if !filepath.IsLocal(name) || path.Clean(name) != name || name == "." || strings.ContainsAny(name, "\\\x00") {
		return fmt.Errorf("%w: the name %q leads out of the directory, or is none", ErrUnsafe, name)
	}
	return nil
}

// entry counts one more.
func (p *Place) entry() error {
	if p.count++; p.count > maxEntries {
		return fmt.Errorf("%w: it has more than %d files", ErrUnsafe, maxEntries)
	}
	return nil
}

// tooMuch is of what is larger than was allowed.
func (p *Place) tooMuch() error {
	return fmt.Errorf("%w: it has more than %d bytes", ErrUnsafe, p.most)
}

// file writes one; size is its length, -1 where only its end tells.
func (p *Place) file(in *os.Root, name string, mode fs.FileMode, r io.Reader, size int64) error {
	if err := p.entry(); err != nil {
		return err
	}
	if size > p.left {
		return p.tooMuch()
	}
	if err := directories(in, path.Dir(name)); err != nil {
		return err
	}
	f, err := in.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %q is in it twice", ErrUnsafe, name)
	}
	if err != nil {
		return cause(err)
	}
	n, err := io.Copy(f, io.LimitReader(r, p.left+1))
	if err == nil && n > p.left {
		err = p.tooMuch()
	}
	p.left -= n
	return errors.Join(cause(err), cause(f.Close()))
}

// directories makes those of a name, and refuses to go through what is none.
func directories(in *os.Root, name string) error {
	if name == "." {
		return nil
	}
	for i, r := range name + "/" {
		if r != '/' {
			continue
		}
		info, err := in.Lstat(name[:i])
		if errors.Is(err, fs.ErrNotExist) {
			err = in.Mkdir(name[:i], 0o755)
		} else if err == nil && !info.IsDir() {
			return fmt.Errorf("%w: %q is no directory, and something lies in it", ErrUnsafe, name[:i])
		}
		if err != nil {
			return cause(err)
		}
	}
	return nil
}

// Unpack collects a tar, packed or not, whose names all begin with the name it has. The
// tar may have files, directories and links that stay in it; of their modes it is kept
// whether a file may be run.
func (p *Place) Unpack(name string, packed io.Reader) error {
	if err := local(name); err != nil {
		return err
	}
	if err := directories(p.staged, name); err != nil {
		return err
	}
	in, err := p.staged.OpenRoot(name)
	if err != nil {
		return cause(err)
	}
	defer in.Close()
	z, _, err := Decompress(packed)
	if err != nil {
		return err
	}
	defer z.Close()
	// What a tar says of itself is bounded by its reader, what lies between its files here.
	t := tar.NewReader(io.LimitReader(z, p.left+int64(maxEntries)*blocks))
	var links []string
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return stay(in, links)
		}
		if err != nil {
			return fmt.Errorf("its tar: %w", err)
		}
		link, err := p.one(in, name, h, t)
		if err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
		if link != "" {
			links = append(links, link)
		}
	}
}

// blocks is how much of a tar each file takes besides itself, in bytes.
const blocks = 2048

// one collects an entry of a tar, and tells the name of a link.
func (p *Place) one(in *os.Root, prefix string, h *tar.Header, r io.Reader) (link string, err error) {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return "", nil
	}
	at, err := inside(prefix, h.Name)
	if err != nil {
		return "", err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return "", p.file(in, at, fs.FileMode(modeOf(fs.FileMode(h.Mode&0o777))), r, h.Size)
	case tar.TypeDir:
		if err := p.entry(); err != nil {
			return "", err
		}
		return "", directories(in, at)
	case tar.TypeSymlink, tar.TypeLink:
		if err := p.entry(); err != nil {
			return "", err
		}
		if err := directories(in, path.Dir(at)); err != nil {
			return "", err
		}
		if h.Typeflag == tar.TypeSymlink {
			return at, cause(in.Symlink(h.Linkname, at))
		}
		to, err := inside(prefix, h.Linkname)
		if err == nil {
			err = hard(in, to, at)
		}
		return "", err
	}
	return "", fmt.Errorf("%w: it is neither a file nor a directory nor a link", ErrUnsafe)
}

// hard gives a file a second name.
func hard(in *os.Root, to, at string) error {
	info, err := in.Lstat(to)
	if err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("%w: it is a second name of %q, which is no file before it", ErrUnsafe, to)
	}
	return cause(in.Link(to, at))
}

// inside is a name in a tar without that of the directory, which all begin with.
func inside(prefix, name string) (string, error) {
	trimmed := strings.TrimSuffix(name, "/")
	if slices.Contains(strings.Split(trimmed, "/"), "..") || path.IsAbs(name) {
		return "", fmt.Errorf("%w: its name leads out of the directory", ErrUnsafe)
	}
	at := path.Clean(trimmed)
	if at == prefix {
		return ".", nil
	}
	rest, ok := strings.CutPrefix(at, prefix+"/")
	if !ok {
		return "", fmt.Errorf("%w: its name does not begin with %q", ErrUnsafe, prefix+"/")
	}
	return rest, local(rest)
}

// stay refuses links that do not end in the directory.
func stay(in *os.Root, links []string) error {
	for _, l := range links {
		if _, err := in.Stat(l); err != nil {
			return fmt.Errorf("%q: %w: it is a link that leads nowhere in the directory", l, ErrUnsafe)
		}
	}
	return nil
}

// Commit gives all that was collected its name. What is there already is kept, unless it
// is to be overwritten, and then nothing is put; a directory stays with what it has.
func (p *Place) Commit(overwrite bool) error {
	var moves []string
	var problems []error
	err := fs.WalkDir(p.staged.FS(), ".", func(at string, d fs.DirEntry, err error) error {
		if err != nil || at == "." {
			return err
		}
		there, err := p.root.Lstat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			moves = append(moves, at)
			if d.IsDir() {
				return fs.SkipDir
			}
		case err != nil:
			problems = append(problems, fmt.Errorf("%s: %w", at, cause(err)))
		case d.IsDir() && there.IsDir():
		case d.IsDir() || there.IsDir():
			problems = append(problems, fmt.Errorf("%s is there already and is something else; remove it", at))
			if d.IsDir() {
				return fs.SkipDir
			}
		case !overwrite:
			problems = append(problems, fmt.Errorf("%s is there already; remove it, or say --overwrite", at))
		default:
			moves = append(moves, at)
		}
		return nil
	})
	if err = errors.Join(append(problems, err)...); err != nil {
		return err
	}
	for _, at := range moves {
		if err := p.root.Rename(p.name+"/"+at, at); err != nil {
			return fmt.Errorf("%s: %w", at, cause(err))
		}
	}
	return nil
}
