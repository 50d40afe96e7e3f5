package embedded

import (
	"slices"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/schema"
)

func TestNoUploadThatIsSentToGivesWay(t *testing.T) {
	u := newUnfinished()
	now := time.Unix(1e9, 0)
	u.now = func() time.Time { return now }
	kind := func(id string) uploadKind { return uploadKind{"team/app", id} }
	for _, id := range []string{"old", "older", "busy", "young"} {
		u.begin(kind(id), sender{})
		u.leave(kind(id), 10)
	}
	now = now.Add(-time.Second)
	u.begin(kind("older"), sender{})
	u.leave(kind("older"), 10)
	now = now.Add(time.Second + leftAlone)
	u.begin(kind("busy"), sender{})
	u.begin(kind("young"), sender{})
	u.leave(kind("young"), 10)
	rules := access.Compile(schema.State{}, access.Deny)
	goesOn := func(sender, time.Time) bool { return false }
	if got := u.giveWay(rules, "team", 21, goesOn); got != nil {
		t.Errorf("%v give way in vain", got)
	}
	if got := u.giveWay(rules, "team", 5, goesOn); len(got) != 1 || got[0] != kind("older") {
		t.Errorf("%v give way, want the one left first", got)
	}
	if u.begin(kind("older"), sender{}) {
		t.Error("one that gives way can be gone on with")
	}
	if l := u.load(rules, "team", uploadKind{}); l.parked != 30 || !l.recent {
		t.Errorf("it is not waited for: %+v", l)
	}
	u.keep(kind("older"))
	now = now.Add(settling)
	refused := func(sender, time.Time) bool { return true }
	if got := u.giveWay(rules, "team", 30, refused); len(got) != 3 || slices.Contains(got, kind("busy")) {
		t.Errorf("%v give way, want all that their refused sender left", got)
	}
	u.keep(kind("older"))
	if !u.begin(kind("older"), sender{}) {
		t.Error("one that could not be removed cannot be gone on with")
	}
}
