package regular

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Give makes a file that root has just made in another user's directory that
// user's, who could not use it otherwise. Whoever else runs this owns what he
// makes. The file must be new: what its directory's owner linked there is not
// his to be given.
func Give(f *os.File, in *os.Root) error {
	if os.Geteuid() != 0 {
		return nil
	}
	dir, err := in.Stat(".")
	if err != nil {
		return err
	}
	st, ok := dir.Sys().(*syscall.Stat_t)
	if !ok || st.Uid == 0 {
		return nil
	}
	return f.Chown(int(st.Uid), int(st.Gid))
}

// GiveAll gives to the owner of a directory what root has made of a file there,
// the directories on the way to it among them. What lies behind a link is not given,
// nor what has another name too.
func GiveAll(in *os.Root, name string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	dir, err := in.Stat(".")
	if err != nil {
		return err
	}
	if st, ok := dir.Sys().(*syscall.Stat_t); !ok || st.Uid == 0 {
		return nil
	}
	parts := strings.Split(strings.Trim(filepath.ToSlash(name), "/"), "/")
	for i := range parts {
		at := filepath.Join(parts[:i+1]...)
		if info, err := in.Lstat(at); err == nil && info.Mode().Type() == fs.ModeSymlink {
			return nil
		}
		f, err := in.OpenFile(at, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went meanwhile
		}
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid == 0 && (info.IsDir() || info.Mode().IsRegular() && st.Nlink == 1) {
				err = Give(f, in)
			}
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Touch makes an empty file of mode 0600, for the directory's owner, where
// there is none.
func Touch(in *os.Root, name string) error {
	f, err := in.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(Give(f, in), f.Close())
}

// Mkdir makes a directory of mode 0700, for the owner of the one it is in,
// where there is none.
func Mkdir(in *os.Root, name string) error {
	err := in.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	f, err := in.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	return errors.Join(Give(f, in), f.Close())
}
