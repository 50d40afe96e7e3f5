package providertest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/memory"
	"github.com/ocisync/ocisync/schema"
)

// recorder takes what a check says instead of failing the test.
type recorder struct {
	testing.TB
	mu      sync.Mutex
	failed  []string
	skipped string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = append(r.failed, fmt.Sprintf(format, args...))
}
func (r *recorder) Error(args ...any)                 { r.Errorf("%s", fmt.Sprint(args...)) }
func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...); runtime.Goexit() }
func (r *recorder) Fatal(args ...any)                 { r.Error(args...); runtime.Goexit() }
func (r *recorder) Skipf(format string, args ...any) {
	r.skipped = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func record(t *testing.T, f func(testing.TB)) *recorder {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r
}

// faulty is the in-memory registry with some methods replaced.
type faulty struct {
	*memory.Provider
	table     func() schema.Table
	normalize func(schema.State) (schema.State, []plan.Note, error)
	read      func(context.Context, schema.Scope) (schema.State, error)
	prepare   func(context.Context, []plan.Change) ([]providers.Verdict, error)
	write     func(context.Context, []plan.Change, func(schema.Key, error)) error
}

func (f *faulty) Capabilities() schema.Table { return f.table() }
func (f *faulty) Normalize(s schema.State) (schema.State, []plan.Note, error) {
	return f.normalize(s)
}
func (f *faulty) Read(ctx context.Context, s schema.Scope) (schema.State, error) {
	return f.read(ctx, s)
}
func (f *faulty) Prepare(ctx context.Context, c []plan.Change) ([]providers.Verdict, error) {
	return f.prepare(ctx, c)
}
func (f *faulty) Write(ctx context.Context, c []plan.Change, report func(schema.Key, error)) error {
	return f.write(ctx, c, report)
}

func newFaulty(t testing.TB, spoil func(*faulty)) *faulty {
	t.Helper()
	p, err := memory.New(Secrets{}, schema.State{})
	if err != nil {
		t.Fatal(err)
	}
	f := &faulty{p, p.Capabilities, p.Normalize, p.Read, p.Prepare, p.Write}
	if spoil != nil {
		spoil(f)
	}
	return f
}

func harness(spoil func(*faulty)) Harness {
	return Harness{
		New:    func(t testing.TB) providers.Provider { return newFaulty(t, spoil) },
		Reopen: func(_ testing.TB, p providers.Provider) providers.Provider { return p },
		Change: func(t testing.TB, p providers.Provider, r schema.Resource) {
			if err := write(t.Context(), p, []plan.Change{{Action: plan.Update, Key: r.Key, After: &r}}); err != nil {
				t.Fatal(err)
			}
		},
		Cycle:  DirectCycle,
		Values: map[string]Values{"settings/values.a": {Valid: `1`, Other: `2`}},
	}
}

// onWrite lets a fault see each change before it is written.
func onWrite(fault func(*plan.Change)) func(*faulty) {
	return func(f *faulty) {
		f.write = func(ctx context.Context, changes []plan.Change, report func(schema.Key, error)) error {
			changes = slices.Clone(changes)
			for i := range changes {
				if changes[i].After != nil {
					after := *changes[i].After
					changes[i].After = &after
				}
				fault(&changes[i])
			}
			return f.Provider.Write(ctx, changes, report)
		}
	}
}

// onRead lets a fault see what was read.
func onRead(fault func(*schema.State)) func(*faulty) {
	return func(f *faulty) {
		f.read = func(ctx context.Context, scope schema.Scope) (schema.State, error) {
			s, err := f.Provider.Read(ctx, scope)
			fault(&s)
			return s, err
		}
	}
}

func withoutFormat(c *plan.Change) {
	if w, ok := afterSpec(c).(*schema.Webhook); ok {
		copied := *w
		copied.Format = nil
		c.After.Spec = &copied
	}
}

func afterSpec(c *plan.Change) schema.Spec {
	if c.After == nil {
		return nil
	}
	return c.After.Spec
}

func without(k schema.Kind, field string) func(*faulty) {
	return func(f *faulty) {
		table := append(f.Provider.Capabilities(), schema.Capability{
			Kind: k, Field: field, Support: schema.Unsupported, Reason: "a test says so",
		})
		f.table = func() schema.Table { return table }
	}
}
