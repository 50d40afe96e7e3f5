package harbortest

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// replication is a policy that takes content to or from another registry.
type replication struct {
	id             int64
	from, to       int64 // one is a registry; the other 0, Harbor itself
	request        replicationRequest
	created, until time.Time
}

type replicationFilter struct {
	Decoration string `json:"decoration,omitempty"`
	Type       string `json:"type"`
	Value      any    `json:"value"`
}

type replicationTrigger struct {
	Settings *struct {
		Cron string `json:"cron"`
	} `json:"trigger_settings,omitempty"`
	Type string `json:"type"`
}

type registryRef struct {
	ID int64 `json:"id"`
}

type replicationRequest struct {
	Name         string              `json:"name"`
	Description  string              `json:"description"`
	From         *registryRef        `json:"src_registry"`
	To           *registryRef        `json:"dest_registry"`
	Namespace    string              `json:"dest_namespace"`
	ReplaceCount *int64              `json:"dest_namespace_replace_count"`
	Trigger      *replicationTrigger `json:"trigger"`
	Filters      []replicationFilter `json:"filters"`
	Deletion     bool                `json:"deletion"` // replicate_deletion is ignored
	Override     bool                `json:"override"`
	Enabled      bool                `json:"enabled"`
	Speed        int64               `json:"speed"`
	ByChunk      bool                `json:"copy_by_chunk"`
	Single       bool                `json:"single_active_replication"`
}

func (s *Server) replicationPolicies() routes {
	return routes{
		"GET /replication/policies":         s.listReplications,
		"POST /replication/policies":        s.createReplication,
		"GET /replication/policies/{id}":    s.showReplication,
		"PUT /replication/policies/{id}":    s.updateReplication,
		"DELETE /replication/policies/{id}": s.deleteReplication,
		"POST /replication/executions":      s.startReplication,
		"GET /replication/executions":       s.listReplicationRuns,
	}
}

type shownReplication struct {
	ByChunk      bool                `json:"copy_by_chunk"`
	CreationTime stamp               `json:"creation_time"`
	Deletion     bool                `json:"deletion,omitempty"`
	Description  string              `json:"description,omitempty"`
	Namespace    string              `json:"dest_namespace,omitempty"`
	ReplaceCount int64               `json:"dest_namespace_replace_count"`
	To           shownRegistry       `json:"dest_registry"`
	Enabled      bool                `json:"enabled,omitempty"`
	Filters      []replicationFilter `json:"filters"`
	ID           int64               `json:"id"`
	Name         string              `json:"name"`
	Override     bool                `json:"override,omitempty"`
	Replicated   bool                `json:"replicate_deletion,omitempty"`
	Single       *bool               `json:"single_active_replication,omitempty"`
	Speed        int64               `json:"speed"`
	From         shownRegistry       `json:"src_registry"`
	Trigger      *replicationTrigger `json:"trigger,omitempty"`
	UpdateTime   stamp               `json:"update_time"`
}

// showReplicationOf has both registries in it, whole.
func (s *Server) showReplicationOf(p *replication) shownReplication {
	r := p.request
	side := func(id int64) shownRegistry {
		if other := s.registries.get(id); other != nil {
			return s.showRegistryOf(other)
		}
		return s.local()
	}
	single := &r.Single
	if s.before(14) {
		single = nil
	}
	return shownReplication{
		ByChunk: r.ByChunk, CreationTime: stamp(p.created), Deletion: r.Deletion, Description: r.Description, Namespace: r.Namespace,
		ReplaceCount: *r.ReplaceCount, To: side(p.to), Enabled: r.Enabled, Filters: r.Filters, ID: p.id, Name: r.Name,
		Override: r.Override, Replicated: r.Deletion, Single: single, Speed: r.Speed, From: side(p.from), Trigger: r.Trigger,
		UpdateTime: stamp(p.until),
	}
}

func (s *Server) listReplications(c *call) (answer, error) {
	if err := c.inSystem("replication-policy", "list"); err != nil {
		return answer{}, err
	}
	terms, err := c.terms()
	if err != nil {
		return answer{}, err
	}
	if name := c.query.Get("name"); name != "" {
		terms["name"] = term{'~', []string{name}}
	}
	by := fields[*replication]{
		"name":             func(p *replication) string { return p.request.Name },
		"id":               func(p *replication) string { return number(p.id) },
		"creation_time":    func(p *replication) string { return moment(p.created) + number(p.id) },
		"update_time":      func(p *replication) string { return moment(p.until) },
		"enabled":          func(p *replication) string { return fmt.Sprint(p.request.Enabled) },
		"src_registry_id":  func(p *replication) string { return number(p.from) },
		"dest_registry_id": func(p *replication) string { return number(p.to) },
	}
	rows := filtered(s.replications.all(), terms, by)
	sorted(c, rows, by, "-creation_time")
	return paged(c, rows, len(rows), s.showReplicationOf)
}

// readReplication is a policy as somebody sent it, checked and filled in.
func (s *Server) readReplication(c *call) (*replication, error) {
	given, err := decode[replicationRequest](c)
	if err != nil {
		return nil, err
	}
	if given.ReplaceCount == nil {
		legacy := int64(-1)
		given.ReplaceCount = &legacy
	}
	given.Speed = max(given.Speed, 0)
	if len(given.Filters) == 0 {
		given.Filters = nil
	}
	given.Single = given.Single && !s.before(14)
	p := &replication{request: given}
	if given.From != nil {
		p.from = given.From.ID
	}
	if given.To != nil {
		p.to = given.To.ID
	}
	if given.Single && given.Trigger != nil && given.Trigger.Type == "event_based" {
		return nil, internal()
	}
	switch {
	case given.Name == "":
		return nil, badRequest("empty name")
	case (p.from == 0) == (p.to == 0):
		return nil, badRequest("either src_registry or dest_registry should be empty and the other one shouldn't be empty")
	}
	for _, f := range given.Filters {
		if err := f.check(); err != nil {
			return nil, err
		}
	}
	if given.Namespace != "" && !regexp.MustCompile(`^[a-z0-9]+(?:[._/-]+[a-z0-9]+)*$`).MatchString(given.Namespace) {
		return nil, badRequest("invalid destination namespace: %s", given.Namespace)
	}
	if err := given.Trigger.check(); err != nil {
		return nil, err
	}
	if id := p.from + p.to; s.registries.get(id) == nil {
		return nil, notFound("registry %d not found", id)
	}
	return p, nil
}

func (f replicationFilter) check() error {
	switch f.Type {
	case "resource", "name", "tag":
		value, isText := f.Value.(string)
		switch {
		case !isText:
			return badRequest("the type of filter value isn't string")
		case f.Type == "resource" && value != "image" && value != "artifact":
			return badRequest("invalid resource filter: %s", value)
		case f.Type != "tag" && f.Decoration != "":
			return badRequest("only tag and label filter support decoration")
		}
	case "label":
		list, isList := f.Value.([]any)
		for _, item := range list {
			if _, isText := item.(string); !isText {
				isList = false
			}
		}
		if !isList {
			return badRequest("the type of label filter value isn't string slice")
		}
	default:
		return badRequest("invalid filter type")
	}
	if f.Decoration != "" && f.Decoration != "matches" && f.Decoration != "excludes" {
		return badRequest("invalid filter decoration, :%s", f.Decoration)
	}
	return nil
}

func (t *replicationTrigger) check() error {
	if t == nil || t.Type == "manual" || t.Type == "event_based" {
		return nil
	}
	if t.Type != "scheduled" {
		return badRequest("invalid trigger type")
	}
	if t.Settings == nil || t.Settings.Cron == "" {
		return badRequest("the cron string cannot be empty when the trigger type is scheduled")
	}
	cron := t.Settings.Cron
	parts := strings.Split(cron, " ")
	switch err := checkCron(cron); {
	case len(parts) == 6 && parts[0] != "0":
		return badRequest("the 1st field (indicating Seconds of time) of the cron setting must be 0")
	case err != nil:
		return badRequest("invalid cron string for scheduled trigger: %s", cron)
	case parts[1] == "*":
		return badRequest("* is not allowed for the Minutes field of the cron setting of replication policy")
	}
	return nil
}

// reschedule makes the schedule that a policy is to have.
func (s *Server) reschedule(p *replication) {
	s.unschedule("REPLICATION", p.id)
	if t := p.request.Trigger; p.request.Enabled && t != nil && t.Type == "scheduled" {
		s.schedule("REPLICATION", p.id, "", t.Settings.Cron, nil)
	}
}

func (s *Server) createReplication(c *call) (answer, error) {
	if err := c.inSystem("replication-policy", "create"); err != nil {
		return answer{}, err
	}
	p, err := s.readReplication(c)
	if err != nil {
		return answer{}, err
	}
	p.id = s.next("replication")
	if s.replications.named(p.request.Name) != nil {
		return answer{}, conflict("replication policy %s already exists", p.request.Name)
	}
	p.created = s.now()
	p.until = p.created
	s.replications.put(p.id, p.request.Name, p)
	s.reschedule(p)
	return createdID(c, p.id)
}

// pathReplication is the policy that the path names.
func (s *Server) pathReplication(c *call, action string) (*replication, error) {
	id, err := c.id("id")
	if err != nil {
		return nil, err
	}
	if err := c.inSystem("replication-policy", action); err != nil {
		return nil, err
	}
	p := s.replications.get(id)
	if p == nil {
		return nil, notFound("replication policy %d not found", id)
	}
	return p, nil
}

func (s *Server) showReplication(c *call) (answer, error) {
	p, err := s.pathReplication(c, "read")
	if err != nil {
		return answer{}, err
	}
	return shown(s.showReplicationOf(p))
}

// updateReplication replaces all of it.
func (s *Server) updateReplication(c *call) (answer, error) {
	p, err := s.pathReplication(c, "update")
	if err != nil {
		return answer{}, err
	}
	changed, err := s.readReplication(c)
	if err != nil {
		return answer{}, err
	}
	if other := s.replications.named(changed.request.Name); other != nil && other != p {
		return answer{}, conflict("replication policy %s already exists", changed.request.Name)
	}
	s.replications.rename(p.id, p.request.Name, changed.request.Name)
	p.from, p.to, p.request, p.until = changed.from, changed.to, changed.request, s.now()
	s.reschedule(p)
	return done()
}

func (s *Server) deleteReplication(c *call) (answer, error) {
	p, err := s.pathReplication(c, "delete")
	if err != nil {
		return answer{}, err
	}
	s.unschedule("REPLICATION", p.id)
	s.removeRuns("REPLICATION", p.id)
	s.replications.remove(p.id, p.request.Name)
	return done()
}

func (s *Server) startReplication(c *call) (answer, error) {
	if err := c.inSystem("replication", "create"); err != nil {
		return answer{}, err
	}
	given, err := decode[struct {
		PolicyID int64 `json:"policy_id"`
	}](c)
	if err != nil {
		return answer{}, err
	}
	if s.replications.get(given.PolicyID) == nil {
		return answer{}, notFound("replication policy %d not found", given.PolicyID)
	}
	return createdID(c, s.run("REPLICATION", given.PolicyID, false).id)
}

// listReplicationRuns lists those of one policy, or of all.
func (s *Server) listReplicationRuns(c *call) (answer, error) {
	if err := c.inSystem("replication", "list"); err != nil {
		return answer{}, err
	}
	type shownRun struct {
		EndTime    stamp  `json:"end_time"`
		Failed     int    `json:"failed"`
		ID         int64  `json:"id"`
		InProgress int    `json:"in_progress"`
		PolicyID   int64  `json:"policy_id"`
		StartTime  stamp  `json:"start_time"`
		Status     string `json:"status"`
		StatusText string `json:"status_text"`
		Stopped    int    `json:"stopped"`
		Succeed    int    `json:"succeed"`
		Total      int    `json:"total"`
		Trigger    string `json:"trigger"`
	}
	var rows []*run
	for _, p := range s.replications.all() {
		if id := c.integer("policy_id", 0); id == 0 || id == p.id {
			rows = append(rows, s.runsOf("REPLICATION", p.id)...)
		}
	}
	by := fields[*run]{"id": func(r *run) string { return number(r.id) }, "start_time": func(r *run) string { return moment(r.started) }}
	sorted(c, rows, by, "-id")
	return paged(c, rows, len(rows), func(r *run) shownRun {
		return shownRun{ID: r.id, PolicyID: r.of, StartTime: stamp(r.started), Status: "InProgress", Trigger: "manual"}
	})
}
