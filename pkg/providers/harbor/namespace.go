package harbor

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// listsRemotes is the right, in the system, that it takes to see other registries.
const listsRemotes = "registry:list"

func readNamespaces(ctx context.Context, s *site) error {
	projects, err := s.allProjects(ctx)
	if err != nil {
		return err
	}
	var refused error // what Harbor calls a remote is asked once
	for _, p := range projects {
		key, spec := below(schema.KindNamespace, p.Name), &schema.Namespace{}
		want, declared := s.p.desired(key).(*schema.Namespace)
		if p.Remote != 0 {
			name, err := "", refused
			if err == nil {
				name, err = s.remoteName(ctx, p.Remote)
			}
			switch refused = err; {
			case err == nil:
				spec.ProxyOf, spec.Proxy = &name, proxyOf(p.Metadata)
			case !errors.Is(err, providers.ErrForbidden) || s.only[p.Name] || s.p.all() || declared && (want.ProxyOf != nil || want.Proxy != nil):
				return err
			case !declared: // what it is of nobody asks
				s.bar(err, key, listsRemotes, p.Name)
				continue
			}
		}
		s.add(key, p.ID, spec)
	}
	return nil
}

// normalNamespace leaves out the description: Harbor's projects have none.
func normalNamespace(n *normal, r schema.Resource) (schema.Spec, error) {
	spec, ok := r.Spec.(*schema.Namespace)
	if !ok {
		return r.Spec, nil
	}
	if spec.Description != nil {
		n.say(schema.Key{Kind: r.Key.Kind}, "description stands in the file alone: a Harbor project has none")
	}
	return &schema.Namespace{ProxyOf: spec.ProxyOf, Proxy: normalProxy(n, r.Key, spec.Proxy)}, nil
}

func prepareNamespace(ctx context.Context, s *site, c plan.Change, v *providers.Verdict) error {
	switch c.Action {
	case plan.Create:
		if strings.Contains(c.Key.Name, "/") {
			first, rest, _ := strings.Cut(c.Key.Name, "/")
			v.Refused = fmt.Sprintf("a Harbor project's name has no slash; declare [namespace.%s], which holds %s/*, and what is said of a repository there as [namespace.%s.repository.\"%s/NAME\"]", first, c.Key.Name, first, rest)
		} else if !projectName().MatchString(c.Key.Name) {
			v.Refused = "a Harbor project's name is of small letters and digits, with single dots, dashes and underscores between them"
		} else {
			v.Refused = s.unproxied(c)
		}
		return nil
	case plan.Delete:
	case plan.Replace:
		if v.Refused = s.unproxied(c); v.Refused != "" {
			return nil
		}
	default:
		v.Refused = s.unproxied(c)
		return nil
	}
	p, err := s.project(ctx, c.Key.Name)
	if errors.Is(err, providers.ErrNotFound) { // it is gone by now
		return nil
	}
	if err != nil {
		return err
	}
	if c.Archive {
		return s.locks(ctx, c, p, v)
	}
	if v.Impact, err = s.goesWith(ctx, c, p); err != nil {
		return err
	}
	if p.Repositories > 0 && !c.Purge {
		v.Refused = fmt.Sprintf("the project still holds %d repositories, and Harbor deletes none that does; delete them first, or declare on_delete = \"purge\" of the namespace, or \"archive\" to keep and lock them, apply that, and take it out then", p.Repositories)
	}
	return nil
}

// goesWith says what ends with a project beside its content and what the change
// tells already: access of robots, and the rules that keep tags.
func (s *site) goesWith(ctx context.Context, c plan.Change, p api.Project) ([]string, error) {
	var out []string
	robots, err := s.systemRobots(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range robots {
		if slices.ContainsFunc(r.Permissions, func(x api.Permission) bool { return x.Namespace == p.Name }) {
			out = append(out, fmt.Sprintf("robot %s loses its access to it", r.Name))
		}
	}
	own, err := s.robotsOf(ctx, c, p)
	if err != nil && !errors.Is(err, providers.ErrForbidden) {
		return nil, err
	}
	out = append(out, own...)
	slices.Sort(out)
	if !c.Purge || p.Repositories == 0 {
		return out, nil
	}
	rules, err := s.c.Immutables(ctx, p.Name)
	if err != nil {
		return nil, err
	}
	if n := len(rules); n > 0 {
		out = append(out, "its rules of immutable tags are deleted before: they would keep the tags")
	}
	return out, nil
}

// robotsOf says which robots of a project end with it, where the change does not.
func (s *site) robotsOf(ctx context.Context, c plan.Change, p api.Project) ([]string, error) {
	told := func(k schema.Key) bool {
		return slices.ContainsFunc(c.Impact, func(line string) bool { return strings.HasSuffix(line, " "+k.String()) })
	}
	own, err := s.c.Robots(ctx, p.ID, "")
	if err != nil {
		return nil, err
	}
	prefix, err := s.prefix(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range own {
		if key, _ := robotKey(prefix, p.Name, r.Name); !told(key) {
			out = append(out, fmt.Sprintf("robot %s of the project goes with it", r.Name))
		}
	}
	slices.Sort(out)
	return out, nil
}

// empty deletes what is in a project: Harbor deletes none with repositories, and no repository
// with immutable tags. What is pushed meanwhile goes too; who never stops pushing is
// not waited for.
func (s *site) empty(ctx context.Context, project string) error {
	rules, err := s.c.Immutables(ctx, project)
	if err != nil {
		return missing(err)
	}
	for _, r := range rules {
		if err := s.c.DeleteImmutable(ctx, project, r.ID); err != nil {
			return err
		}
	}
	const rounds = 3
	for range rounds {
		list, err := s.c.Repositories(ctx, project)
		if err != nil || len(list) == 0 {
			return missing(err)
		}
		var work errgroup.Group
		work.SetLimit(32) // the client lets fewer through
		for _, r := range list {
			work.Go(func() error {
				return s.p.fail(schema.Key{Kind: schema.KindRepository, Name: r.Name}, "", s.c.DeleteRepository(ctx, project, strings.TrimPrefix(r.Name, project+"/")), "")
			})
		}
		if err := work.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// missing takes what is not there for deleted.
func missing(err error) error {
	if errors.Is(err, providers.ErrNotFound) {
		return nil
	}
	return err
}

// projectName is the grammar of projects' names.
func projectName() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]+(?:[._-][a-z0-9]+)*$`) }

func writeNamespace(ctx context.Context, s *site, c plan.Change, _ object) error {
	if c.Archive {
		return s.archive(ctx, c.Key.Name)
	}
	if c.Action == plan.Delete || c.Action == plan.Replace {
		if c.Purge {
			if err := s.empty(ctx, c.Key.Name); err != nil {
				return err
			}
		}
		if err := s.c.DeleteProject(ctx, c.Key.Name); err != nil || c.Action == plan.Delete {
			return err
		}
	}
	want, err := after[*schema.Namespace](c)
	if err != nil {
		return err
	}
	if c.Action == plan.Update {
		return s.c.UpdateProject(ctx, c.Key.Name, api.ProjectUpdate{Metadata: proxyMetadata(c, want.Proxy)})
	}
	next := api.NewProject{Name: c.Key.Name, Metadata: proxyMetadata(c, want.Proxy)}
	next.Metadata["public"] = "false"
	if want.ProxyOf != nil && *want.ProxyOf != "" {
		id, err := s.remoteID(ctx, *want.ProxyOf)
		if err != nil {
			return err
		}
		next.Remote = &id
	}
	_, err = s.c.CreateProject(ctx, next)
	return err
}

// systemRobots are the robots of no project. An account that may not see them
// knows none.
func (s *site) systemRobots(ctx context.Context) ([]api.Robot, error) {
	list, err := s.robots.get(func() ([]api.Robot, error) { return s.c.Robots(ctx, 0, "") })
	if errors.Is(err, providers.ErrForbidden) {
		return nil, nil
	}
	return list, err
}
