package zot_test

import (
	"fmt"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/providers/zot"
	"github.com/ocisync/ocisync/schema"
)

// largeMode is namespaces with access and retention, and users.
func largeMode(namespaces int) schema.State {
	st := schema.State{}
	add := func(kind schema.Kind, name string, spec schema.Spec) {
		st.Resources = append(st.Resources, schema.Resource{Key: schema.Key{Kind: kind, Name: name}, Spec: spec})
	}
	for i := range 200 {
		add(schema.KindUser, fmt.Sprintf("user-%d", i), &schema.User{Admin: new(i == 0)})
	}
	pull := schema.Pull
	for i := range namespaces {
		name := fmt.Sprintf("namespace-%04d", i)
		add(schema.KindNamespace, name, &schema.Namespace{Description: &name})
		add(schema.KindAccess, name, &schema.Access{
			Authenticated: &pull,
			Users:         schema.NewGrants(schema.Grant{Name: fmt.Sprintf("user-%d", i%200), Rights: schema.Pull | schema.Push}),
		})
		add(schema.KindRetention, name, &schema.Retention{Keep: []schema.KeepRule{{Newest: 10}, {PushedWithin: 90 * 86400}}})
	}
	if err := st.Sort(); err != nil {
		panic(err)
	}
	st.Scope = schema.ScopeOf(st.Kinds()...)
	return st
}

func benchProvider(b *testing.B) *zot.Provider {
	b.Helper()
	p, err := zot.New(schema.Registry{
		Type: schema.TypeZot, URL: "http://127.0.0.1:9",
		Run: &schema.Run{Driver: schema.DriverProcess, Data: filepath.Join(b.TempDir(), "data")},
	}, nil, providertest.Secrets{}, nil, zot.HashCost(bcrypt.MinCost))
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// BenchmarkFirstApply writes 1,000 namespaces with access and retention to a
// registry that does not run.
func BenchmarkFirstApply(b *testing.B) {
	st := largeMode(1000)
	for b.Loop() {
		if n, err := providertest.DirectCycle(b.Context(), benchProvider(b), st); err != nil || n < 3000 {
			b.Fatal(n, err)
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.Sys)/(1<<20), "MiB-from-system")
}

// BenchmarkEmptyPlan reads and compares what an empty plan needs.
func BenchmarkEmptyPlan(b *testing.B) {
	st, p := largeMode(1000), benchProvider(b)
	if _, err := providertest.DirectCycle(b.Context(), p, st); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if n, err := providertest.DirectCycle(b.Context(), p, st); err != nil || n != 0 {
			b.Fatal(n, err)
		}
	}
}
