package oci

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/schema"
)

// maxPEM bounds a file of certificates.
const maxPEM = 4 << 20

// A body of largeBody bytes or more is sent in pieces of piece bytes: those that package
// io makes are so small that a copy takes a twentieth more of the processors.
const (
	largeBody = 4 << 20
	piece     = 256 << 10
)

// conn sends large bodies in large pieces.
type conn struct{ *net.TCPConn }

// ReadFrom implements [io.ReaderFrom].
func (c conn) ReadFrom(r io.Reader) (int64, error) {
	if l, ok := r.(*io.LimitedReader); !ok || l.N < largeBody { // as package http has a body of known length
		return c.TCPConn.ReadFrom(r)
	}
	return io.CopyBuffer(struct{ io.Writer }{c.TCPConn}, r, make([]byte, piece))
}

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext(ctx, network, address)
	if tcp, ok := c.(*net.TCPConn); ok {
		return conn{tcp}, nil
	}
	return c, err
}

// Transport makes connections to a registry: TLS 1.2 at least; certificates
// checked against the system's authorities and those of t.CA; t.Cert and t.Key
// shown where a server asks. It uses no proxy, follows no environment, and
// gives up on a silent server; a request as a whole is bounded by its context.
// Wrap it with [Confine] before a login goes through it.
func Transport(t schema.TLS) (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.Insecure != nil {
		config.InsecureSkipVerify = *t.Insecure // the operator's word; every plan says so
	}
	if t.CA != nil {
		pem, err := readPEM(*t.CA)
		if err != nil {
			return nil, fmt.Errorf("tls.ca: %w", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca: %s holds no certificate; give a PEM file of the authority", *t.CA)
		}
		config.RootCAs = pool
	}
	if (t.Cert == nil) != (t.Key == nil) {
		return nil, errors.New("tls.cert and tls.key go together; give both or none")
	}
	if t.Cert != nil {
		cert, err := readPEM(*t.Cert)
		if err != nil {
			return nil, fmt.Errorf("tls.cert: %w", err)
		}
		key, err := readPEM(*t.Key)
		if err != nil {
			return nil, fmt.Errorf("tls.key: %w", err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil { // its text could hold a part of the key
			return nil, fmt.Errorf("tls.cert %s and tls.key %s are not a certificate and its key in PEM", *t.Cert, *t.Key)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            dial,
		TLSClientConfig:        config,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  60 * time.Second,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConnsPerHost:    16,
		MaxResponseHeaderBytes: 1 << 20,
	}, nil
}

func readPEM(path string) ([]byte, error) {
	b, err := regular.Read(path, maxPEM)
	if errors.Is(err, regular.ErrOther) || errors.Is(err, regular.ErrLarge) {
		err = fmt.Errorf("%w; name a PEM file", err)
	}
	return b, err
}

// errScheme refuses a request by another scheme than the registry's.
var errScheme = errors.New("the registry's URL has the other scheme (http, https)")

type confined struct {
	inner  http.RoundTripper
	base   *url.URL
	realms map[string]bool
}

// Confine lets requests pass to a registry's own host and port. To another
// host it lets a redirected GET or HEAD go, as to a storage of blobs, without
// login and cookies; to the hosts of realms (URLs of token services that the
// operator knows) everything. What else would leave, such as a login for a
// token service that only the server names, is refused, and so is going from
// https to http.
func Confine(rt http.RoundTripper, registryURL string, realms ...string) (http.RoundTripper, error) {
	base, err := ParseURL(registryURL)
	if err != nil {
		return nil, err
	}
	c := &confined{rt, base, map[string]bool{}}
	for _, r := range realms {
		u, err := url.Parse(r)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("the token service's URL %q is not one", r)
		}
		c.realms[authority(u)] = true
	}
	return c, nil
}

// RoundTrip implements [http.RoundTripper].
func (c *confined) RoundTrip(req *http.Request) (*http.Response, error) {
	host := authority(req.URL)
	redirected := req.Response != nil // what net/http sets on a redirect
	switch {
	case req.URL.Scheme != "https" && req.URL.Scheme != c.base.Scheme:
		return refuse(req, errScheme)
	case host == authority(c.base), c.realms[host]:
		return c.inner.RoundTrip(req)
	case req.URL.Hostname() == c.base.Hostname() && req.URL.Scheme != c.base.Scheme && !redirected:
		return refuse(req, errScheme)
	case redirected && (req.Method == http.MethodGet || req.Method == http.MethodHead):
		out := req.Clone(req.Context())
		for _, name := range []string{"Authorization", "Cookie", "Proxy-Authorization", "Www-Authenticate"} {
			out.Header.Del(name)
		}
		return c.inner.RoundTrip(out)
	}
	return refuse(req, &providers.Error{
		Registry: c.base.String(),
		Err:      fmt.Errorf("%w: it sends us on to host %s, which is not to see the login or what is written", providers.ErrForbidden, host),
		Remedy:   "let the token service and uploads be reached under the registry's own host",
	})
}

// refuse closes the body, as a RoundTripper must.
func refuse(req *http.Request, err error) (*http.Response, error) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
	return nil, err
}
