package harbortest

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"slices"
	"strings"
	"time"
)

// registryService is the service that tokens are for.
const registryService = "harbor-registry"

// leeway is how much later than it says a token ends, and how much older than a
// project it may be.
const leeway = time.Minute

// grant is what a token lets its holder do, whatever becomes of their account.
type grant struct {
	who         string
	actions     map[string][]string // by project, not by repository
	issued, end time.Time
}

// scope is one that was asked for, with what of it is given.
type scope struct {
	Type    string   `json:"type"`
	Class   string   `json:"class,omitempty"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// parseScope splits a scope as Harbor does: two parts have no actions, one is a type.
func parseScope(text string) scope {
	parts := strings.Split(text, ":")
	last := len(parts) - 1
	switch {
	case last == 0:
		return scope{Type: text}
	case last == 1:
		return scope{Type: parts[0], Name: parts[1]}
	case parts[last] == "":
		return scope{Type: parts[0], Name: strings.Join(parts[1:last], ":")}
	}
	return scope{Type: parts[0], Name: strings.Join(parts[1:last], ":"), Actions: strings.Split(parts[last], ",")}
}

// given are the actions that somebody gets of a scope: all that they may do in the
// project, whichever of them was asked for.
func (s *Server) given(who identity, of scope) []string {
	given := []string{}
	switch {
	case of.Type == "registry" && of.Name == "catalog" && who.user != nil && who.user.sysadmin:
		return append(given, of.Actions...)
	case of.Type != "repository" || !strings.Contains(of.Name, "/"):
		return given
	}
	p := s.projects.named(projectOf(of.Name))
	for _, action := range []string{"pull", "push", "delete"} {
		if p != nil && s.mayOrAdmin(who, p, "repository", action) {
			given = append(given, action)
		}
	}
	return given
}

// token gives one that the registry takes, to anybody who asks for a scope. It is
// 200 for whoever may do nothing of it, and for a wrong password too: the token
// says what it is good for.
func (s *Server) token(c *call) (answer, error) {
	if c.r.Method != http.MethodGet {
		return said(http.StatusMethodNotAllowed, "Method Not Allowed"), nil
	}
	if service := c.query.Get("service"); service != registryService {
		return said(http.StatusBadRequest, html.EscapeString("Unable to handle service: "+service)), nil
	}
	var scopes []string
	for _, several := range c.query["scope"] {
		scopes = append(scopes, strings.Split(several, " ")...)
	}
	if !c.who.authenticated() && len(scopes) == 0 {
		return answer{status: http.StatusUnauthorized, header: map[string]string{"Content-Type": ""}}, nil
	}
	lives := s.settingNumber("token_expiration") * 60
	issued := s.now()
	g := grant{who: c.who.name(), actions: map[string][]string{}, issued: issued, end: issued.Add(time.Duration(lives) * time.Second)}
	var all []scope
	for _, text := range scopes {
		if text == "" {
			continue
		}
		one := parseScope(text)
		one.Actions = s.given(c.who, one)
		all = append(all, one)
		if one.Type == "repository" {
			g.actions[projectOf(one.Name)] = one.Actions
		}
	}
	text := g.signed(all)
	s.login.grants[text] = g
	return answer{status: http.StatusOK, header: charset(), body: struct {
		Token  string `json:"token"`
		Access string `json:"access_token"`
		Lives  int64  `json:"expires_in"`
		Issued string `json:"issued_at"`
	}{text, "", lives, issued.Format(time.RFC3339)}}, nil
}

// signed is the token as Harbor writes it, a JWT; what stands for the signature is
// random, for only the stand-in itself reads it.
func (g grant) signed(all []scope) string {
	part := func(of any) string {
		raw, _ := json.Marshal(of) // these have nothing that is no JSON
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	head := map[string]string{"alg": "RS256", "kid": "AAAA:BBBB", "typ": "JWT"}
	claims := struct {
		Issuer   string  `json:"iss"`
		Subject  string  `json:"sub,omitempty"`
		Audience string  `json:"aud"`
		End      int64   `json:"exp"`
		From     int64   `json:"nbf"`
		Issued   int64   `json:"iat"`
		ID       string  `json:"jti"`
		Access   []scope `json:"access"`
	}{"harbor-token-issuer", g.who, registryService, g.end.Unix(), g.issued.Unix(), g.issued.Unix(), rand.Text()[:16], all}
	return part(head) + "." + part(claims) + "." + rand.Text()
}

// holder is who asks for content, and what they may do.
type holder struct {
	authenticated bool
	may           func(p *project, action string) bool
	catalog       bool
}

// holder is who a request to the registry is from: the holder of a token, which is
// worth nothing in a project that is younger than it, or not there.
func (s *Server) holder(c *call, projects []string) holder {
	text, bearer := strings.CutPrefix(c.r.Header.Get("Authorization"), "Bearer ")
	if !bearer {
		return holder{
			authenticated: c.who.authenticated(), catalog: c.who.maySystem("catalog", "read"),
			may: func(p *project, action string) bool { return s.mayOrAdmin(c.who, p, "repository", action) },
		}
	}
	g, known := s.login.grants[text]
	stale := func(name string) bool {
		p := s.projects.named(name)
		return p == nil || g.issued.Add(leeway).Before(p.created)
	}
	if !known || s.now().After(g.end.Add(leeway)) || slices.ContainsFunc(projects, stale) {
		return holder{may: func(*project, string) bool { return false }}
	}
	c.holder = g.who
	return holder{
		authenticated: g.who != "",
		may:           func(p *project, action string) bool { return slices.Contains(g.actions[p.name], action) },
	}
}

// challenge says to whom sends nothing where a token is to be had, for which scopes,
// and to all others that their login was no good. For the catalog there is no token.
func challenge(c *call, wanted []want) string {
	if c.r.Header.Get("Authorization") != "" || strings.HasPrefix(c.r.URL.Path, "/v2/_catalog") {
		return `Basic realm="harbor"`
	}
	scheme := "http"
	if c.r.TLS != nil {
		scheme = "https"
	}
	text := fmt.Sprintf(`Bearer realm="%s://%s/service/token",service="%s"`, scheme, c.r.Host, registryService)
	var scopes []string
	for _, w := range wanted {
		actions := w.action
		if actions == "push" {
			actions = "pull,push"
		}
		scopes = append(scopes, "repository:"+w.repository+":"+actions)
	}
	if scopes != nil {
		text += fmt.Sprintf(`,scope="%s"`, strings.Join(scopes, " "))
	}
	return text
}
