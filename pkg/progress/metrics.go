package progress

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/ocisync/ocisync/pkg/content"
)

// The metrics, in a file as the textfile collector of Prometheus's node exporter reads.
const (
	tagsMetric     = "ocisync_content_tags_total"
	blobsMetric    = "ocisync_content_blobs_total"
	bytesMetric    = "ocisync_content_bytes_total"
	requestsMetric = "ocisync_content_requests_total"
	secondsMetric  = "ocisync_content_seconds"
	lastMetric     = "ocisync_content_last_end_timestamp_seconds"
	successMetric  = "ocisync_content_last_success"
)

// metrics are those of a watch. Those of the last end are the former run's until this
// one ends, so that who is alarmed by them is not alarmed by a run.
type metrics struct {
	file string
	of   *Watch
	all  *prometheus.Registry

	tags, blobs, bytes, requests, seconds, last, success *prometheus.Desc

	known bool // whether there was an end
	at    float64
	ok    float64
}

// newMetrics makes them. They have the file's name as a label, since the collector
// refuses two files with the same series.
func newMetrics(file string, of *Watch) *metrics {
	run := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, prometheus.Labels{"command": of.o.What, "run": run})
	}
	m := &metrics{
		file: file, of: of, all: prometheus.NewRegistry(),
		tags:     desc(tagsMetric, "Tags that the run is through with.", "outcome"),
		blobs:    desc(blobsMetric, "Blobs sent, or mounted from another repository of the target.", "how"),
		bytes:    desc(bytesMetric, "Bytes of blobs sent."),
		requests: desc(requestsMetric, "Requests to the registries, by the status of their answers.", "side", "code"),
		seconds:  desc(secondsMetric, "How long the run has taken."),
		last:     desc(lastMetric, "When the last run ended."),
		success:  desc(successMetric, "Whether the last run that ended did all that it should."),
	}
	m.former()
	m.all.MustRegister(m)
	return m
}

// former reads how the last run ended, from its file.
func (m *metrics) former() {
	f, err := os.Open(m.file)
	if err != nil {
		return // it is the first
	}
	defer f.Close()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	all, err := parser.TextToMetricFamilies(f)
	if err != nil || len(all[lastMetric].GetMetric()) != 1 || len(all[successMetric].GetMetric()) != 1 {
		return
	}
	m.known = true
	m.at, m.ok = all[lastMetric].GetMetric()[0].GetGauge().GetValue(), all[successMetric].GetMetric()[0].GetGauge().GetValue()
}

func (m *metrics) ended(at time.Time, ok bool) {
	m.known, m.at, m.ok = true, float64(at.UnixMilli())/1000, 0
	if ok {
		m.ok = 1
	}
}

// write writes the file, all of it or nothing.
func (m *metrics) write() error {
	if info, err := os.Stat(m.file); err == nil && !info.Mode().IsRegular() {
		return &fs.PathError{Op: "write", Path: m.file, Err: errors.New("it is no file")}
	}
	return prometheus.WriteToTextfile(m.file, m.all)
}

// Describe implements [prometheus.Collector].
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.tags, m.blobs, m.bytes, m.requests, m.seconds, m.last, m.success} {
		to <- d
	}
}

// Collect implements [prometheus.Collector].
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, n, labels...)
	}
	gauge := func(d *prometheus.Desc, n float64) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n)
	}
	s := m.of.Content.Standing()
	counter(m.tags, float64(s.Copied), string(content.Copied))
	counter(m.tags, float64(s.Same), string(content.Same))
	counter(m.tags, float64(s.Failed), string(content.Failed))
	counter(m.blobs, float64(s.Blobs), sent)
	counter(m.blobs, float64(s.Mounted), mounted)
	counter(m.bytes, float64(s.Bytes))
	for side, name := range map[int]string{content.SourceSide: "source", content.TargetSide: "target"} {
		for code, n := range m.of.Content.Requests(side) {
			text := strconv.Itoa(code)
			if code == 0 {
				text = "none"
			}
			counter(m.requests, float64(n), name, text)
		}
	}
	gauge(m.seconds, time.Since(m.of.began).Seconds())
	if m.known {
		gauge(m.last, m.at)
		gauge(m.success, m.ok)
	}
}
