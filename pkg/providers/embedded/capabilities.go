package embedded

import (
	registry "github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/schema"
)

// Capabilities implements [providers.Provider].
func (p *Provider) Capabilities() schema.Table { return Capabilities() }

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
		{Kind: schema.KindAccess, Support: schema.Native},
		{Kind: schema.KindAccess, Field: "authenticated_group", Support: schema.Emulated, Reason: "kept, and not needed: authenticated means every user of the registry"},
		{Kind: schema.KindSettings, Support: schema.Unsupported, Reason: "the embedded registry has no native settings"},
		{Kind: schema.KindSettings, Field: "values." + registry.OutsidePath, Support: schema.Native},
		{Kind: schema.KindAccess, Field: "conditions", Support: schema.Unsupported, Reason: "conditions are Zot's"},
	}
	for _, row := range []struct {
		kind schema.Kind
		lack string
	}{
		{schema.KindRemote, "speaks to no other registry yet"},
		{schema.KindScanner, "has no vulnerability scanner yet"},
		{schema.KindPreheat, "has no peer-to-peer distribution yet"},
		{schema.KindQuota, "has no quota yet"},
		{schema.KindRetention, "has no retention yet"},
		{schema.KindImmutable, "has no immutable tags yet"},
		{schema.KindScan, "has no vulnerability scanning yet"},
		{schema.KindTrust, "checks no signatures yet"},
		{schema.KindLabel, "has no labels yet"},
		{schema.KindRepository, "keeps nothing about single repositories yet"},
		{schema.KindWebhook, "has no webhooks yet"},
		{schema.KindRobot, "has no robots yet"},
		{schema.KindReplication, "has no replication yet"},
		{schema.KindGC, "has no garbage collection yet"},
		{schema.KindAudit, "has no audit log yet"},
		{schema.KindMirror, "is filled by no mirror yet"},
		{schema.KindArtifact, "is given no artifacts yet"},
	} {
		t = append(t, schema.Capability{Kind: row.kind, Support: schema.Unsupported, Reason: later + row.lack})
	}
	return t
}
