package distribution

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	registry "github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/pkg/retention"
)

// maxPreview is how many tags that are kept a preview lists.
const maxPreview = 100000

// Retention says of every tag what the job would do, and why, or of those in
// some namespaces. It removes nothing: that is [Provider.Run]'s.
func (p *Provider) Retention(ctx context.Context, o registry.RetentionOptions) (registry.RetentionReport, error) {
	report := registry.RetentionReport{DryRun: true, Now: time.Now(), Tags: []registry.TagReport{}}
	if !o.DryRun {
		return report, p.jobError(jobRetention, providers.ErrUnsupported, "run it as a job")
	}
	if p.accounts == nil {
		_, err := p.retain(ctx, nil, true, nil) // which says why
		return report, err
	}
	policies, rules, err := p.policies(ctx)
	if err != nil {
		return report, err
	}
	for _, ns := range o.Namespaces {
		if policies[ns] == nil {
			return report, p.jobError(jobRetention, fmt.Errorf("namespace %s: %w: it has no retention rules", ns, providers.ErrNotFound), "correct --namespace")
		}
	}
	root, kept := p.filesystem(), 0
	found, err := p.retain(ctx, o.Namespaces, true, func(repository string, t retention.Tag, v retention.Verdict) {
		if v.Kept {
			if kept++; kept > maxPreview {
				return
			}
		}
		report.Tags = append(report.Tags, registry.TagReport{
			Namespace: rules.Namespace(repository), Repository: repository, Tag: t.Name, Digest: linked(root, repository, t.Name),
			Pushed: t.Pushed, Kept: v.Kept, Why: v.Why,
		})
	})
	report.Kept = found.Kept
	for _, g := range found.Gone {
		if name, d, ok := strings.Cut(g.Name, "@"); ok {
			report.Untagged = append(report.Untagged, registry.ManifestReport{Repository: name, Digest: digest.Digest(d), Error: g.Error})
		} else {
			report.Gone++
		}
	}
	slices.SortFunc(report.Tags, func(a, b registry.TagReport) int {
		return strings.Compare(a.Repository+":"+a.Tag, b.Repository+":"+b.Tag)
	})
	return report, err
}

// linked is what a tag names, "" where that is not known.
func linked(root, repository, tag string) digest.Digest {
	if root == "" {
		return ""
	}
	in, err := os.OpenRoot(root)
	if err != nil {
		return ""
	}
	defer in.Close()
	b, err := regular.ReadIn(in, filepath.Join(contentDir, "repositories", filepath.FromSlash(repository), "_manifests/tags", tag, "current/link"), 1<<10)
	if d := digest.Digest(strings.TrimSpace(string(b))); err == nil && d.Validate() == nil {
		return d
	}
	return ""
}
