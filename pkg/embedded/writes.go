package embedded

import (
	"bytes"
	"context"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/embedded/storage"
	"github.com/ocisync/ocisync/schema"
)

// routeContent answers what Distribution does not, and leads what changes content
// through the gate.
func (r *Registry) routeContent(w http.ResponseWriter, q *http.Request, v *visit, next http.Handler) {
	if v.of == "referrers" {
		r.serveReferrers(w, q, v)
		return
	}
	p := r.gate.pass(v.repository)
	defer p.leave()
	p.entered = func() {
		now := r.store.now().rules
		v.moved = !p.reads && now != v.rules && now.Namespace(v.repository) != v.rules.Namespace(v.repository) &&
			(v.who.may(v.rules, schema.Push, v.repository) || v.who.may(v.rules, schema.Delete, v.repository))
	}
	var later *afterwards
	original := w
	switch q.Method {
	case http.MethodOptions:
	case http.MethodGet, http.MethodHead:
		// by these a client learns what it need not push
		asks := v.of == "manifest" || v.of == "blob" && q.Method == http.MethodHead
		if !asks || !v.who.may(v.rules, schema.Push, v.repository) {
			break
		}
		p.reads = true
		p.enter()
		told := &seen{ResponseWriter: w, pass: p}
		if v.of == "manifest" {
			told.keep = r.keep(q, v)
		}
		w = told
	case http.MethodPut, http.MethodPatch:
		later = &afterwards{ResponseWriter: w}
		w = later
		if q.ContentLength == 0 {
			p.enter()
			break
		}
		q = q.WithContext(q.Context())
		q.Body = gatedBody{q.Body, p, v}
		if v.of == "manifest" && q.Method == http.MethodPut && v.who.may(v.rules, schema.Push, v.repository) {
			w = r.readManifest(w, q, v)
			if v.pushed != nil {
				if err := storage.CheckManifest(v.pushed.body); err != nil {
					next = noManifest(err)
				}
			}
		}
	default:
		later = &afterwards{ResponseWriter: w}
		w = later
		p.enter()
	}
	if v.moved {
		next = http.HandlerFunc(comeAgain)
	}
	next.ServeHTTP(w, q)
	if later != nil {
		p.leave()
		r.makeRoom(q.Context(), v)
		if v.again {
			v.again, v.retried = false, true
			r.routeContent(original, q, v, next)
			return
		}
		later.send()
	}
}

func noManifest(why error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		ociError(w, http.StatusBadRequest, "MANIFEST_INVALID", "the body is not a manifest: "+clip(why.Error()))
	})
}

// afterwards keeps the answer to who writes until it is sent, outside of the
// gate: a client may take it slowly, and that of a manifest can be as large as
// the manifest.
type afterwards struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

// Unwrap lets [http.ResponseController] reach the connection.
func (w *afterwards) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (w *afterwards) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

// Write implements [http.ResponseWriter].
func (w *afterwards) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

func (w *afterwards) send() {
	if w.status != 0 {
		w.ResponseWriter.WriteHeader(w.status)
		w.ResponseWriter.Write(w.body.Bytes()) //nolint:errcheck // the client is gone
	}
}

// comeAgain answers a request whose repository has moved while it waited: by
// the rules in force now it may be somebody else's, or gone.
func comeAgain(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Retry-After", "1")
	ociError(w, http.StatusServiceUnavailable, "UNAVAILABLE", "the namespace of the repository was renamed, made or removed meanwhile; push again, by the repository's present name")
}

// keep returns what takes back a deletion of the manifest that a client who may
// push is told to be there: it will not push it then.
func (r *Registry) keep(q *http.Request, v *visit) func(digest.Digest) error {
	return func(d digest.Digest) error {
		if named, err := digest.Parse(v.reference); err == nil {
			d = named
		}
		err := r.storage.Keep(context.WithoutCancel(q.Context()), v.repository, d)
		if err != nil {
			r.logger.Error("noting that a manifest is asked for failed", "repository", v.repository, "manifest", d, "error", err)
		}
		if q.Method == http.MethodGet { // it has the manifest now, whatever becomes of it
			return nil
		}
		return err
	}
}

// seen tells the gate what its client is told to be there.
type seen struct {
	http.ResponseWriter
	pass *pass
	keep func(digest.Digest) error // of manifests; else nil
}

// Unwrap lets [http.ResponseController] reach the connection.
func (w *seen) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements [http.ResponseWriter]. The body is sent outside of
// the gate, however slowly.
func (w *seen) WriteHeader(status int) {
	if d, err := digest.Parse(w.Header().Get("Docker-Content-Digest")); err == nil && status < http.StatusBadRequest && w.pass.inside {
		w.pass.gate.see(w.pass.repository, d, time.Now())
		if w.keep != nil {
			w.pass.reads = false // what it lists stays with it
			if w.keep(d) != nil {
				clear(w.Header())
				status = http.StatusInternalServerError
			}
		}
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

// pushed is a manifest that a request pushes, read whole before anything is
// done about it.
type pushed struct {
	body     []byte
	manifest storage.Manifest // not Known where it is none
}

// readManifest reads the manifest that a request pushes, into the visit unless
// Distribution would not take it, and lets its body be read again. Where it has
// a subject, the answer notes its place among the subject's referrers before
// the client is told.
func (r *Registry) readManifest(w http.ResponseWriter, q *http.Request, v *visit) http.ResponseWriter {
	body, err := io.ReadAll(io.LimitReader(q.Body, storage.MaxManifest+1))
	rest := io.Reader(q.Body)
	if err != nil {
		rest = failing{err}
	}
	q.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(body), rest), q.Body}
	if err != nil || len(body) > storage.MaxManifest {
		return w
	}
	v.pushed = &pushed{body, storage.ParseManifest(body)}
	if v.pushed.manifest.About() == "" {
		return w
	}
	media, _, err := mime.ParseMediaType(q.Header.Get("Content-Type"))
	if err != nil {
		media = v.pushed.manifest.MediaType
	}
	return &withSubject{ResponseWriter: w, registry: r, request: q, repository: v.repository, pushed: v.pushed, media: media}
}

// failing repeats the error at which reading a body ended.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// withSubject answers a push of a manifest that has a subject.
type withSubject struct {
	http.ResponseWriter
	registry   *Registry
	request    *http.Request
	repository string
	pushed     *pushed
	media      string
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
	subject := w.pushed.manifest.About()
	d, err := digest.Parse(w.Header().Get("Docker-Content-Digest"))
	if err == nil {
		err = w.registry.storage.AddReferrer(w.request.Context(), w.repository, subject, w.pushed.manifest.Descriptor(w.media, d, int64(len(w.pushed.body))))
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
