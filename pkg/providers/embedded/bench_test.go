package embedded_test

import (
	"fmt"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/embedded"
	"github.com/ocisync/ocisync/schema"
)

// largeMode is 1,000 namespaces with access rules, and users with or without
// a password to hash.
func largeMode(users int, password bool) []plan.Change {
	var out []plan.Change
	for i := range users {
		u := &schema.User{}
		if password {
			u.Password = &schema.SecretRef{Env: "DEV"}
		}
		out = append(out, create(schema.KindUser, fmt.Sprintf("user-%d", i), u))
	}
	pull := schema.Pull
	for i := range 1000 {
		name := fmt.Sprintf("namespace-%04d", i)
		out = append(out,
			create(schema.KindNamespace, name, &schema.Namespace{Description: &name}),
			create(schema.KindAccess, name, &schema.Access{Authenticated: &pull, Users: schema.NewGrants(schema.Grant{Name: "user-1", Rights: schema.Pull | schema.Push})}))
	}
	return out
}

func benchProvider(b *testing.B, data string) *embedded.Provider {
	b.Helper()
	p, err := embedded.New(schema.Registry{URL: "http://127.0.0.1:1", Run: &schema.Run{Driver: schema.DriverEmbedded, Data: data}}, testSecrets(), nil)
	if err != nil {
		b.Fatal(err)
	}
	return p
}

func benchWrite(b *testing.B, p *embedded.Provider, changes []plan.Change) {
	b.Helper()
	if err := p.Write(b.Context(), changes, func(k schema.Key, err error) {
		if err != nil {
			b.Errorf("%s: %v", k, err)
		}
	}); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkFirstApply writes 1,000 namespaces and 4 users to a new registry;
// the hashing of their passwords is the difference between the two.
func BenchmarkFirstApply(b *testing.B) {
	for _, password := range []bool{false, true} {
		b.Run(fmt.Sprintf("hashing=%t", password), func(b *testing.B) {
			changes := largeMode(4, password)
			for b.Loop() {
				benchWrite(b, benchProvider(b, filepath.Join(b.TempDir(), "data")), changes)
			}
		})
	}
}

// BenchmarkEmptyPlanRead reads what an empty plan needs: all objects, and the
// passwords of 4 users compared.
func BenchmarkEmptyPlanRead(b *testing.B) {
	p := benchProvider(b, filepath.Join(b.TempDir(), "data"))
	benchWrite(b, p, largeMode(4, true))
	b.ResetTimer()
	for b.Loop() {
		st, err := p.Read(b.Context(), allKinds())
		if err != nil || len(st.Resources) != 2004 {
			b.Fatalf("%d objects, %v", len(st.Resources), err)
		}
		for i := range 4 {
			ok, err := p.Check(b.Context(), schema.Key{Kind: schema.KindUser, Name: fmt.Sprintf("user-%d", i)}, "password", schema.SecretRef{Env: "DEV"})
			if err != nil || !ok {
				b.Fatal(ok, err)
			}
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.Sys)/(1<<20), "MiB-from-system")
}
