package content

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"slices"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocisync/ocisync/pkg/content/sign"
)

// aKey makes a private key of ours.
func aKey(t *testing.T, signer crypto.Signer) sign.Key {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	k, err := sign.ParseKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestAKeyThatSignedIsFound, by a bundle as by the older form, and no other.
func TestAKeyThatSignedIsFound(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]sign.Key{"ECDSA": aKey(t, ecKey(t)), "Ed25519": aKey(t, ed)} {
		s := serve(t)
		f := fill{t, s}
		image, other := f.image("a", "v1", layer(1, 100)), f.image("a", "v2", layer(2, 100))
		r := s.open(t)
		if err := Verify(t.Context(), r, "a", image.Digest, Trust{Keys: key.Public()}); !errors.Is(err, sign.ErrUntrusted) {
			t.Errorf("%s: before it was signed: %v", name, err)
		}
		if err := Sign(t.Context(), r, "a", image, key, time.Now()); err != nil {
			t.Fatal(err)
		}
		if err := Verify(t.Context(), r, "a", image.Digest, Trust{Keys: key.Public()}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := Verify(t.Context(), r, "a", image.Digest, Trust{Keys: aKey(t, ecKey(t)).Public()}); !errors.Is(err, sign.ErrUntrusted) {
			t.Errorf("%s: another key: %v", name, err)
		}
		if err := Verify(t.Context(), r, "a", other.Digest, Trust{Keys: key.Public()}); !errors.Is(err, sign.ErrUntrusted) {
			t.Errorf("%s: another image: %v", name, err)
		}
	}
}

// TestASignatureUnderCosignsTagIsFound, and one of another image that lies there is none.
func TestASignatureUnderCosignsTagIsFound(t *testing.T) {
	private := ecKey(t)
	key := aKey(t, private)
	s := serve(t)
	f := fill{t, s}
	image, other := f.image("a", "v1", layer(1, 100)), f.image("a", "v2", layer(2, 100))
	under := func(of v1.Hash, says string, sums bool) {
		payload, err := json.Marshal(map[string]any{"critical": map[string]any{"type": "cosign container image signature", "image": map[string]string{"docker-manifest-digest": says}}})
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(payload)
		if !sums {
			sum[0]++
		}
		sig, err := private.Sign(rand.Reader, sum[:], crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		l := f.blob("a", payload)
		l.MediaType, l.Annotations = sign.SimpleType, map[string]string{sign.SimpleAnnotation: base64.StdEncoding.EncodeToString(sig)}
		f.manifest("a", fallback(of)+".sig", v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: f.blob("a", []byte("{}")), Layers: []v1.Descriptor{l}})
	}
	r := s.open(t)
	under(image.Digest, image.Digest.String(), true)
	if err := Verify(t.Context(), r, "a", image.Digest, Trust{Keys: key.Public()}); err != nil {
		t.Error(err)
	}
	under(other.Digest, image.Digest.String(), true)
	if err := Verify(t.Context(), r, "a", other.Digest, Trust{Keys: key.Public()}); !errors.Is(err, sign.ErrUntrusted) {
		t.Errorf("a signature of another image: %v", err)
	}
	under(other.Digest, other.Digest.String(), false)
	if err := Verify(t.Context(), r, "a", other.Digest, Trust{Keys: key.Public()}); !errors.Is(err, sign.ErrUntrusted) {
		t.Errorf("a signature of other bytes: %v", err)
	}
}

// TestAMirrorCopiesWhatATrustedKeySigned, with the signature, and nothing else.
func TestAMirrorCopiesWhatATrustedKeySigned(t *testing.T) {
	key := aKey(t, ecKey(t))
	from, to := serve(t), serve(t)
	f := fill{t, from}
	signed := f.image("a", "v1", layer(1, 100))
	f.image("a", "v2", layer(2, 100))
	m := &Mirror{From: from.open(t), To: to.open(t), Source: "a", Target: "b", Referrers: true, Trust: []Trust{{Keys: key.Public()}}}
	source := from.open(t)
	if err := Sign(t.Context(), source, "a", signed, key, time.Now()); err != nil {
		t.Fatal(err)
	}
	o, err := m.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	owned, _, err := m.Run(t.Context(), o, time.Now())
	if !errors.Is(err, sign.ErrUntrusted) || len(owned) != 1 || owned["v1"] != signed.Digest {
		t.Errorf("it owns %v, %v", owned, err)
	}
	if tags := tagsOf(t, m.To); slices.Contains(tags, "v2") {
		t.Errorf("what nobody signed is there: %q", tags)
	}
	if err := Verify(t.Context(), m.To, "b", signed.Digest, Trust{Keys: key.Public()}); err != nil {
		t.Errorf("the signature did not come along: %v", err)
	}
}
