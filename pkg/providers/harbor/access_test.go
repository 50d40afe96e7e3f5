package harbor_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

func person(name string) string {
	return fmt.Sprintf(`user/%s {"email":"%s@example.com","full_name":"%s","password":{"env":"%s"}}`, name, name, name, providertest.SecretA)
}

// members are those of project a with their roles, as Harbor has them.
func (h standIn) members(t testing.TB) map[string]int {
	t.Helper()
	var list []struct {
		Name string `json:"entity_name"`
		Role int    `json:"role_id"`
		ID   int64  `json:"id"`
	}
	if err := json.Unmarshal([]byte(h.behind(t, "GET", "/projects/a/members?page_size=100", "")), &list); err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for _, m := range list {
		out[m.Name] = m.Role
	}
	return out
}

func (h standIn) hasMembers(t testing.TB, want string) {
	t.Helper()
	if have := strings.TrimPrefix(fmt.Sprint(h.members(t)), "map"); have != want {
		t.Errorf("the members are %s, want %s", have, want)
	}
}

func TestASetOfRightsIsTheSmallestRoleThatHoldsIt(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a", person("alice"), person("bob"), person("carol"), person("dave"),
		`access/a {"users":{"alice":["pull"],"bob":["push"],"carol":["delete"],"dave":["admin"]},"anonymous":["pull"]}`)
	h.hasMembers(t, "[admin:1 alice:3 bob:2 carol:4 dave:1]")
	if text := h.behind(t, "GET", "/projects/a", ""); !strings.Contains(text, `"public":"true"`) {
		t.Errorf("the project is not public: %s", text)
	}
}

func TestARoleThatGrantsMoreIsDriftAndOneThatGrantsTheSameIsNot(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	want := apply(t, p, "namespace/a", person("alice"), person("bob"), `access/a {"users":{"alice":["pull"]}}`)
	id := func(name string) (n int64) {
		var list []struct {
			Name string `json:"entity_name"`
			ID   int64  `json:"id"`
		}
		if err := json.Unmarshal([]byte(h.behind(t, "GET", "/projects/a/members", "")), &list); err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			if m.Name == name {
				return m.ID
			}
		}
		t.Fatalf("%s is no member", name)
		return 0
	}
	role := func(name string, r int) {
		h.behind(t, "PUT", fmt.Sprintf("/projects/a/members/%d", id(name)), fmt.Sprintf(`{"role_id":%d}`, r))
	}
	role("alice", 5) // a limited guest pulls too
	drifts(t, p, want)
	role("alice", 4)
	drifts(t, p, want, "update access/a", `  users.alice: ["pull","push","delete"] -> ["pull"]`)
	role("alice", 9) // a role that Harbor takes, and the member is lost
	drifts(t, p, want, "update access/a", `  users.alice:  -> ["pull"]`)
	h.behind(t, "POST", "/projects/a/members", `{"role_id":1,"member_user":{"username":"bob"}}`)
	drifts(t, p, want, "update access/a", `  users.bob: ["admin"] -> `)
	h.hasMembers(t, "[admin:1 alice:3]")
}

// What everybody who logs in may do goes to each declared user; nobody loses
// anything by it where the file does not say which users have rights.
func TestAuthenticatedRemovesNobody(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a", person("alice"), person("bob"), person("carol"))
	for name, role := range map[string]int{"alice": 1, "bob": 3} {
		h.behind(t, "POST", "/projects/a/members", fmt.Sprintf(`{"role_id":%d,"member_user":{"username":%q}}`, role, name))
	}
	h.behind(t, "POST", "/users", `{"username":"stranger","email":"s@example.com","realname":"s","password":"Harbor12345"}`)
	h.behind(t, "POST", "/projects/a/members", `{"role_id":2,"member_user":{"username":"stranger"}}`)
	want := objects(t, "namespace/a", person("alice"), person("bob"), person("carol"), `access/a {"authenticated":["pull","push"]}`)
	changes := compared(t, p, want)
	for _, c := range changes {
		if c.Deletes() != 0 {
			t.Errorf("it takes something away: %s", told(changes))
		}
	}
	drifts(t, p, want, "update access/a", `  users.bob: ["pull"] -> ["pull","push"]`, `  users.carol:  -> ["pull","push"]`)
	h.hasMembers(t, "[admin:1 alice:1 bob:2 carol:2 stranger:2]")

	// a table that is declared is complete, and has those as well
	want = objects(t, "namespace/a", person("alice"), person("bob"), person("carol"), `access/a {"authenticated":["pull"],"users":{"alice":["admin"]}}`)
	drifts(t, p, want, "update access/a", `  users.bob: ["pull","push"] -> ["pull"]`, `  users.carol: ["pull","push"] -> ["pull"]`, `  users.stranger: ["pull","push"] -> `)
	h.hasMembers(t, "[admin:1 alice:1 bob:3 carol:3]")
}

func TestAuthenticatedGoesToAGroupThatIsNamed(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a", "group/staff", "group/others", person("alice"), `access/a {"groups":{"others":["delete"]},"users":{}}`)
	apply(t, p, "group/staff", person("alice"), `access/a {"authenticated":["pull"],"authenticated_group":"staff"}`)
	h.hasMembers(t, "[admin:1 others:4 staff:3]")
}

func TestNobodyPushesWithoutALogin(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a")
	if v := verdict(t, p, objects(t, `access/a {"anonymous":["push"]}`)); !strings.Contains(v.Refused, "without a login") {
		t.Errorf("anonymous push: %+v", v)
	}
}

// The rights of an object that was made in the same run cost one request each.
func TestAccessOfANewProjectIsNotReadFirst(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, person("alice"), person("bob"), person("carol"), "namespace/a")
	r := objects(t, `access/a {"users":{"alice":["pull"],"bob":["pull"],"carol":["pull"]}}`).Resources[0]
	h.behind(t, "POST", "/projects/a/members", `{"role_id":3,"member_user":{"username":"bob"}}`) // somebody was first
	h.Forget()
	got := write(t, p, plan.Change{Action: plan.Create, Key: r.Key, After: &r})
	if n := h.count("GET", "/projects/a/members"); got[r.Key] != nil || n != 0 && n != 1 {
		t.Errorf("%v after %d reads", got, n)
	}
	h.hasMembers(t, "[admin:1 alice:3 bob:3 carol:3]")
}

// What one may not see is unknown.
func TestMembersThatOneMayNotSeeAreUnknown(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a", "namespace/b")
	h.Inject(harbortest.Fault{Method: "GET", Path: "/api/v2.0/projects/a/members", Status: 403})
	st := read(t, p, schema.KindAccess)
	if st.Scope.Covers(schema.Key{Kind: schema.KindAccess, Name: "a"}) || !st.Scope.Covers(schema.Key{Kind: schema.KindAccess, Name: "b"}) {
		t.Errorf("the scope is %+v", st.Scope)
	}
}

// What Harbor refuses of an account it would refuse in the middle of an apply.
func TestAccountsThatHarborHasNotAreRefused(t *testing.T) {
	p := newStandIn(t, harbortest.Options{}).open(t)
	apply(t, p, person("alice"))
	for line, why := range map[string]string{
		`user/alice {"full_name":"Alice \"A\" Smith"}`:             "write full_name without",
		`user/alice {"full_name":"Alice <A> & Smith"}`:             "",
		`user/alice {"comment":"` + strings.Repeat("é", 15) + `"}`: "",
		`user/alice {"comment":"` + strings.Repeat("é", 16) + `"}`: "no comment of more than 30 bytes",
		`user/bob {"email":"b@example.com"}`:                       "without a password",
		`user/bob {"password":` + secretA + `}`:                    "without an email",
	} {
		want := objects(t, line)
		if v := verdict(t, p, want); why == "" && v.Refused != "" || !strings.Contains(v.Refused, why) {
			t.Errorf("%s is refused so: %q, want %q", line, v.Refused, why)
		}
		if why == "" {
			apply(t, p, line)
		}
	}
}

// TestThatNoPasswordIsComparedIsSaid: one note stands for all accounts, and none is tried.
func TestThatNoPasswordIsComparedIsSaid(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	want := apply(t, p, person("alice"), person("bob"), `user/carol {"email":"carol@example.com","password":`+secretA+`}`)
	_, notes, err := p.Normalize(want)
	if err != nil {
		t.Fatal(err)
	}
	said := slices.Compact(notes) // as a plan tells them
	if len(said) != 1 || said[0].Key != (schema.Key{Kind: schema.KindUser}) || !strings.Contains(said[0].Text, "password: (not checked)") || !strings.Contains(said[0].Text, "by hand") {
		t.Errorf("it says %+v", said)
	}
	if _, notes, err = p.Normalize(objects(t, `user/alice {"email":"alice@example.com"}`)); err != nil || len(notes) > 0 {
		t.Errorf("where no password is declared it says %+v, %v", notes, err)
	}
}

// A group that says nothing of its type is of the one that accounts come from once the
// settings of the same run are set.
func TestAGroupIsOfTheTypeThatItsRunChooses(t *testing.T) {
	for mode, kind := range map[string]string{"http_auth": "2", "oidc_auth": "3"} {
		h := newStandIn(t, harbortest.Options{})
		apply(t, h.open(t), setting(`"auth_mode":"`+mode+`"`), "group/team", "namespace/a", `access/a {"groups":{"team":["pull"]}}`)
		if have := h.behind(t, http.MethodGet, "/usergroups", ""); !strings.Contains(have, `"group_type":`+kind) {
			t.Errorf("while auth_mode is %s it is %s", mode, have)
		}
	}
}

func TestGroupsThatHarborHasNotAreRefused(t *testing.T) {
	for _, c := range []struct{ mode, group, why string }{
		{"http_auth", `{"type":"oidc"}`, "only groups of type http"},
		{"http_auth", `{}`, ""},
		{"ldap_auth", `{"type":"http"}`, "only groups of type ldap"},
		{"ldap_auth", `{}`, "declare ldap_dn"},
		{"oidc_auth", `{"type":"ldap"}`, "declare ldap_dn"},
		{"db_auth", `{"type":"local"}`, "no groups of type"},
		{"db_auth", `{"type":"http"}`, ""},
	} {
		p := newStandIn(t, harbortest.Options{}).open(t)
		changes := compared(t, p, objects(t, setting(`"auth_mode":"`+c.mode+`"`), "group/team "+c.group))
		verdicts, err := p.Prepare(t.Context(), changes)
		if err != nil {
			t.Fatal(err)
		}
		for i, x := range changes {
			if got := verdicts[i].Refused; x.Key.Kind == schema.KindGroup && (c.why == "" && got != "" || !strings.Contains(got, c.why)) {
				t.Errorf("%s while auth_mode is %s is refused so: %q, want %q", c.group, c.mode, got, c.why)
			}
		}
	}
}

// TestAccountsFromElsewhereAreNobodysToDeclare: each login writes them anew, so that a
// plan would refuse to put right what nobody changed.
func TestAccountsFromElsewhereAreNobodysToDeclare(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	apply(t, h.open(t), setting(`"auth_mode":"ldap_auth"`))
	h.Onboard("lena", "lena@example.com")
	p := h.open(t)
	live, err := p.Read(t.Context(), schema.ScopeOf(schema.KindUser))
	if err != nil || len(live.Resources) > 0 {
		t.Errorf("there is %+v, %v", live.Resources, err)
	}
	left, err := p.Left(t.Context(), schema.State{})
	if err != nil || !slices.ContainsFunc(left, func(l providers.Leftover) bool {
		return l.What == "users" && strings.Contains(l.Why, "ldap_auth") && strings.Contains(l.Why, "1 logged in")
	}) {
		t.Errorf("left is %+v, %v", left, err)
	}
	changes := compared(t, p, objects(t, `user/lena {"email":"lena@example.com"}`))
	verdicts, err := p.Prepare(t.Context(), changes)
	if err != nil || len(verdicts) != 1 || !strings.Contains(verdicts[0].Refused, "take the users out of the file") {
		t.Errorf("%+v of %+v, %v", verdicts, changes, err)
	}
}
