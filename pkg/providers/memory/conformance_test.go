package memory_test

import (
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/memory"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

func TestMemoryPassesTheProviderSuite(t *testing.T) {
	providertest.Run(t, providertest.Harness{
		New: func(t testing.TB) providers.Provider {
			t.Helper()
			p, err := memory.New(providertest.Secrets{}, schema.State{})
			if err != nil {
				t.Fatal(err)
			}
			return p
		},
		// The registry lives as long as its provider.
		Reopen: func(_ testing.TB, p providers.Provider) providers.Provider { return p },
		Change: func(t testing.TB, p providers.Provider, r schema.Resource) {
			t.Helper()
			var fields []plan.Field
			for _, f := range schema.Secrets(r.Spec) {
				fields = append(fields, plan.Field{Path: f.Path})
			}
			c := plan.Change{Action: plan.Update, Key: r.Key, After: &r, Fields: fields}
			if err := p.Write(t.Context(), []plan.Change{c}, func(k schema.Key, err error) {
				if err != nil {
					t.Fatal(err)
				}
			}); err != nil {
				t.Fatal(err)
			}
		},
		Values: map[string]providertest.Values{
			"settings/values.log.level":       {Valid: `"info"`, Other: `"debug"`, Empty: `""`},
			"settings/values.storage.dedupe":  {Valid: `true`, Other: `false`},
			"settings/values.storage.drivers": {Valid: `["a","b"]`, Other: `["b","a"]`, Empty: `[]`},
			"settings/values.ldap.password": {
				Valid: `{"env":"` + providertest.SecretA + `"}`, Other: `{"env":"` + providertest.SecretB + `"}`,
			},
		},
	})
}
