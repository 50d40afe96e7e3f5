package zot

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/htpasswd"
	"github.com/ocisync/ocisync/pkg/webhook"
	"github.com/ocisync/ocisync/schema"
)

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
	auths map[schema.Key]string // of webhooks

	machines  []machine
	patterns  map[string]bool // namespaces whose pattern is to be written
	groups    map[string]bool
	admins    bool
	retention bool
	sync      bool
	robots    map[schema.Key]bool
	kinds     map[schema.Kind]bool
	values    []schema.Value // settings to be written
	holds     bool           // retention shall leave the inventory alone
	ours      bool           // ocisync's own account and its namespace are
	local     bool           // content shall lie in a directory
	others    []string       // places of content that shall be as they were

	// agreed is that the settings are written, of which a plan holds a restart onto
	// another place for content until somebody approves it.
	agreed bool
	// gentle writes nothing that would have to restart Zot.
	gentle bool
	// full and withdrawn are what push is withdrawn in and from by this write.
	full      map[string]full
	withdrawn []withdrawn
}

func (p *Provider) writer(ctx context.Context, s *site, st status) (*writer, error) {
	st.ran = p.ranWith(ctx, s, st)
	shown, _, err := p.live(ctx, s, s.objects(), st)
	if err != nil {
		return nil, err
	}
	if s.planned != nil {
		shown = s.planned
	}
	w := &writer{
		p: p, s: s, st: st, now: s.objects(), shown: shown, runs: p.runs(ctx, s, st), own: s.own,
		kept: map[schema.Key]schema.Resource{}, pass: htpasswd.Parse(s.accounts), creds: maps.Clone(s.credentials),
		patterns: map[string]bool{}, groups: map[string]bool{}, robots: map[schema.Key]bool{}, kinds: map[schema.Kind]bool{},
		auths: map[schema.Key]string{},
	}
	for _, h := range s.inbox.Hooks {
		w.auths[h.Key] = h.Auth
	}
	w.all = maps.Clone(w.now.all)
	for _, r := range s.own.Objects {
		w.kept[r.Key] = r
	}
	w.own.Robots = maps.Clone(s.own.Robots)
	if w.own.Robots == nil {
		w.own.Robots = map[string][]account{}
	}
	return w, nil
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
	case *schema.Webhook:
		c := webhook.Complete(s)
		c.Auth = nil
		return c
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
	case *schema.Quota:
		c := *s
		if c.Limit == nil {
			c.Limit = new(schema.Unlimited)
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
	if v.Refused == "" {
		_, v.Refused = w.p.lacks(ctx, w.s, w.st, needs(c))
	}
	switch {
	case v.Refused != "":
		return fail(providers.ErrInvalid, v.Refused)
	case v.Effect == plan.ByHand:
		return fail(providers.ErrPending, toDo(c, w.now, w.st))
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
		w.agreed = true
		w.settings(s, before, secret)
		if err := w.enterAgain(); err != nil {
			return w.p.fail(c.Key, "writing", err, "")
		}
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
		w.keepRemote(s.ProxyOf)
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
		w.keepRemote(s.From)
		w.sync = true
	case *schema.Webhook:
		if secret.secret != "" || c.Action != plan.Update {
			w.auths[c.Key] = secret.secret
		}
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

// keepRemote keeps a remote that was found in the configuration, since what is
// kept now names it.
func (w *writer) keepRemote(name *string) {
	if name == nil {
		return
	}
	key := schema.Key{Kind: schema.KindRemote, Name: *name}
	if r, ok := w.all[key]; ok {
		w.kept[key] = schema.Resource{Key: key, Spec: r.Spec}
	}
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

// enterAgain gives ocisync's own account its password where somebody changed that.
func (w *writer) enterAgain() error {
	if !w.ours || w.own.Self == "" {
		return nil
	}
	if ok, err := htpasswd.Verify(w.now.hashes[selfLogin], w.own.Self); ok && err == nil {
		return nil
	}
	hash, err := w.p.hash(w.own.Self)
	if err != nil {
		return err
	}
	return w.pass.Set(selfLogin, hash)
}

// settings notes the values that differ from those there are.
func (w *writer) settings(s *schema.Settings, before schema.Resource, secret prepared) {
	have, seen := valuesOf(before), valuesOf(w.shown[before.Key])
	for _, v := range s.Values {
		if _, isRef := v.Secret(); isRef {
			if plain, ok := secret.values[v.Path]; ok {
				w.values = append(w.values, schema.Value{Path: v.Path, JSON: string(encoded(plain))})
			}
			continue
		}
		switch {
		case v.Path == accountsPath:
			for name := range w.own.Robots {
				if key, err := schema.ParseKey(name); err == nil {
					w.robots[key] = true
				}
			}
		case v.Path == placesPath:
			w.others = routesOf(seen[v.Path])
		case v.Path == driverPath:
			w.local = v.JSON == driverLocal && seen[v.Path] != v.JSON
		case v.Path == heldPath:
			w.holds = seen[v.Path] != v.JSON
		case v.Path == ownPath:
			w.ours = seen[v.Path] == ownChanged
		case have[v.Path] != v.JSON && (v.Path == schema.OutsidePath || !virtual(v.Path)):
			w.values = append(w.values, v)
		}
	}
}

// routesOf reads a list of sub paths.
func routesOf(list string) (routes []string) {
	if json.Unmarshal([]byte(list), &routes) != nil {
		return nil
	}
	return routes
}

// valuesOf are the values of settings, by path.
func valuesOf(r schema.Resource) map[string]string {
	out := map[string]string{}
	if s, ok := r.Spec.(*schema.Settings); ok {
		for _, v := range s.Values {
			out[v.Path] = v.JSON
		}
	}
	return out
}

func (w *writer) spec(kind schema.Kind, name string) schema.Spec {
	return w.all[schema.Key{Kind: kind, Name: name}].Spec
}

// rawJSON is a part of the configuration.
type rawJSON = json.RawMessage
