package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/ocisync/ocisync/pkg/access"
	registry "github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/embedded"
	"github.com/ocisync/ocisync/schema"
)

var (
	_ providers.Provider = (*embedded.Provider)(nil)
	_ providers.Checker  = (*embedded.Provider)(nil)

	_ providers.Acknowledger = (*embedded.Provider)(nil)
)

// Distribution never ends the goroutine that broadcasts its events, one per
// registry opened.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/docker/go-events.(*Broadcaster).run"))
}

// secrets resolves env references from a map.
type secrets map[string]string

func (s secrets) Resolve(_ context.Context, ref schema.SecretRef) (string, error) {
	v, ok := s[ref.Env]
	if !ok {
		return "", fmt.Errorf("%s is not set", ref)
	}
	return v, nil
}

func testSecrets() secrets { return secrets{"ROOT": "root's password", "DEV": "dev's password"} }

func newProvider(t *testing.T, data, url string, options ...embedded.Option) *embedded.Provider {
	t.Helper()
	p, err := embedded.New(schema.Registry{
		Type: schema.TypeDistribution, URL: url,
		Run:   &schema.Run{Driver: schema.DriverEmbedded, Data: data},
		Login: &schema.Login{User: new("root"), Password: &schema.SecretRef{Env: "ROOT"}},
	}, testSecrets(), nil, options...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// up serves a data directory until the test ends and returns its URL.
func up(t *testing.T, data string) string {
	t.Helper()
	r, err := registry.Open(t.Context(), registry.Options{Data: data, Listen: "127.0.0.1:0", Command: "ocisync up"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, r.Close()); err != nil {
			t.Error(err)
		}
	})
	return "http://" + r.Addr()
}

func allKinds() schema.Scope {
	return schema.ScopeOf(schema.KindUser, schema.KindGroup, schema.KindNamespace, schema.KindAccess)
}

func create(kind schema.Kind, name string, spec schema.Spec) plan.Change {
	return plan.Change{Action: plan.Create, Key: schema.Key{Kind: kind, Name: name}, After: &schema.Resource{Key: schema.Key{Kind: kind, Name: name}, Spec: spec}}
}

func firstChanges() []plan.Change {
	pull := schema.Pull
	return []plan.Change{
		create(schema.KindUser, "root", &schema.User{Admin: new(true), Email: new("root@example.com"), Password: &schema.SecretRef{Env: "ROOT"}}),
		create(schema.KindUser, "dev", &schema.User{Password: &schema.SecretRef{Env: "DEV"}}),
		create(schema.KindGroup, "team", &schema.Group{Users: schema.NewSet("dev")}),
		create(schema.KindNamespace, "apps", &schema.Namespace{Description: new("applications")}),
		create(schema.KindAccess, "apps", &schema.Access{Anonymous: &pull, Groups: schema.NewGrants(schema.Grant{Name: "team", Rights: schema.Pull | schema.Push})}),
	}
}

// write makes the changes; every key must be reported once.
func write(t *testing.T, p *embedded.Provider, changes ...plan.Change) map[schema.Key]error {
	t.Helper()
	got := map[schema.Key]error{}
	if err := p.Write(t.Context(), changes, func(k schema.Key, err error) {
		if _, twice := got[k]; twice {
			t.Errorf("%s is reported twice", k)
		}
		got[k] = err
	}); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(changes) {
		t.Errorf("%d keys reported of %d", len(got), len(changes))
	}
	return got
}

func mustWrite(t *testing.T, p *embedded.Provider, changes ...plan.Change) {
	t.Helper()
	for k, err := range write(t, p, changes...) {
		if err != nil {
			t.Fatalf("%s: %v", k, err)
		}
	}
}

func read(t *testing.T, p *embedded.Provider, scope schema.Scope) schema.State {
	t.Helper()
	st, err := p.Read(t.Context(), scope)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestReadReturnsWhatWasWrittenHoweverItIsReached(t *testing.T) {
	reaches := map[string]func(t *testing.T) *embedded.Provider{
		"nobody serves it": func(t *testing.T) *embedded.Provider {
			t.Helper()
			return newProvider(t, filepath.Join(t.TempDir(), "data"), "http://"+porttest.Address(t))
		},
		"a process here serves it": func(t *testing.T) *embedded.Provider {
			t.Helper()
			data := filepath.Join(t.TempDir(), "data")
			return newProvider(t, data, up(t, data))
		},
	}
	for how, reach := range reaches {
		t.Run(how, func(t *testing.T) {
			p := reach(t)
			if st := read(t, p, allKinds()); len(st.Resources) != 0 || !cmp.Equal(st.Scope, allKinds()) {
				t.Fatalf("a new registry is not empty with full scope: %v", st)
			}
			mustWrite(t, p, firstChanges()...)
			st := read(t, p, allKinds())
			var keys []string
			for _, r := range st.Resources {
				keys = append(keys, r.Key.String())
				if r.Version == "" {
					t.Errorf("%s has no version", r.Key)
				}
			}
			if d := cmp.Diff([]string{"access/apps", "group/team", "namespace/apps", "user/dev", "user/root"}, keys); d != "" {
				t.Error(d)
			}
			root, _ := st.Get(schema.Key{Kind: schema.KindUser, Name: "root"})
			want := &schema.User{Admin: new(true), Email: new("root@example.com"), FullName: new(""), Comment: new("")}
			if d := cmp.Diff(want, root.Spec); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff([]string{"password"}, root.Unread); d != "" {
				t.Error(d)
			}
			mustWrite(t, p, firstChanges()...) // again: changes nothing but the passwords
			again := read(t, p, schema.ScopeOf(schema.KindAccess, schema.KindGroup, schema.KindNamespace))
			for _, r := range again.Resources {
				if before, _ := st.Get(r.Key); before.Version != r.Version {
					t.Errorf("%s: writing what holds made version %s of %s", r.Key, r.Version, before.Version)
				}
			}
			for secret, want := range map[string]bool{"ROOT": true, "DEV": false} {
				got, err := p.Check(t.Context(), root.Key, "password", schema.SecretRef{Env: secret})
				if err != nil || got != want {
					t.Errorf("checking root's password against %s: %v, %v", secret, got, err)
				}
			}
		})
	}
}

func TestOutsideIsPartOfThePlan(t *testing.T) {
	p := newProvider(t, filepath.Join(t.TempDir(), "data"), "http://"+porttest.Address(t), embedded.Outside(access.Leave))
	desired, _, err := p.Normalize(schema.State{})
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := p.Normalize(desired)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(desired, again); d != "" {
		t.Errorf("Normalize is not idempotent: %s", d)
	}
	if len(desired.Resources) != 1 || !desired.Scope.Covers(schema.Key{Kind: schema.KindSettings}) {
		t.Fatalf("no settings in %v", desired)
	}
	mustWrite(t, p, plan.Change{Action: plan.Create, Key: desired.Resources[0].Key, After: &desired.Resources[0]})
	live := read(t, p, schema.Scope{})
	if len(live.Resources) != 1 {
		t.Fatalf("no settings in %v", live)
	}
	if d := cmp.Diff(desired.Resources[0].Spec, live.Resources[0].Spec); d != "" {
		t.Error(d)
	}
}

func TestPrepareRefusesWhatTheRegistryHasNot(t *testing.T) {
	p := newProvider(t, filepath.Join(t.TempDir(), "data"), "http://"+porttest.Address(t))
	changes := append(firstChanges(),
		create(schema.KindWebhook, "apps/ci", &schema.Webhook{}),
		create(schema.KindAccess, "apps", &schema.Access{Conditions: schema.NewSet("true")}),
		create(schema.KindNamespace, "ocisync", &schema.Namespace{}),
		plan.Change{Action: plan.Rename, Key: schema.Key{Kind: schema.KindNamespace, Name: "apps"}},
	)
	verdicts, err := p.Prepare(t.Context(), changes)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range verdicts {
		if refused := i >= len(firstChanges()); (v.Refused != "") != refused {
			t.Errorf("%s: refused %q", changes[i].Key, v.Refused)
		}
		if v.Effect != plan.Live {
			t.Errorf("%s: effect %s", changes[i].Key, v.Effect)
		}
	}
}

func TestEveryKindHasARow(t *testing.T) {
	table := newProvider(t, t.TempDir(), "http://"+porttest.Address(t)).Capabilities()
	for _, k := range schema.Kinds() {
		if row := table.Find(k, ""); row.Reason == "not part of this registry" {
			t.Errorf("%s has no row", k)
		}
	}
	for _, row := range table {
		if row.Support != schema.Native && row.Reason == "" { // one that is native may have something to be known
			t.Errorf("%s %s: %s without a reason", row.Kind, row.Field, row.Support)
		}
	}
}

func TestNewWantsADirectoryAndAnAddress(t *testing.T) {
	for _, r := range []schema.Registry{
		{URL: "localhost:5000", Run: &schema.Run{Driver: schema.DriverEmbedded, Data: "x"}},
		{URL: "http://localhost:5000"},
		{URL: "http://localhost:5000", Run: &schema.Run{Driver: schema.DriverEmbedded}},
	} {
		if _, err := embedded.New(r, testSecrets(), nil); err == nil || !strings.Contains(err.Error(), r.URL) {
			t.Errorf("%+v: error %v", r, err)
		}
	}
}
