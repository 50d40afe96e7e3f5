package zot

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// Left implements [providers.Leaver]: of what stands in the files, what no object
// of a mode says. Each line is of one sort, with why and what to do.
func (p *Provider) Left(ctx context.Context, desired schema.State) ([]providers.Leftover, error) {
	away, err := p.away(ctx)
	if err != nil || away {
		return nil, err
	}
	s, err := p.load(ctx)
	if err != nil || s.doc == nil {
		return nil, err
	}
	l := left{objects: s.objects(), desired: desired}
	l.undeclared()
	l.settings(p.front())
	l.passwords()
	l.patterns()
	l.retention()
	l.extensions()
	return l.list, nil
}

// left gathers them.
type left struct {
	*objects
	desired schema.State
	list    []providers.Leftover
}

// add says why of some names, of a sort; none is no line.
func (l *left) add(sort string, names []string, why string) {
	if len(names) == 0 {
		return
	}
	l.list = append(l.list, providers.Leftover{What: sort + " " + someOf(names), Why: why})
}

// someOf lists names, the first eight of many.
func someOf(names []string) string {
	const few = 8
	if len(names) <= few+1 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}

func quoted(names []string) (out []string) {
	for _, n := range names {
		out = append(out, strconv.Quote(n))
	}
	return out
}

func (l *left) undeclared() {
	var keys []schema.Key
	for k := range l.all {
		if _, declared := l.desired.Get(k); !declared && k.Kind != schema.KindSettings {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, schema.Key.Compare)
	var names []string
	for _, k := range keys {
		names = append(names, strconv.Quote(k.String()))
	}
	l.add("objects", names, "the mode does not declare them; ocisync adopt writes them into it")
}

// goes reports whether a namespace's rules are declared, which take the place of what
// stands there of it.
func (l *left) goes(ns string) bool {
	_, ok := l.desired.Get(schema.Key{Kind: schema.KindRetention, Name: ns})
	return ok
}

// wanted are the namespaces of the mode.
func (l *left) wanted() map[string]bool {
	out := map[string]bool{}
	for _, r := range l.desired.Resources {
		if r.Key.Kind == schema.KindNamespace {
			out[r.Key.Name] = true
		}
	}
	return out
}

func (l *left) settings(front schema.Values) {
	r := l.all[schema.Key{Kind: schema.KindSettings}]
	spec, ok := r.Spec.(*schema.Settings)
	if !ok {
		return
	}
	said := front
	if d, ok := l.desired.Get(r.Key); ok {
		if s, ok := d.Spec.(*schema.Settings); ok {
			said = append(slices.Clone(front), s.Values...)
		}
	}
	is := func(path string) bool {
		return virtual(path) || slices.ContainsFunc(said, func(v schema.Value) bool { return strings.EqualFold(v.Path, path) })
	}
	var names []string
	for _, v := range spec.Values {
		if !is(v.Path) {
			names = append(names, v.Path)
		}
	}
	for _, field := range r.Unread {
		if path := strings.TrimPrefix(field, "values."); !is(path) {
			names = append(names, path)
		}
	}
	l.add("settings", names, "native settings are never adopted; write those that the mode shall hold into [registry.zot]")
}

func (l *left) passwords() {
	var unmanaged, unread []string
	for _, name := range sortedKeys(l.hashes) {
		key := schema.Key{Kind: schema.KindUser, Name: name}
		r, ok := l.all[key]
		if !ok {
			continue
		}
		if d, ok := l.desired.Get(key); ok {
			if u, ok := d.Spec.(*schema.User); ok && u.Password != nil {
				continue
			}
		}
		if len(r.Unread) == 0 {
			unread = append(unread, strconv.Quote(name))
		} else {
			unmanaged = append(unmanaged, strconv.Quote(name))
		}
	}
	l.add("the passwords of", unmanaged, "htpasswd holds hashes alone; give each a reference, as password = { file = ... }")
	l.add("the passwords of", unread, "their hashes are not of bcrypt, so that nobody can compare them; a reference replaces them")
}

func (l *left) patterns() {
	ac := l.conf.HTTP.AccessControl
	if ac == nil {
		return
	}
	var strange []string
	for _, p := range l.strangers {
		switch {
		case p == ownPattern():
		case p != everything:
			strange = append(strange, strconv.Quote(p))
		case l.conf.outside() == "custom":
			l.add("the pattern", []string{`"**"`}, "it decides for repositories in no namespace, and is neither policy.outside = \"deny\" nor \"leave\"")
		}
	}
	l.add("the patterns", strange, "they are of no namespace, whose pattern is NAME/**; declare a namespace for what they hold, and take them out")
	var unsayable []string
	for _, k := range l.except {
		if k.Kind == schema.KindAccess {
			unsayable = append(unsayable, strconv.Quote(pattern(k.Name)))
		}
	}
	slices.Sort(unsayable)
	l.add("the patterns", unsayable, "they give what no rule says, such as changes without new images, one thing under several conditions, or rights of an account with a comma in its name, as users written as one text are")
	if _, whole := l.conf.admins(); !whole {
		l.add("the policy", []string{"http.accessControl.adminPolicy"}, "it gives less than everything, or under conditions, so that who it names counts as no administrator")
	} else if a := ac.AdminPolicy; a != nil && len(a.Groups) > 0 {
		l.add("the groups", quoted(a.Groups), "they are in http.accessControl.adminPolicy, where modes have users alone: admin = true")
	}
	l.rest("which no kind speaks of", []string{"http", "accessControl"}, "repositories", "adminPolicy", "groups")
}

func (l *left) retention() {
	for _, s := range l.conf.stores() {
		var names []string
		for i, of := range l.owners[s.route] {
			if of != "" || i >= len(s.policies) || l.goes(cmp.Or(l.behind[s.route][i], speaksOf(s.policies[i], l.wanted()))) {
				continue
			}
			repositories, err := looseRepositories(s.policies[i])
			if err != nil || len(repositories) == 0 {
				repositories = []string{"?"}
			}
			if slices.Equal(repositories, []string{ownPattern()}) {
				continue // for ocisync's inventory
			}
			names = append(names, strings.Join(quoted(repositories), "+"))
		}
		l.add("the retention of", names, "each is of more than one namespace or of none, says what keep does not, or stands behind one of those")
	}
	l.rest("which no kind speaks of", []string{"storage", "retention"}, "policies")
	if slices.Contains(l.except, schema.Key{Kind: schema.KindGC}) {
		l.add("the setting", []string{"storage.gcDelay"}, "it is no number of whole seconds")
	}
}

func (l *left) extensions() {
	if s := l.conf.Extensions.Sync; s != nil {
		known := map[int]bool{}
		for _, r := range ours(l.all) {
			known[s.has(r)], known[s.like(r)] = true, true
		}
		var names []string
		for i, raw := range s.Registries {
			if known[i] {
				continue
			}
			name := "number " + strconv.Itoa(i+1)
			var of struct {
				URLs words `json:"urls"`
			}
			if json.Unmarshal(raw, &of) == nil && len(of.URLs) > 0 {
				if u, err := url.Parse(of.URLs[0]); err == nil {
					name = u.Redacted()
				}
			}
			names = append(names, name)
		}
		l.add("sync from", names, "a remote has one address, a replication or proxy one pattern, and neither the other keys of Zot's sync; declare a remote and what is copied from it, and take the entry out")
	}
	if e := l.conf.Extensions.Events; e != nil {
		if n := len(e.Sinks); n > 0 && e.ours() < 0 || n > 1 {
			l.add("the sinks", []string{"extensions.events.sinks"}, "they tell of every namespace and every event; webhooks of the mode go by a sink of ocisync's own")
		}
	}
	l.rest("which no kind speaks of", []string{"extensions", "search", "cve"}, "updateInterval")
	l.rest("which no kind of this registry speaks of", []string{"extensions", "trust"})
}

// rest says it of the keys below one but for some.
func (l *left) rest(why string, below []string, but ...string) {
	var names []string
	for _, key := range l.doc.Keys(below...) {
		at := append(slices.Clone(below), key)
		if _, there := l.doc.Get(at...); there && !slices.ContainsFunc(but, func(b string) bool { return strings.EqualFold(b, key) }) {
			names = append(names, schema.JoinPath(at...))
		}
	}
	l.add("the keys", names, why)
}
