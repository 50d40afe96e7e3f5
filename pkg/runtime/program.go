package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ocisync/ocisync/pkg/regular"
)

const (
	recordFile = "run.json"
	aliveFile  = "run.alive"
)

// program is what is started as a process.
type program struct {
	Path string   `json:"path"`
	Args []string `json:"args"`
	Env  []string `json:"env"`
	Dir  string   `json:"dir"`
	// Listen is the address it is said to listen at.
	Listen string        `json:"listen"`
	Face   string        `json:"face,omitempty"`
	Grace  time.Duration `json:"grace"`
	// Build tells the file from another one put in its place.
	Build string `json:"build"`
	// Asked is what of this the mode said.
	Asked asked `json:"asked"`
}

// program is the program as the mode has it now.
func (o Options) program(ctx context.Context) (program, error) {
	fail := func(err error) (program, error) { return program{}, fmt.Errorf("%s: %w", o.Registry.URL, err) }
	run := o.Registry.Run
	path := run.Binary
	if strings.ContainsRune(path, filepath.Separator) && !filepath.IsAbs(path) {
		return fail(fmt.Errorf("registry.run.binary %q is a path from nowhere in particular; write the whole path, or a name that PATH has", path))
	}
	path, err := exec.LookPath(path)
	if err != nil {
		return fail(fmt.Errorf("registry.run.binary: %w; install it, or correct the name", err))
	}
	if path, err = filepath.Abs(path); err != nil {
		return fail(err)
	}
	l, err := o.launch(ctx)
	if err != nil {
		return program{}, err
	}
	return program{
		Path: path, Args: l.Args, Env: l.Env, Dir: o.data(), Listen: o.listen(), Face: l.Face, Grace: l.Grace,
		Build: build(path), Asked: o.asked(),
	}, nil
}

// differences lists in what a running program is another than is wanted.
func (p program) differences(wanted program) []Difference {
	var d []Difference
	d = differing(d, "program", p.Path, wanted.Path)
	if p.Path == wanted.Path {
		d = differing(d, "program", p.Build, wanted.Build)
	}
	d = differing(d, "arguments", words(p.Args), words(wanted.Args))
	d = differingEnv(d, p.Env, wanted.Env)
	d = differing(d, "directory", p.Dir, wanted.Dir)
	d = differing(d, "address", p.Listen, wanted.Listen)
	if p.Listen == wanted.Listen && p.Face != wanted.Face {
		d = append(d, Difference{What: "address or certificate", Running: "as they were", Wanted: "as the mode says"})
	}
	return differing(d, "time to stop", p.Grace.String(), wanted.Grace.String())
}

// record says what runs, or ran last. Whoever supervises writes it.
type record struct {
	PID     int       `json:"pid,omitempty"`
	Begun   string    `json:"begun,omitempty"` // with PID the identity of the process
	Started time.Time `json:"started,omitzero"`
	Program program   `json:"program,omitzero"`
	Log     mark      `json:"log,omitzero"`
	// Ended says how it came to its end, if that is known.
	Ended string    `json:"ended,omitempty"`
	At    time.Time `json:"at,omitzero"` // when
	// Down says that somebody wants it to be down: only who wants it up starts
	// it again.
	Down bool `json:"down,omitempty"`
	// Container is in the place of a process, where the driver is docker.
	Container string `json:"container,omitempty"`
}

func (r record) id() string { return strconv.Itoa(r.PID) + "@" + r.Begun }

// alive reports whether the process of the record still runs.
func (r record) alive() bool { return r.PID > 1 && asker{r.PID, r.Begun}.there() }

func (r record) ended(how string) record {
	r.Ended, r.At = how, time.Now().UTC()
	return r
}

// detail says for people what became of what does not run any more.
func (r record) detail() string {
	switch {
	case r.PID == 0:
		return "not started yet"
	case r.Ended == "":
		return "ended unseen"
	}
	return fmt.Sprintf("ended %s ago: %s", time.Since(r.At).Round(time.Second), r.Ended)
}

// readRecord reads what was written down; nothing is an empty record.
func (o Options) readRecord() (record, error) {
	b, err := o.readOwn(recordFile)
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil
	}
	var r record
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if errors.Is(err, regular.ErrUnsafe) {
		return record{}, fmt.Errorf("%s: %w", o.Registry.URL, err)
	}
	if errors.Is(err, fs.ErrPermission) {
		return record{}, fmt.Errorf("%s: what runs on %s: %w; run ocisync as the user who runs the registry", o.Registry.URL, o.data(), err)
	}
	if err != nil {
		return record{}, fmt.Errorf("%s: what runs on %s: %w; see that no registry runs there, then remove %s", o.Registry.URL, o.data(), err, o.own(recordFile))
	}
	if o.copied(r) {
		return record{}, nil
	}
	return r, nil
}

// copied reports whether a program that runs was started on another directory, which
// this one was copied from: it keeps no lock here, and is told of nothing here.
func (o Options) copied(r record) bool {
	if !r.alive() || slices.ContainsFunc(r.Program.Args, func(a string) bool { return strings.HasPrefix(a, o.data()+string(filepath.Separator)) }) {
		return false
	}
	f, err := o.openOwn(aliveFile, os.O_RDONLY)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	return !kept(f)
}

// last is what runs, or ran last. A program whose supervisor was killed before
// it had noted it is found by the lock that it keeps; nothing is known of that
// one but its number.
func (o Options) last() (record, error) {
	r, err := o.readRecord()
	if err != nil || r.alive() {
		return r, err
	}
	f, err := o.openOwn(aliveFile, os.O_RDONLY)
	if err != nil {
		return r, nil
	}
	defer f.Close()
	if !kept(f) {
		return r, nil
	}
	info, err := f.Stat()
	if err != nil {
		return r, err
	}
	if pid := opener(info); pid != 0 {
		return record{PID: pid, Begun: begun(pid), Program: program{Grace: usualGrace}}, nil
	}
	return r, nil
}

// kept reports whether some program keeps its lock.
func kept(f *os.File) bool {
	return errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

func (o Options) writeRecord(r record) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = o.writeOwn(recordFile, append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("%s: noting what runs: %w; make room for, and writable to this user, %s", o.Registry.URL, err, o.own(recordFile))
	}
	return nil
}

// note writes down what runs, and says where that cannot be: whoever comes next
// knows less of it then, and finds it all the same by the lock that it keeps.
func (o Options) note(r record) {
	if err := o.writeRecord(r); err != nil {
		o.Say(err.Error())
	}
}

// noteDown writes down that somebody wants it to be down.
func (o Options) noteDown() error {
	r, err := o.readRecord()
	if err != nil || r.PID == 0 && r.Container == "" || r.Down {
		return err
	}
	r.Down = true
	return o.writeRecord(r)
}

// wantedUp refuses to start what somebody wants to be down. ErrDown.
func (o Options) wantedUp(r record) error {
	if !r.Down {
		return nil
	}
	return fmt.Errorf("%s: %w meanwhile; start it with ocisync up", o.Registry.URL, ErrDown)
}

// running is a program that was started, by this process or an earlier one.
type running struct {
	record
	gone chan struct{} // closed when it has ended
	how  string        // it ended; to be read when gone is closed
}

// start starts a program in a session of its own, with nothing of this
// process's environment. It keeps run.alive locked as long as it lives, even if
// nobody else does. ErrOccupied: another one does so. ErrTaken: its address is.
func (o Options) start(ctx context.Context, p program) (*running, error) {
	fail := func(err error) (*running, error) { return nil, fmt.Errorf("%s: %w", o.Registry.URL, err) }
	alive, err := o.openOwn(aliveFile, os.O_CREATE|os.O_RDWR)
	if err != nil {
		return fail(fmt.Errorf("%w; run ocisync as the user who owns %s", err, o.data()))
	}
	defer alive.Close() // the program has it too
	if err := o.lockAlive(alive); errors.Is(err, syscall.EWOULDBLOCK) {
		return fail(fmt.Errorf("%w %s, and who started it was killed before it was noted; end the process that has %s open (lsof, fuser), then try again", ErrOccupied, o.data(), o.own(aliveFile)))
	} else if err != nil {
		return fail(fmt.Errorf("locking %s: %w", o.own(aliveFile), err))
	}
	if err := o.free(ctx, p.Listen); err != nil {
		return nil, err
	}
	if err := o.beforeStart(ctx, p.Face); err != nil { // nothing runs: the lock is ours
		return nil, err
	}
	log, offset, err := openLog(o.Log)
	if err != nil {
		return fail(fmt.Errorf("its log: %w; make it writable to this user", err))
	}
	defer log.Close()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), p.Path, p.Args...)
	cmd.Env = append([]string{}, p.Env...) // nil would be ours
	cmd.Dir = p.Dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{alive}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	keepDescriptors()
	if err := cmd.Start(); err != nil {
		return fail(fmt.Errorf("starting it: %w; correct registry.run.binary", err))
	}
	r := &running{gone: make(chan struct{})}
	r.record = record{PID: cmd.Process.Pid, Begun: begun(cmd.Process.Pid), Started: time.Now().UTC(), Program: p, Log: mark{Offset: offset}}
	go func() {
		defer close(r.gone)
		if err := cmd.Wait(); err != nil {
			r.how = err.Error()
			return
		}
		r.how = "exit status 0"
	}()
	o.note(r.record)
	return r, nil
}

// keepDescriptors has no program inherit what this one was started with, such as
// the lock of a script: that would outlive it.
func keepDescriptors() {
	open, err := os.ReadDir("/dev/fd")
	if err != nil {
		return
	}
	for _, f := range open {
		if n, err := strconv.Atoi(f.Name()); err == nil && n > 2 {
			syscall.CloseOnExec(n)
		}
	}
}

// sweep ends what a program that has ended started and left behind, of which the
// lock tells.
func (o Options) sweep(r record) {
	f, err := o.openOwn(aliveFile, os.O_RDONLY)
	if err != nil {
		return
	}
	defer f.Close()
	if r.PID > 1 && kept(f) {
		if err := syscall.Kill(-r.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			o.Logger.Warn("what the registry left behind could not be ended", "error", err)
		}
	}
}

// lockAlive waits for a process that ends, of which the first thread is gone
// before its files are: on a busy host for long.
func (o Options) lockAlive(f *os.File) error {
	for end := time.Now().Add(killPatience); ; time.Sleep(o.Patience.Probe) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(end) {
			return err
		}
	}
}

// adopt takes over a program that somebody else started.
func (o Options) adopt(r record) *running {
	a := &running{record: r, gone: make(chan struct{}), how: "it ended, and who started it was not there to see how"}
	go func() {
		for a.alive() {
			time.Sleep(o.Patience.Watch)
		}
		close(a.gone)
	}()
	return a
}

// stop asks the program to end, waits for the grace, and ends it with all that
// it started. It is never told by SIGHUP: that is no order to reload.
func (r *running) stop(grace time.Duration) error {
	signal := func(pid int, s syscall.Signal) error {
		select {
		case <-r.gone: // the number may be another's now
			return nil
		default:
		}
		if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("ending process %d: %w; end it as the user who started it", r.PID, err)
		}
		return nil
	}
	if grace > 0 {
		if err := signal(r.PID, syscall.SIGTERM); err != nil {
			return err
		}
		select {
		case <-r.gone:
			return nil
		case <-time.After(grace):
		}
	}
	if err := signal(-r.PID, syscall.SIGKILL); err != nil {
		return err
	}
	select {
	case <-r.gone:
		return nil
	case <-time.After(killPatience):
		return fmt.Errorf("process %d does not end though it was killed; look at what it waits for, such as a disk that is away", r.PID)
	}
}

// lastWords is what a program said last since it started.
func (o Options) lastWords(r record) string {
	log, err := since(o.Log, r.Log)
	if err != nil {
		return "its log cannot be read: " + err.Error()
	}
	defer log.Close()
	return lastWords(log)
}

func (o Options) listen() string { return o.Registry.Address() }

// free says whether an address can be listened at. ErrTaken: somebody does.
func (o Options) free(ctx context.Context, address string) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	switch {
	case err == nil:
		return l.Close()
	case errors.Is(err, syscall.EADDRINUSE):
		return taken(o.Registry.URL, address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s: this host has no address %s; name one of its own in registry.run.listen", o.Registry.URL, address)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s: this user may not listen at %s; name a port from 1024 on in registry.run.listen", o.Registry.URL, address)
	}
	return fmt.Errorf("%s: listening at %s: %w; correct registry.run.listen", o.Registry.URL, address, err)
}

func taken(registry, address string) error {
	return fmt.Errorf("%s: address %s: %w; stop the program that uses it, or name another in registry.run.listen", registry, address, ErrTaken)
}
