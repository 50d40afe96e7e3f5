package embedded

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limit is how many requests a second are let through for ever, and how many
// at once before that.
type Limit struct {
	PerSecond float64
	Burst     int
}

// Limits bound what one client may ask of the registry.
type Limits struct {
	// Account is for all requests of one account, Address for all of one
	// address (of an IPv6 /64), whoever sends them.
	Account, Address Limit
	// Failures is for wrong passwords of one name, be it an account's or none,
	// from one address. Who has used them up gets no password checked but those
	// that were right, or wrong, in the last minutes.
	Failures Limit
	// Logins is for the passwords of one address that are hashed to check them.
	// What is beyond it waits, for a while.
	Logins Limit
	// Tokens is for the tokens that one address asks for.
	Tokens Limit
	// Connections is how many one address may have open at once, those that have
	// been idle for a while not counted; 0 is that of DefaultLimits.
	Connections int
	// Slowest is what must come of a request's body; the zero Pace is that of
	// DefaultLimits.
	Slowest Pace
}

// Pace is so many bytes within so much time.
type Pace struct {
	Bytes  int64
	Within time.Duration
}

// DefaultLimits let a busy cluster through and stop loops without a pause.
func DefaultLimits() Limits {
	return Limits{
		Account:  Limit{PerSecond: 5000, Burst: 20000},
		Address:  Limit{PerSecond: 5000, Burst: 20000},
		Failures: Limit{PerSecond: 0.1, Burst: 30},
		Logins:   Limit{PerSecond: 10, Burst: 50},
		// 60 jobs of CI behind one address, each with a few tokens a second
		Tokens: Limit{PerSecond: 500, Burst: 5000},
		// a line that carries 10 KiB a second may stand still for most of it
		Slowest:     Pace{Bytes: 32 << 10, Within: time.Minute},
		Connections: 1024, // a host of CI: 64 jobs, six layers each, and what they left idle
	}
}

// limits are those that are given, or else by default.
func (o Options) limits() Limits {
	d := DefaultLimits()
	if o.Limits == nil {
		return d
	}
	l := *o.Limits
	l.Tokens = cmp.Or(l.Tokens, d.Tokens)
	l.Logins, l.Connections, l.Slowest = cmp.Or(l.Logins, d.Logins), cmp.Or(l.Connections, d.Connections), cmp.Or(l.Slowest, d.Slowest)
	return l
}

// maxBuckets bounds what a limiter remembers.
const maxBuckets = 16 << 10

// limiter holds one bucket for each key. A key that was forgotten starts with
// a full one: those that have the most left are forgotten first, so that many
// keys of somebody's own making do not make it forget one that is used up.
type limiter[K comparable] struct {
	limit Limit
	now   func() time.Time

	mu      sync.Mutex
	buckets map[K]*bucket
}

type bucket struct{ tokens *rate.Limiter }

func newLimiter[K comparable](l Limit) *limiter[K] {
	return &limiter[K]{limit: l, now: time.Now, buckets: map[K]*bucket{}}
}

// take takes one of the key's tokens, or returns limitedError.
func (l *limiter[K]) take(key K) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	b := l.bucket(key, now)
	if b.tokens.AllowN(now, 1) {
		return nil
	}
	return &limitedError{l.missing(b, now)}
}

// peek takes nothing.
func (l *limiter[K]) peek(key K) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	b, ok := l.buckets[key]
	if !ok {
		return nil
	}
	if b.tokens.TokensAt(now) >= 1 {
		return nil
	}
	return &limitedError{l.missing(b, now)}
}

// delay takes one of the key's tokens, or says how long until there is one.
func (l *limiter[K]) delay(key K) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	b := l.bucket(key, now)
	if b.tokens.AllowN(now, 1) {
		return 0
	}
	return max(l.missing(b, now), time.Millisecond)
}

// missing is how long until the bucket has a token.
func (l *limiter[K]) missing(b *bucket, now time.Time) time.Duration {
	return time.Duration((1 - b.tokens.TokensAt(now)) / l.limit.PerSecond * float64(time.Second))
}

func (l *limiter[K]) bucket(key K, now time.Time) *bucket {
	b, ok := l.buckets[key]
	if !ok {
		if len(l.buckets) >= maxBuckets {
			l.forget(now)
		}
		b = &bucket{tokens: rate.NewLimiter(rate.Limit(l.limit.PerSecond), l.limit.Burst)}
		l.buckets[key] = b
	}
	return b
}

// forget drops the keys whose buckets are full again, and, if these are too
// few, those that have the most left.
func (l *limiter[K]) forget(now time.Time) {
	type left struct {
		key    K
		tokens float64
	}
	var some []left
	for k, b := range l.buckets {
		if n := b.tokens.TokensAt(now); n >= float64(l.limit.Burst) {
			delete(l.buckets, k)
		} else {
			some = append(some, left{k, n})
		}
	}
	if len(some) <= maxBuckets*3/4 {
		return
	}
	slices.SortFunc(some, func(a, b left) int { return cmp.Compare(b.tokens, a.tokens) })
	for _, x := range some[:len(some)-maxBuckets*3/4] {
		delete(l.buckets, x.key)
	}
}

// limitedError is the refusal of a client that asks too much.
type limitedError struct{ wait time.Duration }

func (e *limitedError) Error() string {
	return fmt.Sprintf("too many requests; wait %d s", e.seconds())
}

// seconds to wait, whole ones as RFC 9110 has them.
func (e *limitedError) seconds() int { return max(1, int(math.Ceil(e.wait.Seconds()))) }

// answer is 429 with the seconds to wait.
func (e *limitedError) answer(w http.ResponseWriter) {
	w.Header().Set("Retry-After", strconv.Itoa(e.seconds()))
	ociError(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", e.Error())
}

// clientOf is the address a request comes from, as limits count it.
func clientOf(q *http.Request) netip.Addr {
	return clientAt(q.RemoteAddr)
}

// clientAt is the address of a client that connects from an address and port.
func clientAt(remote string) netip.Addr {
	from, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return counted(from.Addr())
}

// counted is what an address counts as: of IPv6 a /64.
func counted(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return addr
}
