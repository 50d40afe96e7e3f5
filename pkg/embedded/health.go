package embedded

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/ocisync/ocisync/pkg/embedded/storage"
)

const (
	healthPath = "/healthz"
	// checked is how long what a check of the storage said holds, and checking
	// how long one may take.
	checked  = 10 * time.Second
	checking = 5 * time.Second
)

// health knows whether the storage can be reached. It asks at most once in
// checked, whoever wants to know.
type health struct {
	logger *slog.Logger
	check  func(context.Context) error
	now    func() time.Time

	mu    sync.Mutex
	at    time.Time     // of the last answer; zero before the first
	err   error         // that it was
	under chan struct{} // closed when the check under way is over; nil without one
}

func newHealth(s *storage.Storage, logger *slog.Logger) *health {
	return &health{logger: logger, check: s.Ping, now: time.Now}
}

// ask returns nil where the storage was reached a short while ago.
func (h *health) ask(ctx context.Context) error {
	h.mu.Lock()
	if !h.at.IsZero() && h.now().Sub(h.at) < checked {
		defer h.mu.Unlock()
		return h.err
	}
	if h.under == nil {
		done := make(chan struct{})
		h.under = done
		go h.look(context.WithoutCancel(ctx), done)
	}
	under := h.under
	h.mu.Unlock()
	wait := time.NewTimer(checking)
	defer wait.Stop()
	select {
	case <-under:
	case <-wait.C: // a driver that pays no heed to its context
		return context.DeadlineExceeded
	case <-ctx.Done():
		return ctx.Err()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

func (h *health) look(ctx context.Context, done chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, checking)
	defer cancel()
	err := h.check(ctx)
	if err != nil {
		h.logger.Error("the storage cannot be reached", "error", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err, h.at, h.under = err, h.now(), nil
	close(done)
}

// serveHealth answers anybody, and says no more than whether it can serve.
func (r *Registry) serveHealth(w http.ResponseWriter, q *http.Request) {
	status, text := http.StatusOK, "ok"
	if r.health != nil && r.health.ask(q.Context()) != nil {
		status, text = http.StatusServiceUnavailable, "the storage cannot be reached"
	}
	writeJSON(w, status, struct {
		Status string `json:"status"`
	}{text})
}
