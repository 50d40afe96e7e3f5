package embedded

import (
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/embedded/storage"
)

// mayMove refuses to make an immutable tag name another digest, or none.
func (p *passage) mayMove(ctx context.Context, tag string, to digest.Digest) error {
	rule := p.policy.immutable(below(p.namespace, p.repository), tag)
	if rule == "" {
		return nil
	}
	is, err := p.storage.Tag(ctx, p.repository, tag)
	if errors.Is(err, storage.ErrDamaged) { // to push what it was mends it
		var was []digest.Digest
		was, err = p.storage.TagHistory(ctx, p.repository, tag)
		if is = "damaged"; len(was) == 0 && to != "" || slices.Contains(was, to) {
			is = to
		}
	}
	switch {
	case err != nil:
		return err
	case is == "" || is == to:
		return nil
	case to == "":
		return fixedError{tag, rule, "deleted"}
	}
	return fixedError{tag, rule, "made to name another digest"}
}

// mayRemove refuses to remove what an immutable tag of the repository names,
// or what the content of one consists of.
func (p *passage) mayRemove(ctx context.Context, d digest.Digest) error {
	if len(p.policy.fixed) == 0 {
		return nil
	}
	tags, err := p.storage.Tags(ctx, p.repository)
	if err != nil {
		return err
	}
	seen := map[digest.Digest]bool{}
	for _, tag := range tags {
		rule := p.policy.immutable(below(p.namespace, p.repository), tag)
		if rule == "" {
			continue
		}
		is, err := p.storage.Tag(ctx, p.repository, tag)
		names := []digest.Digest{is}
		if errors.Is(err, storage.ErrDamaged) { // one of these
			names, err = p.storage.TagHistory(ctx, p.repository, tag)
		}
		if err != nil {
			return err
		}
		for _, is := range names {
			part, err := consistsOf(ctx, p.storage, is, d, seen)
			if err != nil {
				return err
			}
			if part {
				return fixedError{tag, rule, "deleted, nor what it consists of"}
			}
		}
	}
	return nil
}

// consistsOf reports whether a digest is the manifest, or one that it names or
// whose children do. What was seen is not looked at again.
func consistsOf(ctx context.Context, s *storage.Storage, manifest, d digest.Digest, seen map[digest.Digest]bool) (bool, error) {
	if manifest == d || manifest == "" || seen[manifest] {
		return manifest == d, nil
	}
	seen[manifest] = true
	m, _, err := s.ReadManifest(ctx, manifest)
	if err != nil {
		return false, err
	}
	if slices.Contains(m.Contents(), d) {
		return true, nil
	}
	for _, c := range m.Children() {
		if part, err := consistsOf(ctx, s, c, d, seen); part || err != nil {
			return part, err
		}
	}
	return false, nil
}
