package retention

import (
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/ocisync/ocisync/schema"
)

// Clash is a mirror and the retention of the namespace it copies to, which
// would delete what it brings, or some of it: one works against the other for ever.
type Clash struct {
	Mirror, Retention schema.Resource
	Why, Remedy       string
}

// Clashes finds them in what a mode declares, in the order of the mirrors. It
// goes by the rules alone: of a mirror that names no tags and no number it is told
// where some that it may bring would go, whatever tags the source has by now.
func Clashes(st schema.State) []Clash {
	retained, fixed := map[string]schema.Resource{}, map[string][]schema.KeepRule{}
	namespaces := map[string]bool{}
	for _, r := range st.Resources {
		switch r.Key.Kind {
		case schema.KindNamespace:
			namespaces[r.Key.Name] = true
		case schema.KindRetention:
			retained[r.Key.Name] = r
		case schema.KindImmutable:
			if im, ok := r.Spec.(*schema.Immutable); ok {
				for _, rule := range im.Rules { // what is fixed stays
					if rule.Disabled {
						continue
					}
					fixed[r.Key.Name] = append(fixed[r.Key.Name], schema.KeepRule{Tags: rule.Tags, Repositories: rule.Repositories, Always: true})
				}
			}
		}
	}
	var out []Clash
	for _, r := range st.Resources {
		m, ok := r.Spec.(*schema.Mirror)
		if !ok || m.To == nil {
			continue
		}
		ns := *m.To
		for ns != "" && !namespaces[ns] {
			ns = ns[:max(0, strings.LastIndexByte(ns, '/'))]
		}
		rule, ok := retained[ns]
		spec, is := rule.Spec.(*schema.Retention)
		if !ok || !is {
			continue
		}
		repository := strings.TrimPrefix(strings.TrimPrefix(*m.To, ns), "/")
		speaks := func(k schema.KeepRule) bool { return matches(k.Repositories, repository) }
		keep := Enabled(spec.Keep)
		if !slices.ContainsFunc(keep, speaks) { // everything stays
			continue
		}
		rules := slices.DeleteFunc(slices.Concat(keep, fixed[ns]), func(k schema.KeepRule) bool { return !speaks(k) })
		sel, some := selectionOf(m.Tags)
		if why, remedy := clash(sel, rules, ns); some && why != "" {
			out = append(out, Clash{r, rule, why, remedy})
		}
	}
	return out
}

// clash says what a retention would delete of a selection, or "".
func clash(s selection, rules []schema.KeepRule, namespace string) (why, remedy string) {
	by := fmt.Sprintf("the retention of namespace %q", namespace)
	if len(s.list) > 0 {
		left := slices.DeleteFunc(slices.Clone(s.list), func(tag string) bool {
			return slices.ContainsFunc(rules, func(r schema.KeepRule) bool { return matches(r.Tags, tag) })
		})
		if len(left) > 0 && (s.newest == 0 || s.newest >= len(s.list)) {
			return fmt.Sprintf("%s would delete what it brings: no rule of it keeps %s", by, quoted(left)),
				fmt.Sprintf("add { tags = %q, always = true } to its rules, or copy to another namespace", left[0])
		}
	}
	var speak []schema.KeepRule
	for _, r := range rules {
		if s.meets(r.Tags) {
			speak = append(speak, r)
		}
	}
	if len(speak) == 0 {
		return by + " would delete what it brings: no rule of it keeps any such tag", "add a rule for these tags, or copy to another namespace"
	}
	most, longest := 0, schema.Duration(0)
	counted, timed, ends := true, true, true // all of them keep a number, for a time, or one of the two
	for _, r := range speak {
		n := r.Newest
		if r.NewestPulled > 0 && (n == 0 || r.NewestPulled < n) {
			n = r.NewestPulled
		}
		most, longest = most+n, max(longest, r.PushedWithin) // what is pulled may stay for ever
		counted, timed = counted && n > 0 && !r.Always, timed && r.PushedWithin > 0 && !r.Always
		ends = ends && (n > 0 || r.PushedWithin > 0) && !r.Always
	}
	if want := s.most(); counted && want > most {
		return fmt.Sprintf("it brings %d tags, and %s keeps at most %d of them", want, by, most), "keep as many, or bring fewer"
	}
	if timed && s.since > longest {
		return fmt.Sprintf("it brings tags for %s, and %s keeps them for %s after they came", s.since, by, longest), "keep them as long, or bring them for a shorter time"
	}
	if passing := s.passing(rules); len(passing) > 0 {
		return fmt.Sprintf("%s would delete %s some time after they came, and no rule of it keeps them longer", by, quoted(passing)),
			fmt.Sprintf("add { tags = %q, always = true } to its rules, or copy to another namespace", passing[0])
	}
	if want := s.most(); s.since == 0 && ends && !counted && (timed || want > most || want == 0 && s.open()) {
		kept := "keeps them"
		if !timed {
			kept = fmt.Sprintf("keeps at most %d of them, and the others", most)
		}
		return fmt.Sprintf("it brings tags however long ago they came, and %s %s for %s", by, kept, longest), "keep them with always = true, or bring them for as long with tags.since"
	}
	if s.newest == 0 && s.since == 0 && counted && s.open() {
		return fmt.Sprintf("it brings every such tag, and %s keeps at most %d of them", by, most), "keep them all with always = true, or bring fewer with tags.newest"
	}
	if tag := s.stray(rules); tag != "" {
		var globs []string
		for _, r := range speak {
			globs = append(globs, r.Tags)
		}
		return fmt.Sprintf("%s would delete some of what it brings: it keeps only tags that match %s, and not one such as %q", by, quoted(globs), tag), "add a rule for the others, or bring these alone with tags.glob"
	}
	return "", ""
}

// passing are the tags of a list that rules keep for a time alone.
func (s selection) passing(rules []schema.KeepRule) (tags []string) {
	if s.newest > 0 {
		return nil
	}
	for _, tag := range s.list {
		if !slices.ContainsFunc(rules, func(r schema.KeepRule) bool {
			return matches(r.Tags, tag) && (r.PushedWithin == 0 || r.Always)
		}) {
			tags = append(tags, tag)
		}
	}
	return tags
}

// glob is what alone decides; ok is false where more does.
func (s selection) glob() (glob string, ok bool) {
	if len(s.globs) == 0 {
		return "*", s.exact
	}
	return s.globs[0][0], s.exact
}

// open reports whether it takes more tags than could be counted.
func (s selection) open() bool {
	glob, ok := s.glob()
	all, known := alternatives(glob)
	return ok && known && slices.ContainsFunc(all, func(places []*letters) bool { return slices.Contains(places, nil) })
}

// stray is a tag that the selection takes and no rule speaks of; "" where none was
// found, of which some may be, or where more decides than globs.
func (s selection) stray(rules []schema.KeepRule) string {
	glob, ok := s.glob()
	all, known := alternatives(glob)
	if !ok || !known {
		return ""
	}
	for _, places := range all {
		for _, fill := range []string{"z", "0", "a", ""} {
			for _, last := range []bool{false, true} {
				tag := example(places, fill, last)
				if tag != "" && inTag(tag[0]) && tag[0] != '.' && tag[0] != '-' && matches(glob, tag) && !Fallback(tag) &&
					!slices.ContainsFunc(rules, func(r schema.KeepRule) bool { return matches(r.Tags, tag) }) {
					return tag
				}
			}
		}
	}
	return ""
}

// example is a tag of these places, with a text for each star; "" where there is
// none. Of several letters it takes the first or the last, from 0 to z.
func example(places []*letters, fill string, last bool) string {
	var b strings.Builder
	for _, set := range places {
		if set == nil {
			b.WriteString(fill)
			continue
		}
		var at byte
		for c := range set {
			if set[c] && inTag(byte(c)) && (at == 0 || last || at < '0') {
				at = byte(c)
			}
		}
		if at == 0 {
			return ""
		}
		b.WriteByte(at)
	}
	return b.String()
}

func quoted(tags []string) string {
	const few = 5
	var b strings.Builder
	for i, t := range tags[:min(few, len(tags))] {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", t)
	}
	if len(tags) > few {
		fmt.Fprintf(&b, " and %d more", len(tags)-few)
	}
	return b.String()
}

// selection is what tags a mirror copies, as far as that can be told before.
type selection struct {
	list   []string   // all that is copied; none where they are not named
	globs  [][]string // of each list, a tag that is copied matches one
	newest int
	since  schema.Duration
	exact  bool // the globs are all that decides
}

// selectionOf reads it; some is false where it surely copies nothing, or only
// what stands for referrers.
func selectionOf(t *schema.TagSelect) (s selection, some bool) {
	if t == nil {
		s.exact = true
		return s, true
	}
	s.exact = t.List == nil && t.Regex == nil && t.Semver == nil
	if t.Newest != nil {
		s.newest = *t.Newest
	}
	if t.Since != nil {
		s.since = *t.Since
	}
	if t.Glob != nil {
		s.globs = append(s.globs, []string{*t.Glob})
	}
	if t.Regex != nil {
		s.globs = append(s.globs, []string{beginning(*t.Regex)})
	}
	if t.Semver != nil { // what is a version begins so
		s.globs = append(s.globs, []string{"[0-9]*", "v[0-9]*"})
	}
	if t.List != nil {
		list := slices.DeleteFunc(slices.Clone(t.List), Fallback)
		if len(list) == 0 {
			return s, false
		}
		var globs []string
		for _, tag := range list {
			globs = append(globs, literal(tag))
		}
		s.globs = append(s.globs, globs)
		if t.Glob == nil && t.Regex == nil && t.Semver == nil && t.Since == nil {
			s.list = list
		}
	}
	return s, true
}

// most is how many tags it says it copies; 0 where that is not known.
func (s selection) most() int {
	if len(s.list) > 0 && (s.newest == 0 || s.newest > len(s.list)) {
		return len(s.list)
	}
	return s.newest
}

// meets reports whether a tag that is copied may match a glob.
func (s selection) meets(glob string) bool {
	return !slices.ContainsFunc(s.globs, func(some []string) bool {
		return !slices.ContainsFunc(some, func(g string) bool { return overlap(g, glob) })
	})
}

// literal is the glob that matches a text alone.
func literal(text string) string {
	var b strings.Builder
	for _, c := range text {
		if strings.ContainsRune(`*?[]{},\`, c) {
			b.WriteByte('\\')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// beginning is a glob that matches at least what a regular expression does.
func beginning(expression string) string {
	re, err := syntax.Parse(expression, syntax.Perl)
	if err != nil || re.Op != syntax.OpConcat || len(re.Sub) < 2 || re.Sub[0].Op != syntax.OpBeginText {
		return "*"
	}
	first := re.Sub[1]
	if first.Op != syntax.OpLiteral || first.Flags&syntax.FoldCase != 0 {
		return "*"
	}
	return literal(string(first.Rune)) + "*"
}

// overlap reports whether two globs may match one tag. It errs on the side of
// yes.
func overlap(a, b string) bool {
	if a == "" || b == "" {
		return true
	}
	as, ok := alternatives(a)
	bs, also := alternatives(b)
	if !ok || !also {
		return true
	}
	for _, x := range as {
		for _, y := range bs {
			if meet(x, y) {
				return true
			}
		}
	}
	return false
}

// letters are what may stand at one place of a tag, as a set of ASCII; none is
// the place of a star.
type letters [128]bool

// Bounds of what is looked at closely.
const (
	maxGlob         = 256 // bytes
	maxAlternatives = 64
)

// alternatives parts a glob at its braces; ok is false for one that is too
// large or of another form.
func alternatives(glob string) (out [][]*letters, ok bool) {
	if len(glob) > maxGlob || !doublestar.ValidatePattern(glob) {
		return nil, false
	}
	texts := []string{glob}
	for i := 0; i < len(texts); i++ {
		before, inner, after, found := braces(texts[i])
		if !found {
			continue
		}
		if len(texts)+len(inner) > maxAlternatives {
			return nil, false
		}
		for _, alternative := range inner {
			texts = append(texts, before+alternative+after)
		}
		texts = slices.Delete(texts, i, i+1)
		i--
	}
	for _, text := range texts {
		places, ok := placesOf(text)
		if !ok {
			return nil, false
		}
		out = append(out, places)
	}
	return out, true
}

// braces finds the first alternatives of a glob.
func braces(glob string) (before string, inner []string, after string, found bool) {
	depth, open, from := 0, 0, 0
	for i := 0; i < len(glob); i++ {
		switch glob[i] {
		case '\\':
			i++
		case '[':
			if end := strings.IndexByte(glob[i:], ']'); end > 0 {
				i += end
			}
		case '{':
			if depth++; depth == 1 {
				open, from = i, i+1
			}
		case ',':
			if depth == 1 {
				inner, from = append(inner, glob[from:i]), i+1
			}
		case '}':
			if depth--; depth == 0 {
				return glob[:open], append(inner, glob[from:i]), glob[i+1:], true
			}
		}
	}
	return "", nil, "", false
}

// placesOf lists what may stand at each place; nil is a star.
func placesOf(glob string) (out []*letters, ok bool) {
	for i := 0; i < len(glob); i++ {
		var set letters
		switch c := glob[i]; c {
		case '*':
			out = append(out, nil)
			continue
		case '?':
			for j := range set {
				set[j] = true
			}
		case '[':
			end := strings.IndexByte(glob[i:], ']')
			if end < 0 || strings.ContainsRune(glob[i:i+end], '\\') {
				return nil, false
			}
			class := glob[i+1 : i+end]
			i += end
			not := strings.HasPrefix(class, "!") || strings.HasPrefix(class, "^")
			if not {
				class = class[1:]
			}
			for j := 0; j < len(class); j++ {
				low, high := class[j], class[j]
				if j+2 < len(class) && class[j+1] == '-' {
					high = class[j+2]
					j += 2
				}
				for l := int(low); l <= int(high) && l < len(set); l++ {
					set[l] = true
				}
			}
			if not {
				for j := range set {
					set[j] = !set[j]
				}
			}
		default:
			if c == '\\' && i+1 < len(glob) {
				i++
				c = glob[i]
			}
			if int(c) >= len(set) {
				return nil, false
			}
			set[c] = true
		}
		out = append(out, &set)
	}
	return out, true
}

// meet reports whether a text fits both.
func meet(a, b []*letters) bool {
	// fits[j] tells whether a from a place on and b[j:] fit one text
	fits, next := make([]bool, len(b)+1), make([]bool, len(b)+1)
	for i := len(a); i >= 0; i-- {
		for j := len(b); j >= 0; j-- {
			switch {
			case i == len(a) && j == len(b):
				fits[j] = true
			case i < len(a) && a[i] == nil:
				fits[j] = next[j] || j < len(b) && fits[j+1]
			case j < len(b) && b[j] == nil:
				fits[j] = fits[j+1] || i < len(a) && next[j]
			case i == len(a) || j == len(b):
				fits[j] = false
			default:
				fits[j] = next[j+1] && share(a[i], b[j])
			}
		}
		fits, next = next, fits
	}
	return next[0]
}

func share(a, b *letters) bool {
	for c := range a {
		if a[c] && b[c] && inTag(byte(c)) {
			return true
		}
	}
	return false
}

// inTag reports whether a letter may stand in a tag, by the OCI distribution
// specification (1.1, "pulling manifests").
func inTag(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-'
}
