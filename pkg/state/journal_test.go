package state

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/schema"
)

func run(id string) Run {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	return Run{ID: id, Identity: Identity{"prod", plan.Registry{Type: "zot", URL: "http://localhost:5000"}},
		Approval: "sha256:1", Revision: "abc", Actor: "ci", Now: func() time.Time { now = now.Add(time.Second); return now }}
}

func openJournal(t testing.TB, path string, r Run) *Journal {
	t.Helper()
	j, err := OpenJournal(path, r)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func change(t testing.TB, s string) plan.Change {
	t.Helper()
	o := object(t, s)
	return plan.Change{Action: plan.Create, Key: o.Key, After: &schema.Resource{Key: o.Key, Spec: o.Spec}}
}

// written returns the path of a journal of two runs, the second interrupted.
func written(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journal", "j.jsonl")
	a, b, c := change(t, "user/ann"), change(t, "user/bob"), change(t, "namespace/n")
	j := openJournal(t, path, run("r1"))
	err := errors.Join(j.Begin(a, b), j.End(Result{a, nil}, Result{b, errors.New("refused")}), j.Note("hello"), j.Close())
	j = openJournal(t, path, run("r2"))
	if err := errors.Join(err, j.Begin(b, c), j.End(Result{Change: b}), j.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestJournalRecordsEachChangeBeforeAndAfter(t *testing.T) {
	path := written(t)
	var have []string
	for e, err := range Entries(bytes.NewReader(read(t, path))) {
		if err != nil {
			t.Fatal(err)
		}
		have = append(have, strings.Join(strings.Fields(fmt.Sprint(e.Seq, " ", e.Run, " ", e.Event, " ", e.Action, " ", e.Key, " ", e.Outcome, " ", e.Error, e.Text)), " "))
		if e.Mode != "prod" || e.Registry.URL == "" || e.Approval != "sha256:1" || e.Revision != "abc" || e.Actor != "ci" || e.Time.IsZero() {
			t.Errorf("incomplete: %+v", e)
		}
		if (e.Event == Begin) != (e.After != nil) {
			t.Errorf("after of %s: %v", e.Event, e.After)
		}
	}
	want := []string{
		"1 r1 begin create user/ann", "2 r1 begin create user/bob",
		"3 r1 end create user/ann done", "4 r1 end create user/bob failed refused",
		"5 r1 note hello",
		"6 r2 begin create user/bob", "7 r2 begin create namespace/n", "8 r2 end create user/bob done",
	}
	if d := cmp.Diff(want, have); d != "" {
		t.Errorf("(-want +have)\n%s", d)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if !bytes.HasPrefix(read(t, path), []byte(`{"prev":"0000000000000000000000000000000000000000000000000000000000000000"`)) {
		t.Error("the first line does not follow zeros")
	}
}

func TestUnfinishedChangesAreFound(t *testing.T) {
	path := written(t)
	open, err := Unfinished(Entries(bytes.NewReader(read(t, path))))
	if err != nil || len(open) != 1 || open[0].Key != key(t, "namespace/n") {
		t.Errorf("%+v, %v", open, err)
	}
	c := change(t, "user/ann")
	j := openJournal(t, path, run("r3"))
	if err := errors.Join(j.Begin(c), j.End(Result{Change: c}), j.Close()); err != nil {
		t.Fatal(err)
	}
	if open, err := Unfinished(Entries(bytes.NewReader(read(t, path)))); err != nil || len(open) != 0 {
		t.Errorf("of an earlier run: %+v, %v", open, err)
	}
}

func TestEveryEditOfAJournalIsFound(t *testing.T) {
	good := read(t, written(t))
	if n, err := Verify(bytes.NewReader(good), Mark{}); n != 8 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, err := Verify(bytes.NewReader(bad), Mark{}); err == nil {
			t.Fatalf("an edit of byte %d, %q, was not found", i, good[i])
		}
	}
	lines := bytes.SplitAfter(good, []byte("\n"))
	for name, c := range map[string]struct {
		bad  []byte
		line int
	}{
		"a line missing":    {bytes.Join(append(append([][]byte{}, lines[:3]...), lines[4:]...), nil), 4},
		"the first missing": {bytes.Join(lines[1:], nil), 1},
		"a line twice":      {bytes.Join(append(append([][]byte{}, lines[:3]...), lines[2:]...), nil), 4},
		"lines exchanged":   {bytes.Join([][]byte{lines[0], lines[2], lines[1]}, nil), 2},
		"an empty line":     {append(bytes.Clone(good), '\n'), 9},
		"a torn line":       {good[:len(good)-9], 8},
	} {
		var broken *ChainError
		if _, err := Verify(bytes.NewReader(c.bad), Mark{}); !errors.As(err, &broken) || broken.Line != c.line {
			t.Errorf("%s: %v, want line %d", name, err, c.line)
		}
	}
}

func TestAForgedLineMustCountOn(t *testing.T) {
	good := read(t, written(t))
	lines := bytes.Split(bytes.TrimSpace(good), []byte("\n"))
	forged, err := formatLine(Entry{Prev: lineHash(lines[7]), Seq: 10, Event: Remark, Mode: "prod"})
	if err != nil {
		t.Fatal(err)
	}
	var broken *ChainError
	if _, err := Verify(bytes.NewReader(append(append(good, forged...), '\n')), Mark{}); !errors.As(err, &broken) || broken.Line != 9 {
		t.Errorf("%v", err)
	}
}

// A crash may cut the last line anywhere.
func TestTornLastLineIsPutAsideAndNoted(t *testing.T) {
	good := read(t, written(t))
	lines := bytes.SplitAfter(good, []byte("\n"))
	last := lines[7]
	rest := good[:len(good)-len(last)]
	for cut := 1; cut < len(last); cut += 7 {
		path := filepath.Join(t.TempDir(), "j")
		if err := os.WriteFile(path, append(bytes.Clone(rest), last[:cut]...), 0o600); err != nil {
			t.Fatal(err)
		}
		j := openJournal(t, path, run("r3"))
		if err := errors.Join(j.Note("after"), j.Close()); err != nil {
			t.Fatal(err)
		}
		var events []Event
		for e, err := range Entries(bytes.NewReader(read(t, path))) {
			if err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			events = append(events, e.Event)
		}
		if d := cmp.Diff([]Event{Begin, Begin, End, End, Remark, Begin, Begin, Recovered, Remark}, events); d != "" {
			t.Fatalf("cut at %d: %s", cut, d)
		}
		if torn := read(t, path+".torn"); string(torn) != string(last[:cut])+"\n" {
			t.Errorf("put aside: %q", torn)
		}
	}
}

func TestJournalOfOneTornLineBeginsAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	if err := os.WriteFile(path, []byte(`{"prev":"00`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := openJournal(t, path, run("r")).Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := Verify(bytes.NewReader(read(t, path)), Mark{}); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// A damaged log stops no deploy: what is written after it is noticed as what
// follows a damage.
func TestJournalGoesOnAfterAnEditedLastLine(t *testing.T) {
	path := written(t)
	b := read(t, path)
	b[len(b)-10] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	j := openJournal(t, path, run("r3"))
	if err := errors.Join(j.Note("after"), j.Close()); err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(read(t, path)), []byte("\n"))
	if e, err := parseLine(lines[8]); err != nil || e.Seq != 9 || e.Prev != lineHash(lines[7]) {
		t.Errorf("what follows: %+v, %v", e, err)
	}
	var broken *ChainError
	if _, err := Verify(bytes.NewReader(read(t, path)), Mark{}); !errors.As(err, &broken) || broken.Line != 8 {
		t.Errorf("%v", err)
	}
}

func TestJournalIsNoLink(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	if err := os.Symlink(written(t), path); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenJournal(path, run("r")); err == nil || !strings.Contains(err.Error(), "it is a link; put the file itself there") {
		t.Errorf("%v", err)
	}
}

func TestJournalRefusesASecretBeforeTheChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := openJournal(t, path, run("r"))
	defer j.Close()
	c := change(t, "user/ann")
	c.After.Spec = &schema.User{Password: &schema.SecretRef{Env: canary}}
	err := j.Begin(change(t, "user/bob"), c)
	if err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("%v", err)
	}
	if b := read(t, path); len(b) > 0 {
		t.Errorf("written all the same: %s", b)
	}
}

func TestJournalKeepsItsChainUnderConcurrentWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := openJournal(t, path, run("r"))
	var wg sync.WaitGroup
	for i := range 8 {
		c := change(t, fmt.Sprintf("user/u%d", i))
		wg.Go(func() {
			for range 5 {
				if err := errors.Join(j.Begin(c), j.End(Result{Change: c})); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := Verify(bytes.NewReader(read(t, path)), Mark{}); n != 80 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func TestJournalContinuesAfterALongLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := openJournal(t, path, run("r1"))
	if err := errors.Join(j.Note("short"), j.Note(strings.Repeat("x", 300<<10)), j.Close()); err != nil {
		t.Fatal(err)
	}
	j = openJournal(t, path, run("r2"))
	if err := errors.Join(j.Note("next"), j.Close()); err != nil {
		t.Fatal(err)
	}
	if n, err := Verify(bytes.NewReader(read(t, path)), Mark{}); n != 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}
