package embedded

import (
	"errors"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

func TestALimitLetsTheBurstThroughAndThenTheRate(t *testing.T) {
	l := newLimiter[string](Limit{PerSecond: 2, Burst: 3})
	clock := time.Unix(1e9, 0)
	l.now = func() time.Time { return clock }
	for i := range 3 {
		if err := l.take("a"); err != nil {
			t.Fatalf("request %d of the burst: %v", i, err)
		}
	}
	var limited *limitedError
	if err := l.take("a"); !errors.As(err, &limited) || limited.wait != 500*time.Millisecond {
		t.Errorf("after the burst: %+v", err)
	}
	if err := l.peek("a"); !errors.As(err, &limited) {
		t.Errorf("peek after the burst: %v", err)
	}
	if err := l.take("b"); err != nil {
		t.Errorf("another key: %v", err)
	}
	clock = clock.Add(500 * time.Millisecond)
	for range 2 {
		if err := l.peek("a"); err != nil {
			t.Errorf("peek takes a token: %v", err)
		}
	}
	if err := l.take("a"); err != nil {
		t.Errorf("half a second later: %v", err)
	}
}

func TestALimiterRemembersABoundedNumberOfKeys(t *testing.T) {
	l := newLimiter[int](Limit{PerSecond: 1, Burst: 2})
	clock := time.Unix(1e9, 0)
	l.now = func() time.Time { return clock }
	for i := range 3 * maxBuckets {
		l.take(i) //nolint:errcheck // never limited
		if len(l.buckets) > maxBuckets {
			t.Fatalf("%d keys after %d", len(l.buckets), i)
		}
	}
	clock = clock.Add(time.Hour)
	l.forget(clock)
	if len(l.buckets) != 0 {
		t.Errorf("%d full buckets are still remembered", len(l.buckets))
	}
}

// Who makes names up in any number does not get another's bucket forgotten, and
// with it the guesses that were made.
func TestALimiterForgetsNoKeyThatIsUsedUp(t *testing.T) {
	l := newLimiter[int](Limit{PerSecond: 0.001, Burst: 30})
	clock := time.Unix(1e9, 0)
	l.now = func() time.Time { return clock }
	const used = -1
	for range 30 {
		l.take(used) //nolint:errcheck // not limited yet
	}
	for i := range 4 * maxBuckets {
		for range 1 + i%5 {
			l.take(i) //nolint:errcheck // never limited
		}
		if l.peek(used) == nil {
			t.Fatalf("it is forgotten after %d others", i+1)
		}
	}
}

func TestAnAddressIsAnIPv4AddressOrAnIPv6Network(t *testing.T) {
	for from, want := range map[string]string{
		"192.0.2.7:1234":          "192.0.2.7",
		"[::ffff:192.0.2.7]:1234": "192.0.2.7",
		"[2001:db8:1:2:3::4]:99":  "2001:db8:1:2::",
		"[fe80::1%eth0]:99":       "fe80::",
	} {
		if got := clientOf(&http.Request{RemoteAddr: from}); got != netip.MustParseAddr(want) {
			t.Errorf("%s: %s, want %s", from, got, want)
		}
	}
	if got := clientOf(&http.Request{RemoteAddr: "@"}); got.IsValid() {
		t.Errorf("a socket has address %s", got)
	}
}
