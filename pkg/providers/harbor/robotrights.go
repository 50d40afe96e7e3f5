package harbor

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// parts are what Harbor lets a robot do that has one of the rights. Admin is all
// that a project's catalogue has.
func parts(r schema.Rights) []api.Access {
	switch r {
	case schema.Pull:
		return accesses("repository:pull")
	case schema.Push:
		return accesses("repository:push")
	case schema.Delete:
		return accesses("repository:delete artifact:delete tag:delete")
	}
	return nil
}

// may is what a robot may do, by namespace as Harbor calls it: a project, "*", or
// "/" for the system.
type may map[string][]api.Access

func (m may) add(namespace string, list ...api.Access) {
	for _, a := range list {
		if !listed(m[namespace], a) {
			m[namespace] = append(m[namespace], api.Access{Resource: a.Resource, Action: a.Action})
		}
	}
}

// mayOf unites the permissions of a robot's accounts. What one is denied it is not
// granted, whatever else it says. In all projects it is granted what no project denies,
// so that the other projects count for less rather than one for more.
func mayOf(list []api.Robot) may {
	out := may{}
	for _, r := range list {
		denied := deniedOf(r)
		for _, p := range r.Permissions {
			for _, a := range p.Access {
				if allows(a) && !denied.bars(p.Namespace, a) {
					out.add(p.Namespace, a)
				}
			}
		}
	}
	return out
}

func allows(a api.Access) bool { return a.Effect == "" || a.Effect == api.Allow }

// deniedOf is what a robot is denied: no mode says that of one.
func deniedOf(r api.Robot) may {
	out := may{}
	for _, p := range r.Permissions {
		for _, a := range p.Access {
			if !allows(a) {
				out.add(p.Namespace, a)
			}
		}
	}
	return out
}

// bars reports whether denials take a right in a place away, or a part of it.
func (m may) bars(namespace string, a api.Access) bool {
	if namespace == api.OfSystem {
		return listed(m[namespace], a)
	}
	for place, list := range m {
		in := place == namespace || place == api.AllProjects || namespace == api.AllProjects && place != api.OfSystem
		whole := place == api.AllProjects && listed(list, api.Access{Resource: "project", Action: a.Action})
		if in && (whole || listed(list, a)) {
			return true
		}
	}
	return false
}

// isDenied ends the action of a permission that is a denial.
const isDenied = " (denied)"

// denials are what a robot's accounts are denied, shown among its permissions: no
// file says so, and so it is seen.
func denials(list []api.Robot) []schema.RobotPermission {
	var out []schema.RobotPermission
	for _, r := range list {
		for place, accesses := range deniedOf(r) {
			for _, a := range accesses {
				out = append(out, schema.RobotPermission{Namespace: strings.TrimPrefix(place, api.OfSystem), Resource: a.Resource, Action: a.Action + isDenied})
			}
		}
	}
	return out
}

// granted are permissions without denials.
func granted(list []schema.RobotPermission) []schema.RobotPermission {
	return slices.DeleteFunc(slices.Clone(list), func(p schema.RobotPermission) bool { return strings.HasSuffix(p.Action, isDenied) })
}

// beyondAccess says what a robot's accounts may do beside what access says, "" for
// nothing.
func (s *site) beyondAccess(ctx context.Context, list []account) (string, error) {
	var all []api.Robot
	for _, a := range list {
		all = append(all, a.Robot)
	}
	_, permissions, err := mayOf(all).words(ctx, s)
	if err != nil {
		return "", err
	}
	var places []string
	for i := 0; i < len(permissions); {
		var names []string
		in := permissions[i].Namespace
		for ; i < len(permissions) && permissions[i].Namespace == in; i++ {
			names = append(names, permissions[i].Resource+":"+permissions[i].Action)
		}
		places = append(places, fewOf(names)+" "+where(in))
	}
	return strings.Join(places, "; "), nil
}

// fewest is how many things a robot may do in a place before it is asked whether
// that is all of them.
const fewest = 20

// words says it in rights, and what is left of it in permissions.
func (m may) words(ctx context.Context, s *site) (schema.Grants, []schema.RobotPermission, error) {
	var grants []schema.Grant
	left := []schema.RobotPermission{}
	for _, ns := range slices.Sorted(maps.Keys(m)) {
		list := slices.Clone(m[ns])
		name := ns
		if ns == api.OfSystem {
			name = ""
		}
		var rights schema.Rights
		if name != "" && len(list) >= fewest {
			all, err := s.catalogue(ctx)
			if err != nil {
				return nil, nil, err
			}
			if holds(list, all.Project) {
				rights = schema.Admin
				list = slices.DeleteFunc(list, func(a api.Access) bool { return listed(all.Project, a) })
			}
		}
		for _, r := range []schema.Rights{schema.Pull, schema.Push, schema.Delete} {
			if name != "" && rights&schema.Admin == 0 && holds(list, parts(r)) {
				rights |= r
				list = slices.DeleteFunc(list, func(a api.Access) bool { return listed(parts(r), a) })
			}
		}
		if rights != 0 {
			grants = append(grants, schema.Grant{Name: name, Rights: rights})
		}
		for _, a := range list {
			left = append(left, schema.RobotPermission{Namespace: name, Resource: a.Resource, Action: a.Action})
		}
	}
	return schema.NewGrants(grants...), sortedPermissions(left), nil
}

func holds(list, all []api.Access) bool {
	return !slices.ContainsFunc(all, func(a api.Access) bool { return !listed(list, a) })
}

func sortedPermissions(list []schema.RobotPermission) []schema.RobotPermission {
	out := slices.Clone(list)
	slices.SortFunc(out, func(a, b schema.RobotPermission) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Resource, b.Resource), strings.Compare(a.Action, b.Action))
	})
	return slices.Compact(out)
}

// mayFor is what a robot shall be able to do.
func mayFor(ctx context.Context, s *site, spec *schema.Robot) (may, error) {
	out := may{}
	for _, g := range spec.Access {
		if g.Rights&schema.Admin != 0 {
			all, err := s.catalogue(ctx)
			if err != nil {
				return nil, err
			}
			out.add(g.Name, all.Project...)
			continue
		}
		for _, r := range []schema.Rights{schema.Pull, schema.Push, schema.Delete} {
			if g.Rights&r != 0 {
				out.add(g.Name, parts(r)...)
			}
		}
	}
	for _, p := range spec.Permissions {
		ns := p.Namespace
		if ns == "" {
			ns = api.OfSystem
		}
		out.add(ns, api.Access{Resource: p.Resource, Action: p.Action})
	}
	return out, nil
}

// permissions says it in Harbor's words, in one order.
func (m may) permissions() []api.Permission {
	out := []api.Permission{}
	for _, ns := range slices.Sorted(maps.Keys(m)) {
		kind := api.LevelProject
		if ns == api.OfSystem {
			kind = api.LevelSystem
		}
		out = append(out, api.Permission{Kind: kind, Namespace: ns, Access: m[ns]})
	}
	return out
}
