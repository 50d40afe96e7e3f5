package embedded

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocisync/ocisync/schema"
)

func newTestAudit(t *testing.T) (a *audit, log string, failed *int, clock *time.Time) {
	t.Helper()
	failed, clock = new(int), new(time.Unix(1e9, 0))
	a = newAudit(slog.New(slog.DiscardHandler), func(n int) { *failed += n })
	a.now = func() time.Time { return *clock }
	t.Cleanup(func() {
		if err := a.close(); err != nil {
			t.Error(err)
		}
	})
	return a, filepath.Join(t.TempDir(), "audit.log"), failed, clock
}

func auditLine(clock *time.Time, reference string) AuditLine {
	return AuditLine{Time: clock.UTC(), Account: "dev", Address: "192.0.2.1:1", Action: "push", Repository: "a/b", Reference: reference, Result: "ok"}
}

func auditLog(path string, keep schema.Duration) *schema.Audit {
	return &schema.Audit{Log: &path, Keep: &keep}
}

func readLines(t *testing.T, path string) (out []AuditLine) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		var l AuditLine
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("%s: %q: %v", path, line, err)
		}
		out = append(out, l)
	}
	return out
}

func TestTheAuditLogRotatesBySizeAndIsBounded(t *testing.T) {
	a, log, failed, clock := newTestAudit(t)
	a.maxBytes, a.maxFiles = 1000, 3
	for range 100 {
		*clock = clock.Add(time.Second)
		a.write(&schema.Audit{Log: &log}, auditLine(clock, "t"))
	}
	files, err := filepath.Glob(log + "*")
	if err != nil || len(files) != 4 {
		t.Fatalf("%d files (%v), want the log and 3: %v", len(files), err, files)
	}
	var last time.Time
	for _, name := range []string{log + ".3", log + ".2", log + ".1", log} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > a.maxBytes || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %d bytes, mode %o", name, info.Size(), info.Mode().Perm())
		}
		for _, l := range readLines(t, name) {
			if !last.IsZero() && l.Time.Sub(last) != time.Second {
				t.Errorf("%s: a line of %s follows one of %s", name, l.Time, last)
			}
			last = l.Time
		}
	}
	if !last.Equal(*clock) || *failed != 0 {
		t.Errorf("the last line is of %s, want %s; %d failed", last, clock, *failed)
	}
}

// TestAnAuditLogThatSomebodyMovedIsBegunAnew as logrotate does.
func TestAnAuditLogThatSomebodyMovedIsBegunAnew(t *testing.T) {
	a, log, failed, clock := newTestAudit(t)
	write := func(what string) {
		*clock = clock.Add(time.Second)
		a.write(&schema.Audit{Log: &log}, auditLine(clock, what))
	}
	write("first")
	if err := os.Rename(log, log+".old"); err != nil {
		t.Fatal(err)
	}
	write("moved")
	if err := os.Remove(log); err != nil {
		t.Fatal(err)
	}
	write("removed")
	write("after")
	if got := readLines(t, log); len(got) != 2 || got[0].Reference != "removed" || got[1].Reference != "after" {
		t.Errorf("the log has %v", got)
	}
	if got := readLines(t, log+".old"); len(got) != 1 || *failed != 0 {
		t.Errorf("what was moved has %v; %d failed", got, *failed)
	}
}

func TestRotationRemovesNothingThatKeepSaysToKeep(t *testing.T) {
	for _, keep := range []schema.Duration{schema.Never, schema.Duration(time.Hour / time.Second)} {
		a, log, failed, clock := newTestAudit(t)
		a.maxBytes, a.maxFiles = 1000, 3
		*clock = time.Now() // files are as old as their last line
		for range 100 {
			*clock = clock.Add(time.Second)
			a.write(auditLog(log, keep), auditLine(clock, "t"))
		}
		files, err := filepath.Glob(log + "*")
		if err != nil {
			t.Fatal(err)
		}
		lines := 0
		for _, name := range files {
			lines += len(readLines(t, name))
		}
		if lines != 100 || *failed != 0 {
			t.Errorf("keep %s: %d lines are left of 100 in %d files; %d failed", keep, lines, len(files), *failed)
		}
	}
}

func TestRefusalsThatAreAlikeAreSummedUp(t *testing.T) {
	a, log, failed, clock := newTestAudit(t)
	conf := auditLog(log, schema.Never)
	refusal := func(address, account string, status int) AuditLine {
		return AuditLine{Time: clock.UTC(), Account: account, Address: address, Action: "push", Repository: "a", Status: status, Result: "refused"}
	}
	for i := range 1000 {
		*clock = clock.Add(time.Millisecond)
		a.fold(conf, refusal("192.0.2.1:"+strconv.Itoa(i+1), "anonymous", 401))
	}
	a.fold(conf, refusal("192.0.2.2:1", "anonymous", 401))
	a.fold(conf, refusal("192.0.2.1:1", "unknown", 401))
	a.fold(conf, refusal("192.0.2.1:1", "anonymous", 400))
	a.write(conf, auditLine(clock, "deed"))
	if got := readLines(t, log); len(got) != 5 {
		t.Fatalf("%d lines, want 4 refusals and a deed: %+v", len(got), got)
	}
	last := *clock
	*clock = clock.Add(foldWindow)
	a.sumUp()
	got := readLines(t, log)
	if len(got) != 6 {
		t.Fatalf("%d lines, want a sum more", len(got))
	}
	if sum := got[5]; sum.Count != 999 || sum.Address != "192.0.2.1" || sum.Account != "anonymous" || sum.Status != 401 || sum.Repository != "" || sum.Time.After(last) {
		t.Errorf("the sum is %+v", sum)
	}
	a.fold(conf, refusal("192.0.2.1:1", "anonymous", 401))
	a.fold(conf, refusal("192.0.2.1:1", "anonymous", 401))
	if err := a.close(); err != nil { // what is counted is not lost
		t.Fatal(err)
	}
	if got := readLines(t, log); len(got) != 8 || got[7].Count != 1 || *failed != 0 {
		t.Errorf("after the end: %+v, %d failed", got[6:], *failed)
	}
}

func TestManyStrangersCannotFillTheAuditLog(t *testing.T) {
	a, log, _, clock := newTestAudit(t)
	conf := auditLog(log, schema.Never)
	for i := range 10_000 {
		address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)
		a.fold(conf, AuditLine{Time: clock.UTC(), Account: "anonymous", Address: address.String(), Action: "push", Status: 401, Result: "refused"})
	}
	*clock = clock.Add(foldWindow)
	a.sumUp()
	got := readLines(t, log)
	if len(got) != maxFolds+1 {
		t.Fatalf("%d lines", len(got))
	}
	if sum := got[maxFolds]; sum.Address != "several" || sum.Count != 10_000-maxFolds {
		t.Errorf("the sum is %+v", sum)
	}
}

// What a client sends is written so that it takes no more room than a name can.
func TestALineOfTheAuditLogIsShortWhateverAClientSends(t *testing.T) {
	a, log, _, clock := newTestAudit(t)
	for _, text := range []string{"<", "\x00", "\"", "\\", "\xff", "\u2028", "𝄞", "\n"} {
		long := clip(strings.Repeat(text, 5000))
		a.write(auditLog(log, schema.Never), AuditLine{
			Time: clock.UTC(), Account: "dev", Address: "[2001:db8:1111:2222:3333:4444:5555:6666]:65535", Action: "delete",
			Repository: long, Reference: long, Method: long, Status: 401, Result: "refused",
		})
	}
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		if len(line) > 2<<10 {
			t.Errorf("a line of %d bytes: %.300s", len(line), line)
		}
	}
}

func TestTheAuditLogDropsWhatIsOlderThanKeep(t *testing.T) {
	a, log, failed, clock := newTestAudit(t)
	const day = 24 * time.Hour
	for range 40 {
		*clock = clock.Add(day)
		a.write(auditLog(log, schema.Duration(10*day/time.Second)), auditLine(clock, "t"))
		for _, name := range []string{log, log + ".1"} { // files are as old as their lines
			if _, err := os.Stat(name); err == nil {
				lines := readLines(t, name)
				if err := os.Chtimes(name, time.Time{}, lines[len(lines)-1].Time); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	files, err := filepath.Glob(log + "*")
	if err != nil || len(files) < 5 {
		t.Fatalf("files %v, %v", files, err)
	}
	for _, name := range files {
		for _, l := range readLines(t, name) {
			if age := clock.Sub(l.Time); age > 12*day {
				t.Errorf("%s holds a line %s old", name, age)
			}
		}
	}
	if *failed != 0 {
		t.Errorf("%d lines failed", *failed)
	}
}

func TestTheAuditLogIsNeverWrittenIntoAnotherFile(t *testing.T) {
	for what, content := range map[string]string{"text": "precious\n", "JSON": `{"format":1}` + "\n", "an open end": "x"} {
		a, log, failed, clock := newTestAudit(t)
		if err := os.WriteFile(log, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		a.write(auditLog(log, schema.Never), auditLine(clock, "t"))
		if b, _ := os.ReadFile(log); string(b) != content || *failed != 1 {
			t.Errorf("%s: now %q, %d failed", what, b, *failed)
		}
	}
	a, log, failed, clock := newTestAudit(t)
	target := log + ".target"
	if err := os.WriteFile(target, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, log); err != nil {
		t.Fatal(err)
	}
	a.write(auditLog(log, schema.Never), auditLine(clock, "t"))
	if b, _ := os.ReadFile(target); len(b) != 0 || *failed != 1 {
		t.Errorf("a link was followed: %q, %d failed", b, *failed)
	}
	a, log, failed, clock = newTestAudit(t)
	a.maxBytes = 1
	a.write(auditLog(log, schema.Never), auditLine(clock, "t"))
	if err := os.WriteFile(log+".1", []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.write(auditLog(log, schema.Never), auditLine(clock, "t"))
	if b, _ := os.ReadFile(log + ".1"); string(b) != "precious" || *failed != 1 {
		t.Errorf("rotation replaced another file: %q, %d failed", b, *failed)
	}
}

func TestTheAuditLogGoesOnAfterATornLineAndARestart(t *testing.T) {
	a, log, failed, clock := newTestAudit(t)
	a.write(auditLog(log, schema.Never), auditLine(clock, "before"))
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"time":"20`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	a.write(auditLog(log, schema.Never), auditLine(clock, "after"))
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(string(b), "\n"); len(lines) != 3 || !strings.Contains(lines[1], "after") || *failed != 0 {
		t.Errorf("%q, %d failed", b, *failed)
	}
	other := log + "-elsewhere"
	a.write(auditLog(other, schema.Never), auditLine(clock, "moved"))
	if got := readLines(t, other); len(got) != 1 || got[0].Reference != "moved" {
		t.Errorf("the other log holds %v", got)
	}
	a.write(nil, auditLine(clock, "none"))
	if a.file != nil {
		t.Error("a log that is not declared any more is still open")
	}
}

// A full disk takes a part of what is written, and no more until there is room.
func TestLinesThatHaveNoRoomAreWrittenOnceThereIs(t *testing.T) {
	a, log, failed, clock := newTestAudit(t)
	a.write(auditLog(log, schema.Never), auditLine(clock, "before"))
	room := 100 // bytes
	a.store = func(f *os.File, b []byte) (int, error) {
		n, err := f.Write(b[:min(len(b), room)])
		room -= n
		if err == nil && n < len(b) {
			err = &fs.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
		}
		return n, err
	}
	for _, reference := range []string{"one", "two"} {
		a.write(auditLog(log, schema.Never), auditLine(clock, reference))
		if got := readLines(t, log); len(got) != 1 || *failed != 0 {
			t.Fatalf("on a full disk: %v, %d failed", got, *failed)
		}
	}
	room = 1 << 20
	a.again()
	a.write(auditLog(log, schema.Never), auditLine(clock, "three"))
	got := ""
	for _, l := range readLines(t, log) {
		got += l.Reference + " "
	}
	if got != "before one two three " || *failed != 0 {
		t.Errorf("once there is room: %s; %d failed", got, *failed)
	}
	room = 0
	for range auditLate + 3 {
		a.write(auditLog(log, schema.Never), auditLine(clock, "many"))
	}
	if *failed != 3 || len(a.late) != auditLate {
		t.Errorf("%d lines wait, %d are told to be lost", len(a.late), *failed)
	}
	if err := a.close(); err != nil || *failed != auditLate+3 {
		t.Errorf("at the end %d of %d are told to be lost: %v", *failed, auditLate+3, err)
	}
}
