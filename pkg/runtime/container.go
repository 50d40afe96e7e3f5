package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
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
)

// next is appended to the name of a container that is to take the place of one.
const next = ".next"

// box is a container as it is wanted, or was made.
type box struct {
	Image      string   `json:"image"`
	Entrypoint []string `json:"entrypoint,omitempty"` // nil: the image's own
	Args       []string `json:"args"`
	Env        []string `json:"env"`  // of one that was made, the image's too
	User       string   `json:"user"` // uid:gid, or "": the image's own
	Mounts     []Mount  `json:"mounts"`
	Port       int      `json:"port"` // inside
	Face       string   `json:"face,omitempty"`
	Listen     string   `json:"listen"` // host:port outside
	Network    string   `json:"network"`
	// Grace is in whole seconds.
	Grace time.Duration `json:"grace"`
	// Bounds counts the versions of what every container is made with, such as
	// no capabilities: see create in engine.go.
	Bounds int `json:"bounds"`

	imageID string
}

const bounds = 2

// digest tells one box from another.
func (b box) digest() (string, error) {
	text, err := json.Marshal(b)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), err
}

// found is a container that the engine has.
type found struct {
	box
	ID      string
	Name    string
	Labels  map[string]string
	Running bool
	Started time.Time
	Ended   time.Time
	Code    int
	// Restarts is how often the engine started it again since it was made.
	Restarts int
	// Failure is the engine's own word for why it does not run.
	Failure string
}

// engine is all that is asked of a Docker engine. Names and ids both name a
// container.
type engine interface {
	surroundings
	containers
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

type surroundings interface {
	// image returns the id of a local image. ErrNoImage: there is none.
	image(ctx context.Context, ref string) (id string, err error)
	pull(ctx context.Context, ref string, progress func(done, total int64)) error
	// network makes a private network unless it is there.
	network(ctx context.Context, name string, labels map[string]string) error
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

func (c *Container) labels(spec, face string) (map[string]string, error) {
	asked, err := json.Marshal(c.o.asked())
	return map[string]string{
		labelMode: c.o.Mode, labelInstance: c.o.Instance, labelRegistry: c.o.Registry.URL,
		labelData: c.o.data(), labelSpec: spec, labelAsked: string(asked), labelFace: face,
	}, err
}

func (c *Container) fail(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", c.o.Registry.URL, err)
}

// ours returns a container of ours, nil if there is none. ErrForeign: what has
// the name is not ours.
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
		why = fmt.Sprintf("it keeps its data in %s, and this mode in %s", f.Labels[labelData], c.o.data())
	default:
		f.Face = f.Labels[labelFace]
		return f, nil
	}
	return nil, c.fail(fmt.Errorf("container %s: %w: %s; remove or rename it (docker rename), or give this one another name with state.instance", name, ErrForeign, why))
}

// wanted is the container as the mode has it, but for the id of its image.
func (c *Container) wanted(ctx context.Context) (box, error) {
	run := c.o.Registry.Run
	l, err := c.o.launch(ctx)
	if err != nil {
		return box{}, err
	}
	b := box{
		Image: run.Image, Args: l.Args, Env: l.Env, Mounts: l.Mounts, Port: l.Port, Face: l.Face, Listen: c.o.listen(),
		Network: or(run.Network, c.name()), Grace: (l.Grace + time.Second - 1).Truncate(time.Second), Bounds: bounds,
	}
	if run.Binary != "" {
		b.Entrypoint = []string{run.Binary}
	}
	if err := c.o.makeOwn(); err != nil {
		return box{}, err
	}
	info, err := os.Stat(c.o.data())
	if err != nil {
		return box{}, c.fail(fmt.Errorf("registry.run.data: %w; make the directory, or correct it", err))
	}
	// root in the image is whoever the image says; see docs/run.md
	if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Uid != 0 {
		b.User = strconv.FormatUint(uint64(s.Uid), 10) + ":" + strconv.FormatUint(uint64(s.Gid), 10)
	}
	return b, nil
}

// giveAway makes what root put into a data directory of somebody else that
// one's own: configuration and accounts, which the program must read. What is
// ocisync's alone stays root's.
func (o Options) giveAway() error {
	root, err := os.OpenRoot(o.data())
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 || os.Geteuid() != 0 {
		return nil
	}
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		s, ok := info.Sys().(*syscall.Stat_t)
		// a second name could be that of any file of this disk
		if !ok || s.Uid != 0 || e.Name() == ownDir || !e.IsDir() && (!info.Mode().IsRegular() || s.Nlink > 1) {
			continue
		}
		if err := root.Lchown(e.Name(), int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	return nil
}

// image has the image there, from its registry if it is not.
func (c *Container) image(ctx context.Context, b *box) (err error) {
	b.imageID, err = c.engine.image(ctx, b.Image)
	if errors.Is(err, ErrNoImage) {
		c.o.Say("pulling " + b.Image)
		err = c.engine.pull(ctx, b.Image, c.o.Pulling)
		c.o.Pulling(0, 0)
		if err != nil {
			return c.fail(fmt.Errorf("image %s: %w", b.Image, err))
		}
		b.imageID, err = c.engine.image(ctx, b.Image)
	}
	return c.fail(err)
}

// differences lists in what a container is another than is wanted. Without an
// id the wanted image is not looked at.
func (f *found) differences(wanted box) ([]Difference, error) {
	var d []Difference
	d = differing(d, "image", f.Image, wanted.Image)
	if f.Image == wanted.Image && wanted.imageID != "" {
		d = differing(d, "image", short(f.imageID), short(wanted.imageID))
	}
	if len(wanted.Entrypoint) > 0 {
		d = differing(d, "program", words(f.Entrypoint), words(wanted.Entrypoint))
	}
	if len(wanted.Args) > 0 {
		d = differing(d, "arguments", words(f.Args), words(wanted.Args))
	}
	var missing []string
	for _, v := range wanted.Env {
		if !slices.Contains(f.Env, v) {
			name, _, _ := strings.Cut(v, "=")
			missing = append(missing, name)
		}
	}
	d = differing(d, "environment", "", strings.Join(missing, " "))
	if wanted.User != "" {
		d = differing(d, "user", f.User, wanted.User)
	}
	d = differing(d, "mounts", mounts(f.Mounts), mounts(wanted.Mounts))
	d = differing(d, "port", strconv.Itoa(f.Port), strconv.Itoa(wanted.Port))
	d = differing(d, "address", f.Listen, wanted.Listen)
	d = differing(d, "network", f.Network, wanted.Network)
	if len(d) > 0 {
		return d, nil
	}
	spec, err := wanted.digest()
	if err != nil {
		return nil, err
	}
	if f.Labels[labelSpec] != spec {
		d = append(d, Difference{What: "settings", Running: "as they were", Wanted: "as they are now"})
	}
	return d, nil
}

func mounts(list []Mount) string {
	var out []string
	for _, m := range list {
		out = append(out, m.String())
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// short is the beginning of an id, as docker prints it.
func short(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
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
	if !f.Running {
		s.Detail += ": " + f.ended()
	}
	return s, nil
}

// ended says how it came to its end.
func (f *found) ended() string {
	text := fmt.Sprintf("exit status %d", f.Code)
	if f.Failure != "" {
		text += ", " + f.Failure
	}
	if f.Ended.IsZero() || f.Started.IsZero() {
		return "never started"
	}
	return fmt.Sprintf("ended %s ago: %s", time.Since(f.Ended).Round(time.Second), text)
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
	d := then.differences(now)
	if then.Image != now.Image {
		return d, nil
	}
	id, err := c.engine.image(ctx, now.Image)
	if errors.Is(err, ErrNoImage) {
		return d, nil
	}
	return beside(differing(nil, "image", short(f.imageID), short(id)), d), c.fail(err)
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
	m := Made{Image: f.Image, Listen: f.Listen, Mounts: f.Mounts}
	var then asked
	if json.Unmarshal([]byte(f.Labels[labelAsked]), &then) == nil { // else it counts as another
		m.Binary, m.Args, m.Network = then.Binary, then.Args, then.Network
	}
	return &m, nil
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

// locked lets nobody else change what runs on the data directory meanwhile, be
// it as a container or as a process.
func (c *Container) locked(ctx context.Context, v verb) (out Outcome, err error) {
	var wanted box
	if v != verbStart { // which takes what there is
		if wanted, err = c.wanted(ctx); err != nil {
			return Outcome{}, err
		}
	}
	l, err := c.o.takeLock(ctx, "ocisync "+string(v), c.o.Patience.Ready)
	if err != nil {
		return Outcome{}, err
	}
	defer func() { err = errors.Join(err, l.release()) }()
	r, err := c.o.last()
	if err != nil {
		return Outcome{}, err
	}
	if r.alive() {
		return Outcome{}, c.fail(fmt.Errorf("%w: process %d, of driver process; end it first: kill %[2]d", ErrOccupied, r.PID))
	}
	others, err := c.engine.of(ctx, labelData, c.o.data())
	if err != nil {
		return Outcome{}, c.fail(err)
	}
	for _, name := range others {
		if name != c.name() && name != c.name()+next {
			return Outcome{}, c.fail(fmt.Errorf("%w: container %s, of another mode or instance; take that down first, or name another directory in registry.run.data", ErrOccupied, name))
		}
	}
	out, err = c.bring(ctx, v, wanted)
	if err == nil && !out.Already {
		c.o.note(record{Container: c.name()})
	}
	return out, err
}

// bring has the container running and ready.
func (c *Container) bring(ctx context.Context, v verb, wanted box) (Outcome, error) {
	old, err := c.mend(ctx)
	if err != nil {
		return Outcome{}, err
	}
	if v == verbStart && old != nil {
		if old.Running {
			return Outcome{Already: true}, c.wait(ctx, old)
		}
		return Outcome{}, c.run(ctx, old)
	}
	if v == verbStart {
		r, err := c.o.readRecord()
		if err == nil {
			err = c.o.wantedUp(r)
		}
		if err != nil {
			return Outcome{}, err
		}
		if wanted, err = c.wanted(ctx); err != nil {
			return Outcome{}, err
		}
	}
	if err := c.image(ctx, &wanted); err != nil {
		return Outcome{}, err
	}
	if old == nil {
		made, err := c.make(ctx, c.name(), wanted)
		if err != nil {
			return Outcome{}, err
		}
		if err := c.run(ctx, made); err != nil {
			return Outcome{}, errors.Join(err, c.fail(c.engine.remove(context.WithoutCancel(ctx), made.ID)))
		}
		return Outcome{}, nil
	}
	changed, err := old.differences(wanted)
	switch {
	case err != nil:
		return Outcome{}, err
	case len(changed) > 0:
		return Outcome{Changed: changed}, c.replace(ctx, old, wanted)
	case !old.Running:
		return Outcome{}, c.run(ctx, old)
	case v == verbRestart:
		if err := c.o.check(ctx, old.Face); err != nil {
			return Outcome{}, err
		}
		if err := c.engine.stop(ctx, old.ID, old.Grace); err != nil {
			return Outcome{}, c.fail(err)
		}
		return Outcome{}, c.run(ctx, old)
	}
	return Outcome{Already: true}, c.wait(ctx, old)
}

// mend brings to an end what an earlier replacement that was killed left, and
// returns the container there is, or nil.
func (c *Container) mend(ctx context.Context) (*found, error) {
	old, err := c.ours(ctx, c.name())
	if err != nil {
		return nil, err
	}
	successor, err := c.ours(ctx, c.name()+next)
	switch {
	case err != nil || successor == nil:
		return old, err
	case old != nil: // the former counts until it is gone
		return old, c.fail(c.engine.remove(ctx, successor.ID))
	}
	if err := c.engine.rename(ctx, successor.ID, c.name()); err != nil {
		return nil, c.fail(err)
	}
	successor.Name = c.name()
	return successor, nil
}

// make makes a container that does not run yet.
func (c *Container) make(ctx context.Context, name string, b box) (*found, error) {
	spec, err := b.digest()
	if err != nil {
		return nil, err
	}
	labels, err := c.labels(spec, b.Face)
	if err != nil {
		return nil, err
	}
	if c.o.Registry.Run.Network == "" {
		if err := c.engine.network(ctx, b.Network, labels); err != nil {
			return nil, c.fail(fmt.Errorf("network %s: %w", b.Network, err))
		}
	}
	id, err := c.engine.create(ctx, name, b, labels)
	if err != nil {
		return nil, c.fail(fmt.Errorf("making container %s: %w", name, err))
	}
	return &found{box: b, ID: id, Name: name, Labels: labels}, nil
}

// run starts a container and waits until it is ready. One that does not get
// ready is stopped.
func (c *Container) run(ctx context.Context, f *found) error {
	if err := c.o.beforeStart(ctx, f.Face); err != nil {
		return err
	}
	if err := c.o.giveAway(); err != nil {
		return c.fail(fmt.Errorf("giving the files to the owner of the data directory: %w", err))
	}
	if _, local := c.engine.describe(ctx); local {
		if err := c.o.free(ctx, f.Listen); err != nil {
			return err
		}
	}
	// of now, and not of what the engine says: it may have started it again by then
	f.Started, f.Restarts = time.Now(), 0
	if err := c.engine.start(ctx, f.ID); errors.Is(err, ErrTaken) {
		return taken(c.o.Registry.URL, f.Listen)
	} else if err != nil {
		return c.fail(fmt.Errorf("starting container %s: %w", f.Name, err))
	}
	if err := c.wait(ctx, f); err != nil {
		return errors.Join(err, c.fail(c.engine.stop(context.WithoutCancel(ctx), f.ID, f.Grace)))
	}
	return nil
}

// wait waits until the registry answers. The error says what its log said last.
func (c *Container) wait(ctx context.Context, f *found) error {
	watching, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	var how string
	var watcher sync.WaitGroup
	defer watcher.Wait()
	defer cancel()
	watcher.Go(func() {
		for watching.Err() == nil {
			now, err := c.engine.inspect(watching, f.ID)
			if err == nil && (now == nil || !now.Running || now.Restarts > f.Restarts) {
				how = "the container is gone"
				switch {
				case now != nil && now.Running:
					how = "the engine had to start it again"
				case now != nil:
					how = fmt.Sprintf("exit status %d", now.Code)
				}
				close(ended)
				return
			}
			select {
			case <-watching.Done():
			case <-time.After(c.o.Patience.Watch):
			}
		}
	})
	err := c.o.ready(ctx, f.Listen, ended)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, ErrDied):
		err = fmt.Errorf("%w: %s", ErrDied, how)
	}
	return c.fail(fmt.Errorf("%w; %s", err, c.lastWords(ctx, f)))
}

func (c *Container) lastWords(ctx context.Context, f *found) string {
	r, err := c.engine.log(ctx, f.ID, f.Started, saidFrom, false)
	if err != nil {
		return "its log cannot be read: " + err.Error()
	}
	defer r.Close()
	return lastWords(r)
}

// replace puts a new container in the place of one. It is made while the former
// runs, so that an image or a file that is missing harms nobody.
func (c *Container) replace(ctx context.Context, old *found, b box) error {
	if _, local := c.engine.describe(ctx); local && b.Listen != old.Listen {
		if err := c.o.free(ctx, b.Listen); err != nil {
			return err
		}
	}
	if err := c.o.check(ctx, b.Face); err != nil {
		return err
	}
	made, err := c.make(ctx, c.name()+next, b)
	if err != nil {
		return err
	}
	all := context.WithoutCancel(ctx) // from here on it is brought to an end
	drop := func(err error) error { return errors.Join(err, c.fail(c.engine.remove(all, made.ID))) }
	if old.Running {
		if err := c.engine.stop(ctx, old.ID, old.Grace); err != nil {
			return drop(c.fail(err))
		}
	}
	if err := c.run(ctx, made); err != nil {
		err = drop(err)
		if !old.Running {
			return err
		}
		if again := c.run(all, old); again != nil {
			return fmt.Errorf("%w; and the former container does not start either: %w", err, again)
		}
		return fmt.Errorf("%w; it runs again as before: correct the mode", err)
	}
	if err := c.engine.remove(all, old.ID); err != nil {
		return c.fail(err)
	}
	return c.fail(c.engine.rename(all, made.ID, c.name()))
}

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
