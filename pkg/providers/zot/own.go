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
	// Data is the data directory, for whom it was moved from; "" is not known.
	Data string `json:"data,omitempty"`
	// Full are the namespaces that push is withdrawn in, and Withdrawn what
	// that makes of patterns; while a write is under way, also what it will.
	Full      map[string]full `json:"full,omitempty"`
	Withdrawn []withdrawn     `json:"withdrawn,omitempty"`
	// Loaded is what Zot was last seen to run with.
	Loaded loaded `json:"loaded,omitzero"`
	// Started is the configuration that it was started with last, where somebody had
	// written into it since; "" where that is Loaded's.
	Started string `json:"started,omitempty"`
}

// loaded is a configuration that a process took over.
type loaded struct {
	Process string `json:"process,omitempty"` // as providers.ProcessStatus.ID
	Inode   uint64 `json:"inode,omitempty"`   // of the file it watches
	Config  string `json:"config,omitempty"`
	// Accounts is the digest of the file of accounts; "" is not known.
	Accounts string `json:"accounts,omitempty"`
}

// private refuses a directory of the file that somebody else could have made,
// such as a Zot that runs as the owner of its data.
func (p *Provider) private() error {
	if p.paths.data == "" {
		return nil
	}
	return regular.Private(p.paths.data, filepath.Base(filepath.Dir(p.paths.own)))
}

// ownFile reads the file; one that is absent is a new one.
func (p *Provider) ownFile() (own, error) {
	o := own{Format: ownFormat}
	if err := p.private(); err != nil {
		return o, err
	}
	name := p.paths.own
	dir, err := os.OpenRoot(filepath.Dir(name))
	if errors.Is(err, fs.ErrNotExist) {
		return o, nil
	}
	if err != nil {
		return o, err
	}
	defer dir.Close()
	text, err := regular.ReadOwn(dir, filepath.Base(name), maxOwn)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return o, nil
	case errors.Is(err, regular.ErrLarge):
		return o, fmt.Errorf("%s: larger than %d MiB; %s", name, maxOwn>>20, restoreOwn)
	case err != nil:
		return o, err
	}
	return parseOwn(name, text)
}

const restoreOwn = "restore it from a backup, or move it away and apply the mode again"

func parseOwn(name string, text []byte) (own, error) {
	o := own{Format: ownFormat}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	err := dec.Decode(&o)
	switch { // a field that is not known is said when all are read
	case o.Format != ownFormat:
		return o, fmt.Errorf("%s: format %d, and this ocisync reads format %d; use the ocisync that wrote it, or a newer one", name, o.Format, ownFormat)
	case err != nil:
		return o, fmt.Errorf("%s: %w; %s", name, err, restoreOwn)
	}
	st := schema.State{Resources: o.Objects}
	if err := st.Sort(); err != nil {
		return o, fmt.Errorf("%s: %w; %s", name, err, restoreOwn)
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
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := renameio.NewPendingFile(name, renameio.WithPermissions(0o600), renameio.WithExistingPermissions())
	if err != nil {
		return err
	}
	defer func() { _ = f.Cleanup() }() // nothing is left of one that took the name
	if err := json.NewEncoder(f).Encode(o.keyed()); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// same reports whether two say the same.
func (o own) same(other own) bool {
	sum := func(o own) []byte {
		h := sha256.New()
		if json.NewEncoder(h).Encode(o) != nil { // it always encodes, and a hash takes anything
			return nil
		}
		return h.Sum(nil)
	}
	return bytes.Equal(sum(o), sum(other))
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
	// Place is where it was delivered to, as schema.Robot.Place says; "" where
	// that was not kept.
	Place string `json:"place,omitempty"`
	// Replaced is when another account took its place, and Ends when it stops
	// working for that; zero while it is the robot's newest.
	Replaced time.Time `json:"replaced,omitzero"`
	Ends     time.Time `json:"ends,omitzero"`
	// Ended says that the account has expired, whatever the clock says later.
	Ended bool   `json:"ended,omitempty"`
	Hash  string `json:"hash"` // of the secret, as htpasswd has it while the account works
}

// expires is when the account of a robot expires; zero for never.
func (a account) expires(spec *schema.Robot) time.Time {
	if spec.Expires != nil && *spec.Expires > 0 {
		return a.Made.Add(spec.Expires.Std())
	}
	return time.Time{}
}

// clockSlack is how far a clock may go back without anybody being suspicious.
const clockSlack = 5 * time.Minute

// ahead reports whether the account was made at a time that is to come, so that
// a clock was or is wrong.
func (a account) ahead(now time.Time) bool { return a.Made.After(now.Add(clockSlack)) }

// ended reports whether the account has stopped working.
func (a account) ended(spec *schema.Robot, now time.Time) bool {
	after := func(end time.Time) bool { return !end.IsZero() && !now.Before(end) }
	return a.Ended || after(a.Ends) || after(a.expires(spec))
}

// works reports whether one can log in with the account.
func (a account) works(spec *schema.Robot, now time.Time) bool {
	return (spec.Enabled == nil || *spec.Enabled) && !a.ended(spec, now)
}

// sweep writes down which accounts have ended by now, so that no clock that is
// set back brings one to life: those that another took the place of go, and one
// that has expired is marked.
func (o own) sweep(now time.Time) (changed bool) {
	kept := o.kept()
	for name, accounts := range o.Robots {
		key, err := schema.ParseKey(name)
		spec, ok := kept[key].(*schema.Robot)
		if err != nil || !ok {
			continue
		}
		var list []account
		did := false
		for _, a := range accounts {
			if a.Replaced.After(now.Add(clockSlack)) { // by a clock that was ahead: the overlap begins now
				a.Ends = now.Add(a.Ends.Sub(a.Replaced))
				a.Replaced, did = now, true
			}
			if a.ended(spec, now) {
				if !a.Ends.IsZero() {
					did = true
					continue
				}
				did = did || !a.Ended
				a.Ended = true
			}
			list = append(list, a)
		}
		if did {
			o.Robots[name], changed = list, true
		}
	}
	return changed
}

// revive takes back that a robot's accounts have expired where it is said anew
// when they do.
func (o own) revive(name string, before schema.Spec, spec *schema.Robot) {
	old, ok := before.(*schema.Robot)
	if !ok || old.Expires == nil || spec.Expires == nil || *old.Expires == *spec.Expires || o.Robots[name] == nil {
		return
	}
	o.Robots[name] = slices.Clone(o.Robots[name])
	for i := range o.Robots[name] {
		o.Robots[name][i].Ended = false
	}
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
