package api

import (
	"context"
	"net/http"
	"net/url"
)

// User is an account of a person.
type User struct {
	ID       int64  `json:"user_id,omitempty"`
	Name     string `json:"username"`
	Email    string `json:"email"`
	RealName string `json:"realname"`
	Comment  string `json:"comment"`
	Admin    bool   `json:"sysadmin_flag,omitempty"`
}

// Mine lists what the first login, a user's, may do in a project: the project itself is
// resource "project", as for robots.
func (c *Client) Mine(ctx context.Context, project int64) ([]Access, error) {
	var list []Access
	r := call{
		method: http.MethodGet, path: "/users/current/permissions", doing: "reading what it may do",
		query: url.Values{"scope": {"/project/" + number(project)}, "relative": {"true"}},
	}
	_, err := do(ctx, c, r, &list)
	for i, a := range list {
		if a.Resource == "" || a.Resource == "." || a.Resource == "self" {
			list[i].Resource = "project"
		}
	}
	return list, err
}

// Users reads all but the first administrator, whom Harbor does not list.
func (c *Client) Users(ctx context.Context) ([]User, error) {
	return list(ctx, c, call{method: http.MethodGet, path: "/users", doing: "reading users", right: "user:list"}, func(u User) int64 { return u.ID })
}

// CreateUser returns the id.
func (c *Client) CreateUser(ctx context.Context, u User, password string) (int64, error) {
	header, err := write(ctx, c, call{method: http.MethodPost, path: "/users", doing: "creating the user"}, struct {
		User
		Password string `json:"password"`
	}{u, password})
	if err != nil {
		return 0, err
	}
	return located(header), nil
}

// UpdateUser replaces the profile, and nothing else.
func (c *Client) UpdateUser(ctx context.Context, id int64, u User) error {
	_, err := write(ctx, c, call{method: http.MethodPut, path: "/users/" + number(id), doing: "changing the user"}, struct {
		Email    string `json:"email"`
		RealName string `json:"realname"`
		Comment  string `json:"comment"`
	}{u.Email, u.RealName, u.Comment})
	return err
}

// SetAdmin makes a user an administrator, or no longer one.
func (c *Client) SetAdmin(ctx context.Context, id int64, admin bool) error {
	_, err := write(ctx, c, call{method: http.MethodPut, path: "/users/" + number(id) + "/sysadmin", doing: "setting the administrator's flag"}, struct {
		Admin bool `json:"sysadmin_flag"`
	}{admin})
	return err
}

// SetPassword sets a user's password. The one the user has is a 400 that says so,
// and here a success.
func (c *Client) SetPassword(ctx context.Context, id int64, password string) error {
	_, err := write(ctx, c, call{method: http.MethodPut, path: "/users/" + number(id) + "/password", doing: "setting the password"}, struct {
		New string `json:"new_password"`
	}{password})
	if Same(err) {
		return nil
	}
	return err
}

// DeleteUser deletes a user with all memberships.
func (c *Client) DeleteUser(ctx context.Context, id int64) error {
	return c.delete(ctx, call{path: "/users/" + number(id), doing: "deleting the user"})
}

// The types of groups.
const (
	GroupLDAP = 1
	GroupHTTP = 2
	GroupOIDC = 3
)

// Group is one of the accounts' own service, as far as Harbor knows it.
type Group struct {
	ID   int64  `json:"id,omitempty"`
	Name string `json:"group_name"`
	Type int    `json:"group_type"`
	DN   string `json:"ldap_group_dn,omitempty"`
}

// Groups reads all groups; with LDAP and with an authenticating proxy those of
// that type alone.
func (c *Client) Groups(ctx context.Context) ([]Group, error) {
	return list(ctx, c, call{method: http.MethodGet, path: "/usergroups", doing: "reading groups", right: "user-group:list"}, func(g Group) int64 { return g.ID })
}

const oneOfAName = "Harbor has one group of a name, whatever its type, and lists only those of its auth_mode; take another name, or delete the other group"

// CreateGroup returns the id.
func (c *Client) CreateGroup(ctx context.Context, g Group) (int64, error) {
	hint := oneOfAName
	if g.DN != "" {
		hint = "see that the directory at ldap_url answers Harbor, that the account of ldap_search_dn may search it, and that ldap_dn names a group in it; " + hint
	}
	header, err := write(ctx, c, call{method: http.MethodPost, path: "/usergroups", doing: "creating the group", hint: hint}, g)
	if err != nil {
		return 0, err
	}
	return located(header), nil
}

// RenameGroup gives a group another name, and changes nothing else of it.
func (c *Client) RenameGroup(ctx context.Context, g Group) error {
	_, err := write(ctx, c, call{method: http.MethodPut, path: "/usergroups/" + number(g.ID), doing: "renaming the group", hint: oneOfAName}, g)
	return err
}

// DeleteGroup deletes a group with all memberships.
func (c *Client) DeleteGroup(ctx context.Context, id int64) error {
	return c.delete(ctx, call{path: "/usergroups/" + number(id), doing: "deleting the group"})
}

// The roles of a project's members.
const (
	RoleAdmin        = 1
	RoleDeveloper    = 2
	RoleGuest        = 3
	RoleMaintainer   = 4
	RoleLimitedGuest = 5
)

// Member is a user or a group in a project.
type Member struct {
	ID     int64  `json:"id"`
	Of     int64  `json:"entity_id"` // user or group
	Name   string `json:"entity_name"`
	Type   string `json:"entity_type"` // u or g
	RoleID int    `json:"role_id"`
}

// Members reads a project's.
func (c *Client) Members(ctx context.Context, project string) ([]Member, error) {
	return list(ctx, c, call{method: http.MethodGet, path: "/projects/" + escape(project) + "/members", doing: "reading members"}, func(m Member) int64 { return m.ID })
}

// AddMember gives a user, or a group that is known by its id, a role.
func (c *Client) AddMember(ctx context.Context, project string, role int, user string, group int64) error {
	type member struct {
		Name string `json:"username"`
	}
	type members struct {
		ID int64 `json:"id"`
	}
	in := struct {
		Role  int      `json:"role_id"`
		User  *member  `json:"member_user,omitempty"`
		Group *members `json:"member_group,omitempty"`
	}{Role: role}
	if group != 0 {
		in.Group = &members{group}
	} else {
		in.User = &member{user}
	}
	_, err := write(ctx, c, call{method: http.MethodPost, path: "/projects/" + escape(project) + "/members", doing: "adding " + user}, in)
	return err
}

// SetRole changes the role of a member. Harbor takes a role that it does not have
// too, and the member is lost.
func (c *Client) SetRole(ctx context.Context, project string, member int64, role int) error {
	_, err := write(ctx, c, call{method: http.MethodPut, path: "/projects/" + escape(project) + "/members/" + number(member), doing: "changing a member's role"}, struct {
		Role int `json:"role_id"`
	}{role})
	return err
}

// DeleteMember takes a member out of a project.
func (c *Client) DeleteMember(ctx context.Context, project string, member int64) error {
	return c.delete(ctx, call{path: "/projects/" + escape(project) + "/members/" + number(member), doing: "taking a member out"})
}
