package access_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/schema"
)

func user(name string, admin bool) schema.Resource {
	return schema.Resource{Key: schema.Key{Kind: schema.KindUser, Name: name}, Spec: &schema.User{Admin: &admin}}
}

func group(name string, users ...string) schema.Resource {
	return schema.Resource{Key: schema.Key{Kind: schema.KindGroup, Name: name}, Spec: &schema.Group{Users: schema.NewSet(users...)}}
}

func namespace(name string) schema.Resource {
	return schema.Resource{Key: schema.Key{Kind: schema.KindNamespace, Name: name}, Spec: &schema.Namespace{}}
}

func rule(name string, anonymous, authenticated schema.Rights, users, groups schema.Grants) schema.Resource {
	return schema.Resource{Key: schema.Key{Kind: schema.KindAccess, Name: name}, Spec: &schema.Access{
		Anonymous: &anonymous, Authenticated: &authenticated, Users: users, Groups: groups,
	}}
}

func testState() schema.State {
	return schema.State{Resources: []schema.Resource{
		rule("team", 0, schema.Pull,
			schema.NewGrants(schema.Grant{Name: "ann", Rights: schema.Push}, schema.Grant{Name: "eve", Rights: schema.Admin}),
			schema.NewGrants(schema.Grant{Name: "ops", Rights: schema.Delete})),
		rule("team/private", 0, 0, nil, nil),
		rule("public", schema.Pull, 0, nil, nil),
		rule("ocisync", schema.Pull, schema.Pull|schema.Push, nil, nil),
		group("ops", "ann", "oscar"),
		group("idle", "bob"),
		namespace("team"), namespace("team/private"), namespace("public"), namespace("bare"),
		user("ann", false), user("bob", false), user("eve", false), user("oscar", false), user("root", true),
	}}
}

func TestUnionOfAllLinesDecides(t *testing.T) {
	const none schema.Rights = 0
	all := schema.Admin.Effective()
	tests := []struct {
		user, repository string
		deny, leave      schema.Rights
	}{
		{"", "public/app", schema.Pull, schema.Pull},
		{"bob", "public/app", schema.Pull, schema.Pull},
		{"", "team/app", none, none},
		{"bob", "team/app", schema.Pull, schema.Pull},
		{"ann", "team/app", schema.Pull | schema.Push | schema.Delete, schema.Pull | schema.Push | schema.Delete},
		{"oscar", "team/app", schema.Pull | schema.Delete, schema.Pull | schema.Delete},
		{"eve", "team/a/b/c", all, all},
		{"root", "team/private/x", all, all},
		// the longest namespace alone decides
		{"ann", "team/private/x", none, none},
		{"eve", "team/private", none, none},
		// whole segments only
		{"ann", "teams/app", none, schema.Pull | schema.Push | schema.Delete},
		{"ann", "team", schema.Pull | schema.Push | schema.Delete, schema.Pull | schema.Push | schema.Delete},
		{"", "elsewhere/x", none, none},
		{"root", "elsewhere/x", all, all},
		// a namespace without rules is closed
		{"ann", "bare/x", none, none},
		// ocisync's own is for admins, whatever its rules say
		{"", "ocisync/state", none, none},
		{"ann", "ocisync/state", none, none},
		{"root", "ocisync/state", all, all},
		{"ann", "ocisync", none, none},
		{"ann", "ocisyncer/x", none, schema.Pull | schema.Push | schema.Delete},
		// an account the state does not know has what authenticated gives
		{"stranger", "team/app", schema.Pull, schema.Pull},
	}
	for outside, pick := range map[access.Outside]int{access.Deny: 0, access.Leave: 1, "": 0} {
		rules := access.Compile(testState(), outside)
		for _, tt := range tests {
			want := []schema.Rights{tt.deny, tt.leave}[pick]
			if got := rules.Rights(access.User(tt.user), tt.repository); got != want {
				t.Errorf("outside %q: %q in %s has %v, want %v", outside, tt.user, tt.repository, got, want)
			}
		}
	}
}

func TestNamespaceIsTheLongest(t *testing.T) {
	rules := access.Compile(testState(), access.Deny)
	for repository, want := range map[string]string{
		"team/app": "team", "team/private/x/y": "team/private", "team/privates": "team", "x": "", "": "",
	} {
		if got := rules.Namespace(repository); got != want {
			t.Errorf("namespace of %q is %q, want %q", repository, got, want)
		}
	}
}

func TestAnonymousPullsOnlyCountsWhatIsOpen(t *testing.T) {
	st := testState()
	if !access.Compile(st, access.Deny).AnonymousPulls() {
		t.Error("public is open to anonymous clients")
	}
	closed := schema.State{Resources: []schema.Resource{rule("ocisync", schema.Pull, 0, nil, nil), rule("a", schema.Push, 0, nil, nil)}}
	if access.Compile(closed, access.Leave).AnonymousPulls() {
		t.Error("nothing is open to anonymous clients")
	}
}

func TestMoreRightsNeverTakeAnyAway(t *testing.T) {
	rights := rapid.Map(rapid.IntRange(0, 15), func(i int) schema.Rights { return schema.Rights(i) })
	rapid.Check(t, func(t *rapid.T) {
		anonymous, authenticated, own, grp := rights.Draw(t, "anonymous"), rights.Draw(t, "authenticated"), rights.Draw(t, "own"), rights.Draw(t, "group")
		rules := access.Compile(schema.State{Resources: []schema.Resource{
			rule("n", anonymous, authenticated, schema.NewGrants(schema.Grant{Name: "u", Rights: own}), schema.NewGrants(schema.Grant{Name: "g", Rights: grp})),
			group("g", "u"), user("u", false),
		}}, access.Deny)
		want := anonymous.Effective() | authenticated.Effective() | own.Effective() | grp.Effective()
		if got := rules.Rights(access.User("u"), "n/r"); got != want {
			t.Fatalf("user has %v, want the union %v", got, want)
		}
		if got := rules.Rights(access.Anonymous(), "n/r"); got != anonymous.Effective() {
			t.Fatalf("anonymous has %v, want %v", got, anonymous)
		}
	})
}

func large() *access.Rules {
	var st schema.State
	var members []string
	for i := range 200 {
		name := fmt.Sprintf("user-%03d", i)
		members = append(members, name)
		st.Resources = append(st.Resources, user(name, false))
	}
	var groups, users []schema.Grant
	for i := range 20 {
		name := fmt.Sprintf("group-%02d", i)
		st.Resources = append(st.Resources, group(name, members...))
		groups = append(groups, schema.Grant{Name: name, Rights: schema.Pull})
	}
	for _, name := range members {
		users = append(users, schema.Grant{Name: name, Rights: schema.Push})
	}
	for i := range 1000 {
		st.Resources = append(st.Resources, rule(fmt.Sprintf("namespace-%04d/sub", i), 0, schema.Pull, schema.NewGrants(users...), schema.NewGrants(groups...)))
	}
	return access.Compile(st, access.Deny)
}

func TestDecisionAllocatesNothing(t *testing.T) {
	rules := large()
	if n := testing.AllocsPerRun(100, func() {
		if !rules.May(access.User("user-150"), schema.Pull|schema.Push, "namespace-0900/sub/deep/er/app") {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("a decision allocates %v times", n)
	}
}

// BenchmarkDecision: 1,000 rules, 200 users, 20 groups of all of them.
func BenchmarkDecision(b *testing.B) {
	rules := large()
	b.ReportAllocs()
	for b.Loop() {
		if !rules.May(access.User("user-150"), schema.Pull|schema.Push, "namespace-0900/sub/deep/er/app") {
			b.Fatal("refused")
		}
	}
}

func TestWithheldPushIsAdminUsersAlone(t *testing.T) {
	const inside schema.Rights = schema.Pull | schema.Push
	st := testState()
	st.Resources = append(st.Resources,
		rule("team/inner", 0, inside, nil, nil), namespace("team/inner"), rule("drop", inside, 0, nil, nil), namespace("drop"),
		schema.Resource{Key: schema.Key{Kind: schema.KindRobot, Name: "ci"}, Spec: &schema.Robot{Access: schema.NewGrants(schema.Grant{Name: "*", Rights: inside})}})
	before := access.Compile(st, access.Leave)
	rules := before.Withhold([]string{"team", "public", "drop", "nowhere"})
	for _, tt := range []struct {
		who        access.Subject
		repository string
		want       schema.Rights
	}{
		{access.User("ann"), "team/app", schema.Pull | schema.Delete},
		{access.User("eve"), "team/app", schema.Pull | schema.Delete}, // has admin there
		{access.User("root"), "team/app", schema.Admin.Effective()},
		{access.Robot("ci"), "team/app", schema.Pull},
		{access.Anonymous(), "public/app", schema.Pull},
		{access.Anonymous(), "drop/app", schema.Pull},
		{access.User("bob"), "team/inner/app", inside},
		{access.Robot("ci"), "team/inner/app", inside},
		{access.User("bob"), "outside/app", schema.Pull | schema.Push | schema.Delete},
	} {
		if got := rules.Rights(tt.who, tt.repository); got != tt.want || got.Has(schema.Push) != tt.want.Has(schema.Push) {
			t.Errorf("%+v at %s: %v, want %v", tt.who, tt.repository, got, tt.want)
		}
	}
	if !before.May(access.User("ann"), schema.Push, "team/app") {
		t.Error("the rules that were there have changed")
	}
}
