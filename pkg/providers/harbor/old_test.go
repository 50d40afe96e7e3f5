package harbor_test

import (
	"fmt"
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

// A Harbor that shows what it logs in with forgets that where an update leaves it out.
func TestWhatHarborLogsInWithStays(t *testing.T) {
	for _, version := range []string{"v2.10.3-1", "v2.14.3-1", "v2.14.4-1", "v2.15.0-1", "v2.15.1-1"} {
		t.Run(version, func(t *testing.T) {
			h := newStandIn(t, harbortest.Options{Version: version}).withScanner(t)
			p := h.open(t)
			trivy := `scanner/trivy {"url":"http://trivy:8080","auth":"bearer","credential":` + secretA + `}`
			apply(t, p, peers, trivy)
			apply(t, p, strings.Replace(peers, `"description":"d"`, `"description":"other"`, 1), strings.Replace(trivy, `"auth"`, `"description":"other","auth"`, 1))
			shown := strings.Count(h.behind(t, http.MethodGet, "/p2p/preheat/instances", "")+h.behind(t, http.MethodGet, "/scanners", ""), h.password(t))
			want := 2
			if version == "v2.14.4-1" || version == "v2.15.1-1" {
				want = 0
			}
			if shown != want {
				t.Errorf("it shows %d of its secrets, want %d", shown, want)
			}
			// what it logs in with by hand is seen where it is shown
			want = 0
			for _, c := range compared(t, p, objects(t, peers, trivy)) {
				for _, f := range c.Fields {
					if f.Path == "credential" || f.Path == "user" {
						t.Errorf("what nobody changed is planned: %s", told([]plan.Change{c}))
					}
				}
			}
			instance := h.behind(t, http.MethodGet, "/p2p/preheat/instances/p2p", "")
			if login := `"username":"u"`; strings.Contains(instance, login) {
				want = 2
				h.behind(t, http.MethodPut, "/p2p/preheat/instances/p2p", strings.NewReplacer(login, `"username":"other"`, h.password(t), "other").Replace(instance))
			}
			have := 0
			for _, c := range compared(t, p, objects(t, peers)) {
				for _, f := range c.Fields {
					if f.Path == "credential" || f.Path == "user" {
						have++
					}
				}
			}
			if have != want {
				t.Errorf("%d parts of a login are planned, want %d", have, want)
			}
			// what it does not log in with any more it forgets
			apply(t, p, `preheat/p2p {"auth":"none"}`, `scanner/trivy {"auth":"none"}`)
			if text := h.behind(t, http.MethodGet, "/p2p/preheat/instances", "") + h.behind(t, http.MethodGet, "/scanners", ""); strings.Contains(text, h.password(t)) {
				t.Errorf("it still shows %s", text)
			}
		})
	}
}

// Before 2.14 Harbor leaves a project pointing to the policy that was deleted, and takes
// no other for it.
func TestARetentionComesBackAfterItWent(t *testing.T) {
	for _, version := range []string{"v2.10.3-1", "v2.13.5-1", harbortest.Version} {
		t.Run(version, func(t *testing.T) {
			h := newStandIn(t, harbortest.Options{Version: version})
			p := h.open(t)
			const rule = `retention/a {"keep":[{"newest":1}],"schedule":"@daily"}`
			want := apply(t, p, "namespace/a", rule)
			gone := func() {
				t.Helper()
				if st := read(t, p, schema.KindRetention); len(st.Resources) > 0 || !st.Scope.Covers(want.Resources[1].Key) {
					t.Errorf("it shows %v of %v", st.Resources, st.Scope)
				}
			}
			before, _ := read(t, p, schema.KindRetention).Get(want.Resources[1].Key)
			change(t, p, plan.Change{Action: plan.Delete, Key: before.Key, Before: &before})
			if text := h.behind(t, http.MethodGet, "/projects/a/metadatas/", ""); strings.Contains(text, "retention_id") {
				t.Errorf("the project is %s", text)
			}
			gone()
			apply(t, p, rule)

			// somebody deletes it by hand
			id, _ := policy(t, h, "a")
			h.behind(t, http.MethodDelete, "/retentions/"+id, "")
			gone()
			apply(t, p, rule)
			id, _ = policy(t, h, "a")
			h.behind(t, http.MethodDelete, "/retentions/"+id, "")
			change(t, p, archiving(t, p, "a"))
		})
	}
}

// Since 2.16 Harbor sends a secret to no other address than the one it was given for.
func TestASecretGoesAlongWithAnotherAddress(t *testing.T) {
	for _, version := range []string{harbortest.Version, newest} {
		secrets := map[string]string{}
		h := newStandIn(t, harbortest.Options{Version: version, Remotes: func(r harbortest.Remote) harbortest.Health {
			secrets[r.URL] = r.Secret
			return harbortest.Healthy
		}})
		p := h.open(t)
		const dr = `remote/dr {"type":"harbor","url":"https://a.example.com","login":{"user":"u","password":` + secretA + `}}`
		apply(t, p, dr)
		elsewhere := strings.Replace(dr, "a.example", "b.example", 1)
		changes := compared(t, p, objects(t, strings.Replace(elsewhere, `,"password":`+secretA, "", 1)))
		if v, err := p.Prepare(t.Context(), changes); err != nil || (v[0].Refused != "") != (version == newest) || version == newest && !strings.Contains(v[0].Refused, "declare login.password") {
			t.Errorf("%s: without the secret it says %+v, %v", version, v, err)
		}
		apply(t, p, elsewhere)
		if secrets["https://b.example.com"] != h.password(t) {
			t.Errorf("%s: it logs in with %q", version, secrets["https://b.example.com"])
		}
		// without a login there is none to forget
		apply(t, p, `remote/open {"type":"harbor","url":"https://c.example.com"}`)
		if v := verdict(t, p, objects(t, `remote/open {"type":"harbor","url":"https://d.example.com"}`)); v.Refused != "" {
			t.Errorf("%s: without a login it says %q", version, v.Refused)
		}
	}
}

func TestAnOldHarborHasFewerWorkers(t *testing.T) {
	for version, refused := range map[string]string{"v2.12.4-1": "5 workers at the most", "v2.13.0-1": ""} {
		h := newStandIn(t, harbortest.Options{Version: version})
		p := h.open(t)
		if v := verdict(t, p, objects(t, `gc {"schedule":"@daily","workers":6}`)); refused == "" && v.Refused != "" || !strings.Contains(v.Refused, refused) {
			t.Errorf("%s: six are refused so: %q", version, v.Refused)
		}
		apply(t, p, `gc {"schedule":"@daily","workers":5}`)
	}
}

// A right that no robot of an old Harbor has is not asked of its administrator.
func TestWhatNoRobotOfAnOldHarborMayIsToldSo(t *testing.T) {
	const none = "has no such right for a robot; name an administrator's account in registry.admin"
	for version, told := range map[string]string{"v2.11.2-1": none, "v2.12.4-1": "give"} {
		h := newStandIn(t, harbortest.Options{Version: version})
		apply(t, h.open(t), "namespace/a", `robot/boss {"access":{"*":["pull"]},"secret":{"value":`+secretA+`}}`)
		name := "boss"
		h.registry.Login = &schema.Login{Robot: &name, Password: h.registry.Login.Password}
		p := h.open(t)
		_, err := p.Read(t.Context(), schema.ScopeOf(schema.KindUser))
		says(t, err, providers.ErrForbidden, "user:list", told)
		after := objects(t, `label/a/x {"color":"#000000"}`).Resources[0]
		v, err := p.Prepare(t.Context(), []plan.Change{{Action: plan.Create, Key: after.Key, After: &after, Fields: fields(after)}})
		if err != nil || len(v[0].Notes) != 1 || !strings.Contains(v[0].Notes[0], told) {
			t.Errorf("%s: it says %+v, %v", version, v, err)
		}
		want := objects(t, "namespace/a")
		_ = compared(t, p, want)
		_ = read(t, p, schema.KindAccess) // which nobody declares
		if notes, err := p.Remarks(t.Context(), want, time.Now()); err != nil || !strings.Contains(fmt.Sprint(notes), told) {
			t.Errorf("%s: it notes %v, %v", version, notes, err)
		}
		if _, _, err := p.Normalize(objects(t, `access/a {"users":{"alice":["pull"]}}`)); err != nil {
			t.Fatal(err)
		}
		_, err = p.Read(t.Context(), schema.ScopeOf(schema.KindAccess))
		says(t, err, providers.ErrForbidden, "member:list", told)
	}
}

// What no robot of an old Harbor may, registry.admin does, and nothing else.
func TestWhatNoRobotOfAnOldHarborMayAnAdministratorDoes(t *testing.T) {
	lines := []string{
		person("alice"), "group/ops", "namespace/a", `access/a {"users":{"alice":["pull"]}}`, `quota/a {"limit":"1GiB"}`,
		`robot/a/ci {"access":{"a":["pull"]},"secret":{"value":` + secretA + `}}`, `label/a/x {"color":"#000000"}`,
	}
	for version, mine := range map[string][]string{"v2.10.0-1": {"namespace", "label"}, "v2.11.2-1": {"namespace", "label"}, "v2.12.4-1": {"user", "group", "namespace", "access", "quota", "robot", "label"}} {
		h := newStandIn(t, harbortest.Options{Version: version})
		boss := h.boss(t)
		h.registry.Admin = h.registry.Login
		h.registry.Login = &schema.Login{Robot: &boss, Password: h.registry.Login.Password}
		p := h.open(t)
		changes := compared(t, p, objects(t, lines...))
		v, err := p.Prepare(t.Context(), changes)
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range changes {
			noted := strings.Contains(strings.Join(v[i].Notes, "\n"), "is done with registry.admin")
			if v[i].Refused != "" || noted == slices.Contains(mine, string(c.Key.Kind)) {
				t.Errorf("%s: %s: it says %+v", version, c.Key, v[i])
			}
		}
		apply(t, p, lines...)

		h.registry.Admin = nil
		v, err = h.open(t).Prepare(t.Context(), changes)
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range changes {
			if strings.Contains(v[i].Refused, "name an administrator's account in registry.admin") == slices.Contains(mine, string(c.Key.Kind)) {
				t.Errorf("%s: %s: alone it says %+v", version, c.Key, v[i])
			}
		}
	}
}
