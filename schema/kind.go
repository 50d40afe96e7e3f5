package schema

import "slices"

// Kind is a sort of managed object, spelled as users write it.
type Kind string

// The closed list of kinds. Adding one means a spec in specs.go, a case in
// [NewSpec], a CUE definition in kinds.cue and a row in each provider's table.
const (
	KindSettings      Kind = "settings"
	KindUser          Kind = "user"
	KindGroup         Kind = "group"
	KindRemote        Kind = "remote"
	KindScanner       Kind = "scanner"
	KindPreheat       Kind = "preheat"
	KindNamespace     Kind = "namespace"
	KindAccess        Kind = "access"
	KindQuota         Kind = "quota"
	KindRetention     Kind = "retention"
	KindImmutable     Kind = "immutable"
	KindScan          Kind = "scan"
	KindTrust         Kind = "trust"
	KindLabel         Kind = "label"
	KindRepository    Kind = "repository"
	KindWebhook       Kind = "webhook"
	KindPreheatPolicy Kind = "preheat_policy"
	KindRobot         Kind = "robot"
	KindReplication   Kind = "replication"
	KindGC            Kind = "gc"
	KindAudit         Kind = "audit"
	KindMirror        Kind = "mirror"
	KindArtifact      Kind = "artifact"
)

// Kinds returns every kind in the order in which changes are made: what others
// depend on comes first (design: settings, people, remotes, namespaces, what
// hangs on them, robots, replication, schedules, content).
func Kinds() []Kind {
	return []Kind{
		KindSettings,
		KindUser, KindGroup,
		KindRemote, KindScanner, KindPreheat,
		KindNamespace,
		KindAccess, KindQuota, KindRetention, KindImmutable, KindScan, KindTrust,
		KindLabel, KindRepository, KindWebhook, KindPreheatPolicy,
		KindRobot,
		KindReplication,
		KindGC, KindAudit,
		KindMirror, KindArtifact,
	}
}

// Valid reports whether k is one of [Kinds].
func (k Kind) Valid() bool { return slices.Contains(Kinds(), k) }

// Rank groups kinds that may be written together; lower ranks are written
// first and deleted last.
func (k Kind) Rank() int {
	switch k {
	case KindSettings:
		return 0
	case KindUser:
		return 1
	case KindGroup: // names users
		return 2
	case KindRemote, KindScanner, KindPreheat:
		return 3
	case KindNamespace:
		return 4
	case KindAccess, KindQuota, KindRetention, KindImmutable, KindScan, KindTrust,
		KindLabel, KindRepository, KindWebhook, KindPreheatPolicy:
		return 5
	case KindRobot:
		return 6
	case KindReplication:
		return 7
	case KindGC, KindAudit:
		return 8
	case KindMirror, KindArtifact:
		return 9
	}
	return 10
}

// OfNamespace reports whether objects of this kind may hang on a namespace, so
// that the namespace is the first part of their name. Robots, labels and scan
// also exist without one.
func (k Kind) OfNamespace() bool { return k.Rank() == KindAccess.Rank() || k == KindRobot }

// Single reports whether a namespace (or, for gc, audit, settings, the
// registry) has at most one object of this kind. Such kinds are never pruned:
// leaving one out of the file means forgetting it.
func (k Kind) Single() bool {
	switch k {
	case KindSettings, KindAccess, KindQuota, KindRetention, KindImmutable, KindScan, KindTrust, KindGC, KindAudit:
		return true
	}
	return false
}

// HoldsContent reports whether deleting an object of this kind may take images
// or artifacts with it.
func (k Kind) HoldsContent() bool { return k == KindNamespace || k == KindRepository }

// FieldOfScalar names the field that a kind written as a bare value in a
// namespace stands for (quota = "10GiB" sets field limit), or "".
func (k Kind) FieldOfScalar() string {
	switch k {
	case KindQuota:
		return "limit"
	case KindImmutable:
		return "rules"
	}
	return ""
}
