package zot_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// Observed on 2.1.6, which ends with rules for accounts where it has none of these.
func TestRulesForAccountsWantLoginsThatZotCounts(t *testing.T) {
	const tokens = `"bearer":{"realm":"https://auth.example.com/token","service":"s","cert":"/c.pem"}`
	all := map[string]plan.Change{
		"access": made(schema.KindAccess, "team", &schema.Access{Users: schema.NewGrants(schema.Grant{Name: "ops", Rights: schema.Pull})}),
		"admin":  made(schema.KindUser, "ops", &schema.User{Admin: new(true)}),
		"robot":  made(schema.KindRobot, "ci", &schema.Robot{Access: schema.NewGrants(schema.Grant{Name: "team", Rights: schema.Pull})}),
	}
	for auth, says := range map[string]string{
		``:                        "has no logins",
		`"failDelay":5`:           "has no logins",
		`"apikey":true`:           "has no logins",
		`"openid":{}`:             "has no logins",
		`"ldap":{}`:               "has no logins",
		tokens:                    "http.auth.bearer",
		tokens + `,"apikey":true`: "http.auth.bearer",
		tokens + `,"htpasswd":{"path":"/nonexistent"}`:                             "http.auth.bearer", // it starts, and asks for tokens
		`"openid":{"providers":{"github":{"clientid":"a","scopes":["read:org"]}}}`: "",
		`"ldap":{"address":"ldap.example.com","baseDN":"dc=x"}`:                    "",
		`"bearer":{"oidc":[{"issuer":"https://i.example.com"}]}`:                   "", // of later versions
		`"htpasswd":{"path":"/nonexistent"}`:                                       "",
	} {
		p, name := placed(t, `{"storage":{"rootDirectory":"/nonexistent"},"http":{"address":"127.0.0.1","port":"9","auth":{`+auth+`}}}`, "")
		before, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := written(t, p, made(schema.KindNamespace, "team", &schema.Namespace{}))["namespace/team"]; err != nil {
			t.Fatal(err)
		}
		for what, c := range all {
			v, err := p.Prepare(t.Context(), []plan.Change{c})
			if err != nil || (v[0].Refused != "") != (says != "") || !strings.Contains(v[0].Refused, says) {
				t.Errorf("auth {%s}, %s: refused %q, %v", auth, what, v[0].Refused, err)
			}
			if says == "" {
				continue
			}
			if err := written(t, p, c)[c.Key.String()]; !errors.Is(err, providers.ErrInvalid) {
				t.Errorf("auth {%s}, %s is written: %v", auth, what, err)
			}
		}
		if after, err := os.ReadFile(name); says != "" && (err != nil || string(after) != string(before)) {
			t.Errorf("auth {%s}: the file holds\n%s", auth, after)
		}
	}
}

// A configuration that Zot does not start with is never as declared.
func TestRulesWithoutLoginsAreDrift(t *testing.T) {
	for auth, lost := range map[string]string{
		`"bearer":{"realm":"https://auth.example.com/token","service":"s","cert":"/c.pem"}`: `"lost"`,
		`"htpasswd":{"path":"/nonexistent"}`:                                                `"as its rules"`,
	} {
		p, _ := placed(t, `{"storage":{"rootDirectory":"/nonexistent"},"http":{"address":"127.0.0.1","port":"9","auth":{`+auth+`},"accessControl":{"repositories":{"team/**":{"policies":[{"users":["ops"],"actions":["read"]}]}}}}}`, "")
		live := readEverything(t, p)
		r, _ := live.Get(schema.Key{Kind: schema.KindSettings})
		spec, ok := r.Spec.(*schema.Settings)
		if !ok {
			t.Fatal("no settings")
		}
		is := ""
		for _, v := range spec.Values {
			if v.Path == "process.logins" {
				is = v.JSON
			}
		}
		if is != lost {
			t.Errorf("%s: logins are %s", auth, is)
		}
		if is != `"lost"` {
			continue
		}
		c := plan.Change{Action: plan.Update, Key: r.Key, Before: &r, After: &schema.Resource{Key: r.Key, Spec: &schema.Settings{Values: schema.Values{{Path: "process.logins", JSON: `"as its rules"`}}}}, Fields: []plan.Field{{Path: "values.process.logins"}}}
		v, err := p.Prepare(t.Context(), []plan.Change{c})
		if err != nil || !strings.Contains(v[0].Refused, "no logins") {
			t.Errorf("%s: refused %q, %v", auth, v[0].Refused, err)
		}
	}
}
