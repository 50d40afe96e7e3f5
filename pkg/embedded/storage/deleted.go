package storage

import (
	"context"
	"errors"
	"maps"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"
)

// Note is the last word about a manifest of a repository in which something was
// deleted: that it, or a tag of it, was, or that somebody was told since that
// it is there.
type Note struct {
	Digest digest.Digest
	At     time.Time // of the process that wrote it; the zero time if not known
	Kept   bool
}

const (
	kept    = "kept"
	deleted = "deleted"
)

const (
	// lease is how far ahead of the last note the time is that is written down.
	lease = 10 * time.Second
	// maxUnwritten bounds what is remembered of notes that a full disk did not take.
	maxUnwritten = 10_000
	// maxNoted bounds the repositories of which it is remembered that they have none.
	maxNoted = 100_000
	// farAhead is a time that no clock ever had.
	farAhead = 50 * 365 * 24 * time.Hour
	// latestFile holds a time that no note is later than; in [clockObject]'s place.
	latestFile = "/ocisync/latest"
)

func noteFile(repo string, d digest.Digest) string {
	return path.Join(under(deletedDir(repo), d), "mark")
}

// words is what this process knows of notes.
type words struct {
	mu    sync.Mutex
	begun time.Time
	ahead time.Duration // of the clock, where that was set back
	until time.Time     // no note is later, as is written down; zero until that was read
	// unwritten are manifests that were said to be there, while the disk was
	// full, and not deleted since.
	unwritten map[place]time.Time
	// noted says of repositories whether they have notes; it may say so of one that
	// has none any more.
	noted map[string]bool
}

type place struct {
	repository string
	manifest   digest.Digest
}

func newWords() *words {
	return &words{begun: time.Now(), unwritten: map[place]time.Time{}, noted: map[string]bool{}}
}

// now is by a clock that goes on evenly while this process lives.
func (w *words) now() time.Time { return w.begun.Add(time.Since(w.begun) + w.ahead).UTC() }

// Now is the time by which notes are written: later than that of any note there
// is, whatever the clock does.
func (s *Storage) Now(ctx context.Context) (time.Time, error) {
	w := s.words
	w.mu.Lock()
	defer w.mu.Unlock()
	err := s.readLatest(ctx)
	return w.now(), err
}

// readLatest has notes begin after the time that was written down before. The
// caller holds the lock.
func (s *Storage) readLatest(ctx context.Context) error {
	w := s.words
	if !w.until.IsZero() {
		return nil
	}
	text, _, err := s.get(ctx, latestFile)
	if err != nil {
		return err
	}
	if t, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(string(text))); err == nil && t.After(w.now()) && t.Before(w.now().Add(farAhead)) {
		w.ahead = t.Sub(w.now()) + 1
	}
	w.until = w.now().Add(-1)
	return nil
}

// moment returns the time for a note: later than that of any note before it,
// also of other processes.
func (s *Storage) moment(ctx context.Context) (time.Time, error) {
	w := s.words
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := s.readLatest(ctx); err != nil {
		return time.Time{}, err
	}
	at := w.now()
	if at.After(w.until) {
		next := at.Add(lease)
		if err := s.put(ctx, latestFile, []byte(next.Format(time.RFC3339Nano)+"\n")); err != nil {
			return time.Time{}, err
		}
		w.until = next
	}
	return at, nil
}

// writeNote gives the time in the note itself, since copies of files have
// another.
func (s *Storage) writeNote(ctx context.Context, repo string, d digest.Digest, word string) error {
	at, err := s.moment(ctx)
	if err != nil {
		return err
	}
	return s.putNote(ctx, repo, d, word, at)
}

// The caller does not hold the lock.
func (s *Storage) putNote(ctx context.Context, repo string, d digest.Digest, word string, at time.Time) error {
	s.words.mu.Lock()
	s.words.noted[repo] = true
	s.words.mu.Unlock()
	return s.put(ctx, noteFile(repo, d), []byte(word+" "+at.UTC().Format(time.RFC3339Nano)+"\n"))
}

// NoteDeletion notes that a manifest, or a tag of it, is being deleted, if the
// repository has it, and calls remove, which does it. Collection then knows that
// it was there, and that what is left of it and nothing needs may go. The note
// comes first: a deletion that is cut short then leaves nothing behind that
// seems never to have been wanted less. Only where a full disk does not hold the
// note, it is tried again in the space that the deletion gave back; without any,
// what is left stays.
func (s *Storage) NoteDeletion(ctx context.Context, repo string, d digest.Digest, remove func() error) error {
	return s.noting(ctx, repo, d, remove, func() error { return s.writeNote(ctx, repo, d, deleted) })
}

func (s *Storage) noting(ctx context.Context, repo string, d digest.Digest, remove, note func() error) error {
	s.words.mu.Lock()
	delete(s.words.unwritten, place{repo, d})
	s.words.mu.Unlock()
	_, ok, err := s.Manifest(ctx, repo, d)
	if err != nil {
		return err
	}
	if !ok {
		return remove()
	}
	err = note()
	if err != nil && !full(err) {
		return err
	}
	noted := err == nil
	if err := remove(); err != nil || noted {
		return err
	}
	if err := note(); !full(err) {
		return err
	}
	return nil
}

// full reports whether an error says that there is no space.
func full(err error) bool {
	if other := (storagedriver.Error{}); errors.As(err, &other) && other.Detail != nil {
		err = other.Detail
	}
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// Keep takes back that a manifest was deleted, and that it is to go with
// something that was: it is pushed again, or somebody who might push it is told
// that it is there. Where nothing was deleted it does nothing. What a full disk
// does not hold is remembered for as long as this process lives.
func (s *Storage) Keep(ctx context.Context, repo string, d digest.Digest) error {
	noted, err := s.isNoted(ctx, repo)
	if err != nil || !noted {
		return err
	}
	err = s.writeNote(ctx, repo, d, kept)
	switch {
	case err == nil:
		return s.writeKept(ctx, repo)
	case !full(err):
		return err
	}
	if _, ok, e := s.stat(ctx, noteFile(repo, d)); e == nil && !ok { // what is left of the attempt
		err = errors.Join(err, s.remove(ctx, under(deletedDir(repo), d)))
	}
	w := s.words
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.unwritten) >= maxUnwritten {
		return err
	}
	w.unwritten[place{repo, d}] = w.now()
	return nil
}

// isNoted reports whether a repository has notes. To look costs the more the more
// it has.
func (s *Storage) isNoted(ctx context.Context, repo string) (bool, error) {
	w := s.words
	w.mu.Lock()
	has, known := w.noted[repo]
	w.mu.Unlock()
	if known {
		return has, nil
	}
	list, err := s.digests(ctx, deletedDir(repo))
	if err != nil {
		return false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if has, known := w.noted[repo]; known { // somebody noted something meanwhile
		return has, nil
	}
	if len(w.noted) < maxNoted {
		w.noted[repo] = len(list) > 0
	}
	return len(list) > 0, nil
}

// moved has what is known of a repository's notes follow it to another name.
func (w *words) moved(from, to string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for at, t := range w.unwritten {
		if at.repository == from {
			delete(w.unwritten, at)
			w.unwritten[place{to, at.manifest}] = t
		}
	}
	delete(w.noted, from)
	w.noted[to] = true
}

// writeKept writes down what the disk did not hold when it was full.
func (s *Storage) writeKept(ctx context.Context, repo string) error {
	w := s.words
	w.mu.Lock()
	all := maps.Clone(w.unwritten)
	w.mu.Unlock()
	for at, t := range all {
		if at.repository != repo {
			continue
		}
		if err := s.putNote(ctx, repo, at.manifest, kept, t); err != nil && !full(err) {
			return err
		} else if err == nil {
			w.mu.Lock()
			delete(w.unwritten, at)
			w.mu.Unlock()
		}
	}
	return nil
}

// ForgetNote removes what was noted of a manifest. Nobody asks for anything of
// the repository meanwhile.
func (s *Storage) ForgetNote(ctx context.Context, repo string, d digest.Digest) error {
	s.words.mu.Lock()
	delete(s.words.noted, repo)
	s.words.mu.Unlock()
	return s.remove(ctx, under(deletedDir(repo), d))
}

// Notes lists what was noted, of manifests that are there and of others. What a
// note does not tell was kept.
func (s *Storage) Notes(ctx context.Context, repo string) ([]Note, error) {
	names, err := s.digests(ctx, deletedDir(repo))
	if err != nil {
		return nil, err
	}
	w := s.words
	w.mu.Lock()
	unwritten := maps.Clone(w.unwritten)
	w.mu.Unlock()
	var out []Note
	for _, d := range names {
		text, _, err := s.get(ctx, noteFile(repo, d))
		if err != nil {
			return nil, err
		}
		word, at, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
		n := Note{Digest: d, Kept: word != deleted}
		if t, err := time.Parse(time.RFC3339Nano, at); err == nil {
			n.At = t
		}
		if t, ok := unwritten[place{repo, d}]; ok {
			n = Note{d, t, true}
			delete(unwritten, place{repo, d})
		}
		out = append(out, n)
	}
	for at, t := range unwritten {
		if at.repository == repo {
			out = append(out, Note{at.manifest, t, true})
		}
	}
	return out, nil
}

// noteGone notes that a manifest goes because of a deletion, and touches neither
// a note that somebody deleted it itself, nor the time of the deletion: what was
// pushed since then stays.
func (s *Storage) noteGone(ctx context.Context, repo string, d digest.Digest, because time.Time, remove func() error) error {
	text, _, err := s.get(ctx, noteFile(repo, d))
	if err != nil {
		return err
	}
	if strings.HasPrefix(string(text), deleted) {
		return remove()
	}
	return s.noting(ctx, repo, d, remove, func() error { return s.putNote(ctx, repo, d, deleted, because) })
}
