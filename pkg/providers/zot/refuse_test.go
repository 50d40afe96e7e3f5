package zot_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/providers/zot"
	"github.com/ocisync/ocisync/schema"
)

func made(kind schema.Kind, name string, spec schema.Spec) plan.Change {
	r := schema.Resource{Key: schema.Key{Kind: kind, Name: name}, Spec: spec}
	return plan.Change{Action: plan.Create, Key: r.Key, After: &r}
}

// written writes and returns what became of each key.
func written(t *testing.T, p providers.Provider, changes ...plan.Change) map[string]error {
	t.Helper()
	out := map[string]error{}
	if err := p.Write(t.Context(), changes, func(k schema.Key, err error) { out[k.String()] = err }); err != nil {
		for _, c := range changes {
			out[c.Key.String()] = err
		}
	}
	return out
}

func TestWhatZotWouldTakeForSomethingElseIsRefused(t *testing.T) {
	p, name := handMadeAt(t)
	before, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	pull := schema.Pull
	values := func(path, json string) *schema.Settings {
		return &schema.Settings{Values: schema.Values{{Path: path, JSON: json}}}
	}
	for _, row := range []struct {
		change plan.Change
		says   string
	}{
		{made(schema.KindGroup, "DevTeam", &schema.Group{Users: schema.NewSet("olga")}), "call it devteam"},
		{made(schema.KindAccess, "infra", &schema.Access{Groups: schema.NewGrants(schema.Grant{Name: "DevTeam", Rights: pull})}), "write devteam"},
		{made(schema.KindAccess, "tmp", &schema.Access{Authenticated: &pull}), ""},
		{made(schema.KindRetention, "apps", &schema.Retention{Keep: []schema.KeepRule{{Newest: 3, PushedWithin: 86400}}}), "any"},
		{made(schema.KindRetention, "apps", &schema.Retention{Keep: []schema.KeepRule{{Newest: 3, Disabled: true}}}), "no rule that is switched off"},
		{made(schema.KindRetention, "apps", &schema.Retention{Keep: []schema.KeepRule{{Newest: 3, TaggedOnly: true}}}), "tagged_only is for Harbor"},
		{made(schema.KindImmutable, "apps", &schema.Immutable{Rules: []schema.ImmutableRule{{Tags: "v*"}}}), "namespace of its own"},
		{made(schema.KindImmutable, "apps", &schema.Immutable{Rules: []schema.ImmutableRule{{Tags: "**", Disabled: true}}}), "no rule that is switched off"},
		{made(schema.KindGC, "", &schema.GC{Schedule: new("0 3 * * *")}), "@every"},
		{made(schema.KindNamespace, "ocisync/x", &schema.Namespace{}), "ocisync's own"},
		{made(schema.KindUser, "robot$x", &schema.User{}), "robots"},
		{made(schema.KindUser, "a:b", &schema.User{}), "colon"},
		{made(schema.KindWebhook, "infra/ci", &schema.Webhook{URL: new("http://x")}), "registry.run.driver"},
		{made(schema.KindSettings, "", values("http.bogus", `1`)), "bogus"},
		{made(schema.KindSettings, "", values("storage.subPaths.\"/A\".rootDirectory", `"/x"`)), "/a"},
		{made(schema.KindSettings, "", values("http.readTimeout", `60`)), "nanoseconds"},
		{made(schema.KindSettings, "", values("extensions.scrub.interval", `"1m"`)), "2h"},
		{made(schema.KindSettings, "", &schema.Settings{Values: schema.Values{{Path: "Http.Realm", JSON: `"x"`}, {Path: "http.realm", JSON: `"y"`}}}), "same key"},
		{made(schema.KindScan, "", &schema.Scan{Update: new(schema.Duration(1800))}), "2h"},
		{made(schema.KindReplication, "r", &schema.Replication{From: new("x"), Trigger: &schema.Trigger{On: "push"}}), "polls"},
	} {
		if row.says == "" {
			continue
		}
		v, err := p.Prepare(t.Context(), []plan.Change{row.change})
		if err != nil || !strings.Contains(v[0].Refused, row.says) {
			t.Errorf("%s: Prepare says %q, %v; want %q", row.change.Key, v[0].Refused, err, row.says)
		}
		if err := written(t, p, row.change)[row.change.Key.String()]; err == nil || !strings.Contains(err.Error(), row.change.Key.String()) {
			t.Errorf("%s: Write says %v", row.change.Key, err)
		}
	}
	after, err := os.ReadFile(name)
	if err != nil || string(after) != string(before) {
		t.Errorf("a refused change touched the file (%v)", err)
	}
}

func TestAPatternThatShadowsARuleIsNamed(t *testing.T) {
	const text = `{"storage":{"rootDirectory":"/nonexistent"},"http":{"address":"127.0.0.1","port":"9","accessControl":{"repositories":{
		"team/secret/*":{"defaultPolicy":["read"]},"team-*/**":{"defaultPolicy":["read"]},"a*":{"defaultPolicy":["read"]},"**":{"defaultPolicy":["read"]}}}}}`
	p, _ := placed(t, text, "")
	for name, shadow := range map[string]string{
		"team":        `"team/secret/*"`, // it is longer than team/**
		"team-a":      `"team-*/**"`,     // as long as team-a/**
		"team-abc":    "",                // its own is longer
		"apps":        "",                // a* is shorter, and spans no slash
		"team/secret": "",                // its own is longer
		"team/other":  "",
	} {
		pull := schema.Pull
		v, err := p.Prepare(t.Context(), []plan.Change{made(schema.KindAccess, name, &schema.Access{Anonymous: &pull})})
		if err != nil {
			t.Fatal(err)
		}
		if refused := v[0].Refused; (refused == "") != (shadow == "") || !strings.Contains(refused, shadow) {
			t.Errorf("%s: %q, want a refusal that names %s", name, refused, shadow)
		}
	}
}

func TestFilesThatCannotBeReadAreSaid(t *testing.T) {
	for name, row := range map[string]struct{ text, says string }{
		"broken":         {`{"http": {"port": "5000"`, ":1:"},
		"twice":          {`{"http": {"port": "1", "Port": "2"}}`, "port"},
		"yaml":           {"http:\n  port: 5000\n", "JSON"},
		"wrong type":     {`{"http": {"accessControl": []}}`, "accessControl"},
		"a bad duration": {`{"storage": {"gcDelay": "2 hours"}}`, "duration"},
	} {
		p, file := placed(t, row.text, "")
		_, err := p.Read(t.Context(), schema.ScopeOf(schema.KindUser))
		if err == nil || !strings.Contains(err.Error(), row.says) || !strings.Contains(err.Error(), filepath.Base(file)) {
			t.Errorf("%s: %v", name, err)
		}
		if err := written(t, p, made(schema.KindUser, "u", &schema.User{}))["user/u"]; err == nil {
			t.Errorf("%s: it was written over", name)
		}
		if b, err := os.ReadFile(file); err != nil || string(b) != row.text {
			t.Errorf("%s: the file holds %q, %v", name, b, err)
		}
	}
	absent, err := zot.New(schema.Registry{Type: schema.TypeZot, URL: "http://127.0.0.1:9", Files: &schema.FilePaths{Config: filepath.Join(t.TempDir(), "zot.json")}}, nil, providertest.Secrets{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := absent.Read(t.Context(), schema.ScopeOf(schema.KindUser)); err == nil || !strings.Contains(err.Error(), "registry.files.config") {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestAwayFromItsHostEverythingIsPending(t *testing.T) {
	p, err := zot.New(schema.Registry{Type: schema.TypeZot, URL: "http://127.0.0.1:9"}, nil, providertest.Secrets{}, nil, zot.HashCost(bcrypt.MinCost))
	if err != nil {
		t.Fatal(err)
	}
	st, err := p.Read(t.Context(), schema.ScopeOf(schema.Kinds()...))
	if err != nil || len(st.Scope.Kinds) > 0 || len(st.Resources) > 0 {
		t.Errorf("it reads %v of %v, %v", st.Resources, st.Scope, err)
	}
	c := made(schema.KindUser, "u", &schema.User{})
	v, err := p.Prepare(t.Context(), []plan.Change{c})
	if err != nil || v[0].Effect != plan.ByHand || len(v[0].Notes) == 0 {
		t.Errorf("Prepare: %+v, %v", v, err)
	}
	if err := written(t, p, c)["user/u"]; !errors.Is(err, providers.ErrPending) || !strings.Contains(err.Error(), "ocisync apply") {
		t.Errorf("Write: %v", err)
	}
}

func TestAWriteThatWasCutIsFinishedFirst(t *testing.T) {
	p, name := handMadeAt(t)
	old, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	next := strings.Replace(string(old), `"port": 9`, `"port": 8`, 1)
	for suffix, content := range map[string]string{".prev": string(old), ".next": next} {
		if err := os.WriteFile(name+suffix, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := written(t, p, made(schema.KindGroup, "more", &schema.Group{Users: schema.NewSet("olga")}))["group/more"]; err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil || !strings.Contains(string(b), `"port": 8`) || !strings.Contains(string(b), `"more"`) {
		t.Errorf("holds %s, %v", b, err)
	}
	if _, err := os.Stat(name + ".next"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the promise still lies there: %v", err)
	}
}

// Retention of a namespace must not reach into one below it that has none.
func TestInnerPoliciesStandBeforeOuterOnes(t *testing.T) {
	p, name := placed(t, `{"storage":{"rootDirectory":"/nonexistent","retention":{"policies":[{"repositories":["**"],"keepTags":[{"patterns":[".*"],"mostRecentlyPushedCount":1}]}]}},"http":{"address":"127.0.0.1","port":"9"}}`, "")
	keep := func(n int) *schema.Retention { return &schema.Retention{Keep: []schema.KeepRule{{Newest: n}}} }
	st := schema.State{}
	for _, ns := range []string{"a", "a/b", "a/b/c", "z"} {
		st.Resources = append(st.Resources, schema.Resource{Key: schema.Key{Kind: schema.KindNamespace, Name: ns}, Spec: &schema.Namespace{}})
	}
	for ns, n := range map[string]int{"a": 3, "a/b/c": 4, "z": 5} {
		st.Resources = append(st.Resources, schema.Resource{Key: schema.Key{Kind: schema.KindRetention, Name: ns}, Spec: keep(n)})
	}
	if err := st.Sort(); err != nil {
		t.Fatal(err)
	}
	if _, err := providertest.DirectCycle(t.Context(), p, st); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, want := range []string{`"a/b/c/**"`, `"a/b/**"`, `"a/**"`, `"z/**"`, `"**"`} {
		i := strings.Index(string(b)[at:], want)
		if i < 0 {
			t.Fatalf("%s does not stand in its place:\n%s", want, b)
		}
		at += i
	}
	live := readEverything(t, p)
	if _, ok := live.Get(schema.Key{Kind: schema.KindRetention, Name: "a/b"}); ok {
		t.Error("what only keeps a/b out of the rules of a counts as retention of a/b")
	}
	if n, err := providertest.DirectCycle(t.Context(), p, st); n != 0 || err != nil {
		t.Errorf("the same again makes %d changes, %v", n, err)
	}
}

func TestAnotherPlaceForTheContentWaitsForAnApproval(t *testing.T) {
	root := t.TempDir()
	p, _ := placed(t, `{"storage":{"rootDirectory":"`+root+`","subPaths":{"/sub":{"rootDirectory":"`+root+`-sub"}}},"http":{"address":"127.0.0.1","port":"9"}}`, "")
	held := func(to string) providers.Verdict {
		t.Helper()
		c := made(schema.KindSettings, "", &schema.Settings{Values: schema.Values{{Path: "storage.RootDirectory", JSON: strconv.Quote(to)}}})
		v, err := p.Prepare(t.Context(), []plan.Change{c})
		if err != nil {
			t.Fatal(err)
		}
		return v[0]
	}
	if v := held("/elsewhere"); v.Held != "" {
		t.Errorf("of an empty registry: %+v", v)
	}
	dir := filepath.Join(root, "team/one")
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte(`{"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"v1"}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if v := held("/elsewhere"); v.Held == "" || !strings.Contains(strings.Join(v.Impact, "\n"), "what lies in "+root+" (repositories: 1, tags: 1) is served no more") {
		t.Errorf("%+v", v)
	}
	c := made(schema.KindSettings, "", &schema.Settings{Values: schema.Values{{Path: "storage.subPaths./sub.rootDirectory", JSON: `"/elsewhere"`}}})
	if v, err := p.Prepare(t.Context(), []plan.Change{c}); err != nil || v[0].Held == "" {
		t.Errorf("of a sub path: %+v, %v", v, err)
	}
	for driver, want := range map[string]bool{"s3": true, "local": false} {
		c := made(schema.KindSettings, "", &schema.Settings{Values: schema.Values{{Path: "storage.storageDriver.name", JSON: strconv.Quote(driver)}}})
		if v, err := p.Prepare(t.Context(), []plan.Change{c}); err != nil || (v[0].Held != "") != want {
			t.Errorf("of the driver %s: %+v, %v", driver, v, err)
		}
	}
	for path, want := range map[string]bool{`storage.subPaths."/team".rootDirectory`: true, `storage.subPaths."/other".rootDirectory`: false} {
		c := made(schema.KindSettings, "", &schema.Settings{Values: schema.Values{{Path: path, JSON: `"/elsewhere"`}}})
		if v, err := p.Prepare(t.Context(), []plan.Change{c}); err != nil || (v[0].Held != "") != want {
			t.Errorf("of %s: %+v, %v", path, v, err)
		}
	}
	if v := held(root + "/"); v.Held != "" {
		t.Errorf("of the same place: %+v", v)
	}
}

// TestTheOrderOfPoliciesIsPartOfThem: Zot goes by the first that matches, so that
// what stands behind one of an outer namespace says nothing.
func TestTheOrderOfPoliciesIsPartOfThem(t *testing.T) {
	policies := func(list ...string) string {
		return `{"storage":{"rootDirectory":"/nonexistent","retention":{"policies":[` + strings.Join(list, ",") + `]}},"http":{"address":"127.0.0.1","port":"9"}}`
	}
	keep := func(pattern string, n int) string {
		return fmt.Sprintf(`{"repositories":[%q],"keepTags":[{"mostRecentlyPushedCount":%d}]}`, pattern, n)
	}
	const shield = `{"repositories":["a/b/**"],"deleteUntagged":false}`
	var st schema.State
	add := func(kind schema.Kind, name string, spec schema.Spec) {
		st.Resources = append(st.Resources, schema.Resource{Key: schema.Key{Kind: kind, Name: name}, Spec: spec})
	}
	for _, ns := range []string{"a", "a/b"} {
		add(schema.KindNamespace, ns, &schema.Namespace{})
	}
	add(schema.KindRetention, "a", &schema.Retention{Keep: []schema.KeepRule{{Newest: 5}}})
	without := st
	without.Resources = slices.Clone(st.Resources)
	add(schema.KindRetention, "a/b", &schema.Retention{Keep: []schema.KeepRule{{Newest: 1}}})
	for name, test := range map[string]struct {
		mode     schema.State
		policies []string
		drift    bool
		then     []string
	}{
		"right":                {st, []string{keep("a/b/**", 1), keep("a/**", 5)}, false, []string{`"a/b/**"`, `"a/**"`}},
		"outer first":          {st, []string{keep("a/**", 5), keep("a/b/**", 1)}, true, []string{`"a/b/**"`, `"a/**"`}},
		"what no rules say":    {st, []string{`{"repositories":["a/**"],"keepTags":[{"patterns":["a+"],"mostRecentlyPushedCount":5}]}`}, true, []string{`"a/b/**"`, `"a/**"`}},
		"shield behind":        {without, []string{keep("a/**", 5), shield}, true, []string{`"a/b/**"`, `"a/**"`}},
		"part before a shield": {without, []string{keep("a/*", 5), shield, keep("a/**", 5)}, true, []string{`"a/b/**"`, `"a/**"`}},
		"unsaid inner first":   {st, []string{`{"repositories":["a/b/x/**"],"keepTags":[{"patterns":["a+"],"mostRecentlyPushedCount":5}]}`, keep("a/b/**", 1), keep("a/**", 5)}, true, []string{`"a/b/**"`, `"a/**"`, `"a/b/x/**"`}},
		"shield":               {without, []string{shield, keep("a/**", 5)}, false, []string{`"a/b/**"`, `"a/**"`}},
		"somebody else's last": {st, []string{keep("a/**", 5), keep("a/b/**", 1), keep("**", 9)}, true, []string{`"a/b/**"`, `"a/**"`, `"**"`}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := test.mode.Sort(); err != nil {
				t.Fatal(err)
			}
			p, file := placed(t, policies(test.policies...), "")
			live := readEverything(t, p)
			inner, ok := live.Get(schema.Key{Kind: schema.KindRetention, Name: "a/b"})
			if ok && test.drift {
				t.Errorf("retention of a/b is %+v, by which Zot does not go", inner.Spec)
			}
			n, err := providertest.DirectCycle(t.Context(), p, test.mode)
			if err != nil || test.drift && n == 0 {
				t.Errorf("%d changes, %v", n, err)
			}
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range regexp.MustCompile(`"[ab*/x]*\*"`).FindAllString(string(b), -1) {
				if m != `".*"` {
					got = append(got, m)
				}
			}
			if diff := cmp.Diff(test.then, got); diff != "" {
				t.Errorf("(-want +got):\n%s\n%s", diff, b)
			}
			if n, err := providertest.DirectCycle(t.Context(), p, test.mode); n != 0 || err != nil {
				t.Errorf("the same again makes %d changes, %v", n, err)
			}
		})
	}
}

func TestSettingsAreEqualWhateverTheirCase(t *testing.T) {
	p, _ := placed(t, `{"STORAGE":{"RootDirectory":"/nonexistent"},"http":{"address":"127.0.0.1","port":"9","Realm":"x"}}`, "")
	st := schema.State{Resources: []schema.Resource{{Key: schema.Key{Kind: schema.KindSettings}, Spec: &schema.Settings{Values: schema.Values{{Path: "HTTP.realm", JSON: `"x"`}, {Path: "storage.rootdirectory", JSON: `"/nonexistent"`}}}}}}
	if n, err := providertest.DirectCycle(t.Context(), p, st); n != 0 || err != nil {
		t.Errorf("%d changes, %v", n, err)
	}
}

func TestTheFirstRuleTellsWhatItCloses(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"team/one", "team/inner/two", "other/three"} {
		dir := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte(`{"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"v1"}},{}]}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, name := placed(t, `{"storage":{"rootDirectory":"`+root+`"},"http":{"address":"127.0.0.1","port":"9"}}`, "")
	pull := schema.Pull
	c := made(schema.KindAccess, "team", &schema.Access{Anonymous: &pull})
	v, err := p.Prepare(t.Context(), []plan.Change{c})
	if err != nil || !strings.Contains(strings.Join(v[0].Notes, "\n"), "team/inner/two, team/one") {
		t.Errorf("%+v, %v", v, err)
	}
	st, err := p.Read(t.Context(), schema.Scope{Repositories: []string{"team"}})
	if err != nil || len(st.Repositories) != 2 || st.Repositories[0] != (schema.RepositoryInfo{Name: "team/inner/two", Tags: 1}) {
		t.Errorf("%v, %v", st.Repositories, err)
	}
	// What lies in no namespace stays as open as it was: nothing says otherwise.
	if got := written(t, p, made(schema.KindNamespace, "team", &schema.Namespace{}), c); got["access/team"] != nil {
		t.Fatal(got)
	}
	b, err := os.ReadFile(name)
	if err != nil || !strings.Contains(strings.Join(strings.Fields(string(b)), ""), `"**":{"anonymousPolicy":["read","create","update","delete"]}`) {
		t.Errorf("%s, %v", b, err)
	}
}

func TestAnAccountNeedsAFileOfAccounts(t *testing.T) {
	p, _ := placed(t, handWritten, "")
	c := made(schema.KindUser, "u", &schema.User{Password: &schema.SecretRef{Env: providertest.SecretA}})
	if err := written(t, p, c)["user/u"]; err == nil || !strings.Contains(err.Error(), "registry.files.htpasswd") {
		t.Errorf("error %v", err)
	}
}

func TestAReplacedNamespaceBeginsAnew(t *testing.T) {
	p, _ := placed(t, handWritten, "")
	pull := schema.Pull
	key := schema.Key{Kind: schema.KindNamespace, Name: "team"}
	got := written(t, p, made(schema.KindRemote, "up", &schema.Remote{URL: new("https://up.example.com")}), made(schema.KindNamespace, "team", &schema.Namespace{}), made(schema.KindAccess, "team", &schema.Access{Anonymous: &pull}), made(schema.KindRetention, "team", &schema.Retention{Keep: []schema.KeepRule{{Newest: 1}}}))
	for k, err := range got {
		if err != nil {
			t.Errorf("%s: %v", k, err)
		}
	}
	none := schema.Rights(0)
	next := schema.Resource{Key: key, Spec: &schema.Namespace{ProxyOf: new("up")}}
	got = written(t, p, plan.Change{Action: plan.Replace, Key: key, After: &next}, made(schema.KindAccess, "team", &schema.Access{Anonymous: &none}))
	if got["namespace/team"] != nil || got["access/team"] != nil {
		t.Fatal(got)
	}
	st := readEverything(t, p)
	if _, ok := st.Get(schema.Key{Kind: schema.KindRetention, Name: "team"}); ok {
		t.Error("retention of the replaced namespace is still there")
	}
	r, _ := st.Get(schema.Key{Kind: schema.KindAccess, Name: "team"})
	if spec, ok := r.Spec.(*schema.Access); !ok || *spec.Anonymous != none {
		t.Errorf("the rule is %+v", r.Spec)
	}
}

func TestRetentionStandsWhereTheContentLies(t *testing.T) {
	p, name := placed(t, `{"storage":{"rootDirectory":"/nonexistent/a","subPaths":{"/big":{"rootDirectory":"/nonexistent/b","gc":true},"/Part":{"rootDirectory":"/nonexistent/c"}}},"http":{"address":"127.0.0.1","port":"9"}}`, "")
	st := schema.State{}
	for i, ns := range []string{"big/one", "small"} {
		st.Resources = append(st.Resources,
			schema.Resource{Key: schema.Key{Kind: schema.KindNamespace, Name: ns}, Spec: &schema.Namespace{}},
			schema.Resource{Key: schema.Key{Kind: schema.KindRetention, Name: ns}, Spec: &schema.Retention{Keep: []schema.KeepRule{{Newest: i + 1}}}})
	}
	if err := st.Sort(); err != nil {
		t.Fatal(err)
	}
	cycle(t, p, st)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	flat := strings.Join(strings.Fields(string(b)), "")
	for _, want := range []string{
		`"/big":{"rootDirectory":"/nonexistent/b","gc":true,"retention":{"policies":[{"repositories":["big/one/**"],"deleteUntagged":false,"keepTags":[{"patterns":[".*"],"mostRecentlyPushedCount":1}]}]}}`,
		`"retention":{"policies":[{"repositories":["small/**"],"deleteUntagged":false,"keepTags":[{"patterns":[".*"],"mostRecentlyPushedCount":2}]}]}`,
	} {
		if !strings.Contains(flat, want) {
			t.Errorf("%s does not stand in\n%s", want, b)
		}
	}
	if n := cycle(t, p, st); n != 0 {
		t.Errorf("the same again makes %d changes", n)
	}
	v, err := p.Prepare(t.Context(), []plan.Change{made(schema.KindRetention, "part", &schema.Retention{Keep: []schema.KeepRule{{Newest: 1}}})})
	if err != nil || v[0].Refused != "" || !strings.Contains(strings.Join(v[0].Notes, " "), "gc is off") {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestWhoIsDeletedIsNamedNowhere(t *testing.T) {
	p, name := handMadeAt(t)
	live := readEverything(t, p)
	gone := func(kind schema.Kind, name string) plan.Change {
		r, ok := live.Get(schema.Key{Kind: kind, Name: name})
		if !ok {
			t.Fatalf("%s/%s is not there", kind, name)
		}
		return plan.Change{Action: plan.Delete, Key: r.Key, Before: &r}
	}
	for k, err := range written(t, p, gone(schema.KindUser, "ext"), gone(schema.KindGroup, "ops"), gone(schema.KindAccess, "releases")) {
		if err != nil {
			t.Errorf("%s: %v", k, err)
		}
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{`"ext"`, `"ops"`} {
		if strings.Contains(string(b), word) {
			t.Errorf("%s still stands in\n%s", word, b)
		}
	}
	after := readEverything(t, p)
	for _, key := range []schema.Key{{Kind: schema.KindUser, Name: "ext"}, {Kind: schema.KindGroup, Name: "ops"}} {
		if _, still := after.Get(key); still {
			t.Errorf("%s is still there", key)
		}
	}
}

// The last rule that goes must not leave a registry without any: it would be
// open to all after its next start.
func TestTheLastRuleLeavesTheRegistryShut(t *testing.T) {
	p, name := placed(t, `{"storage":{"rootDirectory":"/nonexistent"},"http":{"address":"127.0.0.1","port":"9","auth":{"ldap":{"address":"x"}},"accessControl":{"repositories":{"team/**":{"defaultPolicy":["read"]}}}}}`, "")
	live := readEverything(t, p)
	r, _ := live.Get(schema.Key{Kind: schema.KindNamespace, Name: "team"})
	if err := written(t, p, plan.Change{Action: plan.Delete, Key: r.Key, Before: &r})["namespace/team"]; err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil || !strings.Contains(strings.Join(strings.Fields(string(b)), ""), `"accessControl":{"repositories":{"**":{"defaultPolicy":[]}}}`) {
		t.Errorf("%s, %v", b, err)
	}
}

func TestAContainerWritesNoLogOutsideItsData(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	for path, driver := range map[string]string{"/var/log/audit.log": schema.DriverDocker, filepath.Join(data, "..", "x.log"): schema.DriverDocker} {
		for _, driver := range []string{driver, schema.DriverProcess} {
			p, err := zot.New(schema.Registry{Type: schema.TypeZot, URL: "http://127.0.0.1:9", Run: &schema.Run{Driver: driver, Data: data}}, nil, providertest.Secrets{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, spec := range []schema.Spec{&schema.Audit{Log: &path}, &schema.Settings{Values: schema.Values{{Path: "log.output", JSON: strconv.Quote(path)}}}} {
				r := schema.Resource{Key: schema.Key{Kind: spec.Kind()}, Spec: spec}
				v, err := p.Prepare(t.Context(), []plan.Change{{Action: plan.Create, Key: r.Key, After: &r}})
				if err != nil {
					t.Fatal(err)
				}
				if refused := strings.Contains(v[0].Refused, "name a file below "+data); refused != (driver == schema.DriverDocker) {
					t.Errorf("%s, %s in %s: %+v", driver, r.Key, path, v[0])
				}
			}
		}
	}
	inside := filepath.Join(data, "audit.log")
	p, err := zot.New(schema.Registry{Type: schema.TypeZot, URL: "http://127.0.0.1:9", Run: &schema.Run{Driver: schema.DriverDocker, Data: data}}, nil, providertest.Secrets{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := schema.Resource{Key: schema.Key{Kind: schema.KindAudit}, Spec: &schema.Audit{Log: &inside}}
	if v, err := p.Prepare(t.Context(), []plan.Change{{Action: plan.Create, Key: r.Key, After: &r}}); err != nil || v[0].Refused != "" {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestRulesForSomebodyNeedLogins(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "zot.json")
	for _, c := range []struct {
		config string
		files  schema.FilePaths
		none   bool
	}{
		{handWritten, schema.FilePaths{Config: name}, true},
		{handWritten, schema.FilePaths{Config: name, Htpasswd: filepath.Join(dir, "htpasswd")}, false},
		{strings.Replace(handWritten, `"port"`, `"auth":{"ldap":{"address":"l","baseDN":"d","userAttribute":"u"}},"port"`, 1), schema.FilePaths{Config: name}, false},
	} {
		if err := os.WriteFile(name, []byte(c.config), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := zot.New(schema.Registry{Type: schema.TypeZot, URL: "http://127.0.0.1:9", Files: &c.files}, nil, providertest.Secrets{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		pull := schema.Pull
		verdicts, err := p.Prepare(t.Context(), []plan.Change{
			made(schema.KindAccess, "a", &schema.Access{Authenticated: &pull}),
			made(schema.KindAccess, "b", &schema.Access{Users: schema.NewGrants(schema.Grant{Name: "u", Rights: pull})}),
			made(schema.KindUser, "u", &schema.User{Admin: new(true)}),
			made(schema.KindAccess, "c", &schema.Access{Anonymous: &pull}),
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range verdicts {
			if refused := strings.Contains(v.Refused, "no logins"); refused != (c.none && i < 3) {
				t.Errorf("%+v, change %d: %+v", c.files, i, v)
			}
		}
	}
}

// program is a script in the place of Zot, which says one thing and ends.
func program(t *testing.T, says string, code string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "zot")
	if err := os.WriteFile(name, []byte("#!/bin/sh\necho '"+says+"' >&2\nexit "+code+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

// Where Zot's version is known, a plan refuses what it does not start with.
func TestAPlanKnowsWhatThisZotTakes(t *testing.T) {
	for name, c := range map[string]struct {
		run     schema.Run
		refused bool
	}{
		"a program without a schema": {schema.Run{Driver: schema.DriverProcess, Binary: program(t, `Error: unknown command "schema" for "zot"`, "1")}, true},
		"a program with one":         {schema.Run{Driver: schema.DriverProcess, Binary: program(t, `{}`, "0")}, false},
		"a program that is broken":   {schema.Run{Driver: schema.DriverProcess, Binary: program(t, `cannot run`, "1")}, false},
		"no program":                 {schema.Run{Driver: schema.DriverProcess, Binary: "/nonexistent/zot"}, false},
		"an old image":               {schema.Run{Driver: schema.DriverDocker, Image: "ghcr.io/project-zot/zot:v2.1.6"}, true},
		"a new image":                {schema.Run{Driver: schema.DriverDocker, Image: "ghcr.io/project-zot/zot:v2.1.20"}, false},
		"an image without a tag":     {schema.Run{Driver: schema.DriverDocker, Image: "localhost:5000/zot"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c.run.Data = filepath.Join(t.TempDir(), "data")
			p, err := zot.New(schema.Registry{Type: schema.TypeZot, URL: "http://127.0.0.1:9", Run: &c.run}, nil, providertest.Secrets{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			verdicts, err := p.Prepare(t.Context(), []plan.Change{
				made(schema.KindAccess, "a", &schema.Access{Users: schema.NewGrants(schema.Grant{Name: "u", Rights: schema.Pull}), Conditions: schema.NewSet("true")}),
				made(schema.KindSettings, "", &schema.Settings{Values: schema.Values{{Path: "storage.maxRepos", JSON: "5"}}}),
				made(schema.KindSettings, "", &schema.Settings{Values: schema.Values{{Path: "http.realm", JSON: `"r"`}}}),
			})
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range verdicts {
				if refused := strings.Contains(v.Refused, "does not start with"); refused != (c.refused && i < 2) {
					t.Errorf("change %d: %+v", i, v)
				}
			}
		})
	}
}

// A Zot that copies every tag where it is to filter and to take another name is not told
// to, and where nothing tells which Zot it is, a plan says so.
func TestAFilterOfTagsThatZotDoesNotApplyIsRefused(t *testing.T) {
	copies := func(tags, into string) plan.Change {
		spec := &schema.Replication{From: new("up"), Match: &schema.Match{Repositories: new("lib/**")}, Trigger: &schema.Trigger{Schedule: "@every 1h"}}
		if tags != "" {
			spec.Match.Tags = &tags
		}
		if into != "" {
			spec.Namespace = &into
		}
		return made(schema.KindReplication, "r", spec)
	}
	changes := []plan.Change{copies("v*", "mirror"), copies("v*", ""), copies("", "mirror"), {Action: plan.Delete, Key: schema.Key{Kind: schema.KindReplication, Name: "q"}}}
	for tag, want := range map[string]string{
		":v2.1.6": "refused", ":v2.1.16": "refused", ":v2.1.17": "", ":v2.1.20": "", ":latest": "noted", "": "noted",
	} {
		run := &schema.Run{Driver: schema.DriverDocker, Image: "ghcr.io/project-zot/zot" + tag, Data: filepath.Join(t.TempDir(), "data")}
		p, err := zot.New(schema.Registry{Type: schema.TypeZot, URL: "http://127.0.0.1:9", Run: run}, nil, providertest.Secrets{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		verdicts, err := p.Prepare(t.Context(), changes)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range verdicts {
			said := ""
			switch {
			case strings.Contains(v.Refused, "copies every tag"):
				said = "refused"
			case strings.Contains(strings.Join(v.Notes, "; "), "copies every tag"):
				said = "noted"
			}
			if i == 0 && said != want || i > 0 && said != "" {
				t.Errorf("image%s, change %d: %+v, want it %q", tag, i, v, want)
			}
		}
	}
}

// TestAPatternAddedByHandBeforeOursIsDrift: whoever adds one, the plan shows
// what Zot goes by now, and the refusal names the pattern.
func TestAPatternAddedByHandBeforeOursIsDrift(t *testing.T) {
	const open = `{"anonymousPolicy":["read","create","update","delete"]}`
	for _, c := range []struct {
		pattern, policy string
		drift           bool
	}{
		{"{team}/**", open, true},
		{"[t]eam/**", open, true},
		{`te\\am/**`, open, true},
		{"**/**/**", open, true},
		{"TEAM/**/*", open, true},
		{"team/**/", open, true},
		{"team/apps*", open, true},
		{"team/**/*", `{"anonymousPolicy":["update"]}`, true},
		{"team/**/*", `{"policies":[{"users":["dev"],"actions":["read","create","update"],"conditions":[{"expression":"a"}]},{"users":["eve"],"actions":["read"],"conditions":[{"expression":"b"}]}]}`, true},
		{"team/**/*", `{"anonymousPolicy":["read"],"defaultPolicy":["read"],"policies":[{"users":["dev"],"actions":["create","update","read"]}]}`, false}, // the same
		{"team/apps/x", open, true}, // one repository
		{"team{/apps/x,/y}", open, true},
		{"[t]eam{/apps,/y}", open, true},
		{"t{**,zzzzzzzzz}", open, true}, // goes beyond segments, as braces begin one
		{"team[!x]apps", open, true},    // a class that matches a slash
		{`team\\/apps`, open, true},
		{"{team/apps[}],y}", open, true}, // versions read it differently
		{"team/**/*", `{"anonymousPolicy":["read"],"defaultPolicy":["read"],"policies":[{"users":["dev"],"actions":["create","update","read"]},{"users":["robot$ci"],"actions":["read"]}]}`, true},
		{"team/**/*", `{"anonymousPolicy":["read"],"defaultPolicy":["read"],"policies":[{"users":["dev"],"actions":["create","update","read"],"conditions":[{"expression":"a"}]},{"groups":["g"],"actions":[],"conditions":[{"expression":"b"}]}]}`, true},
		{"{teams,dept}/**", open, false},
		{"t[!e]am[/]apps", open, false},
		{"*/*", open, false}, // shorter
		{"**/?x/{team,y}", open, true},
		{"?eam-*/apps/**", open, false},
		{"team/inner/**", open, false}, // a namespace of its own
		{"te*/**", open, false},        // shorter
		{"teams/**", open, false},      // another's
	} {
		data := filepath.Join(t.TempDir(), "data")
		st := schema.State{Resources: []schema.Resource{
			{Key: schema.Key{Kind: schema.KindUser, Name: "dev"}, Spec: &schema.User{}},
			{Key: schema.Key{Kind: schema.KindNamespace, Name: "team"}, Spec: &schema.Namespace{}},
			{Key: schema.Key{Kind: schema.KindAccess, Name: "team"}, Spec: &schema.Access{
				Anonymous: new(schema.Pull), Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: schema.Pull | schema.Push}),
			}},
		}}
		p := inData(t, data)
		cycle(t, p, st)
		file := filepath.Join(data, "config.json")
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		const at = `"repositories": {`
		if err := os.WriteFile(file, []byte(strings.Replace(string(b), at, at+`"`+c.pattern+`": `+c.policy+`,`, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n, err := providertest.DirectCycle(t.Context(), inData(t, data), st)
		if (n > 0 || err != nil) != c.drift {
			t.Errorf("%s: %d changes, %v", c.pattern, n, err)
		}
		if c.drift && (err == nil || !strings.Contains(err.Error(), "as long as")) {
			t.Errorf("%s: %v", c.pattern, err)
		}
		if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
			t.Errorf("%s: the file was written, %v", c.pattern, err)
		}
	}
}

// TestWhatGivesRightsBesideTheRulesIsSaid: no object shows it, and it is nobody's
// to change.
func TestWhatGivesRightsBesideTheRulesIsSaid(t *testing.T) {
	const text = `{"storage":{"rootDirectory":"/nonexistent"},"http":{"address":"127.0.0.1","port":"9","accessControl":{
		"adminPolicy":{"groups":["crew"],"actions":["read"]},
		"repositories":{"ocisync/**":{"policies":[{"users":["ocisync$"],"actions":["read"]}]},"*/**":{"anonymousPolicy":["read"]},"shut/*":{"defaultPolicy":[]},"team/**":{"defaultPolicy":["read"]},"**":{"defaultPolicy":["read"]}}}}}`
	ruled := schema.State{Resources: []schema.Resource{{Key: schema.Key{Kind: schema.KindAccess, Name: "team"}, Spec: &schema.Access{}}}}
	for _, c := range []struct {
		outside access.Outside
		desired schema.State
		want    []string
	}{
		{"", schema.State{}, nil},
		{"", ruled, []string{"the groups crew"}},
		{"deny", schema.State{}, []string{"the groups crew", `match: "*/**";`}},
		{"leave", ruled, []string{"the groups crew"}},
	} {
		_, name := placed(t, text, "")
		p, err := zot.New(schema.Registry{Type: schema.TypeZot, URL: "http://127.0.0.1:9", Files: &schema.FilePaths{Config: name}}, nil, providertest.Secrets{}, nil, zot.Outside(c.outside))
		if err != nil {
			t.Fatal(err)
		}
		notes, err := p.Remarks(t.Context(), c.desired, time.Now())
		if err != nil || len(notes) != len(c.want) {
			t.Fatalf("%q: %+v, %v; want %q", c.outside, notes, err, c.want)
		}
		for i, want := range c.want {
			if !strings.Contains(notes[i].Text, want) {
				t.Errorf("%q: %s, want %s", c.outside, notes[i].Text, want)
			}
		}
	}
}

// TestWhatZotMisreadsByHandIsSaid: nobody manages it, and Zot takes it without a
// word.
func TestWhatZotMisreadsByHandIsSaid(t *testing.T) {
	p, _ := placed(t, `{"storage":{"rootDirectory":"/nonexistent","gcDelay":3600},
"http":{"address":"127.0.0.1","port":"9","accessControl":{"groups":{"DevTeam":{"users":["a"]}},"repositories":{"**":{"defaultPolicy":["read"]}}}}}`, "")
	notes, err := p.Remarks(t.Context(), schema.State{}, time.Now())
	if err != nil || len(notes) != 2 || !strings.Contains(notes[0].Text+notes[1].Text, "zot.json:1:") || !strings.Contains(notes[0].Text+notes[1].Text, "3.6 µs") || !strings.Contains(notes[0].Text+notes[1].Text, "lower case") {
		t.Errorf("%+v, %v", notes, err)
	}
}

// TestAPipeInThePlaceOfAFileIsSaid: whoever opened it would wait for ever, Zot
// too.
func TestAPipeInThePlaceOfAFileIsSaid(t *testing.T) {
	for _, name := range []string{"htpasswd", "config.json", "ocisync/zot.json"} {
		data := filepath.Join(t.TempDir(), "data")
		p := inData(t, data)
		l, err := p.Launch(t.Context())
		if err == nil {
			err = p.BeforeStart(t.Context(), l.Face)
		}
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(data, name)
		if err := errors.Join(os.Remove(file), syscall.Mkfifo(file, 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Read(t.Context(), schema.ScopeOf(schema.KindUser)); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: a plan says %v", name, err)
		}
		if err := p.BeforeStart(t.Context(), l.Face); name != "ocisync/zot.json" && (err == nil || !strings.Contains(err.Error(), file)) {
			t.Errorf("%s: before a start it says %v", name, err)
		}
	}
}

// TestEveryPatternBeforeOursIsNamed: also where the first of them says what the
// rule does, where no rule says the difference, and where the pattern was written
// for robots alone.
func TestEveryPatternBeforeOursIsNamed(t *testing.T) {
	robot := schema.Resource{Key: schema.Key{Kind: schema.KindRobot, Name: "ci"}, Spec: &schema.Robot{Access: schema.NewGrants(schema.Grant{Name: "team", Rights: schema.Pull})}}
	rule := schema.Resource{Key: schema.Key{Kind: schema.KindAccess, Name: "team"}, Spec: &schema.Access{Anonymous: new(schema.Pull)}}
	namespace := schema.Resource{Key: schema.Key{Kind: schema.KindNamespace, Name: "team"}, Spec: &schema.Namespace{}}
	const machine = `"policies":[{"users":["robot$ci","robot$ci.2"],"actions":["read"]}]`
	for _, c := range []struct {
		what  []schema.Resource
		lines string
		want  []string
	}{
		{
			[]schema.Resource{rule, namespace, robot},
			`"team/**/*":{"anonymousPolicy":["read"],"defaultPolicy":["read"],` + machine + `},"team/x/*":{"defaultPolicy":["read"]},"team/y/*":{"defaultPolicy":[]},`,
			[]string{"team/x/*", "team/y/*"},
		},
		{[]schema.Resource{rule, namespace, robot}, `"team/**/*":{"anonymousPolicy":["read"],"defaultPolicy":["read"]},`, []string{"team/**/*"}},
		{[]schema.Resource{namespace, robot}, `"team/**/*":{"anonymousPolicy":["read"]},`, []string{"team/**/*"}},
	} {
		data := filepath.Join(t.TempDir(), "data")
		st := schema.State{Resources: c.what}
		cycle(t, inData(t, data), st)
		file := filepath.Join(data, "config.json")
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		const at = `"repositories": {`
		if err := os.WriteFile(file, []byte(strings.Replace(string(b), at, at+c.lines, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		p := inData(t, data)
		norm, _, err := p.Normalize(st)
		if err != nil {
			t.Fatal(err)
		}
		live := readEverything(t, p)
		key := schema.Key{Kind: schema.KindSettings}
		have, _ := live.Get(key)
		want, _ := norm.Get(key)
		const field = "values.process.shadowed"
		v, err := p.Prepare(t.Context(), []plan.Change{{Action: plan.Update, Key: key, Before: &have, After: &want, Fields: []plan.Field{{Path: field}}}})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range c.want {
			if !strings.Contains(v[0].Refused, strconv.Quote(name)) {
				t.Errorf("%s: %q is not named: %q", c.lines, name, v[0].Refused)
			}
		}
		if n := strings.Count(v[0].Refused, "the pattern"); n != len(c.want) {
			t.Errorf("%s: %d are named: %s", c.lines, n, v[0].Refused)
		}
		if n, err := providertest.DirectCycle(t.Context(), p, st); n == 0 && err == nil {
			t.Errorf("%s: nothing to do", c.lines)
		}
	}
}

// TestAForeignPasswordIsDrift: Zot takes some lines that are no hash of bcrypt as
// it is written, and refuses others; none is the declared password, also where
// that is not at hand.
func TestAForeignPasswordIsDrift(t *testing.T) {
	ref := &schema.SecretRef{Env: providertest.SecretA}
	st := schema.State{Resources: []schema.Resource{
		{Key: schema.Key{Kind: schema.KindUser, Name: "dev"}, Spec: &schema.User{Password: ref}},
		{Key: schema.Key{Kind: schema.KindUser, Name: "ops"}, Spec: &schema.User{Password: ref}},
	}}
	evil, err := bcrypt.GenerateFromPassword([]byte("evil"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "data")
	cycle(t, inData(t, data), st)
	file := filepath.Join(data, "htpasswd")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	right := ""
	for line := range strings.Lines(string(good)) {
		if hash, ok := strings.CutPrefix(line, "dev:"); ok {
			right = strings.TrimSpace(hash)
		}
	}
	for _, line := range []string{
		"dev:" + string(evil), "dev:" + string(evil) + " ", "dev:" + string(evil) + "x", "dev: " + string(evil), " dev:" + string(evil),
		"dev:" + right + " ", "dev:$6$salt$abc", "dev:$5$salt$abc", "dev:$apr1$a$b", "dev:{SHA}x", "dev:", "dev:$2x" + string(evil)[3:], "dev:" + right + "\ndev:" + string(evil),
	} {
		if err := os.WriteFile(file, []byte(strings.Replace(string(good), "dev:"+right, line, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		p := inData(t, data)
		if r, ok := readEverything(t, p).Get(schema.Key{Kind: schema.KindUser, Name: "dev"}); !ok {
			t.Fatal("dev is gone")
		} else if len(r.Unread) > 0 { // as far as anybody can tell it may be the declared one
			if !strings.HasSuffix(line, "dev:"+string(evil)) {
				t.Errorf("%q is believed to be a password", line)
			}
			if equal, err := p.Check(t.Context(), r.Key, "password", *ref); equal || err != nil {
				t.Errorf("%q: %v, %v", line, equal, err)
			}
		}
		if n, err := providertest.DirectCycle(t.Context(), p, st); n != 1 || err != nil {
			t.Errorf("%q: %d changes, %v", line, n, err)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if s := string(b); strings.Count(s, "dev:") != 1 || strings.Contains(s, string(evil)[7:]) || !strings.Contains(s, "\ndev:$2a$") {
			t.Errorf("%q becomes %q", line, s)
		}
		if n := cycle(t, inData(t, data), st); n != 0 {
			t.Errorf("%q: %d changes once it was applied", line, n)
		}
	}
}

func TestAPasswordChangedAfterAReadIsSeen(t *testing.T) {
	ref := schema.SecretRef{Env: providertest.SecretA}
	key := schema.Key{Kind: schema.KindUser, Name: "dev"}
	data := filepath.Join(t.TempDir(), "data")
	cycle(t, inData(t, data), schema.State{Resources: []schema.Resource{{Key: key, Spec: &schema.User{Password: &ref}}}})
	evil, err := bcrypt.GenerateFromPassword([]byte("evil"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(data, "htpasswd")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	bad := regexp.MustCompile("(?m)^dev:.*$").ReplaceAllLiteral(good, append([]byte("dev:"), evil...))
	p := inData(t, data)
	readEverything(t, p)
	for i, text := range [][]byte{good, bad, good} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if equal, err := p.Check(t.Context(), key, "password", ref); equal != (i != 1) || err != nil {
			t.Errorf("%d: equal %t, %v", i, equal, err)
		}
	}
}

// TestANewRegistryIsReadFromItsFiles: before it was ever started nobody answers,
// and what it will serve lies there already.
func TestANewRegistryIsReadFromItsFiles(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	scope := schema.ScopeOf(schema.KindNamespace)
	scope.Repositories = []string{"*"}
	for _, name := range []string{"", "team/left"} {
		if name != "" { // its configuration was lost, and its content was not
			dir := filepath.Join(data, "storage", filepath.FromSlash(name))
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte(`{"manifests":[]}`), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		st, err := inData(t, data).Read(t.Context(), scope)
		if err != nil {
			t.Fatal(err)
		}
		if name == "" && len(st.Repositories) != 0 || name != "" && (len(st.Repositories) != 1 || st.Repositories[0].Name != name) {
			t.Errorf("%q: %+v", name, st.Repositories)
		}
	}
	rule := schema.Resource{Key: schema.Key{Kind: schema.KindAccess, Name: "team"}, Spec: &schema.Access{}}
	v, err := inData(t, data).Prepare(t.Context(), []plan.Change{{Action: plan.Create, Key: rule.Key, After: &rule}})
	if err != nil || len(v[0].Notes) != 0 { // it begins with rules, and closes nothing
		t.Errorf("%+v, %v", v, err)
	}
}

// TestTheFirstAnonymousRuleSaysWhatDockerMakesOfIt, beside accounts and on the
// version that does so alone.
func TestTheFirstAnonymousRuleSaysWhatDockerMakesOfIt(t *testing.T) {
	change := func(kind schema.Kind, name string, spec schema.Spec) plan.Change {
		r := schema.Resource{Key: schema.Key{Kind: kind, Name: name}, Spec: spec}
		return plan.Change{Action: plan.Create, Key: r.Key, After: &r}
	}
	user := change(schema.KindUser, "ann", &schema.User{})
	open, shut := change(schema.KindAccess, "a", &schema.Access{Anonymous: new(schema.Pull)}), change(schema.KindAccess, "b", &schema.Access{Anonymous: new(schema.Rights(0))})
	for _, c := range []struct {
		repositories, accounts, image string
		changes                       []plan.Change
		want                          int // the change that says so, -1 for none
	}{
		{`"**":{}`, "ann:x\n", "zot:v2.1.6", []plan.Change{shut, open, open}, 1},
		{`"**":{}`, "", "zot:v2.1.6", []plan.Change{user, open}, 1},
		{`"**":{}`, "", "zot", []plan.Change{user, open}, 1}, // nobody knows
		{`"**":{}`, "", "zot:v2.1.6", []plan.Change{open}, -1},
		{`"**":{}`, "ann:x\n", "zot:v2.1.20", []plan.Change{open}, -1},
		{`"**":{"anonymousPolicy":["read"]}`, "ann:x\n", "zot:v2.1.6", []plan.Change{open}, -1},
		{`"**":{}`, "ann:x\n", "zot:v2.1.6", []plan.Change{shut}, -1},
	} {
		data := t.TempDir()
		for name, text := range map[string]string{"config.json": `{"storage":{"rootDirectory":"/nonexistent"},"http":{"auth":{"htpasswd":{"path":"` + data + `/htpasswd"}},"accessControl":{"repositories":{` + c.repositories + `}}}}`, "htpasswd": c.accounts} {
			if err := os.WriteFile(filepath.Join(data, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		p, err := zot.New(schema.Registry{Type: schema.TypeZot, URL: "http://127.0.0.1:9", Run: &schema.Run{Driver: schema.DriverDocker, Data: data, Image: c.image}}, nil, providertest.Secrets{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		v, err := p.Prepare(t.Context(), c.changes)
		if err != nil {
			t.Fatal(err)
		}
		for i := range v {
			if says := strings.Contains(strings.Join(v[i].Notes, "\n"), "docker login"); says != (i == c.want) {
				t.Errorf("%s %q %s: change %d of %d says so: %v", c.repositories, c.accounts, c.image, i, len(v), says)
			}
		}
	}
}

// TestAPatternWithinANamespaceIsSaid: one of a namespace that nobody declared, and
// one that stood before a rule that was there before ocisync was.
func TestAPatternWithinANamespaceIsSaid(t *testing.T) {
	const text = `{"storage":{"rootDirectory":"/nonexistent"},"http":{"address":"127.0.0.1","port":"9","accessControl":{
		"repositories":{"team/**":{"defaultPolicy":["read"]},"team/apps/**":{"anonymousPolicy":["read"]},"team/own/**":{"defaultPolicy":["read"]},"other/x/**":{},"tea?/**":{"anonymousPolicy":["read"]}}}}}`
	object := func(kind schema.Kind, name string, spec schema.Spec) schema.Resource {
		return schema.Resource{Key: schema.Key{Kind: kind, Name: name}, Spec: spec}
	}
	_, name := placed(t, text, "")
	p, err := zot.New(schema.Registry{Type: schema.TypeZot, URL: "http://127.0.0.1:9", Files: &schema.FilePaths{Config: name}}, nil, providertest.Secrets{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	notes, err := p.Remarks(t.Context(), schema.State{Resources: []schema.Resource{
		object(schema.KindNamespace, "team", &schema.Namespace{}), object(schema.KindAccess, "team", &schema.Access{}), object(schema.KindNamespace, "team/own", &schema.Namespace{}),
	}}, time.Now())
	if err != nil || len(notes) != 1 || notes[0].Key.Name != "team" || !strings.HasPrefix(notes[0].Text, `"tea?/**", "team/apps/**" of `) {
		t.Errorf("%+v, %v", notes, err)
	}
}

// TestAnAdministratorThatNobodyDeclaredIsSaid: where admin is left out there is
// nothing that it could differ from.
func TestAnAdministratorThatNobodyDeclaredIsSaid(t *testing.T) {
	const text = `{"storage":{"rootDirectory":"/nonexistent"},"http":{"address":"127.0.0.1","port":"9","accessControl":{
		"repositories":{"**":{}},"adminPolicy":{"users":["left","said","not","stranger"],"actions":["read","create","update","delete"]}}}}`
	user := func(name string, admin *bool) schema.Resource {
		return schema.Resource{Key: schema.Key{Kind: schema.KindUser, Name: name}, Spec: &schema.User{Admin: admin}}
	}
	p, _ := placed(t, text, "")
	st := schema.State{Resources: []schema.Resource{user("left", nil), user("not", new(false)), user("said", new(true))}}
	notes, err := p.Remarks(t.Context(), st, time.Now())
	if err != nil || len(notes) != 1 || !strings.Contains(notes[0].Text, "makes administrators of left, stranger,") {
		t.Errorf("%+v, %v", notes, err)
	}
}

// TestTheCollectionOfASubPathIsASetting: the kind gc is of the main storage alone.
func TestTheCollectionOfASubPathIsASetting(t *testing.T) {
	p, name := placed(t, `{"storage":{"rootDirectory":"/nonexistent/a","subPaths":{"/big":{"rootDirectory":"/nonexistent/b"}}},"http":{"address":"127.0.0.1","port":"9"}}`, "")
	c := made(schema.KindRetention, "big", &schema.Retention{Keep: []schema.KeepRule{{Newest: 2}}})
	v, err := p.Prepare(t.Context(), []plan.Change{c})
	if err != nil || !strings.Contains(strings.Join(v[0].Notes, "\n"), `set storage.subPaths."/big".gc`) {
		t.Errorf("retention where nothing collects: %+v, %v", v, err)
	}
	for _, value := range []schema.Value{
		{Path: `storage.subPaths."/big".gc`, JSON: `true`},
		{Path: `storage.subPaths."/big".gcInterval`, JSON: `"2h"`},
	} {
		live, err := p.Read(t.Context(), schema.ScopeOf(schema.KindSettings))
		if err != nil || len(live.Resources) != 1 {
			t.Fatalf("there are %v, %v", live.Resources, err)
		}
		if kind, owned := schema.OwnedSetting(schema.TypeZot, value.Path); owned {
			t.Errorf("a mode may not set %s by its name, %s does", value.Path, kind)
		}
		c := made(schema.KindSettings, "", &schema.Settings{Values: schema.Values{value}})
		c.Action, c.Before = plan.Update, &live.Resources[0]
		if v, err := p.Prepare(t.Context(), []plan.Change{c}); err != nil || v[0].Refused != "" {
			t.Errorf("%s: %+v, %v", value.Path, v, err)
		}
		if err := written(t, p, c)["settings"]; err != nil {
			t.Errorf("%s: %v", value.Path, err)
		}
	}
	text, err := os.ReadFile(name)
	if err != nil || !strings.Contains(string(text), `"gc":true`) && !strings.Contains(string(text), `"gc": true`) || !strings.Contains(string(text), `"2h"`) {
		t.Errorf("the file has %s, %v", text, err)
	}
}
