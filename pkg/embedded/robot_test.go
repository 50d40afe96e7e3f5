package embedded

import (
	"net/http"
	"path/filepath"
	"testing"
	"time"

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
	clock := r.store.clock
	at := func(d time.Duration) { // from now on, as the registry's clock has it
		r.store.clock = func() time.Time { return clock().Add(d) }
	}
	for after, want := range map[time.Duration]int{29 * 24 * time.Hour: http.StatusOK, 31 * 24 * time.Hour: http.StatusUnauthorized} {
		at(after)
		if got := as(t, r, "robot$ci", "ci's secret", "/v2/"); got != want {
			t.Errorf("after %s: status %d, want %d", after, got, want)
		}
	}
	at(0)
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
	change(robotChange(t, ci, spec, &AccountChange{Login: "robot$ci.2", Hash: "second"}))
	works("made", "robot$ci", "ci's secret", true)
	works("made", "robot$ci.2", "second", true)
	change(robotChange(t, ci, spec, &AccountChange{Login: "robot$ci.2", Delivered: true, Overlap: 3600}))
	works("overlap", "robot$ci", "ci's secret", true)
	at(61 * time.Minute)
	works("after the overlap", "robot$ci", "ci's secret", false)
	works("after the overlap", "robot$ci.2", "second", true)
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
