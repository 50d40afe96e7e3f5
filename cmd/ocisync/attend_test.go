package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// failingRenewer has a robot whose secret cannot be delivered, and another that
// is due in a while.
type failingRenewer struct{ next time.Time }

func (f failingRenewer) Due(context.Context, schema.State, time.Time) ([]providers.Renewal, error) {
	return []providers.Renewal{{Login: "robot$ci"}, {Next: f.next}}, nil
}

func (f failingRenewer) Renew(context.Context, schema.State, time.Time) ([]providers.Renewal, error) {
	return []providers.Renewal{{Login: "robot$ci", Err: errors.New("the command fails")}, {Next: f.next}}, nil
}

// Up gives a secret that cannot be delivered to its command when the registry
// says, which waits ever longer, and not when it looks for other robots.
func TestARobotThatFailsIsNotTriedAgainBeforeAnotherIsDue(t *testing.T) {
	for in, want := range map[time.Duration]time.Duration{20 * time.Minute: 20 * time.Minute, 24 * time.Hour: longPause} {
		r := &robots{
			o: &options{}, cfg: &schema.Config{}, renewer: failingRenewer{time.Now().Add(in)},
			host: &schema.Host{State: t.TempDir(), Lock: t.TempDir()},
		}
		r.o.getenv = func(string) (string, bool) { return "", false }
		again, err := r.attend(slog.New(slog.DiscardHandler))(t.Context())
		if err == nil || again > want || again < want-time.Minute {
			t.Errorf("another is due in %s: it is tried again in %s: %v", in, again, err)
		}
	}
}
