// Package state keeps what ocisync remembers between runs: the inventory of
// what it wrote and owns, the journal of what it did, and the lock that lets
// one writer at a time at a registry.
//
// Start with [Open], which reads an inventory and says how far it can be
// trusted, and [Seal], which writes one; a [Store] holds the sealed text,
// [Machine] finds the files this computer keeps. [OpenJournal] and [Acquire]
// are what an apply begins with.
//
// Nothing here holds a secret: specs refer to secrets, and values that cannot
// be read back are kept as hashes made with the state key. What would break
// that is refused when it is written.
package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/schema"
)

// Format is the version of the inventory's JSON form.
const Format = 1

// Identity says what an inventory, journal or serial belongs to.
type Identity struct {
	Mode     string
	Registry plan.Registry
}

func (id Identity) String() string {
	return fmt.Sprintf("mode %s of %s registry %s", id.Mode, id.Registry.Type, id.Registry.URL)
}

// same compares modulo what makes no other registry: a slash at the URL's end.
func (id Identity) same(o Identity) bool {
	return id.Mode == o.Mode && id.Registry.Type == o.Registry.Type &&
		strings.TrimSuffix(id.Registry.URL, "/") == strings.TrimSuffix(o.Registry.URL, "/")
}

// Inventory is what ocisync last wrote to one registry from one mode. Its
// zero value owns nothing. Not safe for concurrent use.
type Inventory struct {
	Format   int           `json:"format"`
	Mode     string        `json:"mode"`
	Registry plan.Registry `json:"registry"`
	// Instance is the name of the ocisync that wrote it, among several that
	// share a registry.
	Instance string `json:"instance,omitempty"`
	// Serial grows by at least one with each write; see [NextSerial].
	Serial   int64     `json:"serial"`
	Run      string    `json:"run,omitempty"`
	Revision string    `json:"revision,omitempty"`
	Actor    string    `json:"actor,omitempty"`
	Time     time.Time `json:"time,omitzero"`
	// Objects is sorted by key, each key once; change it with Put and Drop.
	Objects []Object `json:"objects"`
	// Protected holds the key patterns of policy.protect; sorted.
	Protected []string `json:"protected,omitempty"`
	// Purging holds the keys of namespaces that are deleted with their content;
	// sorted.
	Purging []string `json:"purging,omitempty"`
	// Archiving holds the keys of namespaces that are locked instead of deleted;
	// sorted.
	Archiving []string `json:"archiving,omitempty"`
	// Pruned lists the kinds of which objects were pruned before; sorted.
	Pruned []schema.Kind `json:"pruned,omitempty"`
	// Approvals lists the approvals that were used, oldest first.
	Approvals []Approval `json:"approvals,omitempty"`
}

// Approval is a plan's digest that was approved and applied, once.
type Approval struct {
	Digest string    `json:"digest"`
	Time   time.Time `json:"time"`
	Run    string    `json:"run,omitempty"`
}

// Object is what was last applied of one object.
type Object struct {
	Key schema.Key
	// Spec is what was written; secrets in it are references.
	Spec schema.Spec
	// Hashes stands for the values that cannot be read back; sorted by path.
	Hashes []Hash
	// Owned objects were made or adopted by ocisync; others are only managed.
	Owned bool
	// Instance is the ocisync that owns it.
	Instance string
	// Content is what a mirror copied: its tags, sorted, as they were then. One that it
	// could not copy when it was applied has no digest.
	Content []Tag
}

// Tag is a tag of a registry, and what it was.
type Tag struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
}

// Hash is the keyed hash of a value that a registry does not give back, made
// by [Key.Hash].
type Hash struct {
	Path string `json:"path"`
	HMAC string `json:"hmac"`
	// AsOf is a second, by the registry's clock, in which it had the value; zero where
	// none is known. The hash is of it too: nobody else moves it.
	AsOf time.Time `json:"as_of,omitzero"`
}

// TagsOf is a list of tags, sorted, from a table of digests by name.
func TagsOf(digests map[string]string) []Tag {
	var out []Tag
	for _, name := range slices.Sorted(maps.Keys(digests)) {
		out = append(out, Tag{name, digests[name]})
	}
	return out
}

type objectJSON struct {
	Key      schema.Key      `json:"key"`
	Spec     json.RawMessage `json:"spec"`
	Hashes   []Hash          `json:"hashes,omitempty"`
	Owned    bool            `json:"owned,omitempty"`
	Instance string          `json:"instance,omitempty"`
	Content  []Tag           `json:"content,omitempty"`
}

// MarshalJSON refuses a spec that holds a secret instead of a reference.
func (o Object) MarshalJSON() ([]byte, error) {
	if err := checkSpec(o.Key, o.Spec); err != nil {
		return nil, err
	}
	spec, err := json.Marshal(o.Spec)
	if err != nil {
		return nil, err
	}
	return json.Marshal(objectJSON{o.Key, spec, o.Hashes, o.Owned, o.Instance, o.Content})
}

// UnmarshalJSON refuses unknown fields.
func (o *Object) UnmarshalJSON(b []byte) error {
	var j objectJSON
	if err := strictJSON(b, &j); err != nil {
		return err
	}
	spec, err := schema.NewSpec(j.Key.Kind)
	if err != nil {
		return err
	}
	if len(j.Spec) > 0 && string(j.Spec) != "null" {
		if err := strictJSON(j.Spec, &spec); err != nil {
			return fmt.Errorf("%s: %w", j.Key, err)
		}
	}
	*o = Object{j.Key, spec, j.Hashes, j.Owned, j.Instance, j.Content}
	return nil
}

func strictJSON[T any](b []byte, into *T) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("something follows the JSON value")
	}
	return nil
}

// Identity says what the inventory belongs to.
func (inv Inventory) Identity() Identity { return Identity{inv.Mode, inv.Registry} }

func byKey(o Object, k schema.Key) int { return o.Key.Compare(k) }

// Get finds an object in logarithmic time.
func (inv Inventory) Get(k schema.Key) (Object, bool) {
	i, ok := slices.BinarySearchFunc(inv.Objects, k, byKey)
	if !ok {
		return Object{}, false
	}
	return inv.Objects[i], true
}

// Owns reports whether the object was made or adopted by this inventory's
// instance.
func (inv Inventory) Owns(k schema.Key) bool {
	o, ok := inv.Get(k)
	return ok && o.Owned && o.Instance == inv.Instance
}

// Managed reports whether the object was applied before, owned or not.
func (inv Inventory) Managed(k schema.Key) bool {
	_, ok := inv.Get(k)
	return ok
}

// HasPruned reports whether an object of the kind was pruned before.
func (inv Inventory) HasPruned(k schema.Kind) bool {
	_, ok := slices.BinarySearch(inv.Pruned, k)
	return ok
}

// Approved reports whether the approval was used before.
func (inv Inventory) Approved(digest string) bool {
	return slices.ContainsFunc(inv.Approvals, func(a Approval) bool { return a.Digest == digest })
}

// Put adds or replaces objects. Many at once cost one sort; of two with the
// same key the later stays.
func (inv *Inventory) Put(objects ...Object) {
	if len(objects) == 1 {
		i, ok := slices.BinarySearchFunc(inv.Objects, objects[0].Key, byKey)
		if ok {
			inv.Objects[i] = objects[0]
		} else {
			inv.Objects = slices.Insert(inv.Objects, i, objects[0])
		}
		return
	}
	all := slices.Concat(inv.Objects, objects)
	slices.SortStableFunc(all, func(a, b Object) int { return a.Key.Compare(b.Key) })
	out := all[:0]
	for _, o := range all {
		if n := len(out); n > 0 && out[n-1].Key == o.Key {
			out[n-1] = o
			continue
		}
		out = append(out, o)
	}
	inv.Objects = out
}

// Drop removes an object; one that is not there is no error.
func (inv *Inventory) Drop(k schema.Key) {
	if i, ok := slices.BinarySearchFunc(inv.Objects, k, byKey); ok {
		inv.Objects = slices.Delete(inv.Objects, i, i+1)
	}
}

// Rename moves an object to another name and, for a namespace, what hangs on
// it. Ownership moves along. Hashes do not, since they are bound to the name:
// the values count as not checked until they are written again.
func (inv *Inventory) Rename(from, to schema.Key) error {
	if from.Kind != to.Kind {
		return fmt.Errorf("%s cannot become %s: an object keeps its kind", from, to)
	}
	if from == to {
		return nil
	}
	objects := slices.Clone(inv.Objects)
	var taken []string
	for i, o := range objects {
		moved := to
		if o.Key != from {
			if ns, ok := o.Key.Namespace(); !ok || ns != from {
				continue
			}
			moved = o.Key.In(to.Name)
		}
		if inv.Managed(moved) {
			taken = append(taken, moved.String())
		}
		objects[i].Key, objects[i].Hashes = moved, nil
	}
	if len(taken) > 0 {
		return fmt.Errorf("%s cannot become %s: %s is recorded already; forget it first", from, to, strings.Join(taken, ", "))
	}
	slices.SortFunc(objects, func(a, b Object) int { return a.Key.Compare(b.Key) })
	inv.Objects = objects
	return nil
}

// MarkPruned remembers that objects of the kinds were pruned.
func (inv *Inventory) MarkPruned(kinds ...schema.Kind) {
	inv.Pruned = append(inv.Pruned, kinds...)
	slices.Sort(inv.Pruned)
	inv.Pruned = slices.Compact(inv.Pruned)
}

// NextSerial is the serial to write after an inventory, on a machine that has
// seen another one: higher than both, so that it counts as the newer.
func NextSerial(inv Inventory, seen int64) int64 { return max(inv.Serial, seen) + 1 }

// normalize sorts what is promised to be sorted, and refuses a key that
// stands twice.
func (inv *Inventory) normalize() error {
	if inv.Objects == nil {
		inv.Objects = []Object{}
	}
	less := func(a, b Object) int { return a.Key.Compare(b.Key) }
	if !slices.IsSortedFunc(inv.Objects, less) {
		inv.Objects = slices.Clone(inv.Objects)
		slices.SortFunc(inv.Objects, less)
	}
	for i := 1; i < len(inv.Objects); i++ {
		if inv.Objects[i].Key == inv.Objects[i-1].Key {
			return fmt.Errorf("%s stands twice in the inventory", inv.Objects[i].Key)
		}
	}
	inv.Time = inv.Time.UTC()
	inv.Protected = sorted(inv.Protected)
	inv.Purging = sorted(inv.Purging)
	inv.Archiving = sorted(inv.Archiving)
	inv.Pruned = sorted(inv.Pruned)
	return nil
}

func sorted[T ~string](list []T) []T {
	out := slices.Clone(list)
	slices.Sort(out)
	return slices.Compact(out)
}
