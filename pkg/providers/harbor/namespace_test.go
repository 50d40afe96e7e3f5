package harbor_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/schema"
)

// A cache begins with a policy that Harbor makes, which is no obstacle to one's own.
func TestACacheTakesItsDeclaredPolicy(t *testing.T) {
	h := newStandIn(t, harbortest.Options{FirstID: 30})
	p := h.open(t)
	hub := `remote/hub {"type":"harbor","url":"https://hub.example.com"}`
	want := apply(t, p, hub, `namespace/cache {"proxy_of":"hub","description":"A cache"}`, `retention/cache {"keep":[{"newest":7}],"schedule":"@daily"}`)
	if _, text := policy(t, h, "cache"); !strings.Contains(text, `"latestPushedK":7`) || strings.Contains(text, "nDaysSinceLastPull") {
		t.Errorf("the policy is %s", text)
	}
	for _, r := range want.Resources {
		if r.Key.Kind == schema.KindNamespace {
			if live, ok := read(t, p, schema.KindNamespace).Get(r.Key); !ok || *live.Spec.(*schema.Namespace).ProxyOf != "hub" {
				t.Errorf("it reads %+v", live)
			}
		}
	}
}

func TestAnotherRemoteMakesACacheAnew(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	remotes := []string{`remote/hub {"type":"harbor","url":"https://hub.example.com"}`, `remote/quay {"type":"harbor","url":"https://quay.example.com"}`}
	apply(t, p, append(remotes, `namespace/cache {"proxy_of":"hub"}`, `webhook/cache/ci {"url":"https://a.example.com","events":["push"]}`)...)
	want := objects(t, append(remotes, `namespace/cache {"proxy_of":"quay"}`, `webhook/cache/ci {"url":"https://a.example.com","events":["push"]}`)...)
	changes := compared(t, p, want)
	if got := told(changes); !strings.Contains(got, "replace namespace/cache") || !strings.Contains(got, "create webhook/cache/ci") {
		t.Errorf("the plan is %s", got)
	}
	for _, stage := range (plan.Plan{Changes: changes}).Stages(false) {
		change(t, p, stage...)
	}
	if rest := compared(t, p, want); len(rest) > 0 {
		t.Errorf("a second plan is not empty: %s", told(rest))
	}
}

func TestADescriptionOfAProjectStandsInTheFileAlone(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, `namespace/a {"description":"First"}`)
	_, notes, err := p.Normalize(objects(t, `namespace/a {"description":"Second"}`, `namespace/b {"description":"x"}`))
	if err != nil || len(notes) == 0 || !strings.Contains(notes[0].Text, "in the file alone") {
		t.Errorf("it says %v, %v", notes, err)
	}
	if rest := compared(t, p, objects(t, `namespace/a {"description":"Second"}`)); len(rest) > 0 {
		t.Errorf("the plan is %s", told(rest))
	}
}

func TestNamesThatHarborHasNotAreRefused(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	for name, why := range map[string]string{"a/b": "no slash; declare [namespace.a], which holds a/b/*, and what is said of a repository there as [namespace.a.repository.\"b/NAME\"]", "Team": "small letters", "a--b": "small letters", "12345": ""} {
		v := verdict(t, p, objects(t, "namespace/"+name))
		if why == "" && v.Refused != "" || why != "" && !strings.Contains(v.Refused, why) {
			t.Errorf("%s: %q", name, v.Refused)
		}
	}
	// a name that is a number is one, and no number
	apply(t, p, "namespace/12345", person("alice"), `access/12345 {"users":{"alice":["pull"]}}`, `retention/12345 {"keep":[{"newest":1}]}`,
		`webhook/12345/ci {"url":"https://a.example.com","events":["push"]}`, `robot/12345/ci {"access":{"12345":["pull"]}}`, `immutable/12345 {"rules":[{"tags":"v*"}]}`)
}

// full is a Harbor with a project full of what keeps one from being deleted, and
// the change that deletes it.
func full(t *testing.T) (standIn, providers.Provider, plan.Change) {
	t.Helper()
	h := newStandIn(t, harbortest.Options{FirstID: 50})
	p := h.open(t)
	apply(t, p, "namespace/a", "namespace/ab", person("alice"), `access/a {"users":{"alice":["pull"]}}`, `immutable/a {"rules":[{"tags":"v*"},{"repositories":"deep/**","tags":"**"}]}`,
		`retention/a {"keep":[{"newest":1}],"schedule":"@daily"}`, `webhook/a/ci {"url":"https://a.example.com","events":["push"]}`,
		`robot/a/ci {"access":{"a":["pull","push"]}}`, `robot/all {"access":{"a":["pull"],"ab":["pull"]}}`)
	for _, name := range []string{"a/app", "a/deep/er/app", "ab/app"} {
		if err := h.Push(harbortest.Image{Repository: name, Tags: []string{"v1"}, Size: 10}); err != nil {
			t.Fatal(err)
		}
	}
	before, ok := read(t, p, schema.KindNamespace).Get(schema.Key{Kind: schema.KindNamespace, Name: "a"})
	if !ok {
		t.Fatal("there is no namespace")
	}
	return h, p, plan.Change{Action: plan.Delete, Key: before.Key, Before: &before, Impact: []string{"with it goes webhook/a/ci"}}
}

func TestAFullProjectIsDeletedWhereItsBlockSaidSo(t *testing.T) {
	h, p, c := full(t)
	v, err := p.Prepare(t.Context(), []plan.Change{c})
	if err != nil || !strings.Contains(v[0].Refused, "holds 2 repositories") || !strings.Contains(v[0].Refused, `on_delete = "purge"`) {
		t.Errorf("it says %+v, %v", v, err)
	}
	says(t, failed(t, p, c), providers.ErrInvalid, "namespace/a", "Harbor answers 412", "contains repositories")
	c.Purge = true
	v, err = p.Prepare(t.Context(), []plan.Change{c})
	if err != nil || v[0].Refused != "" {
		t.Fatalf("it says %+v, %v", v, err)
	}
	want := []string{"robot robot$a+ci of the project goes with it", "robot robot$all loses its access to it", "its rules of immutable tags are deleted before: they would keep the tags"}
	if diff := cmp.Diff(want, v[0].Impact); diff != "" {
		t.Errorf("the impact (-want +have):\n%s", diff)
	}
	c.Impact = append(c.Impact, "with it goes robot/a/ci")
	if v, err = p.Prepare(t.Context(), []plan.Change{c}); err != nil || slices.Contains(v[0].Impact, want[0]) {
		t.Errorf("what is told is told again: %+v, %v", v, err)
	}
	change(t, p, c)
	if status, _ := h.asked(t, "admin", h.password(t), http.MethodHead, "/api/v2.0/projects?project_name=a", ""); status != http.StatusNotFound {
		t.Errorf("the project answers %d", status)
	}
	if text := h.behind(t, http.MethodGet, "/repositories", ""); strings.Contains(text, `"a/`) || !strings.Contains(text, `"ab/app"`) {
		t.Errorf("the repositories are %s", text)
	}
	change(t, p, c) // again is a success
}

// What deletes a project in part says what is left, and ends it when it runs again.
func TestAPurgeThatFailedIsEnded(t *testing.T) {
	h, p, c := full(t)
	c.Purge = true
	h.Inject(harbortest.Fault{Method: http.MethodDelete, Path: "/api/v2.0/projects/a/repositories/deep%252Fer%252Fapp", Status: http.StatusInternalServerError})
	err := failed(t, p, c)
	says(t, err, nil, "repository/a/deep/er/app", "Harbor answers 500", "immutable")
	if !errors.Is(err, providers.ErrPartly) {
		t.Errorf("of what is deleted it says %v", err)
	}
	h.Heal()
	change(t, p, c)
}
