package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/adhocore/gronx"

	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/schema"
)

const (
	jobsFile     = "jobs.json" // below ownDir
	maxJobsBytes = 1 << 20
	noSchedule   = "none"
	// lookAgain bounds how long the scheduler sleeps: clocks are set, and
	// machines wake up.
	lookAgain = 30 * time.Second
)

// Report says what a job did; of its figures those of the job are set.
type Report struct {
	Job       string           `json:"job"`
	GC        *Collected       `json:"gc,omitempty"`
	Retention *RetentionReport `json:"retention,omitempty"`
}

// job is work that a declared policy causes by time.
type job struct {
	name string
	when timing
	run  func(ctx context.Context, dry bool) (Report, error)
}

// timing is a schedule, as in the schema; "" or "none" is never.
type timing struct{ schedule, zone string }

// jobRecord is what jobs.json keeps of a job.
type jobRecord struct {
	Schedule string `json:"schedule"`
	Zone     string `json:"zone"`
	// Next is zero for a job that runs when it is told to.
	Next  time.Time `json:"next,omitzero"`
	Last  time.Time `json:"last,omitzero"` // when it began
	Took  string    `json:"took,omitempty"`
	Error string    `json:"error,omitempty"`
}

// Jobs lists the jobs that [Client.Run] and [Directory.Run] take, sorted.
func Jobs() []string { return []string{JobGC, JobRetention} }

// jobList lists the jobs by the state in force. Retention has one for each
// namespace with rules, by the namespace's own schedule, and one for all of
// them that runs only when it is told to.
func (r *Registry) jobList() []job {
	now := r.store.now()
	collect, retain := r.collect, r.retainJob
	if t := r.options.Tokens; t != nil {
		collect = t.job(JobGC, nil)
		retain = func(namespaces []string) func(context.Context, bool) (Report, error) {
			return t.job(JobRetention, namespaces)
		}
	}
	collection := timing{}
	if spec := now.doc.gc(); spec != nil {
		collection = timing{*spec.Schedule, *spec.Zone} // complete, as all that the store holds
	}
	// retention first: what it lets go, a collection that is due too removes
	list := []job{{JobRetention, timing{}, retain(nil)}}
	for _, ns := range sortedNames(now.policies) {
		if p := now.policies[ns]; p.retained {
			list = append(list, job{JobRetention + "/" + ns, p.timing, retain([]string{ns})})
		}
	}
	return append(list, job{JobGC, collection, collect})
}

// scheduler runs the jobs of a registry that is served, one at a time.
type scheduler struct {
	data    string
	logger  *slog.Logger
	jobs    func() []job                        // by the state in force
	rest    func(context.Context) time.Duration // does what jobs left, and says when to look again
	now     func() time.Time
	turn    chan struct{} // holds one token: who has it runs a job, or writes the file
	changed chan struct{}
	records map[string]jobRecord // of whoever has the turn

	mu      sync.Mutex // of what is below
	serving bool
	hurried map[string]chan struct{} // jobs to run at once, closed when they have
	last    map[string]time.Time     // when such a job was asked for
	rested  map[string]time.Time     // when one may run again
}

func newScheduler(data string, logger *slog.Logger, jobs func() []job, rest func(context.Context) time.Duration) *scheduler {
	s := &scheduler{
		data: data, logger: logger, jobs: jobs, rest: rest, now: time.Now,
		turn: make(chan struct{}, 1), changed: make(chan struct{}, 1), records: map[string]jobRecord{},
		hurried: map[string]chan struct{}{}, last: map[string]time.Time{}, rested: map[string]time.Time{},
	}
	records, err := readJobs(data)
	if err != nil { // nothing is lost but when jobs ran
		logger.Warn("jobs are planned anew", "error", err)
	} else {
		s.records = records
	}
	s.turn <- struct{}{}
	return s
}

// replan says that schedules may have changed.
func (s *scheduler) replan() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// serve runs jobs by schedule until the context is done. A job that was due
// while nobody served the registry runs at once.
func (s *scheduler) serve(ctx context.Context) {
	s.mu.Lock()
	s.serving = true
	s.mu.Unlock()
	defer s.stop()
	for ctx.Err() == nil {
		wait := s.due(ctx)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// hurry has a job run soon, and closes what it returns when it has, or when
// nobody serves, and says how long it rests first. Unless somebody waits for it, it
// leaves a pause since the last time.
func (s *scheduler) hurry(name string, waits bool) (ran <-chan struct{}, rest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := s.hurried[name]
	if done == nil {
		done = make(chan struct{})
		if !s.serving || !waits && time.Since(s.last[name]) < roomPause {
			close(done)
			return done, 0
		}
		s.hurried[name] = done
	}
	s.last[name] = time.Now()
	s.replan()
	return done, time.Until(s.rested[name])
}

// takeHurried returns what to call once a job has run, nil where nobody is in a
// hurry for it, or where it is to rest for a while: so long that what takes long does
// not run for more than a tenth of the time. Who asks from now on gets another run.
func (s *scheduler) takeHurried(name string) (done func(), rest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.hurried[name]
	if c == nil {
		return nil, 0
	}
	if rest := time.Until(s.rested[name]); rest > 0 {
		return nil, rest
	}
	delete(s.hurried, name)
	began := time.Now()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.rested[name] = time.Now().Add(9 * time.Since(began))
		close(c)
	}, 0
}

// stop lets nobody wait for a job that will not run.
func (s *scheduler) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving = false
	for name, c := range s.hurried {
		close(c)
		delete(s.hurried, name)
	}
}

// due runs what is due and returns how long nothing will be.
func (s *scheduler) due(ctx context.Context) time.Duration {
	if !s.take(ctx) {
		return lookAgain
	}
	defer s.give()
	wait := lookAgain
	before := maps.Clone(s.records)
	jobs := s.jobs()
	maps.DeleteFunc(s.records, func(name string, _ jobRecord) bool {
		return !slices.ContainsFunc(jobs, func(j job) bool { return j.name == name })
	})
	for _, j := range jobs {
		r := s.planned(j)
		done, rest := s.takeHurried(j.name)
		if rest > 0 {
			wait = min(wait, rest)
		}
		if done != nil || !r.Next.IsZero() && !r.Next.After(s.now()) {
			s.run(ctx, j, false) //nolint:errcheck // it is logged and kept
			r = s.records[j.name]
		}
		if done != nil {
			done()
		}
		if !r.Next.IsZero() {
			wait = min(wait, r.Next.Sub(s.now()))
		}
	}
	if !maps.Equal(before, s.records) {
		s.save()
	}
	return max(min(wait, s.rest(ctx)), 0)
}

// planned brings a job's record in step with its schedule. One that is due
// later than if it were planned now was planned by a clock that was set back.
func (s *scheduler) planned(j job) jobRecord {
	t, r, now := j.when, s.records[j.name], s.now().UTC()
	at := next(t, now)
	if t.schedule == r.Schedule && t.zone == r.Zone && !r.Next.After(at) {
		return r
	}
	r.Schedule, r.Zone, r.Next = t.schedule, t.zone, at
	s.records[j.name] = r
	return r
}

func (s *scheduler) run(ctx context.Context, j job, dry bool) (Report, error) {
	began := s.now().UTC()
	report, err := j.run(ctx, dry)
	took := s.now().Sub(began).Round(time.Millisecond)
	if dry {
		return report, err
	}
	r := s.records[j.name]
	r.Last, r.Took, r.Error = began, took.String(), ""
	r.Schedule, r.Zone, r.Next = j.when.schedule, j.when.zone, next(j.when, s.now().UTC())
	if err != nil {
		r.Error = err.Error()
		s.logger.Error("job failed", "job", j.name, "error", err)
	} else {
		s.logger.Info("job done", "job", j.name, "took", took)
	}
	s.records[j.name] = r
	return report, err
}

// order runs a job now, after the one that is running.
func (s *scheduler) order(ctx context.Context, name string, dry bool) (Report, error) {
	if !slices.Contains(Jobs(), name) {
		return Report{}, noJob(name)
	}
	for _, j := range s.jobs() {
		if j.name != name {
			continue
		}
		if !s.take(ctx) {
			return Report{}, ctx.Err()
		}
		defer s.give()
		report, err := s.run(ctx, j, dry)
		if !dry {
			s.save()
			s.replan()
		}
		return report, err
	}
	return Report{}, noJob(name)
}

func noJob(name string) error {
	return fmt.Errorf("job %s: %w; there is %s", name, ErrUnsupported, strings.Join(Jobs(), ", "))
}

func (s *scheduler) take(ctx context.Context) bool {
	select {
	case <-s.turn:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *scheduler) give() { s.turn <- struct{}{} }

func (s *scheduler) save() {
	if err := writeJobs(s.data, s.records); err != nil {
		s.logger.Error("keeping when jobs run failed", "error", err)
	}
}

func readJobs(data string) (map[string]jobRecord, error) {
	records := map[string]jobRecord{}
	f, err := regular.Open(filepath.Join(data, ownDir, jobsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return records, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := json.NewDecoder(io.LimitReader(f, maxJobsBytes)).Decode(&records); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return records, nil
}

func writeJobs(data string, records map[string]jobRecord) error {
	b, err := json.MarshalIndent(records, "", " ")
	if err != nil {
		return err
	}
	return regular.Replace(filepath.Join(data, ownDir), jobsFile, append(b, '\n'))
}

// scheduleHelp is what to write for a schedule that is none.
const scheduleHelp = `write 5 or 6 cron fields such as "0 3 * * *", "@daily", "@every 1h" or "none"`

// validSchedule reports whether a text is a schedule as the mode's format has
// it.
func validSchedule(s string) bool {
	return s == noSchedule || len(s) <= 200 && (every(s) || gronx.IsValid(s))
}

// orTiming returns a schedule and its zone, where nothing is said never and UTC.
func orTiming(schedule, zone *string) (*string, *string) {
	if schedule == nil {
		schedule = new(noSchedule)
	}
	if zone == nil {
		zone = new("UTC")
	}
	return schedule, zone
}

// every reports whether a schedule is "@every" and a span.
func every(schedule string) bool {
	span, ok := strings.CutPrefix(schedule, "@every ")
	if !ok {
		return false
	}
	d, err := schema.ParseDuration(strings.TrimSpace(span))
	return err == nil && d > 0
}

func location(zone string) (*time.Location, error) {
	if zone == "Local" {
		return nil, errors.New(`write a name such as "Europe/Madrid" or "UTC"`)
	}
	return time.LoadLocation(zone)
}

// Next is when a schedule, as the mode's format has it, comes after a time, in UTC; zero if
// never.
func Next(schedule, zone string, after time.Time) time.Time {
	return next(timing{schedule, zone}, after)
}

// next is when a job runs after a time, in UTC; zero if never.
func next(t timing, after time.Time) time.Time {
	if t.schedule == "" || t.schedule == noSchedule {
		return time.Time{}
	}
	if span, ok := strings.CutPrefix(t.schedule, "@every "); ok {
		d, err := schema.ParseDuration(strings.TrimSpace(span))
		if err != nil || d <= 0 {
			return time.Time{}
		}
		return after.Add(d.Std()).UTC()
	}
	where, err := location(t.zone)
	if err != nil {
		where = time.UTC
	}
	at, err := gronx.NextTickAfter(t.schedule, after.In(where), false)
	if err != nil {
		return time.Time{}
	}
	return at.UTC()
}
