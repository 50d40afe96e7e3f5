package runtime

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/regular"
)

// small gives the world a data directory of a disk that is full, but for what
// ocisync has there already.
func (w *world) small(before func()) {
	t := w.t
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small disk")
	}
	if err := syscall.Mount("tmpfs", w.data, "tmpfs", 0, "size=128k,mode=700"); err != nil {
		t.Skip("no small disk can be mounted here: " + err.Error())
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(w.data, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	before()
	f, err := os.Create(filepath.Join(w.data, "fill"))
	w.must("filling", err)
	defer f.Close()
	for _, size := range []int{4096, 1} {
		for err = error(nil); err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

func TestAFullDiskStopsNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		known bool // it was noted before what runs there
	}{"noted before": {true}, "noted never": {false}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "well")
			w.options.Patience.Deaths = 3
			w.small(func() {
				if tt.known {
					w.must("ending", w.supervise().end())
				}
			})
			said := make(chan string, 100)
			w.options.Say = func(line string) { said <- line }
			s := w.supervise()
			if _, err := w.process().Restart(t.Context()); err != nil || !w.answers() {
				t.Fatalf("restart: %v", err)
			}
			for range 2 {
				before := w.status()
				if tt.known && before.PID == 0 {
					t.Fatalf("nobody knows it: %+v", before)
				}
				_ = get(t.Context(), "http://"+w.address+"/die", nil)
				w.eventually("started again", func() bool { st := w.status(); return st.Running && st.ID != before.ID && w.answers() })
			}
			w.must("ending", s.end())
			if noted := len(said) == 0; noted != tt.known {
				t.Errorf("it was noted: %v", noted)
			}
			if w.answers() {
				t.Error("it still runs")
			}
		})
	}
}

func TestWhatIsTriedAgainIsNoDeath(t *testing.T) {
	w := newWorld(t, "well")
	w.options.Patience.Deaths = 2
	tries, mended := 0, false
	w.options.BeforeStart = func(context.Context, string) error {
		tries++
		if tries > 1 && !mended {
			mended = tries > 5
			return errors.New("no space left on device")
		}
		return nil
	}
	s := w.supervise()
	before := w.status()
	_ = get(t.Context(), "http://"+w.address+"/die", nil)
	w.eventually("started again", func() bool { st := w.status(); return st.Running && st.ID != before.ID && w.answers() })
	if st := w.status(); st.Restarts != 1 {
		t.Errorf("restarts: %+v", st)
	}
	w.must("ending", s.end())
}

func TestANoteIsOverwrittenWhereThereIsNoRoomForANewOne(t *testing.T) {
	w := newWorld(t, "well")
	o, err := w.options.settled()
	w.must("options", err)
	w.must("the first", o.writeRecord(record{PID: 1, Ended: strings.Repeat("long ", 100)}))
	w.must("no room", os.MkdirAll(o.own(recordFile+".new/x"), 0o700))
	w.must("the second", o.writeRecord(record{PID: 2}))
	if r, err := o.readRecord(); err != nil || r.PID != 2 || r.Ended != "" {
		t.Errorf("%+v, %v", r, err)
	}
}

// A registry in a container runs as the owner of the data directory, and may put
// there what it likes.
func TestWhatTheRegistryPutsInPlaceOfOurFilesIsRefused(t *testing.T) {
	victim := filepath.Join(t.TempDir(), "victim")
	for name, put := range map[string]func(own string) error{
		"a link to the directory": func(own string) error { return os.Symlink(filepath.Dir(victim), own) },
		"a link to a lock": func(own string) error {
			return errors.Join(os.Mkdir(own, 0o700), os.Symlink(victim, filepath.Join(own, lockFile)))
		},
		"a link to the record": func(own string) error {
			return errors.Join(os.Mkdir(own, 0o700), os.Symlink(victim, filepath.Join(own, recordFile)))
		},
		"a link to the log": func(own string) error {
			return errors.Join(os.Mkdir(own, 0o700), os.Symlink(victim, filepath.Join(own, UpLog)))
		},
		"what others may write": func(own string) error { return errors.Join(os.Mkdir(own, 0o700), os.Chmod(own, 0o777)) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "well")
			w.must("the victim", os.WriteFile(victim, []byte("{}"), 0o600))
			w.must("the trap", put(filepath.Join(w.data, ownDir)))
			h := newHarbour(t)
			h.o.Registry.Run.Data = w.data
			p := w.process()
			outcome := func(_ Outcome, err error) error { return err }
			within := func(do func(context.Context) error) error {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				return do(ctx)
			}
			for verb, do := range map[string]func(context.Context) error{
				"supervise": func(ctx context.Context) error { return p.Supervise(ctx, "test", func(Status, Outcome) {}) },
				"start":     p.Start,
				"up":        func(ctx context.Context) error { return outcome(p.Up(ctx)) },
				"restart":   func(ctx context.Context) error { return outcome(p.Restart(ctx)) },
				"down":      p.Down,
				"stop":      p.Stop,
				"status": func(ctx context.Context) error {
					_, err := p.Status(ctx)
					return err
				},
				"log": func(ctx context.Context) error {
					r, err := p.Log(ctx)
					if err == nil {
						_, err = io.Copy(io.Discard, r)
					}
					return err
				},
				"up of a container":      func(ctx context.Context) error { return outcome(h.Up(ctx)) },
				"restart of a container": func(ctx context.Context) error { return outcome(h.Restart(ctx)) },
				"start of a container":   h.Start,
				"down of a container":    h.Down,
			} {
				if err := within(do); !errors.Is(err, regular.ErrUnsafe) {
					t.Errorf("%s: %v", verb, err)
				}
			}
			if b, err := os.ReadFile(victim); err != nil || string(b) != "{}" {
				t.Errorf("the victim: %q, %v", b, err)
			}
			if entries, err := os.ReadDir(filepath.Dir(victim)); err != nil || len(entries) != 1 {
				t.Errorf("beside the victim: %v, %v", entries, err)
			}
		})
	}
}

func TestARegistryInheritsNoDescriptor(t *testing.T) {
	w := newWorld(t, "well")
	f, err := os.Create(filepath.Join(t.TempDir(), "a script's lock"))
	w.must("a file", err)
	defer f.Close()
	inherited, err := syscall.Dup(int(f.Fd())) // as from who started us
	w.must("dup", err)
	defer syscall.Close(inherited)
	open := func(pid int) bool {
		dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
		list, err := os.ReadDir(dir)
		w.must("looking", err)
		return slices.ContainsFunc(list, func(e os.DirEntry) bool {
			to, err := os.Readlink(filepath.Join(dir, e.Name()))
			return err == nil && to == f.Name()
		})
	}
	w.must("starting in the background", w.process().Start(t.Context()))
	o, err := w.options.settled()
	w.must("options", err)
	if st := w.status(); open(st.PID) || open(o.holder().PID) {
		t.Error("it has what we were started with")
	}
	w.must("down", w.process().Down(t.Context()))
}

func TestWhatARegistryLeavesBehindEndsWithIt(t *testing.T) {
	w := newWorld(t, "parent")
	children := func() (pids []int) {
		b, err := os.ReadFile(w.options.Log)
		w.must("its log", err)
		for line := range strings.Lines(string(b)) {
			if text, ok := strings.CutPrefix(strings.TrimSpace(line), "child "); ok {
				pid, err := strconv.Atoi(text)
				w.must("a number", err)
				pids = append(pids, pid)
			}
		}
		return pids
	}
	s := w.supervise()
	before := w.status()
	_ = get(t.Context(), "http://"+w.address+"/die", nil)
	w.eventually("started again", func() bool { st := w.status(); return st.Running && st.ID != before.ID && w.answers() })
	w.must("ending", s.end())
	pids := children()
	if len(pids) != 2 {
		t.Fatalf("children: %v", pids)
	}
	for _, pid := range pids {
		w.eventually("the child is gone", func() bool { return begun(pid) == "" })
	}
}
