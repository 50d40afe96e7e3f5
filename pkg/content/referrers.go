package content

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

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
	return j.To.keepReferrers(ctx, j.item.Target, digest, list)
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

// keepReferrers has the index of what refers to a manifest name all of a list, where the
// registry leaves that to its clients. Who adds to it elsewhere at the same time may be
// lost, as the specification says of every client.
func (r *Registry) keepReferrers(ctx context.Context, repository string, digest v1.Hash, list []v1.Descriptor) error {
	of := Reference{Repository: repository, Digest: digest}
	if r.refers.Load() == referrersUnknown {
		if _, _, err := r.listed(ctx, of); err != nil {
			return err
		}
	}
	if r.refers.Load() == listsReferrers {
		return nil
	}
	tag := Reference{Repository: repository, Tag: fallback(digest)}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	switch m, err := r.manifest(ctx, tag); {
	case errors.Is(err, ErrAbsent):
	case err != nil:
		return err
	default:
		if err := json.Unmarshal(m.bytes, &index); err != nil {
			return r.fail(tag, "reading", fmt.Errorf("%w: %w", ErrManifest, err))
		}
	}
	was := len(index.Manifests)
	for _, d := range list {
		if !slices.ContainsFunc(index.Manifests, func(x v1.Descriptor) bool { return x.Digest == d.Digest }) {
			index.Manifests = append(index.Manifests, d)
		}
	}
	if len(index.Manifests) == was {
		return nil
	}
	b, err := json.Marshal(index)
	if err != nil {
		return err
	}
	sum, err := hashOf("sha256", b)
	if err != nil {
		return err
	}
	return r.fail(tag, "storing", r.put(ctx, tag, manifest{types.OCIImageIndex, sum, b}))
}
