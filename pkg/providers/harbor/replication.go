package harbor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// The types of a replication's filters.
const (
	filterName  = "name"
	filterTag   = "tag"
	filterLabel = "label"
	filterType  = "resource"
)

// Which types of artifacts a filter names, and the word where none does.
const (
	everyType = "all"
	image     = "image"
	artifact  = "artifact"
)

// flat is how many parts of a name Harbor replaces where nobody says: all but the
// last, as it did before one could.
const flat = -1

const (
	onPush   = "push"
	onManual = "manual"
)

// readReplications reads the rules. Each tells whole registries: their names count.
func readReplications(ctx context.Context, s *site) error {
	rules, err := s.allReplications(ctx)
	if err != nil {
		return err
	}
	for _, r := range rules {
		spec := &schema.Replication{
			Namespace: &r.Namespace, Description: &r.Description, Match: matchOf(r.Filters), Trigger: triggerOf(r.Trigger),
			Deletes: &r.Deletes, Override: &r.Override, Enabled: &r.Enabled, Rate: new(rateOf(r.Speed)),
			Flatten: new(max(of(r.Replace, flat), flat)), Chunks: new(of(r.Chunks, false)), Single: new(of(r.Single, false)),
		}
		if r.From != nil && r.From.ID != 0 {
			spec.From = &r.From.Name
		} else if r.To != nil {
			spec.To = &r.To.Name
		}
		s.add(schema.Key{Kind: schema.KindReplication, Name: r.Name}, r.ID, spec)
	}
	return nil
}

// excludes begins what a filter leaves out.
const excludes = "!"

// matchOf is what filters choose, in our words.
func matchOf(list []api.Filter) *schema.Match {
	repositories, tags := "", ""
	out := &schema.Match{Repositories: &repositories, Tags: &tags, Labels: schema.Set{}, Type: new(everyType)}
	for _, f := range list {
		not := ""
		if f.Decoration == "excludes" {
			not = excludes
		}
		switch f.Type {
		case filterName:
			repositories = not + f.Value.Text
		case filterTag:
			tags = not + f.Value.Text
		case filterLabel:
			var labels []string
			for _, l := range f.Value.List {
				labels = append(labels, not+l)
			}
			out.Labels = schema.NewSet(labels...)
		case filterType:
			if out.Type = nil; f.Value.Text == image || f.Value.Text == artifact { // else no mode says it
				out.Type = new(f.Value.Text)
			}
		}
	}
	return out
}

func triggerOf(t api.ReplicationTrigger) *schema.Trigger {
	switch t.Type {
	case api.TriggerEvent:
		return &schema.Trigger{On: onPush}
	case api.TriggerScheduled:
		return &schema.Trigger{Schedule: sixFields(t.Settings.Cron)}
	}
	return &schema.Trigger{On: onManual}
}

func normalReplication(n *normal, r schema.Resource) (schema.Spec, error) {
	spec, ok := r.Spec.(*schema.Replication)
	if !ok {
		return r.Spec, nil
	}
	out := *spec
	out.Trigger = normalTrigger(spec.Trigger)
	out.Rate = normalRate(n, r.Key, "rate", spec.Rate)
	return &out, nil
}

// normalTrigger is a trigger in the form of read. One in another zone than UTC is
// refused later.
func normalTrigger(t *schema.Trigger) *schema.Trigger {
	if t == nil || t.On != "" {
		return t
	}
	out := &schema.Trigger{Schedule: sixFields(t.Schedule)}
	if t.Zone != "UTC" {
		out.Zone = t.Zone
	}
	if out.Schedule == noSchedule {
		out = &schema.Trigger{On: onManual}
	}
	return out
}

// untimely says why Harbor starts nothing so, or "".
func untimely(t schema.Trigger) string {
	if t.Zone != "" {
		return "Harbor's schedules are in UTC, and not in " + t.Zone
	}
	return unschedulable(t.Schedule)
}

// tidyReplication leaves only the way that a rule which has been turned round has
// now, and none that starts with each push to run once at a time: Harbor answers 500
// to both.
func tidyReplication(c plan.Change) schema.Spec {
	spec, ok := c.After.Spec.(*schema.Replication)
	if !ok {
		return c.After.Spec
	}
	out := *spec
	if of(spec.Trigger, schema.Trigger{}).On == onPush && touches(c, "trigger") && !touches(c, "single") {
		out.Single = new(false)
	}
	if spec.From == nil || spec.To == nil {
		return &out
	}
	if c.Action == plan.Update && touches(c, "from") {
		out.To = nil
	} else {
		out.From = nil
	}
	return &out
}

func prepareReplication(_ context.Context, s *site, c plan.Change, v *providers.Verdict) error {
	if c.Action == plan.Delete {
		return nil
	}
	want, ok := tidyReplication(c).(*schema.Replication)
	if !ok {
		return providers.ErrInvalid
	}
	if want.Match != nil && strings.HasPrefix(of(want.Match.Repositories, ""), excludes) {
		v.Refused = "Harbor leaves out tags and labels, and no repositories; name those that it copies"
		return nil
	}
	if touches(c, "rate") {
		v.Refused = tooFast(want.Rate)
	}
	if of(want.Single, false) && touches(c, "single") && s.c.Before(2, 14) {
		v.Refused = fmt.Sprintf("this Harbor (%s) has no single, and says nothing: 2.14 and later have; take it out", s.c.Version)
	}
	t := want.Trigger
	if t == nil || v.Refused != "" {
		return nil
	}
	declared, _ := s.p.desired(c.Key).(*schema.Replication)
	switch {
	case t.On == onPush && declared != nil && of(declared.Single, false):
		v.Refused = "Harbor lets no replication that starts with each push run once at a time; take single out, or name another trigger"
	case t.On == onPush && of(want.From, "") != "":
		v.Refused = "Harbor hears of pushes to itself alone; with from, the trigger is manual or a schedule"
	case t.Zone != "" || t.Schedule != "":
		v.Refused = untimely(*t)
		if fields := strings.Fields(t.Schedule); v.Refused == "" && len(fields) == 6 && fields[1] == "*" {
			v.Refused = fmt.Sprintf("Harbor copies not every minute; name the minutes in %q", t.Schedule)
		}
	}
	return nil
}

// writeReplication replaces a rule. What no mode speaks of stays as it is.
func writeReplication(ctx context.Context, s *site, c plan.Change, live object) error {
	if c.Action == plan.Delete {
		return s.c.DeleteReplication(ctx, live.id)
	}
	want, err := after[*schema.Replication](c)
	if err != nil {
		return err
	}
	next := api.Replication{Name: c.Key.Name, Enabled: true}
	if c.Action != plan.Create {
		rules, err := s.allReplications(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(rules, func(r api.Replication) bool { return r.ID == live.id })
		if i < 0 {
			return providers.ErrNotFound
		}
		next = rules[i]
		next.Name = c.Key.Name
	}
	if next.From, next.To, err = s.ends(ctx, want); err != nil {
		return err
	}
	next.Namespace, next.Description = of(want.Namespace, ""), of(want.Description, "")
	next.Deletes, next.Override, next.Enabled = of(want.Deletes, false), of(want.Override, false), of(want.Enabled, true)
	next.Speed = max(speedFor(of(want.Rate, schema.Unlimited)), 0)
	if want.Match != nil {
		next.Filters = filtersOf(*want.Match, next.Filters)
	}
	next.Trigger = triggerFor(want.Trigger)
	next.Replace, next.Chunks, next.Single = want.Flatten, want.Chunks, want.Single
	if c.Action == plan.Create {
		return s.c.CreateReplication(ctx, next)
	}
	return s.c.UpdateReplication(ctx, next)
}

// ends finds the registry a rule reads, or the one it writes.
func (s *site) ends(ctx context.Context, want *schema.Replication) (from, to *api.Remote, err error) {
	find := func(name string) (*api.Remote, error) {
		r, err := s.remote(ctx, name)
		return &r, err
	}
	if name := of(want.From, ""); name != "" {
		from, err = find(name)
		return from, nil, err
	}
	to, err = find(of(want.To, ""))
	return nil, to, err
}

func triggerFor(t *schema.Trigger) api.ReplicationTrigger {
	switch {
	case t == nil || t.On == onManual:
		return api.ReplicationTrigger{Type: api.TriggerManual}
	case t.On == onPush:
		return api.ReplicationTrigger{Type: api.TriggerEvent}
	}
	return api.ReplicationTrigger{Type: api.TriggerScheduled, Settings: api.TriggerSettings{Cron: cron(t.Schedule)}}
}

// filtersOf are a rule's filters: those that are wanted, and one of a type that no
// mode speaks of as it is.
func filtersOf(m schema.Match, have []api.Filter) []api.Filter {
	out := []api.Filter{}
	text := func(typ, glob string) {
		if glob == "" {
			return
		}
		f := api.Filter{Type: typ, Value: api.FilterValue{Text: glob}}
		if typ != filterName {
			f.Decoration = "matches"
		}
		if rest, ok := strings.CutPrefix(glob, excludes); ok {
			f.Value.Text, f.Decoration = rest, "excludes"
		}
		out = append(out, f)
	}
	text(filterName, of(m.Repositories, ""))
	text(filterTag, of(m.Tags, ""))
	if len(m.Labels) > 0 {
		f := api.Filter{Type: filterLabel, Decoration: "matches", Value: api.FilterValue{List: []string{}}}
		for _, l := range m.Labels {
			if rest, ok := strings.CutPrefix(l, excludes); ok {
				f.Decoration, l = "excludes", rest
			}
			f.Value.List = append(f.Value.List, l)
		}
		out = append(out, f)
	}
	if m.Type == nil {
		return append(out, slices.DeleteFunc(slices.Clone(have), func(f api.Filter) bool { return f.Type != filterType })...)
	}
	if *m.Type != everyType {
		out = append(out, api.Filter{Type: filterType, Value: api.FilterValue{Text: *m.Type}})
	}
	return out
}

func (s *site) allReplications(ctx context.Context) ([]api.Replication, error) {
	return s.copies.get(func() ([]api.Replication, error) { return s.c.Replications(ctx) })
}
