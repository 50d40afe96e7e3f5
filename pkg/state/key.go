package state

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ocisync/ocisync/schema"
)

const (
	keyPrefix    = "ocisync-state-key:"
	publicPrefix = "ed25519:"
	hashInfo     = "ocisync state hash v1"
)

// Key is the state key: it signs inventories (Ed25519) and, through HKDF,
// keys the hashes in them. It prints as "(state key)"; see [Key.Reveal]. The
// zero Key is none.
type Key struct{ material *material } // behind a pointer, which package fmt does not follow

type material struct {
	private ed25519.PrivateKey
	hash    []byte
}

// public is the suffix of a private key as crypto/ed25519 keeps it.
func (m *material) public() ed25519.PublicKey {
	return ed25519.PublicKey(m.private[ed25519.SeedSize:])
}

// NewKey makes a key from the system's randomness.
func NewKey() (Key, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := rand.Read(seed); err != nil {
		return Key{}, fmt.Errorf("making a state key: %w", err)
	}
	return keyOf(seed)
}

// ParseKey reads the text form, ocisync-state-key:<base64 of 32 bytes>. The
// error never holds the text.
func ParseKey(text string) (Key, error) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), keyPrefix)
	if !ok {
		return Key{}, fmt.Errorf("the state key does not begin with %q; make one with `ocisync key`", keyPrefix)
	}
	seed, err := base64.StdEncoding.Strict().DecodeString(rest)
	if err != nil || len(seed) != ed25519.SeedSize {
		return Key{}, fmt.Errorf("the state key is not %d bytes in base64; make one with `ocisync key`", ed25519.SeedSize)
	}
	return keyOf(seed)
}

func keyOf(seed []byte) (Key, error) {
	hash, err := hkdf.Key(sha256.New, seed, nil, hashInfo, sha256.Size)
	if err != nil {
		return Key{}, fmt.Errorf("deriving the hash key: %w", err)
	}
	return Key{&material{ed25519.NewKeyFromSeed(seed), hash}}, nil
}

// IsZero reports whether there is no key.
func (k Key) IsZero() bool { return k.material == nil }

// Reveal is the text form, a secret; "" for no key.
func (k Key) Reveal() string {
	if k.IsZero() {
		return ""
	}
	return keyPrefix + base64.StdEncoding.EncodeToString(k.material.private.Seed())
}

// Public is the text form of the public key, as in a mode's state.verify; ""
// for no key.
func (k Key) Public() string {
	if k.IsZero() {
		return ""
	}
	return publicPrefix + base64.StdEncoding.EncodeToString(k.material.public())
}

// Format prints "(state key)" whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("(state key)")) }

// String prints "(state key)".
func (k Key) String() string { return "(state key)" }

// HashSecret is the keyed hash of a value that cannot be read back, bound to
// its object and field so that equal values do not show as equal. "" for no
// key: without one nothing is recorded that could be guessed offline.
func (k Key) HashSecret(object schema.Key, path, value string) string {
	return k.hash(object.String(), path, value)
}

// Hash is what an inventory records of a value that cannot be read back, and which
// the registry had in a second, zero for none that is known. The HMAC is that of
// [Key.HashSecret] there, and else bound to the second too.
func (k Key) Hash(object schema.Key, path, value string, asOf time.Time) Hash {
	if asOf.IsZero() {
		return Hash{Path: path, HMAC: k.HashSecret(object, path, value)}
	}
	asOf = asOf.UTC().Truncate(time.Second)
	return Hash{Path: path, HMAC: k.hash(object.String(), path, value, asOf.Format(time.RFC3339)), AsOf: asOf}
}

func (k Key) hash(parts ...string) string {
	if k.IsZero() {
		return ""
	}
	mac := hmac.New(sha256.New, k.material.hash)
	for _, part := range parts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		mac.Write(n[:])
		mac.Write([]byte(part))
	}
	return hex.EncodeToString(mac.Sum(nil))
}

// Match compares a value with what the inventory recorded of it, in constant
// time. known is false where nothing was recorded or there is no key.
func (k Key) Match(o Object, path, value string) (equal, known bool) {
	_, equal, known = k.match(o, path, value)
	return equal, known
}

// AsOf is a second in which the registry had a value, as recorded; zero where none
// is, or another value.
func (k Key) AsOf(o Object, path, value string) time.Time {
	h, equal, _ := k.match(o, path, value)
	if !equal {
		return time.Time{}
	}
	return h.AsOf
}

func (k Key) match(o Object, path, value string) (h Hash, equal, known bool) {
	if k.IsZero() {
		return Hash{}, false, false
	}
	for _, h := range o.Hashes {
		if h.Path == path {
			return h, hmac.Equal([]byte(h.HMAC), []byte(k.Hash(o.Key, path, value, h.AsOf).HMAC)), true
		}
	}
	return Hash{}, false, false
}

// ParsePublic reads ed25519:<base64 of 32 bytes>.
func ParsePublic(text string) (ed25519.PublicKey, error) {
	rest, ok := strings.CutPrefix(text, publicPrefix)
	if !ok {
		return nil, errors.New("state.verify does not begin with \"ed25519:\"; write the public key that `ocisync key` prints")
	}
	b, err := base64.StdEncoding.Strict().DecodeString(rest)
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, errors.New("state.verify is not 32 bytes in base64; write the public key that `ocisync key` prints")
	}
	return ed25519.PublicKey(b), nil
}

// keyID is a short name of a public key, for messages.
func keyID(p ed25519.PublicKey) string {
	sum := sha256.Sum256(p)
	return hex.EncodeToString(sum[:8])
}
