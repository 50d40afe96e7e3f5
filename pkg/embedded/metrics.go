package embedded

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ocisync/ocisync/pkg/embedded/storage"
)

const (
	metricsPath = "/metrics"
	// measured is how old the figure of the storage may be.
	measured = 5 * time.Minute
	// measuring is how long a scrape waits for a first figure.
	measuring = 2 * time.Second
)

// metrics is what the registry counts, in a registry of its own, so that
// several may run in one process. A feature adds its own collectors to
// registered.
type metrics struct {
	registered   *prometheus.Registry
	requests     *prometheus.CounterVec // method, class
	received     prometheus.Counter
	sent         prometheus.Counter
	pushes       *prometheus.CounterVec // namespace
	pulls        *prometheus.CounterVec // namespace
	limited      *prometheus.CounterVec // by
	auditErrors  prometheus.Counter
	handler      http.Handler
	storageBytes *storageSize // nil where no content is kept
}

// newMetrics counts; the storage may be nil.
func newMetrics(s *storage.Storage) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "ocisync", Name: name, Help: help})
	}
	vector := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "ocisync", Name: name, Help: help}, labels)
	}
	m := &metrics{
		registered:  prometheus.NewRegistry(),
		requests:    vector("requests_total", "Requests answered.", "method", "class"),
		received:    counter("received_bytes_total", "Bytes of bodies received."),
		sent:        counter("sent_bytes_total", "Bytes of bodies sent."),
		pushes:      vector("pushes_total", "Manifests pushed, by the namespace that decides for the repository.", "namespace"),
		pulls:       vector("pulls_total", "Manifests pulled, by the namespace that decides for the repository.", "namespace"),
		limited:     vector("limited_total", "Requests refused by a limit.", "by"),
		auditErrors: counter("audit_errors_total", "Lines of the audit log that could not be written."),
	}
	m.registered.MustRegister(m.requests, m.received, m.sent, m.pushes, m.pulls, m.limited, m.auditErrors,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if s != nil {
		m.storageBytes = newStorageSize(s)
		m.registered.MustRegister(m.storageBytes)
	}
	m.handler = promhttp.HandlerFor(m.registered, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: time.Minute})
	return m
}

// close ends a measurement that is under way.
func (m *metrics) close() error {
	if m.storageBytes == nil {
		return nil
	}
	return m.storageBytes.close()
}

// answered counts a request.
func (m *metrics) answered(method string, status int, received, sent int64) {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
	default:
		method = "other"
	}
	class := "other"
	if status >= 100 && status < 600 {
		class = strconv.Itoa(status/100) + "xx"
	}
	m.requests.WithLabelValues(method, class).Inc()
	m.received.Add(float64(received))
	m.sent.Add(float64(sent))
}

// serveMetrics answers admin users, and ocisync itself.
func (r *Registry) serveMetrics(w http.ResponseWriter, q *http.Request) {
	if r.admits(w, q) {
		r.metrics.handler.ServeHTTP(w, q)
	}
}

// storageSize measures blobs and unfinished uploads when it is asked, at most once in
// measured, and not while it is being scraped for longer than measuring.
type storageSize struct {
	storage *storage.Storage
	desc    *prometheus.Desc
	open    *prometheus.Desc
	ctx     context.Context //nolint:containedctx // ends with the registry
	end     context.CancelFunc
	work    sync.WaitGroup

	mu     sync.Mutex
	bytes  int64
	opened int64
	at     time.Time     // of the last figure; zero before the first
	closed chan struct{} // by the measurement under way; nil without one
}

func newStorageSize(s *storage.Storage) *storageSize {
	ctx, end := context.WithCancel(context.Background())
	return &storageSize{
		storage: s,
		desc:    prometheus.NewDesc("ocisync_storage_bytes", "Bytes of the blobs stored, up to five minutes ago.", nil, nil),
		open:    prometheus.NewDesc("ocisync_upload_bytes", "Bytes of uploads that are not finished, up to five minutes ago; not known of those in a bucket.", nil, nil),
		ctx:     ctx, end: end,
	}
}

// Describe implements [prometheus.Collector].
func (s *storageSize) Describe(to chan<- *prometheus.Desc) {
	to <- s.desc
	to <- s.open
}

// Collect implements [prometheus.Collector]. There is no figure before the
// first measurement is done.
func (s *storageSize) Collect(to chan<- prometheus.Metric) {
	if done := s.start(); done != nil {
		wait := time.NewTimer(measuring)
		defer wait.Stop()
		select {
		case <-done:
		case <-wait.C:
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.at.IsZero() {
		to <- prometheus.MustNewConstMetric(s.desc, prometheus.GaugeValue, float64(s.bytes))
		if !s.storage.InBucket() {
			to <- prometheus.MustNewConstMetric(s.open, prometheus.GaugeValue, float64(s.opened))
		}
	}
}

// start sees to it that a figure is new enough, or is being taken.
func (s *storageSize) start() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed != nil || s.ctx.Err() != nil || !s.at.IsZero() && time.Since(s.at) < measured {
		return s.closed
	}
	done := make(chan struct{})
	s.closed = done
	s.work.Go(func() {
		bytes, err := s.storage.BlobBytes(s.ctx)
		opened, bad := s.storage.UploadBytes(s.ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		if err == nil && bad == nil {
			s.bytes, s.opened, s.at = bytes, opened, time.Now()
		}
		s.closed = nil
		close(done)
	})
	return done
}

func (s *storageSize) close() error {
	s.mu.Lock()
	s.end()
	s.mu.Unlock()
	s.work.Wait()
	return nil
}
