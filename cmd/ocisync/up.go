package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/runtime"
	"github.com/ocisync/ocisync/pkg/secret"
	"github.com/ocisync/ocisync/pkg/state"
	"github.com/ocisync/ocisync/schema"
)

func newUp(o *options) *cobra.Command {
	var detach, background bool
	cmd := &cobra.Command{
		Use:     "up",
		GroupID: "run",
		Short:   "Run the mode's registry",
		Long: `Up has the registry of a mode running as registry.run says, and waits until it
answers. One that runs so already is said, and nothing is done; one that runs
otherwise is started anew, and if it does not get ready so, as it ran before.

driver = "embedded": up serves the registry itself, in the foreground until
Ctrl-C. While it runs, plan and apply of other processes on this host reach it
through a socket in its data directory. Up collects garbage and applies retention
by schedule, and renews the mode's robots in time: their new secrets go where the
mode says, and what it did or could not do is logged.

Whatever the driver, up runs the mirrors that were applied by their schedules while it
runs, one after the other and each as ocisync run mirror does, for which it needs the same
secrets. One that fails is said, and tried again at its next time; what was due while up
did not run is not made up for.

driver = "process": up starts registry.run.binary and supervises it, in the
foreground until Ctrl-C: one that dies is started again, later each time, until
it has died five times in five minutes. The program gets no variable of up's
environment. If up is killed, the registry runs on, and the next up takes it over.
Beside a Distribution it gives tokens to its clients, as ocisync auth serve does. It
receives the registry's events, if the mode has webhooks, and tells those. Every
minute it measures the namespaces that have a quota, as ocisync run quota does.
Beside a Zot it ends and renews the mode's robots in time, as ocisync run robots does.

driver = "docker": up makes and starts a container of registry.run.image, pulls
the image if it is missing, and returns: the engine starts again what dies. The
container has a read-only root, no capabilities, a network of its own, and runs as
the owner of registry.run.data, unless that is root. Beside a Distribution it stays,
and gives tokens to its clients until Ctrl-C; with --detach, in the background until
ocisync down. So it does beside a Zot whose mode has quotas, webhooks, mirrors with a
schedule, or robots that expire or are renewed, and sees to those in time. The events
for webhooks it receives at this host's address in the container's network.

A new registry has no accounts: apply the mode, after up, or before it with --new.
` + exitHelp,
		Example: "  ocisync up --mode local\n  ocisync up --mode dev --detach",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			command := commandUp
			if background {
				command = commandBehind
			}
			return o.up(c.Context(), detach, command)
		},
	}
	o.modeFlags(cmd)
	o.verboseFlag(cmd, "log every request that fails, and why")
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "run it in the background, and return when it is ready")
	cmd.Flags().BoolVar(&background, "background", false, "what --detach starts")
	if err := cmd.Flags().MarkHidden("background"); err != nil {
		panic(err) //nolint:forbidigo // the flag is not there: a mistake in this package, on every run
	}
	return cmd
}

// up runs the mode's registry; command is what this process is called.
func (o *options) up(ctx context.Context, detach bool, command string) error {
	cfg, err := o.config()
	if err != nil {
		return err
	}
	if err := o.inPlace(ctx, cfg); err != nil {
		return err
	}
	if command == commandBehind {
		go runtime.KeepLog(ctx, (&served{o, cfg}).log(), o.logger())
	}
	if cfg.Registry.Driver() == schema.DriverEmbedded && !detach {
		return o.serve(ctx, cfg, command)
	}
	r, err := o.runner(cfg)
	if err != nil {
		return err
	}
	if p, ok := r.(*runtime.Process); ok && !detach {
		supervise := func(ctx context.Context) error {
			return p.Supervise(ctx, command, func(s runtime.Status, out runtime.Outcome) {
				o.tellOutcome(cfg, s, out)
				o.say("process %d, log in %s; Ctrl-C stops it", s.PID, s.Log)
				context.AfterFunc(ctx, func() { o.say("stopping") })
			})
		}
		err := o.beside(ctx, cfg, command, func(ctx context.Context) error {
			return o.attended(ctx, cfg, supervise)
		})
		if err == nil {
			o.say("stopped")
		}
		if !errors.Is(err, runtime.ErrSupervised) {
			return err
		}
	}
	if tokensBeside(cfg) && !detach {
		return o.upGiving(ctx, cfg, r, command)
	}
	if err := o.upOnce(ctx, cfg, r); err != nil {
		return err
	}
	if takesTokens(cfg) && !tokensBeside(cfg) {
		return (&served{o, cfg}).given(ctx)
	}
	if !tokensBeside(cfg) && !standsBeside(cfg) {
		return nil
	}
	if b := (&beside{o, cfg}); standsBeside(cfg) && detach {
		return b.behind(ctx)
	} else if standsBeside(cfg) {
		return b.stand(ctx, command)
	}
	_, err = (&served{o, cfg}).Up(ctx)
	return err
}

// upOnce has a registry running in the background.
func (o *options) upOnce(ctx context.Context, cfg *schema.Config, r runner) error {
	out, err := o.orBack(ctx, cfg, r, r.Up)
	if err != nil {
		return err
	}
	s, err := r.Status(ctx)
	if err != nil {
		return err
	}
	o.tellOutcome(cfg, s, out)
	return nil
}

// takesTokens reports whether the clients of a registry that ocisync runs get
// tokens from it.
func takesTokens(cfg *schema.Config) bool {
	r := cfg.Registry
	return r.Type == schema.TypeDistribution && r.Driver() != schema.DriverEmbedded && (r.Files == nil || r.Files.Htpasswd == "")
}

// tokensBeside reports whether a registry that nothing of ocisync's stands
// beside needs tokens from it.
func tokensBeside(cfg *schema.Config) bool {
	return takesTokens(cfg) && cfg.Registry.Driver() == schema.DriverDocker
}

// upGiving has a container running and gives its clients tokens until the
// context is done, unless another process does.
func (o *options) upGiving(ctx context.Context, cfg *schema.Config, r runner, command string) error {
	tokens, err := o.giver(ctx, cfg, command)
	if errors.Is(err, embedded.ErrHeld) {
		o.sayGiven(ctx, cfg, err)
		return o.upOnce(ctx, cfg, r)
	}
	if err != nil {
		return err
	}
	err = tokens.beside(ctx, cfg, func(ctx context.Context) error {
		if err := o.upOnce(ctx, cfg, r); err != nil {
			return err
		}
		o.say("giving tokens for %s at %s; Ctrl-C stops that, and the container runs on", cfg.Registry.URL, tokens.addr())
		return o.attended(ctx, cfg, untilDone)
	})
	if err == nil {
		o.say("stopped giving tokens")
	}
	return err
}

// untilDone is work that takes as long as it may.
func untilDone(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// tellOutcome says what was done to have a registry running.
func (o *options) tellOutcome(cfg *schema.Config, s runtime.Status, out runtime.Outcome) {
	for _, d := range out.Changed {
		o.say("changed %s", d)
	}
	where := s.Detail
	if s.PID != 0 {
		where = fmt.Sprintf("process %d", s.PID)
	}
	switch {
	case out.Already:
		o.say("%s runs already: %s since %s", cfg.Registry.URL, where, moment(s.Started))
	case out.Adopted:
		o.say("%s ran already, and is supervised again: %s since %s", cfg.Registry.URL, where, moment(s.Started))
	default:
		o.say("%s is ready: %s, data in %s", cfg.Registry.URL, where, cfg.Registry.Run.Data)
	}
}

// moment writes a time for people.
func moment(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// known refuses to serve the rules of another user that were never applied.
func (o *options) known(cfg *schema.Config) error {
	host, err := o.host()
	if err != nil {
		return err
	}
	m, err := state.NewMachine(*host, o.getenv)
	if err != nil {
		return err
	}
	id := state.Identity{Mode: cfg.Mode, Registry: plan.Registry{Type: cfg.Registry.Type, URL: cfg.Registry.URL}}
	return acquainted(m, id, cfg.Registry.Run)
}

// serve runs the embedded registry in this process until the context is done.
func (o *options) serve(ctx context.Context, cfg *schema.Config, command string) (err error) {
	if err := o.known(cfg); err != nil {
		return err
	}
	listen, err := listenAddress(cfg)
	if err != nil {
		return err
	}
	robots, err := o.robots(cfg, "up (renewing robots)")
	if err != nil {
		return err
	}
	opts := embedded.Options{
		Data: cfg.Registry.Run.Data, Listen: listen, URL: cfg.Registry.URL, Version: version, Command: command,
		Outside: access.Outside(cfg.Policy.Outside), Logger: o.logger(),
		Renew: robots.attend(o.logger()),
	}
	if t := cfg.Registry.TLS; t != nil && t.Cert != nil && t.Key != nil {
		opts.TLSCert, opts.TLSKey = *t.Cert, *t.Key
	}
	if b := cfg.Registry.Run.Storage; b != nil {
		host, err := o.host()
		if err != nil {
			return err
		}
		opts.Bucket = embedded.Bucket{Storage: b, Secret: secret.New(*host, o.getenv, cfg.Dir).Resolve}
	}
	if v := o.env("GOGC"); v == "" {
		debug.SetGCPercent(usualGC)
	}
	r, err := embedded.Open(ctx, opts)
	if errors.Is(err, embedded.ErrNotBuilt) || errors.Is(err, embedded.ErrOwned) {
		return codedError{exitRefused, err}
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	// what the mode and the state took while they were read
	debug.FreeOSMemory()
	content := ""
	if opts.Bucket.Storage != nil {
		content = ", content in " + opts.Bucket.String()
	}
	o.say("serving %s at %s, data in %s%s; Ctrl-C stops it", cfg.Registry.URL, r.Addr(), opts.Data, content)
	told := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(told)
		o.say("stopping when the requests in flight are done; a second Ctrl-C cuts them off")
	})
	if err := o.byTime(ctx, cfg, []providers.Attendant{o.scheduled(cfg)}, r.Serve); err != nil {
		return err
	}
	<-told
	o.say("stopped")
	return nil
}

// listenAddress is where the mode's embedded registry is to listen.
func listenAddress(cfg *schema.Config) (string, error) {
	if listen := cfg.Registry.Run.Listen; listen != "" {
		return listen, nil
	}
	u, err := url.Parse(cfg.Registry.URL)
	if err != nil {
		return "", err
	}
	return u.Host, nil
}
