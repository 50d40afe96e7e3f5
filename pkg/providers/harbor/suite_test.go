package harbor_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// standIn is a Harbor for one test, and how it is reached as admin.
type standIn struct {
	*harbortest.Server
	registry schema.Registry
}

// newStandIn starts one. What Harbor's API description does not know of a request
// fails the test.
func newStandIn(t testing.TB, options harbortest.Options) standIn {
	t.Helper()
	password, err := providertest.Secrets{}.Resolve(t.Context(), schema.SecretRef{Env: providertest.SecretA})
	if err != nil {
		t.Fatal(err)
	}
	options.Password = password
	options.Fail = func(s string) { t.Error(s) }
	h := harbortest.New(options)
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	admin := "admin"
	return standIn{h, schema.Registry{
		Type: schema.TypeHarbor, URL: server.URL,
		Login: &schema.Login{User: &admin, Password: &schema.SecretRef{Env: providertest.SecretA}},
	}}
}

// open makes a provider of its own for it.
func (h standIn) open(t testing.TB) *harbor.Provider {
	t.Helper()
	p, err := harbor.New(h.registry, providertest.Secrets{}, nil, harbor.Files(os.DirFS("testdata")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// withScanner has the scanner that every Harbor is installed with: it is the
// default, which cannot be disabled.
func (h standIn) withScanner(t testing.TB) standIn {
	t.Helper()
	h.behind(t, http.MethodPost, "/scanners", `{"name":"installed","url":"http://installed:8080"}`)
	return h
}

// pushed is the cycle of a registry where somebody pushes to a repository, or pulls
// through it, once there is a project for it: Harbor makes none otherwise.
func (h standIn) pushed(ctx context.Context, p providers.Provider, desired schema.State) (int, error) {
	isRepository := func(r schema.Resource) bool { return r.Key.Kind == schema.KindRepository }
	first := desired
	first.Resources = slices.DeleteFunc(slices.Clone(desired.Resources), isRepository)
	if len(first.Resources) == len(desired.Resources) || len(first.Resources) == 0 {
		return providertest.DirectCycle(ctx, p, desired)
	}
	n, err := providertest.DirectCycle(ctx, p, first)
	if err != nil {
		return n, err
	}
	for _, r := range desired.Resources {
		if isRepository(r) {
			if err := h.Push(harbortest.Image{Repository: r.Key.Name, Tags: []string{"latest"}, Size: 1, Cached: true}); err != nil {
				return n, err
			}
		}
	}
	more, err := providertest.DirectCycle(ctx, p, desired)
	return n + more, err
}

// values are those that Harbor takes where it takes fewer than others.
func values() map[string]providertest.Values {
	return map[string]providertest.Values{
		"group/type":                      {Valid: `"oidc"`, Other: `"http"`},
		"user/full_name":                  {Valid: `"First."`, Other: `"Second."`},
		"settings/values.session_timeout": {Valid: `30`, Other: `45`},
		// what Harbor keeps with a schedule alone goes with it: see housekeeping_test.go
		"gc/schedule":    {Valid: `"0 0 3 * * *"`, Other: `"0 0 4 * * SUN"`, Alike: `"0 3 * * *"`},
		"audit/schedule": {Valid: `"0 0 3 * * *"`, Other: `"0 0 4 * * SUN"`, Alike: `"0 3 * * *"`},
		"audit/events":   {Valid: `["create_artifact","delete_artifact"]`, Other: `["delete_artifact"]`, Alike: `["delete_artifact","create_artifact"]`},
		// a proxy, as the namespace of all is, asks for no signature of Notation
		"trust/notation": {Valid: `false`, Other: `true`},
		// and a default scanner is never given up
		"scan/default": {Valid: `"trivy"`, Other: `"trivy-2"`},

		"settings/values.token_expiration": {Valid: `45`, Other: `60`},
	}
}

// newest is the version that has every field.
const newest = "v2.16.0-1"

func TestHarborPassesTheProviderSuite(t *testing.T) {
	made := map[providers.Provider]standIn{}
	providertest.Run(t, providertest.Harness{
		New: func(t testing.TB) providers.Provider {
			t.Helper()
			h := newStandIn(t, harbortest.Options{FirstID: 1000, Version: newest}).withScanner(t)
			p := h.open(t)
			made[p] = h
			return p
		},
		Reopen: func(t testing.TB, p providers.Provider) providers.Provider {
			t.Helper()
			again := made[p].open(t)
			made[again] = made[p]
			return again
		},
		Change: func(t testing.TB, p providers.Provider, r schema.Resource) {
			t.Helper()
			other := made[p].open(t)
			st, _, err := other.Normalize(schema.State{Resources: []schema.Resource{r}})
			if err != nil {
				t.Fatal(err)
			}
			r = st.Resources[0]
			action := plan.Update
			if r.Key.Kind == schema.KindNamespace { // of a project nothing can be
				action = plan.Replace
			}
			change(t, other, plan.Change{Action: action, Key: r.Key, After: &r, Fields: fields(r)})
		},
		Cycle: func(ctx context.Context, p providers.Provider, desired schema.State) (int, error) {
			return made[p].pushed(ctx, p, desired)
		},
		Values: values(),
	})
}

// fields are all that an object declares.
func fields(r schema.Resource) []plan.Field {
	paths, secrets := plan.Managed(r.Spec)
	var out []plan.Field
	for _, p := range paths {
		text, _ := plan.FieldText(r.Spec, p)
		if _, is := secrets[p]; is {
			text = ""
		}
		out = append(out, plan.Field{Path: p, New: text})
	}
	return out
}

// change writes changes, all of which must be done.
func change(t testing.TB, p providers.Provider, changes ...plan.Change) {
	t.Helper()
	for key, err := range write(t, p, changes...) {
		if err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// write writes changes and returns what became of each.
func write(t testing.TB, p providers.Provider, changes ...plan.Change) map[schema.Key]error {
	t.Helper()
	reports := make(chan struct {
		key schema.Key
		err error
	}, 2*len(changes))
	err := p.Write(t.Context(), changes, func(k schema.Key, err error) {
		reports <- struct {
			key schema.Key
			err error
		}{k, err}
	})
	if err != nil {
		t.Fatal(err)
	}
	close(reports)
	out := map[schema.Key]error{}
	for r := range reports {
		out[r.key] = r.err
	}
	for _, c := range changes {
		if _, ok := out[c.Key]; !ok {
			t.Errorf("%s was not reported", c.Key)
		}
	}
	return out
}

// read reads kinds.
func read(t testing.TB, p providers.Provider, kinds ...schema.Kind) schema.State {
	t.Helper()
	slices.Sort(kinds)
	st, err := p.Read(t.Context(), schema.ScopeOf(kinds...))
	if err != nil {
		t.Fatal(err)
	}
	return st
}
