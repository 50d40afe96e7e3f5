package harbortest

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
)

// The longest bodies that are read, in bytes.
const (
	maxBody = 4 << 20
	maxBlob = 256 << 20
)

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	limit := int64(maxBody)
	if strings.HasPrefix(r.URL.Path, "/v2/") {
		limit = maxBlob
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		return // the client went away
	}
	path := r.URL.EscapedPath()
	api := strings.HasPrefix(path, base+"/")
	c := &call{r: r, query: r.URL.Query(), raw: raw}
	seen := Request{Method: r.Method, Path: r.URL.RequestURI(), Login: loginOf(r)}
	var m match
	var others []string
	if api {
		m, c.vars, others = s.router.find(r.Method, strings.TrimPrefix(path, base))
		_, seen.Route, _ = strings.Cut(m.route, " ")
	} else {
		seen.Route = path
	}
	end := s.traffic.begin()
	defer func() { end(seen) }()

	deadlock, done := s.locks.take(c, m.route)
	defer done()

	fault := s.faults.of(r.Method, path, seen.Route)
	if s.options.Latency != nil {
		fault.Delay += s.options.Latency(seen)
	}
	if !wait(r, fault.Delay) {
		return
	}
	if fault.Status != 0 {
		seen.Status = fault.Status
		if fault.RetryAfter != "" {
			w.Header().Set("Retry-After", fault.RetryAfter)
		}
		http.Error(w, http.StatusText(fault.Status), fault.Status)
		return
	}

	c.cut = fault.Cut
	s.mu.Lock()
	s.headers(w, c)
	a, err := answer{}, error(internal())
	if !deadlock {
		a, err = s.answer(w, c, m, others, api)
	}
	status, body := encode(w, a, err)
	s.mu.Unlock()

	seen.Status, seen.Who = status, cmp.Or(c.who.name(), c.holder)
	if fault.Drop || fault.Cut {
		drop(w)
		return
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the client went away
	}
}

// answer does what is asked.
func (s *Server) answer(w http.ResponseWriter, c *call, m match, others []string, api bool) (answer, error) {
	if err := s.checkSession(w, c); err != nil {
		return answer{}, err
	}
	c.who = s.identify(c.r)
	if !api {
		return s.outside(w, c)
	}
	if s.readOnly() && writes(c.r.Method) && m.route != "PUT /configurations" {
		return answer{}, refuse(http.StatusForbidden, "DENIED", "The system is in read only mode. Any modification is prohibited.")
	}
	what := c.r.Method + " " + c.r.URL.EscapedPath()
	if s.lacks(m.route) {
		m.route = ""
	}
	switch {
	case m.route != "":
	case len(others) > 0:
		s.fail(what + ": the API has no such method there")
		return answer{}, refuse(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "method %s is not allowed, but [%s] are", c.r.Method, strings.Join(others, ","))
	default:
		s.fail(what + ": the API has no such path")
		return answer{}, notFound("path %s was not found", c.r.URL.Path)
	}
	unknown, refused := s.shapes.check(s.shapes.Operations[m.route], c)
	for _, u := range unknown {
		s.fail(what + ": the API has no " + u + " there")
	}
	if refused != nil {
		return answer{}, refused
	}
	h := s.router.handlers[m.route]
	if h == nil {
		s.fail(what + ": the stand-in does not do that yet")
		return answer{}, refuse(http.StatusNotImplemented, "UNKNOWN", "the stand-in does not do that yet")
	}
	return h(c)
}

// outside answers what is not below the API's base.
func (s *Server) outside(w http.ResponseWriter, c *call) (answer, error) {
	switch path := c.r.URL.Path; {
	case path == "/v2", strings.HasPrefix(path, "/v2/"):
		return s.content(w, c)
	case path == "/service/token":
		return s.token(c)
	case path == "/c/login" && c.r.Method == http.MethodPost:
		return s.logIn(w, c)
	case path == "/c/log_out":
		return s.logOut(c)
	case strings.HasPrefix(path, "/c/"):
		return answer{status: http.StatusNotFound, header: map[string]string{"Content-Type": "text/html; charset=utf-8"}, body: text("<html></html>")}, nil
	}
	s.fail(c.r.Method + " " + c.r.URL.Path + ": Harbor has no such path")
	return answer{}, notFound("path %s was not found", c.r.URL.Path)
}

func (s *Server) fail(problem string) {
	if s.options.Fail != nil {
		s.options.Fail(problem)
	}
}

// encode is the status and the body of an answer, whose headers it sets.
func encode(w http.ResponseWriter, a answer, err error) (int, []byte) {
	var r *refusal
	switch {
	case errors.As(err, &r):
		a = answer{status: r.status, header: a.header, body: r.body()}
		if a.body != nil {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
		}
	case err != nil:
		a = answer{status: http.StatusInternalServerError, body: internal().body()}
	}
	for name, value := range a.header {
		w.Header().Set(name, value)
	}
	switch kind, given := a.header["Content-Type"]; {
	case given && kind == "":
		w.Header()["Content-Type"] = nil // nor a guess
	case w.Header().Get("Content-Type") == "":
		w.Header().Set("Content-Type", "application/json")
	}
	switch body := a.body.(type) {
	case nil:
		return a.status, nil
	case text:
		return a.status, []byte(body)
	default:
		b, err := json.Marshal(body)
		if err != nil {
			return http.StatusInternalServerError, nil
		}
		return a.status, append(b, '\n')
	}
}

// writes says whether a method may change something.
func writes(method string) bool {
	return method != http.MethodGet && method != http.MethodHead && method != http.MethodOptions
}

// wait sleeps, unless the client goes away before.
func wait(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// drop closes the connection without a word.
func drop(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	_ = conn.Close()
}

// decode is the body as T. What does not fit was refused before, by its shape.
func decode[T any](c *call) (T, error) {
	var v T
	if len(c.raw) == 0 {
		return v, nil
	}
	if err := json.Unmarshal(c.raw, &v); err != nil {
		return v, unprocessable("parsing body failed, because %v", err)
	}
	return v, nil
}
