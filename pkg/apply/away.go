package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// ErrNowhere says that a registry is neither here nor answers, and that nothing
// shows that it was ever applied to: it may be a new one, or one of another host
// that is down.
var ErrNowhere = errors.New("nothing is known of it")

// where says where the registry is. ErrNowhere.
func (c Cycle) where(ctx context.Context) (providers.Place, error) {
	h, ok := c.Provider.(providers.Hosted)
	if !ok {
		return providers.Here, nil
	}
	where, err := h.Where(ctx)
	if err == nil && where == providers.Nowhere && !c.New && c.Trust.Known == "" {
		start := "start it with `ocisync up`"
		if c.Config.Registry.Run == nil {
			start = "have it started"
		}
		err = fmt.Errorf("%s: %w: it does not answer, and nothing of it is on this host; if it is a new registry, say --new, or %s; if it runs on another host, it is down or not reached from here: start it there, or correct registry.url", c.Config.Registry.URL, ErrNowhere, start)
	}
	return where, err
}

// asRecorded adds to what was observed of a registry of another host what the
// inventory recorded of the rest, and lists the kinds of which it did.
func (c Cycle) asRecorded(live schema.State, where providers.Place, asked schema.Scope) (schema.State, []schema.Kind) {
	h, ok := c.Provider.(providers.Hosted)
	if !ok || where != providers.Away || !c.Trust.Usable() {
		return live, nil
	}
	kinds := slices.DeleteFunc(h.Filed(), func(k schema.Kind) bool { return !slices.Contains(asked.Kinds, k) })
	live.Scope.Kinds = append(slices.Clone(live.Scope.Kinds), kinds...)
	slices.Sort(live.Scope.Kinds)
	live.Scope.Kinds = slices.Compact(live.Scope.Kinds)
	live.Resources = slices.Clone(live.Resources)
	for _, o := range c.Inventory.Objects {
		if !slices.Contains(kinds, o.Key.Kind) {
			continue
		}
		r := schema.Resource{Key: o.Key, Spec: o.Spec}
		for _, s := range schema.Secrets(o.Spec) { // the keyed hash tells
			r.Unread = append(r.Unread, s.Path)
		}
		slices.Sort(r.Unread)
		i := slices.IndexFunc(live.Resources, func(x schema.Resource) bool { return x.Key == o.Key })
		if i < 0 {
			i = len(live.Resources)
			live.Resources = append(live.Resources, schema.Resource{})
		}
		live.Resources[i] = besides(r, live.Resources[i])
	}
	return live, kinds
}

// Untold lists the desired objects of a registry of another host of which nothing
// is known: neither observed nor recorded. Whether they are as declared nobody can
// say.
func (f Found) Untold() (keys []schema.Key) {
	if f.Where != providers.Away {
		return nil
	}
	for _, r := range f.Desired.Resources {
		if !f.Live.Scope.Covers(r.Key) {
			keys = append(keys, r.Key)
		}
	}
	return keys
}

// besides is what was recorded with what was observed of the same settings in
// its place.
func besides(recorded, observed schema.Resource) schema.Resource {
	then, ok := recorded.Spec.(*schema.Settings)
	if !ok {
		return recorded
	}
	var values schema.Values
	if now, ok := observed.Spec.(*schema.Settings); ok {
		values = slices.Clone(now.Values)
	}
	for _, v := range then.Values {
		_, secret := v.Secret()
		if !secret && !slices.ContainsFunc(values, func(o schema.Value) bool { return o.Path == v.Path }) {
			values = append(values, v)
		}
	}
	recorded.Version = observed.Version
	slices.SortFunc(values, func(a, b schema.Value) int { return strings.Compare(a.Path, b.Path) })
	recorded.Spec = &schema.Settings{Values: values}
	return recorded
}

// recordedAt is when the inventory was written.
func (c Cycle) recordedAt() string { return c.Inventory.Time.UTC().Format(time.RFC3339) }

// remoteness says of a registry of another host what is seen of it from here.
func (c Cycle) remoteness(where providers.Place, recorded []schema.Kind) []plan.Note {
	switch {
	case where != providers.Away:
		return nil
	case len(recorded) == 0:
		return []plan.Note{{Text: "the registry is configured by files of another host, and nothing that this run may trust is recorded of them: `ocisync apply` there records it, in an inventory that is kept in the registry (state.store)"}}
	}
	text := "the registry is configured by files of another host: what they hold is as recorded at " + c.recordedAt()
	if c.Inventory.Actor != "" {
		text += " by " + c.Inventory.Actor
	}
	if c.Inventory.Revision != "" {
		text += ", revision " + c.Inventory.Revision
	}
	return []plan.Note{{Text: text}}
}
