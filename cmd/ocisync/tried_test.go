package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
)

// TestASecretIsTriedAtHarborWhereItsRobotChanged: a plan logs in as no robot whose secret
// the mode gives, unless somebody changed the robot, or the mode has another secret.
func TestASecretIsTriedAtHarborWhereItsRobotChanged(t *testing.T) {
	t.Parallel()
	var behind time.Duration
	w := newHarborWorld(t, harbortest.Options{Now: func() time.Time { return time.Now().Add(-behind) }})
	w.withKey(t)
	w.env["OCISYNC_CI"] = "Robot12345"
	objects := filepath.Join(w.mode, "objects.toml")
	mode := func(more string) string {
		var b strings.Builder
		for i := range 5 {
			fmt.Fprintf(&b, "[namespace.p%[1]d.robot.ci]\naccess.p%[1]d = [\"pull\"]\nsecret.value = { env = \"OCISYNC_CI\" }\n", i)
		}
		return b.String() + more
	}
	write(t, objects, mode(""))
	w.ocisync(t, 0, "apply")
	robot := func(i int) string {
		project := w.find(t, "/projects", "name", fmt.Sprintf("p%d", i), "project_id")
		list := "/robots?q=Level%3Dproject%2CProjectID%3D" + project
		return "/robots/" + w.find(t, list, "name", fmt.Sprintf("robot$p%d+ci", i), "id")
	}
	plans := func(what string, tried int, want ...string) {
		t.Helper()
		w.Forget()
		have := w.planned(t, 0)
		n := 0
		for _, r := range w.Requests() {
			if r.Path == "/v2/" {
				n++
			}
		}
		if n != tried || !slices.Equal(have, want) {
			t.Errorf("%s: %d secrets are tried, and the plan is %q, want %d and %q", what, n, have, tried, want)
		}
	}
	const two = "robot/p2/ci secret.value"
	second := robot(2)
	w.api(t, http.MethodPatch, second, `{"secret":"Another12345"}`)
	plans("a secret that somebody changed at once", 1, two)
	w.ocisync(t, 0, "apply")
	plans("applied", 0)

	w.edit(t, second, `{"description":"by hand"}`)
	plans("a robot that somebody changed", 1)
	plans("again", 1)

	key := w.env["OCISYNC_STATE_KEY"]
	delete(w.env, "OCISYNC_STATE_KEY")
	plans("without the key", 5)
	w.env["OCISYNC_STATE_KEY"] = key

	w.env["OCISYNC_CI"] = "Another12345"
	all := []string{"robot/p0/ci secret.value", "robot/p1/ci secret.value", two, "robot/p3/ci secret.value", "robot/p4/ci secret.value"}
	plans("the mode has another", 5, all...)
	w.env["OCISYNC_CI"] = "Robot12345"

	// what is of no use of an inventory is made good by the next that is written
	behind = time.Minute
	w.edit(t, second, `{"description":"a minute ago"}`)
	behind = 0
	plans("a robot that somebody changed a minute ago", 1)
	w.ocisync(t, 0, "apply")
	plans("an apply with nothing to do", 1)
	write(t, objects, mode("[label.base]\ncolor = \"#2E7D32\"\n"))
	w.ocisync(t, 0, "apply")
	plans("an apply of something else", 0)
	w.api(t, http.MethodPatch, second, `{"secret":"Another12345"}`)
	plans("a secret that somebody changed later", 1, two)
}
