package main

import (
	"context"

	"github.com/spf13/cobra"
)

func newDown(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "down",
		GroupID: "run",
		Short:   "Stop the mode's registry",
		Long: `Down stops the registry of a mode, whoever started it on this host: requests in
flight are let finish as far as the registry does that. Of driver docker the
container is removed, and the network that was made for it. Data, and the
registry's configuration and log, stay. A registry that does not run is a success.
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
