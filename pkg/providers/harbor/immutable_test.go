package harbor_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
)

func TestImmutableRulesAreASet(t *testing.T) {
	h := newStandIn(t, harbortest.Options{FirstID: 100})
	p := h.open(t)
	want := apply(t, p, "namespace/a", `immutable/a {"rules":[{"tags":"v*"},{"tags":"release-*","repositories":"api"}]}`)
	rules := func() []map[string]json.RawMessage {
		var list []map[string]json.RawMessage
		if err := json.Unmarshal([]byte(h.behind(t, "GET", "/projects/a/immutabletagrules", "")), &list); err != nil {
			t.Fatal(err)
		}
		return list
	}
	put := func(set string) { // of the rule of v*
		for _, r := range rules() {
			var tags []struct{ Pattern string }
			if err := json.Unmarshal(r["tag_selectors"], &tags); err != nil {
				t.Fatal(err)
			}
			if tags[0].Pattern != "v*" {
				continue
			}
			var over map[string]json.RawMessage
			if err := json.Unmarshal([]byte(set), &over); err != nil {
				t.Fatal(err)
			}
			for k, v := range over {
				r[k] = v
			}
			body, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			h.behind(t, "PUT", fmt.Sprintf("/projects/a/immutabletagrules/%s", r["id"]), string(body))
			return
		}
		t.Fatal("there is no rule of v*")
	}
	const both = `[{"repositories":"api","tags":"release-*"},{"tags":"v*"}]`

	put(`{"disabled":true}`)
	h.Forget()
	drifts(t, p, want, "update immutable/a", `  rules: [{"enabled":false,"tags":"v*"},{"repositories":"api","tags":"release-*"}] -> `+both)
	if n := h.count("PUT", ""); n != 1 || h.count("POST", "/projects/a/immutable") != 0 || h.count("DELETE", "") != 0 {
		t.Errorf("a rule that was switched off is switched on by %d PUT", n)
	}

	put(`{"scope_selectors":{"repository":[{"kind":"doublestar","decoration":"repoExcludes","pattern":"x"}]}}`)
	drifts(t, p, want, "update immutable/a", `  rules: [{"repositories":"!x","tags":"v*"},{"repositories":"api","tags":"release-*"}] -> `+both)
	if n := len(rules()); n != 2 {
		t.Errorf("there are %d rules", n)
	}
	h.behind(t, "POST", "/projects/a/immutabletagrules", `{"action":"immutable","template":"immutable_template","tag_selectors":[{"kind":"doublestar","decoration":"matches","pattern":"**"}],"scope_selectors":{"repository":[{"kind":"doublestar","decoration":"repoMatches","pattern":"**"}]}}`)
	drifts(t, p, want, "update immutable/a", `  rules: [{"repositories":"api","tags":"release-*"},{"tags":"**"},{"tags":"v*"}] -> `+both)
	h.Forget()
	want = apply(t, p, `immutable/a {"rules":[{"tags":"v*","enabled":false},{"tags":"w*","enabled":false},{"tags":"w*","repositories":"api","enabled":true}]}`)
	if n := h.count("PUT", ""); n != 2 {
		t.Errorf("a rule is switched off, and one made that is off, by %d PUT", n)
	}
	put(`{"disabled":false}`)
	drifts(t, p, want, "update immutable/a", `  rules: [{"enabled":false,"tags":"w*"},{"repositories":"api","tags":"w*"},{"tags":"v*"}] -> [{"enabled":false,"tags":"v*"},{"enabled":false,"tags":"w*"},{"repositories":"api","tags":"w*"}]`)
	apply(t, p, `immutable/a {"rules":[{"tags":"w*","enabled":false},{"tags":"w*"}]}`) // on and off is on
	if n := len(rules()); n != 1 {
		t.Errorf("there are %d rules", n)
	}
	apply(t, p, `immutable/a {"rules":[]}`)
	if n := len(rules()); n != 0 {
		t.Errorf("%d rules are left", n)
	}
}
