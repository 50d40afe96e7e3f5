package harbortest

import "strings"

// right is an action on a resource.
type right struct {
	Action   string `json:"action"`
	Resource string `json:"resource"`
}

// catalogue are the rights that robots can have in a project or in the
// system, in the order in which Harbor names them.
func catalogue(kind string) []right {
	of := map[string]string{
		"project": "log:list project:read,delete,update metadata:read,create,delete,list,update " +
			"repository:read,update,delete,list,pull,push artifact:read,create,list,delete scan:create,read,stop " +
			"sbom:create,stop,read tag:create,list,delete accessory:list artifact-addition:read artifact-label:create,delete " +
			"scanner:create,read preheat-policy:read,create,delete,list,update immutable-tag:create,delete,list,update " +
			"notification-policy:read,create,delete,list,update tag-retention:read,create,delete,list,update " +
			"label:read,create,delete,list,update quota:read robot:create,read,list,delete export-cve:create,read " +
			"member:create,read,update,list,delete",
		"system": "audit-log:list preheat-instance:read,create,delete,list,update project:list,create " +
			"replication-policy:read,create,delete,list,update replication:read,create,list replication-adapter:list " +
			"registry:read,create,delete,list,update scan-all:read,update,stop,create system-volumes:read " +
			"garbage-collection:read,create,list,update,stop purge-audit:read,create,list,update,stop " +
			"jobservice-monitor:list,stop scanner:read,create,delete,list,update label:read,create,delete,update " +
			"security-hub:read,list catalog:read quota:read,list robot:create,read,list,delete " +
			"user:create,read,update,list,delete ldap-user:create,list quota:update user-group:create,read,update,list,delete",
	}
	var rights []right
	for entry := range strings.FieldsSeq(of[kind]) {
		resource, actions, _ := strings.Cut(entry, ":")
		for action := range strings.SplitSeq(actions, ",") {
			rights = append(rights, right{action, resource})
		}
	}
	return rights
}

func (s *Server) permissions() routes {
	return routes{"GET /permissions": s.showPermissions}
}

// showPermissions shows the catalogue to administrators, and the project's
// part to administrators of a project.
func (s *Server) showPermissions(c *call) (answer, error) {
	u := c.who.user
	switch {
	case !c.who.authenticated():
		return answer{}, unauthorized()
	case u == nil || !u.sysadmin && !s.isProjectAdmin(u):
		return answer{}, forbidden("forbidden: only admins(system and project) can access permissions")
	}
	all := map[string][]right{"project": s.catalogue("project")}
	if u.sysadmin {
		all["system"] = s.catalogue("system")
	}
	return shown(all)
}

func (s *Server) isProjectAdmin(u *user) bool {
	for _, p := range s.projects.all() {
		if highest(s.rolesIn(u, p)) == 1 {
			return true
		}
	}
	return false
}
