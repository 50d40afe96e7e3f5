package zot

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"syscall"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/files"
	"github.com/ocisync/ocisync/pkg/providers/zot/config"
	"github.com/ocisync/ocisync/pkg/webhook"
	"github.com/ocisync/ocisync/schema"
)

// finish brings the files to say what the objects are, and the process to know.
func (w *writer) finish(ctx context.Context) error {
	doc, _, err := read(w.p.paths.config, w.s.text)
	if err != nil {
		return err
	}
	if err := w.compose(doc); err != nil {
		return err
	}
	set := func(v rawJSON, path ...string) { err = errors.Join(err, doc.Set(v, path...)) }
	box, unsent := w.s.inbox, error(nil)
	if !w.gentle { // it changes no webhook, and the sink is restarted with
		box, unsent = w.mail(ctx)
		emitEvents(w.now.conf.Extensions.Events, box, set, func(path ...string) { doc.Delete(path...) })
	}
	if unsent != nil {
		return unsent
	}
	keepBare(w.s.doc, doc, set)
	err = errors.Join(err, w.emitRobots())
	if err != nil {
		return fmt.Errorf("%w: %w", providers.ErrInvalid, err)
	}
	var t texts
	text := doc.Bytes()
	var conf configuration
	if doc, conf, err = read(w.p.paths.config, text); err != nil {
		return fmt.Errorf("%w: %w", providers.ErrInvalid, err)
	}
	if conf.HTTP.AccessControl == nil && w.s.conf.HTTP.AccessControl != nil {
		// without any rule the registry would be open to all
		if err := doc.Set(encoded(map[string][]string{"defaultPolicy": {}}), "http", "accessControl", "repositories", everything); err != nil {
			return err
		}
		text = doc.Bytes()
	}
	w.full = w.stillFull()
	w.withdrawn = conf.withhold(w.full, w.namespaces())
	for i, to := range w.withdrawn {
		if was, ok := doc.Get(ruleAt(to.Pattern)...); ok {
			w.withdrawn[i].Before = was
		}
		if err := doc.Set(rawJSON(to.Now), ruleAt(to.Pattern)...); err != nil {
			return fmt.Errorf("%w: %w", providers.ErrInvalid, err)
		}
		text = doc.Bytes()
	}
	if !files.Equal(text, w.s.text) {
		t.config = text
	}
	if accounts := w.pass.Bytes(); !files.Equal(accounts, w.s.accounts) {
		if accounts == nil {
			accounts = []byte{}
		}
		t.accounts = accounts
	}
	if a := conf.HTTP.Auth; a != nil && a.HTPasswd != nil && w.s.htpasswd != "" && w.s.accounts == nil && t.accounts == nil && !w.now.conf.logsIn() {
		t.accounts = []byte{} // Zot does not start without the file
	}
	if t.creds, err = w.credentials(); err != nil {
		return err
	}
	if t.config != nil {
		_, conf, err := w.p.reading.config(w.p.paths.config, t.config)
		if err == nil {
			err = unreadableByZot(conf)
		}
		if err != nil {
			return err
		}
	}
	if err := w.stays(conf); err != nil {
		return err
	}
	if err := w.p.verify(ctx, t.config); err != nil {
		return err
	}
	if string(encoded(box)) != string(encoded(w.s.inbox)) {
		t.inbox = &box
	}
	return w.save(ctx, t)
}

func ruleAt(pattern string) []string {
	return []string{"http", "accessControl", "repositories", pattern}
}

// compose has a document, which is the file's, say what the objects do, but for webhooks
// and what quotas withhold. It changes nothing else.
func (w *writer) compose(doc *config.Document) (err error) {
	set := func(v rawJSON, path ...string) { err = errors.Join(err, doc.Set(v, path...)) }
	for _, was := range w.s.conf.inPlace(w.s.own.Withdrawn) {
		if was.Before == "" {
			doc.Delete(ruleAt(was.Pattern)...)
		} else {
			set(rawJSON(was.Before), ruleAt(was.Pattern)...)
		}
	}
	if w.local {
		doc.Delete(driverAt()...)
	}
	err = errors.Join(err, w.p.asBefore(w.s, doc, w.others))
	w.emitSettings(set)
	err = errors.Join(err, w.look(doc))
	if err != nil {
		return fmt.Errorf("%w: %w", providers.ErrInvalid, err)
	}
	w.emitSchedules(set, func(path ...string) { doc.Delete(path...) })
	w.emitPeople(set, func(path ...string) { doc.Delete(path...) })
	w.emitPatterns(set, func(path ...string) { doc.Delete(path...) })
	w.emitRetention(set)
	err = errors.Join(err, w.keepOwn(doc))
	w.emitSync(set)
	w.emitQuotas(set)
	if err != nil {
		return fmt.Errorf("%w: %w", providers.ErrInvalid, err)
	}
	return nil
}

// look takes a document with other sub paths for what there is: retention is written by
// the stores that there are then.
func (w *writer) look(doc *config.Document) error {
	v := w.s.view
	var err error
	if v.doc, v.conf, err = read(w.p.paths.config, doc.Bytes()); err != nil || slices.Equal(sortedKeys(v.conf.Storage.SubPaths), sortedKeys(w.s.conf.Storage.SubPaths)) {
		return err
	}
	w.now, w.retention = v.objects(), true
	return nil
}

// stays refuses a write that would restart Zot onto another place for its content, to
// which nobody agreed.
func (w *writer) stays(next configuration) error {
	if !w.st.running || w.p.process == nil || w.agreed {
		return nil
	}
	why, gone := w.p.relocated(w.runs, next.roots())
	if why == "" {
		return nil
	}
	return fmt.Errorf("%w: %s; %s; nothing was written: apply the whole mode, and approve that", providers.ErrPending, why, gone)
}

// keepBare says of extensions that Zot set up by their names alone that they are on,
// since it forgets such a one as soon as the section says anything of another.
func keepBare(was, doc *config.Document, set func(rawJSON, ...string)) {
	for _, name := range doc.Keys("extensions") {
		_, before := was.Get("extensions", name)
		if _, is := doc.Get("extensions", name); before && !is {
			set(encoded(true), "extensions", name, "enable")
		}
	}
}

// save writes what ocisync keeps, the files, and then what is in force.
func (w *writer) save(ctx context.Context, t texts) error {
	next := w.own.keep(w.kept)
	// until the configuration is written both what it says and what it will say
	// is known, so that whichever it has is read right
	next.Full = maps.Clone(w.s.own.Full)
	if next.Full == nil {
		next.Full = map[string]full{}
	}
	maps.Copy(next.Full, w.full)
	next.Withdrawn = union(w.s.own.Withdrawn, w.withdrawn)
	saved := w.s.own
	keep := func() error {
		if len(saved.Key) > 0 && next.same(saved) {
			return nil
		}
		next = next.keyed()
		if err := next.save(w.p.paths.own); err != nil {
			return fmt.Errorf("%s: %w", w.p.paths.own, err)
		}
		saved = next
		return nil
	}
	if err := keep(); err != nil {
		return err
	}
	if err := w.carry(ctx, t); err != nil {
		return w.unkept(err)
	}
	return w.remember(ctx, &next, t, keep)
}

// unkept has what ocisync keeps as before where nothing that it speaks of was written: a
// plan would take what it says of objects for what Zot has. Accounts of robots stay, since
// their secrets may have been delivered.
func (w *writer) unkept(why error) error {
	was := w.s.own
	same := func(name string, text []byte) bool { return files.Equal(readOr(name), text) }
	creds, err := w.sameCredentials()
	if err != nil || !creds || !same(w.p.paths.config, w.s.text) || !same(w.s.htpasswd, w.s.accounts) {
		return why
	}
	robots := maps.Clone(w.own.Robots)
	for name, accounts := range was.Robots {
		if _, is := robots[name]; !is { // which was to go
			robots[name] = accounts
		}
	}
	if len(was.Key) == 0 && len(robots) == 0 {
		err = os.Remove(w.p.paths.own)
	} else {
		was.Robots = robots
		err = was.save(w.p.paths.own)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; and %s says already what was to be written, and could not be put back: %w: until the same apply is run again with success, plans take some of it for what Zot has", why, w.p.paths.own, err)
	}
	return why
}

// sameCredentials reports whether sync's file holds what was read.
func (w *writer) sameCredentials() (bool, error) {
	have, err := readCredentials(w.s.creds)
	return err == nil && maps.Equal(have, w.s.credentials), err
}

// carry brings the files to say it, and Zot to take them over.
func (w *writer) carry(ctx context.Context, t texts) error {
	if t.inbox != nil && t.inbox.Listen != "" { // before Zot posts to it
		if err := t.inbox.Save(w.p.paths.inbox); err != nil {
			return fmt.Errorf("%s: %w", w.p.paths.inbox, err)
		}
		if w.s.inbox.Listen == "" && w.st.running {
			if err := webhook.Await(ctx, *t.inbox); err != nil {
				w.p.logger.Warn("Zot's events are lost until ocisync up receives them", "error", err)
			}
		}
	}
	how := plan.Live
	if t.config != nil || t.accounts != nil && w.st.misses.accounts || w.p.inForce(ctx, w.s, w.st) != nil {
		var err error
		if how, err = w.how(ctx, t); err != nil {
			return err
		}
	}
	if t.config != nil || t.accounts != nil || t.creds != nil || how != plan.Live {
		switch err := w.p.commit(ctx, w.s, t, how, w.st, w.gentle); {
		case errors.Is(err, errSilent):
			return w.p.unseen(w.s, t, w.st, err)
		case err != nil:
			return err
		}
	}
	if t.inbox != nil && t.inbox.Listen == "" { // once it does no more
		if err := t.inbox.Save(w.p.paths.inbox); err != nil {
			return fmt.Errorf("%s: %w", w.p.paths.inbox, err)
		}
	}
	return nil
}

// how says what it takes until the files are in force.
func (w *writer) how(ctx context.Context, t texts) (plan.Effect, error) {
	if !w.st.running {
		return plan.Live, nil
	}
	text := t.config
	if text == nil {
		text = w.s.text
	}
	doc, _, err := w.p.reading.config(w.p.paths.config, text)
	if err != nil {
		return "", err
	}
	was := w.s.doc
	lost := false
	if v := w.p.inForce(ctx, w.s, w.st); v != nil {
		was = v.doc
		lost = v.lost
	}
	how, why := reach(was, doc)
	if lost || t.config != nil && w.st.misses.config || t.accounts != nil && w.st.misses.accounts {
		how, why = plan.Restart, w.st.replaced()
	}
	if how == plan.Live && t.config != nil {
		how = plan.Reload // other words for the same
	}
	if how == plan.Restart && w.gentle {
		return "", fmt.Errorf("%w: Zot would have to be restarted (%s): apply the mode", providers.ErrPending, why)
	}
	if how == plan.Restart && w.p.process == nil {
		todo := byHand
		if after, _ := reach(w.s.doc, doc); after != plan.Restart && !w.s.cut.config {
			todo = restartFirst
		}
		return "", fmt.Errorf("%w: %s (%s)", providers.ErrPending, todo, why)
	}
	return how, nil
}

// remember notes what the process has taken over.
func (w *writer) remember(ctx context.Context, next *own, t texts, keep func() error) error {
	st, err := w.p.status(ctx, w.s)
	if err != nil {
		return err
	}
	text := t.config
	if text == nil {
		text = w.s.text
	}
	accounts := t.accounts
	if accounts == nil {
		accounts = w.s.accounts
	}
	now := loaded{Process: st.id, Config: string(text), Accounts: digestOf(accounts)}
	if id, err := inodeOf(w.p.paths.config); err == nil {
		now.Inode = id
	}
	next.Loaded, next.Started, next.Full, next.Withdrawn = now, "", w.full, w.withdrawn
	if err := keep(); err != nil { // what was kept before the write has all that the mode declares
		w.p.logger.Warn("all is written and in force, but not that it is, which ocisync notes: make room there; until then a plan may take Zot for one that did not load its configuration", "registry", w.p.registry.URL, "error", err)
	}
	return nil
}

func (w *writer) emitSettings(set func(rawJSON, ...string)) {
	for _, v := range w.values {
		if v.Path == schema.OutsidePath {
			w.emitOutside(v.JSON, set)
			continue
		}
		set(rawJSON(v.JSON), schema.SplitPath(v.Path)...)
	}
}

// emitOutside writes the pattern that decides for what lies in no namespace.
func (w *writer) emitOutside(policy string, set func(rawJSON, ...string)) {
	var g grants
	switch policy {
	case `"leave"`:
		g = grantsOf(w.open())
		if w.now.conf.HTTP.AccessControl == nil {
			return // it is so
		}
		if _, there := w.now.conf.HTTP.AccessControl.Repositories[ownPattern()]; !there { // it stays shut
			set(groupJSON(policyGroup{}, policyGroup{}), "http", "accessControl", "repositories", ownPattern())
		}
	default:
		g = newGrants()
	}
	set(w.group(g, everything), "http", "accessControl", "repositories", everything)
}

// group is a pattern's JSON: of the lists that are empty only those that stood
// there, and one where all are, since a table without any is none.
func (w *writer) group(g grants, at string) rawJSON {
	var before policyGroup
	if ac := w.now.conf.HTTP.AccessControl; ac != nil {
		before = ac.Repositories[at]
	}
	return groupJSON(g.group(before), before)
}

func groupJSON(g, before policyGroup) rawJSON {
	out := map[string]rawJSON{}
	if len(g.Policies) > 0 || before.Policies != nil {
		out["policies"] = encoded(g.Policies)
	}
	if len(g.DefaultPolicy) > 0 || before.DefaultPolicy != nil {
		out["defaultPolicy"] = encoded(g.DefaultPolicy)
	}
	if len(g.AnonymousPolicy) > 0 || before.AnonymousPolicy != nil {
		out["anonymousPolicy"] = encoded(g.AnonymousPolicy)
	}
	if len(out) == 0 {
		out["defaultPolicy"] = encoded([]string{})
	}
	return encoded(out)
}

func (w *writer) emitSchedules(set func(rawJSON, ...string), remove func(...string)) {
	if gc, ok := w.spec(schema.KindGC, "").(*schema.GC); ok && w.kinds[schema.KindGC] {
		if s := gc.Schedule; s != nil {
			interval, on := every(*s)
			if on != w.now.conf.gcOn() {
				set(encoded(on), "storage", "gc")
			}
			if have := w.now.conf.interval(); on && have != interval {
				set(encoded(interval), "storage", "gcInterval")
			}
		}
		if d := gc.Delay; d != nil {
			if w.now.conf.delay() != goDuration(*d) {
				set(encoded(goDuration(*d)), "storage", "gcDelay")
			}
		}
	}
	if a, ok := w.spec(schema.KindAudit, "").(*schema.Audit); ok && w.kinds[schema.KindAudit] && a.Log != nil {
		if *a.Log == "" {
			remove("log", "audit")
		} else {
			set(encoded(*a.Log), "log", "audit")
		}
	}
	if s, ok := w.spec(schema.KindScan, "").(*schema.Scan); ok && w.kinds[schema.KindScan] && s.Update != nil {
		set(encoded(goDuration(*s.Update)), "extensions", "search", "cve", "updateInterval")
		if search := w.now.conf.Extensions.Search; search == nil {
			set(encoded(true), "extensions", "search", "enable")
		}
	}
}

func (w *writer) emitPeople(set func(rawJSON, ...string), remove func(...string)) {
	if w.admins {
		names, whole := w.now.conf.admins()
		mends := !whole && w.now.mendsAdmins()
		whole = whole || mends
		var next []string
		for _, n := range names {
			if u, ok := w.spec(schema.KindUser, n).(*schema.User); isRobot(n) || nameless(n) || ok && (!whole || u.Admin != nil && *u.Admin) {
				next = append(next, n)
			}
		}
		for k, r := range w.all {
			if u, ok := r.Spec.(*schema.User); ok && u.Admin != nil && *u.Admin && !slices.Contains(next, k.Name) {
				next = append(next, k.Name)
			}
		}
		if mends || !slices.Equal(names, next) {
			slices.Sort(next)
			w.control(set)
			if mends || w.now.conf.HTTP.AccessControl == nil || w.now.conf.HTTP.AccessControl.AdminPolicy == nil {
				set(encoded(policy{Users: next, Actions: actAll.names()}), "http", "accessControl", "adminPolicy")
			} else {
				set(encoded(append([]string{}, next...)), "http", "accessControl", "adminPolicy", "users")
			}
		}
	}
	for name := range w.groups {
		at := []string{"http", "accessControl", "groups", name}
		g, ok := w.spec(schema.KindGroup, name).(*schema.Group)
		if !ok {
			remove(at...)
			continue
		}
		if kept, was := w.now.all[schema.Key{Kind: schema.KindGroup, Name: name}].Spec.(*schema.Group); was && slices.Equal(kept.Users, g.Users) {
			continue
		}
		if ac := w.now.conf.HTTP.AccessControl; len(g.Users) == 0 && (ac == nil || ac.Groups[name].Users == nil) {
			continue // one that LDAP or OIDC fill, or nobody yet
		}
		w.control(set)
		set(encoded([]string(g.Users)), append(at, "users")...)
	}
	if (w.peopled() && w.logins() || w.now.conf.lostLogins()) && w.s.htpasswd != "" && (w.now.conf.HTTP.Auth == nil || w.now.conf.HTTP.Auth.HTPasswd == nil) && (!w.now.conf.logsIn() || len(w.pass.Names()) > 0) {
		set(encoded(w.s.htpasswd), "http", "auth", "htpasswd", "path")
	}
}

// peopled reports whether ocisync has anything to do with who may do what: accounts that
// lie there do not switch logins on with another change.
func (w *writer) peopled() bool {
	of := []schema.Kind{schema.KindUser, schema.KindGroup, schema.KindRobot, schema.KindAccess, schema.KindImmutable, schema.KindQuota}
	return w.ours || slices.ContainsFunc(of, func(k schema.Kind) bool { return w.kinds[k] }) ||
		slices.ContainsFunc(slices.Collect(maps.Keys(w.kept)), func(k schema.Key) bool { return k.Kind == schema.KindUser || k.Kind == schema.KindRobot })
}

// logins reports whether anybody logs in once this is written.
func (w *writer) logins() bool {
	if w.now.conf.logsIn() || w.s.htpasswd == "" {
		return w.now.conf.logsIn()
	}
	return len(w.pass.Names()) > 0 || slices.ContainsFunc(slices.Collect(maps.Values(w.all)), func(r schema.Resource) bool {
		switch spec := r.Spec.(type) {
		case *schema.Robot:
			return len(spec.Access) > 0
		case *schema.User:
			return spec.Admin != nil && *spec.Admin
		case *schema.Access:
			return namesAccounts(spec)
		}
		return false
	})
}

// namesAccounts reports whether a rule gives something to somebody who logs in
// that it does not give to anybody.
func namesAccounts(spec *schema.Access) bool {
	more := value(spec.Authenticated).Effective() &^ value(spec.Anonymous).Effective()
	return more != 0 || len(spec.Users)+len(spec.Groups) > 0
}

// open gives all to everybody whom Zot knows then.
func (w *writer) open() policyGroup {
	if w.logins() {
		return policyGroup{DefaultPolicy: actAll.names()}
	}
	return w.now.conf.open()
}

// control makes access control where there is none, so that all that lies in
// no namespace stays as open as it is.
func (w *writer) control(set func(rawJSON, ...string)) {
	if w.now.conf.HTTP.AccessControl != nil {
		return
	}
	open := w.open()
	if w.p.outside == access.Deny {
		open = policyGroup{DefaultPolicy: []string{}}
	}
	set(groupJSON(open, policyGroup{}), "http", "accessControl", "repositories", everything)
	own := groupJSON(policyGroup{}, policyGroup{})
	if w.own.Self != "" {
		own = ownGroup()
	}
	set(own, "http", "accessControl", "repositories", ownPattern())
}

func (w *writer) emitPatterns(set func(rawJSON, ...string), remove func(...string)) {
	if w.logins() && !w.now.conf.logsIn() { // who logs in from now on has what anybody has
		for k := range w.kept {
			if k.Kind == schema.KindAccess {
				w.patterns[k.Name] = true
			}
		}
	}
	if w.ours {
		if w.s.foreign {
			set(encoded(w.s.htpasswd), "http", "auth", "htpasswd", "path")
		}
		w.control(set)
		if w.own.Self != "" {
			set(ownGroup(), "http", "accessControl", "repositories", ownPattern())
		}
	}
	for _, ns := range sortedKeys(w.patterns) {
		at := []string{"http", "accessControl", "repositories", pattern(ns)}
		if _, exists := w.all[schema.Key{Kind: schema.KindNamespace, Name: ns}]; !exists {
			remove(at...)
			continue
		}
		var before policyGroup
		there := false
		if ac := w.now.conf.HTTP.AccessControl; ac != nil {
			before, there = ac.Repositories[pattern(ns)]
		}
		im, _ := w.spec(schema.KindImmutable, ns).(*schema.Immutable)
		immutable := im != nil && len(im.Rules) > 0
		robots := robotGrants(w.robotsNow(), ns, immutable)
		spec, declared := w.spec(schema.KindAccess, ns).(*schema.Access)
		switch {
		case declared:
			g := wanted(spec, immutable, robots).sayable(w.logins())
			if there && g.equal(grantsOf(before)) {
				continue
			}
			w.control(set)
			set(groupJSON(g.group(before), before), at...)
		case !there && len(robots) == 0 && !immutable:
		case w.gone(schema.Key{Kind: schema.KindAccess, Name: ns}) && len(robots) == 0 && !immutable:
			remove(at...)
		default: // what is in force there, and what robots may
			from := before
			if !there || w.gone(schema.Key{Kind: schema.KindAccess, Name: ns}) {
				from = w.now.conf.inForce(ns)
			}
			g := grantsOf(from)
			for name := range g.users {
				if isRobot(name) {
					delete(g.users, name)
				}
			}
			for login, a := range robots {
				g.users[login] = a
			}
			if immutable {
				g.withoutUpdate()
			}
			if g = g.sayable(w.logins()); there && g.equal(grantsOf(before)) {
				continue
			}
			w.control(set)
			set(groupJSON(g.group(before), before), at...)
		}
	}
}

// gone reports whether an object was there and shall not be.
func (w *writer) gone(key schema.Key) bool {
	_, was := w.now.all[key]
	_, is := w.all[key]
	return was && !is
}

// withoutUpdate takes the right to move tags from everybody but those who may
// do everything.
func (g *grants) withoutUpdate() {
	g.anonymous &^= actUpdate
	g.authenticated &^= actUpdate
	for _, m := range []map[string]actions{g.users, g.groups} {
		for name, a := range m {
			m[name] = a &^ actUpdate
		}
	}
}

// emitQuotas makes access control for the first quota, since push cannot be
// withdrawn from a Zot that runs without.
func (w *writer) emitQuotas(set func(rawJSON, ...string)) {
	if !w.kinds[schema.KindQuota] {
		return
	}
	for _, r := range w.all {
		if _, limited := limitOf(r.Spec); limited {
			w.control(set)
			return
		}
	}
}

// namespaces are those there shall be.
func (w *writer) namespaces() map[string]bool {
	out := map[string]bool{}
	for k := range w.all {
		if k.Kind == schema.KindNamespace {
			out[k.Name] = true
		}
	}
	return out
}

// emitRetention writes ours before those of nobody's: Zot goes by the first
// that matches.
func (w *writer) emitRetention(set func(rawJSON, ...string)) {
	if !w.retention {
		return
	}
	with := map[string]bool{}
	for k := range w.all {
		if k.Kind == schema.KindRetention {
			with[k.Name] = true
		}
	}
	names := sortedKeys(with)
	for k := range w.all {
		if k.Kind == schema.KindNamespace && !with[k.Name] && inside(k.Name, with) {
			names = append(names, k.Name)
		}
	}
	slices.SortFunc(names, innerFirst)
	for _, s := range w.now.conf.stores() {
		here := slices.DeleteFunc(slices.Clone(names), func(ns string) bool { return w.now.conf.storeOf(ns) != s.route })
		w.emitPolicies(here, s, set)
	}
}

// emitPolicies writes those of one store.
func (w *writer) emitPolicies(names []string, s store, set func(rawJSON, ...string)) {
	var next []rawPolicy
	have, owners, behind := s.policies, w.now.owners[s.route], w.now.behind[s.route]
	for _, ns := range names {
		spec, ok := w.spec(schema.KindRetention, ns).(*schema.Retention)
		var want []retentionPolicy
		if ok {
			want = policiesOf(ns, spec)
		} else {
			want = shield(ns)
		}
		var old []rawPolicy
		var parsed []retentionPolicy
		for i, of := range owners {
			if of == ns {
				p, _ := strict[retentionPolicy](have[i])
				old, parsed = append(old, have[i]), append(parsed, p)
			}
		}
		if meaning(want, parsed) { // in the words it is written in
			next = append(next, old...)
			continue
		}
		for _, p := range want {
			next = append(next, encoded(p))
		}
	}
	for i, raw := range have {
		if i >= len(owners) || owners[i] == "" && !w.goes(raw, cmp.Or(behind[i], speaksOf(raw, w.namespaces()))) {
			next = append(next, raw)
		}
	}
	if len(next) == 0 && have == nil {
		return
	}
	set(encoded(append([]rawPolicy{}, next...)), append(s.at, "policies")...)
}

// keepOwn has retention leave the inventory alone.
func (w *writer) keepOwn(doc *config.Document) error {
	if !w.p.keeps || !w.holds && !w.retention {
		return nil
	}
	_, conf, err := read(w.p.paths.config, doc.Bytes())
	if err != nil || conf.keepsOwn() {
		return err
	}
	own := conf.ownStore()
	all := append([]rawPolicy{encoded(retentionPolicy{Repositories: []string{ownPattern()}})}, own.policies...)
	return doc.Set(encoded(all), append(own.at, "policies")...)
}

// goes reports whether a policy of nobody's goes for those that are written of its
// namespace: where that has rules, which are all there is then, or where it is a shield.
func (w *writer) goes(raw rawPolicy, ns string) bool {
	if ns == "" {
		return false
	}
	if _, declared := w.spec(schema.KindRetention, ns).(*schema.Retention); declared {
		return true
	}
	p, ok := strict[retentionPolicy](raw)
	return ok && meaning(shield(ns), []retentionPolicy{p})
}

// emitSync writes what is copied from remotes: each entry in its place, and new
// ones before those of nobody's.
func (w *writer) emitSync(set func(rawJSON, ...string)) {
	if !w.sync {
		return
	}
	have := w.now.conf.Extensions.Sync
	was := map[schema.Key]schema.Resource{}
	for _, r := range w.s.own.Objects {
		was[r.Key] = r
	}
	gone := map[int]bool{}
	for _, r := range append(ours(w.now.all), ours(was)...) { // as found there, and as written last
		i := have.has(r)
		if i < 0 { // changed by somebody, or by a write that was cut
			i = have.like(r)
		}
		gone[i] = true
	}
	at := map[int]rawJSON{}
	var fresh []rawJSON
	var others []*syncRegistry
	for _, r := range ours(w.all) {
		if i := have.has(r); i >= 0 {
			at[i] = have.Registries[i]
		} else {
			others = append(others, r)
		}
	}
	for _, r := range others {
		if i := have.like(r); i >= 0 && gone[i] && at[i] == nil {
			at[i] = r.over(have.Registries[i])
		} else {
			fresh = append(fresh, encoded(*r))
		}
	}
	var next []rawJSON
	if have != nil {
		for i, raw := range have.Registries {
			switch {
			case at[i] != nil:
				next = append(next, at[i])
			case !gone[i]: // nobody's, and what is new of ours before it
				next = append(append(next, fresh...), raw)
				fresh = nil
			}
		}
	}
	next = append(next, fresh...)
	if have == nil && len(next) == 0 {
		return
	}
	if have == nil {
		set(encoded(true), "extensions", "sync", "enable")
	}
	set(encoded(append([]rawJSON{}, next...)), "extensions", "sync", "registries")
	if len(w.creds) > 0 && (have == nil || have.CredentialsFile == "") {
		set(encoded(w.s.creds), "extensions", "sync", "credentialsFile")
	}
}

// credential notes the login of a remote under the remote's host.
func (w *writer) credential(key schema.Key, before schema.Resource, spec *schema.Remote, secret prepared) {
	old, _ := before.Spec.(*schema.Remote)
	have, was := w.creds[hostOf(old)]
	if hostOf(old) != hostOf(spec) {
		w.dropCredential(key, old)
	}
	if spec.Login == nil {
		return
	}
	c := credential{Password: secret.secret}
	switch {
	case spec.Login.Robot != nil:
		c.Username = *spec.Login.Robot
	case spec.Login.User != nil:
		c.Username = *spec.Login.User
	}
	if c.Password == "" && was {
		c.Password = have.Password
	}
	if c.Username != "" && c.Password != "" {
		w.creds[hostOf(spec)] = c
	}
}

func (w *writer) dropCredential(key schema.Key, spec *schema.Remote) {
	host := hostOf(spec)
	for k, r := range w.all {
		if other, ok := r.Spec.(*schema.Remote); ok && k != key && hostOf(other) == host && other.Login != nil {
			return
		}
	}
	delete(w.creds, host)
}

// credentials is sync's file as it shall be, nil where it stays.
func (w *writer) credentials() ([]byte, error) {
	if string(encoded(w.creds)) == string(encoded(w.s.credentials)) {
		return nil, nil
	}
	b, err := json.MarshalIndent(w.creds, "", "  ") //nolint:gosec // Zot reads them there
	return append(b, '\n'), err
}

func readCredentials(name string) (map[string]credential, error) {
	out := map[string]credential{}
	if name == "" {
		return out, nil
	}
	b, err := files.Read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("%s holds no credentials for Zot's sync", name) // its text would show some
	}
	return out, nil
}

// emitRobots brings the accounts of robots to who may log in now.
func (w *writer) emitRobots() error {
	w.own.sweep(w.s.now)
	for k := range w.robots {
		spec, ok := w.all[k].Spec.(*schema.Robot)
		if !ok {
			continue
		}
		list := w.own.Robots[k.String()]
		for _, login := range robotLogins(k) {
			if len(list) > 0 && !slices.ContainsFunc(list, func(a account) bool { return a.Login == login }) {
				w.pass.Remove(login)
			}
		}
		for _, a := range list {
			if !a.works(spec, w.s.now) {
				w.pass.Remove(a.Login)
			} else if err := w.pass.Set(a.Login, a.Hash); err != nil {
				return err
			}
		}
	}
	return nil
}

func inodeOf(name string) (uint64, error) {
	info, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, errors.New("this system has no inodes")
	}
	return st.Ino, nil
}
