// Package api speaks Harbor's API v2.0 for package harbor: who asks, what an
// answer means, and the wire's types, one file per group of endpoints.
//
// Start with [Open]: a [Client] has proven who it is before it believes an
// answer, since Harbor takes a wrong password for nobody at all and answers 200
// with what everybody may see. It keeps few requests in flight, fewer where the
// server is slow, and asks again what a busy server refused. Its rules are those
// of Harbor 2.15.2, as observed; 2.10 and later are alike but where that is said.
package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/oci"
	"github.com/ocisync/ocisync/schema"
)

const (
	// maxAnswer bounds what one answer may hold, in bytes.
	maxAnswer = 64 << 20
	// timeout ends one request.
	timeout = 2 * time.Minute
	root    = "/api/v2.0"
)

// Options say which Harbor, and as whom.
type Options struct {
	Registry schema.Registry
	Secrets  providers.Secrets
	// Permit is asked before a login goes to the registry's URL; nil permits.
	Permit func(registry string) error
	Logger *slog.Logger // may be nil
}

// Client speaks to one Harbor. Safe for concurrent use.
type Client struct {
	base   string
	url    *url.URL
	http   *http.Client
	gate   *oci.Gate
	logger *slog.Logger
	main   *account
	admin  *account // nil where the mode names none
	// Version is the server's, such as "v2.15.2-080b0220".
	Version string
	// AuthMode is where accounts came from when it was identified.
	AuthMode string
	told     sync.Once
}

// Open makes a client and proves that Harbor takes the login for whom it says. A
// second login is proven when it is needed first.
// Errors: ErrUnreachable, ErrNotRegistry, ErrUnauthorized.
func Open(ctx context.Context, o Options) (*Client, error) {
	r := o.Registry
	if r.Login == nil {
		return nil, &providers.Error{Registry: r.URL, Err: fmt.Errorf("%w: without one Harbor shows only what everybody may see", providers.ErrUnauthorized), Remedy: "set registry.login"}
	}
	base, err := url.Parse(r.URL)
	if err != nil || base.Host == "" {
		return nil, &providers.Error{Registry: r.URL, Err: fmt.Errorf("%w: that is no address", providers.ErrNotRegistry), Remedy: "write registry.url as https://harbor.example.com"}
	}
	tls := schema.TLS{}
	if r.TLS != nil {
		tls = *r.TLS
	}
	transport, err := oci.Transport(tls)
	if err != nil {
		return nil, &providers.Error{Registry: r.URL, Err: err}
	}
	confined, err := oci.Confine(transport, r.URL)
	if err != nil {
		return nil, &providers.Error{Registry: r.URL, Err: err}
	}
	logger := o.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{
		base: strings.TrimRight(r.URL, "/"), url: base, gate: oci.NewGate(inFlight, slow), logger: logger,
		// Harbor sets a session on every answer, and refuses a write that sends
		// it back without its token: so there is no jar.
		http: &http.Client{Transport: confined, Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	who := func(l *schema.Login, at string) *account {
		if l == nil {
			return nil
		}
		return &account{login: *l, at: at, resolve: func(ctx context.Context, ref schema.SecretRef) (string, error) {
			if o.Permit != nil {
				if err := o.Permit(r.URL); err != nil {
					return "", err
				}
			}
			return o.Secrets.Resolve(ctx, ref)
		}}
	}
	c.main, c.admin = who(r.Login, "registry.login"), who(r.Admin, "registry.admin")
	if err := c.prove(ctx, c.main); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close lets go of connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Robot reports whether the login is a robot's, which may not do everything.
func (c *Client) Robot() bool { return c.main.robot() }

// Admin reports whether there is an account for what a robot may not do: the
// second login, or the first where that is a user's.
func (c *Client) Admin() bool { return c.admin != nil || !c.main.robot() }

// Plain reports whether the first login is a user's who is no administrator.
func (c *Client) Plain() bool {
	c.main.mu.Lock()
	defer c.main.mu.Unlock()
	return !c.main.robot() && !c.main.admin
}

// Second reports whether the second login was needed so far.
func (c *Client) Second() bool {
	if c.admin == nil || !c.main.robot() {
		return false
	}
	c.admin.mu.Lock()
	defer c.admin.mu.Unlock()
	return c.admin.proven
}

// Before reports whether the server is older than a version, such as 2, 15 or
// 2, 15, 1. One that does not say what it is counts as the one that was observed.
func (c *Client) Before(version ...int) bool {
	have := make([]int, 3)
	if _, err := fmt.Sscanf(strings.TrimPrefix(c.Version, "v"), "%d.%d", &have[0], &have[1]); err != nil {
		return slices.Compare([]int{2, 15, 2}, version) < 0
	}
	if _, err := fmt.Sscanf(strings.TrimPrefix(c.Version, "v"), "%d.%d.%d", &have[0], &have[1], &have[2]); err != nil {
		have[2] = 0
	}
	return slices.Compare(have, version) < 0
}

// Later reports whether a permission of robots came after the server's version: those on
// people, and on robots themselves, with 2.12.
func (c *Client) Later(a Access) bool {
	switch a.Resource {
	case "sbom":
		return c.Before(2, 11)
	case "quota":
		return c.Before(2, 10, 1) || a.Action == "update" && c.Before(2, 12)
	case "robot", "user", "ldap-user", "export-cve", "user-group", "member":
		return c.Before(2, 12)
	}
	return false
}

// ShowsLogins reports whether the server shows what it logs in with at scanners and
// preheat instances. It then forgets that where an update leaves it out.
func (c *Client) ShowsLogins() bool {
	return c.Before(2, 14, 4) || !c.Before(2, 15) && c.Before(2, 15, 1)
}

// Strange says of a version that it is none of those whose API is known, "" of one
// that is: too says that it is too old to be written to.
func (c *Client) Strange() (why string, too bool) {
	switch {
	case c.Before(2, 10):
		return fmt.Sprintf("this Harbor (%s) is older than 2.10, the first that ocisync writes to; upgrade it", c.Version), true
	case !c.Before(2, 17):
		return fmt.Sprintf("this Harbor (%s) is newer than 2.16, the last that ocisync knows; what is new there it leaves as it is", c.Version), false
	}
	return "", false
}

// As says with which login a request goes.
type As int

// The logins: the one that suffices for nearly everything, and the one for what
// Harbor lets no robot do.
const (
	Main As = iota
	Admin
)

// ErrNoAdmin says that a robot's login does not suffice and the mode has no other.
var ErrNoAdmin = errors.New("Harbor lets no robot do this") //nolint:staticcheck // its name

func (c *Client) account(r call) (*account, error) {
	switch {
	case c.admin != nil && c.beyond(r):
		return c.admin, nil
	case r.as == Main || !c.main.robot():
		return c.main, nil
	case c.admin != nil:
		return c.admin, nil
	}
	return nil, c.fail(r.doing, fmt.Errorf("%w: %w", providers.ErrForbidden, ErrNoAdmin), "name an administrator's account in registry.admin")
}

// beyond reports whether a request is one that no robot of a server of this version may
// make.
func (c *Client) beyond(r call) bool {
	a := Access{Action: "update"}
	if r.reads() {
		a.Action = "list"
	}
	switch parts := strings.Split(r.path, "/"); {
	case parts[1] == "users":
		a.Resource = "user"
	case parts[1] == "usergroups":
		a.Resource = "user-group"
	case parts[1] == "robots":
		a.Resource = "robot"
	case parts[1] == "quotas":
		a.Resource = "quota"
	case parts[1] == "projects" && len(parts) > 3 && parts[3] == "members":
		a.Resource = "member"
	}
	return c.main.robot() && c.Later(a)
}

// call is one request. What is nil is not sent, or not read.
type call struct {
	as     As
	method string
	path   string // below /api/v2.0, escaped
	query  url.Values
	in     []byte
	doing  string // for errors
	// hint says what to do where Harbor answers 400, 412 or 500 and its own words
	// do not help; "" for nothing in particular.
	hint string
	// right is what Harbor asks of who reads it, as it calls that, for the whole
	// registry; "" where it asks for none, or in a project.
	right string
	// relays says that Harbor asks another registry, whose refusal it may pass on as
	// if it were its own.
	relays bool
	// beside says that the path is not below /api/v2.0.
	beside bool
	// tries says that it changes nothing, whatever its method.
	tries bool
}

// reads reports whether a request changes nothing.
func (r call) reads() bool {
	return r.method == http.MethodGet || r.method == http.MethodHead || r.tries
}

type counter struct{}

// Counted is a context whose requests are counted in n where they changed something.
func Counted(ctx context.Context, n *atomic.Int64) context.Context {
	return context.WithValue(ctx, counter{}, n)
}

// do sends a request and reads a JSON answer into out, unless that is nil. An
// empty answer leaves out as it is.
func do[T any](ctx context.Context, c *Client, r call, out *T) (http.Header, error) {
	body, header, err := c.send(ctx, r)
	if err != nil || out == nil || len(bytes.TrimSpace(body)) == 0 {
		return header, err
	}
	if err := json.Unmarshal(body, out); err != nil {
		return header, c.fail(r.doing, fmt.Errorf("%w: its answer to %s %s is not what Harbor says there: %w", providers.ErrNotRegistry, r.method, r.path, err), "see what stands between here and Harbor")
	}
	return header, nil
}

// send sends a request, again where the server was only busy, and returns the
// body of a success.
func (c *Client) send(ctx context.Context, r call) ([]byte, http.Header, error) {
	a, err := c.account(r)
	if err != nil {
		return nil, nil, err
	}
	if err := c.prove(ctx, a); err != nil {
		return nil, nil, err
	}
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }})
	status, header, body, err := c.try(ctx, a, r)
	if err == nil && status == http.StatusUnauthorized && !r.passedOn(a, status, body) && a.expired() { // a session ends
		if err := c.prove(ctx, a); err != nil {
			return nil, nil, err
		}
		status, header, body, err = c.try(ctx, a, r)
	}
	if err != nil {
		err = c.connection(r.doing, err)
		if sent.Load() && !r.reads() {
			err = unanswered(err)
		}
		return nil, nil, err
	}
	switch {
	case r.passedOn(a, status, body):
		return nil, header, c.fail(r.doing, kinded{said(status, body), providers.ErrInvalid}, r.hint)
	case status/100 != 2 || isPage(header, body):
		return nil, header, c.answer(r, status, header, body)
	}
	if n, ok := ctx.Value(counter{}).(*atomic.Int64); ok && !r.reads() {
		n.Add(1)
	}
	return body, header, nil
}

// once sends a request one time.
func (c *Client) once(ctx context.Context, a *account, r call) (int, http.Header, []byte, error) {
	below := c.base + root
	if r.beside {
		below = c.base
	}
	req, err := http.NewRequestWithContext(ctx, r.method, below+r.path, bytes.NewReader(r.in))
	if err != nil {
		return 0, nil, nil, err
	}
	if r.query != nil {
		req.URL.RawQuery = r.query.Encode()
	}
	if r.in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	// a project called 12345 is one, and no number
	req.Header.Set("X-Is-Resource-Name", "true")
	a.sign(req)
	return c.roundTrip(req, a)
}

func (c *Client) roundTrip(req *http.Request, a *account) (int, http.Header, []byte, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return 0, nil, nil, err
	}
	if len(body) > maxAnswer {
		return 0, nil, nil, fmt.Errorf("%w: an answer of more than %d MiB", providers.ErrNotRegistry, maxAnswer>>20)
	}
	a.saw(resp)
	return resp.StatusCode, resp.Header, body, nil
}

// outside sends a request that is none of the API's, one time.
func (c *Client) outside(req *http.Request) (int, http.Header, []byte, error) {
	if err := c.gate.Enter(req.Context()); err != nil {
		return 0, nil, nil, err
	}
	began := time.Now()
	defer func() { c.gate.Leave(false, time.Since(began)) }()
	return c.roundTrip(req, nil)
}

// encode writes a request's body.
func encode[T any](v T) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}

// write sends a body and returns the header of the answer.
func write[T any](ctx context.Context, c *Client, r call, in T) (http.Header, error) {
	var err error
	if r.in, err = encode(in); err != nil {
		return nil, c.fail(r.doing, err, "")
	}
	_, header, err := c.send(ctx, r)
	return header, err
}
