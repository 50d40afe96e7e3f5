package harbortest

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	store "github.com/google/go-containerregistry/pkg/registry"
)

// newStore is where blobs and manifests lie. Which repositories and tags there
// are, and who may have what, is not its business.
func newStore() http.Handler {
	return store.New(store.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)), store.WithReferrersSupport(true))
}

// grant is what a token lets its holder do.
type grant struct {
	who    identity
	access map[string][]string // actions by repository
}

// token gives one that the registry takes, to anybody who asks for a scope;
// what it allows is what they may.
func (s *Server) token(c *call) (answer, error) {
	if service := c.query.Get("service"); service != "harbor-registry" {
		return answer{}, badRequest("unable to handle service: %s", service)
	}
	scopes := c.query["scope"]
	if !c.who.authenticated() && len(scopes) == 0 {
		return answer{}, unauthorized()
	}
	g := grant{c.who, map[string][]string{}}
	for scope := range strings.FieldsSeq(strings.Join(scopes, " ")) {
		kind, rest, _ := strings.Cut(scope, ":")
		end := strings.LastIndex(rest, ":")
		if kind != "repository" || end < 0 {
			continue
		}
		for _, action := range []string{"pull", "push", "delete"} {
			if s.mayRepository(c.who, rest[:end], action) {
				g.access[rest[:end]] = append(g.access[rest[:end]], action)
			}
		}
	}
	type token struct {
		Token  string `json:"token"`
		Access string `json:"access_token"`
		Lives  int64  `json:"expires_in"`
		Issued string `json:"issued_at"`
	}
	text := rand.Text()
	s.login.grants[text] = g
	return answer{status: http.StatusOK, header: charset(), body: token{
		Token: text, Lives: s.settingNumber("token_expiration") * 60, Issued: s.now().Format(time.RFC3339),
	}}, nil
}

func charset() map[string]string {
	return map[string]string{"Content-Type": "application/json; charset=utf-8"}
}

func (s *Server) mayRepository(who identity, repository, action string) bool {
	in, _, _ := strings.Cut(repository, "/")
	p := s.projects.named(in)
	return p != nil && s.mayOrAdmin(who, p, "repository", action)
}

// place of a request below /v2/: the repository, what of it, and which.
func parseContent(path string) (repository, what, which string) {
	rest := strings.TrimPrefix(path, "/v2/")
	for _, part := range []string{"/manifests/", "/blobs/", "/referrers/", "/tags/"} {
		if i := strings.LastIndex(rest, part); i > 0 {
			return rest[:i], strings.Trim(part, "/"), rest[i+len(part):]
		}
	}
	return "", "", ""
}

// content answers what is below /v2/: content for who may have it, and at
// /v2/ itself whether a login is good.
func (s *Server) content(w http.ResponseWriter, c *call) (answer, error) {
	repository, what, which := parseContent(c.r.URL.Path)
	action := map[string]string{http.MethodGet: "pull", http.MethodHead: "pull", http.MethodDelete: "delete"}[c.r.Method]
	if action == "" {
		action = "push"
	}
	given := c.r.Header.Get("Authorization")
	g, hasToken := s.login.grants[strings.TrimPrefix(given, "Bearer ")]
	switch {
	case c.r.URL.Path == "/v2/" && !c.who.authenticated() && !hasToken:
		return s.challenge(w, c, "", "unauthorized")
	case c.r.URL.Path == "/v2/":
		return answer{status: http.StatusOK, header: charset(), body: struct{}{}}, nil
	case c.r.URL.Path == "/v2/_catalog":
		return s.catalog(w, c)
	case what == "":
		return answer{}, notFound("path %s was not found", c.r.URL.Path)
	case given == "" && action == "pull":
		return s.challenge(w, c, "repository:"+repository+":pull", "authorize header needed to send HEAD to repository")
	case hasToken && !slices.Contains(g.access[repository], action), !hasToken && !s.mayRepository(c.who, repository, action):
		return s.challenge(w, c, "repository:"+repository+":"+map[string]string{"push": "pull,push"}[action], "unauthorized to access repository: "+repository+", action: "+action)
	case s.readOnly() && action != "pull":
		return answer{}, refuse(http.StatusForbidden, "DENIED", "The system is in read only mode. Any modification is prohibited.")
	}
	if hasToken {
		c.who = g.who
	}
	in, _, _ := strings.Cut(repository, "/")
	p := s.projects.named(in)
	if p == nil { // deleted since the token was made
		return answer{}, notFound("project %s not found", in)
	}
	if action == "push" && p.registry != 0 {
		return answer{}, s.checkPush(p, Image{Repository: repository})
	}
	r := s.repositories.named(repository)
	switch {
	case c.r.Method == http.MethodPost && what == "blobs" && c.query.Get("mount") == "" && s.exceeds(p.quota, 0):
		return answer{}, refuse(http.StatusForbidden, "DENIED", "subtracting 0 B of storage resource, which when updated to current usage of %d B will exceed the configured upper limit of %d B.", p.quota.used, p.quota.hard)
	case what == "tags":
		return s.listContentTags(r, repository)
	case what == "manifests" && c.r.Method == http.MethodPut:
		return s.putManifest(c, p, repository, which)
	case what == "manifests" && r == nil:
		return answer{}, notFound("repository %s not found", repository)
	case what == "manifests" && c.r.Method == http.MethodDelete:
		return s.deleteManifest(c, r, which)
	case what == "manifests":
		return s.getManifest(c, r, which)
	}
	return s.stored(c, c.r.URL.Path), nil
}

// challenge is the 401 that says where a token is to be had.
func (s *Server) challenge(w http.ResponseWriter, c *call, scope, why string) (answer, error) {
	scheme := "http"
	if c.r.TLS != nil {
		scheme = "https"
	}
	challenge := fmt.Sprintf(`Bearer realm="%s://%s/service/token",service="harbor-registry"`, scheme, c.r.Host)
	if scope != "" {
		challenge += fmt.Sprintf(",scope=%q", scope)
	}
	if c.r.Header.Get("Authorization") != "" {
		challenge = `Basic realm="harbor"`
	}
	w.Header().Set("Www-Authenticate", challenge)
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	return answer{}, refuse(http.StatusUnauthorized, "UNAUTHORIZED", "%s: %s", why, why)
}

func (s *Server) catalog(w http.ResponseWriter, c *call) (answer, error) {
	if !c.who.maySystem("catalog", "read") {
		return s.challenge(w, c, "", "unauthorized to list catalog")
	}
	names := []string{}
	for _, r := range s.repositories.all() {
		names = append(names, r.name)
	}
	slices.Sort(names)
	return answer{status: http.StatusOK, header: charset(), body: map[string][]string{"repositories": names}}, nil
}

func (s *Server) listContentTags(r *repository, name string) (answer, error) {
	if r == nil {
		return answer{}, notFound("repository %s not found", name)
	}
	tags := []string{}
	for _, a := range r.artifacts.all() {
		for _, t := range a.tags {
			tags = append(tags, t.name)
		}
	}
	slices.Sort(tags)
	return answer{status: http.StatusOK, header: charset(), body: struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{name, tags}}, nil
}

// find is the artifact that a tag or digest stands for, or nil.
func (r *repository) find(reference string) *artifact {
	if strings.Contains(reference, ":") {
		return r.withDigest(reference)
	}
	return r.tagged(reference)
}

func (s *Server) getManifest(c *call, r *repository, reference string) (answer, error) {
	a := r.find(reference)
	if a == nil {
		return answer{}, notFound("artifact %s:%s not found", r.name, reference)
	}
	if c.r.Method == http.MethodGet {
		r.pulls++
		a.pulled = s.now()
	}
	return s.stored(c, "/v2/"+r.name+"/manifests/"+a.digest), nil
}

func (s *Server) deleteManifest(c *call, r *repository, reference string) (answer, error) {
	a := r.find(reference)
	switch {
	case !strings.Contains(reference, ":"):
		return answer{}, refuse(http.StatusMethodNotAllowed, "UNSUPPORTED", "unsupported digest %s", reference)
	case a == nil:
		return answer{}, notFound("artifact %s@%s not found", r.name, reference)
	}
	if err := s.checkTags(r, a); err != nil {
		return answer{}, err
	}
	r.artifacts.remove(a.id, a.digest)
	s.count(r.of)
	_ = s.stored(c, c.r.URL.Path)
	return answer{status: http.StatusAccepted}, nil
}

// putManifest makes an artifact of what was pushed.
func (s *Server) putManifest(c *call, p *project, repository, reference string) (answer, error) {
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(c.raw))
	image := Image{Repository: repository, Digest: digest, Size: manifestSize(c.raw)}
	if !strings.Contains(reference, ":") {
		image.Tags = []string{reference}
	}
	if err := s.checkPush(p, image); err != nil {
		return answer{}, err
	}
	a := s.stored(c, "/v2/"+repository+"/manifests/"+digest)
	if a.status != http.StatusCreated {
		return a, nil
	}
	made := s.take(p, image)
	made.manifestType, made.configType, made.subject = c.r.Header.Get("Content-Type"), configType(c.raw), subject(c.raw)
	a.header["Location"] = "/v2/" + repository + "/manifests/" + digest
	return a, nil
}

// manifest is what of one counts here.
type manifest struct {
	ArtifactType string       `json:"artifactType"`
	Config       descriptor   `json:"config"`
	Layers       []descriptor `json:"layers"`
	Manifests    []descriptor `json:"manifests"`
	Subject      descriptor   `json:"subject"`
}

type descriptor struct {
	Digest    string `json:"digest"`
	MediaType string `json:"mediaType"`
	Size      int64  `json:"size"`
}

// manifestSize is a manifest with all that it is of, in bytes.
func manifestSize(raw []byte) int64 {
	var m manifest
	_ = json.Unmarshal(raw, &m) // what is none is refused by the store
	size := int64(len(raw)) + m.Config.Size
	for _, d := range append(m.Layers, m.Manifests...) {
		size += d.Size
	}
	return size
}

func configType(raw []byte) string {
	var m manifest
	_ = json.Unmarshal(raw, &m) // what is none is refused by the store
	if m.ArtifactType != "" {
		return m.ArtifactType
	}
	return m.Config.MediaType
}

// subject is the digest of what a manifest refers to, or "".
func subject(raw []byte) string {
	var m manifest
	_ = json.Unmarshal(raw, &m) // what is none is refused by the store
	return m.Subject.Digest
}

// stored is what the store answers to the request, at a path.
func (s *Server) stored(c *call, path string) answer {
	r := c.r.Clone(c.r.Context())
	r.URL = &url.URL{Path: path, RawQuery: c.r.URL.RawQuery}
	r.Body = io.NopCloser(bytes.NewReader(c.raw))
	r.ContentLength = int64(len(c.raw))
	w := &written{header: http.Header{}, status: http.StatusOK}
	s.store.ServeHTTP(w, r)
	a := answer{status: w.status, header: map[string]string{"Docker-Distribution-Api-Version": "registry/2.0"}, body: text(w.body.String())}
	for name := range w.header {
		a.header[name] = w.header.Get(name)
	}
	return a
}

// written is a response that is kept.
type written struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *written) Header() http.Header         { return w.header }
func (w *written) WriteHeader(status int)      { w.status = status }
func (w *written) Write(b []byte) (int, error) { return w.body.Write(b) }
