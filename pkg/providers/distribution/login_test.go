package distribution_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/distribution"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// TestWhatSomebodyAddsToOurSectionsIsDrift and an apply takes it out: another key
// whose tokens count, another way to log in, an endpoint that leaves events out.
func TestWhatSomebodyAddsToOurSectionsIsDrift(t *testing.T) {
	for by, drift := range map[string]struct{ old, path, was string }{
		"  token:\n    rootcertbundle: /evil.pem\n":                   {"  token:\n", "auth.others", "auth.token.rootcertbundle"},
		"  token:\n    autoredirect: true\n":                          {"  token:\n", "auth.others", "auth.token.autoredirect"},
		"auth:\n  none: {}\n":                                         {"auth:\n", "auth.others", "auth.none"},
		"auth:\n  silly: {realm: r, service: s}\n":                    {"auth:\n", "auth.others", "auth.silly"},
		"- name: \"ocisync\"\n      ignore: {actions: [push]}\n":      {"- name: \"ocisync\"\n", "notifications.endpoints.ocisync", ""},
		"- name: \"ocisync\"\n      ignore: {mediatypes: [a/b]}\n":    {"- name: \"ocisync\"\n", "notifications.endpoints.ocisync", ""},
		"- name: \"ocisync\"\n      disabled: true\n":                 {"- name: \"ocisync\"\n", "notifications.endpoints.ocisync", ""},
		"auth:\n  token:\n    rootcertbundle:\n    autoredirect: ~\n": {"auth:\n  token:\n", "", ""},
		"- name: \"ocisync\"\n      disabled: false\n":                {"- name: \"ocisync\"\n", "", ""},
	} {
		t.Run(by, func(t *testing.T) {
			p, f := running(t)
			st := hooks(t, "push")
			if _, err := providertest.DirectCycle(t.Context(), p, st); err != nil {
				t.Fatal(err)
			}
			well := f.took
			changed := strings.Replace(well, drift.old, by, 1)
			if changed == well {
				t.Fatalf("no %q in\n%s", drift.old, well)
			}
			if err := os.WriteFile(f.config, []byte(changed), 0o600); err != nil {
				t.Fatal(err)
			}
			want, _, err := p.Normalize(st)
			if err != nil {
				t.Fatal(err)
			}
			live, err := p.Read(t.Context(), want.Scope)
			if err != nil {
				t.Fatal(err)
			}
			var fields []plan.Field
			for _, c := range plan.Diff(plan.Input{Desired: want, Live: live, Table: p.Capabilities()}).Changes {
				fields = append(fields, c.Fields...)
			}
			if drift.path == "" {
				if len(fields) > 0 {
					t.Errorf("what says nothing is drift: %+v", fields)
				}
				return
			}
			if len(fields) != 1 || fields[0].Path != "values."+drift.path || !strings.Contains(fields[0].Old, drift.was) {
				t.Errorf("drift: %+v", fields)
			}
			if n, err := providertest.DirectCycle(t.Context(), p, st); n != 1 || err != nil || f.took != well {
				t.Errorf("%d changes, %v; it runs with\n%s", n, err, f.took)
			}
			if n, err := providertest.DirectCycle(t.Context(), p, st); n != 0 || err != nil {
				t.Errorf("again: %d changes, %v", n, err)
			}
		})
	}
}

// TestAWayToLogInThatIsNotOursIsNoDrift where the mode says nothing of logins.
func TestAWayToLogInThatIsNotOursIsNoDrift(t *testing.T) {
	name := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(name, []byte("version: 0.1\nstorage: {inmemory: {}}\nauth: {silly: {realm: r, service: s}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := distribution.New(schema.Registry{Type: schema.TypeDistribution, URL: "http://localhost:9", Files: &schema.FilePaths{Config: name}}, nil, providertest.Secrets{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if changes, _ := settings(t, p); len(changes) > 0 {
		t.Errorf("%+v", changes)
	}
}
