package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	socketFile = "admin.sock"
	// maxSocketPath is what sun_path holds on the system that allows least
	// (104 bytes with the closing zero on the BSDs, 108 on Linux).
	maxSocketPath = 103
)

// socket is the Unix socket of the admin API. Its directory is closed to
// others from the start, so that nobody gets in before its own mode is set.
type socket struct {
	listener net.Listener
	path     string
	temp     string // directory to remove, or ""
}

// listenSocket listens at ocisync/admin.sock, or, where that path is too long
// for a Unix socket, in a temporary directory; the lock's file says where. The
// caller holds the lock.
func listenSocket(ctx context.Context, data string) (*socket, error) {
	s := &socket{path: filepath.Join(data, ownDir, socketFile)}
	if len(s.path) > maxSocketPath {
		dir, err := os.MkdirTemp("", "ocisync-")
		if err != nil {
			return nil, fmt.Errorf("making the admin socket: %w", err)
		}
		s.temp, s.path = dir, filepath.Join(dir, socketFile)
		if len(s.path) > maxSocketPath {
			return nil, errors.Join(fmt.Errorf("making the admin socket: %s is longer than %d bytes; set TMPDIR or run.data to a shorter path", s.path, maxSocketPath), os.Remove(dir))
		}
	}
	// left by a holder that died
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("making the admin socket: %w", err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", s.path)
	if err == nil {
		s.listener = l
		err = os.Chmod(s.path, 0o600)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making the admin socket: %w; %s", err, remedy(err, data)), s.close())
	}
	return s, nil
}

func (s *socket) close() error {
	var errs []error
	if s.listener != nil { // removes the file
		errs = append(errs, closer(s.listener)())
	}
	if s.temp != "" {
		errs = append(errs, os.RemoveAll(s.temp))
	}
	return errors.Join(errs...)
}

// dialSocket reports where the holder of a data directory serves its admin
// API, or an error if nobody answers there.
func dialSocket(ctx context.Context, data string) (path string, err error) {
	h, err := readHolder(data)
	if err != nil { // its disk may be too full to say more
		h.Socket = filepath.Join(data, ownDir, socketFile)
	}
	if h.Socket == "" {
		return "", errors.New("nobody serves the data directory")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "unix", h.Socket)
	if err != nil {
		return "", err
	}
	return h.Socket, c.Close()
}
