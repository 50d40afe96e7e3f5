package distribution

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/ocisync/ocisync/pkg/regular"
)

// ownDir is ocisync's own directory in a data directory.
const ownDir = "ocisync"

// within opens the directory that no link leads out of, a file's own or, of what
// is ocisync's own, the data directory; and says where the file is there. Whoever
// the data directory belongs to, such as a registry that was broken into, may have
// put anything in it.
func within(name string) (root *os.Root, at string, err error) {
	dir, at := filepath.Split(filepath.Clean(name))
	if dir = filepath.Clean(dir); filepath.Base(dir) == ownDir {
		dir, at = filepath.Dir(dir), filepath.Join(ownDir, at)
	}
	root, err = os.OpenRoot(dir)
	return root, at, err
}

// readConfig reads a file that may be absent, and no other by its name.
func readConfig(name string) ([]byte, error) {
	root, at, err := within(name)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return regular.ReadOwn(root, at, maxConfig+1)
}

// replaceConfig puts a file in the place of another at once, and makes it
// durable. It keeps mode and owner; a new one is its owner's alone. A rename
// will do: Distribution reads it when it starts, and never again.
func replaceConfig(name string, b []byte) (err error) {
	root, at, err := within(name)
	if err != nil {
		return err
	}
	defer root.Close()
	before, err := root.Lstat(at)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		before = nil
	case err != nil:
		return err
	case !before.Mode().IsRegular():
		return fmt.Errorf("%s: %w", name, regular.ErrLink)
	}
	next := filepath.Join(filepath.Dir(at), "."+filepath.Base(at)+".new")
	if err := root.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if before != nil {
		err = resemble(f, before)
	}
	if err == nil {
		_, err = f.Write(b)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = root.Rename(next, at)
	}
	if err != nil {
		return errors.Join(err, root.Remove(next))
	}
	d, err := root.Open(filepath.Dir(at))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// resemble gives a new file the mode and the owner of another.
func resemble(f *os.File, other fs.FileInfo) error {
	if err := f.Chmod(other.Mode().Perm()); err != nil {
		return err
	}
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	now, ok := mine.Sys().(*syscall.Stat_t)
	was, known := other.Sys().(*syscall.Stat_t)
	if !ok || !known || now.Uid == was.Uid && now.Gid == was.Gid {
		return nil
	}
	return f.Chown(int(was.Uid), int(was.Gid))
}
