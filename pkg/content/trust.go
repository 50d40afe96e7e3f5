package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocisync/ocisync/pkg/content/keyless"
	"github.com/ocisync/ocisync/pkg/content/sign"
)

// maxSignatures bounds how many signatures of a digest are looked at.
const maxSignatures = 100

// Trust is who may have signed: one of its keys or of its identities is enough.
type Trust struct {
	Keys       sign.Keys
	Identities *keyless.Verifier // nil for none
}

// Verify fails with [sign.ErrUntrusted] unless one of the trusted signed a manifest: by a
// bundle or an older signature that refers to it, or one under cosign's tag. Where
// identities are trusted, the error has why the last signature is none of theirs.
func Verify(ctx context.Context, s Source, repository string, digest v1.Hash, trust Trust) error {
	of := Reference{Repository: repository, Digest: digest}
	list, err := s.referrers(ctx, repository, digest, nil)
	if err != nil {
		return err
	}
	refs := []Reference{{Repository: repository, Tag: fallback(digest) + ".sig"}}
	for _, d := range list[:min(len(list), maxSignatures)] {
		refs = append(refs, Reference{Repository: repository, Digest: d.Digest})
	}
	untrusted := sign.ErrUntrusted
	for _, ref := range refs {
		err := signs(ctx, s, ref, digest, trust)
		if !errors.Is(err, sign.ErrUntrusted) {
			return err
		}
		if err != sign.ErrUntrusted { //nolint:errorlint // what was wrong with one tells more than that there is none
			untrusted = err
		}
	}
	return s.fail(of, "checking", untrusted)
}

// by fails with [sign.ErrUntrusted] unless a signature that is in a layer is of a digest
// and by one of the trusted.
func (t Trust) by(l v1.Descriptor, text []byte, digest v1.Hash) error {
	check := t.Identities.Bundle
	ok := l.MediaType == sign.BundleType && t.Keys.Bundle(text, digest.Algorithm, digest.Hex)
	if l.MediaType == sign.SimpleType {
		ok = t.Keys.Simple(text, l.Annotations[sign.SimpleAnnotation], digest.Algorithm, digest.Hex)
		check = func(text []byte, algorithm, digest string) error {
			return t.Identities.Simple(text, l.Annotations, algorithm, digest)
		}
	}
	switch {
	case ok:
		return nil
	case t.Identities == nil:
		return sign.ErrUntrusted
	}
	err := check(text, digest.Algorithm, digest.Hex)
	if err == nil {
		return nil
	}
	const most = 300 // it quotes what others wrote
	why := []rune(err.Error())
	return fmt.Errorf("%w: of the signature %s, %q", sign.ErrUntrusted, l.Digest, string(why[:min(len(why), most)]))
}

// signs fails with [sign.ErrUntrusted] unless a manifest holds a signature of a digest by
// one of the trusted. One that is not there, or is something else, holds none.
func signs(ctx context.Context, s Source, ref Reference, digest v1.Hash, trust Trust) error {
	m, err := s.manifest(ctx, ref)
	if errors.Is(err, ErrAbsent) || errors.Is(err, ErrManifest) {
		return sign.ErrUntrusted
	}
	if err != nil {
		return err
	}
	var layers []v1.Descriptor
	if p, err := m.parts(); err == nil { // else it is no signature
		layers = p.Layers[:min(len(p.Layers), maxSignatures)]
	}
	untrusted := sign.ErrUntrusted
	for _, l := range layers {
		if l.Size > sign.MaxSize || l.MediaType != sign.BundleType && l.MediaType != sign.SimpleType {
			continue
		}
		var text []byte
		if err := Read(ctx, s, ref.Repository, l, func(r io.Reader) (err error) {
			text, err = io.ReadAll(r)
			return err
		}); err != nil {
			return err
		}
		if untrusted = trust.by(l, text, digest); untrusted == nil {
			return nil
		}
	}
	return untrusted
}

// Signed reports whether a bundle refers to a manifest, whoever signed it.
func Signed(ctx context.Context, s Source, repository string, digest v1.Hash) (bool, error) {
	list, err := s.referrers(ctx, repository, digest, nil)
	return slices.ContainsFunc(list, func(d v1.Descriptor) bool { return d.ArtifactType == sign.BundleType }), err
}

// Sign signs a manifest: a bundle is stored that refers to it.
func Sign(ctx context.Context, to Target, repository string, of v1.Descriptor, key sign.Key, now time.Time) error {
	text, err := key.Bundle(of.Digest.Algorithm, of.Digest.Hex)
	if err != nil {
		return fmt.Errorf("signing: %w", err)
	}
	sum, err := hashOf("sha256", text)
	if err != nil {
		return err
	}
	layer := Layer{
		Descriptor: v1.Descriptor{MediaType: types.MediaType(sign.BundleType), Digest: sum, Size: int64(len(text))},
		Open:       func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil },
	}
	subject := v1.Descriptor{MediaType: of.MediaType, Digest: of.Digest, Size: of.Size}
	_, err = Push(ctx, to, Reference{Repository: repository}, Artifact{
		Type: sign.BundleType, Layers: []Layer{layer}, Subject: &subject,
		Annotations: map[string]string{
			sign.ContentAnnotation: sign.Content, sign.PredicateAnnotation: sign.Predicate,
			"org.opencontainers.image.created": now.UTC().Format(time.RFC3339),
		},
	}, nil)
	return err
}
