package main

import (
	"testing"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/schema"
)

// TestARuleIsAskedAboutInItsOwnNamespace: a namespace below has rules of its own.
func TestARuleIsAskedAboutInItsOwnNamespace(t *testing.T) {
	pull := schema.Pull
	var st schema.State
	for _, name := range []string{"team", "team/x", "team/xx"} {
		st.Resources = append(st.Resources, schema.Resource{Key: schema.Key{Kind: schema.KindNamespace, Name: name}, Spec: &schema.Namespace{}})
	}
	st.Resources = append(st.Resources, schema.Resource{Key: schema.Key{Kind: schema.KindAccess, Name: "team/x"}, Spec: &schema.Access{Anonymous: &pull}})
	rules := access.Compile(st, access.Deny)
	for namespace, want := range map[string]string{"team": "team/xxx", "team/x": "team/x/x", "other": "other/x"} {
		if got := inside(rules, namespace); namespace != "other" && got != want {
			t.Errorf("inside %s: %s, want %s", namespace, got, want)
		}
	}
	if may := rules.Rights(access.Anonymous(), inside(rules, "team")); may != 0 {
		t.Errorf("nobody may %s", may)
	}
}
