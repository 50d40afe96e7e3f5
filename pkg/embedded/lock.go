package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/ocisync/ocisync/pkg/regular"
)

const lockFile = "lock"

// ErrHeld means that another process holds the data directory.
var ErrHeld = errors.New("held by another process")

// Holder is who holds a data directory.
type Holder struct {
	PID     int       `json:"pid"`
	Host    string    `json:"host"`
	Command string    `json:"command"`
	Started time.Time `json:"started"`
	// Brief is set by who serves nothing and is soon done: it can be waited for.
	Brief bool `json:"brief,omitempty"`
	// Socket is where its admin API is found; "" while it serves none.
	Socket string `json:"socket,omitempty"`
}

// String names the holder for messages.
func (h Holder) String() string {
	if h.PID == 0 {
		return "a process that did not say who it is"
	}
	return fmt.Sprintf("process %d (%s) on %s since %s", h.PID, h.Command, h.Host, h.Started.Format(time.RFC3339))
}

// lock is a data directory held by this process. The kernel frees it when the
// process dies, however that happens.
type lock struct {
	flock  *flock.Flock
	holder Holder
}

// takeLock makes the directory where it is missing and takes its lock. Content
// that lies there is another program's if the directory is one of accounts.
func takeLock(data, command string, accounts, brief bool) (*lock, error) {
	if err := usable(data, accounts); errors.Is(err, ErrOccupied) || errors.Is(err, ErrUnsafe) {
		return nil, err
	} else if err != nil {
		return nil, fmt.Errorf("looking at the embedded registry's data directory: %w; %s", err, remedy(err, data))
	}
	dir := filepath.Join(data, ownDir)
	err := os.MkdirAll(data, 0o700)
	if err == nil {
		err = mkdir(dir)
	}
	if err == nil {
		err = touch(filepath.Join(dir, lockFile))
	}
	if err != nil {
		return nil, fmt.Errorf("making the embedded registry's data directory: %w; %s", err, remedy(err, data))
	}
	f := regular.Lock(filepath.Join(dir, lockFile))
	ok, err := f.TryLock()
	if err != nil {
		return nil, fmt.Errorf("locking the embedded registry's data directory: %w; %s", err, remedy(err, data))
	}
	if !ok {
		return nil, heldError(data)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "this host"
	}
	l := &lock{flock: f, holder: Holder{PID: os.Getpid(), Host: host, Command: command, Brief: brief, Started: time.Now().UTC().Truncate(time.Second)}}
	if err := l.tell(); err != nil {
		return nil, errors.Join(fmt.Errorf("locking the embedded registry's data directory: %w; %s", err, remedy(err, data)), f.Close())
	}
	return l, nil
}

// briefPatience is how long who is to serve waits for who is soon done.
const briefPatience = 10 * time.Minute

// waitLock takes the lock to serve, and waits for a job or a change that has it.
func waitLock(ctx context.Context, data, command string, accounts bool, logger *slog.Logger) (*lock, error) {
	begun := time.Now()
	for told := false; ; {
		l, err := takeLock(data, command, accounts, false)
		if !errors.Is(err, ErrHeld) || time.Since(begun) > briefPatience {
			return l, err
		}
		h, unknown := readHolder(data) // nobody, for a moment, between two
		if unknown == nil && !h.Brief || unknown != nil && time.Since(begun) > time.Second {
			return nil, err
		}
		if !told && unknown == nil {
			told = true
			logger.Info("waiting for who has the data directory", "holder", h.String())
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func heldError(data string) error {
	h, err := readHolder(data)
	if err != nil {
		h = Holder{}
	}
	return fmt.Errorf("data directory %s: %w: %s; stop that one first, or let it do the work", data, ErrHeld, h)
}

// tell writes who holds the lock into its file. On a disk too full for that
// nobody is named; the lock holds all the same, since deletions need it.
func (l *lock) tell() error {
	b, err := json.Marshal(l.holder)
	if err != nil {
		return err
	}
	err = l.write(append(b, '\n'))
	if noRoom(err) {
		return os.Truncate(l.flock.Path(), 0)
	}
	return err
}

// write replaces what the file says in its place: what it has of the disk it keeps.
func (l *lock) write(b []byte) error {
	f, err := os.OpenFile(l.flock.Path(), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Truncate(int64(len(b)))
	}
	return errors.Join(err, f.Close())
}

func (l *lock) release() error {
	err := l.write([]byte("\n"))
	if noRoom(err) {
		err = os.Truncate(l.flock.Path(), 0)
	}
	return errors.Join(err, l.flock.Close())
}

// readHolder reads who holds, or held last, a data directory. It touches
// nothing and does not tell whether the holder still lives.
func readHolder(data string) (Holder, error) {
	f, err := regular.Open(filepath.Join(data, ownDir, lockFile))
	if err != nil {
		return Holder{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return Holder{}, err
	}
	var h Holder
	if err := json.Unmarshal(b, &h); err != nil {
		return Holder{}, err
	}
	return h, nil
}
