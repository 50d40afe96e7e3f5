package zot

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/files"
	"github.com/ocisync/ocisync/pkg/providers/htpasswd"
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

const (
	// defaultOverlap is how long the old account of a robot works beside the
	// new one where the mode does not say.
	defaultOverlap = schema.Duration(3600)
	// defaultNotice is how long before its end an account is spoken of where
	// the mode does not say when it is renewed.
	defaultNotice = schema.Duration(14 * 86400)
)

var (
	_ providers.Renewer  = (*Provider)(nil)
	_ providers.Remarker = (*Provider)(nil)
)

func notice(want *schema.Robot) time.Duration {
	if want.Renew != nil {
		return max(0, *want.Renew).Std()
	}
	return defaultNotice.Std()
}

func delivered(want *schema.Robot) *schema.Delivery {
	if want.Secret == nil {
		return nil
	}
	return want.Secret.Deliver
}

// Remarks implements [providers.Remarker]: robots of the desired state whose
// account has expired or soon will.
func (p *Provider) Remarks(ctx context.Context, desired schema.State, now time.Time) ([]plan.Note, error) {
	if away, err := p.away(ctx); err != nil || away || !slices.Contains(desired.Kinds(), schema.KindRobot) {
		return nil, err
	}
	o, err := p.ownFile()
	if err != nil {
		return nil, p.unreadable(err)
	}
	kept := o.kept()
	var notes []plan.Note
	for _, r := range desired.Resources {
		want, ok := r.Spec.(*schema.Robot)
		have, was := kept[r.Key].(*schema.Robot)
		current, there := newest(o.Robots[r.Key.String()])
		if !ok || !was || !there {
			continue
		}
		end := current.expires(have)
		how := "apply a new secret.value before"
		if delivered(want) != nil {
			how = "`ocisync run robots` renews it"
		}
		switch {
		case end.IsZero() || now.Before(end.Add(-notice(want))):
		case now.Before(end):
			notes = append(notes, plan.Note{Key: r.Key, Text: fmt.Sprintf("account %s expires on %s; %s", current.Login, end.UTC().Format(time.DateOnly), how)})
		default:
			notes = append(notes, plan.Note{Key: r.Key, Text: fmt.Sprintf("account %s expired on %s; %s", current.Login, end.UTC().Format(time.DateOnly), how)})
		}
	}
	return notes, nil
}

// Due implements [providers.Renewer].
func (p *Provider) Due(ctx context.Context, desired schema.State, now time.Time) ([]providers.Renewal, error) {
	if away, err := p.away(ctx); err != nil {
		return nil, err
	} else if away {
		return nil, p.fail(schema.Key{}, "", p.elsewhere(), "")
	}
	o, err := p.ownFile()
	if err != nil {
		return nil, p.unreadable(err)
	}
	return renewals(o, desired, now), nil
}

// renewals lists the desired robots whose secret is delivered.
func renewals(o own, desired schema.State, now time.Time) (out []providers.Renewal) {
	kept := o.kept()
	for _, r := range desired.Resources {
		want, ok := r.Spec.(*schema.Robot)
		have, was := kept[r.Key].(*schema.Robot)
		if !ok || !was || delivered(want) == nil {
			continue
		}
		run := providers.Renewal{Key: r.Key}
		run.Login, run.Next = due(r.Key, o.Robots[r.Key.String()], have, want, now)
		out = append(out, run)
	}
	return out
}

// due names the account to make, or "" and when one will be.
func due(key schema.Key, accounts []account, have, want *schema.Robot, now time.Time) (login string, next time.Time) {
	logins := robotLogins(key)
	if i := slices.IndexFunc(accounts, func(a account) bool { return !a.Delivered }); i >= 0 { // nobody may know its secret
		return accounts[i].Login, next
	}
	current, ok := newest(accounts)
	if !ok {
		return logins[0], next
	}
	end := current.expires(have)
	if end.IsZero() {
		return "", next
	}
	if from := end.Add(-notice(want)); now.Before(from) {
		return "", from
	}
	other := logins[0]
	if current.Login == other {
		other = logins[1]
	}
	for _, a := range accounts { // still in use beside the current one
		if a.Login == other && now.Before(a.Ends) && now.Before(end) {
			return "", a.Ends
		}
	}
	return other, next
}

// Renew implements [providers.Renewer], the job `robots`. Accounts that have
// ended leave the htpasswd file. A new account is made, then delivered, then
// acknowledged; from then on the old one works for overlap. Run again, it
// delivers another secret for what was not acknowledged. It never leaves more
// than the two accounts.
func (p *Provider) Renew(ctx context.Context, desired schema.State, now time.Time) ([]providers.Renewal, error) {
	if away, err := p.away(ctx); err != nil {
		return nil, err
	} else if away {
		return nil, p.fail(schema.Key{}, "", p.elsewhere(), "")
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	_, s, _, err := p.begin(ctx)
	if err != nil {
		return nil, err
	}
	if s.own.Robots == nil {
		s.own.Robots = map[string][]account{}
	}
	b := &book{p: p, s: s, pass: htpasswd.Parse(s.accounts)}
	if err := b.sweep(now); err != nil {
		return nil, p.fail(schema.Key{}, "renewing robots", err, "")
	}
	out := renewals(s.own, desired, now)
	for i, r := range out {
		if r.Login == "" {
			continue
		}
		d, _ := desired.Get(r.Key)
		want, _ := d.Spec.(*schema.Robot)
		if err := b.renew(ctx, r.Key, want, r.Login, now); err != nil {
			out[i].Err = p.fail(r.Key, "renewing", err, "")
		}
	}
	return out, nil
}

// book is the accounts of robots while they are renewed.
type book struct {
	p    *Provider
	s    *site
	pass *htpasswd.File
}

// save writes what ocisync keeps, then the accounts.
func (b *book) save() error {
	if err := b.s.own.save(b.p.paths.own); err != nil {
		return err
	}
	next := b.pass.Bytes()
	if files.Equal(next, b.s.accounts) {
		return nil
	}
	if err := b.p.write(b.s, texts{accounts: next}); err != nil {
		return err
	}
	b.s.accounts = next
	return nil
}

// sweep takes out accounts that no longer work.
func (b *book) sweep(now time.Time) error {
	kept := b.s.own.kept()
	changed := false
	for name, accounts := range b.s.own.Robots {
		key, err := schema.ParseKey(name)
		if err != nil {
			continue
		}
		spec, ok := kept[key].(*schema.Robot)
		for _, a := range accounts {
			if ok && a.works(spec, now) {
				continue
			}
			changed = b.pass.Remove(a.Login) || changed
		}
	}
	if !changed {
		return nil
	}
	return b.save()
}

func (b *book) renew(ctx context.Context, key schema.Key, want *schema.Robot, login string, now time.Time) error {
	secret := rand.Text() + rand.Text()
	hash, err := b.p.hash(secret)
	if err != nil {
		return err
	}
	name := key.String()
	others := slices.DeleteFunc(slices.Clone(b.s.own.Robots[name]), func(a account) bool {
		return a.Login == login || !a.Ends.IsZero() && !now.Before(a.Ends)
	})
	made := account{Login: login, Made: now.UTC().Truncate(time.Second), Hash: hash}
	put := func() error {
		b.s.own.Robots[name] = append(slices.Clone(others), made)
		return b.save()
	}
	if err := b.pass.Set(login, hash); err != nil {
		return err
	}
	if err := put(); err != nil {
		return err
	}
	if err := b.p.deliver(ctx, key, *delivered(want), login, secret); err != nil {
		return err
	}
	overlap := defaultOverlap
	if want.Overlap != nil {
		overlap = max(0, *want.Overlap)
	}
	made.Delivered = true
	end := now.Add(overlap.Std()).UTC().Truncate(time.Second)
	for i := range others {
		if others[i].Ends.IsZero() || end.Before(others[i].Ends) {
			others[i].Ends = end
		}
		if !now.Before(others[i].Ends) {
			b.pass.Remove(others[i].Login)
		}
	}
	return put()
}
