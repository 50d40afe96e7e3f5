package providers

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/schema"
)

// ContentKinds are those that ocisync's own engine takes of a registry with a table:
// content, and, where the registry itself knows nothing of them, the other registries
// that content comes from and the keys that must have signed it.
func ContentKinds(t schema.Table) []schema.Kind {
	kinds := []schema.Kind{schema.KindMirror, schema.KindArtifact}
	for _, k := range []schema.Kind{schema.KindRemote, schema.KindTrust} {
		if t.Find(k, "").Support == schema.Unsupported {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// Keyless is what the tables say of identities.
const Keyless = "by an ocisync that was built with -tags keyless"

// WithContent is a registry's table with what ocisync's own engine can do there in the
// place of what the registry cannot.
func WithContent(t schema.Table) schema.Table {
	const (
		itself = "ocisync copies it, by /v2/"
	)
	kinds := ContentKinds(t)
	out := slices.DeleteFunc(slices.Clone(t), func(c schema.Capability) bool { return slices.Contains(kinds, c.Kind) })
	if slices.Contains(kinds, schema.KindRemote) {
		out = append(out, schema.Capability{Kind: schema.KindRemote, Support: schema.Emulated, Reason: "ocisync itself speaks to it, for mirrors"})
	}
	if slices.Contains(kinds, schema.KindTrust) {
		out = append(out,
			schema.Capability{Kind: schema.KindTrust, Support: schema.Emulated, Reason: "ocisync checks it of what it copies there by mirrors; who pushes by himself is not asked"},
			schema.Capability{Kind: schema.KindTrust, Field: "identities", Support: schema.Emulated, Reason: Keyless},
			schema.Capability{Kind: schema.KindTrust, Field: "required", Support: schema.Unsupported, Reason: "the registry lets everybody pull what is not signed"},
			schema.Capability{Kind: schema.KindTrust, Field: "notation", Support: schema.Unsupported, Reason: "signatures of Notation are not part of this version of ocisync"},
		)
	}
	return append(
		out,
		schema.Capability{Kind: schema.KindMirror, Support: schema.Emulated, Reason: itself},
		schema.Capability{Kind: schema.KindMirror, Field: "trust.identities", Support: schema.Emulated, Reason: Keyless},
		schema.Capability{Kind: schema.KindMirror, Field: "trust.required", Support: schema.Unsupported, Reason: "of the keys and identities that are named, one is required"},
		schema.Capability{Kind: schema.KindMirror, Field: "trust.notation", Support: schema.Unsupported, Reason: "signatures of Notation are not part of this version of ocisync"},
		schema.Capability{Kind: schema.KindArtifact, Support: schema.Emulated, Reason: "ocisync pushes it, by /v2/"},
	)
}

// ContentOwner is what a provider of content offers: what it wrote is known by nothing else
// than what it says of it.
type ContentOwner interface {
	// Content lists the tags that an object it wrote owns, by name, with an empty digest
	// those that it could not bring; ok is false of one that it did not write.
	Content(key schema.Key) (tags map[string]string, ok bool)
}

// Join has one provider for all kinds and another for those of content. It is no more
// than a [Provider] and a [Checker].
func Join(registry, content Provider) Provider {
	if content == nil {
		return registry
	}
	return joined{registry, content, ContentKinds(registry.Capabilities())}
}

type joined struct {
	registry, content Provider
	kinds             []schema.Kind // of the content
}

var _ Checker = joined{}

// of is the provider of a kind.
func (j joined) of(k schema.Kind) Provider {
	if slices.Contains(j.kinds, k) {
		return j.content
	}
	return j.registry
}

func (j joined) Capabilities() schema.Table { return WithContent(j.registry.Capabilities()) }

func (j joined) Batch() Batch { return j.registry.Batch() }

func (j joined) Normalize(s schema.State) (schema.State, []plan.Note, error) {
	s, notes, err := j.registry.Normalize(s)
	if err != nil {
		return s, nil, err
	}
	s, more, err := j.content.Normalize(s)
	return s, append(notes, more...), err
}

func (j joined) Read(ctx context.Context, scope schema.Scope) (schema.State, error) {
	mine := scope
	mine.Kinds = slices.DeleteFunc(slices.Clone(scope.Kinds), func(k schema.Kind) bool { return !slices.Contains(j.kinds, k) })
	rest := scope
	rest.Kinds = slices.DeleteFunc(slices.Clone(scope.Kinds), func(k schema.Kind) bool { return slices.Contains(j.kinds, k) })
	s, err := j.registry.Read(ctx, rest)
	if err != nil || len(mine.Kinds) == 0 {
		return s, err
	}
	mine.Repositories = nil
	content, err := j.content.Read(ctx, mine)
	if err != nil {
		return s, err
	}
	s.Resources = append(slices.Clone(s.Resources), content.Resources...)
	s.Scope.Kinds = append(slices.Clone(s.Scope.Kinds), content.Scope.Kinds...)
	slices.Sort(s.Scope.Kinds)
	s.Scope.Except = append(slices.Clone(s.Scope.Except), content.Scope.Except...)
	slices.SortFunc(s.Scope.Except, schema.Key.Compare)
	return s, nil
}

func (j joined) Check(ctx context.Context, key schema.Key, field string, ref schema.SecretRef) (bool, error) {
	return check(ctx, j.of(key.Kind), key, field, ref)
}

// parts cuts a list of changes in two, and says where each was.
func (j joined) parts(changes []plan.Change) (registry, content []plan.Change, at [2][]int) {
	for i, c := range changes {
		if slices.Contains(j.kinds, c.Key.Kind) {
			content, at[1] = append(content, c), append(at[1], i)
		} else {
			registry, at[0] = append(registry, c), append(at[0], i)
		}
	}
	return registry, content, at
}

func (j joined) Prepare(ctx context.Context, changes []plan.Change) ([]Verdict, error) {
	registry, content, at := j.parts(changes)
	out := make([]Verdict, len(changes))
	if _, ok := j.registry.(ContentPreparer); ok {
		return j.prepareBoth(ctx, changes, content, at[1])
	}
	for i, part := range []struct {
		p    Provider
		list []plan.Change
	}{{j.registry, registry}, {j.content, content}} {
		if len(part.list) == 0 {
			continue
		}
		verdicts, err := part.p.Prepare(ctx, part.list)
		if err != nil {
			return nil, err
		}
		if len(verdicts) != len(part.list) {
			return nil, fmt.Errorf("provider prepared %d of %d changes", len(verdicts), len(part.list))
		}
		for n, v := range verdicts {
			out[at[i][n]] = v
		}
	}
	return out, nil
}

// prepareBoth asks the registry of all changes, and of content the other where the
// registry refuses nothing.
func (j joined) prepareBoth(ctx context.Context, changes, content []plan.Change, at []int) ([]Verdict, error) {
	out, err := j.registry.Prepare(ctx, changes)
	if err != nil || len(content) == 0 {
		return out, err
	}
	if len(out) != len(changes) {
		return nil, fmt.Errorf("provider prepared %d of %d changes", len(out), len(changes))
	}
	var ask []plan.Change
	var where []int
	for n, c := range content {
		if out[at[n]].Refused == "" {
			ask, where = append(ask, c), append(where, at[n])
		}
	}
	if len(ask) == 0 {
		return out, nil
	}
	more, err := j.content.Prepare(ctx, ask)
	if err != nil {
		return nil, err
	}
	if len(more) != len(ask) {
		return nil, fmt.Errorf("provider prepared %d of %d changes", len(more), len(ask))
	}
	for n, v := range more {
		v.Notes = append(v.Notes, out[where[n]].Notes...)
		out[where[n]] = v
	}
	return out, nil
}

// Write makes the registry's changes first: content lies in what they make.
func (j joined) Write(ctx context.Context, changes []plan.Change, report func(schema.Key, error)) error {
	registry, content, _ := j.parts(changes)
	var mu sync.Mutex
	failed := map[schema.Key]bool{}
	if len(registry) > 0 {
		noting := func(k schema.Key, err error) {
			mu.Lock()
			failed[k] = err != nil
			mu.Unlock()
			report(k, err)
		}
		if err := j.registry.Write(ctx, registry, noting); err != nil {
			return err
		}
	}
	content = slices.DeleteFunc(content, func(c plan.Change) bool {
		for _, need := range c.Needs() {
			if failed[need] {
				report(c.Key, fmt.Errorf("it needs %s, which was not done", need))
				return true
			}
		}
		return false
	})
	if len(content) == 0 {
		return nil
	}
	return j.content.Write(ctx, content, report)
}
