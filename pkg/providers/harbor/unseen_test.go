package harbor_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/schema"
)

// lists are the rights that it takes to see what only a project lists, with an object
// that a file may have there.
func lists() map[string]string {
	return map[string]string{
		"member:list":              `access/a {"anonymous":["pull"]}`,
		"notification-policy:list": `webhook/a/ci {"url":"https://a.example.com","events":["push"]}`,
		"immutable-tag:list":       `immutable/a {"rules":[{"tags":"v*"}]}`,
		"label:list":               `label/a/base {"color":"#2E7D32"}`,
		"preheat-policy:list":      `preheat_policy/a/hot {"instance":"p2p"}`,
		"tag-retention:read":       `retention/a {"keep":[{"newest":3}]}`,
		"robot:list":               `robot/a/ci {"access":{"a":["pull"]}}`,
		"metadata:list":            `scan/a {"scanner":"other"}`,
	}
}

// without is a robot that lacks one right in projects.
func (h standIn) without(t *testing.T, right string) *schema.Login {
	t.Helper()
	return h.robotThat(t, "*", func(r string) bool {
		return r != right+" for all projects" && !strings.HasPrefix(r, "project:"+strings.Split(right, ":")[1]+" for all")
	})
}

// Of a list that the robot may not see nothing is as declared: where something of it is
// declared, that is an error, which says what to do; an apply is not proved by it
// either.
func TestWhatIsDeclaredAndMayNotBeSeenIsAnError(t *testing.T) {
	others := []string{"namespace/a", `preheat/p2p {"vendor":"kraken","url":"https://p2p.example.com"}`, `scanner/other {"url":"https://other.example.com"}`}
	for right, line := range lists() {
		t.Run(right, func(t *testing.T) {
			h := newStandIn(t, harbortest.Options{})
			apply(t, h.open(t), append(others, line)...)
			h.registry.Login = h.without(t, right)
			p := h.open(t)
			want, _, err := p.Normalize(objects(t, append(others, line)...))
			if err != nil {
				t.Fatal(err)
			}
			remedy := "have an administrator give the account in registry.login " + right + " in a"
			_, err = p.Read(t.Context(), want.Scope)
			says(t, err, providers.ErrForbidden, h.registry.URL, "namespace/a: reading", "Harbor answers 403: ", remedy)
			_, _, err = p.Prove(t.Context(), want.Scope)
			says(t, err, providers.ErrForbidden, remedy)
			if strings.HasPrefix(right, "robot:") {
				_, err = h.open(t).Renew(t.Context(), want, time.Now())
				says(t, err, providers.ErrForbidden, remedy)
			}
		})
	}
}

// What nobody declares is unknown then, and a plan tells by which right it would be
// seen.
func TestWhatIsNotDeclaredAndMayNotBeSeenIsANote(t *testing.T) {
	for right, line := range lists() {
		if right == "tag-retention:read" || right == "metadata:list" { // asked of what is declared, or is there
			continue
		}
		t.Run(right, func(t *testing.T) {
			h := newStandIn(t, harbortest.Options{})
			apply(t, h.open(t), "namespace/a", "namespace/b")
			h.registry.Login = h.without(t, right)
			p := h.open(t)
			want, _, err := p.Normalize(objects(t, "namespace/a"))
			if err != nil {
				t.Fatal(err)
			}
			key := objects(t, line).Resources[0].Key
			if st := read(t, p, schema.KindNamespace, key.Kind); st.Scope.Covers(key) {
				t.Errorf("what was not read is taken for absent: %+v", st.Scope)
			}
			notes, err := p.Remarks(t.Context(), want, time.Now())
			if err != nil || !slices.ContainsFunc(notes, func(n plan.Note) bool {
				return strings.Contains(n.Text, "not seen of a, b") && strings.Contains(n.Text, ": Harbor answers 403: forbidden; ") && strings.Contains(n.Text, right)
			}) {
				t.Errorf("a plan says %v, %v", notes, err)
			}
		})
	}
}

// What could not be seen after the write is refused before it.
func TestTheRightToSeeWhatWasWrittenIsAskedForBefore(t *testing.T) {
	for right, line := range lists() {
		t.Run(right, func(t *testing.T) {
			h := newStandIn(t, harbortest.Options{})
			apply(t, h.open(t), `preheat/p2p {"vendor":"kraken","url":"https://p2p.example.com"}`, `scanner/other {"url":"https://other.example.com"}`)
			h.registry.Login = h.without(t, right)
			p := h.open(t)
			changes := compared(t, p, objects(t, "namespace/a", line))
			at := slices.IndexFunc(changes, func(c plan.Change) bool { return c.Key.Kind != schema.KindNamespace })
			if at < 0 {
				t.Fatalf("the plan is %s", told(changes))
			}
			if why := refusals(t, p, changes)[at]; !strings.Contains(why, right+" for all projects") {
				t.Errorf("it is refused for %q", why)
			}
		})
	}
}

// A group that is made anew gets back the roles it had: where they cannot be seen, it
// stays as it is.
func TestAGroupWhoseRolesMayNotBeSeenIsNotMadeAnew(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	apply(t, h.open(t), "namespace/a", `group/dev {"type":"http"}`, `access/a {"groups":{"dev":["pull"]}}`)
	changes := compared(t, h.open(t), objects(t, `group/dev {"type":"oidc"}`))
	h.registry.Login = h.without(t, "member:list")
	before := h.behind(t, http.MethodGet, "/usergroups", "")
	says(t, failed(t, h.open(t), changes...), providers.ErrForbidden, "member:list in ")
	if now := h.behind(t, http.MethodGet, "/usergroups", ""); now != before {
		t.Errorf("the group is %s, and was %s", now, before)
	}
}

// A project's administrator sees its robots, and none of the registry as a whole, which
// are unknown to him then: he declares his own.
func TestAProjectsAdministratorDeclaresItsRobots(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	apply(t, h.open(t), person("alice"), "namespace/a", `access/a {"users":{"alice":["admin"]}}`, `robot/all {"access":{"*":["pull"]},"secret":{"value":`+secretA+`}}`)
	alice := "alice"
	h.registry.Login = &schema.Login{User: &alice, Password: h.registry.Login.Password}
	own := `robot/a/ci {"access":{"a":["pull"]},"secret":{"value":` + secretA + `}}`
	apply(t, h.open(t), own)
	p := h.open(t)
	if rest := compared(t, p, objects(t, own)); len(rest) > 0 {
		t.Errorf("the second plan is %s", told(rest))
	}
	st := read(t, p, schema.KindRobot)
	for name, want := range map[string]bool{"a/ci": true, "all": false} {
		if got := st.Scope.Covers(schema.Key{Kind: schema.KindRobot, Name: name}); got != want {
			t.Errorf("%s is spoken for: %v", name, got)
		}
	}
	notes, err := p.Remarks(t.Context(), objects(t, own), time.Now())
	if err != nil || !slices.ContainsFunc(notes, func(n plan.Note) bool { return strings.Contains(n.Text, "the registry as a whole: Harbor answers 403") }) {
		t.Errorf("the plan says %v, %v", notes, err)
	}
	q := h.open(t)
	want, _, err := q.Normalize(objects(t, `robot/all {"access":{"*":["pull"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	_, err = q.Read(t.Context(), want.Scope)
	says(t, err, providers.ErrForbidden, "robot:list for the whole registry")
}
