package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocisync/ocisync/pkg/providers"
)

// The registry's configuration lies in a backup as an artifact: a tag of ModeRepository
// that is called as the mode.
const (
	ModeRepository = "ocisync/mode"
	ModeType       = "application/vnd.ocisync.mode.v1"
)

// Errors of a backup.
var (
	// ErrNoBackup is a layout that is no backup, or one of another registry.
	ErrNoBackup = errors.New("it is no backup of this mode")
	// ErrEmptied is a registry that holds nothing, where its backup holds something:
	// that may be a mistake of its answer.
	ErrEmptied = errors.New("the registry lists no tags, and its last backup has some; nothing is taken out of that")
)

// Backup has a layout hold what a registry holds at one moment. Its fields are set before
// the first call and not after.
//
// What the layout names already is relied on as far as all that it needs is there; the
// rest is fetched. The index is written once, at the end. What is in no repository of In
// stays in it, and so does what a tag was that could not be read now.
type Backup struct {
	From Source
	To   *Layout
	In   func(repository string) bool
	// Mode is the registry's configuration, of the mode that is called Name.
	Mode Artifact
	Name string
	// Report hears of each tag when it is through, from several goroutines.
	Report func(Event)
	// Progress is that of [Copier]; the configuration is not counted.
	Progress *Progress
}

// Backed is how a backup went.
type Backed struct {
	Moved
	Gone []Reference // tags that the registry has no longer; sorted
}

// Run makes the backup. What fails of its tags is told by Report alone; with an error
// the last backup is as it was.
func (b *Backup) Run(ctx context.Context) (Backed, error) {
	was, err := b.former()
	if err != nil {
		return Backed{}, err
	}
	b.Progress.list(Item{})
	now, err := b.pin(ctx, was)
	b.Progress.listed(Item{}, 0)
	if err != nil {
		return Backed{}, err
	}
	if now.empty() && slices.ContainsFunc(was, func(e entry) bool { return b.In(e.repository) && e.tag != "" }) {
		return Backed{}, &providers.Error{Registry: b.From.String(), Doing: "listing its tags", Err: ErrEmptied, Remedy: "if it was emptied on purpose, make the backup in another place"}
	}
	to := &relied{Layout: b.To, found: map[v1.Hash]bool{}, seen: map[label]bool{}}
	c := &Copier{From: b.From, To: to, Referrers: true, Progress: b.Progress, Report: func(e Event) {
		if e.Err != nil {
			now.fail(e.Target)
			b.To.undo(e.Target)
		}
		b.Report(e)
	}}
	out := Backed{Moved: c.Copy(ctx, now.items)}
	if ctx.Err() != nil {
		return out, ctx.Err()
	}
	for _, e := range was {
		switch ref := (Reference{Repository: e.repository, Tag: e.tag}); {
		case !b.In(e.repository) || now.stays(e) || to.seen[label{e.repository, e.d.Digest.String()}] && e.tag == "":
		case e.tag == "":
			b.To.forget(e)
		default:
			if err := b.To.untag(ctx, ref); err != nil {
				return out, err
			}
			out.Gone = append(out.Gone, ref)
		}
	}
	slices.SortFunc(out.Gone, func(x, y Reference) int { return strings.Compare(x.String(), y.String()) })
	if _, err := store(ctx, to, Reference{Repository: ModeRepository, Tag: b.Name}, b.Mode, nil); err != nil {
		return out, fmt.Errorf("the registry's configuration: %w", err)
	}
	return out, b.To.Commit(ctx)
}

// former are the entries of the last backup. A layout that is none, or one of another
// registry, would lose what it holds.
func (b *Backup) former() ([]entry, error) {
	was := slices.Clone(b.To.entries)
	modes := ModesOf(b.To)
	refuse := func(why error) ([]entry, error) {
		return nil, &providers.Error{Registry: b.To.String(), Doing: "looking at what is there", Err: why, Remedy: "name another place"}
	}
	switch {
	case len(was) > 0 && len(modes) == 0:
		return refuse(fmt.Errorf("%w: it holds other content", ErrNoBackup))
	case len(modes) > 0 && !slices.Equal(modes, []string{b.Name}):
		return refuse(fmt.Errorf("%w: it is one of mode %s", ErrNoBackup, strings.Join(modes, ", ")))
	}
	return was, nil
}

// ModesOf lists the modes of a backup, of which it has one; it is empty where that is no
// backup.
func ModesOf(l *Layout) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var modes []string
	for n := range l.now() {
		if n.repository == ModeRepository && n.tag != "" {
			modes = append(modes, n.tag)
		}
	}
	slices.Sort(modes)
	return modes
}

// pinned is what a registry has at one moment, and what could not be told of it.
type pinned struct {
	items  []Item
	tags   map[label]bool
	mu     sync.Mutex
	failed map[string]map[string]bool // by repository and tag; "" is of all its tags
}

func (p *pinned) empty() bool { return len(p.tags) == 0 && len(p.failed) == 0 }

func (p *pinned) fail(ref Reference) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed[ref.Repository] == nil {
		p.failed[ref.Repository] = map[string]bool{}
	}
	p.failed[ref.Repository][ref.Tag] = true
}

// stays reports whether an entry of the last backup does. What refers to an image that
// could not be read cannot be told, and stays.
func (p *pinned) stays(e entry) bool {
	failed := p.failed[e.repository]
	return p.tags[e.label] || failed[e.tag] || failed[""] || e.tag == "" && len(failed) > 0
}

// pin finds what each tag is now. A repository of the last backup that is not listed any
// more is asked for by its name: it may be one that the account sees no longer.
func (b *Backup) pin(ctx context.Context, was []entry) (*pinned, error) {
	all, err := b.From.Repositories(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range was {
		all = append(all, e.repository)
	}
	slices.Sort(all)
	all = slices.DeleteFunc(slices.Compact(all), func(r string) bool { return !b.In(r) })
	p := &pinned{tags: map[label]bool{}, failed: map[string]map[string]bool{}}
	fail := func(ref Reference, err error) {
		if ctx.Err() == nil {
			p.fail(ref)
			b.Progress.failed()
			b.Report(Event{Source: ref, Target: ref, Outcome: Failed, Err: err})
		}
	}
	each(repositoriesAtOnce, all, func(repository string) {
		tags, _, err := b.From.Tags(ctx, repository)
		if err != nil {
			fail(Reference{Repository: repository}, err)
			return
		}
		item := Item{Source: repository, Target: repository, Tags: []string{}, Pinned: map[string]v1.Hash{}, Listed: tags}
		each(tagsAtOnce, tags, func(tag string) {
			ref := Reference{Repository: repository, Tag: tag}
			digest, ok, err := b.resolve(ctx, ref)
			switch {
			case err != nil:
				fail(ref, err)
			case ok:
				p.mu.Lock()
				defer p.mu.Unlock()
				p.tags[label{repository, tag}] = true
				item.Tags, item.Pinned[tag] = append(item.Tags, tag), digest
			}
		})
		slices.Sort(item.Tags)
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(item.Tags) > 0 {
			p.items = append(p.items, item)
		}
	})
	slices.SortFunc(p.items, func(x, y Item) int { return strings.Compare(x.Source, y.Source) })
	return p, ctx.Err()
}

// resolve finds what a tag is. One that went meanwhile is not ok; one that is listed and
// has nothing behind it is damaged, and no reason to forget what it was.
func (b *Backup) resolve(ctx context.Context, ref Reference) (v1.Hash, bool, error) {
	digest, ok, err := b.From.head(ctx, ref)
	if err != nil || ok && digest != (v1.Hash{}) {
		return digest, ok, err
	}
	if ok { // it does not say
		m, err := b.From.manifest(ctx, ref)
		return m.digest, true, err
	}
	tags, _, err := b.From.Tags(ctx, ref.Repository)
	if err == nil && slices.Contains(tags, ref.Tag) {
		err = b.From.fail(ref, "asking for", fmt.Errorf("%w, although it is listed", ErrAbsent))
	}
	return v1.Hash{}, false, err
}

// relied is a layout in which something is there where all that it needs is.
type relied struct {
	*Layout
	mu    sync.Mutex
	found map[v1.Hash]bool
	seen  map[label]bool // what refers to something, by its digest
}

// head implements [Source].
func (r *relied) head(ctx context.Context, ref Reference) (v1.Hash, bool, error) {
	digest, ok, err := r.Layout.head(ctx, ref)
	if err != nil || !ok {
		return digest, ok, err
	}
	err = r.tree(ctx, Reference{Repository: ref.Repository, Digest: digest}, 0, func(d v1.Descriptor, _ bool) error {
		r.mu.Lock()
		found := r.found[d.Digest]
		r.mu.Unlock()
		if found {
			return nil
		}
		there, err := r.there(ctx, d)
		if err == nil && !there {
			err = ErrAbsent
		}
		if err == nil {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.found[d.Digest] = true
		}
		return err
	})
	if err != nil {
		return v1.Hash{}, false, ctx.Err()
	}
	return digest, true, nil
}

// keepReferrers implements [Target].
func (r *relied) keepReferrers(_ context.Context, repository string, _ v1.Hash, list []v1.Descriptor, _ sourceIndex) (v1.Hash, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range list {
		r.seen[label{repository, d.Digest.String()}] = true
	}
	return v1.Hash{}, false, nil
}

// undo has a tag be what it was before this run.
func (l *Layout) undo(ref Reference) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.changes, label{ref.Repository, ref.Tag})
}

// forget takes out of the index what has no tag.
func (l *Layout) forget(e entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone[label{e.repository, e.d.Digest.String()}] = true
}

// tree has a function visit a manifest and all that it needs, each manifest before what
// it names. Manifests are checked against their digests on the way.
func (l *Layout) tree(ctx context.Context, ref Reference, depth int, visit func(d v1.Descriptor, manifest bool) error) error {
	m, err := l.manifest(ctx, ref)
	if err != nil {
		return err
	}
	p, err := m.parts()
	if err == nil && depth > deepest {
		err = fmt.Errorf("%w: indexes lie in it more than %d deep", ErrManifest, deepest)
	}
	if err != nil {
		return l.fail(ref, "reading", err)
	}
	for _, d := range p.blobs() {
		if err := visit(d, false); err != nil {
			return err
		}
	}
	if err := visit(m.descriptor(), true); err != nil {
		return err
	}
	for _, d := range p.Manifests {
		if err := l.tree(ctx, Reference{Repository: ref.Repository, Digest: d.Digest}, depth+1, visit); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// need is what a layout has to hold, and for what.
type need struct {
	d  v1.Descriptor
	of []Reference
}

// needs finds what the index of a layout needs, as it lies there now, and what of it
// cannot be read.
func (l *Layout) needs(ctx context.Context) (all map[v1.Hash]*need, broken map[Reference]error, err error) {
	_, entries, err := l.index(ctx)
	if err != nil {
		return nil, nil, l.fail(Reference{}, "reading", err)
	}
	all, broken = map[v1.Hash]*need{}, map[Reference]error{}
	for _, e := range entries {
		of, by := Reference{Repository: e.repository, Tag: e.tag}, Reference{Repository: e.repository, Digest: e.d.Digest}
		if e.tag == "" {
			of = by
		}
		if err = e.err; err == nil {
			err = l.tree(ctx, by, 0, func(d v1.Descriptor, _ bool) error {
				n := all[d.Digest]
				if n == nil {
					n = &need{d: d}
					all[d.Digest] = n
				}
				if len(n.of) == 0 || n.of[len(n.of)-1] != of {
					n.of = append(n.of, of)
				}
				return nil
			})
		}
		if err != nil {
			broken[of] = err
		}
	}
	return all, broken, ctx.Err()
}

// Sweeper is what [Files] are of which some can be removed.
type Sweeper interface {
	// List lists the names of the files below a directory, however deep; one that is not
	// there has none.
	List(ctx context.Context, dir string) ([]string, error)
	Remove(ctx context.Context, name string) error
}

// Verify reads all that the index names and hashes it. It tells by its map which
// references are not whole, and why. A blob that is not what its name says is removed, so
// that the next backup fetches it anew.
func (l *Layout) Verify(ctx context.Context) (read Moved, broken map[Reference]error, err error) {
	all, broken, err := l.needs(ctx)
	if err != nil {
		return read, nil, err
	}
	var mu sync.Mutex
	each(largeAtOnce, slices.Collect(maps.Values(all)), func(n *need) {
		if ctx.Err() != nil {
			return
		}
		err := Read(ctx, l, n.of[0].Repository, n.d, func(r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		})
		if s, ok := l.files.(Sweeper); ok && errors.Is(err, ErrDigest) {
			err = errors.Join(err, s.Remove(ctx, file(n.d.Digest)))
		}
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			read.Blobs, read.Bytes = read.Blobs+1, read.Bytes+n.d.Size
			return
		}
		for _, ref := range n.of {
			broken[ref] = err
		}
	})
	return read, broken, ctx.Err()
}

// Prune removes the blobs that the index does not need. It removes none where something
// that the index names cannot be read: what that needs cannot be told.
func (l *Layout) Prune(ctx context.Context) (Moved, error) {
	s, ok := l.files.(Sweeper)
	if !ok {
		return Moved{}, nil // it is written whole
	}
	all, broken, err := l.needs(ctx)
	if err != nil {
		return Moved{}, err
	}
	for ref, err := range broken {
		return Moved{}, fmt.Errorf("%s: nothing was removed, since %s cannot be read: %w", l, ref, err)
	}
	files, err := s.List(ctx, "blobs")
	if err != nil {
		return Moved{}, l.fail(Reference{}, "listing the blobs", err)
	}
	needed := map[string]bool{}
	for digest := range all {
		needed[file(digest)] = true
	}
	var out Moved
	for _, name := range files {
		if needed[name] || ctx.Err() != nil {
			continue
		}
		size, err := l.files.Stat(ctx, name)
		if err == nil {
			err = s.Remove(ctx, name)
		}
		if err != nil {
			return out, l.fail(Reference{}, "removing "+name, err)
		}
		out.Blobs, out.Bytes = out.Blobs+1, out.Bytes+size
	}
	return out, ctx.Err()
}
