package zot_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/providers/zot"
	"github.com/ocisync/ocisync/schema"
)

// values are those that Zot takes where it takes fewer than others.
func values() map[string]providertest.Values {
	return map[string]providertest.Values{
		"gc/schedule":                {Valid: `"@every 1h"`, Other: `"@every 2h"`, Empty: `"none"`, Alike: ""},
		"immutable/rules":            {Valid: `[{"tags":"**"}]`, Other: `[]`},
		"replication/trigger":        {Valid: `{"schedule":"@every 1h"}`, Other: `{"schedule":"@every 2h"}`, Empty: `"manual"`},
		"settings/values.http.realm": {Valid: `"registry"`, Other: `"other \"realm\""`},
	}
}

// tester makes providers of one kind of Zot for the suite.
type tester struct {
	registry func(t testing.TB) schema.Registry
	process  func(t testing.TB, r schema.Registry) providers.Process
	wrap     func(testing.TB, *zot.Provider, providers.Process) providers.Provider
	made     map[providers.Provider]schema.Registry
}

func (x *tester) open(t testing.TB, r schema.Registry) providers.Provider {
	t.Helper()
	var process providers.Process
	if x.process != nil {
		process = x.process(t, r)
	}
	p, err := zot.New(r, process, providertest.Secrets{}, nil, zot.HashCost(bcrypt.MinCost))
	if err != nil {
		t.Fatal(err)
	}
	if x.wrap == nil {
		x.made[p] = r
		return p
	}
	w := x.wrap(t, p, process)
	x.made[w] = r
	return w
}

func (x *tester) harness() providertest.Harness {
	x.made = map[providers.Provider]schema.Registry{}
	return providertest.Harness{
		New: func(t testing.TB) providers.Provider {
			t.Helper()
			return x.open(t, x.registry(t))
		},
		Reopen: func(t testing.TB, p providers.Provider) providers.Provider {
			t.Helper()
			return x.open(t, x.made[p])
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
			c := plan.Change{Action: plan.Update, Key: r.Key, After: &r, Fields: fields}
			if err := p.Write(t.Context(), []plan.Change{c}, func(_ schema.Key, err error) {
				if err != nil {
					t.Fatal(err)
				}
			}); err != nil {
				t.Fatal(err)
			}
		},
		Values: values(),
	}
}

// handWritten is a configuration as somebody might begin with.
const handWritten = `{
    "distSpecVersion": "1.1.1",
    "storage": {"rootDirectory": "/nonexistent/zot"},
    "http": {"address": "127.0.0.1", "port": "9"}
}
`

func TestAStoppedZotPassesTheProviderSuite(t *testing.T) {
	t.Run("run by ocisync", func(t *testing.T) {
		t.Parallel() // much of it waits for the disk
		x := &tester{registry: func(t testing.TB) schema.Registry {
			t.Helper()
			return schema.Registry{Type: schema.TypeZot, URL: "http://127.0.0.1:9", Run: &schema.Run{Driver: schema.DriverProcess, Data: filepath.Join(t.TempDir(), "data")}}
		}}
		providertest.Run(t, x.harness())
	})
	t.Run("run by somebody else", func(t *testing.T) {
		t.Parallel()
		x := &tester{registry: func(t testing.TB) schema.Registry {
			t.Helper()
			dir := t.TempDir()
			name := filepath.Join(dir, "zot.json")
			if err := os.WriteFile(name, []byte(handWritten), 0o600); err != nil {
				t.Fatal(err)
			}
			return schema.Registry{Type: schema.TypeZot, URL: "http://127.0.0.1:9", Files: &schema.FilePaths{Config: name, Htpasswd: filepath.Join(dir, "htpasswd")}}
		}}
		providertest.Run(t, x.harness())
	})
}
