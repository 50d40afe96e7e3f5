package embedded

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/distribution/reference"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/webhook"
	"github.com/ocisync/ocisync/schema"
)

// The kinds of error of one change; test with errors.Is.
var (
	ErrInvalid     = errors.New("the registry does not take that")
	ErrUnsupported = errors.New("the embedded registry has no such thing yet")
	ErrConflict    = errors.New("changed by somebody else meanwhile")
	ErrMissing     = errors.New("not found")
	ErrSuperseded  = errors.New("another secret was made for it meanwhile")
)

// Change is one object as it shall be.
type Change struct {
	// Object is the whole object; no field of it holds a secret. Of one that
	// is deleted only the key counts.
	Object schema.Resource `json:"object"`
	Delete bool            `json:"delete,omitempty"`
	// Create says that the object is believed absent.
	Create bool `json:"create,omitempty"`
	// From is the object's former name, of one that is renamed; what hangs on
	// it and what it holds come along.
	From *schema.Key `json:"from,omitempty"`
	// IfVersion is the version the object is believed to have; "" means that
	// any will do.
	IfVersion string `json:"if_version,omitempty"`
	// PasswordHash is the user's new password, by [HashPassword]; "" keeps
	// the one there is.
	PasswordHash string `json:"password_hash,omitempty"`
	// Secret is a webhook's new auth in the clear; "" keeps the one there is.
	Secret string `json:"secret,omitempty"`
	// Account is a robot's; nil keeps those there are.
	Account *AccountChange `json:"account,omitempty"`
	// Used says of a quota how much of it is used, and changes nothing of it; of
	// the object only the key counts.
	Used *schema.Size `json:"used,omitempty"`

	at      time.Time // when the change is made
	blocked error     // why a namespace's content cannot come along
}

// Result says what became of one change.
type Result struct {
	Key schema.Key
	Err error // nil, or wraps one of this package's errors
}

// Kinds lists the kinds that the registry keeps.
func Kinds() []schema.Kind {
	return []schema.Kind{
		schema.KindSettings, schema.KindUser, schema.KindGroup, schema.KindGC, schema.KindAudit, schema.KindNamespace,
		schema.KindAccess, schema.KindQuota, schema.KindRetention, schema.KindImmutable, schema.KindWebhook, schema.KindRobot,
	}
}

// apply returns the document with the changes made, each whole or not at all,
// and what became of each in the order given. Objects are put before those
// that need them and deleted after. What already holds is a success and
// changes no version. The receiver stays as it is.
func (d document) apply(changes []Change) (document, []Result) {
	objects := make(map[schema.Key]schema.Resource, len(d.Objects)+len(changes))
	for _, o := range d.Objects {
		objects[o.Key] = o
	}
	next := d
	next.Passwords = maps.Clone(d.Passwords)
	next.Secrets, next.values = map[string]string{}, map[string]string{}
	maps.Copy(next.Secrets, d.Secrets)
	maps.Copy(next.values, d.values)
	next.Robots = map[string][]RobotAccount{}
	maps.Copy(next.Robots, d.Robots)
	next.Full = map[string]Full{}
	maps.Copy(next.Full, d.Full)
	next.Revision = d.Revision + 1
	version := strconv.FormatUint(next.Revision, 10)

	order := make([]int, len(changes))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(stage(changes[a]), stage(changes[b])) })
	results := make([]Result, len(changes))
	changed := false
	for _, i := range order {
		c := changes[i]
		if c.Used != nil {
			did, err := c.measured(&next, objects)
			results[i] = Result{Key: c.Object.Key, Err: err}
			changed = changed || did
			continue
		}
		renamed, did := false, false
		err := c.check(next, objects)
		if err == nil && c.From != nil {
			renamed, err = c.rename(&next, objects)
		}
		old := objects[c.Object.Key].Spec
		if err == nil {
			did, err = c.apply(objects, next.Passwords, version)
		}
		if err == nil && did && !c.Delete {
			c.revive(&next, old)
		}
		if err == nil && !c.Delete && (c.keepSecret(&next, version) || c.keepAccount(&next, c.at)) {
			o := objects[c.Object.Key]
			o.Version = version
			objects[c.Object.Key], did = o, true
		}
		results[i] = Result{Key: c.Object.Key, Err: err}
		changed = changed || did || renamed
	}
	if !changed {
		return d, results
	}
	next.dropSecrets(objects)
	next.dropAccounts(objects)
	next.dropMoves(objects)
	next.dropFull(objects)
	next.Objects = slices.Collect(maps.Values(objects))
	slices.SortFunc(next.Objects, func(a, b schema.Resource) int { return a.Key.Compare(b.Key) })
	return next, results
}

func stage(c Change) int {
	rank := c.Object.Key.Kind.Rank()
	if c.Delete {
		return 100 - rank
	}
	return rank
}

// check refuses a change that the registry cannot keep.
func (c Change) check(d document, objects map[schema.Key]schema.Resource) error {
	key := c.Object.Key
	if c.Delete {
		return nil
	}
	if err := errors.Join(CheckObject(c.Object), c.checkSecret(), c.checkAccount(d)); err != nil {
		return err
	}
	if c.PasswordHash != "" {
		if key.Kind != schema.KindUser {
			return fmt.Errorf("%s: %w: only users have passwords", key, ErrInvalid)
		}
		if err := checkHash(c.PasswordHash); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	if ns, ok := key.Namespace(); ok {
		if _, ok := objects[ns]; !ok {
			return fmt.Errorf("%s: %s: %w; make the namespace first", key, ns, ErrMissing)
		}
	}
	if _, exists := objects[key]; exists || c.From != nil {
		return nil
	}
	return d.free(key, key, objects)
}

func (c Change) apply(objects map[schema.Key]schema.Resource, passwords map[string]string, version string) (changed bool, err error) {
	key := c.Object.Key
	old, exists := objects[key]
	if c.Delete {
		if !exists {
			return false, nil
		}
		if c.IfVersion != "" && c.IfVersion != old.Version {
			return false, fmt.Errorf("%s: %w; plan again", key, ErrConflict)
		}
		delete(objects, key)
		switch key.Kind {
		case schema.KindUser:
			delete(passwords, key.Name)
		case schema.KindNamespace:
			maps.DeleteFunc(objects, func(k schema.Key, _ schema.Resource) bool {
				ns, ok := k.Namespace()
				return ok && ns == key
			})
		}
		return true, nil
	}
	spec := complete(c.Object.Spec)
	if same := exists && equal(old.Spec, spec); same && c.PasswordHash == "" {
		return false, nil
	} else if !same && (c.Create && exists || c.IfVersion != "" && c.IfVersion != old.Version) {
		return false, fmt.Errorf("%s: %w; plan again", key, ErrConflict)
	}
	objects[key] = schema.Resource{Key: key, Spec: spec, Version: version}
	if c.PasswordHash != "" {
		passwords[key.Name] = c.PasswordHash
	}
	return true, nil
}

func equal(a, b schema.Spec) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

// CheckObject refuses what the registry cannot keep: ErrInvalid, ErrUnsupported.
func CheckObject(o schema.Resource) error {
	unsupported := func(field string) error { return fmt.Errorf("%s: %s: %w", o.Key, field, ErrUnsupported) }
	invalid := func(why string) error { return fmt.Errorf("%s: %w: %s", o.Key, ErrInvalid, why) }
	name := o.Key.Name
	switch spec := o.Spec.(type) {
	case *schema.User:
		switch {
		case spec.Password != nil:
			return invalid("the password is kept apart from the object")
		case strings.HasPrefix(name, robotPrefix):
			return invalid("names that begin with " + robotPrefix + " are those of robots")
		case !accountName(name):
			return invalid("a user name has 1 to 255 printable characters and no colon, slash or space")
		}
	case *schema.Group:
		switch {
		case spec.Type != nil:
			return unsupported("type")
		case spec.LDAPDN != nil:
			return unsupported("ldap_dn")
		case !accountName(name):
			return invalid("a group name has 1 to 255 printable characters and no colon, slash or space")
		}
	case *schema.Namespace:
		if spec.ProxyOf != nil {
			return unsupported("proxy_of")
		}
		if spec.Proxy != nil {
			return unsupported("proxy")
		}
		return namespaceName(o.Key)
	case *schema.Access:
		if spec.Conditions != nil { // authenticated_group is kept, and not needed
			return unsupported("conditions")
		}
		return namespaceName(o.Key)
	case *schema.Quota, *schema.Retention, *schema.Immutable:
		return errors.Join(namespaceName(o.Key), checkPolicy(o))
	case *schema.Settings:
		for _, v := range spec.Values {
			if v.Path != OutsidePath {
				return unsupported(v.Path)
			}
		}
		if v, ok := outsideOf(spec); name != "" || ok && !v.Valid() {
			return invalid(OutsidePath + " is deny or leave")
		}
	case *schema.GC:
		return checkGC(o.Key, spec)
	case *schema.Webhook:
		if err := checkWebhook(o.Key, spec); err != nil {
			return err
		}
	case *schema.Robot:
		if err := checkRobot(o.Key, spec); err != nil {
			return err
		}
	case *schema.Audit:
		if err := checkAudit(o.Key, spec); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s: %w", o.Key, ErrUnsupported)
	}
	if o.Spec.Kind() != o.Key.Kind {
		return invalid("the key is of another kind than the object")
	}
	return nil
}

func namespaceName(k schema.Key) error {
	if _, err := reference.WithName(k.Name); err != nil {
		return fmt.Errorf("%s: %w: not the beginning of a repository name; use lower-case letters and digits, with . _ - between them and / between segments", k, ErrInvalid)
	}
	if access.In(access.Reserved, k.Name) {
		return fmt.Errorf("%s: %w: namespace %s is ocisync's own; choose another name", k, ErrInvalid, access.Reserved)
	}
	return nil
}

func accountName(s string) bool {
	return s != "" && len(s) <= 255 && !strings.ContainsFunc(s, func(r rune) bool {
		return r == ':' || r == '/' || r == unicode.ReplacementChar || unicode.IsSpace(r) || !unicode.IsPrint(r)
	})
}

// complete returns a copy with everything said that an object has: what was
// left out is empty.
func complete(spec schema.Spec) schema.Spec {
	switch s := spec.(type) {
	case *schema.User:
		c := *s
		orZero(&c.Email)
		orZero(&c.FullName)
		orZero(&c.Comment)
		orZero(&c.Admin)
		return &c
	case *schema.Group:
		c := *s
		c.Users = schema.NewSet(s.Users...)
		return &c
	case *schema.Namespace:
		c := *s
		orZero(&c.Description)
		return &c
	case *schema.Robot:
		c := *s
		c.Renew, c.Overlap = nil, nil // of who renews it, and not of the registry
		c.Access = schema.NewGrants(s.Access...)
		orZero(&c.Description)
		if c.Expires == nil {
			c.Expires = new(schema.Never)
		}
		if c.Enabled == nil {
			c.Enabled = new(true)
		}
		return &c
	case *schema.Webhook:
		return webhook.Complete(s)
	case *schema.Access:
		c := *s
		orZero(&c.Anonymous)
		orZero(&c.Authenticated)
		c.Users, c.Groups = schema.NewGrants(s.Users...), schema.NewGrants(s.Groups...)
		return &c
	case *schema.Quota, *schema.Retention, *schema.Immutable:
		return completePolicy(spec)
	case *schema.GC:
		return completeGC(s)
	}
	return spec
}

func orZero[T any](p **T) {
	if *p == nil {
		*p = new(T)
	}
}
