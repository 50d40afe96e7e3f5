package harbortest

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The media types of manifests that are not OCI's.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// manifest is what of one counts here.
type manifest struct {
	Version      int                  `json:"schemaVersion"`
	MediaType    string               `json:"mediaType"`
	ArtifactType string               `json:"artifactType"`
	Config       ocispec.Descriptor   `json:"config"`
	Layers       []ocispec.Descriptor `json:"layers"`
	Manifests    []ocispec.Descriptor `json:"manifests"`
	Subject      *ocispec.Descriptor  `json:"subject"`
	Annotations  map[string]string    `json:"annotations"`

	kind string // the media type that it was sent as
}

func isIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == dockerList
}

// parseManifest reads one, or says why it is none.
func parseManifest(contentType string, raw []byte) (*manifest, error) {
	m := &manifest{}
	kind, _, _ := mime.ParseMediaType(contentType)
	var has map[string]json.RawMessage
	switch {
	case kind != ocispec.MediaTypeImageManifest && kind != dockerManifest && !isIndex(kind):
		return nil, errors.New("missing signature key") // it takes it for one of schema 1
	case json.Unmarshal(raw, &has) != nil:
		return nil, json.Unmarshal(raw, &has)
	case json.Unmarshal(raw, m) != nil:
		return nil, json.Unmarshal(raw, m)
	case kind == ocispec.MediaTypeImageIndex && (has["config"] != nil || has["layers"] != nil):
		return nil, errors.New("index: expected index but found manifest")
	case kind == ocispec.MediaTypeImageManifest && has["manifests"] != nil:
		return nil, errors.New("ocimanifest: expected manifest but found index")
	case m.MediaType != "" && m.MediaType != kind:
		return nil, fmt.Errorf("if present, mediaType in manifest should be '%s' not '%s'", kind, m.MediaType)
	}
	m.kind = kind
	return m, nil
}

// own is how many bytes a manifest adds, with its blobs.
func (m *manifest) own(raw []byte) int64 {
	size := int64(len(raw)) + m.Config.Size
	for _, d := range m.Layers {
		size += d.Size
	}
	return size
}

// missing are the parts of a manifest that the registry has not in a repository.
// What has an address elsewhere may be absent.
func (b *backend) missing(repository string, m *manifest) (list []problem) {
	unknown := func(d ocispec.Descriptor) problem {
		return problem{"MANIFEST_BLOB_UNKNOWN", "blob unknown to registry", d.Digest.String()}
	}
	if isIndex(m.kind) {
		for _, d := range m.Manifests {
			if !b.manifests[repository][d.Digest.String()] && !b.blobs[repository][d.Digest.String()] {
				list = append(list, unknown(d))
			}
		}
		return list
	}
	if m.Config.Digest == "" {
		list = append(list, problem{Code: "DIGEST_INVALID", Message: "provided digest did not match uploaded content"})
	}
	for _, d := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if !b.blobs[repository][d.Digest.String()] && len(d.URLs) == 0 {
			list = append(list, unknown(d))
		}
	}
	return list
}

// isDigest says whether a reference is a digest; what is none is a tag.
func isDigest(reference string) bool { return digest.Digest(reference).Validate() == nil }

// putManifest makes an artifact of what was pushed.
func (s *Server) putManifest(c *call, p *project, at target) (answer, error) {
	m, err := parseManifest(c.r.Header.Get("Content-Type"), c.raw)
	if err != nil {
		return answer{}, refuse(http.StatusBadRequest, "MANIFEST_INVALID", "unmarshal manifest failed: %v", err)
	}
	named := digest.FromBytes(c.raw).String()
	image := Image{Repository: at.repository, Digest: named, Size: m.own(c.raw)}
	if !isDigest(at.which) {
		image.Tags = []string{at.which}
	}
	if err := s.checkPush(p, image); err != nil {
		return answer{}, err
	}
	missing := s.behind.missing(at.repository, m)
	switch {
	case image.Tags == nil && at.which != named:
		return problems(http.StatusBadRequest, problem{Code: "DIGEST_INVALID", Message: "provided digest did not match uploaded content"})
	case m.Version != 2:
		return problems(http.StatusInternalServerError, problem{"UNKNOWN", "unknown error", struct{}{}})
	case missing != nil:
		return problems(http.StatusBadRequest, missing...)
	}
	// the registry has it from here on, whatever Harbor says
	put(s.behind.manifests, at.repository, named)
	parts, size, err := s.parts(at.repository, named, m)
	switch {
	case err != nil:
		return answer{}, err
	case image.Tags != nil && !regexp.MustCompile(`^[\w][\w.-]{0,127}$`).MatchString(at.which):
		return answer{}, badRequest("bad request: invalid tag name: %s", at.which)
	}
	c.r.Header.Set("Content-Type", m.kind)
	a := s.stored(c, "/v2/"+at.repository+"/manifests/"+named)
	if a.status != http.StatusCreated {
		return a, nil
	}
	for _, d := range append(slices.Clone(m.Layers), m.Config) {
		s.blobs[d.Digest.String()] = true
	}
	made := s.take(p, image)
	made.kind, made.length, made.parts, made.size = m.kind, int64(len(c.raw)), parts, image.Size+size
	made.artifactType, made.mediaType, made.annotations = m.ArtifactType, m.Config.MediaType, m.Annotations
	switch {
	case isIndex(m.kind):
		made.mediaType = m.kind
	case m.ArtifactType == "":
		made.artifactType = m.Config.MediaType
	}
	if m.Subject != nil {
		made.refer(m.Subject.Digest.String(), subjectKind(m))
		a.header["Oci-Subject"] = m.Subject.Digest.String()
	}
	if signed := signedBy(at.which, m); signed != "" {
		made.refer(signed, "signature.cosign")
	}
	s.count(p)
	a.header["Location"] = c.atHost("/v2/" + at.repository + "/manifests/" + named)
	return a, nil
}

// parts are what an index is of, and their bytes. Harbor wants each to be an
// artifact, and not twice.
func (s *Server) parts(repository, named string, m *manifest) (parts []ocispec.Descriptor, size int64, err error) {
	if !isIndex(m.kind) {
		return nil, 0, nil
	}
	r := s.repositories.named(repository)
	for _, d := range m.Manifests {
		var part *artifact
		if r != nil {
			part = r.withDigest(d.Digest.String())
		}
		switch {
		case part == nil:
			return nil, 0, notFound("artifact %s@%s not found", repository, d.Digest)
		case slices.ContainsFunc(parts, func(other ocispec.Descriptor) bool { return other.Digest == d.Digest }):
			return nil, 0, notFound("artifact %s@%s not found", repository, named)
		}
		parts, size = append(parts, d), size+part.size
	}
	return parts, size, nil
}

// subjectKind is the kind of accessory that what has a subject is.
func subjectKind(m *manifest) string {
	of := m.ArtifactType
	if of == "" {
		of = m.Config.MediaType
	}
	switch of {
	case "application/vnd.cncf.notary.signature":
		return "signature.notation"
	case "application/vnd.dev.cosign.artifact.sig.v1+json", "application/vnd.dev.sigstore.bundle.v0.3+json":
		return "signature.cosign"
	case "application/vnd.goharbor.harbor.sbom.v1":
		return "sbom.harbor"
	}
	return "subject.accessory"
}

// signedBy is the digest of what a tag of cosign signs, if it is one and what it
// stands for is a signature.
func signedBy(tag string, m *manifest) string {
	hex := regexp.MustCompile(`^sha256-([a-f0-9]{64})\.sig$`).FindStringSubmatch(tag)
	signs := func(d ocispec.Descriptor) bool {
		return d.MediaType == "application/vnd.dev.cosign.simplesigning.v1+json"
	}
	if hex == nil || !slices.ContainsFunc(append(slices.Clone(m.Layers), m.Config), signs) {
		return ""
	}
	return "sha256:" + hex[1]
}

// reference finds the artifact that a tag or digest stands for.
func (s *Server) reference(at target) (*repository, *artifact, error) {
	r := s.repositories.named(at.repository)
	if isDigest(at.which) {
		if r != nil {
			if a := r.withDigest(at.which); a != nil {
				return r, a, nil
			}
		}
		return nil, nil, notFound("artifact %s@%s not found", at.repository, at.which)
	}
	if r == nil {
		return nil, nil, notFound("repository %s not found", at.repository)
	}
	if a := r.tagged(at.which); a != nil {
		return r, a, nil
	}
	return nil, nil, notFound("artifact %s:%s not found", at.repository, at.which)
}

// accepts says whether a client takes a media type. The registry behind Harbor takes
// no */* for OCI's.
func accepts(r *http.Request, mediaType string) bool {
	for _, value := range r.Header["Accept"] {
		for part := range strings.SplitSeq(value, ",") {
			if kind, _, err := mime.ParseMediaType(part); err == nil && kind == mediaType {
				return true
			}
		}
	}
	return false
}

func (s *Server) getManifest(c *call, at target) (answer, error) {
	r, a, err := s.reference(at)
	if err != nil {
		return answer{}, err
	}
	for kind, name := range map[string][2]string{ocispec.MediaTypeImageManifest: {"manifest", "manifests"}, ocispec.MediaTypeImageIndex: {"index", "indexes"}} {
		if a.kind == kind && !accepts(c.r, kind) {
			return problems(http.StatusNotFound, problem{Code: "MANIFEST_UNKNOWN", Message: "OCI " + name[0] + " found, but accept header does not support OCI " + name[1]})
		}
	}
	if c.r.Method == http.MethodGet {
		r.pulls++
		a.pulled = s.now()
	}
	m := s.stored(c, "/v2/"+r.name+"/manifests/"+a.digest)
	if m.status == http.StatusOK {
		m.header["Etag"] = strconv.Quote(a.digest)
	}
	return m, nil
}

func (s *Server) deleteManifest(at target) (answer, error) {
	if err := digest.Digest(at.which).Validate(); err != nil {
		return answer{}, refuse(http.StatusBadRequest, "UNSUPPORTED", "unsupported digest %s: %v", at.which, err)
	}
	r, a, err := s.reference(at)
	if err != nil {
		return answer{}, err
	}
	if err := s.removeArtifact(r, a); err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusAccepted, header: map[string]string{"Content-Type": ""}}, nil
}

// listReferrers lists the accessories of a digest, whether there is such a one or not.
func (s *Server) listReferrers(c *call, at target) (answer, error) {
	if err := digest.Digest(at.which).Validate(); err != nil {
		return answer{}, badRequest("unsupported digest %s: %v", at.which, err)
	}
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	index.SchemaVersion = 2
	wanted, total := c.query.Get("artifactType"), 0
	if r := s.repositories.named(at.repository); r != nil {
		for _, a := range r.accessories(at.which) {
			total++
			if wanted == "" || wanted == a.artifactType {
				index.Manifests = append(index.Manifests, ocispec.Descriptor{
					MediaType: a.kind, Digest: digest.Digest(a.digest), Size: a.length, Annotations: a.annotations, ArtifactType: a.artifactType,
				})
			}
		}
	}
	header := map[string]string{"Content-Type": ocispec.MediaTypeImageIndex, "X-Total-Count": strconv.Itoa(total)}
	if wanted != "" {
		header["OCI-Filters-Applied"] = "artifactType"
	}
	return answer{status: http.StatusOK, header: header, body: index}, nil
}
