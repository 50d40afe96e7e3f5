package harbor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// readUsers reads accounts. Harbor's first administrator is in no list. Those that come
// from elsewhere are nobody's to declare: each login writes them anew.
func readUsers(ctx context.Context, s *site) error {
	if from, err := s.accountsFrom(ctx); err != nil || from != ownAccounts {
		return err
	}
	users, err := s.allUsers(ctx)
	if err != nil {
		return err
	}
	for _, u := range users {
		s.add(schema.Key{Kind: schema.KindUser, Name: u.Name}, u.ID, &schema.User{
			Email: &u.Email, FullName: &u.RealName, Comment: &u.Comment, Admin: &u.Admin,
		}, "password")
	}
	return nil
}

// ownAccounts is the auth_mode of a Harbor that keeps its accounts itself.
const ownAccounts = "db_auth"

// accountsFrom is auth_mode, which a run may have changed.
func (s *site) accountsFrom(ctx context.Context) (string, error) {
	if s.c.AuthMode == ownAccounts { // and it stays so as long as it has accounts
		return ownAccounts, nil
	}
	now, err := s.c.Now(ctx)
	return now.AuthMode, err
}

// normalUser says what no plan sees of an account: to try a password costs Harbor half a
// second, of each account in each plan.
func normalUser(n *normal, r schema.Resource) (schema.Spec, error) {
	if spec, ok := r.Spec.(*schema.User); ok && spec.Password != nil {
		n.say(schema.Key{Kind: schema.KindUser}, "password: (not checked) in Harbor, which shows nothing of it: one that the mode changes is set, one that was changed by hand is not seen")
	}
	return r.Spec, nil
}

// prepareUser refuses accounts where Harbor takes them from elsewhere.
func prepareUser(ctx context.Context, s *site, c plan.Change, v *providers.Verdict) error {
	mode := s.authMode
	switch {
	case c.Action == plan.Delete:
	case mode != "" && mode != ownAccounts:
		v.Refused = fmt.Sprintf("Harbor takes accounts from elsewhere (auth_mode is %s); declare groups, and take the users out of the file", mode)
	case c.Key.Name == "admin":
		v.Refused = "admin is Harbor's own first account, which it shows to nobody; name another"
	}
	if v.Refused != "" || c.Action == plan.Delete {
		return nil
	}
	spec, err := after[*schema.User](c)
	if err != nil {
		return err
	}
	const none, most = `,"~#%$`, 30
	switch {
	case touches(c, "full_name") && strings.ContainsAny(of(spec.FullName, ""), none):
		v.Refused = fmt.Sprintf("Harbor takes none of %s in a name; write full_name without", none)
	case touches(c, "comment") && len(of(spec.Comment, "")) > most:
		v.Refused = fmt.Sprintf("Harbor keeps no comment of more than %d bytes; write a shorter one", most)
	case c.Action != plan.Create:
	case spec.Password == nil:
		v.Refused = "Harbor makes no account without a password; give one"
	case of(spec.Email, "") == "":
		v.Refused = "Harbor makes no account without an email; give one"
	}
	return nil
}

func writeUser(ctx context.Context, s *site, c plan.Change, live object) error {
	if c.Action == plan.Delete {
		return s.c.DeleteUser(ctx, live.id)
	}
	want, err := after[*schema.User](c)
	if err != nil {
		return err
	}
	password, changes, err := s.secret(ctx, c, "password")
	if err != nil {
		return err
	}
	u := api.User{Name: c.Key.Name, Email: of(want.Email, ""), RealName: of(want.FullName, c.Key.Name), Comment: of(want.Comment, "")}
	admin := of(want.Admin, false)
	if c.Action == plan.Create {
		id, err := s.c.CreateUser(ctx, u, password)
		if err != nil || !admin {
			return err
		}
		if id == 0 {
			if id, err = s.userID(ctx, c.Key.Name); err != nil {
				return err
			}
		}
		return s.c.SetAdmin(ctx, id, true)
	}
	have, ok := live.Spec.(*schema.User)
	if !ok {
		return providers.ErrInvalid
	}
	if u.Email != of(have.Email, "") || u.RealName != of(have.FullName, "") || u.Comment != of(have.Comment, "") {
		if err := s.c.UpdateUser(ctx, live.id, u); err != nil {
			return err
		}
	}
	if admin != of(have.Admin, false) {
		if err := s.c.SetAdmin(ctx, live.id, admin); err != nil {
			return err
		}
	}
	if changes {
		return s.c.SetPassword(ctx, live.id, password)
	}
	return nil
}

// userID finds a user's id anew.
func (s *site) userID(ctx context.Context, name string) (int64, error) {
	s.users.forget()
	users, err := s.allUsers(ctx)
	if err != nil {
		return 0, err
	}
	for _, u := range users {
		if u.Name == name {
			return u.ID, nil
		}
	}
	return 0, providers.ErrNotFound
}

// groupTypes are Harbor's, by our words.
func groupTypes() map[string]int {
	return map[string]int{"ldap": api.GroupLDAP, "http": api.GroupHTTP, "oidc": api.GroupOIDC}
}

func groupType(number int) string {
	for word, n := range groupTypes() {
		if n == number {
			return word
		}
	}
	return ""
}

func readGroups(ctx context.Context, s *site) error {
	groups, err := s.allGroups(ctx)
	if err != nil {
		return err
	}
	for _, g := range groups {
		word := groupType(g.Type)
		s.add(schema.Key{Kind: schema.KindGroup, Name: g.Name}, g.ID, &schema.Group{Type: &word, LDAPDN: &g.DN})
	}
	return nil
}

// ownType is the type of group that a mode of authentication has. A group with a
// distinguished name is LDAP's.
func ownType(mode string, g *schema.Group) string {
	switch {
	case g.LDAPDN != nil && *g.LDAPDN != "" || mode == "ldap_auth":
		return "ldap"
	case mode == "http_auth":
		return "http"
	}
	return "oidc"
}

// prepareGroup tells that a group is another one with another type: Harbor
// changes only its name.
func prepareGroup(_ context.Context, s *site, c plan.Change, v *providers.Verdict) error {
	if c.Action == plan.Delete {
		return nil
	}
	want, err := after[*schema.Group](c)
	if err != nil {
		return err
	}
	word := of(want.Type, ownType(s.authMode, want))
	only := map[string]string{"ldap_auth": "ldap", "http_auth": "http"}[s.authMode]
	_, known := groupTypes()[word]
	switch {
	case !known:
		v.Refused = fmt.Sprintf("Harbor has no groups of type %q; use ldap, http or oidc", word)
	case only != "" && word != only:
		v.Refused = fmt.Sprintf("Harbor shows only groups of type %s while auth_mode is %s, and would hide this one; use that, or leave type out", only, s.authMode)
	case word == "ldap" && of(want.LDAPDN, "") == "":
		v.Refused = "Harbor knows a group of LDAP by its distinguished name; declare ldap_dn"
	}
	switch {
	case c.Action == plan.Rename && touches(c, "type", "ldap_dn"):
		v.Refused = "Harbor changes only a group's name, and one of another type or distinguished name is made anew; rename it first, and change those after that"
	case c.Action == plan.Rename && word != "ldap":
		v.Notes = append(v.Notes, "whoever logs in is in it by its name: where the logins come from, the group must be called so too")
	case c.Action == plan.Update:
		v.Notes = append(v.Notes, "is deleted and made anew, with its memberships: Harbor changes only a group's name")
	}
	return nil
}

func writeGroup(ctx context.Context, s *site, c plan.Change, live object) error {
	if c.Action == plan.Delete {
		return s.c.DeleteGroup(ctx, live.id)
	}
	want, err := after[*schema.Group](c)
	if err != nil {
		return err
	}
	word := of(want.Type, "")
	if word == "" { // what this run made of auth_mode is its own
		now, err := s.c.Now(ctx)
		if err != nil {
			return err
		}
		word = ownType(now.AuthMode, want)
	}
	g := api.Group{Name: c.Key.Name, Type: groupTypes()[word], DN: of(want.LDAPDN, "")}
	switch c.Action {
	case plan.Create:
		_, err := s.c.CreateGroup(ctx, g)
		return err
	case plan.Rename:
		g.ID = live.id
		return s.c.RenameGroup(ctx, g)
	}
	return s.regroup(ctx, live, g)
}

// regroup makes a group anew, and gives it the roles that it had.
func (s *site) regroup(ctx context.Context, live object, g api.Group) error {
	type role struct {
		project string
		role    int
	}
	var had []role
	s.only = nil
	err := s.each(ctx, func(ctx context.Context, p api.Project) error {
		members, err := s.c.Members(ctx, p.Name)
		switch {
		case errors.Is(err, providers.ErrNotFound):
			return nil
		case errors.Is(err, providers.ErrForbidden): // a role that is not seen would be lost
			return s.lacking(err, "member:list", p.Name)
		case err != nil:
			return err
		}
		for _, m := range members {
			if m.Type == "g" && m.Of == live.id {
				s.mu.Lock()
				had = append(had, role{p.Name, m.RoleID})
				s.mu.Unlock()
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.c.DeleteGroup(ctx, live.id); err != nil {
		return err
	}
	id, err := s.c.CreateGroup(ctx, g)
	if err != nil {
		return err
	}
	for _, r := range had {
		if err := s.c.AddMember(ctx, r.project, r.role, "", id); err != nil {
			return err
		}
	}
	return nil
}
