package embedded

import (
	registry "github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/schema"
)

// Capabilities implements [providers.Provider].
func (p *Provider) Capabilities() schema.Table { return p.table }

// Capabilities is what the embedded registry can do.
func Capabilities() schema.Table {
	const later = "comes with a later version: the embedded registry "
	t := schema.Table{
		{Kind: schema.KindUser, Support: schema.Native},
		{Kind: schema.KindGroup, Support: schema.Native},
		{Kind: schema.KindGroup, Field: "type", Support: schema.Unsupported, Reason: "the embedded registry has local groups only"},
		{Kind: schema.KindGroup, Field: "ldap_dn", Support: schema.Unsupported, Reason: "the embedded registry speaks no LDAP"},
		{Kind: schema.KindNamespace, Support: schema.Native},
		{Kind: schema.KindNamespace, Field: "proxy_of", Support: schema.Unsupported, Reason: "the embedded registry is no pull-through cache; use a mirror"},
		{Kind: schema.KindNamespace, Field: "proxy", Support: schema.Unsupported, Reason: "the embedded registry is no pull-through cache; use a mirror"},
		{Kind: schema.KindNamespace, Field: "on_delete.archive", Support: schema.Unsupported, Reason: "comes with a later version: nothing locks a namespace that leaves the file yet"},
		{Kind: schema.KindNamespace, Field: "on_delete.purge", Support: schema.Unsupported, Reason: "comes with a later version: nothing deletes the content of a namespace with it yet"},
		{Kind: schema.KindAccess, Support: schema.Native},
		{Kind: schema.KindAccess, Field: "authenticated_group", Support: schema.Emulated, Reason: "kept, and not needed: authenticated means every user of the registry"},
		{Kind: schema.KindSettings, Support: schema.Unsupported, Reason: "the embedded registry has no native settings"},
		{Kind: schema.KindSettings, Field: "values." + registry.OutsidePath, Support: schema.Native},
		{Kind: schema.KindWebhook, Support: schema.Native},
		{Kind: schema.KindRobot, Support: schema.Native},
		{Kind: schema.KindRobot, Field: "permissions", Support: schema.Unsupported, Reason: "the embedded registry has the rights pull, push, delete and admin alone"},
		{Kind: schema.KindAudit, Support: schema.Native},
		{Kind: schema.KindAudit, Field: "keep", Support: schema.Native, Reason: "nothing younger goes, and with never nothing; left out, the log and 20 files of 10 MiB stay; what strangers are refused is summed up, so that they cannot fill the disk"},
		{Kind: schema.KindAudit, Field: "events", Support: schema.Unsupported, Reason: "the embedded registry records every write and every refusal"},
		{Kind: schema.KindAudit, Field: "schedule", Support: schema.Unsupported, Reason: "the embedded registry drops old records when it begins a new file, by size or time"},
		{Kind: schema.KindAudit, Field: "zone", Support: schema.Unsupported, Reason: "the embedded registry drops old records by no schedule"},
		{Kind: schema.KindAccess, Field: "conditions", Support: schema.Unsupported, Reason: "conditions are Zot's"},
		{Kind: schema.KindQuota, Support: schema.Native, Reason: "deleting a manifest gives space back at once, deleting a tag with the next collection; uploads that are not finished count"},
		{Kind: schema.KindRetention, Support: schema.Native, Reason: "removes tags, and their content goes with the next collection"},
		{Kind: schema.KindRetention, Field: "untagged", Support: schema.Native, Reason: "what a tag was deleted of goes with collection in any case; this is for what never had a tag, or lost it to another"},
		{Kind: schema.KindImmutable, Support: schema.Native, Reason: "but for the tags of referrers, sha256-… and .sig, .att, .sbom of a digest, which clients overwrite to add to them"},
		{Kind: schema.KindGC, Support: schema.Native, Reason: "runs by gc.schedule, and without one only by ocisync run gc"},
		{Kind: schema.KindGC, Field: "untagged", Support: schema.Native, Reason: "what a tag was deleted of goes in any case; this is for what never had a tag, or lost it to another"},
		{Kind: schema.KindGC, Field: "workers", Support: schema.Unsupported, Reason: "the embedded registry collects by one worker, a moment at a time beside pushes"},
	}
	for _, row := range []struct {
		kind schema.Kind
		lack string
	}{
		{schema.KindRemote, "speaks to no other registry yet"},
		{schema.KindScanner, "has no vulnerability scanner yet"},
		{schema.KindPreheat, "has no peer-to-peer distribution yet"},
		{schema.KindPreheatPolicy, "has no peer-to-peer distribution yet"},
		{schema.KindScan, "has no vulnerability scanning yet"},
		{schema.KindTrust, "checks no signatures yet"},
		{schema.KindLabel, "has no labels yet"},
		{schema.KindRepository, "keeps nothing about single repositories yet"},
		{schema.KindReplication, "has no replication yet"},
		{schema.KindMirror, "is filled by no mirror yet"},
		{schema.KindArtifact, "is given no artifacts yet"},
	} {
		t = append(t, schema.Capability{Kind: row.kind, Support: schema.Unsupported, Reason: later + row.lack})
	}
	return t
}
