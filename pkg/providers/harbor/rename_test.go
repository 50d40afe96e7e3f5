package harbor_test

import (
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/schema"
)

// formerly are the changes to what is wanted where each key had another name.
func formerly(t testing.TB, p providers.Provider, want schema.State, names map[string]string) []plan.Change {
	t.Helper()
	norm, _, err := p.Normalize(want)
	if err != nil {
		t.Fatal(err)
	}
	in := plan.Input{
		Desired: norm, Live: read(t, p, norm.Kinds()...), Table: p.Capabilities(),
		Ownership: plan.Ownership{Secret: func(schema.Key, string, string, *schema.SecretRef) plan.Match { return plan.Equal }},
	}
	for now, before := range names {
		key, err := schema.ParseKey(now)
		if err != nil {
			t.Fatal(err)
		}
		in.Directives = append(in.Directives, schema.Directive{Key: key, Previously: before})
	}
	out := plan.Diff(in)
	if len(out.Refusals) > 0 {
		t.Fatalf("it is refused so: %+v", out.Refusals)
	}
	return slices.DeleteFunc(out.Changes, plan.Change.Recorded)
}

// Harbor knows them by numbers: what hangs on them, and their secrets, stay.
func TestWhatIsRenamedKeepsWhatHangsOnIt(t *testing.T) {
	h := newStandIn(t, harbortest.Options{FirstID: 1000})
	p := h.open(t)
	before := []string{
		`remote/old {"type":"harbor","url":"https://up.example.com","login":{"user":"u","password":` + secretA + `}}`,
		`namespace/cache {"proxy_of":"old"}`, "namespace/a", `replication/copies {"to":"old","trigger":"manual","match":{"labels":["base"]}}`,
		`scanner/old {"url":"http://old:8080","auth":"basic","credential":` + secretA + `}`, `scan/a {"scanner":"old"}`, `scan {"default":"old"}`,
		`webhook/a/old {"url":"https://ci.example.com","events":["push"],"auth":` + secretA + `}`, `label/a/old {"color":"#000000"}`, `label/old {"color":"#111111"}`,
		`group/old {"type":"oidc"}`, `access/a {"groups":{"old":["pull"]}}`,
	}
	apply(t, p, before...)
	if err := h.Push(harbortest.Image{Repository: "a/app", Tags: []string{"v1"}, Size: 7}); err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`"id":([0-9]+)`).FindStringSubmatch(h.behind(t, http.MethodGet, "/labels?scope=g", ""))
	const all = "/projects/a/repositories/app/artifacts?with_label=true"
	h.behind(t, http.MethodPost, "/projects/a/repositories/app/artifacts/v1/labels", `{"id":`+id[1]+`}`)
	var after []string
	for _, line := range before {
		after = append(after, strings.NewReplacer(`"old"`, `"new"`, "/old {", "/new {", "replication/copies", "replication/moves").Replace(line))
	}
	names := map[string]string{"replication/moves": "copies"}
	for _, key := range []string{"remote/new", "scanner/new", "webhook/a/new", "label/a/new", "label/new", "group/new"} {
		names[key] = "old"
	}
	want := objects(t, after...)
	changes := formerly(t, p, want, names)
	if len(changes) != len(names) {
		t.Fatalf("not only names change: %s", told(changes))
	}
	v, err := p.Prepare(t.Context(), changes)
	if err != nil || slices.ContainsFunc(v, func(v providers.Verdict) bool { return v.Refused != "" }) {
		t.Fatalf("it is refused so: %+v, %v", v, err)
	}
	h.Forget()
	for range 2 { // the second finds it done
		for _, stage := range (plan.Plan{Changes: changes}).Stages(false) {
			change(t, p, stage...)
		}
	}
	if n := h.count("DELETE", ""); n > 0 {
		t.Errorf("%d were deleted, to be made anew", n)
	}
	if rest := compared(t, p, want); len(rest) > 0 {
		t.Errorf("a second plan is not empty: %s", told(rest))
	}
	for path, part := range map[string]string{
		"/registries": `"access_secret":"*****"`, all: `"name":"new"`, "/projects/a/webhook/policies": `"auth_header":"` + h.password(t) + `"`,
		"/usergroups": `"group_name":"new"`, "/projects/a/members": `"entity_name":"new"`,
		"/projects/a/scanner": `"name":"new"`, "/replication/policies": `"name":"moves"`,
	} {
		if text := h.behind(t, http.MethodGet, path, ""); !strings.Contains(text, part) || strings.Contains(text, `"name":"old"`) {
			t.Errorf("%s is %s", path, text)
		}
	}
}

func TestARemoteThatIsDownIsNotRenamed(t *testing.T) {
	bad := map[string]harbortest.Health{}
	h := newStandIn(t, harbortest.Options{Remotes: elsewhere(bad)})
	p := h.open(t)
	apply(t, p, `remote/old {"type":"harbor","url":"https://up.example.com"}`)
	bad["up.example.com"] = harbortest.Unhealthy
	names := map[string]string{"remote/new": "old"}
	for spec, why := range map[string]string{
		`{"type":"harbor","url":"https://up.example.com","description":"d"}`: "renames no registry that does not answer, as this one (https://up.example.com)",
		`{"type":"oci","url":"https://up.example.com"}`:                      "rename it first, and change the type after that",
	} {
		c := formerly(t, p, objects(t, "remote/new "+spec), names)
		v, err := p.Prepare(t.Context(), c)
		if err != nil || len(v) != 1 || c[0].Action != plan.Rename || !strings.Contains(v[0].Refused, why) {
			t.Errorf("%s: %s is refused so: %+v, %v", spec, told(c), v, err)
		}
	}
	c := formerly(t, p, objects(t, `remote/new {"type":"harbor","url":"https://elsewhere.example.com"}`), names)
	if v, err := p.Prepare(t.Context(), c); err != nil || v[0].Refused != "" {
		t.Errorf("one that is another place by then is refused so: %+v, %v", v, err)
	}
	change(t, p, c...)
}

func TestWhatKeepsItsNameSaysSo(t *testing.T) {
	p := newStandIn(t, harbortest.Options{}).open(t)
	apply(t, p, "namespace/old", person("old"), `robot/old {"access":{"old":["pull"]},"secret":{"value":`+secretA+`}}`, `scanner/old {"url":"http://old:8080"}`)
	for line, why := range map[string]string{
		"namespace/new": "a namespace keeps its name for ever", person("new"): "a user keeps its name for ever",
		`robot/new {"access":{"old":["pull"]},"secret":{"value":` + secretA + `}}`: "a robot keeps its name for ever",
		`scanner/Trivy {"url":"http://old:8080"}`:                                  "keeps the name Trivy",
	} {
		key, _, _ := strings.Cut(line, " ")
		v, err := p.Prepare(t.Context(), formerly(t, p, objects(t, line), map[string]string{key: "old"}))
		if err != nil || len(v) != 1 || !strings.Contains(v[0].Refused, why) {
			t.Errorf("%s is refused so: %+v, %v", key, v, err)
		}
	}
}

func TestAGroupIsRenamedAndNothingElseOfIt(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, `group/old {"type":"oidc"}`, `group/other {"type":"oidc"}`)
	names := map[string]string{"group/new": "old"}
	c := formerly(t, p, objects(t, `group/new {"type":"http"}`), names)
	if v, err := p.Prepare(t.Context(), c); err != nil || !strings.Contains(v[0].Refused, "rename it first") {
		t.Errorf("with another type it is refused so: %+v, %v", v, err)
	}
	c = formerly(t, p, objects(t, `group/new {"type":"oidc"}`), names)
	if v, err := p.Prepare(t.Context(), c); err != nil || v[0].Refused != "" || len(v[0].Notes) != 1 || !strings.Contains(v[0].Notes[0], "must be called so too") {
		t.Errorf("the plan says %+v, %v", v, err)
	}
	// somebody made another of the name, which Harbor does not say
	h.behind(t, http.MethodPost, "/usergroups", `{"group_name":"new","group_type":2}`)
	if err := write(t, p, c...)[c[0].Key]; !errors.Is(err, providers.ErrConflict) {
		t.Errorf("another has the name: %v", err)
	}
}
