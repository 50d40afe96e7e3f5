package harbor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// mostWorkers is how many may collect at once.
func (s *site) mostWorkers() int {
	if s.c.Before(2, 13) {
		return 5
	}
	return 10
}

// readGC reads when content is collected, and how. Harbor forgets how with when.
func readGC(ctx context.Context, s *site) error {
	g, err := s.gc.get(func() (api.GC, error) { return s.c.GC(ctx) })
	if err != nil {
		return err
	}
	spec := &schema.GC{Schedule: new(sixFields(g.Schedule.Cron))}
	if g.Schedule.None() {
		spec.Schedule = new(noSchedule)
	} else {
		spec.Untagged = &g.Untagged
		if g.Workers > 0 {
			spec.Workers = &g.Workers
		}
	}
	s.add(schema.Key{Kind: schema.KindGC}, 0, spec)
	return nil
}

func normalGC(n *normal, r schema.Resource) (schema.Spec, error) {
	spec, ok := r.Spec.(*schema.GC)
	if !ok || spec.Schedule == nil {
		return r.Spec, nil
	}
	out := *spec
	out.Schedule = new(sixFields(*spec.Schedule))
	if *out.Schedule == noSchedule && (out.Untagged != nil || out.Workers != nil) {
		out.Untagged, out.Workers = nil, nil
		n.say(r.Key, "Harbor keeps nothing of collections that are not scheduled: untagged and workers wait for a schedule")
	}
	return &out, nil
}

func prepareGC(_ context.Context, s *site, c plan.Change, v *providers.Verdict) error {
	if c.Action == plan.Delete {
		return nil
	}
	want, err := after[*schema.GC](c)
	if err != nil {
		return err
	}
	switch {
	case of(want.Schedule, noSchedule) == noSchedule:
		if touches(c, "untagged", "workers") {
			v.Refused = "Harbor keeps nothing of collections that are not scheduled; declare gc.schedule too"
		}
	case of(want.Workers, 1) > s.mostWorkers():
		v.Refused = fmt.Sprintf("this Harbor (%s) has %d workers at the most", s.c.Version, s.mostWorkers())
	default:
		v.Refused = unschedulable(*want.Schedule)
	}
	return nil
}

func writeGC(ctx context.Context, s *site, c plan.Change, _ object) error {
	if c.Action == plan.Delete { // nobody's any more, and what it is
		return nil
	}
	want, err := after[*schema.GC](c)
	if err != nil {
		return err
	}
	next, err := s.gc.get(func() (api.GC, error) { return s.c.GC(ctx) })
	if err != nil {
		return err
	}
	next.Untagged, next.Workers = of(want.Untagged, next.Untagged), of(want.Workers, next.Workers)
	return s.c.SetGC(ctx, cron(of(want.Schedule, noSchedule)), next)
}

const (
	hour = schema.Duration(3600)
	// mostHours is how long Harbor keeps records if not for ever.
	mostHours = 240000
)

// readAudit reads how long the audit log is kept: for ever where nothing is scheduled, of
// which Harbor knows nothing more, and where a purge only tries (dry_run).
func readAudit(ctx context.Context, s *site) error {
	p, err := s.purge.get(func() (api.Purge, error) { return s.c.Purge(ctx) })
	if err != nil {
		return err
	}
	key := schema.Key{Kind: schema.KindAudit}
	want, _ := s.p.desired(key).(*schema.Audit)
	purges := want != nil && of(want.Keep, schema.Never) != schema.Never
	spec := &schema.Audit{Schedule: new(noSchedule), Keep: new(schema.Never)}
	if !p.Schedule.None() && (!p.DryRun || purges) {
		spec.Schedule, spec.Events = new(sixFields(p.Schedule.Cron)), eventsOf(p)
		if !p.DryRun { // one that only tries takes nothing away, and all else of it stands
			spec.Keep = new(schema.Duration(p.Hours) * hour)
		}
	}
	s.add(key, 0, spec)
	return nil
}

// eventsOf are the events whose records go.
func eventsOf(p api.Purge) schema.Set {
	return schema.NewSet(strings.FieldsFunc(p.Events+","+p.Operations, func(r rune) bool { return r == ',' || r == ' ' })...)
}

func normalAudit(n *normal, r schema.Resource) (schema.Spec, error) {
	spec, ok := r.Spec.(*schema.Audit)
	if !ok {
		return r.Spec, nil
	}
	out := *spec
	if spec.Schedule != nil {
		out.Schedule = new(sixFields(*spec.Schedule))
	}
	switch {
	case of(out.Keep, 0) == schema.Never: // nothing goes, so nothing is scheduled
		out.Schedule, out.Events = new(noSchedule), nil
	case of(out.Schedule, "") == noSchedule && (out.Keep != nil || out.Events != nil):
		out.Keep, out.Events = nil, nil
		n.say(r.Key, "Harbor keeps nothing of a purge that is not scheduled: keep and events wait for a schedule")
	}
	return &out, nil
}

func prepareAudit(ctx context.Context, s *site, c plan.Change, v *providers.Verdict) error {
	if c.Action == plan.Delete {
		return nil
	}
	want, err := after[*schema.Audit](c)
	if err != nil || of(want.Schedule, noSchedule) == noSchedule {
		if err == nil && touches(c, "keep", "events") && of(want.Keep, schema.Never) != schema.Never {
			v.Refused = "Harbor keeps nothing of a purge that is not scheduled; declare audit.schedule too"
		}
		return err
	}
	if now, err := s.purge.get(func() (api.Purge, error) { return s.c.Purge(ctx) }); err == nil && now.DryRun && !now.Schedule.None() {
		v.Notes = append(v.Notes, "the purge that Harbor has only tries (dry_run), so that nothing goes; this one does")
	}
	keep := of(want.Keep, schema.Never)
	switch {
	case keep == schema.Never:
		v.Refused = "Harbor wants to know what is old before it takes it away; declare audit.keep too"
	case keep/hour > mostHours:
		v.Refused = fmt.Sprintf("Harbor keeps records for %s at the most; write \"never\" to keep all", mostHours*hour)
	case keep <= 0 || keep%hour != 0:
		v.Refused = fmt.Sprintf("Harbor counts in hours, and %s is no number of them", keep)
	case want.Events != nil && len(want.Events) == 0:
		v.Refused = `a purge of no events is none; write schedule = "none"`
	default:
		v.Refused = unschedulable(*want.Schedule)
	}
	if v.Refused != "" || !touches(c, "events") || want.Events == nil {
		return nil
	}
	known, err := s.auditEvents(ctx)
	if errors.Is(err, providers.ErrForbidden) {
		return nil
	}
	for _, e := range want.Events {
		if err == nil && !slices.Contains(known, e) {
			v.Refused = fmt.Sprintf("this Harbor (%s) records no %s; it records %s", s.c.Version, e, strings.Join(known, ", "))
			break
		}
	}
	return err
}

// auditEvents are what this Harbor records, by its own names, sorted: before 2.13
// operations.
func (s *site) auditEvents(ctx context.Context) ([]string, error) {
	if s.c.Before(2, 13) {
		return []string{"create", "delete", "pull"}, nil
	}
	list, err := s.c.AuditEvents(ctx)
	slices.Sort(list)
	return list, err
}

// writeAudit sets the purge. Harbor wants all of it: where nobody says which events
// go, those that it has stay, and a new purge takes all.
func writeAudit(ctx context.Context, s *site, c plan.Change, _ object) error {
	if c.Action == plan.Delete { // nobody's any more, and what it is
		return nil
	}
	want, err := after[*schema.Audit](c)
	if err != nil {
		return err
	}
	next, err := s.purge.get(func() (api.Purge, error) { return s.c.Purge(ctx) })
	if err != nil {
		return err
	}
	events := []string(want.Events)
	if len(events) == 0 {
		events = eventsOf(next)
	}
	if len(events) == 0 {
		if events, err = s.auditEvents(ctx); err != nil {
			return err
		}
	}
	list := strings.Join(events, ",")
	if next.Events, next.Operations = list, ""; s.c.Before(2, 13) {
		next.Events, next.Operations = "", list
	}
	if keep := of(want.Keep, schema.Never); keep > 0 {
		next.Hours = int64(keep / hour)
	}
	return s.c.SetPurge(ctx, cron(of(want.Schedule, noSchedule)), next)
}
