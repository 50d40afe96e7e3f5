package harbortest

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// registry is another one, which projects cache and content goes to or comes
// from.
type registry struct {
	id                      int64
	name, description, kind string
	url                     string
	insecure                bool
	certificate             string
	credentialKind          string
	key, secret             string
	created, until          time.Time
}

func (s *Server) registryOperations() routes {
	return routes{
		"GET /registries":               s.listRegistries,
		"POST /registries":              s.createRegistry,
		"POST /registries/ping":         s.pingRegistry,
		"GET /registries/{id}":          s.showRegistry,
		"PUT /registries/{id}":          s.updateRegistry,
		"DELETE /registries/{id}":       s.deleteRegistry,
		"GET /registries/{id}/info":     s.showRegistryInfo,
		"GET /replication/adapters":     s.listAdapters,
		"GET /replication/adapterinfos": s.listAdapterInfos,
	}
}

type credential struct {
	Key    string `json:"access_key,omitempty"`
	Secret string `json:"access_secret,omitempty"`
	Type   string `json:"type,omitempty"`
}

type shownRegistry struct {
	Certificate  string      `json:"ca_certificate,omitempty"`
	CreationTime stamp       `json:"creation_time"`
	Credential   *credential `json:"credential,omitempty"`
	Description  string      `json:"description,omitempty"`
	ID           int64       `json:"id"`
	Insecure     bool        `json:"insecure,omitempty"`
	Name         string      `json:"name"`
	Status       string      `json:"status,omitempty"`
	Type         string      `json:"type"`
	UpdateTime   stamp       `json:"update_time"`
	URL          string      `json:"url"`
}

const masked = "*****"

// show masks the secret.
func (r *registry) show() shownRegistry {
	shown := shownRegistry{
		Certificate: r.certificate, CreationTime: stamp(r.created), Credential: &credential{}, Description: r.description,
		ID: r.id, Insecure: r.insecure, Name: r.name, Status: "healthy", Type: r.kind, UpdateTime: stamp(r.until), URL: r.url,
	}
	if r.key != "" {
		shown.Credential = &credential{Key: r.key, Type: r.credentialKind}
		if r.secret != "" {
			shown.Credential.Secret = masked
		}
	}
	return shown
}

// showRegistryOf has the status of today: Harbor looks at registries from time
// to time, and leaves alone what it cannot reach.
func (s *Server) showRegistryOf(r *registry) shownRegistry {
	shown := r.show()
	if s.healthOf(r) == Unhealthy {
		shown.Status = "unhealthy"
	}
	return shown
}

// healthOf asks Docker Hub where that is, whatever address it was given.
func (s *Server) healthOf(r *registry) Health {
	at := r.url
	if r.kind == "docker-hub" {
		at = "https://hub.docker.com"
	}
	return s.options.Remotes(Remote{Kind: "registry", Type: r.kind, URL: at, Key: r.key, Secret: r.secret})
}

// local is Harbor itself, which has the id 0.
func (s *Server) local() shownRegistry {
	return shownRegistry{
		Credential: &credential{Secret: masked, Type: "secret"}, Insecure: true, Name: "Local", Status: "healthy", Type: "harbor",
		URL: s.options.Address,
	}
}

func registryFields() fields[*registry] {
	return fields[*registry]{
		"name":          func(r *registry) string { return r.name },
		"id":            func(r *registry) string { return number(r.id) },
		"type":          func(r *registry) string { return r.kind },
		"url":           func(r *registry) string { return r.url },
		"description":   func(r *registry) string { return r.description },
		"creation_time": func(r *registry) string { return moment(r.created) },
		"update_time":   func(r *registry) string { return moment(r.until) },
	}
}

// listRegistries finds by a part of the name.
func (s *Server) listRegistries(c *call) (answer, error) {
	if err := c.inSystem("registry", "list"); err != nil {
		return answer{}, err
	}
	terms, err := c.terms()
	if err != nil {
		return answer{}, err
	}
	if name := c.query.Get("name"); name != "" {
		terms["name"] = term{'~', []string{name}}
	}
	rows := filtered(s.registries.all(), terms, registryFields())
	sorted(c, rows, registryFields(), "id")
	return paged(c, rows, len(rows), s.showRegistryOf)
}

// registryRequest is a registry as it comes: when it is made with the
// credential in one, when it is changed with the fields side by side, and
// what is left out stays.
type registryRequest struct {
	ID             *int64      `json:"id"`
	Name           *string     `json:"name"`
	Description    *string     `json:"description"`
	Type           *string     `json:"type"`
	URL            *string     `json:"url"`
	Insecure       *bool       `json:"insecure"`
	Certificate    *string     `json:"ca_certificate"`
	Credential     *credential `json:"credential"`
	CredentialType *string     `json:"credential_type"`
	Key            *string     `json:"access_key"`
	Secret         *string     `json:"access_secret"`
}

// assign takes what was given, if anything was.
func assign[T any](to *T, given *T) {
	if given != nil {
		*to = *given
	}
}

// apply changes what was given, except the type.
func (r *registry) apply(given registryRequest) {
	assign(&r.name, given.Name)
	assign(&r.description, given.Description)
	assign(&r.url, given.URL)
	assign(&r.insecure, given.Insecure)
	assign(&r.certificate, given.Certificate)
	if given.Credential != nil {
		r.credentialKind, r.key, r.secret = given.Credential.Type, given.Credential.Key, given.Credential.Secret
	}
	assign(&r.credentialKind, given.CredentialType)
	assign(&r.key, given.Key)
	assign(&r.secret, given.Secret)
	if r.credentialKind == "" {
		r.credentialKind = "basic"
	}
	if r.key == "" {
		r.secret = ""
	}
}

// checkRegistry tidies the address and connects to it: one that does not answer
// cannot be made, nor changed in any way.
func (s *Server) checkRegistry(r *registry) error {
	switch {
	case r.name == "":
		return badRequest("name cannot be empty")
	case len(r.name) > 64:
		return badRequest("the max length of name is 64")
	}
	address, err := tidied(r.url)
	if err != nil {
		return err
	}
	r.url = address
	if err := checkCertificates(r.certificate); err != nil {
		return err
	}
	return s.reach(r)
}

// checkCertificates wants at least one in PEM, where anything is given, and
// all of them good.
func checkCertificates(text string) error {
	found := false
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return badRequest("invalid CA certificate: failed to parse certificate: %v", err)
		}
		found = true
	}
	if !found && strings.TrimSpace(text) != "" {
		return badRequest("invalid CA certificate: no valid certificates found in PEM data")
	}
	return nil
}

func tidied(address string) (string, error) {
	address = strings.TrimRight(strings.Trim(address, " "), "/")
	if address == "" {
		return "", badRequest("empty string")
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return "", badRequest("invalid URL: %v", err)
	case u.Scheme != "http" && u.Scheme != "https":
		return "", badRequest("invalid HTTP scheme: %s", u.Scheme)
	}
	return u.Scheme + "://" + u.Host + u.Path, nil
}

// reach connects to a registry.
func (s *Server) reach(r *registry) error {
	if !slices.Contains(adapters(), r.kind) {
		return internal()
	}
	switch health := s.healthOf(r); {
	case health == Healthy:
		return nil
	case health == Unhealthy && r.kind != "docker-hub": // where Harbor has to log in before
		return badRequest("the registry is unhealthy")
	case health == Refusing:
		return refuse(http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	default:
		return internal()
	}
}

func (s *Server) createRegistry(c *call) (answer, error) {
	if err := c.inSystem("registry", "create"); err != nil {
		return answer{}, err
	}
	given, err := decode[registryRequest](c)
	if err != nil {
		return answer{}, err
	}
	r := &registry{}
	r.apply(s.drop(given))
	assign(&r.kind, given.Type)
	if err := s.checkRegistry(r); err != nil {
		return answer{}, err
	}
	r.id = s.next("registry")
	if s.registries.named(r.name) != nil {
		return answer{}, conflict("registry %s already exists", r.name)
	}
	r.created = s.now()
	r.until = r.created
	s.registries.put(r.id, r.name, r)
	return createdID(c, r.id)
}

// pathRegistry is the one that the path names; 0 is none here.
func (s *Server) pathRegistry(c *call, action string) (*registry, error) {
	id, err := c.id("id")
	if err != nil {
		return nil, err
	}
	if err := c.inSystem("registry", action); err != nil {
		return nil, err
	}
	r := s.registries.get(id)
	if r == nil {
		return nil, notFound("registry %d not found", id)
	}
	return r, nil
}

func (s *Server) showRegistry(c *call) (answer, error) {
	if c.vars["id"] == "0" {
		if err := c.inSystem("registry", "read"); err != nil {
			return answer{}, err
		}
		return shown(s.local())
	}
	r, err := s.pathRegistry(c, "read")
	if err != nil {
		return answer{}, err
	}
	return shown(s.showRegistryOf(r))
}

// updateRegistry changes nothing where the registry does not answer then. Since 2.16 a
// secret goes to no other address than the one that it was given for.
func (s *Server) updateRegistry(c *call) (answer, error) {
	r, err := s.pathRegistry(c, "update")
	if err != nil {
		return answer{}, err
	}
	given, err := decode[registryRequest](c)
	if err != nil {
		return answer{}, err
	}
	given.Credential = nil
	changed := *r
	changed.apply(s.drop(given))
	if address, err := tidied(changed.url); err == nil && address != r.url && given.Secret == nil && !s.before(16) {
		changed.secret = ""
	}
	if err := s.checkRegistry(&changed); err != nil {
		return answer{}, err
	}
	if other := s.registries.named(changed.name); other != nil && other != r {
		return answer{}, conflict("registry %s already exists", changed.name)
	}
	s.registries.rename(r.id, r.name, changed.name)
	changed.until = s.now()
	*r = changed
	return done()
}

func (s *Server) deleteRegistry(c *call) (answer, error) {
	id, err := c.id("id")
	if err != nil {
		return answer{}, err
	}
	if err := c.inSystem("registry", "delete"); err != nil {
		return answer{}, err
	}
	for _, p := range s.replications.all() {
		if p.from == id || p.to == id {
			return answer{}, precondition("the registry %d is referenced by replication policies, cannot delete it", id)
		}
	}
	for _, p := range s.projects.all() {
		if p.registry == id {
			return answer{}, precondition("the registry %d is referenced by proxy cache project, cannot delete it", id)
		}
	}
	r, err := s.pathRegistry(c, "delete")
	if err != nil {
		return answer{}, err
	}
	s.registries.remove(r.id, r.name)
	return done()
}

// pingRegistry tries one, made of what is kept and of what is given.
func (s *Server) pingRegistry(c *call) (answer, error) {
	if err := c.inSystem("registry", "read"); err != nil {
		return answer{}, err
	}
	given, err := decode[registryRequest](c)
	if err != nil {
		return answer{}, err
	}
	tried := registry{}
	if given.ID != nil {
		r := s.registries.get(*given.ID)
		if r == nil {
			return answer{}, notFound("registry %d not found", *given.ID)
		}
		tried = *r
	}
	tried.apply(given)
	assign(&tried.kind, given.Type)
	if tried.kind == "" || tried.url == "" {
		return answer{}, badRequest("type or url cannot be empty")
	}
	if tried.url, err = tidied(tried.url); err != nil {
		return answer{}, err
	}
	if err := s.reach(&tried); err != nil {
		return answer{}, err
	}
	return done()
}

// showRegistryInfo shows what replication with a registry can do.
func (s *Server) showRegistryInfo(c *call) (answer, error) {
	kind, triggers := "harbor", []string{"manual", "scheduled"}
	if c.vars["id"] == "0" {
		if err := c.inSystem("registry", "read"); err != nil {
			return answer{}, err
		}
		triggers = append(triggers, "event_based")
	} else {
		r, err := s.pathRegistry(c, "read")
		if err != nil {
			return answer{}, err
		}
		kind = r.kind
	}
	type filter struct {
		Style  string   `json:"style"`
		Type   string   `json:"type"`
		Values []string `json:"values"`
	}
	filters := []filter{{"input", "name", nil}, {"input", "tag", nil}}
	values := []string{"image"}
	if kind == "harbor" {
		filters = append(filters, filter{"list", "label", nil})
		values = append(values, "artifact")
	}
	return shown(struct {
		ByChunk  bool     `json:"supported_copy_by_chunk,omitempty"`
		Filters  []filter `json:"supported_resource_filters"`
		Triggers []string `json:"supported_triggers"`
		Type     string   `json:"type"`
	}{kind == "harbor", append(filters, filter{"radio", "resource", values}), triggers, kind})
}
