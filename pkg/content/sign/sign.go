// Package sign makes and checks signatures of images and artifacts by a key, in the
// forms that cosign has: a bundle of Sigstore with a statement of in-toto, and the older
// simple signing. It reads and writes texts alone; package content finds and stores them.
//
// Begin with [Key.Bundle], which signs, and [Keys.Bundle] and [Keys.Simple], which check.
// What certificates of Fulcio say is not looked at, which is for package keyless: a
// signature counts by a key that somebody named.
package sign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

// The media types and annotations of signatures (Sigstore's bundle format v0.3 and
// cosign's specifications of signatures and of bundles in registries).
const (
	BundleType          = "application/vnd.dev.sigstore.bundle.v0.3+json"
	SimpleType          = "application/vnd.dev.cosign.simplesigning.v1+json"
	SimpleAnnotation    = "dev.cosignproject.cosign/signature"
	ContentAnnotation   = "dev.sigstore.bundle.content"
	PredicateAnnotation = "dev.sigstore.bundle.predicateType"

	// Content and Predicate are what the last two say of a bundle of ours.
	Content   = "dsse-envelope"
	Predicate = "https://sigstore.dev/cosign/sign/v1"

	statementType = "https://in-toto.io/Statement/v1"
	payloadType   = "application/vnd.in-toto+json"
)

// MaxSize bounds a bundle or payload, in bytes.
const MaxSize = 1 << 20

// ErrUntrusted is content without a signature by any of some keys or identities.
var ErrUntrusted = errors.New("no trusted key or identity signed it")

// Key is a private key. Its zero value signs nothing.
type Key struct{ signer crypto.Signer }

// ParseKey reads a private key in PEM: PKCS #8, or an EC key of SEC 1. The error holds
// nothing of it.
func ParseKey(text []byte) (Key, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return Key{}, errors.New("it is no private key in PEM")
	}
	var parsed any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		parsed, err = x509.ParseECPrivateKey(block.Bytes)
	case "ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY", "ENCRYPTED PRIVATE KEY":
		return Key{}, errors.New("it is an encrypted private key; give one that is not, as openssl pkcs8 -topk8 -nocrypt writes it")
	default:
		return Key{}, fmt.Errorf("it is PEM of %q, and no private key", block.Type)
	}
	signer, ok := parsed.(crypto.Signer)
	if err != nil || !ok || !fit(signer.Public()) {
		return Key{}, errors.New("it is no private key that signs; give an ECDSA or Ed25519 key")
	}
	return Key{signer}, nil
}

// fit reports whether signatures are made by such a key.
func fit(public crypto.PublicKey) bool {
	switch public.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false
}

// Public is the key's other half.
func (k Key) Public() Keys { return Keys{k.signer.Public()} }

// sign signs a text: ECDSA its SHA-256, Ed25519 itself.
func (k Key) sign(text []byte) ([]byte, error) {
	if _, ok := k.signer.Public().(ed25519.PublicKey); ok {
		return k.signer.Sign(rand.Reader, text, crypto.Hash(0))
	}
	sum := sha256.Sum256(text)
	return k.signer.Sign(rand.Reader, sum[:], crypto.SHA256)
}

// Keys are public keys, of which any may have signed.
type Keys []crypto.PublicKey

// ParseKeys reads public keys in PEM, one after the other.
func ParseKeys(text []byte) (Keys, error) {
	var keys Keys
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "PUBLIC KEY" {
			return nil, fmt.Errorf("it is PEM of %q, and no public key", block.Type)
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, errors.New("it is no public key that can be read")
		}
		switch key.(type) {
		case *ecdsa.PublicKey, ed25519.PublicKey, *rsa.PublicKey:
			keys = append(keys, key)
		default:
			return nil, errors.New("it is a public key of a kind that signs nothing; give an ECDSA, Ed25519 or RSA key")
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("it is no public key in PEM")
	}
	return keys, nil
}

// Has reports whether a private key is one of them.
func (ks Keys) Has(k Key) bool {
	public, ok := k.signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && slices.ContainsFunc(ks, public.Equal)
}

// signed reports whether any of the keys made a signature of a text.
func (ks Keys) signed(text, signature []byte) bool {
	sum := sha256.Sum256(text)
	for _, k := range ks {
		switch k := k.(type) {
		case *ecdsa.PublicKey:
			if ecdsa.VerifyASN1(k, sum[:], signature) {
				return true
			}
		case ed25519.PublicKey:
			if ed25519.Verify(k, text, signature) {
				return true
			}
		case *rsa.PublicKey:
			if rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], signature) == nil {
				return true
			}
		}
	}
	return false
}

// statement is what of in-toto's is needed.
type statement struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     struct{}  `json:"predicate"`
}

type subject struct {
	Digest map[string]string `json:"digest"`
}

// bundle is what of Sigstore's is needed.
type bundle struct {
	MediaType string    `json:"mediaType"`
	Material  material  `json:"verificationMaterial"`
	Envelope  *envelope `json:"dsseEnvelope,omitempty"`
}

type material struct {
	PublicKey *hint `json:"publicKey,omitempty"`
}

type hint struct {
	Hint string `json:"hint"`
}

// envelope is that of DSSE.
type envelope struct {
	Payload     []byte      `json:"payload"`
	PayloadType string      `json:"payloadType"`
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	Sig []byte `json:"sig"`
}

// encoded is the text that a DSSE signature is of (DSSE protocol, "PAE").
func encoded(kind string, payload []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "DSSEv1 %d %s %d ", len(kind), kind, len(payload))
	b.Write(payload)
	return b.Bytes()
}

// Bundle signs a digest, which is of an algorithm and hexadecimal.
func (k Key) Bundle(algorithm, digest string) ([]byte, error) {
	payload, err := json.Marshal(statement{Type: statementType, Subject: []subject{{map[string]string{algorithm: digest}}}, PredicateType: Predicate})
	if err != nil {
		return nil, err
	}
	sig, err := k.sign(encoded(payloadType, payload))
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(k.signer.Public())
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(der)
	return json.Marshal(bundle{
		MediaType: BundleType, Material: material{&hint{base64.StdEncoding.EncodeToString(sum[:])}},
		Envelope: &envelope{payload, payloadType, []signature{{Sig: sig}}},
	})
}

// Bundle reports whether a bundle says of a digest that one of the keys signed it.
// Statements of other things, such as how it was built, do not count.
func (ks Keys) Bundle(text []byte, algorithm, digest string) bool {
	var b bundle
	if json.Unmarshal(text, &b) != nil || b.Envelope == nil || b.Envelope.PayloadType != payloadType {
		return false
	}
	var s statement
	if json.Unmarshal(b.Envelope.Payload, &s) != nil || s.PredicateType != Predicate {
		return false
	}
	of := false
	for _, x := range s.Subject {
		of = of || x.Digest[algorithm] == digest
	}
	if !of {
		return false
	}
	for _, x := range b.Envelope.Signatures {
		if ks.signed(encoded(payloadType, b.Envelope.Payload), x.Sig) {
			return true
		}
	}
	return false
}

// Simple reports whether a payload of simple signing says of a digest that one of the
// keys signed it; the signature is base64.
func (ks Keys) Simple(payload []byte, signed, algorithm, digest string) bool {
	sig, err := base64.StdEncoding.DecodeString(signed)
	return err == nil && ks.signed(payload, sig) && Says(payload, algorithm, digest)
}

// Says reports whether a payload of simple signing is of a digest.
func Says(payload []byte, algorithm, digest string) bool {
	var said struct {
		Critical struct {
			Type  string `json:"type"`
			Image struct {
				Digest string `json:"docker-manifest-digest"`
			} `json:"image"`
		} `json:"critical"`
	}
	return json.Unmarshal(payload, &said) == nil && said.Critical.Type == "cosign container image signature" && said.Critical.Image.Digest == algorithm+":"+digest
}
