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

// readImmutable reads rules. One that is switched off protects nothing.
func readImmutable(ctx context.Context, s *site) error {
	return s.each(ctx, func(ctx context.Context, p api.Project) error {
		key := below(schema.KindImmutable, p.Name)
		list, err := s.c.Immutables(ctx, p.Name)
		if err != nil {
			return s.hidden(err, key)
		}
		s.mu.Lock()
		s.immutables[p.Name] = list
		s.mu.Unlock()
		rules := []schema.ImmutableRule{}
		for _, r := range list {
			if !r.Disabled {
				rules = append(rules, immutableOf(r))
			}
		}
		s.add(key, p.ID, &schema.Immutable{Rules: sortedRules(rules)})
		return nil
	})
}

func immutableOf(r api.Rule) schema.ImmutableRule {
	return normalRule(schema.ImmutableRule{Tags: globOf(r.Tags), Repositories: globOf(r.Scope["repository"])})
}

// normalRule leaves out what is said of everything, but not all of a rule.
func normalRule(r schema.ImmutableRule) schema.ImmutableRule {
	r.Tags, r.Repositories = short(r.Tags), short(r.Repositories)
	if r == (schema.ImmutableRule{}) {
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
	out.Rules = sortedRules(out.Rules)
	return out, nil
}

// writeImmutable adds what lacks before it takes away what is not wanted. A rule
// that is there and switched off is switched on, with nothing else in that request:
// Harbor would ignore it.
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
		i := slices.IndexFunc(have, func(r api.Rule) bool { return immutableOf(r) == rule })
		switch {
		case i >= 0 && !have[i].Disabled:
		case i >= 0:
			on := have[i]
			on.Disabled = false
			if err := s.c.UpdateImmutable(ctx, c.Key.Name, on); err != nil {
				return fmt.Errorf("switching %s on: %w", said(rule), err)
			}
		default:
			err := s.c.CreateImmutable(ctx, c.Key.Name, newImmutable(rule))
			if err != nil && !errors.Is(err, providers.ErrConflict) { // it is there by now
				return fmt.Errorf("adding %s: %w", said(rule), err)
			}
		}
	}
	for _, r := range have {
		if r.Disabled || slices.ContainsFunc(want.Rules, func(w schema.ImmutableRule) bool { return normalRule(w) == immutableOf(r) }) {
			continue
		}
		if err := s.c.DeleteImmutable(ctx, c.Key.Name, r.ID); err != nil {
			return fmt.Errorf("taking %s away: %w", said(immutableOf(r)), err)
		}
	}
	return nil
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
