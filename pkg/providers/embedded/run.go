package embedded

import (
	"context"
	"errors"

	registry "github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/providers"
)

// Run implements [providers.Runner].
func (p *Provider) Run(ctx context.Context, job string, dry bool) (providers.JobReport, error) {
	a, err := p.reach(ctx)
	if err != nil {
		return providers.JobReport{}, err
	}
	defer a.Close()
	report, err := a.Run(ctx, job, dry)
	out := providers.JobReport{Job: job, DryRun: dry}
	if c := report.GC; c != nil {
		out.Collected = &providers.Collected{
			Blobs: c.Blobs, Uploads: c.Uploads, Bytes: c.Bytes, Manifests: c.Manifests, Tags: c.Tags, Repositories: c.Repositories, Unread: c.Unread,
		}
	}
	out.Retained = retained(report.Retention)
	if err != nil && !errors.Is(err, context.Canceled) {
		err = p.failure("running "+job, err)
	}
	return out, err
}

// Jobs implements [providers.Runner].
func (p *Provider) Jobs() []string { return registry.Jobs() }

func retained(r *registry.RetentionReport) *providers.Retained {
	if r == nil {
		return nil
	}
	out := &providers.Retained{Kept: r.Kept, Gone: []providers.Gone{}}
	for _, t := range r.Tags {
		if !t.Kept {
			out.Gone = append(out.Gone, providers.Gone{Name: t.Repository + ":" + t.Tag, Why: t.Why, Error: t.Error})
		}
	}
	for _, m := range r.Untagged {
		out.Gone = append(out.Gone, providers.Gone{Name: m.Repository + "@" + m.Digest.String(), Why: "no tag", Error: m.Error})
	}
	return out
}
