package harbortest

import (
	"slices"
	"time"
)

// run is one time that something was done. Nothing is really done here: it
// stays running.
type run struct {
	id      int64
	vendor  string
	of      int64
	dry     bool
	started time.Time
}

// run begins one.
func (s *Server) run(vendor string, of int64, dry bool) *run {
	r := &run{id: s.next("execution"), vendor: vendor, of: of, dry: dry, started: s.now()}
	key := scheduleKey(vendor, of)
	s.runs[key] = append(s.runs[key], r)
	return r
}

// runsOf are those of one thing, the last first.
func (s *Server) runsOf(vendor string, of int64) []*run {
	runs := slices.Clone(s.runs[scheduleKey(vendor, of)])
	slices.Reverse(runs)
	return runs
}

func (s *Server) removeRuns(vendor string, of int64) { delete(s.runs, scheduleKey(vendor, of)) }
