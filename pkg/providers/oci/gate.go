package oci

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Gate lets few requests through at once: one more for each full round of quick
// answers, half as many after a refusal for being too many, or a slow answer.
// Waiters come in turn.
type Gate struct {
	most int
	slow time.Duration

	mu      sync.Mutex
	limit   int
	flying  int
	quick   int // answers since the limit changed
	changed time.Time
	waiting []chan struct{}
}

// NewGate is one for as many requests in flight at once at the most. An answer that
// takes longer than slow makes it send fewer; 0 is that none is too slow.
func NewGate(most int, slow time.Duration) *Gate { return &Gate{most: most, slow: slow, limit: most} }

// Enter waits for a place. Errors: of the context.
func (g *Gate) Enter(ctx context.Context) error {
	g.mu.Lock()
	if g.flying < g.limit && len(g.waiting) == 0 {
		g.flying++
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
		g.flying-- // the place came at the same moment
		g.next()
		return ctx.Err()
	}
}

// Leave gives the place back, and says how the request went.
func (g *Gate) Leave(busy bool, took time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.flying--
	switch {
	case busy || g.slow > 0 && took > g.slow:
		// those that flew together are refused together, and count once
		if time.Since(g.changed) > took {
			g.limit, g.quick, g.changed = max(1, g.limit/2), 0, time.Now()
		}
	case g.limit < g.most:
		if g.quick++; g.quick >= g.limit {
			g.limit, g.quick, g.changed = g.limit+1, 0, time.Now()
		}
	}
	g.next()
}

// next lets waiters in. The caller holds mu.
func (g *Gate) next() {
	for g.flying < g.limit && len(g.waiting) > 0 {
		close(g.waiting[0])
		g.waiting = g.waiting[1:]
		g.flying++
	}
}

// RetryAfter reads a Retry-After header (RFC 9110, section 10.2.3): seconds, or a date.
func RetryAfter(text string, now time.Time) (time.Duration, bool) {
	if n, err := strconv.Atoi(strings.TrimSpace(text)); err == nil && n >= 0 {
		return time.Duration(min(int64(n), math.MaxInt64/int64(time.Second))) * time.Second, true
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now)), true
	}
	return 0, false
}
