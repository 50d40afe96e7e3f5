package harbor_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/schema"
)

// slashed are objects with a slash in their own name.
func slashed() []string {
	return []string{
		"namespace/kind", "namespace/a",
		`label/kind%2Fbug {"color":"#111111"}`, `label/kind/bug {"color":"#222222"}`, `label/a/kind%2Fbug {"color":"#333333"}`,
		`webhook/a/ci%2Fmain {"url":"https://ci.example.com","events":["push"],"auth":` + secretA + `}`,
		`remote/eu/dr {"type":"harbor","url":"https://dr.example.com"}`, `namespace/cache {"proxy_of":"eu/dr"}`,
		`replication/eu/out {"to":"eu/dr","trigger":"manual","match":{"labels":["kind/bug"]}}`,
		`scanner/sec/trivy {"url":"http://trivy:8080"}`, `scan/a {"scanner":"sec/trivy"}`,
	}
}

// TestNamesWithASlash: they are made, read, changed and deleted as others are, and a
// label of the registry is not one of a project.
func TestNamesWithASlash(t *testing.T) {
	h := newStandIn(t, harbortest.Options{FirstID: 1000}).withScanner(t)
	apply(t, h.open(t), slashed()...)
	if rest := compared(t, h.open(t), objects(t, slashed()...)); len(rest) > 0 {
		t.Errorf("a second plan is %s", told(rest))
	}
	has := func(path string, names ...string) {
		t.Helper()
		have := h.behind(t, http.MethodGet, path, "")
		for _, name := range names {
			if !strings.Contains(have, `"name":"`+name+`"`) {
				t.Errorf("%s has no %s: %s", path, name, have)
			}
		}
	}
	has("/labels?scope=g", "kind/bug")
	has("/projects/a/webhook/policies", "ci/main")
	has("/registries", "eu/dr")
	has("/replication/policies", "eu/out")
	has("/scanners", "sec/trivy")

	changed := slashed()
	for i, line := range changed {
		changed[i] = strings.NewReplacer(`#333333`, `#444444`, `["push"]`, `["pull"]`, `"manual"`, `"push"`, "trivy:8080", "trivy:8081", `"type":"harbor"`, `"type":"harbor","description":"d"`).Replace(line)
	}
	if changes := compared(t, h.open(t), objects(t, changed...)); len(changes) != 5 {
		t.Errorf("what changed is %s", told(changes))
	}
	apply(t, h.open(t), changed...)

	p := h.open(t)
	st := read(t, p, schema.KindLabel, schema.KindWebhook)
	var gone []plan.Change
	for _, r := range st.Resources {
		if strings.Contains(r.Key.Child(), "/") {
			gone = append(gone, plan.Change{Action: plan.Delete, Key: r.Key, Before: &r})
		}
	}
	if len(gone) != 3 {
		t.Fatalf("there are %s", told(gone))
	}
	change(t, p, gone...)
	if st := read(t, h.open(t), schema.KindLabel, schema.KindWebhook); len(st.Resources) != 1 || st.Resources[0].Key.String() != "label/kind/bug" {
		t.Errorf("what is left is %+v", st.Resources)
	}
}

// A name that has what stands for a slash is no object's: its key would be another's.
func TestANameWithWhatStandsForASlashIsNotRead(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	for _, name := range []string{"kind%2Fbug", "kind%2fbug", "kind/bug"} {
		h.behind(t, http.MethodPost, "/labels", `{"name":"`+name+`","color":"#000000","scope":"g"}`)
		h.behind(t, http.MethodPost, "/projects/library/webhook/policies", `{"name":"`+name+`","enabled":true,"event_types":["PUSH_ARTIFACT"],"targets":[{"type":"http","address":"https://a.example.com"}]}`)
	}
	p := h.open(t)
	var keys []string
	for _, r := range read(t, p, schema.KindLabel, schema.KindWebhook).Resources {
		keys = append(keys, r.Key.String())
	}
	if !slices.Equal(keys, []string{"label/kind%2Fbug", "webhook/library/kind%2Fbug"}) {
		t.Errorf("it reads %q", keys)
	}
	left, err := p.Left(t.Context(), schema.State{})
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{`a label of the registry called "kind%2Fbug"`, `a label of the registry called "kind%2fbug"`, `a webhook of library called "kind%2Fbug"`} {
		if !slices.ContainsFunc(left, func(l providers.Leftover) bool { return l.What == what && strings.Contains(l.Why, `without "%2F"`) }) {
			t.Errorf("it does not tell of %s: %v", what, left)
		}
	}
}

// A former name with a slash is the label's own.
func TestANameWithASlashIsGivenAndTakenBack(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	const hook = ` {"url":"https://ci.example.com","events":["push"]}`
	apply(t, p, "namespace/a", `label/a/bug {"color":"#111111"}`, `label/bug {"color":"#111111"}`, "webhook/a/ci"+hook, `remote/dr {"type":"harbor","url":"https://dr.example.com"}`)
	was := map[string]string{}
	for _, x := range [][4]string{
		{"label/a/bug", "bug", "label/a/kind%2Fbug", "kind/bug"}, {"label/bug", "bug", "label/kind%2Fbug", "kind/bug"},
		{"webhook/a/ci", "ci", "webhook/a/a%2Fci", "a/ci"}, {"remote/dr", "dr", "remote/eu/dr", "eu/dr"},
	} {
		was[x[2]], was[x[0]] = x[1], x[3]
	}
	for _, lines := range [][]string{
		{"namespace/a", `label/a/kind%2Fbug {"color":"#111111"}`, `label/kind%2Fbug {"color":"#111111"}`, "webhook/a/a%2Fci" + hook, `remote/eu/dr {"type":"harbor","url":"https://dr.example.com"}`},
		{"namespace/a", `label/a/bug {"color":"#111111"}`, `label/bug {"color":"#111111"}`, "webhook/a/ci" + hook, `remote/dr {"type":"harbor","url":"https://dr.example.com"}`},
	} {
		names := map[string]string{}
		for _, line := range lines[1:] {
			key, _, _ := strings.Cut(line, " ")
			names[key] = was[key]
		}
		want := objects(t, lines...)
		changes := formerly(t, p, want, names)
		if len(changes) != 4 || slices.ContainsFunc(changes, func(c plan.Change) bool { return c.Action != plan.Rename }) {
			t.Fatalf("the plan is %s", told(changes))
		}
		for _, stage := range (plan.Plan{Changes: changes}).Stages(false) {
			change(t, p, stage...)
		}
		if rest := compared(t, p, want); len(rest) > 0 {
			t.Errorf("a second plan is %s", told(rest))
		}
	}
}
