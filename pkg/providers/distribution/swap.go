package distribution

import (
	"context"
	"fmt"
	"net"

	"github.com/ocisync/ocisync/pkg/providers"
)

// swaps says that the mode has the registry or its token service at an address that
// the other one of the two listens at now; "" where it does not. One moves before the
// other, while that runs: an apply cannot do it.
func (p *Provider) swaps(ctx context.Context) (string, error) {
	if !p.issues() {
		return "", nil
	}
	now, err := p.given(ctx)
	if err != nil || now == nil || *now == p.Giving() {
		return "", err
	}
	const remedy = "run ocisync down (and end ocisync auth serve, where that gives them), then ocisync up and ocisync apply"
	if listen := p.registry.Address(); same(now.Listen, listen) {
		return fmt.Sprintf("the registry is to listen at %s, where its tokens are given now: %s", listen, remedy), nil
	}
	maker, ok := p.process.(providers.Maker)
	if !ok {
		return "", nil
	}
	made, err := maker.Made(ctx)
	if err != nil {
		return "", &providers.Error{Registry: p.registry.URL, Doing: "asking how it runs", Err: err}
	}
	if made != nil && !made.Stopped && same(made.Listen, p.place.Listen) {
		return fmt.Sprintf("its tokens are to be given at %s, where the registry listens now: %s", p.place.Listen, remedy), nil
	}
	return "", nil
}

// same reports whether two cannot listen at these addresses at once.
func same(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB {
		return false
	}
	return one(hostA) == one(hostB) || all(hostA) || all(hostB)
}

// all reports whether a host stands for every address.
func all(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

// one is a host by one name.
func one(host string) string {
	if host == "localhost" {
		return providers.Loopback
	}
	return host
}
