package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/state"
	"github.com/ocisync/ocisync/schema"
)

type fieldKey struct {
	key  schema.Key
	path string
}

// comparing is how many secrets are compared at once: a hash of a password takes a
// core for a tenth of a second, a login a request.
const comparing = 8

// secrets compares, before the pure diff, every declared secret that the live
// object also has. One that this run cannot resolve is not checked; the note
// says why, if there is more to say than that it is not at hand.
//
// It asks by the name that an object has live.
func (c Cycle) secrets(ctx context.Context, p providers.Provider, desired, live schema.State) (map[fieldKey]plan.Match, []plan.Note, error) {
	out := map[fieldKey]plan.Match{}
	if c.AtHand == nil { // nothing is known of any
		return out, nil, nil
	}
	var notes []plan.Note
	var mu sync.Mutex
	work, within := errgroup.WithContext(ctx)
	work.SetLimit(comparing)
	former := plan.Former(desired, live, c.Config.Directives)
	for _, r := range desired.Resources {
		key := former(r.Key)
		have, ok := live.Get(key)
		if !ok || len(have.Unread) == 0 {
			continue
		}
		_, refs := plan.Managed(r.Spec)
		for path, ref := range refs {
			value, ok, err := c.AtHand(ctx, ref)
			switch {
			case ctx.Err() != nil:
				return nil, nil, cmp.Or(work.Wait(), ctx.Err())
			case err != nil:
				notes = append(notes, plan.Note{Key: r.Key, Text: fmt.Sprintf("%s: %v", path, err)})
				continue
			case !ok:
				continue
			}
			work.Go(func() error {
				m, err := c.secret(within, p, key, path, ref, value)
				mu.Lock()
				defer mu.Unlock()
				out[fieldKey{key, path}] = m
				return err
			})
		}
	}
	if err := work.Wait(); err != nil {
		return nil, nil, err
	}
	return out, notes, nil
}

// secret compares one whose value is at hand.
func (c Cycle) secret(ctx context.Context, p providers.Provider, k schema.Key, path string, ref schema.SecretRef, value string) (plan.Match, error) {
	if c.untouched(k, path, value) {
		return plan.Equal, nil
	}
	if ch, can := p.(providers.Checker); can {
		equal, err := ch.Check(ctx, k, path, ref)
		switch {
		case errors.Is(err, providers.ErrUnsupported):
		case err != nil:
			return plan.Unknown, err
		case equal:
			return plan.Equal, nil
		case c.hashed(k, path, value) == plan.Equal:
			return plan.Changed, nil
		default:
			return plan.Different, nil
		}
	}
	m := c.hashed(k, path, value)
	if m == plan.Unknown && k.Kind == schema.KindSettings && !c.gave(k, path) {
		return plan.Never, nil
	}
	return m, nil
}

// untouched reports whether a secret is the recorded one, and its object was not changed
// since the registry had it. What a run did is proved by more than its own word.
func (c Cycle) untouched(k schema.Key, path, value string) bool {
	d, ok := c.Provider.(providers.Dater)
	if !ok || c.proof[k] {
		return false
	}
	o, _ := c.Inventory.Get(k)
	asOf := c.Key.AsOf(o, path, value)
	return !asOf.IsZero() && d.Untouched(k, asOf)
}

// hash is what the inventory keeps of a secret: with it a second in which the registry
// had it, if this run knows of one, which is fresh then, or one before did.
func (c Cycle) hash(k schema.Key, path, value string) (h state.Hash, fresh bool) {
	o, _ := c.Inventory.Get(k)
	asOf := c.Key.AsOf(o, path, value)
	if d, ok := c.Provider.(providers.Dater); ok {
		if at := d.AsOf(k, path, value); !at.IsZero() && !at.Equal(asOf) {
			asOf, fresh = at, true
		}
	}
	return c.Key.Hash(k, path, value, asOf), fresh
}

// seen is what is recorded of an object, with what this run learned of its secrets; ok
// is false where that is nothing.
func (c Cycle) seen(ctx context.Context, o state.Object) (_ state.Object, ok bool) {
	if c.Key.IsZero() || c.AtHand == nil {
		return o, false
	}
	for _, f := range schema.Secrets(o.Spec) {
		value, there, err := c.AtHand(ctx, f.Ref)
		if !there || err != nil {
			continue
		}
		h, fresh := c.hash(o.Key, f.Path, value)
		if !fresh {
			continue
		}
		o.Hashes = slices.DeleteFunc(slices.Clone(o.Hashes), func(h state.Hash) bool { return h.Path == f.Path })
		o.Hashes, ok = append(o.Hashes, h), true
	}
	if ok {
		slices.SortFunc(o.Hashes, func(a, b state.Hash) int { return strings.Compare(a.Path, b.Path) })
	}
	return o, ok
}

// gave reports whether the inventory says that ocisync applied a secret. Settings are
// there from the start, and nobody else gives them what a mode declares: one that a
// registry never shows would else be taken for given.
func (c Cycle) gave(k schema.Key, path string) bool {
	o, ok := c.Inventory.Get(k)
	return ok && o.Spec != nil && slices.ContainsFunc(schema.Secrets(o.Spec), func(f schema.SecretField) bool { return f.Path == path })
}

// hashed asks the inventory's keyed hash.
func (c Cycle) hashed(k schema.Key, path, value string) plan.Match {
	o, ok := c.Inventory.Get(k)
	if !ok {
		return plan.Unknown
	}
	switch equal, known := c.Key.Match(o, path, value); {
	case !known:
		return plan.Unknown
	case equal:
		return plan.Equal
	}
	return plan.Different
}

// ownership is the inventory as Diff and Guard see it.
func (c Cycle) ownership(matches map[fieldKey]plan.Match) plan.Ownership {
	o := plan.Ownership{
		Applied: func(k schema.Key) (schema.Spec, bool) {
			obj, ok := c.Inventory.Get(k)
			if !ok || !obj.Owned {
				return nil, false
			}
			return obj.Spec, true
		},
		Secret: func(k schema.Key, path, value string, ref *schema.SecretRef) plan.Match {
			if ref != nil {
				return matches[fieldKey{k, path}]
			}
			return c.hashed(k, path, value)
		},
		Pruned:     c.Inventory.HasPruned,
		FirstSight: c.Trust.First,
		Protected:  c.Inventory.Protected,
		Purging:    c.Inventory.Purging,
		Archiving:  c.Inventory.Archiving,
		MayPrune:   c.Trust.MayDelete(),
		WhyNot:     c.Trust.String(),
	}
	for _, obj := range c.Inventory.Objects {
		if obj.Owned {
			o.Owned = append(o.Owned, obj.Key)
		}
	}
	return o
}

// contentOf is what an object of content owns: as it was written in this run, or as
// the inventory has it.
func (c Cycle) contentOf(k schema.Key) []state.Tag {
	keeper, ok := c.Content.(providers.ContentOwner)
	if !ok {
		return nil
	}
	tags, wrote := keeper.Content(k)
	if !wrote {
		o, _ := c.Inventory.Get(k)
		return o.Content
	}
	return state.TagsOf(tags)
}

// given is what a desired object says, less the secrets among settings that this run
// could not resolve and none before it gave.
func (c Cycle) given(ctx context.Context, want schema.Resource) schema.Spec {
	set, ok := want.Spec.(*schema.Settings)
	if !ok || c.AtHand == nil {
		return want.Spec
	}
	missing := map[string]bool{}
	for _, f := range schema.Secrets(set) {
		if _, ok, err := c.AtHand(ctx, f.Ref); (!ok || err != nil) && !c.gave(want.Key, f.Path) {
			missing[f.Path] = true
		}
	}
	if len(missing) == 0 {
		return set
	}
	return &schema.Settings{Values: slices.DeleteFunc(slices.Clone(set.Values), func(v schema.Value) bool { return missing["values."+v.Path] })}
}

// recordOf is what the inventory keeps of a desired object: what was given of what the
// file says, and keyed hashes of what cannot be read back. A secret that could not be
// resolved has none.
func (c Cycle) recordOf(ctx context.Context, want schema.Resource, instance string) (state.Object, error) {
	o := state.Object{Key: want.Key, Spec: want.Spec, Owned: true, Instance: instance, Content: c.contentOf(want.Key)}
	if c.Key.IsZero() || c.AtHand == nil {
		return o, ctx.Err()
	}
	_, refs := plan.Managed(want.Spec)
	for path, ref := range refs {
		value, ok, err := c.AtHand(ctx, ref)
		if ctx.Err() != nil {
			return o, ctx.Err()
		}
		if ok && err == nil {
			h, _ := c.hash(want.Key, path, value)
			o.Hashes = append(o.Hashes, h)
		}
	}
	slices.SortFunc(o.Hashes, func(a, b state.Hash) int { return strings.Compare(a.Path, b.Path) })
	return o, nil
}
