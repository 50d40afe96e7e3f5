package embedded

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/ocisync/ocisync/pkg/access"
)

// store holds the state of the running registry: readers see one snapshot
// whole, a write replaces it after it is durable.
type store struct {
	data    string
	outside access.Outside // where the state does not say
	clock   func() time.Time
	mu      sync.Mutex // one writer
	current atomic.Pointer[snapshot]
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
// none was made.
func (s *store) change(changes []Change) ([]Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.now()
	now := s.clock().UTC()
	for i := range changes {
		changes[i].at = now
	}
	next, results := before.doc.apply(changes)
	if next.Revision == before.doc.Revision {
		return results, nil
	}
	if err := next.replace(s.data, before.doc); err != nil {
		return nil, err
	}
	s.current.Store(compile(next, s.outside, before))
	return results, nil
}
