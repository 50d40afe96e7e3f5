package distribution

import "github.com/ocisync/ocisync/schema"

// Capabilities is what a mode gets of each kind with Distribution 3, as observed
// on 3.1.2, and ocisync's token service beside it or, with registry.files.htpasswd,
// its own accounts. Distribution itself knows no rights, no retention and no
// limits. What depends on who runs it goes by the driver, "" for somebody else.
func Capabilities(driver string, htpasswd bool) schema.Table {
	table := common()
	if htpasswd {
		table = append(table, inFile()...)
	} else {
		table = append(table, byTokens()...)
	}
	return append(append(table, events(driver, htpasswd)), collection(driver, htpasswd)...)
}

const (
	later     = "comes with a later version: "
	byTime    = "`ocisync up` and `ocisync auth serve` do it while they run"
	noContent = "ocisync has no engine for content yet"
	noTime    = "nothing of ocisync's runs beside this registry; have a timer of the system run `ocisync run`"
)

// byTokens is what the token service adds.
func byTokens() schema.Table {
	const (
		tokens   = "Distribution has accounts without rights; ocisync's token service keeps both"
		ownUsers = "the token service knows its own groups only"
	)
	return schema.Table{
		{Kind: schema.KindUser, Support: schema.Emulated, Reason: tokens + "; registry.files.htpasswd has Distribution keep to its own accounts instead"},
		{Kind: schema.KindGroup, Support: schema.Emulated, Reason: tokens},
		{Kind: schema.KindGroup, Field: "type", Support: schema.Unsupported, Reason: ownUsers},
		{Kind: schema.KindGroup, Field: "ldap_dn", Support: schema.Unsupported, Reason: ownUsers},
		{Kind: schema.KindAccess, Support: schema.Emulated, Reason: tokens},
		{Kind: schema.KindAccess, Field: "authenticated_group", Support: schema.Emulated, Reason: "kept, and not needed: authenticated means every user of the registry"},
		{Kind: schema.KindAccess, Field: "conditions", Support: schema.Unsupported, Reason: "expressions are Zot's"},
		{Kind: schema.KindRobot, Support: schema.Emulated, Reason: tokens},
		{Kind: schema.KindRobot, Field: "permissions", Support: schema.Unsupported, Reason: "there are no rights beyond pull, push, delete and admin"},
		{Kind: schema.KindRetention, Field: "schedule", Support: schema.Emulated, Reason: byTime},
		{Kind: schema.KindRetention, Field: "zone", Support: schema.Emulated, Reason: byTime},
		{Kind: schema.KindQuota, Support: schema.Emulated, Reason: "Distribution limits nothing; `ocisync up`, `ocisync auth serve` (or `ocisync run quota`) measures what lies in its directory on this host, every minute, and while a quota is used up only admin users get tokens to push: until the next measuring, and the end of tokens given before, five minutes, it may be exceeded"},
	}
}

// inFile is what an htpasswd file adds.
func inFile() schema.Table {
	const line = "a line of an htpasswd file has a name and a password"
	table := schema.Table{
		{Kind: schema.KindUser, Support: schema.Native, Reason: "an account of registry.files.htpasswd, hashed by bcrypt, which takes 72 bytes of a password at most; it may do everything"},
		{Kind: schema.KindGroup, Support: schema.Unsupported, Reason: noRights},
		{Kind: schema.KindAccess, Support: schema.Emulated, Reason: "that everybody who logs in may pull, push and delete, which is how it is; anything else is refused"},
		{Kind: schema.KindAccess, Field: "conditions", Support: schema.Unsupported, Reason: "expressions are Zot's"},
		{Kind: schema.KindRobot, Support: schema.Emulated, Reason: "accounts of registry.files.htpasswd; those that have expired leave it with `ocisync run robots`, or the next apply"},
		{Kind: schema.KindRobot, Field: "access", Support: schema.Unsupported, Reason: noRights},
		{Kind: schema.KindRobot, Field: "permissions", Support: schema.Unsupported, Reason: "there are no rights beyond pull, push, delete and admin"},
		{Kind: schema.KindRetention, Field: "schedule", Support: schema.Unsupported, Reason: noTime},
		{Kind: schema.KindRetention, Field: "zone", Support: schema.Unsupported, Reason: noTime},
		{Kind: schema.KindQuota, Support: schema.Unsupported, Reason: "Distribution limits nothing, and push cannot be taken from accounts that may do everything"},
	}
	for _, field := range []string{"email", "full_name", "comment"} {
		table = append(table, schema.Capability{Kind: schema.KindUser, Field: field, Support: schema.Unsupported, Reason: line})
	}
	for _, field := range []string{"anonymous", "authenticated_group", "users", "groups"} {
		table = append(table, schema.Capability{Kind: schema.KindAccess, Field: field, Support: schema.Unsupported, Reason: noRights})
	}
	return append(table, schema.Capability{Kind: schema.KindUser, Field: "admin", Support: schema.Unsupported, Reason: noRights})
}

// common is what goes by neither accounts nor driver.
func common() schema.Table {
	return schema.Table{
		{Kind: schema.KindSettings, Support: schema.Native},
		{Kind: schema.KindRemote, Support: schema.Unsupported, Reason: "Distribution speaks to no other registry but the one it is a proxy of, which is the setting proxy"},
		{Kind: schema.KindScanner, Support: schema.Unsupported, Reason: "Distribution scans nothing"},
		{Kind: schema.KindPreheat, Support: schema.Unsupported, Reason: "Distribution distributes nothing peer to peer"},
		{Kind: schema.KindPreheatPolicy, Support: schema.Unsupported, Reason: "Distribution distributes nothing peer to peer"},
		{Kind: schema.KindNamespace, Support: schema.Emulated, Reason: "Distribution has repositories only; ocisync keeps what they have in common"},
		{Kind: schema.KindNamespace, Field: "proxy_of", Support: schema.Unsupported, Reason: "Distribution is a proxy as a whole or not at all, by the setting proxy"},
		{Kind: schema.KindNamespace, Field: "proxy", Support: schema.Unsupported, Reason: "Distribution is a proxy as a whole or not at all, by the setting proxy"},
		{Kind: schema.KindNamespace, Field: "on_delete.archive", Support: schema.Unsupported, Reason: "comes with a later version: nothing locks a namespace that leaves the file yet"},
		{Kind: schema.KindNamespace, Field: "on_delete.purge", Support: schema.Unsupported, Reason: "comes with a later version: nothing deletes the content of a namespace with it yet"},
		{Kind: schema.KindRetention, Support: schema.Emulated, Reason: "Distribution has none; `ocisync run retention` deletes tags through it, by the time of their link where content lies in a directory of this host: elsewhere no push time is known, and every tag stays"},
		{Kind: schema.KindRetention, Field: "untagged", Support: schema.Emulated, Reason: "manifests that no tag reaches, an hour after they were pushed, by the links where content lies in a directory of this host; elsewhere it is refused. gc.untagged takes them in all repositories and at any age"},
		{Kind: schema.KindImmutable, Support: schema.Unsupported, Reason: "a token gives push to a whole repository and cannot tell a new tag from an old one"},
		{Kind: schema.KindScan, Support: schema.Unsupported, Reason: "Distribution scans nothing"},
		{Kind: schema.KindTrust, Support: schema.Unsupported, Reason: later + "Distribution knows no signatures, and ocisync checks none yet"},
		{Kind: schema.KindLabel, Support: schema.Unsupported, Reason: "Distribution has no labels"},
		{Kind: schema.KindRepository, Support: schema.Unsupported, Reason: "Distribution has nothing to set on a repository"},
		{Kind: schema.KindReplication, Support: schema.Unsupported, Reason: "Distribution copies nothing"},
		{Kind: schema.KindAudit, Support: schema.Unsupported, Reason: "Distribution records no deeds; the token service's log has a line per grant"},
		{Kind: schema.KindMirror, Support: schema.Unsupported, Reason: noContent},
		{Kind: schema.KindArtifact, Support: schema.Unsupported, Reason: noContent},
	}
}

// events is who hears what happens.
func events(driver string, htpasswd bool) schema.Capability {
	const forgets = "Distribution notifies of all repositories and forgets what it could not deliver"
	switch {
	case htpasswd:
		return schema.Capability{Kind: schema.KindWebhook, Support: schema.Unsupported, Reason: forgets + ", and nothing of ocisync's runs beside this registry; leave out registry.files.htpasswd"}
	case driver == "":
		return schema.Capability{Kind: schema.KindWebhook, Support: schema.Unsupported, Reason: forgets + ", and what ocisync listens to for that is reached for certain by a registry that it runs; set registry.run.driver to \"process\" or \"docker\""}
	}
	return schema.Capability{Kind: schema.KindWebhook, Support: schema.Emulated, Reason: forgets + "; it notifies `ocisync up`, which filters, signs and tries again while it runs"}
}

// collection is what is done about what no tag needs.
func collection(driver string, htpasswd bool) schema.Table {
	if driver != schema.DriverProcess && driver != schema.DriverDocker {
		return schema.Table{{Kind: schema.KindGC, Support: schema.Unsupported, Reason: "ocisync collects for a registry that it runs; run `registry garbage-collect` where it runs"}}
	}
	table := schema.Table{
		{Kind: schema.KindGC, Support: schema.Emulated, Reason: "Distribution collects nothing by itself; `ocisync run gc` has its program do it, in its container if it has one, with the registry restarted read-only meanwhile; tags for referrers, cosign's too, go a day old, once their subject was deleted from their repository: of content in a directory of this host, and while the registry runs; what is about something that was never there stays"},
		{Kind: schema.KindGC, Field: "schedule", Support: schema.Emulated, Reason: byTime},
		{Kind: schema.KindGC, Field: "zone", Support: schema.Emulated, Reason: byTime},
		{Kind: schema.KindGC, Field: "untagged", Support: schema.Emulated, Reason: "in all repositories, and whatever their age; retention.untagged is for one namespace, and waits an hour"},
		{Kind: schema.KindGC, Field: "delay", Support: schema.Unsupported, Reason: "nothing is pushed while ocisync collects, so nothing needs time"},
		{Kind: schema.KindGC, Field: "workers", Support: schema.Unsupported, Reason: "Distribution collects in one go"},
	}
	if htpasswd {
		table[1] = schema.Capability{Kind: schema.KindGC, Field: "schedule", Support: schema.Unsupported, Reason: noTime}
		table[2] = schema.Capability{Kind: schema.KindGC, Field: "zone", Support: schema.Unsupported, Reason: noTime}
	}
	return table
}
