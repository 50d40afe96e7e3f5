package access_test

import (
	"testing"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/schema"
)

func TestARobotHasItsOwnLinesAndWhatAnybodyHas(t *testing.T) {
	pull := schema.Pull
	both := schema.Pull | schema.Push
	resource := func(kind schema.Kind, name string, spec schema.Spec) schema.Resource {
		return schema.Resource{Key: schema.Key{Kind: kind, Name: name}, Spec: spec}
	}
	rules := access.Compile(schema.State{Resources: []schema.Resource{
		resource(schema.KindNamespace, "team", &schema.Namespace{}),
		resource(schema.KindNamespace, "team/inner", &schema.Namespace{}),
		resource(schema.KindNamespace, "public", &schema.Namespace{}),
		resource(schema.KindAccess, "public", &schema.Access{Anonymous: &pull, Authenticated: &both}),
		resource(schema.KindRobot, "all", &schema.Robot{Access: schema.NewGrants(schema.Grant{Name: "*", Rights: schema.Pull}, schema.Grant{Name: "team", Rights: schema.Push})}),
		resource(schema.KindRobot, "team/one", &schema.Robot{Access: schema.NewGrants(schema.Grant{Name: "team", Rights: schema.Admin})}),
		resource(schema.KindUser, "all", &schema.User{Admin: new(true)}),
	}}, access.Leave)
	for _, tt := range []struct {
		robot, repository string
		want              schema.Rights
	}{
		{"all", "team/app", schema.Pull | schema.Push},
		{"all", "team/inner/app", schema.Pull},
		{"all", "outside/app", 0},
		{"all", "ocisync/state", 0},
		{"team/one", "team/app", schema.Admin.Effective()},
		{"team/one", "team/inner/app", 0},
		{"team/one", "public/app", schema.Pull},
		{"stranger", "team/app", 0},
	} {
		s := access.Robot(tt.robot)
		if got := rules.Rights(s, tt.repository); got != tt.want {
			t.Errorf("robot %s in %s: %v, want %v", tt.robot, tt.repository, got, tt.want)
		}
		if rules.Admin(s) {
			t.Errorf("robot %s is an admin user", tt.robot)
		}
		if n := testing.AllocsPerRun(100, func() { rules.May(s, schema.Pull, tt.repository) }); n != 0 {
			t.Errorf("robot %s in %s: %v allocations", tt.robot, tt.repository, n)
		}
	}
}
