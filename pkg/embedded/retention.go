package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/embedded/storage"
	"github.com/ocisync/ocisync/pkg/retention"
)

const (
	// maxKept bounds the kept tags that a report lists.
	maxKept = 100_000
	// batchSize is how many tags are removed while pushes to their repository
	// wait.
	batchSize = 200
)

// RetentionOptions say what a retention run does.
type RetentionOptions struct {
	// DryRun removes nothing.
	DryRun bool `json:"dry_run,omitempty"`
	// Now is the time to judge by; zero is the clock's.
	Now time.Time `json:"now,omitzero"`
	// Namespaces limits the run to some; nil means all that have rules.
	Namespaces []string `json:"namespaces,omitempty"`
}

// RetentionReport is what a retention run found and did.
type RetentionReport struct {
	DryRun bool      `json:"dry_run"`
	Now    time.Time `json:"now"`
	// Tags is sorted by repository and tag; of those kept at most 100,000.
	Tags []TagReport `json:"tags"`
	// Untagged lists the manifests without a tag that go, where the
	// namespace says so.
	Untagged []ManifestReport `json:"untagged,omitempty"`
	Kept     int              `json:"kept"`
	Gone     int              `json:"gone"`
	// Failed is how many of Gone could not be removed.
	Failed int `json:"failed,omitempty"`
}

// TagReport says what becomes of a tag, and why.
type TagReport struct {
	Namespace  string        `json:"namespace"`
	Repository string        `json:"repository"`
	Tag        string        `json:"tag"`
	Digest     digest.Digest `json:"digest"`
	Pushed     time.Time     `json:"pushed,omitzero"` // zero where it is not known
	PushedBy   string        `json:"pushed_by,omitempty"`
	Pulled     time.Time     `json:"pulled,omitzero"`
	Kept       bool          `json:"kept"`
	Why        string        `json:"why"`
	Error      string        `json:"error,omitempty"`
}

// ManifestReport names a manifest that goes because it has no tag.
type ManifestReport struct {
	Repository string        `json:"repository"`
	Digest     digest.Digest `json:"digest"`
	Error      string        `json:"error,omitempty"`
}

func (r RetentionReport) failure() error {
	if r.Failed == 0 {
		return nil
	}
	return fmt.Errorf("retention could not remove %d of %d; the next run tries again", r.Failed, r.Gone+len(r.Untagged))
}

// JobRetention is the name of the job that removes tags by the rules of all
// namespaces.
const JobRetention = "retention"

// Retention judges the tags of the namespaces with retention rules and removes
// those that no rule keeps; their content goes with the next collection.
// Pushes go on meanwhile, and wait only while tags of their own repository are
// removed.
// Failures of single tags are in the report. It waits for the job that is
// running, a dry run does not.
func (r *Registry) Retention(ctx context.Context, o RetentionOptions) (RetentionReport, error) {
	if !o.DryRun {
		if !r.jobs.take(ctx) {
			return RetentionReport{}, ctx.Err()
		}
		defer r.jobs.give()
	}
	return r.retain(ctx, o)
}

// retainJob is retention in some namespaces, nil for all, as a job.
func (r *Registry) retainJob(namespaces []string) func(context.Context, bool) (Report, error) {
	return func(ctx context.Context, dry bool) (Report, error) {
		report, err := r.retain(ctx, RetentionOptions{DryRun: dry, Namespaces: namespaces})
		return Report{Job: JobRetention, Retention: &report}, errors.Join(err, report.failure())
	}
}

// retain runs beside pushes; the caller sees to it that no other job does.
func (r *Registry) retain(ctx context.Context, o RetentionOptions) (RetentionReport, error) {
	// past the gate first, as every writer
	lock := func(repository string) (unlock func()) {
		p := r.gate.pass(repository)
		p.enter()
		release := r.guard.locks.remove(repository)
		return func() {
			release()
			p.leave()
		}
	}
	j := &retentionJob{storage: r.storage, times: r.guard.times, state: r.store.now, logger: r.logger, lock: lock, seen: r.gate.lastSeen, herald: r.herald()}
	if !o.DryRun {
		if err := j.herald.resume(ctx, false); err != nil {
			return RetentionReport{}, err
		}
	}
	report, err := j.run(ctx, o)
	if !o.DryRun && len(report.Untagged) > 0 {
		r.guard.ledgers.Forget()
	}
	r.upkeep.retained(report, err)
	return report, err
}

// Retention is [Registry.Retention] for a directory that nobody serves. A dry
// run takes no lock and touches nothing.
func (d *Directory) Retention(ctx context.Context, o RetentionOptions) (_ RetentionReport, err error) {
	if !o.DryRun {
		release, err := d.lockAs(ctx, "ocisync run "+JobRetention)
		if err != nil {
			return RetentionReport{}, err
		}
		defer func() { err = errors.Join(err, release()) }()
		if err := d.own(ctx); err != nil {
			return RetentionReport{}, err
		}
	}
	return d.retain(ctx, o)
}

func (d *Directory) retainJob(ctx context.Context, dry bool) (Report, error) {
	report, err := d.retain(ctx, RetentionOptions{DryRun: dry})
	return Report{Job: JobRetention, Retention: &report}, errors.Join(err, report.failure())
}

// retain has the directory for itself, or only looks.
func (d *Directory) retain(ctx context.Context, o RetentionOptions) (RetentionReport, error) {
	doc, err := loadDocument(d.data)
	if err != nil {
		return RetentionReport{}, err
	}
	s, err := d.content(ctx)
	if err != nil {
		return RetentionReport{}, err
	}
	logger := slog.New(slog.DiscardHandler)
	t := newTimes(d.data, logger)
	if err := loadTimes(t); err != nil {
		return RetentionReport{}, err
	}
	now := compile(doc, "", nil)
	j := &retentionJob{
		storage: s, times: t, logger: logger,
		state: func() *snapshot { return now },
		lock:  func(string) func() { return func() {} },
		seen:  func(string, digest.Digest) time.Time { return time.Time{} },
	}
	if o.DryRun {
		return j.run(ctx, o)
	}
	var report RetentionReport
	err = d.heralding(ctx, doc, s, func(h herald) (err error) {
		j.herald = h
		report, err = j.run(ctx, o)
		return err
	})
	return report, errors.Join(err, t.flush(ctx, s))
}

// retentionJob is one run.
type retentionJob struct {
	storage *storage.Storage
	times   *times
	state   func() *snapshot
	logger  *slog.Logger
	lock    func(repository string) (unlock func())
	seen    func(repository string, d digest.Digest) time.Time // see [gate.lastSeen]
	herald  herald                                             // of a run that is not dry
	dry     bool
	now     time.Time
	report  RetentionReport
}

func (j *retentionJob) run(ctx context.Context, o RetentionOptions) (RetentionReport, error) {
	j.dry, j.now = o.DryRun, o.Now
	if j.now.IsZero() {
		j.now = time.Now()
	}
	j.report = RetentionReport{DryRun: o.DryRun, Now: j.now.UTC(), Tags: []TagReport{}}
	at := j.state()
	for _, n := range o.Namespaces {
		if !at.policies[n].retained {
			return j.report, fmt.Errorf("namespace %s: %w: it has no retention rules", n, ErrMissing)
		}
	}
	var failed []error // of single repositories, which hold up no other
	for _, n := range sortedNames(at.policies) {
		if !at.policies[n].retained || len(o.Namespaces) > 0 && !slices.Contains(o.Namespaces, n) {
			continue
		}
		names, err := j.storage.Repositories(ctx, n)
		if err != nil {
			failed = append(failed, fmt.Errorf("listing the repositories of namespace %s: %w", n, err))
		}
		for _, name := range names {
			if !at.rules.Holds(n, name) {
				continue
			}
			if err := j.repository(ctx, n, name); err != nil {
				failed = append(failed, fmt.Errorf("repository %s: %w", name, err))
			}
			if err := ctx.Err(); err != nil {
				return j.report, errors.Join(append(failed, err)...)
			}
		}
	}
	return j.report, errors.Join(failed...)
}

// repository judges one repository and removes what goes.
func (j *retentionJob) repository(ctx context.Context, namespace, name string) error {
	var rows []TagReport
	failed := map[string]bool{}
	var p policy
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var found []TagReport
		var err error
		if p, found, more, err = j.batch(ctx, namespace, name, failed); err != nil {
			return err
		}
		for _, t := range found {
			if !more || !t.Kept {
				rows = append(rows, t)
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b TagReport) int { return strings.Compare(a.Tag, b.Tag) })
	stay := map[string]digest.Digest{}
	damaged := false
	for _, t := range rows {
		if t.Kept {
			j.report.Kept++
			damaged = damaged || t.Digest == ""
			stay[t.Tag] = t.Digest
			if j.report.Kept > maxKept {
				continue
			}
		} else {
			j.report.Gone++
		}
		j.report.Tags = append(j.report.Tags, t)
	}
	if !p.untagged || damaged { // what a damaged tag names cannot be told
		return nil
	}
	return j.untagged(ctx, name, stay)
}

// batch judges a repository by the rules of this moment and removes a number
// of the tags that go, while nobody pushes to it or deletes from it: each
// removal is right when it is made. It returns the tags that went and those
// that stay; more says that there are others to remove.
func (j *retentionJob) batch(ctx context.Context, namespace, name string, failed map[string]bool) (p policy, found []TagReport, more bool, err error) {
	if !j.dry {
		defer j.lock(name)()
	}
	at := j.state()
	if p = at.policies[namespace]; !p.retained || !at.rules.Holds(namespace, name) {
		return policy{}, nil, false, nil // changed while the run was under way
	}
	all, err := j.judge(ctx, namespace, name, p)
	if err != nil || j.dry {
		return p, all, false, err
	}
	var going []*TagReport
	for _, t := range all {
		switch {
		case t.Kept:
			found = append(found, t)
		case failed[t.Tag]: // it stands in the report already
		case len(going) == batchSize:
			more = true
		default:
			going = append(going, &t)
		}
	}
	j.remove(ctx, going)
	for _, t := range going {
		failed[t.Tag] = t.Error != ""
		found = append(found, *t)
	}
	return p, found, more, nil
}

// remove removes tags, and tells of it before anybody can put them anew.
func (j *retentionJob) remove(ctx context.Context, tags []*TagReport) {
	list := make([]removal, len(tags))
	for i, t := range tags {
		list[i] = removal{Repository: t.Repository, Reference: t.Tag}
	}
	j.together(ctx, list, func(i int) error {
		t := tags[i]
		if err := j.storage.RemoveTag(ctx, t.Repository, t.Tag); err != nil {
			t.Error = err.Error()
			j.logger.Error("retention could not remove a tag", "repository", t.Repository, "tag", t.Tag, "error", err)
			return err
		}
		j.times.removed(t.Repository, t.Tag)
		j.logger.Info("retention removed a tag", "repository", t.Repository, "tag", t.Tag, "digest", t.Digest, "why", t.Why)
		return nil
	})
}

// together announces what goes, has it removed one by one, and tells of it.
func (j *retentionJob) together(ctx context.Context, list []removal, remove func(i int) error) {
	if len(list) == 0 {
		return
	}
	j.herald.announce(JobRetention, list)
	for i := range list {
		if list[i].err = remove(i); list[i].err != nil {
			j.report.Failed++
		}
	}
	j.herald.removed(ctx, list)
}

func (j *retentionJob) judge(ctx context.Context, namespace, name string, p policy) ([]TagReport, error) {
	list, err := j.storage.Tags(ctx, name)
	if err != nil {
		return nil, err
	}
	var found, damaged []TagReport
	var stamps []*stamp
	rewritten := map[int]bool{}
	for _, tag := range list {
		row := TagReport{Namespace: namespace, Repository: name, Tag: tag}
		d, err := j.storage.Tag(ctx, name, tag)
		if errors.Is(err, storage.ErrDamaged) {
			row.Kept, row.Why = true, "it is damaged and names nothing; push it again"
			damaged = append(damaged, row)
			continue
		}
		if err != nil {
			return nil, err
		}
		linked, there, err := j.storage.TagMade(ctx, name, tag)
		if err != nil {
			return nil, err
		}
		if d == "" || !there {
			continue // deleted meanwhile
		}
		row.Digest = d
		s, again := j.times.of(name, tag, d, linked)
		rewritten[len(found)] = again
		found, stamps = append(found, row), append(stamps, &s)
	}
	settle(stamps, j.now)
	tags := make([]retention.Tag, len(found))
	for i, s := range stamps {
		tags[i] = retention.Tag{Name: found[i].Tag, Pushed: s.pushed, Pulled: s.pulled, Fixed: p.immutable(below(namespace, name), found[i].Tag)}
	}
	noted := slices.Clone(tags)
	for i, s := range stamps {
		by := s.by
		if rewritten[i] {
			tags[i].Pushed, by = s.linked, ""
		}
		found[i].Pushed, found[i].PushedBy, found[i].Pulled = tags[i].Pushed.UTC(), by, s.pulled.UTC()
	}
	byNotes := retention.Judge(p.keep, below(namespace, name), noted, j.now)
	for i, v := range retention.Judge(p.keep, below(namespace, name), tags, j.now) {
		// links of a copy are in no order, and those of lost pushes push nothing out
		if !v.Kept && byNotes[i].Kept {
			v = byNotes[i]
		}
		found[i].Kept, found[i].Why = v.Kept, v.Why
	}
	return append(found, damaged...), nil
}
