package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/runtime"
	"github.com/ocisync/ocisync/schema"
)

// What the process that serves an embedded registry calls itself.
const (
	commandUp     = "ocisync up"
	commandBehind = "ocisync up --detach"
)

const (
	// stopping is how long a registry may take to end the requests in flight.
	stopping = time.Minute
	// takingOver is how long a supervisor may take to give tokens once nobody does.
	takingOver = 5 * takeOverEvery
)

// served runs the embedded registry, which is a process of this program.
type served struct {
	o   *options
	cfg *schema.Config
}

func (s *served) log() string {
	return filepath.Join(s.cfg.Registry.Run.Data, "ocisync", runtime.UpLog)
}

// serving says what process serves the data directory; nil for none.
func (s *served) serving(ctx context.Context) (*embedded.Info, error) {
	c, err := embedded.Dial(ctx, s.cfg.Registry.Run.Data)
	if errors.Is(err, embedded.ErrNotServed) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := c.Info(ctx)
	if err = errors.Join(err, c.Close()); err != nil {
		return nil, err
	}
	return &info, nil
}

// Status looks, and changes nothing.
func (s *served) Status(ctx context.Context) (runtime.Status, error) {
	info, err := s.serving(ctx)
	if err != nil {
		return runtime.Status{}, err
	}
	if info == nil {
		return runtime.Status{Detail: "nobody serves " + s.cfg.Registry.Run.Data}, nil
	}
	out := runtime.Status{
		Running: true, PID: info.PID, Started: info.Started,
		ID: strconv.Itoa(info.PID) + "@" + info.Started.UTC().Format(time.RFC3339), Detail: info.Command + ", version " + info.Version,
	}
	if info.Command == commandBehind {
		out.Log = s.log()
	}
	return out, nil
}

// Differences are none: what the mode says of how it runs is in force from the
// next start, and everything else is a plan's.
func (s *served) Differences(context.Context) ([]runtime.Difference, error) { return nil, nil }

// Up serves it in the background, unless it is served.
func (s *served) Up(ctx context.Context) (runtime.Outcome, error) {
	info, err := s.serving(ctx)
	if info != nil || err != nil {
		return runtime.Outcome{Already: info != nil}, err
	}
	command, err := s.o.again(s.cfg, "up", "--background")
	if err != nil {
		return runtime.Outcome{}, err
	}
	err = runtime.Detach(ctx, runtime.Detached{
		Args: command, Log: s.log(), Say: func(line string) { s.o.say("%s", line) },
		Ready: func(ctx context.Context, pid int) bool {
			info, err := s.serving(ctx)
			return err == nil && info != nil && info.PID == pid && ping(ctx, s.cfg.Registry, s.cfg.Registry.URL, s.cfg.Registry.Address()) == nil
		},
	})
	return runtime.Outcome{}, err
}

// Restart ends it and serves it again, in the background. One in the foreground
// is its terminal's to start.
func (s *served) Restart(ctx context.Context) (runtime.Outcome, error) {
	info, err := s.serving(ctx)
	if err != nil {
		return runtime.Outcome{}, err
	}
	if info != nil && info.Command != commandBehind {
		return runtime.Outcome{}, codedError{exitRefused, fmt.Errorf("%s: process %d (%s) serves it in the foreground; end that one and start it again where it runs", s.cfg.Registry.URL, info.PID, info.Command)}
	}
	if err := s.Down(ctx); err != nil {
		return runtime.Outcome{}, err
	}
	return s.Up(ctx)
}

// Down ends it, requests in flight first, and returns when it is gone.
func (s *served) Down(ctx context.Context) error {
	info, err := s.serving(ctx)
	if info == nil || err != nil {
		return err
	}
	if err := syscall.Kill(info.PID, syscall.SIGTERM); err != nil {
		return fmt.Errorf("%s: ending process %d: %w; do it as the user who runs it", s.cfg.Registry.URL, info.PID, err)
	}
	ctx, cancel := context.WithTimeout(ctx, stopping)
	defer cancel()
	for {
		now, err := s.serving(ctx)
		if err == nil && (now == nil || now.PID != info.PID) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: process %d does not end; see what it waits for, or kill it", s.cfg.Registry.URL, info.PID)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stopGiving ends what up left beside a container; an ocisync auth serve is
// whoever's who started it.
func (s *served) stopGiving(ctx context.Context) error {
	info, err := s.serving(ctx)
	if err != nil || info == nil || info.Command != commandUp && info.Command != commandBehind {
		return err
	}
	return s.Down(ctx)
}

// giving says in a few words who gives tokens; it is an error if nobody does.
func (s *served) giving(ctx context.Context) (string, error) {
	info, err := s.serving(ctx)
	if err == nil && info == nil {
		err = errors.New("nobody gives tokens to its clients; start it with ocisync up or ocisync auth serve")
		if s.cfg.Registry.Run == nil {
			err = errors.New("nobody gives tokens to its clients; start ocisync auth serve")
		}
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("process %d (%s) since %s", info.PID, info.Command, moment(info.Started)), nil
}

// given waits until somebody gives tokens beside a process that runs, which its
// supervisor does as soon as nobody else does.
func (s *served) given(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, takingOver)
	defer cancel()
	for {
		_, err := s.giving(waiting)
		if err == nil {
			return nil
		}
		select {
		case <-waiting.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("%s runs, but nobody can log in: its supervisor gives no tokens, and says why in %s or at its terminal; ocisync down, then ocisync up, start both anew", s.cfg.Registry.URL, s.log())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// WriteLog writes what it said in the background.
func (s *served) WriteLog(ctx context.Context, w io.Writer, tail int, more bool) error {
	if _, err := os.Stat(s.log()); err != nil {
		return codedError{exitRefused, fmt.Errorf("%s: it has no log: it was never run in the background (ocisync up --detach), and in the foreground it writes to its terminal", s.cfg.Registry.URL)}
	}
	return runtime.WriteLog(ctx, s.log(), w, tail, more)
}
