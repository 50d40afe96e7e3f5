package main

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
)

// withKey has a mode sign its inventory, without which nothing is pruned.
func (w *harborWorld) withKey(t *testing.T) {
	t.Helper()
	w.env["OCISYNC_STATE_KEY"] = canaries(t)["OCISYNC_STATE_KEY"]
	file := filepath.Join(w.mode, "m.toml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, strings.Replace(string(text), "[state]\n", "[state]\nkey = { env = \"OCISYNC_STATE_KEY\" }\n", 1))
}

// approve applies what a plan holds.
func (w *harborWorld) approve(t *testing.T) string {
	t.Helper()
	_, said := w.ocisync(t, exitRefused, "apply")
	digest := regexp.MustCompile(`sha256:[0-9a-f]{64}`).FindString(said)
	if digest == "" {
		t.Fatalf("nothing is held: %s", said)
	}
	told, _ := w.ocisync(t, 0, "apply", "--approve", digest)
	return told
}

// TestAnArchiveThatFailsHalfWaySaysSo: nobody reads that nothing was applied where a
// namespace is shut in part, but what is done and what is left.
func TestAnArchiveThatFailsHalfWaySaysSo(t *testing.T) {
	t.Parallel()
	w := newHarborWorld(t, harbortest.Options{})
	w.withKey(t)
	file := filepath.Join(w.mode, "objects.toml")
	const prune = "[policy]\nprune = [\"namespace\"]\n\n"
	write(t, file, prune+"[namespace.a]\non_delete = \"archive\"\n\n[namespace.a.access]\nanonymous = [\"pull\"]\n")
	w.ocisync(t, 0, "apply")
	write(t, file, prune)
	w.Inject(harbortest.Fault{Method: http.MethodPost, Path: "/projects/{project_name_or_id}/immutabletagrules", Status: http.StatusInternalServerError})
	_, held := w.ocisync(t, exitRefused, "apply")
	digest := regexp.MustCompile(`sha256:[0-9a-f]{64}`).FindString(held)
	told, said := w.ocisync(t, exitPartly, "apply", "--approve", digest)
	for _, text := range []string{"partly applied: 0 done, 1 failed, 1 of them after some of it was done", "done is making it private, lowering its quota; left is making its tags immutable, "} {
		if !strings.Contains(told+said, text) {
			t.Errorf("it does not say %q:\n%s%s", text, told, said)
		}
	}
	w.Heal()
	w.approve(t)
	w.ocisync(t, 0, "plan", "--detailed-exitcode")
}

// TestATeamThatIsGoneIsArchivedAndComesBack: a namespace whose block said archive is
// locked when it leaves the file, and counts for nobody's then; its block brings it
// back, and what the block says opens it.
func TestATeamThatIsGoneIsArchivedAndComesBack(t *testing.T) {
	t.Parallel()
	w := newHarborWorld(t, harbortest.Options{})
	w.withKey(t)
	w.env["OCISYNC_PASSWORD"] = "Alice12345"
	file := filepath.Join(w.mode, "objects.toml")
	const others = "[policy]\nprune = [\"namespace\", \"webhook\", \"robot\", \"preheat_policy\"]\n\n[preheat.p2p]\nvendor = \"dragonfly\"\nurl = \"https://p2p.example.com\"\n\n[user.alice]\nemail = \"alice@example.com\"\npassword = { env = \"OCISYNC_PASSWORD\" }\n\n[namespace.b]\n\n[namespace.b.webhook.ci]\nurl = \"https://b.example.com\"\nevents = [\"push\"]\n\n"
	const team = "[namespace.a]\non_delete = \"archive\"\nquota = \"1MiB\"\n\n[namespace.a.access]\nanonymous = [\"pull\"]\n\n[namespace.a.access.users]\nalice = [\"push\"]\n\n[namespace.a.robot.ci]\naccess = { a = [\"push\", \"pull\"] }\n\n[namespace.a.retention]\nschedule = \"@daily\"\nkeep = [{ newest = 3 }]\n\n[namespace.a.webhook.ci]\nurl = \"https://a.example.com\"\nevents = [\"push\"]\n\n[namespace.a.preheat_policy.all]\ninstance = \"p2p\"\ntrigger = \"push\"\n\n"
	write(t, file, others+team)
	w.ocisync(t, 0, "apply")
	w.ocisync(t, 0, "plan", "--detailed-exitcode")
	if err := w.Push(harbortest.Image{Repository: "a/app", Tags: []string{"v1"}, Size: 100}); err != nil {
		t.Fatal(err)
	}
	write(t, file, others)
	shown, _ := w.ocisync(t, 0, "plan")
	for _, text := range []string{
		"namespace/a  (archived: it stays with its content, locked)", "a namespace is archived only with an approval", "1 repository, 1 tag", "100 B",
		"with it goes robot/a/ci", "its members lose their access to it: user/alice", "its quota becomes 1 byte", "webhook/a/ci", "preheat_policy/a/all",
	} {
		if !strings.Contains(shown, text) {
			t.Errorf("the plan does not say %q:\n%s", text, shown)
		}
	}
	if said := w.approve(t); !strings.Contains(said, "archive  namespace/a") {
		t.Errorf("it says\n%s", said)
	}
	w.ocisync(t, 0, "plan", "--detailed-exitcode")
	if text := w.api(t, http.MethodGet, "/projects/a", ""); !strings.Contains(text, `"repo_count":1`) || !strings.Contains(text, `"public":"false"`) {
		t.Errorf("the project is %s", text)
	}
	for _, what := range []string{"webhook", "preheat"} {
		if text := w.api(t, http.MethodGet, "/projects/a/"+what+"/policies", ""); strings.TrimSpace(text) != "[]" {
			t.Errorf("its %s policies are %s", what, text)
		}
	}

	write(t, file, others+team)
	shown, _ = w.ocisync(t, 0, "plan")
	for _, text := range []string{`quota/a  limit "1B" -> "1MiB"`, "users.alice", "+ robot/a/ci", "+ retention/a", "+ webhook/a/ci", "+ preheat_policy/a/all"} {
		if !strings.Contains(shown, text) {
			t.Errorf("the plan does not say %q:\n%s", text, shown)
		}
	}
	w.ocisync(t, 0, "apply")
	w.ocisync(t, 0, "plan", "--detailed-exitcode")
	write(t, file, others+strings.Replace(team, "quota = \"1MiB\"\n", "quota = \"1MiB\"\nimmutable = []\n", 1))
	w.approve(t) // tags that were immutable may be moved
	w.ocisync(t, 0, "plan", "--detailed-exitcode")
	if err := w.Push(harbortest.Image{Repository: "a/app", Tags: []string{"v1"}, Size: 10, Env: []string{"other"}}); err != nil {
		t.Error(err)
	}
}
