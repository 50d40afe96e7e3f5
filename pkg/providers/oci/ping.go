package oci

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/providers"
)

// pingTimeout ends a ping whose context has no earlier end.
const pingTimeout = 20 * time.Second

// Info is what a registry says before any login.
type Info struct {
	// Auth is the scheme it asks for: "" for none, "basic" or "bearer".
	Auth string
	// Realm is where tokens are given, Service whom they are for; bearer only.
	Realm, Service string
}

// Within reports whether tokens are given at a registry's own host, or at that of one of
// the realms (URLs): [Confine] lets a login go there.
func (i Info) Within(base *url.URL, realms ...string) bool {
	realm, err := url.Parse(i.Realm)
	if err != nil || realm.Scheme != "https" && realm.Scheme != base.Scheme {
		return false
	}
	return authority(realm) == authority(base) || slices.ContainsFunc(realms, func(r string) bool {
		u, err := url.Parse(r)
		return err == nil && authority(u) == authority(realm)
	})
}

// Ping asks GET /v2/ without a login. A registry that asks for one gives its
// Info together with ErrUnauthorized.
// Errors: ErrUnreachable, ErrNotRegistry, ErrUnauthorized, ErrForbidden.
func Ping(ctx context.Context, registryURL string, rt http.RoundTripper) (Info, error) {
	base, err := ParseURL(registryURL)
	if err != nil {
		return Info{}, err
	}
	fail := func(err error, remedy string) error {
		return &providers.Error{Registry: base.String(), Doing: "asking GET /v2/", Err: err, Remedy: remedy}
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.String()+"/v2/", nil)
	if err != nil {
		return Info{}, fail(err, "")
	}
	client := http.Client{Transport: rt, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		kind, remedy := Connection(err, base)
		return Info{}, fail(kind, remedy)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return Info{}, fail(fmt.Errorf("%w: its answer broke off", providers.ErrUnreachable), "try again")
	}
	const correct = "correct registry.url"
	notRegistry := func(why string) (Info, error) {
		return Info{}, fail(fmt.Errorf("%w: %s", providers.ErrNotRegistry, why), correct)
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	html := kind == "text/html" || bytes.HasPrefix(bytes.ToLower(bytes.TrimSpace(body)), []byte("<!doctype html"))
	known := strings.HasPrefix(resp.Header.Get("Docker-Distribution-Api-Version"), "registry/2")
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized:
		info, ok := Challenge(resp.Header.Values("Www-Authenticate"))
		if !ok {
			return notRegistry("it asks for a login that no registry asks for")
		}
		return info, fail(fmt.Errorf("%w: it asks for one (%s)", providers.ErrUnauthorized, info.Auth), "set registry.login")
	case code == http.StatusBadRequest && base.Scheme == "http" && bytes.Contains(body, []byte("HTTPS")):
		return Info{}, fail(fmt.Errorf("%w: it speaks https", providers.ErrNotRegistry), "write registry.url with https://") // net/http's own answer, and nginx's
	case code == http.StatusTooManyRequests || code >= 500:
		return Info{}, fail(fmt.Errorf("%w: it answers %d", providers.ErrUnreachable, code), "try again later, and look at its log")
	case code == http.StatusForbidden && !html:
		return Info{}, fail(fmt.Errorf("%w: it answers 403", providers.ErrForbidden), "let this address reach /v2/")
	case html:
		return notRegistry(fmt.Sprintf("it answers with a web page (%d)", code))
	case code >= 300 && code < 400:
		to, err := url.Parse(resp.Header.Get("Location"))
		if err != nil || to.Host == "" {
			return notRegistry("it redirects to nowhere")
		}
		return notRegistry(fmt.Sprintf("it redirects to %s://%s", to.Scheme, to.Host))
	case code != http.StatusOK:
		return notRegistry(fmt.Sprintf("it answers %d", code))
	case !known && len(bytes.TrimSpace(body)) > 0 && string(bytes.TrimSpace(body)) != "{}":
		return notRegistry("its answer is not that of a registry")
	}
	return Info{}, nil
}

// Challenge finds the first login that a registry may ask for (RFC 7235).
func Challenge(headers []string) (Info, bool) {
	for _, h := range headers {
		scheme, rest, _ := strings.Cut(strings.TrimSpace(h), " ")
		switch strings.ToLower(scheme) {
		case "basic":
			return Info{Auth: "basic"}, true
		case "bearer":
			return Info{Auth: "bearer", Realm: parameter(rest, "realm"), Service: parameter(rest, "service")}, true
		}
	}
	return Info{}, false
}

// parameter finds name="value" in a challenge; a value holds no quotes here.
func parameter(s, name string) string {
	for s != "" {
		key, rest, ok := strings.Cut(s, "=")
		if !ok {
			return ""
		}
		var value string
		if strings.HasPrefix(rest, `"`) {
			value, rest, _ = strings.Cut(rest[1:], `"`)
			_, rest, _ = strings.Cut(rest, ",")
		} else {
			value, rest, _ = strings.Cut(rest, ",")
		}
		if strings.EqualFold(strings.TrimSpace(key), name) {
			return strings.TrimSpace(value)
		}
		s = rest
	}
	return ""
}

// ErrPlain is a registry that was asked by https, and speaks http.
var ErrPlain = errors.New("it speaks http, not https")

// Connection says of a request that got no answer why, as an error that is one of
// ErrUnreachable, and what to do.
func Connection(err error, base *url.URL) (kind error, remedy string) { //nolint:revive,staticcheck // kind is what was found, not a failure to find it
	var unknown x509.UnknownAuthorityError
	var wrongName x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var dns *net.DNSError
	var own *providers.Error
	var op *net.OpError
	unreachable := func(why string) error { return fmt.Errorf("%w: %s", providers.ErrUnreachable, why) }
	plain := fmt.Errorf("%w: %w", providers.ErrUnreachable, ErrPlain)
	switch {
	case errors.As(err, &own):
		return own.Err, own.Remedy
	case errors.Is(err, context.Canceled):
		return context.Canceled, ""
	case errors.As(err, &unknown):
		return unreachable("its certificate is of an unknown authority"), "give the authority's certificate as registry.tls.ca"
	case errors.As(err, &wrongName):
		return unreachable("its certificate is for another name: " + wrongName.Error()), "correct registry.url, or the certificate"
	case errors.As(err, &invalid):
		return unreachable("its certificate is not valid: " + invalid.Error()), "renew the certificate, and check this computer's clock"
	case errors.As(err, &record):
		if strings.HasPrefix(string(record.RecordHeader[:]), "HTTP/") {
			return plain, "write its address with http:// if that is meant, or give it a certificate"
		}
		return unreachable("it does not speak TLS"), "correct registry.url"
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"): // net/http has no type for it
		return plain, "write its address with http:// if that is meant, or give it a certificate"
	case errors.As(err, &dns):
		return unreachable("its name " + dns.Name + " is not known"), "correct registry.url"
	case errors.Is(err, context.DeadlineExceeded):
		return unreachable("it gives no answer in time"), "see that it is up, and that " + base.Host + " can be reached from here"
	case errors.As(err, &op):
		return unreachable(op.Error()), "see that it is up, and that " + base.Host + " can be reached from here"
	case errors.Is(err, errScheme):
		return unreachable("it sends us from " + base.Scheme + " to the other scheme"), "correct registry.url"
	}
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err // without the URL, whose query may hold a token
	}
	return unreachable(err.Error()), "see that it is up, and that " + base.Host + " can be reached from here"
}
