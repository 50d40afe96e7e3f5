package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/oci"
)

// tries is how often a request is sent at the most, longest how long a server may make
// us wait, inFlight how many requests there are at once at the most, and slow an answer
// that makes us send fewer.
const (
	tries    = 6
	longest  = time.Minute
	inFlight = 16
	slow     = 3 * time.Second
)

// StatusError is an answer of Harbor's that is no success.
type StatusError struct {
	Code    int
	Codes   []string // Harbor's own, such as CONFLICT
	Message string   // Harbor's own words, "" where it has none
}

// Error quotes Harbor.
func (s *StatusError) Error() string {
	if s.Message == "" {
		return fmt.Sprintf("Harbor answers %d and says nothing", s.Code)
	}
	return fmt.Sprintf("Harbor answers %d: %s", s.Code, s.Message)
}

// Is reports whether an error is an answer with one of these codes.
func Is(err error, codes ...int) bool {
	var s *StatusError
	if !errors.As(err, &s) {
		return false
	}
	for _, c := range codes {
		if s.Code == c {
			return true
		}
	}
	return false
}

// Said are Harbor's words in an error that is an answer of it.
func Said(err error) string {
	var s *StatusError
	if !errors.As(err, &s) {
		return ""
	}
	return s.Error()
}

// fail makes an error of the providers' kind, with what was done.
func (c *Client) fail(doing string, err error, remedy string) error {
	return &providers.Error{Registry: c.base, Doing: doing, Err: err, Remedy: remedy}
}

// connection says of an exchange that did not end what came between.
func (c *Client) connection(doing string, err error) error {
	var said *providers.Error
	if errors.As(err, &said) || errors.Is(err, context.Canceled) {
		return err
	}
	kind, remedy := oci.Connection(err, c.url)
	return c.fail(doing, kind, remedy)
}

// unanswered says of a change that failed on its way that it may have been done.
func unanswered(err error) error {
	var said *providers.Error
	if !errors.As(err, &said) {
		return fmt.Errorf("%w; %w", err, providers.ErrUnanswered)
	}
	out := *said
	out.Err = fmt.Errorf("%w, and %w", said.Err, providers.ErrUnanswered)
	return &out
}

// NoUsers is what to do about a right in the system that a user lacks who is no
// administrator.
const NoUsers = "Harbor has no such right for a user; name a robot that has it, or an administrator, in registry.login"

// NoRobots is what to do about a right that the server gives to no robot, being older
// than the right; "" of one that it gives.
func (c *Client) NoRobots(right string) string {
	resource, action, _ := strings.Cut(right, ":")
	if !c.Robot() || !c.Later(Access{Resource: resource, Action: action}) {
		return ""
	}
	return fmt.Sprintf("this Harbor (%s) has no such right for a robot; name an administrator's account in registry.admin", c.Version)
}

// answer says what an answer means. A 500 is Harbor's word for many mistakes of
// the asker, so its text is told and it is not taken for a broken server.
func (c *Client) answer(r call, status int, header http.Header, body []byte) error {
	s := said(status, body)
	switch {
	case status/100 == 3:
		return c.fail(r.doing, fmt.Errorf("%w: it answers %s %s by sending elsewhere (%d)%s", providers.ErrNotRegistry, r.method, r.path, status, where(header)),
			"correct registry.url, or see what stands between here and Harbor")
	case status == http.StatusBadRequest && c.url.Scheme == "http" && bytes.Contains(body, []byte("HTTPS")): // net/http's own answer, and nginx's
		return c.fail(r.doing, kinded{s, providers.ErrNotRegistry}, "write registry.url with https://")
	case len(s.Codes) == 0 && isPage(header, body):
		err := c.fail(r.doing, fmt.Errorf("%w: it answers %s %s with a web page (%d)", providers.ErrNotRegistry, r.method, r.path, status),
			"see that Harbor is up, and that nothing else answers in its place")
		if !r.reads() {
			err = unanswered(err)
		}
		return err
	}
	kind, remedy := error(nil), ""
	switch status {
	case http.StatusUnauthorized:
		kind, remedy = providers.ErrUnauthorized, "see that the account still is what it was: enabled, not expired, with this password"
	case http.StatusForbidden:
		kind, remedy = providers.ErrForbidden, "give the account in use that right, or name an administrator's in registry.admin"
		switch {
		case c.Plain() && r.right != "":
			remedy = "it takes " + r.right + " for the whole registry; " + NoUsers
		case c.Plain() && r.as == Admin:
			remedy = "name an administrator's account in registry.login"
		case c.Plain():
			remedy = "have an administrator give the user in registry.login a role that allows it, or name one there that has it"
		case c.NoRobots(r.right) != "":
			remedy = "it takes " + r.right + " for the whole registry; " + c.NoRobots(r.right)
		case r.right != "":
			remedy = fmt.Sprintf("have an administrator give the account in registry.login %s for the whole registry, or name one there that has it", r.right)
		}
		if strings.Contains(s.Message, "read only mode") {
			kind, remedy = providers.ErrReadOnly, "declare read_only = false in registry.harbor, or switch it off in Harbor"
		}
	case http.StatusNotFound:
		kind = providers.ErrNotFound
	case http.StatusConflict:
		kind, remedy = providers.ErrConflict, "plan again"
	case http.StatusPreconditionFailed, http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
		kind = providers.ErrInvalid
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		kind, remedy = providers.ErrUnreachable, "try again later, and look at Harbor's log"
		if asked, ok := oci.RetryAfter(header.Get("Retry-After"), time.Now()); ok && asked > 0 {
			remedy = fmt.Sprintf("try again in %s, as Harbor asks, and look at its log", max(time.Second, asked.Round(time.Second)))
		}
	case http.StatusInternalServerError:
		remedy = "look at what it was asked for: Harbor answers so to many a mistake; its core's log says more"
	}
	if !r.reads() && (status == http.StatusBadGateway || status == http.StatusGatewayTimeout) { // what stands before Harbor says so
		return unanswered(c.fail(r.doing, kinded{s, kind}, remedy))
	}
	if r.hint != "" && (status == http.StatusBadRequest || status == http.StatusPreconditionFailed || status == http.StatusInternalServerError) {
		remedy = r.hint
	}
	if kind == nil {
		return c.fail(r.doing, s, remedy)
	}
	return c.fail(r.doing, kinded{s, kind}, remedy)
}

// passedOn reports whether a refusal is another registry's: Harbor passes it on as its
// own, with that one's words. Of what it refuses itself it says who asked, or no more
// than that they may not.
func (r call) passedOn(a *account, status int, body []byte) bool {
	if !r.relays {
		return false
	}
	s := said(status, body)
	switch status {
	case http.StatusUnauthorized:
		return s.Message != "unauthorized"
	case http.StatusForbidden:
		a.mu.Lock()
		defer a.mu.Unlock()
		return s.Message != a.user && !slices.Contains(s.Codes, "DENIED") && !strings.HasPrefix(s.Message, "CSRF token")
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return len(s.Codes) > 0
	}
	return false
}

// said is an answer with Harbor's own words of it.
func said(status int, body []byte) *StatusError {
	s := &StatusError{Code: status}
	var in struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(body, &in); err != nil || len(in.Errors) == 0 {
		s.Message = clean(string(body))
		return s
	}
	var texts []string
	for _, e := range in.Errors {
		s.Codes = append(s.Codes, e.Code)
		texts = append(texts, clean(e.Message))
	}
	s.Message = strings.Join(texts, "; ")
	return s
}

// where is the host that an answer sends to, with a comma before, or "".
func where(header http.Header) string {
	u, err := url.Parse(header.Get("Location"))
	if err != nil || u.Host == "" {
		return ""
	}
	return ", to " + clean(u.Host)
}

// isPage reports whether an answer is for people.
func isPage(header http.Header, body []byte) bool {
	return len(bytes.TrimSpace(body)) > 0 && strings.HasPrefix(header.Get("Content-Type"), "text/html") || bytes.HasPrefix(bytes.TrimSpace(body), []byte("<"))
}

// kinded is an answer that is also one of the errors of package providers.
type kinded struct {
	status *StatusError
	kind   error
}

func (e kinded) Error() string   { return e.status.Error() }
func (e kinded) Unwrap() []error { return []error{e.kind, e.status} }

// clean bounds what a server says, and puts it on one line.
func clean(s string) string {
	const most = 400
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// try sends a request, again where that cannot do harm: what reads after any
// failure on the way, and all of it where the server says that it did nothing.
func (c *Client) try(ctx context.Context, a *account, r call) (status int, header http.Header, body []byte, err error) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 200*time.Millisecond, 10*time.Second
	for n := 1; ; n++ {
		if err := c.gate.Enter(ctx); err != nil {
			return 0, nil, nil, err
		}
		began := time.Now()
		status, header, body, err = c.once(ctx, a, r)
		busy := err == nil && (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable)
		c.gate.Leave(busy, time.Since(began))
		again := busy || r.reads() && (err != nil && !lasting(err) || status == http.StatusBadGateway || status == http.StatusGatewayTimeout)
		if !again || n == tries || ctx.Err() != nil {
			return status, header, body, err
		}
		wait := pause.NextBackOff()
		if busy {
			asked, ok := oci.RetryAfter(header.Get("Retry-After"), time.Now())
			if ok && asked > longest {
				return status, header, body, err
			}
			wait = max(wait, asked)
		}
		c.logger.Debug("asking again", "method", r.method, "path", r.path, "status", status, "try", n, "wait", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return 0, nil, nil, ctx.Err()
		}
	}
}

// lasting reports whether asking again would give the same.
func lasting(err error) bool {
	var said *providers.Error
	var untrusted *tls.CertificateVerificationError
	return errors.As(err, &said) || errors.As(err, &untrusted) || errors.Is(err, context.Canceled) || errors.Is(err, providers.ErrNotRegistry)
}

// Same reports whether an error says that a password is the one it was.
func Same(err error) bool {
	var s *StatusError
	return errors.As(err, &s) && s.Code == http.StatusBadRequest && strings.Contains(s.Message, "identical")
}
