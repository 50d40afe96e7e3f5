package storage

import (
	"context"
	"path"

	"github.com/opencontainers/go-digest"
)

func deletedMark(repo string, d digest.Digest) string {
	return path.Join(under(deletedDir(repo), d), "mark")
}

// MarkDeleted notes that a manifest, or a tag of it, is being deleted, if the
// repository has it. Collection then knows that it was there, and that what is
// left of it and nothing needs may go. Call it before the deletion: one that is
// cut short then leaves nothing behind that seems never to have been wanted
// less.
func (s *Storage) MarkDeleted(ctx context.Context, repo string, d digest.Digest) error {
	if _, ok, err := s.Manifest(ctx, repo, d); err != nil || !ok {
		return err
	}
	return s.put(ctx, deletedMark(repo, d), []byte("\n"))
}

// ForgetDeleted takes the note back: a manifest is pushed again.
func (s *Storage) ForgetDeleted(ctx context.Context, repo string, d digest.Digest) error {
	if _, ok, err := s.stat(ctx, deletedMark(repo, d)); err != nil || !ok {
		return err
	}
	return s.remove(ctx, under(deletedDir(repo), d))
}

// Deleted lists what was noted to be deleted, whether it is still there or not.
func (s *Storage) Deleted(ctx context.Context, repo string) ([]digest.Digest, error) {
	return s.digests(ctx, deletedDir(repo))
}
