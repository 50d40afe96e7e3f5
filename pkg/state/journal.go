package state

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/schema"
)

// Event is what a line of the journal records.
type Event string

// The events. Each Begin is followed by an End of the same change, unless the
// process died between them; see [Unfinished].
const (
	Begin     Event = "begin"
	End       Event = "end"
	Remark    Event = "note"
	Recovered Event = "recovered" // an unfinished last line was put aside
)

// Outcome is how a change ended.
type Outcome string

// The outcomes.
const (
	Done   Outcome = "done"
	Failed Outcome = "failed"
)

// Entry is one line of the journal.
type Entry struct {
	// Prev is the SHA-256, in hex, of the line before without its newline;
	// zeros in the first.
	Prev     string           `json:"prev"`
	Seq      int64            `json:"seq"` // from 1
	Time     time.Time        `json:"time"`
	Event    Event            `json:"event"`
	Run      string           `json:"run,omitempty"`
	Mode     string           `json:"mode"`
	Registry plan.Registry    `json:"registry"`
	Approval string           `json:"approval,omitempty"`
	Revision string           `json:"revision,omitempty"`
	Actor    string           `json:"actor,omitempty"`
	Action   plan.Action      `json:"action,omitempty"`
	Key      schema.Key       `json:"key,omitzero"`
	Before   *schema.Resource `json:"before,omitempty"`
	After    *schema.Resource `json:"after,omitempty"`
	Outcome  Outcome          `json:"outcome,omitempty"`
	Error    string           `json:"error,omitempty"`
	Text     string           `json:"text,omitempty"`
	// Sum is the SHA-256, in hex, of the line up to its own member, so that
	// an edit of the last line shows too.
	Sum string `json:"sum"`
}

// Run is what all lines of one run share.
type Run struct {
	ID       string
	Identity Identity
	Approval string
	Revision string
	Actor    string
	Now      func() time.Time // nil for the system's clock
}

// Result is how one change ended; Err nil means done.
type Result struct {
	Change plan.Change
	Err    error
}

// maxLine bounds one line of a journal.
const maxLine = 16 << 20

// sumMember begins the last member of a line.
const sumMember = `,"sum":"`

func noLine() string { return hex.EncodeToString(make([]byte, sha256.Size)) }

// Journal appends to a file. Each method returns when its lines are on disk.
// Its methods may be called from several goroutines, which then share syncs.
type Journal struct {
	run  Run
	path string

	mu      sync.Mutex // guards what follows
	f       *os.File
	prev    string
	seq     int64
	written int64 // bytes in the file
	broken  error // the first failed write; nothing is appended after it

	syncing sync.Mutex
	synced  int64
}

// OpenJournal opens or makes a journal, 0600, for appending. One process at a
// time may do so: take the lock first. An unfinished last line, what a crash
// leaves, is moved to <path>.torn and noted. What else is damaged stays as it is,
// and what is appended follows it: [Machine.CheckJournal] finds it.
func OpenJournal(path string, run Run) (*Journal, error) {
	if run.Now == nil {
		run.Now = time.Now
	}
	j := &Journal{run: run, path: path}
	if err := j.open(); err != nil {
		if j.f != nil {
			_ = j.f.Close()
		}
		return nil, fmt.Errorf("journal %s: %w", path, err)
	}
	return j, nil
}

func (j *Journal) open() error {
	if err := os.MkdirAll(filepath.Dir(j.path), 0o700); err != nil {
		return fmt.Errorf("%w; set state in the host file to a directory you may write to", err)
	}
	var err error
	if j.f, err = os.OpenFile(j.path, os.O_CREATE|os.O_RDWR|os.O_APPEND|syscall.O_NOFOLLOW, 0o600); errors.Is(err, syscall.ELOOP) {
		return errors.New("it is a link; put the file itself there")
	} else if err != nil {
		return fmt.Errorf("%w; set state in the host file to a directory you may write to", err)
	}
	info, err := j.f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file; move it away")
	}
	if info.Size() == 0 {
		j.prev = noLine()
		return syncDir(filepath.Dir(j.path))
	}
	last, end, err := lastLine(j.f, info.Size())
	if err != nil {
		return err
	}
	j.prev = noLine()
	if last != nil {
		j.prev = lineHash(last)
		if e, err := parseLine(last); err == nil {
			j.seq = e.Seq
		} else if j.seq, err = countLines(j.f); err != nil {
			return err
		}
	}
	j.written, j.synced = end, end
	if end == info.Size() {
		return nil
	}
	if err := j.putAside(end, info.Size()-end); err != nil {
		return fmt.Errorf("putting an unfinished line aside: %w", err)
	}
	return j.append(Entry{Event: Recovered,
		Text: fmt.Sprintf("%d bytes of an unfinished line moved to %s.torn", info.Size()-end, filepath.Base(j.path))})
}

// countLines counts the finished lines of a file.
func countLines(f *os.File) (n int64, err error) {
	br := bufio.NewReaderSize(io.NewSectionReader(f, 0, math.MaxInt64), 64<<10)
	for {
		_, err := br.ReadSlice('\n')
		switch {
		case err == nil:
			n++
		case errors.Is(err, io.EOF):
			return n, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return 0, err
		}
	}
}

// putAside moves the file's tail to <path>.torn.
func (j *Journal) putAside(from, n int64) error {
	torn, err := os.OpenFile(j.path+".torn", os.O_CREATE|os.O_WRONLY|os.O_APPEND|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600) // a pipe that nobody reads fails
	if err != nil {
		return err
	}
	b := make([]byte, min(n, maxLine))
	_, err = j.f.ReadAt(b, from)
	if err == nil {
		_, err = torn.Write(append(b, '\n'))
	}
	if err == nil {
		err = torn.Sync()
	}
	if err = errors.Join(err, torn.Close()); err != nil {
		return err
	}
	if err := j.f.Truncate(from); err != nil {
		return err
	}
	return j.f.Sync()
}

// Begin records changes that are about to be made. It refuses one whose
// objects hold a secret, and then records none.
func (j *Journal) Begin(changes ...plan.Change) error {
	entries := make([]Entry, len(changes))
	for i, c := range changes {
		for _, r := range []*schema.Resource{c.Before, c.After} {
			if r == nil {
				continue
			}
			if err := checkSpec(r.Key, r.Spec); err != nil {
				return fmt.Errorf("journal %s: %w", j.path, err)
			}
		}
		entries[i] = Entry{Event: Begin, Action: c.Action, Key: c.Key, Before: c.Before, After: c.After}
	}
	return j.write(entries)
}

// End records how changes ended.
func (j *Journal) End(results ...Result) error {
	entries := make([]Entry, len(results))
	for i, r := range results {
		e := Entry{Event: End, Action: r.Change.Action, Key: r.Change.Key, Outcome: Done}
		if r.Err != nil {
			e.Outcome, e.Error = Failed, r.Err.Error()
		}
		entries[i] = e
	}
	return j.write(entries)
}

// Note records a remark on the run.
func (j *Journal) Note(text string) error {
	return j.write([]Entry{{Event: Remark, Text: text}})
}

// Close closes the file.
func (j *Journal) Close() error { return j.f.Close() }

// Last is the last line, for [Machine.RememberJournal].
func (j *Journal) Last() Mark {
	j.mu.Lock()
	defer j.mu.Unlock()
	return Mark{j.seq, j.prev}
}

func (j *Journal) write(entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	if err := j.append(entries...); err != nil {
		return fmt.Errorf("journal %s: %w; nothing is done that cannot be recorded", j.path, err)
	}
	return nil
}

func (j *Journal) append(entries ...Entry) error {
	end, err := j.put(entries)
	if err != nil {
		return err
	}
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if j.synced >= end {
		return nil // a sync that began after our lines were written
	}
	j.mu.Lock()
	upTo := j.written
	j.mu.Unlock()
	if err := j.f.Sync(); err != nil {
		j.mu.Lock()
		j.broken = err
		j.mu.Unlock()
		return err
	}
	j.synced = upTo
	return nil
}

// put writes lines with one call and returns the file's size then.
func (j *Journal) put(entries []Entry) (int64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken != nil {
		return 0, j.broken
	}
	var all []byte
	prev, seq := j.prev, j.seq
	for _, e := range entries {
		seq++
		e.Prev, e.Seq, e.Time = prev, seq, j.run.Now().UTC()
		e.Run, e.Approval, e.Revision, e.Actor = j.run.ID, j.run.Approval, j.run.Revision, j.run.Actor
		e.Mode, e.Registry = j.run.Identity.Mode, j.run.Identity.Registry
		line, err := formatLine(e)
		if err != nil {
			return 0, err
		}
		prev = lineHash(line)
		all = append(append(all, line...), '\n')
	}
	n, err := j.f.Write(all)
	j.written += int64(n)
	if err != nil {
		j.broken = err
		return 0, err
	}
	j.prev, j.seq = prev, seq
	return j.written, nil
}

func formatLine(e Entry) ([]byte, error) {
	e.Sum = ""
	b, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	b = b[:len(b)-len(sumMember+`"}`)]
	if len(b) > maxLine-1024 {
		return nil, fmt.Errorf("%s is too large to record", e.Key)
	}
	return append(b, sumMember+lineHash(b)+`"}`...), nil
}

func lineHash(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:])
}
