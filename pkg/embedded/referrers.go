package embedded

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocisync/ocisync/schema"
)

// referrersPage bounds the descriptors in one answer, in bytes: with what is
// around them, what clients take for a manifest.
const referrersPage = maxManifest - 4<<10

// addReferrer notes a manifest among those of its subject. Each has a file of
// its own, so that signers at once lose nothing, and no list grows too large.
func (t tree) addReferrer(ctx context.Context, repo string, subject digest.Digest, d imagespec.Descriptor) error {
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return t.driver.PutContent(ctx, t.referrer(repo, subject, d.Digest), b)
}

func (t tree) referrer(repo string, subject, d digest.Digest) string {
	return path.Join(under(under(t.referrers(repo), subject), d), "descriptor")
}

// fallback returns what clients without the referrers API listed for a subject.
func (t tree) fallback(ctx context.Context, repo string, subject digest.Digest) (map[digest.Digest]imagespec.Descriptor, error) {
	out := map[digest.Digest]imagespec.Descriptor{}
	current, ok, err := t.follow(ctx, path.Join(t.tag(repo, fallbackName(subject)), "current", "link"))
	if err != nil || !ok {
		return out, err
	}
	b, ok, err := t.content(ctx, current, maxManifest)
	if err != nil || !ok {
		return out, err
	}
	if m, ok := parseManifest(b); ok {
		for _, d := range m.Manifests {
			if d.Digest.Validate() == nil {
				out[d.Digest] = d
			}
		}
	}
	return out, nil
}

// page is a part of the list of a subject's referrers, by digest.
type page struct {
	list []imagespec.Descriptor
	more bool
}

// referrersOf lists the manifests there are with a subject that come after
// last, of one type where one is named.
func (t tree) referrersOf(ctx context.Context, repo string, subject digest.Digest, artifactType string, last digest.Digest) (page, error) {
	out := page{list: []imagespec.Descriptor{}}
	listed, err := t.fallback(ctx, repo, subject)
	if err != nil {
		return out, err
	}
	own, err := t.digests(ctx, under(t.referrers(repo), subject))
	if err != nil {
		return out, err
	}
	all := append(own, slices.Collect(maps.Keys(listed))...)
	slices.Sort(all)
	room := referrersPage
	for _, d := range slices.Compact(all) {
		if d <= last {
			continue
		}
		// deleting a manifest leaves what noted it
		_, exists, err := t.stat(ctx, path.Join(under(t.revisions(repo), d), "link"))
		if err != nil {
			return out, err
		}
		if !exists {
			continue
		}
		entry, ok := listed[d]
		b, err := t.driver.GetContent(ctx, t.referrer(repo, subject, d))
		switch {
		case err == nil:
			if err := json.Unmarshal(b, &entry); err != nil {
				return out, fmt.Errorf("referrer %s of %s: %w", d, subject, err)
			}
		case !absent(err):
			return out, err
		case !ok:
			continue
		default:
			if b, err = json.Marshal(entry); err != nil {
				return out, err
			}
		}
		if artifactType != "" && entry.ArtifactType != artifactType {
			continue
		}
		if room -= len(b) + 1; room < 0 && len(out.list) > 0 {
			out.more = true
			return out, nil
		}
		out.list = append(out.list, entry)
	}
	return out, nil
}

// serveReferrers answers GET /v2/NAME/referrers/DIGEST of the OCI distribution
// specification, in pages where the list is large.
func (r *Registry) serveReferrers(w http.ResponseWriter, q *http.Request, v *visit, t place) {
	if !v.who.may(v.rules, schema.Pull, t.repository) {
		if v.who.anonymous() {
			challenge{}.SetHeaders(q, w)
			ociError(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
			return
		}
		ociError(w, http.StatusForbidden, "DENIED", fmt.Sprintf("%s may not pull %s", v.who, t.repository))
		return
	}
	if q.Method != http.MethodGet && q.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		ociError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "referrers can only be read; push a manifest with a subject")
		return
	}
	if _, err := reference.WithName(t.repository); err != nil {
		ociError(w, http.StatusBadRequest, "NAME_INVALID", err.Error())
		return
	}
	subject, err := digest.Parse(t.rest)
	if err != nil {
		ociError(w, http.StatusBadRequest, "DIGEST_INVALID", err.Error())
		return
	}
	query := q.URL.Query()
	artifactType := query.Get("artifactType")
	p, err := r.tree.referrersOf(q.Context(), t.repository, subject, artifactType, digest.Digest(query.Get("last")))
	if err != nil {
		r.logger.Error("listing referrers failed", "repository", t.repository, "subject", subject, "error", err)
		ociError(w, http.StatusInternalServerError, "UNKNOWN", "the referrers could not be listed")
		return
	}
	b, err := json.Marshal(imagespec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imagespec.MediaTypeImageIndex, Manifests: p.list})
	if err != nil {
		ociError(w, http.StatusInternalServerError, "UNKNOWN", "the referrers could not be listed")
		return
	}
	h := w.Header()
	if p.more {
		next := url.Values{"last": {p.list[len(p.list)-1].Digest.String()}}
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
