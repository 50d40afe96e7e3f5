package api

import (
	"context"
	"net/http"
)

// The types and formats of a [Target].
const (
	TargetHTTP        = "http"
	TargetSlack       = "slack"
	FormatDefault     = "Default"
	FormatCloudEvents = "CloudEvents"
)

// Target is where a webhook posts.
type Target struct {
	Type    string `json:"type"`
	Address string `json:"address"`
	// Auth is the value of the Authorization header, which Harbor gives back.
	Auth     string `json:"auth_header,omitempty"`
	Insecure bool   `json:"skip_cert_verify"`
	Format   string `json:"payload_format,omitempty"` // of http alone
}

// Webhook is a project's policy for its events.
type Webhook struct {
	ID          int64    `json:"id,omitempty"`
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Enabled     bool     `json:"enabled"`
	Events      []string `json:"event_types"`
	Targets     []Target `json:"targets"`
}

func webhooks(project string) string { return "/projects/" + escape(project) + "/webhook/policies" }

// Webhooks reads a project's.
func (c *Client) Webhooks(ctx context.Context, project string) ([]Webhook, error) {
	return list(ctx, c, call{method: http.MethodGet, path: webhooks(project), doing: "reading webhooks"}, func(w Webhook) int64 { return w.ID })
}

// CreateWebhook adds one. A name that the project has is a conflict.
func (c *Client) CreateWebhook(ctx context.Context, project string, w Webhook) error {
	_, err := write(ctx, c, call{method: http.MethodPost, path: webhooks(project), doing: "creating the webhook"}, w)
	return err
}

// UpdateWebhook replaces all of a webhook.
func (c *Client) UpdateWebhook(ctx context.Context, project string, w Webhook) error {
	_, err := write(ctx, c, call{method: http.MethodPut, path: webhooks(project) + "/" + number(w.ID), doing: "changing the webhook"}, w)
	return err
}

// DeleteWebhook deletes one.
func (c *Client) DeleteWebhook(ctx context.Context, project string, id int64) error {
	return c.delete(ctx, call{path: webhooks(project) + "/" + number(id), doing: "deleting the webhook"})
}
