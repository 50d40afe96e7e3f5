package oci

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"unicode"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/state"
)

const (
	// Repository is where the inventories of all modes lie; it is ocisync's
	// own and no object of any mode.
	Repository = "ocisync/state"
	// ArtifactType is the type of an inventory's manifest, and of its layer.
	ArtifactType = "application/vnd.ocisync.state.v1+json"

	// emptyConfig is the descriptor content that the OCI image specification
	// gives to an artifact without configuration.
	emptyConfig     = "{}"
	emptyConfigType = "application/vnd.oci.empty.v1+json"
)

// tagName is the grammar of tags in the OCI distribution specification.
var tagName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)

// Options says how a registry is reached.
type Options struct {
	URL       string
	Transport http.RoundTripper   // of [Transport]; NewStore confines it
	Auth      authn.Authenticator // nil for none
	Realms    []string            // see [Confine]
}

type store struct {
	base *url.URL
	tag  name.Tag
	rt   http.RoundTripper
	auth authn.Authenticator
}

// NewStore keeps a mode's inventory in the registry itself, as the artifact
// ocisync/state:<mode>. Registries cannot compare and swap a tag: Save looks
// before it writes, and the lock of pkg/state keeps other writers of this
// computer away; one elsewhere can still come in between.
// Load's errors: fs.ErrNotExist and the kinds of package providers. What is
// no inventory there is returned as it is, so that it is judged unreadable.
func NewStore(o Options, mode string) (state.Store, error) {
	base, err := ParseURL(o.URL)
	if err != nil {
		return nil, err
	}
	rt, err := Confine(o.Transport, o.URL, o.Realms...)
	if err != nil {
		return nil, err
	}
	var strict []name.Option
	if base.Scheme == "http" {
		strict = append(strict, name.Insecure)
	}
	if !tagName.MatchString(mode) {
		return nil, fmt.Errorf("mode %q cannot name a tag; use letters, digits, '.', '_' and '-'", mode)
	}
	tag, err := name.NewTag(base.Host+"/"+Repository+":"+mode, append(strict, name.StrictValidation)...)
	if err != nil {
		return nil, fmt.Errorf("registry.url %q: %w; correct it", o.URL, err)
	}
	if o.Auth == nil {
		o.Auth = authn.Anonymous
	}
	return &store{base, tag, rt, o.Auth}, nil
}

// options makes one attempt per request: who wants more wraps the transport.
func (s *store) options(ctx context.Context) []remote.Option {
	return []remote.Option{
		remote.WithContext(ctx),
		remote.WithTransport(s.rt),
		remote.WithAuth(s.auth),
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}),
		remote.WithRetryStatusCodes(),
		remote.WithUserAgent("ocisync"),
	}
}

func (s *store) Load(ctx context.Context) ([]byte, error) {
	pull, err := remote.NewPuller(s.options(ctx)...)
	if err != nil {
		return nil, s.fail("reading the inventory", err)
	}
	return s.load(ctx, pull)
}

func (s *store) load(ctx context.Context, pull *remote.Puller) ([]byte, error) {
	const doing = "reading the inventory"
	desc, err := pull.Get(ctx, s.tag)
	if err != nil {
		return nil, s.fail(doing, err)
	}
	var m v1.Manifest
	if err := json.Unmarshal(desc.Manifest, &m); err != nil || m.ArtifactType != ArtifactType || len(m.Layers) != 1 {
		return desc.Manifest, nil
	}
	want := m.Layers[0]
	if want.Size < 0 || want.Size > state.MaxSize {
		return nil, fmt.Errorf("%s: the inventory is said to have %d bytes, more than %d MiB; delete the tag and run `ocisync apply`", s.tag, want.Size, state.MaxSize>>20)
	}
	layer, err := pull.Layer(ctx, s.tag.Digest(want.Digest.String()))
	if err != nil {
		return nil, s.fail(doing, err)
	}
	body, err := layer.Compressed() // as stored; its digest is checked at the end
	if err != nil {
		err = s.fail(doing, err)
		if errors.Is(err, fs.ErrNotExist) {
			return desc.Manifest, nil // its content was collected
		}
		return nil, err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, want.Size+1))
	if err != nil {
		return nil, s.fail(doing, fmt.Errorf("its content did not arrive whole: %w", err))
	}
	if int64(len(data)) != want.Size {
		return nil, s.fail(doing, errors.New("its content did not arrive whole: it has another size than its manifest says"))
	}
	return data, nil
}

func (s *store) Save(ctx context.Context, data, prev []byte) error {
	const doing = "writing the inventory"
	if len(data) > state.MaxSize {
		return fmt.Errorf("%s: the inventory is larger than %d MiB; split the mode", s.tag, state.MaxSize>>20)
	}
	pull, err := remote.NewPuller(s.options(ctx)...)
	if err != nil {
		return s.fail(doing, err)
	}
	same, err := s.holds(ctx, pull, prev)
	if err != nil {
		return err
	}
	if !same {
		return fmt.Errorf("%s: %w; plan again", s.tag, state.ErrConflict)
	}
	push, err := remote.NewPusher(s.options(ctx)...)
	if err != nil {
		return s.fail(doing, err)
	}
	config := static.NewLayer([]byte(emptyConfig), emptyConfigType)
	layer := static.NewLayer(data, ArtifactType)
	for _, l := range []v1.Layer{config, layer} {
		if err := push.Upload(ctx, s.tag.Repository, l); err != nil {
			return s.fail(doing, err)
		}
	}
	m, err := newManifest(data)
	if err != nil {
		return s.fail(doing, err)
	}
	if err := push.Push(ctx, s.tag, m); err != nil {
		return s.fail(doing, err)
	}
	return nil
}

// holds reports whether the tag holds what was loaded, nil for nothing. The
// manifest follows from the data, so that mostly a HEAD tells.
func (s *store) holds(ctx context.Context, pull *remote.Puller, prev []byte) (bool, error) {
	desc, err := pull.Head(ctx, s.tag)
	if err != nil {
		err = s.fail("writing the inventory", err)
		if errors.Is(err, fs.ErrNotExist) {
			return prev == nil, nil
		}
		return false, err
	}
	if prev == nil {
		return false, nil
	}
	m, err := newManifest(prev)
	if err != nil {
		return false, s.fail("writing the inventory", err)
	}
	if desc.Digest.String() == digest(m) {
		return true, nil
	}
	have, err := s.load(ctx, pull)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && bytes.Equal(have, prev), err
}

// manifest is an inventory's manifest as it is pushed.
type manifest []byte

// RawManifest implements remote.Taggable.
func (m manifest) RawManifest() ([]byte, error) { return m, nil }

// MediaType tells how it is pushed.
func (m manifest) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// newManifest follows the OCI image specification 1.1, guidelines for
// artifact usage. Equal data gives equal bytes.
func newManifest(data []byte) (manifest, error) {
	descriptor := func(mediaType types.MediaType, b []byte) (v1.Descriptor, error) {
		h, err := v1.NewHash(digest(b))
		return v1.Descriptor{MediaType: mediaType, Digest: h, Size: int64(len(b))}, err
	}
	config, err := descriptor(emptyConfigType, []byte(emptyConfig))
	if err != nil {
		return nil, err
	}
	layer, err := descriptor(ArtifactType, data)
	if err != nil {
		return nil, err
	}
	return json.Marshal(v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		ArtifactType:  ArtifactType,
		Config:        config,
		Layers:        []v1.Descriptor{layer},
	})
}

// fail gives an error its kind and remedy. fs.ErrNotExist is what a registry
// says of a repository, tag or blob that it does not have.
func (s *store) fail(doing string, err error) error {
	out := func(kind error, remedy string) error {
		return &providers.Error{Registry: s.base.String(), Doing: doing + " " + Repository + ":" + s.tag.TagStr(), Err: kind, Remedy: remedy}
	}
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return out(Connection(err, s.base))
	}
	what := fmt.Sprintf("it answers %d", answer.StatusCode)
	if len(answer.Errors) > 0 {
		what += " " + printable(string(answer.Errors[0].Code)+": "+answer.Errors[0].Message)
	}
	ping := answer.Request != nil && strings.TrimSuffix(answer.Request.URL.Path, "/") == "/v2"
	switch code := answer.StatusCode; {
	case code == http.StatusUnauthorized:
		return out(fmt.Errorf("%w: %s", providers.ErrUnauthorized, what), "correct registry.login")
	case code == http.StatusForbidden && ping: // no right is asked for there
		return out(fmt.Errorf("%w: %s to /v2/", providers.ErrUnreachable, what), "see that the registry is well, its database too, and that what stands before it lets this address reach /v2/")
	case code == http.StatusForbidden:
		return out(fmt.Errorf("%w: %s", providers.ErrForbidden, what), "give the account pull and push on "+Repository)
	case code == http.StatusNotFound && ping:
		return out(fmt.Errorf("%w: %s", providers.ErrNotRegistry, what), "correct registry.url")
	case code == http.StatusNotFound:
		return out(fmt.Errorf("%w: %s", fs.ErrNotExist, what), "")
	case code == http.StatusTooManyRequests || code >= 500:
		return out(fmt.Errorf("%w: %s", providers.ErrUnreachable, what), "try again later, and look at its log")
	}
	return out(fmt.Errorf("%w: %s", providers.ErrInvalid, what), "look at the registry's log")
}

// printable keeps a server's text short and harmless on a terminal.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200]) + "…"
	}
	return s
}
