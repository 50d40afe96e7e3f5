package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ocisync/ocisync/pkg/regular"
)

const (
	// UpLog is what an ocisync in the background writes, below ocisync/ in the
	// data directory.
	UpLog     = "up.log"
	upLogSize = 16 << 20 // in bytes, at which a new one is begun
)

// Process is a registry that runs as a process of this host. Safe for
// concurrent use.
type Process struct{ o Options }

// NewProcess returns the registry of the options; nothing is looked at yet.
func NewProcess(o Options) (*Process, error) {
	o, err := o.settled()
	return &Process{o}, err
}

// Supervise starts the registry and keeps it running in this process until the
// context is done: one that dies is started again, later each time, until it
// died too often. It obeys other processes of this user meanwhile. started is
// called when it is ready. ErrSupervised: another process does it; [Process.Up]
// speaks to that one.
func (p *Process) Supervise(ctx context.Context, command string, started func(Status, Outcome)) (err error) {
	wanted, err := p.o.program(ctx)
	if err != nil {
		return err
	}
	l, err := p.o.takeLock(ctx, command, endingWait)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.release()) }()
	s := newSupervisor(p.o)
	s.tell(func(v *view) { v.State = stateStarting })
	end, err := s.serve(ctx, l)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	return s.run(ctx, wanted, func(o Outcome) { started(s.view().status(p.o), o) })
}

// status is what a supervisor's view says.
func (v view) status(o Options) Status {
	s := Status{
		Running: v.Record.PID != 0 && v.Record.Ended == "" && v.Record.alive(), ID: v.Record.id(), PID: v.Record.PID,
		Started: v.Record.Started, Restarts: v.Restarts, Supervisor: v.Holder.String(), Log: o.Log, Detail: v.Why,
	}
	if !s.Running {
		s.PID = 0
		s.Detail = v.Record.detail()
		if v.Why != "" && v.Why != v.Record.Ended {
			s.Detail += "; " + v.Why
		}
	} else if v.State == stateStarting {
		s.Detail = "starting"
	}
	return s
}

// Status looks, and changes nothing.
func (p *Process) Status(ctx context.Context) (Status, error) {
	if c := p.o.dial(ctx); c != nil {
		v, err := c.view(ctx)
		if err == nil {
			return v.status(p.o), nil
		}
		if p.o.dial(ctx) != nil { // it did not end just now
			return Status{}, fmt.Errorf("%s: %w", p.o.Registry.URL, err)
		}
	}
	r, err := p.o.last()
	if err != nil {
		return Status{}, err
	}
	if r.Container != "" {
		return Status{Detail: "it was run last as container " + r.Container}, nil
	}
	if r.alive() {
		return Status{Running: true, ID: r.id(), PID: r.PID, Started: r.Started, Log: p.o.Log, Detail: "nobody supervises it: who started it is gone"}, nil
	}
	s := Status{Detail: r.detail(), Started: r.Started}
	if r.PID != 0 {
		s.ID, s.Log = r.id(), p.o.Log
	}
	return s, nil
}

// Differences lists in what the process was started otherwise than the mode
// says now; nil if none runs. It looks at the mode's words alone: what a
// provider starts otherwise, with another version of ocisync, [Process.Up] sees.
func (p *Process) Differences(context.Context) ([]Difference, error) {
	r, err := p.o.readRecord()
	if err != nil || !r.alive() {
		return nil, err
	}
	return r.Program.Asked.differences(p.o.asked()), nil
}

// Made says how the process was started; nil if none ever was.
func (p *Process) Made(context.Context) (*Made, error) {
	r, err := p.o.readRecord()
	switch {
	case err != nil || r.PID == 0 && r.Container == "":
		return nil, err
	case !r.alive():
		return &Made{Stopped: true}, nil
	}
	then := r.Program.Asked
	return &Made{Binary: or(then.Binary, then.Program), Args: then.Args, Listen: r.Program.Listen}, nil
}

// Keep returns what has it running again as it runs now, whatever the mode says
// by then; nil if none runs.
func (p *Process) Keep(context.Context) (again func(context.Context) error, err error) {
	r, err := p.o.readRecord()
	if err != nil || !r.alive() {
		return nil, err
	}
	return func(ctx context.Context) error {
		c := p.o.dial(ctx)
		if c == nil {
			return fmt.Errorf("%s: nobody supervises it any more; start it with ocisync up", p.o.Registry.URL)
		}
		_, err := c.order(ctx, order{Verb: verbUp, Program: r.Program})
		return err
	}, nil
}

// Start starts it, unless it runs, and returns when it is ready. ErrDown: it, or
// its supervisor, was ended since; [Process.Up] starts it all the same.
func (p *Process) Start(ctx context.Context) error {
	_, err := p.order(ctx, verbStart)
	return err
}

// Up has it running as the mode wants it, and returns when it is ready. If it
// does not get ready so, what ran before runs again.
func (p *Process) Up(ctx context.Context) (Outcome, error) { return p.order(ctx, verbUp) }

// Restart stops it, starts it as the mode wants it, and returns when it is ready.
func (p *Process) Restart(ctx context.Context) (Outcome, error) { return p.order(ctx, verbRestart) }

// order tells the supervisor, or starts one in the background.
func (p *Process) order(ctx context.Context, v verb) (Outcome, error) {
	c := p.o.dial(ctx)
	if c == nil {
		return p.background(ctx, v)
	}
	wanted, err := p.o.program(ctx)
	if err != nil {
		return Outcome{}, err
	}
	if v == verbRestart { // what the supervisor has to say of it is in a log alone
		if err := p.o.check(ctx, wanted.Face); err != nil {
			return Outcome{}, err
		}
	}
	out, err := c.order(ctx, order{Verb: v, Program: wanted})
	if errors.Is(err, errGone) && p.ended(ctx) {
		return p.background(ctx, v)
	}
	return out, err
}

// ended waits a moment until nobody supervises.
func (p *Process) ended(ctx context.Context) bool {
	for range 50 {
		if p.o.dial(ctx) == nil {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(p.o.Patience.Probe):
		}
	}
	return false
}

// background starts a supervisor that outlives this process.
func (p *Process) background(ctx context.Context, v verb) (Outcome, error) {
	found, err := p.o.last()
	if err == nil && v == verbStart && !found.alive() {
		err = p.o.wantedUp(found)
	}
	if err != nil {
		return Outcome{}, err
	}
	wanted, err := p.o.program(ctx)
	if err != nil {
		return Outcome{}, err
	}
	var out Outcome
	if found.alive() {
		out.Changed = found.Program.differences(wanted)
		out.Adopted = len(out.Changed) == 0
	}
	if !found.alive() || v == verbRestart {
		if err := p.o.check(ctx, wanted.Face); err != nil {
			return Outcome{}, err
		}
	}
	if v == verbRestart && found.alive() {
		if err := p.Stop(ctx); err != nil {
			return Outcome{}, err
		}
		out.Adopted = false
	}
	err = Detach(ctx, Detached{
		Args: p.o.Background, Log: p.o.own(UpLog), Every: p.o.Patience.Probe, Say: p.o.Say,
		Ready: func(ctx context.Context, pid int) bool {
			c := p.o.dial(ctx)
			if c == nil {
				return false
			}
			seen, err := c.view(ctx)
			return err == nil && seen.Holder.PID == pid && seen.State == stateRunning
		},
	})
	if c := p.o.dial(ctx); err != nil && ctx.Err() == nil && c != nil { // somebody else's came first
		return c.order(ctx, order{Verb: v, Program: wanted})
	}
	if err != nil && !strings.HasPrefix(err.Error(), p.o.Registry.URL) { // who was started said it
		err = fmt.Errorf("%s: %w", p.o.Registry.URL, err)
	}
	return out, err
}

// Stop ends it, and returns when it is gone. Who supervises it starts it again
// when told to, or when this process is gone and had not told so.
func (p *Process) Stop(ctx context.Context) error { return p.end(ctx, verbStop) }

// Down ends it and whoever supervises it.
func (p *Process) Down(ctx context.Context) error { return p.end(ctx, verbDown) }

func (p *Process) end(ctx context.Context, v verb) error {
	if c := p.o.dial(ctx); c != nil {
		holder := p.o.holder()
		switch _, err := c.order(ctx, order{Verb: v, By: thisProcess()}); {
		case errors.Is(err, errGone) && p.ended(ctx):
			return p.end(ctx, v)
		case err != nil, v == verbStop:
			return err
		}
		for p.o.dial(ctx) != nil && p.o.holder().PID == holder.PID {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(p.o.Patience.Probe):
			}
		}
		return nil
	}
	r, err := p.o.last()
	switch {
	case err != nil:
	case v == verbDown && !r.alive():
		err = p.o.noteDown()
	case v == verbStop && r.alive() && p.o.Supervisable != nil: // who starts it again supervises it
		if err = p.o.Supervisable(ctx); err != nil {
			err = fmt.Errorf("%s: it runs on, and is not stopped, since nobody could supervise it after: %w", p.o.Registry.URL, err)
		}
	}
	if err != nil || !r.alive() {
		return err
	}
	l, err := p.o.takeLock(ctx, "ocisync down", endingWait) // nobody adopts it now
	if err != nil {
		return err
	}
	a := p.o.adopt(r)
	if err = a.stop(r.Program.Grace); err == nil {
		p.o.sweep(r)
		r = r.ended("stopped by order")
		r.Down = v == verbDown
		p.o.note(r)
	}
	return errors.Join(err, l.release())
}

// Log is what it wrote since it started last, oldest first, as far as it was kept,
// also to a file that is not in its place any more.
func (p *Process) Log(context.Context) (io.ReadCloser, error) {
	r, err := p.o.readRecord()
	if err != nil {
		return nil, err
	}
	if name := p.strayLog(r); name != "" {
		if r.Log.Rotations > 0 {
			r.Log.Offset = 0
		}
		return since(name, mark{Offset: r.Log.Offset})
	}
	return since(p.o.Log, r.Log)
}

// strayLog names the file that it writes to, where that is not its log any more,
// since somebody moved or removed that.
func (p *Process) strayLog(r record) string {
	if name := output(r.PID); r.alive() && name != "" && !sameFile(name, p.o.Log) {
		return name
	}
	return ""
}

func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	two, err := os.Stat(b)
	return err == nil && os.SameFile(one, two)
}

// WriteLog writes the last lines of its log to w, 0 for all that is kept, those
// of earlier starts too; with more it goes on until the context is done.
func (p *Process) WriteLog(ctx context.Context, w io.Writer, tail int, more bool) error {
	path := p.o.Log
	r, err := p.o.readRecord()
	if err == nil {
		path = or(p.strayLog(r), path)
		err = WriteLog(ctx, path, w, tail, more)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p.o.Registry.URL, err)
	}
	return nil
}

// Detached is a command that is to outlive this process.
type Detached struct {
	Args []string // the command; it gets this process's environment
	Log  string   // where it writes, below ocisync/ in a data directory; made if it is absent
	// Ready says whether the process does what it was started for.
	Ready func(ctx context.Context, pid int) bool
	Every time.Duration     // between two questions; 0 is 100 ms
	Say   func(line string) // is told when it takes long; may be nil
}

// Detach starts a command in a session of its own and returns when it is ready.
// If it ends before, the error is the last line that it wrote.
func Detach(ctx context.Context, d Detached) error {
	if len(d.Args) == 0 {
		return errors.New("nothing is known that would run it in the background; run ocisync up")
	}
	if d.Every == 0 {
		d.Every = 100 * time.Millisecond
	}
	dir := filepath.Dir(d.Log)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making its log: %w", err)
	}
	if err := regular.Private(filepath.Dir(dir), filepath.Base(dir)); err != nil {
		return fmt.Errorf("its log: %w", err)
	}
	if _, err := rotate(d.Log, upLogSize); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("its log: %w", err)
	}
	log, offset, err := openLog(d.Log)
	if err != nil {
		return fmt.Errorf("its log: %w", err)
	}
	defer log.Close()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), d.Args[0], d.Args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	keepDescriptors()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting in the background: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if d.Say != nil {
		long := time.AfterFunc(unusual, func() { d.Say("waiting until it is ready; " + d.Log + " may say more") })
		defer long.Stop()
	}
	for {
		if d.Ready(ctx, cmd.Process.Pid) {
			return nil
		}
		select {
		case err := <-ended:
			return fmt.Errorf("%s", lastSaid(d.Log, offset, err))
		case <-ctx.Done():
			// it is told as a person would be told who waits no longer
			return errors.Join(ctx.Err(), cmd.Process.Signal(syscall.SIGTERM))
		case <-time.After(d.Every):
		}
	}
}

// lastSaid is why a detached command ended, from its log.
func lastSaid(path string, offset int64, how error) string {
	fallback := "it ended at once"
	if how != nil {
		fallback = how.Error()
	}
	log, err := since(path, mark{Offset: offset})
	if err != nil {
		return fallback
	}
	defer log.Close()
	b, err := lastLines(log, 1)
	if line := strings.TrimSpace(string(b)); err == nil && line != "" {
		return strings.TrimPrefix(line, "ocisync: ")
	}
	return fallback
}
