package harbor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// projectLists are the lists of a kind, one of each project, and the right that shows one.
type projectLists struct {
	kind  schema.Kind
	right string
	in    func(api.Project) bool // which projects have one; nil is all
}

// key is what is not known where a project's may not be seen.
func (l projectLists) key(p api.Project) schema.Key { return schema.NewKey(l.kind, p.Name, "") }

// knows notes what is owned, and so in which projects there is something to know.
func (s *site) knows(owned []schema.Key) {
	s.owned, s.spoken = owned, map[string]bool{}
	for _, key := range owned {
		s.spoken[project(key)] = true
	}
	for _, r := range s.wanted.Resources {
		s.spoken[project(r.Key)] = true
	}
}

// eachOf does something for the list of each wanted project, and takes what the login may
// not see for unknown, as hidden has it. Of projects of which nothing is declared or owned
// a login that is no administrator's is not refused again and again: where it was once, it
// asks no more of those that are shown to it alike.
func (s *site) eachOf(ctx context.Context, l projectLists, do func(context.Context, api.Project) error) error {
	all, err := s.asked(ctx)
	if err != nil {
		return err
	}
	if l.in != nil {
		all = slices.DeleteFunc(all, func(p api.Project) bool { return !l.in(p) })
	}
	ask := func(ctx context.Context, p api.Project) error {
		if err := do(ctx, p); err != nil {
			return s.hidden(err, l.key(p), l.right)
		}
		return nil
	}
	if s.spoken == nil || s.only != nil || !s.c.Robot() && !s.c.Plain() {
		return s.forAll(ctx, all, ask)
	}
	var first []api.Project
	var others [][]api.Project
	at := map[string]int{}
	for _, p := range all {
		if s.spoken[p.Name] {
			first = append(first, p)
			continue
		}
		how := shown(p)
		i, ok := at[how]
		if !ok {
			i, at[how] = len(others), len(others)
			others = append(others, nil)
		}
		others[i] = append(others[i], p)
	}
	if err := s.forAll(ctx, first, ask); err != nil {
		return err
	}
	for _, alike := range others {
		if err := s.untilRefused(ctx, l, alike, do, ask); err != nil {
			return err
		}
	}
	return nil
}

// shown is how a project is shown to the login: two that are so alike show a user the
// same lists.
func shown(p api.Project) string {
	return fmt.Sprint(anonymous(p) != 0, slices.Sorted(slices.Values(p.Roles)))
}

// untilRefused asks of one project and, unless that was refused, of the others.
func (s *site) untilRefused(ctx context.Context, l projectLists, alike []api.Project, do, ask func(context.Context, api.Project) error) error {
	for i, p := range alike {
		refused := do(ctx, p)
		switch {
		case errors.Is(refused, providers.ErrNotFound): // gone by now
			s.miss(l.key(p))
			continue
		case refused == nil:
			return s.forAll(ctx, alike[i+1:], ask)
		case !errors.Is(refused, providers.ErrForbidden):
			return s.p.fail(below(schema.KindNamespace, p.Name), "", refused, "")
		}
		sees, err := s.sees(ctx, l.right)
		if err != nil {
			return err
		}
		s.bar(refused, l.key(p), l.right, p.Name)
		var more []api.Project
		for _, p := range alike[i+1:] {
			if sees(p.Name) {
				more = append(more, p)
			} else {
				s.bar(refused, l.key(p), l.right, p.Name)
			}
		}
		return s.forAll(ctx, more, ask)
	}
	return nil
}

// sees tells of further projects, after a refusal, whether the login may have a right
// there: a user has the same in those that are shown alike, and a robot may know its own.
func (s *site) sees(ctx context.Context, right string) (func(project string) bool, error) {
	if s.c.Plain() {
		return func(string) bool { return false }, nil
	}
	me, err := s.me.get(func() (self, error) { return s.self(ctx) })
	if err != nil {
		return nil, err
	}
	if own, _, of := strings.Cut(strings.TrimPrefix(me.name, s.c.Prefix()), "+"); of { // a project's has none elsewhere
		return func(project string) bool { return project == own }, nil
	}
	return func(project string) bool {
		return me.hidden || !slices.ContainsFunc(needsIn(project, right), func(n need) bool { return !me.has(n) })
	}, nil
}
