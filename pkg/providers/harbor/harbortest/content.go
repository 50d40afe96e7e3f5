package harbortest

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Image is what a push brings.
type Image struct {
	// Repository is the whole name, the project first.
	Repository string
	Tags       []string
	// Digest is that of the manifest; one is made of Env if empty.
	Digest string
	// Size is in bytes.
	Size int64
	// Env are the variables in its configuration.
	Env []string
	// Cached says that it was pulled through the project, a cache, to which
	// nobody pushes.
	Cached bool
}

// Push does what a push does: it makes the repository and the artifact where
// they are not there, moves the tags, and counts the bytes. It does not make
// projects, moves no immutable tag, and keeps to the limit of the project.
// The content itself cannot be pulled.
func (s *Server) Push(image Image) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	in, name, _ := strings.Cut(image.Repository, "/")
	p := s.projects.named(in)
	if p == nil || name == "" {
		return fmt.Errorf("push %s: there is no project %s", image.Repository, in)
	}
	if image.Digest == "" {
		image.Digest = fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(strings.Join(image.Env, "\n"))))
	}
	if err := s.checkPush(p, image); err != nil {
		return fmt.Errorf("push %s: %w", image.Repository, err)
	}
	s.take(p, image)
	return nil
}

// checkPush says what a project does not take.
func (s *Server) checkPush(p *project, image Image) error {
	if p.registry != 0 && !image.Cached {
		return refuse(http.StatusForbidden, "DENIED", "denied: can not push artifact to a proxy project: %s", p.name)
	}
	name := strings.TrimPrefix(image.Repository, p.name+"/")
	r := s.repositories.named(image.Repository)
	for _, tag := range image.Tags {
		if r != nil && r.tagged(tag) != nil && s.isImmutable(p, name, tag) {
			return precondition("Failed to process request due to '%s:%s' configured as immutable.", name, tag)
		}
	}
	if q := p.quota; s.exceeds(q, image.Size) && !s.has(p, image.Digest) {
		return refuse(http.StatusForbidden, "DENIED", "adding %d B of storage resource, which when updated to current usage of %d B will exceed the configured upper limit of %d B.", image.Size, q.used, q.hard)
	}
	return nil
}

// exceeds says whether a project has no room for so many bytes. One whose limit is
// below what it uses has none for any.
func (s *Server) exceeds(q *quota, size int64) bool {
	return q != nil && q.hard != -1 && s.settingFlag("quota_per_project_enable") && q.used+size > q.hard
}

// take makes of an image what is not there yet.
func (s *Server) take(p *project, image Image) *artifact {
	r := s.repositories.named(image.Repository)
	if r == nil {
		r = s.addRepository(p, image.Repository)
	}
	a := r.withDigest(image.Digest)
	if a == nil {
		a = &artifact{id: s.next("artifact"), digest: image.Digest, size: image.Size, own: image.Size, env: image.Env, pushed: s.now()}
		r.artifacts.put(a.id, a.digest, a)
	}
	for _, name := range image.Tags {
		s.moveTag(r, a, name)
	}
	s.count(p)
	return a
}

// has says whether a project has an artifact already, in any repository.
func (s *Server) has(p *project, digest string) bool {
	return slices.ContainsFunc(p.repositories.all(), func(r *repository) bool { return r.withDigest(digest) != nil })
}

// count is what a project uses: every artifact once.
func (s *Server) count(p *project) {
	if p.quota == nil {
		return
	}
	sizes := map[string]int64{}
	for _, r := range p.repositories.all() {
		for _, a := range r.artifacts.all() {
			sizes[a.digest] = a.own
		}
	}
	p.quota.used, p.quota.until = 0, s.now()
	for _, size := range sizes {
		p.quota.used += size
	}
}

func (s *Server) moveTag(r *repository, a *artifact, name string) {
	if old := r.tagged(name); old != nil {
		old.untag(name)
	}
	a.tags = append(a.tags, &tag{id: s.next("tag"), name: name, pushed: s.now()})
	r.until = s.now()
}
