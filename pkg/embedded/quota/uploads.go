package quota

import (
	"slices"
	"sync"
	"time"

	"github.com/ocisync/ocisync/pkg/embedded/storage"
)

// settling is how long after its last request an upload may be expected to go
// on: clients end one right after they sent its content.
const settling = 2 * time.Second

// leftAlone is how long after its last request an upload gives way to others
// that want its room: a client that still works on it goes on within less.
const leftAlone = 2 * time.Minute

// Uploads knows the uploads that have begun and not ended: how much of each
// is stored, and whether somebody works on it. Those of before this process
// are found when a namespace is counted.
type Uploads struct {
	now func() time.Time

	mu      sync.Mutex
	uploads map[Upload]*upload
	last    uint64
	changed chan struct{} // closed when one has ended or is left
}

// Upload is one in a repository.
type Upload struct{ Repository, ID string }

type upload struct {
	number   uint64 // in the order in which they began
	size     int64  // bytes stored, or that a request under way may store
	requests int
	left     time.Time // by the last request to this process
	touched  time.Time // what is stored, when it was found
	gone     bool      // it gives way: nobody can go on with it
	by       Sender    // of the last request to this process
	began    time.Time // it
}

// last is when an upload was last sent to, as far as is known.
func (o *upload) last() time.Time {
	if o.left.IsZero() {
		return o.touched
	}
	return o.left
}

func newUploads() *Uploads {
	return &Uploads{now: time.Now, uploads: map[Upload]*upload{}, changed: make(chan struct{})}
}

func (u *Uploads) of(k Upload) *upload {
	o := u.uploads[k]
	if o == nil {
		u.last++
		o = &upload{number: u.last}
		u.uploads[k] = o
	}
	return o
}

// Begin notes that a request works on an upload; it must be followed by Leave
// or End. False: the upload is being removed.
func (u *Uploads) Begin(k Upload, by Sender) bool {
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
// that their Sender's push is, those left first, until they hold so many bytes; none
// where all together hold less. Nobody can go on with these any more: they must be
// removed, and given to End, or else to Keep.
func (u *Uploads) giveWay(now View, namespace string, size int64, over func(by Sender, began time.Time) bool) (gone []Upload) {
	u.mu.Lock()
	defer u.mu.Unlock()
	at := u.now()
	var alone []Upload
	for k, o := range u.uploads {
		since := at.Sub(o.last())
		idle := since >= leftAlone || since >= settling && over(o.by, o.began)
		if idle && o.requests == 0 && o.size > 0 && !o.gone && now.Rules.Holds(namespace, k.Repository) {
			alone = append(alone, k)
		}
	}
	slices.SortFunc(alone, func(a, b Upload) int { return u.uploads[a].last().Compare(u.uploads[b].last()) })
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

// Keep takes back that an upload gives way.
func (u *Uploads) Keep(k Upload) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if o := u.uploads[k]; o != nil {
		o.gone = false
	}
}

// Leave notes that a request is over, and how much is stored.
func (u *Uploads) Leave(k Upload, size int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	o := u.of(k)
	o.requests, o.size, o.left = o.requests-1, size, u.now()
	u.wake()
}

// End forgets an upload.
func (u *Uploads) End(k Upload) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.uploads, k)
	u.wake()
}

func (u *Uploads) wake() {
	close(u.changed)
	u.changed = make(chan struct{})
}

// found enters what is stored of a repository's uploads, those that nobody
// works on.
func (u *Uploads) found(repository string, list []storage.Upload) {
	u.mu.Lock()
	defer u.mu.Unlock()
	stored := map[string]bool{}
	for _, s := range list {
		stored[s.ID] = true
		if o := u.of(Upload{repository, s.ID}); o.requests == 0 {
			o.size = max(o.size, s.Size)
			o.touched = s.Touched
		}
	}
	for k, o := range u.uploads {
		if k.Repository == repository && !stored[k.ID] && o.requests == 0 {
			delete(u.uploads, k)
		}
	}
}

// Busy reports whether somebody works on an upload, or did since.
func (u *Uploads) Busy(repository, id string, since time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	o := u.uploads[Upload{repository, id}]
	return o != nil && (o.requests > 0 || o.left.After(since))
}

// load is what the uploads of a namespace hold but for one, in bytes: those
// that nobody works on, and the others.
type load struct {
	parked, active int64
	older          bool // one of those under way began earlier
	recent         bool // one that was just left may still go on, or one gives way
}

func (u *Uploads) load(now View, namespace string, but Upload) (l load) {
	u.mu.Lock()
	defer u.mu.Unlock()
	number := u.last + 1
	if own := u.uploads[but]; own != nil {
		number = own.number
	}
	at := u.now()
	for k, o := range u.uploads {
		switch {
		case k == but || !now.Rules.Holds(namespace, k.Repository):
		case o.requests > 0:
			l.active += o.size
			l.older = l.older || o.number < number
		default:
			l.parked += o.size
			l.recent = l.recent || o.gone || at.Sub(o.left) < settling
		}
	}
	return l
}

// Take gives a request under way so much room.
func (u *Uploads) Take(k Upload, size int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.of(k).size = size
}

// Next is closed when there may be more room.
func (u *Uploads) Next() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.changed
}
