package harbortest

import (
	"html"
	"net/url"
	"slices"
	"strings"
	"time"
)

// repository is one with what was pushed to it.
type repository struct {
	id             int64
	name           string // the project first
	of             *project
	description    string
	pulls          int64
	artifacts      table[artifact]
	created, until time.Time
}

// repositoryCount is how many repositories a project has.
func (s *Server) repositoryCount(p *project) int { return len(p.repositories.order) }

func (s *Server) addRepository(p *project, name string) *repository {
	r := &repository{id: s.next("repository"), name: name, of: p, created: s.now()}
	r.until = r.created
	s.repositories.put(r.id, name, r)
	p.repositories.put(r.id, name, r)
	return r
}

func (s *Server) repositoryOperations() routes {
	const at = "/projects/{project_name}/repositories"
	return routes{
		"GET /repositories":                   s.listAllRepositories,
		"GET " + at:                           s.listRepositories,
		"GET " + at + "/{repository_name}":    s.showRepository,
		"PUT " + at + "/{repository_name}":    s.updateRepository,
		"DELETE " + at + "/{repository_name}": s.deleteRepository,
	}
}

type shownRepository struct {
	ArtifactCount int    `json:"artifact_count"`
	CreationTime  stamp  `json:"creation_time"`
	Description   string `json:"description,omitempty"`
	ID            int64  `json:"id"`
	Name          string `json:"name"`
	ProjectID     int64  `json:"project_id"`
	PullCount     int64  `json:"pull_count"`
	UpdateTime    stamp  `json:"update_time"`
}

func (r *repository) show() shownRepository {
	return shownRepository{
		ArtifactCount: len(r.placed(false)), CreationTime: stamp(r.created), Description: r.description, ID: r.id,
		Name: r.name, ProjectID: r.of.id, PullCount: r.pulls, UpdateTime: stamp(r.until),
	}
}

func repositoryFields() fields[*repository] {
	return fields[*repository]{
		"name":          func(r *repository) string { return r.name },
		"repository_id": func(r *repository) string { return number(r.id) },
		"project_id":    func(r *repository) string { return number(r.of.id) },
		"description":   func(r *repository) string { return r.description },
		"creation_time": func(r *repository) string { return moment(r.created) },
		"update_time":   func(r *repository) string { return moment(r.until) },
	}
}

const newestRepositories = "-creation_time,-repository_id"

// listAllRepositories lists those of all projects that somebody may see.
func (s *Server) listAllRepositories(c *call) (answer, error) {
	rows := s.repositories.all()
	if c.who.user == nil || !c.who.user.sysadmin {
		rows = slices.DeleteFunc(rows, func(r *repository) bool { return !s.listable(c.who, r.of) })
	}
	return listed(c, rows, repositoryFields(), newestRepositories, (*repository).show)
}

func (s *Server) listRepositories(c *call) (answer, error) {
	p, err := s.project(c, "repository", "list")
	if err != nil {
		return answer{}, err
	}
	return listed(c, p.repositories.all(), repositoryFields(), newestRepositories, (*repository).show)
}

// pathRepository is the one that the path names, its slashes escaped twice,
// or once.
func (s *Server) pathRepository(c *call, resource, action string) (*repository, error) {
	p, err := s.project(c, resource, action)
	if err != nil {
		return nil, err
	}
	name := c.vars["repository_name"]
	if again, err := url.PathUnescape(name); err == nil {
		name = again
	}
	r := p.repositories.named(p.name + "/" + name)
	if r == nil {
		return nil, notFound("repository %s/%s not found", p.name, name)
	}
	return r, nil
}

func (s *Server) showRepository(c *call) (answer, error) {
	r, err := s.pathRepository(c, "repository", "read")
	if err != nil {
		return answer{}, err
	}
	return shown(r.show())
}

// updateRepository sets the description, which is kept escaped for HTML.
func (s *Server) updateRepository(c *call) (answer, error) {
	r, err := s.pathRepository(c, "repository", "update")
	if err != nil {
		return answer{}, err
	}
	given, err := decode[struct {
		Description string `json:"description"`
	}](c)
	if err != nil {
		return answer{}, err
	}
	r.description, r.until = html.EscapeString(given.Description), s.now()
	return done()
}

func (s *Server) deleteRepository(c *call) (answer, error) {
	r, err := s.pathRepository(c, "repository", "delete")
	if err != nil {
		return answer{}, err
	}
	for _, a := range r.artifacts.all() {
		if err := s.checkTags(r, a); err != nil {
			return answer{}, err
		}
	}
	s.repositories.remove(r.id, r.name)
	r.of.repositories.remove(r.id, r.name)
	s.count(r.of)
	return done()
}

// short is a repository's name within its project.
func (r *repository) short() string { return strings.TrimPrefix(r.name, r.of.name+"/") }
