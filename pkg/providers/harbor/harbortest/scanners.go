package harbortest

import (
	"slices"
	"time"
)

// scanner is one that is registered. uuid is its id to others.
type scanner struct {
	id             int64
	uuid           string
	request        scannerRequest
	isDefault      bool
	created, until time.Time
}

type scannerRequest struct {
	Name         string `json:"name"`
	Description  string `json:"description"`
	URL          string `json:"url"`
	Auth         string `json:"auth"`
	Credential   string `json:"access_credential"`
	SkipCert     bool   `json:"skip_certVerify"`
	InternalAddr bool   `json:"use_internal_addr"`
	Disabled     bool   `json:"disabled"`
}

func (s *Server) scannerOperations() routes {
	const one = "/scanners/{registration_id}"
	return routes{
		"GET /scanners":            s.listScanners,
		"POST /scanners":           s.createScanner,
		"POST /scanners/ping":      s.pingScanner,
		"GET " + one:               s.showScanner,
		"PUT " + one:               s.updateScanner,
		"PATCH " + one:             s.setDefaultScanner,
		"DELETE " + one:            s.deleteScanner,
		"GET " + one + "/metadata": s.showScannerMetadata,
		"GET /projects/{project_name_or_id}/scanner":            s.showProjectScanner,
		"PUT /projects/{project_name_or_id}/scanner":            s.setProjectScanner,
		"GET /projects/{project_name_or_id}/scanner/candidates": s.listScannerCandidates,
	}
}

type shownScanner struct {
	Credential   string          `json:"access_credential"`
	Adapter      string          `json:"adapter,omitempty"`
	Auth         string          `json:"auth"`
	Capabilities map[string]bool `json:"capabilities"`
	CreateTime   stamp           `json:"create_time"`
	Description  string          `json:"description"`
	Disabled     bool            `json:"disabled"`
	Health       string          `json:"health,omitempty"`
	IsDefault    bool            `json:"is_default"`
	Name         string          `json:"name"`
	SkipCert     bool            `json:"skip_certVerify"`
	UpdateTime   stamp           `json:"update_time"`
	URL          string          `json:"url"`
	InternalAddr bool            `json:"use_internal_addr"`
	UUID         string          `json:"uuid"`
	Vendor       string          `json:"vendor,omitempty"`
	Version      string          `json:"version,omitempty"`
}

// show keeps the credential to itself. Of older versions showAsked does not.
func (n *scanner) show() shownScanner {
	r := n.request
	return shownScanner{
		Auth: r.Auth, CreateTime: stamp(n.created), Description: r.Description, Disabled: r.Disabled, IsDefault: n.isDefault,
		Name: r.Name, SkipCert: r.SkipCert, UpdateTime: stamp(n.until), URL: r.URL, InternalAddr: r.InternalAddr, UUID: n.uuid,
	}
}

// showAsked is a scanner that was asked what it can do, if it answers.
func (s *Server) showAsked(n *scanner) shownScanner {
	shown := n.show()
	if s.shows() {
		shown.Credential = n.request.Credential
	}
	if s.reachScanner(n.request) == nil {
		shown.Capabilities = map[string]bool{"support_vulnerability": true}
	}
	return shown
}

func (s *Server) reachScanner(r scannerRequest) error {
	if s.options.Remotes(Remote{Kind: "scanner", URL: r.URL, Secret: r.Credential}) != Healthy {
		return internal()
	}
	return nil
}

func (s *Server) defaultScanner() *scanner {
	for _, n := range s.scanners.all() {
		if n.isDefault {
			return n
		}
	}
	return nil
}

func scannerFields() fields[*scanner] {
	return fields[*scanner]{
		"name":        func(n *scanner) string { return n.request.Name },
		"url":         func(n *scanner) string { return n.request.URL },
		"description": func(n *scanner) string { return n.request.Description },
		"is_default": func(n *scanner) string {
			if n.isDefault {
				return "true"
			}
			return "false"
		},
		"create_time": func(n *scanner) string { return moment(n.created) },
		"update_time": func(n *scanner) string { return moment(n.until) },
	}
}

func (s *Server) listScanners(c *call) (answer, error) {
	if err := c.inSystem("scanner", "list"); err != nil {
		return answer{}, err
	}
	return listed(c, s.scanners.all(), scannerFields(), "-is_default,-create_time", s.showAsked)
}

// check says what Harbor does not take.
func (r *scannerRequest) check() error {
	if r.Name == "" {
		return badRequest("missing registration name")
	}
	address, err := tidied(r.URL)
	if err != nil {
		return badRequest("scanner registration validate: %v", err)
	}
	r.URL = address
	switch {
	case r.Auth != "" && !slices.Contains([]string{"Basic", "Bearer", "APIKey"}, r.Auth):
		return badRequest("auth type %s is not supported", r.Auth)
	case r.Auth != "" && r.Credential == "":
		return badRequest("access_credential is required for auth type %s", r.Auth)
	}
	return nil
}

// taken refuses a name or an address that another has; its code is none that
// says so.
func (s *Server) taken(r scannerRequest, but *scanner) error {
	for _, n := range s.scanners.all() {
		if n != but && (n.request.Name == r.Name || n.request.URL == r.URL) {
			return refuse(409, "UNKNOWN", "dao: create registration: registration name or url already exists")
		}
	}
	return nil
}

// createScanner makes the first one the default.
func (s *Server) createScanner(c *call) (answer, error) {
	if err := c.inSystem("scanner", "create"); err != nil {
		return answer{}, err
	}
	given, err := decode[scannerRequest](c)
	if err != nil {
		return answer{}, err
	}
	if err := given.check(); err != nil {
		return answer{}, err
	}
	if given.Name == "Trivy" {
		return answer{}, badRequest(`name "%s" is reserved, please try a different name`, given.Name)
	}
	if err := s.reachScanner(given); err != nil {
		return answer{}, err
	}
	if err := s.taken(given, nil); err != nil {
		return answer{}, err
	}
	n := &scanner{id: s.next("scanner"), uuid: uuid(), request: given, isDefault: len(s.scanners.order) == 0, created: s.now()}
	n.until = n.created
	s.scanners.put(n.id, n.uuid, n)
	return created(c.r.URL.EscapedPath() + "/" + n.uuid)
}

func (s *Server) pingScanner(c *call) (answer, error) {
	if err := c.inSystem("scanner", "read"); err != nil {
		return answer{}, err
	}
	given, err := decode[scannerRequest](c)
	if err != nil {
		return answer{}, err
	}
	if err := given.check(); err != nil {
		return answer{}, err
	}
	if err := s.reachScanner(given); err != nil {
		return answer{}, err
	}
	return done()
}

// pathScanner is the one that the path names.
func (s *Server) pathScanner(c *call, action string) (*scanner, error) {
	if err := c.inSystem("scanner", action); err != nil {
		return nil, err
	}
	n := s.scanners.named(c.vars["registration_id"])
	if n == nil {
		return nil, notFound("scanner %s not found", c.vars["registration_id"])
	}
	return n, nil
}

func (s *Server) showScanner(c *call) (answer, error) {
	n, err := s.pathScanner(c, "read")
	if err != nil {
		return answer{}, err
	}
	return shown(s.showAsked(n))
}

// updateScanner replaces all but a credential that is left out and not shown.
func (s *Server) updateScanner(c *call) (answer, error) {
	n, err := s.pathScanner(c, "update")
	if err != nil {
		return answer{}, err
	}
	given, err := decode[scannerRequest](c)
	if err != nil {
		return answer{}, err
	}
	if given.Credential == "" && given.Auth != "" && !s.shows() {
		given.Credential = n.request.Credential
	}
	if err := given.check(); err != nil {
		return answer{}, err
	}
	switch {
	case n.isDefault && given.Disabled:
		return answer{}, internal()
	case given.Name == "Trivy":
		return answer{}, badRequest(`name "%s" is reserved, please try a different name`, given.Name)
	}
	if err := s.taken(given, n); err != nil {
		return answer{}, err
	}
	n.request, n.until = given, s.now()
	return done()
}

// setDefaultScanner takes the default from the others; false does nothing.
func (s *Server) setDefaultScanner(c *call) (answer, error) {
	if err := c.inSystem("scanner", "update"); err != nil {
		return answer{}, err
	}
	given, err := decode[struct {
		IsDefault bool `json:"is_default"`
	}](c)
	if err != nil || !given.IsDefault {
		a, _ := done()
		return a, err
	}
	id := c.vars["registration_id"]
	n := s.scanners.named(id)
	if n == nil || n.request.Disabled {
		return answer{}, notFound("registration %s not found", id)
	}
	for _, other := range s.scanners.all() {
		other.isDefault = other == n
	}
	return done()
}

// deleteScanner shows what it took away. Without the default there is none.
func (s *Server) deleteScanner(c *call) (answer, error) {
	n, err := s.pathScanner(c, "delete")
	if err != nil {
		return answer{}, err
	}
	s.scanners.remove(n.id, n.uuid)
	return shown(n.show())
}

// The adapter that every scanner has here.
const (
	adapterName    = "FakeScan"
	adapterVendor  = "lab"
	adapterVersion = "0.1"
)

func (s *Server) showScannerMetadata(c *call) (answer, error) {
	if err := c.inSystem("scanner", "read"); err != nil {
		return answer{}, err
	}
	id := c.vars["registration_id"]
	n := s.scanners.named(id)
	if n == nil {
		return answer{}, notFound("registration %s not found", id)
	}
	if err := s.reachScanner(n.request); err != nil {
		return answer{}, err
	}
	return shown(map[string]any{
		"capabilities": []any{map[string]any{
			"consumes_mime_types": []string{
				"application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json",
			},
			"produces_mime_types": []string{
				"application/vnd.scanner.adapter.vuln.report.harbor+json; version=1.0",
				"application/vnd.security.vulnerability.report; version=1.1",
			},
			"type": "vulnerability",
		}},
		"properties": map[string]string{"harbor.scanner-adapter/scanner-type": "os-package-vulnerability"},
		"scanner":    map[string]string{"name": adapterName, "vendor": adapterVendor, "version": adapterVersion},
	})
}

const projectScanner = "projectScanner"

// showProjectScanner is the project's, or the default; nothing at all where
// there is neither. A scanner that is gone is forgotten when it is looked up.
func (s *Server) showProjectScanner(c *call) (answer, error) {
	if err := c.loggedIn(); err != nil {
		return answer{}, err
	}
	p, err := s.project(c, "scanner", "read")
	if err != nil {
		return answer{}, err
	}
	n := s.scanners.named(p.metadata[projectScanner])
	if n == nil {
		delete(p.metadata, projectScanner)
		n = s.defaultScanner()
	}
	if n == nil {
		return done()
	}
	one := s.showAsked(n)
	one.Health = "unhealthy"
	if one.Capabilities != nil {
		one.Health, one.Adapter, one.Vendor, one.Version = "healthy", adapterName, adapterVendor, adapterVersion
	}
	return shown(one)
}

// setProjectScanner takes any uuid.
func (s *Server) setProjectScanner(c *call) (answer, error) {
	if err := c.loggedIn(); err != nil {
		return answer{}, err
	}
	p, err := s.project(c, "scanner", "create")
	if err != nil {
		return answer{}, err
	}
	given, err := decode[struct {
		UUID string `json:"uuid"`
	}](c)
	if err != nil {
		return answer{}, err
	}
	if given.UUID == "" {
		return answer{}, internal()
	}
	p.metadata[projectScanner] = given.UUID
	return done()
}

func (s *Server) listScannerCandidates(c *call) (answer, error) {
	if err := c.loggedIn(); err != nil {
		return answer{}, err
	}
	if _, err := s.project(c, "scanner", "create"); err != nil {
		return answer{}, err
	}
	return listed(c, s.scanners.all(), scannerFields(), "-is_default,-create_time", s.showAsked)
}
