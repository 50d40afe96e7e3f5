package api

import (
	"context"
	"encoding/json"
	"net/http"
)

// Schedule is when one of Harbor's own jobs runs. The zero value is never.
type Schedule struct {
	Type string `json:"type"`
	Cron string `json:"cron,omitempty"` // six fields
}

// None reports whether nothing is scheduled.
func (s Schedule) None() bool { return s.Cron == "" || s.Type == "None" }

// scheduled makes one of six cron fields; "" is none. Of the types that Harbor has
// only these are safe: Manual starts a run, Schedule does nothing.
func scheduled(cron string) Schedule {
	if cron == "" {
		return Schedule{Type: "None"}
	}
	return Schedule{Type: "Custom", Cron: cron}
}

// job is what Harbor says of a schedule. Where there is none it says nothing.
type job struct {
	Schedule   Schedule `json:"schedule"`
	Parameters string   `json:"job_parameters"` // JSON in a text
}

func (c *Client) job(ctx context.Context, path, doing, right string) (job, error) {
	var out job
	_, err := do(ctx, c, call{method: http.MethodGet, path: path, doing: doing, right: right}, &out)
	return out, err
}

// GC is the collection of content. Its parameters last as long as its schedule.
type GC struct {
	Schedule Schedule
	Untagged bool `json:"delete_untagged"`
	Tags     bool `json:"delete_tag"`
	Workers  int  `json:"workers"` // 1 to 10; 0 is Harbor's default
}

const gcPath = "/system/gc/schedule"

// GC reads the schedule.
func (c *Client) GC(ctx context.Context) (GC, error) {
	j, err := c.job(ctx, gcPath, "reading the schedule of collections", "garbage-collection:read")
	if err != nil || j.Schedule.None() {
		return GC{}, err
	}
	out := GC{}
	if j.Parameters != "" {
		if err := json.Unmarshal([]byte(j.Parameters), &out); err != nil {
			return GC{}, c.fail("reading the schedule of collections", err, "")
		}
	}
	out.Schedule = j.Schedule
	return out, nil
}

// SetGC replaces the schedule; a cron of "" ends it. Harbor does not show whether a
// run only tries, so none ever does.
func (c *Client) SetGC(ctx context.Context, cron string, g GC) error {
	type parameters struct {
		Untagged bool `json:"delete_untagged"`
		Tags     bool `json:"delete_tag"`
		DryRun   bool `json:"dry_run"`
		Workers  int  `json:"workers,omitempty"`
	}
	in := struct {
		Schedule   Schedule    `json:"schedule"`
		Parameters *parameters `json:"parameters,omitempty"`
	}{Schedule: scheduled(cron)}
	if cron != "" {
		in.Parameters = &parameters{Untagged: g.Untagged, Tags: g.Tags, Workers: g.Workers}
	}
	_, err := write(ctx, c, call{method: http.MethodPut, path: gcPath, doing: "setting the schedule of collections"}, in)
	return err
}

// Purge is the end of old records in the audit log. Its parameters last as long as
// its schedule.
type Purge struct {
	Schedule Schedule
	Hours    int64  `json:"audit_retention_hour"`
	Events   string `json:"include_event_types"` // with commas
	// Operations is what Harbor before 2.13 has instead of events.
	Operations string `json:"include_operations"`
	DryRun     bool   `json:"dry_run"`
}

const purgePath = "/system/purgeaudit/schedule"

// Purge reads the schedule.
func (c *Client) Purge(ctx context.Context) (Purge, error) {
	j, err := c.job(ctx, purgePath, "reading the schedule of the audit log", "purge-audit:read")
	if err != nil || j.Schedule.None() {
		return Purge{}, err
	}
	out := Purge{}
	if j.Parameters != "" {
		if err := json.Unmarshal([]byte(j.Parameters), &out); err != nil {
			return Purge{}, c.fail("reading the schedule of the audit log", err, "")
		}
	}
	out.Schedule = j.Schedule
	return out, nil
}

// SetPurge replaces the schedule; a cron of "" ends it. Harbor wants all parameters
// for that too.
func (c *Client) SetPurge(ctx context.Context, cron string, p Purge) error {
	type parameters struct {
		Hours      int64  `json:"audit_retention_hour"`
		Events     string `json:"include_event_types,omitempty"`
		Operations string `json:"include_operations,omitempty"`
		DryRun     bool   `json:"dry_run"`
	}
	_, err := write(ctx, c, call{method: http.MethodPut, path: purgePath, doing: "setting the schedule of the audit log"}, struct {
		Schedule   Schedule   `json:"schedule"`
		Parameters parameters `json:"parameters"`
	}{scheduled(cron), parameters{p.Hours, p.Events, p.Operations, false}})
	return err
}

// AuditEvents lists the events that this Harbor records.
func (c *Client) AuditEvents(ctx context.Context) ([]string, error) {
	var rows []struct {
		Type string `json:"event_type"`
	}
	_, err := do(ctx, c, call{method: http.MethodGet, path: "/auditlog-exts/events", doing: "reading the audit log's events", right: "audit-log:list"}, &rows)
	out := make([]string, 0, len(rows))
	for _, r := range rows {
		out = append(out, r.Type)
	}
	return out, err
}

const scanPath = "/system/scanAll/schedule"

// ScanAll reads when everything is scanned. Without a default scanner Harbor
// answers 412 even to the question, and nothing is scheduled.
func (c *Client) ScanAll(ctx context.Context) (Schedule, error) {
	j, err := c.job(ctx, scanPath, "reading the schedule of scans", "scan-all:read")
	if Is(err, http.StatusPreconditionFailed) {
		return Schedule{}, nil
	}
	return j.Schedule, err
}

// SetScanAll replaces the schedule; a cron of "" ends it. A PUT makes it too, and
// only that ends one.
func (c *Client) SetScanAll(ctx context.Context, cron string) error {
	_, err := write(ctx, c, call{method: http.MethodPut, path: scanPath, doing: "setting the schedule of scans", hint: "name the registry's default scanner in scan.default"}, struct {
		Schedule Schedule `json:"schedule"`
	}{scheduled(cron)})
	return err
}
