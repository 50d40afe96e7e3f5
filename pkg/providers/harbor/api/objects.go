package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Setting is one of Harbor's configuration.
type Setting struct {
	Value    json.RawMessage `json:"value"`
	Editable bool            `json:"editable"`
}

// Settings reads the whole configuration.
func (c *Client) Settings(ctx context.Context) (map[string]Setting, error) {
	var out map[string]Setting
	_, err := do(ctx, c, call{as: Admin, method: http.MethodGet, path: "/configurations", doing: "reading settings"}, &out)
	return out, err
}

// Set writes some settings, and leaves the others.
func (c *Client) Set(ctx context.Context, values map[string]json.RawMessage) error {
	_, err := write(ctx, c, call{as: Admin, method: http.MethodPut, path: "/configurations", doing: "writing settings"}, values)
	return err
}

// Project is a namespace of Harbor's.
type Project struct {
	ID       int64             `json:"project_id"`
	Name     string            `json:"name"`
	Metadata map[string]string `json:"metadata"`
	Remote   int64             `json:"registry_id"` // of a proxy; 0 for none
	Allow    struct {
		Items   []CVE  `json:"items"`
		Expires *int64 `json:"expires_at"` // seconds of Unix time; nil for never
	} `json:"cve_allowlist"`
	Repositories int   `json:"repo_count"`
	Roles        []int `json:"current_user_role_ids"` // a user's, who is logged in
}

// CVE is one that does not block.
type CVE struct {
	ID string `json:"cve_id"`
}

// Projects reads all projects that the login may see.
func (c *Client) Projects(ctx context.Context) ([]Project, error) {
	return list(ctx, c, call{method: http.MethodGet, path: "/projects", doing: "reading projects"}, func(p Project) int64 { return p.ID })
}

// HasProject reports whether there is a project, which Harbor tells everybody who
// is logged in; of one that is not there others are told that they may not see it.
func (c *Client) HasProject(ctx context.Context, name string) (bool, error) {
	_, _, err := c.send(ctx, call{method: http.MethodHead, path: "/projects", query: url.Values{"project_name": {name}}, doing: "looking for the project"})
	if Is(err, http.StatusNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Public reports whether a project is there for everybody to see. It asks for what
// everybody may ask, so that the answer counts for whoever asks.
func (c *Client) Public(ctx context.Context, name string) (bool, error) {
	list, err := list(ctx, c, call{
		method: http.MethodGet, path: "/projects", query: url.Values{"public": {"true"}, "name": {name}}, doing: "looking whether the project is public",
	}, func(p Project) int64 { return p.ID })
	return slices.ContainsFunc(list, func(p Project) bool { return p.Name == name && p.Metadata["public"] == "true" }), err
}

// NewProject says what a project begins with.
type NewProject struct {
	Name     string            `json:"project_name"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Remote   *int64            `json:"registry_id,omitempty"`
	// Storage is its quota in bytes, -1 for none; 0 is the registry's default.
	Storage int64 `json:"storage_limit,omitempty"`
}

// CreateProject returns its id.
func (c *Client) CreateProject(ctx context.Context, p NewProject) (int64, error) {
	header, err := write(ctx, c, call{method: http.MethodPost, path: "/projects", doing: "creating the project"}, p)
	if err != nil {
		return 0, err
	}
	return located(header), nil
}

// located is the number at the end of a Location, 0 where there is none.
func located(header http.Header) int64 {
	at := header.Get("Location")
	n, err := strconv.ParseInt(at[strings.LastIndexByte(at, '/')+1:], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// ProjectUpdate is what of a project can be changed: metadata by key, and the
// whole list of allowed CVEs. Harbor takes anything for metadata, and checks
// nothing.
type ProjectUpdate struct {
	Metadata map[string]string `json:"metadata,omitempty"`
	Allow    *Allowlist        `json:"cve_allowlist,omitempty"`
}

// Allowlist are the CVEs that do not block, until a time for all of them.
type Allowlist struct {
	Items   []CVE  `json:"items"`
	Expires *int64 `json:"expires_at,omitempty"`
}

// UpdateProject changes what the update says and leaves the rest.
func (c *Client) UpdateProject(ctx context.Context, name string, u ProjectUpdate) error {
	_, err := write(ctx, c, call{method: http.MethodPut, path: "/projects/" + escape(name), doing: "changing the project"}, u)
	return err
}

// DeleteProject deletes an empty project. One that is not there is none.
func (c *Client) DeleteProject(ctx context.Context, name string) error {
	return c.delete(ctx, call{path: "/projects/" + escape(name), doing: "deleting the project", hint: "see whether somebody pushes to it all the time: Harbor deletes none that holds repositories"})
}

// delete takes what is not there for deleted.
func (c *Client) delete(ctx context.Context, r call) error {
	r.method = http.MethodDelete
	_, _, err := c.send(ctx, r)
	if Is(err, http.StatusNotFound) {
		return nil
	}
	return err
}

// Quota is that of a project.
type Quota struct {
	ID  int64 `json:"id"`
	Ref struct {
		ID   int64  `json:"id"`
		Name string `json:"name"`
	} `json:"ref"`
	Hard struct {
		Storage int64 `json:"storage"` // bytes, -1 for none
	} `json:"hard"`
	Used struct {
		Storage int64 `json:"storage"`
	} `json:"used"`
}

// Quotas reads those of all projects.
func (c *Client) Quotas(ctx context.Context) ([]Quota, error) {
	return list(ctx, c, call{
		method: http.MethodGet, path: "/quotas", query: url.Values{"reference": {"project"}}, doing: "reading quotas", right: "quota:list",
	}, func(q Quota) int64 { return q.ID })
}

// SetQuota limits a project to so many bytes, -1 for no limit.
func (c *Client) SetQuota(ctx context.Context, id, limit int64) error {
	type hard struct {
		Storage int64 `json:"storage"`
	}
	_, err := write(ctx, c, call{method: http.MethodPut, path: "/quotas/" + number(id), doing: "setting the quota"}, struct {
		Hard hard `json:"hard"`
	}{hard{limit}})
	return err
}

func number(id int64) string { return strconv.FormatInt(id, 10) }
