package harbor

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

const (
	// mostRules is how many a policy may have.
	mostRules = 15
	day       = schema.Duration(86400)
)

// readRetention reads the policies of the projects that have one. Nothing lists
// them: a project's metadata say which is its own.
func readRetention(ctx context.Context, s *site) error {
	has := func(p api.Project) bool { return policyOf(p) > 0 }
	return s.eachOf(ctx, projectLists{kind: schema.KindRetention, right: "tag-retention:read", in: has}, func(ctx context.Context, p api.Project) error {
		id := policyOf(p)
		key := below(schema.KindRetention, p.Name)
		policy, err := s.c.Retention(ctx, id)
		switch {
		case api.Is(err, 500): // Harbor says so of a policy that it cannot find, and of what failed
			if !s.c.LacksRetention(ctx, id) {
				s.miss(key)
				return nil
			}
			s.mu.Lock()
			s.lost[p.Name] = true
			s.mu.Unlock()
			return nil
		case err != nil:
			return err
		}
		s.mu.Lock()
		s.retentions[p.Name] = policy
		s.mu.Unlock()
		s.add(key, id, retentionOf(policy))
		return nil
	})
}

// policyOf is the id of a project's policy, 0 where it has none.
func policyOf(p api.Project) int64 {
	id, err := strconv.ParseInt(p.Metadata["retention_id"], 10, 64)
	if err != nil {
		return 0
	}
	return id
}

// retentionOf is a policy in our words.
func retentionOf(p api.Retention) *schema.Retention {
	schedule := sixFields(p.Trigger.Settings.Cron)
	keep := []schema.KeepRule{}
	for _, r := range p.Rules {
		keep = append(keep, keepOf(r))
	}
	removes := allTaggedOnly(keep)
	return &schema.Retention{Keep: normalKeep(keep, removes), Untagged: &removes, Schedule: &schedule}
}

// allTaggedOnly reports whether no rule keeps what has no tag, not even one that is
// switched off.
func allTaggedOnly(keep []schema.KeepRule) bool {
	return len(keep) > 0 && !slices.ContainsFunc(keep, func(r schema.KeepRule) bool { return !r.TaggedOnly })
}

// keepOf is a rule in our words. One whose template nobody here knows shows it.
func keepOf(r api.Rule) schema.KeepRule {
	out := schema.KeepRule{
		Tags: globOf(r.Tags), Repositories: globOf(r.Scope["repository"]),
		TaggedOnly: !slices.ContainsFunc(r.Tags, keepsUntagged), Disabled: schema.Off(r.Disabled),
	}
	n := 0
	if f, err := strconv.ParseFloat(strings.Trim(string(r.Params[r.Template]), `"`), 64); err == nil {
		n = int(f)
	}
	days := schema.Duration(n) * day
	switch r.Template {
	case api.NewestPushed:
		out.Newest = n
	case api.NewestPulled:
		out.NewestPulled = n
	case api.DaysPushed:
		out.PushedWithin = days
	case api.DaysPulled:
		out.PulledWithin = days
	case api.Always:
		out.Always = true
	default:
		out.Tags += " (" + r.Template + ")"
	}
	return out
}

// normalKeep sorts rules and takes out what says the same twice. That everything
// is kept is what no rule says, and where removes says of all of them that they keep
// nothing without a tag, none says so itself.
func normalKeep(rules []schema.KeepRule, removes bool) []schema.KeepRule {
	out := []schema.KeepRule{}
	on := 0
	for _, r := range rules {
		r.Tags, r.Repositories, r.TaggedOnly = short(r.Tags), short(r.Repositories), r.TaggedOnly && !removes
		out = append(out, r)
	}
	out = sortedRules(out)
	for _, r := range out {
		if !r.Disabled {
			on++
		}
	}
	if all := (schema.KeepRule{Always: true}); on == 1 {
		out = slices.DeleteFunc(out, func(r schema.KeepRule) bool { return r == all })
	}
	return out
}

// sortedRules puts rules, which have no order, into one, each once.
func sortedRules[R comparable](rules []R) []R {
	text := func(r R) string {
		b, err := json.Marshal(r)
		if err != nil { // of texts and numbers there is none
			return ""
		}
		return string(b)
	}
	slices.SortFunc(rules, func(a, b R) int { return strings.Compare(text(a), text(b)) })
	return slices.Compact(rules)
}

func normalRetention(_ *normal, r schema.Resource) (schema.Spec, error) {
	spec, ok := r.Spec.(*schema.Retention)
	if !ok {
		return r.Spec, nil
	}
	out := *spec
	if out.Keep != nil {
		some := slices.ContainsFunc(out.Keep, func(r schema.KeepRule) bool { return r.TaggedOnly })
		if some && out.Untagged == nil { // it says so of the other rules too
			out.Untagged = new(allTaggedOnly(out.Keep))
		}
		out.Keep = normalKeep(out.Keep, of(out.Untagged, false))
	}
	if out.Schedule != nil {
		text := sixFields(*out.Schedule)
		out.Schedule = &text
	}
	return &out, nil
}

// tidyRetention has no rule say what the change says of all of them.
func tidyRetention(c plan.Change) schema.Spec {
	want, ok := c.After.Spec.(*schema.Retention)
	if !ok || want.Keep == nil {
		return c.After.Spec
	}
	out := *want
	out.Keep = normalKeep(out.Keep, of(out.Untagged, false))
	return &out
}

// prepareRetention refuses what Harbor's rules cannot say: each has one condition,
// in whole days.
func prepareRetention(_ context.Context, _ *site, c plan.Change, v *providers.Verdict) error {
	if c.Action == plan.Delete {
		return nil
	}
	want, err := after[*schema.Retention](c)
	if err != nil {
		return err
	}
	var why []string
	if want.Schedule != nil {
		if s := unschedulable(*want.Schedule); s != "" {
			why = append(why, s)
		}
	}
	if n := len(want.Keep); n > mostRules {
		why = append(why, fmt.Sprintf("Harbor takes %d rules at most, and these are %d", mostRules, n))
	}
	if !of(want.Untagged, true) && allTaggedOnly(want.Keep) {
		why = append(why, "no rule keeps what has no tag (tagged_only), and with untagged = false it stays; write untagged = true, or take tagged_only out of one rule")
	}
	if touches(c, "keep") {
		for _, r := range want.Keep {
			if _, err := template(r); err != nil {
				why = append(why, err.Error())
			}
		}
	}
	v.Refused = strings.Join(why, "; ")
	return nil
}

// touches reports whether a change makes the object, or changes a field of it.
func touches(c plan.Change, fields ...string) bool {
	return c.Action == plan.Create || c.Action == plan.Replace || slices.ContainsFunc(c.Fields, func(f plan.Field) bool {
		return slices.ContainsFunc(fields, func(path string) bool { return f.Path == path || strings.HasPrefix(f.Path, path+".") })
	})
}

// template is a rule's condition in Harbor's words, with its parameter.
func template(r schema.KeepRule) (api.Rule, error) {
	out := api.Rule{
		Action: "retain", Disabled: bool(r.Disabled), Params: map[string]json.RawMessage{},
		Tags: []api.Selector{tagSelector(r.Tags)}, Scope: repositoryScope(r.Repositories),
	}
	said := 0
	set := func(name string, n int) {
		said++
		out.Template = name
		out.Params[name] = json.RawMessage(strconv.Itoa(n))
	}
	days := func(name string, d schema.Duration) error {
		if d%day != 0 || d/day > math.MaxInt32 {
			return fmt.Errorf("Harbor counts in days, and %s is no number of them", d) //nolint:staticcheck // its name
		}
		set(name, int(d/day))
		return nil
	}
	if r.Newest > 0 {
		set(api.NewestPushed, r.Newest)
	}
	if r.NewestPulled > 0 {
		set(api.NewestPulled, r.NewestPulled)
	}
	for name, d := range map[string]schema.Duration{api.DaysPushed: r.PushedWithin, api.DaysPulled: r.PulledWithin} {
		if d != 0 {
			if err := days(name, d); err != nil {
				return out, err
			}
		}
	}
	if r.Always {
		said++
		out.Template = api.Always
	}
	if said > 1 {
		return out, fmt.Errorf("a rule of Harbor's has one condition, and no tag stays that meets one of two; give each a rule of its own, if any may keep a tag")
	}
	return out, nil
}

func writeRetention(ctx context.Context, s *site, c plan.Change, live object) error {
	if c.Action == plan.Delete {
		return s.c.DeleteRetention(ctx, c.Key.Name, live.id)
	}
	want, err := after[*schema.Retention](c)
	if err != nil {
		return err
	}
	next, exists := s.retentions[c.Key.Name]
	if !exists {
		p, err := s.project(ctx, c.Key.Name)
		if err != nil {
			return err
		}
		next.Algorithm, next.Trigger.Kind = "or", "Schedule"
		next.Scope.Level, next.Scope.Ref = "project", p.ID
		if s.lost[c.Key.Name] { // Harbor takes no other while it points to that
			if err := s.c.ForgetRetention(ctx, c.Key.Name); err != nil {
				return err
			}
		}
	}
	if want.Schedule != nil {
		next.Trigger.Settings.Cron = cron(*want.Schedule)
	}
	if next.Trigger.Settings.Cron != "" { // of another kind Harbor would schedule nothing, and fail
		next.Trigger.Kind = "Schedule"
	}
	if !exists || touches(c, "keep", "untagged") {
		if next.Rules, err = rulesOf(want, next.Rules, touches(c, "keep")); err != nil {
			return err
		}
	}
	if exists {
		return s.c.UpdateRetention(ctx, next)
	}
	return s.c.CreateRetention(ctx, next)
}

// rulesOf are a policy's rules: those that are wanted, or, where only what becomes
// of the untagged changes, those it has.
func rulesOf(want *schema.Retention, have []api.Rule, anew bool) ([]api.Rule, error) {
	removes := of(want.Untagged, false)
	out := []api.Rule{}
	add := func(r api.Rule, untagged bool) {
		r.Tags = slices.Clone(r.Tags)
		for i := range r.Tags {
			r.Tags[i] = keepUntagged(r.Tags[i], untagged)
		}
		out = append(out, r)
	}
	if !anew {
		for _, r := range have {
			add(r, !removes)
		}
		if on := func(r api.Rule) bool { return !r.Disabled }; !removes || slices.ContainsFunc(out, on) {
			return out, nil
		}
		out = []api.Rule{}
	}
	keep := slices.Clone(want.Keep)
	if on := func(r schema.KeepRule) bool { return !bool(r.Disabled) }; removes && !slices.ContainsFunc(keep, on) { // a rule must say so
		keep = append(keep, schema.KeepRule{Always: true})
	}
	for _, k := range keep {
		r, err := template(k)
		if err != nil {
			return nil, err
		}
		add(r, !removes && !k.TaggedOnly)
	}
	return out, nil
}
