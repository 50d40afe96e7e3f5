package harbortest

import (
	"net/http"

	"github.com/opencontainers/go-digest"
)

// A blob is in two places: the registry behind Harbor has it for a repository, and
// Harbor has written down in a table of its own that there is such a one, anywhere.
// A push that was cut off can leave it in the first alone.

// atHost is an address below this Harbor, as the registry behind it gives them.
func (c *call) atHost(path string) string {
	scheme := "http"
	if c.r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + c.r.Host + path
}

// beginUpload begins one, unless the blob can be mounted from where it is. Of one
// that the registry mounted and Harbor does not know it says that it is not found,
// whether from another repository or the same.
func (s *Server) beginUpload(c *call, p *project, at target, from string) (answer, error) {
	mount := c.query.Get("mount")
	switch {
	case mount == "" && s.exceeds(p.quota, 0):
		return answer{}, refuse(http.StatusForbidden, "DENIED", "subtracting 0 B of storage resource, which when updated to current usage of %d B will exceed the configured upper limit of %d B.", p.quota.used, p.quota.hard)
	case mount != "" && s.behind.blobs[from][mount]:
		put(s.behind.blobs, at.repository, mount)
		if !s.blobs[mount] {
			return answer{}, notFound("blob %s not found", mount)
		}
		a := answer{status: http.StatusCreated, header: bare()}
		a.header["Docker-Content-Digest"], a.header["Location"] = mount, c.atHost("/v2/"+at.repository+"/blobs/"+mount)
		return a, nil
	}
	c.r.URL.RawQuery = "" // it takes no blob with the request that begins
	return s.upload(c, at)
}

// upload goes on with one, and writes down what is whole.
func (s *Server) upload(c *call, at target) (answer, error) {
	a := s.stored(c, c.r.URL.Path)
	if location := a.header["Location"]; location != "" {
		a.header["Location"] = c.atHost(location) + "?_state=s"
	}
	if c.r.Method == http.MethodPut && a.status == http.StatusCreated {
		blob := c.query.Get("digest")
		put(s.behind.blobs, at.repository, blob)
		s.blobs[blob] = s.blobs[blob] || !c.cut
		a.header["Location"] = c.atHost("/v2/" + at.repository + "/blobs/" + blob)
	}
	return a, nil
}

func (s *Server) getBlob(c *call, at target) (answer, error) {
	switch {
	case digest.Digest(at.which).Validate() != nil:
		return problems(http.StatusBadRequest, problem{"DIGEST_INVALID", "provided digest did not match uploaded content", struct{}{}})
	case c.r.Method == http.MethodHead && !s.blobs[at.which]:
		return answer{}, notFound("blob %s not found", at.which)
	case !s.behind.blobs[at.repository][at.which]:
		return problems(http.StatusNotFound, problem{"BLOB_UNKNOWN", "blob unknown to registry", at.which})
	}
	a := s.stored(c, c.r.URL.Path)
	a.header["Content-Type"] = "application/octet-stream"
	return a, nil
}

// deleteBlob takes a blob from a repository. Others may have it still.
func (s *Server) deleteBlob(at target) (answer, error) {
	if !s.behind.blobs[at.repository][at.which] {
		return problems(http.StatusNotFound, problem{Code: "BLOB_UNKNOWN", Message: "blob unknown to registry"})
	}
	delete(s.behind.blobs[at.repository], at.which)
	return answer{status: http.StatusAccepted, header: bare()}, nil
}
