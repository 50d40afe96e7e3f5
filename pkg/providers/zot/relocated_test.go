package zot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/schema"
)

// TestARestartOntoAnotherPlaceForContentWaitsForAnApproval: somebody wrote it into the
// file, of which Zot takes over nothing until it starts again.
func TestARestartOntoAnotherPlaceForContentWaitsForAnApproval(t *testing.T) {
	for name, edit := range map[string]func(text, data string) string{
		"the root": func(text, data string) string {
			return strings.Replace(text, filepath.Join(data, "storage"), filepath.Join(data, "storagex"), 1)
		},
		"a sub path": func(text, data string) string {
			root := `"rootDirectory": "` + filepath.Join(data, "storage") + `"`
			return strings.Replace(text, root, root+`, "subPaths": {"/team": {"rootDirectory": "`+filepath.Join(data, "team")+`"}}`, 1)
		},
		"nothing of that": func(text, _ string) string { return strings.Replace(text, `"info"`, `"debug"`, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			said := recordLoaded
			p, a := played(t, nowhere, func(string) string { return said })
			if err := wrote(t, p, makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")})); err != nil {
				t.Fatal(err)
			}
			layout := filepath.Join(p.paths.data, "storage", "team", "one")
			if err := os.MkdirAll(filepath.Join(layout, "blobs", "sha256"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(layout, "index.json"), []byte(`{"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"v1"}}]}`), 0o600); err != nil {
				t.Fatal(err)
			}
			said = "" // it sees nothing that it can take over
			text := edit(a.text(), p.paths.data)
			if err := os.WriteFile(a.config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			prepared := func(values ...schema.Value) (held string, impact []string) {
				t.Helper()
				want, _, err := p.Normalize(schema.State{Resources: []schema.Resource{{Key: schema.Key{Kind: schema.KindSettings}, Spec: &schema.Settings{Values: values}}}})
				if err != nil {
					t.Fatal(err)
				}
				live, err := p.Read(t.Context(), schema.ScopeOf(schema.KindSettings))
				if err != nil {
					t.Fatal(err)
				}
				changes := plan.Diff(plan.Input{Desired: want, Live: live, Table: p.Capabilities()}).Changes
				v, err := p.Prepare(t.Context(), changes)
				if err != nil || len(v) != 1 || v[0].Effect != plan.Restart {
					t.Fatalf("%+v of %+v, %v", v, changes, err)
				}
				return v[0].Held, v[0].Impact
			}
			moved := name != "nothing of that"
			if held, impact := prepared(); strings.Contains(held, a.config) != moved || strings.Contains(strings.Join(impact, "\n"), "repositories: 1, tags: 1") != moved {
				t.Errorf("held: %q, %q", held, impact)
			}
			if held, _ := prepared(schema.Value{Path: "storage.rootDirectory", JSON: `"` + filepath.Join(p.paths.data, "storage") + `"`}); (held != "") != (name == "a sub path") {
				t.Errorf("where the mode has the root as it was, held: %q", held)
			}
		})
	}
}
