//go:build integration

package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/porttest"
)

// TestOCIConformance runs the suite of the OCI distribution specification,
// built from its module, against `ocisync up` with authentication on. Left out
// is sha512, which Distribution does not store.
func TestOCIConformance(t *testing.T) {
	dir := t.TempDir()
	ocisync, suite := filepath.Join(dir, "ocisync"), filepath.Join(dir, "conformance")
	command(t, "../..", nil, "go", "build", "-o", ocisync, "./cmd/ocisync")
	command(t, "../..", nil, "go", "build", "-modfile=tools/conformance.mod", "-o", suite, "github.com/opencontainers/distribution-spec/conformance")

	address := porttest.Address(t)
	write(t, filepath.Join(dir, "modes", "test", "test.toml"), fmt.Sprintf(`version = 1
[registry]
type  = "distribution"
url   = "http://%[1]s"
login = { user = "root", password = { env = "OCISYNC_ROOT" } }
run   = { driver = "embedded", data = "../../data", listen = "%[1]s" }
[state]
store = "dir"
dir   = "../../state"
[user.root]
admin    = true
password = { env = "OCISYNC_ROOT" }
[user.tester]
password = { env = "OCISYNC_TESTER" }
[namespace.conformance.access]
users.tester = ["pull", "push", "delete"]
`, address))
	env := append(os.Environ(),
		"OCISYNC_ROOT=root password", "OCISYNC_TESTER=tester password", "OCISYNC_MODE=test",
		"HOME="+dir, "XDG_CONFIG_HOME=", "XDG_STATE_HOME="+filepath.Join(dir, "machine"))
	command(t, dir, env, ocisync, "apply")
	serve(t, dir, env, address, ocisync, "up")

	results := filepath.Join(dir, "results")
	run := exec.Command(suite)
	run.Dir = dir
	run.Env = append(os.Environ(),
		"OCI_VERSION=1.1", "OCI_REGISTRY="+address, "OCI_TLS=disabled", "OCI_RESULTS_DIR="+results,
		"OCI_USERNAME=tester", "OCI_PASSWORD=tester password", "OCI_DATA_SHA512=false")
	out, runErr := run.CombinedOutput()

	b, err := os.ReadFile(filepath.Join(results, "junit.xml"))
	if err != nil {
		t.Fatalf("%v\n%s", errors.Join(runErr, err), out)
	}
	var report struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Errors   int `xml:"errors,attr"`
		Skipped  int `xml:"skipped,attr"`
		Disabled int `xml:"disabled,attr"`
		Cases    []struct {
			Name   string `xml:"name,attr"`
			Status string `xml:"status,attr"`
			Why    string `xml:"system-out"`
		} `xml:"testsuite>testcase"`
	}
	if err := xml.Unmarshal(b, &report); err != nil {
		t.Fatal(err)
	}
	for _, c := range report.Cases {
		switch c.Status {
		case "passed":
		case "skipped":
			t.Logf("skipped: %s: %s", c.Name, c.Why)
		default:
			t.Errorf("%s: %s: %s", c.Status, c.Name, c.Why)
		}
	}
	passed := report.Tests - report.Failures - report.Errors - report.Skipped - report.Disabled
	t.Logf("OCI distribution specification 1.1: %d passed, %d failed, %d skipped, %d disabled", passed, report.Failures+report.Errors, report.Skipped, report.Disabled)
	if runErr != nil {
		t.Errorf("the suite: %v", runErr)
	}
	if passed < 700 {
		t.Errorf("only %d passed: a part of the suite did not run", passed)
	}
}

func command(t *testing.T, dir string, env []string, name string, args ...string) {
	t.Helper()
	c := exec.Command(name, args...)
	c.Dir, c.Env = dir, env
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", c, err, out)
	}
}

// serve runs a registry until the test ends.
func serve(t *testing.T, dir string, env []string, address, name string, args ...string) {
	t.Helper()
	var log bytes.Buffer
	c := exec.Command(name, args...)
	c.Dir, c.Env, c.Stdout, c.Stderr = dir, env, &log, &log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.Process.Signal(syscall.SIGTERM), c.Wait()); err != nil {
			t.Errorf("%s: %v\n%s", c, err, log.String())
		}
	})
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s does not answer at %s", name, address)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
