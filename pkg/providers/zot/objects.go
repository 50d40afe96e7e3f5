package zot

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/providers/htpasswd"
	"github.com/ocisync/ocisync/pkg/providers/zot/config"
	"github.com/ocisync/ocisync/pkg/webhook"
	"github.com/ocisync/ocisync/schema"
)

// view is a Zot's files, as they were read at one time or as its process took
// them over.
type view struct {
	doc         *config.Document // nil: there is no configuration
	conf        configuration
	hashes      map[string]string // of htpasswd, by account
	credentials map[string]credential
	own         own
	inbox       webhook.Inbox
	now         time.Time
	htpasswd    string // where the accounts are; "" where nobody says
	foreign     bool   // the configuration names other ones than ocisync's
	cut         cut
}

// objects are what a view shows.
type objects struct {
	view
	kept   map[schema.Key]schema.Spec
	all    map[schema.Key]schema.Resource
	secret map[schema.Key]string // what is secret of an object
	// except are those of which Zot has more than can be said.
	except     []schema.Key
	namespaces map[string]bool
	owners     map[string][]string // of the retention policies, by store
	behind     map[string][]string // whose they would be, were none of an outer namespace before
	strangers  []string            // patterns of no namespace
	machines   []machine
}

func (v view) objects() *objects {
	o := &objects{
		view: v, kept: v.own.kept(), all: map[schema.Key]schema.Resource{},
		secret: map[schema.Key]string{}, namespaces: map[string]bool{},
	}
	if v.doc == nil {
		return o
	}
	o.conf = v.conf.declared(v.own.Withdrawn)
	o.strangers = o.conf.strangers()
	o.readNamespaces()
	o.readQuotas()
	o.readRetention()
	o.readSync()
	o.readWebhooks()
	o.readRobots()
	o.machines = machines(o.all)
	o.readAccess()
	o.readPeople()
	o.readSchedules()
	o.readSettings()
	for k, r := range o.all {
		r.Version = v.own.version(r, o.secret[k])
		o.all[k] = r
	}
	return o
}

// rulesAlone is of objects what tells which patterns decide.
func (v view) rulesAlone() *objects {
	o := &objects{view: v, kept: v.own.kept(), all: map[schema.Key]schema.Resource{}, namespaces: map[string]bool{}, strangers: v.conf.strangers()}
	o.readNamespaces()
	return o
}

func (o *objects) put(k schema.Kind, name string, spec schema.Spec) {
	key := schema.Key{Kind: k, Name: name}
	o.all[key] = schema.Resource{Key: key, Spec: spec}
}

// keptAs is the object as ocisync wrote it last.
func keptAs[T schema.Spec](o *objects, k schema.Kind, name string) (spec T, ok bool) {
	spec, ok = o.kept[schema.Key{Kind: k, Name: name}].(T)
	return spec, ok
}

// readNamespaces finds those that were declared, have a pattern of their own,
// or a policy of retention.
func (o *objects) readNamespaces() {
	for k := range o.kept {
		if k.Kind == schema.KindNamespace {
			o.namespaces[k.Name] = true
		}
	}
	if ac := o.conf.HTTP.AccessControl; ac != nil {
		for p := range ac.Repositories {
			if ns, ok := namespaceOf(p); ok {
				o.namespaces[ns] = true
			}
		}
	}
	for ns := range o.namespaces {
		spec := &schema.Namespace{Description: new("")}
		if kept, ok := keptAs[*schema.Namespace](o, schema.KindNamespace, ns); ok && kept.Description != nil {
			spec.Description = kept.Description
		}
		o.put(schema.KindNamespace, ns, spec)
	}
}

// readSync reads remotes and what is copied from them. They have names at
// ocisync alone, so that those that are not its own get one from where they copy.
func (o *objects) readSync() {
	defer o.readFoundSync()
	for k, spec := range o.kept {
		switch spec := spec.(type) {
		case *schema.Remote:
			c := *spec
			o.all[k] = schema.Resource{Key: k, Spec: &c}
			host := hostOf(spec)
			if have, ok := o.credentials[host]; ok {
				c.Login = o.login(spec, have)
				o.all[k] = schema.Resource{Key: k, Spec: &c, Unread: []string{"login.password"}}
				o.secret[k] = have.Password
			}
		case *schema.Replication:
			c := *spec
			want := pulls(spec, o.remote(spec.From))
			if want != nil && o.conf.Extensions.Sync.off() {
				continue
			}
			if s := o.conf.Extensions.Sync; want != nil && s.has(want) < 0 {
				i := s.like(want)
				if i < 0 || s.verifies(i) != *want.TLSVerify {
					continue // somebody took it out, or it is another's whoever that claims to be
				}
				c.Trigger = s.trigger(i)
				if tags := s.tags(i); tags != want.tags() {
					c.Match = &schema.Match{Tags: &tags}
					if m := spec.Match; m != nil {
						c.Match.Repositories = m.Repositories
					}
				}
			}
			o.all[k] = schema.Resource{Key: k, Spec: &c}
		case *schema.Namespace:
			if spec.ProxyOf == nil || o.conf.Extensions.Sync.off() || o.conf.Extensions.Sync.has(caches(k.Name, o.remote(spec.ProxyOf))) < 0 {
				continue
			}
			if r, ok := o.all[k]; ok {
				ns, _ := r.Spec.(*schema.Namespace)
				ns.ProxyOf = spec.ProxyOf
			}
		}
	}
}

func (o *objects) remote(name *string) *schema.Remote {
	if name == nil {
		return nil
	}
	r, _ := keptAs[*schema.Remote](o, schema.KindRemote, *name)
	return r
}

// login is a credential as the mode spells it.
func (o *objects) login(spec *schema.Remote, have credential) *schema.Login {
	if spec.Login != nil && spec.Login.Robot != nil && *spec.Login.Robot == have.Username {
		return &schema.Login{Robot: spec.Login.Robot}
	}
	return &schema.Login{User: &have.Username}
}

// readRetention reads policies that stand for a namespace. What no rules say is
// nobody's, and so is what stands behind that.
func (o *objects) readRetention() {
	o.owners, o.behind = map[string][]string{}, map[string][]string{}
	for _, s := range o.conf.stores() {
		unsaid := map[string]bool{}
		for {
			of, behind, parsed := owners(s.policies, o.namespaces, unsaid, func(ns string) bool { return o.conf.storeOf(ns) == s.route })
			by := map[string][]retentionPolicy{}
			for i, ns := range of {
				if ns != "" {
					by[ns] = append(by[ns], parsed[i])
				}
			}
			specs, more := o.rulesOf(by)
			if len(more) > 0 {
				for _, ns := range more {
					unsaid[ns] = true
				}
				continue
			}
			o.putRules(specs)
			o.owners[s.route], o.behind[s.route] = of, behind
			break
		}
	}
}

// rulesOf reads the policies of namespaces as rules, and lists those that no rules say.
func (o *objects) rulesOf(by map[string][]retentionPolicy) (specs map[string]*schema.Retention, unsaid []string) {
	specs = map[string]*schema.Retention{}
	for ns, policies := range by {
		kept, was := keptAs[*schema.Retention](o, schema.KindRetention, ns)
		switch {
		case was && meaning(policiesOf(ns, kept), policies):
			c := *kept
			if c.Untagged == nil {
				c.Untagged = new(true)
			}
			specs[ns] = &c
		case !was && meaning(shield(ns), policies) && inside(ns, by):
			// it keeps the outer namespace's policies away
		default:
			read, ok := retentionOf(ns, policies)
			if !ok {
				unsaid = append(unsaid, ns)
				continue
			}
			specs[ns] = read
		}
	}
	return specs, unsaid
}

func (o *objects) putRules(specs map[string]*schema.Retention) {
	for ns, spec := range specs {
		if !o.namespaces[ns] {
			o.namespaces[ns] = true
			o.put(schema.KindNamespace, ns, &schema.Namespace{Description: new("")})
		}
		o.put(schema.KindRetention, ns, spec)
	}
}

// inside reports whether a namespace lies in one of the others.
func inside[V any](ns string, others map[string]V) bool {
	for i := strings.LastIndexByte(ns, '/'); i > 0; i = strings.LastIndexByte(ns[:i], '/') {
		if _, ok := others[ns[:i]]; ok {
			return true
		}
	}
	return false
}

// machine is a robot and what it may do.
type machine struct {
	logins [2]string
	access schema.Grants
}

// machines lists the robots, never nil.
func machines(all map[schema.Key]schema.Resource) []machine {
	out := []machine{}
	for k, r := range all {
		if spec, ok := r.Spec.(*schema.Robot); ok {
			out = append(out, machine{robotLogins(k), spec.Access})
		}
	}
	return out
}

// keepMachines forgets the list where a robot changes.
func keepMachines(list []machine, changed schema.Kind) []machine {
	if changed == schema.KindRobot || changed == schema.KindNamespace {
		return nil
	}
	return list
}

// robotGrants are what robots have in a namespace, by login.
func robotGrants(robots []machine, ns string, immutable bool) map[string]actions {
	out := map[string]actions{}
	for _, m := range robots {
		one, _ := m.access.Get(ns)
		all, _ := m.access.Get("*")
		if one|all == 0 {
			continue
		}
		for _, login := range m.logins {
			out[login] = actionsOf(one|all, immutable)
		}
	}
	return out
}

// readRobots reads those that were declared and the accounts named like one's.
func (o *objects) readRobots() {
	for k, spec := range o.kept {
		if s, ok := spec.(*schema.Robot); ok {
			c := *s
			c.Secret, c.Renew, c.Overlap = nil, nil, nil
			o.all[k] = schema.Resource{Key: k, Spec: &c}
		}
	}
	for login := range o.hashes {
		k := robotOf(login)
		if _, known := o.all[k]; known || !isRobot(login) {
			continue
		}
		o.put(k.Kind, k.Name, &schema.Robot{Description: new(""), Expires: new(schema.Never), Enabled: new(true), Access: schema.Grants{}})
	}
	for k, r := range o.all {
		spec, ok := r.Spec.(*schema.Robot)
		if !ok {
			continue
		}
		spec.Access = o.robotAccess(k, spec)
		a, ok := newest(o.own.Robots[k.String()])
		hash, there := o.hashes[a.Login]
		switch {
		case ok && (there && hash == a.Hash || !a.works(spec, o.now)):
			r.Unread, o.secret[k] = []string{"secret.value"}, a.Hash
		case !ok:
			for _, login := range robotLogins(k) {
				if h, there := o.hashes[login]; there && htpasswd.FormOf(h) == htpasswd.Bcrypt {
					r.Unread, o.secret[k] = []string{"secret.value"}, h
				}
			}
		}
		o.all[k] = r
	}
}

// foreignAccounts are those of robots that ocisync made accounts for which are not
// as it made them, sorted: with another hash, of nobody's making, or gone.
func (o *objects) foreignAccounts() []string {
	out := map[string]bool{}
	for name, list := range o.own.Robots {
		key, err := schema.ParseKey(name)
		spec, ok := o.kept[key].(*schema.Robot)
		if err != nil || !ok || len(list) == 0 {
			continue
		}
		for _, login := range robotLogins(key) {
			hash, there := o.hashes[login]
			mine, works := false, false
			for _, a := range list {
				if a.Login == login {
					mine = mine || a.Hash == hash
					works = works || a.Delivered && a.Ends.IsZero() && a.works(spec, o.now)
				}
			}
			if there && !mine || !there && works {
				out[login] = true
			}
		}
	}
	return append([]string{}, sortedKeys(out)...)
}

// robotAccess is what patterns give a robot: in its own words where they give
// just that.
func (o *objects) robotAccess(k schema.Key, spec *schema.Robot) schema.Grants {
	found, same := schema.Grants{}, true
	login := robotLogins(k)[0]
	for _, ns := range sortedKeys(o.namespaces) {
		var have actions
		if ac := o.conf.HTTP.AccessControl; ac != nil {
			have = grantsOf(ac.Repositories[pattern(ns)]).users[login] & actAll
		}
		immutable := o.keptImmutable(ns)
		one, _ := spec.Access.Get(ns)
		all, _ := spec.Access.Get("*")
		same = same && have == actionsOf(one|all, immutable)
		if r, ok := have.rights(immutable); ok && r != 0 {
			found = append(found, schema.Grant{Name: ns, Rights: r})
		} else if r, ok := have.rights(!immutable); ok && r != 0 {
			found = append(found, schema.Grant{Name: ns, Rights: r})
		}
	}
	if same {
		return schema.NewGrants(spec.Access...)
	}
	return schema.NewGrants(found...)
}

func (o *objects) keptImmutable(ns string) bool {
	kept, ok := keptAs[*schema.Immutable](o, schema.KindImmutable, ns)
	return ok && len(kept.Rules) > 0
}

// readAccess reads the patterns of namespaces.
func (o *objects) readAccess() {
	ac := o.conf.HTTP.AccessControl
	for ns := range o.namespaces {
		kept, was := keptAs[*schema.Immutable](o, schema.KindImmutable, ns)
		immutable := was && len(kept.Rules) > 0
		var group policyGroup
		there := false
		if ac != nil {
			group, there = ac.Repositories[pattern(ns)]
		}
		holds := false // that tags are immutable
		if there {
			g := o.conf.grantsOf(group)
			spec, how := o.accessOf(ns, g, immutable)
			if spec == nil {
				// of a rule that ocisync wrote nothing is left then, and a plan writes it anew
				if key := (schema.Key{Kind: schema.KindAccess, Name: ns}); o.kept[key] == nil {
					o.except = append(o.except, key, schema.Key{Kind: schema.KindImmutable, Name: ns})
				}
				continue
			}
			o.put(schema.KindAccess, ns, spec)
			holds = how
		}
		switch {
		case was && immutable && holds:
			o.put(schema.KindImmutable, ns, &schema.Immutable{Rules: slices.Clone(kept.Rules)})
		case holds:
			o.put(schema.KindImmutable, ns, &schema.Immutable{Rules: []schema.ImmutableRule{{Tags: everything}}})
		case was:
			o.put(schema.KindImmutable, ns, &schema.Immutable{Rules: []schema.ImmutableRule{}})
		}
	}
}

// shadowing are the patterns of no namespace that say otherwise than the one of
// a namespace and decide for repositories of it.
func (o *objects) shadowing(ns string) []string {
	ac := o.conf.HTTP.AccessControl
	if ac == nil {
		return nil
	}
	own, there := ac.Repositories[pattern(ns)]
	if !there {
		return nil
	}
	return slices.DeleteFunc(shadows(o.strangers, ns, o.namespaces), func(p string) bool {
		return o.conf.grantsOf(ac.Repositories[p]).equal(o.conf.grantsOf(own))
	})
}

// shadowingOwn are the patterns that decide for repositories of ocisync's own namespace
// in the place of its pattern, of a Zot that ocisync runs.
func (o *objects) shadowingOwn() []string {
	ac := o.conf.HTTP.AccessControl
	if ac == nil || o.own.Self == "" {
		return nil
	}
	return slices.DeleteFunc(shadows(o.strangers, access.Reserved, nil), func(p string) bool {
		return p == ownPattern() || grantsOf(ac.Repositories[p]).equal(ownGrants())
	})
}

// readShadows reads the rules that were declared, where others decide for
// repositories of their namespaces, as one of those has it. It returns those
// patterns, and those before ocisync's own, sorted: some of what they say no rule can, such as what robots may.
func (o *objects) readShadows() []string {
	by := map[string]bool{}
	for _, p := range o.shadowingOwn() {
		by[p] = true
	}
	for ns := range o.namespaces {
		if !o.rules(ns) {
			continue
		}
		for i, p := range o.shadowing(ns) {
			by[p] = true
			if i == 0 {
				o.readShadow(schema.Key{Kind: schema.KindAccess, Name: ns}, p)
			}
		}
	}
	return sortedKeys(by)
}

// rules reports whether ocisync wrote what a namespace's pattern says.
func (o *objects) rules(ns string) bool {
	if _, ok := o.kept[schema.Key{Kind: schema.KindAccess, Name: ns}]; ok || o.keptImmutable(ns) {
		return true
	}
	return len(robotGrants(o.machines, ns, false)) > 0
}

// readShadow reads a rule as another pattern has it.
func (o *objects) readShadow(key schema.Key, stranger string) {
	r, ok := o.all[key]
	if !ok {
		return
	}
	immutable := o.keptImmutable(key.Name)
	g := o.conf.grantsOf(o.conf.HTTP.AccessControl.Repositories[stranger])
	spec, ok := g.accessAs(immutable)
	if other, also := g.accessAs(!immutable); !ok && also {
		spec, ok = other, true
		delete(o.all, schema.Key{Kind: schema.KindImmutable, Name: key.Name}) // it holds no more
	}
	if !ok {
		spec, _ = g.loud().accessAs(false)
	}
	r.Spec = spec
	r.Version = o.own.version(r, o.secret[key])
	o.all[key] = r
}

// changedRule says grants, for which there is no rule, as one that is not what was
// written: with what they give too much, or else without what they give too little.
// Where who has logged in may less than anybody, they give anybody what both may: a
// rule that speaks of anybody alone would not show it otherwise. It is nil where all
// would look like what was written.
func changedRule(g, written grants, immutable bool) (spec *schema.Access, holds bool) {
	as := []grants{g.loud(), g.shared()}
	if g.anonymous&actAll&^g.authenticated != 0 {
		as = []grants{g.shared().meek(), g.loud(), g.shared()}
	}
	for _, as := range as {
		for _, holds := range []bool{immutable, !immutable} {
			if spec, ok := as.accessAs(holds); ok && !as.equal(written) {
				return spec, holds
			}
		}
	}
	return nil, false
}

// accessOf says grants as a rule, in the words it was written in where they
// mean just that; nil for what no rule says.
func (o *objects) accessOf(ns string, g grants, immutable bool) (spec *schema.Access, holds bool) {
	kept, was := keptAs[*schema.Access](o, schema.KindAccess, ns)
	if was && wanted(kept, immutable, robotGrants(o.machines, ns, immutable)).equal(g) {
		c := *kept
		spec, holds = &c, immutable
	} else if s, ok := g.accessAs(immutable); ok {
		spec, holds = s, immutable
	} else if s, ok := g.accessAs(!immutable); ok {
		spec, holds = s, !immutable
	} else if was { // somebody changed what ocisync wrote
		if spec, holds = changedRule(g, wanted(kept, immutable, robotGrants(o.machines, ns, immutable)), immutable); spec == nil {
			return nil, false
		}
	} else {
		return nil, false
	}
	if !o.conf.authenticated() && !was {
		spec.Authenticated = nil // nobody logs in
	}
	if was {
		spec.AuthenticatedGroup = kept.AuthenticatedGroup
		if len(g.users)+len(g.groups) == 0 {
			spec.Conditions = kept.Conditions
		}
	}
	if len(spec.Conditions) == 0 {
		spec.Conditions = nil
	}
	for _, r := range []**schema.Rights{&spec.Anonymous, &spec.Authenticated} {
		if *r == nil {
			*r = new(schema.Rights(0))
		}
	}
	spec.Users, spec.Groups = schema.NewGrants(spec.Users...), schema.NewGrants(spec.Groups...)
	return spec, holds
}

// admins are the accounts that may do anything; whole is false where the
// administrators of the configuration may do less, or under conditions.
func (c configuration) admins() (names []string, whole bool) {
	if c.HTTP.AccessControl == nil || c.HTTP.AccessControl.AdminPolicy == nil {
		return nil, true
	}
	p := c.HTTP.AccessControl.AdminPolicy
	return p.Users, parseActions(p.Actions)&actAll == actAll && len(p.Conditions) == 0
}

// mendsAdmins reports whether the administrators of the configuration, who may do less
// or under conditions, are all ones that were declared: a plan gives those everything
// again.
func (o *objects) mendsAdmins() bool {
	if o.conf.HTTP.AccessControl == nil || o.conf.HTTP.AccessControl.AdminPolicy == nil {
		return false
	}
	a := o.conf.HTTP.AccessControl.AdminPolicy
	return len(a.Groups) == 0 && !slices.ContainsFunc(a.Users, func(name string) bool {
		u, ok := keptAs[*schema.User](o, schema.KindUser, name)
		return !ok || u.Admin == nil || !*u.Admin
	})
}

// readPeople reads users and groups: those that have an account or members,
// that were declared, and that rules name. A hash that is not of bcrypt counts as
// no password: nobody can tell whose it is, and Zot may or may not take it.
func (o *objects) readPeople() {
	users, groups := map[string]bool{}, map[string]schema.Set{}
	for name := range o.hashes {
		users[name] = true
	}
	for k := range o.kept {
		switch k.Kind {
		case schema.KindUser:
			users[k.Name] = true
		case schema.KindGroup:
			groups[k.Name] = schema.Set{}
		}
	}
	admins, whole := o.conf.admins()
	for _, name := range admins {
		users[name] = true
	}
	for _, r := range o.all {
		if spec, ok := r.Spec.(*schema.Access); ok {
			for _, g := range spec.Users {
				users[g.Name] = true
			}
			for _, g := range spec.Groups {
				groups[g.Name] = schema.Set{}
			}
		}
	}
	if ac := o.conf.HTTP.AccessControl; ac != nil {
		for name, g := range ac.Groups {
			groups[name] = schema.NewSet(g.Users...)
			for _, u := range g.Users {
				users[u] = true
			}
		}
	}
	for name := range users {
		if isRobot(name) || nameless(name) || name == selfLogin {
			continue
		}
		key := schema.Key{Kind: schema.KindUser, Name: name}
		r := schema.Resource{Key: key, Spec: &schema.User{Admin: new(whole && slices.Contains(admins, name))}}
		if hash, ok := o.hashes[name]; ok {
			o.secret[key] = hash
			if htpasswd.FormOf(hash) == htpasswd.Bcrypt {
				r.Unread = []string{"password"}
			}
		}
		o.all[key] = r
	}
	for name, members := range groups {
		o.put(schema.KindGroup, name, &schema.Group{Users: slices.DeleteFunc(members, func(m string) bool { return isRobot(m) || nameless(m) })})
	}
}

// readSchedules reads collection, audit and scanning.
func (o *objects) readSchedules() {
	gc := &schema.GC{Schedule: new("none")}
	if o.conf.gcOn() {
		interval := o.conf.interval()
		gc.Schedule = new("@every " + interval.String())
		if kept, ok := keptAs[*schema.GC](o, schema.KindGC, ""); ok && kept.Schedule != nil {
			if e, ok := every(*kept.Schedule); ok && e == interval {
				gc.Schedule = kept.Schedule
			}
		}
	}
	d, known := o.conf.delay().duration()
	gc.Delay = &d
	if !known {
		o.except = append(o.except, schema.Key{Kind: schema.KindGC})
	} else {
		o.put(schema.KindGC, "", gc)
	}
	if _, was := keptAs[*schema.Audit](o, schema.KindAudit, ""); was || o.conf.Log.Audit != "" {
		o.put(schema.KindAudit, "", &schema.Audit{Log: &o.conf.Log.Audit})
	}
	for k, spec := range o.kept {
		if k.Kind == schema.KindScan && k.Name != "" {
			o.put(schema.KindScan, k.Name, spec)
		}
	}
	if search := o.conf.Extensions.Search; search != nil && search.CVE != nil {
		scan := &schema.Scan{}
		if u := search.CVE.UpdateInterval; u != nil {
			if d, ok := u.duration(); ok {
				scan.Update = &d
			}
		}
		o.put(schema.KindScan, "", scan)
	} else if _, was := keptAs[*schema.Scan](o, schema.KindScan, ""); was {
		o.put(schema.KindScan, "", &schema.Scan{})
	}
}

// outside says what becomes of repositories in no namespace, "custom" where
// neither policy says it.
func (c configuration) outside() string {
	ac := c.HTTP.AccessControl
	if ac == nil {
		return string(access.Leave)
	}
	g := c.grantsOf(ac.Repositories[everything])
	all := c.grantsOf(c.open())
	switch {
	case g.equal(newGrants()):
		return string(access.Deny)
	case g.equal(all):
		return string(access.Leave)
	}
	return "custom"
}

// readSettings reads what no kind owns.
func (o *objects) readSettings() {
	values, secrets := flatten(o.doc)
	values = append(values, schema.Value{Path: schema.OutsidePath, JSON: strconv.Quote(o.conf.outside())})
	slices.SortFunc(values, func(a, b schema.Value) int { return strings.Compare(a.Path, b.Path) })
	key := schema.Key{Kind: schema.KindSettings}
	r := schema.Resource{Key: key, Spec: &schema.Settings{Values: values}}
	for _, s := range secrets {
		r.Unread = append(r.Unread, "values."+s.Path)
		o.secret[key] += s.Path + "=" + s.JSON + "\n"
	}
	slices.Sort(r.Unread)
	o.all[key] = r
}
