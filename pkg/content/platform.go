package content

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// attested is the annotation by which BuildKit says of which manifest of the same index
// an attestation is.
const attested = "vnd.docker.reference.digest"

// Platforms is a source that has of each index only some platforms, written
// os/arch[/variant]. An index that has fewer by that is another one, with another digest:
// what refers to the whole one does not refer to it. What is no index is as it was.
func Platforms(s Source, platforms []string) (Source, error) {
	p := &reduced{Source: s, whole: map[v1.Hash]v1.Hash{}}
	for _, text := range platforms {
		want, err := ParsePlatform(text)
		if err != nil {
			return nil, err
		}
		p.want = append(p.want, want)
	}
	return p, nil
}

// ParsePlatform reads os/arch[/variant].
func ParsePlatform(s string) (v1.Platform, error) {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return v1.Platform{}, fmt.Errorf("%q is no platform; write OS/ARCH or OS/ARCH/VARIANT, such as linux/arm64", s)
	}
	p := v1.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}

// is reports whether a manifest is of a platform; where no variant is wanted, any is.
func is(d v1.Descriptor, want v1.Platform) bool {
	return d.Platform != nil && d.Platform.OS == want.OS && d.Platform.Architecture == want.Architecture &&
		(want.Variant == "" || d.Platform.Variant == want.Variant)
}

// Platform finds the manifest of a platform in an index.
func Platform(ctx context.Context, s Source, ref Reference, want v1.Platform) (Reference, error) {
	m, err := s.manifest(ctx, ref)
	if err != nil {
		return Reference{}, err
	}
	p, err := m.parts()
	if err == nil {
		i := slices.IndexFunc(p.Manifests, func(d v1.Descriptor) bool { return is(d, want) })
		if i >= 0 {
			return Reference{Repository: ref.Repository, Digest: p.Manifests[i].Digest}, nil
		}
		err = p.lacks(want)
	}
	return Reference{}, s.fail(ref, "reading", err)
}

// lacks says that an index has no manifest of a platform.
func (p parts) lacks(want v1.Platform) error {
	if p.Manifests == nil {
		return errors.New("it is no index, and has no platforms to choose from")
	}
	var have []string
	for _, d := range p.Manifests {
		if d.Platform != nil && d.Platform.OS != "unknown" {
			have = append(have, d.Platform.String())
		}
	}
	return fmt.Errorf("%w for %s, but for %s", ErrAbsent, want, strings.Join(have, ", "))
}

// reduced has some platforms alone.
type reduced struct {
	Source
	want []v1.Platform

	mu    sync.Mutex
	whole map[v1.Hash]v1.Hash // of the indexes that were made less here
}

func (s *reduced) head(ctx context.Context, ref Reference) (v1.Hash, bool, error) {
	if _, ok, err := s.Source.head(ctx, ref); err != nil || !ok {
		return v1.Hash{}, ok, err
	}
	m, err := s.manifest(ctx, ref)
	return m.digest, err == nil, err
}

func (s *reduced) describe(ctx context.Context, ref Reference) (v1.Descriptor, error) {
	m, err := s.manifest(ctx, ref)
	return m.descriptor(), err
}

// manifest is the whole one where it is asked for by its digest: that is what its digest
// says.
func (s *reduced) manifest(ctx context.Context, ref Reference) (manifest, error) {
	s.mu.Lock()
	whole, less := s.whole[ref.Digest]
	s.mu.Unlock()
	switch {
	case ref.Tag == "" && less:
		ref = Reference{Repository: ref.Repository, Digest: whole}
	case ref.Tag == "":
		return s.Source.manifest(ctx, ref)
	}
	m, _, err := s.less(ctx, ref)
	return m, err
}

// less is an index with the wanted platforms alone, and the digest of the whole one.
func (s *reduced) less(ctx context.Context, ref Reference) (m manifest, whole v1.Hash, err error) {
	all, err := s.Source.manifest(ctx, ref)
	if err != nil {
		return manifest{}, v1.Hash{}, err
	}
	if m, err = all.only(s.want); err != nil {
		return manifest{}, v1.Hash{}, s.fail(ref, "reading", err)
	}
	s.learn(m.digest, all.digest)
	return m, all.digest, nil
}

// learn takes note of which index one was made less of, be it by another that has the
// same platforms.
func (s *reduced) learn(less, whole v1.Hash) {
	if less == whole {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.whole[less] = whole
}

// only is an index with some platforms alone, and their attestations.
func (m manifest) only(want []v1.Platform) (manifest, error) {
	p, err := m.parts()
	if err != nil || p.Manifests == nil {
		return m, err
	}
	kept := map[v1.Hash]bool{}
	for _, w := range want {
		found := false
		for _, d := range p.Manifests {
			if is(d, w) {
				kept[d.Digest], found = true, true
			}
		}
		if !found {
			return m, p.lacks(w)
		}
	}
	var all map[string]json.RawMessage
	var raw, rest []json.RawMessage
	if err := json.Unmarshal(m.bytes, &all); err != nil {
		return m, err
	}
	if err := json.Unmarshal(all["manifests"], &raw); err != nil {
		return m, err
	}
	for i, d := range p.Manifests {
		of, err := v1.NewHash(d.Annotations[attested])
		if kept[d.Digest] || err == nil && kept[of] {
			rest = append(rest, raw[i])
		}
	}
	if len(rest) == len(raw) {
		return m, nil
	}
	if all["manifests"], err = json.Marshal(rest); err != nil {
		return m, err
	}
	b, err := json.Marshal(all)
	if err != nil {
		return m, err
	}
	digest, err := hashOf(m.digest.Algorithm, b)
	return manifest{m.mediaType, digest, b}, err
}
