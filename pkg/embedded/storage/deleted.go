package storage

import (
	"context"
	"errors"
	"path"
	"strings"
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

const kept = "kept"

func noteFile(repo string, d digest.Digest) string {
	return path.Join(under(deletedDir(repo), d), "mark")
}

// writeNote gives the time in the note itself, since copies of files have
// another, and never an earlier one than this process gave before.
func (s *Storage) writeNote(ctx context.Context, repo string, d digest.Digest, word string) error {
	at := s.begun.Add(time.Since(s.begun)).UTC().Format(time.RFC3339Nano)
	return s.put(ctx, noteFile(repo, d), []byte(word+" "+at+"\n"))
}

// NoteDeletion notes that a manifest, or a tag of it, is being deleted, if the
// repository has it, and calls remove, which does it. Collection then knows that
// it was there, and that what is left of it and nothing needs may go. The note
// comes first: a deletion that is cut short then leaves nothing behind that
// seems never to have been wanted less. Only where a full disk does not hold the
// note, it is tried again in the space that the deletion gave back; without any,
// what is left stays.
func (s *Storage) NoteDeletion(ctx context.Context, repo string, d digest.Digest, remove func() error) error {
	_, ok, err := s.Manifest(ctx, repo, d)
	if err != nil {
		return err
	}
	if !ok {
		return remove()
	}
	err = s.writeNote(ctx, repo, d, "deleted")
	if err != nil && !full(err) {
		return err
	}
	noted := err == nil
	if err := remove(); err != nil || noted {
		return err
	}
	if err := s.writeNote(ctx, repo, d, "deleted"); !full(err) {
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
// that it is there. Where nothing was deleted it does nothing.
func (s *Storage) Keep(ctx context.Context, repo string, d digest.Digest) error {
	noted, err := s.digests(ctx, deletedDir(repo))
	if err != nil || len(noted) == 0 {
		return err
	}
	return s.writeNote(ctx, repo, d, kept)
}

// ForgetNote removes what was noted of a manifest.
func (s *Storage) ForgetNote(ctx context.Context, repo string, d digest.Digest) error {
	return s.remove(ctx, under(deletedDir(repo), d))
}

// Notes lists what was noted, of manifests that are there and of others.
func (s *Storage) Notes(ctx context.Context, repo string) ([]Note, error) {
	names, err := s.digests(ctx, deletedDir(repo))
	if err != nil {
		return nil, err
	}
	var out []Note
	for _, d := range names {
		text, ok, err := s.get(ctx, noteFile(repo, d))
		if err != nil {
			return nil, err
		}
		if !ok { // it was not to be written
			continue
		}
		word, at, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
		n := Note{Digest: d, Kept: word == kept}
		if t, err := time.Parse(time.RFC3339Nano, at); err == nil {
			n.At = t
		}
		out = append(out, n)
	}
	return out, nil
}

// noteGone notes that collection removes a manifest, and does not touch a note
// that somebody deleted it: what was pushed since then stays.
func (s *Storage) noteGone(ctx context.Context, repo string, d digest.Digest, remove func() error) error {
	text, ok, err := s.get(ctx, noteFile(repo, d))
	if err != nil {
		return err
	}
	if ok && !strings.HasPrefix(string(text), kept) {
		return remove()
	}
	return s.NoteDeletion(ctx, repo, d, remove)
}
