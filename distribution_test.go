//go:build integration

package ocisync_test

import (
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/runtime/enginetest"
)

// TestIntegrationDistributionDay is the day of a user whose registry is a real
// Distribution that ocisync runs, with crane: it logs what it ran.
func TestIntegrationDistributionDay(t *testing.T) {
	_, binary := enginetest.Servers(t, ".")
	s := newSite(t, "http://"+porttest.Address(t), "")
	tokens, err := url.Parse("http://" + porttest.Address(t))
	if err != nil {
		t.Fatal(err)
	}
	mode := func(level, schedule string) {
		s.write("modes/m/m.toml", fmt.Sprintf(`version = 1
[registry]
type  = "distribution"
url   = %q
token = { url = "http://localhost:%s", listen = %q }
[registry.run]
driver = "process"
binary = %q
data   = "../../data"
[registry.distribution]
log.level = %q
[namespace.open]
access    = { anonymous = ["pull"], users = { dev = ["pull", "push"] } }
retention = { keep = [{ newest = 2 }] }
[gc]
untagged = true
%s
`, s.url, tokens.Port(), tokens.Host, binary, level, schedule)+signedState+people)
	}
	mode("info", "")
	d := newDay(t, s)
	client, ocisync, host, layer := d.client, d.ocisync, d.host, d.layer
	up, log := s.start()
	ocisync(2, "needs restart", "plan", "--detailed-exitcode")
	ocisync(0, "read them back", "apply")
	ocisync(0, "no changes", "plan", "--detailed-exitcode")
	client("", false, "UNAUTHORIZED", "append", "-f", layer, "-t", host+"/open/app:0")
	for tag := range 3 {
		client("dev", true, "sha256:", "append", "-f", layer, "-t", fmt.Sprintf("%s/open/app:%d", host, tag))
	}
	client("dev", false, "401", "append", "-f", layer, "-t", host+"/elsewhere/app:1")
	client("", true, "schemaVersion", "manifest", host+"/open/app:2")
	ocisync(0, "removed 1, kept 2", "run", "retention")
	ocisync(0, "gc: nothing to remove", "run", "gc") // the same image has two tags more
	client("", true, "schemaVersion", "manifest", host+"/open/app:2")
	ocisync(0, "another key signs", "auth", "rotate")
	ocisync(1, "restart it", "auth", "rotate")
	client("dev", true, "sha256:", "append", "-f", layer, "-t", host+"/open/app:3")
	mode("debug", "")
	ocisync(0, "read it back", "apply")
	ocisync(0, "another key signs", "auth", "rotate")
	ocisync(0, "no changes", "plan", "--detailed-exitcode")
	mode("debug", `schedule = "@every 2s"`) // of which each is two restarts
	ocisync(0, "read it back", "apply")
	for deadline := time.Now().Add(time.Minute); !strings.Contains(log.String(), "job done\" job=gc"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no collection by time: %s", log)
		}
	}
	mode("debug", `schedule = "none"`)
	ocisync(0, "read it back", "apply")
	ocisync(0, "gc: nothing to remove", "run", "gc") // once one that runs has ended
	ocisync(0, "no changes", "plan", "--detailed-exitcode")
	client("dev", true, "sha256:", "append", "-f", layer, "-t", host+"/open/app:4")
	mode("loud", "")
	ocisync(4, "one of error, warn, info, debug", "apply")
	client("dev", true, "schemaVersion", "manifest", host+"/open/app:3")
	d.ends(up, log)
}

// TestIntegrationDistributionWithItsOwnAccounts is that of a user whose registry
// has an htpasswd file: nothing of ocisync's stands beside it, and what holds of
// accounts holds at once.
func TestIntegrationDistributionWithItsOwnAccounts(t *testing.T) {
	_, binary := enginetest.Servers(t, ".")
	s := newSite(t, "http://"+porttest.Address(t), "")
	mode := func(more string) {
		s.write("modes/m/m.toml", fmt.Sprintf(`version = 1
[registry]
type  = "distribution"
url   = %q
[registry.files]
htpasswd = %q
[registry.run]
driver = "process"
binary = %q
data   = "../../data"
[namespace.open]
retention = { keep = [{ newest = 2 }] }
[gc]
untagged = true
%s`, s.url, filepath.Join(s.dir, "data", "htpasswd"), binary, more)+signedState)
	}
	const dev = "[user.dev]\npassword = { env = \"OCISYNC_DEV_PASSWORD\" }\n"
	mode(dev)
	d := newDay(t, s)
	up, log := s.start()
	d.ocisync(0, "read them back", "apply")
	d.ocisync(0, "no changes", "plan", "--detailed-exitcode")
	d.client("", false, "401", "append", "-f", d.layer, "-t", d.host+"/open/app:0")
	for tag := range 3 {
		d.client("dev", true, "sha256:", "append", "-f", d.layer, "-t", fmt.Sprintf("%s/open/app:%d", d.host, tag))
	}
	d.ocisync(0, "removed 1, kept 2", "run", "retention")
	d.ocisync(0, "gc: nothing to remove", "run", "gc")
	mode(dev + "[namespace.open.access]\nusers = { dev = [\"pull\"] }\n")
	d.ocisync(4, "rights are given by ocisync's token service", "plan")
	mode(dev + "[namespace.open.access]\nauthenticated = [\"pull\"]\n")
	d.ocisync(4, "rights are given by ocisync's token service", "apply")
	mode(dev)
	d.ocisync(0, "running, ready", "status")
	d.ocisync(0, "", "health")
	d.ocisync(0, "no changes", "plan", "--detailed-exitcode")
	d.ends(up, log)
}

// TestIntegrationDistributionMovesWithItsInventory: the inventory lies among the content
// that an apply gives another place, and goes with the registry; to a place that has an
// earlier one too.
func TestIntegrationDistributionMovesWithItsInventory(t *testing.T) {
	_, binary := enginetest.Servers(t, ".")
	s := newSite(t, "http://"+porttest.Address(t), "")
	tokens := porttest.Address(t)
	mode := func(store string) {
		s.write("modes/m/m.toml", fmt.Sprintf("version = 1\n[state]\nkey = { env = \"OCISYNC_STATE_KEY\" }\n[registry]\ntype = \"distribution\"\nurl = %q\ntoken = { url = \"http://%s\" }\n[registry.run]\ndriver = \"process\"\nbinary = %q\ndata = \"../../data\"\n[registry.distribution]\nstorage.filesystem.rootdirectory = %q\n",
			s.url, tokens, binary, filepath.Join(s.dir, store))+names+team)
	}
	mode("a")
	d := newDay(t, s)
	up, log := s.start()
	d.ocisync(0, "read", "apply")
	digest := regexp.MustCompile(`sha256:[0-9a-f]{64}`)
	for _, to := range []string{"b", "a"} {
		mode(to)
		d.ocisync(0, "read it back", "apply", "--approve", digest.FindString(s.must(0, "plan")))
		if out := s.must(0, "plan", "--detailed-exitcode"); strings.Contains(out, "inventory is") {
			t.Errorf("moved to %s the plan says %s", to, out)
		}
	}
	d.ends(up, log)
}
