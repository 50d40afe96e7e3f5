package harbor

import (
	"context"
	"slices"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// kind is all that is known of one kind. What is nil there is nothing to do for.
type kind struct {
	// read adds the live objects to the site, with what names them to Harbor.
	read func(context.Context, *site) error
	// normalize brings a desired object into the form of read. It is pure.
	normalize func(*normal, schema.Resource) (schema.Spec, error)
	// prepare says why a change cannot be, or what should be known of it.
	prepare func(context.Context, *site, plan.Change, *providers.Verdict) error
	// write makes a change of an object that is as it was planned for. A create
	// may find that the object exists: conflict then, and what exists is compared.
	write func(context.Context, *site, plan.Change, object) error
	// check compares a secret.
	check func(ctx context.Context, s *site, key schema.Key, field, secret string) (bool, error)
	// checks tells which Harbors can; nil is all.
	checks func(*api.Client) bool
	// admin tells which changes Harbor lets no robot make; nil is none.
	admin func(plan.Change) bool
	// tidy drops from what a change makes of an object what excludes what the
	// change says. It is pure.
	tidy func(plan.Change) schema.Spec
	// same compares two specs where not all of an object is its own; nil compares
	// all but secrets.
	same func(a, b schema.Spec) bool
	// renames says that Harbor gives an object another name.
	renames bool
	// kept says that Harbor refuses what it would not keep as it was made: of several
	// objects that were made alike, those that are read back stand for the others.
	kept bool
	// blank says that of a project made in this run nothing need be read again.
	blank bool
}

// kinds is the table of all of them.
func kinds() map[schema.Kind]kind {
	return map[schema.Kind]kind{
		schema.KindSettings:      {read: readSettings, normalize: normalSettings, tidy: tidySettings, check: checkSetting, prepare: prepareSettings, write: writeSettings, admin: always},
		schema.KindUser:          {read: readUsers, normalize: normalUser, prepare: prepareUser, write: writeUser},
		schema.KindGroup:         {read: readGroups, prepare: prepareGroup, write: writeGroup, renames: true},
		schema.KindNamespace:     {read: readNamespaces, normalize: normalNamespace, prepare: prepareNamespace, write: writeNamespace},
		schema.KindAccess:        {read: readAccess, normalize: normalAccess, prepare: prepareAccess, write: writeAccess, kept: true, blank: true},
		schema.KindQuota:         {read: readQuotas, prepare: prepareQuota, write: writeQuota, kept: true},
		schema.KindRetention:     {read: readRetention, normalize: normalRetention, tidy: tidyRetention, prepare: prepareRetention, write: writeRetention, kept: true},
		schema.KindImmutable:     {read: readImmutable, normalize: normalImmutable, write: writeImmutable, kept: true, blank: true},
		schema.KindWebhook:       {read: readWebhooks, normalize: normalWebhook, prepare: prepareWebhook, write: writeWebhook, check: checkWebhook, kept: true, renames: true},
		schema.KindPreheatPolicy: {read: readPreheatPolicies, normalize: normalPreheatPolicy, prepare: preparePreheatPolicy, write: writePreheatPolicy, renames: true},
		schema.KindRobot:         {read: readRobots, normalize: normalRobot, tidy: tidyRobot, prepare: prepareRobot, write: writeRobot, check: checkRobot, admin: changesRobot, kept: true},

		schema.KindRemote:      {read: readRemotes, normalize: normalRemote, tidy: tidyRemote, prepare: prepareRemote, write: writeRemote, renames: true},
		schema.KindScanner:     {read: readScanners, prepare: prepareScanner, write: writeScanner, check: checkScanner, checks: (*api.Client).ShowsLogins, renames: true},
		schema.KindPreheat:     {read: readPreheats, normalize: normalPreheat, prepare: preparePreheat, write: writePreheat, check: checkPreheat, checks: (*api.Client).ShowsLogins},
		schema.KindScan:        {read: readScans, normalize: normalScan, same: sameScan, prepare: prepareScan, write: writeScan},
		schema.KindTrust:       {read: readTrust, normalize: normalTrust, prepare: prepareTrust, write: writeTrust},
		schema.KindLabel:       {read: readLabels, normalize: normalLabel, write: writeLabel, kept: true, renames: true},
		schema.KindRepository:  {read: readRepositories, prepare: prepareRepository, write: writeRepository},
		schema.KindReplication: {read: readReplications, normalize: normalReplication, tidy: tidyReplication, prepare: prepareReplication, write: writeReplication, renames: true},
		schema.KindGC:          {read: readGC, normalize: normalGC, prepare: prepareGC, write: writeGC},
		schema.KindAudit:       {read: readAudit, normalize: normalAudit, prepare: prepareAudit, write: writeAudit},
	}
}

func always(plan.Change) bool { return true }

// needsAdmin reports whether Harbor lets no robot make the change, or see what came of it.
func (s *site) needsAdmin(c plan.Change) bool {
	admin := kinds()[c.Key.Kind].admin
	return admin != nil && admin(c) || slices.ContainsFunc(needs(c), func(n need) bool { return s.c.Later(n.Access) })
}
