//go:build integration

package ocisync_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/runtime/enginetest"
)

// TestIntegrationApplyFromAnotherHost has a registry on one machine, and plans
// and applies on another, which has the modes and a login and nothing of the
// registry's files: its data directory is hidden from it.
func TestIntegrationApplyFromAnotherHost(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can hide a directory from a process")
	}
	if _, err := exec.LookPath("unshare"); err != nil {
		t.Skip("there is no unshare")
	}
	zot, distribution := enginetest.Servers(t, ".")
	for typ, program := range map[string]string{"zot": zot, "distribution": distribution} {
		t.Run(typ, func(t *testing.T) { fromAfar(t, typ, program) })
	}
}

func fromAfar(t *testing.T, typ, program string) {
	t.Helper()
	url, tokens := strings.Replace("http://"+porttest.Address(t), "127.0.0.1", "localhost", 1), strings.Replace("http://"+porttest.Address(t), "127.0.0.1", "localhost", 1)
	here, there := newSite(t, url, ""), newSite(t, url, "")
	data := filepath.Join(here.dir, "host", "data")
	hides := fmt.Sprintf("#!/bin/sh\nexec unshare -m sh -c 'mount -t tmpfs none %s && exec \"$@\"' sh %s \"$@\"\n", filepath.Dir(data), there.bin)
	there.write("elsewhere", hides)
	there.bin = filepath.Join(there.dir, "elsewhere")
	if err := errors.Join(os.Chmod(there.bin, 0o700), os.MkdirAll(filepath.Dir(data), 0o700)); err != nil {
		t.Fatal(err)
	}
	token := ""
	if typ == "distribution" {
		token = fmt.Sprintf("token = { url = %q, listen = %q }", tokens, strings.TrimPrefix(tokens, "http://"))
	}
	mode := func(more string) {
		t.Helper()
		for _, s := range []*site{here, there} {
			s.write("modes/m/m.toml", fmt.Sprintf(`version = 1
[registry]
type = %q
url = %q
login = { user = "root", password = { env = "OCISYNC_PASSWORD" } }
%s
[registry.run]
driver = "process"
binary = %q
data = %q
[state]
store = "registry"
key = { env = "OCISYNC_STATE_KEY" }
[user.root]
admin = true
password = { env = "OCISYNC_PASSWORD" }
[namespace.team]
description = "team"
access.users.root = ["admin"]
%s`, typ, url, token, program, data, more))
		}
	}
	says := func(out string, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(out, w) {
				t.Errorf("it does not say %q:\n%s", w, out)
			}
		}
	}
	mode("")
	for _, s := range []*site{here, there} {
		says(s.must(1, "plan"), "say --new", "another host")
	}
	here.must(0, "up", "--detach")
	t.Cleanup(func() {
		if out, err := here.command(context.Background(), "down").CombinedOutput(); err != nil {
			t.Errorf("down: %v: %s", err, out)
		}
	})
	here.must(0, "apply")
	says(there.must(0, "plan", "--detailed-exitcode"), "as recorded at")
	if typ == "distribution" {
		keep := "retention.keep = [{ newest = 1 }]\n"
		mode(keep)
		here.must(0, "apply")
		for _, args := range [][]string{{"run", "retention"}, {"run", "retention", "--dry-run"}, {"run", "gc"}, {"run", "quota"}} {
			says(there.must(4, args...), "runs on another host", "run `ocisync "+args[0]+" "+args[1]+"` there")
		}
		says(there.must(0, "retention", "preview"), "0 kept, 0 to remove")
		says(here.must(0, "run", "retention"), "nothing to remove")
	}
	native := "[registry." + typ + "]\nlog.level = "
	mode(native + "\"info\"\n")
	here.must(0, "apply")
	mode(native + "\"debug\"\n")
	_, near := here.plan()
	if _, far := there.plan(); far != near {
		t.Errorf("the plan has digest %s on the host and %s elsewhere", near, far)
	}
	says(there.must(2, "plan", "--detailed-exitcode"), "as recorded at", "by-hand")
	says(there.must(5, "apply"), "pending on the host", "ocisync apply")
	if entries, err := os.ReadDir(filepath.Dir(data)); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	began := time.Now()
	says(there.must(5, "apply", "--wait=2s"), "waited 2s", "1 change pending", "run there")
	if took := time.Since(began); took < 2*time.Second || took > 20*time.Second {
		t.Errorf("it waited %s", took)
	}
	wait := func() (*exec.Cmd, *bytes.Buffer) {
		t.Helper()
		var out bytes.Buffer
		cmd := there.command(t.Context(), "apply", "--wait")
		pipe, err := cmd.StderrPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(pipe)
		for lines.Scan() && !strings.Contains(lines.Text(), "waiting 10m0s") {
		}
		go func() {
			for lines.Scan() {
				out.WriteString(lines.Text() + "\n")
			}
		}()
		return cmd, &out
	}
	cmd, out := wait()
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 130 {
		t.Errorf("%v: %s", err, out)
	}
	cmd, out = wait()
	here.must(0, "apply")
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	says(there.must(0, "plan", "--detailed-exitcode"), "no changes")
	here.must(0, "down")
	says(here.must(1, "plan"), "must run", "ocisync up")
	if out := there.must(1, "plan"); strings.Contains(out, "--new") {
		t.Errorf("a registry that is known is not a new one: %s", out)
	}
}
