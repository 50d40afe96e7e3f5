package harbortest

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// recording is one exchange with a real Harbor 2.15.2.
type recording struct {
	name    string
	number  int
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Query   string            `json:"query"`
	Given   map[string]string `json:"request_headers"`
	Body    json.RawMessage   `json:"request_body"`
	Status  int               `json:"status"`
	Headers map[string]string `json:"response_headers"`
	Answer  json.RawMessage   `json:"response_body"`
	As      string            `json:"as"`
}

// recordings are all there are, by number, and whether they are: without
// ../shared beside the repository there is only the part in testdata.
func recordings(t *testing.T) (all map[int]*recording, whole bool) {
	t.Helper()
	root := os.DirFS(filepath.Join("..", "..", "..", "..", "..", "shared", "recordings", "harbor"))
	if all = recordingsIn(t, root); len(all) > 0 {
		return all, true
	}
	return someRecordings(t), false
}

// someRecordings are those in testdata: some of each kind and trap.
func someRecordings(t *testing.T) map[int]*recording {
	t.Helper()
	all := recordingsIn(t, os.DirFS(filepath.Join("testdata", "recordings")))
	if len(all) == 0 {
		t.Fatal("there are no recordings in testdata")
	}
	return all
}

func recordingsIn(t *testing.T, root fs.FS) map[int]*recording {
	t.Helper()
	files, err := fs.Glob(root, "*.json")
	if err != nil {
		t.Fatal(err)
	}
	all := map[int]*recording{}
	for _, file := range files {
		raw, err := fs.ReadFile(root, file)
		if err != nil {
			t.Fatal(err)
		}
		r := &recording{name: strings.TrimSuffix(file, ".json")}
		if err := json.Unmarshal(raw, r); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if r.number, err = strconv.Atoi(file[:3]); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[r.number] = r
	}
	return all
}

// bodyText is a body as it was sent or had: JSON, or a text that was none.
func bodyText(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil && string(raw) != "null" {
		return s
	}
	if string(raw) == "null" {
		return ""
	}
	return string(raw)
}

// player plays recordings against a stand-in and compares.
type player struct {
	t      *testing.T
	server *Server
	ids    *ids
	// secrets are those of robots as the stand-in said them, by the number
	// of the recording that made it say so.
	secrets map[int]string
	cookies map[string]string
	// moreScanners says that a second scanner runs.
	moreScanners bool
}

// do sends one request, as somebody.
func (p *player) do(method, target, body, who, secret string, headers map[string]string) *httptest.ResponseRecorder {
	p.t.Helper()
	r := httptest.NewRequest(method, "http://127.0.0.1:8080"+target, strings.NewReader(body))
	r.RequestURI = target
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	if who != "anonymous" {
		r.SetBasicAuth(who, secret)
	}
	w := httptest.NewRecorder()
	p.server.ServeHTTP(w, r)
	return w
}

// play plays one recording.
func (p *player) play(r *recording) {
	p.t.Helper()
	route := r.route()
	target := p.ids.path(r, r.Path)
	if r.Query != "" {
		target += "?" + p.ids.query(r.Query)
	}
	body := bodyText(r.Body)
	var value any
	if json.Unmarshal([]byte(body), &value) == nil {
		value = p.ids.toSend(value, place{route: route})
		sent, err := json.Marshal(value)
		if err != nil {
			p.t.Fatal(err)
		}
		body = string(sent)
	}
	if r.Body == nil || string(r.Body) == "null" {
		body = ""
	}
	who, secret := r.login(p)
	w := p.do(r.Method, target, body, who, secret, p.session(r))
	p.compare(r, w)
	if w.Code == http.StatusCreated || r.Method == http.MethodPatch {
		var said struct {
			Secret string `json:"secret"`
		}
		if json.Unmarshal(w.Body.Bytes(), &said) == nil && said.Secret != "" {
			p.secrets[r.number] = said.Secret
		}
	}
}

// login is who asked, with the password of then.
func (r *recording) login(p *player) (who, secret string) {
	secret = "Harbor12345"
	switch r.number {
	case 7, 537, 538:
		secret = "wrong"
	case 222, 225:
		secret = p.secrets[201]
	case 226:
		secret = "NewSecret123"
	case 763:
		secret = "PutSecret123"
	case 764:
		secret = p.secrets[761]
	case 785, 788:
		secret = p.secrets[731]
	}
	if r.As == "robot$probe" {
		secret = p.secrets[820]
	}
	return r.As, secret
}

// session gives a request the cookies that were blacked out.
func (p *player) session(r *recording) map[string]string {
	headers := map[string]string{}
	for name, value := range r.Given {
		headers[name] = value
	}
	switch r.number {
	case 521, 522:
		w := p.do(http.MethodGet, "/api/v2.0/users/current", "", "admin", "Harbor12345", nil)
		headers["Cookie"] = strings.Split(w.Header().Get("Set-Cookie"), ";")[0]
	case 523:
		w := p.do(http.MethodGet, "/c/", "", "anonymous", "", nil)
		headers["X-Harbor-CSRF-Token"] = w.Header().Get("X-Harbor-Csrf-Token")
		headers["Cookie"] = "sid="
		for _, cookie := range w.Result().Cookies() {
			if cookie.Name == "_gorilla_csrf" {
				headers["Cookie"] += "; _gorilla_csrf=" + cookie.Value
			}
		}
	case 524, 525, 526:
		headers["Cookie"] = p.cookies["session"]
	}
	return headers
}

// compare says where an answer is not what was recorded.
func (p *player) compare(r *recording, w *httptest.ResponseRecorder) {
	p.t.Helper()
	var wrong []string
	if w.Code != r.Status {
		wrong = append(wrong, fmt.Sprintf("status %d, recorded %d", w.Code, r.Status))
	}
	raw, err := io.ReadAll(w.Result().Body)
	if err != nil {
		p.t.Fatal(err)
	}
	wrong = append(wrong, p.compareHeaders(r, w.Result().Header, len(raw) > 0)...)
	if r.number == 523 {
		for _, cookie := range w.Result().Cookies() {
			if cookie.Name == "sid" {
				p.cookies["session"] = "sid=" + cookie.Value
			}
		}
	}
	want, have := decoded(r.Answer), decoded(raw)
	if bodyText(r.Answer) == "" && len(raw) == 0 {
		want, have = nil, nil
	}
	if r.Method == http.MethodHead {
		have = want
	}
	p.ids.messages(r)
	wrong = append(wrong, p.ids.compare(want, have, place{route: r.route()})...)
	if len(wrong) > 0 {
		p.t.Errorf("R%s %s %s:\n\t%s\n\tanswered %s", r.name, r.Method, r.Path, strings.Join(wrong[:min(len(wrong), 8)], "\n\t"), cut(string(raw), 600))
	}
}

// compareHeaders compares those that mean something to a client.
func (p *player) compareHeaders(r *recording, have http.Header, body bool) []string {
	var wrong []string
	for _, name := range []string{"Location", "X-Total-Count", "Link", "Content-Type", "Www-Authenticate"} {
		want, got := r.Headers[name], have.Get(name)
		switch name {
		case "Content-Type":
			if !body {
				continue
			}
		case "Location":
			if p.ids.samePath(want, got) {
				continue
			}
		}
		if want != got {
			wrong = append(wrong, fmt.Sprintf("header %s %q, recorded %q", name, got, want))
		}
	}
	if len(r.Given["Cookie"]) == 0 && !strings.HasPrefix(have.Get("Set-Cookie"), "sid=") {
		wrong = append(wrong, "no cookie sid was set")
	}
	if id := r.Given["X-Request-Id"]; id != "" && have.Get("X-Request-Id") != id {
		wrong = append(wrong, "the request's id did not come back")
	}
	return wrong
}

func decoded(raw []byte) any {
	var v any
	if len(raw) == 0 || json.Unmarshal(raw, &v) != nil {
		return string(raw)
	}
	return v
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n] + "..."
	}
	return s
}

// route is the path of the API description that a recording's path is of.
func (r *recording) route() string {
	segments := strings.Split(strings.TrimPrefix(r.Path, base), "/")
	for i, s := range segments {
		if _, isNumber := parseID(s); isNumber {
			segments[i] = "#"
		}
	}
	return strings.Join(segments, "/")
}

// normal takes out of a text what differs with every run: times but the zero
// one, secrets, and the order in which a refusal names methods.
func normal(key, s string) string {
	switch {
	case regexp.MustCompile(`^\d{4}-\d\d-\d\dT[\d:.]+Z$`).MatchString(s) && !strings.HasPrefix(s, "0001-") && key != "next_scheduled_time":
		return "a time"
	case key == "secret" && s != "", key == "token":
		return "a secret"
	case strings.Contains(s, " is not allowed, but ["):
		head, tail, _ := strings.Cut(s, "[")
		names, end, _ := strings.Cut(tail, "]")
		list := strings.Split(names, ",")
		slices.Sort(list)
		return head + strings.Join(list, ",") + end
	}
	return s
}
