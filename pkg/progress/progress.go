// Package progress tells people and machines how far copies of content are, while they
// are under way: a bar on a terminal, lines elsewhere, events of JSON, and metrics in a
// file. What is counted is counted by [content.Progress], which knows nothing of this.
package progress

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/ocisync/ocisync/pkg/content"
	"github.com/ocisync/ocisync/schema"
	"github.com/ocisync/ocisync/schema/load"
)

// Style is how it is told.
type Style string

// The styles.
const (
	Bar   Style = "bar"
	Lines Style = "lines"
	JSON  Style = "json"
	None  Style = "none"
)

// How often it is told.
const (
	redraw      = 200 * time.Millisecond
	everyLine   = 30 * time.Second
	everyTotals = 5 * time.Second
	everyFile   = 15 * time.Second
	// window is what the bytes in a second are told of.
	window = 10 * time.Second
)

// Options say what is watched, and how it is told.
type Options struct {
	What    string // the command
	Did     string // what it does with bytes, as sent
	Style   Style
	To      *Screen
	Metrics string // the file that metrics are written to; "" for none
}

// Watch tells how far one command is. It is safe for use by several goroutines.
type Watch struct {
	// Content is what the copies count.
	Content *content.Progress

	o       Options
	metrics *metrics // nil: none
	began   time.Time
	stop    chan struct{}
	work    sync.WaitGroup

	mu    sync.Mutex // held while something is told
	tags  int        // that are known from the beginning; 0: not known
	told  bool       // that it began
	from  time.Time  // when it did
	more  int        // jobs whose tags are not known yet
	speed speed
}

// Begin begins to watch. The end of it is [Watch.End]. An error tells that metrics cannot
// be written where they should.
func Begin(o Options) (*Watch, error) {
	w := &Watch{Content: &content.Progress{}, o: o, began: time.Now(), stop: make(chan struct{})}
	w.speed.note(w.began, 0)
	if o.Style == JSON {
		w.Content.Blob = w.blob
	}
	if o.Metrics != "" {
		w.metrics = newMetrics(o.Metrics, w)
		if err := w.metrics.write(); err != nil {
			return nil, fmt.Errorf("--metrics-file: %w", err)
		}
		w.every(everyFile, func() { _ = w.metrics.write() }) // the last tells
	}
	return w, nil
}

// Copying says that copying begins, of so many tags; 0 where that is not known.
func (w *Watch) Copying(tags int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.told {
		return
	}
	w.tags, w.told, w.from = tags, true, time.Now()
	switch w.o.Style {
	case Bar:
		w.every(redraw, w.draw)
	case Lines:
		w.every(time.Second, func() { w.standing() })
		w.every(everyLine, w.line)
	case JSON:
		event(w.o.To, begun{"begin", stamp(), w.o.What, tags})
		w.every(time.Second, func() { w.standing() })
		w.every(everyTotals, func() { event(w.o.To, totals{"totals", stamp(), w.sums()}) })
	case None:
	}
}

// More says how many jobs follow whose tags are not known yet.
func (w *Watch) More(jobs int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.more = jobs
}

// every calls a function now and then, until it ends.
func (w *Watch) every(period time.Duration, f func()) {
	w.work.Go(func() {
		tick := time.NewTicker(period)
		defer tick.Stop()
		for {
			select {
			case <-w.stop:
				return
			case <-tick.C:
				w.mu.Lock()
				f()
				w.mu.Unlock()
			}
		}
	})
}

// End tells how it ended, and takes the bar away. An error tells that metrics could not
// be written.
func (w *Watch) End(ok bool) error {
	if w.o.Style == JSON {
		w.Copying(0) // who waits for an end waits for a beginning too
	}
	close(w.stop)
	w.work.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch w.o.Style {
	case Bar:
		if w.told {
			w.o.To.Show()
		}
	case JSON:
		event(w.o.To, ended{"end", stamp(), ok, w.sums()})
	case Lines, None:
	}
	if w.metrics == nil {
		return nil
	}
	w.metrics.ended(time.Now(), ok)
	if err := w.metrics.write(); err != nil {
		return fmt.Errorf("--metrics-file: %w", err)
	}
	return nil
}

// standing is how far it is now. It takes note of that, for the bytes in a second.
func (w *Watch) standing() content.Standing {
	now := w.Content.Standing()
	if w.tags > 0 && w.tags >= now.Tags {
		now.Tags, now.Listed = w.tags, true
	}
	now.Listed = now.Listed && w.more == 0
	w.speed.note(time.Now(), now.Bytes)
	return now
}

// line tells in a line how far it is.
func (w *Watch) line() {
	now := w.standing()
	_, _ = fmt.Fprintf(w.o.To, "%s, %s %s, %s\n", ofTags(now), size(now.Bytes), w.o.Did, perSecond(w.speed.of()))
}

// ofTags tells how many tags are through, of how many. Some may not be known yet.
func ofTags(s content.Standing) string {
	if s.Tags == 0 {
		return "no tags yet"
	}
	more := ""
	if !s.Listed {
		more = "+"
	}
	text := fmt.Sprintf("%d of %d%s tags", s.Through(), s.Tags, more)
	if s.Tags == 1 && more == "" {
		text = fmt.Sprintf("%d of 1 tag", s.Through())
	}
	if s.Failed > 0 {
		text += fmt.Sprintf(", %d failed", s.Failed)
	}
	return text
}

func size(n int64) string { return schema.Size(n).Human() }

func perSecond(n int64) string { return size(n) + "/s" }

// speed is how many bytes came in a second of late.
type speed struct {
	at    []time.Time
	bytes []int64
}

// note takes note of a count, twice a second at most.
func (s *speed) note(at time.Time, bytes int64) {
	if n := len(s.at); n > 1 && at.Sub(s.at[n-2]) < time.Second/2 {
		s.at[n-1], s.bytes[n-1] = at, bytes
		return
	}
	s.at, s.bytes = append(s.at, at), append(s.bytes, bytes)
	for len(s.at) > 2 && at.Sub(s.at[1]) >= window {
		s.at, s.bytes = s.at[1:], s.bytes[1:]
	}
}

func (s *speed) of() int64 {
	last := len(s.at) - 1
	took := s.at[last].Sub(s.at[0])
	if took <= 0 {
		return 0
	}
	return int64(float64(s.bytes[last]-s.bytes[0]) / took.Seconds())
}

// left is how long it will take; not ok where that cannot be told: not all is listed,
// or nothing is through yet by which to tell.
func (w *Watch) left(s content.Standing, now time.Time) (time.Duration, bool) {
	const early = 2 * time.Second // too soon to tell
	took := now.Sub(w.from)
	if !s.Listed || s.Through() >= s.Tags || took < early {
		return 0, false
	}
	var long time.Duration
	if speed := w.speed.of(); speed > 0 {
		long = time.Duration(float64(s.Left) / float64(speed) * float64(time.Second))
	} else if s.Left > 0 {
		return 0, false
	}
	if s.Begun >= s.Tags {
		return long, s.Left > 0
	}
	if s.Through() == 0 {
		return 0, false
	}
	return max(long, time.Duration(float64(took)*float64(s.Tags-s.Through())/float64(s.Through()))), true
}

// Tag is a tag that is through.
type Tag struct {
	Source  string          `json:"source"`
	Target  string          `json:"target"`
	Outcome content.Outcome `json:"outcome"`
	Digest  string          `json:"digest,omitempty"`
	Error   string          `json:"error,omitempty"`
	Mirror  string          `json:"mirror,omitempty"`
}

// Tag tells of a tag that is through, as an event.
func (w *Watch) Tag(t Tag) {
	if w.o.Style != JSON {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	event(w.o.To, tagged{"tag", stamp(), t})
}

// The events, one a line. docs/content.md has their fields.
type (
	begun struct {
		Event string `json:"event"`
		Time  string `json:"time"`
		What  string `json:"what"`
		Tags  int    `json:"tags,omitempty"`
	}
	tagged struct {
		Event string `json:"event"`
		Time  string `json:"time"`
		Tag
	}
	arrived struct {
		Event      string `json:"event"`
		Time       string `json:"time"`
		Repository string `json:"repository"`
		Digest     string `json:"digest"`
		Bytes      int64  `json:"bytes"`
		How        string `json:"how"`
	}
	totals struct {
		Event string `json:"event"`
		Time  string `json:"time"`
		sums
	}
	ended struct {
		Event string `json:"event"`
		Time  string `json:"time"`
		OK    bool   `json:"ok"`
		sums
	}
	sums struct {
		Tags      int     `json:"tags"`
		Listed    bool    `json:"listed"`
		Copied    int     `json:"copied"`
		Same      int     `json:"same"`
		Failed    int     `json:"failed"`
		Blobs     int     `json:"blobs"`
		Mounted   int     `json:"mounted"`
		Bytes     int64   `json:"bytes"`
		PerSecond int64   `json:"bytes_per_second"`
		Seconds   float64 `json:"seconds"`
	}
)

func stamp() string { return time.Now().UTC().Format(time.RFC3339Nano) }

// How a blob got where it belongs.
const (
	sent    = "sent"
	mounted = "mounted"
)

func (w *Watch) blob(a content.Arrived) {
	how := sent
	if a.Mounted {
		how = mounted
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	event(w.o.To, arrived{"blob", stamp(), a.Repository, a.Digest.String(), a.Size, how})
}

// sums is how far it is, for machines.
func (w *Watch) sums() sums {
	s := w.standing()
	return sums{s.Tags, s.Listed, s.Copied, s.Same, s.Failed, s.Blobs, s.Mounted, s.Bytes, w.speed.of(), time.Since(w.began).Seconds()}
}

// event prints one, on a line. Where that fails there is nowhere left to say so.
func event[T any](to io.Writer, e T) {
	if text, err := json.Marshal(e); err == nil {
		_, _ = fmt.Fprintln(to, load.SafeJSON(string(text)))
	}
}
