package embedded

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
)

// serveReferrers answers, to who may pull, GET /v2/NAME/referrers/DIGEST of the OCI distribution
// specification, in pages where the list is large.
func (r *Registry) serveReferrers(w http.ResponseWriter, q *http.Request, v *visit) {
	subject := digest.Digest(v.reference)
	query := q.URL.Query()
	artifactType := query.Get("artifactType")
	p, err := r.storage.Referrers(q.Context(), v.repository, subject, artifactType, digest.Digest(query.Get("last")))
	if err != nil {
		r.logger.Error("listing referrers failed", "repository", v.repository, "subject", subject, "error", err)
		ociError(w, http.StatusInternalServerError, "UNKNOWN", "the referrers could not be listed")
		return
	}
	b, err := json.Marshal(imagespec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imagespec.MediaTypeImageIndex, Manifests: p.List})
	if err != nil {
		ociError(w, http.StatusInternalServerError, "UNKNOWN", "the referrers could not be listed")
		return
	}
	h := w.Header()
	if p.More {
		next := url.Values{"last": {p.List[len(p.List)-1].Digest.String()}}
		if artifactType != "" {
			next.Set("artifactType", artifactType)
		}
		h.Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, strings.TrimSuffix(q.URL.EscapedPath(), "/"), next.Encode()))
	}
	if artifactType != "" {
		h.Set("OCI-Filters-Applied", "artifactType")
	}
	h.Set("Content-Type", imagespec.MediaTypeImageIndex)
	h.Set("X-Content-Type-Options", "nosniff")
	w.Write(b) //nolint:errcheck // the client is gone
}
