package embedded

import (
	"errors"
	"hash/maphash"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// maxSeen bounds what the gate remembers of content that was asked for.
const maxSeen = 1 << 20

// gate keeps pushes and collection apart. Writers pass together; a sweep has
// the storage for itself, and they wait for it. It also remembers what a
// sweep must know of them: which repositories they changed, and which content
// a client was told to be there, which it will not send again. The zero gate
// is made by newGate.
type gate struct {
	passing sync.RWMutex

	mu         sync.Mutex
	collecting bool
	dirty      map[string]struct{}
	// seen holds nanoseconds since 1970 by the hash of what was seen where: two with one hash
	// are both seen.
	seed    maphash.Seed
	seen    map[uint64]int64
	allSeen int64 // all content counts as seen then
	memory  time.Duration
}

type sight struct {
	repository string
	content    digest.Digest
}

func newGate() *gate {
	return &gate{seed: maphash.MakeSeed(), seen: map[uint64]int64{}, memory: defaultDelay}
}

// pass is one writer's way through the gate.
type pass struct {
	gate       *gate
	repository string
	reads      bool   // changes nothing
	entered    func() // called inside, once; may be nil
	once       sync.Once
	inside     bool
}

// pass prepares a writer to a repository; defer leave.
func (g *gate) pass(repository string) *pass { return &pass{gate: g, repository: repository} }

// enter waits while a sweep runs. Only the first call counts.
func (p *pass) enter() {
	p.once.Do(func() {
		p.gate.passing.RLock()
		p.inside = true
		if p.entered != nil {
			p.entered()
		}
	})
}

// leave ends the pass, and notes that the repository may have changed. Only
// the first call counts.
func (p *pass) leave() {
	p.once.Do(func() {})
	if !p.inside {
		return
	}
	p.inside = false
	if !p.reads {
		p.gate.note(p.repository)
	}
	p.gate.passing.RUnlock()
}

// steady keeps sweeps away from who lists the storage, until the function it
// returns is called.
func (g *gate) steady() (release func()) {
	p := g.pass("")
	p.reads = true
	p.enter()
	return p.leave
}

func (g *gate) note(repository string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.collecting {
		g.dirty[repository] = struct{}{}
	}
}

// see notes that a client who may push was told that content is there. The
// caller is inside a pass.
func (g *gate) see(repository string, d digest.Digest, now time.Time) {
	key := maphash.Comparable(g.seed, sight{repository, d})
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.seen) >= maxSeen {
		g.forget(now.Add(-g.memory))
		if len(g.seen) > maxSeen/2 {
			clear(g.seen)
			g.allSeen = now.UnixNano()
		}
	}
	g.seen[key] = now.UnixNano()
}

func (g *gate) forget(before time.Time) {
	maps.DeleteFunc(g.seen, func(_ uint64, t int64) bool { return t < before.UnixNano() })
}

// lastSeen is when content was last said to be there; long ago if never.
func (g *gate) lastSeen(repository string, d digest.Digest) time.Time {
	key := maphash.Comparable(g.seed, sight{repository, d})
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Unix(0, max(g.seen[key], g.allSeen))
}

// begin starts to note changed repositories, and forgets what was seen longer
// ago than memory.
func (g *gate) begin(now time.Time, memory time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.collecting, g.dirty, g.memory = true, map[string]struct{}{}, memory
	g.forget(now.Add(-memory))
}

func (g *gate) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.collecting, g.dirty = false, nil
}

// changed returns the repositories changed since it was last asked.
func (g *gate) changed() map[string]struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.dirty
	g.dirty = map[string]struct{}{}
	return d
}

// close waits for the writers inside, and keeps others out until open.
func (g *gate) close() { g.passing.Lock() }
func (g *gate) open()  { g.passing.Unlock() }

// errMoved ends the body of a request whose repository has moved.
var errMoved = errors.New("the repository has moved")

// gatedBody lets its reader into the gate once all was sent, so that a slow
// client holds up nobody: until then an upload changes nothing but itself. It
// ends with errMoved where the visit's repository has moved by then.
type gatedBody struct {
	io.ReadCloser
	pass  *pass
	visit *visit
}

func (b gatedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.pass.enter()
		if b.visit.moved {
			err = errMoved
		}
	}
	return n, err
}
