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
	out := map[string]providers.Listed{}
	err := p.artifacts(ctx, repositories, func(list []api.Artifact, wanted func(string) bool) {
		for name, is := range holdings(list) {
			if wanted(name) {
				out[name] = is
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Sizes implements [providers.Sizer] by the same lists. What several images of a
// repository share counts in each.
func (p *Provider) Sizes(ctx context.Context, repositories []string) (map[string]int64, error) {
	out := map[string]int64{}
	err := p.artifacts(ctx, repositories, func(list []api.Artifact, wanted func(string) bool) {
		for _, a := range list {
			if wanted(a.Repository) {
				out[a.Repository] += a.Size
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// artifacts lists those of repositories, a project at a time, and with them perhaps some
// of others that nobody wanted. Those that take one are called one after the other.
func (p *Provider) artifacts(ctx context.Context, repositories []string, take func(list []api.Artifact, wanted func(repository string) bool)) error {
	c, err := p.client(ctx)
	if err != nil {
		return err
	}
	of := map[string][]api.Repository{}
	for _, name := range repositories {
		if project, _, ok := strings.Cut(name, "/"); ok {
			of[project] = append(of[project], api.Repository{Name: name})
		}
	}
	projects, err := c.Projects(ctx)
	if err != nil {
		return err
	}
	var mu sync.Mutex
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
			names := map[string]bool{}
			for _, r := range wanted {
				names[r.Name] = true
			}
			mu.Lock()
			defer mu.Unlock()
			take(list, func(name string) bool { return names[name] })
			return nil
		})
	}
	return work.Wait()
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

var (
	_ providers.Lister = (*Provider)(nil)
	_ providers.Sizer  = (*Provider)(nil)
)
