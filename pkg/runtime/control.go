package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/ocisync/ocisync/pkg/regular"
)

// A supervisor is told what to do over a Unix socket that its user alone may
// open, in JSON over HTTP:
//
//	GET  /status  view
//	POST /order   order -> reply, when it is done
const (
	lockFile   = "run.lock"
	socketFile = "run.sock"
	// maxSocketPath is what sun_path holds on the system that allows least.
	maxSocketPath = 103
	maxMessage    = 1 << 20
	hello         = 5 * time.Second // for a supervisor to say how it stands
)

// Holder is who supervises a registry.
type Holder struct {
	PID     int       `json:"pid"`
	Host    string    `json:"host"`
	Command string    `json:"command"`
	Started time.Time `json:"started"`
	Socket  string    `json:"socket,omitempty"`
}

func (h Holder) String() string {
	if h.PID == 0 {
		return "a process that did not say who it is"
	}
	return fmt.Sprintf("process %d (%s) since %s", h.PID, h.Command, h.Started.Local().Format("2006-01-02 15:04:05"))
}

// lock is the right to supervise a registry. The kernel gives it back when the
// process dies.
type lock struct {
	f      *os.File
	holder Holder
}

// takeLock waits a moment for one that is about to end. ErrSupervised: another
// process has it.
func (o Options) takeLock(ctx context.Context, command string, wait time.Duration) (*lock, error) {
	f, err := o.openOwn(lockFile, os.O_CREATE|os.O_RDWR)
	if err == nil {
		if err = o.flock(ctx, f, wait); err != nil {
			err = errors.Join(err, f.Close())
		}
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, fmt.Errorf("%s: %w: %s", o.Registry.URL, ErrSupervised, o.holder())
	case errors.Is(err, regular.ErrUnsafe):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%s: locking %s: %w; run ocisync as the user who owns it", o.Registry.URL, o.own(lockFile), err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "this host"
	}
	l := &lock{f, Holder{PID: os.Getpid(), Host: host, Command: command, Started: time.Now().UTC().Truncate(time.Second)}}
	if err := l.tell(); err != nil { // as where the disk is full
		o.Say(fmt.Sprintf("%s: noting who has %s: %v", o.Registry.URL, o.own(lockFile), err))
	}
	return l, nil
}

func (o Options) flock(ctx context.Context, f *os.File, wait time.Duration) error {
	for end := time.Now().Add(wait); ; {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(o.Patience.Probe):
		}
	}
}

// tell writes who has the lock into its file, in place: a new file would not be
// the locked one.
func (l *lock) tell() error {
	b, err := json.Marshal(l.holder)
	if err != nil {
		return err
	}
	return overwrite(l.f, append(b, '\n'))
}

func (l *lock) release() error {
	info, err := l.f.Stat()
	if err == nil && info.Size() > 0 {
		err = overwrite(l.f, []byte("{}\n"))
	}
	return errors.Join(err, l.f.Close())
}

// holder is who has, or had last, the lock; for messages and to find the socket.
func (o Options) holder() Holder {
	var h Holder
	b, err := o.readOwn(lockFile)
	if err != nil || json.Unmarshal(b, &h) != nil {
		return Holder{}
	}
	return h
}

// serve answers on the supervisor's socket until close is called.
func (s *supervisor) serve(ctx context.Context, l *lock) (stop func() error, err error) {
	path, temp := s.own(socketFile), ""
	if len(path) > maxSocketPath {
		if temp, err = os.MkdirTemp("", "ocisync-"); err != nil {
			return nil, fmt.Errorf("making the supervisor's socket: %w", err)
		}
		if path = filepath.Join(temp, socketFile); len(path) > maxSocketPath {
			return nil, errors.Join(fmt.Errorf("making the supervisor's socket: %s is longer than %d bytes; set TMPDIR or registry.run.data to a shorter path", path, maxSocketPath), os.Remove(temp))
		}
	}
	tidy := func() error {
		if temp == "" {
			return nil
		}
		return os.RemoveAll(temp)
	}
	// left by one that died; its directory is closed to others
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, tidy())
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making the supervisor's socket: %w", err), tidy())
	}
	l.holder.Socket = path
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, listener.Close(), tidy())
	}
	if err := l.tell(); err != nil && temp != "" { // others look for it here
		return nil, errors.Join(err, listener.Close(), tidy())
	}
	s.tell(func(v *view) { v.Holder = l.holder })
	ended := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.view()) })
	mux.HandleFunc("POST /order", func(w http.ResponseWriter, q *http.Request) {
		var o order
		if err := json.NewDecoder(http.MaxBytesReader(w, q.Body, maxMessage)).Decode(&o); err != nil {
			answer(w, reply{Error: err.Error()})
			return
		}
		answer(w, s.ask(q.Context(), o, ended))
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: hello}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	return func() error {
		close(ended)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), hello)
		defer cancel()
		err := server.Shutdown(last)
		if e := <-served; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
		return errors.Join(err, tidy())
	}, nil
}

// ask hands an order to the goroutine that obeys, and waits for what comes of it.
func (s *supervisor) ask(ctx context.Context, o order, ended <-chan struct{}) reply {
	done := make(chan reply, 1)
	o.done = done
	over := reply{err: errGone}.told()
	select {
	case s.orders <- o:
	case <-ended:
		return over
	case <-ctx.Done():
		return over
	}
	select {
	case r := <-done:
		return r.told()
	case <-ended:
		select {
		case r := <-done:
			return r.told()
		default:
			return over
		}
	}
}

func answer[T any](w http.ResponseWriter, v T) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) //nolint:errcheck // who asked has gone
}

// kinds names the kinds of error on their way.
func kinds() map[string]error {
	return map[string]error{
		"gone": errGone, "supervised": ErrSupervised, "taken": ErrTaken, "occupied": ErrOccupied, "died": ErrDied, "not ready": ErrNotReady,
	}
}

// told makes a reply one that can be sent.
func (r reply) told() reply {
	if r.err == nil {
		return r
	}
	r.Error = r.err.Error()
	for name, kind := range kinds() {
		if errors.Is(r.err, kind) {
			r.Kind = name
		}
	}
	return r
}

// errGone says that a supervisor ended before it answered.
var errGone = errors.New("the registry's supervisor ended meanwhile")

// toldError is an error that a supervisor told of.
type toldError struct {
	text string
	kind error
}

func (e *toldError) Error() string { return e.text }
func (e *toldError) Unwrap() error { return e.kind }

// control speaks to a supervisor.
type control struct{ client *http.Client }

// dial finds the supervisor of the data directory; nil if there is none.
func (o Options) dial(ctx context.Context) *control {
	if regular.Private(o.data(), ownDir) != nil {
		return nil // and who does anything about it says so
	}
	if o.unlocked() {
		return nil // what its file says is of a directory that this one was copied from
	}
	path := or(o.holder().Socket, o.own(socketFile))
	connect := func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "unix", path) }
	first, cancel := context.WithTimeout(ctx, hello)
	defer cancel()
	c, err := connect(first)
	if err != nil {
		return nil
	}
	c.Close() //nolint:errcheck // it said nothing
	return &control{&http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return connect(ctx) },
	}}}
}

// unlocked reports whether nobody has the lock of whoever supervises.
func (o Options) unlocked() bool {
	f, err := o.openOwn(lockFile, os.O_RDONLY)
	if err != nil {
		return false // who asks it finds out
	}
	defer f.Close()
	return !kept(f)
}

func (c *control) view(ctx context.Context) (v view, err error) {
	ctx, cancel := context.WithTimeout(ctx, hello)
	defer cancel()
	err = call(ctx, c, http.MethodGet, "status", nil, &v)
	return v, err
}

func (c *control) order(ctx context.Context, o order) (Outcome, error) {
	b, err := json.Marshal(o)
	if err != nil {
		return Outcome{}, err
	}
	var r reply
	if err := call(ctx, c, http.MethodPost, "order", bytes.NewReader(b), &r); err != nil {
		return Outcome{}, err
	}
	if r.Error != "" {
		return r.Outcome, &toldError{r.Error, kinds()[r.Kind]}
	}
	return r.Outcome, nil
}

func call[T any](ctx context.Context, c *control, method, path string, body io.Reader, into *T) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://supervisor/"+path, body)
	if err != nil {
		return err
	}
	resp, err := c.client.Do(req)
	if op := (*net.OpError)(nil); errors.Is(err, io.EOF) || errors.As(err, &op) && !op.Timeout() && ctx.Err() == nil {
		return errGone
	}
	if err != nil {
		return fmt.Errorf("asking the registry's supervisor: %w; see whether it is stuck, and end it if it is", err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxMessage)).Decode(into); err != nil {
		return fmt.Errorf("asking the registry's supervisor: %w; another version of ocisync may supervise: end it with ocisync down, and start again", err)
	}
	return nil
}
