package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

func newDown(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "down",
		GroupID: "run",
		Short:   "Stop the mode's registry",
		Long: `Down stops the registry of a mode, whoever started it on this host: requests in
flight are let finish as far as the registry does that. Of driver docker the
container is removed, and the network that was made for it. Data, and the
registry's configuration and log, stay. A registry that does not run is a success; one
that runs on another host is not stopped, and refused.
` + exitHelp,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.down(c.Context()) },
	}
	o.modeFlags(cmd)
	o.verboseFlag(cmd, "log what is done")
	return cmd
}

func (o *options) down(ctx context.Context) error {
	cfg, err := o.config()
	if err != nil {
		return err
	}
	r, err := o.runner(cfg)
	if err != nil {
		return err
	}
	s, err := r.Status(ctx)
	if err != nil {
		return err
	}
	if !s.Running {
		if err := o.elsewhere(ctx, cfg); err != nil {
			return err
		}
	}
	if tokensBeside(cfg) { // first, so that no job of theirs is at the registry
		if err := (&served{o, cfg}).stopGiving(ctx); err != nil {
			return err
		}
	}
	if canStandBeside(cfg) {
		if err := (&beside{o, cfg}).leave(ctx); err != nil {
			return err
		}
	}
	if err := r.Down(ctx); err != nil {
		return err
	}
	if s.Running {
		o.say("%s is stopped; its data is in %s", cfg.Registry.URL, cfg.Registry.Run.Data)
	} else {
		o.say("%s did not run", cfg.Registry.URL)
	}
	return nil
}

// inPlace refuses a registry that runs on this host with its data elsewhere than the
// mode says, before anything is made where the mode has it.
func (o *options) inPlace(ctx context.Context, cfg *schema.Config) error {
	if d := cfg.Registry.Driver(); d != schema.DriverProcess && d != schema.DriverDocker {
		return nil
	}
	p, err := o.openRegistry(cfg)
	if err != nil {
		return err
	}
	if h, ok := p.(providers.Hosted); ok {
		if _, err := h.Where(ctx); errors.Is(err, providers.ErrDisplaced) {
			return err
		}
	}
	return ctx.Err()
}

// elsewhere says that a registry of a program is not this host's to stop: it answers,
// and nothing of it is here.
func (o *options) elsewhere(ctx context.Context, cfg *schema.Config) error {
	if cfg.Registry.Driver() == schema.DriverEmbedded {
		return nil
	}
	p, err := o.openRegistry(cfg)
	if err != nil {
		return err
	}
	h, ok := p.(providers.Hosted)
	if !ok {
		return nil
	}
	where, err := h.Where(ctx)
	if errors.Is(err, providers.ErrDisplaced) {
		return err
	}
	if err != nil || where != providers.Away {
		return ctx.Err() // whatever answers there is not it
	}
	return codedError{exitRefused, fmt.Errorf("%s answers, and nothing of it is on this host: it runs on another one, or somebody else runs it; run ocisync down there", cfg.Registry.URL)}
}
