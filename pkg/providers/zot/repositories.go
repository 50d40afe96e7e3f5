package zot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/schema"
)

// refName is the annotation by which an OCI image layout names a tag (OCI image
// specification 1.1, "annotations").
const refName = "org.opencontainers.image.ref.name"

const maxAnswer = 16 << 20 // bytes

// repositories lists those in the named namespaces, "*" for all: on this host
// by the disk, whether Zot runs or not, else by asking it. Where it has the search
// extension, sizes and days are known too.
func (p *Provider) repositories(ctx context.Context, names []string) ([]schema.RepositoryInfo, error) {
	away, err := p.away(ctx)
	if err != nil {
		return nil, err
	}
	if !away {
		s, err := p.load(ctx)
		if err != nil {
			return nil, err
		}
		if s.doc == nil { // a new registry, which has what lies where it will look
			st, err := p.look(ctx, s)
			if err != nil {
				return nil, err
			}
			if !st.running {
				s.conf.Storage.RootDirectory = filepath.Join(p.paths.data, "storage")
			}
		}
		if list, ok := stored(s.conf, names); ok {
			if len(list) > 0 && s.conf.searches() {
				list = p.enriched(ctx, list)
			}
			return list, nil
		}
	}
	return p.asked(ctx, names)
}

func selected(names []string, repository string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return n == "*" || access.In(n, repository) })
}

// rootOf is the directory that a repository is served from.
func (c configuration) rootOf(repository string) string {
	if route := c.storeOf(repository); route != "" {
		return c.Storage.SubPaths[route].RootDirectory
	}
	return c.Storage.RootDirectory
}

// stored looks at the image layouts on the disk that are served. False is where they
// are elsewhere, or cannot be read.
func stored(c configuration, names []string) ([]schema.RepositoryInfo, bool) {
	roots, elsewhere := []string{c.Storage.RootDirectory}, c.Storage.StorageDriver != ""
	for _, s := range c.Storage.SubPaths {
		roots, elsewhere = append(roots, s.RootDirectory), elsewhere || s.StorageDriver != ""
	}
	if elsewhere {
		return nil, false
	}
	var list []schema.RepositoryInfo
	for _, root := range roots {
		if !filepath.IsAbs(root) {
			return nil, false
		}
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				if path == root && errors.Is(err, fs.ErrNotExist) {
					return fs.SkipAll // nothing was ever pushed
				}
				return err
			}
			if !d.IsDir() {
				return nil
			}
			if inLayout(d.Name()) {
				return fs.SkipDir
			}
			name, err := filepath.Rel(root, path)
			if err != nil || name == "." {
				return err
			}
			tags, is, err := layoutTags(path)
			if is && c.rootOf(filepath.ToSlash(name)) == root && selected(names, filepath.ToSlash(name)) {
				list = append(list, schema.RepositoryInfo{Name: filepath.ToSlash(name), Tags: tags})
			}
			return err
		})
		if err != nil {
			return nil, false
		}
	}
	return list, true
}

// layoutTags counts the tags of an image layout; is tells whether it is one.
func layoutTags(dir string) (n int, is bool, err error) {
	f, err := regular.Open(filepath.Join(dir, "index.json"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, regular.ErrOther) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	var index struct {
		Manifests []struct {
			Annotations map[string]string `json:"annotations"`
		} `json:"manifests"`
	}
	if err := json.NewDecoder(io.LimitReader(f, maxAnswer)).Decode(&index); err != nil {
		return 0, false, nil // being written, or of somebody else
	}
	for _, m := range index.Manifests {
		if m.Annotations[refName] != "" {
			n++
		}
	}
	return n, true, nil
}

// asked asks the registry with the login, which sees what it may pull: its search
// extension by one query, else the catalogue and each repository's tags.
func (p *Provider) asked(ctx context.Context, names []string) ([]schema.RepositoryInfo, error) {
	client, rt, err := p.client()
	if err != nil {
		return nil, err
	}
	defer rt.CloseIdleConnections()
	user, password, err := p.login(ctx)
	if err != nil {
		return nil, err
	}
	var list []schema.RepositoryInfo
	if found, ok := p.searched(ctx, client, user, password); ok {
		for _, r := range found {
			if selected(names, r.Name) {
				list = append(list, r)
			}
		}
		return list, nil
	}
	all, err := p.catalogue(ctx, client, user, password)
	if err != nil {
		return nil, err
	}
	for _, name := range all {
		if !selected(names, name) {
			continue
		}
		tags, _, err := p.get(ctx, client, "/v2/"+name+"/tags/list", user, password)
		if err != nil && !errors.Is(err, providers.ErrNotFound) {
			return nil, err
		}
		list = append(list, schema.RepositoryInfo{Name: name, Tags: len(tags.Tags)})
	}
	return list, nil
}

// catalogue lists the repositories that the login sees.
func (p *Provider) catalogue(ctx context.Context, client *http.Client, user, password string) (list []string, err error) {
	next := "/v2/_catalog?n=1000"
	for range 10_000 {
		var page answer
		if page, next, err = p.get(ctx, client, next, user, password); err != nil {
			return nil, err
		}
		list = append(list, page.Repositories...)
		if len(page.Repositories) == 0 || next == "" {
			return list, nil
		}
	}
	return nil, p.fail(schema.Key{}, "listing its repositories", fmt.Errorf("%w: its catalogue does not end", providers.ErrNotRegistry), "correct registry.url")
}

// login is the account of the mode, "" for none.
func (p *Provider) login(ctx context.Context) (user, password string, err error) {
	l := p.registry.Login
	if l == nil || l.Password == nil {
		return "", "", nil
	}
	switch {
	case l.User != nil:
		user = *l.User
	case l.Robot != nil:
		user = robotLogins(schema.Key{Kind: schema.KindRobot, Name: *l.Robot})[0]
	}
	if p.permit != nil {
		if err := p.permit(p.registry.URL); err != nil {
			return "", "", err
		}
	}
	if password, err = p.secrets.Resolve(ctx, *l.Password); err != nil {
		return "", "", fmt.Errorf("registry.login: %w", err)
	}
	return user, password, nil
}

// answer is a page of the catalogue or of a repository's tags.
type answer struct {
	Repositories []string `json:"repositories"`
	Tags         []string `json:"tags"`
}

// get asks for a page and tells where the next one is.
func (p *Provider) get(ctx context.Context, client *http.Client, path, user, password string) (page answer, next string, err error) {
	fail := func(err error, remedy string) (answer, string, error) {
		return answer{}, "", p.fail(schema.Key{}, "asking GET "+path, err, remedy)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url.Scheme+"://"+p.url.Host+path, nil)
	if err != nil {
		return fail(err, "")
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fail(fmt.Errorf("%w: %w", providers.ErrUnreachable, err), "see that it is up")
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		return fail(providers.ErrUnauthorized, "correct registry.login")
	case http.StatusForbidden:
		return fail(providers.ErrForbidden, "use an account that may pull everything in registry.login")
	case http.StatusNotFound:
		return fail(providers.ErrNotFound, "")
	default:
		return fail(fmt.Errorf("%w: it answers %d", providers.ErrUnreachable, resp.StatusCode), "look at its log")
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&page); err != nil {
		return fail(fmt.Errorf("%w: %w", providers.ErrNotRegistry, err), "correct registry.url")
	}
	if link, _, ok := strings.Cut(resp.Header.Get("Link"), ">"); ok {
		if u, err := url.Parse(strings.TrimPrefix(link, "<")); err == nil {
			next = u.RequestURI()
		}
	}
	return page, next, nil
}
