package harbor

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// sampled is how many of the projects that a run made alike are read back in full.
const sampled = 10

// made is what was made since the last read, by project: of one that it found, or did anything else to
// than to make it and things in it, there is nothing. Guarded by the provider's mu.
type made map[string]map[schema.Key]schema.Resource

// did notes a change of a run; fresh says that it made the object, and Harbor said so.
func (m made) did(c plan.Change, fresh bool) {
	name := project(c.Key)
	k := kinds()[c.Key.Kind]
	switch {
	case name == "":
	case !fresh || !k.kept && c.Key.Kind != schema.KindNamespace:
		m[name] = nil
	case c.Key.Kind == schema.KindNamespace:
		m[name] = map[schema.Key]schema.Resource{}
	case m[name] != nil:
		m[name][c.Key] = *c.After
	}
}

// samples are the projects that are read back to stand for others, and those for which
// they stand: alike are those of the same kinds, with the same fields declared.
func (m made) samples() (read, spared map[string]bool) {
	alike := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if m[name] != nil {
			shape := shapeOf(m[name])
			alike[shape] = append(alike[shape], name)
		}
	}
	read, spared = map[string]bool{}, map[string]bool{}
	for _, names := range alike {
		for i, name := range names {
			if i < sampled {
				read[name] = true
			} else {
				spared[name] = true
			}
		}
	}
	return read, spared
}

// shapeOf are the kinds of objects with the fields that they declare; whom a table
// names is no field of it.
func shapeOf(objects map[schema.Key]schema.Resource) string {
	var lines []string
	for key, r := range objects {
		paths, _ := plan.Managed(r.Spec)
		for i, path := range paths {
			if key.Kind == schema.KindAccess || strings.HasPrefix(path, "access.") {
				paths[i], _, _ = strings.Cut(path, ".")
			}
		}
		lines = append(lines, string(key.Kind)+" "+strings.Join(slices.Compact(paths), " "))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// Prove implements [providers.Prover]. A project that this run made, and of which it
// only made objects of kinds that Harbor keeps as it takes them, is read back in full if
// it is one of the first of its shape; the others have what was written, as far as the
// list of projects shows nothing else. Where one of those that are read is not as it was
// written, all are read. It does not end before a later change of what was written shows
// as one.
func (p *Provider) Prove(ctx context.Context, scope schema.Scope) (st schema.State, sampled int, err error) {
	st, sampled, err = p.prove(ctx, scope)
	if err != nil {
		return schema.State{}, 0, err
	}
	return st, sampled, p.settle(ctx)
}

func (p *Provider) prove(ctx context.Context, scope schema.Scope) (schema.State, int, error) {
	p.mu.Lock()
	run := p.made
	p.made = made{}
	p.mu.Unlock()
	read, spared := run.samples()
	if len(spared) == 0 {
		st, err := p.Read(ctx, scope)
		return st, 0, err
	}
	st, s, err := p.read(ctx, scope, spared)
	if err != nil {
		return schema.State{}, 0, err
	}
	for name := range read {
		for key, want := range run[name] {
			live, ok := s.objects[key]
			if st.Scope.Covers(key) && (!ok || !so(want.Spec, live.Spec)) {
				st, err := p.Read(ctx, scope)
				return st, 0, err
			}
		}
	}
	list, err := s.allProjects(ctx)
	if err != nil {
		return schema.State{}, 0, err
	}
	proven := map[schema.Key]schema.Resource{}
	for _, x := range list {
		if !spared[x.Name] {
			continue
		}
		for key, r := range run[x.Name] {
			_, listed := s.objects[key]
			if listed || !st.Scope.Covers(key) || !shows(x, r) {
				continue
			}
			for _, f := range schema.Secrets(r.Spec) {
				r.Unread = append(r.Unread, f.Path)
			}
			proven[key] = r
			st.Resources = append(st.Resources, r)
		}
	}
	p.mu.Lock()
	p.seen.proven = proven
	p.mu.Unlock()
	return st, len(proven), st.Sort()
}

// shows reports whether the list of projects has what it would have of an object.
func shows(x api.Project, r schema.Resource) bool {
	switch spec := r.Spec.(type) {
	case *schema.Retention:
		return policyOf(x) > 0
	case *schema.Access:
		return spec.Anonymous == nil || *spec.Anonymous == anonymous(x)
	}
	return true
}
