package zot

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// Deliverer takes the secret that was made for a robot to where the mode says.
// It is satisfied by secret.Resolver.
type Deliverer interface {
	// Deliver returns once the secret is there.
	Deliver(ctx context.Context, d schema.Delivery, user, secret, registryHost string) error
}

func (p *Provider) deliver(ctx context.Context, key schema.Key, to schema.Delivery, login, secret string) error {
	d, ok := p.secrets.(Deliverer)
	if !ok {
		return p.fail(key, "secret.deliver", fmt.Errorf("this command delivers no secrets: %w", providers.ErrUnsupported), "")
	}
	if err := d.Deliver(ctx, to, login, secret, p.url.Host); err != nil {
		return fmt.Errorf("%s: secret.deliver: %w", key, err)
	}
	return nil
}

// account makes the first account of a robot, or, with a given secret that
// changed, another in its place. A secret that was made is delivered first. One
// that is in use is left alone.
func (w *writer) account(ctx context.Context, c plan.Change, secret prepared) error {
	spec, ok := c.After.Spec.(*schema.Robot)
	if !ok || spec.Secret == nil {
		return nil
	}
	name := c.Key.String()
	login := robotLogins(c.Key)[0]
	put := func(hash string) {
		list := slices.DeleteFunc(slices.Clone(w.own.Robots[name]), func(a account) bool { return a.Login == login || a.Ends.IsZero() })
		w.own.Robots[name] = append(list, account{Login: login, Made: w.s.now.UTC().Truncate(time.Second), Delivered: true, Hash: hash})
	}
	switch {
	case secret.hash != "":
		for _, a := range robotLogins(c.Key) {
			w.pass.Remove(a)
		}
		put(secret.hash)
	case spec.Secret.Deliver != nil && c.Action != plan.Update && len(w.own.Robots[name]) == 0:
		made := rand.Text() + rand.Text()
		hash, err := w.p.hash(made)
		if err != nil {
			return err
		}
		if err := w.p.deliver(ctx, c.Key, *spec.Secret.Deliver, login, made); err != nil {
			return err
		}
		put(hash)
	}
	return nil
}
