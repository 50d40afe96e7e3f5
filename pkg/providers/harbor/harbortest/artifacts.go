package harbortest

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// artifact is an image, with its tags.
type artifact struct {
	id     int64
	digest string
	size   int64 // with all of its parts
	own    int64 // without
	env    []string
	tags   []*tag
	labels []*label

	// refers are what it is an accessory of, by digest, each there or not, and what
	// kind of accessory. Harbor shows an accessory with what it is one of alone,
	// whether it has a tag or not.
	refers []reference
	parts  []ocispec.Descriptor // what it is an index of

	pushed, pulled time.Time

	// of what was pushed as a manifest; without a kind it is an OCI image
	kind, mediaType, artifactType string
	annotations                   map[string]string
	length                        int64 // of the manifest alone
}

type reference struct{ subject, kind string }

// refer makes an artifact an accessory.
func (a *artifact) refer(subject, kind string) {
	if a.kindFor(subject) == "" {
		a.refers = append(a.refers, reference{subject, kind})
	}
}

// kindFor is the kind of accessory that an artifact is of a digest, "" for none.
func (a *artifact) kindFor(subject string) string {
	for _, r := range a.refers {
		if r.subject == subject {
			return r.kind
		}
	}
	return ""
}

// accessories are those of a digest.
func (r *repository) accessories(subject string) []*artifact {
	return slices.DeleteFunc(r.artifacts.all(), func(a *artifact) bool { return a.kindFor(subject) == "" })
}

// has says whether an index has a digest.
func (a *artifact) has(digest string) bool {
	return slices.ContainsFunc(a.parts, func(d ocispec.Descriptor) bool { return d.Digest.String() == digest })
}

// isPart says whether an index has an artifact.
func (r *repository) isPart(a *artifact) bool {
	return slices.ContainsFunc(r.artifacts.all(), func(index *artifact) bool { return index.has(a.digest) })
}

type tag struct {
	id     int64
	name   string
	pushed time.Time
}

func (r *repository) withDigest(digest string) *artifact { return r.artifacts.named(digest) }

// tagged is the artifact with a tag, or nil.
func (r *repository) tagged(name string) *artifact {
	for _, a := range r.artifacts.all() {
		if a.tag(name) != nil {
			return a
		}
	}
	return nil
}

func (a *artifact) tag(name string) *tag {
	for _, t := range a.tags {
		if t.name == name {
			return t
		}
	}
	return nil
}

func (a *artifact) untag(name string) {
	a.tags = slices.DeleteFunc(a.tags, func(t *tag) bool { return t.name == name })
}

// isImmutable says whether a rule of a project keeps a tag.
func (s *Server) isImmutable(p *project, repository, tag string) bool {
	matches := func(list []selector, name string) bool {
		return !slices.ContainsFunc(list, func(sel selector) bool {
			hit, err := doublestar.Match(sel.Pattern, name)
			return err != nil || hit == strings.HasSuffix(strings.ToLower(sel.Decoration), "excludes")
		})
	}
	return slices.ContainsFunc(p.immutable.all(), func(m *immutable) bool {
		return !m.rule.Disabled && matches(m.rule.Scopes["repository"], repository) && matches(m.rule.Tags, tag)
	})
}

// checkTags refuses to take an artifact away that has an immutable tag.
func (s *Server) checkTags(r *repository, a *artifact) error {
	for _, t := range a.tags {
		if s.isImmutable(r.of, r.short(), t.name) {
			return precondition("the tag %s configured as immutable, cannot be deleted", t.name)
		}
	}
	return nil
}

// unlabel takes a label off whatever has it.
func (s *Server) unlabel(l *label) {
	for _, r := range s.repositories.all() {
		for _, a := range r.artifacts.all() {
			a.labels = slices.DeleteFunc(a.labels, func(other *label) bool { return other == l })
		}
	}
}

func (s *Server) artifactOperations() routes {
	const all = "/projects/{project_name}/repositories/{repository_name}/artifacts"
	const one = all + "/{reference}"
	return routes{
		"GET /projects/{project_name_or_id}/artifacts": s.listProjectArtifacts,
		"GET " + all:                           s.listArtifacts,
		"GET " + one:                           s.showArtifact,
		"DELETE " + one:                        s.deleteArtifact,
		"GET " + one + "/tags":                 s.listTags,
		"POST " + one + "/tags":                s.createTag,
		"DELETE " + one + "/tags/{tag_name}":   s.deleteTag,
		"POST " + one + "/labels":              s.addArtifactLabel,
		"DELETE " + one + "/labels/{label_id}": s.removeArtifactLabel,
	}
}

type link struct {
	Absolute bool   `json:"absolute"`
	Href     string `json:"href"`
}

type shownTag struct {
	ArtifactID   int64  `json:"artifact_id"`
	ID           int64  `json:"id"`
	Immutable    bool   `json:"immutable"`
	Name         string `json:"name"`
	PullTime     stamp  `json:"pull_time"`
	PushTime     stamp  `json:"push_time"`
	RepositoryID int64  `json:"repository_id"`
}

type accessory struct {
	ArtifactID            int64  `json:"artifact_id"`
	CreationTime          stamp  `json:"creation_time"`
	Digest                string `json:"digest"`
	Icon                  string `json:"icon"`
	ID                    int64  `json:"id"`
	Size                  int64  `json:"size"`
	SubjectArtifactDigest string `json:"subject_artifact_digest"`
	SubjectArtifactID     int64  `json:"subject_artifact_id"`
	SubjectArtifactRepo   string `json:"subject_artifact_repo"`
	Type                  string `json:"type"`
}

// shownPart is what an index has.
type shownPart struct {
	Annotations map[string]string `json:"annotations"`
	ChildDigest string            `json:"child_digest"`
	ChildID     int64             `json:"child_id"`
	ParentID    int64             `json:"parent_id"`
	Platform    *ocispec.Platform `json:"platform,omitempty"`
	URLs        []string          `json:"urls"`
}

type shownArtifact struct {
	Accessories       []accessory     `json:"accessories"`
	AdditionLinks     map[string]link `json:"addition_links"`
	ArtifactType      string          `json:"artifact_type,omitempty"`
	Digest            string          `json:"digest"`
	ExtraAttrs        map[string]any  `json:"extra_attrs,omitempty"`
	Icon              string          `json:"icon"`
	ID                int64           `json:"id"`
	Labels            []shownLabel    `json:"labels"`
	ManifestMediaType string          `json:"manifest_media_type"`
	MediaType         string          `json:"media_type"`
	ProjectID         int64           `json:"project_id"`
	PullTime          stamp           `json:"pull_time"`
	PushTime          stamp           `json:"push_time"`
	References        []shownPart     `json:"references"`
	RepositoryID      int64           `json:"repository_id"`
	RepositoryName    string          `json:"repository_name,omitempty"`
	Size              int64           `json:"size"`
	Tags              []shownTag      `json:"tags"`
	Type              string          `json:"type"`
}

// flag is a parameter of the query that is yes or no.
func (c *call) flag(name string, otherwise bool) bool {
	if yes, err := strconv.ParseBool(c.query.Get(name)); err == nil {
		return yes
	}
	return otherwise
}

// showArtifactIn shows what the query asks for.
func (s *Server) showArtifactIn(c *call, r *repository, a *artifact) shownArtifact {
	escaped := strings.ReplaceAll(url.PathEscape(r.short()), "%", "%25")
	at := base + "/projects/" + r.of.name + "/repositories/" + escaped + "/artifacts/"
	shown := shownArtifact{
		AdditionLinks: map[string]link{
			"build_history":   {Href: at + a.digest + "/additions/build_history"},
			"sboms":           {Href: at + "/additions/sbom"},
			"vulnerabilities": {Href: at + a.digest + "/additions/vulnerabilities"},
		},
		ArtifactType: "application/vnd.oci.image.config.v1+json", Digest: a.digest,
		ExtraAttrs: map[string]any{"architecture": "amd64", "author": "", "config": map[string]any{"Env": a.env}, "created": nil, "os": "linux"},
		Icon:       "sha256:0048162a053eef4d4ce3fe7518615bef084403614f8bca43b40ae2e762e11e06", ID: a.id,
		ManifestMediaType: "application/vnd.oci.image.manifest.v1+json", MediaType: "application/vnd.oci.image.config.v1+json",
		ProjectID: r.of.id, PullTime: stamp(a.pulled), PushTime: stamp(a.pushed), RepositoryID: r.id, RepositoryName: r.name, Size: a.size, Type: "IMAGE",
	}
	if a.kind != "" {
		shown.ManifestMediaType, shown.MediaType, shown.ArtifactType = a.kind, a.mediaType, a.artifactType
		shown.ExtraAttrs = nil
		if !isIndex(a.mediaType) && !strings.Contains(a.mediaType, "image.config") && !strings.Contains(a.mediaType, "container.image") {
			shown.Type = "UNKNOWN"
		}
	}
	for _, d := range a.parts {
		part := shownPart{ChildDigest: d.Digest.String(), ParentID: a.id, Annotations: d.Annotations, Platform: d.Platform, URLs: d.URLs}
		if child := r.withDigest(part.ChildDigest); child != nil {
			part.ChildID = child.id
		}
		shown.References = append(shown.References, part)
	}
	if c.flag("with_tag", true) {
		for _, t := range a.tags {
			shown.Tags = append(shown.Tags, s.showTag(r, a, t, c.flag("with_immutable_status", false)))
		}
	}
	if c.flag("with_accessory", false) {
		for _, other := range r.accessories(a.digest) {
			shown.Accessories = append(shown.Accessories, accessory{
				ArtifactID: other.id, CreationTime: stamp(other.pushed), Digest: other.digest, ID: other.id, Size: other.size,
				SubjectArtifactDigest: a.digest, SubjectArtifactID: a.id, SubjectArtifactRepo: r.name, Type: other.kindFor(a.digest),
			})
		}
	}
	if c.flag("with_label", false) {
		for _, l := range a.labels {
			shown.Labels = append(shown.Labels, l.show())
		}
	}
	return shown
}

func (s *Server) showTag(r *repository, a *artifact, t *tag, immutable bool) shownTag {
	return shownTag{
		ArtifactID: a.id, ID: t.id, Name: t.name, PullTime: stamp(a.pulled), PushTime: stamp(t.pushed), RepositoryID: r.id,
		Immutable: immutable && s.isImmutable(r.of, r.short(), t.name),
	}
}

// placed is an artifact and where it is.
type placed struct {
	r *repository
	a *artifact
}

// placed lists what a repository has, without accessories, tagged or not, and without
// the parts of an index that have no tag of their own, unless all are wanted.
func (r *repository) placed(all bool) (rows []placed) {
	for _, a := range r.artifacts.all() {
		if len(a.refers) == 0 && (all || len(a.tags) > 0 || !r.isPart(a)) {
			rows = append(rows, placed{r, a})
		}
	}
	return rows
}

// matching are the artifacts of repositories that the query asks for by what is no
// field: base=* is for the parts of indexes too, tags=* and tags=nil are for those
// with a tag and without.
func matching(c *call, of []*repository) (rows []placed, err error) {
	terms, err := c.terms()
	if err != nil {
		return nil, err
	}
	for _, r := range of {
		rows = append(rows, r.placed(len(terms["base"].values) > 0)...)
	}
	tags, given := terms["tags"]
	if !given {
		return rows, nil
	}
	return slices.DeleteFunc(rows, func(p placed) bool {
		switch tags.values[0] {
		case "*":
			return len(p.a.tags) == 0
		case "nil":
			return len(p.a.tags) > 0
		}
		return !slices.ContainsFunc(p.a.tags, func(t *tag) bool { return tags.holds(t.name) })
	}), nil
}

func (s *Server) listPlaced(c *call, rows []placed) (answer, error) {
	by := fields[placed]{
		"id":            func(p placed) string { return number(p.a.id) },
		"digest":        func(p placed) string { return p.a.digest },
		"size":          func(p placed) string { return number(p.a.size) },
		"push_time":     func(p placed) string { return moment(p.a.pushed) },
		"repository_id": func(p placed) string { return number(p.r.id) },
	}
	return listed(c, rows, by, "-push_time,-id", func(p placed) shownArtifact {
		shown := s.showArtifactIn(c, p.r, p.a)
		if s.before(12) {
			shown.RepositoryName = ""
		}
		return shown
	})
}

func (s *Server) listProjectArtifacts(c *call) (answer, error) {
	if err := c.loggedIn(); err != nil {
		return answer{}, err
	}
	p, err := s.project(c, "artifact", "list")
	if err != nil {
		return answer{}, err
	}
	rows, err := matching(c, p.repositories.all())
	if err != nil {
		return answer{}, err
	}
	return s.listPlaced(c, rows)
}

// listArtifacts is empty for a repository that is not there.
func (s *Server) listArtifacts(c *call) (answer, error) {
	if _, err := s.project(c, "artifact", "list"); err != nil {
		return answer{}, err
	}
	var of []*repository
	if r, err := s.pathRepository(c, "artifact", "list"); err == nil {
		of = append(of, r)
	}
	rows, err := matching(c, of)
	if err != nil {
		return answer{}, err
	}
	return s.listPlaced(c, rows)
}

// pathArtifact is the artifact that the path names, by tag or digest.
func (s *Server) pathArtifact(c *call, resource, action string) (*repository, *artifact, error) {
	r, err := s.pathRepository(c, resource, action)
	if err != nil {
		return nil, nil, err
	}
	reference := c.vars["reference"]
	if strings.Contains(reference, ":") {
		if a := r.withDigest(reference); a != nil {
			return r, a, nil
		}
		return nil, nil, notFound("artifact %s@%s not found", r.name, reference)
	}
	if a := r.tagged(reference); a != nil {
		return r, a, nil
	}
	return nil, nil, notFound("artifact %s:%s not found", r.name, reference)
}

func (s *Server) showArtifact(c *call) (answer, error) {
	r, a, err := s.pathArtifact(c, "artifact", "read")
	if err != nil {
		return answer{}, err
	}
	return shown(s.showArtifactIn(c, r, a))
}

func (s *Server) deleteArtifact(c *call) (answer, error) {
	r, a, err := s.pathArtifact(c, "artifact", "delete")
	if err != nil {
		return answer{}, err
	}
	if err := s.removeArtifact(r, a); err != nil {
		return answer{}, err
	}
	return done()
}

// removeArtifact takes one away, and with it its accessories, and its parts that
// nothing else needs. It does not with what an index has.
func (s *Server) removeArtifact(r *repository, a *artifact) error {
	if err := s.checkTags(r, a); err != nil {
		return err
	}
	if r.isPart(a) {
		return refuse(http.StatusPreconditionFailed, "VIOLATE_FOREIGN_KEY_CONSTRAINT", "the deleting artifact is referenced by others")
	}
	r.remove(a)
	r.until = s.now()
	s.count(r.of)
	return nil
}

func (r *repository) remove(a *artifact) {
	r.artifacts.remove(a.id, a.digest)
	for _, other := range r.accessories(a.digest) {
		if r.artifacts.get(other.id) != nil && !r.isPart(other) {
			r.remove(other)
		}
	}
	for _, d := range a.parts {
		if part := r.withDigest(d.Digest.String()); part != nil && len(part.tags) == 0 && !r.isPart(part) {
			r.remove(part)
		}
	}
}

func (s *Server) listTags(c *call) (answer, error) {
	r, a, err := s.pathArtifact(c, "tag", "list")
	if err != nil {
		return answer{}, err
	}
	by := fields[*tag]{
		"name":      func(t *tag) string { return t.name },
		"id":        func(t *tag) string { return number(t.id) },
		"push_time": func(t *tag) string { return moment(t.pushed) },
	}
	immutable := c.flag("with_immutable_status", false)
	return listed(c, slices.Clone(a.tags), by, "-push_time,-id", func(t *tag) shownTag { return s.showTag(r, a, t, immutable) })
}

func (s *Server) createTag(c *call) (answer, error) {
	r, a, err := s.pathArtifact(c, "tag", "create")
	if err != nil {
		return answer{}, err
	}
	given, err := decode[struct {
		Name string `json:"name"`
	}](c)
	switch {
	case err != nil:
		return answer{}, err
	case r.of.registry > 0:
		return answer{}, refuse(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "the operation isn't supported for a proxy cache project")
	case !regexp.MustCompile(`^[\w][\w.-]{0,127}$`).MatchString(given.Name):
		return answer{}, badRequest("bad request: invalid tag name: %s", given.Name)
	case r.tagged(given.Name) != nil:
		return answer{}, conflict("tag %s already exists under the repository %d", given.Name, r.id)
	}
	s.moveTag(r, a, given.Name)
	return answer{status: http.StatusCreated}, nil
}

func (s *Server) deleteTag(c *call) (answer, error) {
	r, a, err := s.pathArtifact(c, "tag", "delete")
	if err != nil {
		return answer{}, err
	}
	name := c.vars["tag_name"]
	switch {
	case a.tag(name) == nil:
		return answer{}, notFound("tag %s attached to artifact %d not found", name, a.id)
	case s.isImmutable(r.of, r.short(), name):
		return answer{}, precondition("the tag %s configured as immutable, cannot be deleted", name)
	}
	a.untag(name)
	r.until = s.now()
	return done()
}

func (s *Server) addArtifactLabel(c *call) (answer, error) {
	r, a, err := s.pathArtifact(c, "artifact-label", "create")
	if err != nil {
		return answer{}, err
	}
	given, err := decode[struct {
		ID int64 `json:"id"`
	}](c)
	if err != nil {
		return answer{}, err
	}
	l := s.labels.get(given.ID)
	switch {
	case l == nil:
		return answer{}, notFound("label %d not found", given.ID)
	case l.scope == "p" && l.of != r.of.id:
		return answer{}, badRequest("bad request: project id and label project id does not match")
	case slices.Contains(a.labels, l):
		return answer{}, conflict("label %d is already added to the artifact %d", l.id, a.id)
	}
	a.labels = append(a.labels, l)
	return done()
}

func (s *Server) removeArtifactLabel(c *call) (answer, error) {
	_, a, err := s.pathArtifact(c, "artifact-label", "delete")
	if err != nil {
		return answer{}, err
	}
	id, err := c.id("label_id")
	if err != nil {
		return answer{}, err
	}
	at := slices.IndexFunc(a.labels, func(l *label) bool { return l.id == id })
	if at < 0 {
		return answer{}, notFound("reference with label %d and artifact %d not found", id, a.id)
	}
	a.labels = slices.Delete(a.labels, at, at+1)
	return done()
}
