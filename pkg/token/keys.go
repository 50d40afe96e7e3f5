package token

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/ocisync/ocisync/pkg/regular"
)

const (
	keysFormat   = 1
	maxKeysBytes = 64 << 10
)

// Keys are two ES256 keys, the current one that signs and the next one, in a
// file that is the owner's alone; and beside them, while their last tokens
// live, former ones. What the registry needs of them stands in a JSON Web Key
// Set (RFC 7517) of its own. The registry reads that when it starts: because
// the next key stands in it from the beginning, the keys can change while it
// runs. Safe for concurrent use; only one process may rotate.
type Keys struct {
	file, public string // paths
	now          func() time.Time

	changing sync.Mutex // held from the copy of doc that is edited until it is in force

	mu      sync.RWMutex
	doc     keysDocument
	signers map[string]jose.Signer // by identifier
	// refreshes is the key of refresh tokens.
	refreshes []byte
}

// keysDocument is the file of the private keys.
type keysDocument struct {
	Format  int         `json:"format"`
	Current string      `json:"current"`
	Next    string      `json:"next"`
	Keys    []storedKey `json:"keys"`
	Refresh string      `json:"refresh"` // base64, signs refresh tokens
}

type storedKey struct {
	Key  jose.JSONWebKey `json:"key"` // private
	Made time.Time       `json:"made"`
	// Retired is when it signed last; zero of the current and the next key.
	Retired time.Time `json:"retired,omitzero"`
}

// OpenKeys reads the keys from a file, and makes both where it is missing; two
// processes that do so at once end up with the same keys. public is where the
// registry finds the public halves; it is written anew if it says anything
// else. clock may be nil.
func OpenKeys(file, public string, clock func() time.Time) (*Keys, error) {
	if clock == nil {
		clock = time.Now
	}
	k := &Keys{file: file, public: public, now: clock}
	err := k.load()
	if errors.Is(err, fs.ErrNotExist) {
		if err = k.create(); err == nil {
			err = k.load()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("keys of the token service: %w", err)
	}
	return k, k.publish()
}

func (k *Keys) load() error {
	doc, err := readKeys(k.file)
	if err != nil {
		return err
	}
	if err := k.take(doc); err != nil {
		return fmt.Errorf("%s: %w; restore it from a backup, or move it away and restart the registry", k.file, err)
	}
	return nil
}

// CheckKeys tells why OpenKeys would refuse the file. One that is missing would
// be made.
func CheckKeys(file string) error {
	k := Keys{file: file, now: time.Now}
	if err := k.load(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keys of the token service: %w", err)
	}
	return nil
}

// create makes the file unless somebody else does meanwhile.
func (k *Keys) create() error {
	doc := keysDocument{Format: keysFormat}
	for _, id := range []*string{&doc.Current, &doc.Next} {
		made, err := k.generate()
		if err != nil {
			return err
		}
		doc.Keys = append(doc.Keys, made)
		*id = made.Key.KeyID
	}
	secret := make([]byte, 32)
	rand.Read(secret) // never fails
	doc.Refresh = base64.StdEncoding.EncodeToString(secret)
	b, err := json.MarshalIndent(doc, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(k.file), 0o700); err != nil {
		return err
	}
	return replaceFile(k.file, append(b, '\n'), func(from, to string) error {
		if err := os.Link(from, to); err != nil && !errors.Is(err, fs.ErrExist) {
			if _, there := os.Lstat(to); there == nil && errors.Is(err, fs.ErrNotExist) {
				return nil // who made it has swept
			}
			return err
		}
		return os.Remove(from)
	})
}

func (k *Keys) generate() (storedKey, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return storedKey{}, err
	}
	key := jose.JSONWebKey{Key: private, Algorithm: string(jose.ES256), Use: "sig"}
	sum, err := key.Thumbprint(crypto.SHA256) // RFC 7638
	key.KeyID = base64.RawURLEncoding.EncodeToString(sum)
	return storedKey{Key: key, Made: k.now().UTC().Truncate(time.Second)}, err
}

func readKeys(file string) (doc keysDocument, err error) {
	info, err := os.Lstat(file)
	if err != nil {
		return doc, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return doc, fmt.Errorf("%s has mode %s; it must be a file that its owner alone may read: run chmod 600 %s", file, info.Mode(), file)
	}
	f, err := os.Open(file)
	if err != nil {
		return doc, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeysBytes))
	if err != nil {
		return doc, err
	}
	if json.Unmarshal(b, &doc) != nil { // its text may be a key
		err = fmt.Errorf("%s is damaged; restore it from a backup, or move it away and restart the registry", file)
	}
	return doc, err
}

// take puts a document in force, which must be whole.
func (k *Keys) take(doc keysDocument) error {
	if doc.Format != keysFormat {
		return fmt.Errorf("format %d, and this ocisync reads format %d", doc.Format, keysFormat)
	}
	signers := map[string]jose.Signer{}
	for _, s := range doc.Keys {
		if p, ok := s.Key.Key.(*ecdsa.PrivateKey); !ok || p.Curve != elliptic.P256() || s.Key.KeyID == "" {
			return errors.New("it holds a key that is no private ES256 key with an identifier")
		}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: s.Key}, (&jose.SignerOptions{}).WithType("JWT"))
		if err != nil {
			return err
		}
		signers[s.Key.KeyID] = signer
	}
	if signers[doc.Current] == nil || signers[doc.Next] == nil || doc.Current == doc.Next {
		return errors.New("it lacks the current or the next key")
	}
	refreshes, err := base64.StdEncoding.DecodeString(doc.Refresh)
	if err != nil || len(refreshes) != 32 {
		return errors.New("it lacks the key of refresh tokens")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.doc, k.signers, k.refreshes = doc, signers, refreshes
	return nil
}

// Current is the identifier of the key that signs.
func (k *Keys) Current() string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.doc.Current
}

// Since is when the current key began to sign: then the next one was made.
func (k *Keys) Since() time.Time {
	k.mu.RLock()
	defer k.mu.RUnlock()
	i := slices.IndexFunc(k.doc.Keys, func(s storedKey) bool { return s.Key.KeyID == k.doc.Next })
	return k.doc.Keys[i].Made // there is one: take looked
}

// Published is the path of the file that the registry reads when it starts.
func (k *Keys) Published() string { return k.public }

// JWKS is what that file holds: the public halves, sorted by identifier.
func (k *Keys) JWKS() ([]byte, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	var set jose.JSONWebKeySet
	for _, s := range k.doc.Keys {
		set.Keys = append(set.Keys, s.Key.Public())
	}
	slices.SortFunc(set.Keys, func(a, b jose.JSONWebKey) int { return bytes.Compare([]byte(a.KeyID), []byte(b.KeyID)) })
	b, err := json.MarshalIndent(set, "", " ")
	return append(b, '\n'), err
}

// Published is how many keys the file for a registry holds.
func Published(public string) (int, error) {
	b, err := published(public)
	if err != nil {
		return 0, err
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(b, &set); err != nil {
		return 0, fmt.Errorf("%s: %w", public, err)
	}
	return len(set.Keys), nil
}

// published reads the file for a registry, which lies among what is the
// registry's: no link there is followed.
func published(public string) ([]byte, error) {
	root, err := os.OpenRoot(filepath.Dir(public))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return regular.ReadOwn(root, filepath.Base(public), maxKeysBytes)
}

// publish writes the public halves unless they stand there.
func (k *Keys) publish() error {
	b, err := k.JWKS()
	if err != nil {
		return err
	}
	if have, err := published(k.public); err == nil && bytes.Equal(have, b) {
		return nil
	}
	if err := replaceFile(k.public, b, os.Rename); err != nil {
		return fmt.Errorf("keys for the registry: %w", err)
	}
	return nil
}

// Rotate makes the next key the current one. First the private keys are made
// durable, then the public ones: a registry that starts between the two knows
// all that sign.
func (k *Keys) Rotate() error {
	made, err := k.generate()
	if err != nil {
		return err
	}
	return k.change(func(doc *keysDocument) bool {
		for i := range doc.Keys {
			if doc.Keys[i].Key.KeyID == doc.Current {
				doc.Keys[i].Retired = k.now().UTC()
			}
		}
		doc.Keys = append(doc.Keys, made)
		doc.Current, doc.Next = doc.Next, made.Key.KeyID
		return true
	})
}

// Tidy forgets the former keys whose last token has expired.
func (k *Keys) Tidy() error {
	now := k.now()
	return k.change(func(doc *keysDocument) bool {
		all := len(doc.Keys)
		doc.Keys = slices.DeleteFunc(doc.Keys, func(s storedKey) bool {
			return !s.Retired.IsZero() && now.After(s.Retired.Add(Life+Leeway))
		})
		return len(doc.Keys) < all
	})
}

// change makes what edit does to a copy durable, takes it into force and
// publishes it.
func (k *Keys) change(edit func(*keysDocument) bool) error {
	k.changing.Lock()
	defer k.changing.Unlock()
	k.mu.RLock()
	doc := k.doc
	doc.Keys = slices.Clone(doc.Keys)
	k.mu.RUnlock()
	if !edit(&doc) {
		return nil
	}
	b, err := json.MarshalIndent(doc, "", " ")
	if err != nil {
		return err
	}
	if err := replaceFile(k.file, append(b, '\n'), os.Rename); err != nil {
		return fmt.Errorf("keys of the token service: %w", err)
	}
	if err := k.take(doc); err != nil {
		return err
	}
	return k.publish()
}

// Sweep removes copies of the private keys that a process left which was killed in the
// middle of a change. Only who may rotate may sweep.
func (k *Keys) Sweep() error {
	k.changing.Lock()
	defer k.changing.Unlock()
	dir, base := filepath.Split(k.file)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), "."+base+"-")
		if _, notOurs := strconv.ParseUint(rest, 10, 64); ok && notOurs == nil && e.Type().IsRegular() {
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// sign returns the claims in the compact form of RFC 7515, signed by a key.
func (k *Keys) sign(claims []byte, key string) (string, error) {
	k.mu.RLock()
	signer := k.signers[key]
	k.mu.RUnlock()
	if signer == nil {
		return "", errors.New("the key was forgotten meanwhile; ask again")
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// replaceFile makes a file of mode 0600 beside the path, durable, and has place
// put it there.
func replaceFile(path string, b []byte, place func(from, to string) error) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = place(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
