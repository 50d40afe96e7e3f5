package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// prepareProd makes the secrets that the mode names, and puts in where they lie and
// where the stand-in is. Who delivers a robot's secret, the host file says.
func (d *demo) prepareProd() error {
	secrets, delivered := filepath.Join(d.dir, "secrets"), filepath.Join(d.dir, "delivered")
	if err := d.prepare(func(text string) string {
		text = strings.NewReplacer(
			"https://harbor.production.example", "https://"+d.addr,
			"/run/secrets/", secrets+"/",
			"/run/ocisync/", delivered+"/",
		).Replace(text)
		// what is allowed until a day that is over by now, is not allowed
		until := time.Now().AddDate(0, 0, 60).Format(time.DateOnly)
		return regexp.MustCompile(`until = [0-9-]+`).ReplaceAllLiteralString(text, "until = "+until)
	}); err != nil {
		return err
	}
	if err := d.passwordVariables(map[string]string{
		"ocisync": "OCISYNC_PASSWORD", "admin": "OCISYNC_ADMIN_PASSWORD",
		"hub": "OCISYNC_HUB_TOKEN", "dr": "OCISYNC_DR_TOKEN", "hook": "OCISYNC_CI_HOOK",
	}); err != nil {
		return err
	}
	public, err := d.stateKey()
	if err != nil {
		return err
	}
	if err := d.edit(func(text string) string {
		return regexp.MustCompile(`(?m)^(verify\s*= )"ed25519:.*"`).ReplaceAllString(text, `$1"`+public+`"`)
	}); err != nil {
		return err
	}
	for _, dir := range []string{secrets, delivered} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	for _, user := range []string{"provisioning", "developer", "tester"} {
		word, err := d.password(user)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(secrets, user), []byte(word+"\n"), 0o600); err != nil {
			return err
		}
	}
	return d.host(secrets, delivered)
}

// host writes the operator's file, with a command in the place of a vault's.
func (d *demo) host(secrets, delivered string) error {
	put := filepath.Join(d.bin, "vault-put")
	script := fmt.Sprintf("#!/bin/sh\ncat >%s/vault\n", delivered)
	if err := os.WriteFile(put, []byte(script), 0o700); err != nil { //nolint:gosec // it is run
		return err
	}
	file := filepath.Join(d.dir, "host.toml")
	d.env = append(d.env, "OCISYNC_HOST_FILE="+file)
	return os.WriteFile(file, fmt.Appendf(nil, "[secrets]\ndirs = [%q]\ndeliver = [%q]\n[command.vault-put]\nrun = [%q]\n", secrets, delivered, put), 0o600)
}

// production shows the mode while a stand-in runs.
func (d *demo) production() (err error) {
	var log bytes.Buffer
	stand := exec.CommandContext(d.ctx, filepath.Join(d.bin, "harbor"), "-listen", d.addr, "-password", d.passwords["admin"],
		"-robot", "ocisync:"+d.passwords["ocisync"], "-ca", filepath.Join(d.dir, "modes", d.mode, "certs", "internal-ca.pem"))
	stand.Stderr = &log
	stand.Cancel = func() error { return stand.Process.Signal(syscall.SIGTERM) }
	stand.WaitDelay = 10 * time.Second
	said, err := stand.StdoutPipe()
	if err != nil {
		return err
	}
	if err := stand.Start(); err != nil {
		return err
	}
	defer func() {
		if e := errors.Join(stand.Process.Signal(syscall.SIGTERM), stand.Wait()); e != nil {
			err = errors.Join(err, fmt.Errorf("the stand-in for Harbor: %w: %s", e, log.String()))
		}
	}()
	if _, err := bufio.NewReader(said).ReadString('\n'); err != nil {
		return fmt.Errorf("the stand-in for Harbor said nothing: %w", err)
	}
	d.tell("# examples/modes/prod as it is, but for its address, where its secrets lie, the key\n" +
		"# of its inventory and the certificate: those are made for this run\n")
	for _, part := range []func() error{d.prodFirst, d.prodPush, d.prodDrift, d.prodHeld} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// prodFirst applies the mode to a Harbor with nothing in it.
func (d *demo) prodFirst() error {
	d.title("1. What would be done?")
	if err := d.show(0, "valid", "ocisync", "validate", "--mode", "prod"); err != nil {
		return err
	}
	if err := d.show(0, "to create", "ocisync", "plan", "--mode", "prod"); err != nil {
		return err
	}
	d.tell("# What is not as the file has it, the notes say: no backup is made by schedule, windows hold\n" +
		"# nothing back, and of Harbor descriptions of namespaces, the ends of scan.allow, and\n" +
		"# trust.keys. There is no watcher yet, which alone goes by the rest of [watch].\n")
	d.title("2. Do it. One object has to wait: Harbor makes a repository with the first push to it.")
	return d.show(5, "44 done, 1 pending", "ocisync", "apply", "--mode", "prod")
}

// prodPush brings what was waited for, and sees that nothing is left.
func (d *demo) prodPush() error {
	d.title("3. Somebody pushes, with another tool; apply again; and then: no changes.")
	layer, err := d.layer()
	if err != nil {
		return err
	}
	if err := d.login("developer"); err != nil {
		return err
	}
	d.tell("# developer may only pull platform images:\n")
	push := []string{"append", "--insecure", "-f", layer, "-t", d.addr + "/provisioning-platform/api:release-1"}
	if err := d.show(1, "UNAUTHORIZED", "crane", push...); err != nil {
		return err
	}
	if err := d.login("provisioning"); err != nil {
		return err
	}
	if err := d.show(0, "sha256:", "crane", push...); err != nil {
		return err
	}
	if err := d.show(0, "read it back", "ocisync", "apply", "--mode", "prod"); err != nil {
		return err
	}
	return d.show(0, "no changes", "ocisync", "plan", "--mode", "prod", "--detailed-exitcode")
}

// prodDrift changes a project behind ocisync's back.
func (d *demo) prodDrift() error {
	d.title("4. Somebody makes a project public in the portal, behind ocisync's back.")
	const path, body = "/api/v2.0/projects/provisioning-platform", `{"metadata":{"public":"true"}}`
	req, err := http.NewRequestWithContext(d.ctx, http.MethodPut, "https://"+d.addr+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.SetBasicAuth("admin", d.passwords["admin"])
	client, err := d.trusting()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("making the project public: %s", resp.Status)
	}
	d.tell("$ curl -u admin:... -X PUT -H 'Content-Type: application/json' -d '%s' https://%s%s\n", body, d.addr, path)
	if err := d.show(2, "drifted", "ocisync", "plan", "--mode", "prod", "--detailed-exitcode"); err != nil {
		return err
	}
	if err := d.show(0, "read it back", "ocisync", "apply", "--mode", "prod"); err != nil {
		return err
	}
	return d.show(0, "no changes", "ocisync", "plan", "--mode", "prod", "--detailed-exitcode")
}

// prodHeld deletes from the file what the mode lets ocisync delete, and what not.
func (d *demo) prodHeld() error {
	d.title("5. A commit loses robots, labels and a project.")
	if err := d.edit(func(text string) string {
		return without(text, "[robot.", "[label.", "[namespace.provisioning-test")
	}); err != nil {
		return err
	}
	if err := d.show(4, "Held", "ocisync", "apply", "--mode", "prod"); err != nil {
		return err
	}
	d.tell("# nothing was deleted: it waits for somebody to approve that digest\n")
	return nil
}

// trusting believes the certificate of the stand-in and no other.
func (d *demo) trusting() (*http.Client, error) {
	text, err := os.ReadFile(filepath.Join(d.dir, "modes", d.mode, "certs", "internal-ca.pem"))
	if err != nil {
		return nil, err
	}
	known := x509.NewCertPool()
	known.AppendCertsFromPEM(text)
	return &http.Client{Timeout: d.http.Timeout, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: known, MinVersion: tls.VersionTLS12}}}, nil
}
