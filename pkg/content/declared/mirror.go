package declared

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/ocisync/ocisync/pkg/content"
	"github.com/ocisync/ocisync/pkg/content/keyless"
	"github.com/ocisync/ocisync/pkg/content/sign"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/oci"
	"github.com/ocisync/ocisync/schema"
)

// mirror makes the engine's form of a block. end closes the connections to the source.
func (p *Provider) mirror(ctx context.Context, k schema.Key, spec *schema.Mirror, to *content.Registry) (m *content.Mirror, end func(), err error) {
	host, repository, _ := strings.Cut(text(spec.From), "/")
	from, end, err := p.source(ctx, k, spec, host)
	if err != nil {
		return nil, nil, err
	}
	var reads content.Source = from
	if len(spec.Platforms) > 0 {
		if reads, err = content.Platforms(from, spec.Platforms); err != nil {
			end()
			return nil, nil, err
		}
	}
	m = &content.Mirror{
		From: reads, To: to, Source: repository, Target: text(spec.To),
		Referrers: yes(spec.Referrers), OnlyMissing: yes(spec.OnlyMissing),
		KeepPrevious: text(spec.KeepPrevious), Progress: p.Progress, Brought: &p.brought,
	}
	m.Prune, _ = p.MayPrune()
	m.Prune = m.Prune && yes(spec.Prune)
	if spec.Rate != nil && *spec.Rate > 0 {
		m.Rate = int64(*spec.Rate)
	}
	if m.Tags, err = selection(spec.Tags, p.Now()); err != nil {
		end()
		return nil, nil, fmt.Errorf("tags: %w", err)
	}
	if m.Trust, err = p.trust(spec); err != nil {
		end()
		return nil, nil, err
	}
	if before, ok := p.applied(k); ok {
		if was, ok := before.Spec.(*schema.Mirror); ok && text(was.To) == m.Target { // what lies elsewhere is left behind
			m.Owned = before.Tags
		}
	}
	if p.Report != nil {
		m.Report = func(e content.Event) { p.Report(k, e) }
	}
	return m, end, nil
}

// emptied is a block with what it had before, and has no longer, as empty.
func emptied(now, was schema.Mirror) *schema.Mirror {
	list := func(now, was schema.Set) schema.Set {
		if now == nil && was != nil {
			return schema.Set{}
		}
		return now
	}
	if was.Tags != nil {
		tags := schema.TagSelect{}
		if now.Tags != nil {
			tags = *now.Tags
		}
		tags.List = list(tags.List, was.Tags.List)
		tags.Glob, tags.Regex, tags.Semver = empty(tags.Glob, was.Tags.Glob), empty(tags.Regex, was.Tags.Regex), empty(tags.Semver, was.Tags.Semver)
		tags.Newest, tags.Since = empty(tags.Newest, was.Tags.Newest), empty(tags.Since, was.Tags.Since)
		now.Tags = &tags
	}
	if was.Trust != nil {
		trust := schema.Trust{}
		if now.Trust != nil {
			trust = *now.Trust
		}
		trust.Keys = list(trust.Keys, was.Trust.Keys)
		if trust.Identities == nil && was.Trust.Identities != nil {
			trust.Identities = []schema.Identity{}
		}
		trust.Root = empty(trust.Root, was.Trust.Root)
		trust.Required, trust.Notation = empty(trust.Required, was.Trust.Required), empty(trust.Notation, was.Trust.Notation)
		now.Trust = &trust
	}
	now.Platforms, now.Realms = list(now.Platforms, was.Platforms), list(now.Realms, was.Realms)
	now.Referrers, now.Prune, now.OnlyMissing = empty(now.Referrers, was.Referrers), empty(now.Prune, was.Prune), empty(now.OnlyMissing, was.OnlyMissing)
	now.Schedule, now.Zone, now.KeepPrevious = empty(now.Schedule, was.Schedule), empty(now.Zone, was.Zone), empty(now.KeepPrevious, was.KeepPrevious)
	if now.Rate == nil && was.Rate != nil {
		all := schema.Unlimited
		now.Rate = &all
	}
	return &now
}

// empty is a field, or its zero value where it had one before.
func empty[T any](now, was *T) *T {
	if now == nil && was != nil {
		return new(T)
	}
	return now
}

// trust reads the sets of whom one must have signed what a mirror copies: its own, and
// that of the namespace that it copies to.
func (p *Provider) trust(spec *schema.Mirror) (sets []content.Trust, err error) {
	var all []schema.Trust
	if spec.Trust != nil && spec.Trust.Asks() {
		all = append(all, *spec.Trust)
	}
	if _, t := TrustOf(p.Namespaces, text(spec.To)); t.Asks() {
		all = append(all, t)
	}
	for _, t := range all {
		set, err := ReadTrust(p.Files, t)
		if err != nil {
			return nil, err
		}
		sets = append(sets, set)
	}
	return sets, nil
}

// TrustOf finds who must have signed what lies in a repository, and the namespace that
// says so.
func TrustOf(namespaces map[string]schema.Trust, repository string) (namespace string, trust schema.Trust) {
	ns := repository
	for ns != "" {
		if t, ok := namespaces[ns]; ok {
			return ns, t
		}
		ns = ns[:max(0, strings.LastIndexByte(ns, '/'))]
	}
	return "", schema.Trust{}
}

// identities fails where an object names identities that cannot be checked: nobody is to
// think that they are.
func (p *Provider) identities(r schema.Resource) error {
	t, ok := r.Spec.(*schema.Trust)
	if m, is := r.Spec.(*schema.Mirror); is {
		t, ok = m.Trust, m.Trust != nil
	}
	if !ok {
		return nil
	}
	if _, err := readIdentities(p.Files, *t); err != nil {
		return fmt.Errorf("%s: %w", r.Key, err)
	}
	return nil
}

// readIdentities reads the trusted root of identities; nil where none is named.
func readIdentities(files fs.FS, t schema.Trust) (*keyless.Verifier, error) {
	if len(t.Identities) == 0 {
		return nil, nil
	}
	root, err := fs.ReadFile(files, text(t.Root))
	if err != nil {
		return nil, fmt.Errorf("trust.root: %w", err)
	}
	v, err := keyless.New(root, t.Identities)
	switch {
	case errors.Is(err, keyless.ErrNotBuilt):
		return nil, fmt.Errorf("trust.identities: %w", err)
	case err != nil:
		return nil, fmt.Errorf("trust.root: %s: %w", text(t.Root), err)
	}
	return v, nil
}

// ReadTrust reads public keys, and the trusted root of identities.
func ReadTrust(files fs.FS, t schema.Trust) (trust content.Trust, err error) {
	if trust.Keys, err = readKeys(files, t.Keys); err != nil {
		return content.Trust{}, err
	}
	trust.Identities, err = readIdentities(files, t)
	return trust, err
}

// readKeys reads public keys.
func readKeys(files fs.FS, paths []string) (sign.Keys, error) {
	var keys sign.Keys
	for _, path := range paths {
		text, err := fs.ReadFile(files, path)
		if err != nil {
			return nil, fmt.Errorf("trust.keys: %w", err)
		}
		more, err := sign.ParseKeys(text)
		if err != nil {
			return nil, fmt.Errorf("trust.keys: %s: %w", path, err)
		}
		keys = append(keys, more...)
	}
	return keys, nil
}

// selection makes the engine's form of what chooses tags.
func selection(t *schema.TagSelect, now time.Time) (s content.Selection, err error) {
	if t == nil {
		return s, nil
	}
	s.List, s.Glob = t.List, text(t.Glob)
	if text(t.Regex) != "" {
		if s.Regex, err = regexp.Compile(*t.Regex); err != nil {
			return s, err
		}
	}
	if text(t.Semver) != "" {
		if s.Semver, err = semver.NewConstraint(*t.Semver); err != nil {
			return s, err
		}
	}
	if t.Newest != nil {
		s.Newest = *t.Newest
	}
	if t.Since != nil && *t.Since > 0 {
		s.Since = now.Add(-t.Since.Std())
	}
	return s, nil
}

// source opens another registry: with the login of the remote that the mode has for its
// host, else as nobody.
func (p *Provider) source(ctx context.Context, k schema.Key, spec *schema.Mirror, host string) (*content.Registry, func(), error) {
	if host == "docker.io" {
		host = name.DefaultRegistry
	}
	e := content.Endpoint{URL: "https://" + host, Progress: p.Progress, Realms: spec.Realms, RealmHint: fmt.Sprintf("where it may, name it in the mirror: realms = [%q]", "{realm}"), Hint: "declare the account in the login of a [remote] whose url is of that host"}
	e.Plain = fmt.Sprintf(`have a [remote.N] with type = "oci" and url = "http://%s" in the mode if that is meant, or give it a certificate`, host)
	var tls schema.TLS
	p.mu.Lock()
	remotes := p.remotes
	p.mu.Unlock()
	for _, r := range remotes {
		if !serves(r, host) {
			continue
		}
		if u, err := url.Parse(text(r.URL)); err == nil && u.Host == host {
			e.URL = u.Scheme + "://" + u.Host
		}
		if r.TLS != nil {
			tls = *r.TLS
		}
		words, err := p.login(ctx, e.URL, r.Login)
		if err == nil && words != nil {
			err = p.abroad(k, spec)
		}
		if err != nil {
			return nil, nil, err
		}
		if e.Auth = words; words != nil {
			break
		}
	}
	rt, err := oci.Transport(tls)
	if err != nil {
		return nil, nil, err
	}
	e.Transport = rt
	from, err := content.Open(e)
	return from, rt.CloseIdleConnections, err
}

// serves reports whether a remote is the registry of a host.
func serves(r schema.Remote, host string) bool {
	if u, err := url.Parse(text(r.URL)); err == nil && u.Host == host {
		return true
	}
	return host == name.DefaultRegistry && text(r.Type) == "docker-hub"
}

// careful is why a plan does not ask a source that an apply would ask.
type careful struct{}

func (careful) Error() string { return "a plan sends a login only to whom one was applied for before" }

func errCareful() error { return fmt.Errorf("%w: %w", providers.ErrForbidden, careful{}) }

// login is the account of a remote, nil where it has none.
func (p *Provider) login(ctx context.Context, to string, l *schema.Login) (authn.Authenticator, error) {
	if l == nil || l.Password == nil {
		return nil, nil
	}
	if p.Permit != nil {
		if err := p.Permit(to); err != nil {
			return nil, err
		}
	}
	if p.Careful != nil && !p.Careful(to) && !p.gave(to, *l) {
		return nil, &providers.Error{
			Registry: to, Err: errCareful(),
			Remedy: fmt.Sprintf("apply, or name %s in registries of the host file", to),
		}
	}
	password, err := p.Secrets.Resolve(ctx, *l.Password)
	if err != nil {
		return nil, fmt.Errorf("the login of %s: %w", to, err)
	}
	user := text(l.User)
	if user == "" {
		user = text(l.Robot)
	}
	return &authn.Basic{Username: user, Password: password}, nil
}

// abroad asks of each token service that a mirror names whether it may see a login.
func (p *Provider) abroad(k schema.Key, spec *schema.Mirror) error {
	for _, realm := range spec.Realms {
		if p.Permit != nil {
			if err := p.Permit(realm); err != nil {
				return err
			}
		}
		if p.Careful == nil || p.Careful(realm) {
			continue
		}
		before, _ := p.applied(k)
		was, ok := before.Spec.(*schema.Mirror)
		if trusted, _ := p.MayPrune(); !ok || !trusted || text(was.From) != text(spec.From) || !slices.Contains(was.Realms, realm) {
			return &providers.Error{
				Registry: realm, Err: errCareful(),
				Remedy: fmt.Sprintf("apply, or name %s in registries of the host file", realm),
			}
		}
	}
	return nil
}

// gave reports whether a login was applied for a registry, as far as the inventory can be
// trusted.
func (p *Provider) gave(to string, l schema.Login) bool {
	if ok, _ := p.MayPrune(); !ok {
		return false
	}
	for _, a := range p.Applied() {
		was, ok := a.Spec.(*schema.Remote)
		if !ok || was.Login == nil || !reflect.DeepEqual(*was.Login, l) {
			continue
		}
		if at, ok := schema.Origin(text(was.URL)); ok {
			if origin, ok := schema.Origin(to); ok && origin == at {
				return true
			}
		}
	}
	return false
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func yes(b *bool) bool { return b != nil && *b }

func count(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}
