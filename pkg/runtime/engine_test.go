package runtime

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"
)

// engineOf is an engine that answers with these networks and security options.
func engineOf(t *testing.T, networks map[string]network.Inspect, security ...string) docker {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, name, is := strings.Cut(q.URL.Path, "/networks/")
		w.Header().Set("Content-Type", "application/json")
		n, ok := networks[name]
		switch {
		case !is:
			json.NewEncoder(w).Encode(system.Info{SecurityOptions: security}) //nolint:errcheck // the test would see
		case !ok:
			http.Error(w, `{"message": "no such network"}`, http.StatusNotFound)
		default:
			json.NewEncoder(w).Encode(n) //nolint:errcheck // the test would see
		}
	}))
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	c, err := client.NewClientWithOpts(client.WithHost("unix://"+socket), client.WithVersion("1.41"))
	if err != nil {
		t.Fatal(err)
	}
	return docker{c}
}

func TestTheHostInANetworkIsAnAddressOfThisHost(t *testing.T) {
	bridge := func(subnet, gateway string) network.Inspect {
		return network.Inspect{Driver: "bridge", IPAM: network.IPAM{Config: []network.IPAMConfig{{Subnet: subnet, Gateway: gateway}}}}
	}
	networks := map[string]network.Inspect{
		"here": bridge("127.0.0.0/8", "127.0.0.1"), "chosen": bridge("127.0.0.0/8", ""),
		"elsewhere": bridge("198.51.100.0/24", "198.51.100.1"), "unknown": bridge("198.51.100.0/24", ""),
		"wider": bridge("127.0.0.0/7", ""), "none": {Driver: "bridge"},
		"host": {Driver: "host"}, "lan": {Driver: "macvlan", IPAM: bridge("127.0.0.0/8", "127.0.0.1").IPAM},
	}
	for name, want := range map[string]struct{ address, why string }{
		"here": {"127.0.0.1", ""}, "chosen": {"127.0.0.1", ""}, "missing": {},
		"elsewhere": {"", "no address of network elsewhere is this host's"}, "unknown": {"", "no address"}, "wider": {"", "no address"}, "none": {"", "no address"},
		"host": {"", "driver host"}, "lan": {"", "driver macvlan"},
	} {
		address, why, err := engineOf(t, networks).host(t.Context(), name)
		if err != nil || address != want.address || !strings.Contains(why, want.why) || (why == "") != (want.why == "") {
			t.Errorf("%s: %q, %q, %v", name, address, why, err)
		}
	}
	if address, why, err := engineOf(t, networks, "name=seccomp,profile=default", "name=rootless").host(t.Context(), "here"); err != nil || address != "" || !strings.Contains(why, "rootless") {
		t.Errorf("rootless: %q, %q, %v", address, why, err)
	}
	c, err := client.NewClientWithOpts(client.WithHost("tcp://127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	if address, why, err := (docker{c}).host(t.Context(), "here"); err != nil || address != "" || !strings.Contains(why, "not this host's for certain") {
		t.Errorf("far away: %q, %q, %v", address, why, err)
	}
}
