package zot

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/htpasswd"
	"github.com/ocisync/ocisync/pkg/providers/zot/config"
	"github.com/ocisync/ocisync/schema"
)

// loadedPath is a value among the settings that says whether the process runs
// with the file as it is.
const (
	loadedPath = "process.configuration"
	loadedYes  = `"loaded"`
	loadedNo   = `"not loaded"`
)

// shadowedPath is a value among the settings: the patterns, written by hand, that
// Zot goes by in the place of rules that ocisync wrote. There shall be none.
const (
	shadowedPath = "process.shadowed"
	shadowedNone = "[]"
)

// accountsPath is a value among the settings: the accounts of robots that are not
// as ocisync made them. Their secrets are not in the mode, so that no field of a
// robot would differ. There shall be none.
const (
	accountsPath = "process.foreign_accounts"
	accountsNone = "[]"
)

// loginsPath is a value among the settings that says whether somebody took out where
// Zot finds its accounts, and left the rules for them: it does not start so.
const (
	loginsPath    = "process.logins"
	loginsAsRules = `"as its rules"`
	loginsLost    = `"lost"`
)

// ownPath is a value among the settings of a Zot that ocisync runs: whether its own
// account, the namespace of it, where an inventory may lie, and the file of accounts are
// as it made them.
const (
	ownPath    = "process.own_namespace"
	ownAsMade  = `"as ocisync made it"`
	ownChanged = `"changed"`
)

// heldPath is a value among the settings of a Zot that keeps its inventory itself: whether
// retention leaves that alone.
const (
	heldPath = "process.own_retention"
	heldYes  = `"keeps the inventory"`
	heldNo   = `"removes the inventory"`
)

// driverPath is a value among the settings of a Zot that ocisync runs, where the mode
// names no driver of its own: what its content lies in. It shall be a directory.
const (
	driverPath  = "process.storage_driver"
	driverLocal = `"` + localDriver + `"`
)

// placesPath is a value among the settings of a Zot that ocisync runs: the places of its
// content, by route, that are other ones than ocisync wrote last or the mode says. There
// shall be none: what lies where Zot looked before is gone from view.
const (
	placesPath = "process.places"
	placesNone = "[]"
	mainPlace  = "/" // in that list
)

// otherPlaces are those.
func (p *Provider) otherPlaces(o *objects) []string {
	out := []string{}
	_, was, ok := p.placed(o.own)
	if !ok {
		return out
	}
	before, now := was.roots(), o.conf.roots()
	if !p.declared.namesDriver() { // rootPath and driverPath speak of it then
		delete(before, "")
		delete(now, "")
	}
	for route := range before {
		if _, there := now[route]; !there {
			now[route] = ""
		}
	}
	for _, route := range sortedKeys(now) {
		if before[route] != now[route] {
			out = append(out, cmp.Or(route, mainPlace))
		}
	}
	return out
}

// placed is the configuration that ocisync wrote last, with what the mode says of where
// content lies; not ok is one that it never wrote.
func (p *Provider) placed(o own) (*config.Document, configuration, bool) {
	places := p.declared.places()
	if len(places) == 0 {
		doc, conf, err := p.reading.config("", []byte(o.Loaded.Config))
		return doc, conf, err == nil
	}
	doc, err := config.Parse("", []byte(o.Loaded.Config))
	if err != nil {
		return nil, configuration{}, false
	}
	for _, v := range places {
		if err := doc.Set([]byte(v.JSON), schema.SplitPath(v.Path)...); err != nil {
			return nil, configuration{}, false
		}
	}
	_, conf, err := read("", doc.Bytes())
	return doc, conf, err == nil
}

// driverAt is where a configuration says it.
func driverAt() []string { return []string{"storage", "storageDriver"} }

// ownAsMade reports whether that is so.
func (o *objects) ownAsMade() bool {
	ac := o.conf.HTTP.AccessControl
	switch {
	case o.foreign:
		return false
	case o.own.Self == "":
		return true
	case ac == nil:
		return !o.ruled()
	}
	group, there := ac.Repositories[ownPattern()]
	if !there || !grantsOf(group).equal(ownGrants()) {
		return false
	}
	ok, err := htpasswd.Verify(o.hashes[selfLogin], o.own.Self)
	return ok && err == nil
}

// ownGrants are those of ocisync's own namespace.
func ownGrants() grants {
	g := newGrants()
	g.users[selfLogin] = actAll
	return g
}

// ruled reports whether there were rules when ocisync wrote last.
func (o *objects) ruled() bool {
	_, was, err := read("", []byte(o.own.Loaded.Config))
	return err == nil && was.HTTP.AccessControl != nil
}

// lostLogins reports whether that is so.
func (c configuration) lostLogins() bool {
	return c.HTTP.AccessControl != nil && !c.logsIn() && !c.anonymousAlone()
}

// virtual reports whether a value of the settings is no key of Zot's.
func virtual(path string) bool {
	return path == schema.OutsidePath || path == loadedPath || path == unfinishedPath || path == shadowedPath || path == accountsPath || path == loginsPath || path == ownPath || path == heldPath || path == driverPath || path == placesPath || strings.HasPrefix(path, extensionPath) || providers.OfRun(path)
}

// live are the objects as the file has them, and among the settings whether
// the process runs with that file, how it was started, and what stands before the
// rules in it. Of a rule of ours that somebody else's pattern stands before, it is what that pattern
// says: what Zot goes by.
func (p *Provider) live(ctx context.Context, s *site, o *objects, st status) (map[schema.Key]schema.Resource, []schema.Key, error) {
	by := o.readShadows()
	run, err := providers.LiveRun(ctx, p.process, p.registry, p)
	if err != nil {
		return nil, nil, p.fail(schema.Key{}, "asking how it runs", err, "")
	}
	key := schema.Key{Kind: schema.KindSettings}
	if r, ok := o.all[key]; ok {
		spec, _ := r.Spec.(*schema.Settings)
		v := schema.Value{Path: loadedPath, JSON: loadedYes}
		if p.inForce(ctx, s, st) != nil {
			v.JSON = loadedNo
		}
		logins := schema.Value{Path: loginsPath, JSON: loginsAsRules}
		if o.conf.lostLogins() {
			logins.JSON = loginsLost
		}
		spec.Values = append(spec.Values, v, logins, schema.Value{Path: shadowedPath, JSON: string(encoded(append([]string{}, by...)))},
			schema.Value{Path: accountsPath, JSON: string(encoded(o.foreignAccounts()))})
		if p.keeps {
			held := schema.Value{Path: heldPath, JSON: heldYes}
			if !o.conf.keepsOwn() {
				held.JSON = heldNo
			}
			spec.Values = append(spec.Values, held)
		}
		spec.Values = append(spec.Values, schema.Value{Path: unfinishedPath, JSON: string(encoded(s.unfinished(p.paths.config)))})
		if p.paths.data != "" {
			own := schema.Value{Path: ownPath, JSON: ownAsMade}
			if !o.ownAsMade() {
				own.JSON = ownChanged
			}
			spec.Values = append(spec.Values, own, schema.Value{Path: placesPath, JSON: string(encoded(p.otherPlaces(o)))}, schema.Value{Path: driverPath, JSON: string(encoded(cmp.Or(string(o.conf.Storage.StorageDriver), localDriver)))})
		}
		spec.Values = append(append(spec.Values, run...), p.idle(ctx, s, st)...)
		slices.SortFunc(spec.Values, func(a, b schema.Value) int { return strings.Compare(a.Path, b.Path) })
		r.Version = s.own.version(r, o.secret[key])
		o.all[key] = r
	}
	return o.all, p.unread(o), nil
}

// unread are the objects of which Zot has more than can be said. What the mode
// declares of them is none: it is made, in the place of what stands there.
func (p *Provider) unread(o *objects) []schema.Key {
	p.declared.mu.Lock()
	defer p.declared.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(o.except), func(k schema.Key) bool {
		return k.Kind == schema.KindAccess && p.declared.keys[k] || k.Kind == schema.KindImmutable && p.declared.keys[schema.Key{Kind: schema.KindAccess, Name: k.Name}]
	})
}

// declared is what the mode that was normalized last declares.
type declaredKeys struct {
	mu      sync.Mutex
	keys    map[schema.Key]bool
	storage schema.Values // of the settings, without secrets
}

func (d *declaredKeys) are(list []schema.Resource) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keys, d.storage = map[schema.Key]bool{}, nil
	for _, r := range list {
		d.keys[r.Key] = true
		if s, ok := r.Spec.(*schema.Settings); ok {
			for _, v := range s.Values {
				if _, isRef := v.Secret(); !isRef && strings.HasPrefix(strings.ToLower(v.Path), "storage.") {
					d.storage = append(d.storage, v)
				}
			}
		}
	}
}

// places are the settings that say where content lies.
func (d *declaredKeys) places() schema.Values {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.storage)
}

// namesDriver reports whether the mode says in what the main storage lies.
func (d *declaredKeys) namesDriver() bool { return slices.ContainsFunc(d.places(), ofDriver) }
