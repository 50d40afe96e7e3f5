package zot_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/providers/zot"
	"github.com/ocisync/ocisync/schema"
)

// courier takes secrets, or does not.
type courier struct {
	providertest.Secrets
	fails  bool
	logins []string
	last   map[string]string // secret by login
}

func (c *courier) Deliver(_ context.Context, _ schema.Delivery, user, secret, _ string) error {
	if c.fails {
		return errors.New("the road is closed")
	}
	c.logins = append(c.logins, user)
	c.last[user] = secret
	return nil
}

// works reports whether a login and its secret stand in the file of accounts.
func works(t *testing.T, data, login, secret string) bool {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(data, "htpasswd"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		if hash, ok := strings.CutPrefix(line, login+":"); ok {
			return bcrypt.CompareHashAndPassword([]byte(hash), []byte(secret)) == nil
		}
	}
	return false
}

func TestARobotIsRenewedWithOverlapAndThenEnds(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	c := &courier{last: map[string]string{}}
	p, err := zot.New(schema.Registry{
		Type: schema.TypeZot, URL: "http://127.0.0.1:9", Run: &schema.Run{Driver: schema.DriverProcess, Data: data},
	}, nil, c, nil, zot.HashCost(bcrypt.MinCost))
	if err != nil {
		t.Fatal(err)
	}
	day := schema.Duration(86400)
	st := schema.State{Resources: []schema.Resource{
		{Key: schema.Key{Kind: schema.KindNamespace, Name: "apps"}, Spec: &schema.Namespace{}},
		{Key: schema.Key{Kind: schema.KindRobot, Name: "ci"}, Spec: &schema.Robot{
			Expires: new(30 * day), Renew: new(10 * day), Overlap: new(2 * day),
			Secret: &schema.RobotSecret{Deliver: &schema.Delivery{File: "/run/ocisync/ci"}}, Access: schema.NewGrants(schema.Grant{Name: "apps", Rights: schema.Pull}),
		}},
	}}
	if n := cycle(t, p, st); n == 0 {
		t.Fatal("nothing was made")
	}
	first := c.last["robot$ci"]
	if first == "" || !works(t, data, "robot$ci", first) {
		t.Fatalf("the first account does not work; delivered %v", c.logins)
	}
	config, err := os.ReadFile(filepath.Join(data, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	at := func(days int) time.Time { return now.Add(time.Duration(days) * 24 * time.Hour) }
	renew := func(days int) string {
		t.Helper()
		due, err := p.Due(t.Context(), st, at(days))
		if err != nil {
			t.Fatal(err)
		}
		did, err := p.Renew(t.Context(), st, at(days))
		if err != nil || len(did) != 1 || len(due) != 1 || due[0].Login != did[0].Login {
			t.Fatalf("day %d: due %+v, done %+v, %v", days, due, did, err)
		}
		if did[0].Err != nil {
			return "failed"
		}
		return did[0].Login
	}
	if got := renew(10); got != "" {
		t.Errorf("day 10: %s is renewed, which is not due", got)
	}
	if notes, err := p.Remarks(t.Context(), st, at(10)); err != nil || len(notes) != 0 {
		t.Errorf("day 10: %v, %v", notes, err)
	}
	if notes, err := p.Remarks(t.Context(), st, at(25)); err != nil || len(notes) != 1 || !strings.Contains(notes[0].Text, "expires on") {
		t.Errorf("day 25: %v, %v", notes, err)
	}
	c.fails = true
	if got := renew(21); got != "failed" {
		t.Errorf("day 21, without delivery: %q", got)
	}
	if accounts, err := p.Accounts(t.Context(), st); err != nil || len(accounts) != 1 || accounts[0].Login != "robot$ci" {
		t.Errorf("without delivery it logs in by %+v, %v", accounts, err)
	}
	if !works(t, data, "robot$ci", first) {
		t.Error("the account in use does not work while the new secret is not delivered")
	}
	c.fails = false
	if got := renew(21); got != "robot$ci.2" {
		t.Errorf("day 21: %q", got)
	}
	if accounts, err := p.Accounts(t.Context(), st); err != nil || len(accounts) != 1 || accounts[0].Login != "robot$ci.2" || accounts[0].Expires.Before(at(21+29)) {
		t.Errorf("day 21: it logs in by %+v, %v", accounts, err)
	}
	second := c.last["robot$ci.2"]
	if !works(t, data, "robot$ci", first) || !works(t, data, "robot$ci.2", second) {
		t.Error("the two accounts do not work side by side")
	}
	if got := renew(24); got != "" {
		t.Errorf("day 24: %s is renewed, which is not due", got)
	}
	if works(t, data, "robot$ci", first) || !works(t, data, "robot$ci.2", second) {
		t.Error("after the overlap the old account works, or the new one does not")
	}
	after, err := os.ReadFile(filepath.Join(data, "config.json"))
	if err != nil || string(after) != string(config) {
		t.Errorf("a renewal touched the configuration (%v)", err)
	}
	bare, ok := st.Resources[1].Spec.(*schema.Robot)
	if !ok {
		t.Fatal("no robot")
	}
	bare.Renew, bare.Overlap, bare.Secret = nil, nil, nil // of ocisync alone, and nothing to compare
	if n := cycle(t, p, st); n != 0 {
		t.Errorf("after a renewal the same makes %d changes", n)
	}
}

func TestADisabledRobotCannotLogInAndComesBack(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := inData(t, data)
	robot := func(enabled bool) schema.State {
		return schema.State{Resources: []schema.Resource{
			{Key: schema.Key{Kind: schema.KindNamespace, Name: "apps"}, Spec: &schema.Namespace{}},
			{Key: schema.Key{Kind: schema.KindRobot, Name: "apps/ci"}, Spec: &schema.Robot{
				Enabled: &enabled, Secret: &schema.RobotSecret{Value: &schema.SecretRef{Env: providertest.SecretA}}, Access: schema.NewGrants(schema.Grant{Name: "apps", Rights: schema.Pull}),
			}},
		}}
	}
	const secret = "Canary7Bird-" + providertest.SecretA
	for _, enabled := range []bool{true, false, true} {
		cycle(t, p, robot(enabled))
		if works(t, data, "robot$apps+ci", secret) != enabled {
			t.Errorf("enabled %t, and that is not how it is", enabled)
		}
		if n := cycle(t, p, robot(enabled)); n != 0 {
			t.Errorf("enabled %t: the same again makes %d changes", enabled, n)
		}
	}
}

// TestAnExpiredRobotEndsWhileItIsAttended: nobody need run a job for it, and one
// whose secret is given expires too.
func TestAnExpiredRobotEndsWhileItIsAttended(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	st := schema.State{Resources: []schema.Resource{
		{Key: schema.Key{Kind: schema.KindUser, Name: "ann"}, Spec: &schema.User{Password: &schema.SecretRef{Env: providertest.SecretA}}},
		{Key: schema.Key{Kind: schema.KindRobot, Name: "ci"}, Spec: &schema.Robot{
			Expires: new(schema.Duration(30)), Secret: &schema.RobotSecret{Value: &schema.SecretRef{Env: providertest.SecretA}},
		}},
	}}
	cycle(t, inData(t, data), st)
	there := func() (robot, user bool) {
		b, err := os.ReadFile(filepath.Join(data, "htpasswd"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(b), "robot$ci:"), strings.Contains(string(b), "ann:")
	}
	again, err := inData(t, data).Attend(t.Context())
	if robot, user := there(); err != nil || again > 30*time.Second || !robot || !user {
		t.Errorf("before: robot %v, user %v, again in %s, %v", robot, user, again, err)
	}
	name := filepath.Join(data, "ocisync", "zot.json")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	year := time.Now().UTC().Format("2006-")
	if b = []byte(strings.ReplaceAll(string(b), `"made":"`+year, `"made":"1999-`)); !strings.Contains(string(b), "1999-") {
		t.Fatalf("%s", b)
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err = inData(t, data).Attend(t.Context())
		if robot, user := there(); err != nil || robot || !user {
			t.Errorf("after: robot %v, user %v, %v", robot, user, err)
		}
	}
	if n := cycle(t, inData(t, data), st); n != 0 {
		t.Errorf("%d changes once it has expired", n)
	}
}

// TestAnAccountOfARobotThatSomebodyMadeGoes: its secret is in no mode, so that
// nothing but its line tells.
func TestAnAccountOfARobotThatSomebodyMadeGoes(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	c := &courier{last: map[string]string{}}
	open := func() *zot.Provider {
		p, err := zot.New(schema.Registry{
			Type: schema.TypeZot, URL: "http://127.0.0.1:9", Run: &schema.Run{Driver: schema.DriverProcess, Data: data},
		}, nil, c, nil, zot.HashCost(bcrypt.MinCost))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	st := schema.State{Resources: []schema.Resource{{Key: schema.Key{Kind: schema.KindRobot, Name: "ci"}, Spec: &schema.Robot{
		Expires: new(schema.Duration(86400)), Secret: &schema.RobotSecret{Deliver: &schema.Delivery{File: "/run/ocisync/ci"}},
	}}}}
	cycle(t, open(), st)
	file := filepath.Join(data, "htpasswd")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	evil, err := bcrypt.GenerateFromPassword([]byte("evil"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	differs := func() bool {
		p := open()
		norm, _, err := p.Normalize(st)
		if err != nil {
			t.Fatal(err)
		}
		key := schema.Key{Kind: schema.KindSettings}
		want, _ := norm.Get(key)
		have, _ := readEverything(t, p).Get(key)
		find := func(r schema.Resource) string {
			s, _ := r.Spec.(*schema.Settings)
			for _, v := range s.Values {
				if v.Path == "process.foreign_accounts" {
					return v.JSON
				}
			}
			return ""
		}
		return find(want) != find(have)
	}
	if differs() {
		t.Error("what was just made differs")
	}
	head, _, _ := strings.Cut(string(good), "robot$ci:")
	for _, lines := range []string{
		head + "robot$ci:" + string(evil) + "\n", // another secret
		string(good) + "robot$ci:" + string(evil) + "\n",
		string(good) + "robot$ci.2:" + string(evil) + "\n", // the robot's rights under its other name
		head, // gone
	} {
		if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
		if !differs() {
			t.Errorf("nothing differs with\n%s", lines)
		}
		if _, err := providertest.DirectCycle(t.Context(), open(), st); err != nil {
			t.Error(err)
		}
		if !works(t, data, "robot$ci", c.last["robot$ci"]) || works(t, data, "robot$ci.2", "evil") || len(c.logins) != 1 || differs() {
			b, _ := os.ReadFile(file)
			t.Errorf("%s\nbecomes\n%s", lines, b)
		}
	}
}

func TestAZotRobotsSecretFollowsItsPlaceAndWhatEndedStaysEnded(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	c := &courier{last: map[string]string{}}
	p, err := zot.New(schema.Registry{
		Type: schema.TypeZot, URL: "http://127.0.0.1:9", Run: &schema.Run{Driver: schema.DriverProcess, Data: data},
	}, nil, c, nil, zot.HashCost(bcrypt.MinCost))
	if err != nil {
		t.Fatal(err)
	}
	day := schema.Duration(86400)
	robot := &schema.Robot{
		Expires: new(30 * day), Renew: new(10 * day), Overlap: new(2 * day),
		Secret: &schema.RobotSecret{Deliver: &schema.Delivery{File: "/run/ocisync/ci"}}, Access: schema.NewGrants(schema.Grant{Name: "apps", Rights: schema.Pull}),
	}
	st := schema.State{Resources: []schema.Resource{
		{Key: schema.Key{Kind: schema.KindNamespace, Name: "apps"}, Spec: &schema.Namespace{}},
		{Key: schema.Key{Kind: schema.KindRobot, Name: "ci"}, Spec: robot},
	}}
	cycle(t, p, st)
	now := time.Now()
	at := func(days int) time.Time { return now.Add(time.Duration(days) * 24 * time.Hour) }
	renew := func(days int, want string) {
		t.Helper()
		did, err := p.Renew(t.Context(), st, at(days))
		if err != nil || len(did) != 1 || did[0].Err != nil || did[0].Login != want {
			t.Fatalf("day %d: %+v, %v; want %q", days, did, err, want)
		}
	}
	first := c.last["robot$ci"]
	renew(1, "")
	robot.Secret = &schema.RobotSecret{Deliver: &schema.Delivery{DockerConfig: "/run/ocisync/ci"}}
	if notes, err := p.Remarks(t.Context(), st, at(1)); err != nil || len(notes) != 1 || !strings.Contains(notes[0].Text, "secret.deliver") {
		t.Errorf("notes %v, %v", notes, err)
	}
	renew(1, "robot$ci.2")
	second := c.last["robot$ci.2"]
	if !works(t, data, "robot$ci", first) || !works(t, data, "robot$ci.2", second) {
		t.Error("the two accounts do not work side by side")
	}
	renew(1, "")
	renew(4, "") // the overlap is over
	gone := func(when string) {
		t.Helper()
		if works(t, data, "robot$ci", first) || !works(t, data, "robot$ci.2", second) {
			t.Errorf("%s: the account that ended works, or the other does not", when)
		}
	}
	gone("after the overlap")
	renew(2, "")
	robot.Description = new("the clock was set back")
	cycle(t, p, st)
	gone("after an apply under a clock that was set back")

	renew(400, "robot$ci") // a clock that is far ahead
	if notes, err := p.Remarks(t.Context(), st, at(5)); err != nil || len(notes) != 1 || !strings.Contains(notes[0].Text, "which is to come") {
		t.Errorf("notes %v, %v", notes, err)
	}
	third := c.last["robot$ci"]
	renew(5, "robot$ci.2")
	fourth := c.last["robot$ci.2"]
	if works(t, data, "robot$ci.2", second) || !works(t, data, "robot$ci", third) || !works(t, data, "robot$ci.2", fourth) {
		t.Error("after the clock was set right, others than the last two work")
	}
	renew(8, "")
	if works(t, data, "robot$ci", third) || !works(t, data, "robot$ci.2", fourth) {
		t.Error("the account from the future works longer than the overlap")
	}
}
