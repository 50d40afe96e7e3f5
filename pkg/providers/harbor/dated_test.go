package harbor_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/harbor"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

const ciRobot = `robot/a/ci {"secret":{"value":{"env":"` + providertest.SecretA + `"}},"access":{"a":["pull"]}}`

func ci() schema.Key { return schema.Key{Kind: schema.KindRobot, Name: "a/ci"} }

// accountOf is an account of a name as somebody makes it by hand.
func accountOf(name string) string {
	return `{"name":"` + name + `","level":"project","duration":-1,"permissions":[{"kind":"project","namespace":"a","access":[{"resource":"repository","action":"pull"}]}]}`
}

// behindProxy has what stands before Harbor say its own time.
func (h standIn) behindProxy(t *testing.T, date func(time.Time) []string) standIn {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if date != nil {
			w.Header()["Date"] = date(time.Now())
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	h.registry.URL = server.URL
	return h
}

// asOf is the second of the robot's secret that a provider knows, and whether another one
// that reads takes it to be the same since.
func (h standIn) asOf(t *testing.T, p *harbor.Provider) (asOf time.Time, untouched bool) {
	t.Helper()
	asOf = p.AsOf(ci(), "secret.value", h.password(t))
	other := h.open(t)
	read(t, other, schema.KindRobot)
	return asOf, !asOf.IsZero() && other.Untouched(ci(), asOf)
}

// givenAgain has the mode give the robot that is there its secret.
func givenAgain(t *testing.T, p *harbor.Provider) plan.Change {
	t.Helper()
	live, ok := read(t, p, schema.KindRobot).Get(ci())
	if !ok {
		t.Fatal("there is no robot")
	}
	after := objects(t, ciRobot).Resources[0]
	return plan.Change{Action: plan.Update, Key: ci(), Before: &live, After: &after, Fields: []plan.Field{{Path: "secret.value"}}}
}

// A secret that was given is known from the second of Harbor's answer on, which no clock
// puts later than it was.
func TestASecretIsKnownFromTheSecondInWhichItWasGiven(t *testing.T) {
	ahead := func(d time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(d) } }
	header := func(d time.Duration) func(time.Time) []string {
		return func(now time.Time) []string { return []string{now.Add(d).UTC().Format(http.TimeFormat)} }
	}
	const (
		known = "known"
		tried = "known, and tried all the same"
		none  = "not known"
	)
	for name, c := range map[string]struct {
		date         func(time.Time) []string
		now          func() time.Time
		made, change string
	}{
		"as it comes":                 {nil, time.Now, known, known},
		"no date":                     {func(time.Time) []string { return nil }, time.Now, none, none},
		"a date that is none":         {func(time.Time) []string { return []string{"yesterday"} }, time.Now, none, none},
		"the proxy is ahead":          {header(time.Hour), time.Now, known, known},
		"the proxy is behind":         {header(-time.Hour), time.Now, tried, tried},
		"this host is behind":         {nil, ahead(-time.Hour), tried, tried},
		"this host is ahead":          {nil, ahead(time.Hour), known, known},
		"the proxy and this host are": {header(time.Hour), ahead(time.Hour), known, tried},
	} {
		h := newStandIn(t, harbortest.Options{}).behindProxy(t, c.date)
		p, err := harbor.New(h.registry, providertest.Secrets{}, nil, harbor.Clock(c.now))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
		want := objects(t, "namespace/a", ciRobot)
		look := func(when, want string) {
			t.Helper()
			asOf, untouched := h.asOf(t, p)
			got := none
			switch {
			case untouched:
				got = known
			case !asOf.IsZero():
				got = tried
			}
			if got != want || got == known && asOf.After(time.Now()) {
				t.Errorf("%s: once it was %s, it is %s (%s), want %s", name, when, got, asOf, want)
			}
		}
		h.made(t, p, want)
		look("made", c.made)
		change(t, p, givenAgain(t, p))
		look("changed", c.change)
	}
}

// Whatever somebody does to a robot has its secret tried.
func TestARobotThatSomebodyChangedIsTried(t *testing.T) {
	type request struct{ method, path, body string }
	for name, c := range map[string]struct {
		behind    []request
		untouched bool
	}{
		"nothing":          {nil, true},
		"its secret":       {[]request{{"PATCH", "/robots/51", `{"secret":"Another1Secret"}`}}, false},
		"a new secret":     {[]request{{"PATCH", "/robots/51", `{}`}}, false},
		"its text":         {[]request{{"PUT", "/robots/51", strings.Replace(accountOf("robot$a+ci"), "{", `{"description":"x",`, 1)}}, false},
		"it was made anew": {[]request{{"DELETE", "/robots/51", ""}, {"POST", "/robots", accountOf("ci")}}, false},
		"a second account": {[]request{{"POST", "/robots", accountOf("ci.2")}}, false},
	} {
		late := time.Duration(0)
		h := newStandIn(t, harbortest.Options{FirstID: 50, Now: func() time.Time { return time.Now().Add(late) }})
		p := h.open(t)
		h.made(t, p, objects(t, "namespace/a", ciRobot))
		late = 2 * time.Second
		for _, r := range c.behind {
			h.behind(t, r.method, r.path, r.body)
		}
		if asOf, untouched := h.asOf(t, p); asOf.IsZero() || untouched != c.untouched {
			t.Errorf("%s: known as of %s, untouched %v", name, asOf, untouched)
		}
	}
}

// What Harbor says of a robot that it was last changed long before its secret was given
// is of another time: somebody put back a backup.
func TestARobotFromBeforeItsSecretIsTried(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	h.made(t, p, objects(t, "namespace/a", ciRobot))
	asOf, untouched := h.asOf(t, p)
	if !untouched {
		t.Fatal("it is not known")
	}
	read(t, p, schema.KindRobot)
	for d, want := range map[time.Duration]bool{-time.Minute: false, -2 * time.Second: false, 0: true, 3 * time.Second: true, 7 * time.Second: false, time.Hour: false} {
		if got := p.Untouched(ci(), asOf.Add(d)); got != want {
			t.Errorf("known as of %s later: untouched %v", d, got)
		}
	}
	if h.open(t).Untouched(ci(), asOf) {
		t.Error("who has read nothing takes it for untouched")
	}
	for field, value := range map[string]string{"secret.value": "Another1", "auth": h.password(t)} {
		if at := p.AsOf(ci(), field, value); !at.IsZero() {
			t.Errorf("%s: another is known as of %s", field, at)
		}
	}
}

// A secret that may have been set, and nobody knows, is tried.
func TestASecretThatWasNotAnsweredIsNotKnown(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	h.made(t, p, objects(t, "namespace/a", ciRobot))
	again := givenAgain(t, p)
	h.Inject(harbortest.Fault{Method: "PATCH", Drop: true})
	if err := write(t, p, again)[ci()]; err == nil {
		t.Error("it was answered")
	}
	if at, _ := h.asOf(t, p); !at.IsZero() {
		t.Errorf("it is known as of %s", at)
	}
}

// Of a robot with two accounts another may be the newest later.
func TestTheSecretOfOneOfTwoAccountsIsNotKnown(t *testing.T) {
	h := newStandIn(t, harbortest.Options{FirstID: 50, Now: func() time.Time { return time.Now().Add(-time.Hour) }})
	p := h.open(t)
	h.made(t, p, objects(t, "namespace/a", ciRobot))
	h.behind(t, "POST", "/robots", accountOf("ci.2"))
	change(t, p, givenAgain(t, p))
	if at, _ := h.asOf(t, p); !at.IsZero() {
		t.Errorf("once it is given it is known as of %s", at)
	}
	if !h.logsIn(t, "robot$a+ci.2", h.password(t)) {
		t.Fatal("the newest has another secret")
	}
	if rest := compared(t, p, objects(t, ciRobot)); len(rest) > 0 {
		t.Errorf("the plan is %s", told(rest))
	}
	if at, _ := h.asOf(t, p); !at.IsZero() {
		t.Errorf("once it is tried it is known as of %s", at)
	}
}

// A secret that was tried and is right has been so since the robot was changed last, if
// that is not just now.
func TestASecretThatWasTriedIsKnown(t *testing.T) {
	late := -time.Minute
	h := newStandIn(t, harbortest.Options{FirstID: 50, Now: func() time.Time { return time.Now().Add(late) }})
	h.made(t, h.open(t), objects(t, "namespace/a", ciRobot))
	want := objects(t, ciRobot)

	p := h.open(t)
	if rest := compared(t, p, want); len(rest) > 0 {
		t.Fatalf("the plan is %s", told(rest))
	}
	if asOf, untouched := h.asOf(t, p); !untouched {
		t.Errorf("what was right is known as of %s, and tried again", asOf)
	}
	h.behind(t, "PATCH", "/robots/51", `{"secret":"Another1Secret"}`)
	p = h.open(t)
	if rest := compared(t, p, want); len(rest) != 1 {
		t.Fatalf("the plan is %s", told(rest))
	}
	if at, _ := h.asOf(t, p); !at.IsZero() {
		t.Errorf("what was wrong is known as of %s", at)
	}
	late = 0
	h.behind(t, "PATCH", "/robots/51", `{"secret":"`+h.password(t)+`"}`)
	p = h.open(t)
	if rest := compared(t, p, want); len(rest) > 0 {
		t.Fatalf("the plan is %s", told(rest))
	}
	if at, _ := h.asOf(t, p); !at.IsZero() {
		t.Errorf("what was changed just now is known as of %s", at)
	}
}

// Who waits for an apply, and changes a secret at once, is seen.
func TestAProofEndsWhenALaterChangeIsSeen(t *testing.T) {
	h := newStandIn(t, harbortest.Options{FirstID: 50})
	p := h.open(t)
	want := objects(t, "namespace/a", ciRobot)
	began := time.Now()
	h.made(t, p, want)
	if rest, _ := proved(t, p, want); len(rest) > 0 {
		t.Fatalf("the proof finds %s", told(rest))
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("the proof ended %s after the write began", took)
	}
	h.behind(t, "PATCH", "/robots/51", `{"secret":"Another1Secret"}`)
	if asOf, untouched := h.asOf(t, p); asOf.IsZero() || untouched {
		t.Errorf("known as of %s, untouched %v", asOf, untouched)
	}
	began = time.Now()
	if _, _, err := h.open(t).Prove(t.Context(), schema.ScopeOf(schema.KindRobot)); err != nil || time.Since(began) > time.Second/2 {
		t.Errorf("where nothing was given it takes %s, %v", time.Since(began), err)
	}
}
