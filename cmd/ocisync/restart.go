package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/runtime"
	"github.com/ocisync/ocisync/pkg/secret"
	"github.com/ocisync/ocisync/schema"
)

func newRestart(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "restart",
		GroupID: "run",
		Short:   "Stop the mode's registry and start it as the mode has it",
		Long: `Restart stops the registry of a mode and starts it as the mode has it now, and
waits until it answers. If it does not get ready so, it is started as it ran
before, and restart fails; a Distribution's config.yml that somebody changed since it
was started is put back for that. One that does not run is started in the background.
` + exitHelp,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.restart(c.Context()) },
	}
	o.modeFlags(cmd)
	o.verboseFlag(cmd, "log what is done")
	return cmd
}

func (o *options) restart(ctx context.Context) error {
	cfg, err := o.config()
	if err != nil {
		return err
	}
	if err := o.inPlace(ctx, cfg); err != nil {
		return err
	}
	r, err := o.runner(cfg)
	if err != nil {
		return err
	}
	out, err := o.orBack(ctx, cfg, r, r.Restart)
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

// orBack has a registry running, or goes back to the files that it ran with before.
func (o *options) orBack(ctx context.Context, cfg *schema.Config, r runner, do func(context.Context) (runtime.Outcome, error)) (runtime.Outcome, error) {
	p, err := o.opened(cfg, r)
	if err != nil {
		return runtime.Outcome{}, err
	}
	goBack, err := reverting(ctx, p, r)
	if err != nil {
		return runtime.Outcome{}, err
	}
	out, err := do(ctx)
	if err != nil {
		return out, goBack(err)
	}
	return out, nil
}

// opened is the provider of a registry that is a program of its own, else nil.
func (o *options) opened(cfg *schema.Config, r runner) (providers.Provider, error) {
	if _, ok := r.(launched); !ok {
		return nil, nil
	}
	host, err := o.host()
	if err != nil {
		return nil, err
	}
	p, err := o.provider(cfg, *host, sendable{Resolver: secret.New(*host, o.getenv, cfg.Dir)})
	if errors.Is(err, providers.ErrUnsupported) { // who starts it says so
		return nil, nil
	}
	return p, err
}

// reverting returns what goes back to the files that a registry runs with now, if
// that does not run any more, for the reason why.
func reverting(ctx context.Context, p providers.Provider, r runner) (goBack func(why error) error, err error) {
	stay := func(why error) error { return why }
	v, ok := p.(providers.Reverter)
	if !ok {
		return stay, nil
	}
	revert, err := v.Revert(ctx)
	if revert == nil || err != nil {
		return stay, err
	}
	return func(why error) error {
		s, err := r.Status(ctx)
		if ctx.Err() != nil || err != nil || s.Running {
			return why
		}
		return revert(why)
	}, nil
}
