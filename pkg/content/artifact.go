package content

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Annotations of the layers of an artifact (OCI image specification, "Pre-Defined
// Annotation Keys"; the others are those of ORAS, so that each tool reads the other's).
const (
	TitleAnnotation  = "org.opencontainers.image.title"
	UnpackAnnotation = "io.deis.oras.content.unpack" // "true": the layer is the tar of a directory
	DigestAnnotation = "io.deis.oras.content.digest" // of that tar
)

// empty is what a manifest names that has nothing to name (OCI image specification,
// "Guidance for an Empty Descriptor").
func empty() v1.Descriptor {
	const text = `{}`
	return v1.Descriptor{
		MediaType: "application/vnd.oci.empty.v1+json", Size: int64(len(text)), Data: []byte(text),
		Digest: v1.Hash{Algorithm: "sha256", Hex: "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},
	}
}

// Layer is a part of an artifact. Its descriptor says what Open has to give.
type Layer struct {
	v1.Descriptor
	Open func() (io.ReadCloser, error)
}

// Artifact is a set of files with a type.
type Artifact struct {
	Type        string
	Layers      []Layer
	Annotations map[string]string
	Subject     *v1.Descriptor // what it refers to
}

// manifest is the artifact's (OCI image specification, "Guidelines for Artifact Usage").
func (a Artifact) manifest() (manifest, error) {
	m := struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     types.MediaType   `json:"mediaType"`
		ArtifactType  string            `json:"artifactType"`
		Config        v1.Descriptor     `json:"config"`
		Layers        []v1.Descriptor   `json:"layers"`
		Subject       *v1.Descriptor    `json:"subject,omitempty"`
		Annotations   map[string]string `json:"annotations,omitempty"`
	}{2, types.OCIManifestSchema1, a.Type, empty(), nil, a.Subject, a.Annotations}
	for _, l := range a.Layers {
		m.Layers = append(m.Layers, l.Descriptor)
	}
	if len(m.Layers) == 0 {
		m.Layers = []v1.Descriptor{empty()}
	}
	b, err := json.Marshal(m)
	if err != nil {
		return manifest{}, err
	}
	if len(b) > maxManifest {
		return manifest{}, fmt.Errorf("%w: it would have more than %d bytes; push fewer files at once, or a directory of them", ErrManifest, maxManifest)
	}
	digest, err := hashOf("sha256", b)
	return manifest{types.OCIManifestSchema1, digest, b}, err
}

// Digest is that of its manifest.
func (a Artifact) Digest() (v1.Hash, error) {
	m, err := a.manifest()
	return m.digest, err
}

// What ORAS calls content of which nobody says more.
const (
	UnknownArtifact = "application/vnd.unknown.artifact.v1"
	UnknownFile     = "application/vnd.oci.image.layer.v1.tar"
)

// Head tells by which digest a tag is known; ok is false where it is not there.
func Head(ctx context.Context, s Source, ref Reference) (digest v1.Hash, ok bool, err error) {
	return s.head(ctx, ref)
}

// Push stores an artifact under a tag, or by its digest alone where the reference says
// none, and tells what it is. Progress counts it meanwhile; nil is nobody's.
func Push(ctx context.Context, to Target, ref Reference, a Artifact, p *Progress) (v1.Descriptor, error) {
	d, err := store(ctx, to, ref, a, p)
	if err == nil {
		err = to.Commit(ctx)
	}
	return d, err
}

// store has an artifact at a target, which nobody ends yet.
func store(ctx context.Context, to Target, ref Reference, a Artifact, p *Progress) (v1.Descriptor, error) {
	m, err := a.manifest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	blobs := map[v1.Hash]Layer{empty().Digest: {empty(), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(empty().Data)), nil }}}
	for _, l := range a.Layers {
		blobs[l.Digest] = l
	}
	item := Item{Source: ref.Repository, Target: ref.Repository, One: ref.Tag}
	if ref.Tag == "" {
		item.One = m.digest.String()
	}
	c := &Copier{From: made{m, blobs}, To: to, Progress: p, Report: func(e Event) { err = errors.Join(err, e.Err) }}
	c.Copy(ctx, []Item{item})
	if err = errors.Join(err, ctx.Err()); err != nil {
		return v1.Descriptor{}, err
	}
	d := v1.Descriptor{MediaType: m.mediaType, Digest: m.digest, Size: int64(len(m.bytes)), ArtifactType: a.Type, Annotations: maps.Clone(a.Annotations)}
	if a.Subject != nil {
		_, _, err = to.keepReferrers(ctx, ref.Repository, a.Subject.Digest, []v1.Descriptor{d}, nil)
	}
	return d, err
}

// made is a source of one manifest, and what it names.
type made struct {
	m     manifest
	blobs map[v1.Hash]Layer
}

func (made) String() string { return "what is pushed" }

func (made) Repositories(context.Context) ([]string, error) { return nil, nil }

func (made) Tags(context.Context, string) ([]string, bool, error) { return nil, false, nil }

func (s made) head(context.Context, Reference) (v1.Hash, bool, error) { return s.m.digest, true, nil }

func (s made) manifest(context.Context, Reference) (manifest, error) { return s.m, nil }

func (s made) describe(context.Context, Reference) (v1.Descriptor, error) {
	return s.m.descriptor(), nil
}

func (s made) blob(_ context.Context, _ string, d v1.Descriptor, from int64) (io.ReadCloser, error) {
	f, err := s.blobs[d.Digest].Open()
	if err != nil || from == 0 {
		return f, err
	}
	if _, err := io.CopyN(io.Discard, f, from); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (made) referable(string, v1.Hash, map[string]bool) bool { return false }

func (made) referrers(context.Context, string, v1.Hash, map[string]bool) ([]v1.Descriptor, error) {
	return nil, nil
}

func (s made) fail(ref Reference, doing string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	what := ref.String()
	if l, ok := s.blobs[ref.Digest]; ok && l.Annotations[TitleAnnotation] != "" {
		what = l.Annotations[TitleAnnotation]
	}
	return fmt.Errorf("%s %s: %w", doing, what, err)
}

// descriptor is what tells of a manifest.
func (m manifest) descriptor() v1.Descriptor {
	return v1.Descriptor{MediaType: m.mediaType, Digest: m.digest, Size: int64(len(m.bytes))}
}

// Describe tells what a reference is, without reading it where that can be.
func Describe(ctx context.Context, s Source, ref Reference) (v1.Descriptor, error) {
	return s.describe(ctx, ref)
}

// Manifest reads a manifest as it is stored.
func Manifest(ctx context.Context, s Source, ref Reference) (v1.Descriptor, []byte, error) {
	m, err := s.manifest(ctx, ref)
	return m.descriptor(), m.bytes, err
}

// Layers are what a manifest names besides its configuration, as they are: those of an
// image or an artifact, not the manifests of an index.
func Layers(ctx context.Context, s Source, ref Reference) (v1.Descriptor, []v1.Descriptor, error) {
	m, err := s.manifest(ctx, ref)
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	p, err := m.parts()
	if err == nil && p.Manifests != nil {
		err = fmt.Errorf("%w: it is an index; name one of its platforms, or one of its manifests by digest", ErrManifest)
	}
	return m.descriptor(), p.Layers, s.fail(ref, "reading", err)
}

// Read has a function read a blob. It fails where that is not what its digest says:
// until Read is done, what the function read may be anything.
func Read(ctx context.Context, s Source, repository string, d v1.Descriptor, f func(io.Reader) error) error {
	return read(ctx, s, repository, d, nil, f)
}

// read reads a blob; seen is told of the bytes, nil is told nothing.
func read(ctx context.Context, s Source, repository string, d v1.Descriptor, seen *atomic.Int64, f func(io.Reader) error) error {
	fail := func(err error) error {
		return s.fail(Reference{Repository: repository, Digest: d.Digest}, "reading", err)
	}
	body := &stream{ended: ctx.Err, open: func(from int64) (io.ReadCloser, error) { return s.blob(ctx, repository, d, from) }, want: d, seen: seen}
	defer body.Close()
	if err := body.begin(); err != nil {
		return fail(err)
	}
	err := f(body)
	if err == nil {
		_, err = io.Copy(io.Discard, body)
	}
	if body.err != nil {
		return fail(body.err)
	}
	return err
}

// Delete removes a manifest by its digest, and all tags of it with it.
func Delete(ctx context.Context, t Target, ref Reference) error {
	return t.fail(ref, "deleting", t.untag(ctx, ref))
}

// Tagged lists the tags of a repository that are a digest, sorted.
func Tagged(ctx context.Context, s Source, repository string, digest v1.Hash) ([]string, error) {
	all, _, err := s.Tags(ctx, repository)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var tags []string
	var problems []error
	each(smallAtOnce, all, func(tag string) {
		got, ok, err := s.head(ctx, Reference{Repository: repository, Tag: tag})
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			problems = append(problems, err)
		}
		if ok && got == digest {
			tags = append(tags, tag)
		}
	})
	slices.Sort(tags)
	return tags, errors.Join(problems...)
}

// Untag removes a tag, and nothing else: what it names stays for other tags of it.
// [ErrKept] tells of a registry that cannot.
func Untag(ctx context.Context, t Target, ref Reference) error {
	err := t.untag(ctx, ref)
	var a *answer
	if errors.As(err, &a) && (a.code == http.StatusMethodNotAllowed || a.code == http.StatusBadRequest) {
		err = fmt.Errorf("%w: %w", ErrKept, err)
	}
	if err = t.fail(ref, "deleting", err); err != nil {
		return err
	}
	return t.Commit(ctx)
}

// ErrKept is a tag that a registry does not delete by itself.
var ErrKept = errors.New("the registry deletes no tag alone")
