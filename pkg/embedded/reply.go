package embedded

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
)

// maxFailure bounds what is kept of an answer that is replaced, in bytes.
const maxFailure = 64 << 10

// reply turns what Distribution answers where the OCI distribution
// specification wants something else: a denial, which is a bare 400; paths and
// methods it does not know, which are plain text; and failures, whose details
// name files of the server and belong in the log. Call end when it has
// answered.
type reply struct {
	http.ResponseWriter
	visit    *visit
	record   *record // may be nil
	failed   func(status int, detail string)
	replaced bool
	held     int // the status of an answer that is not sent yet; 0 for none
	body     bytes.Buffer
}

// Unwrap lets [http.ResponseController] reach the connection.
func (w *reply) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (w *reply) WriteHeader(status int) {
	plain := strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain")
	switch {
	case w.replaced || w.held != 0:
	case w.visit.moved:
		w.replaced = true
		comeAgain(w.ResponseWriter, nil)
	case w.visit.denied != "" && status == http.StatusBadRequest:
		w.replaced = true
		ociError(w.ResponseWriter, http.StatusForbidden, "DENIED", w.visit.denied)
	case plain && status == http.StatusNotFound:
		w.replaced = true
		ociError(w.ResponseWriter, status, w.visit.unknown(), "there is no such thing; the path is none of the OCI distribution specification, or its reference is neither a tag nor a digest")
	case plain && status == http.StatusMethodNotAllowed:
		w.replaced = true
		ociError(w.ResponseWriter, status, "UNSUPPORTED", "that cannot be done to it")
	case status >= http.StatusInternalServerError && w.record != nil && w.record.unread != nil:
		w.replaced = true
		ociError(w.ResponseWriter, http.StatusBadRequest, w.visit.invalid(), "the request's body is malformed, or ended before its end")
	case status >= http.StatusInternalServerError:
		w.held = status
	default:
		w.ResponseWriter.WriteHeader(status)
	}
}

// Write implements [http.ResponseWriter].
func (w *reply) Write(b []byte) (int, error) {
	switch {
	case w.replaced:
		return len(b), nil
	case w.held != 0:
		if w.body.Len() < maxFailure {
			w.body.Write(b)
		}
		return len(b), nil
	}
	return w.ResponseWriter.Write(b)
}

// end sends a failure, and logs it.
func (w *reply) end() {
	if w.held == 0 {
		return
	}
	w.failed(w.held, strings.TrimSpace(w.body.String()))
	if !unexplained(w.body.Bytes()) {
		w.ResponseWriter.WriteHeader(w.held)
		w.ResponseWriter.Write(w.body.Bytes()) //nolint:errcheck // the client is gone
		return
	}
	ociError(w.ResponseWriter, w.held, "UNKNOWN", "the registry could not do that; its log says why")
}

// unexplained reports whether a failure tells its client nothing but details
// of the server.
func unexplained(body []byte) bool {
	var answer struct {
		Errors []struct {
			Code string `json:"code"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return true
	}
	for _, e := range answer.Errors {
		if e.Code != "UNKNOWN" {
			return false
		}
	}
	return true
}

// unknown is the code for a target that is not there.
func (t target) unknown() string {
	switch t.of {
	case "manifest":
		return "MANIFEST_UNKNOWN"
	case "blob":
		return "BLOB_UNKNOWN"
	case "upload":
		return "BLOB_UPLOAD_UNKNOWN"
	case "tags":
		return "NAME_UNKNOWN"
	}
	return "NOT_FOUND"
}

// invalid is the code for what was sent to a target.
func (t target) invalid() string {
	if t.of == "manifest" {
		return "MANIFEST_INVALID"
	}
	return "BLOB_UPLOAD_INVALID"
}
