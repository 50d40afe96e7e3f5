package ocisync_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/ocisync/ocisync/pkg/porttest"
)

// start runs the site's registry in a process of its own and waits until it
// serves; the caller ends it.
func (s *site) start() (*exec.Cmd, *bytes.Buffer) {
	s.t.Helper()
	var log bytes.Buffer
	cmd := s.command(context.Background(), "up")
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = cmd.Process.Kill() }) // where the test did not get as far
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://")); err == nil {
			if err := c.Close(); err != nil {
				s.t.Error(err)
			}
			return cmd, &log
		}
		if time.Now().After(deadline) {
			s.t.Fatal("ocisync up serves nothing")
		}
	}
}

// up runs the site's registry until the test ends.
func (s *site) up() {
	s.t.Helper()
	cmd, log := s.start()
	s.t.Cleanup(func() {
		err := cmd.Process.Signal(syscall.SIGTERM)
		if err = errors.Join(err, cmd.Wait()); err != nil {
			s.t.Errorf("ocisync up: %v: %s", err, log)
		}
	})
}

// who may do what, as a client of the registry finds out by trying.
type trial struct{ pull, push, remove bool }

// try lets a user pull, push and delete in a repository that holds app:1.
func (s *site) try(rt http.RoundTripper, user, repository string) trial {
	s.t.Helper()
	login := authn.Anonymous
	if user != "" {
		login = &authn.Basic{Username: user, Password: user + "'s long password"}
	}
	options := []remote.Option{remote.WithAuth(login), remote.WithTransport(rt), remote.WithContext(s.t.Context())}
	ref := func(tag string) name.Reference {
		r, err := name.ParseReference(strings.TrimPrefix(s.url, "http://")+"/"+repository+":"+tag, name.Insecure)
		if err != nil {
			s.t.Fatal(err)
		}
		return r
	}
	allowed := func(doing string, err error) bool {
		var refused *transport.Error
		switch {
		case err == nil, errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound: // allowed, and not there
			return true
		case errors.As(err, &refused) && (refused.StatusCode == http.StatusUnauthorized || refused.StatusCode == http.StatusForbidden):
			return false
		}
		s.t.Errorf("%s as %q in %s: %v", doing, user, repository, err)
		return false
	}
	image, err := random.Image(64, 1)
	if err != nil {
		s.t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		s.t.Fatal(err)
	}
	var out trial
	_, err = remote.Image(ref("1"), options...)
	out.pull = allowed("pull", err)
	out.push = allowed("push", remote.Write(ref("2"), image, options...))
	if !out.push { // somebody must have pushed what is to be deleted
		root := []remote.Option{remote.WithAuth(&authn.Basic{Username: "root", Password: "root's long password"}), remote.WithTransport(rt)}
		if err := remote.Write(ref("2"), image, root...); err != nil {
			s.t.Fatal(err)
		}
	}
	out.remove = allowed("delete", remote.Delete(ref("2").Context().Digest(digest.String()), options...))
	return out
}

// Promise 9: on a registry that runs all the while, rules hold for clients
// from the moment that apply has ended, and no earlier.
func TestTheRunningRegistryDoesWhatWasApplied(t *testing.T) {
	t.Parallel()
	s := newSite(t, "http://"+porttest.Address(t), signedState+people)
	s.must(0, "apply")
	s.up()
	rt := &http.Transport{}
	defer rt.CloseIdleConnections()
	matrix := func(when string, want map[string]trial) {
		t.Helper()
		got := map[string]trial{}
		for who := range want {
			user, repository, _ := strings.Cut(who, "@")
			got[who] = s.try(rt, user, repository)
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(trial{})); d != "" {
			t.Errorf("%s (-want +got):\n%s", when, d)
		}
	}
	image, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, repository := range []string{"open/app", "team/app", "team/inner/app", "nowhere/app"} {
		ref, err := name.ParseReference(strings.TrimPrefix(s.url, "http://")+"/"+repository+":1", name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, image, remote.WithAuth(&authn.Basic{Username: "root", Password: "root's long password"}), remote.WithTransport(rt)); err != nil {
			t.Fatal(err)
		}
	}
	nothing, everything := trial{}, trial{true, true, true}
	rules := func(dev string) string {
		return signedState + people + `
[namespace.open]
access = { anonymous = ["pull"], authenticated = ["pull", "push"] }
[namespace.team]
access = { users = { dev = ` + dev + ` } }
[namespace."team/inner"]
access = { authenticated = ["pull"] }
`
	}
	matrix("before", map[string]trial{
		"@open/app": nothing, "dev@open/app": nothing, "dev@team/app": nothing, "dev@team/inner/app": nothing, "dev@nowhere/app": nothing, "root@team/app": everything,
	})
	s.mode(rules(`["pull", "push", "delete"]`))
	s.must(2, "plan", "--detailed-exitcode")
	matrix("planned", map[string]trial{"@open/app": nothing, "dev@team/app": nothing})
	s.must(0, "apply")
	matrix("applied", map[string]trial{
		"@open/app": {pull: true}, "dev@open/app": {pull: true, push: true},
		"@team/app": nothing, "dev@team/app": everything,
		"dev@team/inner/app": {pull: true}, // the longest namespace alone decides
		"dev@nowhere/app":    nothing, "root@nowhere/app": everything,
	})
	s.mode(rules(`["pull"]`))
	s.must(0, "apply")
	matrix("taken away", map[string]trial{"dev@team/app": {pull: true}, "dev@open/app": {pull: true, push: true}})
	s.must(0, "plan", "--detailed-exitcode")
}

// Promise 8: a write that fails leaves the registry as it was, running, and
// says what, why and what to do; when the cause is gone, apply does the rest.
func TestAFailedApplyLeavesARegistryThatWorks(t *testing.T) {
	t.Parallel()
	s := newSite(t, "http://"+porttest.Address(t), signedState+people+team)
	s.must(0, "apply")
	s.up()
	before := s.live()
	// in the way of the file that would replace the registry's state
	obstacle := filepath.Join(s.data, "ocisync", "state.json.new", "x")
	if err := os.MkdirAll(obstacle, 0o700); err != nil {
		t.Fatal(err)
	}
	s.mode(signedState + people + strings.Replace(team, "first", "second", 1))
	out := s.must(1, "apply")
	for _, want := range []string{"namespace/team", s.url, "state", "check the directory"} {
		if !strings.Contains(out, want) {
			t.Errorf("the error does not say %q:\n%s", want, out)
		}
	}
	if d := cmp.Diff(before, s.live()); d != "" {
		t.Errorf("half of it was written:\n%s", d)
	}
	rt := &http.Transport{}
	defer rt.CloseIdleConnections()
	if got := s.try(rt, "dev", "team/app"); !got.push {
		t.Errorf("the rules that held before hold no more: %+v", got)
	}
	if err := os.RemoveAll(filepath.Dir(obstacle)); err != nil {
		t.Fatal(err)
	}
	s.must(0, "apply")
	if got := s.live()["namespace/team"]; !strings.Contains(got, "second") {
		t.Errorf("namespace/team is %s", got)
	}
}

// Promise 10: the mode is what a pull request may change; the host file and
// the environment are what the base gives.
func TestAPullRequestMakesAPlanRunOpenAndSendNothing(t *testing.T) {
	t.Parallel()
	var sent []string
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		sent = append(sent, q.Method+" "+q.URL.String()+" "+q.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	s := newSite(t, "http://"+porttest.Address(t), signedState+people+team)
	marker := filepath.Join(s.dir, "ran")
	touch, err := exec.LookPath("touch")
	if err != nil {
		t.Fatal(err)
	}
	s.write("config/ocisync/ocisync.toml", "[secrets]\ndirs = ["+quote(filepath.Join(s.dir, "secrets"))+"]\nage = "+quote(filepath.Join(s.dir, "identity"))+
		"\n[command.vault]\nrun = ["+quote(touch)+", "+quote(marker)+"]\n")
	s.write("secrets/pw", "a long password of a file")
	s.write("identity", "not an identity: whoever parses this complains")
	s.write("modes/m/x.age", "sealed")
	s.write("outside", "what nobody may read")
	s.env = append(s.env, "AWS_SECRET_ACCESS_KEY=canary of the environment")
	s.must(0, "apply")

	user := func(secret string) string {
		return signedState + "[user.root]\nadmin = true\npassword = { env = \"OCISYNC_PASSWORD\" }\n[user.dev]\npassword = " + secret + "\n" + team
	}
	for name, tc := range map[string]struct{ text, says string }{
		"runs no command":                    {user(`{ command = "vault" }`), "(secret not checked)"},
		"decrypts nothing":                   {user(`{ age = "x.age" }`), "(secret not checked)"},
		"opens no file elsewhere":            {user(`{ file = ` + quote(filepath.Join(s.dir, "outside")) + ` }`), "secrets.dirs"},
		"climbs out of no directory":         {user(`{ file = "../outside" }`), "whole path"},
		"takes no other variable":            {user(`{ env = "AWS_SECRET_ACCESS_KEY" }`), "secrets.env"},
		"defines no command":                 {user(`{ env = "OCISYNC_DEV_PASSWORD" }`) + "[command.x]\nrun = [\"/bin/sh\"]\n", "command"},
		"names no host file's secret dirs":   {user(`{ env = "OCISYNC_DEV_PASSWORD" }`) + "[secrets]\ndirs = [\"/\"]\n", "secrets"},
		"opens a listed file as it does now": {user(`{ file = ` + quote(filepath.Join(s.dir, "secrets", "pw")) + ` }`), "(secret changed)"},
	} {
		t.Run(name, func(t *testing.T) {
			s.mode(tc.text)
			out, bad, _ := s.run("plan", "-v")
			if !strings.Contains(out+bad, tc.says) {
				t.Errorf("plan does not say %q:\n%s%s", tc.says, out, bad)
			}
			if strings.Contains(out+bad, "age identity file") { // what was tried and failed is told of
				t.Errorf("plan tried to decrypt:\n%s%s", out, bad)
			}
			for _, secret := range []string{"canary", "nobody may read", "long password"} {
				if strings.Contains(out+bad, secret) {
					t.Errorf("plan tells a secret:\n%s%s", out, bad)
				}
			}
			if _, err := os.Stat(marker); err == nil {
				t.Fatal("plan ran a command")
			}
		})
	}
	t.Run("follows no link out of the tree", func(t *testing.T) {
		link := filepath.Join(s.dir, "modes", "m", "x.toml")
		if err := os.Symlink(filepath.Join(s.dir, "outside"), link); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := os.Remove(link); err != nil {
				t.Error(err)
			}
		}()
		s.mode(user(`{ env = "OCISYNC_DEV_PASSWORD" }`))
		out, bad, code := s.run("plan")
		if code == 0 || strings.Contains(out+bad, "nobody may read") || !strings.Contains(bad, "x.toml") {
			t.Errorf("exit code %d:\n%s%s", code, out, bad)
		}
	})
	t.Run("has no login sent on to another host", func(t *testing.T) {
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if q.Header.Get("Authorization") == "" {
				w.Header().Set("WWW-Authenticate", ours)
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			http.Redirect(w, q, elsewhere.URL, http.StatusTemporaryRedirect)
		}))
		defer front.Close()
		s.url = front.URL
		s.mode(strings.Replace(user(`{ env = "OCISYNC_DEV_PASSWORD" }`), "store", "# store", 1))
		s.write("modes/m/m.toml", strings.Replace(s.text(), "../../data", "../../not-here", 1))
		if out, bad, code := s.run("plan"); code != 1 {
			t.Errorf("exit code %d:\n%s%s", code, out, bad)
		}
		if len(sent) > 0 {
			t.Errorf("another host than the registry's saw %q", sent)
		}
		s.write("modes/m/m.toml", strings.Replace(s.text(), `{ env = "OCISYNC_PASSWORD" } }`, `{ command = "vault" } }`, 1))
		if out, bad, code := s.run("plan"); code != 1 || !strings.Contains(bad, "not at hand") {
			t.Errorf("a login that a command gives: exit code %d:\n%s%s", code, out, bad)
		}
		if _, err := os.Stat(marker); err == nil {
			t.Error("plan ran a command for the login")
		}
	})
}

func quote(s string) string { return `"` + s + `"` }

// text is the mode's file.
func (s *site) text() string {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "modes", "m", "m.toml"))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}
