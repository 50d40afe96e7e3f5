package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

const maxRunBytes = 4 << 10

type runRequest struct {
	Job    string `json:"job"`
	DryRun bool   `json:"dry_run,omitempty"`
}

type runResponse struct {
	Report Report `json:"report"`
	// Code and Error are those of a [wireResult].
	Code  string `json:"code,omitempty"`
	Error string `json:"error,omitempty"`
}

// serveRun answers at once, and says what became of the job when it is done:
// that may take longer than anybody waits for the beginning of an answer.
func (r *Registry) serveRun(w http.ResponseWriter, q *http.Request) {
	var request runRequest
	if !readJSON(w, q, maxRunBytes, &request) {
		return
	}
	answerLater(w, func() (Report, error) {
		report, err := r.jobs.order(q.Context(), request.Job, request.DryRun)
		if !request.DryRun {
			recordOf(q).ran(request.Job, err)
		}
		return report, err
	})
}

func answerLater(w http.ResponseWriter, run func() (Report, error)) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	control.Flush()                       //nolint:errcheck // the client only waits longer
	control.SetWriteDeadline(time.Time{}) //nolint:errcheck // a connection in memory may have none
	report, err := run()
	response := runResponse{Report: report}
	if err != nil {
		result := Result{Err: err}.wire()
		response.Code, response.Error = result.Code, result.Error
	}
	json.NewEncoder(w).Encode(response) //nolint:errcheck // the client is gone
}

// Run runs a job now and waits for its end. ErrUnsupported: there is no such
// job. A dry run says what the job would do.
func (c *Client) Run(ctx context.Context, job string, dry bool) (Report, error) {
	var response runResponse
	if err := callFor(ctx, c, http.MethodPost, "run", nil, runRequest{job, dry}, &response); err != nil {
		return Report{}, err
	}
	return response.Report, wireResult{Code: response.Code, Error: response.Error}.result().Err
}

// Run runs a job now. ErrUnsupported: there is no such job. ErrHeld: another
// process has the directory, even after waiting two seconds. A dry run says
// what the job would do, takes no lock and touches nothing.
func (d *Directory) Run(ctx context.Context, name string, dry bool) (_ Report, err error) {
	job := d.collect
	switch name {
	case JobGC:
	case JobRetention:
		job = d.retainJob
	default:
		return Report{}, noJob(name)
	}
	if dry {
		return job(ctx, true)
	}
	release, err := d.lockAs(ctx, "ocisync run "+name)
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, release()) }()
	if err := d.own(ctx); err != nil {
		return Report{}, err
	}
	began := time.Now().UTC()
	report, err := job(ctx, false)
	if err != nil {
		return report, err
	}
	return report, d.ran(name, began)
}

// ran notes that a job was run, for the schedule. The caller has the lock.
func (d *Directory) ran(name string, began time.Time) error {
	records, err := readJobs(d.data)
	if err != nil {
		return err
	}
	r := records[name]
	now := time.Now().UTC()
	r.Last, r.Took, r.Error = began, now.Sub(began).Round(time.Millisecond).String(), ""
	r.Next = next(timing{r.Schedule, r.Zone}, now)
	records[name] = r
	return writeJobs(d.data, records)
}
