package config

import (
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/ocisync/ocisync/schema"
)

// Problem is a setting that Zot would refuse, or take for something else.
type Problem struct {
	Path     string          // dotted, as it is written
	Position schema.Position // in a document; the zero value for settings
	Text     string
	Remedy   string
	// Version is set where another version of Zot takes the setting.
	Version bool
}

// maxProblems is how many are returned of one configuration; who has more has
// another file than they think.
const maxProblems = 100

// String prints path, cause and remedy on one line.
func (p Problem) String() string {
	s := p.Path + ": " + p.Text
	if at := p.Position.String(); at != "" {
		s = at + ": " + s
	}
	if p.Remedy != "" {
		s += "; " + p.Remedy
	}
	return s
}

// Check holds the settings of a mode against the keys of a version of Zot, such
// as "2.1.6"; "" is a version that is not known. The first hundred problems are
// returned, in the settings' order.
func Check(values schema.Values, version string) []Problem {
	c := newChecker(version)
	c.strict = true
	seen := map[string]string{}
	for _, v := range values {
		if other, twice := seen[fold(v.Path)]; twice {
			c.report(Problem{Path: v.Path, Text: "Zot takes this and " + other + " for the same key", Remedy: "write one of them"})
		}
		seen[fold(v.Path)] = v.Path
		n, err := parseValue(v.JSON, 1)
		if err != nil {
			c.report(Problem{Path: v.Path, Text: err.Error()})
			continue
		}
		c.setting(schema.SplitPath(v.Path), v, n)
	}
	return c.problems
}

// Problems holds a configuration against the keys of a version of Zot, as
// [Check] does, but for what Zot converts by itself, such as "true" to true.
func (d *Document) Problems(version string) []Problem {
	c := newChecker(version)
	c.doc = d
	c.check(c.tree, d.root.value, nil)
	return c.problems
}

// Takes reports whether a version of Zot takes the key of a row; a version or key
// that is not known counts as if.
func Takes(path, version string) bool {
	v, err := semver.NewVersion(version)
	if err != nil {
		return true
	}
	for _, k := range Keys() {
		if k.Path == path && k.Versions != "" {
			in, err := semver.NewConstraint(k.Versions)
			return err != nil || in.Check(v)
		}
	}
	return true
}

// Before reports whether a version of Zot is older than another; ok is false where it
// is not known.
func Before(version, than string) (older, ok bool) {
	v, err := semver.NewVersion(version)
	if err != nil {
		return false, false
	}
	return v.LessThan(semver.MustParse(than)), true
}

type checker struct {
	tree     *tree
	version  *semver.Version // nil: not known
	strict   bool
	doc      *Document // nil for settings
	near     schema.Nearest
	problems []Problem
}

func newChecker(version string) *checker {
	c := &checker{tree: newTree()}
	if v, err := semver.NewVersion(version); err == nil {
		c.version = v
	}
	return c
}

func (c *checker) report(p Problem) {
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, p)
	}
}

// at reports a problem of a path within a document or setting.
func (c *checker) at(path []string, text, remedy string) {
	c.found(path, Problem{Text: text, Remedy: remedy})
}

func (c *checker) found(path []string, p Problem) {
	if len(c.problems) == maxProblems {
		return // a position costs a look at the whole file
	}
	p.Path = join(path)
	if c.doc != nil {
		p.Position = c.doc.Position(path...)
	}
	c.report(p)
}

// setting follows a flattened path to where its value stands.
func (c *checker) setting(path []string, v schema.Value, n *node) {
	if kind, owned := schema.OwnedSetting(schema.TypeZot, v.Path); owned {
		c.report(Problem{Path: v.Path, Text: "this belongs to the kind " + string(kind), Remedy: "declare that instead"})
		return
	}
	at := c.tree
	for i, part := range path {
		next := c.step(at, part, path[:i+1])
		if next == nil || next == at {
			return
		}
		at = next
	}
	if _, ok := v.Secret(); ok && schema.SecretSetting(schema.TypeZot, v.Path) {
		c.versionOf(at, path)
		return
	}
	c.check(at, n, path)
}

// step goes from a table to a key in it, and reports what is none. What is
// below a driver's table is taken as it is.
func (c *checker) step(at *tree, part string, path []string) *tree {
	next := at.child(part)
	switch {
	case next == nil && at.typ == Free:
		return at
	case next == nil && len(at.below) == 0:
		c.at(path, "there is no such key: "+join(path[:len(path)-1])+" is "+string(at.typ), "")
	case next == nil:
		names := at.names()
		slices.Sort(names)
		remedy := "it is one of " + strings.Join(names, ", ")
		if s := c.near.Of(part, names); s != "" {
			remedy = "did you mean " + s + "?"
		}
		c.at(path, "Zot has no such key, and does not start with it", remedy)
	case next.part == "*" && fold(part) != part:
		c.at(path, fmt.Sprintf("Zot turns the name %q into lower case without a word, and what names it otherwise never matches", part), "write "+strconv.Quote(fold(part)))
	case next.part == "*" && strings.Contains(part, "::"):
		c.at(path, fmt.Sprintf("Zot parts the name %q at its colons", part), "choose another")
	}
	return next
}

func (c *checker) check(t *tree, n *node, path []string) {
	if n.none() && !c.strict {
		return // as if it were not there
	}
	c.versionOf(t, path)
	n = n.open()
	switch t.typ {
	case Table, Named, Free:
		if n.kind != '{' {
			c.wrong(t, n, path)
			return
		}
		for _, it := range n.items {
			p := append(slices.Clip(path), unquote(it.key))
			if next := c.step(t, p[len(p)-1], p); next != nil && next != t {
				c.check(next, it.value, p)
			}
		}
	case Tables, Texts:
		if n.kind != '[' {
			if !c.strict && t.typ == Texts && n.kind == '"' {
				return // Zot makes a list of one
			}
			c.wrong(t, n, path)
			return
		}
		for i, it := range n.items {
			p := append(slices.Clip(path), strconv.Itoa(i))
			if t.typ == Texts {
				c.leaf(&tree{typ: Text}, it.value, p)
				continue
			}
			c.check(&tree{typ: Table, below: t.below}, it.value, p)
		}
	default:
		c.leaf(t, n, path)
	}
}

func (c *checker) versionOf(t *tree, path []string) {
	if t.key.Versions == "" || c.version == nil {
		return
	}
	if last := len(c.problems) - 1; last >= 0 && c.problems[last].Version && strings.HasPrefix(join(path), c.problems[last].Path+".") {
		return // said of the table around it
	}
	if in, err := semver.NewConstraint(t.key.Versions); err == nil && !in.Check(c.version) {
		c.found(path, Problem{Text: fmt.Sprintf("Zot %s does not start with this, which is of versions %s", c.version, t.key.Versions),
			Remedy: "leave it out, or run another version", Version: true})
	}
}

func (c *checker) wrong(t *tree, n *node, path []string) {
	what := n.text
	switch n.kind {
	case '{':
		what = "a table"
	case '[':
		what = "a list"
	case '"':
		what = "a text"
	}
	c.at(path, what+" stands here", "it is "+string(t.typ))
}

func (c *checker) leaf(t *tree, n *node, path []string) {
	if n.kind == '{' || n.kind == '[' {
		c.wrong(t, n, path)
		return
	}
	text := n.text
	if n.kind == '"' {
		text = unquote(n.text)
	}
	ok := true
	switch t.typ {
	case Text:
		if ok = n.kind == '"' || !c.strict; ok {
			c.login(text, path)
		}
	case Boolean:
		_, err := strconv.ParseBool(text)
		ok = text == "true" && n.kind == 't' || text == "false" && n.kind == 't' || !c.strict && err == nil
	case Integer:
		_, err := strconv.ParseInt(text, 10, 64)
		ok = err == nil && (n.kind == '0' || !c.strict)
	case Port:
		port, err := strconv.ParseUint(text, 10, 16)
		ok = err == nil && n.kind != 't' && (port > 0 || !c.strict)
	case Duration:
		c.duration(n, text, path)
		if d, err := time.ParseDuration(text); err == nil && d > 0 && d < leastScrub && c.strict && fold(join(path)) == "extensions.scrub.interval" {
			c.at(path, "Zot takes less than 2h for 2h", "write \"2h\" or more")
		}
	case Driver:
		if ok = n.kind == '"' && slices.Contains([]string{"s3", "gcs", "azure"}, text); ok && text != "s3" {
			c.versionOf(&tree{key: Key{Versions: later}}, path)
		}
	case Level:
		if !c.strict {
			text = strings.ToLower(text)
		}
		some := slices.Contains([]string{"", "disabled", "warning"}, text) // that a version knows
		if levels := levels(); n.kind != '"' || !slices.Contains(levels, text) && (c.strict || !some) {
			c.at(path, fmt.Sprintf("Zot does not start with the level %.40s, or crashes, even one that runs", n.text), "it is one of "+strings.Join(levels, ", "))
		}
	}
	if !ok {
		c.wrong(t, n, path)
	}
}

// leastScrub is the shortest interval that Zot scrubs at: it takes less for that,
// with a warning in its log.
const leastScrub = 2 * time.Hour

// levels are those that 2.1.6 and later versions know.
func levels() []string {
	return []string{"trace", "debug", "info", "warn", "error", "fatal", "panic"}
}

// duration refuses numbers, which Zot takes for nanoseconds, and texts that it
// cannot read.
func (c *checker) duration(n *node, text string, path []string) {
	if n.kind == '0' {
		i, ok := new(big.Int).SetString(text, 10)
		if !ok || !i.IsInt64() || i.Sign() <= 0 || i.Int64() > int64(1<<62)/int64(time.Second) {
			if ok && i.Sign() == 0 && !c.strict {
				return
			}
			c.at(path, "a number is no duration", `write one such as "1h"`)
			return
		}
		c.at(path, fmt.Sprintf("Zot counts a number in nanoseconds: %s would be %s", text, spoken(time.Duration(i.Int64()))),
			"write "+strconv.Quote(written(time.Duration(i.Int64())*time.Second)))
		return
	}
	d, err := time.ParseDuration(text)
	if n.kind == '"' && err == nil && d >= 0 {
		return
	}
	remedy := `write one such as "1h30m"`
	for unit, hours := range map[string]int{"d": 24, "w": 168} {
		number, ok := strings.CutSuffix(text, unit)
		if count, err := strconv.Atoi(number); ok && err == nil && count > 0 && count < 100_000 {
			remedy = fmt.Sprintf(`Zot knows no days and weeks: write "%dh"`, count*hours)
		}
	}
	c.at(path, fmt.Sprintf("%.40s is no duration", n.text), remedy)
}

// written is a duration as people write it.
func written(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// spoken is a duration with a space before its unit.
func spoken(d time.Duration) string {
	s := d.String()
	i := strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	return s[:i] + " " + s[i:]
}

// login refuses a password within a URL, where nothing hides it.
func (c *checker) login(text string, path []string) {
	if !c.strict || !strings.Contains(text, "@") {
		return
	}
	if u, err := url.Parse(text); err == nil && u.User != nil {
		if _, has := u.User.Password(); has {
			c.at(path, "a password stands in this URL", "take it out, and write it as a reference at the driver's key password")
		}
	}
}

// join is the way back.
func join(path []string) string {
	out := make([]string, len(path))
	for i, p := range path {
		out[i] = p
		if p == "" || strings.ContainsFunc(p, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
		}) {
			out[i] = quote(p)
		}
	}
	return strings.Join(out, ".")
}
