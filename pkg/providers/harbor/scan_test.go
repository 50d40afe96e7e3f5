package harbor_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

func TestEachChangeOfAScannerByHandIsSeen(t *testing.T) {
	h := newStandIn(t, harbortest.Options{}).withScanner(t)
	p := h.open(t)
	want := apply(t, p, `scanner/trivy {"url":"http://trivy:8080","description":"d","auth":"bearer","credential":`+secretA+`,"insecure":true,"internal_address":true,"enabled":true}`)
	id := h.scanner(t, "trivy")
	whole := map[string]string{
		"name": `"trivy"`, "url": `"http://trivy:8080"`, "description": `"d"`, "auth": `"Bearer"`,
		"skip_certVerify": "true", "use_internal_addr": "true", "disabled": "false",
	}
	for _, c := range []struct{ field, value, line string }{
		{"url", `"http://other:8080"`, `url: "http://other:8080" -> "http://trivy:8080"`},
		{"description", `"x"`, `description: "x" -> "d"`},
		{"auth", `"Basic"`, `auth: "basic" -> "bearer"`},
		{"skip_certVerify", "false", `insecure: false -> true`},
		{"use_internal_addr", "false", `internal_address: false -> true`},
		{"disabled", "true", `enabled: false -> true`},
	} {
		var fields []string
		for name, value := range whole {
			if name == c.field {
				value = c.value
			}
			fields = append(fields, `"`+name+`":`+value)
		}
		h.behind(t, http.MethodPut, "/scanners/"+id, "{"+strings.Join(fields, ",")+"}")
		drifts(t, p, want, "update scanner/trivy", "  "+c.line)
	}
}

// What its API's description says of a key is the name of a header, which Harbor does
// not take.
func TestEachWayToLogInAtAScannerIsTaken(t *testing.T) {
	h := newStandIn(t, harbortest.Options{}).withScanner(t)
	p := h.open(t)
	for ours, theirs := range map[string]string{"none": "", "basic": "Basic", "bearer": "Bearer", "api-key": "APIKey"} {
		apply(t, p, fmt.Sprintf(`scanner/trivy {"url":"http://trivy:8080","auth":%q,"credential":%s}`, ours, secretA))
		if have := h.behind(t, http.MethodGet, "/scanners/"+h.scanner(t, "trivy"), ""); !strings.Contains(have, fmt.Sprintf(`"auth":%q`, theirs)) {
			t.Errorf("%s is %s", ours, have)
		}
	}
}

// scanner finds one's uuid.
func (h standIn) scanner(t testing.TB, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(h.behind(t, http.MethodGet, "/scanners?q=name%3D"+name, ""), `"uuid":"`)
	if !ok {
		t.Fatalf("there is no scanner %s", name)
	}
	id, _, _ := strings.Cut(rest, `"`)
	return id
}

func TestAScannerKeepsItsCredentialUntilItChanges(t *testing.T) {
	want := ""
	h := newStandIn(t, harbortest.Options{Remotes: func(r harbortest.Remote) harbortest.Health {
		if r.Secret != want {
			return harbortest.Unhealthy
		}
		return harbortest.Healthy
	}})
	p := h.open(t)
	apply(t, p, `scanner/a {"url":"http://a:8080","auth":"none"}`)
	if v := verdict(t, p, objects(t, `scanner/a {"auth":"bearer"}`)); !strings.Contains(v.Refused, "declare credential too") {
		t.Errorf("auth without a credential is refused so: %q", v.Refused)
	}
	// another way to log in takes the credential along, though nobody can see that it changes
	apply(t, p, `scanner/a {"url":"http://a:8080","auth":"bearer","credential":`+secretA+`}`)
	apply(t, p, `scanner/a {"url":"http://a:8080","description":"x","auth":"bearer","credential":`+secretA+`}`)
	says(t, failed(t, p, compared(t, p, objects(t, `scanner/b {"url":"http://b:8080","auth":"bearer","credential":`+secretA+`}`))...), nil, "scanner/b", "500", "see that it answers")
}

func TestWhatHarborNeverDoesWithScannersIsRefused(t *testing.T) {
	h := newStandIn(t, harbortest.Options{}).withScanner(t)
	p := h.open(t)
	for line, why := range map[string]string{
		`scanner/Trivy {"url":"http://t:8080"}`: "keeps the name Trivy",
		`scanner/installed {"enabled":false}`:   "disables no default scanner",
		`scan {"default":""}`:                   "gives up no default scanner",
		`scan {"on_push":true}`:                 "only for a namespace",
		`scan {"schedule":"30 0 3 * * *"}`:      "seconds",
		`scan/library {"schedule":"@daily"}`:    "only for the registry as a whole",
	} {
		if v := verdict(t, p, objects(t, line)); !strings.Contains(v.Refused, why) {
			t.Errorf("%s is refused so: %q, want %q", line, v.Refused, why)
		}
	}
	key := schema.Key{Kind: schema.KindScanner, Name: "installed"}
	live, _ := read(t, p, schema.KindScanner).Get(key)
	v, err := p.Prepare(t.Context(), []plan.Change{{Action: plan.Delete, Key: key, Before: &live}})
	if err != nil || len(v[0].Notes) != 1 || !strings.Contains(v[0].Notes[0], "is the default scanner") {
		t.Errorf("deleting the default says %v, %v", v, err)
	}
}

// Without a default scanner Harbor answers 412 even to the question when all is
// scanned. The first scanner is the default by itself.
func TestScansOfARegistryWithoutAScanner(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	live, ok := read(t, p, schema.KindScan).Get(schema.Key{Kind: schema.KindScan})
	if spec, is := live.Spec.(*schema.Scan); !ok || !is || *spec.Schedule != "none" || *spec.Default != "" {
		t.Fatalf("read as %+v", live.Spec)
	}
	says(t, failed(t, p, compared(t, p, objects(t, `scan {"schedule":"@daily"}`))...), providers.ErrInvalid, "no scanner is configured", "scan.default")
	want := apply(t, p, `scanner/trivy {"url":"http://trivy:8080"}`, `scan {"default":"trivy","schedule":"0 1 * * *","allow":[{"cve":"CVE-2026-1"}]}`)
	apply(t, p, `scan {"schedule":"none"}`)
	h.behind(t, http.MethodPost, "/system/scanAll/schedule", `{"schedule":{"type":"Hourly","cron":"0 0 * * * *"}}`)
	drifts(t, p, want, "update scan", `  schedule: "0 0 * * * *" -> "0 0 1 * * *"`)
	h.behind(t, http.MethodPut, "/system/CVEAllowlist", `{"items":[{"cve_id":"CVE-2026-1"},{"cve_id":"CVE-2026-2"}],"expires_at":1999999999}`)
	drifts(t, p, want, "update scan", `  allow: [{"cve":"CVE-2026-1","until":"2033-05-18"},{"cve":"CVE-2026-2","until":"2033-05-18"}] -> [{"cve":"CVE-2026-1"}]`)
	h.behind(t, http.MethodPost, "/scanners", `{"name":"second","url":"http://second:8080"}`)
	h.behind(t, http.MethodPatch, "/scanners/"+h.scanner(t, "second"), `{"is_default":true}`)
	drifts(t, p, want, "update scan", `  default: "second" -> "trivy"`)
}

const scanned = `scan/team-a {"on_push":true,"sbom":true,"block":"high","scanner":"trivy","allow":[{"cve":"CVE-2026-1"}]}`

func TestEachChangeOfAProjectsScansByHandIsSeen(t *testing.T) {
	h := newStandIn(t, harbortest.Options{}).withScanner(t)
	p := h.open(t)
	// a list that comes with the project is ignored: it must be set after it
	want := apply(t, p, `scanner/trivy {"url":"http://trivy:8080"}`, "namespace/team-a", scanned)
	for _, c := range []struct{ body, line string }{
		{`{"metadata":{"auto_scan":"false"}}`, `on_push: false -> true`},
		{`{"metadata":{"auto_scan":"maybe"}}`, `on_push: false -> true`},
		{`{"metadata":{"auto_sbom_generation":"false"}}`, `sbom: false -> true`},
		{`{"metadata":{"prevent_vul":"false"}}`, `block: "none" -> "high"`},
		{`{"metadata":{"severity":"low"}}`, `block: "low" -> "high"`},
		{`{"metadata":{"severity":"bogus"}}`, `block: "any" -> "high"`},
		{`{"cve_allowlist":{"items":[]}}`, `allow: [] -> [{"cve":"CVE-2026-1"}]`},
		{`{"cve_allowlist":{"items":[{"cve_id":"CVE-2026-1"}],"expires_at":1999999999}}`, `allow: [{"cve":"CVE-2026-1","until":"2033-05-18"}] -> [{"cve":"CVE-2026-1"}]`},
		{`{"metadata":{"reuse_sys_cve_allowlist":"true"}}`, `allow: [{"cve":"(the registry's list)"}] -> [{"cve":"CVE-2026-1"}]`},
	} {
		h.behind(t, http.MethodPut, "/projects/team-a", c.body)
		drifts(t, p, want, "update scan/team-a", "  "+c.line)
	}
	apply(t, p, `scan/team-a {"block":"any"}`)
	if have := h.behind(t, http.MethodGet, "/projects/team-a", ""); !strings.Contains(have, `"prevent_vul":"true"`) || !strings.Contains(have, `"severity":"none"`) {
		t.Errorf("the project is %s", have)
	}
	drifts(t, p, want, "update scan/team-a", `  block: "any" -> "high"`)
	// the same severity in another spelling is none
	h.behind(t, http.MethodPut, "/projects/team-a", `{"metadata":{"severity":"HIGH"}}`)
	drifts(t, p, want)
	h.behind(t, http.MethodPut, "/projects/team-a/scanner", `{"uuid":"`+h.scanner(t, "installed")+`"}`)
	drifts(t, p, want, "update scan/team-a", `  scanner: "installed" -> "trivy"`)
	apply(t, p, `scan/team-a {"scanner":""}`)
}

// A list that is empty is one: nothing of the registry's list counts then.
func TestAnEmptyListIsAProjectsOwn(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/team-a", `scan/team-a {"on_push":true}`)
	drifts(t, p, objects(t, `scan/team-a {"allow":[]}`), "update scan/team-a", `  allow: [{"cve":"(the registry's list)"}] -> []`)
	if have := h.behind(t, http.MethodGet, "/projects/team-a", ""); !strings.Contains(have, `"reuse_sys_cve_allowlist":"false"`) {
		t.Errorf("the project is %s", have)
	}
	if have, _ := read(t, h.open(t), schema.KindScan).Get(schema.Key{Kind: schema.KindScan, Name: "library"}); have.Spec.(*schema.Scan).Allow != nil {
		t.Errorf("where nobody asks, the registry's list is shown as a project's: %+v", have.Spec)
	}
}

func TestWhatIsAllowedUntilADayEnds(t *testing.T) {
	today := time.Date(2027, 1, 30, 12, 0, 0, 0, time.UTC)
	h := newStandIn(t, harbortest.Options{})
	p, err := harbor.New(h.registry, providertest.Secrets{}, nil, harbor.Clock(func() time.Time { return today }))
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{"namespace/team-a", `scan/team-a {"allow":[{"cve":"CVE-2026-1","until":"2027-01-31","reason":"not reachable"},{"cve":"CVE-2026-2","until":"2027-03-01"}]}`}
	apply(t, p, lines...)
	// the end is that of the last day of the last of them
	if have := h.behind(t, http.MethodGet, "/projects/team-a", ""); !strings.Contains(have, `"expires_at":1803945600,`) {
		t.Errorf("the project is %s", have)
	}
	today = today.AddDate(0, 0, 1)
	apply(t, p, lines...) // the last day still counts
	today = today.AddDate(0, 0, 1)
	drifts(t, p, objects(t, lines...), "update scan/team-a",
		`  allow: [{"cve":"CVE-2026-1","until":"2027-03-01"},{"cve":"CVE-2026-2","until":"2027-03-01"}] -> [{"cve":"CVE-2026-2","until":"2027-03-01"}]`)
	_, notes, err := p.Normalize(objects(t, lines...))
	if err != nil || len(notes) != 1 || !strings.Contains(notes[0].Text, "CVE-2026-1 was allowed until 2027-01-31") {
		t.Errorf("notes %v, %v", notes, err)
	}
}

// Which scanner a project has takes a request for each, so it is asked only where
// there is a choice or the file says.
func TestAProjectsScannerIsAskedOnlyWhereItMatters(t *testing.T) {
	h := newStandIn(t, harbortest.Options{}).withScanner(t)
	p := h.open(t)
	apply(t, p, "namespace/team-a", `scan/team-a {"on_push":true}`)
	h.Forget()
	apply(t, p, "namespace/team-a", `scan/team-a {"on_push":true}`)
	if n := h.count(http.MethodGet, "/projects/team-a/metadatas"); n != 0 {
		t.Errorf("asked %d times", n)
	}
	apply(t, p, "namespace/team-a", `scan/team-a {"scanner":"installed"}`)
	h.Forget()
	apply(t, p, "namespace/team-a", `scan/team-a {"scanner":"installed"}`)
	if n := h.count(http.MethodGet, "/projects/team-a/metadatas"); n != 2 { // one for each of two plans
		t.Errorf("asked %d times", n)
	}
}
