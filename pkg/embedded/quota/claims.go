package quota

import (
	"cmp"
	"crypto/sha256"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// settled is how long after the last claim of a blob it gives way before its room is
// needed.
const settled = 10 * time.Second

// What a namespace remembers of who relies on its blobs has these bounds.
const (
	maxClaims  = 1 << 17
	maxSenders = 1 << 14
)

// Sender is who pushes to a repository, as far as pushes can be told apart: clients ask
// for a token for each push, and two at once that send the password of one account, from
// one address, are one.
type Sender struct {
	Account    string
	Address    netip.Addr
	Repository string
	Token      [sha256.Size]byte // its hash; zero where there is none
}

// presence is what a sender does.
type presence struct {
	requests int       // under way
	last     time.Time // when one was over
	ended    time.Time // when one ended a push; zero if never
}

// reliance is that somebody relies on a blob, by a request that began so many nanoseconds
// after 1970, until a manifest of his that names it is stored.
type reliance struct {
	by    *presence
	began int64
	done  bool
}

// claims knows who relies on the blobs of a namespace that wait for their manifest:
// who sent one, mounted it, or was told that it is there. A claim is over when his
// manifest is stored, when something else was refused to him since or his connection
// broke, which end a push, or when he was silent for as long as leftAlone. Methods are
// not for use at once.
type claims struct {
	now     func() time.Time
	since   time.Time // it forgot what claims there were then; zero if it never did
	senders map[Sender]*presence
	made    map[digest.Digest][]reliance
	count   int
	yielded map[digest.Digest]struct{} // goes with the next collection, unless somebody claims it before
}

func newClaims(now func() time.Time) *claims {
	return &claims{
		now: now, senders: map[Sender]*presence{},
		made: map[digest.Digest][]reliance{}, yielded: map[digest.Digest]struct{}{},
	}
}

// arrive notes that a request of a sender is under way; depart must follow.
func (c *claims) arrive(who Sender) { c.of(who).requests++ }

func (c *claims) of(who Sender) *presence {
	p := c.senders[who]
	if p == nil {
		if len(c.senders) >= maxSenders { // what they claimed stays theirs, until they would have been silent
			maps.DeleteFunc(c.senders, func(_ Sender, p *presence) bool { return p.requests == 0 })
		}
		p = &presence{}
		c.senders[who] = p
	}
	return p
}

// depart notes that it is over, and whether that ends the push: it was refused for good,
// or cut off.
func (c *claims) depart(who Sender, ended bool) {
	p := c.of(who)
	p.requests--
	p.last = c.now()
	if ended {
		p.ended = p.last
	}
}

// claim notes that a sender relies on a blob, by a request of his, under way, that began
// then.
func (c *claims) claim(who Sender, d digest.Digest, began time.Time) {
	if c.count >= maxClaims {
		c.forget()
	}
	if c.count >= maxClaims {
		clear(c.made)
		c.count, c.since = 0, c.now()
	}
	delete(c.yielded, d)
	by, at := c.of(who), began.UnixNano()
	for i, m := range c.made[d] {
		if m.by == by {
			c.made[d][i] = reliance{by, max(m.began, at), false}
			return
		}
	}
	c.count++
	c.made[d] = append(c.made[d], reliance{by, at, false})
}

// fulfil notes that a manifest of a sender's is stored that names a blob.
func (c *claims) fulfil(who Sender, d digest.Digest) {
	by := c.senders[who]
	for i, m := range c.made[d] {
		if m.by == by {
			c.made[d][i].done = true
		}
	}
}

// over reports whether nobody relies on what a sender did by a request that began then.
func (c *claims) over(who Sender, began time.Time) bool {
	p := c.senders[who]
	if p == nil {
		return c.now().Sub(began) >= leftAlone
	}
	return c.ended(p, began)
}

func (c *claims) ended(p *presence, began time.Time) bool {
	return p.ended.After(began) || p.requests == 0 && c.now().Sub(p.last) >= leftAlone
}

// free reports whether nobody relies on a blob, and when somebody did last, as far
// as is known.
func (c *claims) free(d digest.Digest) (last time.Time, free bool) {
	for _, m := range c.made[d] {
		at := time.Unix(0, m.began)
		if !m.done && !c.ended(m.by, at) {
			return at, false
		}
		if at.After(last) {
			last = at
		}
	}
	return last, !last.IsZero() || c.now().Sub(c.since) >= leftAlone // what waited before a start is of no push
}

// forget drops what says nothing any more.
func (c *claims) forget() {
	for d, made := range c.made {
		left := slices.DeleteFunc(made, func(m reliance) bool {
			at := time.Unix(0, m.began)
			return (m.done || c.ended(m.by, at)) && c.now().Sub(at) >= leftAlone
		})
		c.count += len(left) - len(made)
		if len(left) > 0 {
			c.made[d] = left
		} else {
			delete(c.made, d)
		}
	}
	maps.DeleteFunc(c.senders, func(_ Sender, p *presence) bool {
		return p.requests == 0 && c.now().Sub(p.last) >= leftAlone
	})
}

// yield picks blobs that nobody relies on, those claimed longest ago first, until they
// hold what is wanted, and of those that are settled for spare more: collections are
// dear. False, and none, where all together hold less than is lacked. They go with the
// next collection, for whoever asks first.
func (c *claims) yield(waiting map[digest.Digest]int64, lacks, wants, spare int64) bool {
	type candidate struct {
		digest digest.Digest
		last   time.Time
	}
	var all []candidate
	var held int64
	for d, size := range waiting {
		if _, taken := c.yielded[d]; taken {
			continue
		}
		if last, free := c.free(d); free {
			all = append(all, candidate{d, last})
			held += size
		}
	}
	if held < lacks {
		return false
	}
	slices.SortFunc(all, func(a, b candidate) int { return cmp.Or(a.last.Compare(b.last), cmp.Compare(a.digest, b.digest)) })
	for _, x := range all {
		if wants <= 0 && (wants+spare <= 0 || c.now().Sub(x.last) < settled) {
			break
		}
		c.yielded[x.digest] = struct{}{}
		wants -= waiting[x.digest]
	}
	return true
}
