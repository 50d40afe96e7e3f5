package embedded

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	registry "github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// Prepare implements [providers.Provider]. Everything takes effect live.
func (p *Provider) Prepare(ctx context.Context, changes []plan.Change) ([]providers.Verdict, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	table := p.Capabilities()
	full, err := p.overQuota(ctx, changes)
	if err != nil {
		return nil, err
	}
	verdicts := make([]providers.Verdict, len(changes))
	for i, c := range changes {
		v := providers.Verdict{Effect: plan.Live}
		if row := table.Find(c.Key.Kind, ""); row.Support == schema.Unsupported && c.Key.Kind != schema.KindSettings {
			v.Refused = row.Reason
		} else if o, ok := object(c); ok {
			if err := registry.CheckObject(o); err != nil {
				v.Refused = reason(c.Key, err)
			}
		}
		if c.Action == plan.Rename && v.Refused == "" {
			if ns, also := renamedWith(c, changes); also {
				v.Refused = fmt.Sprintf("%s is renamed as well, and the registry does one after the other: let one of the two have its former name, apply, and rename it after that", ns)
			} else if v.Notes, v.Refused, err = p.renaming(ctx, c); err != nil {
				return nil, err
			}
		}
		if note, ok := full[c.Key.Name]; ok && c.Key.Kind == schema.KindQuota {
			v.Notes = append(v.Notes, note)
		}
		switch spec := after(c).(type) {
		case *schema.User:
			if c.Action == plan.Create && spec.Password == nil {
				v.Notes = append(v.Notes, "has no password and cannot log in")
			}
		case *schema.Robot:
			if c.Action == plan.Create && spec.Secret == nil {
				v.Notes = append(v.Notes, "has no secret and cannot log in")
			}
		case nil:
			if c.Action == plan.Delete && c.Key.Kind == schema.KindNamespace {
				v.Notes = append(v.Notes, "its rules go, its images stay: whoever owns the namespace above, or policy.outside, decides for them")
			}
		}
		verdicts[i] = v
	}
	return verdicts, nil
}

// reason is an error's text without the key, which the plan tells.
func reason(key schema.Key, err error) string {
	return strings.ReplaceAll("\n"+err.Error(), "\n"+key.String()+": ", "\n")[1:]
}

// renamedWith is the namespace that an object hangs on, if both are renamed.
func renamedWith(c plan.Change, changes []plan.Change) (ns schema.Key, also bool) {
	ns, child := c.Key.Namespace()
	return ns, child && slices.ContainsFunc(changes, func(o plan.Change) bool {
		return o.Action == plan.Rename && o.Key == ns
	})
}

// renaming tells what a rename brings with it, or why it cannot be.
func (p *Provider) renaming(ctx context.Context, c plan.Change) (notes []string, refused string, err error) {
	if c.Before == nil {
		return nil, "the change does not say what the object was called", nil
	}
	a, err := p.reach(ctx)
	if err != nil {
		return nil, "", err
	}
	defer a.Close()
	err = a.Renamable(ctx, c.Before.Key, c.Key)
	for _, kind := range []error{registry.ErrConflict, registry.ErrInvalid, registry.ErrMissing} {
		if errors.Is(err, kind) {
			return nil, reason(c.Key, err), nil
		}
	}
	if err != nil {
		return nil, "", p.failure("asking whether "+c.Before.Key.String()+" can be renamed", err)
	}
	switch c.Key.Kind {
	case schema.KindNamespace:
		notes = append(notes, "its repositories move along: clients push and pull them by the new name from then on", "its robots, if it has any, keep their logins until they are renewed")
	case schema.KindRobot:
		notes = append(notes, "keeps its login until it is renewed")
	}
	return notes, "", nil
}

func after(c plan.Change) schema.Spec {
	if c.After == nil {
		return nil
	}
	return c.After.Spec
}

// object is the object a change makes, without what is secret.
func object(c plan.Change) (schema.Resource, bool) {
	if c.Action == plan.Delete || c.After == nil {
		return schema.Resource{}, false
	}
	spec := c.After.Spec
	switch s := spec.(type) {
	case *schema.User:
		bare := *s
		bare.Password = nil
		spec = &bare
	case *schema.Webhook:
		bare := *s
		bare.Auth = nil
		spec = &bare
	case *schema.Robot:
		bare := *s
		bare.Secret, bare.Renew, bare.Overlap = nil, nil, nil
		spec = &bare
	}
	return schema.Resource{Key: c.Key, Spec: spec}, true
}

// Write implements [providers.Provider]. What can be done is done in one step.
func (p *Provider) Write(ctx context.Context, changes []plan.Change, report func(schema.Key, error)) error {
	a, err := p.reach(ctx)
	if err != nil {
		return err
	}
	defer a.Close()
	wire := make([]registry.Change, len(changes))
	failed := make([]error, len(changes))
	var work errgroup.Group
	work.SetLimit(runtime.GOMAXPROCS(0)) // hashing is slow on purpose
	for i, c := range changes {
		work.Go(func() error {
			wire[i], failed[i] = p.change(ctx, a, c)
			return nil
		})
	}
	work.Wait() //nolint:errcheck // none returns an error
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var send []registry.Change
	for i, err := range failed {
		if err != nil {
			report(changes[i].Key, err)
			continue
		}
		send = append(send, wire[i])
	}
	if len(send) == 0 {
		return nil
	}
	results, err := a.Change(context.WithoutCancel(ctx), send)
	if err != nil {
		return p.failure("writing accounts and rules", err)
	}
	for _, r := range results {
		if r.Err != nil {
			r.Err = p.failure("", r.Err)
		}
		report(r.Key, r.Err)
	}
	return nil
}

// Acknowledge implements [providers.Acknowledger].
func (p *Provider) Acknowledge(ctx context.Context, keys []schema.Key) error {
	a, err := p.reach(ctx)
	if err != nil {
		return err
	}
	defer a.Close()
	if err := a.Acknowledge(ctx, keys); err != nil {
		return p.failure("acknowledging renames", err)
	}
	return nil
}

// change puts a change as the registry takes it, with the hash of the password
// or the secret where one is to be written. None is sent exposed.
func (p *Provider) change(ctx context.Context, a admin, c plan.Change) (registry.Change, error) {
	out := registry.Change{Object: schema.Resource{Key: c.Key}, Create: c.Action == plan.Create}
	if c.Before != nil {
		out.IfVersion = c.Before.Version
	}
	switch c.Action {
	case plan.Delete:
		out.Delete = true
		return out, nil
	case plan.Create, plan.Update, plan.Replace:
	case plan.Rename:
		if c.Before == nil {
			return out, p.failure("", fmt.Errorf("%s: the change does not say what the object was called: %w", c.Key, providers.ErrInvalid))
		}
		out.From = &c.Before.Key
	default:
		return out, p.failure("", fmt.Errorf("%s: %s: %w", c.Key, c.Action, providers.ErrUnsupported))
	}
	o, ok := object(c)
	if !ok {
		return out, p.failure("", fmt.Errorf("%s: the change does not say what the object shall be: %w", c.Key, providers.ErrInvalid))
	}
	out.Object = o
	if s, ok := c.After.Spec.(*schema.Robot); ok {
		var err error
		out.Account, err = p.account(ctx, a, c, s)
		return out, err
	}
	var field string
	var ref *schema.SecretRef
	switch s := c.After.Spec.(type) {
	case *schema.User:
		field, ref = "password", s.Password
	case *schema.Webhook:
		field, ref = "auth", s.Auth
	}
	keeps := c.Action == plan.Update || c.Action == plan.Rename
	if ref == nil || keeps && !slices.ContainsFunc(c.Fields, func(f plan.Field) bool { return f.Path == field }) {
		return out, nil
	}
	if p.exposed(a) && c.Key.Kind != schema.KindUser { // of a password only the hash is sent
		return out, p.failure("", fmt.Errorf("%s: %s: it would be sent in the clear: %w; use https, or run apply on the registry's host", c.Key, field, providers.ErrUnsupported))
	}
	secret, err := p.secrets.Resolve(ctx, *ref)
	if err != nil {
		return out, fmt.Errorf("%s: %s: %w", c.Key, field, err)
	}
	if c.Key.Kind != schema.KindUser {
		out.Secret = secret
		return out, nil
	}
	if out.PasswordHash, err = registry.HashPassword(secret, p.cost); err != nil {
		return out, p.failure("", fmt.Errorf("%s: password: %w", c.Key, kinded{err, providers.ErrInvalid}))
	}
	return out, nil
}
