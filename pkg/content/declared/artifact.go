package declared

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocisync/ocisync/pkg/content"
	"github.com/ocisync/ocisync/pkg/content/sign"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// built is the artifact of a block, of the files as they are now: each a layer of its
// own under its path, in the order of those.
func (p *Provider) built(spec *schema.Artifact) (content.Artifact, error) {
	a := content.Artifact{Type: cmp.Or(text(spec.Type), content.UnknownArtifact)}
	for _, pair := range spec.Annotations {
		if a.Annotations == nil {
			a.Annotations = map[string]string{}
		}
		a.Annotations[pair.Name] = pair.Value
	}
	var names []string
	for _, pattern := range spec.Files {
		found, err := doublestar.Glob(p.Files, pattern, doublestar.WithFilesOnly(), doublestar.WithNoFollow())
		if err != nil {
			return a, fmt.Errorf("files: %s: %w", pattern, err)
		}
		if len(found) == 0 {
			return a, fmt.Errorf("files: no file matches %q; paths count from the file of the mode that names them", pattern)
		}
		names = append(names, found...)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		l, err := p.layer(name)
		if err != nil {
			return a, fmt.Errorf("files: %w", err)
		}
		a.Layers = append(a.Layers, l)
	}
	return a, nil
}

// layer is a file as one.
func (p *Provider) layer(name string) (content.Layer, error) {
	f, err := p.Files.Open(name)
	if err != nil {
		return content.Layer{}, err
	}
	defer f.Close()
	title := name
	for _, home := range p.Homes {
		title = strings.TrimPrefix(title, home)
	}
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err != nil {
		return content.Layer{}, fmt.Errorf("%s: %w", name, err)
	}
	d := v1.Descriptor{
		MediaType: types.MediaType(content.UnknownFile), Size: n,
		Digest:      v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", sum.Sum(nil))},
		Annotations: map[string]string{content.TitleAnnotation: title},
	}
	return content.Layer{Descriptor: d, Open: func() (io.ReadCloser, error) { return open(p.Files, name) }}, nil
}

func open(in fs.FS, name string) (io.ReadCloser, error) { return in.Open(name) }

// place is where an artifact lies.
func place(spec *schema.Artifact) content.Reference {
	to := text(spec.To)
	i := strings.LastIndexByte(to, ':')
	return content.Reference{Repository: to[:max(i, 0)], Tag: to[i+1:]}
}

// seen is an artifact as it lies there now, nil where it is not there. Whose a signature
// is nobody sees without the key.
func (p *Provider) seen(ctx context.Context, to content.Source, k schema.Key, spec schema.Artifact) (*schema.Resource, error) {
	at := place(&spec)
	digest, ok, err := content.Head(ctx, to, at)
	if err != nil || !ok {
		return nil, err
	}
	text := digest.String()
	spec.Digest = &text
	r := &schema.Resource{Key: k, Spec: &spec}
	if spec.Sign == nil {
		return r, nil
	}
	signed, err := content.Signed(ctx, to, at.Repository, digest)
	if spec.Sign = nil; signed {
		r.Unread = []string{"sign.key"}
	}
	return r, err
}

// prepareArtifact tells what a push would do.
func (p *Provider) prepareArtifact(ctx context.Context, c plan.Change, spec *schema.Artifact) (v providers.Verdict, err error) {
	a, err := p.built(spec)
	if err != nil {
		v.Refused = err.Error()
		return v, nil
	}
	if ns, t := TrustOf(p.Namespaces, place(spec).Repository); t.Asks() && (spec.Sign == nil || len(t.Keys) == 0) {
		v.Refused = fmt.Sprintf("namespace %s takes only what a key of its trust signed; name the key that signs it in sign.key", ns)
		if len(t.Keys) == 0 {
			v.Refused = fmt.Sprintf("namespace %s takes only what one of its trust.identities signed, and ocisync signs by keys; add a key to trust.keys, or push it with what signs so", ns)
		}
		return v, nil
	} else if t.Asks() && spec.Sign.Key != nil {
		switch _, err := p.key(ctx, *spec.Sign.Key, place(spec).Repository); {
		case errors.Is(err, errOtherKey):
			v.Refused = err.Error()
			return v, nil
		case err != nil:
			v.Notes = []string{fmt.Sprintf("whether namespace %s trusts it cannot be told now: %v", ns, err)}
		}
	}
	size := int64(0)
	for _, l := range a.Layers {
		size += l.Size
	}
	v.Impact = []string{fmt.Sprintf("pushes %s, %s", count(len(a.Layers), "file"), schema.Size(size).Human())}
	if before, ok := p.applied(c.Key); ok {
		if was, ok := before.Spec.(*schema.Artifact); ok && text(was.To) == text(spec.To) {
			return v, nil
		}
	}
	to, release, err := p.target(ctx)
	if err != nil {
		return v, err
	}
	defer release()
	digest, there, err := content.Head(ctx, to, place(spec))
	switch {
	case ctx.Err() != nil:
		return v, ctx.Err()
	case err != nil:
		v.Notes = append(v.Notes, fmt.Sprintf("what is there cannot be told now: %v", err))
	case there && digest.String() != text(spec.Digest):
		v.Held = fmt.Sprintf("it overwrites %s, which ocisync did not push", text(spec.To))
	}
	return v, nil
}

// key is what signs in a repository, whose namespace has to trust it.
func (p *Provider) key(ctx context.Context, ref schema.SecretRef, repository string) (sign.Key, error) {
	secret, err := p.Secrets.Resolve(ctx, ref)
	if err != nil {
		return sign.Key{}, fmt.Errorf("sign.key: %w", err)
	}
	key, err := sign.ParseKey([]byte(secret))
	if err != nil {
		return sign.Key{}, fmt.Errorf("sign.key (%s): %w", ref, err)
	}
	ns, t := TrustOf(p.Namespaces, repository)
	if !t.Asks() {
		return key, nil
	}
	trusted, err := readKeys(p.Files, t.Keys)
	if err == nil && !trusted.Has(key) {
		err = fmt.Errorf("sign.key (%s) is %w of namespace %s; add its public half there, or sign with another", ref, errOtherKey, ns)
	}
	return key, err
}

// errOtherKey is a key by which a namespace takes nothing.
var errOtherKey = errors.New("not among trust.keys")

// push pushes an artifact as its plan showed it.
func (p *Provider) push(ctx context.Context, spec *schema.Artifact) error {
	a, err := p.built(spec)
	if err != nil {
		return err
	}
	digest, err := a.Digest()
	if err != nil {
		return err
	}
	if want := text(spec.Digest); want != "" && want != digest.String() {
		return fmt.Errorf("%w: its files changed since the plan was made; apply again", providers.ErrConflict)
	}
	at := place(spec)
	signs := spec.Sign != nil && spec.Sign.Key != nil
	var key sign.Key
	if signs {
		if key, err = p.key(ctx, *spec.Sign.Key, at.Repository); err != nil {
			return err
		}
	}
	to, release, err := p.target(ctx)
	if err != nil {
		return err
	}
	defer release()
	d, err := content.Push(ctx, to, at, a, p.Progress)
	if err != nil || !signs {
		return err
	}
	if err := content.Verify(ctx, to, at.Repository, d.Digest, content.Trust{Keys: key.Public()}); !errors.Is(err, sign.ErrUntrusted) {
		return err
	}
	return content.Sign(ctx, to, at.Repository, d, key, p.Now())
}
