package embedded

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"regexp"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/schema"
)

// place is what a request below /v2/ is about.
type place struct{ repository, what, rest string }

// The last such word decides: names of repositories may hold them too.
var contentPath = regexp.MustCompile(`^/v2/(.+)/(manifests|blobs|tags|referrers)/(.*)$`)

func placeOf(path string) place {
	m := contentPath.FindStringSubmatch(path)
	if m == nil {
		return place{}
	}
	return place{m[1], m[2], m[3]}
}

// routeContent answers what Distribution does not, and leads what changes content
// through the gate.
func (r *Registry) routeContent(w http.ResponseWriter, q *http.Request, v *visit, next http.Handler) {
	t := placeOf(q.URL.Path)
	if t.what == "referrers" {
		r.serveReferrers(w, q, v, t)
		return
	}
	p := r.gate.pass(t.repository)
	defer p.leave()
	switch q.Method {
	case http.MethodOptions:
	case http.MethodGet, http.MethodHead:
		// by these a client learns what it need not push
		asks := t.what == "manifests" || t.what == "blobs" && q.Method == http.MethodHead
		if !asks || !v.who.may(v.rules, schema.Push, t.repository) {
			break
		}
		p.reads = true
		p.enter()
		w = &seen{w, p}
	case http.MethodPut, http.MethodPatch:
		if q.ContentLength == 0 {
			p.enter()
			break
		}
		q = q.WithContext(q.Context())
		q.Body = gatedBody{q.Body, p}
		if t.what == "manifests" && q.Method == http.MethodPut && v.who.may(v.rules, schema.Push, t.repository) {
			r.putManifest(w, q, t, next)
			return
		}
	default:
		p.enter()
	}
	next.ServeHTTP(w, q)
}

// seen tells the gate what its client is told to be there.
type seen struct {
	http.ResponseWriter
	pass *pass
}

// Unwrap lets [http.ResponseController] reach the connection.
func (w *seen) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements [http.ResponseWriter]. The body is sent outside of
// the gate, however slowly.
func (w *seen) WriteHeader(status int) {
	if d, err := digest.Parse(w.Header().Get("Docker-Content-Digest")); err == nil && status < http.StatusBadRequest && w.pass.inside {
		w.pass.gate.see(w.pass.repository, d, time.Now())
	}
	w.pass.leave()
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *seen) Write(b []byte) (int, error) {
	if w.pass.inside {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

// putManifest stores a manifest and, where it has a subject, its place among
// the subject's referrers, before the client is told.
func (r *Registry) putManifest(w http.ResponseWriter, q *http.Request, t place, next http.Handler) {
	body, err := io.ReadAll(io.LimitReader(q.Body, maxManifest+1))
	rest := io.Reader(q.Body)
	if err != nil {
		rest = failing{err}
	}
	q.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(body), rest), q.Body}
	if m, ok := parseManifest(body); ok && err == nil && len(body) <= maxManifest && m.subject() != "" {
		media, _, err := mime.ParseMediaType(q.Header.Get("Content-Type"))
		if err != nil {
			media = m.MediaType
		}
		w = &withSubject{ResponseWriter: w, registry: r, request: q, repository: t.repository, manifest: m, media: media, size: int64(len(body))}
	}
	next.ServeHTTP(w, q)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// withSubject answers a push of a manifest that has a subject.
type withSubject struct {
	http.ResponseWriter
	registry   *Registry
	request    *http.Request
	repository string
	manifest   manifest
	media      string
	size       int64
	replaced   bool
}

// Unwrap lets [http.ResponseController] reach the connection.
func (w *withSubject) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (w *withSubject) WriteHeader(status int) {
	if status != http.StatusCreated {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	subject := w.manifest.subject()
	d, err := digest.Parse(w.Header().Get("Docker-Content-Digest"))
	if err == nil {
		err = w.registry.tree.addReferrer(w.request.Context(), w.repository, subject, w.manifest.descriptor(w.media, d, w.size))
	}
	if err != nil {
		w.replaced = true
		w.registry.logger.Error("noting a referrer failed", "repository", w.repository, "subject", subject, "error", err)
		ociError(w.ResponseWriter, http.StatusInternalServerError, "UNKNOWN", "the manifest is stored, but not noted as a referrer of its subject; push it again")
		return
	}
	w.Header().Set("OCI-Subject", subject.String())
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *withSubject) Write(b []byte) (int, error) {
	if w.replaced {
		return len(b), nil
	}
	return w.ResponseWriter.Write(b)
}
