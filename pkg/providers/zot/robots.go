package zot

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/access"
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
	if !ok {
		return nil
	}
	name := c.Key.String()
	if c.Before != nil {
		w.own.revive(name, c.Before.Spec, spec)
	}
	if spec.Secret == nil {
		return nil
	}
	login, place := robotLogins(c.Key)[0], spec.Place()
	put := func(hash string) {
		list := slices.DeleteFunc(slices.Clone(w.own.Robots[name]), func(a account) bool { return a.Login == login || a.Ends.IsZero() })
		w.own.Robots[name] = append(list, account{Login: login, Made: w.s.now.UTC().Truncate(time.Second), Delivered: true, Hash: hash, Place: place})
	}
	switch {
	case secret.hash != "":
		place = schema.GivenPlace
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

// elsewhere reports whether an account's secret is known to have gone to another
// place than it belongs to now.
func elsewhere(a account, want *schema.Robot) bool { return a.Place != "" && a.Place != want.Place() }

// ahead is how long before its end a plan speaks of an account: days, or a
// quarter of its life, even if it is renewed later.
func ahead(want, have *schema.Robot) time.Duration {
	const most = 7 * 24 * time.Hour
	life := time.Duration(0)
	if have.Expires != nil {
		life = max(0, *have.Expires).Std()
	}
	return max(notice(want), min(most, life/4))
}

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

// Remarks implements [providers.Remarker]: quotas that are used up, robots of
// the desired state whose account has expired or soon will, and what is odd in a
// hand-written configuration.
func (p *Provider) Remarks(ctx context.Context, desired schema.State, now time.Time) ([]plan.Note, error) {
	if away, err := p.away(ctx); err != nil || away {
		return nil, err
	}
	o, err := p.ownFile()
	if err != nil {
		return nil, p.unreadable(err)
	}
	return append(p.handWritten(o, desired), o.remarks(desired, now)...), nil
}

// handWritten says of the configuration what Zot reads otherwise than it is
// written, and what gives rights beside the rules.
func (p *Provider) handWritten(o own, desired schema.State) (notes []plan.Note) {
	text, err := files.Read(p.paths.config)
	if err != nil {
		return nil // whoever reads the objects says so
	}
	doc, conf, err := p.reading.config(p.paths.config, text)
	if err != nil {
		return nil // likewise
	}
	key := schema.Key{Kind: schema.KindSettings}
	for i, x := range doc.Problems("") {
		if i == 5 {
			notes = append(notes, plan.Note{Key: key, Text: "and more of that kind"})
			break
		}
		notes = append(notes, plan.Note{Key: key, Text: x.String()})
	}
	if conf.HTTP.AccessControl != nil && (p.outside != "" || slices.Contains(desired.Kinds(), schema.KindAccess)) {
		notes = append(notes, p.besideRules(conf, key)...)
		notes = append(notes, p.withinRules(o, conf, desired)...)
	}
	if slices.Contains(desired.Kinds(), schema.KindUser) {
		notes = append(notes, p.unsaidAdmins(o, conf, desired)...)
	}
	if slices.Contains(desired.Kinds(), schema.KindRetention) {
		notes = append(notes, p.dryRuns(conf, desired.Resources)...)
	}
	return notes
}

// besideRules says what of a hand-written access control gives rights that no
// object shows.
func (p *Provider) besideRules(c configuration, key schema.Key) (notes []plan.Note) {
	ac := c.HTTP.AccessControl
	if a := ac.AdminPolicy; a != nil && len(a.Groups) > 0 {
		notes = append(notes, plan.Note{Key: key, Text: fmt.Sprintf("http.accessControl.adminPolicy of %s stands above all rules for the groups %s, which no object shows; take them out unless that is meant", p.paths.config, strings.Join(a.Groups, ", "))})
	}
	if p.outside != access.Deny {
		return notes
	}
	var open []string
	for _, pattern := range c.strangers() {
		if pattern != everything && pattern != ownPattern() && !grantsOf(ac.Repositories[pattern]).equal(newGrants()) {
			open = append(open, strconv.Quote(pattern))
		}
	}
	if len(open) > 0 {
		notes = append(notes, plan.Note{Key: key, Text: fmt.Sprintf("policy.outside does not hold for what these patterns of %s match: %s; take them out, or declare namespaces, unless that is meant", p.paths.config, few(open))})
	}
	return notes
}

// unsaidAdmins says which users are administrators that no mode makes one of: a
// user whose admin is left out differs from nothing.
func (p *Provider) unsaidAdmins(o own, c configuration, desired schema.State) (notes []plan.Note) {
	names, _ := c.admins()
	kept := o.kept()
	var list []string
	for _, name := range names {
		key := schema.Key{Kind: schema.KindUser, Name: name}
		r, declared := desired.Get(key)
		if want, _ := r.Spec.(*schema.User); declared && want.Admin != nil {
			continue // it is drift, or meant
		}
		if was, ok := kept[key].(*schema.User); !declared && ok && was.Admin != nil && *was.Admin {
			continue // another mode's
		}
		list = append(list, name)
	}
	if len(list) > 0 {
		notes = append(notes, plan.Note{Key: schema.Key{Kind: schema.KindSettings}, Text: fmt.Sprintf("http.accessControl.adminPolicy of %s makes administrators of %s, and the mode does not say so; declare admin for them, true or false", p.paths.config, few(list))})
	}
	return notes
}

// withinRules says which patterns, of namespaces that nobody ever declared, decide
// for a part of a namespace whose rule is declared; and of rules that ocisync has
// not written, which patterns of no namespace do.
func (p *Provider) withinRules(o own, c configuration, desired schema.State) (notes []plan.Note) {
	v := view{conf: c.declared(o.Withdrawn), own: o}
	now := v.rulesAlone()
	known, ruled := map[string]bool{}, map[string][]string{}
	for _, r := range append(slices.Clone(desired.Resources), o.Objects...) {
		if r.Key.Kind == schema.KindNamespace || r.Key.Kind == schema.KindAccess {
			known[r.Key.Name] = true
		}
	}
	for _, r := range desired.Resources {
		if r.Key.Kind == schema.KindAccess {
			ruled[r.Key.Name] = nil
			if _, wrote := now.kept[r.Key]; !wrote {
				for _, stranger := range now.shadowing(r.Key.Name) {
					ruled[r.Key.Name] = append(ruled[r.Key.Name], strconv.Quote(stranger))
				}
			}
		}
	}
	for _, ns := range sortedKeys(now.namespaces) {
		for at := ns; !known[ns] && at != ""; at = at[:max(strings.LastIndexByte(at, '/'), 0)] {
			if _, is := ruled[at]; is {
				ruled[at] = append(ruled[at], strconv.Quote(pattern(ns)))
				break
			}
		}
	}
	for _, ns := range sortedKeys(ruled) {
		if list := ruled[ns]; len(list) > 0 {
			notes = append(notes, plan.Note{Key: schema.Key{Kind: schema.KindAccess, Name: ns}, Text: fmt.Sprintf("%s of %s decide for a part of it, and no rule of the mode speaks of that; take them out, or declare what they match as namespaces, unless that is meant", few(list), p.paths.config)})
		}
	}
	return notes
}

// few is the beginning of a list in words.
func few(list []string) string {
	const most = 10
	more := ""
	if len(list) > most {
		more = fmt.Sprintf(" and %d more", len(list)-most)
	}
	return strings.Join(list[:min(most, len(list))], ", ") + more
}

// longDelay is from when on a delay that no mode can say is remarked upon.
const longDelay = span(24 * time.Hour)

// dryRuns says where retention removes nothing, or late, whatever its rules say.
func (p *Provider) dryRuns(conf configuration, ruled []schema.Resource) (notes []plan.Note) {
	say := func(format string, path ...string) {
		notes = append(notes, plan.Note{Key: schema.Key{Kind: schema.KindRetention}, Text: fmt.Sprintf(format, schema.JoinPath(path...), p.paths.config)})
	}
	for _, s := range conf.stores() {
		if s.dry {
			say("%s is set in %s: Zot only logs what its rules would remove; take it out there", append(slices.Clone(s.at), "dryRun")...)
		}
		in := func(r schema.Resource) bool {
			return r.Key.Kind == schema.KindRetention && conf.storeOf(r.Key.Name) == s.route
		}
		if s.delay > longDelay && slices.ContainsFunc(ruled, in) {
			notes = append(notes, plan.Note{Key: schema.Key{Kind: schema.KindRetention}, Text: fmt.Sprintf("%s is %s in %s: what no tag names, and what refers to it, is not removed before it is that old; make it shorter there, unless that is meant",
				schema.JoinPath(append(slices.Clone(s.at), "delay")...), s.delay, p.paths.config)})
		}
		if !s.gc && slices.ContainsFunc(ruled, in) {
			say("%s is off in %s: Zot applies retention while it collects, so nothing removes what no rule keeps; switch it on there, or declare gc.schedule", append(slices.Clone(s.at[:len(s.at)-1]), "gc")...)
		}
	}
	return notes
}

// remarks are those of quotas and robots, by what ocisync keeps of them.
func (o own) remarks(desired schema.State, now time.Time) []plan.Note {
	if kinds := desired.Kinds(); !slices.Contains(kinds, schema.KindRobot) && !slices.Contains(kinds, schema.KindQuota) && len(o.Full) == 0 {
		return nil
	}
	kept := o.kept()
	notes := o.fullNotes(desired)
	for _, r := range desired.Resources {
		want, ok := r.Spec.(*schema.Robot)
		have, was := kept[r.Key].(*schema.Robot)
		current, there := newest(o.Robots[r.Key.String()])
		if !ok || !was || !there {
			continue
		}
		end := current.expires(have)
		how := "apply a new secret.value"
		if delivered(want) != nil {
			how = "`ocisync run robots` renews it"
			if elsewhere(current, want) {
				notes = append(notes, plan.Note{Key: r.Key, Text: "its secret was not delivered to where secret.deliver says now; `ocisync run robots` delivers a new one"})
			}
		}
		switch {
		case current.Ended:
			notes = append(notes, plan.Note{Key: r.Key, Text: fmt.Sprintf("account %s expired on %s; %s", current.Login, end.UTC().Format(time.DateOnly), how)})
		case !end.IsZero() && current.ahead(now.Add(24*time.Hour)):
			notes = append(notes, plan.Note{Key: r.Key, Text: fmt.Sprintf("account %s was made on %s, which is to come: a clock was or is wrong, and it would work longer than expires says; %s", current.Login, current.Made.UTC().Format(time.DateOnly), how)})
		case end.IsZero() || now.Before(end.Add(-ahead(want, have))):
		case now.Before(end):
			notes = append(notes, plan.Note{Key: r.Key, Text: fmt.Sprintf("account %s expires on %s; %s", current.Login, end.UTC().Format(time.DateOnly), how)})
		default:
			notes = append(notes, plan.Note{Key: r.Key, Text: fmt.Sprintf("account %s expired on %s; %s", current.Login, end.UTC().Format(time.DateOnly), how)})
		}
	}
	return notes
}

// Accounts implements [providers.Issuer].
func (p *Provider) Accounts(ctx context.Context, desired schema.State) ([]providers.Account, error) {
	o, err := p.ownHere(ctx)
	if err != nil {
		return nil, err
	}
	kept := o.kept()
	var out []providers.Account
	for _, r := range desired.Resources {
		have, ok := kept[r.Key].(*schema.Robot)
		if !ok {
			continue
		}
		delivered := slices.DeleteFunc(slices.Clone(o.Robots[r.Key.String()]), func(a account) bool { return !a.Delivered })
		if current, ok := newest(delivered); ok {
			out = append(out, providers.Account{Key: r.Key, Login: current.Login, Expires: current.expires(have)})
		}
	}
	slices.SortFunc(out, func(a, b providers.Account) int { return a.Key.Compare(b.Key) })
	return out, nil
}

// Due implements [providers.Renewer].
func (p *Provider) Due(ctx context.Context, desired schema.State, now time.Time) ([]providers.Renewal, error) {
	o, err := p.ownHere(ctx)
	if err != nil {
		return nil, err
	}
	return renewals(o, desired, now), nil
}

// ownHere is what ocisync keeps of the accounts, which nobody but the registry's
// host has.
func (p *Provider) ownHere(ctx context.Context) (own, error) {
	if away, err := p.away(ctx); err != nil {
		return own{}, err
	} else if away {
		return own{}, p.fail(schema.Key{}, "", p.elsewhere(), "")
	}
	o, err := p.ownFile()
	if err != nil {
		return own{}, p.unreadable(err)
	}
	return o, nil
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
	wrong := current.Ended || !end.IsZero() && current.ahead(now)
	if !wrong && !elsewhere(current, want) {
		if end.IsZero() {
			return "", next
		}
		if from := end.Add(-notice(want)); now.Before(from) {
			return "", from
		}
	}
	other := logins[0]
	if current.Login == other {
		other = logins[1]
	}
	for _, a := range accounts { // still in use beside the current one
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
	release, err := p.alone(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	_, s, _, err := p.begin(ctx, true)
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
	if s.own.settle(desired) {
		if err := b.save(); err != nil {
			return nil, p.fail(schema.Key{}, "renewing robots", err, "")
		}
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

// expire takes accounts that no longer work out of the htpasswd file, and says
// how long none will end that works now.
func (p *Provider) expire(ctx context.Context) (again time.Duration, err error) {
	const most = time.Minute // a clock may be set meanwhile
	o, err := p.ownFile()
	if err != nil {
		return most, p.unreadable(err)
	}
	now := p.now()
	again, ended := o.ended(now, most)
	if len(ended) == 0 {
		return again, nil
	}
	s, err := p.load(ctx)
	if err != nil {
		return again, err
	}
	if !slices.ContainsFunc(ended, func(login string) bool { _, there := s.hashes[login]; return there }) {
		return again, nil
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	release, err := p.alone(ctx)
	if err != nil {
		return again, err
	}
	defer release()
	_, s, _, err = p.begin(ctx, true)
	if err != nil {
		return again, err
	}
	b := &book{p: p, s: s, pass: htpasswd.Parse(s.accounts)}
	if err := b.sweep(now); err != nil {
		return again, p.fail(schema.Key{}, "ending accounts of robots", err, "")
	}
	p.logger.Info("accounts of robots have expired", "accounts", ended)
	return again, nil
}

// ended lists the accounts of robots that no longer work, and says how long none
// will end that does, at most so long.
func (o own) ended(now time.Time, most time.Duration) (again time.Duration, logins []string) {
	again = most
	kept := o.kept()
	for _, name := range sortedKeys(o.Robots) {
		key, err := schema.ParseKey(name)
		if err != nil {
			continue
		}
		spec, ok := kept[key].(*schema.Robot)
		for _, a := range o.Robots[name] {
			if !ok || !a.works(spec, now) {
				logins = append(logins, a.Login)
				continue
			}
			for _, end := range []time.Time{a.Ends, a.expires(spec)} {
				if !end.IsZero() {
					again = min(again, max(end.Sub(now), time.Second))
				}
			}
		}
	}
	return again, logins
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

// sweep takes out accounts that no longer work, and writes down which have ended.
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
	if swept := b.s.own.sweep(now); !changed && !swept {
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
	made.Delivered, made.Place = true, want.Place()
	end := now.Add(overlap.Std()).UTC().Truncate(time.Second)
	for i := range others {
		if others[i].Ends.IsZero() || end.Before(others[i].Ends) {
			others[i].Ends, others[i].Replaced = end, now.UTC().Truncate(time.Second)
		}
		if !now.Before(others[i].Ends) {
			b.pass.Remove(others[i].Login)
		}
	}
	return put()
}

// settle keeps where secrets belong of which no place was kept: an older version
// made them, and what the mode says is believed.
func (o own) settle(desired schema.State) (changed bool) {
	for _, r := range desired.Resources {
		want, ok := r.Spec.(*schema.Robot)
		if !ok || want.Place() == "" {
			continue
		}
		list := slices.Clone(o.Robots[r.Key.String()])
		for i := range list {
			if a := &list[i]; a.Delivered && a.Ends.IsZero() && a.Place == "" {
				a.Place, changed = want.Place(), true
				o.Robots[r.Key.String()] = list
			}
		}
	}
	return changed
}
