package harbor

import (
	"context"
	"fmt"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

func readQuotas(ctx context.Context, s *site) error {
	quotas, err := s.allQuotas(ctx)
	if err != nil {
		return err
	}
	for _, q := range quotas {
		if q.Ref.Name == schema.Reserved || q.Ref.Name == "" {
			continue
		}
		limit := schema.Size(q.Hard.Storage) // -1 is Harbor's word for none too
		s.add(below(schema.KindQuota, q.Ref.Name), q.ID, &schema.Quota{Limit: &limit})
	}
	return nil
}

// prepareQuota refuses what is no limit to Harbor.
func prepareQuota(_ context.Context, _ *site, c plan.Change, v *providers.Verdict) error {
	if c.Action == plan.Delete {
		return nil
	}
	want, err := after[*schema.Quota](c)
	if err != nil {
		return err
	}
	if touches(c, "limit") && of(want.Limit, schema.Unlimited) == 0 {
		v.Refused = `Harbor has no limit of nothing; write "1B", which lets nothing in, or "unlimited"`
	}
	return nil
}

func writeQuota(ctx context.Context, s *site, c plan.Change, live object) error {
	if c.Action == plan.Delete { // nobody's any more, and what it is
		return nil
	}
	want, err := after[*schema.Quota](c)
	if err != nil {
		return err
	}
	if want.Limit == nil {
		return nil
	}
	if live.id == 0 {
		return fmt.Errorf("%w: Harbor shows no quota of the project", providers.ErrNotFound)
	}
	return s.c.SetQuota(ctx, live.id, int64(*want.Limit))
}
