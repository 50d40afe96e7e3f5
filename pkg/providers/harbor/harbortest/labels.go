package harbortest

import (
	"fmt"
	"slices"
	"time"
)

// label is one of all projects, or of one.
type label struct {
	id             int64
	name           string
	description    string
	color          string
	scope          string // g or p
	of             int64  // the project of one with scope p
	created, until time.Time
}

func (l *label) key() string { return fmt.Sprintf("%s %d %s", l.scope, l.of, l.name) }

func (s *Server) labelOperations() routes {
	return routes{
		"GET /labels":               s.listLabels,
		"POST /labels":              s.createLabel,
		"GET /labels/{label_id}":    s.showLabel,
		"PUT /labels/{label_id}":    s.updateLabel,
		"DELETE /labels/{label_id}": s.deleteLabel,
	}
}

type shownLabel struct {
	Color        string `json:"color,omitempty"`
	CreationTime stamp  `json:"creation_time"`
	Description  string `json:"description,omitempty"`
	ID           int64  `json:"id"`
	Name         string `json:"name"`
	ProjectID    int64  `json:"project_id,omitempty"`
	Scope        string `json:"scope"`
	UpdateTime   stamp  `json:"update_time"`
}

func (l *label) show() shownLabel {
	return shownLabel{l.color, stamp(l.created), l.description, l.id, l.name, l.of, l.scope, stamp(l.until)}
}

// onLabel refuses who may not do an action on labels where this one is.
func (s *Server) onLabel(c *call, l *label, action string) error {
	switch l.scope {
	case "g":
		return c.inSystem("label", action)
	case "p":
		// the labels of a project that is gone are still there for an
		// administrator
		if l.id != 0 && c.who.user != nil && c.who.user.sysadmin {
			return nil
		}
		_, err := s.projectWith(c, l.of, "label", action)
		return err
	}
	return badRequest("unsupported label scope")
}

func (s *Server) listLabels(c *call) (answer, error) {
	terms, err := c.terms()
	if err != nil {
		return answer{}, err
	}
	scope := c.query.Get("scope")
	if scope != "g" && scope != "p" {
		return answer{}, badRequest("invalid scope: %s", scope)
	}
	rows := s.labels.all()
	if scope == "p" {
		id := c.integer("project_id", 0)
		if id == 0 {
			return answer{}, badRequest("must with project ID when to query project labels")
		}
		p, err := s.projectWith(c, id, "label", "list")
		if err != nil {
			return answer{}, err
		}
		rows = p.labels.all()
	}
	rows = slices.DeleteFunc(rows, func(l *label) bool { return l.scope != scope })
	if name := c.query.Get("name"); name != "" {
		terms["name"] = term{'~', []string{name}}
	}
	by := fields[*label]{
		"name":          func(l *label) string { return l.name },
		"id":            func(l *label) string { return number(l.id) },
		"creation_time": func(l *label) string { return moment(l.created) },
		"update_time":   func(l *label) string { return moment(l.until) },
	}
	rows = filtered(rows, terms, by)
	sorted(c, rows, by, "id")
	return paged(c, rows, len(rows), (*label).show)
}

type labelRequest struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Color       string `json:"color"`
	Scope       string `json:"scope"`
	ProjectID   int64  `json:"project_id"`
}

func (r labelRequest) check() error {
	switch {
	case r.Name == "":
		return badRequest("label name cannot be empty")
	case len(r.Name) > 128:
		return badRequest("max length of label name is 128")
	}
	return nil
}

func (s *Server) createLabel(c *call) (answer, error) {
	given, err := decode[labelRequest](c)
	if err != nil {
		return answer{}, err
	}
	l := &label{name: given.Name, description: given.Description, color: given.Color, scope: given.Scope, of: given.ProjectID}
	if l.scope == "g" {
		l.of = 0
	}
	if err := s.onLabel(c, l, "create"); err != nil {
		return answer{}, err
	}
	if err := given.check(); err != nil {
		return answer{}, err
	}
	l.id = s.next("label")
	if s.labels.named(l.key()) != nil {
		return answer{}, conflict("label %s already exists", l.name)
	}
	l.created = s.now()
	l.until = l.created
	s.labels.put(l.id, l.key(), l)
	if p := s.projects.get(l.of); p != nil {
		p.labels.put(l.id, l.key(), l)
	}
	return createdID(c, l.id)
}

// pathLabel is the label that the path names.
func (s *Server) pathLabel(c *call, action string) (*label, error) {
	id, err := c.id("label_id")
	if err != nil {
		return nil, err
	}
	l := s.labels.get(id)
	if l == nil {
		return nil, notFound("label %d not found", id)
	}
	return l, s.onLabel(c, l, action)
}

func (s *Server) showLabel(c *call) (answer, error) {
	l, err := s.pathLabel(c, "read")
	if err != nil {
		return answer{}, err
	}
	return shown(l.show())
}

// updateLabel replaces name, description and colour; where it is, it stays.
func (s *Server) updateLabel(c *call) (answer, error) {
	l, err := s.pathLabel(c, "update")
	if err != nil {
		return answer{}, err
	}
	given, err := decode[labelRequest](c)
	if err != nil {
		return answer{}, err
	}
	if err := given.check(); err != nil {
		return answer{}, err
	}
	changed := *l
	changed.name = given.Name
	if other := s.labels.named(changed.key()); other != nil && other != l {
		return answer{}, conflict("label %s already exists", given.Name)
	}
	s.labels.rename(l.id, l.key(), changed.key())
	if p := s.projects.get(l.of); p != nil {
		p.labels.rename(l.id, l.key(), changed.key())
	}
	l.name, l.description, l.color, l.until = given.Name, given.Description, given.Color, s.now()
	return done()
}

func (s *Server) deleteLabel(c *call) (answer, error) {
	l, err := s.pathLabel(c, "delete")
	if err != nil {
		return answer{}, err
	}
	s.removeLabel(l)
	return done()
}

func (s *Server) removeLabel(l *label) {
	s.labels.remove(l.id, l.key())
	if p := s.projects.get(l.of); p != nil {
		p.labels.remove(l.id, l.key())
	}
	s.unlabel(l)
}
