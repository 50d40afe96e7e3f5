package embedded

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/embedded/storage"
	"github.com/ocisync/ocisync/pkg/regular"
)

const (
	timesFile = "times.jsonl" // below ownDir

	// maxTimesLine and maxTimesBytes bound what is read back; longer lines,
	// and what lies beyond, count as lost.
	maxTimesLine  = 16 << 10
	maxTimesBytes = 1 << 30

	flushEvery = 5 * time.Second
	// slackLines is how many lines the file may have beyond twice what it
	// says before it is written anew.
	slackLines = 10_000
)

// timesLine is one line of the file: what is known of a tag or digest since,
// or that it is gone. The last line of a reference counts.
type timesLine struct {
	Repository string        `json:"r"`
	Reference  string        `json:"t"`
	Digest     digest.Digest `json:"d,omitempty"`
	Pushed     int64         `json:"p,omitempty"` // nanoseconds since 1970
	Clock      int64         `json:"c,omitempty"` // what the clock said, if not Pushed
	Linked     int64         `json:"k,omitempty"` // of the tag's link
	Pulled     int64         `json:"l,omitempty"`
	By         string        `json:"by,omitempty"`
	Gone       bool          `json:"x,omitempty"`
}

// loadTimes reads the file and touches nothing. A line that is none, such as
// the last one after a crash, is left out: its tag has the time of its link.
func loadTimes(t *times) error {
	f, err := regular.Open(filepath.Join(t.data, ownDir, timesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the times of pushes and pulls: %w; %s", err, remedy(err, t.data))
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.Size() > maxTimesBytes {
		err = fmt.Errorf("%s is larger than %d MiB; move it away: tags then have the times of their links", f.Name(), maxTimesBytes>>20)
	}
	if err != nil {
		return err
	}
	lines := bufio.NewReaderSize(f, maxTimesLine)
	for {
		b, err := lines.ReadSlice('\n')
		long := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = lines.ReadSlice('\n')
		}
		if !long && err == nil {
			t.take(b)
		}
		if err != nil {
			break
		}
	}
	clear(t.dirty)
	for repository, r := range t.repos {
		for _, s := range r {
			if s.pushed.After(t.newest[repository]) {
				t.newest[repository] = s.pushed
			}
		}
	}
	return nil
}

func (t *times) take(b []byte) {
	t.lines++
	var l timesLine
	if json.Unmarshal(b, &l) != nil || l.Repository == "" || l.Reference == "" {
		return
	}
	if l.Gone {
		t.drop(l.Repository, l.Reference)
		return
	}
	s := t.stamp(l.Repository, l.Reference)
	*s = stamp{digest: l.Digest, by: l.By, pushed: moment(l.Pushed), clock: moment(l.Clock), linked: moment(l.Linked), pulled: moment(l.Pulled)}
	if s.clock.IsZero() {
		s.clock = s.pushed
	}
}

// moment is a time of the file; zero where it says none.
func moment(nanoseconds int64) time.Time {
	if nanoseconds == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanoseconds)
}

// nanoseconds is what the file says of a time.
func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func (t *times) line(k stampKey) timesLine {
	l := timesLine{Repository: k.repository, Reference: k.reference}
	s := t.repos[k.repository][k.reference]
	if s == nil {
		l.Gone = true
		return l
	}
	l.Digest, l.By = s.digest, s.by
	l.Pushed, l.Linked, l.Pulled = nanoseconds(s.pushed), nanoseconds(s.linked), nanoseconds(s.pulled)
	if !s.clock.Equal(s.pushed) {
		l.Clock = nanoseconds(s.clock)
	}
	return l
}

// openTimes reads what is known and writes behind what comes, until close.
// The caller holds the directory's lock.
func openTimes(ctx context.Context, t *times, s *storage.Storage) error {
	if err := loadTimes(t); err != nil {
		return err
	}
	t.stop, t.done = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(t.done)
		tick := time.NewTicker(flushEvery)
		defer tick.Stop()
		for {
			select {
			case <-t.stop:
				return
			case <-tick.C:
				if err := t.flush(ctx, s); err != nil {
					t.logger.Warn("writing the times of pushes and pulls failed", "error", err)
				}
			}
		}
	}()
	return nil
}

// close writes what is left.
func (t *times) close(ctx context.Context, s *storage.Storage) error {
	close(t.stop)
	<-t.done
	if err := t.flush(ctx, s); err != nil {
		return fmt.Errorf("the times of the last pushes and pulls were not kept: %w", err)
	}
	return nil
}

// flush appends what is new, or writes the file anew where it has grown long.
// On error what is new is kept for the next time.
func (t *times) flush(ctx context.Context, s *storage.Storage) error {
	t.mu.Lock()
	compact := t.lines > 2*t.count+slackLines
	var keys []stampKey
	if compact {
		for repository, r := range t.repos {
			for reference := range r {
				keys = append(keys, stampKey{repository, reference})
			}
		}
	} else {
		for k := range t.dirty {
			keys = append(keys, k)
		}
	}
	taken := t.dirty
	t.dirty = map[stampKey]bool{}
	t.mu.Unlock()
	if len(keys) == 0 && !compact {
		return nil
	}
	slices.SortFunc(keys, func(a, b stampKey) int {
		return strings.Compare(a.repository+"\x00"+a.reference, b.repository+"\x00"+b.reference)
	})
	if compact {
		keys = t.existing(ctx, s, keys)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	t.mu.Lock()
	var err error
	for _, k := range keys {
		err = errors.Join(err, enc.Encode(t.line(k)))
	}
	t.mu.Unlock()
	if err == nil {
		err = t.write(out.Bytes(), compact)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err != nil:
		for k := range taken {
			t.dirty[k] = true
		}
		return fmt.Errorf("%w; %s", err, remedy(err, t.data))
	case compact:
		t.lines = len(keys)
	default:
		t.lines += len(keys)
	}
	return nil
}

func (t *times) write(b []byte, anew bool) error {
	dir := filepath.Join(t.data, ownDir)
	if anew {
		return regular.Replace(dir, timesFile, b)
	}
	f, err := made(filepath.Join(dir, timesFile), os.O_RDWR|os.O_APPEND)
	if err != nil {
		return err
	}
	if torn(f) { // by a crash: what follows must not be lost with it
		b = append([]byte{'\n'}, b...)
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// torn reports whether a file's last line has no end.
func torn(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return false
	}
	last := make([]byte, 1)
	_, err = f.ReadAt(last, info.Size()-1)
	return err == nil && last[0] != '\n'
}

// existing leaves out, and forgets, tags and digests that are no more.
func (t *times) existing(ctx context.Context, s *storage.Storage, keys []stampKey) []stampKey {
	return slices.DeleteFunc(keys, func(k stampKey) bool {
		var there bool
		var err error
		if d, bad := digest.Parse(k.reference); bad == nil {
			_, there, err = s.Manifest(ctx, k.repository, d)
		} else {
			var d digest.Digest
			d, err = s.Tag(ctx, k.repository, k.reference)
			there = d != ""
		}
		if there || err != nil {
			return false
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.drop(k.repository, k.reference)
		delete(t.dirty, k)
		return true
	})
}
