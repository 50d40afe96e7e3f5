package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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

// private refuses rules and secrets that are not the owner's alone to write,
// and such as a link leads to.
func private(data string) error {
	for _, name := range []string{"", stateFile, secretsFile, uploadKeyFile, lockFile} {
		path := filepath.Join(data, ownDir, name)
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case info.Mode()&fs.ModeSymlink != 0:
			return fmt.Errorf("data directory %s: %w: %s is a link; put the file itself there", data, ErrUnsafe, path)
		case info.Mode().Perm()&0o022 != 0:
			return fmt.Errorf("data directory %s: %w: %s has mode %04o; look at what it says, then run chmod go-w %s", data, ErrUnsafe, path, info.Mode().Perm(), path)
		}
	}
	return nil
}
