package retention_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"pgregory.net/rapid"

	"github.com/ocisync/ocisync/pkg/retention"
	"github.com/ocisync/ocisync/schema"
)

// mode is a namespace with retention, and a mirror into it.
func mode(to string, tags *schema.TagSelect, keep ...schema.KeepRule) schema.State {
	return schema.State{Resources: []schema.Resource{
		{Key: schema.Key{Kind: schema.KindNamespace, Name: "team"}, Spec: &schema.Namespace{}},
		{Key: schema.Key{Kind: schema.KindNamespace, Name: "team/inner"}, Spec: &schema.Namespace{}},
		{Key: schema.Key{Kind: schema.KindRetention, Name: "team"}, Spec: &schema.Retention{Keep: keep}},
		{Key: schema.Key{Kind: schema.KindMirror, Name: "m"}, Spec: &schema.Mirror{To: &to, Tags: tags}},
	}}
}

func TestMirrorsThatRetentionUndoesAreTold(t *testing.T) {
	list := func(tags ...string) *schema.TagSelect { return &schema.TagSelect{List: schema.NewSet(tags...)} }
	glob := func(g string) *schema.TagSelect { return &schema.TagSelect{Glob: &g} }
	regex := func(r string) *schema.TagSelect { return &schema.TagSelect{Regex: &r} }
	newest := func(n int, g string) *schema.TagSelect { return &schema.TagSelect{Newest: &n, Glob: &g} }
	days := func(n int) schema.Duration { return schema.Duration(n * 86400) }
	for name, c := range map[string]struct {
		to   string
		tags *schema.TagSelect
		keep []schema.KeepRule
		want string // what the warning says, "" for none
	}{
		"tags that no rule speaks of":    {"", list("3.19", "edge"), []schema.KeepRule{{Tags: "3.*", Newest: 5}}, `no rule of it keeps "edge"`},
		"tags that all have a rule":      {"", list("3.19", "edge"), []schema.KeepRule{{Tags: "3.*", Newest: 5}, {Tags: "edge", Always: true}}, ""},
		"more tags than are kept":        {"", list("1", "2", "3"), []schema.KeepRule{{Newest: 2}}, `it brings 3 tags, and the retention of namespace "team" keeps at most 2`},
		"as many as are kept":            {"", list("1", "2", "3"), []schema.KeepRule{{Newest: 2}, {NewestPulled: 1}}, ""},
		"time decides":                   {"", list("1", "2", "3"), []schema.KeepRule{{Newest: 2}, {PulledWithin: days(1)}}, ""},
		"referrers of a digest":          {"", list("sha256-" + strings.Repeat("a", 64)), []schema.KeepRule{{Tags: "v*", Always: true}}, ""},
		"a glob of others":               {"", glob("v1.*"), []schema.KeepRule{{Tags: "{release,rc}-*", Always: true}}, "no rule of it keeps any such tag"},
		"a glob of which some are kept":  {"", glob("v1.*"), []schema.KeepRule{{Tags: "*.0", PulledWithin: days(1)}}, `would delete some of what it brings: it keeps only tags that match "*.0", and not one such as "v1.z"`},
		"a glob of which few are kept":   {"", glob("v1.*"), []schema.KeepRule{{Tags: "*.0", Newest: 1}}, "it brings every such tag, and the retention of namespace \"team\" keeps at most 1"},
		"everything, of which some stay": {"", nil, []schema.KeepRule{{Tags: "v*", Newest: 1}, {Tags: "edge", Always: true}}, `it keeps only tags that match "v*", "edge"`},
		"everything, of which few stay":  {"", nil, []schema.KeepRule{{Newest: 2}}, "keeps at most 2 of them"},
		"a glob that is kept":            {"", glob("v1.*"), []schema.KeepRule{{Tags: "v*", Always: true}}, ""},
		"a glob that is kept as it is":   {"", glob("v?.[0-9]"), []schema.KeepRule{{Tags: "v?.[0-9]", Always: true}}, ""},
		"a glob, by another rule too":    {"", glob("v1.*"), []schema.KeepRule{{Tags: "*.0", Newest: 1}, {PulledWithin: days(1)}}, ""},
		"a list that a glob narrows":     {"", &schema.TagSelect{List: schema.NewSet("v1", "v2"), Glob: new("v*")}, []schema.KeepRule{{Tags: "v*", Newest: 2}}, ""},
		"an expression of others":        {"", regex(`^release-\d+$`), []schema.KeepRule{{Tags: "v*", Always: true}}, "no rule of it keeps any such tag"},
		"an expression anywhere":         {"", regex(`release`), []schema.KeepRule{{Tags: "v*", Always: true}}, ""},
		"an expression of either":        {"", regex(`^v|^w`), []schema.KeepRule{{Tags: "w*", Always: true}}, ""},
		"an expression of any case":      {"", regex(`(?i)^V`), []schema.KeepRule{{Tags: "v*", Always: true}}, ""},
		"versions of others":             {"", &schema.TagSelect{Semver: new(">=1.4")}, []schema.KeepRule{{Tags: "latest", Always: true}}, "no rule of it keeps any such tag"},
		"versions":                       {"", &schema.TagSelect{Semver: new(">=1.4")}, []schema.KeepRule{{Tags: "v[0-9]*", Always: true}}, ""},
		"a newest too many":              {"", newest(10, "v*"), []schema.KeepRule{{Tags: "v1*", Newest: 3}, {Tags: "w*", Newest: 90}, {Tags: "*0", Newest: 4, PushedWithin: days(1)}}, "it brings 10 tags, and the retention of namespace \"team\" keeps at most 7"},
		"a newest that fits":             {"", newest(7, "v*"), []schema.KeepRule{{Tags: "v*", Newest: 3}, {Tags: "*0", Newest: 4}}, ""},
		"a newest of others too":         {"", newest(7, "v*"), []schema.KeepRule{{Tags: "v1*", Newest: 3}, {Tags: "*0", Newest: 4}}, `it keeps only tags that match "v1*", "*0"`},
		"the newest of a list":           {"", &schema.TagSelect{List: schema.NewSet("1", "2", "edge"), Newest: new(1)}, []schema.KeepRule{{Tags: "[0-9]", Newest: 1}}, ""},
		"a list, for a time":             {"", list("v1", "v2"), []schema.KeepRule{{PushedWithin: days(7)}}, `would delete "v1", "v2" some time after they came`},
		"everything, for a time":         {"", nil, []schema.KeepRule{{PushedWithin: days(7)}}, "keeps them for 7d"},
		"the newest, for a time":         {"", newest(3, "v*"), []schema.KeepRule{{PushedWithin: days(7)}}, "keeps them for 7d"},
		"a list, some for a time":        {"", list("v1", "v2", "v3"), []schema.KeepRule{{Newest: 2}, {PushedWithin: days(7)}}, "keeps at most 2 of them, and the others for 7d"},
		"a list, as many and for a time": {"", list("v1", "v2"), []schema.KeepRule{{Newest: 2}, {PushedWithin: days(7)}}, ""},
		"everything, some for a time":    {"", nil, []schema.KeepRule{{Newest: 2}, {PushedWithin: days(7)}}, "keeps at most 2 of them, and the others for 7d"},
		"a list, for a time or always":   {"", list("v1", "v2"), []schema.KeepRule{{Tags: "v1", Always: true}, {PushedWithin: days(7)}}, `would delete "v2" some time`},
		"for longer than they stay":      {"", &schema.TagSelect{Since: new(days(30))}, []schema.KeepRule{{PushedWithin: days(7)}}, "it brings tags for 30d, and the retention of namespace \"team\" keeps them for 7d"},
		"for as long as they stay":       {"", &schema.TagSelect{Since: new(days(30))}, []schema.KeepRule{{PushedWithin: days(7)}, {PushedWithin: days(30), Tags: "v*"}}, ""},
		"or while they are pulled":       {"", &schema.TagSelect{Since: new(days(30))}, []schema.KeepRule{{PushedWithin: days(7)}, {PulledWithin: days(7)}}, ""},
		"no rule at all":                 {"", list("edge"), nil, ""},
		"rules of other repositories":    {"", list("edge"), []schema.KeepRule{{Repositories: "tools/**", Tags: "v*", Newest: 1}}, ""},
		"a rule of the repository":       {"", list("edge"), []schema.KeepRule{{Repositories: "apps/*", Tags: "v*", Newest: 1}}, `"edge"`},
		"the namespace's own repository": {"team", list("edge"), []schema.KeepRule{{Tags: "v*", Newest: 1}}, `"edge"`},
		"a namespace within it":          {"team/inner/a", list("edge"), []schema.KeepRule{{Tags: "v*", Newest: 1}}, ""},
		"another namespace":              {"teams/a", list("edge"), []schema.KeepRule{{Tags: "v*", Newest: 1}}, ""},
	} {
		to := c.to
		if to == "" {
			to = "team/apps/web"
		}
		got := ""
		for _, clash := range retention.Clashes(mode(to, c.tags, c.keep...)) {
			got += clash.Why
			if clash.Mirror.Key.Name != "m" || clash.Retention.Key.Name != "team" || clash.Remedy == "" {
				t.Errorf("%s: %+v", name, clash)
			}
		}
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestImmutableTagsOutliveRetention(t *testing.T) {
	st := mode("team/a", &schema.TagSelect{List: schema.NewSet("edge")}, schema.KeepRule{Tags: "v*", Newest: 1})
	st.Resources = append(st.Resources, schema.Resource{Key: schema.Key{Kind: schema.KindImmutable, Name: "team"}, Spec: &schema.Immutable{Rules: []schema.ImmutableRule{{Tags: "e*"}}}})
	if got := retention.Clashes(st); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	st.Resources[len(st.Resources)-1].Spec = &schema.Immutable{Rules: []schema.ImmutableRule{{Tags: "e*", Disabled: true}}}
	if got := retention.Clashes(st); len(got) != 1 {
		t.Errorf("a rule that is switched off fixes a tag: %+v", got)
	}
}

// words are tags of up to three letters.
func words() (out []string) {
	last := []string{""}
	for range 3 {
		var next []string
		for _, w := range last {
			for _, c := range "abc01z" {
				next = append(next, w+string(c))
			}
		}
		out, last = append(out, next...), next
	}
	return out
}

// TestAWarningIsNeverWrong judges the tags of a mirror a month after they came, whenever
// that was: where a warning stands, some of them go.
func TestAWarningIsNeverWrong(t *testing.T) {
	warned := 0
	rapid.Check(t, func(t *rapid.T) {
		globs := []string{"", "*", "a*", "{a,b}", "[a-b]?", "[!a]*", "b", "*1", "a1"}
		rule := rapid.Custom(func(t *rapid.T) schema.KeepRule {
			r := schema.KeepRule{Tags: rapid.SampledFrom(globs).Draw(t, "glob")}
			switch rapid.IntRange(0, 3).Draw(t, "rule") {
			case 0:
				r.Newest = rapid.IntRange(1, 3).Draw(t, "newest")
			case 1:
				r.NewestPulled = rapid.IntRange(1, 3).Draw(t, "pulled")
			case 2:
				r.PushedWithin = 86400
			default:
				r.Always = true
			}
			return r
		})
		keep := rapid.SliceOfN(rule, 1, 3).Draw(t, "keep")
		names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "a1", "b1", "c", "ab", "1"}), 1, 6, rapid.ID[string]).Draw(t, "tags")
		selected := &schema.TagSelect{List: schema.NewSet(names...)}
		if rapid.Bool().Draw(t, "by glob") {
			g := rapid.SampledFrom(globs[1:]).Draw(t, "selected")
			selected = &schema.TagSelect{Glob: &g}
			names = names[:0] // all that it may be
			for _, n := range words() {
				if doublestar.MatchUnvalidated(g, n) {
					names = append(names, n)
				}
			}
		}
		var tags []retention.Tag
		for i, n := range names {
			age, pulled := i%4+1, i%3
			if i < 6 {
				age = rapid.IntRange(1, 4).Draw(t, fmt.Sprint("age ", i))
				pulled = rapid.IntRange(0, 3).Draw(t, fmt.Sprint("pull ", i))
			}
			tag := aged(n, age)
			tag.Pulled = tag.Pushed.Add(time.Duration(pulled) * time.Hour)
			tags = append(tags, tag)
		}
		if len(retention.Clashes(mode("team/a", selected, keep...))) == 0 || len(tags) == 0 {
			return
		}
		warned++
		if !slices.ContainsFunc(retention.Judge(keep, "a", tags, noon().AddDate(0, 1, 0)), func(v retention.Verdict) bool { return !v.Kept }) {
			t.Fatalf("all of %v stay", names)
		}
	})
	if warned == 0 {
		t.Error("no warning was tried")
	}
}
