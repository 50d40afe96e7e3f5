package zot

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/zot/config"
	"github.com/ocisync/ocisync/schema"
)

// byHand is what the operator does where ocisync cannot restart the registry.
const byHand = "somebody else runs it, and a running Zot does not take this over: stop Zot, run `ocisync apply` again while it is stopped, and start it"

// restartFirst is what the operator does where a Zot that goes by its file would take
// the change over.
const restartFirst = "somebody else runs it, and it does not go by its file as that is now: restart Zot, and run `ocisync apply` again"

// toDo is what the operator does for a change.
func toDo(c plan.Change, now *objects, st status) string {
	rest := slices.DeleteFunc(slices.Clone(c.Fields), func(f plan.Field) bool { return f.Path == "values."+loadedPath })
	behind := st.misses.config || st.misses.accounts || len(rest) < len(c.Fields)
	if c.Fields = rest; behind && !now.cut.config && takes(c, now, now.conf, nil) != plan.Restart {
		return restartFirst
	}
	return byHand
}

// replaced is why a Zot is restarted for what another one would reload.
func (st status) replaced() string {
	const why = "somebody put another file in the place of the configuration or the accounts since Zot started, and Zot is not told of what is written there"
	if st.doubt == "" {
		return why
	}
	return why + "; " + st.doubt
}

const noLogins = "this Zot has no logins, and does not start with rules for anybody but anonymous clients; name a file of accounts in registry.files.htpasswd"

// ruledElsewhere is why a rule would count for nothing. Observed on 2.1.6, which does not even
// start with it where nobody logs in otherwise.
const ruledElsewhere = "this Zot takes tokens (http.auth.bearer): whoever gives them says who may do what, no account of its own logs in, and rules count for nothing, or keep it from starting; declare them there, or take http.auth.bearer out of its configuration"

const noAccounts = "this Zot has no file of accounts; name one in registry.files.htpasswd"

// Prepare implements [providers.Provider].
func (p *Provider) Prepare(ctx context.Context, changes []plan.Change) ([]providers.Verdict, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	verdicts := make([]providers.Verdict, len(changes))
	away, err := p.away(ctx)
	if err != nil {
		return nil, err
	}
	if away {
		for i := range verdicts {
			verdicts[i] = providers.Verdict{Effect: plan.ByHand, Notes: []string{p.elsewhere().Error()}}
		}
		return verdicts, nil
	}
	s, err := p.load(ctx)
	if err != nil {
		return nil, err
	}
	st, err := p.status(ctx, s)
	if err != nil {
		return nil, err
	}
	now := s.objects()
	running := p.runs(ctx, s, st)
	st.ran = p.ranWith(ctx, s, st)
	if slices.ContainsFunc(changes, func(c plan.Change) bool { return c.Key.Kind == schema.KindWebhook && c.Action != plan.Delete }) {
		if _, st.deaf, err = p.host(ctx); err != nil {
			return nil, err
		}
	}
	for i, c := range changes {
		verdicts[i] = p.prepare(c, now, running, st)
		if why, gone := p.moves(c, s, running); why != "" {
			verdicts[i].Held, verdicts[i].Impact = why, append(verdicts[i].Impact, gone)
		}
		if c.Key.Kind == schema.KindAccess && slices.Contains(now.except, c.Key) {
			verdicts[i].Held = fmt.Sprintf("takes the place of what stands at %q of %s, which gives what no rule says", pattern(c.Key.Name), p.paths.config)
		}
		if verdicts[i].Refused == "" {
			_, verdicts[i].Refused = p.lacks(ctx, s, st, needs(c))
		}
	}
	if st.running && p.process != nil {
		p.stays(running, s, changes, verdicts)
	}
	p.together(ctx, s, st, changes, verdicts)
	p.closing(ctx, s, st, changes, verdicts)
	tellsFirst(changes, verdicts, now, st)
	anonymousFirst(s, changes, verdicts, st)
	if st.running {
		unproved(changes, verdicts)
	}
	return verdicts, nil
}

// unproved says, once, that not all of many rules are proved by the apply.
func unproved(changes []plan.Change, verdicts []providers.Verdict) {
	first, rules := -1, 0
	for i, c := range changes {
		if c.Key.Kind != schema.KindAccess || c.Action == plan.Delete {
			continue
		}
		if rules++; first < 0 {
			first = i
		}
	}
	if 3*rules > maxProbes { // pull, push and delete, by anonymous clients at least
		verdicts[first].Notes = append(verdicts[first].Notes, fmt.Sprintf("of the rules of %d namespaces %d answers are asked for after the write; `ocisync test access` asks for all", rules, maxProbes))
	}
}

// anonymousFirst says, of the first rule for anonymous clients beside accounts,
// what docker makes of it. Observed on 2.1.6; later versions ask docker for a login.
func anonymousFirst(s *site, changes []plan.Change, verdicts []providers.Verdict, st status) {
	if ac := s.conf.HTTP.AccessControl; ac != nil {
		for _, g := range ac.Repositories {
			if parseActions(g.AnonymousPolicy) != 0 {
				return // it is so already
			}
		}
	}
	first, accounts := -1, false
	for name := range s.hashes {
		accounts = accounts || name != selfLogin
	}
	for i, c := range changes {
		if c.Action == plan.Delete || c.After == nil {
			continue
		}
		switch spec := c.After.Spec.(type) {
		case *schema.Access:
			if first < 0 && spec.Anonymous != nil && *spec.Anonymous != 0 {
				first = i
			}
		case *schema.User, *schema.Robot:
			accounts = true
		}
	}
	if v := st.version(); first < 0 || !accounts || v != "" && v != asksNobody {
		return
	}
	verdicts[first].Notes = append(verdicts[first].Notes, "is the first right of anonymous clients beside accounts: from then on Zot "+asksNobody+" answers docker without asking for a login, so that docker login takes every password and docker pulls as nobody what only accounts may; run a later version, or give what is open a registry of its own")
}

// asksNobody is the version that asks docker for no login where anonymous clients
// may do anything.
const asksNobody = "2.1.6"

// localDriver is Zot's for content on the disk, where none is said.
const localDriver = "local"

// placeMoves is why a change of where content lies waits.
const placeMoves = "the registry gets another place for its content"

// moves says why a change that has Zot look for its content elsewhere must wait for
// an approval, and what goes with it; "" for others, and where there is nothing to lose.
func (p *Provider) moves(c plan.Change, s *site, running configuration) (why, gone string) {
	if c.After == nil || c.Action == plan.Delete || s.doc == nil {
		return "", ""
	}
	next, ok := c.After.Spec.(*schema.Settings)
	if !ok {
		return "", ""
	}
	from, to := "", ""
	var names []string
	for _, v := range next.Values {
		path := strings.ToLower(v.Path)
		if by := running.Storage.StorageDriver; path == driverPath && v.JSON == driverLocal && by != "" {
			return placeMoves, fmt.Sprintf("what lies in %s (nobody can tell from here how much) is served no more, and nothing is copied to %s", by, s.conf.Storage.RootDirectory)
		}
		if path == placesPath && v.JSON == placesNone && c.Before != nil {
			_, placed, _ := p.placed(s.own)
			for _, route := range routesOf(valuesOf(*c.Before)[v.Path]) {
				key := strings.TrimSuffix(route, "/") // of the main storage ""
				if is, shall := running.roots()[key], placed.roots()[key]; is != "" && is != shall {
					from, to, names = is, cmp.Or(shall, placed.roots()[""]), append(names, cmp.Or(strings.Trim(route, "/"), "*"))
				}
			}
		}
		if !strings.HasPrefix(path, "storage.") {
			continue
		}
		at := schema.SplitPath(v.Path)
		is := ""
		if json.Unmarshal([]byte(v.JSON), &is) != nil {
			continue
		}
		switch {
		case strings.HasSuffix(path, ".rootdirectory"):
			was, there := pathAt(s.doc, at...)
			of := "*"
			if !there && len(at) > 2 { // a sub path of its own, for what lies in the store around it by now
				was, of = s.conf.Storage.RootDirectory, strings.Trim(at[len(at)-2], "/")
			}
			if was != "" && filepath.Clean(was) != filepath.Clean(is) {
				from, to, names = was, is, append(names, of)
			}
		case strings.HasSuffix(path, ".storagedriver.name"):
			if was, _ := pathAt(s.doc, at...); cmp.Or(was, localDriver) != cmp.Or(is, localDriver) {
				from, to, names = s.conf.Storage.RootDirectory, "what storageDriver names", append(names, "*")
			}
		}
	}
	if to == "" {
		return "", ""
	}
	much := held(s.conf, names)
	if much == "" {
		return "", ""
	}
	return placeMoves, fmt.Sprintf("what lies in %s (%s) is served no more, and nothing is copied to %s", from, much, to)
}

// held says how much of what the names match lies where a configuration says; "" for
// nothing.
func held(c configuration, names []string) string {
	list, known := stored(c, names)
	switch {
	case !known:
		return "nobody can tell from here how much"
	case len(list) == 0:
		return ""
	}
	tags := 0
	for _, r := range list {
		tags += r.Tags
	}
	return fmt.Sprintf("repositories: %d, tags: %d", len(list), tags)
}

// stays holds every change where a restart would have Zot look for its content where
// somebody wrote: of a file that is not in force, any write becomes a restart. What the
// mode declares of it is in force after that, unless it is not written itself.
func (p *Provider) stays(running configuration, s *site, changes []plan.Change, verdicts []providers.Verdict) {
	doc, _, err := read(p.paths.config, s.text)
	if err != nil {
		return
	}
	for i, c := range changes {
		if verdicts[i].Held == "" && verdicts[i].Refused == "" {
			p.declares(s, c, doc)
		}
	}
	_, is, err := read(p.paths.config, doc.Bytes())
	if err != nil {
		return
	}
	why, gone := p.relocated(running, is.roots())
	if why == "" {
		return
	}
	for i := range verdicts {
		if verdicts[i].Held == "" {
			verdicts[i].Effect, verdicts[i].Held, verdicts[i].Impact = plan.Restart, why, append(verdicts[i].Impact, gone)
		}
	}
}

// relocated says why a restart of a Zot that runs must wait for an approval where content
// would be elsewhere after it, and what goes with it; "" for none.
func (p *Provider) relocated(running configuration, is map[string]string) (why, gone string) {
	was := running.roots()
	var names []string
	for _, route := range slices.Sorted(maps.Keys(was)) {
		if is[route] != was[route] {
			names = append(names, cmp.Or(strings.Trim(route, "/"), "*"))
		}
	}
	for _, route := range slices.Sorted(maps.Keys(is)) {
		if _, there := was[route]; !there { // for what lies in the store around it by now
			names = append(names, strings.Trim(route, "/"))
		}
	}
	if len(names) == 0 {
		return "", ""
	}
	much := held(running, names)
	if much == "" {
		return "", ""
	}
	return fmt.Sprintf("somebody wrote another place for content into %s, and a restart takes that over: put storage.rootDirectory, storage.storageDriver and storage.subPaths there back, or declare them", p.paths.config),
		fmt.Sprintf("what lies in %s (%s) is served no more by then", was[""], much)
}

// roots is where content lies, by route; "" is the main storage.
func (c configuration) roots() map[string]string {
	out := map[string]string{"": where(c.Storage.RootDirectory, c.Storage.StorageDriver)}
	for route, s := range c.Storage.SubPaths {
		out[strings.ToLower(route)] = where(s.RootDirectory, s.StorageDriver)
	}
	return out
}

func where(root string, by driver) string {
	if by != "" {
		return string(by)
	}
	return filepath.Clean(root)
}

// declares lays what a change of the settings says of where content lies over a
// configuration.
func (p *Provider) declares(s *site, c plan.Change, doc *config.Document) {
	if c.After == nil || c.Action == plan.Delete {
		return
	}
	spec, ok := c.After.Spec.(*schema.Settings)
	if !ok {
		return
	}
	local, others := false, []string(nil)
	for _, v := range spec.Values {
		at := schema.SplitPath(v.Path)
		_, isRef := v.Secret()
		switch {
		case v.Path == driverPath:
			local = v.JSON == driverLocal
		case v.Path == placesPath && v.JSON == placesNone && c.Before != nil:
			others = routesOf(valuesOf(*c.Before)[v.Path])
		case !isRef && strings.EqualFold(at[0], "storage"):
			doc.Set([]byte(v.JSON), at...) //nolint:errcheck // what cannot be set is refused elsewhere
		}
	}
	if local { // the object has what the file holds besides
		doc.Delete(driverAt()...)
	}
	p.asBefore(s, doc, others) //nolint:errcheck // what cannot be set is refused elsewhere
}

// asBefore has places of content be in a configuration what ocisync wrote last, or the
// mode says.
func (p *Provider) asBefore(s *site, doc *config.Document, routes []string) error {
	was, _, ok := p.placed(s.own)
	if !ok || len(routes) == 0 {
		return nil
	}
	var err error
	for _, route := range routes {
		at := []string{"storage", "subPaths", route}
		if route == mainPlace {
			at = driverAt()
		}
		if text, there := was.Get(at...); there {
			err = errors.Join(err, doc.Set([]byte(text), at...))
		} else {
			doc.Delete(at...)
		}
	}
	if len(doc.Keys("storage", "subPaths")) == 0 {
		doc.Delete("storage", "subPaths")
	}
	return err
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
		v.Refused = refusal(p.table, c.Key, c.After.Spec)
	}
	if v.Refused == "" {
		v.Refused = p.conflicting(c, now, st)
	}
	if v.Effect == plan.ByHand && v.Refused == "" {
		v.Notes = append(v.Notes, toDo(c, now, st))
	}
	if st.running && (st.misses.config || st.misses.accounts) && (v.Effect == plan.ByHand || v.Effect == plan.Restart) {
		v.Notes = append(v.Notes, st.replaced())
	}
	v.Notes = append(v.Notes, remarks(c, now)...)
	if _, known := config.Before(st.version(), filtersMoved); !known && c.Action != plan.Delete && v.Refused == "" && filtersAndMoves(c.After.Spec) {
		v.Notes = append(v.Notes, "nothing tells which version of Zot it is: one before "+filtersMoved+" copies every tag where match.tags and namespace stand together")
	}
	if c.Key.Kind == schema.KindQuota && c.Action == plan.Create && p.registry.Run == nil {
		v.Notes = append(v.Notes, "nothing of ocisync's runs beside this registry: have `ocisync run quota` run by a timer, such as every minute")
	}
	return v
}

// conflicting says what in a hand-written configuration stands against a
// change, or "".
func (p *Provider) conflicting(c plan.Change, now *objects, st status) string {
	if c.Action == plan.Delete {
		return ""
	}
	switch spec := c.After.Spec.(type) {
	case *schema.Settings:
		var problems []string
		for _, x := range config.Check(declared(c, spec), st.version()) {
			problems = append(problems, x.String())
		}
		for _, v := range declared(c, spec) {
			if path, err := strconv.Unquote(v.JSON); err == nil && strings.EqualFold(v.Path, "log.output") && !p.writable(path) {
				problems = append(problems, v.Path+": "+p.readOnly(path))
			}
		}
		if slices.ContainsFunc(c.Fields, func(f plan.Field) bool { return f.Path == "values."+shadowedPath }) {
			problems = append(problems, p.shadowedBy(now)...)
		}
		if slices.ContainsFunc(c.Fields, func(f plan.Field) bool { return f.Path == "values."+loginsPath }) && now.htpasswd == "" {
			problems = append(problems, noLogins)
		}
		if slices.ContainsFunc(c.Fields, func(f plan.Field) bool { return f.Path == "values."+schema.OutsidePath }) && now.conf.byTokens() {
			problems = append(problems, ruledElsewhere)
		}
		if p.registry.Driver() == schema.DriverProcess {
			if why := now.inbox.Takes(net.JoinHostPort(p.listen())); why != "" {
				problems = append(problems, why)
			}
		}
		return strings.Join(problems, "; ")
	case *schema.Group:
		if now.doc != nil && now.conf.byTokens() && len(spec.Users) > 0 {
			return ruledElsewhere
		}
	case *schema.Audit:
		if spec.Log != nil && !p.writable(*spec.Log) {
			return "log: " + p.readOnly(*spec.Log)
		}
	case *schema.Access:
		if now.doc != nil && now.conf.byTokens() {
			return ruledElsewhere
		}
		const key = "http.accessControl.repositories.*.policies[].conditions[].expression"
		if len(spec.Conditions) > 0 && !config.Takes(key, st.version()) {
			return fmt.Sprintf("conditions: Zot %s does not start with them; leave them out, or run a later version", st.version())
		}
		if namesAccounts(spec) && now.doc != nil && now.htpasswd == "" && !now.conf.logsIn() {
			return noLogins
		}
		return p.shadowed(c, now)
	case *schema.Immutable:
		if now.doc != nil && now.conf.byTokens() {
			return ruledElsewhere
		}
		return p.shadowed(c, now)
	case *schema.Quota:
		if _, limited := limitOf(spec); !limited {
			return ""
		}
		if now.doc != nil && now.conf.byTokens() {
			return ruledElsewhere
		}
		if _, elsewhere := (&site{view: now.view}).layouts(); elsewhere != "" {
			return elsewhere
		}
		return p.shadowed(c, now)
	case *schema.Webhook:
		return cmp.Or(st.deaf, p.silenced(now))
	case *schema.Replication:
		return cmp.Or(p.uncopied(now), unfiltered(spec, st.version()))
	case *schema.Namespace:
		if spec.ProxyOf != nil {
			return p.uncopied(now)
		}
	case *schema.Robot:
		if now.doc != nil && now.conf.byTokens() && len(spec.Access) > 0 {
			return ruledElsewhere
		}
		if now.doc != nil && now.htpasswd == "" && spec.Secret != nil {
			return noAccounts
		}
		if now.doc != nil && now.htpasswd == "" && !now.conf.logsIn() && len(spec.Access) > 0 {
			return noLogins
		}
		return p.shadowedRobot(spec, now)
	case *schema.User:
		if now.doc != nil && now.conf.byTokens() && spec.Admin != nil && *spec.Admin {
			return ruledElsewhere
		}
		if now.doc != nil && now.htpasswd == "" && spec.Password != nil {
			return noAccounts
		}
		if now.doc != nil && now.htpasswd == "" && !now.conf.logsIn() && spec.Admin != nil && *spec.Admin {
			return noLogins
		}
		names, whole := now.conf.admins()
		if spec.Admin != nil && *spec.Admin && !whole && len(names) > 0 && !now.mendsAdmins() {
			return fmt.Sprintf("http.accessControl.adminPolicy of %s gives its users (%s) less than everything, or under conditions; give it the actions read, create, update and delete and no conditions first", p.paths.config, strings.Join(names, ", "))
		}
	}
	return ""
}

// filtersMoved is the first version that filters the tags of what it copies to another
// name: those before look for the filter by the name here, and ask with the source's
// (FilterTags in Zot's pkg/extensions/sync/content.go).
const filtersMoved = "2.1.17"

func filtersAndMoves(s schema.Spec) bool {
	spec, ok := s.(*schema.Replication)
	return ok && spec.Match != nil && spec.Match.Tags != nil && spec.Namespace != nil && *spec.Namespace != ""
}

// unfiltered says that Zot would copy every tag of a replication, or "".
func unfiltered(spec *schema.Replication, version string) string {
	if older, _ := config.Before(version, filtersMoved); !older || !filtersAndMoves(spec) {
		return ""
	}
	return fmt.Sprintf("Zot %s copies every tag where match.tags and namespace stand together; leave one of them out, or run %s or later", version, filtersMoved)
}

// writable reports whether Zot may write a file: one in a container has its data
// directory, and what the engine gives every container.
func (p *Provider) writable(path string) bool {
	if p.registry.Driver() != schema.DriverDocker || path == "" || strings.HasPrefix(path, "/dev/std") {
		return true
	}
	in, err := filepath.Rel(p.paths.data, path)
	return err == nil && filepath.IsLocal(in)
}

func (p *Provider) readOnly(path string) string {
	return fmt.Sprintf("a Zot in a container cannot write %s, and does not start; name a file below %s, or /dev/stdout", path, p.paths.data)
}

// shadowed says what hand-written pattern Zot would go by in the place of a
// namespace's, or "".
func (p *Provider) shadowed(c plan.Change, now *objects) string {
	for _, stranger := range shadows(now.strangers, c.Key.Name, now.namespaces) {
		return p.before(stranger, c.Key.Name, "would go")
	}
	return ""
}

// shadowedRobot says it of the namespaces that a robot gets rights in.
func (p *Provider) shadowedRobot(spec *schema.Robot, now *objects) string {
	in := map[string]bool{}
	for _, g := range spec.Access {
		switch {
		case g.Rights == 0:
		case g.Name != "*":
			in[g.Name] = true
		default:
			maps.Copy(in, now.namespaces)
		}
	}
	var list []string
	for _, ns := range sortedKeys(in) {
		for _, stranger := range shadows(now.strangers, ns, now.namespaces) {
			list = append(list, p.before(stranger, ns, "would go"))
		}
	}
	return strings.Join(list, "; ")
}

// shadowedBy says it of all rules that ocisync wrote, and of its own namespace.
func (p *Provider) shadowedBy(now *objects) (list []string) {
	named := map[string]bool{}
	for _, stranger := range now.shadowingOwn() {
		list, named[stranger] = append(list, p.beforeOwn(stranger)), true
	}
	for _, ns := range sortedKeys(now.namespaces) {
		if !now.rules(ns) {
			continue
		}
		for _, stranger := range now.shadowing(ns) {
			if !named[stranger] {
				list = append(list, p.before(stranger, ns, "goes"))
			}
			named[stranger] = true
		}
	}
	const few = 10
	if len(list) > few {
		list = append(list[:few], fmt.Sprintf("and so with %d patterns more", len(list)-few))
	}
	return list
}

func (p *Provider) before(stranger, ns, goes string) string {
	return fmt.Sprintf("the pattern %q of %s is as long as %q or longer, so that Zot %s by it and not by this rule; take it out, or declare what it holds as a namespace", stranger, p.paths.config, pattern(ns), goes)
}

func (p *Provider) beforeOwn(stranger string) string {
	return fmt.Sprintf("the pattern %q of %s is as long as %q or longer, so that Zot goes by it for ocisync's own namespace, where an inventory may lie; take it out", stranger, p.paths.config, ownPattern())
}

// declared are the settings of Zot's own that a change is about.
func declared(c plan.Change, s *schema.Settings) schema.Values {
	return slices.DeleteFunc(slices.Clone(s.Values), func(v schema.Value) bool {
		named := slices.ContainsFunc(c.Fields, func(f plan.Field) bool { return f.Path == "values."+v.Path })
		return virtual(v.Path) || c.Action == plan.Update && !named
	})
}

// asked is what a change is about: of settings those that differ.
func asked(c plan.Change) schema.Spec {
	if s, ok := c.After.Spec.(*schema.Settings); ok {
		return &schema.Settings{Values: declared(c, s)}
	}
	return c.After.Spec
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
	case *schema.Settings:
		if now.cut.any() && finishes(c) {
			notes = append(notes, "a write was cut short, and Zot has what stood in these files before: it is finished before anything else is written")
		}
		if now.doc != nil && slices.ContainsFunc(c.Fields, func(f plan.Field) bool { return f.Path == "values."+heldPath }) {
			notes = append(notes, fmt.Sprintf("a policy of retention that was written by hand speaks of ocisync's own namespace too, and removes the inventory that lies there with the next collection: a policy for %s is put before it", ownPattern()))
		}
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
		if now.doc != nil && now.conf.HTTP.AccessControl == nil {
			notes = append(notes, "is the first rule of this registry: until now every account, or without accounts everybody, may do everything; what lies in no namespace stays open, to every account where there are logins by then and else to everybody, unless policy.outside is declared")
		}
		if spec.Conditions != nil && len(spec.Users)+len(spec.Groups) == 0 {
			notes = append(notes, "conditions are kept, and decide nothing while the rule names no user and no group")
		}
	case *schema.Retention:
		route := now.conf.storeOf(c.Key.Name)
		if i := slices.IndexFunc(now.conf.stores(), func(s store) bool { return s.route == route }); route != "" && i >= 0 && !now.conf.stores()[i].gc {
			notes = append(notes, fmt.Sprintf("Zot applies retention while it collects, and gc is off there; set storage.subPaths.%q.gc", route))
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
		how = takes(c, now, running, st.ran)
	}
	switch k := c.Key.Kind; {
	case how == plan.Reload && st.blind && p.process != nil: // a restart tells
		how = plan.Restart
	case st.running && st.misses.config && how == plan.Reload,
		st.running && st.misses.accounts && (k == schema.KindUser || k == schema.KindRobot || finishes(c) && now.cut.accounts):
		how = plan.Restart
	}
	if how == plan.Restart && p.process == nil {
		return plan.ByHand
	}
	return how
}

// takes says what a change takes in a Zot that runs, with another file than there is where
// that is given.
func takes(c plan.Change, now *objects, running configuration, ran *config.Document) plan.Effect {
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
	case schema.KindQuota:
		if _, is := now.own.Full[c.Key.Name]; !is && control {
			return plan.Live
		}
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
	case schema.KindWebhook:
		if running.Extensions.Events.post(now.inbox) {
			return plan.Live // the receiver's alone
		}
		return plan.Restart
	case schema.KindSettings:
		return settingsNeed(c, now, running, ran)
	}
	return plan.Restart
}

// settingsNeed lays the settings over the configuration to see. What somebody wrote that
// Zot did not take over needs no restart to be as before.
func settingsNeed(c plan.Change, now *objects, running configuration, ran *config.Document) plan.Effect {
	control := running.HTTP.AccessControl != nil
	if now.doc == nil || c.After == nil {
		return plan.Restart
	}
	spec, ok := c.After.Spec.(*schema.Settings)
	doc, err := config.Parse("", now.doc.Bytes())
	if !ok || err != nil {
		return plan.Restart
	}
	if providers.Renews(c) {
		return plan.Restart
	}
	how := plan.Live
	for _, v := range spec.Values {
		switch _, isRef := v.Secret(); {
		case providers.OfRun(v.Path):
		case v.Path == shadowedPath, v.Path == accountsPath, v.Path == unfinishedPath, strings.HasPrefix(v.Path, extensionPath): // refused, or no part of the configuration
		case v.Path == loadedPath && ran != nil: // reach tells
		case v.Path == loadedPath, v.Path == loginsPath, v.Path == driverPath, v.Path == placesPath:
			if slices.ContainsFunc(c.Fields, func(f plan.Field) bool { return f.Path == "values."+v.Path }) {
				return plan.Restart
			}
		case v.Path == heldPath:
			if !slices.ContainsFunc(c.Fields, func(f plan.Field) bool { return f.Path == "values."+v.Path }) {
				continue
			}
			if !active(running.policies()) { // as reach has it
				return plan.Restart
			}
			how = plan.Reload
		case v.Path == ownPath:
			if !slices.ContainsFunc(c.Fields, func(f plan.Field) bool { return f.Path == "values."+v.Path }) {
				continue
			}
			if !control {
				return plan.Restart
			}
			how = plan.Reload
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
		case doc.Set([]byte(v.JSON), schema.SplitPath(v.Path)...) != nil:
			return plan.Restart
		}
	}
	was := now.doc
	if ran != nil {
		was, how = ran, plan.Reload // to write it is one
	}
	if more, _ := reach(was, doc); more != plan.Live {
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
