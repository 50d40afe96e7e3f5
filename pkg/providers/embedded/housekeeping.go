package embedded

import (
	"context"
	"errors"
	"fmt"
	"slices"

	registry "github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/schema"
)

// housekeeper is what a registry knows and does of its content by policy.
type housekeeper interface {
	Usage(ctx context.Context, namespaces []string) ([]registry.Usage, error)
	Retention(context.Context, registry.RetentionOptions) (registry.RetentionReport, error)
	Run(ctx context.Context, job string, dry bool) (registry.Report, error)
}

// overQuota notes, by namespace, which of the quotas to be written are smaller
// than what is used: nothing is deleted, and nothing more is taken.
func (p *Provider) overQuota(ctx context.Context, changes []plan.Change) (map[string]string, error) {
	if p.accounts {
		return nil, nil // its content is another's
	}
	limits := map[string]schema.Size{}
	var names []string
	for _, c := range changes {
		if q, ok := after(c).(*schema.Quota); ok && q.Limit != nil && *q.Limit >= 0 {
			limits[c.Key.Name] = *q.Limit
			names = append(names, c.Key.Name)
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	slices.Sort(names)
	usage, err := p.Usage(ctx, names)
	if err != nil {
		return nil, err
	}
	notes := map[string]string{}
	for _, u := range usage {
		if limit := limits[u.Namespace]; u.Used > limit {
			notes[u.Namespace] = fmt.Sprintf("%s are used, more than the quota of %s: nothing is deleted, pushes are refused until there is room", u.Used.Human(), limit.Human())
		}
	}
	return notes, nil
}

// Usage says how much of the registry the namespaces use, all that have a
// quota where none is named.
func (p *Provider) Usage(ctx context.Context, namespaces []string) ([]registry.Usage, error) {
	a, err := p.reach(ctx)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	list, err := a.Usage(ctx, namespaces)
	if err != nil {
		return nil, p.failure("counting usage", err)
	}
	return list, nil
}

// Retention runs the retention job, in the process that serves the registry
// or, while nobody does, here.
func (p *Provider) Retention(ctx context.Context, o registry.RetentionOptions) (registry.RetentionReport, error) {
	a, err := p.reach(ctx)
	if err != nil {
		return registry.RetentionReport{}, err
	}
	defer a.Close()
	report, err := a.Retention(ctx, o)
	if err != nil {
		return report, p.failure("retention", err)
	}
	return report, nil
}

// Quotas says of a registry whose content another program has what limits there
// are, by namespace, which of them are used up, and what namespaces there are.
func (p *Provider) Quotas(ctx context.Context) (limits map[string]schema.Size, full map[string]registry.Full, namespaces []string, err error) {
	a, err := p.reach(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	defer a.Close()
	live, err := a.State(ctx, []schema.Kind{schema.KindNamespace, schema.KindQuota})
	if err != nil {
		return nil, nil, nil, p.failure("reading quotas", err)
	}
	limits, full = map[string]schema.Size{}, map[string]registry.Full{}
	for _, o := range live.Objects {
		if o.Key.Kind == schema.KindNamespace {
			namespaces = append(namespaces, o.Key.Name)
		}
		if q, ok := o.Spec.(*schema.Quota); ok && q.Limit != nil && *q.Limit >= 0 {
			limits[o.Key.Name] = *q.Limit
		}
		if f, ok := live.Full[o.Key.String()]; ok {
			full[o.Key.Name] = f
		}
	}
	return limits, full, namespaces, nil
}

// Measured tells such a registry what of its quotas is used.
func (p *Provider) Measured(ctx context.Context, used map[string]schema.Size) error {
	a, err := p.reach(ctx)
	if err != nil {
		return err
	}
	defer a.Close()
	var changes []registry.Change
	for ns, n := range used {
		changes = append(changes, registry.Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindQuota, Name: ns}}, Used: &n})
	}
	results, err := a.Change(ctx, changes)
	for _, r := range results {
		err = errors.Join(err, r.Err)
	}
	if err != nil {
		return p.failure("saying what is used", err)
	}
	return nil
}
