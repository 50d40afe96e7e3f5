package harbortest

import (
	"slices"
	"sync"
	"time"
)

// Request is one that a stand-in had.
type Request struct {
	Method string
	// Path is what was asked for, with the query.
	Path string
	// Route is the path as the API description has it, such as
	// /users/{user_id}; outside of the API the path itself.
	Route string
	// Login is how who asked wanted to be known: anonymous, password, robot,
	// token or session.
	Login string
	// Who is the name of the user or robot, their token's too; empty for
	// anybody, among them whoever gave a wrong password.
	Who string
	// Status is the answer's; 0 where the connection was cut before.
	Status int
}

// Traffic is how busy a stand-in was.
type Traffic struct {
	// Requests is how many ended, Writes how many of them could change
	// something.
	Requests, Writes int
	// Written is how many had ended when the last of the writes did: what came
	// after that only read.
	Written int
	// MostInFlight is the most at one time, InFlight the mean over the time
	// in which there was at least one.
	MostInFlight int
	InFlight     float64
}

// traffic counts requests.
type traffic struct {
	mu    sync.Mutex
	done  []Request
	now   int
	most  int
	since time.Time     // of the last change of now
	busy  time.Duration // with at least one in flight
	sum   time.Duration // in flight, each for itself
}

// begin counts a request in; what it returns counts it out.
func (t *traffic) begin() func(Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tick()
	t.now++
	t.most = max(t.most, t.now)
	return func(r Request) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.tick()
		t.now--
		t.done = append(t.done, r)
	}
}

func (t *traffic) tick() {
	at := time.Now()
	if t.now > 0 {
		passed := at.Sub(t.since)
		t.busy += passed
		t.sum += passed * time.Duration(t.now)
	}
	t.since = at
}

// Requests are those that ended, in the order of their ends.
func (s *Server) Requests() []Request {
	s.traffic.mu.Lock()
	defer s.traffic.mu.Unlock()
	return slices.Clone(s.traffic.done)
}

// Traffic is how busy the stand-in was since the start or the last Forget.
func (s *Server) Traffic() Traffic {
	t := &s.traffic
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tick()
	sum := Traffic{Requests: len(t.done), MostInFlight: t.most}
	for i, r := range t.done {
		if writes(r.Method) {
			sum.Writes++
			sum.Written = i + 1
		}
	}
	if t.busy > 0 {
		sum.InFlight = float64(t.sum) / float64(t.busy)
	}
	return sum
}

// Forget starts the record anew; requests in flight are part of the new one.
func (s *Server) Forget() {
	t := &s.traffic
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tick()
	t.done, t.most, t.busy, t.sum = nil, t.now, 0, 0
}
