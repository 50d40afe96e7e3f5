package distribution

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/files"
	"github.com/ocisync/ocisync/pkg/providers/htpasswd"
	"github.com/ocisync/ocisync/schema"
)

const (
	// selfLogin is ocisync's own account in the htpasswd file of a registry
	// that it runs, and is nobody's object.
	selfLogin = "ocisync$"
	// selfCost is of hashing its password, which is too long to be guessed and
	// is compared with each request.
	selfCost = 4
	// noRights is why there is nothing to be said of who may do what.
	noRights = "whoever has an account in an htpasswd file may do everything; rights are given by ocisync's token service: name it in registry.token, and leave registry.files.htpasswd out"
)

// accountFile is the accounts that Distribution itself knows: an htpasswd file.
// It reads the file anew whenever its time of modification is another, so that
// a change holds for the next request. A line that is neither an account nor a
// comment makes it keep the accounts that it had, which are none where it started
// with that line: then each login is answered with 400.
type accountFile struct {
	registry, name string
	own            string // where the password of ocisync's own account lies; "" where somebody else runs the registry
	cost           int
	secrets        providers.Secrets
	writing        sync.Mutex
}

// byFile reports whether accounts are those of an htpasswd file.
func (p *Provider) byFile() bool { return p.place.Htpasswd != "" }

// load reads the file; one that is absent has no accounts, and text is nil.
func (a *accountFile) load() (f *htpasswd.File, text []byte, err error) {
	text, err = files.Read(a.name)
	if errors.Is(err, fs.ErrNotExist) {
		return htpasswd.Parse(nil), nil, nil
	}
	if err != nil {
		return nil, nil, a.fail(schema.Key{}, "reading accounts", err, "correct registry.files.htpasswd, or run ocisync as the user who owns the file")
	}
	return htpasswd.Parse(text), text, nil
}

func (a *accountFile) fail(key schema.Key, doing string, err error, remedy string) error {
	return &providers.Error{Registry: a.registry, Key: key, Doing: doing, Err: err, Remedy: remedy}
}

// robotAccount reports whether an account is one of a robot, by its name.
func robotAccount(name string) bool { return strings.HasPrefix(name, "robot$") }

// inForce is what the registry has of the file: what stood there before, where a write
// of it was cut, until that is finished.
func (a *accountFile) inForce() (now, finished *htpasswd.File, err error) {
	finished, _, err = a.load()
	if err != nil {
		return nil, nil, err
	}
	before, cut, err := files.Held(a.name)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, nil, a.fail(schema.Key{}, "reading accounts", err, "")
	case cut:
		return htpasswd.Parse(before), finished, nil
	}
	return finished, finished, nil
}

// users are the accounts of people. One that no mode can name is nobody's object,
// and left is told of it. Where a write was cut, those of either content are, and
// nobody knows the password of one that the two have with another: to write it, or to
// take the account out, finishes that write first.
func (a *accountFile) users(left func(error)) ([]schema.Resource, error) {
	now, finished, err := a.inForce()
	if err != nil {
		return nil, err
	}
	names := append(slices.Clone(now.Names()), finished.Names()...)
	slices.Sort(names)
	var out []schema.Resource
	for _, name := range slices.Compact(names) {
		if name == selfLogin || robotAccount(name) {
			continue
		}
		if err := htpasswd.CheckName(name); err != nil {
			left(fmt.Errorf("%s: %w", a.name, err))
			continue
		}
		r := user(finished, name)
		if had, _ := now.Hash(name); version([]byte(had)) != r.Version {
			r.Unread = nil
		}
		out = append(out, r)
	}
	return out, nil
}

func user(f *htpasswd.File, name string) schema.Resource {
	hash, _ := f.Hash(name)
	return schema.Resource{
		Key: schema.Key{Kind: schema.KindUser, Name: name}, Spec: &schema.User{},
		Version: version([]byte(hash)), Unread: []string{"password"},
	}
}

// broken says which line keeps the registry from taking over what is written
// beside it, or "".
func (a *accountFile) broken(f *htpasswd.File) string {
	for _, problem := range f.Problems(htpasswd.Bcrypt) {
		if strings.HasPrefix(problem.Text, "it is neither") || strings.HasPrefix(problem.Text, "the line is longer") {
			return fmt.Sprintf("%s:%d: %s; until the line is gone Distribution takes over no change of the file, and where it starts with it nobody can log in", a.name, problem.Line, problem.Text)
		}
	}
	return ""
}

// startable tells that nobody could log in to a registry that starts now.
func (a *accountFile) startable() error {
	f, _, err := a.load()
	if err != nil {
		return err
	}
	if why := a.broken(f); why != "" {
		return a.fail(schema.Key{}, "starting the registry", errors.New(why), "remove the line")
	}
	return nil
}

// trouble says which line a registry that runs since then does not get over; zero
// where it is not known since when.
func (a *accountFile) trouble(since time.Time) (string, error) {
	f, _, err := a.load()
	if err != nil {
		return "", err
	}
	why := a.broken(f)
	info, err := os.Stat(a.name)
	switch {
	case why == "" || errors.Is(err, fs.ErrNotExist): // it has gone since it was read
		return "", nil
	case err != nil:
		return "", err
	}
	if !since.IsZero() && info.ModTime().Before(since) {
		return why + "; it was started so: remove the line, and everybody can again", nil
	}
	return why + "; remove the line", nil
}

// unfinished says of a write that was cut what the registry has until it is finished, and
// what finishes it; "" where none was.
func (a *accountFile) unfinished() (string, error) {
	switch _, cut, err := files.Held(a.name); {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil || !cut:
		return "", err
	}
	return a.name + ": a write of it was cut short, and the registry has the accounts that stood there before: an apply that changes any of them finishes it first, and so does `ocisync run robots`", nil
}

// remarks are the lines that Distribution does not take as an account.
func (a *accountFile) remarks() ([]plan.Note, error) {
	f, _, err := a.load()
	if err != nil {
		return nil, err
	}
	var notes []plan.Note
	for _, problem := range f.Problems(htpasswd.Bcrypt) {
		notes = append(notes, plan.Note{Key: schema.Key{Kind: schema.KindUser}, Text: fmt.Sprintf("%s:%d: %s", a.name, problem.Line, problem.Text)})
	}
	return notes, nil
}

// refused says why the file cannot have a user as a change has it, or "".
func (a *accountFile) refused(c plan.Change) string {
	if c.Action == plan.Delete {
		return ""
	}
	if c.Action == plan.Rename {
		return "an account in an htpasswd file keeps its name; take the line \"previously\" out, and a new one is made"
	}
	spec, ok := c.After.Spec.(*schema.User)
	switch err := htpasswd.CheckName(c.Key.Name); {
	case !ok:
		return "the change does not say what the object shall be"
	case err != nil:
		return err.Error()
	case robotAccount(c.Key.Name):
		return "names that begin with robot$ are those of robots"
	case c.Key.Name == selfLogin:
		return "this account is ocisync's own; choose another name"
	case c.Action == plan.Create && spec.Password == nil:
		return "an htpasswd file has no account without a password; name one in password"
	}
	return ""
}

// prepare judges a change of a user. A password is looked at that is at hand.
func (a *accountFile) prepare(ctx context.Context, c plan.Change) (v providers.Verdict, err error) {
	v.Effect = plan.Live
	f, _, err := a.load()
	if err != nil {
		return v, err
	}
	v.Refused = cmp.Or(a.refused(c), a.broken(f))
	if ref := newPassword(c); v.Refused == "" && ref != nil && (ref.Env != "" || ref.File != "") {
		if secret, err := a.secrets.Resolve(ctx, *ref); err == nil { // else it is told when it is needed
			if err := htpasswd.CheckPassword(secret); err != nil {
				v.Refused = err.Error()
			}
		}
	}
	return v, ctx.Err()
}

// newPassword is the one that a change gives a user; nil where that stays.
func newPassword(c plan.Change) *schema.SecretRef {
	if c.Action == plan.Delete || c.After == nil {
		return nil
	}
	spec, ok := c.After.Spec.(*schema.User)
	listed := slices.ContainsFunc(c.Fields, func(f plan.Field) bool { return f.Path == "password" })
	if !ok || c.Action == plan.Update && !listed {
		return nil
	}
	return spec.Password
}

// hashed is a change of a user with the hash of its password, "" where that
// stays.
type hashed struct {
	plan.Change
	hash string
	err  error
}

func (a *accountFile) hash(ctx context.Context, c plan.Change) (h hashed) {
	h.Change = c
	if why := a.refused(c); why != "" {
		h.err = a.fail(c.Key, "", fmt.Errorf("%w: %s", providers.ErrInvalid, why), "")
		return h
	}
	ref := newPassword(c)
	if ref == nil {
		return h
	}
	secret, err := a.secrets.Resolve(ctx, *ref)
	if err != nil {
		h.err = fmt.Errorf("%s: password: %w", c.Key, err)
		return h
	}
	if h.hash, err = htpasswd.Hash(secret, a.cost); err != nil {
		h.err = a.fail(c.Key, "password", fmt.Errorf("%w: %w", providers.ErrInvalid, err), "")
	}
	return h
}

// write makes changes of users, in one write of the file.
func (a *accountFile) write(ctx context.Context, changes []plan.Change, report func(schema.Key, error)) error {
	all := make([]hashed, len(changes))
	var work errgroup.Group
	work.SetLimit(runtime.GOMAXPROCS(0)) // hashing is slow on purpose
	for i, c := range changes {
		work.Go(func() error {
			all[i] = a.hash(ctx, c)
			return nil
		})
	}
	work.Wait() //nolint:errcheck // none returns an error
	if err := ctx.Err(); err != nil {
		return err
	}
	a.writing.Lock()
	defer a.writing.Unlock()
	f, text, err := a.load()
	if err != nil {
		return err
	}
	if why := a.broken(f); why != "" {
		return a.fail(schema.Key{}, "writing accounts", fmt.Errorf("%w: %s", providers.ErrConflict, why), "remove the line")
	}
	for i := range all {
		if all[i].err == nil {
			all[i].err = a.change(f, all[i])
		}
	}
	if err := a.save(f, text); err != nil {
		return err
	}
	for _, h := range all {
		report(h.Key, h.err)
	}
	return nil
}

// change makes one change in a parsed file.
func (a *accountFile) change(f *htpasswd.File, h hashed) error {
	have, there := f.Hash(h.Key.Name)
	if there && h.Before != nil && h.Before.Version != "" && h.Before.Version != version([]byte(have)) {
		return a.fail(h.Key, "", providers.ErrConflict, "plan again")
	}
	switch {
	case h.Action == plan.Delete:
		f.Remove(h.Key.Name)
	case h.hash != "":
		return f.Set(h.Key.Name, h.hash)
	case !there:
		return a.fail(h.Key, "", fmt.Errorf("%w any more", providers.ErrNotFound), "plan again")
	}
	return nil
}

// save writes the file where it says something else than before.
func (a *accountFile) save(f *htpasswd.File, before []byte) (err error) {
	next := f.Bytes()
	switch {
	case before == nil && len(next) == 0:
		return nil
	case before == nil:
		err = files.Create(a.name, next)
	default:
		err = files.Write(a.name, before, next) // nothing, if it says so already
	}
	if errors.Is(err, files.ErrChanged) || errors.Is(err, fs.ErrExist) {
		return a.fail(schema.Key{}, "writing accounts", fmt.Errorf("%w: %w", providers.ErrConflict, err), "apply again")
	}
	if err != nil {
		return a.fail(schema.Key{}, "writing accounts", err, "check the directory of the file, and run ocisync as the user who owns it")
	}
	return nil
}

// check compares a password with the one of an account.
func (a *accountFile) check(ctx context.Context, key schema.Key, ref schema.SecretRef) (bool, error) {
	f, _, err := a.load()
	if err != nil {
		return false, err
	}
	hash, there := f.Hash(key.Name)
	if !there {
		return false, a.fail(key, "comparing password", providers.ErrNotFound, "")
	}
	secret, err := a.secrets.Resolve(ctx, ref)
	if err != nil {
		return false, fmt.Errorf("%s: password: %w", key, err)
	}
	equal, err := htpasswd.Verify(hash, secret)
	if errors.Is(err, htpasswd.ErrForm) { // Distribution takes no such hash: nobody can log in by it
		return false, nil
	}
	return equal, err
}

// enter finishes a write that was cut, and has ocisync's own account in the
// file, which is there then: Distribution would make one with an account of its
// own. It is called before a start.
func (a *accountFile) enter() error {
	a.writing.Lock()
	defer a.writing.Unlock()
	if _, err := files.Finish(a.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return a.fail(schema.Key{}, "finishing a write of the accounts", err, "")
	}
	password, err := a.self()
	if errors.Is(err, fs.ErrNotExist) {
		password = rand.Text() + rand.Text()
		err = errors.Join(os.MkdirAll(filepath.Dir(a.own), 0o700), replaceConfig(a.own, []byte(password+"\n")))
	}
	if err != nil {
		return a.fail(schema.Key{}, "making ocisync's own account", err, "check the directory of the file")
	}
	f, text, err := a.load()
	if err != nil {
		return err
	}
	have, _ := f.Hash(selfLogin)
	if same, err := htpasswd.Verify(have, password); err == nil && same {
		return nil
	}
	hash, err := htpasswd.Hash(password, selfCost)
	if err == nil {
		err = f.Set(selfLogin, hash)
	}
	if err != nil {
		return a.fail(schema.Key{}, "making ocisync's own account", err, "")
	}
	return a.save(f, text)
}

// self is the password of ocisync's own account.
func (a *accountFile) self() (string, error) {
	if a.own == "" {
		return "", fs.ErrNotExist
	}
	b, err := readConfig(a.own)
	return strings.TrimSpace(string(b)), err
}

// readFile adds users to a state, and to robots whether their accounts are in
// the file.
func (p *Provider) readFile(ctx context.Context, scope schema.Scope, st *schema.State) error {
	if slices.Contains(scope.Kinds, schema.KindUser) {
		users, err := p.people.users(func(err error) {
			p.logger.Warn("an account is left out, since no mode can name it", "error", err)
		})
		if err != nil {
			return err
		}
		st.Scope.Kinds = append(st.Scope.Kinds, schema.KindUser)
		slices.Sort(st.Scope.Kinds)
		st.Resources = append(st.Resources, slices.DeleteFunc(users, func(r schema.Resource) bool { return !st.Scope.Covers(r.Key) })...)
	}
	if !slices.Contains(scope.Kinds, schema.KindRobot) {
		return nil
	}
	logins, err := p.accounts.RobotHashes(ctx)
	if err != nil {
		return err
	}
	now, finished, err := p.people.inForce()
	if err != nil {
		return err
	}
	for i, r := range st.Resources {
		if r.Key.Kind == schema.KindRobot && (p.people.lacks(now, r.Key, logins) || p.people.lacks(finished, r.Key, logins)) {
			st.Resources[i].Unread = nil
		}
	}
	return nil
}
