//go:build integration

package ocisync_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/runtime/enginetest"
)

// TestIntegrationBadInputLeavesTheRegistryRunning does to each registry, run by
// each driver, what goes wrong on hosts: each is an error that says what it is
// and what to do, and what ran runs on.
func TestIntegrationBadInputLeavesTheRegistryRunning(t *testing.T) {
	zot, distribution := enginetest.Servers(t, ".")
	programs := map[string]string{"zot": zot, "distribution": distribution}
	for typ, program := range programs {
		t.Run(typ+" process", func(t *testing.T) { badInput(t, typ, fmt.Sprintf("driver = \"process\"\nbinary = %q\n", program), nil) })
	}
	t.Run("docker", func(t *testing.T) {
		e := enginetest.Start(t)
		for typ, program := range programs {
			t.Run(typ, func(t *testing.T) {
				ref := "ocisync.test/" + typ + ":bad"
				e.Image(ref, program)
				badInput(t, typ, fmt.Sprintf("driver = \"docker\"\nimage = %q\n", ref), e)
			})
		}
	})
}

func badInput(t *testing.T, typ, run string, e *enginetest.Engine) {
	t.Helper()
	s := newSite(t, "http://"+porttest.Address(t), "")
	tokens := ""
	if typ == "distribution" {
		url := "http://" + porttest.Address(t)
		tokens = fmt.Sprintf("token = { url = %q, listen = %q }\n", strings.Replace(url, "127.0.0.1", "localhost", 1), strings.TrimPrefix(url, "http://"))
	}
	mode := func(level, more string) {
		t.Helper()
		s.write("modes/m/m.toml", fmt.Sprintf("version = 1\n[registry]\ntype = %q\nurl = %q\n%s[registry.run]\ndata = %q\n%s%s[registry.%s]\nlog.level = %q\n",
			typ, s.url, tokens, s.data, run, more, typ, level)+signedState)
	}
	if e != nil {
		s.env = append(s.env, "DOCKER_HOST="+e.Host)
	}
	says := func(out string, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(out, w) {
				t.Errorf("it does not say %q: %s", w, out)
			}
		}
	}
	config := filepath.Join(s.data, map[string]string{"zot": "config.json", "distribution": "config.yml"}[typ])
	read := func() string {
		t.Helper()
		b, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	put := func(text string) { // on the same inode
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mode("info", "")
	if e != nil {
		remove := e.Foreign("ocisync-m", "ocisync.test/"+typ+":bad")
		says(s.must(1, "up", "--detach"), "ocisync-m", "it is not ours", "remove or rename it")
		remove()
	}
	s.must(0, "up", "--detach")
	t.Cleanup(func() {
		if out, err := s.command(context.Background(), "down").CombinedOutput(); err != nil {
			t.Errorf("down: %v: %s", err, out)
		}
	})
	s.must(0, "apply")
	runs := func(what string) {
		t.Helper()
		if out := s.must(0, "health"); !strings.Contains(out, "ok") {
			t.Errorf("%s: it does not run: %s", what, out)
		}
	}

	good := read()
	put("{ \"half\": [\n")
	for _, verb := range []string{"plan", "apply", "restart"} {
		says(s.must(1, verb), config, "file")
		runs("a configuration that does not parse, and " + verb)
	}
	put(good)
	s.must(0, "apply")

	if typ == "distribution" {
		keys := filepath.Join(s.data, "ocisync", "keys.json")
		if err := os.Chmod(keys, 0o644); err != nil {
			t.Fatal(err)
		}
		says(s.must(1, "restart"), "chmod 600 "+keys)
		if err := os.Chmod(keys, 0o600); err != nil {
			t.Fatal(err)
		}
		runs("keys that others may read, and restart")
	}
	if err := os.Symlink(config, filepath.Join(s.data, "ocisync", "mine")); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"plan", "apply", "restart"} {
		says(s.must(1, verb), filepath.Join(s.data, "ocisync", "mine"), "is a link")
	}
	if err := os.Remove(filepath.Join(s.data, "ocisync", "mine")); err != nil {
		t.Fatal(err)
	}
	runs("a link among ocisync's own files")

	beside := config + ".mine"
	if err := os.WriteFile(beside, []byte(strings.Replace(good, "info", "warn", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(beside, config); err != nil {
		t.Fatal(err)
	}
	says(s.must(2, "plan", "--detailed-exitcode"), "log.level", "restart")
	s.must(0, "apply")
	s.must(0, "plan", "--detailed-exitcode")
	runs("a configuration that was replaced")

	if e == nil { // the engine keeps the log of a container
		log := filepath.Join(s.data, typ+".log")
		if err := os.Rename(log, log+".1"); err != nil {
			t.Fatal(err)
		}
		mode("debug", "")
		s.must(0, "apply")
		if err := os.Truncate(log, 0); err != nil {
			t.Fatal(err)
		}
		mode("info", "")
		s.must(0, "apply")
		runs("a log that was rotated")
	}

	mode("info", "args = [\"--no-such-flag\"]\n")
	says(s.must(1, "apply"), "no-such-flag", "runs again as before", "nothing was written")
	runs("one that dies as it starts")

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	mode("info", fmt.Sprintf("listen = %q\n", l.Addr()))
	says(s.must(1, "apply"), l.Addr().String(), "address already in use", "nothing was written")
	mode("info", "")
	runs("a port that is taken")

	if e != nil {
		env := s.env
		s.env = append(append([]string{}, env...), "DOCKER_HOST=unix:///no/such/engine")
		for _, verb := range []string{"plan", "apply", "up", "restart"} {
			if typ == "distribution" && verb == "up" {
				continue // it gives tokens in the foreground
			}
			says(s.must(1, verb), "engine", "DOCKER_HOST")
		}
		s.env = env
		runs("an engine that is away")
	}
	s.must(0, "plan", "--detailed-exitcode")
}
