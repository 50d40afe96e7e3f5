package harbor

import (
	"context"
	"strings"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// readLabels reads those of the registry and those of the projects: Harbor lists
// neither with the other.
func readLabels(ctx context.Context, s *site) error {
	if s.only == nil || s.only[""] {
		list, err := s.c.Labels(ctx, 0)
		if err != nil {
			return err
		}
		s.addLabels("", list)
	}
	return s.eachOf(ctx, labelLists(), func(ctx context.Context, p api.Project) error {
		list, err := s.c.Labels(ctx, p.ID)
		if err != nil {
			return err
		}
		s.addLabels(p.Name, list)
		return nil
	})
}

func labelLists() projectLists { return projectLists{kind: schema.KindLabel, right: "label:list"} }

func (s *site) addLabels(project string, list []api.Label) {
	for _, l := range list {
		if !nameable(schema.KindLabel, l.Name) {
			continue
		}
		s.add(schema.NewKey(schema.KindLabel, project, l.Name), l.ID, &schema.Label{Color: new(colour(l.Color)), Description: &l.Description})
	}
}

// colour has one spelling.
func colour(text string) string { return strings.ToUpper(text) }

func normalLabel(_ *normal, r schema.Resource) (schema.Spec, error) {
	spec, ok := r.Spec.(*schema.Label)
	if !ok || spec.Color == nil {
		return r.Spec, nil
	}
	out := *spec
	out.Color = new(colour(*spec.Color))
	return &out, nil
}

func writeLabel(ctx context.Context, s *site, c plan.Change, live object) error {
	if c.Action == plan.Delete {
		return s.c.DeleteLabel(ctx, live.id)
	}
	want, err := after[*schema.Label](c)
	if err != nil {
		return err
	}
	next := api.Label{ID: live.id, Name: c.Key.Child(), Color: of(want.Color, ""), Description: of(want.Description, "")}
	if ns, ok := c.Key.Namespace(); ok {
		p, err := s.project(ctx, ns.Name)
		if err != nil {
			return err
		}
		next.Project = p.ID
	}
	if c.Action == plan.Create {
		return s.c.CreateLabel(ctx, next)
	}
	return s.c.UpdateLabel(ctx, next)
}
