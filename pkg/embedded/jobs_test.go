package embedded

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestNextRunHeedsTheZone(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, tt := range []struct {
		schedule, zone, after, want string
	}{
		{"0 3 * * *", "UTC", "2026-03-01T03:00:00Z", "2026-03-02T03:00:00Z"},
		{"0 3 * * *", "Europe/Madrid", "2026-03-01T00:00:00Z", "2026-03-01T02:00:00Z"},
		{"0 3 * * *", "Europe/Madrid", "2026-07-01T00:00:00Z", "2026-07-01T01:00:00Z"},
		{"30 0 3 * * *", "", "2026-03-01T03:00:00Z", "2026-03-01T03:00:30Z"},
		{"@daily", "UTC", "2026-03-01T03:00:00Z", "2026-03-02T00:00:00Z"},
		{"@every 1h30m", "Europe/Madrid", "2026-03-01T03:00:00Z", "2026-03-01T04:30:00Z"},
		{"none", "UTC", "2026-03-01T03:00:00Z", "0001-01-01T00:00:00Z"},
		{"", "", "2026-03-01T03:00:00Z", "0001-01-01T00:00:00Z"},
	} {
		if got := next(timing{tt.schedule, tt.zone}, at(tt.after)); !got.Equal(at(tt.want)) {
			t.Errorf("%s %s after %s: %s, want %s", tt.schedule, tt.zone, tt.after, got, tt.want)
		}
	}
}

// clockwork is a scheduler with one job, a clock set by hand and what it did.
type clockwork struct {
	*scheduler
	clock time.Time
	when  timing
	runs  []time.Time
	fail  error
}

func newClockwork(t *testing.T, data string, clock time.Time, when timing) *clockwork {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(data, ownDir), 0o700); err != nil {
		t.Fatal(err)
	}
	c := &clockwork{clock: clock, when: when}
	c.scheduler = newScheduler(data, slog.New(slog.DiscardHandler), func() []job {
		return []job{{"gc", c.when, func(context.Context, bool) (Report, error) {
			c.runs = append(c.runs, c.clock)
			return Report{}, c.fail
		}}}
	}, func(context.Context) time.Duration { return lookAgain })
	c.now = func() time.Time { return c.clock }
	return c
}

// pass lets time pass, and looks what is due.
func (c *clockwork) pass(t *testing.T, d time.Duration, want int) {
	t.Helper()
	c.clock = c.clock.Add(d)
	c.due(t.Context())
	if len(c.runs) != want {
		t.Errorf("%d runs at %s, want %d", len(c.runs), c.clock, want)
	}
}

func TestJobsRunBySchedule(t *testing.T) {
	data, noon := t.TempDir(), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	c := newClockwork(t, data, noon, timing{"@every 1h", "UTC"})
	c.pass(t, 0, 0)
	c.pass(t, 59*time.Minute, 0)
	c.pass(t, time.Minute, 1)
	c.pass(t, time.Minute, 1)
	c.fail = errors.New("no disk")
	c.pass(t, time.Hour, 2)
	if got := c.records["gc"]; got.Error != "no disk" || !got.Last.Equal(c.clock) {
		t.Errorf("%+v", got)
	}
	c.when = timing{"none", "UTC"}
	c.pass(t, 24*time.Hour, 2)
	c.when = timing{"0 3 * * *", "UTC"}
	c.pass(t, 0, 2)

	// a new process knows when it was to run, and makes up for it once
	c = newClockwork(t, data, c.clock.Add(72*time.Hour), c.when)
	c.pass(t, 0, 1)
	c.pass(t, time.Minute, 1)

	// a clock set back by years
	c = newClockwork(t, data, noon.AddDate(-3, 0, 0), c.when)
	c.pass(t, 0, 0)
	c.pass(t, 24*time.Hour, 1)
}

func TestAJobThatIsOrderedRunsAndIsKept(t *testing.T) {
	data := t.TempDir()
	c := newClockwork(t, data, time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), timing{"@daily", "UTC"})
	if _, err := c.order(t.Context(), "gc", false); err != nil {
		t.Fatal(err)
	}
	records, err := readJobs(data)
	if err != nil {
		t.Fatal(err)
	}
	want := jobRecord{Schedule: "@daily", Zone: "UTC", Next: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC), Last: c.clock, Took: "0s"}
	if records["gc"] != want {
		t.Errorf("%+v, want %+v", records["gc"], want)
	}
	if _, err := c.order(t.Context(), "polish", false); !errors.Is(err, ErrUnsupported) {
		t.Errorf("an unknown job: %v", err)
	}
}

// A client that sends slowly holds up no sweep, and a sweep no client that has
// not sent all.
func TestASlowUploadHoldsUpNoSweep(t *testing.T) {
	g := newGate()
	p := g.pass("a")
	body := gatedBody{io.NopCloser(strings.NewReader("slow")), p, &visit{}}
	if _, err := body.Read(make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	g.close() // waits for ever if the upload is inside
	done := make(chan error)
	go func() {
		_, err := io.ReadAll(body)
		done <- err
	}()
	select {
	case err := <-done:
		t.Error("the upload ended while a sweep had the storage:", err)
	case <-time.After(20 * time.Millisecond):
	}
	g.open()
	if err := <-done; err != nil {
		t.Error(err)
	}
	g.begin(time.Now(), time.Hour)
	p.leave()
	if _, ok := g.changed()["a"]; !ok {
		t.Error("the repository is not known to have changed")
	}
}

func TestTooMuchSeenCountsAsAllSeen(t *testing.T) {
	g, now := newGate(), time.Now()
	for i := range uint64(maxSeen) {
		g.seen[i] = now.UnixNano()
	}
	g.see("a", "sha256:b", now)
	if got := g.lastSeen("never", "seen"); now.Sub(got) > time.Second {
		t.Errorf("last seen %s", got)
	}
}
