// Package oci is what all registries share: the distribution API below /v2/.
//
// [Ping] tells whether a URL is a registry and what it asks for. [Transport]
// and [Confine] make the connection that every provider uses: certificates
// checked, and a login that goes to its own host and no other. [NewStore]
// keeps the inventory of pkg/state as an artifact in the registry itself.
package oci

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// ParseURL reads a registry's URL. The error never holds a password in it.
func ParseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("registry.url is not a URL; write it as https://registry.example.com")
	case u.User != nil:
		return nil, fmt.Errorf("registry.url of %s holds a login; use registry.login", u.Host)
	case u.Scheme != "https" && u.Scheme != "http", u.Host == "", u.RawQuery != "", u.Fragment != "":
		return nil, fmt.Errorf("registry.url %q is not one; write it as https://registry.example.com", raw)
	case strings.Trim(u.Path, "/") != "":
		return nil, fmt.Errorf("registry.url %q has a path, but /v2/ is at a host's root; leave the path out", raw)
	}
	u.Host = strings.ToLower(u.Host)
	u.Path = ""
	return u, nil
}

// authority is a URL's host and port, the port always written.
func authority(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "80"
		if u.Scheme == "https" {
			port = "443"
		}
	}
	return strings.ToLower(u.Hostname()) + ":" + port
}
