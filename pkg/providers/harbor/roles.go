package harbor

import (
	"slices"
	"strings"

	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
)

// ofRole is all that a role allows in a project, as Harbor 2.15.2 answered a member of
// each to GET /users/current/permissions?scope=/project/N&relative=true; the project
// itself, "." there, is resource "project".
func ofRole(role int) []api.Access {
	switch role {
	case api.RoleAdmin:
		return accesses(`accessory:list artifact:create,delete,list,read artifact-addition:read artifact-label:create,delete
			configuration:read,update export-cve:create,list,read immutable-tag:create,delete,list,update
			label:create,delete,list,read,update log:list member:create,delete,list,read,update
			metadata:create,delete,read,update notification-policy:create,delete,list,read,update
			preheat-policy:create,delete,list,read,update project:delete,read,update quota:read
			repository:create,delete,list,pull,push,read,update robot:create,delete,list,read,update sbom:create,read,stop
			scan:create,read,stop scanner:create,read tag:create,delete,list
			tag-retention:create,delete,list,operate,read,update`)
	case api.RoleMaintainer:
		return accesses(`accessory:list artifact:create,delete,list,read artifact-addition:read artifact-label:create,delete
			configuration:read export-cve:create,list,read immutable-tag:create,delete,list,update
			label:create,delete,list,read,update member:list,read metadata:read notification-policy:list,read project:read
			quota:read repository:create,delete,list,pull,push,read,update robot:list,read sbom:create,read,stop
			scan:create,read,stop scanner:read tag:create,delete,list tag-retention:create,delete,list,operate,read,update`)
	case api.RoleDeveloper:
		return accesses(`accessory:list artifact:create,list,read artifact-addition:read artifact-label:create,delete
			configuration:read export-cve:create,list,read label:list,read member:list,read project:read quota:read
			repository:create,list,pull,push,read,update robot:list,read sbom:read scan:read scanner:read tag:create,list
			tag-retention:create,delete,list,operate,read,update`)
	case api.RoleGuest:
		return accesses(`accessory:list artifact:list,read artifact-addition:read configuration:read label:list,read
			member:list,read project:read quota:read repository:list,pull,read robot:list,read sbom:read scan:read
			scanner:read tag:list`)
	case api.RoleLimitedGuest:
		return accesses(`accessory:list artifact:list,read artifact-addition:read configuration:read project:read quota:read
			repository:list,pull,read sbom:read scan:read scanner:read tag:list`)
	}
	return nil
}

// ofRights is what the four rights speak of: pull with what shows an image, push, delete.
func ofRights() []api.Access {
	return accesses(`repository:create,delete,list,pull,push,read artifact:create,delete,list,read artifact-addition:read
		accessory:list tag:create,delete,list project:read metadata:read configuration:read scanner:read`)
}

// power is something that roles allow beyond the four rights, and by which accesses.
type power struct{ what, by string }

// powers are those that change something or show a secret, the most dangerous first.
func powers() []power {
	return []power{
		{"retention, and with it deletion of tags", "tag-retention:create,delete,list,operate,read,update"},
		{"members", "member:create,delete,update"},
		{"robots, which outlast the member who makes them", "robot:create,delete,update"},
		{"deletion of the project", "project:delete"},
		{"the project's settings, and with them whether everybody may pull", "project:update metadata:create,delete,update configuration:update"},
		{"rules of immutable tags, also to take them away", "immutable-tag:create,delete,list,update"},
		{"webhooks", "notification-policy:create,delete,update"},
		{"a look at webhooks with their auth", "notification-policy:list,read"},
		{"preheating", "preheat-policy:create,delete,list,read,update"},
		{"the choice of a scanner", "scanner:create"},
		{"scans", "scan:create,stop sbom:create,stop"},
		{"labels", "label:create,delete,update"},
		{"labels on images", "artifact-label:create,delete"},
		{"descriptions of repositories", "repository:update"},
		{"exports of vulnerabilities", "export-cve:create,list,read"},
	}
}

// looks are what roles show beyond the four rights.
func looks() []power {
	return []power{
		{"members", "member:list,read"},
		{"robots", "robot:list,read"},
		{"logs", "log:list"},
		{"labels", "label:list,read"},
		{"the quota", "quota:read"},
		{"findings of scans", "scan:read sbom:read"},
	}
}

// beyond is what a role allows that the four rights do not speak of.
func beyond(role int) string {
	has := ofRole(role)
	held := func(list []power) []string {
		var out []string
		for _, p := range list {
			if slices.ContainsFunc(accesses(p.by), func(a api.Access) bool { return listed(has, a) }) {
				out = append(out, p.what)
			}
		}
		return out
	}
	sights := held(looks())
	last := len(sights) - 1
	look := "a look at " + strings.Join(sights[:last], ", ") + " and " + sights[last]
	return strings.Join(append(held(powers()), look), "; ")
}
