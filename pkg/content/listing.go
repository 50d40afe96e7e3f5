package content

import (
	"context"
	"maps"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocisync/ocisync/pkg/providers"
)

// Look is the registry with what it tells now of repositories, for one pass of a copy:
// what it told is not asked for again until this copy wrote it, and the rest is, as
// without. A registry that tells nothing is itself.
//
// What is told is as of now, so whoever looks later looks anew, and whoever wants to be
// sure ([Compare]) asks the registry itself.
func (r *Registry) Look(ctx context.Context, repositories []string) Target {
	if r.holdings == nil || len(repositories) == 0 {
		return r
	}
	told, err := r.holdings(ctx, repositories)
	if err != nil { // then each is asked for, and what is wrong is said there
		return r
	}
	l := &looked{Target: r, repositories: map[string]*holding{}}
	for name, is := range told {
		if h, ok := hold(is); ok {
			l.repositories[name] = h
		}
	}
	return l
}

// looked is a registry with what it told of repositories.
type looked struct {
	Target       // the registry
	mu           sync.Mutex
	repositories map[string]*holding
}

// holding is what a repository has, as far as nobody wrote to it since.
type holding struct {
	tags map[string]v1.Hash
	// alone are the digests of tags that nothing refers to, nor to their parts.
	alone map[v1.Hash]bool
	// more says that there may be other tags.
	more bool
}

// hold reads what a registry told; one that names what is no digest is not believed.
func hold(is providers.Listed) (*holding, bool) {
	h := &holding{tags: map[string]v1.Hash{}, alone: map[v1.Hash]bool{}, more: len(is.Referred) > 0}
	for tag, text := range is.Tags {
		digest, err := v1.NewHash(text)
		if err != nil || tag == "" {
			return nil, false
		}
		h.tags[tag] = digest
		if !is.Referred[text] {
			h.alone[digest] = true
		}
	}
	return h, true
}

// Tags implements [Source].
func (l *looked) Tags(ctx context.Context, repository string) (tags []string, ok bool, err error) {
	l.mu.Lock()
	if h := l.repositories[repository]; h != nil && !h.more {
		tags, ok = slices.Sorted(maps.Keys(h.tags)), true
	}
	l.mu.Unlock()
	if ok {
		return tags, true, nil
	}
	return l.Target.Tags(ctx, repository)
}

func (l *looked) head(ctx context.Context, ref Reference) (digest v1.Hash, ok bool, err error) {
	l.mu.Lock()
	if h := l.repositories[ref.Repository]; h != nil && ref.Tag != "" {
		digest, ok = h.tags[ref.Tag]
	}
	l.mu.Unlock()
	if ok {
		return digest, true, nil
	}
	return l.Target.head(ctx, ref)
}

func (l *looked) describe(ctx context.Context, ref Reference) (v1.Descriptor, error) {
	l.mu.Lock()
	h := l.repositories[ref.Repository]
	if h != nil && ref.Tag != "" {
		if digest, ok := h.tags[ref.Tag]; ok {
			l.mu.Unlock()
			return v1.Descriptor{Digest: digest}, nil
		}
	}
	l.mu.Unlock()
	return l.Target.describe(ctx, ref)
}

func (l *looked) referable(repository string, digest v1.Hash, tags map[string]bool) bool {
	l.mu.Lock()
	h := l.repositories[repository]
	alone := h != nil && h.alone[digest]
	l.mu.Unlock()
	return !alone && l.Target.referable(repository, digest, tags)
}

func (l *looked) referrers(ctx context.Context, repository string, digest v1.Hash, tags map[string]bool) ([]v1.Descriptor, error) {
	l.mu.Lock()
	h := l.repositories[repository]
	alone := h != nil && h.alone[digest]
	l.mu.Unlock()
	if alone {
		return nil, nil
	}
	return l.Target.referrers(ctx, repository, digest, tags)
}

func (l *looked) put(ctx context.Context, ref Reference, m manifest) error {
	defer l.wrote(ref.Repository, ref.Tag) // or may have, where it fails
	return l.Target.put(ctx, ref, m)
}

func (l *looked) keepReferrers(ctx context.Context, repository string, digest v1.Hash, list []v1.Descriptor, source sourceIndex) (v1.Hash, bool, error) {
	defer l.wrote(repository, fallback(digest))
	return l.Target.keepReferrers(ctx, repository, digest, list, source)
}

func (l *looked) untag(ctx context.Context, ref Reference) error {
	defer func() { // with a digest, every tag of it may go
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.repositories, ref.Repository)
	}()
	return l.Target.untag(ctx, ref)
}

// wrote forgets what may not hold any more: what the tag is, "" for none, that there are
// no others, and that nothing is referred to.
func (l *looked) wrote(repository, tag string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.repositories[repository]; h != nil {
		h.more, h.alone = true, nil
		delete(h.tags, tag)
	}
}

var _ Target = (*looked)(nil)
