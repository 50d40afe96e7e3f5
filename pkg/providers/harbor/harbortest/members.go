package harbortest

import (
	"fmt"
	"slices"
	"strings"
)

// member is a user or group with a role in a project.
type member struct {
	id     int64
	kind   string // u or g
	entity int64
	role   int64
}

func (m *member) key() string { return fmt.Sprintf("%s%d", m.kind, m.entity) }

// roleName is the name of a role, and empty where it is none.
func roleName(role int64) string {
	names := []string{"", "projectAdmin", "developer", "guest", "maintainer", "limitedGuest"}
	if role < 1 || role >= int64(len(names)) {
		return ""
	}
	return names[role]
}

// highest is the most powerful of roles, 0 if there are none.
func highest(roles []int64) int64 {
	for _, role := range []int64{1, 4, 2, 3, 5} {
		if slices.Contains(roles, role) {
			return role
		}
	}
	return 0
}

// rolesIn are the roles of a user in a project; nil for none.
func (s *Server) rolesIn(u *user, p *project) []int64 {
	if u == nil {
		return nil
	}
	if m := p.members.named((&member{kind: "u", entity: u.id}).key()); m != nil {
		return []int64{m.role}
	}
	return nil
}

func (s *Server) addMember(p *project, kind string, entity, role int64) *member {
	m := &member{kind: kind, entity: entity, role: role}
	// one whose role is none is in the way of nobody
	if old := p.members.named(m.key()); old != nil {
		p.members.remove(old.id, old.key())
	}
	m.id = s.next("member")
	p.members.put(m.id, m.key(), m)
	return m
}

// removeMembers takes a user or group out of all projects.
func (s *Server) removeMembers(kind string, entity int64) {
	key := (&member{kind: kind, entity: entity}).key()
	for _, p := range s.projects.all() {
		if m := p.members.named(key); m != nil {
			p.members.remove(m.id, key)
		}
	}
}

func (s *Server) projectMembers() routes {
	const at = "/projects/{project_name_or_id}/members"
	return routes{
		"GET " + at:               s.listMembers,
		"POST " + at:              s.createMember,
		"GET " + at + "/{mid}":    s.showMember,
		"PUT " + at + "/{mid}":    s.updateMember,
		"DELETE " + at + "/{mid}": s.deleteMember,
	}
}

type shownMember struct {
	EntityID   int64  `json:"entity_id"`
	EntityName string `json:"entity_name"`
	EntityType string `json:"entity_type"`
	ID         int64  `json:"id"`
	ProjectID  int64  `json:"project_id"`
	RoleID     int64  `json:"role_id"`
	RoleName   string `json:"role_name"`
}

func (s *Server) showMemberOf(p *project, m *member) shownMember {
	return shownMember{
		EntityID: m.entity, EntityName: s.entityName(m), EntityType: m.kind, ID: m.id, ProjectID: p.id,
		RoleID: m.role, RoleName: roleName(m.role),
	}
}

func (s *Server) entityName(m *member) string {
	if m.kind == "g" {
		if g := s.groups.get(m.entity); g != nil {
			return g.name
		}
	} else if u := s.users.get(m.entity); u != nil {
		return u.name
	}
	return ""
}

// listMembers leaves out whose role is none, and counts them.
func (s *Server) listMembers(c *call) (answer, error) {
	p, err := s.project(c, "member", "list")
	if err != nil {
		return answer{}, err
	}
	name := c.query.Get("entityname")
	rows := slices.DeleteFunc(p.members.all(), func(m *member) bool {
		return roleName(m.role) == "" || name != "" && s.entityName(m) != name
	})
	slices.SortStableFunc(rows, func(a, b *member) int {
		return strings.Compare(s.entityName(a), s.entityName(b))
	})
	return paged(c, rows, len(p.members.order), func(m *member) shownMember { return s.showMemberOf(p, m) })
}

func (s *Server) createMember(c *call) (answer, error) {
	p, err := s.project(c, "member", "create")
	if err != nil {
		return answer{}, err
	}
	given, err := decode[struct {
		Role int64 `json:"role_id"`
		User struct {
			ID   int64  `json:"user_id"`
			Name string `json:"username"`
		} `json:"member_user"`
		Group groupRequest `json:"member_group"`
	}](c)
	if err != nil {
		return answer{}, err
	}
	kind := "g"
	var entity int64
	switch {
	case given.User.ID > 0:
		if s.users.get(given.User.ID) == nil {
			return answer{}, badRequest("Failed to get user %d: user %d not found", given.User.ID, given.User.ID)
		}
		kind, entity = "u", given.User.ID
	case given.Group.ID > 0:
		if s.groups.get(given.Group.ID) == nil {
			return answer{}, badRequest("Failed to get group %d: user group with id %d not found", given.Group.ID, given.Group.ID)
		}
		entity = given.Group.ID
	case given.User.Name != "":
		u := s.users.named(given.User.Name)
		if u == nil {
			return answer{}, notFound("user %s is not found", given.User.Name)
		}
		kind, entity = "u", u.id
	case given.Group.DN != "" || given.Group.Name != "":
		g, err := s.groupFor(given.Group)
		if err != nil {
			return answer{}, err
		}
		entity = g.id
	default:
		return answer{}, internal()
	}
	old := p.members.named((&member{kind: kind, entity: entity}).key())
	switch {
	case old != nil && roleName(old.role) != "":
		return answer{}, conflict("The project member specified already exist")
	case roleName(given.Role) == "":
		return answer{}, badRequest("Failed to update project member, role is not in 1,2,3")
	}
	return createdID(c, s.addMember(p, kind, entity, given.Role).id)
}

func (s *Server) member(c *call, action string) (*project, *member, int64, error) {
	id, err := c.id("mid")
	if err != nil {
		return nil, nil, 0, err
	}
	p, err := s.project(c, "member", action)
	if err != nil {
		return nil, nil, 0, err
	}
	return p, p.members.get(id), id, nil
}

func (s *Server) showMember(c *call) (answer, error) {
	p, m, id, err := s.member(c, "read")
	if err != nil {
		return answer{}, err
	}
	if m == nil || roleName(m.role) == "" {
		return answer{}, notFound("the project member is not found, project id %d, member id %d", p.id, id)
	}
	return shown(s.showMemberOf(p, m))
}

// updateMember takes any role. With one that is none the member is gone from
// sight; where there is no member, nothing happens.
func (s *Server) updateMember(c *call) (answer, error) {
	_, m, _, err := s.member(c, "update")
	if err != nil {
		return answer{}, err
	}
	given, err := decode[struct {
		Role int64 `json:"role_id"`
	}](c)
	if err != nil {
		return answer{}, err
	}
	if m != nil {
		m.role = given.Role
	}
	return done()
}

func (s *Server) deleteMember(c *call) (answer, error) {
	p, m, _, err := s.member(c, "delete")
	if err != nil {
		return answer{}, err
	}
	if m != nil {
		p.members.remove(m.id, m.key())
	}
	return done()
}
