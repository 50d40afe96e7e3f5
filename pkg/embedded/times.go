package embedded

import (
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
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
	digest         digest.Digest // what was pushed as the tag
	pushed, pulled time.Time
	by             string
}

func newTimes(data string, logger *slog.Logger) *times {
	return &times{data: data, logger: logger, repos: map[string]map[string]*stamp{}, newest: map[string]time.Time{}, dirty: map[stampKey]bool{}}
}

// pushed notes that a tag was made to name a digest. Of the pushes to one
// repository a later one has a later time, also by a clock that was set back:
// when it is right again, what was pushed meanwhile is not taken for old.
func (t *times) pushed(repository, tag string, d digest.Digest, by string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last := t.newest[repository]; at.Before(last) {
		at = last.Add(1)
	}
	s := t.stamp(repository, tag)
	s.digest, s.pushed, s.by = d, at, by
	t.newest[repository] = at
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
// the push time and nobody knows who pushed.
func (t *times) of(repository, tag string, d digest.Digest, linked time.Time) stamp {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := stamp{digest: d, pushed: linked}
	if s := t.repos[repository][tag]; s != nil {
		out.pulled = s.pulled
		if s.digest == d && !s.pushed.IsZero() {
			out.pushed, out.by = s.pushed, s.by
		}
	}
	if s := t.repos[repository][d.String()]; s != nil && s.pulled.After(out.pulled) {
		out.pulled = s.pulled
	}
	return out
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
