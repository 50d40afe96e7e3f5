package harbor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// Write implements [providers.Provider]. Harbor compares nothing itself, so what
// is changed or deleted is read again first; what is created is not, and what
// exists by then is compared when Harbor says so.
func (p *Provider) Write(ctx context.Context, changes []plan.Change, report func(schema.Key, error)) error {
	c, err := p.client(ctx)
	if err != nil {
		return err
	}
	p.forget()
	defer p.forget()
	s := newSite(p, c)
	s.only = map[string]bool{}
	var again []schema.Kind
	for _, ch := range changes {
		if ch.Action == plan.Create && (!ch.Key.Kind.Single() || kinds()[ch.Key.Kind].blank) {
			continue
		}
		again = append(again, ch.Key.Kind)
		s.only[project(ch.Key)] = true
	}
	slices.Sort(again)
	if err := s.read(ctx, slices.Compact(again)); err != nil {
		return err
	}
	var work errgroup.Group
	work.SetLimit(32) // the client lets fewer through
	for _, ch := range changes {
		if ctx.Err() != nil {
			report(ch.Key, ctx.Err())
			continue
		}
		work.Go(func() error {
			// what was begun is ended
			var done atomic.Int64
			fresh, err := s.change(api.Counted(context.WithoutCancel(ctx), &done), ch)
			p.mu.Lock()
			p.made.did(ch, fresh)
			p.mu.Unlock()
			if err != nil && done.Load() > 0 {
				err = amended(err, func(cause error) error { return fmt.Errorf("%w; %w", cause, providers.ErrPartly) })
			}
			report(ch.Key, p.fail(ch.Key, "", err, ""))
			return nil
		})
	}
	work.Wait() //nolint:errcheck // none returns an error
	return nil
}

// project is the project that an object is, or hangs on; "" for none.
func project(k schema.Key) string {
	if k.Kind == schema.KindNamespace {
		return k.Name
	}
	if ns, ok := k.Namespace(); ok {
		return ns.Name
	}
	return ""
}

// change makes one change, unless the object is not the one it was planned for. It
// reports whether it made the object, which of a kind that each project has one of is
// there with the project.
func (s *site) change(ctx context.Context, c plan.Change) (fresh bool, err error) {
	k, ok := kinds()[c.Key.Kind]
	if !ok || k.write == nil || c.Action == plan.Rename && !k.renames {
		return false, fmt.Errorf("%w: %s", providers.ErrUnsupported, c.Action)
	}
	if k.tidy != nil && c.After != nil {
		after := *c.After
		after.Spec = k.tidy(c)
		c.After = &after
	}
	live, exists := s.objects[c.Key]
	if c.Action == plan.Rename && c.Before != nil {
		former, is := s.objects[c.Before.Key]
		if exists && is {
			return false, planAgain(providers.ErrConflict, "another has the new name by now")
		}
		if is {
			live, exists = former, true
		}
	}
	same := k.same
	if same == nil {
		same = alike
	}
	if done, err := settled(c, live, exists, same); done || err != nil {
		return false, err
	}
	err = k.write(ctx, s, c, live)
	if c.Action != plan.Create || exists || !errors.Is(err, providers.ErrConflict) {
		return c.Action == plan.Create && (!exists || c.Key.Kind.Single()) && err == nil, err
	}
	// it exists by now: what the change would make of it is a success
	there := newSite(s.p, s.c)
	there.only = map[string]bool{project(c.Key): true}
	if e := there.read(ctx, []schema.Kind{c.Key.Kind}); e != nil {
		return false, errors.Join(err, e)
	}
	if now, ok := there.objects[c.Key]; ok && len(secretsOf(c)) == 0 && so(c.After.Spec, now.Spec) {
		return false, nil
	}
	return false, err
}

// planAgain is an error about what somebody else did since the plan.
func planAgain(kind error, why string) error {
	return &providers.Error{Err: fmt.Errorf("%w: %s", kind, why), Remedy: "plan again"}
}

// settled reports whether there is nothing left to do, or why it must not be done.
func settled(c plan.Change, live object, exists bool, same func(a, b schema.Spec) bool) (done bool, err error) {
	was := c.Before != nil && exists && same(live.Spec, c.Before.Spec)
	is := c.After != nil && exists && so(c.After.Spec, live.Spec)
	switch c.Action {
	case plan.Delete:
		if exists && c.Before != nil && !was {
			return false, planAgain(providers.ErrConflict, "it is another by now")
		}
		return !exists, nil
	case plan.Create:
		if exists && !c.Key.Kind.Single() && !is {
			return false, planAgain(providers.ErrConflict, "it exists by now, and differs")
		}
		return exists && is && len(secretsOf(c)) == 0, nil
	case plan.Update, plan.Replace, plan.Rename:
		switch {
		case !exists:
			return false, planAgain(providers.ErrNotFound, "it is gone by now")
		case is && len(secretsOf(c)) == 0 && (c.Action == plan.Update || live.Key == c.Key && c.Action == plan.Rename):
			return true, nil
		case c.Before != nil && !was && !is:
			return false, planAgain(providers.ErrConflict, "it is another by now")
		}
		return false, nil
	}
	return false, fmt.Errorf("%w: %s", providers.ErrUnsupported, c.Action)
}

// secretsOf lists the secrets that a change writes, by their paths.
func secretsOf(c plan.Change) map[string]schema.SecretRef {
	if c.After == nil {
		return nil
	}
	out := map[string]schema.SecretRef{}
	for _, f := range schema.Secrets(c.After.Spec) {
		listed := slices.ContainsFunc(c.Fields, func(x plan.Field) bool {
			return x.Path == f.Path || strings.HasPrefix(f.Path, x.Path+".")
		})
		if c.Action == plan.Create || c.Action == plan.Replace || listed {
			out[f.Path] = f.Ref
		}
	}
	return out
}

// secret resolves the one at a path, if the change writes it.
func (s *site) secret(ctx context.Context, c plan.Change, path string) (value string, ok bool, err error) {
	ref, ok := secretsOf(c)[path]
	if !ok {
		return "", false, nil
	}
	value, err = s.p.secrets.Resolve(ctx, ref)
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return value, true, err
}

// so reports whether all that a spec says holds of a live one.
func so(want, live schema.Spec) bool { return alike(plan.Overlay(want, live), live) }

// alike compares two specs in all but their secrets, and what only ocisync knows.
func alike(a, b schema.Spec) bool { return bare(a) == bare(b) }

func bare(spec schema.Spec) string {
	text, err := json.Marshal(spec)
	if err != nil {
		return ""
	}
	copied, err := schema.NewSpec(spec.Kind())
	if err != nil || json.Unmarshal(text, copied) != nil {
		return ""
	}
	schema.DropSecrets(copied)
	if r, ok := copied.(*schema.Robot); ok {
		r.Renew, r.Overlap, r.Secret = nil, nil, nil
	}
	text, err = json.Marshal(copied)
	if err != nil {
		return ""
	}
	return string(text)
}
