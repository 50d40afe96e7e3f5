package harbor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/pkg/providers/oci"
	"github.com/ocisync/ocisync/schema"
)

// Transport implements [providers.Transporter], with the login. What is written
// below ocisync's own project has that made first, private; while it is not there,
// nothing below it is.
func (p *Provider) Transport(ctx context.Context) (http.RoundTripper, func(), error) {
	c, err := p.client(ctx)
	if err != nil {
		return nil, nil, err
	}
	user, password, sent, err := c.Basic(ctx)
	if err != nil {
		return nil, nil, err
	}
	base, err := url.Parse(p.registry.URL)
	if err != nil {
		return nil, nil, p.fail(schema.Key{}, "", err, "")
	}
	t := schema.TLS{}
	if p.registry.TLS != nil {
		t = *p.registry.TLS
	}
	inner, err := oci.Transport(t)
	if err != nil {
		return nil, nil, p.fail(schema.Key{}, "", err, "")
	}
	return &transport{inner: inner, c: c, base: base, sent: sent, user: user, password: password, p: p}, inner.CloseIdleConnections, nil
}

// Fill implements [providers.Filler].
func (p *Provider) Fill(ctx context.Context) (http.RoundTripper, func(), error) {
	return p.Transport(ctx)
}

// Untag implements [providers.Untagger]: by /v2/ Harbor deletes what a tag names, with
// all its tags (API: DELETE …/artifacts/{reference}/tags/{tag_name}).
func (p *Provider) Untag(ctx context.Context, repository, tag string) error {
	c, err := p.client(ctx)
	if err != nil {
		return err
	}
	project, name, _ := strings.Cut(repository, "/")
	return c.DeleteTag(ctx, project, name, tag)
}

// transport logs in with each request: Harbor takes a login anywhere below /v2/. Of a
// user's it would check the password each time, which takes it half a second; that goes
// by tokens, one for each repository, for which a session is enough.
type transport struct {
	inner          http.RoundTripper
	c              *api.Client
	base           *url.URL
	sent           bool // name and password are sent
	user, password string
	tokens         oci.Tokens
	p              *Provider

	mu     sync.Mutex
	exists bool // ocisync's own project is there
}

const ownProject = "/v2/" + schema.Reserved + "/"

// RoundTrip sends a request to the registry, whatever host it names.
func (t *transport) RoundTrip(asked *http.Request) (*http.Response, error) {
	if strings.HasPrefix(asked.URL.Path, ownProject) {
		t.p.keeps.Store(true)
		there, err := t.own(asked.Context(), asked.Method != http.MethodGet && asked.Method != http.MethodHead)
		if err != nil || !there {
			if asked.Body != nil {
				_ = asked.Body.Close()
			}
			if err != nil {
				return nil, err
			}
			return nothing(asked), nil
		}
	}
	if asked.URL.Path == catalogue {
		return t.repositories(asked)
	}
	resp, err := t.signed(asked)
	if resp != nil {
		resp.Request = asked
		if strings.HasPrefix(asked.URL.Path, ownProject) && resp.StatusCode == http.StatusUnauthorized {
			forbidden(resp)
		}
	}
	return resp, err
}

// signed sends a request with the login, and once more where rights may have come since
// its token was given.
func (t *transport) signed(asked *http.Request) (*http.Response, error) {
	r := asked.Clone(asked.Context())
	r.URL.Scheme, r.URL.Host, r.Host = t.base.Scheme, t.base.Host, ""
	r.Header.Del("Authorization")
	if t.sent {
		r.SetBasicAuth(t.user, t.password)
		return t.inner.RoundTrip(r)
	}
	scopes := scopesOf(asked)
	value, fresh, err := t.token(r, scopes)
	if err != nil {
		if asked.Body != nil {
			_ = asked.Body.Close()
		}
		return nil, err
	}
	resp, err := t.inner.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	resp.Header.Del("Www-Authenticate") // whom to ask is known here alone
	if fresh || asked.Body != nil && asked.Body != http.NoBody {
		return resp, nil
	}
	_ = resp.Body.Close()
	t.tokens.Drop(scopes, value)
	if _, _, err := t.token(r, scopes); err != nil {
		return nil, err
	}
	if resp, err = t.inner.RoundTrip(r); resp != nil && resp.StatusCode == http.StatusUnauthorized {
		resp.Header.Del("Www-Authenticate")
	}
	return resp, err
}

// token puts a token on a request.
func (t *transport) token(r *http.Request, scopes []string) (value string, fresh bool, err error) {
	value, fresh, err = t.tokens.Get(r.Context(), scopes, func(ctx context.Context) (string, time.Duration, error) {
		return t.c.Token(ctx, scopes)
	})
	r.Header.Set("Authorization", "Bearer "+value)
	return value, fresh, err
}

// scopesOf are those of a token that a request below /v2/ needs (OCI distribution
// specification, "Endpoints"; Docker's token specification). Whatever is done in a
// repository, it is one token.
func scopesOf(r *http.Request) []string {
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	end := 0 // of the repository, which may have any of these in its own name
	for _, part := range []string{"/manifests/", "/blobs/", "/tags/", "/referrers/"} {
		end = max(end, strings.LastIndex(path, part))
	}
	if end == 0 {
		return nil
	}
	scopes := []string{"repository:" + path[:end] + ":pull,push,delete"}
	if from := r.URL.Query().Get("from"); from != "" && from != path[:end] {
		scopes = append(scopes, "repository:"+from+":pull")
	}
	return scopes
}

const catalogue = "/v2/_catalog"

// repositories answers the catalogue, in one page, with the repositories that the login
// sees (API: GET /repositories). Harbor's own, below /v2/, is for administrators and
// for robots with catalog:read, and takes no token.
func (t *transport) repositories(asked *http.Request) (*http.Response, error) {
	list, err := t.c.AllRepositories(asked.Context())
	if err != nil {
		return nil, err
	}
	said := struct {
		Repositories []string `json:"repositories"`
	}{[]string{}}
	for _, r := range list {
		said.Repositories = append(said.Repositories, r.Name)
	}
	slices.Sort(said.Repositories)
	body, err := json.Marshal(said)
	if err != nil {
		return nil, err
	}
	return answered(asked, http.StatusOK, string(body)), nil
}

// forbidden has an answer say what it means: of what an account may not do in a project
// Harbor says that the login does not suffice, and this one was proven.
func forbidden(resp *http.Response) {
	resp.StatusCode, resp.Status = http.StatusForbidden, "403 "+http.StatusText(http.StatusForbidden)
	resp.Header.Del("Www-Authenticate")
}

// own reports whether ocisync's project is there, after it was made if it shall be.
func (t *transport) own(ctx context.Context, create bool) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.exists {
		return true, nil
	}
	there, err := t.c.HasProject(ctx, schema.Reserved)
	if err != nil {
		return false, err
	}
	if !there && create {
		_, err = t.c.CreateProject(ctx, api.NewProject{Name: schema.Reserved, Metadata: map[string]string{"public": "false"}})
		if err != nil && !errors.Is(err, providers.ErrConflict) { // it is there by now
			return false, err
		}
		t.exists = true
		return true, nil
	}
	if there {
		if err := t.private(ctx); err != nil {
			return false, err
		}
	}
	t.exists = there
	return there, nil
}

// private fails while everybody may read what ocisync keeps in its project, as they
// may where somebody made it public.
func (t *transport) private(ctx context.Context) error {
	public, err := t.c.Public(ctx, schema.Reserved)
	if err != nil || !public {
		return err
	}
	return &providers.Error{
		Registry: t.base.String(), Key: schema.Key{Kind: schema.KindNamespace, Name: schema.Reserved},
		Err:    fmt.Errorf("%w: the project is public, so that everybody may read the state that ocisync keeps there", providers.ErrForbidden),
		Remedy: "make it private in Harbor, in its configuration; or keep the state elsewhere, with state.store = \"dir\"",
	}
}

// nothing is what a registry says of a repository that it does not have: Harbor
// says of one in no project that the login does not suffice.
func nothing(asked *http.Request) *http.Response {
	return answered(asked, http.StatusNotFound, `{"errors":[{"code":"NAME_UNKNOWN","message":"there is no such project"}]}`)
}

// answered is an answer that the registry itself did not give.
func answered(asked *http.Request, status int, body string) *http.Response {
	return &http.Response{
		Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:  http.Header{"Content-Type": {"application/json"}},
		Body:    io.NopCloser(strings.NewReader(body)),
		Request: asked, ContentLength: int64(len(body)),
	}
}
