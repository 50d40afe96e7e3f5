package zot

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/schema"
)

const recordedRules = `{"repositories":{"Team/**":{"policies":[{"users":["b","a"],"actions":"read,create"}],"anonymousPolicy":["read"]}},"groups":{"g":{"users":["x"]}},"adminPolicy":{"users":["root"],"actions":["read","create","update","delete"]}}`

// recorded is how Zot writes down the same, as it was observed.
const recorded = `{"level":"info","%s":{"ReleaseTag":"v2.1.20","Storage":{"RootDirectory":"/r","GC":true,"GCDelay":7200000000000,"Retention":{"DryRun":false,"Delay":7200000000000,"Policies":[{"Repositories":["team/**"],"DeleteReferrers":false,"DeleteUntagged":true,"KeepTags":[{"Patterns":[".*"],"PulledWithin":null,"PushedWithin":86400000000000,"MostRecentlyPushedCount":0,"MostRecentlyPulledCount":0}],"KeepUntagged":null}]},"SubPaths":null},"HTTP":{"Address":"127.0.0.1","Port":"1","AccessControl":{"repositories":{"team/**":{"Policies":[{"Users":["a","b"],"Actions":["read","create"],"Groups":null,"Conditions":null}],"DefaultPolicy":null,"AnonymousPolicy":["read"]}},"AdminPolicy":{"Users":["root"],"Actions":["read","create","update","delete"],"Groups":null},"Groups":{"g":{"Users":["x"]}},"Metrics":{"Users":null}}},"Log":{"Level":"info"}},"message":"%s"}`

func ofRecord(params, message string) string {
	return fmt.Sprintf(recorded, params, message) + "\n"
}

// What somebody else's Zot runs with is what its log says, not what stands in
// its file: a file that was renamed over it, say.
func TestTheLogSaysWhatARunningZotTookOver(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // somebody answers
	const retention = `{"policies":[{"repositories":["team/**"],"keepTags":[{"patterns":[".*"],"pushedWithin":"24h"}]}]}`
	text := func(control, retention string) string {
		return `{"storage":{"rootDirectory":"/r","gcDelay":"2h","retention":` + retention + `},"http":{"port":1,"accessControl":` + control + `}}`
	}
	started, reloaded := ofRecord("params", recordStarted), ofRecord("reloaded params", recordLoaded)
	for _, c := range []struct {
		name, config, log string
		loaded            bool
	}{
		{"as at its start", text(recordedRules, retention), started, true},
		{"as reloaded", text(recordedRules, retention), strings.ReplaceAll(started, `"root"`, `"other"`) + "{\"message\":\"else\"}\n" + reloaded, true},
		{"reloaded to something else", text(recordedRules, retention), started + strings.ReplaceAll(reloaded, `"root"`, `"other"`), false},
		{"another right", text(strings.Replace(recordedRules, `"read,create"`, `"read"`, 1), retention), started, false},
		{"another user", text(strings.Replace(recordedRules, `"b","a"`, `"b","c"`, 1), retention), started, false},
		{"another pattern", text(strings.Replace(recordedRules, `Team/**`, `team/x/**`, 1), retention), started, false},
		{"another group", text(strings.Replace(recordedRules, `"x"`, `"y"`, 1), retention), started, false},
		{"no rules", text("null", retention), started, false},
		{"other retention", text(recordedRules, strings.Replace(retention, "24h", "25h", 1)), started, false},
		{"no retention", text(recordedRules, "null"), started, false},
		{"retention that is spelled unusually", text(recordedRules, `{"policies":[{"repositories":"team/**"}]}`), started, true},
		{"a log that says nothing", text(recordedRules, retention), "{\"message\":\"else\"}\n", true},
		{"a log that was cut", text("null", retention), started[:len(started)/2], true},
		{"no administrators", text(strings.Replace(recordedRules, `,"adminPolicy":{"users":["root"],"actions":["read","create","update","delete"]}`, "", 1), retention),
			strings.Replace(started, `{"Users":["root"],"Actions":["read","create","update","delete"],"Groups":null}`, `{"Users":null,"Actions":null,"Groups":null}`, 1), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			config, log := filepath.Join(dir, "config.json"), filepath.Join(dir, "zot.log")
			for name, content := range map[string]string{config: c.config, log: c.log} {
				if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			p, err := New(schema.Registry{Type: schema.TypeZot, URL: "http://" + l.Addr().String(), Files: &schema.FilePaths{Config: config, Htpasswd: filepath.Join(dir, "htpasswd"), Log: log}}, nil, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			st, err := p.Read(t.Context(), schema.ScopeOf(schema.KindSettings))
			if err != nil || len(st.Resources) != 1 {
				t.Fatal(st, err)
			}
			spec, _ := st.Resources[0].Spec.(*schema.Settings)
			want := map[bool]string{true: loadedYes, false: loadedNo}[c.loaded]
			for _, v := range spec.Values {
				if v.Path == loadedPath && v.JSON != want {
					t.Errorf("it is %s, want %s", v.JSON, want)
				}
			}
		})
	}
}
