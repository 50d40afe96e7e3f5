// Package enginetest gives tests a Docker engine and images that are made on
// the spot: nothing is pulled.
//
// Begin with [Start].
package enginetest

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	"github.com/gofrs/flock"
)

// Engine is a Docker engine, until its test ends.
type Engine struct {
	// Host is where it answers, as in DOCKER_HOST, which is set to it.
	Host   string
	Client *client.Client
	t      testing.TB
}

// Start finds the engine that DOCKER_HOST names or that this host has. Where
// none answers, root starts one of its own with dockerd, which ends with the
// test; without root or dockerd the test is skipped. Tests of several packages
// take turns.
func Start(t testing.TB) *Engine {
	t.Helper()
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{c.DaemonHost(), c, t}
	if _, err := c.Ping(t.Context()); err != nil {
		program, err := exec.LookPath("dockerd")
		switch {
		case os.Geteuid() != 0:
			t.Skipf("driver docker is not tested: no engine answers at %s, and only root can start one", e.Host)
		case err != nil:
			t.Skip("driver docker is not tested: there is no dockerd; install docker.io")
		}
		e.own(program)
	}
	t.Cleanup(func() {
		if err := e.Client.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// own starts an engine that touches nothing of one that could be started
// beside: files, socket and network are its own, and no rule of the host's
// firewall is made. Ports are published by its proxy.
func (e *Engine) own(program string) {
	t := e.t
	t.Helper()
	turn := flock.New(filepath.Join(os.TempDir(), "ocisync-enginetest.lock"))
	if err := turn.Lock(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := turn.Close(); err != nil {
			t.Error(err)
		}
	})
	dir, err := os.MkdirTemp("", "ocisync-engine-") // a short path, for its sockets
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	e.Host = "unix://" + filepath.Join(dir, "sock")
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, "--host", e.Host, "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"), "--bridge", "none", "--iptables=false", "--ip-masq=false")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // its log says more
	}()
	t.Cleanup(func() {
		e.empty()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			t.Error("dockerd does not end; it is killed")
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
		if err := errors.Join(log.Close(), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("DOCKER_HOST", e.Host)
	if e.Client, err = client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation()); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		_, err := e.Client.Ping(t.Context())
		if err == nil {
			return
		}
		select {
		case <-ended:
			end = time.Now()
		default:
		}
		if time.Now().After(end) {
			said, _ := os.ReadFile(log.Name())
			t.Fatalf("dockerd does not answer: %v; its log ends:\n%s", err, said[max(0, len(said)-2000):])
		}
	}
}

// empty removes what a test that failed left: a bridge would outlive the engine.
func (e *Engine) empty() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	list, err := e.Client.ContainerList(ctx, container.ListOptions{All: true})
	for _, c := range list {
		err = errors.Join(err, e.Client.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true}))
	}
	_, pruned := e.Client.NetworksPrune(ctx, filters.NewArgs())
	if err = errors.Join(err, pruned); err != nil {
		e.t.Errorf("emptying the engine: %v", err)
	}
}

// Foreign makes a container of a name that nobody of ours made; remove it with
// what is returned.
func (e *Engine) Foreign(name, ref string) (remove func()) {
	e.t.Helper()
	made, err := e.Client.ContainerCreate(e.t.Context(), &container.Config{Image: ref}, nil, nil, nil, name)
	if err != nil {
		e.t.Fatal(err)
	}
	return func() {
		e.t.Helper()
		if err := e.Client.ContainerRemove(e.t.Context(), made.ID, container.RemoveOptions{}); err != nil {
			e.t.Fatal(err)
		}
	}
}

// Network makes a network that several containers share, until the test ends.
func (e *Engine) Network(name string) {
	e.t.Helper()
	if _, err := e.Client.NetworkCreate(e.t.Context(), name, network.CreateOptions{}); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() {
		if err := e.Client.NetworkRemove(context.Background(), name); err != nil {
			e.t.Error(err)
		}
	})
}

// Alike makes networks of one name with a label, as processes do that make them at
// the same time. An engine of API version 1.44 or later makes no second one.
func (e *Engine) Alike(name, label string, count int) {
	e.t.Helper()
	body, err := json.Marshal(network.CreateRequest{Name: name, CreateOptions: network.CreateOptions{Driver: "bridge", Labels: map[string]string{label: "test"}}})
	if err != nil {
		e.t.Fatal(err)
	}
	for range count {
		req, err := http.NewRequestWithContext(e.t.Context(), http.MethodPost, "http://engine/v1.41/networks/create", bytes.NewReader(body))
		if err != nil {
			e.t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := e.Client.HTTPClient().Do(req)
		if err != nil {
			e.t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusConflict {
			e.t.Fatalf("making network %s: status %d", name, resp.StatusCode)
		}
	}
}

// Gateway is this host's address in a network.
func (e *Engine) Gateway(name string) string {
	e.t.Helper()
	n, err := e.Client.NetworkInspect(e.t.Context(), name, network.InspectOptions{})
	if err != nil || len(n.IPAM.Config) == 0 {
		e.t.Fatalf("network %s: %v, %v", name, n.IPAM.Config, err)
	}
	return n.IPAM.Config[0].Gateway
}

// Image makes an image of one static program, which it is named by.
func (e *Engine) Image(ref, program string) {
	e.t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	text, err := os.ReadFile(program)
	if err != nil {
		e.t.Fatalf("%v; make servers builds it", err)
	}
	if err = w.WriteHeader(&tar.Header{Name: "registry", Mode: 0o755, Size: int64(len(text))}); err == nil {
		_, err = w.Write(text)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		e.t.Fatal(err)
	}
	r, err := e.Client.ImageImport(e.t.Context(), image.ImportSource{Source: &b, SourceName: "-"}, ref, image.ImportOptions{Changes: []string{`ENTRYPOINT ["/registry"]`}})
	if err != nil {
		e.t.Fatal(err)
	}
	defer r.Close()
	if said, err := io.ReadAll(r); err != nil || bytes.Contains(said, []byte(`"error"`)) {
		e.t.Fatalf("importing %s: %v: %s", ref, err, said)
	}
	e.t.Cleanup(func() {
		_, _ = e.Client.ImageRemove(context.Background(), ref, image.RemoveOptions{Force: true})
	})
}

// Servers are the programs that make servers builds; root is the way to the
// module's root.
func Servers(t testing.TB, root string) (zot, distribution string) {
	t.Helper()
	zot, _ = Zot(t, root)
	return zot, server(t, root, "distribution")
}

// Zot is the one that make servers builds, 2.1.6, unless the environment names
// another in OCISYNC_ZOT; later says that it is a later version.
func Zot(t testing.TB, root string) (program string, later bool) {
	t.Helper()
	if program = os.Getenv("OCISYNC_ZOT"); program == "" {
		program = server(t, root, "zot")
	}
	cmd := exec.CommandContext(t.Context(), program, "schema") //nolint:gosec // whoever tests names it; 2.1.6 has no such command
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatalf("OCISYNC_ZOT: %v", err)
	}
	return program, cmd.ProcessState.Success()
}

func server(t testing.TB, root, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(root, "bin", "servers", name))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatal(fmt.Errorf("%w; make servers builds it", err))
	}
	return path
}
