package harbor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// mostKept is how many characters of filters, and of a description, Harbor's
// database keeps.
const mostKept = 1024

func preheatScopes() [][2]string {
	return [][2]string{{"single-seed-peer", "single_seed_peer"}, {"all-seed-peers", "all_seed_peers"}, {"all-peers", "all_peers"}}
}

// preheatTrigger is what starts a policy, as Harbor writes it.
type preheatTrigger struct {
	Type    string `json:"type"`
	Setting struct {
		Cron string `json:"cron"`
	} `json:"trigger_setting"`
}

// preheatExtra is what of a policy is its instance's.
type preheatExtra struct {
	Scope *string `json:"scope"` // nil for none
}

// newPreheatPolicy is one of which nothing is said: Harbor runs none without a filter.
func newPreheatPolicy() api.PreheatPolicy {
	return api.PreheatPolicy{Enabled: true, Trigger: `{"type":"manual","trigger_setting":{"cron":""}}`, Filters: `[{"type":"repository","value":"**"},{"type":"tag","value":"**"}]`}
}

// readPreheatPolicies reads the policies. One whose texts say what Harbor would not
// run is unknown.
func readPreheatPolicies(ctx context.Context, s *site) error {
	return s.eachOf(ctx, preheatLists(), func(ctx context.Context, p api.Project) error {
		list, err := s.c.PreheatPolicies(ctx, p.Name)
		if err != nil {
			return err
		}
		for _, x := range list {
			key := schema.NewKey(schema.KindPreheatPolicy, p.Name, x.Name)
			spec, err := preheatPolicyOf(x)
			if err != nil {
				s.miss(key)
				continue
			}
			s.mu.Lock()
			s.policies[key] = x
			s.mu.Unlock()
			s.add(key, x.ID, spec)
		}
		return nil
	})
}

func preheatLists() projectLists {
	return projectLists{kind: schema.KindPreheatPolicy, right: "preheat-policy:list"}
}

func preheatPolicyOf(x api.PreheatPolicy) (*schema.PreheatPolicy, error) {
	filters, err := preheatFilters(x.Filters)
	if err != nil {
		return nil, err
	}
	trigger, err := preheatTriggerOf(x.Trigger)
	if err != nil {
		return nil, err
	}
	scope, err := preheatScopeOf(x.Extra)
	if err != nil {
		return nil, err
	}
	return &schema.PreheatPolicy{
		Instance: &x.InstanceName, Description: &x.Description, Enabled: &x.Enabled, Trigger: &trigger, Scope: scope,
		Repositories: filters.glob(api.PreheatRepository), Tags: filters.glob(api.PreheatTag), Labels: filters.labels(),
	}, nil
}

type filterList []api.PreheatFilter

func preheatFilters(text string) (filterList, error) {
	var out filterList
	err := json.Unmarshal([]byte(text), &out)
	return out, err
}

// of lists the values of one type. What is no text, by which Harbor chooses nothing,
// is as it is written.
func (l filterList) of(typ string) []string {
	var out []string
	for _, f := range l {
		if f.Type != typ {
			continue
		}
		var text string
		if json.Unmarshal(f.Value, &text) != nil {
			text = string(f.Value)
		}
		out = append(out, text)
	}
	return out
}

// glob is what filters of one type choose; of several all are told. Where nothing is
// filtered at all it is nil: Harbor runs no policy without a filter.
func (l filterList) glob(typ string) *string {
	list := l.of(typ)
	switch {
	case len(list) > 0:
		return new(strings.Join(list, " and "))
	case slices.ContainsFunc(l, func(f api.PreheatFilter) bool { return spoken(f.Type) }):
		return new(everything)
	}
	return nil
}

// labels are those that Harbor wants all of: it parts them by commas, whatever stands
// around them.
func (l filterList) labels() schema.Set {
	out := schema.Set{}
	for _, text := range l.of(api.PreheatLabel) {
		if text != "" {
			out = append(out, strings.Split(text, ",")...)
		}
	}
	return sortedSet(out)
}

// spoken reports whether a mode speaks of a filter's type. Of the others Harbor goes
// by what the project says.
func spoken(typ string) bool {
	return slices.Contains([]string{api.PreheatRepository, api.PreheatTag, api.PreheatLabel}, typ)
}

// unspoken tells what a policy says beyond a mode's. A change of it keeps that.
func unspoken(x api.PreheatPolicy) []string {
	var out []string
	filters, err := preheatFilters(x.Filters)
	if err != nil {
		out = append(out, "filters such as "+x.Filters)
	}
	for _, f := range filters {
		if !spoken(f.Type) {
			out = append(out, "its filter of type "+f.Type)
		}
	}
	extra := map[string]json.RawMessage{}
	if x.Extra != "" && json.Unmarshal([]byte(x.Extra), &extra) != nil {
		out = append(out, "extra attributes such as "+x.Extra)
	}
	delete(extra, "scope")
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		out = append(out, "its "+name)
	}
	return out
}

func preheatTriggerOf(text string) (schema.Trigger, error) {
	var t preheatTrigger
	err := json.Unmarshal([]byte(text), &t)
	switch {
	case t.Type == api.TriggerEvent:
		return schema.Trigger{On: onPush}, err
	case t.Type == api.TriggerScheduled && t.Setting.Cron != "":
		return schema.Trigger{Schedule: sixFields(t.Setting.Cron)}, err
	}
	return schema.Trigger{On: onManual}, err
}

// preheatScopeOf is nil where nothing is said: which it is then the instance says.
func preheatScopeOf(extra string) (*string, error) {
	var said preheatExtra
	if extra == "" {
		return nil, nil
	}
	err := json.Unmarshal([]byte(extra), &said)
	if said.Scope != nil {
		said.Scope = new(ours(preheatScopes(), *said.Scope))
	}
	return said.Scope, err
}

// normalPreheatPolicy says of what chooses everything that it does.
func normalPreheatPolicy(_ *normal, r schema.Resource) (schema.Spec, error) {
	spec, ok := r.Spec.(*schema.PreheatPolicy)
	if !ok {
		return r.Spec, nil
	}
	out := *spec
	out.Trigger = normalTrigger(spec.Trigger)
	for _, glob := range []**string{&out.Repositories, &out.Tags} {
		if *glob != nil && **glob == "" {
			*glob = new(everything)
		}
	}
	return &out, nil
}

func preparePreheatPolicy(ctx context.Context, s *site, c plan.Change, v *providers.Verdict) error {
	if c.Action == plan.Delete {
		return nil
	}
	want, err := after[*schema.PreheatPolicy](c)
	if err != nil {
		return err
	}
	if v.Refused = unfit(c, want); v.Refused != "" || !touches(c, "instance", "scope") {
		return nil
	}
	scoped := of(want.Scope, "") != ""
	if touches(c, "scope") && scoped && s.c.Before(2, 13) {
		v.Refused = "Harbor takes the scope from outside since version 2.13; leave it out"
		return nil
	}
	name := of(want.Instance, "")
	vendor, err := s.vendor(ctx, name)
	key := schema.Key{Kind: schema.KindPreheat, Name: name}
	switch {
	case errors.Is(err, providers.ErrForbidden):
		v.Refused = fmt.Sprintf("the account in use may not list preheat instances, and Harbor knows %s by a number; give it preheat-instance:list of the system", key)
		return nil
	case err != nil:
		return err
	case vendor == "":
		v.Refused = fmt.Sprintf("there is no %s; declare it as [preheat.%s]", key, name)
	case vendor != "dragonfly" && scoped:
		does := "leave it out"
		if c.Action != plan.Create { // what is left out stays
			does = `write scope = ""`
		}
		v.Refused = fmt.Sprintf("a scope is for instances of Dragonfly, and %s is of %s; %s", key, vendor, does)
	}
	return nil
}

// unfit says of a policy by itself why Harbor takes none such, or "".
func unfit(c plan.Change, want *schema.PreheatPolicy) string {
	name := c.Key.Child()
	scratch := newPreheatPolicy()
	if err := rewrite(&scratch, want); err != nil {
		return err.Error()
	}
	filters := utf8.RuneCountInString(scratch.Filters)
	switch {
	case !regexp.MustCompile(`^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$`).MatchString(name):
		return fmt.Sprintf("Harbor names a preheat policy by letters and digits with one of . _ - between them; name %q so", name)
	case touches(c, "repositories") && strings.HasPrefix(of(want.Repositories, ""), excludes), touches(c, "tags") && strings.HasPrefix(of(want.Tags, ""), excludes):
		return "Harbor preheats what matches, and has no all but that; write repositories and tags without !"
	case touches(c, "labels") && slices.ContainsFunc(want.Labels, func(l string) bool { return strings.HasPrefix(l, excludes) || strings.Contains(l, ",") }):
		return "Harbor preheats what carries all of the labels, and parts them by commas; write labels without ! and commas"
	case filters > mostKept:
		return fmt.Sprintf("Harbor keeps %d characters of filters, and repositories, tags and labels make %d; shorten them", mostKept, filters)
	case utf8.RuneCountInString(of(want.Description, "")) > mostKept:
		return fmt.Sprintf("Harbor keeps %d characters of a description; shorten it", mostKept)
	case want.Trigger != nil:
		return untimely(*want.Trigger)
	}
	return ""
}

// vendor is that of an instance that is there or about to be made, or "".
func (s *site) vendor(ctx context.Context, name string) (string, error) {
	for _, c := range s.planned {
		if c.Key == (schema.Key{Kind: schema.KindPreheat, Name: name}) && c.After != nil {
			x, err := after[*schema.Preheat](c)
			if err != nil {
				return "", err
			}
			return of(x.Vendor, ""), nil
		}
	}
	x, err := s.preheat(ctx, name)
	if errors.Is(err, providers.ErrNotFound) {
		return "", nil
	}
	return x.Vendor, err
}

// preheat finds an instance by name. ErrNotFound: there is none.
func (s *site) preheat(ctx context.Context, name string) (api.Preheat, error) {
	list, err := s.allPreheats(ctx)
	if err != nil {
		return api.Preheat{}, err
	}
	i := slices.IndexFunc(list, func(x api.Preheat) bool { return x.Name == name })
	if i < 0 {
		return api.Preheat{}, s.p.fail(schema.Key{Kind: schema.KindPreheat, Name: name}, "", providers.ErrNotFound, "declare it as [preheat."+name+"]")
	}
	return list[i], nil
}

// writePreheatPolicy replaces a policy. What no mode speaks of stays in its texts.
func writePreheatPolicy(ctx context.Context, s *site, c plan.Change, live object) error {
	ns, _ := c.Key.Namespace()
	name := c.Key.Child()
	if c.Action == plan.Delete {
		return s.c.DeletePreheatPolicy(ctx, ns.Name, name)
	}
	want, err := after[*schema.PreheatPolicy](c)
	if err != nil {
		return err
	}
	s.mu.Lock()
	have, exists := s.policies[live.Key]
	s.mu.Unlock()
	next := have
	if !exists {
		next = newPreheatPolicy()
	}
	next.Name, next.InstanceName = name, ""
	next.Description, next.Enabled = of(want.Description, next.Description), of(want.Enabled, next.Enabled)
	if instance := of(want.Instance, have.InstanceName); instance != have.InstanceName {
		x, err := s.preheat(ctx, instance)
		if err != nil {
			return err
		}
		next.Instance = x.ID
	}
	if err := rewrite(&next, want); err != nil {
		return err
	}
	if !exists {
		return s.c.CreatePreheatPolicy(ctx, ns.Name, next)
	}
	return s.c.UpdatePreheatPolicy(ctx, ns.Name, have.Name, next)
}

// rewrite has a policy's texts say what is wanted. One that does stays as it is, to
// the byte.
func rewrite(next *api.PreheatPolicy, want *schema.PreheatPolicy) error {
	filters, err := preheatFilters(next.Filters)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		typ, text string
		differs   bool
	}{
		{api.PreheatRepository, of(want.Repositories, ""), another(want.Repositories, filters.glob(api.PreheatRepository))},
		{api.PreheatTag, of(want.Tags, ""), another(want.Tags, filters.glob(api.PreheatTag))},
		{api.PreheatLabel, strings.Join(want.Labels, ","), want.Labels != nil && !slices.Equal(want.Labels, filters.labels())},
	} {
		if !f.differs {
			continue
		}
		if filters, err = filters.choosing(f.typ, f.text); err != nil {
			return err
		}
		text, err := json.Marshal(filters)
		if err != nil {
			return err
		}
		next.Filters = string(text)
	}
	trigger, err := preheatTriggerOf(next.Trigger)
	if err == nil && another(want.Trigger, &trigger) {
		t := triggerFor(want.Trigger)
		over := preheatTrigger{Type: t.Type}
		over.Setting.Cron = t.Settings.Cron
		next.Trigger, err = laidOver(next.Trigger, over)
	}
	if err != nil {
		return err
	}
	scope, err := preheatScopeOf(next.Extra)
	switch {
	case err != nil || !another(want.Scope, scope):
	case *want.Scope != "":
		next.Extra, err = laidOver(next.Extra, preheatExtra{new(theirs(preheatScopes(), *want.Scope))})
	case scope != nil:
		next.Extra, err = laidOver(next.Extra, preheatExtra{})
	}
	return err
}

// another reports whether a value is wanted, and another than there is.
func another[T comparable](want, have *T) bool {
	return want != nil && (have == nil || *want != *have)
}

// choosing has one filter of a type, or none where it is of nothing.
func (l filterList) choosing(typ, text string) (filterList, error) {
	out := slices.DeleteFunc(slices.Clone(l), func(f api.PreheatFilter) bool { return f.Type == typ })
	if text == "" {
		return out, nil
	}
	value, err := json.Marshal(text)
	return append(out, api.PreheatFilter{Type: typ, Value: value}), err
}

// laidOver is an object in a text with what a value says of it, null for what is not
// to be there, and what it says besides.
func laidOver[T preheatTrigger | preheatExtra](text string, value T) (string, error) {
	members := map[string]json.RawMessage{}
	if text != "" {
		if err := json.Unmarshal([]byte(text), &members); err != nil {
			return "", err
		}
	}
	over, err := json.Marshal(value)
	if err != nil {
		return "", err
	}
	said := map[string]json.RawMessage{}
	if err := json.Unmarshal(over, &said); err != nil {
		return "", err
	}
	for name, value := range said {
		if members[name] = value; string(value) == "null" {
			delete(members, name)
		}
	}
	out, err := json.Marshal(members)
	return string(out), err
}
