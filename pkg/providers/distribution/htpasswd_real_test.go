//go:build integration

package distribution_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	reference "github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// withFile makes a registry one with an htpasswd file.
func withFile(s *site) {
	s.registry.Token, s.registry.Files = nil, &schema.FilePaths{Htpasswd: filepath.Join(s.registry.Run.Data, "htpasswd")}
}

func TestIntegrationDistributionPassesTheProviderSuiteWithAnHtpasswdFileWhileItRuns(t *testing.T) {
	suiteWith(t, func(t testing.TB) site {
		t.Helper()
		s, _ := launched(t, withFile)
		return s
	}, fileValues())
}

// TestIntegrationAccountsOfAFileHoldForTheNextRequest: of people and of robots,
// made, changed and gone, with the same process all along.
func TestIntegrationAccountsOfAFileHoldForTheNextRequest(t *testing.T) {
	s, running := launched(t, withFile)
	p := openSite(t, s)
	before, err := running.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	passwords := map[string]string{}
	for _, name := range []string{providertest.SecretA, providertest.SecretB} {
		if passwords[name], err = (providertest.Secrets{}).Resolve(t.Context(), schema.SecretRef{Env: name}); err != nil {
			t.Fatal(err)
		}
	}
	may := func(user, secret string, want bool) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.registry.URL+"/v2/_catalog", nil)
		if err != nil {
			t.Fatal(err)
		}
		if user != "" {
			req.SetBasicAuth(user, passwords[secret])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if code := map[bool]int{true: http.StatusOK, false: http.StatusUnauthorized}[want]; resp.StatusCode != code {
			t.Errorf("%q with %s: %d, want %d", user, secret, resp.StatusCode, code)
		}
	}
	user := func(action plan.Action, name, secret string) plan.Change {
		key := schema.Key{Kind: schema.KindUser, Name: name}
		c := plan.Change{Action: action, Key: key, Fields: []plan.Field{{Path: "password"}}}
		if action != plan.Delete {
			c.After = &schema.Resource{Key: key, Spec: &schema.User{Password: &schema.SecretRef{Env: secret}}}
		}
		return c
	}
	do := func(changes ...plan.Change) {
		t.Helper()
		if err := write(t, p, changes); err != nil {
			t.Fatal(err)
		}
	}
	may("", "", false)
	may("dev", providertest.SecretA, false)
	for round := range 3 { // each within the time that a clock of a file system may take for one
		do(user(plan.Create, "dev", providertest.SecretA), user(plan.Create, "guest", providertest.SecretB))
		may("dev", providertest.SecretA, true)
		may("dev", providertest.SecretB, false)
		may("guest", providertest.SecretB, true)
		do(user(plan.Update, "dev", providertest.SecretB))
		may("dev", providertest.SecretA, false)
		may("dev", providertest.SecretB, true)
		do(user(plan.Delete, "dev", ""))
		may("dev", providertest.SecretB, false)
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	robot := schema.Key{Kind: schema.KindRobot, Name: "ci"}
	do(plan.Change{Action: plan.Create, Key: robot, After: &schema.Resource{Key: robot, Spec: &schema.Robot{Secret: &schema.RobotSecret{Value: &schema.SecretRef{Env: providertest.SecretA}}}}})
	may("robot$ci", providertest.SecretA, true)
	ref, err := reference.NewTag(strings.TrimPrefix(s.registry.URL, "http://")+"/any/where:1", reference.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	image, err := random.Image(100, 1)
	if err == nil {
		err = remote.Write(ref, image, remote.WithAuth(&authn.Basic{Username: "robot$ci", Password: passwords[providertest.SecretA]}))
	}
	if err != nil {
		t.Errorf("a robot pushes: %v", err)
	}
	do(plan.Change{Action: plan.Delete, Key: robot})
	may("robot$ci", providertest.SecretA, false)
	// as itself it needs no login of the mode
	st, err := p.Read(t.Context(), schema.Scope{Repositories: []string{"*"}})
	if err != nil || len(st.Repositories) != 1 || st.Repositories[0] != (schema.RepositoryInfo{Name: "any/where", Tags: 1}) {
		t.Errorf("%+v, %v", st.Repositories, err)
	}
	after, err := running.Status(t.Context())
	if err != nil || after.ID != before.ID {
		t.Errorf("%+v then %+v, %v: it was restarted", before, after, err)
	}
	if changes, _ := settings(t, p); len(changes) != 0 {
		t.Errorf("a plan says %+v", changes)
	}
	for _, dry := range []bool{true, false} {
		if report, err := p.Run(t.Context(), "gc", dry); err != nil || report.Collected == nil {
			t.Errorf("a collection, dry %v: %+v, %v", dry, report, err)
		}
	}
	may("guest", providertest.SecretB, true)
}

// TestIntegrationTheWayToLogInChangesWithARestart: from tokens to a file and
// back, with what that means in the plan.
func TestIntegrationTheWayToLogInChangesWithARestart(t *testing.T) {
	s, running := launched(t)
	tokens := s.registry.Token
	for _, want := range []string{"token", "htpasswd", "token"} {
		if want == "htpasswd" {
			withFile(&s)
		} else {
			s.registry.Token, s.registry.Files = tokens, nil
		}
		p := openSite(t, s)
		changes, verdicts := settings(t, p)
		if len(changes) > 0 {
			if v := verdicts[0]; v.Effect != plan.Restart || len(v.Notes) == 0 || !strings.Contains(v.Notes[len(v.Notes)-1], " goes: who may log in") {
				t.Errorf("to %s: %+v", want, v)
			}
			if err := write(t, p, changes); err != nil {
				t.Fatal(err)
			}
		}
		if changes, _ := settings(t, p); len(changes) != 0 {
			t.Errorf("to %s: a second plan says %+v", want, changes)
		}
		resp, err := http.Get(running.url + "/v2/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got, scheme := resp.Header.Get("WWW-Authenticate"), map[string]string{"token": "Bearer ", "htpasswd": "Basic "}[want]; !strings.HasPrefix(got, scheme) {
			t.Errorf("it asks for %q, want %s", got, scheme)
		}
	}
}
