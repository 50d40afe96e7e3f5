package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/oci"
	"github.com/ocisync/ocisync/pkg/runtime"
	"github.com/ocisync/ocisync/pkg/secret"
	"github.com/ocisync/ocisync/schema"
)

// runner runs a mode's registry, whatever drives it.
type runner interface {
	Status(context.Context) (runtime.Status, error)
	// Differences lists in what it runs otherwise than the mode has it.
	Differences(context.Context) ([]runtime.Difference, error)
	// Up has it running as the mode has it, in the background.
	Up(context.Context) (runtime.Outcome, error)
	Restart(context.Context) (runtime.Outcome, error)
	Down(context.Context) error
	WriteLog(ctx context.Context, w io.Writer, tail int, more bool) error
}

// launched is a runner of a program that a provider configures.
type launched interface {
	runner
	Made(context.Context) (*runtime.Made, error)
	Keep(context.Context) (again func(context.Context) error, err error)
	Start(context.Context) error
	Stop(context.Context) error
	Log(context.Context) (io.ReadCloser, error)
}

// process is a launched registry as its provider sees it.
type process struct{ launched }

var (
	_ providers.Process = process{}
	_ providers.Maker   = process{}
	_ providers.Keeper  = process{}

	_ providers.Neighbour = process{}
)

// displaced is that error as providers know it.
type displaced struct{ error }

func (d displaced) Is(kind error) bool { return kind == providers.ErrDisplaced }
func (d displaced) Unwrap() error      { return d.error }

// Status implements [providers.Process].
func (p process) Status(ctx context.Context) (providers.ProcessStatus, error) {
	s, err := p.launched.Status(ctx)
	if errors.Is(err, runtime.ErrDisplaced) {
		err = displaced{err}
	}
	return providers.ProcessStatus{Running: s.Running, ID: s.ID, Started: s.Started, Detail: s.Detail}, err
}

// Command implements [providers.Commander].
func (p process) Command(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c, ok := p.launched.(*runtime.Container)
	if !ok {
		return fmt.Errorf("running another program beside a process: %w", providers.ErrUnsupported)
	}
	return c.Command(ctx, args, stdout, stderr)
}

// Host implements [providers.Neighbour].
func (p process) Host(ctx context.Context) (address, why string, err error) {
	if c, ok := p.launched.(*runtime.Container); ok {
		return c.Host(ctx)
	}
	return providers.Loopback, "", nil
}

// Start implements [providers.Process].
func (p process) Start(ctx context.Context) error {
	err := p.launched.Start(ctx)
	if errors.Is(err, runtime.ErrDown) {
		err = fmt.Errorf("%w: %w", providers.ErrDown, err)
	}
	return err
}

// Made implements [providers.Maker].
func (p process) Made(ctx context.Context) (*providers.Made, error) {
	m, err := p.launched.Made(ctx)
	if m == nil || err != nil {
		return nil, err
	}
	out := providers.Made{Stopped: m.Stopped, Image: m.Image, Binary: m.Binary, Args: m.Args, Listen: m.Listen, Also: m.Also, Network: m.Network, Others: m.Others, Rights: m.Rights}
	for _, x := range m.Mounts {
		out.Mounts = append(out.Mounts, providers.Mount(x))
	}
	return &out, nil
}

// Renew implements [providers.Maker].
func (p process) Renew(ctx context.Context) error {
	_, err := p.Up(ctx)
	return err
}

// starter is how a mode's registry is started, as its provider says it. The
// provider is asked for when it is needed: it in its turn has the process.
func starter(cfg *schema.Config, open func() (providers.Provider, error)) func() (providers.Launcher, error) {
	return func() (providers.Launcher, error) {
		p, err := open()
		launcher, ok := p.(providers.Launcher)
		if errors.Is(err, providers.ErrUnsupported) || err == nil && !ok {
			return nil, codedError{exitRefused, fmt.Errorf("mode %s: ocisync %s does not run registries of type %q (registry.run.driver is %q); use a version that does, or run it yourself and leave registry.run out", cfg.Mode, version, cfg.Registry.Type, cfg.Registry.Driver())}
		}
		return launcher, err
	}
}

// launches makes what a provider says of its program what package runtime
// wants to know.
func launches(find func() (providers.Launcher, error)) func(context.Context) (runtime.Launch, error) {
	return func(ctx context.Context) (runtime.Launch, error) {
		launcher, err := find()
		if err != nil {
			return runtime.Launch{}, err
		}
		l, err := launcher.Launch(ctx)
		if err != nil {
			return runtime.Launch{}, err
		}
		out := runtime.Launch{Args: l.Args, Env: l.Env, Port: l.Port, Face: l.Face, Grace: l.Grace}
		for _, m := range l.Mounts {
			out.Mounts = append(out.Mounts, runtime.Mount(m))
		}
		return out, nil
	}
}

// launched returns what runs a mode's registry as a program, nil where the
// driver is another. open opens the provider.
func (o *options) launched(cfg *schema.Config, open func() (providers.Provider, error)) (launched, error) {
	driver := cfg.Registry.Driver()
	if driver != schema.DriverProcess && driver != schema.DriverDocker {
		return nil, nil
	}
	background, err := o.again(cfg, "up", "--background")
	if err != nil {
		return nil, err
	}
	find := starter(cfg, open)
	opts := runtime.Options{
		Mode: cfg.Mode, Instance: cfg.State.Instance, Registry: cfg.Registry, Launch: launches(find),
		Check: func(ctx context.Context, face string) error {
			l, err := find()
			if c, ok := l.(providers.Prechecker); ok && err == nil {
				err = c.Precheck(ctx, face)
			}
			return err
		},
		Supervisable: func(ctx context.Context) error { return o.canGive(ctx, cfg) },
		BeforeStart: func(ctx context.Context, face string) error {
			l, err := find()
			if err != nil {
				return err
			}
			return l.BeforeStart(ctx, face)
		},
		Ready:      started(cfg.Registry),
		Log:        filepath.Join(cfg.Registry.Run.Data, cfg.Registry.Type+".log"),
		Background: background, Say: func(line string) { o.say("%s", line) }, Pulling: o.pulling(), Logger: o.logger(),
	}
	if driver == schema.DriverDocker {
		return runtime.NewContainer(opts)
	}
	return runtime.NewProcess(opts)
}

// runner returns what runs a mode's registry. It is an error that somebody else
// does.
func (o *options) runner(cfg *schema.Config) (runner, error) {
	switch cfg.Registry.Driver() {
	case "":
		return nil, notOurs(cfg)
	case schema.DriverEmbedded:
		return &served{o, cfg}, nil
	}
	host, err := o.host()
	if err != nil {
		return nil, err
	}
	return o.launched(cfg, func() (providers.Provider, error) {
		return o.provider(cfg, *host, sendable{Resolver: secret.New(*host, o.getenv, cfg.Dir)})
	})
}

func notOurs(cfg *schema.Config) error {
	how := fmt.Sprintf("to have ocisync run one, write driver = %q there", schema.DriverEmbedded)
	if cfg.Registry.Type == schema.TypeZot {
		how = fmt.Sprintf("ask who runs it, or ocisync health, which tells whether it answers; to have ocisync run one, write registry.run with driver = %q or %q in the place of registry.files", schema.DriverProcess, schema.DriverDocker)
	}
	return codedError{exitRefused, fmt.Errorf("mode %s: somebody else runs this registry: the mode has no registry.run; %s", cfg.Mode, how)}
}

// again is the command that runs a verb of this program on the same mode.
func (o *options) again(cfg *schema.Config, words ...string) ([]string, error) {
	self, err := exec.LookPath(os.Args[0])
	if err != nil {
		if self, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	paths := []*string{&self}
	modes, host := o.modes, o.hostFile
	paths = append(paths, &modes)
	if host != "" {
		paths = append(paths, &host)
	}
	for _, p := range paths {
		if *p, err = filepath.Abs(*p); err != nil {
			return nil, err
		}
	}
	command := append([]string{self}, words...)
	command = append(command, "--mode", cfg.Mode, "--modes", modes)
	if host != "" {
		command = append(command, "--host-file", host)
	}
	if o.verbose {
		command = append(command, "--verbose")
	}
	return command, nil
}

// ready asks a registry of this host whether it answers at an address. Where it is known by https, that can be the work of a server in
// front of it: then http is right too.
func ready(r schema.Registry) func(ctx context.Context, address string) error {
	return func(ctx context.Context, address string) error {
		err := ping(ctx, r, r.URL, address)
		if rest, secure := strings.CutPrefix(r.URL, "https://"); err != nil && secure {
			if ping(ctx, r, "http://"+rest, address) == nil {
				return nil
			}
		}
		return err
	}
}

// started is ready of a registry that was just started, which may be as a mode has
// it that this process has not read: by http or https, with whatever certificate.
// Nothing but that is asked of it.
func started(r schema.Registry) func(ctx context.Context, address string) error {
	answers := ready(r)
	return func(ctx context.Context, address string) error {
		err := answers(ctx, address)
		_, rest, ok := strings.Cut(r.URL, "://")
		if err == nil || !ok {
			return err
		}
		yes := true
		loose := schema.Registry{TLS: &schema.TLS{Insecure: &yes}}
		if ping(ctx, loose, "https://"+rest, address) == nil || ping(ctx, loose, "http://"+rest, address) == nil {
			return nil
		}
		return err
	}
}

// ping asks for /v2/, at an address of this host or, without one, by the URL.
// That a login is wanted is an answer.
func ping(ctx context.Context, r schema.Registry, url, address string) error {
	var t schema.TLS
	if r.TLS != nil {
		t = schema.TLS{CA: r.TLS.CA, Insecure: r.TLS.Insecure}
	}
	rt, err := oci.Transport(t)
	if err != nil {
		return err
	}
	rt.DisableKeepAlives = true
	if address != "" {
		to := runtime.Reach(address)
		rt.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, to)
		}
	}
	_, err = oci.Ping(ctx, url, rt)
	if errors.Is(err, providers.ErrUnauthorized) || errors.Is(err, providers.ErrForbidden) {
		return nil
	}
	return err
}

// pulling shows how far an image has come.
func (o *options) pulling() func(done, total int64) {
	return o.progress(time.Time{}, func(done, total int64) string {
		return fmt.Sprintf("pulling: %s of %s", schema.Size(done).Human(), schema.Size(total).Human())
	})
}

// progress shows how far something has come: on a terminal in one line that moves,
// elsewhere in a line now and then, counted from an instant. A total of 0 ends it.
func (o *options) progress(last time.Time, line func(done, total int64) string) func(done, total int64) {
	moves := terminal(o.err)
	return func(done, total int64) {
		every := 10 * time.Second
		if moves {
			every = 100 * time.Millisecond
		}
		switch {
		case total == 0 && moves:
			_, _ = fmt.Fprint(o.err, "\r\x1b[K")
		case total == 0 || time.Since(last) < every:
		case moves:
			last = time.Now()
			_, _ = fmt.Fprint(o.err, "\r\x1b[K"+line(done, total))
		default:
			last = time.Now()
			o.say("%s", line(done, total))
		}
	}
}
