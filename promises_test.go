package ocisync_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	registry "github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/schema"
)

const people = `
[user.root]
admin    = true
password = { env = "OCISYNC_PASSWORD" }
[user.dev]
password = { env = "OCISYNC_DEV_PASSWORD" }
`

// names are the same people without passwords, for tests that run the program
// many times and are about something else: hashing is slow on purpose.
const names = `
[user.root]
admin = true
[user.dev]
`

const team = `
[namespace.team]
description = "first"
access.anonymous  = ["pull"]
access.users.root = ["admin"]
access.users.dev  = ["pull", "push"]
`

// recorder notes what passes on its way to a registry.
type recorder struct {
	next http.Handler
	mu   sync.Mutex
	seen []string
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	r.seen = append(r.seen, q.Method+" "+q.URL.Path)
	r.mu.Unlock()
	r.next.ServeHTTP(w, q)
}

// readOnly fails unless there were requests, all of which only read: GET, HEAD
// and the comparison of a password.
func (r *recorder) readOnly(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.seen) == 0 {
		t.Error("no request was seen")
	}
	for _, s := range r.seen {
		if method, path, _ := strings.Cut(s, " "); method != http.MethodGet && method != http.MethodHead && path != "/ocisync/v1/check" {
			t.Errorf("plan sent %s", s)
		}
	}
}

// Promise 1. The plans below have something to create, to change, to hold and
// to forget; none of that may happen, and no file may be made or touched.
func TestPlanSendsAndLeavesNothing(t *testing.T) {
	t.Parallel()
	changed := people + "[user.new]\npassword = { env = \"OCISYNC_DEV_PASSWORD\" }\n" +
		"[namespace.team]\ndescription = \"second\"\naccess.users = {}\n[policy]\nprune = [\"user\"]\n"
	lookAt := func(s *site) {
		t.Helper()
		before := files(t, s.dir)
		out := s.must(2, "plan", "--detailed-exitcode")
		s.must(0, "plan", "--format", "json", "-v")
		s.must(0, "plan", "--format", "markdown")
		if d := cmp.Diff(before, files(t, s.dir)); d != "" {
			t.Errorf("plan touched files (-before +after):\n%s", d)
		}
		for _, want := range []string{"+ user/new", "description", "Held"} {
			if !strings.Contains(out, want) {
				t.Errorf("the plan does not say %q:\n%s", want, out)
			}
		}
	}
	// inventory in the registry itself: reading it is part of a plan
	for name, store := range map[string]string{"inventory in a directory": signedState, "inventory in the registry": "[state]\nkey = { env = \"OCISYNC_STATE_KEY\" }\n"} {
		t.Run(name, func(t *testing.T) {
			t.Run("nobody serves the directory", func(t *testing.T) {
				s := newSite(t, "http://"+porttest.Address(t), store+people+team)
				s.must(0, "apply")
				s.mode(store + changed)
				lookAt(s)
			})
			t.Run("a registry that is not there yet", func(t *testing.T) {
				s := newSite(t, "http://"+porttest.Address(t), store+people+team)
				before := files(t, s.dir)
				s.must(2, "plan", "--detailed-exitcode")
				if d := cmp.Diff(before, files(t, s.dir)); d != "" {
					t.Errorf("plan touched files (-before +after):\n%s", d)
				}
			})
			t.Run("served, by the admin socket", func(t *testing.T) {
				s := newSite(t, "http://"+porttest.Address(t), store+people+team)
				s.must(0, "apply")
				served(t, registry.Options{Data: s.data})
				r := recordSocket(t, s)
				s.mode(store + changed)
				lookAt(s)
				r.readOnly(t)
			})
		})
	}
	t.Run("on another host, by HTTP", func(t *testing.T) {
		s := newSite(t, "http://127.0.0.1:1", signedState+people+team)
		s.must(0, "apply")
		r := &recorder{next: served(t, registry.Options{Data: s.data}).Handler()}
		front := httptest.NewServer(r)
		defer front.Close()
		away := s.data + ".away" // the registry's host has it, this one has not
		if err := os.Rename(s.data, away); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := os.Rename(away, s.data); err != nil {
				t.Error(err)
			}
		}()
		s.url = front.URL
		s.mode(signedState + changed)
		// The inventory is of the other URL, which is a note and nothing else.
		lookAt(s)
		r.readOnly(t)
	})
}

// recordSocket puts a recorder between the product and the admin socket of the
// registry that serves a site.
func recordSocket(t *testing.T, s *site) *recorder {
	t.Helper()
	lock := filepath.Join(s.data, "ocisync", "lock")
	b, err := os.ReadFile(lock)
	if err != nil {
		t.Fatal(err)
	}
	var holder registry.Holder
	if err := json.Unmarshal(b, &holder); err != nil {
		t.Fatal(err)
	}
	socket := holder.Socket
	behind := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(behind.CloseIdleConnections)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "ocisync"})
	proxy.Transport = behind
	r := &recorder{next: proxy}
	dir, err := os.MkdirTemp("", "ocisync-") //nolint:usetesting // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	holder.Socket = filepath.Join(dir, "s")
	l, err := net.Listen("unix", holder.Socket)
	if err != nil {
		t.Fatal(err)
	}
	front := &httptest.Server{Listener: l, Config: &http.Server{Handler: r}}
	front.Start()
	t.Cleanup(front.Close)
	if b, err = json.Marshal(holder); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(lock, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

// Promise 2. What stays untouched by a second apply includes times: only the
// locks it takes are files that it writes.
func TestTheSameFileAppliesToNothingAgain(t *testing.T) {
	t.Parallel()
	for name, store := range map[string]string{"signed, in a directory": signedState, "unsigned, in the registry": ""} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "http://"+porttest.Address(t), store+people+team)
			s.must(0, "apply")
			content := func() map[string]string {
				all := files(t, s.dir)
				for path := range all {
					if strings.Contains(path, "lock") {
						delete(all, path)
					}
				}
				return all
			}
			before := content()
			s.must(0, "plan", "--detailed-exitcode")
			s.must(0, "apply")
			if d := cmp.Diff(before, content()); d != "" {
				t.Errorf("the second apply wrote (-before +after):\n%s", d)
			}
		})
	}
}

// Promise 5.
func TestAnApprovalAppliesThatPlanOnceAndNoOther(t *testing.T) {
	t.Parallel()
	setUp := func(t *testing.T) (s *site, digest string) {
		t.Helper()
		s = newSite(t, "http://"+porttest.Address(t), signedState+people+team)
		s.must(0, "apply")
		s.mode(signedState + people + "[namespace.team]\ndescription = \"second\"\naccess.anonymous = [\"pull\"]\naccess.users = {}\n")
		p, digest := s.plan()
		if len(p.Held) != 1 {
			t.Fatalf("held: %v", p.Held)
		}
		return s, digest
	}
	takeAway := object("access/team", &schema.Access{Anonymous: new(schema.Pull), Users: schema.NewGrants(schema.Grant{Name: "root", Rights: schema.Admin})})
	t.Run("that plan", func(t *testing.T) {
		s, digest := setUp(t)
		s.must(0, "apply", "--approve", digest)
		if got := s.live()["access/team"]; strings.Contains(got, "root") || !strings.Contains(s.live()["namespace/team"], "second") {
			t.Errorf("approved and not applied: %s", got)
		}
	})
	t.Run("not if what it touches has changed since", func(t *testing.T) {
		s, digest := setUp(t)
		s.behind(takeAway)
		before := s.live()
		out := s.must(4, "apply", "--approve", digest)
		if _, now := s.plan(); !strings.Contains(out, now) {
			t.Errorf("the digest of today's plan is not told:\n%s", out)
		}
		if d := cmp.Diff(before, s.live()); d != "" {
			t.Errorf("another plan than the approved one was applied:\n%s", d)
		}
	})
	t.Run("whatever else has changed since", func(t *testing.T) {
		s, digest := setUp(t)
		s.behind(object("user/stranger", &schema.User{}), object("namespace/other", &schema.Namespace{}))
		s.must(0, "apply", "--approve", digest)
		if got := s.live()["access/team"]; strings.Contains(got, "root") {
			t.Errorf("approved and not applied: %s", got)
		}
	})
	t.Run("once", func(t *testing.T) {
		s, digest := setUp(t)
		before := s.live()
		s.must(0, "apply", "--approve", digest)
		// somebody undoes it, so that the very same plan comes up again
		s.behind(object("namespace/team", &schema.Namespace{Description: new("first")}),
			object("access/team", &schema.Access{Anonymous: new(schema.Pull), Users: schema.NewGrants(
				schema.Grant{Name: "root", Rights: schema.Admin}, schema.Grant{Name: "dev", Rights: schema.Pull | schema.Push})}))
		if d := cmp.Diff(before, s.live()); d != "" {
			t.Fatalf("not undone: %s", d)
		}
		p, again := s.plan()
		if p.Again = 0; p.Approval() != digest {
			t.Fatal("not the same plan, so this proves nothing")
		}
		s.must(4, "apply", "--approve", digest)
		if d := cmp.Diff(before, s.live()); d != "" {
			t.Errorf("an approval was used twice:\n%s", d)
		}
		s.must(0, "apply", "--approve", again) // the same plan can be meant again
	})
}

// Promise 6.
func TestEveryOutputIsTheSameTwice(t *testing.T) {
	t.Parallel()
	var many strings.Builder
	many.WriteString(signedState + people)
	for i := range 12 {
		fmt.Fprintf(&many, "[namespace.n%d]\naccess.users.root = [\"admin\"]\naccess.users.dev = [\"pull\"]\n", i)
	}
	s := newSite(t, "http://"+porttest.Address(t), many.String())
	for i := range 6 {
		fmt.Fprintf(&many, "[user.u%d]\ncomment = \"\"\n", i)
	}
	s.mode(many.String())
	s.must(0, "apply")
	// Most of it goes, so that there is much to note, to hold and to forget.
	s.mode(signedState + people + "[namespace.n3]\n[namespace.n7]\naccess.users = {}\n[policy]\nprune = [\"user\"]\n")
	s.write("modes/bad/bad.toml", "version = 1\n[user.a]\nadmn = true\nemial = 1\n[namespace.B]\n[robot.x]\naccess.q = [\"pul\"]\n[registry]\ntype = \"zott\"\n")
	for _, args := range [][]string{
		{"plan"}, {"plan", "-v"}, {"plan", "--format", "json"}, {"plan", "--format", "markdown"},
		{"validate", "--mode", "bad"}, {"capabilities"}, {"schema", "--format", "jsonschema"}, {"explain"}, {"--help"},
	} {
		out, bad, code := s.run(args...)
		if out+bad == "" {
			t.Errorf("ocisync %v says nothing", args)
		}
		for range 3 {
			again, badAgain, codeAgain := s.run(args...)
			if d := cmp.Diff(out, again) + cmp.Diff(bad, badAgain); d != "" || code != codeAgain {
				t.Errorf("ocisync %v differs from run to run (%d, %d):\n%s", args, code, codeAgain, d)
				break
			}
		}
	}
}

// Rules that another user put where root comes are not root's to serve before
// somebody has looked at them; those of a registry that was applied to are.
func TestRootServesNoRulesThatItNeverApplied(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	s := newSite(t, "http://"+porttest.Address(t), "[state]\nstore = \"dir\"\ndir = \"../../inventory\"\n"+people+team)
	s.must(0, "apply")
	if err := filepath.WalkDir(s.data, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, 65534, 65534))
	}); err != nil {
		t.Fatal(err)
	}
	s.must(0, "plan") // this machine made them
	if err := os.RemoveAll(filepath.Join(s.dir, "state")); err != nil {
		t.Fatal(err)
	}
	before := files(t, s.data)
	for _, verb := range []string{"plan", "apply", "up"} {
		if out := s.must(4, verb); !strings.Contains(out, "the accounts and rules in it are ") || !strings.Contains(out, "chown -R root "+s.data) {
			t.Errorf("%s: %s", verb, out)
		}
	}
	if d := cmp.Diff(before, files(t, s.data)); d != "" {
		t.Error(d)
	}
}
