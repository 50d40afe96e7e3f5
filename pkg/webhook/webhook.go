// Package webhook tells other services what happens in a registry: each at its
// own pace and in order, again and again until it accepts. What waits lies on
// disk, and no client of the registry waits for it.
//
// Start with [New]: an [Engine] is told each [Event], and queues it for the
// webhooks that want it. A registry that is a program of its own posts its events
// to a [Receiver].
package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ocisync/ocisync/schema"
)

// The headers of a delivery. A receiver that got one already knows it by its
// identifier. The signature is "sha256=" and the HMAC-SHA256, in hexadecimal,
// of the body with the webhook's auth as the key. It is there, and the
// Authorization header is not, of a webhook that signs, and wherever the value of
// auth would be sent in the clear to another host. Else that is the
// Authorization header and signs nothing: who knows a header that was sent could
// sign what was not.
const (
	DeliveryHeader  = "X-Ocisync-Delivery"
	SignatureHeader = "X-Ocisync-Signature-256"
)

const (
	deliveryTimeout = 15 * time.Second
	maxBackoff      = 5 * time.Minute
)

// Hook is a webhook as it is in force.
type Hook struct {
	Name   string // NAMESPACE/WEBHOOK
	Spec   *schema.Webhook
	Secret string // "" without auth
}

// Options say what an engine works with.
type Options struct {
	Queue  *Queue
	Logger *slog.Logger
	// Hooks are a namespace's in force now.
	Hooks func(namespace string) []Hook
	// URL is the registry's.
	URL func() string
}

// Engine delivers events to webhooks. Safe for concurrent use.
type Engine struct {
	// Backoff is the pause after so many failures in a row. It is not to be set
	// once the engine was started.
	Backoff func(failures int) time.Duration

	logger  *slog.Logger
	hooks   func(namespace string) []Hook
	base    func() string // the registry's URL
	queue   *Queue
	checked *http.Client
	trusted *http.Client // for receivers whose certificate goes unchecked

	delivered, failed, dropped prometheus.Counter

	drops   drops
	mu      sync.Mutex
	ctx     context.Context          //nolint:containedctx // of the time between start and stop; nil outside it
	workers map[string]chan struct{} // by webhook; a signal cuts a pause short
	running sync.WaitGroup
}

// New makes an engine that delivers nothing before it is started.
func New(o Options) *Engine {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "ocisync", Subsystem: "webhook", Name: name, Help: help})
	}
	return &Engine{
		logger: o.Logger, hooks: o.Hooks, base: o.URL, queue: o.Queue, Backoff: func(failures int) time.Duration { return Backoff(failures, maxBackoff) },
		checked: hookClient(false), trusted: hookClient(true),
		delivered: counter("delivered_total", "Deliveries that webhooks accepted."),
		failed:    counter("failed_total", "Attempts at a delivery that failed."),
		dropped:   counter("dropped_total", "Deliveries given up because a webhook had too many waiting."),
		workers:   map[string]chan struct{}{},
	}
}

// Waiting lists the webhooks with deliveries that wait, and their number.
func (h *Engine) Waiting() map[string]int { return h.queue.Waiting() }

// Count adds what is counted of webhooks to the metrics.
func (h *Engine) Count(m prometheus.Registerer) {
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "ocisync", Subsystem: "webhook", Name: "queue", Help: "Deliveries waiting, of all webhooks.",
	}, func() float64 {
		n := 0
		for _, more := range h.queue.Waiting() {
			n += more
		}
		return float64(n)
	})
	m.MustRegister(h.delivered, h.failed, h.dropped, waiting)
}

func hookClient(insecure bool) *http.Client {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: 10 * time.Second,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConnsPerHost:   1,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure}, //nolint:gosec // where the mode says so
	}
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// Backoff doubles from a second to a limit, give or take a fifth.
func Backoff(failures int, limit time.Duration) time.Duration {
	d := min(limit, time.Second<<min(failures-1, 20))
	fifth := int64(d / 5)
	n, err := rand.Int(rand.Reader, big.NewInt(2*fifth))
	if err != nil {
		return d
	}
	return d + time.Duration(n.Int64()-fifth)
}

// Start begins to deliver what is waiting, until stop.
func (h *Engine) Start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	h.mu.Lock()
	h.ctx = ctx
	h.mu.Unlock()
	h.Refresh()
	return func() {
		h.mu.Lock()
		h.ctx = nil
		h.mu.Unlock()
		cancel()
		h.running.Wait()
		h.checked.CloseIdleConnections()
		h.trusted.CloseIdleConnections()
	}
}

// Tell queues events, in order, for the webhooks that want them: all at the cost of
// one. An error says that a webhook is not told; it was logged.
func (h *Engine) Tell(events ...Event) error {
	list := h.deliveries(events)
	err := h.enqueue(list)
	if err != nil {
		h.dropped.Add(float64(len(list)))
		h.logger.Error("webhook deliveries are lost: they cannot be queued", "webhooks", hooksOf(list), "deliveries", len(list), "error", err)
	}
	return err
}

// Untold is an event of somebody who keeps it until all its webhooks are told.
type Untold struct {
	Event Event
	Told  []string // webhooks, by name
	Left  bool     // some are still to be told
}

// TellOrKeep queues, in order, what there is room for without dropping anything, at
// the cost of one. An error says that none of it could be queued; nothing is lost then.
func (h *Engine) TellOrKeep(events []*Untold) error {
	var list []delivery
	var of []*Untold
	room := map[string]int{}
	for _, u := range events {
		u.Left = false
		for _, d := range h.deliveries([]Event{u.Event}) {
			if slices.Contains(u.Told, d.Hook) {
				continue
			}
			if _, known := room[d.Hook]; !known {
				room[d.Hook] = h.queue.room(d.Hook)
			}
			if u.Left = u.Left || room[d.Hook] <= 0; room[d.Hook] > 0 {
				room[d.Hook]--
				list, of = append(list, d), append(of, u)
			}
		}
	}
	if err := h.enqueue(list); err != nil {
		for _, u := range of {
			u.Left = true
		}
		return err
	}
	for i, u := range of {
		u.Told = append(u.Told, list[i].Hook)
	}
	return nil
}

// deliveries are of events what each webhook that wants them is to be sent.
func (h *Engine) deliveries(events []Event) (list []delivery) {
	for _, e := range events {
		for _, w := range h.hooks(e.Namespace) {
			if !wants(w.Spec, e) {
				continue
			}
			contentType, body, err := e.encode(w.Spec, h.base())
			if err != nil {
				h.logger.Error("an event cannot be written for a webhook", "webhook", w.Name, "error", err)
				continue
			}
			list = append(list, delivery{Hook: w.Name, ID: rand.Text(), Type: contentType, Body: body})
		}
	}
	return list
}

func hooksOf(list []delivery) (names []string) {
	for _, d := range list {
		names = append(names, d.Hook)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (h *Engine) enqueue(list []delivery) error {
	if len(list) == 0 {
		return nil
	}
	dropped, err := h.queue.add(list...)
	if err != nil {
		return err
	}
	for name, n := range dropped {
		h.dropped.Add(float64(n))
		if n := h.drops.add(name, n, time.Now()); n > 0 {
			h.logger.Warn("a webhook has too many deliveries waiting; the oldest are dropped", "webhook", name, "limit", h.queue.limit, "dropped", n)
		}
	}
	for _, name := range hooksOf(list) {
		h.wake(name, false)
	}
	return nil
}

// drops counts the deliveries that were dropped and that nobody was told of yet.
type drops struct {
	mu    sync.Mutex
	hooks map[string]*dropped
}

type dropped struct {
	n    int
	told time.Time
}

// add counts, and returns how many to tell of now: of a webhook that loses one
// delivery after the other once in ten minutes.
func (d *drops) add(hook string, n int, now time.Time) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hooks == nil {
		d.hooks = map[string]*dropped{}
	}
	h := d.hooks[hook]
	if h == nil {
		h = &dropped{}
		d.hooks[hook] = h
	}
	h.n += n
	if now.Sub(h.told) < 10*time.Minute {
		return 0
	}
	n, h.n, h.told = h.n, 0, now
	return n
}

// Working is how many webhooks are being told of what waits for them.
func (h *Engine) Working() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.workers)
}

// Refresh takes changed webhooks into account at once.
func (h *Engine) Refresh() {
	for name := range h.queue.Waiting() {
		h.wake(name, true)
	}
}

// wake sees to it that a webhook has a worker; at once ends its pause.
func (h *Engine) wake(name string, atOnce bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx == nil {
		return
	}
	signal, ok := h.workers[name]
	if !ok {
		signal = make(chan struct{}, 1)
		h.workers[name] = signal
		ctx := h.ctx
		h.running.Go(func() { h.work(ctx, name, signal) })
	} else if atOnce {
		select {
		case signal <- struct{}{}:
		default:
		}
	}
}

// work delivers until nothing is left, the webhook is disabled, or the context
// is done.
func (h *Engine) work(ctx context.Context, name string, signal <-chan struct{}) {
	failures := 0
	for {
		w, ok := h.hook(name)
		if !ok {
			h.queue.clear(name)
		}
		enabled := ok && (w.Spec.Enabled == nil || *w.Spec.Enabled)
		d, more := h.queue.first(name)
		if !more || !enabled || ctx.Err() != nil {
			if h.leave(ctx, name, !enabled) {
				return
			}
			continue
		}
		err := h.send(ctx, w, d)
		if err == nil {
			h.queue.done(name, d.ID)
			h.delivered.Inc()
			failures = 0
			continue
		}
		if ctx.Err() != nil {
			continue
		}
		failures++
		h.failed.Inc()
		pause := h.Backoff(failures)
		if failures == 1 || pause >= time.Minute {
			h.logger.Warn("a webhook does not accept a delivery", "webhook", name, "error", err, "failures", failures, "again", pause.Round(time.Second))
		}
		wait := time.NewTimer(pause)
		select {
		case <-wait.C:
		case <-signal:
			failures = 0
		case <-ctx.Done():
		}
		wait.Stop()
	}
}

// leave ends a worker, unless something came in between that no other would
// look after.
func (h *Engine) leave(ctx context.Context, name string, idle bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.workers[name]:
		if ctx.Err() == nil {
			return false
		}
	default:
	}
	if ctx.Err() == nil && !idle && h.queue.Waiting()[name] > 0 {
		return false
	}
	delete(h.workers, name)
	return true
}

// send makes one attempt. Any answer but 2xx is a failure; redirects are not
// followed, wherever they lead.
func (h *Engine) send(ctx context.Context, w Hook, d delivery) error {
	ctx, cancel := context.WithTimeout(ctx, deliveryTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, value(w.Spec.URL), strings.NewReader(d.Body))
	if err != nil {
		return errors.New("url is not the address of a web server")
	}
	req.Header.Set("Content-Type", d.Type)
	req.Header.Set("User-Agent", "ocisync")
	req.Header.Set(DeliveryHeader, d.ID)
	if w.Secret != "" {
		shown := req.URL.Scheme == "https" || local(req.URL.Hostname())
		if value(w.Spec.Sign) || !shown {
			m := hmac.New(sha256.New, []byte(w.Secret))
			io.WriteString(m, d.Body) //nolint:errcheck // a hash takes everything
			req.Header.Set(SignatureHeader, "sha256="+hex.EncodeToString(m.Sum(nil)))
		} else {
			req.Header.Set("Authorization", w.Secret)
		}
	}
	client := h.checked
	if value(w.Spec.Insecure) {
		client = h.trusted
	}
	resp, err := client.Do(req)
	if inner := (*url.Error)(nil); errors.As(err, &inner) {
		err = inner.Err // without the address, which may hold a token
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.CopyN(io.Discard, resp.Body, 64<<10); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if resp.StatusCode/100 == 3 {
		return fmt.Errorf("it answers %d, and redirects are not followed; write the address it moved to", resp.StatusCode)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("it answers %d", resp.StatusCode)
	}
	return nil
}

func local(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// hook finds a webhook by its name.
func (h *Engine) hook(name string) (Hook, bool) {
	ns, _ := schema.Key{Kind: schema.KindWebhook, Name: name}.Namespace()
	for _, w := range h.hooks(ns.Name) {
		if w.Name == name {
			return w, true
		}
	}
	return Hook{}, false
}
