package embedded

import (
	"net/http"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/schema"
)

// serveBlob answers a pull of a blob as Distribution does, but from the file it
// lies in, which the system copies to the connection; Distribution would read
// every blob, however small, through a buffer of 4 MiB of its own. It reports
// false for whatever Distribution is to answer: all that is not allowed, not
// there or not well.
func (r *Registry) serveBlob(w http.ResponseWriter, q *http.Request, v *visit) bool {
	d, err := digest.Parse(v.reference)
	if err != nil || !v.who.may(v.rules, schema.Pull, v.repository) {
		return false
	}
	if _, err := reference.WithName(v.repository); err != nil {
		return false
	}
	content, target, err := r.storage.OpenLayer(q.Context(), v.repository, d)
	if err != nil || content == nil {
		return false
	}
	defer content.Close()
	h := w.Header()
	h.Set("Docker-Distribution-Api-Version", "registry/2.0")
	h.Set("Docker-Content-Digest", target.String())
	h.Set("Etag", `"`+target.String()+`"`)
	h.Set("Cache-Control", "max-age=31536000")
	h.Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, q, "", time.Time{}, content)
	return true
}
