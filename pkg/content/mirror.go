package content

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/ocisync/ocisync/pkg/content/sign"
	"github.com/ocisync/ocisync/schema"
)

// Mirror keeps tags of a repository as another one has them. Its fields are set before
// the first call and not after.
type Mirror struct {
	From           Source
	To             Target
	Source, Target string // repositories
	Tags           Selection
	// Trust are sets of keys and identities: one of each must have signed what is copied.
	Trust       []Trust
	Referrers   bool // what refers to the images comes along
	Prune       bool // tags of Owned go that the source has no longer, or that are not chosen any more
	OnlyMissing bool // tags that the target has are left as they are
	// KeepPrevious is the tag under which what a tag was stays, with {tag} and {date}
	// in it; "" for none.
	KeepPrevious string
	Rate         int64 // bytes per second; 0 is no bound
	// Owned are the tags that it copied before, and what they were then; of one that
	// it could not copy when it was applied, an empty digest.
	Owned map[string]v1.Hash
	// Brought is shared by mirrors that have one target; nil is nobody's.
	Brought *Brought
	// Report hears of each tag when it is through, from several goroutines; nil for
	// nobody.
	Report func(Event)
	// Progress is that of [Copier].
	Progress *Progress
}

// Step is a tag of a mirror that is not as it should be.
type Step struct {
	Tag string
	To  v1.Hash // what the source has, with the chosen platforms alone
	Was v1.Hash // what the target has; empty: nothing

	whole v1.Hash // what the source has, with all its platforms
}

// Refused is a tag that is not copied, and why.
type Refused struct {
	Step
	Why error
}

// Outlook is what a mirror would do now.
type Outlook struct {
	Copy []Step // sorted by tag
	// Foreign are those of Copy that the target has, and that the mirror did not copy.
	Foreign []string
	Same    []string // tags that are as the source has them, or are left alone; sorted
	Gone    []Step   // tags that prune would delete; sorted
	// Left are tags that the mirror owned, that are not as it copied them any more, and
	// that it would not copy again: it lets go of them. Sorted.
	Left []Step
	// Untrusted are tags that are not copied, since nobody signed them who must have;
	// sorted.
	Untrusted []Refused
	// Missing are tags that were chosen, and that the source does not have, or not as
	// they are wanted; sorted.
	Missing []Refused
	// Blobs and Bytes are what would be sent, as far as Weigh found out, and Shared how
	// many blobs another mirror sends, to be mounted from there.
	Blobs, Shared int
	Bytes         int64

	listed []string           // tags of the source; nil: not listed
	there  map[string]v1.Hash // tags of the target, as far as they matter
	fresh  bool               // there is no such repository yet
}

// String tells what differs in few words.
func (o Outlook) String() string {
	var fresh, moved []string
	for _, s := range o.Copy {
		if s.Was == (v1.Hash{}) {
			fresh = append(fresh, s.Tag)
		} else {
			moved = append(moved, s.Tag)
		}
	}
	gone := make([]string, len(o.Gone))
	for i, s := range o.Gone {
		gone[i] = s.Tag
	}
	var parts []string
	for _, part := range []struct {
		tags      []string
		one, many string
	}{{fresh, "1 new tag", "new tags"}, {moved, "1 tag that differs", "tags that differ"}, {gone, "1 tag less", "tags less"}} {
		switch n := len(part.tags); n {
		case 0:
			continue
		case 1:
			parts = append(parts, part.one+" ("+few(part.tags)+")")
		default:
			parts = append(parts, fmt.Sprintf("%d %s (%s)", n, part.many, few(part.tags)))
		}
	}
	return strings.Join(parts, ", ")
}

// few names the first of a list.
func few(list []string) string {
	const most = 5
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}

// Lines tell a plan what an outlook is: each tag with its digest, and how much is sent.
func (o Outlook) Lines() []string {
	short := func(h v1.Hash) string { return h.Algorithm + ":" + h.Hex[:min(12, len(h.Hex))] }
	var out []string
	for _, s := range o.Copy {
		line := fmt.Sprintf("copies %s (%s)", s.Tag, short(s.To))
		if s.Was != (v1.Hash{}) {
			line += ", which is " + short(s.Was) + " now"
		}
		out = append(out, line)
	}
	for _, u := range o.Untrusted {
		out = append(out, fmt.Sprintf("refuses %s (%s): %v", u.Tag, short(u.To), sign.ErrUntrusted))
	}
	for _, s := range o.Gone {
		out = append(out, fmt.Sprintf("deletes %s (%s)", s.Tag, short(s.Was)))
	}
	if line := o.LetsGo(); line != "" {
		out = append(out, line)
	}
	if n := len(o.Same); n > 0 {
		out = append(out, fmt.Sprintf("%d of its tags are as they should be", n))
	}
	if len(out) == 0 {
		out = append(out, "chooses no tag that the source has; see its tags")
	}
	if len(o.Copy) > 0 {
		line := fmt.Sprintf("sends %d blobs, %s", o.Blobs, schema.Size(o.Bytes).Human())
		if o.Shared > 0 {
			line += fmt.Sprintf(", and mounts %d that another mirror of this plan sends", o.Shared)
		}
		out = append(out, line)
	}
	return out
}

// LetsGo tells of the tags that are the mirror's no longer; "" is none.
func (o Outlook) LetsGo() string {
	tags := make([]string, len(o.Left))
	for i, s := range o.Left {
		tags[i] = s.Tag
	}
	switch len(tags) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("lets go of 1 tag (%s), which is not here as it was copied, and which it would not copy again", tags[0])
	}
	return fmt.Sprintf("lets go of %d tags (%s), which are not here as they were copied, and which it would not copy again", len(tags), few(tags))
}

// Lacks tells what was chosen and cannot be copied, each tag by itself; nil is nothing.
func (o Outlook) Lacks() (out []string) {
	for _, r := range o.Missing {
		out = append(out, fmt.Sprintf("%s cannot be copied: %v", r.Tag, r.Why))
	}
	return out
}

// Refuses tells of what nobody signed who must have, each tag by itself.
func (o Outlook) Refuses() (out []string) {
	for _, r := range o.Untrusted {
		out = append(out, fmt.Sprintf("%s is refused: %v", r.Tag, r.Why))
	}
	return out
}

// ofOne reports whether an error is of one tag alone, and says nothing of the others.
func ofOne(err error) bool {
	return errors.Is(err, ErrAbsent) || errors.Is(err, ErrManifest) || errors.Is(err, ErrDigest)
}

// ErrNothing is a source that has no tags, where a mirror copied some before: that may
// be a mistake of its answer, and deletes nothing.
var ErrNothing = errors.New("the source lists no tags, and had some before; nothing is deleted for that")

// Look compares both sides. It changes nothing.
func (m *Mirror) Look(ctx context.Context) (Outlook, error) {
	var out Outlook
	if m.Tags.listed() && m.Referrers { // which may be tags too
		var err error
		if out.listed, _, err = m.From.Tags(ctx, m.Source); err != nil {
			return Outlook{}, err
		}
	}
	if !m.Tags.listed() {
		tags, ok, err := m.From.Tags(ctx, m.Source)
		if err == nil && !ok {
			err = m.From.fail(Reference{Repository: m.Source}, "listing the tags of", ErrAbsent)
		}
		if err != nil {
			return Outlook{}, err
		}
		if len(tags) == 0 && len(m.Owned) > 0 {
			return Outlook{}, m.From.fail(Reference{Repository: m.Source}, "listing the tags of", ErrNothing)
		}
		out.listed = tags
	}
	from := out.listed
	if m.Tags.listed() {
		from = nil
	}
	chosen, lost, err := m.Tags.choose(ctx, m.From, m.Source, from)
	if err != nil {
		return Outlook{}, err
	}
	out.Missing = lost
	asking := ctx
	have, ok, err := m.To.Tags(ctx, m.Target)
	if err != nil {
		return Outlook{}, err
	}
	out.there, out.fresh = map[string]v1.Hash{}, !ok
	steps, why := make([]Step, len(chosen)), make([]error, len(chosen))
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(smallAtOnce)
	var mu sync.Mutex
	for i, c := range chosen {
		steps[i] = Step{Tag: c.tag, To: c.pin}
		there := slices.Contains(have, c.tag)
		all.Go(func() error {
			err := m.sides(ctx, &steps[i], there)
			if ofOne(err) {
				why[i], err = err, nil
			}
			return err
		})
	}
	for _, r := range lost {
		chosen = append(chosen, choice{tag: r.Tag}) // it does not go for that
	}
	for _, tag := range m.former(chosen) {
		all.Go(func() error {
			var digest v1.Hash
			if slices.Contains(have, tag) {
				var err error
				if digest, _, err = m.To.head(ctx, Reference{Repository: m.Target, Tag: tag}); err != nil {
					return err
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if digest != (v1.Hash{}) {
				out.there[tag] = digest
			}
			switch own := digest != (v1.Hash{}) && digest == m.Owned[tag]; {
			case !own: // it is somebody else's by now, or nobody's
				out.Left = append(out.Left, Step{Tag: tag, Was: digest})
			case m.Prune:
				out.Gone = append(out.Gone, Step{Tag: tag, Was: digest})
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		return Outlook{}, err
	}
	for i, s := range steps {
		if s.Was != (v1.Hash{}) {
			out.there[s.Tag] = s.Was
		}
		switch {
		case m.OnlyMissing && s.Was != (v1.Hash{}), why[i] == nil && s.To == s.Was:
			out.Same = append(out.Same, s.Tag)
			if own, was := m.Owned[s.Tag]; m.OnlyMissing && was && own != s.Was {
				out.Left = append(out.Left, Step{Tag: s.Tag, Was: s.Was})
			}
		case why[i] != nil:
			out.Missing = append(out.Missing, Refused{s, why[i]})
		default:
			out.Copy = append(out.Copy, s)
			if m.Owned[s.Tag] == (v1.Hash{}) && s.Was != (v1.Hash{}) {
				out.Foreign = append(out.Foreign, s.Tag)
			}
		}
	}
	if n := len(out.Missing); n > 0 && n == len(chosen) { // which may be a mistake of its answer
		return Outlook{}, out.Missing[0].Why
	}
	if err := m.check(asking, &out); err != nil {
		return Outlook{}, err
	}
	byTag := func(a, b Step) int { return strings.Compare(a.Tag, b.Tag) }
	slices.SortFunc(out.Copy, byTag)
	slices.SortFunc(out.Gone, byTag)
	slices.SortFunc(out.Left, byTag)
	slices.SortFunc(out.Missing, refusedByTag)
	slices.Sort(out.Same)
	slices.Sort(out.Foreign)
	return out, nil
}

func refusedByTag(a, b Refused) int { return strings.Compare(a.Tag, b.Tag) }

// check takes from what would be copied what is not signed as it must be.
func (m *Mirror) check(ctx context.Context, o *Outlook) error {
	if len(m.Trust) == 0 {
		return nil
	}
	why := make([]error, len(o.Copy))
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(smallAtOnce)
	for i, s := range o.Copy {
		all.Go(func() error {
			why[i] = m.trusted(ctx, s)
			if errors.Is(why[i], sign.ErrUntrusted) || ofOne(why[i]) {
				return nil
			}
			return why[i]
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	var copied []Step
	for i, s := range o.Copy {
		if why[i] != nil {
			o.Untrusted = append(o.Untrusted, Refused{s, why[i]})
		} else {
			copied = append(copied, s)
		}
	}
	o.Copy = copied
	slices.SortFunc(o.Untrusted, refusedByTag)
	return nil
}

// trusted holds a tag against each set: the whole index of it, where platforms
// are chosen.
func (m *Mirror) trusted(ctx context.Context, s Step) error {
	for _, trust := range m.Trust {
		if err := Verify(ctx, m.From, m.Source, s.whole, trust); err != nil {
			return err
		}
	}
	return nil
}

// attachments are the tags of the source under which cosign keeps what belongs to what
// is copied.
func (m *Mirror) attachments(o Outlook) (tags []string) {
	if !m.Referrers {
		return nil
	}
	for _, s := range o.Copy {
		at := fallback(s.whole)
		for _, suffix := range []string{".sig", ".att", ".sbom"} {
			if slices.Contains(o.listed, at+suffix) && !slices.Contains(tags, at+suffix) {
				tags = append(tags, at+suffix)
			}
		}
	}
	return tags
}

// sides asks what a tag is on both.
func (m *Mirror) sides(ctx context.Context, s *Step, there bool) error {
	if there {
		var err error
		if s.Was, _, err = m.To.head(ctx, Reference{Repository: m.Target, Tag: s.Tag}); err != nil {
			return err
		}
	}
	ref := choice{s.Tag, s.To}.in(m.Source)
	if less, ok := m.From.(*reduced); ok {
		got, whole, err := less.less(ctx, ref)
		s.To, s.whole = got.digest, whole
		return err
	}
	if s.whole = s.To; s.To != (v1.Hash{}) {
		return nil
	}
	digest, ok, err := m.From.head(ctx, ref)
	switch {
	case err != nil:
		return err
	case !ok:
		return m.From.fail(ref, "asking for", ErrAbsent)
	case digest == v1.Hash{}: // it does not say
		got, err := m.From.manifest(ctx, ref)
		if err != nil {
			return err
		}
		digest = got.digest
	}
	s.To, s.whole = digest, digest
	return nil
}

// former lists the tags that it copied and that are chosen no longer.
func (m *Mirror) former(chosen []choice) []string {
	keep := map[string]bool{}
	for _, c := range chosen {
		keep[c.tag] = true
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(m.Owned)), func(tag string) bool {
		return keep[tag]
	})
}

// Settled is what the mirror owns by an outlook, and nothing is written for it: what it
// lets go of is its own no longer, and what became as the source has it is so by now.
func (m *Mirror) Settled(o Outlook) map[string]v1.Hash {
	owned := map[string]v1.Hash{}
	maps.Copy(owned, m.Owned)
	for _, s := range o.Left {
		delete(owned, s.Tag)
	}
	for _, tag := range o.Same {
		if _, own := owned[tag]; own {
			owned[tag] = o.there[tag]
		}
	}
	return owned
}

// Altered lists the tags that it copied and that somebody moved or deleted since,
// sorted. It asks the target alone; what of them it would copy again [Mirror.Look] tells.
func (m *Mirror) Altered(ctx context.Context) ([]string, error) {
	var mu sync.Mutex
	var out []string
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(smallAtOnce)
	for tag, digest := range m.Owned {
		all.Go(func() error {
			is, ok, err := m.To.head(ctx, Reference{Repository: m.Target, Tag: tag})
			if err != nil || ok && is == digest {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			out = append(out, tag)
			return nil
		})
	}
	err := all.Wait()
	slices.Sort(out)
	return out, err
}

// Weigh finds how much would be sent for an outlook, each blob once and without those
// that the target has, or that are in others: what other mirrors send, to which it adds.
// It reads the manifests of the source. A tag that cannot be read there is Missing then.
func (m *Mirror) Weigh(ctx context.Context, o *Outlook, others map[v1.Hash]bool) error {
	w := &weighing{Mirror: m, blobs: map[v1.Hash]int64{}, seen: map[v1.Hash]bool{}, tags: map[string]bool{}}
	for _, tag := range o.listed {
		w.tags[tag] = true
	}
	why := make([]error, len(o.Copy))
	all, asking := errgroup.WithContext(ctx)
	all.SetLimit(smallAtOnce)
	for i, s := range o.Copy {
		if less, ok := m.From.(*reduced); ok {
			less.learn(s.To, s.whole)
		}
		all.Go(func() error {
			err := w.visit(asking, Reference{Repository: m.Source, Digest: s.To}, 0)
			if ofOne(err) {
				why[i], err = err, nil
			}
			return err
		})
	}
	for _, tag := range m.attachments(*o) {
		all.Go(func() error { return w.beside(w.visit(asking, Reference{Repository: m.Source, Tag: tag}, 0)) })
	}
	if err := all.Wait(); err != nil {
		return err
	}
	var copied []Step
	for i, s := range o.Copy {
		if why[i] != nil {
			o.Missing = append(o.Missing, Refused{s, why[i]})
		} else {
			copied = append(copied, s)
		}
	}
	o.Copy = copied
	slices.SortFunc(o.Missing, refusedByTag)
	if !o.fresh {
		if err := m.without(ctx, w.blobs); err != nil {
			return err
		}
	}
	for digest, size := range w.blobs {
		if others[digest] {
			o.Shared++
			continue
		}
		o.Blobs, o.Bytes = o.Blobs+1, o.Bytes+size
		if others != nil {
			others[digest] = true
		}
	}
	return nil
}

// weighing gathers the blobs of what would be copied.
type weighing struct {
	*Mirror
	tags map[string]bool // of the source

	mu    sync.Mutex
	blobs map[v1.Hash]int64
	seen  map[v1.Hash]bool
}

// beside is what came of looking at what comes along: it stops no count.
func (w *weighing) beside(err error) error {
	if ofOne(err) {
		return nil
	}
	return err
}

// visit takes note of a manifest, of what it names, and of what refers to these.
func (w *weighing) visit(ctx context.Context, ref Reference, depth int) error {
	if depth > deepest || ref.Tag == "" && w.again(ref.Digest) {
		return nil
	}
	got, err := w.From.manifest(ctx, ref)
	if err != nil || ref.Tag != "" && w.again(got.digest) {
		return err
	}
	p, err := got.parts()
	if err != nil {
		return w.From.fail(ref, "reading", err)
	}
	w.mu.Lock()
	for _, d := range p.blobs() {
		w.blobs[d.Digest] = d.Size
	}
	w.mu.Unlock()
	if w.Referrers {
		refer, err := w.From.referrers(ctx, w.Source, got.digest, w.tags)
		if w.beside(err) != nil {
			return err
		}
		for _, d := range refer {
			if err := w.beside(w.visit(ctx, Reference{Repository: w.Source, Digest: d.Digest}, depth+1)); err != nil {
				return err
			}
		}
	}
	for _, d := range p.Manifests {
		if err := w.visit(ctx, Reference{Repository: w.Source, Digest: d.Digest}, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// again reports whether a manifest was visited before, and takes note of it.
func (w *weighing) again(digest v1.Hash) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	again := w.seen[digest]
	w.seen[digest] = true
	return again
}

// without takes from a set of blobs those that the target has.
func (m *Mirror) without(ctx context.Context, blobs map[v1.Hash]int64) error {
	var mu sync.Mutex
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(smallAtOnce)
	for _, digest := range slices.Collect(maps.Keys(blobs)) {
		all.Go(func() error {
			ok, err := m.To.has(ctx, m.Target, digest)
			if err != nil || !ok {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			delete(blobs, digest)
			return nil
		})
	}
	return all.Wait()
}

// Run does what an outlook says, as far as that can be done, and returns the tags that
// it owns by then. Each tag becomes what Look saw, whatever the source has by now. The
// error is of all that failed.
func (m *Mirror) Run(ctx context.Context, o Outlook, now time.Time) (map[string]v1.Hash, Moved, error) {
	owned := m.Settled(o)
	maps.DeleteFunc(owned, func(_ string, digest v1.Hash) bool { return digest == (v1.Hash{}) })
	var failed []error
	fail := func(tag string, err error) {
		failed = append(failed, fmt.Errorf("%s: %w", tag, err))
		m.Progress.failed()
		if m.Report != nil {
			m.Report(Event{Source: Reference{Repository: m.Source, Tag: tag}, Target: Reference{Repository: m.Target, Tag: tag}, Outcome: Failed, Err: err})
		}
	}
	item := Item{Source: m.Source, Target: m.Target, Tags: []string{}, Pinned: map[string]v1.Hash{}, There: o.there, New: o.fresh, Listed: o.listed}
	less, isLess := m.From.(*reduced)
	for _, s := range o.Copy {
		if isLess { // which need not be who looked
			less.learn(s.To, s.whole)
		}
		if err := m.keep(ctx, s, now); err != nil {
			fail(s.Tag, err)
			continue
		}
		item.Tags, item.Pinned[s.Tag] = append(item.Tags, s.Tag), s.To
	}
	for _, r := range slices.Concat(o.Untrusted, o.Missing) {
		fail(r.Tag, r.Why)
	}
	if len(item.Tags) > 0 {
		item.Tags = append(item.Tags, m.attachments(o)...)
	}
	var mu sync.Mutex
	copier := &Copier{From: m.From, To: m.To, Referrers: m.Referrers, Rate: m.Rate, Progress: m.Progress, Brought: m.Brought, Report: func(e Event) {
		mu.Lock()
		if e.Err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", cmp.Or(e.Target.Tag, e.Target.String()), e.Err))
		} else if !attached.MatchString(e.Target.Tag) {
			owned[e.Target.Tag] = e.Digest
		}
		mu.Unlock()
		if m.Report != nil {
			m.Report(e)
		}
	}}
	var moved Moved
	if len(item.Tags) > 0 {
		moved = copier.Copy(ctx, []Item{item})
	}
	for _, tag := range o.Same {
		if !m.OnlyMissing {
			owned[tag] = o.there[tag]
		}
	}
	if ctx.Err() == nil && len(failed) == 0 { // nothing goes where something failed
		for _, s := range o.Gone {
			ref := Reference{Repository: m.Target, Tag: s.Tag}
			if err := m.To.untag(ctx, ref); err != nil && !errors.Is(err, ErrAbsent) {
				fail(s.Tag, m.To.fail(ref, "deleting", err))
				continue
			}
			delete(owned, s.Tag)
		}
	}
	return owned, moved, errors.Join(errors.Join(failed...), ctx.Err())
}

// keep has what a tag was stay under another.
func (m *Mirror) keep(ctx context.Context, s Step, now time.Time) error {
	if m.KeepPrevious == "" || s.Was == (v1.Hash{}) {
		return nil
	}
	tag := strings.NewReplacer("{tag}", s.Tag, "{date}", now.UTC().Format("20060102")).Replace(m.KeepPrevious)
	for n := 2; ; n++ {
		ref := Reference{Repository: m.Target, Tag: tag}
		is, ok, err := m.To.head(ctx, ref)
		switch {
		case err != nil || ok && is == s.Was:
			return err
		case !ok:
			old, err := m.To.manifest(ctx, Reference{Repository: m.Target, Digest: s.Was})
			if err != nil {
				return err
			}
			return m.To.fail(ref, "keeping what the tag was in", m.To.put(ctx, ref, old))
		}
		tag = fmt.Sprintf("%s.%d", strings.TrimSuffix(tag, fmt.Sprintf(".%d", n-1)), n)
	}
}
