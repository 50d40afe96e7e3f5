package api

import (
	"context"
	"net/http"
)

// Remote is another registry, as Harbor knows it. The one with number 0 is Harbor
// itself.
type Remote struct {
	ID          int64      `json:"id,omitempty"`
	Name        string     `json:"name"`
	Type        string     `json:"type"`
	URL         string     `json:"url"`
	Description string     `json:"description,omitempty"`
	Insecure    bool       `json:"insecure"`
	CA          string     `json:"ca_certificate,omitempty"` // PEM
	Credential  Credential `json:"credential,omitzero"`
	Status      string     `json:"status,omitempty"` // when Harbor looked last; not written
}

// Unhealthy is the status of a registry that did not answer when Harbor looked last.
const Unhealthy = "unhealthy"

// Credential is a login at another registry. A secret reads as [Mask].
type Credential struct {
	Type   string `json:"type,omitempty"`
	Key    string `json:"access_key,omitempty"`
	Secret string `json:"access_secret,omitempty"`
}

// Mask is what Harbor shows of a secret. Sent back it is a wrong secret.
const Mask = "*****"

// tried is what Harbor does with other registries at each create and update.
const tried = "Harbor tries another registry whenever it is made or changed: see that it answers at its url from Harbor's host, that the type fits, and that the login is right"

// Remotes reads all other registries.
func (c *Client) Remotes(ctx context.Context) ([]Remote, error) {
	return list(ctx, c, call{method: http.MethodGet, path: "/registries", doing: "reading other registries", right: "registry:list"}, func(r Remote) int64 { return r.ID })
}

// RemoteTypes lists the types that this Harbor knows.
func (c *Client) RemoteTypes(ctx context.Context) ([]string, error) {
	var out []string
	_, err := do(ctx, c, call{method: http.MethodGet, path: "/replication/adapters", doing: "reading the types of registries", right: "replication-adapter:list"}, &out)
	return out, err
}

// TryRemote has Harbor reach for another registry, as a create would, and keeps
// nothing.
func (c *Client) TryRemote(ctx context.Context, r Remote) error {
	_, err := write(ctx, c, call{method: http.MethodPost, path: "/registries/ping", doing: "having Harbor try it", hint: tried, relays: true, tries: true}, struct {
		Type     string `json:"type"`
		URL      string `json:"url"`
		Login    string `json:"credential_type,omitempty"`
		Key      string `json:"access_key,omitempty"`
		Secret   string `json:"access_secret,omitempty"`
		Insecure bool   `json:"insecure"`
		CA       string `json:"ca_certificate,omitempty"`
	}{r.Type, r.URL, r.Credential.Type, r.Credential.Key, r.Credential.Secret, r.Insecure, r.CA})
	return err
}

// CreateRemote tries the registry and keeps it if it answers.
func (c *Client) CreateRemote(ctx context.Context, r Remote) error {
	_, err := write(ctx, c, call{method: http.MethodPost, path: "/registries", doing: "creating it", hint: tried, relays: true}, r)
	return err
}

// RemoteUpdate is what changes of another registry; nil is left as it is. Its type
// cannot be changed: Harbor ignores it.
type RemoteUpdate struct {
	Name        *string `json:"name,omitempty"`
	Description *string `json:"description,omitempty"`
	URL         *string `json:"url,omitempty"`
	Type        *string `json:"credential_type,omitempty"`
	Key         *string `json:"access_key,omitempty"`
	Secret      *string `json:"access_secret,omitempty"`
	Insecure    *bool   `json:"insecure,omitempty"`
	CA          *string `json:"ca_certificate,omitempty"`
}

// UpdateRemote tries the registry as it would be and keeps that if it answers.
func (c *Client) UpdateRemote(ctx context.Context, id int64, u RemoteUpdate) error {
	_, err := write(ctx, c, call{method: http.MethodPut, path: "/registries/" + number(id), doing: "changing it", hint: tried, relays: true}, u)
	return err
}

// DeleteRemote fails while a replication or a project uses it.
func (c *Client) DeleteRemote(ctx context.Context, id int64) error {
	return c.delete(ctx, call{path: "/registries/" + number(id), doing: "deleting it", hint: "delete the replications and the namespaces that use it first"})
}

// Replication is one of Harbor's rules to copy. An update replaces it whole.
type Replication struct {
	ID          int64              `json:"id,omitempty"`
	Name        string             `json:"name"`
	Description string             `json:"description"`
	From        *Remote            `json:"src_registry"`
	To          *Remote            `json:"dest_registry"`
	Namespace   string             `json:"dest_namespace"`
	Replace     *int               `json:"dest_namespace_replace_count,omitempty"`
	Trigger     ReplicationTrigger `json:"trigger"`
	Filters     []Filter           `json:"filters"`
	// Deletes is what counts; Harbor ignores replicate_deletion.
	Deletes  bool  `json:"deletion"`
	Override bool  `json:"override"`
	Enabled  bool  `json:"enabled"`
	Speed    int64 `json:"speed"` // KiB per second, 0 for no limit
	Chunks   *bool `json:"copy_by_chunk,omitempty"`
	Single   *bool `json:"single_active_replication,omitempty"`
}

// The triggers of replications.
const (
	TriggerManual    = "manual"
	TriggerScheduled = "scheduled"
	TriggerEvent     = "event_based"
)

// ReplicationTrigger starts a replication; a type of "" is manual.
type ReplicationTrigger struct {
	Type     string          `json:"type"`
	Settings TriggerSettings `json:"trigger_settings,omitzero"`
}

// TriggerSettings holds six cron fields.
type TriggerSettings struct {
	Cron string `json:"cron,omitempty"`
}

// Filter selects what is copied. Value is a text, of labels a list of texts.
type Filter struct {
	Type       string      `json:"type"` // name, tag, label, resource
	Value      FilterValue `json:"value"`
	Decoration string      `json:"decoration,omitempty"` // matches, excludes; "" is matches
}

// Replications reads all rules.
func (c *Client) Replications(ctx context.Context) ([]Replication, error) {
	return list(ctx, c, call{method: http.MethodGet, path: "/replication/policies", doing: "reading replications", right: "replication-policy:list"}, func(r Replication) int64 { return r.ID })
}

// referred names registries by their numbers alone: that is all Harbor looks at.
func (r Replication) referred() Replication {
	only := func(o *Remote) *Remote {
		if o == nil || o.ID == 0 { // Harbor itself
			return nil
		}
		return &Remote{ID: o.ID}
	}
	r.From, r.To = only(r.From), only(r.To)
	return r
}

// CreateReplication makes a rule.
func (c *Client) CreateReplication(ctx context.Context, r Replication) error {
	_, err := write(ctx, c, call{method: http.MethodPost, path: "/replication/policies", doing: "creating it"}, r.referred())
	return err
}

// UpdateReplication replaces a rule.
func (c *Client) UpdateReplication(ctx context.Context, r Replication) error {
	_, err := write(ctx, c, call{method: http.MethodPut, path: "/replication/policies/" + number(r.ID), doing: "changing it"}, r.referred())
	return err
}

// DeleteReplication deletes a rule.
func (c *Client) DeleteReplication(ctx context.Context, id int64) error {
	return c.delete(ctx, call{path: "/replication/policies/" + number(id), doing: "deleting it", hint: "wait until its runs have ended, or stop them"})
}
