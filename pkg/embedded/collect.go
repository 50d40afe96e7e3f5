package embedded

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/embedded/quota"
	"github.com/ocisync/ocisync/pkg/embedded/storage"
	"github.com/ocisync/ocisync/schema"
)

const (
	// defaultDelay is how old content must be to go, where nothing is said.
	defaultDelay = 2 * time.Hour
	// shortestDelay is less than any push may take between a blob and the
	// manifest that names it.
	shortestDelay = time.Minute
	// oldUpload is how long an upload must have been left alone to go.
	oldUpload = 24 * time.Hour
	// slice is how long a sweep keeps writers waiting at a time.
	slice = 100 * time.Millisecond
)

// Collected says what a collection removed, or, in a dry run, would.
type Collected struct {
	DryRun bool `json:"dry_run,omitempty"`
	// Blobs is how many contents went from the storage, manifests included,
	// Uploads how many uploads that nobody finished, and Bytes the size of both.
	Blobs   int   `json:"blobs"`
	Uploads int   `json:"uploads,omitempty"`
	Bytes   int64 `json:"bytes"`
	// Manifests is how many went from their repository, and Tags how many
	// fallback tags of referrers whose subject is gone.
	Manifests int `json:"manifests"`
	Tags      int `json:"tags"`
	// Repositories, sorted, are those that left the catalogue.
	Repositories []string `json:"repositories"`
	// Unread, sorted, are manifests, as repository@digest, that are damaged or of an
	// unknown format: what they need cannot be told, so that nothing of their
	// repositories went.
	Unread []string `json:"unread,omitempty"`
}

// collection is one run of garbage collection: it marks what stays, beside
// pushes, and then sweeps what is left, a slice of time at a time, while
// writers wait. Each slice begins by marking anew what writers changed since,
// so that whatever is removed is garbage at that moment. What was once marked
// stays until the next run.
type collection struct {
	collecting
	storage *storage.Storage
	gate    *gate
	now     time.Time // by the clock of this host
	stored  time.Time // and by that of the storage

	marked   map[digest.Digest]struct{}
	freed    map[digest.Digest]struct{} // waits for no delay
	late     []digest.Digest            // such that was found since the blobs were listed
	findings map[string]*finding
	// what is left to do, in this order: no manifest outlives what it needs
	referring []string // repositories with tags and manifests to go
	linking   []string // repositories with links to go
	blobs     []oldBlob
	emptied   []string
	result    Collected
	announced map[removal]bool // may go in this slice
	gone      []removal        // went in this slice
}

type oldBlob struct {
	digest digest.Digest
	size   int64
}

// collecting says what goes.
type collecting struct {
	delay    time.Duration          // the grace period: what is younger stays
	untagged bool                   // manifests without a tag go too
	dry      bool                   // nothing goes, it is only counted
	limited  func(repo string) bool // a quota holds, so that what a deletion by digest freed waits for no delay; may be nil
	// yields reports that a blob of a repository waits for no delay, where no manifest
	// needs it; may be nil
	yields   func(repo string, d digest.Digest) bool
	uploads  *quota.Uploads  // those that somebody may be working on; may be nil
	after    func()          // called after the last slice, before writers go on; may be nil
	announce func([]removal) // called with tags and manifests before any goes; may be nil
	tell     func([]removal) // called with what went of them, before writers go on; may be nil
}

func collectingBy(spec *schema.GC, dry bool) collecting {
	c := collecting{delay: defaultDelay, dry: dry}
	if spec != nil && spec.Delay != nil {
		c.delay = spec.Delay.Std()
	}
	c.untagged = spec != nil && spec.Untagged != nil && *spec.Untagged
	return c
}

// collect removes what no manifest needs and what the settings let go.
func collect(ctx context.Context, s *storage.Storage, g *gate, what collecting, now time.Time) (_ Collected, err error) {
	c := &collection{
		collecting: what, storage: s, gate: g, now: now,
		marked: map[digest.Digest]struct{}{}, freed: map[digest.Digest]struct{}{}, findings: map[string]*finding{},
		result: Collected{DryRun: what.dry, Repositories: []string{}},
	}
	if c.stored, err = c.clock(ctx); err != nil {
		return c.result, fmt.Errorf("collecting garbage: %w", err)
	}
	g.begin(now, c.delay)
	defer g.end()
	err = c.mark(ctx)
	if err == nil && c.dry {
		c.tally()
	} else if err == nil {
		err = c.sweep(ctx)
	}
	for repo, f := range c.findings {
		for _, d := range f.unread {
			c.result.Unread = append(c.result.Unread, repo+"@"+d.String())
		}
	}
	slices.Sort(c.result.Unread)
	slices.Sort(c.result.Repositories)
	if err != nil {
		return c.result, fmt.Errorf("collecting garbage: %w", err)
	}
	return c.result, nil
}

// clock is the time by which content is old. A dry run writes nothing, and so
// takes this host's.
func (c *collection) clock(ctx context.Context) (time.Time, error) {
	if c.dry {
		return c.now, nil
	}
	skew, err := c.storage.Skew(ctx)
	return c.now.Add(skew), err
}

// young: what is from the future is young too; a clock was set back.
func (c *collection) young(t time.Time) bool { return c.stored.Sub(t) < c.delay }

// lately reports whether content was said to be there a short while ago.
func (c *collection) lately(repo string, d digest.Digest) bool {
	return c.now.Sub(c.gate.lastSeen(repo, d)) < c.delay
}

// told is when content was last said to be there, by the storage's clock.
func (c *collection) told(repo string, d digest.Digest) time.Time {
	return c.gate.lastSeen(repo, d).Add(c.stored.Sub(c.now))
}

func (c *collection) mark(ctx context.Context) error {
	repos, err := c.storage.Repositories(ctx, "")
	if err != nil {
		return err
	}
	for _, repo := range repos {
		if err := c.find(ctx, repo); err != nil {
			return err
		}
	}
	c.blobs, err = c.old(ctx)
	return err
}

func (c *collection) find(ctx context.Context, repo string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := c.scan(ctx, repo)
	if err != nil {
		return err
	}
	c.findings[repo] = f
	if !f.none() {
		c.referring, c.linking = append(c.referring, repo), append(c.linking, repo)
	}
	c.emptied = append(c.emptied, repo)
	return nil
}

// renew marks again in the repositories that were changed.
func (c *collection) renew(ctx context.Context) error {
	for repo := range c.gate.changed() {
		if _, err := reference.WithName(repo); err != nil { // a request that was refused
			continue
		}
		if err := c.find(ctx, repo); err != nil {
			return err
		}
	}
	for _, d := range c.late {
		b, ok, err := c.storage.Blob(ctx, d)
		if err != nil {
			return err
		}
		if ok {
			c.blobs = append(c.blobs, oldBlob{d, b.Size})
		}
	}
	c.late = nil
	return nil
}

// free has content go without the delay, unless something needs it: its link goes, and
// without that no later run would know.
func (c *collection) free(d digest.Digest) {
	if _, known := c.freed[d]; !known {
		c.freed[d] = struct{}{}
		c.late = append(c.late, d)
	}
}

// old lists the blobs that are not young.
func (c *collection) old(ctx context.Context) ([]oldBlob, error) {
	var out []oldBlob
	c.late = nil
	err := c.storage.Blobs(ctx, func(d digest.Digest) error {
		if _, stays := c.marked[d]; stays {
			return nil
		}
		b, ok, err := c.storage.Blob(ctx, d)
		if _, freed := c.freed[d]; err == nil && ok && (freed || !c.young(b.Made)) {
			out = append(out, oldBlob{d, b.Size})
		}
		return err
	})
	return out, err
}

// tally counts what a sweep would remove.
func (c *collection) tally() {
	for repo, f := range c.findings {
		c.result.Tags += len(f.tags)
		c.result.Manifests += len(f.manifests)
		c.result.Uploads += len(f.uploads)
		for _, u := range f.uploads {
			c.result.Bytes += u.Size
		}
		if f.empty && f.listed {
			c.result.Repositories = append(c.result.Repositories, repo)
		}
	}
	for _, b := range c.blobs {
		if _, stays := c.marked[b.digest]; !stays {
			c.result.Blobs++
			c.result.Bytes += b.size
		}
	}
}

func (c *collection) sweep(ctx context.Context) error {
	for {
		// beside the writers, so that little is left to do while they wait
		if err := c.renew(ctx); err != nil {
			return err
		}
		if more, err := c.sweepSlice(ctx); err != nil || !more {
			return err
		}
	}
}

func (c *collection) sweepSlice(ctx context.Context) (more bool, err error) {
	c.gate.close()
	defer c.gate.open()
	defer func() {
		if !more && c.after != nil {
			c.after()
		}
	}()
	start := time.Now()
	if err := c.renew(ctx); err != nil {
		return false, err
	}
	c.foretell()
	defer c.report()
	renewed := time.Since(start) // as long again is for removing, so that a sweep ends
	for end := time.Now().Add(max(slice, renewed)); time.Now().Before(end); {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if c.unannounced() {
			break
		}
		more, err := c.removeNext(ctx)
		if err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// upcoming lists tags and manifests that go next, in order, at most so many.
func (c *collection) upcoming(most int) (list []removal) {
	listed := map[string]bool{} // one that was found anew stands there twice
	for _, repo := range c.referring {
		f := c.findings[repo]
		if listed[repo] {
			continue
		}
		listed[repo] = true
		for _, tag := range f.tags[:min(len(f.tags), most-len(list))] {
			list = append(list, removal{Repository: repo, Reference: tag.name})
		}
		for _, m := range f.manifests[:min(len(f.manifests), most-len(list))] {
			list = append(list, removal{Repository: repo, Reference: m.digest.String()})
		}
		if len(list) == most {
			break
		}
	}
	return list
}

// unannounced reports whether what goes next is a tag or manifest that was not
// announced for this slice.
func (c *collection) unannounced() bool {
	if len(c.referring) == 0 {
		return false
	}
	repo := c.referring[0]
	next := removal{Repository: repo}
	switch f := c.findings[repo]; {
	case len(f.tags) > 0:
		next.Reference = f.tags[0].name
	case len(f.manifests) > 0:
		next.Reference = f.manifests[0].digest.String()
	default:
		return false
	}
	return !c.announced[next]
}

// foretell announces what may go in a slice.
func (c *collection) foretell() {
	list := c.upcoming(batchSize)
	c.announced = map[removal]bool{}
	for _, x := range list {
		c.announced[x] = true
	}
	if c.announce != nil && len(list) > 0 {
		c.announce(list)
	}
}

// report tells of what went of that.
func (c *collection) report() {
	if c.tell != nil && len(c.announced) > 0 {
		c.tell(c.gone)
	}
	c.gone = nil
}

// removeNext removes one thing; false when nothing is left.
func (c *collection) removeNext(ctx context.Context) (bool, error) {
	switch {
	case len(c.referring) > 0:
		repo := c.referring[0]
		f := c.findings[repo]
		switch {
		case len(f.tags) > 0:
			tag := f.tags[0]
			f.tags = f.tags[1:]
			c.result.Tags++
			return true, c.went(repo, tag.name, c.storage.DropTag(ctx, repo, tag.name, tag.needed, tag.because))
		case len(f.manifests) > 0:
			m := f.manifests[0]
			if c.lately(repo, m.digest) {
				return true, c.find(ctx, repo)
			}
			f.manifests = f.manifests[1:]
			c.result.Manifests++
			return true, c.went(repo, m.digest.String(), c.removeManifest(ctx, repo, m))
		}
		c.referring = c.referring[1:]
	case len(c.linking) > 0:
		repo := c.linking[0]
		f := c.findings[repo]
		switch {
		case len(f.layers) > 0:
			d := f.layers[0]
			if !c.mayStillGo(repo, d) {
				return true, c.find(ctx, repo)
			}
			f.layers = f.layers[1:]
			return true, c.storage.RemoveLayer(ctx, repo, d)
		case len(f.stale) > 0:
			n := f.stale[0]
			f.stale = f.stale[1:]
			return true, c.storage.RemoveReferrer(ctx, repo, n.subject, n.digest)
		case len(f.uploads) > 0:
			u := f.uploads[0]
			f.uploads = f.uploads[1:]
			return true, c.removeUpload(ctx, repo, u)
		case len(f.notes) > 0:
			d := f.notes[0]
			f.notes = f.notes[1:]
			return true, c.storage.ForgetNote(ctx, repo, d)
		}
		c.linking = c.linking[1:]
	case len(c.blobs) > 0:
		b := c.blobs[0]
		c.blobs = c.blobs[1:]
		if _, stays := c.marked[b.digest]; stays {
			return true, nil
		}
		c.result.Blobs++
		c.result.Bytes += b.size
		return true, c.storage.RemoveBlob(ctx, b.digest)
	case len(c.emptied) > 0:
		repo := c.emptied[0]
		c.emptied = c.emptied[1:]
		return true, c.tidy(ctx, repo)
	default:
		return false, nil
	}
	return true, nil
}

// mayStillGo reports whether nobody was told meanwhile that a blob to go is there.
func (c *collection) mayStillGo(repo string, d digest.Digest) bool {
	f := c.findings[repo]
	if target, yields := f.yielding[d]; yields {
		return c.yields(repo, target)
	}
	if stored, idle := f.idle[d]; idle {
		return c.told(repo, d).Before(stored)
	}
	return !c.lately(repo, d)
}

func (c *collection) went(repo, reference string, err error) error {
	c.gone = append(c.gone, removal{repo, reference, err})
	return err
}

func (c *collection) removeManifest(ctx context.Context, repo string, m doomed) error {
	for _, tag := range m.tags {
		if err := c.storage.RemoveFromTagHistory(ctx, repo, tag, m.digest); err != nil {
			return err
		}
	}
	if m.subject != "" {
		if err := c.storage.RemoveReferrer(ctx, repo, m.subject, m.digest); err != nil {
			return err
		}
	}
	return c.storage.RemoveManifest(ctx, repo, m.digest, m.because)
}

func (c *collection) removeUpload(ctx context.Context, repo string, u storage.Upload) error {
	if c.inUse(repo, u.ID) {
		return nil
	}
	c.result.Uploads++
	c.result.Bytes += u.Size
	err := c.storage.RemoveUpload(ctx, repo, u.ID)
	if err == nil && c.uploads != nil {
		c.uploads.End(quota.Upload{Repository: repo, ID: u.ID})
	}
	return err
}

// inUse reports whether an upload may still go on.
func (c *collection) inUse(repo, id string) bool {
	return c.uploads != nil && c.uploads.Busy(repo, id, c.now.Add(-max(oldUpload, c.delay)))
}

// tidy takes a repository that holds nothing any more out of the catalogue.
func (c *collection) tidy(ctx context.Context, repo string) error {
	f := c.findings[repo]
	if !f.empty {
		return nil
	}
	if f.listed {
		f.listed = false
		c.result.Repositories = append(c.result.Repositories, repo)
	}
	return c.storage.Tidy(ctx, repo)
}
