// Package runtime runs registries that are programs of their own, as processes
// or as containers, and knows no registry type: what to start comes in as a
// [Launch], how to ask whether it is ready as a function.
//
// Start with [Options]. [NewProcess] is the driver "process": one ocisync
// supervises the program ([Process.Supervise]), and others reach that one by a
// socket in the data directory. [NewContainer] is the driver "docker": the
// engine supervises. Both start, stop, compare and tell of the registry by
// methods of the same shape.
//
// Below <data>/ocisync lie run.lock (who supervises), run.sock, run.json (what
// runs, or ran last), run.alive (locked by the program as long as it lives) and
// up.log (what an ocisync in the background says).
package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ocisync/ocisync/schema"
)

// The kinds of error; test with errors.Is. Each says what it is about and what
// to do.
var (
	ErrSupervised = errors.New("another process runs it")
	ErrTaken      = errors.New("address already in use")
	ErrOccupied   = errors.New("another registry runs on the data directory")
	ErrDied       = errors.New("the registry ended")
	ErrNotReady   = errors.New("the registry does not get ready")
	ErrForeign    = errors.New("it is not ours")
	ErrDisplaced  = errors.New("it runs with its data elsewhere")
	ErrDown       = errors.New("it was taken down")
	ErrNoImage    = errors.New("no such image")
	ErrNoEngine   = errors.New("the Docker engine does not answer")
	ErrNoNetwork  = errors.New("its network is not there")
	ErrPaused     = errors.New("it is paused")
)

// Launch is how a registry's program is started. Paths are absolute and the
// same inside a container and outside.
type Launch struct {
	Args   []string // after the program's name; the mode's own follow
	Env    []string // NAME=value; a process gets nothing else
	Mounts []Mount  // of a container
	Port   int      // where it listens in a container
	Face   string   // is handed to [Options.BeforeStart]
	// Grace is how long it may take to stop before it is killed; 0 is 30
	// seconds.
	Grace time.Duration
}

// Mount is a file or directory that a container shares with the host.
type Mount struct {
	Path     string `json:"path"`
	Writable bool   `json:"writable,omitempty"`
}

func (m Mount) String() string {
	if m.Writable {
		return m.Path
	}
	return m.Path + " (read-only)"
}

// Options say what registry is run, and how.
type Options struct {
	// Mode and Instance name the container; Registry is what the mode says of
	// it, with a run block.
	Mode, Instance string
	Registry       schema.Registry
	// Launch says how it is started. It is asked when something is started or
	// compared, and changes nothing.
	Launch func(context.Context) (Launch, error)
	// Check tells why the registry would not start with a face, and changes
	// nothing. It is asked before one that runs is stopped to be started again,
	// and before each start. Nil: nothing need be asked.
	Check func(ctx context.Context, face string) error
	// Supervisable tells why no other ocisync could supervise a process. It is
	// asked before one that nobody supervises is stopped to be started again. Nil:
	// nothing need be asked.
	Supervisable func(context.Context) error
	// BeforeStart makes what must be there before a start, and is told the
	// face of the launch. It is called before each start, and only while
	// nothing runs on the data directory; but a container that died is started
	// again by the engine alone. Nil: nothing need be made.
	BeforeStart func(ctx context.Context, face string) error
	// Ready asks the registry once that listens at an address. An error says
	// why it is not ready.
	Ready func(ctx context.Context, address string) error
	// Log is the file that a process's output goes to.
	Log string
	// Background is the command that supervises a process in the background.
	Background []string
	// Say is told what is waited for, in a line without an end; nil: nobody.
	Say func(line string)
	// Pulling is told of an image on its way, in bytes, and at its end of none;
	// nil: nobody.
	Pulling func(done, total int64)
	Logger  *slog.Logger // may be nil
	// Patience bounds what is waited for.
	Patience Patience
}

// Patience bounds what is waited for. The zero value of a field stands for its
// default.
type Patience struct {
	Ready   time.Duration // how long a start may take, 1 minute
	Probe   time.Duration // between two questions whether it is ready, 100 ms
	Delay   time.Duration // before the first restart, 1 s; each next one twice that
	Slowest time.Duration // the longest of these delays, 1 minute
	// Deaths within Window, 5 in 5 minutes, are the end of restarting.
	Deaths int
	Window time.Duration
	Watch  time.Duration // between two looks at the log's size and at an adopted process, 250 ms
	// LogSize is the size in bytes at which the log of a process is rotated, 16 MiB.
	LogSize int64
}

func (p Patience) orDefaults() Patience {
	or := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	or(&p.Ready, time.Minute)
	or(&p.Probe, 100*time.Millisecond)
	or(&p.Delay, time.Second)
	or(&p.Slowest, time.Minute)
	or(&p.Window, 5*time.Minute)
	or(&p.Watch, 250*time.Millisecond)
	if p.Deaths == 0 {
		p.Deaths = 5
	}
	if p.LogSize == 0 {
		p.LogSize = 16 << 20
	}
	return p
}

// Status is what is known of a registry's process or container.
type Status struct {
	Running bool `json:"running"`
	// ID is another with each start.
	ID       string    `json:"id,omitempty"`
	PID      int       `json:"pid,omitempty"` // of a process
	Started  time.Time `json:"started,omitzero"`
	Restarts int       `json:"restarts,omitempty"` // after it died, by who supervises it
	// Paused is a container that runs, and that somebody paused: it answers nobody.
	Paused bool `json:"paused,omitempty"`
	// OffNetwork is the network that somebody took a container off, so that it is
	// reached by nobody.
	OffNetwork string `json:"off_network,omitempty"`
	// Detail is for people: "ended 3 s ago: exit status 2".
	Detail string `json:"detail,omitempty"`
	// Supervisor is who starts it again when it dies, "" for nobody.
	Supervisor string `json:"supervisor,omitempty"`
	Log        string `json:"log,omitempty"` // the file of its output, where there is one
}

// Made is how a registry was started, in the words of the mode that
// it was started by.
type Made struct {
	Stopped         bool // it does not run any more; the rest is not set then
	Image, Binary   string
	Args            []string // the mode's own
	Listen, Network string
	Also            []string // addresses of a container besides
	// Of a container: its mounts, those of which ocisync makes none, and what it may
	// that ocisync lets none; the last two are sorted.
	Mounts         []Mount
	Others, Rights []string
}

// Outcome says what [Process.Up] and its like did.
type Outcome struct {
	Already bool         `json:"already,omitempty"` // it ran as wanted, and still does
	Adopted bool         `json:"adopted,omitempty"` // it ran, and nobody supervised it
	Changed []Difference `json:"changed,omitempty"` // what is now as wanted and was not
}

// Difference is one thing in which what runs is not what the mode wants.
type Difference struct {
	What    string `json:"what"` // "image"
	Running string `json:"running"`
	Wanted  string `json:"wanted"`
	// Beside is set where the mode's words are what they were, or are no
	// part of a plan: a name stands for another image or program by now.
	Beside bool `json:"-"`
}

func (d Difference) String() string {
	return fmt.Sprintf("%s: %s -> %s", d.What, or(d.Running, "none"), or(d.Wanted, "none"))
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// differing appends a difference where there is one.
func differing(list []Difference, what, running, wanted string) []Difference {
	if running == wanted {
		return list
	}
	return append(list, Difference{What: what, Running: running, Wanted: wanted})
}

// differingEnv compares variables. Their values are not for everybody to see.
func differingEnv(list []Difference, running, wanted []string) []Difference {
	names := func(of, without []string) string {
		var out []string
		for _, v := range of {
			if !slices.Contains(without, v) {
				name, _, _ := strings.Cut(v, "=")
				out = append(out, name)
			}
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
	gone, come := names(running, wanted), names(wanted, running)
	if gone != "" && gone == come {
		return append(list, Difference{What: "environment", Running: "another " + gone, Wanted: gone})
	}
	return differing(list, "environment", gone, come)
}

// words shows arguments as a person would type them.
func words(args []string) string {
	var b strings.Builder
	for i, a := range args {
		if i > 0 {
			b.WriteByte(' ')
		}
		if a == "" || strings.ContainsAny(a, " \t\n'\"\\") {
			fmt.Fprintf(&b, "%q", a)
		} else {
			b.WriteString(a)
		}
	}
	return b.String()
}

const (
	unusual      = 3 * time.Second // after which it is said what is waited for
	usualGrace   = 30 * time.Second
	endingWait   = time.Second      // for a supervisor that ends, or was killed, to be gone
	killPatience = 10 * time.Second // for the kernel to take a killed process away
)

// settled fills in what options leave out.
func (o Options) settled() (Options, error) {
	run := o.Registry.Run
	if run == nil || run.Data == "" {
		return o, fmt.Errorf("%s: the mode does not say how the registry is run; add registry.run with driver and data", o.Registry.URL)
	}
	data, err := filepath.Abs(run.Data)
	if err != nil {
		return o, fmt.Errorf("%s: registry.run.data: %w", o.Registry.URL, err)
	}
	copied := *run
	copied.Data = data
	o.Registry.Run = &copied
	o.Patience = o.Patience.orDefaults()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Say == nil {
		o.Say = func(string) {}
	}
	if o.Pulling == nil {
		o.Pulling = func(int64, int64) {}
	}
	return o, nil
}

func (o Options) data() string { return o.Registry.Run.Data }

// launch asks how the registry is started, with the mode's arguments behind.
func (o Options) launch(ctx context.Context) (Launch, error) {
	l, err := o.Launch(ctx)
	if err != nil {
		return Launch{}, err
	}
	l.Args = slices.Concat(l.Args, o.Registry.Run.Args)
	if l.Grace == 0 {
		l.Grace = usualGrace
	}
	return l, nil
}

// beforeStart makes what must be there, unless it would not start all the same.
func (o Options) beforeStart(ctx context.Context, face string) error {
	if err := o.check(ctx, face); err != nil || o.BeforeStart == nil {
		return err
	}
	return o.BeforeStart(ctx, face)
}

func (o Options) check(ctx context.Context, face string) error {
	if o.Check == nil {
		return nil
	}
	return o.Check(ctx, face)
}

// ready waits until the registry answers at an address, or where the mode has
// it if none is known. ErrDied: ended was closed before.
// ErrNotReady: it took too long.
func (o Options) ready(ctx context.Context, address string, ended <-chan struct{}) error {
	if address == "" {
		address = o.listen()
	}
	waiting, cancel := context.WithTimeout(ctx, o.Patience.Ready)
	defer cancel()
	go func() {
		select {
		case <-ended:
			cancel()
		case <-waiting.Done():
		}
	}()
	began, told := time.Now(), false
	last := errors.New("it gives no answer")
	for {
		err := o.Ready(waiting, address)
		select { // an answer could be somebody else's
		case <-ended:
			return ErrDied
		default:
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			return nil
		case waiting.Err() != nil:
			return fmt.Errorf("%w in %s: %w", ErrNotReady, o.Patience.Ready, last)
		}
		last = err
		if !told && time.Since(began) > unusual {
			told = true
			o.Say("waiting until it is ready: " + err.Error())
		}
		select {
		case <-waiting.Done():
		case <-time.After(o.Patience.Probe):
		}
	}
}

// shared reports whether two that listen at these addresses may be in each other's
// way: a name may stand for any address.
func shared(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB {
		return false
	}
	ipA, ipB := net.ParseIP(hostA), net.ParseIP(hostB)
	return ipA == nil || ipB == nil || ipA.IsUnspecified() || ipB.IsUnspecified() || ipA.Equal(ipB)
}

// Reach is the address at which a registry is asked on this host that listens
// at another, which may stand for every address.
func Reach(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port)
}
