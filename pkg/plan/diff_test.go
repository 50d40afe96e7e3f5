package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/schema"
)

func change(t *testing.T, p Plan, key string) Change {
	t.Helper()
	for _, c := range p.all() {
		if c.Key.String() == key {
			return c
		}
	}
	t.Fatalf("%s is not in the plan: %v", key, p.lines())
	return Change{}
}

func TestIgnoredFieldsAreLeftAlone(t *testing.T) {
	day := func(d int) *schema.Date { return &schema.Date{Year: 2026, Month: 5, Day: d} }
	w := world{
		desired: []string{`user/a {"comment":"x","email":"e"}`, `access/n {"users":{"bob":["pull"],"eve":["pull"]}}`, `artifact/z {"annotations":{"k":"1","l":"2"}}`},
		live:    []string{`user/a {"comment":"y","email":"f"}`, `access/n {"users":{"bob":["admin"],"mallory":["pull"]}}`, `artifact/z {"annotations":{"k":"9"}}`},
		owned:   []string{"*"},
	}
	ignore := func(resource, field string, until *schema.Date) Plan {
		w.policy.Ignore = []schema.Ignore{{Resource: resource, Field: field, Reason: "by hand", Until: until}}
		return w.plan(t)
	}
	paths := func(p Plan, key string) string {
		var out []string
		for _, f := range change(t, p, key).Fields {
			out = append(out, f.Path)
		}
		return strings.Join(out, " ")
	}
	for _, c := range []struct {
		resource, field string
		until           *schema.Date
		key, want       string
		note            bool
	}{
		{"user/*", "comment", nil, "user/a", "email", true},
		{"user/*", "comment", day(1), "user/a", "email", true}, // still holds on its last day
		{"user/*", "comment", &schema.Date{Year: 2026, Month: 4, Day: 30}, "user/a", "comment email", false},
		{"user/b", "comment", nil, "user/a", "comment email", false},
		{"user/*", "com", nil, "user/a", "comment email", false}, // whole parts only
		{"access/*", "users.bob", nil, "access/n", "users.eve users.mallory", true},
		{"*", "users.mallory", nil, "access/n", "users.bob users.eve", true},
		{"artifact/*", "annotations.k", nil, "artifact/z", "annotations.l", true},
	} {
		p := ignore(c.resource, c.field, c.until)
		if got := paths(p, c.key); got != c.want {
			t.Errorf("ignore %s of %s: the plan changes %q, want %q", c.field, c.resource, got, c.want)
		}
		if got := strings.Contains(notes(p), c.key+": "+c.field+" differs and is ignored: by hand"); got != c.note {
			t.Errorf("ignore %s of %s: said %v, want %v: %s", c.field, c.resource, got, c.note, notes(p))
		}
	}
	after := change(t, ignore("access/*", "users.bob", nil), "access/n").After
	if got := asJSON(t, after.Spec); got != `{"users":{"bob":["admin"],"eve":["pull"]}}` {
		t.Errorf("an ignored entry is not as it is live: %s", got)
	}
	w.live = nil
	if got := paths(ignore("user/*", "comment", nil), "user/a"); got != "comment email" {
		t.Errorf("a new object is made as declared: %q", got)
	}
}

func TestPausedObjectsAreLeftAlone(t *testing.T) {
	w := world{desired: []string{`user/a {"email":"e"}`, "user/b"}, live: []string{"user/a"}, owned: []string{"*"}}
	pause := func(until *schema.Date) {
		w.directives = []schema.Directive{
			{Key: schema.Key{Kind: schema.KindUser, Name: "a"}, Paused: &schema.Pause{Until: until, Reason: "migration"}},
			{Key: schema.Key{Kind: schema.KindUser, Name: "b"}, Paused: &schema.Pause{Until: until, Reason: "migration"}},
		}
	}
	pause(nil)
	p := w.plan(t)
	check(t, p)
	checkNote(t, p, "user/a: paused: migration", "user/b: paused: migration")
	pause(&today)
	check(t, w.plan(t))
	pause(&schema.Date{Year: 2026, Month: 4, Day: 30})
	check(t, w.plan(t), "update user/a", "create user/b")
}

func limits(rows ...schema.Capability) schema.Table { return append(nativeTable(), rows...) }

func TestWhatTheRegistryCannotDoIsRefusedOrSaid(t *testing.T) {
	w := world{
		desired: []string{"namespace/a", `access/a {"users":{"bob":["pull"],"eve":["pull"]},"anonymous":[]}`, `access/b {"users":{}}`, `user/x {"email":"e","comment":"c"}`},
		live:    []string{"namespace/a", `access/a {"anonymous":["pull"]}`, "access/b", "user/x"}, owned: []string{"*"}, applied: []string{`access/a {"anonymous":["pull"]}`},
		table: limits(
			schema.Capability{Kind: schema.KindAccess, Field: "users", Support: schema.Unsupported, Reason: "no users here"},
			schema.Capability{Kind: schema.KindUser, Field: "email", Support: schema.Unsupported, Reason: "htpasswd has none"}),
	}
	p := w.plan(t)
	check(t, p, "update access/a", "update user/x",
		"refused: access/a: memory cannot do this: no users here", "refused: access/b: memory cannot do this: no users here", "refused: user/x: memory cannot do this: htpasswd has none")
	for _, r := range p.Refusals {
		if r.Field == "" {
			t.Errorf("%s names no field", r.String())
		}
	}
	w.policy.Unsupported = "note"
	p = w.plan(t)
	check(t, p, "update access/a", "update user/x")
	checkNote(t, p, "access/a: users left out: no users here", "access/b: users left out", "user/x: email left out: htpasswd has none")
	if got := asJSON(t, change(t, p, "access/a").After.Spec); got != `{"anonymous":[]}` {
		t.Errorf("a table that is left out reads as managed: %s", got)
	}
	if got := asJSON(t, change(t, p, "user/x").After.Spec); got != `{"comment":"c"}` {
		t.Errorf("a field that is left out is written: %s", got)
	}
	w.table = slices.DeleteFunc(nativeTable(), func(c schema.Capability) bool { return c.Kind == schema.KindUser })
	p = w.plan(t)
	checkNote(t, p, "user/x: left out: not part of this registry")
	w.policy.Unsupported = "refuse"
	if got := w.plan(t).lines(); !slices.Contains(got, "refused: user/x: memory cannot do this: not part of this registry") {
		t.Errorf("a kind without a row: %v", got)
	}
}

func TestAMoreSpecificRowDecides(t *testing.T) {
	w := world{
		desired: []string{`remote/r {"login":{"user":"u","robot":"x"},"url":"u"}`}, policy: schema.Policy{Unsupported: "note"},
		table: limits(schema.Capability{Kind: schema.KindRemote, Field: "login", Support: schema.Unsupported, Reason: "no"}, schema.Capability{Kind: schema.KindRemote, Field: "login.user", Support: schema.Native}),
	}
	if got := asJSON(t, change(t, w.plan(t), "remote/r").After.Spec); got != `{"url":"u","login":{"user":"u"}}` {
		t.Error(got)
	}
}

func TestEmulationIsSaidOnceForAKind(t *testing.T) {
	w := world{
		desired: []string{`quota/a {"limit":"1GiB"}`, `quota/b {"limit":"1GiB"}`, `retention/a {"zone":"UTC"}`},
		table: limits(schema.Capability{Kind: schema.KindQuota, Field: "limit", Support: schema.Emulated, Reason: "ocisync counts"},
			schema.Capability{Kind: schema.KindRetention, Field: "keep", Support: schema.Emulated, Reason: "not declared"}),
	}
	if got, want := notes(w.plan(t)), "quota: limit emulated: ocisync counts"; got != want {
		t.Errorf("notes %q, want %q", got, want)
	}
}

func TestSecretsShowAReferenceOrAWordNeverMore(t *testing.T) {
	w := world{desired: []string{`user/a {"email":"e","password":{"env":"OCISYNC_P"}}`}}
	field := func() Field {
		i := slices.IndexFunc(change(t, w.plan(t), "user/a").Fields, func(f Field) bool { return f.Path == "password" })
		if i < 0 {
			return Field{}
		}
		return change(t, w.plan(t), "user/a").Fields[i]
	}
	for _, c := range []struct {
		name string
		live []string
		m    Match
		want Field
	}{
		{"create", nil, Unknown, Field{Path: "password", New: `"(env OCISYNC_P)"`, Sensitive: true}},
		{"none there", []string{"user/a"}, Equal, Field{Path: "password", New: `"(env OCISYNC_P)"`, Sensitive: true}},
		{"different", []string{"user/a {} unread password"}, Different, Field{Path: "password", Old: `"(secret)"`, New: `"(secret changed)"`, Sensitive: true}},
		{"never applied", []string{"user/a {} unread password"}, Never, Field{Path: "password", New: `"(env OCISYNC_P)"`, Sensitive: true}},
		{"unknown", []string{"user/a {} unread password"}, Unknown, Field{}},
		{"equal", []string{"user/a {} unread password"}, Equal, Field{}},
	} {
		w.live, w.secret = c.live, c.m
		if d := cmp.Diff(c.want, field()); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
		if got := strings.Contains(notes(w.plan(t)), "user/a: password: (secret not checked)"); got != (c.name == "unknown") {
			t.Errorf("%s: (secret not checked) said: %v", c.name, got)
		}
	}
	w = world{desired: []string{`user/a {"password":{"env":"A"}}`}, live: []string{"user/a {} unread password"}, owned: []string{"*"}}
	if p := w.plan(t); p.Pending() || p.Unchanged != 1 {
		t.Errorf("a secret that cannot be checked is a note, not a change: %v", p.lines())
	}
	w.secret = Different
	if p := w.plan(t); p.Approval() != (Plan{Format: Format, Mode: p.Mode, Registry: p.Registry}).Approval() {
		t.Error("an update of secrets alone is left out of the approval")
	}
}

func TestASecretDriftedOnlyIfItsValueIsTheOneAppliedLast(t *testing.T) {
	w := world{
		desired: []string{`user/a {"password":{"env":"A"}}`}, live: []string{"user/a {} unread password"},
		applied: []string{`user/a {"password":{"env":"A"}}`}, owned: []string{"*"},
	}
	for m, want := range map[Match]Reason{Different: Declared, Changed: Drifted} {
		w.secret = m
		if got := change(t, w.plan(t), "user/a").Reason; got != want {
			t.Errorf("match %d: %s, want %s", m, got, want)
		}
	}
}

func TestFieldsThatAreNotReadAreAskedFor(t *testing.T) {
	w := world{desired: []string{`webhook/a/w {"url":"u"}`}, live: []string{`webhook/a/w {} unread url`}, owned: []string{"*"}}
	p := w.plan(t)
	check(t, p)
	checkNote(t, p, "webhook/a/w: url: (not checked)")
	w.secret = Different
	want := []Field{{Path: "url", Old: `"(changed since last apply)"`, New: `"u"`}}
	if d := cmp.Diff(want, change(t, w.plan(t), "webhook/a/w").Fields); d != "" {
		t.Error(d)
	}
	w.secret = Equal
	check(t, w.plan(t))
}

func TestDriftIsToldFromANewDeclaration(t *testing.T) {
	for _, c := range []struct {
		name, applied, declared, live string
		want                          Reason
	}{
		{"the registry changed", `{"email":"a"}`, `{"email":"a"}`, `{"email":"b"}`, Drifted},
		{"the file changed", `{"email":"b"}`, `{"email":"a"}`, `{"email":"b"}`, Declared},
		{"both changed", `{"email":"c"}`, `{"email":"a"}`, `{"email":"b"}`, Declared},
		{"one field each", `{"email":"a","comment":"x"}`, `{"email":"a","comment":"y"}`, `{"email":"b","comment":"x"}`, Declared},
		{"managed anew", `{}`, `{"email":"a"}`, `{"email":"b"}`, Declared},
	} {
		w := world{desired: []string{"user/a " + c.declared}, live: []string{"user/a " + c.live}, applied: []string{"user/a " + c.applied}}
		if got := change(t, w.plan(t), "user/a").Reason; got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	w := world{desired: []string{"user/a"}, owned: []string{"user/a"}}
	if got := change(t, w.plan(t), "user/a").Reason; got != Drifted {
		t.Errorf("deleted behind our back: %s", got)
	}
	w = world{desired: []string{`access/a {"users":{}}`}, live: []string{`access/a {"users":{"eve":["pull"]}}`}, applied: []string{`access/a {"users":{}}`}}
	if got := change(t, w.plan(t), "access/a").Reason; got != Drifted {
		t.Errorf("an entry that came behind our back: %s", got)
	}
}

func TestOrderRevokesFirstAndDeletesLast(t *testing.T) {
	w := world{
		desired: []string{
			"user/new", "namespace/b", "webhook/b/w", "gc", "artifact/x", "replication/r", "remote/s", "settings", "robot/new", "group/g",
			`access/b {"users":{"bob":["pull"]}}`, `access/c {"users":{"eve":["pull"],"new":["pull"]}}`, "namespace/c",
		},
		live: []string{
			`access/b {"users":{"bob":["pull","push"],"eve":["pull"]}}`, `access/c {"users":{"eve":["push"],"bob":["pull"]}}`, "namespace/b", "namespace/c",
			"robot/old", "user/old", "remote/old", "webhook/b/old", "mirror/old", "group/old", "group/g", "webhook/b/x", "user/x", "mirror/x", "remote/x",
		},
		owned: []string{"access/b", "access/c", "namespace/b", "namespace/c", "robot/old", "user/old", "remote/old", "webhook/b/old", "mirror/old", "group/old", "group/g", "quota/z"}, pruned: schema.Kinds(), policy: schema.Policy{Prune: schema.Kinds()},
	}
	p := w.plan(t)
	check(t, p,
		"update access/b", "delete robot/old",
		"create settings", "create user/new", "create remote/s", "update access/c", "create webhook/b/w", "create robot/new", "create replication/r", "create gc", "create artifact/x",
		"delete mirror/old", "delete webhook/b/old", "delete remote/old", "delete group/old", "delete user/old",
		"forget quota/z")
	var stages []string
	for _, all := range []bool{false, true} {
		for _, s := range p.Stages(all) {
			stages = append(stages, fmt.Sprintf("%d", len(s)))
		}
		stages = append(stages, "|")
	}
	if got, want := strings.Join(stages, " "), "1 1 1 1 1 2 1 1 1 1 1 1 1 1 1 | 2 9 5 |"; got != want {
		t.Errorf("stages %s, want %s", got, want)
	}
}

func TestAdoptAndForgetReachNoRegistry(t *testing.T) {
	w := world{desired: []string{"user/a"}, live: []string{"user/a", "user/b"}, owned: []string{"user/b", "user/c"}}
	p := w.plan(t)
	check(t, p, "adopt user/a", "forget user/b", "forget user/c")
	if p.Pending() || p.Blocked() || len(p.Stages(true)) > 0 || p.Unchanged != 1 {
		t.Errorf("recorded only: %s", asJSON(t, p))
	}
}

func TestWhatANamespaceHasOneOfStaysInForceAndIsSaid(t *testing.T) {
	w := world{desired: []string{"namespace/a"}, live: []string{"namespace/a", `quota/a {"limit":"1GiB"}`}, owned: []string{"namespace/a", "quota/a", "retention/a"}}
	p := w.plan(t)
	check(t, p, "forget quota/a", "forget retention/a")
	checkNote(t, p, "quota/a: not in the file any more; it stays in force as it is, and ocisync lets go of it")
	if strings.Contains(notes(p), "retention/a") {
		t.Errorf("what is gone stays: %s", notes(p))
	}
	w.desired = nil
	if p = w.plan(t); strings.Contains(notes(p), "quota/a") || !strings.Contains(notes(p), "namespace/a: not in the file any more") {
		t.Errorf("of a namespace that is let go of as a whole: %s", notes(p))
	}
}

func TestWhatWasNotReadIsUnknownNeverAbsent(t *testing.T) {
	w := world{desired: []string{"user/a", "user/b", "group/g"}, live: []string{"user/c"}, owned: []string{"user/a", "user/c", "user/d"}, policy: schema.Policy{Prune: schema.Kinds()}, pruned: schema.Kinds(),
		except: []schema.Key{{Kind: schema.KindUser, Name: "a"}, {Kind: schema.KindUser, Name: "c"}, {Kind: schema.KindUser, Name: "d"}}}
	p := w.plan(t)
	check(t, p, "create user/b", "create group/g")
	checkNote(t, p, "user/a: not read, so left alone")
}

func TestAReplacedNamespaceIsMadeAgainWithItsChildren(t *testing.T) {
	w := world{
		desired: []string{`namespace/a {"proxy_of":"s"}`, "remote/s", `access/a {"users":{"bob":["pull"]}}`, "user/bob"},
		live:    []string{`namespace/a {"proxy_of":"r"}`, "remote/s", `access/a {"users":{"bob":["pull"]}}`, "user/bob", "webhook/a/w"}, owned: []string{"*"},
		policy: schema.Policy{Prune: schema.Kinds()}, pruned: schema.Kinds(),
	}
	p := w.plan(t)
	check(t, p, "forget webhook/a/w", "held: create access/a: depends on namespace/a, which is held", "held: replace namespace/a: a namespace is replaced only with an approval")
	if d := cmp.Diff([]string{"with it goes access/a", "with it goes webhook/a/w"}, change(t, p, "namespace/a").Impact); d != "" {
		t.Error(d)
	}
}

func TestAFieldThatIsNoLongerManagedStaysAndIsSaid(t *testing.T) {
	w := world{desired: []string{`user/a {"email":"e"}`}, live: []string{`user/a {"email":"e","comment":"c"}`}, applied: []string{`user/a {"email":"e","comment":"c"}`}}
	p := w.plan(t)
	check(t, p)
	checkNote(t, p, "user/a: comment is not in the file any more and stays as it is")
	const proxy = `{"proxy":{"rate":"1MiB","serve_gone":true}}`
	for declared, note := range map[string]string{
		``: "proxy is not in the file any more", `{"proxy":{"rate":"1MiB"}}`: "proxy.serve_gone is not in the file any more",
	} {
		w = world{desired: []string{strings.TrimSpace("namespace/a " + declared)}, live: []string{"namespace/a " + proxy}, applied: []string{"namespace/a " + proxy}}
		if got := notes(w.plan(t)); !strings.Contains(got, "namespace/a: "+note) || strings.Count(got, "any more") != 1 {
			t.Errorf("%s: %s", declared, got)
		}
	}
}

// What the registry cannot do, and what the policy ignores, stands in the file.
func TestWhatIsLeftOutStandsInTheFile(t *testing.T) {
	w := world{
		desired: []string{`gc {"workers":4,"schedule":"@daily"}`, `user/a {"comment":"c","email":"e"}`},
		live:    []string{`gc {"schedule":"@daily"}`, `user/a {"comment":"d","email":"e"}`},
		applied: []string{`gc {"workers":4,"schedule":"@daily"}`, `user/a {"comment":"c","email":"e"}`},
		table:   append(nativeTable(), schema.Capability{Kind: schema.KindGC, Field: "workers", Support: schema.Unsupported, Reason: "one worker"}),
		policy:  schema.Policy{Unsupported: "note", Ignore: []schema.Ignore{{Resource: "user/*", Field: "comment", Reason: "by hand"}}},
	}
	p := w.plan(t)
	check(t, p)
	checkNote(t, p, "gc: workers left out: one worker")
	checkNote(t, p, "user/a: comment differs and is ignored: by hand")
	if got := notes(p); strings.Contains(got, "not in the file") {
		t.Error(got)
	}
}

func TestImpactCountsWhatLiesInTheNamespaceItself(t *testing.T) {
	w := world{live: []string{"namespace/a", "namespace/a/b", "namespace/ab"}, owned: []string{"namespace/a"}, policy: schema.Policy{Prune: schema.Kinds()}, pruned: schema.Kinds()}
	in, p := w.input(t), w.plan(t)
	if d := cmp.Diff([]string{"a"}, Needs(p).Repositories); d != "" {
		t.Error(d)
	}
	in.Live.Repositories = []schema.RepositoryInfo{{Name: "a/b/x", Tags: 100}, {Name: "a/x", Tags: 2, Bytes: 3 << 30}, {Name: "a/y/z", Tags: 1}, {Name: "ab/x", Tags: 1000}}
	if got := WithImpact(p, in.Live); change(t, got, "namespace/a").Impact != nil {
		t.Error("figures that were not read are shown")
	}
	in.Live.Scope.Repositories = []string{"a"}
	got := WithImpact(p, in.Live)
	if d := cmp.Diff([]string{"2 repositories, 3 tags, 3.0 GiB"}, change(t, got, "namespace/a").Impact); d != "" {
		t.Error(d)
	}
	if p.Approval() != got.Approval() || change(t, p, "namespace/a").Impact != nil {
		t.Error("impact changes the plan it was given, or its approval")
	}
}

func TestPatternsNameKeys(t *testing.T) {
	for _, c := range []struct {
		pattern, key string
		want         bool
	}{
		{"namespace/*", "namespace/a/b", true}, {"namespace/a", "namespace/a/b", false}, {"webhook/a/*", "webhook/a/w", true}, {"gc", "gc", true},
		{"*", "user/a", true}, {"{user,group}/a", "group/a", true}, {"user/a", "group/a", false}, {"user/[", "user/[", false}, {"user/a?", "user/ab", true}, {"gc/*", "gc", false},
	} {
		k, err := schema.ParseKey(c.key)
		if err != nil {
			t.Fatal(err)
		}
		if got := MatchKey(c.pattern, k); got != c.want {
			t.Errorf("MatchKey(%q, %q) = %v", c.pattern, c.key, got)
		}
	}
}

func TestWhatIsNobodysIsListedAndNeverTouched(t *testing.T) {
	w := world{desired: []string{"user/a"}, live: []string{"user/a", "user/mine", "user/theirs", "webhook/x/theirs"}, owned: []string{"user/mine"}, pruned: schema.Kinds(), policy: schema.Policy{Prune: schema.Kinds()}}
	p := Diff(w.input(t))
	var got []string
	for _, k := range p.Unmanaged {
		got = append(got, k.String())
	}
	if d := cmp.Diff([]string{"user/theirs", "webhook/x/theirs"}, got); d != "" {
		t.Error(d)
	}
	for _, c := range p.Changes {
		if slices.Contains(p.Unmanaged, c.Key) {
			t.Errorf("%s %s", c.Action, c.Key)
		}
	}
}
