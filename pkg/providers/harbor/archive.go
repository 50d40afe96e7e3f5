package harbor

import (
	"cmp"
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

// lockedLimit is the quota of an archived project, in bytes: Harbor takes no less,
// and whatever is used it lets nothing more in.
const lockedLimit = 1

// archive locks a project and keeps what is in it. What shuts most comes first, each
// a request of its own: strangers, pushes, moved and deleted tags, retention. Then
// who may still read goes. Each step looks at what is there and does what is left, so
// that a run that was cut short left it more shut than it was, and the next ends it.
func (s *site) archive(ctx context.Context, name string) error {
	p, err := s.project(ctx, name)
	if err != nil {
		return err
	}
	steps := []struct {
		what string
		do   func(context.Context, api.Project) error
	}{
		{"making it private", s.hide},
		{"lowering its quota", s.fill},
		{"making its tags immutable", s.freeze},
		{"taking its retention away", s.stopRetention},
		{"taking its members out", s.expel},
		{"deleting its robots", s.deleteRobots},
		{"taking it from robots of the system", s.barRobots},
	}
	var done []string
	for i, step := range steps {
		err := step.do(ctx, p)
		if err == nil {
			done = append(done, step.what)
			continue
		}
		left := []string{}
		for _, x := range steps[i:] {
			left = append(left, x.what)
		}
		return amended(err, func(cause error) error {
			return fmt.Errorf("%s: %w; done is %s; left is %s", step.what, cause, cmp.Or(strings.Join(done, ", "), "nothing"), strings.Join(left, ", "))
		})
	}
	return nil
}

// named says of what an error is.
func named(name string, err error) error {
	return amended(err, func(cause error) error { return fmt.Errorf("%s: %w", name, cause) })
}

// hide makes a project private. Only the word false is surely that: nobody checks
// what stands there.
func (s *site) hide(ctx context.Context, p api.Project) error {
	if p.Metadata["public"] == "false" {
		return nil
	}
	return s.c.UpdateProject(ctx, p.Name, api.ProjectUpdate{Metadata: map[string]string{"public": "false"}})
}

// fill lowers a project's quota so that nothing more fits. A project that was made
// while Harbor counted nothing has none.
func (s *site) fill(ctx context.Context, p api.Project) error {
	q, ok, err := s.quotaOf(ctx, p)
	if err != nil || !ok || q.Hard.Storage == lockedLimit {
		return err
	}
	return s.c.SetQuota(ctx, q.ID, lockedLimit)
}

func (s *site) quotaOf(ctx context.Context, p api.Project) (api.Quota, bool, error) {
	list, err := s.allQuotas(ctx)
	if err != nil {
		return api.Quota{}, false, err
	}
	i := slices.IndexFunc(list, func(q api.Quota) bool { return q.Ref.ID == p.ID })
	if i < 0 {
		return api.Quota{}, false, nil
	}
	return list[i], true, nil
}

// freeze makes all tags of a project immutable, beside the rules it has.
func (s *site) freeze(ctx context.Context, p api.Project) error {
	rules, err := s.c.Immutables(ctx, p.Name)
	if err != nil {
		return err
	}
	all := normalRule(schema.ImmutableRule{})
	off := -1
	for i, r := range rules {
		switch {
		case !selectsAlike(immutableOf(r), all):
		case !r.Disabled:
			return nil
		default:
			off = i
		}
	}
	if off >= 0 {
		on := rules[off]
		on.Disabled = false
		return s.c.UpdateImmutable(ctx, p.Name, on)
	}
	return s.makeImmutable(ctx, p.Name, all)
}

// stopRetention deletes the policy, with its schedule.
func (s *site) stopRetention(ctx context.Context, p api.Project) error {
	id := policyOf(p)
	if id <= 0 {
		return nil
	}
	return s.c.DeleteRetention(ctx, p.Name, id)
}

// expel takes all members out but Harbor's first administrator, who has all rights
// in any case.
func (s *site) expel(ctx context.Context, p api.Project) error {
	members, err := s.c.Members(ctx, p.Name)
	if err != nil {
		return err
	}
	for _, m := range counting(members) {
		if err := s.c.DeleteMember(ctx, p.Name, m.ID); err != nil {
			return named(m.Name, err)
		}
	}
	return nil
}

// counting are the members whose membership means something.
func counting(members []api.Member) []api.Member {
	return slices.DeleteFunc(slices.Clone(members), func(m api.Member) bool { return m.Type != "g" && m.Of == firstUser })
}

func (s *site) deleteRobots(ctx context.Context, p api.Project) error {
	list, err := s.c.Robots(ctx, p.ID, "")
	if err != nil {
		return err
	}
	for _, r := range list {
		if err := s.c.DeleteRobot(ctx, r.ID); err != nil {
			return named(r.Name, err)
		}
	}
	return nil
}

// barRobots takes from robots of the system what they may do in a project. One that
// may do nothing else is switched off: Harbor takes no robot's last permission.
func (s *site) barRobots(ctx context.Context, p api.Project) error {
	s.barring.Lock() // a change replaces all of a robot's permissions
	defer s.barring.Unlock()
	list, err := s.c.Robots(ctx, 0, "")
	if err != nil {
		return err
	}
	for _, r := range list {
		next := r
		switch s.reach(r, p.Name) {
		case reachesThis:
			next.Permissions = elsewhere(r, p.Name)
		case reachesOnlyThis:
			next.Disabled = true
		case reachesNot, reachesAll, reachesSelf:
			continue
		}
		if next.Disabled && r.Disabled {
			continue
		}
		if err := s.c.UpdateRobot(ctx, next); err != nil {
			return named(r.Name, err)
		}
	}
	return nil
}

// reach is how far the permissions of a robot of the system go, seen from a project.
type reach int

const (
	reachesNot      reach = iota
	reachesThis           // among others
	reachesOnlyThis       // and nothing else
	reachesAll            // projects
	reachesSelf           // it is who ocisync is here
)

func (s *site) reach(r api.Robot, project string) reach {
	named := slices.ContainsFunc(r.Permissions, func(x api.Permission) bool { return x.Namespace == project })
	all := slices.ContainsFunc(r.Permissions, func(x api.Permission) bool { return x.Namespace == api.AllProjects })
	switch {
	case !named && !all:
		return reachesNot
	case r.Name == s.c.User():
		return reachesSelf
	case all:
		return reachesAll
	case len(elsewhere(r, project)) == 0:
		return reachesOnlyThis
	}
	return reachesThis
}

// elsewhere is what a robot may do outside of a project.
func elsewhere(r api.Robot, project string) []api.Permission {
	return slices.DeleteFunc(slices.Clone(r.Permissions), func(x api.Permission) bool { return x.Namespace == project })
}

// locks says what a project loses when it is archived, and what not.
func (s *site) locks(ctx context.Context, c plan.Change, p api.Project, v *providers.Verdict) error {
	for _, look := range []func(context.Context, plan.Change, api.Project, *providers.Verdict) error{
		s.locksOut, s.locksRobots, s.locksSystemRobots, s.locksContent, s.locksNot,
	} {
		if err := look(ctx, c, p, v); errors.Is(err, providers.ErrForbidden) {
			v.Refused = fmt.Sprintf("what has to be locked cannot be seen (%v); let registry.login see it, or name an administrator's account there", err)
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// locksOut says which people lose their access.
func (s *site) locksOut(ctx context.Context, _ plan.Change, p api.Project, v *providers.Verdict) error {
	if p.Metadata["public"] != "false" {
		v.Impact = append(v.Impact, "nobody pulls from it any more without being an administrator: it is made private")
	}
	members, err := s.c.Members(ctx, p.Name)
	if err != nil {
		return err
	}
	var names []string
	for _, m := range counting(members) {
		kind := schema.KindUser
		if m.Type == "g" {
			kind = schema.KindGroup
		}
		names = append(names, schema.Key{Kind: kind, Name: m.Name}.String())
	}
	if len(names) > 0 {
		v.Impact = append(v.Impact, "its members lose their access to it: "+fewOf(names))
	}
	return nil
}

// fewOf lists names, the first few of many.
func fewOf(names []string) string {
	const few = 10
	slices.Sort(names)
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}

// locksRobots says which robots of the project go, where the change does not.
func (s *site) locksRobots(ctx context.Context, c plan.Change, p api.Project, v *providers.Verdict) error {
	lines, err := s.robotsOf(ctx, c, p)
	v.Impact = append(v.Impact, lines...)
	return err
}

// locksSystemRobots says what becomes of robots of the system, which only an
// administrator may change.
func (s *site) locksSystemRobots(ctx context.Context, _ plan.Change, p api.Project, v *providers.Verdict) error {
	robots, err := s.robots.get(func() ([]api.Robot, error) { return s.c.Robots(ctx, 0, "") })
	if err != nil { // to know none of them would leave it open to all
		return err
	}
	counts, err := s.counts(ctx, p)
	if err != nil {
		return err
	}
	var out []string
	admin := false
	for _, r := range robots {
		reach := s.reach(r, p.Name)
		if means := undoing(r); reach != reachesAll && reach != reachesSelf && !r.Disabled && len(means) > 0 {
			out = append(out, fmt.Sprintf("robot %s can undo the lock: it may %s", r.Name, fewOf(means)))
		}
		switch reach {
		case reachesThis:
			admin = true
			out = append(out, fmt.Sprintf("robot %s loses its access to it", r.Name))
		case reachesOnlyThis:
			if !r.Disabled {
				admin = true
				out = append(out, fmt.Sprintf("robot %s loses its access to it: it may do nothing else, and is switched off", r.Name))
			}
		case reachesAll:
			if !r.Disabled {
				out = append(out, fmt.Sprintf("robot %s keeps its access to it: Harbor can leave no project out of \"*\"; %s", r.Name, withstands(r, counts)))
			}
		case reachesSelf:
			out = append(out, fmt.Sprintf("robot %s keeps its access to it: it is who ocisync is here", r.Name))
		case reachesNot:
		}
	}
	slices.Sort(out)
	v.Impact = append(v.Impact, out...)
	switch {
	case admin && !s.c.Admin():
		v.Refused = "to archive it, robots of the system have to lose their access, which Harbor lets no robot do; name an administrator's account in registry.admin"
	case admin && s.c.Robot():
		v.Notes = append(v.Notes, "robots of the system are changed with registry.admin: Harbor lets no robot do it")
	}
	return nil
}

// undoing lists what a robot may do by which it can open an archived project: in all
// projects, and in the system.
func undoing(r api.Robot) []string {
	var out []string
	has := mayOf([]api.Robot{r})
	for where, list := range map[string]string{
		api.AllProjects: "immutable-tag:update,delete project:update metadata:update member:create robot:create tag-retention:create",
		api.OfSystem:    "quota:update",
	} {
		for _, a := range accesses(list) {
			if listed(has[where], a) {
				out = append(out, a.Resource+":"+a.Action)
			}
		}
	}
	return out
}

// withstands says what the lock of a project keeps a robot of all projects from.
func withstands(r api.Robot, counts bool) string {
	if means := undoing(r); len(means) > 0 {
		return "it can undo the lock: it may " + fewOf(means)
	}
	has := mayOf([]api.Robot{r})[api.AllProjects]
	line := "what it may push or delete, immutable tags and the quota keep it from"
	switch {
	case counts:
	case holds(has, parts(schema.Push)):
		line = "immutable tags keep it from moving and deleting tags, and nothing from pushing others"
	default:
		line = "what it may delete, immutable tags keep it from"
	}
	if slices.ContainsFunc(accesses("repository:delete artifact:delete"), func(a api.Access) bool { return listed(has, a) }) {
		line += "; what has no tag it may delete"
	}
	return line
}

// counts reports whether a quota keeps anything out of a project, as far as the
// account sees that.
func (s *site) counts(ctx context.Context, p api.Project) (bool, error) {
	_, has, err := s.quotaOf(ctx, p)
	if err != nil || !has || !s.c.Admin() {
		return has, err
	}
	all, err := s.allSettings(ctx)
	return string(all["quota_per_project_enable"].Value) != "false", err
}

// locksContent says what keeps the content as it is, and what does not.
func (s *site) locksContent(ctx context.Context, _ plan.Change, p api.Project, v *providers.Verdict) error {
	q, ok, err := s.quotaOf(ctx, p)
	if err != nil {
		return err
	}
	switch {
	case !ok:
		v.Impact = append(v.Impact, "it has no quota that could be lowered: this Harbor counted nothing when it was made")
	case q.Hard.Storage != lockedLimit:
		v.Impact = append(v.Impact, "its quota becomes 1 byte, so that nothing more fits; it was "+quotaText(q.Hard.Storage))
	}
	counts, err := s.counts(ctx, p)
	if err != nil {
		return err
	}
	if ok && !counts {
		v.Impact = append(v.Impact, "its quota keeps nobody from pushing: this Harbor counts nothing (quota_per_project_enable)")
	}
	v.Impact = append(v.Impact, "all its tags become immutable")
	if policyOf(p) > 0 {
		v.Impact = append(v.Impact, "its retention is taken away: nothing deletes tags in it any more")
	}
	gc, err := s.gc.get(func() (api.GC, error) { return s.c.GC(ctx) })
	if errors.Is(err, providers.ErrForbidden) {
		return nil
	}
	if err == nil && gc.Untagged {
		v.Impact = append(v.Impact, "what has no tag in it still goes: gc.untagged holds for all projects")
	}
	return err
}

// locksNot says what sends from the project as before, where the change does not. An
// account that may not see it knows of none.
func (s *site) locksNot(ctx context.Context, c plan.Change, p api.Project, v *providers.Verdict) error {
	policies, err := s.c.PreheatPolicies(ctx, p.Name)
	if err != nil && !errors.Is(err, providers.ErrForbidden) {
		return err
	}
	webhooks, err := s.c.Webhooks(ctx, p.Name)
	if err != nil && !errors.Is(err, providers.ErrForbidden) {
		return err
	}
	var out []string
	stays := func(kind schema.Kind, name string) {
		key := schema.NewKey(kind, p.Name, name)
		if line := key.String() + " stays as it is"; !s.goes(key) && !slices.Contains(c.Impact, line) {
			out = append(out, line)
		}
	}
	for _, x := range policies {
		stays(schema.KindPreheatPolicy, x.Name)
	}
	for _, x := range webhooks {
		stays(schema.KindWebhook, x.Name)
	}
	slices.Sort(out)
	v.Impact = append(v.Impact, out...)
	return nil
}

// quotaText is a limit as people write it.
func quotaText(n int64) string {
	if n < 0 {
		return "unlimited"
	}
	return schema.Size(n).Human()
}
