package distribution_test

import (
	"maps"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/distribution"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// site is a registry by its mode, and by who runs it.
type site struct {
	registry schema.Registry
	process  providers.Process
}

// suite runs the provider suite on registries that fresh makes.
func suite(t *testing.T, fresh func(t testing.TB) site) {
	t.Helper()
	suiteWith(t, fresh, nil)
}

// suiteWith tries some fields with other values.
func suiteWith(t *testing.T, fresh func(t testing.TB) site, more map[string]providertest.Values) {
	t.Helper()
	values := map[string]providertest.Values{
		"settings/values.log.level":                           {Valid: `"debug"`, Other: `"warn"`},
		"settings/values.http.draintimeout":                   {Valid: `"5s"`, Other: `"10s"`},
		"settings/values.catalog.maxentries":                  {Valid: `500`, Other: `600`},
		"settings/values.http.relativeurls":                   {Valid: `true`, Other: `false`},
		"settings/values.http.headers.X-Content-Type-Options": {Valid: `["nosniff"]`, Other: `["none","more"]`},
		"settings/values.http.secret":                         {Valid: `{"env":"` + providertest.SecretA + `"}`, Other: `{"env":"` + providertest.SecretB + `"}`},
	}
	maps.Copy(values, more)
	open := func(t testing.TB, s site) *distribution.Provider {
		t.Helper()
		p, err := distribution.New(s.registry, s.process, providertest.Secrets{}, nil, distribution.HashCost(bcrypt.MinCost))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	made := map[providers.Provider]site{}
	providertest.Run(t, providertest.Harness{
		New: func(t testing.TB) providers.Provider {
			t.Helper()
			s := fresh(t)
			p := open(t, s)
			made[p] = s
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
			r, _ = st.Get(r.Key)
			var fields []plan.Field
			for _, f := range schema.Secrets(r.Spec) {
				fields = append(fields, plan.Field{Path: f.Path})
			}
			if set, ok := r.Spec.(*schema.Settings); ok {
				for _, v := range set.Values {
					fields = append(fields, plan.Field{Path: "values." + v.Path})
				}
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
		Values: values,
	})
}

func TestDistributionPassesTheProviderSuiteByItsFiles(t *testing.T) {
	suite(t, func(t testing.TB) site {
		t.Helper()
		return site{registry: schema.Registry{
			Type: schema.TypeDistribution, URL: "http://127.0.0.1:9",
			Run: &schema.Run{Driver: schema.DriverProcess, Binary: "distribution", Data: filepath.Join(t.TempDir(), "data")},
		}}
	})
}
