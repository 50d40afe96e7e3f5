// Package retention says which tags of a repository stay, and why.
//
// Start with [Judge]. A tag stays if any rule keeps it, whatever the others
// say; a rule keeps the tags that meet all of its conditions. Judging is per
// repository and errs on the side of keeping: a tag whose push time is not
// known stays, a repository of which no rule speaks is left alone, and a clock
// set back removes nothing that the right time would have kept. Everything
// here is pure.
package retention

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/ocisync/ocisync/schema"
)

// Tag is one tag of a repository.
type Tag struct {
	Name string
	// Pushed is when the tag was pushed last; zero where that is not known.
	Pushed time.Time
	// Pulled is when it was pulled last; zero where it never was. A tag
	// counts as pulled when it was pushed, so that one just pushed does not
	// go before anybody had the time to pull it.
	Pulled time.Time
	// Fixed says why the tag stays whatever the rules say, or is "".
	Fixed string
	// Unobserved is set where nobody notes pulls.
	Unobserved bool
}

// Verdict says what becomes of one tag.
type Verdict struct {
	Tag  string
	Kept bool
	// Why is the rule that keeps the tag, the first in the order given, or
	// why none does.
	Why string
}

// fallback matches the tags by which clients without the referrers API find
// what refers to a digest, by the OCI distribution specification (1.1,
// "referrers tag schema") and, with an ending, by cosign.
var fallback = regexp.MustCompile(`^(sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128})(\.[a-z]+)?$`)

// Fallback reports whether a tag stands for the referrers of a digest. Such a
// tag is part of what it refers to and never judged by itself.
func Fallback(tag string) bool { return fallback.MatchString(tag) }

// Judge decides for the tags of one repository, given by its name below its
// namespace ("" for the repository that has the namespace's own name). The
// verdicts are in the order of the tags. Globs are those of doublestar, and
// one that is no pattern matches nothing. A rule that is switched off is none.
func Judge(rules []schema.KeepRule, repository string, tags []Tag, now time.Time) []Verdict {
	rules = Enabled(rules)
	out := make([]Verdict, len(tags))
	for i, t := range tags {
		out[i].Tag = t.Name
		switch {
		case Fallback(t.Name):
			out[i].Why = "stands for the referrers of a digest and goes when that has gone"
		case t.Fixed != "":
			out[i].Why = t.Fixed
		case t.Pushed.IsZero():
			out[i].Why = "its push time is not known"
		default:
			continue
		}
		out[i].Kept = true
	}
	spoken := false
	for _, r := range rules {
		if !matches(r.Repositories, repository) {
			continue
		}
		spoken = true
		keep(r, tags, now, out)
	}
	for i := range out {
		if out[i].Kept || out[i].Why != "" {
			continue
		}
		switch {
		case len(rules) == 0:
			out[i].Kept, out[i].Why = true, "there is no rule"
		case !spoken:
			out[i].Kept, out[i].Why = true, "no rule speaks of this repository"
		default:
			out[i].Why = gone(rules, repository, tags[i], now)
		}
	}
	return out
}

// Enabled are the rules that are not switched off.
func Enabled(rules []schema.KeepRule) []schema.KeepRule {
	return slices.DeleteFunc(slices.Clone(rules), func(r schema.KeepRule) bool { return bool(r.Disabled) })
}

func matches(glob, name string) bool {
	return glob == "" || doublestar.MatchUnvalidated(glob, name)
}

// keep marks the tags that a rule keeps and that nothing keeps yet.
func keep(r schema.KeepRule, tags []Tag, now time.Time, out []Verdict) {
	var selected []int
	for i, t := range tags {
		if !Fallback(t.Name) && !t.Pushed.IsZero() && matches(r.Tags, t.Name) {
			selected = append(selected, i)
		}
	}
	var pushed, pulled map[int]bool
	if !r.Always {
		pushed = newest(r.Newest, selected, tags, now, Tag.pushed)
		pulled = newest(r.NewestPulled, selected, tags, now, Tag.used)
	}
	why := Text(r)
	for _, i := range selected {
		if out[i].Kept {
			continue
		}
		t := tags[i]
		out[i].Kept = r.Always ||
			(r.Newest == 0 || pushed[i]) && (r.NewestPulled == 0 || pulled[i]) &&
				(r.PushedWithin == 0 || within(r.PushedWithin, t.pushed(), now)) &&
				(r.PulledWithin == 0 || within(r.PulledWithin, t.used(), now))
		if out[i].Kept {
			out[i].Why = why
			if !r.Always && (r.PulledWithin > 0 && !within(r.PulledWithin, t.Pulled, now) || r.NewestPulled > 0 && t.Pulled.IsZero()) {
				out[i].Why += ", a push counting as a pull"
			}
			if !r.Always && t.used().After(now.Add(Ahead)) {
				out[i].Why += ", as " + t.used().UTC().Format(time.DateOnly) + " is still to come: the clock was wrong when it was pushed or pulled, or is now"
			}
		}
	}
}

func (t Tag) pushed() time.Time { return t.Pushed }

// used is when the tag was pulled or, later or instead, pushed.
func (t Tag) used() time.Time {
	if t.Pulled.After(t.Pushed) {
		return t.Pulled
	}
	return t.Pushed
}

// Ahead is how far in the future a time may lie that is still taken for right:
// clocks are a little apart, and are set.
const Ahead = 24 * time.Hour

// within reports whether a time is at most so long ago. A future time counts
// as now.
func within(d schema.Duration, at, now time.Time) bool { return now.Sub(at) <= d.Std() }

// newest picks the n newest of the selected tags, those of one instant in the
// order of their names. A tag whose time lies in the future counts as now: it
// is among the newest and takes nobody's place, so that with a clock set back
// neither the tags of before nor those pushed since push the others out.
func newest(n int, selected []int, tags []Tag, now time.Time, at func(Tag) time.Time) map[int]bool {
	if n == 0 {
		return nil
	}
	in := map[int]bool{}
	var rest []int
	for _, i := range selected {
		if at(tags[i]).After(now) {
			in[i] = true
			continue
		}
		rest = append(rest, i)
	}
	slices.SortFunc(rest, func(a, b int) int {
		return cmp.Or(at(tags[b]).Compare(at(tags[a])), cmp.Compare(tags[a].Name, tags[b].Name))
	})
	for _, i := range rest[:min(n, len(rest))] {
		in[i] = true
	}
	return in
}

// gone says why no rule keeps a tag.
func gone(rules []schema.KeepRule, repository string, t Tag, now time.Time) string {
	var spoke []string
	for _, r := range rules {
		if matches(r.Repositories, repository) && matches(r.Tags, t.Name) {
			spoke = append(spoke, Text(r))
		}
	}
	if len(spoke) == 0 {
		return "no rule speaks of this tag"
	}
	why := "pushed " + ago(t.Pushed, now)
	switch {
	case t.Unobserved:
	case t.Pulled.IsZero():
		why += ", never pulled"
	default:
		why += ", pulled " + ago(t.Pulled, now)
	}
	return why + "; not kept by " + strings.Join(spoke, ", nor by ")
}

// ago prints a length of time in its largest whole unit.
func ago(at, now time.Time) string {
	d := max(now.Sub(at), 0)
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days ago", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours ago", d/time.Hour)
	}
	return fmt.Sprintf("%d minutes ago", d/time.Minute)
}

// Text prints a rule for reading: "newest 10 of tags v*".
func Text(r schema.KeepRule) string {
	var parts []string
	if r.Always {
		parts = append(parts, "always")
	}
	if r.Newest > 0 {
		parts = append(parts, fmt.Sprintf("newest %d", r.Newest))
	}
	if r.NewestPulled > 0 {
		parts = append(parts, fmt.Sprintf("newest %d by pull", r.NewestPulled))
	}
	if r.PushedWithin > 0 {
		parts = append(parts, "pushed within "+r.PushedWithin.String())
	}
	if r.PulledWithin > 0 {
		parts = append(parts, "pulled within "+r.PulledWithin.String())
	}
	text := strings.Join(parts, " and ")
	if text == "" {
		text = "every tag"
	}
	if r.Tags != "" {
		text += " of tags " + r.Tags
	}
	if r.Repositories != "" {
		text += " in repositories " + r.Repositories
	}
	return text
}
