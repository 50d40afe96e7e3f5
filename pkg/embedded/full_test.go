package embedded_test

import (
	"testing"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/schema"
)

func quotaOf(limit schema.Size) embedded.Change {
	return embedded.Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindQuota, Name: "team"}, Spec: &schema.Quota{Limit: &limit}}}
}

// usedOf is a measuring of the namespace team.
func usedOf(used schema.Size) embedded.Change {
	return embedded.Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindQuota, Name: "team"}}, Used: &used}
}

func TestAFullNamespaceGetsNoTokenToPush(t *testing.T) {
	s, _ := serveTokens(t, embedded.Options{})
	all := schema.Pull | schema.Push | schema.Delete
	s.change(t, putUser(t, "root", true), putUser(t, "dev", false), putNamespace("team"),
		putAccess("team", schema.Access{Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: all})}), quotaOf(1000))
	const asked = "repository:team/app:delete,pull,push"
	gets := func(user, want string) {
		t.Helper()
		if _, got := s.granted(t, user, "pw-"+user, asked); got != want {
			t.Errorf("%s gets %q, want %q", user, got, want)
		}
	}
	const less = "repository:team/app:delete,pull"
	gets("dev", asked)
	s.change(t, usedOf(999))
	gets("dev", asked)
	s.change(t, usedOf(1000))
	gets("dev", less)
	gets("root", asked)
	client := s.dialURL(t, "root", "pw-root")
	live, err := client.State(t.Context(), []schema.Kind{schema.KindQuota, schema.KindAccess})
	if err != nil {
		t.Fatal(err)
	}
	full := live.Full["quota/team"]
	if full.Used != 1000 || full.Since.IsZero() {
		t.Errorf("the state says %+v", live.Full)
	}
	for _, o := range live.Objects {
		if a, ok := o.Spec.(*schema.Access); ok && a.Users[0].Rights != all {
			t.Errorf("what is declared has changed: %+v", a.Users)
		}
	}
	s.change(t, usedOf(1200)) // fuller
	if live, err = client.State(t.Context(), nil); err != nil || live.Full["quota/team"].Since != full.Since || live.Full["quota/team"].Used != 1200 {
		t.Errorf("the state says %+v, %v", live.Full, err)
	}
	s.change(t, quotaOf(1100)) // and still too small
	gets("dev", less)
	s.change(t, quotaOf(1201))
	gets("dev", asked)
	s.change(t, usedOf(1201))
	gets("dev", less)
	s.change(t, embedded.Change{Object: usedOf(0).Object, Delete: true})
	gets("dev", asked)
	s.change(t, usedOf(5000)) // it was measured while somebody took the quota out
	gets("dev", asked)
	s.change(t, quotaOf(0), usedOf(0))
	gets("dev", less)
	s.change(t, quotaOf(schema.Unlimited))
	gets("dev", asked)
}

func TestOnlyQuotasAreMeasured(t *testing.T) {
	s, _ := serveTokens(t, embedded.Options{})
	s.change(t, putUser(t, "root", true), putNamespace("team"))
	used := schema.Size(5)
	client := s.dialURL(t, "root", "pw-root")
	results, err := client.Change(t.Context(), []embedded.Change{
		{Object: schema.Resource{Key: schema.Key{Kind: schema.KindNamespace, Name: "team"}}, Used: &used},
		usedOf(-2),
	})
	if err != nil || results[0].Err == nil || results[1].Err == nil {
		t.Errorf("%+v, %v", results, err)
	}
}
