package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/ocisync/ocisync/schema"
)

// The admin API: JSON over HTTP, on the Unix socket in the data directory for
// whoever may open it, and on the registry's own address for admin users.
//
//	GET  info          Info
//	GET  state         Live; ?kind=user&kind=group selects
//	POST changes       {"changes":[Change]} -> {"results":[…]} in the same order
//	POST check         {"user","password"} or {"key","secret"} -> {"equal"}
//	POST run           {"job","dry_run"} -> {"report","code","error"}; ends when the job does
//	GET  rename        ?from=KEY&to=KEY -> {"key","code","error"}: could it be renamed
//	POST acknowledge   {"keys":[…]} -> {}: the renames of objects that are called so now are written down
//	GET  repositories  [schema.RepositoryInfo]; ?name=… selects, as in repositories
//	GET  sizes         {repository: bytes}; ?name=… selects likewise
//	POST rotate        {} -> {}: sign tokens with the next key
//	POST anew          {"giving":Giving,"try"} -> {}: begin to give tokens anew
//	GET  usage         [Usage]; ?namespace=… selects, else all that have a quota
//	POST run/retention RetentionOptions -> as run; with dry_run a preview
//
// A token service has info, state, changes, check, rename, acknowledge, rotate and
// anew, and what serves content has all but the last two.
const (
	adminPath = "/ocisync/v1/"

	maxChangeBytes = 32 << 20
	maxCheckBytes  = 16 << 10
)

// Info says what process serves a registry.
type Info struct {
	Name    string `json:"name"` // always "ocisync"
	Version string `json:"version,omitempty"`
	PID     int    `json:"pid"`
	Data    string `json:"data"`
	URL     string `json:"url,omitempty"`
	// Command and Started are those of the process.
	Command string    `json:"command,omitempty"`
	Started time.Time `json:"started,omitzero"`
	// Giving is where tokens are given; nil where none are.
	Giving *Giving `json:"giving,omitempty"`
}

type changesRequest struct {
	Changes []Change `json:"changes"`
}

type changesResponse struct {
	Results []wireResult `json:"results"`
}

// wireResult is a [Result] on its way; Code names the kind of error.
type wireResult struct {
	Key   schema.Key `json:"key"`
	Code  string     `json:"code,omitempty"`
	Error string     `json:"error,omitempty"`
}

type checkRequest struct {
	User     string `json:"user,omitempty"`
	Password string `json:"password,omitempty"`
	// Key names, instead of a user, an object whose secret is Secret.
	Key    *schema.Key `json:"key,omitempty"`
	Secret string      `json:"secret,omitempty"`
}

type checkResponse struct {
	Equal bool `json:"equal"`
}

// codes pairs the errors of a change with their names in the admin API.
func codes() []struct {
	code string
	err  error
} {
	return []struct {
		code string
		err  error
	}{{"invalid", ErrInvalid}, {"unsupported", ErrUnsupported}, {"conflict", ErrConflict}, {"missing", ErrMissing}, {"superseded", ErrSuperseded}}
}

func (r Result) wire() wireResult {
	if r.Err == nil {
		return wireResult{Key: r.Key}
	}
	w := wireResult{Key: r.Key, Code: "failed", Error: r.Err.Error()}
	for _, c := range codes() {
		if errors.Is(r.Err, c.err) {
			w.Code = c.code
		}
	}
	return w
}

// remoteError is an error told by a registry; it is of the kind its code names.
type remoteError struct {
	text string
	kind error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }

func (w wireResult) result() Result {
	if w.Error == "" {
		return Result{Key: w.Key}
	}
	e := &remoteError{text: w.Error}
	for _, c := range codes() {
		if w.Code == c.code {
			e.kind = c.err
		}
	}
	return Result{Key: w.Key, Err: e}
}

// admits answers requests of others than admin users and ocisync itself; it
// reports whether the request may go on.
func (r *Registry) admits(w http.ResponseWriter, q *http.Request) bool {
	who, err := r.identify(q)
	if !login(w, err, errAskPassword) {
		return false
	}
	if who.anonymous() {
		errAskPassword.answer(w, "authentication required")
		return false
	}
	if !who.self && !r.store.now().rules.Admin(who.subject) {
		ociError(w, http.StatusForbidden, "DENIED", who.String()+" is not an admin user")
		return false
	}
	return true
}

func (r *Registry) serveAdmin(w http.ResponseWriter, q *http.Request) {
	if !r.admits(w, q) {
		return
	}
	switch what := q.Method + " " + strings.TrimPrefix(q.URL.Path, adminPath); what {
	case "GET info":
		writeJSON(w, http.StatusOK, r.info())
	case "GET state":
		r.serveState(w, q)
	case "POST changes":
		r.serveChanges(w, q)
	case "POST check":
		r.serveCheck(w, q)
	case "POST rotate":
		r.serveRotate(w, q)
	case "POST anew":
		r.serveAnew(w, q)
	case "GET rename":
		r.serveRename(w, q)
	case "POST acknowledge":
		r.serveAcknowledge(w, q)
	default:
		if r.options.Tokens == nil && r.serveHousekeeping(w, q, what) {
			return
		}
		ociError(w, http.StatusNotFound, "NOT_FOUND", "the admin API has no "+what)
	}
}

// serveHousekeeping answers what is about content; false: what was asked is not.
func (r *Registry) serveHousekeeping(w http.ResponseWriter, q *http.Request, what string) bool {
	switch what {
	case "GET repositories":
		steady := r.gate.steady()
		list, err := repositories(q.Context(), r.storage, q.URL.Query()["name"])
		steady()
		if err != nil {
			r.logger.Error("listing repositories failed", "error", err)
			ociError(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
			return true
		}
		writeJSON(w, http.StatusOK, list)
	case "GET sizes":
		steady := r.gate.steady()
		told, err := sizes(q.Context(), r.storage, q.URL.Query()["name"])
		steady()
		if err != nil {
			r.logger.Error("measuring repositories failed", "error", err)
			ociError(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
			return true
		}
		writeJSON(w, http.StatusOK, told)
	case "GET usage":
		r.serveUsage(w, q)
	case "POST run/retention":
		r.serveRetention(w, q)
	case "POST run":
		r.serveRun(w, q)
	default:
		return false
	}
	return true
}

func (r *Registry) serveState(w http.ResponseWriter, q *http.Request) {
	var kinds []schema.Kind
	for _, k := range q.URL.Query()["kind"] {
		if !schema.Kind(k).Valid() {
			ociError(w, http.StatusBadRequest, "INVALID", fmt.Sprintf("%q is not a kind", k))
			return
		}
		kinds = append(kinds, schema.Kind(k))
	}
	writeJSON(w, http.StatusOK, r.store.now().doc.live(kinds))
}

func (r *Registry) serveChanges(w http.ResponseWriter, q *http.Request) {
	var request changesRequest
	if !readJSON(w, q, maxChangeBytes, &request) {
		return
	}
	results, err := r.store.change(q.Context(), request.Changes)
	if err != nil {
		r.logger.Error("changes failed", "error", err)
		ociError(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
		return
	}
	r.hooks.Refresh()
	recordOf(q).changed(request.Changes, results)
	var response changesResponse
	for _, res := range results {
		response.Results = append(response.Results, res.wire())
	}
	if r.jobs != nil {
		r.jobs.replan()
	}
	writeJSON(w, http.StatusOK, response)
}

func (r *Registry) serveCheck(w http.ResponseWriter, q *http.Request) {
	var request checkRequest
	if !readJSON(w, q, maxCheckBytes, &request) {
		return
	}
	if request.Key != nil && request.Key.Kind == schema.KindRobot {
		equal, err := r.passwords.check(q.Context(), attempt{account: r.store.now().newest(*request.Key), password: request.Secret})
		if login(w, err, errAskPassword) {
			writeJSON(w, http.StatusOK, checkResponse{equal})
		}
		return
	}
	if request.Key != nil {
		writeJSON(w, http.StatusOK, checkResponse{r.store.now().doc.checkKeptSecret(*request.Key, request.Secret)})
		return
	}
	equal, err := r.passwords.check(q.Context(), attempt{account: r.store.now().accounts[request.User], name: request.User, password: request.Password})
	if login(w, err, errAskPassword) {
		writeJSON(w, http.StatusOK, checkResponse{equal})
	}
}

// readJSON reads a bounded body. It wants the content type of JSON, which a
// web page of another origin cannot send without asking first.
func readJSON[T any](w http.ResponseWriter, q *http.Request, limit int64, into *T) bool {
	if t, _, err := mime.ParseMediaType(q.Header.Get("Content-Type")); err != nil || t != "application/json" {
		ociError(w, http.StatusUnsupportedMediaType, "INVALID", "send application/json")
		return false
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, q.Body, limit))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		ociError(w, http.StatusRequestEntityTooLarge, "INVALID", fmt.Sprintf("the body is larger than %d bytes; send fewer changes at once", limit))
		return false
	}
	if err != nil {
		ociError(w, http.StatusBadRequest, "INVALID", err.Error())
		return false
	}
	return true
}
