package zot

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/htpasswd"
	"github.com/ocisync/ocisync/pkg/providers/oci"
	"github.com/ocisync/ocisync/pkg/providers/zot/config"
	"github.com/ocisync/ocisync/schema"
)

// tampering is what somebody does to what is ocisync's own.
type tampering struct{ config, accounts func(string) string }

func tamperings() map[string]tampering {
	const key = `"ocisync/**": {`
	return map[string]tampering{
		"opened": {config: func(text string) string {
			i := strings.Index(text, key)
			return text[:i] + strings.Replace(text[i:], `"anonymousPolicy": []`, `"anonymousPolicy": ["read"]`, 1)
		}},
		"given to another": {config: func(text string) string { return strings.Replace(text, selfLogin, "mallory", 1) }},
		"taken away":       {config: func(text string) string { return strings.Replace(text, "ocisync/**", "other/**", 1) }},
		"other accounts":   {config: func(text string) string { return strings.Replace(text, "/htpasswd", "/theirs", 1) }},
		"the account gone": {accounts: func(string) string { return "" }},
		"the account taken over": {accounts: func(text string) string {
			return text + selfLogin + ":$2y$05$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"
		}},
	}
}

func (c tampering) edit(t *testing.T, p *Provider) {
	t.Helper()
	for path, edit := range map[string]func(string) string{p.paths.config: c.config, p.paths.htpasswd: c.accounts} {
		if edit == nil {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		after := edit(string(text))
		if after == string(text) {
			t.Fatalf("nothing is changed in %s", text)
		}
		if err := os.WriteFile(path, []byte(after), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTheOwnNamespaceIsPutRight: an inventory may lie in it, by which ocisync goes.
func TestTheOwnNamespaceIsPutRight(t *testing.T) {
	for name, change := range tamperings() {
		t.Run(name, func(t *testing.T) {
			p, a := played(t, nowhere, func(string) string { return recordLoaded })
			if err := wrote(t, p, makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")})); err != nil {
				t.Fatal(err)
			}
			change.edit(t, p)
			changes := func() []plan.Change {
				t.Helper()
				want, _, err := p.Normalize(schema.State{Resources: []schema.Resource{{Key: schema.Key{Kind: schema.KindSettings}, Spec: &schema.Settings{}}}})
				if err != nil {
					t.Fatal(err)
				}
				live, err := p.Read(t.Context(), schema.ScopeOf(schema.KindSettings))
				if err != nil {
					t.Fatal(err)
				}
				return slices.DeleteFunc(plan.Diff(plan.Input{Desired: want, Live: live, Table: p.Capabilities()}).Changes, func(c plan.Change) bool { return c.Recorded() })
			}
			list := changes()
			if len(list) != 1 || len(list[0].Fields) != 1 || list[0].Fields[0].Path != "values."+ownPath {
				t.Fatalf("the plan has %+v", list)
			}
			if err := wrote(t, p, list...); err != nil {
				t.Fatal(err)
			}
			if left := changes(); len(left) > 0 {
				t.Errorf("after an apply there is left %+v", left)
			}
			s, err := p.load(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if ok, err := htpasswd.Verify(s.hashes[selfLogin], s.own.Self); !ok || err != nil {
				t.Errorf("ocisync's own account does not log in: %v", err)
			}
			if a.began != 1 {
				t.Errorf("%d starts", a.began)
			}
		})
	}
}

// TestRulesThatWereTakenOutComeBackAtOnce: with ocisync's own, as it made it.
func TestRulesThatWereTakenOutComeBackAtOnce(t *testing.T) {
	pull := schema.Pull
	desired := func() []schema.Resource {
		return []schema.Resource{
			{Key: schema.Key{Kind: schema.KindSettings}, Spec: &schema.Settings{}},
			{Key: schema.Key{Kind: schema.KindNamespace, Name: "n"}, Spec: &schema.Namespace{}},
			{Key: schema.Key{Kind: schema.KindAccess, Name: "n"}, Spec: &schema.Access{Anonymous: &pull}},
		}
	}
	for name, tc := range map[string]struct {
		at        []string
		rules     bool
		restarted bool
	}{
		"all of them": {[]string{"http", "accessControl"}, true, false}, "all of http": {[]string{"http"}, true, false},
		"where none is declared": {[]string{"http", "accessControl"}, false, false}, "before a restart": {[]string{"http", "accessControl"}, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			p, a := played(t, nowhere, func(string) string { return recordLoaded })
			p.outside = access.Deny
			list := desired()
			if !tc.rules {
				list = list[:1]
			}
			changes := func() []plan.Change {
				t.Helper()
				want, _, err := p.Normalize(schema.State{Resources: list})
				if err != nil {
					t.Fatal(err)
				}
				live, err := p.Read(t.Context(), schema.ScopeOf(schema.KindSettings, schema.KindNamespace, schema.KindAccess))
				if err != nil {
					t.Fatal(err)
				}
				return slices.DeleteFunc(plan.Diff(plan.Input{Desired: want, Live: live, Table: p.Capabilities()}).Changes, func(c plan.Change) bool { return c.Recorded() })
			}
			if err := wrote(t, p, append(changes(), makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")}))...); err != nil {
				t.Fatal(err)
			}
			a.elsewhere(t, func(text string) string {
				doc, err := config.Parse("", []byte(text))
				if err != nil {
					t.Fatal(err)
				}
				doc.Delete(tc.at...)
				return string(doc.Bytes())
			})
			if tc.restarted {
				if err := errors.Join(a.Stop(t.Context()), a.Start(t.Context())); err != nil {
					t.Fatal(err)
				}
			}
			found := changes()
			i := slices.IndexFunc(found, func(c plan.Change) bool { return c.Key.Kind == schema.KindSettings })
			if i < 0 || !slices.ContainsFunc(found[i].Fields, func(f plan.Field) bool { return f.Path == "values."+ownPath }) {
				t.Fatalf("the plan has %+v", found)
			}
			if v, err := p.Prepare(t.Context(), found); err != nil || v[i].Effect != plan.Restart || v[i].Refused != "" {
				t.Errorf("%+v, %v", v, err)
			}
			if err := wrote(t, p, found...); err != nil {
				t.Fatal(err)
			}
			if left := changes(); len(left) > 0 {
				t.Errorf("after an apply there is left %+v", left)
			}
		})
	}
}

// TestAStartPutsTheOwnNamespaceRight: no apply can, where the inventory lies there.
func TestAStartPutsTheOwnNamespaceRight(t *testing.T) {
	cases := tamperings()
	without := func(at ...string) tampering {
		return tampering{config: func(text string) string {
			doc, err := config.Parse("", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			doc.Delete(at...)
			return string(doc.Bytes())
		}}
	}
	cases["all rules gone"], cases["all of http gone"] = without("http", "accessControl"), without("http")
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			p, a := played(t, nowhere, func(string) string { return recordLoaded })
			if err := wrote(t, p, makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")})); err != nil {
				t.Fatal(err)
			}
			change.edit(t, p)
			if err := errors.Join(a.Stop(t.Context()), p.BeforeStart(t.Context(), ""), a.Start(t.Context())); err != nil {
				t.Fatal(err)
			}
			s, err := p.load(t.Context())
			if err != nil || s.conf.HTTP.AccessControl == nil || s.conf.outside() != "deny" || !s.conf.authenticated() || !s.objects().ownAsMade() {
				t.Errorf("it is not as ocisync made it, %v: %s", err, s.text)
			}
		})
	}
}

// TestAPatternBeforeTheOwnNamespaceIsRefused: Zot goes by the longest that matches.
func TestAPatternBeforeTheOwnNamespaceIsRefused(t *testing.T) {
	for pattern, refused := range map[string]bool{"ocisync/state": true, "ocisync/stat?": true, "ocisync/state/**": true, "{ocisync,x}/**": true, "ocisyncs/state": false, "*/state": false} {
		t.Run(pattern, func(t *testing.T) {
			p, _ := played(t, nowhere, func(string) string { return recordLoaded })
			if err := wrote(t, p, makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")})); err != nil {
				t.Fatal(err)
			}
			tampering{config: func(text string) string {
				doc, err := config.Parse("", []byte(text))
				if err != nil {
					t.Fatal(err)
				}
				if err := doc.Set(rawJSON(`{"anonymousPolicy": ["read"]}`), "http", "accessControl", "repositories", pattern); err != nil {
					t.Fatal(err)
				}
				return string(doc.Bytes())
			}}.edit(t, p)
			want, _, err := p.Normalize(schema.State{Resources: []schema.Resource{{Key: schema.Key{Kind: schema.KindSettings}, Spec: &schema.Settings{}}}})
			if err != nil {
				t.Fatal(err)
			}
			live, err := p.Read(t.Context(), schema.ScopeOf(schema.KindSettings))
			if err != nil {
				t.Fatal(err)
			}
			changes := slices.DeleteFunc(plan.Diff(plan.Input{Desired: want, Live: live, Table: p.Capabilities()}).Changes, func(c plan.Change) bool { return c.Recorded() })
			if !refused {
				if len(changes) > 0 {
					t.Errorf("the plan has %+v", changes)
				}
				return
			}
			v, err := p.Prepare(t.Context(), changes)
			if err != nil || len(v) != 1 || !strings.Contains(v[0].Refused, pattern) || !strings.Contains(v[0].Refused, "take it out") {
				t.Errorf("%+v, %v", v, err)
			}
			if say := p.ownBarred(t.Context()); !strings.Contains(say, pattern) {
				t.Errorf("one that is barred is told: %s", say)
			}
		})
	}
}

// TestARefusalOfTheOwnAccountSaysWhatPutsItRight: neither registry.login nor a rule of
// the mode does.
func TestARefusalOfTheOwnAccountSaysWhatPutsItRight(t *testing.T) {
	for code, kind := range map[int]error{http.StatusUnauthorized: providers.ErrUnauthorized, http.StatusForbidden: providers.ErrForbidden} {
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v2/" {
				w.WriteHeader(code)
			}
		}))
		defer front.Close()
		p, _ := played(t, front.URL, func(string) string { return recordLoaded })
		rt, release, err := p.Transport(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		store, err := oci.NewStore(oci.Options{URL: front.URL, Transport: rt}, "m")
		if err != nil {
			t.Fatal(err)
		}
		if _, err = store.Load(t.Context()); !errors.Is(err, kind) || !strings.Contains(err.Error(), "ocisync restart") || strings.Contains(err.Error(), "registry.login") {
			t.Errorf("%d: %v", code, err)
		}
	}
}

// TestAConfigurationThatSomebodyMadeGetsItsLogins: Zot does not start with its rules for
// accounts otherwise, and no account of ocisync's own was made by then.
func TestAConfigurationThatSomebodyMadeGetsItsLogins(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	if err := a.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	made := `{"storage":{"rootDirectory":"` + p.storage() + `"},"http":{"address":"127.0.0.1","port":"9","accessControl":{"repositories":{"zz/**":{"policies":[{"users":["dev"],"actions":["read"]}]}}}}}`
	err := errors.Join(os.WriteFile(p.paths.config, []byte(made), 0o600), os.Remove(p.paths.htpasswd), os.Remove(p.paths.own))
	if err != nil {
		t.Fatal(err)
	}
	if err := wrote(t, p, p.differs(t)...); err != nil {
		t.Fatal(err)
	}
	if left := p.differs(t); len(left) > 0 {
		t.Errorf("after an apply there is left %+v", left)
	}
	s, err := p.load(t.Context())
	if err != nil || !s.conf.authenticated() || s.accounts == nil {
		t.Errorf("it has no logins, %v: %s", err, s.text)
	}
}

// TestAStartGivesRulesTheirLogins: with the inventory in the registry nothing else can,
// since it does not run.
func TestAStartGivesRulesTheirLogins(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	if err := a.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	made := `{"storage":{"rootDirectory":"` + p.storage() + `"},"http":{"address":"127.0.0.1","port":"9","accessControl":{"repositories":{"zz/**":{"policies":[{"users":["dev"],"actions":["read"]}]}}}}}`
	err := errors.Join(os.WriteFile(p.paths.config, []byte(made), 0o600), os.Remove(p.paths.htpasswd), os.Remove(p.paths.own))
	if err = errors.Join(err, p.Precheck(t.Context(), ""), p.BeforeStart(t.Context(), ""), a.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	s, err := p.load(t.Context())
	if err != nil || !s.conf.authenticated() || !s.objects().ownAsMade() {
		t.Errorf("%v: %s", err, s.text)
	}
}
