// Package harbor holds what is known of Harbor, the registry that is all API:
// so far what it can do, in [Capabilities].
package harbor

import "github.com/ocisync/ocisync/schema"

// Capabilities is what Harbor takes of each kind, as observed on 2.15.2.
func Capabilities() schema.Table {
	const (
		utc       = "Harbor's schedules are in UTC"
		renewal   = "Harbor only lets an account expire; ocisync makes the next one before, and takes the old one away after the overlap"
		noContent = "ocisync has no engine for content yet"
	)
	return schema.Table{
		{Kind: schema.KindSettings, Support: schema.Native},
		{Kind: schema.KindUser, Support: schema.Native},

		{Kind: schema.KindGroup, Support: schema.Native},
		{Kind: schema.KindGroup, Field: "users", Support: schema.Unsupported, Reason: "who is in a group is said by LDAP, OIDC or the authenticating proxy, not by Harbor"},

		{Kind: schema.KindRemote, Support: schema.Native},
		{Kind: schema.KindRemote, Field: "tls.cert", Support: schema.Unsupported, Reason: "Harbor shows other registries no client certificate"},
		{Kind: schema.KindRemote, Field: "tls.key", Support: schema.Unsupported, Reason: "Harbor shows other registries no client certificate"},

		{Kind: schema.KindScanner, Support: schema.Native},
		{Kind: schema.KindPreheat, Support: schema.Native},

		{Kind: schema.KindNamespace, Support: schema.Native},
		{Kind: schema.KindNamespace, Field: "description", Support: schema.Emulated, Reason: "a Harbor project has no description; ocisync keeps it"},
		{Kind: schema.KindNamespace, Field: "on_delete.archive", Support: schema.Unsupported, Reason: "comes with a later version: nothing locks a namespace that leaves the file yet"},
		{Kind: schema.KindNamespace, Field: "on_delete.purge", Support: schema.Unsupported, Reason: "comes with a later version: nothing deletes the content of a namespace with it yet"},

		{Kind: schema.KindAccess, Support: schema.Native},
		{Kind: schema.KindAccess, Field: "authenticated", Support: schema.Emulated, Reason: "Harbor has no rights for every account that logs in; they go to access.authenticated_group or to each declared user"},
		{Kind: schema.KindAccess, Field: "authenticated_group", Support: schema.Emulated, Reason: "Harbor has no rights for every account that logs in; ocisync gives them to this group"},
		{Kind: schema.KindAccess, Field: "conditions", Support: schema.Unsupported, Reason: "expressions are Zot's"},

		{Kind: schema.KindQuota, Support: schema.Native},

		{Kind: schema.KindRetention, Support: schema.Native},
		{Kind: schema.KindRetention, Field: "zone", Support: schema.Unsupported, Reason: utc},

		{Kind: schema.KindImmutable, Support: schema.Native},

		{Kind: schema.KindScan, Support: schema.Native},
		{Kind: schema.KindScan, Field: "allow", Support: schema.Emulated, Reason: "Harbor has one end date for the whole list and no reasons; ocisync keeps those of each entry, and takes out what has ended"},
		{Kind: schema.KindScan, Field: "zone", Support: schema.Unsupported, Reason: utc},
		{Kind: schema.KindScan, Field: "update", Support: schema.Unsupported, Reason: "a scanner renews its database by its own settings"},

		{Kind: schema.KindTrust, Support: schema.Native},
		{Kind: schema.KindTrust, Field: "keys", Support: schema.Emulated, Reason: "Harbor checks only that there is a signature; ocisync checks whose when it mirrors, pushes and pulls"},

		{Kind: schema.KindLabel, Support: schema.Native},
		{Kind: schema.KindRepository, Support: schema.Native},
		{Kind: schema.KindWebhook, Support: schema.Native},

		{Kind: schema.KindRobot, Support: schema.Native},
		{Kind: schema.KindRobot, Field: "renew", Support: schema.Emulated, Reason: renewal},
		{Kind: schema.KindRobot, Field: "overlap", Support: schema.Emulated, Reason: renewal},
		{Kind: schema.KindRobot, Field: "secret.deliver", Support: schema.Emulated, Reason: "Harbor shows a secret once; ocisync takes it where it is wanted"},

		{Kind: schema.KindReplication, Support: schema.Native},

		{Kind: schema.KindGC, Support: schema.Native},
		{Kind: schema.KindGC, Field: "zone", Support: schema.Unsupported, Reason: utc},
		{Kind: schema.KindGC, Field: "delay", Support: schema.Unsupported, Reason: "Harbor's API has no such setting"},

		{Kind: schema.KindAudit, Support: schema.Native},
		{Kind: schema.KindAudit, Field: "log", Support: schema.Unsupported, Reason: "Harbor keeps its audit log in its database; it forwards it by the setting audit_log_forward_endpoint"},
		{Kind: schema.KindAudit, Field: "zone", Support: schema.Unsupported, Reason: utc},

		{Kind: schema.KindMirror, Support: schema.Unsupported, Reason: noContent},
		{Kind: schema.KindArtifact, Support: schema.Unsupported, Reason: noContent},
	}
}
