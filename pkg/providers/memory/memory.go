// Package memory is a registry that lives in the process: a provider that
// supports every kind natively and keeps objects in a map. It serves tests,
// demonstrations of a plan against recorded states, and as the smallest
// complete example of a provider.
//
// Start with [New]; write.go makes the changes.
package memory

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// Provider is an in-memory registry. All methods are safe for concurrent use.
type Provider struct {
	secrets providers.Secrets
	scope   schema.Scope // what can be read; no kinds: all
	key     []byte       // of the digests of secrets

	mu           sync.RWMutex
	objects      map[schema.Key]object
	repositories []schema.RepositoryInfo
	serial       uint64
}

var (
	_ providers.Provider = (*Provider)(nil)
	_ providers.Checker  = (*Provider)(nil)
)

// object is never changed once it is in the map.
type object struct {
	spec schema.Spec
	// secrets holds a keyed digest per field path, so that the provider
	// itself forgets the values; nil for one whose value was never seen.
	secrets map[string][]byte
	version uint64
}

// New makes a registry that holds the initial objects, as Read would return
// them. Their Unread fields are secrets of unknown value; references to
// secrets in their specs count as such too, since nothing is resolved here.
// Where the initial scope names kinds, only what it covers can be read later,
// as with an account that may not see the rest. Secrets may be nil if nothing
// written refers to any. It fails for an object without a fitting spec and for
// a key that stands twice.
func New(secrets providers.Secrets, initial schema.State) (*Provider, error) {
	p := &Provider{
		secrets: secrets,
		scope: schema.Scope{
			Kinds:  slices.Clone(initial.Scope.Kinds),
			Except: slices.Clone(initial.Scope.Except),
		},
		key:          make([]byte, sha256.Size),
		objects:      make(map[schema.Key]object, len(initial.Resources)),
		repositories: slices.Clone(initial.Repositories),
	}
	if _, err := rand.Read(p.key); err != nil {
		return nil, fmt.Errorf("memory registry: making a key: %w", err)
	}
	for _, r := range initial.Resources {
		if _, twice := p.objects[r.Key]; twice {
			return nil, fmt.Errorf("memory registry: %s stands twice in the initial state", r.Key)
		}
		spec, err := canonical(r.Key, r.Spec)
		if err != nil {
			return nil, fmt.Errorf("memory registry: %w", err)
		}
		hidden := map[string][]byte{}
		for _, f := range schema.Secrets(spec) {
			hidden[f.Path] = nil
		}
		for _, path := range r.Unread {
			hidden[path] = nil
		}
		schema.DropSecrets(spec)
		p.serial++
		p.objects[r.Key] = object{spec, hidden, p.serial}
	}
	return p, nil
}

// Capabilities has a row per kind.
func (p *Provider) Capabilities() schema.Table { return Table() }

// Table is what the in-memory registry can do: everything.
func Table() schema.Table {
	var t schema.Table
	for _, k := range schema.Kinds() {
		t = append(t, schema.Capability{Kind: k, Support: schema.Native})
	}
	return t
}

// Batch is by rank.
func (p *Provider) Batch() providers.Batch { return providers.BatchRank }

// Normalize sorts what has no order: resources, sets and tables.
func (p *Provider) Normalize(s schema.State) (schema.State, []plan.Note, error) {
	out := s
	out.Resources = make([]schema.Resource, 0, len(s.Resources))
	out.Repositories = slices.Clone(s.Repositories)
	for _, r := range s.Resources {
		spec, err := canonical(r.Key, r.Spec)
		if err != nil {
			return schema.State{}, nil, err
		}
		r.Spec, r.Unread = spec, slices.Clone(r.Unread)
		out.Resources = append(out.Resources, r)
	}
	return out, nil, out.Sort()
}

// Read returns copies, with Unread naming the secrets an object has.
func (p *Provider) Read(ctx context.Context, want schema.Scope) (schema.State, error) {
	if err := ctx.Err(); err != nil {
		return schema.State{}, p.fail(schema.Key{}, "reading", err, "")
	}
	out := schema.State{Scope: p.readable(want)}
	p.mu.RLock()
	defer p.mu.RUnlock()
	for key, o := range p.objects {
		if !out.Scope.Covers(key) {
			continue
		}
		spec, err := canonical(key, o.spec)
		if err != nil {
			return schema.State{}, p.fail(key, "reading", err, "")
		}
		out.Resources = append(out.Resources, schema.Resource{
			Key: key, Spec: spec,
			Unread:  slices.Sorted(maps.Keys(o.secrets)),
			Version: version(o),
		})
	}
	for _, r := range p.repositories {
		if slices.Contains(want.Repositories, r.Name) {
			out.Repositories = append(out.Repositories, r)
		}
	}
	return out, out.Sort()
}

// readable is what of a wanted scope the registry can speak for.
func (p *Provider) readable(want schema.Scope) schema.Scope {
	s := schema.Scope{
		Except:       append(slices.Clone(want.Except), p.scope.Except...),
		Repositories: slices.Clone(want.Repositories),
	}
	for _, k := range want.Kinds {
		if k.Valid() && (len(p.scope.Kinds) == 0 || slices.Contains(p.scope.Kinds, k)) {
			s.Kinds = append(s.Kinds, k)
		}
	}
	slices.Sort(s.Kinds)
	s.Kinds = slices.Compact(s.Kinds)
	slices.SortFunc(s.Except, schema.Key.Compare)
	s.Except = slices.Compact(s.Except)
	slices.Sort(s.Repositories)
	s.Repositories = slices.Compact(s.Repositories)
	return s
}

// Prepare finds that every change takes hold at once.
func (p *Provider) Prepare(ctx context.Context, changes []plan.Change) ([]providers.Verdict, error) {
	if err := ctx.Err(); err != nil {
		return nil, p.fail(schema.Key{}, "preparing", err, "")
	}
	out := make([]providers.Verdict, len(changes))
	for i := range out {
		out[i].Effect = plan.Live
	}
	return out, nil
}

// Check compares a secret with the one last written. It cannot for a secret
// that was there from the start: ErrUnsupported.
func (p *Provider) Check(ctx context.Context, key schema.Key, field string, ref schema.SecretRef) (bool, error) {
	p.mu.RLock()
	o, exists := p.objects[key]
	p.mu.RUnlock()
	if !exists {
		return false, p.fail(key, "comparing "+field, providers.ErrNotFound, "plan again")
	}
	have := o.secrets[field]
	if have == nil {
		return false, p.fail(key, "comparing "+field, providers.ErrUnsupported, "")
	}
	want, err := p.digest(ctx, key, schema.SecretField{Path: field, Ref: ref})
	if err != nil {
		return false, err
	}
	return hmac.Equal(have, want), nil
}

// digest resolves a reference and returns the keyed digest of its value.
func (p *Provider) digest(ctx context.Context, key schema.Key, f schema.SecretField) ([]byte, error) {
	if p.secrets == nil {
		return nil, p.fail(key, "resolving "+f.Path, providers.ErrUnsupported, "give the registry a resolver of secrets")
	}
	value, err := p.secrets.Resolve(ctx, f.Ref)
	if err != nil {
		return nil, p.fail(key, "resolving "+f.Path, err, "")
	}
	mac := hmac.New(sha256.New, p.key)
	mac.Write([]byte(value))
	return mac.Sum(nil), nil
}

func (p *Provider) fail(key schema.Key, doing string, err error, remedy string) error {
	return &providers.Error{Registry: "memory", Key: key, Doing: doing, Err: err, Remedy: remedy}
}

// canonical copies a spec deeply and sorts what has no order; both follow from
// its JSON form.
func canonical(key schema.Key, s schema.Spec) (schema.Spec, error) {
	if s == nil || s.Kind() != key.Kind {
		return nil, fmt.Errorf("%s: the object has no spec of its kind", key)
	}
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	out, err := schema.NewSpec(key.Kind)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if err := json.Unmarshal(b, out); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return out, nil
}

// below reports whether a field path is the listed one or lies below it.
func below(path, listed string) bool {
	return path == listed || strings.HasPrefix(path, listed+".")
}

func version(o object) string { return strconv.FormatUint(o.version, 10) }
