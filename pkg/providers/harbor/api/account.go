package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// account is a login and what it has become. A robot sends its secret each time,
// which is cheap to check; a user's password costs Harbor half a second, and buys
// a session once. The secret that Harbor gives somebody who logs in elsewhere is
// for no session, and is sent each time too.
type account struct {
	login   schema.Login
	at      string // where the mode has it
	resolve func(context.Context, schema.SecretRef) (string, error)

	proving sync.Mutex
	mu      sync.Mutex
	proven  bool
	user    string // the login name
	secret  string // what is sent each time, "" with a session
	session string // the cookies of a user's session
	token   string // against forged requests, of that session
	id      int64  // Harbor's number of a user
	admin   bool
}

func (a *account) robot() bool { return a.login.Robot != nil }

// name is the login name; prefix is what Harbor puts before a robot's.
func (a *account) name(prefix string) string {
	if a.login.Robot == nil {
		if a.login.User == nil {
			return ""
		}
		return *a.login.User
	}
	if name := *a.login.Robot; strings.HasPrefix(name, prefix) {
		return name
	}
	return prefix + *a.login.Robot
}

// Basic is the login as it is sent to /v2/ with each request; ok is false of one that
// has a session, which [Client.Token] serves.
func (c *Client) Basic(ctx context.Context) (user, password string, ok bool, err error) {
	a := c.main
	if err := c.prove(ctx, a); err != nil {
		return "", "", false, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.user, a.secret, a.secret != "", nil
}

// Token is an access token for /v2/, for what the account may do of some scopes, and how
// long it is good: a session is enough to get one.
func (c *Client) Token(ctx context.Context, scopes []string) (value string, lives time.Duration, err error) {
	ask := call{
		method: http.MethodGet, path: "/service/token", beside: true, doing: "asking for a token",
		query: url.Values{"service": {"harbor-registry"}, "scope": scopes},
	}
	for {
		var said struct {
			Token   string `json:"token"`
			Seconds int    `json:"expires_in"`
		}
		if _, err := do(ctx, c, ask, &said); err != nil {
			return "", 0, err
		}
		if somebodys(said.Token) || !c.main.expired() {
			return said.Token, time.Duration(said.Seconds) * time.Second, nil
		}
		// of a session that ended Harbor says nothing: the token is nobody's
	}
}

// somebodys reports whether a token of Harbor's is for an account. One that says nothing
// of that is: it is opaque to whom it is given.
func somebodys(token string) bool {
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.ES256, jose.ES384, jose.ES512})
	if err != nil {
		return true
	}
	var said jwt.Claims
	return parsed.UnsafeClaimsWithoutVerification(&said) != nil || said.Subject != ""
}

// User is the name by which the first login turned out to be known: a robot's with
// Harbor's prefix. "" before anything was asked.
func (c *Client) User() string {
	a := c.main
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.user
}

// UserID is the number of the user that the first login is, 0 of a robot.
func (c *Client) UserID() int64 {
	a := c.main
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.id
}

// Prefix is what Harbor puts before robots' names, by the name that a robot's
// login turned out to have.
func (c *Client) Prefix() string {
	const usual = "robot$"
	a := c.main
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.robot() || strings.HasPrefix(a.user, usual) {
		return usual
	}
	if prefix, ok := strings.CutSuffix(a.user, *a.login.Robot); ok {
		return prefix
	}
	return ""
}

// sign puts what proves the account on a request.
func (a *account) sign(req *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.secret != "" {
		req.SetBasicAuth(a.user, a.secret)
		return
	}
	if a.session == "" {
		return
	}
	req.Header.Set("Cookie", a.session)
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		req.Header.Set(tokenHeader, a.token)
	}
}

// saw keeps the newest token of a session. Any of them serves.
func (a *account) saw(resp *http.Response) {
	if token := resp.Header.Get(tokenHeader); token != "" && a != nil {
		a.mu.Lock()
		a.token = token
		a.mu.Unlock()
	}
}

// expired forgets a session that Harbor does not know any more; false for an
// account that has none.
func (a *account) expired() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	was := a.session != ""
	if was {
		a.proven, a.session = false, ""
	}
	return was
}

const (
	tokenHeader = "X-Harbor-CSRF-Token" //nolint:gosec // a header's name
	sessionName = "sid"
	guardName   = "_gorilla_csrf"
)

// prove logs in, once, and sees that Harbor takes the account for whom it is.
func (c *Client) prove(ctx context.Context, a *account) error {
	a.proving.Lock()
	defer a.proving.Unlock()
	a.mu.Lock()
	done := a.proven
	a.mu.Unlock()
	if done {
		return nil
	}
	if a.login.Password == nil {
		return c.fail("", fmt.Errorf("%w: %s has no password", providers.ErrUnauthorized, a.at), "set "+a.at+".password")
	}
	password, err := a.resolve(ctx, *a.login.Password)
	if err != nil {
		return fmt.Errorf("%s: %s.password: %w", c.base, a.at, err)
	}
	if a.robot() {
		err = c.proveRobot(ctx, a, password)
	} else {
		err = c.proveUser(ctx, a, password)
	}
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.proven = true
	a.mu.Unlock()
	return nil
}

// systemInfo is what everybody is told, and the version, which only who is
// logged in is.
type systemInfo struct {
	Version  string `json:"harbor_version"`
	AuthMode string `json:"auth_mode"`
	ReadOnly bool   `json:"read_only"`
	Creation string `json:"project_creation_restriction"`
}

// Standing is what Harbor tells everybody who is logged in of its settings.
type Standing struct {
	AuthMode string // where accounts come from
	ReadOnly bool   // it takes no change but of its settings
	Creation string // who makes projects: "everyone", or "adminonly"
}

// Now asks how the server is set.
func (c *Client) Now(ctx context.Context) (Standing, error) {
	var info systemInfo
	_, err := do(ctx, c, call{method: http.MethodGet, path: "/systeminfo", doing: "asking whether it is read-only"}, &info)
	return Standing{info.AuthMode, info.ReadOnly, info.Creation}, err
}

// proveRobot sends the secret with each request; that the version is told proves
// that it counts. How robots' names begin is a setting that a robot may not read:
// the mode's own name of it is tried first, then with what Harbor puts before.
func (c *Client) proveRobot(ctx context.Context, a *account, secret string) error {
	names := []string{a.name("robot$")}
	if bare := *a.login.Robot; bare != names[0] {
		names = append(names, bare)
	}
	for _, name := range names {
		a.mu.Lock()
		a.user, a.secret = name, secret
		a.mu.Unlock()
		info, err := c.info(ctx, a)
		if err != nil {
			return err
		}
		if info.Version != "" {
			c.keep(info)
			return nil
		}
	}
	return c.unauthorized(a, nil)
}

// unauthorized says that a login does not count, with Harbor's answer where it has
// one: mostly it takes who asks for nobody, and says nothing.
func (c *Client) unauthorized(a *account, answer *StatusError) error {
	err := fmt.Errorf("%w: %s (%s)", providers.ErrUnauthorized, a.name("robot$"), a.at)
	if answer != nil {
		err = fmt.Errorf("%w: %w", err, answer)
	}
	return c.fail("", err,
		"see that the name and the password of "+a.at+" are right, and that the account is neither disabled nor expired"+a.whole())
}

// whole says of a robot's login how it is written where robots' names begin
// otherwise.
func (a *account) whole() string {
	if !a.robot() {
		return ""
	}
	return "; where Harbor's prefix of robots is another than robot$, write the whole name, with it"
}

func (c *Client) keep(info systemInfo) {
	c.told.Do(func() { c.Version, c.AuthMode = info.Version, info.AuthMode })
}

func (c *Client) info(ctx context.Context, a *account) (systemInfo, error) {
	r := call{method: http.MethodGet, path: "/systeminfo", doing: "asking who it is"}
	status, header, body, err := c.try(ctx, a, r)
	if err != nil {
		return systemInfo{}, c.connection(r.doing, err)
	}
	if status == http.StatusNotFound && !isPage(header, body) {
		return systemInfo{}, c.fail(r.doing, kinded{said(status, body), providers.ErrNotRegistry}, "correct registry.url; a Harbor older than 2.0 has another API, and ocisync knows it from 2.10 on")
	}
	if status != http.StatusOK || isPage(header, body) {
		return systemInfo{}, c.answer(r, status, header, body)
	}
	var info systemInfo
	if err := json.Unmarshal(body, &info); err != nil || info.AuthMode == "" {
		return systemInfo{}, c.fail(r.doing, fmt.Errorf("%w: %s says nothing that Harbor says", providers.ErrNotRegistry, root+r.path), "correct registry.url")
	}
	return info, nil
}

// proveUser buys a session with the password: Harbor's own portal does the same.
func (c *Client) proveUser(ctx context.Context, a *account, password string) error {
	name := a.name("")
	info, err := c.info(ctx, a) // a password goes to a Harbor alone
	if err != nil {
		return err
	}
	guard, token, err := c.guard(ctx)
	if err != nil {
		return err
	}
	session, refused, err := c.enter(ctx, name, password, guard, token)
	if err != nil {
		return err
	}
	if session == "" && info.AuthMode != "oidc_auth" {
		return c.unauthorized(a, refused)
	}
	a.mu.Lock()
	a.user, a.session, a.token = name, session, token
	if session == "" {
		a.secret = password
	}
	a.mu.Unlock()
	if err := c.current(ctx, a, name); err != nil {
		return err
	}
	if info, err = c.info(ctx, a); err == nil {
		c.keep(info)
	}
	return err
}

// current asks Harbor for whom it takes a user.
func (c *Client) current(ctx context.Context, a *account, name string) error {
	r := call{method: http.MethodGet, path: "/users/current", doing: "asking who it is"}
	status, header, body, err := c.try(ctx, a, r)
	switch {
	case err != nil:
		return c.connection(r.doing, err)
	case status == http.StatusUnauthorized:
		return c.unauthorized(a, said(status, body))
	case status != http.StatusOK:
		return c.answer(r, status, header, body)
	}
	var me struct {
		ID       int64  `json:"user_id"`
		Username string `json:"username"`
		Admin    bool   `json:"sysadmin_flag"`
		Role     bool   `json:"admin_role_in_auth"` // by a group of where accounts come from
	}
	if err := json.Unmarshal(body, &me); err != nil || !strings.EqualFold(me.Username, name) {
		return c.fail(r.doing, fmt.Errorf("%w: it takes %s for somebody else", providers.ErrUnauthorized, name), "see what stands between here and Harbor")
	}
	a.mu.Lock()
	a.id, a.admin = me.ID, me.Admin || me.Role
	a.mu.Unlock()
	return nil
}

// guard fetches the cookie and the token without which Harbor takes no form.
func (c *Client) guard(ctx context.Context) (cookie, token string, err error) {
	const doing = "logging in"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/c/login", nil)
	if err != nil {
		return "", "", c.fail(doing, err, "")
	}
	_, header, _, err := c.outside(req)
	if err != nil {
		return "", "", c.connection(doing, err)
	}
	return cookies(header, guardName), header.Get(tokenHeader), nil
}

// enter posts the login form; "" is a login that Harbor does not accept, which it
// may say something of.
func (c *Client) enter(ctx context.Context, name, password, guard, token string) (session string, refused *StatusError, err error) {
	const doing = "logging in"
	form := url.Values{"principal": {name}, "password": {password}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/c/login", strings.NewReader(form.Encode()))
	if err != nil {
		return "", nil, c.fail(doing, err, "")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if guard != "" {
		req.Header.Set("Cookie", guard)
		req.Header.Set(tokenHeader, token)
	}
	status, header, body, err := c.outside(req)
	if err != nil {
		return "", nil, c.connection(doing, err)
	}
	switch {
	case status == http.StatusOK && !isPage(header, body):
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return "", said(status, body), nil
	default:
		return "", nil, c.answer(call{method: http.MethodPost, path: "/c/login", doing: doing, tries: true}, status, header, body)
	}
	both := []string{cookies(header, sessionName)}
	if guard != "" {
		both = append(both, guard)
	}
	if both[0] == "" {
		return "", nil, nil
	}
	return strings.Join(both, "; "), nil, nil
}

// cookies finds the last cookie of a name: Harbor sets a session twice in one
// answer, and the second one is it.
func cookies(header http.Header, name string) (last string) {
	for _, k := range (&http.Response{Header: header}).Cookies() {
		if k.Name == name && k.Value != "" {
			last = k.Name + "=" + k.Value
		}
	}
	return last
}
