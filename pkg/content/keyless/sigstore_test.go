//go:build keyless

package keyless_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	ct "github.com/google/certificate-transparency-go"
	"github.com/google/certificate-transparency-go/tls"
	ctx509 "github.com/google/certificate-transparency-go/x509"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/ocisync/ocisync/pkg/content/sign"
)

// sigstore is a Sigstore of its own: the library's virtual one, which writes no
// certificate into a log, with an authority that does.
type sigstore struct {
	*ca.VirtualSigstore
	root, intermediate *x509.Certificate
	key, log           *ecdsa.PrivateKey // of the authority, and of the log of certificates
}

func newSigstore(t *testing.T) *sigstore {
	t.Helper()
	v, err := ca.NewVirtualSigstore()
	if err != nil {
		t.Fatal(err)
	}
	s := &sigstore{VirtualSigstore: v, log: newKey(t)}
	var top *ecdsa.PrivateKey
	if s.root, top, err = ca.GenerateRootCa(); err != nil {
		t.Fatal(err)
	}
	s.key = newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{ // the library's began two minutes ago
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "intermediate"}, NotBefore: s.root.NotBefore, NotAfter: s.root.NotAfter,
		KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, BasicConstraintsValid: true, IsCA: true,
	}, s.root, s.key.Public(), top)
	if err != nil {
		t.Fatal(err)
	}
	if s.intermediate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return s
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// logID is a log's name: the digest of its key.
func logID(t *testing.T, k *ecdsa.PrivateKey) [32]byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(der)
}

// trustedRoot is its trusted_root.json.
func (s *sigstore) trustedRoot(t *testing.T) []byte {
	t.Helper()
	from, to := time.Now().Add(-5*time.Hour), time.Now().Add(time.Hour)
	id := logID(t, s.log)
	logs := map[string]*root.TransparencyLog{hex.EncodeToString(id[:]): {
		BaseURL: "https://ct.example.com", ID: id[:], ValidityPeriodStart: from, ValidityPeriodEnd: to,
		HashFunc: crypto.SHA256, SignatureHashFunc: crypto.SHA256, PublicKey: s.log.Public(),
	}}
	rekor := s.RekorLogs()
	for key, l := range rekor {
		raw, err := hex.DecodeString(key)
		if err != nil {
			t.Fatal(err)
		}
		l.ID = raw // the virtual one's is hexadecimal
	}
	tr, err := root.NewTrustedRoot(root.TrustedRootMediaType01, []root.CertificateAuthority{&root.FulcioCertificateAuthority{
		URI: "https://fulcio.example.com", Root: s.root, Intermediates: []*x509.Certificate{s.intermediate}, ValidityPeriodStart: from, ValidityPeriodEnd: to,
	}}, logs, s.TimestampingAuthorities(), rekor)
	if err != nil {
		t.Fatal(err)
	}
	text, err := tr.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// signing is how something is signed.
type signing struct {
	issuer, subject string
	of              string    // the digest that is signed
	from            time.Time // since when the certificate is good, for ten minutes
	at              time.Time // when the log says that it was signed
	predicate       string

	unlogged    bool // no log has the certificate
	noEntry     bool // no log has the signature
	unpromised  bool // the log does not say when
	timestamped bool // an authority of time says when: now
	meddled     bool // the payload is another than the signed one
}

// certificate makes one for a fresh key.
func (s *sigstore) certificate(t *testing.T, how signing) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: how.from, NotAfter: how.from.Add(10 * time.Minute),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	if u, err := url.Parse(how.subject); err == nil && u.Scheme != "" {
		template.URIs = []*url.URL{u}
	} else {
		template.EmailAddresses = []string{how.subject}
	}
	issuer := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}, Value: []byte(how.issuer)}
	issue := func(more ...pkix.Extension) *x509.Certificate {
		template.ExtraExtensions = append([]pkix.Extension{issuer}, more...)
		der, err := x509.CreateCertificate(rand.Reader, template, s.intermediate, key.Public(), s.key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if how.unlogged {
		return issue(), key
	}
	sct := ct.SignedCertificateTimestamp{SCTVersion: ct.V1, LogID: ct.LogID{KeyID: logID(t, s.log)}, Timestamp: uint64(how.from.UnixMilli())}
	// what the log signs is the certificate without the mark that it stands there
	leaf, err := ct.MerkleTreeLeafForEmbeddedSCT([]*ctx509.Certificate{parse(t, issue(marks(t, sct))), parse(t, s.intermediate)}, sct.Timestamp)
	if err != nil {
		t.Fatal(err)
	}
	text, err := ct.SerializeSCTSignatureInput(sct, ct.LogEntry{Leaf: *leaf})
	if err != nil {
		t.Fatal(err)
	}
	sct.Signature = ct.DigitallySigned{Algorithm: tls.SignatureAndHashAlgorithm{Hash: tls.SHA256, Signature: tls.ECDSA}, Signature: signed(t, s.log, text)}
	return issue(marks(t, sct)), key
}

func parse(t *testing.T, c *x509.Certificate) *ctx509.Certificate {
	t.Helper()
	out, err := ctx509.ParseCertificate(c.Raw)
	if ctx509.IsFatal(err) {
		t.Fatal(err)
	}
	return out
}

// marks is the extension that says where a certificate stands (RFC 6962, section 3.3).
func marks(t *testing.T, sct ct.SignedCertificateTimestamp) pkix.Extension {
	t.Helper()
	one, err := tls.Marshal(sct)
	if err != nil {
		t.Fatal(err)
	}
	list, err := tls.Marshal(ctx509.SignedCertificateTimestampList{SCTList: []ctx509.SerializedSCT{{Val: one}}})
	if err != nil {
		t.Fatal(err)
	}
	value, err := asn1.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: value}
}

func signed(t *testing.T, k *ecdsa.PrivateKey, text []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(text)
	sig, err := k.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// bundle signs a digest, as cosign does.
func (s *sigstore) bundle(t *testing.T, how signing) []byte {
	t.Helper()
	const kind = "application/vnd.in-toto+json"
	cert, key := s.certificate(t, how)
	payload := encode(t, map[string]any{
		"_type": "https://in-toto.io/Statement/v1", "predicateType": how.predicate, "predicate": map[string]any{},
		"subject": []any{map[string]any{"digest": map[string]string{"sha256": how.of}}},
	})
	sig := signed(t, key, dsse.PAE(kind, payload))
	sealed := dsse.Envelope{PayloadType: kind, Payload: base64.StdEncoding.EncodeToString(payload), Signatures: []dsse.Signature{{Sig: base64.StdEncoding.EncodeToString(sig)}}}
	material := &protobundle.VerificationMaterial{Content: &protobundle.VerificationMaterial_Certificate{Certificate: &protocommon.X509Certificate{RawBytes: cert.Raw}}}
	if !how.noEntry {
		e, err := s.GenerateTlogEntry(cert, &sealed, sig, how.at.Unix(), true)
		if err != nil {
			t.Fatal(err)
		}
		entry := e.TransparencyLogEntry()
		entry.KindVersion = &protorekor.KindVersion{Kind: "dsse", Version: "0.0.1"}
		if entry.IntegratedTime = 0; !how.unpromised {
			promise, said := s.promise(t, entry.CanonicalizedBody, how.at)
			entry.InclusionPromise, entry.IntegratedTime = &protorekor.InclusionPromise{SignedEntryTimestamp: promise}, said.IntegratedTime
		}
		material.TlogEntries = []*protorekor.TransparencyLogEntry{entry}
	}
	if how.timestamped {
		stamp, err := s.TimestampResponse(sig)
		if err != nil {
			t.Fatal(err)
		}
		material.TimestampVerificationData = &protobundle.TimestampVerificationData{Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: stamp}}}
	}
	if how.meddled {
		payload = bytes.Replace(payload, []byte(how.of), []byte(strings.Repeat("0", len(how.of))), 1)
	}
	text, err := protojson.Marshal(&protobundle.Bundle{
		MediaType: sign.BundleType, VerificationMaterial: material,
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{PayloadType: kind, Payload: payload, Signatures: []*protodsse.Signature{{Sig: sig}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// promise is what the log says of an entry at once: that it stands there, and since when.
func (s *sigstore) promise(t *testing.T, body []byte, at time.Time) ([]byte, tlog.RekorPayload) {
	t.Helper()
	id := slices.Collect(maps.Keys(s.RekorLogs()))[0]
	entry := tlog.RekorPayload{Body: base64.StdEncoding.EncodeToString(body), IntegratedTime: at.Unix(), LogID: id}
	promise, err := s.RekorSignPayload(entry)
	if err != nil {
		t.Fatal(err)
	}
	return promise, entry
}

// simple signs a digest as cosign did: the payload, and the annotations of its layer.
func (s *sigstore) simple(t *testing.T, how signing) (payload []byte, annotations map[string]string) {
	t.Helper()
	cert, key := s.certificate(t, how)
	payload = encode(t, map[string]any{"critical": map[string]any{"type": "cosign container image signature", "image": map[string]string{"docker-manifest-digest": "sha256:" + how.of}}})
	sig := signed(t, key, payload)
	sum := sha256.Sum256(payload)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	annotations = map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(sig), "dev.sigstore.cosign/certificate": string(text)}
	if how.noEntry {
		return payload, annotations
	}
	body := encode(t, map[string]any{"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": map[string]any{
		"data":      map[string]any{"hash": map[string]string{"algorithm": "sha256", "value": hex.EncodeToString(sum[:])}},
		"signature": map[string]any{"content": sig, "publicKey": map[string]any{"content": text}},
	}})
	promise, entry := s.promise(t, body, how.at)
	annotations["dev.sigstore.cosign/bundle"] = string(encode(t, map[string]any{"SignedEntryTimestamp": promise, "Payload": entry}))
	return payload, annotations
}
