package embedded_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
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
	slow func()       // what happens before it arrives
	got  *[][2]string // login and secret
}

func (c *courier) Deliver(_ context.Context, d schema.Delivery, user, password, host string) error {
	if c.fail || !strings.HasPrefix(d.File, "/run/ocisync/ci") && d.Command == "" && d.DockerConfig == "" || host == "" {
		return errors.New("the directory is full")
	}
	if slow := c.slow; slow != nil {
		c.slow = nil
		slow()
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
	after := 21 * 24 * time.Hour // what was begun is finished, due or not
	renew := func(p *embedded.Provider, works bool) {
		t.Helper()
		list, err := p.Renew(t.Context(), desired, time.Now().Add(after))
		after = 0
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
	for range 6 { // processes that can deliver nothing
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
	b, err := os.ReadFile(filepath.Join(data, "ocisync", "state.json"))
	if err != nil || strings.Contains(string(b), (*post.got)[3][1]) || strings.Contains(string(b), "/run/ocisync") {
		t.Errorf("the state holds a secret or the place it went to (%v)", err)
	}
}

// Two processes that know nothing of each other, since each has a state directory of
// its own, renew a robot at once: what the slower one delivers last works, and for the
// overlap what was delivered before.
func TestWhatIsDeliveredLastWorksWhoeverElseRenews(t *testing.T) {
	for _, overlap := range []schema.Duration{0, 3600} {
		data := filepath.Join(t.TempDir(), "data")
		url := up(t, data)
		post := &courier{secrets: testSecrets(), got: new([][2]string)}
		_, desired, create := robotIn(10*86400, overlap)
		slow := robotProvider(t, url, data, post)
		mustWrite(t, slow, create)
		quick := &courier{secrets: testSecrets(), got: post.got}
		renew := func(p *embedded.Provider) string {
			t.Helper()
			list, err := p.Renew(t.Context(), desired, time.Now().Add(21*24*time.Hour))
			if err != nil || len(list) != 1 || list[0].Err != nil {
				t.Fatalf("%+v, %v", list, err)
			}
			return list[0].Login
		}
		post.slow = func() { renew(robotProvider(t, url, data, quick)) }
		login := renew(slow)
		got := *post.got // the first, that of the quick one, what the slow one brought after it, and instead of that
		if len(got) != 4 || login != "robot$ci.2" || got[3][0] != login {
			t.Errorf("delivered %d times, last %s; said %s", len(got), got[len(got)-1][0], login)
		}
		for i, l := range got {
			if works := logsIn(t, url, l); works != (i == len(got)-1 || overlap > 0) {
				t.Errorf("overlap %d: delivery %d, of %s, works: %t", overlap, i, l[0], works)
			}
		}
	}
}

// What another process has renewed since it was looked at is left alone.
func TestWhatAnotherRenewedMeanwhileIsNotRenewedAgain(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	url := up(t, data)
	post := &courier{secrets: testSecrets(), got: new([][2]string)}
	slow := robotProvider(t, url, data, post)
	var desired schema.State
	for _, name := range []string{"ci", "cj"} {
		spec, _, create := robotIn(10*86400, 3600)
		create.Key.Name = name
		create.After = &schema.Resource{Key: create.Key, Spec: spec}
		mustWrite(t, slow, create)
		moved := *spec
		moved.Secret = &schema.RobotSecret{Deliver: &schema.Delivery{File: "/run/ocisync/ci/" + name}}
		desired.Resources = append(desired.Resources, schema.Resource{Key: create.Key, Spec: &moved})
	}
	quick := &courier{secrets: testSecrets(), got: post.got}
	post.slow = func() {
		list, err := robotProvider(t, url, data, quick).Renew(t.Context(), desired, time.Now())
		if err != nil || len(list) != 2 || list[0].Err != nil || list[1].Err != nil || list[1].Login != "robot$cj.2" {
			t.Errorf("the quick one: %+v, %v", list, err)
		}
	}
	list, err := slow.Renew(t.Context(), desired, time.Now())
	if err != nil || len(list) != 2 || list[0].Err != nil || list[0].Login != "robot$ci.2" || list[1].Err != nil || list[1].Login != "" {
		t.Errorf("the slow one: %+v, %v", list, err)
	}
	for i, l := range *post.got {
		if !logsIn(t, url, l) {
			t.Errorf("within the overlap delivery %d, of %s, works no more", i, l[0])
		}
	}
	if n := len(*post.got); n != 6 { // two first ones, two of the quick one's, and two of ci's of the slow one's
		t.Errorf("%d deliveries: %v", n, *post.got)
	}
}

// A secret that waited long for its delivery has not long to live, or none.
func TestASecretThatSoonExpiresIsNotDelivered(t *testing.T) {
	const day = 24 * time.Hour
	for after, again := range map[time.Duration]bool{14 * day: true, 16 * day: false, 40 * day: false, -day: false} {
		data := filepath.Join(t.TempDir(), "data")
		url := up(t, data)
		post := &courier{secrets: testSecrets(), got: new([][2]string)}
		_, desired, create := robotIn(10*86400, 3600)
		p := robotProvider(t, url, data, post)
		mustWrite(t, p, create)
		post.lose = true
		if list, err := p.Renew(t.Context(), desired, time.Now().Add(21*day)); err != nil || len(list) != 1 || list[0].Err == nil {
			t.Fatalf("%+v, %v", list, err)
		}
		post.lose = false
		if list, err := p.Renew(t.Context(), desired, time.Now().Add(after)); err != nil || len(list) != 1 || list[0].Err != nil {
			t.Fatalf("%+v, %v", list, err)
		}
		if got := *post.got; len(got) != 3 || (got[1] == got[2]) != again || !logsIn(t, url, got[2]) {
			t.Errorf("%s after a secret for 30 days was made the same was delivered: %v, want %v", after, len(got) == 3 && got[1] == got[2], again)
		}
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

func TestASecretThatMayHaveArrivedWorksForTheOverlapOfItsSuccessor(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	url := up(t, data)
	post := &courier{secrets: testSecrets(), got: new([][2]string)}
	_, desired, create := robotIn(10*86400, 2)
	mustWrite(t, robotProvider(t, url, data, post), create)
	renew := func(works bool) {
		t.Helper()
		list, err := robotProvider(t, url, data, post).Renew(t.Context(), desired, time.Now().Add(21*24*time.Hour))
		if err != nil || len(list) != 1 || list[0].Login != "robot$ci.2" || (list[0].Err == nil) != works {
			t.Fatalf("%+v, %v; want a renewal that works: %v", list, err, works)
		}
	}
	post.lose = true
	renew(false)
	post.lose = false
	renew(true)
	if got := *post.got; !logsIn(t, url, got[1]) || !logsIn(t, url, got[2]) {
		t.Error("during the overlap the secret that had arrived, or its successor, does not work")
	}
	for deadline := time.Now().Add(time.Minute); logsIn(t, url, (*post.got)[1]); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the secret that had arrived works long after the overlap")
		}
	}
	if !logsIn(t, url, (*post.got)[2]) {
		t.Error("the last secret works no more")
	}
}

func TestAnotherPlaceOfDeliveryIsDelivered(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	url := up(t, data)
	post := &courier{secrets: testSecrets(), got: new([][2]string)}
	p := robotProvider(t, url, data, post)
	spec, desired, create := robotIn(0, 0)
	spec.Expires, spec.Overlap = nil, new(schema.Duration(3600))
	mustWrite(t, p, create)
	notes := func() string {
		t.Helper()
		list, err := p.Remarks(t.Context(), desired, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, n := range list {
			text += n.Text
		}
		return text
	}
	for i, to := range []*schema.RobotSecret{
		{Deliver: &schema.Delivery{File: "/run/ocisync/ci-2"}},
		{Deliver: &schema.Delivery{DockerConfig: "/run/ocisync/ci-2"}},
		{Deliver: &schema.Delivery{Command: "put", Args: []string{"a"}}},
		{Deliver: &schema.Delivery{Command: "put", Args: []string{"b"}}},
	} {
		spec.Secret, spec.Overlap = to, new(schema.Duration(0))
		if i == 0 {
			spec.Overlap = new(schema.Duration(3600))
		}
		if text := notes(); !strings.Contains(text, "`ocisync run robots` at once") {
			t.Errorf("place %d: the plan says %q", i, text)
		}
		if i == 1 { // the account from before the first move is in use for its overlap
			if list, err := p.Renew(t.Context(), desired, time.Now()); err != nil || list[0].Login != "" || list[0].Next.IsZero() {
				t.Fatalf("a third account beside two in use: %+v, %v", list, err)
			}
			if list, err := p.Renew(t.Context(), desired, time.Now().Add(2*time.Hour)); err != nil || list[0].Login == "" || list[0].Err != nil {
				t.Fatalf("after the overlap: %+v, %v", list, err)
			}
		} else if list, err := p.Renew(t.Context(), desired, time.Now()); err != nil || list[0].Login == "" || list[0].Err != nil {
			t.Fatalf("place %d: %+v, %v", i, list, err)
		}
		got := *post.got
		if len(got) != i+2 || !logsIn(t, url, got[i+1]) || i == 0 && !logsIn(t, url, got[0]) {
			t.Errorf("place %d: %d delivered, or what should work does not", i, len(got))
		}
		if list, err := p.Due(t.Context(), desired, time.Now()); err != nil || list[0].Login != "" || notes() != "" {
			t.Errorf("place %d: after it was delivered: %+v, %q, %v", i, list, notes(), err)
		}
	}
}

func TestASecretThatWasGivenIsDeliveredOnceThatIsSaid(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	url := up(t, data)
	post := &courier{secrets: testSecrets(), got: new([][2]string)}
	p := robotProvider(t, url, data, post)
	spec, desired, create := robotIn(0, 0)
	to := spec.Secret
	spec.Expires, spec.Secret = nil, &schema.RobotSecret{Value: &schema.SecretRef{Env: "ROOT"}}
	mustWrite(t, p, create)
	if list, err := p.Renew(t.Context(), desired, time.Now()); err != nil || len(list) != 0 {
		t.Fatalf("%+v, %v", list, err)
	}
	spec.Secret = to
	if list, err := p.Renew(t.Context(), desired, time.Now()); err != nil || list[0].Login != "robot$ci.2" || list[0].Err != nil || len(*post.got) != 1 {
		t.Fatalf("%+v, %v; %d delivered", list, err, len(*post.got))
	}
	if !logsIn(t, url, (*post.got)[0]) {
		t.Error("what was delivered does not log in")
	}
}

// An account from before places were kept is where the mode says when it is
// first seen.
func TestNoRobotIsRenewedBecauseNoPlaceWasKept(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	post := &courier{secrets: testSecrets(), got: new([][2]string)}
	p := robotProvider(t, "http://127.0.0.1:9", data, post)
	spec, desired, create := robotIn(0, 0)
	spec.Expires = nil
	mustWrite(t, p, create)
	b := stateOf(t, data)
	old := regexp.MustCompile(`,?\s*"place": "[^"]*"`).ReplaceAll(b, nil)
	if string(old) == string(b) {
		t.Fatal("no place is kept")
	}
	if err := os.WriteFile(filepath.Join(data, "ocisync", "state.json"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := p.Renew(t.Context(), desired, time.Now()); err != nil || list[0].Login != "" {
		t.Fatalf("renewed: %+v, %v", list, err)
	}
	spec.Secret = &schema.RobotSecret{Deliver: &schema.Delivery{File: "/run/ocisync/ci-2"}}
	if list, err := p.Renew(t.Context(), desired, time.Now()); err != nil || list[0].Login == "" || list[0].Err != nil {
		t.Fatalf("a place that changed after that: %+v, %v", list, err)
	}
}

func stateOf(t *testing.T, data string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(data, "ocisync", "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A clock that was ahead when an account was made does not lengthen its life.
func TestARobotThatWasMadeInTheFutureIsRenewed(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	post := &courier{secrets: testSecrets(), got: new([][2]string)}
	p := robotProvider(t, "http://127.0.0.1:9", data, post)
	_, desired, create := robotIn(86400, 86400)
	mustWrite(t, p, create)
	day := 24 * time.Hour
	past := time.Now().Add(-400 * day) // as the right clock has it
	if notes, err := p.Remarks(t.Context(), desired, past); err != nil || len(notes) != 1 || !strings.Contains(notes[0].Text, "which is to come") {
		t.Errorf("notes %v, %v", notes, err)
	}
	if list, err := p.Due(t.Context(), desired, past); err != nil || len(list) != 1 || list[0].Login != "robot$ci.2" {
		t.Errorf("due: %+v, %v", list, err)
	}
	if list, err := p.Due(t.Context(), desired, time.Now().Add(-time.Minute)); err != nil || len(list) != 1 || list[0].Login != "" {
		t.Errorf("due a minute before it was made: %+v, %v", list, err)
	}
}

func TestAPlanSpeaksDaysAheadOfAnAccountThatIsRenewedLate(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := robotProvider(t, "http://127.0.0.1:9", data, &courier{secrets: testSecrets(), got: new([][2]string)})
	_, desired, create := robotIn(3600, 60)
	mustWrite(t, p, create)
	for days, want := range map[int]int{22: 0, 24: 1} {
		if notes, err := p.Remarks(t.Context(), desired, time.Now().AddDate(0, 0, days)); err != nil || len(notes) != want {
			t.Errorf("day %d of 30: %v, %v", days, notes, err)
		}
	}
}
