package runtime

import (
	"testing"

	"github.com/ocisync/ocisync/schema"
)

func TestARegistryListensWhereTheModeSays(t *testing.T) {
	for _, c := range []struct{ driver, url, listen, address, reach string }{
		{"process", "http://127.0.0.1:5000", "", "127.0.0.1:5000", "127.0.0.1:5000"},
		{"process", "https://registry.example.com", "", "registry.example.com:443", "registry.example.com:443"},
		{"process", "http://registry.example.com", "0.0.0.0:80", "0.0.0.0:80", "127.0.0.1:80"},
		{"process", "http://[::1]:5000", "[::]:5000", "[::]:5000", "[::1]:5000"},
		{"process", "http://localhost:5000", ":5000", ":5000", "127.0.0.1:5000"},
		// a container is for this host alone unless the mode says otherwise
		{"docker", "http://localhost:5000", "", "127.0.0.1:5000", "127.0.0.1:5000"},
		{"docker", "http://[::1]:5000", "", "[::1]:5000", "[::1]:5000"},
		{"docker", "https://registry.example.com", "", "127.0.0.1:443", "127.0.0.1:443"},
		{"docker", "http://192.0.2.7:5000", "", "127.0.0.1:5000", "127.0.0.1:5000"},
		{"docker", "http://192.0.2.7:5000", "192.0.2.7:5000", "192.0.2.7:5000", "192.0.2.7:5000"},
		{"docker", "http://a.example", "localhost:5000", "127.0.0.1:5000", "127.0.0.1:5000"},
		{"docker", "http://a.example", "0.0.0.0:5000", "0.0.0.0:5000", "127.0.0.1:5000"},
	} {
		got := schema.Registry{URL: c.url, Run: &schema.Run{Driver: c.driver, Listen: c.listen}}.Address()
		if got != c.address || Reach(got) != c.reach {
			t.Errorf("%s, %s, %q: listens at %s and is reached at %s; want %s and %s", c.driver, c.url, c.listen, got, Reach(got), c.address, c.reach)
		}
	}
}
