package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// verb is what a supervisor can be told.
type verb string

const (
	verbStart   verb = "start"   // unless it runs
	verbUp      verb = "up"      // as wanted, again if it runs otherwise
	verbRestart verb = "restart" // as wanted, in any case
	verbStop    verb = "stop"
	verbDown    verb = "down" // stop, and end the supervisor
)

// order is one thing a supervisor is told, by itself or by another process.
type order struct {
	Verb    verb    `json:"verb"`
	Program program `json:"program,omitzero"` // with start, up and restart
	// By is who stops it to start it again.
	By asker `json:"by,omitzero"`

	done chan<- reply
}

// asker is a process of this host that gives an order.
type asker struct {
	PID   int    `json:"pid"`
	Begun string `json:"begun"` // with PID the identity of the process
}

func thisProcess() asker { return asker{os.Getpid(), begun(os.Getpid())} }

// there reports whether the process lives. One that cannot be seen, such as one
// of another container, does not.
func (a asker) there() bool { return a.PID > 0 && a.Begun != "" && begun(a.PID) == a.Begun }

type reply struct {
	Outcome Outcome `json:"outcome"`
	// Error and Kind are those of what failed.
	Error string `json:"error,omitempty"`
	Kind  string `json:"kind,omitempty"`

	err error
}

// supervisor keeps one program running. One goroutine, run's, does all that
// changes anything; view may be asked by any.
type supervisor struct {
	Options
	orders chan order

	// of run's goroutine alone
	current *running // nil: it does not run
	wanted  program
	deaths  []time.Time
	delay   time.Duration
	retry   <-chan time.Time // a restart to come
	quiet   time.Time        // until when no rotation is tried, after one failed
	owed    *asker           // who stopped it and has not started it again; nil: nobody

	mu   sync.Mutex
	seen view
}

// view is what a supervisor tells of what it does.
type view struct {
	Holder   Holder `json:"holder"`
	State    string `json:"state"` // starting, running, stopped, waiting
	Record   record `json:"record"`
	Restarts int    `json:"restarts"`
	// Why says more of a state: why it is stopped, when it is tried again.
	Why string `json:"why,omitempty"`
}

const (
	stateStarting = "starting"
	stateRunning  = "running"
	stateStopped  = "stopped"
	stateWaiting  = "waiting" // for the next try
)

func newSupervisor(o Options) *supervisor {
	return &supervisor{Options: o, orders: make(chan order)}
}

func (s *supervisor) view() view {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

func (s *supervisor) tell(change func(*view)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.seen)
}

// tellRunning tells of a program that was started or is on its way.
func (s *supervisor) tellRunning(state string) {
	s.tell(func(v *view) { v.State, v.Why, v.Record = state, "", s.current.record })
}

// run keeps the program running until the context is done or an order ends it,
// and stops it then. started is called once it is ready. An error before that
// means that it could not be started; one later, that it died too often.
func (s *supervisor) run(ctx context.Context, first program, started func(Outcome)) (err error) {
	outcome, err := s.begin(ctx, first)
	if err != nil { // what ran before, and was put back, runs on
		return err
	}
	defer func() {
		end := s.halt("stopped with its supervisor")
		if err == nil { // and not because it died
			end = errors.Join(end, s.noteDown())
		}
		err = errors.Join(err, end)
	}()
	started(outcome)
	rotation := time.NewTicker(s.Patience.Watch)
	defer rotation.Stop()
	for {
		var gone <-chan struct{}
		if s.current != nil {
			gone = s.current.gone
		}
		select {
		case <-ctx.Done():
			return nil
		case o := <-s.orders:
			r := s.obey(ctx, o)
			o.done <- r
			if o.Verb == verbDown && r.err == nil {
				return nil
			}
		case <-gone:
			if err := s.mourn(); err != nil {
				return err
			}
		case <-s.retry:
			s.retry = nil
			s.again(ctx)
		case <-rotation.C:
			s.rotate()
			s.resume(ctx)
		}
	}
}

// begin starts the program, or adopts the one that an earlier supervisor left.
func (s *supervisor) begin(ctx context.Context, first program) (Outcome, error) {
	old, err := s.last()
	if err != nil {
		return Outcome{}, err
	}
	if old.Container != "" && old.Ended == "" {
		return Outcome{}, fmt.Errorf("%s: %w: container %s, of driver docker; take it down first: docker rm -f %[3]s, then remove %s", s.Registry.URL, ErrOccupied, old.Container, s.own(recordFile))
	}
	if !old.alive() {
		return Outcome{}, s.startReady(ctx, first)
	}
	s.current = s.adopt(old)
	s.wanted = old.Program
	s.tellRunning(stateStarting)
	changed := old.Program.differences(first)
	if len(changed) == 0 {
		s.wanted = first
		if err := s.ready(ctx, s.current.Program.Listen, s.current.gone); err == nil {
			s.tellRunning(stateRunning)
			return Outcome{Adopted: true}, nil
		}
		s.Logger.Warn("the registry that ran is not ready: it is started anew", "pid", old.PID)
	}
	return Outcome{Changed: changed}, s.replace(ctx, first)
}

// obey does what it is told.
func (s *supervisor) obey(ctx context.Context, o order) (r reply) {
	var err error
	s.owed = nil
	switch o.Verb {
	case verbStart, verbUp, verbRestart:
		r.Outcome, err = s.bring(ctx, o.Verb, o.Program)
	case verbStop, verbDown:
		ran, seen := s.current != nil || s.retry != nil, o.By.there()
		s.retry = nil
		err = s.halt("stopped by order")
		if o.Verb == verbStop && ran && seen { // he may be gone by now
			s.owed = &o.By
		}
	default:
		err = fmt.Errorf("a supervisor does not know the order %q; this ocisync is another version than the one that supervises: end that with ocisync down, and start again", o.Verb)
	}
	r.err = err
	return r
}

// bring has the program running and ready.
func (s *supervisor) bring(ctx context.Context, v verb, p program) (Outcome, error) {
	if s.current == nil || v == verbRestart {
		var changed []Difference
		if s.current != nil {
			changed = s.current.Program.differences(p)
			return Outcome{Changed: changed}, s.replace(ctx, p)
		}
		s.retry, s.deaths, s.delay = nil, nil, 0
		return Outcome{}, s.startReady(ctx, p)
	}
	changed := s.current.Program.differences(p)
	if v == verbUp && len(changed) > 0 {
		return Outcome{Changed: changed}, s.replace(ctx, p)
	}
	return Outcome{Already: true}, s.wait(ctx, s.current)
}

// resume starts the program again that somebody stopped who was killed before he
// started it. If it does not start, it stays down: a plan says so.
func (s *supervisor) resume(ctx context.Context) {
	if s.owed == nil || s.owed.there() {
		return
	}
	s.Logger.Warn("who stopped the registry to start it again is gone: it is started", "pid", s.owed.PID)
	s.owed = nil
	if err := s.startReady(ctx, s.wanted); err != nil && ctx.Err() == nil {
		s.Logger.Warn("the registry does not start again", "error", err)
	}
}

// startReady starts a program and waits until it answers. One that does not is
// stopped again.
func (s *supervisor) startReady(ctx context.Context, p program) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.tell(func(v *view) { v.State, v.Why = stateStarting, "" })
	r, err := s.start(ctx, p)
	if err == nil {
		s.current, s.wanted = r, p
		s.tellRunning(stateStarting)
		err = s.wait(ctx, r)
	}
	if err != nil {
		return errors.Join(err, s.halt(err.Error()))
	}
	s.tellRunning(stateRunning)
	return nil
}

// wait waits until a program answers. The error says what its log said last.
func (s *supervisor) wait(ctx context.Context, r *running) error {
	err := s.ready(ctx, r.Program.Listen, r.gone)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, ErrDied):
		return fmt.Errorf("%s: %w: %s; %s", s.Registry.URL, ErrDied, r.how, s.lastWords(r.record))
	}
	return fmt.Errorf("%s: %w; %s", s.Registry.URL, err, s.lastWords(r.record))
}

// replace has another program in the place of the one that runs. If the other
// does not get ready, the former is started again, and the error says so.
func (s *supervisor) replace(ctx context.Context, p program) error {
	former := s.current.Program
	if !shared(p.Listen, former.Listen) { // while the former still runs
		if err := s.free(ctx, p.Listen); err != nil {
			return err
		}
	}
	if err := s.check(ctx, p.Face); err != nil {
		return err
	}
	if err := s.halt("stopped to be started as the mode has it"); err != nil {
		return err
	}
	err := s.startReady(ctx, p)
	if err == nil || ctx.Err() != nil || len(former.differences(p)) == 0 {
		return err
	}
	if again := s.startReady(ctx, former); again != nil {
		return fmt.Errorf("%w; and it does not start as it ran before either: %w", err, again)
	}
	return fmt.Errorf("%w; it runs again as before: correct the mode", err)
}

// halt stops the program, if it runs, and notes why.
func (s *supervisor) halt(why string) error {
	if s.current == nil {
		s.tell(func(v *view) {
			if v.State != stateStopped {
				v.State, v.Why = stateStopped, why
			}
		})
		return nil
	}
	select {
	case <-s.current.gone:
		why = s.current.how
	default:
	}
	if err := s.current.stop(s.current.Program.Grace); err != nil {
		return err
	}
	s.sweep(s.current.record)
	r := s.current.ended(why)
	s.current = nil
	s.tell(func(v *view) { v.State, v.Why, v.Record = stateStopped, why, r })
	s.note(r)
	return nil
}

// mourn notes that the program died, and when it is started again. An error
// means that it is not.
func (s *supervisor) mourn() error {
	dead := s.current
	s.current = nil
	now := time.Now()
	recent := s.deaths[:0]
	for _, d := range s.deaths {
		if now.Sub(d) < s.Patience.Window {
			recent = append(recent, d)
		}
	}
	s.deaths = append(recent, now)
	if len(s.deaths) == 1 {
		s.delay = 0
	}
	s.sweep(dead.record)
	said := s.lastWords(dead.record)
	r := dead.ended(dead.how)
	s.note(r)
	if len(s.deaths) >= s.Patience.Deaths {
		why := fmt.Sprintf("died %d times in %s: %s", len(s.deaths), now.Sub(s.deaths[0]).Round(time.Second), dead.how)
		s.tell(func(v *view) { v.State, v.Why, v.Record = stateStopped, why, r })
		return fmt.Errorf("%s: %w: it %s; %s; mend that, then start it again", s.Registry.URL, ErrDied, why, said)
	}
	s.delay = min(max(s.Patience.Delay, 2*s.delay), s.Patience.Slowest)
	s.retry = time.After(s.delay)
	s.Logger.Warn("the registry died", "how", dead.how, "again_in", s.delay, "log", said)
	s.tell(func(v *view) {
		v.State, v.Record = stateWaiting, r
		v.Why = fmt.Sprintf("it died (%s) and is started again %s later", dead.how, s.delay)
		v.Restarts++
	})
	return nil
}

// again starts a program that died. What keeps it from being started is no death
// of its: it is tried until it is mended.
func (s *supervisor) again(ctx context.Context) {
	r, err := s.start(ctx, s.wanted)
	if err != nil {
		s.delay = min(max(s.Patience.Delay, 2*s.delay), s.Patience.Slowest)
		s.retry = time.After(s.delay)
		s.Logger.Warn("the registry cannot be started again", "error", err, "again_in", s.delay)
		s.tell(func(v *view) {
			v.State, v.Why = stateWaiting, fmt.Sprintf("it cannot be started again, and is tried %s later: %s", s.delay, err)
		})
		return
	}
	s.current = r
	s.tellRunning(stateRunning)
	s.Logger.Info("the registry was started again", "pid", r.PID)
}

// rotate keeps the log small.
func (s *supervisor) rotate() {
	if time.Now().Before(s.quiet) {
		return
	}
	done, err := rotate(s.Log, s.Patience.LogSize)
	if err != nil {
		s.quiet = time.Now().Add(time.Minute)
		s.Logger.Warn("the log could not be rotated", "error", err)
	}
	if !done || s.current == nil {
		return
	}
	s.current.Log.Rotations++
	s.note(s.current.record)
	s.tell(func(v *view) { v.Record = s.current.record })
}
