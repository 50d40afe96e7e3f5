package embedded

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/ocisync/ocisync/pkg/token"
	"github.com/ocisync/ocisync/schema"
)

func (r *Registry) route(w http.ResponseWriter, q *http.Request, t target) {
	switch t.of {
	case "health":
		r.serveHealth(w, q)
	case "metrics":
		r.serveMetrics(w, q)
	case "admin":
		r.serveAdmin(w, q)
	case "token":
		r.serveToken(w, q)
	default:
		if r.options.Tokens != nil {
			ociError(w, http.StatusNotFound, "NOT_FOUND", "tokens are given here, at "+token.Path+"; the registry is elsewhere")
			return
		}
		if t.of == "catalog" {
			r.serveCatalog(w, q, t)
			return
		}
		if q.URL.Path == "/v2" || strings.HasPrefix(q.URL.Path, "/v2/") {
			r.serveContent(w, q, t)
			return
		}
		ociError(w, http.StatusNotFound, "NOT_FOUND", "nothing is served here; the registry is at /v2/")
	}
}

func (r *Registry) serveContent(w http.ResponseWriter, q *http.Request, t target) {
	v, ok := r.visitOf(w, q, t)
	if !ok || !named(w, q, t) {
		return
	}
	if permitted(w, q, v) {
		r.serveVisit(w, q, v)
	}
}

// visitOf finds out who asks; it reports whether the request may go on.
func (r *Registry) visitOf(w http.ResponseWriter, q *http.Request, t target) (v *visit, ok bool) {
	who, err := r.visitor(q)
	v = &visit{target: t, who: who, rules: r.store.now().rules, base: r.reached(q)}
	if err != nil {
		login(w, err, v.tokenAsked(err, accesses(q, t)...))
	}
	return v, err == nil
}

// serveVisit answers what is permitted, in this order: blobs, what Distribution
// does not, the gate that keeps collection and writers apart, the guard,
// Distribution.
func (r *Registry) serveVisit(w http.ResponseWriter, q *http.Request, v *visit) {
	if v.of == "blob" && q.Method == http.MethodGet && r.serveBlob(w, q, v) {
		return
	}
	if v.of == "manifest" && (q.Method == http.MethodGet || q.Method == http.MethodHead) {
		q = ofAnyType(q)
	}
	failed := func(status int, detail string) {
		r.logger.Error("request failed", "method", q.Method, "path", q.URL.Path, "status", status, "detail", detail)
	}
	serve := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		answer := &reply{ResponseWriter: w, visit: v, record: recordOf(q), failed: failed}
		r.guard.serve(answer, q.WithContext(context.WithValue(q.Context(), visitKey{}, v)), v, r.app)
		answer.end()
	})
	r.routeContent(w, q, v, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if v.of == "manifest" && (q.Method == http.MethodGet || q.Method == http.MethodHead) {
			r.serveManifest(w, q, serve)
			return
		}
		serve(w, q)
	}))
}

// serveCatalog lists the repositories that the client may pull. Pages and
// errors are those of Distribution's own catalogue, whose authorization knows
// only all or nothing.
func (r *Registry) serveCatalog(w http.ResponseWriter, q *http.Request, t target) {
	v, ok := r.visitOf(w, q, t)
	if !ok {
		return
	}
	if v.who.anonymous() && !v.rules.AnonymousPulls() {
		v.tokenAsked(nil, accesses(q, t)...).answer(w, "authentication required")
		return
	}
	if q.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		ociError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "the catalogue can only be read")
		return
	}
	var err error
	size := 100
	if n := q.URL.Query().Get("n"); n != "" {
		size, err = strconv.Atoi(n)
		if err != nil || size < 0 || size > pageSize {
			ociError(w, http.StatusBadRequest, "PAGINATION_NUMBER_INVALID", fmt.Sprintf("n is a number from 0 to %d", pageSize))
			return
		}
	}
	list, more := []string{}, false
	if size > 0 {
		release := r.gate.steady()
		err = r.storage.Catalogue(q.Context(), q.URL.Query().Get("last"), func(name string) (bool, error) {
			if !v.who.may(v.rules, schema.Pull, name) {
				return true, nil
			}
			if more = len(list) == size; more {
				return false, nil
			}
			list = append(list, name)
			return true, nil
		})
		release()
	}
	if err != nil {
		r.logger.Error("catalogue failed", "error", err)
		ociError(w, http.StatusInternalServerError, "UNKNOWN", "the repositories could not be listed")
		return
	}
	if more {
		next := url.Values{"n": {strconv.Itoa(size)}, "last": {list[size-1]}}
		w.Header().Set("Link", fmt.Sprintf(`</v2/_catalog?%s>; rel="next"`, next.Encode()))
	}
	writeJSON(w, http.StatusOK, struct {
		Repositories []string `json:"repositories"`
	}{list})
}
