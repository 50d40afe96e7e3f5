package providers_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/memory"
	"github.com/ocisync/ocisync/schema"
)

type oneSecret string

func (s oneSecret) Resolve(context.Context, schema.SecretRef) (string, error) { return string(s), nil }

// unchecked hides that a provider is a Checker.
type unchecked struct{ providers.Provider }

func user() schema.Resource {
	return schema.Resource{
		Key:  schema.Key{Kind: schema.KindUser, Name: "name-canary"},
		Spec: &schema.User{Password: &schema.SecretRef{Env: "OCISYNC_P"}},
	}
}

func registry(t *testing.T) providers.Provider {
	t.Helper()
	p, err := memory.New(oneSecret("value-canary"), schema.State{})
	if err != nil {
		t.Fatal(err)
	}
	u := user()
	if err := p.Write(t.Context(), []plan.Change{{Action: plan.Create, Key: u.Key, After: &u}}, func(_ schema.Key, err error) {
		if err != nil {
			t.Fatal(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestReadOnlyWritesNothing(t *testing.T) {
	inner := registry(t)
	p := providers.ReadOnly(inner)
	scope := schema.ScopeOf(schema.KindUser)
	before, err := p.Read(t.Context(), scope)
	if err != nil {
		t.Fatal(err)
	}
	err = p.Write(t.Context(), []plan.Change{{Action: plan.Delete, Key: user().Key}}, func(k schema.Key, _ error) {
		t.Errorf("%s was reported", k)
	})
	if !errors.Is(err, providers.ErrReadOnly) {
		t.Errorf("error %v, want ErrReadOnly", err)
	}
	after, err := inner.Read(t.Context(), scope)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the registry changed (-before +after):\n%s", diff)
	}
}

func TestDecoratorsPassOnWhatOnlyReads(t *testing.T) {
	inner := registry(t)
	quiet := slog.New(slog.DiscardHandler)
	for name, p := range map[string]providers.Provider{
		"ReadOnly": providers.ReadOnly(inner),
		"Trace":    providers.Trace(inner, quiet),
	} {
		if diff := cmp.Diff(inner.Capabilities(), p.Capabilities()); diff != "" {
			t.Errorf("%s: capabilities:\n%s", name, diff)
		}
		if p.Batch() != inner.Batch() {
			t.Errorf("%s: batch %v", name, p.Batch())
		}
		want, _ := inner.Read(t.Context(), schema.ScopeOf(schema.KindUser))
		have, err := p.Read(t.Context(), schema.ScopeOf(schema.KindUser))
		if diff := cmp.Diff(want, have); err != nil || diff != "" {
			t.Errorf("%s: read: %v\n%s", name, err, diff)
		}
		norm, _, err := p.Normalize(want)
		if diff := cmp.Diff(want, norm); err != nil || diff != "" {
			t.Errorf("%s: normalize: %v\n%s", name, err, diff)
		}
		if v, err := p.Prepare(t.Context(), make([]plan.Change, 2)); err != nil || len(v) != 2 {
			t.Errorf("%s: prepare: %v, %v", name, v, err)
		}
		equal, err := p.(providers.Checker).Check(t.Context(), user().Key, "password", schema.SecretRef{Env: "X"})
		if err != nil || !equal {
			t.Errorf("%s: check: %v, %v", name, equal, err)
		}
	}
	for name, p := range map[string]providers.Provider{
		"ReadOnly": providers.ReadOnly(unchecked{inner}),
		"Trace":    providers.Trace(unchecked{inner}, quiet),
	} {
		_, err := p.(providers.Checker).Check(t.Context(), user().Key, "password", schema.SecretRef{Env: "X"})
		if !errors.Is(err, providers.ErrUnsupported) {
			t.Errorf("%s of a provider that cannot compare: %v, want ErrUnsupported", name, err)
		}
	}
}

func TestTraceCountsAndTellsNoValues(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	p := providers.Trace(registry(t), log)
	u := user()
	gone := schema.Key{Kind: schema.KindGroup, Name: "name-canary"}
	reported := 0
	err := p.Write(t.Context(), []plan.Change{
		{Action: plan.Create, Key: u.Key, After: &u},
		{Action: plan.Update, Key: gone, After: &schema.Resource{Key: gone, Spec: &schema.Group{}}},
	}, func(schema.Key, error) { reported++ })
	if err != nil || reported != 2 {
		t.Fatalf("%d reports, error %v", reported, err)
	}
	if _, err := p.Read(t.Context(), schema.ScopeOf(schema.KindUser)); err != nil {
		t.Fatal(err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Read(done, schema.ScopeOf(schema.KindUser)); err == nil {
		t.Fatal("read with a done context succeeded")
	}
	text := out.String()
	for _, want := range []string{
		"call=write", "objects.group=1 objects.user=1 failed.group=1", "call=read", "objects.user=1", "took=",
		`error="context canceled"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("log lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "canary") {
		t.Errorf("log tells a name or value:\n%s", text)
	}
}
