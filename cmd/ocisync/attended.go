package main

import (
	"context"
	"sync"
	"time"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// firstAttend is how long a registry that is being started is left alone.
const firstAttend = 2 * time.Second

// attended does, beside work and for as long as that takes, what a registry needs
// by time and does not do itself, such as measuring quotas, renewing robots, and
// running mirrors by their schedules.
func (o *options) attended(ctx context.Context, cfg *schema.Config, work func(context.Context) error) error {
	p, err := o.openRegistry(cfg)
	if err != nil {
		return err
	}
	var list []providers.Attendant
	if a, ok := p.(providers.Attendant); ok {
		list = append(list, a)
	}
	if _, ok := p.(providers.RobotsAreUsers); ok { // of others the registry, or its token service, renews them
		r, err := o.robots(cfg, commandUp+" (renewing robots)")
		if err != nil {
			return err
		}
		list = append(list, attendFunc(r.attend(o.logger())))
	}
	return o.byTime(ctx, cfg, append(list, o.scheduled(cfg)), work)
}

// byTime has each of a list do what is due, beside work and for as long as that takes.
func (o *options) byTime(ctx context.Context, cfg *schema.Config, list []providers.Attendant, work func(context.Context) error) error {
	attending, end := context.WithCancel(ctx)
	var done sync.WaitGroup
	for _, a := range list {
		done.Go(func() { o.attend(attending, cfg.Registry.URL, a, firstAttend) })
	}
	err := work(ctx)
	end()
	done.Wait()
	return err
}

// attendFunc is a [providers.Attendant].
type attendFunc func(context.Context) (time.Duration, error)

// Attend calls it.
func (f attendFunc) Attend(ctx context.Context) (time.Duration, error) { return f(ctx) }

// attend says of an error that comes again and again only that it has begun.
func (o *options) attend(ctx context.Context, registry string, a providers.Attendant, again time.Duration) {
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(again):
		}
		var err error
		again, err = a.Attend(ctx)
		now := ""
		if err != nil && ctx.Err() == nil {
			now = err.Error()
		}
		if now != "" && now != said {
			o.logger().Error("what is done by time could not be done, and is tried again", "registry", registry, "error", err)
		}
		said = now
	}
}
