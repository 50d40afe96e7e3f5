package harbor_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
)

const (
	upstream = `remote/upstream {"type":"harbor","url":"https://up.example.com"}`
	copies   = `replication/copies {"to":"upstream","namespace":"mirror","description":"d","match":{"repositories":"team-a/**","tags":"v*","labels":["prod"],"type":"image"},` +
		`"trigger":{"schedule":"0 2 * * *"},"deletes":true,"override":true,"enabled":true,"rate":"1MiB","flatten":2,"chunks":true,"single":true}`
)

// asWritten is a rule as Harbor shows it, in the form in which it takes it.
func (h standIn) asWritten(t testing.TB, path string) map[string]json.RawMessage {
	t.Helper()
	var out map[string]json.RawMessage
	if err := json.Unmarshal([]byte(h.behind(t, http.MethodGet, path, "")), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func (h standIn) put(t testing.TB, path string, body map[string]json.RawMessage) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	h.behind(t, http.MethodPut, path, string(text))
}

func TestEachChangeOfAReplicationByHandIsSeen(t *testing.T) {
	h := newStandIn(t, harbortest.Options{FirstID: 1000})
	p := h.open(t)
	want := apply(t, p, upstream, copies)
	const path = "/replication/policies/1001"
	for _, c := range []struct{ field, value, line string }{
		{"description", `"x"`, `description: "x" -> "d"`},
		{"dest_namespace", `"x"`, `namespace: "x" -> "mirror"`},
		{"deletion", `false`, `deletes: false -> true`},
		{"override", `false`, `override: false -> true`},
		{"enabled", `false`, `enabled: false -> true`},
		{"speed", `512`, `rate: "64KiB" -> "1MiB"`},
		{"dest_namespace_replace_count", `-1`, `flatten: -1 -> 2`},
		{"dest_namespace_replace_count", `-3`, `flatten: -1 -> 2`},
		{"dest_namespace_replace_count", `0`, `flatten: 0 -> 2`},
		{"copy_by_chunk", `false`, `chunks: false -> true`},
		{"single_active_replication", `false`, `single: false -> true`},
		{"trigger", `{"type":"manual"}`, `trigger: "manual" -> {"schedule":"0 0 2 * * *"}`},
		{"trigger", `{"type":"scheduled","trigger_settings":{"cron":"0 0 3 * * *"}}`, `trigger: {"schedule":"0 0 3 * * *"} -> {"schedule":"0 0 2 * * *"}`},
		{"filters", `[{"type":"name","value":"team-b/**"},{"type":"tag","value":"v*"},{"type":"label","value":["prod"]},{"type":"resource","value":"image"}]`, `match.repositories: "team-b/**" -> "team-a/**"`},
		{"filters", `[{"type":"name","value":"team-a/**"},{"type":"tag","value":"v*","decoration":"excludes"},{"type":"label","value":["prod"]},{"type":"resource","value":"image"}]`, `match.tags: "!v*" -> "v*"`},
		{"filters", `[{"type":"name","value":"team-a/**"},{"type":"tag","value":"v*"},{"type":"resource","value":"image"}]`, `match.labels: [] -> ["prod"]`},
		{"filters", `[{"type":"name","value":"team-a/**"},{"type":"tag","value":"v*"},{"type":"label","value":["prod"]}]`, `match.type: "all" -> "image"`},
		{"filters", `[{"type":"resource","value":"artifact"},{"type":"name","value":"team-a/**"},{"type":"tag","value":"v*"},{"type":"label","value":["prod"]}]`, `match.type: "artifact" -> "image"`},
	} {
		body := h.asWritten(t, path)
		body[c.field] = json.RawMessage(c.value)
		h.put(t, path, body)
		drifts(t, p, want, "update replication/copies", "  "+c.line)
	}
}

// An update replaces the rule: what no mode speaks of is written as it is.
func TestAReplicationKeepsWhatIsNotManaged(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	const plain = `replication/copies {"to":"upstream","match":{"repositories":"team-a/**","tags":"v*","labels":["prod"]},"trigger":"manual","deletes":true,"description":"d"}`
	apply(t, p, upstream, plain)
	const path = "/replication/policies/1"
	body := h.asWritten(t, path)
	body["copy_by_chunk"], body["single_active_replication"] = json.RawMessage("true"), json.RawMessage("true")
	body["dest_namespace_replace_count"] = json.RawMessage("2")
	body["filters"] = json.RawMessage(`[{"type":"resource","value":"image"},{"type":"name","value":"team-a/**"},{"type":"tag","value":"v*"},{"type":"label","value":["prod"]}]`)
	h.put(t, path, body)
	apply(t, p, upstream, strings.Replace(plain, `"d"`, `"other"`, 1))
	now := h.asWritten(t, path)
	for field, want := range map[string]string{
		"copy_by_chunk": "true", "single_active_replication": "true", "dest_namespace_replace_count": "2", "deletion": "true", "description": `"other"`,
	} {
		if string(now[field]) != want {
			t.Errorf("%s is %s, want %s", field, now[field], want)
		}
	}
	if !strings.Contains(string(now["filters"]), `"resource"`) {
		t.Errorf("the filters are %s", now["filters"])
	}
	// Harbor answers 500 to a rule that runs by events and once at a time
	apply(t, p, upstream, `replication/copies {"to":"upstream","trigger":"push"}`)
}

func TestAReplicationIsTurnedRound(t *testing.T) {
	p := newStandIn(t, harbortest.Options{}).open(t)
	apply(t, p, upstream, `replication/copies {"to":"upstream","trigger":"manual"}`)
	apply(t, p, upstream, `replication/copies {"from":"upstream","trigger":"manual"}`)
	apply(t, p, upstream, `replication/copies {"to":"upstream","trigger":"manual"}`)
}

func TestReplicationsThatHarborHasNotAreRefused(t *testing.T) {
	p := newStandIn(t, harbortest.Options{}).open(t)
	apply(t, p, upstream)
	for spec, why := range map[string]string{
		`{"from":"upstream","trigger":"push"}`:                                        "hears of pushes to itself alone",
		`{"to":"upstream","trigger":{"schedule":"* * * * *"}}`:                        "not every minute",
		`{"to":"upstream","trigger":{"schedule":"30 0 2 * * *"}}`:                     "seconds",
		`{"to":"upstream","trigger":{"schedule":"0 2 * * *","zone":"Europe/Madrid"}}`: "in UTC",
		`{"to":"upstream","trigger":"manual","match":{"repositories":"!team-a/**"}}`:  "no repositories",
		`{"to":"upstream","trigger":{"schedule":"@every 7h"}}`:                        "cron fields",
		`{"to":"upstream","trigger":"manual","rate":"2GiB"}`:                          "less than 2GiB",
		`{"to":"upstream","trigger":"push","single":true}`:                            "take single out, or name another trigger",
	} {
		if v := verdict(t, p, objects(t, "replication/r "+spec)); !strings.Contains(v.Refused, why) {
			t.Errorf("%s is refused so: %q, want %q", spec, v.Refused, why)
		}
	}
	apply(t, p, upstream, `replication/r {"to":"upstream","trigger":"manual","single":true}`)
	if v := verdict(t, p, objects(t, `replication/r {"to":"upstream","trigger":"push","single":true}`)); !strings.Contains(v.Refused, "take single out") {
		t.Errorf("one that runs once at a time is refused so: %q", v.Refused)
	}
	st, notes, err := p.Normalize(objects(t, `replication/r {"to":"upstream","rate":"1500B"}`))
	if err != nil || len(notes) != 1 || !strings.Contains(notes[0].Text, "becomes 1536B") {
		t.Errorf("a rate that is no number of kilobits is %v, %v, %v", st.Resources, notes, err)
	}
	says(t, failed(t, p, compared(t, p, objects(t, `replication/r {"to":"nowhere","trigger":"manual"}`))...), providers.ErrNotFound, "remote/nowhere", "declare it as [remote.nowhere]")
}
