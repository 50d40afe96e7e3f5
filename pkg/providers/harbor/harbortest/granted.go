package harbortest

import (
	"math"
	"slices"
)

// permission is what a robot may do in one place. of is the project, and nil
// for the system and for all projects.
type permission struct {
	kind      string
	namespace string
	of        *project
	access    []access
}

type access struct {
	Action   string `json:"action"`
	Effect   string `json:"effect,omitempty"`
	Resource string `json:"resource"`
}

// may says whether a robot was given a right, and nowhere denied it.
func (r *robot) may(kind, namespace, resource, action string) bool {
	given := false
	for _, p := range r.permissions {
		if p.kind != kind || p.namespace != namespace && p.namespace != "*" {
			continue
		}
		for _, a := range p.access {
			pulls := r.level == "project" && a.Action == "push" && action == "pull"
			// on all projects, a right on the project is one on everything in
			// it: how Harbor matches rights makes it so
			whole := p.namespace == "*" && a.Resource == "project"
			deny := a.Effect == "deny"
			switch {
			case a.Resource != resource && !whole, a.Action != action && (!pulls || deny):
			case deny:
				return false
			default:
				given = true
			}
		}
	}
	return given
}

// covers says whether a project is in a robot's list of projects.
func (r *robot) covers(name string) bool {
	return slices.ContainsFunc(r.permissions, func(p permission) bool {
		return p.kind == "project" && (p.namespace == "*" || p.namespace == name)
	})
}

type permissionRequest struct {
	Access    []access `json:"access"`
	Kind      string   `json:"kind"`
	Namespace string   `json:"namespace"`
}

// checkRobot says what Harbor does not take.
func (s *Server) checkRobot(r robotRequest, duration int64) error {
	switch {
	case duration != -1 && (duration <= 0 || duration >= math.MaxInt32):
		return badRequest("bad request error duration input: %d, duration must be either -1(Never) or a positive integer", duration)
	case r.Level != "system" && r.Level != "project":
		return badRequest("bad request error level input: %s", r.Level)
	case len(r.Permissions) == 0:
		return badRequest("bad request empty permission")
	case slices.ContainsFunc(r.Permissions, func(p permissionRequest) bool { return len(p.Access) == 0 }):
		return badRequest("bad request empty access")
	case r.Level == "project" && len(r.Permissions) > 1:
		return badRequest("bad request permission")
	}
	for _, p := range r.Permissions {
		known := s.catalogue(p.Kind)
		if known == nil {
			return badRequest("bad request permission level: %s", p.Kind)
		}
		for _, a := range p.Access {
			if !slices.Contains(known, right{a.Action, a.Resource}) {
				return badRequest("bad request permission: %s:%s", a.Resource, a.Action)
			}
		}
	}
	return nil
}

// granted are permissions as they are kept: those of one place together, each
// right once.
func (s *Server) granted(given []permissionRequest) ([]permission, error) {
	var kept []permission
	for _, g := range given {
		p := permission{kind: g.Kind, namespace: g.Namespace}
		switch {
		case g.Kind == "system" && g.Namespace != "/":
			return nil, badRequest("unknown namespace")
		case g.Kind == "project" && g.Namespace != "*":
			if p.of = s.projects.named(g.Namespace); p.of == nil {
				return nil, notFound("project %s not found", g.Namespace)
			}
		}
		at := slices.IndexFunc(kept, func(k permission) bool { return k.kind == p.kind && k.namespace == p.namespace })
		if at < 0 {
			kept, at = append(kept, p), len(kept)
		}
		for _, a := range g.Access {
			if !slices.Contains(kept[at].access, a) {
				kept[at].access = append(kept[at].access, a)
			}
		}
	}
	return kept, nil
}

// effects are the rights of a change as Harbor understands them: it reads them into
// the list of those that there are, and what has no effect keeps the one at its place,
// whatever right that was.
func (r *robot) effects(given []permissionRequest) []permissionRequest {
	for i, g := range given {
		for j, a := range g.Access {
			if a.Effect == "" && i < len(r.permissions) && j < len(r.permissions[i].access) {
				given[i].Access[j].Effect = r.permissions[i].access[j].Effect
			}
		}
	}
	return given
}

// within says whether permissions are no more than those of a robot in the
// same places, or in all projects.
func (r *robot) within(given []permissionRequest) bool {
	return !slices.ContainsFunc(given, func(g permissionRequest) bool {
		at := slices.IndexFunc(r.permissions, func(p permission) bool { return p.kind == g.Kind && p.namespace == g.Namespace })
		if at < 0 {
			at = slices.IndexFunc(r.permissions, func(p permission) bool { return p.kind == g.Kind && p.namespace == "*" })
		}
		return at < 0 || slices.ContainsFunc(g.Access, func(a access) bool { return !slices.Contains(r.permissions[at].access, a) })
	})
}

// forgetRobots takes away a project's robots, and the project from what
// robots of the system may do.
func (s *Server) forgetRobots(p *project) {
	for _, r := range p.robots.all() {
		s.removeRobot(r)
	}
	for _, r := range s.robots.all() {
		r.permissions = slices.DeleteFunc(r.permissions, func(g permission) bool { return g.of == p })
	}
}
