package harbor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// rightsOf is what a role gives, as far as the four rights say it. A limited
// guest pulls as a guest does, and sees less of the portal.
func rightsOf(role int) schema.Rights {
	switch role {
	case api.RoleAdmin:
		return schema.Admin
	case api.RoleMaintainer:
		return schema.Pull | schema.Push | schema.Delete
	case api.RoleDeveloper:
		return schema.Pull | schema.Push
	case api.RoleGuest, api.RoleLimitedGuest:
		return schema.Pull
	}
	return 0
}

// roleOf is the smallest role that holds all rights; 0 for none.
func roleOf(r schema.Rights) int {
	if r == 0 {
		return 0
	}
	for _, role := range []int{api.RoleGuest, api.RoleDeveloper, api.RoleMaintainer} {
		if rightsOf(role).Has(r) {
			return role
		}
	}
	return api.RoleAdmin
}

func roleName(role int) string {
	switch role {
	case api.RoleAdmin:
		return "project admin"
	case api.RoleMaintainer:
		return "maintainer"
	case api.RoleDeveloper:
		return "developer"
	case api.RoleLimitedGuest:
		return "limited guest"
	}
	return "guest"
}

// anonymous is what everybody may do in a project.
func anonymous(p api.Project) schema.Rights {
	if p.Metadata["public"] == "true" {
		return schema.Pull
	}
	return 0
}

// readAccess reads members and whether the project is public. Memberships that are
// Harbor's and ocisync's own, and not the file's, are left out.
func readAccess(ctx context.Context, s *site) error {
	return s.eachOf(ctx, projectLists{kind: schema.KindAccess, right: "member:list"}, func(ctx context.Context, p api.Project) error {
		key := below(schema.KindAccess, p.Name)
		members, err := s.c.Members(ctx, p.Name)
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.members[p.Name] = members
		s.mu.Unlock()
		public := anonymous(p)
		spec := &schema.Access{Anonymous: &public, Users: schema.Grants{}, Groups: schema.Grants{}}
		var declared schema.Grants
		if want, ok := s.p.desired(key).(*schema.Access); ok {
			declared = want.Users
			s.stays(key, members, declared)
		}
		var users, groups []schema.Grant
		for _, m := range members {
			g := schema.Grant{Name: m.Name, Rights: rightsOf(m.RoleID)}
			switch {
			case m.Type == "g":
				groups = append(groups, g)
			case !s.unasked(m, declared):
				users = append(users, g)
			}
		}
		spec.Users, spec.Groups = schema.NewGrants(users...), schema.NewGrants(groups...)
		s.add(key, p.ID, spec)
		return nil
	})
}

// firstUser is the number of Harbor's first administrator.
const firstUser = 1

// unasked reports whether a membership is none that a file takes away: that of Harbor's
// first administrator, which it gets by making a project, means nothing, and by its own a
// login that is no administrator's sees the project and changes it.
func (s *site) unasked(m api.Member, declared schema.Grants) bool {
	return m.Type != "g" && m.Of == firstUser || s.byWhich(m) && !lists(declared, m.Name)
}

// byWhich reports whether a membership is that by which the login sees the project.
func (s *site) byWhich(m api.Member) bool {
	return m.Type != "g" && s.c.Plain() && m.Of == s.c.UserID()
}

func lists(all schema.Grants, name string) bool {
	_, listed := all.Get(name)
	return listed
}

// stays notes that the login's own membership is kept, which a complete list of users
// without it would end.
func (s *site) stays(key schema.Key, members []api.Member, declared schema.Grants) {
	kept := func(m api.Member) bool { return m.Of != firstUser && s.unasked(m, declared) }
	if declared == nil || !declared.Complete() || !slices.ContainsFunc(members, kept) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, key)
}

// staying is what a plan says of that membership.
func staying(user string) string {
	return fmt.Sprintf("the membership of %s stays: registry.login is that account, and sees and changes the project by it", user)
}

// normalAccess gives everybody's rights to those whom Harbor knows, and to each
// what the smallest role holds.
func normalAccess(n *normal, r schema.Resource) (schema.Spec, error) {
	spec, ok := r.Spec.(*schema.Access)
	if !ok {
		return r.Spec, nil
	}
	out := &schema.Access{Anonymous: spec.Anonymous, Conditions: spec.Conditions}
	users, groups := slices.Clone(spec.Users), slices.Clone(spec.Groups)
	if all := spec.Authenticated; all != nil && *all != 0 {
		// where it is not said who else has rights, this takes nothing from them
		if to := of(spec.AuthenticatedGroup, ""); to != "" {
			groups = append(groups, schema.Grant{Name: to, Rights: *all, AtLeast: spec.Groups == nil})
			n.say(schema.Key{Kind: r.Key.Kind}, "authenticated goes to group %s: Harbor has no rights for everybody who logs in", to)
		} else {
			for _, u := range n.desired.Resources {
				if u.Key.Kind == schema.KindUser {
					users = append(users, schema.Grant{Name: u.Key.Name, Rights: *all, AtLeast: spec.Users == nil})
				}
			}
			n.say(schema.Key{Kind: r.Key.Kind}, "authenticated goes to each declared user: Harbor has no rights for everybody who logs in")
		}
	}
	out.Users, out.Groups = n.roles(r.Key, users), n.roles(r.Key, groups)
	return out, nil
}

// roles rounds rights up to what roles hold, and says what a role allows more. A
// table that is not managed stays so.
func (n *normal) roles(key schema.Key, list schema.Grants) schema.Grants {
	if list == nil {
		return nil
	}
	out := schema.NewGrants(list...)
	for i, g := range out {
		role := roleOf(g.Rights)
		if has := rightsOf(role); role != 0 && !g.Rights.Has(has) {
			n.say(key, "%s gets the role %s, which holds %s: %s needs it", g.Name, roleName(role), has, g.Rights)
			out[i].Rights = has
		} else if role == api.RoleAdmin {
			out[i].Rights = schema.Admin
		}
	}
	return out
}

func prepareAccess(ctx context.Context, s *site, c plan.Change, v *providers.Verdict) error {
	if c.Action == plan.Delete {
		return nil
	}
	want, err := after[*schema.Access](c)
	if err != nil {
		return err
	}
	if want.Anonymous != nil && *want.Anonymous&^schema.Pull != 0 {
		v.Refused = "Harbor lets nobody push or delete without a login; anonymous may have pull"
		return nil
	}
	if s.c.Plain() {
		s.ownMembership(c, want, v)
	}
	told := map[int]bool{}
	for _, list := range []schema.Grants{want.Users, want.Groups} {
		for _, g := range list {
			if role := roleOf(g.Rights); role != 0 && !told[role] {
				told[role] = true
				v.Notes = append(v.Notes, fmt.Sprintf("the role %s also allows %s", roleName(role), beyond(role)))
			}
		}
	}
	return nil
}

// ownMembership refuses to take rights from the login, which is no administrator's, and
// says of a project that it makes that it stays in it.
func (s *site) ownMembership(c plan.Change, want *schema.Access, v *providers.Verdict) {
	me := s.c.User()
	rights, listed := want.Users.Get(me)
	if !listed {
		if c.Action == plan.Create && want.Users != nil && want.Users.Complete() {
			v.Notes = append(v.Notes, staying(me))
		}
		return
	}
	had := schema.Admin // as who makes a project has
	if have, ok := before[*schema.Access](c); ok {
		had, _ = have.Users.Get(me)
	}
	if had == schema.Admin && rights != schema.Admin {
		v.Refused = fmt.Sprintf("it takes from %s what registry.login sees and changes the project by; declare users.%s = [\"admin\"], or take it out of the list and it stays as it is, or name another account in registry.login", me, me)
	}
}

// writeAccess brings members and publicness to what the change says.
func writeAccess(ctx context.Context, s *site, c plan.Change, live object) error {
	if c.Action == plan.Delete { // nobody's any more, and what it is
		return nil
	}
	want, err := after[*schema.Access](c)
	if err != nil {
		return err
	}
	have := schema.Access{Anonymous: new(schema.Rights)} // as a project begins
	if spec, ok := live.Spec.(*schema.Access); ok {
		have = *spec
	} else if c.Action != plan.Create {
		return fmt.Errorf("%w: its members cannot be seen", providers.ErrNotFound)
	}
	if want.Anonymous != nil && of(have.Anonymous, 0) != *want.Anonymous {
		public := strconv.FormatBool(*want.Anonymous != 0)
		if err := s.c.UpdateProject(ctx, c.Key.Name, api.ProjectUpdate{Metadata: map[string]string{"public": public}}); err != nil {
			return err
		}
	}
	members := s.members[c.Key.Name]
	if c.Action == plan.Create && want.Users != nil && s.c.UserID() > firstUser { // it made the project, and is a member by that
		if members, err = s.c.Members(ctx, c.Key.Name); err != nil {
			return err
		}
	}
	err = s.enrolAll(ctx, c.Key.Name, members, want)
	if c.Action != plan.Create || !errors.Is(err, providers.ErrConflict) {
		return err
	}
	members, e := s.c.Members(ctx, c.Key.Name) // somebody was quicker
	if e != nil {
		return errors.Join(err, e)
	}
	return s.enrolAll(ctx, c.Key.Name, members, want)
}

func (s *site) enrolAll(ctx context.Context, project string, members []api.Member, want *schema.Access) error {
	if want.Users != nil {
		if err := s.enrol(ctx, project, "u", members, want.Users); err != nil {
			return err
		}
	}
	if want.Groups != nil {
		return s.enrol(ctx, project, "g", members, want.Groups)
	}
	return nil
}

// enrol brings the members of one type to a list: who loses rights first. A list
// that is not complete takes none.
func (s *site) enrol(ctx context.Context, project, typ string, members []api.Member, want schema.Grants) error {
	known := map[string]bool{}
	for _, m := range members {
		if m.Type != typ || s.unasked(m, want) {
			continue
		}
		known[m.Name] = true
		rights, listed := want.Get(m.Name)
		role := roleOf(rights)
		switch {
		case !listed && !want.Complete():
		case role == 0:
			if err := s.c.DeleteMember(ctx, project, m.ID); err != nil {
				return fmt.Errorf("%s: %w", m.Name, err)
			}
		case rightsOf(m.RoleID) != rightsOf(role):
			if err := s.c.SetRole(ctx, project, m.ID, role); err != nil {
				return fmt.Errorf("%s: %w", m.Name, err)
			}
		}
	}
	for _, g := range want {
		role := roleOf(g.Rights)
		if role == 0 || known[g.Name] {
			continue
		}
		if err := s.join(ctx, project, typ, g.Name, role); err != nil {
			return fmt.Errorf("%s: %w", g.Name, err)
		}
	}
	return nil
}

// join makes somebody a member. A group is named by its number: by its name one
// of another type could be made.
func (s *site) join(ctx context.Context, project, typ, name string, role int) error {
	if typ == "u" {
		err := s.c.AddMember(ctx, project, role, name, 0)
		if errors.Is(err, providers.ErrNotFound) {
			return &providers.Error{Err: err, Remedy: "declare it as [user." + name + "], or have it log in once where accounts come from elsewhere"}
		}
		return err
	}
	groups, err := s.allGroups(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(groups, func(g api.Group) bool { return g.Name == name })
	if i < 0 {
		return s.p.fail(schema.Key{Kind: schema.KindGroup, Name: name}, "", providers.ErrNotFound, "declare it as [group."+name+"]")
	}
	return s.c.AddMember(ctx, project, role, name, groups[i].ID)
}
