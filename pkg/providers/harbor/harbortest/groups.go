package harbortest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// group is one of LDAP, of an authenticating proxy, or of OIDC: 1, 2 or 3.
type group struct {
	id   int64
	name string
	kind int64
	dn   string
}

// key is what no two groups share.
func (g *group) key() string {
	if g.kind == 1 {
		return "1 " + g.dn
	}
	return fmt.Sprintf("%d %s", g.kind, g.name)
}

func (s *Server) userGroups() routes {
	return routes{
		"GET /usergroups":               s.listGroups,
		"POST /usergroups":              s.createGroup,
		"GET /usergroups/search":        s.searchGroups,
		"GET /usergroups/{group_id}":    s.showGroup,
		"PUT /usergroups/{group_id}":    s.updateGroup,
		"DELETE /usergroups/{group_id}": s.deleteGroup,
	}
}

type groupRequest struct {
	ID   int64  `json:"id"`
	Name string `json:"group_name"`
	Kind int64  `json:"group_type"`
	DN   string `json:"ldap_group_dn"`
}

type shownGroup struct {
	Name string `json:"group_name"`
	Kind int64  `json:"group_type"`
	ID   int64  `json:"id,omitempty"`
	DN   string `json:"ldap_group_dn,omitempty"`
}

func (g *group) show() shownGroup { return shownGroup{g.name, g.kind, g.id, g.dn} }

func (s *Server) listGroups(c *call) (answer, error) {
	if err := c.inSystem("user-group", "list"); err != nil {
		return answer{}, err
	}
	only := map[string]int64{"ldap_auth": 1, "http_auth": 2}[s.setting("auth_mode")]
	dn := c.query.Get("ldap_group_dn")
	rows := slices.DeleteFunc(s.groupsLike(c.query.Get("group_name")), func(g *group) bool {
		return only != 0 && g.kind != only || only == 1 && dn != "" && g.dn != dn
	})
	return paged(c, rows, len(rows), (*group).show)
}

func (s *Server) groupsLike(part string) []*group {
	part = strings.ToLower(part)
	return slices.DeleteFunc(s.groups.all(), func(g *group) bool { return !strings.Contains(strings.ToLower(g.name), part) })
}

func (s *Server) searchGroups(c *call) (answer, error) {
	if err := c.loggedIn(); err != nil {
		return answer{}, err
	}
	part := c.query.Get("groupname")
	if part == "" {
		return answer{}, badRequest("need to provide groupname to search user group")
	}
	rows := s.groupsLike(part)
	return paged(c, rows, len(rows), func(g *group) shownGroup { return shownGroup{Name: g.name, Kind: g.kind, ID: g.id} })
}

func (s *Server) createGroup(c *call) (answer, error) {
	if err := c.inSystem("user-group", "create"); err != nil {
		return answer{}, err
	}
	given, err := decode[groupRequest](c)
	if err != nil {
		return answer{}, err
	}
	if given.Name == "" {
		return answer{}, &refusal{status: http.StatusBadRequest}
	}
	g := &group{name: given.Name, kind: given.Kind, dn: given.DN}
	switch {
	case g.kind == 1 && !s.inLDAP():
		return answer{}, badRequest("LDAP Group DN is not found: DN:%s", g.dn)
	case s.groups.named(g.key()) != nil:
		return answer{}, conflict("duplicate user group, group name:%s, group type: %d, ldap group DN: %s", g.name, g.kind, g.dn)
	case slices.ContainsFunc(s.groups.all(), func(other *group) bool { return other.name == g.name }): // of another type
		return answer{}, internal()
	}
	return createdID(c, s.addGroup(g).id)
}

// inLDAP says whether there is an LDAP server, which then knows everybody.
func (s *Server) inLDAP() bool {
	at := s.setting("ldap_url")
	return at != "" && s.options.Remotes(Remote{Kind: "ldap", URL: at}) == Healthy
}

func (s *Server) addGroup(g *group) *group {
	g.id = s.next("group")
	s.groups.put(g.id, g.key(), g)
	return g
}

// groupFor is the group that a member is to be. Where logins come from
// outside, one that is not there is made.
func (s *Server) groupFor(given groupRequest) (*group, error) {
	if given.DN != "" {
		given.Kind = 1
	}
	g := &group{name: given.Name, kind: given.Kind, dn: given.DN}
	if old := s.groups.named(g.key()); old != nil {
		return old, nil
	}
	mode := s.setting("auth_mode")
	switch {
	case mode == "oidc_auth", mode == "http_auth", mode == "ldap_auth" && s.inLDAP():
		if g.name == "" {
			g.name = g.dn
		}
		return s.addGroup(g), nil
	case given.DN != "":
		return nil, notFound("%s not found: not supported", given.DN)
	}
	return nil, notFound("%s not found: not supported", given.Name)
}

func (s *Server) group(c *call, action string) (*group, int64, error) {
	id, err := c.id("group_id")
	if err != nil {
		return nil, 0, err
	}
	if err := c.inSystem("user-group", action); err != nil {
		return nil, 0, err
	}
	if id <= 0 {
		return nil, 0, badRequest("the group id should be provided")
	}
	return s.groups.get(id), id, nil
}

// showGroup shows no id.
func (s *Server) showGroup(c *call) (answer, error) {
	g, id, err := s.group(c, "read")
	if err != nil {
		return answer{}, err
	}
	if g == nil {
		return answer{}, notFound("the user group with id %d is not found", id)
	}
	one := g.show()
	one.ID = 0
	return shown(one)
}

// updateGroup changes the name and nothing else.
func (s *Server) updateGroup(c *call) (answer, error) {
	g, id, err := s.group(c, "update")
	if err != nil {
		return answer{}, err
	}
	given, err := decode[groupRequest](c)
	switch {
	case err != nil:
		return answer{}, err
	case given.Name == "":
		return answer{}, &refusal{status: http.StatusBadRequest}
	case g == nil:
		return answer{}, notFound("the user group with id %d is not found", id)
	case slices.ContainsFunc(s.groups.all(), func(other *group) bool { return other != g && other.name == given.Name }):
		return answer{}, internal()
	}
	old := g.key()
	g.name = given.Name
	s.groups.rename(g.id, old, g.key())
	return done()
}

// deleteGroup is content where there is none.
func (s *Server) deleteGroup(c *call) (answer, error) {
	g, id, err := s.group(c, "delete")
	if err != nil {
		return answer{}, err
	}
	s.removeMembers("g", id)
	if g != nil {
		s.groups.remove(g.id, g.key())
	}
	return done()
}
