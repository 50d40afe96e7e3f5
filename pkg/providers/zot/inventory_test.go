package zot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

func TestWhatRetentionLeavesOfTheInventory(t *testing.T) {
	for name, c := range map[string]struct {
		policies string
		keeps    bool
	}{
		"none":                        {`[]`, true},
		"of a namespace":              {`[{"repositories":["a/**"],"keepTags":[{"mostRecentlyPushedCount":3}]}]`, true},
		"of all, that keeps all":      {`[{"repositories":["**"]}]`, true},
		"of all, that keeps any tag":  {`[{"repositories":["**"],"keepTags":[{"patterns":[".*"]}]}]`, true},
		"of all":                      {`[{"repositories":["**"],"keepTags":[{"patterns":["^v"]}]}]`, false},
		"of all, the newest":          {`[{"repositories":["**"],"keepTags":[{"mostRecentlyPushedCount":3}]}]`, false},
		"of all, in one that is odd":  {`[{"repositories":["a/**","**"],"keepTags":[{"patterns":["^v"],"pulledWithin":"1h"}],"deleteReferrers":true}]`, false},
		"of what begins so":           {`[{"repositories":["oci*/**"],"keepTags":[{"patterns":["^v"]}]}]`, false},
		"of the inventory itself":     {`[{"repositories":["ocisync/state"],"keepTags":[{"patterns":["^v"]}]}]`, false},
		"behind ours":                 {`[{"repositories":["ocisync/**"]},{"repositories":["**"],"keepTags":[{"patterns":["^v"]}]}]`, true},
		"before ours":                 {`[{"repositories":["**"],"keepTags":[{"patterns":["^v"]}]},{"repositories":["ocisync/**"]}]`, false},
		"behind one that may not be":  {`[{"repositories":["oci*/x"]},{"repositories":["**"],"keepTags":[{"patterns":["^v"]}]}]`, false},
		"of a text":                   {`[{"repositories":"**"}]`, false},
		"of all, with a broken first": {`[{"repositories":["**"],"keepTags":[{"patterns":["^v"]},{"patterns":[".*"]}]}]`, false},
	} {
		_, conf, err := read("config.json", []byte(`{"storage":{"rootDirectory":"/r","retention":{"policies":`+c.policies+`}}}`))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := conf.keepsOwn(); got != c.keeps {
			t.Errorf("%s: %v", name, got)
		}
	}
	_, conf, err := read("config.json", []byte(`{"storage":{"rootDirectory":"/r","retention":{"policies":[{"repositories":["**"],"keepTags":[{"patterns":["^v"]}]}]},"subPaths":{"/ocisync":{"rootDirectory":"/o"}}}}`))
	if err != nil || !conf.keepsOwn() {
		t.Errorf("of a store of its own: %v", err)
	}
}

// TestRetentionLeavesTheInventoryAlone: a plan shows where it would not, and an apply puts
// a policy before the one that somebody wrote, also beside rules of the mode.
func TestRetentionLeavesTheInventoryAlone(t *testing.T) {
	const theirs = `{ "repositories": ["**"], "keepTags": [ {"patterns": ["^v[0-9]"]} ] }`
	for name, changes := range map[string][]plan.Change{
		"shown": nil,
		"beside rules": {
			makes(schema.KindNamespace, "a", &schema.Namespace{}),
			makes(schema.KindRetention, "a", &schema.Retention{Keep: []schema.KeepRule{{Newest: 3}}}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, keeps := range []bool{true, false} {
				file := filepath.Join(t.TempDir(), "config.json")
				if err := os.WriteFile(file, []byte(`{"storage":{"rootDirectory":"/nonexistent","retention":{"policies":[`+theirs+`]}},"http":{"address":"127.0.0.1","port":"9"}}`), 0o600); err != nil {
					t.Fatal(err)
				}
				var options []Option
				if keeps {
					options = append(options, KeepsInventory())
				}
				p, err := New(schema.Registry{Type: schema.TypeZot, URL: nowhere, Files: &schema.FilePaths{Config: file}}, nil, providertest.Secrets{}, nil, options...)
				if err != nil {
					t.Fatal(err)
				}
				if changes == nil {
					n, err := providertest.DirectCycle(t.Context(), p, schema.State{})
					if shown := n > 0; err != nil || shown != keeps {
						t.Errorf("%d changes, %v", n, err)
					}
				} else if err := wrote(t, p, changes...); err != nil {
					t.Fatal(err)
				}
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				ours, others := strings.Index(string(b), `"ocisync/**"`), strings.Index(string(b), `"^v[0-9]"`)
				if keeps != (ours > 0) || ours > others || others < 0 {
					t.Errorf("keeps %v:\n%s", keeps, b)
				}
				if n, err := providertest.DirectCycle(t.Context(), p, schema.State{}); n != 0 || err != nil {
					t.Errorf("the same again makes %d changes, %v", n, err)
				}
			}
		})
	}
}

// TestOfAFileThatIsNotThereNothingIsSaid: neither of a new registry, nor of one that lost it.
func TestOfAFileThatIsNotThereNothingIsSaid(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	p.keeps = true
	if err := os.Remove(a.config); err != nil {
		t.Fatal(err)
	}
	list := settled(t, p)
	if len(list) != 1 || list[0].Action != plan.Create {
		t.Fatalf("a plan shows %+v", list)
	}
	v, err := p.Prepare(t.Context(), list)
	if err != nil || strings.Contains(strings.Join(v[0].Notes, "\n"), "by hand") || strings.Contains(strings.Join(v[0].Notes, "\n"), "cut short") {
		t.Errorf("%+v, %v", v, err)
	}
}
