package schema

import (
	"slices"
	"strings"
)

// OwnedSetting tells which kind owns a native setting of a registry, so that
// it cannot be set by its own name. A path owns what is below it; a part "*"
// stands for any one part.
func OwnedSetting(registry, path string) (Kind, bool) {
	for _, o := range owned(registry) {
		if below(path, o.path) {
			return o.kind, true
		}
	}
	return "", false
}

type ownedPath struct {
	path string
	kind Kind
}

// owned lists what the files and interfaces of each registry hold that a kind
// speaks of.
func owned(registry string) []ownedPath {
	switch registry {
	case TypeZot:
		return []ownedPath{
			{"http.accessControl", KindAccess},
			{"http.auth.htpasswd", KindUser},
			{"storage.retention", KindRetention},
			{"storage.subPaths.*.retention", KindRetention},
			{"storage.gc", KindGC},
			{"storage.gcDelay", KindGC},
			{"storage.gcInterval", KindGC},
			{"log.audit", KindAudit},
			{"extensions.search.cve", KindScan},
			{"extensions.trust", KindTrust},
			{"extensions.events", KindWebhook},
			{"extensions.sync", KindReplication},
		}
	case TypeHarbor:
		return nil // its settings interface holds nothing that a kind speaks of
	case TypeDistribution:
		return []ownedPath{
			{"auth", KindAccess},
			{"notifications", KindWebhook},
			{"storage.delete", KindGC},
			{"storage.maintenance.readonly", KindGC},
		}
	}
	return nil
}

// below reports whether a path is, or is below, a pattern. A pattern's part
// "*" matches any part.
func below(path, pattern string) bool {
	have, want := strings.Split(path, "."), strings.Split(pattern, ".")
	if len(have) < len(want) {
		return false
	}
	for i, w := range want {
		if w != "*" && !strings.EqualFold(w, have[i]) {
			return false
		}
	}
	return true
}

// SecretSetting reports whether a native setting holds a secret, so that only
// a reference may stand there. It goes by the last part of its name.
func SecretSetting(registry, path string) bool {
	last := strings.ToLower(path[strings.LastIndexByte(path, '.')+1:])
	switch registry {
	case TypeHarbor:
		return slices.Contains([]string{"ldap_search_password", "oidc_client_secret", "uaa_client_secret", "email_password"}, last)
	}
	return slices.Contains([]string{
		"password", "secret", "secretkey", "secretaccesskey", "accountkey", "bindpassword", "clientsecret",
		"sessionkey", "bearertoken", "privatekey", "connectionstring", "sentinelpassword",
	}, last)
}

// OutsidePath is the path under which a registry that keeps policy.outside
// itself shows it among its settings.
const OutsidePath = "policy.outside"

// Reserved is the namespace that is ocisync's own on every registry.
const Reserved = "ocisync"
