package harbor

import (
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// Capabilities is what Harbor takes of each kind, as observed on 2.15.2.
func Capabilities() schema.Table {
	const (
		utc       = "Harbor's schedules are in UTC"
		renewal   = "Harbor only lets an account expire; ocisync makes the next one before, takes the old one away with the first run after the overlap, and notes how far it is at the end of the accounts' descriptions"
		noContent = "ocisync has no engine for content yet"
	)
	return schema.Table{
		{Kind: schema.KindSettings, Support: schema.Native, Reason: "a setting that is an object in a text, as banner_message and oidc_extra_redirect_parms are, is a table: its keys are managed one by one, and others that somebody added stay and are no drift"},
		{Kind: schema.KindUser, Support: schema.Native},
		{Kind: schema.KindUser, Field: "password", Support: schema.Native, Reason: "Harbor shows nothing of it: one that the mode changes is set, one that was changed in Harbor by hand is not seen"},

		{Kind: schema.KindGroup, Support: schema.Native},
		{Kind: schema.KindGroup, Field: "users", Support: schema.Unsupported, Reason: "who is in a group is said by LDAP, OIDC or the authenticating proxy, not by Harbor"},

		{Kind: schema.KindRemote, Support: schema.Native},
		{Kind: schema.KindRemote, Field: "type", Support: schema.Native, Reason: "oci, zot and distribution are one type; which others there are this Harbor says; of another type it is made anew"},
		{Kind: schema.KindRemote, Field: "url", Support: schema.Native, Reason: "since Harbor 2.16 a secret goes to no other url than the one it was given for: it is sent along, and where the mode has none a change of url is refused"},
		{Kind: schema.KindRemote, Field: "tls.ca", Support: schema.Native, Reason: "since Harbor 2.15"},
		{Kind: schema.KindRemote, Field: "tls.cert", Support: schema.Unsupported, Reason: "Harbor shows other registries no client certificate"},
		{Kind: schema.KindRemote, Field: "tls.key", Support: schema.Unsupported, Reason: "Harbor shows other registries no client certificate"},

		{Kind: schema.KindScanner, Support: schema.Native},
		{Kind: schema.KindPreheat, Support: schema.Native},
		{Kind: schema.KindPreheat, Field: "user", Support: schema.Native, Reason: "Harbor keeps the login whole, and shows nothing of it since 2.14.4 and 2.15.1"},

		{Kind: schema.KindNamespace, Support: schema.Native},
		{Kind: schema.KindNamespace, Field: "description", Support: schema.Emulated, Reason: "a Harbor project has no description: it stands in the file alone, and is never compared"},
		{Kind: schema.KindNamespace, Field: "proxy.rate", Support: schema.Native, Reason: "of namespaces with proxy_of, since Harbor 2.12; in kilobits, of 128 bytes"},
		{Kind: schema.KindNamespace, Field: "proxy.connections", Support: schema.Native, Reason: "of namespaces with proxy_of, since Harbor 2.14.1"},
		{Kind: schema.KindNamespace, Field: "proxy.serve_gone", Support: schema.Native, Reason: "of namespaces with proxy_of, since Harbor 2.15.1"},
		{Kind: schema.KindNamespace, Field: "proxy.referrers", Support: schema.Native, Reason: "of namespaces with proxy_of, since Harbor 2.16"},
		{Kind: schema.KindNamespace, Field: "proxy.repositories", Support: schema.Native, Reason: "of namespaces with proxy_of, since Harbor 2.16"},
		{Kind: schema.KindNamespace, Field: "proxy.repositories_regex", Support: schema.Native, Reason: "of namespaces with proxy_of, since Harbor 2.16; the whole name must match"},
		{Kind: schema.KindNamespace, Field: "on_delete.archive", Support: schema.Emulated, Reason: "Harbor archives no project; ocisync makes it private, lowers its quota to a byte, makes all tags immutable, and takes away its retention, its members, its robots and what robots of the system may do in it; robots of all projects keep their access, and those that may change a project can undo it"},
		{Kind: schema.KindNamespace, Field: "on_delete.purge", Support: schema.Emulated, Reason: "Harbor deletes no project with repositories; ocisync deletes those before, and the rules of immutable tags that keep them"},

		{Kind: schema.KindAccess, Support: schema.Native, Reason: "a member has a role, which allows more than the rights that are declared; a plan tells what: with push it is retention too, and with it deletion of tags"},
		{Kind: schema.KindAccess, Field: "authenticated", Support: schema.Emulated, Reason: "Harbor has no rights for every account that logs in; they go to access.authenticated_group or to each declared user"},
		{Kind: schema.KindAccess, Field: "authenticated_group", Support: schema.Emulated, Reason: "Harbor has no rights for every account that logs in; ocisync gives them to this group"},
		{Kind: schema.KindAccess, Field: "conditions", Support: schema.Unsupported, Reason: "expressions are Zot's"},

		{Kind: schema.KindQuota, Support: schema.Native},

		{Kind: schema.KindRetention, Support: schema.Native},
		{Kind: schema.KindRetention, Field: "keep", Support: schema.Native, Reason: "at most 15 rules, each of one condition and in whole days; ! before a glob is Harbor's all but that; tagged_only is its untagged of a rule"},
		{Kind: schema.KindRetention, Field: "zone", Support: schema.Unsupported, Reason: utc},

		{Kind: schema.KindImmutable, Support: schema.Native, Reason: "no rule protects what has no tag; Harbor makes none that is off, so that one with enabled = false holds for the moment until it is switched off"},

		{Kind: schema.KindScan, Support: schema.Native},
		{Kind: schema.KindScan, Field: "sbom", Support: schema.Native, Reason: "since Harbor 2.11"},
		{Kind: schema.KindScan, Field: "allow", Support: schema.Emulated, Reason: "Harbor has one end for the whole list, which is then the latest, and no reasons; the first apply after an entry's own day takes it out"},
		{Kind: schema.KindScan, Field: "zone", Support: schema.Unsupported, Reason: utc},
		{Kind: schema.KindScan, Field: "update", Support: schema.Unsupported, Reason: "a scanner renews its database by its own settings"},

		{Kind: schema.KindTrust, Support: schema.Native},
		{Kind: schema.KindTrust, Field: "required", Support: schema.Native, Reason: "a signature of Cosign"},
		{Kind: schema.KindTrust, Field: "notation", Support: schema.Native, Reason: "of namespaces without proxy_of"},
		{Kind: schema.KindTrust, Field: "keys", Support: schema.Emulated, Reason: "Harbor checks only that there is a signature; whose it is ocisync checks of what it copies there by mirrors"},
		{Kind: schema.KindTrust, Field: "identities", Support: schema.Emulated, Reason: "as keys; " + providers.Keyless},
		{Kind: schema.KindTrust, Field: "root", Support: schema.Emulated, Reason: "as identities"},

		{Kind: schema.KindLabel, Support: schema.Native},
		{Kind: schema.KindRepository, Support: schema.Native},
		{Kind: schema.KindRepository, Field: "description", Support: schema.Native, Reason: "Harbor makes a repository with the first push to it; until then it waits"},
		{Kind: schema.KindWebhook, Support: schema.Native},
		{Kind: schema.KindWebhook, Field: "auth", Support: schema.Native, Reason: "Harbor shows it to who may read webhooks; it is compared, and neither kept nor told"},
		{Kind: schema.KindWebhook, Field: "sign", Support: schema.Unsupported, Reason: "Harbor sends auth as a header and signs nothing"},

		{Kind: schema.KindPreheatPolicy, Support: schema.Native, Reason: "of how vulnerable or signed an image is Harbor takes what the project says, and not the policy: scan.block of the namespace"},
		{Kind: schema.KindPreheatPolicy, Field: "scope", Support: schema.Native, Reason: "of instances of Dragonfly, since Harbor 2.13"},

		{Kind: schema.KindRobot, Support: schema.Native},
		{Kind: schema.KindRobot, Field: "expires", Support: schema.Native, Reason: "in whole days"},
		{Kind: schema.KindRobot, Field: "access", Support: schema.Native, Reason: "\"*\" reaches ocisync's own project as well: Harbor can leave none out"},
		{Kind: schema.KindRobot, Field: "permissions", Support: schema.Native, Reason: "those that this Harbor names; on quotas since 2.10.1, on bills of material since 2.11, on users, groups, members and robots since 2.12: before, registry.admin does what is about those"},
		{Kind: schema.KindRobot, Field: "renew", Support: schema.Emulated, Reason: renewal},
		{Kind: schema.KindRobot, Field: "overlap", Support: schema.Emulated, Reason: renewal},
		{Kind: schema.KindRobot, Field: "secret.deliver", Support: schema.Emulated, Reason: "Harbor shows a secret once; ocisync takes it where it is wanted"},

		{Kind: schema.KindReplication, Support: schema.Native},
		{Kind: schema.KindReplication, Field: "match.type", Support: schema.Native, Reason: "Harbor keeps it and shows it; by their source, Harbors from 2.10 to 2.16 copy every type whatever it says"},
		{Kind: schema.KindReplication, Field: "chunks", Support: schema.Native, Reason: "between two Harbors"},
		{Kind: schema.KindReplication, Field: "single", Support: schema.Native, Reason: "since Harbor 2.14; not with the trigger push"},

		{Kind: schema.KindGC, Support: schema.Native},
		{Kind: schema.KindGC, Field: "untagged", Support: schema.Native, Reason: "Harbor keeps it with a schedule only"},
		{Kind: schema.KindGC, Field: "workers", Support: schema.Native, Reason: "10 at the most, 5 before Harbor 2.13; Harbor keeps it with a schedule only"},
		{Kind: schema.KindGC, Field: "zone", Support: schema.Unsupported, Reason: utc},
		{Kind: schema.KindGC, Field: "delay", Support: schema.Unsupported, Reason: "Harbor's API has no such setting"},

		{Kind: schema.KindAudit, Support: schema.Native},
		{Kind: schema.KindAudit, Field: "keep", Support: schema.Native, Reason: "in whole hours; without a schedule nothing goes"},
		{Kind: schema.KindAudit, Field: "events", Support: schema.Native, Reason: "by the names that this Harbor has: create, delete and pull before 2.13"},
		{Kind: schema.KindAudit, Field: "log", Support: schema.Unsupported, Reason: "Harbor keeps its audit log in its database; it forwards it by the setting audit_log_forward_endpoint"},
		{Kind: schema.KindAudit, Field: "zone", Support: schema.Unsupported, Reason: utc},

		{Kind: schema.KindMirror, Support: schema.Unsupported, Reason: noContent},
		{Kind: schema.KindArtifact, Support: schema.Unsupported, Reason: noContent},
	}
}
