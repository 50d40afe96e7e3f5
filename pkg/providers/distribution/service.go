package distribution

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/token"
	"github.com/ocisync/ocisync/schema"
)

// shortestRotation is a good deal more than a token lives.
const shortestRotation = time.Hour

// Place is where a registry's files and its token service are.
type Place struct {
	Config string // config.yml
	// Data is the directory that ocisync's own files lie in, below ocisync/; ""
	// where there is none on this host.
	Data string
	// Htpasswd is the file of the registry's own accounts, which take the place
	// of a token service; "" for none.
	Htpasswd string
	// Name is the registry's, as tokens have it: host and port of its URL.
	Name string
	// Service is where clients ask for tokens; nil without a token service.
	Service *url.URL
	// Listen is where the token service listens.
	Listen string
	// Rotate is how long a key of it signs; 0 is for ever.
	Rotate time.Duration
}

// Keys and JWKS are the files of the token service's keys, of which the
// registry reads the second.
func (p Place) Keys() string { return filepath.Join(p.Data, "ocisync", "keys.json") }

// JWKS is the file of the public keys.
func (p Place) JWKS() string { return filepath.Join(p.Data, "jwks.json") }

// Realm is where clients ask for tokens, as the registry tells them.
func (p Place) Realm() string { return p.Service.String() + token.Path }

// PlaceOf says where things are by what the mode says of its registry.
func PlaceOf(r schema.Registry) (Place, error) {
	wrong := func(format string, args ...any) (Place, error) {
		return Place{}, fmt.Errorf("%s: "+format, append([]any{r.URL}, args...)...)
	}
	u, err := url.Parse(r.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return Place{}, fmt.Errorf("registry.url %q is not the address of a registry; write it as http://localhost:5000", r.URL)
	}
	p := Place{Name: u.Host}
	switch {
	case r.Run != nil:
		if r.Run.Data == "" {
			return wrong("the registry has no data directory; name one in registry.run.data")
		}
		if p.Data, err = filepath.Abs(r.Run.Data); err != nil {
			return wrong("registry.run.data %s: %w", r.Run.Data, err)
		}
		p.Config = filepath.Join(p.Data, "config.yml")
	case r.Files != nil && r.Files.Config != "":
		p.Config = r.Files.Config
		p.Data = filepath.Dir(p.Config)
	}
	if r.Files != nil && r.Files.Htpasswd != "" {
		return byFile(r, p)
	}
	given := r.Token
	if given == nil {
		given = &schema.TokenService{}
	}
	switch {
	case given.URL != "":
		p.Service, err = url.Parse(given.URL)
		if err != nil || p.Service.Host == "" || p.Service.Path != "" && p.Service.Path != "/" {
			return wrong("registry.token.url %q is not an address without a path; write it as https://auth.example.com", given.URL)
		}
		p.Service = &url.URL{Scheme: p.Service.Scheme, Host: p.Service.Host}
	case r.Run != nil:
		if p.Service, err = beside(u); err != nil {
			return wrong("%w", err)
		}
	default:
		return p, nil
	}
	if p.Listen = given.Listen; p.Listen == "" {
		p.Listen = listenAt(p.Service, r)
	}
	p.Rotate = token.RotateEvery
	switch every := given.Rotate; {
	case every == nil:
	case *every == schema.Never:
		p.Rotate = 0
	case every.Std() < shortestRotation:
		return wrong("registry.token.rotate: a key signs for %s at least, so that the tokens of the one before are gone; write that or more, or \"never\"", shortestRotation)
	default:
		p.Rotate = every.Std()
	}
	return p, nil
}

// byFile is the place of a registry whose accounts are those of an htpasswd file.
func byFile(r schema.Registry, p Place) (Place, error) {
	p.Htpasswd = filepath.Clean(r.Files.Htpasswd)
	switch {
	case r.Token != nil:
		return Place{}, fmt.Errorf("%s: registry.files.htpasswd and registry.token: accounts are those of a file, without rights, or of ocisync's token service; take one of the two out", r.URL)
	case r.Driver() == schema.DriverDocker && !strings.HasPrefix(p.Htpasswd, p.Data+string(filepath.Separator)):
		return Place{}, fmt.Errorf("%s: registry.files.htpasswd %s: a container sees files of %s alone; write %s", r.URL, p.Htpasswd, p.Data, filepath.Join(p.Data, "htpasswd"))
	case p.Data == "":
		p.Data = filepath.Dir(p.Htpasswd)
	}
	return p, nil
}

// beside is one port above the registry. Clients such as crane follow no realm
// whose host is a private address, but for the registry's own host and port: it
// must be a name.
func beside(registry *url.URL) (*url.URL, error) {
	host := registry.Hostname()
	port, err := strconv.ParseUint(registry.Port(), 10, 16)
	if err != nil || port == 65535 {
		return nil, fmt.Errorf("the token service has no address: registry.url names no port to be above; write it into registry.token.url")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if !ip.IsLoopback() {
			return nil, fmt.Errorf("the token service has no address: clients follow a name and not %s; write it into registry.token.url", host)
		}
		host = "localhost"
	}
	return &url.URL{Scheme: registry.Scheme, Host: net.JoinHostPort(host, strconv.FormatUint(port+1, 10))}, nil
}

// listenAt is the service's port at the address where the registry listens.
func listenAt(service *url.URL, r schema.Registry) string {
	host, port := service.Hostname(), service.Port()
	if r.Run != nil && r.Run.Listen != "" {
		if h, _, err := net.SplitHostPort(r.Run.Listen); err == nil {
			host = h
		}
	}
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[service.Scheme]
	}
	return net.JoinHostPort(host, port)
}
