package api

import (
	"context"
	"net/http"
	"net/url"
)

// Label is a mark for artifacts, of the registry or of a project. An update
// replaces name, colour and description; the scope stays.
type Label struct {
	ID          int64  `json:"id,omitempty"`
	Name        string `json:"name"`
	Description string `json:"description"`
	Color       string `json:"color"`
	Scope       string `json:"scope,omitempty"`      // g or p
	Project     int64  `json:"project_id,omitempty"` // of scope p
}

// Labels reads those of the registry (project 0), or of a project by its number.
func (c *Client) Labels(ctx context.Context, project int64) ([]Label, error) {
	q := url.Values{"scope": {"g"}}
	if project != 0 {
		q = url.Values{"scope": {"p"}, "project_id": {number(project)}}
	}
	return list(ctx, c, call{method: http.MethodGet, path: "/labels", query: q, doing: "reading labels"}, func(l Label) int64 { return l.ID })
}

// CreateLabel makes a label of the registry, or of the project it names.
func (c *Client) CreateLabel(ctx context.Context, l Label) error {
	l.Scope = "g"
	if l.Project != 0 {
		l.Scope = "p"
	}
	_, err := write(ctx, c, call{method: http.MethodPost, path: "/labels", doing: "creating it"}, l)
	return err
}

// UpdateLabel replaces what can be changed of a label.
func (c *Client) UpdateLabel(ctx context.Context, l Label) error {
	id := l.ID
	l.ID = 0
	_, err := write(ctx, c, call{method: http.MethodPut, path: "/labels/" + number(id), doing: "changing it"}, l)
	return err
}

// DeleteLabel takes a label from everything that has it.
func (c *Client) DeleteLabel(ctx context.Context, id int64) error {
	return c.delete(ctx, call{path: "/labels/" + number(id), doing: "deleting it"})
}

// Preheat is an instance of a peer-to-peer distribution. An update replaces all of
// it but the login, which none keeps. Harbor before 2.14.4, and 2.15.0, shows the login
// and replaces it as well.
type Preheat struct {
	ID          int64             `json:"id,omitempty"`
	Name        string            `json:"name"`
	Vendor      string            `json:"vendor"`
	Endpoint    string            `json:"endpoint"`
	Description string            `json:"description"`
	Auth        string            `json:"auth_mode"` // NONE, BASIC, OAUTH
	Login       map[string]string `json:"auth_info,omitempty"`
	Default     bool              `json:"default"`
	Enabled     bool              `json:"enabled"`
	Insecure    bool              `json:"insecure"`
}

const preheats = "/p2p/preheat/instances"

// Preheats reads all instances.
func (c *Client) Preheats(ctx context.Context) ([]Preheat, error) {
	return list(ctx, c, call{method: http.MethodGet, path: preheats, doing: "reading preheat instances", right: "preheat-instance:list"}, func(p Preheat) int64 { return p.ID })
}

// CreatePreheat makes an instance.
func (c *Client) CreatePreheat(ctx context.Context, p Preheat) error {
	p.ID = 0
	_, err := write(ctx, c, call{method: http.MethodPost, path: preheats, doing: "creating it"}, p)
	return err
}

// UpdatePreheat replaces an instance. Harbor finds it by the number in the body,
// whatever name the path has.
func (c *Client) UpdatePreheat(ctx context.Context, p Preheat) error {
	_, err := write(ctx, c, call{method: http.MethodPut, path: preheats + "/" + escape(p.Name), doing: "changing it"}, p)
	return err
}

// DeletePreheat fails while a project's policy uses the instance.
func (c *Client) DeletePreheat(ctx context.Context, name string) error {
	return c.delete(ctx, call{path: preheats + "/" + escape(name), doing: "deleting it", hint: "delete the projects' preheat policies that use it first"})
}
