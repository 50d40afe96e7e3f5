package embedded

import (
	"context"
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
