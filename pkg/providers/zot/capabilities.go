package zot

import "github.com/ocisync/ocisync/schema"

// Capabilities is what Zot from 2.1.6 on takes of each kind, as observed on
// 2.1.6 and 2.1.20. What depends on who runs it goes by the driver, "" for
// somebody else.
func Capabilities(driver string) schema.Table {
	const (
		kept      = "Zot has no place for it; ocisync keeps it"
		htpasswd  = "an htpasswd file holds a name and a password, nothing else" //nolint:gosec // a sentence, no credential
		vulns     = "Zot shows vulnerabilities when asked and acts on none"
		withGC    = "Zot applies retention while it collects; set gc.schedule"
		every     = "Zot counts intervals from its start, not times of day"
		logFile   = "Zot writes its audit log to a file and leaves it alone; rotate it with the system's tools"
		certDir   = "Zot's sync takes a directory of certificates, which ocisync does not make yet; let the system's authorities know the other registry's"
		noContent = "ocisync has no engine for content yet"
	)
	table := schema.Table{
		{Kind: schema.KindSettings, Support: schema.Native},

		{Kind: schema.KindUser, Support: schema.Native},
		{Kind: schema.KindUser, Field: "email", Support: schema.Unsupported, Reason: htpasswd},
		{Kind: schema.KindUser, Field: "full_name", Support: schema.Unsupported, Reason: htpasswd},
		{Kind: schema.KindUser, Field: "comment", Support: schema.Unsupported, Reason: htpasswd},

		{Kind: schema.KindGroup, Support: schema.Native},
		{Kind: schema.KindGroup, Field: "type", Support: schema.Unsupported, Reason: "a group is a list of users in Zot's configuration; those of LDAP or OIDC need no declaration"},
		{Kind: schema.KindGroup, Field: "ldap_dn", Support: schema.Unsupported, Reason: "Zot takes LDAP groups by name"},

		{Kind: schema.KindRemote, Support: schema.Native},
		{Kind: schema.KindRemote, Field: "type", Support: schema.Emulated, Reason: "Zot speaks the same API to every type; " + kept},
		{Kind: schema.KindRemote, Field: "description", Support: schema.Emulated, Reason: kept},
		{Kind: schema.KindRemote, Field: "tls.ca", Support: schema.Unsupported, Reason: certDir},
		{Kind: schema.KindRemote, Field: "tls.cert", Support: schema.Unsupported, Reason: certDir},
		{Kind: schema.KindRemote, Field: "tls.key", Support: schema.Unsupported, Reason: certDir},

		{Kind: schema.KindScanner, Support: schema.Unsupported, Reason: "Zot scans with the Trivy it is built with"},
		{Kind: schema.KindPreheat, Support: schema.Unsupported, Reason: "Zot distributes nothing peer to peer"},
		{Kind: schema.KindPreheatPolicy, Support: schema.Unsupported, Reason: "Zot distributes nothing peer to peer"},

		{Kind: schema.KindNamespace, Support: schema.Native},
		{Kind: schema.KindNamespace, Field: "description", Support: schema.Emulated, Reason: kept},
		{Kind: schema.KindNamespace, Field: "proxy", Support: schema.Unsupported, Reason: "Zot limits no cache of another registry; which repositories it caches the setting extensions.sync says"},
		{Kind: schema.KindNamespace, Field: "on_delete.archive", Support: schema.Unsupported, Reason: "comes with a later version: nothing locks a namespace that leaves the file yet"},
		{Kind: schema.KindNamespace, Field: "on_delete.purge", Support: schema.Unsupported, Reason: "comes with a later version: nothing deletes the content of a namespace with it yet"},

		{Kind: schema.KindAccess, Support: schema.Native},
		{Kind: schema.KindAccess, Field: "authenticated_group", Support: schema.Emulated, Reason: "not needed: Zot has rights for every account that logs in; " + kept},
		{Kind: schema.KindAccess, Field: "conditions", Support: schema.Native, Versions: ">2.1.6"},

		{Kind: schema.KindQuota, Support: schema.Emulated, Reason: "Zot limits only the number of repositories; `ocisync up` (or `ocisync run quota`) measures what lies in its directories on this host, every minute, and withdraws push from everybody but admin users until it is below: until the next measuring a quota may be exceeded"},

		{Kind: schema.KindRetention, Support: schema.Native},
		{Kind: schema.KindRetention, Field: "schedule", Support: schema.Unsupported, Reason: withGC},
		{Kind: schema.KindRetention, Field: "zone", Support: schema.Unsupported, Reason: withGC},

		{Kind: schema.KindImmutable, Support: schema.Emulated, Reason: "Zot knows no rule per tag or repository; a rule for all tags of a namespace becomes the right to create without the right to update, which administrators keep, and tags can still be deleted"},

		{Kind: schema.KindScan, Support: schema.Native},
		{Kind: schema.KindScan, Field: "on_push", Support: schema.Unsupported, Reason: vulns},
		{Kind: schema.KindScan, Field: "sbom", Support: schema.Unsupported, Reason: vulns},
		{Kind: schema.KindScan, Field: "block", Support: schema.Unsupported, Reason: vulns},
		{Kind: schema.KindScan, Field: "allow", Support: schema.Unsupported, Reason: vulns},
		{Kind: schema.KindScan, Field: "scanner", Support: schema.Unsupported, Reason: "Zot scans with the Trivy it is built with"},
		{Kind: schema.KindScan, Field: "default", Support: schema.Unsupported, Reason: "Zot scans with the Trivy it is built with"},
		{Kind: schema.KindScan, Field: "schedule", Support: schema.Unsupported, Reason: "Zot scans by itself in the background; scan.update says how often its database is renewed"},
		{Kind: schema.KindScan, Field: "zone", Support: schema.Unsupported, Reason: every},

		{Kind: schema.KindTrust, Support: schema.Unsupported, Reason: "Zot shows whether a signature is trusted and refuses nothing; ocisync's own copying, which would check, comes with a later version"},

		{Kind: schema.KindLabel, Support: schema.Unsupported, Reason: "Zot has no labels"},
		{Kind: schema.KindRepository, Support: schema.Unsupported, Reason: "Zot has nothing to set on a repository"},

		{Kind: schema.KindRobot, Support: schema.Emulated, Reason: "a robot is an htpasswd account; ocisync keeps its rights and its expiry"},
		{Kind: schema.KindRobot, Field: "access", Support: schema.Emulated, Reason: "by rules for its account, which to Zot is one like others: it has what authenticated gives besides"},
		{Kind: schema.KindRobot, Field: "permissions", Support: schema.Unsupported, Reason: "Zot has no rights beyond pull, push and delete in repositories, and admin"},

		{Kind: schema.KindReplication, Support: schema.Native},
		{Kind: schema.KindReplication, Field: "to", Support: schema.Unsupported, Reason: "Zot's sync only pulls; declare it at the receiving registry, with from"},
		{Kind: schema.KindReplication, Field: "description", Support: schema.Emulated, Reason: kept},
		{Kind: schema.KindReplication, Field: "trigger", Support: schema.Emulated, Reason: "Zot's sync polls by intervals; ocisync leaves one that is manual out of Zot's configuration, since Zot cannot be told to copy now"},
		{Kind: schema.KindReplication, Field: "match.tags", Support: schema.Native, Reason: "beside namespace from Zot 2.1.17 on: those before copy every tag then, and ocisync refuses the two together"},
		{Kind: schema.KindReplication, Field: "match.labels", Support: schema.Unsupported, Reason: "Zot has no labels"},
		{Kind: schema.KindReplication, Field: "deletes", Support: schema.Unsupported, Reason: "Zot's sync deletes nothing"},
		{Kind: schema.KindReplication, Field: "override", Support: schema.Unsupported, Reason: "Zot's sync always brings a tag to what the source has"},
		{Kind: schema.KindReplication, Field: "enabled", Support: schema.Emulated, Reason: "ocisync leaves a disabled one out of Zot's configuration"},
		{Kind: schema.KindReplication, Field: "rate", Support: schema.Unsupported, Reason: "Zot's sync has no limit of speed"},
		{Kind: schema.KindReplication, Field: "match.type", Support: schema.Unsupported, Reason: "Zot's sync copies what the tags name, of whatever type"},
		{Kind: schema.KindReplication, Field: "flatten", Support: schema.Unsupported, Reason: "Zot's sync puts namespace before names, or takes the place of what match.repositories begins with"},
		{Kind: schema.KindReplication, Field: "chunks", Support: schema.Unsupported, Reason: "Zot's sync copies blobs whole"},
		{Kind: schema.KindReplication, Field: "single", Support: schema.Unsupported, Reason: "Zot's sync runs one pass of a replication after the other"},

		{Kind: schema.KindGC, Support: schema.Native},
		{Kind: schema.KindGC, Field: "zone", Support: schema.Unsupported, Reason: every},
		{Kind: schema.KindGC, Field: "untagged", Support: schema.Unsupported, Reason: "Zot decides it per repository; set retention.untagged"},
		{Kind: schema.KindGC, Field: "workers", Support: schema.Unsupported, Reason: "Zot collects one repository at a time"},

		{Kind: schema.KindAudit, Support: schema.Native},
		{Kind: schema.KindAudit, Field: "keep", Support: schema.Unsupported, Reason: logFile},
		{Kind: schema.KindAudit, Field: "schedule", Support: schema.Unsupported, Reason: logFile},
		{Kind: schema.KindAudit, Field: "zone", Support: schema.Unsupported, Reason: logFile},
		{Kind: schema.KindAudit, Field: "events", Support: schema.Unsupported, Reason: "Zot's audit log holds every write that succeeded"},

		{Kind: schema.KindMirror, Support: schema.Unsupported, Reason: noContent},
		{Kind: schema.KindArtifact, Support: schema.Unsupported, Reason: noContent},
	}
	if driver == "" {
		return append(table, schema.Capability{Kind: schema.KindWebhook, Support: schema.Unsupported, Reason: "Zot's event sinks know neither namespace nor kind of event, and what ocisync listens to for them is reached for certain by a Zot that it runs; set registry.run.driver to \"process\" or \"docker\""})
	}
	return append(table, schema.Table{
		{Kind: schema.KindWebhook, Support: schema.Emulated, Reason: "Zot's event sinks know neither namespace nor kind of event, and forget what they could not deliver; one of them posts to `ocisync up`, which filters, signs and tries again while it runs"},
		{Kind: schema.KindWebhook, Field: "events.pull", Support: schema.Unsupported, Reason: "Zot tells of pushes and deletes, and of no pull"},
	}...)
}
