package api

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// The levels of robots, and the kinds of [Permission].
const (
	LevelSystem  = "system"
	LevelProject = "project"
)

// The namespaces of permissions that are no project's name.
const (
	OfSystem    = "/"
	AllProjects = "*"
)

// Access is one thing that may be done.
type Access struct {
	Resource string `json:"resource"`
	Action   string `json:"action"`
	Effect   string `json:"effect,omitempty"` // [Allow] or "deny"; "" is as good as [Allow]
}

// Allow is the effect of an [Access] that is no denial.
const Allow = "allow"

// Permission is what a robot may do in one place.
type Permission struct {
	Kind      string   `json:"kind"`
	Namespace string   `json:"namespace"`
	Access    []Access `json:"access"`
}

// Robot is an account of a machine. Its name stands there as it logs in: with
// Harbor's prefix, and a project's with that before it.
type Robot struct {
	ID          int64        `json:"id,omitempty"`
	Name        string       `json:"name"`
	Description string       `json:"description"`
	Level       string       `json:"level"`
	Duration    int64        `json:"duration"` // days from its creation, -1 for ever
	Disabled    bool         `json:"disable"`
	Permissions []Permission `json:"permissions"`
	Expires     int64        `json:"expires_at,omitempty"` // seconds of Unix time, -1 for never
	Created     time.Time    `json:"creation_time,omitzero"`
	Updated     time.Time    `json:"update_time,omitzero"` // a new secret counts
}

// sent leaves out what Harbor reckons itself. Permissions go in one order: Harbor locks
// each in the order in which it gets them, and of two robots written at once with two in
// different orders its database refuses one.
func (r Robot) sent() Robot {
	r.Expires, r.Created, r.Updated = 0, time.Time{}, time.Time{}
	r.Permissions = slices.Clone(r.Permissions)
	slices.SortStableFunc(r.Permissions, func(a, b Permission) int { return strings.Compare(a.Namespace, b.Namespace) })
	for i, p := range r.Permissions {
		r.Permissions[i].Access = slices.Clone(p.Access)
		slices.SortStableFunc(r.Permissions[i].Access, func(a, b Access) int {
			return cmp.Or(strings.Compare(a.Resource, b.Resource), strings.Compare(a.Action, b.Action))
		})
	}
	return r
}

// Robots reads those of the system, or, with a project's id, that project's: no
// list holds both. With a name, as Harbor keeps it, it reads that one.
func (c *Client) Robots(ctx context.Context, project int64, name string) ([]Robot, error) {
	var q []string
	if project != 0 {
		q = append(q, "Level=project", "ProjectID="+number(project))
	}
	if name != "" {
		q = append(q, "name="+url.QueryEscape(name)) // it is decoded twice
	}
	r := call{method: http.MethodGet, path: "/robots", doing: "reading robots"}
	if project == 0 {
		r.right = "robot:list"
	}
	if len(q) > 0 {
		r.query = url.Values{"q": {strings.Join(q, ",")}}
	}
	return list(ctx, c, r, func(r Robot) int64 { return r.ID })
}

// CreateRobot makes one and returns it as it logs in, with the secret that Harbor
// made. The name is the short one; that it is disabled is not taken. When it was made is
// by Harbor's clock.
func (c *Client) CreateRobot(ctx context.Context, r Robot) (made Robot, secret string, err error) {
	in, err := encode(r.sent())
	if err != nil {
		return Robot{}, "", c.fail("creating the robot", err, "")
	}
	var out struct {
		ID      int64     `json:"id"`
		Name    string    `json:"name"`
		Secret  string    `json:"secret"`
		Created time.Time `json:"creation_time"`
	}
	if _, err := do(ctx, c, call{method: http.MethodPost, path: "/robots", in: in, doing: "creating the robot"}, &out); err != nil {
		return Robot{}, "", err
	}
	r.ID, r.Name, r.Created = out.ID, out.Name, out.Created
	return r, out.Secret, nil
}

// changing is the login that may change a robot once it is there: Harbor has no
// right for a robot to change one of the system.
func (r Robot) changing() As {
	if r.Level == LevelSystem {
		return Admin
	}
	return Main
}

// UpdateRobot replaces all of a robot but its name, its level and its secret. Each right
// goes with an effect: to one without, Harbor gives that of the former right at the same
// place of the list, and so a denial to whatever comes to stand there.
func (c *Client) UpdateRobot(ctx context.Context, r Robot) error {
	in := r.sent()
	for _, p := range in.Permissions {
		for i := range p.Access {
			p.Access[i].Effect = cmp.Or(p.Access[i].Effect, Allow)
		}
	}
	_, err := write(ctx, c, call{as: r.changing(), method: http.MethodPut, path: "/robots/" + number(r.ID), doing: "changing the robot"}, in)
	return err
}

// SetSecret gives a robot a secret; "" has Harbor make one. It is returned with the
// second of the answer, zero where that says none.
func (c *Client) SetSecret(ctx context.Context, r Robot, secret string) (set string, at time.Time, err error) {
	in, err := encode(struct {
		Secret string `json:"secret,omitempty"`
	}{secret})
	if err != nil {
		return "", time.Time{}, c.fail("setting the secret", err, "")
	}
	var out struct {
		Secret string `json:"secret"`
	}
	header, err := do(ctx, c, call{as: r.changing(), method: http.MethodPatch, path: "/robots/" + number(r.ID), in: in, doing: "setting the secret"}, &out)
	if err != nil {
		return "", time.Time{}, err
	}
	at, err = http.ParseTime(header.Get("Date"))
	if err != nil {
		at = time.Time{}
	}
	return cmp.Or(secret, out.Secret), at, nil
}

// DeleteRobot deletes one.
func (c *Client) DeleteRobot(ctx context.Context, id int64) error {
	return c.delete(ctx, call{path: "/robots/" + number(id), doing: "deleting the robot"})
}

// Catalogue lists what this Harbor lets robots do.
type Catalogue struct {
	Project []Access `json:"project"`
	System  []Access `json:"system"`
}

// Catalogue reads it. Harbor shows it to no robot.
func (c *Client) Catalogue(ctx context.Context) (Catalogue, error) {
	var out Catalogue
	_, err := do(ctx, c, call{as: Admin, method: http.MethodGet, path: "/permissions", doing: "reading what robots may do"}, &out)
	return out, err
}

// Accepts reports whether Harbor takes a name with a secret, by a login at /v2/
// that changes nothing. It takes no account that is disabled, or has expired.
func (c *Client) Accepts(ctx context.Context, name, secret string) (bool, error) {
	const doing = "trying the secret"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/v2/", nil)
	if err != nil {
		return false, c.fail(doing, err, "")
	}
	req.SetBasicAuth(name, secret)
	status, _, _, err := c.outside(req)
	if err != nil {
		return false, c.connection(doing, err)
	}
	switch status {
	case http.StatusOK:
		return true, nil
	case http.StatusUnauthorized:
		return false, nil
	}
	return false, c.fail(doing, fmt.Errorf("/v2/ answers %d", status), "try again later")
}
