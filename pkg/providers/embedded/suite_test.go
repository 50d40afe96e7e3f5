package embedded_test

import (
	"path/filepath"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/embedded"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

func TestTheEmbeddedRegistryPassesTheProviderSuite(t *testing.T) {
	open := func(t testing.TB, r schema.Registry) *embedded.Provider {
		t.Helper()
		p, err := embedded.New(r, providertest.Secrets{}, nil, embedded.HashCost(bcrypt.MinCost))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	made := map[providers.Provider]schema.Registry{}
	providertest.Run(t, providertest.Harness{
		New: func(t testing.TB) providers.Provider {
			t.Helper()
			r := schema.Registry{
				Type: schema.TypeDistribution, URL: "http://127.0.0.1:9",
				Run: &schema.Run{Driver: schema.DriverEmbedded, Data: filepath.Join(t.TempDir(), "data")},
			}
			p := open(t, r)
			made[p] = r
			return p
		},
		Reopen: func(t testing.TB, p providers.Provider) providers.Provider {
			t.Helper()
			return open(t, made[p])
		},
		Change: func(t testing.TB, p providers.Provider, r schema.Resource) {
			t.Helper()
			st, _, err := p.Normalize(schema.State{Resources: []schema.Resource{r}})
			if err != nil {
				t.Fatal(err)
			}
			r = st.Resources[0]
			var fields []plan.Field
			for _, f := range schema.Secrets(r.Spec) {
				fields = append(fields, plan.Field{Path: f.Path})
			}
			c := plan.Change{Action: plan.Update, Key: r.Key, After: &r, Fields: fields}
			if err := p.Write(t.Context(), []plan.Change{c}, func(_ schema.Key, err error) {
				if err != nil {
					t.Fatal(err)
				}
			}); err != nil {
				t.Fatal(err)
			}
		},
	})
}
