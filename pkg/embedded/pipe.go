package embedded

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
)

// pipe is an [http.RoundTripper] whose requests go to a handler in this
// process, by connections in memory: no address, and bodies stream.
type pipe struct {
	server    *http.Server
	transport *http.Transport
	conns     chan net.Conn
	once      sync.Once
	closed    chan struct{}
	served    chan struct{}
}

func newPipe(h http.Handler) *pipe {
	p := &pipe{
		// its only client is this process, which is told by answers what went wrong
		server: &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}, //nolint:gosec // as above
		conns:  make(chan net.Conn),
		closed: make(chan struct{}),
		served: make(chan struct{}),
	}
	p.transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		client, server := net.Pipe()
		select {
		case p.conns <- server:
			return client, nil
		case <-p.closed:
			return nil, net.ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	go func() {
		defer close(p.served)
		p.server.Serve((*pipeListener)(p)) //nolint:errcheck // ends by Close alone
	}()
	return p
}

// RoundTrip implements [http.RoundTripper], whatever host and scheme the URL
// names.
func (p *pipe) RoundTrip(asked *http.Request) (*http.Response, error) {
	r := asked.Clone(asked.Context())
	r.URL.Scheme, r.URL.Host, r.Host = "http", "ocisync", ""
	r.Header.Del("Authorization")
	return answerTo(asked, p.transport, r)
}

// Close cuts what is still open.
func (p *pipe) Close() error {
	p.transport.CloseIdleConnections()
	err := p.server.Close()
	<-p.served
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

type pipeListener pipe

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "ocisync", Net: "pipe"} }
