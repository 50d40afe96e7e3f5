//go:build integration

package runtime

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/runtime/enginetest"
	"github.com/ocisync/ocisync/schema"
)

// site is a real registry with the least configuration it runs with.
type site struct {
	*testing.T
	options Options
	address string
}

// newReal is a registry of a type; listen is what its configuration says.
func newReal(t *testing.T, typ, program, imageRef string) *site {
	t.Helper()
	r := &site{T: t, address: porttest.Address(t)}
	data := t.TempDir()
	driver, listen := schema.DriverProcess, r.address
	if imageRef != "" {
		driver, listen = schema.DriverDocker, "0.0.0.0:5000"
	}
	host, port, _ := strings.Cut(listen, ":")
	launch := Launch{Grace: 5 * time.Second, Port: 5000, Mounts: []Mount{{data, true}}}
	var config, text string
	switch typ {
	case schema.TypeZot:
		config = filepath.Join(data, "config.json")
		text = fmt.Sprintf(`{"distSpecVersion": "1.1.1", "storage": {"rootDirectory": %q}, "http": {"address": %q, "port": %q}}`, filepath.Join(data, "storage"), host, port)
	case schema.TypeDistribution:
		config = filepath.Join(data, "config.yml")
		text = fmt.Sprintf("version: 0.1\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q, draintimeout: 2s}\n", filepath.Join(data, "storage"), listen)
		launch.Env = []string{"OTEL_TRACES_EXPORTER=none"}
	}
	launch.Args = []string{"serve", config}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r.options = Options{
		Mode: "rt-" + typ,
		Registry: schema.Registry{Type: typ, URL: "http://" + r.address, Run: &schema.Run{
			Driver: driver, Data: data, Binary: program, Image: imageRef,
		}},
		Launch: func(context.Context) (Launch, error) { return launch, nil },
		Ready: func(ctx context.Context, address string) error {
			return get(ctx, "http://"+address+"/v2/", nil)
		},
		Log:      filepath.Join(data, typ+".log"),
		Patience: Patience{Delay: 50 * time.Millisecond, Ready: 20 * time.Second},
	}
	return r
}

func (r *site) must(doing string, err error) {
	r.Helper()
	if err != nil {
		r.Fatalf("%s: %v", doing, err)
	}
}

func (r *site) ref(tag string) name.Reference {
	r.Helper()
	ref, err := name.ParseReference(r.options.listen()+"/"+tag, name.Insecure)
	r.must("a reference", err)
	return ref
}

// push pushes an image as a/b:1 and returns its digest.
func (r *site) push() string {
	r.Helper()
	im, err := random.Image(256, 1)
	r.must("an image", err)
	im = mutate.ConfigMediaType(mutate.MediaType(im, types.OCIManifestSchema1), types.OCIConfigJSON)
	r.must("pushing", remote.Write(r.ref("a/b:1"), im, remote.WithTransport(&http.Transport{DisableKeepAlives: true})))
	d, err := im.Digest()
	r.must("a digest", err)
	return d.String()
}

func (r *site) has(digest string) {
	r.Helper()
	d, err := remote.Head(r.ref("a/b:1"), remote.WithTransport(&http.Transport{DisableKeepAlives: true}))
	if err != nil || d.Digest.String() != digest {
		r.Errorf("a/b:1: %v, %v; want %s", d, err, digest)
	}
}

func TestIntegrationRealRegistriesRunAsProcesses(t *testing.T) {
	zot, distribution := enginetest.Servers(t, filepath.Join("..", ".."))
	for typ, program := range map[string]string{schema.TypeZot: zot, schema.TypeDistribution: distribution} {
		t.Run(typ, func(t *testing.T) {
			r := newReal(t, typ, program, "")
			p, err := NewProcess(r.options)
			r.must("options", err)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended, started := make(chan error, 1), make(chan Status, 1)
			go func() { ended <- p.Supervise(ctx, "test", func(s Status, _ Outcome) { started <- s }) }()
			var first Status
			select {
			case first = <-started:
			case err := <-ended:
				t.Fatal(err)
			}
			digest := r.push()
			f, err := os.OpenFile(p.o.own(aliveFile), os.O_RDWR, 0)
			r.must("its lock", err)
			defer f.Close()
			if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
				t.Errorf("it does not keep its lock: %v", err)
			}
			r.must("killing it", syscall.Kill(first.PID, syscall.SIGKILL))
			again := first
			for end := time.Now().Add(20 * time.Second); !again.Running || again.ID == first.ID; time.Sleep(20 * time.Millisecond) {
				if again, err = p.Status(t.Context()); err != nil || time.Now().After(end) {
					t.Fatalf("it is not started again: %+v, %v", again, err)
				}
			}
			r.must("start", p.Start(t.Context())) // waits until it is ready
			r.has(digest)
			began := time.Now()
			_, err = p.Restart(t.Context())
			r.must("restart", err)
			t.Logf("restarted in %s", time.Since(began).Round(time.Millisecond))
			r.has(digest)
			log, err := p.Log(t.Context())
			r.must("log", err)
			defer log.Close()
			if b, err := io.ReadAll(log); err != nil || len(b) == 0 {
				t.Errorf("its log: %q, %v", b, err)
			}
			cancel()
			r.must("ending", <-ended)
		})
	}
}

func TestIntegrationAConfigurationThatIsWrongIsSaid(t *testing.T) {
	zot, distribution := enginetest.Servers(t, filepath.Join("..", ".."))
	for typ, program := range map[string]string{schema.TypeZot: zot, schema.TypeDistribution: distribution} {
		t.Run(typ, func(t *testing.T) {
			r := newReal(t, typ, program, "")
			l, err := r.options.Launch(t.Context())
			r.must("launch", err)
			r.must("a file", os.WriteFile(l.Args[1], []byte("{ no such"), 0o600))
			p, err := NewProcess(r.options)
			r.must("options", err)
			err = p.Supervise(t.Context(), "test", func(Status, Outcome) { t.Error("it started") })
			wantError(t, err, ErrDied, "exit status 1", "its log said last")
			t.Log(err)
		})
	}
}

// TestIntegrationContainers has the tests that share an engine.
func TestIntegrationContainers(t *testing.T) {
	zot, distribution := enginetest.Servers(t, filepath.Join("..", ".."))
	e := enginetest.Start(t)
	images := map[string]string{schema.TypeZot: "ocisync.test/zot:1", schema.TypeDistribution: "ocisync.test/distribution:1"}
	e.Image(images[schema.TypeZot], zot)
	e.Image(images[schema.TypeDistribution], distribution)
	for typ, ref := range images {
		t.Run(typ, func(t *testing.T) {
			t.Run("Life", func(t *testing.T) { containerLives(t, e, typ, ref) })
			t.Run("Strangers", func(t *testing.T) { containerIsMadeByHand(t, e, typ, ref) })
			t.Run("Failures", func(t *testing.T) { containerFails(t, e, typ, ref) })
		})
	}
	t.Run("Pull", func(t *testing.T) { containerIsPulled(t, e, images[schema.TypeDistribution], images[schema.TypeZot]) })
}

func (r *site) container() *Container {
	r.Helper()
	c, err := NewContainer(r.options)
	r.must("options", err)
	r.Cleanup(func() { r.must("down", c.Down(context.Background())) })
	return c
}

func containerLives(t *testing.T, e *enginetest.Engine, typ, ref string) {
	t.Helper()
	r := newReal(t, typ, "", ref)
	if os.Geteuid() == 0 { // as somebody, whom the data belongs to
		r.must("chown", filepath.WalkDir(r.options.Registry.Run.Data, func(path string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Chown(path, 4711, 4712))
		}))
	}
	c := r.container()
	began := time.Now()
	_, err := c.Up(t.Context())
	r.must("up", err)
	t.Logf("up in %s", time.Since(began).Round(time.Millisecond))
	if out, err := c.Up(t.Context()); err != nil || !out.Already {
		t.Errorf("up again: %+v, %v", out, err)
	}
	made, err := e.Client.ContainerInspect(t.Context(), c.name())
	r.must("inspect", err)
	h := made.HostConfig
	_, port, _ := strings.Cut(r.address, ":")
	got := map[string]string{
		"read-only":  fmt.Sprint(h.ReadonlyRootfs),
		"dropped":    fmt.Sprint(h.CapDrop),
		"security":   fmt.Sprint(h.SecurityOpt),
		"privileged": fmt.Sprint(h.Privileged),
		"ports":      fmt.Sprint(made.NetworkSettings.Ports),
		"network":    string(h.NetworkMode),
		"restart":    string(h.RestartPolicy.Name),
		"user":       made.Config.User,
		"health":     fmt.Sprint(made.Config.Healthcheck.Test),
		"mounts":     fmt.Sprint(len(made.Mounts)),
	}
	want := map[string]string{
		"read-only": "true", "dropped": "[ALL]", "security": "[no-new-privileges]", "privileged": "false",
		"ports": "map[5000/tcp:[{127.0.0.1 " + port + "}]]", "network": "ocisync-rt-" + typ, "restart": "unless-stopped",
		"user": "4711:4712", "mounts": "1", "health": "[NONE]",
	}
	if os.Geteuid() != 0 {
		want["user"] = fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the container (-want +got):\n%s", d)
	}
	digest := r.push()
	first, err := c.Status(t.Context())
	if err != nil || !first.Running || !strings.Contains(first.Supervisor, "Docker engine") {
		t.Errorf("status: %+v, %v", first, err)
	}
	// another port is another container, and the same content
	r.options.Registry.Run.Listen = porttest.Address(t)
	c = r.container()
	d, err := c.Differences(t.Context())
	if err != nil || len(d) != 1 || d[0].What != "address" {
		t.Errorf("differences: %v, %v", d, err)
	}
	out, err := c.Up(t.Context())
	if err != nil || len(out.Changed) != 1 {
		t.Fatalf("up: %+v, %v", out, err)
	}
	r.has(digest)
	// one that dies leaves what was
	before, err := c.Status(t.Context())
	r.must("status", err)
	r.options.Registry.Run.Args = []string{"--no-such-flag"}
	_, err = r.container().Up(t.Context())
	wantError(t, err, ErrDied, "its log said last: Error: unknown flag: --no-such-flag", "it runs again as before")
	t.Log(err)
	r.has(digest)
	if now, err := c.Status(t.Context()); err != nil || !now.Running || strings.SplitN(now.ID, "@", 2)[0] != strings.SplitN(before.ID, "@", 2)[0] {
		t.Errorf("status: %+v, %v", now, err)
	}
	// the engine starts again what dies
	running, err := e.Client.ContainerInspect(t.Context(), c.name())
	r.must("inspect", err)
	r.must("killing it", syscall.Kill(running.State.Pid, syscall.SIGKILL))
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		now, err := c.Status(t.Context())
		r.must("status", err)
		if now.Running && now.Restarts == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it is not started again: %+v", now)
		}
	}
	r.must("stop", c.Stop(t.Context()))
	r.must("start", c.Start(t.Context()))
	r.has(digest)
	// so is one whose network was removed meanwhile
	r.must("stop", c.Stop(t.Context()))
	r.must("removing its network", e.Client.NetworkRemove(t.Context(), c.name()))
	_, err = c.Up(t.Context())
	r.must("up", err)
	r.has(digest)
	r.must("pausing it", e.Client.ContainerPause(t.Context(), c.name()))
	_, err = c.Up(t.Context())
	wantError(t, err, ErrPaused, c.name())
	_, err = c.Restart(t.Context())
	r.must("restart of a paused one", err)
	r.has(digest)
	log, err := c.Log(t.Context())
	r.must("log", err)
	defer log.Close()
	if b, err := io.ReadAll(log); err != nil || len(b) == 0 {
		t.Errorf("its log: %q, %v", b, err)
	}
	following, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- c.WriteLog(following, write, 1, true) }()
	if n, err := read.Read(make([]byte, 1<<10)); n == 0 || err != nil {
		t.Errorf("following its log: %d bytes, %v", n, err)
	}
	go io.Copy(io.Discard, read) //nolint:errcheck // it ends with the test
	cancel()
	r.must("following", <-done)
	r.must("down", c.Down(t.Context()))
	// two processes that start it at once may each make its network
	e.Alike(c.name(), labelMode, 2)
	_, err = c.Up(t.Context())
	r.must("up with two networks of its name", err)
	r.has(digest)
	r.must("stop", c.Stop(t.Context()))
	e.Alike(c.name(), labelMode, 2)
	_, err = c.Up(t.Context())
	r.must("up of one that was made, with three", err)
	e.Alike(c.name(), labelMode, 2)
	r.must("down with three", c.Down(t.Context()))
	if list, err := e.Client.NetworkList(t.Context(), network.ListOptions{Filters: filters.NewArgs(filters.Arg("name", c.name()))}); err != nil || len(list) != 0 {
		t.Errorf("networks left: %v, %v", list, err)
	}
	if list, err := e.Client.ContainerList(t.Context(), container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", labelMode+"="+r.options.Mode))}); err != nil || len(list) != 0 {
		t.Errorf("left: %v, %v", list, err)
	}
}

// containerIsMadeByHand has somebody make it anew with the labels it has, or change it.
func containerIsMadeByHand(t *testing.T, e *enginetest.Engine, typ, ref string) {
	t.Helper()
	r := newReal(t, typ, "", ref)
	c := r.container()
	_, err := c.Up(t.Context())
	r.must("up", err)
	digest := r.push()
	second := porttest.Address(t)
	_, port, _ := strings.Cut(second, ":")
	remake := func(otherwise func(*container.HostConfig), variables ...string) func() {
		return func() {
			was, err := e.Client.ContainerInspect(t.Context(), c.name())
			r.must("inspect", err)
			r.must("removing", e.Client.ContainerRemove(t.Context(), was.ID, container.RemoveOptions{Force: true}))
			otherwise(was.HostConfig)
			was.Config.Env = append(was.Config.Env, variables...)
			made, err := e.Client.ContainerCreate(t.Context(), was.Config, was.HostConfig, nil, nil, c.name())
			r.must("making", err)
			r.must("starting", e.Client.ContainerStart(t.Context(), made.ID, container.StartOptions{}))
		}
	}
	for what, by := range map[string]func(){
		"rights": remake(func(h *container.HostConfig) { h.ReadonlyRootfs, h.SecurityOpt = false, nil }, "REGISTRY_LOG_LEVEL=debug"),
		"mounts": remake(func(h *container.HostConfig) { h.Binds = []string{"/etc:/hostetc"} }),
		"address": remake(func(h *container.HostConfig) {
			for p := range h.PortBindings {
				h.PortBindings[p] = append(h.PortBindings[p], nat.PortBinding{HostIP: "0.0.0.0", HostPort: port})
			}
		}),
		"network": func() { r.must("disconnecting", e.Client.NetworkDisconnect(t.Context(), c.name(), c.name(), true)) },
	} {
		for doing, do := range map[string]func(context.Context) (Outcome, error){"up": c.Up, "restart": c.Restart} {
			by()
			d, err := c.Differences(t.Context())
			if err != nil || len(d) != 1 || d[0].What != what {
				t.Errorf("%s: differences %v, %v", what, d, err)
			}
			t.Log(d)
			out, err := do(t.Context())
			if err != nil || len(out.Changed) != 1 || out.Changed[0].What != what {
				t.Errorf("%s: %s: %+v, %v", what, doing, out, err)
			}
			if d, err := c.Differences(t.Context()); err != nil || len(d) != 0 {
				t.Errorf("%s: after %s: %v, %v", what, doing, d, err)
			}
			r.has(digest)
		}
	}
	r.must("stop", c.Stop(t.Context()))
	r.must("disconnecting", e.Client.NetworkDisconnect(t.Context(), c.name(), c.name(), true))
	r.must("start", c.Start(t.Context()))
	r.has(digest)
}

func containerFails(t *testing.T, e *enginetest.Engine, typ, ref string) {
	t.Helper()
	r := newReal(t, typ, "", ref)
	l, err := net.Listen("tcp", r.address)
	r.must("listening", err)
	_, err = r.container().Up(t.Context())
	wantError(t, err, ErrTaken, r.address)
	t.Log(err)
	r.must("closing", l.Close())
	r.options.Registry.Run.Image = "127.0.0.1:1/no/such:1"
	_, err = r.container().Up(t.Context())
	wantError(t, err, ErrNoImage, "127.0.0.1:1/no/such:1", "correct registry.run.image")
	t.Log(err)
	r.options.Registry.Run.Image = ref
	launch := r.options.Launch
	r.options.Launch = func(ctx context.Context) (Launch, error) {
		l, err := launch(ctx)
		l.Mounts = append(l.Mounts, Mount{"/no/such/certificate", false})
		return l, err
	}
	_, err = r.container().Up(t.Context())
	if err == nil || !strings.Contains(err.Error(), "/no/such/certificate") {
		t.Errorf("a file that is missing: %v", err)
	}
	t.Log(err)
	r.options.Launch = launch
	r.options.Registry.Run.Network = "no-such-network"
	_, err = r.container().Up(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no-such-network") {
		t.Errorf("a network that is missing: %v", err)
	}
	t.Log(err)
	r.options.Registry.Run.Network = ""
	foreign, err := e.Client.ContainerCreate(t.Context(), &container.Config{Image: ref}, nil, nil, nil, "ocisync-rt-"+typ)
	r.must("a container", err)
	c, err := NewContainer(r.options)
	r.must("options", err)
	_, err = c.Up(t.Context())
	wantError(t, err, ErrForeign, "container ocisync-rt-"+typ)
	t.Log(err)
	r.must("removing", e.Client.ContainerRemove(t.Context(), foreign.ID, container.RemoveOptions{}))
}

// containerIsPulled runs one registry from an image that another one has.
func containerIsPulled(t *testing.T, e *enginetest.Engine, source, ref string) {
	t.Helper()
	from := newReal(t, schema.TypeDistribution, "", source)
	from.options.Mode = "rt-source"
	_, err := from.container().Up(t.Context())
	from.must("up", err)
	there := from.address + "/zot:1"
	from.must("tag", e.Client.ImageTag(t.Context(), ref, there))
	said, err := e.Client.ImagePush(t.Context(), there, image.PushOptions{RegistryAuth: base64.URLEncoding.EncodeToString([]byte("{}"))})
	from.must("push", err)
	_, err = io.Copy(io.Discard, said)
	from.must("push", errors.Join(err, said.Close()))
	d, err := remote.Head(from.ref("zot:1"), remote.WithTransport(&http.Transport{DisableKeepAlives: true}))
	from.must("head", err)
	for _, ref := range []string{there, ref} {
		_, err = e.Client.ImageRemove(t.Context(), ref, image.RemoveOptions{Force: true})
		from.must("untag", err)
	}
	pinned := from.address + "/zot@" + d.Digest.String()
	r := newReal(t, schema.TypeZot, "", pinned)
	var said2 []string
	var last, total int64
	r.options.Say = func(s string) { said2 = append(said2, s) }
	r.options.Pulling = func(d, t int64) { last, total = max(last, d), max(total, t) }
	c := r.container()
	_, err = c.Up(t.Context())
	r.must("up", err)
	if d := cmp.Diff([]string{"pulling " + pinned}, said2); d != "" || last == 0 || last != total {
		t.Errorf("%d of %d bytes; said (-want +got):\n%s", last, total, d)
	}
	t.Logf("pulled %d bytes", total)
	if out, err := c.Up(t.Context()); err != nil || !out.Already {
		t.Errorf("up again: %+v, %v", out, err)
	}
}
