package harbortest

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// webhook tells others of events in a project.
type webhook struct {
	id          int64
	name        string
	description string
	enabled     bool
	events      []string
	targets     []webhookTarget
	// created is zero after any update.
	created, until time.Time
}

type webhookTarget struct {
	Address        string `json:"address"`
	AuthHeader     string `json:"auth_header,omitempty"`
	PayloadFormat  string `json:"payload_format,omitempty"`
	SkipCertVerify bool   `json:"skip_cert_verify,omitempty"`
	Type           string `json:"type"`
}

func webhookEvents() []string {
	return []string{
		"PUSH_ARTIFACT", "PULL_ARTIFACT", "DELETE_ARTIFACT", "QUOTA_EXCEED", "QUOTA_WARNING", "SCANNING_FAILED",
		"SCANNING_STOPPED", "SCANNING_COMPLETED", "REPLICATION", "TAG_RETENTION",
	}
}

func (s *Server) webhookPolicies() routes {
	const at = "/projects/{project_name_or_id}/webhook/policies"
	const one = at + "/{webhook_policy_id}"
	return routes{
		"GET " + at:     s.listWebhooks,
		"POST " + at:    s.createWebhook,
		"GET " + one:    s.showWebhook,
		"PUT " + one:    s.updateWebhook,
		"DELETE " + one: s.deleteWebhook,
		"GET /projects/{project_name_or_id}/webhook/events": s.showWebhookEvents,
	}
}

func (s *Server) showWebhookEvents(c *call) (answer, error) {
	if _, err := s.project(c, "notification-policy", "read"); err != nil {
		return answer{}, err
	}
	type formats struct {
		Formats []string `json:"formats"`
		Type    string   `json:"notify_type"`
	}
	return shown(map[string]any{
		"event_type": webhookEvents(), "notify_type": []string{"http", "slack"},
		"payload_formats": []formats{{[]string{"Default", "CloudEvents"}, "http"}},
	})
}

type shownWebhook struct {
	CreationTime stamp           `json:"creation_time"`
	Description  string          `json:"description,omitempty"`
	Enabled      bool            `json:"enabled"`
	EventTypes   []string        `json:"event_types"`
	ID           int64           `json:"id"`
	Name         string          `json:"name,omitempty"`
	ProjectID    int64           `json:"project_id"`
	Targets      []webhookTarget `json:"targets"`
	UpdateTime   stamp           `json:"update_time"`
}

func (p *project) showWebhook(h *webhook) shownWebhook {
	return shownWebhook{
		CreationTime: stamp(h.created), Description: h.description, Enabled: h.enabled, EventTypes: h.events, ID: h.id,
		Name: h.name, ProjectID: p.id, Targets: h.targets, UpdateTime: stamp(h.until),
	}
}

// listWebhooks has those without a creation time first: to the database, none
// is later than any.
func (s *Server) listWebhooks(c *call) (answer, error) {
	p, err := s.project(c, "notification-policy", "list")
	if err != nil {
		return answer{}, err
	}
	by := fields[*webhook]{
		"name": func(h *webhook) string { return h.name },
		"id":   func(h *webhook) string { return number(h.id) },
		"creation_time": func(h *webhook) string {
			if h.created.IsZero() {
				return "z"
			}
			return moment(h.created)
		},
		"update_time": func(h *webhook) string { return moment(h.until) },
		"enabled":     func(h *webhook) string { return fmt.Sprint(h.enabled) },
	}
	return listed(c, p.webhooks.all(), by, "-creation_time", p.showWebhook)
}

type webhookRequest struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Enabled     bool            `json:"enabled"`
	Events      []string        `json:"event_types"`
	Targets     []webhookTarget `json:"targets"`
}

// check says what Harbor does not take, and fills in the format.
func (r *webhookRequest) check() error {
	if len(r.Events) == 0 {
		return badRequest("empty event type")
	}
	for _, event := range r.Events {
		if !slices.Contains(webhookEvents(), event) {
			return badRequest("unsupported event type %s", event)
		}
	}
	if len(r.Targets) == 0 {
		return badRequest("empty notification target with policy %s", r.Name)
	}
	for i, t := range r.Targets {
		address := strings.Trim(t.Address, " ")
		if !strings.Contains(address, "://") {
			address = "http://" + address
		}
		_, err := url.ParseRequestURI(strings.TrimRight(address, "/"))
		switch {
		case err != nil:
			return badRequest("%v", err)
		case t.Type != "http" && t.Type != "slack":
			return badRequest("unsupported target type %s with policy %s", t.Type, r.Name)
		case t.PayloadFormat != "" && t.Type == "slack":
			return badRequest("set payload format is not allowed for slack")
		case t.PayloadFormat != "" && t.PayloadFormat != "Default" && t.PayloadFormat != "CloudEvents":
			return badRequest("unsupported payload format type: %s", t.PayloadFormat)
		case t.PayloadFormat == "" && t.Type == "http":
			r.Targets[i].PayloadFormat = "Default"
		}
	}
	return nil
}

func (s *Server) createWebhook(c *call) (answer, error) {
	p, err := s.project(c, "notification-policy", "create")
	if err != nil {
		return answer{}, err
	}
	given, err := decode[webhookRequest](c)
	if err != nil {
		return answer{}, err
	}
	if err := given.check(); err != nil {
		return answer{}, err
	}
	id := s.next("webhook")
	if p.webhooks.named(given.Name) != nil {
		return answer{}, conflict("notification policy named %s already exists", given.Name)
	}
	h := &webhook{id: id, created: s.now()}
	h.until = h.created
	h.set(given)
	p.webhooks.put(id, h.name, h)
	return createdID(c, id)
}

func (h *webhook) set(given webhookRequest) {
	h.name, h.description, h.enabled, h.events, h.targets = given.Name, given.Description, given.Enabled, given.Events, given.Targets
}

// pathWebhook is the one that the path names, in the project it names.
func (s *Server) pathWebhook(c *call, action string) (*project, *webhook, error) {
	id, err := c.id("webhook_policy_id")
	if err != nil {
		return nil, nil, err
	}
	p, err := s.project(c, "notification-policy", action)
	if err != nil {
		return nil, nil, err
	}
	h := p.webhooks.get(id)
	if h == nil && slices.ContainsFunc(s.projects.all(), func(p *project) bool { return p.webhooks.get(id) != nil }) {
		return nil, nil, notFound("resource not found: project id:%d, webhook policy id: %d not found", p.id, id)
	}
	if h == nil {
		return nil, nil, notFound("notificationPolicy %d not found", id)
	}
	return p, h, nil
}

func (s *Server) showWebhook(c *call) (answer, error) {
	p, h, err := s.pathWebhook(c, "read")
	if err != nil {
		return answer{}, err
	}
	return shown(p.showWebhook(h))
}

// updateWebhook replaces all of it, the time it was made included; the time
// of the change stays what it was.
func (s *Server) updateWebhook(c *call) (answer, error) {
	p, h, err := s.pathWebhook(c, "update")
	if err != nil {
		return answer{}, err
	}
	given, err := decode[webhookRequest](c)
	if err != nil {
		return answer{}, err
	}
	if err := given.check(); err != nil {
		return answer{}, err
	}
	if other := p.webhooks.named(given.Name); other != nil && other != h {
		return answer{}, conflict("notification policy named %s already exists", given.Name)
	}
	p.webhooks.rename(h.id, h.name, given.Name)
	h.set(given)
	h.created = time.Time{}
	return done()
}

func (s *Server) deleteWebhook(c *call) (answer, error) {
	p, h, err := s.pathWebhook(c, "delete")
	if err != nil {
		return answer{}, err
	}
	p.webhooks.remove(h.id, h.name)
	return done()
}
