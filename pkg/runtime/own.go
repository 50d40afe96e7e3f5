package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/ocisync/ocisync/pkg/regular"
)

// ownDir is where our files lie, below the data directory. That may be another
// user's, whom the registry runs as: so no link is followed, and what he could
// have written is refused.
const ownDir = "ocisync"

// own is a file of ours in the data directory, for those who can do no more than
// name it.
func (o Options) own(name string) string { return filepath.Join(o.data(), ownDir, name) }

// makeOwn makes the directory of our files.
func (o Options) makeOwn() error {
	err := os.MkdirAll(o.data(), 0o700)
	if err == nil {
		err = regular.Private(o.data(), ownDir)
	}
	if err == nil {
		if err = os.Mkdir(o.own(""), 0o700); errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	if errors.Is(err, regular.ErrUnsafe) {
		return fmt.Errorf("%s: %w", o.Registry.URL, err)
	}
	if err != nil {
		return fmt.Errorf("%s: making the data directory: %w; run ocisync as a user who may, or name another directory in registry.run.data", o.Registry.URL, err)
	}
	return nil
}

// openOwn opens a file of ours. What is not there is fs.ErrNotExist, or made with
// O_CREATE.
func (o Options) openOwn(name string, flags int) (*os.File, error) {
	if flags&os.O_CREATE != 0 {
		if err := o.makeOwn(); err != nil {
			return nil, err
		}
	}
	root, err := regular.OpenPrivate(o.data(), ownDir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.OpenFile(name, flags|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600) // a pipe does not block
}

func (o Options) readOwn(name string) ([]byte, error) {
	root, err := regular.OpenPrivate(o.data(), ownDir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return regular.ReadIn(root, name, maxMessage)
}

// writeOwn replaces a file of ours, at once or not at all. Where there is no room
// for a new one, the old one is overwritten where it is.
func (o Options) writeOwn(name string, b []byte) error {
	if err := o.makeOwn(); err != nil {
		return err
	}
	root, err := regular.OpenPrivate(o.data(), ownDir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err = replaceOwn(root, name, b); err == nil {
		return nil
	}
	f, e := root.OpenFile(name, os.O_WRONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if e != nil {
		return err
	}
	return errors.Join(overwrite(f, b), f.Close())
}

func replaceOwn(root *os.Root, name string, b []byte) error {
	fresh := name + ".new"
	if err := root.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = root.Rename(fresh, name)
	}
	if err != nil {
		return errors.Join(err, root.Remove(fresh))
	}
	return nil
}

// overwrite has a file hold something else by one write, and never shortens it:
// what it has of the disk suffices the next time too.
func overwrite(f *os.File, b []byte) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if more := int(info.Size()) - len(b); more > 0 {
		b = append(bytes.Clone(b), bytes.Repeat([]byte{'\n'}, more)...)
	}
	_, err = f.WriteAt(b, 0)
	return err
}
