package harbortest

import (
	"cmp"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// user is an account. admin is the one with id 1.
type user struct {
	id             int64
	name           string
	password       string
	email          string
	realname       string
	comment        string
	sysadmin       bool
	created, until time.Time
}

const adminID = 1

func (s *Server) installUsers() {
	now := s.now()
	s.users.put(s.next("user"), "admin", &user{
		id: adminID, name: "admin", password: s.options.Password, realname: "system admin", comment: "admin user",
		sysadmin: true, created: now, until: now.Add(time.Second), // its password comes after it
	})
	s.next("user") // the user anonymous, whom nobody ever sees
}

// Onboard makes the account that Harbor makes when somebody logs in whom it knows from
// elsewhere.
func (s *Server) Onboard(name, email string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, id := s.now(), s.next("user")
	s.users.put(id, name, &user{id: id, name: name, email: email, realname: name, comment: "from LDAP.", created: now, until: now})
}

// onlyAdmin says that no users were made, so that the auth mode can change.
func (s *Server) onlyAdmin() bool { return len(s.users.order) == 1 }

func (s *Server) userAccounts() routes {
	return routes{
		"GET /users":                     s.listUsers,
		"POST /users":                    s.createUser,
		"GET /users/current":             s.showCurrentUser,
		"GET /users/current/permissions": s.showMine,
		"GET /users/search":              s.searchUsers,
		"GET /users/{user_id}":           s.showUser,
		"PUT /users/{user_id}":           s.updateUser,
		"DELETE /users/{user_id}":        s.deleteUser,
		"PUT /users/{user_id}/sysadmin":  s.setSysadmin,
		"PUT /users/{user_id}/password":  s.setPassword,
		"PUT /users/{user_id}/cli_secret": func(c *call) (answer, error) {
			return answer{}, precondition("unable to update CLI secret under authmode: %s", s.setting("auth_mode"))
		},
	}
}

type shownUser struct {
	AdminRoleInAuth bool   `json:"admin_role_in_auth"`
	Comment         string `json:"comment,omitempty"`
	CreationTime    stamp  `json:"creation_time"`
	Email           string `json:"email,omitempty"`
	Realname        string `json:"realname,omitempty"`
	SysadminFlag    bool   `json:"sysadmin_flag"`
	UpdateTime      stamp  `json:"update_time"`
	UserID          int64  `json:"user_id"`
	Username        string `json:"username"`
}

func (u *user) show() shownUser {
	return shownUser{
		Comment: u.comment, CreationTime: stamp(u.created), Email: u.email, Realname: u.realname,
		SysadminFlag: u.sysadmin, UpdateTime: stamp(u.until), UserID: u.id, Username: u.name,
	}
}

func userFields() fields[*user] {
	return fields[*user]{
		"username":      func(u *user) string { return u.name },
		"user_id":       func(u *user) string { return number(u.id) },
		"email":         func(u *user) string { return u.email },
		"realname":      func(u *user) string { return u.realname },
		"creation_time": func(u *user) string { return moment(u.created) },
		"update_time":   func(u *user) string { return moment(u.until) },
	}
}

// others are all users but admin, whom lists leave out.
func (s *Server) others() []*user {
	return slices.DeleteFunc(s.users.all(), func(u *user) bool { return u.id == adminID })
}

func (s *Server) listUsers(c *call) (answer, error) {
	if err := c.inSystem("user", "list"); err != nil {
		return answer{}, err
	}
	return listed(c, s.others(), userFields(), "username", (*user).show)
}

// searchUsers is open to everybody who is logged in, and shows only names.
func (s *Server) searchUsers(c *call) (answer, error) {
	if err := c.loggedIn(); err != nil {
		return answer{}, err
	}
	type item struct {
		UserID   int64  `json:"user_id"`
		Username string `json:"username"`
	}
	part := c.query.Get("username")
	found := slices.DeleteFunc(s.others(), func(u *user) bool { return !strings.Contains(u.name, part) })
	slices.SortFunc(found, func(a, b *user) int {
		if d := len(a.name) - len(b.name); d != 0 {
			return d
		}
		return strings.Compare(a.name, b.name)
	})
	return paged(c, found, len(found), func(u *user) item { return item{u.id, u.name} })
}

type userRequest struct {
	Username string `json:"username"`
	Email    string `json:"email"`
	Realname string `json:"realname"`
	Comment  string `json:"comment"`
	Password string `json:"password"`
}

const weakPassword = "the password or secret must be 8-128, inclusively, characters long with at least 1 uppercase letter, 1 lowercase letter and 1 number"

func (s *Server) createUser(c *call) (answer, error) {
	if mode := s.setting("auth_mode"); mode != "db_auth" {
		return answer{}, forbidden("creating local user is not allowed under auth mode: %s", mode)
	}
	if err := c.inSystem("user", "create"); err != nil {
		return answer{}, err
	}
	given, err := decode[userRequest](c)
	if err != nil {
		return answer{}, err
	}
	if !goodSecret(given.Password) {
		return answer{}, badRequest(weakPassword)
	}
	if err := given.check(); err != nil {
		return answer{}, err
	}
	switch {
	case given.Username == "" || len(given.Username) > 255:
		return answer{}, badRequest("username with illegal length")
	case strings.ContainsAny(given.Username, illegalInNames):
		return answer{}, badRequest("username contains illegal characters")
	}
	id := s.next("user")
	if s.users.named(given.Username) != nil || s.hasEmail(given.Email, 0) {
		return answer{}, conflict("user %s or email %s already exists", given.Username, given.Email)
	}
	now := s.now()
	s.emails[given.Email] = id
	s.users.put(id, given.Username, &user{
		id: id, name: given.Username, password: given.Password, email: given.Email, realname: given.Realname,
		comment: given.Comment, created: now, until: now,
	})
	return createdID(c, id)
}

const illegalInNames = `,"~#%$`

// check says what Harbor does not take of a profile.
func (r userRequest) check() error {
	switch {
	case r.Email == "":
		return badRequest("email can't be empty")
	case !regexp.MustCompile(`^[^<>()\[\]\\,;:\s@"]+@([a-zA-Z0-9-]+\.)+[a-zA-Z]{2,}$`).MatchString(r.Email):
		return badRequest("email with illegal format")
	case r.Realname == "" || len(r.Realname) > 255:
		return badRequest("realname with illegal length")
	case strings.ContainsAny(r.Realname, illegalInNames):
		return badRequest("realname contains illegal characters")
	case len(r.Comment) > 30:
		return badRequest("comment with illegal length")
	}
	return nil
}

func (s *Server) hasEmail(email string, but int64) bool {
	id, taken := s.emails[email]
	return taken && id != but
}

// ownOr lets a user at what is its own, and others if they may do the action
// on users.
func (s *Server) ownOr(c *call, id int64, action string) error {
	if c.who.user != nil && c.who.user.id == id {
		return nil
	}
	return c.inSystem("user", action)
}

// pathUser is the user whom the path names.
func (s *Server) pathUser(c *call, action string) (*user, error) {
	id, err := c.id("user_id")
	if err != nil {
		return nil, err
	}
	if err := s.ownOr(c, id, action); err != nil {
		return nil, err
	}
	if mode := s.setting("auth_mode"); mode != "db_auth" && action == "update" && id != adminID {
		return nil, forbidden("User with ID %d can't be updated", id)
	}
	u := s.users.get(id)
	if u == nil {
		return nil, notFound("user %d not found", id)
	}
	return u, nil
}

func (s *Server) showCurrentUser(c *call) (answer, error) {
	switch {
	case !c.who.authenticated():
		return answer{}, unauthorized()
	case c.who.robot != nil:
		return answer{}, precondition("get current user not available for security context: robot")
	}
	return shown(c.who.user.show())
}

// showMine lists what whoever asks may do in the project that the query names, in words
// that count from it; of nothing else Harbor says anything.
func (s *Server) showMine(c *call) (answer, error) {
	if err := c.loggedIn(); err != nil {
		return answer{}, err
	}
	list := []right{}
	scope := c.r.URL.Query().Get("scope")
	id, err := strconv.ParseInt(strings.TrimPrefix(scope, "/project/"), 10, 64)
	p := s.projects.get(id)
	if err != nil || p == nil {
		return shown(list)
	}
	relative, _ := strconv.ParseBool(c.r.URL.Query().Get("relative"))
	for of := range strings.FieldsSeq(rightsOf()[1]) {
		resource, actions, _ := strings.Cut(of, ":")
		for action := range strings.SplitSeq(actions, ",") {
			asked := strings.TrimPrefix(resource, "self")
			if (c.who.user == nil || !c.who.user.sysadmin) && !s.mayProject(c.who, p, asked, action) {
				continue
			}
			name := cmp.Or(asked, ".")
			if !relative {
				name = strings.TrimSuffix(scope+"/"+asked, "/")
			}
			list = append(list, right{action, name})
		}
	}
	return shown(list)
}

func (s *Server) showUser(c *call) (answer, error) {
	u, err := s.pathUser(c, "read")
	if err != nil {
		return answer{}, err
	}
	return shown(u.show())
}

// updateUser replaces the profile: what is left out is cleared.
func (s *Server) updateUser(c *call) (answer, error) {
	u, err := s.pathUser(c, "update")
	if err != nil {
		return answer{}, err
	}
	given, err := decode[userRequest](c)
	if err != nil {
		return answer{}, err
	}
	if err := given.check(); err != nil {
		return answer{}, err
	}
	if s.hasEmail(given.Email, u.id) {
		return answer{}, internal()
	}
	delete(s.emails, u.email)
	s.emails[given.Email] = u.id
	u.email, u.realname, u.comment, u.until = given.Email, given.Realname, given.Comment, s.now()
	return done()
}

func (s *Server) deleteUser(c *call) (answer, error) {
	id, err := c.id("user_id")
	if err != nil {
		return answer{}, err
	}
	if err := c.inSystem("user", "delete"); err != nil {
		return answer{}, err
	}
	if id == adminID || c.who.user != nil && c.who.user.id == id {
		return answer{}, forbidden("User with ID %d cannot be deleted", id)
	}
	u := s.users.get(id)
	if u == nil {
		return answer{}, notFound("user %d not found", id)
	}
	s.removeMembers("u", id)
	s.users.remove(id, u.name)
	delete(s.emails, u.email)
	return done()
}

func (s *Server) setSysadmin(c *call) (answer, error) {
	if err := c.inSystem("user", "update"); err != nil {
		return answer{}, err
	}
	u, err := s.pathUser(c, "read")
	if err != nil {
		return answer{}, err
	}
	given, err := decode[struct {
		Flag bool `json:"sysadmin_flag"`
	}](c)
	if err != nil {
		return answer{}, err
	}
	u.sysadmin, u.until = given.Flag, s.now()
	return done()
}

func (s *Server) setPassword(c *call) (answer, error) {
	u, err := s.pathUser(c, "update")
	if err != nil {
		return answer{}, err
	}
	given, err := decode[struct {
		Old string `json:"old_password"`
		New string `json:"new_password"`
	}](c)
	switch {
	case err != nil:
		return answer{}, err
	case c.who.user == u && given.Old != u.password:
		return answer{}, forbidden("Current password is incorrect")
	case !goodSecret(given.New):
		return answer{}, badRequest(weakPassword)
	case given.New == u.password:
		return answer{}, badRequest("New password is identical to old password")
	}
	u.password, u.until = given.New, s.now()
	return done()
}

// id is an id in the path.
func (c *call) id(name string) (int64, error) {
	text := c.vars[name]
	id, good := parseID(text)
	if !good {
		return 0, refuse(http.StatusUnprocessableEntity, "UNPROCESSABLE_ENTITY", "%s in path must be of type int64: %q", name, text)
	}
	return id, nil
}

func parseForm(raw []byte) (url.Values, error) { return url.ParseQuery(string(raw)) }
