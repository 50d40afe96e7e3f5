package harbor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// plain reads what a user who is no administrator may do, as Harbor says it of each
// project that changes: in the system such a user may do nothing.
func (s *site) plain(ctx context.Context) (self, error) {
	me := self{may: may{}, name: s.c.User(), user: true}
	list, err := s.allProjects(ctx)
	if err != nil {
		return me, err
	}
	if s.own != nil && s.p.keeps.Load() {
		list = append(slices.Clone(list), *s.own)
	}
	for _, p := range list {
		changes := p.Name == schema.Reserved || slices.ContainsFunc(s.planned, func(c plan.Change) bool {
			return project(c.Key) == p.Name || homeOf(c) == p.Name
		})
		if !changes {
			continue
		}
		mine, err := s.c.Mine(ctx, p.ID)
		if errors.Is(err, providers.ErrNotFound) { // gone by now
			continue
		}
		if err != nil {
			return me, err
		}
		me.add(p.Name, mine...)
	}
	return me, nil
}

// noneUnseen fails where something is wanted of a project that Harbor has and does not
// list for the login: it is not absent. What is owned in one is unknown. Who sees all is
// not asked about.
func (s *site) noneUnseen(ctx context.Context, want []schema.Kind) error {
	if !s.c.Robot() && !s.c.Plain() {
		return nil
	}
	names := map[string]bool{}
	declared := func(key schema.Key, is bool) {
		if name := project(key); name != "" && name != schema.Reserved && slices.Contains(want, key.Kind) {
			names[name] = names[name] || is
		}
	}
	for _, r := range s.wanted.Resources {
		declared(r.Key, true)
	}
	for _, key := range s.owned {
		declared(key, false)
	}
	if len(names) == 0 {
		return nil
	}
	list, err := s.allProjects(ctx)
	if err != nil {
		return err
	}
	for _, p := range list {
		delete(names, p.Name)
	}
	if len(names) == 0 {
		return nil
	}
	if s.c.Robot() {
		me, err := s.me.get(func() (self, error) { return s.self(ctx) })
		if err != nil || me.seesAll() {
			return err
		}
	}
	missing := slices.Sorted(maps.Keys(names))
	there := make([]bool, len(missing))
	work, within := errgroup.WithContext(ctx)
	work.SetLimit(32) // the client lets fewer through
	for i, name := range missing {
		work.Go(func() (err error) {
			there[i], err = s.c.HasProject(within, name)
			return err
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	for i, name := range missing {
		switch {
		case !there[i]:
		case names[name]:
			return s.concealed(name)
		default:
			s.withhold(name, want)
		}
	}
	return nil
}

// withhold takes what is owned in a project for unknown.
func (s *site) withhold(name string, want []schema.Kind) {
	for _, k := range want {
		if !slices.ContainsFunc(s.owned, func(key schema.Key) bool { return key.Kind == k && project(key) == name }) {
			continue
		}
		if k == schema.KindNamespace {
			s.miss(below(k, name))
		} else {
			s.miss(schema.NewKey(k, name, ""))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unshown = append(s.unshown, name)
}

// concealed says of a project that it is there, and who would see it.
func (s *site) concealed(name string) error {
	return &providers.Error{
		Registry: s.p.registry.URL, Key: below(schema.KindNamespace, name), Doing: "reading",
		Err:    fmt.Errorf("%w: %s", providers.ErrForbidden, unlisted(s.c.User())),
		Remedy: shower(s.c.Robot(), name, fmt.Sprintf(" or take [namespace.%s] out of the file,", name)),
	}
}

// unlisted is what is wrong with such a project.
func unlisted(user string) string {
	return fmt.Sprintf("Harbor has the project, and does not list it for %s (registry.login)", user)
}

// shower says what would have a project listed, or else can be done.
func shower(robot bool, name, otherwise string) string {
	does := "make that account a project admin of " + name
	if robot {
		does = fmt.Sprintf("give that robot project:list %s, or rights in %s", where(""), name)
	}
	return fmt.Sprintf("have an administrator %s,%s or name in registry.login an account that sees it", does, otherwise)
}

// seesAll reports whether Harbor lists all projects for a robot: it does so too for one
// that has any right in all of them.
func (me self) seesAll() bool {
	return len(me.may[api.AllProjects]) > 0 || listed(me.may[api.OfSystem], api.Access{Resource: "project", Action: "list"})
}

// asks is what a right is called for this login: a user changes a robot of a project by a
// right on robots, where a robot needs one on all projects.
func (me self) asks(c plan.Change, n need) need {
	if me.user && c.Key.Kind == schema.KindRobot && n.namespace == api.AllProjects {
		return need{project(c.Key), api.Access{Resource: "robot", Action: "update"}}
	}
	return n
}

// grants reports whether a login has a right. Who makes a project is its administrator.
func (s *site) grants(me self, n need) bool {
	if !me.user {
		return me.has(n)
	}
	made := n.namespace == schema.Reserved && s.own == nil || slices.ContainsFunc(s.planned, func(c plan.Change) bool {
		return c.Action == plan.Create && c.Key == below(schema.KindNamespace, n.namespace)
	})
	return made || listed(me.may[n.namespace], n.Access)
}
