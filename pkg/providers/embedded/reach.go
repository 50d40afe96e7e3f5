package embedded

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"

	registry "github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/schema"
)

// admin is the registry, however it is reached.
type admin interface {
	State(context.Context, []schema.Kind) (registry.Live, error)
	changer
	checker
	teller
	housekeeper
	Transport(context.Context) (http.RoundTripper, func() error, error)
	Close() error
}

// changer changes what the registry is told.
type changer interface {
	Change(context.Context, []registry.Change) ([]registry.Result, error)
	// Renamable says why an object cannot be renamed, nil where it can.
	Renamable(ctx context.Context, from, to schema.Key) error
	Acknowledge(ctx context.Context, keys []schema.Key) error
}

// teller tells of content.
type teller interface {
	Repositories(ctx context.Context, names []string) ([]schema.RepositoryInfo, error)
	Sizes(ctx context.Context, names []string) (map[string]int64, error)
}

// checker says whether a secret is the one the registry has.
type checker interface {
	Check(ctx context.Context, user, password string) (bool, error)
	CheckSecret(ctx context.Context, key schema.Key, secret string) (bool, error)
}

// served is a registry that some process serves.
type served struct{ *registry.Client }

// Transport lasts until Close.
func (s served) Transport(context.Context) (http.RoundTripper, func() error, error) {
	return s.Client.Transport(), func() error { return nil }, nil
}

// away is a registry of another host, reached by its URL.
type away struct{ served }

// stopped is a registry that nobody serves.
type stopped struct{ *registry.Directory }

// Close keeps the directory for the next call.
func (stopped) Close() error { return nil }

// reach finds the registry. In order: a process here serves the data
// directory; nobody does, and the directory is there; the URL answers; the
// directory is absent or empty, a new registry. Only where the directory
// cannot be looked at, or is absent on what may be another host than the
// registry's, and the URL does not answer, is that an error.
func (p *Provider) reach(ctx context.Context) (admin, error) {
	if p.data == "" { // on another host
		r, err := p.reachURL(ctx)
		if err != nil {
			return nil, p.failure("", err)
		}
		return r, nil
	}
	isNew, lookErr := p.directory.IsNew()
	if errors.Is(lookErr, registry.ErrOccupied) || errors.Is(lookErr, registry.ErrUnsafe) {
		return nil, p.failure("", lookErr)
	}
	c, err := registry.Dial(ctx, p.data)
	if err == nil {
		return served{c}, nil
	}
	if errors.Is(err, registry.ErrSilent) {
		return nil, p.failure("", err)
	}
	if ctx.Err() != nil { // nobody was asked, which says nothing of the registry
		return nil, ctx.Err()
	}
	if lookErr == nil && !isNew {
		return stopped{p.directory}, nil
	}
	r, err := p.reachURL(ctx)
	switch {
	case err == nil:
		return r, nil
	case !errors.Is(err, registry.ErrUnreachable):
		return nil, p.failure("", err)
	case lookErr == nil && (loopback(p.url.Hostname()) || exists(p.data)):
		return stopped{p.directory}, nil
	}
	cause := fmt.Errorf("data directory %s is not on this host", p.data)
	remedy := fmt.Sprintf("start it there with `ocisync up`, or, if this is to be its host, make the empty directory %s", p.data)
	if lookErr != nil {
		cause = fmt.Errorf("its data directory cannot be read: %w", lookErr)
		remedy = "run ocisync as the user who owns the directory, or start the registry with `ocisync up`"
	}
	return nil, &providers.Error{
		Registry: p.registry.URL,
		Err:      kinded{fmt.Errorf("%w; and the registry does not answer: %w", cause, err), providers.ErrUnreachable},
		Remedy:   remedy,
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// reachURL asks at the registry's address: first as nobody, then, where one of
// ours answered, with the login.
func (p *Provider) reachURL(ctx context.Context) (away, error) {
	conf, err := p.tls()
	if err != nil {
		return away{}, err
	}
	if err := registry.Greet(ctx, p.url, conf); err != nil {
		return away{}, err
	}
	if p.permit != nil {
		if err := p.permit(p.url.String()); err != nil {
			return away{}, err
		}
	}
	user, password, err := p.login(ctx)
	if err != nil {
		return away{}, err
	}
	c := registry.DialURL(p.url, conf, user, password)
	info, err := c.Info(ctx)
	if err == nil && p.data != "" && info.Data != p.data && loopback(p.url.Hostname()) {
		err = fmt.Errorf("%w: it serves %s, and not %s; stop it, or name another address in run.listen and registry.url", registry.ErrForeign, info.Data, p.data)
	}
	if err != nil {
		return away{}, errors.Join(err, c.Close())
	}
	return away{served{c}}, nil
}

// login is the account that the registry of another host is reached with.
func (p *Provider) login(ctx context.Context) (user, password string, err error) {
	unusable := func(why, remedy string) error {
		return &providers.Error{Registry: p.registry.URL, Doing: "logging in", Err: kinded{errors.New(why), providers.ErrUnauthorized}, Remedy: remedy}
	}
	const name = "name an admin user of the registry and the password in registry.login"
	switch l := p.registry.Login; {
	case l == nil && p.registry.Admin != nil:
		return "", "", unusable("the mode has no registry.login, and registry.admin is not used at this registry", name)
	case l == nil:
		return "", "", unusable("the mode has no registry.login, and a registry that is reached by its URL asks for one", name+", or run ocisync where the registry runs")
	case l.User == nil:
		robot := ""
		if l.Robot != nil {
			robot = *l.Robot
		}
		return "", "", unusable(fmt.Sprintf("registry.login is the robot %q, and no robot administers this registry", robot), name)
	case l.Password == nil:
		return "", "", unusable(fmt.Sprintf("registry.login names user %q and no password", *l.User), `add password = { env = "OCISYNC_…" } to registry.login`)
	default:
		if password, err = p.secrets.Resolve(ctx, *l.Password); err != nil {
			return "", "", fmt.Errorf("registry.login: %w", err)
		}
		return *l.User, password, nil
	}
}

// maxPEM bounds a file of certificates, in bytes.
const maxPEM = 4 << 20

func (p *Provider) tls() (*tls.Config, error) {
	t := p.registry.TLS
	if t == nil || p.url.Scheme != "https" {
		return nil, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.Insecure != nil && *t.Insecure {
		conf.InsecureSkipVerify = true // the mode asks for it, and every plan says so
	}
	if t.CA != nil {
		pem, err := regular.Read(*t.CA, maxPEM)
		if err != nil {
			return nil, fmt.Errorf("registry.tls.ca: %w; name a PEM file that this user may read", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("registry.tls.ca: %s holds no certificate; name a PEM file", *t.CA)
		}
	}
	return conf, nil
}

// Fill implements [providers.Filler]: as Transport, and in whatever namespace.
func (p *Provider) Fill(ctx context.Context) (http.RoundTripper, func(), error) {
	t, release, err := p.Transport(ctx)
	return filling{t}, release, err
}

// filling says of each request that it moves content.
type filling struct{ http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (f filling) RoundTrip(asked *http.Request) (*http.Response, error) {
	r := asked.Clone(asked.Context())
	r.Header.Set(registry.ContentHeader, "1")
	return f.RoundTripper.RoundTrip(r)
}

// Transport gives a way to the registry's /v2/, for whatever host a request
// names: as ocisync itself, who reaches the namespace ocisync and no other, or
// from another host with the login. While nobody serves the registry, reading
// touches nothing, and writing locks the data directory. Call release when
// done.
func (p *Provider) Transport(ctx context.Context) (_ http.RoundTripper, release func(), err error) {
	a, err := p.reach(ctx)
	if err != nil {
		return nil, nil, err
	}
	t, end, err := a.Transport(ctx)
	if err != nil {
		return nil, nil, p.failure("", errors.Join(err, a.Close()))
	}
	return t, func() {
		if err := errors.Join(end(), a.Close()); err != nil {
			p.logger.Warn("leaving the registry", "error", err)
		}
	}, nil
}
