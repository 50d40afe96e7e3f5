package zot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/htpasswd"
	"github.com/ocisync/ocisync/schema"
)

// elsewhere says that the files are on another host.
func (p *Provider) elsewhere() error {
	return fmt.Errorf("%w: Zot is configured by files on its own host; run `ocisync apply` there, or let `ocisync watch` there follow the same source", providers.ErrPending)
}

// Write implements [providers.Provider]: all that can be done is written and
// taken over at once.
func (p *Provider) Write(ctx context.Context, changes []plan.Change, report func(schema.Key, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	away, err := p.away(ctx)
	if err != nil {
		return err
	}
	if away {
		return p.fail(schema.Key{}, "writing", p.elsewhere(), "")
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	defer p.checked.forget() // two writes may fall into one tick of the file system's clock
	release, err := p.alone(ctx)
	if err != nil {
		return err
	}
	defer release()
	blank, s, st, err := p.begin(ctx, false)
	if errors.Is(err, providers.ErrPending) {
		for _, c := range changes {
			report(c.Key, p.fail(c.Key, "finishing a write that was cut", err, ""))
		}
		return nil
	}
	if err != nil {
		return err
	}
	if s.planned != nil {
		changes = p.completed(ctx, s, st, changes)
	}
	w, err := p.writer(ctx, s, st)
	if err != nil {
		return err
	}
	if blank {
		w.shown = nil
	}
	prepared := p.resolve(ctx, changes)
	if err := ctx.Err(); err != nil {
		return err
	}
	var goBack func(why error) error
	if i := slices.IndexFunc(changes, providers.Renews); i >= 0 {
		again, back, err := w.renew(ctx, changes[i], prepared[changes[i].Key])
		if err != nil { // it may run at another address than the mode says, where somebody else answers
			for j, c := range changes {
				if j != i {
					report(c.Key, p.fail(c.Key, "writing", fmt.Errorf("not written, since Zot does not run as the mode says: %s failed", changes[i].Key), "apply again once it does"))
				}
			}
			report(changes[i].Key, err)
			return nil
		}
		w, goBack = again, back
	}
	order := slices.Clone(changes)
	slices.SortStableFunc(order, func(a, b plan.Change) int { return cmp.Compare(stage(a), stage(b)) })
	var done []schema.Key
	for _, c := range order {
		err := prepared[c.Key].err
		if err == nil {
			err = w.apply(ctx, c, prepared[c.Key])
		}
		if err != nil {
			report(c.Key, err)
			continue
		}
		done = append(done, c.Key)
	}
	if len(done) == 0 {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	err = w.finish(ctx)
	if err != nil && goBack != nil {
		err = goBack(err)
	}
	if i := slices.IndexFunc(changes, providers.Starts); i >= 0 && err == nil && slices.Contains(done, changes[i].Key) {
		err = p.start(ctx)
	}
	var wrong map[string]error
	var idle map[schema.Key]error
	if err == nil {
		idle = w.skippedOf(ctx, changes)
	}
	if err == nil && w.st.running {
		wrong = w.prove(ctx, p.atHand(ctx, changes, prepared))
	}
	for _, k := range done {
		e := err
		if k.Kind == schema.KindAccess && e == nil {
			e = wrong[k.Name]
		}
		if e == nil {
			e = idle[k]
		}
		if e != nil {
			e = p.fail(k, "writing", e, "")
		}
		report(k, e)
	}
	return nil
}

// start has one running that did not, with what is written.
func (p *Provider) start(ctx context.Context) error {
	maker, ok := p.process.(providers.Maker)
	if !ok {
		return nil
	}
	if err := maker.Renew(ctx); err != nil {
		return fmt.Errorf("it is written, and it does not start: %w", err)
	}
	return nil
}

// atHand are the accounts whose passwords a write has seen anyway.
func (p *Provider) atHand(ctx context.Context, changes []plan.Change, seen map[schema.Key]prepared) subjects {
	out := subjects{}
	for _, c := range changes {
		if secret := seen[c.Key].secret; secret != "" && c.Key.Kind == schema.KindUser {
			out[c.Key.Name] = secret
		}
	}
	if user, password, err := p.login(ctx); err == nil && user != "" && !isRobot(user) {
		out[user] = password
	}
	return out
}

func stage(c plan.Change) int {
	if c.Action == plan.Delete {
		return 100 - c.Key.Kind.Rank()
	}
	return c.Key.Kind.Rank()
}

// begin reads the files of a registry, which is made if it is not there yet, and is blank
// then, and finishes what a writing before left undone.
func (p *Provider) begin(ctx context.Context, gentle bool) (blank bool, s *site, st status, err error) {
	if s, err = p.load(ctx); err != nil {
		return false, nil, status{}, err
	}
	if blank = s.doc == nil; blank {
		if err := p.found(nil); err != nil { // somebody said that it is a new one
			return blank, nil, status{}, err
		}
		if s, err = p.load(ctx); err != nil {
			return blank, nil, status{}, err
		}
	}
	if st, err = p.status(ctx, s); err != nil {
		return blank, nil, status{}, err
	}
	var planned map[schema.Key]schema.Resource
	if s.cut.any() {
		if planned, _, err = p.live(ctx, s, s.objects(), st); err != nil {
			return blank, nil, status{}, err
		}
	}
	if did, err := p.complete(ctx, s, st, gentle); err != nil || !did {
		return blank, s, st, err
	}
	if s, err = p.load(ctx); err != nil {
		return blank, nil, status{}, err
	}
	s.planned = planned
	st, err = p.status(ctx, s)
	return blank, s, st, err
}

// prepared is what a change needs that takes time.
type prepared struct {
	secret string // in the clear
	hash   string
	values map[string]string // of settings, by path
	err    error
}

// resolve fetches and hashes the secrets that changes write.
func (p *Provider) resolve(ctx context.Context, changes []plan.Change) map[schema.Key]prepared {
	out := make([]prepared, len(changes))
	var work errgroup.Group
	work.SetLimit(runtime.GOMAXPROCS(0)) // hashing is slow on purpose
	for i, c := range changes {
		work.Go(func() error {
			out[i] = p.prepared(ctx, c)
			return nil
		})
	}
	work.Wait() //nolint:errcheck // none returns an error
	m := map[schema.Key]prepared{}
	for i, c := range changes {
		m[c.Key] = out[i]
	}
	return m
}

func (p *Provider) prepared(ctx context.Context, c plan.Change) (out prepared) {
	if c.Action == plan.Delete || c.After == nil || c.After.Spec == nil {
		return out
	}
	for _, f := range schema.Secrets(c.After.Spec) {
		if c.Action == plan.Update && !slices.ContainsFunc(c.Fields, func(x plan.Field) bool { return x.Path == f.Path || strings.HasPrefix(f.Path, x.Path+".") }) {
			continue
		}
		secret, err := p.secrets.Resolve(ctx, f.Ref)
		if err != nil {
			out.err = fmt.Errorf("%s: %s: %w", c.Key, f.Path, err)
			return out
		}
		if path, ok := strings.CutPrefix(f.Path, "values."); ok && c.Key.Kind == schema.KindSettings {
			if out.values == nil {
				out.values = map[string]string{}
			}
			out.values[path] = secret
			continue
		}
		out.secret = secret
		if c.Key.Kind == schema.KindUser || c.Key.Kind == schema.KindRobot {
			if out.hash, err = p.hash(secret); err != nil {
				out.err = p.fail(c.Key, f.Path, err, "")
			}
		}
	}
	return out
}

// hash hashes a password as htpasswd has it.
func (p *Provider) hash(password string) (string, error) {
	hash, err := htpasswd.Hash(password, p.cost)
	if err != nil {
		return "", fmt.Errorf("%w: %w", providers.ErrInvalid, err)
	}
	return hash, nil
}
