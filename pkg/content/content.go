// Package content moves what registries hold: images, indexes, artifacts and what
// refers to them, with every digest as it was.
//
// [Open] reaches a registry, [LayoutDir] and [Archive] an OCI layout; [Copier] brings
// repositories from one [Source] to a [Target], and [Push] an [Artifact]. Begin with
// copy.go, which decides what is asked and sent, and blobs.go, which sends.
//
// Requests are what a copy costs, not bytes alone. So nothing is asked that can win
// nothing: a blob is fetched once for all repositories and mounted in the others, an
// upload is one POST and one PUT with a length, a manifest at the destination is never
// got (registries count that as a pull), and a tag that is there already is one HEAD at
// each side, or none where [Registry.Look] told of it with many others.
package content

import (
	"errors"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// maxManifest bounds a manifest, in bytes: registries refuse larger ones
// (OCI distribution specification, "Pushing Manifests").
const maxManifest = 4 << 20

// Errors of content that is not what it is said to be.
var (
	// ErrDigest is content with another digest, or of another length.
	ErrDigest = errors.New("it is not what its digest says")
	// ErrManifest is no manifest, or one that cannot be copied.
	ErrManifest = errors.New("it is no manifest that can be copied")
	// ErrAbsent is a reference that is not there.
	ErrAbsent = errors.New("it is not there")
)

// Reference is a tag or a digest in a repository.
type Reference struct {
	Repository string
	Tag        string // "" where Digest says what is meant
	Digest     v1.Hash
}

// String is it as people write it: name:tag or name@digest.
func (r Reference) String() string {
	switch {
	case r.Repository == "" && r.Tag != "":
		return r.Tag
	case r.Tag != "":
		return r.Repository + ":" + r.Tag
	case r.Digest != v1.Hash{}:
		return r.Repository + "@" + r.Digest.String()
	}
	return r.Repository
}

// name is how an address says it.
func (r Reference) name() string {
	if r.Tag != "" {
		return r.Tag
	}
	return r.Digest.String()
}

// manifest is one as it is stored.
type manifest struct {
	mediaType types.MediaType
	digest    v1.Hash
	bytes     []byte
}
