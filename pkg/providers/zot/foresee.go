package zot

import (
	"cmp"
	"context"
	"slices"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/zot/config"
	"github.com/ocisync/ocisync/schema"
)

// notWritten is the hash of an account as far as that is foreseen.
const notWritten = "x"

// foreseen is what the file will say once some changes are made, without webhooks and what
// is secret. Nothing is written, nor sent. Not ok is where that cannot be told.
func (p *Provider) foreseen(ctx context.Context, s *site, st status, changes []plan.Change) (doc *config.Document, conf configuration, ok bool) {
	w, err := p.writer(ctx, s, st)
	if err != nil {
		return nil, conf, false
	}
	order := slices.Clone(changes)
	slices.SortStableFunc(order, func(a, b plan.Change) int { return cmp.Compare(stage(a), stage(b)) })
	for _, c := range order {
		if c.Action == plan.Delete || c.Action == plan.Replace {
			w.remove(c.Key)
		}
		if c.Action == plan.Delete || c.Action == plan.Rename || c.After == nil {
			continue
		}
		if ns, ok := c.Key.Namespace(); ok {
			if _, there := w.all[ns]; !there { // the plan that makes it is another
				w.all[ns] = schema.Resource{Key: ns, Spec: &schema.Namespace{}}
			}
		}
		after, secret := *c.After, prepared{}
		switch spec := c.After.Spec.(type) {
		case *schema.User:
			if spec.Password != nil {
				secret.hash = notWritten
			}
		case *schema.Robot: // a secret would be delivered
			bare := *spec
			bare.Secret, after.Spec = nil, &bare
			if spec.Secret != nil && w.pass.Set(robotLogins(c.Key)[0], notWritten) != nil {
				return nil, conf, false
			}
		}
		c.After = &after
		if w.put(ctx, c, secret) != nil {
			return nil, conf, false
		}
	}
	if doc, _, err = read(p.paths.config, s.text); err == nil {
		err = w.compose(doc)
	}
	if err == nil {
		doc, conf, err = read(p.paths.config, doc.Bytes())
	}
	return doc, conf, err == nil
}

// together says, of a Zot that ocisync cannot restart, of changes that it would take over
// by themselves whether the file as all of them leave it needs a restart: it is written
// once.
func (p *Provider) together(ctx context.Context, s *site, st status, changes []plan.Change, verdicts []providers.Verdict) {
	if p.process != nil || !st.running || s.doc == nil {
		return
	}
	var now []plan.Change
	var at []int
	for i, v := range verdicts {
		if v.Refused == "" && v.Held == "" && v.Effect != plan.ByHand {
			now, at = append(now, changes[i]), append(at, i)
		}
	}
	if len(now) == 0 {
		return
	}
	doc, _, ok := p.foreseen(ctx, s, st, now)
	if !ok {
		return
	}
	was := s.doc
	if v := p.inForce(ctx, s, st); v != nil {
		was = v.doc
	}
	how, why := reach(was, doc)
	if how != plan.Restart {
		return
	}
	for n, i := range at {
		verdicts[i].Effect = plan.ByHand
		if n == 0 {
			verdicts[i].Notes = append(verdicts[i].Notes, byHand+" ("+why+")")
		}
	}
}

// closing lists the repositories that the first rules of a registry, or its first logins,
// take from anybody, and says that these are switched on.
func (p *Provider) closing(ctx context.Context, s *site, st status, changes []plan.Change, verdicts []providers.Verdict) {
	if s.doc == nil || s.conf.HTTP.AccessControl != nil && s.conf.authenticated() {
		return
	}
	_, next, ok := p.foreseen(ctx, s, st, changes)
	if !ok {
		next = s.conf // what is refused says why
	}
	logins := !s.conf.authenticated() && next.authenticated()
	if !logins && (next.HTTP.AccessControl == nil || s.conf.HTTP.AccessControl != nil) {
		return
	}
	list, known := stored(s.conf, []string{"*"})
	if !known && st.running { // it is elsewhere, such as in a bucket: Zot tells
		asked, err := p.asked(ctx, []string{"*"})
		list, known = asked, err == nil
	}
	rules, first := map[string]int{}, -1
	for i, c := range changes {
		switch c.Key.Kind {
		case schema.KindAccess:
			if c.Action == plan.Delete {
				continue
			}
			if rules[c.Key.Name] = i; first < 0 || changes[first].Key.Kind != schema.KindAccess {
				first = i
			}
		case schema.KindUser, schema.KindRobot, schema.KindGroup, schema.KindImmutable, schema.KindQuota, schema.KindSettings:
			if first < 0 {
				first = i
			}
		}
	}
	if first < 0 {
		first = 0
	}
	by := map[int][]string{}
	var rest []string
	for _, r := range list {
		if access.In(access.Reserved, r.Name) || !s.conf.closes(next, r.Name) {
			continue
		}
		if ns, ruled := providers.Innermost(rules, r.Name); ruled {
			by[rules[ns]] = append(by[rules[ns]], r.Name)
		} else {
			rest = append(rest, r.Name)
		}
	}
	say := func(i int, text string) { verdicts[i].Notes = append(verdicts[i].Notes, text) }
	for _, i := range rules {
		if !known {
			say(i, "closes repositories that cannot be listed here")
		} else if len(by[i]) > 0 {
			say(i, "closes to all that it does not name: "+providers.ListNames(by[i]))
		}
	}
	switch {
	case logins && len(rest) > 0:
		say(first, "switches logins on: whoever has no account may do nothing any more but what a rule gives anonymous clients; of what no such rule is about, this closes to them: "+providers.ListNames(rest))
	case logins:
		say(first, "switches logins on: whoever has no account may do nothing any more but what a rule gives anonymous clients")
	case len(rest) > 0:
		say(first, "closes what no rule is about: "+providers.ListNames(rest))
	}
}

// closes reports whether anybody, or each account, may do less in a repository by another
// configuration.
func (c configuration) closes(next configuration, repository string) bool {
	anybody, accounts := c.gives(repository)
	still, also := next.gives(repository)
	return (anybody&^still|accounts&^also)&actAll != 0
}

// gives is what anybody may do in a repository, and what each account may.
func (c configuration) gives(repository string) (anybody, accounts actions) {
	decides := c.open()
	if ac := c.HTTP.AccessControl; ac != nil {
		best := ""
		for p := range ac.Repositories {
			if doublestar.MatchUnvalidated(p, repository) && (len(p) > len(best) || len(p) == len(best) && p < best) {
				best = p
			}
		}
		decides = ac.Repositories[best]
	}
	g := grantsOf(decides)
	return g.anonymous, g.anonymous | g.authenticated
}
