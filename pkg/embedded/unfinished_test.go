package embedded

import (
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
		u.begin(kind(id))
		u.leave(kind(id), 10)
	}
	now = now.Add(-time.Second)
	u.begin(kind("older"))
	u.leave(kind("older"), 10)
	now = now.Add(time.Second + leftAlone)
	u.begin(kind("busy"))
	u.begin(kind("young"))
	u.leave(kind("young"), 10)
	rules := access.Compile(schema.State{}, access.Deny)
	if got := u.giveWay(rules, "team", 21); got != nil {
		t.Errorf("%v give way in vain", got)
	}
	if got := u.giveWay(rules, "team", 5); len(got) != 1 || got[0] != kind("older") {
		t.Errorf("%v give way, want the one left first", got)
	}
	if u.begin(kind("older")) {
		t.Error("one that gives way can be gone on with")
	}
	if l := u.load(rules, "team", uploadKind{}); l.parked != 30 || !l.recent {
		t.Errorf("it is not waited for: %+v", l)
	}
	u.keep(kind("older"))
	if !u.begin(kind("older")) {
		t.Error("one that could not be removed cannot be gone on with")
	}
}
