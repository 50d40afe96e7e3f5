package harbortest

import (
	"fmt"
	"slices"
	"strings"
)

// before says whether this stands in for a Harbor older than 2 and a minor version.
// What older ones have not, each place that knows of it asks.
func (s *Server) before(minor int) bool {
	var a, b int
	if _, err := fmt.Sscanf(s.options.Version, "v%d.%d", &a, &b); err != nil {
		return false
	}
	return a < 2 || a == 2 && b < minor
}

// lacks says whether an operation came after the version.
func (s *Server) lacks(route string) bool {
	switch route {
	case "GET /projects/{project_name_or_id}/artifacts":
		return s.before(12)
	case "GET /auditlog-exts/events":
		return s.before(13)
	}
	return false
}

// settingRules are those of the version.
func (s *Server) settingRules() []settingRule {
	return slices.DeleteFunc(settingRules(), func(r settingRule) bool {
		switch r.key {
		case "disabled_audit_log_event_types", "oidc_logout":
			return s.before(13)
		case "ldap_group_attach_parallel":
			return s.before(12)
		}
		return false
	})
}

// catalogue are the rights of the version: sbom and quota came with 2.11, those on
// accounts with 2.12.
func (s *Server) catalogue(kind string) []right {
	return slices.DeleteFunc(catalogue(kind), func(r right) bool {
		switch r.Resource {
		case "sbom", "quota":
			return s.before(11) || r.Action == "update" && s.before(12)
		case "robot", "user", "ldap-user", "export-cve", "user-group", "member":
			return s.before(12)
		}
		return false
	})
}

// purged are the names of what a purge of the audit log takes: of events, or of
// operations.
func (s *Server) purged() string {
	if s.before(13) {
		return "include_operations"
	}
	return "include_event_types"
}

// drop takes out of what came what the version ignores.
func (s *Server) drop(r registryRequest) registryRequest {
	if s.before(15) {
		r.Certificate = nil
	}
	return r
}

// knows says whether the version keeps a key of a project's metadata.
func (s *Server) knows(key string) bool {
	return !strings.HasPrefix(key, "auto_sbom") || !s.before(11)
}
