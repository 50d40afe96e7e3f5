package zot_test

import (
	"os"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/providers/zot"
	"github.com/ocisync/ocisync/schema"
)

// withoutLogins is a Zot that somebody else runs and that asks nobody for a
// login, and its configuration without blanks.
func withoutLogins(t *testing.T, more string) (p *zot.Provider, name string, text func() string) {
	t.Helper()
	name = t.TempDir() + "/config.json"
	if err := os.WriteFile(name, []byte(`{"storage":{"rootDirectory":"/nonexistent"},"http":{"address":"127.0.0.1","port":"9"`+more+`}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := zot.New(schema.Registry{Type: schema.TypeZot, URL: "http://127.0.0.1:9", Files: &schema.FilePaths{Config: name}}, nil, providertest.Secrets{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p, name, func() string {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(string(b)), "")
	}
}

// A Zot without logins does not start with rules for anybody but anonymous
// clients: validateAuthzPolicies of Zot 2.1.6.
func TestAZotWithoutLoginsGetsRulesForAnonymousClientsAlone(t *testing.T) {
	for name, more := range map[string]string{
		"without any rule": "",
		"with rules":       `,"accessControl":{"repositories":{"**":{"anonymousPolicy":["read"]}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			p, _, text := withoutLogins(t, more)
			objects := []schema.Resource{resource(schema.KindNamespace, "pub", &schema.Namespace{}), resource(schema.KindAccess, "pub", &schema.Access{Anonymous: new(schema.Pull)})}
			(&allowance{p, ""}).apply(t, objects...)
			if s := text(); !strings.Contains(s, `"pub/**":{"anonymousPolicy":["read"]}`) || strings.Contains(s, `"defaultPolicy":["`) {
				t.Errorf("Zot does not start with\n%s", s)
			}
			if n := (&allowance{p, ""}).apply(t, objects...); n != 0 {
				t.Errorf("%d changes more", n)
			}
		})
	}
}

// What Zot's own parser refuses is never written, whoever may start Zot next.
func TestWhatZotDoesNotStartWithIsNotWritten(t *testing.T) {
	p, _, text := withoutLogins(t, `,"accessControl":{"repositories":{"pub/**":{"anonymousPolicy":["read"]}}}`)
	before := text()
	live := readEverything(t, p)
	pub, _ := live.Get(schema.Key{Kind: schema.KindNamespace, Name: "pub"})
	gone := plan.Change{Action: plan.Delete, Key: pub.Key, Before: &pub}
	if err := written(t, p, gone)["namespace/pub"]; err == nil || !strings.Contains(err.Error(), "nothing was written") {
		t.Errorf("the last rule for anonymous clients goes: %v", err)
	}
	if text() != before {
		t.Errorf("it holds\n%s", text())
	}
	for glob, refused := range map[string]bool{"[z-a]*": true, "v{1,2}*": false, "[a-c]*": false, "{a": true} {
		c := made(schema.KindRetention, "pub", &schema.Retention{Keep: []schema.KeepRule{{Newest: 3, Tags: glob}}})
		v, err := p.Prepare(t.Context(), []plan.Change{c})
		if err != nil || strings.Contains(v[0].Refused, "is no glob") != refused {
			t.Errorf("%s: %+v, %v", glob, v, err)
		}
	}
}

// Who has logged in has what anybody has in the words of a mode; a pattern that
// gives accounts less is none of them, and is not adopted as if it were.
func TestAPatternThatGivesAccountsLessIsNoRule(t *testing.T) {
	p, name, text := withoutLogins(t, `,"auth":{"ldap":{"address":"x"}},"accessControl":{"repositories":{"tmp/**":{"anonymousPolicy":["read","create","update","delete"]},"ours/**":{"anonymousPolicy":["read"],"defaultPolicy":["read"]}}}`)
	live := readEverything(t, p)
	key := schema.Key{Kind: schema.KindAccess, Name: "tmp"}
	if r, ok := live.Get(key); ok || live.Scope.Covers(key) {
		t.Errorf("it reads as %+v", r.Spec)
	}
	// One that ocisync wrote, and somebody changed so, is drift.
	ours := []schema.Resource{resource(schema.KindNamespace, "ours", &schema.Namespace{}), resource(schema.KindAccess, "ours", &schema.Access{Anonymous: new(schema.Pull | schema.Push)})}
	a := &allowance{p, ""}
	a.apply(t, ours...)
	const both = `"ours/**":{"anonymousPolicy":["read","create","update"],"defaultPolicy":["read","create","update"]}`
	if !strings.Contains(text(), both) {
		t.Fatalf("it holds\n%s", text())
	}
	if err := os.WriteFile(name, []byte(strings.Replace(text(), `,"defaultPolicy":["read","create","update"]`, `,"defaultPolicy":[]`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := a.apply(t, ours...); n != 1 || !strings.Contains(text(), both) {
		t.Errorf("%d changes; it holds\n%s", n, text())
	}
}
