package harbor_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

const (
	fetches = `preheat_policy/a/releases {"instance":"p2p","description":"d","repositories":"api/**","tags":"v*","labels":["base","prod"],` +
		`"trigger":{"schedule":"0 2 * * *"},"scope":"all-seed-peers","enabled":true}`
	fetchedAt = "/projects/a/preheat/policies/releases"
)

// words is a text of a policy's as the body of a request has it.
func words(t testing.TB, text string) json.RawMessage {
	t.Helper()
	out, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEachChangeOfAPreheatPolicyByHandIsSeen(t *testing.T) {
	h := newStandIn(t, harbortest.Options{FirstID: 1000})
	p := h.open(t)
	want := apply(t, p, "namespace/a", peers, fetches)
	h.behind(t, http.MethodPost, "/p2p/preheat/instances", `{"name":"other","vendor":"dragonfly","endpoint":"https://other.example.com","enabled":true}`)
	const filters = `{"type":"tag","value":"v*"},{"type":"label","value":"prod,base"}`
	for _, c := range []struct{ field, value, line string }{
		{"provider_id", `1002`, `instance: "other" -> "p2p"`},
		{"description", `"x"`, `description: "x" -> "d"`},
		{"enabled", `false`, `enabled: false -> true`},
		{"trigger", `"{\"type\":\"manual\"}"`, `trigger: "manual" -> {"schedule":"0 0 2 * * *"}`},
		{"trigger", `"{\"type\":\"event_based\"}"`, `trigger: "push" -> {"schedule":"0 0 2 * * *"}`},
		{"trigger", `"{\"type\":\"scheduled\",\"trigger_setting\":{\"cron\":\"0 0 3 * * *\"}}"`, `trigger: {"schedule":"0 0 3 * * *"} -> {"schedule":"0 0 2 * * *"}`},
		{"extra_attrs", `"{\"scope\":\"all_peers\"}"`, `scope: "all-peers" -> "all-seed-peers"`},
		{"extra_attrs", `"{}"`, `scope:  -> "all-seed-peers"`},
		{"filters", string(words(t, `[{"type":"repository","value":"web"},`+filters+`]`)), `repositories: "web" -> "api/**"`},
		{"filters", string(words(t, `[{"type":"repository","value":"web"},{"type":"repository","value":"api/**"},`+filters+`]`)), `repositories: "web and api/**" -> "api/**"`},
		{"filters", string(words(t, `[`+filters+`]`)), `repositories: "**" -> "api/**"`},
		{"filters", string(words(t, `[{"type":"repository","value":"api/**"},{"type":"tag","value":7},{"type":"label","value":"prod,base"}]`)), `tags: "7" -> "v*"`},
		{"filters", string(words(t, `[{"type":"repository","value":"api/**"},{"type":"tag","value":"v*"},{"type":"label","value":"{base,prod}"}]`)), `labels: ["prod}","{base"] -> ["base","prod"]`},
		{"filters", string(words(t, `[{"type":"repository","value":"api/**"},{"type":"tag","value":"v*"}]`)), `labels: [] -> ["base","prod"]`},
	} {
		body := h.asWritten(t, fetchedAt)
		body[c.field] = json.RawMessage(c.value)
		h.put(t, fetchedAt, body)
		drifts(t, p, want, "update preheat_policy/a/releases", "  "+c.line)
	}
	h.behind(t, http.MethodDelete, fetchedAt, "")
	drifts(t, p, want, "create preheat_policy/a/releases")
}

// Filters, trigger and attributes are JSON in texts: what no mode speaks of stays in
// them, and of what holds not a byte changes.
func TestAPreheatPolicyKeepsWhatIsNotManaged(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a", peers, fetches)
	body := h.asWritten(t, fetchedAt)
	texts := map[string]string{
		"filters":     `[{"type":"vulnerability", "value":3},{"type":"repository","value":"api/**"},{"type":"tag","value":"v*"},{"type":"label","value":"base,prod"}]`,
		"trigger":     `{"more": 1, "type":"event_based"}`,
		"extra_attrs": `{"cluster_ids": [1, 2],"scope":"all_peers"}`,
	}
	for field, text := range texts {
		body[field] = words(t, text)
	}
	h.put(t, fetchedAt, body)
	apply(t, p, `preheat_policy/a/releases {"instance":"p2p","description":"other"}`)
	for field, want := range texts {
		if have := h.asWritten(t, fetchedAt)[field]; string(have) != string(words(t, want)) {
			t.Errorf("%s is %s, want %s", field, have, words(t, want))
		}
	}
	apply(t, p, `preheat_policy/a/releases {"instance":"p2p","tags":"w*","trigger":"manual","scope":"single-seed-peer"}`)
	now := h.asWritten(t, fetchedAt)
	for field, parts := range map[string][]string{
		"filters":     {`{"type":"vulnerability","value":3}`, `"api/**"`, `"base,prod"`, `{"type":"tag","value":"w*"}`},
		"trigger":     {`"more":1`, `"type":"manual"`},
		"extra_attrs": {`"cluster_ids":[1,2]`, `"scope":"single_seed_peer"`},
		"description": {`other`}, "enabled": {"true"},
	} {
		for _, part := range parts {
			if quoted := strings.Trim(string(words(t, part)), `"`); !strings.Contains(string(now[field]), quoted) {
				t.Errorf("%s is %s, without %s", field, now[field], part)
			}
		}
	}
}

// Harbor runs no policy that has no filter.
func TestAPreheatPolicyOfEverythingSaysSo(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	want := apply(t, p, "namespace/a", peers, `preheat_policy/a/releases {"instance":"p2p","repositories":"","tags":"**"}`)
	const all = `[{"type":"repository","value":"**"},{"type":"tag","value":"**"}]`
	body := h.asWritten(t, fetchedAt)
	if string(body["filters"]) != string(words(t, all)) {
		t.Errorf("the filters are %s", body["filters"])
	}
	body["filters"] = words(t, "[]")
	h.put(t, fetchedAt, body)
	drifts(t, p, want, "update preheat_policy/a/releases", `  repositories:  -> "**"`, `  tags:  -> "**"`)
}

func TestPreheatPoliciesThatHarborHasNotAreRefused(t *testing.T) {
	p := newStandIn(t, harbortest.Options{}).open(t)
	apply(t, p, "namespace/a", `preheat/k {"vendor":"kraken","url":"https://k.example.com"}`)
	for line, why := range map[string]string{
		`preheat_policy/a/x {"instance":"nowhere"}`:                                               "there is no preheat/nowhere; declare it as [preheat.nowhere]",
		`preheat_policy/a/x {"instance":"k","scope":"all-peers"}`:                                 "preheat/k is of kraken",
		`preheat_policy/a/not_._one {"instance":"k"}`:                                             "letters and digits",
		`preheat_policy/a/x {"instance":"k","tags":"!v*"}`:                                        "without !",
		`preheat_policy/a/x {"instance":"k","repositories":"!v*"}`:                                "without !",
		`preheat_policy/a/x {"instance":"k","labels":["a,b"]}`:                                    "without ! and commas",
		`preheat_policy/a/x {"instance":"k","trigger":{"schedule":"30 0 2 * * *"}}`:               "seconds",
		`preheat_policy/a/x {"instance":"k","trigger":{"schedule":"@daily","zone":"Asia/Tokyo"}}`: "in UTC",
		`preheat_policy/a/x {"instance":"k","tags":"` + strings.Repeat("x", 1000) + `"}`:          "keeps 1024 characters of filters",
		`preheat_policy/a/x {"instance":"k","description":"` + strings.Repeat("x", 1025) + `"}`:   "keeps 1024 characters of a description",
	} {
		if v := verdict(t, p, objects(t, line)); !strings.Contains(v.Refused, why) {
			t.Errorf("%s is refused so: %q, want %q", line, v.Refused, why)
		}
	}
	// every minute it may run
	apply(t, p, `preheat_policy/a/x {"instance":"k","trigger":{"schedule":"* * * * *"}}`)
	old := newStandIn(t, harbortest.Options{Version: "v2.12.4-1"}).open(t)
	apply(t, old, "namespace/a", peers, `preheat_policy/a/x {"instance":"p2p","trigger":"push"}`)
	if v := verdict(t, old, objects(t, `preheat_policy/a/x {"instance":"p2p","scope":"all-peers"}`)); !strings.Contains(v.Refused, "since version 2.13") {
		t.Errorf("a scope is refused so: %q", v.Refused)
	}
}

func TestAPreheatPolicyIsRenamed(t *testing.T) {
	h := newStandIn(t, harbortest.Options{FirstID: 1000})
	p := h.open(t)
	apply(t, p, "namespace/a", peers, fetches)
	before, _ := read(t, p, schema.KindPreheatPolicy).Get(schema.Key{Kind: schema.KindPreheatPolicy, Name: "a/releases"})
	want := objects(t, strings.Replace(strings.Replace(fetches, "a/releases", "a/next", 1), `"d"`, `"e"`, 1))
	norm, _, err := p.Normalize(want)
	if err != nil {
		t.Fatal(err)
	}
	c := plan.Change{Action: plan.Rename, Key: norm.Resources[0].Key, Before: &before, After: &norm.Resources[0]}
	v, err := p.Prepare(t.Context(), []plan.Change{c})
	if err != nil || v[0].Refused != "" {
		t.Fatalf("it is refused so: %v, %v", v, err)
	}
	for range 2 { // the second finds it done
		change(t, p, c)
	}
	if rest := compared(t, p, want); len(rest) > 0 {
		t.Errorf("a second plan is not empty: %s", told(rest))
	}
	if text := h.behind(t, http.MethodGet, "/projects/a/preheat/policies", ""); strings.Count(text, `"id":`) != 1 || !strings.Contains(text, `"id":1001`) {
		t.Errorf("the policies are %s", text)
	}
	apply(t, p, fetches)
	says(t, failed(t, p, c), providers.ErrConflict, "another has the new name by now", "plan again")
	h.behind(t, http.MethodDelete, "/projects/a/preheat/policies/next", "")
	h.behind(t, http.MethodDelete, fetchedAt, "")
	says(t, failed(t, p, c), providers.ErrNotFound, "gone by now")
}

func TestPreheatPoliciesThatOneMayNotSeeAreUnknown(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a", "namespace/b", peers, fetches)
	key := schema.Key{Kind: schema.KindPreheatPolicy, Name: "a/releases"}
	h.Inject(harbortest.Fault{Method: http.MethodGet, Path: "/api/v2.0/projects/a/preheat/policies", Status: http.StatusForbidden})
	st := read(t, h.open(t), schema.KindPreheatPolicy)
	if st.Scope.Covers(key) || !st.Scope.Covers(schema.Key{Kind: schema.KindPreheatPolicy, Name: "b/x"}) {
		t.Errorf("what was not read is taken for absent, or what was for unknown: %+v", st.Scope)
	}
}

// A robot needs the rights on policies of the project, and to list instances where it
// names one.
func TestARobotPreheats(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	const may = `{"namespace":"a","resource":"preheat-policy","action":"list"},{"namespace":"a","resource":"preheat-policy","action":"create"},{"namespace":"a","resource":"preheat-policy","action":"update"},{"resource":"project","action":"list"}`
	const lists = `,{"resource":"preheat-instance","action":"list"}`
	as := func(robot, rights string) providers.Provider {
		apply(t, p, "namespace/a", peers, `robot/`+robot+` {"permissions":[`+rights+`],"secret":{"value":`+secretA+`}}`)
		r := h.registry
		r.Login = &schema.Login{Robot: &robot, Password: &schema.SecretRef{Env: providertest.SecretA}}
		return standIn{h.Server, r}.open(t)
	}
	apply(t, as("may", may+lists), fetches)
	less := as("less", may)
	if v := verdict(t, less, objects(t, `preheat_policy/a/other {"instance":"p2p"}`)); !strings.Contains(v.Refused, "preheat-instance:list") {
		t.Errorf("it is refused so: %q", v.Refused)
	}
	// what keeps its instance needs none
	apply(t, less, strings.Replace(fetches, `"d"`, `"e"`, 1))
}

// Of a policy that somebody else changed since the plan nothing is overwritten.
func TestAPreheatPolicyThatChangedSinceIsLeft(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a", peers, fetches)
	late := compared(t, p, objects(t, strings.Replace(fetches, `"d"`, `"e"`, 1)))
	body := h.asWritten(t, fetchedAt)
	body["enabled"] = json.RawMessage("false")
	h.put(t, fetchedAt, body)
	says(t, failed(t, p, late...), providers.ErrConflict, "it is another by now")
}

// One list of each project where policies are wanted, and none where they are not.
func TestPreheatPoliciesAreReadWhereTheyAreWanted(t *testing.T) {
	const projects = 20
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	lines := []string{peers}
	for n := range projects {
		lines = append(lines, fmt.Sprintf("namespace/p%d", n))
	}
	h.Forget()
	want := apply(t, p, lines...)
	compared(t, h.open(t), want)
	if n := h.count(http.MethodGet, "/projects/p"); n > 0 {
		t.Errorf("%d lists of projects are read, of which nothing is declared", n)
	}
	for n := range projects {
		lines = append(lines, fmt.Sprintf(`preheat_policy/p%d/all {"instance":"p2p","tags":"v*"}`, n))
	}
	changes := compared(t, p, objects(t, lines...))
	h.Forget()
	change(t, p, changes...)
	if n := h.count(http.MethodGet, "/p2p/preheat/instances"); n != 1 || h.count(http.MethodPost, "/projects/p") != projects {
		t.Errorf("to make %d policies the instances are read %d times", projects, n)
	}
	fresh := h.open(t)
	h.Forget()
	read(t, fresh, schema.KindPreheatPolicy)
	if n := h.count(http.MethodGet, "/projects/p"); n != projects || h.count(http.MethodGet, "/p2p") > 0 {
		t.Errorf("the policies of %d projects take %d requests", projects, n)
	}
}

// A scope that is written as empty goes, and what stands beside it stays, so that a
// policy can leave Dragonfly; what is only left out stays and is refused with the way.
func TestAScopeLeavesAPolicyThatLeavesDragonfly(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a", peers, `preheat/k {"vendor":"kraken","url":"https://k.example.com"}`, fetches)
	body := h.asWritten(t, fetchedAt)
	body["extra_attrs"] = words(t, `{"cluster_ids":[1,2],"more":null,"scope":"all_seed_peers"}`)
	h.put(t, fetchedAt, body)
	const to = `preheat_policy/a/releases {"instance":"k"`
	for _, line := range []string{to + `}`, to + `,"scope":"all-peers"}`} {
		if v := verdict(t, p, objects(t, line)); !strings.Contains(v.Refused, `preheat/k is of kraken; write scope = ""`) {
			t.Errorf("%s is refused so: %q", line, v.Refused)
		}
	}
	if v := verdict(t, p, objects(t, `preheat_policy/a/x {"instance":"k","scope":"all-peers"}`)); !strings.Contains(v.Refused, "leave it out") {
		t.Errorf("a new one is refused so: %q", v.Refused)
	}
	apply(t, p, to+`,"scope":""}`, `preheat_policy/a/new {"instance":"k","scope":""}`)
	if extra := h.asWritten(t, fetchedAt)["extra_attrs"]; string(extra) != string(words(t, `{"cluster_ids":[1,2],"more":null}`)) {
		t.Errorf("the attributes are %s", extra)
	}
	apply(t, p, strings.Replace(fetches, "all-seed-peers", "", 1)) // back at Dragonfly it says nothing either
}
