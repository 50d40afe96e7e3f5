package embedded

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/schema"
)

// robotPrefix begins the login names of robots, and of nobody else.
const robotPrefix = "robot$"

// RobotLogins returns the two login names between which a robot alternates:
// "robot$ci" and "robot$ci.2", or of a namespace "robot$team-a+ci" and so on.
func RobotLogins(robot schema.Key) [2]string {
	name := robot.Child()
	if ns, ok := robot.Namespace(); ok {
		name = ns.Name + "+" + name
	}
	return [2]string{robotPrefix + name, robotPrefix + name + ".2"}
}

// RobotAccount is one of a robot's accounts, at most two.
type RobotAccount struct {
	Login string    `json:"login"`
	Made  time.Time `json:"made"`
	// Delivered says that the secret is known to be where it belongs.
	Delivered bool `json:"delivered"`
	// Place is where it was delivered to, as schema.Robot.Place says; "" where
	// that was not kept.
	Place string `json:"place,omitempty"`
	// Replaced is when another account took its place, and Ends when it stops
	// working for that; zero while it is the robot's newest.
	Replaced time.Time `json:"replaced,omitzero"`
	Ends     time.Time `json:"ends,omitzero"`
	// Ended says that the account has expired, whatever the clock says later.
	Ended bool   `json:"ended,omitempty"`
	Hash  string `json:"hash,omitempty"` // of the secret, by HashPassword; never told
	// Digest is that of a secret nobody can guess, as AccountChange has it; never told.
	Digest string `json:"digest,omitempty"`
	// Former are secrets that were made for the account before, newest first: one
	// of them may have been delivered, and its user not be told of another yet.
	// They work until the newest is delivered, and then until FormerEnds, and each
	// no longer than until it expires itself; never told.
	Former     []FormerSecret `json:"former,omitempty"`
	FormerEnds time.Time      `json:"former_ends,omitzero"`
}

// maxPlace is as long as a place can be, in bytes.
const maxPlace = 64

// Expires is when the account of a robot with this specification expires; zero
// for never.
func (a RobotAccount) Expires(spec *schema.Robot) time.Time {
	if e := value(spec.Expires); e > 0 {
		return a.Made.Add(time.Duration(e) * time.Second)
	}
	return time.Time{}
}

// Ahead reports whether the account was made at a time that is to come, so that
// a clock was or is wrong. A few minutes are nothing.
func (a RobotAccount) Ahead(now time.Time) bool { return a.Made.After(now.Add(clockSlack)) }

// ended reports whether the account has stopped working.
func (a RobotAccount) ended(spec *schema.Robot, now time.Time) bool {
	after := func(end time.Time) bool { return !end.IsZero() && !now.Before(end) }
	return a.Ended || after(a.Ends) || after(a.Expires(spec))
}

// works reports whether one can log in with the account.
func (a RobotAccount) works(spec *schema.Robot, now time.Time) bool {
	return (spec.Enabled == nil || *spec.Enabled) && !a.ended(spec, now)
}

// AccountChange makes or acknowledges an account of a robot.
type AccountChange struct {
	Login string `json:"login"` // one of RobotLogins
	// Hash is the new secret's, by HashPassword; "" keeps what there is.
	Hash string `json:"hash,omitempty"`
	// Digest is the secret's too, by SecretDigest, of one that nobody can guess. With
	// Delivered alone it says which secret was delivered: ErrSuperseded is that the
	// account has another one by now.
	Digest string `json:"digest,omitempty"`
	// IfMade is when the account was made that a new secret is for, as it was seen;
	// zero: there was none. ErrSuperseded is that it is another by now. Nil: whatever
	// there is.
	IfMade *time.Time `json:"if_made,omitempty"`
	// Place is where the secret belongs, as schema.Robot.Place says. Alone it is
	// kept of an account of which no place is known.
	Place string `json:"place,omitempty"`
	// Delivered says that the secret is where it belongs: the robot's other
	// account, and former secrets of this one, work for Overlap more seconds and
	// no longer.
	Delivered bool            `json:"delivered,omitempty"`
	Overlap   schema.Duration `json:"overlap,omitempty"`
}

// RobotStatus is what is known of a robot's accounts.
type RobotStatus struct {
	Key      schema.Key     `json:"key"`
	Accounts []RobotAccount `json:"accounts"`
}

// checkAccount refuses an account that the change's object cannot have.
func (c Change) checkAccount(d document) error {
	a, key := c.Account, c.Object.Key
	if a == nil {
		return nil
	}
	logins := RobotLogins(key)
	switch {
	case key.Kind != schema.KindRobot || c.Delete:
		return fmt.Errorf("%s: %w: only robots have accounts", key, ErrInvalid)
	case !slices.Contains(logins[:], a.Login):
		return fmt.Errorf("%s: %w: its accounts are %s and %s", key, ErrInvalid, logins[0], logins[1])
	case a.Overlap < 0:
		return fmt.Errorf("%s: %w: an overlap ends", key, ErrInvalid)
	case len(a.Place) > maxPlace:
		return fmt.Errorf("%s: %w: no place is longer than %d bytes", key, ErrInvalid, maxPlace)
	case a.Digest != "" && !isDigest(a.Digest):
		return fmt.Errorf("%s: %w: a digest is what SecretDigest returns", key, ErrInvalid)
	case a.IfMade != nil && !madeAt(d.Robots[key.String()], a.Login).Equal(*a.IfMade):
		return fmt.Errorf("%s: %s: %w", key, a.Login, ErrSuperseded)
	case a.Hash == "" && a.Digest != "" && a.Delivered && !slices.ContainsFunc(d.Robots[key.String()], func(now RobotAccount) bool {
		return now.Login == a.Login && now.Digest == a.Digest
	}):
		return fmt.Errorf("%s: %s: %w", key, a.Login, ErrSuperseded)
	case a.Hash == "":
		return nil
	}
	for robot, accounts := range d.Robots { // one that was renamed keeps its logins until it is renewed
		if robot != key.String() && slices.ContainsFunc(accounts, func(other RobotAccount) bool { return other.Login == a.Login }) {
			return fmt.Errorf("%s: %w: login %s is still that of %s; renew that robot first, or choose another name", key, ErrConflict, a.Login, robot)
		}
	}
	return checkHash(a.Hash)
}

// madeAt is when the account of a login was made; zero where there is none.
func madeAt(accounts []RobotAccount, login string) time.Time {
	i := slices.IndexFunc(accounts, func(a RobotAccount) bool { return a.Login == login })
	if i < 0 {
		return time.Time{}
	}
	return accounts[i].Made
}

// keepAccount puts the change's account into the document; did tells whether
// anything is other than before. Accounts that have ended go.
func (c Change) keepAccount(next *document, now time.Time) (did bool) {
	if c.Account == nil {
		return false
	}
	name := c.Object.Key.String()
	accounts := slices.DeleteFunc(slices.Clone(next.Robots[name]), func(a RobotAccount) bool {
		return !a.Ends.IsZero() && !now.Before(a.Ends)
	})
	i := slices.IndexFunc(accounts, func(a RobotAccount) bool { return a.Login == c.Account.Login })
	switch {
	case c.Account.Hash != "" && i < 0:
		i = len(accounts)
		accounts = append(accounts, RobotAccount{Login: c.Account.Login, Made: now, Hash: c.Account.Hash, Digest: c.Account.Digest})
	case c.Account.Hash != "":
		made := RobotAccount{Login: c.Account.Login, Made: now, Hash: c.Account.Hash, Digest: c.Account.Digest}
		spec, _ := c.Object.Spec.(*schema.Robot)
		made.Former = accounts[i].formerly(spec, now)
		accounts[i] = made
	case i < 0:
		return false
	}
	switch {
	case c.Account.Delivered:
		a, end := &accounts[i], now.Add(time.Duration(c.Account.Overlap)*time.Second)
		a.Delivered, a.Place = true, c.Account.Place
		a.Ends, a.Replaced = time.Time{}, time.Time{} // another process may have acknowledged the other one meanwhile
		if a.FormerEnds = end; len(a.Former) == 0 || c.Account.Overlap == 0 {
			a.Former, a.FormerEnds = nil, time.Time{}
		}
		for j := range accounts {
			if j != i && (accounts[j].Ends.IsZero() || end.Before(accounts[j].Ends)) {
				accounts[j].Ends, accounts[j].Replaced = end, now
			}
		}
	case c.Account.Hash == "":
		if accounts[i].Place != "" || c.Account.Place == "" {
			return false
		}
		accounts[i].Place = c.Account.Place
	}
	slices.SortFunc(accounts, func(a, b RobotAccount) int { return strings.Compare(a.Login, b.Login) })
	next.Robots[name] = accounts
	return true
}

// dropAccounts forgets the accounts of robots that are gone.
func (d *document) dropAccounts(objects map[schema.Key]schema.Resource) {
	maps.DeleteFunc(d.Robots, func(name string, _ []RobotAccount) bool {
		key, err := schema.ParseKey(name)
		_, ok := objects[key]
		return err != nil || !ok
	})
}

// robots are the statuses without what is secret, sorted by key.
func (d document) robots() []RobotStatus {
	var out []RobotStatus
	for _, o := range d.Objects {
		if o.Key.Kind != schema.KindRobot {
			continue
		}
		s := RobotStatus{Key: o.Key, Accounts: slices.Clone(d.Robots[o.Key.String()])}
		for i := range s.Accounts {
			s.Accounts[i].Hash, s.Accounts[i].Digest, s.Accounts[i].Former = "", "", nil
		}
		out = append(out, s)
	}
	return out
}

// robotLogin is an account of a robot as a login sees it.
type robotLogin struct {
	account
	robot string
	spec  *schema.Robot
	about RobotAccount
	over  atomic.Bool // it was seen to have ended, which a clock set back does not undo
}

// logins prepares a robot's accounts. Those that did not change keep what they
// remember.
func (s *snapshot) logins(o schema.Resource, spec *schema.Robot, before *snapshot) {
	for _, a := range s.doc.Robots[o.Key.String()] {
		l := &robotLogin{
			account: account{version: a.Made.String(), hash: []byte(a.Hash), secret: a.secret(), former: secretsOf(a.Former)},
			robot:   o.Key.Name, spec: spec, about: a,
		}
		if before != nil {
			if b := before.robots[a.Login]; b != nil && b.version == l.version && bytes.Equal(b.hash, l.hash) && slices.Equal(b.former, l.former) {
				l.seen.Store(b.seen.Load())
			}
			if b := before.robots[a.Login]; b != nil && b.about.same(a) && value(b.spec.Expires) == value(spec.Expires) {
				l.over.Store(b.over.Load())
			}
		}
		s.robots[a.Login] = l
		s.former = max(s.former, slow(l.former))
	}
}

// hashes is how many are compared with a wrong password of a name: of a robot's
// as many as of that with the most, so that it takes no less where there is none.
func (s *snapshot) hashes(name string) int {
	if strings.HasPrefix(name, robotPrefix) {
		return 1 + s.former
	}
	return 1
}

// login finds an account that can be logged in with, and whose it is.
func (s *snapshot) login(name string, now time.Time) (*account, access.Subject) {
	if !strings.HasPrefix(name, robotPrefix) {
		return s.accounts[name], access.User(name)
	}
	l := s.robots[name]
	if l == nil {
		return nil, access.Subject{}
	}
	if l.about.ended(l.spec, now) {
		l.over.Store(true)
	}
	if l.over.Load() || !l.about.works(l.spec, now) {
		return nil, access.Subject{}
	}
	return l.without(now), access.Robot(l.robot)
}

// newest is, for a comparison of secrets, a robot's account with the secret
// made last; nil without one.
func (s *snapshot) newest(robot schema.Key) *account {
	var newest *robotLogin
	for _, a := range s.doc.Robots[robot.String()] {
		if l := s.robots[a.Login]; l != nil && a.Ends.IsZero() && (newest == nil || a.Made.After(newest.about.Made)) {
			newest = l
		}
	}
	if newest == nil {
		return nil
	}
	return &account{hash: newest.hash}
}

// checkRobot refuses what the registry cannot keep of a robot.
func checkRobot(key schema.Key, spec *schema.Robot) error {
	invalid := func(why string) error { return fmt.Errorf("%s: %w: %s", key, ErrInvalid, why) }
	ns, of := key.Namespace()
	name := key.Name
	if of {
		if err := namespaceName(ns); err != nil {
			return err
		}
		name = strings.TrimPrefix(name, ns.Name+"/")
	}
	switch {
	case !accountName(name) || strings.Contains(name, "+"):
		return invalid("a robot's name has 1 to 255 printable characters and no colon, slash, plus or space")
	case strings.HasSuffix(name, ".2"):
		return invalid("names that end in .2 are those of second accounts")
	case spec.Secret != nil:
		return invalid("the secret is kept apart from the object")
	case spec.Permissions != nil:
		return fmt.Errorf("%s: permissions: %w", key, ErrUnsupported)
	}
	for _, g := range spec.Access {
		if of && g.Name != ns.Name {
			return invalid("a robot of a namespace has rights in that namespace alone, and not in " + g.Name)
		}
	}
	return nil
}
