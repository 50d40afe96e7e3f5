package zot_test

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/providers/zot"
	"github.com/ocisync/ocisync/schema"
)

// placed is a provider of a hand-written configuration that nobody runs.
func placed(t testing.TB, text, accounts string) (*zot.Provider, string) {
	t.Helper()
	dir := t.TempDir()
	name := filepath.Join(dir, "zot.json")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "htpasswd"), []byte(accounts), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := zot.New(schema.Registry{
		Type: schema.TypeZot, URL: "http://127.0.0.1:9",
		Files: &schema.FilePaths{Config: name},
	}, nil, providertest.Secrets{}, nil, zot.HashCost(bcrypt.MinCost))
	if err != nil {
		t.Fatal(err)
	}
	return p, name
}

func readEverything(t testing.TB, p *zot.Provider) schema.State {
	t.Helper()
	st, err := p.Read(t.Context(), schema.ScopeOf(schema.Kinds()...))
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// handMade is what an administrator could have written.
const handMade = `{
	"distSpecVersion": "1.1.1",
	"storage": {
		"rootDirectory": "/nonexistent/zot", "gc": true, "gcDelay": "90m", "gcInterval": "24h",
		"retention": {"delay": "24h", "policies": [
			{"repositories": ["infra/**"], "deleteUntagged": true, "keepTags": [{"patterns": ["^v.*$"]}, {"patterns": [".*"], "mostRecentlyPushedCount": 5}]},
			{"repositories": ["tmp/*", "scratch/*"], "keepTags": [{"patterns": [".*"], "pulledWithin": "168h"}]},
			{"repositories": ["**"], "deleteReferrers": true}
		]}
	},
	"http": {
		"address": "127.0.0.1", "port": 9,
		"auth": {"htpasswd": {"path": "$DIR/htpasswd"}, "failDelay": 5},
		"accessControl": {
			"groups": {"ops": {"users": ["olga", "piotr"]}},
			"repositories": {
				"infra/**": {"anonymousPolicy": ["read"], "defaultPolicy": ["read"], "policies": [
					{"users": ["olga"], "groups": ["ops"], "actions": ["read", "create", "update", "delete"]},
					{"users": ["ext"], "actions": ["read", "create", "update"]}
				]},
				"releases/**": {"policies": [{"groups": ["ops"], "actions": ["read", "create"]}]},
				"mixed/**": {"policies": [{"users": ["olga"], "actions": ["read", "create"]}, {"users": ["piotr"], "actions": ["read", "create", "update"]}]},
				"tmp/*": {"defaultPolicy": ["read", "create", "update", "delete"]}
			},
			"adminPolicy": {"users": ["olga"], "actions": ["read", "create", "update", "delete"]}
		}
	},
	"log": {"level": "info", "audit": "/var/log/zot-audit.log"}
}
`

func handMadeAt(t testing.TB) (*zot.Provider, string) {
	t.Helper()
	p, name := placed(t, handMade, "# people\nolga:$2y$05$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\npiotr:x\n")
	if err := os.WriteFile(name, []byte(strings.ReplaceAll(handMade, "$DIR", filepath.Dir(name))), 0o600); err != nil {
		t.Fatal(err)
	}
	return p, name
}

func TestAHandWrittenConfigurationReadsAsCleanObjects(t *testing.T) {
	p, _ := handMadeAt(t)
	st := readEverything(t, p)
	get := func(kind schema.Kind, name string) string {
		r, ok := st.Get(schema.Key{Kind: kind, Name: name})
		if !ok {
			return ""
		}
		b, err := r.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		_, spec, _ := strings.Cut(string(b), `"spec":`)
		spec, _, _ = strings.Cut(spec, `,"unread"`)
		spec, _, _ = strings.Cut(spec, `,"version"`)
		return spec
	}
	for _, want := range []struct {
		kind       schema.Kind
		name, spec string
	}{
		{schema.KindUser, "olga", `{"admin":true}`},
		{schema.KindUser, "piotr", `{"admin":false}`},
		{schema.KindUser, "ext", `{"admin":false}`}, // a rule names it
		{schema.KindGroup, "ops", `{"users":["olga","piotr"]}`},
		{schema.KindNamespace, "infra", `{"description":""}`},
		{schema.KindAccess, "infra", `{"anonymous":["pull"],"authenticated":["pull"],"users":{"ext":["pull","push"],"olga":["pull","push","delete"]},"groups":{"ops":["pull","push","delete"]}}`},
		{schema.KindAccess, "releases", `{"anonymous":[],"authenticated":[],"users":{},"groups":{"ops":["pull","push"]}}`},
		{schema.KindImmutable, "releases", `{"rules":[{"tags":"**"}]}`},
		{schema.KindAccess, "mixed", ""}, // no rule says it
		{schema.KindRetention, "infra", `{"keep":[{"tags":"v*","always":true},{"newest":5}],"untagged":true}`},
		{schema.KindGC, "", `{"schedule":"@every 24h","delay":"90m"}`},
		{schema.KindAudit, "", `{"log":"/var/log/zot-audit.log"}`},
	} {
		if got := get(want.kind, want.name); got != want.spec {
			t.Errorf("%s/%s: %s, want %s", want.kind, want.name, got, want.spec)
		}
	}
	if st.Scope.Covers(schema.Key{Kind: schema.KindAccess, Name: "mixed"}) {
		t.Error("a rule that cannot be said counts as read")
	}
}

func TestWhatWasReadIsWhatStandsThere(t *testing.T) {
	names, err := filepath.Glob("config/testdata/*.json")
	if err != nil || len(names) < 20 {
		t.Fatalf("%d configurations, %v", len(names), err)
	}
	names = append(names, "testdata/copies-and-many-rules.json")
	texts := map[string]string{"by hand": handMade}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[filepath.Base(name)] = string(b)
	}
	for name, text := range texts {
		t.Run(name, func(t *testing.T) {
			p, file := placed(t, text, "")
			// The accounts' file of the example is not on this host.
			b := []byte(strings.NewReplacer("$DIR", filepath.Dir(file), "/etc/zot/htpasswd", filepath.Dir(file)+"/htpasswd").Replace(text))
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			live := readEverything(t, p)
			desired := schema.State{Scope: live.Scope}
			for _, r := range live.Resources {
				desired.Resources = append(desired.Resources, schema.Resource{Key: r.Key, Spec: r.Spec})
			}
			if n, err := providertest.DirectCycle(t.Context(), p, desired); n != 0 || err != nil {
				t.Errorf("as it was read it makes %d changes, %v", n, err)
			}
			after, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(b), string(after)); diff != "" {
				t.Errorf("the file changed:\n%s", diff)
			}
		})
	}
}

func TestWhatIsNotManagedStaysByteForByte(t *testing.T) {
	p, name := handMadeAt(t)
	before, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	pull := schema.Pull
	st := schema.State{Resources: []schema.Resource{
		{Key: schema.Key{Kind: schema.KindNamespace, Name: "apps"}, Spec: &schema.Namespace{}},
		{Key: schema.Key{Kind: schema.KindAccess, Name: "apps"}, Spec: &schema.Access{Authenticated: &pull}},
		{Key: schema.Key{Kind: schema.KindRetention, Name: "apps"}, Spec: &schema.Retention{Keep: []schema.KeepRule{{Newest: 3}}}},
	}}
	if err := st.Sort(); err != nil {
		t.Fatal(err)
	}
	if _, err := providertest.DirectCycle(t.Context(), p, st); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, line := range strings.Split(string(before), "\n") {
		line = strings.TrimSuffix(line, ",")
		i := strings.Index(string(after)[at:], line)
		if i < 0 {
			t.Errorf("this line is gone, or stands before others: %s", line)
			continue
		}
		at += i
	}
	if added := len(strings.Split(string(after), "\n")) - len(strings.Split(string(before), "\n")); added > 20 {
		t.Errorf("%d lines more", added)
	}
	ours := strings.Index(string(after), `"apps/**"`)
	if strings.Index(string(after), `["tmp/*", "scratch/*"]`) < ours {
		t.Errorf("our policy stands behind one of nobody's:\n%s", after)
	}
}

// A text is a list of one to Zot, commas or not.
func TestListsAsOneTextAreReadAsZotReadsThem(t *testing.T) {
	p, _ := placed(t, `{"storage":{"rootDirectory":"/nonexistent"},"http":{"address":"127.0.0.1","port":"9","auth":{"htpasswd":{"path":"/nonexistent"}},"accessControl":{"repositories":{"a/**":{
		"defaultPolicy":"read,create,update","policies":[{"users":"x","actions":"read"},{"users":"z","actions":"read,create"}]},"b/**":{"policies":[{"users":"x,y","actions":["read"]}]}},
		"groups":{"g":{"users":"x,y"}}}}}`, "")
	st := readEverything(t, p)
	r, _ := st.Get(schema.Key{Kind: schema.KindAccess, Name: "a"})
	spec, ok := r.Spec.(*schema.Access)
	if want := schema.NewGrants(schema.Grant{Name: "x", Rights: schema.Pull}); !ok || !cmp.Equal(spec.Users, want) || *spec.Authenticated != 0 {
		t.Errorf("%+v", r.Spec)
	}
	for _, r := range st.Resources { // no mode can name that account
		if b, err := r.MarshalJSON(); err != nil || r.Key == (schema.Key{Kind: schema.KindAccess, Name: "b"}) || r.Key.Kind != schema.KindSettings && strings.Contains(string(b), "x,y") {
			t.Errorf("%s, %v", b, err)
		}
	}
	left, err := p.Left(t.Context(), st)
	if err != nil || !slices.ContainsFunc(left, func(l providers.Leftover) bool {
		return strings.Contains(l.What, `"b/**"`) && strings.Contains(l.Why, "comma")
	}) {
		t.Errorf("left are %+v, %v", left, err)
	}
}

// Who does not log in has no name, and so the rights of a user without one.
func TestAUserWithoutANameIsAnybody(t *testing.T) {
	for users, unsayable := range map[string]bool{`""`: true, `["x",""]`: true, `["x"]`: false} {
		p, _ := placed(t, `{"storage":{"rootDirectory":"/nonexistent"},"http":{"address":"127.0.0.1","port":"9","auth":{"htpasswd":{"path":"/nonexistent"}},"accessControl":{"repositories":{"a/**":{"policies":[{"users":`+users+`,"actions":["read"]}]}}}}}`, "")
		st := readEverything(t, p)
		if _, ok := st.Get(schema.Key{Kind: schema.KindAccess, Name: "a"}); ok == unsayable {
			t.Errorf("%s: it is read: %v", users, ok)
		}
		if _, ok := st.Get(schema.Key{Kind: schema.KindUser}); ok {
			t.Errorf("%s: a user without a name", users)
		}
	}
}

// Zot forgets tables that hold nothing, and goes by the pattern that decides then.
func TestWhatZotForgetsIsNoObject(t *testing.T) {
	for _, control := range []string{
		`{"repositories":{"f/**":{},"g/**":null,"h/**":{"policies":null},"**":{"defaultPolicy":["read"]}},"groups":{"g":{}},"adminPolicy":{"users":null}}`,
		`{"repositories":{"f/**":{}}}`, `{}`, `{"repositories":{}}`, `{"metrics":{}}`,
	} {
		p, name := placed(t, `{"storage":{"rootDirectory":"/nonexistent"},"http":{"address":"127.0.0.1","port":"9","auth":{"htpasswd":{"path":"$DIR"},"ldap":{}},"accessControl":`+control+`}}`, "")
		if err := os.WriteFile(name, []byte(strings.ReplaceAll(string(mustRead(t, name)), "$DIR", filepath.Dir(name)+"/htpasswd")), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, r := range readEverything(t, p).Resources {
			if r.Key.Kind != schema.KindSettings && r.Key.Kind != schema.KindGC {
				t.Errorf("%s: %s", control, r.Key)
			}
		}
		left, err := p.Left(t.Context(), schema.State{Resources: readEverything(t, p).Resources})
		if err != nil || len(left) > 0 && !strings.Contains(control, `"**"`) {
			t.Errorf("%s: left are %+v, %v", control, left, err)
		}
	}
}

func mustRead(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTheFirstRuleIsTheFirstWhateverEmptyTablesStandThere: to Zot there is no access
// control, which it does not take up while it runs.
func TestTheFirstRuleIsTheFirstWhateverEmptyTablesStandThere(t *testing.T) {
	for _, control := range []string{`null`, `{}`, `{"repositories":{}}`, `{"metrics":{}}`, `{"repositories":{"f/**":{},"**":null}}`, `{"groups":{"g":{}},"adminPolicy":{}}`} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "root", "f", "app"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "root", "f", "app", "index.json"), []byte(`{"manifests":[]}`), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		text := `{"storage":{"rootDirectory":"` + dir + `/root"},"http":{"address":"127.0.0.1","port":"9","auth":{"htpasswd":{"path":"` + dir + `/htpasswd"}},"accessControl":` + control + `}}`
		if err := os.WriteFile(filepath.Join(dir, "zot.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := zot.New(schema.Registry{Type: schema.TypeZot, URL: "http://" + l.Addr().String(), Files: &schema.FilePaths{Config: filepath.Join(dir, "zot.json")}}, nil, providertest.Secrets{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		v, err := p.Prepare(t.Context(), []plan.Change{
			made(schema.KindNamespace, "f", &schema.Namespace{}),
			made(schema.KindAccess, "f", &schema.Access{Users: schema.NewGrants(schema.Grant{Name: "alice", Rights: schema.Pull})}),
		})
		if err != nil {
			t.Fatal(err)
		}
		notes := strings.Join(v[1].Notes, "\n")
		if v[1].Effect != plan.ByHand || !strings.Contains(notes, "is the first rule of this registry") || !strings.Contains(notes, "closes to all that it does not name: f/app") {
			t.Errorf("%s: %s, %s", control, v[1].Effect, notes)
		}
	}
}

// copying is a configuration whose sync somebody wrote.
const copying = `{
	"storage": {"rootDirectory": "/nonexistent/zot"},
	"http": {"address": "127.0.0.1", "port": 9},
	"extensions": {"sync": {
		"enable": true, "credentialsFile": "$DIR/sync.json",
		"registries": [
			{"urls": ["https://registry.example"], "pollInterval": "6h", "tlsVerify": true, "content": [{"prefix": "/library/alpine", "destination": "/mirror", "tags": {"regex": "^3\\.19.*$"}}]},
			{ "urls": [ "https://registry.example" ],  "pollInterval": "90m", "content": [ {"prefix": "tools/**"} ] },
			{"urls": ["http://other.example:5000/base"], "onDemand": true, "tlsVerify": false, "content": [{"prefix": "**", "destination": "/cache/other"}]},
			{"urls": ["https://registry.example"], "pollInterval": "6h", "maxRetries": 5, "content": [{"prefix": "more/**"}]},
			{"urls": ["https://registry.example"], "pollInterval": "6h", "onlySigned": true, "content": [{"prefix": "signed/**"}]},
			{"urls": ["https://a.example", "https://b.example"], "pollInterval": "6h", "content": [{"prefix": "**"}]},
			{"urls": ["https://registry.example"], "onDemand": true, "content": [{"prefix": "**"}]},
			{"urls": ["https://registry.example"], "pollInterval": "6h", "content": [{"prefix": "**", "tags": {"regex": "^(a|b)$"}}]},
			{"urls": ["https://user:word@c.example"], "pollInterval": "6h", "content": [{"prefix": "**"}]}
		]
	}}
}
`

func copyingAt(t testing.TB) (*zot.Provider, string) {
	t.Helper()
	p, name := placed(t, copying, "")
	for file, text := range map[string]string{
		name: strings.ReplaceAll(copying, "$DIR", filepath.Dir(name)),
		filepath.Join(filepath.Dir(name), "sync.json"): `{"registry.example": {"username": "puller", "password": "a secret word"}}`,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p, name
}

func TestSyncWrittenByHandReadsAsRemotesAndWhatTheyFeed(t *testing.T) {
	p, _ := copyingAt(t)
	st := readEverything(t, p)
	got := map[string]string{}
	for _, r := range st.Resources {
		switch r.Key.Kind {
		case schema.KindRemote, schema.KindReplication, schema.KindNamespace:
			b, err := r.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			_, spec, _ := strings.Cut(string(b), `"spec":`)
			spec, _, _ = strings.Cut(spec, `,"version"`)
			got[r.Key.String()] = spec
		}
	}
	want := map[string]string{
		"remote/registry.example":                            `{"type":"oci","url":"https://registry.example","login":{"user":"puller"}},"unread":["login.password"]`,
		"remote/other.example-5000-base-http-insecure":       `{"type":"oci","url":"http://other.example:5000/base","tls":{"insecure":true}}`,
		"replication/registry.example-library-alpine-mirror": `{"from":"registry.example","namespace":"mirror","match":{"repositories":"/library/alpine","tags":"3.19*"},"trigger":{"schedule":"@every 6h"}}`,
		"replication/registry.example-tools":                 `{"from":"registry.example","match":{"repositories":"tools/**"},"trigger":{"schedule":"@every 1h30m"}}`,
		"replication/registry.example-more":                  `{"from":"registry.example","match":{"repositories":"more/**"},"trigger":{"schedule":"@every 6h"}}`,
		"namespace/mirror":                                   `{"description":""}`,
		"namespace/cache/other":                              `{"description":"","proxy_of":"other.example-5000-base-http-insecure"}`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestSyncWrittenByHandIsChangedInItsPlace takes out what was found, and
// changes it; all else stays.
func TestSyncWrittenByHandIsChangedInItsPlace(t *testing.T) {
	entries := func(name string) (list []string) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(b), "\n") {
			if strings.Contains(line, `"urls"`) {
				list = append(list, strings.TrimSuffix(strings.TrimSpace(line), ","))
			}
		}
		return list
	}
	write := func(p *zot.Provider, c plan.Change) {
		t.Helper()
		if err := p.Write(t.Context(), []plan.Change{c}, func(k schema.Key, err error) {
			if err != nil {
				t.Errorf("%s: %v", k, err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	p, name := copyingAt(t)
	before := entries(name)
	tools, _ := readEverything(t, p).Get(schema.Key{Kind: schema.KindReplication, Name: "registry.example-tools"})
	write(p, plan.Change{Action: plan.Delete, Key: tools.Key, Before: &tools})
	if d := cmp.Diff(slices.Concat(before[:1], before[2:]), entries(name)); d != "" {
		t.Errorf("after a deletion: %s", d)
	}
	cache, _ := readEverything(t, p).Get(schema.Key{Kind: schema.KindNamespace, Name: "cache/other"})
	write(p, plan.Change{Action: plan.Delete, Key: cache.Key, Before: &cache})
	if d := cmp.Diff(slices.Concat(before[:1], before[3:]), entries(name)); d != "" {
		t.Errorf("after the namespace's: %s", d)
	}
	alpine, _ := readEverything(t, p).Get(schema.Key{Kind: schema.KindReplication, Name: "registry.example-library-alpine-mirror"})
	spec, _ := alpine.Spec.(*schema.Replication)
	after := *spec
	after.Trigger = &schema.Trigger{Schedule: "@every 1h"}
	write(p, plan.Change{Action: plan.Update, Key: alpine.Key, Before: &alpine, After: &schema.Resource{Key: alpine.Key, Spec: &after}, Fields: []plan.Field{{Path: "trigger"}}})
	if got := entries(name); len(got) != len(before)-2 || !strings.Contains(strings.Join(got, ""), `"pollInterval": "1h"`) {
		t.Errorf("after a change: %q", got)
	} else if d := cmp.Diff(before[3:], got[1:]); d != "" {
		t.Errorf("after a change: %s", d)
	}
	more, _ := readEverything(t, p).Get(schema.Key{Kind: schema.KindReplication, Name: "registry.example-more"})
	tuned := *more.Spec.(*schema.Replication)
	tuned.Trigger = after.Trigger
	write(p, plan.Change{Action: plan.Update, Key: more.Key, Before: &more, After: &schema.Resource{Key: more.Key, Spec: &tuned}, Fields: []plan.Field{{Path: "trigger"}}})
	if got := strings.Join(entries(name), "\n"); !strings.Contains(got, `"pollInterval": "1h", "maxRetries": 5,`) {
		t.Errorf("after a change of one that is tuned: %s", got)
	}
	again, ok := readEverything(t, p).Get(alpine.Key)
	if !ok || !cmp.Equal(again.Spec, schema.Spec(&after)) {
		t.Errorf("it reads as %+v", again.Spec)
	}
	if _, ok := readEverything(t, p).Get(schema.Key{Kind: schema.KindRemote, Name: "registry.example"}); !ok {
		t.Error("and its remote is gone")
	}
}

// TestHowSomethingIsCopiedIsNobodysToChange: retries that somebody added to what
// ocisync wrote are no drift, and outlive a change.
func TestHowSomethingIsCopiedIsNobodysToChange(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	st := func(every string) schema.State {
		return schema.State{Resources: []schema.Resource{
			{Key: schema.Key{Kind: schema.KindRemote, Name: "up"}, Spec: &schema.Remote{Type: new("oci"), URL: new("https://up.example")}},
			{Key: schema.Key{Kind: schema.KindNamespace, Name: "cache"}, Spec: &schema.Namespace{ProxyOf: new("up")}},
			{Key: schema.Key{Kind: schema.KindReplication, Name: "copy"}, Spec: &schema.Replication{From: new("up"), Trigger: &schema.Trigger{Schedule: every}}},
		}}
	}
	cycle(t, inData(t, data), st("@every 1h"))
	file := filepath.Join(data, "config.json")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tuned := strings.ReplaceAll(string(b), `"tlsVerify": true,`, `"tlsVerify": true, "maxRetries": 7,`)
	if err := os.WriteFile(file, []byte(tuned), 0o600); err != nil || strings.Count(tuned, "maxRetries") != 2 {
		t.Fatal(err, tuned)
	}
	if n := cycle(t, inData(t, data), st("@every 1h")); n != 0 {
		t.Errorf("%d changes", n)
	}
	if n := cycle(t, inData(t, data), st("@every 2h")); n != 1 {
		t.Errorf("%d changes of one", n)
	}
	if b, err = os.ReadFile(file); err != nil || strings.Count(string(b), `"maxRetries": 7`) != 2 || !strings.Contains(string(b), `"2h"`) {
		t.Errorf("%v:\n%s", err, b)
	}
}

// TestWhatNoObjectSaysIsListedWithWhy, so that who adopts knows what stays by hand.
func TestWhatNoObjectSaysIsListedWithWhy(t *testing.T) {
	p, name := handMadeAt(t)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	more := strings.NewReplacer(
		`"tmp/*": {`, `"**": {"anonymousPolicy": ["read"], "defaultPolicy": ["read", "create"]}, "tmp/*": {`,
		`"adminPolicy": {`, `"metrics": {"users": ["olga"]}, "adminPolicy": {"groups": ["ops"], `,
		`"log": {`, `"extensions": {"sync": {"registries": [{"urls": ["https://u:secret@a.example", "https://b.example"], "onDemand": true}]}, "trust": {"cosign": true}}, "log": {`,
	).Replace(string(b))
	if err := os.WriteFile(name, []byte(more), 0o600); err != nil {
		t.Fatal(err)
	}
	lines := func(desired schema.State) string {
		t.Helper()
		list, err := p.Left(t.Context(), desired)
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		for _, l := range list {
			text.WriteString(l.What + ": " + l.Why + "\n")
		}
		return text.String()
	}
	live := readEverything(t, p)
	text := lines(live)
	for _, want := range []string{
		`the passwords of "olga": htpasswd holds hashes alone`, `the passwords of "piotr": their hashes are not of bcrypt`,
		`the pattern "**": it decides`, `the patterns "tmp/*": they are of no namespace`, `the patterns "mixed/**": they give what no rule says`,
		`the groups "ops": they are in http.accessControl.adminPolicy`, `the keys http.accessControl.metrics: `,
		`the retention of "tmp/*"+"scratch/*", "**": `, `the keys storage.retention.delay: `,
		`sync from https://u:xxxxx@a.example: `, `the keys extensions.trust.cosign: `,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not among\n%s", want, text)
		}
	}
	for _, not := range []string{"objects", "settings ", "infra", "releases", "secret", "adminPolicy: it gives less"} {
		if strings.Contains(text, not) {
			t.Errorf("%s is among\n%s", not, text)
		}
	}
	text = lines(schema.State{})
	for _, want := range []string{`"namespace/infra"`, `settings distSpecVersion, http.address, `, "[registry.zot]"} {
		if !strings.Contains(text, want) {
			t.Errorf("of an empty mode: %s is not among\n%s", want, text)
		}
	}
}
