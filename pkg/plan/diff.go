package plan

import (
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/ocisync/ocisync/schema"
)

// Match is the result of comparing a secret, or a field that the registry does
// not give back, with what it is there.
type Match int

// The results.
const (
	Unknown   Match = iota // cannot be compared now: a note, no change
	Equal                  // no change
	Different              // a change: the file means another value than before, or nobody knows
	Changed                // a change: the value is the one applied last, and there is another now
	Never                  // a change: none was ever applied, and nobody knows whether there is one
)

// Ownership is what Diff needs to know of the inventory. A nil function
// answers "nothing is known".
type Ownership struct {
	// Applied returns the spec that was last applied to an object that
	// ocisync owns.
	Applied func(schema.Key) (schema.Spec, bool)
	// Owned lists the keys that ocisync owns, in any order.
	Owned []schema.Key
	// Secret compares a declared secret, then ref says which and value is "",
	// or the canonical JSON of a declared field that the registry does not
	// give back, then ref is nil, with what is live. An object that the plan
	// renames is asked for by its former key.
	Secret func(key schema.Key, path string, value string, ref *schema.SecretRef) Match
	// Pruned reports whether objects of this kind were pruned before.
	Pruned func(schema.Kind) bool
	// FirstSight says that nothing but the inventory says so: each delete is
	// held, whatever was pruned before.
	FirstSight bool
	// Protected lists the patterns the inventory keeps from policy.protect.
	Protected []string
	// Purging lists the namespaces whose blocks said on_delete = "purge" when they
	// were applied last.
	Purging []string
	// Archiving lists those whose blocks said "archive".
	Archiving []string
	// MayPrune is false when the inventory cannot be trusted with deletes;
	// WhyNot says why.
	MayPrune bool
	WhyNot   string
}

func (o Ownership) applied(k schema.Key) (schema.Spec, bool) {
	if o.Applied == nil {
		return nil, false
	}
	return o.Applied(k)
}

// appliedAs asks by the names an object may be known by.
func (o Ownership) appliedAs(names []schema.Key) (schema.Spec, bool) {
	for _, k := range names {
		if spec, ok := o.applied(k); ok {
			return spec, true
		}
	}
	return nil, false
}

// Input is everything Diff looks at.
type Input struct {
	Mode       string
	Registry   Registry
	Desired    schema.State // in the provider's normal form, sorted
	Live       schema.State // sorted
	Directives []schema.Directive
	Policy     schema.Policy
	Table      schema.Table
	Ownership  Ownership
	Today      schema.Date
}

// Diff compares the two states and returns the plan, unguarded: [Guard] says
// what of it is held or refused. It reads only its input, and equal inputs
// give byte-identical plans. What lies outside the live scope is never in the
// plan's changes.
func Diff(in Input) Plan {
	in.Desired.Resources = sorted(in.Desired.Resources, compareResources)
	in.Live.Resources = sorted(in.Live.Resources, compareResources)
	d := differ{
		in:         in,
		plan:       Plan{Format: Format, Mode: in.Mode, Registry: in.Registry},
		views:      map[schema.Kind]*view{},
		directives: make(map[schema.Key]schema.Directive, len(in.Directives)),
		owned:      slices.Compact(sorted(in.Ownership.Owned, schema.Key.Compare)),
		taken:      map[schema.Key]schema.Key{},
		moves:      moves{},
		cut:        cutShort(in.Live),
		remade:     map[schema.Key][]string{},
		skip:       map[schema.Key]bool{},
		left:       map[schema.Key]schema.Spec{},
	}
	for _, x := range in.Directives {
		d.directives[x.Key] = x
	}
	d.capabilities()
	d.onDelete()
	d.events()
	d.renames()
	d.remake()
	d.merge()
	d.gone()
	d.unprotect()
	d.plan.sort()
	return d.plan
}

func compareResources(a, b schema.Resource) int { return a.Key.Compare(b.Key) }

// sorted returns the list in order, itself if it is: a list out of order would
// make objects look absent.
func sorted[T any](list []T, compare func(a, b T) int) []T {
	if slices.IsSortedFunc(list, compare) {
		return list
	}
	list = slices.Clone(list)
	slices.SortStableFunc(list, compare)
	return list
}

type differ struct {
	in         Input
	plan       Plan
	views      map[schema.Kind]*view
	directives map[schema.Key]schema.Directive
	owned      []schema.Key              // sorted, each once
	taken      map[schema.Key]schema.Key // keys of objects that get another name, and that or the live one
	moves      moves
	cut        cuts
	remade     map[schema.Key][]string // replaced namespaces and the live children that go with each
	skip       map[schema.Key]bool     // desired keys left out
	left       map[schema.Key]schema.Spec
	orphans    []schema.Resource // live, not desired
}

func (d *differ) note(k schema.Key, text string) {
	d.plan.Notes = append(d.plan.Notes, Note{k, text})
}

func (d *differ) refuse(r schema.Resource, field, why string) {
	d.plan.Refusals = append(d.plan.Refusals, Refusal{r.Key, field, why, r.Source})
}

// spec is the desired spec after capabilities.
func (d *differ) spec(r schema.Resource) schema.Spec {
	if s, ok := d.left[r.Key]; ok {
		return s
	}
	return r.Spec
}

// covers reports whether the live state speaks for the object, under its name
// and under the one it had.
func (d *differ) covers(k schema.Key) bool {
	return d.in.Live.Scope.Covers(k) && (len(d.moves) == 0 || d.in.Live.Scope.Covers(d.moves.former(k)))
}

// applied is what ocisync last made of the object, under its name or one it
// had.
func (d *differ) applied(k schema.Key) (schema.Spec, bool) {
	k = d.moves.former(k)
	if len(d.cut) == 0 {
		return d.in.Ownership.applied(k)
	}
	return d.in.Ownership.appliedAs(d.cut.names(k))
}

// paused reports whether the file asks to keep hands off the object today.
func (d *differ) paused(k schema.Key) (*schema.Pause, bool) {
	p := d.directives[k].Paused
	return p, p.Holds(d.in.Today)
}

// merge walks both sorted states at once.
func (d *differ) merge() {
	want, have := d.in.Desired.Resources, d.in.Live.Resources
	for len(want) > 0 || len(have) > 0 {
		switch c := order(want, have); {
		case c < 0:
			d.both(&want[0], nil)
			want = want[1:]
		case c > 0:
			if _, taken := d.taken[have[0].Key]; !taken && d.covers(have[0].Key) {
				d.orphans = append(d.orphans, have[0])
			}
			have = have[1:]
		default:
			d.both(&want[0], &have[0])
			want, have = want[1:], have[1:]
		}
	}
}

func order(want, have []schema.Resource) int {
	switch {
	case len(want) == 0:
		return 1
	case len(have) == 0:
		return -1
	}
	return want[0].Key.Compare(have[0].Key)
}

// both handles one declared object; have is nil if it is not live.
func (d *differ) both(want, have *schema.Resource) {
	if d.skip[want.Key] {
		return
	}
	if !d.covers(want.Key) {
		d.note(want.Key, "not read, so left alone")
		return
	}
	if p, yes := d.paused(want.Key); yes {
		d.note(want.Key, "paused: "+p.Reason)
		return
	}
	applied, owned := d.applied(want.Key)
	if have == nil || d.goesWithNamespace(want.Key) {
		reason := Declared
		if owned && have == nil {
			reason = Drifted
		}
		spec := d.spec(*want)
		d.add(Change{
			Action: Create, Key: want.Key, After: &schema.Resource{Key: want.Key, Spec: spec, Source: want.Source},
			Fields: declared(spec), Reason: reason, Source: want.Source,
		})
		return
	}
	spec := d.ignore(want.Key, d.spec(*want), have.Spec)
	fields := d.differences(want.Key, spec, have)
	d.dropped(want.Key, applied, want.Spec)
	if len(fields) == 0 {
		d.plan.Unchanged++
		d.plan.Same = append(d.plan.Same, want.Key)
		if !owned {
			d.add(Change{Action: Adopt, Key: want.Key, Reason: Declared, Source: want.Source})
		}
		return
	}
	before := *have
	after := schema.Resource{Key: want.Key, Spec: Overlay(spec, have.Spec), Unread: have.Unread, Version: have.Version, Source: want.Source}
	c := Change{Action: Update, Key: want.Key, Before: &before, After: &after, Fields: fields, Source: want.Source}
	if replaces(spec, fields) {
		c.Action = Replace
		c.Purge = d.purges(want.Key)
		if d.archives(want.Key) {
			d.refuse(*want, fields[0].Path, `it would be made anew, and its content deleted, which on_delete = "archive" keeps; declare a namespace of another name beside it, or say on_delete = "purge", apply that, and change it then`)
			return
		}
		for _, child := range d.remade[want.Key] {
			c.Impact = append(c.Impact, "with it goes "+child)
		}
	}
	if owned && d.drifted(want.Key, spec, applied, fields) {
		c.Reason = Drifted
	}
	d.add(c)
}

// differences lists what is declared and not so, sorted by path.
func (d *differ) differences(k schema.Key, spec schema.Spec, have *schema.Resource) []Field {
	var fields []Field
	if !d.view(spec).shape.surelyMatches(spec, have.Spec) {
		fields = compare(spec, have.Spec, have.Unread)
	}
	hidden := d.hidden(k, spec, have.Unread)
	if len(hidden) == 0 {
		return fields
	}
	fields = append(fields, hidden...)
	slices.SortFunc(fields, func(a, b Field) int { return strings.Compare(a.Path, b.Path) })
	return fields
}

// hidden lists what differs and cannot be seen in the live object: secrets, and
// fields the registry does not give back.
func (d *differ) hidden(k schema.Key, spec schema.Spec, unread []string) []Field {
	var out []Field
	secrets := 0
	secret := func(path string, ref *schema.SecretRef) {
		if !slices.Contains(unread, path) { // the live object has no such secret
			out = append(out, Field{Path: path, New: secretText(ref), Sensitive: true})
			return
		}
		secrets++
		switch d.match(k, path, "", ref) {
		case Unknown:
			d.note(k, path+": (secret not checked)")
		case Different, Changed:
			out = append(out, Field{Path: path, Old: text("(secret)"), New: text("(secret changed)"), Sensitive: true})
		case Never:
			out = append(out, Field{Path: path, New: secretText(ref), Sensitive: true})
		case Equal:
		}
	}
	for _, p := range d.view(spec).secrets {
		field, managed := p.in(spec)
		if ref, ok := field.Interface().(*schema.SecretRef); managed && ok {
			secret(p.path, ref)
		}
	}
	if set, ok := spec.(*schema.Settings); ok { // an open table: any value may be a reference
		for _, f := range schema.Secrets(set) {
			secret(f.Path, &f.Ref)
		}
	}
	if len(unread) == secrets {
		return out
	}
	for _, l := range flatten(spec).leaves {
		if l.secret != nil || l.sync == "local" || !slices.Contains(unread, l.path) {
			continue
		}
		switch d.match(k, l.path, l.text, nil) {
		case Unknown, Never:
			d.note(k, l.path+": (not checked)")
		case Different, Changed:
			out = append(out, Field{Path: l.path, Old: unreadText, New: l.text})
		case Equal:
		}
	}
	return out
}

func (d *differ) match(k schema.Key, path, value string, ref *schema.SecretRef) Match {
	if d.in.Ownership.Secret == nil {
		return Unknown
	}
	return d.in.Ownership.Secret(d.moves.former(k), path, value, ref)
}

// unreadText stands for the value of a field that the registry does not give
// back.
const unreadText = `"(changed since last apply)"`

// replaces reports whether a field changes that is fixed at creation.
func replaces(spec schema.Spec, fields []Field) bool {
	if len(fields) == 0 {
		return false
	}
	f := flatten(spec)
	return slices.ContainsFunc(fields, func(x Field) bool {
		l, ok := f.get(x.Path)
		return ok && l.sync == "replace"
	})
}

// drifted reports whether the file says of every differing field what was
// applied last, so that the registry changed and not the file.
func (d *differ) drifted(k schema.Key, want, applied schema.Spec, fields []Field) bool {
	if applied == nil {
		return false
	}
	w, a := flatten(want), flatten(applied)
	for _, f := range fields {
		x, okw := w.get(f.Path)
		y, oka := a.get(f.Path)
		if okw != oka || x.text != y.text {
			return false
		}
		// the same reference may mean another value than it did
		if f.Sensitive && f.Old != "" && d.match(k, f.Path, "", x.secret) != Changed {
			return false
		}
		if !okw && !a.isComplete(f.Path) {
			return false
		}
	}
	return true
}

// dropped says what the file managed of an object and no longer does.
func (d *differ) dropped(k schema.Key, applied, spec schema.Spec) {
	if applied == nil || d.view(applied).shape.surelyMatches(applied, spec) {
		return
	}
	now, said := flatten(spec), ""
	for _, l := range flatten(applied).leaves {
		field, _, _ := strings.Cut(l.path, ".")
		if now.has(field + ".") { // the rest of the table is there
			field = l.path
		}
		if _, still := now.get(l.path); still || now.isComplete(l.path) || field == said || k.Kind == schema.KindSettings {
			continue
		}
		said = field
		d.note(k, field+" is not in the file any more and stays as it is; to empty it, write it as empty")
	}
}

func (d *differ) add(c Change) {
	if c.Effect == "" {
		c.Effect = Live
	}
	if c.Reason == "" {
		c.Reason = Declared
	}
	d.plan.Changes = append(d.plan.Changes, c)
}

// MatchKey reports whether a pattern such as "namespace/*", "webhook/team-a/*"
// or "gc" names the key. A star stands for any text, slashes included, so that
// "namespace/*" covers nested namespaces too. A bad pattern matches nothing.
func MatchKey(pattern string, k schema.Key) bool {
	if kind, _, ok := strings.Cut(pattern, "/"); ok && kind != string(k.Kind) && !strings.ContainsAny(kind, `*?[{\`) {
		return false
	}
	flat := func(s string) string { return strings.ReplaceAll(s, "/", "\x1f") }
	ok, err := doublestar.Match(flat(pattern), flat(k.String()))
	return err == nil && ok
}
