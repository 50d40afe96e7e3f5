package harbortest

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// project is one with all that is kept by project.
type project struct {
	id        int64
	name      string
	owner     int64
	registry  int64
	created   time.Time
	metadata  map[string]string
	cves      cveList
	quota     *quota
	members   table[member]
	robots    table[robot]
	webhooks  table[webhook]
	immutable table[immutable]
	labels    table[label]
	preheat   table[preheatPolicy]

	repositories table[repository]
}

func (s *Server) installProjects() {
	_, _ = s.makeProject("library", adminID, 0, map[string]string{"public": "true"}, -1) // nothing is there to be in its way
}

// public says whether everybody may read it.
func (p *project) public() bool {
	v := strings.ToLower(p.metadata["public"])
	return v == "true" || v == "1"
}

func (s *Server) projectOperations() routes {
	return routes{
		"GET /projects":                                 s.listProjects,
		"HEAD /projects":                                s.headProject,
		"POST /projects":                                s.createProject,
		"GET /projects/{project_name_or_id}":            s.showProject,
		"PUT /projects/{project_name_or_id}":            s.updateProject,
		"DELETE /projects/{project_name_or_id}":         s.deleteProject,
		"GET /projects/{project_name_or_id}/_deletable": s.showDeletable,
		"GET /projects/{project_name_or_id}/summary":    s.showSummary,
	}
}

// metadataKeys are those that a project shows and takes as its metadata.
// Below /metadatas there may be more.
func metadataKeys() []string {
	return []string{
		"auto_sbom_generation", "auto_scan", "enable_content_trust", "enable_content_trust_cosign", "max_upstream_conn",
		"prevent_vul", "proxy_cache_filter_kind", "proxy_cache_filter_pattern", "proxy_cache_local_on_not_found",
		"proxy_referrer_api", "proxy_speed_kb", "public", "retention_id",
		"reuse_sys_cve_allowlist", "severity",
	}
}

type shownProject struct {
	CreationTime stamp             `json:"creation_time"`
	RoleID       int64             `json:"current_user_role_id,omitempty"`
	RoleIDs      []int64           `json:"current_user_role_ids"`
	CVEAllowlist shownCVEs         `json:"cve_allowlist"`
	Metadata     map[string]string `json:"metadata,omitempty"`
	Name         string            `json:"name"`
	OwnerID      int64             `json:"owner_id"`
	OwnerName    string            `json:"owner_name,omitempty"`
	ProjectID    int64             `json:"project_id"`
	RegistryID   int64             `json:"registry_id,omitempty"`
	RepoCount    int               `json:"repo_count"`
	UpdateTime   stamp             `json:"update_time"`
}

// showProjectTo is a project as somebody sees it, with their roles in it.
func (s *Server) showProjectTo(who identity, p *project, detail bool) shownProject {
	shown := shownProject{
		CreationTime: stamp(p.created), Name: p.name, OwnerID: p.owner, ProjectID: p.id, RegistryID: p.registry,
		RepoCount: s.repositoryCount(p), UpdateTime: stamp(p.created), RoleIDs: s.rolesIn(who.user, p),
	}
	shown.RoleID = highest(shown.RoleIDs)
	if !detail {
		return shown
	}
	shown.CVEAllowlist = p.cves.show()
	if owner := s.users.get(p.owner); owner != nil {
		shown.OwnerName = owner.name
	}
	shown.Metadata = map[string]string{}
	for _, key := range metadataKeys() {
		if value, has := p.metadata[key]; has {
			shown.Metadata[key] = value
		}
	}
	if value, has := shown.Metadata["severity"]; has {
		shown.Metadata["severity"] = severity(value)
	}
	return shown
}

// severity is one as projects show it, whatever was written.
func severity(value string) string {
	value = strings.ToLower(value)
	switch {
	case value == "negligible":
		return "none"
	case slices.Contains([]string{"none", "low", "medium", "high", "critical"}, value):
		return value
	}
	return "unknown"
}

func (s *Server) projectFields() fields[*project] {
	return fields[*project]{
		"name":          func(p *project) string { return p.name },
		"project_id":    func(p *project) string { return number(p.id) },
		"owner_id":      func(p *project) string { return number(p.owner) },
		"registry_id":   func(p *project) string { return number(p.registry) },
		"creation_time": func(p *project) string { return moment(p.created) },
		"update_time":   func(p *project) string { return moment(p.created) },
		"public":        func(p *project) string { return strconv.FormatBool(p.metadata["public"] == "true") },
		"owner": func(p *project) string {
			if owner := s.users.get(p.owner); owner != nil {
				return owner.name
			}
			return ""
		},
	}
}

// listProjects shows everybody what they may see: anybody, and whoever gave a
// wrong password, the public ones.
func (s *Server) listProjects(c *call) (answer, error) {
	terms, err := c.terms()
	if err != nil {
		return answer{}, err
	}
	if name := c.query.Get("name"); name != "" {
		terms["name"] = term{'~', []string{name}}
	}
	if owner := c.query.Get("owner"); owner != "" {
		terms["owner"] = term{'=', []string{owner}}
	}
	if public, err := strconv.ParseBool(c.query.Get("public")); err == nil {
		terms["public"] = term{'=', []string{strconv.FormatBool(public)}}
	}
	rows := s.projects.all()
	if !c.who.maySystem("project", "list") {
		rows = slices.DeleteFunc(rows, func(p *project) bool { return !s.listable(c.who, p) })
	}
	rows = filtered(rows, terms, s.projectFields())
	sorted(c, rows, s.projectFields(), "name")
	detail := true
	if with, err := strconv.ParseBool(c.query.Get("with_detail")); err == nil {
		detail = with
	}
	return paged(c, rows, len(rows), func(p *project) shownProject { return s.showProjectTo(c.who, p, detail) })
}

// listable says whether a project is in the list of who does not see all.
func (s *Server) listable(who identity, p *project) bool {
	switch {
	case p.metadata["public"] == "true":
		return true
	case who.robot != nil:
		return who.robot.covers(p.name)
	}
	return len(s.rolesIn(who.user, p)) > 0
}

func (s *Server) headProject(c *call) (answer, error) {
	if err := c.loggedIn(); err != nil {
		return answer{}, err
	}
	if name := c.query.Get("project_name"); s.projects.named(name) == nil {
		return answer{}, notFound("project %s not found", name)
	}
	return done()
}

type projectRequest struct {
	Name     string             `json:"project_name"`
	Public   *bool              `json:"public"`
	Metadata map[string]*string `json:"metadata"`
	CVEs     *cveRequest        `json:"cve_allowlist"`
	Storage  *int64             `json:"storage_limit"`
	Registry *int64             `json:"registry_id"`
}

// values are the metadata that are kept. null leaves one alone, and what is
// for proxy caches is dropped elsewhere.
func (s *Server) values(r projectRequest, proxy bool) map[string]string {
	values := map[string]string{}
	for _, key := range metadataKeys() {
		if value := r.Metadata[key]; value != nil && s.knows(key) {
			values[key] = *value
		}
	}
	if proxy {
		delete(values, "enable_content_trust")
	} else {
		delete(values, "proxy_speed_kb")
		delete(values, "max_upstream_conn")
		delete(values, "proxy_cache_filter_pattern")
		delete(values, "proxy_cache_filter_kind")
	}
	return values
}

// checkFilter says what Harbor does not take of which repositories are proxied. It
// looks at what came alone.
func checkFilter(values map[string]string) error {
	filter, kind := values["proxy_cache_filter_pattern"], values["proxy_cache_filter_kind"]
	switch {
	case filter == "" && kind == "":
		return nil
	case kind != "regex" && kind != "doublestar":
		return badRequest("metadata.proxy_cache_filter_kind should be %q or %q, but got: %q", "doublestar", "regex", kind)
	case kind == "regex":
		if _, err := regexp.Compile("^(?:" + filter + ")$"); err != nil {
			return badRequest("metadata.proxy_cache_filter_pattern is invalid for kind %q: %v", kind, err)
		}
	}
	if _, err := path.Match(filter, ""); kind == "doublestar" && err != nil {
		return badRequest("metadata.proxy_cache_filter_pattern is invalid for kind %q: %v", kind, err)
	}
	return nil
}

func (s *Server) createProject(c *call) (answer, error) {
	mayAll := c.who.maySystem("project", "create")
	given, err := decode[projectRequest](c)
	switch {
	case !c.who.authenticated():
		return answer{}, unauthorized()
	case c.who.robot != nil && c.who.robot.level != "system":
		return answer{}, forbidden("Only system level robot can create project")
	case s.setting("project_creation_restriction") == "adminonly" && !mayAll:
		return answer{}, forbidden("Only system admin can create project")
	case err != nil:
		return answer{}, err
	case given.Registry != nil && !mayAll:
		return answer{}, forbidden("Only system admin can create proxy cache project")
	}
	limit := s.settingNumber("storage_per_project")
	if given.Storage != nil && *given.Storage != 0 && mayAll {
		limit = *given.Storage
	}
	metadata := s.values(given, given.Registry != nil)
	if metadata["public"] == "" {
		metadata["public"] = strconv.FormatBool(given.Public != nil && *given.Public)
	}
	if err := s.checkProject(given, metadata, limit); err != nil {
		return answer{}, err
	}
	delete(metadata, "retention_id")
	var registry int64
	if given.Registry != nil {
		registry = *given.Registry
	}
	p, err := s.makeProject(given.Name, s.ownerFor(c.who), registry, metadata, limit)
	if err != nil {
		return answer{}, err
	}
	if registry > 0 {
		s.keepPulled(p)
	}
	if byName, _ := strconv.ParseBool(c.r.Header.Get("X-Resource-Name-In-Location")); byName {
		return created(c.r.URL.EscapedPath() + "/" + p.name)
	}
	return createdID(c, p.id)
}

// checkProject says what Harbor does not take of a new project. It is little.
func (s *Server) checkProject(given projectRequest, metadata map[string]string, limit int64) error {
	if metadata["retention_id"] != "" {
		return badRequest("bad request: the retention_id in the request's payload when creating a project should be omitted, alternatively passing an empty string")
	}
	if given.Registry != nil {
		if err := s.checkProxied(*given.Registry); err != nil {
			return err
		}
		for _, key := range []string{"proxy_speed_kb", "max_upstream_conn"} {
			value, has := metadata[key]
			if _, err := strconv.ParseInt(value, 10, 32); has && err != nil {
				if key == "max_upstream_conn" {
					return badRequest("metadata.%s should be an int, but got '%s', err: %v", key, value, err)
				}
				return badRequest("metadata.%s should by an int32, but got: '%s', err: %v", key, value, err)
			}
		}
		if err := checkFilter(metadata); err != nil {
			return err
		}
	}
	if limit <= 0 && limit != -1 {
		return badRequest("bad request: invalid non-positive value for quota limit, value=%d", limit)
	}
	return nil
}

// ownerFor is who will own what somebody makes; for robots the first admin.
func (s *Server) ownerFor(who identity) int64 {
	if who.user != nil {
		return who.user.id
	}
	for _, u := range s.users.all() {
		if u.sysadmin {
			return u.id
		}
	}
	return adminID
}

// makeProject makes a project and what each has: its maker as a member, a
// list of CVEs and a quota.
func (s *Server) makeProject(name string, owner, registry int64, metadata map[string]string, limit int64) (*project, error) {
	switch {
	case name == "" || len(name) > 255:
		return nil, badRequest("Project name %s is illegal in length. (greater than %d or less than %d)", name, 255, 1)
	case !regexp.MustCompile(`^[a-z0-9]+(?:[._-][a-z0-9]+)*$`).MatchString(name):
		return nil, badRequest("project name is not in lower case or contains illegal characters")
	}
	id := s.next("project")
	if s.projects.named(name) != nil {
		return nil, conflict("The project named %s already exists", name)
	}
	p := &project{
		id: id, name: name, owner: owner, registry: registry, created: s.now(), metadata: maps.Clone(metadata),
		cves: cveList{id: s.next("cve"), project: id},
	}
	s.projects.put(id, name, p)
	s.addMember(p, "u", owner, 1)
	if s.settingFlag("quota_per_project_enable") || name == "library" {
		s.addQuota(p, limit)
	}
	return p, nil
}

func (s *Server) showProject(c *call) (answer, error) {
	p, err := s.project(c, "", "read")
	if err != nil {
		return answer{}, err
	}
	return shown(s.showProjectTo(c.who, p, true))
}

// updateProject merges the metadata by key and replaces the list of CVEs.
// Name, limit and registry are ignored.
func (s *Server) updateProject(c *call) (answer, error) {
	p, err := s.project(c, "", "update")
	if err != nil {
		return answer{}, err
	}
	given, err := decode[projectRequest](c)
	if err != nil {
		return answer{}, err
	}
	if given.CVEs != nil && given.CVEs.ProjectID != 0 && given.CVEs.ProjectID != p.id {
		return answer{}, badRequest("project_id in cve_allowlist must be %d but it's %d", p.id, given.CVEs.ProjectID)
	}
	values := s.values(given, p.registry > 0)
	if err := checkFilter(values); err != nil {
		return answer{}, err
	}
	if id, has := values["retention_id"]; has && id != p.metadata["retention_id"] {
		return answer{}, badRequest("the retention_id in the request's payload when updating a project should be omitted, alternatively passing the one that has already been associated to this project")
	}
	maps.Copy(p.metadata, values)
	if given.CVEs != nil {
		if err := p.cves.set(s, *given.CVEs); err != nil {
			return answer{}, err
		}
	}
	return done()
}

const hasRepositories = "the project contains repositories, can not be deleted"

func (s *Server) showDeletable(c *call) (answer, error) {
	p, err := s.project(c, "", "delete")
	if err != nil {
		return answer{}, err
	}
	if s.repositoryCount(p) > 0 {
		return shown(struct {
			Message string `json:"message"`
		}{hasRepositories})
	}
	return shown(struct {
		Deletable bool `json:"deletable"`
	}{true})
}

func (s *Server) deleteProject(c *call) (answer, error) {
	p, err := s.project(c, "", "delete")
	if err != nil {
		return answer{}, err
	}
	if s.repositoryCount(p) > 0 {
		return answer{}, precondition("precondition failed: %s", hasRepositories)
	}
	s.projects.remove(p.id, p.name)
	s.removeQuota(p)
	s.forgetRobots(p)
	s.forgetRetention(p)
	s.forgetPreheat(p)
	return done()
}

func (s *Server) showSummary(c *call) (answer, error) {
	p, err := s.project(c, "", "read")
	if err != nil {
		return answer{}, err
	}
	type quotaSummary struct {
		Hard map[string]int64 `json:"hard"`
		Used map[string]int64 `json:"used"`
	}
	summary := struct {
		Admins      int            `json:"project_admin_count,omitempty"`
		Maintainers int            `json:"maintainer_count,omitempty"`
		Developers  int            `json:"developer_count,omitempty"`
		Guests      int            `json:"guest_count,omitempty"`
		Limited     int            `json:"limited_guest_count,omitempty"`
		Quota       *quotaSummary  `json:"quota,omitempty"`
		Registry    *shownRegistry `json:"registry,omitempty"`
		RepoCount   int            `json:"repo_count"`
	}{RepoCount: s.repositoryCount(p), Registry: s.proxiedSummary(p)}
	if p.quota != nil && s.settingFlag("quota_per_project_enable") && s.mayOrAdmin(c.who, p, "quota", "read") {
		summary.Quota = &quotaSummary{map[string]int64{"storage": p.quota.hard}, map[string]int64{"storage": p.quota.used}}
	}
	if s.mayOrAdmin(c.who, p, "member", "list") {
		count := map[int64]int{}
		for _, m := range p.members.all() {
			count[m.role]++
		}
		summary.Admins, summary.Developers, summary.Guests = count[1], count[2], count[3]
		summary.Maintainers, summary.Limited = count[4], count[5]
	}
	return shown(summary)
}

func (s *Server) mayOrAdmin(who identity, p *project, resource, action string) bool {
	return who.user != nil && who.user.sysadmin || s.mayProject(who, p, resource, action)
}
