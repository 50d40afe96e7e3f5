package harbor

import (
	"context"
	"errors"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
)

// List implements [providers.Lister] by the lists of artifacts, a hundred to a request.
// Of a project that is a cache nothing is told: what it would fetch is no artifact yet,
// and is listed by /v2/.
func (p *Provider) List(ctx context.Context, repositories []string) (map[string]providers.Listed, error) {
	c, err := p.client(ctx)
	if err != nil {
		return nil, err
	}
	of := map[string][]api.Repository{}
	for _, name := range repositories {
		if project, _, ok := strings.Cut(name, "/"); ok {
			of[project] = append(of[project], api.Repository{Name: name})
		}
	}
	projects, err := c.Projects(ctx)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	out := map[string]providers.Listed{}
	work, asking := errgroup.WithContext(ctx)
	work.SetLimit(32) // the client lets fewer through
	for _, project := range projects {
		wanted := of[project.Name]
		if len(wanted) == 0 || project.Repositories == 0 || project.Remote != 0 {
			continue
		}
		work.Go(func() error {
			list, err := c.Tagged(asking, project.Name, wanted, project.Repositories)
			if errors.Is(err, providers.ErrNotFound) || errors.Is(err, providers.ErrForbidden) {
				return nil
			}
			if err != nil {
				return err
			}
			told := holdings(list)
			mu.Lock()
			defer mu.Unlock()
			for _, r := range wanted {
				if is, ok := told[r.Name]; ok {
					out[r.Name] = is
				}
			}
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return nil, err
	}
	return out, nil
}

// holdings sorts artifacts by their repositories. One is left out of which a tag names
// two: it moved from one page to the other.
func holdings(list []api.Artifact) map[string]providers.Listed {
	out := map[string]providers.Listed{}
	moving := map[string]bool{}
	for _, a := range list {
		is, ok := out[a.Repository]
		if !ok {
			is = providers.Listed{Tags: map[string]string{}, Referred: map[string]bool{}}
			out[a.Repository] = is
		}
		for _, t := range a.Tags {
			if other, ok := is.Tags[t.Name]; ok && other != a.Digest {
				moving[a.Repository] = true
			}
			is.Tags[t.Name] = a.Digest
		}
		if len(a.Accessories) > 0 || len(a.Parts) > 0 { // what refers to a part is told of that alone
			is.Referred[a.Digest] = true
		}
	}
	for name := range moving {
		delete(out, name)
	}
	return out
}

var _ providers.Lister = (*Provider)(nil)
