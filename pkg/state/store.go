package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"github.com/ocisync/ocisync/pkg/regular"
)

// ErrConflict is returned by [Store.Save] if the store no longer holds what
// was loaded.
var ErrConflict = errors.New("the inventory was changed by somebody else meanwhile")

// Store holds one mode's sealed inventory. Load may be called at any time and
// changes nothing.
type Store interface {
	// Load returns what is stored, or an error that is fs.ErrNotExist.
	Load(ctx context.Context) ([]byte, error)

	// Save replaces prev, what Load returned last (nil for nothing), by data.
	// It either happens wholly or not at all. Errors: ErrConflict.
	Save(ctx context.Context, data, prev []byte) error
}

var modeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

type dirStore struct{ dir, file string }

// DirStore keeps a mode's inventory in a directory, as <mode>.json with mode
// 0600. Save makes the directory (0700), and compares and replaces under a
// lock of its own.
func DirStore(dir, mode string) (Store, error) {
	if !modeName.MatchString(mode) {
		return nil, fmt.Errorf("mode %q cannot name a file; use letters, digits, '.', '_' and '-'", mode)
	}
	return dirStore{dir, mode + ".json"}, nil
}

func (s dirStore) path() string { return filepath.Join(s.dir, s.file) }

func (s dirStore) Load(ctx context.Context) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b, err := readFile(s.dir, s.file, MaxSize)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("inventory %s: %w", s.path(), err)
	case errors.Is(err, regular.ErrOther):
		return nil, fmt.Errorf("inventory %s: is not a regular file, and so no inventory; remove it, and restore the right one", s.path())
	case errors.Is(err, regular.ErrLarge):
		return nil, fmt.Errorf("inventory %s: %w, and so no inventory; move it away and restore the right one", s.path(), err)
	case err != nil && isLink(s.path()):
		return nil, fmt.Errorf("inventory %s: %w: it is a link that leads elsewhere; put the file itself there", s.path(), err)
	case err != nil:
		return nil, fmt.Errorf("inventory %s: %w; let this user read it, or set state.dir", s.path(), err)
	}
	return b, nil
}

func isLink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&fs.ModeSymlink != 0
}

func (s dirStore) Save(ctx context.Context, data, prev []byte) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("inventory %s: %w; make the directory writable, or set state.dir", s.path(), err)
	}
	if err := touch(s.dir, s.file+".lock"); err != nil {
		return fmt.Errorf("inventory %s: locking: %w", s.path(), err)
	}
	lock := regular.Lock(s.path() + ".lock")
	if ok, err := lock.TryLockContext(ctx, 20*time.Millisecond); err != nil || !ok {
		return fmt.Errorf("inventory %s: locking: %w", s.path(), err)
	}
	defer lock.Close()
	have, err := s.Load(ctx)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !bytes.Equal(have, prev) {
		return fmt.Errorf("inventory %s: %w; plan again", s.path(), ErrConflict)
	}
	if err := writeFile(s.dir, s.file, data); err != nil {
		return fmt.Errorf("inventory %s: %w", s.path(), err)
	}
	return nil
}

// readFile reads a regular file of a directory, no link that leaves it, up to
// a size.
func readFile(dir, name string, limit int64) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return regular.ReadIn(root, name, limit)
}

// writeFile replaces a file atomically and durably. Its errors name no
// temporary file, and say what to do of a full disk.
func writeFile(dir, name string, data []byte) error {
	err := replaceFile(dir, name, data)
	if err == nil {
		err = syncDir(dir)
	}
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		err = pe.Err
	}
	if full(err) {
		err = fmt.Errorf("%w; make room on the disk of %s", err, dir)
	}
	return err
}

// replaceFile gives the file to the directory's owner.
func replaceFile(dir, name string, data []byte) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	f, err := renameio.NewPendingFile(filepath.Join(dir, name), renameio.WithTempDir(dir), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return err
	}
	defer f.Cleanup() //nolint:errcheck // it is gone once it has its name
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := regular.Give(f.File, root); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// touch makes an empty file where there is none, the directory's owner's.
func touch(dir, name string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return regular.Touch(root, name)
}

func full(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
