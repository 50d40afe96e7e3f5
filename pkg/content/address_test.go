package content

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/oci"
	"github.com/ocisync/ocisync/schema"
)

// What to do about an address that somebody gave names no key of a mode.
func TestWhatToDoAboutAnAddressNamesNoKeyOfAMode(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("220 mail.example.com\r\n"))
			_ = c.Close()
		}
	}()
	rt, err := oci.Transport(schema.TLS{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(Endpoint{URL: "https://" + l.Addr().String(), Transport: rt})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = r.Tags(t.Context(), "a/b")
	if !errors.Is(err, providers.ErrUnreachable) || !strings.Contains(err.Error(), "it does not speak TLS; correct its address") {
		t.Errorf("it says %v", err)
	}
}
