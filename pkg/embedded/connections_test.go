package embedded

import (
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// connFrom is a connection of which nothing but its far end is known.
type connFrom struct {
	net.Conn
	at netip.AddrPort
}

func (c *connFrom) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.at) }
func (c *connFrom) Close() error         { return nil }

func TestTheConnectionThatIsIdleForLongestGivesWayAndNoneInUse(t *testing.T) {
	now := time.Now()
	cut := 0
	c := newConnections(4, 1024, func(netip.Addr) { cut++ })
	c.now = func() time.Time { return now }
	dial := func() (*connFrom, bool) {
		conn := &connFrom{at: netip.MustParseAddrPort("192.0.2.1:1000")}
		is, _ := c.begin(t.Context(), conn).Value(connectionKey{}).(*connection)
		return conn, is.crowded
	}
	all := map[string]*connFrom{}
	for _, name := range []string{"at work", "oldest", "older", "in a request"} {
		all[name], _ = dial()
		c.state(all[name], http.StateActive)
		if name != "in a request" {
			c.state(all[name], http.StateIdle)
		}
		now = now.Add(time.Second)
	}
	there := func(name string) bool { _, ok := c.all[all[name]]; return ok }
	if _, crowded := dial(); !crowded || cut != 0 || !there("oldest") {
		t.Fatal("one that was used just now gives way")
	}
	for conn := range c.all { // the one too many goes
		if conn != all["at work"] && conn != all["oldest"] && conn != all["older"] && conn != all["in a request"] {
			c.state(conn, http.StateClosed)
		}
	}
	now = now.Add(time.Minute)
	c.state(all["at work"], http.StateActive)
	c.state(all["at work"], http.StateIdle)
	for i, name := range []string{"oldest", "older"} {
		now = now.Add(time.Second)
		conn, crowded := dial()
		c.state(conn, http.StateActive)
		if crowded || there(name) || cut != i+1 {
			t.Errorf("%s does not give way, or is not counted", name)
		}
	}
	if _, crowded := dial(); !crowded || !there("at work") || !there("in a request") {
		t.Error("one in use gives way")
	}
}

func TestASilentConnectionGivesWayAsAnIdleOneDoes(t *testing.T) {
	now := time.Now()
	c := newConnections(4, 1024, func(netip.Addr) {})
	c.now = func() time.Time { return now }
	dial := func() (there, crowded bool) {
		conn := &connFrom{at: netip.MustParseAddrPort("192.0.2.1:1000")}
		is, _ := c.begin(t.Context(), conn).Value(connectionKey{}).(*connection)
		_, there = c.all[conn]
		return there, is.crowded
	}
	for range 4 {
		dial()
	}
	now = now.Add(restBefore - 2*restBeforeSpare)
	for range spareConnections {
		if there, crowded := dial(); !there || !crowded {
			t.Fatal("a silent one gives way early, or there are no spare ones")
		}
	}
	if there, _ := dial(); there {
		t.Error("there is no end of connections")
	}
	now = now.Add(restBeforeSpare)
	if there, crowded := dial(); !there || !crowded {
		t.Error("silent ones keep the spare ones")
	}
	now = now.Add(restBeforeSpare)
	if there, crowded := dial(); !there || crowded {
		t.Error("after five seconds a silent one does not give way")
	}
	if n := len(c.all); n != 4+spareConnections {
		t.Errorf("there are %d", n)
	}
}
