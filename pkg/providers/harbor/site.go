package harbor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// site is what one call has seen of a Harbor: lists that several kinds need are
// read once, when the first asks. Safe for concurrent use.
type site struct {
	p *Provider
	c *api.Client
	// only are the projects whose own lists are wanted; nil is all of them.
	only map[string]bool
	// spared are those whose lists are not read, although wanted.
	spared map[string]bool
	// wanted are the objects of which it must be known how they are.
	wanted schema.State
	// owned are those that ocisync owns, and spoken the projects of either; nil where
	// nobody said.
	owned  []schema.Key
	spoken map[string]bool

	// planned are the changes that are being prepared, authMode where accounts come
	// from once they are made, and everybody says that each account makes projects
	// then; zero otherwise.
	planned   []plan.Change
	authMode  string
	everybody bool

	barring sync.Mutex // held while robots of the system are barred from a project

	mu      sync.Mutex
	objects map[schema.Key]object
	except  []schema.Key      // what could not be read
	barred  map[string]barred // by the right that it takes
	kept    []schema.Key      // access beside which the login's own membership stays
	unshown []string          // projects of something owned that Harbor has and does not list
	refused map[schema.Kind]error

	// what was read whole, for writes that replace the whole; guarded by mu
	retentions map[string]api.Retention // by project
	lost       map[string]bool          // projects that point to a policy that is gone
	immutables map[string][]api.Rule    // by project
	webhooks   map[schema.Key]api.Webhook
	policies   map[schema.Key]api.PreheatPolicy
	accounts   map[schema.Key][]account // of robots
	members    map[string][]api.Member  // by project

	settings memo[map[string]api.Setting]
	projects memo[[]api.Project]
	own      *api.Project // ocisync's, nil where it is not seen; known with projects
	users    memo[[]api.User]
	groups   memo[[]api.Group]
	quotas   memo[[]api.Quota]
	remotes  memo[[]api.Remote]
	copies   memo[[]api.Replication]
	scanners memo[[]api.Scanner]
	preheats memo[[]api.Preheat]
	fetched  memo[map[schema.Key]string] // by policy the instance that preheats
	gc       memo[api.GC]
	purge    memo[api.Purge]
	robots   memo[[]api.Robot] // of the system
	mays     memo[api.Catalogue]
	me       memo[self] // the robot of the first login
}

// object is a live object with what names it to Harbor.
type object struct {
	schema.Resource
	id int64
}

func newSite(p *Provider, c *api.Client) *site {
	return &site{
		p: p, c: c, objects: map[schema.Key]object{}, barred: map[string]barred{}, refused: map[schema.Kind]error{},
		retentions: map[string]api.Retention{}, lost: map[string]bool{}, immutables: map[string][]api.Rule{}, webhooks: map[schema.Key]api.Webhook{},
		policies: map[schema.Key]api.PreheatPolicy{},
		accounts: map[schema.Key][]account{}, members: map[string][]api.Member{},
	}
}

// memo is a value that is fetched once. A failure is not kept.
type memo[T any] struct {
	mu    sync.Mutex
	known bool
	value T
}

func (m *memo[T]) get(fetch func() (T, error)) (T, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known {
		return m.value, nil
	}
	v, err := fetch()
	if err == nil {
		m.known, m.value = true, v
	}
	return v, err
}

// forget has the value fetched anew.
func (m *memo[T]) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known = false
}

func (s *site) allSettings(ctx context.Context) (map[string]api.Setting, error) {
	return s.settings.get(func() (map[string]api.Setting, error) { return s.c.Settings(ctx) })
}

func (s *site) allProjects(ctx context.Context) ([]api.Project, error) {
	return s.projects.get(func() ([]api.Project, error) {
		list, err := s.c.Projects(ctx)
		if i := slices.IndexFunc(list, func(p api.Project) bool { return p.Name == schema.Reserved }); i >= 0 {
			own := list[i]
			s.own = &own
		}
		// ocisync's own is nobody's object
		return slices.DeleteFunc(list, func(p api.Project) bool { return p.Name == schema.Reserved }), err
	})
}

func (s *site) allUsers(ctx context.Context) ([]api.User, error) {
	return s.users.get(func() ([]api.User, error) { return s.c.Users(ctx) })
}

func (s *site) allGroups(ctx context.Context) ([]api.Group, error) {
	return s.groups.get(func() ([]api.Group, error) { return s.c.Groups(ctx) })
}

func (s *site) allQuotas(ctx context.Context) ([]api.Quota, error) {
	return s.quotas.get(func() ([]api.Quota, error) { return s.c.Quotas(ctx) })
}

// project finds one by name. ErrNotFound: there is none.
func (s *site) project(ctx context.Context, name string) (api.Project, error) {
	list, err := s.allProjects(ctx)
	if err != nil {
		return api.Project{}, err
	}
	i := slices.IndexFunc(list, func(p api.Project) bool { return p.Name == name })
	if i < 0 {
		return api.Project{}, s.p.fail(schema.Key{Kind: schema.KindNamespace, Name: name}, "", providers.ErrNotFound, "create the namespace first")
	}
	return list[i], nil
}

// add keeps a live object.
func (s *site) add(key schema.Key, id int64, spec schema.Spec, unread ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[key] = object{Resource: schema.Resource{Key: key, Spec: spec, Unread: unread}, id: id}
}

// miss says that an object, or all below a name that ends in "/", could not be
// read: it is unknown then, and not absent.
func (s *site) miss(key schema.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.except = append(s.except, key)
}

// each does something for each wanted project, several at once.
func (s *site) each(ctx context.Context, do func(context.Context, api.Project) error) error {
	list, err := s.asked(ctx)
	if err != nil {
		return err
	}
	return s.forAll(ctx, list, do)
}

// asked are the projects whose own lists are wanted.
func (s *site) asked(ctx context.Context) ([]api.Project, error) {
	list, err := s.allProjects(ctx)
	return slices.DeleteFunc(slices.Clone(list), func(p api.Project) bool {
		return s.only != nil && !s.only[p.Name] || s.spared[p.Name]
	}), err
}

func (s *site) forAll(ctx context.Context, list []api.Project, do func(context.Context, api.Project) error) error {
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(32) // the client lets fewer through
	for _, p := range list {
		work.Go(func() error { return s.p.fail(below(schema.KindNamespace, p.Name), "", do(ctx, p), "") })
	}
	return work.Wait()
}

// hidden takes what the account may not see of a project, or of none, without a right,
// for unknown. Where something of it is wanted, nobody could say that it is as declared:
// that is an error, as others are.
func (s *site) hidden(err error, key schema.Key, right string) error {
	switch {
	case errors.Is(err, providers.ErrNotFound):
		s.miss(key)
		return nil
	case !errors.Is(err, providers.ErrForbidden):
		return err
	}
	project := strings.TrimSuffix(key.Name, "/")
	one := schema.Scope{Kinds: []schema.Kind{key.Kind}, Except: []schema.Key{key}}
	if slices.ContainsFunc(s.wanted.Resources, func(r schema.Resource) bool { return r.Key.Kind == key.Kind && !one.Covers(r.Key) }) {
		return s.lacking(err, right, project)
	}
	s.bar(err, key, right, project)
	return nil
}

// bar takes what nobody declares for unknown, and notes which right would show it.
func (s *site) bar(err error, key schema.Key, right, project string) {
	s.miss(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.barred[right]
	s.barred[right] = barred{append(b.projects, cmp.Or(project, asAWhole)), api.Said(err), s.c.NoRobots(right)}
}

// asAWhole is where what is in no project is.
const asAWhole = "the registry as a whole"

// barred are the projects of which a list may not be seen, and Harbor's words for it.
type barred struct {
	projects []string
	said     string
	robots   string // what to do where no robot may see them
}

// lacking says of a refusal which right of a project it takes.
func (s *site) lacking(err error, right, project string) error {
	out := providers.Error{Registry: s.p.registry.URL, Err: err}
	var said *providers.Error
	if errors.As(err, &said) {
		out = *said
	}
	switch at := where(project); {
	case s.c.Plain() && project == "":
		out.Remedy = "it takes " + right + " " + at + "; " + api.NoUsers
	case s.c.Plain():
		out.Remedy = fmt.Sprintf("have an administrator give the user in registry.login a role that has %s %s, or name one there that has it", right, at)
	case s.c.NoRobots(right) != "":
		out.Remedy = "it takes " + right + " " + at + "; " + s.c.NoRobots(right)
	default:
		out.Remedy = fmt.Sprintf("have an administrator give the account in registry.login %s %s, or name one there that has it", right, at)
	}
	return &out
}

// read reads kinds, several at once.
func (s *site) read(ctx context.Context, want []schema.Kind) error {
	work, within := errgroup.WithContext(ctx)
	for _, k := range want {
		if read := kinds()[k].read; read != nil {
			work.Go(func() error {
				err := read(within, s)
				if errors.Is(err, providers.ErrForbidden) && !s.asksFor(k) {
					s.refuse(k, err)
					return nil
				}
				return err
			})
		}
	}
	if err := work.Wait(); err != nil {
		return err
	}
	return s.noneUnseen(ctx, want)
}

// asksFor reports whether how objects of a kind are must be known.
func (s *site) asksFor(k schema.Kind) bool {
	return len(s.wanted.Resources) == 0 || slices.ContainsFunc(s.wanted.Resources, func(r schema.Resource) bool { return r.Key.Kind == k })
}

// refuse takes a kind that nobody declares, and the login may not see, for unknown.
func (s *site) refuse(k schema.Kind, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused[k] = err
}

// below is the key of a kind's one object of a project.
func below(k schema.Kind, project string) schema.Key { return schema.Key{Kind: k, Name: project} }

// ready learns what holds once the planned settings are set: where accounts come
// from, and whether Harbor takes no other change.
func (s *site) ready(ctx context.Context) (closed bool, err error) {
	now, err := s.c.Now(ctx)
	s.authMode = cmp.Or(text(json.RawMessage(s.settingOf("auth_mode"))), now.AuthMode)
	s.everybody = cmp.Or(text(json.RawMessage(s.settingOf("project_creation_restriction"))), now.Creation) == "everyone"
	return now.ReadOnly && s.settingOf("read_only") != "false", err
}

// settingOf is what the planned changes make of a setting, as JSON, or "".
func (s *site) settingOf(name string) string {
	for _, c := range s.planned {
		for _, f := range c.Fields {
			if c.Key.Kind == schema.KindSettings && f.Path == "values."+name {
				return f.New
			}
		}
	}
	return ""
}

// of is a desired field's value, or the live one where the change does not say.
func of[T any](want *T, otherwise T) T {
	if want == nil {
		return otherwise
	}
	return *want
}

// before is the spec that a change finds.
func before[S schema.Spec](c plan.Change) (S, bool) {
	var none S
	if c.Before == nil {
		return none, false
	}
	spec, ok := c.Before.Spec.(S)
	return spec, ok
}

// after is the spec that a change makes.
func after[S schema.Spec](c plan.Change) (S, error) {
	var none S
	if c.After == nil {
		return none, fmt.Errorf("%w: the change does not say what the object shall be", providers.ErrInvalid)
	}
	spec, ok := c.After.Spec.(S)
	if !ok {
		return none, fmt.Errorf("%w: the change is of another kind", providers.ErrInvalid)
	}
	return spec, nil
}
