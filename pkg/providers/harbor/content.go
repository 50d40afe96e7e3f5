package harbor

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// content adds what is known of the repositories of projects, "*" for all of them.
// It is read from lists: to get a manifest would count as a pull.
func (s *site) content(ctx context.Context, names []string, st *schema.State) error {
	all := slices.Contains(names, "*")
	fresh := newSite(s.p, s.c) // of every project, whatever the read was of
	fresh.projects = memo[[]api.Project]{}
	var infos []schema.RepositoryInfo
	err := fresh.each(ctx, func(ctx context.Context, p api.Project) error {
		if !all && !slices.Contains(names, p.Name) || p.Repositories == 0 {
			return nil
		}
		list, err := s.repositories(ctx, p.Name)
		if err != nil {
			if errors.Is(err, providers.ErrNotFound) { // it went meanwhile
				return nil
			}
			return err
		}
		fresh.mu.Lock()
		defer fresh.mu.Unlock()
		infos = append(infos, list...)
		return nil
	})
	st.Repositories = infos
	st.Scope.Repositories = slices.Clone(names)
	return err
}

// repositories are those of a project, sizes summed over their artifacts: a layer
// that several share counts in each.
func (s *site) repositories(ctx context.Context, project string) ([]schema.RepositoryInfo, error) {
	list, err := s.c.Repositories(ctx, project)
	if err != nil {
		return nil, err
	}
	artifacts, err := s.c.Artifacts(ctx, project, list)
	if err != nil {
		return nil, err
	}
	at := map[string]int{}
	out := make([]schema.RepositoryInfo, len(list))
	for i, r := range list {
		at[r.Name], out[i].Name = i, r.Name
	}
	for _, a := range artifacts {
		i, ok := at[a.Repository]
		if !ok {
			continue
		}
		r := &out[i]
		r.Tags += len(a.Tags)
		r.Bytes += schema.Size(a.Size)
		r.Pushed, r.Pulled = later(r.Pushed, a.Pushed), later(r.Pulled, a.Pulled)
	}
	return out, nil
}

// later is the later of two days; Harbor's word for never is the year 1.
func later(d schema.Date, t time.Time) schema.Date {
	if t.Year() <= 1 {
		return d
	}
	t = t.UTC()
	if day := (schema.Date{Year: t.Year(), Month: int(t.Month()), Day: t.Day()}); d.Before(day) {
		return day
	}
	return d
}
