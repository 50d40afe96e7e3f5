package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// The labels by which a container is known as ours, and as whose.
const (
	labelMode     = "ocisync.mode"
	labelInstance = "ocisync.instance"
	labelRegistry = "ocisync.registry"
	labelData     = "ocisync.data"
	labelSpec     = "ocisync.spec"  // digest of the box it was made from
	labelAsked    = "ocisync.asked" // what the mode said, as JSON
	labelFace     = "ocisync.face"
	labelGiven    = "ocisync.given" // see given, as JSON
)

// next is appended to the name of a container that is to take the place of one.
const next = ".next"

const bounds = 2

// engine is all that is asked of a Docker engine. Names and ids both name a
// container.
type engine interface {
	surroundings
	containers
	images
	// log reads what a container wrote since then, at most the last lines of it
	// (0: all); with more it goes on.
	log(ctx context.Context, id string, since time.Time, tail int, more bool) (io.ReadCloser, error)
}

type containers interface {
	// inspect returns nil for a container that is not there.
	inspect(ctx context.Context, name string) (*found, error)
	// create makes a container; its image and network are there.
	create(ctx context.Context, name string, b box, labels map[string]string) (id string, err error)
	start(ctx context.Context, id string) error
	// stop sends SIGTERM, and SIGKILL after the grace.
	stop(ctx context.Context, id string, grace time.Duration) error
	remove(ctx context.Context, id string) error
	// exec runs a command in a container that runs, and returns how it exited.
	exec(ctx context.Context, id string, command []string, stdout, stderr io.Writer) (code int, err error)
	rename(ctx context.Context, id, name string) error
}

type images interface {
	// own is what an image, by its id, says of its containers. ErrNoImage: it is
	// not there any more.
	own(ctx context.Context, id string) (own, error)
	// image returns the id of a local image. ErrNoImage: there is none.
	image(ctx context.Context, ref string) (id string, err error)
	pull(ctx context.Context, ref string, progress func(done, total int64)) error
}

type surroundings interface {
	// network makes a private network unless it is there.
	network(ctx context.Context, name string, labels map[string]string) error
	// host is the address of this host in a network: its gateway, by which a
	// container reaches what listens here. why says that there is none for
	// certain; both are "" where there is no such network.
	host(ctx context.Context, network string) (address, why string, err error)
	// dropNetwork removes a network that we made, and leaves any other.
	dropNetwork(ctx context.Context, name string) error
	// of lists the names of the containers with a label.
	of(ctx context.Context, label, value string) ([]string, error)
	// describe names the engine for people; local says that it is of this host.
	describe(ctx context.Context) (name string, local bool)
}

// Container is a registry that runs as a container; the Docker engine starts it
// again when it dies. Safe for concurrent use; two that change it take turns.
type Container struct {
	o      Options
	engine engine
}

// NewContainer returns the registry of the options, on the engine that
// DOCKER_HOST names, or this host's own. Nothing is asked yet.
func NewContainer(o Options) (*Container, error) {
	o, err := o.settled()
	if err != nil {
		return nil, err
	}
	e, err := dockerEngine()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Registry.URL, err)
	}
	return &Container{o, e}, nil
}

func (c *Container) name() string {
	if c.o.Instance != "" {
		return "ocisync-" + c.o.Instance + "-" + c.o.Mode
	}
	return "ocisync-" + c.o.Mode
}

func (c *Container) fail(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", c.o.Registry.URL, err)
}

// ours returns a container of ours, nil if there is none. ErrForeign: what has
// the name is not ours. ErrDisplaced: it is, and registry.run.data was changed.
func (c *Container) ours(ctx context.Context, name string) (*found, error) {
	f, err := c.engine.inspect(ctx, name)
	if f == nil || err != nil {
		return nil, c.fail(err)
	}
	var why string
	switch mode, made := f.Labels[labelMode]; {
	case !made:
		why = "ocisync did not make it"
	case mode != c.o.Mode || f.Labels[labelInstance] != c.o.Instance:
		why = fmt.Sprintf("it is of mode %s, instance %s", mode, or(f.Labels[labelInstance], "none"))
	case f.Labels[labelData] != c.o.data():
		return nil, c.fail(fmt.Errorf("container %s: %w: it keeps its data in %s, and this mode in %s; take registry.run.data back, or, to move it, run ocisync down with that, move the directory, and run ocisync up with the new one; another registry takes another name, with state.instance",
			name, ErrDisplaced, f.Labels[labelData], c.o.data()))
	default:
		f.Face = f.Labels[labelFace]
		f.at(f.asked().Address)
		return f, nil
	}
	return nil, c.fail(fmt.Errorf("container %s: %w: %s; remove or rename it (docker rename), or give this one another name with state.instance", name, ErrForeign, why))
}

// Status looks, and changes nothing.
func (c *Container) Status(ctx context.Context) (Status, error) {
	f, err := c.ours(ctx, c.name())
	if err != nil {
		return Status{}, err
	}
	engine, _ := c.engine.describe(ctx)
	if f == nil {
		return Status{Supervisor: engine, Detail: "there is no container " + c.name()}, nil
	}
	s := Status{
		Running: f.Running, ID: short(f.ID) + "@" + f.Started.UTC().Format(time.RFC3339Nano), Started: f.Started,
		Restarts: f.Restarts, Supervisor: engine, Detail: "container " + f.Name,
	}
	switch {
	case !f.Running:
		s.Detail += ": " + f.ended()
	case f.Paused:
		s.Paused = true
		s.Detail += ", paused"
	}
	if f.Off {
		s.OffNetwork = f.Network
		s.Detail += ", off its network " + f.Network
	}
	return s, nil
}

// Differences lists in what the container was made otherwise than the mode says
// now; nil if there is none. It pulls nothing, and looks at the mode's words and
// at what the image's name stands for here: what a provider starts otherwise,
// with another version of ocisync, [Container.Up] sees.
func (c *Container) Differences(ctx context.Context) ([]Difference, error) {
	f, err := c.ours(ctx, c.name())
	if f == nil || err != nil {
		return nil, err
	}
	var then asked
	if err := json.Unmarshal([]byte(f.Labels[labelAsked]), &then); err != nil {
		return nil, c.fail(fmt.Errorf("container %s: label %s: %w; ocisync up makes it anew", f.Name, labelAsked, err))
	}
	now := c.o.asked()
	now.Network = or(now.Network, c.name())
	then.Address, then.Network = f.addresses(), f.network()
	rights, err := c.rights(ctx, f)
	if err != nil {
		return nil, err
	}
	d := then.differences(now)
	if args, is := f.otherArgs(); is {
		d = differing(d, "arguments", words(args), words(f.given().Args))
	}
	d = differing(d, "mounts", strings.Join(f.Others, ", "), "")
	d = differing(d, "rights", strings.Join(rights, ", "), "")
	if then.Image != now.Image {
		return d, nil
	}
	id, err := c.engine.image(ctx, now.Image)
	if errors.Is(err, ErrNoImage) {
		return d, nil
	}
	return beside(differing(nil, "image", short(f.imageID), short(id)), d), c.fail(err)
}

// rights are those of a container that ocisync lets none, and what it was given that
// is neither its image's own nor from ocisync: a user, a program, variables.
func (c *Container) rights(ctx context.Context, f *found) ([]string, error) {
	list := slices.Clone(f.Rights)
	image, err := c.engine.own(ctx, f.imageID)
	known := err == nil
	if err != nil && !errors.Is(err, ErrNoImage) {
		return nil, c.fail(err)
	}
	owner, err := c.o.owner()
	if err == nil && owner == "" && known {
		owner = image.User
	} else if err != nil || owner == "" { // what is not there belongs to nobody
		owner = f.User
	}
	if f.User != owner {
		list = append(list, "user "+or(f.User, "of the image"))
	}
	program := image.Entrypoint
	if binary := f.asked().Binary; binary != "" {
		program = []string{binary}
	}
	if known && !slices.Equal(f.Entrypoint, program) {
		list = append(list, "program "+words(f.Entrypoint))
	}
	if given := f.given(); known && given.Env != nil {
		for _, v := range f.Env {
			if name, _, _ := strings.Cut(v, "="); !slices.Contains(given.Env, v) && !slices.Contains(image.Env, v) {
				list = append(list, "variable "+name)
			}
		}
	}
	slices.Sort(list)
	return list, nil
}

// Made says how the container was made; nil if none ever was.
func (c *Container) Made(ctx context.Context) (*Made, error) {
	f, err := c.ours(ctx, c.name())
	if err != nil {
		return nil, err
	}
	if f == nil {
		r, err := c.o.readRecord()
		if err != nil || r.PID == 0 && r.Container == "" {
			return nil, err
		}
		return &Made{Stopped: true}, nil
	}
	if !f.Running {
		return &Made{Stopped: true}, nil
	}
	then := f.asked()
	m := Made{Image: f.Image, Binary: then.Binary, Args: then.Args, Listen: f.Listen, Also: f.also(), Mounts: f.Mounts, Others: f.Others}
	if m.Rights, err = c.rights(ctx, f); err != nil {
		return nil, err
	}
	if args, is := f.otherArgs(); is {
		m.Args = args
	}
	wanted := c.o.Registry.Run.Network
	switch m.Network = f.network(); m.Network {
	case or(wanted, c.name()):
		m.Network = wanted
	case c.name():
		m.Network = ""
	}
	return &m, nil
}

// Host is the address of this host by which the container reaches what listens
// here. It may be another after each start, since a network that was taken down is
// made anew; of a container that is being replaced it is the successor's. why says
// that there is none for certain, or none as the mode has it, and what to do; both
// are "" while there is no network yet, which comes with the first start.
func (c *Container) Host(ctx context.Context) (address, why string, err error) {
	network := or(c.o.Registry.Run.Network, c.name())
	address, why, err = c.engine.host(ctx, network)
	if err != nil || why != "" {
		return "", why, c.fail(err)
	}
	for _, name := range []string{c.name() + next, c.name()} {
		f, err := c.ours(ctx, name)
		if err != nil {
			return "", "", err
		}
		if f != nil && f.Network != network {
			address, why, err = c.engine.host(ctx, f.Network)
		}
		if f != nil {
			return address, why, c.fail(err)
		}
	}
	return address, "", nil
}

// Keep returns what has it running again as it runs now, whatever the mode says
// by then; nil if none runs.
func (c *Container) Keep(ctx context.Context) (again func(context.Context) error, err error) {
	then, err := c.ours(ctx, c.name())
	if then == nil || err != nil || !then.Running {
		return nil, err
	}
	return func(ctx context.Context) (err error) {
		l, err := c.o.takeLock(ctx, "ocisync up", c.o.Patience.Ready)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, l.release()) }()
		now, err := c.mend(ctx)
		switch {
		case err != nil:
			return err
		case now == nil: // taken down by somebody
			return nil
		case now.Labels[labelSpec] != then.Labels[labelSpec]:
			return c.replace(ctx, now, then.box, then.Labels)
		case now.Running && !now.Off:
			return c.wait(ctx, now)
		}
		return c.again(ctx, now)
	}, nil
}

// Start starts it, unless it runs, and returns when it is ready. ErrDown: it was
// taken down since; [Container.Up] starts it all the same.
func (c *Container) Start(ctx context.Context) error {
	_, err := c.locked(ctx, verbStart)
	return err
}

// Up has it running as the mode wants it, and returns when it is ready. A
// container that is otherwise is replaced; if the new one does not get ready,
// the former runs again.
func (c *Container) Up(ctx context.Context) (Outcome, error) { return c.locked(ctx, verbUp) }

// Restart stops it, starts it as the mode wants it, and returns when it is ready.
func (c *Container) Restart(ctx context.Context) (Outcome, error) { return c.locked(ctx, verbRestart) }

// Stop ends it, and returns when it is gone. The engine does not start it again.
func (c *Container) Stop(ctx context.Context) error {
	f, err := c.ours(ctx, c.name())
	if f == nil || err != nil || !f.Running {
		return err
	}
	return c.fail(c.engine.stop(ctx, f.ID, f.Grace))
}

// Down ends it and removes the container, and the network that was made for it.
// The data stays.
func (c *Container) Down(ctx context.Context) (err error) {
	l, err := c.o.takeLock(ctx, "ocisync down", c.o.Patience.Ready)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.release()) }()
	for _, name := range []string{c.name() + next, c.name()} {
		f, err := c.ours(ctx, name)
		if err == nil && f != nil && f.Running {
			err = c.fail(c.engine.stop(ctx, f.ID, f.Grace))
		}
		if err == nil && f != nil {
			err = c.fail(c.engine.remove(ctx, f.ID))
		}
		if err != nil {
			return err
		}
	}
	if c.o.Registry.Run.Network == "" {
		if err := c.engine.dropNetwork(ctx, c.name()); err != nil {
			return c.fail(err)
		}
	}
	r, err := c.o.readRecord()
	if err != nil || r.Container == "" || r.Ended != "" {
		return err
	}
	r.Down = true
	return c.o.writeRecord(r.ended("stopped by order"))
}

// Log is what it wrote since it started last, oldest first, as far as it was kept.
func (c *Container) Log(ctx context.Context) (io.ReadCloser, error) {
	f, err := c.ours(ctx, c.name())
	if err != nil {
		return nil, err
	}
	if f == nil {
		return io.NopCloser(strings.NewReader("")), nil
	}
	r, err := c.engine.log(ctx, f.ID, f.Started, 0, false)
	return r, c.fail(err)
}

// WriteLog writes the last lines of its log to w, 0 for all that is kept, those
// of earlier starts too; with more it goes on until the context is done.
func (c *Container) WriteLog(ctx context.Context, w io.Writer, tail int, more bool) error {
	f, err := c.ours(ctx, c.name())
	if err != nil {
		return err
	}
	if f == nil {
		return c.fail(fmt.Errorf("there is no container %s and so no log; start it with ocisync up", c.name()))
	}
	r, err := c.engine.log(ctx, f.ID, time.Time{}, tail, more)
	if err != nil {
		return c.fail(err)
	}
	defer r.Close()
	if _, err = io.Copy(w, r); ctx.Err() != nil {
		return nil
	}
	return c.fail(err)
}
