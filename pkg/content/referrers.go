package content

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// What refers to a manifest a registry lists by itself, or leaves to its clients, who
// keep an index of it under a tag (OCI distribution specification, "Listing Referrers"
// and "Referrers Tag Schema"). Which of both is asked once of a registry.
const (
	referrersUnknown int32 = iota
	listsReferrers
	leavesReferrers
)

// fallback is the tag under which clients keep what refers to a manifest.
func fallback(digest v1.Hash) string { return digest.Algorithm + "-" + digest.Hex }

// keptFor is the manifest of which clients keep under a tag what refers to it; ok is
// false of any other tag, such as those of cosign, which are images as all others.
func keptFor(tag string) (digest v1.Hash, ok bool) {
	digest, err := v1.NewHash(strings.Replace(tag, "-", ":", 1))
	return digest, err == nil && fallback(digest) == tag
}

// referring copies what refers to a manifest, and what refers to that.
func (j *job) referring(ctx context.Context, digest v1.Hash, depth int) error {
	if !j.Referrers || depth > deepest {
		return nil
	}
	list, err := j.From.referrers(ctx, j.item.Source, digest, j.tags)
	if err != nil || len(list) == 0 {
		return err
	}
	for _, d := range list {
		if err := j.child(ctx, d, 0); err != nil {
			return err
		}
		if err := j.referring(ctx, d.Digest, depth+1); err != nil {
			return err
		}
	}
	_, _, err = j.To.keepReferrers(ctx, j.item.Target, digest, list, func(ctx context.Context, has bool) (*manifest, error) {
		tag := Reference{Repository: j.item.Source, Tag: fallback(digest)}
		if has || j.tags != nil && !j.tags[tag.Tag] {
			return nil, nil
		}
		m, err := j.From.manifest(ctx, tag)
		if errors.Is(err, ErrAbsent) {
			return nil, nil
		}
		return &m, err
	})
	return err
}

// gather copies an index under the tag by which a target's clients keep what refers to a
// manifest: what the target has there already is not lost. ok is false of any other
// tag, and of a target that lists referrers itself.
func (j *job) gather(ctx context.Context, target Reference, m manifest) (is v1.Hash, what Outcome, ok bool, err error) {
	subject, ok := keptFor(target.Tag)
	if !ok || !m.mediaType.IsIndex() {
		return v1.Hash{}, Failed, false, nil
	}
	if ok, err = j.To.leaves(ctx, Reference{Repository: target.Repository, Digest: subject}); err != nil || !ok {
		return v1.Hash{}, Failed, false, err
	}
	p, err := j.contents(ctx, target.Repository, m, 0)
	if err != nil {
		return v1.Hash{}, Failed, true, err
	}
	is, wrote, err := j.To.keepReferrers(ctx, target.Repository, subject, p.Manifests, func(context.Context, bool) (*manifest, error) { return &m, nil })
	switch {
	case err != nil:
		return v1.Hash{}, Failed, true, err
	case wrote || j.absent(target.Tag): // what refers to its image came first, and made it
		return is, Copied, true, nil
	}
	return is, Same, true, nil
}

// around copies what refers to a manifest and to its parts. m is the manifest where
// somebody has read it, else nil.
func (j *job) around(ctx context.Context, d v1.Descriptor, m *manifest) error {
	if !j.Referrers {
		return nil
	}
	if err := j.referring(ctx, d.Digest, 0); err != nil {
		return err
	}
	parts, err := partsOf(ctx, j.From, j.item.Source, d, m, j.tags, 0)
	for _, p := range parts {
		if err := j.referring(ctx, p, 0); err != nil {
			return err
		}
	}
	return err
}

// partsOf lists the manifests that an index names, and those that these name, where
// something may refer to them. d has no media type where nobody knows it.
func partsOf(ctx context.Context, s reader, repository string, d v1.Descriptor, m *manifest, tags map[string]bool, depth int) (list []v1.Hash, err error) {
	if d.MediaType != "" && !d.MediaType.IsIndex() || depth > deepest || !s.referable(repository, d.Digest, tags) {
		return nil, nil
	}
	of := Reference{Repository: repository, Digest: d.Digest}
	if m == nil {
		read, err := s.manifest(ctx, of)
		if err != nil {
			return nil, err
		}
		m = &read
	}
	p, err := m.parts()
	if err != nil {
		return nil, s.fail(of, "reading", err)
	}
	for _, part := range p.Manifests {
		below, err := partsOf(ctx, s, repository, part, nil, tags, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(append(list, part.Digest), below...)
	}
	return list, nil
}

// referable implements [Source]: what a registry leaves to its clients, these have under
// tags.
func (r *Registry) referable(_ string, _ v1.Hash, tags map[string]bool) bool {
	return r.refers.Load() != leavesReferrers || tags == nil || anyAttached(tags)
}

func anyAttached(tags map[string]bool) bool {
	for t := range tags {
		if attached.MatchString(t) {
			return true
		}
	}
	return false
}

// referrers lists what refers to a manifest. tags are those of the repository, nil where
// nobody listed them.
func (r *Registry) referrers(ctx context.Context, repository string, digest v1.Hash, tags map[string]bool) (list []v1.Descriptor, err error) {
	of := Reference{Repository: repository, Digest: digest}
	if r.refers.Load() == referrersUnknown { // others wait for what the first one learns
		r.probing.Lock()
		defer r.probing.Unlock()
	}
	if r.refers.Load() != leavesReferrers {
		list, ok, err := r.listed(ctx, of)
		if err != nil || ok {
			return list, err
		}
	}
	tag := Reference{Repository: repository, Tag: fallback(digest)}
	if tags != nil && !tags[tag.Tag] {
		return nil, nil
	}
	m, err := r.manifest(ctx, tag)
	if errors.Is(err, ErrAbsent) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p, err := m.parts()
	return p.Manifests, r.fail(tag, "reading", err)
}

// listed asks a registry that lists referrers itself; one that does not is not ok.
func (r *Registry) listed(ctx context.Context, of Reference) (list []v1.Descriptor, ok bool, err error) {
	ok, err = r.list(ctx, of.Repository+"/referrers/"+of.Digest.String(), r.scope(of.Repository), func(body []byte) error {
		var page v1.IndexManifest
		if err := json.Unmarshal(body, &page); err != nil {
			return fmt.Errorf("its list of referrers is not JSON: %w", err)
		}
		list = append(list, page.Manifests...)
		return nil
	})
	if err != nil {
		return nil, false, r.fail(of, "listing what refers to", err)
	}
	how := listsReferrers
	if !ok {
		how = leavesReferrers
	}
	r.refers.Store(how)
	return list, ok, nil
}

// sourceIndex reads the index that the source's clients keep; nil where there is none, or
// where it is not worth a request, which it may be told by that the target has all.
type sourceIndex func(ctx context.Context, has bool) (*manifest, error)

// leaves implements [Target].
func (r *Registry) leaves(ctx context.Context, of Reference) (bool, error) {
	if r.refers.Load() == referrersUnknown {
		r.probing.Lock()
		defer r.probing.Unlock()
	}
	if r.refers.Load() == referrersUnknown {
		if _, _, err := r.listed(ctx, of); err != nil {
			return false, err
		}
	}
	return r.refers.Load() == leavesReferrers, nil
}

// keepReferrers has the index of what refers to a manifest name all of a list, where the
// registry leaves that to its clients. The source's index is stored as it is where it says
// all that is to be said, so that its digest stays; another is made where the registry's
// has more. One at a time does so here; who adds to it elsewhere at the same time may
// be lost, as the specification says of every client.
func (r *Registry) keepReferrers(ctx context.Context, repository string, digest v1.Hash, list []v1.Descriptor, source sourceIndex) (is v1.Hash, wrote bool, err error) {
	if ok, err := r.leaves(ctx, Reference{Repository: repository, Digest: digest}); err != nil || !ok {
		return v1.Hash{}, false, err
	}
	if _, _, err := r.keeping.claim(ctx, repository, digest); err != nil {
		return v1.Hash{}, false, err
	}
	defer r.keeping.done(repository, digest, false) // for the next, who adds to it
	tag := Reference{Repository: repository, Tag: fallback(digest)}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	switch m, err := r.manifest(ctx, tag); {
	case errors.Is(err, ErrAbsent):
	case err != nil:
		return v1.Hash{}, false, err
	default:
		if err := json.Unmarshal(m.bytes, &index); err != nil {
			return v1.Hash{}, false, r.fail(tag, "reading", fmt.Errorf("%w: %w", ErrManifest, err))
		}
		is = m.digest
	}
	has := is != (v1.Hash{}) && hasAll(index.Manifests, list)
	var m *manifest
	if source != nil {
		if m, err = source(ctx, has); err != nil {
			return v1.Hash{}, false, err
		}
	}
	if m != nil {
		p, err := m.parts()
		if err == nil && m.mediaType.IsIndex() && hasAll(p.Manifests, index.Manifests) && hasAll(p.Manifests, list) && hasAll(list, p.Manifests) {
			if is == m.digest {
				return is, false, nil
			}
			return m.digest, true, r.fail(tag, "storing", r.put(ctx, tag, *m))
		}
	}
	if has {
		return is, false, nil
	}
	for _, d := range list {
		if !hasAll(index.Manifests, []v1.Descriptor{d}) {
			index.Manifests = append(index.Manifests, d)
		}
	}
	b, err := json.Marshal(index)
	if err != nil {
		return v1.Hash{}, false, err
	}
	sum, err := hashOf("sha256", b)
	if err != nil {
		return v1.Hash{}, false, err
	}
	return sum, true, r.fail(tag, "storing", r.put(ctx, tag, manifest{types.OCIImageIndex, sum, b}))
}

// hasAll reports whether a list has all of another.
func hasAll(list, all []v1.Descriptor) bool {
	return !slices.ContainsFunc(all, func(d v1.Descriptor) bool {
		return !slices.ContainsFunc(list, func(x v1.Descriptor) bool { return x.Digest == d.Digest })
	})
}
