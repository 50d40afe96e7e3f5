package storage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/distribution/distribution/v3/manifest/schema2"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
)

// MaxManifest is what Distribution takes for a manifest, in bytes.
const MaxManifest = 4 << 20

// Manifest is what ocisync needs of a manifest or index, of any of the formats
// there have been.
type Manifest struct {
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType"`
	Config       *Descriptor       `json:"config"`
	Layers       Descriptors       `json:"layers"`
	Blobs        Descriptors       `json:"blobs"` // of an artifact manifest, a format that was given up
	Manifests    Descriptors       `json:"manifests"`
	Subject      *Descriptor       `json:"subject"`
	Annotations  map[string]string `json:"annotations"`
	FSLayers     []struct {
		BlobSum digest.Digest `json:"blobSum"`
	} `json:"fsLayers"` // of Docker's first format
}

// Descriptor is what a manifest says of other content.
type Descriptor struct {
	imagespec.Descriptor
	// Data hides that of the descriptor, which is not read: of what is no base64 the
	// decoder would read nothing else of the manifest either.
	Data json.RawMessage `json:"data"`
}

// Descriptors is a list that is there also where it is null, as clients in Go write
// one without elements; nil where it is not there.
type Descriptors []Descriptor

// UnmarshalJSON implements [json.Unmarshaler]. What it fails at is read no further, so
// that it does not where an element is odd.
func (l *Descriptors) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*l = Descriptors{}
		return nil
	}
	err := json.Unmarshal(b, (*[]Descriptor)(l))
	if odd := (*json.UnmarshalTypeError)(nil); errors.As(err, &odd) {
		return nil
	}
	return err
}

// ParseManifest reads a manifest. What is none of the formats is not Known. A property
// of another type than it should have, such as one that a format does not know, is as
// one that is not there: the others count.
func ParseManifest(b []byte) Manifest {
	var m Manifest
	err := json.Unmarshal(b, &m)
	if odd := (*json.UnmarshalTypeError)(nil); err != nil && !errors.As(err, &odd) || !m.Known() {
		return Manifest{}
	}
	return m
}

// CheckManifest refuses what is no manifest of any format, and one that names
// what no digest can be. Distribution would fail at some of it. Children and
// subjects may have digests of an algorithm that is unknown here: they need not
// be there.
func CheckManifest(b []byte) error {
	var top struct {
		SchemaVersion int `json:"schemaVersion"`
	}
	if !bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("{")) || json.Unmarshal(b, &top) != nil {
		return errors.New("it is no JSON object with a schemaVersion")
	}
	if top.SchemaVersion != 2 {
		return fmt.Errorf("its schemaVersion is %d; it must be 2", top.SchemaVersion)
	}
	if twice := ambiguous(b); twice != "" {
		return fmt.Errorf("it has %q twice in one object, in capitals or not: clients would not agree on what it says", twice)
	}
	m := ParseManifest(b)
	if !m.Known() {
		return errors.New("it has neither a config nor layers nor manifests: no format is like that")
	}
	contents := slices.Concat(m.Layers, m.Blobs)
	if m.Config != nil {
		contents = append(contents, *m.Config)
	}
	others := slices.Clone(m.Manifests)
	if m.Subject != nil {
		others = append(others, *m.Subject)
	}
	for _, d := range contents {
		if err := d.Digest.Validate(); err != nil {
			return fmt.Errorf("it names a blob by %q: %w", d.Digest, err)
		}
	}
	for _, d := range contents {
		if err := checkURLs(d); err != nil {
			return err
		}
	}
	for _, d := range others {
		if err := d.Digest.Validate(); err != nil && !errors.Is(err, digest.ErrDigestUnsupported) {
			return fmt.Errorf("it names a manifest by %q: %w", d.Digest, err)
		}
	}
	return nil
}

// checkURLs refuses the addresses of a layer that is elsewhere at which Distribution
// fails.
func checkURLs(d Descriptor) error {
	if d.MediaType == schema2.MediaTypeForeignLayer && len(d.URLs) == 0 {
		return fmt.Errorf("layer %s is elsewhere, and no URL says where", d.Digest)
	}
	for _, text := range d.URLs {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Fragment != "" {
			return fmt.Errorf("layer %s: %q is no http or https URL, or has a fragment", d.Digest, text)
		}
	}
	return nil
}

// ambiguous finds a key that the manifest, or a descriptor of it, has twice, by the lax
// eyes of encoding/json, which takes the last one in whatever case: what it does not see
// is not kept for those who read exactly. "" for none. Properties that nobody knows may
// be as they are; the image specification wants no error for them.
func ambiguous(b []byte) string {
	type object struct {
		known map[string]bool // the keys that count, folded, and whether they were there; nil of an array
		value bool            // a value comes next, and not a key
		next  []string        // the keys that count of the value that comes next
	}
	top := []string{"mediaType", "artifactType", "config", "layers", "blobs", "manifests", "subject", "annotations", "fsLayers", "schemaVersion"}
	descriptor := []string{"mediaType", "artifactType", "digest", "size", "urls", "annotations", "data", "platform", "blobSum"}
	folded := func(keys []string) map[string]bool {
		out := map[string]bool{}
		for _, k := range keys {
			out[fold(k)] = false
		}
		return out
	}
	holds := folded([]string{"config", "layers", "blobs", "manifests", "subject", "fsLayers"})
	open := []object{{next: top}}
	d := json.NewDecoder(bytes.NewReader(b))
	for {
		t, err := d.Token()
		if err != nil {
			return "" // at the end, at the latest
		}
		in := &open[len(open)-1]
		name, text := t.(string)
		switch {
		case t == json.Delim('{'):
			open = append(open, object{known: folded(in.next)})
			continue
		case t == json.Delim('['):
			open = append(open, object{next: in.next})
			continue
		case t == json.Delim('}'), t == json.Delim(']'):
			open = open[:len(open)-1]
			in = &open[len(open)-1]
		case text && in.known != nil && !in.value:
			key := fold(name)
			twice, counts := in.known[key]
			if counts && twice {
				return name
			}
			if counts {
				in.known[key] = true
			}
			in.value, in.next = true, nil
			if _, is := holds[key]; is && len(open) == 2 {
				in.next = descriptor
			}
			continue
		}
		in.value = false
	}
}

// fold is the same for all names that encoding/json takes for one.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		least := unicode.ToLower(r)
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return min(least, r)
	}, name)
}

// Known reports whether the manifest is of one of the formats: of another it
// cannot be told what it needs.
func (m Manifest) Known() bool {
	return m.Config != nil || m.Layers != nil || m.Blobs != nil || m.Manifests != nil || m.FSLayers != nil
}

// Index reports whether it lists manifests, and thus can be what clients of a
// registry without the referrers API keep under a fallback tag.
func (m Manifest) Index() bool { return m.Manifests != nil && m.Config == nil }

// About is the digest of the manifest's subject, "" without one.
func (m Manifest) About() digest.Digest {
	if m.Subject == nil || m.Subject.Digest.Validate() != nil {
		return ""
	}
	return m.Subject.Digest
}

// Contents are the blobs a manifest is made of, sorted, each once.
func (m Manifest) Contents() []digest.Digest {
	var out []digest.Digest
	if m.Config != nil {
		out = append(out, m.Config.Digest)
	}
	for _, l := range slices.Concat(m.Layers, m.Blobs) {
		out = append(out, l.Digest)
	}
	for _, l := range m.FSLayers {
		out = append(out, l.BlobSum)
	}
	return valid(out)
}

// Children are the manifests that an index lists, sorted, each once.
func (m Manifest) Children() []digest.Digest {
	out := make([]digest.Digest, len(m.Manifests))
	for i, c := range m.Manifests {
		out[i] = c.Digest
	}
	return valid(out)
}

func valid(list []digest.Digest) []digest.Digest {
	list = slices.DeleteFunc(list, func(d digest.Digest) bool { return d.Validate() != nil })
	slices.Sort(list)
	return slices.Compact(list)
}

// Descriptor is what a list of referrers says of the manifest.
func (m Manifest) Descriptor(media string, d digest.Digest, size int64) imagespec.Descriptor {
	out := imagespec.Descriptor{MediaType: media, Digest: d, Size: size, ArtifactType: m.ArtifactType, Annotations: m.Annotations}
	if out.ArtifactType == "" && m.Config != nil {
		out.ArtifactType = m.Config.MediaType
	}
	return out
}

var fallbackTag = regexp.MustCompile(`^(sha256|sha384|sha512)-([0-9a-f]+)(\.[a-z]+)?$`)

// FallbackSubject is the subject of a tag that stands for referrers: of the
// fallback scheme of the OCI distribution specification or, with an ending, of
// cosign, such as .sig, .att and .sbom. It is "" for any other tag.
func FallbackSubject(tag string) (subject digest.Digest, ending string) {
	m := fallbackTag.FindStringSubmatch(tag)
	if m == nil {
		return "", ""
	}
	d := digest.NewDigestFromEncoded(digest.Algorithm(m[1]), m[2])
	if d.Validate() != nil {
		return "", ""
	}
	return d, m[3]
}

func fallbackName(subject digest.Digest) string {
	return strings.Replace(subject.String(), ":", "-", 1)
}
