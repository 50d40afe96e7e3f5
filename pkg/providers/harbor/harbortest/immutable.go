package harbortest

import (
	"encoding/json"
	"slices"
)

// immutable is a rule that keeps tags of a project from being pushed again or
// deleted.
type immutable struct {
	id   int64
	rule tagRule
}

// key is what no two rules of a project share.
func (m *immutable) key() string {
	rule := m.rule
	rule.ID, rule.Disabled = 0, false
	b, _ := json.Marshal(rule) // what came as JSON goes as JSON
	return string(b)
}

func (s *Server) immutableRules() routes {
	const at = "/projects/{project_name_or_id}/immutabletagrules"
	return routes{
		"GET " + at:                             s.listImmutable,
		"POST " + at:                            s.createImmutable,
		"PUT " + at + "/{immutable_rule_id}":    s.updateImmutable,
		"DELETE " + at + "/{immutable_rule_id}": s.deleteImmutable,
	}
}

func (s *Server) listImmutable(c *call) (answer, error) {
	p, err := s.project(c, "immutable-tag", "list")
	if err != nil {
		return answer{}, err
	}
	by := fields[*immutable]{"id": func(m *immutable) string { return number(m.id) }}
	return listed(c, p.immutable.all(), by, "id", func(m *immutable) tagRule { return m.rule })
}

// createImmutable makes a rule that is on, whatever is said of that.
func (s *Server) createImmutable(c *call) (answer, error) {
	p, err := s.project(c, "immutable-tag", "create")
	if err != nil {
		return answer{}, err
	}
	rule, err := decode[tagRule](c)
	if err != nil {
		return answer{}, err
	}
	m := &immutable{id: s.next("immutable"), rule: rule}
	m.rule.ID, m.rule.Disabled = m.id, false
	if p.immutable.named(m.key()) != nil {
		return answer{}, conflict("immutable rule already exists")
	}
	p.immutable.put(m.id, m.key(), m)
	return createdID(c, m.id)
}

// pathImmutable is the rule that the path names, in the project it names.
func (s *Server) pathImmutable(c *call, action string) (*project, *immutable, error) {
	id, err := c.id("immutable_rule_id")
	if err != nil {
		return nil, nil, err
	}
	p, err := s.project(c, "immutable-tag", action)
	if err != nil {
		return nil, nil, err
	}
	m := p.immutable.get(id)
	if m == nil && slices.ContainsFunc(s.projects.all(), func(p *project) bool { return p.immutable.get(id) != nil }) {
		return nil, nil, notFound("resource not found: project id %d does not match", p.id)
	}
	if m == nil {
		return nil, nil, notFound("immutable rule %d not found", id)
	}
	return p, m, nil
}

// updateImmutable replaces the rule; but where it turns the rule on or off,
// it ignores all else.
func (s *Server) updateImmutable(c *call) (answer, error) {
	rule, err := decode[tagRule](c)
	if err != nil {
		return answer{}, err
	}
	id, err := c.id("immutable_rule_id")
	if err != nil {
		return answer{}, err
	}
	if rule.ID != id {
		return answer{}, badRequest("bad request: the immutable_rule_id doesn't match the id in the payload body of ImmutableRule")
	}
	p, m, err := s.pathImmutable(c, "update")
	if err != nil {
		return answer{}, err
	}
	if m.rule.Disabled != rule.Disabled {
		m.rule.Disabled = rule.Disabled
		return done()
	}
	changed := &immutable{id: m.id, rule: rule}
	if other := p.immutable.named(changed.key()); other != nil && other != m {
		return answer{}, conflict("immutable rule already exists")
	}
	p.immutable.rename(m.id, m.key(), changed.key())
	m.rule = rule
	return done()
}

func (s *Server) deleteImmutable(c *call) (answer, error) {
	p, m, err := s.pathImmutable(c, "delete")
	if err != nil {
		return answer{}, err
	}
	p.immutable.remove(m.id, m.key())
	return done()
}
