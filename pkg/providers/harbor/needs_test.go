package harbor_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/schema"
)

// phases make one of each kind, change each, and delete it.
func phases() [][]string {
	secret := `,"secret":{"value":` + secretA + `}}`
	return [][]string{{
		"namespace/a", person("alice"), person("bob"), "group/dev",
		`access/a {"anonymous":["pull"],"users":{"alice":["admin"]},"groups":{"dev":["pull"]}}`,
		`quota/a {"limit":"1MiB"}`, `retention/a {"keep":[{"newest":1}]}`, `immutable/a {"rules":[{"tags":"v*"}]}`,
		`webhook/a/ci {"url":"https://a.example.com","events":["push"]}`, `label/a/base {"color":"#2E7D32"}`, `label/base {"color":"#2E7D32"}`,
		`robot/a/ci {"access":{"a":["pull","push"]}}`, `robot/a/cd {"access":{"a":["pull","push"]}` + secret, `robot/all {"access":{"a":["pull"]},"permissions":[{"resource":"catalog","action":"read"}]}`,
		`trust/a {"required":true}`, `scan/a {"on_push":true}`,
		`remote/hub {"type":"harbor","url":"https://hub.example.com"}`, `scanner/trivy {"url":"https://trivy.example.com"}`, `scanner/other {"url":"https://other.example.com"}`,
		`preheat/p2p {"vendor":"dragonfly","url":"https://p2p.example.com"}`, `preheat_policy/a/hot {"instance":"p2p"}`,
		`replication/dr {"to":"hub"}`, `gc {"schedule":"@daily"}`, `audit {"schedule":"@daily","keep":"30d"}`,
	}, {
		"namespace/a", strings.ReplaceAll(person("alice"), "a@", "b@"), person("bob"), "group/dev",
		`access/a {"anonymous":[],"users":{"bob":["admin"]},"groups":{"dev":["pull","push"]}}`,
		`quota/a {"limit":"2MiB"}`, `retention/a {"keep":[{"newest":2}]}`, `immutable/a {"rules":[{"tags":"w*"}]}`,
		`webhook/a/ci {"url":"https://b.example.com","events":["push"]}`, `label/a/base {"color":"#2E7D33"}`, `label/base {"color":"#2E7D33"}`,
		`robot/a/ci {"access":{"a":["pull"]}}`,
		`trust/a {"required":false}`, `scan/a {"on_push":false,"block":"high","scanner":"other"}`,
		`remote/hub {"url":"https://hob.example.com"}`, `scanner/trivy {"description":"d"}`,
		`preheat/p2p {"description":"d"}`, `preheat_policy/a/hot {"description":"d"}`,
		`replication/dr {"description":"d"}`, `gc {"schedule":"@weekly"}`, `audit {"keep":"60d"}`,
	}}
}

// worker makes a robot that may read everything, and do what is listed beside.
func (h standIn) worker(t *testing.T, rights ...string) *schema.Login {
	t.Helper()
	return h.robotThat(t, "*", func(right string) bool {
		return strings.Contains(right, ":read ") || strings.Contains(right, ":list ") || slices.Contains(rights, right)
	})
}

// robotThat makes a robot that may do what it is given of all that Harbor lets one, in
// a project or "*" all of them, and in the system.
func (h standIn) robotThat(t *testing.T, project string, given func(right string) bool) *schema.Login {
	t.Helper()
	name := "worker"
	type access struct {
		Resource string `json:"resource"`
		Action   string `json:"action"`
	}
	var all struct{ Project, System []access }
	if err := json.Unmarshal([]byte(h.behind(t, http.MethodGet, "/permissions", "")), &all); err != nil {
		t.Fatal(err)
	}
	pick := func(list []access, where string) []access {
		return slices.DeleteFunc(list, func(a access) bool { return !given(a.Resource + ":" + a.Action + " " + where) })
	}
	body, err := json.Marshal(map[string]any{"name": name, "level": "system", "duration": -1, "permissions": []map[string]any{
		{"kind": "system", "namespace": "/", "access": pick(all.System, "for the whole registry")},
		{"kind": "project", "namespace": project, "access": pick(all.Project, map[bool]string{true: "for all projects", false: "in " + project}[project == "*"])},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ ID int64 }
	if err := json.Unmarshal([]byte(h.behind(t, http.MethodPost, "/robots", string(body))), &made); err != nil {
		t.Fatal(err)
	}
	h.behind(t, http.MethodPatch, fmt.Sprintf("/robots/%d", made.ID), fmt.Sprintf(`{"secret":%q}`, h.password(t)))
	return &schema.Login{Robot: &name, Password: h.registry.Login.Password}
}

// refusals are what each change is refused for.
func refusals(t *testing.T, p providers.Provider, changes []plan.Change) []string {
	t.Helper()
	verdicts, err := p.Prepare(t.Context(), changes)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, v := range verdicts {
		out = append(out, v.Refused)
	}
	return out
}

// lacking are the rights that a refusal names.
func lacking(refused string) []string {
	_, list, ok := strings.Cut(refused, " lacks ")
	list, _, _ = strings.Cut(list, ";")
	if !ok {
		return nil
	}
	list = strings.ReplaceAll(list, ", as a is not there yet", "")
	return strings.Split(strings.ReplaceAll(list, " in a", " for all projects"), ", ")
}

// deleting are the changes that delete all there is of some kinds.
func deleting(t *testing.T, p providers.Provider, kinds ...schema.Kind) []plan.Change {
	t.Helper()
	var out []plan.Change
	for _, r := range read(t, p, kinds...).Resources {
		ours := !strings.HasPrefix(r.Key.Name, "library") && !strings.HasPrefix(r.Key.Name, "worker") && r.Key.Name != "boss"
		if ours {
			out = append(out, plan.Change{Action: plan.Delete, Key: r.Key, Before: &r})
		}
	}
	return out
}

// walk goes through the phases; each change is made by who is asked, or, where that
// robot is refused it, by the administrator. It returns the rights that were lacking.
func walk(t *testing.T, rights ...string) []string {
	t.Helper()
	h := newStandIn(t, harbortest.Options{})
	h.behind(t, http.MethodPut, "/configurations", `{"project_creation_restriction":"adminonly"}`)
	admin := h.open(t)
	worker := h
	worker.registry.Login = h.worker(t, rights...)
	p := worker.open(t)
	lacked := map[string]bool{}
	for _, changes := range []func() []plan.Change{
		func() []plan.Change { return compared(t, p, objects(t, phases()[0]...)) },
		func() []plan.Change { return compared(t, p, objects(t, phases()[1]...)) },
		func() []plan.Change {
			return deleting(t, p, schema.KindUser, schema.KindGroup, schema.KindRetention, schema.KindImmutable, schema.KindWebhook,
				schema.KindLabel, schema.KindRobot, schema.KindScanner, schema.KindPreheatPolicy, schema.KindReplication)
		},
		func() []plan.Change {
			return deleting(t, p, schema.KindNamespace, schema.KindRemote, schema.KindPreheat)
		},
	} {
		todo := changes()
		refused := map[schema.Key]string{}
		for i, why := range refusals(t, p, todo) {
			refused[todo[i].Key] = why
			for _, right := range lacking(why) {
				lacked[right] = true
			}
			if why != "" && lacking(why) == nil {
				t.Fatalf("%s is refused: %s", todo[i].Key, why)
			}
		}
		for _, stage := range (plan.Plan{Changes: todo}).Stages(false) {
			done := write(t, p, stage...)
			for _, c := range stage {
				switch err := done[c.Key]; {
				case refused[c.Key] == "" && err != nil:
					t.Errorf("%s %s is not refused, and fails: %v", c.Action, c.Key, err)
				case refused[c.Key] != "" && !errors.Is(err, providers.ErrForbidden):
					t.Errorf("%s %s is refused (%s), and then: %v", c.Action, c.Key, refused[c.Key], err)
				case err != nil:
					again := compared(t, admin, schema.State{Scope: schema.ScopeOf(c.Key.Kind), Resources: after(c)})
					for _, x := range append(again, c) {
						if x.Key == c.Key {
							write(t, admin, x)
						}
					}
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(lacked))
}

// after is what a change makes.
func after(c plan.Change) []schema.Resource {
	if c.After == nil {
		return nil
	}
	return []schema.Resource{*c.After}
}

// A plan knows what its robot may not do: exactly those changes are refused that
// Harbor would refuse, by the rights that are lacking; with these all are made.
func TestWhatARobotMayNotDoIsRefusedBeforeTheFirstWrite(t *testing.T) {
	all := walk(t)
	if len(all) < 40 {
		t.Errorf("only these rights are asked for: %v", all)
	}
	if more := walk(t, all...); len(more) > 0 {
		t.Errorf("with what it lacked it lacks %v", more)
	}
	for _, right := range all {
		without := slices.DeleteFunc(slices.Clone(all), func(x string) bool { return x == right })
		t.Run(right, func(t *testing.T) {
			if lacked := walk(t, without...); !slices.Equal(lacked, []string{right}) && len(lacked) > 0 {
				t.Errorf("it lacks %v", lacked)
			}
		})
	}
}

// The refusal names the robot, the right as Harbor calls it, and what to do; a project
// that is still to be made needs a right in all of them.
func TestARefusalNamesTheRightThatIsLacking(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	h.registry.Login = h.worker(t, "label:create for the whole registry")
	p := h.open(t)
	h.Forget()
	changes := compared(t, p, objects(t, "namespace/a", `label/base {"color":"#2E7D32"}`, `quota/a {"limit":"1GiB"}`, `retention/a {"keep":[{"newest":3}]}`))
	asked := h.count(http.MethodGet, "/robots")
	got := map[string]string{}
	for i, why := range refusals(t, p, changes) {
		got[changes[i].Key.String()] = why
	}
	const says = "; have an administrator give it to that robot, or name in registry.login an account that has it"
	want := map[string]string{
		"namespace/a": "", // everybody makes projects here
		"label/base":  "",
		"quota/a":     "robot$worker (registry.login) lacks quota:update for the whole registry" + says,
		"retention/a": "robot$worker (registry.login) lacks tag-retention:create for all projects, as a is not there yet" + says,
	}
	if !maps.Equal(got, want) {
		t.Errorf("it says %q", got)
	}
	if n := h.count(http.MethodGet, "/robots") - asked; n != 1 {
		t.Errorf("to know its rights it takes %d requests", n)
	}
}

// What may not be read is refused with the right that it takes, as Harbor calls it.
func TestARobotThatMayNotReadIsToldTheRight(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	var all []schema.Kind
	for _, k := range schema.Kinds() {
		if k != schema.KindSettings { // an administrator's
			all = append(all, k)
		}
	}
	var system struct {
		System []struct{ Resource, Action string }
	}
	if err := json.Unmarshal([]byte(h.behind(t, http.MethodGet, "/permissions", "")), &system); err != nil {
		t.Fatal(err)
	}
	var asked []string
	for _, a := range system.System {
		right := a.Resource + ":" + a.Action
		if a.Action != "list" && a.Action != "read" {
			continue
		}
		h := newStandIn(t, harbortest.Options{})
		h.registry.Login = h.robotThat(t, "*", func(r string) bool {
			reads := strings.Contains(r, ":read ") || strings.Contains(r, ":list ")
			return reads && r != right+" for the whole registry"
		})
		p := h.open(t)
		_, err := p.Read(t.Context(), schema.ScopeOf(all...))
		if err == nil {
			_, err = p.Prepare(t.Context(), compared(t, p, objects(t, `remote/far {"type":"harbor","url":"https://far.example.com"}`)))
		}
		if err == nil {
			continue
		}
		asked = append(asked, right)
		if !errors.Is(err, providers.ErrForbidden) || !strings.Contains(err.Error(), "give the account in registry.login "+right+" for the whole registry") {
			t.Errorf("without %s it says %v", right, err)
		}
	}
	slices.Sort(asked)
	want := []string{ // robots that nobody declares are unknown without robot:list
		"garbage-collection:read", "preheat-instance:list", "purge-audit:read", "quota:list", "registry:list",
		"replication-adapter:list", "replication-policy:list", "scan-all:read", "scanner:list", "user-group:list", "user:list",
	}
	if !slices.Equal(asked, want) {
		t.Errorf("it takes %q to read, want %q", asked, want)
	}
}

// A robot that may not see itself is told so once, and goes on.
func TestARobotThatMayNotSeeItsRightsGoesOn(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	h.registry.Login = h.worker(t, "label:create for the whole registry")
	h.Inject(harbortest.Fault{Method: http.MethodGet, Path: "/robots", Status: http.StatusForbidden})
	p := h.open(t)
	changes := compared(t, p, objects(t, `label/base {"color":"#2E7D32"}`, `label/other {"color":"#2E7D32"}`, "namespace/a"))
	verdicts, err := p.Prepare(t.Context(), changes)
	if err != nil {
		t.Fatal(err)
	}
	var notes []string
	for _, v := range verdicts {
		notes = append(notes, v.Notes...)
		if v.Refused != "" {
			t.Errorf("it is refused: %s", v.Refused)
		}
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "robot$worker") || !strings.Contains(notes[0], "robot:list for the whole registry") {
		t.Errorf("it says %q", notes)
	}
	change(t, p, changes...)
}

// A robot of a project has its rights there, and a robot with another prefix is found
// too.
func TestARobotIsFoundByWhateverNameItHas(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	apply(t, h.open(t), "namespace/a", `robot/a/own {"access":{"a":["pull"]},"permissions":[{"namespace":"a","resource":"robot","action":"list"},{"namespace":"a","resource":"label","action":"list"}],"secret":{"value":`+secretA+`}}`)
	change := func(name string) []plan.Change {
		r := objects(t, `label/a/base {"color":"#2E7D32"}`).Resources[0]
		h.registry.Login = &schema.Login{Robot: &name, Password: h.registry.Login.Password}
		return []plan.Change{{Action: plan.Create, Key: r.Key, After: &r, Fields: fields(r)}}
	}
	login := h.registry.Login
	c := change("a+own")
	if why := refusals(t, h.open(t), c)[0]; !strings.Contains(why, "robot$a+own (registry.login) lacks label:create in a;") {
		t.Errorf("a project's robot is told %q", why)
	}
	h.registry.Login = login
	worker := *h.worker(t).Robot
	h.behind(t, http.MethodPut, "/configurations", `{"robot_name_prefix":"acme-"}`)
	c = change("acme-" + worker)
	if why := refusals(t, h.open(t), c)[0]; !strings.Contains(why, "acme-worker (registry.login) lacks label:create in a;") {
		t.Errorf("a robot with another prefix is told %q", why)
	}
}

// A plan names the second login where it was needed, even if nothing changes.
func TestTheSecondLoginIsNamedWhereItReads(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	admin := *h.registry.Login
	h.registry.Login, h.registry.Admin = h.worker(t), &admin
	for kind, named := range map[schema.Kind]bool{schema.KindNamespace: false, schema.KindSettings: true, schema.KindRobot: true} {
		p := h.open(t)
		read(t, p, kind)
		notes, err := p.Remarks(t.Context(), schema.State{}, time.Now())
		said := slices.ContainsFunc(notes, func(n plan.Note) bool { return strings.Contains(n.Text, "registry.admin logs in") })
		if err != nil || said != named {
			t.Errorf("after reading %s the plan says %v, %v", kind, notes, err)
		}
	}
}

// An archive is made of many requests, and one that stops in the middle leaves a
// project half shut: each right that it takes is asked for before the first.
func TestARobotThatLacksARightForAnArchiveIsRefusedBeforeItBegins(t *testing.T) {
	var rights []string
	for where, list := range map[string]string{
		"in a":                   "project:update immutable-tag:list immutable-tag:create immutable-tag:update tag-retention:delete member:list member:delete robot:list robot:delete",
		"for the whole registry": "quota:list quota:update robot:list",
	} {
		for _, right := range strings.Fields(list) {
			rights = append(rights, right+" "+where)
		}
	}
	lines := slices.DeleteFunc(busy(), func(line string) bool {
		return strings.HasPrefix(line, "robot/all ") || strings.HasPrefix(line, "robot/only ") // these take registry.admin
	})
	off := strings.Replace(strings.Join(lines, "\n"), `{"tags":"v*"}`, `{"enabled":false,"tags":"**"}`, 1)
	for _, was := range [][]string{lines, strings.Split(off, "\n")} {
		for _, without := range append(rights, "") {
			h := newStandIn(t, harbortest.Options{})
			boss := h.open(t)
			apply(t, boss, was...)
			c := archiving(t, boss, "a")
			h.registry.Login = h.robotThat(t, "a", func(right string) bool { return right != without && slices.Contains(rights, right) })
			p := h.open(t)
			h.Forget()
			refused := refusals(t, p, []plan.Change{c})[0]
			if n := h.Traffic().Writes; n > 0 {
				t.Errorf("a plan writes %d times", n)
			}
			if without != "" {
				right, _, _ := strings.Cut(without, " ")
				if !strings.Contains(refused, right) && !strings.Contains(refused, "cannot be seen") {
					t.Errorf("without %s it is refused so: %q", without, refused)
				}
				continue
			}
			if refused != "" {
				t.Fatalf("with all of them it is refused so: %s", refused)
			}
			change(t, p, c)
		}
	}
}

// TestWhetherContentMayBeBroughtIsKnownBefore: by a robot that may not push there, or
// into a project that is not there, nothing is begun.
func TestWhetherContentMayBeBroughtIsKnownBefore(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	h.behind(t, http.MethodPost, "/projects", `{"project_name":"a"}`)
	to, nowhere := "a/app", "nowhere/app:1"
	changes := []plan.Change{
		{Action: plan.Create, Key: schema.Key{Kind: schema.KindMirror, Name: "m"}, After: &schema.Resource{Spec: &schema.Mirror{To: &to, Prune: new(true)}}},
		{Action: plan.Create, Key: schema.Key{Kind: schema.KindArtifact, Name: "f"}, After: &schema.Resource{Spec: &schema.Artifact{To: &nowhere}}},
	}
	h.registry.Login = h.worker(t, "repository:pull for all projects")
	got := refusals(t, h.open(t), changes)
	if want := []string{"repository:push for all projects", "tag:delete for all projects"}; !slices.Equal(lacking(got[0]), want) {
		t.Errorf("%q, want it to lack %q", got[0], want)
	}
	if !strings.Contains(got[1], "there is no project nowhere; declare [namespace.nowhere]") {
		t.Errorf("a project that is not there: %q", got[1])
	}
}

// A user's rights are asked for as a robot's are: in a project those of its role, as
// Harbor says them; in what the user makes, all; elsewhere none.
func TestWhatAUserMayNotDoIsRefusedBeforeTheFirstWrite(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	boss := h.open(t)
	apply(t, boss, "namespace/a", "namespace/mine", person("u"), `access/a {"users":{"u":["pull","push"]}}`, `access/mine {"users":{"u":["admin"]}}`, `label/a/old {"color":"#111111"}`)
	name := "u"
	h.registry.Login = &schema.Login{User: &name, Password: h.registry.Login.Password}
	want := []string{
		`label/a/x {"color":"#2E7D32"}`, `label/g {"color":"#2E7D32"}`, `label/mine/x {"color":"#2E7D32"}`, `namespace/a`, "namespace/b", "namespace/mine",
		`retention/a {"keep":[{"newest":1}]}`,
		`webhook/b/ci {"url":"https://a.example.com","events":["push"]}`,
	}
	for restriction, makes := range map[string]bool{"everyone": true, "adminonly": false} {
		h.behind(t, http.MethodPut, "/configurations", `{"project_creation_restriction":"`+restriction+`"}`)
		p := h.open(t)
		got := map[string]string{}
		h.Forget()
		changes := compared(t, p, objects(t, want...))
		for i, why := range refusals(t, p, changes) {
			got[changes[i].Key.String()] = why
		}
		const says = "; have an administrator give that user a role that has it, or name in registry.login an account that has it"
		const noUsers = "; Harbor has no such right for a user; name a robot that has it, or an administrator, in registry.login"
		expect := map[string]string{
			"label/a/x": "u (registry.login) lacks label:create in a" + says, "label/g": "u (registry.login) lacks label:create for the whole registry" + noUsers,
			"label/mine/x": "", "namespace/b": "", "retention/a": "", "webhook/b/ci": "",
		}
		if !makes {
			expect["namespace/b"] = "u (registry.login) lacks project:create for the whole registry" + noUsers
		}
		if diff := cmp.Diff(expect, got); diff != "" {
			t.Errorf("%s (-want +have):\n%s", restriction, diff)
		}
		if n := h.count(http.MethodGet, "/users/current/permissions"); n != 2 {
			t.Errorf("to know the rights it takes %d requests", n)
		}
		if !makes {
			continue
		}
		var may []plan.Change
		for _, c := range changes {
			if got[c.Key.String()] == "" {
				may = append(may, c)
			}
		}
		for _, stage := range (plan.Plan{Changes: may}).Stages(false) {
			change(t, p, stage...)
		}
		for _, c := range deleting(t, boss, schema.KindNamespace) {
			if c.Key.Name == "b" {
				change(t, boss, c)
			}
		}
		for _, c := range deleting(t, boss, schema.KindLabel, schema.KindRobot, schema.KindRetention) {
			if c.Key.Name != "a/old" {
				change(t, boss, c)
			}
		}
	}
	// an administrator is asked for none
	h.Forget()
	if why := refusals(t, boss, compared(t, boss, objects(t, want[1]))); why[0] != "" || h.count(http.MethodGet, "/users/current/permissions") != 0 {
		t.Errorf("an administrator is refused %q", why)
	}
}

// Where ocisync stores in Harbor what an apply did, nothing is written by whom may not
// store it.
func TestTheRightToStoreTheInventoryIsAskedForBefore(t *testing.T) {
	const everything = "repository:pull for all projects repository:push for all projects project:create for the whole registry"
	for _, c := range []struct {
		lacks, restriction string
		there              bool // ocisync's project
		says               string
	}{
		{"", "adminonly", false, ""},
		{"repository:push for all projects", "everyone", false, "repository:push for all projects, as ocisync is not there yet"},
		{"repository:push for all projects", "everyone", true, "repository:push in ocisync"},
		{"project:create for the whole registry", "everyone", false, ""},
		{"project:create for the whole registry", "adminonly", false, "project:create for the whole registry"},
		{"project:create for the whole registry", "adminonly", true, ""},
	} {
		h := newStandIn(t, harbortest.Options{})
		h.behind(t, http.MethodPut, "/configurations", `{"project_creation_restriction":"`+c.restriction+`"}`)
		if c.there {
			h.behind(t, http.MethodPost, "/projects", `{"project_name":"ocisync"}`)
		}
		h.registry.Login = h.robotThat(t, "*", func(right string) bool {
			return right != c.lacks && (strings.Contains(everything, right) || !strings.Contains(right, "project:"))
		})
		p := h.open(t)
		changes := compared(t, p, objects(t, `label/x {"color":"#111111"}`, `label/y {"color":"#111111"}`))
		if why := refusals(t, p, changes); why[0] != "" {
			t.Errorf("an inventory elsewhere: %q", why)
		}
		transport, release, err := p.Transport(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.registry.URL+"/v2/ocisync/state/manifests/m", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		release()
		why := refusals(t, p, changes)
		if c.says == "" && why[0] != "" || !strings.Contains(why[0], c.says) || c.says != "" && !strings.Contains(why[0], "state.store") || why[1] != "" {
			t.Errorf("without %q (%s, %t) it is refused for %q, want %q", c.lacks, c.restriction, c.there, why, c.says)
		}
	}
}
