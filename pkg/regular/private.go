package regular

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// ErrUnsafe is of a directory of ocisync's own that another user could have
// written.
var ErrUnsafe = errors.New("others could change it")

// OpenPrivate opens ocisync's own directory below a data directory, once it has
// seen that it is [Private]. Errors: [ErrUnsafe], and fs.ErrNotExist if there is
// none.
func OpenPrivate(data, own string) (*os.Root, error) {
	if err := Private(data, own); err != nil {
		return nil, err
	}
	dir := filepath.Join(data, own)
	seen, err := os.Lstat(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	if err == nil && !os.SameFile(seen, info) {
		err = fmt.Errorf("%s: %w: it was replaced meanwhile", dir, ErrUnsafe)
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return root, nil
}

// Private refuses a data directory in which somebody else could have put rules
// and secrets into ocisync's own, which is below it: what others may write, what
// belongs to others, and such as a link leads to. One that is not there is
// nobody's. What this user may not even look at is an error of package os.
func Private(data, own string) error {
	root, err := os.Stat(data)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !root.IsDir() { // who uses it says so of a file
		return err
	}
	unsafe := func(format string, args ...any) error {
		return fmt.Errorf("data directory %s: %w: %s", data, ErrUnsafe, fmt.Sprintf(format, args...))
	}
	dir := filepath.Join(data, own)
	if mode := root.Mode().Perm(); mode&0o022 != 0 {
		return unsafe("%s has mode %04o; look at what %s says, then run chmod go-w %[1]s, or name a directory below it in registry.run.data", data, mode, dir)
	}
	runs, owns := os.Geteuid(), Owner(root)
	check := func(path string) error {
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist): // a file that is being replaced
			return nil
		case err != nil:
			return err
		case info.Mode()&fs.ModeSymlink != 0:
			return unsafe("%s is a link; put the file itself there", path)
		case info.Mode()&(fs.ModeNamedPipe|fs.ModeDevice|fs.ModeIrregular) != 0:
			return unsafe("%s is not a regular file; remove it", path)
		case !trusted(runs, owns, Owner(info)):
			return unsafe("%s belongs to %s, and %s to %s; look at what it says, then run chown -R %[4]s %s", path, UserName(Owner(info)), data, UserName(owns), dir)
		case info.Mode()&fs.ModeSocket == 0 && info.Mode().Perm()&0o022 != 0:
			return unsafe("%s has mode %04o; look at what it says, then run chmod go-w %[1]s", path, info.Mode().Perm())
		}
		return nil
	}
	mine := trusted(runs, owns, owns)
	if mine {
		if err := check(dir); err != nil {
			return err
		}
	}
	// who may not look at another user's registry has other ways to it
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !mine {
		return unsafe("%s belongs to %s, and this is %s; run ocisync as the user who owns it", data, UserName(owns), UserName(runs))
	}
	for _, e := range entries {
		if err := check(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// trusted reports whether a user's file in a data directory of a user may
// decide for the user who runs ocisync: his own and root's may. Root works for
// the owner of the directory, who runs the registry, and for nobody else.
func trusted(runs, owns, uid int) bool {
	return uid == runs || uid == 0 || runs == 0 && uid == owns
}

// Owner is the user whom a file belongs to; who runs this, where that cannot be
// seen.
func Owner(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return os.Geteuid()
}

// UserName is a user's name as chown takes it, the number where he has none.
func UserName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}
