package providers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"

	"github.com/ocisync/ocisync/schema"
)

// Way carries requests to a registry that ocisync runs on this host, and none that
// bears a login while that does not run: whatever answers at its address then is not
// it. Safe for concurrent use.
type Way struct {
	inner   http.RoundTripper
	process Process
	url     string
	files   []string
}

// NewWay goes to the registry at a URL, whose files are these. A process that is nil,
// or cannot be asked, and files that are not here say nothing.
func NewWay(inner http.RoundTripper, process Process, url string, files ...string) *Way {
	return &Way{inner, process, url, files}
}

// RoundTrip implements [http.RoundTripper]. ErrUnreachable: the registry does not run.
func (w *Way) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Authorization") != "" && w.process != nil && w.here() {
		if st, err := w.process.Status(r.Context()); err == nil && !st.Running {
			if r.Body != nil {
				r.Body.Close()
			}
			return nil, &Error{Registry: w.url, Err: fmt.Errorf("%w: it does not run, and nobody else is sent its logins", ErrUnreachable)}
		}
	}
	return w.inner.RoundTrip(r)
}

func (w *Way) here() bool {
	for _, name := range w.files {
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

// CloseIdleConnections closes those of what it is made of.
func (w *Way) CloseIdleConnections() {
	if c, ok := w.inner.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// DialLive has requests for a registry's address go where its process listens now, until
// an apply or start has it listen where the mode says.
func DialLive(rt *http.Transport, process Process, r schema.Registry) {
	maker, ok := process.(Maker)
	if !ok {
		return
	}
	dial := rt.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	rt.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if sameAddress(address, r.Address()) {
			if made, err := maker.Made(ctx); err == nil && made != nil && !made.Stopped && made.Listen != "" {
				address = made.Listen
			}
		}
		return dial(ctx, network, address)
	}
}

// sameAddress takes the names of this host for one.
func sameAddress(a, b string) bool {
	ha, pa, err := net.SplitHostPort(a)
	hb, pb, bad := net.SplitHostPort(b)
	if err != nil || bad != nil || pa != pb {
		return false
	}
	here := func(host string) bool {
		ip := net.ParseIP(host)
		return host == "localhost" || host == "" || ip != nil && (ip.IsLoopback() || ip.IsUnspecified())
	}
	return ha == hb || here(ha) && here(hb)
}
