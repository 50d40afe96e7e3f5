package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	registry "github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

const (
	// defaultOverlap is how long the old account of a robot works beside the
	// new one where the mode does not say.
	defaultOverlap = schema.Duration(3600)
	// defaultNotice is how long before its end an account is spoken of where
	// the mode does not say when it is renewed.
	defaultNotice = schema.Duration(14 * 86400)
)

// Deliverer takes the secret that was made for a robot to where the mode says.
// It is satisfied by secret.Resolver.
type Deliverer interface {
	// Deliver returns once the secret is there.
	Deliver(ctx context.Context, d schema.Delivery, user, secret, registryHost string) error
}

// delivery is where a robot's secret goes; nil where the mode gives the secret.
func delivery(spec *schema.Robot) *schema.Delivery {
	if spec.Secret == nil {
		return nil
	}
	return spec.Secret.Deliver
}

// account makes the first account of a robot, or, with a given secret that
// changed, another in its place. A secret that was made is delivered first:
// whoever is told of the robot then finds it. One that is in use is left alone.
func (p *Provider) account(ctx context.Context, a admin, c plan.Change, spec *schema.Robot) (*registry.AccountChange, error) {
	made := c.Action == plan.Create || c.Action == plan.Replace
	changed := slices.ContainsFunc(c.Fields, func(f plan.Field) bool { return f.Path == "secret.value" })
	if spec.Secret == nil || !made && !changed {
		return nil, nil
	}
	login := registry.RobotLogins(c.Key)[0]
	if ref := spec.Secret.Value; ref != nil {
		secret, err := p.secrets.Resolve(ctx, *ref)
		if err != nil {
			return nil, fmt.Errorf("%s: secret.value: %w", c.Key, err)
		}
		hash, err := registry.HashPassword(secret, p.cost)
		if err != nil {
			return nil, p.failure("", fmt.Errorf("%s: secret.value: %w", c.Key, kinded{err, providers.ErrInvalid}))
		}
		return &registry.AccountChange{Login: login, Hash: hash, Delivered: true, Place: schema.GivenPlace}, nil
	}
	if to := delivery(spec); to != nil && made {
		live, err := a.State(ctx, []schema.Kind{schema.KindRobot})
		if err != nil {
			return nil, p.failure("reading robots", err)
		}
		if slices.ContainsFunc(live.Robots, func(r registry.RobotStatus) bool { return r.Key == c.Key && len(r.Accounts) > 0 }) {
			return nil, nil
		}
		secret := rand.Text() + rand.Text()
		if err := p.deliver(ctx, c.Key, *to, login, secret); err != nil {
			return nil, err
		}
		hash, err := registry.HashPassword(secret, p.cost)
		return &registry.AccountChange{Login: login, Hash: hash, Digest: registry.SecretDigest(secret), Delivered: true, Place: spec.Place()}, err
	}
	return nil, nil
}

func (p *Provider) deliver(ctx context.Context, key schema.Key, to schema.Delivery, login, secret string) error {
	d, ok := p.secrets.(Deliverer)
	if !ok {
		return p.failure("", fmt.Errorf("%s: secret.deliver: this command delivers no secrets: %w", key, providers.ErrUnsupported))
	}
	if err := d.Deliver(ctx, to, login, secret, p.host); err != nil {
		return fmt.Errorf("%s: secret.deliver: %w", key, err)
	}
	return nil
}

// Remarks implements [providers.Remarker]: robots of the desired state whose
// account has expired or soon will.
func (p *Provider) Remarks(ctx context.Context, desired schema.State, now time.Time) ([]plan.Note, error) {
	if !slices.Contains(desired.Kinds(), schema.KindRobot) {
		return nil, nil
	}
	robots, err := p.inUse(ctx, desired)
	if err != nil {
		return nil, err
	}
	var notes []plan.Note
	for _, r := range robots {
		want, have, current := r.want, r.have, r.account
		end := current.Expires(have)
		how := "apply a new secret.value"
		if delivery(want) != nil {
			how = "`ocisync up` renews it while it serves the registry, `ocisync run robots` at once"
			if elsewhere(current, want) {
				notes = append(notes, plan.Note{Key: r.key, Text: "its secret was not delivered to where secret.deliver says now; `ocisync up` delivers a new one while it serves the registry, `ocisync run robots` at once"})
			}
		}
		switch {
		case current.Ended:
			notes = append(notes, plan.Note{Key: r.key, Text: fmt.Sprintf("account %s expired on %s; %s", current.Login, end.UTC().Format(time.DateOnly), how)})
		case !end.IsZero() && current.Ahead(now.Add(24*time.Hour)):
			notes = append(notes, plan.Note{Key: r.key, Text: fmt.Sprintf("account %s was made on %s, which is to come: a clock was or is wrong, and it would work longer than expires says; %s", current.Login, current.Made.UTC().Format(time.DateOnly), how)})
		case end.IsZero() || now.Before(end.Add(-ahead(want, have))):
		case now.Before(end):
			notes = append(notes, plan.Note{Key: r.key, Text: fmt.Sprintf("account %s expires on %s; %s", current.Login, end.UTC().Format(time.DateOnly), how)})
		default:
			notes = append(notes, plan.Note{Key: r.key, Text: fmt.Sprintf("account %s expired on %s; %s", current.Login, end.UTC().Format(time.DateOnly), how)})
		}
	}
	return notes, nil
}

// elsewhere reports whether an account's secret is known to have gone to another
// place than it belongs to now.
func elsewhere(a registry.RobotAccount, want *schema.Robot) bool {
	return a.Place != "" && a.Place != want.Place()
}

// ahead is how long before its end a plan speaks of an account: days, or a
// quarter of its life, even if it is renewed later.
func ahead(want, have *schema.Robot) time.Duration {
	const most = 7 * 24 * time.Hour
	life := time.Duration(0)
	if have.Expires != nil {
		life = seconds(*have.Expires)
	}
	return max(seconds(notice(want)), min(most, life/4))
}

func notice(want *schema.Robot) schema.Duration {
	if want.Renew != nil {
		return *want.Renew
	}
	return defaultNotice
}

func seconds(d schema.Duration) time.Duration { return time.Duration(max(0, d)) * time.Second }

func robotOf(list []schema.Resource, key schema.Key) *schema.Robot {
	i := slices.IndexFunc(list, func(r schema.Resource) bool { return r.Key == key })
	if i < 0 {
		return nil
	}
	spec, _ := list[i].Spec.(*schema.Robot)
	return spec
}

// newest is the account that no other has taken the place of and whose secret
// was delivered.
func newest(r registry.RobotStatus) (registry.RobotAccount, bool) {
	i := slices.IndexFunc(r.Accounts, func(a registry.RobotAccount) bool { return a.Delivered && a.Ends.IsZero() })
	if i < 0 {
		return registry.RobotAccount{}, false
	}
	return r.Accounts[i], true
}

// inUse is a robot that is wanted and there, with its newest account.
type inUse struct {
	key        schema.Key
	want, have *schema.Robot
	account    registry.RobotAccount
}

func (p *Provider) inUse(ctx context.Context, desired schema.State) (out []inUse, err error) {
	a, err := p.reach(ctx)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	live, err := a.State(ctx, []schema.Kind{schema.KindRobot})
	if err != nil {
		return nil, p.failure("reading robots", err)
	}
	for _, r := range live.Robots {
		x := inUse{key: r.Key, want: robotOf(desired.Resources, r.Key), have: robotOf(live.Objects, r.Key)}
		current, ok := newest(r)
		if x.want != nil && x.have != nil && ok {
			x.account = current
			out = append(out, x)
		}
	}
	return out, nil
}

// Accounts implements [providers.Issuer].
func (p *Provider) Accounts(ctx context.Context, desired schema.State) ([]providers.Account, error) {
	robots, err := p.inUse(ctx, desired)
	if err != nil {
		return nil, err
	}
	var out []providers.Account
	for _, r := range robots {
		out = append(out, providers.Account{Key: r.key, Login: r.account.Login, Expires: r.account.Expires(r.have)})
	}
	slices.SortFunc(out, func(a, b providers.Account) int { return a.Key.Compare(b.Key) })
	return out, nil
}

// Due implements [providers.Renewer].
func (p *Provider) Due(ctx context.Context, desired schema.State, now time.Time) ([]providers.Renewal, error) {
	return p.renewals(ctx, desired, now, nil)
}

// Renew implements [providers.Renewer], the job `robots`. A new account is
// made, then delivered, then acknowledged; from then on the old one works for
// overlap. Run again, it delivers again what was not acknowledged: the same
// secret while this process lives and half of the secret's life is left, else
// another, beside which the former works until then, or until it expires, since
// it may have arrived. It never leaves more than the two accounts.
func (p *Provider) Renew(ctx context.Context, desired schema.State, now time.Time) ([]providers.Renewal, error) {
	p.renewing.Lock()
	defer p.renewing.Unlock()
	return p.renewals(ctx, desired, now, p.renew)
}

// renewals lists the desired robots whose secret is delivered, and has those
// that are due renewed.
func (p *Provider) renewals(ctx context.Context, desired schema.State, now time.Time,
	renew func(context.Context, admin, robot) providers.Renewal,
) ([]providers.Renewal, error) {
	a, err := p.reach(ctx)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	if renew != nil { // what has ended is written down, even if nothing is due
		if _, err := a.Change(context.WithoutCancel(ctx), nil); err != nil {
			return nil, p.failure("ending accounts of robots", err)
		}
	}
	live, err := a.State(ctx, []schema.Kind{schema.KindRobot})
	if err != nil {
		return nil, p.failure("reading robots", err)
	}
	var out []providers.Renewal
	for _, r := range live.Robots {
		want := robotOf(desired.Resources, r.Key)
		i := slices.IndexFunc(live.Objects, func(o schema.Resource) bool { return o.Key == r.Key })
		if want == nil || i < 0 {
			continue
		}
		if renew != nil {
			if err := p.settle(ctx, a, live.Objects[i], r, want); err != nil {
				return nil, err
			}
		}
		if delivery(want) == nil {
			continue
		}
		x := robot{r, live.Objects[i], want, now}
		run := providers.Renewal{Key: r.Key}
		if run.Login, run.Next = x.due(); run.Login != "" && renew != nil {
			run = renew(ctx, a, x)
		}
		out = append(out, run)
	}
	return out, nil
}

// robot is one that is wanted and there, as it was seen at a time.
type robot struct {
	registry.RobotStatus
	live schema.Resource
	want *schema.Robot
	now  time.Time
}

func (r robot) have() *schema.Robot {
	spec, _ := r.live.Spec.(*schema.Robot)
	return spec
}

// account is the one with a login.
func (r robot) account(login string) (registry.RobotAccount, bool) {
	i := slices.IndexFunc(r.Accounts, func(a registry.RobotAccount) bool { return a.Login == login })
	if i < 0 {
		return registry.RobotAccount{}, false
	}
	return r.Accounts[i], true
}

// undelivered is the login of an account whose secret nobody may know, "" for none.
func (r robot) undelivered() string {
	logins := registry.RobotLogins(r.Key)
	for _, a := range r.Accounts {
		if !a.Delivered && slices.Contains(logins[:], a.Login) {
			return a.Login
		}
	}
	return ""
}

// due names the account to make, or "" and when one will be.
func (r robot) due() (login string, next time.Time) {
	have, want, now := r.have(), r.want, r.now
	logins := registry.RobotLogins(r.Key)
	if login := r.undelivered(); login != "" {
		return login, next
	}
	current, ok := newest(r.RobotStatus)
	if !ok {
		return logins[0], next
	}
	end := current.Expires(have)
	wrong := current.Ended || !end.IsZero() && current.Ahead(now)
	if !wrong && !elsewhere(current, want) {
		if end.IsZero() {
			return "", next
		}
		if from := end.Add(-seconds(notice(want))); now.Before(from) {
			return "", from
		}
	}
	other := logins[0]
	if current.Login == other {
		other = logins[1]
	}
	for _, a := range r.Accounts { // still in use beside the current one
		if a.Login != other || wrong || !now.Before(a.Ends) {
			continue
		}
		if end.IsZero() || a.Ends.Before(end) {
			return "", a.Ends
		}
		if now.Before(end) {
			return "", end
		}
	}
	return other, next
}

// fresh reports whether a secret that was made for an account is worth
// delivering: at least half of its life is left, by a clock that was right.
func (r robot) fresh(login string) bool {
	a, ok := r.account(login)
	if !ok || a.Delivered || a.Ended {
		return false
	}
	end := a.Expires(r.have())
	return end.IsZero() || !a.Ahead(r.now) && end.Sub(r.now) >= end.Sub(a.Made)/2
}

// pending is a secret that was made for an account and is not known to have
// arrived.
type pending struct{ login, secret string }

// made returns the secret of an account that is to be delivered: the one made
// before, where that is fresh and the registry still has it, or a new one. The
// caller holds p.renewing. ErrSuperseded: the account is another than was seen.
func (p *Provider) made(ctx context.Context, a admin, r robot, login string) (string, error) {
	if have, ok := p.pending[r.Key]; ok && have.login == login && r.fresh(login) {
		same, err := a.CheckSecret(ctx, r.Key, have.secret)
		if err != nil {
			return "", p.failure("renewing "+r.Key.String(), err)
		}
		if same {
			return have.secret, nil
		}
	}
	secret := rand.Text() + rand.Text()
	hash, err := registry.HashPassword(secret, p.cost)
	if err != nil {
		return "", err
	}
	seen, _ := r.account(login)
	if err := p.setAccount(ctx, a, r.live, registry.AccountChange{Login: login, Hash: hash, Digest: registry.SecretDigest(secret), IfMade: &seen.Made}); err != nil {
		return "", err
	}
	p.pending[r.Key] = pending{login, secret}
	return secret, nil
}

// renew renews a robot that is due, unless another process does so meanwhile. Where
// that one made another secret while its own was delivered here, what lies in the place
// may work no more: then one is made for the account that is newest by then, and
// delivered. The one that the other process delivered works for the overlap.
func (p *Provider) renew(ctx context.Context, a admin, r robot) providers.Renewal {
	const tries = 3
	lost := false
	for i := 1; ; i++ {
		run := providers.Renewal{Key: r.Key}
		run.Login, run.Next = r.due()
		if current, ok := newest(r.RobotStatus); lost && ok && r.undelivered() == "" {
			run.Login = current.Login
		}
		if run.Login == "" {
			return run
		}
		delivered, err := p.issue(ctx, a, r, run.Login)
		if run.Err = err; i == tries || !errors.Is(err, registry.ErrSuperseded) {
			return run
		}
		lost = lost || delivered
		delete(p.pending, r.Key)
		now, err := a.State(ctx, []schema.Kind{schema.KindRobot})
		if err != nil {
			run.Err = p.failure("reading robots", err)
			return run
		}
		j := slices.IndexFunc(now.Robots, func(x registry.RobotStatus) bool { return x.Key == r.Key })
		if j < 0 { // it was deleted
			return providers.Renewal{Key: r.Key}
		}
		r.RobotStatus = now.Robots[j]
	}
}

// issue makes a secret, delivers it, and has the registry take it for delivered.
// ErrSuperseded: another process made one meanwhile.
func (p *Provider) issue(ctx context.Context, a admin, r robot, login string) (delivered bool, err error) {
	secret, err := p.made(ctx, a, r, login)
	if err != nil {
		return false, err
	}
	if err := p.deliver(ctx, r.Key, *delivery(r.want), login, secret); err != nil {
		return false, err
	}
	overlap := defaultOverlap
	if r.want.Overlap != nil {
		overlap = max(0, *r.want.Overlap)
	}
	if err := p.setAccount(ctx, a, r.live, registry.AccountChange{
		Login: login, Digest: registry.SecretDigest(secret), Delivered: true, Overlap: overlap, Place: r.want.Place(),
	}); err != nil {
		return true, err
	}
	delete(p.pending, r.Key)
	return true, nil
}

// settle keeps where the secret of an account belongs of which no place was
// kept: an older version made it, and what the mode says is believed.
func (p *Provider) settle(ctx context.Context, a admin, live schema.Resource, r registry.RobotStatus, want *schema.Robot) error {
	current, ok := newest(r)
	if !ok || current.Place != "" || want.Place() == "" {
		return nil
	}
	return p.setAccount(ctx, a, live, registry.AccountChange{Login: current.Login, Place: want.Place()})
}

func (p *Provider) setAccount(ctx context.Context, a admin, live schema.Resource, c registry.AccountChange) error {
	live.Unread = nil
	results, err := a.Change(context.WithoutCancel(ctx), []registry.Change{{Object: live, IfVersion: live.Version, Account: &c}})
	if err == nil {
		err = results[0].Err
	}
	if err != nil {
		return p.failure("renewing "+live.Key.String(), err)
	}
	return nil
}
