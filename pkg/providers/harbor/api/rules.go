package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
)

// The decorations of a [Selector].
const (
	TagMatches         = "matches"
	TagExcludes        = "excludes"
	RepositoryMatches  = "repoMatches"
	RepositoryExcludes = "repoExcludes"
)

// Selector chooses tags or repositories by a glob.
type Selector struct {
	Kind       string `json:"kind"`
	Decoration string `json:"decoration"`
	Pattern    string `json:"pattern"`
	// Extras is JSON in a text: {"untagged":true} has a rule speak of what has
	// no tag as well.
	Extras string `json:"extras,omitempty"`
}

// Rule is one of a retention policy or of immutable tags.
type Rule struct {
	ID       int64                      `json:"id,omitempty"`
	Priority int                        `json:"priority,omitempty"`
	Disabled bool                       `json:"disabled"`
	Action   string                     `json:"action"`
	Template string                     `json:"template"`
	Params   map[string]json.RawMessage `json:"params"`
	Tags     []Selector                 `json:"tag_selectors"`
	Scope    map[string][]Selector      `json:"scope_selectors"`
}

// The templates of retention rules. The parameter of each has its name.
const (
	NewestPushed = "latestPushedK"
	NewestPulled = "latestPulledN"
	DaysPushed   = "nDaysSinceLastPush"
	DaysPulled   = "nDaysSinceLastPull"
	Always       = "always"
)

// Retention is a project's policy. All of it is sent: without a trigger Harbor
// answers 500 and says nothing. When it runs next is not sent back.
type Retention struct {
	ID        int64  `json:"id,omitempty"`
	Algorithm string `json:"algorithm"`
	Rules     []Rule `json:"rules"`
	Trigger   struct {
		Kind     string `json:"kind"`
		Settings struct {
			Cron string `json:"cron"` // "" for by hand
		} `json:"settings"`
	} `json:"trigger"`
	Scope struct {
		Level string `json:"level"`
		Ref   int64  `json:"ref"` // the project's id
	} `json:"scope"`
}

// Retention reads a policy, whose id is in its project's metadata: there is no
// list. A policy that is not there is a 500.
func (c *Client) Retention(ctx context.Context, id int64) (Retention, error) {
	var out Retention
	_, err := do(ctx, c, call{method: http.MethodGet, path: "/retentions/" + number(id), doing: "reading the retention policy"}, &out)
	return out, err
}

// CreateRetention gives a project its policy. A project that has one is a 400.
func (c *Client) CreateRetention(ctx context.Context, r Retention) error {
	_, err := write(ctx, c, call{method: http.MethodPost, path: "/retentions", doing: "creating the retention policy"}, r)
	return err
}

// UpdateRetention replaces a policy.
func (c *Client) UpdateRetention(ctx context.Context, r Retention) error {
	_, err := write(ctx, c, call{method: http.MethodPut, path: "/retentions/" + number(r.ID), doing: "changing the retention policy"}, r)
	return err
}

// gone is what Harbor says of a policy that is not there, with a 400.
const gone = "no such Retention policy"

// LacksRetention reports whether a policy is surely not there: reading it is a 500 then,
// as where something failed.
func (c *Client) LacksRetention(ctx context.Context, id int64) bool {
	_, err := do(ctx, c, call{method: http.MethodGet, path: "/retentions/" + number(id) + "/executions", query: url.Values{"page_size": {"1"}}, doing: "looking for the retention policy"}, new([]struct{}))
	return Is(err, http.StatusBadRequest) && strings.Contains(Said(err), gone)
}

// DeleteRetention takes the policy from its project, with its schedule. Harbor before
// 2.14 leaves the project pointing to it, and takes no other for it then.
func (c *Client) DeleteRetention(ctx context.Context, project string, id int64) error {
	err := c.delete(ctx, call{path: "/retentions/" + number(id), doing: "deleting the retention policy"})
	lost := Is(err, http.StatusBadRequest) && strings.Contains(Said(err), gone)
	if err != nil && !lost || !lost && !c.Before(2, 14) {
		return err
	}
	return c.ForgetRetention(ctx, project)
}

// ForgetRetention has a project point to no policy. One that is there would go on.
func (c *Client) ForgetRetention(ctx context.Context, project string) error {
	return c.delete(ctx, call{path: "/projects/" + escape(project) + "/metadatas/retention_id", doing: "having the project forget the retention policy that is gone"})
}

func immutables(project string) string {
	return "/projects/" + escape(project) + "/immutabletagrules"
}

// Immutables reads a project's rules of immutable tags.
func (c *Client) Immutables(ctx context.Context, project string) ([]Rule, error) {
	return list(ctx, c, call{method: http.MethodGet, path: immutables(project), doing: "reading immutable tag rules"}, func(r Rule) int64 { return r.ID })
}

// CreateImmutable adds a rule, which is on whatever it says, and returns its id. One
// that is there already is a conflict.
func (c *Client) CreateImmutable(ctx context.Context, project string, r Rule) (int64, error) {
	header, err := write(ctx, c, call{method: http.MethodPost, path: immutables(project), doing: "adding an immutable tag rule"}, r)
	if err != nil {
		return 0, err
	}
	return located(header), nil
}

// UpdateImmutable replaces a rule. One that switches it on or off changes nothing
// else of it.
func (c *Client) UpdateImmutable(ctx context.Context, project string, r Rule) error {
	_, err := write(ctx, c, call{method: http.MethodPut, path: immutables(project) + "/" + number(r.ID), doing: "changing an immutable tag rule"}, r)
	return err
}

// DeleteImmutable deletes a rule.
func (c *Client) DeleteImmutable(ctx context.Context, project string, id int64) error {
	return c.delete(ctx, call{path: immutables(project) + "/" + number(id), doing: "deleting an immutable tag rule"})
}
