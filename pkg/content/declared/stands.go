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
func (p *Provider) stands(ctx context.Context, to *content.Registry) (map[schema.Key]standing, error) {
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
		s, ok, err := p.stand(ctx, r.Key, spec, before.Tags, to)
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

// stand judges one. It owns what it owned before, and of what the backup brought the tags
// that it chooses and that its source has. Where that cannot be asked, their names must
// do, but not for one that prunes: it would delete what it never copied.
func (p *Provider) stand(ctx context.Context, k schema.Key, spec *schema.Mirror, before map[string]v1.Hash, to *content.Registry) (standing, bool, error) {
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
	s := standing{owned: map[string]v1.Hash{}}
	for tag, digest := range before {
		if s.owned[tag] = digest; back[tag] != (v1.Hash{}) {
			s.owned[tag] = back[tag]
		}
	}
	o, err := m.Look(ctx)
	switch n := len(o.Copy) + len(o.Gone); {
	case ctx.Err() != nil:
		return standing{}, false, ctx.Err()
	case err != nil:
		if !yes(spec.Prune) {
			for tag, digest := range back {
				s.owned[tag] = digest
			}
		}
		s.note = fmt.Sprintf("it stands as the backup has it; what its source has by now cannot be told: %v", err)
		return s, true, nil
	case n > 0:
		s.note = fmt.Sprintf("it stands as the backup has it; the source has %s; ocisync run mirror brings it in step, no apply does", o)
	}
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
