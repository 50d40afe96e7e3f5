package embedded

import (
	"io"
	"net/http"
	"runtime"

	"github.com/opencontainers/go-digest"
)

const (
	// largeManifest is how much of a manifest, in bytes, is kept in memory while
	// its client takes it.
	largeManifest = 256 << 10
	// readsFromBucket is how many manifests are read at once from a bucket, which
	// takes a while to answer.
	readsFromBucket = 64
)

// manifestReads is how many manifests Distribution may read at once: for one of
// 4 MiB it takes 15.
func manifestReads(inBucket bool) int {
	if inBucket {
		return readsFromBucket
	}
	return max(8, 4*runtime.GOMAXPROCS(0))
}

// withheld keeps what Distribution answers to who asks for a manifest until it
// has forgotten all it read for that; of a large one only which it is.
type withheld struct {
	http.ResponseWriter
	status int
	body   []byte
	large  digest.Digest
}

// Unwrap lets [http.ResponseController] reach the connection.
func (w *withheld) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (w *withheld) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

// Write implements [http.ResponseWriter].
func (w *withheld) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if d, err := digest.Parse(w.Header().Get("Docker-Content-Digest")); err == nil && w.status == http.StatusOK && len(w.body) == 0 && len(b) > largeManifest {
		w.large = d
		return len(b), nil
	}
	w.body = append(w.body, b...)
	return len(b), nil
}

// serveManifest lets a manifest be read when few others are, and sends it after
// that, however slowly its client takes it.
func (r *Registry) serveManifest(w http.ResponseWriter, q *http.Request, next http.Handler) {
	select {
	case r.reads <- struct{}{}:
	case <-q.Context().Done():
		return
	}
	held := &withheld{ResponseWriter: w}
	func() {
		defer func() { <-r.reads }()
		next.ServeHTTP(held, q)
	}()
	switch {
	case held.status == 0:
	case held.large == "" || q.Method == http.MethodHead:
		w.WriteHeader(held.status)
		w.Write(held.body) //nolint:errcheck // the client is gone
	default:
		content, err := r.storage.OpenBlob(q.Context(), held.large)
		if err != nil {
			r.logger.Error("reading a manifest failed", "manifest", held.large, "error", err)
			clear(w.Header())
			ociError(w, http.StatusInternalServerError, "UNKNOWN", "the manifest could not be read; try again")
			return
		}
		defer content.Close()
		w.WriteHeader(held.status)
		io.Copy(w, content) //nolint:errcheck // the client is gone
	}
}
