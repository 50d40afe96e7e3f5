package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/secret"
	"github.com/ocisync/ocisync/schema"
)

func newUp(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "up",
		GroupID: "run",
		Short:   "Run the mode's registry until Ctrl-C",
		Long: `Up serves the embedded registry of a mode (registry.run.driver = "embedded") in
the foreground. While it runs, plan and apply of other processes on this host
reach it through a socket in its data directory. Up collects garbage and applies
retention by schedule, and renews the mode's robots in time: their new secrets go
where the mode says, and what it did or could not do is logged.

A new registry has no accounts: apply the mode, before or after up.
` + exitHelp,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.up(c.Context()) },
	}
	o.modeFlags(cmd)
	o.verboseFlag(cmd, "log every request that fails, and why")
	return cmd
}

func (o *options) up(ctx context.Context) (err error) {
	cfg, err := o.config()
	if err != nil {
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
		Data: cfg.Registry.Run.Data, Listen: listen, URL: cfg.Registry.URL, Version: version, Command: "ocisync up",
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
	if err := r.Serve(ctx); err != nil {
		return err
	}
	<-told
	o.say("stopped")
	return nil
}

// listenAddress is where the mode's registry is to listen. It is an error that
// somebody else runs it.
func listenAddress(cfg *schema.Config) (string, error) {
	switch driver := cfg.Registry.Driver(); driver {
	case schema.DriverEmbedded:
	case "":
		return "", codedError{exitRefused, fmt.Errorf("mode %s: somebody else runs this registry: the mode has no registry.run; to have ocisync run one, write driver = %q there", cfg.Mode, schema.DriverEmbedded)}
	default:
		return "", codedError{exitRefused, fmt.Errorf("mode %s: registry.run.driver is %q, and this version runs %q only", cfg.Mode, driver, schema.DriverEmbedded)}
	}
	if listen := cfg.Registry.Run.Listen; listen != "" {
		return listen, nil
	}
	u, err := url.Parse(cfg.Registry.URL)
	if err != nil {
		return "", err
	}
	return u.Host, nil
}
