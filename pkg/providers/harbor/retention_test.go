package harbor_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
)

// policy is a project's retention policy as Harbor has it, and its id.
func policy(t *testing.T, h standIn, project string) (id, text string) {
	t.Helper()
	var p struct {
		Metadata map[string]string `json:"metadata"`
	}
	if err := json.Unmarshal([]byte(h.behind(t, "GET", "/projects/"+project, "")), &p); err != nil {
		t.Fatal(err)
	}
	id = p.Metadata["retention_id"]
	return id, h.behind(t, "GET", "/retentions/"+id, "")
}

const everyRule = `retention/a {"keep":[{"newest":3},{"newest_pulled":4,"tags":"v*"},{"pushed_within":"5d","repositories":"api/**"},
	{"pulled_within":"6d","tags":"!tmp-*","repositories":"!old/**"},{"always":true,"tags":"release-*"}],"untagged":true,"schedule":"0 3 * * *"}`

func TestKeepRulesAreHarborsTemplates(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	want := apply(t, p, "namespace/a", strings.ReplaceAll(everyRule, "\n\t", ""))
	id, text := policy(t, h, "a")
	for _, part := range []string{
		`"latestPushedK":3`, `"latestPulledN":4`, `"nDaysSinceLastPush":5`, `"nDaysSinceLastPull":6`, `"template":"always"`,
		`"decoration":"excludes"`, `"decoration":"repoExcludes"`, `"cron":"0 0 3 * * *"`,
	} {
		if !strings.Contains(text, part) {
			t.Errorf("the policy has no %s: %s", part, text)
		}
	}
	if n := strings.Count(text, `{\"untagged\":false}`); n != 4 {
		t.Errorf("%d of the four rules that match remove what has no tag: %s", n, text)
	}
	if n := strings.Count(text, `{\"untagged\":true}`); n != 1 { // Harbor's word for that where a rule excludes
		t.Errorf("%d of the rules that exclude remove what has no tag: %s", n, text)
	}

	// each by hand, one at a time
	for _, c := range []struct{ old, new, field string }{
		{`"cron":"0 0 3 * * *"`, `"cron":""`, `  schedule: "none" -> "0 0 3 * * *"`},
		{`"cron":"0 0 3 * * *"`, `"cron":"0 0 4 * * *"`, `  schedule: "0 0 4 * * *" -> "0 0 3 * * *"`},
		{`"latestPushedK":3`, `"latestPushedK":2`, "  keep: "},
		{`"nDaysSinceLastPull":6`, `"nDaysSinceLastPull":7`, "  keep: "},
		{`"decoration":"excludes","extras":"{\"untagged\":true}"`, `"decoration":"matches","extras":"{\"untagged\":false}"`, "  keep: "},
		{`"decoration":"repoExcludes"`, `"decoration":"repoMatches"`, "  keep: "},
		{`"pattern":"v*"`, `"pattern":"w*"`, "  keep: "},
		{`"pattern":"api/**"`, `"pattern":"**"`, "  keep: "},
		{`"template":"latestPulledN"`, `"template":"somethingNew"`, "  keep: "},
		{`"action":"retain"`, `"action":"retain","disabled":true`, "  keep: "},
	} {
		if !strings.Contains(text, c.old) {
			t.Fatalf("the policy has no %s: %s", c.old, text)
		}
		h.behind(t, "PUT", "/retentions/"+id, strings.Replace(text, c.old, c.new, 1))
		changes := compared(t, p, want)
		if got := told(changes); len(changes) != 1 || len(changes[0].Fields) != 1 || !strings.Contains(got, c.field) {
			t.Errorf("%s became %s; the plan is %s", c.old, c.new, got)
		}
		change(t, p, changes...)
		if rest := compared(t, p, want); len(rest) > 0 {
			t.Fatalf("%s became %s; a second plan is not empty: %s", c.old, c.new, told(rest))
		}
	}
	all := strings.NewReplacer(`{\"untagged\":false}`, `{\"untagged\":true}`, `{\"untagged\":true}`, `{\"untagged\":false}`).Replace(text)
	h.behind(t, "PUT", "/retentions/"+id, all)
	drifts(t, p, want, "update retention/a", "  untagged: false -> true")
	// of one rule: then the others say of themselves that they keep nothing without a tag
	h.behind(t, "PUT", "/retentions/"+id, strings.Replace(text, `{\"untagged\":true}`, `{\"untagged\":false}`, 1))
	changes := compared(t, p, want)
	if got := told(changes); len(changes) != 1 || strings.Count(got, `"tagged_only":true`) != 4 || !strings.Contains(got, "  untagged: false -> true") {
		t.Errorf("one rule keeps what has no tag; the plan is %s", got)
	}
	change(t, p, changes...)
	if rest := compared(t, p, want); len(rest) > 0 {
		t.Errorf("a second plan is not empty: %s", told(rest))
	}
}

// What is switched off, and what becomes of the untagged, is declared rule by rule.
func TestEachKeepRuleIsSwitchedAndTakesTheUntaggedForItself(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	want := apply(t, p, "namespace/a", `retention/a {"keep":[{"newest":3,"tagged_only":true},{"newest_pulled":4,"enabled":false},{"pushed_within":"5d","tags":"!tmp-*","tagged_only":true,"enabled":true}]}`)
	id, text := policy(t, h, "a")
	const off, keepsNone, keeps = `"disabled":true`, `{\"untagged\":false}`, `{\"untagged\":true}`
	if strings.Count(text, off) != 1 || strings.Count(text, keepsNone) != 1 || strings.Count(text, keeps) != 2 { // the other way round where a rule excludes
		t.Fatalf("the policy is %s", text)
	}
	for old, part := range map[string]struct {
		new, field string
		seen       bool
	}{
		`"disabled":true,`:  {"", `{"enabled":false,"newest_pulled":4}`, false},
		`"latestPushedK":3`: {`"latestPushedK":2`, `{"newest":2,"tagged_only":true}`, true},
		`"action":"retain","params":{"latestPushedK":3}`: {`"action":"retain","disabled":true,"params":{"latestPushedK":3}`, `{"enabled":false,"newest":3,"tagged_only":true}`, true},
		keepsNone: {keeps, `{"newest":3}`, true},
	} {
		if !strings.Contains(text, old) {
			t.Fatalf("the policy has no %s: %s", old, text)
		}
		h.behind(t, "PUT", "/retentions/"+id, strings.Replace(text, old, part.new, 1))
		changes := compared(t, p, want)
		if got := told(changes); len(changes) != 1 || len(changes[0].Fields) != 1 || strings.Contains(changes[0].Fields[0].Old, part.field) != part.seen {
			t.Errorf("%s became %s; the plan is %s", old, part.new, got)
		}
		change(t, p, changes...)
		if _, now := policy(t, h, "a"); now != text {
			t.Errorf("%s became %s, and then %s", old, part.new, now)
		}
	}
	// what is off keeps nothing: to take what has no tag, one must be on
	apply(t, p, "namespace/a", `retention/a {"keep":[{"newest":3,"enabled":false}],"untagged":true}`)
	if _, text := policy(t, h, "a"); strings.Count(text, keepsNone) != 2 || !strings.Contains(text, `"template":"always"`) {
		t.Errorf("what has no tag does not go: %s", text)
	}
	apply(t, p, "namespace/a", `retention/a {"keep":[{"newest":3,"tagged_only":true},{"newest":4,"tagged_only":true}]}`)
	if v := verdict(t, p, objects(t, `retention/a {"keep":[{"newest":3,"tagged_only":true}],"untagged":false}`)); !strings.Contains(v.Refused, "write untagged = true") {
		t.Errorf("a policy that says both is refused so: %q", v.Refused)
	}
	if rest := compared(t, p, objects(t, `retention/a {"keep":[{"newest":4},{"newest":3}],"untagged":true}`)); len(rest) > 0 {
		t.Errorf("said of all at once it is another: %s", told(rest))
	}
}

func TestNothingToKeepIsEverythingKept(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	for _, spec := range []string{`{"keep":[]}`, `{"keep":[],"untagged":true}`, `{"keep":[{"always":true}],"untagged":false}`, `{"keep":[{"newest":1}],"untagged":true}`, `{"keep":[],"untagged":true,"schedule":"@daily"}`} {
		apply(t, p, "namespace/a", "retention/a "+spec)
	}
	_, text := policy(t, h, "a")
	if !strings.Contains(text, `"template":"always"`) || !strings.Contains(text, `{\"untagged\":false}`) {
		t.Errorf("what has no tag does not go: %s", text)
	}
}

func TestAChangedScheduleKeepsRulesAsTheyAre(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a", `retention/a {"keep":[{"newest":1}]}`)
	id, text := policy(t, h, "a")
	odd := strings.Replace(text, `"template":"latestPushedK"`, `"template":"somethingNew"`, 1)
	h.behind(t, "PUT", "/retentions/"+id, odd)
	apply(t, p, "namespace/a", `retention/a {"schedule":"@weekly"}`)
	if _, text := policy(t, h, "a"); !strings.Contains(text, "somethingNew") || !strings.Contains(text, `"cron":"0 0 0 * * 0"`) {
		t.Errorf("the policy is %s", text)
	}
}

func TestAPolicyThatHarborCannotFindIsUnknown(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	want := apply(t, p, "namespace/a", "namespace/b", `retention/a {"keep":[{"newest":1}]}`, `retention/b {"keep":[{"newest":1}]}`)
	id, _ := policy(t, h, "a")
	h.Inject(harbortest.Fault{Method: "GET", Path: "/api/v2.0/retentions/" + id, Status: 500})
	st := read(t, p, "retention")
	if st.Scope.Covers(want.Resources[2].Key) || !st.Scope.Covers(want.Resources[3].Key) {
		t.Errorf("the scope is %v", st.Scope)
	}
	if rest := compared(t, p, want); len(rest) > 0 {
		t.Errorf("what cannot be read is made anew: %s", told(rest))
	}
}

func TestRulesThatHarborHasNotAreRefused(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a")
	many := strings.Repeat(`{"newest":1,"tags":"%d"},`, 16)
	for spec, why := range map[string]string{
		`{"keep":[{"newest":1,"pushed_within":"7d"}]}`:   "one condition",
		`{"keep":[{"pushed_within":"36h"}]}`:             "counts in days",
		`{"keep":[{"newest":1}],"schedule":"@every 7h"}`: "cron fields",
		`{"keep":[` + strings.TrimSuffix(fmt.Sprintf(many, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16), ",") + `]}`: "15 rules",
	} {
		if v := verdict(t, p, objects(t, "retention/a "+spec)); !strings.Contains(v.Refused, why) {
			t.Errorf("%s is refused so: %q, want %q", spec, v.Refused, why)
		}
	}
}
