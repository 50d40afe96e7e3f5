package providertest

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// The names of environment variables that the suite's objects refer to.
// SecretMissing has no value.
const (
	SecretA       = "OCISYNC_TEST_A"
	SecretB       = "OCISYNC_TEST_B"
	SecretMissing = "OCISYNC_TEST_MISSING"
)

// canary is part of every secret's value, and of nothing else.
const canary = "Canary7Bird"

// Secrets resolves the suite's references. The values are long and mixed
// enough for the password rules of every registry.
type Secrets struct{}

// Resolve implements [providers.Secrets].
func (Secrets) Resolve(ctx context.Context, ref schema.SecretRef) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	switch ref.Env {
	case SecretA, SecretB:
		return canary + "-" + ref.Env, nil
	}
	return "", fmt.Errorf("%s is not set", ref)
}

// Harness is what a provider's test tells the suite. What a provider cannot do
// is not said here but in its capability table.
type Harness struct {
	// New opens a fresh and empty registry. The provider resolves references
	// with [Secrets].
	New func(t testing.TB) providers.Provider

	// Reopen returns a provider that has nothing in common with the given one
	// but the registry, to show that what was written lasts. It may stop the
	// given one.
	Reopen func(t testing.TB, p providers.Provider) providers.Provider

	// Change makes a live object as given behind the provider's back, as
	// somebody at the registry's own console would. May be nil.
	Change func(t testing.TB, p providers.Provider, r schema.Resource)

	// Cycle makes a registry as desired; nil is [DirectCycle]. One that holds
	// changes back must approve them.
	Cycle Cycle

	// Values replaces the values with which a field is tried, by "kind/field"
	// such as "group/type". Settings are tried only with those given here,
	// such as "settings/values.log.level".
	Values map[string]Values
}

// Run tests a provider. Its subtests are the suite's general checks and, below
// "fields", one per field of every kind.
func Run(t *testing.T, h Harness) {
	t.Helper()
	if h.Cycle == nil {
		h.Cycle = DirectCycle
	}
	for _, c := range checks() {
		t.Run(c.name, func(t *testing.T) { c.run(t, h) })
	}
	t.Run("fields", func(t *testing.T) {
		for _, f := range h.cases() {
			t.Run(f.name(), func(t *testing.T) { f.run(t, h) })
		}
	})
}

// subjects are the suite's objects with the harness's values.
func (h Harness) subjects() []subject {
	all := subjects()
	for i, s := range all {
		for j, f := range s.fields {
			if v, ok := h.Values[string(s.key.Kind)+"/"+f.path]; ok {
				all[i].fields[j].Values = v
			}
		}
	}
	settings := subject{key: schema.Key{Kind: schema.KindSettings}}
	for name, v := range h.Values {
		if path, ok := trimKind(name, schema.KindSettings); ok {
			settings.fields = append(settings.fields, aField{path, v})
		}
	}
	if len(settings.fields) > 0 {
		slices.SortFunc(settings.fields, func(a, b aField) int {
			return schema.Key{Name: a.path}.Compare(schema.Key{Name: b.path})
		})
		all = append(all, settings)
	}
	return all
}

func trimKind(name string, k schema.Kind) (string, bool) {
	prefix := string(k) + "/"
	if len(name) <= len(prefix) || name[:len(prefix)] != prefix {
		return "", false
	}
	return name[len(prefix):], true
}

// object builds a subject with one field at a value and all others that the
// table allows beside it at their valid ones.
func (s subject) object(table schema.Table, path, value string) (schema.Resource, error) {
	var chosen []field
	if path != "" {
		chosen = append(chosen, field{path, value})
	}
	add := func(f field) {
		for _, c := range chosen {
			if c.path == f.path || slices.Contains(s.either, [2]string{c.path, f.path}) ||
				slices.Contains(s.either, [2]string{f.path, c.path}) {
				return
			}
		}
		if table.Find(s.key.Kind, f.path).Support != schema.Unsupported {
			chosen = append(chosen, f)
		}
	}
	for _, f := range s.base {
		add(f)
	}
	for _, f := range s.fields {
		add(field{f.path, f.Valid})
	}
	sp, err := spec(s.key.Kind, chosen)
	return schema.Resource{Key: s.key, Spec: sp}, err
}

// only builds a subject that declares one field.
func (s subject) only(path, value string) (schema.Resource, error) {
	sp, err := spec(s.key.Kind, []field{{path, value}})
	return schema.Resource{Key: s.key, Spec: sp}, err
}

// desired puts objects together with what they need and the registry supports.
func desired(table schema.Table, objects ...schema.Resource) (schema.State, error) {
	s := schema.State{}
	seen := map[schema.Key]bool{}
	for _, r := range objects {
		seen[r.Key] = true
		s.Resources = append(s.Resources, r)
	}
	for _, r := range objects {
		for _, w := range prerequisites(r.Key) {
			if seen[w.key] || table.Find(w.key.Kind, "").Support == schema.Unsupported {
				continue
			}
			seen[w.key] = true
			pre, err := subject{key: w.key, base: w.fields}.object(table, "", "")
			if err != nil {
				return s, err
			}
			s.Resources = append(s.Resources, pre)
		}
	}
	if err := s.Sort(); err != nil {
		return s, err
	}
	s.Scope = schema.ScopeOf(s.Kinds()...)
	return s, nil
}

// everything is each supported subject once, complete.
func (h Harness) everything(t testing.TB, table schema.Table) schema.State {
	t.Helper()
	var objects []schema.Resource
	for _, s := range h.subjects() {
		if table.Find(s.key.Kind, "").Support == schema.Unsupported {
			continue
		}
		r, err := s.object(table, "", "")
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, r)
	}
	all, err := desired(table, objects...)
	if err != nil {
		t.Fatal(err)
	}
	return all
}
