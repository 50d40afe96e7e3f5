package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/ocisync/ocisync/pkg/plan"
)

// ErrLocked is returned by [Acquire] while another process writes; the error
// is a [*LockedError].
var ErrLocked = errors.New("another ocisync is writing to this registry")

// Holder says who holds a lock.
type Holder struct {
	PID     int       `json:"pid"`
	Host    string    `json:"host"`
	User    string    `json:"user"`
	Started time.Time `json:"started"`
	Command string    `json:"command"` // the verb, never the arguments
	Mode    string    `json:"mode"`
}

func (h Holder) String() string {
	if h.PID == 0 {
		return "a process that has not said its name yet"
	}
	return fmt.Sprintf("process %d (%q of mode %q, by %q on %q, since %s)",
		h.PID, h.Command, h.Mode, h.User, h.Host, h.Started.UTC().Format(time.RFC3339))
}

// LockedError names the holder.
type LockedError struct {
	Registry plan.Registry
	Path     string
	Holder   Holder
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("%s: %v: %s holds %s; wait until it is done, or end it", e.Registry.URL, ErrLocked, e.Holder, e.Path)
}

// Unwrap returns [ErrLocked].
func (e *LockedError) Unwrap() error { return ErrLocked }

// Lock is the right to write to a registry, until Release or the process's end.
type Lock struct{ file *flock.Flock }

// Acquire takes the lock of a registry, one per computer, in a directory that
// it makes if needed. It waits at most so long for another holder, 0 not at
// all. The lock belongs to the process: one that dies leaves it free.
// Errors: ErrLocked, the context's.
func Acquire(ctx context.Context, dir string, registry plan.Registry, who Holder, wait time.Duration) (*Lock, error) {
	fail := func(err error) (*Lock, error) {
		if full(err) {
			return nil, fmt.Errorf("lock of %s in %s: %w; make room on the disk of %[2]s", registry.URL, dir, err)
		}
		return nil, fmt.Errorf("lock of %s in %s: %w; make the directory writable for you alone, or set lock in the host file", registry.URL, dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fail(err)
	}
	if info, err := os.Stat(dir); err != nil {
		return fail(err)
	} else if info.Mode().Perm()&0o002 != 0 {
		return fail(errors.New("the directory is writable by everybody"))
	}
	path := filepath.Join(dir, registryHash(registry)+".lock")
	f := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	ok, err := f.TryLock()
	if err == nil && !ok && wait > 0 {
		ok, err = f.TryLockContext(waiting, 50*time.Millisecond)
	}
	if !ok {
		_ = f.Close()
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("lock of %s: %w", registry.URL, ctx.Err())
		case err != nil && !errors.Is(err, context.DeadlineExceeded):
			return fail(err)
		}
		return nil, &LockedError{registry, path, readHolder(dir, filepath.Base(path))}
	}
	if err := writeHolder(path, who); err != nil {
		_ = f.Close()
		return fail(err)
	}
	return &Lock{f}, nil
}

// Release gives the lock back; the file stays, empty.
func (l *Lock) Release() error {
	err := os.Truncate(l.file.Path(), 0)
	return errors.Join(err, l.file.Close())
}

// writeHolder writes in place: a rename would put another file under the name
// than the locked one.
func writeHolder(path string, who Holder) error {
	b, err := json.Marshal(who)
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o600)
}

// readHolder is for messages: what cannot be read is an unknown holder.
func readHolder(dir, name string) Holder {
	var h Holder
	b, err := readFile(dir, name, 4<<10)
	if err != nil || json.Unmarshal(b, &h) != nil {
		return Holder{}
	}
	return h
}
