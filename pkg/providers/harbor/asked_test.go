package harbor_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/harbor"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/schema"
)

// many is a Harbor where lead administers a, b and c, develops in d and sees ten public
// projects besides; each has a webhook and a label.
func many(t *testing.T) standIn {
	t.Helper()
	h := newStandIn(t, harbortest.Options{})
	lines := []string{person("lead")}
	add := func(name, access string) {
		lines = append(lines, "namespace/"+name, "access/"+name+" "+access,
			fmt.Sprintf(`label/%s/base {"color":"#2E7D32"}`, name), fmt.Sprintf(`webhook/%s/ci {"url":"https://a.example.com","events":["push"]}`, name))
	}
	for _, name := range []string{"a", "b", "c"} {
		add(name, `{"users":{"lead":["admin"]}}`)
	}
	add("d", `{"users":{"lead":["push"]}}`)
	for i := range 10 {
		add(fmt.Sprintf("open%d", i), `{"anonymous":["pull"]}`)
	}
	apply(t, h.open(t), lines...)
	return h
}

// wanting is a provider that was told what is declared, and the scope of a plan of it.
func wanting(t *testing.T, p *harbor.Provider, owned []string, lines ...string) schema.Scope {
	t.Helper()
	want, _, err := p.Normalize(objects(t, lines...))
	if err != nil {
		t.Fatal(err)
	}
	kinds := want.Kinds()
	var keys []schema.Key
	for _, text := range owned {
		key, err := schema.ParseKey(text)
		if err != nil {
			t.Fatal(err)
		}
		keys, kinds = append(keys, key), append(kinds, key.Kind)
	}
	scope := schema.ScopeOf(kinds...)
	scope.Owned = keys
	return scope
}

// refused counts the answers 403.
func (h standIn) refused() (n int) {
	for _, r := range h.Requests() {
		if r.Status == http.StatusForbidden {
			n++
		}
	}
	return n
}

// everything is a declaration of each kind that each project lists, in a.
func everythingIn(name string) []string {
	return []string{
		"namespace/" + name, "access/" + name + ` {"users":{"lead":["admin"]}}`, "immutable/" + name + ` {"rules":[]}`, "retention/" + name + ` {"keep":[{"newest":3}]}`,
		"label/" + name + `/base {"color":"#2E7D32"}`, "webhook/" + name + `/ci {"url":"https://a.example.com","events":["push"]}`,
		"preheat_policy/" + name + `/p {"instance":"p2p"}`, "robot/" + name + `/ci {"access":{"` + name + `":["pull"]}}`,
	}
}

// TestWhatAUserMayNotSeeIsAskedForOnce: of projects that the mode does not speak of a
// list that was refused is not asked for again where the login has the same roles; what
// it may see there is read all the same.
func TestWhatAUserMayNotSeeIsAskedForOnce(t *testing.T) {
	h := many(t)
	lead := h.as("lead")
	p := lead.open(t)
	scope := wanting(t, p, nil, everythingIn("a")...)
	h.Forget()
	st, err := p.Read(t.Context(), scope)
	if err != nil {
		t.Fatal(err)
	}
	// the system's robots; of ten public projects and library, and of d alone: webhooks,
	// immutable tags and preheat policies; of the public ones members and robots too
	if n := h.refused(); n != 1+2*3+2 {
		t.Errorf("%d requests are refused:\n%v", n, h.Requests())
	}
	for key, want := range map[string]bool{
		"webhook/a/ci": true, "webhook/b/ci": true, "webhook/d/ci": false, "webhook/open0/ci": false, "webhook/open9/ci": false,
		"access/b": true, "access/d": true, "access/open3": false, "label/open9/base": true, "robot/open1/x": false, "robot/b/x": true,
	} {
		k, err := schema.ParseKey(key)
		if err != nil {
			t.Fatal(err)
		}
		if _, there := st.Get(k); st.Scope.Covers(k) != want || there && !want {
			t.Errorf("%s is spoken of: %v, want %v", key, st.Scope.Covers(k), want)
		}
		if _, there := st.Get(k); want && !there && k.Kind != schema.KindRobot {
			t.Errorf("%s is not read", key)
		}
	}
	notes, err := p.Remarks(t.Context(), schema.State{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	about := slices.DeleteFunc(notes, func(n plan.Note) bool { return !strings.Contains(n.Text, "is not seen of") })
	if len(about) != 2 || !slices.ContainsFunc(about, func(n plan.Note) bool {
		return strings.Contains(n.Text, "not seen of d, library, open0, open1, open2, open3, open4, open5, open6, open7 and 2 more: ") &&
			strings.Contains(n.Text, "a role there that has immutable-tag:list, member:list, notification-policy:list, preheat-policy:list, robot:list to have it seen")
	}) {
		t.Errorf("the plan says %v", about)
	}
}

// TestWhatIsOwnedIsAskedFor: whatever was refused in projects that are shown alike.
func TestWhatIsOwnedIsAskedFor(t *testing.T) {
	h := many(t)
	p := h.as("lead").open(t)
	scope := wanting(t, p, []string{"webhook/open9/ci"}, "namespace/a")
	h.Forget()
	if _, err := p.Read(t.Context(), scope); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/projects/open9/webhook": 1, "/projects/a/webhook": 1, "/projects/b/webhook": 1, "/projects/open0/webhook": 0, "/projects/library/webhook": 1} {
		if n := h.count(http.MethodGet, path); n != want {
			t.Errorf("%d requests for %s, want %d", n, path, want)
		}
	}
}

// TestWhoSeesAllAsksForEachList: nothing is spared where nothing is refused.
func TestWhoSeesAllAsksForEachList(t *testing.T) {
	h := many(t)
	robot := h
	robot.registry.Login = h.robotThat(t, "*", func(string) bool { return true })
	for who, x := range map[string]standIn{"admin": h, "robot": robot} {
		p := x.open(t)
		scope := wanting(t, p, nil, `webhook/a/ci {"url":"https://a.example.com","events":["push"]}`)
		h.Forget()
		if _, err := p.Read(t.Context(), scope); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, r := range h.Requests() {
			if strings.HasSuffix(r.Route, "/webhook/policies") {
				n++
			}
		}
		if n != 15 || h.refused() > 0 {
			t.Errorf("%s: %d lists of 15 projects, %d refused", who, n, h.refused())
		}
	}
}

// TestARobotGoesByItsOwnRightsAfterARefusal: where it sees them, and where they are of
// one project; else it asks everywhere.
func TestARobotGoesByItsOwnRightsAfterARefusal(t *testing.T) {
	const read = `{"resource":"notification-policy","action":"list"},{"resource":"label","action":"list"}`
	for name, c := range map[string]struct {
		robot, login         string
		asks, refused, looks int
	}{
		"sees its rights": {`{"name":"r","level":"system","duration":-1,"permissions":[{"kind":"system","namespace":"/","access":[{"resource":"robot","action":"list"},{"resource":"project","action":"list"}]},
			{"kind":"project","namespace":"a","access":[` + read + `]},{"kind":"project","namespace":"open7","access":[` + read + `]}]}`, "r", 4, 2, 1},
		"does not see them": {`{"name":"r","level":"system","duration":-1,"permissions":[{"kind":"system","namespace":"/","access":[{"resource":"project","action":"list"}]},
			{"kind":"project","namespace":"a","access":[` + read + `]},{"kind":"project","namespace":"open7","access":[` + read + `]}]}`, "r", 15, 13, 1},
		"is of a project": {`{"name":"r","level":"project","duration":-1,"permissions":[{"kind":"project","namespace":"a","access":[` + read + `]}]}`, "a+r", 2, 1, 1},
	} {
		h := many(t)
		var made struct{ ID int64 }
		if err := json.Unmarshal([]byte(h.behind(t, http.MethodPost, "/robots", c.robot)), &made); err != nil {
			t.Fatal(err)
		}
		h.behind(t, http.MethodPatch, fmt.Sprintf("/robots/%d", made.ID), fmt.Sprintf(`{"secret":%q}`, h.password(t)))
		h.registry.Login = &schema.Login{Robot: &c.login, Password: h.registry.Login.Password}
		p := h.open(t)
		scope := wanting(t, p, nil, `webhook/a/ci {"url":"https://a.example.com","events":["push"]}`)
		h.Forget()
		st, err := p.Read(t.Context(), scope)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		asks, refused := 0, 0
		for _, r := range h.Requests() {
			if strings.HasSuffix(r.Route, "/webhook/policies") {
				asks++
				if r.Status == http.StatusForbidden {
					refused++
				}
			}
		}
		if looks := h.count(http.MethodGet, "/robots"); asks != c.asks || refused != c.refused || looks > c.looks {
			t.Errorf("%s: it asks %d times, is refused %d times, and looks %d times", name, asks, refused, looks)
		}
		for _, name := range []string{"library", "open0", "open9"} {
			if st.Scope.Covers(schema.NewKey(schema.KindWebhook, name, "ci")) {
				t.Errorf("what was not read of %s is taken for absent", name)
			}
		}
	}
}

// TestWhatIsOwnedInAProjectThatIsNotShownIsUnknown: it is not gone, and the plan says who
// would see it.
func TestWhatIsOwnedInAProjectThatIsNotShownIsUnknown(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	apply(t, h.open(t), person("lead"), "namespace/a", "namespace/b", `access/a {"users":{"lead":["admin"]}}`, `label/b/base {"color":"#2E7D32"}`)
	robot := h
	robot.registry.Login = h.robotThat(t, "a", func(right string) bool { return !strings.HasPrefix(right, "project:list") })
	owned := []string{"namespace/a", "namespace/b", "label/b/base", "quota/b", "namespace/gone", "label/gone/base"}
	for who, x := range map[string]struct {
		standIn
		remedy string
	}{
		"lead":         {h.as("lead"), "have an administrator make that account a project admin of b, or name in registry.login an account that sees it"},
		"robot$worker": {robot, "have an administrator give that robot project:list for the whole registry, or rights in b, or name in registry.login an account that sees it"},
	} {
		p := x.open(t)
		st, err := p.Read(t.Context(), wanting(t, p, slices.DeleteFunc(slices.Clone(owned), func(k string) bool { return who == "lead" && strings.HasPrefix(k, "quota") }), "namespace/a"))
		if err != nil {
			t.Fatal(err)
		}
		for text, want := range map[string]bool{"namespace/a": true, "namespace/b": false, "label/b/base": false, "namespace/gone": true, "label/gone/base": true, "label/a/base": true} {
			key, err := schema.ParseKey(text)
			if err != nil {
				t.Fatal(err)
			}
			if st.Scope.Covers(key) != want {
				t.Errorf("%s: %s is spoken of: %v, want %v", who, text, st.Scope.Covers(key), want)
			}
		}
		notes, err := p.Remarks(t.Context(), objects(t, "namespace/a"), time.Now())
		if err != nil || !mentions(notes, "namespace/b", "Harbor has the project, and does not list it for "+who+" (registry.login): what ocisync owns in it is left alone, and stays its own; "+x.remedy) || mentions(notes, "namespace/gone", "") {
			t.Errorf("%s: the plan says %v, %v", who, notes, err)
		}
	}
	// who sees all is asked for nothing
	p := h.open(t)
	scope := wanting(t, p, owned, "namespace/a")
	h.Forget()
	st, err := p.Read(t.Context(), scope)
	if n := h.count(http.MethodHead, "/projects"); err != nil || n > 0 || len(st.Scope.Except) > 0 {
		t.Errorf("an administrator asks %d times, %v: %v", n, err, st.Scope.Except)
	}
}

// TestAKindThatIsOwnedAndMayNotBeSeenIsUnknown: none of it is declared, and so nothing of
// the mode waits for it.
func TestAKindThatIsOwnedAndMayNotBeSeenIsUnknown(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	apply(t, h.open(t), person("lead"), "namespace/a", `access/a {"users":{"lead":["admin"]}}`, hub, `replication/out {"to":"hub","trigger":"manual"}`, `quota/a {"limit":"5GiB"}`)
	p := h.as("lead").open(t)
	st, err := p.Read(t.Context(), wanting(t, p, []string{"replication/out", "quota/a", "namespace/a"}, "namespace/a"))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{"replication/out": false, "quota/a": false, "namespace/a": true} {
		key, err := schema.ParseKey(text)
		if err != nil {
			t.Fatal(err)
		}
		if st.Scope.Covers(key) != want {
			t.Errorf("%s is spoken of: %v, want %v", text, st.Scope.Covers(key), want)
		}
	}
	notes, err := p.Remarks(t.Context(), objects(t, "namespace/a"), time.Now())
	for _, kind := range []string{"replication", "quota"} {
		if err != nil || !mentions(notes, kind, "none is declared, and what there is of them is not seen, so left alone: Harbor answers 403: lead; it takes "+map[string]string{"replication": "replication-policy:list", "quota": "quota:list"}[kind]) {
			t.Errorf("the plan says %v, %v", notes, err)
		}
	}
}
