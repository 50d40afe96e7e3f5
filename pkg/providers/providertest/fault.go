package providertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// ErrInjected is the failure that [FailNth] makes.
var ErrInjected = errors.New("injected failure")

// When says whether a failing change took effect.
type When int

// A change fails before it is sent, or after it took effect: the answer is lost.
const (
	Before When = iota
	After
)

// Faulty is a provider one of whose written changes fails.
type Faulty struct {
	providers.Provider
	n    int
	when When

	mu   sync.Mutex
	seen int
	sent []schema.Key
}

// FailNth returns a provider whose n-th change (from 1, counted over all calls
// of Write) is reported as failed with ErrInjected, before or after it took
// effect; all else goes to p. Use n = 0 to record only.
func FailNth(p providers.Provider, n int, when When) *Faulty {
	return &Faulty{Provider: p, n: n, when: when}
}

// Sent lists the keys of the changes that reached the provider, in order.
func (f *Faulty) Sent() []schema.Key {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.sent)
}

// Write sends the changes in one call and lets the n-th fail.
func (f *Faulty) Write(ctx context.Context, changes []plan.Change, report func(schema.Key, error)) error {
	f.mu.Lock()
	i := f.n - f.seen - 1
	f.seen += len(changes)
	var failed *schema.Key
	if i >= 0 && i < len(changes) {
		failed = &changes[i].Key
		if f.when == Before {
			changes = slices.Delete(slices.Clone(changes), i, i+1)
		}
	}
	for _, c := range changes {
		f.sent = append(f.sent, c.Key)
	}
	f.mu.Unlock()

	if failed != nil && f.when == Before {
		report(*failed, fmt.Errorf("%s: %w", *failed, ErrInjected))
	}
	if len(changes) == 0 {
		return nil
	}
	return f.Provider.Write(ctx, changes, func(k schema.Key, err error) {
		if failed != nil && f.when == After && k == *failed {
			err = fmt.Errorf("%s: %w", k, ErrInjected)
		}
		report(k, err)
	})
}

// Check passes on; ErrUnsupported where the provider is no Checker.
func (f *Faulty) Check(ctx context.Context, key schema.Key, field string, ref schema.SecretRef) (bool, error) {
	return providers.ReadOnly(f.Provider).(providers.Checker).Check(ctx, key, field, ref)
}
