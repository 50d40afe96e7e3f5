package content

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// defaultInFlight is how many requests are under way at once where nobody says.
const defaultInFlight = 16

// gate lets as many requests to a registry through at once as it bears: fewer after it
// said that it has too many, one more after it answered well for a while.
type gate struct {
	most int

	mu      sync.Mutex
	allowed int
	under   int
	well    int // answers since allowed changed
	until   time.Time
	waiting []chan struct{}
}

func newGate(most int) *gate {
	if most == 0 {
		most = defaultInFlight
	}
	return &gate{most: most, allowed: most}
}

// enter waits for a place.
func (g *gate) enter(ctx context.Context) error {
	g.mu.Lock()
	if g.under < g.allowed && len(g.waiting) == 0 {
		g.under++
		g.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	g.waiting = append(g.waiting, turn)
	g.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		for i, w := range g.waiting {
			if w == turn {
				g.waiting = append(g.waiting[:i], g.waiting[i+1:]...)
				return ctx.Err()
			}
		}
		g.free() // its turn came meanwhile
		return ctx.Err()
	}
}

// free gives a place back. The lock is held.
func (g *gate) free() {
	g.under--
	for g.under < g.allowed && len(g.waiting) > 0 {
		close(g.waiting[0])
		g.waiting = g.waiting[1:]
		g.under++
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.free()
}

// well notes an answer that tells of no trouble.
func (g *gate) answered() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.well++; g.allowed < g.most && g.well >= 2*g.allowed {
		g.allowed, g.well = g.allowed+1, 0
	}
}

// strained halves what is allowed, once for all requests that were under way.
func (g *gate) strained() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now(); now.After(g.until) {
		g.allowed, g.well, g.until = max(1, g.allowed/2), 0, now.Add(time.Second)
	}
}

// The patience with a registry that cannot answer now.
const (
	attempts  = 6
	firstWait = 200 * time.Millisecond
	longest   = time.Minute // what it may ask to be waited for
)

// through sends a request, and again where the registry says that it cannot answer now,
// or a request that changes nothing got no answer.
func (g *gate) through(req *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
	for n := 1; ; n++ {
		if err := g.enter(req.Context()); err != nil {
			return nil, err
		}
		resp, err := send()
		g.leave()
		wait, again := g.again(req, resp, err, n)
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

// again reports whether a request is sent once more, and after how long.
func (g *gate) again(req *http.Request, resp *http.Response, err error, n int) (time.Duration, bool) {
	once := req.Body != nil && req.GetBody == nil // what is sent is read by now
	wait := firstWait << (n - 1)
	wait += rand.N(wait) //nolint:gosec // so that not all come again at once
	if err != nil {
		safe := req.Method == http.MethodGet || req.Method == http.MethodHead || req.Method == http.MethodPut
		return wait, safe && !once && n < attempts && req.Context().Err() == nil && temporary(err)
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		g.strained()
	default:
		g.answered()
		return 0, false
	}
	asked, said := retryAfter(resp.Header)
	return max(wait, asked), !once && n < attempts && (!said || asked <= longest)
}

// retryAfter reads how long a registry asks to be left alone (RFC 9110, 10.2.3).
func retryAfter(h http.Header) (time.Duration, bool) {
	v := h.Get("Retry-After")
	if s, err := strconv.Atoi(v); err == nil && s >= 0 {
		return time.Duration(min(s, 1<<30)) * time.Second, true
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, time.Until(t)), true
	}
	return 0, false
}

// temporary reports whether a request that got no answer may get one a moment later.
func temporary(err error) bool {
	var network net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errors.As(err, &network) && network.Timeout()
}
