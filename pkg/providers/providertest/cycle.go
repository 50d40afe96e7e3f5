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

// Cycle makes a registry as desired, without guards and without deleting, and
// tells how many changes were written; what is only adopted or forgotten does
// not count. It must fail if a change failed.
type Cycle func(ctx context.Context, p providers.Provider, desired schema.State) (changes int, err error)

// DirectCycle is the smallest cycle there is: compare field by field, write
// rank by rank. It knows no ownership, inventory or guards. A provider that
// passes with it and fails with the real one shows a fault of the latter.
func DirectCycle(ctx context.Context, p providers.Provider, desired schema.State) (int, error) {
	norm, _, err := p.Normalize(desired)
	if err != nil {
		return 0, fmt.Errorf("normalizing: %w", err)
	}
	live, err := p.Read(ctx, schema.ScopeOf(norm.Kinds()...))
	if err != nil {
		return 0, fmt.Errorf("reading: %w", err)
	}
	var changes []plan.Change
	for _, want := range norm.Resources {
		if !live.Scope.Covers(want.Key) {
			return 0, fmt.Errorf("%s: the provider does not read it", want.Key)
		}
		c, differs, err := compare(ctx, p, want, live)
		if err != nil {
			return 0, err
		}
		if differs {
			changes = append(changes, c)
		}
	}
	slices.SortStableFunc(changes, func(a, b plan.Change) int { return a.Key.Kind.Rank() - b.Key.Kind.Rank() })
	for rest := changes; len(rest) > 0; {
		n := len(rest)
		if p.Batch() == providers.BatchRank {
			n = 1
			for n < len(rest) && rest[n].Key.Kind.Rank() == rest[0].Key.Kind.Rank() {
				n++
			}
		}
		if err := write(ctx, p, rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(changes), nil
}

func compare(ctx context.Context, p providers.Provider, want schema.Resource, live schema.State) (plan.Change, bool, error) {
	have, exists := live.Get(want.Key)
	if !exists {
		return plan.Change{Action: plan.Create, Key: want.Key, After: &want}, true, nil
	}
	c := plan.Change{Action: plan.Update, Key: want.Key, Before: &have}
	wanted, err := leaves(want.Spec)
	if err != nil {
		return c, false, err
	}
	current, err := leaves(have.Spec)
	if err != nil {
		return c, false, err
	}
	for _, l := range wanted {
		if l.tag == "secret" || isReference(want.Spec, l.path) {
			same, err := sameSecret(ctx, p, want, have, l.path)
			if err != nil {
				return c, false, err
			}
			if !same {
				c.Fields = append(c.Fields, plan.Field{Path: l.path, New: l.json, Sensitive: true})
			}
			continue
		}
		if slices.Contains(have.Unread, l.path) { // what it is there nobody can see
			continue
		}
		old := ""
		if i := slices.IndexFunc(current, func(o leaf) bool { return o.path == l.path }); i >= 0 {
			old = current[i].json
		}
		if old == l.json || old == "" && isEmpty(l.json) {
			continue
		}
		if l.tag == "replace" {
			c.Action = plan.Replace
		}
		c.Fields = append(c.Fields, plan.Field{Path: l.path, Old: old, New: l.json})
	}
	if len(c.Fields) == 0 {
		return c, false, nil
	}
	after := want
	after.Spec, err = overlay(have.Spec, want.Spec)
	c.After = &after
	return c, true, err
}

// isEmpty reports whether a value says that nothing is there, so that a
// registry may leave the field out.
func isEmpty(json string) bool {
	return slices.Contains([]string{`""`, `[]`, `{}`, `false`, `0`, `"none"`, `"never"`, `"unlimited"`}, json)
}

func isReference(s schema.Spec, path string) bool {
	return slices.ContainsFunc(schema.Secrets(s), func(f schema.SecretField) bool { return f.Path == path })
}

// sameSecret takes a secret that exists and cannot be compared as unchanged.
func sameSecret(ctx context.Context, p providers.Provider, want, have schema.Resource, path string) (bool, error) {
	if !slices.Contains(have.Unread, path) {
		return false, nil
	}
	checker, ok := p.(providers.Checker)
	if !ok {
		return true, nil
	}
	for _, f := range schema.Secrets(want.Spec) {
		if f.Path != path {
			continue
		}
		same, err := checker.Check(ctx, want.Key, path, f.Ref)
		if errors.Is(err, providers.ErrUnsupported) {
			return true, nil
		}
		return same, err
	}
	return true, nil
}

// write makes changes of one stage and joins what failed.
func write(ctx context.Context, p providers.Provider, changes []plan.Change) error {
	var mu sync.Mutex
	var failed []error
	reported := map[schema.Key]int{}
	err := p.Write(ctx, changes, func(k schema.Key, err error) {
		mu.Lock()
		defer mu.Unlock()
		reported[k]++
		if err != nil {
			failed = append(failed, fmt.Errorf("writing %s: %w", k, err))
		}
	})
	mu.Lock()
	defer mu.Unlock()
	for _, c := range changes {
		if n := reported[c.Key]; n > 1 || n == 0 && err == nil {
			failed = append(failed, fmt.Errorf("%s was reported %d times", c.Key, n))
		}
	}
	return errors.Join(append(failed, err)...)
}
