package oci

import (
	"context"
	"errors"
	"math"
	"net/http"
	"testing"
	"time"
)

func TestTheGateLetsFewerThroughWhereTheServerIsBusy(t *testing.T) {
	const most = 16
	g := NewGate(most, 3*time.Second)
	for range most {
		if err := g.Enter(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan error)
	go func() { waited <- g.Enter(ctx) }()
	cancel()
	if err := <-waited; !errors.Is(err, context.Canceled) {
		t.Errorf("one more came in: %v", err)
	}
	for range most { // all of them are refused at once, and that counts once
		g.Leave(true, time.Hour)
	}
	if g.limit != most/2 || g.flying != 0 {
		t.Errorf("%d may fly, %d do", g.limit, g.flying)
	}
	for range most * most {
		if err := g.Enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		g.Leave(false, time.Millisecond)
	}
	if g.limit != most {
		t.Errorf("%d may fly after a time of quick answers", g.limit)
	}
}

func TestRetryAfterIsSecondsOrADate(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"0": 0, "7": 7 * time.Second, "9223372036854775807": time.Duration(math.MaxInt64/int64(time.Second)) * time.Second, now.Add(9 * time.Second).Format(http.TimeFormat): 9 * time.Second,
		now.Add(-time.Hour).Format(http.TimeFormat): 0,
	} {
		if got, ok := RetryAfter(text, now); !ok || got != want {
			t.Errorf("%q: %s, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "-1", "soon"} {
		if got, ok := RetryAfter(text, now); ok {
			t.Errorf("%q: %s", text, got)
		}
	}
}
