package token

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/access"
)

const maxForm = 16 << 10 // bytes

// question is what a client asks, by GET or by POST.
type question struct {
	asked   []Scope
	account string // "" for anonymous clients
	who     access.Subject
	proof   []byte // of the account's password
	offline bool   // it wants a refresh token
	form    bool   // asked by POST
}

// answer is what a client gets. Both names of the token are in use.
type answer struct {
	Token        string `json:"token,omitempty"`
	AccessToken  string `json:"access_token"`
	Scope        string `json:"scope,omitempty"`
	ExpiresIn    int    `json:"expires_in"` // seconds
	IssuedAt     string `json:"issued_at"`
	RefreshToken string `json:"refresh_token,omitempty"`
}

// ServeHTTP implements [http.Handler]: a GET, with HTTP's basic authentication
// or none, and a POST as OAuth 2 has it, with a password or a refresh token.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q question
	var err error
	switch r.Method {
	case http.MethodGet:
		q, err = s.get(r)
	case http.MethodPost:
		q, err = s.post(w, r)
	default:
		w.Header().Set("Allow", "GET, POST")
		refuse(w, r.Method, &RefusedError{Status: http.StatusMethodNotAllowed, Reason: "ask for a token by GET or POST"})
		return
	}
	if err != nil {
		refusal := (*RefusedError)(nil)
		if !errors.As(err, &refusal) {
			s.o.Logger.Error("a login could not be checked", "address", r.RemoteAddr, "error", err)
			refusal = &RefusedError{Status: http.StatusServiceUnavailable, Reason: "the login could not be checked in time"}
		}
		refuse(w, r.Method, refusal)
		return
	}
	s.grant(w, r, q)
}

func (s *Service) get(r *http.Request) (q question, err error) {
	query := r.URL.Query()
	if q.asked, err = s.scopes(query["scope"], query.Get("service")); err != nil {
		return q, err
	}
	q.offline = query.Get("offline_token") == "true"
	if r.Header.Get("Authorization") == "" {
		return q, nil
	}
	account, password, ok := r.BasicAuth()
	if !ok {
		return q, &RefusedError{Status: http.StatusUnauthorized, Reason: "log in with a user name and a password"}
	}
	if account == "" && password == "" { // how some clients say that they have none
		return q, nil
	}
	return q, s.login(&q, r, account, password)
}

func (s *Service) post(w http.ResponseWriter, r *http.Request) (q question, err error) {
	q.form = true
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return q, &RefusedError{Status: http.StatusBadRequest, Reason: "send a form of at most 16 KiB"}
	}
	form := r.PostForm
	if q.asked, err = s.scopes(form["scope"], form.Get("service")); err != nil {
		return q, err
	}
	q.offline = form.Get("access_type") == "offline"
	switch form.Get("grant_type") {
	case "password":
		return q, s.login(&q, r, form.Get("username"), form.Get("password"))
	case "refresh_token":
		if q.account, q.who, q.proof, err = s.refreshed(form.Get("refresh_token")); err != nil {
			return q, &RefusedError{Status: http.StatusUnauthorized, Reason: err.Error()}
		}
		return q, nil
	}
	return q, &RefusedError{Status: http.StatusBadRequest, Reason: "grant_type is password or refresh_token"}
}

func (s *Service) login(q *question, r *http.Request, account, password string) (err error) {
	if q.who, q.proof, err = s.o.Accounts.Login(r, account, password); err != nil {
		return err
	}
	q.account = account
	return nil
}

func (s *Service) scopes(values []string, service string) ([]Scope, error) {
	if service != "" && s.o.Service != "" && service != s.o.Service {
		return nil, &RefusedError{Status: http.StatusBadRequest, Reason: "this is the token service of " + s.o.Service + " alone"}
	}
	asked, err := parseScopes(values)
	if err != nil {
		return nil, &RefusedError{Status: http.StatusBadRequest, Reason: err.Error()}
	}
	return asked, nil
}

// grant answers with a token for what is allowed of what was asked, which may
// be nothing: that is for the registry to refuse.
func (s *Service) grant(w http.ResponseWriter, r *http.Request, q question) {
	granted := allowed(s.o.Accounts.Rules(), q.who, q.asked)
	text, made, err := s.token(q, granted)
	if err != nil {
		s.o.Logger.Error("signing a token failed", "error", err)
		refuse(w, r.Method, &RefusedError{Status: http.StatusInternalServerError, Reason: "the token could not be signed"})
		return
	}
	a := answer{AccessToken: text, ExpiresIn: int(Life / time.Second), IssuedAt: made.Format(time.RFC3339)}
	if q.form {
		a.Scope = join(granted)
	} else {
		a.Token = text
	}
	if q.offline && q.account != "" && len(q.proof) > 0 && s.o.Keys != nil {
		a.RefreshToken = s.o.Keys.refresh().of(s.now(), q.account, q.proof)
	}
	if s.o.Granted != nil {
		s.o.Granted(Grant{Account: q.account, Address: r.RemoteAddr, Asked: clip(join(q.asked)), Granted: join(granted)})
	}
	writeJSON(w, http.StatusOK, a)
}

func (s *Service) token(q question, granted []Scope) (text string, made time.Time, err error) {
	if s.o.Own != nil {
		text, made = s.o.Own.token(q.account, q.proof)
		return text, made, nil
	}
	return s.o.Keys.Token(s.o.Service, q.account, granted)
}

// clip bounds what a client may write into the log.
func clip(s string) string {
	const most = 1 << 10
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// refuse answers with an error in the form of the OCI distribution
// specification, and to a POST with that of RFC 6749 beside it.
func refuse(w http.ResponseWriter, method string, r *RefusedError) {
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	body := struct {
		Errors      []entry `json:"errors"`
		Error       string  `json:"error,omitempty"`
		Description string  `json:"error_description,omitempty"`
	}{Errors: []entry{{"UNKNOWN", r.Reason}}}
	oauth := "server_error"
	switch r.Status {
	case http.StatusUnauthorized:
		body.Errors[0].Code, oauth = "UNAUTHORIZED", "invalid_grant"
		w.Header().Set("WWW-Authenticate", `Basic realm="ocisync", charset="UTF-8"`)
	case http.StatusTooManyRequests:
		body.Errors[0].Code, oauth = "TOOMANYREQUESTS", "temporarily_unavailable"
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(r.Wait.Seconds())))))
	case http.StatusBadRequest, http.StatusMethodNotAllowed:
		body.Errors[0].Code, oauth = "UNSUPPORTED", "invalid_request"
	case http.StatusServiceUnavailable:
		body.Errors[0].Code, oauth = "UNAVAILABLE", "temporarily_unavailable"
	}
	if method == http.MethodPost {
		body.Error, body.Description = oauth, r.Reason
	}
	writeJSON(w, r.Status, body)
}

func writeJSON[T any](w http.ResponseWriter, status int, v T) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "cannot be written as JSON", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store") // RFC 6749, section 5.1
	h.Set("Pragma", "no-cache")
	w.WriteHeader(status)
	w.Write(append(b, '\n')) //nolint:errcheck // the client is gone
}
