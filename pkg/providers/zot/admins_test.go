package zot

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// TestAdministratorsOfOursMayEverythingAgain: what somebody took from them comes back
// with a plan, unless it would raise others too.
func TestAdministratorsOfOursMayEverythingAgain(t *testing.T) {
	all := `"actions":["read","create","update","delete"]`
	for name, tt := range map[string]struct {
		less    string
		refused bool
	}{
		"fewer actions":      {less: `"actions":["read"]`},
		"conditions":         {less: all + `,"conditions":[{"expression":"false"}]`},
		"beside a stranger":  {less: `"actions":["read"],"users":["mallory","root"]`, refused: true},
		"beside their group": {less: `"actions":["read"],"groups":["ops"]`, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := played(t, nowhere, func(string) string { return recordLoaded })
			root := makes(schema.KindUser, "root", &schema.User{Admin: new(true)})
			if err := wrote(t, p, root); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(p.paths.config)
			if err != nil {
				t.Fatal(err)
			}
			policy := `"adminPolicy":{"users":["root"],` + all + `}`
			joined := strings.Join(strings.Fields(string(text)), "")
			less := strings.Replace(joined, policy, `"adminPolicy":{"users":["root"],`+tt.less+`}`, 1)
			if strings.Contains(tt.less, `"users"`) {
				less = strings.Replace(joined, policy, `"adminPolicy":{`+tt.less+`}`, 1)
			}
			if less == joined {
				t.Fatalf("no such policy in %s", joined)
			}
			if err := os.WriteFile(p.paths.config, []byte(less), 0o600); err != nil {
				t.Fatal(err)
			}
			change := plan.Change{Action: plan.Update, Key: root.Key, After: root.After, Fields: []plan.Field{{Path: "admin"}}}
			live, err := p.Read(t.Context(), schema.ScopeOf(schema.KindUser))
			if err != nil {
				t.Fatal(err)
			}
			if r, _ := live.Get(root.Key); *r.Spec.(*schema.User).Admin {
				t.Error("it still counts as administrator")
			}
			verdicts, err := p.Prepare(t.Context(), []plan.Change{change})
			if err != nil || (verdicts[0].Refused != "") != tt.refused {
				t.Fatalf("Prepare says %+v, %v", verdicts, err)
			}
			if tt.refused {
				return
			}
			if err := wrote(t, p, change); err != nil {
				t.Fatal(err)
			}
			s, err := p.load(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if names, whole := s.conf.admins(); !whole || !slices.Equal(names, []string{"root"}) {
				t.Errorf("administrators: %v, whole: %v", names, whole)
			}
		})
	}
}

// TestAReloadThatBeganTellsWhatItWaitsFor: of a Zot that somebody else runs.
func TestAReloadThatBeganTellsWhatItWaitsFor(t *testing.T) {
	for record, want := range map[string]string{recordBegun: "in the background", "": "replaced"} {
		p, a := played(t, nowhere, func(string) string { return record })
		p.paths.log = p.paths.config + ".log"
		s, err := p.load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		from, _ := p.logEnd(t.Context(), s)
		if err := os.WriteFile(p.paths.log, []byte(a.written(record)), 0o600); err != nil {
			t.Fatal(err)
		}
		err = p.awaitReload(t.Context(), s, from, p.now(), p.patience, recordLoaded)
		if !errors.Is(err, errSilent) {
			t.Fatal(err)
		}
		if err := p.unseen(s, texts{}, status{}, err); !strings.Contains(err.Error(), want) || errors.Is(err, providers.ErrPending) {
			t.Errorf("%q: %v", record, err)
		}
	}
}
