package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/ocisync/ocisync/pkg/porttest"
)

// theirs is a mode of a Zot that somebody else runs, which something that keeps what is
// pushed stands for, and that keeps its inventory itself.
type theirs struct {
	content http.Handler
	address string
	config  string
	mode    string
	env     map[string]string
	served  *http.Server
}

func newTheirs(t *testing.T) *theirs {
	t.Helper()
	dir := t.TempDir()
	w := &theirs{
		content: registry.New(registry.Logger(log.New(io.Discard, "", 0))), address: "127.0.0.1:0",
		config: filepath.Join(dir, "config.json"), mode: filepath.Join(dir, "modes", "m", "m.toml"),
		env: map[string]string{"OCISYNC_MODE": "m", "OCISYNC_MODES": filepath.Join(dir, "modes"), "HOME": dir, "XDG_STATE_HOME": filepath.Join(dir, "machine")},
	}
	w.start(t)
	t.Cleanup(func() { w.stop(t) })
	write(t, w.config, fmt.Sprintf("{\"storage\":{\"rootDirectory\":%q},\"http\":{\"realm\":\"old\",\"accessControl\":{\"repositories\":{\"**\":{\"anonymousPolicy\":[\"read\",\"create\",\"update\"]}}}}}", filepath.Join(dir, "root")))
	return w
}

func (w *theirs) declare(t *testing.T, objects string) {
	t.Helper()
	write(t, w.mode, fmt.Sprintf("version = 1\n[registry]\ntype = \"zot\"\nurl = \"http://%s\"\n[registry.files]\nconfig = %q\n%s", w.address, w.config, objects))
}

func (w *theirs) start(t *testing.T) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	w.address = l.Addr().String()
	w.served = &http.Server{Handler: w.content, ReadHeaderTimeout: time.Minute}
	go w.served.Serve(l) //nolint:errcheck // until it is closed
}

func (w *theirs) stop(t *testing.T) {
	t.Helper()
	if err := w.served.Close(); err != nil {
		t.Fatal(err)
	}
}

func (w *theirs) ocisync(t *testing.T, code int, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	got := run(context.WithoutCancel(t.Context()), args, streams{
		in: strings.NewReader(""), out: &out, err: &out,
		getenv: func(name string) (string, bool) { v, ok := w.env[name]; return v, ok },
	})
	if got != code {
		t.Fatalf("ocisync %s: exit code %d, want %d:\n%s", strings.Join(args, " "), got, code, out.String())
	}
	return out.String()
}

func (w *theirs) says(t *testing.T, text string) bool {
	t.Helper()
	b, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(b), text)
}

// TestWhatARunningZotDoesNotTakeOverIsAppliedWhileItIsStopped, as what is pending says,
// although its inventory lies in it.
func TestWhatARunningZotDoesNotTakeOverIsAppliedWhileItIsStopped(t *testing.T) {
	w := newTheirs(t)
	w.declare(t, "[registry.zot]\nhttp.realm = \"new\"\n")
	if said := w.ocisync(t, exitPartly, "apply"); !strings.Contains(said, "stop Zot, run `ocisync apply` again while it is stopped, and start it") {
		t.Errorf("it says %s", said)
	}
	w.stop(t)
	for range 2 { // the second goes on with what the first kept
		if said := w.ocisync(t, exitDone, "apply"); !strings.Contains(said, "the copy of its inventory that the last apply here left on this host") {
			t.Errorf("it says %s", said)
		}
		if !w.says(t, `"realm":"new"`) {
			t.Fatal("it is not written")
		}
	}
	w.declare(t, "[registry.zot]\nhttp.realm = \"newer\"\n")
	w.ocisync(t, exitDone, "apply")
	w.start(t)
	if said := w.ocisync(t, exitDone, "plan"); !strings.Contains(said, "no changes") || !strings.Contains(said, "kept on this host") {
		t.Errorf("the plan is %s", said)
	}
	if said := w.ocisync(t, exitDone, "apply"); !strings.Contains(said, "is stored now") {
		t.Errorf("it says %s", said)
	}
	w.env["XDG_STATE_HOME"] = filepath.Join(filepath.Dir(w.config), "other") // the registry has it
	if said := w.ocisync(t, exitDone, "plan"); !strings.Contains(said, "1 unchanged") || strings.Contains(said, "to record") {
		t.Errorf("the plan is %s", said)
	}
}

// TestWhatAnotherHostStoredCountsBeforeTheCopy: the copy is of what this host saw last.
func TestWhatAnotherHostStoredCountsBeforeTheCopy(t *testing.T) {
	w := newTheirs(t)
	w.declare(t, "[gc]\ndelay = \"3h\"\n[namespace.a]\n")
	w.ocisync(t, exitDone, "apply")
	here := w.env["XDG_STATE_HOME"]
	w.env["XDG_STATE_HOME"] = filepath.Join(filepath.Dir(w.config), "other")
	w.declare(t, "[gc]\ndelay = \"3h\"\n[namespace.a]\n[namespace.b]\n")
	w.ocisync(t, exitDone, "apply")
	w.env["XDG_STATE_HOME"] = here
	w.stop(t)
	w.declare(t, "[gc]\ndelay = \"4h\"\n[namespace.a]\n[namespace.b]\n")
	w.ocisync(t, exitDone, "apply")
	w.start(t)
	if said := w.ocisync(t, exitDone, "plan"); strings.Contains(said, "kept on this host") {
		t.Errorf("the plan is %s", said)
	}
	w.ocisync(t, exitDone, "apply")
}

// TestOfAStoppedZotThatThisHostNeverSawNothingIsGuessed, nor of one whose store refuses.
func TestOfAStoppedZotThatThisHostNeverSawNothingIsGuessed(t *testing.T) {
	w := newTheirs(t)
	w.declare(t, "[registry.zot]\nhttp.realm = \"new\"\n")
	w.stop(t)
	said := w.ocisync(t, exitFailed, "apply")
	if !strings.Contains(said, "has no copy of that: have it started, and run ocisync apply") || strings.Contains(said, "ocisync up") || w.says(t, "new") {
		t.Errorf("it says %s", said)
	}
	w.content = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		http.Error(rw, `{"errors":[{"code":"DENIED"}]}`, http.StatusForbidden)
	})
	w.start(t)
	if said := w.ocisync(t, exitFailed, "plan"); !strings.Contains(said, "for either: stop it, run ocisync apply") {
		t.Errorf("it says %s", said)
	}
}

// TestWhatWouldRemoveTheInventoryIsShownWhereItLies: nobody's retention is changed where
// the inventory is kept in a directory.
func TestWhatWouldRemoveTheInventoryIsShownWhereItLies(t *testing.T) {
	w := newTheirs(t)
	write(t, w.config, `{"storage":{"rootDirectory":"/nonexistent","retention":{"policies":[{"repositories":["**"],"keepTags":[{"patterns":["^v"]}]}]}}}`)
	for state, shown := range map[string]bool{"": true, "[state]\nstore = \"registry\"\n": true, "[state]\nstore = \"dir\"\ndir = \"../../state\"\n": false} {
		w.declare(t, "[gc]\ndelay = \"1h\"\n"+state)
		if said := w.ocisync(t, exitDone, "plan"); strings.Contains(said, "process.own_retention") != shown || strings.Contains(said, "a policy for ocisync/** is put before it") != shown {
			t.Errorf("with %q the plan is\n%s", state, said)
		}
	}
}

// TestNobodyIsSentToStartWhatSomebodyElseRuns: ocisync up is refused there.
func TestNobodyIsSentToStartWhatSomebodyElseRuns(t *testing.T) {
	w := newTheirs(t)
	w.declare(t, "[namespace.a]\n")
	w.stop(t)
	if err := os.Remove(w.config); err != nil {
		t.Fatal(err)
	}
	if said := w.ocisync(t, exitFailed, "plan"); strings.Contains(said, "ocisync up") || !strings.Contains(said, "have it started") {
		t.Errorf("it says %s", said)
	}
}

// TestWhereNobodyGivesTokensTheAdviceIsOneThatWorks: of a Distribution that somebody else
// runs, which itself is up, `ocisync up` is refused.
func TestWhereNobodyGivesTokensTheAdviceIsOneThatWorks(t *testing.T) {
	w := newTheirs(t)
	w.config = filepath.Join(filepath.Dir(w.config), "config.yml")
	write(t, w.config, "version: 0.1\nstorage:\n  inmemory: {}\n")
	w.env["OCISYNC_PASSWORD"] = "p"
	write(t, w.mode, fmt.Sprintf("version = 1\n[registry]\ntype = \"distribution\"\nurl = \"http://%s\"\nlogin = { user = \"ops\", password = { env = \"OCISYNC_PASSWORD\" } }\n[registry.files]\nconfig = %q\n[registry.token]\nurl = \"http://%s\"\n[user.ops]\nadmin = true\n",
		w.address, w.config, porttest.Address(t)))
	said := w.ocisync(t, exitFailed, "plan")
	if !strings.Contains(said, "its token service cannot be reached: ") || !strings.HasSuffix(said, "; start it with `ocisync auth serve`, or correct registry.token.url\n") {
		t.Errorf("it says %s", said)
	}
	w.ocisync(t, exitRefused, "up")
}
