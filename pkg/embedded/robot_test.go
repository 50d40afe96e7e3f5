package embedded

import (
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/schema"
)

func robotChange(t *testing.T, key schema.Key, spec schema.Robot, account *AccountChange) Change {
	t.Helper()
	if account != nil && account.Hash != "" {
		b, err := bcrypt.GenerateFromPassword([]byte(account.Hash), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		account.Hash = string(b)
	}
	return Change{Object: schema.Resource{Key: key, Spec: &spec}, Account: account}
}

// as returns the status of a request by an account.
func as(t *testing.T, r *Registry, login, secret, path string) int {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.Addr()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	q.SetBasicAuth(login, secret)
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(q)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func TestARobotHasItsRightsUntilItExpires(t *testing.T) {
	day := schema.Duration(86400)
	ci := schema.Key{Kind: schema.KindRobot, Name: "ci"}
	own := schema.Key{Kind: schema.KindRobot, Name: "team/own"}
	spec := schema.Robot{Expires: new(30 * day), Access: schema.NewGrants(schema.Grant{Name: "*", Rights: schema.Pull})}
	r, _ := hooked(t, filepath.Join(t.TempDir(), "data"),
		Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindAccess, Name: "team"}, Spec: &schema.Access{}}},
		robotChange(t, ci, spec, &AccountChange{Login: "robot$ci", Hash: "ci's secret", Delivered: true}),
		robotChange(t, own, schema.Robot{Access: schema.NewGrants(schema.Grant{Name: "team", Rights: schema.Pull})},
			&AccountChange{Login: "robot$team+own", Hash: "own secret", Delivered: true}),
	)
	const tags = "/tags/list" // 404 says that the robot may look and nothing is there
	for _, tt := range []struct {
		login, secret, path string
		want                int
	}{
		{"robot$ci", "ci's secret", "/v2/", http.StatusOK},
		{"robot$ci", "ci's secret", "/v2/team/app" + tags, http.StatusNotFound},
		{"robot$ci", "ci's secret", "/v2/elsewhere/app" + tags, http.StatusForbidden}, // in no namespace
		{"robot$ci", "ci's secret", "/v2/ocisync/app" + tags, http.StatusForbidden},
		{"robot$ci", "ci's secret", "/ocisync/v1/state", http.StatusForbidden},
		{"robot$ci", "own secret", "/v2/", http.StatusUnauthorized},
		{"ci", "ci's secret", "/v2/", http.StatusUnauthorized},
		{"robot$ci.2", "ci's secret", "/v2/", http.StatusUnauthorized},
		{"robot$team+own", "own secret", "/v2/team/app" + tags, http.StatusNotFound},
	} {
		if got := as(t, r, tt.login, tt.secret, tt.path); got != tt.want {
			t.Errorf("%s at %s: status %d, want %d", tt.login, tt.path, got, tt.want)
		}
	}
	for _, tt := range []struct {
		after time.Duration
		want  int
	}{
		{29 * 24 * time.Hour, http.StatusOK}, {31 * 24 * time.Hour, http.StatusUnauthorized},
		{0, http.StatusUnauthorized}, // what has expired has, though the clock is set back
	} {
		setClock(r, tt.after)
		if got := as(t, r, "robot$ci", "ci's secret", "/v2/"); got != tt.want {
			t.Errorf("after %s: status %d, want %d", tt.after, got, tt.want)
		}
	}
	change := func(c Change) {
		t.Helper()
		res, err := r.store.change(t.Context(), []Change{c})
		if err != nil || res[0].Err != nil {
			t.Fatal(err, res)
		}
	}
	works := func(when, login, secret string, want bool) {
		t.Helper()
		if got := as(t, r, login, secret, "/v2/") == http.StatusOK; got != want {
			t.Errorf("%s: %s works: %v, want %v", when, login, got, want)
		}
	}
	longer := spec
	longer.Expires = new(60 * day)
	change(robotChange(t, ci, longer, nil))
	works("with another end", "robot$ci", "ci's secret", true)
	change(robotChange(t, ci, spec, nil))
	change(robotChange(t, ci, spec, &AccountChange{Login: "robot$ci.2", Hash: "second"}))
	works("made", "robot$ci", "ci's secret", true)
	works("made", "robot$ci.2", "second", true)
	change(robotChange(t, ci, spec, &AccountChange{Login: "robot$ci.2", Delivered: true, Overlap: 3600}))
	works("overlap", "robot$ci", "ci's secret", true)
	setClock(r, 61*time.Minute)
	works("after the overlap", "robot$ci", "ci's secret", false)
	works("after the overlap", "robot$ci.2", "second", true)
	setClock(r, 30*time.Minute)
	works("the clock set back", "robot$ci", "ci's secret", false)
	works("the clock set back", "robot$ci.2", "second", true)
	off := spec
	off.Enabled = new(false)
	change(robotChange(t, ci, off, nil))
	works("disabled", "robot$ci.2", "second", false)
	change(robotChange(t, ci, spec, nil))
	works("enabled again", "robot$ci.2", "second", true)
	change(Change{Delete: true, Object: schema.Resource{Key: ci}})
	works("deleted", "robot$ci.2", "second", false)
	if len(r.store.now().doc.Robots[ci.String()]) != 0 {
		t.Error("accounts of a deleted robot are kept")
	}
}

// Of two accounts that two processes acknowledge at once, the one that is acknowledged
// last is the newest, though it was replaced while its secret was delivered.
func TestWhatIsAcknowledgedLastIsNewest(t *testing.T) {
	const day = schema.Duration(86400)
	ci := schema.Key{Kind: schema.KindRobot, Name: "ci"}
	spec := schema.Robot{Expires: new(30 * day)}
	r, _ := hooked(t, filepath.Join(t.TempDir(), "data"), robotChange(t, ci, spec, &AccountChange{Login: "robot$ci", Hash: "first", Delivered: true}))
	for _, c := range []AccountChange{
		{Login: "robot$ci.2", Hash: "second"}, {Login: "robot$ci", Hash: "third"},
		{Login: "robot$ci.2", Delivered: true, Overlap: 60}, {Login: "robot$ci", Delivered: true, Overlap: 60},
	} {
		res, err := r.store.change(t.Context(), []Change{robotChange(t, ci, spec, &c)})
		if err != nil || res[0].Err != nil {
			t.Fatal(err, res)
		}
	}
	setClock(r, 2*time.Minute)
	for login, want := range map[[2]string]bool{{"robot$ci", "third"}: true, {"robot$ci", "first"}: false, {"robot$ci.2", "second"}: false} {
		if got := as(t, r, login[0], login[1], "/v2/") == http.StatusOK; got != want {
			t.Errorf("after the overlap %v works: %t", login, got)
		}
	}
}

// A secret that may have arrived ends by its own time, however often another is
// made that does not arrive, and whatever the clock says later.
func TestAFormerSecretExpiresByItsOwnTime(t *testing.T) {
	const day = 24 * time.Hour
	data, ci := filepath.Join(t.TempDir(), "data"), schema.Key{Kind: schema.KindRobot, Name: "ci"}
	spec := schema.Robot{Expires: new(schema.Duration(10 * 86400))}
	r, _ := hooked(t, data, robotChange(t, ci, spec, &AccountChange{Login: "robot$ci", Hash: "first", Delivered: true}))
	at := func(after time.Duration, c *AccountChange) {
		t.Helper()
		setClock(r, after)
		if c == nil {
			return
		}
		if res, err := r.store.change(t.Context(), []Change{robotChange(t, ci, spec, c)}); err != nil || res[0].Err != nil {
			t.Fatal(err, res)
		}
	}
	made := func(secret string) *AccountChange {
		return &AccountChange{Login: "robot$ci.2", Hash: secret, Digest: SecretDigest(secret)}
	}
	work := func(when string, want ...string) {
		t.Helper()
		for _, secret := range []string{"of day 8", "of day 12", "of day 16", "of day 35", "of day 37"} {
			if got := as(t, r, "robot$ci.2", secret, "/v2/") == http.StatusOK; got != slices.Contains(want, secret) {
				t.Errorf("%s: the secret %s works: %v", when, secret, got)
			}
		}
	}
	at(8*day, made("of day 8"))
	at(12*day, made("of day 12"))
	at(16*day, made("of day 16"))
	work("on day 16", "of day 8", "of day 12", "of day 16")
	at(18*day+time.Hour, nil)
	work("on day 18", "of day 12", "of day 16")
	r.store.mu.Lock()
	if err := r.store.sweep(r.store.clock()); err != nil {
		t.Error(err)
	}
	r.store.mu.Unlock()
	at(17*day, nil)
	work("the clock set back", "of day 12", "of day 16")
	if doc, err := loadDocument(data); err != nil || len(doc.Robots[ci.String()][1].Former) != 1 {
		t.Errorf("what has ended is not written down: %v, %v", doc.Robots, err)
	}
	at(35*day, made("of day 35"))
	at(17*day, nil)
	work("of day 35, the clock set back", "of day 35")
	at(35*day, nil)
	work("on day 35", "of day 35")
	at(37*day, made("of day 37"))
	at(37*day, &AccountChange{Login: "robot$ci.2", Delivered: true, Overlap: 30 * 86400})
	work("in the overlap", "of day 35", "of day 37")
	at(45*day+time.Hour, nil)
	work("on day 45, in an overlap that is longer", "of day 37")
}

func TestAFormerSecretOfAnOlderVersionIsRead(t *testing.T) {
	made := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for text, want := range map[string]FormerSecret{
		"sha256:00": {Secret: "sha256:00"},
		"sha256:00@2026-01-02T03:04:05.000000006Z": {"sha256:00", made},
	} {
		var got FormerSecret
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s is read as %+v, %v", text, got, err)
		}
		if b, err := got.MarshalText(); err != nil || string(b) != text {
			t.Errorf("%s is written as %s, %v", text, b, err)
		}
	}
	spec := &schema.Robot{Expires: new(schema.Duration(86400))}
	old := RobotAccount{Made: made, Former: []FormerSecret{{Secret: "x"}}}
	if len(old.working(spec, made.Add(23*time.Hour))) != 1 || len(old.working(spec, made.Add(25*time.Hour))) != 0 {
		t.Error("it does not end when the one that was made after it would")
	}
}

func TestNobodyTakesARobotsName(t *testing.T) {
	for _, o := range []schema.Resource{
		{Key: schema.Key{Kind: schema.KindUser, Name: "robot$ci"}, Spec: &schema.User{}},
		{Key: schema.Key{Kind: schema.KindRobot, Name: "ci.2"}, Spec: &schema.Robot{}},
		{Key: schema.Key{Kind: schema.KindRobot, Name: "team+ci"}, Spec: &schema.Robot{}},
		{Key: schema.Key{Kind: schema.KindRobot, Name: "team/ci"}, Spec: &schema.Robot{Access: schema.NewGrants(schema.Grant{Name: "*", Rights: schema.Pull})}},
	} {
		if err := CheckObject(o); err == nil {
			t.Errorf("%s is taken", o.Key)
		}
	}
}

func TestWhatHasEndedIsWrittenDown(t *testing.T) {
	day, now := 24*time.Hour, time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	spec := &schema.Robot{Expires: new(schema.Duration(10 * 86400))}
	for name, tt := range map[string]struct {
		have, want []RobotAccount
		at         time.Time
	}{
		"nothing": {
			[]RobotAccount{{Login: "a", Made: now}}, []RobotAccount{{Login: "a", Made: now}}, now.Add(9 * day),
		},
		"expired": {
			[]RobotAccount{{Login: "a", Made: now}}, []RobotAccount{{Login: "a", Made: now, Ended: true}}, now.Add(10 * day),
		},
		"replaced": {
			[]RobotAccount{{Login: "a", Made: now, Replaced: now, Ends: now.Add(day)}, {Login: "b", Made: now}},
			[]RobotAccount{{Login: "b", Made: now}}, now.Add(day),
		},
		"replaced by a clock that was ahead": {
			[]RobotAccount{{Login: "a", Made: now, Replaced: now.Add(400 * day), Ends: now.Add(401 * day)}, {Login: "b", Made: now.Add(400 * day)}},
			[]RobotAccount{{Login: "a", Made: now, Replaced: now, Ends: now.Add(day)}, {Login: "b", Made: now.Add(400 * day)}}, now,
		},
		"former secrets": {
			[]RobotAccount{{Login: "a", Made: now, Former: []FormerSecret{{"x", now}}, FormerEnds: now.Add(day)}},
			[]RobotAccount{{Login: "a", Made: now}}, now.Add(day),
		},
		"former secrets that expired": {
			[]RobotAccount{{Login: "a", Made: now, Former: []FormerSecret{{"y", now.Add(-8 * day)}, {"x", now.Add(-9 * day)}}}},
			[]RobotAccount{{Login: "a", Made: now, Former: []FormerSecret{{"y", now.Add(-8 * day)}}}}, now.Add(day),
		},
		"former secrets by a clock that was ahead": {
			[]RobotAccount{{Login: "a", Made: now, Former: []FormerSecret{{"x", now.Add(day)}}}},
			[]RobotAccount{{Login: "a", Made: now, Former: []FormerSecret{{"x", now}}}}, now,
		},
		"former secrets of an account that is not delivered": {
			[]RobotAccount{{Login: "a", Made: now, Former: []FormerSecret{{"x", now}}}},
			[]RobotAccount{{Login: "a", Made: now, Former: []FormerSecret{{"x", now}}}}, now.Add(day),
		},
	} {
		got, did := sweep(tt.have, spec, tt.at, nil)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if again, more := sweep(got, spec, tt.at, nil); more || cmp.Diff(got, again) != "" {
			t.Errorf("%s: a second sweep changes more", name)
		}
		if did != (cmp.Diff(tt.have, got) != "") {
			t.Errorf("%s: changed: %v", name, did)
		}
	}
}
