// Package embedded is the provider of the registry that comes with ocisync
// (type distribution, driver embedded).
//
// Start with [New]. All that a call needs to decide is how the registry is
// reached (reach.go): by the admin socket of the process that serves its data
// directory, by the directory itself while nobody does, or by its URL from
// another host. The registry itself is package pkg/embedded. [NewAccounts] is the
// same without content, for a registry that another program serves.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ocisync/ocisync/pkg/access"
	registry "github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// Provider implements [providers.Provider] and [providers.Checker]. Keep one for
// a registry; what it needs of the data directory is kept with it.
type Provider struct {
	cost      int // of hashing a password, as bcrypt counts
	registry  schema.Registry
	accounts  bool // without content
	table     schema.Table
	kinds     []schema.Kind
	url       *url.URL // of the admin API
	host      string   // of the registry, for its clients
	data      string   // absolute
	directory *registry.Directory
	secrets   providers.Secrets
	logger    *slog.Logger
	outside   access.Outside              // "" while the mode does not say
	permit    func(registry string) error // nil where secrets may go anywhere
	renewing  sync.Mutex                  // of robots
	pending   map[schema.Key]pending
}

// Option is something New need not be told.
type Option func(*Provider)

// Outside makes the mode's policy.outside part of the desired state, so that a
// plan shows when it differs: it is the one value of the registry's settings.
func Outside(o access.Outside) Option { return func(p *Provider) { p.outside = o } }

// Permit asks, before a secret goes to the registry's URL, whether it may.
func Permit(ask func(registry string) error) Option { return func(p *Provider) { p.permit = ask } }

// HashCost is what hashing passwords costs, in the place of
// [registry.HashCost]: tests hash hundreds, and none that is worth guessing.
func HashCost(cost int) Option { return func(p *Provider) { p.cost = cost } }

// New makes the provider and reaches for nothing yet. The logger may be nil.
func New(r schema.Registry, secrets providers.Secrets, logger *slog.Logger, options ...Option) (*Provider, error) {
	u, err := url.Parse(r.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("registry.url %q is not the address of a registry; write it as http://localhost:5000", r.URL)
	}
	if r.Driver() != schema.DriverEmbedded || r.Run.Data == "" {
		return nil, fmt.Errorf("%s: the embedded registry has no data directory; name one in registry.run.data", r.URL)
	}
	data, err := filepath.Abs(r.Run.Data)
	if err != nil {
		return nil, fmt.Errorf("%s: registry.run.data %s: %w", r.URL, r.Run.Data, err)
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	directory, err := registry.OpenDirectory(data, "ocisync apply", Bucket(r, secrets))
	if err != nil {
		return nil, fmt.Errorf("%s: registry.run.data %s: %w", r.URL, r.Run.Data, err)
	}
	directory.URL, directory.Logger = r.URL, logger
	p := &Provider{registry: r, table: Capabilities(), kinds: registry.Kinds(), url: u, host: u.Host, data: data, directory: directory, secrets: secrets, logger: logger}
	return p.with(options), nil
}

func (p *Provider) with(options []Option) *Provider {
	p.cost, p.pending = registry.HashCost, map[schema.Key]pending{}
	for _, o := range options {
		o(p)
	}
	return p
}

// Accounts says what accounts and rules [NewAccounts] is for.
type Accounts struct {
	// Service is where the token service answers; where there is none it is the
	// registry's own address.
	Service *url.URL
	Data    string // the directory that holds them below ocisync/; "" on another host
	Kinds   []schema.Kind
	Table   schema.Table // what it says is unsupported is refused
}

// NewAccounts makes the provider of the accounts and rules of a registry that
// another program serves. The logger may be nil.
func NewAccounts(r schema.Registry, a Accounts, secrets providers.Secrets, logger *slog.Logger, options ...Option) (*Provider, error) {
	u, err := url.Parse(r.URL)
	if err != nil {
		return nil, fmt.Errorf("registry.url %q is not the address of a registry; write it as http://localhost:5000", r.URL)
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	directory, err := registry.OpenAccounts(a.Data, "ocisync apply")
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", r.URL, a.Data, err)
	}
	directory.Logger = logger
	p := &Provider{accounts: true, registry: r, table: a.Table, kinds: a.Kinds, url: a.Service, host: u.Host, data: a.Data, directory: directory, secrets: secrets, logger: logger}
	return p.with(options), nil
}

// Bucket is the object store of a mode's registry, if it has one.
func Bucket(r schema.Registry, secrets providers.Secrets) registry.Bucket {
	if r.Run == nil || r.Run.Storage == nil {
		return registry.Bucket{}
	}
	return registry.Bucket{Storage: r.Run.Storage, Secret: secrets.Resolve}
}

// Batch implements [providers.Provider]. All is in one file, but writing it is
// cheap, and rank by rank what needs a failed object is never sent.
func (p *Provider) Batch() providers.Batch { return providers.BatchRank }

// Normalize implements [providers.Provider].
func (p *Provider) Normalize(st schema.State) (schema.State, []plan.Note, error) {
	var notes []plan.Note
	st.Resources = slices.Clone(st.Resources)
	for _, r := range st.Resources {
		if spec, ok := r.Spec.(*schema.Access); ok && spec.AuthenticatedGroup != nil {
			notes = append(notes, plan.Note{Key: r.Key, Text: "authenticated means every user of this registry; authenticated_group is kept and decides nothing"})
		}
	}
	if p.outside != "" {
		p.addOutside(&st)
	}
	if err := st.Sort(); err != nil {
		return schema.State{}, nil, err
	}
	return st, notes, nil
}

// addOutside makes the policy a value of the desired settings.
func (p *Provider) addOutside(st *schema.State) {
	key := schema.Key{Kind: schema.KindSettings}
	value := schema.Value{Path: registry.OutsidePath, JSON: strconv.Quote(string(p.outside))}
	i := slices.IndexFunc(st.Resources, func(r schema.Resource) bool { return r.Key == key })
	if i < 0 {
		st.Resources = append(st.Resources, schema.Resource{Key: key, Spec: &schema.Settings{Values: schema.Values{value}}})
		kinds := append([]schema.Kind{schema.KindSettings}, st.Scope.Kinds...)
		slices.Sort(kinds)
		st.Scope.Kinds = slices.Compact(kinds)
		return
	}
	var values schema.Values
	if spec, ok := st.Resources[i].Spec.(*schema.Settings); ok {
		values = slices.Clone(spec.Values)
	}
	values = slices.DeleteFunc(values, func(v schema.Value) bool { return v.Path == value.Path })
	at, _ := slices.BinarySearchFunc(values, value.Path, func(v schema.Value, path string) int {
		if v.Path < path {
			return -1
		}
		return 1
	})
	st.Resources[i].Spec = &schema.Settings{Values: slices.Insert(values, at, value)}
}

// Read implements [providers.Provider]. With [Outside] it reads the settings
// too, whether or not the scope names them.
func (p *Provider) Read(ctx context.Context, scope schema.Scope) (schema.State, error) {
	a, err := p.reach(ctx)
	if err != nil {
		return schema.State{}, err
	}
	defer a.Close()
	var kinds []schema.Kind
	for _, k := range p.kinds {
		if k == schema.KindSettings && p.outside != "" || k != schema.KindSettings && slices.Contains(scope.Kinds, k) {
			kinds = append(kinds, k)
		}
	}
	st := schema.State{Scope: schema.ScopeOf(kinds...)}
	st.Scope.Except = slices.Clone(scope.Except)
	if len(kinds) > 0 {
		live, err := a.State(ctx, kinds)
		if err != nil {
			return schema.State{}, p.failure("reading accounts and rules", err)
		}
		for _, r := range live.Objects {
			if st.Scope.Covers(r.Key) {
				st.Resources = append(st.Resources, r)
			}
		}
		st.Renamed = live.Renamed
	}
	if len(scope.Repositories) > 0 {
		st.Scope.Repositories = slices.Clone(scope.Repositories)
		if st.Repositories, err = a.Repositories(ctx, scope.Repositories); err != nil {
			return schema.State{}, p.failure("listing repositories", err)
		}
	}
	if err := st.Sort(); err != nil {
		return schema.State{}, p.failure("reading accounts and rules", err)
	}
	return st, nil
}

// Sizes implements [providers.Sizer] by what lies on the disk.
func (p *Provider) Sizes(ctx context.Context, repositories []string) (map[string]int64, error) {
	a, err := p.reach(ctx)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	var at []string // a request has no room for the names of all
	for _, name := range repositories {
		top, _, _ := strings.Cut(name, "/")
		at = append(at, top)
	}
	slices.Sort(at)
	if at = slices.Compact(at); len(at) > mostNames {
		at = []string{"*"}
	}
	told, err := a.Sizes(ctx, at)
	if err != nil {
		return nil, p.failure("measuring repositories", err)
	}
	out := map[string]int64{}
	for _, name := range repositories {
		if size, ok := told[name]; ok {
			out[name] = size
		}
	}
	return out, nil
}

// mostNames is how many names a request carries.
const mostNames = 50

var _ providers.Sizer = (*Provider)(nil)

// RobotHashes returns, by login, the hashes of the robots' accounts that one can
// log in with now, of a data directory on this host that nobody serves.
func (p *Provider) RobotHashes(context.Context) (map[string]string, error) {
	hashes, err := p.directory.RobotHashes(time.Now())
	if err != nil {
		return nil, p.failure("reading robots", err)
	}
	return hashes, nil
}

// Check implements [providers.Checker] for the password of users, the auth
// of webhooks and the given secret of robots. It sends none in the clear to another host: that is
// ErrUnsupported.
func (p *Provider) Check(ctx context.Context, key schema.Key, field string, ref schema.SecretRef) (bool, error) {
	isUser := key.Kind == schema.KindUser && field == "password"
	kept := key.Kind == schema.KindWebhook && field == "auth" || key.Kind == schema.KindRobot && field == "secret.value"
	if !isUser && !kept {
		return false, p.failure("", fmt.Errorf("%s: %s: comparing it: %w", key, field, providers.ErrUnsupported))
	}
	a, err := p.reach(ctx)
	if err != nil {
		return false, err
	}
	defer a.Close()
	if p.exposed(a) {
		return false, p.failure("", fmt.Errorf("%s: %s: sending it without TLS to compare it: %w", key, field, providers.ErrUnsupported))
	}
	secret, err := p.secrets.Resolve(ctx, ref)
	if err != nil {
		return false, fmt.Errorf("%s: %s: %w", key, field, err)
	}
	var equal bool
	if isUser {
		equal, err = a.Check(ctx, key.Name, secret)
	} else {
		equal, err = a.CheckSecret(ctx, key, secret)
	}
	if err != nil {
		return false, p.failure("checking the "+field+" of "+key.String(), err)
	}
	return equal, nil
}

// exposed reports whether what is sent can be read on the way.
func (p *Provider) exposed(a admin) bool {
	_, remote := a.(away)
	return remote && p.url.Scheme == "http" && !loopback(p.url.Hostname())
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// kinded is a cause that is also one of the errors of package providers.
type kinded struct{ cause, kind error }

func (e kinded) Error() string   { return e.cause.Error() }
func (e kinded) Unwrap() []error { return []error{e.kind, e.cause} }

// failure says what registry an error is of, and makes it one of the kinds of
// package providers.
func (p *Provider) failure(doing string, err error) error {
	var said *providers.Error
	if errors.As(err, &said) { // by the provider itself
		return err
	}
	out := &providers.Error{Registry: p.registry.URL, Doing: doing, Err: err}
	start, address := "start the registry with `ocisync up`", "registry.url"
	if p.accounts {
		start, address = "start its token service with `ocisync up` or `ocisync auth serve`", "registry.token.url"
		if p.registry.Run == nil {
			start = "start its token service with `ocisync auth serve`"
		}
	}
	for _, m := range []struct {
		is, kind error
		remedy   string
	}{
		{registry.ErrConflict, providers.ErrConflict, ""},
		{registry.ErrSuperseded, providers.ErrConflict, "another process renews it too; let one alone do that"},
		{registry.ErrInvalid, providers.ErrInvalid, ""},
		{registry.ErrUnsupported, providers.ErrUnsupported, ""},
		{registry.ErrMissing, providers.ErrNotFound, ""},
		{registry.ErrHeld, providers.ErrUnreachable, ""},
		{registry.ErrSilent, providers.ErrUnreachable, ""},
		{registry.ErrUnauthorized, providers.ErrUnauthorized, "registry.login names an admin user of the registry and its password"},
		{registry.ErrForbidden, providers.ErrForbidden, "make the user of registry.login an admin user"},
		{registry.ErrMute, providers.ErrUnreachable, "look at what it does, or correct " + address},
		{registry.ErrForeign, providers.ErrNotRegistry, "check " + address},
		{registry.ErrBroken, providers.ErrUnreachable, "check " + address + " and registry.tls"},
		{registry.ErrUnreachable, providers.ErrUnreachable, start},
	} {
		if errors.Is(err, m.is) {
			out.Err, out.Remedy = kinded{err, m.kind}, m.remedy
			break
		}
	}
	return out
}
