package harbortest

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// answer is what a handler says: a status, headers of its own, and a body,
// which nil leaves empty and text leaves as it is. An empty Content-Type is none.
type answer struct {
	status int
	header map[string]string
	body   any
}

type text string

// shown is a 200 with a body.
func shown(body any) (answer, error) { return answer{status: http.StatusOK, body: body}, nil }

// done is a 200 with nothing to say, as Harbor answers updates and deletions.
func done() (answer, error) { return answer{status: http.StatusOK}, nil }

// created is a 201 that says only where.
func created(location string) (answer, error) {
	return answer{status: http.StatusCreated, header: map[string]string{"Location": location}}, nil
}

// createdID is created below the path of the request.
func createdID(c *call, id int64) (answer, error) {
	return created(c.r.URL.EscapedPath() + "/" + strconv.FormatInt(id, 10))
}

// refusal is an answer that is no success. Without a code its body is empty.
type refusal struct {
	status  int
	code    string
	message string
}

func (r *refusal) Error() string { return fmt.Sprintf("%d %s: %s", r.status, r.code, r.message) }

func refuse(status int, code, format string, of ...any) *refusal {
	return &refusal{status: status, code: code, message: fmt.Sprintf(format, of...)}
}

func badRequest(format string, of ...any) *refusal {
	return refuse(http.StatusBadRequest, "BAD_REQUEST", format, of...)
}

func unauthorized() *refusal {
	return refuse(http.StatusUnauthorized, "UNAUTHORIZED", "unauthorized")
}

func forbidden(format string, of ...any) *refusal {
	return refuse(http.StatusForbidden, "FORBIDDEN", format, of...)
}

func notFound(format string, of ...any) *refusal {
	return refuse(http.StatusNotFound, "NOT_FOUND", format, of...)
}

func conflict(format string, of ...any) *refusal {
	return refuse(http.StatusConflict, "CONFLICT", format, of...)
}

func precondition(format string, of ...any) *refusal {
	return refuse(http.StatusPreconditionFailed, "PRECONDITION", format, of...)
}

func unprocessable(format string, of ...any) *refusal {
	return refuse(http.StatusUnprocessableEntity, "UNPROCESSABLE_ENTITY", "validation failure list:\n"+format, of...)
}

// internal is the 500 that Harbor answers to many a plain mistake.
func internal() *refusal {
	return refuse(http.StatusInternalServerError, "UNKNOWN", "internal server error")
}

// crashed is the 500 of a handler that panicked: its body is empty.
func crashed() *refusal { return &refusal{status: http.StatusInternalServerError} }

// body is the refusal in Harbor's words.
func (r *refusal) body() any {
	type item struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	if r.code == "" {
		return nil
	}
	return struct {
		Errors []item `json:"errors"`
	}{[]item{{r.code, r.message}}}
}

// stamp is a time as most of Harbor's answers have it: UTC, in milliseconds.
// The zero stamp is the first of January of the year 1, which Harbor does say.
type stamp time.Time

func (s stamp) MarshalJSON() ([]byte, error) {
	return []byte(time.Time(s).UTC().Format(`"2006-01-02T15:04:05.000Z"`)), nil
}
