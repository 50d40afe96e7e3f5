package schema

import (
	"net"
	"strings"
)

// Address is where a registry listens on this host that is run as the mode
// says, as host:port: at registry.run.listen, else as its URL says, a container
// on the loopback interface alone. It needs a Run.
func (r Registry) Address() string {
	address := hostPort(r.URL)
	if r.Run.Listen != "" {
		address = r.Run.Listen
	}
	host, port, err := net.SplitHostPort(address)
	if r.Run.Driver != DriverDocker || err != nil || host != "localhost" && r.Run.Listen != "" {
		return address
	}
	// the engine takes addresses, not names
	if net.ParseIP(host) == nil || r.Run.Listen == "" && !net.ParseIP(host).IsLoopback() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// hostPort is the address in a URL, with the scheme's own port where it has none.
func hostPort(registry string) string {
	scheme, rest, _ := strings.Cut(registry, "://")
	host, _, _ := strings.Cut(rest, "/")
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	port := "80"
	if scheme == "https" {
		port = "443"
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}
