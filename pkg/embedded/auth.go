package embedded

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/registry/auth"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/schema"
)

const controllerName = "ocisync"

// registerController makes the authorizer known to Distribution, whose table
// of authorizers is of the process. What is registered holds nothing: rules
// and identity come with each request, as a visit in its context.
var registerController = sync.OnceValue(func() error { //nolint:gochecknoglobals // the table is of the process, so is the once
	return auth.Register(controllerName, func(map[string]any) (auth.AccessController, error) { return controller{}, nil })
})

// identity is who sends a request: anonymous, a user, or ocisync itself.
type identity struct {
	subject access.Subject
	self    bool
	content bool   // of ocisync itself: it moves content, in whatever namespace
	login   string // the name given, of an account
	token   bool   // it came with a token, which anonymous clients have too
}

func (i identity) anonymous() bool { return !i.self && i.subject == access.Subject{} }

func (i identity) String() string {
	switch {
	case i.self:
		return "ocisync"
	case i.anonymous():
		return "anonymous"
	case i.subject.Robot != "":
		return "robot " + i.subject.Robot
	}
	return "user " + i.subject.User
}

// account is the identity's name in the audit log.
func (i identity) account() string {
	switch {
	case i.self:
		return "ocisync"
	case i.anonymous():
		return "anonymous"
	}
	return i.login
}

// ContentHeader is on the requests of ocisync itself that move content. Of nobody else
// it says anything.
const ContentHeader = "Ocisync-Content"

// may asks the rules; ocisync itself reaches its own namespace, and others where it
// moves content.
func (i identity) may(rules *access.Rules, want schema.Rights, repository string) bool {
	if i.self {
		return i.content || access.In(access.Reserved, repository)
	}
	return rules.May(i.subject, want, repository)
}

// visit is one request's dealings with the authorizer.
type visit struct {
	target
	who    identity
	rules  *access.Rules
	base   string // of the URL by which the visitor reaches the registry
	denied string // what a known subject may not do
	// moved says that the repository fell to another namespace, or to none,
	// before the request could change anything.
	moved  bool
	pushed *pushed
	// freed says that deletions left much to collect, short that there was no room.
	freed, short bool
	// again says that a request that found no room may be answered anew after a
	// collection, retried that it was.
	again, retried bool
}

type visitKey struct{}

// selfKey marks the context of requests that come by the admin socket or from
// this process.
type selfKey struct{}

func asSelf(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), selfKey{}, true)))
	})
}

var (
	errDenied     = errors.New("denied")
	errWrongLogin = errors.New("user name or password is wrong")
	errWrongToken = errors.New("the token is not good, or not any more; ask for another")
)

// guessing is what wrong passwords are counted by.
type guessing struct {
	address netip.Addr
	name    [sha256.Size]byte // a keyed hash of it: a name that is none may be of any length
}

// identify checks the password of a request, if one is given. errWrongLogin: it is
// wrong.
func (r *Registry) identify(q *http.Request) (identity, error) {
	if q.Context().Value(selfKey{}) != nil {
		who := identity{self: true, content: q.Header.Get(ContentHeader) != ""}
		if rec := recordOf(q); rec != nil {
			rec.who = who
		}
		return who, nil
	}
	if q.Header.Get("Authorization") == "" {
		return identity{}, nil
	}
	name, password, ok := q.BasicAuth()
	switch {
	case !ok:
		return identity{}, errWrongLogin
	case name == "" && password == "": // how some clients say that they have none
		return identity{}, nil
	}
	who, _, err := r.authenticate(q, name, password)
	return who, err
}

// visitor is identify where tokens are taken as well as passwords: an account's
// says who asks as its password does, and no more. errWrongToken: it is not good.
func (r *Registry) visitor(q *http.Request) (identity, error) {
	scheme, text, _ := strings.Cut(q.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || q.Context().Value(selfKey{}) != nil {
		return r.identify(q)
	}
	now, who := r.store.now(), identity{token: true}
	name, ok := r.own.Whose(strings.TrimSpace(text), func(name string) [][]byte {
		a, subject := now.login(name, r.store.clock())
		who.subject = subject
		return a.proofs()
	})
	switch {
	case !ok:
		return identity{}, errWrongToken
	case name == "":
		return identity{token: true}, nil
	}
	who.login = name
	return r.known(q, who)
}

// known notes who sends a request, within the limit of the account.
func (r *Registry) known(q *http.Request, who identity) (identity, error) {
	if rec := recordOf(q); rec != nil {
		rec.who = who
	}
	if err := r.accounts.take(who.login); err != nil {
		r.limit(q, "account", err)
		return identity{}, err
	}
	return who, nil
}

// authenticate checks an account's password, within the limits of the request's
// address and of the account, which it returns too. errWrongLogin: it is wrong.
func (r *Registry) authenticate(q *http.Request, name, password string) (identity, *account, error) {
	now := r.store.now()
	a, subject := now.login(name, r.store.clock())
	from := clientOf(q)
	// a name that is none is counted as one that is: else counting tells which are
	guesses := guessing{from, r.passwords.mac([]byte("name"), []byte(name))}
	right, err := r.passwords.check(q.Context(), attempt{
		account: a, name: name, password: password, hashes: now.hashes(name),
		gate: func() (time.Duration, error) {
			if err := r.failures.peek(guesses); err != nil {
				return 0, err
			}
			return r.logins.delay(from), nil
		},
		failed: func() {
			r.failures.take(guesses) //nolint:errcheck // the next one is refused
			r.logger.Warn("login refused", "address", q.RemoteAddr)
		},
	})
	rec := recordOf(q)
	if rec != nil && (err != nil || !right) {
		if rec.claimed = "unknown"; a != nil { // else it could be anything, such as a password
			rec.claimed = name
		}
	}
	switch {
	case err != nil:
		r.limit(q, "login", err)
		return identity{}, nil, err
	case !right:
		return identity{}, nil, errWrongLogin
	}
	who, err := r.known(q, identity{subject: subject, login: name})
	return who, a, err
}

// basicRealm begins the challenge of every admin API of ours.
const basicRealm = `Basic realm="ocisync"`

// errAskPassword is the challenge where no tokens are taken.
const errAskPassword challenge = basicRealm + `, charset="UTF-8"`

// challenge is how a client is to log in, and the error that makes Distribution
// answer 401.
type challenge string

func (challenge) Error() string { return "credentials needed" }

// SetHeaders implements [auth.Challenge].
func (c challenge) SetHeaders(_ *http.Request, w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", string(c))
}

// answer is 401.
func (c challenge) answer(w http.ResponseWriter, message string) {
	c.SetHeaders(nil, w)
	ociError(w, http.StatusUnauthorized, "UNAUTHORIZED", message)
}

// controller decides by the request's visit; without one nothing is allowed.
type controller struct{}

// Authorized implements [auth.AccessController].
func (controller) Authorized(r *http.Request, records ...auth.Access) (*auth.Grant, error) {
	v, ok := r.Context().Value(visitKey{}).(*visit)
	if !ok {
		return nil, errAskPassword
	}
	if err := v.authorize(records...); err != nil && !v.lists(records) {
		return nil, err
	}
	return &auth.Grant{User: auth.UserInfo{Name: v.who.String()}}, nil
}

// authorize is nil where all of it is allowed, challenge where the visitor
// should log in, and else errDenied, with the reason in denied.
func (v *visit) authorize(records ...auth.Access) error {
	if len(records) == 0 && v.who.anonymous() && !v.who.token { // a bare /v2/ asks for the login
		return v.tokenAsked(nil)
	}
	for _, a := range records {
		if right, ok := rightOf(a); ok && v.who.may(v.rules, right, a.Name) {
			continue
		}
		if v.who.anonymous() {
			return v.tokenAsked(nil, records...)
		}
		v.denied = fmt.Sprintf("%s may not %s %s", v.who, a.Action, a.Name)
		return errDenied
	}
	return nil
}

// lists reports whether ocisync itself asks which repositories there are, to move their
// content.
func (v *visit) lists(records []auth.Access) bool {
	return v.who.content && len(records) == 1 && records[0].Type == "registry"
}

func rightOf(a auth.Access) (schema.Rights, bool) {
	if a.Type != "repository" {
		return 0, false
	}
	switch a.Action {
	case "pull":
		return schema.Pull, true
	case "push":
		return schema.Push, true
	case "delete":
		return schema.Delete, true
	}
	return 0, false
}

// ociError answers with an error in the form of the OCI distribution
// specification.
func ociError(w http.ResponseWriter, status int, code, message string) {
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	writeJSON(w, status, struct {
		Errors []entry `json:"errors"`
	}{[]entry{{code, message}}})
}

func writeJSON[T any](w http.ResponseWriter, status int, v T) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "cannot be written as JSON", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(append(b, '\n')) //nolint:errcheck // the client is gone
}

// login answers for requests whose credentials are wrong, or cannot be
// checked, and has the client log in as is asked; it reports whether the request
// may go on.
func login(w http.ResponseWriter, err error, asked challenge) bool {
	limited := (*limitedError)(nil)
	switch {
	case err == nil:
		return true
	case errors.As(err, &limited):
		limited.answer(w)
	case errors.Is(err, errWrongLogin), errors.Is(err, errWrongToken):
		asked.answer(w, err.Error())
	default:
		ociError(w, http.StatusServiceUnavailable, "UNAVAILABLE", errBusy.Error())
	}
	return false
}
