package embedded

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// paced takes what the HTTP server has to say of connections, which strangers can
// cause as often as they like: ten lines, and then one a minute that says how many
// were left out.
type paced struct {
	slog.Handler
	pace *rate.Limiter
	left atomic.Int64
}

func newPaced(h slog.Handler) *paced {
	return &paced{Handler: h, pace: rate.NewLimiter(rate.Every(time.Minute), 10)}
}

// Handle implements [slog.Handler].
func (p *paced) Handle(ctx context.Context, r slog.Record) error {
	if !p.pace.Allow() {
		p.left.Add(1)
		return nil
	}
	if n := p.left.Swap(0); n > 0 {
		r.AddAttrs(slog.Int64("left_out", n))
	}
	return p.Handler.Handle(ctx, r)
}
