package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Repository is one of a project, by its full name.
type Repository struct {
	ID          int64  `json:"id"`
	Name        string `json:"name"`
	Description string `json:"description"`
}

// Repositories lists a project's.
func (c *Client) Repositories(ctx context.Context, project string) ([]Repository, error) {
	return list(ctx, c, call{method: http.MethodGet, path: "/projects/" + escape(project) + "/repositories", doing: "listing repositories"}, func(r Repository) int64 { return r.ID })
}

// AllRepositories lists those of all projects that the login may see.
func (c *Client) AllRepositories(ctx context.Context) ([]Repository, error) {
	return list(ctx, c, call{method: http.MethodGet, path: "/repositories", doing: "listing repositories"}, func(r Repository) int64 { return r.ID })
}

// DescribeRepository says what a repository is, which is named below its project.
func (c *Client) DescribeRepository(ctx context.Context, project, name, text string) error {
	_, err := write(ctx, c, call{method: http.MethodPut, path: "/projects/" + escape(project) + "/repositories/" + escape(name), doing: "describing it"}, struct {
		Description string `json:"description"`
	}{text})
	return err
}

// DeleteRepository deletes a repository with all that is in it.
func (c *Client) DeleteRepository(ctx context.Context, project, name string) error {
	return c.delete(ctx, call{path: "/projects/" + escape(project) + "/repositories/" + escape(name), doing: "deleting it", hint: "see whether tags in it are immutable"})
}

// DeleteTag deletes a tag of a repository, which is named below its project, and leaves
// what it names.
func (c *Client) DeleteTag(ctx context.Context, project, name, tag string) error {
	at := "/projects/" + escape(project) + "/repositories/" + escape(name) + "/artifacts/" + escape(tag) + "/tags/" + escape(tag)
	return c.delete(ctx, call{path: at, doing: "deleting the tag", hint: "see whether it is immutable"})
}

// Artifact is a manifest of a repository.
type Artifact struct {
	ID         int64     `json:"id"`
	Repository string    `json:"repository_name"` // the full name
	Digest     string    `json:"digest"`
	Size       int64     `json:"size"`
	Pushed     time.Time `json:"push_time"`
	Pulled     time.Time `json:"pull_time"`
	Tags       []struct {
		Name string `json:"name"`
	} `json:"tags"`
	// Accessories are what refers to it, of [Client.Tagged] alone.
	Accessories []struct {
		Digest string `json:"digest"`
	} `json:"accessories"`
	// Parts are the manifests that it names, where it is an index.
	Parts []json.RawMessage `json:"references"`
}

// Artifacts lists those of some repositories of a project, with their tags. It is
// no pull. Before 2.12 there is no list of a project's.
func (c *Client) Artifacts(ctx context.Context, project string, of []Repository) ([]Artifact, error) {
	return c.artifactsOf(ctx, project, of, !c.Before(2, 12), url.Values{"with_tag": {"true"}})
}

// Tagged is Artifacts with what refers to them, of a project that has so many
// repositories. A list of all is read where they are not many more than those of which
// it is wanted.
func (c *Client) Tagged(ctx context.Context, project string, of []Repository, has int) ([]Artifact, error) {
	whole := !c.Before(2, 12) && has <= 2*len(of)
	return c.artifactsOf(ctx, project, of, whole, url.Values{"with_tag": {"true"}, "with_accessory": {"true"}})
}

func (c *Client) artifactsOf(ctx context.Context, project string, of []Repository, whole bool, query url.Values) ([]Artifact, error) {
	at := "/projects/" + escape(project)
	if whole {
		return c.artifacts(ctx, at, query)
	}
	var mu sync.Mutex
	var all []Artifact
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(32) // the client lets fewer through
	for _, r := range of {
		work.Go(func() error {
			list, err := c.artifacts(ctx, at+"/repositories/"+escape(strings.TrimPrefix(r.Name, project+"/")), query)
			for i := range list {
				list[i].Repository = r.Name
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, list...)
			return err
		})
	}
	return all, work.Wait()
}

func (c *Client) artifacts(ctx context.Context, at string, query url.Values) ([]Artifact, error) {
	return list(ctx, c, call{method: http.MethodGet, path: at + "/artifacts", query: query, doing: "listing artifacts"}, func(a Artifact) int64 { return a.ID })
}
