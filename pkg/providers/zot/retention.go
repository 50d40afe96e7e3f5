package zot

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/schema"
)

// retentionPolicy is one of storage.retention.policies: the first that matches
// a repository alone decides for it.
type retentionPolicy struct {
	Repositories   []string   `json:"repositories"`
	DeleteUntagged *bool      `json:"deleteUntagged,omitempty"`
	KeepTags       []keepTags `json:"keepTags,omitempty"`
}

// keepTags keeps tags of which any of its conditions holds, and without one
// all that match: of several, the first that matches a tag decides.
type keepTags struct {
	Patterns                []string `json:"patterns"`
	MostRecentlyPushedCount int      `json:"mostRecentlyPushedCount,omitempty"`
	MostRecentlyPulledCount int      `json:"mostRecentlyPulledCount,omitempty"`
	PushedWithin            *span    `json:"pushedWithin,omitempty"`
	PulledWithin            *span    `json:"pulledWithin,omitempty"`
}

func (k keepTags) always() bool {
	return k.MostRecentlyPushedCount == 0 && k.MostRecentlyPulledCount == 0 && k.PushedWithin == nil && k.PulledWithin == nil
}

// merge adds the conditions of another to those of which any is enough.
func (k *keepTags) merge(o keepTags) {
	longest := func(a, b *span) *span {
		if a == nil || b != nil && *b > *a {
			return b
		}
		return a
	}
	if k.always() || o.always() {
		*k = keepTags{Patterns: k.Patterns}
		return
	}
	k.MostRecentlyPushedCount = max(k.MostRecentlyPushedCount, o.MostRecentlyPushedCount)
	k.MostRecentlyPulledCount = max(k.MostRecentlyPulledCount, o.MostRecentlyPulledCount)
	k.PushedWithin = longest(k.PushedWithin, o.PushedWithin)
	k.PulledWithin = longest(k.PulledWithin, o.PulledWithin)
}

// policiesOf says a namespace's retention as Zot does. A tag stays in Zot
// wherever a rule keeps it, also where several rules speak of it: what Zot
// would judge by the first alone, it judges by that and all that may match.
func policiesOf(namespace string, spec *schema.Retention) []retentionPolicy {
	var out []retentionPolicy
	untagged := spec.Untagged
	if untagged != nil && *untagged { // which Zot does unless told otherwise
		untagged = nil
	}
	add := func(repositories string, rules []schema.KeepRule) {
		out = append(out, retentionPolicy{
			Repositories: []string{namespace + "/" + repositories}, DeleteUntagged: untagged, KeepTags: keepTagsOf(rules),
		})
	}
	for i, r := range spec.Keep {
		glob := general(r.Repositories)
		if glob == everything || slices.ContainsFunc(spec.Keep[:i], func(b schema.KeepRule) bool { return general(b.Repositories) == glob }) {
			continue
		}
		var rules []schema.KeepRule
		for j, o := range spec.Keep {
			if og := general(o.Repositories); og == glob || og == everything || j > i && !disjoint(og, glob) {
				rules = append(rules, o)
			}
		}
		add(glob, rules)
	}
	var rest []schema.KeepRule
	for _, r := range spec.Keep {
		if general(r.Repositories) == everything {
			rest = append(rest, r)
		}
	}
	if len(rest) > 0 || len(spec.Keep) == 0 {
		add(everything, rest)
	}
	return out
}

// general is a glob of names, "**" where it selects all.
func general(glob string) string {
	if glob == "" {
		return everything
	}
	return glob
}

// disjoint reports whether two globs surely match nothing in common: by the
// letters they begin with.
func disjoint(a, b string) bool {
	literal := func(s string) (string, bool) {
		i := strings.IndexAny(s, `*?[{\`)
		if i < 0 {
			return s, true
		}
		return s[:i], false
	}
	la, wholeA := literal(a)
	lb, wholeB := literal(b)
	switch {
	case wholeA && wholeB:
		return la != lb
	case wholeA:
		return !strings.HasPrefix(la, lb)
	case wholeB:
		return !strings.HasPrefix(lb, la)
	}
	return !strings.HasPrefix(la, lb) && !strings.HasPrefix(lb, la)
}

// keepTagsOf puts rules that speak of some tags before those for all.
func keepTagsOf(rules []schema.KeepRule) []keepTags {
	rules = slices.Clone(rules)
	tags := func(r schema.KeepRule) string {
		if r.Tags == "" || r.Tags == "*" {
			return everything
		}
		return r.Tags
	}
	slices.SortStableFunc(rules, func(a, b schema.KeepRule) int {
		order := func(r schema.KeepRule) int {
			if tags(r) == everything {
				return 1
			}
			return 0
		}
		return order(a) - order(b)
	})
	var out []keepTags
	for i, r := range rules {
		if slices.ContainsFunc(rules[:i], func(b schema.KeepRule) bool { return tags(b) == tags(r) }) {
			continue
		}
		k := conditionsOf(r)
		k.Patterns = []string{regexOf(tags(r))}
		for _, o := range rules[i+1:] {
			if tags(o) == tags(r) || tags(o) == everything || tags(r) != everything && !disjoint(tags(o), tags(r)) {
				k.merge(conditionsOf(o))
			}
		}
		out = append(out, k)
	}
	return out
}

func conditionsOf(r schema.KeepRule) keepTags {
	if r.Always {
		return keepTags{}
	}
	within := func(d schema.Duration) *span {
		if d == 0 {
			return nil
		}
		return new(span(d.Std()))
	}
	return keepTags{
		MostRecentlyPushedCount: r.Newest, MostRecentlyPulledCount: r.NewestPulled,
		PushedWithin: within(r.PushedWithin), PulledWithin: within(r.PulledWithin),
	}
}

// unsayable says why Zot cannot keep tags by a rule, or "": of conditions in one
// place, Zot takes any for enough.
func unsayable(r schema.KeepRule) string {
	switch {
	case bool(r.Disabled):
		return "Zot has no rule that is switched off; take it out"
	case r.TaggedOnly:
		return "tagged_only is for Harbor: in Zot untagged says what becomes of what has no tag, for the whole namespace"
	}
	n := 0
	for _, set := range []bool{r.Always, r.Newest > 0, r.NewestPulled > 0, r.PushedWithin > 0, r.PulledWithin > 0} {
		if set {
			n++
		}
	}
	if n > 1 {
		return "a rule with several conditions keeps what meets all of them, and Zot what meets any; give each condition a rule of its own if that is meant"
	}
	return ""
}

// regexOf says a glob of tags as a regular expression.
func regexOf(glob string) string {
	if glob == everything {
		return ".*"
	}
	var b strings.Builder
	b.WriteByte('^')
	depth := 0
	for i := 0; i < len(glob); i++ {
		switch c := glob[i]; {
		case c == '*':
			for i+1 < len(glob) && glob[i+1] == '*' {
				i++
			}
			b.WriteString(".*") // tags hold no slash
		case c == '?':
			b.WriteByte('.')
		case c == '{':
			depth++
			b.WriteString("(?:")
		case c == '}' && depth > 0:
			depth--
			b.WriteByte(')')
		case c == ',' && depth > 0:
			b.WriteByte('|')
		case c == '[':
			end := strings.IndexByte(glob[i:], ']')
			if end < 0 {
				b.WriteString(`\[`)
				continue
			}
			class := glob[i+1 : i+end]
			b.WriteByte('[')
			if rest, not := strings.CutPrefix(class, "!"); not {
				b.WriteByte('^')
				class = rest
			}
			b.WriteString(class + "]")
			i += end
		case c == '\\' && i+1 < len(glob):
			i++
			b.WriteString(regexp.QuoteMeta(glob[i : i+1]))
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	b.WriteByte('$')
	return b.String()
}

// globOf is a glob that stands for the same tags as a regular expression of a
// simple kind; ok is false for others.
func globOf(regex string) (string, bool) {
	if regex == ".*" || regex == "" || regex == "^.*$" {
		return "", true
	}
	s, anchored := strings.CutPrefix(regex, "^")
	e, ended := strings.CutSuffix(s, "$")
	var b strings.Builder
	if !anchored {
		b.WriteByte('*')
	}
	for i := 0; i < len(e); i++ {
		switch c := e[i]; {
		case c == '.' && i+1 < len(e) && e[i+1] == '*':
			b.WriteByte('*')
			i++
		case c == '.':
			b.WriteByte('?')
		case c == '\\' && i+1 < len(e) && strings.IndexByte(`.-+_$^()|[]{}*?\`, e[i+1]) >= 0:
			i++
			if strings.IndexByte(`.-+_`, e[i]) < 0 {
				return "", false
			}
			b.WriteByte(e[i])
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		default:
			return "", false
		}
	}
	if !ended {
		b.WriteByte('*')
	}
	glob := b.String()
	for strings.Contains(glob, "**") {
		glob = strings.ReplaceAll(glob, "**", "*")
	}
	if glob == "*" {
		glob = ""
	}
	return glob, true
}

// retentionOf reads what policies say of a namespace as rules; ok is false for
// what no rules say.
func retentionOf(namespace string, policies []retentionPolicy) (*schema.Retention, bool) {
	spec := &schema.Retention{Keep: []schema.KeepRule{}}
	for i, p := range policies {
		if len(p.Repositories) != 1 {
			return nil, false
		}
		untagged := p.DeleteUntagged == nil || *p.DeleteUntagged
		if i > 0 && untagged != *spec.Untagged {
			return nil, false
		}
		spec.Untagged = &untagged
		glob, ok := strings.CutPrefix(p.Repositories[0], namespace+"/")
		if !ok {
			return nil, false
		}
		if glob == everything {
			glob = ""
		}
		for _, k := range p.KeepTags {
			if len(k.Patterns) > 1 {
				return nil, false
			}
			tags, ok := "", true
			if len(k.Patterns) == 1 {
				tags, ok = globOf(k.Patterns[0])
			}
			if !ok {
				return nil, false
			}
			rules, ok := k.rules()
			if !ok {
				return nil, false
			}
			for _, r := range rules {
				r.Tags, r.Repositories = tags, glob
				spec.Keep = append(spec.Keep, r)
			}
		}
	}
	if len(policies) == 0 || !meaning(policiesOf(namespace, spec), policies) {
		return nil, false
	}
	return spec, true
}

// meaning reports whether policies say the same, in this order.
func meaning(a, b []retentionPolicy) bool {
	return slices.EqualFunc(a, b, func(x, y retentionPolicy) bool {
		untagged := func(p retentionPolicy) bool { return p.DeleteUntagged == nil || *p.DeleteUntagged }
		return slices.Equal(x.Repositories, y.Repositories) && untagged(x) == untagged(y) &&
			slices.EqualFunc(x.KeepTags, y.KeepTags, func(j, k keepTags) bool {
				j.Patterns, k.Patterns = plain(j.Patterns), plain(k.Patterns)
				return bytes.Equal(encoded(j), encoded(k))
			})
	})
}

// plain spells patterns as ocisync does.
func plain(patterns []string) []string {
	if len(patterns) == 0 {
		return []string{".*"}
	}
	out := slices.Clone(patterns)
	for i, p := range out {
		if glob, ok := globOf(p); ok {
			if glob == "" {
				glob = everything
			}
			out[i] = regexOf(glob)
		}
	}
	return out
}

// rules are the conditions one by one, each of which is enough.
func (k keepTags) rules() ([]schema.KeepRule, bool) {
	if k.always() {
		return []schema.KeepRule{{Always: true}}, true
	}
	var out []schema.KeepRule
	if k.MostRecentlyPushedCount > 0 {
		out = append(out, schema.KeepRule{Newest: k.MostRecentlyPushedCount})
	}
	if k.MostRecentlyPulledCount > 0 {
		out = append(out, schema.KeepRule{NewestPulled: k.MostRecentlyPulledCount})
	}
	good := true
	within := func(s *span, rule func(schema.Duration) schema.KeepRule) {
		if s == nil {
			return
		}
		d, ok := s.duration()
		good = good && ok && d > 0
		out = append(out, rule(d))
	}
	within(k.PushedWithin, func(d schema.Duration) schema.KeepRule { return schema.KeepRule{PushedWithin: d} })
	within(k.PulledWithin, func(d schema.Duration) schema.KeepRule { return schema.KeepRule{PulledWithin: d} })
	return out, good
}

// owners says of each policy of the configuration whose it is: a namespace's,
// or nobody's (""). What stands behind a policy of nobody's that may match the
// same repositories is never asked, and nobody's too; so is one whose
// namespace is not here, or whose policies no rules say, and one behind that of a
// namespace around its own. Whose they would be otherwise, behind says.
func owners(policies []json.RawMessage, namespaces, unsaid map[string]bool, here func(ns string) bool) (of, behind []string, parsed []retentionPolicy) {
	of, behind, parsed = make([]string, len(policies)), make([]string, len(policies)), make([]retentionPolicy, len(policies))
	var strangers []string
	around := map[string][]string{} // the patterns of namespaces by now
	for i, raw := range policies {
		p, ok := strict[retentionPolicy](raw)
		parsed[i] = p
		ns := ""
		if ok && len(p.Repositories) == 1 {
			ns = holder(p.Repositories[0], namespaces)
		}
		switch {
		case ns == "" || !here(ns):
			loose, _ := looseRepositories(raw)
			strangers = append(strangers, loose...)
		case unsaid[ns] || slices.ContainsFunc(strangers, func(s string) bool { return intersects(s, ns) }):
			strangers = append(strangers, p.Repositories...)
			behind[i] = ns
		case shadowed(ns, around):
			behind[i] = ns
		default:
			of[i] = ns
			around[ns] = append(around[ns], p.Repositories...)
		}
	}
	reached(of, behind, parsed)
	return of, behind, parsed
}

// speaksOf is the namespace that a policy of nobody's speaks of alone, "" for none: it is
// read as that namespace's from the first write of its rules on.
func speaksOf(raw rawPolicy, namespaces map[string]bool) string {
	p, ok := strict[retentionPolicy](raw)
	if !ok || len(p.Repositories) != 1 {
		return ""
	}
	return holder(p.Repositories[0], namespaces)
}

// reached takes its policies from a namespace of which one stands before the shield
// that was to keep them from one in it: they say more than its rules then.
func reached(of, behind []string, parsed []retentionPolicy) {
	taken := map[string]bool{}
	for i, ns := range behind {
		if ns == "" || !meaning(shield(ns), parsed[i:i+1]) {
			continue
		}
		for _, outer := range of[:i] {
			if outer != "" && strings.HasPrefix(ns, outer+"/") {
				taken[outer] = true
			}
		}
	}
	for j, ns := range of {
		if taken[ns] {
			of[j], behind[j] = "", ns
		}
	}
}

// shadowed reports whether a policy of a namespace around this one may match what
// lies in it.
func shadowed(ns string, around map[string][]string) bool {
	for i := strings.LastIndexByte(ns, '/'); i > 0; i = strings.LastIndexByte(ns[:i], '/') {
		if slices.ContainsFunc(around[ns[:i]], func(pattern string) bool { return intersects(pattern, ns) }) {
			return true
		}
	}
	return false
}

func looseRepositories(raw json.RawMessage) ([]string, error) {
	var p struct {
		Repositories []string `json:"repositories"`
	}
	err := json.Unmarshal(raw, &p)
	return p.Repositories, err
}

// holder is the namespace that a pattern of repositories speaks of: one by its
// own pattern, else the deepest known one that all it matches lies in.
func holder(pattern string, namespaces map[string]bool) string {
	if ns, ok := namespaceOf(pattern); ok {
		return ns
	}
	literal := pattern
	if i := strings.IndexAny(pattern, `*?[{\`); i >= 0 {
		literal = pattern[:i]
	}
	for {
		i := strings.LastIndexByte(literal, '/')
		if i < 0 {
			return ""
		}
		if literal = literal[:i]; namespaces[literal] {
			return literal
		}
	}
}

// active reports whether any policy removes tags by number or time: only then
// does a running Zot take over other ones.
func active(policies []rawPolicy) bool {
	for _, raw := range policies {
		var p retentionPolicy
		if json.Unmarshal(raw, &p) != nil {
			return false // not known
		}
		if slices.ContainsFunc(p.KeepTags, func(k keepTags) bool { return !k.always() }) {
			return true
		}
	}
	return false
}

// shield keeps everything of a namespace without retention that lies in one
// with retention, whose policies would reach it.
func shield(namespace string) []retentionPolicy {
	return []retentionPolicy{{Repositories: []string{pattern(namespace)}, DeleteUntagged: new(false)}}
}

// ownStore is the store that has ocisync's own namespace.
func (c configuration) ownStore() store {
	route := c.storeOf(access.Reserved)
	stores := c.stores()
	return stores[max(0, slices.IndexFunc(stores, func(s store) bool { return s.route == route }))]
}

// keepsOwn reports whether retention surely leaves every tag in ocisync's own namespace:
// the first policy that matches decides.
func (c configuration) keepsOwn() bool {
	for _, raw := range c.ownStore().policies {
		repositories, err := looseRepositories(raw)
		if err != nil {
			return false
		}
		if !slices.ContainsFunc(repositories, func(r string) bool { return intersects(r, access.Reserved) }) {
			continue
		}
		var p struct {
			KeepTags []keepTags `json:"keepTags"`
		}
		if json.Unmarshal(raw, &p) != nil || len(p.KeepTags) > 0 && (!p.KeepTags[0].always() || !slices.Equal(plain(p.KeepTags[0].Patterns), plain(nil))) {
			return false
		}
		if slices.Contains(repositories, everything) || slices.Contains(repositories, ownPattern()) {
			return true
		}
	}
	return true
}

// innerFirst orders namespaces: the deeper before, else by name.
func innerFirst(a, b string) int {
	if d := strings.Count(b, "/") - strings.Count(a, "/"); d != 0 {
		return d
	}
	return strings.Compare(a, b)
}

// goDuration is a duration as Go writes it.
func goDuration(d schema.Duration) span { return span(time.Duration(d) * time.Second) }

// rawPolicy is a policy as it is written.
type rawPolicy = json.RawMessage
