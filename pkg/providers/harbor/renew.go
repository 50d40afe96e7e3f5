package harbor

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

const (
	// defaultOverlap is how long the old account of a robot works beside the
	// new one where the mode does not say.
	defaultOverlap = time.Hour
	// defaultNotice is how long before its end an account is spoken of where
	// the mode does not say when it is renewed.
	defaultNotice = 14 * 24 * time.Hour
)

func notice(want *schema.Robot) time.Duration {
	if want.Renew != nil {
		return max(0, *want.Renew).Std()
	}
	return defaultNotice
}

func overlap(want *schema.Robot) time.Duration {
	if want.Overlap != nil {
		return max(0, *want.Overlap).Std()
	}
	return defaultOverlap
}

// robots reads the accounts of the desired robots; seen lets those of the last
// read serve.
func (p *Provider) robots(ctx context.Context, desired schema.State, seen bool) (*site, error) {
	c, err := p.client(ctx)
	if err != nil {
		return nil, err
	}
	s := newSite(p, c)
	s.only, s.wanted = map[string]bool{}, desired
	for _, r := range desired.Resources {
		if r.Key.Kind == schema.KindRobot {
			s.only[project(r.Key)] = true
		}
	}
	if list, known := p.allSeenAccounts(); seen && known {
		s.accounts = list
		return s, nil
	}
	if len(s.only) == 0 {
		return s, nil
	}
	return s, readRobots(ctx, s)
}

// Remarks implements [providers.Remarker]: robots of the desired state whose
// account has expired or soon will, or was replaced and should be gone, and those with
// rights that the mode does not manage.
func (p *Provider) Remarks(ctx context.Context, desired schema.State, now time.Time) ([]plan.Note, error) {
	var notes []plan.Note
	c, err := p.client(ctx)
	if err != nil {
		return nil, err
	}
	if why, _ := c.Strange(); why != "" {
		notes = append(notes, plan.Note{Text: why})
	}
	s := newSite(p, c)
	if slices.Contains(desired.Kinds(), schema.KindRobot) {
		if s, err = p.robots(ctx, desired, true); err != nil {
			return nil, err
		}
	}
	notes = append(notes, p.unseen()...)
	if c.Second() {
		notes = append(notes, plan.Note{Text: "registry.admin logs in as well, to read what Harbor shows no robot: settings, and what robots may do"})
	}
	sinks, untried, err := s.sinks(ctx, desired, mostTried, p.now())
	if err != nil {
		return nil, err
	}
	if untried > 0 {
		notes = append(notes, plan.Note{Text: fmt.Sprintf("whether the delivered secrets work was tried of the %d robots that changed last; `ocisync run robots` tries the other %d too", mostTried, untried)})
	}
	for _, r := range desired.Resources {
		want, ok := r.Spec.(*schema.Robot)
		list := s.accounts[r.Key]
		current, there := newest(list)
		if !ok || !there {
			continue
		}
		say := func(format string, args ...any) {
			notes = append(notes, plan.Note{Key: r.Key, Text: fmt.Sprintf(format, args...)})
		}
		how := "apply a new secret.value, with a longer expires, before"
		if delivery(want) != nil {
			how = "`ocisync run robots` renews it"
			if name, next := due(r.Key, list, want, sinks[r.Key].is, now); name == "" && !next.IsZero() {
				how += " once the account before it has ended, after " + next.UTC().Format("2006-01-02 15:04 MST")
			}
		}
		if told := sinks[r.Key]; told.says != "" {
			say("%s", told.says)
		}
		if current.Disabled && want.Enabled == nil {
			say("account %s was disabled in Harbor, so that nobody logs in by it; enable it there, or declare enabled", current.Name)
		}
		end := current.expires()
		switch {
		case end.IsZero() || now.Before(end.Add(-notice(want))):
		case now.Before(end):
			say("account %s expires on %s; %s", current.Name, end.Format(time.DateOnly), how)
		default:
			say("account %s expired on %s; %s", current.Name, end.Format(time.DateOnly), how)
		}
		for _, a := range list {
			if !a.ends.IsZero() && now.After(a.ends) && a.works(now) {
				say("account %s was replaced and still works; `ocisync run robots` takes it away", a.Name)
			}
		}
		if want.Access != nil && want.Permissions == nil {
			more, err := s.beyondAccess(ctx, list)
			if err != nil {
				return nil, err
			}
			if more != "" {
				say("has rights that the mode does not manage: %s; write permissions = [] to have them taken away", more)
			}
		}
	}
	return notes, nil
}

// Accounts implements [providers.Issuer].
func (p *Provider) Accounts(ctx context.Context, desired schema.State) ([]providers.Account, error) {
	s, err := p.robots(ctx, desired, true)
	if err != nil {
		return nil, err
	}
	var out []providers.Account
	for _, r := range desired.Resources {
		if current, ok := newest(s.accounts[r.Key]); ok && r.Key.Kind == schema.KindRobot {
			out = append(out, providers.Account{Key: r.Key, Login: current.Name, Expires: current.expires()})
		}
	}
	slices.SortFunc(out, func(a, b providers.Account) int { return a.Key.Compare(b.Key) })
	return out, nil
}

// Due implements [providers.Renewer].
func (p *Provider) Due(ctx context.Context, desired schema.State, now time.Time) ([]providers.Renewal, error) {
	return p.renewals(ctx, desired, now, nil)
}

// Renew implements [providers.Renewer], the job `robots`. A new account is made,
// then its secret delivered, then noted to be; from then on the old one works for
// overlap, and goes with the next run after that. Run again, it makes and delivers
// another secret for what was not noted, by another account if less than half of
// its life is left. It never leaves more than two accounts.
func (p *Provider) Renew(ctx context.Context, desired schema.State, now time.Time) ([]providers.Renewal, error) {
	p.renewing.Lock()
	defer p.renewing.Unlock()
	return p.renewals(ctx, desired, now, func(s *site, key schema.Key, want *schema.Robot, name string) error {
		return p.fail(key, "renewing", s.renew(context.WithoutCancel(ctx), key, want, name, now), "")
	})
}

// renewals lists the desired robots whose secret is delivered, and has those that
// are due renewed.
func (p *Provider) renewals(ctx context.Context, desired schema.State, now time.Time,
	renew func(s *site, key schema.Key, want *schema.Robot, name string) error,
) ([]providers.Renewal, error) {
	s, err := p.robots(ctx, desired, false)
	if err != nil {
		return nil, err
	}
	if renew != nil {
		defer p.forget()
	}
	prefix, err := s.prefix(ctx)
	if err != nil {
		return nil, err
	}
	sinks, _, err := s.sinks(ctx, desired, len(desired.Resources), now)
	if err != nil {
		return nil, err
	}
	var out []providers.Renewal
	for _, r := range desired.Resources {
		want, ok := r.Spec.(*schema.Robot)
		if !ok || delivery(want) == nil || len(s.accounts[r.Key]) == 0 {
			continue
		}
		run := providers.Renewal{Key: r.Key}
		if renew != nil {
			run.Err = p.fail(r.Key, "renewing", s.sweep(ctx, r.Key, want, now), "")
		}
		name, next := due(r.Key, s.accounts[r.Key], want, sinks[r.Key].is, now)
		run.Next = next
		if name != "" {
			run.Login = loginOf(prefix, r.Key, name)
		}
		if name != "" && renew != nil && run.Err == nil {
			run.Err = renew(s, r.Key, want, name)
		}
		out = append(out, run)
	}
	return out, nil
}

func loginOf(prefix string, key schema.Key, name string) string {
	if ns, ok := key.Namespace(); ok {
		name = ns.Name + "+" + name
	}
	return prefix + name
}

// due names the account to make, or "" and when something will be to do. An account
// whose secret is not where it belongs is due at once: while another works beside it,
// itself, and it gets another secret, since there are no more than two.
func due(key schema.Key, list []account, want *schema.Robot, is sink, now time.Time) (name string, next time.Time) {
	names := accountNames(key)
	for _, a := range list {
		if a.undelivered { // nobody may know its secret
			return a.name, next
		}
	}
	current, ok := newest(list)
	if !ok {
		return names[0], next
	}
	other := names[0]
	if current.name == other {
		other = names[1]
	}
	earliest := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	busy := false
	for _, a := range list {
		if a.ends.IsZero() {
			continue
		}
		earliest(a.ends) // it goes then
		if a.name == other && now.Before(a.ends) && a.works(now) {
			busy = true
			if end := a.expires(); !end.IsZero() {
				earliest(end)
			}
		}
	}
	end := current.expires()
	switch {
	case is != inPlace && !busy:
		return other, time.Time{}
	case is != inPlace && current.fresh(now):
		return current.name, time.Time{}
	case end.IsZero():
		return "", next
	}
	if from := end.Add(-notice(want)); now.Before(from) {
		earliest(from)
		return "", next
	}
	if busy && now.Before(end) {
		return "", next
	}
	return other, time.Time{}
}

// sweep ends what a renewal that was cut short left, and takes away accounts whose
// overlap is over.
func (s *site) sweep(ctx context.Context, key schema.Key, want *schema.Robot, now time.Time) error {
	current, ok := newest(s.accounts[key])
	if !ok {
		return nil
	}
	kept := []account{}
	for _, a := range s.accounts[key] {
		if a.ID != current.ID && !a.undelivered && a.ends.IsZero() {
			var err error
			if a, err = s.retire(ctx, a, now.Add(overlap(want))); err != nil {
				return err
			}
		}
		if !a.ends.IsZero() && a.ID != current.ID && !now.Before(a.ends) {
			if err := s.c.DeleteRobot(ctx, a.ID); err != nil {
				return err
			}
			continue
		}
		kept = append(kept, a)
	}
	s.accounts[key] = kept
	return nil
}

// retire notes when an account ends that another took the place of, and has Harbor
// itself end it on the day after at the latest.
func (s *site) retire(ctx context.Context, a account, end time.Time) (account, error) {
	a.ends = end.UTC().Truncate(time.Second)
	if life := int64(end.Sub(a.Created)/(24*time.Hour)) + 1; a.Duration < 0 || life < a.Duration {
		a.Duration = max(1, life)
	}
	return a, s.c.UpdateRobot(ctx, a.wire())
}

// renew makes the account of a name, which takes the place of the others.
func (s *site) renew(ctx context.Context, key schema.Key, want *schema.Robot, name string, now time.Time) error {
	var a account
	var others []account
	exists := false
	for _, x := range s.accounts[key] {
		switch {
		case x.name == name && (x.undelivered || x.ends.IsZero()) && x.fresh(now):
			a, exists = x, true // or nobody has its secret any more
		case x.name == name: // its time is over, or soon will be
			if err := s.c.DeleteRobot(ctx, x.ID); err != nil {
				return err
			}
		default:
			others = append(others, x)
		}
	}
	var secret string
	var err error
	if exists {
		secret, _, err = s.c.SetSecret(ctx, a.Robot, "")
	} else {
		a, secret, err = s.next(ctx, key, want, name, others)
	}
	if err != nil {
		return err
	}
	if err := s.p.deliver(ctx, *delivery(want), a.Name, secret); err != nil {
		return err
	}
	a.undelivered, a.taken = false, taken(*delivery(want))
	if err := s.c.UpdateRobot(ctx, a.wire()); err != nil {
		return err
	}
	for _, x := range others {
		if x.undelivered || !x.ends.IsZero() {
			continue
		}
		end := now.Add(overlap(want))
		if !now.Before(end) {
			if err := s.c.DeleteRobot(ctx, x.ID); err != nil {
				return err
			}
			continue
		}
		if _, err := s.retire(ctx, x, end); err != nil {
			return err
		}
	}
	return nil
}

// next makes an account like the robot's newest.
func (s *site) next(ctx context.Context, key schema.Key, want *schema.Robot, name string, others []account) (account, string, error) {
	a := account{name: name, undelivered: true, text: of(want.Description, "")}
	if like, ok := newest(others); ok {
		a.Robot, a.text = like.Robot, like.text
	} else {
		m, err := mayFor(ctx, s, want)
		if err != nil {
			return a, "", err
		}
		a.Level, a.Duration, a.Permissions = api.LevelSystem, days(want.Expires), m.permissions()
		if _, ok := key.Namespace(); ok {
			a.Level = api.LevelProject
		}
	}
	a.ID, a.Name, a.taken = 0, name, ""
	r := a.wire()
	r.Disabled = false
	made, secret, err := s.newAccount(ctx, r)
	a.ID, a.Name = made.ID, made.Name
	return a, secret, err
}
