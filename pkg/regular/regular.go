// Package regular reads the files that a user, a mode or the host file names.
// A pipe, a device or a socket under such a name would block, or never end:
// here it is an error, and so is a file that is larger than it may be.
//
// What root writes for another user is given to him: [Give].
//
// Start with [Read]. Links are followed; who must not follow them out of a
// directory opens it as an [os.Root] and uses [ReadIn], and who must follow none,
// since the directory is of another user, [ReadOwn].
package regular

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// The errors beside those of package os; test with errors.Is.
var (
	ErrOther = errors.New("it is not a regular file")
	ErrLarge = errors.New("it is larger")
	// ErrLink is of a name in another user's directory that may lead to what he
	// could not read or write himself.
	ErrLink = errors.New("it is a link, or has another name too; put the file itself there")
)

// Read reads a file of at most limit bytes.
func Read(path string, limit int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return all(f, path, limit)
}

// ReadIn reads a file below a directory that no link leaves.
func ReadIn(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := OpenIn(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return all(f, name, limit)
}

// ReadOwn reads a file of a directory whose owner may have put anything there: no
// link is followed, and what has another name elsewhere is not read. One that is
// replaced meanwhile is looked at again. Errors: [ErrLink].
func ReadOwn(root *os.Root, name string, limit int64) ([]byte, error) {
	const tries = 100 // who replaces it does not go on for ever, unless to be in the way
	for range tries {
		b, replaced, err := readOwn(root, name, limit)
		if !replaced {
			return b, err
		}
	}
	return nil, named(name, ErrLink)
}

func readOwn(root *os.Root, name string, limit int64) (b []byte, replaced bool, err error) {
	seen, err := root.Lstat(name)
	if err != nil {
		return nil, false, err
	}
	if st, ok := seen.Sys().(*syscall.Stat_t); seen.Mode()&fs.ModeSymlink != 0 || ok && seen.Mode().IsRegular() && st.Nlink > 1 {
		return nil, false, named(name, ErrLink)
	}
	f, err := OpenIn(root, name)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, false, named(name, err)
	}
	if !os.SameFile(seen, info) {
		return nil, true, nil
	}
	b, err = all(f, name, limit)
	return b, false, err
}

// Open opens a file to read it. Whoever reads it bounds that.
func Open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, flags, 0)
	if err = check(f, path, err); err != nil {
		return nil, err
	}
	return f, nil
}

// OpenIn opens a file below a directory that no link leaves.
func OpenIn(root *os.Root, name string) (*os.File, error) {
	f, err := root.OpenFile(name, flags, 0)
	if err = check(f, name, err); err != nil {
		return nil, err
	}
	return f, nil
}

const flags = os.O_RDONLY | syscall.O_NONBLOCK // a pipe does not block

// check closes what is no regular file. A socket cannot even be opened.
func check(f *os.File, path string, err error) error {
	if errors.Is(err, syscall.ENXIO) {
		err = ErrOther
	}
	if err != nil {
		return named(path, err)
	}
	info, err := f.Stat()
	switch {
	case err == nil && info.IsDir():
		err = syscall.EISDIR
	case err == nil && !info.Mode().IsRegular():
		err = ErrOther
	}
	if err != nil {
		return named(path, errors.Join(err, f.Close()))
	}
	return nil
}

func all(f *os.File, path string, limit int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Grow(int(min(info.Size(), limit)) + bytes.MinRead) // it grows while it has less room than that
	if _, err := b.ReadFrom(io.LimitReader(f, limit+1)); err != nil {
		return nil, err
	}
	if int64(b.Len()) > limit {
		return nil, named(path, fmt.Errorf("%w than %s", ErrLarge, size(limit)))
	}
	return b.Bytes(), nil
}

// named says the path once.
func named(path string, err error) error {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return err
	}
	return &fs.PathError{Op: "read", Path: path, Err: err}
}

func size(n int64) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
