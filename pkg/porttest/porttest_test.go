package porttest_test

import (
	"net"
	"strconv"
	"testing"

	"github.com/ocisync/ocisync/pkg/porttest"
)

func TestAnAddressCanBeListenedAtAndIsNoClients(t *testing.T) {
	a := porttest.Address(t)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", a)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, text, err := net.SplitHostPort(a)
	if err != nil {
		t.Fatal(err)
	}
	if port, err := strconv.Atoi(text); err != nil || port >= 32768 || port < 1024 {
		t.Errorf("%s: %v", a, err)
	}
	if b := porttest.Address(t); b == a {
		t.Errorf("%s is taken", b)
	}
}
