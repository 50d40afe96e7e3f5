package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/embedded/storage"
)

// finding is what is to go from one repository.
type finding struct {
	tags      []oldTag // fallback tags without their subject
	manifests []doomed
	layers    []digest.Digest                 // links of blobs
	idle      map[digest.Digest]time.Time     // such that wait for no delay, unless somebody was told of them since
	yielding  map[digest.Digest]digest.Digest // such that give way to who needs their room, by what is linked
	stale     []note                          // of referrers that are gone
	uploads   []storage.Upload
	notes     []digest.Digest        // that say nothing any more
	empty     bool                   // no manifest and no tag is left then
	listed    bool                   // the catalogue has it
	unread    []digest.Digest        // manifests that cannot be read: all stays
	used      map[digest.Digest]bool // content that stays, where a quota holds
}

// oldTag is a tag to go; needed is whether what it names stays, because when
// that was deleted which takes it along.
type oldTag struct {
	name    string
	needed  bool
	because time.Time
}

// note is where a referrer was noted; without a digest, all of its subject.
type note struct{ subject, digest digest.Digest }

// doomed is a manifest to go.
type doomed struct {
	digest, subject digest.Digest
	tags            []string  // that once were it
	because         time.Time // of what was deleted then
}

func (f *finding) none() bool {
	return len(f.tags)+len(f.manifests)+len(f.layers)+len(f.stale)+len(f.uploads)+len(f.notes) == 0
}

// node is a manifest of a repository.
type node struct {
	made     time.Time
	target   digest.Digest
	subject  digest.Digest
	children []digest.Digest
	blobs    []digest.Digest
	index    bool
}

// fallback is a tag that stands for referrers of a subject: by which older
// clients list them, or cosign finds its own.
type fallback struct {
	subject, current digest.Digest
	young            bool
}

// scanner looks through one repository.
type scanner struct {
	c         *collection
	repo      string
	nodes     map[digest.Digest]*node
	history   map[digest.Digest][]string        // the tags that once were a manifest
	tagged    map[digest.Digest]bool            // by an ordinary tag
	deleted   map[digest.Digest]time.Time       // it, or a tag of it, was
	kept      map[digest.Digest]time.Time       // said to be there, after something was deleted
	reached   map[digest.Digest]bool            // such that would go, were it not for that
	taken     map[digest.Digest]time.Time       // goes by what was deleted then, unless it is needed
	listed    map[digest.Digest][]digest.Digest // by what was deleted and is gone
	spent     map[digest.Digest]time.Time       // content of such, and when the last of these was stored first
	fallbacks map[string]fallback
	lists     map[digest.Digest][]digest.Digest // subject to what its fallback tags are and were
	about     map[digest.Digest][]digest.Digest // subject to manifests
	tags      int
	unread    []digest.Digest // manifests of no known format: what they need cannot be told
	living    map[digest.Digest]bool
	uses      map[digest.Digest]bool // content that stays
	needs     map[digest.Digest]bool // blobs that stay where the repository links to them
}

// scan finds what is to go from a repository, and marks what stays. What it
// finds depends on that repository alone.
func (c *collection) scan(ctx context.Context, repo string) (*finding, error) {
	s := &scanner{
		c: c, repo: repo,
		nodes: map[digest.Digest]*node{}, history: map[digest.Digest][]string{}, tagged: map[digest.Digest]bool{},
		deleted: map[digest.Digest]time.Time{}, kept: map[digest.Digest]time.Time{},
		reached: map[digest.Digest]bool{}, taken: map[digest.Digest]time.Time{}, listed: map[digest.Digest][]digest.Digest{}, spent: map[digest.Digest]time.Time{},
		fallbacks: map[string]fallback{}, lists: map[digest.Digest][]digest.Digest{}, about: map[digest.Digest][]digest.Digest{},
		living: map[digest.Digest]bool{}, uses: map[digest.Digest]bool{}, needs: map[digest.Digest]bool{},
	}
	if err := s.readManifests(ctx); err != nil {
		return nil, fmt.Errorf("repository %s: %w", repo, err)
	}
	if err := s.readTags(ctx); err != nil {
		return nil, fmt.Errorf("repository %s: %w", repo, err)
	}
	if err := s.readDeleted(ctx); err != nil {
		return nil, fmt.Errorf("repository %s: %w", repo, err)
	}
	f := s.judge(s.live())
	listed, err := c.storage.Listed(ctx, repo)
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", repo, err)
	}
	f.listed = listed
	if err := s.judgeLayers(ctx, f); err != nil {
		return nil, fmt.Errorf("repository %s: %w", repo, err)
	}
	if err := s.judgeNotes(ctx, f); err != nil {
		return nil, fmt.Errorf("repository %s: %w", repo, err)
	}
	if err := s.judgeUploads(ctx, f); err != nil {
		return nil, fmt.Errorf("repository %s: %w", repo, err)
	}
	return f, nil
}

// young reports whether content was put, or said to be there, too short a
// while ago for its push to be over.
func (s *scanner) young(d digest.Digest, made time.Time) bool {
	return s.c.young(made) || s.c.lately(s.repo, d)
}

func (s *scanner) readManifests(ctx context.Context) error {
	links, err := s.c.storage.Manifests(ctx, s.repo)
	if err != nil {
		return err
	}
	for _, l := range links {
		n := &node{made: l.Made, target: l.Target}
		s.nodes[l.Name] = n
		m, ok, err := s.c.storage.ReadManifest(ctx, l.Target)
		if err != nil {
			return fmt.Errorf("manifest %s: %w", l.Name, err)
		}
		if !ok { // lost: it needs nothing
			continue
		}
		if !m.Known() {
			s.unread = append(s.unread, l.Name)
			continue
		}
		n.subject, n.index, n.blobs, n.children = m.About(), m.Index(), m.Contents(), m.Children()
		if n.subject != "" {
			s.about[n.subject] = append(s.about[n.subject], l.Name)
		}
	}
	return nil
}

// readDeleted reads what was deleted, and finds what that takes along. Of an
// index that is gone the content says what it listed.
func (s *scanner) readDeleted(ctx context.Context) error {
	notes, err := s.c.storage.Notes(ctx, s.repo)
	if err != nil || len(notes) == 0 {
		return err
	}
	now, err := s.c.storage.Now(ctx)
	if err != nil {
		return err
	}
	for _, n := range notes {
		if n.Kept {
			s.kept[n.Digest] = n.At
		} else if n.At.After(now) { // it was written by hand, or its clock is lost: what was kept may be later
			s.deleted[n.Digest] = time.Time{}
		} else {
			s.deleted[n.Digest] = n.At
		}
	}
	for d, at := range s.deleted {
		if s.nodes[d] != nil {
			s.take(d, at)
			continue
		}
		m, _, err := s.c.storage.ReadManifest(ctx, d)
		if err != nil {
			return fmt.Errorf("manifest %s: %w", d, err)
		}
		s.listed[d] = m.Children()
		s.mark(d, at)
		if err := s.spend(ctx, d, m); err != nil {
			return err
		}
	}
	return nil
}

// spend notes what a manifest that was deleted by its digest no longer needs, where
// a quota holds.
func (s *scanner) spend(ctx context.Context, d digest.Digest, m storage.Manifest) error {
	if !s.limited() {
		return nil
	}
	b, ok, err := s.c.storage.Blob(ctx, d)
	if err != nil || !ok {
		return err
	}
	s.c.free(d)
	for _, content := range m.Contents() {
		if s.spent[content].Before(b.Made) {
			s.spent[content] = b.Made
		}
	}
	return nil
}

// idle reports whether no push can be under way that relies on a blob: it came for
// a manifest that was deleted, and nobody sent it or was told that it is there since
// that was stored.
func (s *scanner) idle(d digest.Digest, made time.Time) bool {
	stored, ok := s.spent[d]
	return ok && !made.After(stored) && s.c.told(s.repo, d).Before(stored)
}

// take marks a manifest as going by a deletion, and with it what it lists and
// what is about it: who deletes an index or an image means these too. What was
// said to be there since, to somebody who need not push it therefore or who did,
// does not go.
func (s *scanner) take(d digest.Digest, at time.Time) {
	n := s.nodes[d]
	if n == nil {
		return
	}
	if t, ok := s.kept[d]; ok && !t.Before(at) {
		s.reached[d] = true
		return
	}
	s.mark(d, at)
}

func (s *scanner) mark(d digest.Digest, at time.Time) {
	if t, ok := s.taken[d]; ok && !t.Before(at) {
		return
	}
	s.taken[d] = at
	for _, other := range s.alongWith(d) {
		s.take(other, at)
	}
}

// alongWith lists what a deletion takes along with a manifest.
func (s *scanner) alongWith(d digest.Digest) []digest.Digest {
	children := s.listed[d]
	if n := s.nodes[d]; n != nil {
		children = n.children
	}
	return slices.Concat(children, s.about[d], s.lists[d])
}

// whole lists all that goes by one deletion, with what was deleted.
func (s *scanner) whole(d digest.Digest) []digest.Digest {
	all, seen := []digest.Digest{d}, map[digest.Digest]bool{d: true}
	for i := 0; i < len(all); i++ {
		for _, other := range s.alongWith(all[i]) {
			if _, goes := s.taken[other]; goes && !seen[other] {
				seen[other] = true
				all = append(all, other)
			}
		}
	}
	return all
}

func (s *scanner) readTags(ctx context.Context) error {
	t := s.c.storage
	names, err := t.Tags(ctx, s.repo)
	if err != nil {
		return err
	}
	s.tags = len(names)
	for _, name := range names {
		current, damaged := t.Tag(ctx, s.repo, name)
		if damaged != nil && !errors.Is(damaged, storage.ErrDamaged) { // a tag of nothing stays
			return damaged
		}
		former, err := t.TagHistory(ctx, s.repo, name)
		if err != nil {
			return fmt.Errorf("tag %s: %w", name, err)
		}
		for _, d := range former {
			s.history[d] = append(s.history[d], name)
			if damaged != nil { // it may be what it names
				s.tagged[d] = true
			}
		}
		subject, ending := storage.FallbackSubject(name)
		n := s.nodes[current]
		if subject == "" || subject == current || ending == "" && n != nil && !n.index {
			s.tagged[current] = true
			continue
		}
		made, ok, err := t.TagMade(ctx, s.repo, name)
		if err != nil {
			return fmt.Errorf("tag %s: %w", name, err)
		}
		s.fallbacks[name] = fallback{subject, current, !ok || s.c.young(made)}
		s.lists[subject] = append(s.lists[subject], current)
		for _, d := range former {
			if n := s.nodes[d]; n == nil || ending == "" && !n.index {
				continue
			}
			if !s.c.untagged {
				s.lists[subject] = append(s.lists[subject], d)
			}
		}
	}
	return nil
}

// unmet reports whether the repository never had a subject, as far as is known:
// what is about it came first, or is kept apart from it.
func (s *scanner) unmet(subject digest.Digest) bool {
	_, taken := s.taken[subject]
	return s.nodes[subject] == nil && !taken
}

// stays reports whether a manifest without a tag stays for its own sake: where
// those do not go, if no deletion takes it.
func (s *scanner) stays(d digest.Digest) bool {
	_, taken := s.taken[d]
	return !s.c.untagged && !taken
}

// live finds the manifests that stay: the tagged, the young, and those that
// stay for their own sake; and whatever these list, and what is about these,
// and what these are about. A deletion goes through as a whole: while anything
// that it takes only stays for being young, and goes with no later deletion that
// is held for that too, all of it stays. It returns what these are of.
func (s *scanner) live() map[digest.Digest]bool {
	grown := map[digest.Digest]bool{} // what would stay if nothing were young
	for d := range s.nodes {
		if len(s.unread) > 0 || s.tagged[d] || s.stays(d) {
			s.spread(grown, d)
		}
	}
	for _, f := range s.fallbacks {
		if s.unmet(f.subject) {
			s.spread(grown, s.lists[f.subject]...)
		}
	}
	s.living = maps.Clone(grown)
	for d, n := range s.nodes {
		if s.young(d, n.made) {
			s.spread(s.living, d)
		}
	}
	for _, f := range s.fallbacks {
		if f.young {
			s.spread(s.living, f.current)
		}
	}
	held, covered := map[digest.Digest]bool{}, map[digest.Digest]bool{}
	for more := true; more; {
		more = false
		for _, d := range s.unfinished(grown) {
			if held[d] || covered[d] {
				continue
			}
			all := s.whole(d)
			if !slices.ContainsFunc(all, func(x digest.Digest) bool { return s.living[x] && !grown[x] && !covered[x] }) {
				continue // what stays of it goes with another deletion
			}
			held[d], more = true, true
			s.spread(s.living, all...)
			for _, x := range all {
				covered[x] = true
			}
		}
	}
	return held
}

// unfinished lists what was deleted and takes along something that stays for now,
// the latest first.
func (s *scanner) unfinished(grown map[digest.Digest]bool) (list []digest.Digest) {
	takenBy := map[digest.Digest][]digest.Digest{}
	for d := range s.taken {
		for _, other := range s.alongWith(d) {
			takenBy[other] = append(takenBy[other], d)
		}
	}
	found := map[digest.Digest]bool{}
	var todo []digest.Digest
	for d := range s.taken {
		if s.living[d] && !grown[d] {
			todo = append(todo, d)
		}
	}
	for len(todo) > 0 {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if !found[d] {
			found[d] = true
			todo = append(todo, takenBy[d]...)
		}
	}
	for d := range s.deleted {
		if found[d] {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b digest.Digest) int {
		return cmp.Or(s.deleted[b].Compare(s.deleted[a]), cmp.Compare(a, b))
	})
	return list
}

// spread adds manifests to those that stay, and what they need and bring along.
func (s *scanner) spread(staying map[digest.Digest]bool, todo ...digest.Digest) {
	todo = slices.Clone(todo)
	for len(todo) > 0 {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		n := s.nodes[d]
		if n == nil || staying[d] {
			continue
		}
		staying[d] = true
		todo = append(todo, n.children...)
		todo = append(todo, s.about[d]...)
		todo = append(todo, s.lists[d]...)
		todo = append(todo, n.subject)
	}
}

// judge says which manifests, tags and marks go, and gathers what the others
// need.
func (s *scanner) judge(held map[digest.Digest]bool) *finding {
	f := &finding{idle: map[digest.Digest]time.Time{}, yielding: map[digest.Digest]digest.Digest{}, unread: s.unread}
	named := s.named()
	for name, b := range s.fallbacks {
		living := s.living[b.current]
		if !s.needed(b) && (!living || named[b.current]) {
			f.tags = append(f.tags, oldTag{name, living, s.taken[b.current]})
		}
	}
	for d := range s.deleted {
		switch {
		case held[d]:
			s.uses[d] = true
		case s.nodes[d] == nil && len(s.about[d])+len(s.lists[d]) == 0 && !s.marked(d):
			f.notes = append(f.notes, d)
		}
	}
	for d := range s.kept {
		if !s.reached[d] && (s.nodes[d] == nil || s.living[d]) { // of what goes, it is written over
			f.notes = append(f.notes, d)
		}
	}
	for d, n := range s.nodes {
		if !s.living[d] {
			f.manifests = append(f.manifests, doomed{d, n.subject, s.history[d], s.taken[d]})
			continue
		}
		s.uses[d], s.uses[n.target] = true, true
		for _, child := range n.children {
			s.uses[child] = true
		}
		for _, b := range n.blobs {
			s.needs[b] = true
		}
	}
	f.empty = len(s.living) == 0 && s.tags == len(f.tags)
	return f
}

// needed reports whether a fallback tag stays for its subject, or its youth.
func (s *scanner) needed(b fallback) bool {
	return b.young || s.unmet(b.subject) || s.living[b.subject]
}

// named is what other things that stay name than a fallback tag that need not:
// tags, indexes, and subjects by what is about them.
func (s *scanner) named() map[digest.Digest]bool {
	named := maps.Clone(s.tagged)
	for _, b := range s.fallbacks {
		if s.needed(b) {
			named[b.current] = true
		}
	}
	for d := range s.living {
		for _, list := range [][]digest.Digest{s.nodes[d].children, s.about[d]} {
			for _, other := range list {
				named[other] = true
			}
		}
	}
	return named
}

func (s *scanner) judgeLayers(ctx context.Context, f *finding) error {
	links, err := s.c.storage.Layers(ctx, s.repo)
	if err != nil {
		return err
	}
	for _, l := range links {
		yields := s.c.yields != nil && s.c.yields(s.repo, l.Target)
		idle := (yields || s.idle(l.Name, l.Made) && s.idle(l.Target, l.Made)) && !s.marked(l.Target)
		needed := s.uses[l.Name] || s.uses[l.Target] || s.needs[l.Name] || s.needs[l.Target]
		if len(s.unread) > 0 || needed || !idle && (s.young(l.Name, l.Made) || s.young(l.Target, l.Made)) {
			s.uses[l.Target] = true
			continue
		}
		switch {
		case yields:
			f.yielding[l.Name] = l.Target
		case idle:
			f.idle[l.Name] = s.spent[l.Name]
		}
		if idle {
			s.c.free(l.Target)
		}
		f.layers = append(f.layers, l.Name)
	}
	for d := range s.uses {
		s.c.marked[d] = struct{}{}
	}
	if s.limited() {
		f.used = s.uses
	}
	return nil
}

// marked reports whether this run marked content for the repository before: it stays
// until the next, and so must what leads to it.
func (s *scanner) marked(d digest.Digest) bool {
	before := s.c.findings[s.repo]
	return before != nil && before.used[d]
}

func (s *scanner) limited() bool { return s.c.limited != nil && s.c.limited(s.repo) }

func (s *scanner) judgeNotes(ctx context.Context, f *finding) error {
	t := s.c.storage
	subjects, err := t.Subjects(ctx, s.repo)
	if err != nil {
		return err
	}
	for _, subject := range subjects {
		noted, err := t.Noted(ctx, s.repo, subject)
		if err != nil {
			return err
		}
		stale := 0
		for _, d := range noted {
			if s.nodes[d] == nil {
				stale++
				f.stale = append(f.stale, note{subject, d})
			}
		}
		if stale == len(noted) {
			f.stale = append(f.stale, note{subject: subject})
		}
	}
	return nil
}

func (s *scanner) judgeUploads(ctx context.Context, f *finding) error {
	list, err := s.c.storage.Uploads(ctx, s.repo)
	for _, u := range list {
		if s.c.stored.Sub(u.Touched) >= max(oldUpload, s.c.delay) && !s.c.inUse(s.repo, u.ID) {
			f.uploads = append(f.uploads, u)
		}
	}
	return err
}
