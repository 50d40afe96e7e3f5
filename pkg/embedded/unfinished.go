package embedded

import (
	"slices"
	"sync"
	"time"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/embedded/storage"
)

// settling is how long after its last request an upload may be expected to go
// on: clients end one right after they sent its content.
const settling = 2 * time.Second

// leftAlone is how long after its last request an upload gives way to others
// that want its room: a client that still works on it goes on within less.
const leftAlone = 2 * time.Minute

// unfinished knows the uploads that have begun and not ended: how much of each
// is stored, and whether somebody works on it. Those of before this process
// are found when a namespace is counted.
type unfinished struct {
	now func() time.Time

	mu      sync.Mutex
	uploads map[uploadKind]*upload
	last    uint64
	changed chan struct{} // closed when one has ended or is left
}

type uploadKind struct{ repository, id string }

type upload struct {
	number   uint64 // in the order in which they began
	size     int64  // bytes stored, or that a request under way may store
	requests int
	left     time.Time // by the last request to this process
	touched  time.Time // what is stored, when it was found
	gone     bool      // it gives way: nobody can go on with it
	by       sender    // of the last request to this process
	began    time.Time // it
}

// last is when an upload was last sent to, as far as is known.
func (o *upload) last() time.Time {
	if o.left.IsZero() {
		return o.touched
	}
	return o.left
}

func newUnfinished() *unfinished {
	return &unfinished{now: time.Now, uploads: map[uploadKind]*upload{}, changed: make(chan struct{})}
}

func (u *unfinished) of(k uploadKind) *upload {
	o := u.uploads[k]
	if o == nil {
		u.last++
		o = &upload{number: u.last}
		u.uploads[k] = o
	}
	return o
}

// begin notes that a request works on an upload; it must be followed by leave
// or end. False: the upload is being removed.
func (u *unfinished) begin(k uploadKind, by sender) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	o := u.of(k)
	if o.gone {
		return false
	}
	o.requests++
	o.by, o.began = by, u.now()
	return true
}

// giveWay picks, of a namespace's uploads that were left alone or of which over says
// that their sender's push is, those left first, until they hold so many bytes; none
// where all together hold less. Nobody can go on with these any more: they must be
// removed, and given to end, or else to keep.
func (u *unfinished) giveWay(rules *access.Rules, namespace string, size int64, over func(by sender, began time.Time) bool) (gone []uploadKind) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := u.now()
	var alone []uploadKind
	for k, o := range u.uploads {
		since := now.Sub(o.last())
		idle := since >= leftAlone || since >= settling && over(o.by, o.began)
		if idle && o.requests == 0 && o.size > 0 && !o.gone && belongs(rules, namespace, k.repository) {
			alone = append(alone, k)
		}
	}
	slices.SortFunc(alone, func(a, b uploadKind) int { return u.uploads[a].last().Compare(u.uploads[b].last()) })
	for _, k := range alone {
		if size <= 0 {
			break
		}
		size -= u.uploads[k].size
		gone = append(gone, k)
	}
	if size > 0 {
		return nil
	}
	for _, k := range gone {
		u.uploads[k].gone = true
	}
	return gone
}

// keep takes back that an upload gives way.
func (u *unfinished) keep(k uploadKind) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if o := u.uploads[k]; o != nil {
		o.gone = false
	}
}

// leave notes that a request is over, and how much is stored.
func (u *unfinished) leave(k uploadKind, size int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	o := u.of(k)
	o.requests, o.size, o.left = o.requests-1, size, u.now()
	u.wake()
}

// end forgets an upload.
func (u *unfinished) end(k uploadKind) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.uploads, k)
	u.wake()
}

func (u *unfinished) wake() {
	close(u.changed)
	u.changed = make(chan struct{})
}

// found enters what is stored of a repository's uploads, those that nobody
// works on.
func (u *unfinished) found(repository string, list []storage.Upload) {
	u.mu.Lock()
	defer u.mu.Unlock()
	stored := map[string]bool{}
	for _, s := range list {
		stored[s.ID] = true
		if o := u.of(uploadKind{repository, s.ID}); o.requests == 0 {
			o.size = max(o.size, s.Size)
			o.touched = s.Touched
		}
	}
	for k, o := range u.uploads {
		if k.repository == repository && !stored[k.id] && o.requests == 0 {
			delete(u.uploads, k)
		}
	}
}

// busy reports whether somebody works on an upload, or did since.
func (u *unfinished) busy(repository, id string, since time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	o := u.uploads[uploadKind{repository, id}]
	return o != nil && (o.requests > 0 || o.left.After(since))
}

// load is what the uploads of a namespace hold but for one, in bytes: those
// that nobody works on, and the others.
type load struct {
	parked, active int64
	older          bool // one of those under way began earlier
	recent         bool // one that was just left may still go on, or one gives way
}

func (u *unfinished) load(rules *access.Rules, namespace string, but uploadKind) (l load) {
	u.mu.Lock()
	defer u.mu.Unlock()
	number := u.last + 1
	if own := u.uploads[but]; own != nil {
		number = own.number
	}
	now := u.now()
	for k, o := range u.uploads {
		switch {
		case k == but || !belongs(rules, namespace, k.repository):
		case o.requests > 0:
			l.active += o.size
			l.older = l.older || o.number < number
		default:
			l.parked += o.size
			l.recent = l.recent || o.gone || now.Sub(o.left) < settling
		}
	}
	return l
}

// take gives a request under way so much room.
func (u *unfinished) take(k uploadKind, size int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.of(k).size = size
}

// next is closed when there may be more room.
func (u *unfinished) next() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.changed
}
