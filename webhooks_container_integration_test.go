//go:build integration

package ocisync_test

import (
	"bytes"
	"context"
	"fmt"
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
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/runtime/enginetest"
	"github.com/ocisync/ocisync/pkg/webhook"
)

// TestIntegrationWebhooksOfContainers has registries post from a network of their
// own to the address that this host has there, which is another when the network
// is made anew.
func TestIntegrationWebhooksOfContainers(t *testing.T) {
	zot, distribution := enginetest.Servers(t, ".")
	e := enginetest.Start(t)
	for typ, program := range map[string]string{"zot": zot, "distribution": distribution} {
		t.Run(typ, func(t *testing.T) {
			const secret = "the webhook's own secret"
			s := newSite(t, "http://"+porttest.Address(t), "")
			s.env = append(s.env, "OCISYNC_HOOK="+secret, "DOCKER_HOST="+e.Host)
			image := "ocisync.test/" + typ + ":webhooks"
			e.Image(image, program)
			to := newTarget(t, secret)
			token, config := "", filepath.Join(s.data, "config.json")
			if typ == "distribution" {
				url := "http://" + porttest.Address(t)
				token = fmt.Sprintf("[registry.token]\nurl = %q\nlisten = %q\n", strings.Replace(url, "127.0.0.1", "localhost", 1), strings.TrimPrefix(url, "http://"))
				config = filepath.Join(s.data, "config.yml")
			}
			write := func(run string) {
				t.Helper()
				s.write("modes/m/m.toml", fmt.Sprintf("version = 1\n[registry]\ntype = %q\nurl = %q\n[registry.run]\ndriver = \"docker\"\nimage = %q\ndata = %q\n%s%s%s[namespace.team.webhook.ci]\nurl = %q\nevents = [\"push\"]\nformat = \"cloudevents\"\nauth = { env = \"OCISYNC_HOOK\" }\nsign = true\n",
					typ, s.url, image, s.data, run, token, signedState+toldMode, to.URL))
			}
			push := func(repository string) {
				t.Helper()
				ref, err := name.ParseReference(strings.TrimPrefix(s.url, "http://")+"/"+repository, name.Insecure)
				if err != nil {
					t.Fatal(err)
				}
				image, err := random.Image(64, 1)
				if err == nil { // Zot takes no other
					err = remote.Write(ref, mutate.MediaType(image, types.OCIManifestSchema1), remote.WithAuth(&authn.Basic{Username: "dev", Password: "dev's long password"}))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			box := func() webhook.Inbox {
				t.Helper()
				b, err := webhook.ReadInbox(webhook.InboxFile(s.data))
				if err != nil {
					t.Fatal(err)
				}
				return b
			}
			said := func() string {
				log, err := os.ReadFile(filepath.Join(s.data, "ocisync", "up.log"))
				return fmt.Sprintf("%v: %s", err, log)
			}
			says := func(out, words string) {
				t.Helper()
				if !strings.Contains(out, words) {
					t.Errorf("it does not say %q:\n%s", words, out)
				}
			}

			write("network = \"host\"\n")
			says(s.must(3, "plan", "--new"), `in "host" nothing is published`)
			write("")
			s.must(0, "apply", "--new") // its network comes with its container
			s.must(0, "up", "--detach")
			t.Cleanup(func() {
				if out, err := s.command(context.Background(), "down").CombinedOutput(); err != nil {
					t.Errorf("down: %v: %s", err, out)
				}
				if t.Failed() {
					t.Log(said())
				}
			})
			s.must(0, "plan", "--detailed-exitcode")
			says(s.must(0, "status"), "let this host's firewall take TCP")
			first := e.Gateway("ocisync-m")
			if got := box().Host(); got != first {
				t.Errorf("it listens at %s, and the network's gateway is %s", got, first)
			}
			push("team/app:1")
			push("team/inner/app:1") // which is another namespace
			push("other/app:1")
			to.wait(t, "push team/app:1")
			says(s.must(0, "status"), "the last at")
			s.must(0, "health")

			// the same container without the secret
			right, err := os.ReadFile(config)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(config, bytes.ReplaceAll(right, []byte(box().Secret), []byte("guessed")), 0o600); err != nil {
				t.Fatal(err)
			}
			s.must(0, "restart")
			push("team/app:forged")
			for end := time.Now().Add(20 * time.Second); !strings.Contains(said(), "without the registry's secret"); time.Sleep(50 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("nobody was refused: %s", said())
				}
			}
			s.must(2, "plan", "--detailed-exitcode")
			s.must(0, "apply")
			push("team/app:2")
			to.wait(t, "push team/app:1", "push team/app:2")

			// the network is made anew, with another address
			s.must(0, "down")
			e.Network("ocisync-decoy-" + typ) // takes the one that is free now
			s.must(0, "up", "--detach")
			second := e.Gateway("ocisync-m")
			if got := box().Host(); second == first || got != second {
				t.Errorf("it listens at %s; the gateway is %s, and was %s", got, second, first)
			}
			s.must(0, "plan", "--detailed-exitcode")
			push("team/app:3")
			to.wait(t, "push team/app:1", "push team/app:2", "push team/app:3")
		})
	}
}
