package harbor_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// courier takes secrets, or does not.
type courier struct {
	providertest.Secrets
	fails bool
	lost  bool // it takes them, and says that it did not
	got   map[string]string
	order []string
}

func (c *courier) Deliver(_ context.Context, d schema.Delivery, user, secret, host string) error {
	if c.fails || d.File == "" || host == "" {
		return errors.New("the road is closed")
	}
	c.got[user], c.order = secret, append(c.order, user)
	if c.lost {
		return errors.New("the connection broke")
	}
	return nil
}

// with makes a provider whose secrets are delivered by a courier.
func (h standIn) with(t testing.TB, c *courier, opts ...harbor.Option) *harbor.Provider {
	t.Helper()
	if c.got == nil {
		c.got = map[string]string{}
	}
	p, err := harbor.New(h.registry, c, nil, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// logsIn reports whether Harbor takes an account.
func (h standIn) logsIn(t testing.TB, user, secret string) bool {
	t.Helper()
	status, _ := h.asked(t, user, secret, "GET", "/v2/", "")
	return status == 200
}

const systemRobot = `robot/ci {"description":"Builds","enabled":true,"expires":"30d","secret":{"value":{"env":"` + providertest.SecretA + `"}},
	"access":{"a":["pull","push"],"b":["delete"],"*":["pull"]},"permissions":[{"namespace":"a","resource":"scan","action":"create"},{"resource":"project","action":"create"}]}`

func TestEachChangeOfARobotByHandIsSeen(t *testing.T) {
	h := newStandIn(t, harbortest.Options{FirstID: 50})
	p := h.open(t)
	want := apply(t, p, "namespace/a", "namespace/b", systemRobot)
	if !h.logsIn(t, "robot$ci", h.password(t)) {
		t.Fatal("the robot's secret is another")
	}
	text := h.behind(t, "GET", "/robots/51", "")
	for _, c := range []struct{ old, new, line string }{
		{`"Builds"`, `""`, `  description: "" -> "Builds"`},
		{`"disable":false`, `"disable":true`, `  enabled: false -> true`},
		{`"duration":30`, `"duration":60`, `  expires: "60d" -> "30d"`},
		{`"duration":30`, `"duration":-1`, `  expires: "never" -> "30d"`},
		{`{"action":"push","resource":"repository"}`, `{"action":"pull","resource":"repository"}`, `  access.a: ["pull"] -> ["pull","push"]`},
		{`{"action":"push","resource":"repository"}`, `{"action":"push","resource":"repository"},{"action":"update","resource":"repository"}`, `  permissions: `},
		{`"namespace":"b"`, `"namespace":"library"`, `  access.b:  -> ["delete"]`},
		{`{"action":"create","resource":"scan"}`, `{"action":"stop","resource":"scan"}`, `  permissions: `},
		{`{"action":"delete","resource":"tag"}`, `{"action":"create","resource":"tag"}`, `  access.b:  -> ["delete"]`},
		{`{"action":"create","resource":"project"}`, `{"action":"list","resource":"project"}`, `  permissions: `},
		{`{"action":"push","resource":"repository"}`, `{"action":"push","resource":"repository"},{"action":"push","effect":"deny","resource":"repository"}`, `  access.a: ["pull"] -> ["pull","push"]`},
		{`{"action":"push","resource":"repository"}`, `{"action":"push","resource":"repository"},{"action":"list","effect":"deny","resource":"tag"}`, `{"action":"list (denied)","namespace":"a","resource":"tag"}`},
		{`{"action":"delete","resource":"tag"}`, `{"action":"delete","resource":"tag"},{"action":"pull","effect":"deny","resource":"repository"}`, `  access."*":  -> ["pull"]`},
	} {
		if !strings.Contains(text, c.old) {
			t.Fatalf("the robot has no %s: %s", c.old, text)
		}
		h.behind(t, "PUT", "/robots/51", strings.Replace(text, c.old, c.new, 1))
		changes := compared(t, p, want)
		if got := told(changes); len(changes) != 1 || !strings.Contains(got, c.line) {
			t.Errorf("%s became %s; the plan is %s", c.old, c.new, got)
		}
		change(t, p, changes...)
		if rest := compared(t, p, want); len(rest) > 0 {
			t.Fatalf("%s became %s; a second plan is not empty: %s", c.old, c.new, told(rest))
		}
	}
	if !h.logsIn(t, "robot$ci", h.password(t)) {
		t.Error("a change took the secret")
	}
	h.behind(t, "PATCH", "/robots/51", `{"secret":"Another1Secret"}`)
	drifts(t, p, want, "update robot/ci", `  secret.value: "(secret)" -> "(secret changed)"`)
	h.behind(t, "DELETE", "/robots/51", "")
	drifts(t, p, want, "create robot/ci")
}

// No mode denies a robot anything: what somebody denied it by hand is no right of it,
// and a change of its rights ends it without giving it more.
func TestWhatARobotIsDeniedIsNoRightOfIt(t *testing.T) {
	h := newStandIn(t, harbortest.Options{FirstID: 50})
	p := h.open(t)
	want := apply(t, p, "namespace/a", `robot/a/ci {"secret":{"value":{"env":"`+providertest.SecretA+`"}},"access":{"a":["pull","push"]}}`)
	text := h.behind(t, "GET", "/robots/51", "")
	const push = `{"action":"push","resource":"repository"}`
	h.behind(t, "PUT", "/robots/51", strings.Replace(text, push, push+`,{"action":"push","effect":"deny","resource":"repository"},{"action":"create","resource":"scan"},{"action":"create","effect":"deny","resource":"scan"}`, 1))
	left, err := p.Left(t.Context(), want)
	if err != nil || len(left) != 1 || left[0].What != "robot/a/ci" || !strings.Contains(left[0].Why, "it is denied repository:push in a, scan:create in a") {
		t.Errorf("an adoption tells %+v, %v", left, err)
	}
	live, _ := read(t, p, schema.KindRobot).Get(want.Resources[1].Key)
	chosen := p.Chosen(live)
	if spec, ok := chosen.Spec.(*schema.Robot); !ok || spec.Permissions != nil {
		t.Errorf("an adoption writes %+v", spec)
	}
	if rest := compared(t, p, schema.State{Resources: []schema.Resource{chosen}, Scope: want.Scope}); len(rest) > 0 {
		t.Errorf("the plan after an adoption is not empty: %s", told(rest))
	}
	v, err := p.Prepare(t.Context(), compared(t, p, want))
	if err != nil || len(v) != 1 || v[0].Refused != "" || len(v[0].Notes) != 1 || !strings.Contains(v[0].Notes[0], "somebody denied it a right") {
		t.Errorf("the plan says %+v, %v", v, err)
	}
	drifts(t, p, want, "update robot/a/ci", `  access.a: ["pull"] -> ["pull","push"]`)
	if now := h.behind(t, "GET", "/robots/51", ""); strings.Contains(now, "deny") || strings.Contains(now, "scan") {
		t.Errorf("the robot is %s", now)
	}
}

// Harbor gives a right without an effect that of the former right at its place: wherever
// a denial stands, one apply ends it and moves it to no other right.
func TestADenialAtAnyPlaceIsGoneWithOneApply(t *testing.T) {
	for _, robot := range []string{
		`robot/ci {"access":{"a":["pull","push","delete"],"b":["pull"]}}`,
		`robot/ci {"access":{"a":["pull","push","delete"],"b":["pull"]},"permissions":[]}`,
		`robot/ci {"description":"Builds","access":{"a":["pull"]},"permissions":[]}`,
	} {
		h := newStandIn(t, harbortest.Options{FirstID: 50})
		p := h.open(t)
		want := apply(t, p, "namespace/a", "namespace/b", robot)
		text := h.behind(t, "GET", "/robots/51", "")
		places := strings.SplitAfter(strings.ReplaceAll(text, `"effect":"allow",`, ""), `{"action":`)
		for i := 1; i < len(places); i++ {
			denied := slices.Clone(places)
			denied[i] = strings.Replace(denied[i], `,"resource"`, `,"effect":"deny","resource"`, 1)
			for _, more := range []string{"", `{"action":"create","effect":"deny","resource":"scan"},{"action":"create","resource":"label"},`} {
				body := strings.Join(denied, "")
				body = strings.Replace(body, `"access":[`, `"access":[`+more, 1)
				h.behind(t, "PUT", "/robots/51", body)
				changes := compared(t, p, want)
				if len(changes) != 1 {
					t.Fatalf("with %s the plan is %s", body, told(changes))
				}
				change(t, p, changes...)
				if rest := compared(t, p, want); len(rest) > 0 {
					t.Errorf("after %s a second plan is not empty: %s", body, told(rest))
				}
				if now := h.behind(t, "GET", "/robots/51", ""); strings.Contains(now, "deny") {
					t.Errorf("after %s the robot is %s", body, now)
				}
			}
		}
	}
}

// Rights that the mode does not manage stay, and are told of.
func TestARobotsRightsBeyondItsAccessAreToldOf(t *testing.T) {
	const more = `has rights that the mode does not manage: user:create for the whole registry; artifact:delete, member:create in a; write permissions = [] to have them taken away`
	for robot, want := range map[string]string{
		`robot/ci {"access":{"a":["pull","push"]}}`:                      more,
		`robot/ci {"access":{"a":["pull","push"]},"permissions":[]}`:     "",
		`robot/ci {"description":"of somebody else","permissions":null}`: "",
	} {
		h := newStandIn(t, harbortest.Options{FirstID: 50})
		p := h.open(t)
		apply(t, p, "namespace/a", `robot/ci {"access":{"a":["pull","push"]}}`)
		says := func() (out string) {
			t.Helper()
			desired := objects(t, robot)
			compared(t, p, desired)
			notes, err := p.Remarks(t.Context(), desired, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range notes {
				out += n.Text
			}
			return out
		}
		if got := says(); got != "" {
			t.Errorf("of %s with its access alone it says %q", robot, got)
		}
		const push = `{"action":"push","resource":"repository"}`
		text := h.behind(t, "GET", "/robots/51", "")
		text = strings.Replace(text, push, `{"action":"create","resource":"member"},`+push+`,{"action":"delete","resource":"artifact"},{"action":"read","effect":"deny","resource":"artifact"}`, 1)
		h.behind(t, "PUT", "/robots/51", strings.Replace(text, `"permissions":[`, `"permissions":[{"kind":"system","namespace":"/","access":[{"action":"create","resource":"user"}]},`, 1))
		if got := says(); got != want {
			t.Errorf("of %s it says %q, want %q", robot, got, want)
		}
	}
}

// A robot gives other robots only what it has, with the effect that it has it with.
func TestARobotGivesRightsWithTheEffectOfItsOwn(t *testing.T) {
	for _, effect := range []string{"", `"effect":"allow",`} {
		h := newStandIn(t, harbortest.Options{})
		robot := h.boss(t)
		text := h.behind(t, "GET", "/robots/1", "")
		h.behind(t, "PUT", "/robots/1", strings.ReplaceAll(text, `"resource"`, effect+`"resource"`))
		h.registry.Login = &schema.Login{Robot: &robot, Password: h.registry.Login.Password}
		c := &courier{}
		p := h.with(t, c)
		want := apply(t, p, "namespace/a", delivered("a/ci"))
		done, err := p.Renew(t.Context(), want, time.Now().Add(25*24*time.Hour))
		if err != nil || len(done) != 1 || done[0].Err != nil || !h.logsIn(t, "robot$a+ci.2", c.got["robot$a+ci.2"]) {
			t.Errorf("of a robot with %q the renewal is %+v, %v", effect, done, err)
		}
	}
}

func TestARobotThatCannotLogInIsNotCompared(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a", `robot/a/ci {"enabled":false,"secret":{"value":{"env":"`+providertest.SecretA+`"}},"access":{"a":["pull"]}}`)
	if h.logsIn(t, "robot$a+ci", h.password(t)) {
		t.Error("a robot that is not enabled logs in")
	}
	key := schema.Key{Kind: schema.KindRobot, Name: "a/ci"}
	if _, err := p.Check(t.Context(), key, "secret.value", schema.SecretRef{Env: providertest.SecretA}); !errors.Is(err, providers.ErrUnsupported) {
		t.Errorf("it is compared: %v", err)
	}
}

func TestAdminOfARobotIsAllThatTheCatalogueHas(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a", `robot/boss {"secret":{"value":{"env":"`+providertest.SecretA+`"}},"access":{"a":["admin"]},"permissions":[]}`)
	// a robot has no look at the catalogue, and reads the same
	robot := "boss"
	r := h.registry
	r.Login = &schema.Login{Robot: &robot, Password: r.Login.Password}
	other := standIn{h.Server, r}
	st := read(t, p, schema.KindRobot)
	text, err := json.Marshal(st.Resources)
	if err != nil || !strings.Contains(string(text), `"access":{"a":["admin"]},"permissions":[]`) {
		t.Errorf("it reads %s, %v", text, err)
	}
	if _, err := other.open(t).Read(t.Context(), schema.ScopeOf(schema.KindAccess)); err != nil {
		t.Errorf("as the robot: %v", err)
	}
}

func TestRobotsThatHarborHasNotAreRefused(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a", "namespace/b")
	for line, why := range map[string]string{
		`robot/a/ci {"access":{"b":["pull"]}}`:                                                                      "own project alone",
		`robot/a/ci {"access":{"a":["pull"]},"permissions":[{"resource":"label","action":"read"}]}`:                 "own project alone",
		`robot/ci {"expires":"36h","access":{"a":["pull"]}}`:                                                        "counts in days",
		`robot/ci {"permissions":[]}`:                                                                               "may do nothing",
		`robot/ci {"permissions":[{"namespace":"a","resource":"repositories","action":"pull"}]}`:                    "no permission repositories:pull in a",
		`robot/ci {"permissions":[{"resource":"repository","action":"pull"}]}`:                                      "no permission repository:pull for the whole registry",
		`robot/ci {"permissions":[{"namespace":"a","resource":"repository","action":"pull"}]}`:                      "part of what access says",
		`robot/ci {"access":{"a":["delete"]},"permissions":[{"namespace":"a","resource":"tag","action":"delete"}]}`: "part of what access says",
	} {
		if v := verdict(t, p, objects(t, line)); !strings.Contains(v.Refused, why) {
			t.Errorf("%s is refused so: %q, want %q", line, v.Refused, why)
		}
	}
}

func TestAnotherPrefixOfRobotsIsSeenThrough(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	want := apply(t, p, "namespace/a", `robot/ci {"access":{"a":["pull"]}}`, `robot/a/ci {"access":{"a":["pull"]},"description":"x"}`)
	h.behind(t, "PUT", "/configurations", `{"robot_name_prefix":"bot-"}`)
	if rest := compared(t, p, want); len(rest) > 0 {
		t.Errorf("with another prefix: %s", told(rest))
	}
	apply(t, p, `robot/ci {"description":"y"}`, `robot/a/ci {"description":"z"}`)
}

// delivered is a robot of 30 days whose secret is delivered.
func delivered(name string) string {
	return "robot/" + name + ` {"expires":"30d","renew":"7d","overlap":"1h","description":"Builds","secret":{"deliver":{"file":"/run/ocisync/ci"}},"access":{"a":["pull","push"]}}`
}

func TestASecretIsDeliveredOrTheRobotIsNotThere(t *testing.T) {
	for _, name := range []string{"ci", "a/ci"} {
		h := newStandIn(t, harbortest.Options{})
		c := &courier{fails: true}
		p := h.with(t, c)
		apply(t, p, "namespace/a")
		want := objects(t, delivered(name))
		if err := write(t, p, compared(t, p, want)...)[want.Resources[0].Key]; err == nil || !strings.Contains(err.Error(), "road") {
			t.Fatalf("%s: %v", name, err)
		}
		c.fails = false
		apply(t, p, delivered(name))
		login := "robot$" + strings.ReplaceAll(name, "/", "+")
		if !h.logsIn(t, login, c.got[login]) {
			t.Errorf("%s does not log in with what was delivered: %v", login, c.order)
		}
	}
}

// weak resolves references to a secret that Harbor does not take.
type weak struct{ providertest.Secrets }

func (w weak) Resolve(ctx context.Context, ref schema.SecretRef) (string, error) {
	if ref.Env == providertest.SecretB {
		return "weak", nil
	}
	return w.Secrets.Resolve(ctx, ref)
}

func TestARobotWhoseSecretHarborDoesNotTakeIsNotThere(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p, err := harbor.New(h.registry, weak{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, p, "namespace/a")
	want := objects(t, `robot/ci {"access":{"a":["pull"]},"secret":{"value":{"env":"`+providertest.SecretB+`"}}}`)
	err = write(t, p, compared(t, p, want)...)[want.Resources[0].Key]
	if err == nil || !strings.Contains(err.Error(), "8-128") || strings.Contains(err.Error(), `"weak"`) {
		t.Errorf("%v", err)
	}
	if text := h.behind(t, "GET", "/robots", ""); strings.Contains(text, "robot$ci") {
		t.Errorf("the robots are %s", text)
	}
}

// boss makes a robot that may do all that robots may, with the password of the
// administrator, and returns its name.
func (h standIn) boss(t testing.TB) string {
	t.Helper()
	type access struct {
		Resource string `json:"resource"`
		Action   string `json:"action"`
	}
	var all struct{ Project, System []access }
	if err := json.Unmarshal([]byte(h.behind(t, "GET", "/permissions", "")), &all); err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{"name": "boss", "level": "system", "duration": -1, "permissions": []map[string]any{
		{"kind": "system", "namespace": "/", "access": all.System}, {"kind": "project", "namespace": "*", "access": all.Project},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ ID int64 }
	if err := json.Unmarshal([]byte(h.behind(t, "POST", "/robots", string(body))), &made); err != nil {
		t.Fatal(err)
	}
	h.behind(t, "PATCH", fmt.Sprintf("/robots/%d", made.ID), fmt.Sprintf(`{"secret":%q}`, h.password(t)))
	return "boss"
}

// A robot that manages Harbor reads and writes what an administrator does, but for
// what Harbor lets no robot.
func TestARobotManagesRobots(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	robot := h.boss(t)
	h.registry.Login = &schema.Login{Robot: &robot, Password: h.registry.Login.Password}
	c := &courier{}
	p := h.with(t, c)
	want := apply(t, p, "namespace/a", delivered("a/ci"), `robot/boss {"access":{"*":["admin"]}}`, hook, `access/a {"anonymous":["pull"],"users":{}}`, `retention/a {"keep":[{"newest":1}]}`)
	if !h.logsIn(t, "robot$a+ci", c.got["robot$a+ci"]) {
		t.Error("the robot that a robot made does not log in")
	}
	if due, err := p.Due(t.Context(), want, time.Now()); err != nil || len(due) != 1 || due[0].Login != "" {
		t.Errorf("%+v, %v", due, err)
	}
	// Harbor has no right for a robot to change one of the system
	if v := verdict(t, p, objects(t, delivered("ci"))); !strings.Contains(v.Refused, "registry.admin") {
		t.Errorf("a robot of the system is refused so: %q", v.Refused)
	}
	admin := "admin"
	h.registry.Admin = &schema.Login{User: &admin, Password: h.registry.Login.Password}
	p = h.with(t, c)
	for _, line := range []string{delivered("ci"), `robot/ci {"description":"Builds all"}`} {
		if v := verdict(t, p, objects(t, line)); v.Refused != "" || !strings.Contains(strings.Join(v.Notes, "; "), "registry.admin") {
			t.Errorf("of %s the plan says %+v", line, v)
		}
		apply(t, p, line)
	}
	if !h.logsIn(t, "robot$ci", c.got["robot$ci"]) {
		t.Error("the robot of the system does not log in with what was delivered")
	}
	first := c.got["robot$ci"]
	done, err := p.Renew(t.Context(), objects(t, delivered("ci")), time.Now().Add(25*24*time.Hour))
	if err != nil || len(done) != 1 || done[0].Err != nil || done[0].Login != "robot$ci.2" || c.got["robot$ci.2"] == first {
		t.Errorf("renewing it: %+v, %v", done, err)
	}
}

// A run that is cut short after the account was made leaves one that nobody knows
// the secret of: the next run delivers another.
func TestARobotWhoseDeliveryWasCutShortIsDeliveredAgain(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	c := &courier{}
	p := h.with(t, c)
	apply(t, p, "namespace/a")
	h.Inject(harbortest.Fault{Method: "PUT", Path: "/robots/{robot_id}", Status: 500})
	h.Inject(harbortest.Fault{Method: "DELETE", Path: "/robots/{robot_id}", Status: 500})
	want := objects(t, delivered("ci"))
	if err := write(t, p, compared(t, p, want)...)[want.Resources[0].Key]; err == nil {
		t.Fatal("what was not noted is done")
	}
	first := c.got["robot$ci"]
	h.Heal()
	again := h.with(t, c)
	apply(t, again, delivered("ci"))
	if second := c.got["robot$ci"]; second == first || h.logsIn(t, "robot$ci", first) || !h.logsIn(t, "robot$ci", second) {
		t.Error("the robot does not have the secret that was delivered last")
	}
	if text := h.behind(t, "GET", "/robots", ""); !strings.Contains(text, `"description":"Builds"`) || strings.Contains(text, "ocisync") {
		t.Errorf("the robots are %s", text)
	}
}

func TestARobotWhoseDeliveryWasCutShortLongAgoIsMadeAnew(t *testing.T) {
	now := time.Now()
	h := newStandIn(t, harbortest.Options{Now: func() time.Time { return now }})
	c := &courier{}
	clock := harbor.Clock(func() time.Time { return now })
	p := h.with(t, c, clock)
	apply(t, p, "namespace/a")
	h.Inject(harbortest.Fault{Method: "PUT", Path: "/robots/{robot_id}", Status: 500})
	h.Inject(harbortest.Fault{Method: "DELETE", Path: "/robots/{robot_id}", Status: 500})
	want := objects(t, delivered("ci"))
	if err := write(t, p, compared(t, p, want)...)[want.Resources[0].Key]; err == nil {
		t.Fatal("what was not noted is done")
	}
	h.Heal()
	now = now.Add(40 * 24 * time.Hour)
	apply(t, h.with(t, c, clock), delivered("ci"))
	if !h.logsIn(t, "robot$ci", c.got["robot$ci"]) {
		t.Error("the robot's secret does not work")
	}
}

func TestARobotIsRenewedByItsOtherAccount(t *testing.T) {
	for _, name := range []string{"ci", "a/ci"} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			now := began
			h := newStandIn(t, harbortest.Options{Now: func() time.Time { return now }})
			c := &courier{}
			p := h.with(t, c)
			want := apply(t, p, "namespace/a", delivered(name))
			first := "robot$" + strings.ReplaceAll(name, "/", "+")
			second := first + ".2"

			run := func(login string, next time.Time) {
				t.Helper()
				due, err := p.Due(t.Context(), want, now)
				if err != nil || len(due) != 1 || due[0].Login != login {
					t.Fatalf("due is %+v, %v; want %q", due, err, login)
				}
				done, err := p.Renew(t.Context(), want, now)
				if accounts, err := p.Accounts(t.Context(), want); err != nil || len(accounts) != 1 || login != "" && accounts[0].Login != login || !accounts[0].Expires.After(now) {
					t.Errorf("it logs in by %+v, %v", accounts, err)
				}
				if err != nil || len(done) != 1 || done[0].Err != nil || done[0].Login != login {
					t.Fatalf("done is %+v, %v; want %q", done, err, login)
				}
				if d := done[0].Next.Sub(next); !next.IsZero() && (d < -2*time.Second || d > 2*time.Second) {
					t.Errorf("next is %s, want %s", done[0].Next, next)
				}
				if rest := compared(t, p, want); len(rest) > 0 {
					t.Errorf("after the run the plan is %s", told(rest))
				}
			}
			run("", began.Add(23*24*time.Hour))
			now = began.Add(24 * 24 * time.Hour)
			notes, err := p.Remarks(t.Context(), want, now)
			if err != nil || len(notes) != 1 || !strings.Contains(notes[0].Text, "expires on") {
				t.Errorf("the plan says %v, %v", notes, err)
			}
			run(second, time.Time{})
			if !h.logsIn(t, first, c.got[first]) || !h.logsIn(t, second, c.got[second]) {
				t.Error("the two accounts do not both work within the overlap")
			}
			run("", now.Add(time.Hour))
			// both are the robot
			apply(t, p, strings.Replace(delivered(name), `["pull","push"]`, `["pull"]`, 1))
			if text := h.robotsOf(t, name); strings.Contains(text, `"push"`) || !strings.Contains(text, ".2") {
				t.Errorf("a right that was taken is left: %s", text)
			}
			apply(t, p, delivered(name))
			now = now.Add(time.Hour + time.Minute)
			run("", began.Add(47*24*time.Hour))
			if h.logsIn(t, first, c.got[first]) || !h.logsIn(t, second, c.got[second]) {
				t.Error("after the overlap the old account works, or the new one does not")
			}
			now = began.Add(50 * 24 * time.Hour)
			run(first, time.Time{})
			if !h.logsIn(t, first, c.got[first]) {
				t.Error("the next account does not work")
			}
		})
	}
}

// While the account before it still works a robot has no other to go to, which a plan
// says; one that has expired is in nobody's way.
func TestARobotWaitsForTheAccountBeforeIt(t *testing.T) {
	now := time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)
	h := newStandIn(t, harbortest.Options{Now: func() time.Time { return now }})
	c := &courier{}
	p := h.with(t, c)
	want := apply(t, p, "namespace/a", strings.Replace(delivered("ci"), `"overlap":"1h"`, `"overlap":"20d"`, 1))
	renewed := func() string {
		t.Helper()
		list, err := p.Renew(t.Context(), want, now)
		if err != nil || len(list) != 1 || list[0].Err != nil {
			t.Fatalf("it renews %+v, %v", list, err)
		}
		return list[0].Login
	}
	now = now.AddDate(0, 0, 1)
	shorten := func(login string, days int) {
		t.Helper()
		var list []map[string]any
		if err := json.Unmarshal([]byte(h.behind(t, "GET", "/robots", "")), &list); err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			if r["name"] != login {
				continue
			}
			r["duration"] = days
			body, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			h.behind(t, "PUT", fmt.Sprintf("/robots/%.0f", r["id"]), string(body))
		}
	}
	shorten("robot$ci", 5) // due at once
	if got := renewed(); got != "robot$ci.2" {
		t.Fatalf("it renews %q", got)
	}
	shorten("robot$ci.2", 5)
	if got := renewed(); got != "" {
		t.Errorf("it takes away %q, which still works", got)
	}
	notes, err := h.with(t, c).Remarks(t.Context(), want, now)
	if err != nil || len(notes) != 1 || !strings.HasSuffix(notes[0].Text, "expires on 2026-11-09; `ocisync run robots` renews it once the account before it has ended, after 2026-11-08 12:00 UTC") {
		t.Errorf("the plan says %v, %v", notes, err)
	}
	now = now.AddDate(0, 0, 4)
	if got := renewed(); got != "robot$ci" {
		t.Errorf("once the first has expired it renews %q", got)
	}
}

// robotsOf is the list that a robot stands in.
func (h standIn) robotsOf(t testing.TB, name string) string {
	t.Helper()
	if !strings.Contains(name, "/") {
		return h.behind(t, "GET", "/robots", "")
	}
	var p struct {
		ID int64 `json:"project_id"`
	}
	if err := json.Unmarshal([]byte(h.behind(t, "GET", "/projects/a", "")), &p); err != nil {
		t.Fatal(err)
	}
	return h.behind(t, "GET", fmt.Sprintf("/robots?q=Level%%3Dproject,ProjectID%%3D%d", p.ID), "")
}

// Wherever a renewal is cut short, running it again ends with one account that
// works, and with another within the overlap at the most.
func TestARenewalThatIsCutShortIsEnded(t *testing.T) {
	for n := 1; n <= 3; n++ {
		for _, method := range []string{"POST", "PUT", "PATCH"} {
			began := time.Now()
			now := began
			h := newStandIn(t, harbortest.Options{Now: func() time.Time { return now }})
			c := &courier{}
			p := h.with(t, c)
			want := apply(t, p, "namespace/a", delivered("ci"))
			now = began.Add(24 * 24 * time.Hour)
			h.Inject(harbortest.Fault{Method: method, Path: "/api/v2.0/robots", From: n, To: n, Status: 500})
			if _, err := p.Renew(t.Context(), want, now); err != nil {
				t.Fatal(err)
			}
			h.Heal()
			for range 2 {
				now = now.Add(time.Minute)
				if done, err := h.with(t, c).Renew(t.Context(), want, now); err != nil || done[0].Err != nil {
					t.Fatalf("%s %d: %+v, %v", method, n, done, err)
				}
			}
			now = now.Add(2 * time.Hour)
			if done, err := h.with(t, c).Renew(t.Context(), want, now); err != nil || done[0].Err != nil || done[0].Login != "" {
				t.Fatalf("%s %d: %+v, %v", method, n, done, err)
			}
			if h.logsIn(t, "robot$ci", c.got["robot$ci"]) || !h.logsIn(t, "robot$ci.2", c.got["robot$ci.2"]) {
				t.Errorf("%s %d: the accounts are %s", method, n, h.robotsOf(t, "ci"))
			}
			if rest := compared(t, p, want); len(rest) > 0 {
				t.Errorf("%s %d: the plan is %s", method, n, told(rest))
			}
		}
	}
}

func TestALostDeliveryIsMadeAgain(t *testing.T) {
	began := time.Now()
	now := began
	h := newStandIn(t, harbortest.Options{Now: func() time.Time { return now }})
	c := &courier{}
	p := h.with(t, c)
	want := apply(t, p, "namespace/a", delivered("ci"))
	now = began.Add(24 * 24 * time.Hour)
	c.lost = true
	if done, err := p.Renew(t.Context(), want, now); err != nil || done[0].Err == nil {
		t.Fatalf("%+v, %v", done, err)
	}
	if !h.logsIn(t, "robot$ci", c.got["robot$ci"]) {
		t.Error("the old account went before the new one's secret arrived")
	}
	c.lost = false
	if done, err := p.Renew(t.Context(), want, now); err != nil || done[0].Err != nil || done[0].Login != "robot$ci.2" {
		t.Fatalf("%+v, %v", done, err)
	}
	if !h.logsIn(t, "robot$ci.2", c.got["robot$ci.2"]) {
		t.Error("what was delivered last does not work")
	}
}

// An account whose secret could not be delivered for long is made anew: Harbor
// counts its life from when it was made.
func TestASecretIsDeliveredOfAnAccountThatHasLongToLive(t *testing.T) {
	const day = 24 * time.Hour
	for after, end := range map[time.Duration]time.Duration{10 * day: 54 * day, 20 * day: 74 * day, 40 * day: 94 * day} {
		began := time.Now()
		now := began
		h := newStandIn(t, harbortest.Options{Now: func() time.Time { return now }})
		c := &courier{}
		p := h.with(t, c)
		want := apply(t, p, "namespace/a", delivered("ci"))
		now = began.Add(24 * day)
		c.lost = true
		if done, err := p.Renew(t.Context(), want, now); err != nil || done[0].Err == nil {
			t.Fatalf("%+v, %v", done, err)
		}
		c.lost = false
		now = now.Add(after)
		if done, err := p.Renew(t.Context(), want, now); err != nil || done[0].Err != nil || done[0].Login != "robot$ci.2" {
			t.Fatalf("%+v, %v", done, err)
		}
		accounts, err := p.Accounts(t.Context(), want)
		if err != nil || len(accounts) != 1 || accounts[0].Login != "robot$ci.2" || accounts[0].Expires.Sub(began.Add(end)).Abs() > time.Minute {
			t.Errorf("after %s: it logs in by %+v, %v; want it until %s", after, accounts, err, began.Add(end))
		}
		if !h.logsIn(t, "robot$ci.2", c.got["robot$ci.2"]) {
			t.Errorf("after %s: what was delivered does not work", after)
		}
	}
}

func TestANamespacesRobotsAreToldOfItsDeletion(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a", "namespace/b", `robot/ci {"access":{"a":["pull"]}}`)
	if err := h.Push(harbortest.Image{Repository: "b/app", Tags: []string{"v1"}, Size: 10}); err != nil {
		t.Fatal(err)
	}
	var changes []plan.Change
	for _, r := range read(t, p, schema.KindNamespace).Resources {
		if r.Key.Name == "a" || r.Key.Name == "b" {
			changes = append(changes, plan.Change{Action: plan.Delete, Key: r.Key, Before: &r})
		}
	}
	v, err := p.Prepare(t.Context(), changes)
	if err != nil {
		t.Fatal(err)
	}
	if v[0].Refused != "" || len(v[0].Impact) != 1 || !strings.Contains(v[0].Impact[0], "robot$ci") {
		t.Errorf("of a is said %+v", v[0])
	}
	if !strings.Contains(v[1].Refused, "1 repositories") {
		t.Errorf("of b is said %+v", v[1])
	}
	if err := write(t, p, changes[1])[changes[1].Key]; err == nil {
		t.Error("a project that holds repositories is deleted")
	}
}

// Of two robots made at once that get the same rights in different orders Harbor's
// database refuses one.
func TestRobotsMadeAtOnceDoNotDeadlock(t *testing.T) {
	h := newStandIn(t, harbortest.Options{Latency: func(harbortest.Request) time.Duration { return 20 * time.Millisecond }})
	apply(t, h.open(t), `robot/deletes {"access":{"*":["pull","push","delete"]}}`, `robot/some {"access":{"*":["pull"]},"permissions":[`+
		`{"namespace":"*","resource":"artifact","action":"delete"},{"namespace":"*","resource":"repository","action":"delete"}]}`)
}
