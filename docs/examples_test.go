package docs_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/schema"
	"github.com/ocisync/ocisync/schema/load"
)

// examplePlans makes the plans that a reader is told to make.
func (p program) examplePlans(t *testing.T) {
	for _, mode := range []string{"dev", "prod"} {
		args := []string{"plan", "--modes", "examples/modes", "--mode", mode, "--against", "testdata/live/" + mode + ".json"}
		out, errs, code := p.run(t, args...)
		if code != 0 || errs != "" {
			t.Errorf("ocisync %s: exit code %d\n%s", strings.Join(args, " "), code, errs)
		}
		golden(t, filepath.Join(root, "testdata/live", mode+".txt"), out)
		if _, _, code := p.run(t, append(args, "--detailed-exitcode")...); code != 2 {
			t.Errorf("%s: with --detailed-exitcode the code is %d, and changes are pending", mode, code)
		}
		again, _, _ := p.run(t, args...)
		if again != out {
			t.Errorf("%s: two plans of the same states differ", mode)
		}
	}
}

// content puts content into the modes: it is valid, and refused by no registry. Of what
// was copied a recorded state knows nothing, which the plan says.
func (p program) content(t *testing.T) {
	dir := withContent(t)
	if out, errs, code := p.run(t, "validate", "--modes", dir); code != 0 {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	for mode, want := range map[string][]string{
		"dev":  {"artifact/core-schemas", "mirror/alpine"},
		"prod": {"artifact/core-schemas", "mirror/postgres"},
	} {
		out, errs, code := p.run(t, "plan", "--modes", dir, "--mode", mode, "--against", "testdata/live/"+mode+".json", "--format", "json")
		if code != 0 {
			t.Errorf("%s: exit code %d\n%s", mode, code, errs)
		}
		var plan struct {
			Notes []struct {
				Key  schema.Key
				Text string
			}
			Refusals []struct{ Key schema.Key }
		}
		if err := json.Unmarshal([]byte(out), &plan); err != nil {
			t.Fatal(err)
		}
		have := map[string]bool{}
		for _, n := range plan.Notes {
			have[n.Key.String()+": "+n.Text] = true
		}
		for _, key := range want {
			if !have[key+": not read, so left alone"] || len(plan.Refusals) > 0 {
				t.Errorf("%s: of %s nothing is said; refused: %v", mode, key, plan.Refusals)
			}
		}
	}
}

// withContent copies the modes of the examples with their content beside them
// and returns the directory that holds them.
func withContent(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "modes")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "examples/modes"))); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"dev", "prod"} {
		if err := os.CopyFS(filepath.Join(dir, mode), os.DirFS(filepath.Join(root, "examples/content", mode))); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The example modes with their content mean what the first files of the format
// meant, which are kept for ever.
func TestExamplesMeanWhatTheFirstFilesMeant(t *testing.T) {
	dir := withContent(t)
	for _, mode := range []string{"dev", "prod"} {
		have, err := load.Mode(dir, mode)
		if err != nil {
			t.Fatal(err)
		}
		first := filepath.Join(t.TempDir(), "modes")
		text := read(t, filepath.Join(root, "testdata/compat/v1", mode+".toml"))
		if err := os.MkdirAll(filepath.Join(first, mode), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(first, mode, "first.toml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		want, err := load.Mode(first, mode)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(meaning(t, want, first), meaning(t, have, dir)); diff != "" {
			t.Errorf("%s: (-testdata/compat/v1 +examples)\n%s", mode, diff)
		}
	}
}

// meaning is a mode without the places where things stand.
func meaning(t *testing.T, cfg *schema.Config, dir string) string {
	t.Helper()
	c := *cfg
	for i := range c.Desired.Resources {
		c.Desired.Resources[i].Source = schema.Position{}
	}
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), filepath.Dir(dir), "…")
}

// A recorded state that a plan is made against holds no secret, and is what a
// registry could hold beside the mode: more than the file names.
func TestRecordedStatesAreStates(t *testing.T) {
	for _, mode := range []string{"dev", "prod"} {
		var s schema.State
		if err := json.Unmarshal([]byte(read(t, filepath.Join(root, "testdata/live", mode+".json"))), &s); err != nil {
			t.Fatal(err)
		}
		cfg, err := load.Mode(filepath.Join(root, "examples/modes"), mode)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(cfg.Desired.Kinds(), s.Scope.Kinds); diff != "" {
			t.Errorf("%s: kinds (-mode +state):\n%s", mode, diff)
		}
		unmanaged := 0
		for _, r := range s.Resources {
			if len(schema.Secrets(r.Spec)) > 0 {
				t.Errorf("%s: %s holds a reference to a secret; a registry gives none back", mode, r.Key)
			}
			if _, ok := cfg.Desired.Get(r.Key); !ok {
				unmanaged++
			}
		}
		if unmanaged == 0 {
			t.Errorf("%s: every object is declared", mode)
		}
	}
}
