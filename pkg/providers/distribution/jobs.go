package distribution

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/oci"
	"github.com/ocisync/ocisync/pkg/regular"
)

// The jobs.
const (
	jobGC        = "gc"
	jobQuota     = "quota"
	jobRetention = "retention"
)

// startWait is how long a job that is due waits for a registry that starts.
const startWait = 2 * time.Minute

// Jobs implements [providers.Runner].
func (p *Provider) Jobs() []string { return []string{jobGC, jobQuota, jobRetention} }

// Run implements [providers.Runner].
func (p *Provider) Run(ctx context.Context, job string, dry bool) (providers.JobReport, error) {
	return p.run(ctx, job, nil, dry)
}

// run does a job, retention in some namespaces or, for nil, in all.
func (p *Provider) run(ctx context.Context, job string, namespaces []string, dry bool) (_ providers.JobReport, err error) {
	report := providers.JobReport{Job: job, DryRun: dry}
	if err := p.hereFor(ctx, job); err != nil {
		return report, err
	}
	if !dry && p.place.Data != "" {
		release, err := p.alone(ctx)
		if err != nil {
			return report, p.jobError(job, err, "run it again when that has ended")
		}
		defer release()
		if err := p.resume(ctx); err != nil {
			return report, p.jobError(job, err, "start it with `ocisync up`")
		}
	}
	switch job {
	case jobGC:
		report.Collected, err = p.collect(ctx, dry)
	case jobQuota:
		report.Measured, err = p.enforce(ctx, dry)
	case jobRetention:
		report.Retained, err = p.retain(ctx, namespaces, dry, nil)
	default:
		err = fmt.Errorf("%s: job %s: %w; there is %s", p.registry.URL, job, providers.ErrUnsupported, strings.Join(p.Jobs(), ", "))
	}
	return report, err
}

// hereFor says that a job needs the registry's files, which are not on this host: by
// them it knows, of retention, what the rules are and when a tag was pushed.
func (p *Provider) hereFor(ctx context.Context, job string) error {
	switch {
	case !slices.Contains(p.Jobs(), job):
		return nil
	case p.registry.Run == nil && (job != jobRetention || p.place.Config == ""): // what they are is the job's to say
		return nil
	}
	switch where, err := p.Where(ctx); {
	case err != nil:
		return err
	case where == providers.Away:
		return p.jobError(job, fmt.Errorf("it runs on another host, and its files are there: %w", providers.ErrUnsupported), "run `ocisync run "+job+"` there")
	case where == providers.Nowhere:
		return p.jobError(job, fmt.Errorf("it does not answer, and its files are not on this host: %w", providers.ErrUnsupported), p.startIt()+", or run `ocisync run "+job+"` on its host")
	}
	return nil
}

func (p *Provider) jobError(job string, err error, remedy string) error {
	return &providers.Error{Registry: p.registry.URL, Doing: "running " + job, Err: err, Remedy: remedy}
}

// scheduled does a job that is due, of a registry that is up: one that is just
// being started could else begin to take pushes in the middle of a collection.
func (p *Provider) scheduled(ctx context.Context, job string, namespaces []string) error {
	rt, err := p.connection()
	if err != nil {
		return err
	}
	waiting, end := context.WithTimeout(ctx, startWait)
	defer end()
	for {
		_, err := oci.Ping(waiting, p.registry.URL, rt)
		if err == nil || errors.Is(err, providers.ErrUnauthorized) || errors.Is(err, providers.ErrForbidden) {
			break
		}
		select {
		case <-waiting.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return p.jobError(job, err, p.startIt())
		case <-time.After(time.Second):
		}
	}
	report, err := p.run(ctx, job, namespaces, false)
	if c := report.Collected; c != nil && err == nil {
		p.logger.Info("collected", "blobs", c.Blobs, "bytes", c.Bytes, "manifests", c.Manifests, "tags", c.Tags)
	}
	return err
}

// alone keeps other jobs, and changes of config.yml, away from the registry: a
// restart in the middle of a collection would let pushes in. It waits for who is
// there until the context is done.
func (p *Provider) alone(ctx context.Context) (release func(), err error) {
	for {
		free, release, err := p.tryAlone()
		if err != nil || free {
			return release, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for another job or apply at it: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// tryAlone is alone that does not wait.
func (p *Provider) tryAlone() (free bool, release func(), err error) {
	if err := p.private(); err != nil {
		return false, nil, err
	}
	if err := os.MkdirAll(filepath.Dir(p.former()), 0o700); err != nil {
		return false, nil, err
	}
	job, collector := p.lock("job.lock"), p.lock("collect.lock")
	if free, err = job.TryLock(); err != nil || !free {
		return false, nil, err
	}
	release = func() {
		if err := job.Close(); err != nil {
			p.logger.Warn("giving the registry back", "error", err)
		}
	}
	// who started it may have been killed
	free, err = collector.TryLock()
	if err = errors.Join(err, collector.Close()); err != nil || !free {
		release()
		return false, nil, err
	}
	return true, release, nil
}

func (p *Provider) lock(name string) *flock.Flock {
	return regular.Lock(p.lockFile(name))
}

func (p *Provider) lockFile(name string) string {
	return filepath.Join(filepath.Dir(p.former()), name)
}

// mend has a registry that is about to start take pushes where a collection that
// was killed left it read-only. One that goes on holds the lock, and its registry
// starts as it is.
func (p *Provider) mend() error {
	free, release, err := p.tryAlone()
	if err != nil || !free {
		return err
	}
	defer release()
	return p.open()
}

// open has the configuration let the registry take pushes.
func (p *Provider) open() error {
	now, err := p.file()
	if err != nil || !readsOnly(now.doc) {
		return err
	}
	if err := now.doc.set(readOnly, "false"); err != nil {
		return p.configError("starting the registry", err)
	}
	b, err := now.doc.bytes()
	if err == nil {
		err = replaceConfig(p.place.Config, b)
	}
	if err != nil {
		return p.configError("starting the registry", err)
	}
	return nil
}

func readsOnly(d *document) bool {
	n := d.get(readOnly)
	return n != nil && n.Value == "true"
}

// resume starts a container again that somebody stopped to start it with other
// settings, and was killed in between: of that, what it ran with before is left. A
// process has its supervisor for that. The caller is alone at the registry.
func (p *Provider) resume(ctx context.Context) error {
	if !p.contained() || p.process == nil {
		return nil
	}
	if _, err := os.Stat(p.former()); errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was begun
	} else if err != nil {
		return p.configError("starting the registry", err)
	}
	_, running, err := p.running(ctx)
	if err != nil || running {
		return err
	}
	p.logger.Warn("who stopped the registry to start it again is gone: it is started")
	if err := p.open(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	switch err := p.process.Start(ctx); {
	case err == nil:
		return p.forget()
	case errors.Is(err, providers.ErrDown):
		return nil
	default:
		return p.putBack(ctx, err)
	}
}

// unscheduled says why jobs are not done by time here.
func (p *Provider) unscheduled() string {
	if p.byFile() {
		return "jobs by time are ocisync's token service's, and this registry has none; run `ocisync run` by a timer of the system"
	}
	if p.place.Data == "" {
		return "jobs by time are ocisync's token service's, which is elsewhere; write the rule where it runs"
	}
	return ""
}
