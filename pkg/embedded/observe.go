package embedded

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// stall is how long a client may take for a part of an answer; how long the
	// whole takes is up to it.
	stall = 5 * time.Minute
	// part is how much of an answer, in bytes, counts as taken by the client
	// each time.
	part = 1 << 20
	// unwanted is for how long the rest of a body is waited for that nobody
	// wants: some clients read an answer only after they have sent all.
	unwanted = 2 * time.Second
)

// record is what is noted of one request while it is answered.
type record struct {
	target  target
	who     identity
	claimed string        // of a login that was refused: an account that exists, or "unknown"
	limited *limitedError // nil while within the limits
	objects []AuditLine   // objects that were changed, with key, action and result
	state   *snapshot     // in force when the request came

	status         int
	received, sent int64
	// unread is why the body could not be read to its end: it is malformed, or the
	// client or the connection has gone.
	unread error
}

type recordKey struct{}

// recordOf is nil for requests that do not come through [Registry.ServeHTTP].
func recordOf(q *http.Request) *record {
	rec, _ := q.Context().Value(recordKey{}).(*record)
	return rec
}

// ServeHTTP serves /v2/ or tokens, /healthz, /metrics and, to admin users, the
// admin API. What goes through is limited, counted and recorded here.
func (r *Registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	rec := &record{target: targetOf(q.URL.Path), state: r.store.now()}
	q = q.WithContext(context.WithValue(q.Context(), recordKey{}, rec))
	out := &observed{ResponseWriter: w, record: rec, control: http.NewResponseController(w), crowded: crowdedOf(q)}
	if q.Body != nil && q.Body != http.NoBody {
		out.body = &countedBody{ReadCloser: q.Body, record: rec, control: out.control, slowest: r.slowest, now: time.Now}
		out.closes = q.ProtoMajor == 1
		q.Body = out.body
	}
	// parameters are those of the URL: else asking for one, as Distribution
	// does before it asks whether the client may, would read the body
	q.Form, q.PostForm = q.URL.Query(), url.Values{}
	done := false
	r.conns.requests.Add(1)
	defer func() {
		r.conns.requests.Add(-1)
		if !done { // the handler panicked; the server cuts the connection
			rec.status = http.StatusInternalServerError
		}
		r.finish(rec, q, out.Header())
	}()
	if err := r.admit(q); err != nil {
		login(out, err, errAskPassword)
	} else {
		r.route(out, q, rec.target)
	}
	out.begin()
	done = true
}

// admit holds an address to its limit.
func (r *Registry) admit(q *http.Request) error {
	if q.Context().Value(selfKey{}) != nil || recordOf(q).target.of == "health" {
		return nil
	}
	if crowdedOf(q) || r.conns.busy() {
		err := &limitedError{wait: time.Second}
		r.limit(q, "connections", err)
		return err
	}
	err := r.addresses.take(clientOf(q))
	r.limit(q, "address", err)
	return err
}

// limit notes a refusal by a limit.
func (r *Registry) limit(q *http.Request, by string, err error) {
	if e := (*limitedError)(nil); errors.As(err, &e) {
		r.metrics.limited.WithLabelValues(by).Inc()
		if rec := recordOf(q); rec != nil {
			rec.limited = e
		}
	}
}

// finish notes a request that was answered. The answer to one that writes is
// still in the server's hands, so that what is noted here is noted before the
// client can know.
func (r *Registry) finish(rec *record, q *http.Request, answer http.Header) {
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	r.metrics.answered(q.Method, rec.status, rec.received, rec.sent)
	if rec.target.of == "manifest" {
		namespace := func() string { return rec.state.rules.Namespace(rec.target.repository) }
		switch {
		case q.Method == http.MethodPut && rec.status == http.StatusCreated:
			r.metrics.pushes.WithLabelValues(namespace()).Inc()
		case q.Method == http.MethodGet && rec.status == http.StatusOK:
			r.metrics.pulls.WithLabelValues(namespace()).Inc()
		}
	}
	if len(rec.state.hooks) > 0 {
		if e, ok := eventOf(rec, q, answer, r.url()); ok {
			r.hooks.Tell(e) //nolint:errcheck // it was logged, and the client's request was answered
		}
	}
	lines, now := rec.lines(q, r.audit.now()), r.store.now().audit
	if len(lines) == 1 && rec.idle(lines[0]) {
		r.audit.fold(now, lines[0])
		return
	}
	r.audit.record(lines, len(rec.objects) > 0, rec.state.audit, now)
}

// reference is what a request is about: of the end of an upload, and of a mount, the
// blob that the client names.
func (rec *record) reference(q *http.Request) string {
	if rec.target.of != "upload" {
		return rec.target.reference
	}
	v := q.URL.Query()
	return cmp.Or(v.Get("digest"), v.Get("mount"))
}

// lines are the audit log's of a request; none of one that only reads and is
// not refused.
func (rec *record) lines(q *http.Request, now time.Time) []AuditLine {
	refused := rec.status == http.StatusUnauthorized || rec.status == http.StatusForbidden || rec.status == http.StatusTooManyRequests
	writes := q.Method != http.MethodGet && q.Method != http.MethodHead && rec.target.repository != ""
	switch {
	case !refused && !writes && len(rec.objects) == 0:
		return nil
	case rec.status == http.StatusUnauthorized && q.Header.Get("Authorization") == "" && rec.claimed == "" && rec.target.repository == "":
		return nil // how every client learns that it must log in
	}
	line := AuditLine{
		Time: now.UTC().Round(time.Millisecond), Account: rec.account(), Address: "local",
		Action: rec.target.action(q.Method), Repository: clip(rec.target.repository), Reference: clip(rec.reference(q)),
		Method: clip(q.Method), Status: rec.status, Result: "ok",
	}
	if q.Context().Value(selfKey{}) == nil {
		line.Address = q.RemoteAddr
	}
	switch {
	case refused:
		line.Result = "refused"
	case rec.status >= http.StatusBadRequest:
		line.Result = "failed"
	}
	return rec.expand(line)
}

// deeds are the lines of what ocisync does to a registry that nobody serves:
// those that it would have by the admin socket.
func (rec *record) deeds(now time.Time) []AuditLine {
	return rec.expand(AuditLine{
		Time: now.UTC().Round(time.Millisecond), Account: rec.account(), Address: "local",
		Method: http.MethodPost, Status: rec.status, Result: "ok",
	})
}

// expand makes of a request's line one for each object that it changed, if any.
func (rec *record) expand(line AuditLine) []AuditLine {
	if len(rec.objects) == 0 {
		return []AuditLine{line}
	}
	lines := make([]AuditLine, len(rec.objects))
	for i, o := range rec.objects {
		lines[i] = line
		lines[i].Action, lines[i].Reference, lines[i].Result = o.Action, clip(o.Reference), o.Result
	}
	return lines
}

// idle reports whether a line is of a request that did nothing and that its
// client may send as often as it likes: of a stranger, or beyond a limit.
func (rec *record) idle(line AuditLine) bool {
	return line.Result != "ok" && (rec.who.anonymous() || rec.limited != nil)
}

func (rec *record) account() string {
	if rec.claimed != "" {
		return rec.claimed
	}
	return rec.who.account()
}

// changed notes the objects that a request changed, one by one.
func (rec *record) changed(changes []Change, results []Result) {
	if rec == nil {
		return
	}
	for i, res := range results {
		o := AuditLine{Action: "put", Reference: res.Key.String(), Result: "ok"}
		switch {
		case changes[i].Delete:
			o.Action = "remove"
		case changes[i].Used != nil:
			o.Action = "measure"
		case changes[i].From != nil:
			o.Action, o.Reference = "rename", changes[i].From.String()+" to "+o.Reference
		}
		if res.Err != nil {
			o.Result = "failed"
		}
		rec.objects = append(rec.objects, o)
	}
}

// ran notes a job that a request ordered.
func (rec *record) ran(job string, err error) {
	if rec == nil {
		return
	}
	line := AuditLine{Action: "run", Reference: job, Result: "ok"}
	if err != nil {
		line.Result = "failed"
	}
	rec.objects = append(rec.objects, line)
}

// maxClip is the longest text of a client's that is written down, in bytes:
// longer than any name, tag or digest there can be. What is beyond, and what
// does not print, only a mark stands for.
const maxClip = 256

// clip bounds what a client may have written into the log, as it stands there:
// of what is left, escaping doubles quotes and backslashes, and no more.
func clip(s string) string {
	cut := len(s) > maxClip
	if cut {
		s = strings.ToValidUTF8(s[:maxClip], "")
	}
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if cut {
		s += "…"
	}
	return s
}

// observed notes status and size of an answer, and gives up on a client that
// does not take it.
type observed struct {
	http.ResponseWriter
	record  *record
	control *http.ResponseController
	body    *countedBody // nil where the request has none
	closes  bool         // the connection serves no other request with the rest of a body on it
	crowded bool         // nor where there are too many
	begun   bool
	until   time.Time
}

// Unwrap lets [http.ResponseController] reach the connection.
func (w *observed) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// begin sees to what is left of the request's body when the answer begins: it
// is not waited for.
func (w *observed) begin() {
	if w.begun {
		return
	}
	w.begun = true
	if w.crowded {
		w.Header().Set("Connection", "close")
	}
	if w.body == nil || w.body.ended {
		return
	}
	if w.closes {
		w.Header().Set("Connection", "close")
	}
	w.control.SetReadDeadline(time.Now().Add(unwanted)) //nolint:errcheck // a connection in memory may have none
}

// WriteHeader implements [http.ResponseWriter].
func (w *observed) WriteHeader(status int) {
	if w.record.status == 0 && status >= http.StatusOK {
		w.record.status = status
	}
	if status >= http.StatusOK {
		w.begin()
	}
	w.extend()
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *observed) Write(b []byte) (n int, err error) {
	if w.record.status == 0 {
		w.record.status = http.StatusOK
	}
	w.begin()
	for {
		w.extend()
		m, err := w.ResponseWriter.Write(b[:min(len(b), part)])
		n, b = n+m, b[m:]
		w.record.sent += int64(m)
		if err != nil || len(b) == 0 {
			return n, err
		}
	}
}

// ReadFrom implements [io.ReaderFrom]: the connection may take a file by itself.
// It gets it in parts.
func (w *observed) ReadFrom(src io.Reader) (n int64, err error) {
	to, ok := w.ResponseWriter.(io.ReaderFrom)
	if !ok {
		return io.Copy(struct{ io.Writer }{w}, src)
	}
	if w.record.status == 0 {
		w.record.status = http.StatusOK
	}
	w.begin()
	all, ok := src.(*io.LimitedReader)
	if !ok {
		all = &io.LimitedReader{R: src, N: math.MaxInt64}
	}
	for all.N > 0 && err == nil {
		w.extend()
		due := min(all.N, part)
		// not a reader of a reader with a limit: that would hide the file
		m, e := to.ReadFrom(&io.LimitedReader{R: all.R, N: due})
		n, err = n+m, e
		all.N -= m
		w.record.sent += m
		if m < due {
			break
		}
	}
	return n, err
}

func (w *observed) extend() {
	if now := time.Now(); now.Add(stall / 2).After(w.until) {
		w.until = now.Add(stall)
		w.control.SetWriteDeadline(w.until) //nolint:errcheck // a connection in memory may have none
	}
}

// countedBody counts what is read of a request, and gives up on a client that
// sends too slowly. Time in which nobody reads is not the client's.
type countedBody struct {
	io.ReadCloser
	record  *record
	control *http.ResponseController
	slowest Pace
	now     func() time.Time

	began time.Time // when the time in force began
	came  int64     // since then
	left  time.Time // when it was read last
	ended bool
}

// Read implements [io.Reader].
func (b *countedBody) Read(p []byte) (int, error) {
	now := b.now()
	switch pause := now.Sub(b.left); {
	case b.began.IsZero(), b.came >= b.slowest.Bytes && now.Sub(b.began) > b.slowest.Within/4:
		b.due(now)
		b.came = 0
	case pause > b.slowest.Within/64:
		b.due(b.began.Add(pause))
	}
	n, err := b.ReadCloser.Read(p)
	b.left = b.now()
	b.came += int64(n)
	b.record.received += int64(n)
	if errors.Is(err, io.EOF) { // what the handler does next may take its time
		b.ended = true
		b.control.SetReadDeadline(time.Time{}) //nolint:errcheck // a connection in memory may have none
	} else if err != nil {
		b.record.unread = err
	}
	return n, err
}

// due begins the time in which the next bytes must come.
func (b *countedBody) due(began time.Time) {
	b.began = began
	b.control.SetReadDeadline(began.Add(b.slowest.Within)) //nolint:errcheck // a connection in memory may have none
}
