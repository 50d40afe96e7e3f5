package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
)

// referrersPage bounds the descriptors in one answer, in bytes: with what is
// around them, what clients take for a manifest.
const referrersPage = MaxManifest - 4<<10

// AddReferrer notes a manifest among those of its subject. Each has a file of
// its own, so that signers at once lose nothing, and no list grows too large.
func (s *Storage) AddReferrer(ctx context.Context, repo string, subject digest.Digest, d imagespec.Descriptor) error {
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return s.put(ctx, referrer(repo, subject, d.Digest), b)
}

func referrer(repo string, subject, d digest.Digest) string {
	return path.Join(under(under(referrersDir(repo), subject), d), "descriptor")
}

// Subjects lists what referrers were noted for.
func (s *Storage) Subjects(ctx context.Context, repo string) ([]digest.Digest, error) {
	return s.digests(ctx, referrersDir(repo))
}

// Noted lists what was noted for a subject, whether it is still there or not.
func (s *Storage) Noted(ctx context.Context, repo string, subject digest.Digest) ([]digest.Digest, error) {
	return s.digests(ctx, under(referrersDir(repo), subject))
}

// RemoveReferrer forgets a manifest among those of its subject; all of them
// where d is "".
func (s *Storage) RemoveReferrer(ctx context.Context, repo string, subject, d digest.Digest) error {
	dir := under(referrersDir(repo), subject)
	if d != "" {
		dir = under(dir, d)
	}
	return s.remove(ctx, dir)
}

// fallback returns what clients without the referrers API listed for a subject.
func (s *Storage) fallback(ctx context.Context, repo string, subject digest.Digest) (map[digest.Digest]imagespec.Descriptor, error) {
	out := map[digest.Digest]imagespec.Descriptor{}
	current, err := s.Tag(ctx, repo, fallbackName(subject))
	if current == "" || err != nil {
		if errors.Is(err, ErrDamaged) {
			err = nil
		}
		return out, err
	}
	m, _, err := s.ReadManifest(ctx, current)
	for _, d := range m.Manifests {
		if d.Digest.Validate() == nil {
			out[d.Digest] = d.Descriptor
		}
	}
	return out, err
}

// Page is a part of the list of a subject's referrers, by digest.
type Page struct {
	List []imagespec.Descriptor
	More bool
}

// Referrers lists the manifests there are with a subject that come after last,
// of one type where one is named.
func (s *Storage) Referrers(ctx context.Context, repo string, subject digest.Digest, artifactType string, last digest.Digest) (Page, error) {
	out := Page{List: []imagespec.Descriptor{}}
	listed, err := s.fallback(ctx, repo, subject)
	if err != nil {
		return out, err
	}
	own, err := s.Noted(ctx, repo, subject)
	if err != nil {
		return out, err
	}
	all := append(own, slices.Collect(maps.Keys(listed))...)
	slices.Sort(all)
	room := referrersPage
	for _, d := range slices.Compact(all) {
		if d <= last {
			continue
		}
		// deleting a manifest leaves what noted it
		_, exists, err := s.Manifest(ctx, repo, d)
		if err != nil {
			return out, err
		}
		if !exists {
			continue
		}
		entry, ok := listed[d]
		b, noted, err := s.get(ctx, referrer(repo, subject, d))
		switch {
		case err != nil:
			return out, err
		case noted:
			if err := json.Unmarshal(b, &entry); err != nil {
				return out, fmt.Errorf("referrer %s of %s: %w", d, subject, err)
			}
		case !ok:
			continue
		default:
			if b, err = json.Marshal(entry); err != nil {
				return out, err
			}
		}
		if artifactType != "" && entry.ArtifactType != artifactType {
			continue
		}
		if room -= len(b) + 1; room < 0 && len(out.List) > 0 {
			out.More = true
			return out, nil
		}
		out.List = append(out.List, entry)
	}
	return out, nil
}
