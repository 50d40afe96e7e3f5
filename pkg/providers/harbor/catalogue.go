package harbor

import (
	"context"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
)

// catalogue is what robots may do here. Harbor shows it to administrators; a robot
// goes by what is known of the version.
func (s *site) catalogue(ctx context.Context) (api.Catalogue, error) {
	return s.mays.get(func() (api.Catalogue, error) {
		if !s.c.Admin() {
			return s.builtin(), nil
		}
		return s.c.Catalogue(ctx)
	})
}

// builtin is the catalogue of the version as far as its sources say what 2.15.2 has
// beyond it.
func (s *site) builtin() api.Catalogue {
	all := builtin()
	return api.Catalogue{Project: slices.DeleteFunc(all.Project, s.c.Later), System: slices.DeleteFunc(all.System, s.c.Later)}
}

// builtin is the catalogue of Harbor 2.15.2.
func builtin() api.Catalogue {
	return api.Catalogue{
		Project: accesses(`log:list project:read,delete,update metadata:read,create,delete,list,update
			repository:read,update,delete,list,pull,push artifact:read,create,list,delete scan:create,read,stop
			sbom:create,stop,read tag:create,list,delete accessory:list artifact-addition:read artifact-label:create,delete
			scanner:create,read preheat-policy:read,create,delete,list,update immutable-tag:create,delete,list,update
			notification-policy:read,create,delete,list,update tag-retention:read,create,delete,list,update
			label:read,create,delete,list,update quota:read robot:create,read,list,delete export-cve:create,read
			member:create,read,update,list,delete`),
		System: accesses(`audit-log:list preheat-instance:read,create,delete,list,update project:list,create
			replication-policy:read,create,delete,list,update replication:read,create,list replication-adapter:list
			registry:read,create,delete,list,update scan-all:read,update,stop,create system-volumes:read
			garbage-collection:read,create,list,update,stop purge-audit:read,create,list,update,stop
			jobservice-monitor:list,stop scanner:read,create,delete,list,update label:read,create,delete,update
			security-hub:read,list catalog:read quota:read,list,update robot:create,read,list,delete
			user:create,read,update,list,delete ldap-user:create,list user-group:create,read,update,list,delete`),
	}
}

func accesses(text string) []api.Access {
	var out []api.Access
	for _, entry := range strings.Fields(text) {
		resource, actions, _ := strings.Cut(entry, ":")
		for _, a := range strings.Split(actions, ",") {
			out = append(out, api.Access{Resource: resource, Action: a})
		}
	}
	return out
}

// listed reports whether a list has an access, whatever its effect.
func listed(list []api.Access, a api.Access) bool {
	return slices.ContainsFunc(list, func(x api.Access) bool { return x.Resource == a.Resource && x.Action == a.Action })
}
