package state

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/schema"
)

// Whoever could write there could let an old inventory pass for the newest, or
// take lines out of the journal. A sticky directory above is no harm.
func TestAStateThatEverybodyMayWriteIsRefused(t *testing.T) {
	for _, bad := range []string{".", "journal", "seen"} {
		above := t.TempDir()
		if err := os.Chmod(above, 0o777|os.ModeSticky); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(above, "ocisync")
		for _, d := range []string{".", "journal", "seen"} {
			if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		lookup := func(string) (string, bool) { return above, true }
		if _, err := NewMachine(schema.Host{}, lookup); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, bad)
		if err := os.Chmod(path, 0o703); err != nil {
			t.Fatal(err)
		}
		for name, host := range map[string]schema.Host{"by the environment": {}, "by the host file": {State: dir}} {
			if _, err := NewMachine(host, lookup); err == nil || !strings.Contains(err.Error(), "run chmod o-w "+path) {
				t.Errorf("%s, %s: %v", bad, name, err)
			}
		}
	}
}

// Whoever changes a mode's files can bring an inventory, and the key and place
// that it is to be believed by.
func TestAnInventoryFromElsewhereOwnsNothing(t *testing.T) {
	m, inv := machine(t), sample(t)
	id := inv.Identity()
	ours, theirs := newKey(t), newKey(t)
	known := Source{Verify: ours.Public(), Store: "directory state", Data: "/srv/registry"}
	strange := func(now Source) string {
		t.Helper()
		why, err := m.Strange(id, now)
		if err != nil {
			t.Fatal(err)
		}
		return why
	}
	if why := strange(Source{Verify: theirs.Public(), Store: "directory evil"}); why != "" {
		t.Errorf("a fresh machine cannot know: %s", why)
	}
	if err := m.Remember(id, 5, known); err != nil {
		t.Fatal(err)
	}
	if err := m.Remember(id, 6, Source{}); err != nil { // one without a signature
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		now  Source
		want string
	}{
		"the same":           {known, ""},
		"another key":        {Source{Verify: theirs.Public(), Store: known.Store}, "another key"},
		"another place":      {Source{Verify: known.Verify, Store: "directory evil"}, "another place"},
		"both":               {Source{Verify: theirs.Public(), Store: "directory evil"}, "another key"},
		"no key, no pruning": {Source{Store: "directory evil"}, ""},
	} {
		if why := strange(tt.now); (why == "") != (tt.want == "") || !strings.Contains(why, tt.want) {
			t.Errorf("%s: %q; want %q", name, why, tt.want)
		}
	}
	elsewhere := id
	elsewhere.Registry.URL = "https://the-same-registry.example.com"
	if why, err := m.Strange(elsewhere, Source{Verify: theirs.Public(), Store: "directory evil"}); err != nil || !strings.Contains(why, "by another URL") {
		t.Errorf("the registry by another URL: %q, %v", why, err)
	}
	if why, err := m.Strange(elsewhere, known); err != nil || why != "" {
		t.Errorf("another registry, the same key: %q, %v", why, err)
	}
	elsewhere.Mode += "-other"
	if why, err := m.Strange(elsewhere, Source{Verify: theirs.Public(), Store: "directory evil"}); err != nil || why != "" {
		t.Errorf("another mode: %q, %v", why, err)
	}
	sameURL, sameData := id, elsewhere
	sameURL.Mode = elsewhere.Mode
	for name, tt := range map[string]struct {
		id  Identity
		now Source
	}{
		"the registry by another mode":               {sameURL, Source{Verify: theirs.Public()}},
		"its data directory by another mode and URL": {sameData, Source{Verify: theirs.Public(), Data: known.Data}},
	} {
		if why, err := m.Strange(tt.id, tt.now); err != nil || !strings.Contains(why, "another key") {
			t.Errorf("%s: %q, %v", name, why, err)
		}
		tt.now.Verify = known.Verify
		if why, err := m.Strange(tt.id, tt.now); err != nil || why != "" {
			t.Errorf("%s, the same key: %q, %v", name, why, err)
		}
	}
	have, trust := Distrust(id, strange(Source{Verify: theirs.Public(), Store: known.Store}))
	if trust.Usable() || trust.MayDelete() || len(have.Objects) > 0 || !strings.Contains(trust.String(), "--new-inventory") {
		t.Errorf("%d objects, %s", len(have.Objects), trust)
	}
	if err := m.Forget(id); err != nil {
		t.Fatal(err)
	}
	if why := strange(Source{Verify: theirs.Public(), Store: "directory evil"}); why != "" {
		t.Errorf("forgotten, and %s", why)
	}
	if n, err := m.Seen(id); n != 6 || err != nil {
		t.Errorf("seen = %d, %v", n, err)
	}
}

// Promise 4: what vouches for an inventory at first sight is the operator, or
// somebody who approved a delete by it.
func TestAnInventoryAtFirstSightIsDoubtedUntilSomebodyVouches(t *testing.T) {
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	host := schema.Host{State: t.TempDir()}
	m, err := NewMachine(host, nil)
	if err != nil {
		t.Fatal(err)
	}
	id := Identity{Mode: "prod", Registry: plan.Registry{Type: "zot", URL: "https://registry.example.com"}}
	from := Source{Verify: key.Public(), Store: "the registry"}
	first := func(m Machine, want bool, when string) {
		t.Helper()
		if got, err := m.FirstSight(id, from); got != want || err != nil {
			t.Errorf("%s: first sight %t, %v", when, got, err)
		}
	}
	first(m, true, "never seen")
	seen := from
	seen.First = true
	if err := m.Remember(id, 7, seen); err != nil {
		t.Fatal(err)
	}
	first(m, true, "seen by an apply that held all")
	host.Verify = []string{key.Public()}
	operator, err := NewMachine(host, nil)
	if err != nil {
		t.Fatal(err)
	}
	first(operator, false, "the host file has its key")
	again := id
	again.Mode = "forged"
	if why, err := m.Strange(again, from); why != "" || err != nil {
		t.Errorf("strange: %q, %v", why, err)
	}
	if err := m.Approve(id); err != nil {
		t.Fatal(err)
	}
	first(m, false, "a delete was approved")
	if n, err := m.Seen(id); n != 7 || err != nil {
		t.Errorf("seen %d, %v", n, err)
	}
}
