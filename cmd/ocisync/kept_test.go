package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
)

// TestWhatWasAppliedStaysOcisyncsWhereItsInventoryWasNotStored: a registry that goes
// away at the end of an apply makes nobody approve what ocisync itself wrote, nor
// leaves behind what it made.
func TestWhatWasAppliedStaysOcisyncsWhereItsInventoryWasNotStored(t *testing.T) {
	t.Parallel()
	w := newHarborWorld(t, harbortest.Options{})
	w.withKey(t)
	m := filepath.Join(w.mode, "m.toml")
	text, err := os.ReadFile(m)
	if err != nil {
		t.Fatal(err)
	}
	write(t, m, strings.Replace(string(text), "store = \"dir\"\ndir   = \"../../state\"\n", "store = \"registry\"\n", 1))
	file := filepath.Join(w.mode, "objects.toml")
	const policy, hook = "[policy]\nprune = [\"webhook\"]\n\n[namespace.a]\n\n", "[namespace.a.webhook.ci]\nurl = \"https://ci.example.com\"\nevents = [\"push\"]\n\n"
	keeps := func(n string) string { return "[namespace.a.retention]\nkeep = [{ newest = " + n + " }]\n" }
	write(t, file, policy)
	w.ocisync(t, 0, "apply")

	unstored := func() {
		t.Helper()
		w.Inject(harbortest.Fault{Method: http.MethodPut, Path: "/v2/", Status: http.StatusInternalServerError})
		if _, said := w.ocisync(t, exitPartly, "apply"); !strings.Contains(said, "it is kept on this host, and the next apply here stores it") {
			t.Errorf("it says %s", said)
		}
	}
	write(t, file, policy+hook+keeps("5"))
	unstored()
	if shown, _ := w.ocisync(t, 0, "plan"); !strings.Contains(shown, "no changes") || !strings.Contains(shown, "could not store its inventory") {
		t.Errorf("the plan is\n%s", shown)
	}
	write(t, file, policy+hook+keeps("3"))
	unstored() // and again
	w.Heal()
	write(t, file, policy+keeps("2"))
	shown, _ := w.ocisync(t, 0, "plan")
	if strings.Contains(shown, "retention/a is") || !strings.Contains(shown, "~ retention/a") || !strings.Contains(shown, "- webhook/a/ci") {
		t.Errorf("the plan is\n%s", shown)
	}
	w.approve(t) // the webhook is the first of its kind to be pruned
	if shown, _ = w.ocisync(t, 0, "plan", "--detailed-exitcode"); strings.Contains(shown, "could not store") {
		t.Errorf("the plan is\n%s", shown)
	}
	w.env["XDG_STATE_HOME"] = filepath.Join(w.dir, "other") // the store has it
	write(t, file, policy+keeps("1"))
	w.ocisync(t, 0, "apply")
}

// TestAKeptInventoryGoesNowhereElse: whoever names another place for the inventory has
// none written there.
func TestAKeptInventoryGoesNowhereElse(t *testing.T) {
	t.Parallel()
	w := newHarborWorld(t, harbortest.Options{})
	w.withKey(t)
	file := filepath.Join(w.mode, "objects.toml")
	write(t, file, "[label.base]\n")
	w.ocisync(t, 0, "apply")
	stored := filepath.Join(w.dir, "state", "m.json")
	before, err := os.ReadFile(stored)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, "[label.base]\n[label.other]\n")
	w.ocisync(t, 0, "apply")
	after, err := os.ReadFile(stored)
	if err != nil {
		t.Fatal(err)
	}
	// as if the second had not been stored
	elsewhere := filepath.Join(w.dir, "modes", "elsewhere")
	write(t, filepath.Join(elsewhere, "m.json"), string(before))
	machine := filepath.Join(w.dir, "machine", "ocisync")
	seen, err := os.ReadDir(filepath.Join(machine, "seen"))
	if err != nil || len(seen) != 1 {
		t.Fatal(seen, err)
	}
	kept, err := json.Marshal(map[string][]byte{"data": after, "over": before})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(machine, "kept", seen[0].Name()), string(kept))
	m := filepath.Join(w.mode, "m.toml")
	text, err := os.ReadFile(m)
	if err != nil {
		t.Fatal(err)
	}
	write(t, m, strings.Replace(string(text), "../../state", "../elsewhere", 1))
	if shown, _ := w.ocisync(t, 0, "apply"); !strings.Contains(shown, "knows it in another place") || strings.Contains(shown, "kept on this host") {
		t.Errorf("it says\n%s", shown)
	}
	if now, err := os.ReadFile(filepath.Join(elsewhere, "m.json")); err != nil || string(now) != string(before) {
		t.Errorf("it was written there, %v", err)
	}
}
