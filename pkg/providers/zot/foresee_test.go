package zot_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/providers/zot"
	"github.com/ocisync/ocisync/schema"
)

// lies is an account in a file of accounts.
const lies = "root:$2y$05$abcdefghijklmnopqrstuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu\n"

// unruled is a Zot of somebody else's that answers, with some repositories and no rule.
func unruled(t *testing.T, http, users string, repositories ...string) (p *zot.Provider, config string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range repositories {
		at := filepath.Join(dir, "root", filepath.FromSlash(name))
		if err := os.MkdirAll(at, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at, "index.json"), []byte(`{"manifests":[]}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	config = filepath.Join(dir, "config.json")
	accounts := filepath.Join(dir, "htpasswd")
	text := fmt.Sprintf(`{"storage":{"rootDirectory":%q},"http":{"address":"127.0.0.1","port":"9"%s}}`, filepath.Join(dir, "root"), strings.ReplaceAll(http, "$DIR", dir))
	for name, text := range map[string]string{config: text, accounts: users} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err = zot.New(schema.Registry{Type: schema.TypeZot, URL: "http://" + l.Addr().String(), Files: &schema.FilePaths{Config: config, Htpasswd: accounts}}, nil, providertest.Secrets{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p, config
}

func notesOf(verdicts []providers.Verdict) string {
	var all []string
	for _, v := range verdicts {
		all = append(all, v.Notes...)
	}
	return strings.Join(all, "\n")
}

// TestTheFirstRuleListsAllThatClose, also what lies in no namespace, where nobody logged
// in before.
func TestTheFirstRuleListsAllThatClose(t *testing.T) {
	root := schema.NewGrants(schema.Grant{Name: "root", Rights: schema.Pull})
	pull, none, all := schema.Pull, schema.Rights(0), schema.Pull|schema.Push|schema.Delete
	ns := made(schema.KindNamespace, "team", &schema.Namespace{})
	for name, c := range map[string]struct {
		http    string
		changes []plan.Change
		says    []string
		not     string
	}{
		"a rule for an account": {
			"", []plan.Change{ns, made(schema.KindAccess, "team", &schema.Access{Users: root})},
			[]string{"closes to all that it does not name: team/z", "switches logins on", "this closes to them: o/a, x/y"}, "ocisync/state",
		},
		"an account": {
			"", []plan.Change{made(schema.KindUser, "root", &schema.User{Admin: new(false), Password: &schema.SecretRef{Env: providertest.SecretA}})},
			[]string{"switches logins on", "this closes to them: o/a, team/z, x/y"}, "",
		},
		"anybody may pull there": {
			"", []plan.Change{ns, made(schema.KindAccess, "team", &schema.Access{Users: root, Anonymous: &all})},
			[]string{"switches logins on", "this closes to them: o/a, x/y"}, "team/z",
		},
		"a rule for anybody, and no logins": {
			"", []plan.Change{ns, made(schema.KindAccess, "team", &schema.Access{Anonymous: &pull})},
			[]string{"closes to all that it does not name: team/z"}, "x/y",
		},
		"with logins already": {
			`,"auth":{"htpasswd":{"path":"$DIR/htpasswd"}}`, []plan.Change{ns, made(schema.KindAccess, "team", &schema.Access{Anonymous: &none})},
			[]string{"closes to all that it does not name: team/z"}, "x/y",
		},
		"no rule": {
			"", []plan.Change{ns, made(schema.KindGC, "", &schema.GC{Delay: new(schema.Duration(7200))})}, nil, "logins",
		},
	} {
		t.Run(name, func(t *testing.T) {
			users := lies
			if strings.Contains(name, "no logins") {
				users = ""
			}
			p, _ := unruled(t, c.http, users, "x/y", "o/a", "team/z", "ocisync/state")
			v, err := p.Prepare(t.Context(), c.changes)
			if err != nil {
				t.Fatal(err)
			}
			said := notesOf(v)
			for _, want := range c.says {
				if !strings.Contains(said, want) {
					t.Errorf("no %q in\n%s", want, said)
				}
			}
			if c.not != "" && strings.Contains(said, c.not) {
				t.Errorf("it says %q:\n%s", c.not, said)
			}
		})
	}
}

// TestTheFirstRuleListsMoreThanAFew: who reads the plan counts on it.
func TestTheFirstRuleListsMoreThanAFew(t *testing.T) {
	var names []string
	for i := range 40 {
		names = append(names, fmt.Sprintf("team/r%d", i), fmt.Sprintf("x/r%d", i))
	}
	p, _ := unruled(t, "", lies, names...)
	v, err := p.Prepare(t.Context(), []plan.Change{
		made(schema.KindNamespace, "team", &schema.Namespace{}),
		made(schema.KindAccess, "team", &schema.Access{Users: schema.NewGrants(schema.Grant{Name: "root", Rights: schema.Pull})}),
	})
	if err != nil {
		t.Fatal(err)
	}
	said := notesOf(v)
	for _, name := range names {
		if !strings.Contains(said, name) {
			t.Errorf("no %s in\n%s", name, said)
		}
	}
}

// TestAccountsThatLieThereSwitchNoLoginsOn with a change that is of nobody's rights: that
// would need a restart, where the plan says a reload.
func TestAccountsThatLieThereSwitchNoLoginsOn(t *testing.T) {
	p, _ := unruled(t, "", lies)
	gc := made(schema.KindGC, "", &schema.GC{Delay: new(schema.Duration(10800))})
	gc.Action = plan.Update
	changes := []plan.Change{
		made(schema.KindNamespace, "team", &schema.Namespace{}), gc,
		made(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("root")}),
		made(schema.KindAccess, "team", &schema.Access{Users: schema.NewGrants(schema.Grant{Name: "root", Rights: schema.Pull})}),
	}
	v, err := p.Prepare(t.Context(), changes)
	if err != nil || v[0].Effect != plan.Live || v[1].Effect != plan.Reload || v[2].Effect != plan.ByHand || v[3].Effect != plan.ByHand {
		t.Fatalf("%+v, %v", v, err)
	}
	got := written(t, p, changes...)
	if got["namespace/team"] != nil || got["gc"] != nil || got["group/g"] == nil || got["access/team"] == nil {
		t.Errorf("%v", got)
	}
}

// TestWhatIsWrittenWithARestartWaitsForOne, whatever it takes by itself: the file is
// written once.
func TestWhatIsWrittenWithARestartWaitsForOne(t *testing.T) {
	p, config := unruled(t, `,"auth":{"htpasswd":{"path":"$DIR/htpasswd"}}`, lies)
	if err := written(t, p, made(schema.KindUser, "u", &schema.User{Admin: new(false), Password: &schema.SecretRef{Env: providertest.SecretA}}))["user/u"]; err != nil {
		t.Fatal(err)
	}
	// somebody takes the logins out, and nothing tells what it runs with
	if err := os.WriteFile(config, []byte(`{"storage":{"rootDirectory":"/nonexistent"},"http":{"address":"127.0.0.1","port":"9"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	own := map[string]json.RawMessage{}
	b, err := os.ReadFile(config + ".ocisync.json")
	if err == nil {
		err = json.Unmarshal(b, &own)
	}
	delete(own, "loaded")
	if err == nil {
		b, err = json.Marshal(own)
	}
	if err == nil {
		err = os.WriteFile(config+".ocisync.json", b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	gc := made(schema.KindGC, "", &schema.GC{Delay: new(schema.Duration(10800))})
	gc.Action = plan.Update
	v, err := p.Prepare(t.Context(), []plan.Change{gc})
	if err != nil || v[0].Effect != plan.ByHand || !strings.Contains(notesOf(v), "stop Zot") {
		t.Errorf("%+v, %v", v, err)
	}
	if err := written(t, p, gc)["gc"]; !errors.Is(err, providers.ErrPending) {
		t.Errorf("error %v", err)
	}
}
