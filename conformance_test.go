package ocisync_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/pkg/apply"
	registry "github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/embedded"
	"github.com/ocisync/ocisync/pkg/providers/memory"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/state"
	"github.com/ocisync/ocisync/schema"
)

// realCycle is the product's own loop, with an inventory for each provider
// that lasts from one run to the next: plan, approve what is held by the
// plan's digest, apply, and prove it by reading again.
type realCycle struct {
	key state.Key
	mu  sync.Mutex
	// stored is what a store would hold, by the address of the provider.
	stored map[providers.Provider][]byte
}

func newRealCycle(t *testing.T) *realCycle {
	t.Helper()
	k, err := state.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return &realCycle{key: k, stored: map[providers.Provider][]byte{}}
}

// moved makes the inventory of one provider that of another, which reaches the
// same registry.
func (r *realCycle) moved(from, to providers.Provider) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stored[to] = r.stored[from]
}

func (r *realCycle) open(p providers.Provider, id state.Identity) (state.Inventory, state.Trust) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return state.Open(r.stored[p], id, r.key.Public(), 0)
}

func (r *realCycle) cycle(p providers.Provider, cfg *schema.Config) apply.Cycle {
	id := state.Identity{Mode: cfg.Mode, Registry: plan.Registry{Type: cfg.Registry.Type, URL: cfg.Registry.URL}}
	inv, trust := r.open(p, id)
	return apply.Cycle{
		Config: cfg, Provider: p, Inventory: inv, Trust: trust, Key: r.key,
		AtHand: func(ctx context.Context, ref schema.SecretRef) (string, bool, error) {
			v, err := providertest.Secrets{}.Resolve(ctx, ref)
			return v, err == nil, nil
		},
		Today: schema.Date{Year: 2026, Month: 1, Day: 2},
	}
}

// run satisfies [providertest.Cycle].
func (r *realCycle) run(ctx context.Context, p providers.Provider, desired schema.State) (int, error) {
	cfg := &schema.Config{
		Mode: "conformance", Desired: desired,
		Registry: schema.Registry{Type: "conformance", URL: "http://registry.example.com"},
	}
	c := r.cycle(p, cfg)
	found, err := c.Plan(ctx)
	if err != nil {
		return 0, err
	}
	if len(found.Plan.Held) > 0 {
		c.Approved = found.Digest
		if found, err = c.Plan(ctx); err != nil {
			return 0, err
		}
	}
	if len(found.Plan.Refusals) > 0 || len(found.Plan.Held) > 0 {
		return 0, fmt.Errorf("refused: %v; held after its approval: %v", found.Plan.Refusals, found.Plan.Held)
	}
	report, err := c.Apply(ctx, found, apply.Run{
		Who: state.Run{ID: "conformance"}, Journal: noJournal{},
		Save: func(_ context.Context, inv state.Inventory) error {
			inv.Serial = state.NextSerial(inv, 0)
			data, err := state.Seal(inv, r.key)
			r.mu.Lock()
			defer r.mu.Unlock()
			r.stored[p] = data
			return err
		},
	})
	if err != nil {
		return 0, err
	}
	var failed []error
	for _, l := range report.Lines {
		if l.Outcome != apply.Done {
			failed = append(failed, fmt.Errorf("%s %s: %s: %w", l.Action, l.Key, l.Outcome, l.Err))
		}
	}
	if _, err := r.cycle(p, cfg).Verify(ctx, report); err != nil {
		failed = append(failed, err)
	}
	return report.Count(apply.Done), errors.Join(failed...)
}

type noJournal struct{}

func (noJournal) Begin(...plan.Change) error { return nil }
func (noJournal) End(...state.Result) error  { return nil }

// change writes an object past the cycle, as somebody else would.
func change(t testing.TB, p providers.Provider, r schema.Resource) {
	t.Helper()
	var fields []plan.Field
	for _, f := range schema.Secrets(r.Spec) {
		fields = append(fields, plan.Field{Path: f.Path})
	}
	c := plan.Change{Action: plan.Update, Key: r.Key, After: &r, Fields: fields}
	if err := p.Write(t.Context(), []plan.Change{c}, func(_ schema.Key, err error) {
		if err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

func TestTheMemoryProviderPassesTheSuiteWithTheRealCycle(t *testing.T) {
	t.Parallel()
	cycle := newRealCycle(t)
	providertest.Run(t, providertest.Harness{
		New: func(t testing.TB) providers.Provider {
			t.Helper()
			p, err := memory.New(providertest.Secrets{}, schema.State{})
			if err != nil {
				t.Fatal(err)
			}
			return p
		},
		Reopen: func(_ testing.TB, p providers.Provider) providers.Provider { return p },
		Change: change,
		Cycle:  cycle.run,
		Values: map[string]providertest.Values{
			"settings/values.log.level":       {Valid: `"info"`, Other: `"debug"`, Empty: `""`},
			"settings/values.storage.drivers": {Valid: `["a","b"]`, Other: `["b","a"]`, Empty: `[]`},
			"settings/values.ldap.password": {
				Valid: `{"env":"` + providertest.SecretA + `"}`, Other: `{"env":"` + providertest.SecretB + `"}`,
			},
		},
	})
}

// The embedded registry is reached in two ways: by its data directory while
// nobody serves it, and by the admin socket of the process that does.
func TestTheEmbeddedProviderPassesTheSuiteWithTheRealCycle(t *testing.T) {
	t.Parallel()
	for how, serve := range map[string]bool{"nobody serves the directory": false, "served, by the admin socket": true} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			cycle := newRealCycle(t)
			data := map[providers.Provider]string{}
			open := func(t testing.TB, dir string) providers.Provider {
				t.Helper()
				p, err := embedded.New(schema.Registry{
					Type: schema.TypeDistribution, URL: "http://" + porttest.Address(t),
					Run: &schema.Run{Driver: schema.DriverEmbedded, Data: dir},
				}, providertest.Secrets{}, nil, embedded.HashCost(bcrypt.MinCost))
				if err != nil {
					t.Fatal(err)
				}
				data[p] = dir
				return p
			}
			h := providertest.Harness{
				New: func(t testing.TB) providers.Provider {
					t.Helper()
					dir := filepath.Join(t.TempDir(), "data")
					if serve {
						served(t, registry.Options{Data: dir})
					}
					return open(t, dir)
				},
				Reopen: func(t testing.TB, p providers.Provider) providers.Provider {
					t.Helper()
					again := open(t, data[p])
					cycle.moved(p, again)
					return again
				},
				Cycle: cycle.run,
			}
			if serve { // versions are made in one place: once is enough for the many passwords it hashes
				h.Change = change
			}
			providertest.Run(t, h)
		})
	}
}

// served runs a registry until the test ends.
func served(t testing.TB, o registry.Options) *registry.Registry {
	t.Helper()
	r, err := registry.Open(t.Context(), o)
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
	return r
}
