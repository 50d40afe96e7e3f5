package content

import (
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/ocisync/ocisync/pkg/providers/oci"
)

// defaultInFlight is how many requests are under way at once where nobody says.
const defaultInFlight = 16

// gate lets as many requests to a registry through at once as it bears. A blob may take
// any time, so that no answer is too slow.
type gate struct{ *oci.Gate }

func newGate(most int) *gate { return &gate{oci.NewGate(most, 0)} }

// The patience with a registry that cannot answer now.
const (
	attempts  = 6
	firstWait = 200 * time.Millisecond
	longest   = time.Minute // what it may ask to be waited for
)

// through sends a request, and again where the registry says that it cannot answer now,
// or a request that changes nothing got no answer.
func (g *gate) through(req *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval = firstWait
	for n := 1; ; n++ {
		if err := g.Enter(req.Context()); err != nil {
			return nil, err
		}
		began := time.Now()
		resp, err := send()
		g.Leave(err == nil && overloaded(resp), time.Since(began))
		asked, again := repeats(req, resp, err, n)
		wait := max(asked, pause.NextBackOff())
		if !again {
			return resp, err
		}
		if resp != nil {
			drain(resp)
		}
		if req.GetBody != nil {
			if req.Body, err = req.GetBody(); err != nil {
				return nil, err
			}
		}
		select {
		case <-time.After(wait):
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
}

// overloaded reports whether a registry says that it cannot answer now.
func overloaded(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// repeats reports whether a request is sent once more, and after how long the registry
// asks for that.
func repeats(req *http.Request, resp *http.Response, err error, n int) (asked time.Duration, again bool) {
	if n == attempts || req.Body != nil && req.GetBody == nil { // what is sent is read by now
		return 0, false
	}
	if err != nil {
		safe := req.Method == http.MethodGet || req.Method == http.MethodHead || req.Method == http.MethodPut
		return 0, safe && req.Context().Err() == nil && temporary(err)
	}
	asked, said := retryAfter(resp.Header)
	return asked, overloaded(resp) && (!said || asked <= longest)
}

func retryAfter(h http.Header) (time.Duration, bool) {
	return oci.RetryAfter(h.Get("Retry-After"), time.Now())
}

// temporary reports whether a request that got no answer may get one a moment later.
func temporary(err error) bool {
	var network net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errors.As(err, &network) && network.Timeout()
}
