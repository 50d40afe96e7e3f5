package embedded

import (
	"encoding/json"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxManifest is what Distribution takes for a manifest, in bytes.
const maxManifest = 4 << 20

// manifest is what collection and referrers need of a manifest or index, of
// any of the formats there have been.
type manifest struct {
	MediaType    string                 `json:"mediaType"`
	ArtifactType string                 `json:"artifactType"`
	Config       *imagespec.Descriptor  `json:"config"`
	Layers       []imagespec.Descriptor `json:"layers"`
	Blobs        []imagespec.Descriptor `json:"blobs"` // of an artifact manifest, a format that was given up
	Manifests    []imagespec.Descriptor `json:"manifests"`
	Subject      *imagespec.Descriptor  `json:"subject"`
	Annotations  map[string]string      `json:"annotations"`
	FSLayers     []struct {
		BlobSum digest.Digest `json:"blobSum"`
	} `json:"fsLayers"` // of Docker's first format
}

// parseManifest reports false for what is none of the formats.
func parseManifest(b []byte) (manifest, bool) {
	var m manifest
	if json.Unmarshal(b, &m) != nil {
		return manifest{}, false
	}
	return m, m.Config != nil || m.Layers != nil || m.Blobs != nil || m.Manifests != nil || m.FSLayers != nil
}

// index reports whether it lists manifests, and thus can be what clients of a
// registry without the referrers API keep under a fallback tag.
func (m manifest) index() bool { return m.Manifests != nil }

// subject is the digest of what the manifest is about, "" without one.
func (m manifest) subject() digest.Digest {
	if m.Subject == nil || m.Subject.Digest.Validate() != nil {
		return ""
	}
	return m.Subject.Digest
}

// contents are the blobs a manifest is made of.
func (m manifest) contents() []digest.Digest {
	var out []digest.Digest
	if m.Config != nil {
		out = append(out, m.Config.Digest)
	}
	for _, l := range m.Layers {
		out = append(out, l.Digest)
	}
	for _, l := range m.Blobs {
		out = append(out, l.Digest)
	}
	for _, l := range m.FSLayers {
		out = append(out, l.BlobSum)
	}
	return out
}

// descriptor is what a list of referrers says of the manifest.
func (m manifest) descriptor(media string, d digest.Digest, size int64) imagespec.Descriptor {
	out := imagespec.Descriptor{MediaType: media, Digest: d, Size: size, ArtifactType: m.ArtifactType, Annotations: m.Annotations}
	if out.ArtifactType == "" && m.Config != nil {
		out.ArtifactType = m.Config.MediaType
	}
	return out
}

var fallbackTag = regexp.MustCompile(`^(sha256|sha384|sha512)-([0-9a-f]+)$`)

// fallbackSubject is the subject that a tag of the referrers fallback scheme
// names, by the OCI distribution specification; "" for any other tag.
func fallbackSubject(tag string) digest.Digest {
	m := fallbackTag.FindStringSubmatch(tag)
	if m == nil {
		return ""
	}
	d := digest.NewDigestFromEncoded(digest.Algorithm(m[1]), m[2])
	if d.Validate() != nil {
		return ""
	}
	return d
}

func fallbackName(subject digest.Digest) string {
	return strings.Replace(subject.String(), ":", "-", 1)
}
