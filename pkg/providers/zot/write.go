package zot

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/files"
	"github.com/ocisync/ocisync/pkg/providers/htpasswd"
	"github.com/ocisync/ocisync/pkg/providers/zot/config"
	"github.com/ocisync/ocisync/schema"
)

// byHand is what the operator does where ocisync cannot restart the registry.
const byHand = "somebody else runs it, and a running Zot does not take this over: stop Zot, run `ocisync apply` again, and start it"

// moved is what the operator does where the address of a registry that
// ocisync runs changes: whoever watches over the process knows it too.
const moved = "the address of a Zot that runs is not changed under it: run `ocisync down`, then `ocisync up`, which starts it where the mode says"

const noAccounts = "this Zot has no file of accounts; name one in registry.files.htpasswd"

// Prepare implements [providers.Provider].
func (p *Provider) Prepare(ctx context.Context, changes []plan.Change) ([]providers.Verdict, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	verdicts := make([]providers.Verdict, len(changes))
	if p.away() {
		for i := range verdicts {
			verdicts[i] = providers.Verdict{Effect: plan.ByHand, Notes: []string{p.elsewhere().Error()}}
		}
		return verdicts, nil
	}
	s, err := p.load()
	if err != nil {
		return nil, err
	}
	st, err := p.status(ctx, s)
	if err != nil {
		return nil, err
	}
	now := s.objects()
	running := p.runs(ctx, s, st)
	for i, c := range changes {
		verdicts[i] = p.prepare(c, now, running, st)
	}
	p.closing(s, changes, verdicts)
	return verdicts, nil
}

// closing lists, of a registry without any rule, the repositories that the
// first ones close.
func (p *Provider) closing(s *site, changes []plan.Change, verdicts []providers.Verdict) {
	if s.doc == nil || s.conf.HTTP.AccessControl != nil {
		return
	}
	var names []string
	for _, c := range changes {
		if c.Key.Kind == schema.KindAccess && c.Action != plan.Delete {
			names = append(names, c.Key.Name)
		}
	}
	if len(names) == 0 {
		return
	}
	list, ok := stored(s.conf, names)
	for i, c := range changes {
		if c.Key.Kind != schema.KindAccess || c.Action == plan.Delete {
			continue
		}
		if !ok {
			verdicts[i].Notes = append(verdicts[i].Notes, "closes repositories that cannot be listed here")
			continue
		}
		var closed []string
		for _, r := range list {
			if access.In(c.Key.Name, r.Name) {
				closed = append(closed, r.Name)
			}
		}
		if len(closed) > 0 {
			const few = 10
			more := ""
			if len(closed) > few {
				more = fmt.Sprintf(" and %d more", len(closed)-few)
			}
			verdicts[i].Notes = append(verdicts[i].Notes, "closes to all that it does not name: "+strings.Join(closed[:min(few, len(closed))], ", ")+more)
		}
	}
}

// runs is what the process has taken over.
func (p *Provider) runs(ctx context.Context, s *site, st status) configuration {
	if v := p.inForce(ctx, s, st); v != nil {
		return v.conf
	}
	return s.conf
}

func (p *Provider) prepare(c plan.Change, now *objects, running configuration, st status) providers.Verdict {
	v := providers.Verdict{Effect: p.effect(c, now, running, st)}
	switch c.Action {
	case plan.Rename:
		v.Refused = "Zot has no way to give a thing another name; declare the new one, move what it holds, and take the old one out"
		return v
	case plan.Delete:
	default:
		if c.After == nil {
			v.Refused = "the change does not say what the object shall be"
			return v
		}
		v.Refused = refusal(c.Key, c.After.Spec)
	}
	if v.Refused == "" {
		v.Refused = p.conflicting(c, now)
	}
	if v.Effect == plan.ByHand {
		v.Notes = append(v.Notes, p.operator())
	}
	v.Notes = append(v.Notes, remarks(c, now)...)
	return v
}

// conflicting says what in a hand-written configuration stands against a
// change, or "".
func (p *Provider) conflicting(c plan.Change, now *objects) string {
	if c.Action == plan.Delete {
		return ""
	}
	switch spec := c.After.Spec.(type) {
	case *schema.Settings:
		var problems []string
		for _, x := range config.Check(declared(c, spec), p.version()) {
			problems = append(problems, x.String())
		}
		return strings.Join(problems, "; ")
	case *schema.Access, *schema.Immutable:
		if p2 := shadow(now.strangers, c.Key.Name, now.namespaces); p2 != "" {
			return fmt.Sprintf("the pattern %q of %s is as long as %q or longer, so that Zot would go by it and not by this rule; take it out, or declare what it holds as a namespace", p2, p.paths.config, pattern(c.Key.Name))
		}
	case *schema.Robot:
		if now.doc != nil && now.htpasswd == "" && spec.Secret != nil {
			return noAccounts
		}
	case *schema.User:
		if now.doc != nil && now.htpasswd == "" && spec.Password != nil {
			return noAccounts
		}
		names, whole := now.conf.admins()
		if spec.Admin != nil && *spec.Admin && !whole && len(names) > 0 {
			return fmt.Sprintf("http.accessControl.adminPolicy of %s gives its users (%s) less than everything, or under conditions; give it the actions read, create, update and delete and no conditions first", p.paths.config, strings.Join(names, ", "))
		}
	}
	return ""
}

// declared are the settings of Zot's own that a change is about.
func declared(c plan.Change, s *schema.Settings) schema.Values {
	return slices.DeleteFunc(slices.Clone(s.Values), func(v schema.Value) bool {
		named := slices.ContainsFunc(c.Fields, func(f plan.Field) bool { return f.Path == "values."+v.Path })
		return v.Path == schema.OutsidePath || v.Path == loadedPath || c.Action == plan.Update && !named
	})
}

// version is that of Zot where the image tells it, else "".
func (p *Provider) version() string {
	if p.registry.Run == nil {
		return ""
	}
	image, _, _ := strings.Cut(p.registry.Run.Image, "@")
	tag := image[strings.LastIndexAny(image, ":/")+1:]
	if !strings.Contains(image, ":"+tag) {
		return ""
	}
	return strings.TrimPrefix(tag, "v")
}

// remarks are what a plan should say of a change.
func remarks(c plan.Change, now *objects) (notes []string) {
	if c.Action == plan.Delete {
		switch c.Key.Kind {
		case schema.KindNamespace:
			notes = append(notes, "its rules go, its images stay: whoever owns the namespace above, or policy.outside, decides for them")
		case schema.KindUser, schema.KindGroup:
			notes = append(notes, "is taken out of the rules that name it")
		}
		return notes
	}
	if c.After == nil {
		return nil
	}
	switch spec := c.After.Spec.(type) {
	case *schema.User:
		if c.Action == plan.Create && spec.Password == nil {
			notes = append(notes, "has no password and cannot log in")
		}
	case *schema.Robot:
		if c.Action == plan.Create {
			notes = append(notes, "is an account like others to Zot: it has what authenticated gives besides")
		}
		if c.Action == plan.Create && spec.Secret == nil {
			notes = append(notes, "has no secret and cannot log in")
		}
	case *schema.Access:
		if now.conf.HTTP.AccessControl == nil {
			notes = append(notes, "is the first rule of this registry: until now every account, or without accounts everybody, may do everything; what lies in no namespace stays so unless policy.outside is declared")
		}
		if spec.Conditions != nil && len(spec.Users)+len(spec.Groups) == 0 {
			notes = append(notes, "conditions are kept, and decide nothing while the rule names no user and no group")
		}
	case *schema.Retention:
		route := now.conf.storeOf(c.Key.Name)
		if i := slices.IndexFunc(now.conf.stores(), func(s store) bool { return s.route == route }); route != "" && i >= 0 && !now.conf.stores()[i].gc {
			notes = append(notes, fmt.Sprintf("Zot applies retention while it collects, and gc is off in storage.subPaths %q; set it there", route))
		} else if route == "" && !now.conf.gcOn() {
			notes = append(notes, "Zot applies retention while it collects, and gc is off; set gc.schedule")
		}
		if len(spec.Keep) > 1 && slices.ContainsFunc(spec.Keep, func(r schema.KeepRule) bool { return r.Tags != "" || r.Repositories != "" }) {
			notes = append(notes, "Zot counts the newest among the tags that a rule is the first to match: where rules overlap it keeps more than they say, never less")
		}
	case *schema.Replication:
		if t := spec.Trigger; t != nil && t.On == "manual" {
			notes = append(notes, "is kept, and copies nothing: Zot cannot be told to; give it a schedule")
		}
	}
	return notes
}

// effect is how a change would come into force.
func (p *Provider) effect(c plan.Change, now *objects, running configuration, st status) plan.Effect {
	how := plan.Live
	if st.running {
		how = needs(c, now, running)
	}
	if how == plan.Reload && st.blind && p.process != nil {
		how = plan.Restart // which tells
	}
	if how == plan.Restart && (p.process == nil || moves(c)) {
		return plan.ByHand
	}
	return how
}

// operator says what somebody has to do for a change.
func (p *Provider) operator() string {
	if p.process != nil {
		return moved
	}
	return byHand
}

// moves reports whether a change gives Zot another address.
func moves(c plan.Change) bool {
	return c.Key.Kind == schema.KindSettings && slices.ContainsFunc(c.Fields, func(f plan.Field) bool {
		return f.Path == "values.http.address" || f.Path == "values.http.port"
	})
}

// needs says what a change takes in a Zot that runs.
func needs(c plan.Change, now *objects, running configuration) plan.Effect {
	within := func(there bool) plan.Effect {
		if there {
			return plan.Reload
		}
		return plan.Restart
	}
	control := running.HTTP.AccessControl != nil
	switch c.Key.Kind {
	case schema.KindNamespace:
		if c.Action != plan.Delete && !proxies(c) {
			return plan.Live
		}
		if proxies(c) {
			return within(running.Extensions.Sync != nil)
		}
		return within(control)
	case schema.KindUser:
		if a := running.HTTP.Auth; a == nil || a.HTPasswd == nil {
			if c.Action != plan.Delete && c.After != nil {
				if u, ok := c.After.Spec.(*schema.User); ok && u.Password != nil {
					return plan.Restart
				}
			}
		}
		admins, _ := now.conf.admins()
		is := slices.Contains(admins, c.Key.Name)
		shall := false
		if c.After != nil {
			if u, ok := c.After.Spec.(*schema.User); ok && u.Admin != nil {
				shall = *u.Admin
			}
		}
		if is != shall {
			return within(control)
		}
		return plan.Live
	case schema.KindGroup, schema.KindAccess, schema.KindImmutable:
		return within(control)
	case schema.KindRobot:
		if a := running.HTTP.Auth; a == nil || a.HTPasswd == nil {
			return plan.Restart
		}
		return within(control)
	case schema.KindRetention:
		return within(active(running.policies()))
	case schema.KindGC:
		return plan.Reload
	case schema.KindScan:
		return within(c.Key.Name != "" || running.Extensions.Search != nil && running.Extensions.Search.CVE != nil)
	case schema.KindRemote:
		return within(running.Extensions.Sync != nil)
	case schema.KindReplication:
		return within(running.Extensions.Sync != nil)
	case schema.KindSettings:
		return settingsNeed(c, now, control)
	}
	return plan.Restart
}

// settingsNeed lays the settings over the configuration to see.
func settingsNeed(c plan.Change, now *objects, control bool) plan.Effect {
	if now.doc == nil || c.After == nil {
		return plan.Restart
	}
	spec, ok := c.After.Spec.(*schema.Settings)
	doc, err := config.Parse("", now.doc.Bytes())
	if !ok || err != nil {
		return plan.Restart
	}
	how := plan.Live
	for _, v := range spec.Values {
		switch _, isRef := v.Secret(); {
		case v.Path == loadedPath:
			if slices.ContainsFunc(c.Fields, func(f plan.Field) bool { return f.Path == "values."+loadedPath }) {
				return plan.Restart
			}
		case v.Path == schema.OutsidePath:
			if now.conf.outside() == strings.Trim(v.JSON, `"`) {
				continue
			}
			if !control {
				return plan.Restart
			}
			how = plan.Reload
		case isRef:
			if slices.ContainsFunc(c.Fields, func(f plan.Field) bool { return f.Path == "values."+v.Path }) {
				return plan.Restart
			}
		case doc.Set([]byte(v.JSON), split(v.Path)...) != nil:
			return plan.Restart
		}
	}
	if more, _ := reach(now.doc, doc); more != plan.Live {
		return more
	}
	return how
}

func proxies(c plan.Change) bool {
	for _, r := range []*schema.Resource{c.Before, c.After} {
		if r == nil {
			continue
		}
		if ns, ok := r.Spec.(*schema.Namespace); ok && ns.ProxyOf != nil {
			return true
		}
	}
	return false
}

// elsewhere says that the files are on another host.
func (p *Provider) elsewhere() error {
	return fmt.Errorf("%w: Zot is configured by files on its own host; run `ocisync apply` there, or let `ocisync watch` there follow the same source", providers.ErrPending)
}

// Write implements [providers.Provider]: all that can be done is written and
// taken over at once.
func (p *Provider) Write(ctx context.Context, changes []plan.Change, report func(schema.Key, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if p.away() {
		return p.fail(schema.Key{}, "writing", p.elsewhere(), "")
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	blank, s, st, err := p.begin(ctx)
	if err != nil {
		return err
	}
	w := p.writer(ctx, s, st)
	if blank {
		w.shown = nil
	}
	prepared := p.resolve(ctx, changes)
	if err := ctx.Err(); err != nil {
		return err
	}
	order := slices.Clone(changes)
	slices.SortStableFunc(order, func(a, b plan.Change) int { return cmp.Compare(stage(a), stage(b)) })
	var done []schema.Key
	for _, c := range order {
		err := prepared[c.Key].err
		if err == nil {
			err = w.apply(ctx, c, prepared[c.Key])
		}
		if err != nil {
			report(c.Key, err)
			continue
		}
		done = append(done, c.Key)
	}
	if len(done) == 0 {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	err = w.finish(ctx)
	var wrong map[string]error
	if err == nil && st.running {
		wrong = w.prove(ctx, p.atHand(ctx, changes, prepared))
	}
	for _, k := range done {
		e := err
		if k.Kind == schema.KindAccess && e == nil {
			e = wrong[k.Name]
		}
		if e != nil {
			e = p.fail(k, "writing", e, "")
		}
		report(k, e)
	}
	return nil
}

// atHand are the accounts whose passwords a write has seen anyway.
func (p *Provider) atHand(ctx context.Context, changes []plan.Change, seen map[schema.Key]prepared) subjects {
	out := subjects{}
	for _, c := range changes {
		if secret := seen[c.Key].secret; secret != "" && c.Key.Kind == schema.KindUser {
			out[c.Key.Name] = secret
		}
	}
	if user, password, err := p.login(ctx); err == nil && user != "" && !isRobot(user) {
		out[user] = password
	}
	return out
}

func stage(c plan.Change) int {
	if c.Action == plan.Delete {
		return 100 - c.Key.Kind.Rank()
	}
	return c.Key.Kind.Rank()
}

// begin finishes what a writing before left undone, makes a registry that is
// not there yet, which is then blank, and reads the files.
func (p *Provider) begin(ctx context.Context) (blank bool, s *site, st status, err error) {
	for _, name := range []string{p.paths.config, p.paths.htpasswd} {
		if name == "" {
			continue
		}
		if _, err := files.Finish(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, nil, status{}, p.unreadable(err)
		}
	}
	if s, err = p.load(); err != nil {
		return false, nil, status{}, err
	}
	if blank = s.doc == nil; blank {
		if err := p.found(); err != nil {
			return blank, nil, status{}, err
		}
		if s, err = p.load(); err != nil {
			return blank, nil, status{}, err
		}
	}
	if s.htpasswd != p.paths.htpasswd {
		did, err := files.Finish(s.htpasswd)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return blank, nil, status{}, p.unreadable(err)
		}
		if did {
			if s, err = p.load(); err != nil {
				return blank, nil, status{}, err
			}
		}
	}
	st, err = p.status(ctx, s)
	return blank, s, st, err
}

// prepared is what a change needs that takes time.
type prepared struct {
	secret string // in the clear
	hash   string
	values map[string]string // of settings, by path
	err    error
}

// resolve fetches and hashes the secrets that changes write.
func (p *Provider) resolve(ctx context.Context, changes []plan.Change) map[schema.Key]prepared {
	out := make([]prepared, len(changes))
	var work errgroup.Group
	work.SetLimit(runtime.GOMAXPROCS(0)) // hashing is slow on purpose
	for i, c := range changes {
		work.Go(func() error {
			out[i] = p.prepared(ctx, c)
			return nil
		})
	}
	work.Wait() //nolint:errcheck // none returns an error
	m := map[schema.Key]prepared{}
	for i, c := range changes {
		m[c.Key] = out[i]
	}
	return m
}

func (p *Provider) prepared(ctx context.Context, c plan.Change) (out prepared) {
	if c.Action == plan.Delete || c.After == nil || c.After.Spec == nil {
		return out
	}
	for _, f := range schema.Secrets(c.After.Spec) {
		if c.Action == plan.Update && !slices.ContainsFunc(c.Fields, func(x plan.Field) bool { return x.Path == f.Path || strings.HasPrefix(f.Path, x.Path+".") }) {
			continue
		}
		secret, err := p.secrets.Resolve(ctx, f.Ref)
		if err != nil {
			out.err = fmt.Errorf("%s: %s: %w", c.Key, f.Path, err)
			return out
		}
		if path, ok := strings.CutPrefix(f.Path, "values."); ok && c.Key.Kind == schema.KindSettings {
			if out.values == nil {
				out.values = map[string]string{}
			}
			out.values[path] = secret
			continue
		}
		out.secret = secret
		if c.Key.Kind == schema.KindUser || c.Key.Kind == schema.KindRobot {
			if out.hash, err = p.hash(secret); err != nil {
				out.err = p.fail(c.Key, f.Path, err, "")
			}
		}
	}
	return out
}

// hash hashes a password as htpasswd has it.
func (p *Provider) hash(password string) (string, error) {
	hash, err := htpasswd.Hash(password, p.cost)
	if err != nil {
		return "", fmt.Errorf("%w: %w", providers.ErrInvalid, err)
	}
	return hash, nil
}

// writer changes objects, and then the files until they say so.
type writer struct {
	p     *Provider
	s     *site
	st    status
	now   *objects                       // as the file has them
	shown map[schema.Key]schema.Resource // as a plan sees them
	runs  configuration                  // what the process has
	all   map[schema.Key]schema.Resource // as they shall be
	kept  map[schema.Key]schema.Resource // what ocisync keeps of them
	own   own
	pass  *htpasswd.File
	creds map[string]credential

	machines  []machine
	patterns  map[string]bool // namespaces whose pattern is to be written
	groups    map[string]bool
	admins    bool
	retention bool
	sync      bool
	robots    map[schema.Key]bool
	kinds     map[schema.Kind]bool
	values    []schema.Value // settings to be written
}

func (p *Provider) writer(ctx context.Context, s *site, st status) *writer {
	shown, _ := p.live(ctx, s, st)
	w := &writer{
		p: p, s: s, st: st, now: s.objects(), shown: shown, runs: p.runs(ctx, s, st), own: s.own,
		kept: map[schema.Key]schema.Resource{}, pass: htpasswd.Parse(s.accounts), creds: maps.Clone(s.credentials),
		patterns: map[string]bool{}, groups: map[string]bool{}, robots: map[schema.Key]bool{}, kinds: map[schema.Kind]bool{},
	}
	w.all = maps.Clone(w.now.all)
	for _, r := range s.own.Objects {
		w.kept[r.Key] = r
	}
	w.own.Robots = maps.Clone(s.own.Robots)
	if w.own.Robots == nil {
		w.own.Robots = map[string][]account{}
	}
	return w
}

// check refuses a change of an object that is not the one it was planned for.
func (w *writer) check(c plan.Change) error {
	fail := func(err error) error { return w.p.fail(c.Key, "writing", err, "plan again") }
	live, exists := w.shown[c.Key]
	same := exists && c.After != nil && sameSpec(live.Spec, c.After.Spec)
	stale := c.Before != nil && c.Before.Version != "" && exists && c.Before.Version != live.Version
	switch {
	case c.Action == plan.Delete && exists && stale:
		return fail(providers.ErrConflict)
	case c.Action == plan.Create && exists && !same:
		return fail(fmt.Errorf("%w: it exists by now, and differs", providers.ErrConflict))
	case c.Action == plan.Update && !exists:
		return fail(fmt.Errorf("%w: it is gone by now", providers.ErrNotFound))
	case stale && !same:
		return fail(providers.ErrConflict)
	}
	return nil
}

// sameSpec compares all that is no secret and not of ocisync alone.
func sameSpec(a, b schema.Spec) bool {
	return string(encoded(stripped(a))) == string(encoded(stripped(b)))
}

// stripped is a spec as it is kept: without secrets, and what an object of its
// kind always has said.
func stripped(spec schema.Spec) schema.Spec {
	switch s := spec.(type) {
	case *schema.User:
		c := *s
		c.Password = nil
		if c.Admin == nil {
			c.Admin = new(false)
		}
		return &c
	case *schema.Group:
		c := *s
		c.Users = schema.NewSet(s.Users...)
		return &c
	case *schema.Robot:
		c := *s
		c.Secret, c.Renew, c.Overlap = nil, nil, nil
		c.Access = schema.NewGrants(s.Access...)
		if c.Description == nil {
			c.Description = new("")
		}
		if c.Expires == nil {
			c.Expires = new(schema.Never)
		}
		if c.Enabled == nil {
			c.Enabled = new(true)
		}
		return &c
	case *schema.Remote:
		c := *s
		if s.Login != nil {
			l := *s.Login
			l.Password = nil
			c.Login = &l
		}
		return &c
	case *schema.Namespace:
		c := *s
		if c.Description == nil {
			c.Description = new("")
		}
		return &c
	}
	return spec
}

// apply makes one change of the objects.
func (w *writer) apply(ctx context.Context, c plan.Change, secret prepared) error {
	fail := func(kind error, why string) error {
		return w.p.fail(c.Key, "writing", fmt.Errorf("%w: %s", kind, why), "")
	}
	v := w.p.prepare(c, w.now, w.runs, w.st)
	switch {
	case v.Refused != "":
		return fail(providers.ErrInvalid, v.Refused)
	case v.Effect == plan.ByHand:
		return fail(providers.ErrPending, w.p.operator())
	}
	if err := w.check(c); err != nil {
		return err
	}
	if c.Action == plan.Delete {
		if _, exists := w.all[c.Key]; exists {
			w.remove(c.Key)
		}
		delete(w.kept, c.Key)
		return nil
	}
	if ns, ok := c.Key.Namespace(); ok {
		if _, exists := w.all[ns]; !exists {
			return w.p.fail(c.Key, "writing", fmt.Errorf("%s: %w", ns, providers.ErrNotFound), "create the namespace first")
		}
	}
	if c.Action == plan.Replace { // what hangs on it goes, and is made anew
		w.remove(c.Key)
		maps.DeleteFunc(w.shown, func(k schema.Key, _ schema.Resource) bool {
			ns, ok := k.Namespace()
			return ok && ns == c.Key
		})
	}
	return w.put(ctx, c, secret)
}

func (w *writer) put(ctx context.Context, c plan.Change, secret prepared) error {
	spec := stripped(c.After.Spec)
	before, existed := w.all[c.Key]
	switch s := spec.(type) {
	case *schema.Settings:
		w.settings(s, before, secret)
		return nil
	case *schema.User:
		if secret.hash != "" {
			if err := w.pass.Set(c.Key.Name, secret.hash); err != nil {
				return w.p.fail(c.Key, "writing", err, "")
			}
		}
		w.admins = true
	case *schema.Group:
		w.groups[c.Key.Name] = true
	case *schema.Namespace:
		if !existed {
			w.reachRobots(c.Key.Name)
		}
		w.sync = true
	case *schema.Access, *schema.Immutable:
		w.patterns[c.Key.Name] = true
	case *schema.Retention:
		if s.Untagged == nil { // nothing goes that the mode does not say, and Zot's default is that it does
			c := *s
			c.Untagged = new(false)
			spec = &c
		}
		w.retention = true
	case *schema.Remote:
		w.credential(c.Key, before, s, secret)
		w.sync = true
	case *schema.Replication:
		w.sync = true
	case *schema.Robot:
		if old, ok := before.Spec.(*schema.Robot); ok {
			w.touch(old.Access)
		}
		w.touch(s.Access)
		w.robots[c.Key] = true
		if err := w.account(ctx, c, secret); err != nil {
			return err
		}
	}
	w.kinds[c.Key.Kind] = true
	w.machines = keepMachines(w.machines, c.Key.Kind)
	r := schema.Resource{Key: c.Key, Spec: spec}
	w.all[c.Key], w.kept[c.Key] = r, r
	return nil
}

// touch marks the namespaces of a robot.
func (w *writer) touch(access schema.Grants) {
	for _, g := range access {
		if g.Name != "*" {
			w.patterns[g.Name] = true
			continue
		}
		for k := range w.all {
			if k.Kind == schema.KindNamespace {
				w.patterns[k.Name] = true
			}
		}
	}
}

// robotsNow are the robots as they shall be.
func (w *writer) robotsNow() []machine {
	if w.machines == nil {
		w.machines = machines(w.all)
	}
	return w.machines
}

// reachRobots marks a new namespace that robots have rights in.
func (w *writer) reachRobots(ns string) {
	if len(robotGrants(w.robotsNow(), ns, false)) > 0 {
		w.patterns[ns] = true
	}
}

// remove takes an object away with all that hangs on it.
func (w *writer) remove(key schema.Key) {
	delete(w.all, key)
	delete(w.kept, key)
	w.kinds[key.Kind] = true
	w.machines = keepMachines(w.machines, key.Kind)
	switch key.Kind {
	case schema.KindUser:
		w.pass.Remove(key.Name)
		w.admins = true
		w.forget(key)
	case schema.KindGroup:
		w.groups[key.Name] = true
		w.forget(key)
	case schema.KindNamespace:
		for k := range w.all {
			if ns, ok := k.Namespace(); ok && ns == key {
				w.remove(k)
			}
		}
		for k := range w.kept {
			if ns, ok := k.Namespace(); ok && ns == key {
				delete(w.kept, k)
			}
		}
		w.patterns[key.Name] = true
		w.sync = true
		w.retention = true
	case schema.KindAccess, schema.KindImmutable:
		w.patterns[key.Name] = true
	case schema.KindRetention:
		w.retention = true
	case schema.KindRobot:
		for _, login := range robotLogins(key) {
			w.pass.Remove(login)
		}
		delete(w.own.Robots, key.String())
		for ns := range w.now.namespaces {
			if ac := w.now.conf.HTTP.AccessControl; ac != nil && grantsOf(ac.Repositories[pattern(ns)]).users[robotLogins(key)[0]] != 0 {
				w.patterns[ns] = true
			}
		}
	case schema.KindRemote:
		if s, ok := w.now.all[key].Spec.(*schema.Remote); ok {
			w.dropCredential(key, s)
		}
		w.sync = true
	case schema.KindReplication:
		w.sync = true
	}
}

// forget takes a user or group out of all that names it: whoever has the name
// later begins with no right.
func (w *writer) forget(key schema.Key) {
	for k, r := range w.all {
		switch s := r.Spec.(type) {
		case *schema.Group:
			if i := slices.Index(s.Users, key.Name); i >= 0 && key.Kind == schema.KindUser {
				c := *s
				c.Users = slices.Delete(slices.Clone(s.Users), i, i+1)
				w.put2(k, &c)
				w.groups[k.Name] = true
			}
		case *schema.Access:
			c := *s
			named := func(g schema.Grant) bool { return g.Name == key.Name }
			if key.Kind == schema.KindUser {
				c.Users = slices.DeleteFunc(slices.Clone(s.Users), named)
			} else {
				c.Groups = slices.DeleteFunc(slices.Clone(s.Groups), named)
			}
			if len(c.Users) != len(s.Users) || len(c.Groups) != len(s.Groups) {
				w.put2(k, &c)
				w.patterns[k.Name] = true
			}
		}
	}
}

func (w *writer) put2(k schema.Key, spec schema.Spec) {
	r := schema.Resource{Key: k, Spec: spec}
	w.all[k] = r
	if _, was := w.kept[k]; was {
		w.kept[k] = r
	}
}

// settings notes the values that differ from those there are.
func (w *writer) settings(s *schema.Settings, before schema.Resource, secret prepared) {
	have := map[string]string{}
	if old, ok := before.Spec.(*schema.Settings); ok {
		for _, v := range old.Values {
			have[v.Path] = v.JSON
		}
	}
	for _, v := range s.Values {
		if _, isRef := v.Secret(); isRef {
			if plain, ok := secret.values[v.Path]; ok {
				w.values = append(w.values, schema.Value{Path: v.Path, JSON: string(encoded(plain))})
			}
			continue
		}
		if have[v.Path] != v.JSON && v.Path != loadedPath {
			w.values = append(w.values, v)
		}
	}
}

func (w *writer) spec(kind schema.Kind, name string) schema.Spec {
	return w.all[schema.Key{Kind: kind, Name: name}].Spec
}

// rawJSON is a part of the configuration.
type rawJSON = json.RawMessage
