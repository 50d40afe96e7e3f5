package embedded

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/distribution/v3/manifest/manifestlist"
	"github.com/distribution/distribution/v3/manifest/schema2"
	"github.com/distribution/distribution/v3/registry/auth"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocisync/ocisync/pkg/embedded/storage"
)

// tagGrammar is that of tags in the OCI distribution specification, and
// uploadGrammar that of Distribution's names of uploads, with a bound.
var (
	tagGrammar    = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	uploadGrammar = regexp.MustCompile(`^[a-zA-Z0-9._=-]{1,128}$`)
)

// permitted answers requests about a repository that their sender may not make,
// and those of which nothing can come, before anything else looks at them; it
// reports whether the request may go on. What it lets through is asked about
// again by Distribution.
func permitted(w http.ResponseWriter, q *http.Request, v *visit) bool {
	if v.repository == "" {
		return true
	}
	switch err := v.authorize(accesses(q, v.target)...); {
	case errors.Is(err, errDenied):
		ociError(w, http.StatusForbidden, "DENIED", v.denied)
		return false
	case err != nil:
		var asked challenge
		errors.As(err, &asked)
		asked.answer(w, "authentication required")
		return false
	}
	if can := methods(v.target); !slices.Contains(can, q.Method) {
		w.Header().Set("Allow", strings.Join(can, ", "))
		ociError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "that cannot be done to it")
		return false
	}
	status, code, why := malformed(q, v.target)
	if status != 0 {
		ociError(w, status, code, why)
	}
	return status == 0
}

// accesses are what Distribution asks for before it serves the request.
func accesses(q *http.Request, t target) []auth.Access {
	to := func(action, repository string) auth.Access {
		return auth.Access{Resource: auth.Resource{Type: "repository", Name: repository}, Action: action}
	}
	var list []auth.Access
	switch {
	case t.of == "catalog":
		return []auth.Access{{Resource: auth.Resource{Type: "registry", Name: "catalog"}, Action: "*"}}
	case t.repository == "":
		return nil
	}
	switch q.Method {
	case http.MethodGet, http.MethodHead:
		list = append(list, to("pull", t.repository))
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		list = append(list, to("pull", t.repository), to("push", t.repository))
	case http.MethodDelete:
		list = append(list, to("delete", t.repository))
	}
	if from := q.URL.Query().Get("from"); from != "" {
		list = append(list, to("pull", from))
	}
	return list
}

// methods are those that a target has.
func methods(t target) []string {
	get, put, remove, all := []string{http.MethodGet}, http.MethodPut, http.MethodDelete, http.MethodOptions
	read := append(get, http.MethodHead)
	switch t.of {
	case "manifest":
		return append(read, put, remove, all)
	case "blob":
		return append(read, remove, all)
	case "upload":
		if t.upload == "" {
			return []string{http.MethodPost, all}
		}
		return append(read, http.MethodPatch, put, remove, all)
	case "referrers":
		return read
	}
	return append(get, all)
}

// ofAnyType makes a request that takes any type, as RFC 9110 has it, name those
// there are: Distribution looks for their names alone.
func ofAnyType(q *http.Request) *http.Request {
	accept := q.Header.Values("Accept")
	takes := len(accept) == 0
	for one := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		media, with, err := mime.ParseMediaType(one)
		weight, none := strconv.ParseFloat(with["q"], 64)
		if err == nil && (media == "*/*" || media == "application/*") && (none != nil || weight > 0) {
			takes = true
		}
	}
	if !takes {
		return q
	}
	q = q.WithContext(q.Context())
	q.Header = q.Header.Clone()
	q.Header["Accept"] = []string{strings.Join(append(slices.Clip(accept),
		imagespec.MediaTypeImageManifest, imagespec.MediaTypeImageIndex, schema2.MediaTypeManifest, manifestlist.MediaTypeManifestList), ", ")}
	return q
}

// malformed says how a request is to be answered that names, or sends, what cannot be;
// status 0 for the others. Distribution would take some of these for names of
// files, and fail.
func malformed(q *http.Request, t target) (status int, code, why string) {
	_, err := digest.Parse(t.reference)
	colon := strings.Contains(t.reference, ":")
	switch {
	case t.of == "upload" && t.upload != "" && !uploadGrammar.MatchString(t.upload):
		return http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "there is no such upload"
	case t.of == "tags":
		if last := q.URL.Query().Get("last"); last != "" && !tagGrammar.MatchString(last) {
			return http.StatusBadRequest, "TAG_INVALID", "last is a tag: letters, digits and _ . - up to 128, and no . or - at the beginning"
		}
	case t.of == "referrers" && err != nil, (t.of == "manifest" || t.of == "blob") && colon && err != nil:
		return http.StatusBadRequest, "DIGEST_INVALID", "the reference is not a digest: " + err.Error()
	case t.of == "blob" && err != nil:
		return http.StatusNotFound, "BLOB_UNKNOWN", "there is no such thing; a blob is named by its digest"
	case t.of == "manifest" && q.Method == http.MethodPut && q.ContentLength > storage.MaxManifest:
		return http.StatusRequestEntityTooLarge, "MANIFEST_INVALID", fmt.Sprintf("a manifest has at most %d bytes", storage.MaxManifest)
	case t.of == "manifest" && err != nil && !tagGrammar.MatchString(t.reference):
		const why = "the reference is neither a digest nor a tag: letters, digits and _ . - up to 128, and no . or - at the beginning"
		if q.Method == http.MethodPut {
			return http.StatusBadRequest, "MANIFEST_INVALID", why
		}
		return http.StatusNotFound, "MANIFEST_UNKNOWN", why
	}
	return 0, "", ""
}
