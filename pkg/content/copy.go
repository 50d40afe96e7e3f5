package content

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/ocisync/ocisync/pkg/content/ledger"
	"github.com/ocisync/ocisync/pkg/providers"
)

// Item is a repository that is copied into another, or one tag or digest of it.
type Item struct {
	Source, Target string
	// Tags are those that are copied; nil is all that the source lists, and Keep keeps.
	Tags []string
	Keep func(tag string) bool // nil keeps all
	// One is the tag or digest that alone is copied, and As the tag that it gets, ""
	// for the same.
	One, As string
	// Pinned says of Tags by which digest each is read, so that one that moves
	// meanwhile is copied as it was; one that is not in it is read by its tag.
	Pinned map[string]v1.Hash
	// There is what the target's tags are, where somebody asked already, and nil where
	// nobody did; New says then that the target has no such repository.
	There map[string]v1.Hash
	New   bool
	// Listed are all tags of the source, where somebody listed them already.
	Listed []string
}

// Copier copies repositories from one registry to another. Its fields are set before
// the first call and not after.
type Copier struct {
	From Source
	To   Target
	// Referrers copies what refers to each image as well: signatures, attestations,
	// lists of parts (OCI distribution specification, "Listing Referrers").
	Referrers bool
	// AtOnce bounds the repositories that are worked on at once; 0 is 8.
	AtOnce int
	// Rate bounds the bytes of blobs that are read in a second; 0 is no bound.
	Rate int64
	// Report hears of each tag when it is through, from several goroutines.
	Report func(Event)
	// Ledger is what former copies to the same target learned, and learns from this one;
	// nil is none. What it says of a tag is believed where the target lists that tag.
	Ledger *ledger.File
	// OnlyMissing leaves tags that the target lists as they are, and asks for none.
	OnlyMissing bool
	// Progress counts what is done while it is done; nil is nobody's.
	Progress *Progress

	// Brought is what copies to the same target brought before this one, or bring
	// meanwhile; nil is nothing.
	Brought *Brought

	blobs, manifests *brought
	pools            pools
	limit            *rate.Limiter // nil: none
	way              atomic.Int32
	mu               sync.Mutex
	moved            Moved
}

// Brought is what lies at a target, since copies brought it: those that share it send no
// blob twice. The zero value knows of nothing; it is safe for use by several copies.
type Brought struct{ blobs, manifests brought }

// Outcome is what became of a tag.
type Outcome string

// The outcomes.
const (
	Copied Outcome = "copied"
	Same   Outcome = "same"   // it was there already
	Failed Outcome = "failed" // the target is as it was, as to this tag
)

// Event tells of a tag, or of a repository whose tags could not be told.
type Event struct {
	Source, Target Reference
	Outcome        Outcome
	Digest         v1.Hash // of what is there now; empty where it failed
	Err            error
}

// Moved counts what was sent.
type Moved struct {
	Blobs, Mounted int   // blobs sent, and mounted from another repository
	Bytes          int64 // of the blobs sent
}

// How much is on its way at once, and how deep things lie in each other.
const (
	smallAtOnce = 12
	largeAtOnce = 6
	tagsAtOnce  = 4 // of one repository

	repositoriesAtOnce = 8
	deepest            = 8 // indexes in indexes, and referrers of referrers

	burst = 64 << 10 // bytes that are read at once where a rate bounds them
)

// Copy copies repositories, as far as that can be done: what fails is told by Report,
// and does not stop the rest. It ends early where the context does.
func (c *Copier) Copy(ctx context.Context, items []Item) Moved {
	if c.Brought == nil {
		c.Brought = &Brought{}
	}
	c.blobs, c.manifests = &c.Brought.blobs, &c.Brought.manifests
	c.pools = newPools(smallAtOnce, largeAtOnce)
	if c.Rate > 0 {
		c.limit = rate.NewLimiter(rate.Limit(c.Rate), burst)
	}
	c.Progress.list(items...)
	each(cmp.Or(c.AtOnce, repositoriesAtOnce), items, func(item Item) {
		if ctx.Err() != nil {
			return
		}
		if err := c.repository(ctx, item); err != nil {
			c.Progress.listed(item, 1)
			c.tell(ctx, Event{Source: Reference{Repository: item.Source}, Target: Reference{Repository: item.Target}, Err: err})
		}
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.moved
}

// each calls a function for each of a list, for a few at once.
func each[T any](atOnce int, list []T, f func(T)) {
	var all errgroup.Group
	all.SetLimit(atOnce)
	for _, x := range list {
		all.Go(func() error {
			f(x)
			return nil
		})
	}
	_ = all.Wait() // no function of it fails
}

func (c *Copier) count(note func(*Moved)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	note(&c.moved)
}

// tell reports what became of something, unless it was only stopped.
func (c *Copier) tell(ctx context.Context, e Event) {
	if e.Err != nil {
		e.Outcome, e.Digest = Failed, v1.Hash{}
	}
	if e.Err == nil || ctx.Err() == nil {
		c.Progress.Tell(e.Outcome)
		c.Report(e)
	}
}

// repository copies the tags of one.
func (c *Copier) repository(ctx context.Context, item Item) error {
	j := &job{Copier: c, item: item, heads: map[string]v1.Hash{}}
	pairs, err := j.pairs(ctx)
	if err != nil {
		return err
	}
	if len(pairs) == 0 {
		c.Progress.listed(item, 0)
		return nil
	}
	if first := pairs[0].target; j.item.There != nil {
		j.heads, j.empty, j.have = j.item.There, j.item.New, map[string]bool{}
		for tag := range j.item.There {
			j.have[tag] = true
		}
	} else if first.Tag != "" {
		if err := j.look(ctx, first.Tag); err != nil {
			return err
		}
	}
	c.Progress.listed(item, len(pairs))
	each(tagsAtOnce, pairs, func(p pair) {
		if ctx.Err() != nil {
			return
		}
		c.Progress.begin()
		e := Event{Source: p.source, Target: p.target}
		e.Digest, e.Outcome, e.Err = j.one(ctx, p.source, p.target)
		if c.Ledger != nil && e.Err == nil && p.target.Tag != "" && e.Digest != (v1.Hash{}) {
			c.Ledger.NoteTag(p.target.Repository, p.target.Tag, e.Digest)
		}
		c.tell(ctx, e)
	})
	return nil
}

// pair is what is copied, and what it becomes.
type pair struct{ source, target Reference }

// pairs lists them.
func (j *job) pairs(ctx context.Context) (list []pair, err error) {
	if j.item.One != "" {
		p := pair{Reference{Repository: j.item.Source}, Reference{Repository: j.item.Target, Tag: j.item.As}}
		if p.source.Digest, err = v1.NewHash(j.item.One); err != nil {
			p.source.Tag = j.item.One
		}
		if p.target.Tag == "" {
			p.target.Tag, p.target.Digest = p.source.Tag, p.source.Digest
		}
		return []pair{p}, nil
	}
	tags := j.item.Tags
	if tags == nil {
		all, ok, err := j.From.Tags(ctx, j.item.Source)
		if err == nil && !ok {
			err = j.From.fail(Reference{Repository: j.item.Source}, "listing the tags of", ErrAbsent)
		}
		if err != nil {
			return nil, err
		}
		tags = all
		if j.item.Listed == nil {
			j.item.Listed = all
		}
	}
	if j.item.Listed != nil {
		j.tags = map[string]bool{}
		for _, tag := range j.item.Listed {
			j.tags[tag] = true
		}
	}
	for _, tag := range tags {
		if j.item.Keep != nil && !j.item.Keep(tag) {
			continue
		}
		p := pair{Reference{Repository: j.item.Source, Tag: tag}, Reference{Repository: j.item.Target, Tag: tag}}
		if d, ok := j.item.Pinned[tag]; ok {
			p.source = Reference{Repository: j.item.Source, Digest: d}
		}
		list = append(list, p)
	}
	return list, nil
}

// job is a repository that is being copied, and what is known of its target.
type job struct {
	*Copier
	item  Item
	empty bool               // the target does not exist
	have  map[string]bool    // its tags; nil: nobody asked
	heads map[string]v1.Hash // of the tags that were asked for by themselves
	tags  map[string]bool    // of the source; nil: nobody listed them
}

// The ways to learn what is at the target. One that is new is known by its lists, which
// are empty: one request for a repository. One that is kept in step is known by its
// tags, which all are there: no list is needed.
const (
	wayUnknown int32 = iota
	byLists
	byTags
)

// look learns what is at the target, by the way that served the others.
func (j *job) look(ctx context.Context, first string) error {
	if j.way.Load() != byLists && j.Ledger == nil && !j.OnlyMissing {
		digest, ok, err := j.To.head(ctx, Reference{Repository: j.item.Target, Tag: first})
		if ctx.Err() != nil || errors.Is(err, providers.ErrUnreachable) {
			return err
		}
		// else a list tells why, which has a body
		if err == nil && ok {
			j.way.CompareAndSwap(wayUnknown, byTags)
			j.heads[first] = digest
			return nil
		}
		if err == nil {
			j.way.Store(byLists)
		}
	}
	// a list is what a ledger is held against, and what only the missing are told by
	tags, ok, err := j.To.Tags(ctx, j.item.Target)
	if err != nil {
		return err
	}
	j.empty, j.have = !ok, map[string]bool{}
	for _, t := range tags {
		j.have[t] = true
	}
	return nil
}

// one copies one of them, and says what became of it.
func (j *job) one(ctx context.Context, source, target Reference) (v1.Hash, Outcome, error) {
	if j.OnlyMissing && j.have[target.Tag] {
		return j.heads[target.Tag], Same, nil
	}
	there, is, err := j.present(ctx, source, target)
	known, kind := is.Digest, is.MediaType
	if err != nil {
		return v1.Hash{}, Failed, err
	}
	if j.OnlyMissing && j.have != nil && there != (v1.Hash{}) {
		return there, Same, nil
	}
	if known != (v1.Hash{}) && there == known {
		return known, Same, j.around(ctx, v1.Descriptor{Digest: known, MediaType: kind}, nil)
	}
	m, err := j.From.manifest(ctx, source)
	if err != nil {
		return v1.Hash{}, Failed, err
	}
	if m.digest == there {
		return m.digest, Same, j.around(ctx, m.descriptor(), &m)
	}
	now, what, ok, err := j.gather(ctx, target, m)
	if !ok && err == nil {
		now, what, err = m.digest, Copied, j.place(ctx, target, m, 0)
	}
	if err != nil {
		return v1.Hash{}, Failed, err
	}
	return now, what, j.around(ctx, m.descriptor(), &m)
}

// absent reports whether the target is known not to have a tag. What a registry tells of
// its images may leave out the tags of what refers to them.
func (j *job) absent(tag string) bool {
	if j.have == nil || tag == "" || j.have[tag] {
		return false
	}
	_, told := j.To.(*looked)
	return !told || !attached.MatchString(tag)
}

// present asks both sides what a tag is, where it may be there already. What it is at the
// source has a media type where that was asked.
func (j *job) present(ctx context.Context, source, target Reference) (there v1.Hash, known v1.Descriptor, err error) {
	if j.absent(target.Tag) {
		return v1.Hash{}, v1.Descriptor{}, nil
	}
	var both errgroup.Group
	there, asked := j.heads[target.Tag]
	if !asked && j.Ledger != nil && target.Tag != "" {
		there, asked = j.Ledger.Tag(target.Repository, target.Tag)
	}
	if !asked {
		both.Go(func() (err error) {
			there, _, err = j.To.head(ctx, target)
			return err
		})
	}
	if known.Digest = source.Digest; known.Digest == (v1.Hash{}) {
		both.Go(func() (err error) {
			if known, err = j.From.describe(ctx, source); errors.Is(err, ErrAbsent) {
				return nil // which is said by who reads it
			}
			return err
		})
	}
	err = both.Wait()
	return there, known, err
}

// parts are what a manifest names.
type parts struct {
	Config    *v1.Descriptor  `json:"config"`
	Layers    []v1.Descriptor `json:"layers"`
	Blobs     []v1.Descriptor `json:"blobs"` // of an OCI artifact manifest, which nobody makes any more
	Manifests []v1.Descriptor `json:"manifests"`
	FSLayers  json.RawMessage `json:"fsLayers"`
}

// parts finds what a manifest names.
func (m manifest) parts() (parts, error) {
	var p parts
	switch err := json.Unmarshal(m.bytes, &p); {
	case err != nil:
		return parts{}, fmt.Errorf("%w: %w", ErrManifest, err)
	case p.FSLayers != nil || m.mediaType.IsSchema1():
		return parts{}, fmt.Errorf("%w: it is of Docker's first schema, whose digest changes with each copy; push the image anew", ErrManifest)
	case m.mediaType.IsIndex() != (p.Manifests != nil && p.Config == nil) && (m.mediaType.IsIndex() || m.mediaType.IsImage()):
		return parts{}, fmt.Errorf("%w: it says that it is %s, and names what such a one does not", ErrManifest, m.mediaType)
	}
	for _, d := range slices.Concat(p.blobs(), p.Manifests) {
		if d.Size < 0 {
			return parts{}, fmt.Errorf("%w: it says that %s has %d bytes", ErrManifest, d.Digest, d.Size)
		}
	}
	return p, nil
}

// blobs are those that are stored beside it, each once: not those that it says to fetch
// from elsewhere, which registries may not hold.
func (p parts) blobs() (list []v1.Descriptor) {
	seen := map[v1.Hash]bool{}
	note := func(d v1.Descriptor) {
		if !seen[d.Digest] && (len(d.URLs) == 0 || d.MediaType.IsDistributable()) {
			list = append(list, d)
		}
		seen[d.Digest] = true
	}
	if p.Config != nil {
		note(*p.Config)
	}
	for _, d := range slices.Concat(p.Layers, p.Blobs) {
		note(d)
	}
	return list
}

// place has a manifest at the target with all that it names, what it names first.
func (j *job) place(ctx context.Context, target Reference, m manifest, depth int) error {
	if _, err := j.contents(ctx, target.Repository, m, depth); err != nil {
		return err
	}
	return j.To.fail(target, "storing", j.To.put(ctx, target, m))
}

// contents has all that a manifest names at the target.
func (j *job) contents(ctx context.Context, repository string, m manifest, depth int) (parts, error) {
	fail := func(err error) error {
		return j.From.fail(Reference{Repository: j.item.Source, Digest: m.digest}, "reading", err)
	}
	p, err := m.parts()
	if err != nil {
		return p, fail(err)
	}
	if depth > deepest {
		return p, fail(fmt.Errorf("%w: indexes lie in it more than %d deep", ErrManifest, deepest))
	}
	all, ctx2 := errgroup.WithContext(ctx)
	all.SetLimit(smallAtOnce)
	for _, d := range p.Manifests {
		all.Go(func() error { return j.child(ctx2, d, depth+1) })
	}
	for _, d := range p.blobs() {
		all.Go(func() error {
			if err := j.lookFor(ctx2, d); err != nil {
				return err
			}
			return j.bring(ctx2, j.item.Source, repository, d)
		})
	}
	return p, all.Wait()
}

// lookFor asks whether a blob lies in a target that was there before, unless somebody
// knows it already.
func (j *job) lookFor(ctx context.Context, d v1.Descriptor) error {
	if j.empty || j.blobs.knows(d.Digest) || j.Ledger != nil && j.Ledger.Blob(j.item.Target, d.Digest) != "" {
		return nil
	}
	ok, err := j.To.has(ctx, j.item.Target, d.Digest)
	if ok {
		j.blobs.have(j.item.Target, d.Digest)
	}
	return err
}

// child copies a manifest that another names, once for a repository.
func (j *job) child(ctx context.Context, d v1.Descriptor, depth int) (err error) {
	there, _, err := j.manifests.claim(ctx, j.item.Target, d.Digest)
	if err != nil || there {
		return err
	}
	defer func() { j.manifests.done(j.item.Target, d.Digest, err == nil) }()
	target := Reference{Repository: j.item.Target, Digest: d.Digest}
	if !j.empty {
		if _, ok, err := j.To.head(ctx, target); err != nil || ok {
			return err
		}
	}
	m, err := j.From.manifest(ctx, Reference{Repository: j.item.Source, Digest: d.Digest})
	if err != nil {
		return err
	}
	return j.place(ctx, target, m, depth)
}

// has asks whether a blob lies in a repository.
func (r *Registry) has(ctx context.Context, repository string, digest v1.Hash) (bool, error) {
	resp, err := r.ask(ctx, http.MethodHead, repository+"/blobs/"+digest.String(), nil, nil, r.scope(repository), http.StatusOK)
	if errors.Is(err, ErrAbsent) {
		return false, nil
	}
	if err != nil {
		return false, r.fail(Reference{Repository: repository, Digest: digest}, "asking for", err)
	}
	resp.Body.Close()
	return true, nil
}
