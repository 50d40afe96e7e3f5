//go:build integration

package ocisync_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/runtime/enginetest"
)

// TestIntegrationHowARegistryRunsIsPlanned has each registry run by each driver,
// and then otherwise: the plan counts it, apply does it, and what cannot be done
// leaves the registry as it ran.
func TestIntegrationHowARegistryRunsIsPlanned(t *testing.T) {
	zot, distribution := enginetest.Servers(t, ".")
	for typ, program := range map[string]string{"zot": zot, "distribution": distribution} {
		t.Run(typ+" process", func(t *testing.T) {
			other := filepath.Join(t.TempDir(), "another")
			if err := os.Link(program, other); err != nil {
				if err := os.Symlink(program, other); err != nil {
					t.Fatal(err)
				}
			}
			howRun(t, typ, "process", "binary", program, other, "/no/such/program")
		})
	}
	t.Run("docker", func(t *testing.T) {
		e := enginetest.Start(t)
		for typ, program := range map[string]string{"zot": zot, "distribution": distribution} {
			t.Run(typ, func(t *testing.T) {
				refs := []string{"ocisync.test/" + typ + ":one", "ocisync.test/" + typ + ":two"}
				for _, ref := range refs {
					e.Image(ref, program)
				}
				howRun(t, typ, "docker", "image", refs[0], refs[1], "localhost:1/no/such:image")
			})
		}
	})
}

func howRun(t *testing.T, typ, driver, what, one, two, wrong string) {
	t.Helper()
	s := newSite(t, "http://"+porttest.Address(t), "")
	if docker := os.Getenv("DOCKER_HOST"); docker != "" {
		s.env = append(s.env, "DOCKER_HOST="+docker)
	}
	tokens := ""
	if typ == "distribution" {
		url := "http://" + porttest.Address(t)
		tokens = fmt.Sprintf("token = { url = %q, listen = %q }\n", strings.Replace(url, "127.0.0.1", "localhost", 1), strings.TrimPrefix(url, "http://"))
	}
	mode := func(name, listen string) {
		t.Helper()
		s.write("modes/m/m.toml", fmt.Sprintf(`version = 1
[registry]
type = %q
url = %q
%s[registry.run]
driver = %q
%s = %q
data = %q
listen = %q
`, typ, s.url, tokens, driver, what, name, s.data, listen)+signedState+"[group.g]\nusers = []\n")
	}
	listen := strings.TrimPrefix(s.url, "http://")
	mode(one, listen)
	s.must(0, "up", "--detach")
	t.Cleanup(func() {
		if out, err := s.command(context.Background(), "down").CombinedOutput(); err != nil {
			t.Errorf("down: %v: %s", err, out)
		}
	})
	s.must(0, "apply")
	s.must(0, "plan", "--detailed-exitcode")
	id := func() string {
		t.Helper()
		var o operated
		if err := json.Unmarshal([]byte(s.must(0, "status", "--output", "json")), &o); err != nil || !o.Ready {
			t.Fatalf("%v: %+v", err, o)
		}
		return o.ID
	}
	planned := func(path string) {
		t.Helper()
		if out := s.must(2, "plan", "--detailed-exitcode", "--output", "json"); !strings.Contains(out, `"values.`+path+`"`) || !strings.Contains(out, `"effect": "restart"`) {
			t.Errorf("%s is not planned: %s", path, out)
		}
	}
	first := id()
	mode(wrong, listen)
	planned("run." + what)
	out, bad, code := s.run("apply")
	t.Logf("a wrong %s: exit code %d: %s%s", what, code, out, bad)
	if code == 0 || !strings.Contains(out+bad, "nothing was written") || id() != first {
		t.Errorf("exit code %d, %s", code, out+bad)
	}
	mode(two, listen)
	planned("run." + what)
	s.must(0, "apply")
	s.must(0, "plan", "--detailed-exitcode")
	second := id()
	if second == first {
		t.Error("it runs as before")
	}
	s.url = "http://" + porttest.Address(t)
	mode(two, strings.TrimPrefix(s.url, "http://"))
	// the inventory is that of the registry by its URL, and there is none by this one
	if out := s.must(2, "plan", "--detailed-exitcode"); !strings.Contains(out, "run.listen") {
		t.Errorf("another address is not planned: %s", out)
	}
	out, bad, code = s.run("apply", "--new-inventory")
	t.Logf("another address: exit code %d: %s%s", code, out, bad)
	if code != 0 || id() == second {
		t.Errorf("exit code %d: %s%s", code, out, bad)
	}
	s.must(0, "plan", "--detailed-exitcode")
}

// TestIntegrationAnotherPortIsPlannedWithTheInventoryInTheRegistry: what is to be read
// there is read where it runs, until the apply has moved it.
func TestIntegrationAnotherPortIsPlannedWithTheInventoryInTheRegistry(t *testing.T) {
	zot, distribution := enginetest.Servers(t, ".")
	for typ, program := range map[string]string{"zot": zot, "distribution": distribution} {
		t.Run(typ, func(t *testing.T) {
			s := newSite(t, "http://"+porttest.Address(t), "")
			mode := func(url string) {
				t.Helper()
				tokens := ""
				if typ == "distribution" {
					address := porttest.Address(t)
					tokens = fmt.Sprintf("token = { url = %q, listen = %q }\n", "http://"+strings.Replace(address, "127.0.0.1", "localhost", 1), address)
				}
				s.write("modes/m/m.toml", fmt.Sprintf("version = 1\n[registry]\ntype = %q\nurl = %q\n%s[registry.run]\ndriver = \"process\"\nbinary = %q\ndata = %q\n[group.g]\nusers = []\n",
					typ, url, tokens, program, s.data))
			}
			mode(s.url)
			s.must(0, "up", "--detach")
			t.Cleanup(func() {
				if out, err := s.command(context.Background(), "down").CombinedOutput(); err != nil {
					t.Errorf("down: %v: %s", err, out)
				}
			})
			s.must(0, "apply")
			s.must(0, "plan", "--detailed-exitcode")
			mode("http://" + porttest.Address(t))
			if out := s.must(2, "plan", "--detailed-exitcode", "--output", "json"); !strings.Contains(out, `"values.run.listen"`) {
				t.Errorf("the port is not planned: %s", out)
			}
			s.must(0, "apply")
			s.must(0, "plan", "--detailed-exitcode")
			s.must(0, "apply", "--new-inventory")
			if out := s.must(0, "plan", "--detailed-exitcode"); strings.Contains(out, "inventory is of") {
				t.Error(out)
			}
		})
	}
}
