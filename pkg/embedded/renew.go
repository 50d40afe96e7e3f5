package embedded

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ocisync/ocisync/pkg/webhook"
	"github.com/ocisync/ocisync/schema"
)

// maxRenewBackoff is how long a secret that could not be delivered waits at most
// until that is tried again.
const maxRenewBackoff = 10 * time.Minute

// renew has the robots renewed until the context is done. After a failure it
// asks again soon, and then ever later; other requests do not wait for it.
func (r *Registry) renew(ctx context.Context) {
	if r.options.Renew == nil {
		return
	}
	failures := 0
	for ctx.Err() == nil {
		again, err := r.options.Renew(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			failures++
			again = min(again, webhook.Backoff(failures, maxRenewBackoff))
			r.robots.errors.Inc()
			r.logger.Error("renewing robots failed; the former secrets stay in force until they expire",
				"error", err, "failures", failures, "again", again.Round(time.Second))
		} else {
			failures = 0
		}
		wait := time.NewTimer(again)
		select {
		case <-ctx.Done():
		case <-wait.C:
		}
		wait.Stop()
	}
}

// robotMetrics tells of the accounts of robots by the state in force, whoever
// renews them.
type robotMetrics struct {
	state   func() *snapshot
	expires *prometheus.Desc
	waiting *prometheus.Desc
	errors  prometheus.Counter // rounds of renewing robots
}

func newRobotMetrics(state func() *snapshot, all *metrics) *robotMetrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("ocisync_robot_"+name, help, []string{"robot"}, nil)
	}
	m := &robotMetrics{
		state:   state,
		expires: desc("expires_timestamp_seconds", "When the robot's newest delivered account expires, in seconds since 1970."),
		waiting: desc("undelivered", "1 while a secret was made for the robot and is not known to have been delivered."),
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ocisync_robot_renewal_errors_total", Help: "Times that robots were due and not all could be renewed.",
		}),
	}
	all.registered.MustRegister(m, m.errors)
	return m
}

// Describe implements [prometheus.Collector].
func (m *robotMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- m.expires
	to <- m.waiting
}

// Collect implements [prometheus.Collector].
func (m *robotMetrics) Collect(to chan<- prometheus.Metric) {
	doc := m.state().doc
	for _, o := range doc.Objects {
		spec, ok := o.Spec.(*schema.Robot)
		if !ok {
			continue
		}
		waiting := 0.0
		for _, a := range doc.Robots[o.Key.String()] {
			end := a.Expires(spec)
			switch {
			case !a.Delivered:
				waiting = 1
			case a.Ends.IsZero() && !end.IsZero():
				to <- prometheus.MustNewConstMetric(m.expires, prometheus.GaugeValue, float64(end.Unix()), o.Key.Name)
			}
		}
		to <- prometheus.MustNewConstMetric(m.waiting, prometheus.GaugeValue, waiting, o.Key.Name)
	}
}
