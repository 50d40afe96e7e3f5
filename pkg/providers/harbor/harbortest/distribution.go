package harbortest

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	store "github.com/google/go-containerregistry/pkg/registry"
)

// backend is the registry behind Harbor. It has its own mind of what there is, and
// keeps what Harbor has deleted until its garbage is collected, which here it never is.
type backend struct {
	store http.Handler // the bytes of blobs and manifests
	// blobs and manifests are the digests that each repository has.
	blobs, manifests map[string]map[string]bool
}

func newBackend() backend {
	return backend{
		store:     store.New(store.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo))),
		blobs:     map[string]map[string]bool{},
		manifests: map[string]map[string]bool{},
	}
}

func put(of map[string]map[string]bool, repository, digest string) {
	if of[repository] == nil {
		of[repository] = map[string]bool{}
	}
	of[repository][digest] = true
}

// paths are those below /v2/ that Harbor knows, by what they are of. A name is as in
// Distribution 2: the first part may be a host, thus have upper case.
func paths() map[string]*regexp.Regexp {
	const (
		label  = `(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])`
		part   = `[a-z0-9]+(?:(?:[._]|__|[-]*)[a-z0-9]+)*`
		name   = `(?:` + label + `(?:\.` + label + `)*(?::[0-9]+)?/)?` + part + `(?:/` + part + `)*`
		digest = `[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+`
	)
	of := func(rest string) *regexp.Regexp { return regexp.MustCompile(`^/v2/(` + name + `)/` + rest) }
	return map[string]*regexp.Regexp{
		"manifests": of(`manifests/(.*)$`),
		"tags":      of(`tags/list()`),
		"uploads":   of(`blobs/uploads([/a-zA-Z0-9\-_.=]*)$`),
		"blobs":     of(`blobs/(` + digest + `)$`),
		"referrers": of(`referrers/(.*)$`),
	}
}

// target is what a request below /v2/ is of.
type target struct{ repository, what, which string }

func (s *Server) parseContent(path string) target {
	for what, re := range s.contentPaths {
		if m := re.FindStringSubmatch(path); m != nil {
			return target{m[1], what, m[2]}
		}
	}
	return target{}
}

// projectOf is the project that a repository is in.
func projectOf(repository string) string {
	name, _, _ := strings.Cut(repository, "/")
	return name
}

// want is what a request has to be allowed.
type want struct{ repository, action string }

// content answers what is below /v2/: content for who may have it, and at
// /v2/ itself whether a login is good.
func (s *Server) content(w http.ResponseWriter, c *call) (answer, error) {
	at := s.parseContent(c.r.URL.Path)
	from := ""
	if at.what == "uploads" {
		from = c.query.Get("from")
	}
	for _, name := range []string{at.repository, from} {
		if name != "" && !strings.Contains(name, "/") {
			return answer{}, badRequest("bad request: invalid repository name: %s", name)
		}
	}
	if (at.what == "manifests" || at.what == "referrers") && !regexp.MustCompile(`\w`).MatchString(at.which) {
		return answer{}, notFound("invalid reference format")
	}
	if header, err := s.checkContent(c, at, from); err != nil {
		w.Header().Set("Www-Authenticate", header)
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		return answer{}, refuse(http.StatusUnauthorized, "UNAUTHORIZED", "%v: %v", err, err)
	}
	switch {
	case at.what == "" && c.r.URL.Path == "/v2/":
		return answer{status: http.StatusOK, header: behind(), body: struct{}{}}, nil
	case at.what == "":
		return s.catalog(c)
	case s.readOnly() && actionOf(c.r.Method) != "pull":
		return answer{}, refuse(http.StatusForbidden, "DENIED", "The system is in read only mode. Any modification is prohibited.")
	}
	p := s.projects.named(projectOf(at.repository))
	if actionOf(c.r.Method) == "push" && p.registry != 0 {
		return answer{}, s.checkPush(p, Image{Repository: at.repository})
	}
	switch c.r.Method + " " + at.what {
	case "GET tags":
		return s.listContentTags(c, at.repository)
	case "GET manifests", "HEAD manifests":
		return s.getManifest(c, at)
	case "PUT manifests":
		return s.putManifest(c, p, at)
	case "DELETE manifests":
		return s.deleteManifest(at)
	case "GET referrers":
		return s.listReferrers(c, at)
	case "POST uploads":
		return s.beginUpload(c, p, at, from)
	case "PATCH uploads", "PUT uploads", "GET uploads", "DELETE uploads":
		return s.upload(c, at)
	case "GET blobs", "HEAD blobs":
		return s.getBlob(c, at)
	case "DELETE blobs":
		return s.deleteBlob(at)
	}
	a := said(http.StatusMethodNotAllowed, "Method not allowed")
	a.header["Docker-Distribution-Api-Version"] = "registry/2.0"
	return a, nil
}

// actionOf is what a method needs to be allowed.
func actionOf(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead:
		return "pull"
	case http.MethodDelete:
		return "delete"
	}
	return "push"
}

// checkContent says what somebody may not, and what they are challenged with. One
// whose project is not there is refused as such, without a challenge, whoever asks.
func (s *Server) checkContent(c *call, at target, from string) (header string, err error) {
	wanted := []want{{at.repository, actionOf(c.r.Method)}}
	projects := []string{projectOf(at.repository)}
	if from != "" && c.r.Method == http.MethodPost {
		wanted = append(wanted, want{from, "pull"})
		projects = append(projects, projectOf(from))
	}
	catalog := c.r.URL.Path == "/v2/_catalog" || strings.HasPrefix(c.r.URL.Path, "/v2/_catalog/")
	if at.what == "" {
		projects = nil
	}
	who := s.holder(c, projects)
	switch {
	case at.what != "":
	case c.r.URL.Path == "/v2/" && !who.authenticated:
		return challenge(c, nil), fmt.Errorf("unauthorized")
	case catalog && !who.catalog:
		return challenge(c, nil), fmt.Errorf("unauthorized to list catalog")
	case c.r.URL.Path == "/v2/", catalog:
		return "", nil
	default:
		return "", fmt.Errorf("un-recognized request: %s %s", c.r.Method, c.r.URL.Path)
	}
	for _, want := range wanted {
		if c.r.Header.Get("Authorization") == "" && actionOf(c.r.Method) == "pull" {
			return challenge(c, wanted), fmt.Errorf("authorize header needed to send HEAD to repository")
		}
		p := s.projects.named(projectOf(want.repository))
		if p == nil {
			return "", fmt.Errorf("project %s not found", projectOf(want.repository))
		}
		if !who.may(p, want.action) {
			return challenge(c, wanted), fmt.Errorf("unauthorized to access repository: %s, action: %s", want.repository, want.action)
		}
	}
	return "", nil
}

func charset() map[string]string {
	return map[string]string{"Content-Type": "application/json; charset=utf-8"}
}

// behind are the headers of what the registry behind Harbor answers.
func behind() map[string]string {
	header := charset()
	header["Docker-Distribution-Api-Version"] = "registry/2.0"
	return header
}

// bare are the headers of what the registry behind Harbor answers without a body.
func bare() map[string]string {
	return map[string]string{"Content-Type": "", "Docker-Distribution-Api-Version": "registry/2.0"}
}

func said(status int, body string) answer {
	return answer{status: status, header: map[string]string{"Content-Type": "text/plain; charset=utf-8"}, body: text(body)}
}

// problem is one of the errors of the registry behind Harbor.
type problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Detail  any    `json:"detail,omitempty"`
}

// problems is what the registry behind Harbor refuses.
func problems(status int, list ...problem) (answer, error) {
	return answer{status: status, header: behind(), body: struct {
		Errors []problem `json:"errors"`
	}{list}}, nil
}

// n reads the parameter n, which is -1 if there is none.
func (c *call) n() (int, error) {
	if c.query.Get("n") == "" {
		return -1, nil
	}
	n, err := strconv.Atoi(c.query.Get("n"))
	if err != nil || n < 0 {
		return 0, badRequest("the N must be a positive int type")
	}
	return n, nil
}

// nextLink is the header that leads to what comes after last.
func nextLink(c *call, n int, last string) string {
	next := url.URL{Path: c.r.URL.Path, RawQuery: url.Values{"n": {strconv.Itoa(n)}, "last": {last}}.Encode()}
	return fmt.Sprintf(`<%s>; rel="next"`, next.String())
}

// catalog lists the repositories that have a tag, by name; without n all of them.
func (s *Server) catalog(c *call) (answer, error) {
	n, err := c.n()
	if err != nil {
		return answer{}, err
	}
	names := []string{}
	for _, r := range s.repositories.all() {
		if slices.ContainsFunc(r.artifacts.all(), func(a *artifact) bool { return len(a.tags) > 0 }) {
			names = append(names, r.name)
		}
	}
	slices.Sort(names)
	a := answer{status: http.StatusOK, header: charset()}
	if n >= 0 {
		all := names
		if last := c.query.Get("last"); last != "" {
			at := slices.Index(names, last)
			if at < 0 {
				return answer{}, badRequest("the last: %s should be a valid repository name.", last)
			}
			names = names[at+1:]
		}
		names = names[:min(n, len(names))]
		if len(names) > 0 && names[len(names)-1] != all[len(all)-1] {
			a.header["Link"] = nextLink(c, n, names[len(names)-1])
		}
	}
	a.body = map[string][]string{"repositories": names}
	return a, nil
}

// listContentTags lists the tags of a repository by name, without n all of them.
func (s *Server) listContentTags(c *call, name string) (answer, error) {
	n, err := c.n()
	if err != nil {
		return answer{}, err
	}
	r := s.repositories.named(name)
	if r == nil && n != 0 {
		return answer{}, notFound("repository %s not found", name)
	}
	tags := []string{}
	if r != nil {
		for _, a := range r.artifacts.all() {
			for _, t := range a.tags {
				tags = append(tags, t.name)
			}
		}
	}
	slices.Sort(tags)
	total := len(tags)
	if last := c.query.Get("last"); last != "" {
		tags = slices.DeleteFunc(tags, func(t string) bool { return t <= last })
		total = len(tags)
	}
	a := answer{status: http.StatusOK, header: charset()}
	if n >= 0 && n < total {
		tags = tags[:n]
		if n > 0 {
			a.header["Link"] = nextLink(c, n, tags[n-1])
		}
	}
	a.body = struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{name, tags}
	return a, nil
}

// stored is what the registry behind Harbor answers to the request, at a path.
func (s *Server) stored(c *call, path string) answer {
	r := c.r.Clone(c.r.Context())
	r.URL = &url.URL{Path: path, RawQuery: c.r.URL.RawQuery}
	r.Body = io.NopCloser(bytes.NewReader(c.raw))
	r.ContentLength = int64(len(c.raw))
	w := &written{header: http.Header{}, status: http.StatusOK}
	s.behind.store.ServeHTTP(w, r)
	a := answer{status: w.status, header: bare(), body: text(w.body.String())}
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
