package harbor

import (
	"context"
	"fmt"
	"html"
	"net/http"
	"strings"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// readRepositories reads what is said of the repositories of all projects.
func readRepositories(ctx context.Context, s *site) error {
	list, err := s.c.AllRepositories(ctx)
	if err != nil {
		return err
	}
	for _, r := range list {
		if project, _ := split(r.Name); project != schema.Reserved {
			text := html.UnescapeString(r.Description) // Harbor keeps it as HTML
			s.add(schema.Key{Kind: schema.KindRepository, Name: r.Name}, r.ID, &schema.Repository{Description: &text})
		}
	}
	return nil
}

// split parts a repository's name into its project and the rest.
func split(repository string) (project, rest string) {
	project, rest, _ = strings.Cut(repository, "/")
	return project, rest
}

func prepareRepository(_ context.Context, _ *site, c plan.Change, v *providers.Verdict) error {
	switch c.Action {
	case plan.Create:
		v.Notes = append(v.Notes, "Harbor makes a repository with the first push to it; what is said of it waits for that")
	case plan.Delete:
		v.Held = "Harbor deletes all that is in it too"
	}
	return nil
}

func writeRepository(ctx context.Context, s *site, c plan.Change, _ object) error {
	project, name := split(c.Key.Name)
	if c.Action == plan.Delete {
		return s.c.DeleteRepository(ctx, project, name)
	}
	want, err := after[*schema.Repository](c)
	if err != nil || want.Description == nil {
		return err
	}
	err = s.c.DescribeRepository(ctx, project, name, *want.Description)
	if api.Is(err, http.StatusNotFound) {
		return &providers.Error{Registry: s.p.registry.URL, Err: fmt.Errorf("%w: Harbor makes a repository with the first push to it", providers.ErrPending), Remedy: "push to it, and apply again"}
	}
	return err
}
