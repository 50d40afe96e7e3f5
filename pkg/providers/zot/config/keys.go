package config

import (
	"slices"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// Type is what may stand at a key.
type Type string

// The types.
const (
	Text     Type = "a text"
	Texts    Type = "a list of texts"
	Boolean  Type = "true or false"
	Integer  Type = "a whole number"
	Duration Type = `a duration such as "1h30m"`
	Port     Type = "a port"
	Level    Type = "a level of logging"
	Driver   Type = "s3, gcs or azure"  // the last two are later than 2.1.6
	Free     Type = "a table"           // of a driver; its keys are not all known
	Table    Type = "a table of keys"   // no row has it
	Tables   Type = "a list of tables"  // no row has it
	Named    Type = "a table of tables" // no row has it
)

// Reload is what a change of a key takes to be in force. More is larger.
type Reload int

// What it takes.
const (
	// Live: a running Zot reads it from the file within moments.
	Live Reload = iota
	// Restart: it is in force after the next start. A running Zot goes on as
	// before.
	Restart
	// Stopped: Zot must not run while it is written: what a running one makes
	// of it is worse than what was and what shall be.
	Stopped
)

// Key is one native setting.
type Key struct {
	// Path is dotted; "*" stands for any name, and "[]" follows a list of tables.
	Path     string
	Type     Type
	Versions string // of Zot that take it, a semver range; "" for all from 2.1.6 on
	Reload   Reload // of another value where both have one; see [Compare] for the rest
}

// Owner is the kind that speaks of the key, so that it is no setting.
func (k Key) Owner() (schema.Kind, bool) {
	return schema.OwnedSetting(schema.TypeZot, strings.ReplaceAll(k.Path, "[]", ""))
}

// Secret reports whether only a reference to a secret may stand there.
func (k Key) Secret() bool { return schema.SecretSetting(schema.TypeZot, k.Path) }

// later is what 2.1.6 refuses and 2.1.20 takes, as observed on both.
const later = ">2.1.6"

// latest is what 2.1.20 refuses, and a Zot of a few weeks after it takes.
const latest = ">2.1.20"

// Keys lists the settings of Zot, sorted by path. What takes them, and what
// happens when they change, was observed on 2.1.6 and 2.1.20; where the two
// differ in what they load live, a restart is right for both.
func Keys() []Key {
	keys := []Key{
		{"distSpecVersion", Text, "", Restart},

		{"storage.fastRestart", Boolean, later, Restart},

		{"http.address", Text, "", Restart},
		{"http.port", Port, "", Restart},
		{"http.externalUrl", Text, "", Restart},
		{"http.allowOrigin", Text, "", Restart},
		{"http.realm", Text, "", Restart},
		{"http.readTimeout", Duration, later, Restart},
		{"http.writeTimeout", Duration, later, Restart},
		{"http.compat", Texts, "", Restart},
		{"http.tls.cert", Text, "", Restart},
		{"http.tls.key", Text, "", Restart},
		{"http.tls.cacert", Text, "", Restart},
		{"http.ratelimit.rate", Integer, "", Restart},
		{"http.ratelimit.methods[].method", Text, "", Restart},
		{"http.ratelimit.methods[].rate", Integer, "", Restart},

		{"http.auth.failDelay", Integer, "", Restart},
		{"http.auth.htpasswd.path", Text, "", Live},
		{"http.auth.apikey", Boolean, "", Restart}, // its route is made at start
		{"http.auth.sessionKeysFile", Text, "", Restart},
		{"http.auth.sessionDriver", Free, later, Restart},
		{"http.auth.sessionDriver.name", Text, later, Restart},
		{"http.auth.sessionDriver.password", Text, later, Restart},
		{"http.auth.sessionDriver.url", Text, later, Restart},
		{"http.auth.secureSession", Boolean, later, Restart},
		{"http.auth.ldap.address", Text, "", Restart},
		{"http.auth.ldap.port", Integer, "", Restart},
		{"http.auth.ldap.insecure", Boolean, "", Restart},
		{"http.auth.ldap.startTLS", Boolean, "", Restart},
		{"http.auth.ldap.skipVerify", Boolean, "", Restart},
		{"http.auth.ldap.subtreeSearch", Boolean, "", Restart},
		{"http.auth.ldap.baseDN", Text, "", Restart},
		{"http.auth.ldap.userAttribute", Text, "", Restart},
		{"http.auth.ldap.userFilter", Text, "", Restart},
		{"http.auth.ldap.userGroupAttribute", Text, "", Restart},
		{"http.auth.ldap.caCert", Text, "", Restart},
		{"http.auth.ldap.credentialsFile", Text, "", Live},
		{"http.auth.bearer.realm", Text, "", Restart},
		{"http.auth.bearer.service", Text, "", Restart},
		{"http.auth.bearer.cert", Text, "", Restart},
		{"http.auth.bearer.awsSecretsManager.region", Text, later, Restart},
		{"http.auth.bearer.awsSecretsManager.secretName", Text, later, Restart},
		{"http.auth.bearer.awsSecretsManager.refreshInterval", Duration, later, Restart},
		{"http.auth.bearer.upstreamTokenEndpoint.realm", Text, later, Restart},
		{"http.auth.bearer.upstreamTokenEndpoint.service", Text, later, Restart},
		{"http.auth.bearer.upstreamTokenEndpoint.allowInsecureHttp", Boolean, later, Restart},
		{"http.auth.bearer.oidc[].issuer", Text, later, Restart},
		{"http.auth.bearer.oidc[].audiences", Texts, later, Restart},
		{"http.auth.bearer.oidc[].certificateAuthority", Text, later, Restart},
		{"http.auth.bearer.oidc[].certificateAuthorityFile", Text, later, Restart},
		{"http.auth.bearer.oidc[].skipIssuerVerification", Boolean, later, Restart},
		{"http.auth.bearer.oidc[].claimMapping.username", Text, later, Restart},
		{"http.auth.bearer.oidc[].claimMapping.groups", Text, later, Restart},
		{"http.auth.bearer.oidc[].claimMapping.variables[].name", Text, later, Restart},
		{"http.auth.bearer.oidc[].claimMapping.variables[].expression", Text, later, Restart},
		{"http.auth.bearer.oidc[].claimMapping.validations[].expression", Text, later, Restart},
		{"http.auth.bearer.oidc[].claimMapping.validations[].message", Text, later, Restart},
		{"http.auth.openid.callbackAllowOrigins", Texts, later, Restart},
		{"http.auth.openid.providers.*.name", Text, "", Restart},
		{"http.auth.openid.providers.*.issuer", Text, "", Restart},
		{"http.auth.openid.providers.*.credentialsFile", Text, "", Restart},
		{"http.auth.openid.providers.*.clientid", Text, "", Restart},
		{"http.auth.openid.providers.*.clientsecret", Text, "", Restart},
		{"http.auth.openid.providers.*.keypath", Text, "", Restart},
		{"http.auth.openid.providers.*.scopes", Texts, "", Restart},
		{"http.auth.openid.providers.*.authurl", Text, later, Restart},
		{"http.auth.openid.providers.*.tokenurl", Text, later, Restart},
		{"http.auth.openid.providers.*.claimMapping.username", Text, later, Restart},
		{"http.auth.openid.providers.*.claimMapping.groups", Text, later, Restart},
		{"http.auth.mtls.identityAttributes", Texts, later, Restart},
		{"http.auth.mtls.uriSanPattern", Text, later, Restart},
		{"http.auth.mtls.uriSanIndex", Integer, later, Restart},
		{"http.auth.mtls.dnsSanIndex", Integer, later, Restart},
		{"http.auth.mtls.emailSanIndex", Integer, later, Restart},

		{"http.accessControl.repositories.*.policies[].users", Texts, "", Live},
		{"http.accessControl.repositories.*.policies[].groups", Texts, "", Live},
		{"http.accessControl.repositories.*.policies[].actions", Texts, "", Live},
		{"http.accessControl.repositories.*.policies[].conditions[].expression", Text, later, Live},
		{"http.accessControl.repositories.*.policies[].conditions[].message", Text, later, Live},
		{"http.accessControl.repositories.*.defaultPolicy", Texts, "", Live},
		{"http.accessControl.repositories.*.anonymousPolicy", Texts, "", Live},
		{"http.accessControl.adminPolicy.users", Texts, "", Live},
		{"http.accessControl.adminPolicy.groups", Texts, "", Live},
		{"http.accessControl.adminPolicy.actions", Texts, "", Live},
		{"http.accessControl.adminPolicy.conditions[].expression", Text, later, Live},
		{"http.accessControl.adminPolicy.conditions[].message", Text, later, Live},
		{"http.accessControl.groups.*.users", Texts, "", Live},
		{"http.accessControl.metrics.users", Texts, "", Live},
		{"http.accessControl.metrics.anonymousPolicy", Texts, later, Live},

		{"log.level", Level, "", Restart},
		{"log.output", Text, "", Stopped}, // a running Zot opens it while it reads the file, and uses it after the next start
		{"log.audit", Text, "", Restart},

		{"scheduler.numWorkers", Integer, "", Restart},

		{"cluster.members", Texts, "", Restart},
		{"cluster.hashKey", Text, "", Restart},
		{"cluster.tls.cert", Text, "", Restart},
		{"cluster.tls.key", Text, "", Restart},
		{"cluster.tls.cacert", Text, "", Restart},

		{"extensions.search.enable", Boolean, "", Restart},
		{"extensions.search.cve.updateInterval", Duration, "", Live},
		{"extensions.search.cve.trivy.dbRepository", Text, "", Live},
		{"extensions.search.cve.trivy.javaDBRepository", Text, "", Live},
		{"extensions.search.cve.trivy.vulnSeveritySources", Texts, later, Live},
		{"extensions.search.cve.trivy.sbom.enable", Boolean, later, Live},
		{"extensions.search.cve.trivy.sbom.format", Text, later, Live},
		{"extensions.sync.enable", Boolean, "", Restart},
		{"extensions.sync.credentialsFile", Text, "", Live},
		{"extensions.sync.downloadDir", Text, "", Live},
		{"extensions.sync.registries[].urls", Texts, "", Live},
		{"extensions.sync.registries[].pollInterval", Duration, "", Live},
		{"extensions.sync.registries[].onDemand", Boolean, "", Live},
		{"extensions.sync.registries[].tlsVerify", Boolean, "", Live},
		{"extensions.sync.registries[].certDir", Text, "", Live},
		{"extensions.sync.registries[].maxRetries", Integer, "", Live},
		{"extensions.sync.registries[].retryDelay", Duration, "", Live},
		{"extensions.sync.registries[].maxRetryDelay", Duration, later, Live},
		{"extensions.sync.registries[].manifestCheckInterval", Duration, latest, Live},
		{"extensions.sync.registries[].maxIdleConnsPerHost", Integer, latest, Live},
		{"extensions.sync.registries[].disableHTTP2", Boolean, latest, Live},
		{"extensions.sync.registries[].reqPerSec", Integer, latest, Live}, // or a fraction
		{"extensions.sync.registries[].reqConcurrent", Integer, latest, Live},
		{"extensions.sync.registries[].onlySigned", Boolean, "", Live},
		{"extensions.sync.registries[].credentialHelper", Text, "", Live},
		{"extensions.sync.registries[].oauth2CredentialHelper", Free, later, Live},
		{"extensions.sync.registries[].preserveDigest", Boolean, "", Live},
		{"extensions.sync.registries[].syncLegacyCosignTags", Boolean, later, Live},
		{"extensions.sync.registries[].syncTimeout", Duration, later, Live},
		{"extensions.sync.registries[].content[].prefix", Text, "", Live},
		{"extensions.sync.registries[].content[].destination", Text, "", Live},
		{"extensions.sync.registries[].content[].stripPrefix", Boolean, "", Live},
		{"extensions.sync.registries[].content[].tags.regex", Text, "", Live},
		{"extensions.sync.registries[].content[].tags.excludeRegex", Text, "", Live},
		{"extensions.sync.registries[].content[].tags.semver", Boolean, "", Live},
		{"extensions.metrics.enable", Boolean, "", Restart},
		{"extensions.metrics.prometheus.path", Text, "", Restart},
		{"extensions.scrub.enable", Boolean, "", Restart},
		{"extensions.scrub.interval", Duration, "", Live},
		{"extensions.lint.enable", Boolean, "", Restart},
		{"extensions.lint.mandatoryAnnotations", Texts, "", Restart},
		{"extensions.ui.enable", Boolean, "", Restart},
		{"extensions.mgmt.enable", Boolean, "", Restart},   // Zot takes it and ignores it
		{"extensions.apikey.enable", Boolean, "", Restart}, // likewise: http.auth.apikey is the one that counts
		{"extensions.trust.enable", Boolean, "", Restart},
		{"extensions.trust.cosign", Boolean, "", Restart},
		{"extensions.trust.notation", Boolean, "", Restart},
		{"extensions.events.enable", Boolean, "", Restart},
		{"extensions.events.sinks[].type", Text, "", Restart},
		{"extensions.events.sinks[].address", Text, "", Restart},
		{"extensions.events.sinks[].channel", Text, "", Restart},
		{"extensions.events.sinks[].timeout", Duration, "", Restart},
		{"extensions.events.sinks[].proxy", Text, "", Restart},
		{"extensions.events.sinks[].headers", Free, "", Restart},
		{"extensions.events.sinks[].credentials.username", Text, "", Restart},
		{"extensions.events.sinks[].credentials.password", Text, "", Restart},
		{"extensions.events.sinks[].credentials.token", Text, "", Restart},
		{"extensions.events.sinks[].credentials.file", Text, "", Restart},
		{"extensions.events.sinks[].tlsconfig.cacertfile", Text, "", Restart},
		{"extensions.events.sinks[].tlsconfig.certfile", Text, "", Restart},
		{"extensions.events.sinks[].tlsconfig.keyfile", Text, "", Restart},
	}
	for _, at := range []string{"storage.", "storage.subPaths.*."} {
		for _, k := range storageKeys() {
			k.Path = at + k.Path
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b Key) int { return strings.Compare(a.Path, b.Path) })
	return keys
}

// storageKeys are those of the storage and of each of its sub-paths.
func storageKeys() []Key {
	return []Key{
		{"rootDirectory", Text, "", Restart},
		{"commit", Boolean, "", Restart},
		{"dedupe", Boolean, "", Live},
		{"gc", Boolean, "", Live},
		{"gcDelay", Duration, "", Live},
		{"gcInterval", Duration, "", Live},
		{"gcTimeWindow", Text, later, Live},
		{"maxRepos", Integer, later, Restart},
		{"redirectBlobURL", Boolean, later, Live},
		{"remoteCache", Boolean, "", Restart},
		{"storageDriver", Free, "", Restart},
		{"storageDriver.name", Driver, "", Restart},
		{"storageDriver.secretkey", Text, "", Restart},
		{"cacheDriver", Free, "", Restart},
		{"cacheDriver.name", Text, "", Restart},
		{"cacheDriver.password", Text, "", Restart},
		{"cacheDriver.url", Text, "", Restart},
		{"retention.dryRun", Boolean, "", Live},
		{"retention.delay", Duration, "", Live},
		{"retention.policies[].repositories", Texts, "", Live},
		{"retention.policies[].deleteReferrers", Boolean, "", Live},
		{"retention.policies[].deleteUntagged", Boolean, "", Live},
		{"retention.policies[].keepTags[].patterns", Texts, "", Live},
		{"retention.policies[].keepTags[].mostRecentlyPushedCount", Integer, "", Live},
		{"retention.policies[].keepTags[].mostRecentlyPulledCount", Integer, "", Live},
		{"retention.policies[].keepTags[].pushedWithin", Duration, "", Live},
		{"retention.policies[].keepTags[].pulledWithin", Duration, "", Live},
		{"retention.policies[].keepUntagged.mostRecentlyPushedCount", Integer, later, Live},
		{"retention.policies[].keepUntagged.mostRecentlyPulledCount", Integer, later, Live},
		{"retention.policies[].keepUntagged.pushedWithin", Duration, later, Live},
		{"retention.policies[].keepUntagged.pulledWithin", Duration, later, Live},
	}
}

// tree is the keys by their parts.
type tree struct {
	typ   Type
	key   Key     // where it has a row
	below []*tree // by name
	part  string  // as people write it; "*" for any name
	worst Reload  // of the rows here and below
}

func newTree() *tree {
	root := &tree{typ: Table}
	for _, k := range Keys() {
		at := root
		for _, part := range strings.Split(k.Path, ".") {
			name, list := strings.CutSuffix(part, "[]")
			next := at.child(name)
			if next == nil || next.part != name {
				next = &tree{part: name, typ: Table}
				at.below = append(at.below, next)
				if name == "*" {
					at.typ = Named
				}
				if list {
					next.typ = Tables
				}
			}
			next.worst = max(next.worst, k.Reload)
			at = next
		}
		at.typ, at.key = k.Type, k
	}
	return root
}

// child finds a key without regard to case, or the one for any name.
func (t *tree) child(name string) *tree {
	for _, c := range t.below {
		if fold(c.part) == fold(name) || c.part == "*" {
			return c
		}
	}
	return nil
}

// find follows a path, whose lists have indices, and returns nil where no row
// leads.
func (t *tree) find(path []string) *tree {
	for _, part := range path {
		if t.typ == Tables { // the part is an index
			t = &tree{typ: Table, below: t.below}
			continue
		}
		if t = t.child(part); t == nil {
			return nil
		}
	}
	return t
}

func (t *tree) names() []string {
	var out []string
	for _, c := range t.below {
		out = append(out, c.part)
	}
	return out
}
