package harbortest

import (
	"encoding/json"
	"regexp"
	"time"
	"unicode/utf8"
)

// preheatInstance is a peer-to-peer network that images are brought into.
type preheatInstance struct {
	id      int64
	request instanceRequest
	setUp   int64 // seconds since 1970; 0 after any update
}

// preheatPolicy says which images of a project are. Filters, trigger and
// extra attributes are JSON in texts, which are kept as they came.
type preheatPolicy struct {
	id             int64
	request        preheatRequest
	created, until time.Time
}

type instanceRequest struct {
	ID          int64             `json:"id"`
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Vendor      string            `json:"vendor"`
	Endpoint    string            `json:"endpoint"`
	AuthMode    string            `json:"auth_mode"`
	AuthInfo    map[string]string `json:"auth_info"`
	Enabled     bool              `json:"enabled"`
	Default     bool              `json:"default"`
	Insecure    bool              `json:"insecure"`
}

type preheatRequest struct {
	ID          int64  `json:"id"`
	Name        string `json:"name"`
	Description string `json:"description"`
	ProviderID  int64  `json:"provider_id"`
	Filters     string `json:"filters"`
	Trigger     string `json:"trigger"`
	Enabled     bool   `json:"enabled"`
	ExtraAttrs  string `json:"extra_attrs"`
}

func (s *Server) preheat() routes {
	const instances, instance = "/p2p/preheat/instances", "/p2p/preheat/instances/{preheat_instance_name}"
	const policies, policy = "/projects/{project_name}/preheat/policies", "/projects/{project_name}/preheat/policies/{preheat_policy_name}"
	return routes{
		"GET /p2p/preheat/providers":  s.listPreheatProviders,
		"GET " + instances:            s.listInstances,
		"POST " + instances:           s.createInstance,
		"POST " + instances + "/ping": s.pingInstance,
		"GET " + instance:             s.showInstance,
		"PUT " + instance:             s.updateInstance,
		"DELETE " + instance:          s.deleteInstance,
		"GET " + policies:             s.listPreheatPolicies,
		"POST " + policies:            s.createPreheatPolicy,
		"GET " + policy:               s.showPreheatPolicy,
		"PUT " + policy:               s.updatePreheatPolicy,
		"DELETE " + policy:            s.deletePreheatPolicy,
	}
}

func (s *Server) listPreheatProviders(c *call) (answer, error) {
	if err := c.inSystem("preheat-instance", "list"); err != nil {
		return answer{}, err
	}
	type provider struct {
		Icon        string   `json:"icon"`
		ID          string   `json:"id"`
		Maintainers []string `json:"maintainers"`
		Name        string   `json:"name"`
		Source      string   `json:"source"`
		Version     string   `json:"version"`
	}
	return shown([]provider{
		{
			"https://raw.githubusercontent.com/dragonflyoss/Dragonfly2/master/docs/images/logo/dragonfly-linear.png", "dragonfly",
			[]string{"chlins.zhang@gmail.com", "gaius.qi@gmail.com"}, "Dragonfly", "https://github.com/dragonflyoss/Dragonfly2", "2.1.59",
		},
		{
			"https://github.com/uber/kraken/blob/master/assets/kraken-logo-color.svg", "kraken",
			[]string{"mmpei/peimingming@corp.netease.com"}, "Kraken", "https://github.com/uber/kraken", "0.1.3",
		},
	})
}

type shownInstance struct {
	AuthInfo    map[string]string `json:"auth_info,omitempty"`
	AuthMode    string            `json:"auth_mode,omitempty"`
	Default     bool              `json:"default"`
	Description string            `json:"description,omitempty"`
	Enabled     bool              `json:"enabled"`
	Endpoint    string            `json:"endpoint,omitempty"`
	ID          int64             `json:"id"`
	Insecure    bool              `json:"insecure"`
	Name        string            `json:"name"`
	SetUp       int64             `json:"setup_timestamp,omitempty"`
	Status      string            `json:"status"`
	Vendor      string            `json:"vendor"`
}

// showInstanceOf keeps what it logs in with to itself, in newer versions.
func (s *Server) showInstanceOf(i *preheatInstance) shownInstance {
	r := i.request
	login := map[string]string{}
	if s.shows() {
		login = r.AuthInfo
	}
	return shownInstance{login, r.AuthMode, r.Default, r.Description, r.Enabled, r.Endpoint, i.id, r.Insecure, r.Name, i.setUp, "Unknown", r.Vendor}
}

func (s *Server) listInstances(c *call) (answer, error) {
	if err := c.inSystem("preheat-instance", "list"); err != nil {
		return answer{}, err
	}
	by := fields[*preheatInstance]{
		"id":       func(i *preheatInstance) string { return number(i.id) },
		"name":     func(i *preheatInstance) string { return i.request.Name },
		"endpoint": func(i *preheatInstance) string { return i.request.Endpoint },
		"vendor":   func(i *preheatInstance) string { return i.request.Vendor },
	}
	return listed(c, s.instances.all(), by, "id", s.showInstanceOf)
}

func goodName(name string) bool {
	return regexp.MustCompile("^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$").MatchString(name)
}

// createInstance gives a 500 for an address that another has.
func (s *Server) createInstance(c *call) (answer, error) {
	if err := c.inSystem("preheat-instance", "create"); err != nil {
		return answer{}, err
	}
	given, err := decode[instanceRequest](c)
	if err != nil {
		return answer{}, err
	}
	for _, i := range s.instances.all() {
		if i.request.Endpoint == given.Endpoint {
			return answer{}, internal()
		}
	}
	if !goodName(given.Name) {
		return answer{}, internal()
	}
	i := &preheatInstance{id: s.next("instance"), request: given, setUp: s.now().Unix()}
	if s.instances.named(given.Name) != nil {
		return answer{}, conflict("instance %s already exists", given.Name)
	}
	s.instances.put(i.id, given.Name, i)
	return created(c.r.URL.EscapedPath() + "/" + given.Name)
}

func (s *Server) pingInstance(c *call) (answer, error) {
	if err := c.inSystem("preheat-instance", "read"); err != nil {
		return answer{}, err
	}
	given, err := decode[instanceRequest](c)
	if err != nil {
		return answer{}, err
	}
	if given.ID > 0 {
		i := s.instances.get(given.ID)
		if i == nil {
			return answer{}, &refusal{status: 404}
		}
		given = i.request
	}
	if given.Endpoint == "" {
		return answer{}, &refusal{status: 400}
	}
	if s.options.Remotes(Remote{Kind: "preheat", Type: given.Vendor, URL: given.Endpoint}) != Healthy {
		return answer{}, internal()
	}
	return done()
}

// pathInstance is the one that the path names.
func (s *Server) pathInstance(c *call, action string) (*preheatInstance, error) {
	if err := c.inSystem("preheat-instance", action); err != nil {
		return nil, err
	}
	name := c.vars["preheat_instance_name"]
	i := s.instances.named(name)
	if i == nil {
		return nil, notFound("instance %s not found", name)
	}
	return i, nil
}

func (s *Server) showInstance(c *call) (answer, error) {
	i, err := s.pathInstance(c, "read")
	if err != nil {
		return answer{}, err
	}
	return shown(s.showInstanceOf(i))
}

// updateInstance goes by the id in the body. What it logs in with stays where
// it is left out, if it is not shown.
func (s *Server) updateInstance(c *call) (answer, error) {
	old, err := s.pathInstance(c, "update")
	if err != nil {
		return answer{}, err
	}
	given, err := decode[instanceRequest](c)
	if err != nil {
		return answer{}, err
	}
	if !goodName(given.Name) {
		return answer{}, internal()
	}
	i := s.instances.get(given.ID)
	switch {
	case i == nil:
		return answer{}, notFound("instance %d not found", given.ID)
	case !given.Enabled && s.preheats(i.id):
		return answer{}, precondition("Provider [%s] cannot be disabled as some preheat policies are using it", i.request.Name)
	case given.Vendor != i.request.Vendor:
		return answer{}, internal()
	case s.instances.named(given.Name) != nil && s.instances.named(given.Name) != i:
		return answer{}, internal()
	}
	if len(given.AuthInfo) == 0 && given.AuthMode != "NONE" && !s.shows() {
		given.AuthInfo = old.request.AuthInfo
	}
	s.instances.rename(i.id, i.request.Name, given.Name)
	i.request, i.setUp = given, 0
	return done()
}

// preheats says whether a policy is for an instance.
func (s *Server) preheats(id int64) bool {
	for _, p := range s.projects.all() {
		for _, policy := range p.preheat.all() {
			if policy.request.ProviderID == id {
				return true
			}
		}
	}
	return false
}

func (s *Server) deleteInstance(c *call) (answer, error) {
	i, err := s.pathInstance(c, "delete")
	if err != nil {
		return answer{}, err
	}
	if s.preheats(i.id) {
		return answer{}, precondition("Provider [%s] cannot be deleted as some preheat policies are using it", i.request.Name)
	}
	s.instances.remove(i.id, i.request.Name)
	return done()
}

type shownPreheat struct {
	CreationTime stamp  `json:"creation_time"`
	Description  string `json:"description,omitempty"`
	Enabled      bool   `json:"enabled"`
	ExtraAttrs   string `json:"extra_attrs,omitempty"`
	Filters      string `json:"filters,omitempty"`
	ID           int64  `json:"id"`
	Name         string `json:"name"`
	ProjectID    int64  `json:"project_id"`
	ProviderID   int64  `json:"provider_id"`
	ProviderName string `json:"provider_name,omitempty"`
	Trigger      string `json:"trigger,omitempty"`
	UpdateTime   stamp  `json:"update_time"`
}

func (s *Server) showPreheatOf(p *project, policy *preheatPolicy) shownPreheat {
	r := policy.request
	shown := shownPreheat{
		stamp(policy.created), r.Description, r.Enabled, r.ExtraAttrs, r.Filters, policy.id, r.Name, p.id, r.ProviderID, "",
		r.Trigger, stamp(policy.until),
	}
	if i := s.instances.get(r.ProviderID); i != nil {
		shown.ProviderName = i.request.Name
	}
	return shown
}

func (s *Server) listPreheatPolicies(c *call) (answer, error) {
	p, err := s.project(c, "preheat-policy", "list")
	if err != nil {
		return answer{}, err
	}
	by := fields[*preheatPolicy]{
		"id":          func(o *preheatPolicy) string { return number(o.id) },
		"name":        func(o *preheatPolicy) string { return o.request.Name },
		"provider_id": func(o *preheatPolicy) string { return number(o.request.ProviderID) },
		"update_time": func(o *preheatPolicy) string { return moment(o.until) },
	}
	return listed(c, p.preheat.all(), by, "update_time,-id", func(o *preheatPolicy) shownPreheat { return s.showPreheatOf(p, o) })
}

// preheatTrigger is all that Harbor knows of a trigger.
type preheatTrigger struct {
	Type    string `json:"type"`
	Setting struct {
		Cron string `json:"cron,omitempty"`
	} `json:"trigger_setting"`
}

// schedulePreheat checks what is JSON in texts, and makes the schedule.
func (s *Server) schedulePreheat(id int64, given preheatRequest) error {
	cron, err := given.cron()
	if err != nil {
		return err
	}
	if old := s.scheduled("P2P_PREHEAT", id); old != nil && old.cron == cron {
		return nil
	}
	s.unschedule("P2P_PREHEAT", id)
	if cron != "" {
		s.schedule("P2P_PREHEAT", id, "", cron, nil)
	}
	return nil
}

func (r preheatRequest) cron() (string, error) {
	var filters []struct{ Type string }
	var extra map[string]json.RawMessage
	var trigger preheatTrigger
	switch {
	case utf8.RuneCountInString(r.Filters) > 1024, utf8.RuneCountInString(r.Trigger) > 255, utf8.RuneCountInString(r.Description) > 1024: // more than the database keeps
		return "", internal()
	case json.Unmarshal([]byte(r.Filters), &filters) != nil,
		json.Unmarshal([]byte(r.Trigger), &trigger) != nil,
		r.ExtraAttrs != "" && json.Unmarshal([]byte(r.ExtraAttrs), &extra) != nil:
		return "", internal()
	case trigger.Type != "scheduled" || trigger.Setting.Cron == "":
		return "", nil
	}
	if err := checkCron(trigger.Setting.Cron); err != nil {
		return "", badRequest("invalid cron string for scheduled preheat: %s, error: %v", trigger.Setting.Cron, err)
	}
	return trigger.Setting.Cron, nil
}

func (s *Server) createPreheatPolicy(c *call) (answer, error) {
	p, given, err := s.preheatRequest(c, "create")
	if err != nil {
		return answer{}, err
	}
	if s.instances.get(given.ProviderID) == nil {
		return answer{}, notFound("instance %d not found", given.ProviderID)
	}
	cron, err := given.cron()
	if err != nil {
		return answer{}, err
	}
	if cron != "" { // then, and not by an update, it is written anew
		given.Trigger = preheatTrigger{Type: "scheduled"}.at(cron)
	}
	policy := &preheatPolicy{id: s.next("preheat"), request: given, created: s.now()}
	policy.until = policy.created
	if p.preheat.named(given.Name) != nil {
		return answer{}, conflict("policy %s already exists", given.Name)
	}
	p.preheat.put(policy.id, given.Name, policy)
	if err := s.schedulePreheat(policy.id, given); err != nil {
		return answer{}, err
	}
	return created(c.r.URL.EscapedPath() + "/" + given.Name)
}

func (t preheatTrigger) at(cron string) string {
	t.Setting.Cron = cron
	text, err := json.Marshal(t)
	if err != nil {
		return ""
	}
	return string(text)
}

// preheatRequest is a policy that was sent to a project.
func (s *Server) preheatRequest(c *call, action string) (*project, preheatRequest, error) {
	p, err := s.project(c, "preheat-policy", action)
	if err != nil {
		return nil, preheatRequest{}, err
	}
	given, err := decode[preheatRequest](c)
	if err == nil && !goodName(given.Name) {
		err = internal()
	}
	if s.before(13) {
		given.ExtraAttrs = ""
	}
	return p, given, err
}

// pathPreheat is the policy that the path names.
func (s *Server) pathPreheat(c *call, action string) (*project, *preheatPolicy, error) {
	p, err := s.project(c, "preheat-policy", action)
	if err != nil {
		return nil, nil, err
	}
	name := c.vars["preheat_policy_name"]
	policy := p.preheat.named(name)
	if policy == nil {
		return nil, nil, notFound("policy %s not found", name)
	}
	return p, policy, nil
}

func (s *Server) showPreheatPolicy(c *call) (answer, error) {
	p, policy, err := s.pathPreheat(c, "read")
	if err != nil {
		return answer{}, err
	}
	return shown(s.showPreheatOf(p, policy))
}

// updatePreheatPolicy goes by the id in the body, and forgets when the policy
// was made. A name that another has is a 500.
func (s *Server) updatePreheatPolicy(c *call) (answer, error) {
	p, given, err := s.preheatRequest(c, "update")
	if err != nil {
		return answer{}, err
	}
	policy := p.preheat.get(given.ID)
	switch {
	case policy == nil:
		return answer{}, notFound("policy %d not found", given.ID)
	case s.instances.get(given.ProviderID) == nil:
		return answer{}, notFound("instance %d not found", given.ProviderID)
	case p.preheat.named(given.Name) != nil && p.preheat.named(given.Name) != policy:
		return answer{}, internal()
	}
	if err := s.schedulePreheat(policy.id, given); err != nil {
		return answer{}, err
	}
	p.preheat.rename(policy.id, policy.request.Name, given.Name)
	policy.request, policy.created, policy.until = given, time.Time{}, s.now()
	return done()
}

func (s *Server) deletePreheatPolicy(c *call) (answer, error) {
	p, policy, err := s.pathPreheat(c, "delete")
	if err != nil {
		return answer{}, err
	}
	s.removePreheat(p, policy)
	return done()
}

func (s *Server) removePreheat(p *project, policy *preheatPolicy) {
	s.unschedule("P2P_PREHEAT", policy.id)
	p.preheat.remove(policy.id, policy.request.Name)
}

func (s *Server) forgetPreheat(p *project) {
	for _, policy := range p.preheat.all() {
		s.removePreheat(p, policy)
	}
}
