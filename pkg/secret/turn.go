package secret

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ocisync/ocisync/pkg/state"
)

// turn is the right to deliver to a place by a command. The command has its file
// open too, and so the kernel takes it back when neither this process nor the command,
// nor what that started, is there any more. [github.com/gofrs/flock] gives its file to
// nobody.
type turn struct{ f *os.File }

// turn waits for another one's at most as long as the command may take.
func (r *Resolver) turn(ctx context.Context, name string, args []string) (turn, error) {
	c, err := r.find(name)
	if err != nil {
		return turn{}, err
	}
	machine, err := state.NewMachine(r.host, r.lookup)
	if err != nil {
		return turn{}, err
	}
	dir := machine.Locks()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return turn{}, err
	}
	sum := sha256.Sum256([]byte(strings.Join(append([]string{name}, args...), "\x00")))
	path := filepath.Join(dir, "deliver-"+hex.EncodeToString(sum[:8])+".lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return turn{}, err
	}
	for end := time.Now().Add(timeoutOf(c)); ; {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return turn{f}, nil
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return turn{}, errors.Join(fmt.Errorf("locking %s: %w", path, err), f.Close())
		case time.Now().After(end):
			return turn{}, errors.Join(fmt.Errorf("it still runs for an earlier secret, though whoever started it may have ended; see what has %s open, and end that", path), f.Close())
		}
		select {
		case <-ctx.Done():
			return turn{}, errors.Join(ctx.Err(), f.Close())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// end gives it back, whatever the command has left running.
func (t turn) end() error {
	return errors.Join(syscall.Flock(int(t.f.Fd()), syscall.LOCK_UN), t.f.Close())
}
