//go:build integration

package ocisync_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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

const toldMode = `
[user.root]
admin = true
password = { env = "OCISYNC_PASSWORD" }
[user.dev]
password = { env = "OCISYNC_DEV_PASSWORD" }
[namespace.team]
access = { users = { dev = ["pull", "push", "delete"] } }
[namespace."team/inner"]
access = { users = { dev = ["pull", "push", "delete"] } }
[namespace.other]
access = { users = { dev = ["pull", "push", "delete"] } }
[policy]
prune = ["webhook"]
`

// target is a service that a webhook tells.
type target struct {
	*httptest.Server
	mu   sync.Mutex
	down bool
	got  []string // "push team/app:1"
	bad  []string
}

func newTarget(t *testing.T, secret string) *target {
	t.Helper()
	x := &target{}
	x.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.down || err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		m := hmac.New(sha256.New, []byte(secret))
		m.Write(body)
		var said struct {
			Data struct{ Action, Repository, Tag, Digest, Account string }
		}
		err = json.Unmarshal(body, &said)
		if err != nil || q.Header.Get(webhook.SignatureHeader) != "sha256="+hex.EncodeToString(m.Sum(nil)) || q.Header.Get(webhook.DeliveryHeader) == "" {
			x.bad = append(x.bad, fmt.Sprintf("%v %s", q.Header, body))
		}
		x.got = append(x.got, said.Data.Action+" "+said.Data.Repository+":"+said.Data.Tag)
	}))
	t.Cleanup(x.Close)
	return x
}

func (x *target) set(down bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.down = down
}

// wait wants what was received to be just that, in this order, a moment after.
func (x *target) wait(t *testing.T, want ...string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		x.mu.Lock()
		got, bad := slices.Clone(x.got), x.bad
		x.mu.Unlock()
		if len(bad) > 0 {
			t.Fatalf("not signed, or no event: %v", bad)
		}
		if slices.Equal(got, want) {
			return
		}
		if len(got) > len(want) || time.Now().After(deadline) {
			t.Fatalf("it was told %q, want %q", got, want)
		}
	}
}

// TestIntegrationWebhooks has real registries of others tell webhooks.
func TestIntegrationWebhooks(t *testing.T) {
	zot, distribution := enginetest.Servers(t, ".")
	for typ, program := range map[string]string{"zot": zot, "distribution": distribution} {
		t.Run(typ, func(t *testing.T) {
			const secret = "the webhook's own secret"
			s := newSite(t, "http://"+porttest.Address(t), "")
			s.env = append(s.env, "OCISYNC_HOOK="+secret)
			to := newTarget(t, secret)
			token := ""
			if typ == "distribution" {
				url := "http://" + porttest.Address(t)
				token = fmt.Sprintf("[registry.token]\nurl = %q\nlisten = %q\n", strings.Replace(url, "127.0.0.1", "localhost", 1), strings.TrimPrefix(url, "http://"))
			}
			write := func(more string) {
				t.Helper()
				s.write("modes/m/m.toml", fmt.Sprintf("version = 1\n[registry]\ntype = %q\nurl = %q\n[registry.run]\ndriver = \"process\"\nbinary = %q\ndata = %q\n%s%s", typ, s.url, program, s.data, token, signedState+toldMode+more))
			}
			hook := func(events string) string {
				return fmt.Sprintf("[namespace.team.webhook.ci]\nurl = %q\nevents = %s\nformat = \"cloudevents\"\nauth = { env = \"OCISYNC_HOOK\" }\nsign = true\n", to.URL, events)
			}
			login := remote.WithAuth(&authn.Basic{Username: "dev", Password: "dev's long password"})
			ref := func(repository string) name.Reference {
				t.Helper()
				r, err := name.ParseReference(strings.TrimPrefix(s.url, "http://")+"/"+repository, name.Insecure)
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			push := func(repository string) {
				t.Helper()
				image, err := random.Image(64, 1)
				if err == nil { // Zot takes no other
					err = remote.Write(ref(repository), mutate.MediaType(image, types.OCIManifestSchema1), login)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			process := func() string {
				t.Helper()
				var st struct{ ID, Webhooks string }
				if err := json.Unmarshal([]byte(s.must(0, "status", "--output", "json")), &st); err != nil {
					t.Fatal(err)
				}
				t.Log(st.Webhooks)
				return st.ID
			}
			box := func() webhook.Inbox {
				t.Helper()
				b, err := webhook.ReadInbox(webhook.InboxFile(s.data))
				if err != nil {
					t.Fatal(err)
				}
				return b
			}

			write("")
			s.must(0, "up", "--detach")
			t.Cleanup(func() {
				if out, err := s.command(context.Background(), "down").CombinedOutput(); err != nil {
					t.Errorf("down: %v: %s", err, out)
				}
				if t.Failed() {
					log, err := os.ReadFile(filepath.Join(s.data, "ocisync", "up.log"))
					t.Logf("up: %v: %s", err, log)
				}
			})
			s.must(0, "apply")
			push("team/app:0")
			write(hook(`["push", "delete"]`))
			out := s.must(2, "plan", "--detailed-exitcode")
			if !strings.Contains(out, "restart") {
				t.Errorf("the plan tells of no restart: %s", out)
			}
			s.must(0, "apply")
			s.must(0, "plan", "--detailed-exitcode")
			time.Sleep(300 * time.Millisecond)
			s.must(0, "health")

			push("team/app:1")
			push("team/inner/app:1")
			push("other/app:1")
			if err := remote.Delete(ref("team/app:1"), login); err != nil {
				t.Fatal(err)
			}
			want := []string{"push team/app:1", "delete team/app:1"}
			to.wait(t, want...)

			for what, q := range map[string]struct {
				login string
				size  int
				want  int
			}{
				"forged": {"", 10, http.StatusUnauthorized}, "guessed": {"Bearer x", 10, http.StatusUnauthorized},
				"too large": {"Bearer " + box().Secret, 8<<20 + 1, http.StatusRequestEntityTooLarge},
				"no event":  {"Bearer " + box().Secret, 10, http.StatusBadRequest},
			} {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+box().Listen+"/", bytes.NewReader(make([]byte, q.size)))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", q.login)
				req.Header.Set("Ce-Type", "zotregistry.image.updated")
				req.Header.Set("Expect", "100-continue") // else the answer may be lost with the connection
				resp, err := (&http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: 10 * time.Second}).RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != q.want {
					t.Errorf("a post that is %s: %s", what, resp.Status)
				}
			}

			before, said := process(), box().Secret
			write(hook(`["push"]`))
			s.must(0, "apply")
			if process() != before {
				t.Error("the registry was restarted for what it knows nothing of")
			}
			to.set(true)
			if err := remote.Delete(ref("team/app:0"), login); err != nil { // not asked for any more
				t.Fatal(err)
			}
			for i := range 3 {
				push(fmt.Sprint("team/app:down", i))
				want = append(want, fmt.Sprint("push team/app:down", i))
				time.Sleep(100 * time.Millisecond) // Zot posts each at its own pace
			}
			for deadline := time.Now().Add(time.Minute); !strings.Contains(s.must(0, "status"), "3 deliveries wait"); time.Sleep(50 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("it does not say what waits: %s", s.must(0, "status"))
				}
			}
			s.must(0, "down")
			s.must(0, "up", "--detach")
			to.set(false)
			to.wait(t, want...)
			push("team/app:after")
			to.wait(t, append(want, "push team/app:after")...)

			write("")
			s.must(4, "apply")
			_, digest := s.plan()
			s.must(0, "apply", "--approve", digest)
			s.must(0, "plan", "--detailed-exitcode")
			if box().Listen != "" {
				t.Error("the receiver has an address without a webhook")
			}
			for _, file := range []string{"config.json", "config.yml"} {
				b, err := os.ReadFile(filepath.Join(s.data, file))
				if err == nil && (bytes.Contains(b, []byte("notifications")) || bytes.Contains(b, []byte("sinks"))) {
					t.Errorf("%s: %s", file, b)
				}
			}
			push("team/app:last")
			for _, file := range []string{"ocisync/up.log", typ + ".log"} {
				b, err := os.ReadFile(filepath.Join(s.data, file))
				logs := typ == "distribution" && file != "ocisync/up.log" // it logs what it is to say to endpoints
				if err != nil || bytes.Contains(b, []byte(secret)) || bytes.Contains(b, []byte(said)) && !logs {
					t.Errorf("%s holds a secret, or cannot be read: %v", file, err)
				}
				if info, err := os.Stat(filepath.Join(s.data, file)); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%s: %v, %v", file, info.Mode(), err)
				}
			}
		})
	}
}
