package harbor

import (
	"context"
	"crypto/hmac"
	"slices"
	"time"

	"github.com/ocisync/ocisync/schema"
)

// span is how far apart the second of Harbor's answer and the time that it notes may be
// of one change. What lies further back is of another: somebody put back a backup of
// Harbor, or the clocks differ.
const span = 5 * time.Second

// dated is a secret, by its mark, and a second in which Harbor had it.
type dated struct {
	mark []byte
	asOf time.Time
}

// give sets a robot's secret, and notes as of when the account has it. That is of no use
// where the robot has another account besides: which is the newest may change.
func (s *site) give(ctx context.Context, key schema.Key, a account, secret string, alone bool) error {
	s.p.date(key, dated{}) // whatever comes of it
	_, at, err := s.c.SetSecret(ctx, a.Robot, secret)
	if err != nil || at.IsZero() || !alone {
		return err
	}
	s.p.mu.Lock()
	s.p.settled = time.Now().Add(time.Second)
	s.p.mu.Unlock()
	// The date is that of what stands before Harbor, whose clock may be ahead: then a
	// change that comes later would count as this one.
	bounds := []time.Time{at, s.p.now()}
	if !a.asked.IsZero() && !a.Created.IsZero() {
		bounds = append(bounds, a.Created.Add(time.Since(a.asked)))
	}
	s.p.date(key, dated{s.p.mark(secret), slices.MinFunc(bounds, time.Time.Compare).UTC().Truncate(time.Second)})
	return nil
}

// saw notes of a robot whose secret was tried that it has had it since it was changed
// last. In the second of that somebody may still change it, unless it is over.
func (p *Provider) saw(key schema.Key, list []account, secret string) {
	if len(list) != 1 {
		return
	}
	if at := list[0].Updated; !at.IsZero() && p.now().Sub(at) > span {
		p.date(key, dated{p.mark(secret), at.UTC().Truncate(time.Second)})
	}
}

func (p *Provider) date(key schema.Key, d dated) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dated[key] = d
}

// AsOf implements [providers.Dater] for what the mode gives robots.
func (p *Provider) AsOf(key schema.Key, field, value string) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.dated[key]
	if field != "secret.value" || d.mark == nil || !hmac.Equal(d.mark, p.mark(value)) {
		return time.Time{}
	}
	return d.asOf
}

// Untouched implements [providers.Dater]: Harbor notes of a robot when it was changed
// last, and a new secret is a change.
func (p *Provider) Untouched(key schema.Key, asOf time.Time) bool {
	list, known := p.seenAccounts(key)
	if !known || len(list) != 1 || list[0].undelivered {
		return false
	}
	since := asOf.Sub(list[0].Updated.Truncate(time.Second))
	return since >= 0 && since <= span
}

// settle waits until nobody changes a robot in the second in which this process gave it
// its secret: that change would not be seen.
func (p *Provider) settle(ctx context.Context) error {
	p.mu.Lock()
	rest := time.Until(p.settled)
	p.mu.Unlock()
	select {
	case <-time.After(rest):
	case <-ctx.Done():
	}
	return ctx.Err()
}
