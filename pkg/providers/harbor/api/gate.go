package api

import (
	"context"
	"sync"
	"time"
)

const (
	// most is how many requests are in flight at once, at the most.
	most = 16
	// slow is an answer that makes us send fewer at once.
	slow = 3 * time.Second
)

// gate lets few requests through at once: one more for each full round of quick
// answers, half as many after a refusal for being too many, or a slow answer.
// Waiters come in turn.
type gate struct {
	mu      sync.Mutex
	limit   int
	flying  int
	quick   int // answers since the limit changed
	changed time.Time
	waiting []chan struct{}
}

func newGate() *gate { return &gate{limit: most} }

// enter waits for a place.
func (g *gate) enter(ctx context.Context) error {
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

// leave gives the place back, and says how the request went.
func (g *gate) leave(busy bool, took time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.flying--
	switch {
	case busy || took > slow:
		// those that flew together are refused together, and count once
		if time.Since(g.changed) > took {
			g.limit, g.quick, g.changed = max(1, g.limit/2), 0, time.Now()
		}
	case g.limit < most:
		if g.quick++; g.quick >= g.limit {
			g.limit, g.quick, g.changed = g.limit+1, 0, time.Now()
		}
	}
	g.next()
}

// next lets waiters in. The caller holds mu.
func (g *gate) next() {
	for g.flying < g.limit && len(g.waiting) > 0 {
		close(g.waiting[0])
		g.waiting = g.waiting[1:]
		g.flying++
	}
}
