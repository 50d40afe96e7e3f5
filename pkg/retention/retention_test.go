package retention_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ocisync/ocisync/pkg/retention"
	"github.com/ocisync/ocisync/schema"
)

const day = 24 * time.Hour

func noon() time.Time { return time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC) }

func aged(name string, days int) retention.Tag {
	return retention.Tag{Name: name, Pushed: noon().Add(-time.Duration(days) * day)}
}

func kept(vs []retention.Verdict) string {
	var names []string
	for _, v := range vs {
		if v.Kept {
			names = append(names, v.Tag)
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func TestRulesKeepWhatTheySay(t *testing.T) {
	d := func(days int) schema.Duration { return schema.Duration(days * 86400) }
	pulled := aged("old-pulled", 50)
	pulled.Pulled = noon().Add(-day)
	fixed := aged("fixed", 99)
	fixed.Fixed = "immutable"
	tags := []retention.Tag{
		aged("a", 1), aged("b", 2), aged("v1", 10), aged("v2", 5), pulled, fixed,
		{Name: "unknown"}, aged("sha256-"+strings.Repeat("a", 64), 400),
	}
	always := " fixed sha256-" + strings.Repeat("a", 64) + " unknown"
	join := func(s string) string {
		all := strings.Fields(s + always)
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	tests := []struct {
		name  string
		rules []schema.KeepRule
		want  string
	}{
		{"newest", []schema.KeepRule{{Newest: 2}}, "a b"},
		{"what is switched off keeps nothing", []schema.KeepRule{{Newest: 2}, {Always: true, Disabled: true}}, "a b"},
		{"all switched off are no rules", []schema.KeepRule{{Newest: 2, Disabled: true}}, "a b old-pulled v1 v2"},
		{"newest of a glob counts its own", []schema.KeepRule{{Newest: 1, Tags: "v*"}}, "v2"},
		{"pushed within, the limit included", []schema.KeepRule{{PushedWithin: d(5)}}, "a b v2"},
		{"pulled within, a push counting as a pull", []schema.KeepRule{{PulledWithin: d(2)}}, "a b old-pulled"},
		{"newest by pull", []schema.KeepRule{{NewestPulled: 2}}, "a old-pulled"},
		{"all conditions of one rule", []schema.KeepRule{{Newest: 3, PushedWithin: d(1)}}, "a"},
		{"any of two rules", []schema.KeepRule{{Newest: 1}, {Tags: "v1", Always: true}}, "a v1"},
		{"always, whatever else the rule says", []schema.KeepRule{{Always: true, Newest: 1, Tags: "v*"}}, "v1 v2"},
		{"a tag no rule speaks of goes", []schema.KeepRule{{Tags: "zzz", Always: true}}, ""},
		{"no rules", []schema.KeepRule{}, "a b v1 v2 old-pulled"},
		{"a repository no rule speaks of", []schema.KeepRule{{Newest: 1, Repositories: "web/**"}}, "a b v1 v2 old-pulled"},
		{"repositories by the name below the namespace", []schema.KeepRule{{Newest: 1, Repositories: "api/*"}, {Newest: 4, Repositories: "web/**"}}, "a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := retention.Judge(tt.rules, "api/server", tags, noon())
			if d := cmp.Diff(join(tt.want), kept(got)); d != "" {
				t.Error(d)
			}
			for i, v := range got {
				if v.Tag != tags[i].Name || v.Why == "" {
					t.Errorf("verdict %d: tag %q, why %q", i, v.Tag, v.Why)
				}
			}
		})
	}
}

func TestVerdictsNameTheRuleOrWhatIsLacking(t *testing.T) {
	tags := []retention.Tag{aged("new", 1), aged("old", 100), aged("other", 3)}
	got := retention.Judge([]schema.KeepRule{{Newest: 1, Tags: "[no]*", Repositories: "*"}, {PushedWithin: 90 * 86400, Tags: "o*d"}}, "api", tags, noon())
	want := []retention.Verdict{
		{Tag: "new", Kept: true, Why: "newest 1 of tags [no]* in repositories *"},
		{Tag: "old", Why: "pushed 100 days ago, never pulled; not kept by newest 1 of tags [no]* in repositories *, nor by pushed within 90d of tags o*d"},
		{Tag: "other", Why: "pushed 3 days ago, never pulled; not kept by newest 1 of tags [no]* in repositories *"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestAVerdictSaysWhereAPushCountsAsAPull: nobody is told of a pull that never was.
func TestAVerdictSaysWhereAPushCountsAsAPull(t *testing.T) {
	pulled := aged("pulled", 3)
	pulled.Pulled = noon().Add(-time.Hour)
	tags := []retention.Tag{aged("fresh", 1), pulled}
	for _, tt := range []struct {
		rule         schema.KeepRule
		fresh, older string
	}{
		{schema.KeepRule{PulledWithin: 2 * 86400}, "pulled within 2d, a push counting as a pull", "pulled within 2d"},
		{schema.KeepRule{NewestPulled: 2}, "newest 2 by pull, a push counting as a pull", "newest 2 by pull"},
		{schema.KeepRule{PushedWithin: 5 * 86400}, "pushed within 5d", "pushed within 5d"},
	} {
		got := retention.Judge([]schema.KeepRule{tt.rule}, "api", tags, noon())
		want := []retention.Verdict{{Tag: "fresh", Kept: true, Why: tt.fresh}, {Tag: "pulled", Kept: true, Why: tt.older}}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
}

func TestTiesAreDecidedByName(t *testing.T) {
	tags := []retention.Tag{aged("c", 1), aged("a", 1), aged("b", 1)}
	if got := kept(retention.Judge([]schema.KeepRule{{Newest: 2}}, "", tags, noon())); got != "a b" {
		t.Errorf("kept %q, want a b", got)
	}
}

func TestFallbackTagsAreKnown(t *testing.T) {
	hex := strings.Repeat("0123456789abcdef", 4)
	for tag, want := range map[string]bool{
		"sha256-" + hex: true, "sha256-" + hex + ".sig": true, "sha512-" + hex + hex: true,
		"sha256-" + hex[:63]: false, "sha256-" + hex + hex: false, "v1": false, "x-sha256-" + hex: false, "sha256-" + strings.ToUpper(hex): false,
	} {
		if got := retention.Fallback(tag); got != want {
			t.Errorf("Fallback(%q) is %v", tag, got)
		}
	}
}

func genRule(t *rapid.T) schema.KeepRule {
	days := func() schema.Duration { return schema.Duration(rapid.IntRange(1, 40).Draw(t, "days") * 86400) }
	r := schema.KeepRule{Tags: rapid.SampledFrom([]string{"", "a*", "*1*", "{a,b}*"}).Draw(t, "glob")}
	for range rapid.IntRange(1, 2).Draw(t, "conditions") {
		switch rapid.IntRange(0, 4).Draw(t, "condition") {
		case 0:
			r.Newest = rapid.IntRange(1, 6).Draw(t, "newest")
		case 1:
			r.NewestPulled = rapid.IntRange(1, 6).Draw(t, "newest pulled")
		case 2:
			r.PushedWithin = days()
		case 3:
			r.PulledWithin = days()
		case 4:
			r.Always = rapid.IntRange(0, 5).Draw(t, "always") == 0
		}
	}
	if r == (schema.KeepRule{Tags: r.Tags}) {
		r.Newest = 1
	}
	return r
}

func genTags(t *rapid.T) []retention.Tag {
	at := func(what string) time.Time {
		return noon().Add(time.Duration(rapid.IntRange(-40, 5).Draw(t, what)) * day)
	}
	var tags []retention.Tag
	names := rapid.SliceOfNDistinct(rapid.StringMatching(`[abc][0-9]`), 0, 20, rapid.ID[string]).Draw(t, "names")
	for _, n := range names {
		tag := retention.Tag{Name: n, Pushed: at("pushed")}
		if rapid.Bool().Draw(t, "was pulled") {
			tag.Pulled = at("pulled")
		}
		tags = append(tags, tag)
	}
	return tags
}

func removed(vs []retention.Verdict) map[string]bool {
	out := map[string]bool{}
	for _, v := range vs {
		if !v.Kept {
			out[v.Tag] = true
		}
	}
	return out
}

func subset(t *rapid.T, what string, small, large map[string]bool) {
	for name := range small {
		if !large[name] {
			t.Fatalf("%s removes %s too", what, name)
		}
	}
}

func TestAddingARuleNeverRemovesMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := rapid.SliceOfN(rapid.Custom(genRule), 1, 4).Draw(t, "rules")
		tags, more := genTags(t), genRule(t)
		before := removed(retention.Judge(rules, "r", tags, noon()))
		subset(t, "one rule more", removed(retention.Judge(append(slices.Clone(rules), more), "r", tags, noon())), before)
	})
}

func TestATagStaysIfAnyRuleAloneKeepsIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := rapid.SliceOfN(rapid.Custom(genRule), 1, 4).Draw(t, "rules")
		tags := genTags(t)
		together := retention.Judge(rules, "r", tags, noon())
		for i := range tags {
			alone := slices.ContainsFunc(rules, func(r schema.KeepRule) bool {
				return retention.Judge([]schema.KeepRule{r}, "r", tags, noon())[i].Kept
			})
			if alone != together[i].Kept {
				t.Fatalf("%s: kept by one rule alone: %v; by all: %v", tags[i].Name, alone, together[i].Kept)
			}
		}
	})
}

func TestOrderOfTagsAndRulesMeansNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := rapid.SliceOfN(rapid.Custom(genRule), 1, 4).Draw(t, "rules")
		tags := genTags(t)
		before := removed(retention.Judge(rules, "r", tags, noon()))
		after := removed(retention.Judge(rapid.Permutation(rules).Draw(t, "rules again"), "r", rapid.Permutation(tags).Draw(t, "tags again"), noon()))
		if d := cmp.Diff(before, after); d != "" {
			t.Fatal(d)
		}
	})
}

func TestAClockSetBackRemovesNothingMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := rapid.SliceOfN(rapid.Custom(genRule), 1, 4).Draw(t, "rules")
		tags := genTags(t)
		back := noon().Add(-time.Duration(rapid.IntRange(0, 60).Draw(t, "days back")) * day)
		subset(t, "the clock set back", removed(retention.Judge(rules, "r", tags, back)), removed(retention.Judge(rules, "r", tags, noon())))
	})
}

func BenchmarkJudge100000Tags(b *testing.B) {
	tags := make([]retention.Tag, 100_000)
	for i := range tags {
		tags[i] = aged(fmt.Sprintf("v%d", i), i%1000)
	}
	rules := []schema.KeepRule{{Newest: 100}, {PushedWithin: 90 * 86400}, {Tags: "v*0", NewestPulled: 10}}
	for b.Loop() {
		retention.Judge(rules, "api", tags, noon())
	}
}
