package quota

import (
	"slices"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/schema"
)

func TestNoUploadThatIsSentToGivesWay(t *testing.T) {
	u := newUploads()
	now := time.Unix(1e9, 0)
	u.now = func() time.Time { return now }
	kind := func(id string) Upload { return Upload{"team/app", id} }
	for _, id := range []string{"old", "older", "busy", "young"} {
		u.Begin(kind(id), Sender{})
		u.Leave(kind(id), 10)
	}
	now = now.Add(-time.Second)
	u.Begin(kind("older"), Sender{})
	u.Leave(kind("older"), 10)
	now = now.Add(time.Second + leftAlone)
	u.Begin(kind("busy"), Sender{})
	u.Begin(kind("young"), Sender{})
	u.Leave(kind("young"), 10)
	view := View{"\n", access.Compile(schema.State{}, access.Deny)}
	goesOn := func(Sender, time.Time) bool { return false }
	if got := u.giveWay(view, "team", 21, goesOn); got != nil {
		t.Errorf("%v give way in vain", got)
	}
	if got := u.giveWay(view, "team", 5, goesOn); len(got) != 1 || got[0] != kind("older") {
		t.Errorf("%v give way, want the one left first", got)
	}
	if u.Begin(kind("older"), Sender{}) {
		t.Error("one that gives way can be gone on with")
	}
	if l := u.load(view, "team", Upload{}); l.parked != 30 || !l.recent {
		t.Errorf("it is not waited for: %+v", l)
	}
	u.Keep(kind("older"))
	now = now.Add(settling)
	refused := func(Sender, time.Time) bool { return true }
	if got := u.giveWay(view, "team", 30, refused); len(got) != 3 || slices.Contains(got, kind("busy")) {
		t.Errorf("%v give way, want all that their refused Sender left", got)
	}
	u.Keep(kind("older"))
	if !u.Begin(kind("older"), Sender{}) {
		t.Error("one that could not be removed cannot be gone on with")
	}
}
