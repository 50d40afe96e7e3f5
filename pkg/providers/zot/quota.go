package zot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/schema"
)

// Zot limits no bytes. A job measures what the namespaces with a quota use, and
// while that is not below the limit their patterns stand in the configuration
// without the actions create and update. What the patterns are without that is
// kept beside, and everything but the configuration itself goes by it: objects
// are read, compared and written as if push were never withdrawn (declared), and
// it is withdrawn again from what is written, last (withhold).

const (
	jobQuota = "quota"
	// quotaEvery is how often `ocisync up` measures.
	quotaEvery = time.Minute
)

// full is a namespace that push is withdrawn in.
type full struct {
	Used  schema.Size `json:"used"` // when it was measured last
	Since time.Time   `json:"since"`
}

// withdrawn is a pattern while push is withdrawn. What it gives is JSON, as text,
// so that somebody's own spelling comes back as it was.
type withdrawn struct {
	Pattern string `json:"pattern"`
	Before  string `json:"before,omitempty"` // "": there was no such pattern
	Now     string `json:"now"`
}

func sameGroup(a, b policyGroup) bool { return string(encoded(a)) == string(encoded(b)) }

// inPlace are those of the patterns kept that a configuration has; of the others
// a write was cut short, or somebody changed them since.
func (c configuration) inPlace(kept []withdrawn) (list []withdrawn) {
	ac := c.HTTP.AccessControl
	if ac == nil {
		return nil
	}
	done := map[string]bool{}
	for _, w := range kept {
		have, there := ac.Repositories[w.Pattern]
		var now policyGroup
		if !there || done[w.Pattern] || json.Unmarshal([]byte(w.Now), &now) != nil || !sameGroup(have, now) {
			continue
		}
		done[w.Pattern] = true
		list = append(list, w)
	}
	return list
}

// declared is a configuration as it is but for push that is withdrawn.
func (c configuration) declared(kept []withdrawn) configuration {
	list := c.inPlace(kept)
	if len(list) == 0 {
		return c
	}
	ac := *c.HTTP.AccessControl
	ac.Repositories = maps.Clone(ac.Repositories)
	for _, w := range list {
		var before policyGroup
		if w.Before == "" || json.Unmarshal([]byte(w.Before), &before) != nil {
			delete(ac.Repositories, w.Pattern)
			continue
		}
		ac.Repositories[w.Pattern] = before
	}
	c.HTTP.AccessControl = &ac
	return c
}

// withhold says which patterns of a configuration, in which nothing is
// withdrawn, become what. Namespaces inside a full one that only its pattern
// decides for get their own, which gives what they have.
func (c configuration) withhold(names map[string]full, namespaces map[string]bool) (list []withdrawn) {
	ac := c.HTTP.AccessControl
	if ac == nil || len(names) == 0 {
		return nil
	}
	group := func(g policyGroup) string { return string(groupJSON(g, g)) }
	for _, ns := range sortedKeys(names) {
		w := withdrawn{Pattern: pattern(ns)}
		from, there := ac.Repositories[w.Pattern]
		if there {
			w.Before = group(from)
		} else {
			from = c.inForce(ns)
		}
		if to, less := withoutPush(from); less {
			w.Now = group(to)
			list = append(list, w)
		}
	}
	for _, ns := range sortedKeys(namespaces) {
		if _, is := names[ns]; is || !inside(ns, names) {
			continue
		}
		for at := ns; at != ""; at = at[:max(strings.LastIndexByte(at, '/'), 0)] {
			if _, is := names[at]; is {
				list = append(list, withdrawn{Pattern: pattern(ns), Now: group(c.inForce(ns))})
				break
			}
			if _, there := ac.Repositories[pattern(at)]; there {
				break
			}
		}
	}
	return list
}

// withoutPush takes push from all that a pattern gives; less tells whether it
// gave any.
func withoutPush(g policyGroup) (out policyGroup, less bool) {
	take := func(list words) words {
		if list == nil {
			return nil
		}
		left := words{}
		for _, a := range list {
			if a == "create" || a == "update" {
				less = true
				continue
			}
			left = append(left, a)
		}
		return left
	}
	out.DefaultPolicy, out.AnonymousPolicy = take(g.DefaultPolicy), take(g.AnonymousPolicy)
	if g.Policies != nil {
		out.Policies = []policy{}
	}
	for _, p := range g.Policies {
		if p.Actions = take(p.Actions); len(p.Actions) > 0 {
			out.Policies = append(out.Policies, p)
		}
	}
	return out, less
}

// withoutPush takes it from grants.
func (g *grants) withoutPush() {
	const push = actCreate | actUpdate
	g.anonymous &^= push
	g.authenticated &^= push
	for _, m := range []map[string]actions{g.users, g.groups} {
		for name, a := range m {
			m[name] = a &^ push
		}
	}
}

// limitOf is a namespace's quota; ok is false for none.
func limitOf(spec schema.Spec) (limit schema.Size, ok bool) {
	q, is := spec.(*schema.Quota)
	if !is || q.Limit == nil || *q.Limit < 0 {
		return 0, false
	}
	return *q.Limit, true
}

// stillFull are the namespaces that are full by the quotas as they shall be and
// by what was measured last: a quota that is raised or taken out gives push back
// at once.
func (w *writer) stillFull() map[string]full {
	out := map[string]full{}
	for ns, f := range w.own.Full {
		if limit, ok := limitOf(w.spec(schema.KindQuota, ns)); ok && f.Used >= limit {
			out[ns] = f
		}
	}
	return out
}

// quotas are the limits in force, by namespace.
func (o own) quotas() map[string]schema.Size {
	out := map[string]schema.Size{}
	for _, r := range o.Objects {
		if limit, ok := limitOf(r.Spec); ok {
			out[r.Key.Name] = limit
		}
	}
	return out
}

// readQuotas reads those that were declared: Zot has no place for them.
func (o *objects) readQuotas() {
	for k, spec := range o.kept {
		if q, ok := spec.(*schema.Quota); ok && o.namespaces[k.Name] {
			o.put(k.Kind, k.Name, q)
		}
	}
}

var (
	_ providers.Runner     = (*Provider)(nil)
	_ providers.Withholder = (*Provider)(nil)
	_ providers.Attendant  = (*Provider)(nil)
)

// Jobs implements [providers.Runner].
func (p *Provider) Jobs() []string { return []string{jobQuota} }

// Run implements [providers.Runner].
func (p *Provider) Run(ctx context.Context, job string, dry bool) (providers.JobReport, error) {
	report := providers.JobReport{Job: job, DryRun: dry}
	if job != jobQuota {
		return report, fmt.Errorf("%s: job %s: %w; there is %s", p.registry.URL, job, providers.ErrUnsupported, strings.Join(p.Jobs(), ", "))
	}
	away, err := p.away(ctx)
	if err == nil && away {
		err = p.elsewhere()
	}
	if err != nil {
		return report, p.fail(schema.Key{}, "running "+job, err, "")
	}
	report.Measured, err = p.enforce(ctx, dry)
	return report, err
}

// Attend implements [providers.Attendant]: it measures, and ends the accounts of
// robots that have expired.
func (p *Provider) Attend(ctx context.Context) (time.Duration, error) {
	if away, err := p.away(ctx); err != nil || away {
		return quotaEvery, err
	}
	again, expired := p.expire(ctx)
	list, err := p.enforce(ctx, false)
	for _, m := range list {
		if m.Changed {
			p.logger.Warn("quota measured", "namespace", m.Namespace, "used", m.Used.Human(), "quota", m.Limit.Human(), "push", m.Push())
		}
	}
	return min(again, quotaEvery), errors.Join(expired, err)
}

// Withheld implements [providers.Withholder].
func (p *Provider) Withheld(ctx context.Context) ([]string, error) {
	if away, err := p.away(ctx); err != nil || away {
		return nil, err
	}
	o, err := p.ownFile()
	if err != nil {
		return nil, p.unreadable(err)
	}
	return sortedKeys(o.Full), nil
}

// fullNotes tell of the quotas of what is declared that are used up.
func (o own) fullNotes(desired schema.State) (notes []plan.Note) {
	limits := o.quotas()
	for _, ns := range sortedKeys(o.Full) {
		if note, ok := providers.FullNote(desired, ns, o.Full[ns].Used, limits[ns], o.Full[ns].Since); ok {
			notes = append(notes, note)
		}
	}
	return notes
}

// enforce measures the namespaces that have a quota, and withdraws push or gives
// it back. Of one that cannot be measured nothing changes.
func (p *Provider) enforce(ctx context.Context, dry bool) ([]providers.Measured, error) {
	o, err := p.ownFile()
	if err != nil {
		return nil, p.unreadable(err)
	}
	if len(o.quotas()) == 0 && len(o.Full)+len(o.Withdrawn) == 0 {
		return nil, nil
	}
	s, err := p.load(ctx)
	if err != nil {
		return nil, err
	}
	list, err := p.measured(ctx, s)
	if dry || p.settleTime(s, list) {
		return list, err
	}
	return list, errors.Join(err, p.withdraw(ctx, list))
}

// measured measures; an error is of those that could not be.
func (p *Provider) measured(ctx context.Context, s *site) (list []providers.Measured, err error) {
	limits := s.own.quotas()
	content, elsewhere := s.layouts()
	var away error
	if elsewhere != "" {
		away = errors.New(elsewhere)
	} else if len(limits) > 0 {
		away = content.there()
	}
	all := map[string]bool{}
	for _, r := range s.own.Objects {
		if r.Key.Kind == schema.KindNamespace {
			all[r.Key.Name] = true
		}
	}
	if ac := s.conf.HTTP.AccessControl; ac != nil {
		for pattern := range ac.Repositories {
			if ns, ok := namespaceOf(pattern); ok {
				all[ns] = true
			}
		}
	}
	for _, ns := range sortedKeys(limits) {
		before, was := s.own.Full[ns]
		m := providers.Measured{Namespace: ns, Limit: limits[ns], Used: before.Used, Full: was}
		used, failed := int64(0), away
		if failed == nil {
			used, failed = p.meter.Measure(ctx, content, ns, all)
		}
		if failed != nil {
			m.Error = failed.Error()
			err = errors.Join(err, p.fail(schema.Key{Kind: schema.KindQuota, Name: ns}, "measuring", failed, "what may be pushed stays as it is until it can be measured"))
		} else {
			m.Used = schema.Size(used)
			m.Full = m.Used >= m.Limit
			m.Changed = m.Full != was
		}
		list = append(list, m)
	}
	return list, err
}

// settleTime reports whether all is already as a measuring has it.
func (p *Provider) settleTime(s *site, list []providers.Measured) bool {
	next := fullBy(list, s.own, p.now())
	if !maps.Equal(next, s.own.Full) && len(next)+len(s.own.Full) > 0 {
		return false
	}
	if len(next)+len(s.own.Withdrawn) == 0 {
		return true
	}
	want := s.conf.declared(s.own.Withdrawn).withhold(next, s.objects().namespaces)
	have := s.conf.inPlace(s.own.Withdrawn)
	key := func(w withdrawn) string { return w.Pattern }
	byKey := func(l []withdrawn) map[string]string {
		m := map[string]string{}
		for _, w := range l {
			var g policyGroup
			if json.Unmarshal([]byte(w.Now), &g) == nil {
				m[key(w)] = string(encoded(g))
			}
		}
		return m
	}
	return maps.Equal(byKey(want), byKey(have))
}

// fullBy are the full namespaces by a measuring. One that was not measured, or
// has got its quota since, stays as it was.
func fullBy(list []providers.Measured, o own, now time.Time) map[string]full {
	limits := o.quotas()
	next := maps.Clone(o.Full)
	if next == nil {
		next = map[string]full{}
	}
	maps.DeleteFunc(next, func(ns string, _ full) bool { _, ok := limits[ns]; return !ok })
	for _, m := range list {
		limit, ok := limits[m.Namespace]
		before, was := next[m.Namespace]
		switch {
		case !ok || m.Error != "":
		case m.Used < limit:
			delete(next, m.Namespace)
		case was:
			next[m.Namespace] = full{m.Used, before.Since}
		default:
			next[m.Namespace] = full{m.Used, now.UTC().Truncate(time.Second)}
		}
	}
	return next
}

// withdraw brings the configuration to say what was measured.
func (p *Provider) withdraw(ctx context.Context, list []providers.Measured) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	release, err := p.alone(ctx)
	if err != nil {
		return err
	}
	defer release()
	_, s, st, err := p.begin(ctx, true)
	if err != nil {
		return err
	}
	fail := func(err error) error { return p.fail(schema.Key{}, "running "+jobQuota, err, "") }
	w, err := p.writer(ctx, s, st)
	if err != nil {
		return err
	}
	w.gentle = true
	w.own.Full = fullBy(list, s.own, p.now())
	if len(w.own.Full) > 0 && (s.conf.HTTP.AccessControl == nil || w.runs.HTTP.AccessControl == nil) {
		return fail(errors.New("this Zot runs without access control, so that push cannot be withdrawn; apply the mode"))
	}
	if err := w.finish(context.WithoutCancel(ctx)); err != nil {
		return fail(err)
	}
	return nil
}

// alone keeps other processes of ocisync from changing the files meanwhile. It
// waits for who is there until the context is done.
func (p *Provider) alone(ctx context.Context) (release func(), err error) {
	if err := p.private(); err != nil {
		return nil, p.unreadable(err)
	}
	if err := os.MkdirAll(filepath.Dir(p.paths.own), 0o700); err != nil {
		return nil, p.unreadable(err)
	}
	l := regular.Lock(p.paths.own + ".lock")
	if _, err := l.TryLockContext(ctx, 20*time.Millisecond); errors.Is(err, syscall.ELOOP) {
		return nil, p.fail(schema.Key{}, "waiting for another job or apply at it", err, "remove the link "+l.Path())
	} else if err != nil {
		return nil, p.fail(schema.Key{}, "waiting for another job or apply at it", err, "run it again when that has ended")
	}
	return func() {
		if err := l.Close(); err != nil {
			p.logger.Warn("giving the registry's files back", "error", err)
		}
	}, nil
}

// union are the patterns of either list; of those that are equal one.
func union(a, b []withdrawn) []withdrawn {
	out := slices.Clone(a)
	for _, w := range b {
		if !slices.ContainsFunc(out, func(o withdrawn) bool { return o == w }) {
			out = append(out, w)
		}
	}
	return out
}
