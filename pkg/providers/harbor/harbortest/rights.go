package harbortest

import (
	"slices"
	"strconv"
	"strings"
)

// inSystem refuses whoever may not do an action on a resource of the system.
func (c *call) inSystem(resource, action string) error {
	switch {
	case !c.who.authenticated():
		return unauthorized()
	case !c.who.maySystem(resource, action):
		return forbidden("%s", c.who.name())
	}
	return nil
}

func (i identity) maySystem(resource, action string) bool {
	if i.robot != nil {
		return i.robot.may("system", "/", resource, action)
	}
	return i.user != nil && i.user.sysadmin
}

// loggedIn refuses anybody.
func (c *call) loggedIn() error {
	if !c.who.authenticated() {
		return unauthorized()
	}
	return nil
}

// project is the project that the path names, by name or id. Who may not do
// the action is refused before it shows whether there is one.
func (s *Server) project(c *call, resource, action string) (*project, error) {
	named, byName := c.vars["project_name"]
	if !byName {
		named = c.vars["project_name_or_id"]
		id, err := strconv.ParseInt(named, 10, 64)
		if isName, _ := strconv.ParseBool(c.r.Header.Get("X-Is-Resource-Name")); err == nil && !isName {
			return s.allowed(c, s.projects.get(id), named, resource, action)
		}
	}
	return s.allowed(c, s.projects.named(named), named, resource, action)
}

// projectWith is the project with an id that a body or query named.
func (s *Server) projectWith(c *call, id int64, resource, action string) (*project, error) {
	return s.allowed(c, s.projects.get(id), strconv.FormatInt(id, 10), resource, action)
}

func (s *Server) allowed(c *call, p *project, named, resource, action string) (*project, error) {
	switch {
	case c.who.user != nil && c.who.user.sysadmin:
	case p != nil && s.mayProject(c.who, p, resource, action):
	case !c.who.authenticated():
		return nil, unauthorized()
	default:
		return nil, forbidden("forbidden")
	}
	if p == nil {
		return nil, notFound("project %s not found", named)
	}
	return p, nil
}

// mayProject says whether somebody who is no administrator may do an action
// on a resource of a project. "" is the project itself.
func (s *Server) mayProject(i identity, p *project, resource, action string) bool {
	if p.public() && roleMay(0, resource, action) {
		return true
	}
	if i.robot != nil {
		if resource == "" {
			resource = "project"
		}
		return i.robot.may("project", p.name, resource, action)
	}
	return slices.ContainsFunc(s.rolesIn(i.user, p), func(role int64) bool { return roleMay(role, resource, action) })
}

// roleMay says whether a role, or everybody in a public project if it is
// 0, may do an action on a resource.
func roleMay(role int64, resource, action string) bool {
	if resource == "" {
		resource = "self"
	}
	for right := range strings.FieldsSeq(rightsOf()[role]) {
		of, actions, _ := strings.Cut(right, ":")
		if of == resource && slices.Contains(strings.Split(actions, ","), action) {
			return true
		}
	}
	return false
}

// rightsOf are the rights of each role: all that there are are those of the first.
func rightsOf() map[int64]string {
	const (
		guest = " self:read member:read,list label:read,list quota:read repository:read,list,pull configuration:read " +
			"robot:read,list scan:read sbom:read scanner:read tag:list accessory:list artifact:read,list artifact-addition:read "
		developer = guest + " repository:create,update,push tag-retention:create,read,update,delete,list,operate artifact:create " +
			"tag:create artifact-label:create,delete export-cve:create,read,list "
		maintainer = developer + " metadata:read label:create,update,delete repository:delete immutable-tag:create,update,delete,list " +
			"notification-policy:read,list scan:create,stop sbom:create,stop artifact:delete tag:delete "
	)
	return map[int64]string{
		0: " self:read label:read,list repository:list,pull scan:read scanner:read tag:list artifact:read,list artifact-addition:read accessory:list ",
		1: maintainer + " self:update,delete member:create,update,delete metadata:create,update,delete log:list configuration:update " +
			"robot:create,update,delete notification-policy:create,update,delete scanner:create preheat-policy:create,read,update,delete,list ",
		2: developer,
		3: guest,
		4: maintainer,
		5: " self:read quota:read repository:list,read,pull configuration:read scan:read sbom:read scanner:read tag:list accessory:list " +
			"artifact:read,list artifact-addition:read ",
	}
}
