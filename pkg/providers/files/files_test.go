package files

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/regular"
)

// killed is what a process does that is killed: nothing more.
type killed struct{}

// fault strikes at the n-th thing that is done to the disk.
type fault struct {
	n    int
	part float64 // of a write that is done all the same
	kill bool    // else the disk is full
	full int64   // if not 0, from then on no file may grow beyond

	done   int
	struck string // at what
}

func (f *fault) disk() disk {
	return disk{
		step: func(what string) error {
			if f.done++; f.done != f.n {
				return nil
			}
			return f.strike(what)
		},
		write: func(file *os.File, b []byte, offset int64) (int, error) {
			f.done++
			room := int64(len(b))
			switch {
			case f.done == f.n:
				room = int64(float64(len(b)) * f.part)
			case f.full > 0 && f.struck != "" && offset+room > f.full:
				room = max(0, f.full-offset)
			}
			n, err := file.WriteAt(b[:room], offset)
			if err == nil && f.done == f.n {
				err = f.strike("write " + filepath.Base(file.Name()))
			} else if err == nil && n < len(b) {
				err = syscall.ENOSPC
			}
			return n, err
		},
	}
}

func (f *fault) strike(what string) error {
	f.struck = what
	if f.kill {
		panic(killed{})
	}
	return syscall.ENOSPC
}

// dying runs what may be killed.
func dying(do func() error) (err error, dead bool) { //nolint:revive // the error is what is asked about
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(killed); !ok {
				panic(r)
			}
			dead = true
		}
	}()
	return do(), false
}

// contents are written over each other: longer, shorter, of one length, none.
func contents() [][2]string {
	long := strings.Repeat("an old line of some length\n", 700) // several pages
	return [][2]string{
		{"old\n", "new and longer\n"}, {"old and longer\n", "new\n"}, {"old\n", "new\n"}, {"old", ""}, {"", "new\n"},
		{long, strings.ReplaceAll(long, "old", "new") + long}, {long, "new\n"},
	}
}

func newFile(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(name, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
	return name
}

// stands fails unless the file is one of two, wholly, and nothing is left to do.
func stands(t *testing.T, name, a, b string) string {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !Equal(raw, []byte(a)) && !Equal(raw, []byte(b)) {
		t.Fatalf("the file is neither the old nor the new one: %.80q", raw)
	}
	for _, suffix := range []string{nextSuffix, prevSuffix, nextSuffix + tempSuffix, prevSuffix + tempSuffix} {
		if _, err := os.Lstat(name + suffix); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s is still there: %v", suffix, err)
		}
	}
	return string(raw)
}

// startable fails if a registry could start now on something that is neither.
func startable(t *testing.T, name, old, next string) {
	t.Helper()
	unfinished, err := Unfinished(name)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !unfinished && !Equal(raw, []byte(old)) && !Equal(raw, []byte(next)) {
		t.Fatalf("nothing stops a registry from starting on %.80q", raw)
	}
	got, err := Read(name)
	if err != nil {
		t.Fatal(err)
	}
	if !Equal(got, []byte(old)) && !Equal(got, []byte(next)) {
		t.Fatalf("Read gives %.80q", got)
	}
}

// each runs do with every fault at every step, until it passes untouched.
func each(t *testing.T, least int, kill bool, full int64, do func(t *testing.T, f *fault)) {
	t.Helper()
	for _, part := range []float64{0, 0.4, 1} {
		for n := 1; ; n++ {
			f := &fault{n: n, part: part, kill: kill, full: full}
			do(t, f)
			if t.Failed() {
				t.Fatalf("fault %d at %q, %v of the write done", n, f.struck, part)
			}
			if f.struck == "" {
				if n < least {
					t.Fatalf("only %d steps were tried", n)
				}
				break
			}
		}
	}
}

func TestKilledAtEachStepLeavesOldOrNew(t *testing.T) {
	for i, c := range contents() {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			each(t, 8, true, 0, func(t *testing.T, f *fault) {
				t.Helper()
				name := newFile(t, c[0])
				err, dead := dying(func() error { return f.disk().overwrite(name, []byte(c[0]), []byte(c[1])) })
				if err != nil || dead != (f.struck != "") {
					t.Fatalf("error %v, dead %v", err, dead)
				}
				startable(t, name, c[0], c[1])
				if _, err := Finish(name); err != nil {
					t.Fatal(err)
				}
				now := stands(t, name, c[0], c[1])
				if !dead && !Equal([]byte(now), []byte(c[1])) {
					t.Fatalf("written without error, and holds %.80q", now)
				}
				if err := Write(name, []byte(now), []byte("later\n")); err != nil {
					t.Fatal(err)
				}
				stands(t, name, "later\n", "later\n")
			})
		})
	}
}

// Whatever [Read] returns, a registry that runs has what the file holds.
func TestKilledAtEachStepItIsKnownWhatARegistryHas(t *testing.T) {
	for _, c := range contents() {
		each(t, 8, true, 0, func(t *testing.T, f *fault) {
			t.Helper()
			name := newFile(t, c[0])
			dying(func() error { return f.disk().overwrite(name, []byte(c[0]), []byte(c[1])) }) //nolint:errcheck // it dies
			read, err := Read(name)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			s, err := disk{}.open(name)
			if err != nil {
				t.Fatal(err)
			}
			defer s.root.Close()
			before, cut, err := s.heldOnce()
			if err != nil || cut == Equal(raw, read) {
				t.Fatalf("cut: %v, %v, where the file holds %.80q and what is read is %.80q", cut, err, raw, read)
			}
			if cut && !Equal(before, []byte(c[0])) {
				t.Fatalf("before it was %.80q, and not %.80q", before, c[0])
			}
		})
	}
}

func TestAWriteUnderWayIsNoneThatWasCut(t *testing.T) {
	name := halfWritten(t, "old\n", "new and longer\n")
	done := make(chan error)
	go func() {
		time.Sleep(20 * time.Millisecond)
		_, err := Finish(name)
		done <- err
	}()
	if before, cut, err := Held(name); err != nil || cut {
		t.Errorf("%q, %v, %v", before, cut, err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	name = halfWritten(t, "old\n", "new and longer\n")
	if before, cut, err := Held(name); err != nil || !cut || string(before) != "old\n" {
		t.Errorf("%q, %v, %v", before, cut, err)
	}
}

func TestFinishKilledAtEachStepIsFinishedByTheNext(t *testing.T) {
	for _, c := range contents() {
		each(t, 8, true, 0, func(t *testing.T, f *fault) {
			t.Helper()
			name := halfWritten(t, c[0], c[1])
			err, _ := dying(func() error { _, err := f.disk().finish(name); return err })
			if err != nil {
				t.Fatal(err)
			}
			startable(t, name, c[0], c[1])
			if _, err := Finish(name); err != nil {
				t.Fatal(err)
			}
			stands(t, name, c[1], c[1])
		})
	}
}

// halfWritten makes a file of which a write was killed half way.
func halfWritten(t *testing.T, old, next string) string {
	t.Helper()
	for n := 1; ; n++ {
		name := newFile(t, old)
		f := &fault{n: n, part: 0.5, kill: true}
		if err, dead := dying(func() error { return f.disk().overwrite(name, []byte(old), []byte(next)) }); !dead {
			t.Fatalf("the write of the file was not found: %v", err)
		}
		if f.struck == "write "+filepath.Base(name) {
			return name
		}
	}
}

func TestFullDiskAtEachStepLeavesTheOldFile(t *testing.T) {
	for _, full := range []bool{false, true} {
		for i, c := range contents() {
			t.Run(fmt.Sprintf("%v/%d", full, i), func(t *testing.T) {
				var limit int64
				if full {
					limit = max(1, int64(len(c[0])))
				}
				each(t, 15, false, limit, func(t *testing.T, f *fault) {
					t.Helper()
					name := newFile(t, c[0])
					err := f.disk().overwrite(name, []byte(c[0]), []byte(c[1]))
					if (err != nil) != (f.struck != "") {
						t.Fatalf("error %v", err)
					}
					startable(t, name, c[0], c[1])
					raw, rerr := os.ReadFile(name)
					if rerr != nil {
						t.Fatal(rerr)
					}
					atEnd := strings.HasPrefix(f.struck, "remove") || f.struck == "sync directory" || f.struck == "set the time"
					if err != nil && !atEnd && string(raw) != c[0] {
						t.Fatalf("error %v, and the file holds %.80q", err, raw)
					}
					if _, err := f.disk().finish(name); err != nil && f.struck == "" {
						t.Fatal(err)
					}
					if _, err := Finish(name); err != nil {
						t.Fatal(err)
					}
					stands(t, name, c[0], c[1])
				})
			})
		}
	}
}

// A write that is killed half way on a disk that is then full finds what stood
// there before.
func TestKilledOnADiskThatFillsPutsTheOldFileBack(t *testing.T) {
	old, next := "old\n", strings.Repeat("new and much longer\n", 500)
	each(t, 8, true, 0, func(t *testing.T, f *fault) {
		t.Helper()
		name := newFile(t, old)
		dying(func() error { return f.disk().overwrite(name, []byte(old), []byte(next)) }) //nolint:errcheck // what is left is looked at
		full := &fault{struck: "from the start", full: int64(len(old))}
		unfinished, err := Unfinished(name)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		whole := Equal(raw, []byte(next)) // its room is already taken
		if whole {
			full.full = int64(len(next))
		}
		did, err := full.disk().finish(name)
		if did != unfinished || (err != nil) != (unfinished && !whole) {
			t.Fatalf("did %v, error %v", did, err)
		}
		stands(t, name, old, next)
		if again, err := Finish(name); again || err != nil {
			t.Fatalf("a second Finish has to do: %v, %v", again, err)
		}
	})
}

// The disk fails in the middle, and again while the file is put back.
func TestADiskThatFailsAltogetherLeavesAWriteToFinish(t *testing.T) {
	for _, c := range contents() {
		name := newFile(t, c[0])
		d := disk{write: func(f *os.File, b []byte, offset int64) (int, error) {
			if filepath.Base(f.Name()) != filepath.Base(name) {
				return f.WriteAt(b, offset)
			}
			n, err := f.WriteAt(b[:len(b)/2], offset)
			return n, errors.Join(err, syscall.EIO)
		}}
		err := d.overwrite(name, []byte(c[0]), []byte(c[1]))
		if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), name+prevSuffix) {
			t.Errorf("error %v", err)
		}
		if unfinished, err := Unfinished(name); !unfinished || err != nil {
			t.Errorf("unfinished %v, %v", unfinished, err)
		}
		startable(t, name, c[0], c[1])
		if did, err := Finish(name); !did || err != nil {
			t.Errorf("Finish: %v, %v", did, err)
		}
		stands(t, name, c[1], c[1])
	}
}

func TestAReaderBesideAWriterSeesOldOrNew(t *testing.T) {
	two := []string{strings.Repeat("one\n", 50_000), strings.Repeat("the other\n", 10_000)}
	name := newFile(t, two[0])
	done := make(chan error)
	go func() {
		var err error
		for i := 0; i < 60 && err == nil; i++ {
			err = Write(name, []byte(two[i%2]), []byte(two[(i+1)%2]))
		}
		done <- err
	}()
	for reads := 0; ; reads++ {
		select {
		case err := <-done:
			if err != nil || reads < 3 {
				t.Errorf("%d reads beside a writer that ended with %v", reads, err)
			}
			return
		default:
		}
		b, err := Read(name)
		if err != nil || string(b) != two[0] && string(b) != two[1] {
			t.Errorf("read %.40q of %d bytes, %v", b, len(b), err)
		}
	}
}

func TestInodeModeAndOwnerStay(t *testing.T) {
	name := newFile(t, "old\n")
	if os.Getuid() == 0 {
		if err := os.Chown(name, 12345, 54321); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"new and longer\n", "short\n", "longer than all that was before\n"} {
		was, err := Read(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := Write(name, was, []byte(c)); err != nil {
			t.Fatal(err)
		}
		if got, err := Read(name); err != nil || string(got) != c {
			t.Errorf("Read gives %q, %v; want %q", got, err, c)
		}
	}
	after, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	a, b := before.Sys().(*syscall.Stat_t), after.Sys().(*syscall.Stat_t)
	if a.Ino != b.Ino || a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid {
		t.Errorf("before %+v, after %+v", a, b)
	}
}

func TestPaddingDoesNotAddUp(t *testing.T) {
	name := newFile(t, "one\n")
	longest := 0
	for i := range 200 {
		was, err := Read(name)
		if err != nil {
			t.Fatal(err)
		}
		next := strings.Repeat("x", (i*37)%101) + fmt.Sprint(i) + "\n"
		longest = max(longest, len(next))
		if err := Write(name, was, []byte(next)); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(name)
	if err != nil || info.Size() != int64(longest) {
		t.Errorf("size %d, %v; want %d", info.Size(), err, longest)
	}
}

func TestEveryWriteMovesTheTimeOn(t *testing.T) {
	name := newFile(t, "0")
	last := time.Now().Add(time.Hour) // somebody's clock was wrong
	if err := os.Chtimes(name, last, last); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if err := Write(name, fmt.Append(nil, i), fmt.Append(nil, i+1)); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if !info.ModTime().After(last) {
			t.Fatalf("write %d: modified %v, before that %v", i, info.ModTime(), last)
		}
		last = info.ModTime()
	}
}

func TestWhatTheFileHoldsIsNotWrittenAgain(t *testing.T) {
	name := newFile(t, "same\n\n\n")
	before, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(name, []byte("same"), []byte("same\n")); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if !after.ModTime().Equal(before.ModTime()) || after.Size() != before.Size() {
		t.Errorf("before %v, after %v", before, after)
	}
}

func TestAFileOfSomebodyElseIsNotOverwritten(t *testing.T) {
	t.Run("changed since it was read", func(t *testing.T) {
		name := newFile(t, "theirs\n")
		if err := Write(name, []byte("old\n"), []byte("new\n")); !errors.Is(err, ErrChanged) {
			t.Errorf("error %v", err)
		}
		stands(t, name, "theirs\n", "theirs\n")
	})
	t.Run("changed after a write was cut", func(t *testing.T) {
		name := newFile(t, "theirs, by hand\n")
		for suffix, content := range map[string]string{prevSuffix: "the old file\n", nextSuffix: "the new file, longer\n"} {
			if err := os.WriteFile(name+suffix, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Finish(name); !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), name+nextSuffix) {
			t.Errorf("Finish: %v", err)
		}
		if _, err := Read(name); !errors.Is(err, ErrChanged) {
			t.Errorf("Read: %v", err)
		}
		if err := Write(name, []byte("theirs, by hand\n"), []byte("new\n")); !errors.Is(err, ErrChanged) {
			t.Errorf("Write: %v", err)
		}
		if raw, err := os.ReadFile(name); err != nil || string(raw) != "theirs, by hand\n" {
			t.Errorf("holds %q, %v", raw, err)
		}
	})
	t.Run("renamed over while it is written", func(t *testing.T) {
		name := newFile(t, "old\n")
		d := disk{step: func(what string) error {
			if what != "read back" {
				return nil
			}
			if err := os.WriteFile(name+".theirs", []byte("theirs\n"), 0o600); err != nil {
				return err
			}
			return os.Rename(name+".theirs", name)
		}}
		if err := d.overwrite(name, []byte("old\n"), []byte("new\n")); !errors.Is(err, ErrChanged) {
			t.Errorf("error %v", err)
		}
		stands(t, name, "theirs\n", "theirs\n")
	})
	t.Run("a next that the disk emptied", func(t *testing.T) {
		name := newFile(t, "old\n")
		for suffix, text := range map[string]string{prevSuffix: "old\n", nextSuffix: ""} {
			if err := os.WriteFile(name+suffix, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, read := Read(name)
		_, finish := Finish(name)
		for _, err := range []error{read, finish} {
			if err == nil || !strings.Contains(err.Error(), name+nextSuffix+" lies beside the file and is empty") || !strings.Contains(err.Error(), "remove "+name+nextSuffix) {
				t.Errorf("error %v", err)
			}
		}
		if raw, err := os.ReadFile(name); err != nil || string(raw) != "old\n" {
			t.Errorf("holds %q, %v", raw, err)
		}
	})
	t.Run("nothing is written whole", func(t *testing.T) {
		name := newFile(t, "old\n")
		d := disk{step: func(what string) error {
			if what != "sync "+filepath.Base(name) {
				return nil
			}
			if got, err := Read(name); err != nil || len(bytes.TrimSpace(got)) != 0 {
				t.Errorf("while it is written: %q, %v", got, err)
			}
			return nil
		}}
		if err := d.overwrite(name, []byte("old\n"), nil); err != nil {
			t.Error(err)
		}
		stands(t, name, "\n", "")
	})
	t.Run("a next that is not ours", func(t *testing.T) {
		name := newFile(t, "old\n")
		if err := os.WriteFile(name+nextSuffix, []byte("what is this\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Finish(name); err == nil {
			t.Error("finished")
		}
		if raw, err := os.ReadFile(name); err != nil || string(raw) != "old\n" {
			t.Errorf("holds %q, %v", raw, err)
		}
	})
}

func TestOnlyARegularFileOfBoundedSizeIsTouched(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	if err := os.WriteFile(target, []byte("old\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	link, fifo, big := filepath.Join(dir, "link"), filepath.Join(dir, "fifo"), filepath.Join(dir, "big")
	if err := os.Symlink("target", link); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(big, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, Limit+1); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) || err.Error() != filepath.Join(dir, "none")+": no such file or directory" {
		t.Errorf("an absent file: %v", err)
	}
	for _, name := range []string{link, fifo, dir, big} {
		if _, err := Read(name); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("Read(%s): %v", name, err)
		}
		if err := Write(name, []byte("old\n"), []byte("new\n")); err == nil {
			t.Errorf("Write(%s) did", name)
		}
	}
	if err := Write(target, []byte("old\n"), bytes.Repeat([]byte("x"), Limit+1)); err == nil {
		t.Error("more than the limit was written")
	}
	for _, suffix := range []string{prevSuffix, nextSuffix} { // planted for us to write through
		if err := os.Symlink("victim", target+suffix+tempSuffix); err != nil {
			t.Fatal(err)
		}
	}
	if err := Write(target, []byte("old\n"), []byte("new\n")); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "victim")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link was written through: %v", err)
	}
	stands(t, target, "new\n", "new\n")
}

func TestCreateMakesAFileWhollyOrNot(t *testing.T) {
	each(t, 5, true, 0, func(t *testing.T, f *fault) {
		t.Helper()
		name := filepath.Join(t.TempDir(), "htpasswd")
		dying(func() error { return f.disk().create(name, []byte("content\n"), regular.Give) }) //nolint:errcheck // what is left is looked at
		b, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) || err == nil && string(b) != "content\n" {
			t.Fatalf("holds %q, %v", b, err)
		}
		if err != nil {
			if err := Create(name, []byte("content\n")); err != nil {
				t.Fatal(err)
			}
		}
		if err := Create(name, nil); !errors.Is(err, fs.ErrExist) {
			t.Fatalf("made twice: %v", err)
		}
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("mode %v, %v", info.Mode(), err)
		}
	})
}

// A registry may run as the owner of its directory, and must read what root makes
// for it there.
func TestWhatRootCreatesIsTheDirectorysOwners(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root makes files for others; CI is root")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 12345, 54321); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "sync-credentials.json")
	if err := Create(name, []byte("{}\n")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != 12345 || st.Gid != 54321 || info.Mode().Perm() != 0o600 {
		t.Errorf("made as %+v", info.Sys())
	}
}

// Whoever owns a directory can put a link in a new file's place as soon as it has
// its name, so that nothing may be given away by name.
func TestAFileHasItsOwnerBeforeItsName(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root makes files for others; CI is root")
	}
	dir := t.TempDir()
	config, name, victim := filepath.Join(dir, "config.json"), filepath.Join(dir, "htpasswd"), filepath.Join(t.TempDir(), "victim")
	for _, f := range []string{config, victim} {
		if err := os.WriteFile(f, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(config, 12345, 54321); err != nil {
		t.Fatal(err)
	}
	swapped := false
	d := disk{step: func(what string) error {
		if _, err := os.Lstat(name); swapped || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		swapped = true
		info, err := os.Lstat(name)
		if st, ok := info.Sys().(*syscall.Stat_t); err != nil || !ok || st.Uid != 12345 || st.Gid != 54321 {
			t.Errorf("before %q it belongs to %+v", what, info.Sys())
		}
		return errors.Join(os.Remove(name), os.Symlink(victim, name))
	}}
	if err := d.createLike(name, config, []byte("ops:x\n")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(victim)
	if err != nil {
		t.Fatal(err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !swapped || !ok || st.Uid != 0 {
		t.Errorf("swapped %t: a file elsewhere belongs to %+v now", swapped, info.Sys())
	}
	if err := CreateLike(filepath.Join(dir, "other"), name, nil); !errors.Is(err, ErrUnsafe) {
		t.Errorf("like what a link leads to: %v", err)
	}
}

func TestAbsentFileIsSaidToBeAbsent(t *testing.T) {
	name := filepath.Join(t.TempDir(), "htpasswd")
	if _, err := Read(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read: %v", err)
	}
	if err := Write(name, nil, []byte("x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Write: %v", err)
	}
	if did, err := Finish(name); did || err != nil {
		t.Errorf("Finish: %v, %v", did, err)
	}
}
