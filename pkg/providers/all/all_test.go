package all_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/all"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

var update = flag.Bool("update", false, "write docs/capabilities.md")

const page = "../../../docs/capabilities.md"

func TestEveryTableIsCompleteAndGivesReasons(t *testing.T) {
	for _, n := range all.Tables() {
		seen := map[string]bool{}
		for _, c := range n.Table {
			name := fmt.Sprintf("%s: %s %s", n.Name, c.Kind, c.Field)
			if err := providertest.CheckRow(c); err != nil {
				t.Errorf("%s: %v", n.Name, err)
			}
			if seen[name] {
				t.Errorf("%s stands twice", name)
			}
			seen[name] = true
			if c.Support != schema.Native && c.Reason == "" {
				t.Errorf("%s is %s without a reason", name, c.Support)
			}
			if whole := n.Table.Find(c.Kind, ""); c.Field != "" && c.Support == whole.Support && c.Reason == whole.Reason && c.Versions == whole.Versions {
				t.Errorf("%s says what the row of its kind says", name)
			}
		}
		for _, k := range schema.Kinds() {
			if !seen[fmt.Sprintf("%s: %s ", n.Name, k)] {
				t.Errorf("%s has no row for kind %s", n.Name, k)
			}
		}
	}
}

func TestOpenAndTableKnowTheSameRegistries(t *testing.T) {
	for _, tc := range []struct {
		typ, driver string
		table, open bool
	}{
		{schema.TypeMemory, "", true, true},
		{schema.TypeZot, "", true, true},
		{schema.TypeZot, schema.DriverDocker, true, true},
		{schema.TypeHarbor, "", true, true},
		{schema.TypeDistribution, schema.DriverProcess, true, true},
		{schema.TypeDistribution, schema.DriverEmbedded, true, true},
		{"quay", "", false, false},
	} {
		r := schema.Registry{Type: tc.typ, URL: "https://registry.example.com:5000"}
		if tc.driver != "" {
			r.Run = &schema.Run{Driver: tc.driver, Data: t.TempDir()}
		}
		table, err := all.Table(tc.typ, tc.driver)
		if (err == nil) != tc.table || (len(table) > 0) != tc.table || err != nil && !errors.Is(err, providers.ErrUnsupported) {
			t.Errorf("Table(%q, %q): %d rows, %v", tc.typ, tc.driver, len(table), err)
		}
		p, err := all.Open(r, all.Deps{})
		if (err == nil) != tc.open || (p != nil) != tc.open || err != nil && !errors.Is(err, providers.ErrUnsupported) {
			t.Errorf("Open(%q, %q): %v, %v", tc.typ, tc.driver, p, err)
		}
		if tc.open {
			own := p.Capabilities()
			if tc.typ != schema.TypeMemory {
				own = providers.WithContent(own)
			}
			if diff := cmp.Diff(table, own); diff != "" {
				t.Errorf("%s: the provider's table is another (-Table +Open):\n%s", tc.typ, diff)
			}
		}
		if err != nil && !strings.Contains(err.Error(), tc.typ) {
			t.Errorf("error %q does not name the type", err)
		}
	}
}

func TestTheCapabilitiesPageShowsTheTables(t *testing.T) {
	want := render(all.Tables())
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(have)); diff != "" {
		t.Errorf("docs/capabilities.md is out of date; run go generate ./pkg/providers/all (-want +have):\n%s", diff)
	}
}

// render writes one matrix of kinds and, per registry, what is not native, or is
// and has something to be known.
func render(tables []all.Named) string {
	var b strings.Builder
	b.WriteString(`<!-- Generated from the tables in pkg/providers by: go generate ./pkg/providers/all -->
# What each registry can do

**native**: the registry does it. **emulated**: ocisync makes it so. **unsupported**: it cannot be had; a plan says so before anything is written. *In part*: some fields differ and are listed below, and so is what is to be known of some that are native.

A table may be here before the provider that uses it: then a mode for that registry can be checked and planned against a recorded state (` + "`plan --against`" + `), and is refused elsewhere.

| kind |`)
	for _, n := range tables {
		b.WriteString(" " + n.Name + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(tables)) + "\n")
	for _, k := range schema.Kinds() {
		fmt.Fprintf(&b, "| %s |", k)
		for _, n := range tables {
			fmt.Fprintf(&b, " %s |", summary(n.Table, k))
		}
		b.WriteString("\n")
	}
	for _, n := range tables {
		fmt.Fprintf(&b, "\n## %s\n\n| kind | field | support | why | versions |\n|---|---|---|---|---|\n", n.Name)
		for _, k := range schema.Kinds() {
			for _, c := range n.Table {
				if c.Kind == k && (c.Support != schema.Native || c.Versions != "" || c.Reason != "") {
					fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", c.Kind, c.Field, c.Support, c.Reason, strings.ReplaceAll(c.Versions, "|", `\|`))
				}
			}
		}
	}
	return b.String()
}

func summary(t schema.Table, k schema.Kind) string {
	whole := t.Find(k, "").Support
	if slices.ContainsFunc(t, func(c schema.Capability) bool { return c.Kind == k && c.Support != whole }) {
		return string(whole) + ", in part"
	}
	return string(whole)
}
