package embedded

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestHealthIsThatOfTheStorageAndAsksItSeldom(t *testing.T) {
	r, _ := hooked(t, filepath.Join(t.TempDir(), "data"))
	asked, down := 0, error(nil)
	clock := time.Unix(1e9, 0)
	r.health.now = func() time.Time { return clock }
	r.health.check = func(context.Context) error { asked++; return down }
	wait := func(status, times int) {
		t.Helper()
		for range 5 {
			request(t, r, http.MethodGet, "/healthz", status)
		}
		if asked != times {
			t.Errorf("the storage was asked %d times, want %d", asked, times)
		}
	}
	wait(http.StatusOK, 1)
	down = errors.New("no such host")
	wait(http.StatusOK, 1)
	clock = clock.Add(checked)
	wait(http.StatusServiceUnavailable, 2)
	down = nil
	clock = clock.Add(checked)
	wait(http.StatusOK, 3)
}

func TestHealthDoesNotHangWithTheStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := time.After(time.Hour)
		h := &health{now: time.Now, check: func(context.Context) error { <-answers; return nil }}
		for range 3 {
			if err := h.ask(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
		}
		time.Sleep(time.Hour - 3*checking + time.Second)
		if err := h.ask(t.Context()); err != nil {
			t.Errorf("once it answered: %v", err)
		}
	})
}

// A secret that cannot be delivered is not handed over again every second.
func TestRenewingThatFailsIsTriedEverLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var calls []time.Duration
		start := time.Now()
		r := &Registry{logger: slog.New(slog.DiscardHandler), robots: &robotMetrics{errors: prometheus.NewCounter(prometheus.CounterOpts{Name: "errors"})}}
		r.options.Renew = func(context.Context) (time.Duration, error) {
			calls = append(calls, time.Since(start))
			if len(calls) == 12 {
				return time.Minute, errors.New("another robot is due before")
			}
			return time.Hour, errors.New("the command fails")
		}
		r.renew(ctx)
		if n := len(calls); n < 12 || n > 17 {
			t.Fatalf("it was tried %d times in an hour: %v", n, calls)
		}
		if pause := calls[12] - calls[11]; pause != time.Minute {
			t.Errorf("another robot waited %s", pause)
		}
	})
}
