package providertest_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/memory"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

func createUsers(n int) []plan.Change {
	var out []plan.Change
	for i := range n {
		key := schema.Key{Kind: schema.KindUser, Name: fmt.Sprintf("u%d", i+1)}
		out = append(out, plan.Change{Action: plan.Create, Key: key, After: &schema.Resource{Key: key, Spec: &schema.User{}}})
	}
	return out
}

func TestFailNthFailsThatChangeAlone(t *testing.T) {
	for _, tc := range []struct {
		when       providertest.When
		n          int
		live, sent []string
	}{
		{providertest.Before, 0, []string{"u1", "u2", "u3", "u4"}, []string{"u1", "u2", "u3", "u4"}},
		{providertest.Before, 3, []string{"u1", "u2", "u4"}, []string{"u1", "u2", "u4"}},
		{providertest.After, 3, []string{"u1", "u2", "u3", "u4"}, []string{"u1", "u2", "u3", "u4"}},
	} {
		inner, err := memory.New(nil, schema.State{})
		if err != nil {
			t.Fatal(err)
		}
		p := providertest.FailNth(inner, tc.n, tc.when)
		reports := map[string]int{}
		changes := createUsers(4)
		for _, call := range [][]plan.Change{changes[:2], changes[2:]} { // counted over calls
			if err := p.Write(t.Context(), call, func(k schema.Key, err error) {
				reports[k.Name]++
				if wantErr := tc.n > 0 && k.Name == fmt.Sprintf("u%d", tc.n); errors.Is(err, providertest.ErrInjected) != wantErr {
					t.Errorf("%v: %s reported with %v", tc, k, err)
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(map[string]int{"u1": 1, "u2": 1, "u3": 1, "u4": 1}, reports); diff != "" {
			t.Errorf("%v: reports (-want +have):\n%s", tc, diff)
		}
		s, err := p.Read(t.Context(), schema.ScopeOf(schema.KindUser))
		if err != nil {
			t.Fatal(err)
		}
		var live, sent []string
		for _, r := range s.Resources {
			live = append(live, r.Key.Name)
		}
		for _, k := range p.Sent() {
			sent = append(sent, k.Name)
		}
		if diff := cmp.Diff([][]string{tc.live, tc.sent}, [][]string{live, sent}); diff != "" {
			t.Errorf("%v: live and sent (-want +have):\n%s", tc, diff)
		}
	}
}
