package providers

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/schema"
)

// Trace returns a provider that logs each call that speaks to the registry, at
// debug level: how long it took, how many objects of which kinds it was about,
// and the kind of error. Names, values and error texts are not logged. It is a
// [Checker] that answers ErrUnsupported where p is none.
func Trace(p Provider, log *slog.Logger) Provider { return tracer{p, log} }

type tracer struct {
	inner Provider
	log   *slog.Logger
}

var _ Checker = tracer{}

func (t tracer) Capabilities() schema.Table { return t.inner.Capabilities() }

func (t tracer) Normalize(s schema.State) (schema.State, []plan.Note, error) {
	return t.inner.Normalize(s)
}

func (t tracer) Read(ctx context.Context, scope schema.Scope) (schema.State, error) {
	start := time.Now()
	s, err := t.inner.Read(ctx, scope)
	var count counts
	for _, r := range s.Resources {
		count.add(r.Key)
	}
	t.done(ctx, "read", start, count, err)
	return s, err
}

func (t tracer) Prepare(ctx context.Context, changes []plan.Change) ([]Verdict, error) {
	start := time.Now()
	v, err := t.inner.Prepare(ctx, changes)
	t.done(ctx, "prepare", start, countChanges(changes), err)
	return v, err
}

func (t tracer) Write(ctx context.Context, changes []plan.Change, report func(schema.Key, error)) error {
	start := time.Now()
	var mu sync.Mutex
	var failed counts
	err := t.inner.Write(ctx, changes, func(k schema.Key, err error) {
		if err != nil {
			mu.Lock()
			failed.add(k)
			mu.Unlock()
		}
		report(k, err)
	})
	mu.Lock()
	defer mu.Unlock()
	t.done(ctx, "write", start, countChanges(changes), err, slog.Any("failed", failed))
	return err
}

func (t tracer) Batch() Batch { return t.inner.Batch() }

func (t tracer) Check(ctx context.Context, key schema.Key, field string, ref schema.SecretRef) (bool, error) {
	start := time.Now()
	equal, err := check(ctx, t.inner, key, field, ref)
	var count counts
	count.add(key)
	t.done(ctx, "check", start, count, err)
	return equal, err
}

func (t tracer) done(ctx context.Context, call string, start time.Time, objects counts, err error, more ...slog.Attr) {
	attrs := append([]slog.Attr{
		slog.String("call", call),
		slog.Duration("took", time.Since(start)),
		slog.Any("objects", objects),
	}, more...)
	if err != nil {
		attrs = append(attrs, slog.String("error", errorKind(err)))
	}
	t.log.LogAttrs(ctx, slog.LevelDebug, "provider", attrs...)
}

// errorKind names an error by its kind, since its text may quote a registry.
func errorKind(err error) string {
	for _, kind := range []error{
		ErrUnreachable, ErrUnauthorized, ErrForbidden, ErrNotRegistry, ErrNotFound, ErrConflict,
		ErrUnsupported, ErrInvalid, ErrReadOnly, ErrPending, context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, kind) {
			return kind.Error()
		}
	}
	return "other"
}

// counts is how many objects of each kind, sorted by kind.
type counts []kindCount

type kindCount struct {
	kind schema.Kind
	n    int
}

func (c *counts) add(k schema.Key) {
	i, found := slices.BinarySearchFunc(*c, k.Kind, func(a kindCount, k schema.Kind) int {
		return schema.Key{Kind: a.kind}.Compare(schema.Key{Kind: k})
	})
	if !found {
		*c = slices.Insert(*c, i, kindCount{k.Kind, 0})
	}
	(*c)[i].n++
}

func countChanges(changes []plan.Change) counts {
	var c counts
	for _, ch := range changes {
		c.add(ch.Key)
	}
	return c
}

// LogValue prints the counts as a group: user=3.
func (c counts) LogValue() slog.Value {
	attrs := make([]slog.Attr, 0, len(c))
	for _, k := range c {
		attrs = append(attrs, slog.Int(string(k.kind), k.n))
	}
	return slog.GroupValue(attrs...)
}
