package harbortest

import (
	"fmt"
	"slices"
)

// before says whether this stands in for a Harbor older than 2, a minor version and
// perhaps a patch. What older ones have not, each place that knows of it asks.
func (s *Server) before(version ...int) bool {
	have := make([]int, 3)
	if _, err := fmt.Sscanf(s.options.Version, "v%d.%d.%d", &have[0], &have[1], &have[2]); err != nil {
		return false
	}
	return slices.Compare(have, append([]int{2}, version...)) < 0
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

// catalogue are the rights of the version: quota came with 2.10.1, sbom with 2.11, those
// on accounts with 2.12.
func (s *Server) catalogue(kind string) []right {
	return slices.DeleteFunc(catalogue(kind), func(r right) bool {
		switch r.Resource {
		case "sbom":
			return s.before(11)
		case "quota":
			return s.before(10, 1) || r.Action == "update" && s.before(12)
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

// workers is how many may collect garbage at once.
func (s *Server) workers() int {
	if s.before(13) {
		return 5
	}
	return 10
}

// shows says whether the version shows what it logs in with at scanners and preheat
// instances, and forgets that where an update leaves it out.
func (s *Server) shows() bool { return s.before(14, 4) || !s.before(15) && s.before(15, 1) }

// drop takes out of what came what the version ignores.
func (s *Server) drop(r registryRequest) registryRequest {
	if s.before(15) {
		r.Certificate = nil
	}
	return r
}

// knows says whether the version keeps a key of a project's metadata.
func (s *Server) knows(key string) bool {
	switch key {
	case "auto_sbom_generation":
		return !s.before(11)
	case "proxy_speed_kb":
		return !s.before(12)
	case "max_upstream_conn":
		return !s.before(14, 1)
	case "proxy_cache_local_on_not_found":
		return !s.before(15, 1)
	}
	return !s.before(16) || !slices.Contains(laterMetadata(), key)
}

// laterMetadata are the keys that came with 2.16, after the release whose API
// description the shapes are made from.
func laterMetadata() []string {
	return []string{"proxy_referrer_api", "proxy_cache_filter_pattern", "proxy_cache_filter_kind"}
}
