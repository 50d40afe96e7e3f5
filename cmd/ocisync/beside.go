package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/pkg/runtime"
	"github.com/ocisync/ocisync/schema"
)

// beside is the process that stands beside a container that needs something done
// while it runs: it ends and renews robots, measures quotas, tells webhooks, and runs
// mirrors.
// Whoever holds the lock is the one; the file beside it has its process number.
type beside struct {
	o   *options
	cfg *schema.Config
}

// standsBeside reports whether a mode's container needs one.
func standsBeside(cfg *schema.Config) bool {
	return canStandBeside(cfg) && slices.ContainsFunc(cfg.Desired.Resources, func(r schema.Resource) bool {
		switch spec := r.Spec.(type) {
		case *schema.Robot:
			return spec.Expires != nil && *spec.Expires > 0 || spec.Secret != nil && spec.Secret.Deliver != nil
		case *schema.Mirror:
			return spec.Schedule != nil && *spec.Schedule != "none"
		case *schema.Quota, *schema.Webhook:
			return true
		}
		return false
	})
}

func canStandBeside(cfg *schema.Config) bool {
	return cfg.Registry.Type == schema.TypeZot && cfg.Registry.Driver() == schema.DriverDocker
}

func (b *beside) file(name string) string {
	return filepath.Join(b.cfg.Registry.Run.Data, "ocisync", name)
}

func (b *beside) lock() *flock.Flock {
	return regular.Lock(b.file("beside.lock"))
}

// standing is the process that stands there, 0 for none.
func (b *beside) standing() (pid int, err error) {
	if _, err := os.Stat(filepath.Dir(b.file(""))); errors.Is(err, fs.ErrNotExist) { // it was never up
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	l := b.lock()
	free, err := l.TryLock()
	if err != nil || free {
		return 0, errors.Join(err, l.Close())
	}
	text, err := os.ReadFile(b.file("beside.pid"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// troubles says that nobody stands there, beside a container that runs and needs it.
func (b *beside) troubles() ([]providers.Trouble, error) {
	if !standsBeside(b.cfg) {
		return nil, nil
	}
	pid, err := b.standing()
	if pid != 0 || err != nil {
		return nil, err
	}
	return []providers.Trouble{{What: "beside", Text: "nobody looks after its robots, quotas, webhooks and mirrors; ocisync up does"}}, nil
}

// stand does what is due until the context is done, unless another does. The
// command is what this process is called.
func (b *beside) stand(ctx context.Context, command string) (err error) {
	if err := os.MkdirAll(filepath.Dir(b.file("beside.lock")), 0o700); err != nil {
		return err
	}
	l := b.lock()
	asking, end := context.WithTimeout(ctx, time.Second) // who only looks holds it for a moment
	free, err := l.TryLockContext(asking, 20*time.Millisecond)
	end()
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if !free {
		b.o.say("another process looks after its robots, quotas, webhooks and mirrors")
		return nil
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if err := os.WriteFile(b.file("beside.pid"), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return err
	}
	b.o.say("looking after robots, quotas, webhooks and mirrors of %s; Ctrl-C stops that, and the container runs on", b.cfg.Registry.URL)
	return b.o.beside(ctx, b.cfg, command, func(ctx context.Context) error { return b.o.attended(ctx, b.cfg, untilDone) })
}

// behind has another process stand there in the background.
func (b *beside) behind(ctx context.Context) error {
	if pid, err := b.standing(); pid != 0 || err != nil {
		return err
	}
	command, err := b.o.again(b.cfg, "up", "--background")
	if err != nil {
		return err
	}
	return runtime.Detach(ctx, runtime.Detached{
		Args: command, Log: b.file(runtime.UpLog), Say: func(line string) { b.o.say("%s", line) },
		Ready: func(_ context.Context, pid int) bool { now, err := b.standing(); return err == nil && now == pid },
	})
}

// leave ends it, wherever it was started.
func (b *beside) leave(ctx context.Context) error {
	pid, err := b.standing()
	if pid == 0 || err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("%s: ending process %d beside it: %w; do it as the user who runs it", b.cfg.Registry.URL, pid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, stopping)
	defer cancel()
	for {
		if now, err := b.standing(); err == nil && now != pid {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: process %d beside it does not end; see what it waits for, or kill it", b.cfg.Registry.URL, pid)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
