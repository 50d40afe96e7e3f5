package harbor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// need is a right that Harbor asks of a robot.
type need struct {
	namespace string // a project, "*", or "/" for the system
	api.Access
}

// makesRobots is the right to make a robot that may do no more than who makes it.
func makesRobots() api.Access { return api.Access{Resource: "robot", Action: "create"} }

// needsIn lists rights in one place, as in accesses.
func needsIn(namespace, text string) []need {
	var out []need
	for _, a := range accesses(text) {
		out = append(out, need{namespace, a})
	}
	return out
}

// has reports whether a robot has a right. In all projects, one on the project is
// one on everything in it.
func (m may) has(n need) bool {
	if listed(m[n.namespace], n.Access) {
		return true
	}
	all := m[api.AllProjects]
	return n.namespace != api.OfSystem && (listed(all, n.Access) || listed(all, api.Access{Resource: "project", Action: n.Action}))
}

// verbs are Harbor's words for a change.
func verbs(c plan.Change) string {
	switch c.Action {
	case plan.Create:
		return "create"
	case plan.Delete:
		return "delete"
	case plan.Update, plan.Rename:
		return "update"
	case plan.Replace:
		return "delete,create"
	}
	return "" // it writes nothing
}

// needs lists the rights that the first login needs for a change, and to see after it
// that it was done. What goes with registry.admin is not among them.
func needs(c plan.Change) []need {
	out := writes(c)
	place := project(c.Key)
	if len(out) == 0 || place == "" || c.Action == plan.Delete {
		return out
	}
	shows := map[schema.Kind]string{
		schema.KindAccess: "member:list", schema.KindWebhook: "notification-policy:list", schema.KindImmutable: "immutable-tag:list",
		schema.KindLabel: "label:list", schema.KindPreheatPolicy: "preheat-policy:list", schema.KindRobot: "robot:list",
		schema.KindRetention: "tag-retention:read",
	}[c.Key.Kind]
	if c.Key.Kind == schema.KindScan && changes(c, "scanner") {
		shows = "metadata:list"
	}
	return append(out, needsIn(place, shows)...)
}

// writes lists the rights that a change itself takes.
func writes(c plan.Change) []need {
	does := verbs(c)
	place := project(c.Key)
	if place == "" {
		place = api.OfSystem
	}
	if does == "" {
		return nil
	}
	whole := func(resource string) []need { return needsIn(place, resource+":"+does) }
	switch c.Key.Kind {
	case schema.KindUser:
		return append(whole("user"), administrator(c)...)
	case schema.KindGroup:
		if c.Action == plan.Update { // it is made anew
			does = "delete,create"
		}
		return whole("user-group")
	case schema.KindRemote:
		if touchesOnly(c, "type") {
			does = "delete,create"
		}
		return whole("registry")
	case schema.KindPreheat:
		if touchesOnly(c, "vendor") {
			does = "delete,create"
		}
		return whole("preheat-instance")
	case schema.KindScanner:
		return whole("scanner")
	case schema.KindReplication:
		return whole("replication-policy")
	case schema.KindLabel:
		return whole("label")
	case schema.KindWebhook:
		return whole("notification-policy")
	case schema.KindPreheatPolicy:
		return whole("preheat-policy")
	case schema.KindRetention:
		return whole("tag-retention")
	case schema.KindImmutable:
		return immutableNeeds(c, place)
	case schema.KindNamespace:
		return namespaceNeeds(c)
	case schema.KindAccess:
		return accessNeeds(c, place)
	case schema.KindRobot:
		return robotNeeds(c, place)
	case schema.KindRepository:
		if c.Action == plan.Create { // it is there, and is described
			does = "update"
		}
		return whole("repository")
	case schema.KindQuota, schema.KindTrust, schema.KindScan, schema.KindGC, schema.KindAudit:
		if c.Action != plan.Delete { // nobody's any more, and what it is
			return partNeeds(c, place)
		}
	case schema.KindMirror, schema.KindArtifact:
		if c.Action != plan.Delete {
			return contentNeeds(c)
		}
	case schema.KindSettings: // an administrator's
	}
	return nil
}

// contentNeeds are the rights that bringing content asks for.
func contentNeeds(c plan.Change) []need {
	words := "repository:pull,push"
	if m, ok := c.After.Spec.(*schema.Mirror); ok && of(m.Prune, false) {
		words += " tag:delete"
	}
	return needsIn(homeOf(c), words)
}

// touchesOnly reports whether a change of what exists touches a field.
func touchesOnly(c plan.Change, field string) bool {
	return c.Action == plan.Update && touches(c, field)
}

// administrator is what making an account one takes beside making it.
func administrator(c plan.Change) []need {
	if want, err := after[*schema.User](c); err == nil && c.Action == plan.Create && of(want.Admin, false) {
		return needsIn(api.OfSystem, "user:update")
	}
	return nil
}

// partNeeds are those of what is only a part of a project, or of the system.
func partNeeds(c plan.Change, place string) []need {
	switch c.Key.Kind {
	case schema.KindQuota:
		return needsIn(api.OfSystem, "quota:update")
	case schema.KindGC:
		return needsIn(api.OfSystem, "garbage-collection:update")
	case schema.KindAudit:
		return needsIn(api.OfSystem, "purge-audit:update")
	case schema.KindTrust:
		return needsIn(place, "project:update")
	}
	var out []need
	for _, x := range []struct{ field, system, project string }{
		{"default", "scanner:update", ""}, {"schedule", "scan-all:update", ""},
		{"on_push", "", "project:update"}, {"sbom", "", "project:update"}, {"block", "", "project:update"}, {"allow", "", "project:update"},
		{"scanner", "", "scanner:create"},
	} {
		right := x.project
		if place == api.OfSystem {
			right = x.system
		}
		if changes(c, x.field) {
			out = append(out, needsIn(place, right)...)
		}
	}
	if want, err := after[*schema.Scan](c); err == nil && want.Scanner != nil && *want.Scanner == "" {
		out = slices.DeleteFunc(out, func(n need) bool { return n.Resource == "scanner" && place != api.OfSystem })
		if changes(c, "scanner") {
			out = append(out, needsIn(place, "metadata:delete")...)
		}
	}
	return out
}

// changes reports whether something is to be done for a field: a project begins with
// all switched off.
func changes(c plan.Change, field string) bool {
	return slices.ContainsFunc(c.Fields, func(f plan.Field) bool {
		begins := c.Action == plan.Create && (f.New == "false" || f.New == `"none"`)
		return f.Path == field && !begins
	})
}

// immutableNeeds are those for the rules that come and go.
func immutableNeeds(c plan.Change, place string) []need {
	want, have := &schema.Immutable{}, &schema.Immutable{}
	if c.After != nil {
		want, _ = c.After.Spec.(*schema.Immutable)
	}
	if c.Before != nil {
		have, _ = c.Before.Spec.(*schema.Immutable)
	}
	if want == nil || have == nil {
		return nil
	}
	lacks := func(list, all []schema.ImmutableRule) bool {
		return slices.ContainsFunc(list, func(r schema.ImmutableRule) bool {
			return !slices.ContainsFunc(all, func(o schema.ImmutableRule) bool { return selectsAlike(r, o) })
		})
	}
	var out []need
	if lacks(want.Rules, have.Rules) {
		out = needsIn(place, "immutable-tag:create")
	}
	if lacks(have.Rules, want.Rules) {
		out = append(out, needsIn(place, "immutable-tag:delete")...)
	}
	if slices.ContainsFunc(want.Rules, func(r schema.ImmutableRule) bool {
		return slices.Contains(have.Rules, switched(r, bool(r.Disabled))) || bool(r.Disabled) && !slices.Contains(have.Rules, r)
	}) {
		out = append(out, needsIn(place, "immutable-tag:update")...)
	}
	return out
}

func namespaceNeeds(c plan.Change) []need {
	const system = "project:create"
	switch {
	case c.Archive:
		return archiveNeeds(c.Key.Name)
	case c.Action == plan.Create:
		return needsIn(api.OfSystem, system)
	case c.Action == plan.Update:
		return needsIn(c.Key.Name, "project:update")
	}
	out := needsIn(c.Key.Name, "project:delete")
	if c.Purge {
		out = append(out, needsIn(c.Key.Name, "repository:delete immutable-tag:list,delete")...)
	}
	if c.Action == plan.Replace {
		out = append(out, needsIn(api.OfSystem, system)...)
	}
	return out
}

// archiveNeeds are those for each step of an archive, whether or not a project has by
// now what the step takes away: somebody may give it that before the step is made.
// What robots of the system lose goes with registry.admin.
func archiveNeeds(project string) []need {
	return append(
		needsIn(project, "project:update immutable-tag:list,create,update tag-retention:delete member:list,delete robot:list,delete"),
		needsIn(api.OfSystem, "quota:list,update robot:list")...,
	)
}

// accessNeeds are those for the members who come, go and change their role.
func accessNeeds(c plan.Change, place string) []need {
	want, err := after[*schema.Access](c)
	if err != nil {
		return nil
	}
	have := &schema.Access{}
	if c.Before != nil {
		if spec, ok := c.Before.Spec.(*schema.Access); ok {
			have = spec
		}
	}
	var out []need
	if want.Anonymous != nil && of(have.Anonymous, 0) != *want.Anonymous {
		out = needsIn(place, "project:update")
	}
	for _, verb := range slices.Compact(slices.Sorted(slices.Values(append(enrolling(want.Users, have.Users), enrolling(want.Groups, have.Groups)...)))) {
		out = append(out, needsIn(place, "member:"+verb)...)
	}
	return out
}

// enrolling says what brings members from one list to another.
func enrolling(want, have schema.Grants) (verbs []string) {
	if want == nil {
		return nil
	}
	for _, g := range want {
		had, listed := have.Get(g.Name)
		switch role := roleOf(g.Rights); {
		case listed && role == 0:
			verbs = append(verbs, "delete")
		case listed && rightsOf(role) != rightsOf(roleOf(had)):
			verbs = append(verbs, "update")
		case !listed && role != 0:
			verbs = append(verbs, "create")
		}
	}
	for _, g := range have {
		if _, stays := want.Get(g.Name); !stays && want.Complete() {
			verbs = append(verbs, "delete")
		}
	}
	return verbs
}

// robotNeeds are those for a robot. Harbor has no right to change one of a project
// but that to change everything in all of them.
func robotNeeds(c plan.Change, place string) []need {
	var out []need
	if c.Action != plan.Update {
		out = needsIn(place, "robot:"+verbs(c))
	}
	if c.Action == plan.Delete || place == api.OfSystem {
		return out
	}
	want, err := after[*schema.Robot](c)
	if err != nil {
		return out
	}
	if c.Action == plan.Update || want.Secret != nil || !of(want.Enabled, true) {
		out = append(out, needsIn(api.AllProjects, "project:update")...)
	}
	return out
}

// self is who ocisync is, as a robot.
type self struct {
	may
	name   string
	level  string
	user   bool // or as a user who is no administrator
	hidden bool // Harbor does not let it see what it may do
	given  []api.Permission
}

// self reads what the robot of the first login may do.
func (s *site) self(ctx context.Context) (self, error) {
	me := self{name: s.c.User(), hidden: true}
	short, project := strings.TrimPrefix(me.name, s.c.Prefix()), int64(0)
	if name, _, of := strings.Cut(short, "+"); of {
		p, err := s.project(ctx, name)
		if err != nil {
			return me, unseen(err)
		}
		project = p.ID
	}
	list, err := s.c.Robots(ctx, project, short)
	if err == nil && len(list) == 0 { // the prefix is another
		list, err = s.c.Robots(ctx, project, "")
	}
	for _, r := range list {
		if r.Name == me.name {
			me.may, me.level, me.hidden, me.given = mayOf([]api.Robot{r}), r.Level, false, r.Permissions
		}
	}
	return me, unseen(err)
}

// gives is what a robot is to get, as this one may give it. Harbor takes a right that
// says "allow" and one that says nothing for two, and lets a robot give none that it has
// not: it goes with the effect that this one has it with.
func (me self) gives(list []api.Permission) []api.Permission {
	out := slices.Clone(list)
	for i, p := range out {
		has := func(namespace string) int {
			return slices.IndexFunc(me.given, func(g api.Permission) bool { return g.Kind == p.Kind && g.Namespace == namespace })
		}
		from := has(p.Namespace)
		if from < 0 {
			from = has(api.AllProjects)
		}
		if from < 0 {
			continue
		}
		out[i].Access = slices.Clone(p.Access)
		for j, a := range p.Access {
			at := slices.IndexFunc(me.given[from].Access, func(x api.Access) bool {
				return x.Resource == a.Resource && x.Action == a.Action && allows(x) && allows(a)
			})
			if at >= 0 {
				out[i].Access[j] = me.given[from].Access[at]
			}
		}
	}
	return out
}

// unseen takes what may not be seen for no error.
func unseen(err error) error {
	if errors.Is(err, providers.ErrForbidden) || errors.Is(err, providers.ErrNotFound) {
		return nil
	}
	return err
}

// lacks says what a robot lacks for a change, as Harbor calls it; nothing where it
// lacks nothing.
func (s *site) lacks(ctx context.Context, me self, c plan.Change) ([]string, error) {
	var out []string
	add := func(n need) {
		if line := n.Resource + ":" + n.Action + " " + s.place(n.namespace); !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	all := needs(c)
	if (c.Key.Kind == schema.KindRetention && c.Action == plan.Delete || c.Archive) && s.c.Before(2, 14) { // the project goes on pointing to its policy
		all = append(all, needsIn(c.Key.Name, "metadata:delete")...)
	}
	for _, n := range all {
		if n = me.asks(c, n); s.c.Robot() && s.c.Admin() && s.c.Later(n.Access) { // registry.admin does it
			continue
		} else if !s.grants(me, n) && !s.everybodys(me, c, n) {
			add(n)
		}
	}
	if c.Key.Kind == schema.KindNamespace && c.Action == plan.Create && !me.user && !me.seesAll() { // what it makes it would not see
		add(need{api.OfSystem, api.Access{Resource: "project", Action: "list"}})
	}
	if me.user || c.Key.Kind != schema.KindRobot || c.Action != plan.Create || s.c.Later(makesRobots()) {
		return out, nil
	}
	want, err := after[*schema.Robot](c)
	if err != nil {
		return nil, err
	}
	gives, err := mayFor(ctx, s, want)
	if err != nil {
		return nil, err
	}
	for namespace, list := range gives {
		has, ok := me.may[namespace]
		if !ok && namespace != api.OfSystem {
			has = me.may[api.AllProjects]
		}
		for _, a := range list {
			if !listed(has, a) { // it can give no more than it has
				add(need{namespace, a})
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

// everybodys reports whether the right to make projects is everybody's here.
func (s *site) everybodys(me self, c plan.Change, n need) bool {
	if c.Key.Kind != schema.KindNamespace || n.Resource != "project" || n.Action != "create" || !me.user && me.level != api.LevelSystem {
		return false
	}
	want, err := after[*schema.Namespace](c)
	return err == nil && of(want.ProxyOf, "") == "" && s.everybody
}

// place says where a right is to be given. What is not there yet is only reached by
// who reaches all.
func (s *site) place(namespace string) string {
	switch namespace {
	case api.OfSystem:
		return where("")
	case api.AllProjects:
		return where(namespace)
	}
	if namespace == schema.Reserved && s.own == nil {
		return fmt.Sprintf("%s, as %s is not there yet", where(api.AllProjects), namespace)
	}
	key := below(schema.KindNamespace, namespace)
	if slices.ContainsFunc(s.planned, func(c plan.Change) bool { return c.Key == key && c.Action == plan.Create }) {
		return fmt.Sprintf("%s, as %s is not there yet", where(api.AllProjects), namespace)
	}
	return where(namespace)
}

// mayNot refuses changes for which the first login lacks a right, and all where it may
// not store what an apply records. Where a robot may not see its rights, the first change
// says so. An administrator lacks none.
func (s *site) mayNot(ctx context.Context, verdicts []providers.Verdict) error {
	first := slices.IndexFunc(s.planned, func(c plan.Change) bool { return len(needs(c)) > 0 })
	if !s.c.Robot() && !s.c.Plain() || first < 0 {
		return nil
	}
	me, err := s.me.get(func() (self, error) {
		if s.c.Plain() {
			return s.plain(ctx)
		}
		return s.self(ctx)
	})
	if err != nil {
		return err
	}
	if me.hidden {
		to := "give it robot:list " + where("") + " to have a plan look"
		if none := s.c.NoRobots("robot:list"); none != "" {
			to = "it takes robot:list; " + none
		}
		verdicts[first].Notes = append(verdicts[first].Notes, fmt.Sprintf("whether %s may make these changes shows when they are made: it may not see its own rights; %s", me.name, to))
		return nil
	}
	give := func(lacks []string) string {
		const another = ", or name in registry.login an account that has it"
		switch {
		case !me.user:
			return "have an administrator give it to that robot" + another
		case slices.ContainsFunc(lacks, func(line string) bool { return strings.HasSuffix(line, where("")) }):
			return api.NoUsers
		}
		return "have an administrator give that user a role that has it" + another
	}
	refuse := func(i int, lacks []string, why string) {
		if verdicts[i].Refused == "" && len(lacks) > 0 {
			verdicts[i].Refused = fmt.Sprintf("%s (registry.login) lacks %s%s; %s", me.name, fewOf(lacks), why, give(lacks))
		}
	}
	for i, c := range s.planned {
		lacks, err := s.lacks(ctx, me, c)
		if err != nil {
			return s.p.fail(c.Key, "", err, "")
		}
		refuse(i, lacks, "")
	}
	if s.p.keeps.Load() {
		lacks, err := s.lacksStore(ctx, me)
		if err != nil {
			return err
		}
		refuse(first, lacks, `, without which an apply cannot store what it did (state.store; or set it to "dir")`)
	}
	return nil
}

// lacksStore says what a login lacks to store what an apply records, below ocisync's own
// project, which it makes where there is none.
func (s *site) lacksStore(ctx context.Context, me self) ([]string, error) {
	if _, err := s.allProjects(ctx); err != nil {
		return nil, err
	}
	var out []string
	add := func(n need) { out = append(out, n.Resource+":"+n.Action+" "+s.place(n.namespace)) }
	makes := need{api.OfSystem, api.Access{Resource: "project", Action: "create"}}
	if s.own == nil && !s.everybody && !s.grants(me, makes) {
		add(makes)
	}
	for _, n := range needsIn(schema.Reserved, "repository:pull,push") {
		if !s.grants(me, n) {
			add(n)
		}
	}
	return out, nil
}
