// Package access answers the one question of every registry ocisync guards
// itself: may this subject do that in this repository?
//
// Start with [Compile], which turns a state's users, groups, namespaces and
// access rules into [Rules]; [Rules.May] answers. A subject has the union of
// what anonymous, authenticated, its groups and its own line give it; an admin
// user may do everything; the longest namespace that holds a repository alone
// decides for it. Everything here is pure.
package access

import (
	"maps"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// Reserved is the namespace that holds ocisync's own artifacts. Nobody but
// admin users may do anything in it, whatever the rules say.
const Reserved = schema.Reserved

// Outside says who may do what in repositories that lie in no namespace.
type Outside string

// The policies. Leave is what the registry does without rules: every
// authenticated user pulls, pushes and deletes, anonymous clients nothing.
const (
	Deny  Outside = "deny"
	Leave Outside = "leave"
)

// Valid reports whether o is one of the policies.
func (o Outside) Valid() bool { return o == Deny || o == Leave }

// Subject is who asks. The zero value is an anonymous client.
type Subject struct {
	// User is the name of an account whose password was checked, or "".
	User string
	// Robot is the name of a robot whose secret was checked, or "": "ci", or
	// of a namespace "team-a/ci".
	Robot string
}

// Anonymous is a client without credentials.
func Anonymous() Subject { return Subject{} }

// User is a client that proved to be the named account.
func User(name string) Subject { return Subject{User: name} }

// Robot is a client that proved to be the named robot.
func Robot(name string) Subject { return Subject{Robot: name} }

// Rules are compiled access rules: immutable, safe for concurrent use.
type Rules struct {
	outside    Outside
	people     map[string]person
	namespaces map[string]*namespace
	robots     map[string]schema.Grants // by name, then namespace
	anonymous  bool                     // anonymous clients may pull somewhere
}

// person is what the rules know of an account beyond its own lines.
type person struct {
	admin  bool
	groups []int32 // sorted
}

type namespace struct {
	anonymous     schema.Rights
	authenticated schema.Rights // with what anonymous gives
	users         schema.Grants // sorted by name
	groups        []groupGrant  // sorted by group
	withheld      schema.Rights // from everybody but admin users
}

type groupGrant struct {
	group  int32
	rights schema.Rights
}

// Compile takes the users, groups, robots, namespaces and access rules of a
// state and ignores its other kinds. A namespace without an access rule is open to admin
// users alone. An empty or unknown policy counts as [Deny].
func Compile(st schema.State, outside Outside) *Rules {
	r := &Rules{outside: outside, people: map[string]person{}, namespaces: map[string]*namespace{}, robots: map[string]schema.Grants{}}
	groups := map[string]int32{}
	number := func(name string) int32 {
		n, ok := groups[name]
		if !ok {
			n = int32(len(groups))
			groups[name] = n
		}
		return n
	}
	for _, res := range st.Resources {
		switch spec := res.Spec.(type) {
		case *schema.User:
			p := r.people[res.Key.Name]
			p.admin = spec.Admin != nil && *spec.Admin
			r.people[res.Key.Name] = p
		case *schema.Group:
			g := number(res.Key.Name)
			for _, name := range spec.Users {
				p := r.people[name]
				p.groups = append(p.groups, g)
				r.people[name] = p
			}
		case *schema.Robot:
			r.robots[res.Key.Name] = spec.Access
		case *schema.Namespace:
			r.namespace(res.Key.Name)
		case *schema.Access:
			r.namespace(res.Key.Name).grant(spec, number)
			r.anonymous = r.anonymous || res.Key.Name != Reserved && spec.Anonymous != nil && spec.Anonymous.Has(schema.Pull)
		}
	}
	for name, p := range r.people {
		slices.Sort(p.groups)
		p.groups = slices.Compact(p.groups)
		r.people[name] = p
	}
	return r
}

func (r *Rules) namespace(name string) *namespace {
	ns := r.namespaces[name]
	if ns == nil {
		ns = &namespace{}
		r.namespaces[name] = ns
	}
	return ns
}

func (ns *namespace) grant(spec *schema.Access, number func(string) int32) {
	if spec.Anonymous != nil {
		ns.anonymous = spec.Anonymous.Effective()
	}
	ns.authenticated = ns.anonymous
	if spec.Authenticated != nil {
		ns.authenticated |= spec.Authenticated.Effective()
	}
	ns.users = spec.Users
	ns.groups = nil
	for _, g := range spec.Groups {
		ns.groups = append(ns.groups, groupGrant{number(g.Name), g.Rights.Effective()})
	}
	slices.SortFunc(ns.groups, func(a, b groupGrant) int { return int(a.group - b.group) })
}

// May reports whether the subject holds all the wanted rights in the
// repository. It allocates nothing.
func (r *Rules) May(s Subject, want schema.Rights, repository string) bool {
	return r.Rights(s, repository).Has(want)
}

// Rights returns all that the subject may do in the repository.
func (r *Rules) Rights(s Subject, repository string) schema.Rights {
	p := r.people[s.User]
	if s.User != "" && p.admin {
		return schema.Admin.Effective()
	}
	name, ns := r.find(repository)
	switch {
	case In(Reserved, repository):
		return 0
	case name != "" && s.Robot != "":
		return (ns.anonymous | r.robotRights(s.Robot, name)) &^ ns.withheld
	case name == "" && r.outside == Leave && s.User != "":
		return schema.Pull | schema.Push | schema.Delete
	case name == "":
		return 0
	case s.User == "":
		return ns.anonymous &^ ns.withheld
	}
	rights := ns.authenticated
	if own, ok := ns.users.Get(s.User); ok {
		rights |= own.Effective()
	}
	// both lists are sorted: merge
	for i, j := 0, 0; i < len(ns.groups) && j < len(p.groups); {
		switch g := ns.groups[i]; {
		case g.group < p.groups[j]:
			i++
		case g.group > p.groups[j]:
			j++
		default:
			rights |= g.rights
			i++
			j++
		}
	}
	return rights &^ ns.withheld
}

// Withhold returns the rules with push taken from everybody but admin users in
// some of the namespaces; who has admin in one keeps to pull and delete.
func (r *Rules) Withhold(namespaces []string) *Rules {
	if len(namespaces) == 0 {
		return r
	}
	out := *r
	out.namespaces = maps.Clone(r.namespaces)
	for _, name := range namespaces {
		if ns := r.namespaces[name]; ns != nil {
			less := *ns
			less.withheld = schema.Push | schema.Admin
			out.namespaces[name] = &less
		}
	}
	return &out
}

// robotRights are what a robot's own line for the namespace gives it, and its
// line for all of them. No other line is for robots.
func (r *Rules) robotRights(robot, namespace string) schema.Rights {
	grants := r.robots[robot]
	one, _ := grants.Get(namespace)
	all, _ := grants.Get("*")
	return one.Effective() | all.Effective()
}

// Admin reports whether the subject is an admin user of the registry.
func (r *Rules) Admin(s Subject) bool { return s.User != "" && r.people[s.User].admin }

// AnonymousPulls reports whether anonymous clients may pull anything at all.
func (r *Rules) AnonymousPulls() bool { return r.anonymous }

// Namespace names the namespace that decides for a repository: the longest
// whose segments begin the repository's, or "" where there is none.
func (r *Rules) Namespace(repository string) string {
	name, _ := r.find(repository)
	return name
}

// Holds reports whether a repository lies in a namespace and in none below that; the
// namespace need not exist yet.
func (r *Rules) Holds(namespace, repository string) bool {
	return In(namespace, repository) && len(r.Namespace(repository)) <= len(namespace)
}

func (r *Rules) find(repository string) (string, *namespace) {
	for name := repository; name != ""; {
		if ns, ok := r.namespaces[name]; ok {
			return name, ns
		}
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			break
		}
		name = name[:i]
	}
	return "", nil
}

// In reports whether a repository lies in a namespace, or is named as it is.
func In(namespace, repository string) bool {
	rest, ok := strings.CutPrefix(repository, namespace)
	return ok && (rest == "" || rest[0] == '/')
}
