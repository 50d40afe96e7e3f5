package runtime

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/porttest"
)

func TestASupervisedRegistryRunsUntilItsSupervisorEnds(t *testing.T) {
	w := newWorld(t, "well")
	if s := w.status(); s.Running || s.Detail != "not started yet" {
		t.Errorf("before: %+v", s)
	}
	s := w.supervise()
	st := w.status()
	if !st.Running || st.PID == 0 || st.ID == "" || !strings.Contains(st.Supervisor, "(test)") || !w.answers() {
		t.Errorf("while it runs: %+v", st)
	}
	if info, err := os.Stat(filepath.Join(w.data, "ocisync", "run.sock")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	w.must("ending", s.end())
	if st := w.status(); st.Running || w.answers() || !strings.Contains(st.Detail, "stopped with its supervisor") {
		t.Errorf("after: %+v", st)
	}
}

func TestARegistryInheritsNothing(t *testing.T) {
	t.Setenv("OCISYNC_PASSWORD", "a secret")
	w := newWorld(t, "well")
	s := w.supervise()
	if got := w.ask("/env"); got != "FAKE=well" {
		t.Errorf("its environment is %q", got)
	}
	st := w.status()
	sid, err := getsid(st.PID)
	if err != nil || sid != st.PID {
		t.Errorf("its session is %d, %v; want one of its own (%d)", sid, err, st.PID)
	}
	w.must("ending", s.end())
}

func getsid(pid int) (int, error) {
	r, _, e := syscall.Syscall(syscall.SYS_GETSID, uintptr(pid), 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(r), nil
}

func TestARegistryThatDiesIsStartedAgain(t *testing.T) {
	w := newWorld(t, "well")
	s := w.supervise()
	before := w.status()
	_ = get(t.Context(), "http://"+w.address+"/die", nil)
	w.eventually("started again", func() bool { st := w.status(); return st.Running && st.ID != before.ID && w.answers() })
	if st := w.status(); st.Restarts != 1 {
		t.Errorf("restarts: %+v", st)
	}
	w.must("ending", s.end())
}

func TestARegistryThatKeepsDyingIsGivenUp(t *testing.T) {
	w := newWorld(t, "")
	file := filepath.Join(w.data, "die")
	w.options.Launch = fakeOptions(w.data, w.address, "dies-while:"+file).Launch
	w.options.Patience.Deaths = 3
	s := w.supervise()
	w.must("the file", os.WriteFile(file, nil, 0o600))
	_ = get(t.Context(), "http://"+w.address+"/die", nil)
	select {
	case err := <-s.ended:
		wantError(t, err, ErrDied, "http://"+w.address, "died 3 times in", "exit status 7", "the file is there", "mend that")
	case <-time.After(10 * time.Second):
		t.Fatal("it is not given up")
	}
	if st := w.status(); st.Running || !strings.Contains(st.Detail, "exit status 7") {
		t.Errorf("status afterwards: %+v", st)
	}
}

func TestRestartsComeLaterEachTime(t *testing.T) {
	w := newWorld(t, "")
	file := filepath.Join(w.data, "die")
	w.options.Launch = fakeOptions(w.data, w.address, "dies-while:"+file).Launch
	w.options.Patience.Deaths, w.options.Patience.Delay = 4, 40*time.Millisecond
	s := w.supervise()
	w.must("the file", os.WriteFile(file, nil, 0o600))
	began := time.Now()
	_ = get(t.Context(), "http://"+w.address+"/die", nil)
	if err := <-s.ended; err == nil {
		t.Error("it was not given up")
	}
	if took := time.Since(began); took < (40+80+160)*time.Millisecond {
		t.Errorf("four deaths took %s, less than the three delays between them", took)
	}
}

func TestARegistryThatDiesAtOnceIsAnErrorWithItsLastWords(t *testing.T) {
	w := newWorld(t, "dies")
	err := w.supervising().fails()
	wantError(t, err, ErrDied, "exit status 7", "fake registry has a reason to die")
	if st := w.status(); st.Running || !strings.Contains(st.Detail, "exit status 7") {
		t.Errorf("status: %+v", st)
	}
}

func TestARegistryThatDoesNotAnswerIsStoppedAndSaid(t *testing.T) {
	w := newWorld(t, "deaf")
	w.options.Patience.Ready = time.Second
	err := w.supervising().fails()
	wantError(t, err, ErrNotReady, "1s", "connection refused", "fake registry listens to nobody")
	if st := w.status(); st.Running {
		t.Errorf("it still runs: %+v", st)
	}
}

func TestWhoIgnoresTheSignalIsKilledAfterTheGrace(t *testing.T) {
	w := newWorld(t, "ignores")
	s := w.supervise()
	began := time.Now()
	w.must("ending", s.end())
	if took := time.Since(began); took < 300*time.Millisecond || took > 5*time.Second {
		t.Errorf("it took %s, and its grace is 300 ms", took)
	}
	if w.answers() {
		t.Error("it still answers")
	}
}

func TestWhoStopsSlowlyIsWaitedFor(t *testing.T) {
	w := newWorld(t, "slow")
	s := w.supervise()
	w.must("ending", s.end())
	log, err := os.ReadFile(w.options.Log)
	if err != nil || !strings.HasSuffix(string(log), "fake registry ends\n") {
		t.Errorf("its log: %q, %v", log, err)
	}
}

func TestATakenPortIsSaidAndNothingStarts(t *testing.T) {
	w := newWorld(t, "well")
	l, err := net.Listen("tcp", w.address)
	w.must("listening", err)
	defer l.Close()
	err = w.supervising().fails()
	wantError(t, err, ErrTaken, w.address, "stop the program that uses it, or name another in registry.run.listen")
	if _, err := os.Stat(w.options.Log); err == nil {
		t.Error("something was started")
	}
}

func TestANewAddressThatIsTakenLeavesWhatRuns(t *testing.T) {
	w := newWorld(t, "well")
	s := w.supervise()
	before := w.status()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.must("listening", err)
	defer l.Close()
	w.options.Registry.Run.Listen = l.Addr().String()
	_, err = w.process().Up(t.Context())
	wantError(t, err, ErrTaken, l.Addr().String())
	if st := w.status(); st.ID != before.ID || !w.answers() {
		t.Errorf("%+v; before %+v", st, before)
	}
	w.must("ending", s.end())
}

// TestAProcessMovesFromEveryAddressToOne: the port is its own.
func TestAProcessMovesFromEveryAddressToOne(t *testing.T) {
	w := newWorld(t, "well")
	_, port, err := net.SplitHostPort(w.address)
	w.must("its port", err)
	one := w.options.Launch
	w.options.Registry.Run.Listen = "0.0.0.0:" + port
	w.options.Launch = func(ctx context.Context) (Launch, error) {
		l, err := one(ctx)
		l.Args = []string{"0.0.0.0:" + port}
		return l, err
	}
	s := w.supervise()
	w.options.Registry.Run.Listen, w.options.Launch = w.address, one
	out, err := w.process().Up(t.Context())
	if err != nil || len(out.Changed) != 2 || !w.answers() {
		t.Errorf("%+v, %v", out, err)
	}
	w.must("ending", s.end())
}

func TestAProgramThatIsNotThereIsSaid(t *testing.T) {
	w := newWorld(t, "well")
	for binary, words := range map[string]string{
		"no-such-registry":             "install it, or correct the name",
		"bin/zot":                      "write the whole path",
		"/nowhere/at/all/zot":          "no such file",
		filepath.Join(w.data, "plain"): "permission denied",
	} {
		w.must("a file", os.WriteFile(filepath.Join(w.data, "plain"), nil, 0o600))
		w.options.Registry.Run.Binary = binary
		err := w.supervising().fails()
		if err == nil || !strings.Contains(err.Error(), words) || !strings.Contains(err.Error(), "registry.run.binary") {
			t.Errorf("%s: %v", binary, err)
		}
	}
}

// orphan leaves a registry whose supervisor was killed.
func (w *world) orphan() Status {
	w.t.Helper()
	w.must("starting in the background", w.process().Start(w.t.Context()))
	st := w.status()
	o, err := w.options.settled()
	w.must("options", err)
	w.must("killing", syscall.Kill(o.holder().PID, syscall.SIGKILL))
	w.eventually("its supervisor is gone", func() bool { return w.status().Supervisor == "" })
	if now := w.status(); !now.Running || now.ID != st.ID || !w.answers() || !strings.Contains(now.Detail, "nobody supervises it") {
		w.t.Fatalf("after its supervisor was killed: %+v", now)
	}
	return st
}

func TestARegistryOutlivesItsSupervisorAndIsAdopted(t *testing.T) {
	w := newWorld(t, "well")
	orphan := w.orphan()
	s := w.supervise()
	if st := w.status(); st.ID != orphan.ID || !s.outcome.Adopted {
		t.Errorf("it was not adopted: %+v, %+v; before %+v", st, s.outcome, orphan)
	}
	// adopted, it is supervised like any other
	_ = get(t.Context(), "http://"+w.address+"/die", nil)
	w.eventually("started again", func() bool { st := w.status(); return st.Running && st.ID != orphan.ID && w.answers() })
	w.must("ending", s.end())
}

func TestAnOrphanThatRunsOtherwiseIsReplaced(t *testing.T) {
	w := newWorld(t, "well")
	orphan := w.orphan()
	s := w.as("slow").supervise()
	if st := w.status(); st.ID == orphan.ID || len(s.outcome.Changed) != 1 || w.ask("/env") != "FAKE=slow" {
		t.Errorf("%+v, %+v", st, s.outcome)
	}
	if syscall.Kill(orphan.PID, 0) == nil && w.alive(orphan) {
		t.Error("the former one still runs")
	}
	w.must("ending", s.end())
}

func (w *world) alive(s Status) bool { return begun(s.PID) != "" }

func TestAnOrphanWhoseSuccessorDiesRunsOn(t *testing.T) {
	w := newWorld(t, "well")
	w.orphan()
	err := w.as("dies").supervising().fails()
	wantError(t, err, ErrDied, "exit status 7", "it runs again as before")
	if !w.answers() || w.ask("/env") != "FAKE=well" {
		t.Error("the former one does not run")
	}
	w.must("down", w.process().Down(t.Context()))
	if w.answers() || w.status().Running {
		t.Error("down without a supervisor ended nothing")
	}
}

// A record can be lost with the supervisor that was about to write it; the
// lock that the program holds cannot.
func TestTwoNeverRunOnOneDirectory(t *testing.T) {
	w := newWorld(t, "well")
	orphan := w.orphan()
	o, err := w.options.settled()
	w.must("options", err)
	w.must("losing the record", os.Remove(o.own(recordFile)))
	if st := w.status(); !st.Running || st.PID != orphan.PID {
		t.Errorf("it is not found: %+v", st)
	}
	h := newHarbour(t)
	h.o.Registry.Run.Data = w.data
	_, err = h.Up(t.Context())
	wantError(t, err, ErrOccupied, strconv.Itoa(orphan.PID))
	other := newWorld(t, "well")
	other.options.Registry.Run.Data = w.data
	s := other.supervise()
	if begun(orphan.PID) != "" || w.answers() || !other.answers() {
		t.Error("the former one runs beside the new one")
	}
	w.must("ending", s.end())
}

// Wherever a supervisor is killed, the next one finds what it left.
func TestASupervisorCanBeKilledAtAnyMoment(t *testing.T) {
	w := newWorld(t, "well")
	o, err := w.options.settled()
	w.must("options", err)
	for i := range 12 {
		w.must("up", w.process().Start(t.Context()))
		holder := o.holder().PID
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = w.process().Restart(t.Context())
		}()
		time.Sleep(time.Duration(i) * 1500 * time.Microsecond)
		_ = syscall.Kill(holder, syscall.SIGKILL)
		<-done
	}
	_, err = w.process().Up(t.Context())
	w.must("up", err)
	if st := w.status(); !st.Running || !w.answers() {
		t.Errorf("afterwards: %+v", st)
	}
	w.must("down", w.process().Down(t.Context()))
	// of a process that ends, the first thread is gone before its files are
	w.eventually("none is left", func() bool { return !w.answers() && !w.kept() })
}

// whoever is a process that asks for something and can be killed.
func (w *world) whoever() (asker, *exec.Cmd) {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), "sleep", "60")
	w.must("a process", cmd.Start())
	return asker{cmd.Process.Pid, begun(cmd.Process.Pid)}, cmd
}

func TestWhoIsKilledWhileItStopsLeavesItRunning(t *testing.T) {
	w := newWorld(t, "slow")
	s := w.supervise()
	before := w.status()
	by, cmd := w.whoever()
	o, err := w.options.settled()
	w.must("options", err)
	stopped := make(chan error, 1)
	go func() {
		_, err := o.dial(t.Context()).order(t.Context(), order{Verb: verbStop, By: by})
		stopped <- err
	}()
	time.Sleep(50 * time.Millisecond) // it takes 150
	w.must("killing", cmd.Process.Kill())
	_ = cmd.Wait()
	w.must("stop", <-stopped)
	w.eventually("it runs again", func() bool { st := w.status(); return st.Running && st.ID != before.ID && w.answers() })
	w.must("ending", s.end())
}

func TestWhoIsKilledBetweenStopAndStartLeavesItRunning(t *testing.T) {
	w := newWorld(t, "well")
	s := w.supervise()
	stop := func() *exec.Cmd {
		by, cmd := w.whoever()
		o, err := w.options.settled()
		w.must("options", err)
		_, err = o.dial(t.Context()).order(t.Context(), order{Verb: verbStop, By: by})
		w.must("stop", err)
		return cmd
	}
	cmd := stop()
	time.Sleep(10 * w.options.Patience.Watch)
	if w.answers() || w.status().Running {
		t.Fatal("it runs before who stopped it is done")
	}
	w.must("killing", cmd.Process.Kill())
	_ = cmd.Wait()
	w.eventually("it runs again", func() bool { return w.status().Running && w.answers() })

	cmd = stop()
	w.must("down", w.process().Down(t.Context()))
	w.must("killing", cmd.Process.Kill())
	_ = cmd.Wait()
	w.must("the supervisor", <-s.ended)
	if w.answers() || w.status().Running {
		t.Error("it runs though it was taken down")
	}
}

func TestASecondSupervisorIsRefused(t *testing.T) {
	w := newWorld(t, "well")
	s := w.supervise()
	wantError(t, w.supervising().fails(), ErrSupervised, "process", "(test)")
	out, err := w.process().Up(t.Context())
	if d := cmp.Diff(Outcome{Already: true}, out); d != "" || err != nil {
		t.Errorf("up of what runs as wanted: %v (-want +got):\n%s", err, d)
	}
	w.must("ending", s.end())
}

func TestWhoComesSecondWaitsForTheFirst(t *testing.T) {
	w := newWorld(t, "well")
	const many = 4
	type result struct {
		out Outcome
		err error
	}
	done := make(chan result, many)
	for range many {
		go func() {
			out, err := w.process().Up(context.WithoutCancel(t.Context()))
			if err == nil && !w.answers() {
				err = errors.New("it does not answer yet")
			}
			done <- result{out, err}
		}()
	}
	already := 0
	for range many {
		r := <-done
		if r.err != nil {
			t.Error(r.err)
		}
		if r.out.Already {
			already++
		}
	}
	if already != many-1 {
		t.Errorf("%d of %d found it running", already, many)
	}
	w.must("down", w.process().Down(t.Context()))
}

func TestOrdersGoToTheSupervisor(t *testing.T) {
	w := newWorld(t, "well")
	s := w.supervise()
	first := w.status()
	p := w.process()
	w.must("stop", p.Stop(t.Context()))
	if st := w.status(); st.Running || w.answers() || !strings.Contains(st.Detail, "stopped by order") || st.Supervisor == "" {
		t.Errorf("stopped: %+v", st)
	}
	w.must("stop again", p.Stop(t.Context()))
	w.must("start", p.Start(t.Context()))
	second := w.status()
	if !second.Running || second.ID == first.ID || !w.answers() {
		t.Errorf("started: %+v", second)
	}
	w.must("start again", p.Start(t.Context()))
	if w.status().ID != second.ID {
		t.Error("start of what runs started it anew")
	}
	_, err := p.Restart(t.Context())
	w.must("restart", err)
	if third := w.status(); !third.Running || third.ID == second.ID {
		t.Errorf("restarted: %+v", third)
	}
	w.must("down", p.Down(t.Context()))
	select {
	case err := <-s.ended:
		w.must("the supervisor", err)
	case <-time.After(10 * time.Second):
		t.Fatal("down does not end the supervisor")
	}
	if w.answers() {
		t.Error("it still answers")
	}
	w.must("down of nothing", p.Down(t.Context()))
}

// Who restarts it for a change stops it, and starts it when that is made. Who
// takes it down meanwhile wants it to be down.
func TestDownWinsOverARestartThatIsUnderWay(t *testing.T) {
	for name, down := range map[string]func(w *world, end func() error) error{
		"down":      func(w *world, _ func() error) error { return w.process().Down(t.Context()) },
		"interrupt": func(_ *world, end func() error) error { return end() },
	} {
		w := newWorld(t, "well")
		s := w.supervise()
		w.must("stop", w.process().Stop(t.Context()))
		w.must(name, down(w, s.end))
		if err := w.process().Start(t.Context()); !errors.Is(err, ErrDown) || w.answers() {
			t.Errorf("%s: started again: %v", name, err)
		}
	}
	w := newWorld(t, "well")
	_, err := w.process().Up(t.Context())
	w.must("up", err)
	w.must("start of what runs", w.process().Start(t.Context()))
	w.must("stop", w.process().Stop(t.Context()))
	w.must("start", w.process().Start(t.Context()))
	w.must("down", w.process().Down(t.Context()))
	w.must("down of what is down", w.process().Down(t.Context()))
	if err := w.process().Start(t.Context()); !errors.Is(err, ErrDown) {
		t.Errorf("started again: %v", err)
	}
}

func TestUpMakesWhatRunsAsTheModeHasIt(t *testing.T) {
	w := newWorld(t, "well")
	s := w.supervise()
	first := w.status()
	other := w.as("slow")
	other.options.Registry.Run.Args = []string{"more"}
	d, err := other.process().Differences(t.Context())
	w.must("comparing", err)
	if diff := cmp.Diff([]Difference{{What: "arguments", Running: "", Wanted: "more"}}, d); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
	if made, err := other.process().Made(t.Context()); err != nil || made == nil || made.Listen != w.address || len(made.Args) != 0 || made.Binary != w.options.Registry.Run.Binary {
		t.Errorf("made %+v, %v", made, err)
	}
	want := []Difference{
		{What: "arguments", Running: w.address, Wanted: w.address + " more"},
		{What: "environment", Running: "another FAKE", Wanted: "FAKE"},
	}
	w.must("start", other.process().Start(t.Context()))
	if w.status().ID != first.ID {
		t.Error("start changed what runs")
	}
	out, err := other.process().Up(t.Context())
	w.must("up", err)
	if diff := cmp.Diff(want, out.Changed); diff != "" || w.status().ID == first.ID || w.ask("/env") != "FAKE=slow" {
		t.Errorf("up did not change it: %s", diff)
	}
	// one that does not come up leaves what ran
	_, err = w.as("dies").process().Up(t.Context())
	wantError(t, err, ErrDied, "exit status 7", "fake registry has a reason to die", "it runs again as before")
	if w.ask("/env") != "FAKE=slow" {
		t.Error("what ran before does not run")
	}
	w.must("ending", s.end())
}

func TestStartWithoutASupervisorStartsOne(t *testing.T) {
	w := newWorld(t, "well")
	p := w.process()
	w.must("start", p.Start(t.Context()))
	st := w.status()
	if !st.Running || !w.answers() || !strings.Contains(st.Supervisor, "fake supervisor") {
		t.Errorf("%+v", st)
	}
	w.must("down", p.Down(t.Context()))
	if w.answers() || w.status().Running {
		t.Error("it still runs")
	}
}

// TestACopyOfADirectoryThatRunsIsNotStarted: what it says of a supervisor and of a
// program is of the one that it was copied from.
func TestACopyOfADirectoryThatRunsIsNotStarted(t *testing.T) {
	w := newWorld(t, "well")
	s := w.supervise()
	before := w.status()
	data := filepath.Join(t.TempDir(), "copy")
	w.must("copying", os.Mkdir(data, 0o700))
	w.must("copying", os.Mkdir(filepath.Join(data, ownDir), 0o700))
	files, err := os.ReadDir(filepath.Join(w.data, ownDir))
	w.must("copying", err)
	for _, f := range files {
		if b, err := os.ReadFile(filepath.Join(w.data, ownDir, f.Name())); err == nil {
			w.must("copying", os.WriteFile(filepath.Join(data, ownDir, f.Name()), b, 0o600))
		}
	}
	other := *w
	other.data, other.address = data, porttest.Address(t)
	other.options = fakeOptions(data, other.address, "well")
	if st := other.status(); st.Running || st.ID != "" {
		t.Errorf("the copy: %+v", st)
	}
	w.must("ending what does not run", other.process().Down(t.Context()))
	if st := w.status(); st.ID != before.ID || !w.answers() {
		t.Errorf("what runs: %+v, before %+v", st, before)
	}
	w.must("ending", s.end())
}

func TestAStartInTheBackgroundThatFailsSaysWhy(t *testing.T) {
	w := newWorld(t, "dies")
	err := w.process().Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "exit status 7; its log said last: fake registry begins | fake registry has a reason to die") {
		t.Errorf("got %v", err)
	}
}

func TestTheLogIsThatOfTheLastStart(t *testing.T) {
	w := newWorld(t, "well")
	s := w.supervise()
	w.ask("/say?first-run")
	_, err := w.process().Restart(t.Context())
	w.must("restart", err)
	w.ask("/say?second-run")
	if got := w.log(); got != "fake registry begins\nsecond-run\n" {
		t.Errorf("the log: %q", got)
	}
	var tail strings.Builder
	w.must("tail", w.process().WriteLog(t.Context(), &tail, 2, false))
	if tail.String() != "fake registry begins\nsecond-run\n" {
		t.Errorf("tail: %q", tail.String())
	}
	var all strings.Builder
	w.must("all", w.process().WriteLog(t.Context(), &all, 0, false))
	if !strings.Contains(all.String(), "first-run") {
		t.Errorf("all: %q", all.String())
	}
	w.must("ending", s.end())
}

// TestALogThatSomebodyMovesIsStillRead: what the registry writes goes on being
// read, wherever a rotation by others has left the file.
func TestALogThatSomebodyMovesIsStillRead(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("where a process writes to is seen on Linux alone")
	}
	for how, do := range map[string]func(log string) error{
		"emptied":           func(log string) error { return os.Truncate(log, 0) },
		"renamed":           func(log string) error { return os.Rename(log, log+"-20260101") },
		"renamed and a new": func(log string) error { return errors.Join(os.Rename(log, log+".9"), os.WriteFile(log, nil, 0o600)) },
		"removed":           os.Remove,
		"replaced by a fuller": func(log string) error {
			return errors.Join(os.Remove(log), os.WriteFile(log, []byte(strings.Repeat("not the registry's\n", 100)), 0o600))
		},
	} {
		w := newWorld(t, "well")
		s := w.supervise()
		w.ask("/say?first-run")
		_, err := w.process().Restart(t.Context()) // so that it does not begin at the file's
		w.must("restart", err)
		w.ask("/say?second-run")
		before := w.log()
		w.must(how, do(w.options.Log))
		w.ask("/say?after")
		if got, want := w.log(), before+"after\n"; got != want && (how != "emptied" || got != "after\n") {
			t.Errorf("%s: the log is %q, want %q", how, got, want)
		}
		var last strings.Builder
		if w.must(how, w.process().WriteLog(t.Context(), &last, 1, false)); last.String() != "after\n" {
			t.Errorf("%s: the log's last line is %q", how, last.String())
		}
		w.must("ending", s.end())
	}
}

func (w *world) log() string {
	w.t.Helper()
	r, err := w.process().Log(w.t.Context())
	w.must("log", err)
	defer r.Close()
	b, err := io.ReadAll(r)
	w.must("log", err)
	return string(b)
}

func TestTheLogIsRotatedUnderTheProgram(t *testing.T) {
	w := newWorld(t, "well")
	w.options.Patience.LogSize = 2000
	s := w.supervise()
	line := strings.Repeat("x", 99)
	for range 30 {
		w.ask("/say?" + line)
	}
	w.eventually("rotated", func() bool {
		_, err := os.Stat(w.options.Log + ".1")
		info, now := os.Stat(w.options.Log)
		return err == nil && now == nil && info.Size() < 2000 // emptied too
	})
	// who reads goes by what the supervisor writes down after that
	w.eventually("written down", func() bool { return strings.HasPrefix(w.log(), "fake registry begins\n") })
	w.ask("/say?afterwards")
	if got := w.log(); !strings.HasPrefix(got, "fake registry begins\n") || !strings.HasSuffix(got, "afterwards\n") || strings.Count(got, line) < 29 {
		t.Errorf("the log over its parts: %d lines: %.200q", strings.Count(got, "\n"), got)
	}
	if info, err := os.Stat(w.options.Log); err != nil || info.Size() > 3000 || info.Mode().Perm() != 0o600 {
		t.Errorf("the log itself: %v, %v", info, err)
	}
	w.must("ending", s.end())
}

func TestALogThatCannotBeRotatedIsWholeAndTriedLater(t *testing.T) {
	w := newWorld(t, "well")
	w.options.Patience.LogSize = 500
	w.must("a directory in the way", os.Mkdir(w.options.Log+".0", 0o700))
	w.must("an older one", os.WriteFile(w.options.Log+".1", []byte("older\n"), 0o600))
	s := w.supervise()
	line := strings.Repeat("x", 99)
	for range 10 {
		w.ask("/say?" + line)
	}
	time.Sleep(10 * w.options.Patience.Watch)
	log, err := os.ReadFile(w.options.Log)
	if err != nil || strings.Count(string(log), line) != 10 {
		t.Errorf("the log: %d lines, %v", strings.Count(string(log), "\n"), err)
	}
	if older, err := os.ReadFile(w.options.Log + ".1"); err != nil || string(older) != "older\n" {
		t.Errorf("the older log: %q, %v", older, err)
	}
	w.must("ending", s.end())
}

func TestTheLogCanBeFollowed(t *testing.T) {
	w := newWorld(t, "well")
	s := w.supervise()
	ctx, cancel := context.WithCancel(t.Context())
	r, pipe := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- w.process().WriteLog(ctx, pipe, 1, true) }()
	w.ask("/say?one")
	buf := make([]byte, 200)
	var got string
	for !strings.HasSuffix(got, "one\n") {
		n, err := r.Read(buf)
		w.must("reading", err)
		got += string(buf[:n])
	}
	cancel()
	w.must("following", <-done)
	w.must("ending", s.end())
}

// In a path that is too long for a socket everything works all the same.
func TestALongPathTakesASocketElsewhere(t *testing.T) {
	w := newWorld(t, "well")
	long := filepath.Join(w.data, strings.Repeat("long/", 30))
	w.must("a directory", os.MkdirAll(long, 0o700))
	w.options.Registry.Run.Data = long
	s := w.supervise()
	if st := w.status(); !st.Running || st.Supervisor == "" {
		t.Errorf("%+v", st)
	}
	w.must("ending", s.end())
}

func TestAnotherProcessOfTheSameNumberIsNotOurs(t *testing.T) {
	cmd := exec.Command("sleep", "30")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	w := newWorld(t, "well")
	o, err := w.options.settled()
	w.must("options", err)
	w.must("a directory", o.makeOwn())
	w.must("a record", o.writeRecord(record{PID: cmd.Process.Pid, Begun: "another-time", Started: time.Now(), Program: program{Args: []string{filepath.Join(o.data(), "config")}}}))
	if st := w.status(); st.Running {
		t.Errorf("a stranger is taken for the registry: %+v", st)
	}
	w.must("down", w.process().Down(t.Context()))
	if begun(cmd.Process.Pid) == "" {
		t.Error("down ended a stranger")
	}
}

// A registry that died in the middle of a write is not started with half of it.
func TestBeforeEachStartWhatMustBeThereIsMade(t *testing.T) {
	w := newWorld(t, "well")
	launch := w.options.Launch
	w.options.Launch = func(ctx context.Context) (Launch, error) {
		l, err := launch(ctx)
		l.Face = "the face"
		return l, err
	}
	var mu sync.Mutex
	var times int
	w.options.BeforeStart = func(_ context.Context, face string) error {
		mu.Lock()
		defer mu.Unlock()
		times++
		if face != "the face" {
			t.Errorf("it is told %q", face)
		}
		if w.answers() {
			t.Error("something is made while the registry runs")
		}
		return nil
	}
	made := func() int {
		mu.Lock()
		defer mu.Unlock()
		return times
	}
	s := w.supervise()
	if n := made(); n != 1 {
		t.Errorf("before the first start it is made %d times", n)
	}
	if _, err := s.Up(t.Context()); err != nil || made() != 1 {
		t.Errorf("of one that runs: %d times, %v", made(), err)
	}
	before := w.status()
	_ = get(t.Context(), "http://"+w.address+"/die", nil)
	w.eventually("started again", func() bool { st := w.status(); return st.Running && st.ID != before.ID && w.answers() })
	if n := made(); n != 2 {
		t.Errorf("after a death it is made %d times, want 2", n)
	}
	if _, err := s.Restart(t.Context()); err != nil || made() != 3 {
		t.Errorf("after a restart: %d times, %v", made(), err)
	}
	w.must("ending", s.end())
}

func TestWhatCannotBeMadeKeepsItFromStarting(t *testing.T) {
	w := newWorld(t, "well")
	broken := errors.New("a write that was cut cannot be finished")
	w.options.BeforeStart = func(context.Context, string) error { return broken }
	if err := w.supervising().fails(); !errors.Is(err, broken) {
		t.Errorf("got error %v", err)
	}
	if w.answers() {
		t.Error("it was started")
	}
}

// The supervisor is of the mode as it was: it waits where the new one listens.
func TestUpMovesARegistryToAnotherAddress(t *testing.T) {
	w := newWorld(t, "well")
	var faces []string
	var mu sync.Mutex
	w.options.BeforeStart = func(_ context.Context, face string) error {
		mu.Lock()
		defer mu.Unlock()
		faces = append(faces, face)
		return nil
	}
	const long = 20 * time.Second // for who waits at the address it had
	w.options.Patience.Ready = long
	s := w.supervise()
	other := porttest.Address(t)
	moved := *w
	moved.address = other
	moved.options = fakeOptions(w.data, other, "well")
	moved.options.Patience.Ready = long
	launch := moved.options.Launch
	moved.options.Launch = func(ctx context.Context) (Launch, error) {
		l, err := launch(ctx)
		l.Face = other
		return l, err
	}
	began := time.Now()
	out, err := moved.process().Up(t.Context())
	w.must("up", err)
	if want := []Difference{{What: "arguments", Running: w.address, Wanted: other}, {What: "address", Running: w.address, Wanted: other}}; !cmp.Equal(out.Changed, want) {
		t.Errorf("changed: %v", out.Changed)
	}
	if !moved.answers() || w.answers() || time.Since(began) > long/2 {
		t.Errorf("it was not moved at once (%s)", time.Since(began))
	}
	if want := []string{"", other}; !cmp.Equal(faces, want) {
		t.Errorf("faces: %q, want %q", faces, want)
	}
	w.must("ending", s.end())
}

func TestWhatWouldNotStartAgainIsNotStopped(t *testing.T) {
	w := newWorld(t, "well")
	var broken error
	w.options.Check = func(context.Context, string) error { return broken }
	s := w.supervise()
	before := w.status()
	broken = errors.New("its certificate is gone")
	_, err := w.process().Restart(t.Context())
	if err == nil || !strings.Contains(err.Error(), broken.Error()) {
		t.Errorf("restart: %v", err)
	}
	_, err = w.as("slow").process().Up(t.Context())
	if err == nil || !strings.Contains(err.Error(), broken.Error()) {
		t.Errorf("up as another: %v", err)
	}
	if st := w.status(); st.ID != before.ID || !w.answers() {
		t.Errorf("it does not run on: %+v", st)
	}
	broken = nil
	w.must("ending", s.end())

	check := w.options.Check
	w = newWorld(t, "well")
	w.options.Check = check
	w.orphan()
	broken = errors.New("its certificate is gone")
	if _, err = w.process().Restart(t.Context()); !errors.Is(err, broken) || !w.answers() {
		t.Errorf("of one that nobody supervises: %v", err)
	}
	broken = nil
	w.must("down", w.process().Down(t.Context()))
	broken = errors.New("its certificate is gone")
	if err := w.supervising().fails(); !errors.Is(err, broken) || w.answers() {
		t.Errorf("a start: %v", err)
	}
}

// TestWhoRestartsIsTold what there is to say of the start, and not the supervisor's log
// alone.
func TestWhoRestartsIsTold(t *testing.T) {
	w := newWorld(t, "well")
	s := w.supervise()
	var told int
	w.options.Check = func(context.Context, string) error { told++; return nil }
	if _, err := w.process().Restart(t.Context()); err != nil || told != 1 {
		t.Errorf("told %d times: %v", told, err)
	}
	if _, err := w.process().Up(t.Context()); err != nil || told != 1 {
		t.Errorf("of one that runs on told %d times: %v", told, err)
	}
	w.must("ending", s.end())
}

// TestAnOrphanIsNotStoppedThatNobodyCouldSuperviseAfter: what could not be started
// again is not stopped for that; to be down it is stopped all the same.
func TestAnOrphanIsNotStoppedThatNobodyCouldSuperviseAfter(t *testing.T) {
	w := newWorld(t, "well")
	before := w.orphan()
	alone := errors.New("the address for tokens is taken")
	w.options.Supervisable = func(context.Context) error { return alone }
	if _, err := w.process().Restart(t.Context()); !errors.Is(err, alone) || !strings.Contains(err.Error(), "it runs on") {
		t.Errorf("restart: %v", err)
	}
	if err := w.process().Stop(t.Context()); !errors.Is(err, alone) {
		t.Errorf("stop: %v", err)
	}
	if st := w.status(); st.ID != before.ID || !w.answers() {
		t.Errorf("it does not run on: %+v", st)
	}
	w.must("down", w.process().Down(t.Context()))
	w.must("stopping what does not run", w.process().Stop(t.Context()))
}

// kept reports whether some program keeps its lock.
func (w *world) kept() bool {
	o, err := w.options.settled()
	w.must("options", err)
	f, err := o.openOwn(aliveFile, os.O_RDONLY)
	w.must("its lock", err)
	defer f.Close()
	return kept(f)
}
