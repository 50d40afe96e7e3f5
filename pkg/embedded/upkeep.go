package embedded

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// counting is how long a scrape may take to count a namespace that nobody
// asked about before.
const counting = 2 * time.Second

// upkeep is what is counted of policies: what jobs did, and how much of each
// quota is used.
type upkeep struct {
	registry    *Registry
	runs        *prometheus.CounterVec // job, result
	last        *prometheus.GaugeVec   // job
	removed     *prometheus.CounterVec // job, what
	freed       prometheus.Counter
	used, limit *prometheus.Desc
	waiting     *prometheus.Desc
}

func newUpkeep(r *Registry) *upkeep {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("ocisync_quota_"+name, help, []string{"namespace"}, nil)
	}
	u := &upkeep{
		registry: r,
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ocisync_job_runs_total", Help: "Runs of collection (gc) and retention, dry ones not counted.",
		}, []string{"job", "result"}),
		last: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ocisync_job_success_timestamp_seconds", Help: "When a run last ended well, in seconds since 1970.",
		}, []string{"job"}),
		removed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ocisync_job_removed_total", Help: "What jobs removed: tags, manifests, blobs and uploads.",
		}, []string{"job", "what"}),
		freed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ocisync_gc_removed_bytes_total", Help: "Bytes of the blobs and uploads that collection removed.",
		}),
		used:  desc("used_bytes", "Bytes of the namespace's manifests and of the blobs they name, each once."),
		limit: desc("limit_bytes", "Bytes that the namespace may use."),

		waiting: desc("waiting_bytes", "Bytes that no manifest of the namespace names, yet or any more, and of unfinished uploads."),
	}
	r.metrics.registered.MustRegister(u, u.runs, u.last, u.removed, u.freed)
	return u
}

// Describe implements [prometheus.Collector].
func (u *upkeep) Describe(to chan<- *prometheus.Desc) {
	to <- u.used
	to <- u.limit
	to <- u.waiting
}

// Collect implements [prometheus.Collector]. A namespace that could not be
// counted in time has no figure.
func (u *upkeep) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), counting)
	defer cancel()
	now := u.registry.store.now()
	release := u.registry.gate.steady()
	defer release()
	for _, name := range sortedNames(now.policies) {
		p := now.policies[name]
		if !p.limited {
			continue
		}
		to <- prometheus.MustNewConstMetric(u.limit, prometheus.GaugeValue, float64(p.limit), name)
		count, err := u.registry.guard.ledgers.Count(ctx, now.view(), name, true)
		if err == nil {
			to <- prometheus.MustNewConstMetric(u.used, prometheus.GaugeValue, float64(count.Used), name)
			to <- prometheus.MustNewConstMetric(u.waiting, prometheus.GaugeValue, float64(count.Waiting+count.Uploading), name)
		}
	}
}

// ran counts a run that was not dry.
func (u *upkeep) ran(job string, err error) {
	if err != nil {
		u.runs.WithLabelValues(job, "failed").Inc()
		return
	}
	u.runs.WithLabelValues(job, "ok").Inc()
	u.last.WithLabelValues(job).SetToCurrentTime()
}

func (u *upkeep) collected(c Collected, err error) {
	if c.DryRun {
		return
	}
	u.ran(JobGC, err)
	u.freed.Add(float64(c.Bytes))
	u.count(JobGC, "tags", c.Tags)
	u.count(JobGC, "manifests", c.Manifests)
	u.count(JobGC, "blobs", c.Blobs)
	u.count(JobGC, "uploads", c.Uploads)
}

func (u *upkeep) retained(r RetentionReport, err error) {
	if r.DryRun {
		return
	}
	if err == nil {
		err = r.failure()
	}
	u.ran(JobRetention, err)
	u.count(JobRetention, "tags", max(0, r.Gone-r.Failed))
	u.count(JobRetention, "manifests", len(r.Untagged))
}

func (u *upkeep) count(job, what string, n int) {
	u.removed.WithLabelValues(job, what).Add(float64(n))
}
