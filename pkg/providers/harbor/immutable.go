package harbor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// readImmutable reads rules.
func readImmutable(ctx context.Context, s *site) error {
	return s.eachOf(ctx, projectLists{kind: schema.KindImmutable, right: "immutable-tag:list"}, func(ctx context.Context, p api.Project) error {
		key := below(schema.KindImmutable, p.Name)
		list, err := s.c.Immutables(ctx, p.Name)
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.immutables[p.Name] = list
		s.mu.Unlock()
		rules := []schema.ImmutableRule{}
		for _, r := range list {
			rules = append(rules, immutableOf(r))
		}
		s.add(key, p.ID, &schema.Immutable{Rules: sortedRules(rules)})
		return nil
	})
}

func immutableOf(r api.Rule) schema.ImmutableRule {
	return normalRule(schema.ImmutableRule{Tags: globOf(r.Tags), Repositories: globOf(r.Scope["repository"]), Disabled: schema.Off(r.Disabled)})
}

// normalRule leaves out what is said of everything, but not all of a rule.
func normalRule(r schema.ImmutableRule) schema.ImmutableRule {
	r.Tags, r.Repositories = short(r.Tags), short(r.Repositories)
	if r.Tags == "" && r.Repositories == "" {
		r.Tags = everything
	}
	return r
}

func normalImmutable(_ *normal, r schema.Resource) (schema.Spec, error) {
	spec, ok := r.Spec.(*schema.Immutable)
	if !ok || spec.Rules == nil {
		return r.Spec, nil
	}
	out := &schema.Immutable{Rules: []schema.ImmutableRule{}}
	for _, rule := range spec.Rules {
		out.Rules = append(out.Rules, normalRule(rule))
	}
	all := sortedRules(out.Rules)
	out.Rules = slices.DeleteFunc(slices.Clone(all), func(r schema.ImmutableRule) bool {
		return bool(r.Disabled) && slices.Contains(all, switched(r, true)) // Harbor has one rule of the two
	})
	return out, nil
}

// switched is a rule that is on, or off.
func switched(r schema.ImmutableRule, on bool) schema.ImmutableRule {
	r.Disabled = schema.Off(!on)
	return r
}

// writeImmutable adds what lacks before it takes away what is not wanted. A rule
// that is there is switched on or off with nothing else in that request: Harbor would
// ignore it.
func writeImmutable(ctx context.Context, s *site, c plan.Change, _ object) error {
	want := &schema.Immutable{Rules: []schema.ImmutableRule{}}
	if c.Action != plan.Delete {
		var err error
		if want, err = after[*schema.Immutable](c); err != nil || want.Rules == nil {
			return err
		}
	}
	have := s.immutables[c.Key.Name]
	for _, rule := range want.Rules {
		rule = normalRule(rule)
		i := slices.IndexFunc(have, func(r api.Rule) bool { return selectsAlike(immutableOf(r), rule) })
		switch {
		case i >= 0 && have[i].Disabled == bool(rule.Disabled):
		case i >= 0:
			next := have[i]
			next.Disabled = bool(rule.Disabled)
			if err := s.c.UpdateImmutable(ctx, c.Key.Name, next); err != nil {
				return fmt.Errorf("switching to %s: %w", said(rule), err)
			}
		default:
			if err := s.makeImmutable(ctx, c.Key.Name, rule); err != nil {
				return fmt.Errorf("adding %s: %w", said(rule), err)
			}
		}
	}
	for _, r := range have {
		if slices.ContainsFunc(want.Rules, func(w schema.ImmutableRule) bool { return selectsAlike(normalRule(w), immutableOf(r)) }) {
			continue
		}
		if err := s.c.DeleteImmutable(ctx, c.Key.Name, r.ID); err != nil {
			return fmt.Errorf("taking %s away: %w", said(immutableOf(r)), err)
		}
	}
	return nil
}

// selectsAlike reports whether two rules speak of the same tags.
func selectsAlike(a, b schema.ImmutableRule) bool { return switched(a, true) == switched(b, true) }

// makeImmutable makes a rule. Harbor makes none that is off: it is switched off then.
func (s *site) makeImmutable(ctx context.Context, project string, rule schema.ImmutableRule) error {
	next := newImmutable(rule)
	id, err := s.c.CreateImmutable(ctx, project, next)
	if !rule.Disabled {
		if errors.Is(err, providers.ErrConflict) { // it is there by now
			return nil
		}
		return err
	}
	if err != nil {
		return err
	}
	next.ID, next.Disabled = id, true
	return s.c.UpdateImmutable(ctx, project, next)
}

// newImmutable is a rule that does not exist yet.
func newImmutable(rule schema.ImmutableRule) api.Rule {
	return api.Rule{
		Action: "immutable", Template: "immutable_template", Params: map[string]json.RawMessage{},
		Tags: []api.Selector{tagSelector(rule.Tags)}, Scope: repositoryScope(rule.Repositories),
	}
}

// said is a rule as the file has it.
func said(r schema.ImmutableRule) string {
	text, err := json.Marshal(r)
	if err != nil {
		return "a rule"
	}
	return string(text)
}
