//go:build integration

package zot_test

import (
	"path/filepath"
	"testing"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/providers/zot"
	"github.com/ocisync/ocisync/schema"
)

// old is a provider whose Zot is 2.1.6: the table's rows of later versions do
// not hold there.
type old struct{ *zot.Provider }

func (o old) Capabilities() schema.Table {
	table := o.Provider.Capabilities()
	for i, row := range table {
		if row.Versions == ">2.1.6" {
			table[i].Support, table[i].Reason = schema.Unsupported, "Zot 2.1.6"
		}
	}
	return table
}

func TestARunningZotPassesTheProviderSuite(t *testing.T) {
	servers := map[string]*server{}
	x := &tester{
		registry: func(t testing.TB) schema.Registry {
			t.Helper()
			return schema.Registry{
				Type: schema.TypeZot, URL: "http://" + freeAddress(t),
				Run: &schema.Run{Driver: schema.DriverProcess, Data: filepath.Join(t.TempDir(), "data")},
			}
		},
		process: func(t testing.TB, r schema.Registry) providers.Process {
			t.Helper()
			if s := servers[r.Run.Data]; s != nil {
				return s
			}
			config := filepath.Join(r.Run.Data, "config.json")
			s := newServer(t, r.URL[len("http://"):], func() []string { return []string{"serve", config} })
			servers[r.Run.Data] = s
			return s
		},
		wrap: func(t testing.TB, p *zot.Provider, process providers.Process) providers.Provider {
			t.Helper()
			if _, err := p.Launch(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := process.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			return old{p}
		},
	}
	providertest.Run(t, x.harness())
}
