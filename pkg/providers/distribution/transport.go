package distribution

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/oci"
	"github.com/ocisync/ocisync/pkg/token"
	"github.com/ocisync/ocisync/schema"
)

// self is the account of ocisync's own requests.
const self = "ocisync"

// keys are those of the token service on this host.
func (p *Provider) keys() (*token.Keys, error) {
	if err := p.private(); err != nil {
		return nil, err
	}
	return token.OpenKeys(p.place.Keys(), p.place.JWKS(), nil)
}

// onHost reports whether the token service's keys are here.
func (p *Provider) onHost() bool {
	if p.place.Data == "" || p.place.Service == nil {
		return false
	}
	_, err := os.Stat(p.place.Keys())
	return !errors.Is(err, fs.ErrNotExist)
}

// connection is a way to the registry and its token service, without a login.
func (p *Provider) connection() (http.RoundTripper, error) {
	var t schema.TLS
	if have := p.registry.TLS; have != nil { // its own certificate is the server's
		t = schema.TLS{CA: have.CA, Insecure: have.Insecure}
	}
	rt, err := oci.Transport(t)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.registry.URL, err)
	}
	providers.DialLive(rt, p.process, p.registry)
	confined, err := oci.Confine(rt, p.registry.URL, p.Realms()...)
	if err != nil {
		return nil, err
	}
	return providers.NewWay(confined, p.process, p.registry.URL, p.place.Config), nil
}

// Realms are the addresses that the registry may send a login to: that of its
// token service, which the mode says or ocisync chose itself.
func (p *Provider) Realms() []string {
	if p.place.Service == nil {
		return nil
	}
	return []string{p.place.Service.String()}
}

// Transport implements [providers.Transporter]: on the registry's host as
// ocisync itself, who reads everything and writes to the namespace of its own;
// elsewhere with the login.
func (p *Provider) Transport(context.Context) (http.RoundTripper, func(), error) {
	rt, err := p.connection()
	if err != nil {
		return nil, nil, err
	}
	t := &loggedIn{provider: p, inner: rt, service: p.place.Name, tokens: map[string]held{}}
	if p.onHost() {
		keys, err := p.keys()
		if err != nil {
			return nil, nil, &providers.Error{Registry: p.registry.URL, Err: err}
		}
		t.keys = keys
	}
	return t, func() {}, nil
}

// Fill implements [providers.Filler]: as Transport, and on the registry's host in
// whatever namespace.
func (p *Provider) Fill(ctx context.Context) (http.RoundTripper, func(), error) {
	rt, release, err := p.Transport(ctx)
	if t, ok := rt.(*loggedIn); ok {
		t.fills = true
	}
	return rt, release, err
}

// loggedIn adds to each request what the registry wants to see. Safe for
// concurrent use.
type loggedIn struct {
	provider *Provider
	inner    http.RoundTripper
	keys     *token.Keys // nil where a login is used
	// deletes are the repositories outside of our own that a job may delete in.
	deletes func(repository string) bool
	fills   bool // it moves content in whatever namespace

	mu      sync.Mutex
	service string          // by which tokens call the registry
	tokens  map[string]held // by service and scope
}

type held struct {
	text  string
	until time.Time
}

// RoundTrip implements [http.RoundTripper].
func (t *loggedIn) RoundTrip(asked *http.Request) (*http.Response, error) {
	r := asked.Clone(asked.Context())
	r.Header.Del("Authorization")
	if err := t.authorize(r); err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	resp, err := t.inner.RoundTrip(r)
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		if again := t.again(asked); again != nil {
			resp.Body.Close()
			resp, err = t.inner.RoundTrip(again)
		}
	}
	if err == nil && resp.StatusCode == http.StatusBadRequest {
		resp, err = t.unread(r, resp)
	}
	if resp != nil {
		resp.Request = asked
	}
	return resp, err
}

// unread asks once more what was answered with 400 by a registry whose file of accounts has
// a line that it does not read: it goes on with the accounts that it had, and with none
// where it was started so, which is an error that names the line.
func (t *loggedIn) unread(r *http.Request, resp *http.Response) (*http.Response, error) {
	p := t.provider
	if !p.byFile() {
		return resp, nil
	}
	why, err := p.people.trouble(time.Time{})
	if why == "" || err != nil {
		return resp, nil //nolint:nilerr // it is something else that it does not take
	}
	again := r.Clone(r.Context())
	if r.Body != nil && r.Body != http.NoBody {
		if r.GetBody == nil {
			return resp, nil
		}
		if again.Body, err = r.GetBody(); err != nil {
			return resp, nil //nolint:nilerr // as it was answered
		}
	}
	resp.Body.Close()
	if resp, err = t.inner.RoundTrip(again); err == nil && resp.StatusCode == http.StatusBadRequest {
		resp.Body.Close()
		return nil, fmt.Errorf("it answers 400: %s", why)
	}
	return resp, err
}

// again is a request that was refused, with a token for the registry as it runs now: one
// whose address changed is known to its tokens by the former until it is started anew.
// nil: it was asked so.
func (t *loggedIn) again(asked *http.Request) *http.Request {
	if t.keys == nil {
		return nil
	}
	service := t.provider.service(asked.Context())
	t.mu.Lock()
	same := service == t.service
	t.service = service
	t.mu.Unlock()
	r := asked.Clone(asked.Context())
	if asked.Body != nil && asked.Body != http.NoBody {
		if asked.GetBody == nil {
			return nil
		}
		body, err := asked.GetBody()
		if err != nil {
			return nil
		}
		r.Body = body
	}
	if same || t.authorize(r) != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil
	}
	return r
}

// service is by which name tokens call the registry, as it runs.
func (p *Provider) service(ctx context.Context) string {
	if live, err := p.inForce(ctx); err == nil {
		if n := live.doc.get("auth.token.service"); n != nil && n.Value != "" {
			return n.Value
		}
	}
	return p.place.Name
}

func (t *loggedIn) authorize(r *http.Request) error {
	p := t.provider
	var user, password string
	if t.keys == nil {
		var err error
		if user, password, err = p.login(r.Context()); err != nil {
			return err
		}
	}
	switch {
	case t.keys == nil && p.place.Service == nil:
		if user != "" {
			r.SetBasicAuth(user, password)
		}
		return nil
	case t.keys == nil && user == "":
		return nil // the registry says what it wants
	}
	scope := t.scope(r)
	t.mu.Lock()
	service := t.service
	t.mu.Unlock()
	text, err := t.token(service, scope, func() (string, error) {
		if t.keys != nil {
			text, _, err := t.keys.Token(service, self, scope)
			return text, err
		}
		return p.fetch(r.Context(), t.inner, user, password, scope)
	})
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+text)
	return nil
}

// token returns one of a minute's further life at least.
func (t *loggedIn) token(service string, scope []token.Scope, mint func() (string, error)) (string, error) {
	name := service + fmt.Sprint(scope)
	t.mu.Lock()
	defer t.mu.Unlock()
	if h, ok := t.tokens[name]; ok && time.Now().Before(h.until) {
		return h.text, nil
	}
	text, err := mint()
	if err != nil {
		return "", err
	}
	if len(t.tokens) > 1000 {
		clear(t.tokens)
	}
	t.tokens[name] = held{text, time.Now().Add(token.Life - time.Minute)}
	return text, nil
}

// scope is what a request needs, by its path, and what ocisync may do.
func (t *loggedIn) scope(r *http.Request) []token.Scope {
	rest, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	if rest == "_catalog" {
		return []token.Scope{{Type: "registry", Name: "catalog", Actions: []string{"*"}}}
	}
	repository := repositoryOf(rest)
	if !ok || repository == "" {
		return nil
	}
	actions := []string{"pull"}
	switch own := access.In(schema.Reserved, repository); {
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
	case own || t.fills || t.keys == nil:
		actions = []string{"delete", "pull", "push"}
	case r.Method == http.MethodDelete && t.deletes != nil && t.deletes(repository):
		actions = []string{"delete", "pull"}
	}
	scopes := []token.Scope{{Type: "repository", Name: repository, Actions: actions}}
	if from := r.URL.Query().Get("from"); t.fills && from != "" { // a blob is mounted
		scopes = append(scopes, token.Scope{Type: "repository", Name: from, Actions: []string{"pull"}})
	}
	return scopes
}

// repositoryOf is the name in a path below /v2/, "" in others.
func repositoryOf(path string) string {
	parts := strings.Split(path, "/")
	for tail := 2; tail <= 3 && tail < len(parts); tail++ {
		i := len(parts) - tail
		if slices.Contains([]string{"manifests", "blobs", "tags", "referrers"}, parts[i]) && (tail == 2 || parts[i+1] == "uploads") {
			return strings.Join(parts[:i], "/")
		}
	}
	return ""
}

// login is the account of the mode, or ocisync's own in an htpasswd file, "" without
// one. It is asked whether it may go to where it is for.
func (p *Provider) login(ctx context.Context) (user, password string, err error) {
	if p.byFile() {
		password, err := p.people.self()
		if !errors.Is(err, fs.ErrNotExist) {
			return selfLogin, password, errors.Join(err, p.mayGo(p.registry.URL))
		}
	}
	l := p.registry.Login
	if l == nil || l.User == nil || l.Password == nil {
		return "", "", nil
	}
	to := p.registry.URL
	if p.place.Service != nil {
		to = p.place.Service.String()
	}
	if err := p.mayGo(to); err != nil {
		return "", "", err
	}
	if password, err = p.secrets.Resolve(ctx, *l.Password); err != nil {
		return "", "", fmt.Errorf("registry.login: %w", err)
	}
	return *l.User, password, nil
}

// mayGo says why no secret may go to an address.
func (p *Provider) mayGo(to string) error {
	if p.permit == nil {
		return nil
	}
	return p.permit(to)
}

// fetch asks the token service.
func (p *Provider) fetch(ctx context.Context, rt http.RoundTripper, user, password string, scope []token.Scope) (string, error) {
	q := url.Values{"service": {p.place.Name}}
	for _, s := range scope {
		q.Add("scope", s.String())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.place.Realm()+"?"+q.Encode(), nil)
	if err != nil {
		return "", err
	}
	req.SetBasicAuth(user, password)
	fail := func(err error, remedy string) error {
		return &providers.Error{Registry: p.registry.URL, Doing: "asking " + p.place.Realm() + " for a token", Err: err, Remedy: remedy}
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return "", fail(fmt.Errorf("%w: %w", providers.ErrNoTokens, err), p.giveTokens()+", or correct registry.token.url")
	}
	defer resp.Body.Close()
	var a struct {
		Token string `json:"token"`
	}
	switch err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&a); {
	case resp.StatusCode == http.StatusUnauthorized:
		return "", fail(providers.ErrUnauthorized, "registry.login names a user of the registry and its password")
	case err != nil || resp.StatusCode != http.StatusOK || a.Token == "":
		return "", fail(fmt.Errorf("%w: it answers %d", providers.ErrNotRegistry, resp.StatusCode), "correct registry.token.url")
	}
	return a.Token, nil
}

// repositories lists, with the number of their tags, those that are one of the
// names or lie below one; "*" stands for all.
func (p *Provider) repositories(ctx context.Context, names []string) ([]schema.RepositoryInfo, error) {
	rt, release, err := p.Transport(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	c := &client{base: p.registry.URL, start: p.startIt(), http: &http.Client{Transport: rt}}
	all, err := c.catalogue(ctx)
	if err != nil {
		return nil, err
	}
	out := []schema.RepositoryInfo{}
	for _, r := range all {
		if !slices.ContainsFunc(names, func(n string) bool { return n == "*" || access.In(n, r) }) {
			continue
		}
		tags, err := c.tags(ctx, r)
		if err != nil {
			return nil, err
		}
		out = append(out, schema.RepositoryInfo{Name: r, Tags: len(tags)})
	}
	return out, nil
}

// errAnswers is that a registry fails to answer what it was asked.
var errAnswers = errors.New("it answers")

// client asks a registry for lists.
type client struct {
	base, start string // and what starts the registry
	http        *http.Client
}

const maxList = 64 << 20 // bytes of one page

func (c *client) catalogue(ctx context.Context) ([]string, error) {
	all, _, err := c.catalogued(ctx, math.MaxInt)
	return all, err
}

// catalogued lists repositories until there are as many as one wants; not whole is where
// there are more.
func (c *client) catalogued(ctx context.Context, enough int) (all []string, whole bool, err error) {
	next := "/v2/_catalog?n=1000"
	for next != "" && len(all) < enough {
		var list struct {
			Repositories []string `json:"repositories"`
		}
		if next, err = page(ctx, c, next, &list); err != nil {
			return nil, false, err
		}
		if len(list.Repositories) == 0 {
			return all, true, nil
		}
		all = append(all, list.Repositories...)
	}
	return all, next == "", nil
}

// tags lists those of a repository, but for the fallback tags of referrers,
// which are nobody's to count or delete. One that has none has none.
func (c *client) tags(ctx context.Context, repository string) ([]string, error) {
	all, err := c.allTags(ctx, repository)
	return slices.DeleteFunc(all, fallback), err
}

func (c *client) allTags(ctx context.Context, repository string) ([]string, error) {
	var list struct {
		Tags []string `json:"tags"`
	}
	_, err := page(ctx, c, "/v2/"+repository+"/tags/list", &list)
	if errors.Is(err, providers.ErrNotFound) {
		return nil, nil
	}
	return list.Tags, err
}

// fallback reports whether a tag is that of the referrers of a manifest, as the
// OCI distribution specification has clients make it where a registry knows no
// referrers: the digest with "-" for ":".
func fallback(tag string) bool {
	hex, ok := strings.CutPrefix(tag, "sha256-")
	return ok && len(hex) == 64 && strings.Trim(hex, "0123456789abcdef") == ""
}

// page reads one page of a list and returns the path of the next, "" for none.
func page[T any](ctx context.Context, c *client, path string, into *T) (next string, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	fail := func(err error, remedy string) (string, error) {
		return "", &providers.Error{Registry: c.base, Doing: "asking GET " + path, Err: err, Remedy: remedy}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.base, "/")+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fail(fmt.Errorf("%w: %w", providers.ErrUnreachable, err), c.start)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return fail(providers.ErrNotFound, "")
	case http.StatusUnauthorized, http.StatusForbidden:
		return fail(providers.ErrUnauthorized, "registry.login names an admin user of the registry, and the registry knows the keys of its token service: restart it if they are new")
	default:
		err := fmt.Errorf("it answers %d", resp.StatusCode)
		if resp.StatusCode >= http.StatusInternalServerError {
			err = fmt.Errorf("%w %d", errAnswers, resp.StatusCode)
		}
		return fail(fmt.Errorf("%w: %w", providers.ErrUnreachable, err), "look at its log")
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxList)).Decode(into); err != nil {
		return fail(fmt.Errorf("%w: %w", providers.ErrNotRegistry, err), "correct registry.url")
	}
	link, ok := strings.CutSuffix(resp.Header.Get("Link"), `>; rel="next"`)
	if u, err := url.Parse(strings.TrimPrefix(link, "<")); ok && err == nil && strings.HasPrefix(u.Path, "/v2/") {
		return u.RequestURI(), nil
	}
	return "", nil
}
