package memory

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// Write makes the changes one after the other. A change is refused with
// ErrConflict if the object is not the one the change was planned for, and
// with ErrNotFound if the namespace it hangs on does not exist.
func (p *Provider) Write(ctx context.Context, changes []plan.Change, report func(schema.Key, error)) error {
	for _, c := range changes {
		report(c.Key, p.change(ctx, c))
	}
	return nil
}

func (p *Provider) change(ctx context.Context, c plan.Change) error {
	if err := ctx.Err(); err != nil {
		return p.fail(c.Key, "writing", err, "")
	}
	var next object
	switch c.Action {
	case plan.Create, plan.Update, plan.Replace, plan.Rename:
		if c.After == nil {
			return p.fail(c.Key, "writing", fmt.Errorf("%w: %s without an object", providers.ErrInvalid, c.Action), "")
		}
		var err error
		if next, err = p.resolve(ctx, c); err != nil {
			return err
		}
	case plan.Delete:
	default:
		return p.fail(c.Key, "writing", fmt.Errorf("%w: %q is not for a registry", providers.ErrInvalid, c.Action), "")
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	switch c.Action {
	case plan.Delete:
		return p.remove(c)
	case plan.Rename:
		return p.rename(c, next)
	}
	return p.put(c, next)
}

// resolve makes the object that a change asks for, with the secrets that the
// change writes.
func (p *Provider) resolve(ctx context.Context, c plan.Change) (object, error) {
	spec, err := canonical(c.After.Key, c.After.Spec)
	if err != nil {
		return object{}, p.fail(c.Key, "writing", fmt.Errorf("%w: %w", providers.ErrInvalid, err), "")
	}
	o := object{secrets: map[string][]byte{}}
	for _, f := range schema.Secrets(spec) {
		if !writes(c, f.Path) {
			continue
		}
		if o.secrets[f.Path], err = p.digest(ctx, c.Key, f); err != nil {
			return object{}, err
		}
	}
	schema.DropSecrets(spec)
	o.spec = spec
	return o, nil
}

// writes reports whether a change sets the secret at a path.
func writes(c plan.Change, path string) bool {
	if c.Action == plan.Create || c.Action == plan.Replace {
		return true
	}
	return slices.ContainsFunc(c.Fields, func(f plan.Field) bool { return below(path, f.Path) })
}

// put stores a created, updated or replaced object. The caller holds mu.
func (p *Provider) put(c plan.Change, next object) error {
	key := c.After.Key
	live, exists := p.objects[key]
	if err := p.needNamespace(key); err != nil {
		return err
	}
	if exists && c.Action == plan.Update {
		next.keepSecrets(live, c)
	}
	if exists && next.equal(live) {
		return nil
	}
	switch {
	case c.Action == plan.Create && exists:
		return p.fail(key, "creating", providers.ErrConflict, "plan again: it exists by now, and differs")
	case c.Action == plan.Update && !exists:
		return p.fail(key, "updating", providers.ErrNotFound, "plan again: it is gone by now")
	case exists && stale(c.Before, live):
		return p.fail(key, "writing", providers.ErrConflict, "plan again")
	}
	if c.Action == plan.Replace {
		p.drop(key)
	}
	p.store(key, next)
	return nil
}

// remove deletes an object with its children. The caller holds mu.
func (p *Provider) remove(c plan.Change) error {
	live, exists := p.objects[c.Key]
	if !exists {
		return nil
	}
	if stale(c.Before, live) {
		return p.fail(c.Key, "deleting", providers.ErrConflict, "plan again")
	}
	p.drop(c.Key)
	return nil
}

// rename moves an object and what hangs on it, and writes it as it is to be.
// The caller holds mu.
func (p *Provider) rename(c plan.Change, next object) error {
	if c.Before == nil {
		return p.fail(c.Key, "renaming", fmt.Errorf("%w: rename without the former object", providers.ErrInvalid), "")
	}
	from, to := c.Before.Key, c.After.Key
	if from.Kind != to.Kind || from == to {
		return p.fail(c.Key, "renaming", fmt.Errorf("%w: from %s to %s", providers.ErrInvalid, from, to), "")
	}
	live, exists := p.objects[from]
	there, taken := p.objects[to]
	switch {
	case !exists && taken:
		next.keepSecrets(there, c)
		if next.equal(there) {
			return nil // it is done already
		}
		return p.fail(to, "renaming", providers.ErrConflict, "plan again: it exists by now, and differs")
	case !exists:
		return p.fail(from, "renaming", providers.ErrNotFound, "plan again: it is gone by now")
	case taken:
		return p.fail(to, "renaming", providers.ErrConflict, "choose a name that is free, or delete this object first")
	case stale(c.Before, live):
		return p.fail(from, "renaming", providers.ErrConflict, "plan again")
	}
	if err := p.needNamespace(to); err != nil {
		return err
	}
	next.keepSecrets(live, c)
	if from.Kind == schema.KindNamespace {
		p.moveChildren(from, to)
	}
	delete(p.objects, from)
	p.store(to, next)
	return nil
}

// moveChildren gives all that hangs on a namespace the new name, versions
// kept. The caller holds mu; the namespace itself still has its old name.
func (p *Provider) moveChildren(from, to schema.Key) {
	for _, key := range slices.Collect(maps.Keys(p.objects)) {
		if ns, ok := key.Namespace(); ok && ns == from {
			moved := key.In(to.Name)
			p.objects[moved] = p.objects[key]
			delete(p.objects, key)
		}
	}
	for i, r := range p.repositories {
		if p.owner(r.Name) == from.Name {
			p.repositories[i].Name = to.Name + strings.TrimPrefix(r.Name, from.Name)
		}
	}
}

// drop takes an object away, a namespace with all that hangs on it. The
// caller holds mu.
func (p *Provider) drop(key schema.Key) {
	if key.Kind == schema.KindNamespace {
		p.repositories = slices.DeleteFunc(p.repositories, func(r schema.RepositoryInfo) bool {
			return p.owner(r.Name) == key.Name
		})
		maps.DeleteFunc(p.objects, func(k schema.Key, _ object) bool {
			ns, ok := k.Namespace()
			return ok && ns == key
		})
	}
	delete(p.objects, key)
}

// owner is the longest namespace that a repository lies in, or "". The caller
// holds mu.
func (p *Provider) owner(repository string) string {
	for name := repository; ; {
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return ""
		}
		name = name[:i]
		if _, ok := p.objects[schema.Key{Kind: schema.KindNamespace, Name: name}]; ok {
			return name
		}
	}
}

func (p *Provider) needNamespace(key schema.Key) error {
	ns, ok := key.Namespace()
	if !ok {
		return nil
	}
	if _, exists := p.objects[ns]; exists {
		return nil
	}
	err := fmt.Errorf("%s: %w", ns, providers.ErrNotFound)
	return p.fail(key, "writing", err, "create the namespace first")
}

func (p *Provider) store(key schema.Key, o object) {
	p.serial++
	o.version = p.serial
	p.objects[key] = o
}

// keepSecrets takes over the live secrets that a change does not write.
func (o *object) keepSecrets(live object, c plan.Change) {
	for path, d := range live.secrets {
		if !writes(c, path) {
			o.secrets[path] = d
		}
	}
}

// equal compares specs and secrets. A secret of unknown value equals only
// itself, so that writing one always takes hold.
func (o object) equal(live object) bool {
	return reflect.DeepEqual(o.spec, live.spec) && maps.EqualFunc(o.secrets, live.secrets, slices.Equal)
}

// stale reports whether an object is not the one that was planned for.
func stale(before *schema.Resource, live object) bool {
	return before != nil && before.Version != "" && before.Version != version(live)
}
