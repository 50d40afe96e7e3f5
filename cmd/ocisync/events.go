package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"

	"github.com/ocisync/ocisync/pkg/webhook"
	"github.com/ocisync/ocisync/schema"
)

// heard is a provider whose registry posts its events to ocisync, which tells
// webhooks of them.
type heard interface {
	// Receiver is nil where it does not.
	Receiver(*slog.Logger) (*webhook.Receiver, error)
}

// beside does for as long as work takes what a registry that ocisync supervises
// needs beside it: tokens for its clients, or somebody who hears its events.
func (o *options) beside(ctx context.Context, cfg *schema.Config, command string, work func(context.Context) error) error {
	if cfg.Registry.Type == schema.TypeDistribution {
		return o.withTokens(ctx, cfg, command, work)
	}
	p, err := o.openRegistry(cfg)
	if err != nil {
		return err
	}
	h, ok := p.(heard)
	if !ok {
		return work(ctx)
	}
	in, err := h.Receiver(o.logger())
	if in == nil || err != nil {
		return errors.Join(err, work(ctx))
	}
	var running sync.WaitGroup
	hearing, end := context.WithCancel(context.WithoutCancel(ctx)) // what the registry says last counts
	running.Go(func() { in.Run(hearing) })
	defer running.Wait()
	defer end()
	return work(ctx)
}

// hears says in a few words who hears a registry's events, and what waits for its
// webhooks; "" where it has none. It is an error if nobody does.
func hears(ctx context.Context, cfg *schema.Config) (string, error) {
	driver := cfg.Registry.Driver()
	if driver != schema.DriverProcess && driver != schema.DriverDocker {
		return "", nil
	}
	data, err := filepath.Abs(cfg.Registry.Run.Data)
	if err != nil {
		return "", err
	}
	box, err := webhook.ReadInbox(webhook.InboxFile(data))
	if err != nil || box.Listen == "" {
		return "", err
	}
	said, err := webhook.Ask(ctx, box)
	if err != nil {
		return "", err
	}
	n := 0
	for _, more := range said.Waiting {
		n += more
	}
	last := "none came since " + moment(said.Since)
	switch {
	case !said.Last.IsZero():
		last = "the last at " + moment(said.Last)
	case driver == schema.DriverDocker:
		last += " (if anything was pushed, let this host's firewall take TCP from the registry's network to port " + box.Listen[strings.LastIndex(box.Listen, ":")+1:] + ")"
	}
	return fmt.Sprintf("events are received at %s, %s; %d deliveries wait", box.Listen, last, n), nil
}
