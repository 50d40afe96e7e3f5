package api

import (
	"context"
	"net/http"
	"net/url"
)

// Scanner is a registered vulnerability scanner. An update replaces all of it but
// the credential, which an empty one keeps. Harbor before 2.14.4, and 2.15.0, shows the
// credential and replaces it as well.
type Scanner struct {
	UUID        string `json:"uuid,omitempty"`
	Name        string `json:"name"`
	URL         string `json:"url"`
	Description string `json:"description"`
	Auth        string `json:"auth"` // "", Basic, Bearer, APIKey; not what its description says
	Credential  string `json:"access_credential"`
	Insecure    bool   `json:"skip_certVerify"`
	Internal    bool   `json:"use_internal_addr"`
	Disabled    bool   `json:"disabled"`
	Default     bool   `json:"is_default,omitempty"` // not written
}

// asked is what Harbor does with a scanner that is made.
const asked = "Harbor asks a scanner's adapter when it is made or changed: see that it answers at its url from Harbor's host, with this auth and credential"

// Scanners reads all registrations.
func (c *Client) Scanners(ctx context.Context) ([]Scanner, error) {
	return list(ctx, c, call{method: http.MethodGet, path: "/scanners", doing: "reading scanners", right: "scanner:list"}, func(s Scanner) string { return s.UUID })
}

// CreateScanner registers one. The first is the default by itself.
func (c *Client) CreateScanner(ctx context.Context, s Scanner) error {
	s.UUID, s.Default = "", false
	_, err := write(ctx, c, call{method: http.MethodPost, path: "/scanners", doing: "registering it", hint: asked}, s)
	return err
}

// UpdateScanner replaces a registration.
func (c *Client) UpdateScanner(ctx context.Context, s Scanner) error {
	id := s.UUID
	s.UUID, s.Default = "", false
	_, err := write(ctx, c, call{method: http.MethodPut, path: "/scanners/" + url.PathEscape(id), doing: "changing it", hint: asked}, s)
	return err
}

// DeleteScanner takes a registration away. Of the default one none takes the place.
func (c *Client) DeleteScanner(ctx context.Context, id string) error {
	return c.delete(ctx, call{path: "/scanners/" + url.PathEscape(id), doing: "deleting it"})
}

// SetDefaultScanner makes one the default; it cannot be unmade.
func (c *Client) SetDefaultScanner(ctx context.Context, id string) error {
	_, err := write(ctx, c, call{method: http.MethodPatch, path: "/scanners/" + url.PathEscape(id), doing: "setting the default scanner"}, struct {
		Default bool `json:"is_default"`
	}{true})
	return err
}

// projectScanner is where Harbor keeps which scanner a project has been given.
const projectScanner = "projectScanner"

// ProjectScanner is the id of the scanner that a project has been given, "" for
// none: the project itself and its /scanner show the default one then.
func (c *Client) ProjectScanner(ctx context.Context, project string) (string, error) {
	var out map[string]string
	_, err := do(ctx, c, call{method: http.MethodGet, path: "/projects/" + escape(project) + "/metadatas/", doing: "reading the project's scanner"}, &out)
	return out[projectScanner], err
}

// SetProjectScanner gives a project a scanner, or with "" none of its own.
func (c *Client) SetProjectScanner(ctx context.Context, project, id string) error {
	if id == "" {
		return c.delete(ctx, call{path: "/projects/" + escape(project) + "/metadatas/" + projectScanner, doing: "taking the project's scanner back"})
	}
	_, err := write(ctx, c, call{method: http.MethodPut, path: "/projects/" + escape(project) + "/scanner", doing: "setting the project's scanner"}, struct {
		UUID string `json:"uuid"`
	}{id})
	return err
}

// SystemAllowlist reads the CVEs that block in no project that has no list of its own.
func (c *Client) SystemAllowlist(ctx context.Context) (Allowlist, error) {
	var out Allowlist
	_, err := do(ctx, c, call{method: http.MethodGet, path: "/system/CVEAllowlist", doing: "reading the allowed vulnerabilities"}, &out)
	return out, err
}

// SetSystemAllowlist replaces it. Harbor answers 500 to a CVE that stands twice.
func (c *Client) SetSystemAllowlist(ctx context.Context, l Allowlist) error {
	_, err := write(ctx, c, call{as: Admin, method: http.MethodPut, path: "/system/CVEAllowlist", doing: "setting the allowed vulnerabilities"}, l)
	return err
}
