//go:build keyless

package keyless_test

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocisync/ocisync/pkg/content"
	"github.com/ocisync/ocisync/pkg/content/keyless"
	"github.com/ocisync/ocisync/pkg/content/sign"
	"github.com/ocisync/ocisync/schema"
)

const (
	issuer   = "https://token.actions.githubusercontent.com"
	workflow = "https://github.com/team/app/.github/workflows/release.yml@refs/tags/"
)

// serve runs a registry with an image in it.
func serve(t *testing.T) (*content.Registry, v1.Descriptor) {
	t.Helper()
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	t.Cleanup(s.Close)
	r, err := content.Open(content.Endpoint{URL: s.URL, Transport: http.DefaultTransport, Push: true})
	if err != nil {
		t.Fatal(err)
	}
	return r, push(t, r, content.Reference{Repository: "a", Tag: "v1"}, content.Artifact{Type: "application/vnd.example", Layers: []content.Layer{layer(t, "text/plain", []byte("one"), nil)}})
}

func layer(t *testing.T, kind string, text []byte, annotations map[string]string) content.Layer {
	t.Helper()
	sum, size, err := v1.SHA256(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return content.Layer{
		Descriptor: v1.Descriptor{MediaType: types.MediaType(kind), Digest: sum, Size: size, Annotations: annotations},
		Open:       func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil },
	}
}

func push(t *testing.T, r *content.Registry, ref content.Reference, a content.Artifact) v1.Descriptor {
	t.Helper()
	d, err := content.Push(t.Context(), r, ref, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func verifier(t *testing.T, s *sigstore, identities ...schema.Identity) content.Trust {
	t.Helper()
	v, err := keyless.New(s.trustedRoot(t), identities)
	if err != nil {
		t.Fatal(err)
	}
	return content.Trust{Identities: v}
}

// good is a signature half an hour ago, by a certificate that ended since.
func good(of v1.Descriptor) signing {
	from := time.Now().Add(-30 * time.Minute)
	return signing{issuer: issuer, subject: workflow + "v1", of: of.Digest.Hex, from: from, at: from.Add(time.Minute), predicate: sign.Predicate}
}

// TestWhoWasIssuedACertificateSigned, and nobody else did, nor at another time, nor
// something else, nor in secret.
func TestWhoWasIssuedACertificateSigned(t *testing.T) {
	s, other := newSigstore(t), newSigstore(t)
	exact := schema.Identity{Issuer: issuer, Subject: workflow + "v1"}
	for _, tt := range []struct {
		name  string
		how   func(*signing)
		trust []schema.Identity
		by    *sigstore // who knows it; s where it is nil
		why   string    // "" where it counts
		older string    // of the older form; - where it has no such thing
	}{
		{name: "the identity"},
		{name: "the identity by a pattern", trust: []schema.Identity{{Issuer: issuer, Subject: workflow + "*"}}},
		{name: "one of two identities", trust: []schema.Identity{{Issuer: issuer, Subject: "dev@example.com"}, exact}},
		{name: "a person", how: func(h *signing) { h.subject = "dev@example.com" }, trust: []schema.Identity{{Issuer: issuer, Subject: "dev@example.com"}}},
		{name: "another subject", how: func(h *signing) { h.subject = workflow + "v1.1" }, why: "expected SAN value"},
		{name: "a part further", how: func(h *signing) { h.subject = workflow + "v1/x" }, trust: []schema.Identity{{Issuer: issuer, Subject: workflow + "*"}}, why: "expected SAN value"},
		{name: "another issuer", how: func(h *signing) { h.issuer = "https://issuer.example.com" }, why: "expected issuer value"},
		{name: "the issuer of one identity and the subject of another", trust: []schema.Identity{{Issuer: issuer, Subject: "dev@example.com"}, {Issuer: "https://issuer.example.com", Subject: workflow + "v1"}}, why: "no matching CertificateIdentity"},
		{name: "another root", by: other, why: "not enough verified log entries"},
		{name: "after the certificate ended", how: func(h *signing) { h.at = h.from.Add(11 * time.Minute) }, why: "integrated time outside certificate validity"},
		{name: "before the certificate began", how: func(h *signing) { h.at = h.from.Add(-time.Minute) }, why: "integrated time outside certificate validity"},
		{name: "at a time nobody tells", how: func(h *signing) { h.unpromised = true }, why: "threshold not met for verified signed & log entry integrated timestamps", older: "-"},
		{name: "at a time that an authority tells", how: func(h *signing) {
			h.from, h.unpromised, h.timestamped = time.Now().Add(-time.Minute), true, true
		}, older: "-"},
		{name: "after the certificate ended, as an authority tells", how: func(h *signing) { h.unpromised, h.timestamped = true, true }, why: "leaf certificate verification failed", older: "-"},
		{name: "in no log", how: func(h *signing) { h.noEntry, h.timestamped = true, true }, why: "not enough verified log entries", older: "it has no entry of the log"},
		{name: "by a certificate in no log", how: func(h *signing) { h.unlogged = true }, why: "verify 0 SCT entries"},
		{name: "another image", how: func(h *signing) { h.of = strings.Repeat("ab", 32) }, why: "provided artifact digest does not match", older: "it is of something else"},
		{name: "a payload that was changed", how: func(h *signing) { h.of, h.meddled = strings.Repeat("ab", 32), true }, why: "does not match envelope payload hash", older: "-"},
		{name: "how it was built", how: func(h *signing) { h.predicate = "https://slsa.dev/provenance/v1" }, why: "and not that it is signed", older: "-"},
	} {
		check := func(t *testing.T, r *content.Registry, image v1.Descriptor, why string) {
			t.Helper()
			who, by := tt.trust, tt.by
			if who == nil {
				who = []schema.Identity{exact}
			}
			if by == nil {
				by = s
			}
			err := content.Verify(t.Context(), r, "a", image.Digest, verifier(t, by, who...))
			if why == "" && err != nil || why != "" && (!errors.Is(err, sign.ErrUntrusted) || !strings.Contains(err.Error(), why)) {
				t.Errorf("%v, and not %q", err, why)
			}
		}
		t.Run(tt.name, func(t *testing.T) {
			r, image := serve(t)
			how := good(image)
			if tt.how != nil {
				tt.how(&how)
			}
			push(t, r, content.Reference{Repository: "a"}, content.Artifact{Type: sign.BundleType, Subject: &image, Layers: []content.Layer{layer(t, sign.BundleType, s.bundle(t, how), nil)}})
			check(t, r, image, tt.why)
		})
		if tt.older == "-" {
			continue
		}
		t.Run(tt.name+", in the older form", func(t *testing.T) {
			r, image := serve(t)
			how := good(image)
			if tt.how != nil {
				tt.how(&how)
			}
			payload, annotations := s.simple(t, how)
			push(t, r, content.Reference{Repository: "a", Tag: "sha256-" + image.Digest.Hex + ".sig"}, content.Artifact{Layers: []content.Layer{layer(t, sign.SimpleType, payload, annotations)}})
			why := tt.why
			if tt.older != "" {
				why = tt.older
			}
			check(t, r, image, why)
		})
	}
}

// TestOneOfKeysAndIdentitiesIsEnough, and a certificate is no key.
func TestOneOfKeysAndIdentitiesIsEnough(t *testing.T) {
	s := newSigstore(t)
	r, image := serve(t)
	push(t, r, content.Reference{Repository: "a"}, content.Artifact{Type: sign.BundleType, Subject: &image, Layers: []content.Layer{layer(t, sign.BundleType, s.bundle(t, good(image)), nil)}})
	trust := verifier(t, s, schema.Identity{Issuer: issuer, Subject: workflow + "*"})
	keys := sign.Keys{newKey(t).Public()}
	if err := content.Verify(t.Context(), r, "a", image.Digest, content.Trust{Keys: keys}); !errors.Is(err, sign.ErrUntrusted) {
		t.Errorf("by a key alone: %v", err)
	}
	if trust.Keys = keys; content.Verify(t.Context(), r, "a", image.Digest, trust) != nil {
		t.Error("the identity is not enough beside a key that did not sign")
	}
}

// TestARootThatIsNoneIsRefused, and one for nobody.
func TestARootThatIsNoneIsRefused(t *testing.T) {
	who := schema.Identity{Issuer: issuer, Subject: workflow + "*"}
	if _, err := keyless.New([]byte("{}"), []schema.Identity{who}); err == nil || !strings.Contains(err.Error(), "give a trusted_root.json") {
		t.Errorf("no root: %v", err)
	}
	text := newSigstore(t).trustedRoot(t)
	if _, err := keyless.New(text, nil); err == nil {
		t.Error("nobody is named, and it is taken")
	}
	who.Subject = "https://*/team/app"
	if _, err := keyless.New(text, []schema.Identity{who}); err == nil {
		t.Error("a pattern of hosts is taken")
	}
	who.Issuer, who.Subject = "", "dev@example.com"
	if _, err := keyless.New(text, []schema.Identity{who}); err == nil {
		t.Error("no issuer is named, and it is taken")
	}
}
