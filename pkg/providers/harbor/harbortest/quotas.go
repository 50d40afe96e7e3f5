package harbortest

import (
	"strconv"
	"time"
)

// quota is the limit of a project, in bytes, and what is used of it.
type quota struct {
	id, hard, used int64
	of             *project
	created, until time.Time
}

func (s *Server) addQuota(p *project, limit int64) {
	now := s.now()
	p.quota = &quota{id: s.next("quota"), hard: limit, of: p, created: now, until: now}
	s.quotas.put(p.quota.id, strconv.FormatInt(p.id, 10), p.quota)
}

func (s *Server) removeQuota(p *project) {
	if p.quota != nil {
		s.quotas.remove(p.quota.id, strconv.FormatInt(p.id, 10))
	}
}

func (s *Server) projectQuotas() routes {
	return routes{
		"GET /quotas":      s.listQuotas,
		"GET /quotas/{id}": s.showQuota,
		"PUT /quotas/{id}": s.updateQuota,
	}
}

type shownQuota struct {
	CreationTime stamp            `json:"creation_time"`
	Hard         map[string]int64 `json:"hard"`
	ID           int64            `json:"id"`
	Ref          struct {
		ID        int64  `json:"id"`
		Name      string `json:"name"`
		OwnerName string `json:"owner_name"`
	} `json:"ref"`
	UpdateTime stamp            `json:"update_time"`
	Used       map[string]int64 `json:"used"`
}

func (q *quota) show() shownQuota {
	shown := shownQuota{
		CreationTime: stamp(q.created), Hard: map[string]int64{"storage": q.hard}, ID: q.id,
		UpdateTime: stamp(q.until), Used: map[string]int64{"storage": q.used},
	}
	shown.Ref.ID, shown.Ref.Name = q.of.id, q.of.name
	return shown
}

func (s *Server) listQuotas(c *call) (answer, error) {
	if err := c.inSystem("quota", "list"); err != nil {
		return answer{}, err
	}
	rows := s.quotas.all()
	if id := c.query.Get("reference_id"); id != "" {
		rows = nil
		if q := s.quotas.named(id); q != nil {
			rows = append(rows, q)
		}
	}
	if kind := c.query.Get("reference"); kind != "" && kind != "project" {
		rows = nil
	}
	limit := func(n int64) string {
		if n == -1 {
			n = 1<<63 - 1
		}
		return number(n)
	}
	by := fields[*quota]{
		"id":            func(q *quota) string { return number(q.id) },
		"creation_time": func(q *quota) string { return moment(q.created) + number(q.id) },
		"update_time":   func(q *quota) string { return moment(q.until) },
		"hard.storage":  func(q *quota) string { return limit(q.hard) },
		"used.storage":  func(q *quota) string { return limit(q.used) },
	}
	sorted(c, rows, by, "-creation_time")
	return paged(c, rows, len(rows), (*quota).show)
}

func (s *Server) quota(c *call, action string) (*quota, error) {
	id, err := c.id("id")
	if err != nil {
		return nil, err
	}
	if err := c.inSystem("quota", action); err != nil {
		return nil, err
	}
	q := s.quotas.get(id)
	if q == nil {
		return nil, notFound("quota %d not found", id)
	}
	return q, nil
}

// showQuota shows no time of the last change, unlike the list.
func (s *Server) showQuota(c *call) (answer, error) {
	q, err := s.quota(c, "read")
	if err != nil {
		return answer{}, err
	}
	one := q.show()
	one.UpdateTime = stamp{}
	return shown(one)
}

func (s *Server) updateQuota(c *call) (answer, error) {
	q, err := s.quota(c, "update")
	if err != nil {
		return answer{}, err
	}
	given, err := decode[struct {
		Hard map[string]int64 `json:"hard"`
	}](c)
	if err != nil {
		return answer{}, err
	}
	if len(given.Hard) == 0 {
		return answer{}, badRequest("hard required in body")
	}
	for resource, limit := range given.Hard {
		if resource != "storage" {
			return answer{}, badRequest("resource %s not support", resource)
		}
		if limit <= 0 && limit != -1 {
			return answer{}, badRequest("invalid non-positive value for quota limit, value=%d", limit)
		}
	}
	// less than is used is taken too
	q.hard = given.Hard["storage"]
	return done()
}
