package ocisync_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/schema"
)

const (
	oldName = "[user.root]\nadmin = true\n[user.u]\nadmin = false\n[namespace.a]\naccess.users.u = [\"pull\"]\n"
	newName = "[user.root]\nadmin = true\n[user.v]\npreviously = \"u\"\nadmin = false\n[namespace.zz]\npreviously = \"a\"\naccess.users.v = [\"pull\"]\n"
)

// moves is what the registry remembers of renames.
func (s *site) moves() string {
	b, err := os.ReadFile(filepath.Join(s.data, "ocisync", "state.json"))
	if err != nil {
		return ""
	}
	_, moves, _ := strings.Cut(string(b), `"moves"`)
	return moves
}

// Promises 3 and 9. An apply that renames is killed, while content moves and
// after that; then the file goes back, or does not, and perhaps somebody else
// takes the lock first. Every plan tells of the rename until an apply has ended
// it, all content has the name that the file says, and nothing is made anew.
func TestARenameCanBeKilledAndItsFileGoBack(t *testing.T) {
	t.Parallel()
	const repositories = 150
	s := newSite(t, "http://"+porttest.Address(t), signedState+oldName)
	s.must(0, "apply")
	below := filepath.Join(s.data, "docker", "registry", "v2", "repositories")
	for i := range repositories {
		if err := os.MkdirAll(filepath.Join(below, "a", fmt.Sprintf("r%d", i), "_manifests"), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	content := func(ns string) int {
		entries, _ := os.ReadDir(filepath.Join(below, ns))
		return len(entries)
	}
	now := map[bool]string{true: "a", false: "zz"}
	isOld, kills := true, 0
	for round := range 3 {
		from, to := newName, strings.NewReplacer(`[user.u]`, "[user.u]\npreviously = \"v\"", `[namespace.a]`, "[namespace.a]\npreviously = \"zz\"").Replace(oldName)
		if isOld {
			from, to = oldName, newName
		}
		s.mode(signedState + to)
		file := filepath.Join(s.data, "ocisync", "state.json")
		before := size(t, file)
		if !s.killWhen(func(time.Duration) bool {
			return size(t, file) != before && s.moves() != "" && (round > 0 || content(now[!isOld]) > 0)
		}) {
			isOld = !isOld
			continue
		}
		kills++
		if s.moves() == "" { // the rename was acknowledged first
			s.must(0, "apply")
			isOld = !isOld
			continue
		}
		if round%2 == 1 {
			s.behind(object(fmt.Sprintf("namespace/other%d", round), &schema.Namespace{}))
		}
		if round != 2 { // it goes back, without a word of the other name
			s.mode(signedState + strings.NewReplacer("previously = \"u\"\n", "", "previously = \"a\"\n", "", "previously = \"v\"\n", "", "previously = \"zz\"\n", "").Replace(from))
		} else {
			isOld = !isOld
		}
		if p, _ := s.plan(); len(p.Changes) < 2 || len(p.Refusals) > 0 {
			t.Errorf("round %d: the plan does not tell of the renames: %+v", round, p.Changes)
		}
		s.must(0, "apply")
		s.must(0, "plan", "--detailed-exitcode")
		live := s.live()
		for _, k := range []string{"namespace/", "access/"} {
			if _, ok := live[k+now[isOld]]; !ok || live[k+now[!isOld]] != "" {
				t.Errorf("round %d: the registry has %v", round, live)
			}
		}
		if have, left := content(now[isOld]), content(now[!isOld]); have != repositories || left != 0 {
			t.Errorf("round %d: %d of %d repositories are in %s, %d in %s", round, have, repositories, now[isOld], left, now[!isOld])
		}
		s.owns(4)
		if t.Failed() {
			t.FailNow()
		}
	}
	if kills == 0 {
		t.Error("no apply was killed in time")
	}
	t.Logf("%d kills", kills)
}
