package harbor_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/schema"
)

const collects = `gc {"schedule":"0 2 * * SUN","untagged":true,"workers":2}`

func TestEachChangeOfCollectionsByHandIsSeen(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	want := apply(t, p, collects)
	const path = "/system/gc/schedule"
	for _, c := range []struct{ schedule, parameters, line string }{
		{`{"type":"Custom","cron":"0 0 3 * * 0"}`, `{"delete_untagged":true,"workers":2}`, `schedule: "0 0 3 * * 0" -> "0 0 2 * * 0"`},
		{`{"type":"Custom","cron":"0 0 2 * * 0"}`, `{"workers":2}`, `untagged: false -> true`},
		{`{"type":"Custom","cron":"0 0 2 * * 0"}`, `{"delete_untagged":true,"workers":3}`, `workers: 3 -> 2`},
		{`{"type":"Custom","cron":"0 0 2 * * 0"}`, `{"delete_untagged":true}`, `workers:  -> 2`},
	} {
		h.behind(t, http.MethodPut, path, `{"schedule":`+c.schedule+`,"parameters":`+c.parameters+`}`)
		drifts(t, p, want, "update gc", "  "+c.line)
	}
	h.behind(t, http.MethodPut, path, `{"schedule":{"type":"None"}}`)
	drifts(t, p, want, "update gc", `  schedule: "none" -> "0 0 2 * * 0"`, `  untagged:  -> true`, `  workers:  -> 2`)
	// a type is not held to its cron, and counts for nothing; names are numbers
	h.behind(t, http.MethodPut, path, `{"schedule":{"type":"Daily","cron":"0 0 2 * * SUN"},"parameters":{"delete_untagged":true,"workers":2}}`)
	drifts(t, p, want)
}

// A schedule is replaced whole, and what no mode speaks of stays.
func TestCollectionsKeepWhatIsNotManaged(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	h.behind(t, http.MethodPut, "/system/gc/schedule", `{"schedule":{"type":"Daily","cron":"0 0 0 * * *"},"parameters":{"delete_tag":true,"delete_untagged":true,"workers":5}}`)
	apply(t, p, `gc {"schedule":"0 0 4 * * *"}`)
	have := h.behind(t, http.MethodGet, "/system/gc/schedule", "")
	if !strings.Contains(have, `{\"delete_tag\":true,\"delete_untagged\":true,\"workers\":5}`) {
		t.Errorf("the schedule is %s", have)
	}
}

// Harbor forgets how with when.
func TestWhatIsKeptWithAScheduleGoesWithIt(t *testing.T) {
	p := newStandIn(t, harbortest.Options{}).open(t)
	for _, line := range []string{
		`gc {"schedule":"none","untagged":true,"workers":2}`,
		`audit {"schedule":"none","keep":"365d","events":["create_artifact"]}`,
	} {
		st, notes, err := p.Normalize(objects(t, line))
		if err != nil || len(notes) != 1 || !strings.Contains(notes[0].Text, "wait for a schedule") {
			t.Errorf("%s: notes %v, %v", line, notes, err)
		}
		if n := len(st.Resources); n != 1 {
			t.Errorf("%s becomes %d objects", line, n)
		}
	}
	apply(t, p, collects, `audit {"schedule":"@daily","keep":"365d","events":["create_artifact"]}`)
	apply(t, p, `gc {"schedule":"none","untagged":true,"workers":2}`, `audit {"schedule":"none","keep":"365d","events":["create_artifact"]}`)
}

func TestSchedulesOfHousekeepingThatHarborHasNotAreRefused(t *testing.T) {
	p := newStandIn(t, harbortest.Options{}).open(t)
	for line, why := range map[string]string{
		`gc {"untagged":true}`:                                 "declare gc.schedule too",
		`gc {"schedule":"@daily","workers":11}`:                "10 workers at the most",
		`gc {"schedule":"30 0 3 * * *"}`:                       "seconds",
		`audit {"keep":"30d"}`:                                 "declare audit.schedule too",
		`audit {"schedule":"@daily"}`:                          "declare audit.keep too",
		`audit {"schedule":"@daily","keep":"90m"}`:             "counts in hours",
		`audit {"schedule":"@daily","keep":"20000d"}`:          "at the most",
		`audit {"schedule":"@daily","keep":"30d","events":[]}`: "purge of no events",
	} {
		if v := verdict(t, p, objects(t, line)); !strings.Contains(v.Refused, why) {
			t.Errorf("%s is refused so: %q, want %q", line, v.Refused, why)
		}
	}
}

const purges = `audit {"schedule":"0 4 * * *","keep":"365d","events":["create_artifact","delete_artifact"]}`

func TestEachChangeOfTheAuditLogsEndByHandIsSeen(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	want := apply(t, p, purges)
	const path = "/system/purgeaudit/schedule"
	put := func(typ, cron, hours, events, dry string) {
		h.behind(t, http.MethodPut, path, `{"schedule":{"type":"`+typ+`","cron":"`+cron+`"},"parameters":{"audit_retention_hour":`+hours+`,"include_event_types":"`+events+`","dry_run":`+dry+`}}`)
	}
	const both = "delete_artifact,create_artifact"
	put("Custom", "0 0 4 * * *", "8760", both, "false")
	drifts(t, p, want) // in another order
	put("Custom", "0 0 5 * * *", "8760", both, "false")
	drifts(t, p, want, "update audit", `  schedule: "0 0 5 * * *" -> "0 0 4 * * *"`)
	put("Custom", "0 0 4 * * *", "24", both, "false")
	drifts(t, p, want, "update audit", `  keep: "1d" -> "365d"`)
	put("Custom", "0 0 4 * * *", "8760", "create_artifact", "false")
	drifts(t, p, want, "update audit", `  events: ["create_artifact"] -> ["create_artifact","delete_artifact"]`)
	gone := []string{"update audit", `  events:  -> ["create_artifact","delete_artifact"]`, `  keep: "never" -> "365d"`, `  schedule: "none" -> "0 0 4 * * *"`}
	put("Custom", "0 0 4 * * *", "8760", both, "true") // only tries
	if v := verdict(t, p, want); len(v.Notes) != 1 || !strings.Contains(v.Notes[0], "only tries (dry_run)") {
		t.Errorf("of a purge that only tries it says %q", v.Notes)
	}
	drifts(t, p, want, "update audit", `  keep: "never" -> "365d"`)
	if have := h.behind(t, http.MethodGet, path, ""); strings.Contains(have, `dry_run\":true`) {
		t.Errorf("it still only tries: %s", have)
	}
	put("Custom", "0 0 4 * * *", "8760", both, "true")
	drifts(t, p, objects(t, `audit {"keep":"never"}`)) // nothing goes
	put("None", "", "8760", both, "false")
	drifts(t, p, want, gone...)
	// to end it Harbor wants all parameters too
	apply(t, p, `audit {"keep":"never"}`)
	if have := h.behind(t, http.MethodGet, path, ""); have != "" {
		t.Errorf("the schedule is %s", have)
	}
}

// Harbor wants to know which events go; where nobody says, those that went go on
// doing so, and all of a purge that is new.
func TestAPurgeOfWhatNobodyNamed(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, `audit {"schedule":"@daily","keep":"30d"}`)
	live, _ := read(t, p, schema.KindAudit).Get(schema.Key{Kind: schema.KindAudit})
	if spec, ok := live.Spec.(*schema.Audit); !ok || len(spec.Events) < 10 {
		t.Errorf("a new purge is %+v", live.Spec)
	}
	apply(t, p, purges)
	apply(t, p, `audit {"keep":"10d"}`)
	live, _ = read(t, p, schema.KindAudit).Get(schema.Key{Kind: schema.KindAudit})
	if spec, ok := live.Spec.(*schema.Audit); !ok || len(spec.Events) != 2 || spec.Keep.String() != "10d" {
		t.Errorf("a changed purge is %+v", live.Spec)
	}
}
