package zot

import (
	"maps"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/schema"
)

// actions is a set of what Zot lets a subject do.
type actions uint8

const (
	actRead actions = 1 << iota
	actCreate
	actUpdate
	actDelete
	actCollide // delete by digest is refused where several tags have it

	actAll = actRead | actCreate | actUpdate | actDelete
)

func actionNames() []string {
	return []string{"read", "create", "update", "delete", "detectManifestCollision"}
}

// parseActions ignores what Zot ignores: words that are no action.
func parseActions(names []string) actions {
	var a actions
	for _, n := range names {
		if i := slices.Index(actionNames(), n); i >= 0 {
			a |= 1 << i
		}
	}
	return a
}

// names lists the actions; never nil, since a list that is not there would take
// what it is in along.
func (a actions) names() []string {
	out := []string{}
	for i, n := range actionNames() {
		if a&(1<<i) != 0 {
			out = append(out, n)
		}
	}
	return out
}

// actionsOf says rights as Zot does. Where tags are immutable, to push is to
// create and not to update; admin is free of that.
func actionsOf(r schema.Rights, immutable bool) actions {
	var a actions
	if r&schema.Admin != 0 {
		return actAll
	}
	if r&schema.Pull != 0 {
		a |= actRead
	}
	if r&schema.Push != 0 {
		a |= actCreate
		if !immutable {
			a |= actUpdate
		}
	}
	if r&schema.Delete != 0 {
		a |= actDelete
	}
	return a
}

// rights is the inverse; ok is false for what no rights say.
func (a actions) rights(immutable bool) (r schema.Rights, ok bool) {
	if a&actRead != 0 {
		r |= schema.Pull
	}
	switch push := a & (actCreate | actUpdate); {
	case push == 0:
	case push == actCreate|actUpdate && !immutable, push == actCreate && immutable:
		r |= schema.Push
	case push == actCreate|actUpdate && a&actAll == actAll:
		return schema.Admin, true // above what is immutable
	default:
		return 0, false
	}
	if a&actDelete != 0 {
		r |= schema.Delete
	}
	return r, true
}

// grants is what a pattern gives, whatever words say it.
type grants struct {
	anonymous, authenticated actions
	users, groups            map[string]actions
	// conditions are the expressions that all policies share; odd says that
	// they do not share them.
	conditions []condition
	odd        bool
}

func newGrants() grants { return grants{users: map[string]actions{}, groups: map[string]actions{}} }

// grantsOf reads what a pattern gives.
func grantsOf(g policyGroup) grants {
	out := newGrants()
	out.anonymous, out.authenticated = parseActions(g.AnonymousPolicy), parseActions(g.DefaultPolicy)
	for i, p := range g.Policies {
		a := parseActions(p.Actions)
		for _, u := range p.Users {
			if u == "" { // the name of whoever does not log in
				out.anonymous |= a
				continue
			}
			out.users[u] |= a
			out.odd = out.odd || nameless(u)
		}
		for _, n := range p.Groups {
			out.groups[strings.ToLower(n)] |= a
			if n != strings.ToLower(n) {
				out.odd = true // it never matches: Zot's reader lower-cases the group
			}
		}
		if i == 0 {
			out.conditions = p.Conditions
		} else if !sameConditions(out.conditions, p.Conditions) {
			out.odd = true
		}
	}
	return out
}

func expressions(list []condition) schema.Set {
	out := make([]string, 0, len(list))
	for _, c := range list {
		out = append(out, c.Expression)
	}
	return schema.NewSet(out...)
}

func sameConditions(a, b []condition) bool { return slices.Equal(expressions(a), expressions(b)) }

// equal compares what two patterns give; a right to be warned of a collision
// makes no difference.
func (g grants) equal(o grants) bool {
	plain := func(m map[string]actions) map[string]actions {
		out := map[string]actions{}
		for k, a := range m {
			if a &= actAll; a != 0 {
				out[k] = a
			}
		}
		return out
	}
	return g.odd == o.odd && (g.anonymous^o.anonymous)&actAll == 0 && (g.authenticated^o.authenticated)&actAll == 0 &&
		maps.Equal(plain(g.users), plain(o.users)) && maps.Equal(plain(g.groups), plain(o.groups)) &&
		sameConditions(g.conditions, o.conditions)
}

// wanted is what a namespace's pattern gives where an access rule, rules of
// immutable tags and robots say so. Who has logged in has what anybody has,
// which Zot does not see by itself.
func wanted(spec *schema.Access, immutable bool, robots map[string]actions) grants {
	g := newGrants()
	if spec.Anonymous != nil {
		g.anonymous = actionsOf(*spec.Anonymous, immutable)
	}
	g.authenticated = g.anonymous
	if spec.Authenticated != nil {
		g.authenticated |= actionsOf(*spec.Authenticated, immutable)
	}
	for _, u := range spec.Users {
		g.users[u.Name] |= actionsOf(u.Rights, immutable)
	}
	for _, n := range spec.Groups {
		g.groups[n.Name] |= actionsOf(n.Rights, immutable)
	}
	for login, a := range robots {
		g.users[login] |= a
	}
	if len(g.users)+len(g.groups) > 0 { // conditions stand in policies
		for _, e := range spec.Conditions {
			g.conditions = append(g.conditions, condition{Expression: e})
		}
	}
	return g
}

// grantsOf is what a pattern gives. Where nobody logs in, who would have logged in
// has what anybody has: no pattern says more (see [grants.sayable]).
func (c configuration) grantsOf(g policyGroup) grants {
	out := grantsOf(g)
	if !c.authenticated() {
		out.authenticated |= out.anonymous
	}
	return out
}

// sayable is grants as a Zot with logins or without takes them: one without does
// not start with rules for anybody but anonymous clients.
func (g grants) sayable(logins bool) grants {
	if !logins {
		g.authenticated = 0
	}
	return g
}

// accessAs says grants as a rule does, without those of robots, where tags are
// immutable or not; ok is false for what no rule says, such as that who has
// logged in may do less than anybody.
func (g grants) accessAs(immutable bool) (spec *schema.Access, ok bool) {
	if g.odd || g.anonymous&actAll&^g.authenticated != 0 {
		return nil, false
	}
	spec = &schema.Access{Users: schema.Grants{}, Groups: schema.Grants{}, Conditions: expressions(g.conditions)}
	good := true
	rights := func(a actions) schema.Rights {
		r, ok := a.rights(immutable)
		good = good && ok
		return r
	}
	spec.Anonymous, spec.Authenticated = new(rights(g.anonymous)), new(rights(g.authenticated))
	for name, a := range g.users {
		if r := rights(a); r != 0 && !isRobot(name) {
			spec.Users = append(spec.Users, schema.Grant{Name: name, Rights: r})
		}
	}
	for name, a := range g.groups {
		if r := rights(a); r != 0 {
			spec.Groups = append(spec.Groups, schema.Grant{Name: name, Rights: r})
		}
	}
	spec.Users, spec.Groups = schema.NewGrants(spec.Users...), schema.NewGrants(spec.Groups...)
	return spec, good
}

// shared is grants with what anybody has as far as those have it too who have
// logged in: of less than that no rule speaks.
func (g grants) shared() grants {
	g.anonymous &= g.authenticated
	return g
}

// meek is grants of which those who have logged in have what a rule can say: that is
// written again where a rule speaks of others alone.
func (g grants) meek() grants {
	if _, ok := g.authenticated.rights(false); !ok {
		g.authenticated &^= actCreate | actUpdate
	}
	return g
}

// loud is grants as a rule can say them: what none says counts as the right to
// push, and conditions that policies do not share do not count.
func (g grants) loud() grants {
	more := func(a actions) actions {
		if _, ok := a.rights(false); !ok {
			a |= actCreate | actUpdate
		}
		return a
	}
	out := newGrants()
	if !g.odd {
		out.conditions = g.conditions
	}
	out.anonymous, out.authenticated = more(g.anonymous), more(g.authenticated|g.anonymous)
	for name, a := range g.users {
		out.users[name] = more(a)
	}
	for name, a := range g.groups {
		out.groups[name] = more(a)
	}
	return out
}

// group says grants as Zot does, one policy per set of actions. Of what stood
// there it keeps the messages of conditions and who is warned of collisions.
func (g grants) group(before policyGroup) policyGroup {
	old := grantsOf(before)
	type subjects struct{ users, groups []string }
	by := map[actions]*subjects{}
	at := func(a actions) *subjects {
		if by[a] == nil {
			by[a] = &subjects{}
		}
		return by[a]
	}
	for _, name := range sortedKeys(g.users) {
		if a := g.users[name]; a != 0 {
			s := at(a | old.users[name]&actCollide)
			s.users = append(s.users, name)
		}
	}
	for _, name := range sortedKeys(g.groups) {
		if a := g.groups[name]; a != 0 {
			s := at(a | old.groups[name]&actCollide)
			s.groups = append(s.groups, name)
		}
	}
	conditions := slices.Clone(g.conditions)
	for i := range conditions {
		if j := slices.IndexFunc(old.conditions, func(c condition) bool { return c.Expression == conditions[i].Expression }); j >= 0 {
			conditions[i].Message = old.conditions[j].Message
		}
	}
	out := policyGroup{
		Policies:        []policy{},
		DefaultPolicy:   (g.authenticated | old.authenticated&actCollide).names(),
		AnonymousPolicy: (g.anonymous | old.anonymous&actCollide).names(),
	}
	for _, a := range slices.Backward(sortedKeys(by)) {
		out.Policies = append(out.Policies, policy{Users: by[a].users, Groups: by[a].groups, Actions: a.names(), Conditions: conditions})
	}
	return out
}

const robotPrefix = "robot$"

// isRobot tells the accounts of robots from those of people.
func isRobot(login string) bool { return strings.HasPrefix(login, robotPrefix) }

// nameless tells accounts that no mode can name: a list that somebody wrote as one
// text with commas is the name of one account to Zot.
func nameless(login string) bool { return strings.Contains(login, ",") }

// robotLogins are the two login names between which a robot alternates:
// "robot$ci" and "robot$ci.2", or of a namespace "robot$team-a+ci" and so on.
func robotLogins(robot schema.Key) [2]string {
	name := robot.Child()
	if ns, ok := robot.Namespace(); ok {
		name = ns.Name + "+" + name
	}
	return [2]string{robotPrefix + name, robotPrefix + name + ".2"}
}

// robotOf is the robot that has an account of that name.
func robotOf(login string) schema.Key {
	name, ns := strings.TrimSuffix(strings.TrimPrefix(login, robotPrefix), ".2"), ""
	if of, own, ok := strings.Cut(name, "+"); ok {
		ns, name = of, own
	}
	return schema.NewKey(schema.KindRobot, ns, name)
}

// pattern is the one of a namespace. It holds the repository of the same name
// too.
func pattern(namespace string) string { return namespace + "/**" }

// ownPattern is that of ocisync's own namespace.
func ownPattern() string { return pattern(access.Reserved) }

// everything is the pattern that decides where no other does.
const everything = "**"

// namespaceOf is the namespace whose pattern it is.
func namespaceOf(pattern string) (string, bool) {
	name, ok := strings.CutSuffix(pattern, "/**")
	return name, ok && validNamespace(name)
}

// intersects reports whether a pattern may match a repository that lies in a
// namespace. Where that cannot be told it is yes.
func intersects(pattern, namespace string) bool {
	steps := 10_000
	return doublestar.MatchUnvalidated(pattern, namespace) || begins(pattern, namespace+"/", true, &steps)
}

// begins reports whether something that a pattern matches may begin with a text
// that ends in a slash. It reads patterns as doublestar, which Zot matches with,
// does: a class may match a slash, and ** stands for more than one segment at
// the beginning of one, and of what stands in braces (boundary). What is not well
// formed, or takes more steps than are left, may match anything.
func begins(pattern, text string, boundary bool, steps *int) bool {
	*steps--
	switch {
	case text == "" || *steps < 0:
		return true
	case pattern == "":
		return false
	}
	switch pattern[0] {
	case '*':
		rest := strings.TrimLeft(pattern, "*")
		if boundary && len(pattern)-len(rest) > 1 {
			return true
		}
		for i := range text {
			if begins(rest, text[i:], false, steps) {
				return true
			}
			if text[i] == '/' {
				break
			}
		}
		return false
	case '?':
		return text[0] != '/' && begins(pattern[1:], text[1:], false, steps)
	case '[':
		end := closing(pattern, 1, ']')
		if end < 0 {
			return true
		}
		return doublestar.MatchUnvalidated(pattern[:end+1], text[:1]) && begins(pattern[end+1:], text[1:], false, steps)
	case '{':
		end := closing(pattern, 1, '}')
		if end < 0 || strings.Contains(pattern[:end], "[") && strings.ContainsAny(classes(pattern[1:end]), "{},") {
			return true // versions of doublestar differ about braces and commas in classes
		}
		for from := 1; ; {
			next := closing(pattern[:end], from, ',')
			if next < 0 {
				return begins(pattern[from:end]+pattern[end+1:], text, true, steps)
			}
			if begins(pattern[from:next]+pattern[end+1:], text, true, steps) {
				return true
			}
			from = next + 1
		}
	case '\\':
		if pattern = pattern[1:]; pattern == "" {
			return true
		}
	}
	return pattern[0] == text[0] && begins(pattern[1:], text[1:], pattern[0] == '/', steps)
}

// classes is what stands in the classes of a pattern, with a comma where the
// last one does not end.
func classes(pattern string) string {
	var out strings.Builder
	for {
		i := closing(pattern, 0, '[')
		if i < 0 {
			return out.String()
		}
		pattern = pattern[i+1:]
		end := closing(pattern, 0, ']')
		if end < 0 {
			return out.String() + ","
		}
		out.WriteString(pattern[:end])
		pattern = pattern[end:]
	}
}

// closing is the place of a character, from one on, that is not escaped and
// that, unless it is about classes, stands in no braces; -1 for none.
func closing(pattern string, from int, what byte) int {
	depth := 0
	for i := from; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '\\':
			i++
		case c == what && depth == 0:
			return i
		case c == '{' && what != ']' && what != '[':
			depth++
		case c == '}' && what != ']' && what != '[':
			depth--
		}
	}
	return -1
}

// inForce is what decides for a namespace without its own pattern.
func (c configuration) inForce(namespace string) policyGroup {
	ac := c.HTTP.AccessControl
	if ac == nil {
		return c.open()
	}
	best := ""
	for p := range ac.Repositories {
		if of, ok := namespaceOf(p); ok && access.In(namespace, of) { // its own, or that of one below
			continue
		}
		if doublestar.MatchUnvalidated(p, namespace+"/x") && (len(p) > len(best) || len(p) == len(best) && p < best) {
			best = p
		}
	}
	return ac.Repositories[best]
}

// open is what Zot gives where there is no access control.
func (c configuration) open() policyGroup {
	if !c.authenticated() {
		return policyGroup{AnonymousPolicy: actAll.names()}
	}
	return policyGroup{DefaultPolicy: actAll.names()}
}

// strangers are the patterns of no namespace, sorted.
func (c configuration) strangers() (list []string) {
	if ac := c.HTTP.AccessControl; ac != nil {
		for _, p := range sortedKeys(ac.Repositories) {
			if _, ok := namespaceOf(p); !ok {
				list = append(list, p)
			}
		}
	}
	return list
}

// shadows are the patterns of no namespace that decide for repositories of a
// namespace in the place of the namespace's own: Zot goes by the longest alone.
func shadows(strangers []string, namespace string, namespaces map[string]bool) (list []string) {
	for _, p := range strangers {
		if len(p) >= len(pattern(namespace)) && intersects(p, namespace) && !deeper(p, namespace, namespaces) {
			list = append(list, p)
		}
	}
	return list
}

// deeper reports whether all a pattern matches lies in a namespace below.
func deeper(pattern, namespace string, namespaces map[string]bool) bool {
	literal := pattern
	if i := strings.IndexAny(pattern, `*?[{\`); i >= 0 {
		literal = pattern[:i]
	}
	for {
		i := strings.LastIndexByte(literal, '/')
		if i <= len(namespace) {
			return false
		}
		if literal = literal[:i]; namespaces[literal] {
			return true
		}
	}
}
