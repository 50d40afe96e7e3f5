package distribution

import "github.com/ocisync/ocisync/schema"

// Capabilities is what a mode gets of each kind with Distribution 3 and
// ocisync's token service beside it, as observed on 3.1.2. Distribution itself
// knows no rights, no retention and no limits. What depends on who runs it goes
// by the driver, "" for somebody else.
func Capabilities(driver string) schema.Table {
	const (
		tokens    = "Distribution has accounts without rights; ocisync's token service keeps both"
		later     = "comes with a later version: "
		byTime    = "`ocisync up` and `ocisync auth serve` do it while they run"
		noContent = "ocisync has no engine for content yet"
		byProcess = "ocisync collects for a registry that it runs as a process; run `registry garbage-collect` where it runs"
	)
	table := schema.Table{
		{Kind: schema.KindSettings, Support: schema.Native},
		{Kind: schema.KindUser, Support: schema.Emulated, Reason: tokens},

		{Kind: schema.KindGroup, Support: schema.Emulated, Reason: tokens},
		{Kind: schema.KindGroup, Field: "type", Support: schema.Unsupported, Reason: "the token service knows its own groups only"},
		{Kind: schema.KindGroup, Field: "ldap_dn", Support: schema.Unsupported, Reason: "the token service knows its own groups only"},

		{Kind: schema.KindRemote, Support: schema.Unsupported, Reason: "Distribution speaks to no other registry but the one it is a proxy of, which is the setting proxy"},
		{Kind: schema.KindScanner, Support: schema.Unsupported, Reason: "Distribution scans nothing"},
		{Kind: schema.KindPreheat, Support: schema.Unsupported, Reason: "Distribution distributes nothing peer to peer"},

		{Kind: schema.KindNamespace, Support: schema.Emulated, Reason: "Distribution has repositories only; ocisync keeps what they have in common"},
		{Kind: schema.KindNamespace, Field: "proxy_of", Support: schema.Unsupported, Reason: "Distribution is a proxy as a whole or not at all, by the setting proxy"},
		{Kind: schema.KindNamespace, Field: "on_delete.archive", Support: schema.Unsupported, Reason: "comes with a later version: nothing locks a namespace that leaves the file yet"},
		{Kind: schema.KindNamespace, Field: "on_delete.purge", Support: schema.Unsupported, Reason: "comes with a later version: nothing deletes the content of a namespace with it yet"},

		{Kind: schema.KindAccess, Support: schema.Emulated, Reason: tokens},
		{Kind: schema.KindAccess, Field: "authenticated_group", Support: schema.Emulated, Reason: "kept, and not needed: authenticated means every user of the registry"},
		{Kind: schema.KindAccess, Field: "conditions", Support: schema.Unsupported, Reason: "expressions are Zot's"},

		{Kind: schema.KindQuota, Support: schema.Emulated, Reason: "Distribution limits nothing; `ocisync up`, `ocisync auth serve` (or `ocisync run quota`) measures what lies in its directory on this host, every minute, and while a quota is used up only admin users get tokens to push: until the next measuring, and the end of tokens given before, five minutes, it may be exceeded"},
		{Kind: schema.KindRetention, Support: schema.Emulated, Reason: "Distribution has none; `ocisync run retention` deletes tags through it, by the time of their link where content lies in a directory of this host: elsewhere no push time is known, and every tag stays"},
		{Kind: schema.KindRetention, Field: "untagged", Support: schema.Unsupported, Reason: "Distribution lists no manifests without a tag; gc.untagged takes them"},
		{Kind: schema.KindRetention, Field: "schedule", Support: schema.Emulated, Reason: byTime},
		{Kind: schema.KindRetention, Field: "zone", Support: schema.Emulated, Reason: byTime},
		{Kind: schema.KindImmutable, Support: schema.Unsupported, Reason: "a token gives push to a whole repository and cannot tell a new tag from an old one"},
		{Kind: schema.KindScan, Support: schema.Unsupported, Reason: "Distribution scans nothing"},

		{Kind: schema.KindTrust, Support: schema.Unsupported, Reason: later + "Distribution knows no signatures, and ocisync checks none yet"},

		{Kind: schema.KindLabel, Support: schema.Unsupported, Reason: "Distribution has no labels"},
		{Kind: schema.KindRepository, Support: schema.Unsupported, Reason: "Distribution has nothing to set on a repository"},

		{Kind: schema.KindWebhook, Support: schema.Unsupported, Reason: later + "Distribution notifies of all repositories and forgets what it could not deliver, and nothing of ocisync's takes that up yet"},

		{Kind: schema.KindRobot, Support: schema.Emulated, Reason: tokens},
		{Kind: schema.KindRobot, Field: "permissions", Support: schema.Unsupported, Reason: "there are no rights beyond pull, push, delete and admin"},

		{Kind: schema.KindReplication, Support: schema.Unsupported, Reason: "Distribution copies nothing"},

		{Kind: schema.KindAudit, Support: schema.Unsupported, Reason: "Distribution records no deeds; the token service's log has a line per grant"},
		{Kind: schema.KindMirror, Support: schema.Unsupported, Reason: noContent},
		{Kind: schema.KindArtifact, Support: schema.Unsupported, Reason: noContent},
	}
	if driver != schema.DriverProcess {
		return append(table, schema.Capability{Kind: schema.KindGC, Support: schema.Unsupported, Reason: byProcess})
	}
	return append(table, schema.Table{
		{Kind: schema.KindGC, Support: schema.Emulated, Reason: "Distribution collects nothing by itself; `ocisync run gc` has its program do it, with the registry restarted read-only meanwhile, where ocisync runs it as a process; fallback tags of referrers go a day old, once their subject is gone"},
		{Kind: schema.KindGC, Field: "schedule", Support: schema.Emulated, Reason: byTime},
		{Kind: schema.KindGC, Field: "zone", Support: schema.Emulated, Reason: byTime},
		{Kind: schema.KindGC, Field: "delay", Support: schema.Unsupported, Reason: "nothing is pushed while ocisync collects, so nothing needs time"},
		{Kind: schema.KindGC, Field: "workers", Support: schema.Unsupported, Reason: "Distribution collects in one go"},
	}...)
}
