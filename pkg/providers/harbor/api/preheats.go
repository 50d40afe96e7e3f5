package api

import (
	"context"
	"encoding/json"
	"net/http"
)

// PreheatPolicy says which images of a project an instance fetches before they are
// asked for. Filters, trigger and extra attributes are JSON in texts, which Harbor
// mostly gives back as they came. An update replaces all of it, the name too.
type PreheatPolicy struct {
	ID          int64  `json:"id,omitempty"`
	Name        string `json:"name"`
	Description string `json:"description"`
	Instance    int64  `json:"provider_id"`
	// InstanceName is shown, and ignored where it is sent.
	InstanceName string `json:"provider_name,omitempty"`
	Filters      string `json:"filters"`
	Trigger      string `json:"trigger"`
	Enabled      bool   `json:"enabled"`
	Extra        string `json:"extra_attrs,omitempty"`
	Scope        string `json:"scope,omitempty"` // of Harbor 2.12 alone
}

// The types of what is in a [PreheatPolicy]'s filters.
const (
	PreheatRepository = "repository"
	PreheatTag        = "tag"
	PreheatLabel      = "label"
)

// PreheatFilter is an element of a [PreheatPolicy]'s filters.
type PreheatFilter struct {
	Type  string          `json:"type"`
	Value json.RawMessage `json:"value"`
}

func preheatPolicies(project string) string {
	return "/projects/" + escape(project) + "/preheat/policies"
}

// PreheatPolicies reads those of a project.
func (c *Client) PreheatPolicies(ctx context.Context, project string) ([]PreheatPolicy, error) {
	return list(ctx, c, call{method: http.MethodGet, path: preheatPolicies(project), doing: "reading preheat policies"}, func(p PreheatPolicy) int64 { return p.ID })
}

// CreatePreheatPolicy adds one. A name that the project has is a conflict.
func (c *Client) CreatePreheatPolicy(ctx context.Context, project string, p PreheatPolicy) error {
	p.ID = 0
	_, err := write(ctx, c, call{method: http.MethodPost, path: preheatPolicies(project), doing: "creating the preheat policy"}, p)
	return err
}

// UpdatePreheatPolicy replaces a policy, which has the name in the path. Harbor finds
// it by the number in the body.
func (c *Client) UpdatePreheatPolicy(ctx context.Context, project, name string, p PreheatPolicy) error {
	_, err := write(ctx, c, call{method: http.MethodPut, path: preheatPolicies(project) + "/" + escape(name), doing: "changing the preheat policy"}, p)
	return err
}

// DeletePreheatPolicy fails while the policy runs.
func (c *Client) DeletePreheatPolicy(ctx context.Context, project, name string) error {
	return c.delete(ctx, call{path: preheatPolicies(project) + "/" + escape(name), doing: "deleting the preheat policy", hint: "stop what runs of it, or try again when it has ended"})
}
