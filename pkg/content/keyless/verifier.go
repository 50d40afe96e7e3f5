//go:build keyless

package keyless

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/ocisync/ocisync/pkg/content/sign"
	"github.com/ocisync/ocisync/schema"
)

// Annotations of cosign's older form (cosign's specification of signatures).
const (
	certificateAnnotation = "dev.sigstore.cosign/certificate"
	entryAnnotation       = "dev.sigstore.cosign/bundle"
)

// Verifier checks signatures of some identities. It is safe for use by several
// goroutines.
type Verifier struct {
	verifier   *verify.Verifier
	identities []verify.PolicyOption
}

// New makes one of a trusted root, which is Sigstore's trusted_root.json, and of the
// identities of which any may have signed.
func New(trusted []byte, identities []schema.Identity) (*Verifier, error) {
	material, err := root.NewTrustedRootFromJSON(trusted)
	if err != nil {
		return nil, fmt.Errorf("it is no trusted root of Sigstore (%w); give a trusted_root.json", err)
	}
	if len(identities) == 0 {
		return nil, errors.New("no identities are named that a trusted root could know")
	}
	v := &Verifier{}
	// A certificate is good for minutes, so that the time at which it signed has to be
	// known by what others signed: the log of signatures, or a timestamp.
	if v.verifier, err = verify.NewVerifier(material,
		verify.WithSignedCertificateTimestamps(1), verify.WithTransparencyLog(1), verify.WithObserverTimestamps(1),
		verify.WithoutStatementPredicate(),
	); err != nil {
		return nil, err
	}
	for _, i := range identities {
		pattern, err := schema.SubjectPattern(i.Subject)
		if err != nil {
			return nil, fmt.Errorf("subject %q: %w", i.Subject, err)
		}
		identity, err := verify.NewShortCertificateIdentity(i.Issuer, "", "", pattern)
		if err != nil {
			return nil, err
		}
		v.identities = append(v.identities, verify.WithCertificateIdentity(identity))
	}
	return v, nil
}

// Bundle fails unless a bundle says of a digest that one of the identities signed it.
// Statements of other things, such as how it was built, do not count.
func (v *Verifier) Bundle(text []byte, algorithm, digest string) error {
	said, err := v.check(text, algorithm, digest)
	if err == nil && said.Statement.GetPredicateType() != sign.Predicate {
		err = fmt.Errorf("it says %q, and not that it is signed", said.Statement.GetPredicateType())
	}
	return err
}

// check holds a bundle of Sigstore's against the identities.
func (v *Verifier) check(text []byte, algorithm, digest string) (*verify.VerificationResult, error) {
	sum, err := hex.DecodeString(digest)
	if err != nil {
		return nil, err
	}
	var b bundle.Bundle
	if err := b.UnmarshalJSON(text); err != nil {
		return nil, err
	}
	return v.verifier.Verify(&b, verify.NewPolicy(verify.WithArtifactDigest(algorithm, sum), v.identities...))
}

// entry is an entry of the log as cosign's older form has it.
type entry struct {
	Promise []byte `json:"SignedEntryTimestamp"`
	Payload struct {
		Body  []byte `json:"body"`
		Time  int64  `json:"integratedTime"`
		Index int64  `json:"logIndex"`
		Log   string `json:"logID"`
	} `json:"Payload"`
}

// Simple fails unless a payload of simple signing says of a digest that one of the
// identities signed it; the annotations have the signature, the certificate and the entry
// of the log.
func (v *Verifier) Simple(payload []byte, annotations map[string]string, algorithm, digest string) error {
	signature, err := base64.StdEncoding.DecodeString(annotations[sign.SimpleAnnotation])
	if err != nil {
		return err
	}
	certificate, _ := pem.Decode([]byte(annotations[certificateAnnotation]))
	if certificate == nil {
		return errors.New("it has no certificate")
	}
	var e entry
	if err := json.Unmarshal([]byte(annotations[entryAnnotation]), &e); err != nil {
		return fmt.Errorf("it has no entry of the log: %w", err)
	}
	sum := sha256.Sum256(payload)
	text, err := older(signature, certificate.Bytes, sum[:], e)
	if err != nil {
		return err
	}
	if _, err := v.check(text, "sha256", hex.EncodeToString(sum[:])); err != nil {
		return err
	}
	if !sign.Says(payload, algorithm, digest) {
		return errors.New("it is of something else")
	}
	return nil
}

// older makes a bundle of cosign's older form (Sigstore's bundle format v0.1).
func older(signature, certificate, sum []byte, e entry) ([]byte, error) {
	type object = map[string]any
	var body struct {
		Kind    string `json:"kind"`
		Version string `json:"apiVersion"`
	}
	if err := json.NewDecoder(bytes.NewReader(e.Payload.Body)).Decode(&body); err != nil {
		return nil, fmt.Errorf("its entry of the log: %w", err)
	}
	log, err := hex.DecodeString(e.Payload.Log)
	if err != nil {
		return nil, fmt.Errorf("its entry of the log: %w", err)
	}
	return json.Marshal(object{
		"mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.1",
		"verificationMaterial": object{
			"x509CertificateChain": object{"certificates": []object{{"rawBytes": certificate}}},
			"tlogEntries": []object{{
				"logIndex": strconv.FormatInt(e.Payload.Index, 10), "logId": object{"keyId": log},
				"kindVersion":      object{"kind": body.Kind, "version": body.Version},
				"integratedTime":   strconv.FormatInt(e.Payload.Time, 10),
				"inclusionPromise": object{"signedEntryTimestamp": e.Promise}, "canonicalizedBody": e.Payload.Body,
			}},
		},
		"messageSignature": object{"messageDigest": object{"algorithm": "SHA2_256", "digest": sum}, "signature": signature},
	})
}
