package providertest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/schema"
)

func checkTable(t testing.TB, h Harness) {
	table := h.New(t).Capabilities()
	for _, k := range schema.Kinds() {
		if !slices.ContainsFunc(table, func(c schema.Capability) bool { return c.Kind == k && c.Field == "" }) {
			t.Errorf("kind %s has no row", k)
		}
		if k == schema.KindSettings && table.Find(k, "").Support != schema.Unsupported &&
			!slices.ContainsFunc(h.cases(), func(c aCase) bool { return c.subject.key.Kind == k }) {
			t.Error("settings are supported, but the harness gives none to try")
		}
	}
	seen := map[string]bool{}
	for _, c := range table {
		if c.Support != schema.Native && strings.TrimSpace(c.Reason) == "" {
			t.Errorf("row %s says %s without a reason", rowName(c), c.Support)
		}
		if name := rowName(c) + " " + c.Versions; seen[name] {
			t.Errorf("row %s stands twice", name)
		} else {
			seen[name] = true
		}
		if err := CheckRow(c); err != nil {
			t.Error(err)
		}
	}
}

// CheckRow reports whether a row speaks of a kind and field that exist and
// uses one of the three words.
func CheckRow(c schema.Capability) error {
	if !slices.Contains([]schema.Support{schema.Native, schema.Emulated, schema.Unsupported}, c.Support) {
		return fmt.Errorf("row %s: support is %q", rowName(c), c.Support)
	}
	all, err := paths(c.Kind)
	if err != nil {
		return fmt.Errorf("row %s: %w", rowName(c), err)
	}
	if c.Field == "" || c.Kind == schema.KindSettings && strings.HasPrefix(c.Field, "values.") {
		return nil
	}
	// words of a field, and no fields
	if c.Kind == schema.KindNamespace && strings.HasPrefix(c.Field, "on_delete.") || c.Kind == schema.KindWebhook && strings.HasPrefix(c.Field, "events.") {
		return nil
	}
	for path := range all {
		if path == c.Field || strings.HasPrefix(path, c.Field+".") {
			return nil
		}
	}
	return fmt.Errorf("row %s: %s has no such field", rowName(c), c.Kind)
}

func checkNormalize(t testing.TB, h Harness) {
	p := h.New(t)
	in := h.everything(t, p.Capabilities())
	text := marshal(t, in)
	one, notes, err := p.Normalize(in)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(text, marshal(t, in)); diff != "" {
		t.Errorf("Normalize changed what it was given (-before +after):\n%s", diff)
	}
	first := marshal(t, one)
	same, sameNotes, err := p.Normalize(in)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, marshal(t, same)); diff != "" || !slices.Equal(notes, sameNotes) {
		t.Errorf("Normalize of the same twice differs:\n%s", diff)
	}
	two, _, err := p.Normalize(one)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, marshal(t, two)); diff != "" {
		t.Errorf("Normalize is not idempotent (-once +twice):\n%s", diff)
	}
	if err := one.Sort(); err != nil || marshal(t, one) != first {
		t.Errorf("Normalize gives a state that is not sorted: %v", err)
	}
}
