package plan

import (
	"fmt"
	"slices"
	"testing"

	"github.com/ocisync/ocisync/schema"
)

// bigInput is a comparison of n objects of mixed kinds, all owned and applied,
// of which every changed-th differs (0: none), on a registry that emulates some
// and lacks others.
func bigInput(tb testing.TB, n, changed int) Input {
	tb.Helper()
	text := func(s string) *string { return &s }
	yes, week, size, all := true, schema.Duration(7*86400), schema.Size(1<<30), schema.Pull|schema.Push
	secret := &schema.SecretRef{Env: "OCISYNC_SECRET"}
	var want, have []schema.Resource
	add := func(k schema.Kind, name string, spec, live schema.Spec, unread ...string) {
		if len(want) >= n {
			return
		}
		key := schema.Key{Kind: k, Name: name}
		want = append(want, schema.Resource{Key: key, Spec: spec})
		have = append(have, schema.Resource{Key: key, Spec: live, Unread: unread, Version: "1"})
	}
	for i := 0; len(want) < n; i++ {
		name := fmt.Sprintf("team-%06d", i)
		description := func() *string {
			if changed > 0 && i%changed == 0 {
				return text("another")
			}
			return text("what this is for")
		}
		add(schema.KindNamespace, name, &schema.Namespace{Description: text("what this is for")}, &schema.Namespace{Description: description()})
		access := func() *schema.Access {
			return &schema.Access{Anonymous: new(schema.Rights), Authenticated: &all, Conditions: schema.NewSet("a", "b"), Users: schema.NewGrants(
				schema.Grant{Name: "ann", Rights: schema.Admin}, schema.Grant{Name: "bob", Rights: all}, schema.Grant{Name: "eve", Rights: schema.Pull}, schema.Grant{Name: "kim", Rights: all})}
		}
		live := access()
		if changed > 0 && i%changed == 0 {
			live.Users = append(live.Users, schema.Grant{Name: "zed", Rights: schema.Pull})
		}
		add(schema.KindAccess, name, access(), live)
		keep := func() *schema.Retention {
			return &schema.Retention{Keep: []schema.KeepRule{{Newest: 10}, {PushedWithin: week, Tags: "v*"}}, Schedule: text("@daily")}
		}
		add(schema.KindRetention, name, keep(), keep())
		hook := func(auth *schema.SecretRef) *schema.Webhook {
			return &schema.Webhook{URL: text("https://ci.example.com"), Events: schema.NewSet("delete", "push"), Auth: auth, Enabled: &yes}
		}
		add(schema.KindWebhook, name+"/ci", hook(secret), hook(nil), "auth")
		add(schema.KindUser, name, &schema.User{Email: text("a@example.com"), Password: secret}, &schema.User{Email: text("a@example.com")}, "password")
		robot := &schema.Robot{Expires: &week, Access: schema.NewGrants(schema.Grant{Name: name, Rights: all}), Permissions: []schema.RobotPermission{{Resource: "a", Action: "b"}}}
		declared := *robot
		declared.Renew, declared.Secret = &week, &schema.RobotSecret{Value: secret, Deliver: &schema.Delivery{File: "/run/ocisync/x"}}
		live2 := *robot
		live2.Secret = &schema.RobotSecret{}
		add(schema.KindRobot, name+"/ci", &declared, &live2, "secret.value")
		add(schema.KindQuota, name, &schema.Quota{Limit: &size}, &schema.Quota{Limit: &size})
		add(schema.KindRemote, name, &schema.Remote{URL: text("u"), Login: &schema.Login{User: text("u"), Password: secret}}, &schema.Remote{URL: text("u"), Login: &schema.Login{User: text("u")}}, "login.password")
		trigger := schema.Trigger{Schedule: "@daily"}
		replication := func() *schema.Replication {
			return &schema.Replication{To: text(name), Trigger: &trigger, Match: &schema.Match{Tags: text("v*"), Labels: schema.NewSet("x")}}
		}
		add(schema.KindReplication, name, replication(), replication())
		artifact := func() *schema.Artifact {
			return &schema.Artifact{To: text(name + "/x:1"), Files: schema.NewSet("a", "b"), Annotations: schema.Pairs{{Name: "a", Value: "1"}}}
		}
		add(schema.KindArtifact, name, artifact(), artifact())
	}
	in := Input{
		Mode: "prod", Registry: Registry{Type: "memory", URL: "memory://"},
		Desired: schema.State{Resources: want}, Live: schema.State{Resources: have, Scope: schema.ScopeOf(schema.Kinds()...)},
		Policy: schema.Policy{
			Prune: schema.Kinds(), Protect: []string{"namespace/team-000001"}, MaxDeletes: &schema.MaxDeletes{Percent: 25, AtLeast: 2},
			Ignore: []schema.Ignore{{Resource: "label/*", Field: "color", Reason: "r"}},
		},
		Table: append(nativeTable(),
			schema.Capability{Kind: schema.KindAccess, Field: "authenticated", Support: schema.Emulated, Reason: "expanded"},
			schema.Capability{Kind: schema.KindQuota, Field: "limit", Support: schema.Emulated, Reason: "counted"},
			schema.Capability{Kind: schema.KindRobot, Field: "secret", Support: schema.Emulated, Reason: "delivered"},
			schema.Capability{Kind: schema.KindWebhook, Field: "format", Support: schema.Unsupported, Reason: "one format"}),
	}
	for _, s := range []*schema.State{&in.Desired, &in.Live} {
		if err := s.Sort(); err != nil {
			tb.Fatal(err)
		}
	}
	owned := make([]schema.Key, 0, n)
	specs := make(map[schema.Key]schema.Spec, n)
	for _, r := range in.Desired.Resources {
		owned, specs[r.Key] = append(owned, r.Key), r.Spec
	}
	slices.Reverse(owned)
	in.Ownership = Ownership{
		Owned: owned, MayPrune: true, Secret: equalSecrets, Pruned: func(schema.Kind) bool { return true },
		Applied: func(k schema.Key) (schema.Spec, bool) { s, ok := specs[k]; return s, ok },
	}
	return in
}

func run(in Input) Plan {
	return Guard(Diff(in), GuardInput{Policy: in.Policy, Ownership: in.Ownership, Desired: in.Desired, Live: in.Live})
}

func TestAPlanWithoutChangesAllocatesNothingPerObject(t *testing.T) {
	measure := func(n int) float64 {
		in := bigInput(t, n, 0)
		if p := run(in); p.Unchanged != n || len(p.Changes) > 0 || len(p.Refusals) > 0 || len(p.Notes) != 3 {
			t.Fatalf("the states are not equal: %d unchanged, %v", p.Unchanged, p.lines())
		}
		return testing.AllocsPerRun(2, func() { run(in) })
	}
	small, large := measure(5_000), measure(20_000)
	if large > 1000 || large > small+100 {
		t.Errorf("%v allocations for 20000 objects, %v for 5000; want at most 1000, and no more for more objects", large, small)
	}
}

func BenchmarkDiff(b *testing.B) {
	for _, n := range []int{100_000, 200_000} {
		for name, changed := range map[string]int{"equal": 0, "changed=1%": 20} {
			b.Run(fmt.Sprintf("%s/n=%d", name, n), func(b *testing.B) {
				in := bigInput(b, n, changed)
				b.ReportAllocs()
				changes := 0
				for b.Loop() {
					p := run(in)
					changes = len(p.all())
				}
				b.ReportMetric(float64(changes), "changes")
			})
		}
	}
}
