package embedded

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// spareDescriptors are for all that is no connection to the registry's
	// address: its files, the admin socket, jobs, webhooks.
	spareDescriptors = 128
	// spareConnections are, once all others are in use, for the health of the
	// registry and for telling so: of each address, and of this machine.
	spareConnections = 8
	// restBefore is how long a connection has waited for a request, its first or
	// the next, before it may give way: clients that are at work use theirs within
	// less. One of the spare ones has less, so that silent ones do not keep them.
	restBefore      = 5 * time.Second
	restBeforeSpare = time.Second
)

// connections bounds how many connections there are to the registry's address,
// from one client's and in all, so that the process keeps descriptors. Where
// there is one too many, the one that has been idle for longest gives way, if that
// is long; else the new one is told so, or closed where it is one of many.
type connections struct {
	each, most int
	now        func() time.Time
	requests   atomic.Int64 // being answered: HTTP/2 has many on one connection
	refused    func(from netip.Addr)

	mu   sync.Mutex
	all  map[net.Conn]*connection // those that count
	from map[netip.Addr]int
}

type connection struct {
	from    netip.Addr
	idle    time.Time // since when, from the start; zero while a request is answered
	crowded bool      // beyond what its address may have
}

type connectionKey struct{}

// crowdedOf reports whether a request comes by a connection that is one too many.
func crowdedOf(q *http.Request) bool {
	c, _ := q.Context().Value(connectionKey{}).(*connection)
	return c != nil && c.crowded
}

// busy reports whether there are as many requests as there may be connections.
func (c *connections) busy() bool { return c.requests.Load() > int64(c.most) }

// begin counts a connection, as [http.Server.ConnContext].
func (c *connections) begin(ctx context.Context, conn net.Conn) context.Context {
	is, out := c.add(conn)
	if out != nil {
		out.Close() //nolint:errcheck // it is of no use any more
	}
	if out != nil {
		c.refused(is.from)
	}
	return context.WithValue(ctx, connectionKey{}, is)
}

// newConnections bounds all connections to what a number of descriptors allows,
// since a request may need two, and those of one address to each, at most half
// of all.
func newConnections(each, descriptors int, refused func(netip.Addr)) *connections {
	most := max((descriptors-spareDescriptors)/2, 4*spareConnections)
	return &connections{
		each: min(each, most/2), most: most, now: time.Now, refused: refused,
		all: map[net.Conn]*connection{}, from: map[netip.Addr]int{},
	}
}

// descriptors is how many this process may have, within reason.
func descriptors() int {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return 1024
	}
	return int(min(uint64(l.Cur), 1<<16)) //nolint:unconvert // signed on some systems
}

// state is told of what becomes of each connection, as [http.Server.ConnState].
func (c *connections) state(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateIdle, http.StateActive:
		c.mu.Lock()
		defer c.mu.Unlock()
		if is := c.all[conn]; is != nil {
			is.idle = time.Time{}
			if state == http.StateIdle {
				is.idle = c.now()
			}
		}
	case http.StateHijacked, http.StateClosed:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.drop(conn)
	}
}

// add counts a connection, and returns the one to close for it: itself where
// all others are in use.
func (c *connections) add(conn net.Conn) (is *connection, out net.Conn) {
	is = &connection{from: clientAt(conn.RemoteAddr().String()), idle: c.now()}
	c.mu.Lock()
	defer c.mu.Unlock()
	most := c.most
	if !is.from.IsLoopback() {
		most -= spareConnections
	}
	switch n := c.from[is.from]; {
	case n >= c.each:
		out = c.idle(restBefore, func(other *connection) bool { return other.from == is.from && !other.crowded })
		is.crowded = out == nil
		if n >= c.each+spareConnections && out == nil {
			out = c.idle(restBeforeSpare, func(other *connection) bool { return other.from == is.from && other.crowded })
			if out == nil {
				return is, conn
			}
		}
	case len(c.all) >= most:
		if out = c.idle(restBefore, func(*connection) bool { return true }); out == nil {
			return is, conn
		}
	}
	if out != nil {
		c.drop(out)
	}
	c.all[conn] = is
	c.from[is.from]++
	return is, out
}

func (c *connections) drop(conn net.Conn) {
	is := c.all[conn]
	if is == nil {
		return
	}
	delete(c.all, conn)
	if c.from[is.from]--; c.from[is.from] == 0 {
		delete(c.from, is.from)
	}
}

// idle returns, of the connections that have waited for a request so long, the
// one that has for longest; nil without one.
func (c *connections) idle(before time.Duration, which func(*connection) bool) (out net.Conn) {
	since := c.now().Add(-before)
	for conn, is := range c.all {
		if !is.idle.IsZero() && !is.idle.After(since) && which(is) {
			out, since = conn, is.idle
		}
	}
	return out
}
