package harbortest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/adhocore/gronx"
)

// schedule is something that Harbor does from time to time.
type schedule struct {
	id     int64
	vendor string // what does it, such as RETENTION
	of     int64  // the id of what it does it to; -1 or 0 if that is all
	kind   string // such as Daily; Harbor does not hold it to the cron
	cron   string
	// parameters are those of a job that has some, as JSON.
	parameters json.RawMessage
	made       time.Time
}

func scheduleKey(vendor string, of int64) string { return fmt.Sprintf("%s %d", vendor, of) }

// installSchedules makes what jobservice does by itself.
func (s *Server) installSchedules() {
	s.schedule("SYSTEM_ARTIFACT_CLEANUP", 0, "", "0 0 0 * * *", nil)
	s.schedule("EXECUTION_SWEEP", -1, "", "0 0 0 * * *", nil)
}

// schedule makes one anew, under a new id.
func (s *Server) schedule(vendor string, of int64, kind, cron string, parameters json.RawMessage) {
	s.unschedule(vendor, of)
	made := &schedule{
		id: s.next("schedule"), vendor: vendor, of: of, kind: kind, cron: cron, parameters: parameters, made: s.now(),
	}
	s.schedules.put(made.id, scheduleKey(vendor, of), made)
}

// scheduled is the one of a vendor for something, or nil.
func (s *Server) scheduled(vendor string, of int64) *schedule {
	return s.schedules.named(scheduleKey(vendor, of))
}

// unschedule takes it away, if there is one.
func (s *Server) unschedule(vendor string, of int64) {
	if old := s.scheduled(vendor, of); old != nil {
		s.schedules.remove(old.id, scheduleKey(vendor, of))
	}
}

func (s *Server) allSchedules() routes {
	return routes{
		"GET /schedules":                   s.listSchedules,
		"GET /schedules/{job_type}/paused": s.showPaused,
	}
}

func (s *Server) listSchedules(c *call) (answer, error) {
	if err := c.inSystem("jobservice-monitor", "list"); err != nil {
		return answer{}, err
	}
	type shownSchedule struct {
		Cron       string `json:"cron"`
		ID         int64  `json:"id"`
		UpdateTime stamp  `json:"update_time"`
		VendorID   int64  `json:"vendor_id,omitempty"`
		VendorType string `json:"vendor_type"`
	}
	rows := s.schedules.all()
	return paged(c, rows, len(rows), func(p *schedule) shownSchedule {
		return shownSchedule{p.cron, p.id, stamp(p.made), p.of, p.vendor}
	})
}

func (s *Server) showPaused(c *call) (answer, error) {
	if err := c.loggedIn(); err != nil {
		return answer{}, err
	}
	if !strings.EqualFold(c.vars["job_type"], "all") {
		return answer{}, badRequest("job_type can only be 'all'")
	}
	return shown(struct {
		Paused bool `json:"paused"`
	}{})
}

// checkCron says what is wrong with a cron of six fields, whose seconds must
// be 0.
func checkCron(cron string) error {
	parts := strings.Fields(cron)
	switch {
	case cron == "":
		return errors.New("empty cron string is invalid")
	case len(parts) != 6:
		return fmt.Errorf("expected exactly 6 fields, found %d: %v", len(parts), parts)
	case !gronx.IsValid(cron):
		return fmt.Errorf("failed to parse %s", cron)
	case parts[0] != "0":
		return errors.New("the 1st field (indicating Seconds of time) of the cron setting must be 0")
	}
	return nil
}

// nextTime is when a cron comes next, in UTC; the zero stamp if never.
func (s *Server) nextTime(cron string) stamp {
	next, err := gronx.NextTickAfter(cron, s.now(), false)
	if err != nil {
		return stamp{}
	}
	return stamp(next)
}
