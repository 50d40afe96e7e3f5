package zot

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocisync/ocisync/schema"
)

const recordedRules = `{"repositories":{"Team/**":{"policies":[{"users":["b","a"],"actions":"read,create"}],"anonymousPolicy":["read"]}},"groups":{"g":{"users":["x"]}},"adminPolicy":{"users":["root"],"actions":["read","create","update","delete"]}}`

// recorded is how Zot writes down the same, as it was observed.
const recorded = `{"level":"info","%s":{"ReleaseTag":"v2.1.20","Storage":{"RootDirectory":"/r","GC":true,"GCDelay":7200000000000,"Retention":{"DryRun":false,"Delay":7200000000000,"Policies":[{"Repositories":["team/**"],"DeleteReferrers":false,"DeleteUntagged":true,"KeepTags":[{"Patterns":[".*"],"PulledWithin":null,"PushedWithin":86400000000000,"MostRecentlyPushedCount":0,"MostRecentlyPulledCount":0}],"KeepUntagged":null}]},"SubPaths":null},"HTTP":{"Address":"127.0.0.1","Port":"1","AccessControl":{"repositories":{"team/**":{"Policies":[{"Users":["a","b"],"Actions":["read","create"],"Groups":null,"Conditions":null}],"DefaultPolicy":null,"AnonymousPolicy":["read"]}},"AdminPolicy":{"Users":["root"],"Actions":["read","create","update","delete"],"Groups":null},"Groups":{"g":{"Users":["x"]}},"Metrics":{"Users":null}}},"Log":{"Level":"info"}},"message":"%s"}`

func ofRecord(params, message string) string {
	return fmt.Sprintf(recorded, params, message) + "\n"
}

// forged is how Zot writes down a request of a client that gives such a name.
func forged(agent string) string {
	return fmt.Sprintf(`{"level":"info","headers":{"User-Agent":[%q]},"time":"2099-01-01T00:00:00Z","message":"HTTP API"}`, agent) + "\n"
}

// somebodyElses is a Zot that runs, with files that hold these texts. The log
// comes with those that were rotated, by name.
func somebodyElses(t *testing.T, config string, logs map[string]string) (*Provider, string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, text := range logs {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if i := strings.LastIndexByte(name, '.'); i > 0 {
			if n, err := strconv.Atoi(name[i+1:]); err == nil {
				at := time.Now().Add(-time.Duration(n) * time.Hour)
				if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	p, err := New(schema.Registry{Type: schema.TypeZot, URL: "http://" + l.Addr().String(), Files: &schema.FilePaths{Config: filepath.Join(dir, "config.json"), Htpasswd: filepath.Join(dir, "htpasswd"), Log: filepath.Join(dir, "zot.log")}}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p, dir
}

func isLoaded(t *testing.T, p *Provider) string {
	t.Helper()
	st, err := p.Read(t.Context(), schema.ScopeOf(schema.KindSettings))
	if err != nil || len(st.Resources) != 1 {
		t.Fatal(st, err)
	}
	spec, _ := st.Resources[0].Spec.(*schema.Settings)
	for _, v := range spec.Values {
		if v.Path == loadedPath {
			return v.JSON
		}
	}
	return ""
}

// A log that was rotated, by copy or by renaming, still says it.
func TestARotatedLogStillTells(t *testing.T) {
	const text = `{"storage":{"rootDirectory":"/r"},"http":{"port":1,"accessControl":` + recordedRules + `}}`
	other := func(s string) string { return strings.ReplaceAll(s, `"root"`, `"other"`) }
	const more = "{\"message\":\"HTTP API\"}\n"
	started := strings.Replace(ofRecord("params", recordStarted), `[{"Repositories"`, `null,"x":[{"Repositories"`, 1)
	for name, c := range map[string]struct {
		logs map[string]string
		want string
	}{
		"the file itself is first":    {map[string]string{"zot.log": other(started), "zot.log.1": started}, loadedNo},
		"the latest before":           {map[string]string{"zot.log": more, "zot.log.1": other(started), "zot.log.2": started}, loadedNo},
		"one further back":            {map[string]string{"zot.log": more, "zot.log.1": more, "zot.log.2": other(started)}, loadedNo},
		"renamed, with none anew":     {map[string]string{"zot.log-20261126": other(started)}, loadedNo},
		"the same as the file":        {map[string]string{"zot.log": more, "zot.log.1": started, "zot.log.2": other(started)}, loadedYes},
		"compressed is not read":      {map[string]string{"zot.log": more, "zot.log.1.gz": other(started)}, loadedYes},
		"another program's":           {map[string]string{"zot.log": more, "zot.logistics": other(started)}, loadedYes},
		"a log that was never there":  {nil, loadedYes},
		"a record that was cut short": {map[string]string{"zot.log": more, "zot.log.1": other(started)[:300]}, loadedYes},
	} {
		p, _ := somebodyElses(t, text, c.logs)
		if got := isLoaded(t, p); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestAPipeIsNoLog: reading one would wait for ever, or take from whoever it is
// for.
func TestAPipeIsNoLog(t *testing.T) {
	p, dir := somebodyElses(t, `{"storage":{"rootDirectory":"/r"},"http":{"port":1}}`, nil)
	if err := syscall.Mkfifo(filepath.Join(dir, "zot.log"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := isLoaded(t, p); got != loadedYes {
		t.Error(got)
	}
	if _, notes, err := p.Normalize(schema.State{}); err != nil || len(notes) != 1 || !strings.Contains(notes[0].Text, "zot.log: it is not a regular file") {
		t.Errorf("a plan says %+v, %v", notes, err)
	}
	s, err := p.load()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := p.logEnd(t.Context(), s); ok {
		t.Error("it counts as a log")
	}
}

// TestClientsForgeNoRecords: what they call themselves stands in the log too.
func TestClientsForgeNoRecords(t *testing.T) {
	for _, message := range []string{recordLoaded, recordFailed, recordFailed + ", retry writing it."} {
		if done, failed := scan(strings.NewReader(forged(message)), time.Time{}); done || failed {
			t.Errorf("%q: done %v, failed %v", message, done, failed)
		}
	}
	if done, _ := scan(strings.NewReader(ofRecord("reloaded params", recordLoaded)+forged(recordFailed)), time.Time{}); !done {
		t.Error("a forged failure hides what is true")
	}
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
		{"a client that calls itself so", text("null", retention), started + forged(recordStarted) + forged(recordLoaded), false},
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

// What a version says that is wrong is one line of several.
func TestOfWhatZotComplainsTheErrorIsSaid(t *testing.T) {
	for _, out := range []string{
		`{"level":"error","error":"invalid server config: x","message":"failed to validate"}` + "\n" + "usage\n",
		`{"level":"error","message":"invalid config file","config":"/x"}` + "\nError: invalid server config: x\nUsage:\n  zot verify\n",
		"invalid   server config: x\n",
	} {
		if got := complaint([]byte(out)); got != "invalid server config: x" {
			t.Errorf("%q", got)
		}
	}
}
