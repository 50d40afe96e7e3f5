package storage

import (
	"context"

	"github.com/opencontainers/go-digest"
)

// Loose lists the manifests of a repository that none of the tags reaches: they
// reach what they name, and what has been reached reaches what it lists, what is
// about it and what it is about. A tag that stands for the referrers of a manifest
// is reached by that. What is young is reached too: a tag may be on its way to it,
// and to an index whose manifests are old. None is loose where one that is reached
// cannot be read: what that names cannot be told.
func (s *Storage) Loose(ctx context.Context, repo string, tags map[string]digest.Digest, young func(Link) bool) ([]digest.Digest, error) {
	all, err := s.Manifests(ctx, repo)
	if err != nil {
		return nil, err
	}
	next := map[digest.Digest][]digest.Digest{}
	unread := map[digest.Digest]bool{}
	there := map[digest.Digest]bool{}
	var todo []digest.Digest
	for _, l := range all {
		m, _, err := s.ReadManifest(ctx, l.Target)
		if err != nil {
			return nil, err
		}
		there[l.Target], unread[l.Target] = true, !m.Known()
		if young(l) {
			todo = append(todo, l.Target)
		}
		next[l.Target] = append(next[l.Target], m.Children()...)
		if subject := m.About(); subject != "" {
			next[subject] = append(next[subject], l.Target)
			next[l.Target] = append(next[l.Target], subject)
		}
	}
	for tag, d := range tags {
		if subject, _ := FallbackSubject(tag); subject != d && there[subject] {
			next[subject] = append(next[subject], d)
		} else {
			todo = append(todo, d)
		}
	}
	reached := map[digest.Digest]bool{}
	for len(todo) > 0 {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if !reached[d] {
			if unread[d] {
				return nil, nil
			}
			reached[d] = true
			todo = append(todo, next[d]...)
		}
	}
	var out []digest.Digest
	for _, l := range all {
		if !reached[l.Target] {
			out = append(out, l.Name)
		}
	}
	return out, nil
}
