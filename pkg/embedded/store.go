package embedded

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/schema"
)

// store holds the state of the running registry: readers see one snapshot
// whole, a write replaces it after it is durable.
type store struct {
	data    string
	outside access.Outside // where the state does not say
	clock   func() time.Time
	// contents opens what renames move; whoever opens a store says how.
	contents func(context.Context) (*contents, error)
	mu       sync.Mutex // one writer
	current  atomic.Pointer[snapshot]
}

func openStore(data string, outside access.Outside) (*store, error) {
	doc, err := loadDocument(data)
	if err != nil {
		return nil, err
	}
	s := &store{data: data, outside: outside, clock: time.Now}
	s.current.Store(compile(doc, outside, nil))
	return s, nil
}

func (s *store) now() *snapshot { return s.current.Load() }

// change makes the changes and takes them into force. An error means that
// none was made, or that content still has to follow a rename.
func (s *store) change(ctx context.Context, changes []Change) ([]Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock().UTC()
	if err := s.sweep(now); err != nil {
		return nil, err
	}
	before := s.now()
	renames := len(before.doc.pending()) > 0
	for i := range changes {
		changes[i].at = now
		renames = renames || changes[i].From != nil
	}
	if renames {
		return s.rename(context.WithoutCancel(ctx), changes)
	}
	next, results := before.doc.apply(changes)
	return results, s.replace(next)
}

// replace makes a document durable, and then the one in force.
func (s *store) replace(next document) error {
	before := s.now()
	if next.Revision == before.doc.Revision {
		return nil
	}
	if err := next.replace(s.data, before.doc); err != nil {
		return err
	}
	s.current.Store(compile(next, s.outside, before))
	return nil
}

// rename makes changes with renames among them, and moves what bears the
// names. Writers wait meanwhile.
func (s *store) rename(ctx context.Context, changes []Change) (results []Result, err error) {
	c, err := s.contents(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.close(ctx)) }()
	c.gate.close()
	defer c.gate.open()
	if err := s.settle(ctx, c); err != nil { // what an earlier one left
		return nil, err
	}
	before := s.now()
	for i, change := range changes {
		if change.From != nil {
			changes[i].blocked = move{From: *change.From, To: change.Object.Key}.check(ctx, c.storage, before)
		}
	}
	next, results := before.doc.apply(changes)
	if next.Revision == before.doc.Revision {
		return results, nil
	}
	if err := next.replace(s.data, before.doc); err != nil {
		return nil, err
	}
	both := compile(next.beside(before.doc), s.outside, before)
	both.doc = next
	s.current.Store(both)
	return results, s.settle(ctx, c)
}

// settle finishes the moves that content has still to follow. They stay listed.
func (s *store) settle(ctx context.Context, c *contents) error {
	next := s.now().doc
	if len(next.pending()) == 0 {
		return nil
	}
	if err := c.settle(ctx, next, access.Compile(schema.State{Resources: next.Objects}, s.outside)); err != nil {
		return fmt.Errorf("%w; what is left is moved with the next change, or when the registry starts", err)
	}
	next.Moves = slices.Clone(next.Moves)
	for i := range next.Moves {
		next.Moves[i].Moved = true
	}
	next.Revision++
	return s.replace(next)
}

// acknowledge forgets the moves of objects that are called so now.
func (s *store) acknowledge(keys []schema.Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replace(s.now().doc.acknowledge(keys))
}
