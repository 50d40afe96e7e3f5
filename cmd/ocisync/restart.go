package main

import (
	"context"

	"github.com/spf13/cobra"
)

func newRestart(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "restart",
		GroupID: "run",
		Short:   "Stop the mode's registry and start it as the mode has it",
		Long: `Restart stops the registry of a mode and starts it as the mode has it now, and
waits until it answers. If it does not get ready so, it is started as it ran
before, and restart fails. One that does not run is started in the background.
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
	out, err := r.Restart(ctx)
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
