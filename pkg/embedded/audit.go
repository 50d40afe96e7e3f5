package embedded

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ocisync/ocisync/schema"
)

const (
	auditBytes = 10 << 20 // of one file
	auditFiles = 20       // kept beside the one that is written, where keep is not said
	// auditParts is how many files the records of the time to keep lie in.
	auditParts = 10

	// auditLate is how many lines wait for room on a full disk, with less than 2
	// KiB each, and auditRetry how often they are tried again without others.
	auditLate  = 1000
	auditRetry = 10 * time.Second
)

// untold is the time to keep where the mode does not say one: as much as the
// most files hold.
const untold time.Duration = 0

// AuditLine is one line of the audit log: a request that writes, an object
// that was changed, a refusal, or what a job removed. It holds no secret.
type AuditLine struct {
	Time    time.Time `json:"time"`
	Account string    `json:"account"` // "anonymous", or "unknown" for a login with a name that no account has
	Address string    `json:"address"` // "local" by the admin socket
	// Action is pull, push, delete, list, login, put (an object), remove (an
	// object), run (a job) or admin.
	Action     string `json:"action"`
	Repository string `json:"repository,omitempty"`
	// Reference is a tag or digest, the key of an object, or a job.
	Reference string `json:"reference,omitempty"`
	Method    string `json:"method,omitempty"`
	Status    int    `json:"status,omitempty"` // of HTTP
	Result    string `json:"result"`           // ok, refused or failed
	// Count is how many requests the line stands for, where that is not one:
	// it sums up those that were like the last line of its address, account,
	// action and status, until its time.
	Count int `json:"count,omitempty"`
}

// audit appends to the log that the state names. What has no room on the disk
// waits for it, what cannot be written is counted and logged, and the request
// goes on.
type audit struct {
	logger   *slog.Logger
	failed   func(lines int)
	now      func() time.Time
	maxBytes int64
	maxFiles int

	mu    sync.Mutex
	folds folds
	conf  *schema.Audit // of the last line
	path  string
	file  *os.File // nil while none is open
	size  int64
	born  time.Time // of the file's first line
	aired time.Time // when a failure was logged last
	late  []AuditLine
	keep  time.Duration // of the last line
	retry *time.Timer   // nil before lines were late
	store func(*os.File, []byte) (int, error)
}

func newAudit(logger *slog.Logger, failed func(lines int)) *audit {
	return &audit{logger: logger, failed: failed, now: time.Now, maxBytes: auditBytes, maxFiles: auditFiles, store: (*os.File).Write}
}

// write appends the lines, if any, to the configuration's log. nil is none. Those that
// cannot be written wait for room, or are lost.
func (a *audit) write(conf *schema.Audit, lines ...AuditLine) {
	if len(lines) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.put(conf, append(a.folds.over(a.now()), lines...))
}

// record writes what a request did: where it changed objects, and with them the
// log, into the one before as well, since the end of a log stands in it too.
func (a *audit) record(lines []AuditLine, objects bool, before, now *schema.Audit) {
	if objects && before != now {
		a.write(before, lines...)
	}
	a.write(now, lines...)
}

// fold is write for a line that strangers can cause as often as they like: of
// those that are alike the first is written, and then how many there were.
func (a *audit) fold(conf *schema.Audit, line AuditLine) {
	if conf == nil || conf.Log == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conf = conf
	now := a.now()
	lines := a.folds.over(now)
	if a.folds.first(line, now) {
		lines = append(lines, line)
		a.folds.wake(a.sumUp)
	}
	a.put(conf, lines)
}

// sumUp writes what was folded for long enough.
func (a *audit) sumUp() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.put(a.conf, a.folds.over(a.now()))
	a.folds.wake(a.sumUp)
}

// writeOrKeep is write for who keeps what cannot be written, and writes it later: no
// line of it is late or lost then.
func (a *audit) writeOrKeep(conf *schema.Audit, lines []AuditLine) bool {
	if len(lines) == 0 {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.aim(conf) {
		return true
	}
	if len(a.late) > 0 && !a.flush(nil) {
		return false
	}
	if err := a.append(lines, a.keep); err != nil {
		a.shut()
		a.air(err)
		return false
	}
	return true
}

// put appends the lines; the caller holds the lock.
func (a *audit) put(conf *schema.Audit, lines []AuditLine) {
	if len(lines) > 0 && a.aim(conf) {
		a.flush(lines)
	}
}

// aim turns to the configuration's log; false where there is none. The caller holds
// the lock.
func (a *audit) aim(conf *schema.Audit) bool {
	path := ""
	if conf != nil && conf.Log != nil {
		path = *conf.Log
	}
	if path != a.path {
		a.lose(a.late)
		a.shut()
		a.path, a.late = path, nil
	}
	if path == "" {
		return false
	}
	a.keep = untold
	if conf.Keep != nil {
		a.keep = conf.Keep.Std()
	}
	return true
}

// air logs, once a minute, that the log cannot be written.
func (a *audit) air(err error) {
	if now := a.now(); a.aired.IsZero() || now.Sub(a.aired) >= time.Minute {
		a.aired = now
		a.logger.Error("the audit log cannot be written", "log", a.path, "error", err)
	}
}

// flush appends what is late and the lines, and reports whether it could; the caller
// holds the lock.
func (a *audit) flush(lines []AuditLine) bool {
	lines = append(a.late, lines...)
	a.late = nil
	err := a.append(lines, a.keep)
	if err == nil {
		return true
	}
	a.shut()
	a.air(err)
	if noRoom(err) {
		a.late = lines[:min(len(lines), auditLate)]
		lines = lines[len(a.late):]
		if a.retry == nil {
			a.retry = time.AfterFunc(auditRetry, a.again)
		} else {
			a.retry.Reset(auditRetry)
		}
	}
	a.lose(lines)
	return false
}

// again writes what is late.
func (a *audit) again() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.late) > 0 {
		a.flush(nil)
	}
}

// lose counts and tells of lines that will not be written.
func (a *audit) lose(lines []AuditLine) {
	if len(lines) == 0 {
		return
	}
	a.failed(len(lines))
	a.logger.Error("lines of the audit log are lost", "log", a.path, "lines", len(lines), "first", lines[0].Time)
}

func (a *audit) append(lines []AuditLine, keep time.Duration) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for _, l := range lines {
		if err := enc.Encode(l); err != nil {
			return err
		}
	}
	if a.file != nil && !a.there() { // somebody moved or removed it
		a.shut()
	}
	if a.file == nil {
		if err := a.open(); err != nil {
			return err
		}
	}
	full := a.size > 0 && a.size+int64(b.Len()) > a.maxBytes
	aged := a.size > 0 && keep > 0 && a.now().Sub(a.born) > keep/auditParts
	if full || aged {
		if err := a.rotate(keep); err != nil {
			return fmt.Errorf("rotating it: %w", err)
		}
	}
	if a.size == 0 {
		a.born = lines[0].Time
	}
	n, err := a.store(a.file, b.Bytes())
	if err != nil { // nothing of it stays, or else the end is cut when the log is opened again
		return errors.Join(err, a.file.Truncate(a.size))
	}
	a.size += int64(n)
	return nil
}

// there reports whether the open log is what its name names still.
func (a *audit) there() bool {
	named, err := os.Lstat(a.path)
	if err != nil {
		return false
	}
	open, err := a.file.Stat()
	return err == nil && os.SameFile(named, open)
}

// open opens the log or makes it. A file that is there must be an audit log:
// whoever may name the file cannot make the registry write into another.
func (a *audit) open() error {
	f, err := made(a.path, os.O_RDWR|os.O_APPEND|syscall.O_NOFOLLOW|syscall.O_NONBLOCK)
	if err != nil {
		return err
	}
	born, size, torn, err := inspect(f)
	if err == nil && torn {
		size, err = mend(f, size)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	a.file, a.size, a.born = f, size, born
	return nil
}

// mend cuts off a last line that was not written whole, and returns the size
// then. One longer than any of ours is ended in its place.
func mend(f *os.File, size int64) (int64, error) {
	end := make([]byte, min(size, 64<<10))
	if _, err := f.ReadAt(end, size-int64(len(end))); err != nil {
		return size, err
	}
	if i := bytes.LastIndexByte(end, '\n'); i >= 0 {
		size -= int64(len(end) - i - 1)
		return size, f.Truncate(size)
	}
	n, err := f.WriteString("\n")
	return size + int64(n), err
}

var errNoLog = errors.New("what is there is no audit log of ocisync; move it away, or name another file in audit.log")

// inspect returns the time of the log's first line, its size, and whether its
// last line is not whole.
func inspect(f *os.File) (born time.Time, size int64, torn bool, err error) {
	info, err := f.Stat()
	if err != nil {
		return born, 0, false, err
	}
	if !info.Mode().IsRegular() {
		return born, 0, false, errNoLog
	}
	if info.Size() == 0 {
		return born, 0, false, nil
	}
	first, err := bufio.NewReader(io.NewSectionReader(f, 0, 64<<10)).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return born, 0, false, err
	}
	var line AuditLine
	dec := json.NewDecoder(bytes.NewReader(first))
	dec.DisallowUnknownFields()
	if dec.Decode(&line) != nil || line.Time.IsZero() || line.Result == "" {
		return born, 0, false, errNoLog
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, info.Size()-1); err != nil {
		return born, 0, false, err
	}
	return line.Time, info.Size(), last[0] != '\n', nil
}

// rotate moves LOG to LOG.1, that to LOG.2 and so on, and begins anew. It
// removes what is older than the time to keep, or, where none is said, what is
// more than the most files.
func (a *audit) rotate(keep time.Duration) error {
	root, err := os.OpenRoot(filepath.Dir(a.path))
	if err != nil {
		return err
	}
	defer root.Close()
	base := filepath.Base(a.path)
	name := func(n int) string { return base + "." + strconv.Itoa(n) }
	old, err := numbered(root, base)
	if err != nil {
		return err
	}
	free := 1 // the least number that no file has
	for slices.Contains(old, free) {
		free++
	}
	for _, n := range slices.Backward(old) {
		info, err := root.Lstat(name(n))
		if err != nil {
			return err
		}
		gone := keep != untold && a.now().Sub(info.ModTime()) > keep || keep == untold && n >= a.maxFiles
		if !gone && n > free {
			continue
		}
		if err := isLog(root, name(n)); err != nil {
			return fmt.Errorf("%s: %w", name(n), err)
		}
		if gone {
			err = root.Remove(name(n))
		} else {
			err = root.Rename(name(n), name(n+1))
		}
		if err != nil {
			return err
		}
	}
	if err := root.Rename(base, name(1)); err != nil {
		return err
	}
	a.shut()
	return a.open()
}

// numbered lists the numbers of the files that rotation made, sorted.
func numbered(root *os.Root, base string) ([]int, error) {
	dir, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var out []int
	for _, name := range names {
		suffix, ok := strings.CutPrefix(name, base+".")
		if n, err := strconv.Atoi(suffix); ok && err == nil && n > 0 && strconv.Itoa(n) == suffix {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

func isLog(root *os.Root, name string) error {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, _, _, err = inspect(f)
	return err
}

func (a *audit) shut() {
	if a.file == nil {
		return
	}
	if err := a.file.Close(); err != nil {
		a.logger.Error("closing the audit log failed", "log", a.path, "error", err)
	}
	a.file, a.size = nil, 0
}

func (a *audit) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.put(a.conf, a.folds.all())
	if len(a.late) > 0 {
		a.flush(nil)
	}
	if a.retry != nil {
		a.retry.Stop()
	}
	a.lose(a.late)
	a.late = nil
	a.shut()
	return nil
}

// checkAudit refuses what the registry cannot keep of a declared audit log.
func checkAudit(key schema.Key, spec *schema.Audit) error {
	for _, f := range []struct {
		name  string
		given bool
	}{{"schedule", spec.Schedule != nil}, {"zone", spec.Zone != nil}, {"events", spec.Events != nil}} {
		if f.given {
			return fmt.Errorf("%s: %s: %w", key, f.name, ErrUnsupported)
		}
	}
	if l := spec.Log; key.Name != "" || l != nil && *l != "" && (!filepath.IsAbs(*l) || filepath.Clean(*l) != *l || len(*l) > 4096) {
		return fmt.Errorf("%s: %w: log is the absolute path of a file", key, ErrInvalid)
	}
	return nil
}
