package declared

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocisync/ocisync/pkg/content"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/schema"
)

// standing is a mirror whose tags a backup brought back: it is recorded as it stands, and
// nothing is copied anew.
type standing struct {
	spec  schema.Spec
	owned map[string]v1.Hash
	note  string
}

// stands judges the mirrors that are declared, once; nil is none. One whose block is
// another than the applied one is copied as any that changed.
func (p *Provider) stands(ctx context.Context, to *content.Registry) (_ map[schema.Key]standing, err error) {
	p.mu.Lock()
	declared, done := p.mirrors, p.stood
	p.mu.Unlock()
	if len(p.Restored) == 0 || done != nil {
		return done, nil
	}
	out := map[schema.Key]standing{}
	for _, r := range declared {
		spec, ok := r.Spec.(*schema.Mirror)
		if !ok || len(p.Restored[text(spec.To)]) == 0 {
			continue
		}
		before, known := p.applied(r.Key)
		if known && !reflect.DeepEqual(before.Spec, r.Spec) {
			continue
		}
		var owned map[string]v1.Hash
		if known {
			if owned, err = p.kept(ctx, spec, before.Tags, to); err != nil {
				return nil, err
			}
		}
		s, ok, err := p.stand(ctx, r.Key, spec, owned, to)
		if err != nil {
			return nil, err
		}
		if ok {
			s.spec = r.Spec
			out[r.Key] = s
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, s := range out {
		p.wrote[k] = s.owned
	}
	p.stood = out
	return out, nil
}

// kept is what a mirror owns of what it owned before, not nil: what the backup brought, as
// it has that, and what is there as it was copied.
func (p *Provider) kept(ctx context.Context, spec *schema.Mirror, before map[string]v1.Hash, to *content.Registry) (map[string]v1.Hash, error) {
	owned := map[string]v1.Hash{}
	for tag, digest := range before {
		if owned[tag] = digest; p.Restored[text(spec.To)][tag] != (v1.Hash{}) {
			owned[tag] = p.Restored[text(spec.To)][tag]
		}
	}
	altered, err := (&content.Mirror{To: to, Target: text(spec.To), Owned: owned}).Altered(ctx)
	for _, tag := range altered {
		delete(owned, tag)
	}
	return owned, err
}

// stand judges one, which owns what it is known to own. Where nothing is known, that is of
// what the backup brought the tags that it chooses and that its source has: by their names
// alone it would own, and delete, what it never copied.
func (p *Provider) stand(ctx context.Context, k schema.Key, spec *schema.Mirror, known map[string]v1.Hash, to *content.Registry) (standing, bool, error) {
	m, end, err := p.mirror(ctx, k, spec, to)
	if err != nil {
		return standing{}, false, err
	}
	defer end()
	back := map[string]v1.Hash{}
	for tag, digest := range p.Restored[text(spec.To)] {
		if m.Tags.Names(tag) {
			back[tag] = digest
		}
	}
	if len(back) == 0 {
		return standing{}, false, nil
	}
	s := standing{owned: known}
	o, err := m.Look(ctx)
	switch n := len(o.Copy) + len(o.Gone); {
	case ctx.Err() != nil:
		return standing{}, false, ctx.Err()
	case err != nil:
		s.note = fmt.Sprintf("it stands as the backup has it; what its source has by now cannot be told: %v", err)
		if known == nil {
			s.owned = map[string]v1.Hash{} // all that the source has is its own once the job has asked it
		}
		return s, true, nil
	case n > 0:
		s.note = fmt.Sprintf("it stands as the backup has it; the source has %s; ocisync run mirror brings it in step, no apply does", o)
	}
	if known != nil {
		return s, true, nil
	}
	s.owned = map[string]v1.Hash{}
	chosen := slices.Clone(o.Same)
	for _, c := range o.Copy {
		chosen = append(chosen, c.Tag)
	}
	for _, tag := range chosen {
		if digest, ok := back[tag]; ok {
			s.owned[tag] = digest
		}
	}
	return s, true, nil
}

// standingNotes tells of the mirrors that stand.
func (p *Provider) standingNotes() (out []plan.Note) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.mirrors {
		if s, ok := p.stood[r.Key]; ok && s.note != "" {
			out = append(out, plan.Note{Key: r.Key, Text: s.note})
		}
	}
	return out
}
