// Package harbor is the provider of Harbor, the registry that is all API.
//
// Start with [New]. What is known of each kind is in the file of its name: how it
// is read, brought into the form in which it is read, and written; kinds.go lists
// them. A [site] is what one call has seen of the registry; how requests are sent
// is package api's. What Harbor can do is the table of capabilities.go.
package harbor

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// Provider implements [providers.Provider]. Keep one for a run: it logs in once.
type Provider struct {
	registry schema.Registry
	secrets  providers.Secrets
	logger   *slog.Logger
	permit   func(registry string) error
	files    fs.FS // what paths of objects count from; nil where nobody said
	now      func() time.Time

	keeps    atomic.Bool // it was asked for what ocisync stores in Harbor itself
	key      []byte      // of hashes that only this process compares
	renewing sync.Mutex  // held by the one that renews robots
	bringing sync.Mutex  // held while a secret is delivered: two may go to one file

	mu     sync.Mutex
	opened *api.Client
	seen   seen
	made   made // since the last read
	// brought is where the secrets of accounts were delivered to, since New.
	brought map[string]string
	// dated are the secrets of robots that were right in some second, since New, and
	// settled is when no later change of one falls into it.
	dated   map[schema.Key]dated
	settled time.Time
	// wanted is what was brought into form last: what of it nobody asks for need
	// not be read. Nothing else depends on it.
	wanted schema.State
}

// Option is something New need not be told.
type Option func(*Provider)

// Permit asks, before a secret goes to the registry's URL, whether it may.
func Permit(ask func(registry string) error) Option { return func(p *Provider) { p.permit = ask } }

// Files is the directory from which the paths of objects count, such as those of
// certificates.
func Files(below fs.FS) Option { return func(p *Provider) { p.files = below } }

// Clock is the time, for what is allowed until a day.
func Clock(now func() time.Time) Option { return func(p *Provider) { p.now = now } }

// New makes the provider and reaches for nothing yet. The logger may be nil.
func New(r schema.Registry, secrets providers.Secrets, logger *slog.Logger, options ...Option) (*Provider, error) {
	p := &Provider{registry: r, secrets: secrets, logger: logger, now: time.Now, key: make([]byte, sha256.Size), made: made{}, brought: map[string]string{}, dated: map[schema.Key]dated{}}
	if _, err := rand.Read(p.key); err != nil {
		return nil, p.fail(schema.Key{}, "making a key", err, "")
	}
	if p.logger == nil {
		p.logger = slog.New(slog.DiscardHandler)
	}
	for _, o := range options {
		o(p)
	}
	return p, nil
}

// Capabilities implements [providers.Provider].
func (p *Provider) Capabilities() schema.Table { return Capabilities() }

// Batch implements [providers.Provider]: an object needs its neighbours' ids.
func (p *Provider) Batch() providers.Batch { return providers.BatchRank }

// host is the registry's, with its port.
func (p *Provider) host() string {
	u, err := url.Parse(p.registry.URL)
	if err != nil {
		return ""
	}
	return u.Host
}

// client logs in, once.
func (p *Provider) client(ctx context.Context) (*api.Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.opened != nil {
		return p.opened, nil
	}
	c, err := api.Open(ctx, api.Options{Registry: p.registry, Secrets: p.secrets, Permit: p.permit, Logger: p.logger})
	if err != nil {
		return nil, err
	}
	p.opened = c
	return c, nil
}

// Close logs nobody out, and lets go of connections.
func (p *Provider) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.opened != nil {
		p.opened.Close()
	}
	return nil
}

// Normalize implements [providers.Provider]. Of the world it looks at certificates
// in the files that objects name, and at the day.
func (p *Provider) Normalize(st schema.State) (schema.State, []plan.Note, error) {
	n := &normal{desired: st, files: p.files, today: schema.DateOf(p.now())}
	out := schema.State{Scope: st.Scope, Repositories: st.Repositories, Renamed: st.Renamed}
	for _, r := range st.Resources {
		if k, ok := kinds()[r.Key.Kind]; ok && k.normalize != nil {
			spec, err := k.normalize(n, r)
			if err != nil {
				return schema.State{}, nil, p.fail(r.Key, "", err, "")
			}
			r.Spec = spec
		}
		out.Resources = append(out.Resources, r)
	}
	if err := out.Sort(); err != nil {
		return schema.State{}, nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = out
	return out, n.notes, nil
}

// desired is what was last wanted of an object, nil for nothing.
func (p *Provider) desired(key schema.Key) schema.Spec {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok := p.wanted.Get(key)
	if !ok {
		return nil
	}
	return r.Spec
}

// all reports whether nothing was brought into form: everything is asked for then, as
// by adopt, and what may not be seen is an error.
func (p *Provider) all() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.wanted.Resources) == 0
}

// normal is what bringing objects into form needs to know of the others.
type normal struct {
	desired schema.State
	files   fs.FS
	today   schema.Date
	notes   []plan.Note
}

func (n *normal) say(key schema.Key, format string, args ...any) {
	n.notes = append(n.notes, plan.Note{Key: key, Text: fmt.Sprintf(format, args...)})
}

// Read implements [providers.Provider].
func (p *Provider) Read(ctx context.Context, scope schema.Scope) (schema.State, error) {
	p.mu.Lock()
	p.made = made{}
	p.mu.Unlock()
	st, _, err := p.read(ctx, scope, nil)
	return st, err
}

// read reads a scope, but the lists of the projects that are spared.
func (p *Provider) read(ctx context.Context, scope schema.Scope, spared map[string]bool) (schema.State, *site, error) {
	c, err := p.client(ctx)
	if err != nil {
		return schema.State{}, nil, err
	}
	s := newSite(p, c)
	s.spared = spared
	p.mu.Lock()
	s.wanted = p.wanted
	p.mu.Unlock()
	s.knows(scope.Owned)
	var want []schema.Kind
	for _, k := range scope.Kinds {
		if _, ok := kinds()[k]; ok {
			want = append(want, k)
		}
	}
	if err := s.read(ctx, want); err != nil {
		return schema.State{}, nil, err
	}
	want = slices.DeleteFunc(want, func(k schema.Kind) bool { return s.refused[k] != nil })
	st := schema.State{Scope: schema.ScopeOf(want...)}
	st.Scope.Except = slices.Concat(scope.Except, s.except)
	slices.SortFunc(st.Scope.Except, schema.Key.Compare)
	for _, o := range s.objects {
		if st.Scope.Covers(o.Key) {
			st.Resources = append(st.Resources, o.Resource)
		}
	}
	p.remember(s, want)
	if len(scope.Repositories) > 0 {
		if err := s.content(ctx, scope.Repositories, &st); err != nil {
			return schema.State{}, nil, err
		}
	}
	return st, s, st.Sort()
}

// Prepare implements [providers.Provider]. Everything takes effect live.
func (p *Provider) Prepare(ctx context.Context, changes []plan.Change) ([]providers.Verdict, error) {
	verdicts := make([]providers.Verdict, len(changes))
	if len(changes) == 0 {
		return verdicts, ctx.Err()
	}
	c, err := p.client(ctx)
	if err != nil {
		return nil, err
	}
	s := newSite(p, c)
	s.planned = changes
	closed, err := s.ready(ctx)
	if err != nil {
		return nil, err
	}
	for i, ch := range changes {
		v := providers.Verdict{Effect: plan.Live}
		k, ok := kinds()[ch.Key.Kind]
		strange, old := c.Strange()
		switch {
		case old:
			v.Refused = strange
		case slices.Contains(providers.ContentKinds(Capabilities()), ch.Key.Kind) && !closed:
			if v.Refused, err = s.homeless(ctx, ch); err != nil {
				return nil, err
			}
		case !ok && !closed:
			v.Refused = Capabilities().Find(ch.Key.Kind, "").Reason
		case closed && ch.Key.Kind != schema.KindSettings:
			v.Refused = "Harbor is read-only, and takes no change but of its settings; declare read_only = false in registry.harbor"
		case ch.Action == plan.Rename && !k.renames:
			v.Refused = unnameable(ch.Key.Kind) + "; take previously out, and it is made under the new name beside the old one"
		case s.needsAdmin(ch) && !c.Admin():
			v.Refused = "Harbor lets no robot do this; name an administrator's account in registry.admin"
		case k.prepare != nil:
			if err := k.prepare(ctx, s, ch, &v); err != nil {
				return nil, err
			}
		}
		if ok && s.needsAdmin(ch) && c.Robot() && c.Admin() {
			v.Notes = append(v.Notes, "is done with registry.admin: Harbor lets no robot do it")
		}
		verdicts[i] = v
	}
	if err := s.mayNot(ctx, verdicts); err != nil {
		return nil, err
	}
	return verdicts, ctx.Err()
}

// PreparesContent implements [providers.ContentPreparer]: whether the login may push is
// known before it does.
func (p *Provider) PreparesContent() {}

// homeless says why content has no place: its project is not there and not planned.
func (s *site) homeless(ctx context.Context, c plan.Change) (string, error) {
	name := homeOf(c)
	key := below(schema.KindNamespace, name)
	if name == "" || slices.ContainsFunc(s.planned, func(c plan.Change) bool { return c.Key == key }) {
		return "", nil
	}
	_, err := s.project(ctx, name)
	if errors.Is(err, providers.ErrNotFound) {
		if there, err := s.c.HasProject(ctx, name); err != nil || there { // and what the login lacks is said beside
			return "", err
		}
		return fmt.Sprintf("there is no project %s; declare [namespace.%s]", name, name), nil
	}
	return "", unseen(err)
}

// homeOf is the project that content is brought to.
func homeOf(c plan.Change) string {
	if c.After == nil {
		return ""
	}
	to := ""
	switch spec := c.After.Spec.(type) {
	case *schema.Mirror:
		to = of(spec.To, "")
	case *schema.Artifact:
		to = of(spec.To, "")
	}
	project, _, _ := strings.Cut(to, "/")
	return project
}

// unnameable says why an object of a kind gets no other name.
func unnameable(k schema.Kind) string {
	switch k {
	case schema.KindNamespace, schema.KindUser, schema.KindRobot:
		return fmt.Sprintf("in Harbor a %s keeps its name for ever", k)
	}
	return fmt.Sprintf("ocisync gives a %s in Harbor no other name", k)
}

// Check implements [providers.Checker] for what can be tried without changing
// anything.
func (p *Provider) Check(ctx context.Context, key schema.Key, field string, ref schema.SecretRef) (bool, error) {
	k, ok := kinds()[key.Kind]
	if !ok || k.check == nil {
		return false, p.fail(key, "comparing "+field, providers.ErrUnsupported, "")
	}
	c, err := p.client(ctx)
	if err != nil {
		return false, err
	}
	if k.checks != nil && !k.checks(c) {
		return false, p.fail(key, "comparing "+field, providers.ErrUnsupported, "")
	}
	if p.wrote(key, field, ref) {
		return true, nil
	}
	secret, err := p.secrets.Resolve(ctx, ref)
	if err != nil {
		return false, fmt.Errorf("%s: %s: %w", key, field, err)
	}
	equal, err := k.check(ctx, newSite(p, c), key, field, secret)
	if err != nil {
		err = p.fail(key, "comparing "+field, err, "")
	}
	return equal, err
}

// fail says what registry and object an error is of; nil stays nil.
func (p *Provider) fail(key schema.Key, doing string, err error, remedy string) error {
	var said *providers.Error
	if err == nil {
		return nil
	}
	switch {
	case !errors.As(err, &said):
	case said.Key != (schema.Key{}) || key == (schema.Key{}):
		return err
	case error(said) == err: //nolint:errorlint // more may be said around it
		out := *said
		out.Key = key
		if out.Registry == "" {
			out.Registry = p.registry.URL
		}
		return &out
	}
	return &providers.Error{Registry: p.registry.URL, Key: key, Doing: doing, Err: err, Remedy: remedy}
}

// amended is an error with more said of its cause.
func amended(err error, say func(cause error) error) error {
	var said *providers.Error
	if !errors.As(err, &said) {
		return say(err)
	}
	out := *said
	out.Err = say(said.Err)
	return &out
}

var (
	_ providers.Provider    = (*Provider)(nil)
	_ providers.Checker     = (*Provider)(nil)
	_ providers.Leaver      = (*Provider)(nil)
	_ providers.Chooser     = (*Provider)(nil)
	_ providers.Remarker    = (*Provider)(nil)
	_ providers.Renewer     = (*Provider)(nil)
	_ providers.Transporter = (*Provider)(nil)
	_ providers.Parted      = (*Provider)(nil)
	_ providers.Prover      = (*Provider)(nil)
	_ providers.Dater       = (*Provider)(nil)
)
