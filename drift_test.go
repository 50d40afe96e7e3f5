package ocisync_test

import (
	"strings"
	"testing"

	registry "github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/schema"
)

// A password that was changed where the file finds it did not drift; one that
// somebody changed in the registry did.
func TestAPasswordDriftsOnlyInTheRegistry(t *testing.T) {
	t.Parallel()
	reason := func(s *site) plan.Reason {
		t.Helper()
		p, _ := s.plan()
		if len(p.Changes) != 1 || p.Changes[0].Key.String() != "user/dev" {
			t.Fatalf("changes: %+v", p.Changes)
		}
		return p.Changes[0].Reason
	}
	hash, err := registry.HashPassword("what somebody else chose", registry.HashCost)
	if err != nil {
		t.Fatal(err)
	}
	behind := registry.Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindUser, Name: "dev"}, Spec: &schema.User{}}, PasswordHash: hash}
	t.Run("in the environment", func(t *testing.T) {
		s := newSite(t, "http://"+porttest.Address(t), signedState+people+team)
		s.must(0, "apply")
		s.env = append(s.env, "OCISYNC_DEV_PASSWORD=dev's next password")
		if got := reason(s); got != plan.Declared {
			t.Errorf("reason %s", got)
		}
	})
	t.Run("in the registry", func(t *testing.T) {
		s := newSite(t, "http://"+porttest.Address(t), signedState+people+team)
		s.must(0, "apply")
		s.behind(behind)
		if got := reason(s); got != plan.Drifted {
			t.Errorf("reason %s", got)
		}
	})
	t.Run("where nothing is known", func(t *testing.T) {
		s := newSite(t, "http://"+porttest.Address(t), people+team)
		s.must(0, "apply")
		s.behind(behind)
		if got := reason(s); got != plan.Declared {
			t.Errorf("reason %s", got)
		}
	})
}

// Without a key nothing is pruned, and the first plan and apply say so too.
func TestTheFirstPlanSaysThatWithoutAKeyNothingIsPruned(t *testing.T) {
	t.Parallel()
	s := newSite(t, "http://"+porttest.Address(t), people+team)
	for _, verb := range []string{"plan", "apply", "plan"} {
		if out := s.must(0, verb); !strings.Contains(out, "not signed, so nothing is ever pruned by it; make a key with `ocisync key` and set state.key and state.verify") {
			t.Errorf("%s says\n%s", verb, out)
		}
	}
	s = newSite(t, "http://"+porttest.Address(t), signedState+people+team)
	if out := s.must(0, "plan"); strings.Contains(out, "signed") {
		t.Errorf("with a key:\n%s", out)
	}
}
