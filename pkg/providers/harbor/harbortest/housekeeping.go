package harbortest

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// housekeeping are the schedules of garbage collection, of the purge of the
// audit log, and of the scan of everything.
func (s *Server) housekeeping() routes {
	return routes{
		"GET /system/gc/schedule":          s.showGC,
		"POST /system/gc/schedule":         func(c *call) (answer, error) { return s.setGC(c, "create") },
		"PUT /system/gc/schedule":          func(c *call) (answer, error) { return s.setGC(c, "update") },
		"GET /system/purgeaudit/schedule":  s.showPurge,
		"POST /system/purgeaudit/schedule": func(c *call) (answer, error) { return s.setPurge(c, "create") },
		"PUT /system/purgeaudit/schedule":  func(c *call) (answer, error) { return s.setPurge(c, "update") },
		"GET /system/scanAll/schedule":     s.showScanAll,
		"POST /system/scanAll/schedule":    s.createScanAll,
		"PUT /system/scanAll/schedule":     s.updateScanAll,
	}
}

const (
	vendorGC    = "GARBAGE_COLLECTION"
	vendorPurge = "PURGE_AUDIT_LOG"
	vendorScan  = "SCAN_ALL"
)

type scheduleParam struct {
	Cron string `json:"cron,omitempty"`
	Next stamp  `json:"next_scheduled_time"`
	Type string `json:"type,omitempty"`
}

type scheduleRequest struct {
	Schedule *struct {
		Type string `json:"type"`
		Cron string `json:"cron"`
	} `json:"schedule"`
	Parameters map[string]any `json:"parameters"`
}

// readSchedule is a schedule as it was sent; without one Harbor panics.
func readSchedule(c *call) (scheduleRequest, error) {
	given, err := decode[scheduleRequest](c)
	if err == nil && given.Schedule == nil {
		err = crashed()
	}
	return given, err
}

// byTime says whether a type of schedule is one by time. "Schedule" is taken
// and does nothing.
func byTime(kind string) bool {
	return kind == "Hourly" || kind == "Daily" || kind == "Weekly" || kind == "Custom"
}

// showJob is the schedule of a job, and nothing at all where there is none.
func (s *Server) showJob(vendor string) (answer, error) {
	p := s.scheduled(vendor, -1)
	if p == nil {
		return done()
	}
	return shown(struct {
		CreationTime stamp         `json:"creation_time"`
		ID           int64         `json:"id"`
		Kind         string        `json:"job_kind"`
		Parameters   string        `json:"job_parameters"`
		Status       string        `json:"job_status"`
		Schedule     scheduleParam `json:"schedule"`
		UpdateTime   stamp         `json:"update_time"`
	}{stamp(p.made), p.id, p.cron, string(p.parameters), "Running", scheduleParam{p.cron, s.nextTime(p.cron), p.kind}, stamp(p.made)})
}

func (s *Server) showGC(c *call) (answer, error) {
	if err := c.inSystem("garbage-collection", "read"); err != nil {
		return answer{}, err
	}
	return s.showJob(vendorGC)
}

// setGC makes, replaces or takes away the schedule, whichever verb it is, and
// Manual starts a run. dry_run is not shown again.
func (s *Server) setGC(c *call, action string) (answer, error) {
	if err := c.inSystem("garbage-collection", action); err != nil {
		return answer{}, err
	}
	given, err := readSchedule(c)
	if err != nil {
		return answer{}, err
	}
	kind, cron := given.Schedule.Type, given.Schedule.Cron
	kept := struct {
		Tag      bool `json:"delete_tag"`
		Untagged bool `json:"delete_untagged"`
		Workers  int  `json:"workers"`
	}{}
	kept.Tag, _ = given.Parameters["delete_tag"].(bool)
	kept.Untagged, _ = given.Parameters["delete_untagged"].(bool)
	if n, has := given.Parameters["workers"].(float64); has && (byTime(kind) || kind == "Manual") {
		if kept.Workers = int(n); kept.Workers <= 0 || kept.Workers > s.workers() {
			return answer{}, badRequest("Error: Invalid number of workers:%s. Workers must be greater than 0 and less than or equal to %d.", strconv.FormatFloat(n, 'f', -1, 64), s.workers())
		}
	}
	var started int64
	switch {
	case kind == "Manual":
		started = s.run(vendorGC, -1, false).id
	case kind == "None":
		s.unschedule(vendorGC, -1)
	case byTime(kind):
		if err := checkCron(cron); err != nil {
			return answer{}, badRequest("invalid cron string for scheduled gc: %s, error: %v", cron, err)
		}
		parameters, _ := json.Marshal(kept) // flags and a number always can
		s.schedule(vendorGC, -1, kind, cron, parameters)
	}
	return s.jobDone(c, started)
}

// jobDone answers who set a schedule: a POST with where the run is, and 0 for
// none.
func (s *Server) jobDone(c *call, started int64) (answer, error) {
	if c.r.Method == http.MethodPut {
		return done()
	}
	return created(strings.TrimSuffix(c.r.URL.EscapedPath(), "schedule") + strconv.FormatInt(started, 10))
}

func (s *Server) showPurge(c *call) (answer, error) {
	if err := c.inSystem("purge-audit", "read"); err != nil {
		return answer{}, err
	}
	return s.showJob(vendorPurge)
}

// setPurge wants its parameters always, even to take the schedule away.
func (s *Server) setPurge(c *call, action string) (answer, error) {
	if err := c.inSystem("purge-audit", action); err != nil {
		return answer{}, err
	}
	given, err := decode[scheduleRequest](c)
	if err != nil {
		return answer{}, err
	}
	_, hasHours := given.Parameters["audit_retention_hour"]
	_, hasTypes := given.Parameters[s.purged()]
	hours, _ := given.Parameters["audit_retention_hour"].(float64)
	const most = 240000
	switch {
	case given.Schedule == nil:
		return answer{}, badRequest("bad request: schedule cann't be empty")
	case len(given.Parameters) == 0:
		return answer{}, badRequest("bad request: schedule parameter cann't be empty")
	case !hasHours:
		return answer{}, badRequest("bad request: audit_retention_hour should provide")
	case hours > most:
		return answer{}, badRequest("bad request: audit_retention_hour should be less than %d", most)
	case !hasTypes:
		return answer{}, badRequest("bad request: %s should provide", s.purged())
	}
	kind, cron := given.Schedule.Type, given.Schedule.Cron
	dry, _ := given.Parameters["dry_run"].(bool)
	what, _ := given.Parameters[s.purged()].(string)
	kept := map[string]any{"audit_retention_hour": int(hours), "dry_run": dry, s.purged(): what}
	var started int64
	switch {
	case kind == "Manual":
		started = s.run(vendorPurge, -1, dry).id
	case kind == "None":
		s.unschedule(vendorPurge, -1)
	case byTime(kind):
		if err := checkCron(cron); err != nil {
			return answer{}, badRequest("invalid cron string for scheduled log rotation purge: %s, error: %v", cron, err)
		}
		parameters, _ := json.Marshal(kept) // numbers and texts always can
		s.schedule(vendorPurge, -1, kind, cron, parameters)
	}
	return s.jobDone(c, started)
}

// onScanAll refuses who may not do an action, and everybody as long as there
// is no scanner by default.
func (s *Server) onScanAll(c *call, action string) error {
	if err := c.inSystem("scan-all", action); err != nil {
		return err
	}
	if s.defaultScanner() == nil {
		return precondition("no scanner is configured, it's not possible to scan")
	}
	return nil
}

func (s *Server) showScanAll(c *call) (answer, error) {
	if err := s.onScanAll(c, "read"); err != nil {
		return answer{}, err
	}
	p := s.scheduled(vendorScan, 0)
	if p == nil {
		return done()
	}
	return shown(struct {
		CreationTime stamp         `json:"creation_time"`
		ID           int64         `json:"id"`
		Schedule     scheduleParam `json:"schedule"`
		Status       string        `json:"status"`
		UpdateTime   stamp         `json:"update_time"`
	}{stamp(p.made), p.id, scheduleParam{Cron: p.cron, Type: p.kind}, "Running", stamp(p.made)})
}

// createScanAll makes the schedule where there is none, or starts a run; None
// does nothing.
func (s *Server) createScanAll(c *call) (answer, error) {
	if err := s.onScanAll(c, "create"); err != nil {
		return answer{}, err
	}
	given, err := readSchedule(c)
	if err != nil {
		return answer{}, err
	}
	kind, cron := given.Schedule.Type, given.Schedule.Cron
	made := answer{status: http.StatusCreated}
	switch {
	case kind == "None":
		return made, nil
	case kind == "Manual" && len(s.runsOf(vendorScan, 0)) > 0:
		return answer{}, conflict("a previous scan all job aleady exits, its status is Running")
	case kind == "Manual":
		s.run(vendorScan, 0, false)
		return made, nil
	case s.scheduled(vendorScan, 0) != nil:
		return answer{}, precondition("fail to set schedule for scan all as always had one, please delete it firstly then to re-schedule")
	}
	if err := checkCron(cron); err != nil {
		return answer{}, badRequest("invalid cron string for scheduled scan all: %s, error: %v", cron, err)
	}
	s.schedule(vendorScan, 0, kind, cron, nil)
	return made, nil
}

// updateScanAll makes, replaces or takes away the schedule.
func (s *Server) updateScanAll(c *call) (answer, error) {
	if err := s.onScanAll(c, "update"); err != nil {
		return answer{}, err
	}
	given, err := readSchedule(c)
	if err != nil {
		return answer{}, err
	}
	kind, cron := given.Schedule.Type, given.Schedule.Cron
	switch kind {
	case "Manual":
		return answer{}, badRequest("fail to update scan all schedule as wrong schedule type: %s", kind)
	case "None":
		s.unschedule(vendorScan, 0)
		return done()
	}
	if err := checkCron(cron); err != nil {
		return answer{}, badRequest("invalid cron string for scheduled scan all: %s, error: %v", cron, err)
	}
	if old := s.scheduled(vendorScan, 0); old == nil || old.kind != kind || old.cron != cron {
		s.schedule(vendorScan, 0, kind, cron, nil)
	}
	return done()
}
