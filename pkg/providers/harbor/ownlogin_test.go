package harbor_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/schema"
)

// as is the stand-in with the login of a user who was made with [person].
func (h standIn) as(user string) standIn {
	h.registry.Login = &schema.Login{User: &user, Password: h.registry.Login.Password}
	return h
}

// remarked are the notes of a plan of what is declared.
func remarked(t *testing.T, p *harbor.Provider, lines ...string) []plan.Note {
	t.Helper()
	want, _, err := p.Normalize(objects(t, lines...))
	if err != nil {
		t.Fatal(err)
	}
	read(t, p, want.Kinds()...)
	notes, err := p.Remarks(t.Context(), want, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return notes
}

func mentions(notes []plan.Note, key, text string) bool {
	return slices.ContainsFunc(notes, func(n plan.Note) bool { return n.Key.String() == key && strings.Contains(n.Text, text) })
}

// An administrator other than Harbor's first who makes a project is a member by that: the
// same apply takes out who is not declared.
func TestWhoMakesAProjectIsNoMemberAfterTheApply(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	apply(t, h.open(t), strings.Replace(person("ops"), "{", `{"admin":true,`, 1), person("dev"))
	ops := h.as("ops")
	apply(t, ops.open(t), "namespace/a", `access/a {"users":{"dev":["pull"]}}`)
	h.hasMembers(t, "[dev:3]")

	apply(t, ops.open(t), "namespace/b", `access/b {"users":{"dev":["pull"],"ops":["push"]}}`)
	if have := h.behind(t, http.MethodGet, "/projects/b/members", ""); !strings.Contains(have, `"entity_name":"ops"`) || strings.Contains(have, `"role_id":1`) {
		t.Errorf("the members are %s", have)
	}
	apply(t, ops.open(t), "namespace/c", `access/c {"groups":{}}`)
	if have := h.behind(t, http.MethodGet, "/projects/c/members", ""); !strings.Contains(have, `"entity_name":"ops"`) {
		t.Errorf("nobody says who the members of c are, and they are %s", have)
	}
}

// A user who is no administrator sees a project and changes it as its member: ocisync
// leaves that membership alone, and says so.
func TestTheLoginKeepsTheMembershipByWhichItSees(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	apply(t, h.open(t), person("lead"), person("dev"))
	lead := h.as("lead")
	lines := []string{"namespace/a", `access/a {"users":{"dev":["pull"]}}`}
	p := lead.open(t)
	changes := compared(t, p, objects(t, lines...))
	verdicts, err := p.Prepare(t.Context(), changes)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range changes {
		if says := strings.Join(verdicts[i].Notes, "\n"); c.Key.Kind == schema.KindAccess && !strings.Contains(says, "the membership of lead stays: registry.login is that account") {
			t.Errorf("the first plan says %q", says)
		}
	}
	apply(t, lead.open(t), lines...)
	h.hasMembers(t, "[dev:3 lead:1]")
	if notes := remarked(t, lead.open(t), lines...); !mentions(notes, "access/a", "the membership of lead stays: registry.login is that account") {
		t.Errorf("the second plan says %v", notes)
	}

	// others come and go; admin's membership means nothing
	h.behind(t, http.MethodPost, "/projects/a/members", `{"role_id":2,"member_user":{"username":"admin"}}`)
	apply(t, lead.open(t), "namespace/a", `access/a {"users":{}}`)
	h.hasMembers(t, "[admin:2 lead:1]")
}

// Declared, it is compared as others are; a file that takes it away is refused.
func TestTheLoginsOwnMembershipIsNotTakenAway(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	apply(t, h.open(t), person("lead"), person("dev"))
	lead := h.as("lead")
	said := []string{"namespace/a", `access/a {"users":{"dev":["pull"],"lead":["admin"]}}`}
	apply(t, lead.open(t), said...)
	if notes := remarked(t, lead.open(t), said...); mentions(notes, "access/a", "stays") {
		t.Errorf("the plan says %v", notes)
	}
	for _, rights := range []string{`["pull"]`, `[]`} {
		v := verdict(t, lead.open(t), objects(t, "namespace/a", `access/a {"users":{"dev":["pull"],"lead":`+rights+`}}`))
		if !strings.Contains(v.Refused, "it takes from lead what registry.login sees and changes the project by; declare users.lead") {
			t.Errorf("%s: refused for %q", rights, v.Refused)
		}
	}
	// an administrator needs none
	apply(t, h.open(t), said[0], `access/a {"users":{"lead":["pull"]}}`)
}

// A project that Harbor does not list for the login is not absent: a plan would make it.
func TestAProjectThatTheLoginDoesNotSeeIsNotAbsent(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	apply(t, h.open(t), person("lead"), "namespace/a", "namespace/b", `access/a {"users":{"lead":["admin"]}}`)
	robot := h
	robot.registry.Login = h.robotThat(t, "a", func(right string) bool { return !strings.HasPrefix(right, "project:list") })
	for who, x := range map[string]struct {
		standIn
		remedy string
	}{
		"lead":         {h.as("lead"), "have an administrator make that account a project admin of b, "},
		"robot$worker": {robot, "have an administrator give that robot project:list for the whole registry, or rights in b, "},
	} {
		for _, line := range []string{"namespace/b", `label/b/base {"color":"#2E7D32"}`} {
			p := x.open(t)
			want, _, err := p.Normalize(objects(t, "namespace/a", line, "namespace/new"))
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.Read(t.Context(), want.Scope)
			says(t, err, providers.ErrForbidden, h.registry.URL, "namespace/b: reading", "Harbor has the project, and does not list it for "+who, x.remedy, "take [namespace.b] out of the file", "registry.login")
		}
		// of what is not read nothing is said, and what is not there is absent
		p := x.open(t)
		if changes := compared(t, p, objects(t, "namespace/a", "namespace/new")); told(changes) != "create namespace/new" {
			t.Errorf("%s: the plan is %s", who, told(changes))
		}
	}
	if changes := compared(t, h.open(t), objects(t, "namespace/a", "namespace/b")); len(changes) > 0 {
		t.Errorf("the plan of an administrator is %s", told(changes))
	}
}

// A robot that would not see what it makes is told before.
func TestARobotThatWouldNotSeeItsProjectMakesNone(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	apply(t, h.open(t), "namespace/a")
	for project, want := range map[string]string{"a": "lacks project:list for the whole registry", "*": ""} {
		h.registry.Login = h.robotThat(t, project, func(right string) bool { return !strings.HasPrefix(right, "project:list") })
		if v := verdict(t, h.open(t), objects(t, "namespace/new")); want == "" && v.Refused != "" || !strings.Contains(v.Refused, want) {
			t.Errorf("with rights in %s it is refused for %q, want %q", project, v.Refused, want)
		}
		h.behind(t, http.MethodDelete, "/robots/"+h.idOf(t, "worker"), "")
	}
}

// Who sees all projects is not asked of each that is to be made.
func TestOnlyWhoSeesNotAllIsAskedForEachProject(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	apply(t, h.open(t), person("lead"), "namespace/a")
	robot := h
	robot.registry.Login = h.robotThat(t, "*", func(string) bool { return true })
	for name, x := range map[string]struct {
		standIn
		want int
	}{"admin": {h, 0}, "robot": {robot, 0}, "lead": {h.as("lead"), 2}} {
		p := x.open(t)
		h.Forget()
		compared(t, p, objects(t, "namespace/b", "namespace/c"))
		if n := h.count(http.MethodHead, "/projects"); n != x.want {
			t.Errorf("%s: %d requests ask for a project, want %d", name, n, x.want)
		}
	}
}

// idOf is the number of a robot of the system.
func (h standIn) idOf(t *testing.T, name string) string {
	t.Helper()
	var list []struct {
		ID int64 `json:"id"`
	}
	if err := json.Unmarshal([]byte(h.behind(t, http.MethodGet, "/robots?q=name%3D"+name, "")), &list); err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	return strconv.FormatInt(list[0].ID, 10)
}

// What others have, and no file of a project's administrator speaks of, does not stop
// him: what he may not know of it is unknown.
func TestAProjectsAdministratorIsNotStoppedByWhatOthersHave(t *testing.T) {
	h := newStandIn(t, harbortest.Options{}).withScanner(t)
	apply(t, h.open(t), person("lead"), hub, "namespace/a", `access/a {"users":{"lead":["admin"]}}`,
		`namespace/cache {"proxy_of":"hub"}`, `access/cache {"anonymous":["pull"],"users":{"lead":["admin"]}}`, `scanner/other {"url":"https://other.example.com"}`)
	lead := h.as("lead")
	lines := []string{"namespace/a", `label/a/base {"color":"#2E7D32"}`, `scan/a {"on_push":true,"block":"high"}`}
	apply(t, lead.open(t), lines...)
	for _, others := range []schema.Key{{Kind: schema.KindNamespace, Name: "cache"}, {Kind: schema.KindScan}} {
		p := lead.open(t)
		want, _, err := p.Normalize(objects(t, lines...))
		if err != nil {
			t.Fatal(err)
		}
		if st := read(t, p, want.Kinds()...); st.Scope.Covers(others) {
			t.Errorf("what was not read of %s is taken for absent", others)
		}
	}
	// one that he has is as the list of projects says, but for what he may not know
	apply(t, lead.open(t), "namespace/a", "namespace/cache", `label/cache/base {"color":"#2E7D32"}`)
	for _, line := range []string{`namespace/cache {"proxy_of":"hub"}`, `namespace/cache {"proxy":{"connections":5}}`, `scan/a {"scanner":"other"}`, `scan {"schedule":"@daily"}`} {
		p := lead.open(t)
		want, _, err := p.Normalize(objects(t, "namespace/a", line))
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Read(t.Context(), want.Scope)
		says(t, err, providers.ErrForbidden, "Harbor answers 403: lead")
	}
	// without a file all is asked for
	for _, k := range []schema.Kind{schema.KindNamespace, schema.KindScan} {
		_, err := lead.open(t).Read(t.Context(), schema.ScopeOf(k))
		says(t, err, providers.ErrForbidden, "Harbor answers 403: lead")
	}
}

// A refusal to name the remotes is asked for once.
func TestRemotesThatMayNotBeSeenAreAskedForOnce(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	lines := []string{person("lead"), hub, "namespace/a", `access/a {"users":{"lead":["admin"]}}`}
	for _, name := range []string{"c", "d", "e"} {
		lines = append(lines, fmt.Sprintf(`namespace/%s {"proxy_of":"hub"}`, name), fmt.Sprintf(`access/%s {"anonymous":["pull"]}`, name))
	}
	apply(t, h.open(t), lines...)
	h.Forget()
	compared(t, h.as("lead").open(t), objects(t, "namespace/a"))
	if n := h.count(http.MethodGet, "/registries"); n != 1 {
		t.Errorf("%d requests ask for remotes", n)
	}
}

// What to do about a refusal is what can be done: Harbor gives a user roles in projects,
// and no right in the system.
func TestAUserIsToldWhatCanBeDoneAboutARefusal(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	apply(t, h.open(t), person("lead"), person("guest"), hub, "namespace/a", `access/a {"users":{"lead":["admin"],"guest":["pull"]}}`,
		`namespace/cache {"proxy_of":"hub"}`, `access/cache {"anonymous":["pull"]}`)
	const system = "Harbor has no such right for a user; name a robot that has it, or an administrator, in registry.login"
	for _, x := range []struct{ who, line, remedy string }{
		{"lead", `quota/a {"limit":"5GiB"}`, "it takes quota:list for the whole registry; " + system},
		{"lead", `robot/all {"access":{"*":["pull"]}}`, "it takes robot:list for the whole registry; " + system},
		{"lead", `settings {"values":{"token_expiration":45}}`, "name an administrator's account in registry.login"},
		{"guest", `webhook/a/ci {"url":"https://a.example.com","events":["push"]}`, "have an administrator give the user in registry.login a role that has notification-policy:list in a, or name one there that has it"},
	} {
		p := h.as(x.who).open(t)
		want, _, err := p.Normalize(objects(t, x.line))
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Read(t.Context(), want.Scope)
		says(t, err, providers.ErrForbidden, "Harbor answers 403: ", x.remedy)
		if strings.Contains(err.Error(), "registry.admin") || strings.Contains(err.Error(), "give the account in registry.login") {
			t.Errorf("%s: it says %v", x.line, err)
		}
	}
	notes := remarked(t, h.as("lead").open(t), "namespace/a", `label/a/l {"color":"#2E7D32"}`, `webhook/a/ci {"url":"https://a.example.com","events":["push"]}`)
	for _, want := range []string{
		"what is not declared is not seen of cache: Harbor answers 403: lead; it takes registry:list; " + system,
		"what is not declared is not seen of cache, library: Harbor answers 403: forbidden; have an administrator give the user in registry.login a role there that has notification-policy:list to have it seen",
	} {
		if !slices.ContainsFunc(notes, func(n plan.Note) bool { return n.Text == want }) {
			t.Errorf("the notes have no %q: %v", want, notes)
		}
	}
}
