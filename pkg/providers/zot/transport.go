package zot

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// selfLogin is ocisync's own account in a registry that it runs: it reaches
// the namespace ocisync and nothing else, and is nobody's object.
const selfLogin = "ocisync$"

// Transport implements [providers.Transporter]: as ocisync's own account where
// it runs the registry, else with the login.
func (p *Provider) Transport(ctx context.Context) (http.RoundTripper, func(), error) {
	user, password := "", ""
	if p.paths.data != "" {
		o, err := p.ownFile()
		if err != nil {
			return nil, nil, p.unreadable(err)
		}
		if o.Self != "" {
			user, password = selfLogin, o.Self
		}
	}
	if user == "" {
		if _, err := p.Where(ctx); errors.Is(err, providers.ErrDisplaced) {
			return nil, nil, err
		}
		var err error
		if user, password, err = p.login(ctx); err != nil {
			return nil, nil, err
		}
	}
	_, rt, err := p.client()
	if err != nil {
		return nil, nil, p.fail(schema.Key{}, "", err, "")
	}
	return &transport{rt, p.url, user, password, p.ownBarred}, rt.CloseIdleConnections, nil
}

type transport struct {
	inner          http.RoundTripper
	base           *url.URL
	user, password string
	barred         func(context.Context) string // what puts right that ocisync's own account is
}

// ownBarred says what puts right that Zot refuses ocisync's own account.
func (p *Provider) ownBarred(ctx context.Context) string {
	if s, err := p.load(ctx); err == nil && s.doc != nil {
		for _, stranger := range s.rulesAlone().shadowingOwn() {
			return p.beforeOwn(stranger)
		}
	}
	return "run `ocisync restart`, which puts both right"
}

// RoundTrip sends a request to the registry, whatever host it names.
func (t *transport) RoundTrip(asked *http.Request) (*http.Response, error) {
	r := asked.Clone(asked.Context())
	r.URL.Scheme, r.URL.Host, r.Host = t.base.Scheme, t.base.Host, ""
	r.Header.Del("Authorization")
	if t.user != "" {
		r.SetBasicAuth(t.user, t.password)
	}
	resp, err := t.inner.RoundTrip(r)
	if resp == nil {
		return resp, err
	}
	if kind := map[int]error{http.StatusUnauthorized: providers.ErrUnauthorized, http.StatusForbidden: providers.ErrForbidden}[resp.StatusCode]; kind != nil && t.user == selfLogin && reaches(r.URL.Path) {
		resp.Body.Close()
		return nil, &providers.Error{
			Registry: t.base.String(), Doing: r.Method + " " + r.URL.Path,
			Err: fmt.Errorf("%w: it answers %d to ocisync's own account, which somebody changed, or the namespace ocisync", kind, resp.StatusCode), Remedy: t.barred(asked.Context()),
		}
	}
	resp.Request = asked
	return resp, err
}

// reaches reports whether a path is one that ocisync's own account may always ask for.
func reaches(path string) bool {
	return strings.TrimSuffix(path, "/") == "/v2" || strings.HasPrefix(path, "/v2/ocisync/")
}

// Blank implements [providers.Blank]: a registry that was never told anything
// has no configuration, and nothing that ocisync keeps.
func (p *Provider) Blank(ctx context.Context) (string, error) {
	if away, err := p.away(ctx); err != nil || away {
		return "", err
	}
	s, err := p.load(ctx)
	if err != nil {
		return "", err
	}
	if s.doc != nil && len(s.own.Objects) > 0 || s.doc != nil && p.paths.data == "" {
		return "", nil
	}
	return fmt.Sprintf("%s and %s", p.paths.config, p.paths.own), nil
}

var (
	_ providers.Transporter = (*Provider)(nil)
	_ providers.Blank       = (*Provider)(nil)
)

// Fill implements [providers.Filler], with the login: ocisync's own account reaches
// its own namespace alone.
func (p *Provider) Fill(ctx context.Context) (http.RoundTripper, func(), error) {
	if _, err := p.Where(ctx); errors.Is(err, providers.ErrDisplaced) {
		return nil, nil, err
	}
	user, password, err := p.login(ctx)
	if err != nil {
		return nil, nil, err
	}
	_, rt, err := p.client()
	if err != nil {
		return nil, nil, p.fail(schema.Key{}, "", err, "")
	}
	return &transport{rt, p.url, user, password, func(context.Context) string { return "" }}, rt.CloseIdleConnections, nil
}
