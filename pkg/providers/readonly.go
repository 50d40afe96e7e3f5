package providers

import (
	"context"
	"fmt"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/schema"
)

// ReadOnly returns a provider that cannot write: its Write returns ErrReadOnly
// and reports nothing. It embeds nothing, so that a method added to [Provider]
// is not passed on before somebody decides that it only reads. It is a
// [Checker] that answers ErrUnsupported where p is none.
func ReadOnly(p Provider) Provider { return readOnly{p} }

type readOnly struct{ inner Provider }

var _ Checker = readOnly{}

func (r readOnly) Capabilities() schema.Table { return r.inner.Capabilities() }

func (r readOnly) Normalize(s schema.State) (schema.State, []plan.Note, error) {
	return r.inner.Normalize(s)
}

func (r readOnly) Read(ctx context.Context, scope schema.Scope) (schema.State, error) {
	return r.inner.Read(ctx, scope)
}

func (r readOnly) Prepare(ctx context.Context, changes []plan.Change) ([]Verdict, error) {
	return r.inner.Prepare(ctx, changes)
}

func (r readOnly) Write(_ context.Context, changes []plan.Change, _ func(schema.Key, error)) error {
	return fmt.Errorf("writing %d changes: %w", len(changes), ErrReadOnly)
}

func (r readOnly) Batch() Batch { return r.inner.Batch() }

func (r readOnly) Check(ctx context.Context, key schema.Key, field string, ref schema.SecretRef) (bool, error) {
	return check(ctx, r.inner, key, field, ref)
}

// check asks a provider that may be a Checker.
func check(ctx context.Context, p Provider, key schema.Key, field string, ref schema.SecretRef) (bool, error) {
	c, ok := p.(Checker)
	if !ok {
		return false, fmt.Errorf("%s: comparing %s: %w", key, field, ErrUnsupported)
	}
	return c.Check(ctx, key, field, ref)
}
