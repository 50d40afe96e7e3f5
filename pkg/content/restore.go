package content

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Restore brings what a layout holds into a registry. Its fields are set before the first
// call and not after.
type Restore struct {
	From *Layout
	To   Target
	In   func(repository string) bool
	// Overwrite has tags become what they are in the layout where they are something
	// else; they are left as they are without it.
	Overwrite bool
	// Blank says that nobody can ask the registry before its configuration was applied:
	// Look and Weigh take it for one that holds nothing.
	Blank bool
	// Report hears of each tag when it is through, from several goroutines.
	Report func(Event)
	// Progress is that of [Copier].
	Progress *Progress
}

// Due is what a restore has to do.
type Due struct {
	Steps []Differing // tags that are to come, and those that differ; sorted
	Left  []Differing // tags that differ, and are left; sorted
	Same  []Reference // sorted
	items []Item
}

// Back lists by repository the tags that are as the layout has them once all of it is
// done.
func (d Due) Back() map[string]map[string]v1.Hash {
	out := map[string]map[string]v1.Hash{}
	add := func(ref Reference, digest v1.Hash) {
		if out[ref.Repository] == nil {
			out[ref.Repository] = map[string]v1.Hash{}
		}
		out[ref.Repository][ref.Tag] = digest
	}
	for _, s := range d.Steps {
		add(s.Reference, s.To)
	}
	for _, i := range d.items {
		for _, tag := range i.Tags {
			if digest, ok := i.There[tag]; ok && out[i.Target][tag] == (v1.Hash{}) {
				add(Reference{Repository: i.Target, Tag: tag}, digest)
			}
		}
	}
	return out
}

// Differing is a tag that is not at the registry as it is in the layout.
type Differing struct {
	Reference
	To  v1.Hash // in the layout
	Was v1.Hash // at the registry; empty: nothing
}

// Look compares both sides and changes nothing. What cannot be compared is told by
// Report.
func (r *Restore) Look(ctx context.Context) (Due, error) {
	all, err := r.From.Repositories(ctx)
	if err != nil {
		return Due{}, err
	}
	var out Due
	var mu sync.Mutex
	each(repositoriesAtOnce, slices.DeleteFunc(all, func(x string) bool { return !r.In(x) }), func(repository string) {
		r.look(ctx, repository, &mu, &out)
	})
	byName := func(x, y Differing) int { return strings.Compare(x.String(), y.String()) }
	slices.SortFunc(out.Steps, byName)
	slices.SortFunc(out.Left, byName)
	slices.SortFunc(out.Same, func(x, y Reference) int { return strings.Compare(x.String(), y.String()) })
	slices.SortFunc(out.items, func(x, y Item) int { return strings.Compare(x.Target, y.Target) })
	return out, ctx.Err()
}

// look compares a repository.
func (r *Restore) look(ctx context.Context, repository string, mu *sync.Mutex, out *Due) {
	fail := func(ref Reference, err error) {
		if ctx.Err() == nil {
			r.Progress.failed()
			r.Report(Event{Source: ref, Target: ref, Outcome: Failed, Err: err})
		}
	}
	tags, _, err := r.From.Tags(ctx, repository)
	if err == nil && len(tags) == 0 {
		return
	}
	var have []string
	ok := false
	if !r.Blank && err == nil {
		have, ok, err = r.To.Tags(ctx, repository)
	}
	if err != nil {
		fail(Reference{Repository: repository}, err)
		return
	}
	item := Item{Source: repository, Target: repository, Tags: []string{}, There: map[string]v1.Hash{}, New: !ok, Listed: tags}
	each(tagsAtOnce, tags, func(tag string) {
		ref := Reference{Repository: repository, Tag: tag}
		e, _ := r.From.find(ref)
		if e.err != nil {
			fail(ref, e.err)
			return
		}
		step := Differing{Reference: ref, To: e.d.Digest}
		if slices.Contains(have, tag) {
			was, _, err := r.To.head(ctx, ref)
			if err != nil {
				fail(ref, err)
				return
			}
			step.Was = was
		}
		mu.Lock()
		defer mu.Unlock()
		if step.Was != (v1.Hash{}) {
			item.There[tag] = step.Was
		}
		switch {
		case step.Was == step.To:
			out.Same = append(out.Same, ref)
		case step.Was != (v1.Hash{}) && !r.Overwrite:
			out.Left = append(out.Left, step)
			return
		default:
			out.Steps = append(out.Steps, step)
		}
		item.Tags = append(item.Tags, tag)
	})
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(item.Tags)
	if len(item.Tags) > 0 {
		out.items = append(out.items, item)
	}
}

// Weigh tells how much would be sent, each blob once and without those that the registry
// has where they belong. Broken are the references that cannot be read.
func (r *Restore) Weigh(ctx context.Context, due Due) (sends Moved, broken map[Reference]error, err error) {
	fresh := map[string]bool{}
	for _, i := range due.items {
		fresh[i.Target] = i.New
	}
	sizes, at, broken := map[v1.Hash]int64{}, map[v1.Hash]map[string]bool{}, map[Reference]error{}
	for _, s := range due.Steps {
		if err := r.weigh(ctx, Reference{Repository: s.Repository, Digest: s.To}, 0, func(repository string, d v1.Descriptor) {
			if at[d.Digest] == nil {
				at[d.Digest] = map[string]bool{}
			}
			sizes[d.Digest], at[d.Digest][repository] = d.Size, true
		}); err != nil {
			broken[s.Reference] = err
		}
	}
	var mu sync.Mutex
	var failed error
	each(smallAtOnce, slices.Collect(maps.Keys(sizes)), func(digest v1.Hash) {
		for repository := range at[digest] {
			if fresh[repository] {
				continue
			}
			there, err := r.To.has(ctx, repository, digest)
			mu.Lock()
			failed = errors.Join(failed, err)
			if there {
				delete(sizes, digest)
			}
			mu.Unlock()
			if err != nil || there {
				return
			}
		}
	})
	if failed != nil {
		return Moved{}, nil, failed
	}
	for _, size := range sizes {
		sends.Blobs, sends.Bytes = sends.Blobs+1, sends.Bytes+size
	}
	return sends, broken, ctx.Err()
}

// weigh visits the blobs of a manifest, and of what refers to it.
func (r *Restore) weigh(ctx context.Context, ref Reference, depth int, visit func(repository string, d v1.Descriptor)) error {
	var list []v1.Descriptor
	var family []v1.Hash // it, and the parts of an index: things refer to those too
	err := r.From.tree(ctx, ref, 0, func(d v1.Descriptor, manifest bool) error {
		if manifest {
			family = append(family, d.Digest)
			return nil
		}
		list = append(list, d)
		there, err := r.From.there(ctx, d)
		if err == nil && !there {
			err = r.From.fail(Reference{Repository: ref.Repository, Digest: d.Digest}, "reading", ErrDigest)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, d := range list {
		visit(ref.Repository, d)
	}
	if depth > deepest {
		return nil
	}
	for _, of := range family {
		referrers, err := r.From.referrers(ctx, ref.Repository, of, nil)
		if err != nil {
			return err
		}
		for _, d := range referrers {
			if err := r.weigh(ctx, Reference{Repository: ref.Repository, Digest: d.Digest}, depth+1, visit); err != nil {
				return err
			}
		}
	}
	return nil
}

// Run does what Look found. What fails is told by Report, and does not stop the rest.
func (r *Restore) Run(ctx context.Context, due Due) Moved {
	c := &Copier{From: r.From, To: r.To, Referrers: true, Report: r.Report, Progress: r.Progress}
	return c.Copy(ctx, due.items)
}
