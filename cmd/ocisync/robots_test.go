package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/porttest"
)

// transcript is what a command that runs beside the test writes.
type transcript struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *transcript) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *transcript) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// robotWorld is a mode whose robots' secrets go to a directory.
type robotWorld struct {
	address, data, out, file string
	env                      map[string]string
}

func newRobotWorld(t *testing.T) *robotWorld {
	t.Helper()
	dir := t.TempDir()
	host := filepath.Join(dir, "host.toml")
	w := &robotWorld{
		address: porttest.Address(t), data: filepath.Join(dir, "data"), out: filepath.Join(dir, "out"),
		file: filepath.Join(dir, "modes", "test", "test.toml"),
		env: map[string]string{
			"OCISYNC_ROOT": "root password", "OCISYNC_MODE": "test", "OCISYNC_MODES": filepath.Join(dir, "modes"),
			"OCISYNC_HOST_FILE": host, "HOME": dir, "XDG_STATE_HOME": filepath.Join(dir, "machine"),
		},
	}
	write(t, host, fmt.Sprintf("[secrets]\ndeliver = [%q]\n", w.out))
	return w
}

func (w *robotWorld) robot(name, renew string) string {
	return fmt.Sprintf("[robot.%s]\nexpires = \"90d\"\nrenew = %q\noverlap = \"3s\"\nsecret = { deliver = { file = %q } }\n", name, renew, filepath.Join(w.out, name))
}

func (w *robotWorld) declare(t *testing.T, robots ...string) {
	t.Helper()
	write(t, w.file, fmt.Sprintf(`version = 1
[registry]
type  = "distribution"
url   = "http://%[1]s"
login = { user = "root", password = { env = "OCISYNC_ROOT" } }
run   = { driver = "embedded", data = "../../data" }
[state]
store = "dir"
dir   = "../../state"
[user.root]
admin    = true
password = { env = "OCISYNC_ROOT" }
`, w.address)+strings.Join(robots, ""))
}

func (w *robotWorld) ocisync(ctx context.Context, out io.Writer, args ...string) int {
	return run(ctx, args, streams{
		in: strings.NewReader(""), out: out, err: out,
		getenv: func(name string) (string, bool) { v, ok := w.env[name]; return v, ok },
	})
}

func (w *robotWorld) apply(t *testing.T) {
	t.Helper()
	var out bytes.Buffer
	if code := w.ocisync(t.Context(), &out, "apply"); code != exitDone {
		t.Fatalf("apply: exit code %d: %s", code, &out)
	}
}

func TestAPlanAnnouncesDaysAheadThatARobotExpires(t *testing.T) {
	w := newRobotWorld(t)
	w.declare(t, w.robot("ci", "10d"))
	w.apply(t)
	state := filepath.Join(w.data, "ocisync", "state.json")
	for age, want := range map[int]string{79: "", 85: "account robot$ci expires on", 91: "account robot$ci expired on"} {
		b, err := os.ReadFile(state)
		if err != nil {
			t.Fatal(err)
		}
		made := time.Now().AddDate(0, 0, -age).UTC().Format(time.RFC3339)
		b = regexp.MustCompile(`"made": "[^"]*"`).ReplaceAll(b, []byte(`"made": "`+made+`"`))
		if err := os.WriteFile(state, b, 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if code := w.ocisync(t.Context(), &out, "plan", "--detailed-exitcode"); code != exitDone {
			t.Errorf("%d days old: exit code %d: %s", age, code, &out)
		}
		if text := out.String(); strings.Contains(text, "account robot$ci") != (want != "") || !strings.Contains(text, want) {
			t.Errorf("%d days old, and the plan does not say %q:\n%s", age, want, text)
		}
	}
}

// TestUpRenewsRobotsInTimeAndGoesOnWhenTheirSecretsCannotBeDelivered runs the
// registry with a robot that is due in seconds and whose secret goes to a
// directory that is not there for a while. Another robot is declared meanwhile.
func TestUpRenewsRobotsInTimeAndGoesOnWhenTheirSecretsCannotBeDelivered(t *testing.T) {
	w := newRobotWorld(t)
	out := w.out
	get := func(path, user, password string) (int, string) {
		t.Helper()
		q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+w.address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		q.SetBasicAuth(user, password)
		resp, err := http.DefaultClient.Do(q)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	until := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("not within 30 s: " + what)
			}
		}
	}
	type login struct{ Registry, Username, Password string }
	delivered := func(robot string) (l login) {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(out, robot))
		if err == nil {
			err = json.Unmarshal(b, &l)
		}
		if err != nil || l.Registry != w.address {
			t.Fatalf("delivered for %s: %+v, %v", robot, l, err)
		}
		return l
	}
	works := func(l login) bool {
		code, _ := get("/v2/", l.Username, l.Password)
		return code == http.StatusOK
	}

	const soon = "2159h59m57s" // three seconds after it was made
	w.declare(t, w.robot("ci", soon))
	w.apply(t)
	first := delivered("ci")
	hidden := out + ".away"
	if err := os.Rename(out, hidden); err != nil {
		t.Fatal(err)
	}
	write(t, out, "in the way")

	ctx, stop := context.WithCancel(t.Context())
	said, ended := &transcript{}, make(chan int, 1)
	go func() { ended <- w.ocisync(ctx, said, "up") }()
	defer func() {
		stop()
		if code := <-ended; code != exitDone {
			t.Errorf("up: exit code %d: %s", code, said)
		}
		if text := said.String(); strings.Contains(text, first.Password) {
			t.Error("the log holds a secret")
		}
	}()
	metrics := func() string { _, text := get("/metrics", "root", "root password"); return text }
	until("a renewal that cannot be delivered", func() bool {
		m := metrics()
		return strings.Contains(m, "\nocisync_robot_undelivered{robot=\"ci\"} 1\n") &&
			strings.Contains(m, "\nocisync_robot_renewal_errors_total ") && !strings.Contains(m, "\nocisync_robot_renewal_errors_total 0\n")
	})
	until("the failure in the log", func() bool {
		text := said.String()
		return strings.Contains(text, "renewing robots failed") && strings.Contains(text, "robot/ci") && strings.Contains(text, filepath.Join(out, "ci"))
	})
	if !works(first) {
		t.Error("the old secret works no more, and the new one could not be delivered")
	}
	if err := os.Remove(out); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(hidden, out); err != nil {
		t.Fatal(err)
	}
	until("the renewal in the log", func() bool {
		return strings.Contains(said.String(), "renewed robot/ci: account robot$ci.2 was made and its secret delivered")
	})
	second := delivered("ci")
	if second.Username != "robot$ci.2" || !works(second) {
		t.Errorf("%s was delivered; it works: %v", second.Username, works(second))
	}
	if m := metrics(); !strings.Contains(m, "\nocisync_robot_undelivered{robot=\"ci\"} 0\n") || !strings.Contains(m, "\nocisync_robot_expires_timestamp_seconds{robot=\"ci\"} ") {
		t.Errorf("the metrics after the renewal:\n%s", m)
	}
	until("the end of the overlap", func() bool { return !works(first) })

	w.declare(t, w.robot("ci", soon), w.robot("late", soon))
	w.apply(t)
	until("the renewal of a robot that was declared while up ran", func() bool { return delivered("late").Username == "robot$late.2" })
	if l := delivered("late"); !works(l) {
		t.Error("what was delivered for it does not log in")
	}
}
