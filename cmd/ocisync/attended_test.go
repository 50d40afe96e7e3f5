package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// troubled fails as it is told, one time after the other, and then ends.
type troubled struct {
	errs []error
	end  context.CancelFunc
}

func (a *troubled) Attend(context.Context) (time.Duration, error) {
	if len(a.errs) == 0 {
		a.end()
		return 0, nil
	}
	err := a.errs[0]
	a.errs = a.errs[1:]
	return time.Microsecond, err
}

func TestWhatIsDoneByTimeGoesOnAndSaysATroubleOnce(t *testing.T) {
	var said bytes.Buffer
	o := &options{streams: streams{err: &said}}
	ctx, end := context.WithCancel(t.Context())
	away, full := errors.New("the disk is away"), errors.New("the disk is full")
	a := &troubled{errs: []error{away, away, away, full, full, nil, full}, end: end}
	o.attend(ctx, "http://registry", a, 0)
	if got := [2]int{strings.Count(said.String(), away.Error()), strings.Count(said.String(), full.Error())}; len(a.errs) != 0 || got != [2]int{1, 2} {
		t.Errorf("%d times were left, and it says\n%s", len(a.errs), &said)
	}
}

func TestAMeasuringTellsWhatBecameOfPush(t *testing.T) {
	list := []providers.Measured{
		{Namespace: "a", Limit: 10 << 30, Used: 5 << 30},
		{Namespace: "b", Limit: 10, Used: 12, Full: true, Changed: true},
		{Namespace: "c", Limit: 10, Used: 12, Full: true},
		{Namespace: "d", Limit: 10, Used: 2, Changed: true},
		{Namespace: "e", Limit: 10, Used: 12, Full: true, Error: "input/output error"},
	}
	for dry, want := range map[bool]string{
		false: `quota: 5 namespaces
  a: 5.0 GiB of 10.0 GiB used
  b: 12 B of 10 B used; push is withdrawn now
  c: 12 B of 10 B used; push is withdrawn
  d: 2 B of 10 B used; push is given back
  e: not measured; push is withdrawn
`,
		true: `quota: 5 namespaces
  a: 5.0 GiB of 10.0 GiB used
  b: 12 B of 10 B used; push would be withdrawn now
  c: 12 B of 10 B used; push is withdrawn
  d: 2 B of 10 B used; push would be given back
  e: not measured; push is withdrawn
`,
	} {
		if diff := cmp.Diff(want, jobText(providers.JobReport{Job: quotaJob, DryRun: dry, Measured: list})); diff != "" {
			t.Error(diff)
		}
	}
}

// timedZot is a mode of a Zot whose robots are ended and renewed by what up does
// by time: ci expires, and deploy's secret goes to a file and is due.
func timedZot(t *testing.T, run string) *robotWorld {
	t.Helper()
	w := newRobotWorld(t)
	write(t, filepath.Join(w.out, "there"), "")
	write(t, w.file, fmt.Sprintf(`version = 1
[registry]
type  = "zot"
url   = "http://%s"
%s
[state]
store = "dir"
dir   = "../../state"
[robot.ci]
expires = "1h"
secret = { value = { env = "OCISYNC_ROOT" } }
[robot.deploy]
expires = "30d"
renew = "10d"
secret = { deliver = { file = %q } }
`, w.address, run, filepath.Join(w.out, "deploy")))
	return w
}

// TestUpEndsAndRenewsTheRobotsOfZotInTime: what `run robots` does nobody need run.
func TestUpEndsAndRenewsTheRobotsOfZotInTime(t *testing.T) {
	dir := t.TempDir()
	conf, accounts := filepath.Join(dir, "zot.json"), filepath.Join(dir, "htpasswd")
	write(t, conf, fmt.Sprintf(`{"storage":{"rootDirectory":%q},"http":{"address":"127.0.0.1","port":"9","auth":{"htpasswd":{"path":%q}},"accessControl":{"repositories":{"**":{"defaultPolicy":[]}}}}}`, filepath.Join(dir, "s"), accounts))
	write(t, accounts, "")
	w := timedZot(t, fmt.Sprintf("files = { config = %q, htpasswd = %q }", conf, accounts))
	w.apply(t)
	own := conf + ".ocisync.json"
	b, err := os.ReadFile(own)
	if err != nil {
		t.Fatal(err)
	}
	made := time.Now().AddDate(0, 0, -25).UTC().Format(time.RFC3339)
	write(t, own, string(regexp.MustCompile(`"made":"[^"]*"`).ReplaceAll(b, []byte(`"made":"`+made+`"`))))
	o := &options{streams: streams{in: strings.NewReader(""), out: io.Discard, err: io.Discard, getenv: func(name string) (string, bool) { v, ok := w.env[name]; return v, ok }}}
	o.mode, o.modes, o.hostFile = "test", w.env["OCISYNC_MODES"], w.env["OCISYNC_HOST_FILE"]
	cfg, err := o.config()
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(accounts)
	if err != nil || !strings.Contains(string(before), "robot$ci:") || !strings.Contains(string(before), "robot$deploy:") {
		t.Fatalf("%s, %v", before, err)
	}
	err = o.attended(t.Context(), cfg, func(ctx context.Context) error {
		for range 500 {
			b, err := os.ReadFile(accounts)
			if s := string(b); err == nil && !strings.Contains(s, "robot$ci:") && strings.Contains(s, "robot$deploy.2:") {
				return nil
			}
			time.Sleep(20 * time.Millisecond)
		}
		return errors.New("nothing was done")
	})
	if err != nil {
		after, _ := os.ReadFile(accounts)
		t.Errorf("%v: %s", err, after)
	}
}

// TestOneProcessStandsBesideAContainer, and goes when it is told to; a mode whose
// Zot has nothing to do by time needs none.
func TestOneProcessStandsBesideAContainer(t *testing.T) {
	w := timedZot(t, `run = { driver = "docker", image = "zot:1", data = "../../data" }`)
	o := &options{streams: streams{in: strings.NewReader(""), out: io.Discard, err: io.Discard, getenv: func(name string) (string, bool) { v, ok := w.env[name]; return v, ok }}}
	o.mode, o.modes, o.hostFile = "test", w.env["OCISYNC_MODES"], w.env["OCISYNC_HOST_FILE"]
	cfg, err := o.config()
	if err != nil {
		t.Fatal(err)
	}
	if !standsBeside(cfg) || standsBeside(&schema.Config{Registry: cfg.Registry}) {
		t.Error("it is not known whether anybody is needed")
	}
	for _, spec := range []schema.Spec{&schema.Quota{}, &schema.Webhook{}, &schema.Mirror{Schedule: new("@daily")}} {
		if !standsBeside(&schema.Config{Registry: cfg.Registry, Desired: schema.State{Resources: []schema.Resource{{Spec: spec}}}}) {
			t.Errorf("nobody is needed for a %T", spec)
		}
	}
	b := &beside{o, cfg}
	said := func(runs bool) string {
		list, err := o.troubles(t.Context(), cfg, runs)
		if err != nil {
			t.Error(err)
		}
		i := slices.IndexFunc(list, func(tr providers.Trouble) bool { return tr.What == "beside" && !tr.Passing })
		if i < 0 {
			return ""
		}
		return list[i].Text
	}
	if pid, err := b.standing(); pid != 0 || err != nil {
		t.Errorf("before: %d, %v", pid, err)
	}
	if said(true) == "" || said(false) != "" {
		t.Errorf("nobody stands there: %q; and it does not run: %q", said(true), said(false))
	}
	ctx, end := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.stand(ctx, commandUp) }()
	pid := 0
	for range 500 {
		if pid, err = b.standing(); err == nil && pid == os.Getpid() {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	if pid != os.Getpid() || err != nil {
		t.Errorf("while it stands: %d, %v", pid, err)
	}
	if text := said(true); text != "" {
		t.Errorf("while it stands: %s", text)
	}
	if err := (&beside{o, cfg}).stand(t.Context(), commandUp); err != nil { // another does
		t.Error(err)
	}
	end()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if pid, err := b.standing(); pid != 0 || err != nil {
		t.Errorf("after: %d, %v", pid, err)
	}
}
