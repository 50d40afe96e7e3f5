// Package distribution is the provider of CNCF Distribution 3 run as a program
// or container of its own.
//
// Start with [New]. Distribution is configured by config.yml (document.go,
// settings.go), which it reads when it starts and never again, so that every
// change of it is a restart (write.go). It knows accounts without rights: users,
// robots, groups, namespaces and access are those of ocisync's token service,
// kept, served and changed as the embedded registry's are, by the provider of
// that one; and so are webhooks, of which it hears through an endpoint of
// config.yml (events.go). Or a mode has it keep to its own accounts, an htpasswd
// file (htpasswd.go), and then everybody who has one may do everything.
package distribution

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/embedded"
	"github.com/ocisync/ocisync/pkg/providers/htpasswd"
	"github.com/ocisync/ocisync/pkg/providers/measure"
	"github.com/ocisync/ocisync/pkg/providers/oci"
	"github.com/ocisync/ocisync/schema"
)

// Provider implements [providers.Provider], [providers.Checker],
// [providers.Remarker], [providers.Renewer], [providers.Transporter],
// [providers.Launcher], [providers.Reverter], [providers.Runner],
// [providers.Withholder], [providers.Attendant], [providers.Hosted],
// [providers.Blank] and [providers.Bereft].
type Provider struct {
	registry schema.Registry
	place    Place
	accounts *embedded.Provider // and rules; nil without a token service or an htpasswd file
	people   *accountFile       // nil but with an htpasswd file
	process  providers.Process  // nil where somebody else runs the registry
	secrets  providers.Secrets
	logger   *slog.Logger
	permit   func(registry string) error // nil where secrets may go anywhere
	cost     int                         // of hashing a password for an htpasswd file
	outside  access.Outside
	options  []embedded.Option // of the accounts
	meter    *measure.Meter
	renewed  time.Time // when the certificate was written for which tend restarted the registry last
}

// Option is something New need not be told.
type Option func(*Provider)

// Outside makes the mode's policy.outside part of the desired state, as a value
// of the settings that the token service keeps.
func Outside(o access.Outside) Option {
	return func(p *Provider) { p.outside = o }
}

// Permit asks, before a secret goes to the registry or its token service,
// whether it may.
func Permit(ask func(registry string) error) Option {
	return func(p *Provider) {
		p.permit = ask
		p.options = append(p.options, embedded.Permit(ask))
	}
}

// HashCost is what hashing passwords costs, for tests.
func HashCost(cost int) Option {
	return func(p *Provider) {
		p.cost = cost
		p.options = append(p.options, embedded.HashCost(cost))
	}
}

// New makes the provider. Of the registry it reads config.yml, if somebody else
// wrote that: it may name an htpasswd file. The process is nil where somebody
// else runs the registry; the logger may be nil.
func New(r schema.Registry, process providers.Process, secrets providers.Secrets, logger *slog.Logger, options ...Option) (*Provider, error) {
	place, err := PlaceOf(r)
	if err != nil {
		return nil, err
	}
	if place.Config == "" && place.Service == nil && place.Htpasswd == "" {
		return nil, fmt.Errorf("%s: nothing of this registry can be reached but its images; name its files in registry.files, its token service in registry.token, or have ocisync run it with registry.run", r.URL)
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	p := &Provider{registry: r, place: place, process: process, secrets: secrets, logger: logger, cost: htpasswd.DefaultCost, meter: measure.New()}
	for _, o := range options {
		o(p)
	}
	p.findHtpasswd()
	service := place.Service
	switch {
	case p.byFile():
		if service, err = url.Parse(r.URL); err != nil {
			return nil, err
		}
		p.people = &accountFile{registry: r.URL, name: p.place.Htpasswd, cost: p.cost, secrets: secrets}
		if r.Run != nil {
			p.people.own = filepath.Join(place.Data, "ocisync", "self")
		}
	case service == nil:
		return p, nil
	case p.outside != "":
		p.options = append(p.options, embedded.Outside(p.outside))
	}
	p.accounts, err = embedded.NewAccounts(r, embedded.Accounts{
		Service: service, Data: p.place.Data, Kinds: append(p.accountKinds(), schema.KindSettings), Table: p.Capabilities(),
	}, secrets, logger, p.options...)
	return p, err
}

// findHtpasswd looks for the accounts of a registry of somebody else's in its
// config.yml, where the mode does not name them and gives no tokens. A path that
// is none of this host's is one in a container, of which only the mode can tell
// what it is here.
func (p *Provider) findHtpasswd() {
	if p.registry.Run != nil || p.place.Config == "" || p.place.Service != nil || p.byFile() {
		return
	}
	now, err := p.file()
	if err != nil {
		return // who reads the settings says so
	}
	if n := now.doc.get("auth.htpasswd.path"); n != nil && filepath.IsAbs(n.Value) {
		if _, err := os.Stat(n.Value); err == nil {
			p.place.Htpasswd = filepath.Clean(n.Value)
		}
	}
}

// accountKinds are those that the token service keeps, or what would be one.
func (p *Provider) accountKinds() []schema.Kind {
	table := p.Capabilities()
	return slices.DeleteFunc([]schema.Kind{
		schema.KindUser, schema.KindGroup, schema.KindNamespace, schema.KindAccess, schema.KindRobot,
		schema.KindQuota, schema.KindRetention, schema.KindGC, schema.KindWebhook,
	}, func(k schema.Kind) bool {
		return table.Find(k, "").Support == schema.Unsupported || k == schema.KindUser && p.byFile()
	})
}

// Capabilities implements [providers.Provider].
func (p *Provider) Capabilities() schema.Table { return Capabilities(p.registry.Driver(), p.byFile()) }

// Batch implements [providers.Provider]: the configuration is one object, and
// accounts change live.
func (p *Provider) Batch() providers.Batch { return providers.BatchRank }

// Normalize implements [providers.Provider]. What ocisync sets itself is part of
// the desired settings, so that a plan shows when it differs.
func (p *Provider) Normalize(st schema.State) (_ schema.State, notes []plan.Note, err error) {
	if p.accounts != nil {
		if st, notes, err = p.accounts.Normalize(st); err != nil {
			return schema.State{}, nil, err
		}
	}
	if p.byFile() && p.outside == access.Deny {
		notes = append(notes, plan.Note{Key: schema.Key{Kind: schema.KindAccess}, Text: "policy.outside denies nothing here: " + noRights})
	}
	if p.place.Config == "" {
		return st, notes, nil
	}
	st.Resources = slices.Clone(st.Resources)
	i := slices.IndexFunc(st.Resources, func(r schema.Resource) bool { return r.Key == settingsKey() })
	var declared schema.Values
	if i >= 0 {
		if spec, ok := st.Resources[i].Spec.(*schema.Settings); ok {
			declared = spec.Values
		}
	}
	if err := onePlace(declared); err != nil {
		return schema.State{}, nil, fmt.Errorf("%s: registry.distribution.%w", p.registry.URL, err)
	}
	notes = append(notes, p.overridden(declared)...)
	all := p.notifying(st, p.owned(slices.DeleteFunc(slices.Clone(declared), func(v schema.Value) bool { return providers.OfRun(v.Path) })))
	run, err := providers.WantedRun(p.process, p.registry, p)
	if err != nil {
		return schema.State{}, nil, err
	}
	all = append(append(all, run...), p.wantedTokens()...)
	slices.SortFunc(all, byPath)
	if i < 0 && len(all) > 0 {
		i = len(st.Resources)
		st.Resources = append(st.Resources, schema.Resource{Key: settingsKey()})
		if !slices.Contains(st.Scope.Kinds, schema.KindSettings) {
			st.Scope.Kinds = append([]schema.Kind{schema.KindSettings}, st.Scope.Kinds...)
			slices.Sort(st.Scope.Kinds)
		}
	}
	if i >= 0 {
		st.Resources[i].Spec = &schema.Settings{Values: all}
	}
	return st, notes, st.Sort()
}

// Where implements [providers.Hosted]: of its settings. Whom its token service
// knows, that tells from anywhere.
func (p *Provider) Where(ctx context.Context) (providers.Place, error) {
	if p.place.Config == "" {
		return providers.Away, nil
	}
	names := []string{p.place.Config, p.former()}
	switch {
	case p.byFile():
		names = append(names, p.place.Htpasswd)
	case p.registry.Run != nil:
		names = append(names, p.place.Keys())
	}
	return providers.Locate(ctx, p.process, p.registry, names, func(ctx context.Context) error {
		rt, err := p.connection()
		if err != nil {
			return err
		}
		_, err = oci.Ping(ctx, p.registry.URL, rt)
		return err
	})
}

// Filed implements [providers.Hosted].
func (p *Provider) Filed() []schema.Kind { return []schema.Kind{schema.KindSettings} }

// away reports whether the registry's files are on another host.
func (p *Provider) away(ctx context.Context) (bool, error) {
	where, err := p.Where(ctx)
	return where == providers.Away, err
}

// Read implements [providers.Provider].
func (p *Provider) Read(ctx context.Context, scope schema.Scope) (schema.State, error) {
	if err := ctx.Err(); err != nil {
		return schema.State{}, err
	}
	away, err := p.away(ctx)
	if err != nil {
		return schema.State{}, err
	}
	settings := slices.Contains(scope.Kinds, schema.KindSettings)
	st := schema.State{Scope: schema.Scope{Except: slices.Clone(scope.Except)}}
	kinds := slices.DeleteFunc(slices.Clone(scope.Kinds), func(k schema.Kind) bool { return !slices.Contains(p.accountKinds(), k) })
	if p.accounts == nil { // nobody keeps them, so there are none, and what is declared is refused
		st.Scope.Kinds = kinds
	} else {
		if len(kinds) > 0 || !p.byFile() { // accounts of a file need nothing of ocisync's beside it
			var err error
			if st, err = p.accounts.Read(ctx, schema.Scope{Kinds: kinds, Except: scope.Except}); err != nil {
				return schema.State{}, err
			}
		}
		for i, r := range st.Resources {
			st.Resources[i] = p.done(r)
		}
		if p.byFile() {
			if err := p.readFile(ctx, scope, &st); err != nil {
				return schema.State{}, err
			}
		}
		if !settings { // it reads its policy in any case
			st.Scope.Kinds = slices.DeleteFunc(st.Scope.Kinds, func(k schema.Kind) bool { return k == schema.KindSettings })
			st.Resources = slices.DeleteFunc(st.Resources, func(r schema.Resource) bool { return r.Key.Kind == schema.KindSettings })
		}
	}
	if settings && !away {
		if err := p.readSettings(ctx, &st); err != nil {
			return schema.State{}, err
		}
	}
	if len(scope.Repositories) > 0 {
		list, err := p.repositories(ctx, scope.Repositories)
		switch {
		case errors.Is(err, providers.ErrUnreachable): // what it holds is unknown then, and not nothing
			p.logger.Warn("repositories are not known", "error", err)
		case err != nil:
			return schema.State{}, err
		default:
			st.Scope.Repositories, st.Repositories = slices.Clone(scope.Repositories), list
		}
	}
	return st, st.Sort()
}

// readSettings adds what config.yml says to what the accounts know of settings.
func (p *Provider) readSettings(ctx context.Context, st *schema.State) error {
	if !slices.Contains(st.Scope.Kinds, schema.KindSettings) {
		st.Scope.Kinds = append(st.Scope.Kinds, schema.KindSettings)
		slices.Sort(st.Scope.Kinds)
	}
	live, err := p.inForce(ctx)
	if errors.Is(err, fs.ErrNotExist) || slices.Contains(st.Scope.Except, settingsKey()) {
		return nil
	}
	if err != nil {
		return err
	}
	values, secrets, err := p.leaves(ctx, live.doc)
	if err != nil {
		return p.configError("reading settings", err)
	}
	run, err := providers.LiveRun(ctx, p.process, p.registry, p)
	if err != nil {
		return &providers.Error{Registry: p.registry.URL, Doing: "asking how it runs", Err: err}
	}
	tokens, err := p.liveTokens(ctx)
	if err != nil {
		return err
	}
	values = append(append(values, run...), tokens...)
	if collecting, err := p.collecting(live.doc); err != nil {
		return err
	} else if collecting { // it takes pushes again when that has ended
		i := slices.IndexFunc(values, func(v schema.Value) bool { return v.Path == readOnly })
		values[i].JSON = "false"
	}
	out := schema.Resource{Key: settingsKey(), Version: live.version()}
	for _, path := range secrets {
		out.Unread = append(out.Unread, "values."+path)
	}
	i := slices.IndexFunc(st.Resources, func(r schema.Resource) bool { return r.Key == settingsKey() })
	if i >= 0 {
		if spec, ok := st.Resources[i].Spec.(*schema.Settings); ok {
			values = append(values, spec.Values...)
		}
		out.Version += "+" + st.Resources[i].Version
	} else {
		i = len(st.Resources)
		st.Resources = append(st.Resources, out)
	}
	slices.SortFunc(values, byPath)
	out.Spec = &schema.Settings{Values: values}
	st.Resources[i] = out
	return nil
}

func byPath(a, b schema.Value) int { return strings.Compare(a.Path, b.Path) }

func settingsKey() schema.Key { return schema.Key{Kind: schema.KindSettings} }

// Remarks implements [providers.Remarker].
func (p *Provider) Remarks(ctx context.Context, desired schema.State, now time.Time) (notes []plan.Note, err error) {
	if p.accounts != nil {
		if notes, err = p.accounts.Remarks(ctx, desired, now); err != nil {
			return nil, err
		}
		full, err := p.fullNotes(ctx, desired)
		if err != nil {
			return nil, err
		}
		notes = append(notes, full...)
	}
	if p.byFile() && slices.Contains(desired.Kinds(), schema.KindUser) {
		lines, err := p.people.remarks()
		if err != nil {
			return nil, err
		}
		notes = append(notes, lines...)
	}
	if p.place.Config != "" {
		for _, text := range p.lines(p.odd()) {
			notes = append(notes, plan.Note{Key: settingsKey(), Text: text})
		}
	}
	troubles, err := p.Troubles(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range troubles {
		notes = append(notes, plan.Note{Key: settingsKey(), Text: t.What + ": " + t.Text})
	}
	note, err := p.stale(ctx)
	if note != "" {
		notes = append(notes, plan.Note{Key: settingsKey(), Text: note})
	}
	return notes, err
}

// Blank implements [providers.Blank]: a registry whose token service was never
// told anything, or that has no accounts in a file.
func (p *Provider) Blank(ctx context.Context) (string, error) {
	if p.accounts == nil {
		return "", nil
	}
	if p.byFile() {
		users, err := p.people.users(func(error) {})
		if err != nil || len(users) > 0 {
			return "", err
		}
	}
	return p.accounts.Blank(ctx)
}

// Acknowledge implements [providers.Acknowledger]: of accounts and their rules.
func (p *Provider) Acknowledge(ctx context.Context, keys []schema.Key) error {
	if p.accounts == nil {
		return nil
	}
	return p.accounts.Acknowledge(ctx, keys)
}

// Accounts implements [providers.Issuer].
func (p *Provider) Accounts(ctx context.Context, desired schema.State) ([]providers.Account, error) {
	if p.accounts == nil {
		return nil, nil
	}
	return p.accounts.Accounts(ctx, desired)
}

// Due implements [providers.Renewer].
func (p *Provider) Due(ctx context.Context, desired schema.State, at time.Time) ([]providers.Renewal, error) {
	if p.accounts == nil {
		return nil, nil
	}
	return p.accounts.Due(ctx, desired, at)
}

// Renew implements [providers.Renewer].
func (p *Provider) Renew(ctx context.Context, desired schema.State, at time.Time) ([]providers.Renewal, error) {
	if p.accounts == nil {
		return nil, nil
	}
	runs, err := p.accounts.Renew(ctx, desired, at)
	return runs, errors.Join(err, p.project(ctx))
}

// configError is a failure of config.yml.
func (p *Provider) configError(doing string, err error) error {
	remedy := "correct the file"
	switch {
	case errors.Is(err, fs.ErrPermission):
		remedy = "run ocisync as the user who owns the file"
	case strings.HasPrefix(doing, "writing"):
		remedy = "check the directory of the file"
	}
	return &providers.Error{Registry: p.registry.URL, Key: settingsKey(), Doing: doing, Err: lined(p.place.Config, err), Remedy: remedy}
}
