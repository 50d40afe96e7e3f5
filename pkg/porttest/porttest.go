// Package porttest gives tests an address of this host for a server that they
// start, and stop and start again.
//
// Start with [Address].
package porttest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Ports below those that systems give to connections that leave (from 32768 on
// Linux, from 49152 elsewhere; RFC 6056, section 3.2): one of those may take the
// port of a server while that is down.
const (
	first = 12000
	last  = 32000
)

// Address is one at which nobody listens, as [Free] finds it.
func Address(t testing.TB) string {
	t.Helper()
	a, err := Free(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Free is a port of 127.0.0.1 at which nobody listens, at any address. It is
// chosen at random, so that those who ask side by side keep out of each other's way.
func Free(ctx context.Context) (string, error) {
	const tries = 100
	var err error
	for range tries {
		var l net.Listener
		port := strconv.Itoa(first + rand.IntN(last-first)) //nolint:gosec // no secret
		if l, err = new(net.ListenConfig).Listen(ctx, "tcp", ":"+port); err == nil {
			return net.JoinHostPort("127.0.0.1", port), l.Close()
		}
	}
	return "", fmt.Errorf("of %d ports between %d and %d none is free: %w", tries, first, last, err)
}
