package schema

import "fmt"

// Spec is one of the per-kind structs of this file, always a pointer. A nil
// field means "not managed" in a desired object and "not known to exist" in a
// live one; a pointer to a zero value, or an empty list that is not nil, means
// managed and empty.
//
// Field tags name the key in TOML and JSON. The tag sync:"secret" marks a
// field that holds a reference to a secret, whose value a registry does not
// give back; sync:"seen" one that no file can have: a provider finds it, and where
// a desired object has none, anything there is a difference.
type Spec interface {
	// Kind is the kind the struct describes; settings have one for all
	// registry types.
	Kind() Kind
}

// NewSpec returns an empty spec of a kind, or an error for an unknown one.
func NewSpec(k Kind) (Spec, error) {
	switch k {
	case KindSettings:
		return &Settings{}, nil
	case KindUser:
		return &User{}, nil
	case KindGroup:
		return &Group{}, nil
	case KindRemote:
		return &Remote{}, nil
	case KindScanner:
		return &Scanner{}, nil
	case KindPreheat:
		return &Preheat{}, nil
	case KindNamespace:
		return &Namespace{}, nil
	case KindAccess:
		return &Access{}, nil
	case KindQuota:
		return &Quota{}, nil
	case KindRetention:
		return &Retention{}, nil
	case KindImmutable:
		return &Immutable{}, nil
	case KindScan:
		return &Scan{}, nil
	case KindTrust:
		return &Trust{}, nil
	case KindLabel:
		return &Label{}, nil
	case KindRepository:
		return &Repository{}, nil
	case KindWebhook:
		return &Webhook{}, nil
	case KindPreheatPolicy:
		return &PreheatPolicy{}, nil
	case KindRobot:
		return &Robot{}, nil
	case KindReplication:
		return &Replication{}, nil
	case KindGC:
		return &GC{}, nil
	case KindAudit:
		return &Audit{}, nil
	case KindMirror:
		return &Mirror{}, nil
	case KindArtifact:
		return &Artifact{}, nil
	}
	return nil, fmt.Errorf("%q is not a kind", k)
}

// Settings are the registry's native settings that no kind owns.
type Settings struct {
	// Values is sorted by path; the table is open, each leaf is managed on
	// its own.
	Values Values `json:"values,omitzero"`
}

// User is an account of a person.
type User struct {
	Email    *string    `json:"email,omitzero"`
	FullName *string    `json:"full_name,omitzero"`
	Comment  *string    `json:"comment,omitzero"`
	Admin    *bool      `json:"admin,omitzero"`
	Password *SecretRef `json:"password,omitzero" sync:"secret"`
}

// Group is a named set of users.
type Group struct {
	Users  Set     `json:"users,omitzero"`
	Type   *string `json:"type,omitzero"` // local, ldap, oidc, http
	LDAPDN *string `json:"ldap_dn,omitzero"`
}

// Remote is another registry that this one, or ocisync, speaks to.
type Remote struct {
	Type        *string `json:"type,omitzero"`
	URL         *string `json:"url,omitzero"`
	Description *string `json:"description,omitzero"`
	Login       *Login  `json:"login,omitzero"`
	TLS         *TLS    `json:"tls,omitzero"`
}

// Scanner is a vulnerability scanner registered with the registry.
type Scanner struct {
	URL             *string    `json:"url,omitzero"`
	Description     *string    `json:"description,omitzero"`
	Auth            *string    `json:"auth,omitzero"` // none, basic, bearer, api-key
	Credential      *SecretRef `json:"credential,omitzero" sync:"secret"`
	Insecure        *bool      `json:"insecure,omitzero"`
	InternalAddress *bool      `json:"internal_address,omitzero"`
	Enabled         *bool      `json:"enabled,omitzero"`
}

// Preheat is a peer-to-peer distribution instance.
type Preheat struct {
	Vendor      *string    `json:"vendor,omitzero"` // dragonfly, kraken
	URL         *string    `json:"url,omitzero"`
	Description *string    `json:"description,omitzero"`
	Auth        *string    `json:"auth,omitzero"` // none, basic, oauth
	User        *string    `json:"user,omitzero"`
	Credential  *SecretRef `json:"credential,omitzero" sync:"secret"`
	Default     *bool      `json:"default,omitzero"`
	Enabled     *bool      `json:"enabled,omitzero"`
	Insecure    *bool      `json:"insecure,omitzero"`
}

// Namespace is the first path segments of repository names that share an owner.
type Namespace struct {
	Description *string `json:"description,omitzero"`
	ProxyOf     *string `json:"proxy_of,omitzero" sync:"replace"` // name of a remote
	Proxy       *Proxy  `json:"proxy,omitzero"`
}

// Proxy says how a namespace caches the remote that it is a proxy of.
type Proxy struct {
	Rate              *Size   `json:"rate,omitzero"`         // bytes per second
	Connections       *int    `json:"connections,omitzero"`  // to the remote at once; 0 for no limit
	ServeGone         *bool   `json:"serve_gone,omitzero"`   // what the remote has no longer
	Referrers         *bool   `json:"referrers,omitzero"`    // are asked of the remote
	Repositories      *string `json:"repositories,omitzero"` // a glob, of the remote's names
	RepositoriesRegex *string `json:"repositories_regex,omitzero"`
}

// Access says who may do what in a namespace. Subjects have the union of what
// all lines give them.
type Access struct {
	Anonymous          *Rights `json:"anonymous,omitzero"`
	Authenticated      *Rights `json:"authenticated,omitzero"`
	AuthenticatedGroup *string `json:"authenticated_group,omitzero"`
	Users              Grants  `json:"users,omitzero"`
	Groups             Grants  `json:"groups,omitzero"`
	Conditions         Set     `json:"conditions,omitzero"` // Zot's CEL expressions
}

// Quota limits the bytes of a namespace.
type Quota struct {
	Limit *Size `json:"limit,omitzero"`
}

// KeepRule keeps the tags that meet all of its conditions. Tags and
// Repositories are globs and select what the rule speaks of.
type KeepRule struct {
	Newest       int      `json:"newest,omitempty"`
	NewestPulled int      `json:"newest_pulled,omitempty"`
	PushedWithin Duration `json:"pushed_within,omitzero"`
	PulledWithin Duration `json:"pulled_within,omitzero"`
	Tags         string   `json:"tags,omitempty"`
	Repositories string   `json:"repositories,omitempty"`
	Always       bool     `json:"always,omitempty"`
	TaggedOnly   bool     `json:"tagged_only,omitempty"` // what has no tag it does not keep
	Disabled     Off      `json:"enabled,omitzero"`
}

// Retention says which tags stay: those that any rule keeps.
type Retention struct {
	Keep     []KeepRule `json:"keep,omitzero" sync:"set"`
	Untagged *bool      `json:"untagged,omitzero"` // remove what has no tag
	Schedule *string    `json:"schedule,omitzero"`
	Zone     *string    `json:"zone,omitzero"`
}

// ImmutableRule protects matching tags from being moved or deleted.
type ImmutableRule struct {
	Tags         string `json:"tags,omitempty"`
	Repositories string `json:"repositories,omitempty"`
	Disabled     Off    `json:"enabled,omitzero"`
}

// Immutable lists the tags of a namespace that cannot be moved.
type Immutable struct {
	Rules []ImmutableRule `json:"rules,omitzero" sync:"set"`
}

// AllowedCVE is a vulnerability that does not block.
type AllowedCVE struct {
	CVE    string `json:"cve"`
	Until  Date   `json:"until,omitzero"` // the last day; zero for no end
	Reason string `json:"reason,omitempty"`
}

// Scan is vulnerability scanning: of the registry (name "") or a namespace.
type Scan struct {
	OnPush   *bool        `json:"on_push,omitzero"`
	SBOM     *bool        `json:"sbom,omitzero"`
	Block    *string      `json:"block,omitzero"` // none, any, low, medium, high, critical
	Scanner  *string      `json:"scanner,omitzero"`
	Default  *string      `json:"default,omitzero"` // the registry's default scanner
	Schedule *string      `json:"schedule,omitzero"`
	Zone     *string      `json:"zone,omitzero"`
	Update   *Duration    `json:"update,omitzero"` // how often the database is renewed
	Allow    []AllowedCVE `json:"allow,omitzero" sync:"set"`
}

// Identity is somebody to whom Sigstore's authority issues certificates: who said who it
// is, and who it is.
type Identity struct {
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"` // with * as [SubjectPattern] has it
}

// Trust names the keys and identities whose signatures count in a namespace: any of them.
type Trust struct {
	Keys       Set        `json:"keys,omitzero"` // paths of PEM files
	Identities []Identity `json:"identities,omitzero" sync:"set"`
	Root       *string    `json:"root,omitzero"` // path of Sigstore's trusted root, by which identities are known
	Required   *bool      `json:"required,omitzero"`
	Notation   *bool      `json:"notation,omitzero"` // a signature of Notation is required
}

// Asks reports whether anybody must have signed.
func (t Trust) Asks() bool { return len(t.Keys)+len(t.Identities) > 0 }

// Label is a coloured mark for artifacts.
type Label struct {
	Color       *string `json:"color,omitzero"`
	Description *string `json:"description,omitzero"`
}

// Repository holds what is managed of one repository.
type Repository struct {
	Description *string `json:"description,omitzero"`
}

// Webhook tells another service what happens in a namespace.
type Webhook struct {
	URL         *string    `json:"url,omitzero"`
	Events      Set        `json:"events,omitzero"`
	Format      *string    `json:"format,omitzero"` // default, cloudevents, slack
	Description *string    `json:"description,omitzero"`
	Auth        *SecretRef `json:"auth,omitzero" sync:"secret"`
	Sign        *bool      `json:"sign,omitzero"` // auth signs, and is not sent
	Insecure    *bool      `json:"insecure,omitzero"`
	Enabled     *bool      `json:"enabled,omitzero"`
}

// PreheatPolicy says which images of a namespace a preheat instance fetches before
// they are asked for.
type PreheatPolicy struct {
	Instance     *string  `json:"instance,omitzero"` // name of a preheat
	Description  *string  `json:"description,omitzero"`
	Repositories *string  `json:"repositories,omitzero"`
	Tags         *string  `json:"tags,omitzero"`
	Labels       Set      `json:"labels,omitzero"`
	Trigger      *Trigger `json:"trigger,omitzero"`
	Scope        *string  `json:"scope,omitzero"` // single-seed-peer, all-seed-peers, all-peers; "" for none
	Enabled      *bool    `json:"enabled,omitzero"`
}

// RobotSecret says what a robot's secret is or where a generated one goes.
type RobotSecret struct {
	Value   *SecretRef `json:"value,omitzero" sync:"secret"`
	Deliver *Delivery  `json:"deliver,omitzero" sync:"local"`
}

// RobotPermission is a right of a robot beyond the four.
type RobotPermission struct {
	Namespace string `json:"namespace,omitempty"` // "" for the system
	Resource  string `json:"resource"`
	Action    string `json:"action"`
}

// Robot is an account of a machine; its name is fixed, its accounts alternate.
type Robot struct {
	Description *string           `json:"description,omitzero"`
	Expires     *Duration         `json:"expires,omitzero"`
	Renew       *Duration         `json:"renew,omitzero" sync:"local"`
	Overlap     *Duration         `json:"overlap,omitzero" sync:"local"`
	Enabled     *bool             `json:"enabled,omitzero"`
	Secret      *RobotSecret      `json:"secret,omitzero"`
	Access      Grants            `json:"access,omitzero"` // by namespace, "*" for all
	Permissions []RobotPermission `json:"permissions,omitzero" sync:"set"`
}

// Match selects repositories and tags by glob.
type Match struct {
	Repositories *string `json:"repositories,omitzero"`
	Tags         *string `json:"tags,omitzero"`
	Labels       Set     `json:"labels,omitzero"`
	Type         *string `json:"type,omitzero"` // all, image, artifact
}

// Replication copies between registries by the registry's own engine.
type Replication struct {
	To          *string  `json:"to,omitzero"`   // a remote
	From        *string  `json:"from,omitzero"` // a remote
	Namespace   *string  `json:"namespace,omitzero"`
	Description *string  `json:"description,omitzero"`
	Match       *Match   `json:"match,omitzero"`
	Trigger     *Trigger `json:"trigger,omitzero"`
	Deletes     *bool    `json:"deletes,omitzero"`
	Override    *bool    `json:"override,omitzero"`
	Enabled     *bool    `json:"enabled,omitzero"`
	Rate        *Size    `json:"rate,omitzero"`    // bytes per second
	Flatten     *int     `json:"flatten,omitzero"` // parts of a name that Namespace replaces; -1 for all but the last
	Chunks      *bool    `json:"chunks,omitzero"`
	Single      *bool    `json:"single,omitzero"` // no run beside another
}

// GC is the collection of content that nothing refers to.
type GC struct {
	Schedule *string   `json:"schedule,omitzero"`
	Zone     *string   `json:"zone,omitzero"`
	Delay    *Duration `json:"delay,omitzero"`
	Untagged *bool     `json:"untagged,omitzero"`
	Workers  *int      `json:"workers,omitzero"`
}

// Audit is the record of who did what.
type Audit struct {
	Log      *string   `json:"log,omitzero"` // a file
	Keep     *Duration `json:"keep,omitzero"`
	Schedule *string   `json:"schedule,omitzero"`
	Zone     *string   `json:"zone,omitzero"`
	Events   Set       `json:"events,omitzero"`
}

// TagSelect chooses tags; a tag must meet every condition given.
type TagSelect struct {
	List   Set       `json:"list,omitzero"`
	Glob   *string   `json:"glob,omitzero"`
	Regex  *string   `json:"regex,omitzero"`
	Semver *string   `json:"semver,omitzero"`
	Newest *int      `json:"newest,omitzero"`
	Since  *Duration `json:"since,omitzero"`
}

// Mirror is content copied from elsewhere.
type Mirror struct {
	From         *string    `json:"from,omitzero"`
	To           *string    `json:"to,omitzero"`
	Tags         *TagSelect `json:"tags,omitzero"`
	Platforms    Set        `json:"platforms,omitzero"`
	Referrers    *bool      `json:"referrers,omitzero"`
	Prune        *bool      `json:"prune,omitzero"`
	Schedule     *string    `json:"schedule,omitzero"`
	Zone         *string    `json:"zone,omitzero"`
	KeepPrevious *string    `json:"keep_previous,omitzero"`
	OnlyMissing  *bool      `json:"only_missing,omitzero"`
	Realms       Set        `json:"realms,omitzero"`
	Rate         *Size      `json:"rate,omitzero"` // bytes per second
	Trust        *Trust     `json:"trust,omitzero"`
	Altered      Set        `json:"altered,omitzero" sync:"seen"` // tags that somebody moved or deleted here
}

// Sign says with what key an artifact is signed when it is pushed.
type Sign struct {
	Key *SecretRef `json:"key,omitzero" sync:"secret"`
}

// Artifact is files of the mode's repository as an OCI artifact.
type Artifact struct {
	To          *string `json:"to,omitzero"`
	Type        *string `json:"type,omitzero"`
	Files       Set     `json:"files,omitzero"`
	Annotations Pairs   `json:"annotations,omitzero"`
	Sign        *Sign   `json:"sign,omitzero"`
	Digest      *string `json:"digest,omitzero" sync:"seen"` // of its manifest
}

func (*Settings) Kind() Kind      { return KindSettings }
func (*User) Kind() Kind          { return KindUser }
func (*Group) Kind() Kind         { return KindGroup }
func (*Remote) Kind() Kind        { return KindRemote }
func (*Scanner) Kind() Kind       { return KindScanner }
func (*Preheat) Kind() Kind       { return KindPreheat }
func (*Namespace) Kind() Kind     { return KindNamespace }
func (*Access) Kind() Kind        { return KindAccess }
func (*Quota) Kind() Kind         { return KindQuota }
func (*Retention) Kind() Kind     { return KindRetention }
func (*Immutable) Kind() Kind     { return KindImmutable }
func (*Scan) Kind() Kind          { return KindScan }
func (*Trust) Kind() Kind         { return KindTrust }
func (*Label) Kind() Kind         { return KindLabel }
func (*Repository) Kind() Kind    { return KindRepository }
func (*Webhook) Kind() Kind       { return KindWebhook }
func (*PreheatPolicy) Kind() Kind { return KindPreheatPolicy }
func (*Robot) Kind() Kind         { return KindRobot }
func (*Replication) Kind() Kind   { return KindReplication }
func (*GC) Kind() Kind            { return KindGC }
func (*Audit) Kind() Kind         { return KindAudit }
func (*Mirror) Kind() Kind        { return KindMirror }
func (*Artifact) Kind() Kind      { return KindArtifact }
