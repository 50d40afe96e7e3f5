package harbor_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/schema"
)

// busy are objects by which everybody can do something in project a.
func busy() []string {
	return []string{
		"namespace/a", "namespace/ab", "group/dev", person("alice"), person("bob"),
		`access/a {"anonymous":["pull"],"users":{"alice":["admin"],"bob":["push"]},"groups":{"dev":["pull"]}}`,
		`immutable/a {"rules":[{"tags":"v*"}]}`, `retention/a {"keep":[{"newest":1}],"schedule":"@daily"}`, `quota/a {"limit":"1MiB"}`,
		`webhook/a/ci {"url":"https://a.example.com","events":["push"]}`, `label/a/base {"color":"#2E7D32"}`, `robot/a/ci {"access":{"a":["pull","push"]}}`,
		`robot/all {"description":"Both","expires":"30d","access":{"a":["pull"],"ab":["pull"]}}`, `robot/only {"access":{"a":["push","pull"]}}`, `robot/every {"access":{"*":["pull"]}}`,
		`gc {"schedule":"@daily","untagged":true}`,
	}
}

// toArchive is a Harbor with a project that is open, and the change that archives it.
func toArchive(t *testing.T, options harbortest.Options) (standIn, *harbor.Provider, plan.Change) {
	t.Helper()
	h := newStandIn(t, options)
	p := h.open(t)
	apply(t, p, busy()...)
	for _, name := range []string{"a/app", "a/deep/er/app", "ab/app"} {
		if err := h.Push(harbortest.Image{Repository: name, Tags: []string{"v1", "latest"}, Size: 10}); err != nil {
			t.Fatal(err)
		}
	}
	return h, p, archiving(t, p, "a")
}

// archiving is the change that archives a project.
func archiving(t *testing.T, p providers.Provider, name string) plan.Change {
	t.Helper()
	before, ok := read(t, p, schema.KindNamespace).Get(schema.Key{Kind: schema.KindNamespace, Name: name})
	if !ok {
		t.Fatal("there is no namespace")
	}
	return plan.Change{Action: plan.Delete, Archive: true, Key: before.Key, Before: &before, Impact: []string{"with it goes robot/" + name + "/ci"}}
}

// robots are the robots of the system or of a project, by name: where each may do
// something, and "off" where it is switched off.
func (h standIn) robots(t *testing.T, project string) map[string]string {
	t.Helper()
	query := ""
	if project != "" {
		var p struct {
			ID int64 `json:"project_id"`
		}
		if err := json.Unmarshal([]byte(h.behind(t, http.MethodGet, "/projects/"+project, "")), &p); err != nil {
			t.Fatal(err)
		}
		query = fmt.Sprintf("?q=Level=project,ProjectID=%d", p.ID)
	}
	var list []struct {
		Name        string
		Disable     bool
		Permissions []struct{ Namespace string }
	}
	if err := json.Unmarshal([]byte(h.behind(t, http.MethodGet, "/robots"+query, "")), &list); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, r := range list {
		var words []string
		for _, x := range r.Permissions {
			words = append(words, x.Namespace)
		}
		slices.Sort(words)
		if r.Disable {
			words = append(words, "off")
		}
		out[r.Name] = strings.Join(words, " ")
	}
	return out
}

// isLocked looks that nobody but administrators has anything of project a, that
// nothing in it can change, and that all of its content is there.
func (h standIn) isLocked(t *testing.T) {
	t.Helper()
	if status, text := h.asked(t, "", "", http.MethodGet, "/api/v2.0/projects/a/repositories", ""); status/100 == 2 {
		t.Errorf("a stranger is told %d %s", status, text)
	}
	for _, name := range []string{"alice", "bob"} {
		if status, text := h.asked(t, name, h.password(t), http.MethodGet, "/api/v2.0/projects/a/repositories", ""); status != http.StatusForbidden {
			t.Errorf("%s is told %d %s", name, status, text)
		}
	}
	if diff := cmp.Diff(map[string]int{"admin": 1}, h.members(t)); diff != "" {
		t.Errorf("the members (-want +have):\n%s", diff)
	}
	if list := h.robots(t, "a"); len(list) > 0 {
		t.Errorf("the project's robots are %v", list)
	}
	if diff := cmp.Diff(map[string]string{"robot$all": "ab", "robot$only": "a off", "robot$every": "*"}, h.robots(t, "")); diff != "" {
		t.Errorf("the system's robots (-want +have):\n%s", diff)
	}
	says(t, h.Push(harbortest.Image{Repository: "a/new", Tags: []string{"x"}, Size: 1, Env: []string{"never there"}}), nil, "exceed")
	for _, tag := range []string{"v1", "latest"} {
		says(t, h.Push(harbortest.Image{Repository: "a/deep/er/app", Tags: []string{tag}, Size: 1, Env: []string{"other"}}), nil, "immutable")
	}
	if status, text := h.asked(t, "admin", h.password(t), http.MethodDelete, "/api/v2.0/projects/a/repositories/app", ""); status != http.StatusPreconditionFailed {
		t.Errorf("a repository's deletion is answered with %d %s", status, text)
	}
	if text := h.behind(t, http.MethodGet, "/projects/a", ""); strings.Contains(text, "retention_id") || !strings.Contains(text, `"public":"false"`) {
		t.Errorf("the project is %s", text)
	}
	if text := h.behind(t, http.MethodGet, "/projects/a/repositories", ""); !strings.Contains(text, `"a/app"`) || !strings.Contains(text, `"a/deep/er/app"`) {
		t.Errorf("the repositories are %s", text)
	}
	if text := h.behind(t, http.MethodGet, "/schedules", ""); strings.Contains(text, `"RETENTION"`) {
		t.Errorf("the schedules are %s", text)
	}
}

func TestAnArchivedProjectIsLockedAndKept(t *testing.T) {
	h, p, c := toArchive(t, harbortest.Options{FirstID: 70})
	v, err := p.Prepare(t.Context(), []plan.Change{c})
	if err != nil || v[0].Refused != "" {
		t.Fatalf("it says %+v, %v", v, err)
	}
	want := []string{
		"nobody pulls from it any more without being an administrator: it is made private",
		"its members lose their access to it: group/dev, user/alice, user/bob",
		"robot robot$all loses its access to it",
		`robot robot$every keeps its access to it: Harbor can leave no project out of "*"; what it may push or delete, immutable tags and the quota keep it from`,
		"robot robot$only loses its access to it: it may do nothing else, and is switched off",
		"its quota becomes 1 byte, so that nothing more fits; it was 1.0 MiB",
		"all its tags become immutable",
		"its retention is taken away: nothing deletes tags in it any more",
		"what has no tag in it still goes: gc.untagged holds for all projects",
		"webhook/a/ci stays as it is",
	}
	if diff := cmp.Diff(want, v[0].Impact); diff != "" {
		t.Errorf("the impact (-want +have):\n%s", diff)
	}
	change(t, p, c)
	h.isLocked(t)
	h.Forget()
	change(t, p, c) // again is a success, and writes nothing
	for _, r := range h.Requests() {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			t.Errorf("again it asks %s %s", r.Method, r.Path)
		}
	}
	h.isLocked(t)
	if v, err = p.Prepare(t.Context(), []plan.Change{c}); err != nil || strings.Contains(strings.Join(v[0].Impact, "\n"), "lose") {
		t.Errorf("of what is locked it says %+v, %v", v, err)
	}
}

// Whatever step fails, what is shut stays so, and the next run ends it. The first
// steps shut most.
func TestAnArchiveThatFailedIsEnded(t *testing.T) {
	steps := []struct{ what, method, path string }{
		{"making it private", http.MethodPut, "/projects/{project_name_or_id}"},
		{"lowering its quota", http.MethodPut, "/quotas/{id}"},
		{"making its tags immutable", http.MethodPost, "/projects/{project_name_or_id}/immutabletagrules"},
		{"taking its retention away", http.MethodDelete, "/retentions/{id}"},
		{"taking its members out: alice", http.MethodDelete, "/projects/{project_name_or_id}/members/{mid}"},
		{"deleting its robots: robot$a+ci", http.MethodDelete, "/robots/{robot_id}"},
		{"taking it from robots of the system", http.MethodPut, "/robots/{robot_id}"},
	}
	name := func(what string) string { name, _, _ := strings.Cut(what, ":"); return name }
	for i, step := range steps {
		t.Run(step.what, func(t *testing.T) {
			h, p, c := toArchive(t, harbortest.Options{FirstID: 20})
			h.Inject(harbortest.Fault{Method: step.method, Path: step.path, Status: http.StatusInternalServerError})
			err := failed(t, p, c)
			says(t, err, nil, "namespace/a", step.what, "Harbor answers 500", "left is "+name(step.what))
			if errors.Is(err, providers.ErrPartly) != (i > 0) || i > 0 && !strings.Contains(err.Error(), "done is making it private") {
				t.Errorf("of what is done it says %v", err)
			}
			h.Heal()
			project := h.behind(t, http.MethodGet, "/projects/a", "")
			if private := strings.Contains(project, `"public":"false"`); private != (i > 0) {
				t.Errorf("it is private: %t", private)
			}
			if err := h.Push(harbortest.Image{Repository: "a/new", Size: 1, Env: []string{"other"}}); (err != nil) != (i > 1) {
				t.Errorf("a push is answered with %v", err)
			}
			if err := h.Push(harbortest.Image{Repository: "a/app", Tags: []string{"latest"}}); (err != nil) != (i > 2) {
				t.Errorf("a push to a tag is answered with %v", err)
			}
			change(t, p, c)
			h.isLocked(t)
		})
	}
}

// A robot that is in two projects leaves both, and what somebody switched off or
// never had is no obstacle.
func TestTwoProjectsAreArchivedAtOnce(t *testing.T) {
	h, p, c := toArchive(t, harbortest.Options{})
	for i, rule := range []string{`"disabled":false`, `"disabled":true`} {
		body := `{"action":"immutable","template":"immutable_template","tag_selectors":[{"kind":"doublestar","decoration":"matches","pattern":"**"}],"scope_selectors":{"repository":[{"kind":"doublestar","decoration":"repoMatches","pattern":"**"}]}`
		if i == 0 {
			h.behind(t, http.MethodPost, "/projects/ab/immutabletagrules", body+`,`+rule+`}`)
			continue
		}
		var rules []struct{ ID int64 }
		if err := json.Unmarshal([]byte(h.behind(t, http.MethodGet, "/projects/ab/immutabletagrules", "")), &rules); err != nil || len(rules) != 1 {
			t.Fatal(rules, err)
		}
		h.behind(t, http.MethodPut, fmt.Sprintf("/projects/ab/immutabletagrules/%d", rules[0].ID), fmt.Sprintf(`{"id":%d,`, rules[0].ID)+body[1:]+`,`+rule+`}`)
	}
	change(t, p, c, archiving(t, p, "ab"))
	have := h.robots(t, "")
	if !strings.HasSuffix(have["robot$all"], " off") || strings.Contains(have["robot$all"], "a ab") {
		t.Errorf("the robot of both may still do something: %v", have)
	}
	if text := h.behind(t, http.MethodGet, "/projects/ab/immutabletagrules", ""); strings.Count(text, `"id"`) != 1 || strings.Contains(text, `"disabled":true`) {
		t.Errorf("the rules are %s", text)
	}
}

// A project that was made while Harbor counted nothing has no quota, and says so.
func TestAProjectWithoutQuotaIsArchivedAndSaysSo(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	h.behind(t, http.MethodPut, "/configurations", `{"quota_per_project_enable":false}`)
	p := h.open(t)
	apply(t, p, "namespace/a")
	c := archiving(t, p, "a")
	v, err := p.Prepare(t.Context(), []plan.Change{c})
	if err != nil || !slices.Contains(v[0].Impact, "it has no quota that could be lowered: this Harbor counted nothing when it was made") {
		t.Errorf("it says %+v, %v", v, err)
	}
	change(t, p, c)
	h, p, c = toArchive(t, harbortest.Options{})
	h.behind(t, http.MethodPut, "/configurations", `{"quota_per_project_enable":false}`)
	if v, err = p.Prepare(t.Context(), []plan.Change{c}); err != nil || !strings.Contains(strings.Join(v[0].Impact, "\n"), "this Harbor counts nothing (quota_per_project_enable)") {
		t.Errorf("it says %+v, %v", v, err)
	}
}

// Put back into the file, a project is opened by what is declared of it.
func TestAnArchivedProjectIsOpenedByWhatIsDeclared(t *testing.T) {
	h, p, c := toArchive(t, harbortest.Options{})
	change(t, p, c)
	if rest := compared(t, p, objects(t, "namespace/a")); len(rest) > 0 {
		t.Errorf("its block alone changes %s", told(rest))
	}
	drifts(t, p, objects(t, "namespace/a", `access/a {"anonymous":["pull"],"users":{"alice":["pull"]}}`, `quota/a {"limit":"unlimited"}`, `immutable/a {"rules":[]}`, `robot/only {"enabled":true}`),
		"update access/a", "  anonymous: [] -> [\"pull\"]", "  users.alice:  -> [\"pull\"]",
		"update immutable/a", "  rules: [{\"tags\":\"**\"},{\"tags\":\"v*\"}] -> []",
		"update quota/a", "  limit: \"1B\" -> \"unlimited\"",
		"update robot/only", "  enabled: false -> true")
	if err := h.Push(harbortest.Image{Repository: "a/app", Tags: []string{"v1"}, Size: 5, Env: []string{"other"}}); err != nil {
		t.Error(err)
	}
}

// What ocisync cannot lock it says at plan time.
func TestAnArchiveThatCannotBeIsRefused(t *testing.T) {
	h, _, c := toArchive(t, harbortest.Options{})
	boss := h.boss(t)
	h.registry.Login = &schema.Login{Robot: &boss, Password: h.registry.Login.Password}
	p := h.open(t)
	v, err := p.Prepare(t.Context(), []plan.Change{c})
	if err != nil || !strings.Contains(v[0].Refused, "registry.admin") {
		t.Errorf("a robot is told %+v, %v", v, err)
	}
	admin := "admin"
	h.registry.Admin = &schema.Login{User: &admin, Password: h.registry.Login.Password}
	p = h.open(t)
	v, err = p.Prepare(t.Context(), []plan.Change{c})
	if err != nil || v[0].Refused != "" || !slices.Contains(v[0].Impact, "robot robot$boss keeps its access to it: it is who ocisync is here") || !strings.Contains(strings.Join(v[0].Notes, "\n"), "registry.admin") {
		t.Errorf("with an administrator it is told %+v, %v", v, err)
	}
	change(t, p, c)
	if have := h.robots(t, ""); have["robot$all"] != "ab" || strings.Contains(have["robot$boss"], "off") {
		t.Errorf("the robots are %v", have)
	}
	h, p, c = toArchive(t, harbortest.Options{})
	h.Inject(harbortest.Fault{Method: http.MethodGet, Path: "/projects/{project_name_or_id}/members", Status: http.StatusForbidden})
	if v, err = p.Prepare(t.Context(), []plan.Change{c}); err != nil || !strings.Contains(v[0].Refused, "cannot be seen") {
		t.Errorf("without a look at members it says %+v, %v", v, err)
	}
}

// No lock ends what a preheat policy or a webhook sends: one that is not the mode's
// stays, which is said, and its instance is not planned to go.
func TestWhatSendsFromAnArchiveIsToldAndKeepsItsInstance(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a", peers, fetches, `preheat_policy/a/hand {"instance":"p2p"}`, `webhook/a/ci {"url":"https://a.example.com","events":["push"]}`)
	st := read(t, p, schema.KindPreheat, schema.KindPreheatPolicy)
	gone := func(name string) plan.Change { return goneOf(t, st, name) }
	c := archiving(t, p, "a")
	c.Impact = []string{"webhook/a/ci stays as it is"}
	ours, instance, hand := gone("preheat_policy/a/releases"), gone("preheat/p2p"), gone("preheat_policy/a/hand")
	v, err := p.Prepare(t.Context(), []plan.Change{c, ours, instance})
	if err != nil {
		t.Fatal(err)
	}
	if have := strings.Join(v[0].Impact, "\n"); v[0].Refused != "" || strings.Count(have, "stays as it is") != 1 || !slices.Contains(v[0].Impact, "preheat_policy/a/hand stays as it is") {
		t.Errorf("the archive says %q, %s", v[0].Refused, have)
	}
	if why := v[2].Refused; !strings.Contains(why, "preheat_policy/a/hand does; delete that first") {
		t.Errorf("the instance's deletion is refused so: %q", why)
	}
	if v, err = p.Prepare(t.Context(), []plan.Change{c, ours, hand, instance}); err != nil || v[0].Refused+v[3].Refused != "" {
		t.Fatalf("with all policies it is refused so: %+v, %v", v, err)
	}
	for _, x := range []plan.Change{c, ours, hand, instance} {
		change(t, p, x)
	}
	h.Inject(harbortest.Fault{Method: http.MethodGet, Path: "/projects/{project_name_or_id}/preheat/policies", Status: http.StatusForbidden})
	if v, err = p.Prepare(t.Context(), []plan.Change{c}); err != nil || v[0].Refused != "" {
		t.Errorf("without a look at policies it says %+v, %v", v, err)
	}
}

// Of a robot that reaches all projects the plan says only what is so: which of its
// rights undo the lock, and else what the lock keeps it from.
func TestWhatARobotOfAllProjectsCanDoToAnArchiveIsToldAsItIs(t *testing.T) {
	h, p, c := toArchive(t, harbortest.Options{})
	perm := func(namespace, resource, action string) string {
		return fmt.Sprintf(`{"namespace":%q,"resource":%q,"action":%q}`, namespace, resource, action)
	}
	var all struct {
		Project []struct{ Resource, Action string }
	}
	if err := json.Unmarshal([]byte(h.behind(t, http.MethodGet, "/permissions", "")), &all); err != nil {
		t.Fatal(err)
	}
	undo := []string{"immutable-tag:delete", "immutable-tag:update", "member:create", "metadata:update", "project:update", "robot:create", "tag-retention:create"}
	words := []string{"repository:pull", "repository:push", "repository:delete", "artifact:delete", "tag:delete"}
	var rest []string
	for _, a := range all.Project {
		if !slices.Contains(append(words, undo...), a.Resource+":"+a.Action) {
			rest = append(rest, perm("*", a.Resource, a.Action))
		}
	}
	password := `,"secret":{"value":` + secretA + `}}`
	apply(t, p,
		`robot/boss {"access":{"*":["admin"]}`+password, `robot/rest {"access":{"*":["pull","push","delete"]},"permissions":[`+strings.Join(rest, ",")+`]`+password,
		`robot/pushes {"access":{"*":["push","pull"]}}`, `robot/rules {"permissions":[`+perm("*", "immutable-tag", "update")+`]}`,
		`robot/limits {"access":{"ab":["pull"]},"permissions":[`+perm("", "quota", "update")+`]}`)
	said := func() string {
		t.Helper()
		v, err := p.Prepare(t.Context(), []plan.Change{c})
		if err != nil || v[0].Refused != "" {
			t.Fatalf("it says %+v, %v", v, err)
		}
		return strings.Join(v[0].Impact, "\n") + "\n"
	}
	const keeps = ` keeps its access to it: Harbor can leave no project out of "*"; `
	for _, line := range []string{
		"robot robot$boss" + keeps + "it can undo the lock: it may " + strings.Join(undo, ", "),
		"robot robot$rules" + keeps + "it can undo the lock: it may immutable-tag:update",
		"robot robot$limits can undo the lock: it may quota:update",
		"robot robot$rest" + keeps + "what it may push or delete, immutable tags and the quota keep it from; what has no tag it may delete",
		"robot robot$pushes" + keeps + "what it may push or delete, immutable tags and the quota keep it from",
	} {
		if text := said(); !strings.Contains(text, line+"\n") {
			t.Errorf("it does not say %q:\n%s", line, text)
		}
	}
	change(t, p, c)
	try := func(robot string, want int, method, path, body string) {
		t.Helper()
		if status, text := h.asked(t, "robot$"+robot, h.password(t), method, "/api/v2.0/projects/a"+path, body); status != want {
			t.Errorf("%s: %s %s is answered with %d %s", robot, method, path, status, text)
		}
	}
	for _, robot := range []string{"rest", "boss"} {
		try(robot, http.StatusPreconditionFailed, http.MethodDelete, "/repositories/app", "")
	}
	try("rest", http.StatusForbidden, http.MethodPut, "", `{"metadata":{"public":"true"}}`)
	try("rest", http.StatusForbidden, http.MethodPut, "/metadatas/public", `{"public":"true"}`)
	try("rest", http.StatusForbidden, http.MethodPost, "/members", `{"role_id":1,"member_user":{"username":"bob"}}`)
	try("boss", http.StatusOK, http.MethodPut, "", `{"metadata":{"public":"true"}}`)
	h.behind(t, http.MethodPut, "/configurations", `{"quota_per_project_enable":false}`)
	for _, line := range []string{
		"robot robot$pushes" + keeps + "immutable tags keep it from moving and deleting tags, and nothing from pushing others",
		"robot robot$every" + keeps + "what it may delete, immutable tags keep it from",
	} {
		if text := said(); !strings.Contains(text, line+"\n") {
			t.Errorf("where nothing is counted it does not say %q:\n%s", line, text)
		}
	}
}
