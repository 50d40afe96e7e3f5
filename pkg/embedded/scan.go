package embedded

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/embedded/storage"
)

// finding is what is to go from one repository.
type finding struct {
	tags      []string // fallback tags without their subject
	manifests []doomed
	layers    []digest.Digest // links of blobs
	stale     []note          // of referrers that are gone
	uploads   []storage.Upload
	marks     []digest.Digest // of what was deleted, and nothing is left of
	empty     bool            // no manifest and no tag is left then
	listed    bool            // the catalogue has it
}

// note is where a referrer was noted; without a digest, all of its subject.
type note struct{ subject, digest digest.Digest }

// doomed is a manifest to go.
type doomed struct {
	digest, subject digest.Digest
	tags            []string // that once were it
}

func (f *finding) none() bool {
	return len(f.tags)+len(f.manifests)+len(f.layers)+len(f.stale)+len(f.uploads)+len(f.marks) == 0
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
	history   map[digest.Digest][]string // the tags that once were a manifest
	tagged    map[digest.Digest]bool     // by an ordinary tag
	marked    map[digest.Digest]bool     // it, or a tag of it, was deleted
	deleted   map[digest.Digest]bool     // the marked, and what these list
	within    map[digest.Digest]bool     // an index lists it
	fallbacks map[string]fallback
	lists     map[digest.Digest][]digest.Digest // subject to what its fallback tags are and were
	about     map[digest.Digest][]digest.Digest // subject to manifests
	listed    map[digest.Digest]bool            // is or was such
	tags      int
	unknown   bool // a manifest is of no known format: what it needs cannot be told
	living    map[digest.Digest]bool
	uses      map[digest.Digest]bool
}

// scan finds what is to go from a repository, and marks what stays. What it
// finds depends on that repository alone.
func (c *collection) scan(ctx context.Context, repo string) (*finding, error) {
	s := &scanner{
		c: c, repo: repo,
		nodes: map[digest.Digest]*node{}, history: map[digest.Digest][]string{}, tagged: map[digest.Digest]bool{},
		marked: map[digest.Digest]bool{}, deleted: map[digest.Digest]bool{}, within: map[digest.Digest]bool{},
		fallbacks: map[string]fallback{}, lists: map[digest.Digest][]digest.Digest{}, about: map[digest.Digest][]digest.Digest{},
		listed: map[digest.Digest]bool{}, living: map[digest.Digest]bool{}, uses: map[digest.Digest]bool{},
	}
	if err := s.readManifests(ctx); err != nil {
		return nil, fmt.Errorf("repository %s: %w", repo, err)
	}
	if err := s.readTags(ctx); err != nil {
		return nil, fmt.Errorf("repository %s: %w", repo, err)
	}
	held, err := s.readDeleted(ctx)
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", repo, err)
	}
	s.live()
	f := s.judge(held)
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
			s.unknown = true
			continue
		}
		n.subject, n.index, n.blobs, n.children = m.About(), m.Index(), m.Contents(), m.Children()
		if n.subject != "" {
			s.about[n.subject] = append(s.about[n.subject], l.Name)
		}
		for _, d := range n.children {
			s.within[d] = true
		}
	}
	return nil
}

// readDeleted reads what was marked, and spreads it to what the marked list:
// who deletes an index means what it lists, unless that is needed elsewhere.
// Of an index that is gone the content says what it listed; held is what must
// stay for that, since some of it is still too young to go.
func (s *scanner) readDeleted(ctx context.Context) (held map[digest.Digest]bool, err error) {
	marks, err := s.c.storage.Deleted(ctx, s.repo)
	if err != nil {
		return nil, err
	}
	held = map[digest.Digest]bool{}
	for _, d := range marks {
		s.marked[d] = true
		if s.nodes[d] != nil {
			s.spread(d)
			continue
		}
		m, _, err := s.c.storage.ReadManifest(ctx, d)
		if err != nil {
			return nil, fmt.Errorf("manifest %s: %w", d, err)
		}
		for _, child := range m.Children() {
			if n := s.nodes[child]; n != nil {
				s.spread(child)
				held[d] = held[d] || s.young(child, n.made)
			}
		}
	}
	return held, nil
}

func (s *scanner) spread(d digest.Digest) {
	n := s.nodes[d]
	if n == nil || s.deleted[d] {
		return
	}
	s.deleted[d] = true
	for _, child := range n.children {
		s.spread(child)
	}
}

func (s *scanner) readTags(ctx context.Context) error {
	t := s.c.storage
	names, err := t.Tags(ctx, s.repo)
	if err != nil {
		return err
	}
	s.tags = len(names)
	for _, name := range names {
		current, err := t.Tag(ctx, s.repo, name)
		if err != nil && !errors.Is(err, storage.ErrDamaged) { // a tag of nothing stays
			return err
		}
		former, err := t.TagHistory(ctx, s.repo, name)
		if err != nil {
			return fmt.Errorf("tag %s: %w", name, err)
		}
		for _, d := range former {
			s.history[d] = append(s.history[d], name)
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
		s.listed[current] = true
		for _, d := range former {
			if n := s.nodes[d]; n == nil || ending == "" && !n.index {
				continue
			}
			s.listed[d] = true
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
	return s.nodes[subject] == nil && !s.marked[subject]
}

// stays reports whether a manifest without a tag stays for its own sake: where
// those do not go, if nobody deleted it or a tag of it, and it is no part of
// something else.
func (s *scanner) stays(d digest.Digest, n *node) bool {
	if s.c.untagged || s.deleted[d] || s.listed[d] || s.within[d] {
		return false
	}
	return n.subject == "" || s.unmet(n.subject)
}

// live finds the manifests that stay: the tagged, the young, and those that
// stay for their own sake; and whatever these list, and what is about these,
// and what these are about.
func (s *scanner) live() {
	var todo []digest.Digest
	add := func(d digest.Digest) {
		if s.nodes[d] != nil && !s.living[d] {
			s.living[d] = true
			todo = append(todo, d)
		}
	}
	for d, n := range s.nodes {
		if s.unknown || s.tagged[d] || s.young(d, n.made) || s.stays(d, n) {
			add(d)
		}
	}
	for _, f := range s.fallbacks {
		if f.young {
			add(f.current)
		}
		if s.unmet(f.subject) {
			for _, d := range s.lists[f.subject] {
				add(d)
			}
		}
	}
	for len(todo) > 0 {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, list := range [][]digest.Digest{s.nodes[d].children, s.about[d], s.lists[d], {s.nodes[d].subject}} {
			for _, other := range list {
				add(other)
			}
		}
	}
}

// judge says which manifests, tags and marks go, and gathers what the others
// need.
func (s *scanner) judge(held map[digest.Digest]bool) *finding {
	f := &finding{}
	for name, b := range s.fallbacks {
		if !b.young && !s.unmet(b.subject) && !s.living[b.subject] && !s.living[b.current] {
			f.tags = append(f.tags, name)
		}
	}
	for d := range s.marked {
		switch {
		case held[d]:
			s.uses[d] = true
		case s.nodes[d] == nil && len(s.about[d])+len(s.lists[d]) == 0:
			f.marks = append(f.marks, d)
		}
	}
	for d, n := range s.nodes {
		if !s.living[d] {
			f.manifests = append(f.manifests, doomed{d, n.subject, s.history[d]})
			continue
		}
		s.uses[d], s.uses[n.target] = true, true
		for _, list := range [][]digest.Digest{n.children, n.blobs} {
			for _, b := range list {
				s.uses[b] = true
			}
		}
	}
	f.empty = len(s.living) == 0 && s.tags == len(f.tags)
	return f
}

func (s *scanner) judgeLayers(ctx context.Context, f *finding) error {
	links, err := s.c.storage.Layers(ctx, s.repo)
	if err != nil {
		return err
	}
	for _, l := range links {
		if s.unknown || s.uses[l.Name] || s.uses[l.Target] || s.young(l.Name, l.Made) || s.young(l.Target, l.Made) {
			s.uses[l.Target] = true
			continue
		}
		f.layers = append(f.layers, l.Name)
	}
	for d := range s.uses {
		s.c.marked[d] = struct{}{}
	}
	return nil
}

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
