package harbortest

import (
	"strings"
	"sync"
	"time"
)

// Fault is what goes wrong with some requests.
type Fault struct {
	// Method is that of the requests; any if empty.
	Method string
	// Path is how theirs begins, escaped and with the base, or a path of the
	// API description without it, such as /users/{user_id}; any if empty.
	Path string
	// From and To say which of those requests, the first being 1. 0 leaves
	// an end open.
	From, To int
	// Status is what is answered instead of doing anything, such as 429.
	Status int
	// RetryAfter is the header of that name beside Status, if any.
	RetryAfter string
	// Delay is how long the request waits.
	Delay time.Duration
	// Drop does what is asked and closes the connection without an answer.
	Drop bool
	// Cut is Drop, before Harbor wrote down what the registry behind it has done:
	// a blob is in the one and not in the table of the other.
	Cut bool
}

// faults are what was injected, and how many requests met each.
type faults struct {
	mu   sync.Mutex
	list []*struct {
		Fault
		met int
	}
}

// Inject makes requests fail from now on, beside what was injected before.
func (s *Server) Inject(f Fault) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.list = append(s.faults.list, &struct {
		Fault
		met int
	}{Fault: f})
}

// Heal takes back everything that was injected.
func (s *Server) Heal() {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.list = nil
}

// of is what goes wrong with a request: the delays of all that it meets, and
// the rest of the first that has it.
func (f *faults) of(method, path, route string) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	var sum Fault
	for _, one := range f.list {
		if one.Method != "" && one.Method != method || one.Path != "" && one.Path != route && !strings.HasPrefix(path, one.Path) {
			continue
		}
		one.met++
		if one.met < one.From || one.To > 0 && one.met > one.To {
			continue
		}
		sum.Delay += one.Delay
		sum.Drop, sum.Cut = sum.Drop || one.Drop, sum.Cut || one.Cut
		if sum.Status == 0 {
			sum.Status, sum.RetryAfter = one.Status, one.RetryAfter
		}
	}
	return sum
}
