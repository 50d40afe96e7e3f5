package zot

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/google/renameio/v2"

	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/schema"
)

const (
	ownFormat = 1
	maxOwn    = 64 << 20 // bytes
)

// own is what ocisync itself keeps of a Zot: what Zot has no place for, and
// what its process is known to have taken over. It lies beside the
// configuration, readable by its owner alone.
type own struct {
	Format int `json:"format"`
	// Key makes the versions of objects, which plans show, useless for
	// guessing the secrets among what they stand for.
	Key []byte `json:"key"`
	// Objects are as last written, sorted by key and without secrets: where
	// the files say the same in other words, these words count.
	Objects []schema.Resource `json:"objects"`
	// Robots holds the accounts of robots, by the robot's key.
	Robots map[string][]account `json:"robots,omitempty"`
	// Self is the password of ocisync's own account, which reaches the
	// namespace ocisync alone; "" where there is none.
	Self string `json:"self,omitempty"`
	// Full are the namespaces that push is withdrawn in, and Withdrawn what
	// that makes of patterns; while a write is under way, also what it will.
	Full      map[string]full `json:"full,omitempty"`
	Withdrawn []withdrawn     `json:"withdrawn,omitempty"`
	// Loaded is what Zot was last seen to run with.
	Loaded loaded `json:"loaded,omitzero"`
}

// loaded is a configuration that a process took over.
type loaded struct {
	Process string `json:"process,omitempty"` // as providers.ProcessStatus.ID
	Inode   uint64 `json:"inode,omitempty"`   // of the file it watches
	Config  string `json:"config,omitempty"`
}

// private refuses a directory of the file that somebody else could have made,
// such as a Zot that runs as the owner of its data.
func (p *Provider) private() error {
	if p.paths.data == "" {
		return nil
	}
	return regular.Private(p.paths.data, filepath.Base(filepath.Dir(p.paths.own)))
}

func (p *Provider) ownFile() (own, error) {
	if err := p.private(); err != nil {
		return own{}, err
	}
	return readOwn(p.paths.own)
}

// readOwn reads the file; one that is absent is a new one.
func readOwn(name string) (own, error) {
	o := own{Format: ownFormat}
	f, err := regular.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return o, nil
	}
	if err != nil {
		return o, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxOwn+1))
	if err != nil {
		return o, err
	}
	const restore = "restore it from a backup, or move it away and apply the mode again"
	if len(b) > maxOwn {
		return o, fmt.Errorf("%s: larger than %d MiB; %s", name, maxOwn>>20, restore)
	}
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return o, fmt.Errorf("%s: %w; %s", name, err, restore)
	}
	if head.Format != ownFormat {
		return o, fmt.Errorf("%s: format %d, and this ocisync reads format %d; use the ocisync that wrote it, or a newer one", name, head.Format, ownFormat)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&o); err != nil {
		return o, fmt.Errorf("%s: %w; %s", name, err, restore)
	}
	st := schema.State{Resources: o.Objects}
	if err := st.Sort(); err != nil {
		return o, fmt.Errorf("%s: %w; %s", name, err, restore)
	}
	return o, nil
}

// keyed has a key, made now unless there is one.
func (o own) keyed() own {
	if o.Key == nil {
		o.Key = make([]byte, sha256.Size)
		rand.Read(o.Key) // never fails
	}
	return o
}

// save replaces the file at once or not at all.
func (o own) save(name string) error {
	b, err := json.MarshalIndent(o.keyed(), "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(name, append(b, '\n'), 0o600)
}

// keep is the file with the given objects in the place of its own.
func (o own) keep(objects map[schema.Key]schema.Resource) own {
	o.Objects = make([]schema.Resource, 0, len(objects))
	for _, r := range objects {
		o.Objects = append(o.Objects, schema.Resource{Key: r.Key, Spec: r.Spec})
	}
	slices.SortFunc(o.Objects, func(a, b schema.Resource) int { return a.Key.Compare(b.Key) })
	return o
}

// kept are the objects by key.
func (o own) kept() map[schema.Key]schema.Spec {
	out := make(map[schema.Key]schema.Spec, len(o.Objects))
	for _, r := range o.Objects {
		out[r.Key] = r.Spec
	}
	return out
}

// version stands for an object and what is secret of it.
func (o own) version(r schema.Resource, secret string) string {
	b, err := json.Marshal(r.Spec)
	if err != nil {
		return ""
	}
	mac := hmac.New(sha256.New, o.Key)
	mac.Write(b)
	if len(o.Key) > 0 { // else it could be guessed
		mac.Write([]byte(strconv.Quote(secret)))
	}
	return hex.EncodeToString(mac.Sum(nil)[:8])
}

// account is one of a robot's logins, at most two.
type account struct {
	Login string    `json:"login"`
	Made  time.Time `json:"made"`
	// Delivered says that the secret is known to be where it belongs.
	Delivered bool `json:"delivered"`
	// Ends is when the account stops working because another took its place;
	// zero while it is the robot's newest.
	Ends time.Time `json:"ends,omitzero"`
	Hash string    `json:"hash"` // of the secret, as htpasswd has it while the account works
}

// expires is when the account of a robot expires; zero for never.
func (a account) expires(spec *schema.Robot) time.Time {
	if spec.Expires != nil && *spec.Expires > 0 {
		return a.Made.Add(spec.Expires.Std())
	}
	return time.Time{}
}

// works reports whether one can log in with the account.
func (a account) works(spec *schema.Robot, now time.Time) bool {
	before := func(end time.Time) bool { return end.IsZero() || now.Before(end) }
	return (spec.Enabled == nil || *spec.Enabled) && before(a.Ends) && before(a.expires(spec))
}

// newest is the account that no other has taken the place of.
func newest(accounts []account) (account, bool) {
	i := slices.IndexFunc(accounts, func(a account) bool { return a.Ends.IsZero() })
	for j := range accounts {
		if accounts[j].Ends.IsZero() && accounts[j].Made.After(accounts[i].Made) {
			i = j
		}
	}
	if i < 0 {
		return account{}, false
	}
	return accounts[i], true
}

// sortedKeys lists a map's keys in order.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
