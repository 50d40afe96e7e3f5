package embedded

import (
	"net/http"
	"strings"

	"github.com/ocisync/ocisync/pkg/token"
)

// target is what a request is about, by its path alone.
type target struct {
	of         string // manifest, blob, upload, tags, referrers, catalog, base, admin, metrics, health, token or ""
	repository string
	reference  string // tag or digest, of a manifest, a blob or a subject
	upload     string // the upload's id; "" where one is to begin
}

// targetOf reads a path, below /v2/ by the rules of Distribution's router: what
// that router serves is what is found here. Names are not checked, and a path
// that it answers with a redirect to the clean one is about nothing.
func targetOf(path string) target {
	rest, content := strings.CutPrefix(path, "/v2/")
	switch {
	case path == "/v2" || path == "/v2/":
		return target{of: "base"}
	case path == "/v2/_catalog":
		return target{of: "catalog"}
	case path == metricsPath:
		return target{of: "metrics"}
	case path == healthPath:
		return target{of: "health"}
	case path == token.Path:
		return target{of: "token"}
	case strings.HasPrefix(path, adminPath):
		return target{of: "admin"}
	case !content:
		return target{}
	}
	parts := strings.Split(rest, "/")
	n := len(parts)
	for i, part := range parts {
		if part == "." || part == ".." || part == "" && i < n-1 {
			return target{}
		}
	}
	// the last words decide: names of repositories may hold them too
	name := func(tail int) string { return strings.Join(parts[:n-tail], "/") }
	last := parts[n-1]
	switch {
	case n >= 4 && parts[n-3] == "blobs" && parts[n-2] == "uploads":
		return target{of: "upload", repository: name(3), upload: last}
	case n < 3 || last == "":
		return target{}
	case parts[n-2] == "manifests":
		return target{of: "manifest", repository: name(2), reference: last}
	case parts[n-2] == "blobs":
		return target{of: "blob", repository: name(2), reference: last}
	case parts[n-2] == "referrers":
		return target{of: "referrers", repository: name(2), reference: last}
	case parts[n-2] == "tags" && last == "list":
		return target{of: "tags", repository: name(2)}
	}
	return target{}
}

// action names what a request does, as the audit log does.
func (t target) action(method string) string {
	switch {
	case t.of == "admin" || t.of == "metrics":
		return "admin"
	case t.of == "base" || t.of == "token":
		return "login"
	case t.repository == "":
		return "list"
	case t.of == "upload":
		return "push"
	case method == http.MethodGet || method == http.MethodHead:
		return "pull"
	case method == http.MethodDelete:
		return "delete"
	}
	return "push"
}
