package embedded

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/schema"
)

const (
	secretsFile = "secrets.json" // below ownDir
	maxSecret   = 4 << 10
)

// secretsDocument is secrets.json: what the registry must know in the clear,
// of mode 0600 and never told by the admin API. state.json names the entries
// in force by identifiers that are not used twice; an entry is written before
// state.json names it and goes after state.json does not, so that a crash
// between the two loses none.
type secretsDocument struct {
	Format  int               `json:"format"`
	Secrets map[string]string `json:"secrets"` // by identifier
}

// secretID is an identifier that no other entry ever has: revisions grow.
func secretID(key schema.Key, revision string) string { return key.String() + "@" + revision }

// loadSecrets reads the entries that the document names into its values.
func (d *document) loadSecrets(data string) error {
	if len(d.Secrets) == 0 {
		return nil
	}
	const restore = "restore it from the same backup as state.json, or write the secrets again with apply"
	name := filepath.Join(data, ownDir, secretsFile)
	f, err := regular.Open(name)
	if err != nil {
		return fmt.Errorf("%w; %s", err, restore)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxStateBytes+1))
	if err != nil {
		return err
	}
	var doc secretsDocument
	if len(b) > maxStateBytes || json.Unmarshal(b, &doc) != nil || doc.Format != stateFormat {
		return fmt.Errorf("%s is damaged; %s", name, restore) // its text may be a secret
	}
	d.values = map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(d.Secrets)) {
		v, ok := doc.Secrets[d.Secrets[key]]
		if !ok {
			return fmt.Errorf("%s lacks the secret of %s: %w; %s", name, key, fs.ErrNotExist, restore)
		}
		d.values[d.Secrets[key]] = v
	}
	return nil
}

// saveSecrets writes the document's values and those that before names.
func (d document) saveSecrets(data string, before document) error {
	all := maps.Clone(before.values)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, d.values)
	b, err := json.Marshal(secretsDocument{stateFormat, all})
	if err == nil && len(b) > maxStateBytes {
		err = fmt.Errorf("they would be larger than %d MiB", maxStateBytes>>20)
	}
	if err == nil {
		err = regular.Replace(filepath.Join(data, ownDir), secretsFile, append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("writing the embedded registry's secrets: %w; %s", err, remedy(err, data))
	}
	return nil
}

// replace makes the document the one on disk: all of it or, on error, nothing.
func (d document) replace(data string, before document) error {
	same := maps.Equal(d.values, before.values)
	if !same {
		if err := d.saveSecrets(data, before); err != nil {
			return err
		}
	}
	if err := d.save(data); err != nil {
		return err
	}
	if !same { // what is left over harms nobody: the next change drops it
		_ = d.saveSecrets(data, document{})
	}
	return nil
}

// checkSecret refuses a secret that the change's object cannot have.
func (c Change) checkSecret() error {
	key := c.Object.Key
	switch {
	case c.Secret == "":
		return nil
	case key.Kind != schema.KindWebhook || c.Delete:
		return fmt.Errorf("%s: %w: it has no secret", key, ErrInvalid)
	case len(c.Secret) > maxSecret || strings.ContainsFunc(c.Secret, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("%s: %w: auth is the value of a header, of at most %d bytes on one line", key, ErrInvalid, maxSecret)
	}
	return nil
}

// keepSecret puts the change's secret into the document; did tells whether it
// is another than before.
func (c Change) keepSecret(next *document, version string) (did bool) {
	name := c.Object.Key.String()
	if have, ok := next.values[next.Secrets[name]]; c.Secret == "" || ok && sameSecret(have, c.Secret) {
		return false
	}
	id := secretID(c.Object.Key, version)
	next.Secrets[name], next.values[id] = id, c.Secret
	return true
}

// dropSecrets forgets the secrets of objects that are gone.
func (d *document) dropSecrets(objects map[schema.Key]schema.Resource) {
	used := map[string]string{}
	for name, id := range d.Secrets {
		key, err := schema.ParseKey(name)
		if _, ok := objects[key]; err != nil || !ok {
			delete(d.Secrets, name)
			continue
		}
		used[id] = d.values[id]
	}
	d.values = used
}

// checkKeptSecret reports whether an object's secret is the one given.
func (d document) checkKeptSecret(key schema.Key, secret string) bool {
	have, ok := d.values[d.Secrets[key.String()]]
	return sameSecret(have, secret) && ok
}

// sameSecret takes as long whatever the secrets are, for a length of b.
func sameSecret(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
