package storage

import (
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
)

// root is where Distribution keeps all it stores, in every driver. The layout
// below it is that of its registry/storage/paths.go.
const root = "/docker/registry/v2"

const (
	blobsDir        = root + "/blobs"
	repositoriesDir = root + "/repositories"
)

func inRepository(name string, parts ...string) string {
	return path.Join(append([]string{repositoriesDir, name}, parts...)...)
}

func manifestsDir(repo string) string { return inRepository(repo, "_manifests") }
func revisionsDir(repo string) string { return inRepository(repo, "_manifests/revisions") }
func tagsDir(repo string) string      { return inRepository(repo, "_manifests/tags") }
func layersDir(repo string) string    { return inRepository(repo, "_layers") }
func uploadsDir(repo string) string   { return inRepository(repo, "_uploads") }

func tagLink(repo, tag string) string { return path.Join(tagsDir(repo), tag, "current", "link") }

// historyDir holds what a tag is and was.
func historyDir(repo, tag string) string { return path.Join(tagsDir(repo), tag, "index") }

// referrersDir is of our own: below it lies, by subject and digest, the
// descriptor of each manifest with that subject. A stock Distribution passes
// over it, as over all whose name begins with an underscore.
func referrersDir(repo string) string { return inRepository(repo, "_referrers") }

// deletedDir is of our own too: below it lies, by digest, what was deleted.
func deletedDir(repo string) string { return inRepository(repo, "_deleted") }

// under is the directory of a digest below another.
func under(dir string, d digest.Digest) string {
	return path.Join(dir, d.Algorithm().String(), d.Encoded())
}

func linkIn(dir string, d digest.Digest) string { return path.Join(under(dir, d), "link") }

func blobDir(d digest.Digest) string {
	return path.Join(blobsDir, d.Algorithm().String(), d.Encoded()[:2], d.Encoded())
}

func blobData(d digest.Digest) string { return path.Join(blobDir(d), "data") }

// special reports whether a name in a repository's directory is not that of
// another repository below it.
func special(name string) bool { return strings.HasPrefix(name, "_") }
