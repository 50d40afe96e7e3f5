//go:build integration

package ocisync_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/runtime/enginetest"
)

// TestIntegrationRegistriesThatOcisyncRuns is the day of an operator: each
// registry type is brought up by each driver, looked at, killed, restarted and
// taken down, with the program as it is shipped.
func TestIntegrationRegistriesThatOcisyncRuns(t *testing.T) {
	zot, distribution := enginetest.Servers(t, ".")
	for typ, program := range map[string]string{"zot": zot, "distribution": distribution} {
		t.Run(typ+" process", func(t *testing.T) {
			operate(t, typ, fmt.Sprintf("driver = \"process\"\nbinary = %q\n", program))
		})
	}
	t.Run("docker", func(t *testing.T) {
		e := enginetest.Start(t)
		for typ, program := range map[string]string{"zot": zot, "distribution": distribution} {
			t.Run(typ, func(t *testing.T) {
				ref := "ocisync.test/" + typ + ":up"
				e.Image(ref, program)
				operate(t, typ, fmt.Sprintf("driver = \"docker\"\nimage = %q\n", ref))
			})
		}
	})
}

// operated is what status tells of a registry.
type operated struct {
	Running     bool
	Ready       bool
	ID          string
	PID         int
	Supervisor  string
	Differences []struct{ What string }
	Tokens      string
}

func operate(t *testing.T, typ, run string) {
	t.Helper()
	s := newSite(t, "http://"+porttest.Address(t), "")
	if docker := os.Getenv("DOCKER_HOST"); docker != "" {
		s.env = append(s.env, "DOCKER_HOST="+docker)
	}
	mode := func(more string) {
		s.mode("")
		text := fmt.Sprintf("version = 1\n[registry]\ntype = %q\nurl = %q\n[registry.run]\ndata = %q\n%s%s", typ, s.url, s.data, run, more)
		if err := os.WriteFile(filepath.Join(s.dir, "modes", "m", "m.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mode("")
	must := func(code int, words string, args ...string) {
		t.Helper()
		out := s.must(code, args...)
		t.Logf("ocisync %s: exit code %d: %s", strings.Join(args, " "), code, out)
		if !strings.Contains(out, words) {
			t.Errorf("ocisync %s does not say %q:\n%s", strings.Join(args, " "), words, out)
		}
	}
	status := func() operated {
		t.Helper()
		out, bad, code := s.run("status", "--output", "json")
		var o operated
		if err := json.Unmarshal([]byte(out), &o); err != nil || code != 0 {
			t.Fatalf("status: %v, exit code %d: %s%s", err, code, out, bad)
		}
		return o
	}
	if _, bad, code := s.run("up", "--detach"); code == 4 && strings.Contains(bad, "does not run registries of type") {
		t.Skip(strings.TrimSpace(bad))
	} else if code != 0 {
		t.Fatalf("up: exit code %d: %s", code, bad)
	}
	t.Cleanup(func() {
		if out, err := s.command(context.Background(), "down").CombinedOutput(); err != nil {
			t.Errorf("down: %v: %s", err, out)
		}
	})
	first := status()
	if !first.Running || !first.Ready || len(first.Differences) != 0 {
		t.Errorf("after up: %+v", first)
	}
	gives := func(want string) {
		t.Helper()
		if got := status().Tokens; typ == "distribution" && !strings.Contains(got, want) {
			t.Errorf("tokens: %q, want %q", got, want)
		}
	}
	gives("(ocisync up --detach)")
	must(0, "runs already", "up", "--detach")
	must(0, "ok", "health")
	must(0, "", "logs", "--tail", "3")
	must(0, "is ready", "restart")
	again := status()
	if !again.Ready || again.ID == first.ID {
		t.Errorf("after restart: %+v; before %+v", again, first)
	}
	if again.PID != 0 { // its supervisor dies, and the next up takes it over
		_, after, _ := strings.Cut(again.Supervisor, "process ")
		number, _, _ := strings.Cut(after, " ")
		pid, err := strconv.Atoi(number)
		if err != nil {
			t.Fatalf("supervisor %q", again.Supervisor)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(10 * time.Second); status().Supervisor != "" && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		}
		must(0, "ran already, and is supervised again", "up", "--detach")
		if adopted := status(); adopted.ID != again.ID || !adopted.Ready {
			t.Errorf("it was not taken over: %+v; before %+v", adopted, again)
		}
	}
	mode("args = [\"--no-such-flag\"]\n")
	if out, _, code := s.run("plan"); code == 0 && (!strings.Contains(out, "run.args") || !strings.Contains(out, "--no-such-flag") || !strings.Contains(out, "needs restart")) {
		t.Errorf("the plan does not tell how it runs: %s", out)
	}
	if d := status().Differences; len(d) != 1 || d[0].What != "arguments" {
		t.Errorf("differences: %v", d)
	}
	must(1, "it runs again as before", "up", "--detach")
	if !status().Ready {
		t.Error("it does not run as before")
	}
	mode("")
	must(0, "is stopped", "down")
	gives("nobody gives tokens")
	must(1, "failed", "health")
	must(0, "did not run", "down")
}
