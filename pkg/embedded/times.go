package embedded

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/retention"
)

// times keeps when tags were pushed and pulled. Everything is in memory and
// written behind, so that it costs a push or pull nothing: what a crash takes
// of the last seconds is a push time, in whose place the link of the tag says
// when it was written, or a pull. It never fails a request.
type times struct {
	data   string
	logger *slog.Logger
	mu     sync.Mutex
	repos  map[string]map[string]*stamp // by repository, then tag or digest
	newest map[string]time.Time         // by repository, the latest push
	dirty  map[stampKey]bool            // not written yet
	count  int                          // stamps in memory
	lines  int                          // lines of the file
	stop   chan struct{}
	done   chan struct{}
}

type stampKey struct{ repository, reference string }

// stamp is what is known of one tag or, for pulls alone, of one digest.
type stamp struct {
	digest digest.Digest // what was pushed as the tag
	pushed time.Time     // later than that of any push to the repository before it
	clock  time.Time     // of the push, as the clock had it; zero where only the link tells
	linked time.Time     // of the tag's link then; zero where that is not known
	pulled time.Time
	by     string
}

func newTimes(data string, logger *slog.Logger) *times {
	return &times{data: data, logger: logger, repos: map[string]map[string]*stamp{}, newest: map[string]time.Time{}, dirty: map[stampKey]bool{}}
}

// pushed notes that a tag was made to name a digest, with a link of a time. Of the
// pushes to one repository a later one has a later time, also by a clock that was
// set back: when it is right again, what was pushed meanwhile is not taken for old.
// What the clock said is kept beside it, for when it was the other way round; see
// [settle].
func (t *times) pushed(repository, tag string, d digest.Digest, by string, at, linked time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.stamp(repository, tag)
	s.digest, s.pushed, s.clock, s.linked, s.by = d, at, at, linked, by
	if last := t.newest[repository]; at.Before(last) {
		s.pushed = last.Add(1)
	}
	t.newest[repository] = s.pushed
	t.dirty[stampKey{repository, tag}] = true
}

// pulled notes that a manifest was pulled, by a tag or a digest.
func (t *times) pulled(repository, reference string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.stamp(repository, reference); at.After(s.pulled) {
		s.pulled = at
		t.dirty[stampKey{repository, reference}] = true
	}
}

// removed notes that a tag or digest is no more.
func (t *times) removed(repository, reference string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(repository, reference)
}

// removedDigest notes that a manifest is no more, and with it all its tags.
func (t *times) removedDigest(repository string, d digest.Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for reference, s := range t.repos[repository] {
		if s.digest == d || reference == d.String() {
			t.drop(repository, reference)
		}
	}
}

// of returns what is known of a tag that names a digest now and whose link was
// written at a time. Where that is not what was pushed here, the link's time is
// the push time and nobody knows who pushed. The link was rewritten if it is newer
// than that of the push that is known: by a push that a crash took from here, or
// by another program, or it is a copy.
func (t *times) of(repository, tag string, d digest.Digest, linked time.Time) (out stamp, rewritten bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	out = stamp{digest: d, pushed: linked, linked: linked}
	if s := t.repos[repository][tag]; s != nil {
		out.pulled = s.pulled
		if s.digest == d && !s.pushed.IsZero() {
			out.pushed, out.clock, out.by = s.pushed, s.clock, s.by
			then := s.linked
			if then.IsZero() {
				then = s.pushed
			}
			rewritten = linked.After(then)
		}
	}
	if s := t.repos[repository][d.String()]; s != nil && s.pulled.After(out.pulled) {
		out.pulled = s.pulled
	}
	return out, rewritten
}

// settle replaces push times of one repository that lie too far in the future to be
// true: a clock was ahead for a while, and the pushes after it followed. The time is
// then what the clock said, but not before that of an earlier push. What the clock
// itself had in the future stays there, and counts as now.
func settle(list []*stamp, now time.Time) {
	known := slices.DeleteFunc(slices.Clone(list), func(s *stamp) bool { return s.clock.IsZero() })
	slices.SortFunc(known, func(a, b *stamp) int { return a.pushed.Compare(b.pushed) })
	var last time.Time
	for _, s := range known {
		if s.pushed.After(now.Add(retention.Ahead)) && !s.clock.After(now) {
			s.pushed = s.clock
			if !s.pushed.After(last) {
				s.pushed = last.Add(1)
			}
		}
		if !s.pushed.After(now) {
			last = s.pushed
		}
	}
}

func (t *times) stamp(repository, reference string) *stamp {
	r := t.repos[repository]
	if r == nil {
		r = map[string]*stamp{}
		t.repos[repository] = r
	}
	s := r[reference]
	if s == nil {
		s = &stamp{}
		r[strings.Clone(reference)] = s // not the whole request's path
		t.count++
	}
	return s
}

func (t *times) drop(repository, reference string) {
	r := t.repos[repository]
	if r[reference] == nil {
		return
	}
	delete(r, reference)
	t.count--
	if len(r) == 0 {
		delete(t.repos, repository)
	}
	t.dirty[stampKey{repository, reference}] = true
}
