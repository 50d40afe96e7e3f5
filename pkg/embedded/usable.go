package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/ocisync/ocisync/pkg/regular"
)

// The kinds of error of a data directory that is not to be used.
var (
	ErrOccupied = errors.New("it holds other things")
	ErrUnsafe   = regular.ErrUnsafe
)

// usable refuses a data directory that somebody else uses, or whose rules
// others may write. One without state.json is new if it is absent or holds
// nothing but a stock Distribution's content, or one of accounts alone.
func usable(data string, accounts bool) error {
	if err := regular.Private(data, ownDir); err != nil || accounts {
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
	if uid := regular.Owner(info); uid != 0 && uid != os.Geteuid() {
		return regular.UserName(uid)
	}
	return ""
}
