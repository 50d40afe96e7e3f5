//go:build integration

package ocisync_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/runtime/enginetest"
)

const quotaMode = `
[state]
store = "dir"
dir = "../../state"
[user.root]
admin = true
password = { env = "OCISYNC_ROOT" }
[user.dev]
password = { env = "OCISYNC_DEV" }
[namespace.team]
access = { anonymous = ["pull"], authenticated = [], users = { dev = ["pull", "push", "delete"] } }
quota = "200KiB"
`

// TestIntegrationQuotasOfRegistriesThatCountNothing has `ocisync up` measure by
// itself, and everything else that speaks of access know what it did.
func TestIntegrationQuotasOfRegistriesThatCountNothing(t *testing.T) {
	zot, distribution := enginetest.Servers(t, ".")
	programs := map[string]string{"zot": zot, "distribution": distribution}
	for typ, program := range programs {
		t.Run(typ, func(t *testing.T) { keepsQuotas(t, typ, fmt.Sprintf("driver = \"process\"\nbinary = %q\n", program)) })
	}
	t.Run("docker", func(t *testing.T) {
		e := enginetest.Start(t)
		for typ, program := range programs {
			t.Run(typ, func(t *testing.T) {
				image := "ocisync.test/" + typ + ":quota"
				e.Image(image, program)
				keepsQuotas(t, typ, fmt.Sprintf("driver = \"docker\"\nimage = %q\n", image))
			})
		}
	})
}

func keepsQuotas(t *testing.T, typ, run string) {
	t.Helper()
	s := newSite(t, "http://"+porttest.Address(t), "")
	if docker := os.Getenv("DOCKER_HOST"); docker != "" {
		s.env = append(s.env, "DOCKER_HOST="+docker)
	}
	token := ""
	if typ == "distribution" {
		url := "http://" + porttest.Address(t)
		// clients follow a name, and no address of this host
		token = fmt.Sprintf("[registry.token]\nurl = %q\nlisten = %q\n", strings.Replace(url, "127.0.0.1", "localhost", 1), strings.TrimPrefix(url, "http://"))
	}
	write := func(mode string) {
		t.Helper()
		s.mode("")
		text := fmt.Sprintf("version = 1\n[registry]\ntype = %q\nurl = %q\n[registry.run]\n%sdata = %q\n%s%s", typ, s.url, run, s.data, token, mode)
		if err := os.WriteFile(filepath.Join(s.dir, "modes", "m", "m.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(quotaMode)
	s.env = append(s.env, "OCISYNC_ROOT=root's long password", "OCISYNC_DEV=dev's long password")
	s.must(0, "up", "--detach")
	t.Cleanup(func() {
		if out, err := s.command(context.Background(), "down").CombinedOutput(); err != nil {
			t.Errorf("down: %v: %s", err, out)
		}
	})
	s.must(0, "apply")
	if rt, ok := remote.DefaultTransport.(*http.Transport); ok {
		t.Cleanup(rt.CloseIdleConnections)
	}
	dev := []remote.Option{remote.WithAuth(&authn.Basic{Username: "dev", Password: "dev's long password"}), remote.WithContext(t.Context())}
	ref := func(text string) name.Reference {
		r, err := name.ParseReference(strings.TrimPrefix(s.url, "http://")+"/team/app"+text, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	push := func(tag string) error {
		image, err := random.Image(100<<10, 1)
		if err != nil {
			t.Fatal(err)
		}
		return remote.Write(ref(":"+tag), mutate.ConfigMediaType(mutate.MediaType(image, types.OCIManifestSchema1), types.OCIConfigJSON), dev...)
	}
	withheld := func() string {
		out, _, _ := s.run("status", "--output", "json")
		var o struct{ Withheld []string }
		if err := json.Unmarshal([]byte(out), &o); err != nil {
			t.Fatalf("status: %v: %s", err, out)
		}
		return strings.Join(o.Withheld, " ")
	}
	says := func(out, words string) {
		t.Helper()
		if !strings.Contains(out, words) {
			t.Errorf("it does not say %q:\n%s", words, out)
		}
	}
	if err := errors.Join(push("1"), push("2")); err != nil {
		t.Fatal(err)
	}
	// up measures soon after it began, which may be by now
	if out := s.must(0, "run", "quota", "--dry-run"); !strings.Contains(out, "push is withdrawn") {
		says(out, "push would be withdrawn now")
	}
	says(s.must(0, "test", "access"), "answers as declared")
	s.must(0, "down")
	s.must(0, "up", "--detach") // which measures soon after
	for end := time.Now().Add(15 * time.Second); withheld() != "team"; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("push is withdrawn in %q", withheld())
		}
	}
	var refused *transport.Error
	if err := push("3"); !errors.As(err, &refused) || refused.StatusCode != http.StatusForbidden && refused.StatusCode != http.StatusUnauthorized {
		t.Errorf("a push to a full namespace: %v", err)
	}
	says(s.must(0, "plan"), "used, push withdrawn since")
	says(s.must(0, "test", "access"), "answers as declared")
	says(s.must(0, "status"), "used up, push withdrawn: team")
	says(s.must(0, "run", "quota"), "of 200.0 KiB used; push is withdrawn")
	d, err := remote.Head(ref(":2"), dev...)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Delete(ref("@"+d.Digest.String()), dev...); err != nil {
		t.Fatal(err)
	}
	s.must(0, "run", "quota")
	if got := withheld(); got != "" {
		t.Errorf("push is not given back in %q", got)
	}
	if err := push("4"); err != nil {
		t.Error(err)
	}
	s.must(0, "run", "quota")
	if got := withheld(); got != "team" {
		t.Errorf("push is withdrawn in %q", got)
	}
	write(strings.Replace(quotaMode, "200KiB", "2MiB", 1))
	s.must(0, "apply")
	if err := push("5"); err != nil || withheld() != "" {
		t.Errorf("after the quota was raised: %v; push is withdrawn in %q", err, withheld())
	}
	says(s.must(0, "test", "access"), "answers as declared")
}
