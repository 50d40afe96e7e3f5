package harbor

import (
	"context"
	"errors"
	"slices"

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
