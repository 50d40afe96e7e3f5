package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// The kinds of error of a data directory that is not to be used.
var (
	ErrOccupied = errors.New("it holds other things")
	ErrUnsafe   = errors.New("others could change it")
)

// usable refuses a data directory that somebody else uses, or whose rules
// others may write. One without state.json is new if it is absent or holds
// nothing but a stock Distribution's content, or one of accounts alone.
func usable(data string, accounts bool) error {
	if err := private(data); err != nil || accounts {
		return err
	}
	if err := placed(filepath.Join(data, "docker")); err != nil {
		return fmt.Errorf("data directory %s: %w: %w", data, ErrUnsafe, err)
	}
	if _, err := os.Lstat(filepath.Join(data, ownDir, stateFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, dir := range []struct {
		path string
		may  []string
	}{
		// the last two a file system and Distribution as a cache leave there
		{".", []string{ownDir, "docker", "lost+found", "scheduler-state.json"}},
		{"docker", []string{"registry"}},
		{"docker/registry", []string{"v2"}},
	} {
		entries, err := os.ReadDir(filepath.Join(data, dir.path))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			if !slices.Contains(dir.may, e.Name()) {
				return fmt.Errorf("data directory %s: %w, such as %q, and no registry; name an empty directory in run.data", data, ErrOccupied, filepath.Join(dir.path, e.Name()))
			}
		}
	}
	return nil
}

// placed refuses a directory of content that a link puts elsewhere, or that
// others may write.
func placed(content string) error {
	info, err := os.Lstat(content)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR): // who uses it says so of a file
		return nil
	case err != nil:
		return err
	case info.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("%s is a link; put the directory itself there, or name the one it leads to in run.data", content)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s has mode %04o; run chmod go-w %[1]s", content, info.Mode().Perm())
	}
	return nil
}

// Another names the user who made the rules of a data directory, "" where that
// is root, or who runs this, or where there are none to be seen.
func Another(data string) string {
	info, err := os.Lstat(filepath.Join(data, ownDir, stateFile))
	if err != nil { // who reads it says so
		return ""
	}
	if uid := ownerUID(info); uid != 0 && uid != os.Geteuid() {
		return userName(uid)
	}
	return ""
}

// private refuses a data directory in which somebody else could have put rules
// and secrets: what others may write, what belongs to others, and such as a
// link leads to. What this user may not even look at is an error of package os.
func private(data string) error {
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
	dir := filepath.Join(data, ownDir)
	if mode := root.Mode().Perm(); mode&0o022 != 0 {
		return unsafe("%s has mode %04o; look at what %s says, then run chmod go-w %[1]s, or name a directory below it in run.data", data, mode, dir)
	}
	runs, owns := os.Geteuid(), ownerUID(root)
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
		case !trusted(runs, owns, ownerUID(info)):
			return unsafe("%s belongs to %s, and %s to %s; look at what it says, then run chown -R %[4]s %s", path, userName(ownerUID(info)), data, userName(owns), dir)
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
		return unsafe("%s belongs to %s, and this is %s; run ocisync as the user who owns it", data, userName(owns), userName(runs))
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

func ownerUID(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return os.Geteuid()
}

// userName is a user's name as chown takes it, the number where he has none.
func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}
