package embedded

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/ocisync/ocisync/schema"
)

// The kinds of error of reaching a registry; test with errors.Is.
var (
	ErrNotServed    = errors.New("nobody serves it")
	ErrUnreachable  = errors.New("no connection")
	ErrBroken       = errors.New("the connection failed") // though somebody is there
	ErrUnauthorized = errors.New("the login is not accepted")
	ErrForbidden    = errors.New("the account is not an admin user")
	ErrSilent       = errors.New("the process that holds it does not answer")
	ErrMute         = errors.New("it accepts connections and does not answer")
	ErrForeign      = errors.New("what answers is not an embedded registry of ocisync")
)

const (
	maxAnswer = 64 << 20
	patience  = 60 * time.Second // for one answer of the admin API
	hello     = 30 * time.Second // for the first one, which asks nothing of it
)

// Client speaks to the admin API of a registry that some process serves. Safe
// for concurrent use.
type Client struct {
	base      *url.URL
	transport *http.Transport
	authorize func(*http.Request) // nil without a login
}

// Dial finds the process that serves a data directory. ErrNotServed: there is
// none. ErrSilent: it is there, stopped or stuck. It touches nothing.
func Dial(ctx context.Context, data string) (*Client, error) { return dial(ctx, data, hello) }

func dial(ctx context.Context, data string, hello time.Duration) (*Client, error) {
	path, err := dialSocket(ctx, data)
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", data, ErrNotServed)
	}
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	c := &Client{base: &url.URL{Scheme: "http", Host: "ocisync"}, transport: t}
	first, cancel := context.WithTimeout(ctx, hello)
	defer cancel()
	info, err := c.Info(first)
	switch {
	case first.Err() != nil && ctx.Err() == nil:
		holder, _ := readHolder(data)
		return nil, errors.Join(fmt.Errorf("data directory %s: %w: %s; look at what it does, or end it", data, ErrSilent, holder), c.Close())
	case err != nil:
		return nil, errors.Join(err, c.Close())
	case another(info.Data, data):
		return nil, errors.Join(fmt.Errorf("data directory %s: %w", data, ErrNotServed), c.Close())
	}
	return c, nil
}

// another reports whether who was found serves another directory than this one: this
// is a copy of that, whose file of the lock names that one's socket.
func another(served, data string) bool {
	one, err := os.Stat(served)
	if err != nil {
		return false // it was moved, or is seen from elsewhere
	}
	two, err := os.Stat(data)
	return err == nil && !os.SameFile(one, two)
}

// DialURL reaches a registry by its address as an admin user, with user "" as
// nobody. conf may be nil. Nothing is sent before the first call, and nothing
// to a proxy: the login is for the registry alone.
func DialURL(base *url.URL, conf *tls.Config, user, password string) *Client {
	c := &Client{
		base: &url.URL{Scheme: base.Scheme, Host: base.Host},
		transport: &http.Transport{
			DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout:   5 * time.Second,
			ResponseHeaderTimeout: patience,
			TLSClientConfig:       conf,
		},
	}
	if user != "" {
		c.authorize = func(r *http.Request) { r.SetBasicAuth(user, password) }
	}
	return c
}

// Greet asks a registry for its challenge, as nobody. Without an error it is one
// of ours, as far as that tells, and a login may be sent to it. ErrForeign: it
// is not. ErrMute: it said nothing in half a minute.
func Greet(ctx context.Context, base *url.URL, conf *tls.Config) error {
	return greet(ctx, base, conf, hello)
}

func greet(ctx context.Context, base *url.URL, conf *tls.Config, hello time.Duration) error {
	nobody := DialURL(base, conf, "", "")
	first, cancel := context.WithTimeout(ctx, hello)
	defer cancel()
	_, err := nobody.Info(first)
	switch {
	case errors.Is(err, ErrUnauthorized):
		err = nil
	case err == nil: // ours tells nobody who it is
		err = ErrForeign
	case first.Err() != nil && ctx.Err() == nil && !errors.Is(err, ErrUnreachable):
		err = fmt.Errorf("%w for %s", ErrMute, hello)
	}
	return errors.Join(err, nobody.Close())
}

// Info says what process serves the registry.
func (c *Client) Info(ctx context.Context) (Info, error) {
	var i Info
	if err := call(ctx, c, "GET", "info", nil, struct{}{}, &i); err != nil {
		return Info{}, err
	}
	if i.Name != "ocisync" {
		return Info{}, ErrForeign
	}
	return i, nil
}

// State returns the objects of the kinds, all where none are named.
func (c *Client) State(ctx context.Context, kinds []schema.Kind) (Live, error) {
	q := url.Values{}
	for _, k := range kinds {
		q.Add("kind", string(k))
	}
	var l Live
	err := call(ctx, c, "GET", "state", q, struct{}{}, &l)
	return l, err
}

// Change makes the changes, each whole or not at all, and says what became of
// each, in order. An error means that nothing is known of any.
func (c *Client) Change(ctx context.Context, changes []Change) ([]Result, error) {
	var response changesResponse
	if err := call(ctx, c, "POST", "changes", nil, changesRequest{changes}, &response); err != nil {
		return nil, err
	}
	if len(response.Results) != len(changes) {
		return nil, ErrForeign
	}
	var results []Result
	for _, r := range response.Results {
		results = append(results, r.result())
	}
	return results, nil
}

// Check reports whether the password is the user's.
func (c *Client) Check(ctx context.Context, user, password string) (bool, error) {
	var response checkResponse
	err := call(ctx, c, "POST", "check", nil, checkRequest{User: user, Password: password}, &response)
	return response.Equal, err
}

// CheckSecret reports whether the secret is the object's.
func (c *Client) CheckSecret(ctx context.Context, key schema.Key, secret string) (bool, error) {
	var response checkResponse
	err := call(ctx, c, "POST", "check", nil, checkRequest{Key: &key, Secret: secret}, &response)
	return response.Equal, err
}

// Repositories lists the repositories that are one of the names or lie below
// one; "*" stands for all.
func (c *Client) Repositories(ctx context.Context, names []string) ([]schema.RepositoryInfo, error) {
	var list []schema.RepositoryInfo
	err := call(ctx, c, "GET", "repositories", url.Values{"name": names}, struct{}{}, &list)
	return list, err
}

// Sizes tells the bytes of those repositories, as far as that is known.
func (c *Client) Sizes(ctx context.Context, names []string) (map[string]int64, error) {
	var out map[string]int64
	err := call(ctx, c, "GET", "sizes", url.Values{"name": names}, struct{}{}, &out)
	return out, err
}

// Transport sends requests to this registry, whatever host their URL names: by
// the socket as ocisync itself, which reaches its own namespace alone unless they
// carry [ContentHeader], else with the login. It lasts as long as the client.
func (c *Client) Transport() http.RoundTripper { return (*clientTransport)(c) }

// Close gives up the connections that are idle.
func (c *Client) Close() error {
	c.transport.CloseIdleConnections()
	return nil
}

type clientTransport Client

// RoundTrip implements [http.RoundTripper].
func (t *clientTransport) RoundTrip(asked *http.Request) (*http.Response, error) {
	r := asked.Clone(asked.Context())
	r.URL.Scheme, r.URL.Host, r.Host = t.base.Scheme, t.base.Host, ""
	r.Header.Del("Authorization")
	if t.authorize != nil {
		t.authorize(r)
	}
	return answerTo(asked, t.transport, r)
}

// answerTo sends a request in another's place. A client resolves a relative
// Location against what it asked for, so the answer says that.
func answerTo(asked *http.Request, rt http.RoundTripper, sent *http.Request) (*http.Response, error) {
	resp, err := rt.RoundTrip(sent)
	if resp != nil {
		resp.Request = asked
	}
	return resp, err
}

func call[In, Out any](ctx context.Context, c *Client, method, what string, query url.Values, in In, out *Out) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return callFor(ctx, c, method, what, query, in, out)
}

// callFor waits for the answer as long as the context lets it.
func callFor[In, Out any](ctx context.Context, c *Client, method, what string, query url.Values, in In, out *Out) error {
	var body io.Reader
	if method == http.MethodPost {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	u := *c.base
	u.Path, u.RawQuery = adminPath+what, query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := (*clientTransport)(c).RoundTrip(req) // follows no redirect
	if err != nil {
		if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
			return ctx.Err()
		}
		if dial := (*net.OpError)(nil); errors.As(err, &dial) && dial.Op == "dial" {
			return fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized && !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), basicRealm):
		return ErrForeign
	case resp.StatusCode == http.StatusUnauthorized:
		return ErrUnauthorized
	case resp.StatusCode == http.StatusForbidden:
		return ErrForbidden
	case len(b) > maxAnswer || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json"):
		return ErrForeign
	case resp.StatusCode != http.StatusOK:
		return refusal(resp.StatusCode, b)
	}
	if json.Unmarshal(b, out) != nil {
		return ErrForeign
	}
	return nil
}

func refusal(status int, b []byte) error {
	var answer struct {
		Errors []struct {
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(b, &answer) != nil || len(answer.Errors) == 0 || status == http.StatusNotFound {
		return ErrForeign
	}
	return fmt.Errorf("the registry answers %d: %s", status, answer.Errors[0].Message)
}
