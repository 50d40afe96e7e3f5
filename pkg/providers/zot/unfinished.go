package zot

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/files"
)

// unfinishedPath is a value among the settings: the files of which a write was cut, so
// that Zot has something else of them than is read here. There shall be none.
const (
	unfinishedPath = "process.unfinished"
	unfinishedNone = "[]"
)

// cut are those files.
type cut struct{ config, accounts, creds bool }

func (c cut) any() bool { return c.config || c.accounts || c.creds }

// loadCut finds them.
func (p *Provider) loadCut(s *site) error {
	held := func(name string) (before []byte, cut bool, err error) {
		if name == "" {
			return nil, false, nil
		}
		if before, cut, err = files.Held(name); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return before, cut, err
	}
	var err, more, last error
	s.before, s.cut.config, err = held(p.paths.config)
	_, s.cut.accounts, more = held(s.htpasswd)
	_, s.cut.creds, last = held(s.creds)
	return errors.Join(err, more, last)
}

// unfinished lists them.
func (s *site) unfinished(config string) []string {
	out := []string{}
	for name, cut := range map[string]bool{config: s.cut.config, s.htpasswd: s.cut.accounts, s.creds: s.cut.creds} {
		if cut {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// beforeCut is what the process runs with where a write of the configuration was cut: what
// it ran with before, which is that file as it is, unless that is known otherwise.
func (p *Provider) beforeCut(ctx context.Context, s *site, st status) *running {
	was := *s
	was.text, was.before, was.cut.config, was.looked, was.record = s.before, nil, false, false, nil
	var err error
	if was.doc, was.conf, err = read(p.paths.config, s.before); err != nil {
		return &running{s.doc, s.conf, true} // which it cannot have taken over
	}
	if v := p.inForce(ctx, &was, st); v != nil {
		return v
	}
	return &running{was.doc, was.conf, false}
}

// held is what the configuration holds.
func (s *site) held() []byte {
	if s.cut.config {
		return s.before
	}
	return s.text
}

// complete brings writes that were cut to their end, before anything else is written, and
// reports whether there were any. Of a Zot that runs the configuration is taken over as any
// other is. Gently, one that needs a restart stays as it is.
func (p *Provider) complete(ctx context.Context, s *site, st status, gentle bool) (did bool, err error) {
	if !st.running || !s.cut.any() {
		for _, name := range []string{p.paths.config, s.htpasswd, s.creds} {
			if name == "" {
				continue
			}
			one, err := files.Finish(name)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return did, p.unreadable(err)
			}
			did = did || one
		}
		return did, nil
	}
	w, err := p.writer(ctx, s, st)
	if err != nil {
		return false, err
	}
	// what quotas withhold is as the write that was cut left it
	w.gentle, w.full, w.withdrawn = gentle, s.own.Full, s.own.Withdrawn
	var t texts
	if s.cut.accounts {
		t.accounts = s.accounts
	}
	if s.cut.creds {
		t.creds = readOr(s.creds)
	}
	people := t
	if s.cut.config {
		t.config = s.text
	}
	err = w.save(ctx, t)
	if errors.Is(err, providers.ErrPending) { // who is to go is to go first
		if failed := p.commit(ctx, s, people, plan.Live, st, true); failed != nil || gentle {
			return true, failed
		}
	}
	if err == nil {
		err = w.proved(ctx)
	}
	return true, err
}

// proved asks for the rules that a write that was cut changed.
func (w *writer) proved(ctx context.Context) error {
	if !w.s.cut.config {
		return nil
	}
	var was configuration
	if _, conf, err := read(w.p.paths.config, w.s.before); err == nil {
		was = conf
	}
	for ns := range w.now.namespaces {
		if string(encoded(was.ruleOf(ns))) != string(encoded(w.s.conf.ruleOf(ns))) {
			w.patterns[ns] = true
		}
	}
	var wrong []error
	failed := w.prove(ctx, w.p.atHand(ctx, nil, nil))
	for _, ns := range sortedKeys(failed) {
		wrong = append(wrong, failed[ns])
	}
	return errors.Join(wrong...)
}

// ruleOf is the pattern of a namespace; nil for none.
func (c configuration) ruleOf(ns string) *policyGroup {
	if c.HTTP.AccessControl == nil {
		return nil
	}
	if g, ok := c.HTTP.AccessControl.Repositories[pattern(ns)]; ok {
		return &g
	}
	return nil
}

// finishes reports whether a change has writes that were cut finished.
func finishes(c plan.Change) bool {
	return slices.ContainsFunc(c.Fields, func(f plan.Field) bool { return f.Path == "values."+unfinishedPath })
}

// completed are changes without what is done once writes that were cut are finished.
func (p *Provider) completed(ctx context.Context, s *site, st status, changes []plan.Change) []plan.Change {
	out := slices.Clone(changes)
	loaded := p.inForce(ctx, s, st) == nil
	for i, c := range out {
		if finishes(c) {
			out[i].Fields = slices.DeleteFunc(slices.Clone(c.Fields), func(f plan.Field) bool {
				return f.Path == "values."+unfinishedPath || f.Path == "values."+loadedPath && loaded
			})
		}
	}
	return out
}
