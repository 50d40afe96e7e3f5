package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/schema"
)

// takeOverEvery is how often who waits for another to give no more tokens looks.
const takeOverEvery = 2 * time.Second

// giver gives tokens to the clients of a mode's registry, at the address and with
// the certificate that the mode has when it begins. An apply that changes these has
// it begin anew, beside whatever else this process does.
type giver struct {
	o       *options
	command string // what this process is called
	anew    chan *schema.Config

	mu      sync.Mutex
	now     *embedded.Registry // nil while another process gives them
	resting bool
}

// giver opens the token service of a mode's registry, which renews the mode's
// robots while it is served. [embedded.ErrHeld]: another process gives tokens; what
// is returned then takes over when that one ends.
func (o *options) giver(ctx context.Context, cfg *schema.Config, command string) (*giver, error) {
	g := &giver{o: o, command: command, anew: make(chan *schema.Config, 1)}
	return g, g.open(ctx, cfg)
}

func (g *giver) open(ctx context.Context, cfg *schema.Config) error {
	s, err := g.o.tokenServer(cfg)
	if err != nil {
		return err
	}
	robots, err := g.o.robots(cfg, g.command+" (renewing robots)")
	if err != nil {
		return err
	}
	level := slog.LevelInfo // a line for each grant
	if g.o.verbose {
		level = slog.LevelDebug
	}
	logger := slog.New(slog.NewTextHandler(g.o.err, &slog.HandlerOptions{Level: level}))
	r, err := s.TokenService(ctx, embedded.Options{
		Version: version, Command: g.command, Outside: access.Outside(cfg.Policy.Outside), Logger: logger,
		Renew: robots.attend(logger), Anew: g.begin,
	})
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now = r
	if g.resting {
		r.Rest()
	}
	return nil
}

// begin has it begin anew with the mode as it is in its file now, which must be as
// is wanted.
func (g *giver) begin(wanted embedded.Giving, try bool) error {
	cfg, err := g.o.config()
	if err != nil {
		return err
	}
	s, err := g.o.tokenServer(cfg)
	if err != nil {
		return err
	}
	if now := s.Giving(); now != wanted {
		return fmt.Errorf("process %d (%s) reads mode %s from %s, and there tokens are given %s; end it, and start it with the mode that is applied", os.Getpid(), g.command, cfg.Mode, g.o.modes, now)
	}
	if !try {
		select {
		case g.anew <- cfg:
		default: // it begins already
		}
	}
	return nil
}

// addr is where it listens.
func (g *giver) addr() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.now.Addr()
}

// rest has what is done by time end, and begin no more.
func (g *giver) rest() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.resting = true
	if g.now != nil {
		g.now.Rest()
	}
}

// waits reports whether another process gave tokens when this one was to.
func (g *giver) waits() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.now == nil
}

// beside serves for as long as work takes, and closes. The work is told to end if
// the service does, and, when the context is done, once no job of the service's is
// at the registry any more.
func (g *giver) beside(ctx context.Context, cfg *schema.Config, work func(context.Context) error) error {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	working, end := context.WithCancel(serving)
	defer end()
	defer context.AfterFunc(ctx, func() {
		g.rest()
		end()
	})()
	served := make(chan error, 1)
	go func() {
		served <- g.serve(serving, cfg)
		end()
	}()
	err := work(working)
	stop()
	return errors.Join(err, <-served)
}

// serve serves until the context is done, and closes.
func (g *giver) serve(ctx context.Context, cfg *schema.Config) error {
	if g.waits() {
		if cfg = g.takeOver(ctx, cfg); cfg == nil {
			return nil
		}
		g.o.say("giving tokens for %s at %s now, since nobody else does", cfg.Registry.URL, g.addr())
	}
	for {
		round, end := context.WithCancel(ctx)
		served := make(chan error, 1)
		go func() { served <- g.now.Serve(round) }()
		var next *schema.Config
		select {
		case err := <-served:
			end()
			return errors.Join(err, g.now.Close())
		case next = <-g.anew:
		}
		end()
		if err := errors.Join(<-served, g.now.Close()); err != nil {
			return err
		}
		var err error
		if cfg, err = g.reopen(ctx, cfg, next); err != nil {
			return err
		}
		g.o.say("giving tokens for %s at %s now, as an apply has it", cfg.Registry.URL, g.addr())
	}
}

// takeOver opens once no other process gives tokens, by the mode as it is in its
// file then, and returns that; nil if the context is done before.
func (g *giver) takeOver(ctx context.Context, cfg *schema.Config) *schema.Config {
	said := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(takeOverEvery):
		}
		// asking costs little, and who has moved meanwhile is where the file says
		if _, err := (&served{g.o, cfg}).giving(ctx); err == nil {
			continue
		}
		now, err := g.o.config()
		if err == nil {
			err = g.open(ctx, now)
		}
		switch {
		case err == nil:
			return now
		case errors.Is(err, embedded.ErrHeld), ctx.Err() != nil:
		case err.Error() != said:
			said = err.Error()
			g.o.logger().Error("nobody gives tokens, and they cannot be given here; it is tried again", "registry", cfg.Registry.URL, "error", err)
		}
	}
}

// reopen opens what was closed by the next mode or, if that cannot be, by the
// former, and returns which.
func (g *giver) reopen(ctx context.Context, former, next *schema.Config) (*schema.Config, error) {
	const tries = 40
	for i := 1; ; i++ {
		err := g.open(ctx, next)
		if err == nil {
			return next, nil
		}
		g.o.logger().Error("tokens cannot be given as the mode has it, and are as before", "registry", next.Registry.URL, "error", err)
		if err = g.open(ctx, former); err == nil {
			return former, nil
		}
		if i == tries || ctx.Err() != nil {
			return nil, err
		}
		time.Sleep(250 * time.Millisecond)
	}
}
