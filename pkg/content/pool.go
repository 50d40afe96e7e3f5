package content

import (
	"container/heap"
	"context"
	"sync"
)

// large is where a blob counts as one, in bytes: few of those are moved at once, so that
// each gets on, and many of the others, which cost requests alone.
const large = 8 << 20

// pools are where blobs wait for their turn, the largest first, so that none of those
// is left over at the end.
type pools struct{ small, large *pool }

func newPools(smallOnes, largeOnes int) pools {
	return pools{&pool{free: smallOnes}, &pool{free: largeOnes}}
}

func (p pools) of(size int64) *pool {
	if size >= large {
		return p.large
	}
	return p.small
}

// pool has a few places.
type pool struct {
	mu      sync.Mutex
	free    int
	waiting queue
}

// waiter is who waits for one.
type waiter struct {
	size  int64
	turn  chan struct{}
	index int // in the queue; -1: it has its turn
}

// enter waits for a place.
func (p *pool) enter(ctx context.Context, size int64) error {
	p.mu.Lock()
	if p.free > 0 {
		p.free--
		p.mu.Unlock()
		return nil
	}
	w := &waiter{size: size, turn: make(chan struct{})}
	heap.Push(&p.waiting, w)
	p.mu.Unlock()
	select {
	case <-w.turn:
		return nil
	case <-ctx.Done():
		p.mu.Lock()
		mine := w.index < 0
		if !mine {
			heap.Remove(&p.waiting, w.index)
		}
		p.mu.Unlock()
		if mine {
			p.leave()
		}
		return ctx.Err()
	}
}

func (p *pool) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		p.free++
		return
	}
	w, _ := heap.Pop(&p.waiting).(*waiter)
	close(w.turn)
}

// queue is a heap of those who wait, the largest first.
type queue []*waiter

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].size > q[j].size }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push implements [heap.Interface].
func (q *queue) Push(x any) {
	w, _ := x.(*waiter)
	w.index = len(*q)
	*q = append(*q, w)
}

// Pop implements [heap.Interface].
func (q *queue) Pop() any {
	last := len(*q) - 1
	w := (*q)[last]
	w.index = -1
	(*q)[last] = nil
	*q = (*q)[:last]
	return w
}
