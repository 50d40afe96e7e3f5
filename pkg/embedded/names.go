package embedded

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/distribution/reference"
)

// maxName is how long a repository's name may be, in bytes: longer ones are no
// references, and a segment of the name is that of a directory.
const maxName = 255

// nameGrammar is that of repository names in the OCI distribution specification.
var nameGrammar = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)

// checkName refuses a repository's name that the request cannot be about.
// Distribution takes some that the specification does not have, such as
// Upper/case: what is stored of them can be read and deleted, and nothing can
// be pushed. Host names with a port it takes for the beginning of a name, and
// then fails.
func checkName(method, name string) error {
	if len(name) > maxName {
		return fmt.Errorf("the name is longer than %d bytes", maxName)
	}
	_, err := reference.WithName(name)
	writes := method != http.MethodGet && method != http.MethodHead && method != http.MethodDelete
	if err != nil || strings.Contains(name, ":") || writes && !nameGrammar.MatchString(name) {
		return errors.New("a name is segments with / between them, of lower-case letters and digits with . _ or - between them; the registry's host is no part of it")
	}
	return nil
}

// named answers requests about what cannot be; it reports whether the request
// may go on.
func named(w http.ResponseWriter, q *http.Request, t target) bool {
	names := []string{t.repository}
	if from := mountedFrom(q, t); from != "" {
		names = append(names, from)
	}
	if t.of == "" || t.of == "base" {
		return true
	}
	for _, name := range names {
		if err := checkName(q.Method, name); err != nil {
			ociError(w, http.StatusBadRequest, "NAME_INVALID", fmt.Sprintf("repository %q: %v", clip(name), err))
			return false
		}
	}
	return true
}

// mountedFrom is the repository from which a blob is to be mounted, "" without
// one.
func mountedFrom(q *http.Request, t target) string {
	if t.of != "upload" || q.Method != http.MethodPost {
		return ""
	}
	return q.URL.Query().Get("from")
}
