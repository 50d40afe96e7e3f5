// Package quota counts what namespaces hold, decides whether a push fits, and says
// what gives way to it. It knows nothing of requests: [Ledger] is told of blobs and
// manifests as they begin and end, and counts what is stored when it is asked first.
//
// Start at [Ledgers]; who relies on what waits is in claims.go, and uploads that are
// not finished in uploads.go. docs/adr/0012 has the reasons.
package quota

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/embedded/storage"
	"github.com/ocisync/ocisync/schema"
)

// The quota of a namespace limits the bytes of its manifests and of the blobs
// they name, each digest once, however many repositories and tags have it.
// Whether a push fits is decided when its manifest comes, all at once, so that
// of two pushes that together do not fit one always does. Blobs come before
// their manifest: those that no manifest names yet are counted apart, as
// waiting, and so are uploads that are not finished. With what is used all these
// may take twice the limit, enough for two pushes at once and not more. A blob that
// a manifest already names, a foreign layer for one, must fit when it comes.

// View is what namespaces there are at a time.
type View struct {
	Names string // of all, and never ""
	Rules *access.Rules
}

// Error says that something does not fit; sizes are bytes.
type Error struct {
	Namespace   string
	Limit, Used int64
	Waiting     int64 // the blobs that wait, where they are the reason
	Uploading   int64 // what unfinished uploads hold, where they are
	Needs       int64
	Yields      bool // there may be room after a collection
}

// Error says what does not fit, and how there may be room.
func (e *Error) Error() string {
	size := func(n int64) string { return fmt.Sprintf("%d bytes (%s)", n, schema.Size(n).Human()) }
	text := fmt.Sprintf("namespace %s: its quota of %s does not hold %d bytes more; %d are used", e.Namespace, size(e.Limit), e.Needs, e.Used)
	if e.Waiting > 0 {
		text += fmt.Sprintf(", and %d wait for their manifest or for a collection", e.Waiting)
	}
	if e.Uploading > 0 {
		text += fmt.Sprintf(", and uploads that are not finished hold %d", e.Uploading)
	}
	if e.Waiting > 0 || e.Uploading > 0 {
		text += fmt.Sprintf("; what refused pushes left, and others that were silent for %.0f minutes, gives way to the next push", leftAlone.Minutes())
	}
	return text + "; a refusal has garbage collected, at most once a minute, as does ocisync run gc: that frees what was deleted by digest at once, and what deleted tags left once it is older than gc.delay; push again then, delete what is not needed, or raise the quota"
}

// Ledgers holds a ledger for each namespace with a quota that was asked for. Its
// methods may be called at once, as those of its ledgers.
type Ledgers struct {
	// Uploads are those of all namespaces that are not finished.
	Uploads *Uploads

	storage *storage.Storage
	mu      sync.Mutex
	all     map[string]*Ledger
}

// NewLedgers returns the ledgers of a storage.
func NewLedgers(s *storage.Storage) *Ledgers {
	return &Ledgers{storage: s, Uploads: newUploads(), all: map[string]*Ledger{}}
}

// Of returns the namespace's ledger, or nil without create where nobody asked for it
// yet.
func (s *Ledgers) Of(namespace string, create bool) *Ledger {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.all[namespace]
	if l == nil && create {
		l = newLedger(namespace, s.storage, s.Uploads)
		s.all[namespace] = l
	}
	return l
}

// Forget makes every ledger count anew when it is needed next. Call it after
// content changed by another way than they are told of.
func (s *Ledgers) Forget() { s.each((*Ledger).Forget) }

// Collected is Forget after a collection, which took what deletions had left for
// longer than the delay, unless others need it.
func (s *Ledgers) Collected(delay time.Duration) {
	s.each(func(l *Ledger) {
		l.Forget()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.freed = 0
		l.claims.forget()
		clear(l.claims.yielded)
		maps.DeleteFunc(l.unlinked, func(_ digest.Digest, at time.Time) bool { return time.Since(at) > delay })
	})
}

func (s *Ledgers) each(do func(*Ledger)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.all {
		do(l)
	}
}

// Ledger counts the content of one namespace. It is counted from the storage
// when it is needed first, under its lock: what is stored meanwhile is entered
// after, and entering twice changes nothing.
type Ledger struct {
	namespace string
	storage   *storage.Storage
	uploads   *Uploads
	mu        sync.Mutex
	counted   string // what namespaces there were; "" before counting
	blobs     map[digest.Digest]*blobCount
	repos     map[string]*holding
	used      int64
	waiting   int64
	begun     bool  // it was counted once
	freed     int64 // of waiting, by deletions since the last collection
	claims    *claims
	// unlinked are blobs that a client deleted, and when. Their content stays until
	// a collection, and so waits as long as that may take.
	unlinked map[digest.Digest]time.Time
}

// blobCount is what a namespace does with one digest.
type blobCount struct {
	size    int64 // 0 while it is named and neither here nor coming
	here    bool  // the namespace has it
	named   int   // manifests stored that name it, or are it
	linked  int   // repositories that link to it
	naming  int   // pushes of such manifests under way
	linking int   // uploads of it under way
}

// holding is what one repository of the namespace has.
type holding struct {
	links     map[digest.Digest]bool
	manifests map[digest.Digest][]digest.Digest // and what each counts
}

func newLedger(namespace string, s *storage.Storage, uploads *Uploads) *Ledger {
	return &Ledger{
		namespace: namespace, storage: s, uploads: uploads, claims: newClaims(uploads.now),
		blobs: map[digest.Digest]*blobCount{}, repos: map[string]*holding{}, unlinked: map[digest.Digest]time.Time{},
	}
}

// Forget has it count anew when it is needed next.
func (l *Ledger) Forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counted = ""
}

// Known counts the namespace if it is not.
func (l *Ledger) Known(ctx context.Context, now View) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ready(ctx, now)
}

// ready counts the namespace unless that was done for the same namespaces.
// The caller holds the lock.
func (l *Ledger) ready(ctx context.Context, now View) error {
	if l.counted == now.Names {
		return nil
	}
	l.counted = ""
	fresh := newLedger(l.namespace, l.storage, l.uploads)
	if err := fresh.count(ctx, now); err != nil {
		return fmt.Errorf("counting namespace %s: %w", l.namespace, err)
	}
	if err := l.countUnlinked(ctx, fresh); err != nil {
		return fmt.Errorf("counting namespace %s: %w", l.namespace, err)
	}
	for d, b := range l.blobs { // pushes under way stay
		if b.naming+b.linking > 0 {
			fresh.update(d, b.size, func(n *blobCount) { n.naming, n.linking = b.naming, b.linking })
		}
	}
	l.blobs, l.repos, l.used, l.waiting = fresh.blobs, fresh.repos, fresh.used, fresh.waiting
	l.counted = now.Names
	if !l.begun { // deletions before a restart may have left it
		l.begun, l.freed = true, l.waiting
	}
	return nil
}

// countUnlinked counts the blobs that clients deleted, as waiting in no repository,
// and forgets those of which the content went.
func (l *Ledger) countUnlinked(ctx context.Context, fresh *Ledger) error {
	for d := range l.unlinked {
		size, there, err := fresh.sizeOf(ctx, d)
		switch {
		case err != nil:
			return err
		case !there:
			delete(l.unlinked, d)
		default:
			fresh.link("", d, size)
		}
	}
	return nil
}

// Unlink enters that a client deleted a blob. Manifests may still name it, so the
// namespace is counted anew.
func (l *Ledger) Unlink(d digest.Digest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unlinked[d] = time.Now()
	l.counted = ""
}

func (l *Ledger) count(ctx context.Context, now View) error {
	s := l.storage
	names, err := s.Repositories(ctx, l.namespace)
	if err != nil {
		return err
	}
	manifests := map[string][]digest.Digest{}
	for _, name := range names {
		if !now.Rules.Holds(l.namespace, name) {
			continue
		}
		uploads, err := s.Uploads(ctx, name)
		if err != nil {
			return err
		}
		l.uploads.found(name, uploads)
		layers, err := s.Layers(ctx, name)
		if err != nil {
			return err
		}
		for _, d := range storage.Targets(layers) {
			if n, ok, err := l.sizeOf(ctx, d); err != nil {
				return err
			} else if ok {
				l.link(name, d, n)
			}
		}
		links, err := s.Manifests(ctx, name)
		if err != nil {
			return err
		}
		manifests[name] = storage.Targets(links)
		if err := l.leftOver(ctx, name); err != nil {
			return err
		}
	}
	for name, list := range manifests {
		for _, d := range list {
			n, ok, err := l.sizeOf(ctx, d)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			m, _, err := s.ReadManifest(ctx, d)
			if err != nil {
				return err
			}
			contents, err := l.stored(ctx, name, m)
			if err != nil {
				return err
			}
			l.manifest(name, d, l.items(d, n, contents))
		}
	}
	return nil
}

// leftOver counts the content of manifests that were deleted, which waits as their
// blobs do.
func (l *Ledger) leftOver(ctx context.Context, repository string) error {
	notes, err := l.storage.Notes(ctx, repository)
	if err != nil {
		return err
	}
	for _, n := range notes {
		if n.Kept {
			continue
		}
		if _, there, err := l.storage.Manifest(ctx, repository, n.Digest); err != nil {
			return err
		} else if there {
			continue
		}
		if size, ok, err := l.sizeOf(ctx, n.Digest); err != nil {
			return err
		} else if ok {
			l.link(repository, n.Digest, size)
		}
	}
	return nil
}

func (l *Ledger) sizeOf(ctx context.Context, d digest.Digest) (int64, bool, error) {
	if b := l.blobs[d]; b != nil && b.here {
		return b.size, true, nil
	}
	b, ok, err := l.storage.Blob(ctx, d)
	return b.Size, ok, err
}

// stored are the blobs that a manifest of a repository is made of, by the digests of
// what is counted, sorted, each once.
func (l *Ledger) stored(ctx context.Context, repository string, m storage.Manifest) ([]digest.Digest, error) {
	out := m.Contents()
	for i, d := range out {
		var err error
		if out[i], err = l.storage.Content(ctx, repository, d); err != nil {
			return nil, err
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// Item is what a manifest counts.
type Item struct {
	digest digest.Digest
	size   int64
}

// items is what a manifest counts: itself and the contents it names, of which those
// that the namespace has not have no size.
func (l *Ledger) items(d digest.Digest, size int64, contents []digest.Digest) []Item {
	out := []Item{{d, size}}
	for _, r := range contents {
		if r == d {
			continue
		}
		i := Item{digest: r}
		if b := l.blobs[r]; b != nil {
			i.size = b.size
		}
		out = append(out, i)
	}
	return out
}

// update changes what is known of a digest and keeps the sums right.
func (l *Ledger) update(d digest.Digest, size int64, change func(*blobCount)) {
	b := l.blobs[d]
	if b == nil {
		b = &blobCount{size: size}
		l.blobs[d] = b
	}
	l.add(b, -1)
	if b.size == 0 { // it was only named
		b.size = size
	}
	change(b)
	l.add(b, 1)
	if b.named+b.linked+b.naming+b.linking == 0 {
		delete(l.blobs, d)
	}
}

func (l *Ledger) add(b *blobCount, sign int64) {
	switch {
	case b.named+b.naming > 0:
		l.used += sign * b.size
	case b.linked+b.linking > 0:
		l.waiting += sign * b.size
	}
}

func (l *Ledger) repo(name string) *holding {
	h := l.repos[name]
	if h == nil {
		h = &holding{map[digest.Digest]bool{}, map[digest.Digest][]digest.Digest{}}
		l.repos[name] = h
	}
	return h
}

func (l *Ledger) link(repository string, d digest.Digest, size int64) {
	if h := l.repo(repository); !h.links[d] {
		h.links[d] = true
		l.update(d, size, func(b *blobCount) { b.linked, b.here = b.linked+1, true })
	}
}

func (l *Ledger) manifest(repository string, d digest.Digest, items []Item) {
	h := l.repo(repository)
	if _, ok := h.manifests[d]; ok {
		return
	}
	list := make([]digest.Digest, 0, len(items))
	for _, i := range items {
		l.update(i.digest, i.size, func(b *blobCount) { b.named, b.here = b.named+1, b.here || i.digest == d })
		list = append(list, i.digest)
	}
	h.manifests[d] = list
}

// DropManifest enters that a repository has a manifest no more. It reports whether
// deletions have freed so much that it is time to collect it: less than that takes
// no room from a push that the limit allows.
func (l *Ledger) DropManifest(limit int64, repository string, d digest.Digest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.repo(repository)
	before := l.waiting
	if b := l.blobs[d]; b != nil && h.manifests[d] != nil { // its own content stays until a collection
		l.link(repository, d, b.size)
	}
	for _, i := range h.manifests[d] {
		l.update(i, 0, func(b *blobCount) { b.named-- })
	}
	delete(h.manifests, d)
	l.freed += max(0, l.waiting-before)
	return l.freed > limit/4
}

// adds is by how much a namespace grows with a blob.
func (l *Ledger) adds(d digest.Digest, size int64) int64 {
	b := l.blobs[d]
	switch {
	case b == nil:
		return size
	case b.here:
		return 0
	}
	return max(0, size-b.size) // what comes under its name may be less, or another: only more needs room
}

// MayHold returns *Error where a blob alone is too large.
func (l *Ledger) MayHold(limit int64, d digest.Digest, size int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mayHold(limit, d, size)
}

// TooLarge says that something is which needs so much.
func (l *Ledger) TooLarge(limit, needs int64) *Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &Error{Namespace: l.namespace, Limit: limit, Used: l.used, Needs: needs}
}

func (l *Ledger) mayHold(limit int64, d digest.Digest, size int64) error {
	if n := l.adds(d, size); n > 0 && n > limit-l.used {
		return &Error{Namespace: l.namespace, Limit: limit, Used: l.used, Needs: n}
	}
	return nil
}

// BeginBlob makes room for a blob; *Error: there is none. It must be
// followed by EndBlob with the same digest.
func (l *Ledger) BeginBlob(ctx context.Context, now View, limit int64, d digest.Digest, size int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.ready(ctx, now); err != nil {
		return err
	}
	return l.beginBlob(limit, d, size)
}

func (l *Ledger) beginBlob(limit int64, d digest.Digest, size int64) error {
	if err := l.mayHold(limit, d, size); err != nil {
		return err
	}
	if n := l.adds(d, size); n > 0 {
		if lacks := l.used + l.waiting + n - limit - limit; lacks > 0 {
			return &Error{Namespace: l.namespace, Limit: limit, Used: l.used, Waiting: l.waiting, Needs: n, Yields: l.yields(limit, lacks, lacks)}
		}
	}
	l.update(d, size, func(b *blobCount) {
		b.linking++
		if !b.here {
			b.size = max(b.size, size)
		}
	})
	return nil
}

// yields reports whether a collection frees the bytes that are lacked of what waits:
// deletions left it, or nobody relies on it any more. It has more freed where more is
// wanted soon.
func (l *Ledger) yields(limit, lacks, wants int64) bool {
	if lacks <= l.freed {
		return true
	}
	waiting := map[digest.Digest]int64{}
	for d, b := range l.blobs {
		if b.linked > 0 && b.named+b.naming+b.linking == 0 {
			waiting[d] = b.size
		}
	}
	return l.claims.yield(waiting, lacks, max(lacks, wants), limit-l.used)
}

// Goes reports whether a blob is to go with the collection that asks.
func (l *Ledger) Goes(d digest.Digest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, goes := l.claims.yielded[d]
	return goes
}

// Relies notes that a sender relies on a blob, by a request that began then.
func (l *Ledger) Relies(who Sender, d digest.Digest, began time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counted == "" || l.blobs[d] != nil { // else there is no such blob
		l.claims.claim(who, d, began)
	}
}

// Arrive notes a request of a sender, until the function it returns says that it is
// over, and whether that ends his push: it was refused for good, or cut off.
func (l *Ledger) Arrive(who Sender) (depart func(ended bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.claims.arrive(who)
	return func(ended bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.claims.depart(who, ended)
	}
}

// Admit gives an upload room for so many bytes that have come, of so many that
// were announced. Else it says why not, whether there may be some when others
// are finished, and which others are to give way for it: these the caller removes.
// The oldest of those that somebody works on waits for no other, so that they
// all come to an end. With yields blobs are to give way too, by a collection.
func (l *Ledger) Admit(now View, limit int64, k Upload, size, announced int64, yields bool) (wait bool, gone []Upload, short *Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	others := l.uploads.load(now, l.namespace, k)
	alone := l.used + l.waiting + others.parked + size - limit
	lacks := alone - limit
	if others.older {
		lacks += others.active
	}
	if lacks <= 0 {
		l.uploads.Take(k, size)
		return false, nil, nil
	}
	short = &Error{
		Namespace: l.namespace, Limit: limit, Used: l.used, Waiting: l.waiting, Uploading: others.parked + others.active, Needs: max(size, announced),
	}
	if gone = l.uploads.giveWay(now, l.namespace, lacks, l.claims.over); len(gone) == 0 && yields {
		short.Yields = l.yields(limit, lacks, lacks+announced-size)
	}
	return alone <= limit || others.recent, gone, short
}

// EndBlob enters what became of it: stored is what the repository now links
// to, "" for nothing.
func (l *Ledger) EndBlob(repository string, begun, stored digest.Digest, size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if stored != "" && l.counted != "" {
		l.link(repository, stored, size)
	}
	l.update(begun, 0, func(b *blobCount) {
		b.linking--
		switch {
		case stored == begun: // how much came is known only now
			b.size = size
		case !b.here && b.linking == 0: // it did not come
			b.size = 0
		}
	})
}

// BeginManifest makes room for what a manifest of a repository counts, of so many bytes;
// *Error: there is none. What adds nothing fits always. It must be followed by
// EndManifest with what it returns.
func (l *Ledger) BeginManifest(ctx context.Context, now View, limit int64, repository string, d digest.Digest, size int64, m storage.Manifest) ([]Item, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.ready(ctx, now); err != nil {
		return nil, err
	}
	contents, err := l.stored(ctx, repository, m)
	if err != nil {
		return nil, err
	}
	for _, r := range contents {
		if b := l.blobs[r]; b != nil && b.here {
			continue
		}
		if _, ok, err := l.storage.Layer(ctx, repository, r); err != nil {
			return nil, err
		} else if !ok {
			continue // of another registry by its URL, or the push will fail
		}
		if b, ok, err := l.storage.Blob(ctx, r); err != nil {
			return nil, err
		} else if ok {
			l.link(repository, r, b.Size)
		}
	}
	items := l.items(d, size, contents)
	return items, l.beginManifest(limit, items)
}

func (l *Ledger) beginManifest(limit int64, items []Item) error {
	var more int64
	for _, i := range items {
		if b := l.blobs[i.digest]; b == nil || b.named+b.naming == 0 {
			more += i.size
		}
	}
	if more > 0 && more > limit-l.used {
		return &Error{Namespace: l.namespace, Limit: limit, Used: l.used, Needs: more}
	}
	for _, i := range items {
		l.update(i.digest, i.size, func(b *blobCount) { b.naming++ })
	}
	return nil
}

// EndManifest enters whether a sender's manifest was stored.
func (l *Ledger) EndManifest(who Sender, items []Item, stored bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	repository := who.Repository
	if stored {
		for _, i := range items {
			l.claims.fulfil(who, i.digest)
		}
	}
	if stored && l.counted != "" {
		l.manifest(repository, items[0].digest, items)
	}
	for _, i := range items {
		l.update(i.digest, 0, func(b *blobCount) { b.naming-- })
	}
}

// Room returns how large an upload may be whose digest is not known yet: what
// is left or, since it may be a blob that the namespace has, the largest such.
// With exact only a blob of that very size counts.
func (l *Ledger) Room(limit, exact int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := max(limit-l.used, 0)
	if exact >= 0 && exact <= left {
		return left
	}
	for _, b := range l.blobs {
		if b.size > left && (exact < 0 || b.size == exact) {
			left = b.size
		}
	}
	return left
}

// Count is how much of its quota a namespace uses, in bytes.
type Count struct{ Used, Waiting, Uploading int64 }

// Count counts a namespace, which need not exist: by its ledger where a quota holds.
func (s *Ledgers) Count(ctx context.Context, now View, namespace string, limited bool) (Count, error) {
	l := newLedger(namespace, s.storage, s.Uploads)
	if limited {
		l = s.Of(namespace, true)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.ready(ctx, now); err != nil {
		return Count{}, err
	}
	open := s.Uploads.load(now, namespace, Upload{})
	return Count{l.used, l.waiting, open.parked + open.active}, nil
}
