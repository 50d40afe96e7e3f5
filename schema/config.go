package schema

import (
	"net"
	"net/url"
	"slices"
	"strings"
)

// The registry types.
const (
	TypeZot          = "zot"
	TypeHarbor       = "harbor"
	TypeDistribution = "distribution"
	// TypeMemory is the in-memory registry of tests; no file can name it.
	TypeMemory = "memory"
)

// The drivers that run a registry.
const (
	DriverEmbedded = "embedded"
	DriverProcess  = "process"
	DriverDocker   = "docker"
)

// Config is one mode, loaded and checked: everything its files say.
type Config struct {
	Mode     string
	Dir      string // directory that holds the modes' directory; paths stay inside
	Registry Registry
	State    StateConfig
	Policy   Policy
	Watch    Watch
	Backup   *Backup
	Owners   []Owner
	// Desired holds the objects; its scope is the kinds that occur.
	Desired State
	// OnDelete is the on_delete of [defaults.namespace], "" for none.
	OnDelete string
	// Directives says, sorted by key, what the file asks for beyond fields.
	Directives []Directive
}

// Directive is what a file says of an object that is no field of it.
type Directive struct {
	Key        Key
	Previously string // the object's former name
	OnDelete   string // refuse, archive or purge (namespaces)
	Paused     *Pause
}

// Former is the key that the object had before, by the file. A child's former
// name without a slash is one of its own namespace, and so is that of a kind whose
// names may have slashes.
func (d Directive) Former() (k Key, ok bool) {
	ns, child := d.Key.Namespace()
	switch kind := d.Key.Kind; {
	case kind.Single():
		k = Key{kind, d.Previously}
	case kind.escapes() && kind.Slashes():
		k = NewKey(kind, ns.Name, d.Previously)
	case child && !strings.Contains(d.Previously, "/"):
		k = NewKey(kind, ns.Name, d.Previously)
	default: // the whole name, of another namespace perhaps
		k = Key{kind, d.Previously}
	}
	return k, d.Previously != ""
}

// Pause keeps ocisync's hands off an object until a day.
type Pause struct {
	Until  *Date  `json:"until,omitzero"`
	Reason string `json:"reason"`
}

// Holds reports whether it is still so on a day; nil never is.
func (p *Pause) Holds(today Date) bool {
	return p != nil && (p.Until == nil || !p.Until.Before(today))
}

// Login is an account at a registry; exactly one of User and Robot.
type Login struct {
	User     *string    `json:"user,omitzero"`
	Robot    *string    `json:"robot,omitzero"`
	Password *SecretRef `json:"password,omitzero" sync:"secret"`
}

// TLS says how a server's certificate is checked, and with which own
// certificate ocisync or the registry it runs presents itself. Paths.
type TLS struct {
	CA       *string `json:"ca,omitzero"`
	Cert     *string `json:"cert,omitzero"`
	Key      *string `json:"key,omitzero"`
	Insecure *bool   `json:"insecure,omitzero"` // no check; every plan says so
}

// Run says who runs the registry; absent where somebody else does.
type Run struct {
	Driver  string   `json:"driver"`
	Image   string   `json:"image,omitempty"`
	Binary  string   `json:"binary,omitempty"`
	Args    []string `json:"args,omitempty"`
	Data    string   `json:"data,omitempty"`
	Listen  string   `json:"listen,omitempty"`
	Network string   `json:"network,omitempty"`
	Storage *Storage `json:"storage,omitempty"`
}

// Storage names the object store that keeps the embedded registry's content:
// exactly one. Names, meanings and defaults are those of the drivers of CNCF
// Distribution 3.1, whose parameters these are; absent is its default.
type Storage struct {
	S3    *S3Storage    `json:"s3,omitempty"`
	GCS   *GCSStorage   `json:"gcs,omitempty"`
	Azure *AzureStorage `json:"azure,omitempty"`
	// Source is where a file says so.
	Source Position `json:"-"`
}

// Unchecked reports whether the store's certificate is not checked; a nil
// Storage has none.
func (s *Storage) Unchecked() bool {
	if s == nil {
		return false
	}
	skips := func(p *bool) bool { return p != nil && *p }
	return s.S3 != nil && skips(s.S3.SkipVerify) || s.Azure != nil && skips(s.Azure.SkipVerify)
}

// S3Storage is a bucket of S3, or of a store that speaks its protocol. Sizes
// are bytes.
type S3Storage struct {
	Region         string     `json:"region"`
	Bucket         string     `json:"bucket"`
	AccessKey      *string    `json:"accesskey,omitzero"`
	SecretKey      *SecretRef `json:"secretkey,omitzero" sync:"secret"`
	RegionEndpoint *string    `json:"regionendpoint,omitzero"`
	ForcePathStyle *bool      `json:"forcepathstyle,omitzero"`
	Accelerate     *bool      `json:"accelerate,omitzero"`
	Encrypt        *bool      `json:"encrypt,omitzero"`
	KeyID          *string    `json:"keyid,omitzero"`
	Secure         *bool      `json:"secure,omitzero"`
	SkipVerify     *bool      `json:"skipverify,omitzero"`
	V4Auth         *bool      `json:"v4auth,omitzero"`
	ChunkSize      *int64     `json:"chunksize,omitzero"`

	MultipartCopyChunkSize      *int64 `json:"multipartcopychunksize,omitzero"`
	MultipartCopyMaxConcurrency *int64 `json:"multipartcopymaxconcurrency,omitzero"`
	MultipartCopyThresholdSize  *int64 `json:"multipartcopythresholdsize,omitzero"`

	RootDirectory   *string `json:"rootdirectory,omitzero"`
	StorageClass    *string `json:"storageclass,omitzero"`
	ObjectACL       *string `json:"objectacl,omitzero"`
	UseDualStack    *bool   `json:"usedualstack,omitzero"`
	UseFIPSEndpoint *bool   `json:"usefipsendpoint,omitzero"`
	UserAgent       *string `json:"useragent,omitzero"`
}

// GCSStorage is a bucket of Google Cloud Storage.
type GCSStorage struct {
	Bucket         string     `json:"bucket"`
	Credentials    *SecretRef `json:"credentials,omitzero" sync:"secret"` // the JSON of a service account's key
	RootDirectory  *string    `json:"rootdirectory,omitzero"`
	ChunkSize      *int64     `json:"chunksize,omitzero"`
	MaxConcurrency *int64     `json:"maxconcurrency,omitzero"`
}

// AzureStorage is a container of Azure Blob Storage.
type AzureStorage struct {
	AccountName      string            `json:"accountname"`
	Container        string            `json:"container"`
	AccountKey       *SecretRef        `json:"accountkey,omitzero" sync:"secret"`
	ConnectionString *SecretRef        `json:"connectionstring,omitzero" sync:"secret"`
	Credentials      *AzureCredentials `json:"credentials,omitzero"`
	Realm            *string           `json:"realm,omitzero"`
	ServiceURL       *string           `json:"serviceurl,omitzero"`
	RootDirectory    *string           `json:"rootdirectory,omitzero"`
	MaxRetries       *int64            `json:"max_retries,omitzero"`
	RetryDelay       *string           `json:"retry_delay,omitzero"`
	SkipVerify       *bool             `json:"skipverify,omitzero"`
}

// AzureCredentials says how to log in at Azure.
type AzureCredentials struct {
	Type     string     `json:"type"`
	ClientID *string    `json:"clientid,omitzero"`
	TenantID *string    `json:"tenantid,omitzero"`
	Secret   *SecretRef `json:"secret,omitzero" sync:"secret"`
}

// TokenService says where ocisync gives tokens for a registry. Empty is a
// default.
type TokenService struct {
	URL    string `json:"url,omitempty"`
	Listen string `json:"listen,omitempty"`
	// Rotate is how long a key signs; Never is for ever.
	Rotate *Duration `json:"rotate,omitempty"`
}

// FilePaths names the files of a registry that somebody else runs on this host.
type FilePaths struct {
	Config   string `json:"config,omitempty"`
	Htpasswd string `json:"htpasswd,omitempty"`
	Log      string `json:"log,omitempty"`
}

// Registry is what a mode describes. Native settings (registry.zot and so on)
// are the resource "settings" of the desired state.
type Registry struct {
	Type  string        `json:"type"`
	URL   string        `json:"url"`
	Login *Login        `json:"login,omitempty"`
	Admin *Login        `json:"admin,omitempty"`
	TLS   *TLS          `json:"tls,omitempty"`
	Run   *Run          `json:"run,omitempty"`
	Files *FilePaths    `json:"files,omitempty"`
	Token *TokenService `json:"token,omitempty"`
}

// Driver is the registry's driver, "" where somebody else runs it.
func (r Registry) Driver() string {
	if r.Run == nil {
		return ""
	}
	return r.Run.Driver
}

// StateConfig says where the inventory lives.
type StateConfig struct {
	Store    string     `json:"store,omitempty"` // registry, dir or s3
	Dir      string     `json:"dir,omitempty"`
	URL      string     `json:"url,omitempty"` // of s3
	Key      *SecretRef `json:"key,omitempty"`
	Verify   string     `json:"verify,omitempty"`   // ed25519:<base64>
	Instance string     `json:"instance,omitempty"` // this ocisync's name among several
}

// Policy guards a plan.
type Policy struct {
	Prune       []Kind      `json:"prune,omitempty"`
	Protect     []string    `json:"protect,omitempty"` // key patterns: kind/glob
	MaxDeletes  *MaxDeletes `json:"max_deletes,omitempty"`
	Unsupported string      `json:"unsupported,omitempty"` // refuse or note
	Outside     string      `json:"outside,omitempty"`     // deny or leave
	Ignore      []Ignore    `json:"ignore,omitempty"`
}

// MaxDeletes refuses a plan whose deletes are more than both.
type MaxDeletes struct {
	Percent int `json:"percent"`
	AtLeast int `json:"at_least"`
}

// Ignore leaves one field of matching objects alone.
type Ignore struct {
	Resource string `json:"resource"` // key pattern
	Field    string `json:"field"`    // field path, or a prefix of whole parts
	Reason   string `json:"reason"`
	Until    *Date  `json:"until,omitempty"`
}

// Watch is for the watcher.
type Watch struct {
	Drift  []DriftRule `json:"drift,omitempty"`
	Every  Duration    `json:"every,omitempty"`
	Retry  Duration    `json:"retry,omitempty"`
	Freeze []Window    `json:"freeze,omitempty"`
	Open   []Window    `json:"open,omitempty"`
}

// DriftRule says what the watcher does about drift; Kind "" is the default.
type DriftRule struct {
	Kind Kind   `json:"kind,omitempty"`
	Do   string `json:"do"` // report, correct or off
}

// Window is a stretch of time that starts by cron.
type Window struct {
	Cron   string `json:"cron"`
	Hours  int    `json:"hours"`
	Zone   string `json:"zone,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Backup is the declared backup.
type Backup struct {
	To       string     `json:"to"`
	Schedule string     `json:"schedule,omitempty"`
	Zone     string     `json:"zone,omitempty"`
	Keep     BackupKeep `json:"keep,omitzero"`
	Verify   bool       `json:"verify,omitempty"`
	Login    *Login     `json:"login,omitempty"`
}

// BackupKeep says how many backups stay; those that either keeps.
type BackupKeep struct {
	Newest int      `json:"newest,omitempty"`
	Within Duration `json:"within,omitempty"`
}

// Owner names who answers for matching objects.
type Owner struct {
	Resource string   `json:"resource"` // key pattern
	Owners   []string `json:"owners"`
}

// Host is the operator's own file: what a mode may use of this machine.
type Host struct {
	Modes   string        `json:"modes,omitempty"`
	Secrets HostSecrets   `json:"secrets,omitzero"`
	Command []HostCommand `json:"command,omitempty"`
	Lock    string        `json:"lock,omitempty"` // directory of lock files
	State   string        `json:"state,omitempty"`
	// Registries are the origins that a secret may be sent to; nil for all.
	Registries []string `json:"registries,omitempty"`
	// Verify are the public keys by which an inventory is believed at first sight.
	Verify []string `json:"verify,omitempty"`
	// File is where it was read, for messages; "" where there is none.
	File string `json:"-"`
}

// Permits reports whether a secret may be sent to the registry at a URL.
func (h Host) Permits(registry string) bool {
	want, ok := Origin(registry)
	return h.Registries == nil || ok && slices.ContainsFunc(h.Registries, func(r string) bool {
		have, ok := Origin(r)
		return ok && have == want
	})
}

// Origin is the scheme, host and port of a URL, as RFC 6454 compares them; ok
// is false for what is no http or https URL.
func Origin(address string) (origin string, ok bool) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", false
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port), true
}

// HostSecrets bounds what references may reach.
type HostSecrets struct {
	Env     []string `json:"env,omitempty"`     // names beside OCISYNC_*
	Dirs    []string `json:"dirs,omitempty"`    // for file references
	Deliver []string `json:"deliver,omitempty"` // where secrets may be written
	Age     string   `json:"age,omitempty"`     // identity file
}

// HostCommand is a program that a mode may name.
type HostCommand struct {
	Name    string   `json:"name"`
	Run     []string `json:"run"`
	Timeout Duration `json:"timeout,omitempty"`
}
