package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/secret"
	"github.com/ocisync/ocisync/pkg/state"
	"github.com/ocisync/ocisync/schema"
)

const (
	robotsJob = "robots"
	// lookAgain is how often a registry that is served is asked which robots
	// are due, and how long that waits for another process that renews them.
	lookAgain = time.Minute
	// longPause is as long as a robot that fails may hold up what nobody could
	// foresee.
	longPause = time.Hour
)

// robots renews the robots of a mode, which says where their secrets go:
// `run robots` once, `up` for as long as it serves.
type robots struct {
	o       *options
	cfg     *schema.Config
	renewer providers.Renewer
	host    *schema.Host
	command string // what holds the lock meanwhile
}

func (o *options) robots(cfg *schema.Config, command string) (*robots, error) {
	host, err := o.host()
	if err != nil {
		return nil, err
	}
	p, err := o.provider(cfg, *host, sendable{Resolver: secret.New(*host, o.getenv, cfg.Dir)})
	if err != nil {
		return nil, err
	}
	renewer, ok := p.(providers.Renewer)
	if !ok {
		return nil, codedError{exitRefused, fmt.Errorf("%s: this version renews no robots of a registry of type %s", cfg.Registry.URL, cfg.Registry.Type)}
	}
	return &robots{o: o, cfg: cfg, renewer: renewer, host: host, command: command}, nil
}

// renew renews what is due. Of two processes that would do so one waits, at
// most so long, since a secret must not be delivered after a newer one. It is
// a lock of its own, so that no apply waits for a delivery: what both change
// the registry refuses to one. What failed for single robots is in the list
// alone.
func (r *robots) renew(ctx context.Context, wait time.Duration) (list []providers.Renewal, err error) {
	machine, err := state.NewMachine(*r.host, r.o.getenv)
	if err != nil {
		return nil, err
	}
	registry := plan.Registry{Type: r.cfg.Registry.Type, URL: r.cfg.Registry.URL + "#robots"}
	lock, err := state.Acquire(ctx, machine.Locks(), registry, r.o.holder(r.command, r.cfg.Mode), wait)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	return r.renewer.Renew(ctx, r.cfg.Desired, time.Now())
}

func renewalErrors(list []providers.Renewal) (failed []error) {
	for _, x := range list {
		if x.Err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", x.Key, x.Err))
		}
	}
	return failed
}

// attend returns what [embedded.Options] calls Renew.
func (r *robots) attend(logger *slog.Logger) func(context.Context) (time.Duration, error) {
	seen, noted := r.files(), false
	return func(ctx context.Context) (time.Duration, error) {
		if now := r.files(); !maps.Equal(seen, now) {
			seen = now
			if err := r.reload(); err != nil {
				logger.Error("the mode's files changed and cannot be used; robots are renewed as they were declared before", "mode", r.cfg.Mode, "error", err)
			}
		}
		list, err := r.renewer.Due(ctx, r.cfg.Desired, time.Now())
		if err != nil {
			return lookAgain, err
		}
		again := untilNext(list, lookAgain)
		// once even if nothing is due: it keeps places of which an older version kept none
		if noted && !slices.ContainsFunc(list, func(x providers.Renewal) bool { return x.Login != "" }) {
			return again, nil
		}
		if list, err = r.renew(ctx, lookAgain); err != nil {
			return again, err
		}
		noted = true
		for _, x := range list {
			if x.Err == nil && x.Login != "" {
				r.o.say("renewed %s: account %s was made and its secret delivered", x.Key, x.Login)
			}
		}
		failed := errors.Join(renewalErrors(list)...)
		if failed == nil {
			return time.Second, nil // then it is known what is due next
		}
		// who failed waits ever longer, as the registry has it; the others do not
		if list, err = r.renewer.Due(ctx, r.cfg.Desired, time.Now()); err != nil {
			return lookAgain, errors.Join(failed, err)
		}
		return untilNext(list, longPause), failed
	}
}

// untilNext is how long no robot will be due that is not now, at most so long.
func untilNext(list []providers.Renewal, most time.Duration) time.Duration {
	for _, x := range list {
		if !x.Next.IsZero() {
			most = min(most, time.Until(x.Next))
		}
	}
	return max(most, time.Second)
}

// reload reads the mode anew: what is applied while the registry is served may
// be other robots.
func (r *robots) reload() error {
	cfg, err := r.o.config()
	if err != nil {
		return err
	}
	was, now := r.cfg.Registry, cfg.Registry
	if now.Type != was.Type || now.URL != was.URL || now.Driver() != was.Driver() || now.Run != nil && was.Run != nil && now.Run.Data != was.Run.Data {
		return errors.New("it is of another registry now; start ocisync up anew")
	}
	r.cfg = cfg
	return nil
}

// files is what tells whether the mode's files are others than before.
func (r *robots) files() map[string]string {
	out := map[string]string{}
	for _, dir := range []string{r.cfg.Mode, "common"} {
		names, err := filepath.Glob(filepath.Join(r.o.modes, dir, "*.toml"))
		if err != nil { // of the pattern; then they never change
			continue
		}
		for _, name := range names {
			if f, err := os.Stat(name); err == nil {
				out[name] = fmt.Sprint(f.Size(), f.ModTime())
			}
		}
	}
	return out
}

// renewal is a providers.Renewal as --output json prints it.
type renewal struct {
	Robot string `json:"robot"`
	Login string `json:"login,omitempty"`
	Error string `json:"error,omitempty"`
}

// renewRobots is the job `robots`.
func (o *options) renewRobots(ctx context.Context, cfg *schema.Config) error {
	r, err := o.robots(cfg, "run robots")
	if err != nil {
		return err
	}
	list, err := r.renew(ctx, 0)
	if err != nil {
		return err
	}
	results, made := []renewal{}, 0
	for _, x := range list {
		one := renewal{Robot: x.Key.String(), Login: x.Login}
		switch {
		case x.Err != nil:
			one.Error = x.Err.Error()
		case x.Login != "":
			made++
		}
		results = append(results, one)
	}
	failed := renewalErrors(list)
	if o.json() {
		err = writeJSON(o.out, results)
	} else {
		_, err = fmt.Fprintf(o.out, "robots: %d renewed, %d not due\n", made, len(list)-made-len(failed))
	}
	if len(failed) > 0 {
		code := exitFailed
		if made > 0 {
			code = exitPartly
		}
		return codedError{code, errors.Join(failed...)}
	}
	return err
}
