package embedded_test

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/embedded"
	"github.com/ocisync/ocisync/pkg/secret"
	"github.com/ocisync/ocisync/schema"
)

var (
	_ embedded.Deliverer = (*secret.Resolver)(nil)
	_ providers.Remarker = (*embedded.Provider)(nil)
)

// courier delivers to a list, or fails.
type courier struct {
	secrets
	fail bool
	lose bool         // it arrives, and nobody learns of it
	got  *[][2]string // login and secret
}

func (c *courier) Deliver(_ context.Context, d schema.Delivery, user, password, host string) error {
	if c.fail || d.File != "/run/ocisync/ci" || host == "" {
		return errors.New("the directory is full")
	}
	*c.got = append(*c.got, [2]string{user, password})
	if c.lose {
		return errors.New("the connection broke")
	}
	return nil
}

// robotIn is a declared robot whose secret is delivered, and how it is made.
func robotIn(renew, overlap schema.Duration) (*schema.Robot, schema.State, plan.Change) {
	const day = schema.Duration(86400)
	spec := &schema.Robot{
		Expires: new(30 * day), Renew: &renew, Overlap: &overlap,
		Secret: &schema.RobotSecret{Deliver: &schema.Delivery{File: "/run/ocisync/ci"}},
	}
	desired := schema.State{Resources: []schema.Resource{{Key: robotCI(), Spec: spec}}}
	return spec, desired, plan.Change{Action: plan.Create, Key: robotCI(), After: &desired.Resources[0]}
}

func robotCI() schema.Key { return schema.Key{Kind: schema.KindRobot, Name: "ci"} }

// robotProvider is a provider of a registry that is served, which delivers to
// the courier, as a process has it.
func robotProvider(t *testing.T, url, data string, post *courier) *embedded.Provider {
	t.Helper()
	p, err := embedded.New(schema.Registry{
		Type: schema.TypeDistribution, URL: url, Run: &schema.Run{Driver: schema.DriverEmbedded, Data: data},
	}, post, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// logsIn reports whether a login works.
func logsIn(t *testing.T, url string, l [2]string) bool {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	q.SetBasicAuth(l[0], l[1])
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(q)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// A process that dies after a secret arrived, and before the registry learns of
// it, leaves a user who has that secret and no other.
func TestASecretThatMayHaveArrivedWorksUntilAnotherDid(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	url := up(t, data)
	post := &courier{secrets: testSecrets(), got: new([][2]string)}
	_, desired, create := robotIn(10*86400, 0)
	first := robotProvider(t, url, data, post)
	mustWrite(t, first, create)
	renew := func(p *embedded.Provider, works bool) {
		t.Helper()
		list, err := p.Renew(t.Context(), desired, time.Now().Add(21*24*time.Hour))
		if err != nil || len(list) != 1 || list[0].Login != "robot$ci.2" || (list[0].Err == nil) != works {
			t.Fatalf("%+v, %v; want a renewal that works: %v", list, err, works)
		}
	}
	post.lose = true
	renew(first, false)
	renew(first, false) // the same secret again, as long as the process lives
	if got := *post.got; len(got) != 3 || got[1] != got[2] {
		t.Fatalf("delivered %d times, the same secret twice: %v", len(got), len(got) == 3 && got[1] == got[2])
	}
	post.fail, post.lose = true, false
	for range 3 { // processes that can deliver nothing
		renew(robotProvider(t, url, data, post), false)
	}
	arrived := (*post.got)[2]
	if !logsIn(t, url, (*post.got)[0]) || !logsIn(t, url, arrived) {
		t.Error("while no other could be delivered, the secret that had arrived, or the robot's first, works no more")
	}
	post.fail = false
	renew(robotProvider(t, url, data, post), true)
	if logsIn(t, url, (*post.got)[0]) || logsIn(t, url, arrived) || !logsIn(t, url, (*post.got)[3]) {
		t.Error("after the overlap another secret than the last works, or the last does not")
	}
}

func TestARobotIsRenewedDeliveredAndNeverHasTwoSecretsForLong(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	url := up(t, data)
	post := &courier{secrets: testSecrets(), got: new([][2]string)}
	p := robotProvider(t, url, data, post)
	login := func(l [2]string) bool { t.Helper(); return logsIn(t, url, l) }
	key := robotCI()
	spec, desired, create := robotIn(10*86400, 3600)

	post.fail = true
	if err := write(t, p, create)[key]; err == nil {
		t.Error("a robot whose secret could not be delivered was made")
	}
	if st := read(t, p, schema.ScopeOf(schema.KindRobot)); len(st.Resources) != 0 {
		t.Errorf("the registry holds %v", st.Resources)
	}
	post.fail = false
	mustWrite(t, p, create)
	if len(*post.got) != 1 || !login((*post.got)[0]) {
		t.Fatalf("delivered %d times, and it logs in: %v", len(*post.got), len(*post.got) == 1)
	}
	run := func(after time.Duration) providers.Renewal {
		t.Helper()
		runs, err := p.Renew(t.Context(), desired, time.Now().Add(after))
		if err != nil || len(runs) != 1 {
			t.Fatal(runs, err)
		}
		return runs[0]
	}
	remarks := func(after time.Duration) string {
		t.Helper()
		notes, err := p.Remarks(t.Context(), desired, time.Now().Add(after))
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, n := range notes {
			all = append(all, n.Key.String()+" "+n.Text)
		}
		return strings.Join(all, "\n")
	}
	const hours = 24 * time.Hour
	for after, want := range map[time.Duration]string{0: "", 21 * hours: "robot$ci expires on", 31 * hours: "robot$ci expired on"} {
		if got := remarks(after); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("after %s the plan says %q, want %q", after, got, want)
		}
	}
	if r := run(19 * hours); r.Login != "" || r.Err != nil {
		t.Errorf("renewed too early: %+v", r)
	}
	post.fail = true
	for range 2 {
		if r := run(21 * hours); r.Login != "robot$ci.2" || r.Err == nil || !login((*post.got)[0]) {
			t.Errorf("a renewal that could not be delivered: %+v", r)
		}
	}
	post.fail = false
	if r := run(0); r.Login != "robot$ci.2" || r.Err != nil { // what was begun is finished, due or not
		t.Errorf("the renewal after that: %+v", r)
	}
	if len(*post.got) != 2 || (*post.got)[1][0] != "robot$ci.2" || !login((*post.got)[0]) || !login((*post.got)[1]) {
		t.Errorf("during the overlap: %d delivered", len(*post.got))
	}
	if r := run(0); r.Login != "" || r.Err != nil || len(*post.got) != 2 {
		t.Errorf("renewed again: %+v", r)
	}
	spec.Overlap = new(schema.Duration(0))
	if r := run(21 * hours); r.Login != "robot$ci" || r.Err != nil { // the overlap of the first is long over by then
		t.Errorf("the second renewal: %+v", r)
	}
	if login((*post.got)[0]) || login((*post.got)[1]) || !login((*post.got)[2]) {
		t.Error("after the overlap another secret than the last works, or the last does not")
	}
	for _, l := range *post.got {
		if strings.Contains(remarks(31*hours), l[1]) {
			t.Error("a note holds a secret")
		}
	}
}
