package content

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Progress counts what copies do while they do it. One may serve several, one after the
// other or at once; a nil one counts nothing. Its fields are set before the first and not
// after.
type Progress struct {
	// Blob hears of each blob when it is where it belongs, from several goroutines; nil
	// for nobody.
	Blob func(Arrived)

	requests [2]answers

	mu       sync.Mutex
	is       Standing // without what transfers say
	unlisted int      // repositories whose tags nobody listed yet
	under    map[*transfer]bool
	begun    int // transfers that began, for their order
}

// Arrived is a blob that is where it belongs.
type Arrived struct {
	Repository string
	Digest     v1.Hash
	Size       int64
	Mounted    bool // from another repository of the target, and not sent
}

// Standing is how far copies are.
type Standing struct {
	// Tags are those known by now; Listed says that no repository is left whose tags are
	// not.
	Tags   int
	Listed bool
	// Begun are those of Tags that are through or under way.
	Begun, Copied, Same, Failed int
	// Blobs were sent, and Mounted from another repository.
	Blobs, Mounted int
	// Bytes were sent, those of uploads that broke off too; Left are to be sent of what
	// is begun, as far as that is known.
	Bytes, Left int64
	Large       []UnderWay // the large blobs under way, in the order in which they began
}

// Through are the tags that are.
func (s Standing) Through() int { return s.Copied + s.Same + s.Failed }

// UnderWay is a blob that is being sent.
type UnderWay struct {
	Repository string
	Digest     v1.Hash
	Size, Sent int64
}

// Standing tells how far they are now.
func (p *Progress) Standing() Standing {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.is
	now.Listed = p.unlisted == 0
	var moving []*transfer
	for t := range p.under {
		sent := t.sent.Load()
		now.Bytes += sent
		now.Left += max(0, t.size-sent)
		if t.number > 0 && t.size >= large {
			moving = append(moving, t)
		}
	}
	slices.SortFunc(moving, func(a, b *transfer) int { return cmp.Compare(a.number, b.number) })
	for _, t := range moving {
		now.Large = append(now.Large, UnderWay{t.repository, t.digest, t.size, t.sent.Load()})
	}
	return now
}

// note changes what is known.
func (p *Progress) note(f func(*Progress)) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p)
}

// Expect adds tags to those that are known.
func (p *Progress) Expect(tags int) { p.note(func(p *Progress) { p.is.Tags += tags }) }

// Tell counts a tag that is through, as a copy itself does.
func (p *Progress) Tell(o Outcome) {
	p.note(func(p *Progress) {
		switch o {
		case Copied:
			p.is.Copied++
		case Same:
			p.is.Same++
		case Failed:
			p.is.Failed++
		}
		p.is.Begun = max(p.is.Begun, p.is.Through())
	})
}

// failed counts a tag that failed before anybody began to copy it.
func (p *Progress) failed() {
	p.note(func(p *Progress) { p.is.Tags, p.is.Begun = p.is.Tags+1, p.is.Begun+1 })
	p.Tell(Failed)
}

// list takes note of what is to be copied, whose tags may not be listed yet; listed of
// one that has so many.
func (p *Progress) list(items ...Item) {
	p.note(func(p *Progress) {
		for _, i := range items {
			if n, ok := i.known(); ok {
				p.is.Tags += n
			} else {
				p.unlisted++
			}
		}
	})
}

func (p *Progress) listed(i Item, tags int) {
	p.note(func(p *Progress) {
		if n, ok := i.known(); ok {
			p.is.Tags -= n
		} else {
			p.unlisted--
		}
		p.is.Tags += tags
	})
}

// known is how many tags are copied, where that can be told before one lists them.
func (i Item) known() (tags int, ok bool) {
	if i.One != "" {
		return 1, true
	}
	return len(i.Tags), i.Tags != nil && i.Keep == nil
}

func (p *Progress) begin() { p.note(func(p *Progress) { p.is.Begun++ }) }

// transfer is a blob on its way. What reads it adds to sent, and needs no lock.
type transfer struct {
	repository string
	digest     v1.Hash
	size       int64
	sent       atomic.Int64
	number     int // 0: it waits for its turn
}

// transfer takes note of a blob that is to be sent; arrived or left ends that. It is nil
// where nobody counts.
func (p *Progress) transfer(repository string, d v1.Descriptor) *transfer {
	if p == nil {
		return nil
	}
	t := &transfer{repository: repository, digest: d.Digest, size: d.Size}
	p.note(func(p *Progress) {
		if p.under == nil {
			p.under = map[*transfer]bool{}
		}
		p.under[t] = true
	})
	return t
}

// moves begins it, or begins it again. It returns what is told of the bytes that are
// read.
func (p *Progress) moves(t *transfer) *atomic.Int64 {
	if t == nil {
		return nil
	}
	p.note(func(p *Progress) {
		p.begun++
		t.number = p.begun
		p.is.Bytes += t.sent.Swap(0)
	})
	return &t.sent
}

// arrived ends it where it belongs.
func (p *Progress) arrived(t *transfer, mounted bool) {
	if t == nil {
		return
	}
	p.left(t)
	p.note(func(p *Progress) {
		if mounted {
			p.is.Mounted++
		} else {
			p.is.Blobs++
		}
	})
	if p.Blob != nil {
		p.Blob(Arrived{t.repository, t.digest, t.size, mounted})
	}
}

// left ends it, wherever it is; again it does nothing.
func (p *Progress) left(t *transfer) {
	if t == nil {
		return
	}
	p.note(func(p *Progress) {
		if p.under[t] {
			delete(p.under, t)
			p.is.Bytes += t.sent.Load()
		}
	})
}

// Read is the package's [Read], counted.
func (p *Progress) Read(ctx context.Context, s Source, repository string, d v1.Descriptor, f func(io.Reader) error) error {
	t := p.transfer(repository, d)
	defer p.left(t)
	err := read(ctx, s, repository, d, p.moves(t), f)
	if err == nil {
		p.arrived(t, false)
	}
	return err
}

// The sides of a copy.
const (
	SourceSide = iota
	TargetSide
)

// answers counts the requests to one side by the status of their answers, 0 for those
// that got none.
type answers [600]atomic.Int64

// Requests tells how many requests a side got, by the status of their answers, 0 for
// those that got none.
func (p *Progress) Requests(side int) map[int]int64 {
	out := map[int]int64{}
	for code := range p.requests[side] {
		if n := p.requests[side][code].Load(); n > 0 {
			out[code] = n
		}
	}
	return out
}

// counting counts the requests that go through a transport.
type counting struct {
	http.RoundTripper
	answers *answers
}

// counted is a transport whose requests are counted.
func (p *Progress) counted(rt http.RoundTripper, push bool) http.RoundTripper {
	switch {
	case p == nil:
		return rt
	case push:
		return counting{rt, &p.requests[TargetSide]}
	}
	return counting{rt, &p.requests[SourceSide]}
}

// RoundTrip implements [http.RoundTripper].
func (c counting) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.RoundTripper.RoundTrip(req)
	code := 0
	if err == nil && resp.StatusCode < len(c.answers) {
		code = resp.StatusCode
	}
	c.answers[code].Add(1)
	return resp, err
}
