// Command demo shows what ocisync does, on a real registry, in one temporary
// directory: plan, apply, plan again, a push that is allowed and one that is
// not, a rule changed behind ocisync's back, and a mass deletion that is held.
//
//	go run ./testdata/demo
//	go run ./testdata/demo -prod    examples/modes/prod, on a stand-in for Harbor
//
// It needs Go and nothing else. With -check it fails unless it says what
// output.txt (output-prod.txt) beside this file says, ports, digests, paths and
// times apart; the first is what the README shows. -update writes that file. The
// pushing is done by crane, the command of go-containerregistry, and not by ocisync.
// Nothing is left running.
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	check := flag.Bool("check", false, "fail if the output is not the recorded one")
	update := flag.Bool("update", false, "record the output")
	prod := flag.Bool("prod", false, "show examples/modes/prod, on a stand-in for Harbor")
	flag.Parse()
	d := demo{ctx: ctx, mode: "local", recorded: "testdata/demo/output.txt", http: http.Client{Timeout: 10 * time.Second}}
	if *prod {
		d.mode, d.recorded = "prod", "testdata/demo/output-prod.txt"
	}
	d.out = io.MultiWriter(os.Stdout, &d.said)
	err := d.run()
	if err == nil && (*check || *update) {
		err = d.compare(*update)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
		os.Exit(1)
	}
}

type demo struct {
	ctx       context.Context //nolint:containedctx // one run, one context
	mode      string          // of examples/modes
	recorded  string          // the file of what it says, apart from what differs between two runs
	http      http.Client
	out       io.Writer
	said      bytes.Buffer
	unsaid    error // the first that printing met
	dir, bin  string
	env       []string
	addr      string
	passwords map[string]string
}

func (d *demo) run() (err error) {
	if d.dir, err = os.MkdirTemp("", "ocisync-demo-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	if err := d.build(); err != nil {
		return err
	}
	began := time.Now()
	parts := []func() error{d.prepareLocal, d.first, d.served, d.mass}
	if d.mode == "prod" {
		parts = []func() error{d.prepareProd, d.production}
	}
	for _, part := range parts {
		if err := part(); err != nil {
			return err
		}
	}
	d.tell("\nThat took %.1f s after the build; nothing is left running, and %s is removed.\n", time.Since(began).Seconds(), d.dir)
	return d.unsaid
}

func (d *demo) build() error {
	d.bin = filepath.Join(d.dir, "bin")
	programs := [][]string{
		{"build", "-o", filepath.Join(d.bin, "ocisync"), "./cmd/ocisync"},
		{"build", "-modfile=tools/crane.mod", "-o", filepath.Join(d.bin, "crane"), "github.com/google/go-containerregistry/cmd/crane"},
	}
	if d.mode == "prod" {
		d.tell("building ocisync, crane and a stand-in for Harbor ...\n")
		programs = append(programs, []string{"build", "-o", filepath.Join(d.bin, "harbor"), "./testdata/harbor"})
	} else {
		d.tell("building ocisync and crane ...\n")
	}
	for _, args := range programs {
		cmd := exec.CommandContext(d.ctx, "go", args...)
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
		}
	}
	return nil
}

// prepare copies the mode to where it may be changed, with what is made anew for a
// run put in by change, and sets the environment of all commands.
func (d *demo) prepare(change func(text string) string) error {
	l, err := (&net.ListenConfig{}).Listen(d.ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	d.addr = l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	from := filepath.Join("examples", "modes", d.mode)
	if _, err := os.Stat(from); err != nil {
		return fmt.Errorf("%w; run this from the root of the repository", err)
	}
	if err := os.CopyFS(filepath.Join(d.dir, "modes", d.mode), os.DirFS(from)); err != nil {
		return err
	}
	d.env = append(os.Environ(),
		"PATH="+d.bin+string(os.PathListSeparator)+os.Getenv("PATH"),
		"OCISYNC_MODES="+filepath.Join(d.dir, "modes"),
		"XDG_STATE_HOME="+filepath.Join(d.dir, "state"),
		"XDG_CONFIG_HOME="+filepath.Join(d.dir, "config"),
		"DOCKER_CONFIG="+filepath.Join(d.dir, "docker"),
		"HOME="+d.dir,
	)
	d.passwords = map[string]string{}
	return d.edit(change)
}

// edit changes the files of the mode.
func (d *demo) edit(change func(text string) string) error {
	files, err := filepath.Glob(filepath.Join(d.dir, "modes", d.mode, "*.toml"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("the mode %s has no files (%w)", d.mode, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		if err := os.WriteFile(f, []byte(change(string(b))), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// password makes one that any registry takes.
func (d *demo) password(user string) (string, error) {
	b := make([]byte, 12)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	d.passwords[user] = "Aa1" + hex.EncodeToString(b)
	return d.passwords[user], nil
}

// passwordVariables makes the passwords of users, in the variables of those names.
func (d *demo) passwordVariables(names map[string]string) error {
	for user, name := range names {
		word, err := d.password(user)
		if err != nil {
			return err
		}
		d.env = append(d.env, name+"="+word)
	}
	return nil
}

// stateKey makes the key of the inventory, for this environment, and returns its
// public half.
func (d *demo) stateKey() (public string, err error) {
	said, err := d.output("ocisync", "key")
	if err != nil {
		return "", err
	}
	secret, rest, _ := strings.Cut(said, "\n")
	d.env = append(d.env, secret)
	return regexp.MustCompile(`ed25519:[^"]+`).FindString(rest), nil
}

// prepareLocal takes a free port and fresh passwords.
func (d *demo) prepareLocal() error {
	if err := d.prepare(func(text string) string {
		return regexp.MustCompile(`127\.0\.0\.1:\d+|localhost:\d+`).ReplaceAllLiteralString(text, d.addr)
	}); err != nil {
		return err
	}
	if err := d.passwordVariables(map[string]string{
		"provisioning": "OCISYNC_PASSWORD", "developer": "OCISYNC_DEVELOPER_PASSWORD", "tester": "OCISYNC_TESTER_PASSWORD",
	}); err != nil {
		return err
	}
	if _, err := d.stateKey(); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(d.dir, "modes", d.mode, "state.toml"), []byte("[state]\nkey = { env = \"OCISYNC_STATE_KEY\" }\n"), 0o600)
}

// first applies the mode to a registry that does not exist yet.
func (d *demo) first() error {
	d.title("1. What would be done?")
	if err := d.show(0, "to create", "ocisync", "plan", "--mode", "local"); err != nil {
		return err
	}
	d.title("2. Do it.")
	if err := d.show(0, "read them back", "ocisync", "apply", "--mode", "local"); err != nil {
		return err
	}
	d.title("3. And again: no changes.")
	return d.show(0, "no changes", "ocisync", "plan", "--mode", "local", "--detailed-exitcode")
}

// served runs the registry and pushes to it; the registry is stopped before it
// returns.
func (d *demo) served() (err error) {
	d.title("4. Serve it, and push with another tool.")
	d.tell("$ ocisync up --mode local &\n")
	var log bytes.Buffer
	up := exec.CommandContext(d.ctx, filepath.Join(d.bin, "ocisync"), "up", "--mode", "local")
	up.Env, up.Stderr = d.env, &log
	up.Cancel = func() error { return up.Process.Signal(syscall.SIGTERM) }
	up.WaitDelay = 10 * time.Second
	if err := up.Start(); err != nil {
		return err
	}
	defer func() {
		if e := up.Process.Signal(syscall.SIGTERM); e == nil {
			e = up.Wait()
			if e != nil && err == nil {
				err = fmt.Errorf("ocisync up: %w: %s", e, log.String())
			}
		}
	}()
	if err := d.ready(); err != nil {
		return fmt.Errorf("%w: %s", err, log.String())
	}
	if err := d.push(); err != nil {
		return err
	}
	return d.drift()
}

func (d *demo) ready() error {
	ctx, cancel := context.WithTimeout(d.ctx, 10*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.addr+"/healthz", nil)
		if err != nil {
			return err
		}
		if resp, err := d.http.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.New("the registry did not get ready")
}

// layer makes what is pushed.
func (d *demo) layer() (file string, err error) {
	layer := filepath.Join(d.dir, "layer.tar")
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	text := []byte("hello\n")
	if err := w.WriteHeader(&tar.Header{Name: "hello.txt", Mode: 0o644, Size: int64(len(text))}); err != nil {
		return "", err
	}
	if _, err := w.Write(text); err != nil {
		return "", err
	}
	return layer, errors.Join(w.Close(), os.WriteFile(layer, b.Bytes(), 0o600))
}

func (d *demo) login(user string) error {
	_, err := d.output("crane", "auth", "login", d.addr, "-u", user, "-p", d.passwords[user])
	d.tell("$ crane auth login %s -u %s -p ...\n", d.addr, user)
	return err
}

func (d *demo) push() error {
	layer, err := d.layer()
	if err != nil {
		return err
	}
	if err := d.login("developer"); err != nil {
		return err
	}
	if err := d.show(0, "sha256:", "crane", "append", "--insecure", "-f", layer, "-t", d.addr+"/provisioning-extensions/hello:1.0"); err != nil {
		return err
	}
	d.tell("# developer may push extensions, but only pull platform images:\n")
	return d.show(1, "DENIED", "crane", "append", "--insecure", "-f", layer, "-t", d.addr+"/provisioning-platform/hello:1.0")
}

// drift changes a rule behind ocisync's back.
func (d *demo) drift() error {
	d.title("5. Somebody opens a namespace to everybody, behind ocisync's back.")
	body := `{"changes":[{"object":{"key":"access/provisioning-platform","spec":{"anonymous":["pull","push"],"authenticated":["pull"],"users":{"provisioning":["admin"]}}}}]}`
	req, err := http.NewRequestWithContext(d.ctx, http.MethodPost, "http://"+d.addr+"/ocisync/v1/changes", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.SetBasicAuth("provisioning", d.passwords["provisioning"])
	resp, err := d.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("changing the rule: %s", resp.Status)
	}
	d.tell("$ curl -u provisioning:... -H 'Content-Type: application/json' -d '{\"changes\":[...]}' http://%s/ocisync/v1/changes\n", d.addr)
	if err := d.show(2, "drifted", "ocisync", "plan", "--mode", "local", "--detailed-exitcode"); err != nil {
		return err
	}
	if err := d.show(0, "read it back", "ocisync", "apply", "--mode", "local"); err != nil {
		return err
	}
	return d.show(0, "no changes", "ocisync", "plan", "--mode", "local", "--detailed-exitcode")
}

// mass deletes every namespace from the file.
func (d *demo) mass() error {
	d.title("6. A commit loses every namespace, and lets ocisync delete namespaces.")
	if err := d.edit(withoutNamespaces); err != nil {
		return err
	}
	if err := d.show(4, "Held", "ocisync", "apply", "--mode", "local"); err != nil {
		return err
	}
	d.tell("# nothing was deleted: it waits for somebody to approve that digest\n")
	return nil
}

// withoutNamespaces drops every [namespace...] table, and names the kind in
// policy.prune.
func withoutNamespaces(text string) string {
	return regexp.MustCompile(`(?m)^prune.*`).ReplaceAllLiteralString(without(text, "[namespace."), `prune = ["namespace"]`)
}

// without drops the tables whose heads begin so.
func without(text string, heads ...string) string {
	var out strings.Builder
	keep := true
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "[") {
			keep = !slices.ContainsFunc(heads, func(head string) bool { return strings.HasPrefix(line, head) })
		}
		if keep {
			out.WriteString(line)
		}
	}
	return out.String()
}

func (d *demo) title(s string) { d.tell("\n== %s\n", s) }

// tell prints, and keeps the first error for run.
func (d *demo) tell(format string, args ...any) {
	if _, err := fmt.Fprintf(d.out, format, args...); err != nil && d.unsaid == nil {
		d.unsaid = err
	}
}

func (d *demo) output(name string, args ...string) (string, error) {
	cmd := exec.CommandContext(d.ctx, filepath.Join(d.bin, name), args...)
	cmd.Env = d.env
	b, err := cmd.CombinedOutput()
	if err != nil {
		return string(b), fmt.Errorf("%s %s: %w: %s", name, args[0], err, b)
	}
	return string(b), nil
}

// show runs a command, prints what it says, and fails if its exit code or its
// words are others than promised.
func (d *demo) show(code int, words, name string, args ...string) error {
	d.tell("$ %s %s\n", name, strings.ReplaceAll(strings.Join(args, " "), d.dir+"/", ""))
	cmd := exec.CommandContext(d.ctx, filepath.Join(d.bin, name), args...)
	cmd.Env = d.env
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	d.tell("%s", indent(string(b)))
	if got := cmd.ProcessState.ExitCode(); got != code {
		return fmt.Errorf("%s %s: exit code %d, not %d", name, args[0], got, code)
	}
	if !strings.Contains(string(b), words) {
		return fmt.Errorf("%s %s does not say %q", name, args[0], words)
	}
	return nil
}

func indent(s string) string {
	var sb strings.Builder
	for line := range strings.Lines(s) {
		if line != "\n" {
			line = "  " + line
		}
		sb.WriteString(line)
	}
	return sb.String()
}
