package harbortest

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
)

// identity is who asks. Without a user and a robot it is anybody.
type identity struct {
	user  *user
	robot *robot
	label string // the name of the robot as it is now shown
}

func (i identity) authenticated() bool { return i.user != nil || i.robot != nil }

func (i identity) name() string {
	switch {
	case i.user != nil:
		return i.user.name
	case i.robot != nil:
		return i.label
	}
	return ""
}

// logins are the sessions that /c/login began, by the cookie sid, and the
// tokens against forged requests that are out.
type logins struct {
	sessions map[string]int64 // the id of the user
	tokens   map[string]bool
	grants   map[string]grant // by the token of the registry
}

func newLogins() logins {
	return logins{sessions: map[string]int64{}, tokens: map[string]bool{}, grants: map[string]grant{}}
}

// loginOf is how a request wants to be known.
func loginOf(r *http.Request) string {
	name, _, basic := r.BasicAuth()
	switch {
	case basic && strings.Contains(name, "$"):
		return "robot"
	case basic:
		return "password"
	case strings.HasPrefix(r.Header.Get("Authorization"), "Bearer "):
		return "token"
	}
	if _, err := r.Cookie("sid"); err == nil {
		return "session"
	}
	return "anonymous"
}

// identify is who a request is from. As in Harbor, who gives a wrong password
// is not refused but taken for anybody.
func (s *Server) identify(r *http.Request) identity {
	if name, secret, basic := r.BasicAuth(); basic {
		if short, is := strings.CutPrefix(name, s.setting("robot_name_prefix")); is {
			return identity{robot: s.robotWith(short, secret), label: name}
		}
		return identity{user: s.userWith(name, secret)}
	}
	if sid, err := r.Cookie("sid"); err == nil {
		return identity{user: s.users.get(s.login.sessions[sid.Value])}
	}
	return identity{}
}

// userWith is the user that a login is good for, by name or email; or nil.
func (s *Server) userWith(name, password string) *user {
	u := s.users.named(name)
	if u == nil {
		u = s.users.get(s.emails[name])
	}
	if u == nil || u.password != password {
		return nil
	}
	return u
}

// headers are those that every answer has. Each sets a new cookie sid, which
// stands for nobody, and breaks the next write of a client that keeps it.
func (s *Server) headers(w http.ResponseWriter, c *call) {
	id := c.r.Header.Get("X-Request-Id")
	if id == "" {
		id = uuid()
	}
	w.Header().Set("X-Request-Id", id)
	if _, err := c.r.Cookie("sid"); err != nil {
		setCookie(w, "sid", rand.Text())
	}
}

func setCookie(w http.ResponseWriter, name, value string) {
	w.Header().Add("Set-Cookie", name+"="+value+"; Path=/; HttpOnly")
}

const csrfHeader = "X-Harbor-Csrf-Token"

// checkSession holds a request with the cookie of a session to the token
// against forgery: a write without one is refused, whoever else it is from.
func (s *Server) checkSession(w http.ResponseWriter, c *call) error {
	_, err := c.r.Cookie("sid")
	if err != nil && !strings.HasPrefix(c.r.URL.Path, "/c/") {
		return nil
	}
	given := c.r.Header.Get(csrfHeader)
	token := rand.Text()
	s.login.tokens[token] = true
	w.Header().Set(csrfHeader, token)
	setCookie(w, "_gorilla_csrf", token)
	switch {
	case !writes(c.r.Method):
		return nil
	case given == "":
		return forbidden("CSRF token not found in request")
	case !s.login.tokens[given]:
		return forbidden("CSRF token invalid")
	}
	if cookie, err := c.r.Cookie("_gorilla_csrf"); err != nil || !s.login.tokens[cookie.Value] {
		return forbidden("CSRF token invalid")
	}
	return nil
}

// logIn begins a session.
func (s *Server) logIn(w http.ResponseWriter, c *call) (answer, error) {
	form, err := parseForm(c.raw)
	if err != nil {
		return answer{}, badRequest("%v", err)
	}
	u := s.userWith(form.Get("principal"), form.Get("password"))
	if u == nil {
		return answer{}, &refusal{status: http.StatusUnauthorized}
	}
	sid := rand.Text()
	s.login.sessions[sid] = u.id
	setCookie(w, "sid", sid)
	return done()
}

func (s *Server) logOut(c *call) (answer, error) {
	if sid, err := c.r.Cookie("sid"); err == nil {
		delete(s.login.sessions, sid.Value)
	}
	return done()
}

// uuid is a random one.
func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// newSecret is one as Harbor makes them: 32 letters and digits.
func newSecret() string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	for {
		b := make([]byte, 32)
		_, _ = rand.Read(b) // it never fails
		for i, c := range b {
			b[i] = letters[int(c)%len(letters)]
		}
		if goodSecret(string(b)) {
			return string(b)
		}
	}
}

// goodSecret says whether a password or secret is strong enough for Harbor.
func goodSecret(secret string) bool {
	return len(secret) >= 8 && len(secret) <= 128 &&
		strings.ContainsAny(secret, "abcdefghijklmnopqrstuvwxyz") &&
		strings.ContainsAny(secret, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") &&
		strings.ContainsAny(secret, "0123456789")
}
