package plan

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/schema"
)

// What follows from another rule is given and takes nothing: neither from others,
// nor from who has more.
func TestATableOfLeastRightsRemovesNobody(t *testing.T) {
	least := schema.NewGrants(
		schema.Grant{Name: "admin", Rights: schema.Pull, AtLeast: true},
		schema.Grant{Name: "has", Rights: schema.Pull, AtLeast: true},
		schema.Grant{Name: "less", Rights: schema.Pull | schema.Push, AtLeast: true},
		schema.Grant{Name: "new", Rights: schema.Pull, AtLeast: true},
	)
	live := `{"users":{"admin":["admin"],"has":["pull","push"],"less":["pull"],"other":["pull","delete"]}}`
	in := world{desired: []string{"access/a"}, live: []string{"access/a " + live}}.input(t)
	in.Desired.Resources[0].Spec = &schema.Access{Users: least}
	p := Diff(in)
	if len(p.Changes) != 1 || len(p.Changes[0].Fields) != 2 {
		t.Fatalf("the plan is %+v", p.Changes)
	}
	c := p.Changes[0]
	if c.Deletes() != 0 {
		t.Errorf("it takes away %d rights", c.Deletes())
	}
	if f := c.Fields[0]; f.Path != "users.less" || f.New != `["pull","push"]` {
		t.Errorf("the first field is %+v", f)
	}
	if f := c.Fields[1]; f.Path != "users.new" || f.Old != "" {
		t.Errorf("the second field is %+v", f)
	}
	after, err := json.Marshal(c.After.Spec)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"users":{"admin":["admin"],"has":["pull","push"],"less":["pull","push"],"new":["pull"],"other":["pull","delete"]}}`
	if diff := cmp.Diff(want, string(after)); diff != "" {
		t.Errorf("what it makes (-want +have):\n%s", diff)
	}
	in.Live.Resources[0].Spec = c.After.Spec
	if again := Diff(in); len(again.Changes) != 1 || again.Changes[0].Action != Adopt {
		t.Errorf("the second plan is %+v", again.Changes)
	}
}
