package harbortest

import (
	"net/http"
	"regexp"
	"strconv"
	"time"
)

// robot is an account for programs, of the system or of a project.
type robot struct {
	id             int64
	short          string // what is stored: a project's robot is <project>+<name>
	of             *project
	level          string
	description    string
	secret         string
	disabled       bool
	duration       int64
	expires        int64
	permissions    []permission
	creator        int64
	creatorKind    string
	created, until time.Time
}

// robotWith is the robot that a login is good for, or nil.
func (s *Server) robotWith(short, secret string) *robot {
	r := s.robots.named(short)
	if r == nil || r.secret != secret || r.disabled || r.expires != -1 && r.expires <= s.now().Unix() {
		return nil
	}
	return r
}

func (s *Server) robotAccounts() routes {
	return routes{
		"GET /robots":               s.listRobots,
		"POST /robots":              s.createRobot,
		"GET /robots/{robot_id}":    s.showRobot,
		"PUT /robots/{robot_id}":    s.updateRobot,
		"PATCH /robots/{robot_id}":  s.setSecret,
		"DELETE /robots/{robot_id}": s.deleteRobot,
	}
}

type shownRobot struct {
	CreationTime stamp               `json:"creation_time"`
	CreatorRef   int64               `json:"creator_ref"`
	CreatorType  string              `json:"creator_type"`
	Description  string              `json:"description,omitempty"`
	Disable      bool                `json:"disable"`
	Duration     int64               `json:"duration"`
	Editable     bool                `json:"editable"`
	ExpiresAt    int64               `json:"expires_at"`
	ID           int64               `json:"id"`
	Level        string              `json:"level"`
	Name         string              `json:"name"`
	Permissions  []permissionRequest `json:"permissions"`
	UpdateTime   stamp               `json:"update_time"`
}

func (s *Server) showRobotTo(r *robot) shownRobot {
	shown := shownRobot{
		CreationTime: stamp(r.created), CreatorRef: r.creator, CreatorType: r.creatorKind, Description: r.description,
		Disable: r.disabled, Duration: r.duration, Editable: true, ExpiresAt: r.expires, ID: r.id, Level: r.level,
		Name: s.robotName(r), Permissions: []permissionRequest{}, UpdateTime: stamp(r.until),
	}
	for _, p := range r.permissions {
		shown.Permissions = append(shown.Permissions, permissionRequest{Access: p.access, Kind: p.kind, Namespace: p.namespace})
	}
	return shown
}

// robotName is a robot's name as it is shown, with the prefix of today.
func (s *Server) robotName(r *robot) string { return s.setting("robot_name_prefix") + r.short }

// onRobots refuses who may not do an action on the robots of a project, or of
// the system if that is nil.
func (s *Server) onRobots(c *call, level string, p *project, named, action string) error {
	if level == "system" {
		return c.inSystem("robot", action)
	}
	_, err := s.allowed(c, p, named, "robot", action)
	return err
}

// listRobots lists those of the system, or those of one project; there is no
// list of all.
func (s *Server) listRobots(c *call) (answer, error) {
	if err := c.loggedIn(); err != nil {
		return answer{}, err
	}
	terms, err := c.terms()
	if err != nil {
		return answer{}, err
	}
	level, rows := "system", []*robot(nil)
	if t, has := terms["Level"]; has {
		level = t.values[0]
		if t.operator != '=' {
			return answer{}, crashed()
		}
	}
	switch level {
	case "system":
		if err := c.inSystem("robot", "list"); err != nil {
			return answer{}, err
		}
		for _, r := range s.robots.all() {
			if r.of == nil {
				rows = append(rows, r)
			}
		}
	case "project":
		if rows, err = s.projectRobots(c, terms); err != nil {
			return answer{}, err
		}
	default:
		return answer{}, badRequest("bad request error level input")
	}
	delete(terms, "ProjectID")
	by := fields[*robot]{
		"name":          func(r *robot) string { return r.short },
		"id":            func(r *robot) string { return number(r.id) },
		"description":   func(r *robot) string { return r.description },
		"duration":      func(r *robot) string { return number(r.duration) },
		"creation_time": func(r *robot) string { return moment(r.created) },
		"update_time":   func(r *robot) string { return moment(r.until) },
		"disabled":      func(r *robot) string { return strconv.FormatBool(r.disabled) },
	}
	rows = filtered(rows, terms, by)
	sorted(c, rows, by, "name")
	return paged(c, rows, len(rows), s.showRobotTo)
}

// projectRobots are those of the one project that a query names. Naming more
// makes Harbor's handler panic.
func (s *Server) projectRobots(c *call, terms map[string]term) ([]*robot, error) {
	t, has := terms["ProjectID"]
	if !has {
		return nil, badRequest("must with project ID when to query project robots")
	}
	if t.operator != '=' {
		return nil, crashed()
	}
	id, good := parseID(t.values[0])
	if !good || id <= 0 {
		return nil, badRequest("ProjectID must be a positive integer")
	}
	p := s.projects.get(id)
	err := s.onRobots(c, "project", p, t.values[0], "list")
	if p == nil || err != nil {
		if c.who.user != nil && c.who.user.sysadmin {
			return nil, nil
		}
		return nil, err
	}
	return p.robots.all(), nil
}

type robotRequest struct {
	Name        string              `json:"name"`
	Description string              `json:"description"`
	Level       string              `json:"level"`
	Disable     bool                `json:"disable"`
	Duration    *int64              `json:"duration"`
	Permissions []permissionRequest `json:"permissions"`
}

// createRobot ignores a secret and disable, and says the one it makes: never
// again.
func (s *Server) createRobot(c *call) (answer, error) {
	given, err := decode[robotRequest](c)
	if err != nil {
		return answer{}, err
	}
	if !regexp.MustCompile(`^[a-z0-9]+(?:[._-][a-z0-9]+)*$`).MatchString(given.Name) {
		return answer{}, badRequest("robot name is not in lower case or contains illegal characters")
	}
	var duration int64
	if given.Duration != nil {
		duration = *given.Duration
	}
	if err := s.checkRobot(given, duration); err != nil {
		return answer{}, err
	}
	r := &robot{
		short: given.Name, level: given.Level, description: given.Description, duration: duration, secret: newSecret(),
	}
	r.created = s.now()
	r.until = r.created
	r.expires = expiry(r.created, duration)
	in := given.Permissions[0].Namespace
	if r.level == "project" {
		r.of = s.projects.named(in)
	}
	if err := s.onRobots(c, r.level, r.of, in, "create"); err != nil {
		return answer{}, err
	}
	switch {
	case c.who.user != nil:
		r.creator, r.creatorKind = c.who.user.id, "local"
	case !c.who.robot.within(given.Permissions):
		return answer{}, refuse(http.StatusForbidden, "DENIED", "permission scope is invalid. It must be equal to or more restrictive than the creator robot's permissions: %s", c.who.name())
	default:
		r.creator, r.creatorKind = c.who.robot.id, "robot"
	}
	var projectID int64
	if r.of != nil {
		r.short, projectID = r.of.name+"+"+r.short, r.of.id
	}
	r.id = s.next("robot")
	if s.robots.named(r.short) != nil {
		return answer{}, conflict("robot account %d:%s already exists", projectID, r.short)
	}
	if r.permissions, err = s.granted(given.Permissions); err != nil {
		return answer{}, err
	}
	s.robots.put(r.id, r.short, r)
	if r.of != nil {
		r.of.robots.put(r.id, r.short, r)
	}
	a, err := createdID(c, r.id)
	a.body = struct {
		CreationTime stamp  `json:"creation_time"`
		ExpiresAt    int64  `json:"expires_at"`
		ID           int64  `json:"id"`
		Name         string `json:"name"`
		Secret       string `json:"secret"`
	}{stamp(r.created), r.expires, r.id, s.robotName(r), r.secret}
	return a, err
}

// expiry is in seconds since 1970, and -1 for never.
func expiry(from time.Time, days int64) int64 {
	if days == -1 {
		return -1
	}
	return from.AddDate(0, 0, int(days)).Unix()
}

// pathRobot is the robot that the path names.
func (s *Server) pathRobot(c *call, action string) (*robot, error) {
	id, err := c.id("robot_id")
	if err != nil {
		return nil, err
	}
	if err := c.loggedIn(); err != nil {
		return nil, err
	}
	r := s.robots.get(id)
	if r == nil {
		return nil, notFound("robot %d not found", id)
	}
	return r, s.onRobots(c, r.level, r.of, "", action)
}

func (s *Server) showRobot(c *call) (answer, error) {
	r, err := s.pathRobot(c, "read")
	if err != nil {
		return answer{}, err
	}
	return shown(s.showRobotTo(r))
}

// updateRobot replaces everything but the duration, which may be left out,
// and the secret, which is ignored, and the effect of a right where none is given.
// The name must be the one shown.
func (s *Server) updateRobot(c *call) (answer, error) {
	r, err := s.pathRobot(c, "update")
	if err != nil {
		return answer{}, err
	}
	given, err := decode[robotRequest](c)
	if err != nil {
		return answer{}, err
	}
	duration := r.duration
	if given.Duration != nil {
		duration = *given.Duration
	}
	if err := s.checkRobot(given, duration); err != nil {
		return answer{}, err
	}
	if r.of != nil {
		in := given.Permissions[0].Namespace
		switch p := s.projects.named(in); {
		case p == nil:
			return answer{}, notFound("project %s not found", in)
		case p != r.of:
			return answer{}, badRequest("cannot update the project id of robot")
		}
	}
	if given.Level != r.level || given.Name != s.robotName(r) {
		return answer{}, badRequest("cannot update the level or name of robot")
	}
	permissions, err := s.granted(r.effects(given.Permissions))
	if err != nil {
		return answer{}, err
	}
	if duration != r.duration {
		r.duration, r.expires = duration, expiry(r.created, duration)
	}
	r.description, r.disabled, r.permissions, r.until = given.Description, given.Disable, permissions, s.now()
	return done()
}

// setSecret sets a secret, or makes one and says it.
func (s *Server) setSecret(c *call) (answer, error) {
	r, err := s.pathRobot(c, "update")
	if err != nil {
		return answer{}, err
	}
	type secret struct {
		Secret string `json:"secret,omitempty"`
	}
	given, err := decode[secret](c)
	if err != nil {
		return answer{}, err
	}
	if given.Secret == "" {
		r.secret, r.until = newSecret(), s.now()
		return shown(secret{r.secret})
	}
	if !goodSecret(given.Secret) {
		return answer{}, badRequest("the secret must be 8-128, inclusively, characters long with at least 1 uppercase letter, 1 lowercase letter and 1 number")
	}
	r.secret, r.until = given.Secret, s.now()
	return shown(secret{})
}

func (s *Server) deleteRobot(c *call) (answer, error) {
	r, err := s.pathRobot(c, "delete")
	if err != nil {
		return answer{}, err
	}
	s.removeRobot(r)
	return done()
}

func (s *Server) removeRobot(r *robot) {
	s.robots.remove(r.id, r.short)
	if r.of != nil {
		r.of.robots.remove(r.id, r.short)
	}
}

func parseID(text string) (int64, bool) {
	id, err := strconv.ParseInt(text, 10, 64)
	return id, err == nil
}
