package harbortest

import (
	"encoding/json"
	"strconv"
)

// retention is the policy of one project.
type retention struct {
	id      int64
	of      int64 // the project; it may be of one that no longer points to it
	request retentionRequest
}

// selector is a pattern of tags or repositories.
type selector struct {
	Decoration string `json:"decoration,omitempty"`
	Extras     string `json:"extras,omitempty"`
	Kind       string `json:"kind,omitempty"`
	Pattern    string `json:"pattern,omitempty"`
}

// tagRule is a rule of retention or immutability: what is zero is not shown.
type tagRule struct {
	Action   string                `json:"action,omitempty"`
	Disabled bool                  `json:"disabled,omitempty"`
	ID       int64                 `json:"id,omitempty"`
	Params   map[string]any        `json:"params,omitempty"`
	Priority int64                 `json:"priority,omitempty"`
	Scopes   map[string][]selector `json:"scope_selectors,omitempty"`
	Tags     []selector            `json:"tag_selectors"`
	Template string                `json:"template,omitempty"`
}

type trigger struct {
	Kind     string         `json:"kind"`
	Settings map[string]any `json:"settings"`
}

// cron is that of a trigger by time, and empty for one by hand.
func (t *trigger) cron() string {
	cron, _ := t.Settings["cron"].(string)
	if t.Kind != "Schedule" {
		return ""
	}
	return cron
}

type retentionRequest struct {
	Algorithm string    `json:"algorithm"`
	ID        int64     `json:"id"`
	Rules     []tagRule `json:"rules"`
	Scope     *struct {
		Level string `json:"level"`
		Ref   int64  `json:"ref"`
	} `json:"scope"`
	Trigger *trigger `json:"trigger"`
}

func (s *Server) retentionPolicies() routes {
	return routes{
		"GET /retentions/metadatas":        s.showRetentionMetadata,
		"POST /retentions":                 s.createRetention,
		"GET /retentions/{id}":             s.showRetention,
		"PUT /retentions/{id}":             s.updateRetention,
		"DELETE /retentions/{id}":          s.deleteRetention,
		"POST /retentions/{id}/executions": s.startRetention,
		"GET /retentions/{id}/executions":  s.listRetentionRuns,
	}
}

// showRetentionMetadata shows which rules there are.
func (s *Server) showRetentionMetadata(c *call) (answer, error) {
	if err := c.loggedIn(); err != nil {
		return answer{}, err
	}
	type param struct {
		Required bool   `json:"required"`
		Type     string `json:"type"`
		Unit     string `json:"unit"`
	}
	type template struct {
		Action   string  `json:"action"`
		Text     string  `json:"display_text"`
		Params   []param `json:"params"`
		Template string  `json:"rule_template"`
	}
	type selection struct {
		Decorations []string `json:"decorations"`
		Text        string   `json:"display_text"`
		Kind        string   `json:"kind"`
	}
	var templates []template
	for _, t := range [][3]string{
		{"latestPushedK", "the most recently pushed # artifacts", "COUNT"},
		{"latestPulledN", "the most recently pulled # artifacts", "COUNT"},
		{"nDaysSinceLastPush", "pushed within the last # days", "DAYS"},
		{"nDaysSinceLastPull", "pulled within the last # days", "DAYS"},
		{"always", "always", ""},
	} {
		params := []param{}
		if t[2] != "" {
			params = append(params, param{true, "int", t[2]})
		}
		templates = append(templates, template{"retain", t[1], params, t[0]})
	}
	return shown(map[string]any{
		"scope_selectors": []selection{{[]string{"repoMatches", "repoExcludes"}, "Repositories", "doublestar"}},
		"tag_selectors":   []selection{{[]string{"matches", "excludes"}, "Tags", "doublestar"}},
		"templates":       templates,
	})
}

// check says what Harbor does not take of a policy. Templates it takes all.
func (r *retentionRequest) check() error {
	if len(r.Rules) > 15 {
		return badRequest("bad request: only 15 rules are allowed at most")
	}
	seen := map[string]int{}
	for i, rule := range r.Rules {
		rule.ID = 0
		b, err := json.Marshal(rule)
		if err != nil {
			return internal()
		}
		if old, twice := seen[string(b)]; twice {
			return conflict("resource conflict: rule %d is conflict with rule %d", i, old)
		}
		seen[string(b)] = i
	}
	return nil
}

// checkTrigger panics in Harbor where there is none.
func (r *retentionRequest) checkTrigger() error {
	if r.Trigger == nil {
		return crashed()
	}
	if cron := r.Trigger.cron(); cron != "" {
		if err := checkCron(cron); err != nil {
			return badRequest("invalid cron string for scheduled tag retention: %s, error: %v", cron, err)
		}
	}
	return nil
}

// readRetention is a policy that somebody sent and may do the action with.
func (s *Server) readRetention(c *call, action string) (retentionRequest, *project, error) {
	given, err := decode[retentionRequest](c)
	if err != nil {
		return given, nil, err
	}
	if err := given.check(); err != nil {
		return given, nil, err
	}
	if given.Scope == nil {
		return given, nil, crashed()
	}
	if given.Scope.Level != "project" {
		if err := c.inSystem("tag-retention", action); err != nil {
			return given, nil, err
		}
		return given, nil, badRequest("bad request: scope %s is not support", given.Scope.Level)
	}
	p, err := s.projectWith(c, given.Scope.Ref, "tag-retention", action)
	if p == nil && c.who.user != nil && c.who.user.sysadmin {
		err = badRequest("bad request: invalid Project id %d", given.Scope.Ref)
	}
	return given, p, err
}

func (s *Server) createRetention(c *call) (answer, error) {
	if err := c.loggedIn(); err != nil {
		return answer{}, err
	}
	given, p, err := s.readRetention(c, "create")
	if err != nil {
		return answer{}, err
	}
	if old, has := p.metadata["retention_id"]; has {
		return answer{}, badRequest("bad request: project %d already has retention policy %s", p.id, old)
	}
	if err := given.checkTrigger(); err != nil {
		return answer{}, err
	}
	return createdID(c, s.makeRetention(p, given).id)
}

func (s *Server) makeRetention(p *project, given retentionRequest) *retention {
	r := &retention{id: s.next("retention"), of: p.id, request: given}
	r.request.ID = r.id
	s.retentions.put(r.id, strconv.FormatInt(r.id, 10), r)
	p.metadata["retention_id"] = strconv.FormatInt(r.id, 10)
	if cron := given.Trigger.cron(); cron != "" {
		s.schedule("RETENTION", r.id, "", cron, nil)
	}
	return r
}

// keepPulled makes the policy that every new proxy cache has: what was pulled
// in the last seven days stays.
func (s *Server) keepPulled(p *project) {
	given := retentionRequest{Algorithm: "or", Trigger: &trigger{Kind: "Schedule", Settings: map[string]any{"cron": "0 0 0 * * *"}}}
	given.Scope = &struct {
		Level string `json:"level"`
		Ref   int64  `json:"ref"`
	}{"project", p.id}
	given.Rules = []tagRule{{
		Action: "retain", ID: 1, Priority: 1, Template: "nDaysSinceLastPull", Params: map[string]any{"nDaysSinceLastPull": 7},
		Scopes: map[string][]selector{"repository": {{Decoration: "repoMatches", Kind: "doublestar", Pattern: "**"}}},
		Tags:   []selector{{Decoration: "matches", Kind: "doublestar", Pattern: "**"}},
	}}
	s.makeRetention(p, given)
}

// pathRetention is the policy that the path names. One that is not there
// gives a 500, or what is handed in.
func (s *Server) pathRetention(c *call, action string, missing func(id int64) error) (*retention, error) {
	id, err := c.id("id")
	if err != nil {
		return nil, err
	}
	if err := c.loggedIn(); err != nil {
		return nil, err
	}
	r := s.retentions.get(id)
	if r == nil {
		return nil, missing(id)
	}
	_, err = s.projectWith(c, r.of, "tag-retention", action)
	return r, err
}

func noRetention(id int64) error {
	return badRequest("bad request: no such Retention policy with id %d", id)
}

func (s *Server) showRetention(c *call) (answer, error) {
	r, err := s.pathRetention(c, "read", func(int64) error { return internal() })
	if err != nil {
		return answer{}, err
	}
	one := r.request
	if one.Rules == nil {
		one.Rules = []tagRule{}
	}
	settings := map[string]any{}
	for key, value := range one.Trigger.Settings {
		settings[key] = value
	}
	delete(settings, "next_scheduled_time")
	if cron := one.Trigger.cron(); cron != "" {
		settings["next_scheduled_time"] = s.nextTime(cron)
	}
	one.Trigger = &trigger{one.Trigger.Kind, settings}
	return shown(one)
}

func (s *Server) updateRetention(c *call) (answer, error) {
	id, err := c.id("id")
	if err != nil {
		return answer{}, err
	}
	if err := c.loggedIn(); err != nil {
		return answer{}, err
	}
	given, p, err := s.readRetention(c, "update")
	if err != nil {
		return answer{}, err
	}
	if p.metadata["retention_id"] != strconv.FormatInt(id, 10) {
		return answer{}, notFound("resource not found: the retention policy id %d does not match", id)
	}
	if err := given.checkTrigger(); err != nil {
		return answer{}, err
	}
	r := s.retentions.get(id)
	if r == nil {
		return answer{}, internal()
	}
	before, after := r.request.Trigger.cron(), given.Trigger.cron()
	r.request = given
	r.request.ID = id
	switch {
	case before == after:
	case after == "":
		s.unschedule("RETENTION", id)
	default:
		s.schedule("RETENTION", id, "", after, nil)
	}
	return done()
}

// deleteRetention leaves the project pointing to it, before 2.14.
func (s *Server) deleteRetention(c *call) (answer, error) {
	r, err := s.pathRetention(c, "delete", noRetention)
	if err != nil {
		return answer{}, err
	}
	s.removeRetention(r)
	if p := s.projects.get(r.of); p != nil && !s.before(14) {
		delete(p.metadata, "retention_id")
	}
	return done()
}

func (s *Server) removeRetention(r *retention) {
	s.unschedule("RETENTION", r.id)
	s.removeRuns("RETENTION", r.id)
	s.retentions.remove(r.id, strconv.FormatInt(r.id, 10))
}

// forgetRetention takes away the policies of a project, those it no longer
// points to too.
func (s *Server) forgetRetention(p *project) {
	for _, r := range s.retentions.all() {
		if r.of == p.id {
			s.removeRetention(r)
		}
	}
}

func (s *Server) startRetention(c *call) (answer, error) {
	r, err := s.pathRetention(c, "update", noRetention)
	if err != nil {
		return answer{}, err
	}
	given, err := decode[struct {
		DryRun bool `json:"dry_run"`
	}](c)
	if err != nil {
		return answer{}, err
	}
	return createdID(c, s.run("RETENTION", r.id, given.DryRun).id)
}

func (s *Server) listRetentionRuns(c *call) (answer, error) {
	r, err := s.pathRetention(c, "list", noRetention)
	if err != nil {
		return answer{}, err
	}
	type shownRun struct {
		DryRun    bool   `json:"dry_run"`
		EndTime   string `json:"end_time"`
		ID        int64  `json:"id"`
		PolicyID  int64  `json:"policy_id"`
		StartTime string `json:"start_time"`
		Status    string `json:"status"`
		Trigger   string `json:"trigger"`
	}
	rows := s.runsOf("RETENTION", r.id)
	return paged(c, rows, len(rows), func(e *run) shownRun {
		return shownRun{e.dry, "0001-01-01T00:00:00Z", e.id, e.of, e.started.Format("2006-01-02T15:04:05.999999Z"), "Running", "MANUAL"}
	})
}
