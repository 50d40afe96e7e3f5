package oci

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

func ptr[T any](v T) *T { return &v }

// tlsServer serves with a certificate for 127.0.0.1 and example.com, and
// returns its authority as a file.
func tlsServer(t testing.TB, h http.Handler, maxVersion uint16) (url, ca string) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what is tested
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: maxVersion}
	s.StartTLS()
	t.Cleanup(s.Close)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(ca, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return s.URL, ca
}

func TestCertificatesAreCheckedUnlessTheOperatorSaysOtherwise(t *testing.T) {
	h := registry(t, "")
	url, ca := tlsServer(t, h, 0)
	old, oldCA := tlsServer(t, h, tls.VersionTLS11)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(url, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		url  string
		tls  schema.TLS
		want string // "" for success
	}{
		"unknown authority":      {url, schema.TLS{}, "unknown authority; give the authority's certificate as registry.tls.ca"},
		"not insecure":           {url, schema.TLS{Insecure: ptr(false)}, "unknown authority"},
		"its authority":          {url, schema.TLS{CA: &ca}, ""},
		"insecure":               {url, schema.TLS{Insecure: ptr(true)}, ""},
		"name not in it":         {"https://localhost:" + port, schema.TLS{CA: &ca}, "for another name"},
		"TLS 1.1":                {old, schema.TLS{CA: &oldCA}, "protocol version"},
		"TLS 1.1, even insecure": {old, schema.TLS{Insecure: ptr(true)}, "protocol version"},
	} {
		rt, err := Transport(c.tls)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Ping(t.Context(), c.url, rt)
		rt.CloseIdleConnections()
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !errors.Is(err, providers.ErrUnreachable) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestUnusableCertificateFilesAreNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.pem")
	if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := file + ".none"
	for name, c := range map[string]schema.TLS{
		"no certificate": {CA: &file},
		"missing":        {CA: &missing},
		"cert alone":     {Cert: &file},
		"no pair":        {Cert: &file, Key: &file},
	} {
		if _, err := Transport(c); err == nil || !strings.HasPrefix(err.Error(), "tls.") || strings.Contains(err.Error(), password) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNoProxyIsTakenFromTheEnvironment(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	rt := plainTransport(t)
	if rt.Proxy != nil {
		t.Error("a proxy function is set")
	}
}

// spy records what reaches a host that is not the registry.
type spy struct{ seen []string }

func (s *spy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.seen = append(s.seen, fmt.Sprintf("%s auth=%t cookie=%t body=%d", r.Method, r.Header.Get("Authorization") != "", r.Header.Get("Cookie") != "", len(body)))
	_, _ = io.WriteString(w, "blob")
}

func TestALoginNeverFollowsARedirectToAnotherHost(t *testing.T) {
	other := &spy{}
	elsewhere := serve(t, other)
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/same" && r.Header.Get("Authorization") == "" {
			t.Error("the registry itself did not get the login")
		}
		switch r.URL.Path {
		case "/same":
		case "/near":
			http.Redirect(w, r, "/same", http.StatusTemporaryRedirect)
		default:
			http.Redirect(w, r, elsewhere+"/x", http.StatusTemporaryRedirect)
		}
	}))
	rt, err := Confine(plainTransport(t), url)
	if err != nil {
		t.Fatal(err)
	}
	// A client that adds its login to whatever it sends, as some do.
	client := http.Client{Transport: always{rt}}
	for _, c := range []struct {
		method, path string
		ok           bool
	}{
		{http.MethodGet, "/near", true},
		{http.MethodGet, "/far", true},
		{http.MethodHead, "/far", true},
		{http.MethodPut, "/far", false},
		{http.MethodPost, "/far", false},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, url+c.path, strings.NewReader("state"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		if (err == nil) != c.ok {
			t.Errorf("%s %s: %v", c.method, c.path, err)
		}
		if !c.ok && !errors.Is(err, providers.ErrForbidden) {
			t.Errorf("%s %s: %v", c.method, c.path, err)
		}
	}
	for _, seen := range other.seen {
		if strings.Contains(seen, "=true") || strings.HasPrefix(seen, "P") {
			t.Errorf("the other host saw %s", seen)
		}
	}
	if len(other.seen) != 2 {
		t.Errorf("the other host saw %v", other.seen)
	}
}

type always struct{ rt http.RoundTripper }

func (a always) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.SetBasicAuth("ann", password)
	r.Header.Set("Cookie", "sid=1")
	return a.rt.RoundTrip(r)
}

// A registry may name any token service; the login goes to a known one only.
func TestALoginGoesToNoTokenServiceThatOnlyTheServerNames(t *testing.T) {
	tokens := &spy{}
	realm := strings.Replace(serve(t, tokens), "127.0.0.1", "localhost", 1) // a name, as it would be
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+realm+`/token",service="r"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	s := newStore(t, url, &authn.Basic{Username: "ann", Password: password})
	if _, err := s.Load(t.Context()); !errors.Is(err, providers.ErrForbidden) || !strings.Contains(err.Error(), "localhost") {
		t.Errorf("%v", err)
	}
	if len(tokens.seen) > 0 {
		t.Errorf("the token service saw %v", tokens.seen)
	}
	known, err := NewStore(Options{URL: url, Transport: plainTransport(t), Auth: &authn.Basic{Username: "ann", Password: password}, Realms: []string{realm}}, "prod")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := known.Load(t.Context()); err == nil {
		t.Error("no token was given, and it loaded")
	}
	if len(tokens.seen) == 0 || !strings.Contains(tokens.seen[0], "auth=true") {
		t.Errorf("the known token service saw %v", tokens.seen)
	}
}

func TestNothingGoesFromHTTPSToHTTP(t *testing.T) {
	plain := &spy{}
	plainURL := serve(t, plain)
	url, ca := tlsServer(t, http.RedirectHandler(plainURL, http.StatusTemporaryRedirect), 0)
	tr, err := Transport(schema.TLS{CA: &ca})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.CloseIdleConnections()
	rt, err := Confine(tr, url)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: rt}
	if resp, err := client.Get(url); err == nil {
		_ = resp.Body.Close()
		t.Error("followed")
	}
	// The client library would try http on a loopback address whose https fails.
	s, err := NewStore(Options{URL: strings.Replace(plainURL, "http:", "https:", 1), Transport: tr, Auth: &authn.Basic{Username: "ann", Password: password}}, "prod")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(t.Context()); !errors.Is(err, providers.ErrUnreachable) || !strings.Contains(err.Error(), "speaks http, not https") {
		t.Errorf("%v", err)
	}
	if len(plain.seen) > 0 {
		t.Errorf("seen in clear: %v", plain.seen)
	}
}

func TestPingTellsWhatIsThere(t *testing.T) {
	answer := func(code int, header, body string) string {
		return serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if k, v, ok := strings.Cut(header, ": "); ok {
				w.Header().Set(k, v)
			}
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}))
	}
	https, _ := tlsServer(t, registry(t, ""), 0)
	const bearer = `WWW-Authenticate: Bearer realm="https://r.example.com/service/token",service="harbor-registry",scope="a,b"`
	for name, c := range map[string]struct {
		url  string
		info Info
		err  error
		text string
	}{
		"a registry":         {serve(t, registry(t, "")), Info{}, nil, ""},
		"with a login":       {serve(t, registry(t, "ann")), Info{Auth: "basic"}, providers.ErrUnauthorized, "registry.login"},
		"with tokens":        {answer(401, bearer, "{}"), Info{"bearer", "https://r.example.com/service/token", "harbor-registry"}, providers.ErrUnauthorized, "bearer"},
		"another login":      {answer(401, "WWW-Authenticate: Negotiate", ""), Info{}, providers.ErrNotRegistry, "correct registry.url"},
		"a web page":         {answer(200, "Content-Type: text/html; charset=utf-8", "<html>"), Info{}, providers.ErrNotRegistry, "web page (200)"},
		"a web page, untold": {answer(200, "", "\n<!DOCTYPE html><p>"), Info{}, providers.ErrNotRegistry, "web page"},
		"another API":        {answer(200, "Content-Type: application/json", `{"version":3}`), Info{}, providers.ErrNotRegistry, "not that of a registry"},
		"not found":          {answer(404, "", "nope"), Info{}, providers.ErrNotRegistry, "404"},
		"sent on":            {answer(301, "Location: https://new.example.com/v2/?token=x", ""), Info{}, providers.ErrNotRegistry, "https://new.example.com;"},
		"forbidden":          {answer(403, "", "{}"), Info{}, providers.ErrForbidden, "403"},
		"in trouble":         {answer(503, "", ""), Info{}, providers.ErrUnreachable, "503"},
		"too many":           {answer(429, "", ""), Info{}, providers.ErrUnreachable, "later"},
		"nobody":             {"http://127.0.0.1:1", Info{}, providers.ErrUnreachable, "connection refused; see that it is up"},
		"no such name":       {"http://registry.invalid", Info{}, providers.ErrUnreachable, ""},
		"http for https":     {strings.Replace(serve(t, registry(t, "")), "http:", "https:", 1), Info{}, providers.ErrUnreachable, "speaks http, not https"},
		"https for http":     {strings.Replace(https, "https:", "http:", 1), Info{}, providers.ErrNotRegistry, "it speaks https; write registry.url with https://"},
	} {
		info, err := Ping(t.Context(), c.url, plainTransport(t))
		if info != c.info || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
		if err == nil {
			continue
		}
		var e *providers.Error
		if !strings.Contains(err.Error(), c.text) || !errors.As(err, &e) || e.Remedy == "" || strings.Contains(err.Error(), "token=") {
			t.Errorf("%s: %v, want %q and a remedy", name, err, c.text)
		}
	}
}

func TestURLsThatAreNoRegistrysAreRefusedWithoutTheirPassword(t *testing.T) {
	for _, url := range []string{"", "registry.example.com", "ftp://x", "https://", "https://x/harbor", "https://x?y=1",
		"https://ann:" + password + "@x", "https://ann:" + password + "@x:port", "http://[::1"} {
		if _, err := Ping(t.Context(), url, http.DefaultTransport); err == nil || strings.Contains(err.Error(), password) {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// pieces is a body that notes how much of it is asked for at once.
type pieces struct {
	io.Reader
	most int
}

func (p *pieces) Read(b []byte) (int, error) {
	p.most = max(p.most, len(b))
	return p.Reader.Read(b)
}

// Large bodies go in large pieces, and small ones take no such buffer.
func TestLargeBodiesGoInLargePieces(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, n, err)
	}))
	defer s.Close()
	rt, err := Transport(schema.TLS{})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.CloseIdleConnections()
	for _, size := range []int64{1 << 20, 8 << 20} {
		body := &pieces{Reader: io.LimitReader(zeros{}, size)}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL, body)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = size
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := fmt.Sprint(size, nil); err != nil || string(text) != want {
			t.Errorf("of %d bytes: %s, %v; want %s", size, text, err, want)
		}
		if large := body.most >= 256<<10; large != (size == 8<<20) {
			t.Errorf("of %d bytes at most %d were read at once", size, body.most)
		}
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }
